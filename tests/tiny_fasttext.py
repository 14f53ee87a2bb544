"""Writes fastText models of a few words, whose answers can be worked out by hand."""

import struct
from pathlib import Path

import numpy as np

SOFTMAX, HIERARCHICAL, ONE_VS_ALL = 3, 1, 4
HQ = {"__label__hq": (1, 0), "__label__cc": (-1, 0)}
"""With words that are (x, 0) on average, the probability of the first is 1 / (1 + exp(-2 x))."""
WORDS = {"good": (4, 0), "bad": (-4, 0), "fair": (0, 0), "雨": (2, 0), "дождь": (-2, 0)}
LANGUAGES = {"__label__de": (4, 0, 0), "__label__ceb": (0, 4, 0), "__label__zh": (0, 0, 4)}
SPOKEN = {"und": (1, 0, 0), "ug": (0, 1, 0), "的": (0, 0, 1), "oder": (1, 0, 0)}


def model_bytes(
    words, labels, *, loss=SOFTMAX, quantised=False, buckets=(), kept=None, ngrams=(1, 0, 0), version=12, norms=False
):
    """A model of vectors: ``words`` and ``labels`` by name, and ``buckets`` of n-grams.

    ``ngrams`` are the longest n-gram of words, and the shortest and longest of characters. ``kept`` names the buckets
    that were not taken out, in the order of their rows; ``norms`` divides quantised rows into a length and a direction.
    """
    dim = len(next(iter(labels.values())))
    settings = [dim, 5, 5, 1, 5, ngrams[0], loss, 3, len(buckets), *ngrams[1:], 100]
    out = [struct.pack("<ii12id", 793712314, version, *settings, 1e-4)]
    rows = buckets if kept is None else [buckets[k] for k in kept]
    out.append(
        struct.pack("<iiiqq", len(words) + len(labels), len(words), len(labels), 100, -1 if kept is None else len(kept))
    )
    for kind, names in enumerate((words, labels)):
        for number, name in enumerate(names):
            out.append(name.encode() + b"\0" + struct.pack("<qb", 50 - number, kind))
    out += [struct.pack("<ii", bucket, row) for row, bucket in enumerate(kept or ())]
    out += [struct.pack("<B", quantised), _matrix([*words.values(), *rows], dim, quantised, norms)]
    out += [struct.pack("<B", quantised), _matrix(list(labels.values()), dim, quantised, norms=False)]
    return b"".join(out)


def _matrix(rows, dim, quantised, norms):
    values = np.array(rows, "<f4").reshape(len(rows), dim)
    if not quantised:
        return struct.pack("<qq", *values.shape) + values.tobytes()
    # One part as wide as a vector: the code of a row is the row's number.
    codes = bytes(range(len(rows)))
    head = struct.pack("<Bqqi", norms, len(rows), dim, len(rows)) + codes
    lengths = 1 + np.arange(len(rows)) % 3 if norms else np.ones(len(rows))
    tail = codes + _quantiser(lengths[:, None]) if norms else b""
    return head + _quantiser(values / lengths[:, None]) + tail


def _quantiser(values):
    dim = values.shape[1]
    centroids = np.zeros((256, dim), "<f4")
    centroids[: len(values)] = values
    return struct.pack("<4i", dim, 1, dim, dim) + centroids.tobytes()


def write_model(path, words=WORDS, labels=HQ, **options):
    """The path, with the model in it."""
    Path(path).write_bytes(model_bytes(words, labels, **options))
    return Path(path)
