"""Counting word n-grams, straight on UTF-8 bytes."""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.text.arrow import Bytes, Offsets, utf8
from tamis.text.words import classes_for, tokenize

__all__ = ["top_ngram_share"]


@nb.njit(nogil=True, cache=True, _nrt=False)
def _count(
    hashes: npt.NDArray[np.uint64],
    ngrams: int,
    n: int,
    table: npt.NDArray[np.uint32],
    before: int,
    keys: npt.NDArray[np.uint64],
    first: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
) -> int:
    """Count the n-grams of one text; returns the highest count.

    ``first[i]`` gets the place of the first n-gram equal to the i-th, ``counts`` there how many there are. The hash
    table holds ``before`` + 1 + place, 4 bytes an entry, so that it stays in the cache (a table of keys and counts
    took 1.6 times as long); entries up to ``before`` are those of earlier texts, so it needs no clearing.
    """
    base = nb.uint64(0x9FB21C651E98DF25)
    out = nb.uint64(1)
    for _ in range(n - 1):
        out *= base
    bits = nb.uint64(63)
    size = 2
    while size < 2 * ngrams:
        size *= 2
        bits -= nb.uint64(1)
    mask = size - 1
    key = nb.uint64(0)
    for k in range(n - 1):
        key = key * base + hashes[k]
    best = 1
    for i in range(ngrams):
        key = key * base + hashes[i + n - 1]
        keys[i] = key
        counts[i] = 1
        first[i] = i
        slot = nb.int64((key * nb.uint64(0x9E3779B97F4A7C15)) >> bits)
        while True:
            entry = nb.int64(table[slot]) - before - 1
            if entry < 0:
                table[slot] = before + 1 + i
                break
            if keys[entry] == key:
                first[i] = entry
                counts[entry] += 1
                best = max(best, counts[entry])
                break
            slot = (slot + 1) & mask
        key -= hashes[i] * out
    return best


@nb.njit(nogil=True, cache=True, _nrt=False)
def _covered(
    characters: npt.NDArray[np.int64],
    ngrams: int,
    n: int,
    best: int,
    first: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    covered: npt.NDArray[np.int64],
    until: npt.NDArray[np.int64],
) -> int:
    """The most characters that the occurrences of one of the most frequent n-grams cover."""
    most = 0
    for i in range(ngrams):
        place = first[i]
        if counts[place] == best:
            if place == i:
                covered[i] = 0
                until[i] = 0
            for k in range(max(i, until[place]), i + n):
                covered[place] += characters[k]
            until[place] = i + n
            most = max(most, covered[place])
    return most


@nb.njit(nogil=True, cache=True)
def _shares(
    data: Bytes, offsets: Offsets, n: int, classes: npt.NDArray[np.uint8], shares: npt.NDArray[np.float64]
) -> None:
    longest = 0
    for row in range(len(shares)):
        longest = max(longest, offsets[row + 1] - offsets[row])
    room = longest // 2 + 2
    hashes = np.empty(room, dtype=np.uint64)
    characters = np.empty(room, dtype=np.int64)
    keys = np.empty(room, dtype=np.uint64)
    first = np.empty(room, dtype=np.int32)
    counts = np.empty(room, dtype=np.int32)
    covered = np.empty(room, dtype=np.int64)
    until = np.empty(room, dtype=np.int64)
    size = 2
    while size < 2 * room:
        size *= 2
    table = np.zeros(size, dtype=np.uint32)
    before = 0
    for row in range(len(shares)):
        shares[row] = 0.0
        words = tokenize(data, offsets[row], offsets[row + 1], classes, hashes, characters)
        if words <= n:
            continue
        ngrams = words - n + 1
        if before + ngrams > 0xFFFFFFF0:
            table[:] = 0
            before = 0
        best = _count(hashes, ngrams, n, table, before, keys, first, counts)
        before += ngrams
        if best > 1:
            total = 0
            for k in range(words):
                total += characters[k]
            shares[row] = _covered(characters, ngrams, n, best, first, counts, covered, until) / total


def top_ngram_share(texts: pa.LargeStringArray, n: int, lang: str = "auto") -> npt.NDArray[np.float64]:
    """The share of each text that its most frequent word n-gram covers, ``float64`` in [0, 1] of shape (texts,).

    Characters that are not white space and lie in an occurrence of the n-gram, each counted once however the
    occurrences overlap, over all characters that are not white space. Of several n-grams that are equally
    frequent, the one that covers most counts. 0 where no n-gram occurs twice: also for a text of fewer than n + 1
    words, an empty, blank or null one.

    Words are compared by 64-bit hashes: for a text of a million n-grams the chance that two different ones are
    taken for one is 3e-8.
    """
    data, offsets = utf8(texts)
    shares = np.empty(len(texts), dtype=np.float64)
    _shares(data, offsets, n, classes_for(lang), shares)
    return shares
