"""``.nemo`` archives of Gemma 2, made from Hugging Face checkpoints and back.

No line of NeMo is needed, and nothing that an archive brings is run: tensors are loaded as tensors (``weights_only``),
the index of a distributed checkpoint without importing what it names, and the paths in the archive are checked.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tamis.errors import InputError, ModelError, OutputError, OutputRefusedError, UnknownNameError, UsageError
from tamis.hashing import fingerprint
from tamis.models.checkpoint import find, require_extra
from tamis.tuning.nemo_archive import Archive, ArchiveWriter, open_archive
from tamis.tuning.nemo_config import from_nemo, hf_sizes, nemo_sizes, pieces, special_ids, to_nemo
from tamis.tuning.nemo_hf import Tensors, read_json, write_json, write_shards
from tamis.tuning.nemo_lora import is_adapter, write_adapter
from tamis.tuning.nemo_tensors import Entry, check_names, entries
from tamis.tuning.nemo_weights import open_weights, write_flat, write_folder

if TYPE_CHECKING:
    import torch

__all__ = ["Converted", "Layout", "convert", "hf_to_nemo", "nemo_to_hf"]

Layout = Literal["folder", "flat"]
_WRITERS = {"folder": write_folder, "flat": write_flat}
_CONFIG = "model_config.yaml"
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
_TOKENIZER_NAME = re.compile(r"nemo:(?:\./)?([^/]+)")


@dataclass(frozen=True)
class Converted:
    """What a conversion did."""

    path: str
    kind: str
    """What was written, in words."""
    tensors: int
    """Tensors that were read; every one of them is in what was written."""
    bytes: int
    """Of what was written."""
    notes: tuple[str, ...] = ()
    """What the other side cannot hold, and what was assumed."""


def convert(source: str | os.PathLike[str], target: str | os.PathLike[str], *, layout: Layout = "folder") -> Converted:
    """Convert by the names: to a file ``*.nemo``, or from one to a directory.

    Args:
        source: A Hugging Face model (directory or hub id), or a ``.nemo``.
        target: A new ``.nemo``, or a new directory.
        layout: Of a ``.nemo`` that is written; both are read.

    Raises:
        UsageError: Neither or both of the two are a ``.nemo``, or the target exists.
        ModelError: It is no Gemma 2, or a tensor is missing, unknown or of another shape.
        InputError: The archive is broken, or holds what it must not.
    """
    pair = [os.fspath(p).endswith(".nemo") for p in (source, target)]
    if pair == [False, True]:
        return hf_to_nemo(source, target, layout=layout)
    if pair == [True, False]:
        return nemo_to_hf(source, target)
    both = "Both are" if all(pair) else "Neither is"
    message = f"one of {os.fspath(source)} and {os.fspath(target)} must be a .nemo file and the other a model. {both}."
    raise UsageError(message)


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder beside the target for what is not finished, which is removed in any case."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        message = f"{target} exists already. Remove it, or choose another name."
        raise OutputRefusedError(message)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        message = f"{target} cannot be written: {error.strerror or error}."
        raise OutputError(message) from error
    try:
        yield folder
    except OSError as error:
        why = error.strerror or error
        message = f"{target} could not be written: {why}. A conversion needs three times the model's size on the disk."
        raise OutputError(message) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def hf_to_nemo(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, layout: Layout = "folder"
) -> Converted:
    """Write a Gemma 2 as a ``.nemo``.

    Args:
        source: A directory with ``config.json``, safetensors and ``tokenizer.model``; or a hub id.
        target: The file.
        layout: ``folder`` is what Megatron-core writes (``model_weights/``), ``flat`` is ``model_weights.ckpt``.
    """
    require_extra("tamis convert", "torch", "safetensors", "yaml")
    import yaml

    if layout not in _WRITERS:
        raise UnknownNameError.of(layout, _WRITERS, kind="layout")
    folder, out = _model(source), Path(target).expanduser()
    config = read_json(folder / "config.json")
    sizes = hf_sizes(config, str(folder))
    tokenizer, count, notes = _tokenizer(folder)
    tensors = Tensors(folder)
    found = entries(sizes)
    expected = {name: shape for entry in found for name, shape in entry.parts.items()}
    head = {_HEAD: expected[_EMBEDDING]} if _HEAD in tensors.shapes else {}
    check_names(expected | head, tensors.shapes, str(folder))
    if head and not _equal(tensors.get(_HEAD), tensors.get(_EMBEDDING)):
        message = f"{folder}: the head ({_HEAD}) is not the embedding; a .nemo of Gemma 2 holds one for both."
        raise ModelError(message)

    def made(entry: Entry) -> torch.Tensor:
        return entry.join([tensors.get(name) for name in entry.parts])

    with _beside(out) as scratch:
        name = f"{fingerprint(tokenizer)}_tokenizer.model"
        written = to_nemo(config, sizes, name, count, str(folder))
        unfinished = scratch / "unfinished.nemo"
        writer = ArchiveWriter(unfinished)
        writer.add(_CONFIG, yaml.safe_dump(written, sort_keys=False).encode())
        writer.add(name, tokenizer)
        _WRITERS[layout](writer, found, made, scratch)
        writer.close()
        size = unfinished.stat().st_size
        unfinished.replace(out)
    return Converted(str(out), f".nemo archive, {layout} layout", len(tensors.shapes), size, tuple(notes))


def _equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    import torch

    return torch.equal(left, right)


def _model(source: str | os.PathLike[str]) -> Path:
    local = Path(source).expanduser()
    if (local / "adapter_config.json").is_file() and not (local / "config.json").is_file():
        message = f"{local} is a PEFT adapter, and no model. Merge it into its model, and convert that."
        raise ModelError(message)
    return find(source, who="tamis convert")


def _tokenizer(folder: Path) -> tuple[bytes, int, list[str]]:
    path = folder / "tokenizer.model"
    if not path.is_file():
        has = " tokenizer.json alone does not say it." if (folder / "tokenizer.json").is_file() else ""
        message = (
            f"{folder} has no tokenizer.model, the SentencePiece file that a .nemo carries.{has} Take it from the "
            "model that this one was tuned from: the vocabulary is the same."
        )
        raise ModelError(message)
    content = path.read_bytes()
    kept = ("chat_template.jinja", "generation_config.json")
    left = [name for name in kept if (folder / name).is_file()]
    notes = [f"{', '.join(left)} has no place in a .nemo; keep it."] if left else []
    return content, len(pieces(content, str(path))), notes


def nemo_to_hf(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> Converted:
    """Write what a ``.nemo`` holds as a directory: a whole Gemma 2, or for LoRA adapters what PEFT reads.

    Args:
        source: The file, plain or gzipped, in either layout.
        target: A directory that does not exist, or is empty.
    """
    require_extra("tamis convert", "torch", "safetensors", "yaml")
    path, out = Path(source).expanduser(), Path(target).expanduser()
    if path.is_dir():
        message = f"{path} is a directory; a .nemo is a file. Pack it: tar -cf model.nemo -C {path} ."
        raise InputError(message)
    with _beside(out) as scratch, open_archive(path, scratch) as archive:
        done = scratch / "model"
        done.mkdir()
        config = _configuration(archive)
        weights = open_weights(archive, nemo_sizes(config, None, str(path)).layers)
        if is_adapter(list(weights.shapes)):
            sizes = nemo_sizes(config, None, str(path))
            count, kind = write_adapter(weights, config, sizes, done, str(path)), "PEFT adapter"
            notes = ["These are adapters alone: load them on the model that they were trained on."]
        else:
            count, notes = _write_model(archive, config, weights, done)
            kind = "Hugging Face model"
        size = sum(p.stat().st_size for p in done.iterdir())
        del weights  # its files are mapped
        if out.is_dir():
            out.rmdir()
        done.replace(out)
    return Converted(str(out), kind, count, size, tuple(notes))


def _configuration(archive: Archive) -> dict[str, Any]:
    import yaml

    where = f"{archive.path}: {_CONFIG}"
    try:
        content = yaml.safe_load(archive.read(_CONFIG))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        message = f"{where} is no YAML: {str(error).splitlines()[0]}."
        raise InputError(message) from error
    if not isinstance(content, dict):
        message = f"{where} holds no keys."
        raise InputError(message)
    return content


def _write_model(archive: Archive, config: Mapping[str, Any], weights: Any, done: Path) -> tuple[int, list[str]]:
    where = str(archive.path)
    tokenizer, name = _tokenizer_of(archive, config)
    found_pieces = pieces(tokenizer, f"{where}: {name}")
    sizes = nemo_sizes(config, len(found_pieces), where)
    found = entries(sizes)
    shapes = dict(weights.shapes)
    expected = {entry.nemo: entry.shape for entry in found}
    embedding = found[0]
    rows = shapes.get(embedding.nemo, embedding.shape)[0]
    if rows != embedding.shape[0] and rows >= sizes.vocabulary:
        # Padded to a multiple of something else, as with other tensor parallel sizes.
        expected[embedding.nemo] = (rows, sizes.hidden)
    check_names(expected, shapes, where)
    dtype = str(weights.get(found[-1].nemo).dtype).removeprefix("torch.")

    def made(entry: Entry) -> Mapping[str, torch.Tensor]:
        return dict(zip(entry.parts, entry.split(weights.get(entry.nemo)), strict=True))

    write_shards(
        done,
        {part: shape for entry in found for part, shape in entry.parts.items()},
        weights.get(found[-1].nemo).element_size(),
        {" ".join(entry.parts): partial(made, entry) for entry in found},
    )
    special = special_ids(found_pieces)
    write_json(done / "config.json", from_nemo(config, sizes, special, dtype, where))
    (done / "tokenizer.model").write_bytes(tokenizer)
    words = {key.replace("_id", ""): found_pieces[i] for key, i in special.items() if i < len(found_pieces)}
    write_json(done / "tokenizer_config.json", {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, **words})
    notes = ["A .nemo holds no chat template: copy chat_template.jinja from the original model if it is to chat."]
    if rows > sizes.vocabulary:
        notes.append(f"{rows - sizes.vocabulary:,} rows of padding were cut from the embedding.")
    return len(shapes), notes


def _tokenizer_of(archive: Archive, config: Mapping[str, Any]) -> tuple[bytes, str]:
    """The SentencePiece file that the configuration names, and its name."""
    told = config.get("tokenizer") or {}
    value = str(told.get("model") or told.get("tokenizer_model") or "") if isinstance(told, Mapping) else ""
    named = _TOKENIZER_NAME.fullmatch(value)
    if named is not None and named.group(1) in archive.names:
        return archive.read(named.group(1)), named.group(1)
    ends = [name for name in archive.names if name.endswith("tokenizer.model")]
    if len(ends) != 1:
        message = (
            f"{archive.path}: its configuration names the tokenizer {value!r}, which it does not hold. "
            f"It holds: {', '.join(archive.names[:12])}."
        )
        raise InputError(message)
    return archive.read(ends[0]), ends[0]
