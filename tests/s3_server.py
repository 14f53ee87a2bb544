"""A real S3 server over HTTP (moto), with faults that tests inject in front of it, in a thread of the test process."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import pytest

from tamis.hashing import uniform

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-may-ever-see",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
    "TAMIS_RETRY_SECONDS": "20",
}
XML = "http://s3.amazonaws.com/doc/2006-03-01/"
HUGE = "huge"
"""A bucket that answers listings of :attr:`Faults.huge` objects by itself: moto takes 1.5 s for a page of so many."""

Start = Callable[..., Any]


@dataclass
class Faults:
    """What goes wrong. Probabilities are per request, drawn from the seed and the number of the request."""

    rates: dict[str, float] = field(default_factory=dict)
    """By kind: "503", "500" (before anything is done), "reset" (no answer), "lost" (done, but the answer is lost),
    "half" (half of the body)."""
    seed: int = 0
    only: str = ""
    """Faults hit only requests whose method and path match this expression."""
    cut: bool = False
    huge: int = 0
    injected: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """(method, path with query) of every request, in order."""
    before: Callable[[str, str], None] | None = None
    """Called with the method and path of each request, before it is handled."""

    def draw(self, request: str) -> str | None:
        """The fault that hits the next request."""
        number = len(self.requests)
        if self.cut:
            return "reset"
        if not self.rates or not re.search(self.only, request):
            return None
        drawn = float(uniform([number], seed=self.seed)[0])
        for kind, rate in self.rates.items():
            if drawn < rate:
                self.injected[kind] += 1
                return kind
            drawn -= rate
        return None

    @contextlib.contextmanager
    def cut_off(self) -> Iterator[None]:
        """No request is answered meanwhile."""
        self.cut = True
        try:
            yield
        finally:
            self.cut = False


class _Faulty:
    """The application: faults first, then moto."""

    def __init__(self, inner: Callable[..., Iterable[bytes]], faults: Faults) -> None:
        self._inner = inner
        self.faults = faults
        self._conditional = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        path = environ["PATH_INFO"] + ("?" + environ["QUERY_STRING"] if environ["QUERY_STRING"] else "")
        faults = self.faults
        if faults.before is not None:
            faults.before(method, path)
        fault = faults.draw(f"{method} {path}")
        faults.requests.append(("COPY" if "HTTP_X_AMZ_COPY_SOURCE" in environ else method, path))
        if fault == "reset":
            _hang_up(environ)
        if fault in {"500", "503"}:
            return _error(start, fault)
        if path.startswith(f"/{HUGE}?"):
            return _listing(start, faults.huge, environ["QUERY_STRING"])
        # moto looks and writes in two steps: a store does a conditional write in one.
        conditional = "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ
        with self._conditional if conditional else contextlib.nullcontext():
            return self._answered(environ, start, fault)

    def _answered(self, environ: dict[str, Any], start: Start, fault: str | None) -> Iterable[bytes]:
        told: list[Any] = []
        completes = environ["REQUEST_METHOD"] == "POST" and "uploadId=" in environ["QUERY_STRING"]
        try:
            body = b"".join(self._inner(environ, lambda *answer: told.extend(answer)))
        except KeyError:
            if not completes:
                raise
            return _error(start, "404", "NoSuchUpload")  # moto fails on an upload that was ended
        if fault == "lost":
            _hang_up(environ)
        start(told[0], told[1])
        if fault == "half" and len(body) > 1:
            return _half(environ, body)
        return [body]


def _half(environ: dict[str, Any], body: bytes) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    _hang_up(environ)


def _hang_up(environ: dict[str, Any]) -> None:
    connection: socket.socket = environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionResetError


_CODES = {"500": ("500 Internal Server Error", "InternalError"), "503": ("503 Slow Down", "SlowDown")}


def _error(start: Start, status: str, code: str = "") -> Iterable[bytes]:
    line, usual = _CODES.get(status, (f"{status} Not Found", ""))
    body = f"<Error><Code>{code or usual}</Code><Message>Please reduce your request rate.</Message></Error>".encode()
    start(line, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def _listing(start: Start, number: int, query: str) -> Iterable[bytes]:
    first = int(parse_qs(query).get("continuation-token", ["0"])[0])
    last = min(first + 1000, number)
    keys = "".join(
        f"<Contents><Key>{escape(f'in/{i // 1000:04d}/{i:07d}.jsonl')}</Key><Size>{i % 100}</Size>"
        f'<ETag>"{i:032x}"</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>'
        for i in range(first, last)
    )
    more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < number else ""
    body = (
        f'<ListBucketResult xmlns="{XML}"><Name>{HUGE}</Name><KeyCount>{last - first}</KeyCount>'
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{keys}</ListBucketResult>"
    ).encode()
    start("200 OK", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


class S3Server:
    """A running server."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Handler(WSGIRequestHandler):
            def log(self, *_: object) -> None:
                """Say nothing."""

        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self.faults = Faults()
        self._app = _Faulty(DomainDispatcherApplication(create_backend_app), self.faults)
        self._server = make_server("127.0.0.1", 0, self._app, threaded=True, request_handler=Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.environment = ENVIRONMENT | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.port}"}

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def calm(self) -> Faults:
        """No more faults, and a new count of requests."""
        self.faults = self._app.faults = Faults()
        return self.faults

    @property
    def _backend(self) -> Any:
        from moto.s3.models import s3_backends

        return s3_backends["123456789012"]["aws"]

    def bucket(self, name: str) -> str:
        """Make a bucket, straight in the server's memory."""
        self._backend.create_bucket(name, "us-east-1")
        return name

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Put an object, straight in the server's memory."""
        self._backend.put_object(bucket, key, content)

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """What is there, by key without the prefix."""
        keys = self._backend.get_bucket(bucket).keys
        return {name[len(prefix) :]: keys[name].value for name in sorted(keys) if name.startswith(prefix)}

    def uploads(self, bucket: str) -> list[str]:
        """Keys of the uploads that are neither completed nor ended."""
        return [upload.key_name for upload in self._backend.get_bucket(bucket).multiparts.values()]


@pytest.fixture(scope="module", name="s3")
def running_server() -> Iterator[S3Server]:
    """A server, and an environment in which this process and its children find it."""
    server = S3Server()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server
    server.stop()


@pytest.fixture(name="server")
def calm_server(s3: S3Server) -> S3Server:
    """The server, calm."""
    s3.calm()
    return s3


def wait_until(true: Callable[[], object], seconds: float = 30) -> None:
    """Wait for something to happen."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
