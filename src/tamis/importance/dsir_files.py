"""The files of :class:`tamis.importance.HashedNgramDSIR`: its saved state, and documents read by functions."""

from __future__ import annotations

import filecmp
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tamis.errors import InputError, ModelError, OutputRefusedError, UsageError
from tamis.selection.mixture import Mixture, need_safetensors
from tamis.selection.ngrams import NgramTable
from tamis.text.hashed_ngrams import HashedNgrams

__all__ = [
    "PARSED",
    "Counts",
    "Load",
    "Mixtures",
    "Parse",
    "load_state",
    "save_state",
    "siblings",
    "write_json",
    "written",
]

Load = Callable[[str], Iterable[Any]]
Parse = Callable[[Any], str]
Counts = tuple[NgramTable, tuple[NgramTable, ...]]
Mixtures = tuple[Mixture, tuple[Mixture, ...]]

PARSED = "parsed_text"
"""The field with the text that a function of the user's made of an example."""
_STATE, _COUNTS = "dsir.json", "ngrams.safetensors"
_FORMAT = "tamis-dsir"
_log = logging.getLogger("tamis")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all; creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    aside.replace(path)


def siblings(path: Path) -> Iterator[Path]:
    """The same file under the other of the two names that the published example has for it.

    It saves hybrid_importance_weights_... and reads hybrid_log_importance_weights_...
    """
    for one, other in (
        ("log_importance_weights", "importance_weights"),
        ("importance_weights", "log_importance_weights"),
    ):
        if one in path.name and not (one == "importance_weights" and other in path.name):
            yield path.with_name(path.name.replace(one, other))


# -- documents that the user's functions read -----------------------------------------------------------------


def written(path: str, load: Load | None, parse: Parse | None, target: Path, text_field: str) -> Path:
    """The examples of a path as JSON Lines, with the text in :data:`PARSED`.

    The file is replaced only where it would differ, so that runs over it go on.

    Args:
        path: What the function is given.
        load: From a path to examples; JSON Lines by default.
        parse: From an example to its text; the field ``text_field`` by default.
        target: The file.
        text_field: See ``parse``.

    Raises:
        UsageError: An example is no dict that JSON can hold, or has no text.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            for number, example in enumerate((load or _lines)(path)):
                file.write(_line(path, number, example, parse, text_field))
        if not (target.exists() and filecmp.cmp(aside, target, shallow=False)):
            aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return target


def _lines(path: str) -> Iterator[Any]:
    try:
        with Path(path).open("rb") as file:
            for line in file:
                yield json.loads(line)
    except (OSError, ValueError) as error:
        message = f"{path} cannot be read as JSON Lines: {error}. Give a function that loads it."
        raise InputError(message) from error


def _line(path: str, number: int, example: Any, parse: Parse | None, text_field: str) -> bytes:
    try:
        found = parse(example) if parse is not None else example[text_field]
        if isinstance(example, Mapping) and isinstance(found, str):
            return orjson.dumps({**example, PARSED: found}) + b"\n"
        wrong = f"it is of type {type(example).__name__}, its text of type {type(found).__name__}"
    except (KeyError, TypeError) as error:
        wrong = repr(error)
    message = (
        f"{path}: the example {number} must be a dict that JSON can hold, with a text (str) that the parse function "
        f"gives; {wrong}."
    )
    raise UsageError(message)


# -- state ----------------------------------------------------------------------------------------------------


def save_state(path: Path, about: Mapping[str, Any], counts: Counts | None, mixtures: Mixtures | None) -> None:
    """Write a state into a directory.

    Raises:
        MissingExtraError: safetensors is not installed.
        OutputRefusedError: There is something else.
    """
    need_safetensors("HashedNgramDSIR.save")
    from safetensors.numpy import save  # noqa: PLC0415  an extra

    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not (path / _STATE).is_file()):
        message = f"{path} holds something else. Choose another path for the saved state, a new directory."
        raise OutputRefusedError(message)
    if path.suffix in (".pkl", ".pickle"):
        _log.info("%s is written as a directory of JSON and safetensors; nothing is pickled.", path)
    path.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {"format": _FORMAT, "version": 1, **about, "counts": None, "mixtures": None}
    if counts is not None:
        tables = [counts[0], *counts[1]]
        aside = path / f".{_COUNTS}.{os.getpid()}"
        aside.write_bytes(save({f"table_{i}": table.counts for i, table in enumerate(tables)}))
        aside.replace(path / _COUNTS)
        told["counts"] = [[table.documents, table.seen] for table in tables]
    if mixtures is not None:
        for number, mixture in enumerate([mixtures[0], *mixtures[1]]):
            mixture.save(path / f"mixture_{number}.safetensors")
        told["mixtures"] = 1 + len(mixtures[1])
    write_json(path / _STATE, told)


def load_state(
    path: Path, features: Callable[[Mapping[str, Any]], HashedNgrams]
) -> tuple[dict[str, Any], Counts | None, Mixtures | None]:
    """Read what :func:`save_state` wrote; ``features`` makes them of what was told.

    Raises:
        MissingExtraError: safetensors is not installed.
        ModelError: There is no such state.
    """
    need_safetensors("HashedNgramDSIR.load")
    from safetensors import SafetensorError  # noqa: PLC0415  an extra
    from safetensors.numpy import load_file  # noqa: PLC0415

    try:
        about = orjson.loads((path / _STATE).read_bytes())
        counts, mixtures = None, None
        if about["counts"] is not None:
            tensors = load_file(path / _COUNTS)
            tables = [
                NgramTable(features(about), np.asarray(tensors[f"table_{i}"], dtype=np.int64), *numbers)
                for i, numbers in enumerate(about["counts"])
            ]
            counts = tables[0], tuple(tables[1:])
        if about["mixtures"] is not None:
            found = [Mixture.load(path / f"mixture_{i}.safetensors") for i in range(about["mixtures"])]
            mixtures = found[0], tuple(found[1:])
    except FileNotFoundError as error:
        message = f"There is no state of HashedNgramDSIR at {path}: {error.filename or error} is missing."
        raise ModelError(message) from error
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        message = f"{path} holds no state that HashedNgramDSIR.save wrote: {error!r}."
        raise ModelError(message) from error
    return about, counts, mixtures
