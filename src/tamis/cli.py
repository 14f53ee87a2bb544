"""The command line: parse, call a plain function, print its result. The only file that prints.

Imports are made inside the commands, so that ``tamis --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tamis.cli_classify import add_classify
from tamis.cli_convert import add_convert
from tamis.cli_evaluate import add_evaluate
from tamis.cli_explain import add_explain
from tamis.cli_generate import add_generate
from tamis.cli_inspect import add_inspect
from tamis.cli_models import add_train_classifier
from tamis.cli_options import add_engine
from tamis.cli_pii import add_pii
from tamis.cli_report import add_report
from tamis.cli_runs import add_status, add_verify
from tamis.cli_score import add_score, add_tune_thresholds
from tamis.cli_select import add_select
from tamis.cli_text import console_of_errors, console_of_output, escape, excerpt, number_text, printable, say
from tamis.cli_tune import add_tune
from tamis.errors import TamisError

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251  the terminal library lives here

    from tamis.dataset import DocumentDataset
    from tamis.engine.options import Options
    from tamis.engine.run import RunResult
    from tamis.engine.tally import Tally
    from tamis.recipe import Recipe
    from tamis.report import Dropped

__all__ = ["main"]

_INTERRUPTED = 130
_PLACES = {"text_field", "score_field", "invert"}
"""Settings of every filter and modifier that say where it applies."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command ``tamis``. Returns the exit status: 0 done, 1 failed, 2 misused, 130 interrupted."""
    from tamis.errors import UsageError

    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except TamisError as error:
        say(console_of_errors(), f"tamis: {error}", "bold red")
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        console_of_errors().print("\nStopped.", highlight=False)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing is wrong, and nobody is there to be told.
        sys.stderr.close()
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tamis",
        description="From raw text to training data for language models.",
        epilog="Start with: tamis demo",
    )
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    run = commands.add_parser("run", help="run a recipe", description="Run a recipe file, or a shipped recipe by name.")
    run.add_argument("recipe", help="a TOML file, or a name that `tamis recipes` lists")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="e.g. input.path=x, WordCountFilter.min_words=20",
    )
    how = run.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="insist that there is a run to go on with")
    how.add_argument("--fresh", action="store_true", help="replace what an earlier run wrote to the output directory")
    run.add_argument("--dry-run", action="store_true", help="show the plan and the counts on a sample; write nothing")
    run.add_argument("--limit", type=int, metavar="N", help="read the first N records only")
    add_engine(run)
    run.add_argument("--strict", action="store_true", help="fail at the first bad record")
    run.set_defaults(command=_run)

    add_classify(commands).set_defaults(command=_classify)
    add_tune(commands, console_of_output)
    add_generate(commands).set_defaults(command=_generate)
    add_train_classifier(commands, console_of_output)
    add_select(commands, console_of_output)
    add_evaluate(commands, console_of_output)
    add_convert(commands, console_of_output)

    add_score(commands).set_defaults(command=_score)
    add_tune_thresholds(commands, console_of_output)
    add_pii(commands).set_defaults(command=_pii)
    add_inspect(commands)
    add_explain(commands, console_of_output)
    add_report(commands, console_of_output)
    add_status(commands, console_of_output)
    add_verify(commands, console_of_output)

    demo = commands.add_parser(
        "demo",
        help="collect real text from this Python installation and curate it",
        description="Collect real text from this Python installation, curate it with the recipe `demo`, choose "
        "documents that are like others, and teach a classifier where a text came from.",
    )
    demo.add_argument("--out", default="tamis-demo", metavar="DIR", help="where to work (default: tamis-demo)")
    demo.add_argument("--workers", type=int, metavar="N", help="worker processes (default: one per core)")
    demo.set_defaults(command=_demo)

    recipes = commands.add_parser(
        "recipes",
        help="list the recipes that come with Tamis, and the stages they can use",
        description="List the recipes that come with Tamis and the stages that any recipe can use, or print a recipe.",
    )
    recipes.add_argument("name", nargs="?", help="print this recipe")
    recipes.set_defaults(command=_recipes)

    version = commands.add_parser("version", help="print the version")
    version.set_defaults(command=_version)
    return parser


def _version(_: argparse.Namespace) -> int:
    from importlib.metadata import version

    print(f"tamis {version('tamis')}")
    return 0


