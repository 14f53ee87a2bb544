"""An output directory on S3, or on anything that speaks its protocol.

A worker writes each output as a multipart upload onto its final key. An upload shows nothing until it is completed,
and the driver completes it when it commits the split: so nobody ever sees a part of a file, and nothing is copied.
Uploads that were not completed are no objects, but are paid for: those that a dead run left are ended by the next run
that holds the directory, and by this one when it ends.

The lock is made and renewed with conditional writes (If-None-Match, If-Match), which Amazon S3, MinIO, Ceph, Cloudflare
R2 and Google's XML interface honour.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, BinaryIO, TypeVar, cast

import orjson
from fsspec.asyn import sync

from tamis.errors import InputError, OutputError
from tamis.io.lease import LeaseObject
from tamis.io.objects import RemoteStore
from tamis.io.remote import code_of, in_background, object_pages, status_of

__all__ = ["S3Store"]

_PART = 16 << 20
"""Bytes of a part for the first :data:`_EQUAL` parts: an upload may have 10,000 parts of 5 MiB or more, and some stores
want them of one size. Later parts grow by as much every so many parts, to 2.7 TB in all."""
_EQUAL = 1000
_IN_FLIGHT = 2
"""Parts on their way while the next one is filled."""
_AT_ONCE = 32
"""Completions under way at once. One takes 30 to 100 ms, so this is 300 to 1,000 a second: what 1,000 workers with
splits of a few seconds hand in."""

T = TypeVar("T")


class S3Store(RemoteStore):
    """A directory in a bucket."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.parallel = _AT_ONCE
        self._bucket, self._prefix, _ = self._fs.split_path(self._root)
        self._written: dict[str, _Upload] = {}

    # -- requests --------------------------------------------------------------------------------------------

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    def _s3(self, method: str, **arguments: Any) -> Callable[[], Any]:
        def call() -> Any:
            try:
                return self._fs.call_s3(method, Bucket=self._bucket, **arguments)
            except FileNotFoundError as error:
                if code_of(error) == "NoSuchBucket":
                    message = (
                        f"{self.path} cannot be used: there is no bucket {self._bucket!r}. Create it first, or check "
                        "the region (AWS_DEFAULT_REGION) and the endpoint (AWS_ENDPOINT_URL)."
                    )
                    raise OutputError(message) from error
                raise

        return call

    def _put(self, key: str, content: bytes, **conditions: str) -> Callable[[], Any]:
        return self._s3("put_object", Key=key, Body=content, ContentMD5=md5_of(content), **conditions)

    def _listed(self, folder: str) -> list[tuple[str, int]]:
        """(name, bytes) of all objects below a folder."""
        return list(self._walk(folder))

    def _walk(self, folder: str) -> Iterator[tuple[str, int]]:
        prefix = self._key(f"{folder}/") if folder else self._prefix and f"{self._prefix}/"
        start = len(self._prefix) + 1 if self._prefix else 0
        try:
            for page in object_pages(self._fs, self._bucket, prefix, doing=f"{self._named(folder)} cannot be listed"):
                yield from ((key[start:], size) for key, size, _ in page)
        except FileNotFoundError:
            return  # no such bucket: said where something is written

    # -- the operations --------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        """Whether there is an object of that name, or below it."""
        if self.size(name) >= 0:
            return True
        request = self._s3("list_objects_v2", Prefix=self._key(f"{name}/"), MaxKeys=1)
        return bool(self._ask(request, name).get("Contents"))

    def names(self) -> list[str]:
        """The entries at the top."""
        prefix = self._prefix and f"{self._prefix}/"
        found: set[str] = set()
        more: dict[str, Any] = {}
        while True:
            page = self._ask(self._s3("list_objects_v2", Prefix=prefix, Delimiter="/", **more))
            found |= {entry["Key"][len(prefix) :] for entry in page.get("Contents", [])}
            found |= {entry["Prefix"][len(prefix) :].rstrip("/") for entry in page.get("CommonPrefixes", [])}
            if not page.get("IsTruncated"):
                return sorted(found - {""})
            more["ContinuationToken"] = page["NextContinuationToken"]

    def read(self, name: str) -> bytes | None:
        """The content of an object."""
        try:
            return cast("bytes", self._ask(partial(self._fs.cat_file, self._at(name), max_concurrency=1), name))
        except FileNotFoundError:
            return None

    def replace(self, name: str, content: bytes) -> None:
        """One request: the old object or the new one is seen."""
        self._write(self._put(self._key(name), content), name)

    def files(self) -> Iterator[tuple[str, int]]:
        """Every object, by pages of 1,000."""
        yield from self._walk("")

    def size(self, name: str) -> int:
        """Size in bytes."""
        try:
            return int(self._ask(self._s3("head_object", Key=self._key(name)), name)["ContentLength"])
        except FileNotFoundError:
            return -1

    def create(self, name: str, final: str | None = None) -> BinaryIO:
        """Open for writing; nothing can be seen of it before :meth:`move`.

        With ``final``, the name it will be moved to, the upload goes there, and the move copies nothing.
        """
        upload = self._written[name] = _Upload(self, self._key(final or name), eager=final is not None)
        return cast("BinaryIO", upload)

    def receipt(self, name: str) -> str:
        """What a process that did not write the file needs to move it: the upload and its parts, as JSON."""
        upload = self._written.pop(name)
        upload.send_all()
        return upload.receipt()

    def move(self, source: str, target: str) -> None:
        """Complete the upload. Where it went to another key, the object is copied there by the store."""
        if source in self._written:
            upload = self._written.pop(source)
            if not upload.begun:
                self.replace(target, upload.held())
                return
            upload.send_all()
            self._complete(orjson.loads(upload.receipt()), target)
        elif source.startswith("{"):
            self._complete(orjson.loads(source), target)
        else:
            self._copy(self._key(source), target)

    def _complete(self, receipt: dict[str, Any], target: str) -> None:
        if not receipt["parts"]:  # an upload has a part at least
            self.replace(target, b"")
            return
        key = receipt["key"]
        parts = [{"PartNumber": i, "ETag": f'"{tag}"'} for i, tag in enumerate(receipt["parts"], 1)]
        request = self._s3(
            "complete_multipart_upload", Key=key, UploadId=receipt["upload"], MultipartUpload={"Parts": parts}
        )
        try:
            self._write(request, target)
        except FileNotFoundError as error:
            # Completed already, where the answer to an earlier try was lost.
            if self._size_of(key) != receipt["bytes"]:
                message = (
                    f"{self._named(target)} cannot be written: its upload was ended by somebody else. If another run "
                    "is at work on this directory, wait for it; then run again: finished splits are kept."
                )
                raise OutputError(message) from error
        if key != self._key(target):
            self._copy(key, target)

    def _size_of(self, key: str) -> int:
        try:
            return int(self._ask(self._s3("head_object", Key=key))["ContentLength"])
        except FileNotFoundError:
            return -1

    def _copy(self, key: str, target: str) -> None:
        places = f"{self._bucket}/{key}", self._at(target)
        try:
            self._write(partial(self._fs.cp_file, *places), target)
        except FileNotFoundError:
            if self.size(target) < 0:  # else the answer to an earlier try was lost
                raise
        self._write(self._s3("delete_object", Key=key), target)

    def _remove(self, name: str) -> None:
        self._write(self._s3("delete_object", Key=self._key(name)), name)
        keys = (self._key(file) for file, _ in self._listed(name))
        while some := list(itertools.islice(keys, 1000)):
            entries = {"Objects": [{"Key": key} for key in some], "Quiet": True}
            answer = self._write(self._s3("delete_objects", Delete=entries), name)
            for failed in answer.get("Errors", [])[:1]:
                message = f"{self._named(name)} cannot be deleted: {failed.get('Code')} ({failed.get('Message')})."
                raise OutputError(message)

    # -- leftovers and the lock ------------------------------------------------------------------------------

    def uploads(self, *, within: float = math.inf) -> Iterator[tuple[str, str]]:
        """(key, id) of the uploads below the directory that were begun and neither completed nor ended."""
        prefix = self._prefix and f"{self._prefix}/"
        more: dict[str, Any] = {}
        while True:
            page = self._ask(self._s3("list_multipart_uploads", Prefix=prefix, **more), within=within)
            yield from ((found["Key"], found["UploadId"]) for found in page.get("Uploads", []))
            if not page.get("IsTruncated"):
                return
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def _sweep(self, *, within: float = math.inf) -> None:
        try:
            found = list(self.uploads(within=within))
        except InputError as error:
            if status_of(error) in {403, 405, 501}:
                return  # no right to list them, or the store cannot: a rule of the bucket has to clear them away
            raise

        def end(upload: tuple[str, str]) -> None:
            with contextlib.suppress(FileNotFoundError):  # ended or completed in between
                request = self._s3("abort_multipart_upload", Key=upload[0], UploadId=upload[1])
                self._write(request, within=within)

        for _ in self._together(end, found):
            pass

    def _lease_object(self, name: str) -> LeaseObject:
        return _ConditionalObject(self, self._key(name))


