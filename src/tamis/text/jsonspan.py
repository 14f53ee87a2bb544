"""Where the values of a top-level field lie in JSON lines: lets a writer replace one value and copy the rest.

The lines must be valid JSON objects; a parser has seen them before.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from tamis.text.bytes64 import has_byte, load64

__all__ = ["value_spans"]

_QUOTE, _BACKSLASH, _OPEN, _CLOSE = 34, 92, 123, 125


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _blank(byte: int) -> bool:
    return byte == 32 or byte == 9 or byte == 10 or byte == 13


@nb.njit(nogil=True, cache=True)
def _after_string(data: npt.NDArray[np.uint8], i: int) -> int:
    """The position after the string that opens at ``i``."""
    i += 1
    last = len(data) - 8
    while True:
        while i <= last:
            word = load64(data, i)
            if has_byte(word, _QUOTE) | has_byte(word, _BACKSLASH):
                break
            i += 8
        while data[i] != _QUOTE and data[i] != _BACKSLASH:
            i += 1
        if data[i] == _QUOTE:
            return i + 1
        i += 2


@nb.njit(nogil=True, cache=True)
def _after_value(data: npt.NDArray[np.uint8], i: int) -> int:
    """The position after the value that begins at ``i``."""
    first = data[i]
    if first == _QUOTE:
        return _after_string(data, i)
    if first == _OPEN or first == 91:
        depth = 0
        while True:
            byte = data[i]
            if byte == _QUOTE:
                i = _after_string(data, i)
                continue
            if byte == _OPEN or byte == 91:
                depth += 1
            elif byte == _CLOSE or byte == 93:
                depth -= 1
                if depth == 0:
                    return int(i + 1)
            i += 1
    while not (data[i] == 44 or data[i] == _CLOSE or _blank(data[i])):
        i += 1
    return i


@nb.njit(nogil=True, cache=True)
def _hex4(data: npt.NDArray[np.uint8], i: int) -> int:
    """The number that the four hexadecimal digits at ``i`` write."""
    value = 0
    for k in range(i, i + 4):
        digit = int(data[k]) | 32
        value = value * 16 + (digit - 87 if digit > 57 else digit - 48)
    return value


@nb.njit(nogil=True, cache=True)
def _utf8_size(code: int) -> int:
    return 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4


@nb.njit(nogil=True, cache=True)
def _utf8_byte(code: int, k: int) -> int:
    """Byte ``k`` of a code point in UTF-8."""
    if code < 0x80:
        return code
    more = _utf8_size(code) - 1
    if k == 0:
        return ((0xFF00 >> (more + 1)) & 0xFF) | (code >> (6 * more))
    return 0x80 | ((code >> (6 * (more - k))) & 0x3F)


@nb.njit(nogil=True, cache=True)
def _spells(data: npt.NDArray[np.uint8], i: int, end: int, key: npt.NDArray[np.uint8]) -> bool:
    """Whether the inside of a JSON string, escapes and all, is the text ``key``."""
    if i < end and data[i] != _BACKSLASH and (len(key) == 0 or data[i] != key[0]):
        return False  # most keys
    at = 0
    while i < end:
        if data[i] != _BACKSLASH:
            if at == len(key) or key[at] != data[i]:
                return False
            i += 1
            at += 1
        else:
            code = int(data[i + 1])
            i += 2
            if code == 117:  # \uXXXX
                code = _hex4(data, i)
                i += 4
                if 0xD800 <= code < 0xDC00:  # a pair stands for one character
                    code = 0x10000 + ((code - 0xD800) << 10) + (_hex4(data, i + 2) - 0xDC00)
                    i += 6
            elif code == 98:
                code = 8
            elif code == 102:
                code = 12
            elif code == 110:
                code = 10
            elif code == 114:
                code = 13
            elif code == 116:
                code = 9
            size = _utf8_size(code)
            if at + size > len(key):
                return False
            for k in range(size):
                if key[at + k] != _utf8_byte(code, k):
                    return False
            at += size
    return at == len(key)


@nb.njit(nogil=True, cache=True)
def _spans(
    data: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    key: npt.NDArray[np.uint8],
    spans: npt.NDArray[np.int64],
) -> None:
    for row in range(len(starts)):
        i = starts[row] + 1
        start, end = -1, -1
        while True:
            while _blank(data[i]) or data[i] == 44:
                i += 1
            if data[i] == _CLOSE:
                break
            name = i + 1
            i = _after_string(data, i)
            # Spelled with escapes it is longer than the text.
            same = i - 1 - name >= len(key) and _spells(data, name, i - 1, key)
            while data[i] != 58:
                i += 1
            i += 1
            while _blank(data[i]):
                i += 1
            begin = i
            i = _after_value(data, i)
            if same:
                start, end = begin, i
        spans[row, 0] = start
        spans[row, 1] = end


def value_spans(data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], key: bytes) -> npt.NDArray[np.int64]:
    """For each JSON object that begins at ``data[starts[r]]``: where the value of its member ``key`` lies.

    ``key`` is the name in UTF-8, however the lines spell it. Returns ``int64`` of shape (rows, 2): start and end of
    the value of the last top-level member of that name, -1 where there is none.
    """
    spans = np.empty((len(starts), 2), dtype=np.int64)
    _spans(data, starts, np.frombuffer(key, dtype=np.uint8), spans)
    return spans
