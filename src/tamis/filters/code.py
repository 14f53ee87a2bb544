"""Filters on programs: comments, lines, letters, and files that are not what their name says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UsageError
from tamis.filters.base import DocumentFilter
from tamis.filters.bounded import BoundedFilter, Counts, MeasuredFilter, require_share, share
from tamis.table import true_mask
from tamis.text.comments import count_comments, language_named
from tamis.text.markup import count_visible

__all__ = [
    "AlphaFilter",
    "GeneralCommentToCodeFilter",
    "HTMLBoilerplateFilter",
    "NumberOfLinesOfCodeFilter",
    "PythonCommentToCodeFilter",
    "XMLHeaderFilter",
]

_KEEP = pa.scalar(None, pa.string())


@dataclass(frozen=True)
class PythonCommentToCodeFilter(BoundedFilter):
    """Keeps programs in Python that are commented, and are not comment alone.

    Score: Characters of comments and of strings that are statements by themselves, as docstrings are, with their
        signs, over characters. White space and line ends around them are not counted.
    Range: 0 to 1.
    Empty text: 0 (dropped, unless ``min_comment_to_code_ratio`` is 0).
    Source: Allal et al. 2023 (SantaCoder, arXiv:2301.03988), section 5.1: from 0.01 to 0.8; the bounds are NeMo
        Curator's.
    Relations: NeMo Curator's filter of this name parses the file, so that code which this version of Python does not
        understand scores 0, and stops the run at an empty text. Here code is read sign by sign (as
        :func:`tamis.text.comments.count_comments` says), so that Python 2 and broken code have a score, and all
        versions of Python the same.
    """

    min_comment_to_code_ratio: float = 0.01
    """Smallest share kept."""
    max_comment_to_code_ratio: float = 0.85
    """Largest share kept."""

    too_low: ClassVar[str] = "less than {} of it is comment"
    too_high: ClassVar[str] = "more than {} of it is comment"
    low_setting: ClassVar[str] = "min_comment_to_code_ratio"
    high_setting: ClassVar[str] = "max_comment_to_code_ratio"

    def __post_init__(self) -> None:
        _check_ratios(self.min_comment_to_code_ratio, self.max_comment_to_code_ratio)

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return self.min_comment_to_code_ratio, self.max_comment_to_code_ratio

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The share of comments."""
        return _comment_share(texts, "python")


@dataclass(frozen=True)
class GeneralCommentToCodeFilter(BoundedFilter):
    """Keeps programs that are commented, and are not comment alone.

    Score: Characters of comments, with their signs, over characters.
    Range: 0 to 1.
    Empty text: 0 (dropped, unless ``min_comment_to_code_ratio`` is 0).
    Source: Allal et al. 2023 (SantaCoder, arXiv:2301.03988), section 5.1: from 0.01 to 0.8; the bounds are NeMo
        Curator's.
    Relations: NeMo Curator's filter of this name leaves out the signs of comments, knows nine languages, and scores
        9,999 where its parser gives up. For Python, :class:`PythonCommentToCodeFilter` says the same.
    """

    language: str
    """A language ("c++", "Rust") or its MIME type ("text/x-c++"); an unknown one is refused with the list of names."""
    min_comment_to_code_ratio: float = 0.01
    """Smallest share kept."""
    max_comment_to_code_ratio: float = 0.85
    """Largest share kept."""

    too_low: ClassVar[str] = "less than {} of it is comment"
    too_high: ClassVar[str] = "more than {} of it is comment"
    low_setting: ClassVar[str] = "min_comment_to_code_ratio"
    high_setting: ClassVar[str] = "max_comment_to_code_ratio"

    def __post_init__(self) -> None:
        _check_ratios(self.min_comment_to_code_ratio, self.max_comment_to_code_ratio)
        language_named(self.language, who=type(self).__name__)

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return self.min_comment_to_code_ratio, self.max_comment_to_code_ratio

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The share of comments."""
        return _comment_share(texts, language_named(self.language, who=type(self).__name__))


def _check_ratios(low: float, high: float) -> None:
    require_share(low, "min_comment_to_code_ratio")
    require_share(high, "max_comment_to_code_ratio")
    if low > high:
        message = f"min_comment_to_code_ratio must be at most max_comment_to_code_ratio; got {low} and {high}."
        raise UsageError(message)


def _characters(texts: pa.LargeStringArray) -> Counts:
    lengths = pc.fill_null(pc.utf8_length(texts), 0).cast(pa.int64())
    return lengths.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _comment_share(texts: pa.LargeStringArray, language: str) -> pa.Array:
    return pa.array(share(count_comments(texts, language), _characters(texts)))


@dataclass(frozen=True)
class NumberOfLinesOfCodeFilter(MeasuredFilter):
    """Keeps files of ``min_lines`` to ``max_lines`` lines, both included.

    Score: What line feeds divide, blank lines and the one after a last line feed among them.
    Range: 0 and up, int64.
    Empty text: 0 (dropped, unless ``min_lines`` is 0).
    Source: NeMo Curator's code filters: 10 to 20,000.
    Relations: NeMo Curator's filter of this name counts one line in an empty text.
    """

    min_lines: int = 10
    """Fewest lines kept."""
    max_lines: int = 20_000
    """Most lines kept."""

    score_type: ClassVar[pa.DataType] = pa.int64()
    too_low: ClassVar[str] = "fewer than {} lines"
    too_high: ClassVar[str] = "more than {} lines"
    low_setting: ClassVar[str] = "min_lines"
    high_setting: ClassVar[str] = "max_lines"

    def __post_init__(self) -> None:
        if not 0 <= self.min_lines <= self.max_lines:
            message = f"min_lines must be from 0 to max_lines; got {self.min_lines} and {self.max_lines}."
            raise UsageError(message)
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Lines kept."""
        return self.min_lines, self.max_lines

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return counted["lines"]


