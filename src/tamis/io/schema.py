"""Deciding one Arrow schema for JSON documents: the union of what every record looks like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

__all__ = ["Shape", "is_json", "json_field"]

_MANY_KEYS = 64
"""An object with more distinct keys than this is a map in disguise; it stays JSON text."""
_MOST_LEVELS = 32
"""A field nested deeper than this stays JSON text: Arrow and Parquet can hold it, the tools that read them cannot."""
_EXACT_FLOAT = 1 << 53
_JSON = {b"tamis": b"json"}


def json_field(name: str) -> pa.Field:
    """A column of JSON text: for fields whose values fit no one Arrow type."""
    return pa.field(name, pa.large_string(), metadata=_JSON)


def is_json(field: pa.Field) -> bool:
    """Whether a column holds JSON text that stands for the values themselves."""
    return bool(field.metadata) and field.metadata.get(b"tamis") == b"json"


class Kind:
    """What the values of one field have been so far. Mergeable in any order."""

    __slots__ = ("fields", "high", "item", "low", "types")

    def __init__(self) -> None:
        self.types: set[str] = set()
        self.low = 0
        self.high = 0
        self.fields: dict[str, Kind] = {}
        self.item: Kind | None = None

    def see(self, value: Any, level: int = 0) -> None:
        """Take a value into account; ``level`` says how deep in a field it lies."""
        kind = type(value)
        if kind is str:
            self.types.add("string")
        elif kind is int:
            self.types.add("int")
            self.low, self.high = min(self.low, value), max(self.high, value)
        elif level == _MOST_LEVELS and kind in (dict, list):
            self.types.add("deep")
        elif kind is dict:
            self.types.add("struct")
            for name, inner in value.items():
                self._field(name).see(inner, level + 1)
        elif kind is list:
            self.types.add("list")
            self.item = self.item or Kind()
            for inner in value:
                self.item.see(inner, level + 1)
        elif value is not None:
            self.types.add("bool" if kind is bool else "float")

    def _field(self, name: str) -> Kind:
        found = self.fields.get(name)
        if found is None:
            # Past the limit the struct is JSON text anyway; one more key says so, further ones need no memory.
            found = Kind()
            if len(self.fields) <= _MANY_KEYS:
                self.fields[name] = found
        return found

    def merge(self, other: Kind) -> None:
        """Take all that another has seen into account."""
        self.types |= other.types
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        for name, kind in other.fields.items():
            self._field(name).merge(kind)
        if other.item is not None:
            self.item = self.item or Kind()
            self.item.merge(other.item)

    def to_arrow(self, *, sure: bool) -> pa.DataType | None:
        """The Arrow type that fits all values, ``None`` where none does.

        With ``sure``, every record has been seen: a nested field that was always null stays null. Without, a
        later record may hold anything there.
        """
        if not self.types:
            return pa.null() if sure else None
        if self.types == {"int"}:
            return self._integer()
        if self.types <= {"int", "float"}:
            return pa.float64() if self.low >= -_EXACT_FLOAT and self.high <= _EXACT_FLOAT else None
        if len(self.types) > 1 or "deep" in self.types:
            return None
        if "struct" in self.types:
            return self._struct(sure=sure)
        if self.item is not None:
            inner = self.item.to_arrow(sure=sure)
            return None if inner is None else pa.list_(inner)
        return {"string": pa.large_string(), "bool": pa.bool_()}[next(iter(self.types))]

    def _integer(self) -> pa.DataType | None:
        if self.low >= -(1 << 63) and self.high < 1 << 63:
            return pa.int64()
        return pa.uint64() if self.low >= 0 and self.high < 1 << 64 else None

    def _struct(self, *, sure: bool) -> pa.DataType | None:
        if not 0 < len(self.fields) <= _MANY_KEYS:
            return None
        inner = {name: kind.to_arrow(sure=sure) for name, kind in sorted(self.fields.items())}
        return None if None in inner.values() else pa.struct(list(inner.items()))


class Shape:
    """What the records of an input look like, field by field, in the order in which fields were first seen."""

    def __init__(self) -> None:
        self._fields: dict[str, Kind] = {}

    def observe(self, documents: Iterable[Mapping[str, Any]]) -> Shape:
        """Take documents into account."""
        fields = self._fields
        for document in documents:
            for name, value in document.items():
                kind = fields.get(name)
                if kind is None:
                    kind = fields[name] = Kind()
                kind.see(value)
        return self

    def merge(self, other: Shape) -> Shape:
        """Take all that another has seen into account."""
        for name, kind in other._fields.items():
            self._fields.setdefault(name, Kind()).merge(kind)
        return self

    def to_arrow(self, *, sure: bool = True) -> pa.Schema:
        """The schema; fields that fit no one type, and those that were always null, become JSON text."""
        found = {name: kind.to_arrow(sure=sure) for name, kind in self._fields.items()}
        return pa.schema(
            [
                json_field(name) if kind is None or pa.types.is_null(kind) else pa.field(name, kind)
                for name, kind in found.items()
            ]
        )
