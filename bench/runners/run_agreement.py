"""What a peer's filters decide about every document of a folder, one by one.

    python run_agreement.py curator|datatrove INPUT OUTPUT.json

Writes ``{rule: [1 where kept, 0 where dropped, null where the filter raised]}``, in the order of the files and lines.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from run_catalogue import DUPLICATE, TOP

Rule = Callable[[str], bool]


def curator() -> dict[str, Rule]:
    """NeMo Curator's filters with their defaults, which are Tamis's."""
    from entered import curator_filters

    f = curator_filters(code=True)
    filters: dict[str, Any] = {
        name: getattr(f, name)()
        for name in (
            *("WordCountFilter", "MeanWordLengthFilter", "LongWordFilter", "SymbolsToWordsFilter", "BulletsFilter"),
            *("EllipsisFilter", "WordsWithoutAlphabetsFilter", "CommonEnglishWordsFilter", "NonAlphaNumericFilter"),
            *("NumbersFilter", "UrlsFilter", "WhiteSpaceFilter", "ParenthesesFilter", "PunctuationFilter"),
            *("BoilerPlateStringFilter", "RepeatedLinesFilter", "RepeatedParagraphsFilter", "PornographicUrlsFilter"),
            *("RepeatedLinesByCharFilter", "RepeatedParagraphsByCharFilter", "XMLHeaderFilter", "AlphaFilter"),
            *("NumberOfLinesOfCodeFilter", "PythonCommentToCodeFilter"),
        )
    }
    filters |= {f"RepeatingTopNGramsFilter {n}": f.RepeatingTopNGramsFilter(n, bound) for n, bound in TOP}
    filters |= {
        f"RepeatingDuplicateNGramsFilter {n}": f.RepeatingDuplicateNGramsFilter(n, bound) for n, bound in DUPLICATE
    }
    return {
        name: lambda text, each=each: bool(each.keep_document(each.score_document(text)))
        for name, each in filters.items()
    }


def datatrove() -> dict[str, Rule]:
    """datatrove's rule sets, words divided at white space, sentences by spaCy's rules."""
    import spacy
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.utils.word_tokenizers import WordTokenizer

    sentences = spacy.blank("en")
    sentences.max_length = 10_000_000
    sentences.add_pipe("sentencizer")

    class Split(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            return [found.text for found in sentences(text).sents if found.text.strip()]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            # Of sentences: that is what datatrove divides a text into them by.
            return [(found.start_char, found.end_char) for found in sentences(text).sents if found.text.strip()]

    words = Split()
    filters = {
        "gopher_quality": GopherQualityFilter(language=words),
        "gopher_repetition": GopherRepetitionFilter(language=words),
        "fineweb_quality": FineWebQualityFilter(language=words),
        "c4_quality": C4QualityFilter(language=words),
    }
    return {
        name: lambda text, each=each: each.filter(Document(text=text, id="")) is True for name, each in filters.items()
    }


def main() -> None:
    which, source, output = sys.argv[1:]
    rules = {"curator": curator, "datatrove": datatrove}[which]()
    found: dict[str, list[int | None]] = {name: [] for name in rules}
    for path in sorted(Path(source).glob("*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                text = orjson.loads(line)["text"]
                for name, keeps in rules.items():
                    try:
                        found[name].append(int(keeps(text)))
                    except (ZeroDivisionError, ValueError, SyntaxError, TypeError):
                        found[name].append(None)
    Path(output).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
