"""The embedded engine: this machine's cores and devices, nothing to start.

With one worker or one split everything runs in the calling process; otherwise in child processes, each fed by a thread.
Results are handed back in the order in which they finish; what must be in order is the caller's business.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle

from tamis.engine.devices import device_of, visible_accelerators
from tamis.engine.handout import HandOut
from tamis.engine.job import Errand, Job, SplitResult, Task
from tamis.engine.process import WorkerProcess, throttled
from tamis.engine.tally import Tally
from tamis.engine.worker import Worker
from tamis.errors import WorkerError
from tamis.io.splits import Split
from tamis.stage import Fold, Needs

__all__ = ["EmbeddedEngine", "default_workers"]

Report = Callable[[int, Tally], None]
"""Called with a split's number and its tally so far."""
Heard = tuple[Split, SplitResult | Tally | Exception]


def default_workers() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _has_model(needs: Sequence[Needs]) -> bool:
    return any(need.device == "accelerator" for need in needs)


class EmbeddedEngine:
    """Runs splits on this machine.

    Args:
        apart: Never run a split in this process, even with one worker: after a run that was killed, the next one
            survives the document that did it.
    """

    def __init__(self, *, apart: bool = False) -> None:
        self._apart = apart

    def workers(self, needs: Sequence[Needs]) -> int:
        """Workers that suit stages with these needs: one per core, or one per accelerator where one of them is a model.

        Without an accelerator that is one: a model uses every core by itself, and a model per core would hold its
        weights as often.
        """
        return max(visible_accelerators(), 1) if _has_model(needs) else default_workers()

    def run(
        self, job: Job, task: Task, handout: HandOut, *, workers: int | None, report: Report
    ) -> Iterator[tuple[Split, SplitResult]]:
        """Run the splits and yield each with its result as it finishes.

        Raises the first error of any split, after which the other workers are ended.
        """
        count = min(self.workers(job.needs) if workers is None else workers, handout.left)
        if count <= 1 and not self._apart:
            yield from _in_process(job, task, handout, report)
            return
        job.try_stages()
        with tempfile.TemporaryDirectory(prefix="tamis-") as folder:
            job = replace(job, source=job.source.shared(Path(folder)))
            left = handout.left
            with _Pool(job, task, handout, max(count, 1)).at_work() as heard:
                while left:
                    split, news = heard.get()
                    if isinstance(news, Exception):
                        raise news
                    if isinstance(news, Tally):
                        report(split.index, news)
                        continue
                    left -= 1
                    yield split, news

    def merge(self, fold: Fold[Any, Any], left: Any, right: Any) -> Any:
        """Two states of a fold as one."""
        return fold.merge(left, right)

    def state(self, state: Any) -> Any:
        """The state itself."""
        return state

    def close(self) -> None:
        """Nothing outlives a run."""


def _in_process(job: Job, task: Task, handout: HandOut, report: Report) -> Iterator[tuple[Split, SplitResult]]:
    if handout.over:
        return
    worker = Worker(job)
    while (errand := handout.next()) is not None:
        result = worker.run(task, errand, throttled(partial(report, errand.split.index)))
        if handout.done(errand, result) is not None:
            yield errand.split, result


class _Pool:
    """Worker processes, each fed by a thread that takes the next errand when the last one is done."""

    def __init__(self, job: Job, task: Task, handout: HandOut, workers: int) -> None:
        self._handout = handout
        self._heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._start = partial(WorkerProcess, cloudpickle.dumps(job, protocol=5), task, default_workers() // workers)
        self._has_model = _has_model(job.needs)
        self._alive: dict[int, WorkerProcess] = {}
        self._feeders = [threading.Thread(target=self._feed, args=(n,), daemon=True) for n in range(workers)]

    @contextmanager
    def at_work(self) -> Iterator[queue.SimpleQueue[Heard]]:
        """What the workers say, while they are at work; they are ended on leaving."""
        try:
            for feeder in self._feeders:
                feeder.start()
            yield self._heard
        finally:  # Ctrl-C may have come while the feeders, or their processes, were being started
            self._handout.close()
            for feeder in self._feeders:
                while feeder.is_alive():
                    self._stop_all()
                    feeder.join(0.1)
            self._stop_all()

    def _stop_all(self) -> None:
        for process in list(self._alive.values()):
            process.stop()

    def _feed(self, number: int) -> None:
        while (errand := self._handout.take()) is not None:
            try:
                self._run(number, errand)
            except Exception as error:  # noqa: BLE001  handed to the thread that asked
                self._heard.put((errand.split, error))
                return

    def _run(self, number: int, errand: Errand) -> None:
        """Run one errand, on a new process where the last one died."""
        if number not in self._alive:
            self._alive[number] = self._start(device_of(number) if self._has_model else None)
        try:
            result = self._alive[number].run(errand, lambda tally: self._heard.put((errand.split, tally)))
        except WorkerError as error:
            self._alive.pop(number).stop()
            self._handout.died(errand, str(error))
            return
        finished = self._handout.done(errand, result)
        if finished is not None:
            self._heard.put((errand.split, finished))
