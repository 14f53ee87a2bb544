"""Linear models fitted to their optimum, in float64: multinomial logistic regression, ridge regression, temperature.

Features are standardised inside, so that one strength of the penalty means the same for all of them, and the weights
that come out take the features as they are. Biases are not penalised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Linear", "log_loss", "logistic", "ridge", "softmax64", "temperature_of"]

Floats = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]

_STEPS = 100
"""Newton steps; a dozen are usual."""


@dataclass(frozen=True)
class Linear:
    """``features @ weight.T + bias``."""

    weight: Floats
    """[outputs, features]"""
    bias: Floats
    """[outputs]"""

    def __call__(self, features: npt.NDArray[Any]) -> Floats:
        """Outputs in float64, [texts, outputs]."""
        return np.asarray(features @ self.weight.T + self.bias, dtype=np.float64)


def softmax64(logits: Floats) -> Floats:
    """Probabilities that add up to 1 in each row."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def log_loss(logits: Floats, classes: Classes, weights: Floats | None = None) -> float:
    """Mean of -log(probability of the true class), in nats; ``weights`` are of the examples."""
    top = logits.max(axis=1)
    losses = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top - logits[np.arange(len(classes)), classes]
    return float(np.average(losses, weights=weights))


def _scale(features: npt.NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Standardised features, and the means and deviations they were standardised with."""
    wide = np.asarray(features, dtype=np.float64)
    mean, deviation = wide.mean(axis=0), wide.std(axis=0)
    # A feature that never changes would be divided by 0, or by the rounding of one.
    deviation = np.where(deviation > 1e-9 * (1 + np.abs(mean)), deviation, np.inf)
    return (wide - mean) / deviation, mean, deviation


def _unscaled(weight: Floats, bias: Floats, mean: Floats, deviation: Floats) -> Linear:
    plain = weight / deviation
    return Linear(plain, bias - plain @ mean)


# -- classes -------------------------------------------------------------------------------------------------


def logistic(
    features: npt.NDArray[Any],
    classes: Classes,
    count: int,
    strengths: Iterable[float],
    *,
    weights: Floats | None = None,
    tolerance: float = 1e-7,
) -> Iterator[Linear]:
    """Multinomial logistic regression for each strength of the penalty in turn, by Newton's method.

    Minimises the mean log loss plus ``strength / 2`` times the sum of the squared weights (of standardised
    features). With scikit-learn's ``LogisticRegression`` this is ``C = 1 / (strength * examples)``.

    Args:
        features: [examples, features].
        classes: [examples], from 0.
        count: How many classes there are.
        strengths: One model is fitted for each, best given from strong to weak: each starts from the last.
        weights: Of the examples, any scale; equal by default.
        tolerance: Largest element of the gradient at the end.
    """
    scaled, mean, deviation = _scale(features)
    # Turned to their principal axes, features are uncorrelated: the penalty is the same there, and curvature is near
    # to diagonal, which spares conjugate gradients two thirds of their passes over the examples.
    powers, axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    x = np.column_stack([scaled @ axes, np.ones(len(scaled))])
    powers = np.append(np.maximum(powers, 0), 1.0)
    shares = np.full(len(x), 1.0 / len(x)) if weights is None else weights / weights.sum()
    theta = np.zeros((x.shape[1], count))
    for strength in strengths:
        theta = _newton(_Softmax(x, powers, classes, shares, strength), theta, tolerance)
        bias = theta[-1] - theta[-1].mean()  # adding one number to all logits changes nothing
        yield _unscaled((axes @ theta[:-1]).T, bias, mean, deviation)


@dataclass(frozen=True)
class _Softmax:
    """The objective of one logistic regression at parameters ``theta`` [features + 1, classes]."""

    x: Floats
    powers: Floats
    """Mean square of each feature."""
    classes: Classes
    shares: Floats
    strength: float

    def loss(self, theta: Floats) -> float:
        penalty = 0.5 * self.strength * float((theta[:-1] ** 2).sum())
        return log_loss(self.x @ theta, self.classes, self.shares) + penalty

    def gradient(self, theta: Floats) -> tuple[Floats, Floats]:
        """The gradient, and the probabilities that curvature is computed from."""
        found = softmax64(self.x @ theta)
        errors = found.copy()
        errors[np.arange(len(errors)), self.classes] -= 1
        return self._penalised(self.x.T @ (errors * self.shares[:, None]), theta), found

    def curvature(self, found: Floats, direction: Floats) -> Floats:
        """The Hessian times a direction."""
        moved = self.x @ direction
        moved -= (found * moved).sum(axis=1, keepdims=True)
        return self._penalised(self.x.T @ (found * moved * self.shares[:, None]), direction)

    def diagonal(self, found: Floats) -> Floats:
        """About the diagonal of the Hessian, as if probabilities had nothing to do with features."""
        spread = (found * (1 - found) * self.shares[:, None]).sum(axis=0)
        penalty = np.append(np.full(len(self.powers) - 1, self.strength), 0.0)
        return self.powers[:, None] * spread + penalty[:, None] + 1e-12

    def _penalised(self, gradient: Floats, theta: Floats) -> Floats:
        gradient[:-1] += self.strength * theta[:-1]
        return gradient


def _newton(problem: _Softmax, theta: Floats, tolerance: float) -> Floats:
    """The minimum, from ``theta``: Newton steps by conjugate gradients, halved until they improve enough."""
    loss = problem.loss(theta)
    for _ in range(_STEPS):
        gradient, found = problem.gradient(theta)
        if np.abs(gradient).max() <= tolerance:
            break
        step = _conjugate(problem, found, gradient)
        slope = float((gradient * step).sum())
        size = 1.0
        while (tried := problem.loss(theta + size * step)) > loss + 1e-4 * size * slope and size > 1e-10:
            size /= 2
        if size <= 1e-10:  # rounding: no step improves any more
            break
        theta, loss = theta + size * step, tried
    return theta


def _conjugate(problem: _Softmax, found: Floats, gradient: Floats) -> Floats:
    """About minus the inverse Hessian times the gradient; the nearer to the minimum, the closer (Nash 2000)."""
    diagonal = problem.diagonal(found)
    step = np.zeros_like(gradient)
    residual = -gradient
    direction = residual / diagonal
    energy = float((residual * direction).sum())
    enough = min(0.25, energy**0.25) ** 2 * energy  # convergence is faster than linear
    for _ in range(4 * len(gradient)):
        curved = problem.curvature(found, direction)
        bend = float((direction * curved).sum())
        if bend <= 0:
            break
        step += energy / bend * direction
        residual -= energy / bend * curved
        even = residual / diagonal
        before, energy = energy, float((residual * even).sum())
        if energy <= enough:
            break
        direction = even + energy / before * direction
    return step


def temperature_of(logits: Floats, classes: Classes) -> float:
    """The number from 0.05 to 20 that logits are best divided by: it minimises the log loss (Guo et al. 2017).

    The loss is convex in the inverse of the temperature, so that its slope is bisected.
    """
    chosen = logits[np.arange(len(classes)), classes]

    def slope(inverse: float) -> float:
        return float(((softmax64(logits * inverse) * logits).sum(axis=1) - chosen).mean())

    low, high = 0.05, 20.0
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1.0 / float(np.sqrt(low * high))


# -- numbers -------------------------------------------------------------------------------------------------


def ridge(features: npt.NDArray[Any], values: Floats, strengths: list[float]) -> list[Linear]:
    """Ridge regression for each strength of the penalty, in closed form.

    Minimises half the mean squared error plus ``strength / 2`` times the sum of the squared weights (of standardised
    features). With scikit-learn's ``Ridge`` this is ``alpha = strength * examples``.
    """
    scaled, mean, deviation = _scale(features)
    centre = values.mean()
    powers, axes = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    turned = axes.T @ (scaled.T @ (values - centre) / len(scaled))
    weights = [axes @ (turned / (np.maximum(powers, 0) + strength)) for strength in strengths]
    return [_unscaled(weight[None], np.array([centre]), mean, deviation) for weight in weights]
