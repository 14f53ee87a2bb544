"""Nothing that a run does depends on the wall clock: it may jump, and files may come from the future."""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from pathlib import Path

import pytest

import tamis
from conftest import tree
from tamis import DocumentDataset

TELLS_PEOPLE = {"status.py", "lease.py", "make.py"}
"""Files that write the time down for people to read, or compare the times of one clock on another machine."""


def test_a_clock_that_jumps_by_years_changes_nothing(write_jsonl, tmp_path, monkeypatch):
    paths = [write_jsonl(f"in/{name}.jsonl", [{"text": f"{name} {i}"} for i in range(50)]) for name in "ab"]
    os.utime(paths[0], (4e9, 4e9))  # the year 2096
    os.utime(paths[1], (0, 0))

    def run(out: Path) -> dict[str, str]:
        told: list[float] = []
        dataset = DocumentDataset.read_json(paths).train_test_split({"a": 0.5, "b": 0.5})
        dataset.to_json(out, workers=1, split_size=300, partition_on="split", progress=lambda p: told.append(p.seconds))
        assert told == sorted(told)
        assert 0 <= told[-1] < 60
        return tree(out)

    must = run(tmp_path / "calm")
    right, jumps = time.time, itertools.cycle([0.0, 9e8, -1.5e9, 86_400.0, -1e-3])
    monkeypatch.setattr(time, "time", lambda: max(right() + next(jumps), 0.0))
    monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 1e9))
    assert run(tmp_path / "jumping") == must


def test_the_source_asks_the_wall_clock_only_to_tell_people():
    asks = re.compile(r"\btime\.time(_ns)?\(|datetime\.now|\.today\(|localtime|gmtime|getmtime")
    source = Path(tamis.__file__).parent
    assert {p.name for p in source.rglob("*.py") if asks.search(p.read_text())} <= TELLS_PEOPLE


def test_what_remains_of_a_run_holds_no_time(write_jsonl, tmp_path):
    path = write_jsonl("in/d.jsonl", [{"text": "a"}])
    DocumentDataset.read_json(path).to_json(tmp_path / "out", progress="off")
    said = json.dumps([p.read_text() for p in (tmp_path / "out/_tamis").iterdir()])
    assert str(time.gmtime().tm_year) not in said


@pytest.mark.parametrize("jump", [-1e9, 1e9])
def test_the_status_of_a_run_survives_a_jump(write_jsonl, tmp_path, monkeypatch, jump):
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + jump)
    path = write_jsonl("in/d.jsonl", [{"text": "a"}])
    DocumentDataset.read_json(path).to_json(tmp_path / "out", progress="off")
    from tamis.engine.status import read_status

    assert read_status(str(tmp_path / "out")).state == "complete"
