"""``tamis score`` and ``tamis tune-thresholds``: every score once, then the bounds.

Imports are made inside the functions, so that ``tamis --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tamis.cli_options import add_engine
from tamis.cli_text import escape, printable

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251  a console is handed in

    from tamis.dataset import DocumentDataset
    from tamis.recipe import Recipe
    from tamis.thresholds import BoundCount, Counted, ScoredRun

__all__ = ["Work", "add_score", "add_tune_thresholds", "prepare", "print_columns"]


class Work(NamedTuple):
    """What is to be written."""

    recipe: Recipe
    """What is scored, with the output."""
    dataset: DocumentDataset
    """The scored documents."""


def add_score(commands: Any) -> argparse.ArgumentParser:
    """Add ``tamis score`` to a parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "score",
        help="write every score of a recipe or rule set as a column; drop nothing",
        description="Compute every score that the filters of a recipe decide by, once, and write them as columns "
        "beside the documents. Nothing is dropped. Bounds come later: tamis tune-thresholds, tamis report.",
        epilog="Example: tamis score massive_text books/*.jsonl.gz --out scored",
    )
    parser.add_argument(
        "rules", metavar="RULES", help="a recipe, a rule set such as massive_text, a filter, or all: every filter"
    )
    parser.add_argument("input", nargs="*", metavar="INPUT", help="files or folders, instead of the recipe's input")
    parser.add_argument("--out", required=True, metavar="OUT", help="the directory to write, local or a URL")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as for tamis run: CommonWordsFilter.lang=de"
    )
    parser.add_argument("--text-field", default="", metavar="FIELD", help="the field with the text (default: text)")
    parser.add_argument("--format", choices=["parquet", "jsonl"], default="parquet", help="of OUT (default: parquet)")
    parser.add_argument("--limit", type=int, metavar="N", help="read the first N records only")
    add_engine(parser)
    parser.add_argument("--strict", action="store_true", help="fail at the first bad record")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="insist that there is a run to go on with")
    how.add_argument("--fresh", action="store_true", help="replace what an earlier run wrote to OUT")
    return parser


def prepare(options: argparse.Namespace) -> Work:
    """The scored dataset that the options of ``tamis score`` ask for."""
    from tamis.thresholds import recipe_of, score_dataset

    recipe = recipe_of(options.rules, options.set, paths=options.input, text_field=options.text_field)
    output = {"path": options.out, "format": options.format}
    dataset = score_dataset(recipe.dataset(options.limit))
    return Work(dataclasses.replace(recipe, output=output), dataset)


def print_columns(console: Console, recipe: Recipe, out: str) -> None:
    """Which columns hold the scores, and what to do with them."""
    from tamis.thresholds import measures_of, verdicts_of

    steps = [step for part in recipe.parts() for step in part]
    measures, verdicts = measures_of(steps), verdicts_of(steps)
    console.print(f"Scores: {', '.join(each.column for each in measures) or 'none'}", markup=False)
    if verdicts:
        console.print(f"Kept or not: {', '.join(each.column for each in verdicts)}", markup=False)
    console.print(f"Next: tamis tune-thresholds {out}", markup=False)


# -- bounds --------------------------------------------------------------------------------------------------


