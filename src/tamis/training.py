"""From a dataset with labels to a classifier of one's own: sample, embed, fit, save."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from tamis.classifiers.train import TrainedHead, Training, check_labels, pick_task, train_head
from tamis.dataset import DocumentDataset
from tamis.engine.run import QuarantineWarning
from tamis.errors import InputError, MissingColumnError, ModelError, UsageError
from tamis.hashing import document_id, hash64
from tamis.io.schema import is_json
from tamis.meter import collecting
from tamis.models.checkpoint import require_extra
from tamis.models.embed import Embed
from tamis.table import has_text, text

if TYPE_CHECKING:
    from tamis.classifiers.head import EmbedderUsed
    from tamis.models.runner import Runner

__all__ = ["Sample", "TrainedClassifier", "train_classifier"]

Heard = Callable[[int, int], None]
"""Called with the documents embedded so far, and all of them."""

_WHO = "train-classifier"
_WINDOW = 4096
"""Documents that are embedded together."""


@dataclass(frozen=True)
class Sample:
    """Which documents are learnt from, chosen by the hash of their text: the same in any order or sharding."""

    limit: int | None = None
    """At most so many; all by default."""
    per_class: int | None = None
    """At most so many of a label; for classes only."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("limit", "per_class"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                message = f"{name} must be a whole number of at least 1; got {value!r}."
                raise UsageError(message)


@dataclass(frozen=True)
class TrainedClassifier:
    """What :func:`train_classifier` made, and what it left out."""

    directory: Path
    head: TrainedHead
    examples: int
    """Documents that were learnt from or measured on."""
    without_label: int
    """Documents whose label is null (or no number)."""
    without_text: int
    """Documents whose text is null or blank."""
    not_sampled: int
    """Documents that the sample left out."""
    tokens: int
    """Tokens that were embedded."""
    embedding_seconds: float
    fitting_seconds: float


@dataclass(frozen=True)
class _Examples:
    """The usable documents: their rows in the dataset's order, ids and labels."""

    rows: npt.NDArray[np.int64]
    ids: list[str]
    values: list[Any]
    without_label: int
    without_text: int

    def take(self, chosen: npt.NDArray[np.int64]) -> _Examples:
        ids, values = [self.ids[i] for i in chosen], [self.values[i] for i in chosen]
        return _Examples(self.rows[chosen], ids, values, self.without_label, self.without_text)


def train_classifier(
    dataset: DocumentDataset,
    directory: Path,
    labels: str,
    *,
    embed: Embed | None = None,
    training: Training | None = None,
    sample: Sample | None = None,
    include_embedder: bool = False,
    heard: Heard | None = None,
) -> TrainedClassifier:
    """Train a linear head on the embeddings of a dataset's texts and write its directory.

    The dataset is read twice: first the labels, so that what is wrong with them is said before an hour of embedding.

    Args:
        dataset: Documents with a text and a label each; those that lack one are counted and left out.
        directory: Where the classifier is written; :class:`tamis.classifiers.base.DistributedDataClassifier` takes it
            as ``model=``.
        labels: The column of labels.
        embed: The embedder and how it is run; all-MiniLM-L6-v2 by default.
        training: How the head is trained.
        sample: Which documents are learnt from; all by default.
        include_embedder: Whether the directory gets a copy of the embedder.
        heard: Called as embedding goes on.

    Raises:
        MissingColumnError: There is no such column.
        UsageError: The labels cannot be learnt.
        OutputRefusedError: The directory holds something else.
    """
    require_extra(_WHO, "torch", "transformers")
    from tamis.classifiers.head import check_target, save_head  # noqa: PLC0415  imports torch

    embed, training, sample = embed or Embed(), training or Training(), sample or Sample()
    check_target(directory)
    names = dataset.schema.names
    for column in (labels, dataset.text_field):
        if column not in names:
            raise MissingColumnError.of(column, _WHO, names)
    everything = _examples(dataset, labels)
    examples = _sampled(everything, sample, training)
    check_labels(examples.values, examples.ids, training)
    began = time.perf_counter()
    runner, used = _runner(embed)
    with collecting() as measured:
        features = _embedded(dataset, examples.rows, runner, heard)
    embedded = time.perf_counter()
    head = train_head(features, examples.values, examples.ids, training)
    save_head(head, used, directory, include_embedder=include_embedder)
    return TrainedClassifier(
        directory=directory,
        head=head,
        examples=len(examples.rows),
        without_label=everything.without_label,
        without_text=everything.without_text,
        not_sampled=len(everything.rows) - len(examples.rows),
        tokens=int(measured["tokens"]),
        embedding_seconds=embedded - began,
        fitting_seconds=time.perf_counter() - embedded,
    )


# -- which documents -----------------------------------------------------------------------------------------


