"""Rows to tune on: a prompt, the completion it is to have, and where the prompt may be cut."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UnknownNameError, UsageError
from tamis.stage import Fold, FoldThenStage, Needs, Stage, TableFunction
from tamis.table import is_text, mark, put, require
from tamis.tags import format_tags, parse_tags

__all__ = ["TAGGING", "PromptCompletion", "TagCounts", "TagList"]

TAGGING = (
    "Give the tags of the question below as a plain list, divided by commas.\n\n"
    "Title: {title}\nQuestion: {question}\nTags:\n"
)
"""The template that a :class:`PromptCompletion` has where none is given."""


@dataclass(frozen=True)
class PromptCompletion(Stage):
    """Makes the columns that a tuning run reads: ``prompt``, ``prompt_body``, ``completion`` and ``tags``.

    ``prompt`` (string) is the template with the columns in their places. ``prompt_body`` (list<int64>) is
    ``[start, end]``, in characters of the prompt: the text of ``body``, which a tuning run and a generation shorten,
    from its end, where the prompt does not fit their window. ``tags`` (list<string>) are the document's tags, in
    whatever form they were (:func:`tamis.tags.parse_tags`), and ``completion`` (string) lists them with commas.

    A null is nothing in a prompt. What a column holds is never read as a template.
    """

    template: str = TAGGING
    """Text with names of columns in braces; a brace itself is written twice."""
    body: str = "question"
    """The column of the template that may be cut."""
    tags: str = "tags"
    """Column that the tags are read from."""
    untagged: Literal["drop", "keep"] = "drop"
    """What becomes of documents without tags: nothing can be learned from them, but answers can be made for them."""
    clears: Sequence[str] = ()
    """Columns set to null once they are in the prompt, so that no text is written twice."""

    def __post_init__(self) -> None:
        names = [name for _, name in _parts(self.template) if name]
        if self.body not in names:
            raise UnknownNameError.of(self.body, set(names), kind="column", where="the template of PromptCompletion")
        if names.count(self.body) > 1:
            message = f"the template of PromptCompletion has {{{self.body}}} twice; the part that may be cut is one."
            raise UsageError(message)
        if self.untagged not in {"drop", "keep"}:
            message = f"untagged must be 'drop' or 'keep'; got {self.untagged!r}."
            raise UsageError(message)

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the template's columns and the tags, makes the four columns."""
        names = list(dict.fromkeys(name for _, name in _parts(self.template) if name))
        nothing = pa.null()
        kinds = {name: schema.field(name).type if name in schema.names else pa.string() for name in names}
        texts = tuple(name for name, kind in kinds.items() if is_text(kind) or kind == nothing)
        reads = [name for name in names if name not in texts]
        made = (
            pa.field("prompt", _text_type(schema, "prompt")),
            pa.field("prompt_body", pa.list_(pa.int64())),
            pa.field("completion", _text_type(schema, "completion")),
            pa.field("tags", pa.list_(pa.string())),
        )
        own = {field.name for field in made}
        cleared = tuple(schema.field(n) for n in self.clears if n in schema.names and n not in own)
        return Needs(texts=texts, reads=(*reads, self.tags, *self._unread(names)), makes=(*made, *cleared))

    def _unread(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in self.clears if name not in {*names, self.tags})

    def open(self) -> TableFunction:
        """The function that makes the columns."""
        parts = _parts(self.template)

        def run(table: pa.Table) -> pa.Table:
            pieces: list[Any] = []
            start = body = None
            for literal, name in parts:
                pieces.append(pa.scalar(literal, pa.large_string()))
                if name:
                    column = _whole(require(table, name, self.name))
                    if name == self.body:
                        start, body = _length(pieces, table.num_rows), pc.fill_null(pc.utf8_length(column), 0)
                    pieces.append(column)
            tags = [parse_tags(value) for value in require(table, self.tags, self.name).to_pylist()]
            prompts = _joined(pieces, table.num_rows).cast(pa.string())
            for name in self.clears:
                kind = require(table, name, self.name).type
                table = put(table, name, pa.nulls(table.num_rows, kind))
            table = put(table, "prompt", prompts)
            table = put(table, "prompt_body", _pairs(start, body, table.num_rows))
            table = put(table, "completion", pa.array([format_tags(each) for each in tags], pa.string()))
            table = put(table, "tags", pa.array([list(each) for each in tags], pa.list_(pa.string())))
            if self.untagged == "keep":
                return table
            return mark(table, pa.array([None if each else "has no tags" for each in tags], pa.string()))

        return run


