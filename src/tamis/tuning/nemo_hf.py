"""Directories as Hugging Face has them: safetensors read tensor by tensor, and written in shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.errors import InputError, ModelError

if TYPE_CHECKING:
    import torch

__all__ = ["SHARD_BYTES", "Tensors", "read_json", "write_json", "write_shards"]

SHARD_BYTES = 2 << 30
"""Largest shard, and so what is in memory at most."""
_ONE, _INDEX = "model.safetensors", "model.safetensors.index.json"

Shape = tuple[int, ...]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror or error}."
        raise InputError(message) from error
    except ValueError as error:
        message = f"{path} is no JSON: {error}."
        raise InputError(message) from error
    if not isinstance(content, dict):
        message = f"{path} holds no object."
        raise InputError(message)
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object, one key on a line."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class Tensors:
    """The tensors of a directory of safetensors, loaded one at a time."""

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        if (folder / _INDEX).is_file():
            names = sorted(set(read_json(folder / _INDEX).get("weight_map", {}).values()))
        elif (folder / _ONE).is_file():
            names = [_ONE]
        else:
            pickled = [p.name for p in folder.glob("*.bin")]
            why = f"only pickled weights ({pickled[0]}); save the model as safetensors" if pickled else "no weights"
            message = f"{folder} holds {why}: neither {_ONE} nor {_INDEX}."
            raise ModelError(message)
        self._files: dict[str, Any] = {}
        self.shapes: dict[str, Shape] = {}
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                message = f"{folder} lacks {name}, which its index names."
                raise InputError(message)
            try:
                opened = safe_open(folder / name, framework="pt")
                for key in opened.keys():  # noqa: SIM118  no mapping, though it looks like one
                    self._files[key] = opened
                    self.shapes[key] = tuple(opened.get_slice(key).get_shape())
            except (SafetensorError, OSError) as error:
                message = f"{folder / name} cannot be read as safetensors: {error}. Copy or download it again."
                raise InputError(message) from error

    def get(self, name: str) -> torch.Tensor:
        """Load one."""
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor


def write_shards(
    folder: Path,
    shapes: Mapping[str, Shape],
    bytes_each: int,
    groups: Mapping[str, Callable[[], Mapping[str, torch.Tensor]]],
) -> int:
    """Write tensors as ``model.safetensors``, or as shards with an index; returns how many bytes they are.

    Args:
        folder: An existing directory.
        shapes: Of all tensors, to know the shards before the first is written.
        bytes_each: Of a number.
        groups: What makes some of the tensors at a time, by the names of all that it makes, joined by blanks.
    """
    from safetensors.torch import save_file

    def size(names: str) -> int:
        return sum(bytes_each * _numbers(shapes[name]) for name in names.split())

    shards: list[list[str]] = [[]]
    room = SHARD_BYTES
    for names in groups:
        if size(names) > room and shards[-1]:
            shards.append([])
            room = SHARD_BYTES
        shards[-1].append(names)
        room -= size(names)
    total, placed = 0, {}
    for number, shard in enumerate(shards, start=1):
        name = _ONE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors: dict[str, torch.Tensor] = {}
        for names in shard:
            tensors.update(groups[names]())
        save_file(tensors, folder / name, metadata={"format": "pt"})
        placed.update(dict.fromkeys(tensors, name))
        total += sum(t.numel() * t.element_size() for t in tensors.values())
    if len(shards) > 1:
        write_json(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": placed})
    return total


def _numbers(shape: Shape) -> int:
    count = 1
    for n in shape:
        count *= n
    return count
