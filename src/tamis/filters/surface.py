"""Filters on the surface of a text: what can be counted without understanding it.

All of them read one walk over the text (:mod:`tamis.text.surface`): a chain of them costs that of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.errors import UsageError
from tamis.filters.bounded import Counts, MeasuredFilter, require_share, share
from tamis.text.words import count_words

__all__ = [
    "BulletsFilter",
    "EllipsisFilter",
    "LongWordFilter",
    "MeanWordLengthFilter",
    "NewLinesToWordsFilter",
    "NonAlphaNumericFilter",
    "NumbersFilter",
    "ParenthesesFilter",
    "PunctuationFilter",
    "ShortLinesFilter",
    "SymbolsToWordsFilter",
    "UrlsFilter",
    "WhiteSpaceFilter",
    "WordCountFilter",
    "WordsWithoutAlphabetsFilter",
]


@dataclass(frozen=True)
class WordCountFilter(MeasuredFilter):
    """Keeps documents of ``min_words`` to ``max_words`` words, both included.

    Score: The number of words. A word is a maximal run of characters that are not white space (``str.split()``); in
        scripts without spaces (Han, kana, Thai, Lao, Khmer, Myanmar, Tibetan, ...) each character is a word.
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
    too_low: ClassVar[str] = "fewer than {} words"
    too_high: ClassVar[str] = "more than {} words"
    low_setting: ClassVar[str] = "min_words"
    high_setting: ClassVar[str] = "max_words"

    def __post_init__(self) -> None:
        if not 0 <= self.min_words <= self.max_words:
            message = f"min_words must be from 0 to max_words; got {self.min_words} and {self.max_words}."
            raise UsageError(message)
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Words kept."""
        return self.min_words, self.max_words

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The number of words."""
        # Words alone are counted at 1.5 GB/s, a tenth of the time that all measures take together.
        return pa.array(count_words(texts, self.lang))


@dataclass(frozen=True)
class MeanWordLengthFilter(MeasuredFilter):
    """Keeps documents whose words have a mean length within bounds.

    Score: Characters that are not white space over words.
    Range: 0 and up.
    Empty text: 0 (dropped).
    Source: Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A1: 3 to 10 characters.
    Relations: NeMo Curator's filter of this name has the same bounds, and stops the run at an empty text.
    """

    min_mean_word_length: float = 3.0
    """Shortest mean kept, in characters."""
    max_mean_word_length: float = 10.0
    """Longest mean kept, in characters."""
    lang: str = "auto"
    """ISO 639 code of the texts' language; "auto" goes by the script of each character."""

    too_low: ClassVar[str] = "its words have fewer than {} characters on average"
    too_high: ClassVar[str] = "its words have more than {} characters on average"
    low_setting: ClassVar[str] = "min_mean_word_length"
    high_setting: ClassVar[str] = "max_mean_word_length"

    def __post_init__(self) -> None:
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Mean lengths kept."""
        return self.min_mean_word_length, self.max_mean_word_length

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return share(counted["characters"] - counted["white"], counted["words"])


@dataclass(frozen=True)
class LongWordFilter(MeasuredFilter):
    """Keeps documents whose longest word has at most a given number of characters.

    Score: Characters of the longest word.
    Range: 0 and up, int64.
    Empty text: 0 (kept).
    Source: NeMo Curator's heuristic filters: 1,000; long words are encoded data, or text whose spaces were lost.
    Relations: NeMo Curator's filter of this name stops the run at an empty text.
    """

    max_word_length: int = 1000
    """Most characters kept."""
    lang: str = "auto"
    """ISO 639 code of the texts' language; "auto" goes by the script of each character."""

    score_type: ClassVar[pa.DataType] = pa.int64()
    too_high: ClassVar[str] = "a word has more than {} characters"
    high_setting: ClassVar[str] = "max_word_length"

    def __post_init__(self) -> None:
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Lengths kept."""
        return None, self.max_word_length

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return counted["longest_word"]


@dataclass(frozen=True)
class SymbolsToWordsFilter(MeasuredFilter):
    """Keeps documents with few symbols, hash marks and ellipses, for their words.

    Score: Hash marks or ellipses over words, whichever are more.
    Range: 0 and up; above 1 where symbols are more than words.
    Empty text: 0 (kept).
    Source: Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A1: at most 0.1 for either.
    Relations: NeMo Curator's filter of this name looks at whole words that are symbols, so that it counts nothing
        in '#tag' or 'wait...'. datatrove counts as here.
    """

    max_symbol_to_word_ratio: float = 0.1
    """Largest ratio kept."""
    lang: str = "auto"
    """ISO 639 code of the texts' language; "auto" goes by the script of each character."""

    too_high: ClassVar[str] = "more than {} hash marks or ellipses for each word"
    high_setting: ClassVar[str] = "max_symbol_to_word_ratio"

    def __post_init__(self) -> None:
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Ratios kept."""
        return None, self.max_symbol_to_word_ratio

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return np.maximum(share(counted["hashes"], counted["words"]), share(counted["ellipses"], counted["words"]))


@dataclass(frozen=True)
class WordsWithoutAlphabetsFilter(MeasuredFilter):
    """Keeps documents most of whose words have a letter.

    Score: Words with at least one letter, of any script, over words.
    Range: 0 to 1.
    Empty text: 0 (dropped).
    Source: Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A1: at least 0.8.
    Relations: NeMo Curator's filter of this name knows the letters of English alone unless told otherwise, and
        stops the run at an empty text.
    """

    min_words_with_alphabets: float = 0.8
    """Smallest share kept."""
    lang: str = "auto"
    """ISO 639 code of the texts' language; "auto" goes by the script of each character."""

    too_low: ClassVar[str] = "fewer than {} of its words have a letter"
    low_setting: ClassVar[str] = "min_words_with_alphabets"

    def __post_init__(self) -> None:
        require_share(self.min_words_with_alphabets, "min_words_with_alphabets")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return self.min_words_with_alphabets, None

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return share(counted["lettered_words"], counted["words"])


