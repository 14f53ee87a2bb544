"""What lies behind a URL: connecting, trying again, and reading in blocks.

Networks and object stores fail for seconds or minutes all the time: throttling (503 SlowDown, 429), errors of theirs
(5xx), connections that are reset, stall or cannot be made. Everything here is tried again, with pauses that grow
from 0.1 to 20 s, until :data:`GIVE_UP_AFTER` seconds have gone by without an answer. What waiting cannot mend (no such
object, no permission, no credentials) is said at once.

Whatever is said, raised or kept names a URL without its secrets: passwords and signatures stay apart (:func:`parted`).
"""

from __future__ import annotations

import errno
import math
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import fsspec

from tamis.errors import InputError, MissingExtraError, OutputError, TamisError, UsageError
from tamis.hashing import uniform

__all__ = [
    "GIVE_UP_AFTER",
    "connect",
    "in_background",
    "is_http",
    "is_s3",
    "object_pages",
    "parted",
    "patience",
    "persist",
    "plainly",
]

GIVE_UP_AFTER = 300.0
"""Seconds without any answer after which a request is given up. ``TAMIS_RETRY_SECONDS`` in the environment wins."""
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 20.0
_UNKNOWN_HOST = 30.0
"""Seconds for a host whose name nobody knows: more likely a wrong name than a fault that passes."""

_EXTRAS = {
    "s3": ("s3fs", "s3"),
    "s3a": ("s3fs", "s3"),
    "gs": ("gcsfs", "gs"),
    "gcs": ("gcsfs", "gs"),
    "az": ("adlfs", "az"),
    "abfs": ("adlfs", "az"),
    "abfss": ("adlfs", "az"),
    "http": ("aiohttp", "http"),
    "https": ("aiohttp", "http"),
    "hf": ("huggingface_hub", "models"),
}
"""The package behind a scheme, and the extra that brings it."""

T = TypeVar("T")


def scheme_of(url: str) -> str:
    """What stands before ``://``."""
    return url.partition("://")[0].lower()


def is_s3(url: str) -> bool:
    """Whether Amazon's protocol is spoken there, by whoever."""
    return scheme_of(url) in {"s3", "s3a"}


def is_http(url: str) -> bool:
    """Whether it is a plain web server."""
    return scheme_of(url) in {"http", "https"}


# -- secrets -------------------------------------------------------------------------------------------------

_TELLS = re.compile(r"sig|token|key|credential|password|secret|auth|policy", re.IGNORECASE)
_QUERY = re.compile(r"(\w+://[^\s'\"?]*)\?[^\s'\"]*")
_USER = re.compile(r"(?<=://)[^\s'\"/@]+:[^\s'\"/@]*@|(?<=http://|ttps://)[^\s'\"/@]+@")


def parted(url: str) -> tuple[str, str]:
    """A URL without its secrets, and the whole URL where that is something else, else "".

    Secret are a password before the host and, for web servers, a query that carries a signature, a token or a key.

    >>> parted("https://h/a.jsonl?page=2")
    ('https://h/a.jsonl?page=2', '')
    >>> parted("https://h/a.jsonl?X-Amz-Signature=abc")
    ('https://h/a.jsonl', 'https://h/a.jsonl?X-Amz-Signature=abc')
    """
    if "::" in url or "@" not in url + "@" * is_http(url):
        return url, ""
    found = urlsplit(url)
    user, at, host = found.netloc.rpartition("@")
    netloc = host if at and (":" in user or is_http(url)) else found.netloc
    query = found.query
    if is_http(url) and any(_TELLS.search(name) for name, _ in parse_qsl(query, keep_blank_values=True)):
        query = ""
    if (netloc, query) == (found.netloc, found.query):
        return url, ""
    return urlunsplit((found.scheme, netloc, found.path, query, "")), url


def plainly(error: BaseException) -> str:
    """What an error of a store says, in a few words and without secrets."""
    status = status_of(error)
    response = getattr(_root(error), "response", None)
    if isinstance(response, dict):
        said = response.get("Error", {})
        text = ": ".join(str(said[k]) for k in ("Code", "Message") if said.get(k))
    elif status is not None and getattr(error, "message", None):
        text = f"{status} {error.message}"  # type: ignore[attr-defined]
    else:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = _USER.sub("", _QUERY.sub(r"\1", " ".join(str(text).split())))
    return text[:300].rstrip(". ")


# -- trying again --------------------------------------------------------------------------------------------

