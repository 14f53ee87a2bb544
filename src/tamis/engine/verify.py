"""Checking a directory against what its run wrote down of it: files, counts and checksums.

Of a complete run every output is read: that it is there, its bytes, XXH3-128 and rows. The listings are held to the
digests in the manifest, so that a changed listing cannot vouch for a changed file; the counts must add up, of each
split and in all. Of a run that is not complete the same is checked as far as its journal goes.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar, cast

import orjson
import xxhash

from tamis.engine.ledger import (
    HOME,
    JOURNAL,
    MANIFEST,
    NAMES,
    OUTPUTS,
    PARTS,
    QUARANTINE,
    RECIPE,
    REJECTS,
    RUN,
    SPLITS,
    Ledger,
    parse_lines,
    scheme_of,
)
from tamis.engine.tally import Tally
from tamis.errors import StageError, UsageError
from tamis.io.files import kind_of
from tamis.io.lines import TruncatedFile, unpacked
from tamis.io.parquet import rows_of
from tamis.io.store import Store, open_store

__all__ = ["Heard", "Verified", "verify"]

Made = TypeVar("Made")
Heard = Callable[[int, int], None]
"""Called with (bytes read, bytes in all) now and then."""

_BLOCK = 1 << 20
_SAID = 1000
"""Findings that are said; of more only the number is kept."""
_ANEW = "Restore it from a copy, or make the directory again with --fresh."
_AGAIN = "Delete it and run the same command again: its split is done again."


@dataclass
class Verified:
    """What came of checking a directory."""

    path: str
    complete: bool = False
    """Whether its run is; else it was checked as far as the journal goes."""
    splits: int = 0
    splits_total: int = 0
    outputs: int = 0
    """Files that were read."""
    rows: int = 0
    bytes: int = 0
    findings: list[str] = field(default_factory=list)
    """What is wrong, as sentences: what, where, what to do. The first thousand of them."""
    found: int = 0
    """Number of findings."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.found

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "path": self.path,
            "ok": self.ok,
            "complete": self.complete,
            "splits": self.splits,
            "splits_total": self.splits_total,
            "outputs": self.outputs,
            "rows": self.rows,
            "bytes": self.bytes,
            "found": self.found,
            "findings": self.findings,
        }

    def say(self, finding: str) -> None:
        """Add a finding."""
        self.found += 1
        if len(self.findings) < _SAID:
            self.findings.append(finding)


