"""The page of a run that is at work, written anew every few seconds; in the end the whole page."""

from __future__ import annotations

import time
from collections.abc import Callable

from tamis.engine.status import StatusReader
from tamis.page.content import Page
from tamis.page.make import live_page, write_page

__all__ = ["follow"]

EVERY = 5
"""Seconds between two writings, and between two readings by whoever looks at it."""


def follow(
    path: str,
    out: str,
    whole: Callable[[], Page],
    *,
    every: float = EVERY,
    heard: Callable[[Page], None] | None = None,
) -> Page:
    """Write the page of a run until the run ends, then the whole page; returns the last one.

    Args:
        path: The run's directory.
        out: The page.
        whole: What makes the page of a run that has ended well.
        every: Seconds between two writings.
        heard: Called with each page after it was written.

    Raises:
        UsageError: The directory holds no run.
    """
    reader = StatusReader(path)
    while True:
        page = live_page(path, reader, max(1, round(every)))
        write_page(page, out)
        if heard is not None:
            heard(page)
        if not page.live:
            break
        time.sleep(every)
    if page.runs[0].complete:
        time.sleep(min(every, 1.0))  # the command that ran it writes down its recipe after the run has ended
        page = whole()
        write_page(page, out)
        if heard is not None:
            heard(page)
    return page
