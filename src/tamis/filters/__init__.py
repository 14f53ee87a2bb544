"""Filters and the stages that apply them."""

from tamis.filters.base import DocumentFilter, Filter, Score, ScoreFilter
from tamis.filters.bounded import BoundedFilter
from tamis.filters.bundles import fineweb_quality, gopher_quality, gopher_repetition, massive_text
from tamis.filters.repetition import (
    RepeatedLinesByCharFilter,
    RepeatedLinesFilter,
    RepeatedParagraphsByCharFilter,
    RepeatedParagraphsFilter,
    RepeatingDuplicateNGramsFilter,
    RepeatingTopNGramsFilter,
)
from tamis.filters.surface import (
    BulletsFilter,
    EllipsisFilter,
    LongWordFilter,
    MeanWordLengthFilter,
    NewLinesToWordsFilter,
    NonAlphaNumericFilter,
    NumbersFilter,
    ParenthesesFilter,
    PunctuationFilter,
    ShortLinesFilter,
    SymbolsToWordsFilter,
    UrlsFilter,
    WhiteSpaceFilter,
    WordCountFilter,
    WordsWithoutAlphabetsFilter,
)
from tamis.filters.where import Where, parse_expression
from tamis.filters.wordlists import (
    BoilerPlateStringFilter,
    CommonEnglishWordsFilter,
    CommonWordsFilter,
    PornographicUrlsFilter,
    SubstringFilter,
)

__all__ = [
    "BoilerPlateStringFilter",
    "BoundedFilter",
    "BulletsFilter",
    "CommonEnglishWordsFilter",
    "CommonWordsFilter",
    "DocumentFilter",
    "EllipsisFilter",
    "Filter",
    "LongWordFilter",
    "MeanWordLengthFilter",
    "NewLinesToWordsFilter",
    "NonAlphaNumericFilter",
    "NumbersFilter",
    "ParenthesesFilter",
    "PornographicUrlsFilter",
    "PunctuationFilter",
    "RepeatedLinesByCharFilter",
    "RepeatedLinesFilter",
    "RepeatedParagraphsByCharFilter",
    "RepeatedParagraphsFilter",
    "RepeatingDuplicateNGramsFilter",
    "RepeatingTopNGramsFilter",
    "Score",
    "ScoreFilter",
    "ShortLinesFilter",
    "SubstringFilter",
    "SymbolsToWordsFilter",
    "UrlsFilter",
    "Where",
    "WhiteSpaceFilter",
    "WordCountFilter",
    "WordsWithoutAlphabetsFilter",
    "fineweb_quality",
    "gopher_quality",
    "gopher_repetition",
    "massive_text",
    "parse_expression",
]
