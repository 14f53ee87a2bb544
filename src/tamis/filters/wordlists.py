"""Filters that look for given words, phrases and addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import MissingExtraError, UnknownNameError, UsageError
from tamis.filters.base import DocumentFilter
from tamis.filters.bounded import BoundedFilter, require_share
from tamis.table import true_mask
from tamis.text.boilerplate import LOREM_IPSUM, POLICY_PHRASES
from tamis.text.words import UNSPACED
from tamis.text.wordset import count_distinct

__all__ = [
    "BoilerPlateStringFilter",
    "CommonEnglishWordsFilter",
    "CommonWordsFilter",
    "PornographicUrlsFilter",
    "SubstringFilter",
]

_GOPHER = ("the", "be", "to", "of", "and", "that", "have", "with")


@cache
def _stop_words(lang: str) -> tuple[str, ...]:
    if lang == "en":
        return _GOPHER
    if find_spec("stopwordsiso") is None:
        who = f"CommonWordsFilter for the language {lang!r}"
        raise MissingExtraError.of(who, "stopwordsiso", "languages")
    import orjson  # noqa: PLC0415  with the package's data alone

    found = orjson.loads((resources.files("stopwordsiso") / "stopwords-iso.json").read_bytes())
    if lang not in found:
        raise UnknownNameError.of(lang, found, kind="language", where="CommonWordsFilter")
    return tuple(found[lang])


@dataclass(frozen=True)
class CommonWordsFilter(BoundedFilter):
    """Keeps documents that hold at least some of the commonest words of their language.

    Score: How many different words of the list occur, whatever their case; a word is a run of letters and digits. In
        languages without spaces (zh, ja, th, ...) a word occurs where its characters do.
    Range: 0 to the length of the list, int64.
    Empty text: 0 (dropped, unless ``min_num_common_words`` is 0).
    Source: Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A1: two of the eight words the, be, to, of, and, that,
        have, with. For other languages the stop words of the package stopwordsiso (58 languages), as Penedo et al. 2025
        (FineWeb2, arXiv:2506.20920) use stop words of each language.
    Relations: NeMo Curator's CommonEnglishWordsFilter counts a word as often as it occurs, so that "the the" passes,
        compares case, and sees punctuation as part of a word. datatrove counts different words, as here.
    """

    lang: str = "en"
    """ISO 639 code of the texts' language. Other than "en" needs the extra ``languages``."""
    min_num_common_words: int = 2
    """Fewest different words kept."""
    words: Sequence[str] | None = None
    """Another list; ``lang`` then says only whether the language has spaces."""

    score_type: ClassVar[pa.DataType] = pa.int64()
    too_low: ClassVar[str] = "fewer than {} of the language's common words"
    low_setting: ClassVar[str] = "min_num_common_words"

    def __post_init__(self) -> None:
        if isinstance(self.words, str) or (self.words is not None and not all(map(str.strip, self.words))):
            message = f"{type(self).__name__}: words must be a list of words that are not blank; got {self.words!r}."
            raise UsageError(message)
        if self.words is not None:
            object.__setattr__(self, "words", tuple(self.words))
        if not 0 <= self.min_num_common_words <= len(self._list()):
            message = (
                f"min_num_common_words must be from 0 to the {len(self._list())} words of the list; "
                f"got {self.min_num_common_words}."
            )
            raise UsageError(message)

    def _list(self) -> Sequence[str]:
        return _stop_words(self.lang) if self.words is None else self.words

    def bounds(self) -> tuple[float | None, float | None]:
        """Words kept."""
        return self.min_num_common_words, None

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """How many different words of the list occur."""
        if self.lang not in UNSPACED:
            return pa.array(count_distinct(texts, self._list()))
        counts = np.zeros(len(texts), dtype=np.int64)
        for word in self._list():
            counts += true_mask(pc.match_substring(texts, word))
        return pa.array(counts)


@dataclass(frozen=True)
class CommonEnglishWordsFilter(CommonWordsFilter):
    """:class:`CommonWordsFilter` for English, under the name that NeMo Curator gives it."""

    lang: str = "en"
    min_num_common_words: int = 2
    words: Sequence[str] | None = None


_PARAGRAPHS = re.compile(r"\n[^\S\n]*\n\s*")


