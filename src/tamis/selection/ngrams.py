"""Importance weights from hashed n-grams: count them in the target and in the raw documents, then weigh.

The weight of a document is the sum over its n-grams of ``log p_target - log p_raw`` of their buckets (DSIR: Xie,
Santurkar, Ma and Liang 2023, arXiv:2302.03169). Counting is a fold over each dataset, weighing a stage::

    target = targets.fold(NgramCounts())
    raw = documents.fold(NgramCounts())
    weighed = NgramWeights(log_ratios(raw, target))(documents)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.errors import UsageError
from tamis.hashing import fingerprint, uniform
from tamis.stage import Fold, Needs, Stage, TableFunction
from tamis.table import put, require, text
from tamis.text.hashed_ngrams import HashedNgrams, tokens_of

__all__ = [
    "EPSILON",
    "NgramCounts",
    "NgramExamples",
    "NgramTable",
    "NgramWeights",
    "extremes",
    "kl_divergence",
    "kl_reduction",
    "log_ratios",
    "share_to_fit",
]

EPSILON = 1e-8
"""Added to every probability before its logarithm, as published: an n-gram that is nowhere has a weight, too."""
_BYTES_PER_TOKEN = 5
"""Of English, 4.7 measured (documentation) to 5.2 (news); other languages have longer tokens."""

Counts = npt.NDArray[np.int64]
Ratios = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NgramTable:
    """How often the n-grams of some documents fell into each bucket."""

    features: HashedNgrams
    counts: Counts
    """Of shape (num_buckets,)."""
    documents: int
    """Documents that were counted; with ``share`` below 1 not all that were seen."""
    seen: int

    @property
    def total(self) -> int:
        """The number of n-grams."""
        return int(self.counts.sum())

    def __add__(self, other: NgramTable) -> NgramTable:
        """The table of both datasets, as one target of several files is counted."""
        _check_same(self, other)
        counts = self.counts + other.counts
        return NgramTable(self.features, counts, self.documents + other.documents, self.seen + other.seen)

    def probabilities(self, smoothing: float = 0.0, *, of: str = "the dataset") -> Ratios:
        """Each bucket's share of the n-grams, ``smoothing`` added to every count; ``float64`` adding up to 1.

        Raises :class:`UsageError`, which calls the documents by ``of``, where there is not one n-gram: however much
        smoothing could make a distribution of it, that is a mistake.
        """
        if not self.total:
            message = (
                f"{of} holds not one n-gram: {self.documents} of {self.seen} documents were counted. Is the text field "
                "the right one, are all texts blank, or is the share of documents to fit on too small?"
            )
            raise UsageError(message)
        smoothed = self.counts + smoothing
        return np.asarray(smoothed / smoothed.sum(), dtype=np.float64)


@dataclass(frozen=True)
class NgramCounts(Fold[Counts, NgramTable]):
    """Counts the n-grams of all documents, or of a share of them that (seed, id) decides.

    State: the counts, the documents counted and those seen, ``int64`` of shape (num_buckets + 2,). States add up, so
    any sharding gives the same counts. To fit on part of the data, a document takes part where ``uniform(seed, id)``
    is below ``share``: unlike "stop after so many tokens", that does not depend on which worker read what, nor on
    what comes first in the files. :func:`share_to_fit` says which share is about so many n-grams.
    """

    features: HashedNgrams = field(default_factory=HashedNgrams)
    text_field: str | None = None
    """Column that is read; the dataset's text field by default."""
    share: float = 1.0
    """Share of the documents that are counted, in (0, 1]."""
    seed: int = 0
    by: str = "id"
    """Column that decides which, where ``share`` is below 1."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            message = f"share must be a number above 0 and at most 1; got {self.share}."
            raise UsageError(message)

    def on_text_field(self, text_field: str) -> NgramCounts:
        """The dataset's text field, where none was named."""
        return replace(self, text_field=text_field) if self.text_field is None else self

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the text, and ``by`` where only a share is counted."""
        return Needs(texts=(self.text_field or "text",), reads=(self.by,) if self.share < 1 else ())

    def start(self) -> Counts:
        """Nothing counted."""
        return np.zeros(self.features.num_buckets + 2, dtype=np.int64)

    def add(self, state: Counts, table: pa.Table) -> Counts:
        """Count a table's documents."""
        texts = text(table, self.text_field or "text", self.name)
        state[-1] += len(texts)
        if self.share < 1:
            taken = uniform(require(table, self.by, self.name).to_pylist(), self.seed) < self.share
            texts = texts.filter(pa.array(taken))
        state[-2] += len(texts)
        self.features.count(texts, state[:-2])
        return state

    def merge(self, left: Counts, right: Counts) -> Counts:
        """Both."""
        return left + right  # what has travelled may be memory that is read only

    def finish(self, state: Counts) -> NgramTable:
        """The table."""
        return NgramTable(self.features, state[:-2].copy(), int(state[-2]), int(state[-1]))


