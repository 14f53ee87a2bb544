"""A GGUF file of a Llama, as llama.cpp reads it, written out as the directory that ``transformers`` loads.

Quantised weights become bfloat16: every number is what the file says, within bfloat16's own rounding, and no better
than that. Needs the package ``gguf`` to read the file; torch is needed for bfloat16 alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import orjson

from tamis.errors import ModelError
from tamis.models.checkpoint import require_extra

if TYPE_CHECKING:
    import torch

__all__ = ["convert_llama"]

_NAMES: Mapping[str, str] = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTSIDE: Mapping[str, str] = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_CONTROL = 3
"""The type of a token that is no text."""


def convert_llama(file: Path, target: Path, *, who: str) -> None:
    """Write ``config.json``, ``model.safetensors`` (bfloat16) and the tokenizer's files into ``target``.

    Raises:
        MissingExtraError: The package ``gguf`` is not installed.
        ModelError: The file holds another architecture, another tokenizer, or a tensor that no Llama has.
    """
    require_extra(who, "torch", "safetensors", "tokenizers")
    require_extra(who, "gguf", extra="gguf")
    import gguf

    reader = gguf.GGUFReader(str(file))
    said = {key: field.contents() for key, field in reader.fields.items()}
    if said.get("general.architecture") != "llama" or said.get("tokenizer.ggml.pre") != "smollm":
        message = (
            f"{who}: {file.name} holds the architecture {said.get('general.architecture')!r} with the tokenizer "
            f"{said.get('tokenizer.ggml.pre')!r}; what can be read is a Llama with the tokenizer 'smollm'."
        )
        raise ModelError(message)
    config = _config(said)
    target.mkdir(parents=True, exist_ok=True)
    _write(target / "config.json", config)
    _write_tokenizer(said, config, target)
    _write_weights(reader, config, target, who)


def _config(said: Mapping[str, Any]) -> dict[str, Any]:
    heads = int(said["llama.attention.head_count"])
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "bos_token_id": said["tokenizer.ggml.bos_token_id"],
        "dtype": "bfloat16",
        "eos_token_id": said["tokenizer.ggml.eos_token_id"],
        "hidden_act": "silu",
        "hidden_size": said["llama.embedding_length"],
        "head_dim": said["llama.embedding_length"] // heads,
        "initializer_range": 0.02,
        "intermediate_size": said["llama.feed_forward_length"],
        "max_position_embeddings": said["llama.context_length"],
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": said["llama.block_count"],
        "num_key_value_heads": said["llama.attention.head_count_kv"],
        "pad_token_id": said["tokenizer.ggml.padding_token_id"],
        # The file holds a float32; 1e-05 is what it was.
        "rms_norm_eps": float(f"{said['llama.attention.layer_norm_rms_epsilon']:.3g}"),
        "rope_theta": said["llama.rope.freq_base"],
        "tie_word_embeddings": True,
        "vocab_size": said["llama.vocab_size"],
    }


def _write_tokenizer(said: Mapping[str, Any], config: Mapping[str, Any], target: Path) -> None:
    """Byte-level BPE with every digit a token of its own: what llama.cpp calls ``smollm``."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    words = list(said["tokenizer.ggml.tokens"])
    merges = [tuple(pair.split(" ", 1)) for pair in said["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = said["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens(
        [
            AddedToken(word, special=True, normalized=False)
            for word, kind in zip(words, kinds, strict=True)
            if kind == _CONTROL
        ]
    )
    tokenizer.save(str(target / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "bos_token": words[config["bos_token_id"]],
        "chat_template": said.get("tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
        "eos_token": words[config["eos_token_id"]],
        "model_max_length": config["max_position_embeddings"],
        "pad_token": words[config["pad_token_id"]],
        "unk_token": words[said["tokenizer.ggml.unknown_token_id"]],
    }
    _write(target / "tokenizer_config.json", about)


def _write_weights(reader: Any, config: Mapping[str, Any], target: Path, who: str) -> None:
    import gguf
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    for each in reader.tensors:
        name = _name(each.name)
        if name is None:
            message = f"{who}: the file holds the tensor {each.name!r}, which no Llama has."
            raise ModelError(message)
        values = gguf.quants.dequantize(each.data, each.tensor_type)
        if name.endswith("q_proj.weight"):
            values = _unpaired(values, config["num_attention_heads"])
        elif name.endswith("k_proj.weight"):
            values = _unpaired(values, config["num_key_value_heads"])
        tensors[name] = torch.from_numpy(np.array(values, dtype=np.float32)).to(torch.bfloat16)
    expected = 9 * config["num_hidden_layers"] + 2
    if len(tensors) != expected:
        message = f"{who}: the file holds {len(tensors)} tensors where this Llama has {expected}."
        raise ModelError(message)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})


def _name(name: str) -> str | None:
    """What ``transformers`` calls a tensor; None for one that is no Llama's."""
    stem = name.removesuffix(".weight")
    if stem in _OUTSIDE:
        return f"{_OUTSIDE[stem]}.weight"
    block, _, rest = stem.removeprefix("blk.").partition(".")
    return f"model.layers.{block}.{_NAMES[rest]}.weight" if rest in _NAMES else None


def _unpaired(values: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Rows of a projection, [heads * width, in], in the order of ``transformers``.

    A rotary embedding turns pairs of numbers. llama.cpp keeps the two of a pair beside each other, ``transformers``
    half a head apart.
    """
    rows, width = values.shape
    pairs = values.reshape(heads, rows // heads // 2, 2, width)
    return pairs.swapaxes(1, 2).reshape(rows, width)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
