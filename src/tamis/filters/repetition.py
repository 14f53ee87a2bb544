"""Filters on repetition within a text.

All but the first asked read one walk over the text (:mod:`tamis.text.repetition`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UsageError
from tamis.filters.bounded import Counts, MeasuredFilter, require_share, share
from tamis.text.repetition import LONGEST, NGRAMS, SHORTEST, top_share

__all__ = [
    "RepeatedLinesByCharFilter",
    "RepeatedLinesFilter",
    "RepeatedParagraphsByCharFilter",
    "RepeatedParagraphsFilter",
    "RepeatingDuplicateNGramsFilter",
    "RepeatingTopNGramsFilter",
]


@dataclass(frozen=True)
class RepeatedLinesFilter(MeasuredFilter):
    """Keeps documents in which lines repeat little.

    Score: 1 less the share of lines that are equal to one before, without the white space around them; blank lines
        are none.
    Range: 0 to 1; 1 where nothing repeats.
    Empty text: 1 (kept).
    Source: Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A1: at most 0.3 of lines and paragraphs, 0.2 of
        their characters.
    Relations: NeMo Curator's filter of this name and datatrove compare lines with the white space around them, so that
        the same words indented otherwise are another line.
    """

    max_repeated_line_fraction: float = 0.7
    """Smallest score kept. (The name is that of NeMo Curator, where it also bounds the unique share from below.)"""

    family: ClassVar[str] = "repetition"
    too_low: ClassVar[str] = "fewer than {} of its lines are new"
    low_setting: ClassVar[str] = "max_repeated_line_fraction"

    def __post_init__(self) -> None:
        require_share(self.max_repeated_line_fraction, "max_repeated_line_fraction")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Scores kept."""
        return self.max_repeated_line_fraction, None

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return 1 - share(counted["repeated_lines"], counted["lines"])