def share_to_fit(features: int, text_bytes: int, ngrams: int = 2) -> float:
    """The share of documents that holds about so many n-grams, for ``share`` of :class:`NgramCounts`.

    ``text_bytes`` are those of all texts, of which 5 are taken to be a token: for English within a tenth. A text in a
    language of longer tokens gives fewer n-grams than asked for; :class:`NgramTable` says how many there were.

    >>> share_to_fit(1_000, 25_000), share_to_fit(1_000, 1_000)
    (0.1, 1.0)
    """
    if features < 1:
        message = f"the number of n-grams to fit on must be at least 1; got {features}."
        raise UsageError(message)
    return min(1.0, features * _BYTES_PER_TOKEN / max(1, text_bytes * ngrams))


def log_ratios(raw: NgramTable, *targets: NgramTable, smoothing: float = 0.0) -> Ratios:
    """``log p_target - log p_raw`` of every bucket, ``float64`` of shape (targets, num_buckets).

    Args:
        raw: Counts of the documents to choose from.
        targets: Counts of each target. Tables add up (``+``) to one target of several sets.
        smoothing: Added to every count of a target (Laplace), at least 0.
    """
    if not targets or smoothing < 0:
        message = (
            f"there must be at least one target, and smoothing must be 0 or more; got {len(targets)}, {smoothing}."
        )
        raise UsageError(message)
    for target in targets:
        _check_same(raw, target)
    below = np.log(raw.probabilities(of="the raw dataset") + EPSILON)
    names = [f"target {i + 1}" if len(targets) > 1 else "the target" for i in range(len(targets))]
    above = [np.log(t.probabilities(smoothing, of=name) + EPSILON) for name, t in zip(names, targets, strict=True)]
    return np.stack(above) - below


def _check_same(one: NgramTable, other: NgramTable) -> None:
    if one.features != other.features:
        message = (
            f"counts of different features cannot be compared: {one.features} and {other.features}. "
            "Count both with the same num_buckets, ngrams, hash and tokenizer."
        )
        raise UsageError(message)


