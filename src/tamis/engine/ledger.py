"""What is known of every split of a run, in memory that stays small at a million of them.

A finished split is one line of JSON of about 400 bytes. Kept as objects a million of them take gigabytes; here they lie
in an unlinked temporary file, and 12 bytes for each say where (measured in ``docs/scale.md``).
"""

from __future__ import annotations

import contextlib
import heapq
import io
import os
import re
import tempfile
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import orjson
import xxhash

from tamis.engine.job import Sink
from tamis.engine.tally import Tally
from tamis.io.splits import Split
from tamis.io.store import Store

__all__ = ["Ledger", "SortedRows", "parse_lines", "quarantined", "scheme_of", "write_listing"]

HOME = "_tamis"
MANIFEST = f"{HOME}/manifest.json"
RUN = f"{HOME}/run.json"
RECIPE = f"{HOME}/recipe.json"
JOURNAL = f"{HOME}/journal"
NAMES = f"{HOME}/names.ndjson"
LOCK = f"{HOME}/lock"
STATUS = f"{HOME}/status.json"
WORK = f"{HOME}/work"
PARTS = f"{HOME}/parts"
SPLITS = f"{HOME}/splits.ndjson"
OUTPUTS = f"{HOME}/outputs.ndjson"
REJECTS = "_rejects"
QUARANTINE = "_quarantine/records.jsonl"

_IN_MEMORY = 100_000
"""Rows that are sorted in memory at once: about 50 MB."""


