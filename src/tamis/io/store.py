"""An output directory, local or behind an fsspec URL: the few things a run does to it.

Every path here is relative to the directory and '/'-separated. ``move`` is atomic on a local disk; on an
object store it is what the store offers (copy, then delete), and an object becomes visible whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

import fsspec

from tamis.errors import OutputError, OutputRefusedError

__all__ = ["Store", "open_store", "said_plainly"]


class Store(Protocol):
    """The operations."""

    path: str

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

    def append(self, name: str, line: bytes) -> None:
        """Add one line to the journal ``name``."""
        ...

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of the journal ``name``; a torn last line included."""
        ...

    def create(self, name: str) -> BinaryIO:
        """Open a new file for writing; its folders are made."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        ...

    def move(self, source: str, target: str) -> None:
        """Rename a file over another."""
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
        """Hold the directory for this process, or refuse because another holds it."""
        ...


def open_store(path: str | os.PathLike[str]) -> Store:
    """The store for a local path or an fsspec URL."""
    text = os.fspath(path)
    if "://" not in text or text.startswith("file://"):
        return LocalStore(text.removeprefix("file://"))
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
        self._root = Path(self.path)

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

    def append(self, name: str, line: bytes) -> None:
        """One ``write`` of a whole line; a kill in the middle leaves a torn last line at worst."""
        path = self._at(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines."""
        if self.exists(name):
            with self._at(name).open("rb") as file:
                yield from file

    def create(self, name: str) -> BinaryIO:
        """Open for writing."""
        path = self._at(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")

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
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


class RemoteStore:
    """A directory behind an fsspec URL."""

    def __init__(self, url: str) -> None:
        self.path = url.rstrip("/")
        fs, root = fsspec.core.url_to_fs(self.path)
        self._fs: Any = fs
        self._root: str = root.rstrip("/")

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def exists(self, name: str) -> bool:
        """Whether it exists."""
        return bool(self._fs.exists(self._at(name)))

    def names(self) -> list[str]:
        """The entries at the top."""
        try:
            found = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found)

    def read(self, name: str) -> bytes | None:
        """The content of a file."""
        try:
            return cast("bytes", self._fs.cat_file(self._at(name)))
        except FileNotFoundError:
            return None

    def replace(self, name: str, content: bytes) -> None:
        """An object store shows an object only when it is whole."""
        self._fs.pipe_file(self._at(name), content)

    def append(self, name: str, line: bytes) -> None:
        """Object stores cannot append: every line is an object below ``name``, numbered."""
        number = len(self._fs.ls(self._at(name), detail=False)) if self.exists(name) else 0
        self._fs.pipe_file(f"{self._at(name)}/{number:09d}", line + b"\n")

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines."""
        if self.exists(name):
            for path in sorted(self._fs.ls(self._at(name), detail=False)):
                yield cast("bytes", self._fs.cat_file(path))

    def create(self, name: str) -> BinaryIO:
        """Open for writing."""
        with contextlib.suppress(NotImplementedError, FileExistsError):
            self._fs.makedirs(self._at(name).rsplit("/", 1)[0], exist_ok=True)
        return cast("BinaryIO", self._fs.open(self._at(name), "wb"))

    def open(self, name: str) -> BinaryIO:
        """Open for reading."""
        return cast("BinaryIO", self._fs.open(self._at(name), "rb"))

    def move(self, source: str, target: str) -> None:
        """Copy, then delete."""
        with contextlib.suppress(NotImplementedError, FileExistsError):
            self._fs.makedirs(self._at(target).rsplit("/", 1)[0], exist_ok=True)
        self._fs.mv(self._at(source), self._at(target))

    def remove(self, name: str) -> None:
        """Delete it."""
        if self.exists(name):
            self._fs.rm(self._at(name), recursive=True)

    def prune(self) -> None:
        """Object stores have no folders."""

    def size(self, name: str) -> int:
        """Size in bytes."""
        return int(self._fs.size(self._at(name))) if self.exists(name) else -1

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """No lock: object stores have none that dies with its holder."""
        yield
