"""Blocks of whole lines from a file or a byte range of it, in bounded memory whatever the lines' length."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import zstandard
from isal import isal_zlib

from tamis.errors import InputError
from tamis.io.files import InputFile, open_input
from tamis.io.records import RAW_LIMIT

__all__ = ["COMPRESSIONS", "Block", "Buffer", "LongLine", "TruncatedFile", "as_listed", "blocks", "unpacked"]

COMPRESSIONS: dict[str | None, str | None] = {None: None, "gz": "gz", "gzip": "gz", "zst": "zst", "zstd": "zst"}
"""Names of compressions and what their file names end with."""

_CHUNK = 2 << 20
"""Bytes read at a time. From 1 to 8 MB the speed is the same to the noise; memory grows with it."""


@dataclass(frozen=True)
class Block:
    """Whole lines, back to back; the last one may lack its line end at the end of the file."""

    data: bytearray
    offset: int
    """Byte offset of the first line in the decompressed file."""


@dataclass(frozen=True)
class LongLine:
    """A line longer than the limit: only its beginning is kept."""

    offset: int
    head: bytes
    size: int


class TruncatedFile(Exception):  # noqa: N818  not an error of the caller's
    """A compressed file ends in the middle or is damaged."""


@contextmanager
def as_listed(file: InputFile, *, until: int | None = None) -> Iterator[BinaryIO]:
    """The file, open for reading and held to what was listed: a piece never comes from two versions of a file.

    Raises :class:`InputError` where it has another size or time of change, when it is opened and when the reading
    ends, well or with damage. It is the open file that is asked, not its path: where another file was put in its
    place meanwhile, this piece still read the whole of the old one, and the next piece is refused. A failure of the
    system to read is an :class:`InputError` as well, never taken for damage. ``until`` is where reading means to stop.
    """
    try:
        with open_input(file, until=until) as handle:
            _hold(file, handle)
            try:
                yield handle
            except Exception:  # what looks like damage may be a file that was written to while it was read
                _hold(file, handle)
                raise
            _hold(file, handle)
    except OSError as error:
        if error.errno is None:  # Arrow says so of damage
            raise
        message = f"{file.path} cannot be read: {error.strerror or error}. Finished splits are kept; run again."
        raise InputError(message) from error


def _hold(file: InputFile, handle: BinaryIO) -> None:
    """One ``fstat``; what lies behind a URL is held to its tag by who reads it (:func:`tamis.io.files.open_input`)."""
    if "://" in file.path:
        return
    status = os.fstat(handle.fileno())
    if status.st_size != file.size:
        how = f"it had {file.size:,} bytes and has {status.st_size:,} now"
    elif file.version not in {"", str(status.st_mtime_ns)}:
        how = f"it still has {file.size:,} bytes, but was written to"
    else:
        return
    message = (
        f"{file.path} changed after it was listed: {how}. Finished splits are kept. Put the file back as it was and "
        "run again, or, where the change was meant, list the input again and start anew with --fresh (mode='fresh')."
    )
    raise InputError(message)


ReadInto = Callable[[memoryview], int]
"""Fills a buffer with the next bytes and says how many; 0 at the end."""


def unpacked(file: BinaryIO, compression: str | None) -> ReadInto:
    """A function that reads decompressed bytes.

    Members and frames behind one another are read to the last. Raises :class:`TruncatedFile`.
    """
    if compression is None:
        return file.readinto  # type: ignore[attr-defined, no-any-return]
    if compression == "zip":
        return _reader(_unzipped(file))
    new = _NEW[compression]
    return _reader(_decompressed(file, new))


_NEW: dict[str, Callable[[], Any]] = {
    "gz": partial(isal_zlib.decompressobj, wbits=31),
    "zst": lambda: zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj(),
}
_DAMAGED: Any = (isal_zlib.IsalError, zstandard.ZstdError)
_PACKED_CHUNK = 8 << 10
"""Compressed bytes unpacked at a time: at a ratio of 1,000 that is 8 MB; what one damaged place can cost."""


def _decompressed(file: BinaryIO, new: Callable[[], Any]) -> Iterator[bytes]:
    """The content, piece by piece, so that what comes before a damaged place is not lost."""
    member, begun = new(), False
    while packed := file.read(_PACKED_CHUNK):
        # Another member may follow at once, or after padding with zeros (as tar does).
        rest = packed if begun else packed.lstrip(b"\0")
        while rest:
            begun = True
            try:
                yield member.decompress(rest)
            except _DAMAGED as error:
                raise TruncatedFile(str(error)) from error
            rest = b""
            if member.eof:
                rest = member.unused_data.lstrip(b"\0")
                member, begun = new(), False
    if begun:
        message = "it ends before its last block does"
        raise TruncatedFile(message)


def _unzipped(file: BinaryIO) -> Iterator[bytes]:
    """The content of the one file in an archive."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
            if len(names) != 1:
                some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                message = (
                    f"{getattr(file, 'name', 'a .zip')} holds {len(names)} files ({some or 'none'}); an archive is "
                    "read where it holds one. Unpack it first."
                )
                raise InputError(message)
            with archive.open(names[0]) as member:
                while chunk := member.read(_UNZIPPED_CHUNK):
                    yield chunk
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise TruncatedFile(str(error)) from error
    except (NotImplementedError, RuntimeError) as error:  # a password, or a compression that Python does not know
        message = f"{getattr(file, 'name', 'a .zip')} cannot be unpacked: {error}. Unpack it first."
        raise InputError(message) from error


