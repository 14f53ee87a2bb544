"""Tamis: from raw text to training data for language models, and from training data to a tuned model.

The public names are resolved when they are first used: importing ``tamis`` loads no pyarrow, numba, torch or ray.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tamis.errors import TamisError

if TYPE_CHECKING:
    from tamis.dataset import DocumentDataset
    from tamis.filters.base import DocumentFilter, Filter, Score, ScoreFilter
    from tamis.importance.dsir import HashedNgramDSIR
    from tamis.io.files import get_all_files_paths_under
    from tamis.modifiers import DocumentModifier, Modify
    from tamis.recipe import load_recipe
    from tamis.scoring import evaluate
    from tamis.selection.split import Split, StratifiedSplit
    from tamis.stage import Fold, FoldThenStage, Needs, Sequential, Stage
    from tamis.tuner import tune

_HOMES = {
    "DocumentDataset": "tamis.dataset",
    "DocumentFilter": "tamis.filters.base",
    "DocumentModifier": "tamis.modifiers",
    "Filter": "tamis.filters.base",
    "Fold": "tamis.stage",
    "FoldThenStage": "tamis.stage",
    "HashedNgramDSIR": "tamis.importance.dsir",
    "Modify": "tamis.modifiers",
    "Needs": "tamis.stage",
    "Score": "tamis.filters.base",
    "ScoreFilter": "tamis.filters.base",
    "Sequential": "tamis.stage",
    "Split": "tamis.selection.split",
    "Stage": "tamis.stage",
    "StratifiedSplit": "tamis.selection.split",
    "evaluate": "tamis.scoring",
    "explain": "tamis.explanation",
    "get_all_files_paths_under": "tamis.io.files",
    "load_recipe": "tamis.recipe",
    "tune": "tamis.tuner",
}

__all__ = [
    "DocumentDataset",
    "DocumentFilter",
    "DocumentModifier",
    "Filter",
    "Fold",
    "FoldThenStage",
    "HashedNgramDSIR",
    "Modify",
    "Needs",
    "Score",
    "ScoreFilter",
    "Sequential",
    "Split",
    "Stage",
    "StratifiedSplit",
    "TamisError",
    "evaluate",
    "explain",
    "get_all_files_paths_under",
    "load_recipe",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module 'tamis' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
