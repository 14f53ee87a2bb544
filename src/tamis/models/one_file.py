"""Models that are one file: told from an older one of that name, and hashed once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from tamis.models.checkpoint import content_hash

__all__ = ["Stamp", "hash_of", "stamp"]

Stamp = tuple[int, int]
"""Bytes and the time of the last change in nanoseconds."""


def stamp(path: Path) -> Stamp:
    """What changes where a file is written anew; part of the key of whatever is kept of a file."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def hash_of(path: Path) -> str:
    """A hash of a file's name and bytes, 32 hexadecimal digits; read once as long as the file stays the same."""
    return _hashed(path, stamp(path))


@lru_cache(maxsize=16)
def _hashed(path: Path, _stamp: Stamp) -> str:
    return content_hash(path)
