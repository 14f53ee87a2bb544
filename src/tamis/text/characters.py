"""What kind of character each one is, as flags in a table that kernels look up."""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["ALLOWED", "ALPHA", "BRACKET", "BULLET", "DIGIT", "TERMINAL", "UPPER", "WHITE", "flags"]

WHITE, ALPHA, DIGIT, UPPER, ALLOWED, BRACKET, TERMINAL, BULLET = 1, 2, 4, 8, 16, 32, 64, 128
"""White space, letters, digits and capital letters as Python's ``str`` methods tell them; ``ALLOWED``: line feeds and
the marks ``?!,.``, which count as alphanumeric in the rule of that name, and combining marks and joiners, without
which no word of Hindi, Thai or pointed Hebrew is written; brackets; marks that end a sentence, and
quotation marks that close one; characters that begin an item of a list."""

_JOINERS = "\u200c\u200d"
_BRACKETS = "()[]{}\u27e8\u27e9"
# Ends of sentences in the scripts that have marks of their own, and quotation marks, which C4 lets stand for them.
_TERMINALS = (
    ".!?\"'\u201d\u2019\u00bb\u2026\u203d\u3002\uff01\uff1f\uff61\u061f\u06d4\u0964\u0965"
    "\u0589\u1362\u104a\u104b\u17d4\u17d5\u166e\u1803\u1809\u203c\u2047\u2048\u2049\uff0e\ufe12\ufe15\ufe16\ufe52\ufe56\ufe57"
)
_BULLETS = "\u2022\u2023\u2043\u25e6\u25aa\u25ab\u25a0\u25a1\u25cf\u25cb\u25b6\u25c0\u25ba\u25c4\u2219\u00b7*-\u2013"


@cache
def flags() -> npt.NDArray[np.uint8]:
    """The flags of every character below U+20000, ``uint8`` of shape (131072,); above it there are Han letters.

    Made once per process, 50 ms.
    """
    table = np.zeros(0x20000, dtype=np.uint8)
    every = [chr(c) for c in range(0x20000)]
    for bit, holds in ((WHITE, str.isspace), (ALPHA, str.isalpha), (DIGIT, str.isdigit), (UPPER, str.isupper)):
        table |= np.fromiter(map(holds, every), dtype=np.bool_, count=len(every)).astype(np.uint8) * np.uint8(bit)
    for bit, members in ((ALLOWED, "\n?!,."), (BRACKET, _BRACKETS), (TERMINAL, _TERMINALS), (BULLET, _BULLETS)):
        table[[ord(c) for c in members]] |= bit
    joined = [ord(c) for c in every if c in _JOINERS or unicodedata.category(c)[0] == "M"]
    table[joined] |= ALLOWED
    return table
