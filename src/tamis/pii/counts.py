"""How much personal data there is, with examples that do not show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from tamis.hashing import hash64
from tamis.pii.entities import ENTITIES
from tamis.stage import Fold, Needs

__all__ = ["PiiCount", "PiiCounts", "hidden"]

State = dict[str, tuple[int, int, frozenset[str]]]

_EXAMPLES: Final = 3
_WIDEST: Final = 36
"""Characters of an example."""
_BULLET: Final = "\u2022"


@dataclass(frozen=True)
class PiiCount:
    """What was found of one entity."""

    entity: str
    spans: int
    documents: int
    """Documents with at least one."""
    examples: tuple[str, ...]
    """A few of the values, hidden as :func:`hidden` does; the same ones in any order of documents."""


def hidden(value: str) -> str:
    """The shape of a value: its first letter or digit and its punctuation; the first not of one with fewer than four.

    >>> hidden("ann.lee@example.org"), hidden("A1")
    ('a••.•••@•••••••.•••', '••')
    """
    shown = sum(map(str.isalnum, value)) < 4
    made = []
    for c in value[: _WIDEST + 1]:
        if c.isalnum() and shown:
            c = _BULLET  # noqa: PLW2901  the character that is shown
        shown = shown or c.isalnum()
        made.append(" " if c.isspace() else c)
    return "".join(made) if len(made) <= _WIDEST else "".join(made[: _WIDEST - 1]) + "\u2026"


@dataclass(frozen=True)
class PiiCounts(Fold[State, tuple[PiiCount, ...]]):
    """Counts the spans that :class:`tamis.pii.PiiSpans` made, by entity, in the order of :data:`ENTITIES`."""

    fields: tuple[tuple[str, str], ...] = (("text", "pii"),)
    """Columns of text, and of their spans."""

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the texts, for examples, and the spans."""
        return Needs(texts=tuple(t for t, _ in self.fields), reads=tuple(s for _, s in self.fields))

    def start(self) -> State:
        """Nothing found."""
        return {}

    def add(self, state: State, table: pa.Table) -> State:
        """With the spans of these documents."""
        found: dict[str, list[Any]] = {}
        for text_field, spans_field in self.fields:
            for row, spans in enumerate(table.column(spans_field).to_pylist()):
                if not spans:
                    continue
                text = table.column(text_field)[row].as_py()
                for span in spans:
                    each = found.setdefault(span["entity"], [0, set(), set()])
                    each[0] += 1
                    each[1].add(row)
                    each[2].add(hidden(text[span["start"] : span["end"]]))
        mine = {name: (n, len(rows), _few(examples)) for name, (n, rows, examples) in found.items()}
        return self.merge(state, mine)

    def merge(self, left: State, right: State) -> State:
        """Of both."""
        for name, (n, documents, examples) in right.items():
            have = left.get(name, (0, 0, frozenset[str]()))
            left[name] = have[0] + n, have[1] + documents, _few(have[2] | examples)
        return left

    def finish(self, state: State) -> tuple[PiiCount, ...]:
        """One entry for each entity that was found."""
        order = {name: i for i, name in enumerate(ENTITIES)}
        names = sorted(state, key=lambda name: (order.get(name, len(order)), name))
        return tuple(PiiCount(name, *state[name][:2], tuple(sorted(state[name][2]))) for name in names)


def _few(examples: set[str] | frozenset[str]) -> frozenset[str]:
    """Those with the lowest hashes: which they are depends on no order."""
    if len(examples) <= _EXAMPLES:
        return frozenset(examples)
    names = sorted(examples)
    hashes = hash64(names).tolist()
    return frozenset(name for _, name in sorted(zip(hashes, names, strict=True))[:_EXAMPLES])
