"""The index of a distributed checkpoint (``.metadata``), a pickle, read without running anything that it names.

A pickle may name any function and have it called. Here nothing is imported: a name becomes a stand-in that keeps what
it is given, and only names that such an index is made of are admitted at all.
"""

from __future__ import annotations

import io
import pickle  # the format is a pickle; what it names are stand-ins
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from tamis.errors import InputError

__all__ = ["Chunk", "Stored", "read_index"]

_MOST_BYTES = 1 << 30
_ADMITTED = re.compile(
    r"torch\.distributed\.checkpoint\.metadata\.\w+"
    r"|torch\.distributed\.checkpoint\.(filesystem|_fsspec_filesystem|storage)\.\w+"
    r"|torch\.(Size|strided|[a-z]*float\w*|u?int\d+|bool|half|double)"
    r"|torch\.serialization\._get_layout"
    r"|megatron\.core\.dist_checkpointing\.\w[\w.]*"
    r"|pathlib\.\w*(Posix|Windows)?Path|pathlib\._local\.\w*Path"
    r"|collections\.(OrderedDict|ChainMap)"
)


@dataclass(frozen=True)
class Chunk:
    """A box of a tensor, and the bytes that hold it."""

    offsets: tuple[int, ...]
    file: str
    start: int
    length: int


@dataclass(frozen=True)
class Stored:
    """A tensor that is stored in boxes."""

    shape: tuple[int, ...]
    dtype: str
    """``torch``'s name of it, such as ``bfloat16``."""
    chunks: tuple[Chunk, ...]


class _StandIn:
    """An object of a class that was never imported: what it was made of, and its attributes."""

    named = ""

    def __init__(self, *given: Any) -> None:
        self.given = given

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state if isinstance(state, dict) else {"state": state})


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if not _ADMITTED.fullmatch(full):
            message = f"it names {full}, which no index of tensors needs"
            raise pickle.UnpicklingError(message)
        if module == "torch" and name != "Size":
            return _StandIn(full)
        if name == "Size":
            return _size
        if name == "OrderedDict":
            return dict
        return type(name, (_StandIn,), {"named": full})

    def persistent_load(self, pid: Any) -> Any:
        message = "it refers to objects outside of it"
        raise pickle.UnpicklingError(message)


def _size(values: Any = ()) -> tuple[int, ...]:
    return tuple(int(v) for v in values)


def read_index(file: IO[bytes], where: str) -> dict[str, Stored]:
    """The tensors of a distributed checkpoint by name; entries that are no tensors are left out.

    Raises :class:`InputError` where it cannot be understood, or names what such an index does not need.
    """
    content = file.read(_MOST_BYTES + 1)
    try:
        if len(content) > _MOST_BYTES:
            message = "it is larger than 1 GB"
            raise pickle.UnpicklingError(message)  # noqa: TRY301  one sentence for all of them
        whole = _Reader(io.BytesIO(content)).load()
        places = {
            (key.fqn, tuple(getattr(key, "offset", None) or ())): info for key, info in whole.storage_data.items()
        }
        return {
            name: _stored(name, about, places)
            for name, about in whole.state_dict_metadata.items()
            if getattr(type(about), "named", "").endswith(".TensorStorageMetadata")
        }
    except (
        pickle.UnpicklingError,
        EOFError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RecursionError,
        MemoryError,
    ) as error:
        message = f"{where}: the index of tensors cannot be used: {error}."
        raise InputError(message) from error


def _stored(name: str, about: Any, places: Mapping[tuple[str, tuple[int, ...]], Any]) -> Stored:
    chunks = []
    for chunk in about.chunks:
        info = places[name, chunk.offsets]
        if getattr(info, "transform_descriptors", None):
            message = f"{name} is compressed or encrypted, which is not read"
            raise ValueError(message)
        start = int(getattr(info, "offset", 0))
        chunks.append(Chunk(chunk.offsets, str(info.relative_path), start, int(info.length)))
    return Stored(about.size, _dtype(about.properties), tuple(chunks))


def _dtype(properties: Any) -> str:
    dtype = properties.state[0] if hasattr(properties, "state") else properties.dtype
    return str(dtype.given[0]).removeprefix("torch.")
