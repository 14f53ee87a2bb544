"""Cutting the input into units of work of about equal size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tamis.io.files import InputFile

__all__ = ["Piece", "Split", "pack"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one file: a range of bytes (JSONL), row groups (Parquet) or rows (in memory).

    A line belongs to the piece in which its first byte lies, wherever it ends.
    """

    file: InputFile
    start: int
    end: int
    bytes: int
    """Bytes of work, for balance and progress."""
    whole: bool
    """Whether it is the whole file."""


@dataclass(frozen=True, slots=True)
class Split:
    """A unit of work: one worker runs it, and it is done or not done as a whole."""

    index: int
    pieces: tuple[Piece, ...]

    @property
    def bytes(self) -> int:
        """Bytes of work."""
        return sum(piece.bytes for piece in self.pieces)


def pack(pieces: Sequence[Piece], split_size: int, *, one_piece: bool = False) -> tuple[Split, ...]:
    """Splits of about ``split_size`` bytes: neighbouring small pieces share one, unless ``one_piece``."""
    groups: list[list[Piece]] = []
    size = 0
    for piece in pieces:
        if one_piece or not groups or size + piece.bytes > split_size:
            groups.append([])
            size = 0
        groups[-1].append(piece)
        size += piece.bytes
    return tuple(Split(index, tuple(group)) for index, group in enumerate(groups))
