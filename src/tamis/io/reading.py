"""Reading an object in blocks, ahead of who reads it, and never from two versions of it."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, BinaryIO, cast

from fsspec.asyn import sync

from tamis.errors import InputError
from tamis.io.remote import connect, in_background, is_http, is_s3, parted, persist, status_of

__all__ = ["RemoteFile", "Seen", "StreamFile", "open_remote", "probe", "tag_of", "urlpath"]

_SMALL = 256 << 10
"""Bytes of a first request: a Parquet file's footer, or a small file."""
_BLOCK = 8 << 20
"""Bytes of a request while a file is read through: beside its transfer a request's own 20 to 50 ms are small."""
_AHEAD = 2
"""Blocks on their way while one is worked on: 24 MB per open file, and two connections' speed."""
_BEYOND = 64 << 10
"""Bytes beyond the end of a piece that its last line may need."""
_TAGS = ("ETag", "etag", "Last-Modified", "mtime", "LastModified", "last_modified", "created", "blob_id")


@dataclass(frozen=True)
class Seen:
    """What is known of an object."""

    size: int
    """Bytes; -1 where the server does not say."""
    version: str
    """Its tag; "" where there is none."""
    ranges: bool = True
    """Whether a part of it can be asked for."""


def tag_of(info: dict[str, Any]) -> str:
    """What changes with the content, of what a store says of an object."""
    tag = next((info[key] for key in _TAGS if info.get(key)), "")
    return str(tag.timestamp() if isinstance(tag, datetime) else tag)  # a listing may say it as a number, an info not


def changed(name: str, how: str) -> InputError:
    """The sentence for an object that is not what was listed."""
    message = (
        f"{name} changed since it was listed: {how}. Finished splits are kept, but they came from another listing: put "
        "the object back as it was, or list the input again and start anew with --fresh (mode='fresh')."
    )
    return InputError(message)


def _removed(name: str) -> InputError:
    return InputError(f"{name} does not exist any more: it was removed since it was listed, or renamed.")


# -- one request ---------------------------------------------------------------------------------------------


class _Reader:
    """Fetches ranges of one object; every answer is held to what was listed."""

    def __init__(self, url: str, seen: Seen | None) -> None:
        self.name = parted(url)[0]
        self._url = url
        self._fs, self._path = connect(url)
        self._known: Seen | None = None
        if is_s3(url):
            self._get = self._from_s3
        elif is_http(url):
            self._get = self._from_http
        else:
            self._get = self._from_any
        self.seen = seen or self._persist(self._look)
        if seen is not None and (self._get == self._from_any or not seen.size):
            self._hold(self._persist(self._look))  # no answer to a range tells the version, or none will be asked for

    def _persist(self, call: Callable[[], Any]) -> Any:
        try:
            return persist(call, f"{self.name} cannot be read", InputError)
        except FileNotFoundError as error:
            raise _removed(self.name) from error

    def fetch(self, start: int, end: int) -> bytes:
        """The bytes of [start, end)."""
        data: bytes = self._persist(partial(self._get, start, end))
        if len(data) != end - start:
            raise changed(self.name, f"it ends at {start + len(data):,} of {self.seen.size:,} bytes")
        return data

    def _hold(self, now: Seen) -> None:
        if now.version and self.seen.version and now.version != self.seen.version:
            raise changed(self.name, "its tag is another one, so it was written anew")
        if now.size >= 0 and self.seen.size >= 0 and now.size != self.seen.size:
            raise changed(self.name, f"it had {self.seen.size:,} bytes and has {now.size:,} now")

    def _look(self) -> Seen:
        if is_http(self._url):
            return probe(self._url)
        self._fs.invalidate_cache(self._path)
        info = self._fs.info(self._path)
        return Seen(int(info.get("size") or 0), tag_of(info))

    def _from_any(self, start: int, end: int) -> bytes:
        return cast("bytes", self._fs.cat_file(self._path, start=start, end=end))

    def _from_s3(self, start: int, end: int) -> bytes:
        bucket, key, version = self._fs.split_path(self._path)
        which = {"VersionId": version} if version else {}

        async def get() -> tuple[bytes, str, str]:
            asked = f"bytes={start}-{end - 1}"
            answer = await self._fs._call_s3("get_object", Bucket=bucket, Key=key, Range=asked, **which)  # noqa: SLF001
            try:
                return await answer["Body"].read(), answer.get("ETag", ""), answer.get("ContentRange", "")
            finally:
                answer["Body"].close()

        try:
            data, tag, extent = sync(self._fs.loop, get)
        except OSError as error:
            if status_of(error) == 416:
                raise changed(self.name, f"it has fewer than {start:,} bytes now") from error
            raise
        self._hold(Seen(_total(extent), tag))
        return cast("bytes", data)

    def _from_http(self, start: int, end: int) -> bytes:
        async def get() -> tuple[bytes, Seen]:
            async with await _ask(self._fs, self._url, start, end) as answer:
                now = _seen(answer)
                self._hold(now)
                if answer.status != 206:
                    raise changed(self.name, "its server does not send this part of it any more")
                return await answer.read(), now

        data, _ = sync(self._fs.loop, get)
        return cast("bytes", data)


