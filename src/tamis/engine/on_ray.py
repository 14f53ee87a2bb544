"""The Ray engine: the same workers as actors on a cluster, and nothing else of Ray: no data sets, no shuffle.

An actor reads its split and writes its files, so documents never pass through the driver. Which actor does what is the
crew's business (:mod:`tamis.engine.crew`). The only file that imports Ray.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle

from tamis.engine.crew import Crew, Fate, Report, Share, What, share_of
from tamis.engine.handout import HandOut
from tamis.engine.job import Errand, Job, SplitResult, Task
from tamis.engine.process import end_with
from tamis.engine.seat import Place, Seat, load_state, merge_packed, pack_fold
from tamis.errors import MissingExtraError, UsageError, WorkerError
from tamis.io.splits import Split
from tamis.io.store import open_store
from tamis.stage import Fold, Needs

try:
    import ray  # noqa: TID251  its room
    from ray import exceptions as failures  # noqa: TID251  its room
except ImportError as missing:
    raise MissingExtraError.of('engine="ray"', "ray", "ray") from missing  # noqa: EM101  the name of who asks

__all__ = ["RayEngine"]

_log = logging.getLogger("tamis")

_RESTORES = 3
"""How often a fold's state may be lost with a machine."""
_REFUSED = 10.0
"""Seconds that a cluster may take to answer. Ray itself goes on trying for minutes where nobody listens."""

_EXIT = re.compile(r"exit code (\d+)")
_HOW_TO_CONNECT = (
    "Start a cluster with `ray start --head` on one machine and `ray start --address=HOST:6379` on the others, or leave"
    " the address out to use this machine alone."
)


class _Actor(Seat):
    """A seat that knows which node of the cluster it is on."""

    def where(self) -> Place:
        """The node. From now on the process ends when the node does: Ray lets it go on by itself, for minutes."""
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
        return Place(socket.gethostname(), ray.get_runtime_context().get_node_id())


_ACTOR: Any = ray.remote(concurrency_groups={"ask": 1})(_Actor)  # type: ignore[call-overload]
_MERGE: Any = ray.remote(num_cpus=0)(merge_packed)


