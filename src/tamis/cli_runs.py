"""The commands about a run's directory, `tamis status` and `tamis verify`: call a plain function, print its result.

Imports are made inside the commands, so that ``tamis --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tamis.cli_text import say

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251  a console is handed in

    from tamis.engine.status import Status
    from tamis.engine.verify import Verified

__all__ = ["add_status", "add_verify", "status_lines"]

_LOOK_EVERY = 2.0
"""Seconds between two looks with --watch: a run says how far it is as often."""
_SHOWN = 50
"""Findings that are printed; --json has the first thousand."""
_STYLES = {"complete": "green", "running": "bold", "stopped": "yellow"}
"""How a run's state is shown; any other is bold red."""


# -- tamis status --------------------------------------------------------------------------------------------


def add_status(commands: Any, console: Callable[[], Console]) -> None:
    """Add the command to a parser's subparsers."""
    status = commands.add_parser(
        "status",
        help="say where the run in an output directory stands",
        description="Where a run stands: share done, rate, time left, failures, where it runs. It is not disturbed.",
    )
    status.add_argument("output", metavar="OUT", help="the output directory of a run, local or a URL")
    status.add_argument("--watch", action="store_true", help="look again every two seconds until the run has ended")
    status.add_argument("--json", action="store_true", help="one JSON object for each look")
    status.set_defaults(command=lambda options: show_status(options, console()))


def show_status(options: argparse.Namespace, console: Console) -> int:
    """Run ``tamis status``; with --watch the exit status says whether the run ended well."""
    import orjson

    from tamis.engine.status import StatusReader

    reader = StatusReader(options.output)
    first = True
    while True:
        status = reader.read(wait=first)
        if options.json:
            console.out(orjson.dumps(status.to_json()).decode(), highlight=False)
        else:
            if not first and not console.is_terminal:
                console.print()
            if not first and console.is_terminal:
                console.clear()
            for n, line in enumerate(status_lines(status)):
                say(console, line, None if n else _STYLES.get(status.state, "bold red"))
        if not options.watch:
            return 0
        if status.state != "running":
            return 0 if status.state == "complete" else 1
        first = False
        time.sleep(_LOOK_EVERY)


def status_lines(status: Status) -> list[str]:
    """A status for people."""
    from tamis.progress import bytes_text, duration

    tally = status.tally
    phase = f" ({status.phase})" if status.phase else ""
    lines = [f"{status.path}: {status.state}{phase}, {status.share:.1%} done"]
    lines.append(
        f"  {status.splits_done:,} of {status.splits_total:,} splits, "
        f"{bytes_text(status.bytes_done)} of {bytes_text(status.bytes_total)}"
    )
    if status.state == "running":
        rate = f"  {bytes_text(status.bytes_per_second)}/s, {status.records_per_second:,.0f} documents/s"
        left = status.seconds_left
        lines.append(rate if left is None else f"{rate}, {duration(left)} left")
    counts = f"  {tally.records:,} documents: {tally.kept:,} kept, {tally.total_rejected:,} rejected"
    lines.append(f"{counts}, {tally.total_quarantined:,} quarantined")
    lines += [f"    {n:,} {cause}" for cause, n in tally.quarantined.most_common(5)]
    if status.host:
        what = f"{status.workers} workers ({status.engine})" if status.workers else "no workers yet"
        lines.append(f"  on {status.host}, process {status.pid}, {what}; last heard at {status.heard}")
    if status.deaths:
        lines.append(f"  {status.deaths:,} workers died")
        lines += [
            f"    split {death.split}: {death.cause}" + (f" on {death.where}" if death.where else "")
            for death in status.last_deaths[-5:]
        ]
    if status.error:
        lines.append(f"  {status.error}")
    if status.advice and status.advice not in (status.error or ""):
        lines.append(f"  {status.advice}")
    return lines


# -- tamis verify --------------------------------------------------------------------------------------------


def add_verify(commands: Any, console: Callable[[], Console]) -> None:
    """Add the command to a parser's subparsers."""
    verify = commands.add_parser(
        "verify",
        help="check every output of a run against its manifest",
        description="Read every output of a run and check it: bytes, checksum, rows, and that the counts add up.",
    )
    verify.add_argument("output", metavar="OUT", help="the output directory of a run, local or a URL")
    verify.add_argument("--threads", type=int, metavar="N", help="files read at once (default: one per core)")
    verify.add_argument("--json", action="store_true", help="the result as one JSON object")
    verify.set_defaults(command=lambda options: run_verify(options, console()))


def run_verify(options: argparse.Namespace, console: Console) -> int:
    """Run ``tamis verify``; the exit status is 1 where anything is wrong."""
    import orjson

    from tamis.engine.verify import verify
    from tamis.errors import UsageError

    if options.threads is not None and options.threads < 1:
        message = f"--threads must be at least 1, not {options.threads}."
        raise UsageError(message)
    found = verify(options.output, threads=options.threads, heard=_heard(console))
    if options.json:
        console.out(orjson.dumps(found.to_json()).decode(), highlight=False)
    else:
        for line in _verified_lines(found):
            say(console, line, "green" if found.ok else "bold red")
    return 0 if found.ok else 1


def _heard(console: Console) -> Callable[[int, int], None] | None:
    """Says on a terminal how much has been read; nothing where output is piped."""
    if not console.is_terminal:
        return None
    from tamis.progress import bytes_text

    last = time.monotonic()

    def heard(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 0.5 and done < total:
            last = now
            console.print(f"read {bytes_text(done)} of {bytes_text(total)}", end="\r", style="dim")

    return heard


def _verified_lines(found: Verified) -> list[str]:
    from tamis.progress import bytes_text

    lines = found.findings[:_SHOWN]
    if found.found > len(lines):
        lines = [*lines, f"... and {found.found - len(lines):,} more."]
    what = f"{found.outputs:,} files, {found.rows:,} rows, {bytes_text(found.bytes)}, {found.splits:,} splits"
    if not found.complete:
        lines.append(f"The run is not complete: {found.splits:,} of {found.splits_total:,} splits are done.")
    result = "everything is as it was written" if found.ok else f"{found.found:,} things are wrong"
    return [*lines, f"{found.path}: {what}: {result}."]
