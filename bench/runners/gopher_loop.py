"""Gopher's quality and repetition rules in plain Python, as fast as it goes, with the decisions of ``massive_text()``.

One pass over the words of a document with ``str.split``, regular expressions and ``Counter``. It stops at the first
rule that drops the document, and does not count what cannot decide any more: longer n-grams only where shorter ones
repeat, the exact share of an n-gram only where its upper bound is too large.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_COMMON = re.compile(r"\b(?:the|be|to|of|and|that|have|with)\b")
BULLETS = frozenset(
    "\u2022\u2023\u2043\u25e6\u25aa\u25ab\u25a0\u25a1\u25cf\u25cb\u25b6\u25c0\u25ba\u25c4\u2219\u00b7*-\u2013"
)
SIGNS = frozenset("*-\u2013")
_TOP = ((2, 0.20), (3, 0.18), (4, 0.16))
_DUPLICATE = tuple(zip(range(5, 11), (0.15, 0.14, 0.13, 0.12, 0.11, 0.10), strict=True))
# Scripts written without spaces, in which a character is a word: such a text is left to nobody's fast path.
UNSPACED = re.compile(
    "[\u0e01-\u109f\u1780-\u17d3\u1950-\u1aaf\u1b00-\u1b4b\u2e80-\u9fff\ua980-\ua9c0"
    "\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f\U0001aff0-\U0001b16f\U00020000-\U0003ffff]"
)


def keeps(text: str) -> bool | None:
    """Whether the document is kept; ``None`` for one with words of a script without spaces."""
    if not text.isascii() and UNSPACED.search(text):
        return None
    words = text.split()
    characters = len("".join(words))
    stripped = [line.strip() for line in text.split("\n")]
    lines = [line for line in stripped if line]
    return _quality(text, words, characters, lines) and _lines(stripped, lines) and _ngrams(words, characters)


def _quality(text: str, words: Sequence[str], characters: int, lines: Sequence[str]) -> bool:
    n = len(words)
    if not 50 <= n <= 100_000 or not 3 <= characters / n <= 10:
        return False
    ellipses = text.count("...") + text.count("\u2026")
    if max(text.count("#") / n, ellipses / n) > 0.1:
        return False
    bullets = 0
    for line in lines:
        if line[0] in BULLETS and (line[0] not in SIGNS or (len(line) > 1 and line[1].isspace())):
            bullets += 1
    if bullets / len(lines) > 0.9:
        return False
    if ellipses and sum(line.endswith(("...", "\u2026")) for line in lines) / len(lines) > 0.3:
        return False
    return _lettered(words) and _common(text)


def _lettered(words: Sequence[str]) -> bool:
    least = 0.8
    found = sum(map(str.isalpha, words))
    if found / len(words) < least:
        found += sum(any(map(str.isalpha, word)) for word in words if not word.isalpha())
    return found / len(words) >= least


def _common(text: str) -> bool:
    first = None
    for match in _COMMON.finditer(text.lower()):
        if first is None:
            first = match[0]
        elif match[0] != first:
            return True
    return False


def _lines(stripped: Sequence[str], lines: Sequence[str]) -> bool:
    if len(set(lines)) == len(lines):
        return True
    total = sum(map(len, lines))
    again, characters = _repeated(lines)
    if 1 - again / len(lines) < 0.7 or 1 - characters / total < 0.8:
        return False
    paragraphs = [kept for part in "\n".join(stripped).split("\n\n") if (kept := part.strip("\n"))]
    again, characters = _repeated(paragraphs)
    return 1 - again / len(paragraphs) >= 0.7 and 1 - characters / total >= 0.8


def _repeated(things: Iterable[str]) -> tuple[int, int]:
    seen: set[str] = set()
    again = characters = 0
    for thing in things:
        if thing in seen:
            again += 1
            characters += len(thing) - thing.count("\n")
        else:
            seen.add(thing)
    return again, characters


def _ngrams(words: Sequence[str], characters: int) -> bool:
    slices = [words]
    for n, bound in _TOP:
        slices.append(words[n - 1 :])
        counts = Counter(zip(*slices, strict=False))
        best = max(counts.values(), default=0)
        if best < 2:
            return True
        for ngram, count in counts.items():
            if count == best and best * len("".join(ngram)) / characters > bound:
                places = [i for i, other in enumerate(zip(*slices, strict=False)) if other == ngram]
                if _covered(words, places, n) / characters > bound:
                    return False
    slices.append(words[4:])
    ngrams = list(zip(*slices, strict=False))
    counts = Counter(ngrams)
    if len(counts) == len(ngrams):
        return True
    places = [i for i, ngram in enumerate(ngrams) if counts[ngram] > 1]
    for n, bound in _DUPLICATE:
        seen = set()
        again = []
        for i in places:
            ngram = tuple(words[i : i + n])
            if ngram in seen and len(ngram) == n:
                again.append(i)
            seen.add(ngram)
        if _covered(words, again, n) / characters > bound:
            return False
        if not again:
            return True
    return True


def _covered(words: Sequence[str], places: Iterable[int], n: int) -> int:
    total = end = 0
    for i in places:
        total += sum(map(len, words[max(i, end) : i + n]))
        end = i + n
    return total
