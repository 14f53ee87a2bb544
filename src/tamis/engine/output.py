"""The directory of a run: what is done, what is at work, and how it becomes final.

::

    OUT/part-00000.jsonl ...     the documents, one file per split (or per input file)
    OUT/_rejects/...             documents that a filter marked, with the reason (on request)
    OUT/_quarantine/records.jsonl        records that could not be used, with file, line, offset, cause, bytes
    OUT/_tamis/manifest.json     what the run was and what came of it; written last, so it says "complete"
    OUT/_tamis/splits.ndjson      the counts of every split
    OUT/_tamis/recipe.json       what was to be done, where the run was one of a recipe: for `tamis explain`
    OUT/_tamis/outputs.ndjson     every file with its rows, bytes and XXH3-128

While a run is at work ``_tamis`` holds ``run.json`` (what is being done), ``journal`` (one line per finished
split), ``parts`` (pieces of outputs that several splits share), ``work`` (files being written), ``status.json``
(what the run says of itself), ``names.ndjson`` (what outputs will be called where they follow inputs) and ``lock``.
All of them are gone at the end, and nothing that remains depends on the time, the workers or an interruption.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, Literal

import orjson
import pyarrow as pa
import xxhash

from tamis.engine.describe import digest
from tamis.engine.job import Output, Sink, SplitResult
from tamis.engine.ledger import (
    HOME,
    JOURNAL,
    LOCK,
    MANIFEST,
    NAMES,
    OUTPUTS,
    PARTS,
    QUARANTINE,
    RECIPE,
    REJECTS,
    RUN,
    SPLITS,
    STATUS,
    WORK,
    Ledger,
    SortedRows,
    parse_lines,
    quarantined,
    scheme_of,
    write_listing,
)
from tamis.engine.status import Beat, Pulse
from tamis.engine.tally import Tally
from tamis.errors import OutputRefusedError, StageError, TamisError
from tamis.io.formats import merge_parts
from tamis.io.splits import Split
from tamis.io.store import Store

__all__ = ["Mode", "RunDirectory", "RunKey"]

Mode = Literal["auto", "resume", "fresh"]
"""``auto`` goes on where the same run stopped; ``resume`` insists that there is something to go on with;
``fresh`` deletes what an earlier run of Tamis wrote there."""

_VERSION = 1
_WAITING = 4
"""Splits, for each move that may be under way, whose moves may wait: enough that none idles, few enough that a kill
costs little."""

Move = tuple[str, str]
"""(where a file lies, where it belongs)."""


@dataclass(frozen=True)
class RunKey:
    """What makes two runs the same run."""

    description: Mapping[str, Any]
    """Input, steps and output as JSON."""

    @property
    def fingerprint(self) -> str:
        """Equal for equal descriptions."""
        return digest({"version": _VERSION, **self.description})


def _dumps(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n"


class RunDirectory:
    """One run's output directory, held by one process at a time; used from one thread."""

    def __init__(self, store: Store, key: RunKey, sink: Sink) -> None:
        self.store = store
        self._key = key
        self._sink = sink
        self._ledger = Ledger()
        self._pulse = Pulse(store)
        self._pool = ThreadPoolExecutor(store.parallel, "tamis-commit") if store.parallel > 1 else None
        self._moving: deque[tuple[dict[str, Any], Future[None]]] = deque()
        self._listings: dict[str, dict[str, Any]] = {}
        self._work = f"{WORK}/{uuid.uuid4().hex[:12]}"
        self._finished = False
        self.schema: pa.Schema | None = None
        self.died = False
        """Whether the process at work here before was killed: it left what an orderly end clears away."""

    # -- opening ---------------------------------------------------------------------------------------------

    def claim(self, mode: Mode) -> Tally | None:
        """Take the directory over. Returns the final tally when this very run is already complete.

        The caller holds :meth:`lock`.
        """
        manifest = self._json(MANIFEST)
        run = self._json(RUN)
        if mode == "fresh" or self._nothing_came_of(manifest, run):
            self._wipe(manifest, run)
            manifest = run = None
        if manifest is None and run is None:
            self._refuse_foreign()
            if mode == "resume":
                message = f"{self.store.path} holds no run to resume. Leave --resume out to start one."
                raise OutputRefusedError(message)
        for found in (manifest, run):
            if found is not None and found["fingerprint"] != self._key.fingerprint:
                raise OutputRefusedError(self._refusal(found, complete=manifest is not None))
        if manifest is not None:
            self._tidy()
            return Tally.from_json(manifest["totals"])
        self._recover(run)
        self._pulse.start()
        return None

    def _nothing_came_of(self, manifest: Mapping[str, Any] | None, run: Mapping[str, Any] | None) -> bool:
        """Whether another recipe's run ended before its first split did, as when a model could not be loaded."""
        if manifest is not None or run is None or run["fingerprint"] == self._key.fingerprint:
            return False
        return next(self._json_lines(JOURNAL), None) is None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory; a directory with somebody's files is refused before anything is created in it.

        From :meth:`claim` on the run's status is published, and so is the error that ends it.
        """
        if not self.store.exists(HOME):
            self._refuse_foreign()
        with self.store.lock(LOCK):
            try:
                yield
            except BaseException as error:
                self._pulse.stop(error)
                raise
            finally:
                self._pulse.stop()
                self._ledger.close()
                with contextlib.suppress(OSError):  # lost lines only mean that their splits run again
                    self.store.sync()

    def _refuse_foreign(self) -> None:
        others = [name for name in self.store.names() if name != HOME]
        if others:
            some = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            message = (
                f"{self.store.path} is not empty ({some}) and holds no run of Tamis. Choose an empty or new directory."
            )
            raise OutputRefusedError(message)

    def _refusal(self, found: Mapping[str, Any], *, complete: bool) -> str:
        ours, theirs = dict(self._key.description), dict(found["description"])
        parts = [k for k in ("input", "steps", "output") if ours.get(k) != theirs.get(k)]
        names = {"input": "input files", "steps": "stages", "output": "output settings"}
        what = " and ".join(names[p] for p in parts) or "settings"
        state = "holds the result of" if complete else "holds an unfinished run of"
        return (
            f"{self.store.path} {state} another recipe: its {what} differ. "
            "Choose another directory, or replace what is there with --fresh (mode='fresh')."
        )

    def _wipe(self, manifest: Mapping[str, Any] | None, run: Mapping[str, Any] | None) -> None:
        """Delete what a run of Tamis wrote or may have written, and nothing else."""
        found = manifest if run is None else run
        if found is None:
            return
        if manifest is not None:
            # From here on it is an unfinished run: a kill half way through must not leave a "complete" one.
            self.store.replace(RUN, _dumps({k: found[k] for k in ("fingerprint", "description")} | {"schema": None}))
            self.store.remove(MANIFEST)
        self._remove_all(output["path"] for output in self._json_lines(OUTPUTS))
        self._remove_all(output["path"] for entry in self._json_lines(JOURNAL) for output in entry["outputs"])
        # A kill between a move and its line in the journal leaves a file that no list names, but by the run's scheme.
        is_output = scheme_of(found["description"], self._names())
        self._remove_all(name for name, _ in list(self.store.files()) if is_output(name))
        for name in (REJECTS, "_quarantine", SPLITS, OUTPUTS, RECIPE, PARTS, WORK, JOURNAL, NAMES, STATUS, RUN):
            self.store.remove(name)  # what says that a run was here goes last
        self.store.prune()

    def _remove_all(self, names: Iterable[str]) -> None:
        if self._pool is None:
            for name in names:
                self.store.remove(name)
            return
        while some := list(itertools.islice(names := iter(names), 10_000)):
            list(self._pool.map(self.store.remove, some))

    def _recover(self, run: Mapping[str, Any] | None) -> None:
        told = self._json(STATUS)
        was_running = told is not None and told["state"] == "running"
        left = was_running or self.store.inherited or self.store.exists(WORK)
        self.died = run is not None and (left or run.get("died", False))
        self.store.remove(WORK)
        if run is None:
            return
        if run.get("schema"):
            self.schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(run["schema"])))
        for entry in self._json_lines(JOURNAL):
            self._ledger.put(entry)
        found = dict(self.store.files())  # one listing: asking for each file takes an object store hours
        for entry in self._ledger.entries():
            if self._is_there(entry, found):
                for output in entry["outputs"]:
                    found.pop(output["path"], None)
            else:
                self._ledger.forget(entry["split"])
        is_output = scheme_of(run["description"], self._names())
        self._remove_all(name for name in found if is_output(name))  # moved, but not noted any more

    def _is_there(self, entry: Mapping[str, Any], found: Mapping[str, int]) -> bool:
        """Whether a split's files lie where they belong; sizes tell those that a power cut tore."""
        for output in entry["outputs"]:
            merged = output["part"] is not None and output["path"] in found
            if found.get(self._place(output)) != output["bytes"] and not merged:
                return False
        size = found.get(entry["quarantine"])
        return entry["quarantine"] is None or (size is not None and entry.get("quarantine_bytes", size) == size)

    @staticmethod
    def _place(output: Mapping[str, Any]) -> str:
        return output["path"] if output["part"] is None else f"{PARTS}/{output['path']}/{output['part']}"

    def _names(self) -> Iterator[str]:
        return (entry["path"] for entry in self._json_lines(NAMES))

    def _json(self, name: str) -> Any:
        content = self.store.read(name)
        return None if content is None else orjson.loads(content)

    def _json_lines(self, name: str) -> Iterator[dict[str, Any]]:
        return parse_lines(self.store.lines(name))

    # -- working ---------------------------------------------------------------------------------------------

    @property
    def done(self) -> Collection[int]:
        """Numbers of the splits that need no work."""
        return self._ledger

    def tally(self) -> Tally:
        """What the finished splits add up to."""
        return self._ledger.total

    def start(self, schema: pa.Schema | None, names: Iterable[str] = ()) -> None:
        """Write down what is being done, before the first split.

        Args:
            schema: Of the documents, where one was decided.
            names: What the outputs will be called, where that follows the inputs and not the numbers of the splits.
        """
        self.schema = schema
        text = None if schema is None else schema.serialize().to_pybytes().hex()
        run = {
            "fingerprint": self._key.fingerprint,
            "description": self._key.description,
            "schema": text,
            "died": self.died,
        }
        self.store.replace(RUN, _dumps(run))
        lines = (orjson.dumps({"path": name}) + b"\n" for name in names)
        first = next(lines, None)
        if first is not None:
            write_listing(self.store, f"{self._work}/names", NAMES, itertools.chain([first], lines))

    def beat(self, beat: Beat) -> None:
        """Say how far the run is. Cheap: it is published every two seconds, by a thread."""
        self._pulse.beat(beat)

    def aside(self, split: Split) -> str:
        """What the names of a split's files begin with while they are written.

        No folder for each: to make and remove one takes a disk longer than all else that is done for a split.
        """
        return f"{self._work}/{split.index}"

    def commit(self, split: Split, result: SplitResult) -> None:
        """Put a split's files where they belong, then say so in the journal: from then on it is done.

        Where the store takes long over a move and takes many at once, this returns before they are made, and the
        journal's line follows them; :meth:`quarantine` and :meth:`finish` wait for all.
        """
        shared = self._sink.by_input and not split.pieces[0].whole
        outputs, moves = [], []
        for output in result.outputs:
            entry = self._entry(output, split.pieces[0].start if shared else None)
            moves.append((output.aside, self._place(entry)))
            outputs.append(entry)
        quarantine = None
        if result.quarantine is not None:
            quarantine = f"{PARTS}/_quarantine/{split.index}"
            moves.append((result.quarantine, quarantine))
        entry = {
            "split": split.index,
            "tally": result.tally.to_json(),
            "lines": list(result.lines),
            "outputs": outputs,
            "quarantine": quarantine,
        }
        if self._pool is None:
            self._move(moves)
            if quarantine is not None:  # as of outputs, so that one that a power cut tore is made again
                entry["quarantine_bytes"] = self.store.size(quarantine)
            self._note(entry)
        else:
            self._moving.append((entry, self._pool.submit(self._move, moves)))
            self._settle(_WAITING * self.store.parallel)

    def _move(self, moves: Sequence[Move]) -> None:
        for source, target in moves:
            self.store.move(source, target)

    def _note(self, entry: dict[str, Any]) -> None:
        line = orjson.dumps(entry)
        self.store.append(JOURNAL, line)
        self._ledger.put(entry, line)

    def _settle(self, most: int) -> None:
        """Note the splits whose files are in place; return when at most so many are not."""
        while True:
            for _ in range(len(self._moving)):
                entry, future = self._moving.popleft()
                if future.done():
                    future.result()
                    self._note(entry)
                else:
                    self._moving.append((entry, future))
            if len(self._moving) <= most:
                return
            wait([future for _, future in self._moving], return_when=FIRST_COMPLETED)

    @staticmethod
    def _entry(output: Output, part: int | None) -> dict[str, Any]:
        return {"path": output.name, "part": part, "rows": output.rows, "bytes": output.bytes, "xxh3": output.digest}

    # -- ending ----------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Clear away half-written files after an interruption; finished splits stay."""
        for _, future in self._moving:
            future.cancel()
        self._moving = deque((entry, future) for entry, future in self._moving if not future.cancelled())
        while self._moving:
            with contextlib.suppress(OSError, TamisError):  # what ended the run is said already
                self._settle(0)
        if self._pool is not None:
            self._pool.shutdown()
        if self._finished:  # the lock is gone, and what lies there now may be another run's
            return
        self.store.remove(WORK)  # all of it: that it is there tells the next run that this one was killed

    def quarantine(self, splits: Sequence[Split]) -> None:
        """Write ``_quarantine/records.jsonl`` from what the splits set aside, with absolute line numbers."""
        self._settle(0)
        lines = quarantined(self.store, self._ledger, splits)
        first = next(lines, None)
        if first is None:
            self.store.remove(QUARANTINE)
        else:
            lines = itertools.chain([first], lines)
            self._listings[QUARANTINE] = write_listing(self.store, f"{self._work}/quarantine", QUARANTINE, lines)

    def finish(self, splits: Sequence[Split]) -> Tally:
        """Merge, write the manifest (the moment the run is complete), and clear away what was only for working."""
        self._settle(0)
        if len(self._ledger) != len(splits):
            message = (
                f"{len(self._ledger)} of {len(splits)} splits are done. This is a defect of Tamis; please report it."
            )
            raise StageError(message)
        total = self._ledger.total
        total.check(self.store.path)
        rows = SortedRows()
        self._listings[SPLITS] = write_listing(self.store, f"{self._work}/splits", SPLITS, self._split_lines(rows))
        self._listings[OUTPUTS] = write_listing(self.store, f"{self._work}/outputs", OUTPUTS, self._output_lines(rows))
        manifest = {
            "fingerprint": self._key.fingerprint,
            "description": self._key.description,
            "splits": len(splits),
            "outputs": self._listings[OUTPUTS]["lines"],
            "totals": total.to_json(),
            "listings": dict(sorted(self._listings.items())),
        }
        self._pulse.stop()
        self.store.replace(MANIFEST, _dumps(manifest))
        self._finished = True
        self._tidy()
        return total

    def _split_lines(self, rows: SortedRows) -> Iterator[bytes]:
        """The lines of ``splits.ndjson``; the outputs are put into ``rows`` on the way."""
        for entry in self._ledger.entries():
            for output in entry["outputs"]:
                part = -1 if output["part"] is None else output["part"]
                rows.add([output["path"], part, output["rows"], output["bytes"], output["xxh3"]])
            yield orjson.dumps({k: entry[k] for k in ("split", "tally", "lines")}) + b"\n"

    def _output_lines(self, rows: SortedRows) -> Iterator[bytes]:
        """The lines of ``outputs.ndjson``; the parts of outputs that several splits share are joined on the way."""
        for path, same in itertools.groupby(rows, key=itemgetter(0)):
            parts = list(same)
            _, part, count, size, xxh3 = parts[0]
            if part >= 0:
                if not self.store.exists(path):
                    self._join(path, [f"{PARTS}/{path}/{row[1]}" for row in parts])
                count, size, xxh3 = sum(row[2] for row in parts), self.store.size(path), self._digest(path)
            yield orjson.dumps({"path": path, "rows": count, "bytes": size, "xxh3": xxh3}) + b"\n"

    def _join(self, path: str, parts: Sequence[str]) -> None:
        aside = f"{self._work}/merge"
        kind = "jsonl" if path.startswith(f"{REJECTS}/") else self._sink.format
        merge_parts(kind, [partial(self.store.open, part) for part in parts], partial(self.store.create, aside, path))
        self.store.settle(aside)  # its parts go next
        self.store.move(aside, path)
        self.store.remove(f"{PARTS}/{path}")

    def _digest(self, path: str) -> str:
        state = xxhash.xxh3_128()
        with self.store.open(path) as file:
            while block := file.read(1 << 20):
                state.update(block)
        return state.hexdigest()

    def _tidy(self) -> None:
        for name in (WORK, PARTS, JOURNAL, NAMES, STATUS, f"{STATUS}.tmp", RUN, LOCK):
            self.store.remove(name)
