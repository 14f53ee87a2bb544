"""How many sentences a text has, told by its marks alone."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.text.arrow import Bytes, Offsets, utf8
from tamis.text.characters import ALPHA, DIGIT, TERMINAL, UPPER, WHITE, flags
from tamis.text.walk import flags_at, size_of

__all__ = ["count_sentences"]

_QUOTES = "\"'\u201d\u2019\u00bb"
_CLOSERS = _QUOTES + ")]}\u300d\u300f\uff09\u3011\u300b"
_TITLES = (
    "mr",
    "mrs",
    "ms",
    "dr",
    "prof",
    "st",
    "rev",
    "gen",
    "sen",
    "gov",
    "capt",
    "col",
    "lt",
    "fig",
    "vs",
    "cf",
    "inc",
)
_SHORT = 4
"""Bytes of an abbreviation, such as "etc.", after which a small letter goes on."""
_WIDE = 0x3000
"""Marks from here on, as those of Chinese, end a sentence with no space after them."""


def _packed(word: str) -> int:
    return int.from_bytes(word.encode(), "little")


_ABBREVIATIONS = np.array([_packed(word) for word in _TITLES], dtype=np.uint64)
_CLOSING = np.array([ord(c) for c in _CLOSERS], dtype=np.int64)
_QUOTING = np.array([ord(c) for c in _QUOTES], dtype=np.int64)


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _point_at(data: Bytes, i: int) -> int:
    byte = nb.int64(data[i])
    if byte < 0x80:
        return byte
    if byte < 0xE0:
        return ((byte & 31) << 6) | (data[i + 1] & 63)
    if byte < 0xF0:
        return ((byte & 15) << 12) | ((data[i + 1] & 63) << 6) | (data[i + 2] & 63)
    return ((byte & 7) << 18) | ((data[i + 1] & 63) << 12) | ((data[i + 2] & 63) << 6) | (data[i + 3] & 63)


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _is_in(point: int, points: npt.NDArray[np.int64]) -> bool:
    for k in range(len(points)):
        if points[k] == point:
            return True
    return False


@nb.njit(nogil=True, cache=True, _nrt=False)
def _shortens(
    data: Bytes, start: int, dot: int, table: npt.NDArray[np.uint8], abbreviations: npt.NDArray[np.uint64]
) -> bool:
    """Whether the dot at ``dot`` stands after an initial or a title."""
    i = dot
    packed = nb.uint64(0)
    while i > start and dot - i < 5:
        byte = nb.uint64(data[i - 1])
        if byte >= 128 or table[data[i - 1]] & ALPHA == 0:
            break
        packed = (packed << nb.uint64(8)) | (byte | nb.uint64(32))
        i -= 1
    if i > start and (data[i - 1] >= 128 or table[data[i - 1]] & (ALPHA | DIGIT)):
        return False  # the word goes on before it
    if dot - i == 1:
        return bool(table[data[i]] & UPPER)
    for k in range(len(abbreviations)):
        if abbreviations[k] == packed:
            return True
    return False


@nb.njit(nogil=True, cache=True, _nrt=False)
def _count(
    data: Bytes,
    offsets: Offsets,
    table: npt.NDArray[np.uint8],
    quoting: npt.NDArray[np.int64],
    closing: npt.NDArray[np.int64],
    abbreviations: npt.NDArray[np.uint64],
    counts: npt.NDArray[np.int64],
) -> None:
    for row in range(len(counts)):
        start, end = offsets[row], offsets[row + 1]
        n = 0
        said = False  # something since the last sentence ended
        i = start
        while i < end:
            byte = data[i]
            found = table[byte] if byte < 128 else flags_at(data, i, table)
            if found & (TERMINAL | WHITE) == 0:
                said = said or (found & (ALPHA | DIGIT)) != 0
                i += 1 if byte < 128 else size_of(byte)
                continue
            if found & WHITE:
                if byte == 10 and said:
                    n += 1
                    said = False
                i += 1 if byte < 128 else size_of(byte)
                continue
            point = _point_at(data, i)
            mark = i
            i += size_of(byte)
            if not said or _is_in(point, quoting):
                continue
            wide = point >= _WIDE
            marks = 1
            while i < end and flags_at(data, i, table) & TERMINAL and not _is_in(_point_at(data, i), quoting):
                wide = wide or _point_at(data, i) >= _WIDE
                i += size_of(data[i])
                marks += 1
            while i < end and _is_in(_point_at(data, i), closing):
                i += size_of(data[i])
            if i < end and not wide and flags_at(data, i, table) & WHITE == 0:
                continue  # 3.14, example.org
            if marks == 1 and point == 46 and _goes_on(data, i, end, table, start, mark, abbreviations):
                continue
            n += 1
            said = False
        counts[row] = n + said


@nb.njit(nogil=True, cache=True, _nrt=False)
def _is_short(data: Bytes, start: int, dot: int) -> bool:
    """Whether the word before the dot at ``dot`` may be an abbreviation: of at most four bytes, or with a dot in it."""
    i = dot
    while i > start and data[i - 1] > 32:
        i -= 1
        if data[i] == 46:
            return True
    return dot - i <= _SHORT


@nb.njit(nogil=True, cache=True, _nrt=False)
def _goes_on(
    data: Bytes,
    i: int,
    end: int,
    table: npt.NDArray[np.uint8],
    start: int,
    mark: int,
    abbreviations: npt.NDArray[np.uint64],
) -> Any:
    """Whether a sentence goes on after one dot, of a short word before a small letter, an initial or a title."""
    after = i
    while after < end and data[after] != 10 and flags_at(data, after, table) & WHITE:
        after += size_of(data[after])
    if after == end or data[after] == 10:
        return False
    follows = flags_at(data, after, table)
    if data[after] < 128 and follows & ALPHA and follows & UPPER == 0 and _is_short(data, start, mark):
        return True
    return _shortens(data, start, mark, table, abbreviations)


def count_sentences(texts: pa.LargeStringArray) -> npt.NDArray[np.int64]:
    """The number of sentences of each text, ``int64`` of shape (n,); 0 for an empty, blank or null text.

    A sentence ends at a line feed, at the end of the text, and at a run of marks (``.!?…`` and those of other scripts)
    with the quotation marks and brackets that close after it, if white space or nothing follows; marks of full width
    need none. One dot does not end a sentence after a single capital letter, after one of seventeen titles and the like
    ("Dr.", "Fig.", "vs."), or between a small letter and a word of at most four bytes or with a dot in it ("etc. and",
    "e.g. one"). What holds neither letter nor digit is no sentence.

    >>> count_sentences(pa.array(["Dr. J. Smith paid 3.50. Why?", "No end", "你好。再见", "..."], pa.large_string()))
    array([2, 1, 2, 0])
    """
    data, offsets = utf8(texts)
    counts = np.empty(len(texts), dtype=np.int64)
    _count(data, offsets, flags(), _QUOTING, _CLOSING, _ABBREVIATIONS, counts)
    return counts
