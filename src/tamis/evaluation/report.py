"""What an evaluation found, as plain values: measures with intervals, each tag, a comparison with another run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from tamis.errors import UsageError
from tamis.evaluation.bootstrap import interval, paired, replicates
from tamis.evaluation.measures import Judged, measure
from tamis.evaluation.tag_table import Ints, TagTable

__all__ = ["Baseline", "Comparison", "Difference", "Measure", "OfTag", "TagReport", "compare", "judge", "most_frequent"]

LEVEL = 0.95
"""Share of the bootstrap samples that an interval holds."""
_UNKNOWN_SHOWN = 20
_TRIED = 10
"""Numbers of frequent tags that the baseline chooses from are 1 to this."""


@dataclass(frozen=True)
class Measure:
    """One measure, with the bounds of its 95 % interval (NaN without bootstrap samples)."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OfTag:
    """One tag."""

    tag: str
    support: int
    """Documents that truly have it."""
    predicted: int
    """Documents for which it was predicted."""
    right: int
    """Documents for which both hold."""

    @property
    def precision(self) -> float:
        """Right / predicted; 0 where it was never predicted."""
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Right / support; 0 where no document has it."""
        return self.right / self.support if self.support else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.right / (self.predicted + self.support) if self.predicted + self.support else 0.0


@dataclass(frozen=True)
class Difference:
    """One measure of two runs."""

    name: str
    first: float
    second: float
    difference: float
    """First minus second."""
    low: float
    high: float
    """The bounds of the difference's 95 % interval, by a paired bootstrap over documents."""
    p: float
    """Two-sided, by approximate randomisation over documents; not adjusted for looking at several measures."""


@dataclass(frozen=True)
class Comparison:
    """Two runs over the same documents."""

    other: str
    documents: int
    better: int
    """Documents whose Jaccard index is higher in the first run."""
    worse: int
    same: int
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Baseline:
    """What a method that reads little or nothing reaches on the same documents."""

    name: str
    how: str
    measures: tuple[Measure, ...]


@dataclass(frozen=True)
class TagReport:
    """How well predicted tags fit the true ones."""

    name: str
    documents: int
    """That were judged: with true tags, be it none."""
    without_truth: int
    """Documents whose true tags are null or missing, and which are left out."""
    without_answer: int
    """Documents without a prediction (null), which count as if no tag had been predicted."""
    repeated: int
    """Documents whose id another one has as well: they are resampled together."""
    measures: tuple[Measure, ...]
    tags: tuple[OfTag, ...]
    """Every tag that is true or predicted somewhere, by falling support."""
    unknown: tuple[tuple[str, int], ...]
    """The most frequent predicted tags that are not in the vocabulary, with how often."""
    sizes: tuple[tuple[int, int], ...]
    """How many documents have 0, 1, 2 ... true tags, and predicted tags."""
    vocabulary: int | None
    """Tags in the vocabulary, ``None`` where none was given."""
    replicates: int
    seed: int
    baselines: tuple[Baseline, ...] = ()
    comparison: Comparison | None = None
    notes: tuple[str, ...] = ()
    """Sentences on what a reader should know before the figures are believed."""
    table: TagTable | None = field(default=None, repr=False, compare=False)
    """The documents themselves, from which it can be compared."""

    def __getitem__(self, name: str) -> float:
        """The value of a measure: ``report["micro_f1"]``."""
        values = {m.name: m.value for m in self.measures}
        if name not in values:
            message = f"there is no measure {name!r} here. There is: {', '.join(values)}."
            raise KeyError(message)
        return values[name]

    def as_json(self) -> dict[str, Any]:
        """Everything as values that JSON knows: numbers to 6 digits after the point, null for an unknown one."""
        content = {k: v for k, v in asdict(replace(self, table=None)).items() if k != "table"}
        content["level"] = LEVEL
        scores = [{"precision": t.precision, "recall": t.recall, "f1": t.f1} for t in self.tags]
        content["tags"] = [t | s for t, s in zip(content["tags"], scores, strict=True)]
        rounded: dict[str, Any] = _plain(content)
        return rounded

    def __repr__(self) -> str:
        shown = ", ".join(f"{m.name} {m.value:.3f}" for m in self.measures if m.name in {"micro_f1", "macro_f1"})
        return f"<TagReport {self.name}: {self.documents:,} documents, {shown}>"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def judge(table: TagTable, at: tuple[int, ...], number: int, seed: int, *, name: str = "") -> TagReport:
    """Measure a table of tags.

    Args:
        table: What was true and predicted.
        at: The ks of precision at k.
        number: Bootstrap samples; 0: no intervals.
        seed: Of the samples.
        name: Of the run.
    """
    return TagReport(
        name=name,
        documents=table.documents,
        without_truth=0,
        without_answer=0,
        repeated=table.documents - len(np.unique(table.keys)),
        measures=measures_of(table, at, number, seed),
        tags=_of_tags(table),
        unknown=_unknown(table),
        sizes=_sizes(table),
        vocabulary=None if table.known is None else int(table.known.sum()),
        replicates=number,
        seed=seed,
        notes=tuple(_notes(table)),
        table=table,
    )


