r"""Which words of a given set a text holds, whatever their case.

A word is here a maximal run of letters, digits and underscores (``\w+`` of the text in lower case), so that "The" and
"and," count as the words they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.text.arrow import Bytes, Offsets, utf8
from tamis.text.bytes64 import lowest_bit
from tamis.text.lowered import Bits, classes64, lower_into, room_for, tables
from tamis.text.words import hash_bytes, hash_short

__all__ = ["count_distinct"]


@nb.njit(nogil=True, cache=True, _nrt=False)
def _place(keys: npt.NDArray[np.uint64], key: int) -> int:
    """Where the key lies in the table, or the empty place where it would; no key is 0."""
    mask = len(keys) - 1
    slot = nb.int64((key * nb.uint64(0x9E3779B97F4A7C15)) >> nb.uint64(40)) & mask
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@nb.njit(nogil=True, cache=True, _nrt=False)
def _enter(data: Bytes, offsets: Offsets, keys: npt.NDArray[np.uint64]) -> None:
    for i in range(len(offsets) - 1):
        key = hash_bytes(data, offsets[i], offsets[i + 1]) | nb.uint64(1)
        keys[_place(keys, key)] = key


@nb.njit(nogil=True, cache=True, _nrt=False)
def _count(
    data: Bytes,
    offsets: Offsets,
    lower: npt.NDArray[np.uint32],
    classes: npt.NDArray[np.uint8],
    out: Bytes,
    wordy: Bits,
    spacy: Bits,
    keys: npt.NDArray[np.uint64],
    seen: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> None:
    one = nb.uint64(1)
    every = 0
    for key in keys:
        every += key != 0
    for row in range(len(counts)):
        size, plain = lower_into(data, offsets[row], offsets[row + 1], lower, classes, out, wordy, spacy)
        n = 0
        inside = nb.uint64(0)
        begin = 0
        # One block more than the text has, all of it other than words, ends the last word.
        for block in range(0, size + 1, 64):
            if n == every:  # of a short list, a long text soon has all
                break
            word, _ = classes64(out, block)
            if not plain:
                word |= wordy[block >> 6]
            if size - block < 64:
                word &= (one << nb.uint64(size - block)) - one
            shifted = (word << one) | inside
            begins = word & ~shifted
            ends = ~word & shifted
            inside = word >> nb.uint64(63)
            while ends != 0:
                stop = block + lowest_bit(ends)
                ends &= ends - one
                if begins != 0 and block + lowest_bit(begins) < stop:
                    begin = block + lowest_bit(begins)
                    begins &= begins - one
                key = hash_short(out, begin, stop) | one
                place = _place(keys, key)
                if keys[place] != 0 and seen[place] != row + 1:
                    seen[place] = row + 1
                    n += 1
            if begins != 0:
                begin = block + lowest_bit(begins)
        counts[row] = n


@lru_cache(maxsize=64)
def _table(words: frozenset[str]) -> npt.NDArray[np.uint64]:
    size = 16
    while size < 4 * len(words):
        size *= 2
    keys = np.zeros(size, dtype=np.uint64)
    data, offsets = utf8(pa.array(sorted(w.lower() for w in words), pa.large_string()))
    _enter(np.concatenate([data, np.zeros(16, dtype=np.uint8)]), offsets, keys)
    return keys


def count_distinct(texts: pa.LargeStringArray, words: Iterable[str]) -> npt.NDArray[np.int64]:
    r"""How many of the words occur in each text, each counted once: ``int64`` of shape (n,); 0 for an empty text.

    ``words`` are runs of ``\w``, compared in lower case and by 64-bit hashes.

    >>> count_distinct(pa.array(["The cat and the dog.", "Das ist's"], pa.large_string()), ["the", "and", "of"])
    array([2, 0])
    """
    data, offsets = utf8(texts)
    keys = _table(frozenset(words))
    longest = int(np.diff(offsets).max(initial=0))
    room = room_for(longest) + 64
    bits = room // 64 + 2
    counts = np.empty(len(texts), dtype=np.int64)
    _count(
        data,
        offsets,
        *tables(),
        np.zeros(room, dtype=np.uint8),
        np.zeros(bits, dtype=np.uint64),
        np.zeros(bits, dtype=np.uint64),
        keys,
        np.zeros(len(keys), dtype=np.int64),
        counts,
    )
    return counts
