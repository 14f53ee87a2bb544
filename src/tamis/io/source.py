"""Where documents come from: a list of files, or a table in memory, behind one small interface.

A source knows its columns, cuts itself into splits and reads one split as batches; what runs the splits, and
how many at a time, is the engine's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from tamis.errors import MissingColumnError, UsageError
from tamis.hashing import fingerprint
from tamis.io.files import InputFile
from tamis.io.formats import SCANNERS, infer_schema, make_splits, read_piece, scan_piece
from tamis.io.memory import pieces_of, read_table, spool
from tamis.io.records import Bad, End, Want
from tamis.io.schema import Shape
from tamis.io.splits import Split, pack
from tamis.table import RESERVED, ROW, Batch, is_text

__all__ = ["FileSource", "Item", "LimitedSource", "Source", "TableSource"]

Item = Batch | Bad | End
"""What reading a split yields: good documents, one bad record, or the end of a piece."""


@dataclass(frozen=True)
class Extras:
    """The columns a source adds to what the files hold."""

    file_name: str | None = None
    """Column for the name of the file a document came from (relative to the input's common folder)."""
    id: str | None = None
    """Column filled with :func:`tamis.hashing.document_id` of the text where a document has none."""
    text_field: str = "text"

    def extend(self, schema: pa.Schema) -> pa.Schema:
        """The schema with the added columns."""
        for name in (self.file_name, self.id):
            if name is not None and name not in schema.names:
                schema = schema.append(pa.field(name, pa.string()))
        return schema

    @property
    def made(self) -> tuple[str, ...]:
        """Names of the added columns."""
        return tuple(name for name in (self.file_name, self.id) if name is not None)


class Source(Protocol):
    """What the engine needs to know of an input."""

    @property
    def extras(self) -> Extras:
        """The columns it adds."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """All columns, added ones included; for JSONL without a declared schema, judged from a sample."""
        ...

    @property
    def keeps_raw(self) -> bool:
        """Whether batches can carry each record as a line of JSON: JSONL as it is, CSV and XML as they were read."""
        ...

    @property
    def exact(self) -> bool:
        """Whether :attr:`schema` holds for every record, or only for the sample it was judged from."""
        ...

    def with_schema(self, schema: pa.Schema) -> Source:
        """The source with its schema decided."""
        ...

    def with_id(self, field: str) -> Source:
        """The source with an id column."""
        ...

    def splits(self, split_size: int, *, one_piece: bool = False) -> tuple[Split, ...]:
        """The units of work; with ``one_piece``, each within one file."""
        ...

    def read(self, split: Split, want: Want) -> Iterator[Item]:
        """The documents of a split in order, each bad record in its place, and an ``End`` per piece."""
        ...

    def scan(self, split: Split) -> Shape:
        """The shape of every record of a split, to decide the schema of all."""
        ...

    def describe(self) -> dict[str, Any]:
        """What identifies the input, as JSON: a run is resumed only on the same."""
        ...

    def shared(self, folder: Path) -> Source:
        """The source in a form that other processes can open; may write into ``folder``."""
        ...


def _check_names(schema: pa.Schema) -> None:
    for name in (*RESERVED, ROW):
        if name in schema.names:
            message = f"the input has a column {name!r}, a name that Tamis uses itself. Rename it first."
            raise UsageError(message)


@dataclass(frozen=True)
class FileSource:
    """Documents in files of one format."""

    files: tuple[InputFile, ...]
    format: str
    extras: Extras = Extras()
    columns: tuple[str, ...] | None = None
    """The fields to keep, in this order; all of them by default."""
    declared: pa.Schema | None = None
    """The schema where it is known; otherwise it is read (Parquet) or judged from a sample."""

    @cached_property
    def schema(self) -> pa.Schema:
        """All columns, added ones included."""
        found = self.declared if self.declared is not None else infer_schema(self.files)
        _check_names(found)
        if self.columns is not None:
            for name in self.columns:
                if name not in found.names:
                    raise MissingColumnError.of(name, "reading with columns=", found.names)
            found = pa.schema([found.field(name) for name in self.columns])
        return self.extras.extend(found)

    @property
    def keeps_raw(self) -> bool:
        """True for JSONL, CSV and XML of which all columns are kept."""
        return self.format in SCANNERS and self.columns is None

    @property
    def exact(self) -> bool:
        """False for JSONL, CSV and XML whose schema was judged from a sample."""
        return self.format not in SCANNERS or self.declared is not None

    def with_schema(self, schema: pa.Schema) -> FileSource:
        """The source with its schema decided."""
        return replace(self, declared=schema)

    def with_id(self, field: str) -> FileSource:
        """The source with an id column."""
        return replace(self, extras=replace(self.extras, id=field))

    def splits(self, split_size: int, *, one_piece: bool = False) -> tuple[Split, ...]:
        """Pieces of about ``split_size`` bytes; small files are packed together unless ``one_piece``."""
        return make_splits(self.files, split_size=split_size, one_piece=one_piece)

    def read(self, split: Split, want: Want) -> Iterator[Item]:
        """The documents of a split."""
        for piece in split.pieces:
            # A table that was spooled was cut before it was a file.
            yield from read_piece(replace(piece, file=self.files[0]) if self.format == "arrow" else piece, want)

    def scan(self, split: Split) -> Shape:
        """The shape of every record of a split."""
        shape = Shape()
        for piece in split.pieces:
            shape = shape.merge(scan_piece(piece))
        return shape

    def describe(self) -> dict[str, Any]:
        """Names, sizes and versions of the files, and how they are read."""
        listing = "\n".join(f"{f.path}\t{f.size}\t{f.version}" for f in self.files)
        layout = self.files[0].layout if self.files else None
        return {
            "format": self.format,
            **({} if layout is None else {"layout": layout.describe()}),
            "files": len(self.files),
            "bytes": sum(f.size for f in self.files),
            "listing": fingerprint(listing.encode()),
            "text_field": self.extras.text_field,
            "file_name": self.extras.file_name,
            "id": self.extras.id,
            "columns": None if self.columns is None else list(self.columns),
            "schema": None if self.declared is None else [f"{f.name}: {f.type}" for f in self.declared],
        }

    def shared(self, folder: Path) -> FileSource:
        """Itself: files can be opened from anywhere."""
        return self


@dataclass(frozen=True, eq=False)
class TableSource:
    """Documents in an Arrow table in memory."""

    table: pa.Table
    extras: Extras = Extras()

    @cached_property
    def schema(self) -> pa.Schema:
        """The table's columns and the added ones."""
        _check_names(self.table.schema)
        return self.extras.extend(self.table.schema)

    @property
    def keeps_raw(self) -> bool:
        """A table has no raw bytes."""
        return False

    @property
    def exact(self) -> bool:
        """A table's schema is exact."""
        return True

    def with_schema(self, schema: pa.Schema) -> TableSource:
        """Itself: its schema is decided."""
        return self

    def with_id(self, field: str) -> TableSource:
        """The source with an id column."""
        return replace(self, extras=replace(self.extras, id=field))

    @cached_property
    def _file(self) -> InputFile:
        return InputFile(
            path="memory", name="memory.arrow", size=self.table.nbytes, version="", format="arrow", compression=None
        )

    def splits(self, split_size: int, *, one_piece: bool = False) -> tuple[Split, ...]:
        """Row ranges of about ``split_size`` bytes."""
        return pack(pieces_of(self._file, self.table.num_rows, split_size), split_size, one_piece=True)

    def read(self, split: Split, want: Want) -> Iterator[Item]:
        """The documents of a split."""
        for piece in split.pieces:
            yield from read_table(self.table, piece, want)

    def scan(self, split: Split) -> Shape:
        """Never needed: the schema is exact."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """A hash of the rows."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table.schema) as writer:
            writer.write_table(self.table)
        return {
            "format": "arrow",
            "rows": self.table.num_rows,
            "content": fingerprint(sink.getvalue()),
            "text_field": self.extras.text_field,
            "id": self.extras.id,
        }

    def shared(self, folder: Path) -> FileSource:
        """The table as an Arrow file that every process maps into memory."""
        file = spool(self.table, folder / "table.arrow")
        return FileSource((file,), "arrow", self.extras, declared=self.table.schema)


def make_want(
    source: Source, columns: Sequence[str], *, texts: Sequence[str], raw: bool = False, made: Sequence[str] = ()
) -> Want:
    """What to read: these columns with the source's types, ``texts`` being required and read as text."""
    schema = source.schema
    fields = []
    for name in dict.fromkeys([*texts, *columns]):
        known = schema.field(name) if name in schema.names else pa.field(name, pa.large_string())
        if name in texts and not is_text(known.type):
            known = pa.field(name, pa.large_string())
        elif name in texts and known.metadata:
            known = known.remove_metadata()
        fields.append(known)
    return Want(
        columns=tuple(fields),
        texts=tuple(texts),
        raw=raw,
        made=tuple(made),
        add_filename=source.extras.file_name,
        id_field=source.extras.id,
        id_from=source.extras.text_field if source.extras.id else None,
    )


@dataclass(frozen=True)
class LimitedSource:
    """The first ``limit`` records of another source, as one split."""

    source: Source
    limit: int

    @property
    def extras(self) -> Extras:
        """Those of the source."""
        return self.source.extras

    @property
    def schema(self) -> pa.Schema:
        """That of the source."""
        return self.source.schema

    @property
    def keeps_raw(self) -> bool:
        """As the source."""
        return self.source.keeps_raw

    @property
    def exact(self) -> bool:
        """As the source."""
        return self.source.exact

    def with_schema(self, schema: pa.Schema) -> LimitedSource:
        """The same records with the schema decided."""
        return replace(self, source=self.source.with_schema(schema))

    def with_id(self, field: str) -> LimitedSource:
        """The same records with an id column."""
        return replace(self, source=self.source.with_id(field))

    def splits(self, split_size: int, *, one_piece: bool = False) -> tuple[Split, ...]:
        """One split, or with ``one_piece`` one per file, until the limit is reached."""
        parts = self.source.splits(1 << 62, one_piece=one_piece)
        if one_piece and len(parts) > 1:
            message = "a limit and one output per input cannot be had together; write one output per split."
            raise UsageError(message)
        return (Split(0, tuple(piece for split in parts for piece in split.pieces)),) if parts else ()

    def read(self, split: Split, want: Want) -> Iterator[Item]:
        """The documents until the limit is reached."""
        left = self.limit
        for item in self.source.read(split, want):
            if isinstance(item, End):
                yield item
                continue
            if left <= 0:
                return
            if isinstance(item, Batch) and item.table.num_rows > left:
                item = item.take(np.arange(left))  # noqa: PLW2901
            left -= item.table.num_rows if isinstance(item, Batch) else 1
            yield item

    def scan(self, split: Split) -> Shape:
        """The shape of the whole source's records: more than needed, never less."""
        return self.source.scan(split)

    def describe(self) -> dict[str, Any]:
        """The source and the limit."""
        return {**self.source.describe(), "limit": self.limit}

    def shared(self, folder: Path) -> LimitedSource:
        """The same over the shared source."""
        return replace(self, source=self.source.shared(folder))
