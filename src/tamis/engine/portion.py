"""The portion of a split that an errand is about: all of its records, some of them, or all but some."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import orjson

from tamis.engine.job import Errand
from tamis.io.records import Bad, End
from tamis.io.source import Item
from tamis.table import Batch

__all__ = ["bad_from", "portion", "said_of"]

_KIND = "killed its worker"


def portion(errand: Errand, read: Callable[[], Iterator[Item]]) -> Iterator[Item]:
    """The items that an errand runs, in order; records it skips come as bad ones, with the cause."""
    if errand.unread:
        yield from _unread(errand)
    elif errand.only is not None:
        yield from _only(read(), *errand.only)
    elif errand.skip:
        yield from _without(read(), errand)
    else:
        yield from read()


def _unread(errand: Errand) -> Iterator[Item]:
    """One entry for each piece. Nobody knows its lines, so the line numbers of what follows in the file are too low."""
    detail = f"reading it did: {errand.cause}"
    for piece in errand.split.pieces:
        yield Bad(piece.file.path, 0, max(piece.start, 0), _KIND, detail, b"", piece.bytes)
        yield End(0, piece.bytes)


def _only(items: Iterator[Item], start: int, end: int) -> Iterator[Item]:
    at = 0
    for item in items:
        if isinstance(item, End):
            continue
        rows = item.table.num_rows if isinstance(item, Batch) else 1
        inside = range(max(start - at, 0), min(end - at, rows))
        at += rows
        if inside:
            yield item.take(np.array(inside)) if isinstance(item, Batch) else item
        if at >= end:
            return


def _without(items: Iterator[Item], errand: Errand) -> Iterator[Item]:
    at = 0
    for item in items:
        if not isinstance(item, Batch):
            at += not isinstance(item, End)
            yield item
            continue
        rows = item.table.num_rows
        gone = np.zeros(rows, dtype=np.bool_)
        for start, end in errand.skip:
            gone[max(start - at, 0) : max(end - at, 0)] = True
        at += rows
        for row in np.flatnonzero(gone):
            yield bad_from(item.take(np.array([row])), _KIND, errand.cause)
        if not gone.all():
            yield item.where(~gone) if gone.any() else item


def bad_from(document: Batch, kind: str, detail: str) -> Bad:
    """A batch of one document as a bad record: its own bytes where it has them, else its columns as JSON."""
    origin = document.origin
    raw = origin.raw[0] if origin.raw else orjson.dumps(document.table.to_pylist()[0], default=str)
    return Bad(
        file=origin.file,
        line=int(origin.line[0]),
        offset=int(origin.offset[0]),
        kind=kind,
        detail=detail,
        raw=raw[: 1 << 20],
        size=len(raw),
    )


def said_of(bad: Bad, line: int | None) -> str:
    """One bad record as a sentence: file, line, byte offset, cause."""
    place = [bad.file]
    if line is not None:
        place.append(f"line {line}")
    if bad.offset >= 0:
        place.append(f"byte {bad.offset}")
    return f"{', '.join(place)}: {bad.kind}: {bad.detail}"
