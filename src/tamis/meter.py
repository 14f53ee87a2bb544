"""What a stage counts beside its answers: tokens, seconds, work done. Sums only, so that any order adds up.

A stage's function calls :func:`count` in the thread it was called in; whoever runs the stage collects::

    with collecting() as found:
        table = function(table)
    found["tokens"]

An **integer** is a promise: it is a function of the documents alone (texts, tokens), the same with any workers,
batches, window, device or interruption. It is written to the output directory. What depends on how the run went
(seconds, padding, operations done) is counted as a **float** and is never written.

Names that progress and summaries know:

- ``tokens`` (int): real tokens shown to a model, without padding;
- ``padded_tokens`` (float): tokens that the device computed, padding included;
- ``seconds`` (float): time spent in the stage;
- ``flops`` (float): useful floating point operations, for real tokens only;
- ``peak_flops`` (float): operations that the device could have done in those seconds: its measured peak times seconds.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, SupportsFloat, TypeVar

__all__ = ["Measures", "collecting", "count"]

Key = TypeVar("Key")


class Measures(dict[Key, float], Generic[Key]):
    """Sums by name. What was never counted is 0, and reading it adds nothing; integers stay integers.

    >>> found = Measures({"tokens": 3})
    >>> found.add({"tokens": 4, "seconds": 0.5})
    >>> found, found["texts"]
    ({'tokens': 7, 'seconds': 0.5}, 0)
    """

    def __missing__(self, key: Key) -> float:
        return 0

    def add(self, other: Mapping[Key, float]) -> None:
        """Add each sum of ``other`` to the one of the same name."""
        for key, amount in other.items():
            self[key] += amount


@dataclass(frozen=True)
class _Collector:
    found: Measures[str]
    heard: Callable[[Measures[str]], None] | None


_collector: ContextVar[_Collector | None] = ContextVar("tamis_meter", default=None)


def count(name: str, amount: SupportsFloat) -> None:
    """Add ``amount`` to the sum of that name; does nothing where nobody collects.

    Integers of any library are kept as integers, everything else as a float.
    """
    collector = _collector.get()
    if collector is None:
        return
    try:
        plain: float = operator.index(amount)  # type: ignore[arg-type]  # asking is the test
    except TypeError:
        plain = float(amount)
    collector.found[name] += plain
    if collector.heard is not None:
        collector.heard(collector.found)


@contextmanager
def collecting(heard: Callable[[Measures[str]], None] | None = None) -> Iterator[Measures[str]]:
    """Collect what is counted inside the block, in this thread; an inner block keeps what is counted inside it.

    ``heard`` is called after each count with the sums so far.
    """
    collector = _Collector(Measures(), heard)
    before = _collector.set(collector)
    try:
        yield collector.found
    finally:
        _collector.reset(before)
