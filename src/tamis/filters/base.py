"""Filters: from a text to a score, and from a score to keep or drop.

A filter of your own is a class with two methods::

    class Shouting(DocumentFilter):
        def score_document(self, text: str) -> float:
            return sum(c.isupper() for c in text) / max(len(text), 1)

        def keep_document(self, score: float) -> bool:
            return score < 0.3

    quiet = ScoreFilter(Shouting(), score_field="upper_share")(dataset)
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import StageError, UsageError
from tamis.stage import Needs, Stage, TableFunction
from tamis.table import mark, put, require, text

__all__ = ["DocumentFilter", "Filter", "Score", "ScoreFilter"]

_TEXT_FIELD = "text"


class DocumentFilter(ABC):  # noqa: B024  either the document or the batch methods are overridden
    """How to score a document and which scores to keep.

    Override :meth:`score_document` and :meth:`keep_document`, or for speed their batch forms
    :meth:`score_batch` and :meth:`keep_batch` (or :meth:`reasons`, to say why). What a document scores may depend
    on its text alone. A document on which a method raises is quarantined, and the run goes on.
    """

    score_type: ClassVar[pa.DataType] = pa.float64()
    """Arrow type of the scores."""
    family: ClassVar[str] = ""
    """Filters in a row of the same family share what they find out about a text; see :attr:`tamis.Needs.together`."""

    def identity(self) -> Mapping[str, str]:
        """What its scores depend on besides its settings; see :meth:`tamis.stage.Stage.identity`."""
        return {}

    def score_document(self, text: str) -> Any:
        """The score of one text; a null text is given as the empty one."""
        message = f"{type(self).__name__} defines neither score_document nor score_batch."
        raise StageError(message)

    def keep_document(self, score: Any) -> bool:
        """Whether a document with this score is kept."""
        message = f"{type(self).__name__} defines neither keep_document nor keep_batch."
        raise StageError(message)

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """One score per text, of :attr:`score_type`."""
        return pa.array([self.score_document(t or "") for t in texts.to_pylist()], self.score_type)

    def keep_batch(self, scores: pa.Array) -> pa.BooleanArray:
        """One answer per score. A null score is not kept."""
        return pa.array([s is not None and bool(self.keep_document(s)) for s in scores.to_pylist()], pa.bool_())

    def reasons(self, scores: pa.Array) -> pa.StringArray:
        """Why each document is dropped, null where it is kept; one of a few sentences, for they are counted."""
        return _reasons(self.keep_batch(scores), "not kept by its score")


def _reasons(keep: pa.BooleanArray, reason: str) -> pa.StringArray:
    return pc.if_else(pc.fill_null(keep, fill_value=False), pa.scalar(None, pa.string()), reason)


def _decided(decide: DocumentFilter, scores: pa.Array) -> pa.StringArray:
    """The filter's reasons, and one for each null score: whatever the filter says, it is not kept."""
    reasons = decide.reasons(scores)
    return pc.if_else(pc.is_null(scores), "has no score", reasons) if scores.null_count else reasons


def _inverted(reasons: pa.StringArray) -> pa.StringArray:
    """Drop what was kept, and keep what was dropped."""
    return pc.if_else(pc.is_null(reasons), "inverted: passes the filter", pa.scalar(None, pa.string()))


def _name(thing: object) -> str:
    return getattr(thing, "__name__", None) or type(thing).__name__


def _arrow_type(given: Any, scorer: object) -> pa.DataType:
    if given is None:
        return scorer.score_type if isinstance(scorer, DocumentFilter) else pa.float64()
    if isinstance(given, pa.DataType):
        return given
    # The score_type of NeMo Curator: Python types and their names.
    names = {"float": pa.float64(), "int": pa.int64(), "str": pa.string(), "bool": pa.bool_()}
    key = given.__name__ if isinstance(given, type) else str(given)
    if key not in names:
        message = f"score_type must be an Arrow type or one of {', '.join(names)}; got {given!r}."
        raise UsageError(message)
    return names[key]


