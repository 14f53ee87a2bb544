"""The front door: a lazy dataset of documents, read from files or memory, that a plan is appended to."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, cast, overload

import pyarrow as pa
import pyarrow.compute as pc

from tamis.engine.describe import describe
from tamis.engine.options import EngineName, Options
from tamis.engine.output import Mode
from tamis.engine.plan import Checked, Plan, check, with_id
from tamis.engine.run import RunResult, fold_plan, iterate, warn_of, write_plan
from tamis.engine.watch import Observer
from tamis.engine.worker import Sink
from tamis.errors import MissingColumnError, TamisError, UnknownNameError, UsageError
from tamis.filters.where import Where
from tamis.io.files import list_files
from tamis.io.hub import hub_files
from tamis.io.layouts import LAYOUTS, CsvLayout, Layout, XmlLayout, types_of
from tamis.io.lines import COMPRESSIONS
from tamis.io.source import Extras, FileSource, LimitedSource, Source, TableSource
from tamis.notebook import dataset_html
from tamis.progress import observer_for
from tamis.selection.split import DEFAULT_PROPORTIONS, Split, StratifiedSplit
from tamis.stage import Fold, Step

__all__ = ["DocumentDataset"]

Result = TypeVar("Result")
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Compression = Literal["gz", "zst", "gzip", "zstd"] | None
ProgressChoice = Literal["auto", "off"]
Format = Literal["jsonl", "parquet", "csv", "xml"]
_SHOWN = 3
"""Documents that a notebook shows."""


class DocumentDataset:
    """Documents, one per row, and what is to happen to them.

    Lazy: reading only lists the files, a stage called on a dataset returns a new dataset with the stage at the
    end of its plan, and nothing runs before :meth:`to_json`, :meth:`to_parquet`, :meth:`fold`, :meth:`count`,
    :meth:`head` or iteration. A dataset never changes.

    ``dataset["field"]`` is an Arrow expression, and ``dataset[expression]`` keeps the documents for which it is
    true: ``dataset[dataset["score"] >= 0]``.
    """

    def __init__(self, source: Source, steps: tuple[Step, ...] = ()) -> None:
        self._plan = Plan(source, steps)

    # -- reading ---------------------------------------------------------------------------------------------

    @classmethod
    def read_json(
        cls,
        paths: Paths,
        *,
        text_field: str = "text",
        columns: Sequence[str] | None = None,
        add_filename: bool | str = False,
        add_id: bool | str = False,
        schema: pa.Schema | Mapping[str, pa.DataType] | None = None,
        backend: str | None = None,  # noqa: ARG003  accepted, not needed
    ) -> DocumentDataset:
        """JSON Lines, one document per line, plain or compressed (``.gz``, ``.zst``).

        Args:
            paths: A file, a folder, a glob, an fsspec URL (``s3://...``), or a list of these.
            text_field: The field that holds the text; stages that name none use it.
            columns: Fields to keep. All by default, and then fields that no stage touches are written byte
                for byte as they were read.
            add_filename: Add the column ``file_name`` (or the name given): the file's path below the folder
                that all inputs share.
            add_id: Fill the column ``id`` (or the name given) where a document has none: a hash of its text,
                the same in any file or sharding. Added by itself when a stage reads ``id``.
            schema: Types of the fields, where the first thousand documents do not tell them.
            backend: Accepted from code written for NeMo Curator and not needed: where the data are and where a
                model runs are two questions here.
        """
        extras = _extras(text_field, add_filename, add_id)
        return cls._from_files(paths, "jsonl", extras, columns, schema)

    @classmethod
    def read_parquet(
        cls,
        paths: Paths,
        *,
        text_field: str = "text",
        columns: Sequence[str] | None = None,
        add_filename: bool | str = False,
        add_id: bool | str = False,
        backend: str | None = None,  # noqa: ARG003  accepted, not needed
    ) -> DocumentDataset:
        """Parquet files; the arguments are those of :meth:`read_json`."""
        extras = _extras(text_field, add_filename, add_id)
        return cls._from_files(paths, "parquet", extras, columns)

    @classmethod
    def read_csv(
        cls,
        paths: Paths,
        *,
        text_field: str = "text",
        delimiter: str | None = None,
        names: Sequence[str] | None = None,
        types: Mapping[str, str] | None = None,
        columns: Sequence[str] | None = None,
        add_filename: bool | str = False,
        add_id: bool | str = False,
    ) -> DocumentDataset:
        """CSV and TSV files in UTF-8, plain or compressed (``.gz``, ``.zst``, or ``.zip`` with one file in it).

        Fields may be quoted and then hold delimiters, line ends and doubled quotation marks. Every field is text, an
        empty one the empty text, unless ``types`` says otherwise. A row that is not like the others is quarantined:
        too few or too many fields, a quotation mark where none may be, no UTF-8, no value of its type.

        Args:
            paths: A file, a folder, a glob, an fsspec URL, or a list of these. One worker reads a file: what is large
                and will be read often is best written as JSON Lines once.
            text_field: The field that holds the text; stages that name none use it.
            delimiter: What stands between fields; by default a tab in files called ``.tsv``, else a comma.
            names: Names of the columns where the first row is a document already, and not the header.
            types: Types of fields that are not text, ``{"score": "int"}``: "int", "float" or "bool" (true, false, 1,
                0). A blank field is null then.
            columns, add_filename, add_id: As for :meth:`read_json`.
        """
        layout = CsvLayout(delimiter, None if names is None else tuple(names), types_of(types))
        return cls._from_files(paths, "csv", _extras(text_field, add_filename, add_id), columns, layout=layout)

    @classmethod
    def read_xml(
        cls,
        paths: Paths,
        *,
        text_field: str = "text",
        row: str = "row",
        types: Mapping[str, str] | None = None,
        columns: Sequence[str] | None = None,
        add_filename: bool | str = False,
        add_id: bool | str = False,
    ) -> DocumentDataset:
        """XML files of which each element of one name is a document, such as the dumps of Stack Exchange.

        Attributes are fields, and so is the text of elements inside, by their path (``revision.text``); what comes
        twice in a row is a list. Memory is that of the longest row, whatever the size of the file. A row that is not
        well-formed is quarantined, and reading goes on at the next. A file that declares a document type is refused.

        Args:
            paths: A file, a folder, a glob, an fsspec URL, or a list of these; one worker reads a file.
            text_field: The field that holds the text; stages that name none use it.
            row: Name of the elements that are documents.
            types: Types of fields that are not text, ``{"Score": "int"}``, as for :meth:`read_csv`.
            columns, add_filename, add_id: As for :meth:`read_json`.
        """
        layout = XmlLayout(row, types_of(types))
        return cls._from_files(paths, "xml", _extras(text_field, add_filename, add_id), columns, layout=layout)

    @classmethod
    def read_hub(
        cls,
        name: str,
        *,
        split: str = "train",
        config: str = "default",
        text_field: str = "text",
        columns: Sequence[str] | None = None,
        add_filename: bool | str = False,
        add_id: bool | str = False,
    ) -> DocumentDataset:
        """A data set of the Hugging Face hub by its name, from the Parquet files that the hub keeps of each.

        Nothing is copied first: a run reads the files over the network, in blocks. What the hub asks for (a token for
        what is gated) is what its own package has: ``hf auth login`` or the environment variable HF_TOKEN.

        Args:
            name: "owner/name", or "name" for those of the hub itself.
            split: Which part; "*" for all.
            config: Which configuration; "*" for all.
            text_field: The field that holds the text; stages that name none use it.
            columns, add_filename, add_id: As for :meth:`read_json`.

        Raises:
            MissingExtraError: The package of the hub is not installed.
            InputError: There is no such data set, configuration or split, or the hub cannot be reached.
        """
        paths = hub_files(name, config, split)
        return cls._from_files(paths, "parquet", _extras(text_field, add_filename, add_id), columns)

    @classmethod
    def read(cls, paths: Paths, *, format: Format | None = None, text_field: str = "text") -> DocumentDataset:
        """Files of any format, by default the one that their names say, read as their own ``read_...`` does."""
        files = list_files(paths, format=format)
        kind = cast("Format", files[0].format)
        extras = _extras(text_field, add_filename=False, add_id=False)
        return cls._from_files([f.secret or f.path for f in files], kind, extras, layout=LAYOUTS.get(kind))

    @classmethod
    def _from_files(
        cls,
        paths: Paths,
        format: Format,
        extras: Extras,
        columns: Sequence[str] | None = None,
        schema: pa.Schema | Mapping[str, pa.DataType] | None = None,
        *,
        layout: Layout | None = None,
    ) -> DocumentDataset:
        if isinstance(schema, Mapping):
            schema = pa.schema(list(schema.items()))
        files = list_files(paths, format=format)
        if layout is not None:
            files = tuple(replace(file, layout=layout) for file in files)
        return cls(FileSource(files, format, extras, None if columns is None else tuple(columns), schema))

    @classmethod
    def from_arrow(cls, table: pa.Table, *, text_field: str = "text", add_id: bool | str = False) -> DocumentDataset:
        """A table in memory."""
        return cls(TableSource(table, _extras(text_field, add_filename=False, add_id=add_id)))

    @classmethod
    def from_pandas(cls, frame: Any, *, text_field: str = "text", add_id: bool | str = False) -> DocumentDataset:
        """A pandas ``DataFrame``; its index is left out unless it has a name."""
        named = any(name is not None for name in frame.index.names)
        table = pa.Table.from_pandas(frame, preserve_index=named)
        return cls.from_arrow(table.replace_schema_metadata(None), text_field=text_field, add_id=add_id)

    @classmethod
    def from_huggingface(cls, data: Any, *, text_field: str = "text", add_id: bool | str = False) -> DocumentDataset:
        """A ``datasets.Dataset``: its Arrow table, with a selection or shuffle of its rows applied."""
        if isinstance(data, Mapping):
            message = f"this is a dictionary of splits ({', '.join(data)}); pass one of them, e.g. data['train']."
            raise UsageError(message)
        table = data.with_format("arrow")[:]
        return cls.from_arrow(table.replace_schema_metadata(None), text_field=text_field, add_id=add_id)

    # -- the plan --------------------------------------------------------------------------------------------

    @property
    def text_field(self) -> str:
        """The field that holds the text."""
        return self._plan.source.extras.text_field

    @property
    def steps(self) -> tuple[Step, ...]:
        """What is to happen to the documents, in order."""
        return self._plan.steps

    @property
    def schema(self) -> pa.Schema:
        """The columns at the end of the plan; checks the plan."""
        return self.check().schema

    @property
    def plan(self) -> Plan:
        """Source and steps."""
        return self._plan

    def check(self) -> Checked:
        """Follow the columns through the plan; raises the mistake that running it would raise."""
        return check(with_id(self._plan.source, self._plan.steps), self._plan.steps)

    def append(self, *steps: Step) -> DocumentDataset:
        """The same documents with these steps at the end of the plan."""
        bound = tuple(step.on_text_field(self.text_field) for step in steps)
        return DocumentDataset(self._plan.source, self._plan.steps + bound)

    @overload
    def __getitem__(self, key: str) -> pc.Expression: ...
    @overload
    def __getitem__(self, key: pc.Expression) -> DocumentDataset: ...
    def __getitem__(self, key: str | pc.Expression) -> pc.Expression | DocumentDataset:
        if isinstance(key, str):
            names = self.schema.names
            if key not in names:
                raise MissingColumnError.of(key, "dataset[...]", names)
            return pc.field(key)
        if isinstance(key, pc.Expression):
            return self.append(Where(key))
        message = f"dataset[...] takes a column name or an Arrow expression, not {type(key).__name__}."
        raise UsageError(message)

    def train_test_split(
        self,
        proportions: Mapping[str, float] = DEFAULT_PROPORTIONS,
        *,
        seed: int = 0,
        by: str = "id",
        stratify_by: str | None = None,
        column: str = "split",
    ) -> DocumentDataset:
        """Add a column that says which part each document belongs to: 95 % train, 5 % validation by default.

        A function of (seed, ``by``) alone: the same document is in the same part in any order, sharding or
        later run. Without an ``id`` field the id is a hash of the text, so that exact copies stay together.
        With ``stratify_by`` every value of that column is divided in these proportions. Write the parts to
        their own folders with ``partition_on="split"``.
        """
        if stratify_by is None:
            return self.append(Split(dict(proportions), seed=seed, by=by, column=column))
        return self.append(StratifiedSplit(dict(proportions), stratify_by, seed=seed, by=by, column=column))

    # -- running ---------------------------------------------------------------------------------------------

    def head(self, n: int = 5) -> pa.Table:
        """The first ``n`` documents that come out of the plan; reads no more than it needs."""
        tables: list[pa.Table] = []
        left = n
        for table in self:
            tables.append(table.slice(0, left))
            left -= tables[-1].num_rows
            if left <= 0:
                break
        return pa.concat_tables(tables) if tables else self.schema.empty_table()

    def __iter__(self) -> Iterator[pa.Table]:
        """The documents as Arrow tables of bounded size, in order, in this process."""
        return iterate(self._plan, Options())

    def to_arrow(self) -> pa.Table:
        """All documents as one table in memory."""
        return pa.concat_tables([self.schema.empty_table(), *self])

    def to_pandas(self) -> Any:
        """All documents as a pandas ``DataFrame``."""
        return self.to_arrow().to_pandas()

    def count(self, *, workers: int | None = None, engine: EngineName = "embedded", address: str | None = None) -> int:
        """The number of documents that come out of the plan."""
        return int(self.fold(_Count(), workers=workers, engine=engine, address=address))

    def fold(
        self,
        fold: Fold[Any, Result],
        *,
        workers: int | None = None,
        progress: ProgressChoice = "off",
        engine: EngineName = "embedded",
        address: str | None = None,
    ) -> Result:
        """The fold's answer over all documents that come out of the plan; see :meth:`to_json` for the arguments."""
        options = Options(workers=workers, observer=observer_for(progress), engine=engine, address=address)
        result, tally = fold_plan(self._plan, fold.on_text_field(self.text_field), options)
        if tally.total_quarantined:
            warn_of(tally)
        return result

    def to_json(  # noqa: PLR0913  all but the path have defaults that serve
        self,
        path: str | os.PathLike[str],
        *,
        write_to_filename: bool = False,
        compression: Compression = None,
        partition_on: str | None = None,
        keep_rejects: bool = False,
        workers: int | None = None,
        strict: bool = False,
        max_bad: float = 0.05,
        mode: Mode = "auto",
        split_size: int = 64 << 20,
        progress: ProgressChoice | Observer = "auto",
        engine: EngineName = "embedded",
        address: str | None = None,
    ) -> RunResult:
        """Run the plan and write JSON Lines into the directory ``path``.

        A run that was stopped, however it was stopped, goes on where it was when the same call is made again,
        and ends with the same bytes. A directory that holds something else is refused.

        Args:
            path: A directory, new or empty, or that of the same run; local or an fsspec URL.
            write_to_filename: One output per input file, under its name and folder; else one per split.
            compression: ``"gz"`` or ``"zst"``.
            partition_on: A column whose values become folders, e.g. ``"split"``.
            keep_rejects: Write the documents that filters drop to ``_rejects/``, with reason and score.
            workers: Worker processes; one per core by default.
            strict: Fail at the first bad record instead of setting it aside.
            max_bad: Share of bad records above which the run fails at its end.
            mode: ``"auto"``, ``"resume"`` (insist on something to resume) or ``"fresh"`` (replace an earlier run).
            split_size: Bytes of input per unit of work.
            progress: ``"auto"``, ``"off"``, or a function that is called with :class:`tamis.engine.watch.Progress`.
            engine: ``"embedded"`` runs on this machine, ``"ray"`` on a Ray cluster; the bytes are the same.
            address: The cluster, as HOST:PORT; by default the one that this machine belongs to, or else a new one here.
        """
        sink = Sink(os.fspath(path), "jsonl", _compression(compression), write_to_filename, partition_on, keep_rejects)
        options = Options(workers, max_bad, strict, mode, split_size, observer_for(progress), engine, address)
        return self._write(sink, options)

    def to_parquet(  # noqa: PLR0913  all but the path have defaults that serve
        self,
        path: str | os.PathLike[str],
        *,
        write_to_filename: bool = False,
        partition_on: str | None = None,
        keep_rejects: bool = False,
        workers: int | None = None,
        strict: bool = False,
        max_bad: float = 0.05,
        mode: Mode = "auto",
        split_size: int = 64 << 20,
        progress: ProgressChoice | Observer = "auto",
        engine: EngineName = "embedded",
        address: str | None = None,
    ) -> RunResult:
        """Run the plan and write Parquet (zstd) into the directory ``path``; see :meth:`to_json`.

        Every file has the same schema. From JSON Lines without a declared schema, the shape of every record is
        looked at first; a field whose values fit no one type becomes a column of JSON text.
        """
        sink = Sink(os.fspath(path), "parquet", None, write_to_filename, partition_on, keep_rejects)
        options = Options(workers, max_bad, strict, mode, split_size, observer_for(progress), engine, address)
        return self._write(sink, options)

    def _write(self, sink: Sink, options: Options) -> RunResult:
        if sink.by_input and isinstance(self._plan.source, TableSource):
            message = "write_to_filename needs documents that came from files; these came from memory."
            raise UsageError(message)
        return write_plan(self._plan, sink, options)

    def __repr__(self) -> str:
        steps = "".join(f"\n  .{step.name}" for step in self._plan.steps)
        source = describe(self._plan.source.describe())
        kind = source.get("format")
        where = (
            f"{source['files']} file{'s' * (source['files'] != 1)}, {source['bytes']:,} bytes"
            if "files" in source
            else f"{source['rows']} rows"
        )
        return f"<DocumentDataset {kind}: {where}>{steps}"

    def _repr_html_(self) -> str:
        """What a notebook shows: the plan, and the first documents of the input; no step is run."""
        first, why_not = None, ""
        try:
            with warnings.catch_warnings(action="ignore"):  # of records that cannot be used; a run counts them
                plan = Plan(LimitedSource(self._plan.source, _SHOWN), ())
                first = pa.concat_tables([plan.source.schema.empty_table(), *iterate(plan, Options(max_bad=1.0))])
        except TamisError as error:
            why_not = str(error)
        return dataset_html(repr(self).split("\n")[0], [step.name for step in self._plan.steps], first, why_not)


class _Count(Fold[int, int]):
    """How many documents."""

    def start(self) -> int:
        return 0

    def add(self, state: int, table: pa.Table) -> int:
        return state + int(table.num_rows)

    def merge(self, left: int, right: int) -> int:
        return left + right

    def finish(self, state: int) -> int:
        return state


def _extras(text_field: str, add_filename: bool | str, add_id: bool | str) -> Extras:  # noqa: FBT001
    return Extras(
        file_name="file_name" if add_filename is True else add_filename or None,
        id="id" if add_id is True else add_id or None,
        text_field=text_field,
    )


def _compression(name: str | None) -> str | None:
    if name is not None and name not in COMPRESSIONS:
        raise UnknownNameError.of(name, [c for c in COMPRESSIONS if c], kind="compression")
    return COMPRESSIONS[name]
