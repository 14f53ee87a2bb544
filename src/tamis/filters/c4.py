"""The rules of C4 for whole documents; those for lines are :class:`tamis.modifiers.C4LineRemover`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UsageError
from tamis.filters.bounded import BoundedFilter
from tamis.filters.lists import list_files_of, read_lines
from tamis.models.one_file import hash_of
from tamis.table import true_mask
from tamis.text.phrases import count_phrases
from tamis.text.sentences import count_sentences
from tamis.text.words import UNSPACED
from tamis.text.wordset import count_distinct

__all__ = ["BadWordsFilter", "CurlyBracketsFilter", "LoremIpsumFilter", "SentenceCountFilter"]


def _require_count(value: int, name: str) -> None:
    if value < 0:
        message = f"{name} must be 0 or more; got {value}."
        raise UsageError(message)


@dataclass(frozen=True)
class SentenceCountFilter(BoundedFilter):
    """Keeps documents of at least some sentences.

    Score: The number of sentences. One ends at a line feed, at the end of the text, and at marks that end a sentence,
        if white space follows them; see :func:`tamis.text.sentences.count_sentences`. What holds neither letter nor
        digit is none.
    Range: 0 and up, int64.
    Empty text: 0 (dropped, unless ``min_sentences`` is 0).
    Source: Raffel et al. 2020 (C4, JMLR 21(140), arXiv:1910.10683), section 2.2: pages of fewer than 3 sentences go.
    Relations: the first version of the paper had 5, and datatrove's C4 filter has them still. The published code
        divides with NLTK's Punkt, a model of English; here abbreviations are known by their form and by a short list.
    """

    min_sentences: int = 3
    """Fewest sentences kept."""
    max_sentences: int | None = None
    """Most sentences kept; None for no bound."""

    score_type: ClassVar[pa.DataType] = pa.int64()
    too_low: ClassVar[str] = "fewer than {} sentences"
    too_high: ClassVar[str] = "more than {} sentences"
    low_setting: ClassVar[str] = "min_sentences"
    high_setting: ClassVar[str] = "max_sentences"

    def __post_init__(self) -> None:
        _require_count(self.min_sentences, "min_sentences")
        if self.max_sentences is not None and self.max_sentences < self.min_sentences:
            message = f"min_sentences must be at most max_sentences; got {self.min_sentences} and {self.max_sentences}."
            raise UsageError(message)

    def bounds(self) -> tuple[float | None, float | None]:
        """Sentences kept."""
        return self.min_sentences, self.max_sentences

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The number of sentences."""
        return pa.array(count_sentences(texts))


@dataclass(frozen=True)
class CurlyBracketsFilter(BoundedFilter):
    """Keeps documents without curly brackets, which are common in programs and not in prose.

    Score: How often "{" occurs.
    Range: 0 and up, int64.
    Empty text: 0 (kept).
    Source: Raffel et al. 2020 (C4, JMLR 21(140), arXiv:1910.10683), section 2.2: none.
    Relations: as in the published code, only in lines that stay, where :class:`tamis.modifiers.C4LineRemover` stands
        before it.
    """

    max_curly_brackets: int = 0
    """Most brackets kept."""

    score_type: ClassVar[pa.DataType] = pa.int64()
    too_high: ClassVar[str] = "more than {} curly brackets"
    high_setting: ClassVar[str] = "max_curly_brackets"

    def __post_init__(self) -> None:
        _require_count(self.max_curly_brackets, "max_curly_brackets")

    def bounds(self) -> tuple[float | None, float | None]:
        """Brackets kept."""
        return None, self.max_curly_brackets

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """How often the bracket occurs."""
        return pc.fill_null(pc.count_substring(texts, "{").cast(pa.int64()), 0)


@dataclass(frozen=True)
class LoremIpsumFilter(BoundedFilter):
    """Keeps documents without the placeholder text "lorem ipsum".

    Score: How often it occurs, whatever its case.
    Range: 0 and up, int64.
    Empty text: 0 (kept).
    Source: Raffel et al. 2020 (C4, JMLR 21(140), arXiv:1910.10683), section 2.2: none.
    """

    max_lorem_ipsum: int = 0
    """Most occurrences kept."""

    score_type: ClassVar[pa.DataType] = pa.int64()
    too_high: ClassVar[str] = "holds 'lorem ipsum' more than {} times"
    high_setting: ClassVar[str] = "max_lorem_ipsum"

    def __post_init__(self) -> None:
        _require_count(self.max_lorem_ipsum, "max_lorem_ipsum")

    def bounds(self) -> tuple[float | None, float | None]:
        """Occurrences kept."""
        return None, self.max_lorem_ipsum

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """How often it occurs."""
        return pa.array(count_phrases(texts, ("lorem ipsum",)))


