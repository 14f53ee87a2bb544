"""Instruction-Data-Guard: was a training example poisoned, judged from how Aegis reads it.

Published as nvidia/instruction-data-guard: a head of four layers on a hidden state of Aegis.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tamis.classifiers.aegis import BASE_MODEL, DEFENSIVE, load_guard
from tamis.classifiers.base import Columns, DistributedDataClassifier, ModelName, Task
from tamis.errors import ModelError, UsageError
from tamis.models.checkpoint import load_tensors

if TYPE_CHECKING:
    import torch

    from tamis.models.launch import LoadedModel
    from tamis.models.runner import Outputs

__all__ = ["InstructionDataGuardClassifier"]

_THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True)
class InstructionDataGuardClassifier(DistributedDataClassifier):
    """Adds how likely it is that a document was written to plant a trigger in a model (data poisoning).

    Answer: ``prob_column`` holds the score, and ``pred_column`` whether it is at least 0.5.
    Range: The score is float32 in [0, 1].
    Empty text: A null or blank text is not shown to the model; both answers are null.
    Formula: The hidden state of the last token after the last layer and its norm, in Aegis (Llama Guard with the
        Defensive adapter) reading the text itself without any prompt, scaled to length 1, through four linear layers
        with ReLU between, and a sigmoid.
    Relations: The published class generates a token to get at the same hidden state. Keep what is clean with
        ``dataset[~dataset["is_poisoned"]]``.
    """

    model: ModelName | Callable[..., object] | None = "nvidia/instruction-data-guard"
    """Hub id or directory of the head."""
    aegis_variant: ModelName | None = DEFENSIVE
    """Hub id or directory of the adapter, or of a whole model that takes the place of ``base_model``."""
    base_model: ModelName = BASE_MODEL
    """Hub id (gated: pass ``token``) or directory of the language model under the adapter."""
    pred_column: str = "is_poisoned"
    """Column for the answer, bool."""
    prob_column: str | None = "instruction_data_guard_poisoning_score"
    """Column for the score; None to leave it out."""
    max_chars: int | None = 6000
    """Characters of a document that the model sees; the column itself is never cut."""
    task: Task = "regression"
    """It gives one number."""
    columns: Columns = "legacy"
    """``v1`` shows the model the whole document: ``max_chars`` is None there."""

    version_1 = {"max_chars": None}  # noqa: RUF012  the annotation of the base says that it is a class variable

    def __post_init__(self) -> None:
        super().__post_init__()
        if (
            callable(self.model)
            or self.model_file_name is not None
            or self.labels is not None
            or self.task != "regression"
        ):
            message = f"{self.name} takes the directory or hub id of its head, and neither labels nor another task."
            raise UsageError(message)
        if self.filter_by is not None:
            message = (
                f"{self.name} gives true or false, and filter_by takes labels. Keep the clean documents with "
                f'dataset[~dataset["{self.pred_column}"]].'
            )
            raise UsageError(message)

    def answer_types(self) -> dict[str, pa.DataType]:
        """The columns it makes, and their types."""
        types = {self.pred_column: pa.bool_()}
        if self.prob_column is not None:
            types[self.prob_column] = pa.float32()
        return types

    def answers(self, outputs: Outputs, loaded: LoadedModel) -> dict[str, pa.Array]:
        """The columns, for scores [texts, 1]."""
        scores, missing = outputs.values[:, 0], ~outputs.answered
        made = {self.pred_column: pa.array(scores >= _THRESHOLD, pa.bool_(), mask=missing)}
        if self.prob_column is not None:
            made[self.prob_column] = pa.array(scores, pa.float32(), mask=missing)
        return made

    def load(self) -> LoadedModel:
        """The language model without its vocabulary layer, and the head, on the CPU."""
        from tamis.models.checkpoint import TOKENIZER, find
        from tamis.models.device import pick_device, pick_dtype
        from tamis.models.launch import LoadedModel
        from tamis.models.network import Network
        from tamis.models.tokenizer import load_tokenizer

        dtype = pick_dtype(self.dtype, pick_device(self.device, who=self.name), who=self.name)
        head = _head(load_tensors(self._found(), who=self.name), who=self.name)
        guard, path = load_guard(self.base_model, self.aegis_variant, who=self.name, token=self.token, dtype=dtype)
        config: Any = guard.config
        if head.width != config.hidden_size:
            message = (
                f"{self.name}: the head reads {head.width} numbers, and the states of the language model have "
                f"{config.hidden_size}. One of the two belongs to another model."
            )
            raise ModelError(message)
        if self.tokenizer is not None:
            path = find(self.tokenizer, who=self.name, token=self.token, holds=TOKENIZER)
        body = guard.get_submodule(str(guard.base_model_prefix))
        return LoadedModel(Network(body, "last", head.layers), load_tokenizer(path, who=self.name), (), config)


@dataclass(frozen=True)
class _Head:
    layers: torch.nn.Sequential
    width: int


def _head(tensors: Mapping[str, torch.Tensor], *, who: str) -> _Head:
    """The head by its published names: ``input_layer``, ``hidden_layer_0`` and so on, in the sizes of the weights."""
    import torch

    def key(name: str) -> int:
        return -1 if name == "input_layer" else int(name.removeprefix("hidden_layer_"))

    names = sorted(
        {n.rpartition(".")[0] for n in tensors if re.fullmatch(r"(input_layer|hidden_layer_\d+)\.(weight|bias)", n)},
        key=key,
    )
    if "input_layer" not in names or len(tensors) != 2 * len(names) or tensors[f"{names[-1]}.weight"].shape[0] != 1:
        message = (
            f"{who}: these are not the weights of the head (input_layer, hidden_layer_0 and so on, the last with one "
            f"output); there is: {', '.join(sorted(tensors)[:5]) or 'nothing'}."
        )
        raise ModelError(message)
    layers: list[torch.nn.Module] = [_UnitLength()]
    for name in names:
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias}, assign=True)
        layers += [linear, torch.nn.ReLU()]
    layers[-1] = torch.nn.Sigmoid()
    return _Head(torch.nn.Sequential(*layers).float().eval(), int(tensors["input_layer.weight"].shape[1]))


def _UnitLength() -> torch.nn.Module:  # noqa: N802  stands for a class, made here so that torch is imported late
    import torch

    class UnitLength(torch.nn.Module):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(states, dim=-1)

    return UnitLength()
