"""Mixtures of Gaussians with diagonal covariances over embeddings: what they are, one step of EM, and the weights.

Exact EM (Dempster, Laird and Rubin 1977), with scikit-learn's ``GaussianMixture(covariance_type="diag")`` as the
reference: from the same start, the same parameters after every step to 1e-6. One step is one fold, whose state is a
component's mass and the sums of x and x² by shares; it does not grow with the documents. :mod:`.mixture_fit` makes the
start and repeats the step.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from tamis.errors import BadRecordError, MissingExtraError, ModelError, OutputError, UsageError
from tamis.hashing import fingerprint, uniform
from tamis.selection.mixture_kernel import Floats, Screen, accumulate, log_probabilities, screen_of
from tamis.selection.vectors import Vectors, check_column, read_vectors, reads_of
from tamis.stage import Fold, Needs, Stage, TableFunction
from tamis.table import put, require

__all__ = ["Mixture", "MixtureStep", "MixtureWeights", "Part", "StepResult", "Sums", "need_safetensors"]

_FORMAT = "tamis-mixture"
_EMPTY = 10 * float(np.finfo(np.float64).eps)
"""Added to each component's mass, as scikit-learn does: an empty component is divided by it, and keeps a weight."""


@dataclass(frozen=True, eq=False, repr=False)
class Mixture:
    """A mixture of Gaussians with diagonal covariances; all arrays float64."""

    weights: Floats = field(repr=False)
    """[components], above 0, adding up to 1."""
    means: Floats = field(repr=False)
    """[components, width]"""
    variances: Floats = field(repr=False)
    """[components, width], above 0."""
    embedder: str = ""
    """The model whose embeddings it was fitted on, by name; empty if nobody said."""
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """How it came to be, as JSON; kept in its file."""

    def __post_init__(self) -> None:
        for name in ("weights", "means", "variances"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float64))
        shapes = self.weights.shape, self.means.shape, self.variances.shape
        fit = self.means.ndim == 2 and self.means.size and shapes == (self.means.shape[:1], *(self.means.shape,) * 2)
        if not fit:
            message = (
                "a mixture has weights [components] and means and variances [components, width]; got the shapes "
                f"{', '.join(map(str, shapes))}."
            )
            raise UsageError(message)
        finite = all(np.isfinite(each).all() for each in (self.weights, self.means, self.variances))
        if not (finite and (self.weights > 0).all() and (self.variances > 0).all()):
            message = "the weights and variances of a mixture must be above 0, and all its numbers finite."
            raise UsageError(message)
        if abs(self.weights.sum() - 1) > 1e-6:
            message = f"the weights of a mixture add up to 1; these add up to {self.weights.sum():.6g}."
            raise UsageError(message)

    @property
    def components(self) -> int:
        """How many Gaussians it has."""
        return len(self.weights)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self.means.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that identify its numbers and its model."""
        parts = (self.weights.tobytes(), self.means.tobytes(), self.variances.tobytes(), self.embedder.encode())
        return fingerprint(b"".join(parts))

    @cached_property
    def _screen(self) -> Screen:
        return screen_of(self.weights, self.means, self.variances)

    def __getstate__(self) -> dict[str, Any]:
        """The fields; what is made of them is made again where it is needed."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    def __repr__(self) -> str:
        of = f" of {self.embedder}" if self.embedder else ""
        return f"<Mixture of {self.components} Gaussians over {self.width} dimensions{of}>"

    def log_prob(self, embeddings: npt.ArrayLike) -> Floats:
        """The log probability density of each vector, in nats.

        Args:
            embeddings: [documents, width], numbers of any type.

        Returns:
            float64 [documents]; right to about 1e-13 of its size, and the same to the last bit in any batch.

        Raises:
            UsageError: Another width, or a value that is no finite number.
        """
        found = np.asarray(embeddings)
        if found.ndim != 2 or found.shape[1] != self.width or found.dtype.kind not in "fiu":
            message = (
                f"log_prob takes numbers of shape [documents, {self.width}]; got {found.dtype} of shape {found.shape}."
            )
            raise UsageError(message)
        if not np.isfinite(found).all():
            row = int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
            message = f"log_prob: row {row} of the embeddings has a value that is no finite number."
            raise UsageError(message)
        return log_probabilities(self._screen, found)

    # -- a file ----------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, whole or not at all: three tensors in float64, and JSON among its metadata.

        Raises:
            MissingExtraError: safetensors is not installed.
            OutputError: It cannot be written.
        """
        need_safetensors("Mixture.save")
        from safetensors.numpy import save_file  # noqa: PLC0415  an extra

        target = Path(path)
        about = {"format": _FORMAT, "version": 1, "embedder": self.embedder, "facts": dict(self.facts)}
        tensors = {"weights": self.weights, "means": self.means, "variances": self.variances}
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, aside, metadata={_FORMAT: orjson.dumps(about).decode()})
            aside.replace(target)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink()
            message = f"The mixture cannot be written to {target}: {error.strerror or error}. Choose another path."
            raise OutputError(message) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            MissingExtraError: safetensors is not installed.
            ModelError: There is no such file, or it holds no mixture.
        """
        need_safetensors("Mixture.load")
        from safetensors import SafetensorError, safe_open  # noqa: PLC0415  an extra

        try:
            with safe_open(os.fspath(path), framework="numpy") as file:
                about = orjson.loads((file.metadata() or {})[_FORMAT])
                weights, means, variances = (file.get_tensor(name) for name in ("weights", "means", "variances"))
            return cls(weights, means, variances, embedder=about["embedder"], facts=about["facts"])
        except OSError as error:
            message = f"There is no mixture at {os.fspath(path)}: {error.strerror or error}."
            raise ModelError(message) from error
        except (SafetensorError, KeyError, ValueError) as error:
            message = f"{os.fspath(path)} holds no mixture that Mixture.save wrote: {error}"
            raise ModelError(message) from error


