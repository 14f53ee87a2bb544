"""Spans applied to a text: what is found is changed, and every other character stays as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from tamis.errors import UnknownNameError, UsageError
from tamis.pii.actions import ACTIONS, Action, Change, tag_places
from tamis.pii.spans import Finder, Span, resolve

__all__ = ["action_of", "redact", "settled"]

_ROUNDS: Final = 16
"""Most passes over one text. Two are the rule: the second finds nothing new."""


def action_of(action: Action | str) -> Action:
    """The action of that name with its defaults, or the action itself.

    Raises:
        UnknownNameError: There is none of that name.
        UsageError: It has a setting without a default: ``hash`` needs a key.
    """
    if isinstance(action, Action):
        return action
    if action not in ACTIONS:
        raise UnknownNameError.of(str(action), ACTIONS, kind="action")
    return ACTIONS[action]()


def redact(text: str, spans: Iterable[Span], action: Action | str = "replace") -> str:
    """The text with its spans changed; the characters outside of them stay, one by one.

    Spans may come in any order and overlap: :func:`tamis.pii.resolve` makes them disjoint. Tags that an action wrote
    earlier (``<EMAIL_ADDRESS>``) are left alone. Without spans, or for an empty text, the text itself.

    Args:
        text: Any text.
        spans: Places in it, as :func:`tamis.pii.detect` returns them.
        action: A name from :data:`tamis.pii.ACTIONS`, or an action with settings: ``Mask(keep_last=4)``.

    Raises:
        UsageError: A span lies outside of the text: it belongs to another one.

    >>> from tamis.pii import Span
    >>> redact("write to ann@example.org now", [Span(9, 24, "EMAIL_ADDRESS", 0.9)])
    'write to <EMAIL_ADDRESS> now'
    """
    found = list(spans)
    for span in found:
        if not 0 <= span.start <= span.end <= len(text):
            message = (
                f"the span {span.entity} from {span.start} to {span.end} lies outside of a text of {len(text)} "
                "characters. Was it found in another text, or are its offsets bytes?"
            )
            raise UsageError(message)
    used = action_of(action)
    return _Document(text, used.document(text)).changed(resolve(found), used).text


def settled(texts: Sequence[str], spans: Sequence[list[Span]], action: Action, again: Finder | None) -> list[str]:
    """The texts with their disjoint spans changed, and what ``again`` finds in them then, until that is nothing.

    What was changed may show something that was not seen before: a tag is a word of context, characters come together
    where something was taken out. So that a text is the same when it is redacted twice, this is looked for at once.
    """
    documents = [_Document(text, action.document(text)) for text in texts]
    found = dict(enumerate(spans))
    for _ in range(_ROUNDS):
        moved = []
        for i, each in found.items():
            before = documents[i]
            documents[i] = before.changed(each, action)
            if documents[i].text != before.text:
                moved.append(i)
        if not moved or again is None:
            break
        seen = again(pa.array([documents[i].text for i in moved], pa.large_string()))
        found = {moved[k]: resolve(each) for k, each in seen.items()}
        if not found:
            break
    return [document.text for document in documents]


@dataclass(frozen=True, slots=True)
class _Document:
    """A text on its way, and where in it something was written."""

    text: str
    change: Change
    written: tuple[tuple[int, int], ...] = ()

    def changed(self, spans: list[Span], action: Action) -> _Document:
        """With its disjoint spans changed."""
        text = self.text
        own = self.written if action.remembers else ()
        done = _merged([*own, *tag_places(text, {span.entity for span in spans})])
        pieces: list[str] = []
        written: list[tuple[int, int]] = []
        at = size = 0
        marked = [(a, b, "") for a, b in own]
        marked += [(s.start, s.end, s.entity) for s in _outside(spans, done, text)]
        for start, end, entity in sorted(marked):
            value = text[start:end]
            if entity and action.keeps(entity, value):
                continue
            new = self.change(entity, value) if entity else value
            pieces += (text[at:start], new)
            size += start - at
            written.append((size, size + len(new)))
            size += len(new)
            at = end
        pieces.append(text[at:])
        return replace(self, text="".join(pieces), written=tuple(written))


def _merged(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Disjoint places in order that cover the same characters."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(places):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        elif start < end:
            merged.append((start, end))
    return merged


def _outside(spans: list[Span], done: list[tuple[int, int]], text: str) -> list[Span]:
    """What is left of disjoint spans outside of the places that are done, where it holds a letter or a digit."""
    if not done:
        return spans
    left: list[Span] = []
    first = 0
    for span in spans:
        while first < len(done) and done[first][1] <= span.start:
            first += 1
        start, k = span.start, first
        pieces = []
        while k < len(done) and done[k][0] < span.end:
            pieces.append((start, done[k][0]))
            start = done[k][1]
            k += 1
        pieces.append((start, span.end))
        if k == first:
            left.append(span)
            continue
        left += [replace(span, start=a, end=b) for a, b in pieces if a < b and any(map(str.isalnum, text[a:b]))]
    return left
