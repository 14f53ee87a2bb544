"""Which texts hold nothing but plain ASCII: what needs no repair."""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.text.arrow import Bytes, Offsets, utf8
from tamis.text.bytes64 import HIGHS, ONES, has_byte, load64

__all__ = ["is_plain"]


@nb.njit(nogil=True, cache=True, _nrt=False)
def _plain(data: Bytes, offsets: Offsets, plain: npt.NDArray[np.bool_]) -> None:
    last = len(data) - 8
    for row in range(len(plain)):
        i, end = offsets[row], offsets[row + 1]
        good = True
        entity = False  # an "&" has been seen: a ";" after it may end an entity
        while good and i < end:
            if i <= last and i + 8 <= end and not entity:
                word = load64(data, i)
                # Bytes from 32 to 126 but "&", or not: adding 96 sets the high bit from 32 on, adding 1 that of 127.
                printable = (word + ONES * nb.uint64(0x60)) & ~(word + ONES) & ~word & HIGHS
                if printable == HIGHS and has_byte(word, 38) == 0:
                    i += 8
                    continue
            byte = data[i]
            if byte == 38:
                entity = True
            elif (byte == 59 and entity) or not (32 <= byte < 127 or byte == 9 or byte == 10):
                good = False
            i += 1
        plain[row] = good


def is_plain(texts: pa.LargeStringArray) -> npt.NDArray[np.bool_]:
    """Whether each text is printable ASCII, tabs and line feeds, without "&" before a ";"; bool of shape (n,).

    An empty or null text is plain.
    """
    data, offsets = utf8(texts)
    plain = np.empty(len(texts), dtype=np.bool_)
    _plain(data, offsets, plain)
    return plain
