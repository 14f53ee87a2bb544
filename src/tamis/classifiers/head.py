"""A linear head on frozen embeddings as a directory: what ``tamis train-classifier`` writes and every classifier loads.

::

    config.json         model_type "tamis-head"; embedder (name, sha256 of its weights), pool, normalize, max_length;
                        id2label, label2id, problem_type; temperature, metrics, tamis_version
    model.safetensors   fc.weight [outputs, width], fc.bias [outputs], float32
    embedder/           a copy of the embedder, where one was asked for

Its outputs are ``fc`` of the embedding, divided by the temperature where they are logits. The embedder is looked for
again where it is loaded, and must have the very weights that the head was trained on.

Importing this module imports torch.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from safetensors.numpy import save_file

from tamis.classifiers.train import TrainedHead
from tamis.errors import ModelError, OutputError, OutputRefusedError
from tamis.models.checkpoint import load_tensors, read_config
from tamis.models.embed import Layout, find_embedder, load_embedder, read_layout, weights_sha256
from tamis.models.launch import LoadedModel
from tamis.models.network import Network

__all__ = ["MODEL_TYPE", "EmbedderUsed", "load_head", "save_head"]

MODEL_TYPE = "tamis-head"
_INSIDE = "embedder"
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class EmbedderUsed:
    """The embedder that a head was trained on."""

    name: str
    """What it is called: a short name, a hub id, a directory."""
    path: Path
    """Where it is now."""
    layout: Layout
    max_length: int
    """Tokens of a text that were seen."""


# -- writing -------------------------------------------------------------------------------------------------


def save_head(head: TrainedHead, embedder: EmbedderUsed, directory: Path, *, include_embedder: bool = False) -> None:
    """Write a head's directory, whole or not at all; an earlier head there is replaced.

    Args:
        head: What was trained.
        embedder: What it was trained on.
        directory: Where; new, empty, or holding an earlier head.
        include_embedder: Whether to copy the embedder into it, so that it can be carried elsewhere.

    Raises:
        OutputRefusedError: The directory holds something else.
        OutputError: It cannot be written.
    """
    check_target(directory)
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as place:
            made = Path(place, "new")
            made.mkdir()
            _write(head, embedder, made, include_embedder=include_embedder)
            old = Path(place, "old")
            if directory.exists():
                directory.rename(old)
            try:
                made.rename(directory)
            except OSError:
                if old.exists():
                    old.rename(directory)
                raise
    except OSError as error:
        message = f"The classifier cannot be written to {directory}: {error.strerror or error}. Choose another path."
        raise OutputError(message) from error


def check_target(directory: Path) -> None:
    """Raise unless the directory is new, empty, or holds an earlier head."""
    if not directory.exists():
        return
    held = sorted(p.name for p in directory.iterdir()) if directory.is_dir() else [directory.name]
    earlier = "config.json" in held and read_config(directory, who=str(directory)).get("model_type") == MODEL_TYPE
    if held and not earlier:
        message = (
            f"{directory} holds something else ({', '.join(held[:4])}{', …' if len(held) > 4 else ''}); a classifier "
            "is written to a new or empty directory, or over an earlier one."
        )
        raise OutputRefusedError(message)


def _write(head: TrainedHead, embedder: EmbedderUsed, folder: Path, *, include_embedder: bool) -> None:
    tensors = {
        "fc.weight": np.ascontiguousarray(head.linear.weight, dtype=np.float32),
        "fc.bias": np.ascontiguousarray(head.linear.bias, dtype=np.float32),
    }
    save_file(tensors, folder / _WEIGHTS)
    if include_embedder:
        _copy_embedder(embedder, folder / _INSIDE)
    config = {
        "model_type": MODEL_TYPE,
        "tamis_version": version("tamis"),
        "embedder": {"name": embedder.name, "sha256": weights_sha256(embedder.path, who="train-classifier")},
        "pool": embedder.layout.pool,
        "normalize": embedder.layout.normalize,
        "max_length": embedder.max_length,
        "problem_type": "regression" if head.task == "regression" else "single_label_classification",
        "id2label": {str(i): name for i, name in enumerate(head.labels)},
        "label2id": {name: i for i, name in enumerate(head.labels)},
        "temperature": head.temperature,
        "metrics": {
            "strength": head.strength,
            "losses": dict_of(head.losses),
            "examples": dict(zip(head.labels, head.counts, strict=True)),
            "cross_validated": asdict(head.cross_validated),
            "held_out": None if head.held_out is None else asdict(head.held_out),
        },
    }
    (folder / "config.json").write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def dict_of(losses: tuple[tuple[float, float], ...]) -> dict[str, float]:
    """Losses by strength, as JSON can hold them."""
    return {f"{strength:g}": loss for strength, loss in losses}


def _copy_embedder(embedder: EmbedderUsed, target: Path) -> None:
    """Copy what an embedder needs: data files, never code or pickles (unless its weights are nothing else)."""
    pickled = not any(embedder.layout.body.glob("*.safetensors"))
    for source in sorted(embedder.path.rglob("*")):
        wanted = source.suffix in {".json", ".safetensors", ".txt", ".model"} or (pickled and source.suffix == ".bin")
        below = source.relative_to(embedder.path)
        # Exports for other programs (onnx/, openvino/) are several times the model.
        deep = len(below.parts) > 1 and not below.parts[0][:1].isdigit()
        if wanted and not deep and source.is_file():
            (target / below).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / below)


# -- loading -------------------------------------------------------------------------------------------------


def load_head(path: Path, *, who: str, token: str | None = None) -> LoadedModel:
    """Load a head's directory with its embedder: a network from tokens to logits, or to one number.

    Args:
        path: The directory.
        who: The stage that asks, for the error message.
        token: Access token of the hub, for an embedder that is there and gated.

    Raises:
        ModelError: The directory is damaged, the embedder cannot be found, or it has other weights than the one that
            the head was trained on.
    """
    config = read_config(path, who=who)
    named, sha256, labels = _stated(config, path, who)
    folder = path / _INSIDE if (path / _INSIDE).is_dir() else find_embedder(named, who=who, token=token)
    found = weights_sha256(folder, who=who)
    if found != sha256:
        message = (
            f"{who}: the embedder {named!r} in {folder} has other weights (SHA-256 {found[:12]}…) than the one that "
            f"the head in {path} was trained on ({sha256[:12]}…): its answers would be wrong. Get that revision, or "
            "train the head again."
        )
        raise ModelError(message)
    layout = read_layout(folder, who=who, pool=config["pool"], normalize=config["normalize"])
    loaded = load_embedder(layout, who=who)
    loaded.tokenizer.model_max_length = config["max_length"]
    network = loaded.network
    if not isinstance(network, Network):
        message = f"{who}: {folder} is no encoder."
        raise ModelError(message)
    head = _head(path, layout, len(labels), float(config["temperature"]), who)
    return LoadedModel(Network(network.body, network.pool, head), loaded.tokenizer, labels, loaded.config)


def _stated(config: Mapping[str, Any], path: Path, who: str) -> tuple[str, str, tuple[str, ...]]:
    """The embedder's name and hash, and the labels; everything else that is read later has the right type."""
    try:
        named, sha256 = config["embedder"]["name"], config["embedder"]["sha256"]
        by_index = {int(i): str(name) for i, name in config["id2label"].items()}
        labels = tuple(by_index[i] for i in range(len(by_index)))
        right = (
            isinstance(named, str)
            and isinstance(sha256, str)
            and config["pool"] in {"mean", "first", "last"}
            and type(config["normalize"]) is bool
            and type(config["max_length"]) is int
            and type(config["temperature"]) is float
            and config["temperature"] > 0
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"{who}: {path / 'config.json'} is no head of tamis train-classifier: {type(error).__name__} {error}"
        raise ModelError(message) from error
    if not right:
        message = f"{who}: {path / 'config.json'} is damaged: embedder, pool, normalize, max_length or temperature."
        raise ModelError(message)
    return named, sha256, labels


def _head(path: Path, layout: Layout, outputs: int, temperature: float, who: str) -> torch.nn.Module:
    """From pooled states to outputs: scaled to length 1 if the embedder does, ``fc``, divided by the temperature."""
    tensors = load_tensors(path / _WEIGHTS, who=who)
    weight, bias = tensors.get("fc.weight"), tensors.get("fc.bias")
    if weight is None or bias is None or weight.shape != (outputs, layout.width) or bias.shape != (outputs,):
        held = ", ".join(f"{name} {tuple(t.shape)}" for name, t in sorted(tensors.items()))
        message = (
            f"{who}: {path / _WEIGHTS} should hold fc.weight ({outputs}, {layout.width}) and fc.bias ({outputs},); it "
            f"holds {held or 'nothing'}."
        )
        raise ModelError(message)
    made = torch.nn.Linear(layout.width, outputs)
    made.load_state_dict({"weight": weight.float() / temperature, "bias": bias.float() / temperature}, assign=True)
    made.eval()
    return torch.nn.Sequential(_ToLengthOne(), made) if layout.normalize else made


class _ToLengthOne(torch.nn.Module):
    """Vectors [texts, width] scaled to length 1."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """The same directions."""
        return torch.nn.functional.normalize(vectors, dim=1)
