"""All that a page says of one run, gathered from its directory, its input and what it wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from tamis.dataset import DocumentDataset
from tamis.engine.describe import describe
from tamis.engine.run import fold_plan
from tamis.errors import TamisError
from tamis.filters.measures import scored_steps
from tamis.io.remote import parted
from tamis.kept import Kept, toml_of
from tamis.page.blocks import with_blocks
from tamis.page.content import RunView, StageView, pack
from tamis.page.directory import Directory, discreet
from tamis.page.draw import Bound, Distributions, Tallied, is_number
from tamis.page.environment import environment
from tamis.page.sampled import Asked, Sampled, from_input, from_scored, from_written
from tamis.page.views import (
    Number,
    class_columns,
    classes_of,
    duplicates_of,
    numbers_of,
    sample_of,
    scores_of,
    stages_of,
)
from tamis.recipe import Recipe
from tamis.stage import Step

__all__ = ["Looked", "look", "view"]

_PACKED_BYTES = 1_900_000
"""Of the numbers of a sample in a page, which is to stay below 5 MB; base64 takes 10.7 bytes for a float64."""
_MODEL_SAMPLE = 2_000
"""Documents of a sample where a stage is a model."""


@dataclass
class Looked:
    """What is known of one run, before it is made a view."""

    directory: Directory
    seed: int
    stages: tuple[StageView, ...]
    sample: Sampled | None = None
    whole: Tallied | None = None
    numbers: list[Number] = field(default_factory=list)
    recipe: str = ""
    notes: list[str] = field(default_factory=list)


def look(directory: Directory, asked: Asked, *, moved: str | None = None) -> Looked:
    """Gather what there is to know of a run.

    Args:
        directory: The run.
        asked: The sample.
        moved: Where the input lies now, where it is no longer where it was read.
    """
    looked = Looked(directory, asked.seed, directory.stages())
    if not directory.complete:
        looked.notes.append("The run is not complete: these are the counts of what is done of it.")
        return looked
    if directory.kept is not None:
        looked.recipe = _told(directory.kept)
    if asked.number < 1:
        looked.notes.append("No sample was asked for, so no document is shown and no bound can be moved.")
        return looked
    if directory.kept is not None:
        _by_recipe(looked, directory.kept, asked, moved)
    else:
        looked.notes.append(
            "This run was not made by a recipe, so what its stages do is not known here: scores are shown where they "
            "are columns of what it wrote, and bounds are moved by conditions on these."
        )
    if looked.sample is None:
        _by_outputs(looked, asked)
    if looked.sample is not None:
        _fit(looked, looked.sample)
    return looked


def _fit(looked: Looked, sample: Sampled) -> None:
    """Leave as many documents in the sample as a page has room for."""
    sample = sample.first(sample.rows)
    found = numbers_of(sample, looked.stages, looked.whole)
    size = sum(len(pack(number.values).data) for number in found)
    if size > _PACKED_BYTES:
        sample = sample.first(max(1, sample.rows * _PACKED_BYTES // size))
        found = numbers_of(sample, looked.stages, looked.whole)
    looked.sample, looked.numbers = sample, found


def _told(kept: Kept) -> str:
    """The recipe as TOML, with short paths and nothing of a URL that is nobody's business."""
    settings = dict(kept.recipe.input)
    path = settings.get("path")
    shown = [
        discreet(parted(str(p))[0] if "://" in str(p) else str(p)) for p in (path if isinstance(path, list) else [path])
    ]
    if path is not None:
        settings["path"] = shown if isinstance(path, list) else shown[0]
    limit = "" if kept.limit is None else f"# Only the first {kept.limit:,} records were read (--limit).\n"
    return limit + toml_of(replace(kept.recipe, input=settings))


# -- a run of a recipe ----------------------------------------------------------------------------------------


