"""A small Ray for tests, in this process's own hands."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def quick_health_checks() -> Iterator[None]:
    """Ray takes a node for dead after 5 checks of 3 s, here after 10 of 0.5 s: a busy machine misses some of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_health_check_initial_delay_ms", "0")
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "10")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield


@contextlib.contextmanager
def connected(**settings) -> Iterator[str]:
    """Ray with these settings of ``ray.init``, started here where no address is among them; yields its address."""
    import ray

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        if "address" not in settings:
            settings |= {"address": "local", "object_store_memory": 128 << 20, "include_dashboard": False}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **settings)
        try:
            yield ray.get_runtime_context().gcs_address
        finally:
            ray.shutdown()


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def environment() -> dict[str, str]:
    """For a script that is to import what tests import."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
