"""Which rows of a window run together: sorted by length, counted on the longest row, within a budget that only falls.

Pure arithmetic over lengths, without torch, so that all of it can be tested with a device that does not exist::

    budget = Budget(tokens=4096)
    pieces = run_batches(lengths, run, budget, out_of_memory=(torch.OutOfMemoryError,))
    outputs = restore(pieces, len(lengths), width)       # float32 [rows, width], in the order of `lengths`

The longest rows go first: the largest batch of a window is its first one, so that memory that does not suffice shows at
once, and lowers the budget before the rest. Sizing such a batch by its shortest row, or giving every batch the same
number of rows, is what lets memory overflow on long texts and leaves the device idle on short ones.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from tamis.errors import StageError, UsageError

__all__ = ["Budget", "Cost", "OneRowTooLarge", "Usage", "restore", "run_batches"]

Result = TypeVar("Result")
Rows = npt.NDArray[np.int64]


class OneRowTooLarge(Exception):  # noqa: N818  a signal to the caller, who says it as a TamisError
    """One row ran alone and was still out of memory; whoever knows the text makes a sentence of it."""

    def __init__(self, row: int, length: int, cause: str) -> None:
        super().__init__(row, length, cause)
        self.row = row
        """Index of the row in the lengths that were given."""
        self.length = length
        """Its length in tokens."""
        self.cause = cause
        """What the device said."""


@dataclass(frozen=True)
class Cost:
    """What a batch of B rows padded to length L costs: ``fixed + per_token * B * L + per_square * B * L²``.

    In bytes or seconds, as the caller measures. Every term is finite and at least 0: a larger batch never costs less.
    B may be fractional: rows without padding cost at most as much as ``tokens / longest`` rows of the longest length.
    """

    fixed: float = 0.0
    per_token: float = 0.0
    per_square: float = 0.0
    margin: float = 0.0
    """The largest share by which a measured batch cost more than the fit says; :meth:`ceiling` adds it."""

    def __post_init__(self) -> None:
        terms = (self.fixed, self.per_token, self.per_square, self.margin)
        if not all(math.isfinite(term) and term >= 0 for term in terms):
            message = f"Every term of a cost is a finite number of at least 0, not {terms}."
            raise UsageError(message)

    def of(self, rows: float, longest: int) -> float:
        """The cost of ``rows`` rows of which the longest has ``longest`` tokens."""
        return self.fixed + self.per_token * rows * longest + self.per_square * rows * longest * longest

    def ceiling(self, rows: float, longest: int) -> float:
        """At least what any batch cost that the fit was made from; elsewhere an estimate on the safe side."""
        return self.of(rows, longest) * (1 + self.margin)

    @classmethod
    def fit(cls, rows: npt.ArrayLike, lengths: npt.ArrayLike, measured: npt.ArrayLike) -> Self:
        """The terms of at least 0 with the smallest mean square of *relative* errors.

        Relative, so that batches of 10 MB count as much as those of 10 GB. If every measurement is within a share e of
        some law of this form, the root mean square error at the measured points is at most e / (1 - e). Measurements
        that are not positive and finite say nothing and are left out; from none at all the cost is 0. Telling the
        terms apart takes two lengths, and two batch sizes at one of them; where that fails the lower power wins.
        """
        b, n, m = (np.asarray(each, dtype=np.float64) for each in (rows, lengths, measured))
        useful = np.isfinite(m) & (m > 0)
        b, n, m = b[useful], n[useful], m[useful]
        if not len(m):
            return cls()
        points = np.stack([np.ones_like(b), b * n, b * n * n], axis=1) / m[:, None]
        # Columns differ by ten orders of magnitude: scaled to length 1, or the solver's cut-off would drop one.
        scale = np.linalg.norm(points, axis=0)
        scale[scale == 0] = 1
        terms, error = np.zeros(3), 1.0  # all terms 0 are wrong by all of it
        # The best terms of at least 0 are the plain least squares over some subset of the three: look at all seven.
        for chosen in (list(c) for size in (1, 2, 3) for c in combinations(range(3), size)):
            solution = np.linalg.lstsq(points[:, chosen] / scale[chosen], np.ones_like(m))[0]
            found = float(np.sqrt(np.mean((points[:, chosen] / scale[chosen] @ solution - 1) ** 2)))
            if (solution >= 0).all() and found < error - 1e-9:
                terms, error = np.zeros(3), found
                terms[chosen] = solution / scale[chosen]
        margin = max(
            float((1 / (points @ terms)).max()) - 1, 0.0
        )  # no estimate is 0: a fixed cost alone errs by less than 1
        return cls(float(terms[0]), float(terms[1]), float(terms[2]), margin)


@dataclass
class Budget:
    """How large a batch may be. It belongs to one thread, and only ever falls.

    An empty row counts as one token, for its outputs take memory too.
    """

    tokens: int
    """Rows times the longest row; with ``packed`` the sum of the lengths."""
    rows: int | None = None
    """The most rows of a batch: the user's ``batch_size``."""
    memory: float | None = None
    """The most that a batch may cost by ``cost``, in its unit; ``None`` where it is not known."""
    cost: Cost | None = None
    """Given together with ``memory``."""
    packed: bool = False
    """Whether rows run without padding, so that short rows beside a long one are free."""
    lowered: int = field(default=0, init=False)
    """How many times a batch was out of memory so far."""

    def __post_init__(self) -> None:
        for name, value in (("tokens", self.tokens), ("rows", self.rows)):
            if value is not None and value < 1:
                message = f"A batch needs room for at least 1 of its {name}, not {value}."
                raise UsageError(message)
        if (self.memory is None) != (self.cost is None):
            message = "A budget of memory needs both: how much there is, and what a batch costs."
            raise UsageError(message)

    def used(self, rows: int, longest: int, total: int | None = None) -> int:
        """Tokens that count against :attr:`tokens`; ``total`` is the sum of the lengths (each at least 1)."""
        if self.packed and total is not None:
            return total
        return rows * max(longest, 1)

    def fits(self, rows: int, longest: int, total: int | None = None) -> bool:
        """Whether a batch of ``rows`` rows, the longest of ``longest`` tokens, is within every limit.

        The answer never turns from no to yes when rows are added. A single row is run even if it does not fit.
        """
        if self.rows is not None and rows > self.rows:
            return False
        used = self.used(rows, longest, total)
        return used <= self.tokens and (self.memory is None or self._price(used, longest) <= self.memory)

    def lower(self, rows: int, longest: int, total: int | None = None) -> None:
        """After this batch was out of memory: from now on a batch takes half of what it took, at most.

        Called again and again it ends at single rows, after log2(tokens) times at most. Where a memory law is known
        it was wrong by an unknown amount, so both limits fall.
        """
        used = self.used(rows, longest, total)
        self.tokens = max(1, min(self.tokens, used) // 2)
        if self.memory is not None:
            self.memory = min(self.memory, self._price(used / 2, longest))
        self.lowered += 1

    def _price(self, used: float, longest: int) -> float:
        longest = max(longest, 1)
        return self.cost.ceiling(used / longest, longest) if self.cost is not None else 0.0


@dataclass
class Usage:
    """What was run; two of them add up."""

    texts: int = 0
    tokens: int = 0
    """Real tokens."""
    padded: int = 0
    """Tokens that the device computed: rows times the longest row of each batch, the real ones where packed."""
    batches: int = 0
    lowered: int = 0
    """Times a batch was out of memory, and the budget fell."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.texts + other.texts,
            self.tokens + other.tokens,
            self.padded + other.padded,
            self.batches + other.batches,
            self.lowered + other.lowered,
        )

    @property
    def padding_share(self) -> float:
        """Share of the computed tokens that is padding, 0 to below 1; 0 where nothing ran."""
        return 1 - self.tokens / self.padded if self.padded else 0.0

    def add(self, lengths: npt.NDArray[np.int64], *, packed: bool) -> None:
        """Count one batch of rows of these lengths."""
        tokens = int(lengths.sum())
        self.texts += len(lengths)
        self.tokens += tokens
        self.padded += tokens if packed else len(lengths) * int(lengths.max(initial=0))
        self.batches += 1


def _nothing() -> None:
    pass


def run_batches(
    lengths: npt.ArrayLike,
    run: Callable[[Rows], Result],
    budget: Budget,
    *,
    out_of_memory: tuple[type[BaseException], ...],
    release: Callable[[], None] = _nothing,
    usage: Usage | None = None,
) -> Iterator[tuple[Rows, Result]]:
    """Run all rows in batches, the longest first, and yield ``(rows, result)`` of each batch as soon as it ran.

    Which rows run together depends on the lengths, the budget and what was out of memory, and on nothing else. Every
    row is in exactly one of the batches yielded.

    Args:
        lengths: Tokens of each row, shape [n], at least 0.
        run: From the indices of some rows (int64, longest row first, equal lengths in their order) to their result.
        budget: Lowered in place after each batch that was out of memory; give the same one for the next window.
        out_of_memory: The exceptions that mean it. A batch that raises one is run again in smaller batches; any
            other exception passes through.
        release: Called between the two, when nothing of the failed batch is alive any more (to empty a cache).
        usage: Every batch that ran, and every time the budget fell, is counted here.

    Raises:
        OneRowTooLarge: One row alone was out of memory. What was yielded before stays valid.
    """
    usage = Usage() if usage is None else usage
    n = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-n, kind="stable").astype(np.int64)
    ordered = n[order]
    # Empty rows count as one token, as in the budget.
    ends = np.concatenate([[0], np.cumsum(np.maximum(ordered, 1))])
    start = 0
    while start < len(order):
        longest = int(ordered[start])
        count = _largest(ends, start, longest, budget)
        rows = order[start : start + count]
        # The exception holds the frames, and so the memory, of the failed batch: only its words leave this block.
        try:
            result = run(rows)
        except out_of_memory as error:
            cause = str(error) or type(error).__name__
        else:
            usage.add(ordered[start : start + count], packed=budget.packed)
            start += count
            yield rows, result
            del result
            continue
        release()
        if count == 1:
            raise OneRowTooLarge(int(rows[0]), longest, cause)
        budget.lower(count, longest, int(ends[start + count] - ends[start]))
        usage.lowered += 1


def _largest(ends: Rows, start: int, longest: int, budget: Budget) -> int:
    """How many rows from ``start`` on fit: by halving, as a window may hold 50,000 rows of one word."""
    left = len(ends) - 1 - start

    def too_many(rows: int) -> bool:
        return not budget.fits(rows, longest, int(ends[start + rows] - ends[start]))

    return max(1, bisect_left(range(1, left + 1), x=True, key=too_many))


def restore(
    pieces: Iterable[tuple[Rows, npt.NDArray[Any]]], count: int, width: int, dtype: npt.DTypeLike = np.float32
) -> npt.NDArray[Any]:
    """The outputs of all batches in the order of the rows, shape [count, width].

    Args:
        pieces: ``(rows, outputs)`` with outputs of shape [len(rows), width], as :func:`run_batches` yields them.
        count: Rows in all.
        width: Outputs per row.
        dtype: Of the result.

    Raises:
        StageError: A row came twice or never, or a batch gave another number of outputs than it has rows.
    """
    restored = np.empty((count, width), dtype=dtype)
    seen = np.zeros(count, dtype=np.int64)
    for rows, outputs in pieces:
        if outputs.shape != (len(rows), width):
            message = (
                f"A batch of {len(rows)} rows gave outputs of shape {outputs.shape} instead of {(len(rows), width)}."
            )
            raise StageError(message)
        restored[rows] = outputs
        np.add.at(seen, rows, 1)
    if (seen != 1).any():
        row = int(np.flatnonzero(seen != 1)[0])
        message = f"Row {row} of {count} was answered {seen[row]} times instead of once."
        raise StageError(message)
    return restored
