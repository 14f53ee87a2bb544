"""An output directory behind an fsspec URL: what all stores of objects have in common.

An object becomes visible whole, or not at all. There is no appending: a journal is a row of small objects, each with
the lines of about two seconds. There is no lock: a lease stands in (:mod:`tamis.io.lease`). Everything is tried again
while its failure may pass (:mod:`tamis.io.remote`).
"""

from __future__ import annotations

import contextlib
import io
import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, BinaryIO, TypeVar, cast

from fsspec.asyn import AsyncFileSystem

from tamis.errors import InputError, OutputError, TamisError
from tamis.hashing import fingerprint
from tamis.io.lease import Lease, LeaseObject
from tamis.io.reading import open_remote
from tamis.io.remote import connect, parted, persist

__all__ = ["Journal", "RemoteStore"]

_FLUSH_EVERY = 2.0
"""Seconds that a line of a journal may wait. Where the process is killed before, its split runs again."""
_FLUSH_BYTES = 1 << 20
_AT_ONCE = 16
_PARTING = 5.0
"""Seconds for clearing away when the directory is given back, where the store may be what ended the run."""

A = TypeVar("A")
T = TypeVar("T")


class Journal:
    """Lines that are written as numbered objects below a name."""

    def __init__(self, put: Callable[[str, bytes], None], following: int, owner: str) -> None:
        self._put = put
        self._owner = owner
        self._number = following
        self._lines: list[bytes] = []
        self._size = 0
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._error: Exception | None = None

    def append(self, line: bytes) -> None:
        """Add a line; raises what an earlier flush failed with."""
        with self._lock:
            if self._error is not None:
                raise self._error
            self._lines.append(line + b"\n")
            self._size += len(line) + 1
            if self._size >= _FLUSH_BYTES:
                self._flush()
            elif self._timer is None:
                self._timer = threading.Timer(_FLUSH_EVERY, self._on_time)
                self._timer.daemon = True
                self._timer.start()

    def _on_time(self) -> None:
        with self._lock:
            try:
                self._flush()
            except Exception as error:  # noqa: BLE001  raised where the next line is added
                self._error = error

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            # The owner's name in it keeps two that both think they hold the lock from writing over each other.
            self._put(f"{self._number:09d}-{self._owner[:12]}", b"".join(self._lines))
            self._number += 1
            self._lines, self._size = [], 0

    def sync(self) -> None:
        """Write what waits; raises what failed."""
        with self._lock:
            if self._error is not None:
                raise self._error
            self._flush()

    def forget(self) -> None:
        """Drop what waits."""
        with self._lock:
            self._lines, self._size, self._error = [], 0, None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None


