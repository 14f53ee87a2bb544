"""The plots of the page as Vega-Lite specifications, and as PNG files.

A specification holds its numbers and names no colour: marks have the styles of :data:`STYLES`, and whoever draws gives
those their colours, so that one specification serves light and dark, page and file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from tamis.errors import MissingExtraError
from tamis.page.content import ClassView, Page, RunView, ScoreView

__all__ = ["PALETTES", "STYLES", "class_spec", "compare_spec", "config", "funnel_spec", "histogram_spec", "png", "vega"]

PALETTES: dict[str, dict[str, str]] = {
    "light": {
        "ink": "#1d2530",
        "paper": "#ffffff",
        "panel": "#f4f6f8",
        "faint": "#d5dae1",
        "soft": "#566170",
        "main": "#1b65a4",
        "other": "#a94a0c",
        "before": "#c3cad3",
        "main-tint": "#dcebf8",
        "other-tint": "#fbe6d8",
        "match-tint": "#e9e2f8",
        "found-tint": "#fff0a8",
    },
    "dark": {
        "ink": "#e4e8ee",
        "paper": "#14181d",
        "panel": "#1c2229",
        "faint": "#363f4a",
        "soft": "#9ea8b5",
        "main": "#6db3ee",
        "other": "#f0945c",
        "before": "#4a5563",
        "main-tint": "#17344e",
        "other-tint": "#4a2712",
        "match-tint": "#352a55",
        "found-tint": "#564a06",
    },
}
"""Blue and orange are told apart with every common form of colour blindness; text on paper and panel has a contrast of
at least 4.5 to 1."""

STYLES: dict[str, str] = {"before": "before", "kept": "main", "dropped": "other", "first": "main", "second": "other"}
"""The colour of the palette in which a style of mark is drawn."""

_HEIGHT = 110
_LABEL = "abs(datum.value) >= 1000 ? format(datum.value, '~s') : format(datum.value, '~g')"
"""Each label by itself: Vega would give all of an axis the unit of the largest, so that 100 beside 1k is 0k."""
_FIT = {"type": "fit-x", "contains": "padding"}
_AXIS = 44
"""Pixels left of every plot for the labels of its counts, so that plots stand under one another."""


def vega(who: str) -> Any:
    """The package that draws: Vega-Lite, its compiler, and a renderer.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import vl_convert  # noqa: PLC0415  only who draws pays for it
    except ImportError as missing:
        raise MissingExtraError.of(who, "vl-convert-python", "report") from missing
    return vl_convert


# -- one score -----------------------------------------------------------------------------------------------


def _scale(scale: str, low: float, high: float) -> dict[str, Any]:
    """A horizontal axis; "log" is Vega's symlog with constant 1, which is log(1 + x)."""
    found: dict[str, Any] = {"domain": [low, high], "nice": False, "zero": False}
    return found | ({"type": "symlog", "constant": 1} if scale == "log" else {"type": "linear"})


def _ticks(scale: str, low: float, high: float, *, integer: bool) -> dict[str, Any]:
    """What stands at the axis: powers of ten on a log axis, where Vega's own choice is a linear one."""
    axis: dict[str, Any] = {
        "title": None,
        "grid": False,
        "labelExpr": _LABEL,
        "labelFlush": True,
    }
    if scale != "log":
        return axis | ({"tickMinStep": 1, "tickCount": 6} if integer else {"tickCount": 6})
    powers = [0.0] + [10.0**k for k in range(max(math.ceil(math.log10(max(high, 1.0))) + 1, 1))]
    return axis | {"values": [p for p in powers if low <= p <= high]}


def _bars(score: ScoreView) -> list[dict[str, float]]:
    pairs = zip(score.edges, score.edges[1:], score.before, score.after, strict=False)
    return [{"from": a, "to": b, "in": before, "kept": after} for a, b, before, after in pairs if before or after]


