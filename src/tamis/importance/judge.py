"""How well a selection fits its target: what ``tamis select`` prints, measured on the documents themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np

from tamis.dataset import DocumentDataset
from tamis.importance.choose import Chosen, choose, chosen_of
from tamis.importance.place import Place
from tamis.io.source import FileSource
from tamis.selection.around import AroundCut, Excerpts, HashesFound, Several, TextHashes, Values
from tamis.selection.ngrams import NgramCounts, NgramExamples, NgramTable, extremes, kl_divergence, log_ratios
from tamis.selection.weights import Weights, WeightSummary
from tamis.text.hashed_ngrams import HashedNgrams

__all__ = ["Around", "Divergence", "Ngram", "Quality", "Share", "judge"]

_RANDOM = 977
"""Added to the seed of the choice: the random documents have nothing to do with it."""
_EXTREMES = 10
_SHOWN = 3
_MOST_SOURCES = 50
_FEW = 100
"""Documents of a target below which it is called small."""


@dataclass(frozen=True)
class Divergence:
    """KL(target ‖ documents) of hashed n-grams, in nats, mean over the targets: lower is nearer to the target."""

    selected: float
    random: float
    """Of as many random raw documents."""
    top_k: float
    """Of as many documents of the highest weights."""

    @property
    def reduction(self) -> float:
        """How much nearer than random documents the selected ones are (the KL reduction of the DSIR paper)."""
        return self.random - self.selected

    @property
    def top_k_reduction(self) -> float:
        """The same of the highest weights."""
        return self.random - self.top_k


@dataclass(frozen=True)
class Ngram:
    """A bucket, by the n-grams that fell into it most often."""

    log_ratio: float
    """``log p_target - log p_raw``"""
    ngrams: tuple[str, ...]


@dataclass(frozen=True)
class Share:
    """Of one source."""

    source: str
    raw: int
    selected: int


@dataclass(frozen=True)
class Around:
    """A document near the cut."""

    score: float
    """Its weight, with noise unless the highest were taken."""
    id: str
    text: str
    """Its beginning."""
    selected: bool


@dataclass(frozen=True)
class Quality:
    """What a selection is like."""

    documents: int
    """Raw documents."""
    eligible: int
    """That are long enough, and have a weight."""
    asked: int
    selected: int
    divergence: Divergence
    weights: tuple[Weights, ...]
    """For each target: lowest, highest, effective sample size, share of the largest."""
    top: tuple[Ngram, ...]
    """The buckets most typical of the (first) target."""
    bottom: tuple[Ngram, ...]
    """The least typical."""
    sources: tuple[Share, ...]
    around: tuple[Around, ...]
    """Around the cut of the (first) target, best first."""
    target_in_raw: float
    """Share of the target's texts (at most 100,000 of them) that are among the raw ones, in [0, 1]."""
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        found = asdict(self)
        found["divergence"] |= {
            "reduction": self.divergence.reduction,
            "top_k_reduction": self.divergence.top_k_reduction,
        }
        return found


def judge(
    raw: DocumentDataset,
    targets: Sequence[DocumentDataset],
    chosen: Chosen,
    *,
    place: Place,
    features: HashedNgrams,
    source_field: str | None = None,
) -> Quality:
    """Measure a selection: one pass over the targets, and three over the raw documents (two where top_k was asked for).

    Args:
        raw: The documents that were chosen from.
        targets: What they should be like.
        chosen: What was chosen.
        place: Where the work is done.
        features: What distributions are compared in.
        source_field: Says where a document comes from; by default "source" where there is one, else its file.
    """
    weights = [place.fold(chosen.weights, WeightSummary(name)) for name in chosen.asked.weights]
    edge = place.fold(chosen.weights, AroundCut(chosen.asked, chosen.selection.cuts[0], _SHOWN))
    tables, hashes = [], np.empty(0, np.uint64)
    for target in targets:
        table, found = place.fold(target, Several((NgramCounts(features), TextHashes())))
        tables.append(table)
        hashes = np.union1d(hashes, found)
    raw, column = _with_source(raw, source_field)
    number = sum(chosen.selection.counts)
    share = min(1.0, number / max(1, chosen.selection.documents))
    everything, random, before, inside, texts = place.fold(
        raw,
        Several(
            (
                NgramCounts(features),
                NgramCounts(features, share=share, seed=chosen.asked.seed + _RANDOM),
                Values(column),
                HashesFound(tuple(hashes.tolist())),
                Excerpts(tuple(name for side in edge for _, name in side)),
            )
        ),
    )
    selected, after = place.fold(chosen_of(raw, chosen), Several((NgramCounts(features), Values(column))))
    best = selected
    if not chosen.asked.top_k:
        highest = choose(chosen.weights, replace(chosen.asked, top_k=True), place)
        best = place.fold(chosen_of(raw, highest), NgramCounts(features))
    random = random if random.total else everything  # a share of a few documents may be none
    top, bottom = _extremes(raw, targets[0], everything, tables[0], place)
    quality = Quality(
        documents=chosen.selection.documents,
        eligible=chosen.selection.eligible,
        asked=sum(chosen.selection.quotas),
        selected=number,
        divergence=Divergence(*(_mean(tables, each) for each in (selected, random, best))),
        weights=tuple(weights),
        top=top,
        bottom=bottom,
        sources=_shares(before, after),
        around=tuple(
            Around(score, name, texts.get(name, ""), kept)
            for side, kept in ((edge[0][::-1], True), (edge[1], False))
            for score, name in side
        ),
        target_in_raw=inside / max(1, len(hashes)),
    )
    return replace(quality, notes=tuple(_notes(quality, tables, str(chosen.selection))))


