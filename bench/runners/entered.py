"""Filters of peers without what their packages import on the way: packages are entered by their folder alone."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any


def enter(*names: str) -> None:
    """Register packages by their folders, outer ones first, so that modules below them can be imported."""
    for name in names:
        if name in sys.modules:
            continue
        parent, _, last = name.rpartition(".")
        if parent:
            folder = Path(sys.modules[parent].__path__[0], last)
        else:
            found = importlib.util.find_spec(name)
            if found is None or not found.submodule_search_locations:
                message = f"{name} is not installed here."
                raise SystemExit(message)
            folder = Path(found.submodule_search_locations[0])
        module = types.ModuleType(name)
        module.__path__ = [str(folder)]
        sys.modules[name] = module


def curator_filters(*, code: bool = False) -> types.SimpleNamespace:
    """The heuristic filters of NeMo Curator by their class names, those of code if asked for."""
    base = "nemo_curator.stages.text"
    heuristic = f"{base}.filters.heuristic"
    enter("nemo_curator", "nemo_curator.stages", base, f"{base}.filters", f"{base}.utils")
    enter(heuristic, f"{heuristic}.repetition", f"{heuristic}.code")
    filters: dict[str, Any] = {}
    for module in ("string", "repetition.repetition", *(("code.code",) if code else ())):
        found = vars(importlib.import_module(f"{heuristic}.{module}"))
        filters |= {name: value for name, value in found.items() if name.endswith("Filter")}
    return types.SimpleNamespace(**filters)
