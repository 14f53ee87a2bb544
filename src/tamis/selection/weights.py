"""Columns of log weights: read and checked, and what they are like taken together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UsageError
from tamis.stage import Fold, Needs
from tamis.table import require

__all__ = ["Scores", "WeightSummary", "Weights", "ids_of", "numbers_of", "weights_of", "whole"]

Scores = npt.NDArray[np.float64]


def ids_of(table: pa.Table, column: str, stage: str) -> pa.LargeStringArray:
    """Ids as text: what is compared where scores are equal. A null is an empty one."""
    found = require(table, column, stage)
    if pa.types.is_nested(found.type):
        return pa.array(["" if i is None else str(i) for i in found.to_pylist()], pa.large_string())
    return whole(pc.fill_null(found.cast(pa.large_string()), ""))


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def numbers_of(column: pa.ChunkedArray) -> Scores:
    """Any numbers as float64; null is NaN."""
    return np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def weights_of(table: pa.Table, column: str, ids: pa.LargeStringArray, stage: str) -> Scores:
    """A column of log weights as ``float64`` of shape (n,): finite, or minus infinity.

    Raises :class:`UsageError` that names the first document whose weight is null, not a number or plus infinity.
    """
    given = require(table, column, stage)
    if not (pa.types.is_integer(given.type) or pa.types.is_floating(given.type)):
        message = f"{stage} reads the column {column!r} as log weights, but it is {given.type}."
        raise UsageError(message)
    weights = numbers_of(given)
    bad = np.flatnonzero(np.isnan(weights) | (weights == np.inf))
    if len(bad):
        row = int(bad[0])
        found = "null" if not given[row].is_valid else f"{weights[row]}"
        message = (
            f"the document with the id {ids[row].as_py()!r} has no usable weight: its {column!r} is {found}. A weight "
            "is a finite number, or minus infinity for a document that must not be chosen. Mend it, or leave the "
            "document out."
        )
        raise UsageError(message)
    return weights


@dataclass(frozen=True)
class Weights:
    """What some log weights are like."""

    documents: int
    """With a weight above minus infinity."""
    lowest: float
    highest: float
    effective: float
    """The effective sample size, (sum of weights)² / sum of squared weights: from 1 to ``documents``."""
    largest_share: float
    """Of the sum of all weights, what the largest one has, in [0, 1]."""

    @property
    def all_equal(self) -> bool:
        """Whether every document has the same weight, so that nothing is preferred."""
        return self.documents > 0 and self.lowest == self.highest


@dataclass(frozen=True)
class WeightSummary(Fold[Scores, Weights]):
    """Sums a column of log weights up; one document may outweigh all others together.

    State: documents, lowest, highest, and the sums of exp(w - highest) and of its square, ``float64`` of shape (5,).
    The order of merging shows in the last bits of the sums.
    """

    weight: str = "log_weight"
    by: str = "id"

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the weights, and the ids to name one that is not a number."""
        return Needs(reads=(self.by, self.weight))

    def start(self) -> Scores:
        """No documents."""
        return np.array([0.0, np.inf, -np.inf, 0.0, 0.0])

    def add(self, state: Scores, table: pa.Table) -> Scores:
        """Add a table's weights."""
        weights = weights_of(table, self.weight, ids_of(table, self.by, self.name), self.name)
        weights = weights[weights > -np.inf]
        if not len(weights):
            return state
        shares = np.exp(weights - weights.max())
        own = np.array([len(weights), weights.min(), weights.max(), shares.sum(), np.square(shares).sum()])
        return self.merge(state, own)

    def merge(self, left: Scores, right: Scores) -> Scores:
        """Both."""
        if not left[0] or not right[0]:
            return right if right[0] else left
        highest = max(left[2], right[2])
        scale = np.exp([left[2] - highest, right[2] - highest])
        sums = left[3] * scale[0] + right[3] * scale[1], left[4] * scale[0] ** 2 + right[4] * scale[1] ** 2
        return np.array([left[0] + right[0], min(left[1], right[1]), highest, *sums])

    def finish(self, state: Scores) -> Weights:
        """The summary."""
        documents, lowest, highest, total, squares = state.tolist()
        if not documents:
            return Weights(0, np.nan, np.nan, 0.0, 0.0)
        return Weights(int(documents), lowest, highest, total**2 / squares, 1 / total)
