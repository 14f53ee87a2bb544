"""The live display of a run: on a terminal one line that changes, elsewhere a log line now and then."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tamis.engine.tally import Tally
from tamis.engine.watch import Observer, Progress

__all__ = ["bytes_text", "duration", "fitting", "observer_for", "progress_line", "progress_parts", "resident_bytes"]

_log = logging.getLogger("tamis")
_LINES_EVERY = 10.0
"""Seconds between log lines where there is no terminal."""


def bytes_text(n: float) -> str:
    """A number of bytes for people.

    >>> bytes_text(1_500_000)
    '1.5 MB'
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(n) < 1000 or unit == "TB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """A duration for people.

    >>> duration(3725)
    '1:02:05'
    """
    whole = int(seconds + 0.5)
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def progress_line(progress: Progress) -> str:
    """Bytes, documents, rate, share kept, the leading reasons and the time left, on one line.

    Where a model runs also its tokens per second and the memory in use. Rates are of this process: what an earlier
    run had done is in the counts alone.
    """
    return " · ".join(progress_parts(progress))


def fitting(parts: Sequence[str], width: int) -> str:
    """As many of the parts as fit a width, whole ones from the first on: half a number would be another number.

    >>> fitting(["2.1 MB of 4.3 MB", "14,361 docs", "8,264/s"], 32)
    '2.1 MB of 4.3 MB · 14,361 docs'
    """
    line = ""
    for part in parts:
        longer = f"{line} · {part}" if line else part
        if len(longer) > width:
            break
        line = longer
    return line


def progress_parts(progress: Progress) -> list[str]:
    """The pieces of :func:`progress_line`, what matters most first."""
    t, before = progress.tally, progress.before
    seen = _seen(t)
    rate = (seen - _seen(before)) / progress.seconds if progress.seconds > 0 else 0.0
    tokens = _tokens(t) - _tokens(before)
    parts = [progress.phase] if progress.phase else []
    parts += [
        f"{bytes_text(t.bytes_in)} of {bytes_text(progress.bytes_total)}",
        f"{seen:,} docs",
        f"{rate:,.0f}/s",
    ]
    if tokens:
        parts.append(f"{tokens / progress.seconds if progress.seconds > 0 else 0.0:,.0f} tok/s")
    # Before what may be cut off at the end of a narrow terminal.
    read = t.bytes_in - before.bytes_in
    if read and t.bytes_in < progress.bytes_total:
        left = progress.seconds * (progress.bytes_total - t.bytes_in) / read
        parts.append(f"{duration(left)} left")
    if t.done and not progress.phase:
        parts.append(f"kept {t.kept / t.done:.0%}")
    if t.total_quarantined:
        parts.append(f"quarantined {t.total_quarantined:,}")
    parts += [f"{stage} {n:,}" for stage, n in _by_stage(t.rejected)[:3]]
    memory = resident_bytes() if tokens else None
    if memory is not None:
        parts.append(f"{bytes_text(memory)} in memory")
    return parts


def _seen(tally: Tally) -> int:
    """Documents that are done, or that a model has answered though their window is still at work."""
    answered = (int(amount) for (_, name), amount in tally.measures.items() if name == "texts")
    return max(tally.done, *answered, 0)


def _tokens(tally: Tally) -> float:
    """Tokens that models were shown."""
    return sum(amount for (_, name), amount in tally.measures.items() if name == "tokens")


def resident_bytes() -> int | None:
    """Memory of this process and its children that is in RAM, in bytes; None where the system does not say (not Linux).

    Pages that they share are counted in each of them.
    """
    home = Path("/proc/self")
    total = 0
    try:
        children = [pid for task in (home / "task").iterdir() for pid in (task / "children").read_text().split()]
    except OSError:  # a thread has just ended, or the kernel does not list children
        children = []
    for pid in ("self", *children):
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
        total += pages * os.sysconf("SC_PAGE_SIZE")
    return total or None


def _by_stage(rejected: dict[tuple[str, str], int]) -> list[tuple[str, int]]:
    totals: dict[str, int] = {}
    for (stage, _), n in rejected.items():
        totals[stage] = totals.get(stage, 0) + n
    return sorted(totals.items(), key=lambda item: -item[1])


class _LogLines:
    """A log line every ten seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= _LINES_EVERY:
            self._last = now
            _log.info("%s", progress_line(progress))


class _Live:
    """A progress bar on standard error."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415, TID251  only where there is a terminal

        self._console = Console(stderr=True)
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        complete = progress.splits_done == progress.splits_total
        if now - self._last < 0.1 and not complete:
            return
        self._last = now
        share = min(1.0, progress.tally.bytes_in / progress.bytes_total) if progress.bytes_total else 1.0
        filled = int(20 * share)
        bar = "━" * filled + "╌" * (20 - filled)
        start = f"{bar} {share:4.0%} "
        text = start + fitting(progress_parts(progress), self._console.width - 1 - len(start))
        # Carriage return and erase: the line is rewritten in place and is gone when the run ends.
        self._console.file.write("\r\x1b[K" + text)
        if complete:
            self._console.file.write("\r\x1b[K")
        self._console.file.flush()


def observer_for(choice: str | Callable[[Progress], Any]) -> Observer | None:
    """The observer for ``progress=``: a display for "auto", none for "off", or the function itself."""
    if callable(choice):
        return choice
    if choice == "off":
        return None
    return _Live() if sys.stderr.isatty() else _LogLines()
