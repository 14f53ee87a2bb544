"""What a notebook shows of a dataset and of a run: small pieces of HTML, every text in them escaped.

They need no script and no style of their own, so that they look right in any notebook, light or dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import pyarrow as pa

__all__ = ["dataset_html", "result_html"]

_LONGEST = 200
"""Characters of a value that are shown."""
_WIDEST = 8
"""Columns that are shown."""


def dataset_html(summary: str, steps: Sequence[str], first: pa.Table | None, why_not: str = "") -> str:
    """A dataset: what it reads, the names of its steps, and the first documents of its input.

    Args:
        summary: One line, as ``repr`` gives it.
        steps: Names of the steps, in order.
        first: Documents as they are before the first step; none where they cannot be read, and ``why_not`` says why.
        why_not: The reason.
    """
    parts = [f"<div><code>{escape(summary)}</code>"]
    if steps:
        parts.append(f"<ol>{''.join(f'<li>{escape(step)}</li>' for step in steps)}</ol>")
    if first is None:
        parts.append(f"<p>{escape(why_not)}</p>")
    elif first.num_rows:
        names = first.column_names[:_WIDEST]
        columns = [first.column(name).to_pylist() for name in names]
        parts.append(_table(names, zip(*columns, strict=True)))
        left = len(first.column_names) - len(names)
        more = f" {left} more columns: {', '.join(first.column_names[_WIDEST:])}." if left else ""
        parts.append(f"<p><small>The first documents of the input, before any step.{escape(more)}</small></p>")
    return "".join([*parts, "</div>"])


def result_html(summary: str, rows: Iterable[tuple[str, str, int, float]]) -> str:
    """A run: its line, and the stage, reason, number of documents and their share of all of each part of it."""
    cells = [(stage, reason, f"{documents:,}", f"{share:.1%}") for stage, reason, documents, share in rows]
    return f"<div><code>{escape(summary)}</code>{_table(('stage', 'reason', 'documents', 'share'), cells)}</div>"


def _table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None:
        return "<td><i>null</i></td>"
    text = value if isinstance(value, str) else str(value)
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    side = "left" if isinstance(value, str) and not shown.replace(",", "").rstrip("%").isdigit() else "right"
    return f'<td style="text-align:{side}">{escape(shown)}</td>'
