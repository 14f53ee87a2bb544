"""Bounds that are said as a share of the documents: a fold finds where they lie, and a filter decides by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import MissingColumnError, UsageError
from tamis.filters.base import DocumentFilter, Filter, ScoreFilter
from tamis.filters.bounded import BoundedFilter
from tamis.stage import Fold, FoldThenStage, Needs, Stage
from tamis.table import require, text

__all__ = ["Distribution", "PercentileFilter", "ScoreDistribution", "WithinPercentiles", "is_number"]

_EXACT = 65_536
"""Up to this many different scores are counted one by one, 16 bytes for each; above it, bins of them."""
_SIGN = np.uint64(1 << 63)


def is_number(kind: pa.DataType) -> bool:
    """Whether scores of this type can be held against a bound: integers and floats."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _ordered(values: npt.NDArray[np.float64]) -> npt.NDArray[np.uint64]:
    """Integers in the order of the numbers; both zeros are one."""
    bits = (values + 0.0).view(np.uint64)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _numbers(ordered: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    return np.where(ordered & _SIGN, ordered & ~_SIGN, ~ordered).view(np.float64)


_LEAST, _GREATEST = _ordered(np.array([-np.inf, np.inf]))


@dataclass(frozen=True)
class Distribution:
    """How many documents have each score.

    Up to 65,536 different scores it is exact. Beyond, scores are put together that agree in all but their last bits,
    as few bits as that number allows; which ones depends on the scores alone, so that any order of adding and merging
    gives the same. A million different shares fall into bins of about one part in 8,000 of their value.
    """

    keys: npt.NDArray[np.uint64]
    """The different scores, or bins of them, in order, shape (n,)."""
    counts: npt.NDArray[np.int64]
    """Documents with each, shape (n,)."""
    bits: int = 0
    """Bits by which scores in one bin may differ; 0: each stands alone."""
    missing: int = 0
    """Documents whose score is null or NaN."""

    @classmethod
    def of(cls, values: pa.Array | pa.ChunkedArray) -> Distribution:
        """That of a column of numbers. Integers beyond 2**53 are rounded to the nearest float64."""
        numbers = np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
        found = ~np.isnan(numbers)
        keys, counts = np.unique(_ordered(numbers[found]), return_counts=True)
        return _compact(keys, counts.astype(np.int64), 0, len(numbers) - int(found.sum()))

    @classmethod
    def empty(cls) -> Distribution:
        """That of no documents."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.int64))

    def merged(self, other: Distribution) -> Distribution:
        """That of both."""
        bits = max(self.bits, other.bits)
        keys = np.concatenate([each.keys >> np.uint64(bits - each.bits) for each in (self, other)])
        order = np.argsort(keys, kind="stable")
        counts = np.concatenate([self.counts, other.counts])[order]
        return _compact(*_summed(keys[order], counts), bits, self.missing + other.missing)

    @property
    def documents(self) -> int:
        """Documents with a score."""
        return int(self.counts.sum())

    @property
    def least(self) -> npt.NDArray[np.float64]:
        """The least number of each bin, float64, shape (n,)."""
        return _numbers(np.maximum(self.keys << np.uint64(self.bits), _LEAST))

    @property
    def greatest(self) -> npt.NDArray[np.float64]:
        """The greatest number of each bin, float64, shape (n,)."""
        rest = np.uint64((1 << self.bits) - 1)
        return _numbers(np.minimum((self.keys << np.uint64(self.bits)) | rest, _GREATEST))

    def bound(self, side: str, most: int) -> float | None:
        """The strictest lower or upper bound (``side`` "low" or "high") beyond which at most ``most`` documents lie.

        Documents with equal scores stay together. ``None`` where nothing would be dropped.
        """
        if side == "low":
            below = np.cumsum(self.counts) - self.counts
            place = int(np.searchsorted(below, most, side="right")) - 1
            return float(self.least[place]) if place > 0 else None
        above = np.cumsum(self.counts[::-1]) - self.counts[::-1]
        place = int(np.searchsorted(above, most, side="right")) - 1
        return float(self.greatest[::-1][place]) if place > 0 else None

    def as_bad(self, side: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Documents at least as bad as one of each score, seen from that side: itself, its bin and all beyond.

        A bound that may drop ``most`` documents drops those of which this is at most ``most``. Shape (n,), int64;
        NaN and scores that were never counted give the number of the bins beyond alone.
        """
        places = np.searchsorted(self.keys, _ordered(values) >> np.uint64(self.bits), side="left")
        if side == "low":
            upto = np.concatenate([np.cumsum(self.counts), [self.documents]])
            return np.asarray(upto[places], np.int64)
        beyond = np.concatenate([np.cumsum(self.counts[::-1])[::-1], [0]])
        return np.asarray(beyond[places], np.int64)


def _compact(keys: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64], bits: int, missing: int) -> Distribution:
    """The distribution with as few bits put together as its size allows, of keys in order."""
    # The fewest bits: a set of scores then never needs more than a larger set, so that the order of merging is nothing.
    fewest, enough = 0, 64 if len(keys) > _EXACT else 0
    while fewest < enough:
        tried = (fewest + enough) // 2
        small = 1 + np.count_nonzero(np.diff(keys >> np.uint64(tried))) <= _EXACT
        fewest, enough = (fewest, tried) if small else (tried + 1, enough)
    return Distribution(*_summed(keys >> np.uint64(enough), counts), bits + enough, missing)


