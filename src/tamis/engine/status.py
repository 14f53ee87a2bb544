"""What a run says of itself while it is at work, and how anybody else reads it.

A run publishes ``_tamis/status.json`` when it begins, every two seconds from a thread of its own, and at an end that is
no success; :meth:`RunDirectory.finish` removes it. Nothing in it decides what a run does.

Whether a run is alive is told without touching its lock, for whoever holds a lock to look at it may turn a run away
that starts at that moment. On the same machine the process is looked at, by its number and when it started. From
another machine only the beats can be watched: they are counted, and seen to go on or not on the reader's monotonic
clock. Clocks of day are shown to people and are compared with nothing, since they differ and jump.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from tamis.engine.handout import Death
from tamis.engine.ledger import HOME, JOURNAL, MANIFEST, RUN, STATUS, parse_lines
from tamis.engine.tally import Tally
from tamis.errors import TamisError, UsageError
from tamis.io.processes import started, this_machine
from tamis.io.store import Store, open_store, said_plainly

__all__ = ["BEAT_EVERY", "Beat", "Pulse", "State", "Status", "StatusReader", "read_status"]

BEAT_EVERY = 2.0
"""Seconds between two beats."""
_SILENCE = 3.5
"""Beats that may fail to come before a run on another machine is taken for dead: one late, one lost, one on its way."""
_WINDOW = 60.0
"""Seconds over which the rates are measured."""
_SHOWN_DEATHS = 20

State = Literal["running", "stopped", "failed", "complete"]


@dataclass(frozen=True, slots=True)
class Beat:
    """How far a run is; given to :meth:`RunDirectory.beat` by whoever drives it."""

    phase: str
    """Empty while documents are written; else what comes before that, as "schema" or the name of a fold."""
    splits_done: int
    """Those of an earlier process included."""
    splits_total: int
    bytes_done: int
    """Bytes of input that have been worked through, those of an earlier process included."""
    bytes_total: int
    tally: Tally
    """So far, splits at work and those of an earlier process included."""
    before: Tally
    """What an earlier process had done: part of ``tally``, and of no rate."""
    seconds: float
    """Since this process began."""
    workers: int
    deaths: Sequence[Death] = ()
    """Workers that died in this process, in the order of their deaths."""
    engine: str = "embedded"


# -- publishing ----------------------------------------------------------------------------------------------


class Pulse:
    """Publishes the status of a run, on a thread of its own: a model may be at work for minutes on one window."""

    def __init__(self, store: Store, every: float = BEAT_EVERY) -> None:
        self._store = store
        self._every = every
        self._who = _who()
        self._latest: Beat | None = None
        self._seen: deque[tuple[float, int, int]] = deque()
        self._number = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Publish that a run has begun, and go on publishing."""
        self._publish("running", None)
        self._thread = threading.Thread(target=self._run, name="tamis-status", daemon=True)
        self._thread.start()

    def beat(self, beat: Beat) -> None:
        """Note how far the run is; published with the next beat."""
        self._latest = beat

    def stop(self, error: BaseException | None = None) -> None:
        """Publish nothing more. With the ``error`` that ended the run, publish that first; twice does nothing."""
        if self._thread is None:
            return
        self._stopping.set()
        with contextlib.suppress(RuntimeError):  # Ctrl-C came while it was being started: it ends before it publishes
            self._thread.join()  # nothing may be written into a directory after its run has ended
        self._thread = None
        if error is not None:
            state: State = "failed" if isinstance(error, Exception) else "stopped"
            self._publish(state, _sentence(error, self._store.path))

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            self._publish("running", None)

    def _publish(self, state: State, error: str | None) -> None:
        self._number += 1
        # A full disk or a network cut ends the run where it matters; a status that cannot be written ends nothing.
        with contextlib.suppress(OSError, TamisError):
            self._store.replace(STATUS, orjson.dumps(self._told(state, error), option=orjson.OPT_INDENT_2) + b"\n")

    def _told(self, state: State, error: str | None) -> dict[str, Any]:
        beat = self._latest
        told: dict[str, Any] = {
            "state": state,
            "error": error,
            "beat": self._number,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            **self._who,
        }
        if beat is None:
            return told
        bytes_per_second, records_per_second = self._rates(beat)
        return told | {
            "engine": beat.engine,
            "phase": beat.phase,
            "workers": beat.workers,
            "splits_done": beat.splits_done,
            "splits_total": beat.splits_total,
            "bytes_done": beat.bytes_done,
            "bytes_total": beat.bytes_total,
            "seconds": round(beat.seconds, 3),
            "bytes_per_second": bytes_per_second,
            "records_per_second": records_per_second,
            "tally": beat.tally.to_json(),
            "deaths": len(beat.deaths),
            "last_deaths": [
                {"split": d.split, "cause": d.cause, "where": d.where} for d in list(beat.deaths)[-_SHOWN_DEATHS:]
            ],
        }

    def _rates(self, beat: Beat) -> tuple[float, float]:
        """Bytes and records per second over the last minute of this phase, or since this process began."""
        seen = self._seen
        if seen and (seen[-1][0] > beat.seconds or seen[-1][1] > beat.bytes_done):
            seen.clear()  # a new phase counts from its own beginning
        if not seen:
            seen.append((0.0, beat.before.bytes_in, beat.before.done))
        if seen[-1][0] < beat.seconds:
            seen.append((beat.seconds, beat.bytes_done, beat.tally.done))
        while len(seen) > 2 and seen[1][0] < beat.seconds - _WINDOW:
            seen.popleft()
        then, read, records = seen[0]
        elapsed = beat.seconds - then
        if elapsed <= 0:
            return 0.0, 0.0
        return round((beat.bytes_done - read) / elapsed, 1), round((beat.tally.done - records) / elapsed, 1)


