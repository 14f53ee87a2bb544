"""Places in a text that a filter counted, to be highlighted.

What is repeated is found as the filters find it (:mod:`tamis.text.repetition`), so that the highlighted characters over
all of them are the score. For other filters the places are those of the words or marks that they look for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from tamis.page.content import SpanKind
from tamis.text.arrow import utf8
from tamis.text.words import classes_for, tokenize

__all__ = ["Place", "places_of", "utf16"]

Place = tuple[int, int, SpanKind, str]
"""(start, end, kind, label), in characters."""

_MOST = 100
"""Places that are shown of one filter in one text."""
_ADDRESS = re.compile(r"(?:https?|ftp)://[^\s\"<>]+|www\.[^\s\"<>]+", re.IGNORECASE)


def places_of(decide: object, text: str) -> list[Place]:
    """The places that a filter looked at, in order; none where it is not known what it looks for."""
    find = _FINDERS.get(type(decide).__name__)
    return [] if find is None or not text else list(find(decide, text))[:_MOST]


def utf16(text: str, places: list[int]) -> list[int]:
    """Places in UTF-16 code units, as JavaScript counts, of places in characters.

    >>> utf16("a🦊b", [0, 1, 2, 3])
    [0, 1, 3, 4]
    """
    if text.isascii():
        return places
    wide = np.fromiter((ord(c) > 0xFFFF for c in text), dtype=np.int64, count=len(text))
    before = np.concatenate([[0], np.cumsum(wide)])
    return [place + int(before[place]) for place in places]


# -- repeated -------------------------------------------------------------------------------------------------


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """Filled lines, without the white space around them."""
    at = 0
    for line in text.split("\n"):
        filled = line.strip()
        if filled:
            start = at + line.index(filled[0])
            yield start, start + len(filled)
        at += len(line) + 1


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Filled lines between empty ones."""
    at, open_at, end = 0, -1, 0
    for line in text.split("\n"):
        filled = line.strip()
        if filled:
            start = at + line.index(filled[0])
            open_at = start if open_at < 0 else open_at
            end = start + len(filled)
        elif open_at >= 0:
            yield open_at, end
            open_at = -1
        at += len(line) + 1
    if open_at >= 0:
        yield open_at, end


def _again(text: str, parts: Iterator[tuple[int, int]], label: str) -> Iterator[Place]:
    """Those that are equal to one before."""
    seen: set[str] = set()
    for start, end in parts:
        # Paragraphs are compared without the white space around their lines.
        key = "\n".join(line.strip() for line in text[start:end].split("\n"))
        if key in seen:
            yield start, end, "repeated", label
        seen.add(key)


@lru_cache(maxsize=4)  # several filters ask about one text after the other
def _words(text: str, lang: str) -> tuple[list[int], list[int], list[int]]:
    """(hash, start, end) of each word, as lists; none where the words do not cover the text."""
    data, offsets = utf8(pa.array([text], pa.large_string()))
    room = len(data) // 2 + 2
    hashes, characters = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.int64)
    n = tokenize(data, int(offsets[0]), int(offsets[1]), classes_for(lang), hashes, characters)
    # Words are what is no white space, cut: so their lengths say where they are.
    black = [i for i, c in enumerate(text) if not c.isspace()]
    ends = np.cumsum(characters[:n])
    if not n or ends[-1] != len(black):
        return [], [], []
    starts = ends - characters[:n]
    return hashes[:n].tolist(), [black[i] for i in starts], [black[i - 1] + 1 for i in ends]


def _ngrams(text: str, n: int, lang: str) -> tuple[list[tuple[int, ...]], list[int], list[int]]:
    hashes, starts, ends = _words(text, lang)
    return [tuple(hashes[i : i + n]) for i in range(len(hashes) - n + 1)], starts, ends


def _joined(ranges: list[tuple[int, int]], label: str) -> Iterator[Place]:
    """Ranges that overlap or touch, as one."""
    start = end = -1
    for a, b in ranges:
        if a > end:
            if end >= 0:
                yield start, end, "repeated", label
            start = a
        end = max(end, b)
    if end >= 0:
        yield start, end, "repeated", label


