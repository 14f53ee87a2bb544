"""The rule sets of published corpora, with the bounds of their papers.

Each is several filters in a row; give them to a dataset like one, or list them to change a bound::

    clean = gopher_quality()(dataset)

Filters that share a walk over the text stand together, so a set costs one or two walks (see ``docs/catalogue.md``).
"""

from __future__ import annotations

from tamis.filters.base import ScoreFilter
from tamis.filters.c4 import BadWordsFilter, CurlyBracketsFilter, LoremIpsumFilter, SentenceCountFilter
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
    MeanWordLengthFilter,
    NewLinesToWordsFilter,
    PunctuationFilter,
    ShortLinesFilter,
    SymbolsToWordsFilter,
    WordCountFilter,
    WordsWithoutAlphabetsFilter,
)
from tamis.filters.wordlists import CommonWordsFilter
from tamis.modifiers.base import Modify
from tamis.modifiers.c4 import C4LineRemover
from tamis.stage import Sequential
from tamis.text.words import UNSPACED

__all__ = ["c4_quality", "fineweb", "fineweb_quality", "gopher_quality", "gopher_repetition", "massive_text"]


def c4_quality(
    bad_words: str = "",
    lang: str = "en",
    min_words_per_line: int = 5,
    min_sentences: int = 3,
    *,
    terminal_punctuation: bool = True,
) -> Sequential:
    """The rules of C4: lines that are no sentences go, then documents with code, placeholders or too few sentences.

    Source: Raffel et al. 2020 (JMLR 21(140), arXiv:1910.10683), section 2.2. As in the published code, documents are
    judged by the lines that stay. ``bad_words`` names a file with one word or phrase on each line; without it that rule
    is left out, for no list comes with Tamis. Left out besides are the language (English with a probability of 0.99: a
    filter of its own) and repeated spans of three sentences, which look at more than one document.
    ``lang`` says where a word of the list ends.
    """
    lines = C4LineRemover(min_words_per_line, terminal_punctuation=terminal_punctuation)
    rules = [LoremIpsumFilter(), CurlyBracketsFilter(), SentenceCountFilter(min_sentences)]
    listed = [BadWordsFilter(bad_words, lang=lang)] if bad_words else []
    return Sequential([Modify(lines), *(ScoreFilter(each) for each in (*rules, *listed))])


def gopher_quality(lang: str = "en") -> Sequential:
    """The quality rules of Gopher: length, words, symbols, lists, ellipses, letters and common words.

    Source: Rae et al. 2021 (arXiv:2112.11446), appendix A1, all rules. ``lang`` chooses the common words. In languages
    that are written without spaces each character is a word, so there the least mean length is 1 and not the paper's 3.
    """
    shortest = 1 if lang in UNSPACED else 3
    return Sequential(
        ScoreFilter(each)
        for each in (
            WordCountFilter(50, 100_000),
            MeanWordLengthFilter(shortest, 10),
            SymbolsToWordsFilter(0.1),
            BulletsFilter(0.9),
            EllipsisFilter(0.3),
            WordsWithoutAlphabetsFilter(0.8),
            CommonWordsFilter(lang, 2),
        )
    )


def gopher_repetition() -> Sequential:
    """The repetition rules of Gopher: lines, paragraphs, the most frequent 2- to 4-grams, repeated 5- to 10-grams.

    Source: Rae et al. 2021 (arXiv:2112.11446), appendix A1 and table A1, all rules.
    """
    duplicates = zip(range(5, 11), (0.15, 0.14, 0.13, 0.12, 0.11, 0.10), strict=True)
    tops = zip(range(2, 5), (0.20, 0.18, 0.16), strict=True)
    return Sequential(
        ScoreFilter(each)
        for each in (
            RepeatedLinesFilter(0.7),
            RepeatedParagraphsFilter(0.7),
            RepeatedLinesByCharFilter(0.8),
            RepeatedParagraphsByCharFilter(0.8),
            *(RepeatingDuplicateNGramsFilter(n, bound) for n, bound in duplicates),
            *(RepeatingTopNGramsFilter(n, bound) for n, bound in tops),
        )
    )


def massive_text(lang: str = "en") -> Sequential:
    """The rules of MassiveText, Gopher's corpus, for web pages: quality, then repetition.

    Source: Rae et al. 2021 (arXiv:2112.11446), appendix A1. Left out: removal of explicit content (Google SafeSearch),
    of near duplicates and of test-set documents, which look at more than one document's text.
    """
    return Sequential([gopher_quality(lang), gopher_repetition()])


def fineweb_quality() -> Sequential:
    """The rules that FineWeb adds to those of C4 and Gopher: line ends, short lines, repeated lines, line feeds.

    Source: Penedo et al. 2024 (arXiv:2406.17557), section 3.6: at least 0.12 of lines end in punctuation, at most
    0.67 of lines are short, at most 0.01 of the characters are in repeated lines, at most 0.3 line feeds for each word.
    """
    return Sequential(
        ScoreFilter(each)
        for each in (
            PunctuationFilter(0.88),
            ShortLinesFilter(0.67),
            NewLinesToWordsFilter(0.3),
            RepeatedLinesByCharFilter(0.99),
        )
    )


def fineweb(lang: str = "en") -> Sequential:
    """All rules of FineWeb for a text: Gopher's repetition and quality, C4's without line ends, and FineWeb's own.

    Source: Penedo et al. 2024 (arXiv:2406.17557), sections 3.2 to 3.6, in their order; the numbers of C4's rules are
    those of the published pipeline, 3 words in a line and 5 sentences. ``lang`` chooses the common words. Left out:
    block lists (:class:`UrlBlocklistFilter`), extraction of text from HTML, the language (:class:`FastTextLangId`, from
    0.65 on), near duplicates, and personal data.
    """
    lines = c4_quality("", lang, 3, 5, terminal_punctuation=False)
    return Sequential([gopher_repetition(), gopher_quality(lang), lines, fineweb_quality()])
