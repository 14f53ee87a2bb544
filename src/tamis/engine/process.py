"""One worker process, driven over its standard input and output.

Not ``multiprocessing``: its children import the caller's main script again, which breaks every script without
an ``if __name__ == "__main__"`` guard and every notebook. Here a child imports Tamis alone, and what the
caller defined in its main module travels by value (cloudpickle). Nothing is pickled to disk.

The child prints to standard error whatever user code prints, ignores Ctrl-C (its driver decides), and ends
itself when its driver is gone, however it went.
"""

from __future__ import annotations

import contextlib
import os
import pickle  # noqa: TID251  between our own two processes, never on disk
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO

import cloudpickle
import pyarrow as pa

from tamis.engine.job import Errand, Job, SplitResult, Task
from tamis.engine.tally import Tally
from tamis.engine.worker import Worker
from tamis.errors import StageError, TamisError, WorkerError

__all__ = ["WorkerProcess", "end_with", "portable", "thread_limits", "throttled"]

_THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
"""Thread pools that each worker would otherwise size for the whole machine: measured 10x slower on two cores."""

_REPORT_EVERY = 0.2


def thread_limits(threads: int) -> dict[str, str]:
    """Environment variables that give a worker so many threads; what the user has set goes before them."""
    limits = dict.fromkeys(_THREAD_LIMITS, str(max(threads, 1)))
    # A tokenizer on one core feeds 0.3 to 0.5 M tokens/s, a fast device eats 2 M: it may use this worker's share.
    limits["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"
    return limits


class WorkerProcess:
    """A child process with its stages open, with so many threads and, where it is named, a device of its own."""

    def __init__(self, job: bytes, task: Task, threads: int, device: str | None = None) -> None:
        environment = thread_limits(threads) | dict(os.environ)
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        self._child = subprocess.Popen(
            [sys.executable, "-c", "from tamis.engine.process import child; child()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        self._send((task, max(threads, 1), list(sys.path), job))

    @property
    def _pipes(self) -> tuple[BinaryIO, BinaryIO]:
        if self._child.stdin is None or self._child.stdout is None:  # pragma: no cover  both are pipes
            message = "the worker has no pipes."
            raise WorkerError(message)
        return self._child.stdin, self._child.stdout  # type: ignore[return-value]

    def _send(self, message: object) -> None:
        stdin, _ = self._pipes
        try:
            pickle.dump(message, stdin, protocol=5)
            stdin.flush()
        except BrokenPipeError:
            pass  # the reading side says how it died

    def run(self, errand: Errand, report: Callable[[Tally], None]) -> SplitResult:
        """Run an errand in the child; raises :class:`WorkerError` when the child dies."""
        self._send(errand)
        _, stdout = self._pipes
        while True:
            try:
                kind, value = pickle.load(stdout)  # noqa: S301  our own child
            except (EOFError, pickle.UnpicklingError, OSError) as error:
                raise WorkerError(self._obituary()) from error
            if kind == "tally":
                report(value)
            elif kind == "done":
                return value  # type: ignore[no-any-return]
            else:
                raise value

    def _obituary(self) -> str:
        code = self._child.wait()
        if code < 0:
            name = signal.Signals(-code).name
            why = " (the system's memory may have run out)" if name == "SIGKILL" else ""
            return f"a worker process was ended by {name}{why}"
        return f"a worker process ended with exit status {code}; its last words are on standard error"

    def stop(self) -> None:
        """End the child now; what it was writing lies aside and is cleared away."""
        self._child.kill()
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.close()
        self._child.wait()


def portable(error: Exception) -> Exception:
    """The exception as one that the driver can load: its own where that survives, a StageError otherwise."""
    if isinstance(error, TamisError):
        return type(error)(*error.args)
    return StageError(f"a worker failed: {type(error).__name__}: {error}")


def child() -> None:
    """What a worker process runs: read splits, answer with results, until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    try:
        task, threads, path, job = pickle.load(incoming)  # noqa: S301  our own driver
    except EOFError:
        return
    sys.path[:] = path
    pa.set_cpu_count(threads)

    def send(kind: str, value: object) -> None:
        try:
            outgoing.write(cloudpickle.dumps((kind, value), protocol=5))
            outgoing.flush()
        except BrokenPipeError:  # the driver is gone: there is nobody to tell, and what was written lies aside
            os._exit(1)

    worker: Worker | Exception
    try:
        loaded: Job = pickle.loads(job)  # noqa: S301  our own driver
        worker = Worker(loaded)
    except Exception as error:  # noqa: BLE001  whatever a stage's open() raises is told to the driver
        worker = error
    while True:
        try:
            errand: Errand = pickle.load(incoming)  # noqa: S301  our own driver
        except EOFError:
            return
        try:
            if isinstance(worker, Exception):
                raise worker  # noqa: TRY301  told like any other failure
            send("done", worker.run(task, errand, throttled(lambda tally: send("tally", tally))))
        except Exception as error:  # noqa: BLE001  told to the driver
            send("error", portable(error))


def throttled(report: Callable[[Any], None]) -> Callable[[Any], None]:
    """Call ``report`` at most every 0.2 s."""
    last = time.monotonic()

    def maybe(value: Any) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_EVERY:
            last = now
            report(value)

    return maybe


def end_with(parent: int) -> None:
    """End this process when its parent is gone; for a thread of its own."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
