"""The worker: opens its stages once, then runs one split at a time. Every engine shares it.

This is the only place where rows are removed: a stage marks them, the worker takes them out, counts them by
reason and hands them to the rejects. A record that breaks a stage is isolated and quarantined; the records
beside it go on.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Self

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tamis.engine.plan import labels
from tamis.engine.tally import Tally
from tamis.errors import BadRecordError, InputError, StageError, TamisError
from tamis.io.files import line_number
from tamis.io.formats import open_writer
from tamis.io.records import Bad, End, Want
from tamis.io.source import Source
from tamis.io.splits import Split
from tamis.io.store import open_store, said_plainly
from tamis.stage import Fold, Needs, Stage
from tamis.table import ROW, Batch, marks, put

__all__ = ["Job", "Output", "Rejected", "Sink", "SplitResult", "Worker"]

Report = Callable[[Tally], None]
"""Called now and then with the tally of the split so far."""

_WHOLE_BATCH = 1000
"""A stage that fails on every one of at least this many documents in one batch is broken, not the documents."""

_REJECTS = "_rejects"
_EXTENSIONS = {"jsonl": ".jsonl", "parquet": ".parquet"}


@dataclass(frozen=True)
class Sink:
    """Where and how documents are written."""

    path: str
    format: str
    compression: str | None = None
    by_input: bool = False
    """One output per input file, under the input's name; else one per split."""
    partition_on: str | None = None
    """Column whose values become folders; a column that a stage made is not written itself."""
    keep_rejects: bool = False

    @property
    def extension(self) -> str:
        """The file name extension of an output."""
        packed = self.compression if self.format == "jsonl" else None
        return _EXTENSIONS[self.format] + (f".{packed}" if packed else "")


@dataclass(frozen=True)
class Job:
    """What every worker of a run is given once."""

    source: Source
    stages: tuple[Stage, ...]
    want: Want
    schema: pa.Schema
    """Columns at the end of the plan."""
    made: tuple[str, ...] = ()
    """Columns that the source or a stage adds or replaces, in order."""
    needs: tuple[Needs, ...] = ()
    """What each stage needs."""
    replaces: tuple[tuple[str, ...], ...] = ()
    """Columns that each stage replaces."""
    sink: Sink | None = None
    fold: Fold[Any, Any] | None = None
    names: dict[str, str] = field(default_factory=dict)
    """Output name (without extension) by input path, where outputs follow inputs."""
    strict: bool = False
    width: int = 5
    """Digits of a split's number in its output's name."""


@dataclass(frozen=True)
class Output:
    """One file written for a split."""

    aside: str
    """Where it lies now, in the run's own folder."""
    name: str
    """Where it belongs."""
    rows: int
    bytes: int
    digest: str


@dataclass
class SplitResult:
    """What a worker reports of a finished split."""

    index: int
    tally: Tally
    outputs: tuple[Output, ...] = ()
    quarantine: str | None = None
    """File with this split's quarantine entries, in the run's own folder."""
    lines: tuple[int, ...] = ()
    """Physical lines of each piece, so that line numbers can be made absolute."""
    state: Any = None


@dataclass(frozen=True)
class Rejected:
    """Documents that a stage marked, with why."""

    batch: Batch
    stage: str
    reasons: pa.ChunkedArray
    scores: pa.ChunkedArray | None


@dataclass(frozen=True)
class _Failed:
    """A document on which a stage raised."""

    batch: Batch
    stage: str
    error: Exception


Event = Batch | Rejected | Bad | End


