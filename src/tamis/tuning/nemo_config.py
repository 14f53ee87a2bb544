"""The configuration of a Gemma 2 on both sides, and what a SentencePiece file says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tamis.errors import InputError, ModelError
from tamis.tuning.nemo_tensors import VOCABULARY_STEP, Sizes

__all__ = ["from_nemo", "hf_sizes", "nemo_sizes", "pieces", "special_ids", "to_nemo"]

_TARGET = "nemo.collections.nlp.models.language_modeling.megatron_gpt_model.MegatronGPTModel"
_NAME = "megatron_gemma2"
_OWN_VOCABULARY = "tamis_vocab_size"
"""A key of our own, which NeMo does not read: the Hugging Face vocabulary, where the tokenizer has another number."""
_SPECIAL = {"pad_token_id": ("<pad>", 0), "eos_token_id": ("<eos>", 1), "bos_token_id": ("<bos>", 2)}
"""Pieces, and what Gemma 2 has where a tokenizer has no such piece."""


def _number(config: Mapping[str, Any], key: str, where: str, kind: type = int) -> Any:
    """A number; YAML reads ``1e-06`` as text."""
    value = config.get(key)
    try:
        return kind(None if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        said = "is missing" if value is None else f"is {value!r}, and no number"
        message = f"{where}: {key} {said} in the configuration."
        raise ModelError(message) from None


def hf_sizes(config: Mapping[str, Any], where: str) -> Sizes:
    """Sizes from ``config.json``.

    Raises :class:`ModelError` for another architecture, by its name, and for what a ``.nemo`` cannot say.
    """
    kind = config.get("model_type")
    if kind != "gemma2":
        message = f"{where} is a {kind!r} model; only Gemma 2 (model_type gemma2) is converted to and from .nemo."
        raise ModelError(message)
    _hold(config, where)
    return Sizes(
        layers=_number(config, "num_hidden_layers", where),
        hidden=_number(config, "hidden_size", where),
        feed_forward=_number(config, "intermediate_size", where),
        heads=_number(config, "num_attention_heads", where),
        groups=_number(config, "num_key_value_heads", where),
        head=_number(config, "head_dim", where),
        vocabulary=_number(config, "vocab_size", where),
    )


def _hold(config: Mapping[str, Any], where: str) -> None:
    """Refuse variants that the other side would silently compute otherwise."""
    activation = config.get("hidden_activation") or "gelu_pytorch_tanh"
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    pattern = config.get("layer_types")
    told = {
        "hidden_activation": (activation == "gelu_pytorch_tanh", activation),
        "attention_bias": (not config.get("attention_bias"), True),
        "tie_word_embeddings": (config.get("tie_word_embeddings", True), False),
        "rope_parameters": (rope.get("rope_type", "default") == "default", rope.get("rope_type")),
        "layer_types": (pattern is None or pattern == _pattern(len(pattern)), "another order than Gemma 2's"),
        "use_bidirectional_attention": (not config.get("use_bidirectional_attention"), True),
    }
    for key, (right, value) in told.items():
        if not right:
            message = f"{where}: {key} is {value!r}, which a .nemo of Gemma 2 cannot say."
            raise ModelError(message)


def _pattern(layers: int) -> list[str]:
    return [("sliding_attention", "full_attention")[i % 2] for i in range(layers)]


def to_nemo(config: Mapping[str, Any], sizes: Sizes, tokenizer: str, tokens: int, where: str) -> dict[str, Any]:
    """``model_config.yaml`` of a Hugging Face configuration.

    Args:
        config: Of the Hugging Face model.
        sizes: Of the same.
        tokenizer: The name of the SentencePiece file in the archive.
        tokens: That this file has.
        where: For errors.
    """
    rope = config.get("rope_parameters") or {}
    theta = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    length = _number(config, "max_position_embeddings", where)
    dropout = float(config.get("attention_dropout") or 0.0)
    written = {
        "name": _NAME,
        "target": _TARGET,
        "mcore_gpt": True,
        "transformer_engine": True,
        "megatron_amp_O2": True,
        "precision": "bf16",
        "micro_batch_size": 1,
        "global_batch_size": 1,
        "tensor_model_parallel_size": 1,
        "pipeline_model_parallel_size": 1,
        "virtual_pipeline_model_parallel_size": None,
        "encoder_seq_length": length,
        "max_position_embeddings": length,
        "num_layers": sizes.layers,
        "hidden_size": sizes.hidden,
        "ffn_hidden_size": sizes.feed_forward,
        "num_attention_heads": sizes.heads,
        "num_query_groups": sizes.groups,
        "kv_channels": sizes.head,
        "init_method_std": float(config.get("initializer_range", 0.02)),
        "hidden_dropout": 0.0,
        "attention_dropout": dropout,
        "ffn_dropout": 0.0,
        "activation": "fast-geglu",
        "openai_gelu": True,
        "bias": False,
        "normalization": "rmsnorm",
        "layernorm_zero_centered_gamma": True,
        "layernorm_epsilon": float(config.get("rms_norm_eps", 1e-6)),
        "apply_embedding_scaling": True,
        "share_embeddings_and_output_weights": True,
        "position_embedding_type": "rope",
        "rotary_percentage": 1.0,
        "rotary_base": float(theta),
        "window_size": [int(config.get("sliding_window") or 4096), 0],
        "make_vocab_size_divisible_by": VOCABULARY_STEP,
        "mcore_customization_config": {
            "attn_logit_softcapping": _softcap(config, "attn_logit_softcapping"),
            "final_logit_softcapping": _softcap(config, "final_logit_softcapping"),
            "query_pre_attn_scalar": _number(config, "query_pre_attn_scalar", where, float),
        },
        "tokenizer": {"library": "sentencepiece", "type": None, "model": f"nemo:{tokenizer}"},
    }
    if tokens != sizes.vocabulary:
        written[_OWN_VOCABULARY] = sizes.vocabulary
    return written


def _softcap(config: Mapping[str, Any], key: str) -> float | None:
    value = config.get(key)
    return None if value is None else float(value)


def nemo_sizes(config: Mapping[str, Any], tokens: int | None, where: str) -> Sizes:
    """Sizes from ``model_config.yaml``.

    ``tokens`` is how many the tokenizer has; ``None`` where the vocabulary does not matter.

    Raises :class:`ModelError` for another architecture, by its name.
    """
    name, custom = str(config.get("name") or ""), config.get("mcore_customization_config") or {}
    capped = isinstance(custom, Mapping) and "attn_logit_softcapping" in custom and "final_logit_softcapping" in custom
    if name.replace("-", "").replace("_", "") != "megatrongemma2" and not capped:
        kind = name or str(config.get("target") or "of unknown name")
        message = f"{where} is a model {kind!r}; only Gemma 2 (name megatron_gemma2) is converted from .nemo."
        raise ModelError(message)
    normal = str(config.get("normalization", "rmsnorm")).lower()
    if normal != "rmsnorm" or config.get("bias") is True or config.get("share_embeddings_and_output_weights") is False:
        message = (
            f"{where}: normalization {normal!r}, bias {config.get('bias')!r} and share_embeddings_and_output_weights "
            f"{config.get('share_embeddings_and_output_weights')!r} are not those of a Gemma 2."
        )
        raise ModelError(message)
    heads = _number(config, "num_attention_heads", where)
    hidden = _number(config, "hidden_size", where)
    return Sizes(
        layers=_number(config, "num_layers", where),
        hidden=hidden,
        feed_forward=_number(config, "ffn_hidden_size", where),
        heads=heads,
        groups=_number(config, "num_query_groups", where) if config.get("num_query_groups") else heads,
        head=_number(config, "kv_channels", where) if config.get("kv_channels") else hidden // heads,
        vocabulary=1 if tokens is None else int(config.get(_OWN_VOCABULARY) or tokens),
    )


def from_nemo(
    config: Mapping[str, Any], sizes: Sizes, special: Mapping[str, int], dtype: str, where: str
) -> dict[str, Any]:
    """``config.json`` of a ``model_config.yaml``.

    Args:
        config: Of the archive.
        sizes: Of the same.
        special: Token ids by the key of the configuration.
        dtype: Of the weights, as torch calls it.
        where: For errors.
    """
    custom = config.get("mcore_customization_config") or {}
    scalar = custom.get("query_pre_attn_scalar")
    window = config.get("window_size") or [4096, 0]
    theta = _number(config, "rotary_base", where, float) if config.get("rotary_base") else 10000.0
    scalar = sizes.head if scalar is None else float(scalar)
    return {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "attention_bias": False,
        "attention_dropout": float(config.get("attention_dropout") or 0.0),
        "attn_logit_softcapping": _softcap(custom, "attn_logit_softcapping"),
        "final_logit_softcapping": _softcap(custom, "final_logit_softcapping"),
        "head_dim": sizes.head,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": sizes.hidden,
        "initializer_range": _number(config, "init_method_std", where, float)
        if config.get("init_method_std")
        else 0.02,
        "intermediate_size": sizes.feed_forward,
        "layer_types": _pattern(sizes.layers),
        "max_position_embeddings": _number(config, "max_position_embeddings", where),
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        "num_key_value_heads": sizes.groups,
        "query_pre_attn_scalar": int(scalar) if float(scalar).is_integer() else scalar,
        "rms_norm_eps": _number(config, "layernorm_epsilon", where, float),
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
        "rope_theta": theta,
        "sliding_window": int(window[0]),
        "tie_word_embeddings": True,
        "torch_dtype": dtype,
        "vocab_size": sizes.vocabulary,
        **special,
    }


def pieces(model: bytes, where: str) -> list[str]:
    """The pieces of a SentencePiece model file, in the order of their ids, read without the library.

    The file is a protocol buffer: each piece is a message in its field 1, whose field 1 is the text.
    """
    try:
        found = [
            next((text.decode("utf-8") for field, text in _fields(piece) if field == 1), "")
            for number, piece in _fields(model)
            if number == 1
        ]
    except (IndexError, UnicodeDecodeError, ValueError) as error:
        message = f"{where} is no SentencePiece model, or is damaged."
        raise InputError(message) from error
    if not found:
        message = f"{where} is no SentencePiece model: it has no pieces."
        raise InputError(message)
    return found


def special_ids(found: list[str]) -> dict[str, int]:
    """The ids of the pieces for padding, beginning and end, for ``config.json``."""
    place = {piece: i for i, piece in reversed(list(enumerate(found[:1024])))}
    return {key: place.get(piece, usual) for key, (piece, usual) in _SPECIAL.items()}


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, content) of the fields with a length; numbers are passed over."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(message, at)
            continue
        if kind == 2:
            length, at = _varint(message, at)
        elif kind in {1, 5}:
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(kind)
        if at + length > len(message):
            raise IndexError(at)
        if kind == 2:
            yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError(at)
