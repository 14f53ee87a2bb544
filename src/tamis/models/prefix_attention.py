"""Attention of many short texts that share one long beginning, without copying it to each and without padding.

All texts stand in one row of tokens. A token attends to the keys of the shared beginning (one product for all texts),
and to those of its own text; the two results are joined by their log-sum-exp, which is exact (Juravsky et al.,
arXiv:2402.05099). For a Llama of 7 B a beginning of 1,700 tokens is 0.9 GB of keys and values: held once, where the
usual cache holds it once per text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from tamis.errors import ModelError

__all__ = ["NAME", "Plan", "register"]

NAME = "tamis_shared_prefix"
"""What ``transformers`` knows it by (``attn_implementation``)."""

KeysValues = tuple[torch.Tensor, torch.Tensor]
"""Each of shape [1, key heads, tokens, head size]."""


@dataclass(frozen=True)
class Plan:
    """Which keys each token of the row attends to."""

    spans: tuple[tuple[int, int], ...] = ()
    """From where to where each text stands in the row; its tokens attend to itself and those before."""
    mask: torch.Tensor | None = None
    """Instead of spans: bool [queries, own keys], for one new token of each text."""
    prefix: tuple[KeysValues, ...] = field(default=(), repr=False)
    """Keys and values of the shared beginning, per layer; none for texts that stand alone."""


def register() -> None:
    """Make it known to ``transformers``; again does no harm."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention)


def _attention(  # noqa: PLR0913  the signature that transformers calls
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001  none is made for a kind of attention it does not know
    *,
    plan: Plan,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Query [1, heads, tokens, size]; key and value [1, key heads, own keys, size]; gives [1, tokens, heads, size]."""
    if sliding_window is not None or softcap is not None:
        message = (
            f"{type(module).__name__}: models with a sliding window or soft-capped attention cannot generate here."
        )
        raise ModelError(message)
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    if plan.mask is not None:
        own, own_lse = _masked(query, *_heads(query, key, value), plan.mask, scale)
    else:
        own = torch.empty(query.shape, dtype=torch.float32, device=query.device)
        own_lse = torch.empty(query.shape[:3], dtype=torch.float32, device=query.device)
        for begin, end in plan.spans:
            part = slice(begin, end)
            q, k, v = (each[:, :, part] for each in (query, key, value))
            own[:, :, part], own_lse[:, :, part] = _flash(q, *_heads(query, k, v), scale, causal=True)
    if plan.prefix:
        shared, shared_lse = _flash(query, *_heads(query, *plan.prefix[module.layer_idx]), scale, causal=False)
        share = torch.sigmoid(own_lse - shared_lse).unsqueeze(-1)
        own = torch.lerp(shared.float(), own, share)
    return own.to(query.dtype).transpose(1, 2).contiguous(), None


def _heads(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> KeysValues:
    """Keys and values once for each query head, where several query heads share one."""
    times = query.shape[1] // key.shape[1]
    if times == 1:
        return key, value
    return key.repeat_interleave(times, dim=1), value.repeat_interleave(times, dim=1)


def _flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, *, causal: bool) -> KeysValues:
    """Attention without a mask, and its log-sum-exp, float32 [1, heads, tokens]."""
    if q.device.type == "cpu":
        made = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, scale=scale)  # noqa: SLF001  no public function gives the log-sum-exp
        return made[0], made[1]
    if q.device.type == "cuda" and q.dtype != torch.float32 and q.shape[-1] % 8 == 0:
        made = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, False, scale=scale)  # noqa: FBT003, SLF001  as above
        return made[0], made[1]
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
    return _masked(q, k, v, mask.tril() if causal else mask, scale)


def _masked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, scale: float) -> KeysValues:
    scores = (q @ k.transpose(2, 3)).float() * scale
    scores = scores.masked_fill(~mask, float("-inf"))
    return torch.softmax(scores, dim=-1) @ v.float(), torch.logsumexp(scores, dim=-1)