@dataclass(frozen=True)
class NonAlphaNumericFilter(MeasuredFilter):
    """Keeps documents with few characters that are neither letters, digits nor common marks.

    Score: Characters other than letters and digits of any script, their combining marks and joiners, white space and
        the marks ?!,. over all characters.
    Range: 0 to 1.
    Empty text: 0 (kept).
    Source: NeMo Curator's heuristic filters: at most 0.25.
    Relations: NeMo Curator's filter of this name knows the letters a to z alone, so a Russian text scores 1, and
        counts spaces among the others, so English prose scores 0.17 before anything is wrong with it. Neither is
        done here; the same bound is therefore milder.
    """

    max_non_alpha_numeric_to_text_ratio: float = 0.25
    """Largest share kept."""

    too_high: ClassVar[str] = "more than {} of its characters are neither letters nor digits"
    high_setting: ClassVar[str] = "max_non_alpha_numeric_to_text_ratio"

    def __post_init__(self) -> None:
        require_share(self.max_non_alpha_numeric_to_text_ratio, "max_non_alpha_numeric_to_text_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return None, self.max_non_alpha_numeric_to_text_ratio

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return share(
            counted["characters"] - counted["allowed"] - counted["white"] + counted["line_feeds"], counted["characters"]
        )


@dataclass(frozen=True)
class NumbersFilter(MeasuredFilter):
    """Keeps documents with few digits.

    Score: Digits, as ``str.isdigit`` has them, over characters.
    Range: 0 to 1.
    Empty text: 0 (kept).
    Source: NeMo Curator's heuristic filters: at most 0.15.
    """

    max_number_to_text_ratio: float = 0.15
    """Largest share kept."""

    too_high: ClassVar[str] = "more than {} of its characters are digits"
    high_setting: ClassVar[str] = "max_number_to_text_ratio"

    def __post_init__(self) -> None:
        require_share(self.max_number_to_text_ratio, "max_number_to_text_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return None, self.max_number_to_text_ratio

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return share(counted["digits"], counted["characters"])


@dataclass(frozen=True)
class UrlsFilter(MeasuredFilter):
    """Keeps documents of which web addresses are a small part.

    Score: Characters of addresses that begin with http:// or https://, up to white space, a quotation mark or a
        character outside ASCII, over characters.
    Range: 0 to 1.
    Empty text: 0 (kept).
    Source: NeMo Curator's heuristic filters: at most 0.2.
    """

    max_url_to_text_ratio: float = 0.2
    """Largest share kept."""

    too_high: ClassVar[str] = "more than {} of it are web addresses"
    high_setting: ClassVar[str] = "max_url_to_text_ratio"

    def __post_init__(self) -> None:
        require_share(self.max_url_to_text_ratio, "max_url_to_text_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return None, self.max_url_to_text_ratio

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return share(counted["url_characters"], counted["characters"])


@dataclass(frozen=True)
class BulletsFilter(MeasuredFilter):
    """Keeps documents not all of whose lines are items of lists.

    Score: Lines that begin with a bullet, or with a hyphen, dash or asterisk and white space, over lines that are
        not blank.
    Range: 0 to 1.
    Empty text: 0 (kept).
    Source: Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A1: at most 0.9.
    Relations: NeMo Curator's filter of this name does not know hyphens and asterisks, and stops the run at an empty
        text; datatrove takes every hyphen, also that of '-5 degrees'.
    """

    max_bullet_lines_ratio: float = 0.9
    """Largest share kept."""

    too_high: ClassVar[str] = "more than {} of its lines are items of lists"
    high_setting: ClassVar[str] = "max_bullet_lines_ratio"

    def __post_init__(self) -> None:
        require_share(self.max_bullet_lines_ratio, "max_bullet_lines_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return None, self.max_bullet_lines_ratio

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return share(counted["bulleted_lines"], counted["filled_lines"])


@dataclass(frozen=True)
class EllipsisFilter(MeasuredFilter):
    """Keeps documents few of whose lines break off.

    Score: Lines that end in an ellipsis (three dots or the character) over lines that are not blank.
    Range: 0 to 1.
    Empty text: 0 (kept).
    Source: Rae et al. 2021 (Gopher, arXiv:2112.11446), appendix A1: at most 0.3.
    Relations: NeMo Curator's filter of this name takes 'read more' for an ellipsis, and stops the run at an empty
        text.
    """

    max_num_lines_ending_with_ellipsis_ratio: float = 0.3
    """Largest share kept."""

    too_high: ClassVar[str] = "more than {} of its lines end in an ellipsis"
    high_setting: ClassVar[str] = "max_num_lines_ending_with_ellipsis_ratio"

    def __post_init__(self) -> None:
        require_share(self.max_num_lines_ending_with_ellipsis_ratio, "max_num_lines_ending_with_ellipsis_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return None, self.max_num_lines_ending_with_ellipsis_ratio

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return share(counted["ellipsis_lines"], counted["filled_lines"])


@dataclass(frozen=True)
class PunctuationFilter(MeasuredFilter):
    """Keeps documents some of whose lines end as sentences do.

    Score: Lines that do not end in a mark that ends a sentence, or a quotation mark, over lines that are not blank.
    Range: 0 to 1.
    Empty text: 0 (kept).
    Source: NeMo Curator's heuristic filters: at most 0.85, after C4 (Raffel et al. 2020, arXiv:1910.10683).
    Relations: NeMo Curator's filter of this name knows . ? ! and straight quotes alone, so that no Chinese or Hindi
        line ends, and stops the run at an empty text.
    """

    max_num_sentences_without_endmark_ratio: float = 0.85
    """Largest share kept."""

    too_high: ClassVar[str] = "more than {} of its lines do not end as sentences do"
    high_setting: ClassVar[str] = "max_num_sentences_without_endmark_ratio"

    def __post_init__(self) -> None:
        require_share(self.max_num_sentences_without_endmark_ratio, "max_num_sentences_without_endmark_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return None, self.max_num_sentences_without_endmark_ratio

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return share(counted["filled_lines"] - counted["ended_lines"], counted["filled_lines"])


@dataclass(frozen=True)
class ShortLinesFilter(MeasuredFilter):
    """Keeps documents not made of short lines.

    Score: Lines of at most 30 characters over lines that are not blank.
    Range: 0 to 1.
    Empty text: 0 (kept).
    Source: Penedo et al. 2024 (FineWeb, arXiv:2406.17557): at most 0.67.
    """

    max_short_line_ratio: float = 0.67
    """Largest share kept."""

    too_high: ClassVar[str] = "more than {} of its lines are short"
    high_setting: ClassVar[str] = "max_short_line_ratio"

    def __post_init__(self) -> None:
        require_share(self.max_short_line_ratio, "max_short_line_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return None, self.max_short_line_ratio

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return share(counted["short_lines"], counted["filled_lines"])


@dataclass(frozen=True)
class NewLinesToWordsFilter(MeasuredFilter):
    """Keeps documents with few line ends for their words.

    Score: Line feeds over words.
    Range: 0 and up.
    Empty text: 0 (kept).
    Source: Penedo et al. 2024 (FineWeb, arXiv:2406.17557): at most 0.3.
    """

    max_new_line_ratio: float = 0.3
    """Largest ratio kept."""
    lang: str = "auto"
    """ISO 639 code of the texts' language; "auto" goes by the script of each character."""

    too_high: ClassVar[str] = "more than {} line ends for each word"
    high_setting: ClassVar[str] = "max_new_line_ratio"

    def __post_init__(self) -> None:
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Ratios kept."""
        return None, self.max_new_line_ratio

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return share(counted["line_feeds"], counted["words"])


@dataclass(frozen=True)
class WhiteSpaceFilter(MeasuredFilter):
    """Keeps documents with little white space.

    Score: White space, as ``str.isspace`` has it, over characters.
    Range: 0 to 1.
    Empty text: 0 (kept).
    Source: NeMo Curator's heuristic filters: at most 0.25.
    Relations: NeMo Curator's filter of this name knows the white space of ASCII alone.
    """

    max_white_space_ratio: float = 0.25
    """Largest share kept."""

    too_high: ClassVar[str] = "more than {} of it is white space"
    high_setting: ClassVar[str] = "max_white_space_ratio"

    def __post_init__(self) -> None:
        require_share(self.max_white_space_ratio, "max_white_space_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return None, self.max_white_space_ratio

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return share(counted["white"], counted["characters"])


@dataclass(frozen=True)
class ParenthesesFilter(MeasuredFilter):
    """Keeps documents with few brackets.

    Score: Brackets, ()[]{} and angle brackets of mathematics, over characters.
    Range: 0 to 1.
    Empty text: 0 (kept).
    Source: NeMo Curator's heuristic filters: at most 0.1.
    """

    max_parentheses_ratio: float = 0.1
    """Largest share kept."""

    too_high: ClassVar[str] = "more than {} of its characters are brackets"
    high_setting: ClassVar[str] = "max_parentheses_ratio"

    def __post_init__(self) -> None:
        require_share(self.max_parentheses_ratio, "max_parentheses_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return None, self.max_parentheses_ratio

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return share(counted["brackets"], counted["characters"])
