"""Folds that look at the documents of a selection: their ids, texts and sources."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.hashing import hash64
from tamis.selection.sample import Cut, Resample
from tamis.selection.weights import ids_of, numbers_of
from tamis.stage import Fold, Needs
from tamis.table import require, text

__all__ = ["AroundCut", "Excerpts", "HashesFound", "IdCheck", "Ids", "Several", "TextHashes", "Values"]

_CHECKED = 1 << 20
"""Distinct ids up to which each is checked; of more, those with the lowest hashes."""
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Several(Fold[tuple[Any, ...], tuple[Any, ...]]):
    """Several folds in one pass; the answers are theirs, in order."""

    folds: tuple[Fold[Any, Any], ...]

    def on_text_field(self, text_field: str) -> Several:
        """Each with the dataset's text field."""
        return Several(tuple(each.on_text_field(text_field) for each in self.folds))

    def needs(self, schema: pa.Schema) -> Needs:
        """What any of them reads."""
        needs = [each.needs(schema) for each in self.folds]
        texts = dict.fromkeys(name for each in needs for name in each.texts)
        return Needs(tuple(texts), tuple(dict.fromkeys(n for each in needs for n in each.reads if n not in texts)))

    def start(self) -> tuple[Any, ...]:
        """Theirs."""
        return tuple(each.start() for each in self.folds)

    def add(self, state: tuple[Any, ...], table: pa.Table) -> tuple[Any, ...]:
        """Each adds the table."""
        return tuple(each.add(own, table) for each, own in zip(self.folds, state, strict=True))

    def merge(self, left: tuple[Any, ...], right: tuple[Any, ...]) -> tuple[Any, ...]:
        """Each merges its own."""
        return tuple(each.merge(a, b) for each, a, b in zip(self.folds, left, right, strict=True))

    def finish(self, state: tuple[Any, ...]) -> tuple[Any, ...]:
        """Their answers."""
        return tuple(each.finish(own) for each, own in zip(self.folds, state, strict=True))


@dataclass(frozen=True)
class Ids:
    """What ids are like."""

    documents: int
    copies: int
    """Documents whose id and content another one has, too; of very many, as far as they were looked at."""
    clash: int | None
    """The hash of an id that documents of different content share; None if there is none."""


@dataclass
class _IdState:
    hashes: Hashes
    contents: Hashes
    documents: int = 0
    bound: int = (1 << 64) - 1
    """Ids whose hash is above are not looked at."""


@dataclass(frozen=True)
class IdCheck(Fold[_IdState, Ids]):
    """Whether an id stands for one document: counts copies, and finds an id of documents that weigh differently.

    The state is bounded: a million distinct ids, those with the lowest hashes, with all their contents.
    """

    columns: tuple[str, ...]
    """Numbers that tell documents apart."""
    by: str = "id"

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads ids and numbers."""
        return Needs(reads=(self.by, *self.columns))

    def start(self) -> _IdState:
        """No documents."""
        return _IdState(np.empty(0, np.uint64), np.empty(0, np.uint64))

    def add(self, state: _IdState, table: pa.Table) -> _IdState:
        """Add a table's documents."""
        hashes = hash64(require(table, self.by, self.name).to_pylist())
        numbers = np.array([numbers_of(require(table, name, self.name)) for name in self.columns])
        rows = np.ascontiguousarray(numbers.reshape(len(self.columns), -1).T).view(np.uint64)
        contents = np.zeros(len(hashes), dtype=np.uint64)
        for column in range(rows.shape[1]):
            contents = contents * np.uint64(0x9E37_79B9_7F4A_7C15) ^ rows[:, column]
        return self.merge(state, _IdState(hashes, contents, len(hashes)))

    def merge(self, left: _IdState, right: _IdState) -> _IdState:
        """Both."""
        both = _IdState(
            np.concatenate([left.hashes, right.hashes]),
            np.concatenate([left.contents, right.contents]),
            left.documents + right.documents,
            min(left.bound, right.bound),
        )
        return self._lowest(both) if len(both.hashes) > 2 * _CHECKED else both

    def _lowest(self, state: _IdState) -> _IdState:
        distinct = np.unique(state.hashes)
        bound = min(state.bound, int(distinct[_CHECKED - 1])) if len(distinct) > _CHECKED else state.bound
        kept = state.hashes <= np.uint64(bound)
        return _IdState(state.hashes[kept], state.contents[kept], state.documents, bound)

    def finish(self, state: _IdState) -> Ids:
        """The answer."""
        state = self._lowest(state)
        pairs = np.unique(np.stack([state.hashes, state.contents], axis=1), axis=0)
        distinct, times = np.unique(pairs[:, 0], return_counts=True)
        clash = int(distinct[np.flatnonzero(times > 1)[0]]) if (times > 1).any() else None
        return Ids(state.documents, len(state.hashes) - len(distinct), clash)


@dataclass(frozen=True)
class Values(Fold["Counter[str]", "Counter[str]"]):
    """How many documents have each value of a column; the state grows with the values."""

    column: str

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the column."""
        return Needs(reads=(self.column,))

    def start(self) -> Counter[str]:
        """None."""
        return Counter()

    def add(self, state: Counter[str], table: pa.Table) -> Counter[str]:
        """Count a table's values."""
        state.update("" if v is None else str(v) for v in require(table, self.column, self.name).to_pylist())
        return state

    def merge(self, left: Counter[str], right: Counter[str]) -> Counter[str]:
        """Both."""
        left.update(right)
        return left

    def finish(self, state: Counter[str]) -> Counter[str]:
        """The counts, in the order of the values."""
        return Counter(dict(sorted(state.items())))


