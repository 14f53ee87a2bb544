"""Intervals and tests by resampling documents, where what a document gets is a function of (seed, id) alone.

So neither order nor sharding changes an interval, and two runs over the same documents are resampled alike: their
differences are paired without more ado.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tamis.evaluation.measures import Floats, Judged, Weights, measure
from tamis.evaluation.tag_table import TagTable
from tamis.hashing import nth_word

__all__ = ["interval", "paired", "replicates"]

Keys = npt.NDArray[np.uint64]

_CELLS = 4_000_000
"""Documents (or pairs) times weightings that are held at once."""


def replicates(judged: Judged, keys: Keys, number: int, seed: int) -> dict[str, Floats]:
    """Every measure in ``number`` Poisson bootstrap samples: each document counts Poisson(1) times in each.

    (Chamandy, Muralidharan, Najmi and Naidu 2012, "Estimating uncertainty for massive data streams".) A sample that
    holds no document at all, as one of a single document may, gives NaN.
    """

    def poisson(start: int, stop: int) -> Weights:
        return _poisson(keys, start, stop, seed)

    def drawn(weights: Weights) -> dict[str, Floats]:
        empty = weights.sum(axis=0, dtype=np.int64) == 0
        return {name: np.where(empty, np.nan, values) for name, values in measure(judged, weights).items()}

    return _in_blocks(drawn, poisson, number, len(keys) + judged.pairs)


def interval(values: Floats, value: float, level: float) -> tuple[float, float]:
    """The bounds that hold this share of the samples once these are moved so that their mean is ``value``.

    Means over rare tags are higher or lower in samples than in the data, as tags drop out of a sample; moved, the
    samples say how widely the measure varies, around what it is. Of measures without that bias these are the
    percentiles. NaN where there is no sample.
    """
    if not len(values) or bool(np.isnan(values).all()):
        return math.nan, math.nan
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2]) + (value - np.nanmean(values))
    return float(low), float(high)


def paired(first: TagTable, second: TagTable, at: tuple[int, ...], number: int, seed: int) -> dict[str, float]:
    """The p-value of each measure's difference, by approximate randomisation over documents (Noreen 1989; Yeh 2000).

    Under the hypothesis that the two runs are alike, a document's two answers may change places. In ``number`` shuffles
    each document's do with a chance of one half; p is (1 + shuffles whose difference is at least as large as the real
    one, either way) / (1 + number), so that it is never 0.

    Args:
        first: One run.
        second: The other, over the same documents in the same order, with tags numbered alike.
        at: The ks of precision at k.
        number: Of shuffles.
        seed: Of the coins.
    """
    judged = Judged.of(first.followed_by(second), at)
    keys = first.keys

    def differences(weights: Weights) -> dict[str, Floats]:
        one = measure(judged, np.concatenate([weights, 1 - weights]))
        other = measure(judged, np.concatenate([1 - weights, weights]))
        return {name: one[name] - other[name] for name in one}

    real = differences(np.ones((len(keys), 1), np.uint8))
    shuffled = _in_blocks(
        differences, lambda start, stop: _coins(keys, start, stop, seed), number, 4 * len(keys) + 2 * judged.pairs
    )
    # Sums that are the same by count may differ in the last bits.
    reached = {name: np.abs(values) >= abs(float(real[name][0])) - 1e-12 for name, values in shuffled.items()}
    return {name: (1 + int(np.sum(values))) / (1 + number) for name, values in reached.items()}


def _in_blocks(
    of: Callable[[Weights], dict[str, Floats]], drawn: Callable[[int, int], Weights], number: int, each: int
) -> dict[str, Floats]:
    """``of`` of ``number`` weightings, a bounded number of them at once: a multiple of 4, as one word makes so many."""
    step = max(4, _CELLS // max(1, each) // 4 * 4)
    blocks = [of(drawn(start, min(number, start + step))) for start in range(0, number, step)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in (blocks[0] if blocks else ())}


def _poisson(keys: Keys, start: int, stop: int, seed: int) -> Weights:
    """Weights ``start`` to ``stop`` of each document, ``uint8`` of shape ``(n, stop - start)``; 16 bits make one."""
    out = np.empty((len(keys), stop - start), np.uint8)
    for word in range(start // 4, -(-stop // 4)):
        bits = nth_word(keys, word, seed)
        for part in range(max(0, start - 4 * word), min(4, stop - 4 * word)):
            out[:, 4 * word + part - start] = _POISSON[(bits >> np.uint64(16 * part)) & np.uint64(0xFFFF)]
    return out


def _coins(keys: Keys, start: int, stop: int, seed: int) -> Weights:
    """Zeros and ones, as above; 64 of a word, of a stream that no bootstrap uses."""
    out = np.empty((len(keys), stop - start), np.uint8)
    for i in range(start, stop):
        out[:, i - start] = (nth_word(keys, -1 - i // 64, seed) >> np.uint64(i % 64)) & np.uint64(1)
    return out


def _poisson_table() -> npt.NDArray[np.uint8]:
    """The Poisson(1) variate of each 16-bit number: probabilities to 2**-16."""
    reached = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(12)])
    return np.searchsorted(reached, (np.arange(1 << 16) + 0.5) / (1 << 16), side="right").astype(np.uint8)


_POISSON = _poisson_table()