def parse_lines(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The entries of a journal. A line that a kill or a power cut tore is left out: that split runs again."""
    for line in lines:
        if line.endswith(b"\n"):
            with contextlib.suppress(orjson.JSONDecodeError):
                entry = orjson.loads(line)
                if isinstance(entry, dict):
                    yield entry


class Ledger(Collection[int]):
    """The finished splits, by number: a collection of these numbers, and the entry of each.

    Of several entries for one split the last counts.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._end = 0
        self._offsets = array("q")
        self._lengths = array("i")
        """Bytes of each entry; 0 where the split is not done."""
        self._done = 0
        self._total: Tally | None = Tally()

    def __contains__(self, split: object) -> bool:
        return isinstance(split, int) and 0 <= split < len(self._lengths) and self._lengths[split] > 0

    def __len__(self) -> int:
        return self._done

    def __iter__(self) -> Iterator[int]:
        return (split for split, length in enumerate(self._lengths) if length)

    def put(self, entry: dict[str, Any], line: bytes | None = None) -> None:
        """Note a finished split; ``line`` is its entry as JSON, where that is at hand."""
        split = entry["split"]
        line = orjson.dumps(entry) if line is None else line
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=1 << 20)  # noqa: SIM115  close() closes it
        if split >= len(self._lengths):
            more = max(1024, split + 1 - len(self._lengths), len(self._lengths) // 2)
            self._offsets.frombytes(bytes(8 * more))
            self._lengths.frombytes(bytes(4 * more))
        if self._lengths[split]:
            self._total = None  # what it said before must not be counted: added up anew when asked for
        elif self._total is not None:
            self._total += Tally.from_json(entry["tally"])
        self._done += not self._lengths[split]
        self._offsets[split], self._lengths[split] = self._end, len(line)
        self._file.write(line)
        self._end += len(line)

    def forget(self, split: int) -> None:
        """Take a split for not done."""
        if split in self:
            self._lengths[split] = 0
            self._done -= 1
            self._total = None

    def get(self, split: int) -> dict[str, Any]:
        """The entry of a finished split."""
        if split not in self or self._file is None:
            raise KeyError(split)
        self._file.flush()
        return self._at(self._file, split)

    def entries(self) -> Iterator[dict[str, Any]]:
        """The entries of all finished splits, in the order of the splits."""
        if self._file is None:
            return
        self._file.flush()
        for split in self:
            yield self._at(self._file, split)

    def _at(self, file: IO[bytes], split: int) -> dict[str, Any]:
        line = os.pread(file.fileno(), self._lengths[split], self._offsets[split])
        return orjson.loads(line)  # type: ignore[no-any-return]

    @property
    def total(self) -> Tally:
        """What the finished splits add up to."""
        if self._total is None:
            self._total = Tally()
            for entry in self.entries():
                self._total += Tally.from_json(entry["tally"])
        return Tally() + self._total

    def close(self) -> None:
        """Give the temporary file back."""
        if self._file is not None:
            self._file.close()


class SortedRows:
    """Rows of plain values in sorted order, however many: what does not fit lies in unlinked temporary files.

    >>> rows = SortedRows(in_memory=2)
    >>> for name in "cab":
    ...     rows.add([name, 1])
    >>> list(rows)
    [['a', 1], ['b', 1], ['c', 1]]
    """

    def __init__(self, in_memory: int = _IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._rows: list[list[Any]] = []
        self._files: list[IO[bytes]] = []

    def add(self, row: list[Any]) -> None:
        """Add a row; rows are compared as lists are, so their first values must differ or be comparable."""
        self._rows.append(row)
        if len(self._rows) >= self._in_memory:
            self._spill()

    def _spill(self) -> None:
        self._rows.sort()
        file = tempfile.TemporaryFile(buffering=1 << 16)  # noqa: SIM115  closed when the rows have been read
        file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in self._rows)
        file.seek(0)
        self._files.append(file)
        self._rows = []

    def __iter__(self) -> Iterator[list[Any]]:
        """The rows, once."""
        self._rows.sort()
        try:
            yield from heapq.merge(self._rows, *(map(orjson.loads, file) for file in self._files))
        finally:
            for file in self._files:
                file.close()


def write_listing(store: Store, aside: str, name: str, lines: Iterable[bytes]) -> dict[str, Any]:
    """Write lines (with their ends) to a file that appears whole; returns its ``bytes``, ``lines`` and ``xxh3``."""
    state, size, number = xxhash.xxh3_128(), 0, 0
    with store.create(aside, name) as file:
        for line in lines:
            file.write(line)
            state.update(line)
            size += len(line)
            number += 1
        file.flush()
        with contextlib.suppress(io.UnsupportedOperation):  # an object store keeps what it has accepted
            os.fsync(file.fileno())
    store.move(aside, name)
    return {"bytes": size, "lines": number, "xxh3": state.hexdigest()}


def quarantined(store: Store, ledger: Ledger, splits: Sequence[Split]) -> Iterator[bytes]:
    """The lines of the quarantine file: what the splits set aside, with line numbers in the file.

    Physical lines before each piece are added up on the way: the pieces of a file come in its order.
    """
    path, lines_before = "", 0
    for entry in ledger.entries():
        pieces = splits[entry["split"]].pieces
        before = []
        for number, piece in enumerate(pieces):
            if piece.file.path != path:
                path, lines_before = piece.file.path, 0
            before.append(lines_before)
            lines_before += entry["lines"][number] if number < len(entry["lines"]) else 0
        if entry["quarantine"] is None:
            continue
        with store.open(entry["quarantine"]) as part:
            for line in part:
                record = orjson.loads(line)
                # Lines are counted from 1, as editors do.
                record["line"] += before[record.pop("piece")] + 1
                yield orjson.dumps(record) + b"\n"


def scheme_of(description: Mapping[str, Any], names: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name is one that a run of this description gives to its outputs, told by the number of the split.

    Where outputs follow the inputs, the ``names`` tell, which such a run writes down before it begins.
    """
    output = description["output"]
    splits = output["splits"]
    if output["by_input"]:
        return _follows(frozenset(names), in_folders=output["partition_on"] is not None)
    sink = Sink("", output["format"], output["compression"])
    number = rf"part-(\d{{{max(5, len(str(splits - 1)))}}})"
    folder = "[^/._][^/]*/" if output["partition_on"] else ""
    rejects = Sink("", "jsonl", output["compression"]).extension
    pattern = re.compile(
        rf"{folder}{number}{re.escape(sink.extension)}|{REJECTS}/{number}{re.escape(rejects)}", re.DOTALL
    )

    def is_output(name: str) -> bool:
        found = pattern.fullmatch(name)
        return found is not None and int(found[1] or found[2]) < splits

    return is_output


def _follows(names: frozenset[str], *, in_folders: bool) -> Callable[[str], bool]:
    def is_output(name: str) -> bool:
        folder, _, rest = name.partition("/")
        within = in_folders or folder == REJECTS
        return name in names or (within and rest in names and (folder == REJECTS or folder[0] not in "._"))

    return is_output
