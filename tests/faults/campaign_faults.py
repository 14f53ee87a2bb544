"""The faults of the campaign: what they are, how they are drawn, and how those that strike inside a process do.

A fault strikes once: whoever is about to cause it takes its token, a file, and the campaign counts as injected what
was taken.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.io import lines, store

KINDS = {
    "driver killed at an operation": 5,
    "driver killed in a write": 3,
    "driver killed at a time": 3,
    "driver terminated": 1,
    "driver interrupted": 2,
    "worker killed at an operation": 4,
    "worker killed at a time": 3,
    "worker stopped for a while": 1,
    "disk full": 4,
    "write error": 2,
    "read error": 2,
    "torn journal": 4,
    "truncated file": 2,
    "stale lock": 1,
    "second run beside": 3,
    "clock jumps": 1,
}
"""Kinds, by how often they are drawn; a killer document is part of the input, and drawn with it."""
AFTER = {"torn journal", "truncated file"}
"""What a cut of the power does besides ending the process: it strikes when an attempt has died of a kill."""
_IN_WORKERS = {"worker killed at an operation", "worker killed at a time", "worker stopped for a while"}
_OPERATIONS = ("append", "create", "move", "prune", "remove", "replace", "sync")


@dataclass(frozen=True)
class Fault:
    """One fault of one attempt."""

    kind: str
    token: Path
    role: str = "driver"
    """Which process it strikes in: "driver" or "worker"."""
    at: int = 0
    """The how-manieth operation, write or read of that process."""
    when: float = 0.0
    """Seconds after the beginning."""
    lasting: bool = False
    """Whether every later write fails as well, as on a full disk."""

    def take(self) -> bool:
        """Take the token: true once, whichever process asks."""
        try:
            self.token.unlink()
        except FileNotFoundError:
            return False
        return True

    @property
    def taken(self) -> bool:
        """Whether it struck."""
        return not self.token.exists()


@dataclass(frozen=True)
class Calm:
    """What an undisturbed run in one process does: from here, moments are drawn."""

    operations: int
    writes: int
    reads: int
    seconds: float


def draw(kind: str, token: Path, dice: random.Random, calm: Calm, workers: int) -> Fault:
    """A fault of this kind, at a random moment."""
    token.parent.mkdir(parents=True, exist_ok=True)
    token.touch()
    role = "worker" if workers > 1 and (kind in _IN_WORKERS or dice.random() < 0.4) else "driver"
    if kind.startswith("driver"):
        role = "driver"
    # Of what one process does alone, a worker does less than half, and of the operations only the creating of files.
    share = (0.15 if "operation" in kind else 0.3) if role == "worker" else 0.6 if workers > 1 else 1.1
    amounts = {"write": calm.writes, "full": calm.writes, "read": calm.reads}
    amount = next((n for word, n in amounts.items() if word in kind), calm.operations)
    at = dice.randint(1, max(2, int(amount * share)))
    return Fault(kind, token, role, at, dice.uniform(0, 1.1 * calm.seconds), dice.random() < 0.5)


class Injector:
    """Counts what its process does to files, and strikes when a fault's moment has come."""

    def __init__(self, faults: Sequence[Fault], role: str) -> None:
        self.counts: Counter[str] = Counter()
        self._faults = [f for f in faults if f.role == role]
        self._full: OSError | None = None
        for fault in faults:
            if fault.kind == "clock jumps":
                fault.take()
                _break_the_clock()

    def install(self) -> None:
        """Wrap the store's operations and the opening of inputs, in this process."""
        for name in _OPERATIONS:
            if hasattr(store.LocalStore, name):
                setattr(store.LocalStore, name, self._operation(getattr(store.LocalStore, name), name))
        store.os = _Os(self)
        opened = lines.open_input
        lines.open_input = lambda *a, **k: _Input(opened(*a, **k), self)

    def _operation(self, inner: Callable[..., Any], name: str) -> Callable[..., Any]:
        def method(*arguments: Any, **named: Any) -> Any:
            self._step("operation")
            result = inner(*arguments, **named)
            self._step("operation")
            return _Output(result, self) if name == "create" else result

        return method

    def _step(self, what: str) -> Fault | None:
        self.counts[what] += 1
        for fault in self._faults:
            if fault.at == self.counts[what] and what in _moments(fault.kind) and fault.take():
                if "killed" in fault.kind and what == "operation":
                    os.kill(os.getpid(), signal.SIGKILL)
                return fault
        return None

    def write(self, data: Any, inner: Callable[[Any], int]) -> int:
        """Write, or write a part and fail."""
        if self._full is not None:
            raise OSError(*self._full.args)
        fault = self._step("write")
        if fault is None:
            return inner(data)
        inner(bytes(data)[: len(bytes(data)) // 2])
        if "killed" in fault.kind:
            os.kill(os.getpid(), signal.SIGKILL)
        number = errno.ENOSPC if fault.kind == "disk full" else errno.EIO
        error = OSError(number, os.strerror(number))
        if fault.lasting:
            self._full = error
        raise error

    def read(self) -> None:
        """Fail once, where this is the read that fails."""
        if self._step("read") is not None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def _moments(kind: str) -> tuple[str, ...]:
    if kind in {"driver killed in a write", "disk full", "write error"}:
        return ("write",)
    if kind == "read error":
        return ("read",)
    return ("operation",) if "at an operation" in kind else ()


class _Os:
    """The module ``os`` with a ``write`` that may fail."""

    def __init__(self, injector: Injector) -> None:
        self._injector = injector

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, data: Any) -> int:
        return self._injector.write(data, lambda part: os.write(descriptor, part))


class _File:
    """A file that does as the one it wraps."""

    def __init__(self, file: Any, injector: Injector) -> None:
        self._file, self._injector = file, injector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Any:
        self._file.__enter__()
        return self

    def __exit__(self, *raised: object) -> Any:
        return self._file.__exit__(*raised)


class _Output(_File):
    """A file whose writes may fail."""

    def write(self, data: Any) -> int:
        return self._injector.write(data, self._file.write)


class _Input(_File):
    """A file whose reads may fail."""

    def read(self, *size: int) -> bytes:
        self._injector.read()
        return self._file.read(*size)

    def readinto(self, buffer: Any) -> int:
        self._injector.read()
        return self._file.readinto(buffer)

    def __iter__(self) -> Any:
        return iter(self._file)


def _break_the_clock() -> None:
    """The wall clock jumps by years, forth and back, whenever it is asked."""
    right, jumps = time.time, itertools.cycle([0, 3.2e8, -9.5e8, 6.4e8, -1.0])
    time.time = lambda: max(right() + next(jumps), 0.0)
    time.time_ns = lambda: int(time.time() * 1e9)


# -- what a cut of the power leaves --------------------------------------------------------------------------


def strike_after(fault: Fault, out: Path, dice: random.Random) -> None:
    """Do to the files of a run that died what a cut of the power does: the end of what came last is not there."""
    if fault.kind == "torn journal":
        journal = out / "_tamis/journal"
        size = journal.stat().st_size if journal.exists() else 0
        if size and fault.take():
            _cut(journal, dice, lost=min(size, dice.randint(1, 900)))
        return
    if (out / "_tamis/manifest.json").exists():
        return
    files = [p for p in sorted(out.rglob("*")) if p.is_file() and p.stat().st_size and _may_be_torn(p, out)]
    if files and fault.take():
        path = dice.choice(files)
        _cut(path, dice, lost=dice.randint(1, path.stat().st_size))


def _may_be_torn(path: Path, out: Path) -> bool:
    """Whether a run leaves it to the system when a file is written to disk: not what it replaces or joins."""
    name = path.relative_to(out)
    if name.parts[0] in {"_tamis", "_quarantine"}:
        return name.parts[1] in {"work", "parts"}
    journal = out / "_tamis/journal"
    listed = journal.read_bytes() if journal.exists() else b""
    return b'{"path":"%s","part":null' % str(name).encode() in listed


def _cut(path: Path, dice: random.Random, *, lost: int) -> None:
    content = path.read_bytes()
    left = content[: len(content) - lost]
    # Some file systems give the file its size before its content: zeros where the end was.
    zeros = b"\0" * min(lost - 1, 40) if path.name == "journal" and dice.random() < 0.3 else b""
    path.write_bytes(left + zeros)
