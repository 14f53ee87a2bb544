"""Everything that repeats itself in a text: lines, paragraphs and word n-grams, in one walk.

The n-grams of nine lengths cost little more than those of the shortest: an n-gram that occurs twice begins and ends
with (n - 1)-grams that occur twice, so each length looks only at the places that the one before left. In English
prose a third of the places is left for n = 3, a tenth for n = 4, and next to none for n = 10.
"""

from __future__ import annotations

from collections.abc import Mapping

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.text.arrow import Bytes, Offsets, utf8
from tamis.text.bytes64 import mix
from tamis.text.characters import flags
from tamis.text.kept import is_kept, kept_for
from tamis.text.ngrams import top_ngram_share
from tamis.text.walk import before, flags_at, next_feed, size_of
from tamis.text.words import classes_for, hash_bytes, tokenize

__all__ = ["LONGEST", "MEASURES", "NGRAMS", "SHORTEST", "repetition", "top_share"]

SHORTEST, LONGEST = 2, 10
"""The n-grams that are counted."""
NGRAMS = range(SHORTEST, LONGEST + 1)

MEASURES = (
    "lines",  # filled lines, without the white space around them
    "repeated_lines",  # of them equal to one before
    "line_characters",
    "repeated_line_characters",
    "paragraphs",  # filled lines between empty ones
    "repeated_paragraphs",
    "paragraph_characters",  # without white space around lines
    "repeated_paragraph_characters",
    "word_characters",  # characters that are not white space
    *(f"top_{n}" for n in NGRAMS),  # of them in an occurrence of the most frequent n-gram; 0 where none occurs twice
    *(f"duplicate_{n}" for n in NGRAMS),  # of them in an occurrence of an n-gram that occurred before
)
"""What :func:`repetition` counts; the last axis of the kernel's result, in this order."""

_TOP = MEASURES.index(f"top_{SHORTEST}")
_DUPLICATE = MEASURES.index(f"duplicate_{SHORTEST}")
_WORD_CHARACTERS = MEASURES.index("word_characters")


@nb.njit(nogil=True, cache=True, _nrt=False)
def _seen(
    key: int, place: int, room: int, table: npt.NDArray[np.uint32], keys: npt.NDArray[np.uint64], base: int
) -> int:
    """The place of the equal key that was put in first, which is ``place`` itself for a new one.

    The hash table holds ``base`` + 1 + place, 4 bytes an entry; entries up to ``base`` are those of earlier rounds,
    so that it needs no clearing. ``room`` is a power of two of at least twice the keys of this round.
    """
    mask = room - 1
    slot = nb.int64((key * nb.uint64(0x9E3779B97F4A7C15)) >> nb.uint64(20)) & mask
    while True:
        entry = nb.int64(table[slot]) - base - 1
        if entry < 0:
            table[slot] = base + 1 + place
            return place
        if keys[entry] == key:
            return entry
        slot = (slot + 1) & mask


@nb.njit(nogil=True, cache=True, _nrt=False)
def _room(keys: int) -> int:
    size = 16
    while size < 2 * keys:
        size *= 2
    return size


@nb.njit(nogil=True, cache=True, _nrt=False)
def _ngrams(
    words: int,
    hashes: npt.NDArray[np.uint64],
    lengths: npt.NDArray[np.int64],
    table: npt.NDArray[np.uint32],
    base: int,
    keys: npt.NDArray[np.uint64],
    places: npt.NDArray[np.int32],
    first: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    covered: npt.NDArray[np.int64],
    until: npt.NDArray[np.int64],
    out: npt.NDArray[np.int64],
) -> int:
    """Characters covered by n-grams of one text; returns the new base of the hash table."""
    multiplier = nb.uint64(0x9FB21C651E98DF25)
    left = words  # places at which an n-gram may begin, in places[:left]
    for i in range(words):
        keys[i] = mix(hashes[i])
        places[i] = i
    for n in range(SHORTEST, LONGEST + 1):
        # Places whose n-gram lies within the text, and both of whose (n - 1)-grams occur more than once.
        held = 0
        for j in range(left):
            i = places[j]
            if i + n > words or (n > SHORTEST and (j + 1 >= left or places[j + 1] != i + 1)):
                continue
            places[held] = i
            held += 1
        left = held
        if left < 2:
            return base
        room = _room(left)
        best = 1
        for j in range(left):
            i = places[j]
            keys[i] = keys[i] * multiplier + hashes[i + n - 1]
            counts[i] = 1
            entry = _seen(keys[i], i, room, table, keys, base)
            first[i] = entry
            if entry != i:
                counts[entry] += 1
                best = max(best, counts[entry])
        base += words
        if best < 2:
            return base
        most = 0
        repeated = 0
        reached = 0
        held = 0
        for j in range(left):
            i = places[j]
            place = first[i]
            if counts[place] == best:
                if place == i:
                    covered[i] = 0
                    until[i] = 0
                for k in range(max(i, until[place]), i + n):
                    covered[place] += lengths[k]
                until[place] = i + n
                most = max(most, covered[place])
            if place != i:
                for k in range(max(i, reached), i + n):
                    repeated += lengths[k]
                reached = i + n
            if counts[place] > 1:
                places[held] = i
                held += 1
        left = held
        out[_TOP + n - SHORTEST] = most
        out[_DUPLICATE + n - SHORTEST] = repeated
    return base


