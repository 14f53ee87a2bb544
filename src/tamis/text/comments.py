"""How much of a program is comment, by the signs of its language, with strings respected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.errors import UnknownNameError
from tamis.text.arrow import Bytes, Offsets, utf8
from tamis.text.bytes64 import lowest_bit

__all__ = ["SYNTAXES", "Sign", "Syntax", "count_comments", "language_named", "mark_comments"]

_LINE, _BLOCK, _STRING, _CHARACTER = range(4)
_ESCAPES, _SPANS, _NESTS, _WORD_START, _LINE_START, _NO_VALUE, _NO_ESCAPE = 1, 2, 4, 8, 16, 32, 64


@dataclass(frozen=True)
class Sign:
    """What begins and ends a comment or a string."""

    kind: int
    opens: str
    closes: str = ""
    how: int = 0


@dataclass(frozen=True)
class Syntax:
    """The signs of a language, longer ones first where they begin alike."""

    signs: tuple[Sign, ...]
    docstrings: bool = False
    """Whether a string that is a statement by itself is a comment."""


def _line(opens: str, how: int = 0) -> Sign:
    return Sign(_LINE, opens, "\n", how)


def _block(opens: str, closes: str, how: int = 0) -> Sign:
    return Sign(_BLOCK, opens, closes, how)


def _string(quote: str, how: int = _ESCAPES, closes: str = "") -> Sign:
    return Sign(_STRING, quote, closes or quote, how)


_STAR = _block("/*", "*/")
_NESTED_STAR = _block("/*", "*/", _NESTS)
_DOUBLE, _SINGLE = _string('"'), _string("'")
_CHAR = Sign(_CHARACTER, "'", "'")
_TICKS = _string("`", _ESCAPES | _SPANS)
_RAW_TICKS = _string("`", _SPANS)
_TRIPLES = (_string('"""', _ESCAPES | _SPANS), _string("'''", _ESCAPES | _SPANS))
_TRIPLE = _string('"""', _ESCAPES | _SPANS)
_PRIME = _string("'", _ESCAPES | _NO_VALUE)
_WIDE_DOUBLE, _WIDE_SINGLE = _string('"', _ESCAPES | _SPANS), _string("'", _SPANS)
_HASH, _WORD_HASH = _line("#"), _line("#", _WORD_START)

_C = Syntax((_line("//"), _STAR, _DOUBLE, _CHAR))
_SCRIPT = Syntax((_line("//"), _STAR, _DOUBLE, _SINGLE, _TICKS))
_NESTED = Syntax((_line("//"), _NESTED_STAR, _TRIPLE, _DOUBLE, _CHAR))
_SHELL = Syntax((_WORD_HASH, _WIDE_DOUBLE, _WIDE_SINGLE))
_PLAIN_HASH = Syntax((_HASH, _DOUBLE, _SINGLE))
_LISP = Syntax((_block("#|", "|#", _NESTS), _line(";"), _WIDE_DOUBLE))
_DASHES = Syntax((_line("--"), _DOUBLE, _PRIME))
_POD = ("=pod", "=head", "=over", "=item", "=begin", "=encoding")
_MARKUP = Syntax((_block("<!--", "-->"),))
_FUNCTIONAL = Syntax((_block("{-", "-}", _NESTS), _line("--"), _DOUBLE, _PRIME))

