"""Scored datasets: everything that a plan decides by as a column, and nothing dropped."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tamis.dataset import DocumentDataset
from tamis.engine.plan import check, with_id
from tamis.errors import RecipeError, UnknownNameError, UsageError
from tamis.filters import massive_text
from tamis.filters.base import DocumentFilter
from tamis.filters.bounded import BoundedFilter
from tamis.filters.measures import Verdict, measures_of, scored_steps, verdicts_of
from tamis.filters.percentile import PercentileFilter, is_number
from tamis.io.store import open_store
from tamis.kept import kept_recipe
from tamis.recipe import STAGES, Recipe, find_stage, load_recipe, shipped_recipes, with_settings
from tamis.stage import FoldThenStage, Step
from tamis.thresholds.counts import Decision
from tamis.thresholds.recipe_text import expanded

__all__ = ["EVERY", "ScoredRun", "recipe_of", "score_dataset", "scored_run"]

EVERY = "all"
"""The name of the rule set of every heuristic filter."""


def recipe_of(name: str, settings: Sequence[str] = (), *, paths: Sequence[str] = (), text_field: str = "") -> Recipe:
    """What is to be scored: a recipe file, a shipped recipe, a rule set or filter by its name, or "all".

    A rule set is written filter by filter, so that ``settings`` can name each (``WordCountFilter.min_words=20``).

    Args:
        name: A TOML file, or a name that ``tamis recipes`` lists; "all" is ``massive_text`` and every other heuristic
            filter with its defaults.
        settings: As for :func:`tamis.recipe.load_recipe`.
        paths: Instead of the recipe's input.
        text_field: Instead of the recipe's text field.

    Raises:
        RecipeError, UnknownNameError: There is nothing of that name, or it cannot be used.
    """
    if Path(name).is_file() or name in shipped_recipes() or name.endswith(".toml"):
        recipe = load_recipe(name)
    elif name == EVERY:
        recipe = Recipe(name, {}, tuple(_every()))
    elif name in STAGES or ":" in name:
        recipe = Recipe(name, {}, ({"use": name},))
    else:
        raise UnknownNameError.of(name, [EVERY, *shipped_recipes(), *STAGES], kind="recipe, rule set or filter")
    recipe = with_settings(expanded(recipe), settings)
    given: dict[str, Any] = {}
    if paths:
        given["path"] = list(paths) if len(paths) > 1 else paths[0]
    if text_field:
        given["text_field"] = text_field
    recipe = replace(recipe, input={**recipe.input, **given})
    if "path" not in recipe.input:
        message = f"{name} does not say what to read: name files or folders behind it."
        raise RecipeError(message)
    return recipe


def _every() -> list[Mapping[str, Any]]:
    """``massive_text``, and the other filters on the text alone that need nothing to be said."""
    stages = list(expanded(Recipe(EVERY, {}, ({"use": "massive_text"},))).stages)
    known = {type(each.filter) for each in measures_of(massive_text().steps())}
    for name in STAGES:
        kind = find_stage(name, EVERY) if name.endswith("Filter") else None
        if not isinstance(kind, type) or not issubclass(kind, DocumentFilter) or issubclass(kind, tuple(known)):
            continue
        try:
            made = kind()
        except (TypeError, UsageError):  # it needs a setting, or a package that is not here
            continue
        if is_number(made.score_type) and isinstance(made, BoundedFilter):
            stages.append({"use": name})
    return stages


def score_dataset(dataset: DocumentDataset) -> DocumentDataset:
    """The dataset with every score of its filters as a column, and every other decision as true or false.

    Nothing is dropped and no score is computed twice; filters in a row that share a walk over the text share it here.
    The columns are those of :func:`tamis.filters.measures.measures_of` and ``verdicts_of``.

    Raises:
        UsageError: Nothing in the plan drops a document, or a score would replace a column of the documents.
    """
    steps = dataset.steps
    decisions = _decisions(steps)
    if not decisions:
        message = "nothing here drops a document: there is no filter to take scores of."
        raise UsageError(message)
    _refuse_collisions(dataset, {each.stage: each.column for each in decisions})
    return DocumentDataset(dataset.plan.source, scored_steps(steps))


def _refuse_collisions(dataset: DocumentDataset, columns: Mapping[int, str]) -> None:
    source = with_id(dataset.plan.source, dataset.steps)
    there = set(source.schema.names)
    for number, needs in enumerate(check(source, dataset.steps).needs):
        who = dataset.steps[number].name
        column, makes = columns.get(number), {field.name for field in needs.makes}
        if column is not None and column in there and column not in makes | set(needs.reads):
            message = (
                f"the documents have a column {column!r} already, which the score of {who} would replace. "
                f"Name another: --set {who}.score_field=..."
            )
            raise UsageError(message)
        there |= makes | ({column} if column is not None else set())


def _decisions(steps: Sequence[Step]) -> tuple[Decision, ...]:
    found: list[Decision] = [*measures_of(steps), *verdicts_of(steps)]
    return tuple(sorted(found, key=lambda each: each.stage))


@dataclass(frozen=True)
class ScoredRun:
    """What ``tamis score`` wrote."""

    dataset: DocumentDataset
    """The documents with their scores."""
    recipe: Recipe
    """What was scored: its input and stages."""
    decisions: tuple[Decision, ...]
    """Measures and verdicts in the order of the plan."""
    notes: tuple[str, ...] = ()
    """What counts of these scores leave out."""


def scored_run(path: str | os.PathLike[str]) -> ScoredRun:
    """The scored dataset in a directory.

    Raises:
        UsageError: The directory was not written by ``tamis score``.
    """
    kept = kept_recipe(open_store(os.fspath(path)))
    if kept is None or not kept.scored:
        message = f"{path} was not written by `tamis score`. Run: tamis score RECIPE --out {path}"
        raise UsageError(message)
    steps = [step for part in kept.recipe.parts() for step in part]
    decisions = _decisions(steps)
    notes = _notes(steps, decisions)
    if kept.limit is not None:
        notes.append(f"The first {kept.limit:,} records were scored; a run of the recipe reads all of them.")
    return ScoredRun(_read(path, decisions), kept.recipe, decisions, tuple(notes))


def _read(path: str | os.PathLike[str], decisions: Sequence[Decision]) -> DocumentDataset:
    dataset = DocumentDataset.read(path)
    missing = {each.column: each for each in decisions if each.column not in dataset.schema.names}
    if not missing:
        return dataset
    # JSON Lines without a document do not say what columns there are.
    types = {column: pa.bool_() if isinstance(each, Verdict) else pa.float64() for column, each in missing.items()}
    return DocumentDataset.read_json(path, schema=types)


def _notes(steps: Sequence[Step], decisions: Sequence[Decision]) -> list[str]:
    notes = []
    for each in decisions:
        step = steps[each.stage]
        if isinstance(step, PercentileFilter):
            notes.append(f"{each.label} finds its bounds when it runs; what it drops is not counted here.")
        elif isinstance(step, FoldThenStage):
            notes.append(f"{each.label} was judged on all documents, and not on those that the filters before it keep.")
    return notes