def _summed(
    keys: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Keys in order, each once, with the sum of its counts."""
    if not len(keys):
        return keys, counts
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[starts], np.add.reduceat(counts, starts)


@dataclass(frozen=True)
class WithinPercentiles(BoundedFilter):
    """The filter that :class:`PercentileFilter` becomes: its bounds are numbers.

    Score: That of ``scorer``.
    Range: That of ``scorer``.
    Empty text: As ``scorer`` scores it.
    Source: The documents that were seen.
    """

    scorer: DocumentFilter | None = None
    """What scores; ``None`` where a column holds the scores."""
    low: float | None = None
    high: float | None = None

    too_low = "its score is below {}, among the lowest"
    too_high = "its score is above {}, among the highest"
    low_setting = "low"
    high_setting = "high"

    def identity(self) -> Mapping[str, str]:
        """That of the scorer."""
        return {} if self.scorer is None else self.scorer.identity()

    def bounds(self) -> tuple[float | None, float | None]:
        """Scores kept."""
        return self.low, self.high

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The scorer's."""
        if self.scorer is None:
            message = "this filter decides by a column; it scores no text."
            raise UsageError(message)
        return self.scorer.score_batch(texts)


@dataclass(frozen=True)
class PercentileFilter(FoldThenStage):
    """Drops the documents with the lowest or the highest scores, by their share.

    Bounds: ``drop_lowest = 0.05`` drops what is below the greatest score of which at most 5 % of the documents are
        below; equal scores stay together, so fewer may be dropped, and none where all are equal. Documents whose score
        is null are dropped and counted in no share; NaN is beyond every bound. Shares are those of the documents that
        come to this step. Up to 65,536 different scores the bound is exact; with more, it lies between two bins of
        scores (see :class:`Distribution`), and the share dropped is at most what was asked for, and less by no more
        than the documents of one bin.
    Empty text: As the filter scores it.
    Source: Percentile cuts as in CCNet (Wenzek et al. 2020, arXiv:1911.00359), which divides by perplexity.
    Relations: A filter with bounds keeps the same scores in every dataset; this keeps the same share.
    """

    filter: DocumentFilter | None = None
    """What scores the documents; its own bounds are not used."""
    column: str | None = None
    """Instead of a filter: the column with the scores."""
    drop_lowest: float = 0.0
    """Share of the documents, from 0 to below 1."""
    drop_highest: float = 0.0
    """Share of the documents, from 0 to below 1; both together below 1."""
    text_field: str | None = None
    """Column that is scored; the dataset's text field by default."""
    score_field: str | None = None
    """Column for the score of the filter; not written by default."""

    def __post_init__(self) -> None:
        if (self.filter is None) == (self.column is None):
            message = "PercentileFilter takes a filter that scores or a column with scores, one of both."
            raise UsageError(message)
        if self.column is not None and self.score_field is not None:
            message = f"PercentileFilter: the scores are in {self.column!r} already; leave score_field out."
            raise UsageError(message)
        shares = (self.drop_lowest, self.drop_highest)
        if not (all(0 <= share < 1 for share in shares) and sum(shares) < 1):
            message = (
                "PercentileFilter: drop_lowest and drop_highest are shares from 0 to below 1, together below 1; got "
                f"{self.drop_lowest} and {self.drop_highest}."
            )
            raise UsageError(message)
        if self.filter is not None and not is_number(self.filter.score_type):
            message = f"PercentileFilter needs scores that are numbers; {type(self.filter).__name__} gives others."
            raise UsageError(message)

    def on_text_field(self, text_field: str) -> PercentileFilter:
        """The dataset's text field, where none was named."""
        return replace(self, text_field=text_field) if self.text_field is None else self

    def needs(self, schema: pa.Schema) -> Needs:
        """What the stage reads and makes."""
        return self.then((None, None)).needs(schema)

    def fold(self) -> Fold[Any, Any]:
        """The bounds, from the distribution of the scores."""
        return ScoreDistribution(self)

    def then(self, result: tuple[float | None, float | None]) -> Stage:
        """The filter with these bounds."""
        within = WithinPercentiles(self.filter, *result)
        if self.column is not None:
            return _ColumnWithin(within, self.column)
        kind = None if self.filter is None else self.filter.score_type
        return _ScoreWithin(within, self.text_field, self.score_field, kind)


@dataclass(frozen=True)
class _ScoreWithin(ScoreFilter):
    """The second half, where a filter scores."""

    @property
    def name(self) -> str:
        """The name of the step it stands for."""
        return PercentileFilter.__name__

    def needs(self, schema: pa.Schema) -> Needs:
        """What a filter needs, which shares the walk of the one that scores."""
        within = self.filter_obj
        scorer = within.scorer if isinstance(within, WithinPercentiles) else None
        if scorer is None:
            return super().needs(schema)
        alone = ScoreFilter(scorer, self.text_field).needs(schema)
        return replace(super().needs(schema), together=alone.together)


@dataclass(frozen=True)
class _ColumnWithin(Filter):
    """The second half, where a column holds the scores."""

    @property
    def name(self) -> str:
        """The name of the step it stands for."""
        return PercentileFilter.__name__

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the column, which must hold numbers."""
        _require_numbers(schema, self.filter_field, self.name)
        return super().needs(schema)


def _require_numbers(schema: pa.Schema, column: str, who: str) -> None:
    if column not in schema.names:
        raise MissingColumnError.of(column, who, schema.names)
    kind = schema.field(column).type
    if not (is_number(kind) or pa.types.is_null(kind)):
        message = f"{who} needs numbers; the column {column!r} is {kind}."
        raise UsageError(message)


@dataclass(frozen=True)
class ScoreDistribution(Fold[Distribution, tuple[float | None, float | None]]):
    """The bounds of a :class:`PercentileFilter`: the lower and the upper, ``None`` where nothing is beyond."""

    asked: PercentileFilter

    @property
    def name(self) -> str:
        """The name of the step it is for."""
        return self.asked.name

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the text or the column."""
        if self.asked.column is not None:
            _require_numbers(schema, self.asked.column, self.name)
            return Needs(reads=(self.asked.column,))
        return Needs(texts=(self.asked.text_field or "text",))

    def on_text_field(self, text_field: str) -> ScoreDistribution:
        """The dataset's text field, where none was named."""
        return ScoreDistribution(self.asked.on_text_field(text_field))

    def start(self) -> Distribution:
        """No documents."""
        return Distribution.empty()

    def add(self, state: Distribution, table: pa.Table) -> Distribution:
        """Add the scores of a table's documents."""
        asked = self.asked
        if asked.filter is None:
            scores = require(table, str(asked.column), self.name)
        else:
            scores = asked.filter.score_batch(text(table, asked.text_field or "text", self.name))
        return state.merged(Distribution.of(scores))

    def merge(self, left: Distribution, right: Distribution) -> Distribution:
        """Both."""
        return left.merged(right)

    def finish(self, state: Distribution) -> tuple[float | None, float | None]:
        """The bounds."""
        # As decimals: 29 % of 100 documents are 29, and not the 28 of 0.29 * 100 in floats.
        low, high = (
            int(Fraction(str(share)) * state.documents) for share in (self.asked.drop_lowest, self.asked.drop_highest)
        )
        return state.bound("low", low), state.bound("high", high)
