"""Filters and the stages that apply them."""

from tamis.filters.base import DocumentFilter, Filter, Score, ScoreFilter
from tamis.filters.bounded import BoundedFilter
from tamis.filters.bundles import c4_quality, fineweb, fineweb_quality, gopher_quality, gopher_repetition, massive_text
from tamis.filters.c4 import BadWordsFilter, CurlyBracketsFilter, LoremIpsumFilter, SentenceCountFilter
from tamis.filters.code import (
    AlphaFilter,
    GeneralCommentToCodeFilter,
    HTMLBoilerplateFilter,
    NumberOfLinesOfCodeFilter,
    PythonCommentToCodeFilter,
    XMLHeaderFilter,
)
from tamis.filters.extensions import PerExtensionFilter
from tamis.filters.fasttext import (
    FastTextClassifierFilter,
    FastTextLangId,
    FastTextLanguageFilter,
    FastTextQualityFilter,
)
from tamis.filters.histogram import HistogramFilter
from tamis.filters.percentile import PercentileFilter
from tamis.filters.perplexity import PerplexityFilter
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
from tamis.filters.tokens import TokenCountFilter, TokenizerFertilityFilter
from tamis.filters.urls import UrlBlocklistFilter
from tamis.filters.where import Where, parse_expression
from tamis.filters.wordlists import (
    BoilerPlateStringFilter,
    CommonEnglishWordsFilter,
    CommonWordsFilter,
    PornographicUrlsFilter,
    SubstringFilter,
)

__all__ = [
    "AlphaFilter",
    "BadWordsFilter",
    "BoilerPlateStringFilter",
    "BoundedFilter",
    "BulletsFilter",
    "CommonEnglishWordsFilter",
    "CommonWordsFilter",
    "CurlyBracketsFilter",
    "DocumentFilter",
    "EllipsisFilter",
    "FastTextClassifierFilter",
    "FastTextLangId",
    "FastTextLanguageFilter",
    "FastTextQualityFilter",
    "Filter",
    "GeneralCommentToCodeFilter",
    "HTMLBoilerplateFilter",
    "HistogramFilter",
    "LongWordFilter",
    "LoremIpsumFilter",
    "MeanWordLengthFilter",
    "NewLinesToWordsFilter",
    "NonAlphaNumericFilter",
    "NumberOfLinesOfCodeFilter",
    "NumbersFilter",
    "ParenthesesFilter",
    "PerExtensionFilter",
    "PercentileFilter",
    "PerplexityFilter",
    "PornographicUrlsFilter",
    "PunctuationFilter",
    "PythonCommentToCodeFilter",
    "RepeatedLinesByCharFilter",
    "RepeatedLinesFilter",
    "RepeatedParagraphsByCharFilter",
    "RepeatedParagraphsFilter",
    "RepeatingDuplicateNGramsFilter",
    "RepeatingTopNGramsFilter",
    "Score",
    "ScoreFilter",
    "SentenceCountFilter",
    "ShortLinesFilter",
    "SubstringFilter",
    "SymbolsToWordsFilter",
    "TokenCountFilter",
    "TokenizerFertilityFilter",
    "UrlBlocklistFilter",
    "UrlsFilter",
    "Where",
    "WhiteSpaceFilter",
    "WordCountFilter",
    "WordsWithoutAlphabetsFilter",
    "XMLHeaderFilter",
    "c4_quality",
    "fineweb",
    "fineweb_quality",
    "gopher_quality",
    "gopher_repetition",
    "massive_text",
    "parse_expression",
]
