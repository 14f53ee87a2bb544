"""A classifier of one's own: a linear head on frozen embeddings, from texts that somebody has labelled.

This is what made FineWeb-Edu (Penedo et al. 2024, arXiv:2406.17557): a strong model or a person scores some thousand
documents, a small head learns from their embeddings, and scores the rest. Fitting takes seconds.

Which texts are held out, and which fold a text is in, follows from hashes of the texts: any order of the same documents
gives the same head, and copies of a text are never on both sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from tamis.classifiers.fitting import (
    Classes,
    Floats,
    Linear,
    log_loss,
    logistic,
    ridge,
    softmax64,
    temperature_of,
)
from tamis.errors import UnknownNameError, UsageError
from tamis.hashing import hash64

__all__ = [
    "ClassScores",
    "NumberScores",
    "TrainedHead",
    "Training",
    "check_labels",
    "folds_of",
    "pick_task",
    "train_head",
]

HeadTask = Literal["auto", "classification", "regression"]
Features = npt.NDArray[np.float32]

_CLASS_STRENGTHS = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001]
_NUMBER_STRENGTHS = [10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0001]
_MOST_CLASSES = 1000
_ECE_BINS = 15


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a head is trained."""

    task: HeadTask = "auto"
    """Classes or numbers. By default numbers where all labels are numbers of more than two values."""
    folds: int = 5
    """Parts of the cross-validation that chooses the strength of the penalty."""
    test_share: float = 0.2
    """Share of the texts that is held out of everything, and on which the result is measured; 0 for none."""
    class_weights: Literal["balanced"] | None = None
    """``balanced``: every class counts the same, however many examples it has. Probabilities are then those of a world
    in which all classes are equally frequent."""
    seed: int = 0
    """Another one holds out other texts."""

    def __post_init__(self) -> None:
        if self.task not in get_args(HeadTask):
            raise UnknownNameError.of(str(self.task), get_args(HeadTask), kind="task")
        if type(self.folds) is not int or self.folds < 2:
            message = f"folds must be a whole number of at least 2; got {self.folds!r}."
            raise UsageError(message)
        if not 0 <= self.test_share <= 0.9:
            message = f"test_share must be from 0 to 0.9, a share of the texts; got {self.test_share!r}."
            raise UsageError(message)
        if self.class_weights not in (None, "balanced"):
            message = f'class_weights must be None or "balanced"; got {self.class_weights!r}.'
            raise UsageError(message)


@dataclass(frozen=True)
class ClassScores:
    """How good classes are that the head did not see."""

    examples: int
    accuracy: float
    """Share of texts that get their label."""
    majority: float
    """What always saying the most frequent label would reach."""
    macro_f1: float
    """Mean over the classes of 2 · hits / (labelled + predicted)."""
    log_loss: float
    """Nats, with the temperature applied."""
    ece_raw: float
    """Expected calibration error before the temperature: how far the probability of the predicted label is from the
    share of hits, mean over 15 bins of equal width (Guo et al. 2017, arXiv:1706.04599)."""
    ece: float
    """The same with the temperature applied."""
    confusion: tuple[tuple[int, ...], ...]
    """Texts by label (rows) and prediction (columns)."""


@dataclass(frozen=True)
class NumberScores:
    """How good numbers are for texts that the head did not see."""

    examples: int
    r2: float
    """Share of the variance that is explained: 0 for always saying the mean, 1 for no error."""
    mae: float
    """Mean absolute error, in units of the label."""
    rmse: float
    """Root of the mean squared error."""
    spread: float
    """Standard deviation of the labels: the root of the mean squared error of always saying the mean."""


Scores = ClassScores | NumberScores


@dataclass(frozen=True)
class TrainedHead:
    """A head and what is known of it; fitted on all texts but the held-out ones."""

    linear: Linear
    labels: tuple[str, ...]
    """Names of the classes in the order of the outputs; of the one output ``("score",)`` for numbers."""
    task: Literal["classification", "regression"]
    temperature: float
    """Logits are divided by it; 1 for numbers."""
    strength: float
    """Of the penalty that was chosen."""
    losses: tuple[tuple[float, float], ...]
    """Strengths tried, and the loss of each in cross-validation: log loss, or mean squared error."""
    counts: tuple[int, ...]
    """Examples of each class; of all for numbers."""
    cross_validated: Scores
    held_out: Scores | None


