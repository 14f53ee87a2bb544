"""What a fastText model makes of a text: the vectors of its words and n-grams, and the labels' probabilities.

Words are what ASCII white space and NUL divide, straight on UTF-8 bytes. A text is one line to the model, whatever line
feeds it has; at its end stands the word "</s>", which is left out wherever else it stands.

Measured on English with the model lid.176, one core: 20 MB/s, where the published library reaches 3.5; labels are the
same, probabilities within 3e-7 (they are added up in float64 here).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.text.arrow import Bytes, Offsets, utf8

__all__ = ["HIERARCHICAL", "SOFTMAX", "Outputs", "Vocabulary", "probabilities", "sum_vectors"]

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
_BEGIN, _END = 60, 62
"""The signs < and > that stand around a word whose n-grams are looked at."""
_MOST_WORDS = 64
_ADDED = 1e-5
"""What fastText adds to a probability before it takes its logarithm."""
HIERARCHICAL, SOFTMAX = 1, 3
"""Losses, by their numbers in a file; the others are a logistic function for each label."""
_LABEL_PREFIX = np.frombuffer(b"__label__", np.uint8)
_END_OF_LINE = np.frombuffer(b"</s>", np.uint8)


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _fnv(h: Any, byte: Any) -> Any:
    """FNV-1a of 32 bits, with bytes as signed numbers, as all published models were trained."""
    signed = nb.uint32(nb.int32(nb.int8(byte)))
    return nb.uint32((h ^ signed) * nb.uint32(16777619))


@nb.njit(nogil=True, cache=True, _nrt=False)
def _hash(data: Bytes, start: int, end: int) -> Any:
    h = nb.uint32(2166136261)
    for i in range(start, end):
        h = _fnv(h, data[i])
    return h


@nb.njit(nogil=True, cache=True, _nrt=False)
def _is(data: Bytes, start: int, end: int, other: Bytes, first: int, last: int) -> bool:
    if end - start != last - first:
        return False
    for i in range(end - start):
        if data[start + i] != other[first + i]:
            return False
    return True


@nb.njit(nogil=True, cache=True, _nrt=False)
def _slot(h: Any, data: Bytes, start: int, end: int, table: Ints, names: Bytes, ends: Offsets) -> int:
    """Where in the table a word is, or would be."""
    mask = len(table) - 1
    at = nb.int64(h) & mask
    while table[at] >= 0:
        k = table[at]
        if _is(data, start, end, names, ends[2 * k], ends[2 * k + 1]):
            return at
        at = (at + 1) & mask
    return at


@nb.njit(nogil=True, cache=True, _nrt=False)
def _fill(table: Ints, names: Bytes, ends: Offsets) -> None:
    for k in range(len(ends) // 2):
        h = _hash(names, ends[2 * k], ends[2 * k + 1])
        table[_slot(h, names, ends[2 * k], ends[2 * k + 1], table, names, ends)] = k


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _row(at: Any, words: int, kept: Ints, held: Bytes) -> int:
    """The row of a bucket's vector, -1 where it was pruned."""
    if len(kept):
        # One bit for each bucket lies in a near cache; the rows of two million of them do not.
        if (held[at >> 3] >> (at & 7)) & 1 == 0:
            return -1
        return words + nb.int64(kept[at])
    return words + at


@nb.njit(nogil=True, cache=True, _nrt=False)
def _add_ngrams(
    data: Bytes,
    start: int,
    end: int,
    shape: tuple[int, int, int, int],
    kept: Ints,
    held: Bytes,
    vectors: Floats,
    out: Any,
) -> int:
    """Add the vectors of the character n-grams of a word; returns how many there were."""
    words, bucket, shortest, longest = shape
    size = end - start + 2
    found = 0
    i = 0
    while i < size:
        j, n, h = i, 0, nb.uint32(2166136261)
        while j < size and n < longest:
            byte = nb.uint8(_BEGIN) if j == 0 else (nb.uint8(_END) if j == size - 1 else data[start + j - 1])
            h = _fnv(h, byte)
            j += 1
            while 0 < j < size - 1 and (data[start + j - 1] & 0xC0) == 0x80:
                h = _fnv(h, data[start + j - 1])
                j += 1
            n += 1
            if n >= shortest and not (n == 1 and (i == 0 or j == size)):
                row = _row(nb.int64(h % nb.uint32(bucket)), words, kept, held)
                if row >= 0:
                    found += 1
                    for d in range(len(out)):
                        out[d] += vectors[row, d]
        i += 1
        while 0 < i < size - 1 and (data[start + i - 1] & 0xC0) == 0x80:
            i += 1
    return found


