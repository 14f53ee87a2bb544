"""Documents that end their worker, stages that cannot be opened, workers that die of something else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import read_jsonl, tree
from tamis import DocumentDataset
from tamis.engine.handout import HandOut
from tamis.engine.job import SplitResult
from tamis.engine.tally import Tally
from tamis.errors import TamisError, WorkerError
from tamis.io.files import InputFile
from tamis.io.splits import Piece, Split
from tamis.stage import Needs, Stage
from tamis.table import put


@dataclass(frozen=True)
class Kills(Stage):
    """Ends its process where one of its documents says so."""

    window: int = 0
    how: int = signal.SIGKILL

    def needs(self, schema):
        return Needs(texts=("text",), makes=(pa.field("seen", pa.int64()),), window=self.window)

    def open(self):
        def run(table):
            texts = table.column("text").to_pylist()
            if "kill" in texts:
                os.kill(os.getpid(), self.how)
            return put(table, "seen", pa.array([len(t) for t in texts], pa.int64()))

        return run


@dataclass(frozen=True)
class CannotOpen(Stage):
    """A stage whose model is not there, or takes its process along when it is loaded."""

    dies: bool = False

    def needs(self, schema):
        return Needs(texts=("text",))

    def open(self):
        if not self.dies:
            raise RuntimeError("the weights are not there")
        if os.environ.get("IN_THE_DRIVER") == str(os.getpid()):
            return lambda table: table
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError


@pytest.fixture
def source(tmp_path):
    """40 documents, one of which kills, and what is left without it."""
    texts = ["kill" if i == 17 else f"text {i}" for i in range(40)]
    with (tmp_path / "d.jsonl").open("w") as file:
        for i, text in enumerate(texts):
            file.write(json.dumps({"id": f"{i}", "text": text}) + "\n")
    table = pa.table({"id": [f"{i}" for i in range(40)], "text": texts})
    pq.write_table(table, tmp_path / "d.parquet", row_group_size=10)
    return tmp_path


@pytest.mark.parametrize(
    ("source_kind", "kind", "window", "how"),
    [
        ("jsonl", "zst", 0, signal.SIGABRT),
        ("parquet", "parquet", 1000, signal.SIGKILL),
    ],
)
def test_only_the_document_that_kills_is_set_aside(source, tmp_path, source_kind, kind, window, how):
    """Here with processes that are really started; the campaign has every format, with forked ones."""
    path = source / f"d.{source_kind}"
    read = DocumentDataset.read_parquet if source_kind == "parquet" else DocumentDataset.read_json
    dataset = Kills(window, how)(read(path))
    out = tmp_path / "out"
    run = {"workers": 2, "split_size": 150, "progress": "off", "write_to_filename": kind == "zst"}
    if kind == "parquet":
        result = dataset.to_parquet(out, **run)
        kept = [row for p in sorted(out.glob("*.parquet")) for row in pq.read_table(p).to_pylist()]
    else:
        result = dataset.to_json(out, compression=None if kind == "jsonl" else kind, **run)
        kept = DocumentDataset.read_json(out).to_arrow().to_pylist()
    assert [d["id"] for d in kept] == [str(i) for i in range(40) if i != 17]
    assert result.tally.quarantined == {"killed its worker": 1}
    assert len(result.deaths) >= 3
    (bad,) = read_jsonl(out / "_quarantine/records.jsonl")
    assert (bad["line"], bad["cause"], json.loads(bad["raw"])["text"]) == (18, "killed its worker", "kill")
    assert f"ended by {how.name}" in bad["detail"]


RUN = """
import sys
sys.path[:0] = sys.argv[1:3]
from test_killers import DocumentDataset, Kills
Kills()(DocumentDataset.read_json(sys.argv[3])).to_json(sys.argv[4], workers=1, progress="off")
"""


def test_with_one_worker_the_run_dies_and_the_next_one_lives(source, tmp_path):
    """What runs in the driver's own process takes it along; the mark it leaves makes the next run careful."""
    here = Path(__file__).parent
    command = [sys.executable, "-c", RUN, here, here.parent, source / "d.jsonl", tmp_path / "out"]
    statuses = [subprocess.run(list(map(str, command)), check=False).returncode for _ in range(2)]
    assert statuses == [-signal.SIGKILL, 0]
    kept = read_jsonl(*sorted((tmp_path / "out").glob("*.jsonl")))
    assert [d["id"] for d in kept] == [str(i) for i in range(40) if i != 17]


