"""What was found about an array of texts, kept until another array is asked about.

Several filters in a row ask about the same texts; what one walk finds serves all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import xxhash

__all__ = ["is_kept", "kept_for"]

Found = TypeVar("Found")
_kept = threading.local()


def _found_for(texts: pa.LargeStringArray) -> dict[tuple[Any, ...], Any]:
    """What is kept for these texts; everything else is forgotten.

    An array is known by its memory, its bounds and a hash of its offsets. The memory is held, so that no other array
    can come to lie there.
    """
    _, offsets, data = texts.buffers()
    where = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    place = (
        0 if data is None else data.address,
        len(texts),
        texts.null_count,
        xxhash.xxh3_64_intdigest(where.tobytes()),
    )
    if getattr(_kept, "place", None) != place:
        _kept.place, _kept.memory, _kept.found = place, data, {}
    found: dict[tuple[Any, ...], Any] = _kept.found
    return found


def is_kept(texts: pa.LargeStringArray, what: tuple[Any, ...]) -> bool:
    """Whether it has been found for these texts already."""
    return what in _found_for(texts)


def kept_for(texts: pa.LargeStringArray, what: tuple[Any, ...], find: Callable[[], Found]) -> Found:
    """What ``find`` gives for these texts, found once for the array that was asked about last.

    ``what`` names what is found and must say everything that it depends on besides the texts.
    """
    found: dict[tuple[Any, ...], Found] = _found_for(texts)
    if what not in found:
        found[what] = find()
    return found[what]
