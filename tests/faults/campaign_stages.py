"""The stages of the campaign's recipe: one that drops, raises and kills, one that changes texts, one with a window."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from tamis.filters import DocumentFilter
from tamis.modifiers import DocumentModifier
from tamis.stage import Needs, Stage, TableFunction
from tamis.table import put

MARKS = "TAMIS_CAMPAIGN_MARKS"
"""Environment variable: a folder in which each file is one death that the killer document still has to cause."""


class Odd(DocumentFilter):
    """Drops texts whose length is a multiple of three, raises on "raises", and ends its process on "kills"."""

    score_type = pa.int64()

    def score_document(self, text: str) -> int:
        if "kills" in text and _to_die():
            os.kill(os.getpid(), signal.SIGKILL)
        if "raises" in text:
            raise ValueError("this text raises")
        return len(text)

    def keep_document(self, score: int) -> bool:
        return score % 3 != 0


def _to_die() -> bool:
    marks = os.environ.get(MARKS, "")
    if not marks:
        return True
    mark = next(Path(marks).iterdir(), None)
    if mark is not None:
        mark.unlink()
    return mark is not None


class Loud(DocumentModifier):
    """Texts in capitals."""

    def modify_document(self, text: str) -> str:
        return text.upper() + "!"


@dataclass(frozen=True)
class Length(Stage):
    """Adds the length of the text, as a model would: many documents at a time."""

    window: int = 16

    def needs(self, schema: pa.Schema) -> Needs:
        """The text."""
        return Needs(texts=("text",), makes=(pa.field("length", pa.int64()),), window=self.window)

    def open(self) -> TableFunction:
        """The function."""

        def measure(table: pa.Table) -> pa.Table:
            lengths = [len(t or "") for t in table.column("text").to_pylist()]
            return put(table, "length", pa.array(lengths, pa.int64()))

        return measure
