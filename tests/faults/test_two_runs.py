"""Two runs on one directory: one of them has it, and the other says so, whatever happens in between."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import tree
from tamis import DocumentDataset
from tamis.errors import OutputError

RUN = """
import os, sys, time
source, out, pause, go = sys.argv[1:]
from tamis import DocumentDataset, DocumentFilter, ScoreFilter
from tamis.errors import TamisError

class Slow(DocumentFilter):
    def score_document(self, text):
        time.sleep(float(pause))
        return 1.0
    def keep_document(self, score):
        return True

dataset = ScoreFilter(Slow())(DocumentDataset.read_json(source))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(go)):
    try:
        dataset.to_json(out, workers=1, split_size=200, progress="off")
        print("ended", flush=True)
    except TamisError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    sys.stdin.readline()
"""
HELD = "is being written by another run of Tamis"


@pytest.fixture
def script(tmp_path):
    (tmp_path / "run.py").write_text(RUN)
    with (tmp_path / "d.jsonl").open("w") as file:
        for i in range(40):
            file.write(json.dumps({"text": f"{i}"}) + "\n")
    return tmp_path


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _none_is_left():
    yield
    for process in STARTED:
        process.kill()
        process.communicate()
    STARTED.clear()


def start(script: Path, out: Path, *, pause: float = 0.0, rounds: int = 1) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(script / "run.py"), str(script / "d.jsonl"), str(out), str(pause), str(rounds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    STARTED.append(process)
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


def must(script: Path) -> dict[str, str]:
    """What a run that is alone leaves."""
    process = start(script, script / "calm")
    process.communicate("\n\n")
    return tree(script / "calm")


def test_of_two_runs_that_start_at_the_same_moment_one_wins(script):
    """Many times, on the same directory: each finds it new, half done or complete."""
    out, rounds = script / "out", 12
    processes = [start(script, out, pause=0.0005, rounds=rounds) for _ in range(3)]
    refused = 0
    for number in range(rounds):
        for process in processes:
            go(process)
        said = [process.stdout.readline() for process in processes]
        assert all(s == "ended\n" or HELD in s for s in said), said
        assert "ended\n" in said
        refused += sum(HELD in s for s in said)
        if number == 0:
            first = tree(out)
        assert tree(out) == first
        for path in sorted(out.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
    for process in processes:
        process.communicate("\n")
    assert refused > rounds // 2  # they did meet
    assert first == must(script)


def test_what_the_first_leaves_when_it_is_killed_the_second_goes_on_with(script):
    out = script / "out"
    first, second = start(script, out, pause=0.1), start(script, out, rounds=2)
    go(first)
    while not (out / "_tamis/journal").exists():
        time.sleep(0.005)
    go(second)
    assert HELD in second.stdout.readline()
    first.send_signal(signal.SIGSTOP)  # a run that is stopped for a while still has its directory
    time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second.communicate("\n\n")
    assert tree(out) == must(script)


def test_a_directory_that_is_removed_while_a_run_is_at_work(script):
    out = script / "out"
    process = start(script, out, pause=0.01)
    go(process)
    while not (out / "_tamis/journal").exists():
        time.sleep(0.005)
    while out.exists():
        subprocess.run(["rm", "-rf", str(out)], check=False)
    said, _ = process.communicate("\n", timeout=60)
    assert "OutputError" in said or said == "ended\n", said
    again = start(script, out)
    again.communicate("\n\n")
    assert tree(out) == must(script)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_directory_that_may_not_be_written(script, monkeypatch, number):
    """Root may write anywhere, so that the system's answer is given for it."""
    made = Path.mkdir

    def mkdir(path, *arguments, **named):
        if path.is_relative_to(script / "out"):
            raise OSError(number, os.strerror(number), str(path))
        made(path, *arguments, **named)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(OutputError, match=rf"no permission to write {script}/out.* Choose another output directory"):
        DocumentDataset.read_json(script / "d.jsonl").to_json(script / "out", workers=1, progress="off")
