"""Where EM starts: k-means on a bounded sample of the embeddings, the same in any sharding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from tamis.errors import BadRecordError
from tamis.hashing import hash64, uniform
from tamis.selection.mixture import Mixture
from tamis.selection.vectors import check_column, read_vectors, reads_of
from tamis.stage import Fold, Needs
from tamis.table import require

__all__ = ["Sample", "SampleVectors", "start_of"]

_LLOYD = 10
"""Iterations of k-means after k-means++; EM does the rest."""


@dataclass
class Sample:
    """The embeddings whose ids have the lowest hashes."""

    keys: npt.NDArray[np.uint64]
    """[sampled]: of the id."""
    ties: npt.NDArray[np.uint64]
    """[sampled]: of the vector; it orders documents of one id."""
    vectors: npt.NDArray[Any] | None = None
    """[sampled, width]: float64 where the column is, else float32; None before the first."""
    documents: int = 0
    """With an embedding, those held out among them."""
    held_out_documents: int = 0
    missing: int = 0
    """Documents without an embedding."""


@dataclass(frozen=True)
class SampleVectors(Fold[Sample, Sample]):
    """Draws ``size`` embeddings at random, a function of (seed, ids) alone, and counts the documents.

    The state is bounded: twice the sample. Documents that are held out (``uniform(id, seed) < held_out``, as in
    :class:`tamis.selection.mixture.Part`) are counted and not drawn.
    """

    size: int
    column: str = "embedding"
    held_out: float = 0.0
    seed: int = 0

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the embeddings and the ids."""
        check_column(schema, self.column, self.name)
        return Needs(reads=reads_of(schema, self.column, needs_id=True))

    def start(self) -> Sample:
        """No documents."""
        return Sample(np.empty(0, np.uint64), np.empty(0, np.uint64))

    def add(self, state: Sample, table: pa.Table) -> Sample:
        """Add a table's documents.

        Raises:
            BadRecordError: An embedding has another width, or holds what is no finite number.
        """
        width = None if state.vectors is None else state.vectors.shape[1]
        found = read_vectors(table, self.column, self.name, BadRecordError, width=width)
        state.missing += int((~found.present).sum())
        state.documents += len(found.values)
        if not len(found.values):
            return state
        ids = require(table, "id", self.name).to_numpy()[found.present].tolist()
        eligible = np.ones(len(ids), dtype=np.bool_)
        if self.held_out:
            eligible = uniform(ids, self.seed) >= self.held_out
            state.held_out_documents += int((~eligible).sum())
        keys = hash64(ids, self.seed + 2)
        if len(state.keys) >= self.size:
            eligible &= keys <= state.keys.max()
        rows = np.flatnonzero(eligible)
        wide = np.float64 if found.values.dtype == np.float64 else np.float32
        vectors = np.ascontiguousarray(found.values[rows], dtype=wide)
        ties = np.array([xxhash.xxh3_64_intdigest(vector.tobytes()) for vector in vectors], dtype=np.uint64)
        return self._with(state, keys[rows], ties, vectors)

    def _with(self, state: Sample, keys: Any, ties: Any, vectors: npt.NDArray[Any]) -> Sample:
        state.keys = np.concatenate([state.keys, keys])
        state.ties = np.concatenate([state.ties, ties])
        state.vectors = vectors if state.vectors is None else np.concatenate([state.vectors, vectors])
        return self._lowest(state) if len(state.keys) > 2 * self.size else state

    def _lowest(self, state: Sample) -> Sample:
        order = np.lexsort((state.ties, state.keys))[: self.size]
        state.keys, state.ties = state.keys[order], state.ties[order]
        state.vectors = None if state.vectors is None else state.vectors[order]
        return state

    def merge(self, left: Sample, right: Sample) -> Sample:
        """Both.

        Raises:
            BadRecordError: They hold vectors of different widths.
        """
        left.documents += right.documents
        left.held_out_documents += right.held_out_documents
        left.missing += right.missing
        if right.vectors is None:
            return left
        if left.vectors is not None and left.vectors.shape[1] != right.vectors.shape[1]:
            message = (
                f"{self.name}: the column {self.column!r} holds embeddings of {left.vectors.shape[1]} and of "
                f"{right.vectors.shape[1]} dimensions. Use those of one model."
            )
            raise BadRecordError(message)
        return self._with(left, right.keys, right.ties, right.vectors)

    def finish(self, state: Sample) -> Sample:
        """The sample, in the order of the hashes."""
        return self._lowest(state)


