"""Output directories on object stores: what each operation does, and the lock that dies with its holder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from s3_server import ENVIRONMENT, S3Server, calm_server, running_server, wait_until  # noqa: F401  fixtures
from tamis.errors import OutputError, OutputRefusedError
from tamis.io import lease, objects, remote, s3
from tamis.io.store import open_store

made = iter(range(1 << 20))


@pytest.fixture(params=["s3", "memory"])
def url(request, s3):
    """A new directory on a store."""
    name = f"store-{next(made)}"
    if request.param == "s3":
        s3.calm()
        yield f"s3://{s3.bucket(name)}/out"
        return
    yield f"memory://{name}/out"
    fsspec.filesystem("memory").rm(f"/{name}", recursive=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(remote, "_FIRST_PAUSE", 0.005)


def written(store, name, content, final=None):
    """Write a file; returns what a move takes."""
    with store.create(name, final) as file:
        for i in range(0, len(content), 1000):
            file.write(content[i : i + 1000])
    return store.receipt(name)


# -- operations ----------------------------------------------------------------------------------------------


def test_every_operation(url):
    store, other = open_store(url), open_store(url)
    assert (store.names(), list(store.files()), store.exists("a"), store.size("a"), store.read("a")) == (
        [],
        [],
        False,
        -1,
        None,
    )
    with pytest.raises(FileNotFoundError):
        store.open("a")
    store.replace("d/a", b"old")
    store.replace("d/a", b"new")
    assert (store.read("d/a"), store.size("d/a"), store.exists("d/a"), store.exists("d")) == (b"new", 3, True, True)
    assert (store.size("d"), store.exists("d/")) in {(-1, True), (-1, False)}
    content = os.urandom(5000)
    for i, final in enumerate(["d/x", None]):
        receipt = written(store, f"work/{i}", content, final)
        assert not other.exists("d/x"), "nothing is seen of it before the move"
        other.move(receipt, "d/x")
        with other.open("d/x") as file:
            assert file.read() == content
        store.remove("d/x")
    with store.create("work/here") as file:  # written and moved by one process
        file.write(b"one\ntwo\n")
    store.move("work/here", "lines")
    assert list(store.lines("lines")) == [b"one\n", b"two\n"]
    other.move(written(store, "work/empty", b"", "empty"), "empty")
    assert store.size("empty") == 0
    assert dict(store.files()) == {"d/a": 3, "lines": 8, "empty": 0}
    assert store.names() == ["d", "empty", "lines"] or store.names() == ["d", "empty", "lines", "work"]
    store.replace("d2", b"not below d")
    store.remove("d")
    store.remove("nothing")
    assert dict(store.files()) == {"lines": 8, "empty": 0, "d2": 11}
    assert list(store.lines("nothing")) == []


def test_a_journal_is_a_row_of_objects_and_costs_one_listing(url, s3, monkeypatch):
    monkeypatch.setattr(objects, "_FLUSH_EVERY", 0.3)
    store = open_store(url)
    store.append("j", b"0")
    s3.faults.requests.clear()
    for i in range(1, 500):
        store.append("j", b"%d" % i)
    assert len(s3.faults.requests) <= 2, "no request per line"
    wait_until(lambda: store._journals["j"]._lines == [])
    assert [int(line) for line in open_store(url).lines("j")] == list(range(500)), "written without being asked to"
    store.append("j", b"500")
    store.sync()
    again = open_store(url)
    for i in range(501, 520):
        again.append("j", b"%d" % i)
        again.sync()
    assert [int(line) for line in store.lines("j")] == list(range(520))
    again.append("j", b"lost")
    again.remove("j")
    again.sync()
    assert list(store.lines("j")) == []
    again.append("j", b"new")
    assert list(again.lines("j")) == [b"new\n"], "what waits is written before it is read"


def test_a_journal_that_cannot_be_written_says_so(server: S3Server, monkeypatch):
    monkeypatch.setenv("TAMIS_RETRY_SECONDS", "0.2")
    monkeypatch.setattr(objects, "_FLUSH_EVERY", 0.05)
    store = open_store(f"s3://{server.bucket('journal-cut')}/out")
    store.append("j", b"0")
    store.sync()
    server.faults.cut = True
    store.append("j", b"1")
    wait_until(lambda: store._journals["j"]._error)
    with pytest.raises(OutputError, match="cannot be written: it failed for"):
        store.append("j", b"2")
    server.faults.cut = False


def test_large_files_go_up_in_parts_and_show_only_when_they_are_moved(server: S3Server, monkeypatch):
    import moto.s3.models

    monkeypatch.setattr(moto.s3.models, "S3_UPLOAD_PART_MIN_SIZE", 1)
    monkeypatch.setattr(s3, "_PART", 3000)
    monkeypatch.setattr(s3, "_EQUAL", 4)
    bucket = server.bucket("large")
    store, driver = open_store(f"s3://{bucket}/out"), open_store(f"s3://{bucket}/out")
    content = os.urandom(100_000)
    server.faults.rates, server.faults.seed = {"503": 0.1, "lost": 0.1, "reset": 0.1}, 5
    for final, target in [("x/y", "x/y"), (None, "x/y"), ("x/y", "elsewhere")]:
        receipt = written(store, "work/1", content, final)
        assert server.objects(bucket) == {}, "nothing is seen"
        parts = json.loads(receipt)["parts"]
        assert 10 < len(parts) < 20, "parts grow"
        driver.move(receipt, target)
        assert server.objects(bucket) == {f"out/{target}": content}
        driver.remove(target)
    with store.create("work/here") as file:
        file.write(content)
    store.move("work/here", "z")
    assert server.objects(bucket) == {"out/z": content}
    assert server.faults.injected.total() > 10


def test_a_completion_whose_answer_is_lost_is_done_once(server: S3Server):
    bucket = server.bucket("completion")
    store = open_store(f"s3://{bucket}/out")
    receipt = written(store, "work/1", b"content", "x")
    server.faults.rates, server.faults.only = {"lost": 1.0}, r"^POST .*uploadId="

    def heal(method, path):
        if len(server.faults.requests) > before + 1:
            server.faults.rates = {}

    before = len(server.faults.requests)
    server.faults.before = heal
    store.move(receipt, "x")
    assert server.objects(bucket) == {"out/x": b"content"}
    server.calm()
    gone = written(store, "work/2", b"other content", "y")
    for key, number in list(store.uploads()):
        store._s3("abort_multipart_upload", Key=key, UploadId=number)()
    with pytest.raises(OutputError, match="/y cannot be written: its upload was ended by somebody else"):
        store.move(gone, "y")


def test_the_many_objects_of_a_folder_are_deleted_by_the_thousand(server: S3Server):
    bucket = server.bucket("many")
    for i in range(1500):
        server.put(bucket, f"out/d/{i:04}", b"")
    server.put(bucket, "out/dd", b"")
    open_store(f"s3://{bucket}/out").remove("d")
    assert list(server.objects(bucket)) == ["out/dd"]
    assert len(server.faults.requests) < 8


def test_a_bucket_that_is_not_there_and_a_refusal_are_said_plainly(server: S3Server, monkeypatch):
    store = open_store("s3://no-such-bucket-here/out")
    with pytest.raises(OutputError, match=r"there is no bucket 'no-such-bucket-here'. Create it first, or check"):
        store.replace("x", b"")
    with pytest.raises(OutputError, match="there is no bucket"), store.lock("_tamis/lock"):
        pass
    bucket = server.bucket("denied")

    def deny(method, path):
        raise AssertionError

    monkeypatch.setattr(server._app, "_answered", lambda environ, start, fault: denied(start))
    with pytest.raises(OutputError) as caught:
        open_store(f"s3://{bucket}/out").replace("x", b"")
    assert "out/x cannot be written: no permission (AccessDenied: no). Check the credentials" in str(caught.value)
    assert ENVIRONMENT["AWS_SECRET_ACCESS_KEY"] not in repr(caught.value)


def denied(start):
    """What S3 answers where one may not."""
    body = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    start("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


# -- the lock ------------------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch):
    """Leases of a second."""
    monkeypatch.setattr(lease, "LEASE", 1.0)
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "_POLL", 0.05)


LOCK = "_tamis/lock"


@pytest.mark.usefixtures("short")
def test_a_lock_is_held_by_one_and_given_back(url):
    store, other = open_store(url), open_store(url)
    with store.lock(LOCK):
        assert not store.inherited
        for _ in range(2):
            with pytest.raises(OutputRefusedError, match=rf"being written by another run .*process {os.getpid()} on"):
                other.lock(LOCK).__enter__()
        time.sleep(1.2)
        with pytest.raises(OutputRefusedError):
            other.lock(LOCK).__enter__()
        store.replace("x", b"")
        store.append("j", b"line")
    assert list(other.lines("j")) == [b"line\n"], "what waited was written"
    assert not other.exists(LOCK)
    with other.lock(LOCK):
        assert not other.inherited
        other.remove(LOCK)  # as a run does at its end
        with store.lock(LOCK):
            other.remove("x")
        assert not store.exists(LOCK)
    assert [t.name for t in threading.enumerate() if t.name == "tamis-lease"] == []


@pytest.mark.usefixtures("short")
def test_a_lock_whose_holder_fell_silent_is_taken_over_and_the_holder_finds_out(url, monkeypatch):
    store, other = open_store(url), open_store(url)
    silent = threading.Event()
    renew = lease.Lease._renew
    monkeypatch.setattr(lease.Lease, "_renew", lambda self: None if silent.is_set() else renew(self))

    def usurp():
        silent.set()
        began = time.monotonic()
        with other.lock(LOCK):
            assert time.monotonic() - began > 0.9
            assert other.inherited
            silent.clear()
            for change in (lambda: store.replace("x", b""), lambda: store.remove("x"), lambda: store.move("y", "x")):
                with pytest.raises(OutputError, match=r"not this run's any more: it is held by another run now"):
                    change()
            other.replace("y", b"")
            store.append("j", b"line")
            time.sleep(0.3)
            assert other.exists(LOCK)

    with pytest.raises(OutputError, match=rf"{url} is not this run's any more"), store.lock(LOCK):
        usurp()
    assert not other.exists(LOCK)
    assert not other.exists("x")


@pytest.mark.usefixtures("short")
def test_a_lock_that_is_gone_is_lost_and_not_made_anew(url):
    store = open_store(url)

    def write_without():
        open_store(url).remove(LOCK)  # as by a run that took over, finished and gave it back
        time.sleep(0.4)
        store.replace("x", b"")

    with pytest.raises(OutputError, match="its lock is gone, so another run took it over and ended"), store.lock(LOCK):
        write_without()
    assert list(open_store(url).files()) == []


@pytest.mark.usefixtures("short")
def test_a_holder_that_was_only_cut_off_goes_on(server: S3Server, monkeypatch):
    url = f"s3://{server.bucket('cut-off')}/out"
    store = open_store(url)
    with store.lock(LOCK):
        with server.faults.cut_off():
            time.sleep(1.5)
        store.replace("x", b"")
        time.sleep(0.3)
        store.replace("y", b"")
    assert open_store(url).names() == ["x", "y"]


@pytest.mark.usefixtures("short")
def test_answers_that_are_lost_do_not_lose_the_lock(server: S3Server):
    store = open_store(f"s3://{server.bucket('answers')}/out")
    server.faults.rates, server.faults.seed, server.faults.only = {"lost": 0.6}, 2, "_tamis/lock"
    with store.lock(LOCK):
        time.sleep(1.5)
        store.replace("x", b"")
    assert server.faults.injected["lost"] > 3
    server.calm()
    with store.lock(LOCK):
        pass


@pytest.mark.usefixtures("short")
def test_of_many_that_begin_at_once_exactly_one_wins(server: S3Server):
    url = f"s3://{server.bucket('race')}/out"
    held, refused, together = [], [], threading.Barrier(8)

    def run(_):
        store = open_store(url)
        together.wait()
        try:
            with store.lock(LOCK):
                held.append(1)
                assert len(held) - len(refused) <= 1 or sum(held) == 1
                time.sleep(0.6)
        except OutputRefusedError:
            refused.append(1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    assert (len(held), len(refused)) == (1, 7)


HOLD = """
import sys, time
from tamis.io.store import open_store
store = open_store(sys.argv[1])
with store.lock("_tamis/lock"):
    with store.create("work/1", "x") as file:
        file.write(b"half of it")
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_process_of_this_machine_that_was_killed_is_taken_at_once(server: S3Server):
    bucket = server.bucket("killed")
    process = subprocess.Popen([sys.executable, "-c", HOLD, f"s3://{bucket}/out"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert server.uploads(bucket) == ["out/x"]
    store = open_store(f"s3://{bucket}/out")
    began = time.monotonic()
    with store.lock(LOCK):
        assert store.inherited
        assert server.uploads(bucket) == [], "what it had begun is ended"
    assert time.monotonic() - began < lease.LEASE / 2
    assert server.objects(bucket) == {}
    server.put(bucket, f"out/{LOCK}", b"not JSON")
    store.remove(LOCK)


def test_uploads_that_may_not_be_listed_are_left_to_the_bucket(server: S3Server, monkeypatch):
    store = open_store(f"s3://{server.bucket('unlisted')}/out")
    inner = server._app._answered
    monkeypatch.setattr(
        server._app,
        "_answered",
        lambda e, s, f: (
            denied(s) if e["QUERY_STRING"].startswith("uploads") and e["REQUEST_METHOD"] == "GET" else inner(e, s, f)
        ),
    )
    with store.lock(LOCK):
        store.replace("x", b"")
    assert store.names() == ["x"]
