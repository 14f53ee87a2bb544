"""JSON Lines, both directions.

Reading parses each line by itself (orjson), so that a bad line costs only itself, builds the few columns that the
plan reads, and carries the exact bytes of the line along. Writing copies those bytes and splices in the values
of the columns that a stage made: number spelling, key order, escapes and fields that fit no schema come out as
they went in, and untouched documents are copied at memory speed.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import zstandard
from isal import igzip

from tamis.io.documents import Documents, columns_of, present_of, table_of
from tamis.io.hashed import HashedFile
from tamis.io.lines import Block, LongLine, TruncatedFile, as_listed, blocks, unpacked
from tamis.io.records import RAW_LIMIT, Bad, End, Want
from tamis.io.schema import Shape, is_json
from tamis.io.splits import Piece
from tamis.table import ROW, Batch, Origin, RawLines, is_text
from tamis.text.jsonspan import value_spans
from tamis.text.jsontext import text_of_lines
from tamis.text.line_ends import line_ends

__all__ = ["JsonlWriter", "read", "scan"]

_BOM = b"\xef\xbb\xbf"
_GZIP_LEVEL = 2  # 445 MB/s and 30 % of the size; zlib's level 6 reaches 27 % at 42 MB/s
_ZSTD_LEVEL = 3


class _Lines:
    """The non-blank lines of a block: where they begin and end, and which physical line each is.

    Lines longer than ``limit`` are left whole, blanks around them included: what is said of them must not depend
    on where the blocks of the file end.
    """

    def __init__(self, block: Block, first: int, limit: int) -> None:
        data = np.frombuffer(block.data, dtype=np.uint8)
        ends = line_ends(data)
        if not len(ends) or ends[-1] != len(data) - 1:
            ends = np.append(ends, len(data))
        starts = np.concatenate([[0], ends[:-1] + 1])
        self.physical = len(ends)
        number = np.arange(first, first + len(ends))
        self.long = ends - starts > limit
        if block.offset == 0 and block.data.startswith(_BOM) and not self.long[0]:
            starts[0] = min(3, ends[0])
        # Blank lines, and blanks around an object, are rare: only lines that do not look like {...} are looked at.
        odd = np.flatnonzero((starts >= ends) | (data[starts % len(data)] != 123) | (data[ends - 1] != 125))
        keep = np.ones(len(ends), dtype=np.bool_)
        for row in odd[~self.long[odd]].tolist():
            line = block.data[starts[row] : ends[row]]
            starts[row] += len(line) - len(line.lstrip(b" \t\r"))
            ends[row] = max(starts[row], ends[row] - (len(line) - len(line.rstrip(b" \t\r"))))
            keep[row] = bool(line.strip(b" \t\r"))
        self.starts, self.ends, self.number, self.long = starts[keep], ends[keep], number[keep], self.long[keep]
        self.data = block.data
        self.offset = block.offset

    def texts(self) -> list[memoryview]:
        """The bytes of each line."""
        view = memoryview(self.data)
        return [view[a:b] for a, b in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]


def _cause(line: bytes, error: orjson.JSONDecodeError) -> tuple[str, str]:
    said = error.msg
    if "surrogate" in said and "UTF-8" not in said:
        return (
            "lone surrogate",
            f"half of a surrogate pair (\\ud800-\\udfff) stands alone, which is no text ({said})",
        )
    try:
        line.decode()
    except UnicodeDecodeError as bad:
        if line[:2] in {b"\xff\xfe", b"\xfe\xff"} or line[1:2] == b"\x00":
            return "invalid UTF-8", "this looks like UTF-16; convert the file to UTF-8"
        return "invalid UTF-8", f"byte {bad.start} of the line is {line[bad.start]:#04x}"
    if line[:1] == b"[":
        return "not JSON", f"{said}; if the file is one JSON array, write one document per line instead"
    return "not JSON", f"{said}, at character {error.pos} of the line"


_LONG_NUMBER = re.compile(rb"[0-9]{19}")


def _loads_exactly(line: memoryview) -> Any:
    """A line that orjson takes, with integers of any size."""
    document = orjson.loads(line)
    return json.loads(bytes(line)) if _LONG_NUMBER.search(line) else document


_TYPE_NAMES = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


class _Reader:
    """Turns blocks into batches and bad records, for one piece."""

    def __init__(self, piece: Piece, want: Want, *, exact: bool = False) -> None:
        self._file = piece.file
        self._want = want
        # Where only texts are read, or nothing, it does not matter how numbers are.
        self._exact = exact or any(not is_text(f.type) or is_json(f) for f in want.columns)
        self.lines = 0

    def bad(self, lines: _Lines, row: int, kind: str, detail: str) -> Bad:
        line = bytes(lines.data[lines.starts[row] : lines.ends[row]])
        offset = lines.offset + int(lines.starts[row])
        return Bad(self._file.path, int(lines.number[row]), offset, kind, detail, line[:RAW_LIMIT], len(line))

    def long(self, line: LongLine) -> Bad:
        detail = f"the line has {line.size:,} bytes, more than {self._want.max_record_bytes:,}"
        number = self.lines
        self.lines += 1
        return Bad(self._file.path, number, line.offset, "too long", detail, line.head, line.size)

    def lines_of(self, block: Block) -> _Lines:
        lines = _Lines(block, self.lines, self._want.max_record_bytes)
        self.lines += lines.physical
        return lines

    def _loads(self, lines: _Lines) -> Callable[[memoryview], Any]:
        """The parser for a block: orjson, which reads integers beyond 64 bits as floats, unless there may be some."""
        return _loads_exactly if self._exact and _LONG_NUMBER.search(lines.data) else orjson.loads

    def parse(self, lines: _Lines) -> tuple[Documents, list[int], list[Bad]]:
        """The documents of a block, the rows they are in, and the lines that hold none."""
        bad: list[Bad] = []
        if len(lines.long) and not lines.long.any():
            try:
                documents = list(map(self._loads(lines), lines.texts()))
            except orjson.JSONDecodeError:
                pass
            else:
                if set(map(type, documents)) == {dict}:
                    return documents, list(range(len(documents))), bad
        good: Documents = []
        rows: list[int] = []
        loads = self._loads(lines)
        for row, text in enumerate(lines.texts()):
            if lines.long[row]:
                detail = f"the line has {len(text):,} bytes, more than {self._want.max_record_bytes:,}"
                bad.append(self.bad(lines, row, "too long", detail))
                continue
            try:
                document = loads(text)
            except orjson.JSONDecodeError as error:
                bad.append(self.bad(lines, row, *_cause(bytes(text), error)))
                continue
            if type(document) is dict:
                good.append(document)
                rows.append(row)
            else:
                what = _TYPE_NAMES.get(type(document), "null")
                bad.append(self.bad(lines, row, "not an object", f"the line holds {what}, a document is an object"))
        return good, rows, bad

    def batch(self, block: Block) -> Iterator[Batch | Bad]:
        lines = self.lines_of(block)
        quick = self._quick(lines)
        if quick is not None:
            yield quick
            return
        documents, rows, bad = self.parse(lines)
        arrays, faults = columns_of(documents, self._want)
        bad += [self.bad(lines, rows[i], *fault) for i, fault in faults.items()]
        yield from sorted(bad, key=lambda entry: entry.line)
        if faults:
            left = [i for i in range(len(documents)) if i not in faults]
            documents, rows = [documents[i] for i in left], [rows[i] for i in left]
            arrays, _ = columns_of(documents, self._want)
        if documents:
            origin = self._origin(lines, np.array(rows, dtype=np.int64), present_of(documents, self._want))
            yield Batch(table_of(arrays, documents, self._want, self._file.name), origin)

    def _quick(self, lines: _Lines) -> Batch | None:
        """The batch where one text field is all that is read and every line is good beyond doubt.

        Measured on 320 MB: the text at 1,500 MB/s instead of the 330 of parsing whole documents.
        """
        want = self._want
        columns = [f for f in want.columns if f.name != want.add_filename]
        if len(columns) != 1 or columns[0].name not in want.texts or want.id_field is not None or lines.long.any():
            return None
        found = text_of_lines(lines.data, lines.starts, lines.ends, columns[0].name, want.made)
        if found is None or not len(lines.starts):
            return None
        texts, present = found
        arrays = {columns[0].name: texts.cast(columns[0].type)}
        if want.add_filename is not None:
            arrays[want.add_filename] = pa.array([self._file.name] * len(texts), pa.string())
        return Batch(pa.table(arrays), self._origin(lines, np.arange(len(texts)), present))

    def _origin(self, lines: _Lines, rows: npt.NDArray[np.int64], present: frozenset[str]) -> Origin:
        raw = None
        if self._want.raw:
            raw = RawLines(lines.data, lines.starts[rows], lines.ends[rows], present)
        return Origin(self._file.path, lines.number[rows], lines.offset + lines.starts[rows], raw)


def read(piece: Piece, want: Want) -> Iterator[Batch | Bad | End]:
    """The documents of a piece in bounded batches, each bad line as a :class:`Bad`, and an :class:`End`."""
    reader = _Reader(piece, want)
    try:
        for block in _blocks(piece, want.max_record_bytes):
            if isinstance(block, LongLine):
                yield reader.long(block)
            else:
                yield from reader.batch(block)
    except TruncatedFile as error:
        detail = f"the compressed file ends in the middle or is damaged ({error}); the documents before are used"
        yield Bad(piece.file.path, reader.lines, -1, "truncated file", detail, b"", 0)
    yield End(reader.lines, piece.bytes)


def _blocks(piece: Piece, limit: int) -> Iterator[Block | LongLine]:
    plain = piece.file.compression is None
    end = None if piece.whole or not plain else piece.end
    with as_listed(piece.file, until=end) as file:
        if plain:
            file.seek(max(piece.start - 1, 0))
        yield from blocks(unpacked(file, piece.file.compression), piece.start if plain else 0, end, limit)


def scan(piece: Piece, *, documents: int | None = None) -> Shape:
    """The shape of a piece's records, or of its first so many; bad ones are passed over."""
    reader = _Reader(piece, Want(), exact=True)
    shape = Shape()
    seen = 0
    try:
        for block in _blocks(piece, Want().max_record_bytes):
            if isinstance(block, LongLine):
                continue
            if documents is None:
                shape.observe(reader.parse(reader.lines_of(block))[0])
                continue
            found = _some(block, documents - seen)
            seen += len(found)
            shape.observe(found)
            if seen >= documents:
                break
    except TruncatedFile:
        pass  # said when the piece is read
    return shape