def _duplicate_ngrams(decide: Any, text: str) -> Iterator[Place]:
    grams, starts, ends = _ngrams(text, decide.n, decide.lang)
    seen: set[tuple[int, ...]] = set()
    found = []
    for i, gram in enumerate(grams):
        if gram in seen:
            found.append((starts[i], ends[i + decide.n - 1]))
        seen.add(gram)
    return _joined(found, f"repeated {decide.n}-gram")


def _top_ngram(decide: Any, text: str) -> Iterator[Place]:
    grams, starts, ends = _ngrams(text, decide.n, decide.lang)
    counts = Counter(grams)
    most = max(counts.values(), default=0)
    if most < 2:
        return iter(())
    label = f"most frequent {decide.n}-gram"
    best: list[tuple[int, int]] = []
    covered = -1
    for wanted in (gram for gram, count in counts.items() if count == most):
        found = [(starts[i], ends[i + decide.n - 1]) for i, gram in enumerate(grams) if gram == wanted]
        size = sum(sum(not c.isspace() for c in text[a:b]) for a, b, _, _ in _joined(found, label))
        if size > covered:
            best, covered = found, size
    return _joined(best, label)


# -- matched --------------------------------------------------------------------------------------------------


def _matches(pattern: re.Pattern[str], label: str, text: str) -> Iterator[Place]:
    return ((m.start(), m.end(), "matched", label) for m in pattern.finditer(text) if m.end() > m.start())


def _phrases(words: list[str], label: str, text: str, flags: int = re.IGNORECASE) -> Iterator[Place]:
    known = [re.escape(word) for word in words if word]
    return _matches(re.compile("|".join(known), flags), label, text) if known else iter(())


def _common_words(decide: Any, text: str) -> Iterator[Place]:
    words = sorted({word.lower() for word in decide._list()})  # noqa: SLF001  the list in force, whatever the language
    if len(words) > 500:
        return iter(())
    return _matches(re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE), "common word", text)


_BOILERPLATE = ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"]

Finder = Callable[[Any, str], Iterator[Place]]
_FINDERS: Mapping[str, Finder] = {
    "RepeatedLinesFilter": lambda _, text: _again(text, _lines(text), "repeated line"),
    "RepeatedLinesByCharFilter": lambda _, text: _again(text, _lines(text), "repeated line"),
    "RepeatedParagraphsFilter": lambda _, text: _again(text, _paragraphs(text), "repeated paragraph"),
    "RepeatedParagraphsByCharFilter": lambda _, text: _again(text, _paragraphs(text), "repeated paragraph"),
    "RepeatingDuplicateNGramsFilter": _duplicate_ngrams,
    "RepeatingTopNGramsFilter": _top_ngram,
    "UrlsFilter": lambda _, text: _matches(_ADDRESS, "address", text),
    "PornographicUrlsFilter": lambda _, text: _matches(
        re.compile(r"https?://[^\s\"<>]*porn[^\s\"<>]*", re.IGNORECASE), "address", text
    ),
    "NumbersFilter": lambda _, text: _matches(re.compile(r"\d+"), "digits", text),
    "SymbolsToWordsFilter": lambda _, text: _matches(re.compile(r"#|\.\.\.|…"), "symbol", text),
    "EllipsisFilter": lambda _, text: _matches(re.compile(r"(?:\.\.\.|…)(?=[^\S\n]*(?:\n|$))"), "ellipsis", text),
    "BulletsFilter": lambda _, text: _matches(
        re.compile(r"^[^\S\n]*[•‣\u2043◦▪▫■□●○▶◀►◄∙·*\u2013-]", re.MULTILINE), "bullet", text
    ),
    "ParenthesesFilter": lambda _, text: _matches(re.compile(r"[()\[\]{}⟨⟩]"), "bracket", text),
    "BoilerPlateStringFilter": lambda _, text: _phrases([*_BOILERPLATE, "lorem ipsum"], "phrase", text),
    "SubstringFilter": lambda decide, text: _phrases([decide.substring], "text looked for", text, 0),
    "CommonWordsFilter": _common_words,
    "CommonEnglishWordsFilter": _common_words,
}
"""By the name of the filter's class."""