# -- folds ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranks:
    """Where the text of each example stands when texts are ordered by stratum and hash; [examples] each, from 0."""

    within: npt.NDArray[np.int64]
    """Its place in its stratum."""
    size: npt.NDArray[np.int64]
    """Distinct texts of its stratum."""
    overall: npt.NDArray[np.int64]
    """Its place among all."""


def ranks(ids: npt.NDArray[np.str_], strata: npt.NDArray[np.int64], seed: int) -> Ranks:
    """Order the texts of examples; examples of one id share a place.

    An id that is in several strata (copies of a text with different labels) counts to the lowest.
    """
    distinct, where = np.unique(ids, return_inverse=True)
    home = np.full(len(distinct), np.iinfo(np.int64).max)
    np.minimum.at(home, where, strata)
    # Ids come sorted from np.unique and the sort is stable: even a collision of hashes has one order.
    order = np.lexsort((hash64(distinct.tolist(), seed), home))
    sizes = np.bincount(home)
    first = np.cumsum(sizes) - sizes
    overall = np.empty(len(distinct), dtype=np.int64)
    overall[order] = np.arange(len(distinct))
    return Ranks((overall - first[home])[where], sizes[home][where], overall[where])


def folds_of(ids: Sequence[str], strata: npt.NDArray[np.int64], training: Training) -> npt.NDArray[np.int64]:
    """The fold of each example, from 0; -1 where it is held out.

    Folds and the held-out part have the same share of every stratum, and do not depend on the order of the examples.
    """
    names = np.array(ids, dtype=np.str_)
    place = ranks(names, strata, training.seed)
    fold = np.full(len(names), -1, dtype=np.int64)
    seen = place.within >= _held_out(place.size, training.test_share)
    # Another hash: the order that chose the held-out ones must not choose the folds as well.
    fold[seen] = ranks(names[seen], strata[seen], training.seed + 1).overall % training.folds
    return fold


def _held_out(size: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.int64]:
    """Texts held out of a stratum: the share, rounded, and one at least if there is any share."""
    return np.asarray(np.maximum(np.rint(size * share), 1 if share else 0), dtype=np.int64)


def _enough(training: Training) -> int:
    """Distinct texts that a class needs, so that every fold has one."""
    sizes = np.arange(1, 20 * training.folds + 20)
    return int(sizes[sizes - _held_out(sizes, training.test_share) >= training.folds][0])


# -- labels --------------------------------------------------------------------------------------------------


def pick_task(values: Sequence[Any], wanted: HeadTask) -> Literal["classification", "regression"]:
    """Classes or numbers; by default numbers where all labels are numbers of more than two values."""
    if wanted != "auto":
        return wanted
    numbers = all(type(value) in (int, float) for value in values)
    return "regression" if numbers and len(set(values)) > 2 else "classification"


def _classes(values: Sequence[Any], ids: Sequence[str], training: Training) -> tuple[tuple[str, ...], Classes]:
    """Names of the classes, sorted, and the class of each example."""
    kinds = {type(value) for value in values} - {str, int, float, bool}
    if kinds:
        message = (
            "a label must be text, a number or true/false, and one for each document; some here are of the type "
            f"{', '.join(sorted(k.__name__ for k in kinds))}."
        )
        raise UsageError(message)
    named = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    counts = Counter(label for _, label in {*zip(ids, named, strict=True)})
    names = tuple(sorted(counts))
    if len(names) < 2:
        message = (
            f"all {len(values):,} examples have the label {names[0]!r}: there is nothing to tell apart. "
            "Add examples that have another."
        )
        raise UsageError(message)
    enough = _enough(training)
    rare = sorted((n, name) for name, n in counts.items() if n < enough)
    if rare:
        shown = ", ".join(f"{name!r} {n}" for n, name in rare[:5]) + (", …" if len(rare) > 5 else "")
        message = (
            f"{len(rare)} of {len(names)} labels have fewer than {enough} different texts ({shown}), too few to learn "
            f"and to measure with {training.folds} folds. Give them more examples, merge them, leave them out, or use "
            "fewer folds."
        )
        if len(rare) > len(names) // 2:
            message += " Is this the right field?"
        raise UsageError(message)
    if len(names) > _MOST_CLASSES:
        message = f"there are {len(names):,} labels; at most {_MOST_CLASSES:,} can be learnt. Is this the right field?"
        raise UsageError(message)
    index = {name: i for i, name in enumerate(names)}
    return names, np.array([index[name] for name in named], dtype=np.int64)


