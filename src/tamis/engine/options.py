"""How to run a plan, apart from what it says: workers, engine, what to do about bad records."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tamis.engine.embedded import EmbeddedEngine
from tamis.engine.job import Engine
from tamis.engine.output import Mode
from tamis.engine.watch import Observer
from tamis.errors import UnknownNameError, UsageError

__all__ = ["EngineName", "Options"]

EngineName = Literal["embedded", "ray"]
_ENGINES = ("embedded", "ray")


@dataclass(frozen=True)
class Options:
    """How to run; none of it changes the result."""

    workers: int | None = None
    """Worker processes. By default one per core that this process may use; where a stage is a model, one per
    accelerator, and one that uses every core where there is none."""
    max_bad: float = 0.05
    """Share of quarantined records above which the run fails at its end, in [0, 1]."""
    strict: bool = False
    """Fail at the first bad record."""
    mode: Mode = "auto"
    split_size: int = 64 << 20
    """Bytes of input per unit of work. Larger files are cut, smaller ones packed together."""
    observer: Observer | None = None
    engine: EngineName = "embedded"
    """``ray`` runs the workers on a Ray cluster."""
    address: str | None = None
    """The cluster, for the engine ``ray``; by default the one that this machine belongs to, or else a new one here."""

    def __post_init__(self) -> None:
        if self.split_size < 1 or not 0 <= self.max_bad <= 1 or (self.workers is not None and self.workers < 1):
            message = (
                f"workers and split_size must be at least 1 and max_bad within [0, 1]; got workers={self.workers}, "
                f"split_size={self.split_size}, max_bad={self.max_bad}."
            )
            raise UsageError(message)
        if self.mode not in {"auto", "resume", "fresh"}:
            raise UnknownNameError.of(self.mode, ["auto", "resume", "fresh"], kind="mode")
        if self.engine not in _ENGINES:
            raise UnknownNameError.of(self.engine, _ENGINES, kind="engine")
        if self.address is not None and self.engine != "ray":
            message = 'an address is that of a Ray cluster: say engine="ray" (--engine ray) too.'
            raise UsageError(message)

    @contextlib.contextmanager
    def started(self, *, apart: bool = False) -> Iterator[Engine]:
        """The engine, ready to run; ``apart`` keeps documents out of this process."""
        engine: Engine = EmbeddedEngine(apart=apart)
        if self.engine == "ray":
            from tamis.engine.on_ray import RayEngine  # noqa: PLC0415  an extra, and seconds to import

            engine = RayEngine(self.address)
        try:
            yield engine
        finally:
            engine.close()