def test_a_stage_that_cannot_be_opened_ends_the_run_with_a_sentence(source, tmp_path):
    dataset = CannotOpen()(DocumentDataset.read_json(source / "d.jsonl"))
    for workers in (1, 2):
        with pytest.raises((TamisError, RuntimeError), match="the weights are not there"):
            dataset.to_json(tmp_path / "out", workers=workers, split_size=400, progress="off")


def test_a_stage_that_dies_when_it_is_opened_ends_the_run_with_a_sentence(source, tmp_path, monkeypatch):
    monkeypatch.setenv("IN_THE_DRIVER", str(os.getpid()))
    dataset = CannotOpen(dies=True)(DocumentDataset.read_json(source / "d.jsonl"))
    with pytest.raises(WorkerError, match=r"ended by SIGSEGV.*Finished splits are kept"):
        dataset.to_json(tmp_path / "out", workers=2, split_size=400, progress="off")
    assert not list((tmp_path / "out").glob("*.jsonl"))


@dataclass(frozen=True)
class Slow(Stage):
    """Takes its time."""

    def needs(self, schema):
        return Needs(texts=("text",))

    def open(self):
        def run(table):
            time.sleep(0.02 * table.num_rows)
            return table

        return run


def test_workers_that_are_killed_or_stopped_now_and_then_cost_nothing(source, tmp_path):
    dataset = Slow()(DocumentDataset.read_json(source / "d.jsonl"))
    over = threading.Event()
    struck = []

    def strike():
        mine = Path(f"/proc/self/task/{threading.main_thread().native_id}/children")
        signals = [signal.SIGSTOP, signal.SIGKILL, signal.SIGKILL]
        while signals and not over.wait(0.15):
            for pid in map(int, mine.read_text().split()[:1] or _children()[:1]):
                os.kill(pid, signals[-1])
                struck.append(signals.pop())
                if struck[-1] == signal.SIGSTOP:
                    time.sleep(0.3)
                    os.kill(pid, signal.SIGCONT)

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        dataset.to_json(tmp_path / "out", workers=2, split_size=200, progress="off")
    finally:
        over.set()
        striker.join()
    assert struck
    dataset.to_json(tmp_path / "calm", workers=1, split_size=200, progress="off")
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def _children() -> list[int]:
    """Worker processes are started by threads, each of which has its own."""
    return [int(p) for task in Path("/proc/self/task").iterdir() for p in (task / "children").read_text().split()]


FILE = InputFile("/in/d.jsonl", "d.jsonl", 100, "", "jsonl")


@given(st.sets(st.integers(0, 29), max_size=2), st.lists(st.integers(0, 25), max_size=2, unique=True))
def test_a_worker_that_dies_by_accident_while_a_split_is_looked_into_is_held_against_no_document(killers, accidents):
    handout = HandOut(
        [Split(0, (Piece(FILE, 0, 10, 10, whole=True),)), Split(1, (Piece(FILE, 10, 20, 10, whole=True),))]
    )
    finished, asked = {}, 0
    while (errand := handout.next()) is not None:
        number = errand.split.index
        reads = errand.kind != "count" and not errand.unread
        start, end = (errand.only or (0, 30)) if reads else (0, 0)
        shown = {i for i in range(start, end) if not any(a <= i < b for a, b in errand.skip)}
        asked += number == 0
        if number == 0 and (shown & killers or asked in accidents):
            handout.died(errand, "killed")
        elif handout.done(errand, SplitResult(number, Tally(records=30))) is not None:
            finished[number] = errand
    assert handout.over
    assert not finished[0].unread
    assert {i for a, b in finished[0].skip for i in range(a, b)} == killers
