"""An evaluation as one HTML page: no scripts, nothing from elsewhere; light or dark as the reader's system is."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from tamis.evaluation.plots import bars, forest, scatter
from tamis.evaluation.report import Comparison, Measure, OfTag, TagReport

__all__ = ["page"]

_TABLED = 2000
"""Tags in the table; the JSON file has all."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2530; --paper: #ffffff; --faint: #d5dae1; --soft: #66707d;
  --main: #1f6fb2; --other: #c2571a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ee; --paper: #14181d; --faint: #343c46; --soft: #98a2af; --main: #6db3ee; --other: #f0945c; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin-top: 2rem; }
.soft { color: var(--soft); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th { text-align: left; color: var(--soft); font-weight: 500; }
th, td { padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--faint); }
td.n, th.n { text-align: right; }
td.tag { overflow-wrap: anywhere; max-width: 20rem; }
.note { border-left: 3px solid var(--other); padding-left: .7rem; }
svg { max-width: 100%; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .soft { fill: var(--soft); }
svg .axis { stroke: var(--faint); }
svg .main { stroke: var(--main); fill: var(--main); }
svg .other { stroke: var(--other); fill: var(--other); }
"""


def page(report: TagReport) -> str:
    """The page. Whatever comes from the data is escaped."""
    title = f"Evaluation of {report.name}" if report.name else "Evaluation"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{_counts(report)}</p>",
        *(f'<p class="note">{html.escape(note)}</p>' for note in report.notes),
        "<h2>Measures</h2>",
        forest([(m.name, m.value, m.low, m.high) for m in report.measures], (0.0, 1.0)),
        _interval_text(report),
        *_compared(report.comparison),
        *_baselines(report),
        "<h2>Tags</h2>",
        *_tag_plots(report),
        _tags(report.tags),
        *_unknown(report),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _counts(report: TagReport) -> str:
    said = [f"{report.documents:,} documents judged"]
    if report.without_truth:
        said.append(f"{report.without_truth:,} without true tags left out")
    if report.without_answer:
        said.append(f"{report.without_answer:,} without an answer, counted as no tag")
    if report.vocabulary is not None:
        said.append(f"{report.vocabulary:,} tags in the vocabulary")
    return "; ".join(said) + "."


def _interval_text(report: TagReport) -> str:
    if not report.replicates:
        return ""
    return (
        f'<p class="soft">Lines are 95 % intervals of {report.replicates:,} bootstrap samples of the documents '
        f"(seed {report.seed}).</p>"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers_from: int = 1) -> str:
    """A table of escaped cells; columns from ``numbers_from`` on are numbers."""

    def cells(kind: str, row: Sequence[str]) -> str:
        return "".join(
            f'<{kind} class="{"n" if i >= numbers_from else "tag"}">{html.escape(cell)}</{kind}>'
            for i, cell in enumerate(row)
        )

    body = "\n".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', header)}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"


def _compared(comparison: Comparison | None) -> list[str]:
    if comparison is None:
        return []
    rows = [
        [
            d.name,
            f"{d.first:.3f}",
            f"{d.second:.3f}",
            f"{d.difference:+.3f}",
            _bounds(d.low, d.high, "+.3f"),
            f"{d.p:.4f}",
        ]
        for d in comparison.differences
    ]
    counts = (
        f"{comparison.documents:,} documents in both: {comparison.better:,} better (Jaccard), "
        f"{comparison.worse:,} worse, {comparison.same:,} the same"
    )
    widest = max((max(abs(d.low), abs(d.high), abs(d.difference)) for d in comparison.differences), default=1.0)
    widest = widest if math.isfinite(widest) and widest > 0 else 1.0
    return [
        f"<h2>Against {html.escape(comparison.other or 'the other run')}</h2>",
        f"<p>{counts}.</p>",
        forest([(d.name, d.difference, d.low, d.high) for d in comparison.differences], (-widest, widest)),
        _table(["measure", "this", "other", "difference", "95 %", "p"], rows),
        '<p class="soft">p: approximate randomisation over documents, two-sided, not adjusted for many measures.</p>',
    ]


def _baselines(report: TagReport) -> list[str]:
    if not report.baselines:
        return []
    shown = [
        m.name for m in report.measures if m.name in {"micro_f1", "macro_f1", "weighted_f1", "jaccard", "exact_match"}
    ]

    def row(name: str, measures: Sequence[Measure]) -> list[str]:
        values = {m.name: m for m in measures}
        return [name, *(f"{values[n].value:.3f} {_bounds(values[n].low, values[n].high)}" for n in shown)]

    rows = [row("these predictions", report.measures), *(row(b.name, b.measures) for b in report.baselines)]
    how = "".join(f"<li>{html.escape(b.name)}: {html.escape(b.how)}</li>" for b in report.baselines)
    return ["<h2>Beside baselines</h2>", _table(["", *shown], rows), f'<ul class="soft">{how}</ul>']


def _bounds(low: float, high: float, form: str = ".3f") -> str:
    return f"[{low:{form}}, {high:{form}}]" if math.isfinite(low) else ""


def _tag_plots(report: TagReport) -> list[str]:
    points = [(float(t.support), t.f1, f"{t.tag}: F1 {t.f1:.2f}, {t.support} true") for t in report.tags if t.support]
    parts = [scatter(points, "true documents", "F1")] if points else []
    return [*parts, bars(report.sizes, ("true", "predicted"), "tags of a document")]


def _tags(tags: Sequence[OfTag]) -> str:
    rows = [
        [
            t.tag,
            f"{t.support:,}",
            f"{t.predicted:,}",
            f"{t.right:,}",
            f"{t.precision:.3f}",
            f"{t.recall:.3f}",
            f"{t.f1:.3f}",
        ]
        for t in tags[:_TABLED]
    ]
    rest = len(tags) - len(rows)
    more = f'<p class="soft">and {rest:,} more in evaluation.json</p>' if rest else ""
    head = ["tag", "true", "predicted", "right", "precision", "recall", "F1"]
    return f"<details><summary>All {len(tags):,} tags</summary>{_table(head, rows)}{more}</details>"


def _unknown(report: TagReport) -> list[str]:
    if not report.unknown:
        return []
    rows = [[tag, f"{n:,}"] for tag, n in report.unknown]
    return ["<h2>Predicted, but not in the vocabulary</h2>", _table(["tag", "times"], rows)]
