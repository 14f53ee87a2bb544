"""Modifiers of single characters: case, control characters, white space, Unicode forms."""

from __future__ import annotations

import re
import sys
import unicodedata
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UnknownNameError
from tamis.modifiers.base import DocumentModifier, applied, replaced, substituted
from tamis.table import true_mask
from tamis.text.holding import holding

__all__ = ["CaseNormalizer", "ControlCharacterRemover", "UnicodeNormalizer", "WhitespaceNormalizer"]

Case = Literal["lower", "upper", "fold"]
Form = Literal["NFC", "NFKC", "NFD", "NFKD"]
Runs = Literal["keep", "collapse", "join"]

_CASES = {"lower": str.lower, "upper": str.upper, "fold": str.casefold}
_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class CaseNormalizer(DocumentModifier):
    """All letters in one case.

    The result is that of Python's ``str.lower``, ``upper`` and ``casefold``, which is Unicode's: a sigma that ends a
    Greek word becomes "ς", "ß" in capitals is "SS". Turkish is not treated apart: "I" becomes "i". Empty text: itself.
    Running it twice changes nothing more.
    """

    case: Case = "lower"
    """Small letters, capitals, or what makes texts equal that differ in case alone ("ß" and "ss")."""

    def __post_init__(self) -> None:
        if self.case not in _CASES:
            raise UnknownNameError.of(self.case, _CASES, kind="case", where=type(self).__name__)

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts in that case."""
        ascii_only = true_mask(pc.string_is_ascii(texts))
        others = ~ascii_only & true_mask(pc.is_valid(texts))
        upper = self.case == "upper"
        rows = ascii_only & holding(texts, _CAPITALS.lower() if upper else _CAPITALS)
        changed = applied(texts, others, _CASES[self.case])
        if not rows.any():
            return changed
        change = pc.ascii_upper if upper else pc.ascii_lower
        return replaced(changed, rows, change(texts.filter(pa.array(rows))))


def _between(first: int, last: int) -> str:
    return "".join(map(chr, range(first, last + 1)))


_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85"
"""Control characters that are white space: a line feed is put in their place."""
_NOTHING = (
    "".join(c for c in map(chr, [*range(0x20), *range(0x7F, 0xA0)]) if c not in f"\t\n\r\x1f{_LINE_ENDS}")
    + "\ufeff"
    + _between(0x206A, 0x206F)
    + _between(0xFFF9, 0xFFFB)
    + _between(0xFDD0, 0xFDEF)
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
)
_ZERO_WIDTH = "\u00ad\u180e\u200b" + _between(0x2060, 0x2064)
_DIRECTIONS = "\u061c\u200e\u200f" + _between(0x202A, 0x202E) + _between(0x2066, 0x2069)


@dataclass(frozen=True)
class ControlCharacterRemover(DocumentModifier):
    """Removes characters that command a terminal or a program and are no part of a text.

    Tabs and the ends of lines (LF, CR, CRLF) stay. Control characters that divide as white space does (vertical tab,
    form feed, NEL, the separators U+001C to U+001E) become a line feed, and U+001F a space, so that no two words become
    one. The other characters of C0 and C1, DEL, the byte order mark, the deprecated U+206A to U+206F, annotation marks
    U+FFF9 to U+FFFB and code points that are no characters go. Zero-width joiners and non-joiners always stay: words
    of Persian and of Indian languages, and emoji, are others without them. Empty text: itself. Running it twice changes
    nothing more.

    Relations: UnicodeReformatter does this beside other repairs, and puts nothing in the place of a vertical tab.
    """

    zero_width: bool = False
    """Whether what shows nothing goes too: soft hyphen, zero-width space, word joiner, invisible operators."""
    directions: bool = False
    """Whether marks of writing direction go too: embeddings, overrides and isolates, which can hide what a line of code
    does (Boucher and Anderson 2021, arXiv:2111.00169), and which Hebrew and Arabic beside Latin may need."""

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts without them."""
        gone = _NOTHING + _ZERO_WIDTH * self.zero_width + _DIRECTIONS * self.directions
        rows = holding(texts, f"{gone}{_LINE_ENDS}\x1f")
        if not rows.any():
            return texts
        pattern = re.compile(f"[{re.escape(gone)}{_LINE_ENDS}\x1f]")
        return applied(texts, rows, partial(pattern.sub, _in_place))


