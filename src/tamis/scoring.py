"""``evaluate``: from files of predictions to a report, with baselines and a comparison, and the files that hold it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from tamis.dataset import DocumentDataset
from tamis.errors import InputError, MissingColumnError, UsageError
from tamis.evaluation.linear_baseline import HAS_SKLEARN, linear
from tamis.evaluation.page import page
from tamis.evaluation.report import Baseline, TagReport, compare, measures_of, most_frequent
from tamis.evaluation.tag_scores import TagLists, TagScores
from tamis.evaluation.tag_table import TagTable
from tamis.hashing import hash64
from tamis.io.files import open_input
from tamis.io.store import open_store, said_plainly
from tamis.tags import parse_tags

__all__ = ["evaluate", "read_vocabulary", "write_report"]

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_KEY = "key"


def evaluate(
    predictions: DocumentDataset | Paths,
    scores: TagScores | None = None,
    *,
    truth: DocumentDataset | Paths | None = None,
    against: DocumentDataset | Paths | None = None,
    train: DocumentDataset | Paths | None = None,
    text_field: str = "prompt",
    workers: int | None = None,
) -> TagReport:
    """Judge predicted tags by the true ones.

    Documents are joined by ``id``; where they have none, by a hash of their text.

    Args:
        predictions: Rows with predicted tags, and with the true ones unless ``truth`` has these.
        scores: The columns, the vocabulary and the bootstrap; by default ``tags`` and ``predicted_tags``.
        truth: Rows with the true tags. Documents without a row there are left out, and counted.
        against: Predictions of another run for the same documents, which the report is to be compared with.
        train: Rows with tags and texts, for the baselines: the most frequent tags, and TF-IDF with logistic regression
            where scikit-learn is installed.
        text_field: The text of the rows, for ids and for the TF-IDF baseline.
        workers: Worker processes; one per core by default.

    Raises:
        UsageError: Where there is nothing to judge: no documents, no true tags, other ids; and for bad settings.
    """
    scores = TagScores() if scores is None else scores
    given = None if truth is None else _read(truth, text_field)
    runs = [
        _judged(_read(run, text_field), given, scores, workers, _name(run))
        for run in ([predictions] if against is None else [predictions, against])
    ]
    report = runs[0]
    if against is not None:
        comparison = compare(report, runs[1])
        unshared = max(run.documents for run in runs) - comparison.documents
        note = f"{unshared:,} documents are in one of the two runs only, and were not compared."
        report = replace(report, comparison=comparison, notes=report.notes + ((note,) if unshared else ()))
    learned = None if train is None else _read(train, text_field)
    texts = None if learned is None else _texts(_read(predictions, text_field), text_field)
    return replace(report, baselines=_baselines(report, scores, learned, texts, text_field))


def _name(run: DocumentDataset | Paths) -> str:
    if isinstance(run, DocumentDataset):
        return ""
    first = run if isinstance(run, str | os.PathLike) else run[0]
    return os.fspath(first).rstrip("/")


def _read(data: DocumentDataset | Paths, text_field: str) -> DocumentDataset:
    if isinstance(data, DocumentDataset):
        return data
    dataset = DocumentDataset.read(data, text_field=text_field)
    if {"id", text_field} & set(dataset.schema.names):
        return dataset
    message = (
        f"the rows of {_name(data)} have neither an id nor a field {text_field!r} whose text could stand for one. "
        f"They have: {', '.join(dataset.schema.names)}. Name the field with the text."
    )
    raise UsageError(message)


def _judged(
    run: DocumentDataset, truth: DocumentDataset | None, scores: TagScores, workers: int | None, name: str
) -> TagReport:
    if truth is None:
        names = run.schema.names
        if scores.true not in names and scores.predicted in names:
            raise MissingColumnError.of(scores.true, "the evaluation (whose true tags may lie in other files)", names)
        report = replace(run.fold(scores, workers=workers), name=name)
        notes: tuple[str, ...] = ()
    else:
        predicted = run.fold(TagLists((scores.predicted,), scores.by), workers=workers)
        true = truth.fold(TagLists((scores.true,), scores.by), workers=workers)
        joined, unused = _joined(predicted, true, scores)
        report = scores.judged(joined, name)
        notes = (f"{unused:,} documents of the truth have no prediction, and were not judged.",) if unused else ()
    if not report.documents:
        why = (
            f" The true tags ({scores.true}) of all {report.without_truth:,} are null." if report.without_truth else ""
        )
        message = f"{name or 'the predictions'}: there is no document to judge.{why}"
        raise UsageError(message)
    return replace(report, notes=report.notes + notes)


def _joined(predicted: pa.Table, true: pa.Table, scores: TagScores) -> tuple[pa.Table, int]:
    """Predictions with the true tags of the same key beside them, null where there are none; and truths left over."""
    keys = [np.asarray(table.column(_KEY).to_numpy(), dtype=np.uint64) for table in (predicted, true)]
    for each, what in zip(keys, ("predictions", "truth"), strict=True):
        if len(np.unique(each)) < len(each):
            message = f"ids occur more than once in the {what}, so that it cannot be joined by {scores.by!r}."
            raise UsageError(message)
    place = np.searchsorted(keys[1], keys[0])
    found = place < len(keys[1])
    found[found] = keys[1][place[found]] == keys[0][found]
    if not found.any() and len(keys[0]):
        message = f"predictions and truth share no document: the values of {scores.by!r} differ."
        raise UsageError(message)
    taken = true.column(scores.true).take(pa.array(place, mask=~found))
    return predicted.append_column(scores.true, taken), len(keys[1]) - int(found.sum())


def _texts(data: DocumentDataset, text_field: str) -> dict[int, str]:
    """The text of every document, by the hash of its id; nothing where they have no texts."""
    found: dict[int, str] = {}
    if text_field not in data.schema.names:
        return found
    for table in _with_ids(data):
        keys = hash64(table.column("id").to_pylist()).tolist()
        found.update(zip(keys, (text or "" for text in table.column(text_field).to_pylist()), strict=True))
    return found


def _with_ids(data: DocumentDataset) -> DocumentDataset:
    return DocumentDataset(data.plan.source.with_id("id"), data.steps) if "id" not in data.schema.names else data


def _baselines(
    report: TagReport,
    scores: TagScores,
    train: DocumentDataset | None,
    texts: dict[int, str] | None,
    text_field: str,
) -> tuple[Baseline, ...]:
    table = report.table
    if table is None or not len(table.true.codes):
        return ()
    lists: list[tuple[str, ...]] | None = None
    read: list[str] = []
    if train is not None:
        lists = []
        for part in train:
            if scores.true not in part.column_names:
                raise MissingColumnError.of(scores.true, "the baseline", part.column_names)
            lists += [parse_tags(tags) for tags in part.column(scores.true).to_pylist()]
            if text_field in part.column_names:
                read += [text or "" for text in part.column(text_field).to_pylist()]

    def baseline(name: str, made: tuple[TagTable, str]) -> Baseline:
        predicted, how = made
        return Baseline(name, how, measures_of(predicted, scores.at, scores.replicates, scores.seed))

    found = [baseline("most frequent tags", most_frequent(table, lists))]
    if HAS_SKLEARN and lists and texts and len(read) == len(lists):
        judged = [texts.get(key, "") for key in table.keys.tolist()]
        found.append(baseline("TF-IDF and logistic regression", linear(read, lists, judged, table)))
    return tuple(found)


def read_vocabulary(path: str) -> tuple[str, ...]:
    """The tags in a file: one on each line, or a list in JSON. Repetitions are removed, the order is kept."""
    try:
        with open_input(path) as file:
            content = file.read()
    except OSError as error:
        message = f"the vocabulary {path} cannot be read: {error.strerror or error}."
        raise InputError(message) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"the vocabulary {path} is not UTF-8 text: byte {error.start} cannot be read."
        raise InputError(message) from error
    listed: Any = text.splitlines()
    if text.lstrip().startswith("["):
        try:
            listed = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            message = f"the vocabulary {path} begins like a list in JSON, but is none: {error}."
            raise InputError(message) from error
    tags = tuple(dict.fromkeys(stripped for tag in listed if (stripped := str(tag).strip())))
    if not tags:
        message = f"the vocabulary {path} holds no tag."
        raise InputError(message)
    return tags


def write_report(report: TagReport, out: str) -> tuple[str, str]:
    """Write ``evaluation.json`` and ``evaluation.html`` into a directory, local or a URL; returns their paths."""
    store = open_store(out)
    content = orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2)
    try:
        store.replace("evaluation.json", content)
        store.replace("evaluation.html", page(report).encode("utf-8"))
    except OSError as error:
        raise said_plainly(error, out) from error
    return f"{store.path}/evaluation.json", f"{store.path}/evaluation.html"
