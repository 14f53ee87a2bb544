"""``tamis inspect``: what a file or folder of documents holds.

Imports are made inside the functions, so that ``tamis --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.cli_text import console_of_output, escape, excerpt

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251  a console is handed in

    from tamis.dataset import DocumentDataset

__all__ = ["add_inspect"]


def add_inspect(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    inspect = commands.add_parser(
        "inspect",
        help="show what a file or folder of documents holds",
        description="Show what documents hold: fields and types, lengths, bad records, and the first of them.",
    )
    inspect.add_argument("path", nargs="+", help="files, folders, globs or URLs")
    inspect.add_argument("--text-field", default="text", help="the field that holds the text (default: text)")
    inspect.add_argument("--row", metavar="NAME", help="XML: name of the elements that are documents (default: row)")
    inspect.add_argument("--delimiter", metavar="C", help="CSV: what stands between fields (default: a comma)")
    inspect.add_argument("--limit", type=int, metavar="N", help="look at the first N records only")
    inspect.add_argument("--show", type=int, default=3, metavar="N", help="documents to show (default: 3)")
    inspect.set_defaults(command=_inspect)


def _inspect(options: argparse.Namespace) -> int:
    from tamis.dataset import DocumentDataset
    from tamis.engine.options import Options
    from tamis.engine.run import fold_plan
    from tamis.io.files import list_files
    from tamis.io.source import LimitedSource
    from tamis.progress import bytes_text
    from tamis.report import Lengths, read_manifest

    console = console_of_output()
    files = list_files(options.path)
    dataset = _dataset(options, files[0].format)
    if options.limit is not None:
        dataset = DocumentDataset(LimitedSource(dataset.plan.source, options.limit))
    schema = dataset.schema
    text_field = options.text_field if options.text_field in schema.names else None
    overview, tally = fold_plan(dataset.plan, Lengths(tuple(schema.names), text_field), Options(max_bad=1.0))

    total = sum(f.size for f in files)
    console.print(f"[bold]{len(files):,} file{'s' * (len(files) != 1)}[/bold], {bytes_text(total)}, {files[0].format}")
    first = f"the first {options.limit:,}: " if options.limit is not None else ""
    counted = "1 document" if overview.documents == 1 else f"{overview.documents:,} documents"
    console.print(f"{first}[bold]{counted}[/bold], {overview.characters:,} characters")
    if tally.total_quarantined:
        causes = ", ".join(f"{n:,} {cause}" for cause, n in tally.quarantined.most_common())
        bad = tally.total_quarantined
        console.print(f"{bad:,} bad record{'s' * (bad != 1)}: {causes}", style="yellow", markup=False)
    for path in options.path:
        if Path(path).is_dir() and (manifest := read_manifest(path)) is not None:
            totals = manifest["totals"]
            console.print(f"{path} is a Tamis run: {totals['kept']:,} of {totals['records']:,} kept.", markup=False)
    _print_schema(console, schema, overview.nulls)
    if text_field is None:
        console.print(f"\nThere is no field {options.text_field!r}; name the one with --text-field.", style="yellow")
    elif overview.documents:
        _print_lengths(console, overview)
    _print_documents(console, dataset, text_field, options.show)
    return 0


def _dataset(options: argparse.Namespace, format: str) -> DocumentDataset:
    from tamis.dataset import DocumentDataset
    from tamis.errors import UsageError

    for name, owner in (("row", "xml"), ("delimiter", "csv")):
        if getattr(options, name) is not None and format != owner:
            message = f"--{name} is for {owner} files; these are {format}."
            raise UsageError(message)
    if options.row is not None:
        return DocumentDataset.read_xml(options.path, text_field=options.text_field, row=options.row)
    if options.delimiter is not None:
        return DocumentDataset.read_csv(options.path, text_field=options.text_field, delimiter=options.delimiter)
    return DocumentDataset.read(options.path, text_field=options.text_field)


def _print_schema(console: Console, schema: Any, nulls: dict[str, int]) -> None:
    from rich.table import Table  # noqa: TID251  the terminal library lives here

    table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left")
    table.add_column("field", no_wrap=True)
    table.add_column("type", overflow="fold")
    table.add_column("without", justify="right", no_wrap=True)
    for f in schema:
        kind = "any JSON" if f.metadata and b"tamis" in f.metadata else str(f.type)
        table.add_row(escape(f.name), escape(kind), f"{nulls[f.name]:,}" if nulls.get(f.name) else "")
    console.print()
    console.print(table)


def _print_lengths(console: Console, overview: Any) -> None:
    bins = list(overview.bins())
    most = max(n for *_, n in bins)
    room = max(10, min(console.width, 80) - 34)
    console.print("\n[dim]characters         documents[/dim]")
    for low, high, n in bins:
        label = "0" if high == 0 else f"{low:,}-{high:,}"
        console.print(f"{label:>17} {n:>10,} {'█' * max(n * room // most, 1 if n else 0)}", markup=False)
    blank = f"; {overview.empty:,} are blank" if overview.empty else ""
    console.print(f"half are shorter than {overview.quantile(0.5) + 1:,} characters{blank}")


def _print_documents(console: Console, dataset: DocumentDataset, text_field: str | None, show: int) -> None:
    import warnings

    from tamis.engine.options import Options
    from tamis.engine.run import QuarantineWarning, iterate

    documents: list[dict[str, Any]] = []
    if show <= 0:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QuarantineWarning)
        for table in iterate(dataset.plan, Options(max_bad=1.0)):  # what is bad is counted above already
            documents += table.slice(0, show - len(documents)).to_pylist()
            if len(documents) >= show:
                break
    for number, document in enumerate(documents, start=1):
        console.print(f"\n[dim]document {number}[/dim]")
        for name, value in document.items():
            width = (3 if name == text_field else 1) * (min(console.width, 100) - 4) - len(name)
            console.print(f"  {name}: {excerpt(str(value), width)}", markup=False)
