"""Stable hashes, and randomness as a function of (seed, document id).

Nothing here depends on the process, the platform, the order of documents or ``PYTHONHASHSEED``: the same
id gets the same number today, tomorrow, on any worker and in any sharding. The hash is XXH3 (xxhash), 64
and 128 bits; it is not cryptographic.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

__all__ = ["document_id", "fingerprint", "gumbel", "hash64", "nth_word", "uniform"]


def document_id(text: str | None) -> str:
    """The id of a document that brings none: 32 hexadecimal digits of the hash of its text.

    The same text has the same id in any file, format, compression or sharding; exact copies share one id,
    so that a seeded split or sample never puts copies of a document on both sides. A null text has the id
    of the empty text.

    >>> document_id("a") == document_id("a") != document_id("b")
    True
    """
    return xxhash.xxh3_128_hexdigest((text or "").encode("utf-8", "surrogatepass"))


def fingerprint(data: Any) -> str:
    """32 hexadecimal digits that identify the bytes of ``data`` (bytes or any buffer)."""
    return xxhash.xxh3_128_hexdigest(data)


def hash64(ids: Iterable[object], seed: int = 0) -> npt.NDArray[np.uint64]:
    """One 64-bit hash per id, as ``uint64`` of shape ``(n,)``.

    An id is hashed as the UTF-8 bytes of its ``str``: the integer 7 and the string "7" are one id. ``None``
    counts as the empty string. ``seed`` is taken modulo 2**64.
    """
    digest = xxhash.xxh3_64_intdigest
    wrapped = seed & 0xFFFF_FFFF_FFFF_FFFF
    values = [digest(("" if i is None else str(i)).encode("utf-8", "surrogatepass"), wrapped) for i in ids]
    return np.array(values, dtype=np.uint64)


def uniform(ids: Iterable[object], seed: int = 0) -> npt.NDArray[np.float64]:
    """One number in [0, 1) per id, as ``float64`` of shape ``(n,)``, a function of (seed, id) alone.

    >>> bool((uniform(["a", "b"]) == uniform(["b", "a"])[::-1]).all())
    True
    """
    # 53 bits are what a float64 in [0, 1) can hold evenly.
    return (hash64(ids, seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def gumbel(ids: Iterable[object], seed: int = 0) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise per id, ``-log(-log(u))`` with ``u`` in (0, 1): a function of (seed, id) alone.

    Adding it to log weights and keeping the k largest samples k items without replacement in proportion to
    the weights (Kool, van Hoof and Welling 2019, arXiv:1903.06059).
    """
    # Half a step up: u is never 0, and 1 - 2**-54 rounds below 1, so both logarithms are finite.
    u = uniform(ids, seed) + 2.0**-54
    return -np.log(-np.log(np.minimum(u, 1.0 - 2.0**-53)))


def nth_word(keys: npt.NDArray[np.uint64], number: int, seed: int = 0) -> npt.NDArray[np.uint64]:
    """64 random bits per key, ``uint64`` of shape ``(n,)``: word ``number`` of the stream of (seed, key).

    For many numbers per document, where hashing the id again for each would be slow: the keys are hashes of ids
    (:func:`hash64`). SplitMix64 (Steele, Lea and Flood 2014) started at the key.
    """
    golden = 0x9E37_79B9_7F4A_7C15
    start = (int(hash64([number])[0]) ^ seed * golden) & 0xFFFF_FFFF_FFFF_FFFF
    z = keys + np.uint64(start)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return z ^ (z >> np.uint64(31))