@dataclass(frozen=True)
class BoilerPlateStringFilter(BoundedFilter):
    """Keeps documents few of whose paragraphs are about terms, privacy and cookies.

    Score: Paragraphs that hold one of the phrases "terms of use", "privacy policy", "cookie policy", "uses cookies",
        "use of cookies" and "use cookies", over paragraphs, which blank lines divide; 1 where "lorem ipsum" occurs.
    Range: 0 to 1.
    Empty text: 0 (kept).
    Source: NeMo Curator's heuristic filters: at most 0.4; the phrases are those of C4 (Raffel et al. 2020,
        arXiv:1910.10683).
    Relations: NeMo Curator's filter of this name also takes ``remove_if_at_top_or_bottom``, which it does not use.
    """

    max_boilerplate_string_ratio: float = 0.4
    """Largest share kept."""

    too_high: ClassVar[str] = "more than {} of its paragraphs are boilerplate"
    high_setting: ClassVar[str] = "max_boilerplate_string_ratio"

    def __post_init__(self) -> None:
        require_share(self.max_boilerplate_string_ratio, "max_boilerplate_string_ratio")

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return None, self.max_boilerplate_string_ratio

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The share of paragraphs."""
        scores = np.zeros(len(texts))
        found = [true_mask(pc.match_substring(texts, p, ignore_case=True)) for p in (*POLICY_PHRASES, LOREM_IPSUM)]
        rows = np.flatnonzero(np.logical_or.reduce(found))
        for row, text in zip(rows, texts.take(pa.array(rows)).to_pylist(), strict=True):
            paragraphs = [p for p in _PARAGRAPHS.split(text.lower()) if p.strip()]
            share = sum(any(phrase in p for phrase in POLICY_PHRASES) for p in paragraphs) / len(paragraphs)
            scores[row] = 1.0 if LOREM_IPSUM in text.lower() else share
        return pa.array(scores)


@dataclass(frozen=True)
class SubstringFilter(DocumentFilter):
    """Keeps documents that hold a given text.

    Score: 1 where it is found at the place asked for, else 0.
    Range: 0 or 1, int64.
    Empty text: 0 (dropped).
    Source: NeMo Curator's filter of this name.
    """

    substring: str
    """What is looked for; case counts."""
    position: Literal["any", "prefix", "suffix"] = "any"
    """Where: anywhere, at the beginning, at the end."""

    score_type: ClassVar[pa.DataType] = pa.int64()

    def __post_init__(self) -> None:
        if self.position not in {"any", "prefix", "suffix"}:
            raise UnknownNameError.of(self.position, ("any", "prefix", "suffix"), kind="position")
        if not self.substring:
            message = "SubstringFilter: substring is empty; every document holds that."
            raise UsageError(message)

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """1 where it is found."""
        find: Any = {"any": pc.match_substring, "prefix": pc.starts_with, "suffix": pc.ends_with}[self.position]
        return pa.array(true_mask(find(texts, self.substring)).astype(np.int64))

    def score_document(self, text: str) -> int:
        """1 if it is found in one text."""
        return int(self.score_batch(pa.array([text], pa.large_string()))[0].as_py())

    def keep_document(self, score: int) -> bool:
        """Whether it was found."""
        return score == 1

    def reasons(self, scores: pa.Array) -> pa.StringArray:
        """It was not found."""
        place = {"any": "does not hold", "prefix": "does not begin with", "suffix": "does not end with"}[self.position]
        return pc.if_else(pc.equal(scores, 1), pa.scalar(None, pa.string()), f"{place} {self.substring!r}")


_ADULT = r"(?i)https?://[^\s\"<>]*porn"


@dataclass(frozen=True)
class PornographicUrlsFilter(DocumentFilter):
    """Keeps documents without an address that has "porn" in it.

    Score: 1 where a web address (http:// or https://) holds those letters, else 0.
    Range: 0 or 1, int64.
    Empty text: 0 (kept).
    Source: NeMo Curator's filter of this name.
    """

    score_type: ClassVar[pa.DataType] = pa.int64()

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """1 where there is such an address."""
        found = true_mask(pc.match_substring(texts, "porn", ignore_case=True))
        if found.any():
            found[found] = true_mask(pc.match_substring_regex(texts.filter(pa.array(found)), _ADULT))
        return pa.array(found.astype(np.int64))

    def score_document(self, text: str) -> int:
        """1 if there is such an address in one text."""
        return int(self.score_batch(pa.array([text], pa.large_string()))[0].as_py())

    def keep_document(self, score: int) -> bool:
        """Whether there is none."""
        return score == 0

    def reasons(self, scores: pa.Array) -> pa.StringArray:
        """There is one."""
        return pc.if_else(pc.equal(scores, 0), pa.scalar(None, pa.string()), "links to an adult site")