@dataclass(frozen=True)
class AlphaFilter(MeasuredFilter):
    """Keeps files with letters in them, and not those that are tables of numbers or encoded data.

    Score: Letters, of any script, over characters.
    Range: 0 to 1.
    Empty text: 0 (dropped, unless ``min_alpha_ratio`` is 0).
    Source: Li et al. 2023 (StarCoder, arXiv:2305.06161), section 3.1: at least 0.25.
    Relations: NeMo Curator's filter of this name knows the letters of English alone, and stops the run at an empty
        text.
    """

    min_alpha_ratio: float = 0.25
    """Smallest share kept."""

    too_low: ClassVar[str] = "fewer than {} of its characters are letters"
    low_setting: ClassVar[str] = "min_alpha_ratio"

    def __post_init__(self) -> None:
        require_share(self.min_alpha_ratio, "min_alpha_ratio")
        self.check()

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return self.min_alpha_ratio, None

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """The scores."""
        return share(counted["letters"], counted["characters"])


@dataclass(frozen=True)
class HTMLBoilerplateFilter(BoundedFilter):
    """Keeps pages of HTML that are not markup almost alone.

    Score: Characters of text that a reader sees over characters, 0 where they are fewer than
        ``min_lang_content_num_chars``. Tags, comments, scripts and styles are not seen, a run of white space is one
        character and an entity another.
    Range: 0 to 1.
    Empty text: 0 (dropped, unless ``min_lang_content_ratio`` is 0).
    Source: Li et al. 2023 (StarCoder, arXiv:2305.06161), section 3.1: at least 0.2, and 100 characters.
    Relations: NeMo Curator's filter of this name counts every space and line feed that indents markup as content, and
        stops the run at an empty text.
    """

    min_lang_content_ratio: float = 0.2
    """Smallest share kept."""
    min_lang_content_num_chars: int = 100
    """Fewest characters of text; a page with fewer scores 0."""

    too_low: ClassVar[str] = "less than {} of it is text that a reader sees"
    low_setting: ClassVar[str] = "min_lang_content_ratio"

    def __post_init__(self) -> None:
        require_share(self.min_lang_content_ratio, "min_lang_content_ratio")
        if self.min_lang_content_num_chars < 0:
            message = f"min_lang_content_num_chars must be 0 or more; got {self.min_lang_content_num_chars}."
            raise UsageError(message)

    def bounds(self) -> tuple[float | None, float | None]:
        """Shares kept."""
        return self.min_lang_content_ratio, None

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The share of text."""
        visible = count_visible(texts)
        found = share(visible, _characters(texts))
        return pa.array(np.where(visible < self.min_lang_content_num_chars, 0.0, found))


@dataclass(frozen=True)
class XMLHeaderFilter(DocumentFilter):
    """Keeps files that do not begin as XML does, whatever their name says they are.

    Score: 1 where ``<?xml version=`` stands within the first characters, else 0.
    Range: 0 or 1, int64.
    Empty text: 0 (kept).
    Source: Li et al. 2023 (StarCoder, arXiv:2305.06161), section 3.1: within 100 characters.
    """

    char_prefix_search_length: int = 100
    """Characters that are looked at."""

    score_type: ClassVar[pa.DataType] = pa.int64()

    def __post_init__(self) -> None:
        if self.char_prefix_search_length < 1:
            message = f"char_prefix_search_length must be 1 or more; got {self.char_prefix_search_length}."
            raise UsageError(message)

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """1 where it is XML."""
        found = true_mask(pc.match_substring(texts, "<?xml version="))
        if found.any():  # somewhere: few do
            first = pc.utf8_slice_codeunits(texts.filter(pa.array(found)), 0, self.char_prefix_search_length)
            found[found] = true_mask(pc.match_substring(first, "<?xml version="))
        return pa.array(found.astype(np.int64))

    def score_document(self, text: str) -> int:
        """1 if one text is XML."""
        return int(self.score_batch(pa.array([text], pa.large_string()))[0].as_py())

    def keep_document(self, score: int) -> bool:
        """Whether it is not."""
        return score == 0

    def reasons(self, scores: pa.Array) -> pa.StringArray:
        """It is XML."""
        return pc.if_else(pc.equal(scores, 0), _KEEP, "begins as XML does")
