"""JSON values to Arrow arrays, strictly: a value that does not fit its column is said so, never bent.

``pyarrow.array`` alone turns 3.5 into 3 for an int64 column, drops unknown keys of a struct and takes ``True``
for 1.0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any

import orjson
import pyarrow as pa

from tamis.io.schema import is_json

__all__ = ["convert", "json_text", "misfits"]

_ERRORS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, UnicodeEncodeError)


def convert(values: Sequence[Any], field: pa.Field) -> pa.Array | None:
    """The values as an array of the field's type, or ``None`` when one of them does not fit."""
    if is_json(field):
        return pa.array([None if v is None else json_text(v) for v in values], field.type)
    kind = field.type
    types = set(map(type, values))
    if not _plain_enough(types, kind) and not all(_fits(v, kind) for v in values):
        return None
    try:
        if (
            str in types
            and types <= {str, NoneType}
            and not (pa.types.is_string(kind) or pa.types.is_large_string(kind))
        ):
            return pa.array(values, pa.string()).cast(kind)
        return pa.array(values, kind)
    except _ERRORS:
        return None


def json_text(value: Any) -> str:
    """A parsed JSON value as JSON text, however deep it is (orjson reads 1,024 levels and writes 254)."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        pass
    out: list[str] = []
    left: list[tuple[bool, Any]] = [(True, value)]  # (whether it is a value, or else text to be written as it is)
    while left:
        is_value, item = left.pop()
        if not is_value:
            out.append(item)
        elif type(item) is list:
            parts = [part for inner in item for part in ((False, ","), (True, inner))]
            left += [(False, "]"), *reversed(parts[1:]), (False, "[")]
        elif type(item) is dict:
            parts = [
                part
                for name, inner in item.items()
                for part in ((False, "," + orjson.dumps(name).decode() + ":"), (True, inner))
            ]
            if parts:
                parts[0] = (False, parts[0][1][1:])
            left += [(False, "}"), *reversed(parts), (False, "{")]
        else:
            # orjson writes integers up to 64 bits only.
            out.append(str(item) if type(item) is int else orjson.dumps(item).decode())
    return "".join(out)


def misfits(values: Sequence[Any], field: pa.Field) -> list[int]:
    """The positions of the values that do not fit."""
    return [i for i, value in enumerate(values) if convert([value], field) is None]


_PLAIN: tuple[tuple[Callable[[pa.DataType], bool], set[type]], ...] = (
    (pa.types.is_string, {str}),
    (pa.types.is_large_string, {str}),
    (pa.types.is_integer, {int}),
    (pa.types.is_floating, {float, int}),
    (pa.types.is_boolean, {bool}),
    (pa.types.is_null, set()),
)


def _allowed(kind: pa.DataType) -> set[type] | None:
    """Python types of the values of a plain column; ``None`` for other columns."""
    return next((types for is_kind, types in _PLAIN if is_kind(kind)), None)


def _plain_enough(types: set[type], kind: pa.DataType) -> bool:
    allowed = _allowed(kind)
    return allowed is not None and types <= allowed | {NoneType}


def _fits(value: Any, kind: pa.DataType) -> bool:
    if value is None:
        return True
    allowed = _allowed(kind)
    if allowed is not None:
        return type(value) in allowed
    if pa.types.is_struct(kind):
        if type(value) is not dict:
            return False
        inner = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
        return all(name in inner and _fits(v, inner[name]) for name, v in value.items())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return type(value) is list and all(_fits(v, kind.value_type) for v in value)
    # Dates, times and decimals are written as text in JSON; the cast decides.
    return type(value) is str
