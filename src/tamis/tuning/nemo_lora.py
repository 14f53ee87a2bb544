"""LoRA adapters out of a ``.nemo``: those of the 2024 fine-tunings, as PEFT reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.errors import ModelError
from tamis.tuning.nemo_hf import write_json
from tamis.tuning.nemo_tensors import Sizes, split_qkv
from tamis.tuning.nemo_weights import Weights

if TYPE_CHECKING:
    import torch

__all__ = ["is_adapter", "write_adapter"]

_NAME = re.compile(
    r"decoder\.layers\.(?P<layer>\d+)\.(?P<room>self_attention|mlp)\.adapter_layer\."
    r"(?P<kind>lora_\w+_adapter)\.linear_(?P<end>in|out)\.weight"
)
_KINDS = {
    "lora_kqv_adapter": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "lora_dense_attention_adapter": ("self_attn.o_proj",),
    "lora_hto4h_adapter": ("mlp.gate_proj", "mlp.up_proj"),
    "lora_4htoh_adapter": ("mlp.down_proj",),
}
"""NeMo's adapters, and the layers of Hugging Face's that each of them is for."""


def is_adapter(names: Sequence[str]) -> bool:
    """Whether these are the tensors of adapters and of nothing else."""
    return bool(names) and all(".adapter_layer." in name for name in names)


def write_adapter(weights: Weights, config: Mapping[str, Any], sizes: Sizes, out: Path, where: str) -> int:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``; returns the number of tensors read.

    One A is shared by Q, K and V (and by gate and up); the rows of B are divided among them. Nothing is lost, and PEFT
    computes the same.
    """
    from safetensors.torch import save_file

    pairs: dict[tuple[int, str], dict[str, torch.Tensor]] = {}
    for name, shape in weights.shapes.items():
        parts = _NAME.fullmatch(name)
        if parts is None or parts["kind"] not in _KINDS:
            message = f"{where} holds {name}, which is no LoRA adapter that is known. Known are: {', '.join(_KINDS)}."
            raise ModelError(message)
        if int(parts["layer"]) >= sizes.layers:
            message = f"{where} holds {name}, but its configuration says {sizes.layers} layers."
            raise ModelError(message)
        _check_shape(name, shape, _widths(parts["kind"], sizes), where)
        pairs.setdefault((int(parts["layer"]), parts["kind"]), {})[parts["end"]] = weights.get(name)
    tensors: dict[str, torch.Tensor] = {}
    ranks = set()
    for (layer, kind), pair in sorted(pairs.items()):
        place = f"{where}: {kind} of layer {layer}"
        if set(pair) != {"in", "out"}:
            message = f"{place} has only linear_{next(iter(pair))}: the archive is not complete."
            raise ModelError(message)
        ranks |= {pair["in"].shape[0], pair["out"].shape[1]}
        for target, b in zip(_KINDS[kind], _divided(kind, pair["out"], sizes), strict=True):
            key = f"base_model.model.model.layers.{layer}.{target}"
            tensors[f"{key}.lora_A.weight"] = pair["in"].clone()
            tensors[f"{key}.lora_B.weight"] = b.contiguous()
    if len(ranks) != 1:
        message = f"{where}: the adapters have different ranks ({sorted(ranks)}), and one is expected."
        raise ModelError(message)
    rank = ranks.pop()
    write_json(out / "adapter_config.json", _config(config, rank, {kind for _, kind in pairs}))
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
    return 2 * len(pairs)


def _widths(kind: str, sizes: Sizes) -> tuple[int, int]:
    """What an adapter takes and gives."""
    heads, fused = sizes.heads * sizes.head, (sizes.heads + 2 * sizes.groups) * sizes.head
    return {
        "lora_kqv_adapter": (sizes.hidden, fused),
        "lora_dense_attention_adapter": (heads, sizes.hidden),
        "lora_hto4h_adapter": (sizes.hidden, 2 * sizes.feed_forward),
        "lora_4htoh_adapter": (sizes.feed_forward, sizes.hidden),
    }[kind]


def _check_shape(name: str, shape: tuple[int, ...], widths: tuple[int, int], where: str) -> None:
    """Hold A to (rank, width in) and B to (width out, rank), before either is loaded."""
    first, last = (shape[0], shape[-1]) if len(shape) == 2 else (0, 0)
    rank, wide, right = (first, last, widths[0]) if ".linear_in." in name else (last, first, widths[1])
    if wide != right or not 0 < rank <= max(widths):
        message = f"{where}: {name} has the shape {shape}, but its configuration says a width of {right:,}."
        raise ModelError(message)


def _divided(kind: str, b: torch.Tensor, sizes: Sizes) -> tuple[torch.Tensor, ...]:
    """B for each of the layers that an adapter is for."""
    if kind == "lora_kqv_adapter":
        return split_qkv(sizes, b)
    return tuple(b.split(sizes.feed_forward)) if kind == "lora_hto4h_adapter" else (b,)


def _config(config: Mapping[str, Any], rank: int, kinds: set[str]) -> dict[str, Any]:
    peft = config.get("peft") or {}
    tuned = peft.get("lora_tuning") or {}
    # NeMo scales by alpha / dim; where an old configuration has no alpha, it is the dim.
    alpha = tuned.get("alpha") or rank
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted(name.split(".")[1] for kind in kinds for name in _KINDS[kind]),
    }
