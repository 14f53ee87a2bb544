"""What the raw documents and the targets are like: counts of n-grams, embeddings, and mixtures fitted on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tamis.dataset import DocumentDataset
from tamis.engine.describe import describe, digest
from tamis.errors import UsageError
from tamis.importance.place import Bound, Place, slim, without_id
from tamis.importance.stages import Blank
from tamis.selection.mixture_fit import MixtureFit, MixtureSettings, fit_mixture
from tamis.selection.ngrams import NgramCounts, NgramTable, share_to_fit
from tamis.selection.vectors import EMBEDDER
from tamis.text.hashed_ngrams import HashedNgrams

if TYPE_CHECKING:
    from tamis.models.embed import Embed

__all__ = ["Tokens", "embed_documents", "fit_embeddings", "fit_fewest", "fit_ngrams"]

Tokens = Literal["auto", "all"] | int
_LADDER = (15, 50, 150, 500, 1500, 5000)
"""Components that are tried besides 5 and the most that are wanted."""
_PER_BUCKET = 100_000
"""N-grams to fit on for each bucket with "auto", as published."""


def fit_ngrams(
    raw: DocumentDataset, targets: Sequence[DocumentDataset], features: HashedNgrams, tokens: Tokens, place: Place
) -> tuple[NgramTable, tuple[NgramTable, ...]]:
    """Count the n-grams of the raw documents, or of about ``tokens`` n-grams' worth of them, and of each target.

    Args:
        raw: Documents to choose from.
        targets: Each is counted whole.
        features: What is counted.
        tokens: "all", a number of n-grams, or "auto" for 100,000 for each bucket, as published. Which documents are
            counted is decided by their ids.
        place: Where.

    Raises:
        UsageError: A dataset holds not one n-gram, or ``tokens`` is something else.
    """
    if isinstance(tokens, str) and tokens not in ("auto", "all"):
        message = f"num_tokens_to_fit is 'auto', 'all' or a number; got {tokens!r}."
        raise UsageError(message)
    share = 1.0
    if tokens != "all":
        wanted = _PER_BUCKET * features.num_buckets if tokens == "auto" else int(tokens)
        # Compressed files hold more text than they are long: then more is counted than was asked for.
        share = share_to_fit(wanted, int(raw.plan.source.describe()["bytes"]), features.ngrams)
    counted = tuple(place.fold(without_id(target), NgramCounts(features)) for target in targets)
    for number, table in enumerate(counted, 1):
        table.probabilities(of=f"target {number}" if len(counted) > 1 else "the target")
    # Text alone is read by a kernel, four times as fast as whole documents.
    table = place.fold(raw if share < 1 else without_id(raw), NgramCounts(features, share=share))
    table.probabilities(of="the raw dataset")
    return table, counted


def embed_documents(documents: DocumentDataset, embed: Embed, name: str, place: Place) -> DocumentDataset:
    """Embed the texts into a Parquet folder of the cache, with their ids and without the texts."""
    return place.keep(slim(documents).append(embed, Blank((documents.text_field,))), name)


def fit_embeddings(
    embeddings: DocumentDataset, settings: MixtureSettings, checkpoint: Path, place: Place, *, named: bool
) -> MixtureFit:
    """Fit a mixture, going on from its checkpoint.

    Args:
        embeddings: With ids.
        settings: How.
        checkpoint: Its file; where it is not ``named`` by the user, the data's own digest is added to its name, so
            that a cache folder that serves other documents later does not mix them up.
        place: Where.
        named: Whether the user gave the path.
    """
    if not named:
        key = digest([embeddings.plan.source.describe(), describe(settings)])[:12]
        checkpoint = checkpoint.with_name(f"{checkpoint.stem}-{key}{checkpoint.suffix}")
    field = embeddings.schema.field("embedding")
    embedder = (field.metadata or {}).get(EMBEDDER, b"").decode()
    return fit_mixture(Bound(embeddings, place), settings, embedder=embedder, checkpoint=checkpoint)


def fit_fewest(
    embeddings: DocumentDataset, most: int, settings: MixtureSettings, checkpoint: Path, place: Place, *, named: bool
) -> MixtureFit:
    """Fit mixtures of 5, 15, 50, 150, 500 ... components up to ``most``, and keep the one that suits best.

    That is the one under which the held-out documents are likeliest; the first that is no better than the one before
    ends the search. Each has a checkpoint of its own, with its number of components in the name.
    """
    wanted = [min(most, 5), *(each for each in _LADDER if each < most), *[most] * (most > 5)]
    best: MixtureFit | None = None
    for components in wanted:
        own = checkpoint.with_stem(f"{checkpoint.stem}-{components}")
        fit = fit_embeddings(embeddings, replace(settings, components=components), own, place, named=named)
        if best is not None and not _likelier(fit, best):
            break
        best = fit
        if fit.mixture.components < components:  # the documents are too few for more
            break
    assert best is not None  # noqa: S101  there is at least one to try
    note = (
        f"{best.mixture.components} components: held-out documents are likelier under them than under fewer or more "
        f"(up to {most} were to be tried)."
    )
    return replace(best, notes=(*best.notes, note))


def _likelier(one: MixtureFit, other: MixtureFit) -> bool:
    return one.held_out is not None and other.held_out is not None and one.held_out > other.held_out