def _sentence(error: BaseException, path: str) -> str | None:
    if isinstance(error, OSError):
        return str(said_plainly(error, path))
    if isinstance(error, TamisError):
        return str(error)
    return f"{type(error).__name__}: {error}" if isinstance(error, Exception) else None


def _who() -> dict[str, Any]:
    """This process, so that a reader can tell whether it is still there."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "machine": _machine(), "started": started(pid)}


def _machine() -> str:
    return this_machine() or socket.gethostname()


# -- reading -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Status:
    """Where a run stands."""

    path: str
    state: State
    splits_done: int = 0
    splits_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    tally: Tally = field(default_factory=Tally)
    phase: str = ""
    engine: str = ""
    workers: int = 0
    bytes_per_second: float = 0.0
    """Over the last minute; 0 where the run is not at work."""
    records_per_second: float = 0.0
    deaths: int = 0
    """Workers that died in the process that is, or was, at work."""
    last_deaths: tuple[Death, ...] = ()
    error: str | None = None
    """The sentence that ended the run."""
    host: str = ""
    pid: int | None = None
    heard: str = ""
    """When it was last heard, by the clock of its own machine."""
    advice: str = ""
    """What to do next; empty where there is nothing to do."""

    @property
    def share(self) -> float:
        """Of the work, in [0, 1]: of the bytes of input, or of the splits where the bytes are not known."""
        if self.state == "complete":
            return 1.0
        if self.bytes_total:
            return min(1.0, self.bytes_done / self.bytes_total)
        return self.splits_done / self.splits_total if self.splits_total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the rate of the last minute; None where it is not at work or nothing is known."""
        if self.state != "running" or self.bytes_per_second <= 0 or not self.bytes_total:
            return None
        return max(0, self.bytes_total - self.bytes_done) / self.bytes_per_second

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        left = self.seconds_left
        return {
            "path": self.path,
            "state": self.state,
            "share": round(self.share, 6),
            "phase": self.phase,
            "splits_done": self.splits_done,
            "splits_total": self.splits_total,
            "bytes_done": self.bytes_done,
            "bytes_total": self.bytes_total,
            "bytes_per_second": self.bytes_per_second,
            "records_per_second": self.records_per_second,
            "seconds_left": None if left is None else round(left, 1),
            "tally": self.tally.to_json(),
            "engine": self.engine,
            "workers": self.workers,
            "deaths": self.deaths,
            "last_deaths": [{"split": d.split, "cause": d.cause, "where": d.where} for d in self.last_deaths],
            "error": self.error,
            "host": self.host,
            "pid": self.pid,
            "heard": self.heard,
            "advice": self.advice,
        }


_GO_ON = "Run the same command again to go on: what is finished is kept."


