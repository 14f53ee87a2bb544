"""How long the lines of a text are."""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.text.arrow import Bytes, Offsets, utf8
from tamis.text.walk import next_feed

__all__ = ["longest_line"]


@nb.njit(nogil=True, cache=True, _nrt=False)
def _longest(data: Bytes, offsets: Offsets, out: npt.NDArray[np.int64]) -> None:
    for row in range(len(out)):
        at, end = offsets[row], offsets[row + 1]
        longest = 0
        while at < end:
            stop = next_feed(data, at, end)
            if stop - at > longest:
                characters = 0
                for i in range(at, stop):
                    characters += (data[i] & 0xC0) != 0x80
                longest = max(longest, characters)
            at = stop + 1
        out[row] = longest


def longest_line(texts: pa.LargeStringArray) -> npt.NDArray[np.int64]:
    r"""Characters of the longest line of each text, ``int64`` of shape (n,); 0 for an empty text.

    >>> longest_line(pa.array(["one\nthree\n", ""], pa.large_string()))
    array([5, 0])
    """
    data, offsets = utf8(texts)
    out = np.empty(len(texts), dtype=np.int64)
    _longest(data, offsets, out)
    return out
