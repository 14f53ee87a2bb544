"""Choosing documents by weight: Gumbel top-k without replacement, or the highest weights, as fold and stage.

Adding Gumbel noise to log weights and keeping the k largest samples k documents without replacement in proportion to
their weights (Kool, van Hoof and Welling 2019, arXiv:1903.06059). The noise is a function of (seed, id), so any
sharding and any engine choose the same documents. The fold finds the cut: the k-th best (score, id). The stage then
keeps what is at least as good, so that no list of ids travels, however many are chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UsageError
from tamis.hashing import gumbel
from tamis.selection.weights import Scores, ids_of, numbers_of, weights_of, whole
from tamis.stage import Fold, FoldThenStage, Needs, Stage, TableFunction
from tamis.table import mark, put, require

__all__ = ["Best", "BestDocuments", "Cut", "Resample", "Resampled", "Selection", "quotas_of"]

_SLACK = 1 << 16
"""Documents that gather beyond twice those wanted before the worse ones are dropped."""
_APART = 0x9E3779B97F4A7C15
"""Between the seeds of two targets, and of the first and the seed itself: their noises have nothing to do with each
other. With the seed itself, drawing from one half of an earlier split by the same seed is drawing by what made the
half: 57.8 % of a random choice was from a source of 50.7 %."""


class Cut(NamedTuple):
    """The worst document that is chosen: the lowest score, and of equal scores the highest id."""

    score: float
    id: str


def quotas_of(number: int, proportions: Sequence[float]) -> tuple[int, ...]:
    """How many of ``number`` each target gets: its share rounded down, and the last one the rest, as published.

    Raises :class:`UsageError` for proportions that are negative or all 0; they need not add up to 1.

    >>> quotas_of(10, [1, 1, 1])
    (3, 3, 4)
    """
    given = np.asarray(proportions, dtype=np.float64)
    if number < 1 or not len(given) or not (given >= 0).all() or not 0 < given.sum() < np.inf:
        message = (
            "there must be at least 1 document to choose, and proportions of at least 0 that are not all 0; got "
            f"{number} and {list(proportions)}."
        )
        raise UsageError(message)
    quotas = [int(number * share) for share in given / given.sum()]
    quotas[-1] += number - sum(quotas)
    return tuple(quotas)


@dataclass(frozen=True)
class Resample(FoldThenStage):
    """Keeps ``number`` documents, chosen by weight without replacement.

    With several weights each has a quota: the first chooses from all documents, the next from those that are left, and
    so on. A document whose weight is minus infinity is never chosen. Where fewer can be chosen than asked for, all of
    them are. Documents of one id and one score are copies: the last ones are kept together, so there may be more than
    ``number`` by the copies of one document.
    """

    number: int
    """Documents to keep, or to choose for all targets together."""
    weight: str | tuple[str, ...] = "log_weight"
    """Column with the log weights, or one for each target."""
    proportions: tuple[float, ...] = ()
    """Each target's share of ``number``, where there are several."""
    seed: int = 0
    top_k: bool = False
    """Keep the highest weights, without noise; of equals the lowest ids (as text)."""
    least: tuple[str, float] | None = None
    """A column and its lowest value of documents that may be chosen, such as ("features", 199)."""
    target_field: str | None = None
    """Column to make with the weight column that each kept document was chosen by (string)."""
    by: str = "id"

    def __post_init__(self) -> None:
        if len(self.proportions or (1,)) != len(self.weights):
            message = (
                f"there are {len(self.weights)} weights and {len(self.proportions)} proportions; give one for each: "
                f"weights {list(self.weights)}, proportions {list(self.proportions)}."
            )
            raise UsageError(message)
        quotas_of(self.number, self.proportions or (1,))

    @property
    def weights(self) -> tuple[str, ...]:
        """The columns with weights."""
        return (self.weight,) if isinstance(self.weight, str) else tuple(self.weight)

    @property
    def quotas(self) -> tuple[int, ...]:
        """Documents to choose by each weight."""
        return quotas_of(self.number, self.proportions or (1,))

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads ids, weights and what decides who may be chosen."""
        reads = (self.by, *self.weights, *((self.least[0],) if self.least else ()))
        made = (pa.field(self.target_field, pa.string()),) if self.target_field else ()
        return Needs(reads=tuple(dict.fromkeys(reads)), makes=made)

    def fold(self) -> Fold[Any, Any]:
        """Where the cuts are."""
        return BestDocuments(self)

    def then(self, result: Selection) -> Stage:
        """The stage that keeps what is above them."""
        return Resampled(self, result)

    def scores(self, table: pa.Table) -> tuple[pa.LargeStringArray, Scores]:
        """(ids as text, weights with noise), ``float64`` of shape (n, targets); minus infinity: is not chosen.

        Raises :class:`UsageError` for a weight that is missing, not a number or infinite.
        """
        ids = ids_of(table, self.by, self.name)
        scores = np.empty((table.num_rows, len(self.weights)), dtype=np.float64)
        chosen_from = np.ones(table.num_rows, dtype=np.bool_)
        if self.least is not None:
            column, value = self.least
            numbers = numbers_of(require(table, column, self.name))
            chosen_from = numbers >= value
        for target, column in enumerate(self.weights):
            weights = weights_of(table, column, ids, self.name)
            if not self.top_k:
                weights = weights + gumbel(ids.to_pylist(), self.seed + (target + 1) * _APART)
            scores[:, target] = np.where(chosen_from, weights, -np.inf)
        return ids, scores


def _at_least(ids: pa.LargeStringArray, scores: Scores, cut: Cut) -> npt.NDArray[np.bool_]:
    """Which documents are as good as the cut, or better."""
    better = scores > cut.score
    equal = np.flatnonzero(scores == cut.score)
    if len(equal) and cut.score > -np.inf:
        better[equal] = pc.less_equal(ids.take(pa.array(equal)), pa.scalar(cut.id, pa.large_string())).to_numpy(
            zero_copy_only=False
        )
    return better


@dataclass(frozen=True)
class Selection:
    """Where the cut of each target is, and how many documents are above."""

    quotas: tuple[int, ...]
    cuts: tuple[Cut, ...]
    counts: tuple[int, ...]
    """Documents chosen for each target."""
    documents: int
    """Seen."""
    eligible: int
    """That could be chosen for at least one target."""

    def __str__(self) -> str:
        asked, chosen = sum(self.quotas), sum(self.counts)
        said = f"{chosen} of {self.documents} documents are chosen"
        if chosen < asked:
            return f"{said}, {asked - chosen} fewer than asked for: only {self.eligible} can be."
        if chosen > asked:
            return f"{said}, {chosen - asked} more than asked for: the last ones are copies that share one id."
        return f"{said}."


@dataclass
class _Heap:
    """The best documents for one target, copies counted, and some more that await being dropped."""

    tables: list[pa.Table] = field(default_factory=list)
    rows: int = 0
    lowest: float = -np.inf
    """Scores below cannot be among the best any more."""


@dataclass
class Best:
    """The state of :class:`BestDocuments`."""

    heaps: list[_Heap]
    documents: int = 0
    eligible: int = 0


@dataclass(frozen=True)
class BestDocuments(Fold[Best, Selection]):
    """Finds the cuts of a :class:`Resample`.

    State: for each target the best (score, id), as many as its quota and those of the targets before it together, for
    no more than those can be taken by others. At most about twice that many, and 65,536, are held at a time.
    """

    asked: Resample

    @property
    def name(self) -> str:
        """The name of the step it works for."""
        return self.asked.name

    def needs(self, schema: pa.Schema) -> Needs:
        """What is read."""
        return Needs(reads=self.asked.needs(schema).reads)

    def start(self) -> Best:
        """No documents."""
        return Best([_Heap() for _ in self.asked.weights])

    def add(self, state: Best, table: pa.Table) -> Best:
        """Take in those of a table's documents that may be among the best."""
        ids, scores = self.asked.scores(table)
        state.documents += len(ids)
        state.eligible += int((scores > -np.inf).any(axis=1).sum())
        for target, heap in enumerate(state.heaps):
            own = scores[:, target]
            self._push(target, heap, _table(ids, scores, (own > -np.inf) & (own >= heap.lowest)))
        return state

    def merge(self, left: Best, right: Best) -> Best:
        """Both."""
        left.documents += right.documents
        left.eligible += right.eligible
        for target, (heap, other) in enumerate(zip(left.heaps, right.heaps, strict=True)):
            for table in other.tables:
                scores = table.column(_score(target)).to_numpy()
                self._push(target, heap, table.filter(pa.array(scores >= heap.lowest)))
        return left

    def _push(self, target: int, heap: _Heap, table: pa.Table) -> None:
        if table.num_rows and self._wanted(target):
            heap.tables.append(table)
            heap.rows += table.num_rows
            if heap.rows > 2 * self._wanted(target) + _SLACK:
                self._drop(target, heap)

    def _wanted(self, target: int) -> int:
        """Distinct documents that may be needed: every earlier choice takes away at most one."""
        return sum(self.asked.quotas[: target + 1])

    def _drop(self, target: int, heap: _Heap) -> pa.Table:
        """Leave the best ones; returns them."""
        table = _distinct(pa.concat_tables(heap.tables)) if heap.tables else _empty(len(self.asked.weights))
        wanted = self._wanted(target)
        if len(self.asked.weights) > 1:
            # Who chose an id took all that bears it; where texts of one id weigh differently, those are more rows.
            wanted += table.num_rows - pc.count_distinct(table.column("id")).as_py()
        surplus = table.num_rows - wanted
        if surplus > 0:
            scores = table.column(_score(target)).to_numpy()
            heap.lowest = float(np.partition(scores, surplus)[surplus])
            above = int((scores > heap.lowest).sum())
            equal = _ordered(table.filter(pa.array(scores == heap.lowest)), target)
            # Of one id, texts that differ in what they weigh for another target stay together.
            worst = Cut(heap.lowest, equal.column("id")[wanted - above - 1].as_py())
            table = table.filter(pa.array(_at_least(whole(table.column("id")), scores, worst)))
        table = table.combine_chunks()
        heap.tables, heap.rows = [table], table.num_rows
        return table

    def finish(self, state: Best) -> Selection:
        """The cuts, each target choosing from what the ones before it left."""
        cuts: list[Cut] = []
        counts: list[int] = []
        for target, (heap, quota) in enumerate(zip(state.heaps, self.asked.quotas, strict=True)):
            table = self._drop(target, heap)
            for earlier, cut in enumerate(cuts):
                taken = _at_least(whole(table.column("id")), table.column(_score(earlier)).to_numpy(), cut)
                table = table.filter(pa.array(~taken))
            table = _ordered(table, target)
            total = np.cumsum(table.column("copies").to_numpy())
            if quota == 0:
                cut = Cut(np.inf, "")
            elif not len(total) or total[-1] < quota:
                cut = Cut(-np.inf, "")
            else:
                last = int(np.searchsorted(total, quota))
                cut = Cut(table.column(_score(target))[last].as_py(), table.column("id")[last].as_py())
            kept = _at_least(whole(table.column("id")), table.column(_score(target)).to_numpy(), cut)
            cuts.append(cut)
            counts.append(int(table.column("copies").to_numpy()[kept].sum()))
        return Selection(self.asked.quotas, tuple(cuts), tuple(counts), state.documents, state.eligible)


