"""Processes of the campaign: forked from one that has loaded and warmed everything, so that an attempt costs 0.1 s.

An attempt is a leader with the driver as its child. The leader forks the driver's workers as well, at the driver's
request: new interpreters would cost a second each. What a worker runs is what it always runs
(:func:`tamis.engine.process.child`), over pipes, with the death of its driver noticed as ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from campaign_faults import Fault, Injector
from campaign_stages import MARKS

from tamis import cli
from tamis.engine import process

PATIENCE = 60.0
"""Seconds after which an attempt is taken to hang."""
BUG = 70
"""Exit status of a driver that ended with an exception that is no sentence."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    status: int
    """The driver's exit status; the negative number of the signal that ended it."""
    said: str
    """What it and its workers said on standard error."""
    seconds: float
    counts: dict[str, int]
    """What the driver did to files, where it came to its end."""
    hung: bool = False


class Attempt:
    """One run of the command ``tamis run``, with faults."""

    def __init__(self, recipe: Path, faults: Sequence[Fault], folder: Path, marks: Path | None) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._pid = os.fork()
        if not self._pid:
            _guarded(lambda: _Leader(faults, folder, marks).lead(recipe))
        self.group = self._pid

    def outcome(self) -> Outcome:
        """Wait for its end."""
        _, status = os.waitpid(self._pid, 0)
        said = (self._folder / "said").read_text(errors="replace")
        if status:
            raise RuntimeError(f"the leader of an attempt failed, which is a defect of the campaign: {said}")
        result = json.loads((self._folder / "result").read_text())
        counts = self._folder / "counts"
        return Outcome(said=said, counts=json.loads(counts.read_text()) if counts.exists() else {}, **result)


def _guarded(run: Callable[[], Any]) -> None:
    """Run what a forked process is for, and end it, whatever happens."""
    try:
        run()
    except BaseException:  # noqa: BLE001  it must never go on as a second campaign
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(BUG)
    os._exit(0)


