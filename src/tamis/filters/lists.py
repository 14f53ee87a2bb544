"""Lists that the user gives as files: words, domains, addresses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from tamis.errors import InputError, UsageError, hint
from tamis.models.one_file import Stamp, stamp

__all__ = ["list_files_of", "read_bytes", "read_lines"]


def list_files_of(given: str | Sequence[str], names: Sequence[str], who: str) -> tuple[Path, ...]:
    """The files that are meant: each as it is named, and of a folder those below it that have one of the names.

    Raises:
        UsageError: There is no such file, or a folder holds none of that name.
    """
    found: list[Path] = []
    for each in ([given] if given else []) if isinstance(given, str) else given:
        path = Path(each).expanduser()
        if path.is_dir():
            below = sorted(p for name in names for p in path.rglob(name) if p.is_file())
            if not below:
                message = f"{who}: the folder {path} holds no file called {' or '.join(names)}."
                raise UsageError(message)
            found += below
        elif path.is_file():
            found.append(path)
        else:
            beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            message = (
                f"{who}: there is no file {os.fspath(each)!r}. {hint(path.name, beside) if beside else ''}".strip()
            )
            raise UsageError(message)
    return tuple(dict.fromkeys(found))


def read_bytes(path: Path, who: str) -> bytes:
    """What a list holds.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"{who}: the list {path} cannot be read: {error.strerror or error}."
        raise InputError(message) from error


def read_lines(path: Path, who: str) -> tuple[str, ...]:
    """The lines of a list without white space around them; blank lines and those that begin with "#" are left out.

    Raises:
        InputError: It cannot be read, or is not UTF-8.
    """
    return _lines(path, stamp(path), who)


@lru_cache(maxsize=16)
def _lines(path: Path, _when: Stamp, who: str) -> tuple[str, ...]:
    try:
        lines = read_bytes(path, who).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        message = f"{who}: the list {path} is not UTF-8 (byte {error.start}). Save it as UTF-8."
        raise InputError(message) from error
    stripped = (line.strip() for line in lines)
    return tuple(line for line in stripped if line and not line.startswith("#"))
