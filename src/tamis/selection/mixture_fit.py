"""Fitting a mixture: a sample to start from, then one fold per iteration until it converges."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from tamis.errors import OutputRefusedError, UsageError
from tamis.selection.mixture import Mixture, MixtureStep, Part, StepResult, need_safetensors
from tamis.selection.mixture_start import Sample, SampleVectors, start_of
from tamis.selection.vectors import check_column
from tamis.stage import Fold

__all__ = [
    "RAW_COMPONENTS",
    "TARGET_COMPONENTS",
    "Foldable",
    "Iteration",
    "MixtureFit",
    "MixtureSettings",
    "fit_mixture",
]

RAW_COMPONENTS = 1000
"""Of the published hybrid, for the raw documents."""
TARGET_COMPONENTS = 50
"""The same for the target."""

Result = TypeVar("Result")


class Foldable(Protocol):
    """What documents come from: a dataset."""

    @property
    def schema(self) -> pa.Schema:
        """The columns that exist."""
        ...

    @property
    def text_field(self) -> str:
        """The field that holds the text."""
        ...

    def fold(self, fold: Fold[Any, Result], *, workers: int | None = None) -> Result:
        """The fold's answer over all documents."""
        ...


@dataclass(frozen=True)
class MixtureSettings:
    """How a mixture is fitted."""

    components: int = RAW_COMPONENTS
    """Gaussians; fewer where there are fewer than ``per_component`` documents for each."""
    max_iter: int = 100
    tol: float = 1e-3
    """It has converged where the mean log likelihood changes by less, in nats a document."""
    reg_covar: float = 1e-6
    """Added to every variance, above 0."""
    seed: int = 42
    held_out: float = 0.05
    """Share of the documents that it is measured on and not fitted on; in [0, 1)."""
    max_samples: int | None = None
    """About so many documents are used, drawn by (seed, id); all by default."""
    per_component: int = 10

    def __post_init__(self) -> None:
        samples = 1 if self.max_samples is None else self.max_samples
        least = min(self.components, self.max_iter, self.per_component, samples)
        if least < 1 or not (self.reg_covar > 0 and self.tol >= 0 and 0 <= self.held_out < 1):
            message = (
                "a mixture needs components, max_iter, max_samples and per_component of at least 1, reg_covar above 0, "
                f"tol of at least 0 and held_out in [0, 1); got {self}."
            )
            raise UsageError(message)

    @property
    def sample(self) -> int:
        """Documents that the start is made of: 20 for each component (31 MB for 1,000 of 384 dimensions)."""
        return max(10_000, 20 * self.components)


@dataclass(frozen=True)
class Iteration:
    """How likely the documents were before an iteration changed the mixture; means over documents, in nats."""

    number: int
    log_likelihood: float
    held_out: float | None


@dataclass(frozen=True)
class MixtureFit:
    """A fitted mixture, and how the fit went."""

    mixture: Mixture
    trace: tuple[Iteration, ...]
    converged: bool
    held_out: float | None
    """Mean log likelihood of the held-out documents under the final mixture, in nats; None without any."""
    documents: int
    """Fitted on."""
    held_out_documents: int
    missing: int
    """Documents without an embedding."""
    notes: tuple[str, ...]
    """Sentences on what was done otherwise than asked, and on what looks wrong."""


@dataclass(frozen=True)
class _Run:
    """A fit under way: everything that the next iteration depends on."""

    mixture: Mixture
    part: Part
    asked: dict[str, Any]
    """What the fit is known by; another value, another fit."""
    notes: tuple[str, ...] = ()
    trace: tuple[Iteration, ...] = ()
    counts: tuple[int, int, int] | None = None
    """Documents fitted on, held out, without embedding; None before the first iteration."""
    converged: bool = False

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "asked": self.asked,
            "part": asdict(self.part),
            "notes": list(self.notes),
            "trace": [[each.log_likelihood, each.held_out] for each in self.trace],
            "counts": None if self.counts is None else list(self.counts),
            "converged": self.converged,
        }

    def stepped(self, result: StepResult, tol: float) -> _Run:
        """After an iteration."""
        done = Iteration(len(self.trace) + 1, result.log_likelihood, result.held_out)
        converged = bool(self.trace) and abs(done.log_likelihood - self.trace[-1].log_likelihood) < tol
        counts = (result.documents, result.held_out_documents, result.missing)
        trace = (*self.trace, done)
        return replace(self, mixture=result.mixture, trace=trace, counts=counts, converged=converged)


