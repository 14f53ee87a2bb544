"""The plan: a source and its steps, checked before the first byte is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tamis.errors import MissingColumnError, UsageError
from tamis.io.source import Source
from tamis.stage import AnyStep, Fold, FoldThenStage, Needs, Stage, Step, labels
from tamis.table import RESERVED, is_text

__all__ = ["Checked", "Plan", "check", "labels", "stages_of", "with_id"]


@dataclass(frozen=True)
class Plan:
    """Documents and what happens to them; nothing runs until an engine is given it."""

    source: Source
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Checked:
    """What checking a plan found out."""

    schema: pa.Schema
    """The columns at the end."""
    texts: tuple[str, ...]
    """Columns of the input that are read as text."""
    reads: tuple[str, ...]
    """Further columns of the input that are read."""
    made: tuple[str, ...]
    """Columns that steps add or replace, in the order of their first making."""
    needs: tuple[Needs, ...]
    """What each step needs."""
    replaces: tuple[tuple[str, ...], ...]
    """Columns that each step replaces."""


def _followed(schema: pa.Schema, steps: Sequence[AnyStep]) -> Iterator[tuple[str, Needs, pa.Schema, pa.Schema]]:
    """(label, needs, columns before, columns after) of each step."""
    for label, step in zip(labels(steps), steps, strict=True):
        needs = step.needs(schema)
        after = schema
        for field in needs.makes:
            index = after.get_field_index(field.name)
            after = after.append(field) if index < 0 else after.set(index, field)
        yield label, needs, schema, after
        schema = after


def check(source: Source, steps: Sequence[Step], folds: Sequence[Fold[Any, Any]] = ()) -> Checked:
    """Follow the columns through the steps; raise where one is missing or has the wrong type.

    Call :func:`with_id` first, so that the source makes an ``id`` where one is read.
    """
    texts: dict[str, None] = {}
    reads: dict[str, None] = {}
    made: dict[str, None] = {}
    all_needs: list[Needs] = []
    replaces: list[tuple[str, ...]] = []
    schema = source.schema
    for label, needs, before, after in _followed(source.schema, [*steps, *folds]):
        _check_reads(label, needs, before)
        all_needs.append(needs)
        replaces.append(tuple(field.name for field in needs.makes if field.name in before.names))
        texts.update(dict.fromkeys(name for name in needs.texts if name not in made))
        reads.update(dict.fromkeys(name for name in needs.reads if name not in made))
        for field in needs.makes:
            if field.name in RESERVED:
                message = f"{label} makes a column {field.name!r}, a name that Tamis uses itself. Choose another name."
                raise UsageError(message)
            made[field.name] = None
        schema = after
    rest = tuple(n for n in reads if n not in texts)
    return Checked(schema, tuple(texts), rest, tuple(made), tuple(all_needs), tuple(replaces))


def with_id(source: Source, steps: Sequence[Step], extra: Sequence[Fold[Any, Any]] = ()) -> Source:
    """The source, with ids made where a step reads ``id`` and the documents bring none.

    Randomness is a function of (seed, id); this is why documents without one get one.
    """
    if "id" in source.schema.names or source.extras.id is not None:
        return source
    for _, needs, before, _ in _followed(source.schema, [*steps, *extra]):
        if "id" in (*needs.texts, *needs.reads) and "id" not in before.names:
            return source.with_id("id")
    return source


def _check_reads(label: str, needs: Needs, schema: pa.Schema) -> None:
    for name in (*needs.texts, *needs.reads):
        if name not in schema.names:
            raise MissingColumnError.of(name, label, schema.names)
    for name in needs.texts:
        field = schema.field(name)
        if not (is_text(field.type) or pa.types.is_null(field.type)):
            strings = [f.name for f in schema if is_text(f.type) and not f.metadata]
            message = (
                f"{label} reads the column {name!r} as text, but it is {field.type}. "
                f"Columns that are text: {', '.join(strings) or 'none'}."
            )
            raise UsageError(message)


def stages_of(steps: Sequence[Step]) -> tuple[Stage, ...]:
    """The steps as stages, once every fold-then-stage has been resolved."""
    unresolved = [step.name for step in steps if isinstance(step, FoldThenStage)]
    if unresolved:
        message = f"{', '.join(unresolved)} must see the whole dataset first; run the plan instead."
        raise UsageError(message)
    return tuple(step for step in steps if isinstance(step, Stage))