def measures_of(table: TagTable, at: tuple[int, ...], number: int, seed: int) -> tuple[Measure, ...]:
    """The measures alone."""
    judged = Judged.of(table, at)
    values = measure(judged, np.ones((table.documents, 1), np.uint8))
    samples = replicates(judged, table.keys, number, seed)
    found = []
    for name, (value,) in values.items():
        low, high = interval(samples.get(name, np.empty(0)), value, LEVEL)
        found.append(Measure(name, float(value), max(low, 0.0), min(high, 1.0)))
    return tuple(found)


def compare(first: TagReport, second: TagReport) -> Comparison:
    """Two reports, document by document: joined by id, over the documents that both have.

    Raises :class:`UsageError` where they share no document, where an id occurs twice, or where their true tags differ.
    """
    one, other = _common(first, second)
    at = tuple(int(m.name.rsplit("_", 1)[1]) for m in first.measures if m.name.startswith("precision_at_"))
    number, seed = first.replicates, first.seed
    ready = [Judged.of(table, at) for table in (one, other)]
    ones = np.ones((one.documents, 1), np.uint8)
    values = [measure(judged, ones) for judged in ready]
    samples = [replicates(judged, one.keys, number, seed) for judged in ready]
    chances = paired(one, other, at, number, seed)
    differences = []
    for name in (n for n in values[0] if n in values[1]):
        left, right = float(values[0][name][0]), float(values[1][name][0])
        gaps = samples[0][name] - samples[1][name] if number else np.empty(0)
        bounds = interval(gaps, left - right, LEVEL)
        differences.append(Difference(name, left, right, left - right, *bounds, chances.get(name, math.nan)))
    gap = ready[0].sums[5] - ready[1].sums[5]  # of the documents' own Jaccard indices
    better, worse = int((gap > 0).sum()), int((gap < 0).sum())
    return Comparison(second.name, one.documents, better, worse, one.documents - better - worse, tuple(differences))


def _common(first: TagReport, second: TagReport) -> tuple[TagTable, TagTable]:
    if first.table is None or second.table is None:
        message = "a report that was read from a file holds no documents; evaluate both runs again to compare them."
        raise UsageError(message)
    tables = first.table, second.table
    for report in (first, second):
        if report.repeated:
            message = (
                f"{report.name or 'a run'} has {report.repeated:,} documents whose id occurs more than once, so that "
                "runs cannot be joined by id. Give every document an id of its own."
            )
            raise UsageError(message)
    _, left, right = np.intersect1d(tables[0].keys, tables[1].keys, assume_unique=True, return_indices=True)
    if not len(left):
        message = (
            f"{first.name or 'the first run'} and {second.name or 'the second'} share no document: their ids differ."
        )
        raise UsageError(message)
    names = sorted({*tables[0].tags, *tables[1].tags})
    one, other = tables[0].take(left).renamed(names), tables[1].take(right).renamed(names)
    each = max(1, len(names))
    truths = [np.sort(t.true.rows * each + t.true.codes) for t in (one, other)]
    if not np.array_equal(truths[0], truths[1]):
        message = (
            f"{first.name or 'the first run'} and {second.name or 'the second'} have other true tags for the same ids. "
            "Compare predictions for one and the same truth."
        )
        raise UsageError(message)
    return one, other


