"""What the filters of a plan decide by, as columns: scores first, bounds later.

:func:`measures_of` lists the numbers, :func:`scored_steps` is the plan that writes all of them and drops nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from tamis.errors import UsageError
from tamis.filters.base import DocumentFilter, Filter, Score, ScoreFilter
from tamis.filters.bounded import BoundedFilter
from tamis.filters.percentile import PercentileFilter, WithinPercentiles, is_number
from tamis.stage import Fold, FoldThenStage, Needs, Stage, Step, TableFunction, labels
from tamis.table import marks, put, require

__all__ = ["Judged", "JudgedLater", "Measure", "Verdict", "measures_of", "scored_steps", "verdicts_of", "with_bounds"]


@dataclass(frozen=True)
class Measure:
    """A number that a filter of a plan decides by, and the bounds within which it keeps a document."""

    column: str
    """Its own column: the stage's ``score_field`` where it has one, else a name made of the filter's."""
    stage: int
    """Number of the step in the plan, from 0."""
    label: str
    """Label of the step, as in the counts of a run."""
    filter: DocumentFilter
    """What scores and decides. Bounds are those of a :class:`BoundedFilter`; another filter has none."""
    text_field: str | None
    """Column that is scored; None where the scores are in a column already, or the text field is not known yet."""
    low: float | None
    """Least score kept."""
    high: float | None
    """Greatest score kept."""
    low_setting: str
    """The filter's setting that holds ``low``; "" where none does."""
    high_setting: str
    """The filter's setting that holds ``high``; "" where none does."""
    invert: bool
    """Whether the documents within the bounds are those that are dropped."""


@dataclass(frozen=True)
class Verdict:
    """A decision of a plan that is no number held against bounds: a condition, a label, a filter over texts."""

    column: str
    """Its column in a scored dataset: true where the document is kept."""
    stage: int
    """Number of the step in the plan, from 0."""
    label: str
    """Label of the step, as in the counts of a run."""


def measures_of(steps: Sequence[Step]) -> tuple[Measure, ...]:
    """Every number that the filters of a plan decide by, in the order of the plan.

    These are the scores of each ``ScoreFilter`` and ``PercentileFilter`` that are numbers, and the columns that bounded
    filters are held against (``Filter``). Each has a column name of its own, a function of the plan alone.
    """
    return tuple(found for found in _decisions(steps) if isinstance(found, Measure))


def verdicts_of(steps: Sequence[Step]) -> tuple[Verdict, ...]:
    """What else may drop a document in a plan, in its order."""
    return tuple(found for found in _decisions(steps) if isinstance(found, Verdict))


