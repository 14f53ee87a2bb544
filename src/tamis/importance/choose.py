"""Which documents are chosen by their weights, and writing them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from tamis.dataset import DocumentDataset
from tamis.engine.describe import describe, digest
from tamis.engine.run import RunResult
from tamis.errors import InputError, UsageError
from tamis.importance.place import Place, columns_of, folder_of, own_names, without_id
from tamis.importance.stages import ById
from tamis.importance.weigh import FEATURES
from tamis.io.source import FileSource
from tamis.selection.sample import Resample, Selection
from tamis.text.hashed_ngrams import HashedNgrams, least_features

__all__ = ["Chosen", "asked_of", "choose", "chosen_of", "write_chosen"]


@dataclass(frozen=True)
class Chosen:
    """What was chosen, and where it is."""

    selection: Selection
    asked: Resample
    weights: DocumentDataset
    """Of all documents."""
    ids: DocumentDataset
    """Ids and weights of what was chosen."""
    result: RunResult | None = None
    """The run that wrote the documents."""

    def __str__(self) -> str:
        return str(self.selection)


def choose(weights: DocumentDataset, asked: Resample, place: Place) -> Chosen:
    """Find the cut, and write the ids above it to the cache.

    Raises:
        UsageError: No document can be chosen.
    """
    selection: Selection = place.fold(weights, asked.fold())
    if not sum(selection.counts):
        column, least = asked.least or ("", 0)
        message = (
            f"none of {selection.documents:,} raw documents can be chosen: "
            f"all have fewer than {least:g} {column} (min_example_length), or no weight. Ask for less with "
            "min_example_length, and see whether the text field is the right one."
        )
        raise UsageError(message)
    key = digest([weights.plan.source.describe(), describe(asked)])[:12]
    kept = place.keep(weights.append(asked.then(selection)), f"chosen-{key}")
    return Chosen(selection, asked, weights, kept)


def asked_of(
    number: int,
    *,
    names: Sequence[str],
    proportions: Sequence[float],
    min_example_length: int,
    features: HashedNgrams,
    top_k: bool,
    seed: int,
) -> Resample:
    """The choice of ``number`` documents by the columns ``log_weight``."""
    columns = columns_of("log_weight", names)
    least = least_features(min_example_length, features.ngrams)
    return Resample(
        number,
        columns if names else columns[0],
        tuple(proportions),
        seed,
        top_k,
        (FEATURES, float(least)) if least else None,
    )


def chosen_of(raw: DocumentDataset, chosen: Chosen) -> DocumentDataset:
    """The documents that were chosen, read from the raw ones; without an id where they have none of their own."""
    source, folder = cast("FileSource", raw.plan.source), str(folder_of(chosen.ids))
    if "id" in own_names(source):
        return raw.append(ById(folder))
    return without_id(raw).append(ById(folder, text_field=raw.text_field))


def write_chosen(raw: DocumentDataset, chosen: Chosen, out: str | os.PathLike[str], place: Place) -> Chosen:
    """Copy what was chosen into ``out``: from JSON Lines byte for byte as JSON Lines, from Parquet as Parquet."""
    dataset = chosen_of(raw, chosen)
    parquet = raw.plan.source.describe()["format"] == "parquet"
    write = dataset.to_parquet if parquet else dataset.to_json
    result = write(out, workers=place.workers, progress=place.progress, engine=place.engine, address=place.address)
    found, wanted = result.tally.kept, sum(chosen.selection.counts)
    if found != wanted:
        message = (
            f"{wanted:,} documents were chosen and {found:,} are in {out}: the raw documents changed meanwhile, or "
            "some have an id in a field that the first thousand lack."
        )
        raise InputError(message)
    return replace(chosen, result=result)
