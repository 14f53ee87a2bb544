"""Dividing documents into parts (train, validation, ...) by a stable hash of their id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.errors import UsageError
from tamis.hashing import uniform
from tamis.stage import Fold, FoldThenStage, Needs, Stage, TableFunction
from tamis.table import put, require

__all__ = ["DEFAULT_PROPORTIONS", "Split", "StratifiedSplit"]

DEFAULT_PROPORTIONS: Mapping[str, float] = MappingProxyType({"train": 0.95, "validation": 0.05})

_EXACT = 65_536
"""Up to this many documents a stratum is divided exactly; above it, to within 1 / 65,536 of its size."""


def _check(proportions: Mapping[str, float]) -> None:
    if not proportions or any(not 0 < p <= 1 for p in proportions.values()):
        message = f"proportions must be numbers in (0, 1], one per part; got {dict(proportions)}."
        raise UsageError(message)
    total = sum(proportions.values())
    if abs(total - 1) > 1e-9:
        message = f"proportions must add up to 1; {dict(proportions)} add up to {total:g}."
        raise UsageError(message)


def _bounds(proportions: Mapping[str, float]) -> npt.NDArray[np.float64]:
    """Upper bounds of the parts in [0, 1], the last one open."""
    return np.cumsum(np.array(list(proportions.values())))[:-1]


@dataclass(frozen=True)
class Split(Stage):
    """Adds a column that names each document's part.

    Part of a document: where ``uniform(seed, id)`` falls in the cumulated proportions. A function of seed and id
    alone, so it ignores order and sharding, and a document keeps its part when others are added. The shares hold
    in expectation: of n documents, a part of share p gets n p ± about sqrt(n p (1 - p)).
    """

    proportions: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_PROPORTIONS))
    """Share of each part, adding up to 1, in order."""
    seed: int = 0
    by: str = "id"
    """Column that decides. Documents with equal values share a part: ``by="source"`` keeps sources together."""
    column: str = "split"
    """Column that is made (string)."""

    def __post_init__(self) -> None:
        _check(self.proportions)

    @property
    def may_drop(self) -> bool:
        """Never."""
        return False

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads ``by``, makes ``column``."""
        return Needs(reads=(self.by,), makes=(pa.field(self.column, pa.string()),))

    def open(self) -> TableFunction:
        """The function that adds the column."""
        bounds = _bounds(self.proportions)
        names = np.array(list(self.proportions), dtype=object)

        def divide(table: pa.Table) -> pa.Table:
            u = uniform(require(table, self.by, self.name).to_pylist(), self.seed)
            return put(table, self.column, pa.array(names[np.searchsorted(bounds, u, side="right")], pa.string()))

        return divide


@dataclass(frozen=True)
class StratifiedSplit(FoldThenStage):
    """Like :class:`Split`, with the proportions held within every value of a column.

    The documents of a stratum are ordered by ``uniform(seed, id)`` and cut at the proportions: a stratum of n
    documents up to 65,536 is divided exactly (to the nearest document, equal ids staying together), a larger
    one to within n / 65,536. Needs one pass over the data before the split.
    """

    proportions: Mapping[str, float]
    stratify_by: str
    """Column whose values are the strata; null is a stratum of its own."""
    seed: int = 0
    by: str = "id"
    column: str = "split"

    def __post_init__(self) -> None:
        _check(self.proportions)

    @property
    def may_drop(self) -> bool:
        """Never."""
        return False

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads ``by`` and ``stratify_by``, makes ``column``."""
        return Needs(reads=(self.by, self.stratify_by), makes=(pa.field(self.column, pa.string()),))

    def fold(self) -> Fold[Any, Any]:
        """The distribution of the hash within each stratum."""
        return StratumBounds(tuple(self.proportions.values()), self.stratify_by, self.seed, self.by)

    def then(self, result: Mapping[str, npt.NDArray[np.float64]]) -> Stage:
        """The stage that divides at each stratum's own bounds."""
        return DividedSplit(self, result)