def md5_of(content: bytes | bytearray | memoryview) -> str:
    """For the Content-MD5 header: a store refuses what was damaged on its way."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


class _Upload(io.RawIOBase):
    """A file that is written as a multipart upload, begun when the first part is full.

    An eager one is for another process to complete, and is sent as a whole when it is closed; of another one the last
    bytes stay here, so that a small file is one request when it is moved.
    """

    def __init__(self, store: S3Store, key: str, *, eager: bool) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._eager = eager
        self._held = bytearray()
        self._size = 0
        self._upload = ""
        self._parts: list[str] = []
        self._flying: deque[Future[str]] = deque()
        self._failed = False

    @property
    def begun(self) -> bool:
        """Whether the store knows of it."""
        return bool(self._upload)

    def held(self) -> bytes:
        """What has not been sent."""
        return bytes(self._held)

    def writable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Bytes written."""
        return self._size

    def write(self, data: Any) -> int:
        """Take all of it; what fills a part is sent."""
        view = memoryview(data).cast("B")
        self._held += view
        self._size += view.nbytes
        while len(self._held) >= (size := _PART * (1 + (len(self._parts) + len(self._flying)) // _EQUAL)):
            self._send(bytes(self._held[:size]))
            del self._held[:size]
        return view.nbytes

    def _send(self, part: bytes) -> None:
        if not self._upload:
            request = self._store._s3("create_multipart_upload", Key=self._key)  # noqa: SLF001  its other half
            self._upload = self._store._write(request, "")["UploadId"]  # noqa: SLF001
        while len(self._flying) >= _IN_FLIGHT:
            self._land()
        self._flying.append(in_background(partial(self._put, len(self._parts) + len(self._flying) + 1, part)))

    def _put(self, number: int, part: bytes) -> str:
        request = self._store._s3(  # noqa: SLF001
            "upload_part",
            Key=self._key,
            UploadId=self._upload,
            PartNumber=number,
            Body=part,
            ContentMD5=md5_of(part),
        )
        try:
            return str(self._store._write(request, "")["ETag"]).strip('"')  # noqa: SLF001
        except FileNotFoundError as error:
            message = (
                f"{self._store.path} cannot be written: the upload of {self._key} was ended by somebody else. If "
                "another run is at work on this directory, wait for it; then run again: finished splits are kept."
            )
            raise OutputError(message) from error

    def _land(self) -> None:
        try:
            self._parts.append(self._flying.popleft().result())
        except BaseException:
            self._failed = True
            raise

    def send_all(self) -> None:
        """Send what is left, and wait for all parts."""
        if self._held:
            self._send(bytes(self._held))
            self._held.clear()
        while self._flying:
            self._land()

    def receipt(self) -> str:
        """What is needed to complete it."""
        told = {"key": self._key, "upload": self._upload, "parts": self._parts, "bytes": self._size}
        return orjson.dumps(told).decode()

    def close(self) -> None:
        """Send what is left of an eager one; nothing more once a part has failed."""
        if not self.closed:
            try:
                if self._eager and not self._failed:
                    self.send_all()
            finally:
                super().close()


class _ConditionalObject:
    """A lease on S3: every write says what it takes to be there."""

    def __init__(self, store: S3Store, key: str) -> None:
        self._store = store
        self._key = key

    def look(self) -> tuple[bytes, str] | None:
        """The content and its ETag."""
        store = self._store

        async def get() -> tuple[bytes, str]:
            answer = await store._fs._call_s3("get_object", Bucket=store._bucket, Key=self._key)  # noqa: SLF001
            try:
                return await answer["Body"].read(), answer["ETag"]
            finally:
                answer["Body"].close()

        try:
            return cast("tuple[bytes, str]", sync(store._fs.loop, get))  # noqa: SLF001
        except FileNotFoundError:
            return None

    def make(self, content: bytes) -> str | None:
        """Only where there is none."""
        return self._put(content, IfNoneMatch="*")

    def renew(self, content: bytes, tag: str) -> str | None:
        """Only where it has this ETag."""
        return self._put(content, IfMatch=tag)

    def _put(self, content: bytes, **condition: str) -> str | None:
        try:
            return str(self._store._put(self._key, content, **condition)()["ETag"])  # noqa: SLF001
        except OSError as error:
            if status_of(error) in {404, 412}:
                return None
            raise

    def drop(self) -> None:
        """Delete it."""
        self._store._s3("delete_object", Key=self._key)()  # noqa: SLF001
