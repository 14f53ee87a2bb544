"""Whatever ends a run, the next one goes on, and the directory comes out the same to the byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import read_jsonl, tree
from tamis import DocumentDataset, DocumentFilter, ScoreFilter
from tamis.errors import OutputError, OutputRefusedError

RUN = """
import os, signal, sys, time
from tamis import DocumentDataset, DocumentFilter, ScoreFilter
from tamis.io import store

source, out, kill_at, workers, by_input, compression, pause = sys.argv[1:]
left = int(kill_at)

def counted(name):
    inner = getattr(store.LocalStore, name)
    def method(self, *arguments):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(self, *arguments)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(store.LocalStore, name, method)

for name in ("append", "create", "move", "remove", "replace"):
    counted(name)

class Odd(DocumentFilter):
    def score_document(self, text):
        time.sleep(float(pause))
        return len(text)
    def keep_document(self, score):
        return score % 3 != 0

dataset = DocumentDataset.read_json(source, add_filename=True).train_test_split({"a": 0.5, "b": 0.5})
ScoreFilter(Odd(), score_field="n")(dataset).to_json(
    out, workers=int(workers), split_size=700, write_to_filename=by_input == "1", compression=compression or None,
    keep_rejects=True, partition_on="split", max_bad=0.5, progress="off",
)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    (folder / "run.py").write_text(RUN)
    for name in ("x", "y"):
        with (folder / f"{name}.jsonl").open("w") as file:
            for i in range(60):
                file.write(json.dumps({"text": "w" * (i % 17), "i": i}) + "\n")
                if i % 20 == 7:
                    file.write('{"text": "cut\n')
    return folder


def start(script, out, *, kill_at=0, workers=1, by_input=False, compression="", pause=0.0):
    arguments = [script / "*.jsonl", out, kill_at, workers, int(by_input), compression, pause]
    return subprocess.Popen(
        [sys.executable, str(script / "run.py"), *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )


def run(script, out, **settings):
    process = start(script, out, **settings)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors.decode()


CALM: dict[tuple[bool, str], dict[str, str]] = {}
"""What an undisturbed run leaves, by its settings."""


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kills=st.lists(st.integers(1, 400), min_size=1, max_size=3),
    by_input=st.booleans(),
    compression=st.sampled_from(["", "gz", "zst"]),
)
def test_any_interleaving_of_kills_gives_the_same_directory(script, tmp_path_factory, kills, by_input, compression):
    folder = tmp_path_factory.mktemp("kills")
    how = {"by_input": by_input, "compression": compression}
    for kill_at in kills:
        code, errors = run(script, folder / "killed", kill_at=kill_at, **how)
        assert code in {0, -signal.SIGKILL}, errors
    assert run(script, folder / "killed", **how) == (0, "")
    if (by_input, compression) not in CALM:
        assert run(script, folder / "calm", **how) == (0, "")
        CALM[by_input, compression] = tree(folder / "calm")
    assert tree(folder / "killed") == CALM[by_input, compression]


@pytest.mark.parametrize("by_input", [False, True])
def test_a_kill_at_every_moment_of_the_first_commit(script, tmp_path, by_input):
    for kill_at in range(5, 27):  # each run goes on where the one before was killed, and is killed one step later
        run(script, tmp_path / "killed", kill_at=kill_at, by_input=by_input)
    assert run(script, tmp_path / "killed", by_input=by_input) == (0, "")
    assert run(script, tmp_path / "calm", by_input=by_input) == (0, "")
    assert tree(tmp_path / "killed") == tree(tmp_path / "calm")


