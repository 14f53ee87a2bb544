"""XML to documents: each element of one name (``row`` in the dumps of Stack Exchange) becomes one.

Attributes are fields. So is the text of elements inside, by their path below the row (``revision.text``), and their
attributes (``revision.text.bytes``); what comes twice in a row is a list. All of them are text unless the layout
gives them types. The file is never held: memory is that of its longest row.

A row that is not well-formed is set aside with its line, byte offset and bytes, and reading goes on at the next one.
A document type declaration is refused, and with it every attack by entities: nothing but the five entities of XML and
character references is ever expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.parsers import expat

from tamis.errors import InputError
from tamis.io.documents import Documents, Rows, read_rows
from tamis.io.files import InputFile
from tamis.io.layouts import XmlLayout, examples, give_types
from tamis.io.lines import Buffer, TruncatedFile, as_listed, unpacked
from tamis.io.records import RAW_LIMIT, Bad, End, Want
from tamis.io.schema import Shape
from tamis.io.splits import Piece
from tamis.table import Batch

__all__ = ["read", "scan"]

_CHUNK = 1 << 20
_SHOWN = 8
"""Names of elements in a message that there is no row among them."""
_UNKNOWN_ENCODING = 18
_ENDS_EARLY = {3, 5, 6}
"""Errors of expat (no element found, unclosed token, partial character) that at the end of a file say it is cut."""


Found = tuple[dict[str, Any], int, int]
"""(document, line from 0, byte offset) of a row."""


class _Target:
    """What expat calls: makes a document of each row."""

    def __init__(self, layout: XmlLayout, path: str) -> None:
        self._row = layout.row
        self._path = path
        self.done: list[Found] = []
        """The rows that have ended."""
        self.above: list[str] = []
        """The open elements around the rows."""
        self.around: list[str] = []
        """Those around the last row that began."""
        self.base = 0
        """Where the parser began in the file, less what it was given before that."""
        self.seen: dict[str, None] = {}
        """Names of elements that are no rows and lie in none."""
        self.rows = 0
        self.encoding: str | None = None
        self.document: dict[str, Any] | None = None
        self.begin = 0
        """Where the row at work begins."""
        self.clear = 0
        """What begins before this place is read."""
        self._line = 0
        self._inside: list[str] = []
        self._texts: list[list[str]] = []
        self._bare: list[bool] = []
        """For each open element of the row: whether it has neither attributes nor elements."""

    def parser(self, base: int, line: int) -> expat.XMLParserType:
        """A parser for what follows a place in the file, with the elements open that were."""
        parser = expat.ParserCreate(self.encoding)
        parser.buffer_text = True
        parser.buffer_size = 1 << 16
        again = "".join(f"<{name}>" for name in self.around or self.above).encode(self.encoding or "utf-8")
        self.base = base - len(again)
        self.document, self.above = None, []
        self._inside, self._texts, self._bare = [], [], []

        def start(name: str, attributes: dict[str, str]) -> None:
            if self.document is None and name != self._row:
                self.above.append(name)
                self.clear = self.base + parser.CurrentByteIndex
                if len(self.seen) <= _SHOWN:
                    self.seen[name] = None
            elif self.document is None:
                self.document, self.around = attributes, list(self.above)
                self.begin = self.base + parser.CurrentByteIndex
                self._line = line + parser.CurrentLineNumber - 1
                self._texts.append([])
            else:
                if self._bare:
                    self._bare[-1] = False
                self._inside.append(name)
                self._texts.append([])
                self._bare.append(not attributes)
                for key, value in attributes.items():
                    self._put(".".join([*self._inside, key]), value)

        def text(data: str) -> None:
            if self.document is not None:
                self._texts[-1].append(data)

        def end(_: str) -> None:
            if self.document is None:
                self.above.pop()
                self.clear = self.base + parser.CurrentByteIndex
                return
            whole = "".join(self._texts.pop())
            if self._inside:
                if self._bare.pop() or (whole and not whole.isspace()):
                    self._put(".".join(self._inside), whole)
                self._inside.pop()
                return
            if whole and not whole.isspace():
                self._put("text", whole)
            self.done.append((self.document, self._line, self.begin))
            self.rows += 1
            self.document = None
            self.clear = self.begin + 1

        parser.StartElementHandler = start
        parser.EndElementHandler = end
        parser.CharacterDataHandler = text
        parser.StartDoctypeDeclHandler = self._refuse
        parser.XmlDeclHandler = self._declared
        parser.Parse(again, False)  # noqa: FBT003  expat takes it by position
        return parser

    def _put(self, key: str, value: str) -> None:
        document = self.document
        if document is None:
            return
        if key not in document:
            document[key] = value
        elif isinstance(document[key], list):
            document[key].append(value)
        else:
            document[key] = [document[key], value]

    def _declared(self, _version: str, encoding: str | None, _standalone: int) -> None:
        self.encoding = encoding

    def _refuse(self, *_: object) -> None:
        message = (
            f"{self._path} declares a document type (<!DOCTYPE ...>). Tamis reads no such file, because its entities "
            "can be made to grow without end or to read other files. Remove the declaration, and write out the "
            "entities that it declares."
        )
        raise InputError(message)


class _Reader:
    """Reads the rows of one file."""

    def __init__(self, file: InputFile, buffer: Buffer, want: Want) -> None:
        layout = file.layout if isinstance(file.layout, XmlLayout) else XmlLayout()
        self._file = file
        self._want = want
        self._buffer = buffer
        self._row = layout.row
        self._kinds = dict(layout.types)
        self._begins = re.compile(rb"<" + re.escape(layout.row.encode()) + rb"(?=[\s/>])")
        self._target = _Target(layout, file.path)
        self._parser = self._target.parser(0, 0)
        self._fed = 0
        """Bytes of the buffer that the parser has."""
        self.lines = 0
        """Line ends before the buffer."""
        self._over = False
        """Whether what was passed over went to the end of the file."""

    def batches(self) -> Iterator[Batch | Bad]:
        """The documents to the end of the file, and what is bad between them."""
        for found in self._parsed():
            if isinstance(found, Bad):
                yield found
            else:
                yield from self._batch(found)

    def documents(self) -> Iterator[Documents]:
        """The documents alone, some at a time."""
        for found in self._parsed():
            if not isinstance(found, Bad):
                yield [document for document, *_ in found if give_types(document, self._kinds) is None]

    def _parsed(self) -> Iterator[list[Found] | Bad]:
        buffer, target = self._buffer, self._target
        final = False
        while not final:
            # Expat looks at the whole of a row that has not ended whenever more comes: by what is held already, that
            # stays linear in the length of the row.
            final = not buffer.fill(max(_CHUNK, len(buffer.data)))
            if final and not buffer.offset and not buffer.data:
                return
            error = self._feed(final=final)
            while error is not None:
                yield self._done()
                yield self._skip(error, final=final)
                error = None if self._over else self._feed(final=final)
            if self._over:
                break
            yield self._done()
            self._drop(min(target.clear - buffer.offset, self._fed))
            if len(buffer.data) > self._want.max_record_bytes:
                yield self._too_long()
                final = final or self._over
        if self.lacks_rows:
            yield Bad(self._file.path, 0, 0, "no rows", self.no_rows(), b"", buffer.offset)
        self._drop(len(buffer.data))

    @property
    def lacks_rows(self) -> bool:
        """Whether there are elements below the first, and no row among them."""
        return not self._target.rows and len(self._target.seen) > 1

    def no_rows(self) -> str:
        """A sentence for a file without rows."""
        names = [*self._target.seen]
        some = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        return f"there is no element <{self._row}>; there is: {some}. Name the elements that are documents with row=..."

    def _feed(self, *, final: bool) -> expat.ExpatError | None:
        """Give the parser what it has not yet; what is wrong with it."""
        data = bytes(memoryview(self._buffer.data)[self._fed :])
        try:
            self._parser.Parse(data, final)
        except (LookupError, ValueError) as error:  # of Python, that knows encodings which expat does not
            raise InputError(self._not_known()) from error
        except expat.ExpatError as error:
            if error.code == _UNKNOWN_ENCODING:
                raise InputError(self._not_known()) from error
            return error
        self._fed = len(self._buffer.data)
        return None

    def _not_known(self) -> str:
        return (
            f"{self._file.path} declares an encoding that is not known ({self._target.encoding}). "
            "Convert the file to UTF-8."
        )

    def _drop(self, size: int) -> None:
        if size > 0:
            self.lines += self._buffer.data.count(b"\n", 0, size)
            self._buffer.drop(size)
            self._fed -= size

    def _done(self) -> list[Found]:
        done, self._target.done = self._target.done, []
        return done

    def _batch(self, done: list[Found]) -> Iterator[Batch | Bad]:
        rows = Rows(self._file, self._want)
        bad: list[Bad] = []
        for document, line, offset in done:
            fault = give_types(document, self._kinds)
            if fault is None:
                rows.put(document, line, offset)
            else:
                raw = self._raw(offset)
                bad.append(Bad(self._file.path, line, offset, *fault, raw[:RAW_LIMIT], len(raw)))
        yield from rows.batch(bad, self._raw)

    def _raw(self, offset: int) -> bytes:
        """The bytes of the row that begins at an offset, to the next one."""
        begin = offset - self._buffer.offset
        after = self._begins.search(self._buffer.data, begin + 1)
        return bytes(self._buffer.data[begin : after.start() if after else None]).rstrip()

    # -- what is not well-formed -----------------------------------------------------------------------------

    def _skip(self, error: expat.ExpatError, *, final: bool) -> Bad:
        """Pass over a row that cannot be parsed: the parser goes on at the next one."""
        target, buffer = self._target, self._buffer
        at = max(target.base + self._parser.ErrorByteIndex - buffer.offset, 0)
        begin = min(self._begin(otherwise=at), at)
        if final and error.code in _ENDS_EARLY:
            open_ones = ", ".join(f"<{name}>" for name in target.above) or "its first element"
            detail = f"the file ends within {open_ones}; {target.rows:,} rows were read"
            return self._passed(begin, len(buffer.data), "truncated file", detail)
        detail = f"{expat.errors.messages[error.code]}, at byte {at - begin} of the row"
        return self._passed(begin, max(at, begin + 1), "not well-formed", detail)

    def _too_long(self) -> Bad:
        detail = f"the row has more than {self._want.max_record_bytes:,} bytes"
        return self._passed(self._begin(), len(self._buffer.data), "too long", detail)

    def _begin(self, *, otherwise: int | None = None) -> int:
        """Where in the buffer the row at work begins, or what may become one; by default behind the last tag."""
        target, buffer = self._target, self._buffer
        if target.document is not None:
            return max(target.begin - buffer.offset, 0)
        clear = max(target.clear - buffer.offset, 0)
        found = self._begins.search(buffer.data, clear)
        if found:
            return found.start()
        return max(buffer.data.rfind(b">") + 1, clear) if otherwise is None else otherwise

    def rest(self) -> tuple[int, int, bytes]:
        """(line, byte offset, bytes) of a row whose end is missing."""
        self._drop(self._begin())
        return self.lines, self._buffer.offset, bytes(self._buffer.data)

    def _passed(self, begin: int, search: int, kind: str, detail: str) -> Bad:
        """A bad record from ``begin`` to the next row at or after ``search``, where a new parser begins."""
        buffer, target = self._buffer, self._target
        self._drop(begin)
        search -= begin
        line, offset = self.lines, buffer.offset
        head = b""
        while (found := self._begins.search(buffer.data, search)) is None:
            if not head and len(buffer.data) >= RAW_LIMIT:
                head = bytes(buffer.data[:RAW_LIMIT])
            # A row may begin in the last bytes, but not before where it was to be looked for: that is this row itself.
            search = max(len(buffer.data) - len(self._row) - 2, search)
            if head:  # nobody needs the rest of it
                gone = len(buffer.data) - len(self._row) - 2
                self._drop(gone)
                search -= gone
            if not buffer.fill(_CHUNK):
                self._over = True
                break
        after = found.start() if found else len(buffer.data)
        head = head or bytes(buffer.data[: min(after, RAW_LIMIT)]).rstrip()
        self._drop(after)
        target.clear = buffer.offset
        self._parser = target.parser(buffer.offset, self.lines)
        self._fed = 0
        return Bad(self._file.path, line, offset, kind, detail, head, buffer.offset - offset)


def read(piece: Piece, want: Want) -> Iterator[Batch | Bad | End]:
    """The documents of a file in bounded batches, each bad row as a :class:`Bad`, and an :class:`End`."""
    return read_rows(piece, lambda buffer: _Reader(piece.file, buffer, want))


def scan(piece: Piece, *, documents: int | None = None) -> Shape:
    """The shape of a file's rows, or of its first so many; bad ones are passed over.

    Raises:
        InputError: A sample was asked for, and there is no row among the elements of the file.
    """
    layout = piece.file.layout if isinstance(piece.file.layout, XmlLayout) else XmlLayout()
    shape = Shape()
    declared = examples(layout.types)
    seen = 0
    try:
        with as_listed(piece.file) as handle:
            reader = _Reader(piece.file, Buffer(unpacked(handle, piece.file.compression), 0), Want())
            for found in reader.documents():
                # A field that is always blank has its type all the same.
                shape.observe(
                    [*found, {name: value for name, value in declared.items() if any(name in d for d in found)}]
                )
                seen += len(found)
                if documents is not None and seen >= documents:
                    break
    except TruncatedFile:
        pass  # said when the file is read
    if documents is not None:
        if not seen and reader.lacks_rows:
            message = f"{piece.file.path}: {reader.no_rows()}"
            raise InputError(message)
        shape.observe([declared])  # a later row may have it
    return shape