@nb.njit(nogil=True, cache=True, _nrt=False)
def _sum_words(
    names: Bytes, ends: Offsets, shape: tuple[int, int, int, int], kept: Ints, held: Bytes, vectors: Floats,
    end_of_line: Bytes, sums: Any, counts: Ints,
) -> None:  # fmt: skip
    """For each word of the vocabulary, its vector and those of its n-grams."""
    for k in range(len(counts)):
        for d in range(sums.shape[1]):
            sums[k, d] = vectors[k, d]
        counts[k] = 1
        if not _is(names, ends[2 * k], ends[2 * k + 1], end_of_line, 0, len(end_of_line)):
            counts[k] += _add_ngrams(names, ends[2 * k], ends[2 * k + 1], shape, kept, held, vectors, sums[k])


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _divides(byte: Any) -> bool:
    return byte == 32 or 9 <= byte <= 13 or byte == 0


@nb.njit(nogil=True, cache=True, _nrt=False)
def _walk(
    data: Bytes, offsets: Offsets, table: Ints, names: Bytes, ends: Offsets, shape: tuple[int, int, int, int],
    ngrams: int, hashed: int, has_ngrams: int, kept: Ints, held: Bytes, vectors: Floats, sums: Any, counts: Ints,
    label: Bytes, end_of_line: Bytes, last: Any, hidden: Any, found: Any,
) -> None:  # fmt: skip
    """Sums of the vectors of each text, and how many they are."""
    words = shape[0]
    end_hash = _hash(end_of_line, 0, len(end_of_line))
    end_slot = _slot(end_hash, end_of_line, 0, len(end_of_line), table, names, ends)
    for row in range(len(found)):
        i, stop = offsets[row], offsets[row + 1]
        out = hidden[row]
        n, seen = 0, 0
        any_word = False
        while True:
            while i < stop and _divides(data[i]):
                i += 1
            start = i
            while i < stop and not _divides(data[i]):
                i += 1
            at_end = start == i
            if at_end and not any_word:
                break
            if at_end:
                h, k = end_hash, nb.int64(table[end_slot])
                ours = k < words
            else:
                any_word = True
                if _is(data, start, i, end_of_line, 0, len(end_of_line)):
                    continue
                h = _hash(data, start, i)
                k = nb.int64(table[_slot(h, data, start, i, table, names, ends)])
                ours = k < words if k >= 0 else not _is(data, start, min(i, start + len(label)), label, 0, len(label))
            if ours:
                if k >= 0:
                    n += counts[k]
                    for d in range(len(out)):
                        out[d] += sums[k, d]
                elif hashed and not at_end:
                    n += _add_ngrams(data, start, i, shape, kept, held, vectors, out)
                if has_ngrams:
                    # n-grams of words that end here, made of the last hashes, which are signed numbers.
                    last[seen % ngrams] = nb.int64(nb.int32(h))
                    seen += 1
                    for size in range(2, min(ngrams, seen) + 1):
                        mixed = nb.uint64(last[(seen - size) % ngrams])
                        for back in range(size - 1, 0, -1):
                            mixed = mixed * nb.uint64(116049371) + nb.uint64(last[(seen - back) % ngrams])
                        at = _row(nb.int64(mixed % nb.uint64(shape[1])), words, kept, held)
                        if at >= 0:
                            n += 1
                            for d in range(len(out)):
                                out[d] += vectors[at, d]
            if at_end:
                break
        found[row] = n


@dataclass(frozen=True)
class Vocabulary:
    """The words of a model, and the vectors of these and of the buckets of n-grams."""

    names: Bytes
    ends: Offsets
    """Where in ``names`` each word and label begins and ends, one after the other: int64 of shape (2 n,)."""
    vectors: Floats
    """Of shape (words and buckets, dimensions); read only."""
    shape: tuple[int, int, int, int]
    """Words, buckets, and the shortest and longest n-gram of characters; 0 for none."""
    word_ngrams: int
    kept: Ints
    """The row behind those of the words for each bucket, -1 for none; empty where every bucket has its own."""
    held: Bytes
    """A bit for each bucket, 1 where it has a row."""
    pruned: bool
    table: Ints
    sums: npt.NDArray[np.float32]
    counts: Ints

    @classmethod
    def of(cls, names: Bytes, ends: Offsets, vectors: Floats, shape: tuple[int, int, int, int], word_ngrams: int,
           kept: Ints | None) -> Vocabulary:  # fmt: skip
        """With its table made, and the vectors of each word added up."""
        size = 1 << max(4, (2 * len(ends)).bit_length())
        table = np.full(size, -1, np.int32)
        _fill(table, names, ends)
        rows = np.zeros(0, np.int32) if kept is None else kept
        held = np.packbits(rows >= 0, bitorder="little")
        words, counts = shape[0], np.ones(shape[0], np.int32)
        none_left = kept is not None and not (kept >= 0).any()
        if shape[3] <= 0 or none_left:
            sums = vectors[:words]
        else:
            sums = np.empty((words, vectors.shape[1]), np.float32)
            _sum_words(names, ends, shape, rows, held, vectors, _END_OF_LINE, sums, counts)
            sums.flags.writeable = False  # as ``vectors``: kernels are compiled once for either
        return cls(names, ends, vectors, shape, word_ngrams, rows, held, none_left, table, sums, counts)


