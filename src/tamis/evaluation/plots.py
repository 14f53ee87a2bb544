"""Plots as SVG text, in the colours of the page that holds them (classes ``axis``, ``main``, ``other``, ``soft``)."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

__all__ = ["bars", "forest", "scatter"]

_WIDTH = 720
_NAMES = 150
_RIGHT = 60
_LINE = 20
_HEIGHT = 260
_LEFT = 50
_BOTTOM = 40


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    inside = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" height="{height:.0f}" role="img" '
        f'aria-label="{html.escape(title)}">\n{inside}\n</svg>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{html.escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def forest(rows: Sequence[tuple[str, float, float, float]], bounds: tuple[float, float]) -> str:
    """A dot with the line of its interval for each (name, value, low, high); an interval of NaN has no line."""
    low, high = bounds

    def at(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return _NAMES + share * (_WIDTH - _NAMES - _RIGHT)

    bottom = _LINE * len(rows) + 8
    parts = []
    for i in range(5):
        value = low + (high - low) * i / 4
        parts.append(_line(at(value), 4, at(value), bottom, "axis"))
        parts.append(_text(at(value), bottom + 16, f"{value:.2g}", anchor="middle", kind="soft"))
    for i, (name, value, left, right) in enumerate(rows):
        y = _LINE * i + 14
        parts.append(_text(0, y + 4, name))
        if math.isfinite(left) and math.isfinite(right):
            parts.append(_line(at(left), y, at(right), y, "main"))
        parts.append(f'<circle class="main" cx="{at(value):.1f}" cy="{y}" r="4"/>')
        parts.append(_text(_WIDTH, y + 4, f"{value:.3f}", anchor="end"))
    return _svg(bottom + 24, "measures with intervals", parts)


def _frame(across: str, up: str) -> list[str]:
    base = _HEIGHT - _BOTTOM
    return [
        _line(_LEFT, base, _WIDTH - 10, base, "axis"),
        _line(_LEFT, 10, _LEFT, base, "axis"),
        _text(_WIDTH - 10, _HEIGHT - 6, across, anchor="end", kind="soft"),
        _text(4, 14, up, kind="soft"),
    ]


def scatter(points: Sequence[tuple[float, float, str]], across: str, up: str) -> str:
    """Points (x from 1, y in [0, 1], what is said under the pointer), x on a logarithmic scale."""
    most = max((x for x, _, _ in points), default=1.0)
    base, scale = _HEIGHT - _BOTTOM, math.log10(max(most, 10.0))

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + 10 + math.log10(x) / scale * (_WIDTH - _LEFT - 40), base - y * (base - 20)

    parts = _frame(across, up)
    for power in range(math.floor(scale) + 1):
        x, _ = place(10.0**power, 0)
        parts.append(_text(x, base + 16, f"{10**power:,}", anchor="middle", kind="soft"))
    for y in (0.0, 0.5, 1.0):
        parts.append(_text(_LEFT - 6, place(1, y)[1] + 4, f"{y:g}", anchor="end", kind="soft"))
    for x, y, said in points:
        cx, cy = place(x, y)
        parts.append(
            f'<circle class="main" fill-opacity="0.35" cx="{cx:.1f}" cy="{cy:.1f}" r="4">'
            f"<title>{html.escape(said)}</title></circle>"
        )
    return _svg(_HEIGHT, f"{up} by {across}", parts)


def bars(counts: Sequence[tuple[int, int]], names: tuple[str, str], across: str) -> str:
    """Two bars beside each other for 0, 1, 2 ...; what lies beyond 20 is added to the last."""
    kept = list(counts[:20])
    if len(counts) > 20:
        kept.append((sum(a for a, _ in counts[20:]), sum(b for _, b in counts[20:])))
    most = max((max(pair) for pair in kept), default=1) or 1
    base = _HEIGHT - _BOTTOM
    step = (_WIDTH - _LEFT - 20) / max(1, len(kept))
    parts = _frame(across, "documents")
    for i, pair in enumerate(kept):
        x = _LEFT + 10 + i * step
        label = f"{i}+" if i == 20 else str(i)
        parts.append(_text(x + step * 0.4, base + 16, label, anchor="middle", kind="soft"))
        for j, (kind, n) in enumerate(zip(("main", "other"), pair, strict=True)):
            height = n / most * (base - 30)
            parts.append(
                f'<rect class="{kind}" x="{x + j * step * 0.4:.1f}" y="{base - height:.1f}" width="{step * 0.38:.1f}" '
                f'height="{height:.1f}"><title>{html.escape(names[j])}: {n:,}</title></rect>'
            )
    for j, kind in enumerate(("main", "other")):
        parts.append(f'<rect class="{kind}" x="{_WIDTH - 110}" y="{14 + 18 * j}" width="10" height="10"/>')
        parts.append(_text(_WIDTH - 94, 23 + 18 * j, names[j]))
    return _svg(_HEIGHT, across, parts)
