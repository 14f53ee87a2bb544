"""Personal data in a column: the modifier that changes it, and the stage that only says where it is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from tamis.errors import UsageError
from tamis.meter import count
from tamis.modifiers.base import DocumentModifier, replaced
from tamis.pii.actions import KEY_METADATA, Action, Hash, Mask, Redact, Replace, Substitute
from tamis.pii.detection import Detection
from tamis.pii.redact import action_of, settled
from tamis.pii.spans import Span, resolve
from tamis.stage import Needs, Stage, TableFunction
from tamis.table import put, text

__all__ = ["SPANS", "PiiModifier", "PiiSpans"]

SPANS: Final = pa.list_(
    pa.struct([("start", pa.int64()), ("end", pa.int64()), ("entity", pa.string()), ("score", pa.float64())])
)
"""The type of a column of spans; offsets count characters."""

_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "replace": ("numbered", "new_value"),
    "redact": (),
    "mask": ("mask_char", "keep_last"),
    "hash": ("hash_length", "key", "key_from_environment"),
    "substitute": ("key", "key_from_environment"),
}
"""Which settings belong to which action."""


@dataclass(frozen=True)
class PiiModifier(Detection, DocumentModifier):
    """Finds personal data in a text and changes it: to tags, masks, hashes or made-up data, or to nothing.

    Detectors are opened once per worker and see whole columns; texts without a finding are not even copied. Where
    spans overlap, :func:`tamis.pii.resolve` decides. Every character outside of them stays. A text that was changed is
    looked through once more by the patterns, so that doing it twice changes nothing (with ``substitute`` see
    :class:`tamis.pii.Substitute`; a model may see more in a text that was changed).

    Empty text: itself. Relations: NeMo Curator's class of this name and settings, with its entities, except that
    ``batch_size`` and ``device`` change nothing but the pace, ``hash`` needs a key, and names of people and places
    need a model, for none is shipped.

    Raises:
        UsageError: No detector finds an entity that is asked for, a setting belongs to another action, or ``hash`` has
            no key.
        MissingExtraError: A package of the extra ``pii`` is not installed.

    >>> PiiModifier(supported_entities=["EMAIL_ADDRESS"]).modify_document("to ann@ann.org, from bo@bo.org")
    'to <EMAIL_ADDRESS>, from <EMAIL_ADDRESS>'
    """

    anonymize_action: str | Action = "replace"
    """``replace``, ``redact``, ``mask``, ``hash`` or ``substitute``; or an action with settings of its own."""
    _: KW_ONLY
    numbered: bool = False
    """With replace: ``<EMAIL_ADDRESS_1>``, one number for each value of a document."""
    new_value: str | None = None
    """With replace: put this in the place of everything."""
    mask_char: str = "*"
    """With mask: what a character becomes."""
    keep_last: int = 0
    """With mask: characters at the end that stay, at most half of them."""
    hash_length: int = 16
    """With hash: hexadecimal digits, from 8 to 64."""
    key: str | None = field(default=None, repr=False, metadata=KEY_METADATA)
    """With hash and substitute: the secret. It is written nowhere."""
    key_from_environment: str | None = None
    """The name of an environment variable that holds the key, read where the modifier is made."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.action()

    def action(self) -> Action:
        """The action with its settings."""
        name = self.anonymize_action
        if isinstance(name, Action) or name not in _SETTINGS:
            self._refuse(())
            return action_of(name)
        self._refuse(_SETTINGS[name])
        if name == "replace":
            return Replace(self.numbered, self.new_value)
        if name == "mask":
            return Mask(self.mask_char, keep_last=self.keep_last)
        if name == "hash":
            return Hash(self._key(), self.hash_length)
        return Substitute(self._key()) if name == "substitute" else Redact()

    def _refuse(self, settings: tuple[str, ...]) -> None:
        """Raise for a setting that another action has: it would do nothing."""
        for action, others in _SETTINGS.items():
            for name in others:
                if name not in settings and getattr(self, name) != type(self).__dataclass_fields__[name].default:
                    given = self.anonymize_action
                    shown = given if isinstance(given, str) else type(given).__name__
                    message = f"PiiModifier: {name} is a setting of the action {action}, and the action is {shown}."
                    raise UsageError(message)

    def _key(self) -> str | None:
        name = self.key_from_environment
        if name is None or self.key is not None:
            return self.key
        found = os.environ.get(name)
        if not found:
            message = f"PiiModifier: the environment variable {name}, which should hold the key, is not set."
            raise UsageError(message)
        # Workers may run where the variable is not set: the key travels with the description, and is not shown in it.
        object.__setattr__(self, "key", found)
        return found

    def identity(self) -> Mapping[str, str]:
        """The weights of models, and what the action depends on besides its settings."""
        return {**super().identity(), **self.action().identity()}

    def modify_document(self, text: str) -> str:
        """One text; a column at once is faster."""
        return str(self.modify_batch(pa.array([text], pa.large_string()))[0].as_py())

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts, changed. It opens the detectors each time; what :meth:`open` returns does not."""
        return self.open()(texts)

    def open(self) -> Callable[[pa.LargeStringArray], pa.Array]:
        """The function over batches, with the detectors loaded."""
        find, again, action = self.finder(), self.finder(patterns_only=True), self.action()

        def change(texts: pa.LargeStringArray) -> pa.Array:
            found = {row: resolve(spans) for row, spans in find(texts).items()} if find is not None else {}
            if not found:
                return texts
            for entity, n in Counter(span.entity for spans in found.values() for span in spans).items():
                count(entity, n)
            numbers = sorted(found)
            before = texts.take(pa.array(numbers)).to_pylist()
            after = settled(before, [found[row] for row in numbers], action, again)
            rows = np.zeros(len(texts), dtype=np.bool_)
            rows[numbers] = True
            return replaced(texts, rows, pa.array(after, pa.large_string()))

        return change


@dataclass(frozen=True)
class PiiSpans(Detection, Stage):
    """Says where personal data is, in a column of its own; the text stays.

    Answer: a list of ``start``, ``end`` (characters), ``entity`` and ``score``, disjoint and in the order of the text.
        Two offsets, and never the value itself.
    Empty text: an empty list, as for a null.
    """

    _: KW_ONLY
    spans_field: str = "pii"
    """Column for the spans."""
    text_field: str | None = None
    """Column that is read; the dataset's text field by default."""

    def on_text_field(self, text_field: str) -> PiiSpans:
        """The dataset's text field, where none was named."""
        return replace(self, text_field=text_field) if self.text_field is None else self

    @property
    def may_drop(self) -> bool:
        """Never."""
        return False

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the text, makes the spans."""
        return Needs(
            texts=(self.text_field or "text",),
            makes=(pa.field(self.spans_field, SPANS),),
            device=self.runs_on,
            window=self.window,
        )

    def open(self) -> TableFunction:
        """The function that adds the column."""
        find, column, made = self.finder(), self.text_field or "text", self.spans_field

        def run(table: pa.Table) -> pa.Table:
            texts = text(table, column, self.name)
            found = find(texts) if find is not None else {}
            rows = [_plain(resolve(found[i])) if i in found else [] for i in range(len(texts))]
            return put(table, made, pa.array(rows, SPANS))

        return run


def _plain(spans: Sequence[Span]) -> list[dict[str, Any]]:
    return [{"start": s.start, "end": s.end, "entity": s.entity, "score": s.score} for s in spans]