def _by_recipe(looked: Looked, kept: Kept, asked: Asked, moved: str | None) -> None:
    """Look at the run by its recipe: the sample comes from its input, or from the scores that it wrote."""
    directory = looked.directory
    recipe = kept.recipe if moved is None else _moved(kept.recipe, moved)
    try:
        steps = _steps(recipe)
        told = list(directory.description["steps"])
        if _described(steps) == told:
            dataset = recipe.dataset(kept.limit)
            _held_to_input(looked, dataset, moved)
            looked.stages = directory.stages(dataset.steps)
            asked = replace(asked, number=_fewer(asked.number, dataset.steps))
            looked.sample = from_input(dataset, asked)
        elif _described(scored_steps(steps)) == told:
            _by_scores(looked, steps, asked)
        else:
            looked.notes.append(
                "The recipe in this directory is not the one that the run was made by, so it is not used here: the "
                "page shows what the run wrote."
            )
    except TamisError as error:
        looked.notes.append(
            f"The documents could not be taken through the stages again, so the page shows what the run wrote. "
            f"{discreet(str(error))} Where the input has moved, name it with --input."
        )


def _steps(recipe: Recipe) -> tuple[Step, ...]:
    """The steps of a recipe, with its text field; its input is not looked at."""
    field_name = str(recipe.input.get("text_field", "text"))
    return tuple(step.on_text_field(field_name) for part in recipe.parts() for step in part)


def _described(steps: Sequence[Step]) -> Any:
    return orjson.loads(orjson.dumps([describe(step) for step in steps]))


def _moved(recipe: Recipe, path: str) -> Recipe:
    return replace(recipe, input={**recipe.input, "path": path})


def _held_to_input(looked: Looked, dataset: DocumentDataset, moved: str | None) -> None:
    """Say where the input is not what it was."""
    now, then = dataset.plan.source.describe(), looked.directory.description["input"]
    if moved is not None and now.get("bytes") != then.get("bytes"):
        looked.notes.append(
            f"The input at {discreet(moved)} has {now.get('bytes', 0):,} bytes, the run read {then.get('bytes', 0):,}: "
            "the sample may be of other documents."
        )
    elif moved is None and now.get("listing") != then.get("listing"):
        looked.notes.append("The input was changed after the run read it: the sample is of what lies there now.")


def _fewer(number: int, steps: Sequence[Step]) -> int:
    """How many documents are drawn, fewer where a stage is a model."""
    return min(number, _MODEL_SAMPLE) if any(_is_model(step) for step in steps) else number


def _is_model(step: Step) -> bool:
    return type(step).__module__.startswith(("tamis.classifiers", "tamis.models"))


# -- a scored dataset, and what a run wrote -------------------------------------------------------------------


def _written(directory: Directory, names: Sequence[str], kind: str) -> DocumentDataset | None:
    if not names:
        return None
    root = directory.store.path.rstrip("/")
    text_field = str(directory.description["input"].get("text_field") or "text")
    read = DocumentDataset.read_parquet if kind == "parquet" else DocumentDataset.read_json
    return read([f"{root}/{name}" for name in names], text_field=text_field)


def _by_scores(looked: Looked, steps: Sequence[Step], asked: Asked) -> None:
    """Look at a dataset that `tamis score` wrote: its columns are the scores, of all documents."""
    directory = looked.directory
    written = _written(directory, directory.files()[0], directory.description["output"]["format"])
    if written is None:
        return
    looked.sample, bounds = from_scored(written, steps, asked)
    looked.stages = tuple(
        replace(view, documents_in=None, documents_out=None) for view in directory.stages(tuple(steps))
    )
    looked.notes.append(
        "These are scored documents: nothing was dropped yet. Before are all of them, after are those that the bounds "
        "of the recipe would keep."
    )
    looked.whole = _distributions(looked.sample, written, bounds, None, asked)


