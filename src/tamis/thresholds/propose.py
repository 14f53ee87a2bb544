"""Bounds that are proposed: by the share that each drops, by the share that all keep together, or by hand."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa

from tamis.dataset import DocumentDataset
from tamis.engine.options import EngineName
from tamis.errors import UnknownNameError, UsageError
from tamis.filters.bounded import BoundedFilter
from tamis.filters.measures import Measure, with_bounds
from tamis.filters.percentile import Distribution, WithinPercentiles, is_number
from tamis.stage import Fold, Needs
from tamis.table import require
from tamis.thresholds.counts import Decision, bounds_of, failing, numbers

__all__ = ["bounds_set", "drop_each", "keep_share"]

Places = frozenset[tuple[str, str]]
"""Bounds, as (column, side)."""


@dataclass(frozen=True)
class Distributions(Fold[dict[str, Distribution], dict[str, Distribution]]):
    """How the scores of several columns are distributed: at most 1 MB for each, however many documents there are."""

    columns: tuple[str, ...]

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the columns."""
        return Needs(reads=self.columns)

    def start(self) -> dict[str, Distribution]:
        """No documents."""
        return dict.fromkeys(self.columns, Distribution.empty())

    def add(self, state: dict[str, Distribution], table: pa.Table) -> dict[str, Distribution]:
        """Add the scores of a table's documents."""
        return self.merge(state, {c: Distribution.of(require(table, c, self.name)) for c in self.columns})

    def merge(self, left: dict[str, Distribution], right: dict[str, Distribution]) -> dict[str, Distribution]:
        """Both."""
        return {column: left[column].merged(right[column]) for column in self.columns}

    def finish(self, state: dict[str, Distribution]) -> dict[str, Distribution]:
        """The distributions by column."""
        return state


@dataclass(frozen=True)
class WorstRank(Fold[Distribution, Distribution]):
    """How the documents are distributed by the least number of documents that a bound would have to drop with them.

    A document's rank under a bound is how many documents are at least as bad; the least of its ranks is the first
    number at which it goes, if all bounds drop equally many. It is 0 where a decision that stays drops it anyhow.
    """

    decisions: tuple[Decision, ...]
    places: Places
    found: Mapping[str, Distribution]

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the columns of the decisions."""
        return Needs(reads=tuple(dict.fromkeys(each.column for each in self.decisions)))

    def start(self) -> Distribution:
        """No documents."""
        return Distribution.empty()

    def add(self, state: Distribution, table: pa.Table) -> Distribution:
        """Add the ranks of a table's documents."""
        ranks = np.full(table.num_rows, np.iinfo(np.int64).max)
        for decision in self.decisions:
            column = require(table, decision.column, self.name)
            for way, mask in zip(bounds_of(decision), failing(decision, column), strict=True):
                if (way.column, way.side) in self.places:
                    scores = numbers(column)
                    rank = self.found[way.column].as_bad(way.side, scores)
                    ranks = np.where(np.isnan(scores), ranks, np.minimum(ranks, rank))
                else:
                    ranks[mask] = 0
        return state.merged(Distribution.of(pa.array(ranks.astype(np.float64))))

    def merge(self, left: Distribution, right: Distribution) -> Distribution:
        """Both."""
        return left.merged(right)

    def finish(self, state: Distribution) -> Distribution:
        """The distribution."""
        return state


def bounds_set(
    dataset: DocumentDataset, decisions: Sequence[Decision], bounds: Mapping[str, Mapping[str, float]]
) -> tuple[Decision, ...]:
    """The decisions with bounds given by hand: ``{"word_count": {"low": 20}}``.

    A column of the scored dataset that no filter decides by, such as the score of a classifier, is a decision more.

    Raises:
        UnknownNameError: There is no such column of numbers.
        UsageError: The bounds keep nothing, or the filter refuses them.
    """
    measures = {each.column: each for each in decisions if isinstance(each, Measure)}
    changed = {}
    for column, sides in bounds.items():
        measure = measures.get(column) or _of_column(dataset, column)
        changed[column] = with_bounds(measure, sides.get("low", measure.low), sides.get("high", measure.high))
    found: list[Decision] = [changed.pop(each.column, each) for each in decisions]
    return (*found, *changed.values())


def _of_column(dataset: DocumentDataset, column: str) -> Measure:
    """A column as a measure without bounds."""
    valid = [field.name for field in dataset.schema if is_number(field.type)]
    if column not in valid:
        raise UnknownNameError.of(column, valid, kind="score", where="bounds")
    return Measure(column, -1, column, WithinPercentiles(), None, None, None, "low", "high", invert=False)


