"""What passes between a driver and its workers: the job, what happens to documents, and what came of a split."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tamis.engine.tally import Tally
from tamis.io.records import Bad, End, Want
from tamis.io.source import Source
from tamis.stage import Fold, Needs, Stage
from tamis.table import Batch

__all__ = ["Event", "Job", "Output", "Rejected", "Sink", "SplitResult"]

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


Event = Batch | Rejected | Bad | End
"""What happens to documents, in the order of the input: kept, dropped by a stage, bad; and the end of a piece."""
