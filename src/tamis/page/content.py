"""What a page shows, as plain values: the only thing that the page is made of.

Frozen dataclasses of text, numbers and tuples. :func:`to_json` gives the JSON that a page carries; the names there are
those of the fields here. Columns of numbers are :class:`Packed`, so that a browser compares the engine's own floats.
Places in a text are counted in UTF-16 code units, as JavaScript counts.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import orjson

from tamis.report import FunnelRow

__all__ = [
    "Cause",
    "Change",
    "ClassView",
    "Counts",
    "Decided",
    "Differences",
    "DocumentView",
    "Duplicates",
    "FunnelRow",
    "Hunk",
    "Packed",
    "Page",
    "Progress",
    "RunView",
    "Sample",
    "ScoreView",
    "SpanView",
    "StageView",
    "pack",
    "to_json",
    "unpack",
]

StageKind = Literal["filter", "modifier", "classifier", "fold", "other"]
SpanKind = Literal["repeated", "personal", "matched", "changed"]

_KINDS = ("u1", "i1", "u2", "i2", "i4", "f4", "f8")
"""From the narrowest to the widest; the last holds any number."""


@dataclass(frozen=True)
class Packed:
    """A column of numbers: base64 of little-endian values. NaN where a row has none."""

    kind: Literal["u1", "i1", "u2", "i2", "i4", "f4", "f8"]
    """numpy's name of the type: the narrowest that holds every value exactly."""
    data: str


def pack(values: npt.ArrayLike) -> Packed:
    """Numbers as base64, in the narrowest type that gives every one of them back.

    >>> pack([1, 2, 300]).kind, pack([0.1]).kind, pack([1, float("nan")]).kind
    ('u2', 'f8', 'f4')
    """
    given = np.asarray(values, dtype=np.float64)
    for kind in _KINDS[:-1]:
        with np.errstate(invalid="ignore", over="ignore"):
            narrow = given.astype(f"<{kind}")
            back = narrow.astype(np.float64)
        # -0.0 equals 0.0, so that it may lose its sign; no comparison can tell.
        if np.array_equal(back, given, equal_nan=kind == "f4"):
            return Packed(kind, base64.b64encode(narrow.tobytes()).decode())  # type: ignore[arg-type]  # one of _KINDS
    return Packed("f8", base64.b64encode(given.astype("<f8").tobytes()).decode())


def unpack(packed: Packed) -> npt.NDArray[np.float64]:
    """The numbers of a column, float64 of shape ``(rows,)``.

    >>> unpack(pack([0.1, 7.0])).tolist()
    [0.1, 7.0]
    """
    return np.frombuffer(base64.b64decode(packed.data), dtype=f"<{packed.kind}").astype(np.float64)


# -- counts ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counts:
    """Of the whole run, or of what is done of it."""

    records: int
    """Read; kept + dropped + quarantined."""
    kept: int
    dropped: int
    quarantined: int
    bytes_in: int
    """As stored, compressed where the input is."""
    bytes_out: int
    tokens: int | None = None
    """Shown to models, by the stage that saw most; None where no stage counted."""


@dataclass(frozen=True)
class Progress:
    """How far a run is that has not ended well, or not yet."""

    state: Literal["running", "stopped", "failed"]
    share: float
    """In [0, 1]."""
    seconds_left: float | None = None
    phase: str = ""
    said: str = ""
    """The sentence that ended it, and what to do next."""


@dataclass(frozen=True)
class StageView:
    """A stage of the plan."""

    index: int
    """From 0, in the order of the plan."""
    label: str
    """As in the funnel; unique in a run."""
    kind: StageKind
    settings: tuple[tuple[str, str], ...]
    """(name, value) of its plain settings, and those of the filter or modifier in it."""
    documents_in: int | None
    documents_out: int | None
    """In the run; None where the counts of the run do not tell."""
    changed: int = 0
    """Documents in which it changed a column that was there."""
    seconds: float | None = None
    """For the documents of the sample, in one thread, measured while the page was made."""
    per_second: float | None = None
    """Documents of the sample, of one thread."""
    note: str = ""
    toml: str = ""
    """The ``[[stage]]`` lines that make this stage alone, one setting a line; "" where the run has no recipe."""


@dataclass(frozen=True)
class Cause:
    """Records that could not be used, by cause."""

    cause: str
    documents: int
    examples: tuple[tuple[str, int, int, str], ...] = ()
    """(file, line from 1, byte offset or -1, what was wrong)."""


@dataclass(frozen=True)
class Duplicates:
    """Exact copies among the documents that were looked at."""

    looked_at: int
    copies: int
    """Documents that have the same text as one before."""
    where: str
    """Which documents these are, as a phrase: "in the sample of the input"."""


# -- distributions --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoreView:
    """A number that documents have: a filter's score, a length, a weight."""

    column: str
    """Key of ``Sample.columns``; unique in a run."""
    label: str
    stage: int
    """Of the filter that decides by it, or that made it; -1 for a column of the documents."""
    low: float | None
    high: float | None
    """The least and the greatest that are kept; None where there is no bound."""
    low_setting: str
    high_setting: str
    """The filter's setting that is this bound; "" where there is none: a bound is then a condition on the column."""
    invert: bool
    """Whether what lies within the bounds is dropped."""
    integer: bool
    whole: bool
    """Whether the histograms are of all documents, and not of the sample."""
    scale: Literal["linear", "log"]
    """How the bins are spaced; "log": of equal width in log(1 + x)."""
    edges: tuple[float, ...]
    """Of the bins, one more than there are bins; a bin holds its left edge, and not its right one. ``()`` where no
    document has this number."""
    before: tuple[int, ...]
    """Documents that came in, by bin."""
    after: tuple[int, ...]
    """Documents that were kept, by bin."""
    missing: int = 0
    """Documents without this number; a filter keeps none of them, unless it is inverted and has no bound."""
    filter: str = ""
    """Name of the filter's class; "" where no filter decides by it."""
    text_field: str = ""
    derived: bool = False
    """Whether the page computed it, as a length: documents have no such column, so that no bound can be set on it."""