_PASSING = {408, 409, 425, 429}
_NEVER = {501, 505}
_PASSING_CODES = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestTimeout",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "InternalError",
    "ServiceUnavailable",
    "OperationAborted",
    "ConditionalRequestConflict",
}
_PASSING_ERRNOS = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETRESET,
    errno.ENETUNREACH,
    errno.EPIPE,
    errno.ETIMEDOUT,
    getattr(errno, "EREMOTEIO", errno.EPIPE),  # what s3fs makes of a 500
}
# By name, because none of these packages needs to be installed: botocore, aiohttp, httpx, requests, urllib3, azure.
_PASSING_TYPES = {
    "ClientConnectionError",
    "ClientPayloadError",
    "ConnectionError",
    "FSTimeoutError",
    "HTTPClientError",
    "IncompleteRead",
    "ProtocolError",
    "ResponseParserError",
    "ResponseStreamingError",
    "ServiceRequestError",
    "ServiceResponseError",
    "Timeout",
    "TransportError",
}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from."""
    seen: set[int] = set()
    step: BaseException | None = error
    while step is not None and id(step) not in seen:
        seen.add(id(step))
        yield step
        step = step.__cause__ or step.__context__


def _root(error: BaseException) -> BaseException:
    """The error that carries the store's own answer, where one does."""
    return next((e for e in _chain(error) if isinstance(getattr(e, "response", None), dict)), error)


