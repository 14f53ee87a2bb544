"""How many characters of a text belong to a set."""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.text.arrow import Bytes, Offsets, utf8

__all__ = ["CHARACTERS", "count_members"]

CHARACTERS = 0x110000
"""Code points that there are."""


@nb.njit(nogil=True, cache=True, _nrt=False)
def _count(data: Bytes, offsets: Offsets, members: npt.NDArray[np.bool_], out: npt.NDArray[np.int64]) -> None:
    for row in range(len(out)):
        i, end = offsets[row], offsets[row + 1]
        found = characters = 0
        while i < end:
            byte = nb.int64(data[i])
            if byte < 0x80:
                point, size = byte, 1
            elif byte < 0xE0:
                point, size = ((byte & 31) << 6) | (data[i + 1] & 63), 2
            elif byte < 0xF0:
                point, size = ((byte & 15) << 12) | ((data[i + 1] & 63) << 6) | (data[i + 2] & 63), 3
            else:
                point = ((byte & 7) << 18) | ((data[i + 1] & 63) << 12) | ((data[i + 2] & 63) << 6) | (data[i + 3] & 63)
                size = 4
            found += members[point]
            characters += 1
            i += size
        out[row, 0], out[row, 1] = found, characters


def count_members(
    texts: pa.LargeStringArray, members: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(characters of the set, characters) of each text, ``int64`` of shape (n,); (0, 0) for an empty text.

    ``members`` says for every code point whether it is of the set, bool of shape (0x110000,).
    """
    data, offsets = utf8(texts)
    out = np.empty((len(texts), 2), dtype=np.int64)
    _count(data, offsets, members, out)
    return out[:, 0], out[:, 1]
