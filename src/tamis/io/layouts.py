"""How the rows of formats that do not say it themselves are to be understood: CSV and XML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tamis.errors import UnknownNameError, UsageError

__all__ = ["LAYOUTS", "TYPES", "CsvLayout", "Layout", "XmlLayout", "examples", "give_types", "typed", "types_of"]

TYPES: Mapping[str, Any] = {"text": "", "int": 0, "float": 0.0, "bool": False}
"""Types that a field of text can be read as, and a value of each."""

Types = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CsvLayout:
    """How a CSV file is written."""

    delimiter: str | None = None
    """What stands between fields: one ASCII character; by default a tab in files called ``.tsv`` and else a comma."""
    names: tuple[str, ...] | None = None
    """Names of the columns where the first row is not the header."""
    types: Types = ()
    """Columns that are not text, with the names of their types."""

    def __post_init__(self) -> None:
        mark = self.delimiter
        if mark is not None and (len(mark) != 1 or not mark.isascii() or mark in '"\r\n'):
            message = f"delimiter must be one ASCII character, no quotation mark and no line end, not {mark!r}."
            raise UsageError(message)
        if self.names is not None and (not self.names or len(set(self.names)) < len(self.names)):
            message = f"names must name each column once, not {list(self.names)}."
            raise UsageError(message)

    def describe(self) -> dict[str, Any]:
        """Itself as JSON."""
        return _described(self)


@dataclass(frozen=True, slots=True)
class XmlLayout:
    """Where the documents of an XML file are."""

    row: str = "row"
    """Name of the elements that are documents."""
    types: Types = ()
    """Fields that are not text, with the names of their types."""

    def __post_init__(self) -> None:
        if not self.row or re.search(r"[\s<>/&]", self.row):
            message = f"row must be the name of an element, such as 'row' or 'page', not {self.row!r}."
            raise UsageError(message)

    def describe(self) -> dict[str, Any]:
        """Itself as JSON."""
        return _described(self)


Layout = CsvLayout | XmlLayout


LAYOUTS: Mapping[str, Layout] = {"csv": CsvLayout(), "xml": XmlLayout()}
"""The usual layout of each format that has one."""


def _described(layout: Layout) -> dict[str, Any]:
    settings = asdict(layout)
    settings["types"] = dict(layout.types)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}


def types_of(types: Mapping[str, str] | None) -> Types:
    """The types as a layout holds them.

    >>> types_of({"Score": "int"})
    (('Score', 'int'),)

    Raises:
        UnknownNameError: A type is none of :data:`TYPES`.
    """
    for name, kind in (types or {}).items():
        if kind not in TYPES:
            raise UnknownNameError.of(str(kind), TYPES, kind="type", where=f"the field {name!r}")
    return tuple((types or {}).items())


_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", re.ASCII)
_WORDS = {"true": True, "1": True, "false": False, "0": False}
_MOST_DIGITS = 4000
"""Longer numbers are no numbers: Python refuses to read more than 4,300 digits, and no column can hold them."""


def typed(value: str, kind: str) -> Any:
    """The value of a field; ``None`` for a blank one that is not text.

    Integers and numbers are decimal with an optional sign, without separators; truth is true, false, 1 or 0.

    Raises:
        ValueError: The text is no value of that type.
    """
    if kind == "text":
        return value
    if not value or value.isspace():
        return None
    if kind == "int" and len(value) < _MOST_DIGITS and _INTEGER.fullmatch(value):
        return int(value)
    if kind == "float" and _NUMBER.fullmatch(value):
        return float(value)
    if kind == "bool" and value.strip().lower() in _WORDS:
        return _WORDS[value.strip().lower()]
    raise ValueError(value)


def give_types(document: dict[str, Any], types: Mapping[str, str]) -> tuple[str, str] | None:
    """Give the fields of text their types, in place; cause and sentence for the first that holds something else."""
    for name, kind in types.items():
        value = document.get(name)
        if not isinstance(value, str):
            continue
        try:
            document[name] = typed(value, kind)
        except ValueError:
            return "wrong type", f"the field {name!r} holds {value[:60]!r}, which is no {kind}"
    return None


def examples(types: Types) -> dict[str, Any]:
    """A value of each declared type by field: what a record looks like that has all of them."""
    return {name: TYPES[kind] for name, kind in types}
