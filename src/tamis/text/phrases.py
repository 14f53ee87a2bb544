"""Phrases in texts, whatever their case: many at once, in one walk.

Each phrase is looked for by the letter of it that is rarest in English ("javascript" by its j), so that a walk stops
at about one byte in thirty. Case is that of ASCII: other letters must be as they are in the phrase.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.text.arrow import Bytes, Offsets, utf8
from tamis.text.bytes64 import lowest_bit

__all__ = ["MOST_PHRASES", "Phrases", "count_phrases", "find_phrase", "phrases_of"]

MOST_PHRASES = 64
"""Phrases that can be looked for together."""
_COMMONEST_LAST = "zqjxkvbpgwyfmculdhrsnioate "

Phrases = tuple[Bytes, Offsets, Offsets, npt.NDArray[np.uint64]]
"""Their bytes one after the other, where each begins, the place in each of its rarest byte, and for every byte the set
of phrases that it is the rarest of."""


@lru_cache(maxsize=64)
def phrases_of(phrases: tuple[str, ...]) -> Phrases:
    """The phrases as the kernels want them; at most 64, none of them empty."""
    encoded = [bytes(b | 32 if 65 <= b <= 90 else b for b in phrase.encode()) for phrase in phrases]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
    places = np.zeros(len(encoded), dtype=np.int64)
    anchors = np.zeros(256, dtype=np.uint64)
    for n, phrase in enumerate(encoded):
        places[n] = min(range(len(phrase)), key=lambda i: _COMMONEST_LAST.find(chr(phrase[i])))
        byte = phrase[places[n]]
        for each in {byte, byte & ~32 if 97 <= byte <= 122 else byte}:
            anchors[each] |= np.uint64(1 << n)
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets, places, anchors


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _equal(data: Bytes, i: int, phrase: Bytes, start: int, stop: int) -> bool:
    for k in range(start, stop):
        byte = data[i + k - start]
        if 65 <= byte <= 90:
            byte |= 32
        if byte != phrase[k]:
            return False
    return True


@nb.njit(nogil=True, cache=True, _nrt=False)
def find_phrase(
    data: Bytes,
    start: int,
    end: int,
    phrases: Bytes,
    offsets: Offsets,
    places: Offsets,
    anchors: npt.NDArray[np.uint64],
) -> int:
    """Where the first of the phrases to be met ends within ``data[start:end]``, or -1."""
    i = start
    while i < end:
        found = anchors[data[i]]
        while found != 0:
            n = lowest_bit(found)
            found &= found - nb.uint64(1)
            first, last = offsets[n], offsets[n + 1]
            at = i - places[n]
            stop = at + last - first
            if at >= start and stop <= end and _equal(data, at, phrases, first, last):
                return stop
        i += 1
    return -1


@nb.njit(nogil=True, cache=True, _nrt=False)
def _count(
    data: Bytes,
    texts: Offsets,
    phrases: Bytes,
    offsets: Offsets,
    places: Offsets,
    anchors: npt.NDArray[np.uint64],
    counts: npt.NDArray[np.int64],
) -> None:
    for row in range(len(counts)):
        n = 0
        i, end = texts[row], texts[row + 1]
        while i >= 0:
            i = find_phrase(data, i, end, phrases, offsets, places, anchors)
            n += i >= 0
        counts[row] = n


def count_phrases(texts: pa.LargeStringArray, phrases: Iterable[str]) -> npt.NDArray[Any]:
    """How often any of the phrases occurs in each text, without overlap, ``int64`` of shape (n,); 0 for an empty text.

    >>> count_phrases(pa.array(["Lorem Ipsum, lorem ipsum", "lorem  ipsum"], pa.large_string()), ["lorem ipsum"])
    array([2, 0])
    """
    data, offsets = utf8(texts)
    counts = np.empty(len(texts), dtype=np.int64)
    _count(data, offsets, *phrases_of(tuple(phrases)), counts)
    return counts
