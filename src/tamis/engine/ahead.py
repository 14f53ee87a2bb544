"""Running the first part of a stream on a thread of its own, a little ahead of whoever takes it.

With an accelerator a worker's stream is cut before and after the model: while the device computes, the next documents
are read and filtered, and those before are written. The order of what comes out is the same.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ["Told", "ahead"]

Item = TypeVar("Item")

_ROOM = 32
"""Items that may wait: batches of about 2 MB, so that a window of 64 MB is ready when the one before is done."""
_PATIENCE = 0.1


@dataclass(frozen=True)
class Told:
    """What the thread says beside its items, in its place among them."""

    value: Any


@dataclass(frozen=True)
class _Raised:
    error: BaseException


_END = object()


def ahead(make: Callable[[Callable[[Any], None]], Iterator[Item]], room: int = _ROOM) -> Iterator[Item | Told]:
    """The items of ``make(tell)``, made on a thread; what it passes to ``tell`` comes among them as :class:`Told`.

    What is raised there is raised here. Where the items are not taken to their end, the thread ends at its next item.
    """
    waiting: queue.Queue[object] = queue.Queue(room)
    stopping = threading.Event()

    def put(item: object) -> None:
        while not stopping.is_set():
            try:
                waiting.put(item, timeout=_PATIENCE)
            except queue.Full:
                continue
            return
        raise _StoppedError

    def run() -> None:
        last: object = _END
        try:
            with closing(make(lambda value: put(Told(value)))) as items:  # type: ignore[type-var]
                for item in items:
                    put(item)
        except BaseException as error:  # noqa: BLE001  raised again by whoever takes the items
            last = _Raised(error)
        try:
            put(last)
        except _StoppedError:
            return

    thread = threading.Thread(target=run, name="tamis-ahead", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            if isinstance(item, _Raised):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stopping.set()
        thread.join()


class _StoppedError(BaseException):
    """Nobody takes the items any more."""
