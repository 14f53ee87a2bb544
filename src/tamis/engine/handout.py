"""Handing out work: which split is next, how often it was tried, and what to do about one that kills its workers.

Every engine takes its errands here and says what became of them; so a worker's death costs the same anywhere:

- its split is run again by another worker, three times in all;
- then the split is looked into. Its documents are run without writing anything, in halves of halves, until those
  that kill their worker stand alone. They are set aside in the quarantine, with the cause, and the rest of the split
  is written as if nothing had been;
- a machine that went away is no fault of the split, and is not held against it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from tamis.engine.job import Errand, SplitResult
from tamis.errors import WorkerError
from tamis.io.splits import Split

__all__ = ["Death", "HandOut"]

_TRIES = 3
"""Workers that a split may cost before it is looked into."""
_MOVES = 20
"""Machines that may go away under one split before the run ends: on cheap machines that come and go, one of an hour's
work meets a few of them; twenty in a row is no accident."""
_PROBES = 64
"""Workers that looking into one split may cost: about four documents among 20,000, each found in 15 halvings or fewer.
What is then still suspected is set aside as a whole."""
_HOPELESS = 3
"""Splits that killed their workers, with none that did not, after which it is the stage and not the documents."""

Inquiry = Generator[Errand, SplitResult | None, None]
"""Yields errands, and is sent what came of each: None where its worker died."""


@dataclass(frozen=True)
class Death:
    """A worker that died at work."""

    split: int
    cause: str
    where: str = ""
    """The machine; empty for this one."""


@dataclass
class _Trouble:
    """What is held against a split."""

    deaths: int = 0
    moves: int = 0
    inquiry: Inquiry | None = None


class HandOut:
    """The errands of one run. Safe to use from several threads."""

    def __init__(self, splits: Sequence[Split], aside: Callable[[Split], str] = lambda split: str(split.index)) -> None:
        self._splits = iter(splits)
        self._aside = aside
        self._again: deque[Errand] = deque()
        self._trouble: dict[int, _Trouble] = {}
        self._total = self._left = len(splits)
        self._hopeless = 0
        self._closed = False
        self._changed = threading.Condition(threading.RLock())
        self.deaths: list[Death] = []
        """Workers that died so far."""

    @property
    def left(self) -> int:
        """Splits that are not done."""
        return self._left

    @property
    def over(self) -> bool:
        """Whether every split is done."""
        return self._left == 0

    def close(self) -> None:
        """Hand out nothing more; whoever waits in :meth:`take` is sent home."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def next(self) -> Errand | None:
        """What to do now; None where there is nothing at this moment. More may come when a worker dies."""
        with self._changed:
            if self._closed:
                return None
            if self._again:
                return self._again.popleft()
            split = next(self._splits, None)
            return None if split is None else Errand(split, self._aside(split))

    def take(self) -> Errand | None:
        """What to do now, waiting for it where a split at work elsewhere may come back; None when all is done."""
        with self._changed:
            while not self._closed and not self.over:
                errand = self.next()
                if errand is not None:
                    return errand
                self._changed.wait()
            return None

    def done(self, errand: Errand, result: SplitResult) -> SplitResult | None:
        """Take a result in; returns it where it is that of a whole split, None where it was only looked into."""
        with self._changed:
            trouble = self._trouble.get(errand.split.index)
            if trouble is not None and trouble.inquiry is not None and self._goes_on(trouble.inquiry, result):
                return None
            self._trouble.pop(errand.split.index, None)
            self._left -= 1
            self._changed.notify_all()
            return result

    def died(self, errand: Errand, cause: str, *, where: str = "", blame: bool = True) -> None:
        """Note that the worker of an errand died, and decide what comes of it.

        Args:
            errand: What it was doing.
            cause: How it died, as a phrase without a full stop.
            where: The machine.
            blame: Whether the documents may have done it; not where the machine went away.

        Raises:
            WorkerError: Where there is no hope.
        """
        with self._changed:
            if self._closed:  # the workers are being ended
                return
            self.deaths.append(Death(errand.split.index, cause, where))
            trouble = self._trouble.setdefault(errand.split.index, _Trouble())
            if not blame:
                trouble.moves += 1
                if trouble.moves >= _MOVES:
                    raise WorkerError(_sentence(cause, f"{_MOVES} times on the same split", errand.split))
                self._put(errand)
            elif trouble.inquiry is not None:
                self._goes_on(trouble.inquiry, None)
            else:
                self._blame(trouble, errand, cause)

    def _blame(self, trouble: _Trouble, errand: Errand, cause: str) -> None:
        trouble.deaths += 1
        if trouble.deaths < _TRIES:
            self._put(errand)
            return
        self._hopeless += 1
        if self._hopeless >= _HOPELESS and self._left == self._total:
            what = f"{_TRIES} times on each of the first {_HOPELESS} splits, the last"
            raise WorkerError(_sentence(cause, what, errand.split))
        trouble.inquiry = _inquire(errand, cause)
        self._put(next(trouble.inquiry))

    def _goes_on(self, inquiry: Inquiry, result: SplitResult | None) -> bool:
        """Whether there is more to ask after this answer."""
        try:
            self._put(inquiry.send(result))
        except StopIteration:
            return False
        return True

    def _put(self, errand: Errand) -> None:
        self._again.append(errand)
        self._changed.notify()