def _numbers(values: Sequence[Any], ids: Sequence[str], training: Training) -> Floats:
    found = np.empty(len(values))
    for i, value in enumerate(values):
        try:
            found[i] = float(value)
        except (TypeError, ValueError) as error:
            message = (
                f"regression needs numbers as labels, and one here is {str(value)[:40]!r}. Choose another field, or "
                "--task classification."
            )
            raise UsageError(message) from error
    if not np.isfinite(found).all():
        message = (
            f"{int((~np.isfinite(found)).sum()):,} labels are infinite or no number; regression needs finite ones."
        )
        raise UsageError(message)
    if len(set(found.tolist())) < 2:
        message = (
            f"all {len(found):,} labels are {found[0]:g}: there is nothing to learn. Add examples that have others."
        )
        raise UsageError(message)
    texts, enough = len(set(ids)), 4 * training.folds
    if texts < enough:
        message = (
            f"there are {texts} different texts with a label; a regression with {training.folds} folds needs {enough}."
        )
        raise UsageError(message)
    return found


# -- training ------------------------------------------------------------------------------------------------


def check_labels(values: Sequence[Any], ids: Sequence[str], training: Training) -> None:
    """Raise what :func:`train_head` would raise of these labels, before anything is embedded.

    Raises:
        UsageError: The labels cannot be learnt: one class only, too few examples of one, no numbers.
    """
    if not len(values):
        message = "there are no examples: no document has both a text and a label."
        raise UsageError(message)
    if pick_task(values, training.task) == "classification":
        _classes(values, ids, training)
    else:
        _numbers(values, ids, training)


def train_head(
    features: Features, values: Sequence[Any], ids: Sequence[str], training: Training | None = None
) -> TrainedHead:
    """Fit a head, its strength chosen by cross-validation, and measure it on texts that were held out.

    Args:
        features: Embeddings, finite, [examples, width].
        values: A label for each: text, numbers, or true and false; none missing.
        ids: What tells texts apart: examples of one id stay together (:func:`tamis.hashing.document_id`).
        training: How.

    Raises:
        UsageError: The labels cannot be learnt: one class only, too few examples of one, no numbers.
    """
    training = training or Training()
    if not len(features) == len(values) == len(ids):
        message = f"features, labels and ids must be as many; got {len(features)}, {len(values)} and {len(ids)}."
        raise UsageError(message)
    check_labels(values, ids, training)
    # Sums in float64 depend on their order in the last bits; sorted, the same documents give the same head.
    order = np.lexsort((np.array([str(v) for v in values]), np.array(ids, dtype=np.str_)))
    features, values, ids = features[order], [values[i] for i in order], [ids[i] for i in order]
    if pick_task(values, training.task) == "classification":
        names, classes = _classes(values, ids, training)
        return _train_classes(features, classes, names, folds_of(ids, classes, training), training)
    numbers = _numbers(values, ids, training)
    # Strata of like labels, so that every fold has high and low ones.
    cuts = np.unique(np.quantile(numbers, np.linspace(0, 1, 6)[1:-1]))
    folds = folds_of(ids, np.searchsorted(cuts, numbers), training)
    return _train_numbers(features, numbers, folds, training)