_WHO = "BadWordsFilter"
_WORD = re.compile(r"\w+")


@lru_cache(maxsize=16)
def _divided(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(plain words, entries of several words or with marks), in lower case, each once."""
    lowered = dict.fromkeys(word.strip().lower() for word in words)
    plain = tuple(word for word in lowered if _WORD.fullmatch(word))
    return plain, tuple(word for word in lowered if not _WORD.fullmatch(word))


@dataclass(frozen=True)
class BadWordsFilter(BoundedFilter):
    r"""Keeps documents that hold none of the words and phrases of a list.

    Score: How many different entries of the list occur, whatever their case. An entry occurs where neither a letter,
        a digit nor an underscore stands directly before or after it; in languages without spaces (zh, ja, th, ...)
        wherever its characters do.
    Range: 0 to the length of the list, int64.
    Empty text: 0 (kept).
    Source: Raffel et al. 2020 (C4, JMLR 21(140), arXiv:1910.10683), section 2.2: no page with any word of a list that
        its authors name. No list comes with Tamis: name a file.
    Relations: the published code needs a character before and after an entry, so that it misses one at either end of a
        line; datatrove keeps a random share of what is found if asked to. Neither is done here.
    """

    file: str = ""
    """A file with one entry per line, UTF-8; lines that begin with "#" are comments."""
    words: Sequence[str] = ()
    """Entries, besides those of the file."""
    max_bad_words: int = 0
    """Most different entries kept."""
    lang: str = "en"
    """ISO 639 code of the texts' language, which says whether it has spaces."""

    score_type: ClassVar[pa.DataType] = pa.int64()
    too_high: ClassVar[str] = "holds more than {} words of the list"
    high_setting: ClassVar[str] = "max_bad_words"

    def __post_init__(self) -> None:
        if isinstance(self.words, str) or not all(map(str.strip, self.words)):
            message = f"{_WHO}: words must be a list of words that are not blank; got {self.words!r}."
            raise UsageError(message)
        if not self.file and not self.words:
            message = f"{_WHO}: there are no words. Name a file that has one on each line, or list them as words."
            raise UsageError(message)
        object.__setattr__(self, "words", tuple(self.words))
        _require_count(self.max_bad_words, "max_bad_words")
        list_files_of(self.file, (), _WHO)

    def identity(self) -> Mapping[str, str]:
        """A hash of the file."""
        return {str(path): hash_of(path) for path in list_files_of(self.file, (), _WHO)}

    def bounds(self) -> tuple[float | None, float | None]:
        """Entries kept."""
        return None, self.max_bad_words

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """How many different entries occur."""
        listed = [line for path in list_files_of(self.file, (), _WHO) for line in read_lines(path, _WHO)]
        plain, others = _divided((*self.words, *listed))
        if self.lang in UNSPACED:
            counts = np.zeros(len(texts), dtype=np.int64)
            for word in (*plain, *others):
                counts += true_mask(pc.match_substring(texts, word, ignore_case=True))
            return pa.array(counts)
        counts = count_distinct(texts, plain) if plain else np.zeros(len(texts), dtype=np.int64)
        for row in _rows_with(texts, others):
            text = texts[int(row)].as_py().lower()
            counts[row] += sum(_occurs(entry, text) for entry in others)
        return pa.array(counts)


def _rows_with(texts: pa.LargeStringArray, entries: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """The rows that hold the first word of some entry; an entry without any is looked for itself."""
    firsts = {found[0] for entry in entries if (found := _WORD.search(entry))}
    rows = count_distinct(texts, firsts) > 0 if firsts else np.zeros(len(texts), dtype=np.bool_)
    for entry in entries:
        if not _WORD.search(entry):
            rows |= true_mask(pc.match_substring(texts, entry))
    return np.flatnonzero(rows)


def _occurs(entry: str, text: str) -> bool:
    at = text.find(entry)
    while at >= 0:
        stop = at + len(entry)
        if not (at and _WORD.match(text[at - 1])) and not (stop < len(text) and _WORD.match(text[stop])):
            return True
        at = text.find(entry, at + 1)
    return False
