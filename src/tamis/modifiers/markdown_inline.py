"""What is markup within a paragraph of Markdown, and what is left without it.

The algorithm is that of the appendix of CommonMark's specification: delimiters and brackets lie on a stack, and each
closing one looks back. Its bookkeeping keeps the time linear whatever the text: an opener that was looked for in vain
is not looked for again further back.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["TAG", "label_of", "read_destination", "read_title", "skip_space", "without_markup"]

# Bare addresses are passed over, so that an underscore in one is no emphasis; "_" and "*" at their end may close one.
_TOKEN = re.compile(
    r"https?://[^\s<>()\[\]*`\\]*[^\s<>()\[\]*`\\_~.,:;!?'\"]|`+|[*_~]+|!\[|\[+|\]|\\|<(?=[\w.+/!?-])|\${1,2}",
    re.IGNORECASE,
)
_ESCAPABLE = frozenset("\\`*_[]#+-.!|<>~\"'&")
"""What a backslash takes the meaning of. CommonMark has all marks of ASCII; these of LaTeX stay: \\( \\{ \\, \\%."""
_TICKS = re.compile("`+")
_AUTOLINK = re.compile(r"<([A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)>")
TAG = re.compile(
    r"<(?:/[A-Za-z][A-Za-z0-9-]*\s*>"
    r"|[A-Za-z][A-Za-z0-9-]*+(?:\s++[A-Za-z_:][\w.:-]*+(?:\s*+=\s*+(?:[^\s\"'=<>`]++|'[^']*+'|\"[^\"]*+\"))?+)*+\s*+/?>)"
)
_RAW = (("<!--", "-->"), ("<?", "?>"), ("<![CDATA[", "]]>"))
_MATH = re.compile(r"\$(?=[^\s$])(?:[^$\\]|\\.)*+(?<=\S)\$(?!\d)", re.DOTALL)
_SPACE = re.compile(r"[ \t\r]*\n?[ \t\r]*")
_POINTED = re.compile(r"<((?:[^<>\n\\]|\\.)*+)>")
_PLAIN = re.compile(r"(?:[^\s()\\\x00-\x1f]|\\[^\s])+")
_TITLE = re.compile(r"\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'|\((?:[^()\\]|\\.)*+\)", re.DOTALL)
_LABEL = re.compile(r"\[((?:[^\[\]\\]|\\.){0,999})\]", re.DOTALL)
_UNSPACED = re.compile("[\u0e00-\u109f\u1780-\u17ff]")  # Thai, Lao, Tibetan, Burmese, Khmer
_DEEPEST = 32
"""Parentheses within parentheses of an address."""


def label_of(text: str) -> str:
    """The name of a reference as it is compared: case and white space do not count."""
    return " ".join(text.casefold().split())


def read_destination(text: str, at: int) -> tuple[str, int] | None:
    """The address that is written at a place of the text, and where it ends."""
    if text.startswith("<", at):
        pointed = _POINTED.match(text, at)
        return (pointed[1], pointed.end()) if pointed else None
    depth, end = 0, at
    while end < len(text):
        if plain := _PLAIN.match(text, end):
            end = plain.end()
        elif text[end] == "(" and depth < _DEEPEST:
            depth += 1
            end += 1
        elif text[end] == ")" and depth:
            depth -= 1
            end += 1
        else:
            break
    return None if depth else (text[at:end], end)


def read_title(text: str, at: int) -> int:
    """Where the title that is written at a place of the text ends; there, where none is."""
    found = _TITLE.match(text, at)
    return found.end() if found else at


def skip_space(text: str, at: int) -> int:
    """Behind white space with one line end at most."""
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _read_target(text: str, at: int) -> tuple[str, int] | None:
    """The address in ``(address "title")`` and the end of that."""
    if not text.startswith("(", at):
        return None
    found = read_destination(text, skip_space(text, at + 1))
    if found is None:
        return None
    address, end = found
    behind = skip_space(text, end)
    if behind > end:
        behind = skip_space(text, read_title(text, behind))
    return (address, behind + 1) if text.startswith(")", behind) else None


@lru_cache(maxsize=4096)
def _kind(character: str) -> str:
    """What a character is to emphasis: ``space``, ``mark``, ``letter``, ``digit`` or ``unspaced``.

    The last are the characters of scripts without spaces between words, and their punctuation.
    """
    if not character or character.isspace():
        return "space"
    if unicodedata.east_asian_width(character) in "WF" or _UNSPACED.match(character):
        return "unspaced"
    if unicodedata.category(character)[0] in "PS":
        return "mark"
    return "digit" if character.isdigit() else "letter"


@dataclass(slots=True)
class _Run:
    """Delimiters of one kind in a row."""

    mark: str
    start: int
    """Where those that are left begin."""
    left: int
    size: int
    opens: bool
    closes: bool
    before: _Run | None = None
    behind: _Run | None = None
    number: int = 0
    """Its place among all of the paragraph."""


@dataclass(slots=True)
class _Bracket:
    at: int
    is_image: bool
    last: _Run | None
    """The last run of delimiters before it."""


def without_markup(text: str, addresses: Mapping[str, str], *, show_addresses: bool) -> str:
    """A paragraph without its markup; ``addresses`` are those of its document's references."""
    return _Paragraph(text, addresses, show_addresses=show_addresses).plain()


class _Paragraph:
    """The markup of one paragraph, found from left to right."""

    def __init__(self, text: str, addresses: Mapping[str, str], *, show_addresses: bool) -> None:
        self._text, self._addresses, self._show = text, addresses, show_addresses
        self._gone: list[tuple[int, int, str]] = []
        """Pieces that are markup, and what is put in their place."""
        self._brackets: list[_Bracket] = []
        self._dead = 0
        """Brackets below this one cannot begin a link, for they would hold another one."""
        self._last_close = text.rfind("]")
        self._last: _Run | None = None
        self._runs = 0
        self._ticks: dict[int, list[int]] | None = None
        self._missing: set[str] = set()
        """Ends that were looked for in vain, so that nothing further behind needs to look again."""

    def plain(self) -> str:
        """The paragraph without its markup."""
        text, at = self._text, 0
        while token := _TOKEN.search(text, at):
            at = self._read(token)
        self._match(None)
        if not self._gone:
            return text
        out, at = [], 0
        for start, end, instead in sorted(self._gone):
            out += [text[at:start], instead]
            at = end
        return "".join([*out, text[at:]])

    def _read(self, token: re.Match[str]) -> int:
        """Deal with one token, and say where to go on."""
        found, at, end = token[0], token.start(), token.end()
        first = found[0]
        if first in "*_~":
            return self._delimiters(at, first)
        if first == "`":
            return self._code(at, end)
        if found == "![":
            self._brackets.append(_Bracket(at, is_image=True, last=self._last))
        elif first == "[":
            if at < self._last_close:
                self._brackets += [_Bracket(place, is_image=False, last=self._last) for place in range(at, end)]
        elif first == "]":
            return self._close(at)
        elif first == "\\":
            if self._text[end : end + 1] in _ESCAPABLE and end < len(self._text):
                self._gone.append((at, end, ""))
                return end + 1
            if self._text.startswith(("\n", "\r\n"), end):
                self._gone.append((at, end, ""))
            # A dollar that is escaped begins no formula; neither does what follows another mark.
            return end + 1 if self._text[end : end + 1] == "$" else end
        elif first == "<":
            return self._angle(at)
        elif first == "$":
            return self._formula(at, found)
        return end

    def _delimiters(self, at: int, mark: str) -> int:
        text = self._text
        end = at
        while end < len(text) and text[end] == mark:
            end += 1
        before, behind = _kind(text[at - 1] if at else ""), _kind(text[end : end + 1])
        free_before, free_behind = before in {"space", "mark", "unspaced"}, behind in {"space", "mark", "unspaced"}
        opens = behind != "space" and (behind != "mark" or free_before)
        closes = before != "space" and (before != "mark" or free_behind)
        # Between letters or digits nothing is opened, and only "*" and "~" between two letters close: CommonMark
        # takes 2*3*4 for emphasis.
        opens = opens and free_before
        closes = closes and (free_behind or (mark != "_" and before == behind == "letter"))
        if opens or closes:
            self._runs += 1
            run = _Run(mark, at, end - at, end - at, opens, closes, self._last, None, self._runs)
            if self._last is not None:
                self._last.behind = run
            self._last = run
        return end

    def _code(self, at: int, end: int) -> int:
        if self._ticks is None:
            self._ticks = {}
            for run in _TICKS.finditer(self._text):
                self._ticks.setdefault(run.end() - run.start(), []).append(run.start())
        size = end - at
        places = self._ticks.get(size, [])
        n = bisect_left(places, end)
        if n == len(places):
            return end
        first, last = end, places[n]
        code = self._text[first:last]
        if code[:1] in " \n" and code[-1:] in " \n" and code.strip():
            self._gone += [(at, first + 1, ""), (last - 1, last + size, "")]
        else:
            self._gone += [(at, first, ""), (last, last + size, "")]
        return last + size

    def _angle(self, at: int) -> int:
        text = self._text
        if link := _AUTOLINK.match(text, at):
            self._gone += [(at, at + 1, ""), (link.end() - 1, link.end(), "")]
            return link.end()
        for begin, stop in _RAW:
            if text.startswith(begin, at):
                return self._past(stop, at + len(begin)) or at + 1
        tag = TAG.match(text, at)
        return tag.end() if tag else at + 1

    def _past(self, stop: str, at: int) -> int | None:
        """Behind the next occurrence of something; None where there is none."""
        found = -1 if stop in self._missing else self._text.find(stop, at)
        if found < 0:
            self._missing.add(stop)
            return None
        return found + len(stop)

    def _formula(self, at: int, mark: str) -> int:
        """Behind a formula of LaTeX between dollars, which stays as it is: pandoc's rule tells it from prices."""
        if mark == "$$":
            return self._past("$$", at + 2) or at + 2
        found = _MATH.match(self._text, at)
        return found.end() if found else at + 1

    def _close(self, at: int) -> int:
        """A closing bracket: the end of a link's text, or nothing."""
        if not self._brackets:
            return at + 1
        opener = self._brackets.pop()
        place = len(self._brackets)
        dead = not opener.is_image and place < self._dead
        self._dead = min(self._dead, place)
        if dead:
            return at + 1
        text = self._text
        first = opener.at + 1 + opener.is_image
        found = _read_target(text, at + 1)
        if found is None:
            found = self._reference(first, at)
            if found is None:
                return at + 1
        address, end = found
        instead = f" ({address})" if self._show and address and address != text[first:at].strip() else ""
        self._gone += [(opener.at, first, ""), (at, end, instead)]
        self._match(opener.last)
        if not opener.is_image:
            self._dead = place
        return end

    def _reference(self, first: int, at: int) -> tuple[str, int] | None:
        """The address of ``[text][label]``, ``[label][]`` or ``[label]`` and its end."""
        if not self._addresses:
            return None
        end, name = at + 1, self._text[first:at] if at - first <= 999 else ""
        if label := _LABEL.match(self._text, at + 1):
            end = label.end()
            name = label[1] or name
        address = self._addresses.get(label_of(name))
        return None if address is None else (address, end)

    def _match(self, bottom: _Run | None) -> None:
        """Pair the delimiters above ``bottom`` off, and forget them."""
        if self._last is bottom:
            return
        lowest = bottom.number if bottom else 0
        floors: dict[tuple[str, bool, int], int] = {}
        run = self._last
        while run is not None and run.before is not bottom:
            run = run.before
        while run is not None:
            if not run.closes:
                run = run.behind
                continue
            key = (run.mark, run.opens, run.size % 3)
            opener, floor = run.before, floors.get(key, lowest)
            while opener is not None and opener.number > floor and not _belongs(opener, run):
                opener = opener.before
            if opener is None or opener.number <= floor:
                floors[key] = run.before.number if run.before else 0
                following = run.behind
                if not run.opens:
                    self._drop(run)
                run = following
                continue
            run = self._pair(opener, run)
        self._last = bottom
        if bottom is not None:
            bottom.behind = None

    def _pair(self, opener: _Run, closer: _Run) -> _Run | None:
        """Take the marks of a pair away, and say where to go on."""
        size = 2 if opener.left >= 2 and closer.left >= 2 else 1
        opened = opener.start + opener.left
        self._gone += [(opened - size, opened, ""), (closer.start, closer.start + size, "")]
        opener.left -= size
        closer.left -= size
        closer.start += size
        # What lies between them can belong to nothing outside.
        opener.behind, closer.before = closer, opener
        if not opener.left:
            self._drop(opener)
        if closer.left:
            return closer
        self._drop(closer)
        return closer.behind

    def _drop(self, run: _Run) -> None:
        if run.before is not None:
            run.before.behind = run.behind
        if run.behind is not None:
            run.behind.before = run.before
        elif self._last is run:
            self._last = run.before


def _belongs(opener: _Run, closer: _Run) -> bool:
    """Whether two runs are the two ends of one emphasis."""
    if opener.mark != closer.mark or not opener.opens:
        return False
    if opener.mark == "~":
        return opener.size == closer.size == 2
    # "Rule of three": ***a** b* is one thing, **a*b** another.
    if (opener.closes or closer.opens) and (opener.size + closer.size) % 3 == 0:
        return opener.size % 3 == 0 and closer.size % 3 == 0
    return True