@dataclass(frozen=True)
class RepeatedParagraphsFilter(MeasuredFilter):
    """Keeps documents in which paragraphs repeat little.

    Score: 1 less the share of paragraphs, lines between blank ones, that are equal to one before.
    Range: 0 to 1; 1 where nothing repeats.
    Empty text: 1 (kept).
    Source: Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A1: at most 0.3 of lines and paragraphs, 0.2 of
        their characters.
    Relations: NeMo Curator's filter of this name divides at two line feeds, so that several blank lines in a row are
        empty paragraphs that repeat.
    """

    max_repeated_paragraphs_ratio: float = 0.7
    """Smallest score kept. (The name is that of NeMo Curator, where it also bounds the unique share from below.)"""

    family: ClassVar[str] = "repetition"
    too_low: ClassVar[str] = "fewer than {} of its paragraphs are new"
    low_setting: ClassVar[str] = "max_repeated_paragraphs_ratio"

    def __post_init__(self) -> None:
        require_share(self.max_repeated_paragraphs_ratio, "max_repeated_paragraphs_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Scores kept."""
        return self.max_repeated_paragraphs_ratio, None

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return 1 - share(counted["repeated_paragraphs"], counted["paragraphs"])


@dataclass(frozen=True)
class RepeatedLinesByCharFilter(MeasuredFilter):
    """Keeps documents in which lines repeat little.

    Score: 1 less the share of characters in lines that are equal to one before.
    Range: 0 to 1; 1 where nothing repeats.
    Empty text: 1 (kept).
    Source: Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A1: at most 0.3 of lines and paragraphs, 0.2 of
        their characters.
    """

    max_repeated_lines_char_ratio: float = 0.8
    """Smallest score kept. (The name is that of NeMo Curator, where it also bounds the unique share from below.)"""

    family: ClassVar[str] = "repetition"
    too_low: ClassVar[str] = "fewer than {} of its characters in lines are new"
    low_setting: ClassVar[str] = "max_repeated_lines_char_ratio"

    def __post_init__(self) -> None:
        require_share(self.max_repeated_lines_char_ratio, "max_repeated_lines_char_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Scores kept."""
        return self.max_repeated_lines_char_ratio, None

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return 1 - share(counted["repeated_line_characters"], counted["line_characters"])


@dataclass(frozen=True)
class RepeatedParagraphsByCharFilter(MeasuredFilter):
    """Keeps documents in which paragraphs repeat little.

    Score: 1 less the share of characters in paragraphs that are equal to one before.
    Range: 0 to 1; 1 where nothing repeats.
    Empty text: 1 (kept).
    Source: Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A1: at most 0.3 of lines and paragraphs, 0.2 of
        their characters.
    Relations: NeMo Curator's filter of this name stops the run at an empty text.
    """

    max_repeated_paragraphs_char_ratio: float = 0.8
    """Smallest score kept. (The name is that of NeMo Curator, where it also bounds the unique share from below.)"""

    family: ClassVar[str] = "repetition"
    too_low: ClassVar[str] = "fewer than {} of its characters in paragraphs are new"
    low_setting: ClassVar[str] = "max_repeated_paragraphs_char_ratio"

    def __post_init__(self) -> None:
        require_share(self.max_repeated_paragraphs_char_ratio, "max_repeated_paragraphs_char_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Scores kept."""
        return self.max_repeated_paragraphs_char_ratio, None

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return 1 - share(counted["repeated_paragraph_characters"], counted["paragraph_characters"])


@dataclass(frozen=True)
class RepeatingTopNGramsFilter(MeasuredFilter):
    """Keeps documents of which the most frequent word n-gram covers at most a given share.

    Score: Characters that are not white space and lie in an occurrence of the most frequent n-gram, each counted
        once, over all characters that are not white space. Of n-grams equally frequent, the one that covers most.
        0 where no n-gram occurs twice. Words as in :class:`tamis.filters.WordCountFilter`.
    Range: 0 to 1.
    Empty text: 0 (kept), as is any text of at most n words.
    Source: Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A1: at most 0.20, 0.18 and 0.16 for n = 2, 3, 4.
    Relations: NeMo Curator's filter of this name breaks ties by chance (by the hash seed of the process), finds
        nothing where words are separated by line ends or written without spaces, counts an n-gram that occurs once
        as repeated, and so drops every text of at most n words. datatrove counts one that occurs once as well, and
        takes its length with spaces times its count, so that occurrences that overlap count twice.
    """

    n: int = 2
    """Words per n-gram, 1 and up."""
    max_repeating_ngram_ratio: float = 0.2
    """Largest share kept, in [0, 1]."""
    lang: str = "auto"
    """ISO 639 code of the texts' language; "auto" goes by the script of each character."""

    family: ClassVar[str] = "repetition"
    high_setting: ClassVar[str] = "max_repeating_ngram_ratio"

    def __post_init__(self) -> None:
        _require_n(self.n)
        require_share(self.max_repeating_ngram_ratio, "max_repeating_ngram_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return None, self.max_repeating_ngram_ratio

    def reasons(self, scores: pa.Array) -> pa.StringArray:
        """Repeats too much."""
        share = f"{self.max_repeating_ngram_ratio:.4g}"
        reason = f"one {self.n}-gram covers more than {share} of it"
        return pc.if_else(pc.less_equal(scores, self.max_repeating_ngram_ratio), pa.scalar(None, pa.string()), reason)

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The share that the most frequent n-gram covers."""
        return pa.array(top_share(texts, self.n, self.lang))


@dataclass(frozen=True)
class RepeatingDuplicateNGramsFilter(MeasuredFilter):
    """Keeps documents of which n-grams that occurred before cover at most a given share.

    Score: Characters that are not white space and lie in an occurrence of a word n-gram that occurred before in the
        text, each counted once, over all characters that are not white space. The first occurrence of an n-gram does
        not count. Words as in :class:`tamis.filters.WordCountFilter`.
    Range: 0 to 1.
    Empty text: 0 (kept).
    Source: Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A1: at most 0.15, 0.14, 0.13, 0.12, 0.11 and 0.10 for
        n = 5 to 10.
    Relations: NeMo Curator's filter of this name counts spaces as well, and may exceed 1 for Chinese. datatrove goes on
        after the end of a repeated n-gram, so that it misses repetitions that overlap; both count in characters of the
        whole text, so that their shares are smaller by the share of white space.
    """

    n: int = 2
    """Words per n-gram, 2 to 10."""
    max_repeating_duplicate_ngram_ratio: float = 0.2
    """Largest share kept, in [0, 1]."""
    lang: str = "auto"
    """ISO 639 code of the texts' language; "auto" goes by the script of each character."""

    family: ClassVar[str] = "repetition"
    high_setting: ClassVar[str] = "max_repeating_duplicate_ngram_ratio"

    def __post_init__(self) -> None:
        if self.n not in NGRAMS:
            message = f"n must be from {SHORTEST} to {LONGEST}; got {self.n}."
            raise UsageError(message)
        require_share(self.max_repeating_duplicate_ngram_ratio, "max_repeating_duplicate_ngram_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return None, self.max_repeating_duplicate_ngram_ratio

    def reasons(self, scores: pa.Array) -> pa.StringArray:
        """Repeats too much."""
        bound = self.max_repeating_duplicate_ngram_ratio
        reason = f"repeated {self.n}-grams cover more than {bound:.4g} of it"
        return pc.if_else(pc.less_equal(scores, bound), pa.scalar(None, pa.string()), reason)

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return share(counted[f"duplicate_{self.n}"], counted["word_characters"])


def _require_n(n: int) -> None:
    if n < 1:
        message = f"n must be at least 1; got {n}."
        raise UsageError(message)
