"""Causal language models from a directory or the hub, with a LoRA adapter added to their weights as they load.

The adapter is what PEFT writes: ``adapter_config.json`` and ``adapter_model.safetensors``. PEFT itself is not needed,
and a merged model runs as fast as one without an adapter.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tamis.errors import ModelError
from tamis.models.checkpoint import find, load_pretrained, load_tensors

if TYPE_CHECKING:
    import torch

__all__ = ["ADAPTER_CONFIG", "find_adapter", "load_causal", "merge_lora"]

ADAPTER_CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
_UNSUPPORTED = (
    "use_dora",
    "modules_to_save",
    "lora_bias",
    "layer_replication",
    "trainable_token_indices",
    "use_qalora",
)
"""Settings of a PEFT adapter that change more than a product added to a weight."""


def find_adapter(name: str | os.PathLike[str], *, who: str, token: str | None = None) -> Path:
    """The directory of an adapter, or else of a whole model.

    Raises:
        ModelError: As :func:`tamis.models.checkpoint.find`.
    """
    try:
        return find(name, who=who, token=token, holds=ADAPTER_CONFIG)
    except ModelError:
        return find(name, who=who, token=token)


def load_causal(
    path: Path, *, who: str, dtype: torch.dtype, adapter: Path | None = None, attention: str = "sdpa"
) -> torch.nn.Module:
    """The causal language model of a directory, its adapter merged, on the CPU in ``dtype``.

    Raises:
        ModelError: It is no such model, weights are missing, or the adapter does not fit it.
    """
    import transformers

    model: torch.nn.Module = load_pretrained(
        transformers.AutoModelForCausalLM,
        path,
        "a causal language model",
        who=who,
        dtype=dtype,
        attention=attention,
    )
    if adapter is not None:
        merge_lora(model, adapter, who=who)
    return model


def merge_lora(model: torch.nn.Module, adapter: Path, *, who: str) -> int:
    """Add ``scale * B @ A`` to each weight that the adapter names, in float32, in place; returns how many.

    ``scale`` is alpha / rank, or alpha / sqrt(rank) with ``use_rslora`` (Hu et al., arXiv:2106.09685; Kalajdzievski,
    arXiv:2312.03732), each layer's own alpha and rank where the patterns say so.

    Raises:
        ModelError: The adapter is of another kind, changes more than linear layers, or does not fit the model.
    """
    import torch

    config = _adapter_config(adapter, who)
    tensors = load_tensors(_weights(adapter), who=who)
    pairs = _pairs(tensors, adapter, who)
    modules = dict(model.named_modules())
    with torch.no_grad():
        for name, (a, b) in pairs.items():
            module = modules.get(name)
            weight = getattr(module, "weight", None)
            delta = _delta(name, a, b, config)
            if not isinstance(weight, torch.nn.Parameter) or weight.shape != delta.shape:
                what = "has no such layer" if weight is None else f"has {tuple(weight.shape)} there"
                message = (
                    f"{who}: the adapter {adapter} changes {name} of shape {tuple(delta.shape)}, and the model {what}. "
                    f"It was made for {config.get('base_model_name_or_path') or 'another model'}."
                )
                raise ModelError(message)
            weight.copy_(weight.float() + delta)
    return len(pairs)


def _adapter_config(adapter: Path, who: str) -> dict[str, Any]:
    try:
        config: dict[str, Any] = orjson.loads((adapter / ADAPTER_CONFIG).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"{who}: {adapter / ADAPTER_CONFIG} cannot be read: {error}"
        raise ModelError(message) from error
    refused = [name for name in _UNSUPPORTED if config.get(name)]
    if config.get("bias", "none") != "none":
        refused.append("bias")
    if config.get("peft_type") != "LORA":
        refused.append(f"peft_type {config.get('peft_type')}")
    if refused:
        message = (
            f"{who}: the adapter {adapter} uses {', '.join(refused)}, which cannot be merged here. Merge it once with "
            "PEFT (merge_and_unload, save_pretrained), and pass the directory of the merged model instead."
        )
        raise ModelError(message)
    return config


def _weights(adapter: Path) -> Path:
    # By name: a directory may hold other weights beside those of the adapter.
    file = next(
        (adapter / f for f in ("adapter_model.safetensors", "adapter_model.bin") if (adapter / f).is_file()), None
    )
    return file or adapter


def _pairs(
    tensors: Mapping[str, torch.Tensor], adapter: Path, who: str
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The two factors for each layer, float32: A [rank, in], B [out, rank]."""
    halves: dict[str, dict[str, torch.Tensor]] = {}
    strange = []
    for key, tensor in tensors.items():
        found = re.fullmatch(r"(.+)\.lora_([AB])\.weight", key.removeprefix(_PREFIX))
        if found is None or tensor.ndim != 2:
            strange.append(key)
        else:
            halves.setdefault(found[1], {})[found[2]] = tensor.float()
    strange += [name for name, both in halves.items() if len(both) != 2]
    if strange or not halves:
        message = (
            f"{who}: the adapter {adapter} should hold pairs of lora_A.weight and lora_B.weight of linear layers; "
            f"there is {', '.join(sorted(strange)[:3]) or 'nothing'}. Merge it with PEFT, and pass the merged model."
        )
        raise ModelError(message)
    return {name: (both["A"], both["B"]) for name, both in halves.items()}


def _delta(name: str, a: torch.Tensor, b: torch.Tensor, config: Mapping[str, Any]) -> torch.Tensor:
    patterns = config.get("alpha_pattern") or {}
    alpha = next((v for key, v in patterns.items() if re.match(rf"(.*\.)?({key})$", name)), config.get("lora_alpha", 8))
    rank = a.shape[0]  # what rank_pattern says
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    delta: torch.Tensor = scale * (b @ a)
    return delta.T if config.get("fan_in_fan_out") else delta