class RayEngine:
    """Runs splits on a Ray cluster.

    Args:
        address: ``host:port``, ``"auto"`` or ``"local"`` (a new one on this machine). By default what ``RAY_ADDRESS``
            says, else the cluster that this machine is part of, else a new one here.
        patience: Seconds without a single worker after which the run ends. Until then a cluster may grow; the
            default outlasts the start of a machine with accelerators.
    """

    def __init__(self, address: str | None = None, *, patience: float = 1800.0) -> None:
        self._address = address
        self._patience = patience
        self._ours = False
        self._folding: tuple[Job, int | None] | None = None
        self._fold: tuple[Fold[Any, Any], Any] | None = None

    # -- the cluster -----------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if ray.is_initialized():
            return
        address = _address_of(self._address or os.environ.get("RAY_ADDRESS") or None)
        # Nothing is reported to anybody; what Ray says of its own goes to its logs.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            message = (
                f"Ray cannot be used ({address}): {_last_line(error)}. If the cluster asks for "
                f"a token, as those of Ray 2.60 do, set RAY_AUTH_MODE=token here. {_HOW_TO_CONNECT}"
            )
            raise UsageError(message) from error
        self._ours = True

    def workers(self, needs: Sequence[Needs]) -> int:
        """What the cluster has now: one per CPU; for a model one per GPU, or one per node where there are none."""
        self._connect()
        nodes = _RayCluster().nodes()
        share = share_of(nodes, needs, None)
        return max(sum(share.fits(node) for node in nodes), 1)

    def close(self) -> None:
        """Disconnect, where this engine connected."""
        if self._ours and ray.is_initialized():
            ray.shutdown()
        self._ours = False

    # -- running ---------------------------------------------------------------------------------------------

    def run(
        self, job: Job, task: Task, handout: HandOut, *, workers: int | None, report: Report
    ) -> Iterator[tuple[Split, SplitResult]]:
        """Run the splits and yield each with its result as it finishes.

        With ``workers``, so many actors are asked for at once, and a cluster that can grow does; without, as many as
        the cluster has room for at any time.
        """
        if handout.over:
            return
        self._connect()
        job.try_stages()
        if job.sink is not None and "://" not in job.sink.path:
            job = replace(job, sink=replace(job.sink, path=open_store(job.sink.path).path))
        if task == "fold":
            self._folding = (job, workers)
        crew = Crew(_RayCluster(), job, task, handout, workers=workers, patience=self._patience)
        try:
            yield from crew.results(report)
        finally:
            crew.dismiss()

    # -- states of folds -------------------------------------------------------------------------------------

    def merge(self, fold: Fold[Any, Any], left: Any, right: Any) -> Any:
        """Two states as one: here where both are small, else in the cluster, beside the workers."""
        if not isinstance(left, _Far) and not isinstance(right, _Far):
            return fold.merge(left, right)
        if self._fold is None or self._fold[0] is not fold:
            self._fold = (fold, ray.put(pack_fold(fold)))
        for side in (left, right):
            if isinstance(side, _Far):
                side.let_go()
        return _Far(self._merged(left, right), parts=(left, right))

    def _merged(self, left: Any, right: Any) -> Any:
        sides = [s.ref if isinstance(s, _Far) else cloudpickle.dumps(s, protocol=5) for s in (left, right)]
        return _MERGE.remote(self._fold[1], *sides)  # type: ignore[index]  # set before

    def state(self, state: Any) -> Any:
        """The state itself; what went with a machine is made again."""
        if not isinstance(state, _Far):
            return state
        for _ in range(_RESTORES):
            packed = state.fetched()
            if packed is not None:
                return load_state(packed)
            _log.warning("A part of the fold went with the machine that held it; it is made again.")
            self._restore(state)
        message = f"a part of the fold was lost {_RESTORES} times with the machine that held it; run again."
        raise WorkerError(message)

    def _restore(self, state: _Far) -> None:
        lost = list(state.lost())
        again: dict[int, Any] = {}
        if lost and self._folding is not None:
            job, workers = self._folding
            crew = self.run(job, "fold", HandOut(lost), workers=workers, report=lambda _index, _tally: None)
            again = {split.index: result.state for split, result in crew}
        self._mend(state, again)

    def _mend(self, state: Any, again: Mapping[int, Any]) -> None:
        if not isinstance(state, _Far) or state.ref is not None:
            return
        if state.split is not None:
            new = again[state.split.index]
            state.ref = new.ref if isinstance(new, _Far) else ray.put(cloudpickle.dumps(new, protocol=5))
            return
        for part in state.parts:
            self._mend(part, again)
        state.ref = self._merged(*state.parts)


@dataclass(eq=False)
class _Far:
    """A state that lies in the cluster, and what it was made of: a split, or two states."""

    ref: Any
    split: Split | None = None
    parts: tuple[Any, ...] = ()

    def let_go(self) -> None:
        """Free the parts' memory where this is made of them already; how they are made stays known."""
        if self.parts and ray.wait([self.ref], timeout=0, fetch_local=False)[0]:
            for part in self.parts:
                if isinstance(part, _Far):
                    part.ref = None

    def fetched(self) -> bytes | None:
        """The packed state; None where it was lost."""
        if self.ref is None:
            return None
        try:
            packed = ray.get(self.ref)
        except failures.RayError:
            return None
        if isinstance(packed, Exception):
            raise packed
        return packed  # type: ignore[no-any-return]

    def lost(self) -> Iterator[Split]:
        """The splits to fold again, with everything on the way to them marked as lost."""
        if self.ref is not None and self.fetched() is not None:
            return
        self.ref = None
        if self.split is not None:
            yield self.split
        for part in self.parts:
            if isinstance(part, _Far):
                yield from part.lost()