def start_of(sample: npt.NDArray[Any], components: int, *, reg_covar: float, seed: int, embedder: str = "") -> Mixture:
    """A mixture to start from: clusters of the sample, with the variance that all clusters have in common.

    Centres are drawn by k-means++ (Arthur and Vassilvitskii 2007) and moved by k-means. A cluster of a few documents
    knows little of its own variances; EM finds them.

    Args:
        sample: [documents, width], in an order that does not depend on how they were read.
        components: How many are wanted; there are fewer where there are fewer different vectors.
        reg_covar: Added to the variances.
        seed: Of the draws.
        embedder: The model that the vectors come from.
    """
    middle = sample.mean(axis=0, dtype=np.float64)
    away = sample - middle
    scale = float(np.abs(away).max()) or 1.0
    # float32 after centring and scaling: the start decides where EM goes, and not how right it is.
    x = (away / scale).astype(np.float32)
    lengths = np.einsum("ij,ij->i", x, x)
    centres = x[_spread(x, lengths, components, seed)]
    nearest = np.full(len(x), -1)
    for _ in range(_LLOYD):
        before, nearest = nearest, _nearest(x, centres)
        if (before == nearest).all():
            break
        sizes, sums = _sums(x, nearest, len(centres))
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres).astype(np.float32)
    sizes, sums = _sums(x, nearest, len(centres))
    kept = sizes > 0
    sizes, means = sizes[kept], sums[kept] / sizes[kept][:, None]
    # Of all clusters together: mean square less what the clusters' means explain.
    spread = np.einsum("ij,ij->j", x, x, dtype=np.float64) - np.einsum("i,ij,ij->j", sizes, means, means)
    variances = np.maximum(spread / len(x), 0) * scale**2 + reg_covar
    return Mixture(sizes / sizes.sum(), means * scale + middle, np.tile(variances, (len(means), 1)), embedder=embedder)


def _spread(
    x: npt.NDArray[np.float32], lengths: npt.NDArray[np.float32], count: int, seed: int
) -> npt.NDArray[np.int64]:
    """k-means++: rows of ``x`` [documents, width], each drawn by its squared distance to the nearest one before."""
    draws = uniform((f"centre {i}" for i in range(count)), seed)
    chosen: list[int] = []
    far = np.ones(len(x))
    for draw in draws:
        total = np.cumsum(far)
        if not total[-1] > 0:
            break  # every vector is a centre
        row = int(np.searchsorted(total, draw * total[-1], side="right"))
        if row == len(x):  # rounded up
            row = int(np.flatnonzero(far)[-1])
        chosen.append(row)
        away = lengths + lengths[row] - 2 * (x @ x[row])
        # What rounding leaves of the distance between equal vectors.
        away[away < 1e-5 * (lengths + lengths[row])] = 0
        far = away.astype(np.float64) if len(chosen) == 1 else np.minimum(far, away)
    return np.array(chosen)


def _nearest(x: npt.NDArray[np.float32], centres: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The centre nearest to each document."""
    half = 0.5 * np.einsum("ij,ij->i", centres, centres)
    step = max(1, (1 << 22) // len(centres))
    return np.concatenate([(x[i : i + step] @ centres.T - half).argmax(axis=1) for i in range(0, len(x), step)])


def _sums(
    x: npt.NDArray[np.float32], nearest: npt.NDArray[np.int64], count: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Documents of each cluster, and their sum, in float64."""
    sizes = np.bincount(nearest, minlength=count)
    order = np.argsort(nearest, kind="stable")
    present = np.flatnonzero(sizes)
    sums = np.zeros((count, x.shape[1]))
    sums[present] = np.add.reduceat(x[order], np.cumsum(sizes[present]) - sizes[present], axis=0, dtype=np.float64)
    return sizes.astype(np.float64), sums