SYNTAXES: Mapping[str, Syntax] = {
    "ada": _DASHES,
    "assembly": Syntax((_line(";"), _line("#"), _line("//"), _STAR, _DOUBLE)),
    "c": _C,
    "c++": Syntax((_line("//"), _STAR, _DOUBLE, _CHAR)),
    "c#": Syntax((_line("//"), _STAR, _string('@"', _SPANS, '"'), _DOUBLE, _CHAR)),
    "clojure": Syntax((_line(";"), _WIDE_DOUBLE)),
    "cmake": Syntax((_block("#[[", "]]"), _HASH, _WIDE_DOUBLE)),
    "css": Syntax((_STAR, _DOUBLE, _SINGLE)),
    "cuda": _C,
    "dart": Syntax((_line("//"), _NESTED_STAR, *_TRIPLES, _DOUBLE, _SINGLE)),
    "dockerfile": _SHELL,
    "elixir": Syntax((_TRIPLE, _HASH, _DOUBLE, _SINGLE)),
    "erlang": Syntax((_line("%"), _DOUBLE, _SINGLE)),
    "fortran": Syntax((_line("!"), _DOUBLE, _SINGLE)),
    "go": Syntax((_line("//"), _STAR, _DOUBLE, _CHAR, _RAW_TICKS)),
    "groovy": Syntax((_line("//"), _STAR, *_TRIPLES, _DOUBLE, _SINGLE)),
    "haskell": _FUNCTIONAL,
    "html": _MARKUP,
    "java": Syntax((_line("//"), _STAR, _TRIPLE, _DOUBLE, _CHAR)),
    "javascript": _SCRIPT,
    "julia": Syntax((_block("#=", "=#", _NESTS), _HASH, _TRIPLE, _DOUBLE, _CHAR)),
    "kotlin": _NESTED,
    "lisp": _LISP,
    "lua": Syntax((_block("--[[", "]]"), _line("--"), _string("[[", _SPANS, "]]"), _DOUBLE, _SINGLE)),
    "makefile": Syntax((_HASH,)),
    "matlab": Syntax((_block("%{", "%}", _NESTS), _line("%"), _DOUBLE, _string("'", _NO_VALUE))),
    "objective-c": _C,
    "ocaml": Syntax((_block("(*", "*)", _NESTS), _WIDE_DOUBLE, _CHAR)),
    "pascal": Syntax((_block("(*", "*)"), _block("{", "}"), _line("//"), _string("'", 0))),
    "perl": Syntax((_WORD_HASH, *(_block(s, "=cut", _LINE_START) for s in _POD), _DOUBLE, _SINGLE)),
    "php": Syntax((_line("//"), _HASH, _STAR, _WIDE_DOUBLE, _string("'", _ESCAPES | _SPANS))),
    "powershell": Syntax((_block("<#", "#>"), _WORD_HASH, _string('"', _SPANS), _WIDE_SINGLE)),
    "prolog": Syntax((_line("%"), _STAR, _DOUBLE, _PRIME)),
    "protobuf": Syntax((_line("//"), _STAR, _DOUBLE, _SINGLE)),
    "python": Syntax((_HASH, *_TRIPLES, _DOUBLE, _SINGLE), docstrings=True),
    "r": _PLAIN_HASH,
    "ruby": Syntax((_block("=begin", "=end", _LINE_START), _WORD_HASH, _WIDE_DOUBLE, _SINGLE)),
    "rust": Syntax((_line("//"), _NESTED_STAR, _WIDE_DOUBLE, _CHAR)),
    "scala": _NESTED,
    "scheme": _LISP,
    "scss": Syntax((_line("//"), _STAR, _DOUBLE, _SINGLE)),
    "shell": _SHELL,
    "solidity": Syntax((_line("//"), _STAR, _DOUBLE, _SINGLE)),
    "sql": Syntax((_line("--"), _STAR, _string("'", _SPANS), _string('"', _SPANS))),
    "swift": _NESTED,
    "tcl": Syntax((_WORD_HASH, _WIDE_DOUBLE)),
    "tex": Syntax((_line("%", _NO_ESCAPE),)),
    "toml": Syntax((_HASH, *_TRIPLES, _DOUBLE, _string("'", 0))),
    "typescript": _SCRIPT,
    "verilog": Syntax((_line("//"), _STAR, _DOUBLE)),
    "vhdl": _DASHES,
    "visual-basic": Syntax((_line("'"), _string('"', 0))),
    "xml": _MARKUP,
    "yaml": Syntax((_WORD_HASH, _DOUBLE, _string("'", _NO_VALUE))),
}
"""The languages that are known, in small letters."""


_ALIASES: Mapping[str, str] = {
    **dict.fromkeys(("bash", "sh", "zsh", "x-shellscript", "x-sh"), "shell"),
    **dict.fromkeys(("cpp", "cxx", "x-c++", "hpp"), "c++"),
    **dict.fromkeys(("c-sharp", "csharp", "cs", "x-csharp"), "c#"),
    **dict.fromkeys(("js", "jsx", "x-javascript"), "javascript"),
    **dict.fromkeys(("ts", "tsx"), "typescript"),
    **dict.fromkeys(("common-lisp", "emacs-lisp", "el"), "lisp"),
    **dict.fromkeys(("x-java", "x-java-source"), "java"),
    **dict.fromkeys(("latex", "x-tex"), "tex"),
    **dict.fromkeys(("py", "x-python", "x-script.python"), "python"),
    **dict.fromkeys(("rb", "x-ruby"), "ruby"),
    **dict.fromkeys(("golang", "x-go"), "go"),
    **dict.fromkeys(("vb", "vb.net", "vba"), "visual-basic"),
    **dict.fromkeys(("plsql", "postgresql", "mysql"), "sql"),
    "hs": "haskell",
    "kt": "kotlin",
    "objective-c++": "objective-c",
    "octave": "matlab",
    "pl": "perl",
    "rs": "rust",
    "svg": "xml",
    "x-c": "c",
    "yml": "yaml",
}


