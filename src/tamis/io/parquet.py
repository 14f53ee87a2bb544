"""Parquet, both directions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq  # noqa: TID251  the room for Parquet

from tamis.errors import InputError, MissingColumnError
from tamis.io.files import InputFile
from tamis.io.hashed import HashedFile
from tamis.io.ids import fill_ids
from tamis.io.lines import as_listed
from tamis.io.records import Bad, End, Want
from tamis.io.splits import Piece
from tamis.table import ROW, Batch, Origin, conform

__all__ = ["ParquetWriter", "merge", "pieces", "read", "rows_of", "schema_of"]

_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 10_000
_GROUP_BYTES = 64 << 20
"""Arrow bytes per row group: large enough to compress and scan well, small enough for four in memory."""
_DAMAGED = (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError)


def schema_of(files: Sequence[InputFile]) -> pa.Schema:
    """The schema that all files fit: missing columns and nulls give way, integers give way to floats."""
    # All files are looked at while they are few; of many, an even sample: a misfit beyond it is said when it is read.
    chosen = files if len(files) <= 64 else [files[i] for i in np.linspace(0, len(files) - 1, 64).astype(int)]
    unified: pa.Schema | None = None
    first = ""
    for file in chosen:
        try:
            with as_listed(file) as handle:
                found = pq.read_schema(handle).remove_metadata()
        except _DAMAGED:
            continue  # said when the file is read
        if unified is None:
            unified, first = found, file.path
            continue
        try:
            unified = pa.unify_schemas([unified, found], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            message = f"{first} and {file.path} do not fit together: {error}. Bring the column to one type first."
            raise InputError(message) from error
    if unified is None:
        message = f"{files[0].path} is not a Parquet file, or is damaged."
        raise InputError(message)
    return unified


def rows_of(file: BinaryIO) -> int | None:
    """Rows of a Parquet file, as its footer says; None where it has none that can be read."""
    try:
        return int(pq.read_metadata(file).num_rows)
    except _DAMAGED:
        return None


def pieces(file: InputFile, split_size: int) -> Iterator[Piece]:
    """The file whole, or in ranges of row groups of about ``split_size`` bytes."""
    groups: list[int] = []
    if file.size > split_size:
        try:
            with as_listed(file) as handle:
                meta = pq.ParquetFile(handle).metadata
                groups = [_stored(meta.row_group(i)) for i in range(meta.num_row_groups)]
        except _DAMAGED:
            groups = []  # said when the file is read
    if len(groups) < 2:
        yield Piece(file, 0, -1, file.size, whole=True)
        return
    cuts = [0]
    held = 0
    for i, size in enumerate(groups):
        if held and held + size > split_size:
            cuts.append(i)
            held = 0
        held += size
    cuts.append(len(groups))
    for a, b in itertools.pairwise(cuts):
        yield Piece(file, a, b, sum(groups[a:b]), whole=len(cuts) == 2)


def _stored(group: pq.RowGroupMetaData) -> int:
    return sum(group.column(i).total_compressed_size for i in range(group.num_columns))


def read(piece: Piece, want: Want) -> Iterator[Batch | Bad | End]:
    """The documents of a range of row groups in bounded batches."""
    row = 0
    try:
        with as_listed(piece.file) as handle:
            file = pq.ParquetFile(handle, pre_buffer=False)
            for table in _tables(file, piece, want):
                numbers = np.arange(row, row + table.num_rows)
                row += table.num_rows
                origin = Origin(piece.file.path, numbers, np.full(table.num_rows, -1))
                yield Batch(table, origin)
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, pa.ArrowException):
            raise
        detail = f"from row {row} on the file cannot be read ({str(error).splitlines()[0]})"
        yield Bad(piece.file.path, row, -1, "unreadable file", detail, b"", piece.bytes)
    yield End(row, piece.bytes)


def _tables(file: pq.ParquetFile, piece: Piece, want: Want) -> Iterator[pa.Table]:
    have = file.schema_arrow.names
    for name in want.texts:
        if name not in have and name not in {want.add_filename, want.id_field}:
            raise MissingColumnError.of(name, f"reading {piece.file.path}", have)
    columns = [f.name for f in want.columns if f.name in have and f.name != want.add_filename]
    hidden = want.id_from if want.id_field and want.id_from in have and want.id_from not in columns else None
    groups = list(range(file.num_row_groups))[piece.start : None if piece.end < 0 else piece.end]
    rows = sum(file.metadata.row_group(g).num_rows for g in groups)
    size = sum(file.metadata.row_group(g).total_byte_size for g in groups)
    per_batch = max(1, min(_BATCH_ROWS, _BATCH_BYTES * max(rows, 1) // max(size, 1)))
    batches = file.iter_batches(per_batch, row_groups=groups, columns=[*columns, *([hidden] if hidden else [])])
    for batch in batches:
        yield fitted(pa.Table.from_batches([batch]), want, piece.file.name)


def fitted(table: pa.Table, want: Want, file_name: str) -> pa.Table:
    """The table with exactly the columns that are wanted, of the wanted types; missing ones are null."""
    rows = table.num_rows
    out: dict[str, pa.ChunkedArray | pa.Array] = {}
    for field in want.columns:
        if field.name == want.add_filename:
            continue
        if field.name in table.column_names:
            column = table.column(field.name)
            out[field.name] = column if column.type == field.type else column.cast(field.type)
        else:
            out[field.name] = pa.nulls(rows, field.type)
    if want.add_filename is not None:
        out[want.add_filename] = pa.array([file_name] * rows, pa.string())
    if want.id_field is not None:
        texts = table.column(want.id_from).to_pylist() if want.id_from in table.column_names else [None] * rows
        out[want.id_field] = fill_ids(out.get(want.id_field), texts)
    return pa.table(out) if out else pa.table({ROW: np.arange(rows)})


class _Target(HashedFile):
    """What Arrow writes to.

    Its writer ends the file when it is garbage collected, after an error too. Whoever owns the file beneath has closed
    it by then, and nothing more is written to it.
    """

    def write(self, data: object) -> int:
        """Write all of ``data``, unless the file was given up."""
        return memoryview(data).nbytes if self._file.closed else super().write(data)  # type: ignore[arg-type]


class ParquetWriter:
    """Writes batches as Parquet (zstd); the bytes depend on the content alone."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = _Target(file)
        self._schema = schema
        self._writer = pq.ParquetWriter(self._file, schema, compression="zstd")
        self._held: list[pa.Table] = []
        self._bytes = 0
        self._rows = 0

    def write(self, batch: Batch, made: Sequence[str]) -> None:
        """Write the rows, all columns of the schema."""
        table = conform(batch.table, self._schema)
        self._rows += table.num_rows
        self._held.append(table)
        self._bytes += table.nbytes
        if self._bytes >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            table = pa.concat_tables(self._held)
            self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._held, self._bytes = [], 0

    def close(self) -> tuple[int, int, str]:
        """Finish the file; returns (rows, bytes, XXH3-128 of the bytes)."""
        self._flush()
        self._writer.close()
        return self._rows, self._file.size, self._file.digest


def merge(parts: Sequence[Callable[[], BinaryIO]], target: BinaryIO) -> None:
    """Write the row groups of the parts, in order, into one file; one row group is in memory at a time."""
    writer: pq.ParquetWriter | None = None
    for opened in parts:
        with opened() as handle:
            file = pq.ParquetFile(handle, pre_buffer=False)
            writer = writer or pq.ParquetWriter(_Target(target), file.schema_arrow, compression="zstd")
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                writer.write_table(table, row_group_size=max(1, table.num_rows))
    if writer is not None:
        writer.close()