def _span(edges: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis; one value alone gets room."""
    low, high = edges[0], edges[-1]
    return (low, high) if high > low else (low, low + 1.0)


def histogram_spec(score: ScoreView) -> dict[str, Any]:
    """A score's distribution: documents that came in behind, those that were kept in front."""
    low, high = _span(score.edges)
    number = ".6~g"
    tooltip = [
        {"field": "from", "title": "from", "type": "quantitative", "format": number},
        {"field": "to", "title": "to", "type": "quantitative", "format": number},
        {"field": "in", "title": "came in", "type": "quantitative", "format": ","},
        {"field": "kept", "title": "kept", "type": "quantitative", "format": ","},
    ]
    x = {"field": "from", "type": "quantitative", "scale": _scale(score.scale, low, high)}
    x["axis"] = _ticks(score.scale, low, high, integer=score.integer)

    def layer(field: str, style: str) -> dict[str, Any]:
        y: dict[str, Any] = {"field": field, "type": "quantitative", "title": None}
        y["axis"] = {"tickCount": 3, "labelExpr": _LABEL, "minExtent": _AXIS, "maxExtent": _AXIS, "domain": False}
        encoding = {"x": x, "x2": {"field": "to"}, "y": y, "y2": {"datum": 0}, "tooltip": tooltip}
        return {"mark": {"type": "rect", "style": style}, "encoding": encoding}

    return {
        "description": f"Distribution of {score.column}: documents that came in, and documents that were kept.",
        "width": "container",
        "autosize": _FIT,
        "height": _HEIGHT,
        "data": {"values": _bars(score)},
        "layer": [layer("in", "before"), layer("kept", "kept")],
    }


# -- classes and the funnel ------------------------------------------------------------------------------------


def class_spec(view: ClassView) -> dict[str, Any]:
    """A column of few values: how often each came in, and how often it was kept."""
    values = [{"value": value, "in": before, "kept": after} for value, before, after in view.values]
    tooltip = [
        {"field": "value", "title": view.column, "type": "nominal"},
        {"field": "in", "title": "came in", "type": "quantitative", "format": ","},
        {"field": "kept", "title": "kept", "type": "quantitative", "format": ","},
    ]
    y: dict[str, Any] = {"field": "value", "type": "nominal", "sort": None, "title": None}
    y["axis"] = {"labelLimit": 150, "ticks": False, "domain": False}

    def layer(field: str, style: str, size: int) -> dict[str, Any]:
        x = {"field": field, "type": "quantitative", "title": None, "axis": {"tickCount": 4, "labelExpr": _LABEL}}
        encoding = {"y": y, "x": x, "tooltip": tooltip}
        return {"mark": {"type": "bar", "style": style, "size": size}, "encoding": encoding}

    return {
        "description": f"Values of {view.column}: documents that came in, and documents that were kept.",
        "width": "container",
        "autosize": _FIT,
        "height": 22 * len(values),
        "data": {"values": values},
        "layer": [layer("in", "before", 16), layer("kept", "kept", 8)],
    }


def funnel_spec(run: RunView) -> dict[str, Any]:
    """What is left after each stage, and what it dropped."""
    values = []
    left = run.counts.records - run.counts.quarantined
    steps = [("input", run.counts.records, run.counts.quarantined)]
    for stage in run.stages:
        if stage.documents_in is not None and stage.documents_out is not None:
            steps.append((stage.label, stage.documents_in, stage.documents_in - stage.documents_out))
            left = stage.documents_out
    if left == run.counts.kept:
        steps.append(("output", run.counts.kept, 0))
    for label, came, lost in steps:
        values += [
            {"stage": label, "what": "goes on", "n": came - lost},
            {"stage": label, "what": "lost here", "n": lost},
        ]
    colours = {"domain": ["goes on", "lost here"]}
    return {
        "description": "Documents that go on after each stage, and those that are lost there.",
        "width": "container",
        "autosize": _FIT,
        "height": {"step": 22},
        "data": {"values": values},
        "mark": {"type": "bar", "size": 14},
        "encoding": {
            "y": {"field": "stage", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 220}},
            "x": {
                "field": "n",
                "type": "quantitative",
                "title": "documents",
                "axis": {"labelExpr": _LABEL, "tickCount": 5},
            },
            "color": {"field": "what", "type": "nominal", "scale": colours, "legend": {"title": None, "orient": "top"}},
            "order": {"field": "what"},
        },
    }


# -- two runs --------------------------------------------------------------------------------------------------