def sum_vectors(texts: pa.LargeStringArray, of: Vocabulary) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """For each text the sum of the vectors of what is in it, and how many these are: float64 (n, dim), int64 (n,)."""
    data, offsets = utf8(texts)
    hidden = np.zeros((len(texts), of.vectors.shape[1]))
    found = np.zeros(len(texts), np.int64)
    hashed = int(of.shape[3] > 0 and not of.pruned)
    grams = int(of.word_ngrams > 1 and not of.pruned)
    last = np.zeros(_MOST_WORDS, np.int64)
    _walk(data, offsets, of.table, of.names, of.ends, of.shape, max(of.word_ngrams, 1), hashed, grams, of.kept,
          of.held, of.vectors, of.sums, of.counts, _LABEL_PREFIX, _END_OF_LINE, last, hidden, found)  # fmt: skip
    return hidden, found


# -- from vectors to probabilities ---------------------------------------------------------------------------


@nb.njit(nogil=True, cache=True, _nrt=False)
def _answer(
    hidden: Any, counts: Any, output: Floats, parents: Ints, rights: Bytes, loss: int, nodes: Any, out: Any
) -> None:
    labels = output.shape[0]
    for row in range(len(counts)):
        if counts[row] == 0:
            for k in range(labels):
                out[row, k] = 0.0
            continue
        largest = -math.inf
        for k in range(labels):
            dot = 0.0
            for d in range(output.shape[1]):
                dot += hidden[row, d] * output[k, d]
            out[row, k] = dot / counts[row]
            largest = max(largest, out[row, k])
        if loss == SOFTMAX:
            total = 0.0
            for k in range(labels):
                out[row, k] = math.exp(out[row, k] - largest)
                total += out[row, k]
            for k in range(labels):
                out[row, k] = min(out[row, k] / total + _ADDED, 1.0)
        elif loss == HIERARCHICAL:
            # From the root, the last node, down to the labels, the first ones; a node's vector is one of ``output``.
            nodes[2 * labels - 2] = 0.0
            for i in range(2 * labels - 3, -1, -1):
                up = parents[i]
                right = 1 / (1 + math.exp(-out[row, up - labels]))
                nodes[i] = nodes[up] + math.log((right if rights[i] else 1 - right) + _ADDED)
            for k in range(labels):
                out[row, k] = min(math.exp(nodes[k]), 1.0)
        else:
            for k in range(labels):
                out[row, k] = min(1 / (1 + math.exp(-out[row, k])) + _ADDED, 1.0)


@dataclass(frozen=True)
class Outputs:
    """The vectors of the labels, and the tree that they are leaves of where the loss is hierarchical."""

    vectors: Floats
    """Of shape (labels, dimensions)."""
    loss: int
    parents: Ints
    rights: Bytes

    @classmethod
    def of(cls, vectors: Floats, loss: int, counts: Sequence[int]) -> Outputs:
        """With the Huffman tree of the labels' counts, the two least counts joined first."""
        labels = len(counts)
        weights = [*counts, *[10**15] * (labels - 1)]
        parents, rights = np.full(2 * labels - 1, -1, np.int32), np.zeros(2 * labels - 1, np.uint8)
        leaf, node = labels - 1, labels
        for made in range(labels, 2 * labels - 1):
            joined = []
            for _ in range(2):
                if leaf >= 0 and weights[leaf] < weights[node]:
                    joined.append(leaf)
                    leaf -= 1
                else:
                    joined.append(node)
                    node += 1
            weights[made] = weights[joined[0]] + weights[joined[1]]
            parents[joined] = made
            rights[joined[1]] = 1
        return cls(vectors, loss, parents, rights)


def probabilities(texts: pa.LargeStringArray, of: Vocabulary, outputs: Outputs) -> npt.NDArray[np.float64]:
    """The probability of each label for each text, float64 of shape (n, labels); 0 for a text without a known word."""
    hidden, found = sum_vectors(texts, of)
    labels = len(outputs.vectors)
    out, nodes = np.empty((len(found), labels)), np.empty(2 * labels - 1)
    _answer(hidden, found, outputs.vectors, outputs.parents, outputs.rights, outputs.loss, nodes, out)
    return out
