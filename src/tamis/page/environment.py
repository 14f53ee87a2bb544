"""Where a page is made: versions, without names of people or machines."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

__all__ = ["environment", "version_of_tamis"]

_ALWAYS = ("pyarrow", "numpy", "numba", "orjson")
_LOADED = ("torch", "transformers", "peft", "fasttext", "kenlm", "spacy", "ray")
"""Named only where the plan of the run made them be imported."""


def version_of_tamis() -> str:
    """The version that makes the page."""
    return _version("tamis") or "unknown"


def environment() -> tuple[tuple[str, str], ...]:
    """(name, version) of what the page was made with."""
    loaded = [name for name in _LOADED if name in sys.modules]
    found = [("tamis", version_of_tamis()), ("python", platform.python_version())]
    found += [(name, told) for name in (*_ALWAYS, *loaded) if (told := _version(name))]
    return (
        *found,
        ("system", f"{platform.system()} {platform.machine()}"),
        ("processors", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())),
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
