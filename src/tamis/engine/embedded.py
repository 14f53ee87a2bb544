"""The embedded engine: this machine's cores, nothing to start.

One split at a time per worker; with one worker or one split everything runs in the calling process. Results
are handed back in the order in which they finish; what must be in order is the caller's business.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import cloudpickle

from tamis.engine.devices import device_of, visible_accelerators
from tamis.engine.job import Job, SplitResult
from tamis.engine.process import Task, WorkerProcess, run_task, throttled
from tamis.engine.tally import Tally
from tamis.engine.worker import Worker
from tamis.errors import WorkerError
from tamis.io.splits import Split
from tamis.stage import Needs

__all__ = ["default_workers", "run_splits", "workers_for"]

_TRIES = 3
"""A split may cost this many workers their life before the run ends."""

Heard = tuple[Split, SplitResult | Tally | Exception]


def default_workers() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_for(needs: Sequence[Needs]) -> int:
    """Workers that suit stages with these needs: one per core, or one per accelerator where one of them is a model.

    Without an accelerator that is one: a model uses every core by itself, and a model per core would hold its
    weights as often.
    """
    return max(visible_accelerators(), 1) if _has_model(needs) else default_workers()


def _has_model(needs: Sequence[Needs]) -> bool:
    return any(need.device == "accelerator" for need in needs)


def run_splits(
    job: Job,
    task: Task,
    splits: Sequence[Split],
    *,
    workers: int,
    aside: Callable[[Split], str],
    report: Callable[[int, Tally], None],
) -> Iterator[tuple[Split, SplitResult]]:
    """Run the splits and yield each with its result as it finishes.

    ``aside`` names a folder for a split's files; ``report`` is called with a split's number and its tally so
    far. Raises the first error of any split, after which the other workers are ended.
    """
    if workers <= 1 or len(splits) <= 1:
        yield from _in_process(job, task, splits, aside, report)
        return
    pool = _Pool(job, task, splits, min(workers, len(splits)), aside)
    with pool.at_work() as heard:
        left = len(splits)
        while left:
            split, news = heard.get()
            if isinstance(news, Exception):
                raise news
            if isinstance(news, Tally):
                report(split.index, news)
                continue
            left -= 1
            yield split, news


def _in_process(
    job: Job,
    task: Task,
    splits: Sequence[Split],
    aside: Callable[[Split], str],
    report: Callable[[int, Tally], None],
) -> Iterator[tuple[Split, SplitResult]]:
    if not splits:
        return
    worker = Worker(job)
    for split in splits:
        yield split, run_task(worker, task, split, aside(split), throttled(partial(report, split.index)))


class _Pool:
    """Worker processes, each fed by a thread that takes the next split when the last one is done."""

    def __init__(
        self, job: Job, task: Task, splits: Sequence[Split], workers: int, aside: Callable[[Split], str]
    ) -> None:
        self._todo: queue.SimpleQueue[Split] = queue.SimpleQueue()
        for split in splits:
            self._todo.put(split)
        self._heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._start = partial(WorkerProcess, cloudpickle.dumps(job, protocol=5), task, default_workers() // workers)
        self._has_model = _has_model(job.needs)
        self._aside = aside
        self._stopping = threading.Event()
        self._alive: dict[int, WorkerProcess] = {}
        self._feeders = [threading.Thread(target=self._feed, args=(n,), daemon=True) for n in range(workers)]

    @contextmanager
    def at_work(self) -> Iterator[queue.SimpleQueue[Heard]]:
        """What the workers say, while they are at work; they are ended on leaving."""
        for feeder in self._feeders:
            feeder.start()
        try:
            yield self._heard
        finally:
            self._stopping.set()
            for process in list(self._alive.values()):
                process.stop()
            for feeder in self._feeders:
                feeder.join()

    def _feed(self, number: int) -> None:
        while not self._stopping.is_set():
            try:
                split = self._todo.get_nowait()
            except queue.Empty:
                return
            news = self._run(number, split)
            self._heard.put((split, news))
            if isinstance(news, Exception):
                return

    def _run(self, number: int, split: Split) -> SplitResult | Exception:
        """Run one split, on a new process where the last one died."""
        for attempt in range(1, _TRIES + 1):
            if number not in self._alive:
                self._alive[number] = self._start(device_of(number) if self._has_model else None)
            try:
                return self._alive[number].run(split, self._aside(split), lambda tally: self._heard.put((split, tally)))
            except WorkerError as error:
                self._alive.pop(number).stop()
                if attempt == _TRIES or self._stopping.is_set():
                    return WorkerError(f"{error}, {attempt} times on the same split ({_named(split)}).")
            except Exception as error:  # noqa: BLE001  handed to the thread that asked
                return error
        raise AssertionError


def _named(split: Split) -> str:
    first = split.pieces[0]
    return f"number {split.index}, {first.file.path} from {first.start}"
