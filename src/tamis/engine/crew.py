"""A crew: the workers of one run on a cluster, how many of them there are, and what they are told to do.

Nothing here knows which cluster it is. A :class:`Cluster` starts actors, asks them, and says how one died. The crew has
as many as there is room for, hands each one split at a time (a slow machine gets fewer of them), and hands a split
back when its actor is gone.
"""

from __future__ import annotations

import itertools
import logging
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from tamis.engine.handout import HandOut
from tamis.engine.job import Errand, Job, SplitResult, Task
from tamis.engine.seat import APART, Answer, Opening, Place, Unreadable, load_state, pack
from tamis.engine.tally import Tally
from tamis.errors import WorkerError
from tamis.io.splits import Split
from tamis.stage import Needs

__all__ = ["Cluster", "Crew", "Fate", "Report", "Share", "What", "share_of"]

_log = logging.getLogger("tamis")

Report = Callable[[int, Tally], None]
"""Called with a split's number and its tally so far."""
What = Literal["where", "open", "run", "so_far"]

_LOOK = 5.0
"""Seconds between two looks at what the cluster has."""
_STARTS = 10
"""Actors that may die one after the other before one of them is ready; then it is no accident."""
_ASKS = 200
"""How many actors are asked per second how far they are. An answer costs the driver 0.3 ms."""
_GOODBYE = 5.0
"""Seconds to wait for actors that were told to end."""
_WARN_AFTER = 20.0
"""Seconds without a worker after which that is said."""