@dataclass(frozen=True)
class DividedSplit(Stage):
    """The second half of :class:`StratifiedSplit`: the bounds of every stratum are known."""

    asked: StratifiedSplit
    bounds: Mapping[str, npt.NDArray[np.float64]]

    @property
    def name(self) -> str:
        """The name of the step it stands for."""
        return self.asked.name

    @property
    def may_drop(self) -> bool:
        """Never."""
        return False

    def needs(self, schema: pa.Schema) -> Needs:
        """What was asked for."""
        return self.asked.needs(schema)

    def open(self) -> TableFunction:
        """The function that adds the column."""
        asked, names = self.asked, np.array(list(self.asked.proportions), dtype=object)
        usual = _bounds(asked.proportions)

        def divide(table: pa.Table) -> pa.Table:
            u = uniform(require(table, asked.by, self.name).to_pylist(), asked.seed)
            strata = _strata(table, asked.stratify_by, self.name)
            parts = [
                names[np.searchsorted(self.bounds.get(stratum, usual), x, side="right")]
                for stratum, x in zip(strata, u, strict=True)
            ]
            return put(table, asked.column, pa.array(parts, pa.string()))

        return divide


def _strata(table: pa.Table, column: str, stage: str) -> list[str]:
    return [repr(value) for value in require(table, column, stage).to_pylist()]


@dataclass(frozen=True)
class StratumBounds(Fold[dict[str, npt.NDArray[np.float64]], dict[str, npt.NDArray[np.float64]]]):
    """Where to cut each stratum's hashes so that the parts have their shares.

    State per stratum: its hashes (float64, shape (n,)) up to 65,536, then a histogram of 65,536 bins marked by a
    leading -1 (shape (65,537,)). Which of the two depends on the number alone, so any merge order agrees.
    """

    shares: tuple[float, ...]
    stratify_by: str
    seed: int = 0
    by: str = "id"

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads ``by`` and ``stratify_by``."""
        return Needs(reads=(self.by, self.stratify_by))

    def start(self) -> dict[str, npt.NDArray[np.float64]]:
        """No strata."""
        return {}

    def add(self, state: dict[str, npt.NDArray[np.float64]], table: pa.Table) -> dict[str, npt.NDArray[np.float64]]:
        """Add the hashes of a table's documents."""
        u = uniform(require(table, self.by, self.name).to_pylist(), self.seed)
        groups: dict[str, list[int]] = {}
        for row, stratum in enumerate(_strata(table, self.stratify_by, self.name)):
            groups.setdefault(stratum, []).append(row)
        return self.merge(state, {stratum: _compact(u[rows]) for stratum, rows in groups.items()})

    def merge(
        self, left: dict[str, npt.NDArray[np.float64]], right: dict[str, npt.NDArray[np.float64]]
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Both."""
        for stratum, values in right.items():
            left[stratum] = _together(left[stratum], values) if stratum in left else values
        return left

    def finish(self, state: dict[str, npt.NDArray[np.float64]]) -> dict[str, npt.NDArray[np.float64]]:
        """Bounds in [0, 1] per stratum, shape (parts - 1,)."""
        cuts = np.cumsum(np.array(self.shares))[:-1]
        return {stratum: _quantiles(state[stratum], cuts) for stratum in sorted(state)}


def _is_histogram(values: npt.NDArray[np.float64]) -> bool:
    return len(values) > _EXACT


def _compact(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return _histogram(values) if len(values) > _EXACT else values


def _histogram(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    counts = np.bincount((values * _EXACT).astype(np.int64), minlength=_EXACT)
    return np.concatenate([[-1.0], counts.astype(np.float64)])


def _together(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if not _is_histogram(a) and not _is_histogram(b):
        return _compact(np.concatenate([a, b]))
    a, b = (v if _is_histogram(v) else _histogram(v) for v in (a, b))
    return np.concatenate([[-1.0], a[1:] + b[1:]])


def _quantiles(values: npt.NDArray[np.float64], cuts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The hashes below which the shares ``cuts`` of the documents lie."""
    if _is_histogram(values):
        below = np.concatenate([[0.0], np.cumsum(values[1:])])
        return np.asarray(np.searchsorted(below, cuts * below[-1], side="left") / _EXACT, dtype=np.float64)
    ordered = np.sort(values)
    ranks = np.rint(cuts * len(ordered)).astype(np.int64)
    # A bound just at the first hash of the next part: searchsorted(side="right") puts that one above it.
    return np.concatenate([ordered, [1.0]])[ranks]
