"""What every stage with a model has: where it runs, how its batches are made, which text it sees."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import pyarrow as pa

from tamis.models.checkpoint import content_hash, here, require_extra
from tamis.models.settings import RunSettings
from tamis.stage import Needs, Stage
from tamis.table import is_text

__all__ = ["WINDOW", "DeviceStage", "ModelStage", "makes_field", "tuning"]

WINDOW = 4096
"""Documents that are sorted by length together."""


def tuning(default: Any) -> Any:
    """A setting that changes how a stage runs and not what comes out, so that a run may go on with another value."""
    return field(default=default, metadata={"tuning": True})


@dataclass(frozen=True, kw_only=True)
class DeviceStage(Stage):
    """A stage that runs a model on a device."""

    max_length: int | None = None
    """Tokens of a text that the model sees; its own limit by default."""
    dtype: str = "auto"
    """``float32``, ``bfloat16``, ``float16``, or ``int8`` (encoders on a processor); by default bfloat16 where the
    hardware multiplies in it."""
    batch_size: int | None = tuning(None)
    """Most documents in a batch; no bound by default, for batches are made by tokens."""
    batch_tokens: int | Literal["auto"] = tuning("auto")
    """Tokens in a batch; by default what the device does fastest."""
    device: str = tuning("auto")
    """``cpu``, ``cuda``, ``mps``; by default the best there is."""
    token: str | None = field(default=None, repr=False, metadata={"secret": True})
    """Access token of the hub, for gated models."""

    extra: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    """Packages it needs."""
    weights: ClassVar[tuple[str, ...]] = ("model",)
    """Settings that name directories or files of weights."""

    def __post_init__(self) -> None:
        require_extra(self.name, *self.extra)
        self.settings()

    def settings(self) -> RunSettings:
        """How the model is run; raises where a number makes no sense."""
        return RunSettings(
            device=self.device,
            dtype=self.dtype,
            max_length=self.max_length,
            batch_tokens=self.batch_tokens,
            batch_size=self.batch_size,
        )

    def identity(self) -> Mapping[str, str]:
        """A hash of each directory or file of this machine that a setting names: other weights make another run."""
        found = {}
        for name in self.weights:
            value = getattr(self, name, None)
            if isinstance(value, str | os.PathLike):
                place = Path(value) if Path(value).is_file() else here(value)
                if place is not None:
                    found[name] = content_hash(place)
        return found


@dataclass(frozen=True, kw_only=True)
class ModelStage(DeviceStage):
    """A stage that shows texts to a model on a device."""

    text_field: str | None = None
    """Column that is read; the dataset's text field by default."""
    max_chars: int | None = None
    """Characters of a text that the model sees; the column itself is never cut."""

    def settings(self) -> RunSettings:
        """How the model is run; raises where a number makes no sense."""
        return replace(super().settings(), max_chars=self.max_chars)

    @property
    def column_read(self) -> str:
        """The column that is read."""
        return self.text_field or "text"

    def on_text_field(self, text_field: str) -> Self:
        """The dataset's text field, where none was named."""
        return replace(self, text_field=text_field) if self.text_field is None else self

    def needs_of(self, makes: tuple[pa.Field, ...]) -> Needs:
        """What a stage needs that makes these columns."""
        return Needs(texts=(self.column_read,), makes=makes, device="accelerator", window=WINDOW)


def makes_field(schema: pa.Schema, name: str, kind: pa.DataType) -> pa.Field:
    """The field that a stage makes; a text column that exists keeps its string type."""
    index = schema.get_field_index(name)
    if index >= 0 and is_text(kind) and is_text(schema.field(index).type):
        kind = schema.field(index).type
    return pa.field(name, kind)
