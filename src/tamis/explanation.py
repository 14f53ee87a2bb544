"""The way of one document through a plan: what each step changed, made and decided, and where it was written.

The document is looked for in the input, and the steps are run on it alone. That is the same as what the run did:
what happens to a document depends on that document alone, and on the answer of a fold, which is computed again.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
import pyarrow as pa

from tamis.dataset import DocumentDataset
from tamis.engine.describe import describe
from tamis.engine.job import Sink
from tamis.engine.ledger import MANIFEST, OUTPUTS, QUARANTINE
from tamis.engine.options import Options
from tamis.engine.plan import Plan, check, labels, with_id
from tamis.engine.run import events, fold_plan
from tamis.engine.tally import Tally
from tamis.engine.worker import Rejected
from tamis.errors import InputError, TamisError, UnknownNameError, UsageError
from tamis.io.formats import output_names
from tamis.io.records import Bad
from tamis.io.source import Source, make_want
from tamis.io.splits import Split
from tamis.io.store import open_store
from tamis.stage import FoldThenStage, Needs, Stage, Step, TableFunction
from tamis.table import Batch, marks, put

__all__ = [
    "Change",
    "Dropped",
    "Explanation",
    "Hunk",
    "StepTaken",
    "dropped",
    "explain",
    "hunks",
    "id_source",
    "plain_settings",
]

_CONTEXT = 40
"""Characters shown before and behind a change."""
_MOST_PAIRS = 4_000_000
"""Words before times words after, above which a changed part is shown whole: to compare more takes seconds."""
_LENIENT = Options(max_bad=1.0)


@dataclass(frozen=True)
class Hunk:
    """A part of a text that was changed."""

    start: int
    """Its place in the old text, in characters."""
    before: str
    """Up to 40 characters in front of it."""
    removed: str
    added: str
    after: str
    """Up to 40 characters behind it."""


@dataclass(frozen=True)
class Change:
    """A column that a step changed or made."""

    column: str
    old: Any
    new: Any
    made: bool
    """Whether there was no such column before."""

    @property
    def hunks(self) -> list[Hunk]:
        """What differs, where both values are text."""
        both = isinstance(self.old, str) and isinstance(self.new, str)
        return hunks(self.old, self.new) if both else []


@dataclass(frozen=True)
class StepTaken:
    """What a step did to the document."""

    stage: str
    """The step's label, as in the counts of a run."""
    settings: Mapping[str, Any]
    """Its settings, and those of the filter or modifier in it, that are numbers, text or truth values."""
    changes: tuple[Change, ...] = ()
    reason: str | None = None
    """Why the document was dropped here; None where it was not."""
    score: Any = None
    """The score that decided, where the step told one."""
    error: str | None = None
    """What the step raised: the run set the document aside in its quarantine."""
    whole: bool = False
    """Whether the step had to see the whole dataset first; it was run over it again."""


@dataclass(frozen=True)
class Explanation:
    """The way of one document."""

    id: str
    id_field: str
    file: str
    line: int | None
    """Line in the file (row, for Parquet), from 1; None where the file was read in parts."""
    offset: int | None
    """Byte in the decompressed file."""
    record: Mapping[str, Any]
    """The document as it was read."""
    steps: tuple[StepTaken, ...]
    """The steps that it went through, the one that dropped it last."""
    left: tuple[str, ...] = ()
    """Steps that it did not come to."""
    outputs: tuple[str, ...] = ()
    """Files of the run in which it lies; more than one where it cannot be told which."""
    quarantine: Mapping[str, Any] | None = None
    """Its entry in the quarantine of the run."""

    @property
    def kept(self) -> bool:
        """Whether it came through."""
        return not self.left and not any(step.reason is not None or step.error is not None for step in self.steps)


@dataclass(frozen=True)
class Dropped:
    """A document that a filter dropped."""

    id: str
    stage: str
    reason: str
    score: Any
    text: str


# -- what differs --------------------------------------------------------------------------------------------

_WORDS = re.compile(r"\w+|\s+|[^\w\s]")


def hunks(old: str, new: str, *, most_pairs: int = _MOST_PAIRS) -> list[Hunk]:
    """The parts of a text that differ, by lines first and then by words.

    A part of which the words before times the words after are more than ``most_pairs`` is shown whole.

    >>> [(h.removed, h.added) for h in hunks("call 555 now", "call <NUMBER> now")]
    [('555', '<NUMBER>')]
    """
    places: list[tuple[int, int, int, int]] = []
    for a, b, c, d in _differences(old.splitlines(keepends=True), new.splitlines(keepends=True)):
        words = _WORDS.findall(old[a:b]), _WORDS.findall(new[c:d])
        if len(words[0]) * len(words[1]) > most_pairs:
            places.append((a, b, c, d))
        else:
            places += [(a + i, a + j, c + k, c + m) for i, j, k, m in _differences(*words)]
    return [Hunk(a, old[max(a - _CONTEXT, 0) : a], old[a:b], new[c:d], old[b : b + _CONTEXT]) for a, b, c, d in places]


