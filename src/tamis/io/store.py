"""An output directory, local or behind an fsspec URL: the few things a run does to it.

Every path here is relative to the directory and '/'-separated. What lies behind a URL is in :mod:`tamis.io.objects`
and, for S3, in :mod:`tamis.io.s3`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from tamis.errors import OutputError, OutputRefusedError
from tamis.io.remote import is_s3

__all__ = ["Store", "open_store", "said_plainly"]

_SYNC_EVERY = 1.0
"""Seconds between two syncs of a journal. A power cut in between loses its last lines, and those splits run again."""


class Store(Protocol):
    """The operations."""

    path: str
    parallel: int
    """Moves that may be under way at once: 1 on a local disk, where one takes microseconds."""
    inherited: bool
    """Whether the lock was taken over from a run that died."""

    def exists(self, name: str) -> bool:
        """Whether a file or folder of that name exists."""
        ...

    def names(self) -> list[str]:
        """The entries at the top of the directory, sorted; empty when it does not exist."""
        ...

    def read(self, name: str) -> bytes | None:
        """The content of a file, ``None`` where there is none."""
        ...

    def replace(self, name: str, content: bytes) -> None:
        """Write a file so that a reader sees the old content or the new, never a part."""
        ...

    def files(self) -> Iterator[tuple[str, int]]:
        """Every file at any depth, as (name, size in bytes), in no order; none where the directory does not exist."""
        ...

    def append(self, name: str, line: bytes) -> None:
        """Add one line to the journal ``name``. A power cut may lose what was added since the last :meth:`sync`."""
        ...

    def sync(self) -> None:
        """Make what was appended last, and let go of the journals."""
        ...

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of the journal ``name``; a torn last line included."""
        ...

    def create(self, name: str, final: str | None = None) -> BinaryIO:
        """Open a new file for writing; its folders are made.

        ``final`` is the name that it will be moved to: a store that knows it need not copy then.
        """
        ...

    def receipt(self, name: str) -> str:
        """After a file that was created here is closed: what :meth:`move` in another process takes as its source."""
        ...

    def settle(self, name: str) -> None:
        """Make a closed file last through a power cut, before what it was made from is removed."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        ...

    def move(self, source: str, target: str) -> None:
        """Put a file, named or by its :meth:`receipt`, in the place of another: a reader sees the old or the new one.

        As many as :attr:`parallel` may be under way at once, from several threads.
        """
        ...

    def remove(self, name: str) -> None:
        """Delete a file or a whole folder, if it exists."""
        ...

    def prune(self) -> None:
        """Delete folders that hold nothing, except the directory itself."""
        ...

    def size(self, name: str) -> int:
        """Size of a file in bytes, -1 where there is none."""
        ...

    def lock(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Hold the directory for this process, or refuse because another holds it.

        Taking it and giving it back clears away what no listing shows of runs that died: uploads that were not
        completed. Where it was lost meanwhile to another run, whatever changes the directory raises ``OutputError``.
        """
        ...


def open_store(path: str | os.PathLike[str]) -> Store:
    """The store for a local path or an fsspec URL."""
    text = os.fspath(path)
    if "://" not in text or text.startswith("file://"):
        return LocalStore(text.removeprefix("file://"))
    if is_s3(text):
        from tamis.io.s3 import S3Store  # noqa: PLC0415  what a local run does not need takes no time

        return S3Store(text)
    from tamis.io.objects import RemoteStore  # noqa: PLC0415

    return RemoteStore(text)


def said_plainly(error: OSError, path: str) -> OutputError:
    """The sentence for an operating system error while writing below ``path``."""
    where = str(error.filename or path)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        message = (
            f"the disk is full: {where} could not be written. Free some space and run the same command again: "
            "finished splits are kept."
        )
    elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        message = f"no permission to write {where}. Choose another output directory or change its permissions."
    else:
        message = f"{where} could not be written: {error.strerror or error}. Finished splits are kept; run again."
    return OutputError(message)


def _held(path: str) -> OutputRefusedError:
    return OutputRefusedError(
        f"{path} is being written by another run of Tamis. Wait for it, stop it, or choose another directory."
    )


