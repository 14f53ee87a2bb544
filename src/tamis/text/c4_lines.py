"""The lines of a text that C4 keeps, in one walk."""

from __future__ import annotations

from collections.abc import Sequence

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.text.arrow import Bytes, Offsets, utf8
from tamis.text.bytes64 import has_byte, load64, store64
from tamis.text.characters import TERMINAL, WHITE, flags
from tamis.text.phrases import find_phrase, phrases_of
from tamis.text.walk import before, flags_at, next_feed, size_of
from tamis.text.words import classes_for, word_at

__all__ = ["c4_lines"]

_EDIT = np.frombuffer(b"[edit]", dtype=np.uint8)
_NEEDED = np.frombuffer(b"[citation needed]", dtype=np.uint8)


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _stripped(data: Bytes, first: int, last: int, table: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """The bounds without the white space at both ends."""
    while first < last and flags_at(data, first, table) & WHITE:
        first += size_of(data[first])
    while first < last and flags_at(data, before(data, last), table) & WHITE:
        last = before(data, last)
    return first, last


@nb.njit(nogil=True, cache=True, _nrt=False)
def _is_ended(data: Bytes, first: int, last: int, table: npt.NDArray[np.uint8]) -> bool:
    """Whether a line ends in a mark that ends a sentence, or a quotation mark, and not in an ellipsis."""
    if last - first >= 3:
        a, b, c = data[last - 3], data[last - 2], data[last - 1]
        if (a == 46 and b == 46 and c == 46) or (a == 0xE2 and b == 0x80 and c == 0xA6):
            return False
    return bool(last > first and flags_at(data, before(data, last), table) & TERMINAL)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _citation(data: Bytes, i: int, last: int, edit: Bytes, needed: Bytes) -> int:
    """Bytes of the citation mark that begins with the bracket at ``i``: [12], [], [edit], [citation needed]; or 0."""
    stop = i + 1
    while stop < last and 48 <= data[stop] <= 57:
        stop += 1
    if stop < last and data[stop] == 93:
        return stop + 1 - i
    for mark in (edit, needed):
        if i + len(mark) <= last:
            k = 0
            while k < len(mark) and data[i + k] == mark[k]:
                k += 1
            if k == len(mark):
                return k
    return 0


@nb.njit(nogil=True, cache=True, _nrt=False)
def _copied(data: Bytes, first: int, last: int, citations: int, edit: Bytes, needed: Bytes, out: Bytes, at: int) -> int:
    """Copy a line, without its citation marks if these are to go; returns where the copy ends."""
    i = first
    while i < last:
        if i + 8 <= last:
            word = load64(data, i)
            if not citations or has_byte(word, 91) == 0:
                store64(out, at, word)
                i += 8
                at += 8
                continue
        byte = data[i]
        if citations and byte == 91:
            size = _citation(data, i, last, edit, needed)
            if size:
                i += size
                continue
        out[at] = byte
        i += 1
        at += 1
    return at


@nb.njit(nogil=True, cache=True, _nrt=False)
def _has_long_word(data: Bytes, first: int, last: int, most: int, classes: npt.NDArray[np.uint8]) -> bool:
    """Whether a word has more than ``most`` characters.

    Such a word has no space in so many bytes: one looked for from the end of these is mostly found at once.
    """
    i = first
    while last - i > most:
        space = i + most
        while space >= i and data[space] != 32:
            space -= 1
        if space >= i:
            i = space + 1
            continue
        stop, characters = word_at(data, i, last, classes)
        i = max(stop, i + 1)
        if characters > most:
            return True
    return False


@nb.njit(nogil=True, cache=True, _nrt=False)
def _has_words(data: Bytes, first: int, last: int, least: int, classes: npt.NDArray[np.uint8]) -> bool:
    """Whether there are at least so many words."""
    i = first
    n = 0
    while n < least and i < last:
        stop, characters = word_at(data, i, last, classes)
        n += characters > 0
        i = max(stop, i + 1)  # a space of ASCII is left where it is
    return n >= least


@nb.njit(nogil=True, cache=True, _nrt=False)
def _clean(
    data: Bytes,
    offsets: Offsets,
    rules: tuple[int, int, int, int],
    classes: npt.NDArray[np.uint8],
    table: npt.NDArray[np.uint8],
    phrases: tuple[Bytes, Offsets, Offsets, npt.NDArray[np.uint64]],
    marks: tuple[Bytes, Bytes],
    out: Bytes,
    ends: Offsets,
) -> None:
    least, most, ended, citations = rules
    edit, needed = marks
    position = 0
    for row in range(len(offsets) - 1):
        begin = position
        at, end = offsets[row], offsets[row + 1]
        while at < end:
            stop = next_feed(data, at, end)
            first, last = _stripped(data, at, stop, table)
            at = stop + 1
            if first == last or (ended and data[last - 1] != 93 and not _is_ended(data, first, last, table)):
                continue
            if most > 0 and _has_long_word(data, first, last, most, classes):
                continue
            here = position + (position > begin)  # room for the line feed
            finish = _copied(data, first, last, citations, edit, needed, out, here)
            if finish - here < last - first:
                start, finish = _stripped(out, here, finish, table)
                for k in range(start, finish if start > here else start):
                    out[here + k - start] = out[k]
                finish -= start - here
            if finish == here or (ended and not _is_ended(out, here, finish, table)):
                continue
            if not _has_words(out, here, finish, least, classes):
                continue
            if find_phrase(out, here, finish, phrases[0], phrases[1], phrases[2], phrases[3]) >= 0:
                continue
            if position > begin:
                out[position] = 10
            position = finish
        ends[row + 1] = position


def c4_lines(
    texts: pa.LargeStringArray,
    phrases: Sequence[str],
    *,
    least_words: int,
    longest_word: int,
    ended: bool,
    citations: bool,
    lang: str = "auto",
) -> pa.LargeStringArray:
    """The texts without the lines that C4 drops; the same array where nothing goes from any of them. Nulls stay null.

    Args:
        texts: What is cleaned.
        phrases: Lines that hold one of these go, whatever the case of ASCII letters.
        least_words: Fewest words of a line; see :mod:`tamis.text.words` for what a word is.
        longest_word: Most characters of a word of a line; 0 for no bound.
        ended: Whether a line must end in a mark that ends a sentence, or a quotation mark, and not in an ellipsis.
        citations: Whether [12], [], [edit] and [citation needed] go from lines.
        lang: Language of the texts, which says what a word is.
    """
    data, offsets = utf8(texts)
    out = np.empty(int(offsets[-1] - offsets[0]) + 8, dtype=np.uint8)
    ends = np.zeros(len(texts) + 1, dtype=np.int64)
    rules = (least_words, longest_word, int(ended), int(citations))
    _clean(data, offsets, rules, classes_for(lang), flags(), phrases_of(tuple(phrases)), (_EDIT, _NEEDED), out, ends)
    if ends[-1] == offsets[-1] - offsets[0]:  # whatever is done to a text makes it shorter
        return texts
    kept = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(out[: ends[-1]]))
    if not texts.null_count:
        return kept
    return pa.compute.if_else(texts.is_valid(), kept, pa.scalar(None, pa.large_string()))
