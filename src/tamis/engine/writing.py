"""Writing the documents of one split: kept ones, rejects, quarantine; all aside, until the driver commits them."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import replace
from typing import Any, BinaryIO, Self

import numpy as np
import orjson
import pyarrow as pa

from tamis.engine.job import Event, Job, Output, Rejected, Sink, SplitResult
from tamis.engine.ledger import PARTS
from tamis.engine.tally import Tally
from tamis.io.formats import open_writer
from tamis.io.records import Bad
from tamis.io.splits import Split
from tamis.io.store import open_store
from tamis.table import Batch, put

__all__ = ["Writing"]

_REJECTS = "_rejects"


class Writing:
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
        with contextlib.ExitStack() as beginning:
            beginning.callback(self._open.close)
            if self._sink.partition_on is None:
                self._writer("")  # Parquet writes its first bytes here, and the disk may be full
            beginning.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def put(self, event: Event) -> None:
        """Write one event; events come in the order of the input."""
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

    def _name(self, folder: str) -> str:
        """The output's name, below a folder or, for "", at the top."""
        extension = replace(self._sink, format="jsonl").extension if folder == _REJECTS else self._sink.extension
        return "/".join(p for p in (folder, self._base() + extension) if p)

    def _place(self, name: str) -> str:
        """Where the driver will move it: with others that make one output together, to the parts."""
        piece = self._split.pieces[0]
        return name if piece.whole or not self._sink.by_input else f"{PARTS}/{name}/{piece.start}"

    def _writer(self, folder: str) -> Any:
        if folder not in self._writers:
            kind = "jsonl" if folder == _REJECTS else self._sink.format
            name = f"{self._aside}.{len(self._writers)}"
            file = self._open.enter_context(self._store.create(name, self._place(self._name(folder))))
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
            final = f"{PARTS}/_quarantine/{self._split.index}"
            self._quarantine = self._open.enter_context(self._store.create(f"{self._aside}.quarantine", final))
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
        """Close the files and say what they are."""
        closed = [(folder, *writer.close()) for folder, writer in self._writers.items()]
        self._open.close()  # an object store has all of a file only then
        outputs = []
        for number, (folder, rows, size, digest) in enumerate(closed):
            receipt = self._store.receipt(f"{self._aside}.{number}")
            outputs.append(Output(receipt, self._name(folder), rows, size, digest))
            if folder != _REJECTS:
                self.tally.bytes_out += size
        self.tally.check(f"split {self._split.index}")
        quarantine = None if self._quarantine is None else self._store.receipt(f"{self._aside}.quarantine")
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