class _RayCluster:
    """Actors on Ray, for a crew."""

    def nodes(self) -> list[dict[str, float]]:
        """What each node that is alive has in all."""
        return [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]

    def free(self) -> str:
        """What the cluster has, and what is free of it, as a sentence."""
        total, free = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
        parts = [f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU")]
        return f"Ray has {len(self.nodes())} nodes, and {' and '.join(parts)} are free."

    def put(self, value: Any) -> Any:
        """A reference; a table in memory is one copy in the object store, which each node maps."""
        try:
            return ray.put(value)
        except (failures.ObjectStoreFullError, failures.OutOfDiskError) as error:
            message = (
                "the table in memory does not fit into Ray's object store. Give Ray more (ray start "
                "--object-store-memory=BYTES), or write the table to Parquet files and read those."
            )
            raise UsageError(message) from error

    def hire(self, share: Share) -> Any:
        """A new actor. One that finds no room waits in Ray's queue, and is what an autoscaler sees."""
        options = {"num_cpus": share.cpus, "num_gpus": share.gpus, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        return _ACTOR.options(**options).remote()

    def ask(self, actor: Any, what: What, *values: Any) -> futures.Future[Any]:
        """Call the method of that name; what only asks is answered beside what is at work."""
        method = getattr(actor, what)
        beside = method.options(concurrency_group="ask") if what == "so_far" else method
        return beside.remote(*values).future()  # type: ignore[no-any-return]

    def send(self, actor: Any, errand: Errand) -> tuple[futures.Future[Any], Any]:
        """Run an errand."""
        answer, state = actor.run.options(num_returns=2).remote(errand)
        return answer.future(), state

    def kept(self, state: Any, split: Split) -> Any:
        """The handle of a state."""
        return _Far(state, split)

    def end(self, actor: Any) -> None:
        """Kill it."""
        with contextlib.suppress(failures.RayError, RuntimeError, ValueError):  # it is dead already, or Ray is
            ray.kill(actor, no_restart=True)

    def fate(self, error: BaseException, place: Place | None) -> Fate:
        """How it died. Ray tells a signal from a crash as little as an exit without a word."""
        if isinstance(error, failures.OutOfMemoryError):
            return Fate("a worker was ended by Ray because the memory of its node ran out", memory=True)
        if isinstance(error, failures.ActorUnavailableError):
            return Fate("a worker could not be reached any more", gone=True)
        if not isinstance(error, failures.ActorDiedError) or error.actor_init_failed:
            raise _unhelpable(error) from error
        if error.preempted or (place is not None and not self._lives(place.node)):
            return Fate("the machine of a worker went away", gone=True)
        code = _EXIT.search(str(error))
        if code is not None:
            return Fate(f"a worker process ended with exit status {code[1]}; its last words are in Ray's logs")
        return Fate("a worker process ended without a word (killed, crashed, or out of memory)")

    @staticmethod
    def _lives(node: str) -> bool:
        return any(found["NodeID"] == node and found["Alive"] for found in ray.nodes())  # type: ignore[no-untyped-call]


def _unhelpable(error: BaseException) -> WorkerError:
    """What no other actor would do better."""
    if isinstance(error, failures.RuntimeEnvSetupError):
        return WorkerError(f"Ray could not set up the runtime environment of the workers: {_last_line(error)}.")
    if isinstance(error, failures.ActorDiedError):
        return WorkerError(
            f"a worker could not be started: {_last_line(error)}. Is the same Tamis installed on every node "
            "(pip install 'tamis[ray]')?"
        )
    logs = "What Ray says of it is in its logs (ray logs). Finished splits are kept; run again."
    return WorkerError(f"Ray failed: {type(error).__name__}: {_last_line(error)}. {logs}")


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def _address_of(asked: str | None) -> str:
    """The address for Ray. What it notes of the last cluster started here outlives a cluster that was killed."""
    if asked not in {None, "auto"}:
        if asked != "local":
            _check_address(str(asked))
        return str(asked)
    noted = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray/ray_current_cluster"  # noqa: S108  Ray's own place
    if noted.is_file() and _refusal(noted.read_text().strip()) is None:
        return "auto"
    if asked == "auto":
        message = f"no Ray cluster runs on this machine. {_HOW_TO_CONNECT}"
        raise UsageError(message)
    return "local"


def _check_address(address: str) -> None:
    """Whether somebody listens there: Ray itself would go on trying for minutes."""
    if address.startswith("ray://"):
        message = (
            f"{address} is the address of a Ray client server, which runs no engine. Run this on a node of the cluster "
            "(there no address is needed), or send it there: ray job submit --address http://HEAD:8265 -- tamis run ..."
        )
        raise UsageError(message)
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        message = f"{address!r} is no address of a Ray cluster: it is HOST:PORT (ray start --head prints it) or local."
        raise UsageError(message)
    error = _refusal(address)
    if error is not None:
        message = f"no Ray cluster answers at {address}: {error}. {_HOW_TO_CONNECT}"
        raise UsageError(message)


def _refusal(address: str) -> str | None:
    """Why nobody answers at an address, None where somebody does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REFUSED).close()
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None
