"""Whole runs on a real S3 server over HTTP, through every fault of a network and a store."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from s3_server import S3Server, calm_server, running_server, wait_until  # noqa: F401  fixtures
from tamis import DocumentDataset, ScoreFilter
from tamis.errors import OutputError, TamisError
from tamis.filters import WordCountFilter
from tamis.io import lease, objects, reading, remote

RUN = """
import sys
from pathlib import Path
from tamis import DocumentDataset, ScoreFilter
from tamis.errors import TamisError
from tamis.filters import WordCountFilter
from tamis.io import lease, objects

source, out, workers, elsewhere = sys.argv[1:]
lease.LEASE, lease.BEAT, lease._POLL = 2.0, 0.2, 0.05
objects._FLUSH_EVERY = 0.05
if elsewhere == "1":
    lease.this_machine = lambda: ""
dataset = DocumentDataset.read_json(source, add_filename=True).train_test_split({"a": 0.5, "b": 0.5})
try:
    ScoreFilter(WordCountFilter(min_words=3), score_field="words")(dataset).to_json(
        out, workers=int(workers), split_size=3000, write_to_filename=True, keep_rejects=True, partition_on="split",
        max_bad=0.5, progress="off",
    )
except TamisError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
HOW = {"write_to_filename": True, "keep_rejects": True, "partition_on": "split"}
numbered = iter(range(1 << 20))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(remote, "_FIRST_PAUSE", 0.005)
    monkeypatch.setattr(objects, "_FLUSH_EVERY", 0.05)
    monkeypatch.setattr(reading, "_SMALL", 2 << 10)
    monkeypatch.setattr(reading, "_BLOCK", 4 << 10)


@pytest.fixture(scope="module")
def source(s3: S3Server) -> str:
    """Documents in a bucket: two files of several splits each, with bad lines among them."""
    s3.bucket("source")
    for name in ("x", "sub/y"):
        lines = [
            json.dumps({"text": " ".join([f"w{i}"] * (i % 9)), "i": i}).encode() + (b"" if i % 50 else b",")
            for i in range(80)
        ]
        s3.put("source", f"in/{name}.jsonl", b"\n".join(lines) + b"\n")
    return "s3://source/in"


@pytest.fixture
def out(server: S3Server) -> str:
    """A directory that does not exist yet."""
    return f"s3://{server.bucket(f'out-{next(numbered)}')}/run"


def run(source, out, *, to="json", split_size=3000, workers=1, **how):
    """One run in this process."""
    dataset = DocumentDataset.read_json(source, add_filename=True).train_test_split({"a": 0.5, "b": 0.5})
    dataset = ScoreFilter(WordCountFilter(min_words=3), score_field="words")(dataset)
    write = dataset.to_json if to == "json" else dataset.to_parquet
    return write(str(out), workers=workers, split_size=split_size, max_bad=0.5, progress="off", **how)