def _train_classes(
    features: Features, classes: Classes, names: tuple[str, ...], folds: Classes, training: Training
) -> TrainedHead:
    counts = np.bincount(classes, minlength=len(names))
    weights = (1.0 / counts)[classes] if training.class_weights == "balanced" else np.ones(len(classes))
    seen = folds >= 0
    x, y, w, fold = features[seen], classes[seen], weights[seen], folds[seen]
    strengths = list(_CLASS_STRENGTHS)
    logits = np.empty((len(strengths), len(y), len(names)))
    for k in range(training.folds):
        inside, outside = fold != k, fold == k
        losses: list[float] = []
        for linear in logistic(x[inside], y[inside], len(names), strengths, weights=w[inside], tolerance=1e-5):
            logits[len(losses), outside] = found = linear(x[outside])
            losses.append(log_loss(found, y[outside], w[outside]))
            # Weak penalties are the ones that take long. Past the first fold's best by a factor of ten, they are left.
            if k == 0 and len(losses) - int(np.argmin(losses)) > 2:
                strengths = strengths[: len(losses)]
                break
    losses = [log_loss(each, y, w) for each in logits[: len(strengths)]]
    best = int(np.argmin(losses))
    linear = next(logistic(x, y, len(names), [strengths[best]], weights=w))
    temperature = temperature_of(logits[best], y)
    held_out = None
    if not seen.all():
        held_out = score_classes(linear(features[~seen]), classes[~seen], temperature)
    return TrainedHead(
        linear=linear,
        labels=names,
        task="classification",
        temperature=temperature,
        strength=strengths[best],
        losses=tuple(zip(strengths, losses, strict=True)),
        counts=tuple(counts.tolist()),
        cross_validated=score_classes(logits[best], y, temperature),
        held_out=held_out,
    )


def _train_numbers(features: Features, numbers: Floats, folds: Classes, training: Training) -> TrainedHead:
    seen = folds >= 0
    x, y, fold = features[seen], numbers[seen], folds[seen]
    predicted = np.empty((len(_NUMBER_STRENGTHS), len(y)))
    for k in range(training.folds):
        inside, outside = fold != k, fold == k
        for i, linear in enumerate(ridge(x[inside], y[inside], _NUMBER_STRENGTHS)):
            predicted[i, outside] = linear(x[outside])[:, 0]
    losses = [float(((each - y) ** 2).mean()) for each in predicted]
    best = int(np.argmin(losses))
    (linear,) = ridge(x, y, [_NUMBER_STRENGTHS[best]])
    held_out = None if seen.all() else score_numbers(linear(features[~seen])[:, 0], numbers[~seen])
    return TrainedHead(
        linear=linear,
        labels=("score",),
        task="regression",
        temperature=1.0,
        strength=_NUMBER_STRENGTHS[best],
        losses=tuple(zip(_NUMBER_STRENGTHS, losses, strict=True)),
        counts=(len(numbers),),
        cross_validated=score_numbers(predicted[best], y),
        held_out=held_out,
    )


# -- scores --------------------------------------------------------------------------------------------------


def score_classes(logits: Floats, classes: Classes, temperature: float = 1.0) -> ClassScores:
    """Scores of logits [texts, classes], before the temperature, against the true classes."""
    width = logits.shape[1]
    predicted = logits.argmax(axis=1)
    confusion = np.bincount(classes * width + predicted, minlength=width * width).reshape(width, width)
    hits, labelled, said = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    present = labelled + said > 0  # a class that neither is nor is said has no F1
    f1 = 2 * hits[present] / (labelled + said)[present]
    return ClassScores(
        examples=len(classes),
        accuracy=float(hits.sum() / len(classes)),
        majority=float(labelled.max() / len(classes)),
        macro_f1=float(f1.mean()),
        log_loss=log_loss(logits / temperature, classes),
        ece_raw=calibration_error(softmax64(logits), classes),
        ece=calibration_error(softmax64(logits / temperature), classes),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def calibration_error(probabilities: Floats, classes: Classes) -> float:
    """Expected calibration error of the predicted labels, in [0, 1]; 15 bins of equal width."""
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == classes
    bins = np.minimum((sure * _ECE_BINS).astype(np.int64), _ECE_BINS - 1)
    gaps = np.bincount(bins, weights=right - sure, minlength=_ECE_BINS)
    return float(np.abs(gaps).sum() / len(classes))


def score_numbers(predicted: Floats, numbers: Floats) -> NumberScores:
    """Scores of predicted numbers against the true ones."""
    errors = predicted - numbers
    squared, variance = float((errors**2).mean()), float(numbers.var())
    return NumberScores(
        examples=len(numbers),
        r2=1 - squared / variance if variance else float("nan"),
        mae=float(np.abs(errors).mean()),
        rmse=float(np.sqrt(squared)),
        spread=float(np.sqrt(variance)),
    )
