"""A sample of documents and what is known of each: from the input, traced; or from what a run wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.dataset import DocumentDataset
from tamis.engine.options import Options
from tamis.engine.plan import Plan, with_id
from tamis.engine.run import fold_plan
from tamis.engine.watch import Observer
from tamis.explanation import id_source
from tamis.filters.bounded import BoundedFilter
from tamis.filters.measures import Measure, measures_of, verdicts_of
from tamis.io.source import FileSource, LimitedSource, Source
from tamis.page.draw import Bound, Draw, Picked, numbers
from tamis.page.trace import Traced, resolved, trace
from tamis.stage import Step
from tamis.table import is_text

__all__ = ["Asked", "Sampled", "from_input", "from_scored", "from_written"]

FILE = "file in the input"
"""Column of the sample with the name of each document's file."""
_REJECTED = "rejected"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """How the sample is to be drawn, and what may be done for it."""

    number: int
    seed: int = 0
    workers: int | None = None
    models: int = 200
    """Documents that are shown to each model."""
    observer: Observer | None = None

    @property
    def options(self) -> Options:
        """For a pass over all documents. Bad records are none of the page's business here: the run counted them."""
        return Options(workers=self.workers, max_bad=1.0, observer=self.observer)


@dataclass
class Sampled:
    """The documents of a sample, row for row in the order of their hashes."""

    of: int
    """Documents that it was drawn from."""
    where: str
    """Which documents these are, as a phrase: "of the input"."""
    seed: int
    ids: list[str]
    files: list[str]
    before: list[pa.Table]
    """As they came to each stage and, last, as they came out; the last alone where they were not traced."""
    decided: npt.NDArray[np.int16]
    fixed: npt.NDArray[np.int16]
    reasons: list[str]
    deciding: list[str]
    measures: tuple[Measure, ...] = ()
    movable: frozenset[str] = frozenset()
    scores: dict[str, Floats] = field(default_factory=dict)
    made: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)
    """Documents of the whole input by file."""
    traced: Traced | None = None
    steps: tuple[Step, ...] = ()
    text_field: str = "text"
    how: str = ""
    """What it is, as a sentence; said by :meth:`first`."""
    hidden: frozenset[str] = frozenset()
    """Columns that are there for the page alone, or are shown elsewhere."""

    @property
    def rows(self) -> int:
        """Documents in the sample."""
        return len(self.ids)

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """Which were kept."""
        return self.decided < 0

    @property
    def end(self) -> pa.Table:
        """As they came out."""
        return self.before[-1]

    def text_column(self, row: int) -> str | None:
        """The column whose text is shown of a document: the one that the stage read that dropped it."""
        stage = int(self.decided[row])
        names = self.table_of(row).column_names
        wanted = [getattr(self.steps[stage], "text_field", None)] if 0 <= stage < len(self.steps) else []
        wanted += [self.text_field, *(getattr(step, "text_field", None) for step in reversed(self.steps))]
        found = next((name for name in wanted if name in names), None)
        if found is not None:
            return str(found)
        texts = [f.name for f in self.end.schema if is_text(f.type) and f.name not in self.hidden]
        return texts[0] if texts else None

    def table_of(self, row: int) -> pa.Table:
        """The documents as they were where this one's way ended."""
        stage = int(self.decided[row])
        return self.before[stage] if 0 <= stage < len(self.before) else self.end

    def texts(self) -> pa.ChunkedArray | None:
        """The texts as they were when they first were there; None where they never are."""
        for table in self.before:
            place = table.schema.get_field_index(self.text_field)
            if place >= 0 and is_text(table.schema.field(place).type):
                return table.column(place)
        return None

    def first(self, rows: int) -> Sampled:
        """The sample of the first documents: a sample as well, for they are in the order of their hashes."""
        drawn = (
            f"{rows:,} of the {self.of:,} documents {self.where}: those with the lowest hash of seed {self.seed} "
            "and id, which are the same in any order of the files."
        )
        return replace(
            self,
            how=drawn if rows < self.of else f"All {rows:,} documents {self.where}.",
            ids=self.ids[:rows],
            files=self.files[:rows],
            before=[table.slice(0, rows) for table in self.before],
            decided=self.decided[:rows],
            fixed=self.fixed[:rows],
            reasons=self.reasons[:rows],
            deciding=self.deciding[:rows],
            scores={column: values[:rows] for column, values in self.scores.items()},
        )

    def text(self, row: int) -> str:
        """The text that is shown of a document; "" where it has none."""
        column = self.text_column(row)
        value = None if column is None else self.table_of(row).column(column)[row].as_py()
        return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class _Drawn:
    """A sample of a source."""

    table: pa.Table
    picked: Picked
    fold: Draw
    file: str | None
    """The column with the names of files."""

    @property
    def ids(self) -> list[str]:
        return [str(value) for value in self.table.column(self.fold.id_field).to_pylist()]


def _drawn(source: Source, asked: Asked, *, file: bool) -> _Drawn:
    """A sample of a source, with the name of each document's file where that is asked for and there is one."""
    name = source.extras.file_name if file else None
    if file and name is None:
        named = _with_file(source)
        if named is not None:
            source, name = named, FILE
    source, id_field = id_source(source, None)
    fold = Draw(asked.number, id_field, asked.seed, tuple(source.schema.names), name)
    picked, _ = fold_plan(Plan(source), fold, asked.options)
    table = source.schema.empty_table() if picked.table is None else picked.table
    return _Drawn(table, picked, fold, name)


def _with_file(source: Source) -> Source | None:
    """The source with the name of each document's file; None where documents came from no file."""
    if isinstance(source, LimitedSource):
        inner = _with_file(source.source)
        return None if inner is None else replace(source, source=inner)
    if isinstance(source, FileSource) and FILE not in source.schema.names:
        return replace(source, extras=replace(source.extras, file_name=FILE))
    return None


