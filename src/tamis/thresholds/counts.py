"""What bounds keep of scored documents: each alone, all together, and what only one of them drops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.dataset import DocumentDataset
from tamis.engine.options import EngineName
from tamis.filters.base import Filter
from tamis.filters.bounded import BoundedFilter
from tamis.filters.measures import Measure, Verdict
from tamis.stage import Fold, Needs
from tamis.table import marks, require, true_mask

__all__ = ["Bound", "BoundCount", "Counted", "Decision", "bounds_of", "count_bounds", "failing", "numbers"]

Decision = Measure | Verdict
Side = Literal["low", "high", "none", "rule"]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Bound:
    """One way to be dropped."""

    column: str
    label: str
    """The stage's."""
    side: Side
    """``low`` and ``high``: the score lies beyond that bound; ``none``: there is no score, null or NaN; ``rule``: a
    decision that is no bound."""
    value: float | None = None
    """The bound."""


@dataclass(frozen=True)
class BoundCount:
    """What a bound drops."""

    bound: Bound
    dropped: int
    """Documents that it drops, whatever the others do: alone it keeps the rest."""
    only: int
    """Documents that nothing else drops: so many more would be kept without it."""


@dataclass(frozen=True)
class Counted:
    """What all bounds do to the documents."""

    documents: int
    kept: int
    """Documents that nothing drops."""
    bounds: tuple[BoundCount, ...]


def bounds_of(decision: Decision) -> list[Bound]:
    """The ways in which a decision drops documents."""
    if isinstance(decision, Verdict) or decision.invert or not isinstance(decision.filter, BoundedFilter):
        return [Bound(decision.column, decision.label, "rule")]
    values: tuple[tuple[Side, float | None], ...] = (("low", decision.low), ("high", decision.high))
    found = [Bound(decision.column, decision.label, side, value) for side, value in values if value is not None]
    return [*found, Bound(decision.column, decision.label, "none")]


def numbers(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Scores as float64; a null is NaN."""
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)


def failing(decision: Decision, column: pa.ChunkedArray) -> list[Mask]:
    """Which documents each of :func:`bounds_of` drops, given their scores."""
    if isinstance(decision, Verdict):
        return [~true_mask(column)]
    ways = bounds_of(decision)
    if ways[0].side == "rule":
        return [_marked(decision, column)]
    scores = numbers(column)
    values = [(way.side, way.value) for way in ways if way.value is not None]
    found = [scores < value if side == "low" else scores > value for side, value in values]
    # NaN is beyond any bound, and within none; a null is never kept.
    lacking = np.isnan(scores) if len(ways) > 1 else np.asarray(column.is_null().to_numpy(), np.bool_)
    return [*found, lacking]


def _marked(measure: Measure, column: pa.ChunkedArray) -> Mask:
    """What the filter itself says of the scores."""
    kind = measure.filter.score_type
    table = pa.table({measure.column: column if column.type == kind else column.cast(kind)})
    _, reasons, _ = marks(Filter(measure.filter, measure.column, measure.invert).open()(table))
    if reasons is None:
        return np.zeros(table.num_rows, np.bool_)
    return np.asarray(reasons.is_valid().to_numpy(), np.bool_)


@dataclass(frozen=True)
class BoundCounts(Fold[npt.NDArray[np.int64], Counted]):
    """The fold that counts; its state is documents, kept, then dropped and only for each bound, int64."""

    decisions: tuple[Decision, ...]

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the columns of the decisions, and nothing else."""
        return Needs(reads=tuple(dict.fromkeys(each.column for each in self.decisions)))

    def _ways(self) -> list[Bound]:
        return [way for decision in self.decisions for way in bounds_of(decision)]

    def start(self) -> npt.NDArray[np.int64]:
        """No documents."""
        return np.zeros(2 + 2 * len(self._ways()), np.int64)

    def add(self, state: npt.NDArray[np.int64], table: pa.Table) -> npt.NDArray[np.int64]:
        """Count a table's documents."""
        masks = [m for each in self.decisions for m in failing(each, require(table, each.column, self.name))]
        by = np.zeros(table.num_rows, np.int64)
        for mask in masks:
            by += mask
        single = by == 1
        state[:2] += (table.num_rows, int((by == 0).sum()))
        state[2:] += np.array([int(m.sum()) for m in masks] + [int((m & single).sum()) for m in masks], np.int64)
        return state

    def merge(self, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Both."""
        return np.asarray(left + right)

    def finish(self, state: npt.NDArray[np.int64]) -> Counted:
        """The counts by name. Documents without a score are left out where there are none."""
        ways, (documents, kept, *rest) = self._ways(), state.tolist()
        rows = zip(ways, rest[: len(ways)], rest[len(ways) :], strict=True)
        found = tuple(BoundCount(way, dropped, only) for way, dropped, only in rows if dropped or way.side != "none")
        return Counted(documents, kept, found)


def count_bounds(
    dataset: DocumentDataset,
    decisions: Sequence[Decision],
    *,
    workers: int | None = None,
    engine: EngineName = "embedded",
    address: str | None = None,
) -> Counted:
    """What the decisions keep of a scored dataset: exact, in one pass over the columns of the scores.

    ``decisions`` are those of :func:`tamis.thresholds.scored_run`, with bounds as they are or others
    (:func:`drop_each`, :func:`keep_share`, :func:`bounds_set`).
    """
    if not decisions:
        return Counted(count := dataset.count(workers=workers, engine=engine, address=address), count, ())
    fold: Fold[Any, Counted] = BoundCounts(tuple(decisions))
    return dataset.fold(fold, workers=workers, engine=engine, address=address)