def _total(extent: str) -> int:
    """The size in "bytes 0-99/1234"; -1 where it is not told."""
    last = extent.rpartition("/")[2]
    return int(last) if last.isdigit() else -1


async def _ask(fs: Any, url: str, start: int, end: int | None) -> Any:
    """A GET for a range; the answer's body is still to come."""
    session = await fs.set_session()
    settings = dict(fs.kwargs)
    headers = dict(settings.pop("headers", {}))
    if end is not None:
        headers["Range"] = f"bytes={start}-{end - 1}"
    answer = await session.get(fs.encode_url(url), headers=headers, **settings)
    if answer.status == 404:
        answer.close()
        raise FileNotFoundError(parted(url)[0])
    if answer.status >= 400 and answer.status != 416:
        answer.close()
        answer.raise_for_status()
    return answer


def _seen(answer: Any) -> Seen:
    headers = answer.headers
    tag = headers.get("ETag") or headers.get("Last-Modified") or ""
    if answer.status == 200:
        return Seen(int(headers.get("Content-Length", -1)), tag, ranges=False)
    size = _total(headers.get("Content-Range", ""))
    return Seen(size, tag, ranges=size >= 0)


def probe(url: str) -> Seen:
    """What a web server says of a file: one request for its first byte, of which nothing more is read."""
    fs, _ = connect(url)

    async def look() -> tuple[Seen, str]:
        answer = await _ask(fs, url, 0, 1)
        answer.close()
        return _seen(answer), answer.headers.get("Content-Encoding", "identity")

    seen, encoding = sync(fs.loop, look)
    packed = urlpath(url).endswith((".gz", ".zst", ".zstd"))
    if encoding not in {"identity", ""} and not packed:
        message = (
            f"{parted(url)[0]} is sent compressed ({encoding}), though it was asked for as it is. Download it first."
        )
        raise InputError(message)
    return cast("Seen", seen)


def urlpath(url: str) -> str:
    """The part of a web address that names the file."""
    return url.partition("?")[0].partition("#")[0]


# -- files ---------------------------------------------------------------------------------------------------


def open_remote(url: str, seen: Seen | None = None, *, until: int | None = None, seekable: bool = False) -> BinaryIO:
    """Open what lies behind a URL for reading.

    Args:
        url: With its secrets, if any.
        seen: What was listed: an object that is something else by now raises :class:`InputError`. By default what is
            there now, and it must not change while it is read.
        until: Where the reader means to stop: what comes 64 KB after is not read ahead.
        seekable: Whether to jump about in it. What a server sends only as a whole is then copied to a temporary file.
    """
    if seen is None and is_http(url):
        try:
            seen = persist(partial(probe, url), f"{parted(url)[0]} cannot be read", InputError)
        except FileNotFoundError as error:
            message = f"{parted(url)[0]} does not exist."
            raise InputError(message) from error
    if seen is not None and not seen.ranges:
        stream = StreamFile(url, seen)
        if not seekable:
            return cast("BinaryIO", stream)
        copy = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
        shutil.copyfileobj(stream, copy, 1 << 20)
        copy.seek(0)
        return cast("BinaryIO", copy)
    reader = _Reader(url, seen)
    return cast("BinaryIO", RemoteFile(reader.fetch, reader.seen.size, until=until))


@dataclass(frozen=True)
class _Later:
    """A range on its way."""

    start: int
    end: int
    data: Future[bytes]


