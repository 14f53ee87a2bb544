"""What a batch costs here: a few seconds of measuring the actual device, number format and model, kept on disk.

::

    key = Key.here(device, dtype, model="…hash of config, parameters, kind of forward…", max_length=512)
    found = profile(measure_on_cuda(forward, device), key=key, memory=free, out_of_memory=(torch.OutOfMemoryError,))
    budget = found.budget(memory=free, rows=batch_size, packed=True)

A file of the cache says for what it was measured, and is used for exactly that. One that is damaged, or of another
version, is measured anew; a folder that cannot be written costs the measurement in every run, and is no error.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import orjson

from tamis.models.batching import Budget, Cost

if TYPE_CHECKING:
    import torch

__all__ = ["Key", "Probe", "Profile", "cache_folder", "measure_by_clock", "measure_on_cuda", "peak_flops", "profile"]

Measure = Callable[[int, int], tuple[float | None, float]]
"""Runs ``rows`` texts of ``length`` tokens: bytes taken at the peak (``None``: not known) and seconds."""
Clock = Callable[[], float]

_TOKENS = tuple(1 << power for power in range(9, 17))  # 512 to 65,536
# From the tokens/s of the fastest size we take the smallest that reaches this: less memory, less padding, less waiting.
_ENOUGH = 0.95
# What is free is never all usable: blocks of other sizes, a neighbour's next allocation.
_SAFE = 0.9
# From fewer sizes than this nothing is concluded. A processor that others use too may take 3 s for 64 tokens.
_SIZES = 3
_UNSURE = 2048  # tokens: enough on processors, where products of 256 rows reach 95 % of the rate of 2,048 already
_TYPICAL = 256  # tokens; the median of web documents is about 250


@dataclass(frozen=True)
class Key:
    """All that a measurement depends on."""

    device: str
    """Name of the hardware."""
    memory: int
    """All of its memory, in bytes."""
    dtype: str
    model: str
    """Whatever tells this model and its kind of forward pass from others."""
    max_length: int
    threads: int
    torch_version: str
    tamis_version: str

    @classmethod
    def here(cls, device: torch.device, dtype: torch.dtype, *, model: str, max_length: int) -> Self:
        """The key for this process on this machine."""
        import torch

        name, memory = _hardware(device)
        return cls(
            device=name,
            memory=memory,
            dtype=str(dtype),
            model=model,
            max_length=max_length,
            threads=torch.get_num_threads(),
            torch_version=torch.__version__,
            tamis_version=version("tamis"),
        )

    def digest(self) -> str:
        """A hash of every field: 32 hex digits."""
        return hashlib.sha256(orjson.dumps(asdict(self))).hexdigest()[:32]


class Probe(NamedTuple):
    """One measurement."""

    rows: int
    length: int
    memory: float | None
    """Bytes."""
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.rows * self.length / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Profile:
    """What batches cost, and how large one had better be."""

    seconds: Cost
    memory: Cost | None
    """Bytes; ``None`` on a device that cannot tell, or from fewer probes than terms."""
    sure: bool
    """Whether at least three sizes could be measured in the time; if not, nothing is kept on disk."""
    tokens: int
    """The smallest power of two that reaches 95 % of the best tokens per second measured; 2,048 if not :attr:`sure`."""
    probes: tuple[Probe, ...]
    """What this was made from."""

    def budget(self, *, memory: float | None = None, rows: int | None = None, packed: bool = False) -> Budget:
        """A budget for now.

        Args:
            memory: Bytes that batches may use: free ones and those that torch holds unused. 90 % of them are planned
                with. Without it, or without a memory law, tokens are the only limit.
            rows: The user's ``batch_size``, an upper bound.
            packed: Whether rows run without padding.
        """
        if memory is None or self.memory is None:
            return Budget(self.tokens, rows, packed=packed)
        return Budget(self.tokens, rows, max(_SAFE * memory, 0.0), self.memory, packed=packed)

    def to_json(self) -> dict[str, Any]:
        """The measurements; all else follows from them."""
        return {"probes": [list(probe) for probe in self.probes]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_json`; anything else raises ValueError, TypeError or KeyError."""
        probes = [_checked(*probe) for probe in value["probes"]]
        if not probes:
            message = "There are no measurements."
            raise ValueError(message)
        return cls.of(probes)

    @classmethod
    def of(cls, probes: Sequence[Probe]) -> Self:
        """The laws fitted to some measurements, at least one."""
        seconds = Cost.fit(*zip(*((p.rows, p.length, p.seconds) for p in probes), strict=True))
        # Sizes are compared at one length: longer texts are slower per token at every size.
        length = _typical([p.length for p in probes])
        rates = {_size(p): p.rate for p in probes if p.length == length and _size(p) >= _TOKENS[0]}
        sure = len(rates) >= _SIZES
        tokens = min(size for size, rate in rates.items() if rate >= _ENOUGH * max(rates.values())) if sure else _UNSURE
        sized = [(p.rows, p.length, p.memory) for p in probes if p.memory is not None]
        memory = Cost.fit(*zip(*sized, strict=True)) if len(sized) >= 3 else None
        return cls(seconds, memory, sure, tokens, tuple(probes))


