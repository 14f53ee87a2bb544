"""The event-driven simulation of a run on many workers; scale.py measures what it is fed with.

The driver is one server with a queue: it takes a result in, commits it and hands out the next split, one worker after
the other, as the loop of every engine does. Workers wait for it. What is drawn (how long a split takes beyond its size,
when a worker dies, when a late node joins) is a function of (seed, number), through tamis.hashing.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from tamis.hashing import uniform

__all__ = ["Costs", "Outcome", "Plan", "simulate"]


@dataclass(frozen=True)
class Costs:
    """Seconds, as measured."""

    begin: float
    """Before the first split, for each split: cutting the input and describing it."""
    hand: float
    """The driver's work to hand a split out."""
    commit: float
    """The driver's work for a result: unpickling, moves (or handing them to threads), journal, tally."""
    finish: float
    """After the last split, for each split: listings and manifest."""
    worker: float
    """A worker's work for each split beside reading it: opening files, closing them, sending the result."""
    start: float = 2.0
    """Until a worker that is started (again) takes its first split."""
    move: float = 0.0
    """Until an object store has made a split's moves; 0 for a disk, whose moves the driver makes itself."""
    parallel: int = 32
    """Moves under way at once."""


@dataclass(frozen=True)
class Plan:
    """What is run, and how bad things are."""

    splits: int
    bytes: float
    workers: int
    rate: float
    """Bytes per second of one worker."""
    spread: float = 0.4
    """Sigma of the logarithm of a split's time: 0.4 makes one of 100 take 2.5 times the median."""
    slow: float = 0.02
    """Share of the workers that take three times as long for everything."""
    late: float = 0.1
    """Share of the workers that join in the course of the first ten minutes, or the first tenth of a short run."""
    deaths: float = 0.02
    """Deaths of each worker per hour: 20 an hour among 1,000."""
    seed: int = 1


@dataclass(frozen=True)
class Outcome:
    """What came of it; times in seconds."""

    seconds: float
    ideal: float
    """All bytes at the full rate of all workers."""
    driver: float
    """Share of the time in which the driver works, in [0, 1]."""
    idle: float
    """Share of the workers' time in which they wait for the driver, in [0, 1]."""
    tail: float
    """From when there is no split left to hand out until the last is done."""
    died: int
    lost: float
    """Share of the workers' time that deaths cost, in [0, 1]."""
    done: int
    """Splits that were committed: each once."""


def simulate(plan: Plan, costs: Costs) -> Outcome:
    """Run it."""
    noise = _noise(plan.splits, plan)
    size = plan.bytes / plan.splits
    pace = np.where(uniform(range(plan.workers), plan.seed + 1) < plan.slow, 3.0, 1.0).tolist()
    joins = np.where(
        uniform(range(plan.workers), plan.seed + 2) < plan.late, uniform(range(plan.workers), plan.seed + 3), 0.0
    ) * min(600.0, 0.1 * plan.bytes / plan.rate / plan.workers)
    lives = _Lives(plan)
    todo = iter(range(plan.splits))
    again: list[int] = []
    # (when, worker, split or -1, whether the worker died at it); what comes at once comes in the order of the workers.
    events = [(costs.start + float(when), worker, -1, False) for worker, when in enumerate(joins)]
    heapq.heapify(events)
    free = busy = waited = lost = 0.0
    last_handed = end = 0.0
    done = died = 0
    moving: list[float] = []
    servers = [0.0] * costs.parallel
    waiting: list[int] = []
    while events:
        now, worker, split, dead = heapq.heappop(events)
        if dead:
            died += 1
            again.append(split)
            if waiting:  # somebody had nothing to do
                heapq.heappush(events, (now, waiting.pop(), -1, False))
            heapq.heappush(events, (now + costs.start, worker, -1, False))
            continue
        begin = max(now, free)
        following = again.pop() if again else next(todo, -1)
        work = costs.hand if following >= 0 else 0.0
        if split >= 0:
            done += 1
            work += costs.commit
            if costs.move:
                begin = max(begin, _room(moving, costs))
                made = max(begin, servers[0]) + costs.move
                heapq.heapreplace(servers, made)
                heapq.heappush(moving, made)
                end = max(end, made)
        free = begin + work
        busy += work
        waited += free - now
        if split >= 0:
            end = max(end, free)
        if following < 0:
            waiting.append(worker)
            continue
        last_handed = free
        seconds = costs.worker + size / plan.rate * pace[worker] * noise[following]
        life = lives.next()
        if life < seconds:
            lost += life + costs.start
            heapq.heappush(events, (free + life, worker, following, True))
        else:
            heapq.heappush(events, (free + seconds, worker, following, False))
    worked = end * plan.workers
    seconds = costs.begin * plan.splits + end + costs.finish * plan.splits
    return Outcome(
        seconds=seconds,
        ideal=plan.bytes / plan.rate / plan.workers,
        driver=(busy + (costs.begin + costs.finish) * plan.splits) / seconds,
        idle=waited / worked,
        tail=end - last_handed,
        died=died,
        lost=lost / worked,
        done=done,
    )


def _room(moving: list[float], costs: Costs) -> float:
    """When the driver may hand over another split's moves: it holds back where four wait for each that is made."""
    when = 0.0
    while len(moving) >= 5 * costs.parallel:
        when = heapq.heappop(moving)
    return when


def _noise(number: int, plan: Plan) -> list[float]:
    """By how much each split takes longer than its size says: log-normal, with the mean 1."""
    if not plan.spread:
        return [1.0] * number
    draws = np.clip(uniform(range(number), plan.seed), 1e-12, 1 - 1e-12).tolist()
    normal = NormalDist(-(plan.spread**2) / 2, plan.spread)
    return [math.exp(normal.inv_cdf(u)) for u in draws]


class _Lives:
    """How long workers live, one number for each split that one is given: an exponential has no memory."""

    def __init__(self, plan: Plan, block: int = 4096) -> None:
        self._plan, self._block = plan, block
        self._number = 0
        self._left: list[float] = []

    def next(self) -> float:
        """Seconds from now."""
        if not self._plan.deaths:
            return math.inf
        if not self._left:
            numbers = range(self._number, self._number + self._block)
            self._number += self._block
            draws = -np.log1p(-uniform(numbers, self._plan.seed + 4)) * 3600 / self._plan.deaths
            self._left = draws.tolist()
        return self._left.pop()


def calm(plan: Plan) -> Plan:
    """The same plan where every split takes what its size says and nothing happens."""
    return replace(plan, spread=0.0, slow=0.0, late=0.0, deaths=0.0)
