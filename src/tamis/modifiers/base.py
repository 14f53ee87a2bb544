"""What every modifier is, and the stage that runs one."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import StageError
from tamis.stage import Needs, Stage, TableFunction
from tamis.table import is_text, put, text, true_mask

__all__ = ["DocumentModifier", "Modify", "applied", "replaced", "substituted"]


class DocumentModifier(ABC):  # noqa: B024  either the document or the batch method is overridden
    """How to change a text.

    Override :meth:`modify_document`, or for speed :meth:`modify_batch`. What becomes of a text may depend on that
    text alone. Null texts stay null and are not given to :meth:`modify_document`.
    """

    def modify_document(self, text: str) -> str:
        """The text, changed or not."""
        kind = type(self)
        if kind.modify_batch is DocumentModifier.modify_batch and kind.open is DocumentModifier.open:
            message = f"{kind.__name__} defines neither modify_document nor modify_batch."
            raise StageError(message)
        return str(self.open()(pa.array([text], pa.large_string()))[0].as_py())

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts, changed or not; nulls stay null."""
        changed = [None if t is None else self.modify_document(t) for t in texts.to_pylist()]
        return pa.array(changed, pa.large_string())

    def open(self) -> Callable[[pa.LargeStringArray], pa.Array]:
        """What a worker runs on every batch; override it to load once what cannot travel, such as weights."""
        return self.modify_batch

    @property
    def runs_on(self) -> Literal["cpu", "accelerator"]:
        """Where it runs; see :class:`tamis.stage.Needs`."""
        return "cpu"

    @property
    def window(self) -> int:
        """Texts that it wants to see at once; see :class:`tamis.stage.Needs`."""
        return 0

    def identity(self) -> Mapping[str, str]:
        """What its answers depend on besides its settings; see :meth:`tamis.stage.Stage.identity`."""
        return {}


@dataclass(frozen=True)
class Modify(Stage):
    """Changes the text of each document."""

    modifier: DocumentModifier | Callable[[str], str]
    """A modifier, or a function from a text to a text."""
    text_field: str | None = None
    """Column that is changed; the dataset's text field by default."""

    @property
    def name(self) -> str:
        """The modifier's name."""
        return getattr(self.modifier, "__name__", None) or type(self.modifier).__name__

    def on_text_field(self, text_field: str) -> Modify:
        """The dataset's text field, where none was named."""
        return replace(self, text_field=text_field) if self.text_field is None else self

    @property
    def may_drop(self) -> bool:
        """Never."""
        return False

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads and replaces the text, keeping its type."""
        name = self.text_field or "text"
        found = schema.field(name) if name in schema.names else None
        kind = found.type if found is not None and is_text(found.type) else pa.large_string()
        makes = (pa.field(name, kind),)
        if not isinstance(self.modifier, DocumentModifier):
            return Needs(texts=(name,), makes=makes)
        return Needs(texts=(name,), makes=makes, device=self.modifier.runs_on, window=self.modifier.window)

    def identity(self) -> Mapping[str, str]:
        """What the modifier says."""
        return self.modifier.identity() if isinstance(self.modifier, DocumentModifier) else {}

    def open(self) -> TableFunction:
        """The function that replaces the column."""
        field, change = self.text_field or "text", self.modifier
        batch = change.open() if isinstance(change, DocumentModifier) else None

        def run(table: pa.Table) -> pa.Table:
            texts = text(table, field, self.name)
            if batch is not None:
                return put(table, field, batch(texts))
            changed = [None if t is None else change(t) for t in texts.to_pylist()]  # type: ignore[operator]
            return put(table, field, pa.array(changed, pa.large_string()))

        return run


def replaced(texts: pa.LargeStringArray, rows: npt.NDArray[np.bool_], values: pa.Array) -> pa.LargeStringArray:
    """The texts with those of ``rows`` replaced by ``values``."""
    return pc.replace_with_mask(texts, pa.array(rows), values.cast(texts.type))


def applied(
    texts: pa.LargeStringArray, rows: npt.NDArray[np.bool_], change: Callable[[str], str]
) -> pa.LargeStringArray:
    """The texts with those of ``rows``, none of them null, changed by a function; the same array if none changes."""
    if not rows.any():
        return texts
    before = texts.filter(pa.array(rows)).to_pylist()
    after = [change(text) for text in before]
    return texts if after == before else replaced(texts, rows, pa.array(after, pa.large_string()))


def substituted(
    texts: pa.LargeStringArray, triggers: tuple[str, ...], pattern: str, replacement: str
) -> pa.LargeStringArray:
    """The texts with a regular expression (RE2) replaced, looked for only where one of the triggers occurs."""
    # Looking for a plain substring costs a tenth of looking for the expression.
    found = [true_mask(pc.match_substring(texts, t, ignore_case=True)) for t in triggers]
    rows = np.logical_or.reduce(found)
    if not rows.any():
        return texts
    changed = pc.replace_substring_regex(texts.filter(pa.array(rows)), pattern, replacement)
    return replaced(texts, rows, changed)