def _by_outputs(looked: Looked, asked: Asked) -> None:
    """Look at the documents that a run wrote, and at its rejects where it kept them."""
    directory = looked.directory
    kept_names, reject_names = directory.files()
    output = directory.description["output"]
    try:
        kept = _written(directory, kept_names, output["format"])
        rejects = _written(directory, reject_names, "jsonl")
        if kept is None or not directory.tally.records:
            looked.notes.append("There is no document to look at.")
            return
        if rejects is None and directory.tally.total_rejected:
            looked.notes.append(
                "The documents that were dropped were not written, so before and after are the same here. A run with "
                "keep_rejects = true in [output] writes them."
            )
        labels = [view.label for view in looked.stages]
        looked.sample = from_written(kept, rejects, labels, asked)
        looked.whole = _both(looked.sample, kept, rejects, asked)
    except TamisError as error:
        looked.sample = None
        looked.notes.append(f"The documents that the run wrote could not be read: {discreet(str(error))}")


def _distributions(
    sample: Sampled, written: DocumentDataset, bounds: Sequence[Bound], reason: str | None, asked: Asked
) -> Tallied:
    """Histograms over all documents of what was written, of the columns that it has."""
    schema = written.plan.source.schema
    numeric = tuple(f.name for f in schema if is_number(f.type) and f.name not in sample.hidden)
    classes = tuple(name for name in class_columns(sample) if name in schema.names)
    there = tuple(bound for bound in bounds if bound.column in schema.names)
    fold = Distributions(numeric, classes, there, reason)
    found, _ = fold_plan(written.plan, fold, asked.options)
    return found


def _both(sample: Sampled, kept: DocumentDataset, rejects: DocumentDataset | None, asked: Asked) -> Tallied:
    """Histograms over what was kept and what was rejected."""
    found = _distributions(sample, kept, (), None, asked)
    if rejects is None:
        return found
    gone = _distributions(sample, rejects, (), "rejected", asked)
    return Distributions(()).merge(found, gone)


# -- the view -------------------------------------------------------------------------------------------------


def view(looked: Looked, beside: Looked | None = None, name: str = "") -> RunView:
    """What a page shows of a run; the bins of its histograms are those of the run beside it as well."""
    directory, sample = looked.directory, looked.sample
    others = beside.numbers if beside is not None else ()
    return RunView(
        name or _name(directory.path),
        directory.complete,
        directory.counts(),
        directory.funnel([each.label for each in looked.stages]),
        with_blocks(stages_of(looked.stages, sample), directory.kept),
        _sources(looked),
        directory.quarantine(),
        directory.entities(),
        None if sample is None else duplicates_of(sample),
        looked.recipe,
        environment(),
        scores_of(looked.numbers, others),
        () if sample is None else classes_of(sample, looked.whole),
        None if sample is None or not sample.rows else sample_of(sample, looked.numbers, looked.seed),
        tuple(looked.notes),
        directory.progress(),
    )


def _name(path: str) -> str:
    return discreet(path.rstrip("/")).rpartition("/")[2] or "run"


_MOST_SOURCES = 200


def _sources(looked: Looked) -> tuple[tuple[str, int, int | None], ...]:
    """Records by file of the input; where a run wrote one output for each, what was kept of it as well."""
    sample = looked.sample
    counts: Mapping[str, int] = {} if sample is None else sample.sources
    if not counts and sample is not None:
        return _by_column(looked)
    largest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_MOST_SOURCES]
    kept: Counter[str] | None = None
    if sample is not None and sample.rows == sample.of:  # else only the sample's are known
        kept = Counter(name for name, stage in zip(sample.files, sample.decided.tolist(), strict=True) if stage < 0)
    return tuple((discreet(name), n, None if kept is None else kept[name]) for name, n in largest)


def _by_column(looked: Looked) -> tuple[tuple[str, int, int | None], ...]:
    """Records by the column that names their source, over all documents."""
    whole = looked.whole
    if whole is None:
        return ()
    for name in ("source", "file_name", "dataset"):
        if name in whole.values:
            return tuple(
                (value, n, whole.values_kept[name][value]) for value, n in whole.values[name].most_common(_MOST_SOURCES)
            )
    return ()