def _in_place(match: re.Match[str]) -> str:
    found = match[0]
    return "\n" if found in _LINE_ENDS else (" " if found == "\x1f" else "")


_SPACES = "\u00a0\u1680\u202f\u205f\u3000\x1f" + _between(0x2000, 0x200A)
_ENDS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@dataclass(frozen=True)
class WhitespaceNormalizer(DocumentModifier):
    """Every kind of white space as the plain space, tab or line feed.

    Spaces of any width, the no-break and the ideographic one become plain spaces; CRLF, CR, vertical tab, form feed,
    NEL and the separators of lines and paragraphs become line feeds. White space is what ``str.isspace`` says.
    Empty text: itself; a blank one is empty with ``collapse`` and ``join``. Running it twice changes nothing more.

    Relations: TextCleaner also removes characters of no width, and keeps what a line is indented by.
    """

    runs: Runs = "keep"
    """White space in a row: all of it stays; or one space within a line, none at its ends, and at most one empty line
    between two; or one space in the place of each run, so that the text is one line."""

    def __post_init__(self) -> None:
        if self.runs not in get_args(Runs):
            raise UnknownNameError.of(self.runs, get_args(Runs), kind="runs", where=type(self).__name__)

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts with plain white space."""
        if self.runs == "join":
            return applied(texts, true_mask(pc.is_valid(texts)), _joined)
        texts = applied(texts, holding(texts, _SPACES + _ENDS), _plain)
        if self.runs == "keep":
            return texts
        texts = substituted(texts, ("  ", "\t"), r"[ \t]+", " ")
        texts = substituted(texts, (" \n", "\n "), " ?\n ?", "\n")
        texts = substituted(texts, ("\n\n\n",), r"\n{3,}", "\n\n")
        trimmed = pc.utf8_trim(texts, characters=" \n")
        return texts if trimmed.equals(texts) else trimmed


def _joined(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    text = text.replace("\r\n", "\n")
    for character in _SPACES:
        text = text.replace(character, " ")
    for character in _ENDS:
        text = text.replace(character, "\n")
    return text


@dataclass(frozen=True)
class UnicodeNormalizer(DocumentModifier):
    """Texts in one of the four normalisation forms of Unicode.

    NFC puts letters and their accents together and changes nothing that can be seen; NFD takes them apart. NFKC and
    NFKD also replace characters that were made for compatibility: "ﬁ" by "fi", "²" by "2", full-width letters by plain
    ones, which changes formulas and code. Empty text: itself. Running it twice changes nothing more.

    Source: Unicode Standard Annex 15, in the version of Unicode that Python has. Relations: UnicodeReformatter does it
    after its repairs, if asked.
    """

    form: Form = "NFC"
    """The form."""

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise UnknownNameError.of(self.form, get_args(Form), kind="form", where=type(self).__name__)

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts in that form."""
        rows = ~true_mask(pc.string_is_ascii(texts)) & true_mask(pc.is_valid(texts))
        if not rows.any():
            return texts
        marks = _marks(self.form)
        # Python sorts marks in a row by exchanging neighbours: a run of 100,000 takes it half a minute.
        crowded = np.array(holding(texts, marks))
        if crowded.any():
            long = rf"[{re.escape(marks)}]{{{_MANY},}}"
            texts = applied(texts, crowded, partial(re.compile(long).sub, partial(_in_order, self.form)))
        return applied(texts, rows, partial(_normalized, self.form))


_MANY = 32


def _normalized(form: Form, text: str) -> str:
    return text if unicodedata.is_normalized(form, text) else unicodedata.normalize(form, text)


@cache
def _marks(form: Form) -> str:
    """Characters that are, taken apart, nothing but combining marks."""
    apart: Form = "NFKD" if "K" in form else "NFD"
    found = []
    for character in map(chr, range(0x300, sys.maxunicode + 1)):
        if unicodedata.combining(character) or unicodedata.category(character)[0] == "M":
            parts = unicodedata.normalize(apart, character)
            if all(map(unicodedata.combining, parts)):
                found.append(character)
    return "".join(found)


def _in_order(form: Form, run: re.Match[str]) -> str:
    """A run of marks in canonical order, which is the same text to Unicode."""
    apart: Form = "NFKD" if "K" in form else "NFD"
    marks = [mark for character in run[0] for mark in unicodedata.normalize(apart, character)]
    return "".join(sorted(marks, key=unicodedata.combining))
