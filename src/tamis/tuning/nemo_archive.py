"""The tar archive that a ``.nemo`` is: read with suspicion, written without times and owners."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from tamis.errors import InputError

__all__ = ["Archive", "ArchiveWriter", "open_archive"]

_GZIP = b"\x1f\x8b"


class Archive:
    """A ``.nemo`` that is open for reading: only plain files, under plain relative names."""

    def __init__(self, path: Path, tar: tarfile.TarFile, scratch: Path) -> None:
        self.path = path
        self.scratch = scratch
        """A folder for what must lie on a disk by itself."""
        self._tar = tar
        self._members = _checked(path, tar)

    @property
    def names(self) -> list[str]:
        """The files in it, without ``./``."""
        return list(self._members)

    def open(self, name: str) -> IO[bytes]:
        """A file, which can be read from any place in it."""
        if name not in self._members:
            message = f"{self.path} has no {name}. It holds: {', '.join(self.names[:12]) or 'nothing'}."
            raise InputError(message)
        opened = self._tar.extractfile(self._members[name])
        if opened is None:  # a member that was checked to be a file
            message = f"{self.path}: {name} is not a file."
            raise InputError(message)
        return opened

    def read(self, name: str) -> bytes:
        """The content of a file."""
        with self.open(name) as file:
            return file.read()

    def extract(self, name: str) -> Path:
        """Copy a file into the scratch folder, under a name of ours; returns the path."""
        path = self.scratch / f"member-{self.names.index(name)}"
        with self.open(name) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 22)
        return path


def _checked(path: Path, tar: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    found: dict[str, tarfile.TarInfo] = {}
    try:
        members = tar.getmembers()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise _broken(path, error) from error
    size = _size(tar.fileobj)
    for member in members:
        pure = PurePosixPath(member.name)
        if pure.is_absolute() or ".." in pure.parts:
            message = f"{path} holds a file under the name {member.name!r}, which lies outside the archive: refused."
            raise InputError(message)
        if member.isdir():
            continue
        if not member.isreg():
            message = f"{path}: {member.name!r} is a link or a device, which no model needs: refused."
            raise InputError(message)
        name = str(pure)
        if name in found:
            message = f"{path} holds {name!r} twice, and nobody knows which one counts: refused."
            raise InputError(message)
        if member.offset_data + member.size > size:
            raise _broken(path, f"{name} is cut off")
        found[name] = member
    if not found:
        message = f"{path} holds no files: it is empty, or cut off at its beginning."
        raise InputError(message)
    return found


def _size(file: IO[bytes] | tarfile._Fileobj) -> int:
    return os.fstat(file.fileno()).st_size  # type: ignore[union-attr]  # opened from a path below


def _broken(path: Path, why: object) -> InputError:
    return InputError(f"{path} is no complete .nemo archive ({why}). Copy or download it again.")


@contextmanager
def open_archive(path: Path, scratch: Path) -> Iterator[Archive]:
    """Open a ``.nemo``, plain or gzipped; a gzipped one is unpacked into the scratch folder first.

    Raises :class:`InputError` where it cannot be read, is cut off, or holds what it should not.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}."
        raise InputError(message) from error
    plain = path
    if packed:
        plain = scratch / "unpacked.tar"
        try:
            with gzip.open(path) as source, plain.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 22)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _broken(path, error) from error
    try:
        tar = tarfile.open(plain, "r:")  # noqa: SIM115  used below
    except tarfile.TarError as error:
        raise _broken(path, error) from error
    with tar:
        yield Archive(path, tar, scratch)


class ArchiveWriter:
    """A ``.nemo`` that is being written: names under ``./``, no times and no owners."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w:", format=tarfile.GNU_FORMAT)  # noqa: SIM115  closed below

    def add(self, name: str, source: Path | bytes) -> None:
        """Add a file."""
        info = tarfile.TarInfo(f"./{name}")
        info.mode = 0o644
        if isinstance(source, bytes):
            info.size = len(source)
            self._tar.addfile(info, io.BytesIO(source))
            return
        info.size = source.stat().st_size
        with source.open("rb") as file:
            self._tar.addfile(info, file)

    def close(self) -> None:
        """Write the end."""
        self._tar.close()
