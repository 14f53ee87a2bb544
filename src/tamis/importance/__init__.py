"""Importance resampling of whole datasets: fit, weigh, choose. Every step is a fold or a run that can be resumed.

:class:`HashedNgramDSIR` is the published interface to it. What is made between the steps lies in a cache folder as
Parquet with the documents' ids: embeddings, weights, and the ids that were chosen. Names are resolved when they are
first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tamis.importance.dsir import HashedNgramDSIR
    from tamis.importance.judge import Quality

_HOMES = {"HashedNgramDSIR": "tamis.importance.dsir", "Quality": "tamis.importance.judge"}

__all__ = ["HashedNgramDSIR", "Quality"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module 'tamis.importance' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(_HOMES[name]), name)