def profile(
    measure: Measure,
    *,
    key: Key,
    memory: float | None = None,
    out_of_memory: tuple[type[BaseException], ...],
    limit: float = 4.5,
    slowest: float = 1.0,
    refresh: bool = False,
    clock: Clock = time.perf_counter,
) -> Profile:
    """The profile for ``key``: from the cache, or measured now in about ``limit`` seconds at most.

    Sizes double from 512 to 65,536 tokens, at lengths of 64, 256, 1,024 … up to ``key.max_length``. A batch is measured
    only if, judging by the smaller ones, it stays below ``slowest`` seconds and 90 % of ``memory``.

    Args:
        measure: Runs one batch; the first call of all, on one short text, is not counted, as it warms things up.
        key: What it is measured for.
        memory: Bytes that may be used, where that is known.
        out_of_memory: The exceptions that mean it: nothing as large is tried again.
        limit: Seconds in all: no batch is begun that would end later.
        slowest: Seconds that one batch may take.
        refresh: Measure even if the cache has an answer.
        clock: Seconds, from any origin.

    Raises:
        BaseException: One of ``out_of_memory``: not even the shortest text fits. Other exceptions pass through.
    """
    if not refresh:
        with contextlib.suppress(*_UNUSABLE):
            return Profile.from_json(_load("profile", key))
    began = clock()
    lengths = _lengths(key.max_length)
    measure(1, min(lengths))
    probes = [Probe(1, min(lengths), *measure(1, min(lengths)))]
    failed: list[tuple[int, int]] = []
    usable = None if memory is None else _SAFE * memory
    for rows, length in _batches(lengths):
        seconds, worst, size = _estimate(probes, rows, length)
        if seconds > slowest or clock() - began + worst > limit or (usable is not None and size > usable):
            continue
        if any(rows >= r and length >= n for r, n in failed):
            continue
        try:
            probes.append(Probe(rows, length, *measure(rows, length)))
        except out_of_memory:
            failed.append((rows, length))
    found = Profile.of(probes)
    if found.sure:
        _store("profile", key, found.to_json())
    return found


def _lengths(longest: int) -> list[int]:
    """64, 256, 1,024 … up to the longest: two at least, where there are two, to tell the terms apart."""
    return sorted({n for n in (64, 256, 1024, 4096, 16_384) if n < longest} | {max(longest, 1)})


def _typical(lengths: Sequence[int]) -> int:
    return max((n for n in lengths if n <= _TYPICAL), default=min(lengths))


