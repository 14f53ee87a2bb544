"""A page made by hand, for the tests of what draws it: small, with everything on it that can be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tamis.hashing import uniform
from tamis.page.content import (
    Cause,
    Change,
    ClassView,
    Counts,
    Decided,
    Differences,
    DocumentView,
    Duplicates,
    FunnelRow,
    Hunk,
    Page,
    RunView,
    Sample,
    ScoreView,
    SpanView,
    StageView,
    pack,
)

__all__ = ["example_page", "example_run"]

_TEXTS = (
    "An ordinary text about sieves, with a sentence or two, and nothing in it that anybody would mind.",
    "<script>alert(1)</script> & <b>bold</b> </script><!-- is text, and nothing else.",
    "مرحبا بالعالم، هذا نص من اليمين إلى اليسار. שלום עולם.",
    "Emoji 🦊🦊🦊 and a family 👨‍👩‍👧‍👦, then words words words words.",
    "Write to <EMAIL_ADDRESS> or call <PHONE_NUMBER>; the rest is as it was.",
    "one line\none line\none line\nanother line\n\n\tand a tab",
    "",
    "A" * 300 + " without a break",
)


def example_run(name: str = "curated", *, rows: int = 400, filters: int = 2, seed: int = 0) -> RunView:
    """A run whose sample is the whole input of ``rows`` documents, with ``filters`` scores beside two other stages.

    The stages: 0 a modifier, then the filters (word counts, shares), then a condition that has no bound to move.
    """
    ids = [f"doc-{row}" for row in range(rows)]
    columns, low, high = {}, {}, {}
    for n in range(filters):
        noise = uniform(ids, seed=100 * seed + n)
        if n % 2 == 0:
            columns[f"words_{n}"] = np.floor(np.exp(noise * 6.0))
            low[f"words_{n}"], high[f"words_{n}"] = 5.0, None
        else:
            columns[f"share_{n}"] = noise**2
            low[f"share_{n}"], high[f"share_{n}"] = None, 0.8
    condition = filters + 1
    fixed = np.where(uniform(ids, seed=7) < 0.05, condition, -1)
    decided = fixed.copy()
    for n, (column, values) in reversed(list(enumerate(columns.items()))):
        bad = np.zeros(rows, dtype=bool)
        if low[column] is not None:
            bad |= values < low[column]
        if high[column] is not None:
            bad |= values > high[column]
        decided = np.where(bad, n + 1, decided)
    kept = decided < 0
    labels = ["UnicodeReformatter", *(f"{'WordCount' if n % 2 == 0 else 'Urls'}Filter#{n}" for n in range(filters))]
    labels.append("Where")

    scores = []
    for n, (column, values) in enumerate(columns.items()):
        integer = n % 2 == 0
        edges = np.expm1(np.linspace(0, np.log1p(values.max()), 25)) if integer else np.linspace(0, 1, 25)
        before, after = (np.histogram(v, edges)[0] for v in (values, values[kept]))
        scores.append(
            ScoreView(
                column,
                labels[n + 1],
                n + 1,
                low[column],
                high[column],
                "min_words" if integer else "",
                "max_words" if integer else "max_url_to_text_ratio",
                invert=False,
                integer=integer,
                whole=False,
                scale="log" if integer else "linear",
                edges=tuple(edges.tolist()),
                before=tuple(before.tolist()),
                after=tuple(after.tolist()),
                filter=labels[n + 1].partition("#")[0],
                text_field="text",
            )
        )
    dropped = [int((decided == i).sum()) for i in range(len(labels))]
    left = rows
    stages = []
    for i, label in enumerate(labels):
        stages.append(
            StageView(
                i,
                label,
                "modifier" if i == 0 else "other" if i == condition else "filter",
                (("min_words", "5"),) if label.startswith("Word") else (),
                left,
                left - dropped[i],
                changed=40 if i == 0 else 0,
                seconds=0.01 * (i + 1),
                per_second=rows / (0.01 * (i + 1)),
                note="It has no bound to move." if i == condition else "",
            )
        )
        left -= dropped[i]
    reasons = {i: f"reason of {labels[i]} with <b> & ünïcode" for i in range(len(labels))}
    funnel = [FunnelRow("read", "", rows + 3, 1.0), FunnelRow("quarantined", "invalid JSON", 3, 3 / (rows + 3))]
    funnel += [FunnelRow(labels[0], "changed, not dropped", 40, 40 / (rows + 3))]
    funnel += [FunnelRow(labels[i], reasons[i], n, n / (rows + 3)) for i, n in enumerate(dropped) if n]
    funnel.append(FunnelRow("kept", "", int(kept.sum()), int(kept.sum()) / (rows + 3)))

    documents = []
    for row in range(min(rows, 60)):
        text = _TEXTS[row % len(_TEXTS)]
        spans: list[SpanView] = []
        if "<EMAIL_ADDRESS>" in text:
            spans = [SpanView(9, 24, "changed", "EMAIL_ADDRESS", 0), SpanView(33, 47, "personal", "PHONE_NUMBER", 0)]
        elif "one line" in text:
            spans = [SpanView(start, start + 8, "repeated", "repeated line", 1) for start in (0, 9, 18)]
        elif "🦊" in text:  # each fox is two UTF-16 code units
            spans = [SpanView(6, 12, "matched", "foxes", 2)]
        stage = int(decided[row])
        column = None if stage < 1 or stage > filters else list(columns)[stage - 1]
        documents.append(
            DocumentView(
                row,
                ids[row],
                "in/a.jsonl" if row % 2 else "in/<b>.jsonl",
                row + 1,
                text,
                0 if row % 9 else 1234,
                reasons.get(stage, ""),
                "" if column is None else f"{columns[column][row]:.6g}",
                tuple(spans),
                (Change(0, "text", (Hunk("an “", "ordinary", "plain", " text"),), 2),) if row % 5 == 0 else (),
                (("language", "de" if row % 3 else "en"),),
            )
        )
    sample = Sample(
        rows,
        rows,
        0,
        f"All {rows} documents of the input.",
        {column: pack(values) for column, values in columns.items()},
        pack(decided),
        pack(fixed),
        tuple(documents),
    )
    return RunView(
        name,
        complete=True,
        counts=Counts(rows + 3, int(kept.sum()), rows - int(kept.sum()), 3, 1_234_567, 765_432, 98_765),
        funnel=tuple(funnel),
        stages=tuple(stages),
        sources=(("in/a.jsonl", rows // 2, rows // 3), ("in/<b>.jsonl", rows - rows // 2, None)),
        quarantine=(Cause("invalid JSON", 3, (("in/a.jsonl", 17, 4711, "unexpected character: <"),)),),
        entities=(("EMAIL_ADDRESS", 12), ("PHONE_NUMBER", 3)),
        duplicates=Duplicates(rows, 17, "in the sample of the input"),
        recipe='[input]\npath = "in"\n\n[[stage]]\nuse = "WordCountFilter"\nmin_words = 5\n',
        environment=(("tamis", "0.1"), ("python", "3.11.2")),
        scores=tuple(scores),
        classes=(ClassView("language", -1, True, (("de", 270, 200), ("en", 130, 90)), 3),),
        sample=sample,
        notes=("The sample is all of the input.",),
    )


def example_page(*, compare: bool = False, rows: int = 400, filters: int = 2) -> Page:
    """A page of one run, or of two."""
    first = example_run(rows=rows, filters=filters)
    page = Page("curated", "0.1", "2026-11-25T12:00:00Z", (first,))
    if not compare:
        return page
    differing = (
        Decided("doc-1", _TEXTS[1], 0, "WordCountFilter#0: reason <b>", ""),
        Decided("doc-2", _TEXTS[2], 99, "", "UrlsFilter#1: more than 0.8"),
    )
    differences = Differences(
        rows,
        200,
        1,
        1,
        rows - 202,
        (("WordCountFilter#0: reason <b>", "", 1), ("", "UrlsFilter#1: more than 0.8", 1)),
        differing,
    )
    second = example_run("stricter", rows=rows, filters=filters, seed=1)
    return replace(page, title="curated and stricter", runs=(first, second), differences=differences)
