"""What a run's directory tells of it without its documents: counts, stages, quarantine, how far it is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tamis.engine.describe import describe
from tamis.engine.ledger import HOME, JOURNAL, MANIFEST, OUTPUTS, QUARANTINE, REJECTS, RUN, STATUS, parse_lines
from tamis.engine.plan import labels
from tamis.engine.status import Status, StatusReader
from tamis.engine.tally import Tally
from tamis.errors import UsageError
from tamis.io.store import Store, open_store
from tamis.kept import Kept, kept_recipe
from tamis.page.content import Cause, Counts, FunnelRow, Progress, StageKind, StageView
from tamis.pii import ENTITIES
from tamis.report import funnel
from tamis.stage import FoldThenStage, Step

__all__ = ["Directory", "discreet", "kind_of_step", "open_directory", "settings_of"]

_EXAMPLES = 5
"""Quarantined records that are shown of each cause."""
_MOST_QUARANTINED = 100_000
"""Records of the quarantine that are looked through for examples; the counts are those of the run."""
_MODEL_ENTITIES = frozenset(ENTITIES)


def discreet(text: str) -> str:
    """Text in which the paths of this user are short: below the current directory, or below ``~``."""
    here, home = str(Path.cwd()), str(Path.home())
    if len(here) > 1:
        text = text.replace(here + os.sep, "").replace(here, ".")
    return text.replace(home, "~") if len(home) > 1 else text


@dataclass(frozen=True)
class Directory:
    """A run's directory."""

    path: str
    store: Store
    tally: Tally
    description: Mapping[str, Any]
    """Input, steps and output as JSON; what the run is known by."""
    kept: Kept | None
    """The recipe, where it was one of a recipe."""
    status: Status

    @property
    def complete(self) -> bool:
        """Whether all of it is done."""
        return self.status.state == "complete"

    def counts(self) -> Counts:
        """Records and bytes."""
        tally = self.tally
        tokens = [int(n) for (_, name), n in tally.measures.items() if name == "tokens"]
        return Counts(
            tally.records,
            tally.kept,
            tally.total_rejected,
            tally.total_quarantined,
            tally.bytes_in,
            tally.bytes_out,
            max(tokens) if tokens else None,
        )

    def labels(self) -> tuple[str, ...]:
        """The stages' labels, in order, as far as the description tells them."""
        return _labels(self.description.get("steps", ()))

    def funnel(self, stages: Sequence[str]) -> tuple[FunnelRow, ...]:
        """From what was read to what was kept."""
        return tuple(funnel(self.tally, stages))

    def stages(self, steps: Sequence[Step] | None = None) -> tuple[StageView, ...]:
        """One entry for each stage, with the documents that came to it and left it."""
        tally = self.tally
        told = self.description.get("steps", ())
        names = labels(steps) if steps is not None else self.labels()
        failed = {cause.removesuffix(" failed"): n for cause, n in tally.quarantined.items()}
        dropped: Counter[str] = Counter()
        for (stage, _), n in tally.rejected.items():
            dropped[stage] += n
        # Where a label is not what the run called it, as for a step of the user's own, the sums say nothing.
        known = set(dropped) <= set(names)
        unread = sum(n for cause, n in tally.quarantined.items() if cause.removesuffix(" failed") not in names)
        left = tally.records - unread
        views = []
        for index, name in enumerate(names):
            gone = dropped[name] + failed.get(name, 0)
            told_step = told[index] if index < len(told) else {}
            step = steps[index] if steps is not None else None
            views.append(
                StageView(
                    index,
                    name,
                    _kind(told_step) if step is None else kind_of_step(step),
                    settings_of(told_step),
                    left if known else None,
                    left - gone if known else None,
                    changed=tally.changed[name],
                )
            )
            left -= gone
        return tuple(views)

    def entities(self) -> tuple[tuple[str, int], ...]:
        """Kinds of personal data and how many places were found, the most frequent first."""
        found: Counter[str] = Counter()
        for (_, name), n in self.tally.measures.items():
            # What the modifier of personal data counts has the name of the entity; other counts are lower case.
            if name in _MODEL_ENTITIES or name.isupper():
                found[name] += int(n)
        return tuple(found.most_common())

    def quarantine(self) -> tuple[Cause, ...]:
        """Records that could not be used, by cause, the most frequent first."""
        examples: dict[str, list[tuple[str, int, int, str]]] = {}
        for number, entry in enumerate(parse_lines(self.store.lines(QUARANTINE))):
            if number >= _MOST_QUARANTINED:
                break
            some = examples.setdefault(str(entry["cause"]), [])
            if len(some) < _EXAMPLES:
                place = discreet(str(entry.get("file", ""))), int(entry["line"]), int(entry.get("offset", -1))
                some.append((*place, discreet(str(entry.get("detail", "")))[:300]))
        return tuple(
            Cause(cause, n, tuple(examples.get(cause, ()))) for cause, n in self.tally.quarantined.most_common()
        )

    def files(self) -> tuple[list[str], list[str]]:
        """(files of documents, files of rejects), by name, of what is done."""
        if self.complete:
            entries: Iterable[Mapping[str, Any]] = parse_lines(self.store.lines(OUTPUTS))
        else:
            done = parse_lines(self.store.lines(JOURNAL))
            entries = (o for entry in done for o in entry["outputs"] if o["part"] is None)
        names = [str(entry["path"]) for entry in entries]
        rejects = [name for name in names if name.startswith(f"{REJECTS}/")]
        return [name for name in names if not name.startswith(f"{REJECTS}/")], rejects

    def progress(self) -> Progress | None:
        """How far it is; None where it is complete."""
        status = self.status
        if status.state == "complete":
            return None
        said = " ".join(part for part in (status.error, status.advice) if part)
        return Progress(status.state, status.share, status.seconds_left, status.phase, discreet(said))


