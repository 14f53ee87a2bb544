"""What passes between a driver and its workers: the job, what happens to documents, and what came of a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa

from tamis.engine.tally import Tally
from tamis.io.records import Bad, End, Want
from tamis.io.source import Source
from tamis.io.splits import Split
from tamis.stage import Fold, Needs, Stage
from tamis.table import Batch

if TYPE_CHECKING:
    from tamis.engine.handout import HandOut

__all__ = ["Engine", "Errand", "Event", "Job", "Output", "Rejected", "Sink", "SplitResult", "Task"]

Task = Literal["write", "fold", "scan"]
"""What is made of every split of a run: files, the state of a fold, or the shape of its records."""

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

    def try_stages(self) -> None:
        """Open what runs on a processor, so that what a stage misses is said here, before a worker is started.

        A model is opened only where it runs.
        """
        for stage, needs in zip(self.stages, self.needs, strict=True):
            if needs.device == "cpu":
                stage.open()


@dataclass(frozen=True)
class Errand:
    """One thing for a worker to do: a split, or a question about one that killed its workers."""

    split: Split
    aside: str = ""
    """What the names of its files begin with, in the output directory."""
    kind: Literal["run", "probe", "count"] = "run"
    """``probe`` runs documents and writes nothing; ``count`` reads them and shows them to no stage."""
    only: tuple[int, int] | None = None
    """For a probe: the records to run, as a range of their numbers in the split."""
    skip: tuple[tuple[int, int], ...] = ()
    """Ranges of records that are set aside without being shown to a stage."""
    unread: bool = False
    """Set the whole split aside without reading it."""
    cause: str = ""
    """Why records are set aside."""


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


class Engine(Protocol):
    """What runs the splits of a job: this machine, or a cluster."""

    def workers(self, needs: Sequence[Needs]) -> int:
        """Workers that suit stages with these needs."""
        ...

    def run(
        self, job: Job, task: Task, handout: HandOut, *, workers: int | None, report: Callable[[int, Tally], None]
    ) -> Iterator[tuple[Split, SplitResult]]:
        """Run the splits and yield each with its result as it finishes.

        ``report`` is called with a split's number and its tally so far. A fold's state may be a handle, for
        :meth:`merge` and :meth:`state`. Raises the first error of any split, after which the other workers are ended.
        """
        ...

    def merge(self, fold: Fold[Any, Any], left: Any, right: Any) -> Any:
        """Two states of a fold, or handles of states, as one."""
        ...

    def state(self, state: Any) -> Any:
        """The state behind a handle."""
        ...

    def close(self) -> None:
        """Let go of what the engine holds."""
        ...