class Worker:
    """Runs splits. Its stages are opened when it is made, and never again."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._labels = labels(job.stages)
        self._functions = [stage.open() for stage in job.stages]
        self._live = self._columns_needed_after()
        self._split: Split | None = None

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

    def events(self, split: Split, tally: Tally) -> Iterator[Event]:
        """Everything that happens to the documents of a split, in order; ``tally`` is kept up to date."""
        self._split = split
        for item in _read(self._job.source, split, self._job.want):
            if isinstance(item, End):
                tally.lines += item.lines
                tally.bytes_in += item.bytes
                yield item
            elif isinstance(item, Bad):
                tally.records += 1
                yield self._bad(item, tally)
            else:
                tally.records += item.table.num_rows
                yield from self._through(item, tally)

    def _through(self, batch: Batch, tally: Tally) -> Iterator[Event]:
        for index, label in enumerate(self._labels):
            if not batch.table.num_rows:
                return
            good, failed = self._apply(index, batch)
            for failure in failed:
                yield self._bad(_bad_from(failure), tally)
            if good is None:
                return
            table, reasons, scores = marks(good.table)
            if not failed:
                self._count_changes(index, batch.table, table, tally)
            batch = Batch(self._pruned(index, table), good.origin)
            if reasons is None or reasons.null_count == len(reasons):
                continue
            keep = np.asarray(reasons.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
            gone = np.flatnonzero(~keep)
            rows = pa.array(gone)
            why = reasons.take(rows)
            for entry in why.value_counts().to_pylist():
                tally.rejected[label, entry["values"]] += entry["counts"]
            yield Rejected(batch.take(gone), label, why, None if scores is None else scores.take(rows))
            batch = batch.where(keep)
        if batch.table.num_rows:
            tally.kept += batch.table.num_rows
            yield batch

    def _count_changes(self, index: int, before: pa.Table, after: pa.Table, tally: Tally) -> None:
        for name in self._job.replaces[index] if self._job.replaces else ():
            old, new = before.column(name), after.column(name)
            if old.type == new.type and not pa.types.is_nested(old.type) and not _same_memory(old, new):
                changed = pc.sum(pc.not_equal(old, new)).as_py()
                if changed:
                    tally.changed[self._labels[index]] += changed

    def _pruned(self, index: int, table: pa.Table) -> pa.Table:
        if self._live is None:
            return table
        kept = [name for name in table.column_names if name in self._live[index]]
        return table.select(kept) if kept else pa.table({ROW: np.arange(table.num_rows)})

    def _apply(self, index: int, batch: Batch) -> tuple[Batch | None, list[_Failed]]:
        """Run one stage on a batch; documents it raises on are set apart."""
        good, failed = self._isolate(index, batch)
        if len(failed) == batch.table.num_rows >= _WHOLE_BATCH:
            first = failed[0]
            message = (
                f"{first.stage} failed on all {len(failed)} documents of a batch, the first at {_where(first.batch)}: "
                f"{type(first.error).__name__}: {first.error}. The stage is broken; mend it and run again."
            )
            raise StageError(message) from first.error
        return good, failed

    def _isolate(self, index: int, batch: Batch) -> tuple[Batch | None, list[_Failed]]:
        """Find the documents that a stage raises on by halving."""
        label = self._labels[index]
        try:
            table = self._functions[index](batch.table)
        except TamisError:
            raise
        except Exception as error:  # noqa: BLE001  user code may raise anything; the document is quarantined
            if batch.table.num_rows == 1:
                return None, [_Failed(batch, label, error)]
        else:
            self._check_rows(label, batch.table, table)
            return Batch(table, batch.origin), []
        half = batch.table.num_rows // 2
        left, bad_left = self._isolate(index, batch.take(np.arange(half)))
        right, bad_right = self._isolate(index, batch.take(np.arange(half, batch.table.num_rows)))
        return _joined(left, right), bad_left + bad_right

    def _check_rows(self, label: str, before: pa.Table, after: pa.Table) -> None:
        if not isinstance(after, pa.Table):
            message = f"{label} returned {type(after).__name__}; a stage returns a pyarrow.Table."
            raise StageError(message)
        if after.num_rows != before.num_rows:
            message = (
                f"{label} got {before.num_rows} documents and returned {after.num_rows}. A stage keeps every row and "
                "marks the ones it wants gone with tamis.table.mark()."
            )
            raise StageError(message)

    def _bad(self, bad: Bad, tally: Tally) -> Bad:
        if self._job.strict:
            raise BadRecordError(said_of(bad, line=self._line(bad)))
        tally.quarantined[bad.kind] += 1
        return bad

    def _line(self, bad: Bad) -> int | None:
        """The line of a bad record in its file, from 1; looked up in the file where this split begins in its middle."""
        pieces = [piece for piece in self._split.pieces if piece.file.path == bad.file] if self._split else []
        if pieces and pieces[0].start > 0:
            return line_number(pieces[0].file.path, bad.offset) if bad.offset >= 0 else None
        return bad.line + 1 if len(pieces) == 1 else None

    def fold(self, split: Split, report: Report) -> SplitResult:
        """The fold's state over one split."""
        fold = self._job.fold
        if fold is None:
            message = "this worker was given no fold."
            raise StageError(message)
        tally = Tally()
        state = fold.start()
        for event in self.events(split, tally):
            if isinstance(event, Batch):
                state = fold.add(state, event.table)
            report(tally)
        tally.check(f"split {split.index}")
        return SplitResult(split.index, tally, state=state)

    def scan(self, split: Split, report: Report) -> SplitResult:
        """The shape of the records of a split."""
        tally = Tally(bytes_in=split.bytes)
        shape = self._job.source.scan(split)
        report(tally)
        return SplitResult(split.index, tally, state=shape)

    def write(self, split: Split, aside: str, report: Report) -> SplitResult:
        """Run a split and write what comes out into the folder ``aside`` of the output directory."""
        if self._job.sink is None:
            message = "this worker was given no sink."
            raise StageError(message)
        try:
            with _Writing(self._job, self._job.sink, split, aside) as writing:
                for event in self.events(split, writing.tally):
                    writing.put(event)
                    report(writing.tally)
                return writing.finish()
        except OSError as error:
            raise said_plainly(error, self._job.sink.path) from error


