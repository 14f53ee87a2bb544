"""The document table: a ``pyarrow.Table`` with one row per document, and the few verbs on it.

A stage that wants a row gone does not remove it. It *marks* it: :func:`mark` adds two reserved columns,
the reason (null: keep) and the score that decided. Only the engine removes rows, so counting, reject files,
dry runs and reports are written once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import MissingColumnError, StageError

__all__ = [
    "RESERVED",
    "ROW",
    "Batch",
    "Origin",
    "RawLines",
    "conform",
    "has_text",
    "is_text",
    "mark",
    "marks",
    "put",
    "require",
    "same_memory",
    "text",
    "true_mask",
]

_REASON = "__reason"
_SCORE = "__score"
RESERVED = (_REASON, _SCORE)
"""Columns of marks, which never reach an output."""
ROW = "__row"
"""Stands in where no column is read: a table without columns has no rows."""


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text: string, large_string or string_view."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def require(table: pa.Table, column: str, stage: str) -> pa.ChunkedArray:
    """The column, or a :class:`MissingColumnError` that names the stage and the nearest column."""
    if column not in table.column_names:
        raise MissingColumnError.of(column, stage, table.column_names)
    return table.column(column)


def text(table: pa.Table, column: str, stage: str) -> pa.LargeStringArray:
    """The text column as one contiguous ``large_string`` array (64-bit offsets), which the kernels walk.

    Zero-copy for a column that is one ``large_string`` chunk; other string types are cast. Nulls stay null.
    """
    found = require(table, column, stage)
    if pa.types.is_null(found.type) or is_text(found.type):
        chunks = found.cast(pa.large_string())
        whole = chunks.combine_chunks() if chunks.num_chunks != 1 else chunks.chunk(0)
        return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
    message = f"{stage} reads the column {column!r} as text, but it is {found.type}."
    raise StageError(message)


def put(table: pa.Table, column: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The table with ``column`` replaced in its place, or appended when it is new.

    A text column keeps its string type (string stays string), whatever string type ``values`` has.
    """
    index = table.schema.get_field_index(column)
    if index < 0:
        return table.append_column(column, values)
    kind = table.schema.field(index).type
    if is_text(kind) and is_text(values.type) and kind != values.type:
        values = values.cast(kind)
    return table.set_column(index, column, values)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of the schema, in its order and of its types.

    Column by column, and only where types differ: pyarrow 26 breaks a list of nulls that it casts to its own type.
    """
    columns = ((table.column(field.name), field.type) for field in schema)
    return pa.table([c if c.type == kind else c.cast(kind) for c, kind in columns], schema)


def mark(table: pa.Table, reasons: pa.Array, scores: pa.Array | None = None) -> pa.Table:
    """The table with rows marked for removal: ``reasons`` is a string per row, null where the row is kept.

    ``scores``, if given, are the values that decided, any type; they are shown beside the reason.
    """
    marked = table.append_column(_REASON, pa.array(reasons, pa.string()))
    return marked if scores is None else marked.append_column(_SCORE, scores)


def marks(table: pa.Table) -> tuple[pa.Table, pa.ChunkedArray | None, pa.ChunkedArray | None]:
    """Take the marks off a table: ``(table without them, reasons or None, scores or None)``."""
    names = table.column_names
    reasons = table.column(_REASON) if _REASON in names else None
    scores = table.column(_SCORE) if _SCORE in names else None
    return table.drop_columns([c for c in RESERVED if c in names]), reasons, scores


@dataclass(frozen=True)
class RawLines:
    """The exact bytes of some lines, as ranges of the block they were read in; taking rows copies nothing."""

    data: bytes | bytearray
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    present: frozenset[str] = frozenset()
    """Which of the columns that the plan makes some line of the block holds already."""

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> bytes:
        return bytes(self.data[self.starts[row] : self.ends[row]])

    def take(self, rows: npt.NDArray[np.int64]) -> RawLines:
        """The same for these rows."""
        return RawLines(self.data, self.starts[rows], self.ends[rows], self.present)


@dataclass(frozen=True)
class Origin:
    """Where the rows of a table came from, row for row.

    ``file`` is the path as it was given; ``line`` counts from 0 within the split (rows, for Parquet);
    ``offset`` is the byte offset of the line in the (decompressed) file, -1 where there is none. ``raw``
    holds the exact bytes of each JSON line without its line end, ``None`` for other formats: a writer of
    JSONL copies them, so that fields nobody touched come out byte for byte as they went in.
    """

    file: str
    line: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]
    raw: RawLines | None = None

    def take(self, rows: npt.NDArray[np.int64]) -> Origin:
        """The same for these rows."""
        raw = None if self.raw is None else self.raw.take(rows)
        return replace(self, line=self.line[rows], offset=self.offset[rows], raw=raw)


@dataclass(frozen=True)
class Batch:
    """A table of documents and where each came from."""

    table: pa.Table
    origin: Origin

    @property
    def rows(self) -> int:
        """Documents; a table whose columns have all been dropped has forgotten it."""
        return len(self.origin.line)

    def take(self, rows: npt.NDArray[np.int64]) -> Batch:
        """The batch with these rows only, in this order."""
        return Batch(self.table.take(pa.array(rows)), self.origin.take(rows))

    def where(self, mask: npt.NDArray[np.bool_]) -> Batch:
        """The batch with the rows whose mask is true; itself when that is all of them."""
        return self if bool(mask.all()) else self.take(np.flatnonzero(mask))


def has_text(texts: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Which texts have a character that is no white space; a null has none."""
    return true_mask(pc.greater(pc.binary_length(pc.utf8_trim_whitespace(texts)), 0))


def true_mask(values: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """A boolean Arrow column as a numpy mask; null counts as false."""
    return np.asarray(pc.fill_null(values, fill_value=False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def same_memory(a: pa.ChunkedArray, b: pa.ChunkedArray) -> bool:
    """Whether two columns are the same buffers: what a stage returns that found nothing to change."""
    if a.num_chunks != b.num_chunks:
        return False
    return all(
        [x and x.address for x in left.buffers()] == [y and y.address for y in right.buffers()]
        for left, right in zip(a.chunks, b.chunks, strict=True)
    )
