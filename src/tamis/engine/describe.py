"""A step as plain JSON: what a plan prints, and what a run's fingerprint is made of."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tamis.hashing import fingerprint
from tamis.stage import Stage

__all__ = ["describe", "digest"]


def digest(value: object) -> str:
    """The fingerprint of a description: equal descriptions, equal digests, in any process."""
    return fingerprint(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def describe(value: Any) -> Any:
    """``value`` as JSON: settings by name, and a hash of the code where the code is the user's own.

    A run is resumed only where the description is the same; so an edited filter of the user's starts a new run,
    while a new version of Python does not.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, pc.Expression | pa.DataType | pa.Field):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return fingerprint(bytes(value))
    if isinstance(value, Mapping):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [describe(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted((describe(v) for v in value), key=str)
    if inspect.isfunction(value) or inspect.isbuiltin(value) or inspect.isclass(value):
        return {"function": f"{value.__module__}.{value.__qualname__}", **_code(value)}
    return _describe_object(value)


def _describe_object(value: object) -> dict[str, Any]:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__.startswith("tamis.") else f"{kind.__module__}.{kind.__qualname__}"
    if dataclasses.is_dataclass(value):
        settings = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if _is_told(f)}
    else:
        settings = dict(vars(value)) if hasattr(value, "__dict__") else {"repr": repr(value)}
    identity = value.identity() if isinstance(value, Stage) else {}
    beyond = {"identity": dict(identity)} if identity else {}
    return {"use": name, **{k: describe(v) for k, v in settings.items()}, **_code(kind), **beyond}


def _is_told(field: dataclasses.Field[Any]) -> bool:
    """Whether a setting belongs to a description: not a secret, and not one that only says how a stage runs."""
    return field.repr and not field.metadata.get("secret") and not field.metadata.get("tuning")


def _code(value: Callable[..., object] | type) -> dict[str, str]:
    module = value.__module__ or ""
    if module.split(".")[0] == "tamis" or inspect.isbuiltin(value):
        return {}
    try:
        return {"code": fingerprint(inspect.getsource(value).encode())}
    except (OSError, TypeError):
        # No source (a notebook cell that is gone, an exec): the compiled code says the same.
        functions = [value] if inspect.isfunction(value) else [f for f in vars(value).values() if inspect.isfunction(f)]
        return {"code": fingerprint(b"".join(_bytecode(f.__code__) for f in functions))}


def _bytecode(code: CodeType) -> bytes:
    constants = b"".join(_bytecode(c) if isinstance(c, CodeType) else repr(c).encode() for c in code.co_consts)
    return code.co_code + constants + " ".join(code.co_names).encode()