class LocalStore:
    """A directory on a local disk."""

    def __init__(self, path: str) -> None:
        self.path = str(Path(path).expanduser().absolute())
        self.parallel = 1
        self.inherited = False
        self._root = Path(self.path)
        self._journals: dict[str, int] = {}
        self._synced = 0.0

    def _at(self, name: str) -> Path:
        return self._root / name

    def exists(self, name: str) -> bool:
        """Whether it exists."""
        return self._at(name).exists()

    def names(self) -> list[str]:
        """The entries at the top."""
        if self._root.exists() and not self._root.is_dir():
            message = f"{self.path} is a file; the output is a directory. Choose another path."
            raise OutputRefusedError(message)
        return sorted(p.name for p in self._root.iterdir()) if self._root.exists() else []

    def read(self, name: str) -> bytes | None:
        """The content of a file."""
        try:
            return self._at(name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def replace(self, name: str, content: bytes) -> None:
        """Write aside, then rename."""
        aside = name + ".tmp"
        with self.create(aside) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.move(aside, name)

    def files(self) -> Iterator[tuple[str, int]]:
        """Every file."""
        for folder, _, names in os.walk(self.path):
            below = folder[len(self.path) + 1 :]
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # gone in between
                    yield f"{below}/{name}" if below else name, (Path(folder) / name).stat().st_size

    def append(self, name: str, line: bytes) -> None:
        """One ``write`` of a whole line; a kill in the middle leaves a torn last line at worst."""
        descriptor = self._journals.get(name)
        if descriptor is None:
            descriptor = self._journals[name] = self._journal(name)
        whole, written = line + b"\n", 0
        try:
            while written < len(whole):
                written += os.write(descriptor, whole[written:])
        except OSError as error:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)  # a full disk takes a part of a line
            error.filename = error.filename or str(self._at(name))
            raise
        now = time.monotonic()
        if now - self._synced >= _SYNC_EVERY:
            os.fsync(descriptor)
            self._synced = now

    def _journal(self, name: str) -> int:
        """Open a journal for appending; a torn last line gets its end, so that what follows stands by itself."""
        path = self._at(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")
        return descriptor

    def sync(self) -> None:
        """``fsync``, and close."""
        try:
            for descriptor in self._journals.values():
                os.fsync(descriptor)
        finally:
            self._close_journals("")

    def _close_journals(self, name: str) -> None:
        """Close those that are the file ``name`` or lie below it."""
        for journal in [j for j in self._journals if not name or j == name or j.startswith(f"{name}/")]:
            os.close(self._journals.pop(journal))

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines."""
        if self.exists(name):
            with self._at(name).open("rb") as file:
                yield from file

    def create(self, name: str, final: str | None = None) -> BinaryIO:
        """Open for writing."""
        path = self._at(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")

    def receipt(self, name: str) -> str:
        """The name itself."""
        return name

    def settle(self, name: str) -> None:
        """``fsync``."""
        with self.open(name) as file:
            os.fsync(file.fileno())

    def open(self, name: str) -> BinaryIO:
        """Open for reading."""
        return self._at(name).open("rb")

    def move(self, source: str, target: str) -> None:
        """``os.replace``, atomic on one file system."""
        path = self._at(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._at(source).replace(path)

    def remove(self, name: str) -> None:
        """Delete it."""
        self._close_journals(name)
        path = self._at(name)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def prune(self) -> None:
        """Delete empty folders, innermost first."""
        for folder, _, _ in os.walk(self._root, topdown=False):
            if folder != self.path:
                with contextlib.suppress(OSError):  # not empty
                    Path(folder).rmdir()

    def size(self, name: str) -> int:
        """Size in bytes."""
        path = self._at(name)
        return path.stat().st_size if path.is_file() else -1

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """An advisory ``flock``: the kernel drops it when the process dies, however it dies."""
        path = self._at(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            was_there = path.exists()  # whoever ends in order removes it
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise said_plainly(error, str(path)) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise _held(self.path) from error
            # The file we locked may have been unlinked by a run that ended in between: then it guards nothing.
            if not path.exists() or path.stat().st_ino != os.fstat(descriptor).st_ino:
                raise _held(self.path)
            self.inherited = was_there
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
