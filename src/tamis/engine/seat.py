"""A worker in a process of somebody else's: what a cluster's actor holds. Nothing here knows of Ray.

What goes wrong comes back as a value, so that the driver need not guess it from an exception of the cluster's. What the
caller defined in its main module travels by value (cloudpickle), as it does to the embedded engine's processes.
"""

from __future__ import annotations

import os
import pickle  # noqa: TID251  between a driver and its own workers, never on disk
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cloudpickle
import pyarrow as pa

from tamis.engine.job import Errand, Job, SplitResult, Task
from tamis.engine.plan import labels
from tamis.engine.process import portable, thread_limits
from tamis.engine.tally import Tally
from tamis.engine.worker import Worker
from tamis.errors import InputError, MissingExtraError, OutputError, TamisError, WorkerError
from tamis.hashing import fingerprint
from tamis.io.store import open_store
from tamis.stage import Fold

__all__ = [
    "APART",
    "Answer",
    "Opening",
    "Packed",
    "Place",
    "Seat",
    "Unreadable",
    "load_state",
    "merge_packed",
    "pack",
    "pack_fold",
    "unpack",
]

Packed = tuple[bytes, bytes, list[Any]]
"""A job without its source, the source, and the memory of the source's table."""

_RUN = "_tamis/run.json"


def pack(job: Job) -> Packed:
    """A job for the road. A table in memory is not copied: its buffers go beside, and a node maps one copy of them."""
    buffers: list[pickle.PickleBuffer] = []
    source = cloudpickle.dumps(job.source, protocol=5, buffer_callback=buffers.append)
    return cloudpickle.dumps(replace(job, source=None), protocol=5), source, buffers  # type: ignore[arg-type]


def unpack(packed: Packed) -> Job:
    """The job. Only the table is read-only; what a stage holds may be changed, as in any process."""
    job, source, buffers = packed
    loaded: Job = pickle.loads(job)  # noqa: S301  our own driver
    return replace(loaded, source=pickle.loads(source, buffers=buffers))  # noqa: S301  our own driver


@dataclass(frozen=True)
class Opening:
    """How a worker is opened, apart from its job."""

    task: Task
    threads: int
    folder: str
    """The driver's working folder, for paths in settings that are relative to it."""
    path: tuple[str, ...] = ()
    """Where the driver looks for modules: where a node has these folders too, it looks there after its own."""
    version: str = ""
    """The driver's Tamis."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that say where models are; what a node has set itself goes before them."""
    run: str | None = None
    """The fingerprint of what says which run an output directory belongs to."""

    @classmethod
    def of(cls, job: Job, task: Task, threads: int) -> Opening:
        """As the driver sees it now."""
        settings = {k: v for k, v in os.environ.items() if k.startswith("TAMIS_") or k == "HF_HUB_OFFLINE"}
        run = None if job.sink is None or task != "write" else open_store(job.sink.path).read(_RUN)
        return cls(
            task,
            threads,
            str(Path.cwd()),
            _module_folders(),
            version("tamis"),
            settings,
            fingerprint(run) if run else None,
        )


@dataclass(frozen=True)
class Place:
    """Where a worker is."""

    host: str
    node: str = ""
    """The cluster's name for the machine."""


@dataclass(frozen=True)
class Unreadable:
    """What a worker could not import."""

    module: str
    said: str

    def sentence(self, job: Job, host: str) -> str:
        """What cannot be imported where, which stage wants it, and what to do."""
        package = self.module.split(".")[0].encode()
        names = zip(labels(job.stages), job.stages, strict=True)
        wants = [name for name, stage in names if package and package in cloudpickle.dumps(stage)]
        what = f"the module {self.module!r}" if self.module else "something"
        return (
            f"{' and '.join(wants) or 'the job'} needs {what} that the node {host} cannot import ({self.said}). "
            'Install it on every node; or send it along (RAY_RUNTIME_ENV=\'{"working_dir": "."}\', or ray job submit '
            "--working-dir . -- ...); or define the stage in the main script, which travels by itself."
        )


APART = b""
"""In the place of a state: it comes by itself, as it is large."""

Answer = tuple[SplitResult, bytes | None]
"""A result without its state, and the state, packed, where there is one."""

_NEAR = 32 << 10
"""Bytes up to which a state comes with its result and is merged by the driver: an object of its own, and a task for it,
cost about 1 ms."""