# -- run -----------------------------------------------------------------------------------------------------


def _run(options: argparse.Namespace) -> int:
    from tamis.kept import keep_recipe
    from tamis.recipe import load_recipe

    recipe = load_recipe(options.recipe, options.set)
    dataset = recipe.dataset(options.limit)
    if options.dry_run:
        return _dry_run(recipe, dataset, options.limit)
    result = _write(recipe, dataset, options)
    keep_recipe(result.path, recipe, options.limit)
    console = console_of_output()
    _print_result(console, result)
    return 0


def _classify(options: argparse.Namespace) -> int:
    from tamis.cli_classify import answers_in, prepare, print_answers

    console = console_of_output()
    work = prepare(options)
    console.print(work.model, markup=False)
    result = _write(work.recipe, work.dataset, options)
    _print_counts(console, result)
    if result.tally.kept:
        print_answers(console, answers_in(result.path, work.stage, options.format), result.tally.kept)
    _print_written(console, result)
    return 0


def _generate(options: argparse.Namespace) -> int:
    from tamis.cli_generate import prepare, print_examples

    console = console_of_output()
    work = prepare(options)
    console.print(work.model, markup=False)
    result = _write(work.recipe, work.dataset, options)
    _print_counts(console, result)
    if result.tally.kept:
        print_examples(console, result.path, work.stage)
    _print_written(console, result)
    return 0


def _pii(options: argparse.Namespace) -> int:
    from tamis.cli_pii import prepare, print_found, report

    console = console_of_output()
    if options.report:
        return report(options, console)
    work = prepare(options)
    result = _write(work.recipe, work.dataset, options)
    _print_counts(console, result)
    print_found(console, result)
    _print_written(console, result)
    return 0


def _score(options: argparse.Namespace) -> int:
    from tamis.cli_score import prepare, print_columns
    from tamis.kept import keep_recipe

    console = console_of_output()
    work = prepare(options)
    result = _write(work.recipe, work.dataset, options)
    keep_recipe(result.path, work.recipe, options.limit, scored=True)
    _print_counts(console, result)
    _print_written(console, result)
    print_columns(console, work.recipe, options.out)
    return 0


def _write(recipe: Recipe, dataset: DocumentDataset, options: argparse.Namespace) -> RunResult:
    from tamis.errors import RecipeError

    output: dict[str, Any] = dict(recipe.output)
    path = output.pop("path", None)
    if path is None:
        message = f"{recipe.name}: [output] names no path. Add it, or pass --set output.path=..."
        raise RecipeError(message)
    kind = output.pop("format", "jsonl")
    run: dict[str, Any] = dict(recipe.run)
    for name in ("workers", "engine", "address"):
        if getattr(options, name, None) is not None:
            run[name] = getattr(options, name)
    if getattr(options, "strict", False):
        run["strict"] = True
    run["mode"] = _mode(options)
    try:
        if kind == "parquet":
            output.pop("compression", None)
            return dataset.to_parquet(path, **output, **run)
        if kind == "jsonl":
            return dataset.to_json(path, **output, **run)
    except KeyboardInterrupt:
        say(console_of_errors(), f"\nStopped. What is finished is kept in {path}; run the same command again to go on.")
        raise SystemExit(_INTERRUPTED) from None
    message = f'{recipe.name}: [output] format must be "jsonl" or "parquet", not {kind!r}.'
    raise RecipeError(message)


def _mode(options: argparse.Namespace) -> str:
    if getattr(options, "fresh", False):
        return "fresh"
    return "resume" if getattr(options, "resume", False) else "auto"


