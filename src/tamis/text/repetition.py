"""Everything that repeats itself in a text: lines, paragraphs and word n-grams, in one walk.

The n-grams of nine lengths cost little more than those of the shortest: an n-gram that occurs twice begins and ends
with (n - 1)-grams that occur twice, so each length looks only at the places that the one before left. In English
prose a third of the places is left for n = 3, a tenth for n = 4, and next to none for n = 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.text.arrow import Bytes, Offsets, utf8
from tamis.text.blocks import is64, ones
from tamis.text.bytes64 import load64, mix
from tamis.text.characters import flags
from tamis.text.kept import is_kept, kept_for
from tamis.text.ngrams import top_ngram_share
from tamis.text.walk import next_feed, stripped
from tamis.text.words import classes_for, count_characters, hash_bytes, tokenize

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


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _seen(
    key: Any, place: Any, mask: Any, table: npt.NDArray[np.uint32], keys: npt.NDArray[np.uint64], base: Any
) -> Any:
    """The place of the equal key that was put in first, which is ``place`` itself for a new one.

    The hash table holds ``base`` + place, 4 bytes an entry; entries below ``base`` are those of earlier rounds, so
    that it needs no clearing. ``mask`` is a power of two less 1, of at least twice the keys of this round. Whether a
    key is new is a matter of chance, and a branch on it would be guessed wrongly half of the time: there is none.
    All numbers are uint64: numba asks of every signed index whether it counts from the end, which took longer than
    the rest together.
    """
    one = nb.uint64(1)
    slot = ((key * nb.uint64(0x9E3779B97F4A7C15)) >> nb.uint64(20)) & mask
    while True:
        entry = nb.uint64(table[slot]) - base  # wraps around for an earlier round
        entry = place if entry > nb.uint64(0xFFFFFFFF) else entry
        if keys[entry] == key:
            table[slot] = base + entry
            return entry
        slot = (slot + one) & mask


@nb.njit(nogil=True, cache=True, _nrt=False)
def _mask(keys: Any) -> Any:
    """That of a hash table for this many keys."""
    size = nb.uint64(16)
    while size < nb.uint64(2) * nb.uint64(keys):
        size *= nb.uint64(2)
    return size - nb.uint64(1)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _ngrams(
    words: Any,
    hashes: npt.NDArray[np.uint64],
    ends: npt.NDArray[np.int64],
    table: npt.NDArray[np.uint32],
    base: Any,
    keys: npt.NDArray[np.uint64],
    places: npt.NDArray[np.uint32],
    first: npt.NDArray[np.uint32],
    counts: npt.NDArray[np.uint32],
    covered: npt.NDArray[np.int64],
    until: npt.NDArray[np.uint64],
    out: npt.NDArray[np.int64],
) -> Any:
    """Characters covered by n-grams of one text; returns the new base of the hash table.

    ``ends[i]`` are the characters of the first i words.
    """
    multiplier = nb.uint64(0x9FB21C651E98DF25)
    one = nb.uint64(1)
    if words < nb.uint64(2):
        return base
    left = words - one  # places at which an n-gram may begin, in places[:left]
    for i in range(left):
        keys[i] = mix(hashes[i])
        places[i] = i
    for n in range(SHORTEST, LONGEST + 1):
        size = nb.uint64(n)
        held = nb.uint64(0)
        if n > SHORTEST:
            # Places whose n-gram lies within the text, and both of whose (n - 1)-grams occur more than once.
            places[left] = 0
            for j in range(left):
                i = nb.uint64(places[j])
                places[held] = i
                held += nb.uint64((i + size <= words) & (places[j + one] == i + one))
            left = held
        if left < nb.uint64(2):
            return base
        mask = _mask(left)
        best = one
        for j in range(left):
            i = nb.uint64(places[j])
            key = keys[i] * multiplier + hashes[i + size - one]
            keys[i] = key
            counts[i] = 0
            place = _seen(key, i, mask, table, keys, base)
            first[i] = place
            count = counts[place] + one
            counts[place] = count
            best = max(best, count)
        base += words
        if best < nb.uint64(2):
            return base
        most = 0
        repeated = 0
        reached = nb.uint64(0)
        held = nb.uint64(0)
        for j in range(left):
            i = nb.uint64(places[j])
            place = nb.uint64(first[i])
            stop = i + size
            if counts[place] == best:
                if place == i:
                    covered[i] = 0
                    until[i] = 0
                covered[place] += ends[stop] - ends[max(i, until[place])]
                until[place] = stop
                most = max(most, covered[place])
            again = place != i
            repeated += ends[stop] - ends[max(i, reached) if again else stop]
            reached = stop if again else reached
            places[held] = i
            held += nb.uint64(counts[place] > one)
        left = held
        out[_TOP + n - SHORTEST] = most
        out[_DUPLICATE + n - SHORTEST] = repeated
    return base


@nb.njit(nogil=True, cache=True, _nrt=False)
def _most_lines(data: Bytes, start: int, end: int) -> int:
    """At least as many as there are filled lines and paragraphs in a text."""
    feeds = 2
    i = start
    while i < end:
        if i + 64 <= len(data):
            feeds += ones(is64(data, i, 10))
            i += 64
        else:
            feeds += data[i] == 10
            i += 1
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


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _line_hash(data: Bytes, start: int, stop: int) -> Any:
    """64 bits of a line. Its words of eight bytes do not wait for each other, as those of :func:`hash_bytes` do."""
    step = nb.uint64(0x9E3779B97F4A7C15)
    salt = step
    h = nb.uint64(stop - start) * step
    i = start
    while i + 8 <= stop:
        h += mix(load64(data, i) ^ salt)
        salt += step
        i += 8
    return mix(h + mix(hash_bytes(data, i, stop) ^ salt))


@nb.njit(nogil=True, cache=True, _nrt=False)
def _lines(
    data: Bytes,
    start: int,
    end: int,
    flag: npt.NDArray[np.uint8],
    table: npt.NDArray[np.uint32],
    base: Any,
    keys: npt.NDArray[np.uint64],
    out: npt.NDArray[np.int64],
) -> Any:
    """Lines and paragraphs of one text; returns the new base of the hash table."""
    one = nb.uint64(1)
    mask = _mask(_most_lines(data, start, end))
    n = nb.uint64(0)
    paragraph = nb.uint64(0)
    characters = 0
    at = start
    while at <= end:
        stop = next_feed(data, at, end)
        a, b = stripped(data, at, stop, flag)
        at = stop + 1
        if a < b:
            length = count_characters(data, a, b)
            key = _line_hash(data, a, b) | one
            keys[n] = key
            old = _seen(key, n, mask, table, keys, base) != n
            n += one
            out[0] += 1
            out[1] += old
            out[2] += length
            out[3] += length * old
            paragraph = mix(paragraph ^ key) + nb.uint64(0x9E3779B97F4A7C15)
            characters += length
        if (a == b or stop >= end) and characters > 0:
            key = (paragraph << one) | nb.uint64(0)
            keys[n] = key
            old = _seen(key, n, mask, table, keys, base) != n
            n += one
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
    ends = np.zeros(most_words + 1, dtype=np.int64)
    keys = np.empty(most_keys, dtype=np.uint64)
    places = np.empty(most_words + 1, dtype=np.uint32)
    first = np.empty(most_words, dtype=np.uint32)
    counts = np.empty(most_words, dtype=np.uint32)
    covered = np.empty(most_words, dtype=np.int64)
    until = np.empty(most_words, dtype=np.uint64)
    table = np.zeros(_mask(most_keys) + nb.uint64(1), dtype=np.uint32)
    base = nb.uint64(1)
    for row in range(len(out)):
        start, end = offsets[row], offsets[row + 1]
        if base + nb.uint64(12 * (end - start) + 16) > nb.uint64(0xFFFFFFF0):
            table[:] = 0
            base = nb.uint64(1)
        base = _lines(data, start, end, flag, table, base, keys, out[row])
        words = tokenize(data, start, end, classes, hashes, ends[1:])
        for k in range(nb.uint64(words)):
            ends[k + nb.uint64(1)] += ends[k]
        out[row, _WORD_CHARACTERS] = ends[words]
        base = _ngrams(
            nb.uint64(words), hashes, ends, table, base, keys, places, first, counts, covered, until, out[row]
        )


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