def language_named(name: str, *, who: str) -> str:
    """The key in :data:`SYNTAXES` of a language, by one of its names in any case, or its MIME type.

    >>> language_named("text/x-c++", who="a filter")
    'c++'
    """
    key = name.strip().lower().replace(" ", "-")
    for prefix in ("text/", "application/"):
        key = key.removeprefix(prefix)
    key = _ALIASES.get(key, key)
    if key not in SYNTAXES:
        raise UnknownNameError.of(name, SYNTAXES, kind="language", where=who)
    return key


@cache
def _encoded(syntax: Syntax) -> tuple[Any, ...]:
    """(first bytes, kinds, flags, opening bytes, their offsets, closing bytes, their offsets) as arrays."""
    starts = np.zeros(256, dtype=np.uint64)
    for n, sign in enumerate(syntax.signs):
        starts[ord(sign.opens[0])] |= np.uint64(1 << n)
    kinds = np.array([sign.kind for sign in syntax.signs], dtype=np.int64)
    how = np.array([sign.how for sign in syntax.signs], dtype=np.int64)
    opens, closes = ([getattr(sign, side).encode() for sign in syntax.signs] for side in ("opens", "closes"))
    parts: list[Any] = [starts, kinds, how]
    for texts in (opens, closes):
        parts.append(np.frombuffer(b"".join(texts), dtype=np.uint8))
        parts.append(np.cumsum([0, *map(len, texts)]).astype(np.int64))
    return tuple(parts)


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _is_at(data: Bytes, i: int, end: int, sign: Bytes, start: int, stop: int) -> bool:
    if i + stop - start > end:
        return False
    for k in range(start, stop):
        if data[i + k - start] != sign[k]:
            return False
    return True


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _is_wordy(byte: Any) -> bool:
    return bool((48 <= byte <= 57) or (65 <= byte <= 90) or (97 <= byte <= 122) or byte == 95 or byte >= 128)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _may_begin(data: Bytes, i: int, start: int, how: int) -> bool:
    """Whether the sign at ``i`` stands where it counts."""
    if i == start or how & (_WORD_START | _LINE_START | _NO_VALUE | _NO_ESCAPE) == 0:
        return True
    byte = data[i - 1]
    if how & _NO_ESCAPE:
        return bool(byte != 92)
    if how & _LINE_START:
        return bool(byte == 10)
    if how & _NO_VALUE:  # a ' after a value is a transposition, an attribute or part of a name
        return not (_is_wordy(byte) or byte == 41 or byte == 93 or byte == 125 or byte == 39 or byte == 46)
    return bool(byte <= 32 or byte == 59 or byte == 40 or byte == 41 or byte == 124 or byte == 38 or byte == 125)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _character_end(data: Bytes, i: int, end: int) -> int:
    """Where the character literal at ``i`` ends; ``i + 1`` where there is none, as in a lifetime of Rust."""
    if i + 2 < end and data[i + 1] == 92:
        for k in range(i + 3, min(end, i + 13)):
            if data[k] == 39:
                return k + 1
        return i + 1
    k = i + 2
    while k < end and (data[k] & 0xC0) == 0x80:
        k += 1
    if k < end and data[k] == 39 and data[i + 1] != 39:
        return k + 1
    return i + 1


@nb.njit(nogil=True, cache=True, _nrt=False)
def _closed(
    data: Bytes, i: int, end: int, opens: Bytes, oa: int, ob: int, closes: Bytes, ca: int, cb: int, kind: int, how: int
) -> int:
    """Where what was opened before ``i`` ends: behind its closing sign, before a line feed, or at the end."""
    depth = 1
    while i < end:
        byte = data[i]
        if byte == 10 and (kind == _LINE or (kind == _STRING and how & _SPANS == 0)):
            return i - 1 if data[i - 1] == 13 else i  # the carriage return belongs to the line's end
        if how & _ESCAPES and byte == 92:
            i += 2
            continue
        if kind != _LINE and byte == closes[ca] and _is_at(data, i, end, closes, ca, cb):
            i += cb - ca
            depth -= 1
            if depth == 0:
                return i
            continue
        if how & _NESTS and byte == opens[oa] and _is_at(data, i, end, opens, oa, ob):
            depth += 1
            i += ob - oa
            continue
        i += 1
    return end


