"""Texts as lines that fastText is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UsageError
from tamis.modifiers.base import DocumentModifier

__all__ = ["FastTextLabelModifier"]


def _scalar(text: str) -> pa.LargeStringScalar:
    return pa.scalar(text, pa.large_string())


@dataclass(frozen=True)
class FastTextLabelModifier(DocumentModifier):
    r"""A label, a space and the text, whose line feeds become spaces: one line for training a fastText classifier.

    CRLF becomes one space, and so do a carriage return and a NUL on their own, which fastText takes for white space.
    Empty text: the label and a space. Null: stays null.
    Source: The input format of Joulin et al. 2016 (arXiv:1607.01759).
    Relations: NeMo Curator's modifier of this name replaces ``\n`` alone. Running it twice puts the label there twice.
    """

    label: str
    """With its prefix: "__label__hq"."""

    def __post_init__(self) -> None:
        if self.label.split() != [self.label]:
            message = f"FastTextLabelModifier: label must be one word without white space; got {self.label!r}."
            raise UsageError(message)

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The lines."""
        lines = pc.replace_substring_regex(texts, r"\r\n|[\r\n\x00]", " ")
        return pc.binary_join_element_wise(_scalar(self.label), lines, _scalar(" "))
