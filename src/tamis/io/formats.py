"""The formats, in one visible table, and the functions that go by it."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO, Protocol

import numpy as np
import pyarrow as pa

from tamis.errors import MissingColumnError
from tamis.io import csv_files, jsonl, memory, parquet, xml_files
from tamis.io.files import InputFile, kind_of
from tamis.io.layouts import CsvLayout
from tamis.io.records import Bad, End, Want
from tamis.io.schema import Shape
from tamis.io.splits import Piece, Split, pack
from tamis.table import Batch

__all__ = [
    "READERS",
    "SCANNERS",
    "Writer",
    "infer_schema",
    "make_splits",
    "merge_parts",
    "open_writer",
    "output_names",
    "read_piece",
]

READERS: dict[str, Callable[[Piece, Want], Iterator[Batch | Bad | End]]] = {
    "jsonl": jsonl.read,
    "parquet": parquet.read,
    "csv": csv_files.read,
    "xml": xml_files.read,
    "arrow": memory.read,
}
SCANNERS: dict[str, Callable[..., Shape]] = {"jsonl": jsonl.scan, "csv": csv_files.scan, "xml": xml_files.scan}
"""Formats whose records must be looked at to know their columns; what they read is written as JSONL line by line."""
_FOOTERS_AT_ONCE = 32
_SAMPLE_FILES = 16
_SAMPLE_DOCUMENTS = 1000


class Writer(Protocol):
    """One output file."""

    def write(self, batch: Batch, made: Sequence[str]) -> None:
        """Write the rows; ``made`` names the columns that the plan added or replaced."""
        ...

    def close(self) -> tuple[int, int, str]:
        """Finish; returns (rows, bytes, XXH3-128 of the bytes)."""
        ...


def read_piece(piece: Piece, want: Want) -> Iterator[Batch | Bad | End]:
    """The documents of a piece."""
    return READERS[piece.file.format](piece, want)


def open_writer(file: BinaryIO, format: str, schema: pa.Schema, *, compression: str | None = None) -> Writer:
    """A writer of "jsonl" (compressed or not) or "parquet" (always zstd inside)."""
    if format == "parquet":
        return parquet.ParquetWriter(file, schema)
    return jsonl.JsonlWriter(file, schema, compression)


def merge_parts(format: str, parts: Sequence[Callable[[], BinaryIO]], create: Callable[[], BinaryIO]) -> None:
    """Join parts of one output. Compressed JSONL is joined as it is: members and frames may follow one another."""
    with create() as target:
        if format == "parquet":
            parquet.merge(parts, target)
            return
        for opened in parts:
            with opened() as part:
                shutil.copyfileobj(part, target, 1 << 20)


def make_splits(files: Sequence[InputFile], *, split_size: int, one_piece: bool = False) -> tuple[Split, ...]:
    """Splits of about ``split_size`` bytes: large files are cut, small ones share a split unless ``one_piece``.

    A compressed JSONL file cannot be cut, nor can what a web server sends only as a whole, nor CSV and XML: whether a
    line begins a row, what comes before it says.
    """
    cut = partial(_pieces, split_size=split_size)
    if any("://" in file.path and file.format == "parquet" and file.size > split_size for file in files):
        # Each of these has a footer to be read first, at 50 ms a request: one after the other, 10,000 take 10 minutes.
        with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
            found: Iterable[Iterable[Piece]] = list(pool.map(lambda file: list(cut(file)), files))
    else:
        found = map(cut, files)
    return pack(list(itertools.chain.from_iterable(found)), split_size, one_piece=one_piece)


def _pieces(file: InputFile, split_size: int) -> Iterator[Piece]:
    if not file.ranges:
        yield Piece(file, 0, -1 if file.format == "parquet" else file.size, file.size, whole=True)
        return
    if file.format == "parquet":
        yield from parquet.pieces(file, split_size)
        return
    if file.compression is not None or file.size <= split_size or file.layout is not None:
        yield Piece(file, 0, file.size, file.size, whole=True)
        return
    number = -(-file.size // split_size)
    cuts = [file.size * i // number for i in range(number + 1)]
    for a, b in itertools.pairwise(cuts):
        yield Piece(file, a, b, b - a, whole=False)


def infer_schema(files: Sequence[InputFile]) -> pa.Schema:
    """The schema of the files: read for Parquet, else judged from a sample of up to 1,000 documents."""
    if files[0].format == "parquet":
        return parquet.schema_of(files)
    chosen = np.unique(np.linspace(0, len(files) - 1, _SAMPLE_FILES).astype(int)).tolist()
    shape = Shape()
    for i in chosen:
        file = files[i]
        piece = Piece(file, 0, file.size, file.size, whole=True)
        shape.merge(SCANNERS[file.format](piece, documents=_SAMPLE_DOCUMENTS // len(chosen) + 1))
    schema = shape.to_arrow(sure=False)
    layout = files[0].layout
    if isinstance(layout, CsvLayout) and len(schema):
        for name, _ in layout.types:
            if name not in schema.names:
                raise MissingColumnError.of(name, f"types of {files[0].path}", schema.names)
    return schema


def scan_piece(piece: Piece) -> Shape:
    """The shape of every record of a piece, in one of the formats that :data:`SCANNERS` knows."""
    return SCANNERS[piece.file.format](piece)


def output_names(files: Sequence[InputFile]) -> dict[str, str]:
    """Output name without extension by input path: the input's own, below the folder that all share.

    Where two would be the same (x.jsonl and x.jsonl.gz in one folder), both keep their full names.
    """
    full = {file.path: file.name for file in files}
    names = {path: _bare(name) for path, name in full.items()}
    while True:
        counts = Counter(names.values())
        # The full name of one may be the short name of another (a.jsonl beside a.jsonl.gz and a.jsonl.jsonl).
        resolved = {path: name if counts[name] == 1 else full[path] for path, name in names.items()}
        if resolved == names:
            return names
        names = resolved


def _bare(name: str) -> str:
    kind, packed = kind_of(name)
    for known in (packed, kind):
        if known is not None and "." in name.rsplit("/", 1)[-1].lstrip("."):
            name = name.rsplit(".", 1)[0]
    return name