def _places(decisions: Sequence[Decision], only: Collection[str] | None, fixed: Collection[tuple[str, str]]) -> Places:
    """The bounds that a proposal may move: those that filters have."""
    able = [
        (each.column, way.side)
        for each in decisions
        if isinstance(each, Measure) and isinstance(each.filter, BoundedFilter)
        for way in bounds_of(each)
        if way.side in {"low", "high"}
    ]
    for column in only or ():
        if column not in {place[0] for place in able}:
            raise UnknownNameError.of(column, [place[0] for place in able], kind="score with a bound")
    found = frozenset(place for place in able if (only is None or place[0] in only) and place not in set(fixed))
    if not found:
        message = "no filter here has a bound that could be proposed; set some by hand."
        raise UsageError(message)
    return found


def _moved(
    decisions: Sequence[Decision], places: Places, found: Mapping[str, Distribution], most: int
) -> tuple[Decision, ...]:
    """The decisions with bounds that drop at most so many documents each."""
    moved: list[Decision] = []
    for decision in decisions:
        sides = [side for side in ("low", "high") if (decision.column, side) in places]
        if not sides or not isinstance(decision, Measure) or not found[decision.column].documents:
            moved.append(decision)
            continue
        spread, bounds = found[decision.column], {"low": decision.low, "high": decision.high}
        for side in sides:
            # Where nothing may be dropped, the bound is the outermost score seen.
            outermost = spread.least[0] if side == "low" else spread.greatest[-1]
            strictest = spread.bound(side, most)
            bounds[side] = float(outermost) if strictest is None else strictest
        moved.append(with_bounds(decision, bounds["low"], bounds["high"]))
    return tuple(moved)


def _share(value: float, name: str) -> Fraction:
    if not 0 <= value <= 1:
        message = f"{name} must be a share from 0 to 1; got {value}."
        raise UsageError(message)
    return Fraction(str(value))  # as it was written: 29 % of 100 are 29


def drop_each(
    dataset: DocumentDataset,
    decisions: Sequence[Decision],
    share: float,
    *,
    only: Collection[str] | None = None,
    fixed: Collection[tuple[str, str]] = (),
    workers: int | None = None,
    engine: EngineName = "embedded",
    address: str | None = None,
) -> tuple[Decision, ...]:
    """The decisions with bounds of which each drops the worst ``share`` of all documents, or less where scores tie.

    A filter with a lower and an upper bound drops that share on each side. ``only`` names the columns whose bounds are
    moved, ``fixed`` bounds that stay, as (column, "low" or "high"). One pass over the columns.
    """
    places, part = _places(decisions, only, fixed), _share(share, "the share to drop")
    columns = tuple(sorted({column for column, _ in places}))
    found = dataset.fold(Distributions(columns), workers=workers, engine=engine, address=address)
    documents = max((each.documents + each.missing for each in found.values()), default=0)
    return _moved(decisions, places, found, int(part * documents))


def keep_share(
    dataset: DocumentDataset,
    decisions: Sequence[Decision],
    share: float,
    *,
    only: Collection[str] | None = None,
    fixed: Collection[tuple[str, str]] = (),
    workers: int | None = None,
    engine: EngineName = "embedded",
    address: str | None = None,
) -> tuple[Decision, ...]:
    """The decisions with bounds that together keep at least ``share`` of the documents, and as little more as can be.

    All bounds drop the same number of documents; the largest number is found that leaves as much as is to be kept. Two
    passes over the columns. Arguments as for :func:`drop_each`.

    Raises:
        UsageError: Decisions that stay drop more than may be dropped.
    """
    places, part = _places(decisions, only, fixed), 1 - _share(share, "the share to keep")
    columns = tuple(sorted({column for column, _ in places}))
    found = dataset.fold(Distributions(columns), workers=workers, engine=engine, address=address)
    fold = WorstRank(tuple(decisions), places, found)
    ranks = dataset.fold(fold, workers=workers, engine=engine, address=address)
    most = int(part * ranks.documents)
    lost = int(ranks.counts[0]) if ranks.documents and ranks.least[0] == 0 else 0
    if lost > most:
        message = (
            f"{ranks.documents - lost:,} of {ranks.documents:,} documents can be kept at most: what is not proposed "
            "here (rules, bounds set by hand, documents without a score) drops the others."
        )
        raise UsageError(message)
    first = ranks.bound("low", most)
    return _moved(decisions, places, found, 0 if first is None else math.ceil(first) - 1)