@dataclass(frozen=True)
class ClassView:
    """A column of few different texts: a class, a language, a quality."""

    column: str
    stage: int
    """-1 for a column of the documents."""
    whole: bool
    values: tuple[tuple[str, int, int], ...]
    """(value, documents that came in, documents that were kept), the most frequent first."""
    others: int = 0
    """Different values that are not listed."""


# -- documents ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpanView:
    """A place in a text that a stage looked at."""

    start: int
    end: int
    """In UTF-16 code units of ``DocumentView.text``."""
    kind: SpanKind
    label: str
    """What it is, in a word or two: an entity, "repeated line", a word that matched."""
    stage: int


@dataclass(frozen=True)
class Hunk:
    """A part of a text that was changed."""

    before: str
    removed: str
    added: str
    after: str


@dataclass(frozen=True)
class Change:
    """What a stage changed in a document."""

    stage: int
    column: str
    hunks: tuple[Hunk, ...]
    more: int = 0
    """Changed parts that are not listed."""


@dataclass(frozen=True)
class DocumentView:
    """A document to look at."""

    row: int
    """In the columns of the sample."""
    id: str
    file: str
    line: int | None
    """From 1; None where the file was read in parts."""
    text: str
    """As it came to the stage that dropped it, or to the end."""
    cut: int
    """Characters of the text that are not shown."""
    reason: str
    """Why it was dropped, or what failed; "" where it was kept."""
    score: str
    """The score that decided, as text; "" where there was none."""
    spans: tuple[SpanView, ...] = ()
    changes: tuple[Change, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    """(column, value) of classes and other short columns."""


@dataclass(frozen=True)
class Sample:
    """Documents of the input, taken through the whole plan.

    Every filter scored every document, whatever a filter before it said, on the text as it is at that stage.
    """

    of: int
    """Documents in the input."""
    drawn: int
    """Documents in the sample: the length of every column."""
    seed: int
    how: str
    """A sentence that says what the sample is."""
    columns: dict[str, Packed]
    """The numbers of each :class:`ScoreView`, by column."""
    decided: Packed
    """The index of the stage that dropped (or failed on) each document first; -1 where it was kept."""
    fixed: Packed
    """The same, of the stages alone that have no bound to move; -1 where none dropped it. What is kept with other
    bounds are the documents with -1 here whose scores are all within them."""
    documents: tuple[DocumentView, ...]
    """Some of them, with their text: for each stage that decides, kept, dropped, and close to its bound."""


# -- runs -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunView:
    """A run."""

    name: str
    complete: bool
    counts: Counts
    funnel: tuple[FunnelRow, ...]
    stages: tuple[StageView, ...] = ()
    sources: tuple[tuple[str, int, int | None], ...] = ()
    """(name, records, kept or None where it is not known), the largest first."""
    quarantine: tuple[Cause, ...] = ()
    entities: tuple[tuple[str, int], ...] = ()
    """(kind of personal data, places found in the whole run)."""
    duplicates: Duplicates | None = None
    recipe: str = ""
    """As TOML; "" where the run was not made by a recipe."""
    environment: tuple[tuple[str, str], ...] = ()
    scores: tuple[ScoreView, ...] = ()
    classes: tuple[ClassView, ...] = ()
    sample: Sample | None = None
    notes: tuple[str, ...] = ()
    """Sentences about what is not on the page, and why."""
    progress: Progress | None = None
    """None where the run is complete."""


@dataclass(frozen=True)
class Decided:
    """A document that two runs decided differently."""

    id: str
    text: str
    cut: int
    first: str
    second: str
    """Stage and reason of the run that dropped it; "" for the one that kept it."""


@dataclass(frozen=True)
class Differences:
    """Two runs, document by document: on the documents that are in both samples."""

    compared: int
    both_kept: int
    only_first: int
    """Kept by the first run alone."""
    only_second: int
    neither: int
    reasons: tuple[tuple[str, str, int], ...]
    """(what the first said, what the second said, documents), of those that they decided differently."""
    documents: tuple[Decided, ...]
    note: str = ""


@dataclass(frozen=True)
class Page:
    """All of it."""

    title: str
    version: str
    """Of Tamis."""
    made: str
    """When, in UTC, to the second."""
    runs: tuple[RunView, ...]
    """One, or two to compare."""
    differences: Differences | None = None
    live: bool = False
    """Whether the run is still at work, so that the page loads itself again."""
    refresh: int = 5
    """Seconds until then."""


def to_json(page: Page) -> bytes:
    """The page as JSON. It may hold ``<`` and ``&``: whoever puts it into HTML escapes them."""
    try:
        return orjson.dumps(page)
    except orjson.JSONEncodeError:  # a file's name that is no UTF-8, which Python holds as lone surrogates
        return json.dumps(asdict(page), ensure_ascii=False).encode("utf-8", "replace")
