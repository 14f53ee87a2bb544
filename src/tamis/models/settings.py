"""How a model is run, as plain values; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tamis.errors import UsageError

__all__ = ["RunSettings"]


@dataclass(frozen=True)
class RunSettings:
    """How a model is run; only ``dtype`` and the two limits on a text change what comes out."""

    device: str = "auto"
    dtype: str = "auto"
    """``auto``, ``float32``, ``bfloat16``, ``float16`` or ``int8``, which auto never picks: products of bytes, for BERT
    and DeBERTa on a processor with VNNI, faster than bfloat16 and less exact."""
    max_length: int | None = None
    """Tokens that a text is cut to; the model's own limit by default."""
    max_chars: int | None = None
    """Characters of a text that the model sees; all by default."""
    batch_tokens: int | Literal["auto"] = "auto"
    """Tokens in a batch."""
    batch_size: int | None = None
    """Most texts in a batch; no bound by default."""
    packed: bool = True
    """Run without padding where the model is of a kind that can."""

    def __post_init__(self) -> None:
        for name in ("max_length", "max_chars", "batch_tokens", "batch_size"):
            value = getattr(self, name)
            if not (
                value is None or (name == "batch_tokens" and value == "auto") or (type(value) is int and value > 0)
            ):
                message = f"{name} must be a positive whole number; got {value!r}."
                raise UsageError(message)