@nb.njit(nogil=True, cache=True, _nrt=False)
def _ends_statement(data: Bytes, i: int, end: int) -> bool:
    while i < end and (data[i] == 32 or data[i] == 9 or data[i] == 13):
        i += 1
    return bool(i >= end or data[i] == 10 or data[i] == 35 or data[i] == 59)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _count(
    data: Bytes,
    offsets: Offsets,
    syntax: tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64], Bytes, Offsets, Bytes, Offsets],
    docstrings: int,
    counts: npt.NDArray[np.int64],
    inside: npt.NDArray[np.bool_],
) -> None:
    starts, kinds, hows, opens, open_at, closes, close_at = syntax
    for row in range(len(counts)):
        start, end = offsets[row], offsets[row + 1]
        n = 0
        depth = 0
        fresh = True  # at the beginning of a statement
        i = start
        while i < end:
            byte = data[i]
            signs = starts[byte]
            begin = i
            if docstrings:
                if fresh and i + 1 < end and (byte | 32) in (114, 117) and (data[i + 1] == 34 or data[i + 1] == 39):
                    i += 1
                    signs = starts[data[i]]
                elif signs == 0:
                    if byte == 10:
                        before = i - 2 if i - 1 > start and data[i - 1] == 13 else i - 1
                        fresh = depth == 0 and not (before >= start and data[before] == 92)
                    elif byte in (40, 91, 123):
                        depth += 1
                    elif byte in (41, 93, 125):
                        depth = max(0, depth - 1)
                    if byte > 32:
                        fresh = False
            found = -1
            while signs != 0:
                k = lowest_bit(signs)
                signs &= signs - nb.uint64(1)
                if _is_at(data, i, end, opens, open_at[k], open_at[k + 1]) and _may_begin(data, i, start, hows[k]):
                    found = k
                    break
            if found < 0:
                i += 1
                continue
            kind = kinds[found]
            if kind == _CHARACTER:
                i = _character_end(data, i, end)
                continue
            oa, ob, ca, cb = open_at[found], open_at[found + 1], close_at[found], close_at[found + 1]
            stop = min(end, _closed(data, i + ob - oa, end, opens, oa, ob, closes, ca, cb, kind, hows[found]))
            if kind != _STRING or (docstrings and fresh and _ends_statement(data, stop, end)):
                for k in range(begin, stop):
                    n += (data[k] & 0xC0) != 0x80
                if len(inside) > 0:
                    inside[begin - offsets[0] : stop - offsets[0]] = True
            if kind == _STRING:
                fresh = False
            i = stop
        counts[row] = n


def count_comments(texts: pa.LargeStringArray, language: str) -> npt.NDArray[np.int64]:
    """Characters of comments in each text, their signs among them, ``int64`` of shape (n,); 0 for an empty text.

    ``language`` is a key of :data:`SYNTAXES`. Signs within strings count for nothing, and those of strings within
    comments neither. A string of one line ends at the line's end whatever it holds, and a comment that is never closed
    at the end of the text, so that damaged code gives an answer, too. Not known are regular expressions as literals
    (JavaScript, Perl, Ruby), here-documents, and strings within the placeholders of strings.

    >>> count_comments(pa.array(["x = '#' # é", '"Doc."', "x = 1"], pa.large_string()), "python")
    array([3, 6, 0])
    """
    syntax = SYNTAXES[language]
    data, offsets = utf8(texts)
    counts = np.empty(len(texts), dtype=np.int64)
    _count(data, offsets, _encoded(syntax), int(syntax.docstrings), counts, np.empty(0, dtype=np.bool_))
    return counts


def mark_comments(texts: pa.LargeStringArray, language: str, *, docstrings: bool) -> npt.NDArray[np.bool_]:
    """Which of the texts' bytes, one text after the other, belong to comments: bool of shape (bytes,).

    The texts hold no null. ``docstrings``: whether those are comments, in languages that have them.
    """
    syntax = SYNTAXES[language]
    data, offsets = utf8(texts)
    inside = np.zeros(offsets[-1] - offsets[0], dtype=np.bool_)
    counts = np.empty(len(texts), dtype=np.int64)
    _count(data, offsets, _encoded(syntax), int(syntax.docstrings and docstrings), counts, inside)
    return inside