def _some(block: Block, documents: int) -> Documents:
    """The first documents of a block, without parsing all of it."""
    found: Documents = []
    for line in _Lines(block, 0, len(block.data)).texts():
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if type(value) is dict:
            found.append(value)
        if len(found) >= documents:
            break
    return found


# -- writing -------------------------------------------------------------------------------------------------


def packed(file: HashedFile, compression: str | None) -> Any:
    """A writer that compresses, with bytes that depend on the content alone; closing it leaves ``file`` open."""
    if compression == "gz":
        return igzip.IGzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=file, mtime=0)  # type: ignore[no-untyped-call]
    if compression == "zst":
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).stream_writer(cast("BinaryIO", file), closefd=False)
    return file


class JsonlWriter:
    """Writes batches as JSON Lines."""

    def __init__(self, file: BinaryIO, schema: pa.Schema, compression: str | None = None) -> None:
        self._file = HashedFile(file)
        self._out = packed(self._file, compression)
        self._json = {f.name for f in schema if is_json(f)}
        self._rows = 0

    def write(self, batch: Batch, made: Sequence[str]) -> None:
        """Write the rows: their raw bytes with the ``made`` columns spliced in, or all columns where there are none.

        Values that JSON cannot hold: NaN and infinities become null, bytes base64, decimals text, times ISO 8601.
        """
        rows = batch.rows
        if not rows:
            return
        self._rows += rows
        raw = batch.origin.raw
        if raw is not None and not made:
            for start, end in _runs(raw):
                self._out.write(memoryview(raw.data)[start:end])
                self._out.write(b"\n")
            return
        lines = self._whole(batch.table) if raw is None else self._spliced(raw, batch.table, made)
        self._out.write(b"\n".join(lines))
        self._out.write(b"\n")

    def _whole(self, table: pa.Table) -> list[bytes]:
        if ROW in table.column_names:
            table = table.drop_columns([ROW])
        documents = table.to_pylist() if table.num_columns else [{} for _ in range(table.num_rows)]
        for name in self._json & set(table.column_names):
            for document in documents:
                text = document[name]
                document[name] = None if text is None else orjson.Fragment(text)
        for field in table.schema:
            if _is_float32(field.type):
                for document, value in zip(documents, _as_numpy(table.column(field.name)), strict=True):
                    document[field.name] = value
        return [_dumps(document) for document in documents]

    def _values(self, table: pa.Table, name: str) -> list[bytes]:
        column = table.column(name)
        if _is_float32(column.type):
            return [_dumps(v) for v in _as_numpy(column)]
        values = column.to_pylist()
        if name in self._json:
            return [b"null" if v is None else v.encode() for v in values]
        return [_dumps(v) for v in values]

    def _spliced(self, raw: RawLines, table: pa.Table, made: Sequence[str]) -> list[bytes]:
        """Each line with the values of the ``made`` columns in the place of the old ones, or at its end."""
        keys = [orjson.dumps(name) for name in made]
        places = [_places(raw, name) for name in made]
        values = [self._values(table, name) for name in made]
        appended = [b"," + key + b":" for key in keys]
        view = memoryview(raw.data)
        lines: list[bytes] = []
        columns = range(len(keys))
        for row, (start, end) in enumerate(zip(raw.starts.tolist(), raw.ends.tolist(), strict=True)):
            parts: list[bytes | memoryview] = []
            at = start
            for a, n in sorted((places[n][0][row], n) for n in columns if places[n] is not _NOWHERE):
                if a >= 0:
                    parts += (view[at:a], values[n][row])
                    at = places[n][1][row]
            parts.append(view[at : end - 1])
            first = len(parts)
            for n in columns:
                if places[n] is _NOWHERE or places[n][0][row] < 0:
                    parts += (appended[n], values[n][row])
            if len(parts) > first and raw.data[start + 1] in b"} \t\r" and not bytes(view[start + 1 : end - 1]).strip():
                parts[first] = bytes(parts[first])[1:]  # an empty object: no comma before its first member
            parts.append(b"}")
            lines.append(b"".join(parts))
        return lines

    def close(self) -> tuple[int, int, str]:
        """Finish the file; returns (rows, bytes, XXH3-128 of the bytes)."""
        if self._out is not self._file:
            self._out.close()
        return self._rows, self._file.size, self._file.digest