# -- from the input -------------------------------------------------------------------------------------------


def from_input(dataset: DocumentDataset, asked: Asked) -> Sampled:
    """A sample of a dataset's input, taken through its plan."""
    source = with_id(dataset.plan.source, dataset.plan.steps)
    size = source.describe().get("bytes", 0)
    stages, notes = resolved(Plan(source, dataset.steps), size)
    found = _drawn(source, asked, file=True)
    table = found.table
    given = table.drop_columns([FILE]) if found.file == FILE else table
    traced = trace(dataset.steps, stages, given, models=asked.models)
    traced.notes.update({index: note for index, note in notes.items() if index not in traced.notes})
    return Sampled(
        found.picked.documents,
        "of the input",
        asked.seed,
        found.ids,
        _files(table, found.file),
        traced.before,
        traced.decided,
        traced.fixed,
        traced.reasons,
        traced.deciding,
        traced.measures,
        traced.movable,
        dict(traced.scores),
        traced.made,
        dict(found.picked.sources),
        traced,
        dataset.steps,
        dataset.text_field,
        hidden=frozenset({found.fold.id_field, FILE, found.file or FILE}),
    )


def _files(table: pa.Table, file: str | None) -> list[str]:
    return [""] * table.num_rows if file is None else [str(v or "") for v in table.column(file).to_pylist()]


# -- from a scored dataset ------------------------------------------------------------------------------------


def from_scored(written: DocumentDataset, steps: Sequence[Step], asked: Asked) -> tuple[Sampled, tuple[Bound, ...]]:
    """A sample of a dataset that holds a column for each decision of a plan; and the bounds, for all its documents."""
    found = _drawn(written.plan.source, asked, file=False)
    table = found.table
    have = set(table.column_names)
    measures = tuple(m for m in measures_of(steps) if m.column in have)
    decided = np.full(table.num_rows, -1, dtype=np.int16)
    fixed = decided.copy()
    reasons, deciding = [""] * table.num_rows, [""] * table.num_rows
    bounds, scores, movable = [], {}, set()
    drops: list[tuple[int, npt.NDArray[np.bool_], list[str], bool]] = []
    for measure in measures:
        values = scores[measure.column] = numbers(table.column(measure.column))
        said = measure.filter.reasons(pa.array(values, mask=np.isnan(values)))
        bound = Bound(measure.column, measure.low, measure.high, measure.invert)
        moves = isinstance(measure.filter, BoundedFilter)
        if moves:
            bounds.append(bound)
            movable.add(measure.column)
            gone = ~bound.keeps(values)
            texts = [reason or "inverted: passes the filter" for reason in said.to_pylist()]
        else:
            gone = np.asarray(said.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_) ^ measure.invert
            texts = [reason or "" for reason in said.to_pylist()]
        drops.append((measure.stage, gone, texts, moves))
    for verdict in verdicts_of(steps):
        if verdict.column in have:
            bound = Bound(verdict.column, 1.0, None)
            bounds.append(bound)
            gone = ~bound.keeps(numbers(table.column(verdict.column)))
            drops.append((verdict.stage, gone, [f"not kept by {verdict.label}"] * len(gone), False))
    for stage, gone, texts, moves in sorted(drops, key=lambda drop: drop[0]):
        first = np.flatnonzero(gone & (decided < 0))
        decided[first] = stage
        for row in first.tolist():
            reasons[row] = texts[row]
        if not moves:
            fixed[gone & (fixed < 0)] = stage
    sampled = Sampled(
        found.picked.documents,
        "of the scored dataset",
        asked.seed,
        found.ids,
        [""] * table.num_rows,
        [table],
        decided,
        fixed,
        reasons,
        deciding,
        measures,
        frozenset(movable),
        scores,
        steps=tuple(steps),
        text_field=written.text_field,
        hidden=frozenset({found.fold.id_field, *(v.column for v in verdicts_of(steps))}),
    )
    return sampled, tuple(bounds)


# -- from what was written ------------------------------------------------------------------------------------


def from_written(
    kept: DocumentDataset, rejects: DocumentDataset | None, labels: Sequence[str], asked: Asked
) -> Sampled:
    """A sample of the documents that a run wrote, and of those that it dropped where it kept them."""
    found = _drawn(kept.plan.source, asked, file=False)
    if rejects is not None:
        others = _drawn(rejects.plan.source, asked, file=False)
        table = others.table
        if found.fold.id_field not in table.column_names:
            own = others.fold.id_field
            table = table.rename_columns([found.fold.id_field if n == own else n for n in table.column_names])
        picked = found.fold.both(found.picked, replace(others.picked, table=table))
        empty = found.table if picked.table is None else picked.table
        found = replace(found, picked=picked, table=empty)
    table = found.table
    known = _REJECTED in table.column_names and rejects is not None
    why = table.column(_REJECTED).to_pylist() if known else [None] * table.num_rows
    place = {label: index for index, label in enumerate(labels)}
    decided = np.array([-1 if w is None else place.get(str(w["stage"]), len(place)) for w in why], dtype=np.int16)
    where = "that the run wrote, its rejects included" if rejects is not None else "that the run kept"
    return Sampled(
        found.picked.documents,
        where,
        asked.seed,
        found.ids,
        [""] * table.num_rows,
        [table],
        decided,
        decided.copy(),
        ["" if w is None else str(w["reason"]) for w in why],
        ["" if w is None or w["score"] is None else str(w["score"]) for w in why],
        text_field=kept.text_field,
        hidden=frozenset({found.fold.id_field, _REJECTED}),
    )
