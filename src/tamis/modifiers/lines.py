"""Modifiers of lines and of the white space between them."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from tamis.modifiers.base import DocumentModifier, substituted

__all__ = ["NewlineNormalizer"]


@dataclass(frozen=True)
class NewlineNormalizer(DocumentModifier):
    """Three or more line ends in a row (LF or CRLF) become two: at most one empty line between paragraphs.

    Empty text: itself. Relations: as NeMo Curator's modifier of this name.
    """

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """Runs of line ends cut to two."""
        texts = substituted(texts, ("\n\n\n",), r"\n{3,}", "\n\n")
        return substituted(texts, ("\r\n\r\n\r\n",), r"(\r\n){3,}", "\r\n\r\n")
