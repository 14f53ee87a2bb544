"""Documents in memory, and the Arrow file through which other processes share them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from tamis.io.files import InputFile
from tamis.io.parquet import fitted
from tamis.io.records import Bad, End, Want
from tamis.io.splits import Piece
from tamis.table import Batch, Origin

__all__ = ["pieces_of", "read", "read_table", "spool"]

_BATCH_BYTES = 8 << 20


def pieces_of(file: InputFile, rows: int, split_size: int) -> tuple[Piece, ...]:
    """Row ranges of about ``split_size`` bytes."""
    number = max(1, min(rows, -(-file.size // split_size)))
    cuts = np.linspace(0, rows, number + 1).astype(int).tolist()
    return tuple(
        Piece(file, a, b, file.size * (b - a) // max(rows, 1), whole=number == 1) for a, b in itertools.pairwise(cuts)
    )


def spool(table: pa.Table, path: Path) -> InputFile:
    """Write the table to a file that can be mapped into memory."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return InputFile(str(path), path.name, table.nbytes, "", "arrow")


def read_table(table: pa.Table, piece: Piece, want: Want) -> Iterator[Batch | Bad | End]:
    """The documents of a row range in bounded batches."""
    rows = piece.end - piece.start
    per_batch = max(1, min(10_000, _BATCH_BYTES * max(rows, 1) // max(piece.bytes, 1)))
    for start in range(piece.start, piece.end, per_batch):
        part = table.slice(start, min(per_batch, piece.end - start))
        numbers = np.arange(start - piece.start, start - piece.start + part.num_rows)
        yield Batch(fitted(part, want, piece.file.name), Origin("memory", numbers, np.full(part.num_rows, -1)))
    yield End(rows, piece.bytes)


def read(piece: Piece, want: Want) -> Iterator[Batch | Bad | End]:
    """The same from a file that :func:`spool` wrote."""
    with pa.memory_map(piece.file.path) as mapped:
        yield from read_table(pa.ipc.open_file(mapped).read_all(), piece, want)