class _Leader:
    """Forks the driver and its workers, causes what comes from outside, and says how the driver ended."""

    def __init__(self, faults: Sequence[Fault], folder: Path, marks: Path | None) -> None:
        self._faults = faults
        self._folder = folder
        self._workers: dict[int, int] = {}  # process: where its exit status is to be written
        self._stopped: dict[int, float] = {}
        self._first_worker = 0.0
        os.setsid()
        os.environ[MARKS] = "" if marks is None else str(marks)
        self._outside = [f for f in faults if f.kind in _SIGNALS]

    def lead(self, recipe: Path) -> None:
        """Until the driver has ended."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        said = os.open(self._folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        began = time.monotonic()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the driver is ready for it
        self._driver = os.fork()
        if not self._driver:
            ours.close()
            _guarded(lambda: self._drive(recipe, theirs))
        theirs.close()
        self._ours = ours
        hung = False
        status: int | None = None
        while status is None:
            status = self._reap()
            now = time.monotonic() - began
            self._strike(now)
            if now > PATIENCE and not hung:
                hung = True
                os.kill(self._driver, signal.SIGKILL)
            if status is None and select.select([ours], [], [], 0.004)[0]:
                self._serve()
        for pid in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        result = {"status": status, "seconds": time.monotonic() - began, "hung": hung}
        (self._folder / "result").write_text(json.dumps(result))

    # -- the driver ------------------------------------------------------------------------------------------

    def _drive(self, recipe: Path, leader: socket.socket) -> None:
        injector = Injector(self._faults, "driver")
        injector.install()
        _Forked.leader = leader
        process.subprocess = _Subprocess
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            status = cli.main(["run", str(recipe)])
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        except SystemExit as end:
            status = int(end.code or 0)
        except KeyboardInterrupt:  # before the command began, or after it
            status = 130
        if not status:
            (self._folder / "counts.part").write_text(json.dumps(injector.counts))
            (self._folder / "counts.part").rename(self._folder / "counts")
        sys.stderr.flush()
        os._exit(status)

    # -- its workers -----------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Fork a worker, with the pipes that the driver sends."""
        request, pipes = b"", []
        with contextlib.suppress(ConnectionResetError):
            request, pipes, _, _ = socket.recv_fds(self._ours, 1 << 20, 3)
        if not request:  # the driver has ended, and is about to be reaped
            time.sleep(0.001)
            return
        incoming, outgoing, ended = pipes
        pid = os.fork()
        if not pid:
            self._ours.close()
            for other in (ended, *self._workers.values()):
                os.close(other)
            _guarded(lambda: self._work(json.loads(request), incoming, outgoing))
        os.close(incoming)
        os.close(outgoing)
        self._workers[pid] = ended
        self._first_worker = self._first_worker or time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the driver was killed meanwhile
            self._ours.send(struct.pack("<i", pid))

    def _work(self, environment: dict[str, str], incoming: int, outgoing: int) -> None:
        os.environ.update(environment)
        os.dup2(incoming, 0)
        os.dup2(outgoing, 1)
        os.close(incoming)
        os.close(outgoing)
        Injector(self._faults, "worker").install()
        process.child()

    def _reap(self) -> int | None:
        """Take note of every child that ended; the driver's exit status, if it is among them."""
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return None
            code = os.waitstatus_to_exitcode(status)
            if pid == self._driver:
                return code
            self._stopped.pop(pid, None)
            ended = self._workers.pop(pid)
            with contextlib.suppress(BrokenPipeError):
                os.write(ended, struct.pack("<i", code))
            os.close(ended)

    # -- what comes from outside -----------------------------------------------------------------------------

    def _strike(self, now: float) -> None:
        for pid, until in list(self._stopped.items()):
            if now > until:
                self._stopped.pop(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        for fault in list(self._outside):
            of_worker = fault.kind.startswith("worker")
            since = time.monotonic() - self._first_worker if of_worker else now
            if since < fault.when or (of_worker and not self._workers):
                continue
            self._outside.remove(fault)
            pid = list(self._workers)[fault.at % len(self._workers)] if of_worker else self._driver
            fault.take()
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, _SIGNALS[fault.kind])
            if _SIGNALS[fault.kind] == signal.SIGSTOP:
                self._stopped[pid] = now + 0.15


_SIGNALS = {
    "driver killed at a time": signal.SIGKILL,
    "driver terminated": signal.SIGTERM,
    "driver interrupted": signal.SIGINT,
    "worker killed at a time": signal.SIGKILL,
    "worker stopped for a while": signal.SIGSTOP,
}


class _Forked:
    """As much of ``subprocess.Popen`` as a worker process needs; the leader does the forking."""

    leader: socket.socket
    _asking = threading.Lock()

    def __init__(self, _: list[str], *, env: dict[str, str], **__: Any) -> None:
        incoming, stdin = os.pipe()
        stdout, outgoing = os.pipe()
        self._ended, ended = os.pipe()
        changed = {k: v for k, v in env.items() if os.environ.get(k) != v}
        with self._asking:
            socket.send_fds(self.leader, [json.dumps(changed).encode()], [incoming, outgoing, ended])
            (self.pid,) = struct.unpack("<i", self.leader.recv(4))
        for descriptor in (incoming, outgoing, ended):
            os.close(descriptor)
        self.stdin, self.stdout = os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb")
        self.returncode: int | None = None
        self._waiting = threading.Lock()

    def wait(self) -> int:
        with self._waiting:
            if self.returncode is None:
                (self.returncode,) = struct.unpack("<i", os.read(self._ended, 4))
                os.close(self._ended)
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class _Subprocess:
    """In the place of the module ``subprocess``."""

    PIPE = -1
    Popen = _Forked


def one_thread() -> None:
    """What a process does that is going to be forked."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
