"""``tamis explain``: one document's way through the run in a directory.

Imports are made inside the functions, so that ``tamis --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tamis.cli_text import escape, excerpt, number_text, printable

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251  a console is handed in

    from tamis.dataset import DocumentDataset
    from tamis.explanation import Change, Explanation, StepTaken

__all__ = ["add_explain"]

_MOST_HUNKS = 8
"""Changes of one column that are shown; --full shows all."""
_SHOWN = 60
"""Characters of a value that are shown."""


def add_explain(commands: Any, console: Callable[[], Console]) -> None:
    """Add the command to a parser's subparsers."""
    parser = commands.add_parser(
        "explain",
        help="show one document's way through a run: what changed it, what dropped it, where it is",
        description="Show a document's way through the run of a recipe: what each stage changed, made and decided.",
    )
    parser.add_argument("output", metavar="OUT", help="the output directory of a run of a recipe, local or a URL")
    parser.add_argument("id", nargs="?", metavar="ID", help="the id of the document in the input")
    parser.add_argument(
        "--dropped", nargs="?", type=int, const=10, metavar="N", help="list N documents that were dropped"
    )
    parser.add_argument("--reason", metavar="TEXT", help="with --dropped: only of this stage, or for this reason")
    parser.add_argument("--id-field", metavar="FIELD", help="the field with the ids (default: id, in any case)")
    parser.add_argument("--full", action="store_true", help="show every change, and values whole")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(command=lambda options: run_explain(options, console()))


def run_explain(options: argparse.Namespace, console: Console) -> int:
    """Run ``tamis explain``."""
    from tamis.errors import UsageError
    from tamis.explanation import explain
    from tamis.kept import kept_dataset

    if (options.id is None) == (options.dropped is None):
        message = "say the id of a document, or --dropped to list some that were dropped."
        raise UsageError(message)
    if options.reason is not None and options.dropped is None:
        message = "--reason goes with --dropped."
        raise UsageError(message)
    dataset = kept_dataset(options.output)
    if options.dropped is not None:
        return _list_dropped(options, dataset, console)
    way = explain(dataset, options.id, id_field=options.id_field, run=options.output)
    if options.json:
        import orjson

        console.out(orjson.dumps(dataclasses.asdict(way) | {"kept": way.kept}, default=str).decode(), highlight=False)
        return 0
    _print_way(console, way, full=options.full)
    return 0


# -- printing ------------------------------------------------------------------------------------------------


def _list_dropped(options: argparse.Namespace, dataset: DocumentDataset, console: Console) -> int:
    import itertools

    from tamis.explanation import dropped

    found = list(itertools.islice(dropped(dataset, reason=options.reason, id_field=options.id_field), options.dropped))
    if options.json:
        import orjson

        console.out(orjson.dumps([dataclasses.asdict(d) for d in found], default=str).decode(), highlight=False)
        return 0
    for document in found:
        score = "" if document.score is None else f" (score {number_text(document.score)})"
        console.print(f"[bold]{escape(document.id)}[/bold]  {escape(document.stage)}: {escape(document.reason)}{score}")
        console.print(f"    {excerpt(document.text, 74)}", markup=False, style="dim")
    if not found:
        console.print("No document was dropped" + (" for that." if options.reason else "."))
    return 0


def _print_way(console: Console, way: Explanation, *, full: bool) -> None:
    place = [way.file]
    if way.line is not None:
        place.append(f"line {way.line}")
    elif way.offset is not None:
        place.append(f"byte {way.offset}")
    console.print(f"[bold]{escape(way.id)}[/bold], {escape(', '.join(place))}")
    for name, value in way.record.items():
        if value is not None and value != "":
            console.print(f"  {name}: {_value(value, full=full)}", markup=False, style="dim")
    for number, step in enumerate(way.steps, start=1):
        _print_step(console, number, step, full=full)
    _print_end(console, way)


def _print_step(console: Console, number: int, step: StepTaken, *, full: bool) -> None:
    if step.error is not None:
        said, style = f"failed: {step.error}", "yellow"
    elif step.reason is not None:
        said, style = f"dropped: {step.reason}", "red"
    elif any(not change.made for change in step.changes):
        said, style = "changed it", "bold"
    else:
        said, style = "passed" if step.score is not None or not step.changes else "added to it", "green"
    score = "" if step.score is None else f" (score {number_text(step.score)})"
    again = "; it saw the whole dataset first" if step.whole else ""
    console.print(f"\n{number:>2}. [bold]{escape(step.stage)}[/bold]: [{style}]{escape(said)}[/{style}]{score}{again}")
    if step.score is not None or step.reason is not None:
        bounds = ", ".join(f"{k} = {_value(v, full=False)}" for k, v in step.settings.items())
        if bounds:
            console.print(f"    {bounds}", markup=False, style="dim")
    for change in step.changes:
        _print_change(console, change, full=full)


def _print_change(console: Console, change: Change, *, full: bool) -> None:
    name = escape(change.column)
    found = change.hunks
    if change.made:
        console.print(f"    [green]+[/green] {name}: {escape(_value(change.new, full=full))}")
        return
    if not found:
        old, new = _value(change.old, full=full), _value(change.new, full=full)
        console.print(f"    {name}: [red]{escape(old)}[/red] -> [green]{escape(new)}[/green]")
        return
    sizes = f"{len(change.old):,} -> {len(change.new):,} characters"
    console.print(f"    {name}: {len(found)} change{'s' * (len(found) != 1)}, {sizes}")
    for hunk in found if full else found[:_MOST_HUNKS]:
        removed = f"[red]\\[-{_marked(hunk.removed, full=full)}-][/red]" if hunk.removed else ""
        added = f"[green]{{+{_marked(hunk.added, full=full)}+}}[/green]" if hunk.added else ""
        before, after = _marked(hunk.before[-16:], full=True), _marked(hunk.after[:16], full=True)
        console.print(f"      …{before}{removed}{added}{after}…")
    if len(found) > _MOST_HUNKS and not full:
        console.print(f"      and {len(found) - _MOST_HUNKS:,} more (--full)")


def _marked(text: str, *, full: bool) -> str:
    """A part of a text with its line ends to be seen."""
    shown = text.replace("\r", "␍").replace("\n", "⏎").replace("\t", "⇥")
    if not full and len(shown) > _SHOWN:
        shown = f"{shown[: _SHOWN // 2]} … {shown[-_SHOWN // 3 :]}"
    return escape(shown)


def _value(value: Any, *, full: bool) -> str:
    text = number_text(value) if not isinstance(value, Mapping) else str(dict(value))
    return printable(text) if full else excerpt(text, _SHOWN)


def _print_end(console: Console, way: Explanation) -> None:
    console.print()
    if way.left:
        console.print(f"It did not come to: {', '.join(way.left)}", markup=False, style="dim")
    if way.kept:
        where = f" It is in {' or '.join(way.outputs)}." if way.outputs else ""
        console.print(f"[bold green]Kept.[/bold green]{escape(where)}")
    elif way.quarantine is not None:
        entry = way.quarantine
        console.print(
            f"Quarantined: _quarantine/records.jsonl, the entry of {entry['file']}, line {entry['line']}.",
            style="bold yellow",
            markup=False,
        )
    else:
        where = f" It is in {way.outputs[0]}." if way.outputs else ""
        what = "Dropped" if way.steps and way.steps[-1].reason is not None else "Not kept"
        console.print(f"[bold red]{what}.[/bold red]{escape(where)}")
