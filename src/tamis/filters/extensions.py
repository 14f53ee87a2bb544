"""A filter on programs whose bounds depend on the kind of file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.errors import InputError, UnknownNameError, UsageError
from tamis.filters.base import DocumentFilter
from tamis.filters.bounded import share
from tamis.filters.lists import list_files_of, read_bytes
from tamis.models.one_file import Stamp, hash_of, stamp
from tamis.text.line_lengths import longest_line
from tamis.text.surface import surface

__all__ = ["PerExtensionFilter"]

_WHO = "PerExtensionFilter"


@dataclass(frozen=True)
class _Bounds:
    """What files of one extension must hold to; None for no bound."""

    include: bool = True
    longest_line: int | None = 1000
    mean_line: float | None = 100
    alphanumeric: float | None = 0.25
    letters: float | None = None
    characters: tuple[int, int] | None = None


_CODE = _Bounds()
_DATA = _Bounds(alphanumeric=None, letters=0.5, characters=(50, 5000))
_OWN: Mapping[str, _Bounds] = {
    **dict.fromkeys(("yaml", "yml"), _DATA),
    "json": _Bounds(longest_line=None, mean_line=None, alphanumeric=None, letters=0.5, characters=(50, 5000)),
    # Markup and prose have long lines by nature; what else is wrong with them, other filters say.
    **dict.fromkeys(("html", "htm", "xml", "svg"), _Bounds(longest_line=None, mean_line=None)),
    **dict.fromkeys(("md", "markdown", "rst", "txt", "tex"), _Bounds(longest_line=None, mean_line=None)),
}
"""Bounds of extensions that are not those of programs, by the rules of the papers in the docstring."""

_SENTENCES = (
    "its extension is not included",
    "a line is longer than its extension allows",
    "its lines are longer on average than its extension allows",
    "has fewer letters and digits than its extension needs",
    "has fewer letters than its extension needs",
    "is shorter or longer than its extension allows",
)


def _key(name: str) -> str:
    return {"c#": "c-sharp", "f#": "f-sharp"}.get(name.strip().lower(), name.strip().lower().replace(" ", "-"))


@lru_cache(maxsize=8)
def _read(path: Path, _when: Stamp) -> Mapping[tuple[str, str], _Bounds]:
    """The bounds of a file by (language, extension)."""
    try:
        rows = list(csv.DictReader(io.StringIO(read_bytes(path, _WHO).decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"{_WHO}: {path} cannot be read as CSV: {error}."
        raise InputError(message) from error
    for column in ("language", "extension", "Include"):
        if not rows or column not in rows[0]:
            found = rows[0].keys() if rows else ()
            raise UnknownNameError.of(column, [c for c in found if c], kind="column", where=f"{_WHO}: {path}")

    def number(row: Mapping[str, str | None], column: str) -> float | None:
        text = (row.get(column) or "").strip()
        try:
            return float(text)
        except ValueError:
            return None

    table = {}
    for row in rows:
        longest = number(row, "Long_line_threshold")
        table[_key(row["language"] or ""), (row["extension"] or "").strip().lstrip(".").lower()] = _Bounds(
            include=(row["Include"] or "").strip() == "1",
            longest_line=None if longest is None else int(longest),
            mean_line=None if longest is None else 100,
            alphanumeric=number(row, "Alphanum_threshold"),
            letters=number(row, "Alpha filter"),
        )
    return table


def _table(name: str) -> Mapping[tuple[str, str], _Bounds]:
    path = list_files_of(name, (), _WHO)[0]
    return _read(path, stamp(path))


@dataclass(frozen=True)
class PerExtensionFilter(DocumentFilter):
    """Keeps programs that hold to the bounds of their kind of file.

    Score: 0 where all hold, else the number of the first that does not: 1 the extension is not included, 2 longest
        line, 3 mean length of lines, 4 share of letters and digits, 5 share of letters, 6 length of the file.
    Range: 0 to 6, int64.
    Empty text: 0 (kept) where no share and no length is asked for; by the bounds of this module 4 or 5 (dropped).
    Source: Chen et al. 2021 (Codex, arXiv:2107.03374), section 3.1, and Kocetkov et al. 2022 (The Stack,
        arXiv:2211.15533): no line above 1,000 characters, 100 on average, 0.25 letters and digits. Li et al. 2023
        (StarCoder, arXiv:2305.06161), section 3.1: JSON and YAML of 50 to 5,000 characters, half of them letters, with
        no bounds for lines of JSON. HTML, XML and prose have no bounds for lines here.
    Relations: NeMo Curator's filter of this name needs a table of bounds, and stops without it; it reads one as
        ``metadata_file``, and so does this. An extension that the table lacks is not included, as there. There, letters
        and digits are those of English, and a score is 0 or 1.
    """

    lang: str
    """The programming language, as the table has it: "python", "C++", "c-sharp"."""
    extension: str
    """The extension of the files' names, with or without its dot; "" for none."""
    metadata_file: str = ""
    """A CSV file with the columns language, extension, Include (1 or 0), Long_line_threshold, Alphanum_threshold and
    Alpha filter, whose blanks are no bounds; the bounds of this module by default."""

    score_type: ClassVar[pa.DataType] = pa.int64()
    family: ClassVar[str] = "surface"

    def __post_init__(self) -> None:
        if self.metadata_file:
            table = _table(self.metadata_file)
            known = {language for language, _ in table}
            if _key(self.lang) not in known:
                raise UnknownNameError.of(self.lang, known, kind="language", where=f"{_WHO}: {self.metadata_file}")
        elif not self.lang:
            message = f"{_WHO}: lang is empty. Name the programming language."
            raise UsageError(message)

    def identity(self) -> Mapping[str, str]:
        """A hash of the table."""
        if not self.metadata_file:
            return {}
        return {"metadata_file": hash_of(list_files_of(self.metadata_file, (), _WHO)[0])}

    def _bounds(self) -> _Bounds:
        extension = self.extension.strip().lstrip(".").lower()
        if not self.metadata_file:
            return _OWN.get(extension, _CODE)
        table = _table(self.metadata_file)
        return table.get((_key(self.lang), extension), _Bounds(include=False))

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The number of the first bound that does not hold."""
        bounds = self._bounds()
        counted = surface(texts)
        characters, lines = counted["characters"], counted["lines"]
        # The characters of lines are all but their line feeds.
        mean = share(characters - counted["line_feeds"], lines)
        broken = [np.full(len(texts), not bounds.include)]
        broken.append(_beyond(longest_line(texts), None, bounds.longest_line))
        broken.append(_beyond(mean, None, bounds.mean_line))
        broken.append(_beyond(share(counted["letters"] + counted["digits"], characters), bounds.alphanumeric, None))
        broken.append(_beyond(share(counted["letters"], characters), bounds.letters, None))
        broken.append(_beyond(characters, *(bounds.characters or (None, None))))
        numbers = np.arange(1, len(broken) + 1, dtype=np.int64)
        return pa.array(np.select(broken, list(numbers), default=np.int64(0)).astype(np.int64))

    def score_document(self, text: str) -> int:
        """The number of the first bound that one text does not hold to."""
        return int(self.score_batch(pa.array([text], pa.large_string()))[0].as_py())

    def keep_document(self, score: int) -> bool:
        """Whether all hold."""
        return score == 0

    def reasons(self, scores: pa.Array) -> pa.StringArray:
        """Which bound does not hold."""
        return pa.array([None, *_SENTENCES], pa.string()).take(scores)


def _beyond(values: npt.NDArray[Any], low: float | None, high: float | None) -> npt.NDArray[np.bool_]:
    out = np.zeros(len(values), dtype=np.bool_)
    if low is not None:
        out |= values < low
    if high is not None:
        out |= values > high
    return out