def _asked(errand: Errand) -> Generator[Errand, SplitResult | None, SplitResult | None]:
    """What came of an errand; None where its worker died each of three times, for one may die of something else."""
    for _ in range(_TRIES):
        result = yield errand
        if result is not None:
            return result
    return None


def _inquire(errand: Errand, cause: str) -> Inquiry:
    """Find the documents of a split that kill their worker, and run the split without them."""
    split, aside = errand.split, errand.aside
    if (yield from _asked(Errand(split, kind="probe", only=(0, 0)))) is None:
        raise WorkerError(_sentence(cause, "before it was shown a document; the last split was", split))
    counted = yield from _asked(Errand(split, kind="count"))
    if counted is None:  # reading is what kills
        if (yield from _asked(Errand(split, aside, unread=True, cause=cause))) is None:
            raise WorkerError(_sentence(cause, "even when it read nothing", split))
        return
    records = counted.tally.records
    search = _Search(split)
    yield from search.among(0, records, sure=False)
    if (yield from _asked(Errand(split, aside, skip=_joined(search.found), cause=cause))) is not None:
        return
    # None of them kills alone, but together they do: none of them is shown to a stage.
    if (yield from _asked(Errand(split, aside, skip=((0, records),), cause=cause))) is None:
        raise WorkerError(_sentence(cause, "even when its documents were left alone", split))


class _Search:
    """The search for the records of a split that kill their worker."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self._lives = _PROBES
        self.found: list[tuple[int, int]] = []
        """Ranges of records, of one record each while the search may go on."""

    def among(self, start: int, end: int, *, sure: bool) -> Generator[Errand, SplitResult | None, bool]:
        """Search a range; whether one of its records kills. ``sure`` where one of them must."""
        if not self._lives:
            self.found.append((start, end))
            return True
        # A single record is always asked, so that none is set aside for what its neighbours did; and three times, so
        # that none is for what happened beside it.
        alone = end - start == 1
        for _ in range(_TRIES if alone else not sure):
            if (yield Errand(self._split, kind="probe", only=(start, end))) is not None:
                return False
            self._lives -= 1
            if not self._lives:
                break
        if alone:
            self.found.append((start, end))
            return True
        middle = (start + end) // 2
        left = yield from self.among(start, middle, sure=False)
        right = yield from self.among(middle, end, sure=not left)
        return left or right


def _joined(spans: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The same records in as few ranges as possible, in order."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(joined)


def _sentence(cause: str, what: str, split: Split) -> str:
    first = split.pieces[0]
    return (
        f"{cause}, {what} (number {split.index}, {first.file.path} from {first.start}). Finished splits are kept. "
        "If memory ran out, use fewer workers or a smaller split_size; otherwise mend the stage, and run again."
    )