def verify(path: str | os.PathLike[str], *, threads: int | None = None, heard: Heard | None = None) -> Verified:
    """Check every file of a run's directory against its manifest, or against its journal while it is not complete.

    Args:
        path: The output directory, local or a URL.
        threads: Files read at once; by default one per core, and as many as an object store likes.
        heard: Told how many bytes have been read.

    Raises:
        UsageError: Where the directory holds no run.
    """
    store = open_store(path)
    check = _Check(store, threads or max(store.parallel, os.cpu_count() or 1), heard)
    manifest, run = store.read(MANIFEST), store.read(RUN)
    if manifest is not None:
        check.complete(manifest)
    elif run is not None:
        check.unfinished(orjson.loads(run))
    else:
        message = f"{store.path} holds no run of Tamis. `tamis verify` takes the output directory of a run."
        raise UsageError(message)
    return check.verified


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a file turned out to be."""

    bytes: int
    xxh3: str
    rows: int | None
    """None where it cannot be read to its end."""


class _Check:
    def __init__(self, store: Store, threads: int, heard: Heard | None) -> None:
        self._store = store
        self._threads = threads
        self._heard = heard
        self._read = self._total = 0
        self._sizes: dict[str, int] = {}
        """Files that nothing has accounted for yet."""
        self.verified = Verified(store.path)

    # -- a complete run --------------------------------------------------------------------------------------

    def complete(self, content: bytes) -> None:
        """Check all of it."""
        verified = self.verified
        verified.complete = True
        try:
            manifest = orjson.loads(content)
            totals, splits = Tally.from_json(manifest["totals"]), int(manifest["splits"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            verified.say(f"{MANIFEST} cannot be understood: it was changed or damaged. {_ANEW}")
            return
        self._list()
        self._sizes.pop(MANIFEST, None)
        self._sizes.pop(RECIPE, None)
        self._add_up(MANIFEST, totals)
        verified.splits_total = splits
        for name, facts in manifest.get("listings", {}).items():
            self._hold(name, facts | {"rows": facts["lines"]}, self._facts(name), _ANEW)
        self._check_splits(splits, totals)
        self._check_quarantine(totals, listed=QUARANTINE in manifest.get("listings", {}))
        self._check_outputs(manifest["outputs"], totals, manifest["description"]["output"])
        self._check_unexpected()

    def _check_splits(self, splits: int, totals: Tally) -> None:
        summed, number, in_order = Tally(), 0, True
        for split, tally in self._lines(SPLITS, lambda entry: (int(entry["split"]), Tally.from_json(entry["tally"]))):
            self._add_up(f"split {split} in {SPLITS}", tally)
            summed += tally
            if split != number and in_order:
                in_order = False  # once is enough: all that follow are out of place too
                self.verified.say(f"line {number + 1} of {SPLITS} is about split {split}, not {number}. {_ANEW}")
            number += 1
        self.verified.splits = number
        if number != splits:
            self.verified.say(f"{SPLITS} lists {number} splits, {MANIFEST} says {splits}. {_ANEW}")
        if summed != totals:
            differ = [k for k, v in summed.to_json().items() if v != totals.to_json().get(k)]
            self.verified.say(
                f"the splits in {SPLITS} do not add up to the totals in {MANIFEST}: {', '.join(differ)} differ. {_ANEW}"
            )

    def _check_quarantine(self, totals: Tally, *, listed: bool) -> None:
        causes = Counter(self._lines(QUARANTINE, lambda entry: str(entry["cause"]))) if listed else Counter[str]()
        for cause in sorted(causes.keys() | totals.quarantined.keys()):
            if causes[cause] != totals.quarantined[cause]:
                self.verified.say(
                    f"{QUARANTINE} holds {causes[cause]} records with the cause {cause!r}, {MANIFEST} says "
                    f"{totals.quarantined[cause]}. {_ANEW}"
                )

    def _check_outputs(self, number: int, totals: Tally, output: Mapping[str, Any]) -> None:
        verified = self.verified
        kept, rejected, size = self._check_files(self._lines(OUTPUTS, _said), _ANEW)
        if verified.outputs != number:
            verified.say(f"{OUTPUTS} lists {verified.outputs} files, {MANIFEST} says {number}. {_ANEW}")
        if kept != totals.kept:
            verified.say(f"the outputs hold {kept} documents, {MANIFEST} says {totals.kept} were kept. {_ANEW}")
        if output.get("keep_rejects") and rejected != totals.total_rejected:
            said = totals.total_rejected
            verified.say(f"{REJECTS} holds {rejected} documents, {MANIFEST} says {said} were rejected. {_ANEW}")
        # Parquet parts that several splits share are written anew when they are joined, in other bytes.
        joined = output.get("by_input") and output.get("format") == "parquet"
        if size != totals.bytes_out and not joined:
            verified.say(f"the outputs are listed with {size} bytes, {MANIFEST} says {totals.bytes_out}. {_ANEW}")

    def _check_unexpected(self) -> None:
        for name in sorted(self._sizes):
            self.verified.say(
                f"{name} is in no list of this run: whoever reads the directory may take it for documents. "
                "If it is yours, move it elsewhere; else delete it."
            )

    # -- a run that is not complete --------------------------------------------------------------------------

    def unfinished(self, run: Mapping[str, Any]) -> None:
        """Check what the journal says is done."""
        verified = self.verified
        output = run["description"]["output"]
        verified.splits_total = output["splits"]
        ledger = Ledger()
        try:
            for entry in parse_lines(self._store.lines(JOURNAL)):
                ledger.put(entry)
            verified.splits = len(ledger)
            self._list()
            kept, rejected, _ = self._check_files(self._journalled(ledger), _AGAIN)
            totals = ledger.total
        finally:
            ledger.close()
        if kept != totals.kept:
            verified.say(f"the outputs hold {kept} documents, {JOURNAL} says {totals.kept} were kept. {_ANEW}")
        if output.get("keep_rejects") and rejected != totals.total_rejected:
            said = totals.total_rejected
            verified.say(f"{REJECTS} holds {rejected} documents, {JOURNAL} says {said} were rejected. {_ANEW}")
        # What a run may have at work, or may have moved and not noted when it was killed, is its own.
        is_output = scheme_of(run["description"], self._lines(NAMES, lambda entry: str(entry["path"])))
        for name in list(self._sizes):
            if name.startswith(f"{HOME}/") or name == QUARANTINE or is_output(name):
                del self._sizes[name]
        self._check_unexpected()

    def _journalled(self, ledger: Ledger) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for entry in ledger.entries():
            self._add_up(f"split {entry['split']} in {JOURNAL}", Tally.from_json(entry["tally"]))
            for output in entry["outputs"]:
                part = output["part"]
                place = output["path"] if part is None else f"{PARTS}/{output['path']}/{part}"
                if part is not None and place not in self._sizes and output["path"] in self._sizes:
                    self.verified.rows += output["rows"]  # joined already: it is read when the run is complete
                    continue
                yield place, output

    # -- files -----------------------------------------------------------------------------------------------

    def _list(self) -> None:
        self._sizes = dict(self._store.files())
        self._total = sum(self._sizes.values())

    def _check_files(self, listed: Iterable[tuple[str, Mapping[str, Any]]], advice: str) -> tuple[int, int, int]:
        """Hold every file to what is listed of it; returns (documents, rejects, bytes of documents as listed)."""
        verified = self.verified
        kept = rejected = size = 0
        with ThreadPoolExecutor(self._threads, "tamis-verify") as pool:
            for place, said, facts in _few_ahead(pool, self._facts, listed, self._threads * 4):
                self._hold(place, said, facts, advice)
                verified.outputs += 1
                verified.rows += said["rows"]
                verified.bytes += said["bytes"]
                if said["path"].startswith(f"{REJECTS}/"):
                    rejected += said["rows"]
                else:
                    kept += said["rows"]
                    size += said["bytes"]
        return kept, rejected, size

    def _hold(self, name: str, said: Mapping[str, Any], facts: _Facts | None, advice: str) -> None:
        """Hold one file to what is said of it; the first that differs is said."""
        self._sizes.pop(name, None)
        if facts is None:
            again = "Run the same command again: its split is done again." if advice == _AGAIN else advice
            self.verified.say(f"{name} is missing. {again}")
            return
        if facts.bytes != said["bytes"]:
            self.verified.say(f"{name} has {facts.bytes} bytes, it was written with {said['bytes']}. {advice}")
        elif facts.xxh3 != said["xxh3"]:
            self.verified.say(
                f"{name} was changed or damaged: its XXH3-128 is not the one it was written with. {advice}"
            )
        elif facts.rows != said["rows"]:
            rows = "cannot be read to its end" if facts.rows is None else f"has {facts.rows} rows"
            self.verified.say(f"{name} {rows}, {said['rows']} are listed. {advice}")
        self._read += facts.bytes
        if self._heard is not None:
            self._heard(self._read, self._total)

    def _facts(self, name: str) -> _Facts | None:
        """Read a file to its end; None where it is not there."""
        try:
            with self._store.open(name) as file:
                hashed = _Hashed(file)
                kind, packed = kind_of(name)
                rows = None if kind == "parquet" else _count(hashed, packed)
                hashed.drain()
                if kind == "parquet":
                    file.seek(0)
                    rows = rows_of(file)
                return _Facts(hashed.size, hashed.state.hexdigest(), rows)
        except FileNotFoundError:
            return None

    def _lines(self, name: str, make: Callable[[Any], Made]) -> Iterator[Made]:
        """What ``make`` makes of each entry of a listing; a line that is no entry is said."""
        for number, line in enumerate(self._store.lines(name), 1):
            try:
                made = make(orjson.loads(line))
            except (KeyError, TypeError, ValueError, AttributeError):  # not JSON, or JSON of something else
                self.verified.say(f"line {number} of {name} cannot be understood. {_ANEW}")
            else:
                yield made

    def _add_up(self, where: str, tally: Tally) -> None:
        try:
            tally.check(where)
        except StageError as error:
            self.verified.say(str(error))


def _said(entry: Any) -> tuple[str, Mapping[str, Any]]:
    """(where a file lies, what is listed of it)."""
    numbers = {key: int(entry[key]) for key in ("rows", "bytes")}
    return str(entry["path"]), {"path": str(entry["path"]), "xxh3": entry["xxh3"], **numbers}


class _Hashed:
    """A file that is hashed as it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.state = xxhash.xxh3_128()
        self.size = 0

    def read(self, size: int) -> bytes:
        """The next bytes; fewer at the end."""
        block = self._file.read(size)
        self.state.update(block)
        self.size += len(block)
        return block

    def drain(self) -> None:
        """Read what is left."""
        while self.read(_BLOCK):
            pass


def _count(file: _Hashed, compression: str | None) -> int | None:
    """Rows of a file of JSON Lines; None where it is cut or damaged."""
    if compression is None:
        rows = 0
        while block := file.read(_BLOCK):
            rows += block.count(b"\n")
        return rows
    read = unpacked(cast("BinaryIO", file), compression)  # of which it only calls read()
    rows, buffer = 0, bytearray(_BLOCK)
    try:
        while got := read(memoryview(buffer)):
            rows += buffer.count(b"\n", 0, got)
    except TruncatedFile:
        return None
    return rows


def _few_ahead(
    pool: ThreadPoolExecutor,
    facts: Callable[[str], _Facts | None],
    listed: Iterable[tuple[str, Mapping[str, Any]]],
    ahead: int,
) -> Iterator[tuple[str, Mapping[str, Any], _Facts | None]]:
    """The facts of each file, in order; only so many wait, for there may be millions."""
    waiting: deque[tuple[str, Mapping[str, Any], Future[_Facts | None]]] = deque()
    for place, said in listed:
        waiting.append((place, said, pool.submit(facts, place)))
        if len(waiting) > ahead:
            first, told, future = waiting.popleft()
            yield first, told, future.result()
    for place, said, future in waiting:
        yield place, said, future.result()
