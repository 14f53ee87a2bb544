"""Folds over the documents that a page is about: a sample of them whole, and the distributions of their columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.hashing import hash64
from tamis.page.histogram import Cells, counted
from tamis.stage import Fold, Needs
from tamis.table import is_text

__all__ = ["Bound", "Distributions", "Draw", "Drawn", "Picked", "Tallied", "is_number", "numbers", "text_of"]

_MOST_BYTES = 192 << 20
"""Of a sample: the documents with the lowest hashes up to this size, where they are very long."""


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type is shown as numbers."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind))


def numbers(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """A column as float64 of shape ``(rows,)``, NaN where it is null."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    whole = column.cast(pa.float64(), safe=False)
    return np.asarray(pc.fill_null(whole, float("nan")).to_numpy(zero_copy_only=False), dtype=np.float64)


@dataclass
class Drawn:
    """The sample so far, and what was counted of all documents."""

    hashes: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)
    rows: int = 0
    worst: int = 1 << 64
    """Hashes from here on cannot be in the sample any more."""
    documents: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    """Documents by the value of the source column."""


@dataclass(frozen=True)
class Picked:
    """A sample."""

    table: pa.Table | None
    """The documents, in the order of their hashes; None where there were none."""
    hashes: npt.NDArray[np.uint64]
    documents: int
    sources: Counter[str]


@dataclass(frozen=True)
class Draw(Fold[Drawn, Picked]):
    """The ``number`` documents with the lowest hash of (seed, id), whole, in the order of these hashes.

    The same documents in any order and sharding, and a larger number only adds to them. State: at most about twice as
    many documents, and 192 MB.
    """

    number: int
    id_field: str
    seed: int = 0
    columns: tuple[str, ...] = ()
    source_field: str | None = None
    """Column by whose values documents are counted."""

    @property
    def name(self) -> str:
        """Shown while it runs."""
        return "sample"

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads all columns that are asked for."""
        also = () if self.source_field is None else (self.source_field,)
        return Needs(reads=tuple(dict.fromkeys([self.id_field, *self.columns, *also])))

    def start(self) -> Drawn:
        """Nothing yet."""
        return Drawn()

    def add(self, state: Drawn, table: pa.Table) -> Drawn:
        """Take in those of a table's documents that may be in the sample."""
        state.documents += table.num_rows
        if self.source_field is not None:
            for entry in table.column(self.source_field).value_counts().to_pylist():
                state.sources[str(entry["values"])] += entry["counts"]
        hashes = hash64(table.column(self.id_field).to_pylist(), self.seed)
        rows = np.flatnonzero(hashes < state.worst) if state.worst < 1 << 64 else np.arange(len(hashes))
        if len(rows):
            wanted = table.select(list(dict.fromkeys([self.id_field, *self.columns])))
            self._push(state, hashes[rows], wanted.take(pa.array(rows)))
        return state

    def merge(self, left: Drawn, right: Drawn) -> Drawn:
        """Both."""
        left.documents += right.documents
        left.sources.update(right.sources)
        left.worst = min(left.worst, right.worst)
        for hashes, table in zip(right.hashes, right.tables, strict=True):
            self._push(left, hashes, table)
        return left

    def finish(self, state: Drawn) -> Picked:
        """The sample as one table."""
        self._drop(state)
        if not state.tables:
            return Picked(None, np.empty(0, dtype=np.uint64), state.documents, state.sources)
        return Picked(state.tables[0], state.hashes[0], state.documents, state.sources)

    def both(self, left: Picked, right: Picked) -> Picked:
        """The sample of two inputs, of which each was drawn from."""
        state = self.start()
        for picked in (left, right):
            state.documents += picked.documents
            state.sources.update(picked.sources)
            if picked.table is not None:
                self._push(state, picked.hashes, picked.table)
        return self.finish(state)

    def _push(self, state: Drawn, hashes: npt.NDArray[np.uint64], table: pa.Table) -> None:
        state.hashes.append(hashes)
        state.tables.append(table)
        state.rows += len(hashes)
        if state.rows > 2 * self.number + 1024 or sum(t.nbytes for t in state.tables) > 2 * _MOST_BYTES:
            self._drop(state)

    def _drop(self, state: Drawn) -> None:
        """Leave the documents with the lowest hashes."""
        if not state.tables:
            return
        hashes = np.concatenate(state.hashes)
        table = pa.concat_tables(state.tables, promote_options="permissive")
        order = np.argsort(hashes, kind="stable")
        if len(order) > self.number:
            state.worst = min(state.worst, int(hashes[order[self.number]]))
            order = order[: self.number]
        table = table.take(pa.array(order)).combine_chunks()
        fits = _fitting(table)
        if fits < len(order):
            state.worst = min(state.worst, int(hashes[order[fits]]))
            order, table = order[:fits], table.slice(0, fits)
        state.hashes, state.tables, state.rows = [hashes[order]], [table], len(order)


