"""What reading yields besides documents: bad records and ends of pieces; and what to read."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

__all__ = ["RAW_LIMIT", "Bad", "End", "Want"]

RAW_LIMIT = 1 << 20
"""Bytes of a bad record that are kept; its place in the file and its size tell the rest."""


@dataclass(frozen=True)
class Want:
    """What to read of each record."""

    columns: tuple[pa.Field, ...] = ()
    """Typed fields to build."""
    texts: tuple[str, ...] = ()
    """Those of them that every record must have; a null is fine. Others that are missing become null."""
    raw: bool = False
    """Whether to carry the exact bytes of each record (JSONL only)."""
    made: tuple[str, ...] = ()
    """Columns that the plan adds or replaces: with ``raw``, the reader notes where they are there already."""
    add_filename: str | None = None
    """Column to fill with the input file's name."""
    id_field: str | None = None
    """Column to fill, where a record has none, with a hash of the text in ``id_from``."""
    id_from: str | None = None
    max_record_bytes: int = 128 << 20
    """A longer line is bad and is never held in memory."""


@dataclass(frozen=True)
class Bad:
    """One record that cannot be used."""

    file: str
    line: int
    """Physical line (row, for Parquet) within the piece, from 0."""
    offset: int
    """Byte offset in the decompressed file; -1 where there is none."""
    kind: str
    """The cause, in one of a few phrases."""
    detail: str
    """The rest of the sentence."""
    raw: bytes
    """The record, up to ``RAW_LIMIT`` bytes."""
    size: int
    """Its full size in bytes."""


@dataclass(frozen=True)
class End:
    """A piece has been read."""

    lines: int
    """Physical lines (rows) in the piece."""
    bytes: int
    """Bytes of the piece as stored."""