class RemoteStore:
    """A directory behind any fsspec URL.

    ``move`` is what the file system offers: most stores copy, then delete. The lock is a lease without conditional
    writes, for fsspec has none that all stores share: of two runs that begin within the same second both may think that
    they hold it; the second one to look finds itself out at its next beat at the latest. On S3 this cannot happen
    (:mod:`tamis.io.s3`).
    """

    def __init__(self, url: str) -> None:
        url = url.rstrip("/")
        self.path = parted(url)[0]
        self._url = url
        self._fs: Any
        self._fs, root = connect(url)
        self._root: str = root.rstrip("/")
        # Clients of other kinds may not be used from several threads.
        self.parallel = _AT_ONCE if isinstance(self._fs, AsyncFileSystem) else 1
        self._journals: dict[str, Journal] = {}
        self._journals_lock = threading.Lock()
        self._lease: Lease | None = None
        self._locked = ""
        self.inherited = False
        """Whether the lock was taken over from a run that died."""

    # -- requests --------------------------------------------------------------------------------------------

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _named(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path

    def _write(self, call: Callable[[], T], name: str = "", *, within: float = math.inf) -> T:
        """A request that changes something: only while the directory is this run's."""
        if self._lease is not None:
            self._lease.check()
        return persist(call, f"{self._named(name)} cannot be written", OutputError, within=within)

    def _ask(self, call: Callable[[], T], name: str = "", *, within: float = math.inf) -> T:
        return persist(call, f"{self._named(name)} cannot be read", InputError, within=within)

    def _listed(self, folder: str) -> list[tuple[str, int]]:
        """(name, bytes) of all files below a folder of the directory, "" for all of it."""
        where = self._at(folder).rstrip("/")

        def find() -> dict[str, Any]:
            self._fs.invalidate_cache()
            return cast("dict[str, Any]", self._fs.find(where, detail=True))

        start = len(self._root) + 1
        try:
            found = self._ask(find, folder)
        except FileNotFoundError:
            return []
        return [(path[start:], int(i.get("size") or 0)) for path, i in found.items() if path != where]

    def _folder_for(self, name: str) -> None:
        with contextlib.suppress(NotImplementedError, FileExistsError):
            self._fs.makedirs(self._at(name).rsplit("/", 1)[0], exist_ok=True)

    # -- the operations --------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether it exists."""
        return bool(self._ask(partial(self._fs.exists, self._at(name)), name))

    def names(self) -> list[str]:
        """The entries at the top."""

        def ls() -> list[str]:
            self._fs.invalidate_cache(self._root)
            return cast("list[str]", self._fs.ls(self._root, detail=False))

        try:
            found = self._ask(ls)
        except FileNotFoundError:
            return []
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found)

    def read(self, name: str) -> bytes | None:
        """The content of a file."""
        try:
            return cast("bytes", self._ask(partial(self._fs.cat_file, self._at(name)), name))
        except FileNotFoundError:
            return None

    def replace(self, name: str, content: bytes) -> None:
        """An object store shows an object only when it is whole."""
        self._folder_for(name)
        self._write(partial(self._fs.pipe_file, self._at(name), content), name)

    def files(self) -> Iterator[tuple[str, int]]:
        """Every object."""
        yield from self._listed("")

    def create(self, name: str, final: str | None = None) -> BinaryIO:
        """Open for writing."""
        self._folder_for(name)
        return cast("BinaryIO", self._fs.open(self._at(name), "wb"))

    def receipt(self, name: str) -> str:
        """The name itself."""
        return name

    def settle(self, name: str) -> None:
        """A store keeps what it has accepted."""

    def open(self, name: str) -> BinaryIO:
        """Open for reading."""
        try:
            return open_remote(f"{self._url}/{name}")
        except InputError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise FileNotFoundError(self._named(name)) from error
            raise

    def move(self, source: str, target: str) -> None:
        """Copy, then delete."""
        self._folder_for(target)

        def move() -> None:
            try:
                self._fs.mv(self._at(source), self._at(target))
            except FileNotFoundError:
                if not self._fs.exists(self._at(target)):  # there: the answer to an earlier try was lost
                    raise

        self._write(move, target)

    def remove(self, name: str) -> None:
        """Delete it; the lock itself is given back."""
        if name == self._locked and self._lease is not None:
            self._let_go()
            return
        for journal in [j for j in self._journals if j == name or j.startswith(f"{name}/")]:
            self._journals.pop(journal).forget()
        self._remove(name)

    def _remove(self, name: str) -> None:
        def rm() -> None:
            self._fs.invalidate_cache()
            if self._fs.exists(self._at(name)):
                self._fs.rm(self._at(name), recursive=True)

        with contextlib.suppress(FileNotFoundError):
            self._write(rm, name)

    def prune(self) -> None:
        """Object stores have no folders."""

    def size(self, name: str) -> int:
        """Size in bytes."""

        def info() -> Any:
            self._fs.invalidate_cache(self._at(name))
            return self._fs.info(self._at(name))

        try:
            found = self._ask(info, name)
        except FileNotFoundError:
            return -1
        return int(found.get("size") or 0) if found.get("type") != "directory" else -1

    # -- journals --------------------------------------------------------------------------------------------

    def append(self, name: str, line: bytes) -> None:
        """Add a line to a journal: written every two seconds, on :meth:`sync` and where the lock is given back.

        Only the first line of a journal costs a listing.
        """
        with self._journals_lock:
            journal = self._journals.get(name)
            if journal is None:
                numbers = [
                    int(n) for n in (file.rsplit("/", 1)[-1][:9] for file, _ in self._listed(name)) if n.isdigit()
                ]
                owner = self._lease.owner if self._lease is not None else "0" * 12
                put = partial(self._put_below, name)
                journal = self._journals[name] = Journal(put, max(numbers, default=-1) + 1, owner)
        journal.append(line)

    def _put_below(self, name: str, entry: str, content: bytes) -> None:
        self.replace(f"{name}/{entry}", content)

    def sync(self) -> None:
        """Write the lines that wait."""
        for journal in list(self._journals.values()):
            journal.sync()

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of a journal, or of a file; objects are read ahead, sixteen at a time."""
        if name in self._journals:
            self._journals[name].sync()
        parts = sorted(file for file, _ in self._listed(name))
        if not parts:
            try:
                with self.open(name) as file:
                    yield from io.BufferedReader(cast("io.RawIOBase", file), 1 << 20)
            except FileNotFoundError:
                return
            return
        for content in self._together(self.read, parts):
            yield from io.BytesIO(content or b"")

    def _together(self, call: Callable[[A], T], names: Iterable[A]) -> Iterator[T]:
        """The answers in order, while so many others are asked for."""
        if self.parallel == 1:
            yield from map(call, names)
            return
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            waiting: deque[Future[T]] = deque()
            for name in names:
                waiting.append(pool.submit(call, name))
                if len(waiting) >= 4 * _AT_ONCE:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    # -- the lock --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """A lease: an object that this process renews, and that another may take over when it has not for 20 s."""
        lease = Lease(self._lease_object(name), self.path)
        self.inherited = lease.take()
        self._lease, self._locked = lease, name
        try:
            self._sweep()
            yield
            self.sync()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        if self._lease is not None:
            with contextlib.suppress(TamisError, OSError):  # what ended the run is said; the next one sweeps as well
                self._sweep(within=_PARTING)
            lease, self._lease = self._lease, None
            lease.release()

    def _sweep(self, *, within: float = math.inf) -> None:
        """Clear away what no listing shows and a run that died left behind."""

    def _lease_object(self, name: str) -> LeaseObject:
        return _PlainObject(self._fs, self._at(name), partial(self._folder_for, name))


class _PlainObject:
    """A lease on a store whose writes take no conditions: looked at before, and again after."""

    def __init__(self, fs: Any, path: str, make_folder: Callable[[], None]) -> None:
        self._fs = fs
        self._path = path
        self._make_folder = make_folder

    def look(self) -> tuple[bytes, str] | None:
        """The content; its tag is its hash."""
        try:
            content: bytes = self._fs.cat_file(self._path)
        except FileNotFoundError:
            return None
        return content, fingerprint(content)

    def make(self, content: bytes) -> str | None:
        """Write it where there is none."""
        if self.look() is not None:
            return None
        self._make_folder()
        return self._put(content)

    def renew(self, content: bytes, tag: str) -> str | None:
        """Write it where the old one is there."""
        found = self.look()
        return self._put(content) if found is not None and found[1] == tag else None

    def _put(self, content: bytes) -> str | None:
        self._fs.pipe_file(self._path, content)
        found = self.look()
        return found[1] if found is not None and found[0] == content else None

    def drop(self) -> None:
        """Delete it."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path)