def _read(source: Source, split: Split, want: Want) -> Iterator[Batch | Bad | End]:
    """The items of a split; a failure of the system to read them is said to be one of the input."""
    try:
        yield from source.read(split, want)
    except OSError as error:
        names = ", ".join(dict.fromkeys(piece.file.path for piece in split.pieces))
        message = (
            f"{error.filename or names} cannot be read: {error.strerror or error}. Finished splits are kept; run again."
        )
        raise InputError(message) from error


def _same_memory(a: pa.ChunkedArray, b: pa.ChunkedArray) -> bool:
    """Whether two columns are the same buffers: what a stage returns that found nothing to change."""
    if a.num_chunks != b.num_chunks:
        return False
    return all(
        [x and x.address for x in left.buffers()] == [y and y.address for y in right.buffers()]
        for left, right in zip(a.chunks, b.chunks, strict=True)
    )


def _joined(left: Batch | None, right: Batch | None) -> Batch | None:
    if left is None or right is None:
        return left or right
    origin = left.origin
    raw = origin.raw
    if raw is not None and right.origin.raw is not None:  # halves of one batch: the same block
        raw = replace(
            raw,
            starts=np.concatenate([raw.starts, right.origin.raw.starts]),
            ends=np.concatenate([raw.ends, right.origin.raw.ends]),
        )
    joined = type(origin)(
        file=origin.file,
        line=np.concatenate([origin.line, right.origin.line]),
        offset=np.concatenate([origin.offset, right.origin.offset]),
        raw=raw,
    )
    return Batch(pa.concat_tables([left.table, right.table], promote_options="permissive"), joined)


def _where(batch: Batch) -> str:
    offset = int(batch.origin.offset[0])
    return f"{batch.origin.file}, byte {offset}" if offset >= 0 else f"{batch.origin.file}, row {batch.origin.line[0]}"


def _bad_from(failed: _Failed) -> Bad:
    origin = failed.batch.origin
    raw = origin.raw[0] if origin.raw else orjson.dumps(failed.batch.table.to_pylist()[0], default=str)
    return Bad(
        file=origin.file,
        line=int(origin.line[0]),
        offset=int(origin.offset[0]),
        kind=f"{failed.stage} failed",
        detail=f"{type(failed.error).__name__}: {failed.error}",
        raw=raw[: 1 << 20],
        size=len(raw),
    )


def said_of(bad: Bad, line: int | None) -> str:
    """One bad record as a sentence: file, line, byte offset, cause."""
    place = [bad.file]
    if line is not None:
        place.append(f"line {line}")
    if bad.offset >= 0:
        place.append(f"byte {bad.offset}")
    return f"{', '.join(place)}: {bad.kind}: {bad.detail}"


