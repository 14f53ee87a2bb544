"""What a run or a dataset looks like, as plain values; showing them is the command line's business."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from tamis.engine.funnel import FunnelRow, funnel
from tamis.engine.tally import Tally
from tamis.hashing import uniform
from tamis.io.store import open_store
from tamis.meter import Measures
from tamis.stage import Fold, Needs
from tamis.table import is_text

__all__ = [
    "Dropped",
    "FunnelRow",
    "Lengths",
    "ModelWork",
    "Overview",
    "dropped_examples",
    "funnel",
    "model_work",
    "read_manifest",
]


@dataclass(frozen=True)
class ModelWork:
    """What a model stage did, and how fast; None where it was not measured."""

    stage: str
    tokens: int
    """Real tokens of the whole run, without padding."""
    tokens_per_second: float | None
    """Of one worker, while the stage was at work."""
    padding: float | None
    """Share of the tokens that the device computed for nothing, in [0, 1)."""
    flops_per_second: float | None
    """Useful floating point operations, for real tokens only, of one worker."""
    share_of_peak: float | None
    """Of the matrix peak measured on the device, in [0, 1]."""

    def __str__(self) -> str:
        parts = [f"{self.tokens:,} tokens"]
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:,.0f} tokens/s")
        if self.padding is not None:
            parts.append(f"padding {100 * self.padding:.1f} %")
        if self.flops_per_second is not None:
            giga = self.flops_per_second / 1e9
            parts.append(f"{giga:,.0f} GFLOP/s" if giga < 10_000 else f"{giga / 1000:,.0f} TFLOP/s")
        if self.share_of_peak is not None:
            parts.append(f"{100 * self.share_of_peak:.0f} % of this device's measured matrix peak")
        return f"{self.stage}: {', '.join(parts)}"


def model_work(tally: Tally, measured: Mapping[tuple[str, str], float], stages: Sequence[str] = ()) -> list[ModelWork]:
    """One entry per stage that counted tokens, in the order of the stages.

    Args:
        tally: Of the whole run, an earlier part of it included (``RunResult.tally``).
        measured: What this process alone counted (``RunResult.measured``): rates are made of it. The names are
            those of :mod:`tamis.meter`.
        stages: The stages' labels.
    """
    mine = Measures(measured)
    order = {stage: i for i, stage in enumerate(stages)}
    found = sorted((s for s, name in tally.measures if name == "tokens"), key=lambda s: (order.get(s, len(order)), s))

    def ratio(stage: str, above: str, below: str) -> float | None:
        over, under = mine[stage, above], mine[stage, below]
        return over / under if over and under else None

    work = []
    for stage in found:
        real = ratio(stage, "tokens", "padded_tokens")
        work.append(
            ModelWork(
                stage,
                int(tally.measures[stage, "tokens"]),
                tokens_per_second=ratio(stage, "tokens", "seconds"),
                padding=None if real is None else 1 - real,
                flops_per_second=ratio(stage, "flops", "seconds"),
                share_of_peak=ratio(stage, "flops", "peak_flops"),
            )
        )
    return work


@dataclass(frozen=True)
class Dropped:
    """A document that a filter dropped."""

    stage: str
    reason: str
    score: Any
    text: str
    name: str


def dropped_examples(
    path: str, per_reason: int, *, text_field: str = "text", name_fields: Sequence[str] = ("name", "title", "id")
) -> dict[tuple[str, str], list[Dropped]]:
    """A sample of ``per_reason`` documents per (stage, reason) from a run's ``_rejects`` (uncompressed JSONL)."""
    store = open_store(path)
    found: dict[tuple[str, str], list[Dropped]] = {}
    for line in store.lines("_tamis/outputs.ndjson"):
        name = orjson.loads(line)["path"]
        if not name.startswith("_rejects/") or not name.endswith(".jsonl"):
            continue
        for document in map(orjson.loads, store.lines(name)):
            why = document["rejected"]
            examples = found.setdefault((why["stage"], why["reason"]), [])
            label = next((str(document[f]) for f in name_fields if document.get(f)), "")
            examples.append(Dropped(why["stage"], why["reason"], why["score"], document.get(text_field) or "", label))
            if len(examples) > 1000:
                found[why["stage"], why["reason"]] = _drawn(examples, per_reason)
    return {key: _drawn(examples, per_reason) for key, examples in found.items()}


def _drawn(examples: list[Dropped], number: int) -> list[Dropped]:
    """A sample that is the same in every run: those with the lowest hashes."""
    noise = uniform((e.name + e.text for e in examples), seed=1)
    return [examples[i] for i in np.argsort(noise, kind="stable")[:number]]


def read_manifest(path: str) -> dict[str, Any] | None:
    """The manifest of a complete run in this directory, ``None`` where there is none."""
    content = open_store(path).read("_tamis/manifest.json")
    return None if content is None else orjson.loads(content)


@dataclass
class Overview:
    """What :class:`Lengths` adds up."""

    documents: int = 0
    empty: int = 0
    """Documents whose text is null or has no character but white space."""
    characters: int = 0
    histogram: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(40, dtype=np.int64))
    """Documents by length: bin b counts texts of 2**(b-1) to 2**b - 1 characters, bin 0 those of none."""
    nulls: dict[str, int] = field(default_factory=dict)
    """Documents without a value, by column."""

    def bins(self) -> Iterator[tuple[int, int, int]]:
        """(shortest, longest, documents) of the bins in use."""
        used = np.flatnonzero(self.histogram)
        if len(used):
            for b in range(int(used[0]), int(used[-1]) + 1):
                yield (2 ** (b - 1) if b else 0), (2**b - 1 if b else 0), int(self.histogram[b])

    def quantile(self, share: float) -> int:
        """An upper bound of the length below which this share of the documents lies, to a factor of two."""
        below = np.cumsum(self.histogram)
        b = int(np.searchsorted(below, share * below[-1], side="left")) if self.documents else 0
        return 2**b - 1 if b else 0


@dataclass(frozen=True)
class Lengths(Fold[Overview, Overview]):
    """Number of documents, characters, a histogram of lengths, nulls by column."""

    columns: tuple[str, ...]
    text_field: str | None = None
    """The field whose lengths are measured; none where the documents have no text."""

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads every column."""
        return Needs(reads=self.columns)

    def start(self) -> Overview:
        """Nothing yet."""
        return Overview(nulls=dict.fromkeys(self.columns, 0))

    def add(self, state: Overview, table: pa.Table) -> Overview:
        """Add the documents of a table."""
        state.documents += table.num_rows
        for name in self.columns:
            state.nulls[name] = state.nulls.get(name, 0) + table.column(name).null_count
        if self.text_field is not None and is_text(table.schema.field(self.text_field).type):
            texts = table.column(self.text_field)
            lengths = pc.fill_null(pc.utf8_length(texts), 0).to_numpy().astype(np.int64)
            state.characters += int(lengths.sum())
            # frexp: the exponent of n is its number of binary digits, 0 for 0.
            state.histogram += np.bincount(np.frexp(lengths.astype(np.float64))[1], minlength=40)
            blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(pc.fill_null(texts, ""))), 0)
            state.empty += int(pc.sum(blank).as_py() or 0)
        return state

    def merge(self, left: Overview, right: Overview) -> Overview:
        """Both."""
        left.documents += right.documents
        left.empty += right.empty
        left.characters += right.characters
        left.histogram = left.histogram + right.histogram
        for name, n in right.nulls.items():
            left.nulls[name] = left.nulls.get(name, 0) + n
        return left

    def finish(self, state: Overview) -> Overview:
        """The sums themselves."""
        return state