def _dry_run(recipe: Recipe, dataset: DocumentDataset, limit: int | None) -> int:
    from tamis.dataset import DocumentDataset
    from tamis.engine.plan import labels
    from tamis.engine.run import events
    from tamis.engine.tally import Tally
    from tamis.engine.worker import Rejected
    from tamis.explanation import plain_settings
    from tamis.io.source import LimitedSource

    console = console_of_output()
    console.print(f"Plan of {recipe.name}", style="bold", markup=False)
    console.print(repr(dataset).split("\n")[0].strip("<>").removeprefix("DocumentDataset "), markup=False)
    for number, (label, step) in enumerate(zip(labels(dataset.steps), dataset.steps, strict=True), 1):
        console.print(f"{number:>2}. [bold]{escape(label)}[/bold]")
        settings = {key: value for key, value in plain_settings(step).items() if key not in _PLACES}
        if settings:
            told = ", ".join(f"{key} = {number_text(value)}" for key, value in settings.items())
            say(console, f"    {printable(told)}", "dim")
    checked = dataset.check()
    say(console, printable("Columns: " + ", ".join(f"{f.name} ({f.type})" for f in checked.schema)))
    sample = limit or 1000
    plan = dataset.plan
    small = dataset if limit else DocumentDataset(LimitedSource(plan.source, sample), plan.steps)
    tally = Tally()
    examples: dict[tuple[str, str], list[Dropped]] = {}
    for event in events(small.plan, _lenient(), tally):
        if isinstance(event, Rejected):
            _keep_examples(event, dataset.text_field, examples)
    console.print(f"\nOn the first {tally.records:,} records:", style="bold")
    _print_funnel(console, tally, labels(dataset.steps))
    _print_examples(console, examples, labels(dataset.steps))
    console.print("\nNothing was written.")
    return 0


def _lenient() -> Options:
    from tamis.engine.options import Options

    return Options(max_bad=1.0)


def _keep_examples(event: Any, text_field: str, examples: dict[tuple[str, str], list[Dropped]]) -> None:
    from tamis.report import Dropped

    for row, reason in enumerate(event.reasons.to_pylist()):
        kept = examples.setdefault((event.stage, reason), [])
        if len(kept) < 2:
            document = event.batch.table.slice(row, 1).to_pylist()[0]
            score = None if event.scores is None else event.scores[row].as_py()
            kept.append(
                Dropped(event.stage, reason, score, document.get(text_field) or "", str(document.get("id", "")))
            )


# -- printing ------------------------------------------------------------------------------------------------


def _print_result(console: Console, result: RunResult) -> None:
    _print_counts(console, result)
    _print_written(console, result)


def _print_counts(console: Console, result: RunResult) -> None:
    from tamis.report import model_work

    tally = result.tally
    if result.already_complete:
        say(console, f"{result.path} already holds the complete result of this recipe; nothing to do.")
    _print_funnel(console, tally, result.stages)
    for work in model_work(tally, result.measured, result.stages):
        console.print(printable(str(work)), markup=False)


def _print_written(console: Console, result: RunResult) -> None:
    from tamis.progress import bytes_text

    tally = result.tally
    resumed = f", {result.resumed} splits done before" if result.resumed else ""
    rate = tally.records / result.seconds if result.seconds and not result.already_complete else 0
    speed = f" in {result.seconds:.1f} s ({rate:,.0f} docs/s{resumed})" if rate else ""
    # Of the first N records nobody knows how many bytes they are.
    read = f"{bytes_text(tally.bytes_in)} read, " if tally.bytes_in else ""
    say(console, f"{read}{bytes_text(tally.bytes_out)} written to {result.path}{speed}")
    if result.deaths:
        last = result.deaths[-1]
        where = f" on {last.where}" if last.where else ""
        say(
            console,
            f"Workers that died: {len(result.deaths):,}, the last on split {last.split}: {last.cause}{where}. "
            "What they were doing was done again.",
            "yellow",
        )
    if tally.total_quarantined:
        say(console, f"Records that could not be used: {result.path}/_quarantine/records.jsonl", "yellow")


