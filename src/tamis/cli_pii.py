"""``tamis pii``: change personal data in documents, or say how much there is.

Imports are made inside the functions, so that ``tamis --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tamis.cli_options import add_engine
from tamis.cli_text import escape
from tamis.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251  a console is handed in

    from tamis.dataset import DocumentDataset
    from tamis.engine.run import RunResult
    from tamis.recipe import Recipe

__all__ = ["Redaction", "add_pii", "prepare", "print_found", "report"]

_ACTION_OPTIONS = ("numbered", "mask_char", "keep_last", "hash_length", "key_from_environment", "anonymize_action")


def add_pii(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a parser's subparsers, and return its own parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "pii",
        help="change personal data in documents, or report how much there is",
        description="Find personal data (addresses, numbers, keys; names with a model) and change it, or report it.",
        epilog="What is found and how well, and what each action does: docs/pii.md.",
    )
    parser.add_argument("input", nargs="+", metavar="PATH", help="documents: files, folders, globs or URLs")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", metavar="OUT", help="directory for the documents with their personal data changed")
    what.add_argument("--report", action="store_true", help="count what is found, with hidden examples; write nothing")
    parser.add_argument(
        "--text-field", nargs="+", default=["text"], metavar="FIELD", help="fields that are looked at (default: text)"
    )
    look = parser.add_argument_group("what is looked for")
    look.add_argument("--entities", nargs="+", metavar="NAME", help="default: all that patterns (and the model) find")
    look.add_argument("--model", metavar="MODEL", help="a token classifier for names and places: directory or hub id")
    look.add_argument("--spacy", metavar="NAME", help="or a pipeline of spaCy")
    look.add_argument("--regions", nargs="+", metavar="XX", help="countries of phone numbers (default: US GB)")
    look.add_argument("--min-score", type=float, metavar="S", help="leave out what scores less (default: 0.5)")
    look.add_argument("--device", metavar="NAME", help="where the model runs: auto, cpu, cuda or mps (default: auto)")
    act = parser.add_argument_group("what becomes of it")
    act.add_argument(
        "--action",
        dest="anonymize_action",
        metavar="NAME",
        help="replace (by <EMAIL_ADDRESS>, the default), redact, mask, hash or substitute",
    )
    act.add_argument("--numbered", action="store_true", help="with replace: one number for each value of a document")
    act.add_argument("--mask-char", metavar="C", help="with mask: what a character becomes (default: *)")
    act.add_argument("--keep-last", type=int, metavar="N", help="with mask: characters at the end that stay")
    act.add_argument("--hash-length", type=int, metavar="N", help="with hash: hexadecimal digits (default: 16)")
    act.add_argument(
        "--key-from-environment", metavar="NAME", help="with hash, substitute: the variable that holds the secret key"
    )
    output = parser.add_argument_group("input and output")
    output.add_argument("--limit", type=int, metavar="N", help="read the first N records only")
    add_engine(output)
    output.add_argument("--strict", action="store_true", help="fail at the first bad record")
    how = output.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="insist that there is a run to go on with")
    how.add_argument("--fresh", action="store_true", help="replace what an earlier run wrote to OUT")
    return parser


@dataclass(frozen=True)
class Redaction:
    """What is to be run."""

    dataset: DocumentDataset
    recipe: Recipe
    """Its output section."""


def prepare(options: argparse.Namespace) -> Redaction:
    """Check the options and make a plan of them; no model is loaded.

    Raises:
        UsageError: They cannot be meant.
    """
    from tamis.modifiers import Modify
    from tamis.pii import PiiModifier
    from tamis.recipe import Recipe

    dataset, kind = _read(options)
    given = {name: getattr(options, name) for name in _ACTION_OPTIONS if getattr(options, name) not in {None, False}}
    modifier = PiiModifier(**_detection(options), **given)
    dataset = dataset.append(*(Modify(modifier, text_field=field) for field in options.text_field))
    dataset.check()
    return Redaction(dataset, Recipe("pii", {}, (), {"path": options.out, "format": kind}))


def report(options: argparse.Namespace, console: Console) -> int:
    """Print how much there is of each entity."""
    from tamis.engine.options import Options
    from tamis.engine.run import fold_plan
    from tamis.pii import PiiSpans
    from tamis.pii.counts import PiiCounts

    for name in (*_ACTION_OPTIONS, "resume", "fresh"):
        if getattr(options, name) not in {None, False}:
            shown = "action" if name == "anonymize_action" else name.replace("_", "-")
            message = f"--report changes nothing: leave --{shown} out, or write to --out OUT."
            raise UsageError(message)
    dataset, _ = _read(options)
    fields = tuple((field, f"__pii_{field}") for field in options.text_field)
    settings = _detection(options)
    dataset = dataset.append(*(PiiSpans(**settings, text_field=t, spans_field=s) for t, s in fields))
    run = Options(options.workers, 1.0, options.strict, engine=options.engine or "embedded", address=options.address)
    counts, tally = fold_plan(dataset.plan, PiiCounts(fields), run)
    if counts:
        table = _table("entity", "found", "documents", "examples, hidden")
        for each in counts:
            examples = "  ".join(each.examples)
            table.add_row(escape(each.entity), f"{each.spans:,}", f"{each.documents:,}", escape(examples))
        console.print(table)
    else:
        console.print("Nothing was found.")
    documents = tally.records - tally.total_quarantined
    console.print(f"{documents:,} document{'s' * (documents != 1)} looked at; nothing was written.", markup=False)
    if tally.total_quarantined:
        console.print(f"{tally.total_quarantined:,} records could not be read.", style="yellow", markup=False)
    return 0


def print_found(console: Console, result: RunResult) -> None:
    """What a run found, by entity."""
    found: Counter[str] = Counter()
    for (_, name), n in result.tally.measures.items():
        if name.isupper():  # what the model counted (tokens, seconds) is written small
            found[name] += int(n)
    if not found:
        return
    table = _table("entity", "found")
    for name, n in sorted(found.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(escape(name), f"{n:,}")
    console.print(table)


def _table(*columns: str) -> Any:
    from rich.table import Table  # noqa: TID251  the terminal library lives here

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        numbers = name in {"found", "documents"}
        table.add_column(name, justify="right" if numbers else "left", no_wrap=name != columns[-1], overflow="fold")
    return table


def _detection(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of detectors that were given."""
    given = {name: getattr(options, name) for name in ("model", "spacy", "regions", "min_score", "device")}
    given["supported_entities"] = options.entities
    return {name: value for name, value in given.items() if value is not None}


def _read(options: argparse.Namespace) -> tuple[DocumentDataset, str]:
    """The documents, and the format in which they are written."""
    from tamis.dataset import DocumentDataset
    from tamis.io.files import list_files
    from tamis.io.source import LimitedSource

    dataset = DocumentDataset.read(options.input, text_field=options.text_field[0])
    if options.limit is not None:
        dataset = DocumentDataset(LimitedSource(dataset.plan.source, options.limit))
    parquet = list_files(options.input)[0].format == "parquet"
    return dataset, "parquet" if parquet else "jsonl"
