"""The rules of peers and of Tamis in plain Python, with what tells them apart as switches.

``RULES[name] = (switches, keeps)``: ``keeps(text, on)`` is Tamis's decision where no switch is on, and the peer's where
all are. So a difference between the two is explained by the switches that turn one decision into the other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from runners.gopher_loop import BULLETS, SIGNS, UNSPACED

from tamis.text.characters import TERMINAL, flags

On = frozenset[str]
Keeps = Callable[[str, On], bool]

COMMON = {"the", "be", "to", "of", "and", "that", "have", "with"}
PHRASES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
CURATOR_BULLETS = tuple("\u2022\u2023\u2043\u204c\u204d\u2219\u25cb\u25cf\u25d8\u25e6\u29be\u29bf")
CURATOR_ENDS = (".", "?", "!", '"', "'")
CURATOR_ELLIPSES = ("...", "[...]", "\u2026", "(...)", "[\u2026]", "-\u00bb", "read more..", "read more")
CURATOR_URL = re.compile(r"https?://(?:[A-Za-z0-9$\-_@.&+/:=?#~]|[!*\(\),]|(?:%[0-9A-Fa-f]{2}))+")
URL = re.compile(r"(?i)https?://[!#-;=?-\[\]_a-z~]+", re.ASCII)


def filled(text: str, *, stripped: bool = True) -> list[str]:
    return [line.strip() if stripped else line for line in text.split("\n") if line.strip()]


def paragraphs(text: str, *, stripped: bool = True, two_feeds: bool = False) -> list[str]:
    if two_feeds:
        parts = text.split("\n\n")
    else:
        parts, own = [], []
        for line in [*text.split("\n"), ""]:
            if line.strip():
                own.append(line)
            elif own:
                parts.append("\n".join(own))
                own = []
    return ["\n".join(filled(part)) for part in parts] if stripped else parts


def new_share(things: Sequence[str], *, characters: bool) -> float:
    """Share of the things, or of their characters, that are not equal to one before."""
    size = (lambda x: len(x.replace("\n", ""))) if characters else (lambda _: 1)
    total = sum(map(size, things))
    return sum(map(size, set(things))) / total if total else 1.0


def covered(words: Sequence[str], places: Sequence[int], n: int, *, spaces: bool) -> int:
    total = end = 0
    for i in places:
        start = max(i, end)
        total += sum(map(len, words[start : i + n])) + spaces * (i + n - start - (start == i))
        end = i + n
    return total


def ngrams_of(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[k:] for k in range(n)), strict=False))


def size_of(text: str, on: On) -> int:
    return len(text) if "white space" in on else len("".join(text.split()))


# -- NeMo Curator ---------------------------------------------------------------------------------------------


def non_alpha_numeric(text: str, on: On) -> bool:
    def other(c: str) -> bool:
        if c in "\n?!,.":
            return False
        if c.isspace():
            return "white space" in on
        known = c.isascii() if "letters a to z" in on else True
        return not (known and (c.isalpha() or c.isdigit()))

    return sum(map(other, text)) / max(len(text), 1) <= 0.25


def symbols(text: str, on: On) -> bool:
    words = text.split()
    if "whole words" in on:
        found = sum(w in CURATOR_ELLIPSES or len(re.findall("#+", w)) / len(w) > 0.5 for w in words)
    else:
        found = max(text.count("#"), text.count("...") + text.count("\u2026"))
    return found / max(len(words), 1) <= 0.1


def bullets(text: str, on: On) -> bool:
    lines = filled(text)
    if "other bullets" in on:
        found = sum(line.startswith(CURATOR_BULLETS) for line in lines)
    else:
        found = sum(line[0] in BULLETS and (line[0] not in SIGNS or line[1:2].isspace()) for line in lines)
    return found / max(len(lines), 1) <= 0.9


def common(text: str, on: On) -> bool:
    words = text.split() if "words as they stand" in on else re.findall(r"\w+", text.lower())
    found = [w for w in words if w in COMMON]
    return (len(found) if "each occurrence" in on else len(set(found))) >= 2


def numbers(text: str, on: On) -> bool:
    is_digit = str.isdecimal if "decimal digits alone" in on else str.isdigit
    return sum(map(is_digit, text)) / max(len(text), 1) <= 0.15


def urls(text: str, on: On) -> bool:
    found = (CURATOR_URL if "characters of an address" in on else URL).findall(text)
    return sum(map(len, found)) / max(len(text), 1) <= 0.2


def white(text: str, on: On) -> bool:
    found = sum(c in "\t\n\r\b " if "white space of ASCII" in on else c.isspace() for c in text)
    return found / max(len(text), 1) <= 0.25


def punctuation(text: str, on: On) -> bool:
    lines = filled(text)
    if "marks of ASCII" in on:
        ended = sum(line.endswith(CURATOR_ENDS) for line in lines)
    else:
        table = flags()
        ended = sum(bool(ord(line[-1]) < len(table) and table[ord(line[-1])] & TERMINAL) for line in lines)
    return (len(lines) - ended) / max(len(lines), 1) <= 0.85


def ellipsis_lines(text: str, on: On) -> bool:
    lines = filled(text)
    ends = CURATOR_ELLIPSES if "other ends" in on else ("...", "\u2026")
    return sum(line.lower().endswith(ends) for line in lines) / max(len(lines), 1) <= 0.3


def boilerplate(text: str, on: On) -> bool:
    low = text.lower()
    phrases = (*PHRASES, "privacy overview") if "more phrases" in on else PHRASES
    parts = low.split("\n\n") if "empty paragraphs" in on else [p for p in re.split(r"\n\s*\n", low) if p.strip()]
    found = sum(any(phrase in part for phrase in phrases) for part in parts)
    return "lorem ipsum" not in low and found / max(len(parts), 1) <= 0.4


def lines_rule(bound: float, *, characters: bool) -> Keeps:
    def keeps(text: str, on: On) -> bool:
        return new_share(filled(text, stripped="lines as they stand" not in on), characters=characters) >= bound

    return keeps


def paragraphs_rule(bound: float, *, characters: bool) -> Keeps:
    def keeps(text: str, on: On) -> bool:
        parts = paragraphs(text, stripped="lines as they stand" not in on, two_feeds="two line feeds divide" in on)
        if characters and "lines as they stand" in on:  # line feeds count as well
            return len("".join(set(parts))) / max(len("".join(parts)), 1) >= bound
        return new_share(parts, characters=characters) >= bound

    return keeps


def top_rule(n: int, bound: float) -> Keeps:
    def keeps(text: str, on: On) -> bool:
        words = text.split()
        found = ngrams_of(words, n)
        counts = Counter(found)
        best = max(counts.values(), default=0)
        if best < 2 and "n-grams that occur once" not in on:
            return True
        if not found:
            return len(words) >= n
        shares = []
        for ngram in [g for g, count in counts.items() if count == best][:2000]:
            if "single spaces" in on:
                shares.append((len(text) - len(text.replace(" ".join(ngram), ""))) / max(len(text), 1))
            else:
                places = [i for i, other in enumerate(found) if other == ngram]
                shares.append(covered(words, places, n, spaces="white space" in on) / max(size_of(text, on), 1))
        # The peer takes any of the most frequent; the smallest stands for it, which one it takes being chance.
        return (min if "ties by chance" in on else max)(shares) <= bound

    return keeps


def duplicate_rule(n: int, bound: float) -> Keeps:
    def keeps(text: str, on: On) -> bool:
        words = text.split()
        seen: set[tuple[str, ...]] = set()
        places = []
        for i, ngram in enumerate(ngrams_of(words, n)):
            if ngram in seen:
                places.append(i)
            seen.add(ngram)
        if len(words) < n and "fewer words than n" in on:
            return False
        return covered(words, places, n, spaces="white space" in on) / max(size_of(text, on), 1) <= bound

    return keeps


# -- datatrove ------------------------------------------------------------------------------------------------


def gopher_quality(text: str, on: On) -> bool:
    words = text.split()
    counted = [w for w in words if any(map(str.isalnum, w))] if "marks are no words" in on else words
    if not 50 <= len(counted) <= 100_000 or not 3 <= sum(map(len, counted)) / len(counted) <= 10:
        return False
    if not symbols(text, frozenset()):
        return False
    lines = text.splitlines() if "blank lines" in on else filled(text)
    if "every hyphen" in on:
        found = sum(line.lstrip().startswith(("\u2022", "-")) for line in lines)
    else:
        stripped = [line.strip() or " " for line in lines]
        found = sum(s[0] in BULLETS and (s[0] not in SIGNS or s[1:2].isspace()) for s in stripped)
    if found / len(lines) > 0.9 or sum(line.rstrip().endswith(("...", "\u2026")) for line in lines) / len(lines) > 0.3:
        return False
    if sum(any(map(str.isalpha, w)) for w in words) / len(words) < 0.8:
        return False
    return common(text, frozenset({"words as they stand"} & on))


def gopher_repetition(text: str, on: On) -> bool:
    if "lines as they stand" in on:
        lines, parts = re.split("\n+", text), re.split("\n{2,}", text.strip())
    else:
        lines, parts = filled(text), paragraphs(text)
    for things in (lines, parts):
        total = len(text) if "white space" in on else sum(len(t) for t in lines)
        again = len(things) - len(set(things))
        counts = Counter(things)
        characters = sum(len(t.replace("\n", "")) * (count - 1) for t, count in counts.items())
        if again / max(len(things), 1) > 0.3 or characters / max(total, 1) > 0.2:
            return False
    words = text.split()
    for n, bound in ((2, 0.20), (3, 0.18), (4, 0.16)):
        if "count times length" in on:
            counts = Counter(ngrams_of(words, n))
            ngram, count = counts.most_common(1)[0] if counts else ((), 0)
            if len(" ".join(ngram)) * count / max(size_of(text, on), 1) > bound:
                return False
        elif not top_rule(n, bound)(text, on & {"white space"}):
            return False
    for n, bound in zip(range(5, 11), (0.15, 0.14, 0.13, 0.12, 0.11, 0.10), strict=True):
        if "on behind a repetition" in on:
            seen, total, i = set(), 0, 0
            while i < len(words) - n + 1:
                ngram = "".join(words[i : i + n])
                total += len(ngram) * (ngram in seen)
                i += n if ngram in seen else 1
                seen.add(ngram)
            if total / max(size_of(text, on), 1) > bound:
                return False
        elif not duplicate_rule(n, bound)(text, on & {"white space"}):
            return False
    return True


def fineweb_quality(text: str, on: On) -> bool:
    lines = filled(text, stripped="lines as they stand" not in on)
    table = flags()
    quotes = "\"'\u201d\u2019\u00bb" if "a quotation mark ends no line" in on else ""
    ended = sum(
        line[-1] not in quotes and ord(line[-1]) < len(table) and bool(table[ord(line[-1])] & TERMINAL)
        for line in lines
    )
    total = len(text.replace("\n", "")) if "white space" in on else sum(map(len, lines))
    again = sum(len(line) * (count - 1) for line, count in Counter(lines).items())
    return (
        (len(lines) - ended) / max(len(lines), 1) <= 0.88
        and sum(len(line) <= 30 for line in lines) / max(len(lines), 1) <= 0.67
        and text.count("\n") / max(len(text.split()), 1) <= 0.3
        and again / max(total, 1) <= 0.01
    )


def word_count(text: str, on: On) -> bool:
    words = text.split() if "white space alone divides" in on else UNSPACED.sub(" x ", text).split()
    return 50 <= len(words) <= 100_000


ONCE = ("n-grams that occur once", "white space", "ties by chance", "single spaces")
RULES: dict[str, tuple[tuple[str, ...], Keeps]] = {
    "WordCountFilter": (("white space alone divides",), word_count),
    "SymbolsToWordsFilter": (("whole words",), symbols),
    "BulletsFilter": (("other bullets",), bullets),
    "EllipsisFilter": (("other ends",), ellipsis_lines),
    "CommonEnglishWordsFilter": (("words as they stand", "each occurrence"), common),
    "NonAlphaNumericFilter": (("white space", "letters a to z"), non_alpha_numeric),
    "NumbersFilter": (("decimal digits alone",), numbers),
    "UrlsFilter": (("characters of an address",), urls),
    "WhiteSpaceFilter": (("white space of ASCII",), white),
    "PunctuationFilter": (("marks of ASCII",), punctuation),
    "BoilerPlateStringFilter": (("empty paragraphs", "more phrases"), boilerplate),
    "RepeatedLinesFilter": (("lines as they stand",), lines_rule(0.7, characters=False)),
    "RepeatedLinesByCharFilter": (("lines as they stand",), lines_rule(0.8, characters=True)),
    "RepeatedParagraphsFilter": (
        ("two line feeds divide", "lines as they stand"),
        paragraphs_rule(0.7, characters=False),
    ),
    "RepeatedParagraphsByCharFilter": (
        ("two line feeds divide", "lines as they stand"),
        paragraphs_rule(0.8, characters=True),
    ),
    **{f"RepeatingTopNGramsFilter {n}": (ONCE, top_rule(n, b)) for n, b in ((2, 0.2), (3, 0.18), (4, 0.16))},
    **{
        f"RepeatingDuplicateNGramsFilter {n}": (("white space", "fewer words than n"), duplicate_rule(n, b))
        for n, b in zip(range(5, 11), (0.15, 0.14, 0.13, 0.12, 0.11, 0.10), strict=True)
    },
    "gopher_quality": (
        ("words as they stand", "every hyphen", "blank lines", "marks are no words"),
        gopher_quality,
    ),
    "fineweb_quality": (
        ("a quotation mark ends no line", "white space", "lines as they stand"),
        fineweb_quality,
    ),
    "gopher_repetition": (
        ("white space", "count times length", "on behind a repetition", "lines as they stand"),
        gopher_repetition,
    ),
}
