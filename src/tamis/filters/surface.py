"""Filters on the surface of a text: what can be counted without understanding it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UsageError
from tamis.filters.base import DocumentFilter
from tamis.text.words import classes_for, count_words

__all__ = ["WordCountFilter"]


@dataclass(frozen=True)
class WordCountFilter(DocumentFilter):
    """Keeps documents of ``min_words`` to ``max_words`` words, both included.

    Score: The number of words. A word is a maximal run of characters that are not white space (``str.split()``);
        in scripts without spaces (Han, kana, Thai, Lao, Khmer, Myanmar, Tibetan, ...) each character is a word.
    Range: 0 and up, int64.
    Empty text: 0.
    Source: Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A1: 50 to 100,000 words.
    Relations: NeMo Curator's filter of this name has the same bounds; it divides Chinese and Japanese with a
        dictionary (jieba, MeCab) if told to, and otherwise counts a Chinese text as one word.
    """

    min_words: int = 50
    """Fewest words kept; 0 for no lower bound."""
    max_words: int = 100_000
    """Most words kept."""
    lang: str = "auto"
    """ISO 639 code of the texts' language; "auto" goes by the script of each character."""

    score_type: ClassVar[pa.DataType] = pa.int64()

    def __post_init__(self) -> None:
        if not 0 <= self.min_words <= self.max_words:
            message = f"min_words must be from 0 to max_words; got {self.min_words} and {self.max_words}."
            raise UsageError(message)
        classes_for(self.lang)

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The number of words."""
        return pa.array(count_words(texts, self.lang))

    def reasons(self, scores: pa.Array) -> pa.StringArray:
        """Too few or too many."""
        return pc.if_else(
            pc.less(scores, self.min_words),
            f"fewer than {self.min_words} words",
            pc.if_else(pc.less_equal(scores, self.max_words), _KEEP, f"more than {self.max_words} words"),
        )

    def keep_document(self, score: int) -> bool:
        """Whether the number is within the bounds."""
        return self.min_words <= score <= self.max_words

    def score_document(self, text: str) -> int:
        """The number of words of one text."""
        return int(count_words(pa.array([text], pa.large_string()), self.lang)[0])


_KEEP = pa.scalar(None, pa.string())