def _with_source(raw: DocumentDataset, field: str | None) -> tuple[DocumentDataset, str]:
    names = raw.schema.names
    if field is not None or "source" in names:
        return raw, field or "source"
    source = cast("FileSource", raw.plan.source)
    extras = replace(source.extras, file_name="file_name")
    return DocumentDataset(replace(source, extras=extras), raw.steps), "file_name"


def _mean(targets: Sequence[NgramTable], other: NgramTable) -> float:
    return float(np.mean([kl_divergence(each, other) for each in targets]))


def _extremes(
    raw: DocumentDataset, target: DocumentDataset, raw_table: NgramTable, target_table: NgramTable, place: Place
) -> tuple[tuple[Ngram, ...], tuple[Ngram, ...]]:
    """The n-grams of the highest and the lowest log ratios, of buckets that are at least of average size.

    The extremes of all would be buckets of a few n-grams, which are there or not by chance.
    """
    ratios = log_ratios(raw_table, target_table)[0]
    sides = []
    for dataset, table, sign in ((target, target_table, 1.0), (raw, raw_table, -1.0)):
        frequent = np.flatnonzero(table.counts * len(table.counts) >= table.total)
        ordered, _ = extremes(sign * ratios[frequent], _EXTREMES)
        buckets = [int(frequent[i]) for i in ordered if sign * ratios[frequent[i]] > 0]
        named = place.fold(dataset, NgramExamples(table.features, tuple(sorted(buckets)), most=_SHOWN))
        sides.append(tuple(Ngram(float(ratios[b]), tuple(name for name, _ in named[b])) for b in buckets))
    return sides[0], sides[1]


def _shares(before: Counter[str], after: Counter[str]) -> tuple[Share, ...]:
    """Of each source, the most selected first; those beyond 50 together."""
    order = sorted(before, key=lambda name: (-after[name], -before[name], name))
    shares = [Share(name, before[name], after[name]) for name in order[:_MOST_SOURCES]]
    rest = order[_MOST_SOURCES:]
    if rest:
        shares.append(Share(f"{len(rest):,} more", sum(before[n] for n in rest), sum(after[n] for n in rest)))
    return tuple(shares)


def _notes(quality: Quality, targets: Sequence[NgramTable], selection: str) -> list[str]:
    """What looks wrong."""
    notes = []
    if quality.selected != quality.asked:
        notes.append(selection)
    if quality.target_in_raw > 0.01:
        notes.append(
            f"{quality.target_in_raw:.0%} of the target's texts are among the raw documents, too: what is chosen holds "
            "copies of the target. Take them out where the target is also what a model is tested on."
        )
    documents = min(table.documents for table in targets)
    if documents < _FEW:
        notes.append(f"a target has {documents:,} documents: what is typical of so few may be chance.")
    for summary in quality.weights:
        if summary.all_equal:
            notes.append("all weights are equal: nothing is preferred, and the choice is random or by id.")
        elif summary.largest_share > 0.5 and summary.documents > 1:
            notes.append(
                f"one document has {summary.largest_share:.0%} of all weight (the effective sample size is "
                f"{summary.effective:.1f} of {summary.documents:,}): sampling is almost the same as top_k. Long "
                "documents do that; per_token with top_k weighs without their length."
            )
    if quality.divergence.reduction < 0:
        notes.append(
            "what was chosen is further from the target than random documents are. Of a small target most buckets are "
            "empty, and each counts heavily against a document: try target_laplace_smoothing (--smoothing 1)."
        )
    return notes