@nb.njit(nogil=True, cache=True, _nrt=False)
def _most_lines(data: Bytes, start: int, end: int) -> int:
    """At least as many as there are filled lines and paragraphs in a text."""
    feeds = 2
    for i in range(start, end):
        feeds += data[i] == 10
    return min(2 * feeds, end - start + 4)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _most_words(data: Bytes, start: int, end: int) -> int:
    """At least as many as there are words in a text: a word of its own has two bytes or more."""
    spaces = 2
    high = 0
    for i in range(start, end):
        spaces += data[i] <= 32
        high += data[i] >= 128
    return min(spaces + high // 2, (end - start) // 2 + 2)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _lines(
    data: Bytes,
    start: int,
    end: int,
    flag: npt.NDArray[np.uint8],
    table: npt.NDArray[np.uint32],
    base: int,
    keys: npt.NDArray[np.uint64],
    out: npt.NDArray[np.int64],
) -> int:
    """Lines and paragraphs of one text; returns the new base of the hash table."""
    room = _room(_most_lines(data, start, end))
    n = 0
    paragraph = nb.uint64(0)
    characters = 0
    at = start
    while at <= end:
        stop = next_feed(data, at, end)
        a, b = at, stop
        at = stop + 1
        while a < b and flags_at(data, a, flag) & 1:
            a += size_of(data[a])
        while a < b:
            final = before(data, b)
            if not flags_at(data, final, flag) & 1:
                break
            b = final
        if a < b:
            length = 0
            for i in range(a, b):
                length += (data[i] & 0xC0) != 0x80
            key = hash_bytes(data, a, b) | nb.uint64(1)
            keys[n] = key
            old = _seen(key, n, room, table, keys, base) != n
            n += 1
            out[0] += 1
            out[1] += old
            out[2] += length
            out[3] += length * old
            paragraph = mix(paragraph ^ key) + nb.uint64(0x9E3779B97F4A7C15)
            characters += length
        if (a == b or stop >= end) and characters > 0:
            key = (paragraph << nb.uint64(1)) | nb.uint64(0)
            keys[n] = key
            old = _seen(key, n, room, table, keys, base) != n
            n += 1
            out[4] += 1
            out[5] += old
            out[6] += characters
            out[7] += characters * old
            paragraph = nb.uint64(0)
            characters = 0
    return base + n


@nb.njit(nogil=True, cache=True)
def _measure(
    data: Bytes,
    offsets: Offsets,
    classes: npt.NDArray[np.uint8],
    flag: npt.NDArray[np.uint8],
    out: npt.NDArray[np.int64],
) -> None:
    # Room for the largest text of these: 44 bytes a word, not a byte of the text.
    most_words = most_keys = 0
    for row in range(len(out)):
        start, end = offsets[row], offsets[row + 1]
        # Counting costs a tenth of the walk: only texts that could need more room than those before are counted.
        if (end - start) // 2 + 2 > most_words:
            most_words = max(most_words, _most_words(data, start, end))
        if end - start + 4 > most_keys:
            most_keys = max(most_keys, _most_lines(data, start, end))
    most_keys = max(most_keys, most_words)
    hashes = np.empty(most_words, dtype=np.uint64)
    lengths = np.empty(most_words, dtype=np.int64)
    keys = np.empty(most_keys, dtype=np.uint64)
    places = np.empty(most_words, dtype=np.int32)
    first = np.empty(most_words, dtype=np.int32)
    counts = np.empty(most_words, dtype=np.int32)
    covered = np.empty(most_words, dtype=np.int64)
    until = np.empty(most_words, dtype=np.int64)
    table = np.zeros(_room(most_keys), dtype=np.uint32)
    base = 0
    for row in range(len(out)):
        start, end = offsets[row], offsets[row + 1]
        if base + 12 * (end - start) + 16 > 0xFFFFFFF0:
            table[:] = 0
            base = 0
        base = _lines(data, start, end, flag, table, base, keys, out[row])
        words = tokenize(data, start, end, classes, hashes, lengths)
        for k in range(words):
            out[row, _WORD_CHARACTERS] += lengths[k]
        base = _ngrams(
            words, hashes, lengths, table, base, keys, places, first, counts, covered, until, out[row]
        )  # fmt: skip


def repetition(texts: pa.LargeStringArray, lang: str = "auto") -> Mapping[str, npt.NDArray[np.int64]]:
    """Every measure of :data:`MEASURES` by its name, ``int64`` of shape (n,); 0 for empty and null texts.

    Words are those of :func:`tamis.text.words.count_words`. Lines and n-grams are compared by 64-bit hashes.

    >>> found = repetition(pa.array(["a b c a b c a b"], pa.large_string()))
    >>> [int(found[name][0]) for name in ("top_2", "duplicate_3", "duplicate_5")]
    [6, 5, 5]
    """

    def find() -> Mapping[str, npt.NDArray[np.int64]]:
        data, offsets = utf8(texts)
        out = np.zeros((len(texts), len(MEASURES)), dtype=np.int64)
        _measure(data, offsets, classes_for(lang), flags(), out)
        return {name: out[:, i] for i, name in enumerate(MEASURES)}

    return kept_for(texts, ("repetition", lang), find)


def top_share(texts: pa.LargeStringArray, n: int, lang: str = "auto") -> npt.NDArray[np.float64]:
    """:func:`tamis.text.ngrams.top_ngram_share`, from the walk over all lengths where that has been made already."""
    if n not in NGRAMS or not is_kept(texts, ("repetition", lang)):
        return top_ngram_share(texts, n, lang)
    found = repetition(texts, lang)
    total = found["word_characters"]
    return found[f"top_{n}"] / np.maximum(total, 1)
