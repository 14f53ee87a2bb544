"""The log weight of every raw document, kept as Parquet with its id."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tamis.dataset import DocumentDataset
from tamis.engine.describe import describe, digest
from tamis.errors import UsageError
from tamis.hashing import hash64
from tamis.importance.place import Place, columns_of, folder_of, slim
from tamis.importance.stages import Blank, ById, HybridWeight
from tamis.selection.around import IdCheck, Ids
from tamis.selection.mixture import Mixture, MixtureWeights
from tamis.selection.ngrams import NgramWeights
from tamis.stage import Step
from tamis.text.hashed_ngrams import HashedNgrams

__all__ = ["FEATURES", "Weighing", "weigh", "weigh_embeddings", "weights_in_order"]

FEATURES = "features"
"""The column with the number of n-grams of a document."""


def weigh_embeddings(
    embeddings: DocumentDataset, raw: Mixture, targets: Sequence[Mixture], names: Sequence[str], place: Place
) -> DocumentDataset:
    """The log weights of the embeddings under each target's mixture, as Parquet with ids."""
    columns = columns_of("log_weight_gmm", names)
    steps = [MixtureWeights(raw, each, score_field=column) for each, column in zip(targets, columns, strict=True)]
    blank = tuple(name for name in embeddings.schema.names if name != "id")
    key = digest([raw.fingerprint, *(each.fingerprint for each in targets), embeddings.plan.source.describe()])[:12]
    dataset = embeddings.append(*steps, Blank(blank))
    return place.keep(dataset, f"weights-gmm-{key}")


@dataclass(frozen=True)
class Weighing:
    """What a document's weight is made of."""

    features: HashedNgrams
    alpha: float
    """Share of the n-gram weight."""
    ratios: npt.NDArray[np.float64] | None = None
    """The log ratio of each bucket, [targets, num_buckets]; None where the n-gram weight is given or not wanted."""
    names: tuple[str, ...] = ()
    """Of several targets."""
    per_token: bool = False
    """Divide the n-gram weight by the number of tokens."""


def weigh(
    raw: DocumentDataset,
    weighing: Weighing,
    place: Place,
    others: Sequence[tuple[DocumentDataset, tuple[str, ...]]] = (),
) -> tuple[DocumentDataset, Path]:
    """The weights of all raw documents, with their ids and numbers of n-grams, as Parquet; and its folder.

    Args:
        raw: The documents.
        weighing: How.
        place: Where.
        others: Datasets with an id and columns of weights, which are joined by id.

    Raises:
        UsageError: Texts that differ share an id, or another dataset lacks a document.
    """
    names, ratios = weighing.names, weighing.ratios
    own = ratios is not None
    if ratios is None:  # the number of n-grams is wanted anyway
        ratios = np.zeros((max(1, len(names)), weighing.features.num_buckets))
    per_token = weighing.per_token and own
    ngram = columns_of("log_weight_ngram" if own else "unused", names)
    steps: list[Step] = [
        NgramWeights(ratios, weighing.features, names, "log_weight_ngram" if own else "unused", per_token)
    ]
    steps += [ById(str(folder_of(dataset)), columns) for dataset, columns in others]
    read = [f"{c}_per_token" if per_token else c for c in ngram] if own else columns_of("log_weight_ngram", names)
    steps += [
        HybridWeight(weighing.alpha, *columns)
        for columns in zip(read, columns_of("log_weight_gmm", names), columns_of("log_weight", names), strict=True)
    ]
    steps.append(Blank((raw.text_field, *(() if own else ngram))))
    dataset = slim(raw).append(*steps)
    key = digest([describe(step) for step in dataset.steps])[:12]
    weights = place.keep(dataset, f"weights-{key}")
    _check_ids(weights, place.fold(weights, IdCheck((FEATURES, *columns_of("log_weight", names)))))
    return weights, place.cache / f"weights-{key}"


def _check_ids(weights: DocumentDataset, ids: Ids) -> None:
    if ids.clash is None:
        return
    for table in weights:
        for name in table.column("id").to_pylist():
            if int(hash64([name])[0]) == ids.clash:
                message = (
                    f"the raw documents have the id {name!r} more than once, for texts that differ. A weight belongs "
                    "to an id: give every document its own, or leave the field out, and it is made of the text."
                )
                raise UsageError(message)


def weights_in_order(weights: DocumentDataset, columns: Sequence[str], path: Path) -> None:
    """Write weights as a .npy file, float64 [documents] or [documents, columns], in the documents' order."""
    parts = [np.stack([table.column(c).to_numpy() for c in columns], axis=1) for table in weights]
    found = np.concatenate([np.empty((0, len(columns))), *parts])
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.npy")
    np.save(aside, found if len(columns) > 1 else found[:, 0], allow_pickle=False)
    aside.replace(path)
