"""What a model is to the runner: tokens in, one row of float32 outputs per text out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from tamis.errors import ModelError
from tamis.models.device import INT8_IS_FOR
from tamis.models.tokens import Tokens

__all__ = ["Forward", "Function", "Network", "Pool", "forward_of", "pooled"]

Pool = Literal["first", "mean", "last"]
"""Which hidden states of a text its head sees: the first token's, the mean of all, or the last token's."""

Forward = Callable[[Tokens], torch.Tensor]
"""Runs one batch: the outputs in float32, shape [texts, outputs], on the model's device; the caller copies them."""

Function = Callable[[torch.Tensor, torch.Tensor], Any]
"""From ``input_ids`` and ``attention_mask``, int64 [texts, length], to logits [texts, outputs] (or an object that has
them as ``logits``)."""


@dataclass(frozen=True)
class Network:
    """A body that makes hidden states, what is pooled from them, and a head that makes outputs of that."""

    body: torch.nn.Module
    """``body(input_ids=, attention_mask=)`` gives an object with ``last_hidden_state`` [texts, length, hidden]."""
    pool: Pool
    head: Callable[[torch.Tensor], torch.Tensor]
    """From pooled states [texts, hidden] to outputs [texts, outputs], both float32."""


def pooled(hidden: torch.Tensor, mask: torch.Tensor, pool: Pool) -> torch.Tensor:
    """What is pooled of padded hidden states [texts, length, hidden], in float32: [texts, hidden].

    Padding is on the right, and is never pooled. A text without tokens has a mean of 0.
    """
    if pool == "first":
        return hidden[:, 0].float()
    if pool == "last":
        last = mask.sum(dim=1) - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), last].float()
    weights = mask.unsqueeze(-1).float()
    return (hidden.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)


def forward_of(
    model: Network | Function, *, pad_id: int, device: torch.device, dtype: torch.dtype, packed: bool
) -> tuple[Forward, bool]:
    """The function that runs batches of the model, and whether it needs no padding.

    ``packed`` asks for the padding-free form, which is made for the bodies that :func:`tamis.models.packed.pack`
    knows. The head is never in less than float32: with the body in bfloat16 and the head in float32, 99.9 % of labels
    are those of float32. On a processor it is in float64, for its few products are summed in an order that depends on
    how many texts are in the batch: rounded to float32 they are the same with any neighbours.

    Raises:
        ModelError: ``dtype`` is int8, and the padding-free form is not to be had, or not in int8.
    """
    if not isinstance(model, Network):
        return _padded(_function(model, device, dtype), pad_id, device), False
    wide = torch.float64 if device.type == "cpu" else torch.float32
    last = model.head.to(device, wide) if isinstance(model.head, torch.nn.Module) else model.head

    def head(states: torch.Tensor) -> torch.Tensor:
        return last(states.to(wide)).float()

    if packed:
        from tamis.models.packed import pack

        run = pack(model.body, model.pool, dtype, device)
        if run is not None:
            return (lambda tokens: head(run(tokens))), True
    if dtype is torch.int8:
        raise ModelError(INT8_IS_FOR)
    body = model.body.to(device, dtype).eval()

    def outputs(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return head(pooled(body(input_ids=ids, attention_mask=mask).last_hidden_state, mask, model.pool))

    return _padded(outputs, pad_id, device), False


def _function(function: Function, device: torch.device, dtype: torch.dtype) -> Function:
    if isinstance(function, torch.nn.Module):
        function = function.to(device, dtype).eval()
    return function


def _padded(function: Function, pad_id: int, device: torch.device) -> Forward:
    def run(tokens: Tokens) -> torch.Tensor:
        ids, mask = tokens.padded(pad_id)
        found = function(
            torch.from_numpy(ids).to(device, non_blocking=True), torch.from_numpy(mask).to(device, non_blocking=True)
        )
        outputs = found.logits if hasattr(found, "logits") else found
        return outputs.float()

    return run
