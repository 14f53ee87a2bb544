"""Which documents of a sample are shown with their text, and what is shown of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa

from tamis import explanation
from tamis.filters.base import ScoreFilter
from tamis.modifiers import Modify
from tamis.page.content import Change, DocumentView, Hunk, SpanView
from tamis.page.draw import text_of
from tamis.page.sampled import Sampled
from tamis.page.spans import Place, places_of, utf16
from tamis.pii import PiiModifier, PiiSpans
from tamis.pii.counts import hidden
from tamis.stage import Step
from tamis.table import is_text

__all__ = ["chosen", "documents", "excerpt_of"]

_SHOWN = 600
"""Documents with text on a page."""
_BYTES = 1_200_000
"""Of their texts, together; a page is to stay below 5 MB."""
_LONGEST = 6_000
"""Characters of one text."""
_NEAR = 8
"""Documents on each side of a bound."""
_EACH = 10
"""Documents that each stage dropped or changed."""
_PART = 300
"""Characters of a changed part."""
_HUNKS = 8
"""Changed parts of one column that are listed."""
_PAIRS = 40_000
"""Words before times words after of a changed part that is looked into: a few milliseconds."""
_LOOKED_INTO = 40_000
"""Characters of a text up to which its changes are looked for."""
_MOST_SPANS = 10_000
"""Highlighted places on a page, 70 bytes each."""
_SPANS = 200
"""Of them in one document."""
_CHANGED = 600_000
"""Characters of changed parts on a page."""
_VALUES = 12
"""Short columns that are listed of a document."""
_WIDE = 60


def chosen(sample: Sampled) -> list[int]:
    """Rows to show: by turns those close to each bound, dropped and changed by each stage, and kept."""
    kept = np.flatnonzero(sample.kept)
    groups: list[list[int]] = []
    for measure in sample.measures:
        values = sample.scores[measure.column]
        for bound in (measure.low, measure.high):
            if bound is not None and np.isfinite(bound):
                groups += [_nearest(values, bound, within=True), _nearest(values, bound, within=False)]
    for stage in np.unique(sample.decided[sample.decided >= 0]).tolist():
        groups.append(np.flatnonzero(sample.decided == stage)[:_EACH].tolist())
    groups += [rows[:_EACH] for rows in _changed(sample)]
    groups.append(kept[: 4 * _EACH].tolist())
    rows = list(dict.fromkeys(row for turn in zip_longest(*groups) for row in turn if row is not None))
    listed = set(rows)
    rows += [row for row in range(min(sample.rows, _SHOWN)) if row not in listed]
    return sorted(_within(sample, rows))


def _nearest(values: Any, bound: float, *, within: bool) -> list[int]:
    """Rows with the numbers next to a bound, on one side of it."""
    side = np.flatnonzero(values >= bound if within else values < bound)
    return side[np.argsort(np.abs(values[side] - bound), kind="stable")][:_NEAR].tolist()  # type: ignore[no-any-return]


def _changed(sample: Sampled) -> Iterator[list[int]]:
    """Rows that each stage changed."""
    for before, after in zip(sample.before, sample.before[1:], strict=False):
        rows: list[int] = []
        for name in _texts_in(before, after, sample):
            old, new = before.column(name), after.column(name)
            if old is not new:
                rows += [r for r, (a, b) in enumerate(zip(old.to_pylist(), new.to_pylist(), strict=True)) if a != b]
        if rows:
            yield sorted(set(rows))


def _within(sample: Sampled, rows: Iterable[int]) -> Iterator[int]:
    """The first rows, as many as a page has room for."""
    size = 0
    for shown, row in enumerate(rows, start=1):
        text, _ = excerpt_of(sample.text(row))
        size += len(text.encode("utf-8", "surrogatepass"))
        if shown > _SHOWN or size > _BYTES:
            return
        yield row


def excerpt_of(text: str, longest: int = _LONGEST) -> tuple[str, int]:
    """(the beginning of a text, how many characters are left out)."""
    return text[:longest], max(0, len(text) - longest)


def documents(sample: Sampled, rows: Sequence[int]) -> tuple[DocumentView, ...]:
    """What is shown of these documents."""
    short = _short_columns(sample)
    views, spans, size = [], 0, 0
    for row in rows:
        view = _view(sample, row, short)
        spans += len(view.spans)
        size += sum(len(h.before + h.removed + h.added + h.after) for c in view.changes for h in c.hunks)
        if spans > _MOST_SPANS:
            view = replace(view, spans=())
        if size > _CHANGED:
            view = replace(view, changes=tuple(replace(c, hunks=(), more=c.more + len(c.hunks)) for c in view.changes))
        views.append(view)
    return tuple(views)


def _view(sample: Sampled, row: int, short: Sequence[str]) -> DocumentView:
    whole = sample.text(row)
    text, cut = excerpt_of(whole)
    table = sample.table_of(row)
    values = [(name, text_of(table.column(name)[row].as_py())) for name in short if name in table.column_names]
    return DocumentView(
        row,
        sample.ids[row],
        sample.files[row],
        None,
        text,
        cut,
        sample.reasons[row],
        sample.deciding[row],
        tuple(_spans(sample, row, whole, len(text))),
        _changes(sample, row),
        tuple((name, value) for name, value in values if value != "–"),
    )


def _short_columns(sample: Sampled) -> list[str]:
    """Columns whose values are short: they are listed beside the text."""
    found = []
    for each in sample.end.schema:
        if each.name in sample.hidden or each.name in sample.scores or not is_text(each.type):
            continue
        some = [v for v in sample.end.column(each.name)[:200].to_pylist() if v is not None]
        if some and max(map(len, some)) <= _WIDE:
            found.append(each.name)
    return found[:_VALUES]


# -- what is highlighted --------------------------------------------------------------------------------------


def _spans(sample: Sampled, row: int, text: str, shown: int) -> Iterator[SpanView]:
    """The places in a text that its filters counted, and that were changed last."""
    column = sample.text_column(row)
    end = int(sample.decided[row])
    found: list[tuple[Place, int]] = []
    for index, step in enumerate(sample.steps):
        if isinstance(step, ScoreFilter) and _same_text(sample, index, row, column, step, text):
            decide = getattr(step.filter_obj, "scorer", None) or step.filter_obj
            found += [(place, index) for place in places_of(decide, text)]
        elif isinstance(step, PiiSpans) and step.spans_field in sample.end.column_names:
            spans = sample.end.column(step.spans_field)[row].as_py() or []
            if _same_text(sample, index, row, column, step, text):
                found += [((s["start"], s["end"], "personal", s["entity"]), index) for s in spans]
    found += _last_change(sample, row, column, text, len(sample.steps) if end < 0 else end)
    places = [(place, index) for place, index in found if place[0] < shown][:_SPANS]
    units = utf16(text, [min(p, shown) for place, _ in places for p in place[:2]])
    for number, (place, index) in enumerate(places):
        yield SpanView(units[2 * number], units[2 * number + 1], place[2], place[3], index)


def _same_text(sample: Sampled, index: int, row: int, column: str | None, step: Any, text: str) -> bool:
    """Whether the text that is shown is the one that this stage read."""
    if step.text_field != column or column is None:
        return False
    if sample.traced is None:
        return True
    before = sample.before[index]
    return column in before.column_names and before.column(column)[row].as_py() == text


def _last_change(sample: Sampled, row: int, column: str | None, text: str, end: int) -> list[tuple[Place, int]]:
    """The places that the last stage put into the text that is shown."""
    if column is None or len(text) > _LOOKED_INTO:
        return []
    for index in reversed(range(min(end, len(sample.before) - 1))):
        before = sample.before[index]
        old = before.column(column)[row].as_py() if column in before.column_names else None
        if isinstance(old, str) and old != text:
            if len(old) > _LOOKED_INTO:
                return []
            personal = _is_personal(sample.steps[index])
            found, shift = [], 0
            for hunk in explanation.hunks(old, text, most_pairs=_PAIRS):
                start = hunk.start + shift
                shift += len(hunk.added) - len(hunk.removed)
                if hunk.added.strip():
                    label = hunk.added.strip("<> \n")[:30] if personal else "changed"
                    place: Place = (start, start + len(hunk.added), "personal" if personal else "changed", label)
                    found.append((place, index))
            return found
    return []


def _is_personal(step: Step) -> bool:
    return isinstance(step, Modify) and isinstance(step.modifier, PiiModifier)


def _texts_in(before: pa.Table, after: pa.Table, sample: Sampled) -> list[str]:
    """Columns that are text in both tables; what was text may have become a list."""
    names = [f.name for f in before.schema if is_text(f.type) and f.name not in sample.hidden]
    return [name for name in names if name in after.column_names and is_text(after.schema.field(name).type)]


def _changes(sample: Sampled, row: int) -> tuple[Change, ...]:
    """What the stages that a document came to changed in its texts.

    What a stage took out because it is personal is shown by its shape, here and in what was changed before: a page may
    be passed on.
    """
    end = int(sample.decided[row])
    last = len(sample.before) - 1 if end < 0 else min(end, len(sample.before) - 1)
    found: list[Change] = []
    for index in range(last):
        before, after = sample.before[index], sample.before[index + 1]
        for name in _texts_in(before, after, sample):
            old, new = before.column(name)[row].as_py(), after.column(name)[row].as_py()
            if old == new or new is None:  # null: the column was renamed, or is not there any more
                continue
            change = _change(index, name, old or "", new)
            if index < len(sample.steps) and _is_personal(sample.steps[index]):
                private = sorted({h.removed for h in change.hunks if len(h.removed) > 2}, key=len, reverse=True)
                change = replace(change, hunks=tuple(replace(h, removed=hidden(h.removed)) for h in change.hunks))
                found = [_masked(each, private) for each in [*found, change]]
            else:
                found.append(change)
    return tuple(
        replace(c, hunks=tuple(map(_short, c.hunks[:_HUNKS])), more=max(0, len(c.hunks) - _HUNKS)) for c in found
    )


def _change(index: int, name: str, old: str, new: str) -> Change:
    if max(len(old), len(new)) > _LOOKED_INTO:
        said = f"{len(old):,} characters became {len(new):,}"
        return Change(index, name, (Hunk("", "", f"[{said}; too long to compare here]", ""),))
    found = explanation.hunks(old, new, most_pairs=_PAIRS)
    return Change(index, name, tuple(Hunk(h.before, h.removed, h.added, h.after) for h in found))


def _masked(change: Change, private: Sequence[str]) -> Change:
    """The change without these values, nor a part of one at the end of what is shown around it."""

    def mask(text: str) -> str:
        for value in private:
            text = text.replace(value, hidden(value))
        return text

    def before(text: str) -> str:
        for value in private:
            size = next((n for n in range(len(value) - 1, 0, -1) if text.startswith(value[-n:])), 0)
            text = hidden(text[:size]) + text[size:]
        return mask(text)

    def after(text: str) -> str:
        for value in private:
            size = next((n for n in range(len(value) - 1, 0, -1) if text.endswith(value[:n])), 0)
            text = text[: len(text) - size] + hidden(text[len(text) - size :])
        return mask(text)

    hunks = (Hunk(before(h.before), mask(h.removed), mask(h.added), after(h.after)) for h in change.hunks)
    return replace(change, hunks=tuple(hunks))


def _short(hunk: Hunk) -> Hunk:
    return replace(hunk, removed=hunk.removed[:_PART], added=hunk.added[:_PART])
