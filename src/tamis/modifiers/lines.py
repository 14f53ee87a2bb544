"""Modifiers of lines and of the white space between them."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tamis.modifiers.base import DocumentModifier, substituted

__all__ = ["NewlineNormalizer", "TextCleaner"]


@dataclass(frozen=True)
class NewlineNormalizer(DocumentModifier):
    """Three or more line ends in a row (LF or CRLF) become two: at most one empty line between paragraphs.

    Empty text: itself. Relations: as NeMo Curator's modifier of this name.
    """

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """Runs of line ends cut to two."""
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
