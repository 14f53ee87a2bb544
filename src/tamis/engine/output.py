"""The directory of a run: what is done, what is at work, and how it becomes final.

::

    OUT/part-00000.jsonl ...     the documents, one file per split (or per input file)
    OUT/_rejects/...             documents that a filter marked, with the reason (on request)
    OUT/_quarantine/records.jsonl        records that could not be used, with file, line, offset, cause, bytes
    OUT/_tamis/manifest.json     what the run was and what came of it; written last, so it says "complete"
    OUT/_tamis/splits.ndjson      the counts of every split
    OUT/_tamis/outputs.ndjson     every file with its rows, bytes and XXH3-128

While a run is at work ``_tamis`` holds ``run.json`` (what is being done), ``journal`` (one line per finished
split), ``parts`` (pieces of outputs that several splits share), ``work`` (files being written) and ``lock``.
All of them are gone at the end, and nothing that remains depends on the time, the workers or an interruption.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import orjson
import pyarrow as pa
import xxhash

from tamis.engine.describe import digest
from tamis.engine.job import Output, Sink, SplitResult
from tamis.engine.tally import Tally
from tamis.errors import OutputRefusedError
from tamis.io.formats import merge_parts
from tamis.io.splits import Split
from tamis.io.store import Store

__all__ = ["Mode", "RunDirectory", "RunKey"]

Mode = Literal["auto", "resume", "fresh"]
"""``auto`` goes on where the same run stopped; ``resume`` insists that there is something to go on with;
``fresh`` deletes what an earlier run of Tamis wrote there."""

_HOME = "_tamis"
_MANIFEST = f"{_HOME}/manifest.json"
_RUN = f"{_HOME}/run.json"
_JOURNAL = f"{_HOME}/journal"
_LOCK = f"{_HOME}/lock"
_WORK = f"{_HOME}/work"
_PARTS = f"{_HOME}/parts"
_SPLITS = f"{_HOME}/splits.ndjson"
_OUTPUTS = f"{_HOME}/outputs.ndjson"
_QUARANTINE = "_quarantine/records.jsonl"
_VERSION = 1


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
    """One run's output directory, held by one process at a time."""

    def __init__(self, store: Store, key: RunKey, sink: Sink) -> None:
        self.store = store
        self._key = key
        self._sink = sink
        self._done: dict[int, dict[str, Any]] = {}
        self._outputs: dict[str, dict[str, Any]] = {}
        self._work = f"{_WORK}/{uuid.uuid4().hex[:12]}"
        self.schema: pa.Schema | None = None

    # -- opening ---------------------------------------------------------------------------------------------

    def claim(self, mode: Mode) -> Tally | None:
        """Take the directory over. Returns the final tally when this very run is already complete.

        The caller holds :meth:`lock`.
        """
        manifest = self._json(_MANIFEST)
        run = self._json(_RUN)
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
        return None

    def _nothing_came_of(self, manifest: Mapping[str, Any] | None, run: Mapping[str, Any] | None) -> bool:
        """Whether another recipe's run ended before its first split did, as when a model could not be loaded."""
        if manifest is not None or run is None or run["fingerprint"] == self._key.fingerprint:
            return False
        return next(self._json_lines(_JOURNAL), None) is None

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the directory; a directory with somebody's files is refused before anything is created in it."""
        if _HOME not in self.store.names():
            self._refuse_foreign()
        return self.store.lock(_LOCK)

    def _refuse_foreign(self) -> None:
        others = [name for name in self.store.names() if name != _HOME]
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
        """Delete what a run of Tamis wrote, and nothing else."""
        if manifest is None and run is None:
            return
        written = {o["path"] for o in self._json_lines(_OUTPUTS)}
        written |= {o["path"] for entry in self._json_lines(_JOURNAL) for o in entry["outputs"]}
        for name in sorted(written):
            self.store.remove(name)
        for name in ("_rejects", "_quarantine", _MANIFEST, _RUN, _SPLITS, _OUTPUTS, _PARTS, _WORK, _JOURNAL):
            self.store.remove(name)
        self.store.prune()

    def _recover(self, run: Mapping[str, Any] | None) -> None:
        self.store.remove(_WORK)
        for entry in self._json_lines(_JOURNAL):
            # Sizes are compared so that a file torn by a power cut is made again.
            if all(self.store.size(self._place(o)) == o["bytes"] or self._merged(o) for o in entry["outputs"]):
                self._done[entry["split"]] = entry
        if run is not None and run.get("schema"):
            self.schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(run["schema"])))

    def _merged(self, output: Mapping[str, Any]) -> bool:
        return output["part"] is not None and self.store.exists(output["path"])

    @staticmethod
    def _place(output: Mapping[str, Any]) -> str:
        return output["path"] if output["part"] is None else f"{_PARTS}/{output['path']}/{output['part']}"

    def _json(self, name: str) -> Any:
        content = self.store.read(name)
        return None if content is None else orjson.loads(content)

    def _json_lines(self, name: str) -> Iterator[dict[str, Any]]:
        for line in self.store.lines(name):
            if line.endswith(b"\n"):  # a line without its end was torn by a kill: that split runs again
                yield orjson.loads(line)

    # -- working ---------------------------------------------------------------------------------------------

    @property
    def done(self) -> frozenset[int]:
        """Numbers of the splits that need no work."""
        return frozenset(self._done)

    def tally(self) -> Tally:
        """What the finished splits add up to."""
        total = Tally()
        for entry in self._done.values():
            total += Tally.from_json(entry["tally"])
        return total

    def start(self, schema: pa.Schema | None) -> None:
        """Write down what is being done, before the first split."""
        self.schema = schema
        text = None if schema is None else schema.serialize().to_pybytes().hex()
        run = {"fingerprint": self._key.fingerprint, "description": self._key.description, "schema": text}
        self.store.replace(_RUN, _dumps(run))

    def aside(self, split: Split) -> str:
        """A folder for a split's files while they are written."""
        return f"{self._work}/{split.index}"

    def commit(self, split: Split, result: SplitResult) -> None:
        """Put a split's files where they belong, then say so in the journal: from then on it is done."""
        shared = self._sink.by_input and self._shares_output(split)
        outputs = []
        for output in result.outputs:
            entry = self._entry(output, split.pieces[0].start if shared else None)
            self.store.move(output.aside, self._place(entry))
            outputs.append(entry)
        quarantine = None
        if result.quarantine is not None:
            quarantine = f"{_PARTS}/_quarantine/{split.index}"
            self.store.move(result.quarantine, quarantine)
        self.store.remove(self.aside(split))
        entry = {
            "split": split.index,
            "tally": result.tally.to_json(),
            "lines": list(result.lines),
            "outputs": outputs,
            "quarantine": quarantine,
        }
        self.store.append(_JOURNAL, orjson.dumps(entry))
        self._done[split.index] = entry

    @staticmethod
    def _shares_output(split: Split) -> bool:
        piece = split.pieces[0]
        return not piece.whole

    @staticmethod
    def _entry(output: Output, part: int | None) -> dict[str, Any]:
        return {"path": output.name, "part": part, "rows": output.rows, "bytes": output.bytes, "xxh3": output.digest}

    # -- ending ----------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """Clear away half-written files after an interruption; finished splits stay."""
        self.store.remove(self._work)

    def quarantine(self, splits: Sequence[Split]) -> None:
        """Write ``_quarantine/records.jsonl`` from what the splits set aside, with absolute line numbers."""
        if not any(entry["quarantine"] for entry in self._done.values()):
            return
        before = self._lines_before(splits)
        aside = f"{self._work}/quarantine"
        with self.store.create(aside) as file:
            for split in splits:
                entry = self._done.get(split.index)
                if entry is None or entry["quarantine"] is None:
                    continue
                with self.store.open(entry["quarantine"]) as part:
                    for line in part:
                        record = orjson.loads(line)
                        piece = record.pop("piece")
                        # Lines are counted from 1, as editors do.
                        record["line"] += before[split.index, piece] + 1
                        file.write(orjson.dumps(record) + b"\n")
        self.store.move(aside, _QUARANTINE)

    def _lines_before(self, splits: Sequence[Split]) -> dict[tuple[int, int], int]:
        """Physical lines of the same file before each piece. Pieces of a file come in file order."""
        before: dict[tuple[int, int], int] = {}
        seen: dict[str, int] = {}
        for split in splits:
            lines = self._done[split.index]["lines"] if split.index in self._done else []
            for number, piece in enumerate(split.pieces):
                before[split.index, number] = seen.get(piece.file.path, 0)
                if number < len(lines):
                    seen[piece.file.path] = before[split.index, number] + lines[number]
        return before

    def finish(self, splits: Sequence[Split]) -> Tally:
        """Merge, write the manifest (the moment the run is complete), and clear away what was only for working."""
        self._merge()
        total = self.tally()
        total.check(self.store.path)
        ordered = [self._done[split.index] for split in splits]
        lines = [{k: e[k] for k in ("split", "tally", "lines")} for e in ordered]
        self.store.replace(_SPLITS, b"".join(orjson.dumps(line) + b"\n" for line in lines))
        files = [self._outputs[name] for name in sorted(self._outputs)]
        self.store.replace(_OUTPUTS, b"".join(orjson.dumps(f) + b"\n" for f in files))
        manifest = {
            "fingerprint": self._key.fingerprint,
            "description": self._key.description,
            "splits": len(splits),
            "outputs": len(files),
            "totals": total.to_json(),
        }
        self.store.replace(_MANIFEST, _dumps(manifest))
        self._tidy()
        return total

    def _merge(self) -> None:
        """Join the parts of outputs that several splits share; list every output."""
        parts: dict[str, list[dict[str, Any]]] = {}
        for entry in self._done.values():
            for output in entry["outputs"]:
                parts.setdefault(output["path"], []).append(output)
        for path, outputs in sorted(parts.items()):
            if outputs[0]["part"] is None:
                self._outputs[path] = {k: outputs[0][k] for k in ("path", "rows", "bytes", "xxh3")}
                continue
            ordered = sorted(outputs, key=lambda o: int(o["part"]))
            if not self.store.exists(path):
                self._join(path, [self._place(o) for o in ordered])
            self._outputs[path] = {
                "path": path,
                "rows": sum(o["rows"] for o in ordered),
                "bytes": self.store.size(path),
                "xxh3": self._digest(path),
            }

    def _join(self, path: str, parts: Sequence[str]) -> None:
        aside = f"{self._work}/merge"
        rejects = path.startswith("_rejects/")
        kind = "jsonl" if rejects else self._sink.format
        merge_parts(kind, [partial(self.store.open, part) for part in parts], partial(self.store.create, aside))
        self.store.move(aside, path)
        self.store.remove(f"{_PARTS}/{path}")

    def _digest(self, path: str) -> str:
        state = xxhash.xxh3_128()
        with self.store.open(path) as file:
            while block := file.read(1 << 20):
                state.update(block)
        return state.hexdigest()

    def _tidy(self) -> None:
        for name in (_WORK, _PARTS, _JOURNAL, _RUN, _LOCK):
            self.store.remove(name)
