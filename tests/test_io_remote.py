"""What lies behind a URL: listing, reading ahead, trying again, and files that change meanwhile."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import itertools
import json
import pickle
import sys
import threading
import time
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from hypothesis import given
from hypothesis import strategies as st

from s3_server import HUGE, S3Server, calm_server, running_server  # noqa: F401  fixtures
from tamis import DocumentDataset
from tamis.errors import InputError, MissingExtraError, OutputError, UsageError
from tamis.io import reading, remote
from tamis.io.files import InputFile, list_files, open_input
from tamis.io.formats import make_splits, read_piece
from tamis.io.reading import RemoteFile
from tamis.io.records import Want
from tamis.io.remote import parted, passing, persist, plainly
from tamis.table import Batch

LINES = b"".join(json.dumps({"text": f"document {i} " + "x" * (i % 90), "n": i}).encode() + b"\n" for i in range(2000))
WANT = Want(columns=(pa.field("n", pa.int64()),))


def numbers(files, split_size=10_000):
    """The field n of all documents, read split by split."""
    pieces = [piece for split in make_splits(files, split_size=split_size) for piece in split.pieces]
    return [n for p in pieces for e in read_piece(p, WANT) if isinstance(e, Batch) for n in e.table["n"].to_pylist()]


# -- secrets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/a.jsonl?X-Amz-Credential=AKIA&X-Amz-Signature=secret", "https://h/a.jsonl"),
        (
            "https://acc.blob.core.windows.net/c/a.parquet?sv=1&sig=secret",
            "https://acc.blob.core.windows.net/c/a.parquet",
        ),
        ("https://me:secret@h:8080/a.jsonl", "https://h:8080/a.jsonl"),
        ("https://secret@h/a.jsonl?page=2", "https://h/a.jsonl?page=2"),
        ("sftp://me:secret@h/d/a.jsonl", "sftp://h/d/a.jsonl"),
    ],
)
def test_a_secret_in_a_url_is_never_shown(url, shown):
    assert parted(url) == (shown, url)
    said = plainly(OSError(f"cannot reach {url}, sorry"))
    assert "secret" not in said
    assert "sorry" in said
    file = InputFile(shown, "a", 1, "", "jsonl", secret=url)
    assert "secret" not in repr(file).replace("secret=", "")
    assert pickle.loads(pickle.dumps(file)).secret == url

    def fails():
        raise PermissionError(f"403, url={url}")

    with pytest.raises(InputError) as caught:
        persist(fails, f"{shown} cannot be read", InputError)
    chain = [
        caught.value,
        caught.value.__cause__,
        None if caught.value.__suppress_context__ else caught.value.__context__,
    ]
    assert not [e for e in chain if "secret" in str(e)]


@pytest.mark.parametrize(
    "url",
    [
        "s3://b/k?versionId=x",
        "https://h/a.jsonl?page=2",
        "az://c@account.dfs.core.windows.net/x",
        "hf://datasets/u/r@v/x",
    ],
)
def test_what_names_a_file_is_no_secret(url):
    assert parted(url) == (url, "")


# -- trying again --------------------------------------------------------------------------------------------


def answer(status, code="X"):
    """What s3fs raises for an answer of S3."""
    error = OSError(errno.EIO, "said so")
    said = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error.__cause__ = ClientError(said, "GetObject")
    return error


def of_web(status):
    """What aiohttp raises for an answer."""
    return aiohttp.ClientResponseError(SimpleNamespace(real_url="http://h/?sig=secret"), (), status=status)


@pytest.mark.parametrize(
    "error",
    [
        *[answer(status) for status in (408, 409, 429, 500, 502, 503, 504)],
        answer(400, "RequestTimeout"),
        answer(400, "BadDigest"),
        *[of_web(status) for status in (429, 500, 503)],
        aiohttp.ClientPayloadError(),
        aiohttp.ServerDisconnectedError(),
        EndpointConnectionError(endpoint_url="http://h"),
        ConnectionResetError(),
        TimeoutError(),
        OSError(errno.ENETUNREACH, "x"),
    ],
    ids=str,
)
def test_what_passes_is_tried_again(error, monkeypatch):
    monkeypatch.setattr(remote, "_FIRST_PAUSE", 0.001)
    assert passing(error)
    left = [error, error, error]

    def call():
        if left:
            raise left.pop()
        return "done"

    assert persist(call, "s3://b cannot be read", InputError) == "done"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (answer(403, "AccessDenied"), "no permission (AccessDenied: no). Check the credentials"),
        (PermissionError(13, "no"), "no permission"),
        (NoCredentialsError(), "no credentials were found"),
        (answer(400, "InvalidRange"), "InvalidRange: no"),
        (of_web(401), "no permission"),
        (of_web(501), "501"),
        (ValueError("odd"), "odd"),
    ],
    ids=str,
)
def test_what_does_not_pass_is_said_at_once(error, says):
    tries = []

    def call():
        tries.append(1)
        raise error

    with pytest.raises(OutputError) as caught:
        persist(call, "s3://b cannot be written", OutputError)
    assert str(caught.value).startswith("s3://b cannot be written: ")
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert len(tries) == 1


def test_trying_again_ends_and_the_next_one_does_not_wait_as_long(monkeypatch):
    monkeypatch.setenv("TAMIS_RETRY_SECONDS", "0.6")
    monkeypatch.setattr(remote, "_FIRST_PAUSE", 0.01)
    tries = []

    def call():
        tries.append(time.monotonic())
        raise ConnectionResetError(errno.ECONNRESET, "reset by peer")

    with pytest.raises(InputError, match=r"it failed for [01] s, \d+ attempts, .*reset by peer.*run the same command"):
        persist(call, "s3://silent/k cannot be read", InputError)
    assert 0.5 < tries[-1] - tries[0] < 2
    gaps = [b - a for a, b in itertools.pairwise(tries[:-1])]
    assert gaps[-1] > 3 * gaps[0], "pauses grow"
    before = len(tries)
    with pytest.raises(InputError):
        persist(call, "s3://silent/other cannot be read", InputError)
    assert len(tries) == before + 1, "a host that was given up on gets one attempt"
    assert persist(lambda: 1, "s3://silent/k cannot be read", InputError) == 1
    with pytest.raises(InputError):
        persist(call, "s3://silent/k cannot be read", InputError)
    assert len(tries) > before + 4, "it had answered in between"
    monkeypatch.setenv("TAMIS_RETRY_SECONDS", "soon")
    with pytest.raises(UsageError, match="it is a number of seconds, 300 by default"):
        persist(call, "s3://silent/k cannot be read", InputError)


@pytest.mark.parametrize(
    ("url", "module", "command"),
    [
        ("gs://b/x.jsonl", "gcsfs", r"pip install 'tamis\[gs\]'"),
        ("az://b/x.jsonl", "adlfs", r"pip install 'tamis\[az\]'"),
        ("s3://b/x.jsonl", "s3fs", r"pip install 'tamis\[s3\]'"),
        ("https://h/x.jsonl", "aiohttp", r"pip install 'tamis\[http\]'"),
    ],
)
def test_a_package_that_is_missing_is_named(url, module, command, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(remote, "_connected", {})
    for name in ("fsspec.implementations.http", f"{module}.core"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, url.partition("://")[0], raising=False)
    with pytest.raises(MissingExtraError, match=command):
        list_files(url)


# -- reading ahead -------------------------------------------------------------------------------------------


@given(
    st.integers(0, 3000),
    st.lists(st.tuples(st.sampled_from(["seek", "read", "into", "end"]), st.integers(0, 700)), max_size=12),
    st.none() | st.integers(0, 3000),
)
def test_a_remote_file_is_the_bytes_it_stands_for(size, steps, until):
    data = bytes(i % 251 for i in range(size))
    plain = io.BytesIO(data)
    sizes = reading._SMALL, reading._BLOCK, reading._BEYOND
    try:
        reading._SMALL, reading._BLOCK, reading._BEYOND = 16, 128, 20
        file = RemoteFile(lambda a, b: data[a:b], size, until=until)
        for what, n in steps:
            if what == "seek":
                assert file.seek(n) == plain.seek(n)
            elif what == "end":
                assert file.seek(-min(n, size), io.SEEK_END) == plain.seek(-min(n, size), io.SEEK_END)
            elif what == "read":
                assert file.read(n) == plain.read(n)
            else:
                buffer = bytearray(n)
                assert file.readinto(buffer) == len(expected := plain.read(n))
                assert buffer[: len(expected)] == expected
            assert file.tell() == plain.tell()
        assert file.read() == plain.read()
    finally:
        reading._SMALL, reading._BLOCK, reading._BEYOND = sizes


def test_blocks_are_fetched_ahead_and_little_beyond_the_end_of_the_piece():
    size, block = 100 << 20, reading._BLOCK
    asked, together, most = [], [0], [0]
    lock = threading.Lock()

    def fetch(a, b):
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
            asked.append((a, b))
        time.sleep(0.01)
        with lock:
            together[0] -= 1
        return bytes(b - a)

    file = RemoteFile(fetch, size, until=70 << 20)
    file.seek(20 << 20)
    while file.tell() < 70 << 20:
        file.read(1 << 20)
    asked.sort()
    assert [a for a, _ in asked] == [20 << 20, *[b for _, b in asked[:-1]]], "each byte once"
    assert asked[-1][1] <= (70 << 20) + reading._BEYOND
    assert max(b - a for a, b in asked) <= block
    assert most[0] == 1 + reading._AHEAD
    asked.clear()
    footer = RemoteFile(fetch, size)
    footer.seek(-8, io.SEEK_END)
    assert len(footer.read(8)) == 8
    footer.seek(size - 60_000)
    footer.read(59_000)
    assert sum(b - a for a, b in asked) < 1 << 20, "a footer does not set off reading ahead"


def test_what_fails_ahead_is_said_when_it_is_reached():
    def fetch(a, b):
        if a >= 16 << 20:
            raise InputError("it changed")
        return bytes(b - a)

    file = RemoteFile(fetch, 40 << 20, until=40 << 20)
    assert len(file.read(16 << 20)) == 16 << 20
    with pytest.raises(InputError, match="it changed"):
        file.read(1)


# -- S3 ------------------------------------------------------------------------------------------------------


def test_a_bucket_is_listed_as_a_folder_is(server: S3Server, tmp_path: Path):
    bucket = server.bucket("listing")
    kept = ["b.jsonl", "a.jsonl.gz", "c.ndjson.zst", "sub/a.jsonl", "sub/deep/d.JSONL", "odd [1]*?+ é.jsonl"]
    left = [
        "notes.txt",
        "README",
        ".hid.jsonl",
        "_tmp.jsonl",
        "_tamis/x.jsonl",
        ".git/x.jsonl",
        "sub/_x/y.jsonl",
        "sum.json",
    ]
    for name in kept + left:
        server.put(bucket, f"in/{name}", b'{"text":"a"}\n')
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b'{"text":"a"}\n')
    server.put(bucket, "in/", b"")  # what some tools put for a folder
    server.put(bucket, "input.jsonl", b"")
    root, url = str(tmp_path / "in"), f"s3://{bucket}/in"

    def names(path, **options):
        return [(f.name, f.size, f.format, f.compression) for f in list_files(path, **options)]

    assert sorted(n for n, *_ in names(url)) == sorted(kept)
    for below in [
        "",
        "/",
        "/[bc].*",
        "/**/a.json*",
        "/s?b/*.jsonl",
        "/sub",
        "/b.jsonl",
        "/README",
        "/.hid.jsonl",
        "/*.jsonl",
    ]:
        assert names(url + below) == names(root + below), below
    assert names(url, recursive=False) == names(root, recursive=False)
    assert names([url + "/b.jsonl", url]) == names([root + "/b.jsonl", root])
    assert names(f"{url}/{kept[-1]}") == names(f"{root}/{kept[-1]}"), "a key with glob characters that exists is a key"
    assert all(f.version and f.path == f"s3://{bucket}/in/{f.name}" for f in list_files(url))
    assert len(list_files(f"s3://{bucket}")) == len(kept) + 1, "a whole bucket"
    for path, says in [
        (f"s3://{bucket}/nowhere", "does not exist"),
        (f"s3://{bucket}/in/b.jsnl", "does not exist"),
        (f"s3://{bucket}/in/*.csv", "no file matches"),
        ("s3://no-such-bucket/x", "does not exist"),
        (f"s3://{bucket}/in/_tamis/..", "does not exist|holds no files"),
    ]:
        with pytest.raises(InputError, match=says):
            list_files(path)


def test_a_hundred_thousand_objects_are_listed_by_pages_in_bounded_time_and_memory(server: S3Server):
    server.faults.huge = 100_000
    list_files(f"s3://{HUGE}/in/0000/0000000.json*")  # imports and the client
    server.faults.requests.clear()
    began = time.process_time()
    files = list_files(f"s3://{HUGE}/in")
    seconds = time.process_time() - began
    assert len(files) == 100_000
    assert files[-1].name == "0099/0099999.jsonl"
    assert len(server.faults.requests) <= 101, "no request per object"
    assert seconds < 40, f"{seconds:.0f} s of processor time; 4 to 7 are usual, the server's included"
    assert len(make_splits(files, split_size=1000)) > 4000
    server.faults.huge = 5000
    server.faults.rates, server.faults.seed = {"503": 0.2, "reset": 0.2}, 3
    tracemalloc.start()
    assert list_files(f"s3://{HUGE}/in") == files[:5000], "a page that fails is asked for again"
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert server.faults.injected.total() > 0
    assert peak < 12e6, f"{peak / 1e6:.0f} MB for 5,000 objects"


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_reading_through_faults_gives_every_document(server: S3Server, kind, monkeypatch):
    monkeypatch.setattr(remote, "_FIRST_PAUSE", 0.002)
    monkeypatch.setattr(reading, "_SMALL", 4 << 10)
    monkeypatch.setattr(reading, "_BLOCK", 16 << 10)
    bucket = server.bucket(f"faulty-{kind.replace('.', '-')}")
    server.put(bucket, f"in/a.{kind}", content(kind))
    server.faults.rates = {"503": 0.1, "500": 0.1, "reset": 0.1, "half": 0.1}
    while len(server.faults.injected) < 4:
        assert numbers(list_files(f"s3://{bucket}/in")) == list(range(2000))


def content(kind):
    """The documents in a format."""
    if kind == "jsonl":
        return LINES
    if kind == "jsonl.gz":
        return gzip.compress(LINES)
    sink = io.BytesIO()
    rows = [json.loads(line) for line in LINES.splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=300, compression="none")
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
@pytest.mark.parametrize("how", ["replaced", "shrunk", "grown", "removed", "emptied"])
def test_an_object_that_is_another_one_by_now_is_refused(server: S3Server, kind, how):
    bucket = server.bucket(f"changes-{how}-{kind.replace('.', '-')}")
    data = content(kind)
    server.put(bucket, f"a.{kind}", data)
    files = list_files(f"s3://{bucket}/a.{kind}")
    splits = make_splits(files, split_size=20_000)
    if how == "removed":
        server._backend.delete_object(bucket, f"a.{kind}")
    else:
        anew = {
            "replaced": data[:1000] + bytes([data[1000] ^ 1]) + data[1001:],
            "shrunk": data[: len(data) // 3],
            "grown": data * 2,
            "emptied": b"",
        }
        server.put(bucket, f"a.{kind}", anew[how])
    says = "does not exist any more" if how == "removed" else "changed since it was listed.*--fresh"
    pieces = [piece for split in splits for piece in split.pieces]
    with pytest.raises(InputError, match=rf"s3://{bucket}/a.{kind} {says}"):
        [list(read_piece(piece, WANT)) for piece in pieces]


def test_an_object_that_is_replaced_between_two_blocks_is_refused(server: S3Server, monkeypatch):
    monkeypatch.setattr(reading, "_SMALL", 4 << 10)
    monkeypatch.setattr(reading, "_BLOCK", 8 << 10)
    bucket = server.bucket("replaced-while-read")
    server.put(bucket, "a.jsonl", LINES)
    (file,) = list_files(f"s3://{bucket}/a.jsonl")
    with open_input(file) as opened:
        opened.read(1000)
        server.put(bucket, "a.jsonl", LINES.replace(b"document", b"Document"))
        with pytest.raises(InputError, match="changed since it was listed: its tag is another one"):
            opened.read()


def test_an_empty_object_is_read_and_held_to_its_version(server: S3Server):
    bucket = server.bucket("empty-object")
    server.put(bucket, "a.jsonl", b"")
    (file,) = list_files(f"s3://{bucket}/a.jsonl")
    with open_input(file) as opened:
        assert opened.read() == b""
    server.put(bucket, "a.jsonl", LINES)
    with pytest.raises(InputError, match="changed"), open_input(file):
        pass


def test_footers_of_many_parquet_files_are_read_together(server: S3Server):
    bucket = server.bucket("footers")
    data = content("parquet")
    for i in range(24):
        server.put(bucket, f"in/{i:02}.parquet", data)
    files = list_files(f"s3://{bucket}/in")
    together, most, lock = [0], [0], threading.Lock()
    inner = server._app._answered

    def answered(*arguments):
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        try:
            time.sleep(0.03)
            return inner(*arguments)
        finally:
            with lock:
                together[0] -= 1

    server._app._answered = answered
    try:
        splits = make_splits(files, split_size=20_000)
    finally:
        del server._app._answered
    assert most[0] >= 8
    pieces = [piece for split in splits for piece in split.pieces]
    assert [p.file for p in pieces] == sorted((p.file for p in pieces), key=lambda f: f.path)
    assert len(pieces) == 24 * len([p for p in pieces if p.file == files[0]]) > 24


def test_a_refusal_and_missing_credentials_are_said_plainly(server: S3Server, monkeypatch):
    bucket = server.bucket("refused")
    server.put(bucket, "a.jsonl", LINES)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(InputError, match=r"no credentials were found\. For S3, set AWS_ACCESS_KEY_ID"):
        list_files(f"s3://{bucket}/a.jsonl")


# -- web servers ---------------------------------------------------------------------------------------------


class Web(BaseHTTPRequestHandler):
    """A web server that can do more or less, by the first folder of the path."""

    files: ClassVar[dict[str, bytes]] = {}
    cuts: ClassVar[list[int]] = []
    """After so many bytes of the body, the connection of a next request ends."""
    seen: ClassVar[list[str]] = []

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        mode, _, rest = self.path.lstrip("/").partition("/")
        name = rest.partition("?")[0]
        Web.seen.append(f"{self.command} {self.path} {self.headers.get('Range', '')}")
        if mode == "forbidden" or ("needs" in mode and "X-Amz-Signature=good" not in rest):
            self.send_error(403)
            return
        if name.endswith("/") or not name:
            links = "".join(f'<a href="/{mode}/{n}">{n}</a>' for n in Web.files)
            self.answer(200, {"Content-Type": "text/html"}, f"<html>{links}</html>".encode())
            return
        if name not in Web.files:
            self.send_error(404)
            return
        data = Web.files[name]
        headers = {"ETag": f'"{hash(data)}"'} if mode != "bare" else {}
        asked = self.headers.get("Range")
        if mode in {"ranges", "needs"} and asked:
            first, last = asked.removeprefix("bytes=").split("-")
            begin, end = int(first), min(int(last) + 1, len(data))
            if begin >= len(data):
                self.answer(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
                return
            self.answer(206, headers | {"Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"}, data[begin:end])
        elif mode == "endless":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i in range(0, len(data), 5000):
                part = data[i : i + 5000]
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                if Web.cuts:
                    Web.cuts.pop()
                    return
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.answer(200, headers, data)

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if Web.cuts and len(body) > 1:
            body = body[: Web.cuts.pop()]
        self.wfile.write(body)

    protocol_version = "HTTP/1.1"

    def finish(self):
        with contextlib.suppress(OSError):
            super().finish()

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except OSError:  # who asked has gone
            self.close_connection = True
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def web(monkeypatch):
    """The address of a running web server."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TAMIS_RETRY_SECONDS", "5")
    monkeypatch.setattr(remote, "_FIRST_PAUSE", 0.005)
    Web.files = {"a.jsonl": LINES, "b.jsonl.gz": content("jsonl.gz"), "c.parquet": content("parquet"), "e.jsonl": b""}
    Web.cuts, Web.seen = [], []
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("mode", ["ranges", "whole", "bare", "endless"])
@pytest.mark.parametrize("name", ["a.jsonl", "b.jsonl.gz", "c.parquet"])
def test_any_web_server_gives_every_document(web, mode, name, monkeypatch):
    monkeypatch.setattr(reading, "_SMALL", 4 << 10)
    monkeypatch.setattr(reading, "_BLOCK", 16 << 10)
    files = list_files(f"{web}/{mode}/{name}")
    assert files[0].ranges == (mode == "ranges")
    assert files[0].size == (0 if mode == "endless" else len(Web.files[name]))
    Web.cuts = [3000, 900, 200]
    assert numbers(files) == list(range(2000))
    assert not Web.cuts
    splits = make_splits(files, split_size=10_000)
    assert (len(splits) > 1) == (mode == "ranges" and not name.endswith("gz")), "never cut without ranges"


