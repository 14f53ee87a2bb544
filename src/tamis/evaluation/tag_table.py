"""True and predicted tags of documents as sparse pairs (document, tag): what every measure is computed from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Pairs", "TagTable"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Documents and tags by number, ``int64`` of shape ``(pairs,)``, by document and then in the order of its list."""

    rows: Ints
    codes: Ints

    def per_row(self, documents: int) -> Ints:
        """Tags of each document."""
        counts: Ints = np.bincount(self.rows, minlength=documents)
        return counts

    def places(self, documents: int) -> Ints:
        """The place of each tag in its document's list, from 0."""
        lengths = self.per_row(documents)
        starts: Ints = np.cumsum(lengths) - lengths
        places: Ints = np.arange(len(self.rows)) - starts[self.rows]
        return places

    def take(self, rows: Ints, documents: int) -> Pairs:
        """The pairs of these documents, numbered in this order."""
        lengths = self.per_row(documents)
        starts = np.cumsum(lengths) - lengths
        taken = lengths[rows]
        within = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
        return Pairs(np.repeat(np.arange(len(rows)), taken), self.codes[np.repeat(starts[rows], taken) + within])


@dataclass(frozen=True)
class TagTable:
    """The tags of ``n`` documents, in ascending order of their keys."""

    keys: npt.NDArray[np.uint64]
    """Hashes of the ids, shape ``(n,)``."""
    tags: tuple[str, ...]
    """The name of each tag number."""
    true: Pairs
    predicted: Pairs
    """In the order in which they were predicted."""
    known: npt.NDArray[np.bool_] | None = field(default=None, repr=False)
    """Whether each tag is in the vocabulary; ``None`` where there is none."""

    @classmethod
    def of(
        cls,
        keys: npt.NDArray[np.uint64],
        true: pa.ChunkedArray | pa.Array,
        predicted: pa.ChunkedArray | pa.Array,
        vocabulary: Iterable[str] | None = None,
    ) -> TagTable:
        """From two ``list<string>`` columns without repetitions in a list; a null list is empty."""
        order = np.argsort(keys, kind="stable")
        lists = [_flat(column.take(pa.array(order))) for column in (true, predicted)]
        known = None if vocabulary is None else frozenset(vocabulary)
        names = sorted({*(known or ()), *(name for _, values in lists for name in pc.unique(values).to_pylist())})
        coded = [Pairs(rows, _codes(values, names)) for rows, values in lists]
        within = None if known is None else np.array([name in known for name in names], dtype=np.bool_)
        return cls(keys[order], tuple(names), coded[0], coded[1], within)

    @property
    def documents(self) -> int:
        """How many."""
        return len(self.keys)

    @property
    def hits(self) -> npt.NDArray[np.bool_]:
        """Which of the predicted pairs are true ones."""
        each = max(1, len(self.tags))
        return np.isin(self.predicted.rows * each + self.predicted.codes, self.true.rows * each + self.true.codes)

    def take(self, rows: Ints) -> TagTable:
        """These documents, in this order."""
        true, predicted = (pairs.take(rows, self.documents) for pairs in (self.true, self.predicted))
        return TagTable(self.keys[rows], self.tags, true, predicted, self.known)

    def predicting(self, rows: Ints, codes: Ints) -> TagTable:
        """The same documents with other predictions."""
        return TagTable(self.keys, self.tags, self.true, Pairs(rows, codes), self.known)

    def renamed(self, tags: Sequence[str]) -> TagTable:
        """The same with tags numbered as in ``tags``, which holds them all."""
        place = {name: i for i, name in enumerate(tags)}
        new = np.array([place[name] for name in self.tags], dtype=np.int64)
        known = None
        if self.known is not None:
            known = np.zeros(len(tags), dtype=np.bool_)
            known[new[self.known]] = True
        true, predicted = (Pairs(pairs.rows, new[pairs.codes]) for pairs in (self.true, self.predicted))
        return TagTable(self.keys, tuple(tags), true, predicted, known)

    def followed_by(self, other: TagTable) -> TagTable:
        """Both one after the other, of tables that number their tags alike: the keys are no longer in order."""
        n = self.documents

        def both(left: Pairs, right: Pairs) -> Pairs:
            return Pairs(np.concatenate([left.rows, right.rows + n]), np.concatenate([left.codes, right.codes]))

        keys = np.concatenate([self.keys, other.keys])
        return TagTable(keys, self.tags, both(self.true, other.true), both(self.predicted, other.predicted), self.known)


def _flat(column: pa.ChunkedArray | pa.Array) -> tuple[Ints, pa.Array]:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    whole = pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole
    return np.asarray(pc.list_parent_indices(whole), dtype=np.int64), pc.list_flatten(whole)


def _codes(values: pa.Array, names: Sequence[str]) -> Ints:
    found = pc.index_in(values, value_set=pa.array(names, values.type))
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)
