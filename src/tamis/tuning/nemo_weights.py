"""The layouts in which a ``.nemo`` holds its weights: one flat file, or a distributed checkpoint (``torch_dist``).

Read and written tensor by tensor: what is in memory is one of them, however large the model is.
"""

from __future__ import annotations

import io
import pickle  # the index of a distributed checkpoint is one by its format
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from tamis.errors import InputError, ModelError
from tamis.tuning.nemo_archive import Archive, ArchiveWriter
from tamis.tuning.nemo_pickle import Stored, read_index
from tamis.tuning.nemo_tensors import Entry, is_no_weight

if TYPE_CHECKING:
    import torch

__all__ = ["FLAT", "FOLDER", "Weights", "open_weights", "write_flat", "write_folder"]

FLAT = "model_weights.ckpt"
FOLDER = "model_weights/"
_RANKED = re.compile(r"(mp_rank_\d+|tp_rank_\d+_pp_rank_\d+)/")
_PREFIX = re.compile(r"^(model\.)?(module\.)?")
_BACKENDS = {"torch_dist"}

Shape = tuple[int, ...]


class Weights(Protocol):
    """The tensors of an archive, under Megatron's flat names (``decoder.layers.0...``, no prefix)."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Names and shapes."""
        ...

    def get(self, name: str) -> torch.Tensor:
        """Load one."""
        ...


def open_weights(archive: Archive, layers: int) -> Weights:
    """The weights of an archive, in whichever layout it has them.

    Raises:
        InputError: There are none, they are broken, or they are divided over several ranks.
        ModelError: The layout is not known.
    """
    names = archive.names
    ranks = sorted({m.group(1) for name in names if (m := _RANKED.search(name))})
    if len(ranks) > 1:
        message = (
            f"{archive.path} holds the weights of {len(ranks)} ranks ({', '.join(ranks[:4])}): tensor or pipeline "
            "parallel. Only one rank is read. Merge them first with NeMo's megatron_change_num_partitions.py."
        )
        raise ModelError(message)
    flat = next((name for name in names if name == FLAT or (ranks and name.endswith(f"{ranks[0]}/{FLAT}"))), None)
    if flat is not None:
        return _Flat(archive, flat)
    if f"{FOLDER}.metadata" in names:
        return _Folder(archive, layers)
    if any(name.startswith(FOLDER) for name in names):
        inside = ", ".join(name for name in names if name.startswith(FOLDER))[:200]
        message = (
            f"{archive.path}: {FOLDER} is no torch_dist checkpoint, which alone is read: no .metadata in {inside}."
        )
        raise ModelError(message)
    message = (
        f"{archive.path} holds no weights: neither {FLAT} nor {FOLDER}.metadata. It holds: {', '.join(names[:12])}."
    )
    raise InputError(message)


def _load(source: Path | io.BytesIO, where: str, *, mapped: bool = False) -> Any:
    """``torch.load`` of tensors and of nothing else."""
    import torch

    try:
        # States of Transformer Engine's kernels are bytes behind a file; nothing in them is run.
        with torch.serialization.safe_globals([io.BytesIO]):
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        message = f"{where} cannot be loaded as tensors alone: {first}"
        raise InputError(message) from error


class _Flat:
    """``model_weights.ckpt``: a state dict by ``torch.save``, mapped from the disk rather than loaded."""

    def __init__(self, archive: Archive, name: str) -> None:
        import zipfile

        import torch

        path = archive.extract(name)
        where = f"{archive.path}: {name}"
        content = _load(path, where, mapped=zipfile.is_zipfile(path))
        for key in ("state_dict", "model"):
            if isinstance(content, dict) and isinstance(content.get(key), dict):
                content = content[key]
        if not isinstance(content, dict):
            message = f"{where} is a {type(content).__name__}, and no state dict."
            raise InputError(message)
        self._tensors: dict[str, torch.Tensor] = {}
        for key, value in content.items():
            plain = _PREFIX.sub("", str(key))
            if is_no_weight(plain):
                continue
            if not isinstance(value, torch.Tensor):
                message = f"{where}: {key} is a {type(value).__name__}, and no tensor."
                raise InputError(message)
            self._tensors[plain] = value

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def get(self, name: str) -> torch.Tensor:
        return self._tensors[name].clone()


def _backend(archive: Archive) -> str:
    """The kind of checkpoint that the folder says it is."""
    name = f"{FOLDER}metadata.json"
    if name not in archive.names:
        return "torch_dist"
    try:
        return str(orjson.loads(archive.read(name))["sharded_backend"])
    except (orjson.JSONDecodeError, LookupError, TypeError) as error:
        message = f"{archive.path}: {name} does not say which kind of checkpoint this is ({error})."
        raise InputError(message) from error