def need_safetensors(who: str) -> None:
    """Raise :class:`MissingExtraError` where safetensors is not installed."""
    try:
        import safetensors.numpy  # noqa: F401, PLC0415  an extra
    except ImportError as error:
        raise MissingExtraError.of(who, "safetensors", "models") from error


# -- one step ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Which documents a mixture is fitted on and which it is measured on: a function of (seed, id) alone."""

    share: float = 1.0
    """Of the documents, that are used at all; in (0, 1]."""
    held_out: float = 0.0
    """Of those, that it is measured on and not fitted on; in [0, 1)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 <= self.held_out < 1):
            message = f"share must be in (0, 1] and held_out in [0, 1); got {self.share} and {self.held_out}."
            raise UsageError(message)

    @property
    def needs_id(self) -> bool:
        """Whether it depends on the id."""
        return self.share < 1 or self.held_out > 0

    def masks(self, ids: list[Any]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which are fitted on, and which are held out."""
        used = np.ones(len(ids), dtype=np.bool_) if self.share == 1 else uniform(ids, self.seed + 1) < self.share
        if not self.held_out:
            return used, np.zeros(len(ids), dtype=np.bool_)
        held = uniform(ids, self.seed) < self.held_out
        return used & ~held, used & held

    def divide(self, table: pa.Table, vectors: Vectors, who: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The vectors of a table that are fitted on, and those that are held out."""
        if not self.needs_id:
            return vectors.values, vectors.values[:0]
        ids = require(table, "id", who).to_numpy()[vectors.present]
        fitted, held = self.masks(ids.tolist())
        return vectors.values[fitted], vectors.values[held]


@dataclass
class Sums:
    """What a step adds up; all float64, relative to the centre of the mixture."""

    mass: Floats
    """[components]: sums of shares."""
    first: Floats
    """[components, width]: of shares x values."""
    second: Floats
    """[components, width]: of shares x squares."""
    log_likelihood: float = 0.0
    documents: int = 0
    held_out: float = 0.0
    """Log likelihood of the documents that are held out."""
    held_out_documents: int = 0
    missing: int = 0
    """Documents without an embedding."""


@dataclass(frozen=True)
class StepResult:
    """What came of one step."""

    mixture: Mixture
    """After the step."""
    log_likelihood: float
    """Mean over the documents fitted on, in nats, under the mixture before the step."""
    held_out: float | None
    """The same of the documents held out; None where there are none."""
    documents: int
    held_out_documents: int
    missing: int
    """Documents without an embedding."""


@dataclass(frozen=True)
class MixtureStep(Fold[Sums, StepResult]):
    """One iteration of EM: the mixture that makes the documents likelier than ``mixture`` does.

    Documents without an embedding (null) are counted and left out. Sums are made in float64 and in the order of the
    documents, so that a fixed cut and order of merging gives the same bits; any other agrees to about 1e-12.
    """

    mixture: Mixture
    column: str = "embedding"
    """Lists of numbers, all of the mixture's width."""
    reg_covar: float = 1e-6
    """Added to every variance."""
    part: Part = field(default_factory=Part)
    only_measure: bool = False
    """Whether to look at the documents held out alone, and leave the mixture as it is."""

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the embeddings, and ids where documents are held out."""
        check_column(schema, self.column, self.name, width=self.mixture.width, embedder=self.mixture.embedder)
        return Needs(reads=reads_of(schema, self.column, needs_id=self.part.needs_id))

    def start(self) -> Sums:
        """No documents."""
        shape = self.mixture.means.shape
        return Sums(np.zeros(shape[0]), np.zeros(shape), np.zeros(shape))

    def add(self, state: Sums, table: pa.Table) -> Sums:
        """Add a table's documents.

        Raises:
            BadRecordError: An embedding has another width, or holds what is no finite number.
        """
        vectors = read_vectors(table, self.column, self.name, BadRecordError, width=self.mixture.width)
        fitted, held = self.part.divide(table, vectors, self.name)
        screen = self.mixture._screen  # noqa: SLF001  its own module
        if not self.only_measure:
            state.log_likelihood += accumulate(screen, fitted, state.mass, state.first, state.second)
        state.documents += len(fitted)
        if len(held):
            state.held_out += float(log_probabilities(screen, held).sum())
            state.held_out_documents += len(held)
        state.missing += int((~vectors.present).sum())
        return state

    def merge(self, left: Sums, right: Sums) -> Sums:
        """Both."""
        left.mass += right.mass
        left.first += right.first
        left.second += right.second
        left.log_likelihood += right.log_likelihood
        left.documents += right.documents
        left.held_out += right.held_out
        left.held_out_documents += right.held_out_documents
        left.missing += right.missing
        return left

    def finish(self, state: Sums) -> StepResult:
        """The mixture after the step.

        Raises:
            UsageError: No document has an embedding.
        """
        if not state.documents:
            message = (
                f"{self.name}: none of {state.missing:,} documents has an embedding in the column {self.column!r} "
                "to fit a mixture on. A blank text has none; are these the right documents?"
            )
            raise UsageError(message)
        held = state.held_out / state.held_out_documents if state.held_out_documents else None
        return StepResult(
            mixture=self.mixture if self.only_measure else self._maximised(state),
            log_likelihood=state.log_likelihood / state.documents,
            held_out=held,
            documents=state.documents,
            held_out_documents=state.held_out_documents,
            missing=state.missing,
        )

    def _maximised(self, state: Sums) -> Mixture:
        """The mixture of these sums: scikit-learn's formulas, written for values relative to the centre.

        With m = mass + guard, scikit-learn has the mean sum(x) / m and the variance sum(x²) / m - mean². A full
        component's differs from that of centred values by nothing; an empty one's mean is 0, and not the centre.
        """
        centre = self.mixture._screen.centre  # noqa: SLF001  its own module
        mass = state.mass + _EMPTY
        full, lacking = (state.mass / mass)[:, None], (_EMPTY / mass)[:, None]
        away, squares = state.first / mass[:, None], state.second / mass[:, None]
        variances = squares - away * away + lacking * centre * (2 * away + full * centre)
        return Mixture(
            weights=mass / mass.sum(),
            means=away + full * centre,
            # Rounding alone makes a variance negative.
            variances=np.maximum(variances, 0.0) + self.reg_covar,
            embedder=self.mixture.embedder,
        )


# -- weights -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MixtureWeights(Stage):
    """Adds how much likelier a document is under the target's mixture than under the raw data's.

    Answer: ``log p_target(x) - log p_raw(x)`` of the embedding x, in nats, as float64 in the column ``score_field``.
    Range: Any finite number; above 0 where the document is rather like the target.
    Empty text: A document without an embedding, as Embed gives a blank text, has a null weight.
    Bad values: A document whose embedding holds NaN or infinity, or has another length, is set aside.
    Relations: the mixture features of the hybrid of DSIR (Xie et al. 2023, arXiv:2302.03169).
    """

    raw: Mixture | str | os.PathLike[str]
    """Fitted on the raw documents; or its file."""
    target: Mixture | str | os.PathLike[str]
    """Fitted on the target; or its file."""
    column: str = "embedding"
    score_field: str = "log_weight_gmm"
    embedder: str = ""
    """The model that the embeddings come from, where it is known; mixtures of another are refused."""

    def _mixtures(self) -> tuple[Mixture, Mixture]:
        raw, target = (each if isinstance(each, Mixture) else Mixture.load(each) for each in (self.raw, self.target))
        if raw.width != target.width:
            message = (
                f"{self.name}: the raw mixture has {raw.width} dimensions and the target's has {target.width}. Fit "
                "both on embeddings of the same model."
            )
            raise UsageError(message)
        models = dict.fromkeys(name for name in (raw.embedder, target.embedder, self.embedder) if name)
        if len(models) > 1:
            message = (
                f"{self.name}: the raw mixture, the target's and the embeddings must come from the same model; here "
                f"are {' and '.join(map(repr, models))}."
            )
            raise UsageError(message)
        return raw, target

    def identity(self) -> Mapping[str, str]:
        """The numbers of both mixtures."""
        raw, target = self._mixtures()
        return {"raw": raw.fingerprint, "target": target.fingerprint}

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the embeddings, makes the weights."""
        raw, target = self._mixtures()
        embedder = self.embedder or raw.embedder or target.embedder
        check_column(schema, self.column, self.name, width=raw.width, embedder=embedder)
        return Needs(reads=reads_of(schema, self.column), makes=(pa.field(self.score_field, pa.float64()),))

    def open(self) -> TableFunction:
        """The function that adds the weights."""
        raw, target = self._mixtures()

        def weigh(table: pa.Table) -> pa.Table:
            # ValueError is a document's fault: the engine finds it, sets it aside, and goes on.
            vectors = read_vectors(table, self.column, self.name, ValueError, width=raw.width)
            weights = np.zeros(table.num_rows)
            weights[vectors.present] = target.log_prob(vectors.values) - raw.log_prob(vectors.values)
            return put(table, self.score_field, pa.array(weights, mask=~vectors.present))

        return weigh