def open_directory(path: str, *, wait: bool = False, reader: StatusReader | None = None) -> Directory:
    """The run in a directory, local or behind a URL.

    Args:
        path: The directory.
        wait: Whether to wait for a beat where that is the only way to tell if the run is alive.
        reader: What has read its status before.

    Raises:
        UsageError: The directory holds no run.
    """
    store = open_store(path)
    if not any(store.exists(name) for name in (MANIFEST, RUN, STATUS)):
        raise UsageError(_nothing(path, store))
    status = (reader or StatusReader(path)).read(wait=wait)
    content = store.read(MANIFEST) or store.read(RUN)
    if content is None:  # it began this moment, or was replaced while it was looked at
        message = f"{path} holds no run yet: it has not got as far as its first split. Try again in a moment."
        raise UsageError(message)
    return Directory(path, store, status.tally, orjson.loads(content)["description"], kept_recipe(store), status)


def _nothing(path: str, store: Store) -> str:
    names = store.names()
    if not names:
        return f"{path} does not exist, or is empty. A report is made of the output directory of a run."
    if HOME in names:
        return f"{path} holds no run yet: none has got as far as its first split. Start one with `tamis run`."
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{path} ({some}) holds no run of Tamis. A report is made of the output directory of a run."


# -- steps as they are described ------------------------------------------------------------------------------


def _used(value: Any) -> str:
    """The name of what a description describes, without its module."""
    if isinstance(value, Mapping):
        value = value.get("use") or value.get("function") or ""
    return str(value).rpartition(".")[2]


def _inner(step: Mapping[str, Any]) -> str:
    return next((_used(step[key]) for key in ("filter_obj", "modifier", "score_fn") if key in step), "")


def _name(step: Mapping[str, Any]) -> str:
    """What a step is called, told from its description."""
    use = _used(step)
    if use == "Score":
        return f"Score {_inner(step)}"
    if use == "Filter":
        return f"Filter {step.get('filter_field', '')}"
    return _inner(step) or use


def _labels(steps: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """As :func:`tamis.engine.plan.labels`, from descriptions."""
    return labels([_Named(_name(step)) for step in steps])  # type: ignore[misc]  # it asks for the name alone


@dataclass(frozen=True)
class _Named:
    name: str


def settings_of(step: Any) -> tuple[tuple[str, str], ...]:
    """The plain settings of a step, or of its description, and of the filter or modifier in it, as text."""
    left = [step if isinstance(step, Mapping) else describe(step)]
    found: dict[str, str] = {}
    while left:
        for key, value in left.pop().items():
            if isinstance(value, Mapping) and "use" in value:
                left.append(value)
            elif key in {"use", "code", "identity", "function"} or value is None:
                continue
            elif isinstance(value, bool | int | float | str):
                found[key] = discreet(str(value).lower() if isinstance(value, bool) else str(value))
            elif isinstance(value, list) and value and all(isinstance(v, int | float | str) for v in value):
                found[key] = discreet(", ".join(map(str, value[:12])) + (", …" if len(value) > 12 else ""))
    return tuple(found.items())


def _kind(step: Mapping[str, Any]) -> StageKind:
    use = _used(step)
    if use in {"ScoreFilter", "Filter", "Where"}:
        return "filter"
    if use == "Modify":
        return "modifier"
    return "classifier" if use.endswith(("Classifier", "Guard")) else "other"


def kind_of_step(step: Step) -> StageKind:
    """What a step is, for a heading."""
    if isinstance(step, FoldThenStage):
        return "fold"
    return _kind(describe(step))