class _Writing:
    """The output files of one split while they are written."""

    def __init__(self, job: Job, sink: Sink, split: Split, aside: str) -> None:
        self.tally = Tally()
        self._job = job
        self._sink = sink
        self._split = split
        self._aside = aside
        self._store = open_store(sink.path)
        self._writers: dict[str, Any] = {}
        self._lines: list[int] = []
        self._quarantine: BinaryIO | None = None
        self._piece = 0
        self._open = contextlib.ExitStack()
        # A column that a stage made to partition on has done its work; a field of the documents stays.
        self._drop = sink.partition_on if sink.partition_on in job.made else None
        self._schema = pa.schema([f for f in job.schema if f.name != self._drop])

    def __enter__(self) -> Self:
        if self._sink.partition_on is None:
            self._writer("")
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def put(self, event: Event) -> None:
        if isinstance(event, Batch):
            self._kept(event)
        elif isinstance(event, Rejected):
            if self._sink.keep_rejects:
                self._rejected(event)
        elif isinstance(event, Bad):
            self._bad(event)
        else:
            self._lines.append(event.lines)
            self._piece += 1

    def _base(self) -> str:
        """The output's name without extension."""
        if self._sink.by_input:
            return self._job.names[self._split.pieces[0].file.path]
        return f"part-{self._split.index:0{self._job.width}d}"

    def _writer(self, folder: str) -> Any:
        if folder not in self._writers:
            kind = "jsonl" if folder == _REJECTS else self._sink.format
            file = self._open.enter_context(self._store.create(f"{self._aside}/{len(self._writers)}"))
            self._writers[folder] = open_writer(file, kind, self._schema, compression=self._sink.compression)
        return self._writers[folder]

    def _kept(self, batch: Batch) -> None:
        column = self._sink.partition_on
        if column is None:
            self._writer("").write(batch, self._job.made)
            return
        values = batch.table.column(column).to_pylist()
        made = tuple(n for n in self._job.made if n != self._drop)
        rest = batch if self._drop is None else Batch(batch.table.drop_columns([self._drop]), batch.origin)
        groups: dict[str, list[int]] = {}
        for row, value in enumerate(values):
            groups.setdefault(_folder(value), []).append(row)
        for folder, rows in groups.items():
            self._writer(folder).write(rest.take(np.array(rows)), made)

    def _rejected(self, event: Rejected) -> None:
        scores = [None] * len(event.reasons) if event.scores is None else event.scores.to_pylist()
        why = [
            {"stage": event.stage, "reason": reason, "score": score}
            for reason, score in zip(event.reasons.to_pylist(), scores, strict=True)
        ]
        kind = pa.struct({"stage": pa.string(), "reason": pa.string(), "score": _score_type(event.scores)})
        table = put(event.batch.table, "rejected", pa.array(why, kind))
        made = (*(n for n in self._job.made if n in table.column_names), "rejected")
        self._writer(_REJECTS).write(Batch(table, event.batch.origin), made)

    def _bad(self, bad: Bad) -> None:
        if self._quarantine is None:
            self._quarantine = self._open.enter_context(self._store.create(f"{self._aside}/quarantine"))
        entry: dict[str, Any] = {
            "file": bad.file,
            "line": bad.line,
            "offset": None if bad.offset < 0 else bad.offset,
            "cause": bad.kind,
            "detail": bad.detail,
            "size": bad.size,
        }
        try:
            entry["raw"] = bad.raw.decode()
        except UnicodeDecodeError:
            entry["raw_base64"] = base64.b64encode(bad.raw).decode()
        self._quarantine.write(orjson.dumps({"piece": self._piece, **entry}) + b"\n")

    def finish(self) -> SplitResult:
        outputs = []
        for number, (folder, writer) in enumerate(self._writers.items()):
            rows, size, digest = writer.close()
            extension = replace(self._sink, format="jsonl").extension if folder == _REJECTS else self._sink.extension
            name = "/".join(p for p in (folder, self._base() + extension) if p)
            outputs.append(Output(f"{self._aside}/{number}", name, rows, size, digest))
            if folder != _REJECTS:
                self.tally.bytes_out += size
        self._open.close()
        self.tally.check(f"split {self._split.index}")
        quarantine = None if self._quarantine is None else f"{self._aside}/quarantine"
        return SplitResult(self._split.index, self.tally, tuple(outputs), quarantine, tuple(self._lines))


def _score_type(scores: pa.ChunkedArray | None) -> pa.DataType:
    return pa.float64() if scores is None else scores.type


def _folder(value: object) -> str:
    """A column value as the name of a folder: no separators, no hidden or reserved names."""
    text = "null" if value is None else str(value)
    safe = "".join(c if c.isalnum() or c in " .-_+=@" else f"%{ord(c):02X}" for c in text).strip()
    if not safe or safe[0] in "._":
        safe = f"%{ord(safe[0]):02X}{safe[1:]}" if safe else "empty"
    return safe[:200]
