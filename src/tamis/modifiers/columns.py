"""Stages that put columns in order before texts are worked on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import MissingColumnError, UsageError
from tamis.stage import Needs, Stage, TableFunction
from tamis.table import has_text, is_text, mark, put, require, text

__all__ = ["HasText", "Rename"]


@dataclass(frozen=True)
class Rename(Stage):
    """Gives columns the names that the following steps use, whatever data set they come from.

    A new name takes the values of the first of its names that exists; the old column stays with nulls, so that what is
    redacted later is nowhere else. A column that has its new name already stays as it is.
    """

    columns: Mapping[str, str | Sequence[str]]
    """New names and the old ones: ``{"question": ["question", "Body", "content"]}``."""
    optional: Sequence[str] = ()
    """New names that are columns of nulls where none of their old names exists."""
    numbers: Sequence[str] = ()
    """New names read as whole numbers (int64) where they are text; a blank is null, other text sets the document aside
    in the quarantine."""

    def __post_init__(self) -> None:
        for option, names in (("optional", self.optional), ("numbers", self.numbers)):
            for name in names:
                if name not in self.columns:
                    message = f"Rename: {option} has {name!r}, which is not one of the new names."
                    raise UsageError(message)

    def _found(self, names: Sequence[str]) -> dict[str, str | None]:
        """The old name of each new one; None where there is none."""
        found: dict[str, str | None] = {}
        for new, old in self.columns.items():
            each = [old] if isinstance(old, str) else list(old)
            found[new] = next((name for name in (new, *each) if name in names), None)
            if found[new] is None and new not in self.optional:
                raise MissingColumnError.of(each[0] if each else new, f"Rename (for {new!r})", names)
        return found

    @property
    def may_drop(self) -> bool:
        """Never."""
        return False

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the old columns, makes the new ones and empties the old."""
        found = self._found(schema.names)
        reads, makes, emptied = [], [], []
        for new, old in found.items():
            if old is None:
                makes.append(pa.field(new, pa.int64() if new in self.numbers else pa.string()))
                continue
            field = schema.field(old)
            reads.append(old)
            if new in self.numbers and _is_untyped(field.type):
                makes.append(pa.field(new, pa.int64()))
            elif new != old:
                makes.append(field.with_name(new))
            if new != old and old not in self.columns:
                emptied.append(field)
        return Needs(reads=tuple(dict.fromkeys(reads)), makes=(*makes, *dict.fromkeys(emptied)))

    def open(self) -> TableFunction:
        """The function that moves the columns."""

        def run(table: pa.Table) -> pa.Table:
            out = table
            for new, old in self._found(table.column_names).items():
                if old is None:
                    kind = pa.int64() if new in self.numbers else pa.string()
                    out = put(out, new, pa.nulls(table.num_rows, kind))
                    continue
                values = table.column(old)
                if new in self.numbers and _is_untyped(values.type):
                    out = put(out, new, _numbers(values))
                elif new != old:
                    out = put(out, new, values)
                if new != old and old not in self.columns:
                    out = put(out, old, pa.nulls(table.num_rows, values.type))
            return out

        return run


def _is_untyped(kind: pa.DataType) -> bool:
    return is_text(kind) or kind == pa.null()


def _numbers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole numbers in texts; raises on other text."""
    trimmed = pc.utf8_trim_whitespace(values.cast(pa.large_string()))
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, trimmed.type), trimmed).cast(pa.int64())


@dataclass(frozen=True)
class HasText(Stage):
    """Keeps documents that have text in each of some columns, for instance a title: answers of a forum have none."""

    columns: Sequence[str]
    """Columns that must hold more than white space."""

    def __post_init__(self) -> None:
        if isinstance(self.columns, str) or not self.columns:
            message = f"HasText takes a list of columns; got {self.columns!r}."
            raise UsageError(message)

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the columns; a document that lacks one has no text there."""
        return Needs(reads=tuple(self.columns))

    def open(self) -> TableFunction:
        """The function that marks."""

        def run(table: pa.Table) -> pa.Table:
            reasons = np.full(table.num_rows, None, dtype=object)
            for name in reversed(self.columns):
                require(table, name, self.name)
                reasons[~has_text(text(table, name, self.name))] = f"has no {name}"
            return mark(table, pa.array(reasons, pa.string()))

        return run
