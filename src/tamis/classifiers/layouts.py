"""The layouts that classifier checkpoints are published in, told by their configuration, and how each is loaded.

- ``encoder``: an encoder under ``model.*`` and one linear layer ``fc.*`` over the first position; the configuration
  holds ``base_model``, ``fc_dropout``, ``id2label``, ``label2id`` (nvidia/domain-classifier, quality, content type).
- ``head``: a linear head on frozen embeddings, made by ``tamis train-classifier`` (:mod:`tamis.classifiers.head`).
- everything else: what ``AutoModelForSequenceClassification`` loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.errors import ModelError, hint
from tamis.models.checkpoint import TOKENIZER, find, here, load_pretrained, load_tensors, read_config

if TYPE_CHECKING:
    import torch

    from tamis.classifiers.base import Task
    from tamis.models.launch import LoadedModel

__all__ = [
    "KNOWN_BASES",
    "encoder_from",
    "fill",
    "labels_of",
    "linear",
    "load_classifier",
    "load_weights_file",
    "split_network",
    "task_of",
]

_V3_BASE = {
    "model_type": "deberta-v2",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "layer_norm_eps": 1e-7,
    "max_relative_positions": -1,
    "position_biased_input": False,
    "type_vocab_size": 0,
    "pad_token_id": 0,
    "vocab_size": 128100,
}
KNOWN_BASES: Mapping[str, Mapping[str, Any]] = {
    "microsoft/deberta-v3-base": _V3_BASE,
    "microsoft/mdeberta-v3-base": {**_V3_BASE, "vocab_size": 251000},
}
"""Shapes of the encoders that published classifiers name as their base: so the base's own weights, which the
classifier's replace, are never downloaded."""


def _is_encoder_layout(config: Mapping[str, Any]) -> bool:
    """Whether the configuration is that of an encoder with one linear layer."""
    return "base_model" in config and "id2label" in config and "fc_dropout" in config


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels in the order of the outputs: ``id2label``, else ``label2id`` sorted by index."""
    if config.get("id2label"):
        return tuple(str(name) for _, name in sorted(config["id2label"].items(), key=lambda item: int(item[0])))
    return tuple(name for name, _ in sorted((config.get("label2id") or {}).items(), key=lambda item: int(item[1])))


def task_of(config: Mapping[str, Any]) -> Task:
    """What a classifier's outputs are: ``problem_type``, else regression where there is one output."""
    kinds: dict[str, Task] = {
        "single_label_classification": "single_label",
        "multi_label_classification": "multi_label",
        "regression": "regression",
    }
    stated = config.get("problem_type")
    if stated in kinds:
        return kinds[stated]
    one = len(config.get("id2label") or {}) == 1 or config.get("num_labels") == 1
    return "regression" if one and not _is_encoder_layout(config) else "single_label"


def load_classifier(path: Path, *, who: str, tokenizer: Any = None, token: str | None = None) -> LoadedModel:
    """Load a classifier of any known layout from its directory."""
    config = read_config(path, who=who)
    if config.get("model_type") == "tamis-head":
        from tamis.classifiers.head import load_head

        return load_head(path, who=who, token=token)
    if _is_encoder_layout(config):
        return _load_encoder_and_fc(path, config, who=who, tokenizer=tokenizer, token=token)
    return _load_sequence_classifier(path, who=who, tokenizer=tokenizer)


# -- an encoder and one linear layer -------------------------------------------------------------------------


def encoder_from(
    base: str, states: Mapping[str, torch.Tensor], *, who: str, token: str | None = None
) -> torch.nn.Module:
    """The encoder named ``base`` with these weights, by their own names.

    ``base`` is a directory, or a hub id, which is looked for in the folder of models, then among :data:`KNOWN_BASES`,
    then on the hub.
    """
    import torch
    from transformers import AutoConfig, AutoModel

    known = None if here(base) else KNOWN_BASES.get(base.lower())
    if known is not None:
        config = AutoConfig.for_model(**known)
    else:
        config = AutoConfig.from_pretrained(find(base, who=who, token=token, config_only=True))
    with torch.device("meta"):
        body = AutoModel.from_config(config)
    return fill(body, states, who=who)


def fill(module: torch.nn.Module, states: Mapping[str, torch.Tensor], *, who: str) -> torch.nn.Module:
    """Give a module made on no device these weights; buffers that are not saved are computed.

    Raises:
        ModelError: A weight is missing, has no place, or has another shape.
    """
    import torch

    wanted = module.state_dict()
    missing = [name for name in wanted if name not in states]
    spare = [name for name in states if name not in wanted and not name.endswith("position_ids")]
    wrong = [
        f"{name} is {tuple(states[name].shape)} instead of {tuple(kind.shape)}"
        for name, kind in wanted.items()
        if name in states and states[name].shape != kind.shape
    ]
    if missing or spare or wrong:
        message = (
            f"{who}: the weights do not fit the architecture that the configuration names: {len(missing)} missing"
            f"{_some(missing)}, {len(spare)} without a place{_some(spare)}, "
            f"{len(wrong)} of another shape{_some(wrong)}."
        )
        raise ModelError(message)
    module.load_state_dict({name: states[name] for name in wanted}, assign=True)
    for owner in module.modules():
        for name, buffer in owner.named_buffers(recurse=False):
            if buffer.is_meta:
                if name not in {"position_ids", "token_type_ids"}:
                    message = f"{who}: the architecture has a buffer {name!r} that its checkpoint does not hold."
                    raise ModelError(message)
                length = buffer.shape[-1]
                values = torch.arange(length) if name == "position_ids" else torch.zeros(length, dtype=torch.long)
                owner.register_buffer(name, values.expand(buffer.shape).clone(), persistent=False)
    return module.float().eval()


