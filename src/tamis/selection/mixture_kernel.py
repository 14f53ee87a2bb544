"""Probabilities under a mixture of Gaussians with diagonal covariances, exact in float64 at the price of float32.

A component matters to a document only where its log probability is near the best one's. A product of matrices in
float32, with a bound on its error, tells which may; these alone are computed again, in float64 and without the
cancellation of the expanded square, and these alone are summed up. So one iteration costs a quarter of the operations
of products in float64, and what depends on a neighbour in a product (its last bits) decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Screen", "accumulate", "log_probabilities", "screen_of"]

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int32]
Rules = tuple[Singles, Singles]
"""Offset and bounds of a :class:`Screen`."""
Ordered = tuple[npt.NDArray[np.int64], Integers, Integers]
"""Where each component's pairs end; the pairs by component; the document of each."""

_LEFT_OUT = 1e-32
"""A component is left out of a document of which it has less. What it then lacks, of 10**9 documents at most 1e-23, is
nothing even beside scikit-learn's guard for an empty component, 2e-15: on the way to being empty, a component is where
its last 1e-14 of mass was, and what becomes of it decides where the others go."""
_REACH = -float(np.log(_LEFT_OUT))
"""The same in nats below the best component."""
_CELLS = 1 << 21
"""Documents x components in one block: 8 MB in float32, which a third-level cache holds; larger was not faster."""
_DENSE = 0.5
"""Share of components near the best above which a block goes through products in float64: 70 ns a component there,
and 90 ns here beside the 16 ns of the screen (384 dimensions, one core)."""
_UNIT = 2.0**-24
"""Largest relative error of one operation in float32."""
_LARGEST = 1e37
"""Above it a sum in float32 may overflow; then every component is computed in float64."""


