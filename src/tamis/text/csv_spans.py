"""Where the rows and fields of CSV begin and end (RFC 4180, with what Python's ``csv`` module reads besides).

A field is quoted where its first character is a quotation mark; inside, two marks stand for one, and delimiters and
line ends are text. A quotation mark in a field that is not quoted is text. Rows end at LF, CR LF or CR.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

from tamis.text.arrow import Bytes, Offsets
from tamis.text.bytes64 import has_byte, load64

__all__ = ["BAD_QUOTES", "OPEN_QUOTE", "Spans", "csv_spans"]

BAD_QUOTES = 1
"""Code of a row in which something follows a closing quotation mark that is neither delimiter nor line end."""
OPEN_QUOTE = 2
"""Code of a row whose quotation mark is never closed."""
_AT_ONCE = 4096
"""Rows that one call finds: their places fit a processor's cache."""
_QUOTE, _LF, _CR = 34, 10, 13

Flags = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Spans:
    """The rows found in a block."""

    starts: Offsets
    """Where each field begins, behind its quotation mark: int64 of shape (rows, width)."""
    ends: Offsets
    """Where each field ends; same shape."""
    doubled: npt.NDArray[np.uint8]
    """Whether two quotation marks stand for one in a field; same shape."""
    rows: Offsets
    """(begin, end without the line end, fields, code) of each row: int64 of shape (rows, 4). Code 0: it is well."""
    position: int
    """Where the first row begins that was not looked at, or whose end is not known."""
    full: bool
    """Whether there is more to find in the block."""


@nb.njit(nogil=True, cache=True, _nrt=False)
def _line_end(data: Bytes, i: int) -> int:
    while i < len(data) and data[i] != _LF and data[i] != _CR:
        i += 1
    return i


@nb.njit(nogil=True, cache=True, _nrt=False)
def _after(data: Bytes, i: int) -> int:
    """The position after the line end at ``i``."""
    if i < len(data) and data[i] == _CR and i + 1 < len(data) and data[i + 1] == _LF:
        return i + 2
    return min(i + 1, len(data))


@nb.njit(nogil=True, cache=True, _nrt=False)
def _find(
    data: Bytes, at: int, until: int, delimiter: int, starts: Offsets, ends: Offsets, doubled: Flags, rows: Offsets
) -> tuple[int, int]:
    """Fill the arrays; returns (rows found, position of the first row that is not among them).

    ``until`` is 1 where the file ends with the data, else 0.
    """
    final = until == 1
    size = len(data)
    width = starts.shape[1]
    found = 0
    while found < len(rows) and at < size:
        begin = at
        i = at
        fields = 0
        code = 0
        over = False  # whether the row's end is known
        while True:  # one field
            twice = 0
            if i < size and data[i] == _QUOTE:
                i += 1
                start = i
                while True:
                    while i + 8 <= size and has_byte(load64(data, i), _QUOTE) == 0:
                        i += 8
                    while i < size and data[i] != _QUOTE:
                        i += 1
                    if i + 1 < size and data[i] == _QUOTE and data[i + 1] == _QUOTE:
                        twice = 1
                        i += 2
                        continue
                    break
                if i >= size:
                    code = OPEN_QUOTE
                    break
                end = i
                i += 1
                if i < size and data[i] != delimiter and data[i] != _LF and data[i] != _CR:
                    code = BAD_QUOTES
                    break
            else:
                start = i
                while i < size and data[i] != delimiter and data[i] != _LF and data[i] != _CR:
                    i += 1
                end = i
            if fields < width:
                starts[found, fields] = start
                ends[found, fields] = end
                doubled[found, fields] = twice
            fields += 1
            if i < size and data[i] == delimiter:
                i += 1
                continue
            over = i < size and (data[i] == _LF or i + 1 < size or final)
            break
        if code == OPEN_QUOTE and not final:
            break
        if code == 0 and not over and not final:
            break
        if code != 0:  # a row with a wrong quotation mark costs its first line
            i = _line_end(data, begin)
            if not final and (i >= size or (data[i] == _CR and i + 1 >= size)):
                break
        at = _after(data, i)
        if code == 0 and i == begin:
            continue  # a blank line
        rows[found, 0] = begin
        rows[found, 1] = i
        rows[found, 2] = fields
        rows[found, 3] = code
        found += 1
    return found, at


def csv_spans(
    data: bytes | bytearray, at: int, *, final: bool, delimiter: str, width: int, most: int = _AT_ONCE
) -> Spans:
    """The rows of a block of CSV from a position on, as many as one call finds.

    Args:
        data: The block.
        at: Where a row begins.
        final: Whether the file ends with the block; otherwise a row that has no end yet is left for later.
        delimiter: What stands between fields, one ASCII character.
        width: Fields of a row whose places are kept; further ones are only counted.
        most: Rows to find at most.
    """
    most = max(1, min(most, (1 << 20) // width))
    starts = np.empty((most, width), dtype=np.int64)
    ends = np.empty((most, width), dtype=np.int64)
    doubled = np.empty((most, width), dtype=np.uint8)
    rows = np.empty((most, 4), dtype=np.int64)
    found, position = _find(np.frombuffer(data, np.uint8), at, int(final), ord(delimiter), starts, ends, doubled, rows)
    return Spans(starts[:found], ends[:found], doubled[:found], rows[:found], position, full=found == most)