def test_a_page_of_links_a_pattern_and_what_is_missing(web):
    assert [f.name for f in list_files(f"{web}/ranges/", format="jsonl")] == ["a.jsonl", "b.jsonl.gz", "e.jsonl"]
    assert [f.name for f in list_files(f"{web}/ranges/*.jsonl")] == ["a.jsonl", "e.jsonl"]
    (empty,) = list_files(f"{web}/ranges/e.jsonl")
    assert (empty.size, empty.ranges) == (0, True)
    assert numbers([empty]) == []
    Web.seen.clear()
    list_files(f"{web}/whole/a.jsonl")
    assert len(Web.seen) == 1, "a file is not fetched to look for links in it"
    with pytest.raises(InputError, match=r"ranges/z.jsonl does not exist"):
        list_files(f"{web}/ranges/z.jsonl")
    with pytest.raises(InputError, match=r"forbidden/a.jsonl cannot be read: no permission \(403 Forbidden\)"):
        list_files(f"{web}/forbidden/a.jsonl")


@pytest.mark.parametrize("mode", ["ranges", "whole"])
def test_a_file_on_a_web_server_that_changes_is_refused(web, mode):
    files = list_files(f"{web}/{mode}/a.jsonl")
    Web.files["a.jsonl"] = LINES.replace(b"document", b"Document")
    with pytest.raises(InputError, match="changed since it was listed"):
        numbers(files)
    Web.files["a.jsonl"] = LINES[:-100]
    with pytest.raises(InputError, match="changed since it was listed"):
        numbers(files)


def test_a_signed_address_works_and_leaves_no_trace_of_its_signature(web, tmp_path):
    Web.files["a.jsonl"] = LINES + b"not JSON\n"
    url = f"{web}/needs/a.jsonl?X-Amz-Signature=good&X-Amz-Expires=60"
    dataset = DocumentDataset.read_json(url)
    assert dataset.to_json(tmp_path / "out", workers=1, split_size=30_000, progress="off").tally.kept == 2000
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or b"Signature" not in path.read_bytes(), path
    assert b"needs/a.jsonl" in (tmp_path / "out/_quarantine/records.jsonl").read_bytes()
    Web.files.clear()
    with pytest.raises(InputError) as caught:
        dataset.to_json(tmp_path / "again", workers=1, progress="off")
    assert "good" not in str(caught.value)
    with pytest.raises(InputError, match="no permission") as caught:
        list_files(url.replace("good", "bad-one"))
    assert "bad-one" not in f"{caught.value} {caught.value.__cause__}"
