"""``tamis tune``: parse, call a plain function, print its result through the console it is given.

Imports are made inside the functions, so that ``tamis --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tamis.cli_text import printable

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251  a console is handed in

    from tamis.tuner import TuneResult

__all__ = ["add_tune"]


def add_tune(commands: Any, console: Callable[[], Console]) -> None:
    """Add the command to a parser's subparsers."""
    tune = commands.add_parser(
        "tune",
        help="tune a language model on rows of prompts and completions",
        description="Supervised fine-tuning of a causal language model, whole or with LoRA, as a recipe says.",
        epilog="On several GPUs: torchrun --nproc_per_node 8 -m tamis.cli tune RECIPE. On several machines, on each: "
        "torchrun --nnodes 2 --nproc_per_node 8 --rdzv_backend c10d --rdzv_endpoint HOST:29500 -m tamis.cli tune "
        "RECIPE. --set train.parallel=fsdp shards the model (FSDP2).",
    )
    tune.add_argument("recipe", help="a TOML file, or a name that `tamis recipes` lists")
    tune.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="e.g. data.train=curated/train, model.name=google/gemma-2-2b, train.learning_rate=2e-4",
    )
    how = tune.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="insist that there is a run to go on with")
    how.add_argument("--fresh", action="store_true", help="replace what an earlier run wrote to the output directory")
    tune.set_defaults(command=lambda options: _tune(options, console()))


def _tune(options: argparse.Namespace, console: Console) -> int:
    from tamis.tuner import load_settings, tune

    settings = load_settings(options.recipe, options.set)

    def heard(line: str) -> None:
        style = "yellow" if line.startswith("warning:") else None
        console.print(printable(line), style=style, markup=False)

    try:
        result = tune(settings, mode="fresh" if options.fresh else "resume" if options.resume else "auto", heard=heard)
    except KeyboardInterrupt:
        console.print("\nStopped. Run the same command again to go on from the last checkpoint.", markup=False)
        raise
    if os.environ.get("RANK", "0") == "0":
        _print_result(console, result)
    return 0


def _print_result(console: Console, result: TuneResult) -> None:
    if result.already_complete:
        console.print(
            f"{result.directory} already holds the complete result of this recipe; nothing to do.", markup=False
        )
    console.print()
    first, best = result.first_validation_loss, result.best_validation_loss
    if first is not None and best is not None:
        console.print(
            f"validation loss {first:.4f} of the base model, {best:.4f} at best (update {result.best_update:,}), "
            f"{result.last_validation_loss:.4f} at the end, nats per token",
            markup=False,
        )
    for sentence in result.warnings:
        console.print(f"warning: {printable(sentence)}", style="yellow", markup=False)
    console.print(f"Weights: {result.best} (best), {result.last} (last)", markup=False)
    console.print(f"Losses:  {result.directory / 'metrics.jsonl'}, {result.directory / 'loss.png'}", markup=False)
    console.print("\nUse them:", style="bold")
    console.print(f"  tamis generate {result.best} ROWS --out ANSWERS", markup=False)
    console.print(f"  tensorboard --logdir {result.directory / 'events'}", markup=False)