def _differences(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    """Ranges of characters (of the old, of the new) that differ between two cut texts."""
    at, to = [0], [0]
    for sums, parts in ((at, old), (to, new)):
        for part in parts:
            sums.append(sums[-1] + len(part))
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            yield at[a], at[b], to[c], to[d]


# -- finding the document ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    batch: Batch
    """The document alone."""
    split: Split


def id_source(source: Source, id_field: str | None) -> tuple[Source, str]:
    """The source with an id column, and its name: the one that is named, an ``id`` in any case, or one that is made."""
    names = source.schema.names
    if id_field is not None:
        if id_field not in names:
            raise UnknownNameError.of(id_field, names, kind="field", where="the id")
        return source, id_field
    if source.extras.id is not None:
        return source, source.extras.id
    for name in ("id", *(n for n in names if n.lower() == "id")):
        if name in names:
            return source, name
    return source.with_id("id"), "id"


def _find(source: Source, steps: Sequence[Step], id: str, id_field: str, options: Mapping[str, Any]) -> _Found:
    checked = check(source, steps)
    want = make_want(source, source.schema.names, texts=checked.texts)
    seen = 0
    unread: Bad | None = None
    for split in source.splits(options["split_size"], one_piece=options["by_input"]):
        for item in source.read(split, want):
            if isinstance(item, Bad):
                if unread is None and id.encode() in item.raw:
                    unread = item
            elif isinstance(item, Batch):
                seen += item.rows
                ids = item.table.column(id_field)
                rows = [row for row, value in enumerate(ids.to_pylist()) if value is not None and str(value) == id]
                if rows:
                    return _Found(item.take(pa.array(rows[:1]).to_numpy()), split)
    message = f"none of the {seen:,} documents of the input has {id!r} in its field {id_field!r}."
    if unread is not None:
        message += (
            f" But a record that cannot be read holds these characters: {unread.file}, byte {unread.offset}: "
            f"{unread.kind}: {unread.detail}."
        )
    raise InputError(message)


# -- the way -------------------------------------------------------------------------------------------------


def explain(dataset: DocumentDataset, id: str, *, id_field: str | None = None, run: str | None = None) -> Explanation:
    """The way of the first document with this id through the dataset's plan.

    Args:
        dataset: Input and steps.
        id: The id, as text; that of a document without one is a hash of its text, as ``add_id`` makes it.
        id_field: The field with the ids; by default ``id`` in any case.
        run: Directory of a run of this very plan: where the document lies in it is said too.

    Raises:
        InputError: No document has this id.
        UsageError: The directory holds no complete run, or one of another plan.
    """
    source, name = id_source(with_id(dataset.plan.source, dataset.plan.steps), id_field)
    steps = dataset.plan.steps
    manifest = None if run is None else _manifest(run, dataset)
    output = {"split_size": _LENIENT.split_size, "by_input": False} | (manifest or {}).get("output", {})
    found = _find(source, steps, id, name, output)
    taken: list[StepTaken] = []
    table = found.batch.table
    for number, label in enumerate(labels(steps)):
        step, after = _take(Plan(source, steps[:number]), steps[number], label, table)
        taken.append(step)
        if step.reason is not None or step.error is not None:
            break
        table = after
    origin = found.batch.origin
    whole = all(piece.whole for piece in found.split.pieces)
    offset = int(origin.offset[0])
    way = Explanation(
        id,
        name,
        origin.file,
        int(origin.line[0]) + 1 if whole else None,
        offset if offset >= 0 else None,
        found.batch.table.to_pylist()[0],
        tuple(taken),
        labels(steps)[len(taken) :],
    )
    return way if run is None else _placed(way, run, output, found, table)


def _take(before: Plan, step: Step, label: str, table: pa.Table) -> tuple[StepTaken, pa.Table]:
    """Run a step on a table of one document."""
    whole = isinstance(step, FoldThenStage)
    settings = plain_settings(step)
    stage = step.then(fold_plan(before, step.fold(), _LENIENT)[0]) if isinstance(step, FoldThenStage) else step
    try:
        answer, reasons, scores = marks(stage.open()(table))
    except TamisError:
        raise
    except Exception as error:  # noqa: BLE001  user code may raise anything: the run set the document aside
        return StepTaken(label, settings, error=f"{type(error).__name__}: {error}", whole=whole), table
    old, new = table.to_pylist()[0], answer.to_pylist()[0]
    changes = tuple(
        Change(column, old.get(column), value, column not in old)
        for column, value in new.items()
        if column not in old or old[column] != value
    )
    reason = None if reasons is None else reasons[0].as_py()
    score = None if scores is None else scores[0].as_py()
    return StepTaken(label, settings, changes, reason, score, whole=whole), answer


def plain_settings(step: Step) -> dict[str, Any]:
    """The plain settings of a step, and of the filter or modifier in it."""
    found: dict[str, Any] = {}
    left = [describe(step)]
    while left:
        for key, value in left.pop().items():
            if isinstance(value, dict) and "use" in value:
                left.append(value)
            elif key not in {"use", "code", "identity"} and isinstance(value, bool | int | float | str):
                found[key] = value
    return found


def _manifest(run: str, dataset: DocumentDataset) -> dict[str, Any]:
    content = open_store(run).read(MANIFEST)
    if content is None:
        message = f"{run} holds no complete run of Tamis."
        raise UsageError(message)
    description: dict[str, Any] = orjson.loads(content)["description"]
    ours = orjson.loads(orjson.dumps([describe(step) for step in dataset.plan.steps]))
    if description["steps"] != ours:
        message = f"{run} is the result of other steps than these; explain it with the plan that it was made by."
        raise UsageError(message)
    return description


def _placed(way: Explanation, run: str, output: Mapping[str, Any], found: _Found, table: pa.Table) -> Explanation:
    """The same with the files of a run in which the document lies."""
    store = open_store(run)
    if any(step.error is not None for step in way.steps):
        for line in store.lines(QUARANTINE):
            entry = orjson.loads(line)
            if entry["file"] == way.file and way.offset in {None, entry["offset"]}:
                return replace(way, quarantine={k: entry[k] for k in ("file", "line", "offset", "cause", "detail")})
        return way
    sink = Sink("", output["format"], output["compression"], output["by_input"], output["partition_on"])
    if sink.by_input:
        files = [piece.file for piece in found.split.pieces]
        base = output_names(files)[files[0].path] if len(files) == 1 else ""
    else:
        base = f"part-{found.split.index:0{max(5, len(str(output['splits'] - 1)))}d}"
    if way.kept:
        value = "" if sink.partition_on is None else str(table.column(sink.partition_on)[0].as_py())
        wanted, extension = ("/".join(p for p in (value, base) if p), sink.extension)
    else:
        wanted, extension = f"_rejects/{base}", replace(sink, format="jsonl").extension
    names = [orjson.loads(line)["path"] for line in store.lines(OUTPUTS)]
    places = [name for name in names if name == f"{wanted}{extension}"]
    if not places and way.kept:  # its folder's name is not its value, letter by letter
        places = [n for n in names if n.endswith(f"{base}{extension}") and not n.startswith("_rejects/")]
    return replace(way, outputs=tuple(places))


# -- what was dropped ----------------------------------------------------------------------------------------


_ID = "id in the input"


@dataclass(frozen=True)
class _KeepId(Stage):
    """Copies the ids into a column that no step of the plan changes."""

    column: str

    def needs(self, schema: pa.Schema) -> Needs:
        return Needs(reads=(self.column,), makes=(pa.field(_ID, schema.field(self.column).type),))

    def open(self) -> TableFunction:
        return lambda table: put(table, _ID, table.column(self.column))


def dropped(dataset: DocumentDataset, *, reason: str | None = None, id_field: str | None = None) -> Iterator[Dropped]:
    """The documents that the plan's filters drop, in order, with the id of each in the input.

    Args:
        dataset: Input and steps; they are run as far as is asked for.
        reason: Only those of whose stage or reason this is a part, in any case.
        id_field: The field with the ids; by default ``id`` in any case.
    """
    source, name = id_source(with_id(dataset.plan.source, dataset.plan.steps), id_field)
    wanted = (reason or "").lower()
    plan = Plan(source, (_KeepId(name), *dataset.plan.steps))
    for event in events(plan, _LENIENT, Tally()):
        if not isinstance(event, Rejected):
            continue
        documents = event.batch.table.to_pylist()
        scores = [None] * len(documents) if event.scores is None else event.scores.to_pylist()
        for document, why, score in zip(documents, event.reasons.to_pylist(), scores, strict=True):
            if wanted in event.stage.lower() or wanted in why.lower():
                text = document.get(dataset.text_field)
                yield Dropped(str(document[_ID]), event.stage, why, score, text if isinstance(text, str) else "")