class StatusReader:
    """Reads the status of one directory as often as wanted; watches the beats of a run on another machine."""

    def __init__(self, path: str | os.PathLike[str], every: float = BEAT_EVERY) -> None:
        self._store = open_store(path)
        self._every = every
        self._heard: tuple[object, int] | None = None
        self._changed = 0.0
        """When the beat was last seen to change, on this process's monotonic clock."""

    def read(self, *, wait: bool = True) -> Status:
        """The status now.

        Args:
            wait: Whether to wait for a beat where that is the only way to tell if the run is alive: up to
                7 s, and only where it runs on another machine.

        Raises:
            UsageError: Where the directory holds no run.
        """
        while True:
            manifest = self._json(MANIFEST)
            if manifest is not None:
                return _complete(self._store.path, manifest)
            told, run = self._json(STATUS), self._json(RUN)
            if told is None:
                if run is None:
                    raise UsageError(_nothing(self._store))
                return self._stopped({}, run, "")
            if told["state"] != "running":
                return self._stopped(told, run, told["error"] or "")
            alive = self._alive(told)
            if alive:
                return _running(self._store.path, told, run)
            if alive is False:
                return self._stopped(told, run, "")
            if not wait:  # not known yet: it is taken at its word
                return _running(self._store.path, told, run)
            time.sleep(min(0.25, self._every / 4))

    def _json(self, name: str) -> Any:
        content = self._store.read(name)
        return None if content is None else orjson.loads(content)

    def _alive(self, told: Mapping[str, Any]) -> bool | None:
        """Whether the run that published this is at work; None where that cannot be told yet."""
        if told["machine"] == _machine():
            if told["started"]:
                return bool(started(told["pid"]) == told["started"])
            with contextlib.suppress(PermissionError):  # it is there, and somebody else's
                try:
                    os.kill(told["pid"], 0)
                except ProcessLookupError:
                    return False
            return True
        now, heard = time.monotonic(), ((told["host"], told["pid"], told["started"]), told["beat"])
        if self._heard is None:
            self._heard, self._changed = heard, now
            return None
        if heard != self._heard:
            self._heard, self._changed = heard, now
            return True
        return False if now - self._changed >= _SILENCE * self._every else None

    def _stopped(self, told: Mapping[str, Any], run: Mapping[str, Any] | None, error: str) -> Status:
        """A run that is not at work: what is done is what its journal says."""
        done: dict[int, Tally] = {
            entry["split"]: Tally.from_json(entry["tally"]) for entry in parse_lines(self._store.lines(JOURNAL))
        }
        total = Tally()
        for tally in done.values():
            total += tally
        about = _about(self._store.path, told, run) | {
            "splits_done": len(done),
            "bytes_done": total.bytes_in,
            "tally": total,
            "bytes_per_second": 0.0,
            "records_per_second": 0.0,
        }
        failed = told.get("state") == "failed"
        advice = _GO_ON
        if told.get("state") == "running" and told["machine"] != _machine():
            seconds = time.monotonic() - self._changed
            advice = f"Nothing was heard from {told['host']} for {seconds:.0f} s. If it is gone: {_GO_ON[0].lower()}"
            advice += _GO_ON[1:]
        return Status(**about, state="failed" if failed else "stopped", error=error or None, advice=advice)


def _about(path: str, told: Mapping[str, Any], run: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is told, in the words of :class:`Status`."""
    description = {} if run is None else run["description"]
    return {
        "path": path,
        "splits_done": told.get("splits_done", 0),
        "splits_total": told.get("splits_total") or description.get("output", {}).get("splits", 0),
        "bytes_done": told.get("bytes_done", 0),
        "bytes_total": told.get("bytes_total") or description.get("input", {}).get("bytes", 0),
        "tally": Tally.from_json(told["tally"]) if "tally" in told else Tally(),
        "phase": told.get("phase", ""),
        "engine": told.get("engine", ""),
        "workers": told.get("workers", 0),
        "bytes_per_second": told.get("bytes_per_second", 0.0),
        "records_per_second": told.get("records_per_second", 0.0),
        "deaths": told.get("deaths", 0),
        "last_deaths": tuple(Death(**death) for death in told.get("last_deaths", ())),
        "host": told.get("host", ""),
        "pid": told.get("pid"),
        "heard": told.get("at", ""),
    }


def _running(path: str, told: Mapping[str, Any], run: Mapping[str, Any] | None) -> Status:
    return Status(**_about(path, told, run), state="running")


def _complete(path: str, manifest: Mapping[str, Any]) -> Status:
    total = Tally.from_json(manifest["totals"])
    splits = manifest["splits"]
    return Status(
        path,
        "complete",
        splits_done=splits,
        splits_total=splits,
        bytes_done=total.bytes_in,
        bytes_total=total.bytes_in,
        tally=total,
    )


def _nothing(store: Store) -> str:
    names = store.names()
    if not names:
        return f"{store.path} does not exist, or is empty. `tamis status` takes the output directory of a run."
    if HOME in names:
        return f"{store.path} holds no run yet: none has got as far as its first split. Start one with `tamis run`."
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{store.path} ({some}) holds no run of Tamis. `tamis status` takes the output directory of a run."


def read_status(path: str | os.PathLike[str]) -> Status:
    """Where the run in a directory stands: running, stopped, failed or complete.

    Raises:
        UsageError: Where the directory holds no run.
    """
    return StatusReader(path).read()
