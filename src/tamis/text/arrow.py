"""Arrow text columns as the plain arrays that kernels walk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Bytes", "Offsets", "utf8"]

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


def utf8(texts: pa.LargeStringArray) -> tuple[Bytes, Offsets]:
    """The UTF-8 bytes and the offsets of the texts: text i is ``data[offsets[i]:offsets[i + 1]]``.

    Returns ``uint8`` of any length and ``int64`` of shape (n + 1,). A null text is an empty one. Nothing is copied
    unless a null hides bytes.
    """
    if texts.null_count:
        # Arrow leaves open what a null's offsets span; mostly nothing.
        texts = pc.fill_null(texts, "")
    _, offsets, data = texts.buffers()
    where = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if not len(where):
        where = np.zeros(1, dtype=np.int64)
    found = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, dtype=np.uint8)
    return found, where
