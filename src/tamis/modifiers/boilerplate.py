"""The modifier that cuts notices about terms, privacy and cookies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UnknownNameError, UsageError
from tamis.modifiers.base import DocumentModifier, applied
from tamis.table import true_mask
from tamis.text.boilerplate import LOREM_IPSUM, POLICY_PHRASES
from tamis.text.phrases import count_phrases

__all__ = ["BoilerPlateStringModifier"]

_BETWEEN = {"paragraph": re.compile(r"\n[^\S\n]*\n\s*"), "line": re.compile(r"\n")}


@dataclass(frozen=True)
class BoilerPlateStringModifier(DocumentModifier):
    """Cuts paragraphs or lines about terms, privacy and cookies off the top and the bottom of a text.

    A paragraph that holds one of the phrases "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of
    cookies" and "use cookies", in any case, is boilerplate. Those that a text begins or ends with are cut, with the
    blank lines beside them; what stays is as it was. Where one stands between other paragraphs, the text is about it,
    and nothing is cut. A text that is all boilerplate, or holds "lorem ipsum", becomes empty: drop it after that.
    Empty text: itself. Running it twice changes nothing more.

    Source: the phrases are those of C4 (Raffel et al. 2020, arXiv:1910.10683), the rule that of NeMo Curator's modifier
    of this name. Relations: BoilerPlateStringFilter drops the document instead. NeMo Curator puts exactly one blank
    line between the paragraphs that stay.
    """

    remove_if_at_top_or_bottom: bool = True
    """Whether only the top and the bottom are cut; if not, a text with such a paragraph anywhere becomes empty."""
    unit: Literal["paragraph", "line"] = "paragraph"
    """What is cut: paragraphs, which blank lines divide, or lines."""
    phrases: Sequence[str] | None = None
    """Other phrases, for instance of another language."""

    def __post_init__(self) -> None:
        if self.unit not in _BETWEEN:
            raise UnknownNameError.of(self.unit, _BETWEEN, kind="unit", where=type(self).__name__)
        if self.phrases is not None:
            if isinstance(self.phrases, str) or not self.phrases or not all(map(str.strip, self.phrases)):
                who = type(self).__name__
                message = f"{who}: phrases must be a list of phrases that are not blank; got {self.phrases!r}."
                raise UsageError(message)
            object.__setattr__(self, "phrases", tuple(self.phrases))

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts without their boilerplate."""
        rows = true_mask(pc.is_valid(texts))
        if self.phrases is None:
            rows = np.asarray(count_phrases(texts, (*POLICY_PHRASES, LOREM_IPSUM)) > 0)
        return applied(texts, rows, self._cut)

    def _cut(self, text: str) -> str:
        phrases = POLICY_PHRASES if self.phrases is None else tuple(phrase.lower() for phrase in self.phrases)
        if LOREM_IPSUM in text.lower():
            return ""
        places = _pieces(text, _BETWEEN[self.unit])
        plates = []
        for start, end in places:
            lowered = text[start:end].lower()
            plates.append(any(phrase in lowered for phrase in phrases))
        found = sum(plates)
        if not found:
            return text
        if found == len(plates) or not self.remove_if_at_top_or_bottom:
            return ""
        top, bottom = plates.index(False), plates[::-1].index(False)
        if top + bottom < found:
            return text
        start = places[top][0] if top else 0
        return text[start : places[-bottom - 1][1]] if bottom else text[start:]


def _pieces(text: str, between: re.Pattern[str]) -> list[tuple[int, int]]:
    """Where the pieces of a text that are not blank begin and end."""
    marks = [match.span() for match in between.finditer(text)]
    starts, ends = [0, *(end for _, end in marks)], [*(start for start, _ in marks), len(text)]
    return [
        (start, end) for start, end in zip(starts, ends, strict=True) if not text[start:end].isspace() and end > start
    ]
