"""The worker: opens its stages once, then runs one split at a time. Every engine shares it.

This is the only place where rows are removed: a stage marks them, the worker takes them out, counts them by
reason and hands them to the rejects. A record that breaks a stage is isolated and quarantined; the records
beside it go on.

What happens to a split's documents is a stream of events in the order of the input, and each stage is a step
that passes the stream on: it answers the batches and leaves everything else in its place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.engine.ahead import Told, ahead
from tamis.engine.devices import visible_accelerators
from tamis.engine.job import Errand, Event, Job, Output, Rejected, Sink, SplitResult, Task
from tamis.engine.plan import labels
from tamis.engine.portion import bad_from, portion, said_of
from tamis.engine.tally import Tally
from tamis.engine.together import groups, together
from tamis.engine.window import Window
from tamis.engine.writing import Writing
from tamis.errors import BadRecordError, InputError, StageError, TamisError
from tamis.io.files import line_number
from tamis.io.records import Bad, End, Want
from tamis.io.source import Source
from tamis.io.splits import Split
from tamis.io.store import said_plainly
from tamis.meter import Measures, collecting
from tamis.stage import Needs
from tamis.table import ROW, Batch, marks, same_memory

__all__ = ["Event", "Job", "Output", "Rejected", "Report", "Sink", "SplitResult", "Worker"]

Report = Callable[[Tally], None]
"""Called now and then with the tally of the split so far."""

_WHOLE_BATCH = 1000
"""A stage that fails on every one of at least this many documents in one batch is broken, not the documents."""


class _ReportError(BaseException):
    """Whoever watches the run raised. Not an ``Exception``: it is no fault of the stage at work."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class Worker:
    """Runs splits. Its stages are opened when it is made, and never again."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._labels = labels(job.stages)
        self._functions = [stage.open() for stage in job.stages]
        self._windows = [needs.window for needs in job.needs] or [0] * len(job.stages)
        self._live = self._columns_needed_after()
        unnamed = [()] * len(job.stages)
        self._groups = {g.stop: g for g in groups(job.needs or [Needs()] * len(job.stages), job.replaces or unnamed)}
        """By the number of the stage after it."""
        self._shows_rejects = job.fold is None and (job.sink is None or job.sink.keep_rejects)
        self._cuts = self._where_to_cut()
        self._counting = threading.Lock()
        """Held while a tally is changed or added up: a stream that is cut runs on several threads."""
        self._split: Split | None = None
        self._piece = 0
        self._under_way = 0

    def _where_to_cut(self) -> frozenset[int]:
        """Stages before which the stream goes on on another thread: the first model, and what comes after the last.

        Only with an accelerator, so that it never waits for a processor. Without one the model uses every core itself.
        """
        models = [i for i, needs in enumerate(self._job.needs) if needs.device == "accelerator"]
        return frozenset({models[0], models[-1] + 1}) if models and visible_accelerators() else frozenset()

    def _columns_needed_after(self) -> list[frozenset[str]] | None:
        """Which columns are needed after each stage, where rows carry their raw bytes; else all of them are.

        Text that only filters read need not be copied once the last of them has seen it.
        """
        if not self._job.want.raw or self._job.sink is None:
            return None
        live = {*self._job.made, self._job.sink.partition_on or ""}
        after = []
        for needs in reversed(self._job.needs):
            after.append(frozenset(live))
            live |= {*needs.texts, *needs.reads}
        return after[::-1]

    # -- the stream of events --------------------------------------------------------------------------------

    def events(self, errand: Errand, tally: Tally, report: Report | None = None) -> Iterator[Event]:
        """Everything that happens to the documents of an errand, in order; ``tally`` is kept up to date.

        ``report`` is called while a stage counts what it does, which may take minutes before the next event.
        """
        self._split, self._piece, self._under_way = errand.split, 0, 0
        try:
            for event in self._stages(len(self._functions), errand, tally, report):
                if isinstance(event, Told):
                    if report is not None:
                        report(event.value)
                    continue
                with self._counting:
                    self._count(event, tally)
                yield event
        except _ReportError as wrapped:
            watcher = wrapped.error
        else:
            return
        raise watcher

    def _stages(self, number: int, errand: Errand, tally: Tally, report: Report | None) -> Iterator[Event | Told]:
        """The stream after the first ``number`` stages, on as many threads as it is cut into."""

        def made(tell: Report | None) -> Iterator[Event | Told]:
            if number == 0:
                return self._read(errand, tally)
            group = self._groups[number]
            before = self._stages(group.start, errand, tally, tell)
            through = self._through if len(group) == 1 else self._through_group
            return through(group, before, tally, tell)

        if number not in self._cuts:
            return made(report)
        return ahead(made if report is not None else lambda _: made(None))

    def _read(self, errand: Errand, tally: Tally) -> Iterator[Event]:
        for item in portion(errand, partial(_items, self._job.source, errand.split, self._job.want)):
            if isinstance(item, Bad):
                tally.records += 1
            elif isinstance(item, Batch):
                if not item.table.num_rows:
                    continue
                tally.records += item.table.num_rows
            yield item

    def _count(self, event: Event, tally: Tally) -> None:
        """Count a document where its way ends; what is counted is in the order of the input."""
        if isinstance(event, Batch):
            tally.kept += event.table.num_rows
            self._follow(event)
        elif isinstance(event, Rejected):
            self._follow(event.batch)
            for entry in event.reasons.value_counts().to_pylist():
                tally.rejected[event.stage, entry["values"]] += entry["counts"]
        elif isinstance(event, Bad):
            if self._job.strict:
                raise BadRecordError(said_of(event, line=self._line(event)))
            tally.quarantined[event.kind] += 1
        else:
            tally.lines += event.lines
            tally.bytes_in += event.bytes
            self._piece += 1
            self._under_way = 0

    def _follow(self, batch: Batch) -> None:
        """Note how far a plain file has been worked through: a model may take an hour for a split."""
        offset = int(batch.origin.offset[-1])
        if self._split is not None and self._piece < len(self._split.pieces) and offset >= 0:
            piece = self._split.pieces[self._piece]
            if piece.file.compression is None:
                self._under_way = max(self._under_way, offset - piece.start)

    def _so_far(self, tally: Tally, found: Measures[tuple[str, str]] | None = None) -> Tally:
        """The tally with the bytes of the piece at work and with what a stage has counted in a call that goes on."""
        with self._counting:
            return tally + Tally(bytes_in=self._under_way, measures=found or Measures())

    def _line(self, bad: Bad) -> int | None:
        """The line of a bad record in its file, from 1; looked up in the file where this split begins in its middle."""
        pieces = [piece for piece in self._split.pieces if piece.file.path == bad.file] if self._split else []
        if pieces and pieces[0].start > 0:
            return line_number(pieces[0].file.path, bad.offset) if bad.offset >= 0 else None
        return bad.line + 1 if len(pieces) == 1 else None

    # -- one stage -------------------------------------------------------------------------------------------

    def _through_group(
        self, group: range, stream: Iterator[Event | Told], tally: Tally, report: Report | None
    ) -> Iterator[Event | Told]:
        """The stream after stages that are shown the same documents."""

        def call(index: int, table: pa.Table) -> pa.Table | None:
            after, failed = self._apply(index, table, tally, report)
            return None if failed else after

        calls = [(self._labels[i], partial(call, i), partial(self._pruned, i)) for i in group]
        for event in stream:
            parted = together(event, calls) if isinstance(event, Batch) else iter((event,))
            yield from self._one_by_one(group, event, tally, report) if parted is None else parted

    def _one_by_one(
        self, group: range, event: Event | Told, tally: Tally, report: Report | None
    ) -> Iterator[Event | Told]:
        """What becomes of a batch after stages that are run one after the other."""
        stream: Iterator[Event | Told] = iter((event,))
        for index in group:
            stream = self._through(range(index, index + 1), stream, tally, report)
        return stream

    def _through(
        self, group: range, stream: Iterator[Event | Told], tally: Tally, report: Report | None
    ) -> Iterator[Event | Told]:
        """The stream after a stage. Events between the batches of a window wait with them, so the order stays."""
        index = group.start
        window = Window(self._windows[index])
        for event in stream:
            if isinstance(event, Told):
                yield event
                continue
            if not isinstance(event, Batch):
                waits = window and (self._shows_rejects or not isinstance(event, Rejected))
                if not waits:  # nothing is before it, or its place does not matter: it is only counted
                    yield event
                    continue
            elif not window.takes(event):
                yield from self._answered(index, window, tally, report)
                window = Window(self._windows[index])
            window.hold(event)
            if window.full:
                yield from self._answered(index, window, tally, report)
                window = Window(self._windows[index])
        if window:
            yield from self._answered(index, window, tally, report)

    def _answered(self, index: int, window: Window, tally: Tally, report: Report | None) -> Iterator[Event]:
        """Run a stage on the documents of a window and hand its answers back to the batches."""
        before = window.table()
        after, failed = self._apply(index, before, tally, report)
        if len(failed) == before.num_rows:
            self._hold_broken(index, window.events, failed)
        start = answered = 0
        for event in window.events:
            if not isinstance(event, Batch):
                yield event
                continue
            rows = event.table.num_rows
            lost = {row - start: failed[row] for row in range(start, start + rows) if row in failed} if failed else {}
            if len(lost) == rows:
                self._hold_broken(index, [event], lost)
            yield from self._parted(index, event, after.slice(answered, rows - len(lost)), lost, tally)
            start += rows
            answered += rows - len(lost)

    def _hold_broken(self, index: int, events: list[Event], failed: dict[int, Exception]) -> None:
        """A stage that failed on all of these documents is broken where they are many."""
        if len(failed) < _WHOLE_BATCH:
            return
        first = next(event for event in events if isinstance(event, Batch))
        error = failed[0]
        message = (
            f"{self._labels[index]} failed on all {len(failed)} documents of a batch, the first at {_where(first)}: "
            f"{type(error).__name__}: {error}. The stage is broken; mend it and run again."
        )
        raise StageError(message) from error

    def _parted(
        self, index: int, batch: Batch, after: pa.Table, lost: dict[int, Exception], tally: Tally
    ) -> Iterator[Event]:
        """What became of a batch: documents the stage raised on, documents it marked, the rest.

        ``after`` holds the answers for the rows that are not ``lost``.
        """
        label = self._labels[index]
        if lost:
            for row, error in lost.items():
                detail = f"{type(error).__name__}: {error}"
                yield bad_from(batch.take(np.array([row])), f"{label} failed", detail)
            batch = batch.take(np.setdiff1d(np.arange(batch.table.num_rows), list(lost)))
        if not batch.table.num_rows:
            return
        table, reasons, scores = marks(after)
        self._count_changes(index, batch.table, table, tally)
        batch = Batch(self._pruned(index, table), batch.origin)
        if reasons is not None and reasons.null_count < len(reasons):
            keep = np.asarray(reasons.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
            gone = np.flatnonzero(~keep)
            rows = pa.array(gone)
            yield Rejected(batch.take(gone), label, reasons.take(rows), None if scores is None else scores.take(rows))
            batch = batch.where(keep)
        if batch.table.num_rows:
            yield batch

    def _count_changes(self, index: int, before: pa.Table, after: pa.Table, tally: Tally) -> None:
        for name in self._job.replaces[index] if self._job.replaces else ():
            if name not in before.column_names:
                continue  # the input has it, and no stage reads it: what it held is not known
            old, new = before.column(name), after.column(name)
            if old.type == new.type and not pa.types.is_nested(old.type) and not same_memory(old, new):
                changed = pc.sum(pc.not_equal(old, new)).as_py()
                if changed:
                    with self._counting:
                        tally.changed[self._labels[index]] += changed

    def _pruned(self, index: int, table: pa.Table) -> pa.Table:
        if self._live is None:
            return table
        kept = [name for name in table.column_names if name in self._live[index]]
        return table.select(kept) if kept else pa.table({ROW: np.arange(table.num_rows)})

    def _apply(
        self, index: int, table: pa.Table, tally: Tally, report: Report | None
    ) -> tuple[pa.Table, dict[int, Exception]]:
        """Run one stage: its answers without the documents it raises on, and these by row with what it raised."""
        answers: list[pa.Table] = []
        failed: dict[int, Exception] = {}
        parts = [(0, table.num_rows)]
        while parts:
            # The documents that a stage raises on are found by halving: about 2 log2(n) calls for each.
            start, rows = parts.pop()
            part = table if rows == table.num_rows else table.slice(start, rows)
            try:
                answers.append(self._call(index, part, tally, report))
            except TamisError as error:
                raise self._labelled(index, error) from error.__cause__
            except Exception as error:  # noqa: BLE001  user code may raise anything; the document is quarantined
                if rows == 1:
                    failed[start] = error
                else:
                    half = rows // 2
                    parts += [(start + half, rows - half), (start, half)]
        if len(answers) == 1:
            return answers[0], failed
        return pa.concat_tables(answers or [table.slice(0, 0)], promote_options="permissive"), failed

    def _call(self, index: int, table: pa.Table, tally: Tally, report: Report | None) -> pa.Table:
        """Call a stage's function; what it counts is kept once it has returned."""
        label = self._labels[index]

        def heard(found: Measures[str]) -> None:
            try:
                if report is not None:
                    report(self._so_far(tally, _of(label, found)))
            except Exception as error:
                raise _ReportError(error) from error

        with collecting(heard if report is not None else None) as found:
            after = self._functions[index](table)
        if not isinstance(after, pa.Table):
            message = f"{label} returned {type(after).__name__}; a stage returns a pyarrow.Table."
            raise StageError(message)
        if after.num_rows != table.num_rows:
            message = (
                f"{label} got {table.num_rows} documents and returned {after.num_rows}. A stage keeps every row and "
                "marks the ones it wants gone with tamis.table.mark()."
            )
            raise StageError(message)
        with self._counting:
            tally.measures.add(_of(label, found))
        return after

    def _labelled(self, index: int, error: TamisError) -> TamisError:
        """The same error, with the stage named where its sentence does not name it."""
        label = self._labels[index]
        return error if label in str(error) else type(error)(f"{label}: {error}").with_traceback(error.__traceback__)

    # -- errands ---------------------------------------------------------------------------------------------

    def run(self, task: Task, errand: Errand, report: Report) -> SplitResult:
        """Run an errand: make of its split what the run makes of every split, or answer the question."""
        if errand.kind == "probe":
            return self._probe(errand, report)
        if errand.kind == "count":
            return self._counted(errand)
        if task == "write":
            return self._write(errand, report)
        return self._folded(errand, report) if task == "fold" else self._scanned(errand.split, report)

    def _folded(self, errand: Errand, report: Report) -> SplitResult:
        """The fold's state over one split."""
        fold = self._job.fold
        if fold is None:
            message = "this worker was given no fold."
            raise StageError(message)
        tally = Tally()
        state = fold.start()
        for event in self.events(errand, tally, report):
            if isinstance(event, Batch):
                state = fold.add(state, event.table)
            report(self._so_far(tally))
        tally.check(f"split {errand.split.index}")
        return SplitResult(errand.split.index, tally, state=state)

    def _scanned(self, split: Split, report: Report) -> SplitResult:
        """The shape of the records of a split."""
        tally = Tally(bytes_in=split.bytes)
        shape = self._job.source.scan(split)
        report(tally)
        return SplitResult(split.index, tally, state=shape)

    def _write(self, errand: Errand, report: Report) -> SplitResult:
        """Run a split and write what comes out into the folder ``aside`` of the output directory."""
        if self._job.sink is None:
            message = "this worker was given no sink."
            raise StageError(message)
        try:
            with Writing(self._job, self._job.sink, errand.split, errand.aside) as writing:
                for event in self.events(errand, writing.tally, report):
                    writing.put(event)
                    report(self._so_far(writing.tally))
                return writing.finish()
        except OSError as error:
            raise said_plainly(error, self._job.sink.path) from error

    def _probe(self, errand: Errand, report: Report) -> SplitResult:
        """Run documents and keep nothing of what comes of them."""
        tally = Tally()
        fold = self._job.fold
        state = None if fold is None else fold.start()
        for event in self.events(errand, tally, report):
            if fold is not None and isinstance(event, Batch):
                state = fold.add(state, event.table)
        return SplitResult(errand.split.index, Tally())

    def _counted(self, errand: Errand) -> SplitResult:
        """How many records there are."""
        tally = Tally()
        for _ in self._read(errand, tally):
            pass
        return SplitResult(errand.split.index, tally)


def _items(source: Source, split: Split, want: Want) -> Iterator[Batch | Bad | End]:
    """The items of a split; a failure of the system to read them is said to be one of the input."""
    try:
        yield from source.read(split, want)
    except OSError as error:
        names = ", ".join(dict.fromkeys(piece.file.path for piece in split.pieces))
        message = (
            f"{error.filename or names} cannot be read: {error.strerror or error}. Finished splits are kept; run again."
        )
        raise InputError(message) from error


def _of(label: str, found: Measures[str]) -> Measures[tuple[str, str]]:
    return Measures({(label, name): amount for name, amount in found.items()})


def _where(batch: Batch) -> str:
    offset = int(batch.origin.offset[0])
    return f"{batch.origin.file}, byte {offset}" if offset >= 0 else f"{batch.origin.file}, row {batch.origin.line[0]}"