def fit_mixture(
    dataset: Foldable,
    settings: MixtureSettings | None = None,
    *,
    column: str = "embedding",
    embedder: str = "",
    start: Mixture | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    observer: Callable[[Iteration], None] | None = None,
    workers: int | None = None,
) -> MixtureFit:
    """Fit a mixture of Gaussians to the embeddings of a dataset by exact EM, one pass over it per iteration.

    Memory does not grow with the documents: a block, three arrays of [components, width], and the sample of the start.
    Documents without an embedding are counted and left out. The same documents give the same start in any order and
    sharding, and then the same mixture to about 1e-9 (sums of floats depend on where the data are cut).

    Args:
        dataset: With a column of embeddings, written to files: a step that embeds would run in every iteration.
        settings: How.
        column: Of lists of numbers.
        embedder: The model that they come from; kept with the mixture, which then refuses those of another.
        start: Where to start, instead of clusters of a sample.
        checkpoint: A file for the mixture after each iteration. If it is there already, the fit goes on from it.
        observer: Called after each iteration.
        workers: Processes; one per core by default.

    Raises:
        UsageError: There are too few documents, or the column holds no embeddings of that model.
        BadRecordError: An embedding has another width than the others, or holds what is no finite number.
        OutputRefusedError: The checkpoint is of another fit, or of other documents.
        MissingExtraError: A checkpoint is asked for, and safetensors is not installed.
    """
    settings = settings or MixtureSettings()
    check_column(dataset.schema, column, "fit_mixture", embedder=embedder)
    asked = {key: value for key, value in asdict(settings).items() if key != "max_iter"}
    asked |= {"column": column, "embedder": embedder, "start": None if start is None else start.fingerprint}
    run = None
    if checkpoint is not None:
        need_safetensors("fit_mixture with a checkpoint")
        run = _resumed(Path(checkpoint), asked)
    if run is None:
        run = _begun(dataset, settings, asked, start, workers)
        _keep(run, checkpoint)
    while not run.converged and len(run.trace) < settings.max_iter:
        step = MixtureStep(run.mixture, column, settings.reg_covar, run.part)
        before, run = run, run.stepped(dataset.fold(step, workers=workers), settings.tol)
        _check_counts(before, run, checkpoint)
        _keep(run, checkpoint)
        if observer is not None:
            observer(run.trace[-1])
    held_out = None
    documents, held, missing = run.counts or (0, 0, 0)
    if held:
        measure = MixtureStep(run.mixture, column, settings.reg_covar, run.part, only_measure=True)
        held_out = dataset.fold(measure, workers=workers).held_out
    notes = (*run.notes, *_notes(run, settings, held_out))
    mixture = replace(run.mixture, facts=run.facts() | {"held_out": held_out})
    return MixtureFit(mixture, run.trace, run.converged, held_out, documents, held, missing, notes)


def _begun(
    dataset: Foldable, settings: MixtureSettings, asked: dict[str, Any], start: Mixture | None, workers: int | None
) -> _Run:
    """The start of a fit."""
    if start is not None and start.embedder and asked["embedder"] not in ("", start.embedder):
        message = (
            f"fit_mixture: the mixture to start from was fitted on embeddings of {start.embedder!r}, and these are of "
            f"{asked['embedder']!r}. Start from one of the same model."
        )
        raise UsageError(message)
    if start is not None:
        start = replace(start, embedder=asked["embedder"] or start.embedder)
    part = Part(held_out=settings.held_out, seed=settings.seed)
    if start is not None and settings.max_samples is None:
        _check_ids(dataset, drawn=part.needs_id)
        return _Run(start, part, asked)
    _check_ids(dataset, drawn=True)
    drawn = SampleVectors(settings.sample, asked["column"], settings.held_out, settings.seed)
    sample = dataset.fold(drawn, workers=workers)
    if settings.max_samples is not None and sample.documents > settings.max_samples:
        part = replace(part, share=settings.max_samples / sample.documents)
    if start is not None:
        return _Run(start, part, asked)
    components, notes = _affordable(sample, settings, part)
    vectors = sample.vectors
    assert vectors is not None  # noqa: S101  there are documents
    found = start_of(vectors, components, reg_covar=settings.reg_covar, seed=settings.seed, embedder=asked["embedder"])
    if found.components < components:
        note = (
            f"{found.components} components instead of {components}: the sample of {len(vectors):,} embeddings has no "
            "more different ones."
        )
        notes = (*notes, note)
    return _Run(found, part, asked, notes)


