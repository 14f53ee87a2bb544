"""Options that several commands share."""

from __future__ import annotations

import argparse

__all__ = ["add_engine", "add_output"]


def add_engine(parser: argparse._ActionsContainer, *, workers: str = "one per core") -> None:
    """Add what says where a run's work is done: ``--workers``, ``--engine`` and ``--address``."""
    parser.add_argument("--workers", type=int, metavar="N", help=f"worker processes (default: {workers})")
    parser.add_argument(
        "--engine",
        choices=("embedded", "ray"),
        help="where the workers run: on this machine (embedded, the default), or on a Ray cluster",
    )
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        help="the cluster, with --engine ray: HOST:6379, auto, or local for a new one here (default: what RAY_ADDRESS "
        "says, else the one this machine belongs to, else a new one here)",
    )


def add_output(parser: argparse._ActionsContainer, *, record: str) -> None:
    """Add what says how a command with a model reads and writes; ``record`` is what it calls one of its inputs."""
    parser.add_argument("--format", choices=["jsonl", "parquet"], default="jsonl", help="of OUT (default: jsonl)")
    parser.add_argument("--compression", metavar="gz|zst", help="of JSON Lines output")
    parser.add_argument("--limit", type=int, metavar="N", help=f"read the first N {record}s only")
    add_engine(parser, workers="one per accelerator")
    parser.add_argument("--strict", action="store_true", help=f"fail at the first bad {record}")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--resume", action="store_true", help="insist that there is a run to go on with")
    how.add_argument("--fresh", action="store_true", help="replace what an earlier run wrote to OUT")