def _parts(template: str) -> list[tuple[str, str]]:
    """The template as (text, column after it); no column after the last.

    >>> _parts("a {b}{c} {{d}}")
    [('a ', 'b'), ('', 'c'), (' {', ''), ('d}', '')]
    """
    found = []
    try:
        for literal, name, form, conversion in string.Formatter().parse(template):
            if name == "" or form or conversion:
                message = "between its braces there are names of columns and nothing else"
                raise ValueError(message)  # noqa: TRY301  said once, below
            found.append((literal, name or ""))
    except ValueError as error:
        message = f"the template {template!r} cannot be used: {error}. A brace that is text is written twice."
        raise UsageError(message) from error
    return found


def _text_type(schema: pa.Schema, name: str) -> pa.DataType:
    found = schema.field(name).type if name in schema.names else pa.string()
    return found if is_text(found) else pa.string()


def _whole(column: pa.ChunkedArray) -> pa.LargeStringArray:
    """A column as text, in one piece."""
    texts = column.cast(pa.large_string())
    return texts.chunk(0) if texts.num_chunks == 1 else pa.concat_arrays([*texts.chunks, pa.array([], texts.type)])


def _joined(pieces: list[Any], rows: int) -> pa.Array:
    """The pieces, columns and constants, one after the other; a null is nothing."""
    if not any(isinstance(piece, pa.Array) for piece in pieces):
        return pa.array(["".join(piece.as_py() for piece in pieces)] * rows, pa.large_string())
    nothing = pa.scalar("", pa.large_string())
    return pc.binary_join_element_wise(*pieces, nothing, null_handling="replace", null_replacement="")


def _length(pieces: list[Any], rows: int) -> pa.Array:
    """Characters before what comes next, int64 of shape (rows,)."""
    return pc.utf8_length(_joined(pieces, rows))


def _pairs(start: Any, length: Any, rows: int) -> pa.ListArray:
    """``[start, start + length]`` of every row."""
    first = start.cast(pa.int64()).to_numpy(zero_copy_only=False)
    values = np.stack([first, first + length.cast(pa.int64()).to_numpy(zero_copy_only=False)], axis=1).ravel()
    return pa.ListArray.from_arrays(np.arange(0, 2 * rows + 1, 2, dtype=np.int32), pa.array(values, pa.int64()))


# -- the list of tags ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TagCounts(Fold[Counter[str], dict[str, int]]):
    """How many documents have each tag: the most frequent first, equally frequent ones in the alphabet's order."""

    tags: str = "tags"
    """Column that the tags are read from, in any form that :func:`tamis.tags.parse_tags` understands."""

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the tags."""
        return Needs(reads=(self.tags,))

    def start(self) -> Counter[str]:
        """No tags."""
        return Counter()

    def add(self, state: Counter[str], table: pa.Table) -> Counter[str]:
        """Count the tags of a table's documents."""
        for value in require(table, self.tags, self.name).to_pylist():
            state.update(parse_tags(value))
        return state

    def merge(self, left: Counter[str], right: Counter[str]) -> Counter[str]:
        """Both."""
        left.update(right)
        return left

    def finish(self, state: Counter[str]) -> dict[str, int]:
        """Tags and documents, in order."""
        return dict(sorted(state.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True)
class TagList(FoldThenStage):
    """Adds a column with the most frequent tags of all documents, the same list in each: for a prompt's ``{tag_list}``.

    The documents before this step are read once more to count. So it stands before the steps that cost time, and
    :class:`PromptCompletion` clears the column once the list is in the prompt.
    """

    most: int = 100
    """How many tags; a tag is about four tokens of the window."""
    tags: str = "tags"
    """Column that the tags are read from."""
    column: str = "tag_list"
    """Column that is made (string): tags divided by commas, the most frequent first."""

    def __post_init__(self) -> None:
        if self.most < 1:
            message = f"most must be at least 1; got {self.most}."
            raise UsageError(message)

    def needs(self, schema: pa.Schema) -> Needs:
        """Makes the column."""
        return Needs(reads=(self.tags,), makes=(pa.field(self.column, _text_type(schema, self.column)),))

    def fold(self) -> Fold[Any, Any]:
        """Count the tags."""
        return TagCounts(self.tags)

    def then(self, result: Mapping[str, int]) -> Stage:
        """The stage that adds the list."""
        return ListedTags(self, tuple(result)[: self.most])


@dataclass(frozen=True)
class ListedTags(Stage):
    """The second half of :class:`TagList`: the tags are known."""

    asked: TagList
    found: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the step it stands for."""
        return self.asked.name

    def needs(self, schema: pa.Schema) -> Needs:
        """What was asked for."""
        return self.asked.needs(schema)

    def open(self) -> TableFunction:
        """The function that adds the column."""
        listed = format_tags(self.found)

        def run(table: pa.Table) -> pa.Table:
            return put(table, self.asked.column, pa.array([listed] * table.num_rows, pa.string()))

        return run
