"""``tamis report``: a run, or two beside each other, as one HTML page.

Imports are made inside the functions, so that ``tamis --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251  a console is handed in

    from tamis.page import Page

__all__ = ["add_report"]


def add_report(commands: Any, console: Callable[[], Console]) -> None:
    """Add the command to a parser's subparsers."""
    parser = commands.add_parser(
        "report",
        help="make a page that shows what a run kept and dropped, and what other bounds would keep",
        description="Make one HTML page of a run's output directory: what each stage dropped and why, distributions "
        "before and after, documents to look at, and bounds to move. It needs no network and no server.",
        epilog="Example: tamis report curated --out curated.html",
    )
    parser.add_argument("output", metavar="OUT", help="the output directory of a run, or of tamis score")
    parser.add_argument("other", nargs="?", metavar="OTHER", help="another run, to be compared with")
    parser.add_argument("--out", metavar="FILE", help="the page to write (default: report-OUT.html here)")
    parser.add_argument("--png", metavar="DIR", help="write the plots as PNG files too")
    parser.add_argument("--sample", type=int, metavar="N", help="documents to look at (default: 10,000; 0: none)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which documents these are (default: 0)")
    parser.add_argument("--input", metavar="PATH", help="where the input lies now, where it has moved")
    parser.add_argument("--workers", type=int, metavar="N", help="worker processes (default: one per core)")
    parser.add_argument(
        "--live", action="store_true", help="while the run is at work: write the page anew every 5 seconds"
    )
    parser.set_defaults(command=lambda options: run_report(options, console()))


def run_report(options: argparse.Namespace, console: Console) -> int:
    """Run ``tamis report``; with --live the exit status says whether the run ended well."""
    from tamis.errors import UsageError
    from tamis.page import report, write_page, write_plots
    from tamis.page.charts import vega
    from tamis.page.live import follow
    from tamis.page.make import DEFAULT_SAMPLE

    if options.live and options.other is not None:
        message = "--live shows one run; leave OTHER out."
        raise UsageError(message)
    out = _place(options)
    vega("tamis report")  # what is missing is said before minutes are spent on reading

    def whole() -> Page:
        return report(
            options.output,
            options.other,
            sample=DEFAULT_SAMPLE if options.sample is None else options.sample,
            seed=options.seed,
            input=options.input,
            workers=options.workers,
            progress="auto" if console.is_terminal else "off",
        )

    if options.live:
        page = follow(options.output, out, whole, heard=_heard(console, out))
    else:
        page = whole()
        write_page(page, out)
        _say(console, page, out)
    if options.png is not None:
        names = write_plots(page, options.png)
        console.print(f"{options.png}: {len(names)} plots", markup=False)
    ended_well = page.runs[0].complete
    return 0 if ended_well or not options.live else 1


def _place(options: argparse.Namespace) -> str:
    """Where the page is to be written; never into a run's directory, where it would pass for documents."""
    from tamis.errors import UsageError

    runs = [path for path in (options.output, options.other) if path is not None]
    if options.out is None:
        names = [path.rstrip("/").rpartition("/")[2] or "run" for path in runs]
        return f"report-{'-'.join(dict.fromkeys(names))}.html"
    out: str = options.out
    if "://" not in out:
        if Path(out).is_dir():
            message = f"--out {out} is a directory; name the file to write, e.g. {out.rstrip('/')}/report.html."
            raise UsageError(message)
        for run in runs:
            if "://" not in run and Path(run).resolve() in Path(out).resolve().parents:
                message = (
                    f"--out {out} lies in the directory of the run, where whoever reads it would take it for "
                    "documents. Choose another place."
                )
                raise UsageError(message)
    return out


def _heard(console: Console, out: str) -> Callable[[Page], None]:
    """Says that the page is there, and in the end what it holds."""
    first = True

    def heard(page: Page) -> None:
        nonlocal first
        if not page.live:
            _say(console, page, out)
        elif first:
            console.print(f"{out}: open it in a browser; it follows the run until that ends.", markup=False)
        first = False

    return heard


def _say(console: Console, page: Page, out: str) -> None:
    from tamis.progress import bytes_text

    size = "" if "://" in out else f", {bytes_text(Path(out).stat().st_size)}"
    console.print(f"{out}{size}: open it in a browser.", markup=False)
    for run in page.runs:
        shown = f"{run.name}: " if len(page.runs) > 1 else ""
        if run.progress is not None:
            console.print(f"{shown}the run is {run.progress.state}, {run.progress.share:.1%} done.", markup=False)
        if run.sample is not None:
            console.print(f"{shown}{run.sample.how}", markup=False)
        for note in run.notes:
            console.print(f"{shown}{note}", markup=False, style="dim")
    found = page.differences
    if found is not None:
        differ = found.only_first + found.only_second
        console.print(
            f"{found.compared:,} documents are in both samples; {differ:,} were decided differently.", markup=False
        )
