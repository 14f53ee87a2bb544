"""Where importance resampling is done and what it reads: documents with ids, and Parquet folders of a cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import pyarrow as pa

from tamis.dataset import DocumentDataset
from tamis.engine.options import EngineName
from tamis.errors import OutputRefusedError
from tamis.io.files import list_files
from tamis.io.source import Extras, FileSource
from tamis.stage import Fold
from tamis.table import is_text

__all__ = ["Bound", "Place", "columns_of", "folder_of", "own_names", "read_documents", "slim", "without_id"]

Result = TypeVar("Result")
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class Place:
    """Where the work is done, and where what is made between the steps lies."""

    cache: Path
    workers: int | None = None
    engine: EngineName = "embedded"
    address: str | None = None
    progress: Literal["auto", "off"] = "auto"

    def fold(self, dataset: DocumentDataset, fold: Fold[Any, Result]) -> Result:
        """The fold's answer over a dataset."""
        return dataset.fold(
            fold, workers=self.workers, progress=self.progress, engine=self.engine, address=self.address
        )

    def keep(self, dataset: DocumentDataset, name: str | Path) -> DocumentDataset:
        """Write a dataset into a folder of the cache, and read it from there.

        What an interrupted run left goes on; what another run left, with other data or settings, is replaced.
        """
        path = self.cache / name
        try:
            self._write(dataset, path, "auto")
        except OutputRefusedError:
            self._write(dataset, path, "fresh")  # refuses what is not Tamis's own
        return DocumentDataset.read_parquet(path)

    def _write(self, dataset: DocumentDataset, path: Path, mode: Literal["auto", "fresh"]) -> None:
        dataset.to_parquet(
            path,
            mode=mode,
            workers=self.workers,
            progress=self.progress,
            engine=self.engine,
            address=self.address,
        )


@dataclass(frozen=True)
class Bound:
    """A dataset that is folded at a place."""

    dataset: DocumentDataset
    place: Place

    @property
    def schema(self) -> pa.Schema:
        """Of the dataset."""
        return self.dataset.schema

    @property
    def text_field(self) -> str:
        """Of the dataset."""
        return self.dataset.text_field

    def fold(self, fold: Fold[Any, Result], *, workers: int | None = None) -> Result:
        """The fold's answer, as the place has it made."""
        return self.place.fold(self.dataset, fold)


def read_documents(
    paths: Paths, text_field: str = "text", *, columns: Sequence[str] | None = None, add_filename: bool = False
) -> DocumentDataset:
    """JSON Lines or Parquet, as the first file is; an id is made of the text where a document has none."""
    files = list_files(paths)
    read = DocumentDataset.read_parquet if files[0].format == "parquet" else DocumentDataset.read_json
    return read([f.path for f in files], text_field=text_field, columns=columns, add_filename=add_filename, add_id=True)


def slim(dataset: DocumentDataset) -> DocumentDataset:
    """The same with text and id alone.

    Ids are of the type that they have in the first thousand documents. Where that is text or an integer the schema is
    taken as known: a look at every record before the first is read was two thirds of the time of a weighing.
    """
    source = cast("FileSource", dataset.plan.source)
    names = [name for name in ("id", dataset.text_field) if name in own_names(source)]
    found = {name: source.schema.field(name) for name in names}
    kinds = {name: found[name].type for name in names if not found[name].metadata}
    plain = len(kinds) == len(names) and all(is_text(kind) or pa.types.is_integer(kind) for kind in kinds.values())
    if plain and not source.exact:
        source = source.with_schema(pa.schema(list(found.values())))
    extras = replace(source.extras, file_name=None)
    return DocumentDataset(replace(source, columns=tuple(names), extras=extras), dataset.steps)


def without_id(dataset: DocumentDataset) -> DocumentDataset:
    """The same with ids where documents bring their own, and none made."""
    source = cast("FileSource", dataset.plan.source)
    return DocumentDataset(replace(source, extras=replace(source.extras, id=None)), dataset.steps)


def own_names(source: FileSource) -> list[str]:
    """The columns that the files themselves hold."""
    return list(replace(source, extras=Extras()).schema.names)


def folder_of(dataset: DocumentDataset) -> Path:
    """The folder that a dataset of the cache lies in."""
    source = cast("FileSource", dataset.plan.source)
    return Path(os.path.commonpath([Path(f.path).parent for f in source.files]))


def columns_of(column: str, names: Sequence[str]) -> tuple[str, ...]:
    """A column, or one for each of several targets."""
    return tuple(f"{column}_{name}" for name in names) or (column,)
