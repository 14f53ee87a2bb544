"""Filters that keep a document while a number lies within bounds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UsageError
from tamis.filters.base import DocumentFilter
from tamis.text.repetition import repetition
from tamis.text.surface import surface
from tamis.text.words import classes_for

__all__ = ["BoundedFilter", "MeasuredFilter", "require_share", "share"]

_KEEP = pa.scalar(None, pa.string())
Counts = npt.NDArray[np.int64]


class BoundedFilter(DocumentFilter):
    """A filter whose score is kept from a lower to an upper bound, both included.

    Subclasses define :meth:`bounds` and ``score_batch``, and say in ``too_low`` and ``too_high`` what is wrong with a
    document beyond a bound; ``{}`` in these stands for the bound.
    """

    too_low: ClassVar[str] = "its score is below {}"
    too_high: ClassVar[str] = "its score is above {}"
    low_setting: ClassVar[str] = ""
    """The setting that holds the lower of :meth:`bounds`, where both are the same number; "" where none does."""
    high_setting: ClassVar[str] = ""
    """The setting that holds the upper of :meth:`bounds`, where both are the same number; "" where none does."""

    @abstractmethod
    def bounds(self) -> tuple[float | None, float | None]:
        """The least and the greatest score kept; ``None`` where there is no bound."""

    def reasons(self, scores: pa.Array) -> pa.StringArray:
        """What is wrong with a document beyond a bound."""
        low, high = self.bounds()
        reasons = pa.nulls(len(scores), pa.string())
        if high is not None:
            reasons = pc.if_else(pc.less_equal(scores, high), _KEEP, self.too_high.format(f"{high:.6g}"))
        if low is not None:
            reasons = pc.if_else(pc.greater_equal(scores, low), reasons, self.too_low.format(f"{low:.6g}"))
        return reasons

    def keep_batch(self, scores: pa.Array) -> pa.BooleanArray:
        """Whether each score is within the bounds; a null is not."""
        low, high = self.bounds()
        values = scores.to_numpy(zero_copy_only=False)
        keep = np.asarray(scores.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)
        if low is not None:
            keep = keep & (values >= low)
        if high is not None:
            keep = keep & (values <= high)
        return pa.array(keep)

    def keep_document(self, score: float) -> bool:
        """Whether the score is within the bounds; NaN is not."""
        low, high = self.bounds()
        return (low is None or score >= low) and (high is None or score <= high)

    def score_document(self, text: str) -> Any:
        """The score of one text."""
        return self.score_batch(pa.array([text], pa.large_string()))[0].as_py()


class MeasuredFilter(BoundedFilter):
    """A bounded filter whose score is made of what one walk over a text counts.

    Subclasses define :meth:`score` from the counts of :func:`tamis.text.surface.surface` (``family`` "surface") or
    :func:`tamis.text.repetition.repetition` ("repetition"). The walk is made once for all filters in a row.
    """

    family: ClassVar[str] = "surface"
    lang: str = "auto"

    def score(self, counted: Mapping[str, Counts]) -> npt.NDArray[Any]:
        """One score per document, of the type ``score_type``."""
        raise NotImplementedError

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The scores."""
        walk = surface if self.family == "surface" else repetition
        return pa.array(self.score(walk(texts, self.lang)), self.score_type)

    def check(self) -> None:
        """Raise where the language is not known or a bound is no number."""
        classes_for(self.lang)
        low, high = self.bounds()
        if not all(b is None or b == b for b in (low, high)) or (low is not None and high is not None and low > high):  # noqa: PLR0124  NaN alone differs from itself
            message = f"{type(self).__name__}: the bounds {low} and {high} keep nothing."
            raise UsageError(message)


def share(part: Counts, whole: Counts, empty: float = 0.0) -> npt.NDArray[np.float64]:
    """``part`` over ``whole``, and ``empty`` where there is nothing."""
    out = np.full(len(whole), empty)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


def require_share(value: float, name: str) -> None:
    """Raise unless the value is in [0, 1]."""
    if not 0 <= value <= 1:
        message = f"{name} must be in [0, 1]; got {value}."
        raise UsageError(message)
