"""From one run's directory, or two, to a page."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from tamis.engine.run import RunResult
from tamis.engine.status import StatusReader
from tamis.errors import UsageError
from tamis.io.store import open_store, said_plainly
from tamis.page.charts import png
from tamis.page.compare import differences
from tamis.page.content import Differences, Page, RunView
from tamis.page.directory import discreet, open_directory
from tamis.page.environment import version_of_tamis
from tamis.page.gather import look, view
from tamis.page.render import render
from tamis.page.sampled import Asked
from tamis.progress import observer_for

__all__ = ["DEFAULT_SAMPLE", "live_page", "report", "write_page", "write_plots"]

DEFAULT_SAMPLE = 10_000
"""Documents in the sample, where a page has room for the numbers of so many."""

Run = str | os.PathLike[str] | RunResult


def report(
    run: Run,
    other: Run | None = None,
    *,
    sample: int = DEFAULT_SAMPLE,
    seed: int = 0,
    input: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: Literal["auto", "off"] = "off",
) -> Page:
    """What there is to see of a run, or of two beside each other.

    The sample is drawn from the run's input and taken through its stages again, so the input must still be there;
    without it the page shows what the run wrote.

    Args:
        run: The output directory of a run, local or a URL, or what a run returned.
        other: Another run, to be compared with.
        sample: Documents to draw; 0 for none.
        seed: Which documents are drawn: those with the lowest hash of it and their id.
        input: Where the input lies now, where it has moved: a file, a folder, or a URL.
        workers: Worker processes that read it; one per core by default.
        progress: "auto" shows how far the reading is.

    Raises:
        UsageError: A directory holds no run.
    """
    if sample < 0:
        message = f"a sample has at least 0 documents, not {sample}."
        raise UsageError(message)
    asked = Asked(sample, seed, workers, observer=observer_for(progress))
    moved = None if input is None else os.fspath(input)
    paths = [_path(each) for each in (run, *(() if other is None else (other,)))]
    looked = [look(open_directory(path, wait=True), asked, moved=moved) for path in paths]
    names = _names(paths)
    if len(looked) == 1:
        return _page(names[0], (view(looked[0], name=names[0]),))
    first, second = looked
    views = (view(first, second, names[0]), view(second, first, names[1]))
    return _page(f"{names[0]} and {names[1]}", views, differences(first, second))


def live_page(path: str, reader: StatusReader, refresh: int) -> Page:
    """How far a run is that is at work: its counts so far, and no documents."""
    directory = open_directory(path, reader=reader)
    looked = look(directory, Asked(0))
    name = _names([path])[0]
    page = _page(name, (view(looked, name=name),))
    return replace(page, live=directory.status.state == "running", refresh=refresh)


def _page(title: str, runs: tuple[RunView, ...], found: Differences | None = None) -> Page:
    made = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Page(title, version_of_tamis(), made, runs, found)


def _path(run: Run) -> str:
    return run.path if isinstance(run, RunResult) else os.fspath(run)


def _names(paths: list[str]) -> list[str]:
    """The last part of each path; the whole path where these are equal."""
    shown = [discreet(path.rstrip("/")) or path for path in paths]
    last = [path.rpartition("/")[2] or path for path in shown]
    return last if len(set(last)) == len(last) else shown


def write_page(page: Page, path: str | os.PathLike[str]) -> int:
    """Write the page as one HTML file, which appears whole; returns its bytes.

    Raises:
        MissingExtraError: The package that draws the plots is not installed.
        OutputError: The file cannot be written.
    """
    return _write(os.fspath(path), render(page).encode("utf-8", "replace"))


def write_plots(page: Page, folder: str | os.PathLike[str]) -> list[str]:
    """Write the plots of the page as PNG files into a folder; returns their names."""
    made = png(page)
    root = os.fspath(folder).rstrip("/") or "/"
    for name, content in made.items():
        _write(f"{root}/{name.replace('/', '_')}", content)
    return list(made)


def _write(path: str, content: bytes) -> int:
    folder, _, name = path.rpartition("/")
    store = open_store(folder or ("/" if path.startswith("/") else "."))
    try:
        store.replace(name, content)
    except OSError as error:
        raise said_plainly(error, path) from error
    return len(content)
