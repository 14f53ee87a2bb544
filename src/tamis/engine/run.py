"""Run a plan: write its documents, fold it, or iterate over it. What every engine does the same way."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa

from tamis.engine.describe import describe
from tamis.engine.funnel import funnel
from tamis.engine.handout import Death, HandOut
from tamis.engine.job import Engine, Errand, Event, Job, Sink, SplitResult, Task
from tamis.engine.options import Options
from tamis.engine.output import RunDirectory, RunKey
from tamis.engine.plan import Checked, Plan, check, labels, stages_of, with_id
from tamis.engine.portion import said_of
from tamis.engine.status import Beat
from tamis.engine.tally import Tally
from tamis.engine.tree import MergeTree
from tamis.engine.watch import Progress, Watch
from tamis.engine.worker import Worker
from tamis.errors import MissingColumnError, TooManyBadRecordsError
from tamis.io.formats import output_names
from tamis.io.records import Bad
from tamis.io.schema import Shape
from tamis.io.source import Source, make_want
from tamis.io.splits import Split
from tamis.io.store import open_store, said_plainly
from tamis.meter import Measures
from tamis.notebook import result_html
from tamis.stage import Fold, FoldThenStage, Stage, Step
from tamis.table import Batch, conform

__all__ = [
    "QuarantineWarning",
    "RunResult",
    "fold_plan",
    "iterate",
    "warn_of",
    "write_plan",
]

Result = TypeVar("Result")


class QuarantineWarning(UserWarning):
    """Some records could not be used; the message says how many and shows the first."""


@dataclass(frozen=True)
class RunResult:
    """What came of a run that wrote documents."""

    path: str
    tally: Tally
    seconds: float
    stages: tuple[str, ...]
    """The stages' labels, in order."""
    resumed: int = 0
    """Splits that an earlier run had already finished."""
    already_complete: bool = False
    measured: Measures[tuple[str, str]] = field(default_factory=Measures)
    """What the stages counted in this process, by (stage, name): rates are made of these, for ``tally.measures``
    counts what an earlier run finished too."""
    deaths: tuple[Death, ...] = ()
    """Workers that died; what they were doing was done again."""

    def __str__(self) -> str:
        t = self.tally
        return (
            f"{t.records} records: {t.kept} kept, {t.total_rejected} rejected, {t.total_quarantined} quarantined "
            f"-> {self.path}"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the same, and the funnel."""
        rows = ((row.stage, row.reason, row.documents, row.share) for row in funnel(self.tally, self.stages))
        return result_html(str(self), rows)


@dataclass(frozen=True)
class _Running:
    """A run at work: how it was asked for, and what runs it."""

    options: Options
    engine: Engine
    directory: RunDirectory | None = None
    """Where it says how far it is, besides telling the observer."""

    def watch(self, phase: str, splits: Sequence[Split], job: Job, before: Tally | None = None) -> Watch:
        """A watch over these splits."""
        observers = [] if self.options.observer is None else [self.options.observer]
        if self.directory is not None:
            workers = self.engine.workers(job.needs) if self.options.workers is None else self.options.workers
            workers = min(workers, max(len(splits), 1))
            observers.append(lambda progress: self._beat(progress, workers))
        return Watch(observers, phase, sum(s.bytes for s in splits), len(splits), before or Tally())

    def _beat(self, progress: Progress, workers: int) -> None:
        if self.directory is not None:
            beat = Beat(
                progress.phase,
                progress.splits_done,
                progress.splits_total,
                progress.tally.bytes_in,
                progress.bytes_total,
                progress.tally,
                progress.before,
                progress.seconds,
                workers,
                progress.deaths,
                self.options.engine,
            )
            self.directory.beat(beat)

    def splits(
        self,
        job: Job,
        task: Task,
        splits: Sequence[Split],
        watch: Watch,
        *,
        aside: Callable[[Split], str] = lambda split: str(split.index),
    ) -> Generator[tuple[Split, SplitResult], None, None]:
        """Run splits, and yield each with its result as it finishes."""
        handout = HandOut(splits, aside)
        handout.deaths = watch.deaths
        for split, result in self.engine.run(job, task, handout, workers=self.options.workers, report=watch.partial):
            watch.finished(split.index, result.tally)
            yield split, result


def _resolve(source: Source, steps: Sequence[Step], running: _Running) -> tuple[Stage, ...]:
    """Run the folds of every fold-then-stage, each over all that comes before it."""
    resolved: list[Step] = []
    for step in steps:
        if isinstance(step, FoldThenStage):
            result, _ = _fold(source, stages_of(resolved), step.fold(), running, phase=step.name)
            resolved.append(step.then(result))
        else:
            resolved.append(step)
    return stages_of(resolved)


def _fold(
    source: Source, stages: tuple[Stage, ...], fold: Fold[Any, Result], running: _Running, *, phase: str
) -> tuple[Result, Tally]:
    options, engine = running.options, running.engine
    checked = check(source, stages, [fold])
    want = make_want(source, checked.reads, texts=checked.texts, raw=False)
    needs = checked.needs[: len(stages)]
    job = Job(source, stages, want, checked.schema, needs=needs, fold=fold, strict=options.strict)
    splits = source.splits(options.split_size)
    watch = running.watch(phase, splits, job)
    tree = MergeTree(len(splits), partial(engine.merge, fold))
    for split, result in running.splits(job, "fold", splits, watch):
        tree.add(split.index, result.state)
    _check_bad(watch.done, options, place=None)
    return fold.finish(engine.state(tree.root) if splits else fold.start()), watch.done


def fold_plan(plan: Plan, fold: Fold[Any, Result], options: Options) -> tuple[Result, Tally]:
    """The fold's answer over the plan's documents, and the tally."""
    source = with_id(plan.source, plan.steps, [fold])
    check(source, plan.steps, [fold])
    with options.started() as engine:
        running = _Running(options, engine)
        stages = _resolve(source, plan.steps, running)
        return _fold(source, stages, fold, running, phase=fold.name)


def iterate(plan: Plan, options: Options, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The plan's documents as tables of bounded size, in order, in this process."""
    tally = Tally()
    first: Bad | None = None
    for event in events(plan, options, tally, columns=columns):
        if isinstance(event, Batch):
            yield event.table
        elif isinstance(event, Bad):
            first = first or event
    _check_bad(tally, options, place=None, first=first)
    if first is not None:
        warn_of(tally, first)


def events(plan: Plan, options: Options, tally: Tally, *, columns: Sequence[str] | None = None) -> Iterator[Event]:
    """Everything that happens to the plan's documents, in order, in this process."""
    source = with_id(plan.source, plan.steps)
    checked = check(source, plan.steps)
    with options.started() as engine:
        stages = _resolve(source, plan.steps, _Running(options, engine))
    wanted = source.schema.names if columns is None else [c for c in columns if c in source.schema.names]
    want = make_want(source, [*checked.reads, *wanted], texts=checked.texts, raw=False)
    names = checked.schema.names if columns is None else list(columns)
    schema = pa.schema([checked.schema.field(n) for n in names])
    needs, replaces = checked.needs, checked.replaces
    worker = Worker(Job(source, stages, want, checked.schema, needs=needs, replaces=replaces, strict=options.strict))
    for split in source.splits(options.split_size):
        for event in worker.events(Errand(split), tally):
            yield Batch(conform(event.table, schema), event.origin) if isinstance(event, Batch) else event


def _causes(tally: Tally, first: Bad | None) -> str:
    """How many records are bad for which cause, and the first of them where it is known."""
    causes = ", ".join(f"{n} {cause}" for cause, n in tally.quarantined.most_common())
    return f"{causes}." if first is None else f"{causes}. The first: {said_of(first, line=None)}."


def warn_of(tally: Tally, first: Bad | None = None) -> None:
    """Warn of records that were left out where there is no directory to set them aside in."""
    message = (
        f"{tally.total_quarantined} of {tally.records} records were left out: {_causes(tally, first)} "
        "Write the dataset to a directory to see all of them in its quarantine file."
    )
    warnings.warn(message, QuarantineWarning, stacklevel=4)


def _check_bad(tally: Tally, options: Options, *, place: str | None, first: Bad | None = None) -> None:
    if tally.bad_share <= options.max_bad:
        return
    see = f" See {place}." if place else ""
    message = (
        f"{tally.total_quarantined} of {tally.records} records are bad ({tally.bad_share:.1%}, more than the "
        f"{options.max_bad:.1%} that max_bad allows): {_causes(tally, first)}{see} "
        "Mend the input, or allow more with max_bad and run again: what is done is kept."
    )
    raise TooManyBadRecordsError(message)


def write_plan(plan: Plan, sink: Sink, options: Options) -> RunResult:
    """Run the plan and write its documents into the sink's directory."""
    began = time.monotonic()
    source = with_id(plan.source, plan.steps)
    checked = check(source, plan.steps)  # every mistake in the plan is said before anything is created
    _check_partition(sink, checked)
    splits = source.splits(options.split_size, one_piece=sink.by_input)
    key = RunKey(
        {
            "input": source.describe(),
            "steps": [describe(step) for step in plan.steps],
            "output": {k: v for k, v in describe(sink).items() if k not in {"path", "use"}}
            | {"split_size": options.split_size, "splits": len(splits)},
        }
    )
    directory = RunDirectory(open_store(sink.path), key, sink)
    try:
        with directory.lock():
            complete = directory.claim(options.mode)
            if complete is not None:
                return RunResult(
                    sink.path, complete, time.monotonic() - began, labels(plan.steps), already_complete=True
                )
            with options.started(apart=directory.died) as engine:
                running = _Running(options, engine, directory)
                return _write(source, plan.steps, sink, running, directory, splits, began=began)
    except OSError as error:
        raise said_plainly(error, sink.path) from error


def _check_partition(sink: Sink, checked: Checked) -> None:
    if sink.partition_on is not None and sink.partition_on not in checked.schema.names:
        raise MissingColumnError.of(sink.partition_on, "partition_on", checked.schema.names)


def _write(
    source: Source,
    steps: Sequence[Step],
    sink: Sink,
    running: _Running,
    directory: RunDirectory,
    splits: Sequence[Split],
    *,
    began: float,
) -> RunResult:
    options = running.options
    raw = sink.format == "jsonl" and source.keeps_raw
    source, schema = _decide_schema(source, running, directory, raw=raw)
    checked = check(source, steps)
    names = output_names([p.file for s in splits for p in s.pieces]) if sink.by_input else {}
    directory.start(schema, (name + sink.extension for name in names.values()))
    stages = _resolve(source, steps, running)
    reads = checked.reads if raw else (*checked.reads, *source.schema.names)
    if raw and sink.partition_on in source.schema.names:
        reads = (*reads, sink.partition_on)
    made = tuple(dict.fromkeys([*(n for n in source.extras.made), *checked.made]))
    job = Job(
        source,
        stages,
        make_want(source, (*reads, *source.extras.made), texts=checked.texts, raw=raw, made=made),
        checked.schema,
        made=made,
        needs=checked.needs,
        replaces=checked.replaces,
        sink=sink,
        names=names,
        strict=options.strict,
        width=max(5, len(str(len(splits) - 1))),
    )
    todo = [split for split in splits if split.index not in directory.done]
    watch = running.watch("", splits, job, directory.tally())
    watch.splits_done = resumed = len(splits) - len(todo)
    try:
        for split, result in running.splits(job, "write", todo, watch, aside=directory.aside):
            directory.commit(split, result)
        directory.quarantine(splits)
        _check_bad(watch.done, options, place=f"{sink.path}/_quarantine/records.jsonl")
        total = directory.finish(splits)
    finally:
        directory.abandon()
    measured = watch.mine.measures
    total.measures.add({key: amount for key, amount in measured.items() if not isinstance(amount, int)})
    seconds = time.monotonic() - began
    deaths = tuple(watch.deaths)
    return RunResult(sink.path, total, seconds, labels(stages), resumed=resumed, measured=measured, deaths=deaths)


def _decide_schema(
    source: Source, running: _Running, directory: RunDirectory, *, raw: bool
) -> tuple[Source, pa.Schema | None]:
    """One schema for the whole run, before the first row is written.

    JSONL that is copied as it is needs none. Otherwise the shape of every record is looked at first, because a
    field may be null for a million records and a struct after that.
    """
    if raw or source.exact:
        return source, None
    schema = directory.schema or _scan(source, running)
    return source.with_schema(schema), schema


def _scan(source: Source, running: _Running) -> pa.Schema:
    splits = source.splits(running.options.split_size)
    job = Job(source, (), make_want(source, (), texts=(), raw=False), source.schema)
    shape = Shape()
    for _, result in running.splits(job, "scan", splits, running.watch("schema", splits, job)):
        shape = shape.merge(result.state)
    return shape.to_arrow()