_UNZIPPED_CHUNK = 256 << 10


def _reader(chunks: Iterator[bytes]) -> ReadInto:
    held = memoryview(b"")  # sliced without a copy: one piece may be 64 MB and be asked for in small parts

    def read(buffer: memoryview) -> int:
        nonlocal held
        while not held:
            try:
                held = memoryview(next(chunks))
            except StopIteration:
                return 0
        size = min(len(held), len(buffer))
        buffer[:size] = held[:size]
        held = held[size:]
        return size

    return read


class Buffer:
    """Bytes read and not yet handed out."""

    def __init__(self, read: ReadInto, position: int) -> None:
        self._read = read
        self._damage: TruncatedFile | None = None
        self.data = bytearray()
        self.offset = position
        """Place of the first byte in the file."""

    @property
    def position(self) -> int:
        """Place in the file after the last byte read."""
        return self.offset + len(self.data)

    def fill(self, size: int) -> bool:
        """Read up to ``size`` more bytes; false at the end of the file.

        Where the file is damaged, what comes before is kept, and the next call raises.
        """
        if self._damage is not None:
            raise self._damage
        held = len(self.data)
        grown = bytearray(held + size)
        grown[:held] = self.data
        got = 0
        with memoryview(grown) as view:
            while got < size:
                with view[held + got :] as rest:
                    try:
                        n = self._read(rest)
                    except TruncatedFile as error:
                        self._damage = error
                        break
                if not n:
                    break
                got += n
        del grown[held + got :]
        self.data = grown
        return got > 0 or self._damage is not None

    def drop(self, size: int) -> None:
        """Forget the first bytes."""
        self.data = self.data[size:]
        self.offset += size

    def take(self, size: int) -> Block:
        """Hand the first bytes out."""
        rest = self.data[size:]
        block = Block(self.data, self.offset)
        del self.data[size:]
        self.data, self.offset = rest, self.offset + size
        return block


def blocks(read: ReadInto, start: int, end: int | None, limit: int) -> Iterator[Block | LongLine]:
    """The lines whose first byte lies in [start, end), in blocks of about 2 MB.

    ``read`` continues at ``max(start - 1, 0)``: where a line begins is known from the byte before. A line longer
    than ``limit`` bytes is never held in memory.
    """
    buffer = Buffer(read, max(start - 1, 0))
    if start > 0 and not _to_next_line(buffer):
        return
    searched = 0  # bytes of the buffer that are known to hold no line end
    while end is None or buffer.offset < end:
        cut = _cut(buffer.data, buffer.offset, searched, end)
        if cut:
            yield buffer.take(cut)
        elif len(buffer.data) > limit:
            yield _long_line(buffer)
            searched = 0  # what is left may hold further lines
            continue
        searched = len(buffer.data)
        # Growing with what is held keeps a long line that crosses the end from being copied again and again.
        beyond = max(_BEYOND, searched)
        wanted = _CHUNK if end is None else min(_CHUNK, max(end - buffer.position, 0) + beyond)
        if cut:
            continue
        try:
            more = buffer.fill(wanted)
        except TruncatedFile:
            if buffer.data:
                yield buffer.take(len(buffer.data))
            raise
        if not more:
            if buffer.data:
                yield buffer.take(len(buffer.data))
            return


_BEYOND = 1 << 16
"""Bytes read past the end of a range at a time, to find the end of its last line."""


def _to_next_line(buffer: Buffer) -> bool:
    """Drop the bytes up to and with the next line end; false where there is none."""
    while buffer.data or buffer.fill(_BEYOND):
        found = buffer.data.find(b"\n")
        buffer.drop(found + 1 or len(buffer.data))
        if found >= 0:
            return True
    return False


def _long_line(buffer: Buffer) -> LongLine:
    """Pass over the rest of a line that is too long to hold."""
    begin = buffer.offset
    while len(buffer.data) < RAW_LIMIT and buffer.data.find(b"\n") < 0 and buffer.fill(_BEYOND):
        pass
    head = bytes(buffer.data[:RAW_LIMIT]).partition(b"\n")[0]
    buffer.drop(len(head))
    ended = _to_next_line(buffer)
    size = buffer.offset - begin - ended
    return LongLine(begin, head, size)


def _cut(data: bytearray, offset: int, searched: int, end: int | None) -> int:
    """The position after the last whole line that begins before ``end``; 0 where there is none.

    The first ``searched`` bytes are known to hold no line end.
    """
    if end is not None and offset + len(data) >= end:
        # The line that holds byte end - 1 is the last one that may begin in the range.
        found = data.find(b"\n", max(end - 1 - offset, searched))
        return found + 1 if found >= 0 else data.rfind(b"\n", searched) + 1
    return data.rfind(b"\n", searched) + 1