def _some(names: list[str]) -> str:
    return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else ""


def _load_encoder_and_fc(
    path: Path, config: Mapping[str, Any], *, who: str, tokenizer: Any = None, token: str | None = None
) -> LoadedModel:
    """Load ``model.*`` and ``fc.*``: the logits of the first position."""
    from tamis.models.launch import LoadedModel
    from tamis.models.network import Network
    from tamis.models.tokenizer import load_tokenizer

    tensors = load_tensors(path, who=who)
    labels = labels_of(config)
    base = str(config["base_model"])
    inside = path / base
    body, head = _encoder_and_fc(tensors, str(inside) if inside.is_dir() else base, len(labels), who=who, token=token)
    if tokenizer is None:
        tokenizer = load_tokenizer(path, who=who)
    return LoadedModel(Network(body, "first", head), tokenizer, labels, body.config)


def _encoder_and_fc(
    tensors: Mapping[str, torch.Tensor], base: str, labels: int, *, who: str, token: str | None
) -> tuple[torch.nn.Module, torch.nn.Module]:
    body_states = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    rest = {name for name in tensors if not name.startswith("model.")}
    if rest != {"fc.weight", "fc.bias"} or not body_states:
        message = (
            f"{who}: these weights should be model.*, fc.weight and fc.bias; there is: "
            f"{', '.join(sorted(tensors)[:5]) or 'nothing'}, …"
        )
        raise ModelError(message)
    body = encoder_from(base, body_states, who=who, token=token)
    return body, linear(tensors["fc.weight"], tensors["fc.bias"], labels, who=who)


def load_weights_file(
    file: Path, base: str, labels: tuple[str, ...], *, who: str, tokenizer: Any = None, token: str | None = None
) -> LoadedModel:
    """Load ``model.*`` and ``fc.*`` from one file; configuration and tokenizer are those of the encoder ``base``."""
    from tamis.models.launch import LoadedModel
    from tamis.models.network import Network
    from tamis.models.tokenizer import load_tokenizer

    if not file.is_file():
        beside = [p.name for p in file.parent.glob(f"*{file.suffix}")] if file.parent.is_dir() else []
        message = f"{who}: there is no weights file {str(file)!r}. {hint(file.name, beside)}"
        raise ModelError(message)
    # Saved from a model on many devices, every name begins with "module.".
    tensors = {name.removeprefix("module."): t for name, t in load_tensors(file, who=who).items()}
    body, head = _encoder_and_fc(tensors, base, len(labels), who=who, token=token)
    if tokenizer is None:
        tokenizer = load_tokenizer(find(base, who=who, token=token, holds=TOKENIZER), who=who)
    return LoadedModel(Network(body, "first", head), tokenizer, labels, body.config)


def linear(weight: torch.Tensor, bias: torch.Tensor, labels: int, *, who: str) -> torch.nn.Linear:
    """A linear layer with these weights, which must have as many outputs as there are labels."""
    import torch

    if len(weight) != labels:
        message = (
            f"{who}: the checkpoint's last layer has {len(weight)} outputs, and its configuration names {labels} "
            "labels (id2label). One of the two is from another revision; an early one of a published model is known "
            "to lack id2label. Get the current revision, or pass labels=[...]."
        )
        raise ModelError(message)
    made = torch.nn.Linear(weight.shape[1], weight.shape[0])
    made.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return made.float().eval()


# -- what transformers loads ---------------------------------------------------------------------------------


def _load_sequence_classifier(path: Path, *, who: str, tokenizer: Any) -> LoadedModel:
    import torch
    from transformers import AutoModelForSequenceClassification

    from tamis.models.launch import LoadedModel
    from tamis.models.tokenizer import load_tokenizer

    model = load_pretrained(
        AutoModelForSequenceClassification, path, "a sequence classifier", who=who, dtype=torch.float32
    )
    if tokenizer is None:
        tokenizer = load_tokenizer(path, who=who)
    labels = tuple(model.config.id2label[i] for i in range(model.config.num_labels))
    return LoadedModel(split_network(model), tokenizer, labels, model.config)


def split_network(model: Any) -> Any:
    """Body, pool and head of a sequence classifier whose head reads the first token; the model itself otherwise."""
    import torch

    from tamis.models.network import Network

    kind = type(model).__name__
    if kind == "BertForSequenceClassification":
        pooler = model.bert.pooler
        model.bert.pooler = None  # part of the head, which has a number format of its own
        return Network(model.bert, "first", torch.nn.Sequential(pooler.dense, pooler.activation, model.classifier))
    if kind == "DebertaV2ForSequenceClassification":
        activation = _activation(model.config.pooler_hidden_act)
        return Network(model.deberta, "first", torch.nn.Sequential(model.pooler.dense, activation, model.classifier))
    return model


def _activation(name: str) -> Any:
    from transformers.activations import ACT2FN

    return ACT2FN[name]