def files_of(folder: Path) -> dict[str, bytes]:
    """A local directory's files."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def objects_of(server: S3Server, out: str) -> dict[str, bytes]:
    """The same of a directory on the server, where nothing else may have been left."""
    bucket = out.split("/")[2]
    assert server.uploads(bucket) == [], "uploads that nobody completed or ended"
    return server.objects(bucket, "run/")


@pytest.fixture(scope="module")
def calm(s3: S3Server, source, tmp_path_factory) -> dict[str, bytes]:
    """What an undisturbed run leaves on a local disk."""
    folder = tmp_path_factory.mktemp("calm") / "run"
    run(source, folder, **HOW)
    return files_of(folder)


def start(tmp_path, source, out, *, workers=1, elsewhere=False, **environment):
    """The run of ``HOW`` in a process of its own."""
    script = tmp_path / "run.py"
    script.write_text(RUN)
    return subprocess.Popen(
        [sys.executable, str(script), source, out, str(workers), str(int(elsewhere))],
        stderr=subprocess.PIPE,
        env=os.environ | environment,
    )


def ended(process, seconds=60):
    """(exit status, what it said)."""
    _, said = process.communicate(timeout=seconds)
    return process.returncode, said.decode()


# -- equal to a local directory ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "how"),
    [
        ("json", {}),
        ("json", HOW),
        ("json", {"compression": "zst", "write_to_filename": True}),
        ("parquet", {"keep_rejects": True}),
        ("parquet", HOW),
    ],
    ids=str,
)
def test_a_directory_on_s3_equals_a_local_one(server: S3Server, source, out, tmp_path, to, how):
    run(source, tmp_path / "run", to=to, **how)
    result = run(source, out, to=to, **how)
    assert not result.already_complete
    assert objects_of(server, out) == files_of(tmp_path / "run")
    assert run(source, out, to=to, **how).already_complete
    assert "COPY" not in {method for method, _ in server.faults.requests}
    assert server.environment["AWS_SECRET_ACCESS_KEY"].encode() not in b"".join(objects_of(server, out).values())


def test_one_file_per_worker_and_rerun_with_fresh(server: S3Server, source, out, calm, tmp_path):
    code, said = ended(start(tmp_path, source, out, workers=2))
    assert (code, said) == (0, "")
    assert objects_of(server, out) == calm
    run(source, out, mode="fresh")
    assert not [name for name in objects_of(server, out) if name.startswith(("a/", "b/"))]


# -- faults that pass ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_throttling_errors_resets_and_lost_answers_change_nothing(server: S3Server, source, out, calm, seed):
    server.faults.seed = seed
    server.faults.rates = {"503": 0.06, "500": 0.06, "reset": 0.06, "lost": 0.06, "half": 0.06}
    run(source, out, **HOW)
    injected = server.faults.injected
    server.calm()
    assert objects_of(server, out) == calm
    assert len(injected) >= 4, injected
    assert injected.total() > 15


def test_without_trying_again_such_a_run_fails(server: S3Server, source, out, monkeypatch):
    """Of this test file: the faults above are ones that matter."""
    server.faults.rates = {"503": 0.1}
    monkeypatch.setenv("TAMIS_RETRY_SECONDS", "0")
    with pytest.raises(TamisError, match=r"failed for 0 s, one attempt, the last time with: (SlowDown|503): "):
        run(source, out, **HOW)


@pytest.mark.parametrize("where", ["in/sub/y", "partNumber=1", "journal/0"])
def test_a_network_that_is_cut_for_a_while_costs_only_time(server: S3Server, source, out, calm, where):
    healed = []

    def cut_once(method, path):
        if re.search(where, f"{method} {path}") and not healed:
            healed.append(threading.Timer(1.0, setattr, (server.faults, "cut", False)))
            server.faults.cut = True
            healed[0].start()

    server.faults.before = cut_once
    began = time.monotonic()
    run(source, out, **HOW)
    assert healed, "the place was passed"
    assert time.monotonic() - began > 1
    server.calm()
    assert objects_of(server, out) == calm


@pytest.mark.parametrize("where", ["in/sub/y", r"POST .*uploadId=", "manifest"])
def test_a_network_that_stays_cut_ends_the_run_plainly_and_it_resumes(
    server: S3Server, source, out, calm, where, monkeypatch
):
    monkeypatch.setenv("TAMIS_RETRY_SECONDS", "0.3")
    seen = []

    def cut(method, path):
        seen.extend([1] * bool(re.search(where, f"{method} {path}")))
        server.faults.cut = server.faults.cut or len(seen) > (2 if where != "manifest" else 1)

    server.faults.before = cut
    began = time.monotonic()
    with pytest.raises(TamisError, match=r"s3://\S+ cannot be \w+: it failed for .* run the same command again"):
        run(source, out, **HOW)
    assert time.monotonic() - began < 10, "giving up once is enough"
    server.calm()
    run(source, out, **HOW)
    assert objects_of(server, out) == calm


# -- deaths and rivals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("partNumber=1", 2),
        (r"POST .*uploadId=", 3),
        ("PUT .*journal", 1),
        ("PUT .*outputs.ndjson", 1),
        ("DELETE .*run.json", 1),
    ],
)
def test_a_driver_that_is_killed_leaves_what_the_next_one_goes_on_from(
    server: S3Server, source, out, calm, tmp_path, where, number
):
    process = start(tmp_path, source, out, workers=1)
    seen = []

    def kill(method, path):
        if re.search(where, f"{method} {path}"):
            seen.append(path)
            if len(seen) == number:
                os.kill(process.pid, signal.SIGKILL)

    server.faults.before = kill
    code, said = ended(process)
    assert code == -signal.SIGKILL, said
    server.calm()
    run(source, out, **HOW)
    assert objects_of(server, out) == calm


def test_two_runs_on_one_directory_one_is_refused(server: S3Server, source, out, calm, tmp_path):
    pause = threading.Event()
    server.faults.before = lambda method, path: time.sleep(0.05) if "in/" in path else pause.is_set()
    processes = [start(tmp_path, source, out, elsewhere=True) for _ in range(2)]
    codes = sorted(ended(p) for p in processes)
    assert [code for code, _ in codes] in ([0, 1], [0, 0]), codes
    if codes[1][0]:
        assert "OutputRefusedError" in codes[1][1]
        assert "is being written by another run of Tamis (process" in codes[1][1]
    assert objects_of(server, out) == calm


def test_a_run_on_another_machine_takes_over_and_the_first_one_finds_out(server: S3Server, source, out, calm, tmp_path):
    first = start(tmp_path, source, out, elsewhere=True)
    commits = []

    def stop(method, path):
        if method == "POST" and "uploadId=" in path:
            commits.append(path)
            if len(commits) == 3:
                os.kill(first.pid, signal.SIGSTOP)

    server.faults.before = stop
    wait_until(lambda: len(commits) >= 3)
    began = time.monotonic()
    second = start(tmp_path, source, out, elsewhere=True)
    assert ended(second) == (0, "")
    assert time.monotonic() - began > 2, "the lease had to run out"
    assert objects_of(server, out) == calm
    os.kill(first.pid, signal.SIGCONT)
    code, said = ended(first)
    assert code == 1, said
    assert "is not this run's any more" in said or "ended by somebody else" in said, said
    # What it was uploading when it found out is nobody's: whoever holds the directory next ends it.
    assert run(source, out, **HOW).already_complete
    assert objects_of(server, out) == calm


def test_a_reader_never_sees_a_part_of_a_file(server: S3Server, source, out, calm):
    bucket = out.split("/")[2]
    wrong, looked, over = [], [], threading.Event()
    finals = {n: c for n, c in calm.items() if not n.startswith("_tamis/")}

    def poll():
        while not over.wait(0.004):
            try:
                seen = server.objects(bucket, "run/")
            except (KeyError, RuntimeError, ValueError):  # the server's own memory changed under the reader
                continue
            looked.append(len(set(seen) & set(finals)))
            wrong.extend(n for n, c in seen.items() if n in finals and c != finals[n])
            wrong.extend(n for n in seen if n not in finals and not n.startswith("_tamis/"))
            if "_tamis/manifest.json" in seen and not set(finals) <= set(seen):
                wrong.append("a manifest before its files")

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        run(source, out, **HOW)
    finally:
        over.set()
        thread.join()
    assert wrong == []
    assert len(set(looked)) > 2, "it looked while the run was at work"
    assert objects_of(server, out) == calm


def test_a_lost_lock_ends_the_run(server: S3Server, source, out, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    bucket = out.split("/")[2]

    def steal(method, path):
        if "partNumber" in path:
            server.put(bucket, "run/_tamis/lock", b'{"owner": "me", "host": "there", "pid": 1, "machine": "?"}')
            time.sleep(0.1)

    server.faults.before = steal
    with pytest.raises(
        OutputError, match=r"not this run's any more: it is held by another run now \(process 1 on there\)"
    ):
        run(source, out, **HOW)
    assert "run/_tamis/lock" in server.objects(bucket), "it is the other's"