def _score(target: int) -> str:
    return f"score {target}"


def _empty(targets: int) -> pa.Table:
    return _table(pa.array([], pa.large_string()), np.empty((0, targets)), np.empty(0, np.bool_))


def _table(ids: pa.LargeStringArray, scores: Scores, where: npt.NDArray[np.bool_]) -> pa.Table:
    taken = scores[where]
    columns = {"id": ids.filter(pa.array(where)), "copies": np.ones(len(taken), np.int64)}
    return pa.table(columns | {_score(t): np.ascontiguousarray(taken[:, t]) for t in range(taken.shape[1])})


def _distinct(table: pa.Table) -> pa.Table:
    """Documents of the same id and scores as one, with the number of their copies."""
    keys = ["id", *(name for name in table.column_names if name.startswith("score "))]
    # Scores are mostly distinct: comparing numbers is cheap, and grouping by text is not.
    if len(np.unique(table.column(keys[1]).to_numpy())) == table.num_rows:
        return table
    grouped = table.group_by(keys, use_threads=False).aggregate([("copies", "sum")])
    return grouped.rename_columns({"copies_sum": "copies"}).select(table.column_names)


def _ordered(table: pa.Table, target: int) -> pa.Table:
    """Best first; of equal scores the lowest id first."""
    others = [(name, "ascending") for name in table.column_names if name not in ("copies", _score(target))]
    return table.take(pc.sort_indices(table, sort_keys=[(_score(target), "descending"), *others]))