def compare_spec(first: ScoreView, second: ScoreView, names: tuple[str, str]) -> dict[str, Any]:
    """What two runs kept of one score, as densities, so that bins may differ."""
    low = min(first.edges[0], second.edges[0])
    high = max(first.edges[-1], second.edges[-1])
    low, high = _span((low, high))
    layers = []
    for score, style in ((first, "first"), (second, "second")):
        dash = [1, 0] if style == "first" else [5, 3]
        encoding = {
            "x": {
                "field": "x",
                "type": "quantitative",
                "scale": _scale(first.scale, low, high),
                "axis": _ticks(first.scale, low, high, integer=first.integer),
            },
            "y": {"field": "density", "type": "quantitative", "title": None, "axis": None},
        }
        line = {"type": "line", "style": style, "interpolate": "step-after", "strokeDash": dash, "strokeWidth": 2}
        layers.append({"data": {"values": _density(score)}, "mark": line, "encoding": encoding})
    return {
        "description": f"Distribution of {first.column} among the documents kept by {names[0]} and by {names[1]}.",
        "width": "container",
        "autosize": _FIT,
        "height": _HEIGHT,
        "layer": layers,
    }


def _density(score: ScoreView) -> list[dict[str, float]]:
    """The share of the kept documents for each unit of the axis, as steps."""
    total = sum(score.after) or 1
    places = [math.log1p(max(e, -1 + 1e-12)) if score.scale == "log" else e for e in score.edges]
    found = []
    for edge, a, b, n in zip(score.edges, places, places[1:], score.after, strict=False):
        found.append({"x": edge, "density": n / total / (b - a) if b > a else 0.0})
    return [*found, {"x": score.edges[-1], "density": 0.0}]


# -- files ---------------------------------------------------------------------------------------------------


def config(palette: dict[str, str], fonts: str) -> dict[str, Any]:
    """The colours and fonts of every plot, as Vega-Lite's configuration."""
    text = {"labelColor": palette["soft"], "titleColor": palette["ink"], "labelFont": fonts, "titleFont": fonts}
    axis = {"domainColor": palette["faint"], "tickColor": palette["faint"], "gridColor": palette["faint"]}
    return {
        "background": palette["paper"],
        "font": fonts,
        "view": {"stroke": None},
        "title": {"color": palette["ink"], "anchor": "start", "font": fonts},
        "axis": text | axis | {"titleFontWeight": "normal"},
        "legend": text,
        "range": {"category": [palette["main"], palette["other"]]},
        "style": {name: {"color": palette[colour]} for name, colour in STYLES.items()},
    }


def png(page: Page) -> dict[str, bytes]:
    """Every plot of the page as a PNG file, twice as dense as a screen, on white; by file name.

    Raises:
        MissingExtraError: The package that draws is not installed.
    """
    drawing = vega("The plots of a report")
    colours = config(PALETTES["light"], "Liberation Sans, DejaVu Sans, Arial, sans-serif")
    found = {}
    for name, title, spec in _plots(page):
        sized = spec | {"width": 620, "title": title, "config": colours, "padding": 12}
        found[f"{name}.png"] = drawing.vegalite_to_png(sized, scale=2)
    return found


def _plots(page: Page) -> list[tuple[str, str, dict[str, Any]]]:
    """(file name without ending, title, specification) of every plot."""
    plots = []
    for number, run in enumerate(page.runs, start=1):
        prefix = f"{number}-" if len(page.runs) > 1 else ""
        of = f" ({run.name})" if len(page.runs) > 1 else ""
        plots.append((f"{prefix}funnel", f"Documents by stage{of}", funnel_spec(run)))
        plots += [
            (f"{prefix}score-{s.column}", f"{s.column}: before (grey) and after{of}", histogram_spec(s))
            for s in run.scores
            if len(s.edges) > 1
        ]
        plots += [
            (f"{prefix}class-{c.column}", f"{c.column}: before (grey) and after{of}", class_spec(c))
            for c in run.classes
        ]
    if len(page.runs) == 2:
        names = (page.runs[0].name, page.runs[1].name)
        other = {score.column: score for score in page.runs[1].scores}
        plots += [
            (f"compare-{s.column}", f"{s.column}: kept by {names[0]}, and by {names[1]} (dashed)",
             compare_spec(s, other[s.column], names))
            for s in page.runs[0].scores
            if s.column in other
        ]  # fmt: skip
    return _named_apart(plots)


def _named_apart(plots: list[tuple[str, str, dict[str, Any]]]) -> list[tuple[str, str, dict[str, Any]]]:
    """File names of letters that every system takes, no two of which are the same."""
    used: set[str] = set()
    found = []
    for name, title, spec in plots:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:80].rstrip(".")
        apart, n = plain, 2
        while apart.lower() in used:
            apart, n = f"{plain}-{n}", n + 1
        used.add(apart.lower())
        found.append((apart, title, spec))
    return found
