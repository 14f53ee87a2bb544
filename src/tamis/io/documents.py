"""Parsed records to tables: the columns that are wanted, and what is wrong with records that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import orjson
import pyarrow as pa

from tamis.io.convert import convert, json_text, misfits
from tamis.io.files import InputFile
from tamis.io.ids import fill_ids
from tamis.io.lines import Buffer, TruncatedFile, as_listed, unpacked
from tamis.io.records import RAW_LIMIT, Bad, End, Want
from tamis.io.splits import Piece
from tamis.table import ROW, Batch, Origin, RawLines

__all__ = ["Documents", "Fault", "Rows", "columns_of", "present_of", "read_rows", "table_of"]

Documents = list[dict[str, Any]]
Fault = tuple[str, str]
"""(the cause in one of a few phrases, the rest of the sentence)."""


def columns_of(documents: Documents, want: Want) -> tuple[dict[str, pa.Array], dict[int, Fault]]:
    """The wanted columns, and what is wrong with which documents; a column is only there if all documents fit."""
    arrays: dict[str, pa.Array] = {}
    faults: dict[int, Fault] = {}
    for column in want.columns:
        name = column.name
        if name == want.add_filename:
            continue
        if name in want.texts and not all(name in d for d in documents):
            for i, document in enumerate(documents):
                if name not in document:
                    have = ", ".join(list(document)[:8])
                    faults.setdefault(i, ("missing field", f"the document has no field {name!r}; it has: {have}"))
        values = [d.get(name) for d in documents]
        array = convert(values, column)
        if array is not None:
            arrays[name] = array
            continue
        for i in misfits(values, column):
            shown = json_text(values[i])[:60]
            detail = f"the field {name!r} holds {shown}, which is no {_plain_name(column.type)}"
            faults.setdefault(i, ("wrong type", detail))
    return arrays, faults


def _plain_name(kind: pa.DataType) -> str:
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)


def table_of(arrays: dict[str, pa.Array], documents: Documents, want: Want, file_name: str) -> pa.Table:
    """The table of the wanted columns and of those that the source adds."""
    if want.add_filename is not None:
        arrays[want.add_filename] = pa.array([file_name] * len(documents), pa.string())
    if want.id_field is not None:
        arrays[want.id_field] = fill_ids(arrays.get(want.id_field), (d.get(want.id_from or "") for d in documents))
    # A table without columns has no rows: one that only counts them stands in.
    return pa.table(arrays) if arrays else pa.table({ROW: np.arange(len(documents))})


def present_of(documents: Documents, want: Want) -> frozenset[str]:
    """Which of the columns that the plan makes some document holds already."""
    return frozenset(name for name in want.made if any(name in d for d in documents))


@dataclass
class Rows:
    """Records of a format that is not JSON, as they come; :meth:`batch` makes a table of them.

    A writer of JSONL is given each as a JSON line: so documents without a field have none in the output, and no
    schema needs to be found before.
    """

    file: InputFile
    want: Want
    documents: Documents = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    """Physical line of each in the file, from 0."""
    offsets: list[int] = field(default_factory=list)
    """Byte of each in the decompressed file."""

    def put(self, document: dict[str, Any], line: int, offset: int) -> None:
        """Add a record."""
        self.documents.append(document)
        self.lines.append(line)
        self.offsets.append(offset)

    def batch(self, bad: Sequence[Bad], raw: Callable[[int], bytes]) -> Iterator[Batch | Bad]:
        """The records so far as a batch, and before it what is bad, in order.

        Args:
            bad: Records that could not be parsed.
            raw: The bytes of the record that begins at an offset.
        """
        arrays, faults = columns_of(self.documents, self.want)
        found = [*bad, *(self._bad(i, fault, raw(self.offsets[i])) for i, fault in faults.items())]
        yield from sorted(found, key=lambda entry: entry.offset)
        if faults:
            left = [i for i in range(len(self.documents)) if i not in faults]
            self.documents = [self.documents[i] for i in left]
            self.lines, self.offsets = [self.lines[i] for i in left], [self.offsets[i] for i in left]
            arrays, _ = columns_of(self.documents, self.want)
        if self.documents:
            table = table_of(arrays, self.documents, self.want, self.file.name)
            lines, offsets = np.array(self.lines, np.int64), np.array(self.offsets, np.int64)
            yield Batch(table, Origin(self.file.path, lines, offsets, self._raw()))

    def _bad(self, row: int, fault: Fault, raw: bytes) -> Bad:
        return Bad(self.file.path, self.lines[row], self.offsets[row], *fault, raw[:RAW_LIMIT], len(raw))

    def _raw(self) -> RawLines | None:
        if not self.want.raw:
            return None
        texts = [_json_line(d) for d in self.documents]
        ends = np.cumsum([len(t) + 1 for t in texts]) - 1
        starts = np.concatenate([[0], ends[:-1] + 1])
        return RawLines(b"\n".join(texts), starts, ends, present_of(self.documents, self.want))


def _json_line(document: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits
        return json_text(document).encode()


class RowReader(Protocol):
    """What reads the rows of one file."""

    lines: int
    """Line ends that have been passed."""

    def batches(self) -> Iterator[Batch | Bad]:
        """The documents to the end of the file, and what is bad between them."""
        ...

    def rest(self) -> tuple[int, int, bytes]:
        """(line, byte offset, bytes) of a row whose end is missing."""
        ...


def read_rows(piece: Piece, reader_of: Callable[[Buffer], RowReader]) -> Iterator[Batch | Bad | End]:
    """The documents of a whole file in bounded batches, each bad row as a :class:`Bad`, and an :class:`End`."""
    reader: RowReader | None = None
    try:
        with as_listed(piece.file) as handle:
            reader = reader_of(Buffer(unpacked(handle, piece.file.compression), 0))
            yield from reader.batches()
    except TruncatedFile as error:
        line, offset, raw = reader.rest() if reader is not None else (0, 0, b"")
        detail = f"the compressed file ends in the middle or is damaged ({error}); the rows before are used"
        yield Bad(piece.file.path, line, offset, "truncated file", detail, raw[:RAW_LIMIT], len(raw))
    yield End(reader.lines if reader is not None else 0, piece.bytes)