@dataclass(frozen=True, eq=False)
class NgramWeights(Stage):
    """Adds each document's importance weight, ``log p_target - log p_raw`` summed over its n-grams.

    A document without n-grams has weight 0. The sum grows with the length of a document, as published;
    ``per_token`` is the variant that does not. A weight depends on the document alone, to the last bit.
    """

    log_diff: Ratios = field(repr=False)
    """What :func:`log_ratios` gives, of shape (targets, num_buckets) or (num_buckets,)."""
    features: HashedNgrams = field(default_factory=HashedNgrams)
    """As they were counted."""
    targets: tuple[str, ...] = ()
    """A name for each of several targets."""
    column: str = "log_weight_ngram"
    """Column that is made (float64); for named targets one for each, ``log_weight_ngram_NAME``."""
    per_token: bool = False
    """Add the weight divided by the number of tokens, too, as ``log_weight_ngram_per_token`` (0 where there are
    none)."""
    count_column: str = "features"
    """Column that is made with the number of n-grams (int64)."""
    text_field: str | None = None

    def __post_init__(self) -> None:
        shape = self._matrix.shape
        if shape[1] != self.features.num_buckets or shape[0] != len(self._columns):
            message = (
                f"log_diff has the shape {self.log_diff.shape}, which is not one row of {self.features.num_buckets} "
                f"buckets for each of {len(self._columns)} targets. Name the targets, and use the features that were "
                "counted."
            )
            raise UsageError(message)
        if not np.isfinite(self.log_diff).all():
            message = "log_diff holds numbers that are not finite; make it with log_ratios()."
            raise UsageError(message)

    @property
    def _matrix(self) -> Ratios:
        return np.atleast_2d(np.asarray(self.log_diff, dtype=np.float64))

    @property
    def _columns(self) -> tuple[str, ...]:
        return tuple(f"{self.column}_{name}" for name in self.targets) or (self.column,)

    def identity(self) -> Mapping[str, str]:
        """The numbers it weighs by."""
        return {"log_diff": fingerprint(np.ascontiguousarray(self._matrix).tobytes())}

    def on_text_field(self, text_field: str) -> NgramWeights:
        """The dataset's text field, where none was named."""
        return replace(self, text_field=text_field) if self.text_field is None else self

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the text, makes the weights and the number of n-grams."""
        weights = [pa.field(name, pa.float64()) for name in self._columns]
        per_token = [pa.field(f"{name}_per_token", pa.float64()) for name in self._columns if self.per_token]
        made = (*weights, *per_token, pa.field(self.count_column, pa.int64()))
        return Needs(texts=(self.text_field or "text",), makes=made)

    def open(self) -> TableFunction:
        """The function that adds the columns."""
        by_bucket = np.ascontiguousarray(self._matrix.T)

        def weigh(table: pa.Table) -> pa.Table:
            sums, features = self.features.weigh(text(table, self.text_field or "text", self.name), by_bucket)
            tokens = np.maximum(1, tokens_of(features, self.features.ngrams))
            for target, name in enumerate(self._columns):
                table = put(table, name, pa.array(sums[:, target]))
            for target, name in enumerate(self._columns if self.per_token else ()):
                table = put(table, f"{name}_per_token", pa.array(sums[:, target] / tokens))
            return put(table, self.count_column, pa.array(features))

        return weigh


# -- how well a selection fits --------------------------------------------------------------------------------


def kl_divergence(target: NgramTable, other: NgramTable) -> float:
    """KL(target ‖ other) of the hashed n-grams, in nats: 0 where they are the same, never below but by rounding.

    1e-8 is added to every probability before its logarithm, so that a bucket that only the target has costs about 18
    times its share, not infinity.
    """
    _check_same(target, other)
    p, q = target.probabilities(), other.probabilities()
    return float(np.sum(p * (np.log(p + EPSILON) - np.log(q + EPSILON))))


def kl_reduction(targets: Sequence[NgramTable], random: NgramTable, selected: NgramTable) -> float:
    """How much closer to the targets the selected documents are than random ones, in nats; more is better.

    The mean over targets of KL(target ‖ random) - KL(target ‖ selected) of hashed n-grams (section 5 of the DSIR
    paper, where it goes along with accuracy downstream).
    """
    return float(np.mean([kl_divergence(t, random) - kl_divergence(t, selected) for t in targets]))


def extremes(log_diff: Ratios, top: int = 20) -> tuple[list[int], list[int]]:
    """The buckets of the highest and of the lowest log ratios, the most extreme first; of equals the lower number.

    >>> extremes(np.array([0.0, 2.0, -1.0, 2.0]), 2)
    ([1, 3], [2, 0])
    """
    buckets = np.arange(len(log_diff))
    high = np.lexsort((buckets, -log_diff))[:top]
    low = np.lexsort((buckets, log_diff))[:top]
    return high.tolist(), low.tolist()


Entries = tuple[tuple[int, str, int], ...]
"""(bucket, n-gram, how often) of one document."""


@dataclass(frozen=True)
class NgramExamples(Fold[dict[str, tuple[float, Entries]], dict[int, list[tuple[str, int]]]]):
    """Which n-grams the numbers of some buckets stand for: the most frequent ones in a sample of documents.

    The sample is the ``documents`` ids of the lowest ``uniform(seed, id)``, whatever the order and the sharding, so the
    state is bounded: what those documents have in the wanted buckets. Equal ids count as one document.
    """

    features: HashedNgrams
    wanted: tuple[int, ...]
    """Buckets to name."""
    documents: int = 1000
    most: int = 5
    """N-grams per bucket."""
    text_field: str | None = None
    seed: int = 0
    by: str = "id"

    def on_text_field(self, text_field: str) -> NgramExamples:
        """The dataset's text field, where none was named."""
        return replace(self, text_field=text_field) if self.text_field is None else self

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the text and ``by``."""
        return Needs(texts=(self.text_field or "text",), reads=(self.by,))

    def start(self) -> dict[str, tuple[float, Entries]]:
        """No documents."""
        return {}

    def add(self, state: dict[str, tuple[float, Entries]], table: pa.Table) -> dict[str, tuple[float, Entries]]:
        """Look at those of a table's documents that may belong to the sample."""
        ids = require(table, self.by, self.name).to_pylist()
        u = uniform(ids, self.seed)
        worst = max((low for low, _ in state.values()), default=1.0) if len(state) >= self.documents else 1.0
        rows = np.flatnonzero(u <= worst)
        lowest = np.unique(u[rows])[: self.documents]
        rows = rows[u[rows] <= lowest[-1]] if len(lowest) else rows
        if not len(rows):
            return state
        texts = text(table, self.text_field or "text", self.name).take(pa.array(rows))
        found: dict[str, tuple[float, Entries]] = {}
        looked_at: set[tuple[str, str]] = set()  # a text may be there a million times, under one id
        for row, content, buckets in zip(rows, texts.to_pylist(), self.features.buckets(texts), strict=True):
            name = "" if ids[row] is None else str(ids[row])
            if (name, content or "") not in looked_at:
                looked_at.add((name, content or ""))
                self._keep(found, name, (float(u[row]), self._entries(content or "", buckets)))
        return self.merge(state, found)

    def _entries(self, content: str, buckets: npt.NDArray[np.int32]) -> Entries:
        places = np.flatnonzero(np.isin(buckets, self.wanted))
        if not len(places):
            return ()
        ngrams = self.features.listed(content)
        counted = Counter((int(buckets[place]), ngrams[place]) for place in places)
        return tuple(sorted((bucket, ngram, n) for (bucket, ngram), n in counted.items()))

    def _keep(self, state: dict[str, tuple[float, Entries]], name: str, entry: tuple[float, Entries]) -> None:
        # Two texts under one id: whichever comes first in the order of their n-grams, not of their reading.
        state[name] = min(state.get(name, entry), entry)

    def merge(
        self, left: dict[str, tuple[float, Entries]], right: dict[str, tuple[float, Entries]]
    ) -> dict[str, tuple[float, Entries]]:
        """Both."""
        for name, entry in right.items():
            self._keep(left, name, entry)
        if len(left) <= self.documents:
            return left
        order = sorted((low, name) for name, (low, _) in left.items())[: self.documents]
        return {name: left[name] for _, name in order}

    def finish(self, state: dict[str, tuple[float, Entries]]) -> dict[int, list[tuple[str, int]]]:
        """For each wanted bucket, in order: (n-gram, how often in the sample), the most frequent first."""
        totals: dict[int, Counter[str]] = {bucket: Counter() for bucket in self.wanted}
        for _, entries in state.values():
            for bucket, ngram, n in entries:
                totals[bucket][ngram] += n
        return {
            bucket: sorted(counter.items(), key=lambda item: (-item[1], item[0]))[: self.most]
            for bucket, counter in totals.items()
        }