class RemoteFile(io.RawIOBase):
    """A file over a function that fetches ranges; while it is read through, the next blocks are on their way."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, *, until: int | None = None) -> None:
        super().__init__()
        self._fetch = fetch
        self._size = size
        self._until = size if until is None else min(until + _BEYOND, size)
        # With a known end the reading is known to go through; otherwise that is found out.
        self._block = _SMALL if until is None else _BLOCK
        self._through = until is not None
        self._at = 0
        self._start = 0
        self._data = memoryview(b"")
        self._ahead: deque[_Later] = deque()

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere; nothing is fetched before it is read."""
        self._at = max(offset + (0, self._at, self._size)[whence], 0)
        return self._at

    def size(self) -> int:
        """Bytes of the whole object."""
        return self._size

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; fewer bytes only at the end of the object."""
        # Let go of the buffer by hand: an error that was caught on the way may keep this frame, and so the view.
        with memoryview(buffer) as whole, whole.cast("B") as view:
            got = 0
            while got < len(view) and self._at < self._size:
                here = self._at - self._start
                if not 0 <= here < len(self._data):
                    self._load(len(view) - got)
                    continue
                part = self._data[here : here + len(view) - got]
                view[got : got + len(part)] = part
                got += len(part)
                self._at += len(part)
            return got

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, or all that are left."""
        left = max(self._size - self._at, 0)
        out = bytearray(left if size is None or size < 0 else min(size, left))
        self.readinto(out)
        return bytes(out)

    def readall(self) -> bytes:
        """All that is left."""
        return self.read()

    def _load(self, wanted: int) -> None:
        at = self._at
        while self._ahead and not self._ahead[0].start <= at < self._ahead[0].end:
            self._ahead.popleft()
        if self._ahead:
            later = self._ahead.popleft()
            self._start, self._data = later.start, memoryview(later.data.result())
        else:
            follows = at == self._start + len(self._data) and len(self._data) > 0
            if follows:
                self._through = True
                self._block = min(self._block * 4, _BLOCK)
            end = at + max(min(wanted, _BLOCK), self._block)
            end = min(end, self._until if at < self._until else self._size)
            self._through = self._through or wanted > _BLOCK
            if self._through:  # the first block of many: the others set out beside it
                self._look_ahead(end, at + wanted)
            self._start, self._data = at, memoryview(self._fetch(at, end))
        if self._through:
            self._look_ahead(self._start + len(self._data), at + wanted)

    def _look_ahead(self, after: int, wanted: int) -> None:
        """Ask for the next blocks, as far as they will be read: to ``wanted`` at least."""
        begin = self._ahead[-1].end if self._ahead else after
        limit = min(max(self._until, wanted) if after < self._until else wanted, self._size)
        while len(self._ahead) < _AHEAD and begin < limit:
            end = min(begin + _BLOCK, limit)
            self._ahead.append(_Later(begin, end, in_background(partial(self._fetch, begin, end))))
            begin = end

    def close(self) -> None:
        """Forget what was read; what is on its way is dropped when it comes."""
        self._ahead.clear()
        self._data = memoryview(b"")
        super().close()


class StreamFile(io.RawIOBase):
    """What a server sends only from its beginning. Going back, and a break, mean to ask again and pass over."""

    def __init__(self, url: str, seen: Seen) -> None:
        super().__init__()
        self._url = url
        self._name = parted(url)[0]
        self._seen = seen
        self._fs, _ = connect(url)
        self._answer: Any = None
        self._place = 0
        """How much of the answer has been read."""
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes, at the price of reading what lies between."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere; from the end only where the server says how long the file is."""
        if whence == io.SEEK_END and self._seen.size < 0:
            message = f"{self._name} has no end that is known before it is read."
            raise io.UnsupportedOperation(message)
        self._at = max(offset + (0, self._at, self._seen.size)[whence], 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """What has come, up to the buffer's size; 0 at the end."""
        with memoryview(buffer) as whole, whole.cast("B") as view:
            try:
                data = persist(partial(self._next, len(view)), f"{self._name} cannot be read", InputError)
            except FileNotFoundError as error:
                raise _removed(self._name) from error
            view[: len(data)] = data
            self._at += len(data)
            return len(data)

    def _next(self, size: int) -> bytes:
        try:
            return cast("bytes", sync(self._fs.loop, self._receive, size))
        except Exception:
            self._hang_up()
            raise

    async def _receive(self, size: int) -> bytes:
        if self._answer is None or self._place > self._at:
            self._hang_up()
            self._answer, self._place = await _ask(self._fs, self._url, 0, None), 0
            tag = self._answer.headers.get("ETag") or self._answer.headers.get("Last-Modified") or ""
            if self._seen.version and tag and tag != self._seen.version:
                raise changed(self._name, "its tag is another one, so it was written anew")
        while self._place < self._at:  # pass over what was read before
            passed = await self._answer.content.read(min(self._at - self._place, 1 << 20))
            if not passed:
                raise changed(self._name, f"it ends at {self._place:,} bytes")
            self._place += len(passed)
        data: bytes = await self._answer.content.read(size)
        self._place += len(data)
        if not data and 0 <= self._seen.size != self._place:
            raise changed(self._name, f"it had {self._seen.size:,} bytes and ends at {self._place:,} now")
        return data

    def _hang_up(self) -> None:
        if self._answer is not None:
            self._fs.loop.call_soon_threadsafe(self._answer.close)
            self._answer = None

    def close(self) -> None:
        """End the connection."""
        if not self.closed:
            self._hang_up()
        super().close()
