"""Modifiers of what a text brought along from the web."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from tamis.modifiers.base import DocumentModifier, substituted

__all__ = ["UrlRemover"]

_NO_URL = r"\s\p{Z}\p{Cc}<>\"\x60\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\x{3000}-\x{303F}\x{FF00}-\x{FFEF}"
_URL = rf"(?i)\b(?:https?://|www\.)[^{_NO_URL}]*[^{_NO_URL}.,;:!?'()\[\]{{}}*_]/?"


@dataclass(frozen=True)
class UrlRemover(DocumentModifier):
    """Removes web addresses: what begins with http://, https:// or www., up to white space.

    An address also ends before quotation marks, angle brackets and East Asian characters, and punctuation at its
    end stays: "see (https://a.org/b)." becomes "see ()." Empty text: itself. Relations: NeMo Curator's modifier of
    this name takes everything up to ASCII white space, so the rest of a Chinese sentence, too.
    """

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """Addresses replaced by nothing."""
        return substituted(texts, ("://", "www."), _URL, "")
