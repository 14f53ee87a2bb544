"""A sample of the input, taken through the whole plan: what each stage would say of each document.

In a run a document that a filter drops is shown to no stage behind it. Here all documents go on to the end, so that
every filter has a score for each of them, on the text as it is at that stage. The first stage that drops a document is
the one that drops it in the run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.engine.options import Options
from tamis.engine.plan import Plan
from tamis.engine.run import fold_plan
from tamis.errors import TamisError
from tamis.filters.bounded import BoundedFilter
from tamis.filters.measures import Measure, measures_of
from tamis.page.draw import Bound, is_number, numbers, text_of
from tamis.stage import FoldThenStage, Needs, Stage, Step, TableFunction, labels
from tamis.table import is_text, marks, put

__all__ = ["Traced", "resolved", "trace"]

_ROWS = 1000
"""Documents that go through the plan together: filters of one family share a walk over as many."""
_FOLD_BYTES = 1 << 30
"""Size of an input over which a step that must see all of it first is run again; for a larger one it would take
minutes."""

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass
class Traced:
    """What became of the documents of a sample, row for row."""

    before: list[pa.Table]
    """The documents as they came to each stage; the last as they came out."""
    labels: tuple[str, ...]
    decided: npt.NDArray[np.int16]
    """The first stage that dropped each document or failed on it; -1 where it was kept."""
    fixed: npt.NDArray[np.int16]
    """The same, of what no bound decides."""
    reasons: list[str]
    """Why; "" where it was kept."""
    deciding: list[str]
    """The score that decided, as text."""
    dropped: list[Mask]
    """Which documents each stage would drop, or fail on, whatever the stages before it said."""
    failed: list[Mask]
    measures: tuple[Measure, ...]
    movable: frozenset[str]
    """Columns of the measures that decide by a score within bounds, and by nothing else."""
    scores: dict[str, Floats]
    """Scores of each measure, by its column."""
    made: dict[str, int]
    """The stage that made or last replaced each column."""
    seconds: dict[int, float] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)
    """What is to be said of a stage."""

    @property
    def rows(self) -> int:
        """Documents."""
        return len(self.decided)

    @property
    def end(self) -> pa.Table:
        """The documents as they came out, with every column that was made."""
        return self.before[-1]


@dataclass
class _Stage:
    """A stage at work."""

    index: int
    needs: Needs
    run: TableFunction | None
    """None where it is left out."""
    column: str | None
    """Of its measure."""
    seconds: float = 0.0
    answered: int = 0


def resolved(plan: Plan, size: int | None) -> tuple[list[Step | None], dict[int, str]]:
    """The steps with what must see the dataset first turned into stages; None for those that are left out, with why.

    Args:
        plan: Input and steps.
        size: Bytes of the input, None where they are not known.
    """
    steps: list[Step | None] = []
    notes: dict[int, str] = {}
    for index, step in enumerate(plan.steps):
        if not isinstance(step, FoldThenStage):
            steps.append(step)
            continue
        if size is None or size > _FOLD_BYTES:
            steps.append(None)
            notes[index] = (
                "It has to see the whole input first, which is too large to do that again for this page: it is left "
                "out of the sample."
            )
            continue
        result, _ = fold_plan(Plan(plan.source, plan.steps[:index]), step.fold(), Options(max_bad=1.0))
        steps.append(step.then(result))
        notes[index] = "It saw the whole input first, once more for this page."
    return steps, notes


def trace(steps: Sequence[Step], stages: Sequence[Step | None], table: pa.Table, *, models: int) -> Traced:
    """Take documents through a plan.

    Args:
        steps: The steps of the plan.
        stages: What they are resolved to (:func:`resolved`).
        table: The documents.
        models: Documents that are shown to each stage that runs on an accelerator: the first of those that no stage
            before it dropped.
    """
    table = _contiguous(table)
    measures = _measures(steps, stages)
    names = labels(list(steps))
    notes: dict[int, str] = {}
    at_work = _opened(stages, measures, table.schema, notes)
    tables: list[list[pa.Table]] = [[] for _ in range(len(steps) + 1)]
    found = Traced(
        [],
        names,
        np.full(table.num_rows, -1, dtype=np.int16),
        np.full(table.num_rows, -1, dtype=np.int16),
        [""] * table.num_rows,
        [""] * table.num_rows,
        [np.zeros(table.num_rows, dtype=np.bool_) for _ in steps],
        [np.zeros(table.num_rows, dtype=np.bool_) for _ in steps],
        measures,
        frozenset(),
        {measure.column: np.full(table.num_rows, np.nan) for measure in measures},
        {field.name: stage.index for stage in at_work if stage.run for field in stage.needs.makes},
        notes=notes,
    )
    for start in range(0, table.num_rows, _ROWS):
        part = table.slice(start, _ROWS).combine_chunks()
        for stage in at_work:
            tables[stage.index].append(part)
            part = _through(stage, part, found, start, models)
        tables[-1].append(part)
    found.before = [pa.concat_tables(parts, promote_options="default") if parts else table for parts in tables]
    found.seconds = {stage.index: stage.seconds for stage in at_work if stage.answered}
    found.movable = frozenset(m.column for m in measures if _by_bounds(m, found))
    _decide_fixed(found)
    _note_shared(at_work, notes)
    return found


def _by_bounds(measure: Measure, found: Traced) -> bool:
    """Whether the bounds of a measure say of every document of the sample what its stage said."""
    if not isinstance(measure.filter, BoundedFilter):
        return False
    bound = Bound(measure.column, measure.low, measure.high, measure.invert)
    failed = found.failed[measure.stage]
    kept = bound.keeps(found.scores[measure.column])
    return bool((kept == ~found.dropped[measure.stage])[~failed].all())


def _decide_fixed(found: Traced) -> None:
    """Note what drops a document wherever the bounds are."""
    movable = {m.stage for m in found.measures if m.column in found.movable}
    for index in reversed(range(len(found.labels))):
        drops = found.failed[index] if index in movable else found.dropped[index]
        found.fixed[drops] = index


def _contiguous(table: pa.Table) -> pa.Table:
    """Texts as ``large_string``: filters that share a walk know a text by its memory, and a cast makes another."""
    for index, each in enumerate(table.schema):
        if is_text(each.type) and not pa.types.is_large_string(each.type):
            table = table.set_column(
                index, each.with_type(pa.large_string()), table.column(index).cast(pa.large_string())
            )
    return table


def _measures(steps: Sequence[Step], stages: Sequence[Step | None]) -> tuple[Measure, ...]:
    """The measures of the plan, with the bounds that were found for those that had to see the dataset first."""
    known = {m.stage: m for m in measures_of([s or steps[i] for i, s in enumerate(stages)])}
    found = []
    for measure in measures_of(steps):
        now = known.get(measure.stage, measure)
        later = isinstance(steps[measure.stage], FoldThenStage)  # its bounds are in no setting of the plan
        found.append(
            replace(measure, low=now.low, high=now.high, low_setting="", high_setting="", filter=now.filter)
            if later
            else measure
        )
    return tuple(found)


def _opened(
    stages: Sequence[Step | None],
    measures: Sequence[Measure],
    schema: pa.Schema,
    notes: dict[int, str],
) -> list[_Stage]:
    """The stages at work. One that reads a column that a stage before it would have made is left out with that."""
    columns = {measure.stage: measure for measure in measures}
    at_work = []
    for index, stage in enumerate(stages):
        needs, run = Needs(), None
        if isinstance(stage, Stage):
            try:
                needs = stage.needs(schema)
                lacking = [name for name in (*needs.texts, *needs.reads) if name not in schema.names]
                if not lacking:
                    run = stage.open()
            except (
                TamisError
            ) as error:  # a model that is not there any more, say: the rest of the page is none the worse
                notes[index] = f"It could not be opened here, and is left out of the sample: {error}"
            else:
                if lacking:
                    notes[index] = f"It reads {lacking[0]!r}, which is not there: it is left out of the sample."
        if run is not None:
            for made in needs.makes:
                place = schema.get_field_index(made.name)
                schema = schema.append(made) if place < 0 else schema.set(place, made)
        measure = columns.get(index)
        at_work.append(_Stage(index, needs, run, None if measure is None else measure.column))
    return at_work


def _through(stage: _Stage, table: pa.Table, found: Traced, start: int, models: int) -> pa.Table:
    """Run a stage on some documents of the sample, and note what it says of them."""
    if stage.run is None:
        return table
    rows = np.arange(table.num_rows)
    if stage.needs.device == "accelerator":
        alive = found.decided[start : start + table.num_rows] < 0
        rows = np.flatnonzero(alive)[: max(0, models - stage.answered)]
        if len(rows) < table.num_rows:
            found.notes[stage.index] = f"A model: only {models:,} documents of the sample at most are shown to it here."
    if not len(rows):
        return _with_columns(table, stage.needs)
    shown = table if len(rows) == table.num_rows else table.take(pa.array(rows))
    if not stage.answered:  # what is compiled or read at the first call is no part of its pace
        with contextlib.suppress(Exception):  # what it raises is said below
            stage.run(shown.slice(0, 1))
    answers = _Answers(shown.num_rows)
    try:
        answers.ask(stage.run, shown, stage.needs)
    except TamisError as error:  # no memory, say: the rest of the page is none the worse
        found.notes[stage.index] = f"It ended here with an error, and is left out of the sample: {error}"
        stage.run = None
        return _with_columns(table, stage.needs)
    stage.seconds += answers.seconds
    stage.answered += len(rows)
    _note(stage, answers, found, start + rows)
    after = pa.concat_tables(
        [t for _, t in sorted(answers.tables, key=lambda item: item[0])], promote_options="default"
    )
    return after if len(rows) == table.num_rows else _scattered(table, after, rows, stage.needs)


class _Answers:
    """What a stage said of some documents; one on which it raised is found by halving."""

    def __init__(self, rows: int) -> None:
        self.tables: list[tuple[int, pa.Table]] = []
        self.reasons: list[str | None] = [None] * rows
        self.scores: list[pa.ChunkedArray | None] = []
        self.values = np.full(rows, np.nan)
        self.texts: dict[int, str] = {}
        self.failed: dict[int, str] = {}
        self.seconds = 0.0

    def ask(self, run: TableFunction, table: pa.Table, needs: Needs, start: int = 0) -> None:
        """Ask the stage about these documents, which begin at row ``start``."""
        began = time.perf_counter()
        try:
            after, reasons, scores = marks(run(table))
        except TamisError:
            raise
        except Exception as error:  # noqa: BLE001  user code may raise anything: the run sets the document aside
            if table.num_rows == 1:
                self.failed[start] = f"{type(error).__name__}: {error}"
                self.tables.append((start, _with_columns(table, needs)))
                return
            half = table.num_rows // 2
            self.ask(run, table.slice(0, half), needs, start)
            self.ask(run, table.slice(half), needs, start + half)
            return
        self.seconds += time.perf_counter() - began
        self.tables.append((start, after))
        if reasons is None:
            return
        for row, reason in enumerate(reasons.to_pylist(), start=start):
            self.reasons[row] = reason
        if scores is None:
            return
        if is_number(scores.type):
            self.values[start : start + table.num_rows] = numbers(scores)
        gone = np.flatnonzero(reasons.is_valid().to_numpy(zero_copy_only=False))
        for row, value in zip(gone.tolist(), scores.take(pa.array(gone)).to_pylist(), strict=True):
            self.texts[start + row] = text_of(value)


def _note(stage: _Stage, answers: _Answers, found: Traced, rows: npt.NDArray[np.int64]) -> None:
    """Write down what a stage said of these rows of the sample."""
    if stage.column is not None:
        found.scores[stage.column][rows] = answers.values
    for place, row in enumerate(rows.tolist()):
        failed = answers.failed.get(place)
        reason = answers.reasons[place] if failed is None else f"failed: {failed}"
        if reason is None:
            continue
        found.dropped[stage.index][row] = True
        found.failed[stage.index][row] = failed is not None
        if found.decided[row] < 0:
            found.decided[row] = stage.index
            found.reasons[row] = reason
            found.deciding[row] = answers.texts.get(place, "")


def _with_columns(table: pa.Table, needs: Needs) -> pa.Table:
    """The table with nulls in the columns that a stage would have made; those it would have replaced stay."""
    for made in needs.makes:
        if made.name not in table.column_names:
            table = table.append_column(made, pa.nulls(table.num_rows, made.type))
    return table


def _scattered(table: pa.Table, after: pa.Table, rows: npt.NDArray[np.int64], needs: Needs) -> pa.Table:
    """The answers for some rows in the table of all."""
    place = np.full(table.num_rows, -1)
    place[rows] = np.arange(len(rows))
    taken = pa.array(place, mask=place < 0)
    answered = pa.array(place >= 0)
    for made in needs.makes:
        values = after.column(made.name).take(taken)
        if made.name in table.column_names and table.schema.field(made.name).type == values.type:
            values = pc.if_else(answered, values, table.column(made.name))
        table = put(table, made.name, values)
    return table


def _note_shared(at_work: Sequence[_Stage], notes: dict[int, str]) -> None:
    """Say of which stages the times belong together: the first one makes the walk for all."""
    groups: dict[str, list[int]] = {}
    for stage in at_work:
        if stage.run is not None and stage.needs.together:
            groups.setdefault(stage.needs.together, []).append(stage.index)
    for members in groups.values():
        if len(members) > 1:
            notes.setdefault(
                members[0], f"It walks over the texts for itself and {len(members) - 1} filters behind it."
            )
            for index in members[1:]:
                notes.setdefault(index, "An earlier filter has walked over the texts for it.")