@dataclass(frozen=True)
class Screen:
    """A mixture as the kernels take it; all arrays C-ordered, means relative to ``centre``."""

    centre: Floats
    """[width]: the mean of the mixture. What is left after subtracting it is small, and so is the rounding."""
    scale: Floats
    """[width]: one over the standard deviation of the mixture. Documents are multiplied by it for the product, so that
    a dimension which hardly changes does not spoil the bound on the error."""
    constant: Floats
    """[components]: the log probability at the component's mean."""
    means: Floats
    """[components, width]"""
    precisions: Floats
    """[components, width]"""
    product: Singles
    """[2 width, components]: what squares and values of a scaled document are multiplied by."""
    offset: Singles
    """[components]: the log probability at the centre."""
    bounds: Singles
    """[3, components]: the error of the product is at most squared length x first + length x second + third."""
    sizes: tuple[float, float, float]
    """The largest of each of the three, before they are scaled to errors: what a sum can come to."""

    @property
    def rows(self) -> int:
        """Documents in a block."""
        return int(np.clip(_CELLS // len(self.constant), 64, 8192))


def screen_of(weights: Floats, means: Floats, variances: Floats) -> Screen:
    """Prepare a mixture of weights [components] and means and variances [components, width]."""
    width = means.shape[1]
    centre = weights @ means
    away = means - centre
    scale = 1.0 / np.sqrt(weights @ (variances + away * away))
    precisions = 1.0 / variances
    constant = np.log(weights) - 0.5 * (width * np.log(2 * np.pi) + np.log(variances).sum(axis=1))
    linear = away * precisions
    offset = constant - 0.5 * (away * linear).sum(axis=1)
    curved, linear = 0.5 * precisions / scale**2, linear / scale
    sizes = np.stack([curved.max(axis=1), np.sqrt((linear * linear).sum(axis=1)), np.abs(offset)])
    first, second, third = sizes.max(axis=1).tolist()
    with np.errstate(over="ignore"):
        single = offset.astype(np.float32)
        product = np.concatenate([-curved.T, linear.T]).astype(np.float32)
        # Rounded: both factors (two and four units at most), each product, each sum, the offset, and the bound.
        bounds = (sizes * (1.05 * (2 * width + 16) * _UNIT)).astype(np.float32)
    return Screen(
        centre=centre,
        scale=scale,
        constant=constant,
        means=np.ascontiguousarray(away),
        precisions=np.ascontiguousarray(precisions),
        product=np.ascontiguousarray(product),
        offset=single,
        bounds=bounds,
        sizes=(first, second, third),
    )


# -- kernels -------------------------------------------------------------------------------------------------
#
# ``fastmath`` lets sums be vectorised; all numbers are finite there (see ``_LARGEST``), which it asks for.


@nb.njit(nogil=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _cuts(product: Singles, rules: Rules, lengths: Singles, cuts: Singles) -> int:
    """What a component must reach to be near the best one, per document; counts those that do."""
    offset, bounds = rules
    near = 0
    for i in range(product.shape[0]):
        length = lengths[i]
        squared = length * length
        best = np.float32(-3e38)
        for k in range(product.shape[1]):
            error = squared * bounds[0, k] + length * bounds[1, k] + bounds[2, k]
            best = max(best, product[i, k] + offset[k] - error)
        best -= np.float32(_REACH + 0.01)
        cuts[i] = best
        found = 0
        for k in range(product.shape[1]):
            error = squared * bounds[0, k] + length * bounds[1, k] + bounds[2, k]
            found += product[i, k] + offset[k] + error >= best
        near += found
    return near


@nb.njit(nogil=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _candidates(
    product: Singles,
    rules: Rules,
    lengths: Singles,
    cuts: Singles,
    starts: npt.NDArray[np.int64],
    chosen: Integers,
) -> bool:
    """The components near the best one: of document i, in their order, ``chosen[starts[i]:starts[i + 1]]``.

    False where ``chosen`` is too short: this loop may round another way than the one that counted.
    """
    offset, bounds = rules
    found = 0
    for i in range(product.shape[0]):
        length = lengths[i]
        squared = length * length
        starts[i] = found
        if found + product.shape[1] > len(chosen):
            return False
        for k in range(product.shape[1]):
            chosen[found] = k
            error = squared * bounds[0, k] + length * bounds[1, k] + bounds[2, k]
            found += product[i, k] + offset[k] + error >= cuts[i]
    starts[product.shape[0]] = found
    return True


@nb.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _by_component(
    starts: npt.NDArray[np.int64],
    chosen: Integers,
    ends: npt.NDArray[np.int64],
    pairs: Integers,
    documents: Integers,
) -> None:
    """Order the pairs by component: those of component k are ``[ends[k - 1]:ends[k]]`` (of the first, from 0).

    A component's numbers then stay in the first-level cache while its documents pass.
    """
    ends[:] = 0
    for p in range(starts[-1]):
        ends[chosen[p]] += 1
    total = 0
    for k in range(len(ends)):
        count = ends[k]
        ends[k] = total
        total += count
    for i in range(len(starts) - 1):
        for p in range(starts[i], starts[i + 1]):
            k = chosen[p]
            pairs[ends[k]] = p
            documents[ends[k]] = i
            ends[k] += 1


@nb.njit(nogil=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _far(x: Floats, mean: Floats, precision: Floats) -> float:
    """The squared distance of a document from a component, each dimension by its precision."""
    total = 0.0
    for j in range(len(x)):
        away = x[j] - mean[j]
        total += away * away * precision[j]
    return total


@nb.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _shares(
    x: Floats,
    mixture: tuple[Floats, Floats, Floats],
    starts: npt.NDArray[np.int64],
    ordered: Ordered,
    shares: Floats,
    found: Floats,
) -> None:
    """``found`` gets the log probabilities of documents [rows, width], ``shares`` each pair's share of its document.

    Whether a pair counts is decided in float64: it does not depend on how a product was rounded.
    """
    constant, means, precisions = mixture
    ends, pairs, documents = ordered
    begin = 0
    for k in range(len(ends)):
        for q in range(begin, ends[k]):
            shares[pairs[q]] = constant[k] - 0.5 * _far(x[documents[q]], means[k], precisions[k])
        begin = ends[k]
    for i in range(len(x)):
        best = -np.inf
        for p in range(starts[i], starts[i + 1]):
            best = max(best, shares[p])
        total = 0.0
        for p in range(starts[i], starts[i + 1]):
            below = shares[p] - best
            shares[p] = np.exp(below) if below >= -_REACH else 0.0
            total += shares[p]
        for p in range(starts[i], starts[i + 1]):
            shares[p] /= total
        found[i] = best + np.log(total)


@nb.njit(nogil=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _put(x: Floats, share: float, first: Floats, second: Floats) -> None:
    """Add a document to a component's sums."""
    for j in range(len(x)):
        part = share * x[j]
        first[j] += part
        second[j] += part * x[j]


@nb.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _gather(
    x: Floats,
    ordered: Ordered,
    shares: Floats,
    mass: Floats,
    first: Floats,
    second: Floats,
) -> None:
    """Add documents [rows, width] to the sums of their components."""
    ends, pairs, documents = ordered
    begin = 0
    for k in range(len(ends)):
        for q in range(begin, ends[k]):
            share = shares[pairs[q]]
            if share > 0:
                mass[k] += share
                _put(x[documents[q]], share, first[k], second[k])
        begin = ends[k]


# -- blocks --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Near:
    """Which components are near which documents of a block."""

    starts: npt.NDArray[np.int64]
    """Where each document's pairs start, and where the last one's end."""
    ordered: Ordered


def _near(screen: Screen, x: Floats, most: float) -> _Near | None:
    """The pairs of a block [rows, width]; None where they are more than ``most``."""
    rows, components = len(x), len(screen.constant)
    both = np.empty((rows, 2 * x.shape[1]), dtype=np.float32)
    scaled = x * screen.scale
    length = np.sqrt(np.einsum("ij,ij->i", scaled, scaled))
    longest = float(length.max())
    lengths, cuts = length.astype(np.float32), np.empty(rows, dtype=np.float32)
    if not longest * longest * screen.sizes[0] + longest * screen.sizes[1] + screen.sizes[2] < _LARGEST:
        lengths[:] = 0  # nothing is screened: all are near
        product = np.broadcast_to(np.float32(0), (rows, components))
        cuts[:] = -np.inf
        near = rows * components
    else:
        both[:, x.shape[1] :] = scaled
        np.square(both[:, x.shape[1] :], out=both[:, : x.shape[1]])
        product = both @ screen.product
        near = _cuts(product, (screen.offset, screen.bounds), lengths, cuts)
    if near > most:
        return None
    starts = np.empty(rows + 1, dtype=np.int64)
    if near == rows * components:
        chosen = np.tile(np.arange(components, dtype=np.int32), rows)
        starts[:] = np.arange(rows + 1) * components
    else:
        numbers = (product, (screen.offset, screen.bounds), lengths, cuts)
        chosen = np.empty(near + components + rows, dtype=np.int32)
        if not _candidates(*numbers, starts, chosen):
            chosen = np.empty((rows + 1) * components, dtype=np.int32)
            _candidates(*numbers, starts, chosen)
    pairs = starts[-1]
    ordered = (np.empty(components, np.int64), np.empty(pairs, np.int32), np.empty(pairs, np.int32))
    _by_component(starts, chosen, *ordered)
    return _Near(starts, ordered)


def _answer(screen: Screen, x: Floats, near: _Near) -> tuple[Floats, Floats]:
    """Log probabilities [rows] of a block, and the share of each pair."""
    found, shares = np.empty(len(x)), np.empty(near.starts[-1])
    mixture = (screen.constant, screen.means, screen.precisions)
    _shares(x, mixture, near.starts, near.ordered, shares, found)
    return found, shares


def log_probabilities(screen: Screen, vectors: npt.NDArray[np.number]) -> Floats:
    """The log probability of each vector [rows, width], in nats; the same to the last bit whatever is beside it."""
    found = np.empty(len(vectors))
    for start in range(0, len(vectors), screen.rows):
        x: Floats = np.subtract(vectors[start : start + screen.rows], screen.centre, dtype=np.float64)
        near = _near(screen, x, np.inf)
        assert near is not None  # noqa: S101  no number of pairs is above infinity
        found[start : start + len(x)], _ = _answer(screen, x, near)
    return found


def accumulate(screen: Screen, vectors: npt.NDArray[np.number], mass: Floats, first: Floats, second: Floats) -> float:
    """Add vectors [rows, width] to the sums of the components by their shares in them.

    Args:
        screen: The mixture that tells the shares.
        vectors: Finite numbers of any type.
        mass: [components]: gets the sums of shares.
        first: [components, width]: of shares x values, relative to the centre.
        second: [components, width]: of shares x squares.

    Returns:
        The sum of the log probabilities.
    """
    total = 0.0
    for start in range(0, len(vectors), screen.rows):
        x: Floats = np.subtract(vectors[start : start + screen.rows], screen.centre, dtype=np.float64)
        near = _near(screen, x, _DENSE * len(x) * len(mass))
        if near is None:
            total += _dense(screen, x, mass, first, second)
        else:
            found, shares = _answer(screen, x, near)
            _gather(x, near.ordered, shares, mass, first, second)
            total += float(found.sum())
    return total


def _dense(screen: Screen, x: Floats, mass: Floats, first: Floats, second: Floats) -> float:
    """The same where most components are near most documents: products of matrices in float64."""
    squares = x * x
    linear = screen.means * screen.precisions
    shares = squares @ (-0.5 * screen.precisions).T
    shares += x @ linear.T
    shares += screen.constant - 0.5 * (screen.means * linear).sum(axis=1)
    best = shares.max(axis=1, keepdims=True)
    shares -= best
    np.exp(shares, out=shares)
    totals = shares.sum(axis=1, keepdims=True)
    shares /= totals
    mass += shares.sum(axis=0)
    first += shares.T @ x
    second += shares.T @ squares
    return float((best + np.log(totals)).sum())
