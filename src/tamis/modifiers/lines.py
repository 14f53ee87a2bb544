"""Modifiers of lines and of the white space between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UnknownNameError, UsageError
from tamis.modifiers.base import DocumentModifier, applied, replaced, substituted
from tamis.table import true_mask

__all__ = ["LineRemover", "NewlineNormalizer", "TextCleaner"]

LineEnds = Literal["keep", "lf"]


@dataclass(frozen=True)
class NewlineNormalizer(DocumentModifier):
    """Three or more line ends in a row (LF or CRLF) become two: at most one empty line between paragraphs.

    Empty text: itself. Running it twice changes nothing more. Relations: as NeMo Curator's modifier of this name.
    """

    line_ends: LineEnds = "keep"
    """Whether CRLF and CR stay, or become LF first."""

    def __post_init__(self) -> None:
        if self.line_ends not in get_args(LineEnds):
            raise UnknownNameError.of(self.line_ends, get_args(LineEnds), kind="line_ends", where=type(self).__name__)

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """Runs of line ends cut to two."""
        if self.line_ends == "lf":
            texts = substituted(texts, ("\r",), r"\r\n?", "\n")
        texts = substituted(texts, ("\n\n\n",), r"\n{3,}", "\n\n")
        return substituted(texts, ("\r\n\r\n\r\n",), r"(\r\n){3,}", "\r\n\r\n")


_UNSEEN = r"[\x{00ad}\x{200b}\x{2060}\x{feff}]"
_SPACES = (" \u00a0", "\u00a0", "  ", "\t", *map(chr, range(0x2000, 0x200B)), "\u202f", "\u205f", "\u3000")


@dataclass(frozen=True)
class TextCleaner(DocumentModifier):
    """White space in order, and nothing else changed.

    Characters that show nothing and divide nothing (soft hyphen, zero-width space, word joiner, byte order mark) go.
    Within a line, runs of spaces and tabs, and every space that is not the plain one, become one space; what a line
    begins with stays if it is plain, for it may be code. Spaces at the ends of lines go, CRLF becomes LF, more than
    one empty line becomes one, and the text neither begins nor ends with white space. Empty or blank text: empty.
    Running it twice changes nothing more.
    """

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts with their white space in order."""
        texts = substituted(texts, ("\u00ad", "\u200b", "\u2060", "\ufeff"), _UNSEEN, "")
        texts = substituted(texts, ("\r",), r"\r\n?", "\n")
        # Lines that begin with other spaces than plain ones and tabs.
        texts = substituted(texts, _SPACES[4:], r"\p{Zs}", " ")
        texts = substituted(texts, _SPACES[1:2], r"\x{00a0}", " ")
        texts = substituted(texts, _SPACES[2:4], r"([^ \t\n])[ \t]+", r"\1 ")
        texts = substituted(texts, (" \n", "\t\n"), r"[ \t]+\n", "\n")
        texts = substituted(texts, ("\n\n\n",), r"\n{3,}", "\n\n")
        trimmed = pc.utf8_trim_whitespace(texts)
        return texts if trimmed.equals(texts) else trimmed


@dataclass(frozen=True)
class LineRemover(DocumentModifier):
    """Removes lines that are equal to one of some texts, or in which an expression is found.

    Lines end with LF or CRLF, and a line goes with its end; one that has none takes the end before it along. All other
    lines stay as they are. Empty text: itself; a text whose lines are all removed is empty. Running it twice changes
    nothing more.

    Source: NeMo Curator's modifier of this name, which compares whole lines and does not see past a CR.
    """

    patterns: Sequence[str]
    """Lines to remove; "" removes empty ones."""
    match: Literal["line", "expression"] = "line"
    """Whether a pattern is a whole line, or a regular expression (RE2's, so in linear time) that is found in it;
    ``^`` and ``$`` are the ends of the line."""

    def __post_init__(self) -> None:
        if self.match not in {"line", "expression"}:
            raise UnknownNameError.of(self.match, ("line", "expression"), kind="match", where="LineRemover")
        if isinstance(self.patterns, str) or not self.patterns:
            message = f"LineRemover takes a list of patterns; got {self.patterns!r}."
            raise UsageError(message)
        object.__setattr__(self, "patterns", tuple(self.patterns))
        for pattern in self.patterns:
            if self.match == "line" and "\n" in pattern:
                message = f"LineRemover: no line holds a line feed; got {pattern!r}."
                raise UsageError(message)
            if self.match == "expression":
                try:
                    pc.match_substring_regex(pa.array([""]), pattern)
                except pa.ArrowInvalid as error:
                    message = f"LineRemover: {pattern!r} is no regular expression that RE2 can read: {error}"
                    raise UsageError(message) from None

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts without those lines."""
        if self.match == "line":
            found = [true_mask(pc.match_substring(texts, pattern)) for pattern in self.patterns]
            return applied(texts, np.logical_or.reduce(found), self._without)
        lines = pc.split_pattern(texts, "\n")
        every = lines.flatten()
        shown = pc.utf8_rtrim(every, characters="\r")
        gone = np.logical_or.reduce([true_mask(pc.match_substring_regex(shown, each)) for each in self.patterns])
        rows = np.flatnonzero(true_mask(pc.is_valid(texts)))
        sizes = pc.list_value_length(lines).drop_null().to_numpy()
        ends = np.cumsum(sizes)
        # What follows the last line feed is no line if it is empty.
        gone[ends - 1] &= pc.binary_length(every.take(pa.array(ends - 1))).to_numpy() > 0
        hit = np.zeros(len(texts), dtype=np.bool_)
        hit[np.repeat(rows, sizes)[gone]] = True
        if not hit.any():
            return texts
        kept = []
        for n in np.flatnonzero(hit[rows]):
            own = slice(ends[n] - sizes[n], ends[n])
            left = "\n".join(every[own].filter(pa.array(~gone[own])).to_pylist())
            kept.append(left.removesuffix("\r") if gone[ends[n] - 1] else left)
        return replaced(texts, hit, pa.array(kept, pa.large_string()))

    def _without(self, text: str) -> str:
        gone = frozenset(self.patterns)
        *lines, last = text.split("\n")
        kept = [line for line in lines if line.removesuffix("\r") not in gone]
        if last and last.removesuffix("\r") in gone:
            return "\n".join(kept).removesuffix("\r")
        return "\n".join([*kept, last])