def _examples(dataset: DocumentDataset, labels: str) -> _Examples:
    """One pass over the labels and the hashes of the texts."""
    rows: list[npt.NDArray[np.int64]] = []
    ids: list[str] = []
    values: list[Any] = []
    seen = without_label = without_text = 0
    for table in dataset:
        texts = text(table, dataset.text_field, _WHO)
        labelled = [_plain(v, table.schema.field(labels)) for v in table.column(labels).to_pylist()]
        present = np.array([v is not None for v in labelled], dtype=np.bool_)
        usable = present & has_text(texts)
        without_label += int((~present).sum())
        without_text += int((present & ~usable).sum())
        found = np.flatnonzero(usable)
        rows.append(seen + found)
        ids.extend(document_id(t) for t in texts.take(pa.array(found)).to_pylist())
        values.extend(labelled[i] for i in found)
        seen += table.num_rows
    return _Examples(np.concatenate([np.empty(0, np.int64), *rows]), ids, values, without_label, without_text)


def _plain(value: Any, field: pa.Field) -> Any:
    """A label as Python has it; None for what is none: null, and NaN, which is how pandas writes it."""
    if value is not None and is_json(field):
        value = orjson.loads(value)
    return None if value != value else value  # noqa: PLR0124  NaN alone differs from itself


def _sampled(everything: _Examples, sample: Sample, training: Training) -> _Examples:
    """The sample, in the dataset's order."""
    order = np.argsort(hash64(everything.ids, sample.seed), kind="stable")
    if sample.per_class is not None:
        if everything.values and pick_task(everything.values, training.task) == "regression":
            message = "per_class is for classes, and these labels are numbers. Use limit."
            raise UsageError(message)
        taken: dict[str, int] = {}
        kept = []
        for i in order:
            label = str(everything.values[i])
            taken[label] = taken.get(label, 0) + 1
            if taken[label] <= sample.per_class:
                kept.append(i)
        order = np.array(kept, dtype=np.int64)
    return everything.take(np.sort(order[: sample.limit]))


# -- their embeddings ----------------------------------------------------------------------------------------


def _runner(embed: Embed) -> tuple[Runner, EmbedderUsed]:
    """The embedder on its device, and what a head's directory says of it."""
    from tamis.classifiers.head import EmbedderUsed  # noqa: PLC0415  imports torch
    from tamis.models.embed import load_embedder  # noqa: PLC0415
    from tamis.models.launch import launch  # noqa: PLC0415
    from tamis.models.tokenizer import max_length_of  # noqa: PLC0415

    path, layout = embed.layout()
    loaded = load_embedder(layout, who=_WHO)
    runner = launch(loaded, embed.settings(), who=_WHO)
    limit = max_length_of(loaded.tokenizer, loaded.config, embed.max_length, who=_WHO)
    local = Path(embed.model).expanduser()
    name = str(local.resolve()) if local.is_dir() else str(embed.model)
    return runner, EmbedderUsed(name, path, layout, limit)


def _embedded(
    dataset: DocumentDataset, rows: npt.NDArray[np.int64], runner: Runner, heard: Heard | None
) -> npt.NDArray[np.float32]:
    """The embeddings of these rows, ascending, in their order: [rows, width]."""
    features = np.empty((len(rows), runner.width), dtype=np.float32)
    done = 0
    for texts in _windows(_texts(dataset, rows)):
        try:
            features[done : done + len(texts)] = runner(texts).values
        except FloatingPointError as error:
            message = f"{_WHO}: {error}. Try --dtype float32."
            raise ModelError(message) from error
        done += len(texts)
        if heard is not None:
            heard(done, len(rows))
    if done != len(rows):
        message = f"{_WHO}: the documents changed while they were read: {len(rows):,} were chosen, {done:,} found."
        raise InputError(message)
    return features


def _texts(dataset: DocumentDataset, rows: npt.NDArray[np.int64]) -> Iterator[pa.LargeStringArray]:
    """The texts of these rows, as they are read."""
    seen = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuarantineWarning)  # said in the first pass
        for table in dataset:
            first, last = np.searchsorted(rows, [seen, seen + table.num_rows])
            if last > first:
                yield text(table, dataset.text_field, _WHO).take(pa.array(rows[first:last] - seen))
            seen += table.num_rows
            if last == len(rows):
                return


def _windows(pieces: Iterator[pa.LargeStringArray]) -> Iterator[pa.LargeStringArray]:
    """The same texts in arrays of the window's size; the last is what is left."""
    waiting: list[pa.LargeStringArray] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) >= _WINDOW:
            whole = pa.concat_arrays(waiting)
            full = len(whole) - len(whole) % _WINDOW
            for start in range(0, full, _WINDOW):
                yield whole.slice(start, _WINDOW)
            waiting = [whole.slice(full)]
    if sum(map(len, waiting)):
        yield pa.concat_arrays(waiting)
