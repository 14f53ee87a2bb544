"""The folds of evaluation: :class:`TagLists` gathers tags by id, :class:`TagScores` judges predicted ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UsageError
from tamis.evaluation.report import TagReport, judge
from tamis.evaluation.tag_table import TagTable
from tamis.hashing import hash64
from tamis.stage import Fold, Needs
from tamis.table import is_text, require
from tamis.tags import parse_tags

__all__ = ["TagLists", "TagScores"]

_KEY = "key"
_LIST = pa.list_(pa.string())


@dataclass(frozen=True)
class TagLists(Fold[list[pa.Table], pa.Table]):
    """The tags of every document, by the hash of its id: a table of ``key`` (uint64) and a ``list<string>`` per column.

    A column is a list of strings, or text that :func:`tamis.tags.parse_tags` understands. Null stays null; an empty
    list or text is a document without tags. Needs 8 bytes and the names of its tags for each document.
    """

    columns: tuple[str, ...]
    by: str = "id"

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the ids and the columns, which must be lists of strings or text."""
        for name in (c for c in self.columns if c in schema.names):
            kind = schema.field(name).type
            if not (is_text(kind) or pa.types.is_null(kind) or _is_list(kind)):
                message = f"{self.name} reads the column {name!r} as tags: a list of strings, or text. It is {kind}."
                raise UsageError(message)
        return Needs(reads=(self.by, *self.columns))

    def start(self) -> list[pa.Table]:
        """No documents."""
        return []

    def add(self, state: list[pa.Table], table: pa.Table) -> list[pa.Table]:
        """Add the tags of a table."""
        keys = hash64(require(table, self.by, self.name).to_pylist())
        lists = [_parsed(require(table, name, self.name)) for name in self.columns]
        state.append(pa.table([pa.array(keys), *lists], [_KEY, *self.columns]))
        return state

    def merge(self, left: list[pa.Table], right: list[pa.Table]) -> list[pa.Table]:
        """Both."""
        return left + right

    def finish(self, state: list[pa.Table]) -> pa.Table:
        """One table, in ascending order of keys."""
        schema = pa.schema([(_KEY, pa.uint64()), *((name, _LIST) for name in self.columns)])
        whole = pa.concat_tables([schema.empty_table(), *state])
        # Documents that share an id are ordered by their tags, so that no order of merging shows.
        ties = [pc.fill_null(pc.binary_join(column, "\0"), "\1") for column in whole.columns[1:]]
        order = pa.table([whole.column(0), *ties], [str(i) for i in range(1 + len(ties))])
        return whole.take(pc.sort_indices(order, [(name, "ascending") for name in order.column_names]))


def _is_list(kind: pa.DataType) -> bool:
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return listed and (is_text(kind.value_type) or pa.types.is_null(kind.value_type))


def _parsed(column: pa.ChunkedArray) -> pa.Array:
    values: list[str | Sequence[str] | None] = column.to_pylist()
    return pa.array([None if value is None else parse_tags(value) for value in values], _LIST)


@dataclass(frozen=True)
class TagScores(Fold[list[pa.Table], TagReport]):
    """Predicted tags judged by the true ones, document by document.

    Documents whose true tags are null are left out and counted; a null prediction is one of no tag, and counted. What
    the measures mean and what they are of empty lists is said in :mod:`tamis.evaluation.measures`.
    """

    true: str = "tags"
    predicted: str = "predicted_tags"
    by: str = "id"
    vocabulary: tuple[str, ...] | None = None
    """All tags that may be predicted; says which predictions are out of vocabulary."""
    at: tuple[int, ...] = (1, 3, 5)
    """The ks of precision at k."""
    replicates: int = 1000
    """Bootstrap samples for the intervals; 0: none."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.replicates < 0 or any(k < 1 for k in self.at):
            message = (
                f"TagScores takes 0 or more replicates and ks from 1, not replicates={self.replicates}, at={self.at}."
            )
            raise UsageError(message)
        if self.true == self.predicted:
            message = f"the true and the predicted tags are the same column, {self.true!r}: that judges nothing."
            raise UsageError(message)

    def _lists(self) -> TagLists:
        return TagLists((self.true, self.predicted), self.by)

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the ids and both columns."""
        return self._lists().needs(schema)

    def start(self) -> list[pa.Table]:
        """No documents."""
        return []

    def add(self, state: list[pa.Table], table: pa.Table) -> list[pa.Table]:
        """Add a table's documents."""
        return self._lists().add(state, table)

    def merge(self, left: list[pa.Table], right: list[pa.Table]) -> list[pa.Table]:
        """Both."""
        return left + right

    def finish(self, state: list[pa.Table]) -> TagReport:
        """The report."""
        return self.judged(self._lists().finish(state))

    def judged(self, lists: pa.Table, name: str = "") -> TagReport:
        """The report on what :class:`TagLists` gathered of both columns."""
        with_truth = lists.filter(lists.column(self.true).is_valid())
        keys = np.asarray(with_truth.column(_KEY).to_numpy(), dtype=np.uint64)
        true, predicted = with_truth.column(self.true), with_truth.column(self.predicted)
        report = judge(
            TagTable.of(keys, true, predicted, self.vocabulary), self.at, self.replicates, self.seed, name=name
        )
        left_out = lists.num_rows - with_truth.num_rows
        return replace(report, without_truth=left_out, without_answer=predicted.null_count)
