"""Options that several commands share."""

from __future__ import annotations

import argparse

__all__ = ["add_engine"]


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
