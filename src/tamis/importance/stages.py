"""Stages that join datasets by id.

By the id and by nothing else, so that a weight cannot meet another document's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.dataset import DocumentDataset
from tamis.errors import UsageError
from tamis.hashing import document_id, fingerprint, hash64
from tamis.selection.weights import numbers_of
from tamis.stage import Needs, Stage, TableFunction
from tamis.table import mark, put, require, text

__all__ = ["Blank", "ById", "HybridWeight"]

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class HybridWeight(Stage):
    """Adds ``alpha`` x the n-gram log weight + (1 - ``alpha``) x the mixture's, as published.

    With ``alpha`` 1 or 0 the other column is not read. A document that lacks one (a blank text has no embedding) gets
    minus infinity: it is never chosen.
    """

    alpha: float = 0.5
    """In [0, 1]."""
    ngram: str = "log_weight_ngram"
    gmm: str = "log_weight_gmm"
    column: str = "log_weight"
    """Column that is made (float64)."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            message = f"alpha is the share of the n-gram weight, from 0 to 1; got {self.alpha}."
            raise UsageError(message)

    @property
    def _parts(self) -> tuple[tuple[str, float], ...]:
        both = ((self.ngram, self.alpha), (self.gmm, 1 - self.alpha))
        return tuple((name, share) for name, share in both if share)

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the two weights, makes one."""
        return Needs(reads=tuple(name for name, _ in self._parts), makes=(pa.field(self.column, pa.float64()),))

    def open(self) -> TableFunction:
        """The function that adds the column."""

        def add(table: pa.Table) -> pa.Table:
            total = np.zeros(table.num_rows)
            for name, share in self._parts:
                total = total + share * numbers_of(require(table, name, self.name))
            return put(table, self.column, pa.array(np.where(np.isnan(total), -np.inf, total)))

        return add


@dataclass(frozen=True)
class Blank(Stage):
    """Replaces columns by nulls: what has been used, and is not to be written again."""

    columns: tuple[str, ...]

    def needs(self, schema: pa.Schema) -> Needs:
        """Makes the columns anew, of type null."""
        return Needs(makes=tuple(pa.field(name, pa.null()) for name in self.columns))

    def open(self) -> TableFunction:
        """The function that replaces them."""

        def blank(table: pa.Table) -> pa.Table:
            for name in self.columns:
                index = table.schema.get_field_index(name)
                field, nothing = pa.field(name, pa.null()), pa.nulls(table.num_rows)
                table = table.append_column(field, nothing) if index < 0 else table.set_column(index, field, nothing)
            return table

        return blank


@dataclass(frozen=True)
class _Index:
    """Numbers by the hash of an id."""

    hashes: Hashes
    """Ascending, distinct."""
    values: npt.NDArray[np.float64]
    """[columns, ids]"""

    def places(self, ids: list[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Where each id is, and whether it is there."""
        wanted = hash64(ids)
        if not len(self.hashes):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), np.bool_)
        places = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1)
        return places, self.hashes[places] == wanted


def _index_of(folder: str, columns: tuple[str, ...], by: str) -> _Index:
    hashes: list[Hashes] = []
    values: list[npt.NDArray[np.float64]] = []
    for table in DocumentDataset.read_parquet(folder, columns=[by, *columns]):
        hashes.append(hash64(table.column(by).to_pylist()))
        numbers = [numbers_of(table.column(name)) for name in columns]
        values.append(np.array(numbers, dtype=np.float64).reshape(len(columns), table.num_rows))
    every = np.concatenate([np.empty(0, np.uint64), *hashes])
    distinct, first = np.unique(every, return_index=True)
    joined = np.concatenate([np.empty((len(columns), 0)), *values], axis=1) if columns else np.empty((0, len(every)))
    return _Index(distinct, joined[:, first])


@dataclass(frozen=True)
class ById(Stage):
    """Adds numbers that another dataset holds for the same id, or keeps the documents whose id it holds.

    Ids are compared by a 64-bit hash: two of a hundred million differ and are taken for one with a chance of 3 in
    10,000. Each worker holds 8 bytes for an id and 8 for a number.
    """

    folder: str
    """Parquet files with ids and numbers."""
    columns: tuple[str, ...] = ()
    """Columns to add (float64; null where it is null there). With none, documents whose id is not there are marked."""
    by: str = "id"
    text_field: str | None = None
    """Column with the text that ids are made of, where documents have none of their own."""

    def identity(self) -> Mapping[str, str]:
        """The ids and the numbers."""
        index = _index_of(self.folder, self.columns, self.by)
        return {"content": fingerprint(index.hashes.tobytes() + index.values.tobytes())}

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the id, or the text."""
        makes = tuple(pa.field(name, pa.float64()) for name in self.columns)
        return Needs((self.text_field,), (), makes) if self.text_field is not None else Needs((), (self.by,), makes)

    def _ids(self, table: pa.Table) -> list[Any]:
        if self.text_field is None:
            return list(require(table, self.by, self.name).to_pylist())
        return [document_id(each) for each in text(table, self.text_field, self.name).to_pylist()]

    def open(self) -> TableFunction:
        """Read the other dataset, and return the function that looks ids up."""
        index = _index_of(self.folder, self.columns, self.by)

        def keep(table: pa.Table) -> pa.Table:
            _, found = index.places(self._ids(table))
            return mark(table, pa.array([None if each else "not chosen" for each in found], pa.string()))

        def add(table: pa.Table) -> pa.Table:
            ids = self._ids(table)
            places, found = index.places(ids)
            if not found.all():
                message = (
                    f"{self.name}: {self.folder} has nothing for the document with the id "
                    f"{ids[int(np.flatnonzero(~found)[0])]!r}. It was made of other documents; make it again."
                )
                raise UsageError(message)
            for column, name in enumerate(self.columns):
                values = index.values[column][places] if table.num_rows else np.empty(0)
                table = put(table, name, pa.array(values, pa.float64(), mask=np.isnan(values)))
            return table

        return add if self.columns else keep