def _fitting(table: pa.Table) -> int:
    """How many of the first rows are within the bytes allowed; at least one."""
    if table.nbytes <= _MOST_BYTES:
        return int(table.num_rows)
    sizes = np.zeros(table.num_rows, dtype=np.int64)
    for column in table.columns:
        if is_text(column.type):
            sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy().astype(np.int64)
    fitting: int = (np.cumsum(sizes) <= _MOST_BYTES).sum()
    return max(1, int(fitting))


# -- distributions --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bound:
    """What is kept by a column."""

    column: str
    low: float | None
    high: float | None
    invert: bool = False

    def keeps(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Whether each number is kept; NaN is not, unless what lies within is dropped."""
        kept = ~np.isnan(values)
        if self.low is not None:
            kept &= values >= self.low
        if self.high is not None:
            kept &= values <= self.high
        return ~kept if self.invert else kept


@dataclass
class Tallied:
    """Distributions of all documents, and of those that are kept."""

    documents: int = 0
    kept: int = 0
    before: dict[str, Cells] = field(default_factory=dict)
    after: dict[str, Cells] = field(default_factory=dict)
    values: dict[str, Counter[str]] = field(default_factory=dict)
    values_kept: dict[str, Counter[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Distributions(Fold[Tallied, Tallied]):
    """Histograms of numbers and counts of classes, before and after.

    Kept is what is within all bounds, and has a null in the column ``reason``, where one is named.
    """

    numbers: tuple[str, ...]
    classes: tuple[str, ...] = ()
    bounds: tuple[Bound, ...] = ()
    reason: str | None = None

    @property
    def name(self) -> str:
        """Shown while it runs."""
        return "distributions"

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the columns."""
        also = () if self.reason is None else (self.reason,)
        columns = (*self.numbers, *self.classes, *(bound.column for bound in self.bounds), *also)
        return Needs(reads=tuple(dict.fromkeys(columns)))

    def start(self) -> Tallied:
        """Nothing yet."""
        return Tallied()

    def add(self, state: Tallied, table: pa.Table) -> Tallied:
        """Count a table's documents."""
        return self.merge(state, self._of(table))

    def _of(self, table: pa.Table) -> Tallied:
        wanted = dict.fromkeys([*self.numbers, *(bound.column for bound in self.bounds)])
        found = {name: numbers(table.column(name)) for name in wanted}
        keep = np.ones(table.num_rows, dtype=np.bool_)
        for bound in self.bounds:
            keep &= bound.keeps(found[bound.column])
        if self.reason is not None:
            keep &= np.asarray(table.column(self.reason).is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
        mask = pa.array(keep)
        return Tallied(
            table.num_rows,
            int(keep.sum()),
            {name: counted(found[name]) for name in self.numbers},
            {name: counted(found[name][keep]) for name in self.numbers},
            {name: _counts(table.column(name)) for name in self.classes},
            {name: _counts(table.column(name).filter(mask)) for name in self.classes},
        )

    def merge(self, left: Tallied, right: Tallied) -> Tallied:
        """Both."""
        left.documents += right.documents
        left.kept += right.kept
        for mine, other in ((left.before, right.before), (left.after, right.after)):
            for name, cells in other.items():
                mine[name] = mine[name].add(cells) if name in mine else cells
        for counts, others in ((left.values, right.values), (left.values_kept, right.values_kept)):
            for name, more in others.items():
                counts.setdefault(name, Counter()).update(more)
        return left

    def finish(self, state: Tallied) -> Tallied:
        """The sums themselves."""
        return state


def _counts(column: pa.ChunkedArray) -> Counter[str]:
    entries: Sequence[dict[str, Any]] = column.value_counts().to_pylist()
    return Counter({text_of(entry["values"]): entry["counts"] for entry in entries})


def text_of(value: Any) -> str:
    """A value as text, a float with the digits that matter; a null is shown as a dash."""
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
