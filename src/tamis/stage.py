"""The two verbs: a :class:`Stage` maps a table to a table row by row, a :class:`Fold` sums a dataset up.

What must see everything before it can answer for one document is a fold, then a stage:
:class:`FoldThenStage`. Descriptions are frozen, small and picklable; what cannot travel (compiled kernels,
weights, open files) is loaded by :meth:`Stage.open` in the process that needs it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

import pyarrow as pa

__all__ = [
    "AnyStep",
    "Appendable",
    "Fold",
    "FoldThenStage",
    "Needs",
    "Sequential",
    "Stage",
    "Step",
    "TableFunction",
    "labels",
]

TableFunction = Callable[[pa.Table], pa.Table]
"""What a worker runs: a table of documents in, a table with the same rows in the same order out."""

State = TypeVar("State")
Result = TypeVar("Result")
D = TypeVar("D", bound="Appendable")


@dataclass(frozen=True)
class Needs:
    """What a stage reads, what it makes, and what it runs on; checked before the first byte is read."""

    texts: tuple[str, ...] = ()
    """Columns read as text. A record that lacks one is quarantined; a null text gets an answer."""
    reads: tuple[str, ...] = ()
    """Further columns read, of any type. A record that lacks one has a null there."""
    makes: tuple[pa.Field, ...] = ()
    """Columns added, or replaced where one of that name exists, with their Arrow types."""
    device: Literal["cpu", "accelerator"] = "cpu"
    """Where it runs. ``accelerator`` is for models: one worker per device where there are any, and else one worker
    with every core, whatever device the stage itself then picks."""
    window: int = 0
    """Documents the stage wants to see at once: a model sorts them by length. 0: whatever a read brings. It gets
    fewer where the input ends or memory is bounded, and more by up to one read; answers must not depend on it."""
    together: str = ""
    """Stages in a row that say the same word here are all shown the same documents, also those that one of them
    drops, so that they can share what they find out about a text. For what is cheaper to do for every document than
    once more; such a stage replaces no column and counts nothing with the meter."""


class Appendable(Protocol):
    """What a stage can be appended to: a dataset."""

    def append(self, *steps: Step) -> Self:
        """The same documents with these steps at the end of their plan."""
        ...


class _Callable:
    """Steps are called on a dataset: ``ScoreFilter(...)(dataset)`` appends, and nothing runs yet."""

    def __call__(self, dataset: D) -> D:
        """Append this step to the dataset's plan."""
        return dataset.append(*self.steps())

    def steps(self) -> tuple[Step, ...]:
        """The plan steps this stands for: itself, or its parts."""
        raise NotImplementedError


class Stage(_Callable, ABC):
    """A row-local map, table in, table out: what happens to a document depends on that document alone.

    Subclasses are frozen dataclasses that only store; :meth:`open` loads. The function that ``open``
    returns must keep the number and order of rows, leave columns it did not declare untouched, give an
    answer for null and blank texts, and mark rows it wants gone with :func:`tamis.table.mark`.
    :func:`tamis.testing.check_stage` tests all of that. What it measures beside its answers, it says with
    :func:`tamis.meter.count`.

    The fields are what a run is known by: another value, another run. Left out are fields that are not shown
    (``field(repr=False)``: a password) or carry ``metadata={"secret": True}``, which are written nowhere, and those
    with ``metadata={"tuning": True}``, which change how the stage runs and not what comes out (a batch size).

    A document on which the function raises is found by calling it on parts of the table, and set aside. What is not
    a document's fault (no memory, a model that cannot run) is raised as a :class:`tamis.errors.TamisError`, which
    ends the run; it can be resumed.
    """

    @property
    def name(self) -> str:
        """What reports call this stage; the class name unless a subclass knows better."""
        return type(self).__name__

    @abstractmethod
    def needs(self, schema: pa.Schema) -> Needs:
        """What the stage reads and makes, given the columns that exist before it."""

    @abstractmethod
    def open(self) -> TableFunction:
        """Load what cannot travel and return the function that a worker runs on every table."""

    def identity(self) -> Mapping[str, str]:
        """What makes its answers besides its settings, such as the content of a file that one of them names.

        A run goes on only where this is the same.
        """
        return {}

    @property
    def may_drop(self) -> bool:
        """Whether it may mark a row; a stage that never does says so."""
        return True

    def on_text_field(self, text_field: str) -> Stage:
        """The stage with the dataset's text field where its own was left open; itself by default."""
        return self

    def steps(self) -> tuple[Step, ...]:
        """Itself."""
        return (self,)


class Fold(ABC, Generic[State, Result]):
    """A mergeable summary of a dataset: any split and any merge order give the same result.

    States travel between processes. ``add`` and ``merge`` may change and return their first argument.
    """

    @property
    def name(self) -> str:
        """What reports call this fold."""
        return type(self).__name__

    def needs(self, schema: pa.Schema) -> Needs:
        """The columns it reads; nothing by default."""
        return Needs()

    @abstractmethod
    def start(self) -> State:
        """The summary of no documents."""

    @abstractmethod
    def add(self, state: State, table: pa.Table) -> State:
        """The summary with the documents of ``table`` added."""

    @abstractmethod
    def merge(self, left: State, right: State) -> State:
        """The summary of both."""

    @abstractmethod
    def finish(self, state: State) -> Result:
        """The answer."""

    def on_text_field(self, text_field: str) -> Fold[State, Result]:
        """The fold with the dataset's text field where its own was left open; itself by default."""
        return self


class FoldThenStage(_Callable, ABC):
    """What must see the whole dataset before it can answer for one document.

    When the plan runs, the fold runs first over everything before this step; :meth:`then` turns its result
    into the stage that takes this step's place.
    """

    @property
    def name(self) -> str:
        """What reports call this step."""
        return type(self).__name__

    @abstractmethod
    def needs(self, schema: pa.Schema) -> Needs:
        """What the resulting stage reads and makes, so that the plan can be checked before the fold runs."""

    @abstractmethod
    def fold(self) -> Fold[Any, Any]:
        """The summary this step needs."""

    @abstractmethod
    def then(self, result: Any) -> Stage:
        """The stage that answers, given the summary."""

    @property
    def may_drop(self) -> bool:
        """Whether the stage that it becomes may mark a row; a step that never does says so."""
        return True

    def on_text_field(self, text_field: str) -> FoldThenStage:
        """The step with the dataset's text field where its own was left open; itself by default."""
        return self

    def steps(self) -> tuple[Step, ...]:
        """Itself."""
        return (self,)


Step = Stage | FoldThenStage
AnyStep = Step | Fold[Any, Any]


def labels(steps: Sequence[AnyStep]) -> tuple[str, ...]:
    """One distinct label per step: its name, numbered where two steps share one.

    >>> labels([])
    ()
    """
    names = [step.name for step in steps]
    shared = {name for name, n in Counter(names).items() if n > 1}
    seen: Counter[str] = Counter()
    out = []
    for name in names:
        seen[name] += 1
        out.append(f"{name}#{seen[name]}" if name in shared else name)
    return tuple(out)


class Sequential(_Callable):
    """Several steps in order, used like one: ``Sequential([a, b])(dataset)``. May be nested.

    >>> Sequential([]).steps()
    ()
    """

    def __init__(self, stages: Iterable[Step | Sequential]) -> None:
        self._stages = tuple(stages)

    def steps(self) -> tuple[Step, ...]:
        """All steps, flattened."""
        return tuple(step for stage in self._stages for step in stage.steps())

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps())

    def __repr__(self) -> str:
        return f"Sequential([{', '.join(map(repr, self._stages))}])"
