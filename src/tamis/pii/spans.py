"""Spans: what a detector answers, and the one rule by which overlapping answers become disjoint ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import pyarrow as pa

__all__ = ["Detector", "Finder", "Span", "resolve"]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A place in a text that holds personal data.

    ``start`` and ``end`` are characters (indices of a Python string, so an emoji is one), ``end`` exclusive.
    """

    start: int
    end: int
    entity: str
    score: float
    """From 0 to 1: how sure the detector is. The scores of a pattern are constants, those of a model its own."""
    detector: str = ""

    def of(self, text: str) -> str:
        """The characters of ``text`` that the span covers."""
        return text[self.start : self.end]


Finder = Callable[[pa.LargeStringArray], dict[int, list[Span]]]
"""Row numbers of a batch and their spans, which may overlap. Rows without any are left out; a null has none."""


@runtime_checkable
class Detector(Protocol):
    """What finds spans: a frozen description that opens as a function over batches."""

    @property
    def name(self) -> str:
        """What a span's ``detector`` says."""
        ...

    @property
    def entities(self) -> tuple[str, ...]:
        """The names of what it looks for."""
        ...

    def open(self) -> Finder:
        """Load what cannot travel, and return the function that a worker runs on every batch."""
        ...


def resolve(spans: Iterable[Span]) -> list[Span]:
    """Disjoint spans, in the order of the text, that cover every character the given ones cover.

    1. Of spans at the same place the highest score stays (then the entity that comes first in the alphabet).
    2. A span inside another one goes: the outer one covers it, whatever the scores.
    3. Where two overlap in part, the higher score (then the longer, then the first) keeps its place, and the other
       one is cut back to what is left of it.

    Empty spans are left out.

    >>> [(s.start, s.end, s.entity) for s in resolve([Span(0, 9, "A", 0.5), Span(2, 4, "B", 1), Span(7, 12, "C", 0.9)])]
    [(0, 7, 'A'), (7, 12, 'C')]
    """
    outer: list[Span] = []
    reached = -1
    for span in sorted(spans, key=lambda s: (s.start, -s.end, -s.score, s.entity, s.detector)):
        if span.end > max(reached, span.start):
            outer.append(span)
            reached = span.end
    # Starts and ends both rise now, so those that overlap a span are its neighbours on either side.
    placed: list[Span | None] = [None] * len(outer)
    for i in sorted(range(len(outer)), key=lambda k: (-outer[k].score, outer[k].start - outer[k].end, k)):
        start, end = outer[i].start, outer[i].end
        k = i - 1
        while k >= 0 and outer[k].end > outer[i].start:
            left = placed[k]
            start = max(start, left.end) if left else start
            k -= 1
        k = i + 1
        while k < len(outer) and outer[k].start < outer[i].end:
            right = placed[k]
            end = min(end, right.start) if right else end
            k += 1
        moved = (start, end) != (outer[i].start, outer[i].end)
        placed[i] = replace(outer[i], start=start, end=end) if moved else outer[i]
    return [span for span in placed if span is not None and span.start < span.end]
