"""Modifiers: from a text to a text.

A modifier of your own is a class with one method::

    class Lower(DocumentModifier):
        def modify_document(self, text: str) -> str:
            return text.lower()

    lowered = Modify(Lower())(dataset)
"""

from __future__ import annotations

from tamis.modifiers.base import DocumentModifier, Modify
from tamis.modifiers.boilerplate import BoilerPlateStringModifier
from tamis.modifiers.c4 import C4_PHRASES, C4LineRemover
from tamis.modifiers.characters import (
    CaseNormalizer,
    ControlCharacterRemover,
    UnicodeNormalizer,
    WhitespaceNormalizer,
)
from tamis.modifiers.columns import HasText, Rename
from tamis.modifiers.comments import CodeCommentRemover
from tamis.modifiers.fasttext_label import FastTextLabelModifier
from tamis.modifiers.html import HtmlToText
from tamis.modifiers.law import SectionNumberFormatter
from tamis.modifiers.lines import LineRemover, NewlineNormalizer, TextCleaner
from tamis.modifiers.markdown import MarkdownRemover
from tamis.modifiers.quotes import QuotationNormalizer, QuotationRemover
from tamis.modifiers.slicer import Slicer
from tamis.modifiers.unicode import UnicodeReformatter
from tamis.modifiers.web import UrlRemover

__all__ = [
    "C4_PHRASES",
    "BoilerPlateStringModifier",
    "C4LineRemover",
    "CaseNormalizer",
    "CodeCommentRemover",
    "ControlCharacterRemover",
    "DocumentModifier",
    "FastTextLabelModifier",
    "HasText",
    "HtmlToText",
    "LineRemover",
    "MarkdownRemover",
    "Modify",
    "NewlineNormalizer",
    "QuotationNormalizer",
    "QuotationRemover",
    "Rename",
    "SectionNumberFormatter",
    "Slicer",
    "TextCleaner",
    "UnicodeNormalizer",
    "UnicodeReformatter",
    "UrlRemover",
    "WhitespaceNormalizer",
]
