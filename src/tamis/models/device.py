"""Which device and which number format a model runs in."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from tamis.errors import ModelError, hint

__all__ = [
    "INT8_IS_FOR",
    "OUT_OF_MEMORY",
    "DeviceName",
    "DtypeName",
    "empty_cache",
    "free_memory",
    "pick_device",
    "pick_dtype",
]

DeviceName = str
"""``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps`` …"""
DtypeName = Literal["auto", "float32", "bfloat16", "float16", "int8"]

INT8_IS_FOR = "int8 is for BERT and DeBERTa encoders, run packed, on a processor with VNNI; use auto."

OUT_OF_MEMORY: tuple[type[BaseException], ...] = (torch.OutOfMemoryError, MemoryError)
"""What a device raises that has no memory left; told by type, never by the text of a message."""


def pick_device(name: str, *, who: str) -> torch.device:
    """The device of that name; ``auto`` takes a CUDA device, else Apple's, else the processor.

    Raises:
        ModelError: There is no such device here.
    """
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if here[kind]))
    kind = name.partition(":")[0]
    if kind not in here:
        message = f"{who}: there is no device {name!r}. {hint(name, ['auto', *here])}"
        raise ModelError(message)
    if not here[kind]:
        message = f"{who}: device={name!r} was asked for, and this machine (or this build of torch) has none. Use auto."
        raise ModelError(message)
    return torch.device(name)


def pick_dtype(name: str, device: torch.device, *, who: str, int8: bool = False) -> torch.dtype:
    """The number format of that name; ``auto`` takes bfloat16 where the hardware multiplies in it, else float32.

    On a processor that is where it has AVX512-BF16 or AMX: elsewhere bfloat16 is emulated, and slower than float32.

    ``int8`` says that the model may have products in bytes, which ``auto`` never picks.

    Raises:
        ModelError: No such format, int8 where it is not to be had, or float16 on a processor, which has no fast path
            for it (5 to 10 times slower).
    """
    names = get_args(DtypeName)
    if name not in names:
        message = f"{who}: there is no dtype {name!r}. {hint(name, names)}"
        raise ModelError(message)
    if name == "float16" and device.type == "cpu":
        message = f"{who}: float16 has no fast path on a processor; use bfloat16, or auto."
        raise ModelError(message)
    if name == "int8":
        if not int8 or device.type != "cpu":
            message = f"{who}: {INT8_IS_FOR}"
            raise ModelError(message)
        return torch.int8
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu":
        return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32  # noqa: SLF001  no public name
    return torch.float32


def free_memory(device: torch.device) -> int | None:
    """Bytes a batch may use on the device: free ones and those that torch holds unused; None for a processor."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def empty_cache() -> None:
    """Give memory that torch holds unused back to the devices, after one had none left."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
