"""A run says how far it is, and anybody can tell whether it is still there, without touching it."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from conftest import tree
from fake_run import Fake
from tamis import DocumentDataset, DocumentFilter, ScoreFilter
from tamis.cli_runs import add_status, status_lines
from tamis.engine import status as statuses
from tamis.engine.handout import Death
from tamis.engine.status import Beat, Pulse, Status, StatusReader, read_status
from tamis.engine.tally import Tally
from tamis.errors import InputError, TooManyBadRecordsError, UsageError
from tamis.io.store import LocalStore


def beat(done=3, seconds=10.0, **more):
    tally = Tally(records=40 * done, kept=30 * done, bytes_in=100 * done, rejected=Counter({("F", "bad"): 9 * done}))
    tally.quarantined["cut"] = done
    settings = {
        "phase": "",
        "splits_done": done,
        "splits_total": 12,
        "bytes_done": 100 * done,
        "bytes_total": 1200,
        "tally": tally,
        "before": Tally(),
        "seconds": seconds,
        "workers": 4,
    }
    return Beat(**settings | more)


def told(folder):
    return json.loads((folder / "_tamis/status.json").read_text())


@pytest.fixture
def quick(monkeypatch):
    """Beats every 20 ms, and a reader that knows."""
    monkeypatch.setattr(statuses, "BEAT_EVERY", 0.02)
    monkeypatch.setattr(Pulse.__init__, "__defaults__", (0.02,))
    monkeypatch.setattr(StatusReader.__init__, "__defaults__", (0.02,))


# -- publishing ----------------------------------------------------------------------------------------------


def test_a_pulse_goes_on_by_itself_and_ends_when_it_is_told(tmp_path):
    pulse = Pulse(LocalStore(str(tmp_path)), every=0.01)
    pulse.start()
    first = told(tmp_path)
    assert first["state"] == "running"
    assert (first["pid"], first["beat"]) == (os.getpid(), 1)
    pulse.beat(beat())
    deadline = time.monotonic() + 10
    while told(tmp_path)["beat"] < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    later = told(tmp_path)
    assert later["beat"] >= 5
    assert (later["splits_done"], later["workers"], later["tally"]["kept"]) == (3, 4, 90)
    pulse.stop()
    pulse.stop(ValueError("after the end"))
    (tmp_path / "_tamis/status.json").unlink()
    time.sleep(0.05)
    assert not (tmp_path / "_tamis/status.json").exists()


def test_rates_are_those_of_the_last_minute(tmp_path):
    pulse = Pulse(LocalStore(str(tmp_path)))

    def rates(**now):
        pulse.beat(beat(**now))
        found = pulse._told("running", None)
        return found["bytes_per_second"], found["records_per_second"]

    assert rates(done=2, seconds=0.0) == (0.0, 0.0)
    assert rates(done=2, seconds=10.0) == (20.0, 8.0)
    assert rates(done=2, seconds=10.0) == (20.0, 8.0)
    for second in range(20, 200, 10):
        assert rates(done=2, seconds=float(second))[0] <= 10.0
    assert rates(done=2, seconds=200.0) == (0.0, 0.0)
    assert rates(done=3, seconds=210.0)[0] == pytest.approx(100 / 60, abs=0.3)
    # What an earlier process had done is of no rate; a new phase begins at its own beginning.
    before = Tally(records=40, kept=40, bytes_in=100)
    assert rates(done=2, seconds=4.0, phase="write", before=before) == (25.0, 10.0)


@pytest.mark.parametrize("kind", [OSError(errno.ENOSPC, "no space"), InputError("the lease is lost.")])
def test_a_status_that_cannot_be_written_ends_nothing(tmp_path, quick, kind):
    class Full(LocalStore):
        def replace(self, name, content):
            if name.endswith("status.json"):
                raise kind
            super().replace(name, content)

    Fake(tmp_path / "calm").run()
    fake = Fake(tmp_path / "out", store=Full)
    fake.directory.beat(beat())
    fake.run(order=lambda splits: (time.sleep(0.01) or s for s in splits))
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def test_a_finished_directory_holds_no_status_whatever_the_beat(tmp_path, quick):
    Fake(tmp_path / "calm").run()
    for number in range(20):
        Fake(tmp_path / f"out{number}").run()
        assert tree(tmp_path / f"out{number}") == tree(tmp_path / "calm")


# -- reading -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def at_work(folder, commits=5):
    """A run that has done some splits and goes on."""
    fake = Fake(folder)
    with fake.directory.lock():
        fake.directory.claim("auto")
        fake.directory.start(None)
        for split in fake.splits[:commits]:
            fake.directory.commit(split, fake.result(split))
        yield fake


def test_a_run_at_work(tmp_path, quick):
    with at_work(tmp_path) as fake:
        assert read_status(tmp_path).state == "running"
        deaths = (Death(3, "ended by SIGKILL", "node7"), Death(4, "ended by SIGSEGV"))
        fake.directory.beat(beat(deaths=deaths, phase="", engine="ray"))
        deadline = time.monotonic() + 10
        while not (status := read_status(tmp_path)).splits_done and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (status.state, status.splits_done, status.splits_total) == ("running", 3, 12)
        assert (status.share, status.workers, status.engine) == (0.25, 4, "ray")
        assert status.bytes_per_second == 30.0
        assert status.records_per_second == 12.0
        assert status.seconds_left == 30.0
        assert status.deaths == 2
        assert status.last_deaths == deaths
        assert status.tally.quarantined == Counter(cut=3)
        assert status.pid == os.getpid()
        lines = "\n".join(status_lines(status))
    assert f"{tmp_path}: running, 25.0% done" in lines
    assert "3 of 12 splits, 300 B of 1.2 kB" in lines
    assert "30 B/s, 12 documents/s, 0:30 left" in lines
    assert "120 documents: 90 kept, 27 rejected, 3 quarantined" in lines
    assert "3 cut" in lines
    assert f"process {os.getpid()}, 4 workers (ray); last heard at 20" in lines
    assert "2 workers died" in lines
    assert "split 3: ended by SIGKILL on node7" in lines


def test_a_run_that_was_killed(tmp_path):
    code = (
        "import sys, time; sys.path[:0] = sys.argv[2:]\n"
        "from test_status import at_work\n"
        "with at_work(sys.argv[1]):\n    print('ready', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent), *sys.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        assert read_status(tmp_path).state == "running"
        process.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while process.returncode is None and read_status(tmp_path).state == "running" and time.monotonic() < deadline:
            time.sleep(0.01)
        status = read_status(tmp_path)  # a zombie: nobody has waited for it
        assert process.returncode is None
    for found in (status, read_status(tmp_path)):
        assert (found.state, found.splits_done, found.splits_total) == ("stopped", 5, 12)
        assert found.error is None
        assert found.pid == process.pid
        assert found.advice == "Run the same command again to go on: what is finished is kept."
        assert found.bytes_done == 50
        assert found.seconds_left is None
    Fake(tmp_path).run()
    status = read_status(tmp_path)
    assert (status.state, status.share, status.splits_done, status.advice) == ("complete", 1.0, 12, "")
    assert status.tally == Tally.from_json(json.loads((tmp_path / "_tamis/manifest.json").read_text())["totals"])


def test_a_number_that_another_process_has_now(tmp_path):
    with at_work(tmp_path):
        pass
    content = told(tmp_path)
    assert content["state"] == "running"  # it never said otherwise
    assert read_status(tmp_path).state == "running"
    (tmp_path / "_tamis/status.json").write_text(json.dumps(content | {"started": "7"}))
    assert read_status(tmp_path).state == "stopped"
    (tmp_path / "_tamis/status.json").write_text(json.dumps(content | {"pid": 2**22 + 7}))
    assert read_status(tmp_path).state == "stopped"


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (KeyboardInterrupt(), "stopped", None),
        (TooManyBadRecordsError("9 of 10 records are bad."), "failed", "9 of 10 records are bad."),
        (OSError(errno.ENOSPC, "No space", "/x"), "failed", "the disk is full: /x could not be written. Free some"),
        (ZeroDivisionError("defect"), "failed", "ZeroDivisionError: defect"),
    ],
)
def test_what_ended_a_run_is_said(tmp_path, error, state, said):
    def fails():
        with at_work(tmp_path) as fake:
            fake.directory.beat(beat(done=4))
            raise error

    with pytest.raises(type(error)):
        fails()
    status = read_status(tmp_path)
    assert (status.state, status.splits_done, status.workers) == (state, 5, 4)
    assert (status.error or "").startswith(said or "")
    assert (status.error is None) == (said is None)
    assert "run the same command again" in "\n".join(status_lines(status)).lower()


def test_of_a_run_that_said_nothing_the_journal_tells(tmp_path):
    with at_work(tmp_path):
        pass
    (tmp_path / "_tamis/status.json").unlink()
    status = read_status(tmp_path)
    assert (status.state, status.splits_done, status.splits_total) == ("stopped", 5, 12)


def test_directories_without_a_run(tmp_path):
    with pytest.raises(UsageError, match="does not exist, or is empty"):
        read_status(tmp_path / "none")
    (tmp_path / "x.jsonl").write_text("{}")
    with pytest.raises(UsageError, match=r"\(x\.jsonl\) holds no run of Tamis"):
        read_status(tmp_path)
    (tmp_path / "y/_tamis").mkdir(parents=True)
    with pytest.raises(UsageError, match="holds no run yet"):
        read_status(tmp_path / "y")


# -- on another machine --------------------------------------------------------------------------------------


def elsewhere(folder, **more):
    content = told(folder) | {"host": "node9", "machine": "another", "at": "1999-01-01T00:00:00+00:00"} | more
    (folder / "_tamis/status.json.new").write_text(json.dumps(content))
    (folder / "_tamis/status.json.new").replace(folder / "_tamis/status.json")


def test_beats_that_go_on_are_a_run_at_work_whatever_the_clocks_say(tmp_path, quick, monkeypatch):
    with at_work(tmp_path):
        pass
    elsewhere(tmp_path, beat=10)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    ending = threading.Event()

    def go_on():
        number = 10
        while not ending.wait(0.01):
            number += 1
            elsewhere(tmp_path, beat=number)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        assert read_status(tmp_path).state == "running"
    finally:
        ending.set()
        thread.join()
    status = read_status(tmp_path)
    assert status.state == "stopped"
    assert status.advice.startswith("Nothing was heard from node9 for 0 s. If it is gone: run the same command again")


def test_a_reader_that_watches_need_not_wait(tmp_path):
    with at_work(tmp_path):
        pass
    elsewhere(tmp_path, beat=10)
    reader = StatusReader(tmp_path, every=0.05)
    began = time.monotonic()
    assert reader.read(wait=False).state == "running"  # taken at its word
    assert time.monotonic() - began < 0.1
    elsewhere(tmp_path, beat=11)
    assert reader.read(wait=False).state == "running"
    time.sleep(0.2)
    assert reader.read(wait=False).state == "stopped"
    elsewhere(tmp_path, beat=12)
    assert reader.read(wait=False).state == "running"
    elsewhere(tmp_path, beat=1, pid=7)  # another run
    assert reader.read(wait=False).state == "running"


def test_one_look_at_a_dead_run_elsewhere_takes_three_beats(tmp_path):
    with at_work(tmp_path):
        pass
    elsewhere(tmp_path)
    began = time.monotonic()
    assert StatusReader(tmp_path, every=0.1).read().state == "stopped"
    assert 0.3 < time.monotonic() - began < 5


# -- undisturbed ---------------------------------------------------------------------------------------------


def test_looking_never_turns_a_run_away(tmp_path, monkeypatch):
    Fake(tmp_path / "first").run()
    calm = tree(tmp_path / "first")
    ending = threading.Event()
    looks = Counter()

    def look():
        while not ending.is_set():
            for number in range(8):
                with contextlib.suppress(UsageError):
                    looks[read_status(tmp_path / str(number)).state] += 1

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(8):
            for commits in (3, 0, 0, 7):  # each leaves a status that says "running" and a lock file, as a kill does
                with at_work(tmp_path / str(number), commits):
                    pass
                (tmp_path / str(number) / "_tamis/lock").touch()
                time.sleep(0.01)
            Fake(tmp_path / str(number)).run()
            assert tree(tmp_path / str(number)) == calm
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    assert looks["complete"] > 3


# -- whole runs ----------------------------------------------------------------------------------------------


class Watched(DocumentFilter):
    """Looks at the status of its own run."""

    def __init__(self, out: str) -> None:
        self.out = out

    def score_document(self, text: str) -> float:
        time.sleep(0.03)  # a watch looks ten times a second
        deadline = time.monotonic() + 10
        while text == "19" and time.monotonic() < deadline:
            status = read_status(self.out)
            assert status.state == "running"
            if status.splits_done == 3:
                assert status.splits_total == 4
                assert status.workers == 1
                assert status.bytes_done >= 45
                Path(self.out, "_tamis/seen").touch()
                break
            time.sleep(0.01)
        return 1.0

    def keep_document(self, score: float) -> bool:
        return True


def test_a_real_run_says_how_far_it_is(tmp_path, write_jsonl, quick):
    path = write_jsonl("in/a.jsonl", [{"text": str(n)} for n in range(20)])
    out = tmp_path / "out"
    ScoreFilter(Watched(str(out)))(DocumentDataset.read_json(path)).to_json(
        out, split_size=80, workers=1, progress="off"
    )
    assert (out / "_tamis/seen").exists()
    assert read_status(out).state == "complete"


def test_a_real_run_that_fails_says_why(tmp_path, write_jsonl):
    path = write_jsonl("in/a.jsonl", [{"text": str(n)} for n in range(20)])
    Path(path).write_text(Path(path).read_text() + "{\n" * 20)
    with pytest.raises(TooManyBadRecordsError) as raised:
        DocumentDataset.read_json(path).to_json(tmp_path / "out", split_size=80, workers=1, progress="off")
    status = read_status(tmp_path / "out")
    assert (status.state, status.error) == ("failed", str(raised.value))
    assert status.splits_done == status.splits_total
    assert status.tally.total_quarantined == 20


def test_behind_a_url(write_jsonl, tmp_path):
    path = write_jsonl("in/a.jsonl", [{"text": "w" * 50} for _ in range(30)])
    out = f"memory://status-{tmp_path.name}/out"
    seen = []
    DocumentDataset.read_json(path).to_json(
        out, split_size=900, workers=1, progress=lambda _: seen.append(read_status(out).state)
    )
    assert set(seen) == {"running"}
    assert read_status(out).state == "complete"


# -- the command ---------------------------------------------------------------------------------------------


def run(out, *more):
    parser, text = argparse.ArgumentParser(), io.StringIO()
    add_status(parser.add_subparsers(), lambda: Console(file=text, soft_wrap=True))
    options = parser.parse_args(["status", str(out), *more])
    return options.command(options), text.getvalue()


def test_the_command(tmp_path):
    with at_work(tmp_path):
        code, text = run(tmp_path)
        assert code == 0
        assert text.startswith(f"{tmp_path}: running, 0.0% done\n")
        code, text = run(tmp_path, "--json")
        assert json.loads(text)["state"] == "running"
    Fake(tmp_path).run()
    code, text = run(tmp_path, "--json")
    found = json.loads(text)
    assert (code, found["state"], found["share"], found["splits_done"]) == (0, "complete", 1.0, 12)
    assert set(found) == set(Status("", "complete").to_json())


def test_watching_ends_with_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr("tamis.cli_runs._LOOK_EVERY", 0.02)
    for ends_well in (True, False):
        out = tmp_path / str(ends_well)

        def drive(out=out, ends_well=ends_well):
            with contextlib.suppress(KeyboardInterrupt):
                fake = Fake(out)
                fake.run(order=lambda ss: (time.sleep(0.03) or s for s in ss), until=None if ends_well else 9)

        thread = threading.Thread(target=drive)
        thread.start()
        while not (out / "_tamis/status.json").exists():
            time.sleep(0.002)
        code, text = run(out, "--watch", "--json")
        thread.join()
        states = [json.loads(line)["state"] for line in text.splitlines()]
        assert (code, states[-1]) == ((0, "complete") if ends_well else (1, "stopped"))
        assert set(states[:-1]) == {"running"}
