"""Embeddings in a column of lists, as a matrix; what cannot be one is said with the document's id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import MissingColumnError, UsageError
from tamis.table import require, true_mask

__all__ = ["EMBEDDER", "Vectors", "check_column", "read_vectors", "reads_of"]

EMBEDDER = b"embedder"
"""Field metadata that names the model which a column of embeddings comes from."""
_LARGEST = 1e100
"""Its square, over a variance of 1e-6, in any number of dimensions, is a float64."""


@dataclass(frozen=True)
class Vectors:
    """The embeddings of a table."""

    values: npt.NDArray[Any]
    """[documents that have one, width], of the column's own type; finite."""
    present: npt.NDArray[np.bool_]
    """[documents]: which have one. A blank text has none."""


def reads_of(schema: pa.Schema, column: str, *, needs_id: bool = False) -> tuple[str, ...]:
    """The columns to read: the embeddings, and the id where it is needed or at hand to name a document by."""
    return (column, "id") if needs_id or "id" in schema.names else (column,)


def check_column(schema: pa.Schema, column: str, who: str, *, width: int | None = None, embedder: str = "") -> None:
    """Raise where the column cannot hold the embeddings that are wanted; what types do not tell is seen in the data.

    Args:
        schema: The columns that exist.
        column: Of lists of numbers.
        who: Who asks, for the error message.
        width: Numbers in a vector, if that is known.
        embedder: The model they must come from, if that is known.

    Raises:
        MissingColumnError: There is no such column.
        UsageError: It holds something else, or embeddings of another width or model.
    """
    if column not in schema.names:
        raise MissingColumnError.of(column, who, schema.names)
    field = schema.field(column)
    kind = field.type
    if not (pa.types.is_null(kind) or _is_vectors(kind)):
        message = (
            f"{who} reads the column {column!r} as embeddings, lists of numbers, but it is {kind}. "
            "Make one with tamis.models.embed.Embed."
        )
        raise UsageError(message)
    if width is not None and pa.types.is_fixed_size_list(kind) and kind.list_size != width:
        message = (
            f"{who}: the embeddings in the column {column!r} have {kind.list_size} dimensions, and the mixture was "
            f"fitted on {width}. Use the embeddings of the same model for both."
        )
        raise UsageError(message)
    found = (field.metadata or {}).get(EMBEDDER, b"").decode()
    if found and embedder and found != embedder:
        message = (
            f"{who}: the embeddings in the column {column!r} come from {found!r}, and the mixture was fitted on "
            f"those of {embedder!r}. Use the embeddings of the same model for both."
        )
        raise UsageError(message)


def _is_vectors(kind: pa.DataType) -> bool:
    is_list = pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(is_list and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)))


def read_vectors(
    table: pa.Table, column: str, who: str, error: type[Exception], *, width: int | None = None
) -> Vectors:
    """The embeddings of a table, without a copy where Arrow holds them in one piece.

    Args:
        table: Documents.
        column: Of lists of numbers; null where a document has no embedding.
        who: Who asks, for the error message.
        error: What is raised of a document whose embedding cannot be used.
        width: Numbers in a vector; by default those of the first.

    Raises:
        Exception: ``error``: an embedding has another length, or holds what is no finite number.
    """
    check_column(table.schema, column, who, width=width)
    found = require(table, column, who)
    present = true_mask(found.is_valid())
    if pa.types.is_null(found.type) or not present.any():
        return Vectors(np.empty((0, width or 0), dtype=np.float32), present)
    whole = found.chunk(0) if found.num_chunks == 1 else pa.concat_arrays(found.chunks)
    if pa.types.is_fixed_size_list(whole.type):
        size = whole.type.list_size
    else:
        sizes = pc.list_value_length(whole).drop_null().to_numpy(zero_copy_only=False)
        size = int(sizes[0]) if width is None else width
        odd = np.flatnonzero(sizes != size)
        if len(odd):
            message = f"{sizes[odd[0]]} dimensions instead of {size}"
            raise error(_said(table, np.flatnonzero(present)[odd[0]], column, who, message))
    flat = whole.flatten()  # leaves out what nulls and slices hide
    if pa.types.is_integer(flat.type):
        flat = flat.cast(pa.float64(), safe=False)
    values = flat.to_numpy(zero_copy_only=False).reshape(-1, size)
    row = _not_finite(values) if flat.null_count == 0 else _first(~true_mask(flat.is_valid()).reshape(-1, size))
    if row is not None:
        message = "a value that is no finite number"
        raise error(_said(table, np.flatnonzero(present)[row], column, who, message))
    return Vectors(values, present)


def _not_finite(values: npt.NDArray[Any]) -> int | None:
    """The first row that holds NaN, infinity, or what is too large to be squared."""
    flat = values.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        # One sum of squares is small only where all are; for float16 it would overflow at once.
        if flat.dtype != np.float16 and np.dot(flat, flat) < _LARGEST**2:
            return None
        return _first(~(np.abs(values) < _LARGEST))


def _first(bad: npt.NDArray[np.bool_]) -> int | None:
    rows = np.flatnonzero(bad.any(axis=1))
    return int(rows[0]) if len(rows) else None


def _said(table: pa.Table, row: int, column: str, who: str, what: str) -> str:
    ids = "id" in table.column_names
    name = f"id {str(table.column('id')[int(row)].as_py())!r}" if ids else f"row {row} of its table"
    return (
        f"{who}: the embedding in the column {column!r} of the document with {name} has {what}. "
        "Embed that text again, or leave the document out."
    )
