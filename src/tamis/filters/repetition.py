"""Filters on repetition within a text."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UsageError
from tamis.filters.base import DocumentFilter
from tamis.text.ngrams import top_ngram_share
from tamis.text.words import classes_for

__all__ = ["RepeatingTopNGramsFilter"]


@dataclass(frozen=True)
class RepeatingTopNGramsFilter(DocumentFilter):
    """Keeps documents of which the most frequent word n-gram covers at most a given share.

    Score: Characters that are not white space and lie in an occurrence of the most frequent n-gram, each counted
        once, over all characters that are not white space. Of n-grams equally frequent, the one that covers most.
        0 where no n-gram occurs twice. Words as in :class:`tamis.filters.WordCountFilter`.
    Range: 0 to 1.
    Empty text: 0 (kept), as is any text of at most n words.
    Source: Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A1: at most 0.20, 0.18 and 0.16 for n = 2, 3, 4.
    Relations: NeMo Curator's filter of this name breaks ties by chance (by the hash seed of the process), finds
        nothing where words are separated by line ends or written without spaces, counts an n-gram that occurs once
        as repeated, and so drops every text of at most n words. datatrove, as here, asks for two occurrences.
    """

    n: int = 2
    """Words per n-gram, 1 and up."""
    max_repeating_ngram_ratio: float = 0.2
    """Largest share kept, in [0, 1]."""
    lang: str = "auto"
    """ISO 639 code of the texts' language; "auto" goes by the script of each character."""

    def __post_init__(self) -> None:
        if self.n < 1:
            message = f"n must be at least 1; got {self.n}."
            raise UsageError(message)
        if not 0 <= self.max_repeating_ngram_ratio <= 1:
            message = f"max_repeating_ngram_ratio must be in [0, 1]; got {self.max_repeating_ngram_ratio}."
            raise UsageError(message)
        classes_for(self.lang)

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The share that the most frequent n-gram covers."""
        return pa.array(top_ngram_share(texts, self.n, self.lang))

    def reasons(self, scores: pa.Array) -> pa.StringArray:
        """Repeats too much."""
        share = f"{self.max_repeating_ngram_ratio:.4g}"
        reason = f"one {self.n}-gram covers more than {share} of it"
        return pc.if_else(pc.less_equal(scores, self.max_repeating_ngram_ratio), pa.scalar(None, pa.string()), reason)

    def keep_document(self, score: float) -> bool:
        """Whether the share is within the bound."""
        return score <= self.max_repeating_ngram_ratio

    def score_document(self, text: str) -> float:
        """The share in one text."""
        return float(top_ngram_share(pa.array([text], pa.large_string()), self.n, self.lang)[0])
