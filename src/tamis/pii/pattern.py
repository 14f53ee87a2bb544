"""What a pattern is: where it is worth trying, an expression, and a judge of what the expression matched."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["WORD_FLAGS", "Hit", "Judge", "Pattern", "expression", "scored"]

Hit = tuple[int, int, float]
"""First character, end and score."""
Judge = Callable[[re.Match[str]], Hit | None]
"""Says what of a match counts, and how much; ``None``: nothing of it."""

WORD_FLAGS: Final = re.ASCII | re.VERBOSE
"""Words and digits are ASCII throughout, as in the pass that finds the places."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One expression for an entity; an entity may have several.

    Tried from left to right. It goes on behind a match that the judge takes, and at the next character otherwise; so
    the answer is the same whether every character of a text is tried or only the places that the pass found.
    """

    entity: str
    trigger: int
    """The kind of place (:mod:`tamis.text.pii_scan`) at which a match may begin."""
    expression: re.Pattern[str]
    """Its time is bounded by a constant times what it matches, or fails to."""
    judge: Judge


def expression(entity: str, trigger: int, source: str, judge: Judge, *, flags: int = 0) -> Pattern:
    """A pattern by the source of its expression, in which white space does not count."""
    return Pattern(entity, trigger, re.compile(source, WORD_FLAGS | flags), judge)


def scored(score: float) -> Judge:
    """The judge that takes every match whole."""

    def judge(match: re.Match[str]) -> Hit:
        start, end = match.span()
        return start, end, score

    return judge
