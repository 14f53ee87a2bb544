"""The stages of a run as the lines that a recipe has for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tamis.errors import TamisError
from tamis.kept import Kept, toml_section
from tamis.page.content import StageView
from tamis.thresholds.recipe_text import expanded

__all__ = ["with_blocks"]


def with_blocks(stages: Sequence[StageView], kept: Kept | None) -> tuple[StageView, ...]:
    """The stages with their ``[[stage]]`` lines, a rule set filter by filter.

    Without them where the run has no recipe, or one that cannot be written so, or stages that are not the recipe's.
    """
    if kept is None:
        return tuple(stages)
    try:
        settings = expanded(kept.recipe).stages
    except TamisError:  # a stage of the user's own module that is not here, or one that no recipe can hold
        return tuple(stages)
    if len(settings) != len(stages):
        return tuple(stages)
    blocks = (toml_section("[[stage]]", each).strip() for each in settings)
    return tuple(replace(stage, toml=block) for stage, block in zip(stages, blocks, strict=True))