@dataclass(frozen=True)
class TextHashes(Fold[Hashes, Hashes]):
    """The hashes of the texts, distinct and ascending; of more than ``most`` the lowest."""

    most: int = 100_000
    text_field: str | None = None

    def on_text_field(self, text_field: str) -> TextHashes:
        """The dataset's text field, where none was named."""
        return replace(self, text_field=text_field) if self.text_field is None else self

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the text."""
        return Needs(texts=(self.text_field or "text",))

    def start(self) -> Hashes:
        """None."""
        return np.empty(0, np.uint64)

    def add(self, state: Hashes, table: pa.Table) -> Hashes:
        """Add a table's texts."""
        return self.merge(state, hash64(text(table, self.text_field or "text", self.name).to_pylist()))

    def merge(self, left: Hashes, right: Hashes) -> Hashes:
        """Both."""
        return np.union1d(left, right)[: self.most]

    def finish(self, state: Hashes) -> Hashes:
        """The hashes."""
        return state


@dataclass(frozen=True)
class HashesFound(Fold[npt.NDArray[np.bool_], int]):
    """How many of some texts are among the documents, by their hashes."""

    hashes: tuple[int, ...]
    """Ascending."""
    text_field: str | None = None

    def on_text_field(self, text_field: str) -> HashesFound:
        """The dataset's text field, where none was named."""
        return replace(self, text_field=text_field) if self.text_field is None else self

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the text."""
        return Needs(texts=(self.text_field or "text",))

    def start(self) -> npt.NDArray[np.bool_]:
        """None."""
        return np.zeros(len(self.hashes), dtype=np.bool_)

    def add(self, state: npt.NDArray[np.bool_], table: pa.Table) -> npt.NDArray[np.bool_]:
        """Look a table's texts up."""
        wanted = np.array(self.hashes, dtype=np.uint64)
        found = np.isin(wanted, hash64(text(table, self.text_field or "text", self.name).to_pylist()))
        return state | found

    def merge(self, left: npt.NDArray[np.bool_], right: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Both."""
        return left | right

    def finish(self, state: npt.NDArray[np.bool_]) -> int:
        """The number."""
        return int(state.sum())


Ranked = list[tuple[float, str]]


@dataclass(frozen=True)
class AroundCut(Fold[tuple[Ranked, Ranked], tuple[Ranked, Ranked]]):
    """The (score, id) of the documents just above a cut, lowest first, and of those just below, highest first."""

    asked: Resample
    cut: Cut
    most: int = 3

    def needs(self, schema: pa.Schema) -> Needs:
        """What the choice reads."""
        return Needs(reads=self.asked.needs(schema).reads)

    def start(self) -> tuple[Ranked, Ranked]:
        """None."""
        return [], []

    def add(self, state: tuple[Ranked, Ranked], table: pa.Table) -> tuple[Ranked, Ranked]:
        """Look at a table's documents."""
        ids, scores = self.asked.scores(table)
        own = scores[:, 0]
        better = own >= self.cut.score
        # Copies are one document: as many different scores hold at least as many documents.
        near = np.isin(own, np.unique(own[better])[: self.most + 1])
        near |= np.isin(own, np.unique(own[(own <= self.cut.score) & (own > -np.inf)])[-self.most - 1 :])
        ranked = [(float(own[row]), ids[int(row)].as_py()) for row in np.flatnonzero(near)]
        above = [each for each in ranked if (-each[0], each[1]) <= (-self.cut.score, self.cut.id)]
        below = [each for each in ranked if (-each[0], each[1]) > (-self.cut.score, self.cut.id)]
        return self.merge(state, (above, below))

    def merge(self, left: tuple[Ranked, Ranked], right: tuple[Ranked, Ranked]) -> tuple[Ranked, Ranked]:
        """Both; copies of a document are shown once."""
        above, below = {*left[0], *right[0]}, {*left[1], *right[1]}
        return (
            heapq.nsmallest(self.most, above),
            heapq.nsmallest(self.most, below, key=lambda each: (-each[0], each[1])),
        )

    def finish(self, state: tuple[Ranked, Ranked]) -> tuple[Ranked, Ranked]:
        """Both sides."""
        return state


@dataclass(frozen=True)
class Excerpts(Fold[dict[str, str], dict[str, str]]):
    """The beginnings of the texts of a few documents, by id."""

    ids: tuple[str, ...]
    length: int = 300
    text_field: str | None = None
    by: str = "id"

    def on_text_field(self, text_field: str) -> Excerpts:
        """The dataset's text field, where none was named."""
        return replace(self, text_field=text_field) if self.text_field is None else self

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the text and the id."""
        return Needs(texts=(self.text_field or "text",), reads=(self.by,))

    def start(self) -> dict[str, str]:
        """None."""
        return {}

    def add(self, state: dict[str, str], table: pa.Table) -> dict[str, str]:
        """Look at a table's documents."""
        ids = ids_of(table, self.by, self.name).to_pylist()
        rows = [row for row, name in enumerate(ids) if name in self.ids]
        texts = text(table, self.text_field or "text", self.name).take(pa.array(rows, pa.int64())).to_pylist()
        found = {ids[row]: (content or "")[: self.length] for row, content in zip(rows, texts, strict=True)}
        return self.merge(state, found)

    def merge(self, left: dict[str, str], right: dict[str, str]) -> dict[str, str]:
        """Both."""
        for name, content in right.items():  # of two texts under one id the first in order, however they were read
            left[name] = min(left.get(name, content), content)
        return left

    def finish(self, state: dict[str, str]) -> dict[str, str]:
        """The beginnings."""
        return state