def add_tune_thresholds(commands: Any, console: Callable[[], Console]) -> None:
    """Add ``tamis tune-thresholds`` to a parser's subparsers."""
    parser = commands.add_parser(
        "tune-thresholds",
        help="show what each bound keeps of scored documents, propose bounds, write the recipe",
        description="Show what each bound keeps of the documents that `tamis score` wrote: alone, and what it alone "
        "drops while all others hold. Propose other bounds, and write the recipe with them. All counts are exact.",
        epilog="Example: tamis tune-thresholds scored --keep 0.8 --set word_count.low=40 --out tuned.toml",
    )
    parser.add_argument("scored", metavar="SCORED", help="the directory that tamis score wrote")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--keep", type=float, metavar="SHARE", help="bounds that together keep this share, e.g. 0.8")
    how.add_argument(
        "--drop-each", type=float, metavar="SHARE", help="bounds that each drop the worst share, e.g. 0.05"
    )
    parser.add_argument(
        "--only", action="append", metavar="SCORE", help="with --keep or --drop-each: move the bounds of this score"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SCORE.SIDE=N",
        help="a bound by hand: word_count.low=40, or a column of a classifier: edu.low=2.5",
    )
    parser.add_argument("--out", metavar="FILE", help="write the recipe with these bounds (TOML)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    add_engine(parser)
    parser.set_defaults(command=lambda options: _tune(options, console()))


def _tune(options: argparse.Namespace, console: Console) -> int:
    from tamis.errors import UsageError
    from tamis.thresholds import bounds_set, count_bounds, drop_each, keep_share, scored_run

    if options.only and options.keep is None and options.drop_each is None:
        message = "--only goes with --keep or --drop-each."
        raise UsageError(message)
    by_hand = _by_hand(options.set)
    run = scored_run(options.scored)
    engine = {"workers": options.workers, "engine": options.engine or "embedded", "address": options.address}
    decisions = bounds_set(run.dataset, run.decisions, by_hand)
    fixed = [(column, side) for column, sides in by_hand.items() for side in sides]
    if options.keep is not None:
        decisions = keep_share(run.dataset, decisions, options.keep, only=options.only, fixed=fixed, **engine)
    elif options.drop_each is not None:
        decisions = drop_each(run.dataset, decisions, options.drop_each, only=options.only, fixed=fixed, **engine)
    counted = count_bounds(run.dataset, decisions, **engine)
    if options.json:
        import orjson

        console.out(orjson.dumps(dataclasses.asdict(counted)).decode(), highlight=False)
    else:
        _print_counted(console, counted, run.notes)
    if options.out is not None:
        _write_recipe(options.out, run, decisions, counted)
        if not options.json:
            console.print(
                f"Written: {options.out}. Run it: tamis run {options.out} --set output.path=...", markup=False
            )
    return 0


def _by_hand(settings: Sequence[str]) -> dict[str, dict[str, float]]:
    """Bounds by column and side, of ``--set``."""
    from tamis.errors import UsageError

    found: dict[str, dict[str, float]] = {}
    for setting in settings:
        place, _, number = setting.partition("=")
        column, _, side = place.strip().rpartition(".")
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        if not column or side not in {"low", "high"} or not math.isfinite(value):
            message = f"--set {setting}: write it as SCORE.low=NUMBER or SCORE.high=NUMBER, e.g. word_count.low=40."
            raise UsageError(message)
        found.setdefault(column, {})[side] = value
    return found


def _print_counted(console: Console, counted: Counted, notes: Sequence[str]) -> None:
    from rich.table import Table  # noqa: TID251  the terminal library lives here

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("score", overflow="fold")
    for name in ("bound", "keeps", "share", "only this", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    whole = counted.documents
    for each in counted.bounds:
        alone = whole - each.dropped
        table.add_row(escape(each.bound.column), _bound(each), f"{alone:,}", _share(alone, whole), f"{each.only:,}",
                      _share(each.only, whole))  # fmt: skip
    console.print(table)
    console.print("keeps: with this bound alone; only this: documents that nothing else drops", style="dim")
    console.print(
        f"\nTogether they keep [bold green]{counted.kept:,}[/bold green] of {whole:,} documents "
        f"({_share(counted.kept, whole)})."
    )
    for note in notes:
        console.print(printable(note), style="yellow", markup=False)


def _bound(count: BoundCount) -> str:
    bound = count.bound
    sign = {"low": "≥ ", "high": "≤ ", "none": "no score", "rule": "its rule"}[bound.side]
    if bound.value is None:
        return sign
    whole = float(bound.value).is_integer()
    return f"{sign}{bound.value:,.0f}" if whole else f"{sign}{bound.value:.4g}"


def _share(part: int, whole: int) -> str:
    return f"{part / max(1, whole):.1%}"


def _write_recipe(path: str, run: ScoredRun, decisions: Sequence[Any], counted: Counted) -> None:
    from tamis.errors import UsageError
    from tamis.thresholds import Measure, tuned_recipe
    from tamis.thresholds.recipe_text import TITLE

    file = Path(path)
    if file.exists() and not file.read_text(encoding="utf-8", errors="replace").startswith(TITLE):
        message = f"{path} exists, and was not written by tune-thresholds. Name another file with --out."
        raise UsageError(message)
    bounds = {each.column: (each.low, each.high) for each in decisions if isinstance(each, Measure)}
    note = f"They keep {counted.kept:,} of {counted.documents:,} documents."
    file.write_text(tuned_recipe(run.recipe, bounds, note), encoding="utf-8")