def most_frequent(table: TagTable, train: Sequence[Sequence[str]] | None = None) -> tuple[TagTable, str]:
    """The same few tags for every document: the k most frequent ones, with the k that has the highest micro F1.

    Counted and chosen on ``train`` (tags by document), or else on the judged documents themselves, which flatters.
    Returns the predictions and how they were made.
    """
    lists = train
    if lists is None:
        counts = np.bincount(table.true.codes, minlength=len(table.tags))
        ranked = {table.tags[i]: int(counts[i]) for i in np.flatnonzero(counts)}
        documents, total = table.documents, len(table.true.codes)
    else:
        ranked, documents, total = {}, len(lists), 0
        for tag in (tag for tags in lists for tag in tags):
            ranked[tag] = ranked.get(tag, 0) + 1
            total += 1
    best = sorted(ranked, key=lambda tag: (-ranked[tag], tag))[:_TRIED]
    scores = [2 * sum(ranked[t] for t in best[:k]) / (k * documents + total) for k in range(1, len(best) + 1)]
    chosen = best[: int(np.argmax(scores)) + 1] if scores else []
    grown = table.renamed(sorted({*table.tags, *chosen}))
    codes = np.array([grown.tags.index(tag) for tag in chosen], dtype=np.int64)
    n = table.documents
    predicted = grown.predicting(np.repeat(np.arange(n), len(codes)), np.tile(codes, n))
    where = "the training data" if train is not None else "these documents themselves, which flatters"
    return predicted, f"{', '.join(chosen)} for every document; counted on {where}"


def _of_tags(table: TagTable) -> tuple[OfTag, ...]:
    hits = table.hits
    lists = table.true.codes, table.predicted.codes, table.predicted.codes[hits]
    counts = [np.bincount(codes, minlength=len(table.tags)).tolist() for codes in lists]
    found = [OfTag(tag, *row) for tag, *row in zip(table.tags, *counts, strict=True) if any(row)]
    return tuple(sorted(found, key=lambda each: (-each.support, -each.predicted, each.tag)))


def _unknown(table: TagTable) -> tuple[tuple[str, int], ...]:
    if table.known is None:
        return ()
    counts = np.bincount(table.predicted.codes[~table.known[table.predicted.codes]], minlength=len(table.tags))
    order = np.argsort(-counts, kind="stable")[:_UNKNOWN_SHOWN]
    return tuple((table.tags[i], int(counts[i])) for i in order if counts[i])


def _sizes(table: TagTable) -> tuple[tuple[int, int], ...]:
    counts: list[Ints] = [np.bincount(p.per_row(table.documents)) for p in (table.true, table.predicted)]
    longest = max(map(len, counts))
    true, predicted = (np.pad(c, (0, longest - len(c))).tolist() for c in counts)
    return tuple(zip(true, predicted, strict=True))


def _notes(table: TagTable) -> list[str]:
    notes = []
    if table.documents < 100:
        notes.append(f"{table.documents:,} documents are few: the intervals are wide, and themselves uncertain.")
    if not len(table.predicted.codes):
        notes.append("No tag was predicted for any document.")
    if table.known is not None and len(table.true.codes):
        missing = int((~table.known[table.true.codes]).sum())
        if missing:
            notes.append(
                f"{missing:,} of {len(table.true.codes):,} true tags are not in the vocabulary: it is not complete."
            )
    return notes