class Seat:
    """One worker of a run: opened once, then asked for one split after the other, by one caller."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._task: Task = "write"
        self._tally: Tally | None = None

    def open(self, packed: Packed, opening: Opening) -> Exception | Unreadable | None:
        """Load the job and open its stages; what is wrong with it, if anything is."""
        host = socket.gethostname()
        if opening.version != version("tamis"):
            message = (
                f"the node {host} has Tamis {version('tamis')}, and this process {opening.version}. Results may "
                "differ between versions: install the same one on every node."
            )
            return WorkerError(message)
        for name, value in {**thread_limits(opening.threads), **opening.settings}.items():
            os.environ.setdefault(name, value)
        _look_there_too(opening.path)
        pa.set_cpu_count(opening.threads)
        if Path(opening.folder).is_dir():
            os.chdir(opening.folder)
        try:
            job = unpack(packed)
            if job.sink is not None and opening.run is not None:
                _check_shared(job.sink.path, opening.run, host)
            self._worker = Worker(job)
        except TamisError as error:
            return _at(host, error)
        except ImportError as error:
            return Unreadable(error.name or "", str(error))
        except AttributeError as error:  # a module of that name is here, and is another one
            return Unreadable("", str(error))
        except Exception as error:  # noqa: BLE001  whatever a stage's open() raises is told to the driver
            return portable(error)
        self._task = opening.task
        return None

    def run(self, errand: Errand) -> tuple[Answer | Exception, bytes | None]:
        """Run an errand: its result, and beside it a state that is large."""
        if self._worker is None:
            return WorkerError("this worker was not opened."), None
        self._tally = None
        try:
            result = self._worker.run(self._task, errand, self._heard)
            if result.state is None:
                return (result, None), None
            state = cloudpickle.dumps(result.state, protocol=5)
        except TamisError as error:
            return _at(socket.gethostname(), error), None
        except Exception as error:  # noqa: BLE001  told to the driver
            return portable(error), None
        result.state = None
        return ((result, state), None) if self._task == "scan" or len(state) <= _NEAR else ((result, APART), state)

    def _heard(self, tally: Tally) -> None:
        self._tally = tally

    def so_far(self) -> Tally | None:
        """The tally of the split at work."""
        return self._tally


def _module_folders() -> tuple[str, ...]:
    return tuple(str(Path(folder).absolute()) for folder in sys.path)


def _look_there_too(folders: tuple[str, ...]) -> None:
    sys.path += [folder for folder in folders if folder not in sys.path and Path(folder).exists()]


def _check_shared(path: str, run: str, host: str) -> None:
    """An output that each node has to itself would be lost: said before anything is written into it."""
    found = open_store(path).read(_RUN)
    if found is None or fingerprint(found) != run:
        message = (
            f"the node {host} does not see the output directory {path} that this process writes to. Workers on several "
            "machines need a folder that all of them share, or an object store (s3://...)."
        )
        raise OutputError(message)


def _at(host: str, error: TamisError) -> TamisError:
    """The same error, with the machine where that may be why."""
    if not isinstance(error, InputError | OutputError | MissingExtraError) or host in str(error):
        return type(error)(*error.args)
    return type(error)(f"on the node {host}: {error}")


PackedFold = tuple[bytes, tuple[str, ...]]
"""A fold, and where its driver looks for modules."""


def pack_fold(fold: Fold[Any, Any]) -> PackedFold:
    """A fold for the road."""
    return cloudpickle.dumps(fold, protocol=5), _module_folders()


def merge_packed(fold: PackedFold, left: bytes | Exception, right: bytes | Exception) -> bytes | Exception:
    """Two packed states of a fold as one; what went wrong before is passed on."""
    for side in (left, right):
        if isinstance(side, Exception):
            return side
    try:
        _look_there_too(fold[1])
        summed: Fold[Any, Any] = pickle.loads(fold[0])  # noqa: S301  our own driver
        return cloudpickle.dumps(summed.merge(load_state(left), load_state(right)), protocol=5)  # type: ignore[no-any-return]
    except Exception as error:  # noqa: BLE001  told to the driver
        return portable(error)


def load_state(packed: bytes | Exception) -> Any:
    """A state of its own: it may be changed."""
    if isinstance(packed, Exception):
        raise packed
    return pickle.loads(packed)  # noqa: S301  our own worker