class _Folder:
    """``model_weights/``: tensors in boxes over some files; those of all layers lie in one, the layer in front."""

    def __init__(self, archive: Archive, layers: int) -> None:
        self._archive = archive
        kind = _backend(archive)
        if kind not in _BACKENDS:
            message = f"{archive.path}: {FOLDER} is a checkpoint of the kind {kind!r}; only torch_dist is read."
            raise ModelError(message)
        with archive.open(f"{FOLDER}.metadata") as file:
            index = read_index(file, f"{archive.path}: {FOLDER}.metadata")
        self._places: dict[str, tuple[Stored, int | None]] = {}
        for key, stored in index.items():
            name = _PREFIX.sub("", key)
            if is_no_weight(name):
                continue
            if "decoder.layers." in name and not re.search(r"layers\.\d", name):
                if not stored.shape or stored.shape[0] != layers:
                    message = f"{archive.path}: {key} has the shape {stored.shape}, which are not {layers} layers."
                    raise ModelError(message)
                for i in range(layers):
                    self._places[name.replace("layers.", f"layers.{i}.", 1)] = (stored, i)
            else:
                self._places[name] = (stored, None)

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return {n: stored.shape[(layer is not None) :] for n, (stored, layer) in self._places.items()}

    def get(self, name: str) -> torch.Tensor:
        import torch

        stored, layer = self._places[name]
        shape = stored.shape if layer is None else (1, *stored.shape[1:])
        where = f"{self._archive.path}: {name}"
        dtype = getattr(torch, stored.dtype, None)
        if not isinstance(dtype, torch.dtype):
            message = f"{where}: {stored.dtype!r} is no kind of numbers that torch knows."
            raise InputError(message)
        out = torch.empty(shape, dtype=dtype)
        filled = 0
        for chunk in stored.chunks:
            first = chunk.offsets[0] if layer is not None else 0
            if layer is not None and first > layer:
                continue
            with self._archive.open(f"{FOLDER}{chunk.file}") as file:
                file.seek(chunk.start)
                content = file.read(chunk.length)
            if len(content) < chunk.length:
                message = f"{where}: {chunk.file} ends before the {chunk.length:,} bytes that it should hold of it."
                raise InputError(message)
            box = _load(io.BytesIO(content), where)
            if not isinstance(box, torch.Tensor) or box.dim() != len(shape):
                message = f"{where}: {chunk.file} holds something else where a part of this tensor should be."
                raise InputError(message)
            offsets = chunk.offsets
            if layer is not None:
                if not first <= layer < first + box.shape[0]:
                    continue
                box, offsets = box[layer - first : layer - first + 1], (0, *chunk.offsets[1:])
            if any(o + n > total for o, n, total in zip(offsets, box.shape, shape, strict=True)):
                message = f"{where}: a part of it lies outside of its shape {shape}."
                raise InputError(message)
            out[tuple(slice(o, o + n) for o, n in zip(offsets, box.shape, strict=True))] = box
            filled += box.numel()
        if filled != out.numel():
            message = f"{where}: its parts hold {filled:,} of {out.numel():,} numbers. The archive is not complete."
            raise InputError(message)
        return out if layer is None else out[0]


Made = Callable[[Entry], "torch.Tensor"]


def write_flat(writer: ArchiveWriter, found: Iterable[Entry], made: Made, scratch: Path) -> None:
    """Write ``model_weights.ckpt``: the tensors are laid into a mapped file first, so that memory holds one."""
    import torch

    state: dict[str, torch.Tensor] = {}
    for number, entry in enumerate(found):
        tensor = made(entry).contiguous()
        size = tensor.numel() * tensor.element_size()
        storage: Any = torch.UntypedStorage.from_file(str(scratch / f"tensor-{number}"), shared=True, nbytes=size)
        mapped = torch.empty(0, dtype=tensor.dtype).set_(storage, 0, tensor.shape, tensor.stride())
        mapped.copy_(tensor)
        state[f"model.{entry.nemo}"] = mapped
    path = scratch / FLAT
    torch.save(state, path)
    writer.add(FLAT, path)


def write_folder(writer: ArchiveWriter, found: Iterable[Entry], made: Made, scratch: Path) -> None:
    """Write ``model_weights/`` as Megatron-core does: one box for each layer, stacked on a new leading axis."""
    import torch
    from torch.distributed.checkpoint import metadata as m
    from torch.distributed.checkpoint.filesystem import _StorageInfo

    tensors: dict[str, m.TensorStorageMetadata] = {}
    places: dict[m.MetadataIndex, _StorageInfo] = {}
    data = scratch / "__0_0.distcp"
    with data.open("wb") as file:
        for entry in found:
            tensor = made(entry).contiguous()
            key, axis = f"model.{entry.stacked}", entry.layer is not None
            box = tensor.unsqueeze(0) if axis else tensor
            if key not in tensors:
                tensors[key] = m.TensorStorageMetadata(m.TensorProperties(dtype=box.dtype), box.size(), [])
            about = tensors[key]
            if about.properties.dtype != box.dtype:
                other = about.properties.dtype
                message = f"{entry.nemo} is {box.dtype}, and in another layer {other}: write the flat layout."
                raise ModelError(message)
            offsets = (entry.layer or 0, *([0] * tensor.dim())) if axis else (0,) * tensor.dim()
            about.size = torch.Size([len(about.chunks) + 1, *tensor.shape]) if axis else box.size()
            places[m.MetadataIndex(key, offsets, len(about.chunks))] = _append(file, box, data.name, _StorageInfo)
            about.chunks.append(m.ChunkStorageMetadata(torch.Size(offsets), box.size()))
    index = m.Metadata(
        state_dict_metadata=dict(tensors), planner_data={key: (key,) for key in tensors}, storage_data=places
    )
    for name, content in _beside().items():
        writer.add(f"{FOLDER}{name}", content)
    writer.add(f"{FOLDER}.metadata", pickle.dumps(index, protocol=4))
    writer.add(f"{FOLDER}{data.name}", data)


def _append(file: Any, box: torch.Tensor, name: str, info: Any) -> Any:
    import torch

    start = file.tell()
    torch.save(box.clone(), file)
    return info(name, start, file.tell() - start)


def _beside() -> dict[str, bytes]:
    """The two small files that Megatron-core looks for beside the tensors."""
    import torch

    common = io.BytesIO()
    torch.save({}, common)
    kinds = {
        "sharded_backend": "torch_dist",
        "sharded_backend_version": 1,
        "common_backend": "torch",
        "common_backend_version": 1,
    }
    return {"metadata.json": orjson.dumps(kinds), "common.pt": common.getvalue()}
