"""``tamis convert``: Gemma 2 between Hugging Face directories and ``.nemo`` archives.

Imports are made inside the functions, so that ``tamis --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tamis.cli_text import printable

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251  a console is handed in

__all__ = ["add_convert"]


def add_convert(commands: Any, console: Callable[[], Console]) -> None:
    """Add the command to a parser's subparsers."""
    convert = commands.add_parser(
        "convert",
        help="turn a Gemma 2 into a .nemo archive, or back",
        description="MODEL OUT.nemo writes an archive; IN.nemo DIR writes a Hugging Face directory, or a PEFT adapter.",
    )
    convert.add_argument("source", metavar="SOURCE", help="a model (directory or hub id), or a .nemo file")
    convert.add_argument("target", metavar="TARGET", help="the .nemo file, or the directory, to write")
    convert.add_argument(
        "--layout",
        choices=("folder", "flat"),
        default="folder",
        help="of a .nemo: model_weights/ as Megatron-core writes it (default), or one model_weights.ckpt",
    )
    convert.set_defaults(command=lambda options: _convert(options, console()))


def _convert(options: argparse.Namespace, console: Console) -> int:
    from tamis.progress import bytes_text
    from tamis.tuning.nemo import convert

    done = convert(options.source, options.target, layout=options.layout)
    size = bytes_text(done.bytes)
    console.print(printable(f"{done.kind}: {done.tensors:,} tensors, {size}, written to {done.path}"), markup=False)
    for note in done.notes:
        console.print(printable(note), style="yellow", markup=False)
    return 0