def _check_ids(dataset: Foldable, *, drawn: bool) -> None:
    """Documents are drawn by their ids; one without an id gets a hash of its text."""
    if drawn and "id" not in dataset.schema.names and dataset.text_field not in dataset.schema.names:
        message = (
            "fit_mixture draws documents by their ids, and these have neither an id nor the text that one is made of "
            f"({dataset.text_field!r}). Keep the ids beside the embeddings, or give a start and held_out=0."
        )
        raise UsageError(message)


def _affordable(sample: Sample, settings: MixtureSettings, part: Part) -> tuple[int, tuple[str, ...]]:
    """How many components the documents are enough for, and a sentence where these are fewer than asked for."""
    fitted = round((sample.documents - sample.held_out_documents) * part.share)
    least = settings.per_component
    if fitted < least:
        without = f" {sample.missing:,} have none." if sample.missing else ""
        message = (
            f"fit_mixture: there are {fitted:,} documents with an embedding to fit a mixture on, and it needs {least} "
            f"for each component.{without} Give it more documents, or a smaller per_component."
        )
        raise UsageError(message)
    components = min(settings.components, fitted // least)
    if components == settings.components:
        return components, ()
    note = (
        f"{components} components instead of {settings.components}: {fitted:,} documents are {least} for each of no "
        "more."
    )
    return components, (note,)


# -- the checkpoint ------------------------------------------------------------------------------------------


def _keep(run: _Run, checkpoint: str | os.PathLike[str] | None) -> None:
    if checkpoint is not None:
        replace(run.mixture, facts=run.facts()).save(checkpoint)


def _resumed(path: Path, asked: dict[str, Any]) -> _Run | None:
    """The fit that a checkpoint holds; None where there is none."""
    if not path.exists():
        return None
    mixture = Mixture.load(path)
    facts = mixture.facts
    if "asked" not in facts:
        message = f"{path} holds a mixture that is no checkpoint of a fit. Give the checkpoint another path."
        raise OutputRefusedError(message)
    for key, value in asked.items():
        if facts["asked"].get(key) != value:
            message = (
                f"{path} is the checkpoint of another fit: its {key} is {facts['asked'].get(key)!r}, and {value!r} is "
                "asked for. Give the checkpoint another path, or remove that file to start anew."
            )
            raise OutputRefusedError(message)
    return _Run(
        mixture,
        Part(**facts["part"]),
        asked,
        tuple(facts["notes"]),
        tuple(Iteration(i, ll, held) for i, (ll, held) in enumerate(facts["trace"], 1)),
        None if facts["counts"] is None else tuple(facts["counts"]),
        facts["converged"],
    )


def _check_counts(before: _Run, after: _Run, checkpoint: str | os.PathLike[str] | None) -> None:
    if before.counts not in (None, after.counts):
        where = "" if checkpoint is None else f" {os.fspath(checkpoint)} was begun with them: give another path."
        message = (
            f"fit_mixture: there were {before.counts} documents (fitted on, held out, without embedding) in the "
            f"iteration before, and now there are {after.counts}.{where}"
        )
        raise OutputRefusedError(message)


# -- what looks wrong ----------------------------------------------------------------------------------------


def _notes(run: _Run, settings: MixtureSettings, held_out: float | None) -> list[str]:
    notes = []
    trace, mixture = run.trace, run.mixture
    documents = run.counts[0] if run.counts else 0
    if run.counts and run.counts[2]:
        notes.append(f"{run.counts[2]:,} documents without an embedding were left out.")
    if not run.converged and len(trace) > 1:
        change = trace[-1].log_likelihood - trace[-2].log_likelihood
        notes.append(
            f"It has not converged in {len(trace)} iterations: the last one changed the mean log likelihood by "
            f"{change:.2g} nats, and tol is {settings.tol:g}."
        )
    flat = int((mixture.variances.max(axis=1) < 2 * settings.reg_covar).sum())
    if flat:
        notes.append(f"{flat} of {mixture.components} components hold copies of one embedding each.")
    empty = int((mixture.weights * documents < 0.5).sum())
    if empty:
        notes.append(f"{empty} of {mixture.components} components are empty.")
    measured = [each.held_out for each in trace if each.held_out is not None]
    if held_out is not None and measured and held_out < max(measured) - 1:
        best = int(np.argmax(measured))
        notes.append(
            f"Held-out documents were likelier before iteration {best + 1} ({measured[best]:.2f} nats) than now "
            f"({held_out:.2f}): fewer components, or fewer iterations, suit these documents better."
        )
    return notes