def scored_steps(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The plan that makes a column of each measure and verdict, and drops nothing.

    Every other step stays: modifiers change what the filters behind them see. A step that must see the whole dataset
    first sees all documents, also those that a run would have dropped before.
    """
    scored: list[Step] = []
    for step, decision in zip(steps, _decisions(steps), strict=True):
        if isinstance(decision, Measure):
            scored += _scoring(step, decision)
        elif isinstance(decision, Verdict):
            later = isinstance(step, FoldThenStage)
            scored.append(JudgedLater(step, decision.column) if later else Judged(step, decision.column))
        else:
            scored.append(step)
    return tuple(scored)


def with_bounds(measure: Measure, low: float | None, high: float | None) -> Measure:
    """The measure with other bounds, and its filter with them as well where settings hold them.

    Bounds of whole numbers are made whole, without a difference for any score.

    Raises:
        UsageError: The filter has no bounds, or refuses these.
    """
    if not isinstance(measure.filter, BoundedFilter):
        message = f"{measure.label} ({measure.column}) decides by a rule of its own; it has no bounds to set."
        raise UsageError(message)
    low, high = (_fitting(measure, value, side) for value, side in ((low, "low"), (high, "high")))
    if low is not None and high is not None and low > high:
        message = f"{measure.column}: the bounds {low:.6g} and {high:.6g} keep nothing."
        raise UsageError(message)
    asked = {measure.low_setting: (low, measure.low), measure.high_setting: (high, measure.high)}
    changes = {name: value for name, (value, before) in asked.items() if value != before}
    decide = measure.filter
    if changes and "" not in changes and None not in changes.values():
        try:
            decide = replace(decide, **changes)  # type: ignore[type-var]  # a setting is a field of a dataclass
        except UsageError as error:
            message = f"{measure.column}: {error}"
            raise UsageError(message) from error
    return replace(measure, low=low, high=high, filter=decide)


def _fitting(measure: Measure, value: float | None, side: str) -> float | None:
    """A bound as the scores are: a whole number for whole numbers."""
    if value is None or not pa.types.is_integer(_kind(measure.filter)) or abs(value) == float("inf"):
        return value
    return -int(-value // 1) if side == "low" else int(value // 1)


def _kind(scorer: DocumentFilter) -> pa.DataType:
    if isinstance(scorer, WithinPercentiles) and scorer.scorer is not None:
        return scorer.scorer.score_type
    return scorer.score_type


# -- decisions -----------------------------------------------------------------------------------------------


def _decisions(steps: Sequence[Step]) -> Iterator[Measure | Verdict | None]:
    """What each step decides by; None for a step that drops nothing."""
    parts = [_measured(step) for step in steps]
    columns = _columns(steps, parts)
    for number, (step, part, label) in enumerate(zip(steps, parts, labels(steps), strict=True)):
        if part is not None:
            scorer, text_field, invert = part
            low, high = scorer.bounds() if isinstance(scorer, BoundedFilter) else (None, None)
            settings = (scorer.low_setting, scorer.high_setting) if isinstance(scorer, BoundedFilter) else ("", "")
            yield Measure(columns[number], number, label, scorer, text_field, low, high, *settings, invert)
        elif step.may_drop:
            yield Verdict(columns[number], number, label)
        else:
            yield None


def _measured(step: Step) -> tuple[DocumentFilter, str | None, bool] | None:
    """What decides in a step by a number, the column with the text, and whether it is inverted."""
    if isinstance(step, ScoreFilter) and is_number(step.filter_obj.score_type):
        return step.filter_obj, step.text_field, step.invert
    if isinstance(step, PercentileFilter):
        return WithinPercentiles(step.filter), None if step.filter is None else step.text_field, False
    if isinstance(step, Filter) and isinstance(step.filter_fn, BoundedFilter):
        return step.filter_fn, None, step.invert
    return None


def _own_column(step: Step) -> str | None:
    """The column that a step names for its score, or finds it in."""
    if isinstance(step, ScoreFilter):
        return step.score_field
    if isinstance(step, PercentileFilter):
        return step.column or step.score_field
    return step.filter_field if isinstance(step, Filter) else None


def _columns(steps: Sequence[Step], parts: Sequence[Any]) -> list[str]:
    """A name for each step's column, all different."""
    own = [None if part is None else _own_column(step) for step, part in zip(steps, parts, strict=True)]
    told: list[tuple[str, Mapping[str, str]]] = []
    for step, part in zip(steps, parts, strict=True):
        scorer = part[0] if part is not None else None
        if isinstance(scorer, WithinPercentiles):
            scorer = scorer.scorer
        told.append((_snake(step.name if scorer is None else type(scorer).__name__), _settings(scorer)))
    taken: set[str] = {name for name in own if name is not None}
    first: Counter[str] = Counter()
    names = []
    for number, (base, settings) in enumerate(told):
        name = own[number]
        if name is not None and not first[name]:
            first[name] += 1
            names.append(name)
            continue
        if name is None:
            equal = [other for n, (b, other) in enumerate(told) if b == base and own[n] is None]
            differ = [v for key, v in settings.items() if key == "n" or any(o.get(key) != v for o in equal)]
            name = "_".join([base, *differ] if parts[number] is not None else [base, "keeps"])
        names.append(_free(name, taken))
        taken.add(names[-1])
    return names


def _settings(scorer: DocumentFilter | None) -> dict[str, str]:
    """Settings that say what is measured, as parts of a name."""
    bounds = {scorer.low_setting, scorer.high_setting} if isinstance(scorer, BoundedFilter) else set()
    fields: Mapping[str, Any] = getattr(scorer, "__dataclass_fields__", {})  # a filter need not be a dataclass
    values = {name: getattr(scorer, name) for name in fields if name not in bounds}
    found = {k: re.sub(r"\W+", "_", str(v)).strip("_")[:24] for k, v in values.items() if isinstance(v, int | str)}
    return {k: v for k, v in found.items() if v}


def _snake(name: str) -> str:
    """The name of a class as that of a column.

    >>> _snake("RepeatingTopNGramsFilter"), _snake("Filter"), _snake("Filter edu")
    ('repeating_top_ngrams', 'filter', 'filter_edu')
    """
    name = re.sub(r"\W+", "_", name.removesuffix("Filter") or name)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _free(name: str, taken: Collection[str]) -> str:
    """The name, numbered where it is taken."""
    number, free = 2, name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


# -- the scored plan -----------------------------------------------------------------------------------------


def _scoring(step: Step, measure: Measure) -> Iterable[Step]:
    """What makes the column of a measure."""
    if isinstance(step, ScoreFilter):
        # In the scores' own type, whatever the step writes: a bound must say of the column what it says of the score.
        return [Score(step.filter_obj, measure.column, step.text_field)]
    if isinstance(step, PercentileFilter) and step.filter is not None:
        return [Score(step.filter, measure.column, step.text_field)]
    field = _own_column(step)
    return [] if field is None or field == measure.column else [_Copy(field, measure.column)]


@dataclass(frozen=True)
class _Copy(Stage):
    """A column once more, as it is at that point."""

    column: str
    into: str

    @property
    def may_drop(self) -> bool:
        """Never."""
        return False

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads one, makes the other."""
        kind = schema.field(self.column).type if self.column in schema.names else pa.float64()
        return Needs(reads=(self.column,), makes=(pa.field(self.into, kind),))

    def open(self) -> TableFunction:
        """The function that adds the column."""
        return lambda table: put(table, self.into, require(table, self.column, self.name))


@dataclass(frozen=True)
class Judged(Stage):
    """Runs a stage, and says in a column which documents it would keep; it drops none."""

    stage: Any
    """The stage."""
    column: str
    """Column that is made (bool): true where the document is kept."""

    @property
    def name(self) -> str:
        """That of the stage."""
        return str(self.stage.name)

    @property
    def may_drop(self) -> bool:
        """Never."""
        return False

    def identity(self) -> Mapping[str, str]:
        """That of the stage."""
        return self.stage.identity()  # type: ignore[no-any-return]

    def on_text_field(self, text_field: str) -> Judged:
        """The dataset's text field, where none was named."""
        return replace(self, stage=self.stage.on_text_field(text_field))

    def needs(self, schema: pa.Schema) -> Needs:
        """What the stage needs; makes the column as well."""
        needs: Needs = self.stage.needs(schema)
        return replace(needs, makes=(*needs.makes, pa.field(self.column, pa.bool_())))

    def open(self) -> TableFunction:
        """The function that judges."""
        run = self.stage.open()

        def judge(table: pa.Table) -> pa.Table:
            left, reasons, _ = marks(run(table))
            kept = pa.array([True] * left.num_rows, pa.bool_()) if reasons is None else reasons.is_null()
            return put(left, self.column, kept)

        return judge


@dataclass(frozen=True)
class JudgedLater(FoldThenStage):
    """:class:`Judged` for a step that must see the whole dataset first."""

    step: Any
    """The step."""
    column: str
    """Column that is made (bool): true where the document is kept."""

    @property
    def name(self) -> str:
        """That of the step."""
        return str(self.step.name)

    @property
    def may_drop(self) -> bool:
        """Never."""
        return False

    def on_text_field(self, text_field: str) -> JudgedLater:
        """The dataset's text field, where none was named."""
        return replace(self, step=self.step.on_text_field(text_field))

    def needs(self, schema: pa.Schema) -> Needs:
        """What the stage needs; makes the column as well."""
        needs: Needs = self.step.needs(schema)
        return replace(needs, makes=(*needs.makes, pa.field(self.column, pa.bool_())))

    def fold(self) -> Fold[Any, Any]:
        """That of the step."""
        return self.step.fold()  # type: ignore[no-any-return]

    def then(self, result: Any) -> Stage:
        """The stage that judges."""
        return Judged(self.step.then(result), self.column)
