"""Importance resampling of whole datasets: fit, weigh, choose. Every step is a fold or a run that can be resumed.

:mod:`tamis.dsir` is the published interface to it. What is made between the steps lies in a cache folder as Parquet
with the documents' ids: embeddings, weights, and the ids that were chosen.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.dataset import DocumentDataset
from tamis.engine.describe import describe, digest
from tamis.engine.options import EngineName
from tamis.engine.run import RunResult
from tamis.errors import InputError, OutputRefusedError, UsageError
from tamis.hashing import hash64
from tamis.importance_stages import Blank, ById, HybridWeight
from tamis.io.files import list_files
from tamis.io.source import Extras, FileSource
from tamis.selection.around import IdCheck, Ids
from tamis.selection.mixture import Mixture, MixtureWeights
from tamis.selection.mixture_fit import MixtureFit, MixtureSettings, fit_mixture
from tamis.selection.ngrams import NgramCounts, NgramTable, NgramWeights, share_to_fit
from tamis.selection.sample import Resample, Selection
from tamis.selection.vectors import EMBEDDER
from tamis.stage import Fold, Step
from tamis.text.hashed_ngrams import HashedNgrams, least_features

if TYPE_CHECKING:
    from tamis.models.embed import Embed

__all__ = [
    "Chosen",
    "Place",
    "Weighing",
    "asked_of",
    "choose",
    "chosen_of",
    "embed_documents",
    "fit_embeddings",
    "fit_ngrams",
    "read_documents",
    "slim",
    "weigh",
    "weigh_embeddings",
    "weights_in_order",
    "write_chosen",
]

Result = TypeVar("Result")
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Tokens = Literal["auto", "all"] | int
FEATURES = "features"
"""The column with the number of n-grams of a document."""
_PER_BUCKET = 100_000
"""N-grams to fit on for each bucket with "auto", as published."""


@dataclass(frozen=True)
class Place:
    """Where the work is done, and where what is made between the steps lies."""

    cache: Path
    workers: int | None = None
    engine: EngineName = "embedded"
    address: str | None = None
    progress: Literal["auto", "off"] = "auto"

    def fold(self, dataset: DocumentDataset, fold: Fold[Any, Result]) -> Result:
        """The fold's answer over a dataset."""
        return dataset.fold(
            fold, workers=self.workers, progress=self.progress, engine=self.engine, address=self.address
        )

    def keep(self, dataset: DocumentDataset, name: str | Path) -> DocumentDataset:
        """Write a dataset into a folder of the cache, and read it from there.

        What an interrupted run left goes on; what another run left, with other data or settings, is replaced.
        """
        path = self.cache / name
        try:
            self._write(dataset, path, "auto")
        except OutputRefusedError:
            self._write(dataset, path, "fresh")  # refuses what is not Tamis's own
        return DocumentDataset.read_parquet(path)

    def _write(self, dataset: DocumentDataset, path: Path, mode: Literal["auto", "fresh"]) -> None:
        dataset.to_parquet(
            path,
            mode=mode,
            workers=self.workers,
            progress=self.progress,
            engine=self.engine,
            address=self.address,
        )


@dataclass(frozen=True)
class _Bound:
    """A dataset that is folded at a place."""

    dataset: DocumentDataset
    place: Place

    @property
    def schema(self) -> pa.Schema:
        return self.dataset.schema

    @property
    def text_field(self) -> str:
        return self.dataset.text_field

    def fold(self, fold: Fold[Any, Result], *, workers: int | None = None) -> Result:
        return self.place.fold(self.dataset, fold)


def read_documents(
    paths: Paths, text_field: str = "text", *, columns: Sequence[str] | None = None, add_filename: bool = False
) -> DocumentDataset:
    """JSON Lines or Parquet, as the first file is; an id is made of the text where a document has none."""
    files = list_files(paths)
    read = DocumentDataset.read_parquet if files[0].format == "parquet" else DocumentDataset.read_json
    return read([f.path for f in files], text_field=text_field, columns=columns, add_filename=add_filename, add_id=True)


def slim(dataset: DocumentDataset) -> DocumentDataset:
    """The same with text and id alone."""
    source = cast("FileSource", dataset.plan.source)
    names = [name for name in ("id", dataset.text_field) if name in _own_names(source)]
    extras = replace(source.extras, file_name=None)
    return DocumentDataset(replace(source, columns=tuple(names), extras=extras), dataset.steps)


def _own_names(source: FileSource) -> list[str]:
    """The columns that the files themselves hold."""
    return list(replace(source, extras=Extras()).schema.names)


# -- fit ------------------------------------------------------------------------------------------------------


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
    counted = tuple(place.fold(target, NgramCounts(features)) for target in targets)
    for number, table in enumerate(counted, 1):
        table.probabilities(of=f"target {number}" if len(counted) > 1 else "the target")
    table = place.fold(raw, NgramCounts(features, share=share))
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
    return fit_mixture(_Bound(embeddings, place), settings, embedder=embedder, checkpoint=checkpoint)


# -- weigh ----------------------------------------------------------------------------------------------------


def weigh_embeddings(
    embeddings: DocumentDataset, raw: Mixture, targets: Sequence[Mixture], names: Sequence[str], place: Place
) -> DocumentDataset:
    """The log weights of the embeddings under each target's mixture, as Parquet with ids."""
    columns = _columns("log_weight_gmm", names)
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
    ngram = _columns("log_weight_ngram" if own else "unused", names)
    steps: list[Step] = [
        NgramWeights(ratios, weighing.features, names, "log_weight_ngram" if own else "unused", per_token)
    ]
    steps += [ById(str(_folder(dataset)), columns) for dataset, columns in others]
    read = [f"{c}_per_token" if per_token else c for c in ngram] if own else _columns("log_weight_ngram", names)
    steps += [
        HybridWeight(weighing.alpha, *columns)
        for columns in zip(read, _columns("log_weight_gmm", names), _columns("log_weight", names), strict=True)
    ]
    steps.append(Blank((raw.text_field, *(() if own else ngram))))
    dataset = slim(raw).append(*steps)
    key = digest([describe(step) for step in dataset.steps])[:12]
    weights = place.keep(dataset, f"weights-{key}")
    _check_ids(weights, place.fold(weights, IdCheck((FEATURES, *_columns("log_weight", names)))))
    return weights, place.cache / f"weights-{key}"


def _columns(column: str, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{column}_{name}" for name in names) or (column,)


def _folder(dataset: DocumentDataset) -> Path:
    """The folder that a dataset of the cache lies in."""
    source = cast("FileSource", dataset.plan.source)
    return Path(os.path.commonpath([Path(f.path).parent for f in source.files]))


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


# -- choose ---------------------------------------------------------------------------------------------------


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
    columns = _columns("log_weight", names)
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
    source, folder = cast("FileSource", raw.plan.source), str(_folder(chosen.ids))
    if "id" in _own_names(source):
        return raw.append(ById(folder))
    bare = replace(source, extras=replace(source.extras, id=None))
    return DocumentDataset(bare, raw.steps).append(ById(folder, text_field=raw.text_field))


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
