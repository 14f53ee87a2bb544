"""Which accelerators this process may use, told without loading a model library.

A plan with a model runs one worker per accelerator, each with a device of its own; without an accelerator one
worker in this process, because a model spreads over every core by itself.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

__all__ = ["device_of", "visible_accelerators"]

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_DRIVER = Path("/proc/driver/nvidia/gpus")
_NODES = Path("/dev")


def visible_accelerators() -> int:
    """The number of accelerators that a model library would find in this process.

    ``CUDA_VISIBLE_DEVICES`` decides where it is set: none where it is empty, and entries count up to the first
    that is none (``-1``), as CUDA reads it. Otherwise the NVIDIA devices of this machine, or one on an Apple chip.
    """
    return len(_devices())


def device_of(worker: int) -> str | None:
    """The ``CUDA_VISIBLE_DEVICES`` that gives a worker a device of its own; None where there are not several."""
    devices = _devices()
    return devices[worker % len(devices)] if len(devices) > 1 else None


def _devices() -> list[str]:
    said = os.environ.get(_VISIBLE)
    if said is not None:
        return _listed(said)
    if sys.platform == "darwin":
        return ["mps"] if platform.machine() == "arm64" else []
    return [str(number) for number in range(_nvidia())]


def _listed(said: str) -> list[str]:
    entries: list[str] = []
    for entry in (part.strip() for part in said.split(",")):
        if not entry or entry.startswith("-") or entry.lower() in {"none", "void", "nodevfiles"}:
            break
        entries.append(entry)
    return entries


def _nvidia() -> int:
    """NVIDIA devices here. A container may see the driver's list of all and the nodes of its own; the fewer count."""
    listed = len(_names(_DRIVER))
    nodes = sum(name.startswith("nvidia") and name[6:].isdigit() for name in _names(_NODES))
    return min(listed, nodes) if listed and nodes else max(listed, nodes)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208  names are all that is needed
    except OSError:
        return []