def _batches(lengths: list[int]) -> list[tuple[int, int]]:
    """``(rows, length)`` by growing size; the typical length first, as time may end before the size does."""
    first = _typical(lengths)
    ordered = [first, *(n for n in lengths if n != first)]
    # One row before several, or a large fixed cost would be taken for a cost of each row.
    return [(1, first)] + [(tokens // n, n) for tokens in _TOKENS for n in ordered if n <= tokens]


def _estimate(probes: list[Probe], rows: int, length: int) -> tuple[float, float, float]:
    """Seconds, seconds at the most, and bytes, from the largest batch of the nearest length that is not longer.

    In proportion to tokens. At one length that is a bound, as what is fixed does not grow. From a shorter length it is
    too low by what is quadratic: 5 % of the work of BERT-base at 512 tokens, and everything at the most.
    """
    near = max((p for p in probes if p.length <= length), key=lambda p: (p.length, p.rows))
    times = rows * length / (near.rows * near.length)
    seconds = times * near.seconds
    return seconds, seconds * length / near.length, times * (near.memory or 0.0)


def _size(probe: Probe) -> int:
    """The power of two that a probe stands for: rows are whole, so 256 stands for 250 tokens as for 256."""
    return 1 << max(probe.rows * probe.length - 1, 1).bit_length()


def _checked(rows: Any, length: Any, memory: Any, seconds: Any) -> Probe:
    counts = isinstance(rows, int) and isinstance(length, int) and min(rows, length) > 0
    if not counts or not isinstance(seconds, float) or not isinstance(memory, float | None):
        message = "Not a measurement."
        raise ValueError(message)
    return Probe(rows, length, memory, seconds)


def measure_on_cuda(forward: Callable[[int, int], object], device: torch.device) -> Measure:
    """Measures on a CUDA device: the peak of allocated bytes above what was allocated before, and seconds.

    ``forward(rows, length)`` runs one batch. Short ones run up to three times, and the fastest counts.
    """
    import torch

    def measure(rows: int, length: int) -> tuple[float, float]:
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        seconds = _fastest(lambda: forward(rows, length), lambda: torch.cuda.synchronize(device))
        return float(torch.cuda.max_memory_allocated(device) - before), seconds

    return measure


def measure_by_clock(forward: Callable[[int, int], object]) -> Measure:
    """Measures seconds alone, for a device whose memory cannot be told; ``forward`` returns when the work is done."""
    return lambda rows, length: (None, _fastest(lambda: forward(rows, length), lambda: None))


def _fastest(run: Callable[[], object], finish: Callable[[], None], clock: Clock = time.perf_counter) -> float:
    taken: list[float] = []
    while not taken or (sum(taken) < 0.1 and len(taken) < 3):
        began = clock()
        run()
        finish()
        taken.append(clock() - began)
    return min(taken)


def peak_flops(device: torch.device, dtype: torch.dtype, *, refresh: bool = False) -> float:
    """The matrix products of this machine: floating-point operations per second that it was measured to reach.

    The fastest of many products x Wᵀ as a linear layer makes them, in a few shapes; about a second, then cached. The
    fastest and not the median, as a neighbour only ever slows a product down (430 and 254 GFLOP/s were measured within
    a minute), and a peak that is too low flatters whatever is compared with it. Uses the threads that torch is set to.
    """
    key = Key.here(device, dtype, model="matrix product", max_length=0)
    if not refresh:
        with contextlib.suppress(*_UNUSABLE):
            known = _load("peak", key)["flops"]
            if type(known) is float and known > 0:
                return known
    shapes = _SHAPES["cpu" if device.type == "cpu" else "other"]
    found = max(_product_rate(device, dtype, shape, seconds=0.7 / len(shapes)) for shape in shapes)
    _store("peak", key, {"flops": found})
    return found


_SHAPES = {
    # Rows, inputs, outputs: the two products of BERT-base's feed-forward part, at the batch that fills a processor.
    "cpu": ((2048, 768, 3072), (2048, 3072, 768)),
    # On a large GPU the products above take 12 µs, hardly longer than starting one.
    "other": ((16_384, 4096, 4096), (8192, 8192, 8192)),
}


def _product_rate(
    device: torch.device,
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    *,
    seconds: float,
    clock: Clock = time.perf_counter,
) -> float:
    import torch

    rows, inputs, outputs = shape
    # Not constant: a GPU draws less power on those, and runs faster than on any real matrix.
    x = torch.arange(rows * inputs, device=device).mul(12.9898).sin().view(rows, inputs).to(dtype)
    weight = torch.arange(outputs * inputs, device=device).mul(78.233).sin().view(outputs, inputs).to(dtype)
    waits: dict[str, Callable[[], None]] = {
        "cuda": lambda: torch.cuda.synchronize(device),
        "mps": torch.mps.synchronize,
    }
    wait = waits.get(device.type, lambda: None)
    taken: list[float] = []
    end = clock() + seconds
    with torch.inference_mode():
        torch.nn.functional.linear(x, weight)  # the first product prepares the kernel
        wait()
        while len(taken) < 3 or (clock() < end and len(taken) < 50):
            began = clock()
            torch.nn.functional.linear(x, weight)
            wait()
            taken.append(clock() - began)
            if clock() > end + seconds:  # a machine on which three products take too long
                break
    return 2.0 * rows * inputs * outputs / max(min(taken), 1e-9)


def _hardware(device: torch.device) -> tuple[str, int]:
    """Name and total memory of a CUDA device; of the processor for any other."""
    import torch

    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return properties.name, int(properties.total_memory)
    # A processor in the cloud may be called "AMD EPYC" and no more: what it can do tells them apart.
    able = dict(torch.cpu.get_capabilities())
    made_of = hashlib.sha256(orjson.dumps(able, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
    name = f"{device.type} {able.get('cpu_name', 'of unknown name')} {made_of}"
    return name, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cache_folder() -> Path | None:
    """``$TAMIS_CACHE``, else ``tamis`` in ``$XDG_CACHE_HOME``, else ``~/.cache/tamis``; ``None`` without a home."""
    if chosen := os.environ.get("TAMIS_CACHE"):
        return Path(chosen)
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if Path(shared).is_absolute():  # a relative one is invalid, says the XDG specification
        return Path(shared) / "tamis"
    try:
        return Path.home() / ".cache" / "tamis"
    except RuntimeError:
        return None


# What reading a file of the cache may raise, from the first byte to the last field: then it is no use, and made anew.
_UNUSABLE = (OSError, ValueError, TypeError, KeyError)


def _load(kind: str, key: Key) -> Any:
    """What is stored for exactly this key; anything else raises one of :data:`_UNUSABLE`."""
    folder = cache_folder()
    if folder is None:
        raise FileNotFoundError
    held = orjson.loads((folder / f"{kind}-{key.digest()}.json").read_bytes())
    if held["key"] != asdict(key):
        raise KeyError
    return held["value"]


def _store(kind: str, key: Key, value: dict[str, Any]) -> None:
    """Keep the value for the key, written aside and moved into place, if the folder can be written."""
    folder = cache_folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=f".{kind}-", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(orjson.dumps({"key": asdict(key), "value": value}, option=orjson.OPT_INDENT_2))
            Path(aside).replace(folder / f"{kind}-{key.digest()}.json")
        except OSError:
            Path(aside).unlink(missing_ok=True)
            raise
