"""A recipe with other bounds, as TOML that ``tamis run`` takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from tamis.errors import UsageError
from tamis.filters.base import ScoreFilter
from tamis.filters.bounded import BoundedFilter
from tamis.filters.measures import Measure, measures_of, with_bounds
from tamis.filters.percentile import PercentileFilter, WithinPercentiles
from tamis.kept import toml_section
from tamis.modifiers import Modify
from tamis.recipe import STAGES, Recipe, find_stage
from tamis.stage import Step

__all__ = ["TITLE", "expanded", "recipe_with_bounds", "tuned_recipe"]

Bounds = Mapping[str, tuple[float | None, float | None]]
Settings = dict[str, Any]

TITLE = "# Bounds set by `tamis tune-thresholds`"
"""First line of a recipe that was written here."""


def recipe_with_bounds(recipe: Recipe | Sequence[Mapping[str, Any]], bounds: Bounds) -> str:
    """The ``[[stage]]`` sections of a recipe with other bounds, as TOML.

    A bound is written as the setting that holds it. Where no setting does, the stage becomes two: ``Score``, which
    makes the column, and ``Where``. A rule set is written filter by filter if one of its bounds changes.

    Args:
        recipe: A recipe, or its stages as dictionaries.
        bounds: Lower and upper bound by the column of a measure (:func:`tamis.filters.measures.measures_of`). Other
            names are columns that the recipe makes otherwise, such as the score of a classifier; these conditions come
            last.

    Raises:
        UsageError: A filter has no bounds or refuses these, or a stage has settings that a recipe cannot hold.
    """
    if not isinstance(recipe, Recipe):
        recipe = Recipe("the recipe", {}, tuple(recipe))
    parts = recipe.parts()
    measures = {measure.stage: measure for measure in measures_of([step for part in parts for step in part])}
    named = {measure.column for measure in measures.values()}
    written: list[Settings] = []
    first = 0
    for settings, part in zip(recipe.stages, parts, strict=True):
        changed = {}
        for number, step in enumerate(part):
            measure = measures.get(first + number)
            if measure is None or measure.column not in bounds:
                continue
            if bounds[measure.column] == (measure.low, measure.high):
                continue
            new = with_bounds(measure, *bounds[measure.column])
            if (new.low, new.high) != (measure.low, measure.high):
                changed[number] = _with(_settings_of(step) if len(part) > 1 else dict(settings), step, measure, new)
        if changed and len(part) > 1:
            written += [s for n, step in enumerate(part) for s in changed.get(n) or [_settings_of(step)]]
        else:
            written += changed.get(0) or [dict(settings)]
        first += len(part)
    written += [_where(column, *bounds[column]) for column in bounds if column not in named]
    return "\n".join(toml_section("[[stage]]", settings) for settings in written)


def tuned_recipe(recipe: Recipe, bounds: Bounds, note: str = "") -> str:
    """A whole recipe file: title, note, input and stages. Where it writes to is left to be said."""
    head = [TITLE, *(f"# {line}" for line in note.splitlines())]
    head += ["# Run it with: tamis run THIS --set output.path=DIR", ""]
    return "\n".join([*head, toml_section("[input]", recipe.input), recipe_with_bounds(recipe, bounds)])


def expanded(recipe: Recipe) -> Recipe:
    """The recipe with every rule set written filter by filter."""
    stages: list[Mapping[str, Any]] = []
    for settings, part in zip(recipe.stages, recipe.parts(), strict=True):
        stages += [settings] if len(part) == 1 else map(_settings_of, part)
    return Recipe(recipe.name, recipe.input, tuple(stages), recipe.output, recipe.run, recipe.title)


# -- stages --------------------------------------------------------------------------------------------------


def _with(settings: Settings, step: Step, measure: Measure, new: Measure) -> list[Settings]:
    """The stage with other bounds: one stage, or the score and a condition."""
    decide = new.filter
    held = isinstance(decide, BoundedFilter) and decide.bounds() == (new.low, new.high)
    if held and not isinstance(decide, WithinPercentiles):
        pairs = ((new.low_setting, new.low, measure.low), (new.high_setting, new.high, measure.high))
        return [settings | {name: value for name, value, before in pairs if value != before}]
    if measure.invert:
        message = f"{measure.label} is inverted, and no setting holds its bounds: a recipe cannot say this."
        raise UsageError(message)
    condition = _where(new.column, new.low, new.high)
    if isinstance(step, PercentileFilter):
        scorer, field = step.filter, step.text_field
    else:
        scorer, field = measure.filter, measure.text_field
    if scorer is None or isinstance(scorer, WithinPercentiles):
        return [condition]
    own = _own_settings(scorer)
    score: Settings = {"use": "Score", "filter": _use(scorer), "score_field": new.column}
    score |= ({"settings": own} if own else {}) | ({} if field is None else {"text_field": field})
    return [score, condition]


def _where(column: str, low: float | None, high: float | None) -> Settings:
    ends = ((">=", low), ("<=", high))
    parts = [f"`{column}` {sign} {value!r}" for sign, value in ends if value is not None and math.isfinite(value)]
    return {"use": "Where", "expression": " and ".join(parts) or f"`{column}` is not None"}


def _settings_of(step: Step) -> Settings:
    """A step as a recipe has it."""
    if isinstance(step, ScoreFilter):
        own = {"text_field": step.text_field, "score_field": step.score_field}
        found = {"use": _use(step.filter_obj), **_own_settings(step.filter_obj)}
        found |= {name: value for name, value in own.items() if value is not None}
        return found | ({"invert": True} if step.invert else {})
    if isinstance(step, Modify):
        field = {} if step.text_field is None else {"text_field": step.text_field}
        return {"use": _use(step.modifier), **_own_settings(step.modifier), **field}
    return {"use": _use(step), **_own_settings(step)}


def _use(thing: object) -> str:
    """The name that a recipe has for a class: its own where the recipe knows it, else with its module."""
    kind = type(thing)
    name = f"{kind.__module__}:{kind.__qualname__}"
    if kind.__name__ in STAGES and find_stage(kind.__name__, "") is kind:
        return kind.__name__
    if kind.__module__ == "__main__" or "<" in name or "." in kind.__qualname__:
        message = f"{kind.__qualname__} is not in a module that a recipe can name; put it into a file of its own."
        raise UsageError(message)
    return name


def _own_settings(thing: Any) -> Settings:
    """The settings that are not left at their defaults, and the bounds of a filter."""
    if not is_dataclass(thing):
        return {}
    bounds = set(_held_by(thing))
    found: Settings = {}
    for each in fields(thing):
        value = getattr(thing, each.name)
        default = each.default if each.default_factory is MISSING else each.default_factory()
        if value is not None and (value != default or each.name in bounds):
            found[each.name] = value
    return found


def _held_by(thing: object) -> tuple[str, ...]:
    """The settings that hold bounds."""
    return (thing.low_setting, thing.high_setting) if isinstance(thing, BoundedFilter) else ()
