"""Modifiers of quotation marks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UnknownNameError
from tamis.modifiers.base import DocumentModifier, applied
from tamis.table import true_mask
from tamis.text.holding import holding

__all__ = ["QuotationNormalizer", "QuotationRemover"]

Marks = Literal["curled", "every"]

# U+FF02 and U+FF07 are the full-width ones; U+2039 and U+203A the single guillemets.
_CURLED = {**dict.fromkeys("“”„‟\uff02", '"'), **dict.fromkeys("‘’\u201a\u201b\uff07", "'")}
_EVERY = {**_CURLED, **dict.fromkeys("«»「」『』〝〞〟", '"'), **dict.fromkeys("\u2039\u203a", "'")}


@dataclass(frozen=True)
class QuotationNormalizer(DocumentModifier):
    """Typographic quotation marks and apostrophes as the plain ones of ASCII.

    Primes, accents and the letters that look like apostrophes (U+02BB, U+02BC) stay. Empty text: itself. Running it
    twice changes nothing more. Relations: UnicodeReformatter does it for the curled ones with ``uncurl_quotes``.
    """

    marks: Marks = "curled"
    """The curled and full-width ones alone, or guillemets and East Asian brackets as well."""

    def __post_init__(self) -> None:
        if self.marks not in get_args(Marks):
            raise UnknownNameError.of(self.marks, get_args(Marks), kind="marks", where=type(self).__name__)

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts with plain quotation marks."""
        table = _EVERY if self.marks == "every" else _CURLED

        def plain(text: str) -> str:
            for mark, ascii_mark in table.items():
                text = text.replace(mark, ascii_mark)
            return text

        return applied(texts, holding(texts, "".join(table)), plain)


_PAIRS = {'"': '"', "“": "”", "„": "“”", "”": "”", "«": "»", "»": "«", "「": "」", "『": "』"}
_PAIRS |= {"\u2039": "\u203a", "\uff02": "\uff02"}
"""What may begin a quotation, and what ends it."""
_MARK = re.compile(r"\\.|[" + "".join({*_PAIRS, *"".join(_PAIRS.values())}) + "]", re.DOTALL)


@dataclass(frozen=True)
class QuotationRemover(DocumentModifier):
    """Takes the quotation marks off a text that is one quotation as a whole.

    The marks must belong together: in ``"Yes," she said, "no."`` the first closes after "Yes,", and the text stays.
    Marks in a row are all taken off; white space around them, and marks behind a backslash, stay. A text of nothing but
    the two marks, an empty or a blank text: itself. Running it twice changes nothing more.

    Relations: NeMo Curator's modifier of this name knows the plain mark alone, and takes the first and the last one
    also where they belong to different quotations.
    """

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts without the marks around them."""
        rows = true_mask(pc.match_substring_regex(texts, rf"^\s*[{''.join(_PAIRS)}]"))
        return applied(texts, rows, _bare)


def _bare(text: str) -> str:
    """The text without the pairs of marks that hold all of it."""
    first, last = len(text) - len(text.lstrip()), len(text.rstrip()) - 1
    closed: dict[int, int] = {}
    opened: list[int] = []
    for match in _MARK.finditer(text):
        mark, at = match[0], match.start()
        if opened and mark in _PAIRS[text[opened[-1]]]:
            closed[opened.pop()] = at
        elif mark in _PAIRS:
            opened.append(at)
    layers = 0
    while first + layers < last - layers and closed.get(first + layers) == last - layers:
        layers += 1
    if not layers or not text[first + layers : last + 1 - layers].strip():
        return text
    return text[:first] + text[first + layers : last + 1 - layers] + text[last + 1 :]