def test_killed_in_the_middle_with_two_workers(script, tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert run(script, calm)[0] == 0
    for wait in (0.9, 1.2, 1.5):
        process = start(script, killed, workers=2, pause=0.01)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert run(script, killed, workers=2) == (0, "")
    assert tree(killed) == tree(calm)
    manifest = json.loads((killed / "_tamis/manifest.json").read_text())["totals"]
    assert manifest["records"] == 126 == manifest["kept"] + sum(manifest["rejected"]["Odd"].values()) + 6
    assert len(read_jsonl(killed / "_quarantine/records.jsonl")) == 6


def test_orphaned_workers_end_themselves(script, tmp_path):
    process = start(script, tmp_path / "out", workers=2, pause=0.05)
    deadline = time.monotonic() + 60
    alive: list[int] = []
    while not alive and time.monotonic() < deadline:  # a busy machine takes seconds to import and start them
        time.sleep(0.1)
        children = subprocess.run(
            ["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True, check=False
        )
        alive = [int(pid) for pid in children.stdout.split()]
    assert alive
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 20
    while alive and time.monotonic() < deadline:
        alive = [pid for pid in alive if Path(f"/proc/{pid}").exists()]
        time.sleep(0.1)
    assert not alive


def test_a_directory_that_another_run_is_writing_is_refused(script, tmp_path):
    process = start(script, tmp_path / "out", pause=0.08)
    deadline = time.monotonic() + 20
    while not (tmp_path / "out/_tamis/run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    code, errors = run(script, tmp_path / "out")
    assert code == 1
    assert "is being written by another run of Tamis" in errors
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert run(script, tmp_path / "calm")[0] == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


class KillsItsWorker(DocumentFilter):
    """Ends its process on one document, as often as there are marks left in a folder."""

    def __init__(self, marks: str) -> None:
        self.marks = marks

    def score_document(self, text: str) -> float:
        marks = sorted(Path(self.marks).iterdir())
        if text == "7" and marks:
            marks[0].unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return 1.0

    def keep_document(self, score: float) -> bool:
        return True


@pytest.mark.parametrize("deaths", [2, 99])
def test_a_worker_that_dies_costs_only_its_split(write_jsonl, tmp_path, deaths):
    path = write_jsonl("in/d.jsonl", [{"text": str(i)} for i in range(40)])
    marks = tmp_path / "marks"
    marks.mkdir()
    for i in range(deaths):
        (marks / str(i)).touch()
    dataset = ScoreFilter(KillsItsWorker(str(marks)))(DocumentDataset.read_json(path))
    result = dataset.to_json(tmp_path / "out", workers=2, split_size=150)
    fatal = [7] if deaths > 3 else []
    found = [int(d["text"]) for d in read_jsonl(*sorted((tmp_path / "out").glob("*.jsonl")))]
    assert found == [i for i in range(40) if i not in fatal]
    assert result.tally.quarantined == dict.fromkeys(["killed its worker"] * len(fatal), 1)
    assert {death.split for death in result.deaths} == {0}
    assert len(result.deaths) == 2 if not fatal else 3 < len(result.deaths) < 12


def test_ctrl_c_leaves_a_directory_that_goes_on(write_jsonl, tmp_path):
    write_jsonl("in/d.jsonl", [{"text": f"a b c d {i}"} for i in range(100)])
    (tmp_path / "slow.py").write_text(
        "import time\nfrom tamis import DocumentModifier\nclass Slow(DocumentModifier):\n"
        "    def modify_document(self, text):\n        time.sleep(0.02)\n        return text.upper()\n"
    )
    (tmp_path / "r.toml").write_text(
        '[input]\npath = "in"\n[[stage]]\nuse = "slow:Slow"\n[output]\npath = "out"\n'
        "[run]\nworkers = 2\nsplit_size = 300\n"
    )
    command = [sys.executable, "-m", "tamis.cli", "run", "r.toml"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while not (tmp_path / "out/_tamis/journal").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert b"run the same command again to go on" in errors
    assert b"Traceback" not in errors
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "splits done before" in again.stdout
    found = [d["text"] for d in read_jsonl(*sorted((tmp_path / "out").glob("*.jsonl")))]
    assert found == [f"A B C D {i}" for i in range(100)]


@pytest.fixture
def tiny_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_said_plainly_and_nothing_is_lost(tiny_disk, write_jsonl, tmp_path, workers):
    path = write_jsonl("in/d.jsonl", [{"text": f"{i} " + "x" * 990} for i in range(250)])
    filler = tiny_disk / "filler"
    filler.write_bytes(b"x" * 150_000)
    dataset = DocumentDataset.read_json(path)
    with pytest.raises(OutputError, match=r"the disk is full: .* could not be written\. Free some space"):
        dataset.to_json(tiny_disk / "out", workers=workers, split_size=20_000)
    filler.unlink()
    if workers == 1:
        result = dataset.to_json(tiny_disk / "out", workers=workers, split_size=20_000)
        assert result.resumed > 0
        texts = [d["text"].split()[0] for d in read_jsonl(*sorted((tiny_disk / "out").glob("*.jsonl")))]
        assert texts == [str(i) for i in range(250)]


def test_an_input_that_changed_is_another_run(write_jsonl, tmp_path):
    path = write_jsonl("in/d.jsonl", [{"text": "a"}])
    DocumentDataset.read_json(path).to_json(tmp_path / "out")
    write_jsonl("in/d.jsonl", [{"text": "a"}, {"text": "b"}])
    with pytest.raises(OutputRefusedError, match="its input files differ"):
        DocumentDataset.read_json(path).to_json(tmp_path / "out")
