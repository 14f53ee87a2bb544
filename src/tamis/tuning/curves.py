"""The loss of a run as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["draw_losses"]

Points = Sequence[tuple[int, float]]


def draw_losses(path: Path, train: Points, validation: Points, title: str) -> None:
    """Write a PNG: losses (nats per token of the completions) by update, and where validation is best."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=144, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if train:
        axes.plot(*zip(*train, strict=True), color="#7a8fa6", linewidth=1.2, label="training")
    if validation:
        axes.plot(*zip(*validation, strict=True), color="#b5452c", linewidth=1.8, marker="o", ms=4, label="validation")
        step, loss = min(validation, key=lambda each: each[1])
        axes.annotate(
            f"best {loss:.3f}", (step, loss), xytext=(0, -14), textcoords="offset points", ha="center", fontsize=8
        )
    axes.set(xlabel="update", ylabel="loss (nats per token)", title=title)
    axes.margins(y=0.12)
    axes.grid(visible=True, color="#e4e4e4", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if train or validation:
        axes.legend(frameon=False)
    # No date and no version in the file: the same losses give the same bytes.
    figure.savefig(path, metadata={"Software": None})
