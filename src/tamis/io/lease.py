"""A lock that dies with its holder, on a store that knows no locks: an object that its holder renews.

Who wants the lock makes the object on condition that there is none. Where there is one, it is watched: if it changes,
its holder is alive, and the directory is refused. If it has not changed for :data:`LEASE` seconds on the watcher's own
monotonic clock, or if its holder was a process of this very machine that is gone, it is replaced on condition that it
is still the same. No clock of day is read, and none is compared with another's.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import orjson

from tamis.errors import OutputError, OutputRefusedError, TamisError
from tamis.io.processes import started, this_machine
from tamis.io.remote import persist

__all__ = ["BEAT", "LEASE", "Lease", "LeaseObject"]

LEASE = 20.0
"""Seconds without a sign of life after which a lock may be taken over. Both sides must run with the same value."""
BEAT = 5.0
"""Seconds between two signs of life: three may be lost."""
_POLL = 0.5
_PARTING = 5.0
"""Seconds for giving it back."""

_held_here: set[str] = set()
"""Owners in this process."""


class LeaseObject(Protocol):
    """The object on a store. A tag changes with the content."""

    def look(self) -> tuple[bytes, str] | None:
        """The content and its tag; ``None`` where there is no object."""
        ...

    def make(self, content: bytes) -> str | None:
        """Write it where there is none; returns the tag, ``None`` where there is one."""
        ...

    def renew(self, content: bytes, tag: str) -> str | None:
        """Replace the one that has this tag; returns the new tag, ``None`` where it has another or is gone."""
        ...

    def drop(self) -> None:
        """Delete it."""
        ...


def now() -> float:
    """A clock that goes on while a laptop sleeps: a holder that wakes up must know how long it was away."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Lease:
    """One holder's side of the lock."""

    def __init__(self, place: LeaseObject, path: str) -> None:
        self._place = place
        self._path = path
        self._me = {
            "owner": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "machine": this_machine(),
            "started": started(os.getpid()),
        }
        self._beats = 0
        self._tag = ""
        self._renewed = 0.0
        self._lost = ""
        self._renewing = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def owner(self) -> str:
        """What tells this holder from all others."""
        return str(self._me["owner"])

    def _content(self) -> bytes:
        self._beats += 1  # so that the tag changes
        return orjson.dumps({**self._me, "beat": self._beats})

    def _persist(self, call: Callable[[], Any]) -> Any:
        return persist(call, f"{self._path} cannot be locked", OutputError)

    # -- taking ----------------------------------------------------------------------------------------------

    def take(self) -> bool:
        """Hold the lock, or raise ``OutputRefusedError``. Returns whether it was taken over from one that died."""
        watched, since = "", now()
        while True:
            began = now()
            tag = self._persist(partial(self._place.make, self._content()))
            if tag is not None:
                self._hold(tag, began)
                return False
            found = self._persist(self._place.look)
            if found is None:
                continue  # given back in between
            theirs, seen = _read(found[0]), found[1]
            if theirs.get("owner") == self.owner:  # ours: the answer to the first try was lost
                self._hold(seen, began)
                return False
            if seen != watched:
                if watched:
                    raise _held(self._path, theirs)
                watched, since = seen, now()
            if _is_gone(theirs) or now() - since >= LEASE:
                began = now()
                tag = self._persist(partial(self._place.renew, self._content(), seen))
                if tag is None:
                    after = self._persist(self._place.look)
                    if after is None or _read(after[0]).get("owner") != self.owner:
                        raise _held(self._path, theirs if after is None else _read(after[0]))
                    tag = after[1]
                self._hold(tag, began)
                return True
            time.sleep(_POLL)

    def _hold(self, tag: str, began: float) -> None:
        _held_here.add(self.owner)
        self._tag, self._renewed = tag, began
        self._thread = threading.Thread(target=self._run, name="tamis-lease", daemon=True)
        self._thread.start()

    # -- holding ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = BEAT
        while not self._stopping.wait(pause):
            try:
                self._renew()
                pause = BEAT
            except Exception:  # noqa: BLE001  the network is away; whoever commits something will say so
                pause = BEAT / 5
            if self._lost:
                return

    def _renew(self) -> None:
        with self._renewing:
            if self._lost or self._stopping.is_set():
                return
            began = now()
            tag = self._place.renew(self._content(), self._tag)
            if tag is None:
                found = self._place.look()
                if found is None:  # never made anew: who took it over may have done all the work, and ended
                    self._lost = "its lock is gone, so another run took it over and ended"
                    return
                theirs = _read(found[0])
                if theirs.get("owner") != self.owner:
                    self._lost = f"it is held by another run now ({_named(theirs)})"
                    return
                tag = found[1]  # the answer to an earlier beat was lost
            self._tag, self._renewed = tag, began

    def check(self) -> None:
        """Raise ``OutputError`` where the lock is lost; where it is long since it was renewed, renew it first."""
        if not self._lost and now() - self._renewed > LEASE / 2:
            self._persist(self._renew)
        if self._lost:
            message = (
                f"{self._path} is not this run's any more: {self._lost}, as may be where a run is not heard "
                f"for {LEASE:.0f} s. This run stops here; what it finished is kept, and the other one goes on from it."
            )
            raise OutputError(message)

    def release(self) -> None:
        """Give it back; where that fails, it runs out by itself."""
        self._stopping.set()
        with self._renewing:
            if not self._lost and now() - self._renewed < LEASE:
                with contextlib.suppress(TamisError, OSError):
                    persist(self._place.drop, f"{self._path} cannot be unlocked", OutputError, within=_PARTING)
        _held_here.discard(self.owner)
        if self._thread is not None and self._thread is not threading.current_thread():
            with contextlib.suppress(RuntimeError):  # Ctrl-C came while it was being started: it ends by itself
                self._thread.join()


def _read(content: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether it was a process of this machine, and has ended, or a run of this process: nobody will renew it."""
    machine = this_machine()
    if not machine or holder.get("machine") != machine:
        return False
    if started(int(holder["pid"])) != holder.get("started"):
        return True
    return holder["pid"] == os.getpid() and holder.get("owner") not in _held_here


def _named(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid', '?')} on {holder.get('host', 'an unknown machine')}"


def _held(path: str, holder: dict[str, Any]) -> OutputRefusedError:
    return OutputRefusedError(
        f"{path} is being written by another run of Tamis ({_named(holder)}). Wait for it, stop it, or choose another "
        "directory."
    )