@dataclass(frozen=True)
class Score(Stage):
    """Adds a column with the score of each document; drops nothing."""

    score_fn: DocumentFilter | Callable[[str], Any]
    """A filter, or a function from a text to a number."""
    score_field: str
    """Column that is made."""
    text_field: str | None = None
    """Column that is scored; the dataset's text field by default."""
    score_type: Any = None
    """Arrow type of the scores; the filter's own by default, float64 for a function."""

    @property
    def name(self) -> str:
        """``Score`` and what scores."""
        return f"Score {_name(self.score_fn)}"

    def identity(self) -> Mapping[str, str]:
        """That of the filter."""
        return _identity(self.score_fn)

    @property
    def may_drop(self) -> bool:
        """Never."""
        return False

    def on_text_field(self, text_field: str) -> Score:
        """The dataset's text field, where none was named."""
        return replace(self, text_field=text_field) if self.text_field is None else self

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the text, makes the score."""
        kind = _arrow_type(self.score_type, self.score_fn)
        field = self.text_field or _TEXT_FIELD
        made = pa.field(self.score_field, kind)
        return Needs(texts=(field,), makes=(made,), together=_together(self.score_fn, field))

    def open(self) -> TableFunction:
        """The function that adds the column."""
        field, kind, score = self.text_field or _TEXT_FIELD, _arrow_type(self.score_type, self.score_fn), self.score_fn

        def run(table: pa.Table) -> pa.Table:
            texts = text(table, field, self.name)
            if isinstance(score, DocumentFilter):
                return put(table, self.score_field, score.score_batch(texts).cast(kind))
            return put(table, self.score_field, pa.array([score(t or "") for t in texts.to_pylist()], kind))

        return run


@dataclass(frozen=True)
class Filter(Stage):
    """Keeps documents by the value of a column that is there already."""

    filter_fn: DocumentFilter | Callable[[Any], bool]
    """A filter, whose ``keep_document`` decides, or a function from a value to keep or not."""
    filter_field: str
    """Column that decides; a null is not kept."""
    invert: bool = False
    """Keep what would be dropped, and drop what would be kept."""

    @property
    def name(self) -> str:
        """``Filter`` and the column."""
        return f"Filter {self.filter_field}"

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the column."""
        return Needs(reads=(self.filter_field,))

    def open(self) -> TableFunction:
        """The function that marks."""
        decide = self.filter_fn

        def run(table: pa.Table) -> pa.Table:
            values = _whole(require(table, self.filter_field, self.name))
            if isinstance(decide, DocumentFilter):
                reasons = _decided(decide, values)
            else:
                keep = [v is not None and bool(decide(v)) for v in values.to_pylist()]
                reasons = _reasons(pa.array(keep, pa.bool_()), f"not kept by its {self.filter_field}")
            return mark(table, _inverted(reasons) if self.invert else reasons, values)

        return run


def _identity(scorer: object) -> Mapping[str, str]:
    return scorer.identity() if isinstance(scorer, DocumentFilter) else {}


def _together(scorer: object, field: str) -> str:
    """What the filters say that share a walk over this column."""
    family = scorer.family if isinstance(scorer, DocumentFilter) else ""
    return f"{family} of {field}" if family else ""


def _whole(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


@dataclass(frozen=True)
class ScoreFilter(Stage):
    """Scores each document and keeps those whose score the filter keeps."""

    filter_obj: DocumentFilter
    text_field: str | None = None
    """Column that is scored; the dataset's text field by default."""
    score_field: str | None = None
    """Column for the score; not written by default."""
    score_type: Any = None
    """Arrow type of the scores; the filter's own by default."""
    invert: bool = False
    """Keep what would be dropped, and drop what would be kept."""

    def __post_init__(self) -> None:
        if not isinstance(self.filter_obj, DocumentFilter):
            message = (  # type: ignore[unreachable]  # for callers who do not check types
                f"ScoreFilter takes a DocumentFilter, not {_name(self.filter_obj)}. "
                "Derive your class from tamis.DocumentFilter, or use Score and Filter with functions."
            )
            raise UsageError(message)

    @property
    def name(self) -> str:
        """The filter's name."""
        return type(self.filter_obj).__name__

    def identity(self) -> Mapping[str, str]:
        """That of the filter."""
        return _identity(self.filter_obj)

    def on_text_field(self, text_field: str) -> ScoreFilter:
        """The dataset's text field, where none was named."""
        return replace(self, text_field=text_field) if self.text_field is None else self

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the text, makes the score where a column is named for it."""
        kind = _arrow_type(self.score_type, self.filter_obj)
        made = () if self.score_field is None else (pa.field(self.score_field, kind),)
        field = self.text_field or _TEXT_FIELD
        return Needs(texts=(field,), makes=made, together=_together(self.filter_obj, field))

    def open(self) -> TableFunction:
        """The function that scores and marks."""
        field, kind = self.text_field or _TEXT_FIELD, _arrow_type(self.score_type, self.filter_obj)

        def run(table: pa.Table) -> pa.Table:
            scores = self.filter_obj.score_batch(text(table, field, self.name))
            reasons = _decided(self.filter_obj, scores)
            if self.score_field is not None:
                table = put(table, self.score_field, scores.cast(kind))
            return mark(table, _inverted(reasons) if self.invert else reasons, scores)

        return run