@dataclass(frozen=True)
class Share:
    """What one actor gets of the cluster."""

    cpus: int = 1
    gpus: int = 0
    threads: int = 1

    def fits(self, node: Mapping[str, float]) -> int:
        """How many of them a node has room for."""
        by_cpu = int(node.get("CPU", 0)) // self.cpus
        return min(by_cpu, int(node.get("GPU", 0)) // self.gpus) if self.gpus else by_cpu

    def __str__(self) -> str:
        return f"{self.cpus} CPU" + (f" and {self.gpus} GPU" if self.gpus else "")


@dataclass(frozen=True)
class Fate:
    """How an actor died."""

    cause: str
    """As a phrase."""
    gone: bool = False
    """Whether its machine went away, or was taken away."""
    memory: bool = False
    """Whether it was ended because the memory of its machine ran out."""


class Cluster(Protocol):
    """What a crew needs of a cluster."""

    def nodes(self) -> Sequence[Mapping[str, float]]:
        """What each machine has in all."""
        ...

    def free(self) -> str:
        """What the cluster has, and what is free of it, as a sentence."""
        ...

    def put(self, value: Any) -> Any:
        """A handle of a value that every actor will be given."""
        ...

    def hire(self, share: Share) -> Any:
        """A new actor, which may have to wait for room."""
        ...

    def ask(self, actor: Any, what: What, *values: Any) -> futures.Future[Any]:
        """Have an actor do something."""
        ...

    def send(self, actor: Any, errand: Errand) -> tuple[futures.Future[Any], Any]:
        """Have an actor run an errand: its answer, and a handle of a state that is large."""
        ...

    def kept(self, state: Any, split: Split) -> Any:
        """The handle of a split's state, for the engine's merge."""
        ...

    def fate(self, error: BaseException, place: Place | None) -> Fate:
        """How the actor died that answered with this; raises where it did not die, and nothing else can be done."""
        ...

    def end(self, actor: Any) -> None:
        """End an actor now, if it lives."""
        ...


def share_of(nodes: Sequence[Mapping[str, float]], needs: Sequence[Needs], workers: int | None) -> Share:
    """A CPU; for a model a GPU, or a whole node where the cluster has none: a model uses every core by itself."""
    if not any(need.device == "accelerator" for need in needs):
        return Share()
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
    if with_gpu:
        return Share(1, 1, max(min(int(node.get("CPU", 1) // node["GPU"]) for node in with_gpu), 1))
    cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1] or [1]
    each = min(cpus) if workers is None else min(*cpus, max(sum(cpus) // workers, 1))
    return Share(each, 0, each)


@dataclass(eq=False)
class Member:
    """An actor of ours: on its way, ready, or at work."""

    actor: Any
    place: Place | None = None
    ready: bool = False
    errand: Errand | None = None
    state: Any = None
    answer: futures.Future[Any] | None = None
    """Of the errand."""
    asked: bool = False
    """Whether it was asked how far it is, and has not answered yet."""

    @property
    def host(self) -> str:
        """The machine, where it is known."""
        return "" if self.place is None else self.place.host


class Crew:
    """The actors of one run, and what they are told to do."""

    def __init__(
        self, cluster: Cluster, job: Job, task: Task, handout: HandOut, *, workers: int | None, patience: float
    ) -> None:
        self._cluster = cluster
        self._job = job
        self._handout = handout
        self._workers = workers
        self._patience = patience
        self._share = share_of(cluster.nodes(), job.needs, workers)
        self._opening = Opening.of(job, task, self._share.threads)
        self._packed = cluster.put(pack(job))
        self._news: queue.SimpleQueue[tuple[Member, What, futures.Future[Any]]] = queue.SimpleQueue()
        self._members: set[Member] = set()
        self._idle: list[Member] = []
        self._folders = itertools.count(1)
        self._left = handout.left
        self._room = 0
        self._fewer = 0
        """Actors that are not replaced, because their node's memory was too small for them."""
        self._failed = 0
        """Actors that died one after the other before they were ready."""
        self._met = self._warned = False
        self._began = self._asked = time.monotonic()
        self._look()

    def results(self, report: Report) -> Iterator[tuple[Split, SplitResult]]:
        """Each split with its result, as it finishes."""
        while self._left:
            self._hire()
            while self._idle and (errand := self._handout.next()) is not None:
                self._send(self._idle.pop(), errand)
            self._release()
            try:
                member, what, answer = self._news.get(timeout=0.25)
            except queue.Empty:
                pass
            else:
                finished = self._heard(member, what, answer, report) if member in self._members else None
                if finished is not None:
                    self._left -= 1
                    yield finished
            self._look_around()

    def dismiss(self) -> None:
        """End all actors, and wait until those at work are gone: what they were writing is cleared away next."""
        busy = [member.answer for member in self._members if member.answer is not None]
        for member in self._members:
            self._cluster.end(member.actor)
        self._members.clear()
        futures.wait(busy, timeout=_GOODBYE)

    # -- how many --------------------------------------------------------------------------------------------

    def _look(self) -> None:
        self._looked = time.monotonic()
        self._room = sum(self._share.fits(node) for node in self._cluster.nodes())

    def _hire(self) -> None:
        """Ask for actors. Those that find no room wait for it, which is what makes a cluster grow."""
        wanted = self._room if self._workers is None else self._workers
        wanted = min(max(wanted - self._fewer, 1), self._left)
        while len(self._members) < wanted:
            member = Member(self._cluster.hire(self._share))
            self._members.add(member)
            self._ask(member, "where")

    def _release(self) -> None:
        """Let go of actors that nothing is left for, but for one in case another dies: a cluster can shrink."""
        if not self._idle:
            return
        for member in [*self._idle[1:], *(member for member in self._members if not member.ready)]:
            self._members.discard(member)
            self._cluster.end(member.actor)
        del self._idle[1:]

    def _look_around(self) -> None:
        """What is done now and then: see what the cluster has, and ask the actors how far they are."""
        now = time.monotonic()
        if now - self._looked > _LOOK:
            self._look()
        if now - self._asked > max(len(self._members) / _ASKS, 0.5):
            self._asked = now
            for member in self._members:
                if member.errand is not None and not member.asked:
                    member.asked = True
                    self._ask(member, "so_far")
        if not self._met:
            self._wait_for_the_first(now - self._began)

    def _wait_for_the_first(self, seconds: float) -> None:
        if seconds > _WARN_AFTER and not self._warned:
            self._warned = True
            _log.warning("Waiting for room for a worker (%s). %s", self._share, self._cluster.free())
        if seconds > self._patience:
            message = (
                f"there was no room for a worker ({self._share}) in {seconds:.0f} s. {self._cluster.free()} End what "
                "else runs there or add machines, and run again."
            )
            raise WorkerError(message)

    # -- what they are told ----------------------------------------------------------------------------------

    def _ask(self, member: Member, what: What, *values: Any) -> None:
        self._await(member, what, self._cluster.ask(member.actor, what, *values))

    def _await(self, member: Member, what: What, answer: futures.Future[Any]) -> None:
        answer.add_done_callback(lambda done: self._news.put((member, what, done)))

    def _send(self, member: Member, errand: Errand) -> None:
        # A machine that was given up may still be writing: every attempt has file names of its own.
        aside = errand.aside and f"{errand.aside}.{next(self._folders)}"
        member.errand = errand
        member.answer, member.state = self._cluster.send(member.actor, replace(errand, aside=aside))
        self._await(member, "run", member.answer)

    # -- what they say ---------------------------------------------------------------------------------------

    def _heard(
        self, member: Member, what: What, answer: futures.Future[Any], report: Report
    ) -> tuple[Split, SplitResult] | None:
        error = answer.exception()
        if what == "so_far":
            member.asked = False
            if error is None and member.errand is not None and answer.result() is not None:
                report(member.errand.split.index, answer.result())
        elif error is not None:
            self._lost(member, error)
        elif what == "where":
            member.place = answer.result()
            self._ask(member, "open", self._packed, self._opening)
        elif what == "open":
            self._opened(member, answer.result())
        elif member.errand is not None:
            return self._ran(member, member.errand, answer.result())
        return None

    def _opened(self, member: Member, found: Exception | Unreadable | None) -> None:
        if isinstance(found, Exception):
            raise found
        if isinstance(found, Unreadable):
            raise WorkerError(found.sentence(self._job, member.host))
        self._failed = 0
        self._met = member.ready = True
        self._idle.append(member)

    def _ran(self, member: Member, errand: Errand, answer: Answer | Exception) -> tuple[Split, SplitResult] | None:
        handle = member.state
        member.errand = member.state = member.answer = None
        if isinstance(answer, Exception):
            raise answer
        self._idle.append(member)
        result, packed = answer
        if packed == APART:
            result.state = self._cluster.kept(handle, errand.split)
        elif packed is not None:
            result.state = load_state(packed)
        finished = self._handout.done(errand, result)
        return None if finished is None else (errand.split, finished)

    def _lost(self, member: Member, error: BaseException) -> None:
        """An actor died: its errand goes back, with what is known of the cause."""
        self._cluster.end(member.actor)
        self._members.discard(member)
        if member in self._idle:
            self._idle.remove(member)
        fate = self._cluster.fate(error, member.place)
        blame = not fate.gone
        if fate.memory and self._has_neighbours(member):
            # Together they were too many for the memory; only of one that was alone can its documents be the cause.
            self._fewer += 1
            blame = False
        if member.errand is not None:
            self._handout.died(member.errand, fate.cause, where=member.host, blame=blame)
        elif blame and not member.ready:
            self._failed += 1
            if self._failed >= _STARTS:
                message = f"{fate.cause}, {_STARTS} times before it was ready to work. Finished splits are kept."
                raise WorkerError(message)

    def _has_neighbours(self, member: Member) -> bool:
        node = member.place and member.place.node
        return any(other.place is not None and other.place.node == node for other in self._members)
