"""Modifiers: from a text to a text.

A modifier of your own is a class with one method::

    class Lower(DocumentModifier):
        def modify_document(self, text: str) -> str:
            return text.lower()

    lowered = Modify(Lower())(dataset)
"""

from __future__ import annotations

from tamis.modifiers.base import DocumentModifier, Modify
from tamis.modifiers.columns import HasText, Rename
from tamis.modifiers.html import HtmlToText
from tamis.modifiers.law import SectionNumberFormatter
from tamis.modifiers.lines import NewlineNormalizer, TextCleaner
from tamis.modifiers.unicode import UnicodeReformatter
from tamis.modifiers.web import UrlRemover

__all__ = [
    "DocumentModifier",
    "HasText",
    "HtmlToText",
    "Modify",
    "NewlineNormalizer",
    "Rename",
    "SectionNumberFormatter",
    "TextCleaner",
    "UnicodeReformatter",
    "UrlRemover",
]
