"""Every deliberate exception of Tamis, and the sentences they say.

::

    TamisError
    ├── UsageError                what was asked for cannot be done as it was asked
    │   ├── MissingColumnError    a stage reads a column that nothing makes
    │   ├── UnknownNameError      a stage, option or format of that name does not exist
    │   ├── MissingExtraError     an optional dependency is not installed
    │   ├── ModelError            a model cannot be found, loaded or run on this device
    │   ├── RecipeError           a recipe file cannot be understood
    │   └── OutputRefusedError    the output directory belongs to something else
    ├── InputError                an input cannot be listed, opened or read
    ├── OutputError               an output cannot be written (disk full, no permission)
    ├── BadRecordError            one bad record, with ``strict``
    ├── TooManyBadRecordsError    more bad records than ``max_bad`` allows
    ├── StageError                a stage broke its contract or failed on every document
    ├── WorkerError               a worker process died
    └── TrainingError             training cannot go on: its loss is no number

A message says what happened, where, and what to do next; where a name was wrong it offers the nearest
valid one. Every class takes the finished sentence as its only argument, so that an exception crosses a
process boundary unchanged; the class methods compose the sentences.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Self

__all__ = [
    "BadRecordError",
    "InputError",
    "MissingColumnError",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "OutputRefusedError",
    "RecipeError",
    "StageError",
    "TamisError",
    "TooManyBadRecordsError",
    "TrainingError",
    "UnknownNameError",
    "UsageError",
    "WorkerError",
    "hint",
    "nearest",
]


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name closest to ``name``, or ``None`` when nothing is close.

    >>> nearest("WordCuntFilter", ["WordCountFilter", "UrlRemover"])
    'WordCountFilter'
    """
    options = list(valid)
    by_lower = {option.lower(): option for option in options}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[close[0]] if close else None


def hint(name: str, valid: Iterable[str]) -> str:
    """A sentence that offers the nearest valid name, and lists the names while they are few.

    >>> hint("txt", ["id", "text"])
    "Did you mean 'text'? There is: id, text."
    """
    options = sorted(valid)
    close = nearest(name, options)
    parts = [f"Did you mean {close!r}?"] if close else []
    if not options:
        parts.append("There is none.")
    elif len(options) <= 40:
        parts.append(f"There is: {', '.join(options)}.")
    return " ".join(parts)


class TamisError(Exception):
    """The root of every exception that Tamis raises on purpose."""


class UsageError(TamisError, ValueError):
    """What was asked for cannot be done as it was asked."""


class MissingColumnError(UsageError):
    """A stage reads a column that neither the input has nor a stage before it makes."""

    @classmethod
    def of(cls, column: str, stage: str, have: Iterable[str]) -> Self:
        """Compose the sentence for ``stage`` reading ``column`` where the columns ``have`` exist."""
        return cls(f"{stage} reads the column {column!r}, which does not exist at that point. {hint(column, have)}")


class UnknownNameError(UsageError):
    """A stage, option or format of that name does not exist."""

    @classmethod
    def of(cls, name: str, valid: Iterable[str], *, kind: str, where: str = "") -> Self:
        """Compose the sentence: ``kind`` is what was named ("stage", "option"), ``where`` the place."""
        place = f"{where}: " if where else ""
        return cls(f"{place}there is no {kind} {name!r}. {hint(name, valid)}")


class MissingExtraError(UsageError, ImportError):
    """An optional dependency is not installed; said when the stage is built, not in the middle of a run."""

    @classmethod
    def of(cls, who: str, package: str, extra: str) -> Self:
        """Compose the sentence with the pip command that installs the extra."""
        return cls(f"{who} needs the package {package!r}, which is not installed. Run: pip install 'tamis[{extra}]'")


class ModelError(UsageError):
    """A model, its tokenizer or its device cannot do what was asked; the message says which of them, and why."""


class RecipeError(UsageError):
    """A recipe file cannot be understood; the message names the file and the key."""


class OutputRefusedError(UsageError):
    """The output directory holds something else: another recipe's run, other files, or a run at work."""


class InputError(TamisError):
    """An input cannot be listed, opened or read."""


class OutputError(TamisError):
    """An output cannot be written: the disk is full, or there is no permission."""


class BadRecordError(TamisError):
    """One record cannot be used, and the run was asked to be strict."""


class TooManyBadRecordsError(TamisError):
    """The share of quarantined records is above ``max_bad``; everything written stays, and can be resumed."""


class StageError(TamisError):
    """A stage broke its contract (rows lost or added), or failed on every document of a batch."""


class TrainingError(TamisError):
    """Training cannot go on; what was saved before stays, and can be resumed from."""


class WorkerError(TamisError):
    """A worker process died (killed, out of memory, crashed) more often than it may."""
