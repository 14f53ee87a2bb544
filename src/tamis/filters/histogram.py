"""A filter on the characters of a language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.errors import InputError, UnknownNameError, UsageError
from tamis.filters.bounded import BoundedFilter, require_share, share
from tamis.filters.lists import list_files_of, read_bytes
from tamis.models.one_file import Stamp, hash_of, stamp
from tamis.text.alphabet import CHARACTERS, count_members
from tamis.text.words import LANGUAGES

__all__ = ["HistogramFilter"]

_WHO = "HistogramFilter"
_COMMON = (
    "\t\n\r .,;:!?'\"()-/%&0123456789\u00a0\u00ab\u00bb"
    "\u2010\u2011\u2013\u2014\u2018\u2019\u201a\u201c\u201d\u201e\u2026"
)
"""Characters of every language: white space, digits, and the marks of sentences."""

_MARKS = (0x300, 0x36F)
_HAN = ((0x2E80, 0x2FDF), (0x3000, 0x3020), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF01, 0xFF65))
_SCRIPTS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "Latin": ((0x41, 0x5A), (0x61, 0x7A), (0xAA, 0xAA), (0xB7, 0xB7), (0xBA, 0xBA), (0xC0, 0xD6), (0xD8, 0xF6),
              (0xF8, 0x24F), (0x2BB, 0x2BC), _MARKS, (0x1E00, 0x1EFF)),
    "Cyrillic": ((0x400, 0x52F), _MARKS),
    "Greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF), _MARKS),
    "Armenian": ((0x530, 0x58F),),
    "Hebrew": ((0x591, 0x5F4),),
    "Arabic": ((0x600, 0x6FF), (0x750, 0x77F), (0x8A0, 0x8FF), (0x200C, 0x200F), (0xFB50, 0xFDFF), (0xFE70, 0xFEFC)),
    "Devanagari": ((0x900, 0x97F), (0x200C, 0x200D)),
    "Bengali": ((0x980, 0x9FF), (0x964, 0x965), (0x200C, 0x200D)),
    "Gurmukhi": ((0xA00, 0xA7F), (0x964, 0x965), (0x200C, 0x200D)),
    "Gujarati": ((0xA80, 0xAFF), (0x964, 0x965), (0x200C, 0x200D)),
    "Oriya": ((0xB00, 0xB7F), (0x964, 0x965), (0x200C, 0x200D)),
    "Tamil": ((0xB80, 0xBFF), (0x964, 0x965), (0x200C, 0x200D)),
    "Telugu": ((0xC00, 0xC7F), (0x964, 0x965), (0x200C, 0x200D)),
    "Kannada": ((0xC80, 0xCFF), (0x964, 0x965), (0x200C, 0x200D)),
    "Malayalam": ((0xD00, 0xD7F), (0x964, 0x965), (0x200C, 0x200D)),
    "Sinhala": ((0xD80, 0xDFF), (0x964, 0x965), (0x200C, 0x200D)),
    "Thai": ((0xE00, 0xE7F), (0x200B, 0x200B)),
    "Lao": ((0xE80, 0xEFF), (0x200B, 0x200B)),
    "Tibetan": ((0xF00, 0xFFF),),
    "Myanmar": ((0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F), (0x200B, 0x200D)),
    "Georgian": ((0x10A0, 0x10FF), (0x1C90, 0x1CBF), (0x2D00, 0x2D2F)),
    "Ethiopic": ((0x1200, 0x139F), (0x2D80, 0x2DDF), (0xAB00, 0xAB2F)),
    "Khmer": ((0x1780, 0x17FF), (0x19E0, 0x19FF), (0x200B, 0x200D)),
    "Javanese": ((0xA980, 0xA9DF),),
    "Hangul": ((0x1100, 0x11FF), (0x3000, 0x3020), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF),
               (0xFF01, 0xFF65)),
    "Han": (*_HAN, (0x20000, 0x323AF)),
    "Kana": ((0x3021, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F), (0x1B000, 0x1B16F)),
}  # fmt: skip
"""Code points of the scripts, by the blocks of Unicode that hold them and the marks that they share."""
_SCRIPTS_OF: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("be", "bg", "kk", "ky", "mk", "ru", "tg", "tt", "uk"), ("Cyrillic",)),
    **dict.fromkeys(("ar", "fa", "ps", "sd", "ug", "ur"), ("Arabic",)),
    **dict.fromkeys(("hi", "mr", "ne"), ("Devanagari",)),
    **dict.fromkeys(("he", "yi"), ("Hebrew",)),
    **dict.fromkeys(("zh", "yue"), ("Han",)),
    "am": ("Ethiopic",), "bn": ("Bengali",), "bo": ("Tibetan",), "el": ("Greek",), "gu": ("Gujarati",),
    "hy": ("Armenian",), "ja": ("Han", "Kana"), "jv": ("Latin", "Javanese"), "ka": ("Georgian",), "km": ("Khmer",),
    "kn": ("Kannada",), "ko": ("Hangul", "Han"), "ku": ("Latin", "Arabic"), "lo": ("Lao",), "ml": ("Malayalam",),
    "my": ("Myanmar",), "or": ("Oriya",), "pa": ("Gurmukhi", "Arabic"), "si": ("Sinhala",), "sr": ("Cyrillic", "Latin"),
    "ta": ("Tamil",), "te": ("Telugu",), "th": ("Thai",), "uz": ("Latin", "Cyrillic"), "az": ("Latin", "Cyrillic"),
}  # fmt: skip
"""The scripts of a language; Latin where none is given."""

Members = npt.NDArray[np.bool_]


@lru_cache(maxsize=8)
def _of_language(lang: str) -> Members:
    members = np.zeros(CHARACTERS, dtype=np.bool_)
    members[[ord(c) for c in _COMMON]] = True
    for script in _SCRIPTS_OF.get(lang, ("Latin",)):
        for first, last in _SCRIPTS[script]:
            members[first : last + 1] = True
    return members


@lru_cache(maxsize=8)
def _of_file(path: Path, _when: Stamp, threshold_char: str) -> Members:
    members = np.zeros(CHARACTERS, dtype=np.bool_)
    try:
        lines = read_bytes(path, _WHO).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        message = f"{_WHO}: the histogram {path} is not UTF-8 (byte {error.start})."
        raise InputError(message) from error
    for line in lines:
        if line and line[0] == threshold_char:
            break
        if line:
            members[ord(line[0])] = True
    members[ord("\n")] = True  # no line of a file can begin with it
    return members


@dataclass(frozen=True)
class HistogramFilter(BoundedFilter):
    """Keeps documents most of whose characters are those of a language.

    Score: Characters of the language over characters. These are the letters, digits and marks of its scripts, white
        space, the digits 0 to 9, and the marks that sentences of all languages have.
    Range: 0 to 1.
    Empty text: 0 (dropped).
    Source: NeMo Curator's heuristic filters: at least 0.8, after NLLB (NLLB Team 2022, arXiv:2207.04672).
    Relations: NeMo Curator's filter of this name downloads counts of characters when it is made, and takes those that
        are more frequent than "]". Give such a file as ``file`` to have the same set. Scripts alone do not tell
        languages that share one: a German text passes as English, a Russian or Chinese one does not.
    """

    lang: str = "en"
    """ISO 639 code of the language."""
    threshold: float = 0.8
    """Smallest share kept."""
    threshold_char: str = "]"
    """The character that ends the set of a file."""
    file: str = ""
    """A file whose lines begin with one character each, the most frequent first; it is then used instead of scripts."""

    too_low: ClassVar[str] = "fewer than {} of its characters are of the language"
    low_setting: ClassVar[str] = "threshold"

    def __post_init__(self) -> None:
        require_share(self.threshold, "threshold")
        if len(self.threshold_char) != 1:
            message = f"{_WHO}: threshold_char must be one character; got {self.threshold_char!r}."
            raise UsageError(message)
        if self.lang not in LANGUAGES:
            raise UnknownNameError.of(self.lang, LANGUAGES, kind="language", where=_WHO)
        if self.file:
            list_files_of(self.file, (), _WHO)

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return self.threshold, None

    def identity(self) -> Mapping[str, str]:
        """A hash of the file."""
        return {"file": hash_of(list_files_of(self.file, (), _WHO)[0])} if self.file else {}

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The share of characters."""
        if self.file:
            path = list_files_of(self.file, (), _WHO)[0]
            members = _of_file(path, stamp(path), self.threshold_char)
        else:
            members = _of_language(self.lang)
        return pa.array(share(*count_members(texts, members)))
