"""Small steps over UTF-8 bytes that several kernels take."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

from tamis.text.arrow import Bytes
from tamis.text.blocks import is64, white64
from tamis.text.bytes64 import lowest_bit

__all__ = ["before", "flags_at", "next_feed", "size_of", "stripped"]


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def flags_at(data: Bytes, i: int, table: npt.NDArray[np.uint8]) -> Any:
    """The flags of the character at ``i``, whatever its size."""
    byte = nb.int64(data[i])
    if byte < 0x80:
        return table[byte]
    if byte < 0xE0:
        return table[((byte & 31) << 6) | (data[i + 1] & 63)]
    if byte < 0xF0:
        return table[((byte & 15) << 12) | ((data[i + 1] & 63) << 6) | (data[i + 2] & 63)]
    point = ((byte & 7) << 18) | ((data[i + 1] & 63) << 12) | ((data[i + 2] & 63) << 6) | (data[i + 3] & 63)
    if point < 0x20000:
        return table[point]
    return nb.uint8(2 if point < 0x40000 else 0)  # Han letters


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def next_feed(data: Bytes, i: int, end: int) -> int:
    """Where the next line feed is, or ``end``."""
    while i + 64 <= len(data) and i < end:
        found = is64(data, i, 10)
        if found != 0:
            return min(end, i + lowest_bit(found))
        i += 64
    while i < end and data[i] != 10:
        i += 1
    return min(i, end)


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def before(data: Bytes, i: int) -> int:
    """Where the character that ends at ``i`` begins."""
    i -= 1
    while (data[i] & 0xC0) == 0x80:
        i -= 1
    return i


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def size_of(byte: Any) -> int:
    """Bytes of the character that begins with this byte."""
    return 1 if byte < 0x80 else (2 if byte < 0xE0 else (3 if byte < 0xF0 else 4))


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def stripped(data: Bytes, first: int, last: int, table: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """(begin, end) of a line without the white space around it; equal for a blank one."""
    while first < last and flags_at(data, first, table) & 1:
        step = 0
        if first + 64 <= len(data):
            filled = ~white64(data, first)  # the white space of ASCII at once
            step = 64 if filled == 0 else lowest_bit(filled)
        first = min(last, first + (step if step > 0 else size_of(data[first])))
    while first < last:
        final = before(data, last)
        if not flags_at(data, final, table) & 1:
            break
        last = final
    return first, last
