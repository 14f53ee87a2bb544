"""The simulator of a run at scale agrees with what can be worked out by hand, and its measurements run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"
sys.path.insert(0, str(BENCH))

from scale_events import Costs, Plan, calm, simulate  # noqa: E402  bench/ is no package

FREE = Costs(begin=0, hand=0, commit=0, finish=0, worker=0, start=0)
PLAN = Plan(splits=1000, bytes=1e9, workers=10, rate=1e6)


@pytest.mark.parametrize("workers", [1, 7, 10, 1000, 3000])
def test_with_nothing_in_its_way_a_run_takes_what_its_bytes_take(workers):
    found = simulate(calm(replace(PLAN, workers=workers)), FREE)
    rounds = -(-1000 // workers)  # each worker runs so many splits of a second
    assert found.seconds == pytest.approx(rounds)
    assert found.ideal == pytest.approx(1000 / workers)
    assert (found.done, found.died, found.driver, found.idle) == (1000, 0, 0, 0)


def test_costs_of_a_worker_and_of_the_ends_are_added():
    costs = replace(FREE, begin=0.001, finish=0.002, worker=0.5, start=3)
    assert simulate(calm(PLAN), costs).seconds == pytest.approx(1 + 2 + 3 + 100 * 1.5)


def test_a_driver_that_is_too_slow_sets_the_time():
    costs = replace(FREE, hand=0.004, commit=0.006)
    found = simulate(calm(replace(PLAN, workers=1000, rate=1e9)), costs)
    assert found.seconds == pytest.approx(1000 * 0.01, rel=0.01)
    assert found.driver == pytest.approx(1, abs=0.01)
    assert found.idle > 0.6
    few = simulate(calm(replace(PLAN, workers=2)), costs)
    assert few.seconds == pytest.approx(500 * 1.01, rel=0.01)
    assert few.driver == pytest.approx(0.02, rel=0.05)


def test_an_object_store_takes_so_many_moves_at_once():
    costs = replace(FREE, move=0.5, parallel=4)
    found = simulate(calm(replace(PLAN, workers=1000, rate=1e9)), costs)
    assert found.seconds == pytest.approx(1000 * 0.5 / 4, rel=0.02)
    slow = simulate(calm(replace(PLAN, workers=4, rate=1e6)), costs)  # each takes a second: the moves hide behind them
    assert slow.seconds == pytest.approx(250 + 0.5)


def test_every_split_is_done_once_however_many_workers_die():
    found = simulate(replace(PLAN, deaths=600.0), replace(FREE, start=0.5))
    assert found.done == 1000
    # A worker lives 6 s on average and a split takes 1: about one death for six splits, and half a split lost by each.
    assert 120 < found.died < 250
    assert found.lost == pytest.approx(found.died * 1.0 / (found.seconds * 10), rel=0.2)
    assert found.seconds > 115


def test_a_split_whose_worker_dies_at_the_end_goes_to_one_that_has_nothing_to_do():
    plan = replace(calm(PLAN), splits=2, workers=8, bytes=2e6, deaths=2000.0)
    found = simulate(plan, replace(FREE, start=1000))
    assert found.died > 0
    assert found.done == 2
    assert found.seconds < 1100  # nobody waited for the dead one to be started again


def test_what_is_uneven_costs_time_and_is_the_same_every_time():
    uneven = replace(PLAN, spread=0.6, slow=0.2, late=0.5)
    assert simulate(uneven, FREE) == simulate(uneven, FREE) != simulate(replace(uneven, seed=2), FREE)
    found, even = simulate(uneven, FREE), simulate(calm(PLAN), FREE)
    assert found.seconds > even.seconds * 1.05
    assert found.tail > 0
    # Handing out one by one, no worker waits for a slow one but at the end.
    assert found.seconds < even.seconds * 1.6
    finer = simulate(replace(uneven, splits=10_000), FREE)
    assert finer.tail < found.tail


def test_the_measurements_run_and_keep_their_budgets(tmp_path):
    """On a few thousand splits: the driver's work and its memory grow with them as on the way to a million."""
    out = tmp_path / "scale.json"
    command = [sys.executable, str(BENCH / "scale.py")]
    done = subprocess.run(
        [*command, "--quick", "--out", str(out)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "| **in all** |" in done.stdout
    assert "| filters, S3 | 2,000 |" in done.stdout
    found = json.loads(out.read_text())["measured"]
    work = sum(found[f"{part}_seconds"] for part in ("plan", "describe", "hand", "commit", "finish"))
    assert 0 < work < 1e-3
    assert found["worker_rate"] > 1e6
    done = subprocess.run(
        [*command, "--part", "drive", "--splits", "8000"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    more = json.loads(done.stdout)["peak_memory"] - found["peak_memory"]
    assert more < 6000 * 1_700  # a million stay below 2 GB