def _own_status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) or None
    for holder in (error, response):
        for name in ("status", "status_code", "code"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and 100 <= value < 600:
                return value
    return None


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an error, where there is one."""
    return next((status for status in map(_own_status, _chain(error)) if status is not None), None)


def code_of(error: BaseException) -> str:
    """The store's own word for what went wrong ("SlowDown"); "" where it gave none."""
    response = getattr(_root(error), "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def passing(error: BaseException) -> bool:
    """Whether waiting may mend it: the first word on that of the error and of what it came from."""
    if code_of(error) in _PASSING_CODES:
        return True
    for step in _chain(error):
        if isinstance(step, FileNotFoundError | PermissionError | FileExistsError | IsADirectoryError):
            return False
        if isinstance(step, ConnectionError | TimeoutError | socket.gaierror):
            return True
        if isinstance(step, OSError) and step.errno in _PASSING_ERRNOS:
            return True
        if any(kind.__name__ in _PASSING_TYPES for kind in type(step).__mro__):
            return True
        status = _own_status(step)
        if status is not None:
            return status in _PASSING or (status >= 500 and status not in _NEVER)
    return False


def patience() -> float:
    """Seconds without an answer after which a request is given up."""
    said = os.environ.get("TAMIS_RETRY_SECONDS")
    if said is None:
        return GIVE_UP_AFTER
    try:
        return max(float(said), 0.0)
    except ValueError as error:
        message = f"TAMIS_RETRY_SECONDS is {said!r}; it is a number of seconds, {GIVE_UP_AFTER:.0f} by default."
        raise UsageError(message) from error


class _Silence:
    """Since when a host gives nothing but failures: who asks next need not wait as long again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: dict[str, tuple[float, float]] = {}

    def answered(self, host: str) -> None:
        """Note that it works."""
        if host in self._hosts:
            with self._lock:
                self._hosts.pop(host, None)

    def failed(self, host: str, began: float) -> float:
        """Note a failure of a request that began then; returns since when there was no answer."""
        now = time.monotonic()
        with self._lock:
            since, last = self._hosts.get(host, (began, now))
            if now - last > 3 * _LONGEST_PAUSE:  # nobody has asked for long
                since = began
            self._hosts[host] = since, now
        return since


_silence = _Silence()
_HOST = re.compile(r"\w+://[^/\s]*")


def persist(call: Callable[[], T], doing: str, error: type[InputError | OutputError], *, within: float = math.inf) -> T:
    """What ``call`` returns, tried again while its failures may pass.

    Args:
        call: A request that may be repeated: a read, or a write of a whole object.
        doing: What to say when it fails for good, the URL first: "s3://bucket/key cannot be read".
        error: The class to say it with.
        within: Seconds, where less than :func:`patience` is enough.

    Raises:
        FileNotFoundError: As it comes: what is not there is for the caller to judge.
        FileExistsError: As it comes: a condition of the request did not hold.
        InputError: (or ``OutputError``) Where it does not pass, or did not in time.
    """
    began = time.monotonic()
    found = _HOST.match(doing)
    host = found[0] if found else ""
    for attempt in range(1 << 20):
        try:
            answer = call()
        except (FileNotFoundError, FileExistsError):
            _silence.answered(host)
            raise
        except TamisError:
            raise
        except Exception as caught:  # noqa: BLE001  every client library has errors of its own; they are judged here
            limit = min(patience(), within)
            if any(isinstance(step, socket.gaierror) for step in _chain(caught)):
                limit = min(limit, _UNKNOWN_HOST)
            if not passing(caught):
                raise error(_for_good(doing, caught)) from _clean(caught)
            spent = time.monotonic() - min(began, _silence.failed(host, began))
            if spent >= limit:
                raise error(_too_long(doing, caught, spent, attempt + 1)) from _clean(caught)
        else:
            _silence.answered(host)
            return answer
        pause = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE)
        drawn = uniform([f"{doing} {attempt} {os.getpid()} {threading.get_ident()}"])[0]
        time.sleep(min(pause * (0.5 + 0.5 * float(drawn)), max(limit - spent, 0.0)))
    raise AssertionError


def in_background(call: Callable[[], T]) -> Future[T]:
    """What ``call`` will return, run by a thread that does not keep the process alive."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001  raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _clean(error: Exception) -> Exception | None:
    """The error as the cause of another, unless it shows a URL with its secrets."""
    text = " ".join(str(step) for step in _chain(error))
    return None if _QUERY.search(text) or _USER.search(text) else error


def _for_good(doing: str, error: Exception) -> str:
    if type(error).__name__ in {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}:
        return (
            f"{doing}: no credentials were found. For S3, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE; docs/object-storage.md has the others."
        )
    if isinstance(error, PermissionError) or status_of(error) in {401, 403}:
        return f"{doing}: no permission ({plainly(error)}). Check the credentials and what they may do there."
    return f"{doing}: {plainly(error)}. Finished splits are kept; run again."


def _too_long(doing: str, error: Exception, spent: float, attempts: int) -> str:
    times = f"{attempts} attempts" if attempts > 1 else "one attempt"
    return (
        f"{doing}: it failed for {spent:.0f} s, {times}, the last time with: {plainly(error)}. "
        "Finished splits are kept: run the same command again when it answers."
    )


# -- connecting ----------------------------------------------------------------------------------------------

_connected: dict[tuple[object, ...], Any] = {}
_connecting = threading.Lock()


def connect(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    One per process, host and setting of the environment, whatever thread asks: a client costs 0.1 s to make.

    Raises:
        MissingExtraError: Where the package for the scheme is not installed; it says what to install.
    """
    scheme = scheme_of(url)
    settings = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith(("AWS_", "FSSPEC_", "HF_"))))
    key = (os.getpid(), scheme, urlsplit(url).netloc if scheme not in _EXTRAS else "", settings)
    chained = "::" in url
    with _connecting:
        if not chained and key in _connected:
            fs = _connected[key]
            return fs, fs._strip_protocol(url)  # noqa: SLF001  what fsspec itself calls; there is no public name
        try:
            if chained:
                return fsspec.core.url_to_fs(url)  # type: ignore[no-any-return]
            fs, root = fsspec.core.url_to_fs(url, skip_instance_cache=scheme in _EXTRAS, **_options(scheme))
        except ImportError as error:
            if scheme in _EXTRAS:
                raise MissingExtraError.of(scheme + "://", *_EXTRAS[scheme]) from error
            raise
        if is_s3(url):
            fs.retries = 1
            _read_no_dates(fs)
        _connected[key] = fs
        return fs, root


def _read_no_dates(fs: Any) -> None:
    """Leave the dates in answers as text: parsing them is 70 % of what a listing costs, 9 s for 100,000 objects.

    Nobody here looks at one; where a client has no such setting any more, listings are slower.
    """
    factory = getattr(getattr(fs.s3, "_endpoint", None), "_response_parser_factory", None)
    if factory is not None and hasattr(factory, "set_parser_defaults"):
        factory.set_parser_defaults(timestamp_parser=str)


def _options(scheme: str) -> dict[str, Any]:
    """Settings of our own, below what the user configured for fsspec."""
    configured = fsspec.config.conf.get(scheme, {})
    if is_s3(scheme + "://"):
        # Trying again is done here, where its time is bounded: not by botocore, s3fs and us, each within the other.
        config = {
            "retries": {"mode": "standard", "total_max_attempts": 1},
            "max_pool_connections": 64,
            # Stores that only resemble Amazon's refuse the newer checksums; what we send carries its MD5.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
        return {"use_listings_cache": False, "config_kwargs": config | configured.get("config_kwargs", {})}
    if is_http(scheme + "://"):
        import aiohttp  # noqa: PLC0415  an extra

        client = {
            "auto_decompress": False,  # x.jsonl.gz is to arrive as it is stored
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30),
            "trust_env": True,
        }
        headers = {"Accept-Encoding": "identity"} | configured.get("headers", {})
        return {"client_kwargs": client | configured.get("client_kwargs", {}), "headers": headers}
    return {}


def object_pages(
    fs: Any, bucket: str, prefix: str, *, doing: str, recursive: bool = True
) -> Iterator[list[tuple[str, int, str]]]:
    """The objects of a bucket whose keys begin with ``prefix``, as (key, size in bytes, tag), by pages of 1,000."""
    more: dict[str, Any] = {} if recursive else {"Delimiter": "/"}
    while True:
        request = partial(fs.call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, **more)
        page = persist(request, doing, InputError)
        yield [(found["Key"], int(found["Size"]), str(found.get("ETag", ""))) for found in page.get("Contents", [])]
        if not page.get("IsTruncated"):
            return
        more["ContinuationToken"] = page["NextContinuationToken"]
