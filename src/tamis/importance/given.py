"""What the user brings instead of having it made: embeddings and weights, given their documents' ids."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.dataset import DocumentDataset
from tamis.engine.describe import digest
from tamis.errors import InputError, MissingColumnError, UsageError
from tamis.importance.place import Place, slim

__all__ = ["given_embeddings", "given_weights", "load_numbers"]

_ROWS = 100_000
"""Rows of a .npy file that are turned into Parquet together."""


def given_embeddings(path: Path, documents: DocumentDataset, name: str, place: Place) -> DocumentDataset:
    """Embeddings that exist: Parquet with the columns id and embedding, or .npy files in the order of the documents.

    .npy files are taken in the order of the numbers in their names (emb2 before emb10) and given their documents' ids.

    Raises:
        InputError: There is nothing.
        UsageError: There are more or fewer than documents, or they are something else.
    """
    arrays = sorted(path.rglob("*.npy"), key=_natural) if path.is_dir() else [path] * (path.suffix == ".npy")
    if not path.exists():
        message = f"There are no embeddings at {path}. Leave the path out to have them made."
        raise InputError(message)
    paired = _paired(arrays, documents, "embedding", name, place) if arrays else None
    found = paired or DocumentDataset.read_parquet(path)
    for column in ("id", "embedding"):
        if column not in found.schema.names:
            raise MissingColumnError.of(column, f"the embeddings in {path}", found.schema.names)
    there, wanted = (
        each.count(workers=place.workers, engine=place.engine, address=place.address) for each in (found, documents)
    )
    if there != wanted:
        message = (
            f"{path} holds {there:,} embeddings, and there are {wanted:,} documents. Embed these documents, or leave "
            "the path out to have that done."
        )
        raise UsageError(message)
    return found


def given_weights(path: Path, documents: DocumentDataset, column: str, place: Place) -> DocumentDataset:
    """Log weights in a .npy file, in the order of the documents, as Parquet with ids.

    Raises:
        InputError: It cannot be read.
        UsageError: It holds something else, or not one number for each document.
    """
    return _paired([path], documents, column, f"given-{column}", place)


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that orders the numbers in a name as numbers."""
    return [(int(each), "") if each.isdigit() else (-1, each) for each in re.split(r"(\d+)", str(path))]


@dataclass(frozen=True)
class Numbers:
    """Numbers in a .npy file, read some rows at a time: mapped into memory, a file that shrinks ends the process."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    """Bytes before the first number."""

    @classmethod
    def of(cls, path: Path) -> Numbers:
        """What a file holds; raises InputError or UsageError where that is no numbers, row by row."""
        try:
            with path.open("rb") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, by_column, dtype = read(file)
                found = cls(path, shape, dtype, file.tell())
        except OSError as error:
            message = f"{path} cannot be read: {error.strerror or error}."
            raise InputError(message) from error
        except ValueError as error:
            message = f"{path} is no .npy file of numbers: {error}"
            raise UsageError(message) from error
        if dtype.kind not in "fiu":
            message = f"{path} holds {dtype}, and not numbers."
            raise UsageError(message)
        if by_column and len(shape) > 1:
            message = f"{path} is stored column by column. Save numpy.ascontiguousarray(...) of it."
            raise UsageError(message)
        return found

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    def rows(self, start: int, end: int) -> npt.NDArray[Any]:
        """The rows of a range; raises InputError where the file ends before them."""
        width = math.prod(self.shape[1:])
        wanted = (min(end, len(self)) - start) * width
        found = np.fromfile(self.path, self.dtype, wanted, offset=self.offset + start * width * self.dtype.itemsize)
        if len(found) < wanted:
            message = f"{self.path} ends before its {len(self):,} rows do. Write it again."
            raise InputError(message)
        return found.reshape(-1, *self.shape[1:])


def load_numbers(path: Path) -> npt.NDArray[Any]:
    """All numbers of a .npy file."""
    found = Numbers.of(path)
    return found.rows(0, len(found))


def _ids(documents: DocumentDataset) -> list[Any]:
    return [name for table in slim(documents) for name in table.column("id").to_pylist()]


def _paired(files: Sequence[Path], documents: DocumentDataset, column: str, name: str, place: Place) -> DocumentDataset:
    """Arrays in the order of the documents, with their ids."""
    arrays = [Numbers.of(path) for path in files]
    dimensions = 2 if column == "embedding" else 1
    for path, array in zip(files, arrays, strict=True):
        if len(array.shape) != dimensions:
            message = f"{path} has the shape {array.shape}; wanted is {'[documents, width]'[: 10 + 8 * dimensions]}."
            raise UsageError(message)
    ids = _ids(documents)
    if sum(map(len, arrays)) != len(ids):
        message = (
            f"{files[0]}{' and others' * (len(files) > 1)}: {sum(map(len, arrays)):,} rows, and there are "
            f"{len(ids):,} documents. They must be of the same documents, in the same order."
        )
        raise UsageError(message)
    # Another name for other files or documents: what an earlier call has left is not read with it.
    stamps = [[str(path.resolve()), path.stat().st_mtime_ns, path.stat().st_size] for path in files]
    name = f"{name}-{digest([stamps, documents.plan.source.describe()])[:12]}"
    done = 0
    for part, rows in enumerate(_pieces(arrays)):
        values = pa.array(rows.reshape(-1))
        if column == "embedding":
            values = pa.FixedSizeListArray.from_arrays(values, rows.shape[1])
        names = pa.array([str(each) for each in ids[done : done + len(rows)]], pa.string())
        place.keep(DocumentDataset.from_arrow(pa.table({"id": names, column: values})), f"{name}/{part:06d}")
        done += len(rows)
    return DocumentDataset.read_parquet(place.cache / name)


def _pieces(arrays: Sequence[Numbers]) -> Iterator[npt.NDArray[Any]]:
    for array in arrays:
        for start in range(0, len(array), _ROWS):
            yield array.rows(start, start + _ROWS)
