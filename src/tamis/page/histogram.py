"""Histograms whose bins are chosen after the documents have been counted.

A number is counted by the first 20 bits of its float64: sign, exponent and 8 bits of the mantissa, so that a cell is
0.4 % of its values wide, whatever they are. Counts are integers, so any merge order gives the same. Bins are then
made of whole cells, and their counts are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Cells", "Scale", "bins_of", "counted"]

Scale = Literal["linear", "log"]

_BINS = 60
_SHIFT = np.uint64(44)
_SIGN = np.uint64(1 << 63)
_LONG_TAIL = 20.0
"""Greatest value over median from which on bins are of equal width in log(1 + x): in linear ones half of the
documents would lie in the first three of 60."""

Keys = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def _keys(values: Floats) -> Keys:
    """The cell of each number; cells are ordered as the numbers are."""
    bits = (values + 0.0).view(np.uint64)  # -0.0 becomes 0.0
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return (ordered >> _SHIFT).astype(np.int64)


def _lowest(keys: Keys) -> Floats:
    """The lowest number of each cell."""
    ordered = keys.astype(np.uint64) << _SHIFT
    bits = np.where(ordered & _SIGN, ordered ^ _SIGN, ~ordered)
    # Below zero a cell begins at its number of greatest size: all bits that were cut off are set.
    return bits.view(np.float64)


@dataclass
class Cells:
    """How many numbers there are in each cell; mergeable."""

    keys: Keys = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Cells that hold a number, in order."""
    counts: Keys = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    missing: int = 0
    """NaN, or no number."""
    low: float = np.inf
    high: float = -np.inf
    whole: bool = True
    """Whether all numbers are whole."""

    @property
    def total(self) -> int:
        """Numbers counted, missing ones not among them."""
        return int(self.counts.sum())

    def add(self, other: Cells) -> Cells:
        """Both together."""
        keys, place = np.unique(np.concatenate([self.keys, other.keys]), return_inverse=True)
        counts = np.zeros(len(keys), dtype=np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return Cells(
            keys,
            counts,
            self.missing + other.missing,
            min(self.low, other.low),
            max(self.high, other.high),
            self.whole and other.whole,
        )

    def quantile(self, share: float) -> float:
        """The number below which about this share lies, to the width of a cell; NaN where there is none."""
        if not len(self.keys):
            return float("nan")
        place = int(np.searchsorted(np.cumsum(self.counts), share * self.total))
        return float(_lowest(self.keys[min(place, len(self.keys) - 1) :][:1])[0])

    def binned(self, edges: Sequence[float]) -> tuple[int, ...]:
        """Numbers in each bin of these edges, which are those of cells (:func:`bins_of`).

        A bin holds its left edge and not its right one; the outermost bins hold what lies beyond them too.
        """
        if len(edges) < 2:
            return ()
        inner = _keys(np.asarray(edges[1:-1], dtype=np.float64))
        before = np.concatenate([[0], np.cumsum(self.counts)])
        ends = before[[0, *np.searchsorted(self.keys, inner), -1]]
        return tuple(np.diff(ends).tolist())


def counted(values: Floats) -> Cells:
    """The cells of some numbers. Infinities are numbers here: they lie in the outermost bins."""
    real = values[~np.isnan(values)]
    missing = len(values) - len(real)
    if not len(real):
        return Cells(missing=missing)
    finite = real[np.isfinite(real)]
    keys, counts = np.unique(_keys(np.clip(real, -_MOST, _MOST)), return_counts=True)
    ends = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    return Cells(keys, counts, missing, *ends, whole=bool((finite == np.floor(finite)).all()))


_MOST = float(np.finfo(np.float64).max)
_HUGE = 1e300
"""Numbers beyond lie in the outermost bins: the width of a bin must be a number as well."""


def bins_of(cells: Sequence[Cells]) -> tuple[tuple[float, ...], Scale]:
    """Edges of at most 60 bins over all these numbers, and how they are spaced; ``()`` where there is none.

    Edges are lowest numbers of cells. Whole numbers that are few have a bin each.
    """
    known = [c for c in cells if c.total]
    if not known:
        return (), "linear"
    low, high = max(min(c.low for c in known), -_HUGE), min(max(c.high for c in known), _HUGE)
    whole = all(c.whole for c in known)
    if whole and high - low < _BINS:
        return _snapped(np.arange(low, high + 2), low, high), "linear"
    middle = max(c.quantile(0.5) for c in known)
    scale: Scale = "log" if low >= 0 and high > 1 and high > _LONG_TAIL * max(middle, 1.0) else "linear"
    if scale == "log":
        edges = np.expm1(np.linspace(np.log1p(low), np.log1p(high), _BINS + 1))
    else:
        edges = np.linspace(low, high, _BINS + 1)
    if whole:
        edges = np.floor(edges)
        edges[-1] = high + 1
    return _snapped(edges, low, high), scale


def _snapped(edges: Floats, low: float, high: float) -> tuple[float, ...]:
    """The edges moved down to the lowest numbers of their cells, equal ones once; from ``low`` to above ``high``."""
    first, above = _keys(np.array([low, high])) + np.array([0, 1])
    keys = _keys(np.asarray(edges, dtype=np.float64))
    keys = np.unique([first, *keys[1:-1], max([above, *keys[-1:]])])
    return tuple(_lowest(keys).tolist())
