"""A file that knows what was written to it."""

from __future__ import annotations

import io
from typing import BinaryIO

import xxhash

__all__ = ["HashedFile"]


class HashedFile(io.RawIOBase):
    """Passes writes on, and keeps their total size and XXH3-128. Closing it leaves the file beneath open."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._state = xxhash.xxh3_128()
        self.size = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: object) -> int:
        """Write all of ``data``."""
        view = memoryview(data)  # type: ignore[arg-type]
        self._file.write(view)
        self._state.update(view)
        self.size += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Bytes written."""
        return self.size

    @property
    def digest(self) -> str:
        """32 hexadecimal digits."""
        return self._state.hexdigest()