@dataclass(frozen=True)
class Resampled(Stage):
    """The second half of :class:`Resample`: the cuts are known."""

    asked: Resample
    selection: Selection

    @property
    def name(self) -> str:
        """The name of the step it stands for."""
        return self.asked.name

    def needs(self, schema: pa.Schema) -> Needs:
        """What was asked for."""
        return self.asked.needs(schema)

    def open(self) -> TableFunction:
        """The function that marks what was not chosen."""
        asked = self.asked

        def choose(table: pa.Table) -> pa.Table:
            ids, scores = asked.scores(table)
            chosen_by = np.full(len(ids), -1)
            for target in reversed(range(len(asked.weights))):  # the first that chooses a document has it
                chosen_by[_at_least(ids, scores[:, target], self.selection.cuts[target])] = target
            if asked.target_field:
                names = pa.array([*asked.weights, None], pa.string()).take(
                    pa.array(chosen_by % (len(asked.weights) + 1))
                )
                table = put(table, asked.target_field, names)
            best = scores.max(axis=1, initial=-np.inf)
            reasons = np.where(best > -np.inf, "not chosen", "cannot be chosen")
            kept = pa.array(chosen_by >= 0)
            return mark(
                table, pc.if_else(kept, pa.scalar(None, pa.string()), pa.array(reasons, pa.string())), pa.array(best)
            )

        return choose
