"""The live display of a run: on a terminal one line that changes, elsewhere a log line now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from tamis.engine.run import Observer, Progress

__all__ = ["bytes_text", "duration", "observer_for", "progress_line"]

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
    """Bytes, documents, rate, share kept, the leading reasons and the time left, on one line."""
    t = progress.tally
    rate = t.records / progress.seconds if progress.seconds > 0 else 0.0
    parts = [progress.phase] if progress.phase else []
    parts += [
        f"{bytes_text(t.bytes_in)} of {bytes_text(progress.bytes_total)}",
        f"{t.records:,} docs",
        f"{rate:,.0f}/s",
    ]
    seen = t.kept + t.total_rejected + t.total_quarantined
    if seen and not progress.phase:
        parts.append(f"kept {t.kept / seen:.0%}")
    if t.total_quarantined:
        parts.append(f"quarantined {t.total_quarantined:,}")
    parts += [f"{stage} {n:,}" for stage, n in _by_stage(t.rejected)[:3]]
    if 0 < t.bytes_in < progress.bytes_total:
        left = progress.seconds * (progress.bytes_total - t.bytes_in) / t.bytes_in
        parts.append(f"{duration(left)} left")
    return " · ".join(parts)


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
        width = self._console.width
        line = progress_line(progress)
        share = min(1.0, progress.tally.bytes_in / progress.bytes_total) if progress.bytes_total else 1.0
        filled = int(20 * share)
        bar = "━" * filled + "╌" * (20 - filled)
        text = f"{bar} {share:4.0%} {line}"
        # Carriage return and erase: the line is rewritten in place and is gone when the run ends.
        self._console.file.write("\r\x1b[K" + (text if len(text) < width else text[: max(0, width - 2)] + "…"))
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
