"""CSV to documents: each row becomes one, its fields are text unless the layout gives them types.

A file is read as it was meant or not at all: a row with more or fewer fields than the header, with a quotation mark
where none may be, or that is no UTF-8 is set aside with its line, byte offset and bytes, and reading goes on behind
it. A row with a wrong quotation mark costs its first line: a mark that is never closed does not swallow the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tamis.errors import InputError
from tamis.io.documents import Rows, read_rows
from tamis.io.files import InputFile
from tamis.io.layouts import CsvLayout, examples, give_types
from tamis.io.lines import Buffer, TruncatedFile, as_listed, unpacked
from tamis.io.records import RAW_LIMIT, Bad, End, Want
from tamis.io.schema import Shape
from tamis.io.splits import Piece
from tamis.table import Batch
from tamis.text.csv_spans import BAD_QUOTES, OPEN_QUOTE, Spans, csv_spans
from tamis.text.line_ends import line_ends

__all__ = ["read", "scan"]

_BOM = b"\xef\xbb\xbf"
_CHUNK = 2 << 20
_MOST_COLUMNS = 1 << 16
_CAUSES = {
    BAD_QUOTES: "a closing quotation mark is followed by something else than a delimiter or a line end",
    OPEN_QUOTE: "a quotation mark is opened and never closed",
}


class _Reader:
    """Reads the rows of one file."""

    def __init__(self, file: InputFile, buffer: Buffer, want: Want) -> None:
        layout = file.layout if isinstance(file.layout, CsvLayout) else CsvLayout()
        self._file = file
        self._want = want
        self._buffer = buffer
        self._final = False
        """Whether the buffer holds the end of the file."""
        self._delimiter = layout.delimiter or ("\t" if ".tsv" in file.path.rsplit("/", 1)[-1].lower() else ",")
        self._kinds = dict(layout.types)
        self.lines = 0
        """Physical lines before the buffer."""
        self._grow()
        if buffer.data.startswith(_BOM):
            buffer.drop(len(_BOM))
        self.names = self._header() if layout.names is None else list(layout.names)

    def _grow(self) -> None:
        # By what is held already: a row of any length is scanned a few times, not once for every block.
        self._final = not self._buffer.fill(max(_CHUNK, len(self._buffer.data)))

    def _drop(self, size: int) -> None:
        if size:
            self.lines += self._buffer.data.count(b"\n", 0, size)
            self._buffer.drop(size)

    # -- the header ------------------------------------------------------------------------------------------

    def _header(self) -> list[str]:
        """The names in the first row; none where the file is empty."""
        buffer = self._buffer
        while True:
            found = self._spans(0, _MOST_COLUMNS, 1) if buffer.data else None
            if found is not None and len(found.rows):
                names = self._names(found)
                self._drop(found.position)
                return names
            if self._final:
                return []
            if len(buffer.data) > self._want.max_record_bytes:
                raise InputError(self._refusal("its first row does not end"))
            self._grow()

    def _names(self, found: Spans) -> list[str]:
        _, _, fields, code = found.rows[0].tolist()
        if code:
            raise InputError(self._refusal(_CAUSES[code]))
        if fields > _MOST_COLUMNS:
            raise InputError(self._refusal(f"it has {fields:,} columns"))
        view = memoryview(self._buffer.data)
        if bytes(view[:2]) in {b"\xff\xfe", b"\xfe\xff"}:
            raise InputError(self._refusal("this looks like UTF-16; convert the file to UTF-8"))
        try:
            places = (found.starts[0, :fields], found.ends[0, :fields], found.doubled[0, :fields])
            names = [_text(view, *place) for place in zip(*places, strict=True)]
        except UnicodeDecodeError as error:
            raise InputError(self._refusal("it is not UTF-8; convert the file")) from error
        twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < fields else None
        if twice is not None:
            raise InputError(self._refusal(f"it names the column {twice!r} twice"))
        return names

    def _refusal(self, why: str) -> str:
        return (
            f"{self._file.path} has no header that can be used: {why}. Mend its first row; if that row is data "
            "already, give names=[...]."
        )

    # -- the rows --------------------------------------------------------------------------------------------

    def _spans(self, at: int, width: int, most: int = 4096) -> Spans:
        return csv_spans(self._buffer.data, at, final=self._final, delimiter=self._delimiter, width=width, most=most)

    def batches(self) -> Iterator[Batch | Bad]:
        """The documents to the end of the file."""
        buffer, width = self._buffer, max(len(self.names), 1)
        while True:
            at, full = 0, bool(buffer.data)
            ends = line_ends(np.frombuffer(buffer.data, np.uint8)) if full else None
            while full:
                found = self._spans(at, width)
                if len(found.rows) and ends is not None:
                    numbers = self.lines + np.searchsorted(ends, found.rows[:, 0])
                    yield from self._batch(found, numbers.tolist())
                at, full = found.position, found.full
            self._drop(at)
            if self._final:
                self.lines += bool(at and ends is not None and (not len(ends) or ends[-1] != at - 1))
                return
            if len(buffer.data) > self._want.max_record_bytes:
                yield self._long()
            self._grow()

    def _batch(self, found: Spans, numbers: list[int]) -> Iterator[Batch | Bad]:
        buffer, names, kinds = self._buffer, self.names, self._kinds
        view = memoryview(buffer.data)
        rows = Rows(self._file, self._want)
        bad: list[Bad] = []
        documents, lines, offsets = rows.documents, rows.lines, rows.offsets
        # Flat lists: a list for each row would wake the garbage collector so often that it takes half of the time.
        starts, ends, doubled = (part.ravel().tolist() for part in (found.starts, found.ends, found.doubled))
        width = found.starts.shape[1]
        of_rows = (found.rows[:, column].tolist() for column in range(4))
        for i, (begin, end, fields, code) in enumerate(zip(*of_rows, strict=True)):
            here = slice(i * width, i * width + width)
            fault = ("bad quotes", _CAUSES[code]) if code else self._ragged(fields)
            document: dict[str, Any] = {}
            if fault is None:
                try:
                    places = zip(names, starts[here], ends[here], doubled[here], strict=True)
                    document = {name: _text(view, a, b, twice) for name, a, b, twice in places}
                except UnicodeDecodeError:
                    fault = _undecodable(bytes(view[begin:end]))
                else:
                    fault = give_types(document, kinds)
            if fault is None:
                documents.append(document)
                lines.append(numbers[i])
                offsets.append(buffer.offset + begin)
            else:
                raw = bytes(view[begin : min(end, begin + RAW_LIMIT)])
                bad.append(Bad(self._file.path, numbers[i], buffer.offset + begin, *fault, raw, end - begin))
        begins = found.rows[:, 0]

        def raw_of(offset: int) -> bytes:
            row = int(np.searchsorted(begins, offset - buffer.offset))
            return bytes(view[begins[row] : found.rows[row, 1]])

        yield from rows.batch(bad, raw_of)

    def _ragged(self, fields: int) -> tuple[str, str] | None:
        if fields == len(self.names):
            return None
        what = f"{fields} field{'s' * (fields != 1)}"
        return "ragged row", f"the row has {what} and the header names {len(self.names)}"

    def _long(self) -> Bad:
        """Pass over the line in which a row begins that does not end within the limit."""
        buffer = self._buffer
        number, offset = self.lines, buffer.offset
        head = bytes(buffer.data[:RAW_LIMIT]).partition(b"\n")[0]
        while (cut := buffer.data.find(b"\n")) < 0 and not self._final:
            self._drop(len(buffer.data))
            self._grow()
        self._drop(cut + 1 or len(buffer.data))
        size = buffer.offset - offset - (cut >= 0)
        detail = f"the row has more than {self._want.max_record_bytes:,} bytes; is a quotation mark never closed?"
        return Bad(self._file.path, number, offset, "too long", detail, head, size)

    def rest(self) -> tuple[int, int, bytes]:
        """(line, byte offset, bytes) of a row whose end is missing."""
        return self.lines, self._buffer.offset, bytes(self._buffer.data)


def _text(view: memoryview, start: int, end: int, doubled: int) -> str:
    text = str(view[start:end], "utf-8")
    return text.replace('""', '"') if doubled else text


def _undecodable(raw: bytes) -> tuple[str, str]:
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return "invalid UTF-8", f"byte {error.start} of the row is {raw[error.start]:#04x}"
    return "invalid UTF-8", "the row is not UTF-8"  # it is, but a field of it alone is not: no such bytes are known


def read(piece: Piece, want: Want) -> Iterator[Batch | Bad | End]:
    """The documents of a file in bounded batches, each bad row as a :class:`Bad`, and an :class:`End`."""
    return read_rows(piece, lambda buffer: _Reader(piece.file, buffer, want))


def scan(piece: Piece, *, documents: int | None = None) -> Shape:  # noqa: ARG001  the header says it of all
    """The shape of a file's rows: what its header names, of the types that the layout gives."""
    layout = piece.file.layout if isinstance(piece.file.layout, CsvLayout) else CsvLayout()
    shape = Shape()
    try:
        with as_listed(piece.file) as handle:
            reader = _Reader(piece.file, Buffer(unpacked(handle, piece.file.compression), 0), Want())
    except TruncatedFile:
        return shape  # said when the file is read
    declared = examples(layout.types)
    return shape.observe([{name: declared.get(name, "") for name in reader.names}])
