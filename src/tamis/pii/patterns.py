"""The detector that finds personal data by patterns, check digits and the words near them.

One pass over the bytes of a column (:mod:`tamis.text.pii_scan`) says where something may begin; only there an
expression is tried, and only texts with such a place are decoded. What it finds is what the expressions find in every
text on their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import pyarrow as pa

from tamis.errors import UsageError
from tamis.pii.entities import PATTERN_ENTITIES, canonical
from tamis.pii.pattern import Pattern
from tamis.pii.patterns_dates import DATE_PATTERNS
from tamis.pii.patterns_numbers import NUMBER_PATTERNS
from tamis.pii.patterns_phone import check_installed, phone_patterns
from tamis.pii.patterns_places import PLACE_PATTERNS
from tamis.pii.patterns_web import WEB_PATTERNS
from tamis.pii.spans import Detector, Finder, Span, resolve
from tamis.text.arrow import utf8
from tamis.text.pii_scan import candidates

__all__ = ["MIN_SCORE", "PatternDetector", "detect", "patterns_of"]

MIN_SCORE: Final = 0.5
"""Spans with a lower score are left out."""

_PATTERNS: Final = (*WEB_PATTERNS, *NUMBER_PATTERNS, *DATE_PATTERNS, *PLACE_PATTERNS)


@dataclass(frozen=True)
class PatternDetector:
    """Finds what has a shape: addresses of the net, numbers of cards, accounts and phones, dates, keys, streets.

    Names of people and places have none; they need a model.

    Raises:
        UnknownNameError: There is no such entity.
        UsageError: Patterns do not find the entity, or a region is not two letters.
        MissingExtraError: PHONE_NUMBER is among the entities, and the package phonenumbers is not installed.

    >>> [(span.entity, span.start, span.end) for span in detect("mail ann@example.org, 4111 1111 1111 1111")]
    [('EMAIL_ADDRESS', 5, 20), ('CREDIT_CARD', 22, 41)]
    """

    entities: tuple[str, ...] = PATTERN_ENTITIES
    """Names from :data:`tamis.pii.ENTITIES`, or their aliases. Default: all that patterns find."""
    regions: tuple[str, ...] = ("US", "GB")
    """Countries (ISO 3166) whose phone numbers are known without a country code. Each costs time and precision."""
    min_score: float = MIN_SCORE
    """Spans with a lower score are left out. From 0 to 1."""

    def __post_init__(self) -> None:
        given: object = self.entities
        wanted: Iterable[str] = [given] if isinstance(given, str) else given  # type: ignore[assignment]
        names = PATTERN_ENTITIES if given is None else canonical(wanted, where=type(self).__name__)
        lacking = [name for name in names if name not in PATTERN_ENTITIES]
        if lacking:
            message = (
                f"Patterns do not find {' and '.join(lacking)}; a model does. "
                "Leave it out, or add a detector that runs a model."
            )
            raise UsageError(message)
        regions = tuple(region.upper() for region in self.regions)
        if not all(len(region) == 2 and region.isalpha() and region.isascii() for region in regions):
            message = f"regions={self.regions!r}: each is a country's two letters (ISO 3166), such as 'US' or 'GB'."
            raise UsageError(message)
        if not 0 <= self.min_score <= 1:
            message = f"min_score={self.min_score}: a score lies between 0 and 1."
            raise UsageError(message)
        if "PHONE_NUMBER" in names:
            check_installed(type(self).__name__)
        object.__setattr__(self, "entities", names)
        object.__setattr__(self, "regions", regions)

    @property
    def name(self) -> str:
        """What the spans' ``detector`` says."""
        return "patterns"

    def open(self) -> Finder:
        """The function over batches."""
        patterns = patterns_of(self.entities, self.regions)
        wanted = 0
        for pattern in patterns:
            wanted |= pattern.trigger
        return _Finder(patterns, wanted, self.min_score, self.name)


def patterns_of(entities: Sequence[str], regions: tuple[str, ...]) -> tuple[Pattern, ...]:
    """The patterns of the entities."""
    phones = phone_patterns(regions) if "PHONE_NUMBER" in entities else ()
    return tuple(pattern for pattern in (*_PATTERNS, *phones) if pattern.entity in entities)


class _Finder:
    """The pass, then the expressions at the places that it found."""

    def __init__(self, patterns: tuple[Pattern, ...], wanted: int, min_score: float, name: str) -> None:
        self._tries = [(pattern.expression.match, pattern.judge, pattern.entity) for pattern in patterns]
        self._triggers = [pattern.trigger for pattern in patterns]
        self._wanted = wanted
        self._min_score = min_score
        self._name = name
        self._by_mask: dict[int, tuple[int, ...]] = {}

    def __call__(self, texts: pa.LargeStringArray) -> dict[int, list[Span]]:
        data, offsets = utf8(texts)
        places, masks, rows = candidates(data, offsets, self._wanted)
        if not len(places):
            return {}
        found: dict[int, list[Span]] = {}
        starts = offsets.tolist()
        whole = data.data  # a view: rows are decoded without a copy
        row, text, ascii_only, base, resume = -1, "", True, 0, []
        spans: list[Span] = []
        seen_byte = seen_character = 0
        for place, mask, at in zip(places.tolist(), masks.tolist(), rows.tolist(), strict=True):
            if at != row:
                if spans:
                    found[row] = spans
                    spans = []
                row, base = at, starts[at]
                size = starts[at + 1] - base
                text = str(whole[base : base + size], "utf-8")
                ascii_only = len(text) == size
                resume = [0] * len(self._tries)
                seen_byte = base
                seen_character = 0
            if ascii_only:
                position = place - base
            else:
                if place < seen_byte:  # an e-mail address begins before what gave it away
                    position = seen_character - len(str(whole[place:seen_byte], "utf-8"))
                else:
                    position = seen_character + len(str(whole[seen_byte:place], "utf-8"))
                seen_byte, seen_character = place, position
            for number in self._by_mask.get(mask) or self._numbers(mask):
                if position < resume[number]:
                    continue
                match_at, judge, entity = self._tries[number]
                match = match_at(text, position)
                if match is None:
                    continue
                hit = judge(match)
                if hit is None:
                    continue
                resume[number] = hit[1]
                if hit[2] >= self._min_score:
                    spans.append(Span(hit[0], hit[1], entity, round(hit[2], 2), self._name))
        if spans:
            found[row] = spans
        return found

    def _numbers(self, mask: int) -> tuple[int, ...]:
        """The patterns to try at a place of these kinds."""
        numbers = tuple(number for number, trigger in enumerate(self._triggers) if trigger & mask)
        self._by_mask[mask] = numbers
        return numbers


@lru_cache(maxsize=64)
def _patterns(names: tuple[str, ...]) -> Finder:
    return PatternDetector(names).open()


def detect(text: str, entities: Iterable[str] | None = None, detectors: Sequence[Detector] = ()) -> list[Span]:
    """The personal data in one text: disjoint spans in its order, overlaps resolved by :func:`resolve`.

    Without ``detectors`` the patterns look for ``entities`` (all that they find by default). With them, these run
    instead, opened anew each time, and of what they answer only ``entities`` are kept. An empty text has no spans.
    Many texts are faster in one batch: ``PatternDetector().open()`` is a function over an Arrow array.
    """
    names = None if entities is None else canonical(entities, where="detect")
    batch = pa.array([text], pa.large_string())
    finders = [detector.open() for detector in detectors] or [_patterns(PATTERN_ENTITIES if names is None else names)]
    spans = [span for find in finders for span in find(batch).get(0, [])]
    return resolve(span for span in spans if names is None or span.entity in names)
