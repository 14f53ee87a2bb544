"""Stages that are run on the same rows, because they share what they find out about them.

A filter that drops a document spares the filters after it that document; but each then sees another table, and what
one of them counted is of no use to the next. Stages that say they belong together (:attr:`Needs.together`) are all
shown every row. What comes out is the same: the first stage that marks a row has dropped it, and what later ones said
of it is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from tamis.engine.job import Rejected
from tamis.stage import Needs
from tamis.table import Batch, marks

__all__ = ["groups", "together"]

Call = Callable[[pa.Table], pa.Table | None]
"""Runs a stage: its answers with their marks, or ``None`` where it raised on a document."""


def groups(needs: Sequence[Needs], replaces: Sequence[Sequence[str]]) -> list[range]:
    """The numbers of the stages, in runs that are shown the same rows.

    A stage that replaces a column stands alone: how many documents it changed is counted.

    >>> groups([Needs(together="a"), Needs(together="a"), Needs(), Needs()], [(), (), (), ()])
    [range(0, 2), range(2, 3), range(3, 4)]
    """
    found: list[range] = []
    for index, (own, replaced) in enumerate(zip(needs, replaces, strict=True)):
        before = needs[index - 1].together if index and not replaces[index - 1] else ""
        if before and before == own.together and not replaced:
            found[-1] = range(found[-1].start, index + 1)
        else:
            found.append(range(index, index + 1))
    return found


def together(
    batch: Batch, calls: Sequence[tuple[str, Call, Callable[[pa.Table], pa.Table]]]
) -> Iterator[Batch | Rejected] | None:
    """What became of a batch after several stages, each given as (label, call, what is left of its table).

    ``None`` where a stage raised on a document: then they must be run one after the other, for a document that one
    of them drops must not be set aside because a later one cannot read it.
    """
    answers = []
    table = batch.table
    for label, call, pruned in calls:
        after = call(table)
        if after is None:
            return None
        table, reasons, scores = marks(after)
        table = pruned(table)
        answers.append((label, table, reasons, scores))
    return _parted(batch, answers)


def _parted(
    batch: Batch, answers: Sequence[tuple[str, pa.Table, pa.ChunkedArray | None, pa.ChunkedArray | None]]
) -> Iterator[Batch | Rejected]:
    kept = np.ones(batch.rows, dtype=np.bool_)
    for label, table, reasons, scores in answers:
        if reasons is None or reasons.null_count == len(reasons):
            continue
        marked = np.asarray(reasons.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)
        gone = np.flatnonzero(kept & marked)
        kept &= ~marked
        if len(gone):
            rows = pa.array(gone)
            dropped = Batch(table, batch.origin).take(gone)
            yield Rejected(dropped, label, reasons.take(rows), None if scores is None else scores.take(rows))
    if kept.any():
        yield Batch(answers[-1][1], batch.origin).where(kept)
