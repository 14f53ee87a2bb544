"""One text field out of JSON lines, without building the other fields: 2 to 3 times as fast as a general parser.

Strict and modest: a line is taken only if it is one JSON object (RFC 8259) beyond doubt, in valid UTF-8, with the
field a string or null. Of anything else (bad lines, escaped keys, nesting below 60, numbers of 300 digits, three-digit
exponents) it says "ask the general parser", which also knows what to say of a bad line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.text.arrow import Bytes, Offsets
from tamis.text.bytes64 import has_byte, has_less, load64, lowest, store64

__all__ = ["text_of_lines"]

_DEPTH = 60


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _special(word: Any) -> Any:
    """Marks on a quote, a backslash or a control character; the lowest one is exact."""
    return has_byte(word, 34) | has_byte(word, 92) | has_less(word, 32)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _blanks(data: Bytes, i: int, end: int) -> int:
    while i < end and (data[i] == 32 or data[i] == 9 or data[i] == 13 or data[i] == 10):
        i += 1
    return i


@nb.njit(nogil=True, cache=True, _nrt=False)
def _hex4(data: Bytes, i: int, end: int) -> int:
    """The number that four hexadecimal digits at ``i`` write, -1 where they do not."""
    if i + 4 > end:
        return -1
    value = 0
    for k in range(4):
        c = nb.int64(data[i + k])
        if 48 <= c <= 57:
            digit = c - 48
        elif 97 <= c | 32 <= 102:
            digit = (c | 32) - 87
        else:
            return -1
        value = value * 16 + digit
    return value


@nb.njit(nogil=True, cache=True, _nrt=False)
def _escape(data: Bytes, i: int, end: int) -> tuple[int, int]:
    """(character, position after it) of the escape whose backslash is at ``i``; (-1, i) where it is none."""
    if i + 1 >= end:
        return -1, i
    c = data[i + 1]
    if c == 110:
        return 10, i + 2
    if c == 34 or c == 92 or c == 47:
        return nb.int64(c), i + 2
    if c == 116:
        return 9, i + 2
    if c == 114:
        return 13, i + 2
    if c == 98:
        return 8, i + 2
    if c == 102:
        return 12, i + 2
    if c != 117:
        return -1, i
    point = _hex4(data, i + 2, end)
    if point < 0xD800 or point > 0xDFFF:
        return point, i + 6
    if point > 0xDBFF or i + 12 > end or data[i + 6] != 92 or data[i + 7] != 117:
        return -1, i
    low = _hex4(data, i + 8, end)
    if low < 0xDC00 or low > 0xDFFF:
        return -1, i
    return 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00), i + 12


@nb.njit(nogil=True, cache=True, _nrt=False)
def _skip_string(data: Bytes, i: int, end: int) -> int:
    """The position after the string that opens at ``i``, -1 where it is none."""
    i += 1
    last = min(end, len(data)) - 8
    while True:
        while i <= last:
            marks = _special(load64(data, i))
            if marks != 0:
                i += lowest(marks)
                break
            i += 8
        if i >= end:
            return -1
        c = data[i]
        if c == 34:
            return i + 1
        if c < 32:
            return -1
        if c == 92:
            point, i = _escape(data, i, end)
            if point < 0:
                return -1
        else:
            i += 1


@nb.njit(nogil=True, cache=True, _nrt=False)
def _put(out: Bytes, p: int, point: int) -> int:
    """Write a character as UTF-8."""
    if point < 0x80:
        out[p] = point
        return p + 1
    if point < 0x800:
        out[p] = 0xC0 | (point >> 6)
        out[p + 1] = 0x80 | (point & 63)
        return p + 2
    if point < 0x10000:
        out[p] = 0xE0 | (point >> 12)
        out[p + 1] = 0x80 | ((point >> 6) & 63)
        out[p + 2] = 0x80 | (point & 63)
        return p + 3
    out[p] = 0xF0 | (point >> 18)
    out[p + 1] = 0x80 | ((point >> 12) & 63)
    out[p + 2] = 0x80 | ((point >> 6) & 63)
    out[p + 3] = 0x80 | (point & 63)
    return p + 4


@nb.njit(nogil=True, cache=True, _nrt=False)
def _copy_string(data: Bytes, i: int, end: int, out: Bytes, p: int) -> tuple[int, int]:
    """Write the characters of the string that opens at ``i`` to ``out`` from ``p`` on; (-1, p) where it is none.

    ``out`` needs 8 bytes more than the string.
    """
    i += 1
    last = min(end, len(data)) - 8
    while True:
        while i <= last:
            word = load64(data, i)
            store64(out, p, word)
            marks = _special(word)
            if marks != 0:
                size = lowest(marks)
                i += size
                p += size
                break
            i += 8
            p += 8
        if i >= end:
            return -1, p
        c = data[i]
        if c == 34:
            return i + 1, p
        if c < 32:
            return -1, p
        if c == 92:
            point, i = _escape(data, i, end)
            if point < 0:
                return -1, p
            p = _put(out, p, point)
        else:
            out[p] = c
            p += 1
            i += 1


@nb.njit(nogil=True, cache=True, _nrt=False)
def _digits(data: Bytes, i: int, end: int) -> int:
    while i < end and 48 <= data[i] <= 57:
        i += 1
    return i


@nb.njit(nogil=True, cache=True, _nrt=False)
def _number(data: Bytes, i: int, end: int) -> int:
    """The position after the number at ``i``, -1 where it is none or its size is in doubt."""
    begin = i
    if data[i] == 45:
        i += 1
    stop = _digits(data, i, end)
    if stop == i or (data[i] == 48 and stop > i + 1):
        return -1
    i = stop
    if i < end and data[i] == 46:
        stop = _digits(data, i + 1, end)
        if stop == i + 1:
            return -1
        i = stop
    if i < end and (data[i] == 101 or data[i] == 69):
        i += 1
        if i < end and (data[i] == 43 or data[i] == 45):
            i += 1
        stop = _digits(data, i, end)
        if stop == i or stop > i + 2:
            return -1
        i = stop
    return i if i - begin < 300 else -1


@nb.njit(nogil=True, cache=True, _nrt=False)
def _word(data: Bytes, i: int, end: int) -> int:
    """The position after ``true``, ``false`` or ``null``, -1 where it is none of them."""
    if i + 4 <= end:
        a, b, c, d = data[i], data[i + 1], data[i + 2], data[i + 3]
        if (a == 116 and b == 114 and c == 117 and d == 101) or (a == 110 and b == 117 and c == 108 and d == 108):
            return i + 4
        if a == 102 and b == 97 and c == 108 and d == 115 and i + 5 <= end and data[i + 4] == 101:
            return i + 5
    return -1


@nb.njit(nogil=True, cache=True, _nrt=False)
def _key(data: Bytes, i: int, end: int) -> int:
    """The position of the value of the member whose name opens at ``i``, -1 where there is none."""
    if i >= end or data[i] != 34:
        return -1
    i = _skip_string(data, i, end)
    if i < 0:
        return -1
    i = _blanks(data, i, end)
    if i >= end or data[i] != 58:
        return -1
    return _blanks(data, i + 1, end)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _skip_value(data: Bytes, i: int, end: int) -> int:
    """The position after the value at ``i``, -1 where it is none or in doubt."""
    depth = 0
    objects = nb.uint64(0)  # the lowest bit says whether the innermost container is an object
    one = nb.uint64(1)
    while True:
        if i >= end:
            return -1
        c = data[i]
        if c == 123 or c == 91:
            i = _blanks(data, i + 1, end)
            if i >= end:
                return -1
            if data[i] == c + 2:  # } is { + 2, and ] is [ + 2
                i += 1
            else:
                if depth == _DEPTH:
                    return -1
                depth += 1
                objects = (objects << one) | (one if c == 123 else nb.uint64(0))
                if c == 123:
                    i = _key(data, i, end)
                    if i < 0:
                        return -1
                continue
        elif c == 34:
            i = _skip_string(data, i, end)
        elif c == 45 or 48 <= c <= 57:
            i = _number(data, i, end)
        else:
            i = _word(data, i, end)
        if i < 0:
            return -1
        while True:
            if depth == 0:
                return i
            i = _blanks(data, i, end)
            if i >= end:
                return -1
            inside = objects & one
            if data[i] == 44:
                i = _blanks(data, i + 1, end)
                if inside:
                    i = _key(data, i, end)
                    if i < 0:
                        return -1
                break
            if data[i] != (125 if inside else 93):
                return -1
            depth -= 1
            objects >>= one
            i += 1


@nb.njit(nogil=True, cache=True, _nrt=False)
def _same(data: Bytes, start: int, stop: int, key: Bytes, first: int, last: int) -> bool:
    if stop - start != last - first:
        return False
    for k in range(stop - start):
        if data[start + k] != key[first + k]:
            return False
    return True


@nb.njit(nogil=True, cache=True, _nrt=False)
def _line(
    data: Bytes, i: int, end: int, keys: Bytes, bounds: Offsets, out: Bytes, p: int, seen: npt.NDArray[np.bool_]
) -> int:
    """Where the text of one line ends in ``out``; -1 where the line is in doubt, -2 where its text is null."""
    begin = p
    found = -1
    if i >= end or data[i] != 123:
        return -1
    i = _blanks(data, i + 1, end)
    if i < end and data[i] == 125:
        return -1
    while True:
        name = i + 1
        value = _key(data, i, end)
        if value < 0 or value >= end:
            return -1
        stop = name
        while data[stop] != 34:
            if data[stop] == 92:
                return -1
            stop += 1
        for k in range(1, len(bounds) - 1):
            if _same(data, name, stop, keys, bounds[k], bounds[k + 1]):
                seen[k - 1] = True
        if _same(data, name, stop, keys, bounds[0], bounds[1]):
            if data[value] == 34:
                i, found = _copy_string(data, value, end, out, begin)
            elif data[value] == 110:
                i, found = _word(data, value, end), -2
            else:
                return -1
        else:
            i = _skip_value(data, value, end)
        if i < 0:
            return -1
        i = _blanks(data, i, end)
        if i >= end:
            return -1
        if data[i] == 125:
            return found if i + 1 == end else -1
        if data[i] != 44:
            return -1
        i = _blanks(data, i + 1, end)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _texts(
    data: Bytes,
    starts: Offsets,
    ends: Offsets,
    keys: Bytes,
    bounds: Offsets,
    out: Bytes,
    offsets: Offsets,
    null: npt.NDArray[np.bool_],
    seen: npt.NDArray[np.bool_],
) -> bool:
    p = 0
    offsets[0] = 0
    for row in range(len(starts)):
        after = _line(data, starts[row], ends[row], keys, bounds, out, p, seen)
        if after == -1:
            return False
        null[row] = after == -2
        if after >= 0:
            p = after
        offsets[row + 1] = p
    return True


def text_of_lines(
    data: bytes | bytearray, starts: Offsets, ends: Offsets, field: str, others: Sequence[str] = ()
) -> tuple[pa.LargeStringArray, frozenset[str]] | None:
    """The text field of the JSON objects ``data[starts[r]:ends[r]]``, and which ``others`` some object holds.

    ``None`` where one of the lines is in doubt: ask the general parser then.
    """
    view = np.frombuffer(data, dtype=np.uint8)
    whole = pa.Array.from_buffers(
        pa.large_binary(), 1, [None, pa.py_buffer(np.array([0, len(data)], dtype=np.int64)), pa.py_buffer(data)]
    )
    try:
        whole.cast(pa.large_string())  # checks that it is UTF-8, 2 GB/s and up
    except pa.ArrowInvalid:
        return None
    names = [name.encode() for name in (field, *others)]
    bounds = np.cumsum([0, *map(len, names)])
    keys = np.frombuffer(b"".join(names) or b"\0", dtype=np.uint8)
    out = np.empty(len(data) + 8, dtype=np.uint8)
    offsets = np.empty(len(starts) + 1, dtype=np.int64)
    null = np.empty(len(starts), dtype=np.bool_)
    seen = np.zeros(len(others), dtype=np.bool_)
    if not _texts(view, starts, ends, keys, bounds, out, offsets, null, seen):
        return None
    valid = pa.array(~null).buffers()[1] if null.any() else None
    texts = pa.Array.from_buffers(
        pa.large_string(), len(starts), [valid, pa.py_buffer(offsets), pa.py_buffer(out[: offsets[-1]])]
    )
    return texts, frozenset(name for name, there in zip(others, seen, strict=True) if there)
