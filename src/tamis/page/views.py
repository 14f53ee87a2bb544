"""From samples and counts to what a page shows: histograms with common bins, classes, the sample itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from tamis.page.content import ClassView, Duplicates, Sample, ScoreView, StageView, pack
from tamis.page.documents import chosen, documents
from tamis.page.draw import Tallied, is_number, numbers, text_of
from tamis.page.histogram import Cells, bins_of, counted
from tamis.page.sampled import Sampled
from tamis.table import is_text

__all__ = [
    "Number",
    "class_columns",
    "classes_of",
    "duplicates_of",
    "length_name",
    "numbers_of",
    "sample_of",
    "scores_of",
    "stages_of",
]

_MOST_COLUMNS = 60
_MOST_CLASSES = 30
"""Columns of classes."""
_MOST_VALUES = 40
"""Values of a class that are listed."""
_WIDEST = 60
"""Characters of a value of a class."""


@dataclass(frozen=True)
class Number:
    """A column of numbers, and how often each cell holds one."""

    view: ScoreView
    """Without bins."""
    values: npt.NDArray[np.float64]
    """Of the sample."""
    before: Cells
    after: Cells


def length_name(sample: Sampled) -> str:
    """Name of the column with the lengths of the texts as they came in."""
    name = "characters"
    while name in sample.scores or name in sample.end.column_names:
        name += "_"
    return name


def numbers_of(sample: Sampled, stages: Sequence[StageView], whole: Tallied | None) -> list[Number]:
    """The numbers that documents have: measures of filters, lengths, what stages made, other columns."""
    found = [
        _number(
            ScoreView(
                m.column,
                stages[m.stage].label if m.stage < len(stages) else m.label,
                m.stage,
                m.low,
                m.high,
                m.low_setting,
                m.high_setting,
                m.invert,
                integer=False,
                whole=False,
                scale="linear",
                edges=(),
                before=(),
                after=(),
                filter=type(m.filter).__name__,
                text_field=m.text_field or "",
            ),
            sample.scores[m.column],
            sample,
            whole,
        )
        for m in sample.measures
    ]
    known = {number.view.column for number in found}
    lengths = length_name(sample)
    found += [
        _number(replace(_plain(name, stage), derived=name == lengths), values, sample, whole)
        for name, stage, values in _other_numbers(sample)
        if name not in known
    ]
    return found[:_MOST_COLUMNS]


def _plain(name: str, stage: int) -> ScoreView:
    """A number that no filter decides by."""
    return ScoreView(
        name,
        name,
        stage,
        None,
        None,
        "",
        "",
        invert=False,
        integer=False,
        whole=False,
        scale="linear",
        edges=(),
        before=(),
        after=(),
    )


def _other_numbers(sample: Sampled) -> Iterator[tuple[str, int, npt.NDArray[np.float64]]]:
    texts = sample.texts()
    if texts is not None:
        yield length_name(sample), -1, numbers(pc.utf8_length(texts))  # the documents have no such column
    for each in sample.end.schema:
        if is_number(each.type) and each.name not in sample.hidden:
            values = numbers(sample.end.column(each.name))
            if not np.isnan(values).all():
                yield each.name, sample.made.get(each.name, -1), values


def _number(view: ScoreView, values: npt.NDArray[np.float64], sample: Sampled, whole: Tallied | None) -> Number:
    if whole is not None and view.column in whole.before:
        before, after = whole.before[view.column], whole.after[view.column]
        view = replace(view, whole=True)
    else:
        before, after = counted(values), counted(values[sample.kept])
    integer = before.whole and before.total > 0
    return Number(replace(view, integer=integer, missing=before.missing), values, before, after)


def scores_of(found: Sequence[Number], others: Sequence[Number] = ()) -> tuple[ScoreView, ...]:
    """The views with their bins, which are common to the columns of another run of the same name."""
    beside = {number.view.column: number for number in others}
    views = []
    for number in found:
        other = beside.get(number.view.column)
        edges, scale = bins_of([number.before, *([] if other is None else [other.before])])
        views.append(
            replace(
                number.view,
                scale=scale,
                edges=edges,
                before=number.before.binned(edges),
                after=number.after.binned(edges),
            )
        )
    return tuple(views)


def classes_of(sample: Sampled, whole: Tallied | None) -> tuple[ClassView, ...]:
    """Columns of few different short texts, and of truth values."""
    views = []
    for name in class_columns(sample):
        if whole is not None and name in whole.values:
            before, after = whole.values[name], whole.values_kept[name]
        else:
            values = [text_of(v) for v in sample.end.column(name).to_pylist()]
            before = Counter(values)
            after = Counter(value for value, kept in zip(values, sample.kept.tolist(), strict=True) if kept)
        listed = before.most_common(_MOST_VALUES)
        views.append(
            ClassView(
                name,
                sample.made.get(name, -1),
                whole is not None and name in whole.values,
                tuple((value[:_WIDEST], n, after[value]) for value, n in listed),
                len(before) - len(listed),
            )
        )
    return tuple(views)


def class_columns(sample: Sampled) -> list[str]:
    """Names of text columns that hold few different, short values."""
    found = []
    for each in sample.end.schema:
        if not is_text(each.type) or each.name in sample.hidden or each.name == sample.text_field:
            continue
        column = sample.end.column(each.name)
        different = pc.count_distinct(column).as_py()
        longest = pc.max(pc.utf8_length(column)).as_py() or 0
        filled = len(column) - column.null_count
        if filled and longest <= _WIDEST and different <= max(2, min(200, filled // 10)):
            found.append(each.name)
    return found[:_MOST_CLASSES]


def duplicates_of(sample: Sampled) -> Duplicates | None:
    """Exact copies among the texts of the sample, as they came in."""
    texts = sample.texts()
    if texts is None or not sample.rows:
        return None
    return Duplicates(sample.rows, sample.rows - pc.count_distinct(texts, mode="all").as_py(), "in the sample")


def sample_of(sample: Sampled, found: Sequence[Number], seed: int) -> Sample:
    """The sample as the page carries it: the numbers of all its documents, the texts of some."""
    return Sample(
        sample.of,
        sample.rows,
        seed,
        sample.how,
        {number.view.column: pack(number.values) for number in found},
        pack(sample.decided),
        pack(sample.fixed),
        documents(sample, chosen(sample)),
    )


def stages_of(views: Sequence[StageView], sample: Sampled | None) -> tuple[StageView, ...]:
    """The stages with the time that the sample took in each."""
    traced = None if sample is None else sample.traced
    if traced is None:
        return tuple(views)
    timed = []
    for view in views:
        seconds = traced.seconds.get(view.index)
        pace = traced.rows / seconds if seconds else None
        timed.append(replace(view, seconds=seconds, per_second=pace, note=traced.notes.get(view.index, "")))
    return tuple(timed)