def _print_funnel(console: Console, tally: Tally, stages: Sequence[str]) -> None:
    from rich.table import Table  # noqa: TID251  the terminal library lives here

    from tamis.report import funnel

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("stage", no_wrap=True)
    table.add_column("reason", overflow="fold")
    table.add_column("documents", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    styles = {"read": "bold", "kept": "bold green", "quarantined": "yellow"}
    for row in funnel(tally, stages):
        table.add_row(
            escape(row.stage),
            escape(row.reason),
            f"{row.documents:,}",
            f"{row.share:.1%}",
            style=styles.get(row.stage),
        )
    console.print(table)


def _print_examples(console: Console, examples: dict[tuple[str, str], list[Dropped]], stages: Sequence[str]) -> None:
    width = min(console.width, 100) - 6
    order = {stage: n for n, stage in enumerate(stages)}
    for (stage, reason), dropped in sorted(examples.items(), key=lambda each: (order.get(each[0][0], -1), each[0])):
        if not dropped:
            continue
        console.print(f"\n[bold]{escape(stage)}[/bold]: {escape(reason)}")
        for example in dropped:
            score = "" if example.score is None else f"score {number_text(example.score)}  "
            console.print(f"  {score}{excerpt(example.name, 60)}", style="dim", markup=False)
            console.print(f"    “{excerpt(example.text, width)}”" if example.text else "    (no text)", markup=False)


# -- demo and recipes ----------------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> int:
    from tamis.cli_models import demo_classifier
    from tamis.cli_select import demo_selection
    from tamis.corpus import write
    from tamis.kept import keep_recipe
    from tamis.progress import bytes_text
    from tamis.recipe import load_recipe
    from tamis.report import dropped_examples

    console = console_of_output()
    corpus, curated = f"{options.out}/corpus.jsonl.gz", f"{options.out}/curated"
    console.print("[bold]1. Collect[/bold] real text from this Python installation")
    summary = write(corpus)
    for source, n in sorted(summary.sources.items(), key=lambda item: -item[1]):
        console.print(f"   {n:>7,} {source}s", markup=False)
    size = bytes_text(summary.text_bytes)
    console.print(f"   {size} of text in {summary.seconds:.1f} s -> {corpus}\n", markup=False)

    console.print("[bold]2. Curate[/bold] it with the recipe `demo` (see it: tamis recipes demo)")
    recipe = load_recipe("demo", [f"input.path={corpus}", f"output.path={curated}"])
    options.fresh = True
    result = _write(recipe, recipe.dataset(), options)
    keep_recipe(curated, recipe, None)
    _print_result(console, result)

    console.print("\n[bold]3. Some of what was dropped[/bold], and why")
    _print_examples(console, dropped_examples(curated, 2), result.stages)
    demo_selection(console, curated, options.out)
    demo_classifier(console, corpus, options.out)
    console.print("\nWhere to look:")
    say(console, f"  {curated}/train, {curated}/validation   the training data")
    say(console, f"  {curated}/_rejects   everything dropped, with reason and score")
    say(console, f"  tamis inspect {curated}/train")
    say(console, f"  tamis report {curated}   one page of what was dropped and why (tamis[report])")
    say(console, "  tamis recipes demo > mine.toml   a recipe of your own to start from")
    return 0


def _recipes(options: argparse.Namespace) -> int:
    from tamis.errors import UnknownNameError
    from tamis.recipe import STAGES, load_recipe, read_toml, shipped_recipes

    shipped, tuning = shipped_recipes(), shipped_recipes("model")
    if options.name is not None:
        if options.name not in shipped | tuning:
            raise UnknownNameError.of(options.name, shipped | tuning, kind="recipe")
        print((shipped | tuning)[options.name].read_text(encoding="utf-8"), end="")
        return 0
    console = console_of_output()
    console.print("[bold]Recipes[/bold] (tamis run NAME --set input.path=... --set output.path=...)")
    _print_named(console, {name: load_recipe(path).title for name, path in shipped.items()})
    console.print("\n[bold]To tune a model[/bold] (tamis tune NAME --set data.train=... --set output.path=...)")
    _print_named(console, {name: read_toml(name, "model")[1] for name in tuning})
    console.print("\n[bold]Stages[/bold] that a recipe can use")
    _print_named(console, {name: _first_line(STAGES[name]) for name in sorted(STAGES, key=str.casefold)})
    return 0


def _print_named(console: Console, described: Mapping[str, str]) -> None:
    """Names and what they are, side by side; a long description goes on below itself."""
    from rich.table import Table  # noqa: TID251  the terminal library lives here

    table = Table.grid(padding=(0, 0, 0, 2), pad_edge=True)
    for name, description in described.items():
        table.add_row(name, escape(description))
    console.print(table)


def _first_line(target: Any) -> str:
    import importlib
    import re

    if isinstance(target, str):
        module, _, name = target.partition(":")
        target = getattr(importlib.import_module(module), name)
    line = (target.__doc__ or "").strip().split("\n")[0]
    return re.sub(r":\w+:(?=`)", "", line).replace("`", "")


if __name__ == "__main__":
    sys.exit(main())
