"""Run a plan: write its documents, fold it, or iterate over it. What every engine does the same way."""

from __future__ import annotations

import contextlib
import tempfile
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from tamis.engine.describe import describe
from tamis.engine.embedded import run_splits, workers_for
from tamis.engine.job import Event, Job, Sink, SplitResult
from tamis.engine.output import Mode, RunDirectory, RunKey
from tamis.engine.plan import Checked, Plan, check, labels, stages_of, with_id
from tamis.engine.process import Task
from tamis.engine.tally import Tally
from tamis.engine.worker import Worker, said_of
from tamis.errors import MissingColumnError, TooManyBadRecordsError, UnknownNameError, UsageError
from tamis.io.formats import output_names
from tamis.io.records import Bad
from tamis.io.schema import Shape
from tamis.io.source import Source, make_want
from tamis.io.splits import Split
from tamis.io.store import open_store, said_plainly
from tamis.meter import Measures
from tamis.stage import Fold, FoldThenStage, Needs, Stage, Step
from tamis.table import Batch, conform

__all__ = [
    "Observer",
    "Options",
    "Progress",
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
class Progress:
    """How far a run is."""

    phase: str
    tally: Tally
    bytes_total: int
    splits_done: int
    splits_total: int
    seconds: float
    """Since this process began."""
    before: Tally = field(default_factory=Tally)
    """What an earlier run had already done: part of ``tally``, and of no rate."""


Observer = Callable[[Progress], None]


@dataclass(frozen=True)
class Options:
    """How to run; none of it changes the result."""

    workers: int | None = None
    """Worker processes. By default one per core that this process may use; where a stage is a model, one per
    accelerator, and one that uses every core where there is none."""
    max_bad: float = 0.05
    """Share of quarantined records above which the run fails at its end, in [0, 1]."""
    strict: bool = False
    """Fail at the first bad record."""
    mode: Mode = "auto"
    split_size: int = 64 << 20
    """Bytes of input per unit of work. Larger files are cut, smaller ones packed together."""
    observer: Observer | None = None

    def __post_init__(self) -> None:
        if self.split_size < 1 or not 0 <= self.max_bad <= 1 or (self.workers is not None and self.workers < 1):
            message = (
                f"workers and split_size must be at least 1 and max_bad within [0, 1]; got workers={self.workers}, "
                f"split_size={self.split_size}, max_bad={self.max_bad}."
            )
            raise UsageError(message)
        if self.mode not in {"auto", "resume", "fresh"}:
            raise UnknownNameError.of(self.mode, ["auto", "resume", "fresh"], kind="mode")

    def worker_count(self, needs: Sequence[Needs]) -> int:
        """The number of workers for stages with these needs."""
        return workers_for(needs) if self.workers is None else self.workers


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

    def __str__(self) -> str:
        t = self.tally
        return (
            f"{t.records} records: {t.kept} kept, {t.total_rejected} rejected, {t.total_quarantined} quarantined "
            f"-> {self.path}"
        )


@dataclass
class _Watch:
    """Adds up what the splits report and tells the observer."""

    observer: Observer | None
    phase: str
    bytes_total: int
    splits_total: int
    before: Tally = field(default_factory=Tally)
    splits_done: int = 0
    mine: Tally = field(default_factory=Tally)
    """What this process has finished; ``before`` is what an earlier one had."""
    running: dict[int, Tally] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> Tally:
        return self.before + self.mine

    def partial(self, number: int, tally: Tally) -> None:
        self.running[number] = tally
        self.tell()

    def finished(self, number: int, tally: Tally) -> None:
        self.running.pop(number, None)
        self.mine += tally
        self.splits_done += 1
        self.tell()

    def tell(self) -> None:
        if self.observer is None:
            return
        total = self.done
        for tally in self.running.values():
            total += tally
        seconds = time.monotonic() - self.began
        self.observer(
            Progress(self.phase, total, self.bytes_total, self.splits_done, self.splits_total, seconds, self.before)
        )


def _run(
    job: Job,
    task: Task,
    splits: Sequence[Split],
    options: Options,
    watch: _Watch,
    *,
    aside: Callable[[Split], str] = lambda split: str(split.index),
) -> Generator[tuple[Split, SplitResult], None, None]:
    workers = min(options.worker_count(job.needs), len(splits))
    with contextlib.ExitStack() as stack:
        if workers > 1:
            # What a stage misses is said before a worker is started; a model is opened only where it runs.
            for stage, needs in zip(job.stages, job.needs, strict=True):
                if needs.device == "cpu":
                    stage.open()
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tamis-")))
            job = replace(job, source=job.source.shared(folder))
        for split, result in run_splits(job, task, splits, workers=workers, aside=aside, report=watch.partial):
            watch.finished(split.index, result.tally)
            yield split, result


def _resolve(source: Source, steps: Sequence[Step], options: Options) -> tuple[Stage, ...]:
    """Run the folds of every fold-then-stage, each over all that comes before it."""
    resolved: list[Step] = []
    for step in steps:
        if isinstance(step, FoldThenStage):
            result, _ = _fold(source, stages_of(resolved), step.fold(), options, phase=step.name)
            resolved.append(step.then(result))
        else:
            resolved.append(step)
    return stages_of(resolved)


def _fold(
    source: Source, stages: tuple[Stage, ...], fold: Fold[Any, Result], options: Options, *, phase: str
) -> tuple[Result, Tally]:
    checked = check(source, stages, [fold])
    want = make_want(source, checked.reads, texts=checked.texts, raw=False)
    needs = checked.needs[: len(stages)]
    job = Job(source, stages, want, checked.schema, needs=needs, fold=fold, strict=options.strict)
    splits = source.splits(options.split_size)
    watch = _Watch(options.observer, phase, sum(s.bytes for s in splits), len(splits))
    states: dict[int, Any] = {}
    merged = fold.start()
    following = 0
    for split, result in _run(job, "fold", splits, options, watch):
        states[split.index] = result.state
        while following in states:  # merged in split order, so that even sums of floats are the same every time
            merged = fold.merge(merged, states.pop(following))
            following += 1
    _check_bad(watch.done, options, place=None)
    return fold.finish(merged), watch.done


def fold_plan(plan: Plan, fold: Fold[Any, Result], options: Options) -> tuple[Result, Tally]:
    """The fold's answer over the plan's documents, and the tally."""
    source = with_id(plan.source, plan.steps, [fold])
    check(source, plan.steps, [fold])
    stages = _resolve(source, plan.steps, options)
    return _fold(source, stages, fold, options, phase=fold.name)


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
    stages = _resolve(source, plan.steps, options)
    wanted = source.schema.names if columns is None else [c for c in columns if c in source.schema.names]
    want = make_want(source, [*checked.reads, *wanted], texts=checked.texts, raw=False)
    names = checked.schema.names if columns is None else list(columns)
    schema = pa.schema([checked.schema.field(n) for n in names])
    needs, replaces = checked.needs, checked.replaces
    worker = Worker(Job(source, stages, want, checked.schema, needs=needs, replaces=replaces, strict=options.strict))
    for split in source.splits(options.split_size):
        for event in worker.events(split, tally):
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
            return _write(source, plan.steps, sink, options, directory, splits, began=began)
    except OSError as error:
        raise said_plainly(error, sink.path) from error


def _check_partition(sink: Sink, checked: Checked) -> None:
    if sink.partition_on is not None and sink.partition_on not in checked.schema.names:
        raise MissingColumnError.of(sink.partition_on, "partition_on", checked.schema.names)


def _write(
    source: Source,
    steps: Sequence[Step],
    sink: Sink,
    options: Options,
    directory: RunDirectory,
    splits: Sequence[Split],
    *,
    began: float,
) -> RunResult:
    raw = sink.format == "jsonl" and source.keeps_raw
    source, schema = _decide_schema(source, options, directory, raw=raw)
    checked = check(source, steps)
    directory.start(schema)
    stages = _resolve(source, steps, options)
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
        names=output_names([p.file for s in splits for p in s.pieces]) if sink.by_input else {},
        strict=options.strict,
        width=max(5, len(str(len(splits) - 1))),
    )
    todo = [split for split in splits if split.index not in directory.done]
    watch = _Watch(options.observer, "", sum(s.bytes for s in splits), len(splits), directory.tally())
    watch.splits_done = resumed = len(splits) - len(todo)
    try:
        for split, result in _run(job, "write", todo, options, watch, aside=directory.aside):
            directory.commit(split, result)
        directory.quarantine(splits)
        _check_bad(watch.done, options, place=f"{sink.path}/_quarantine/records.jsonl")
        total = directory.finish(splits)
    finally:
        directory.abandon()
    measured = watch.mine.measures
    total.measures.add({key: amount for key, amount in measured.items() if not isinstance(amount, int)})
    seconds = time.monotonic() - began
    return RunResult(sink.path, total, seconds, labels(stages), resumed=resumed, measured=measured)


def _decide_schema(
    source: Source, options: Options, directory: RunDirectory, *, raw: bool
) -> tuple[Source, pa.Schema | None]:
    """One schema for the whole run, before the first row is written.

    JSONL that is copied as it is needs none. Otherwise the shape of every record is looked at first, because a
    field may be null for a million records and a struct after that.
    """
    if raw or source.exact:
        return source, None
    schema = directory.schema or _scan(source, options)
    return source.with_schema(schema), schema


def _scan(source: Source, options: Options) -> pa.Schema:
    splits = source.splits(options.split_size)
    job = Job(source, (), make_want(source, (), texts=(), raw=False), source.schema)
    watch = _Watch(options.observer, "schema", sum(s.bytes for s in splits), len(splits))
    shape = Shape()
    for _, result in _run(job, "scan", splits, options, watch):
        shape = shape.merge(result.state)
    return shape.to_arrow()
