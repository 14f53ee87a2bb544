"""How much of a page of HTML is text that a reader sees."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.text.arrow import Bytes, Offsets, utf8

__all__ = ["count_visible"]

_SCRIPT = np.frombuffer(b"script", dtype=np.uint8)
_STYLE = np.frombuffer(b"style", dtype=np.uint8)


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _is_letter(byte: Any) -> bool:
    return bool(97 <= (byte | 32) <= 122)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _is_named(data: Bytes, i: int, end: int, name: Bytes) -> bool:
    """Whether the name of the tag at ``i`` is this one, in any case."""
    if i + len(name) > end:
        return False
    for k in range(len(name)):
        if (data[i + k] | 32) != name[k]:
            return False
    stop = i + len(name)
    return bool(stop == end or data[stop] <= 32 or data[stop] == 62 or data[stop] == 47)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _tag_end(data: Bytes, i: int, end: int) -> int:
    """Behind the ">" of the tag that begins at ``i``, which none within quotation marks of an attribute is."""
    quote = 0
    i += 1
    while i < end:
        byte = nb.int64(data[i])
        if quote:
            if byte == quote:
                quote = 0
        elif byte == 62:
            return i + 1
        elif (byte == 34 or byte == 39) and data[i - 1] == 61:
            quote = byte
        i += 1
    return end


@nb.njit(nogil=True, cache=True, _nrt=False)
def _comment_end(data: Bytes, i: int, end: int) -> int:
    i += 4
    while i + 2 < end:
        if data[i] == 45 and data[i + 1] == 45 and data[i + 2] == 62:
            return i + 3
        i += 1
    return end


@nb.njit(nogil=True, cache=True, _nrt=False)
def _entity_end(data: Bytes, i: int, end: int) -> int:
    """Behind the ";" of the entity that begins at ``i``, or ``i + 1`` where none does."""
    k = i + 1
    while k < end and k - i < 32 and (_is_letter(data[k]) or 48 <= data[k] <= 57 or (data[k] == 35 and k == i + 1)):
        k += 1
    return k + 1 if k < end and data[k] == 59 and k > i + 1 else i + 1


@nb.njit(nogil=True, cache=True, _nrt=False)
def _count(data: Bytes, offsets: Offsets, script: Bytes, style: Bytes, counts: npt.NDArray[np.int64]) -> None:
    for row in range(len(counts)):
        i, end = offsets[row], offsets[row + 1]
        n = 0
        space = True  # white space at the beginning is not seen
        while i < end:
            byte = data[i]
            if byte == 60 and i + 1 < end:
                after = data[i + 1]
                if after == 33 and i + 3 < end and data[i + 2] == 45 and data[i + 3] == 45:
                    i = _comment_end(data, i, end)
                    continue
                if _is_letter(after) or after == 47 or after == 33 or after == 63:
                    hidden = 0
                    if _is_named(data, i + 1, end, script):
                        hidden = 1
                    elif _is_named(data, i + 1, end, style):
                        hidden = 2
                    i = _tag_end(data, i, end)
                    while hidden and i < end:
                        closes = data[i] == 60 and i + 1 < end and data[i + 1] == 47
                        if closes and _is_named(data, i + 2, end, script if hidden == 1 else style):
                            break
                        i += 1
                    continue
            if byte == 38:
                i = _entity_end(data, i, end)
                n += 1
                space = False
                continue
            i += 1
            if byte == 32 or 9 <= byte <= 13:
                n += not space
                space = True
            elif (byte & 0xC0) != 0x80:
                n += 1
                space = False
        counts[row] = n - (space and n > 0)


def count_visible(texts: pa.LargeStringArray) -> npt.NDArray[np.int64]:
    r"""Characters of each page that are text, ``int64`` of shape (n,); 0 for an empty text.

    Not counted are tags, comments, declarations, and what ``script`` and ``style`` hold. An entity is one character; a
    run of white space is one, and none at the beginning and the end.

    >>> count_visible(pa.array(["<p class='a>b'>A &amp;\n   B</p><script>x</script>", "1 < 2"], pa.large_string()))
    array([5, 5])
    """
    data, offsets = utf8(texts)
    counts = np.empty(len(texts), dtype=np.int64)
    _count(data, offsets, _SCRIPT, _STYLE, counts)
    return counts
