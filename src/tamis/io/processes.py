"""Telling whether a process that wrote down who it is still lives: on this machine, without asking it.

A number alone says little, as numbers are given again; with the start of its process, on a system that has not been
booted anew, it names one.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["started", "this_machine"]


def this_machine() -> str:
    """The running system and its set of processes; "" where that cannot be told (not Linux)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def started(pid: int) -> str:
    """When a process of this machine started, in ticks; "" where there is none, or it has ended."""
    try:
        # What follows the name, which may hold anything: the state is field 3, the start field 22.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in {"Z", "X"} else fields[19]