Places = tuple[list[int], list[int]]
_NOWHERE: Places = ([], [])


def _places(raw: RawLines, name: str) -> Places:
    """Where the value of a field begins and ends in each line, -1 where it is not; ``_NOWHERE`` where in none."""
    if name not in raw.present:
        return _NOWHERE
    spans = value_spans(np.frombuffer(raw.data, dtype=np.uint8), raw.starts, name.encode())
    return spans[:, 0].tolist(), spans[:, 1].tolist()


def _runs(raw: RawLines) -> Iterator[tuple[int, int]]:
    """Ranges of bytes that hold whole lines one behind the other, each but its last with its line end."""
    if len(raw):
        breaks = np.flatnonzero(raw.starts[1:] != raw.ends[:-1] + 1)
        yield from zip(
            raw.starts[np.append(0, breaks + 1)].tolist(),
            raw.ends[np.append(breaks, len(raw) - 1)].tolist(),
            strict=True,
        )


def _is_float32(kind: pa.DataType) -> bool:
    """Whether a column is of float32, or of lists of it: vectors and probabilities."""
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(pa.types.is_float32(kind.value_type if lists else kind))


def _as_numpy(column: pa.ChunkedArray) -> list[Any]:
    """The values as numpy's float32, which are written with the digits that tell a float32: 0.3, not 0.30000001192."""
    whole = column.combine_chunks()
    nested = not pa.types.is_float32(whole.type)
    return [None if v is None else np.array(v, np.float32) if nested else np.float32(v) for v in whole.to_pylist()]


def _dumps(value: Any) -> bytes:
    return orjson.dumps(value, default=_json_value, option=orjson.OPT_SERIALIZE_NUMPY)


def _json_value(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
