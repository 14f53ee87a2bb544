"""Finding the input: files, folders, globs and fsspec URLs become a sorted list of files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from fsspec.utils import glob_translate

from tamis.errors import InputError, TamisError, UsageError, hint
from tamis.io.layouts import Layout
from tamis.io.reading import Seen, open_remote, probe, tag_of, urlpath
from tamis.io.remote import connect, is_http, is_s3, object_pages, parted, persist, plainly

__all__ = ["EXTENSIONS", "InputFile", "get_all_files_paths_under", "line_number", "list_files", "open_input"]

EXTENSIONS = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".xml": "xml",
}
"""Format by file name extension."""
_PACKED = {".gz": "gz", ".zst": "zst", ".zstd": "zst", ".zip": "zip"}


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of documents."""

    path: str
    """An absolute local path, or a URL without its secrets: what is shown, compared and written down."""
    name: str
    """Path below the folder that all inputs share, '/'-separated: tells equal names in two folders apart."""
    size: int
    """Bytes as stored."""
    version: str
    """Changes when the content does: modification time, or the store's tag."""
    format: str
    compression: str | None = None
    ranges: bool = True
    """Whether a part of it can be read by itself; a web server may send only the whole."""
    secret: str = field(default="", repr=False)
    """The whole URL, where it holds what :attr:`path` must not show."""
    layout: Layout | None = None
    """How its rows are to be understood, where the format does not say."""


def kind_of(path: str) -> tuple[str | None, str | None]:
    """(format, compression) by extension; the format is ``None`` where the extension is unknown.

    >>> kind_of("a/b.jsonl.gz")
    ('jsonl', 'gz')
    """
    name = path.rsplit("/", 1)[-1].lower()
    packed = next((c for e, c in _PACKED.items() if name.endswith(e)), None)
    if packed:
        name = name.rsplit(".", 1)[0]
    extension = "." + name.rsplit(".", 1)[-1] if "." in name else ""
    return EXTENSIONS.get(extension), packed


def open_input(file: str | InputFile, *, until: int | None = None) -> BinaryIO:
    """Open a local path or URL for reading, unbuffered.

    What lies behind a URL is read in blocks, ahead of the reader, and held to the size and version of an
    :class:`InputFile`: where it is something else by now, that is an :class:`InputError` (:mod:`tamis.io.reading`).
    ``until`` is where the reader means to stop, so that not much more is fetched.
    """
    path = file if isinstance(file, str) else file.path
    if "://" not in path:
        return cast("BinaryIO", Path(path).open("rb", buffering=0))
    if isinstance(file, str):
        return open_remote(path, until=until)
    seen = Seen(file.size if file.size or file.ranges else -1, file.version, file.ranges)
    return open_remote(
        file.secret or path, seen, until=until, seekable=file.format == "parquet" or file.compression == "zip"
    )


def line_number(path: str, offset: int) -> int:
    """The line, from 1, in which a byte of an uncompressed file lies; reads the file up to there."""
    line = 1
    with open_input(path) as file:
        while offset > 0 and (block := file.read(min(offset, 1 << 20))):
            line += block.count(b"\n")
            offset -= len(block)
    return line


@dataclass(frozen=True, slots=True)
class _Found:
    path: str
    size: int
    version: str
    ranges: bool = True
    secret: str = ""


def list_files(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    format: str | None = None,
    recursive: bool = True,
) -> tuple[InputFile, ...]:
    """Every input file, sorted by path, each once.

    Args:
        paths: A file, a folder, a glob (``**`` too), an fsspec URL, or a list of these. Names in folders that
            begin with "_" or "." are left out, as are files of unknown extension; a file named by itself is
            read whatever it is called.
        format: "jsonl", "parquet", "csv" or "xml"; by default what the extensions say. Folders are searched for it.
        recursive: Whether to look into folders of folders.

    Raises:
        InputError: Where nothing is there, nothing can be read, or the formats are mixed.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        message = "no input: the list of paths is empty."
        raise UsageError(message)
    found: dict[str, tuple[_Found, str, str | None]] = {}
    for path in [os.fspath(p) for p in given]:
        for file in _expand(path, format, recursive=recursive):
            kind, packed = kind_of(file.path)
            found[file.path] = (file, kind or format or "jsonl", packed)
    kinds = {kind for _, kind, _ in found.values()}
    if len(kinds) > 1:
        message = f"the input mixes {' and '.join(sorted(kinds))} files; read one format at a time (format=...)."
        raise InputError(message)
    if format is not None and kinds - {format}:
        message = f"these are {kinds.pop()} files, and {format} was asked for: {next(iter(found))}."
        raise InputError(message)
    root = _common_folder(list(found))
    return tuple(
        InputFile(path, path[len(root) :], file.size, file.version, kind, packed, file.ranges, file.secret)
        for path, (file, kind, packed) in sorted(found.items())
    )


def _common_folder(paths: Sequence[str]) -> str:
    """The longest folder prefix, with its trailing slash."""
    folders = [path.rsplit("/", 1)[0].split("/") for path in paths]
    shared = []
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared) + "/"


def _expand(path: str, format: str | None, *, recursive: bool) -> Iterator[_Found]:
    if "://" in path and not path.startswith("file://"):
        yield from _remote(path, format, recursive=recursive)
        return
    local = Path(path.removeprefix("file://")).expanduser().absolute()
    try:
        is_folder, is_there = local.is_dir(), local.exists()
    except OSError as error:  # a folder above that may not be entered
        raise InputError(_unreadable(path, error)) from error
    if is_folder:
        yield from _wanted(path, format, _walk(local, recursive=recursive))
    elif is_there:
        yield _local(local)
    elif any(c in path for c in "*?["):
        matches = sorted(p for p in Path(local.anchor).glob(str(local.relative_to(local.anchor))) if p.is_file())
        if not matches:
            message = f"no file matches {path}."
            raise InputError(message)
        yield from map(_local, matches)
    else:
        beside = [p.name for p in local.parent.iterdir()] if local.parent.is_dir() else []
        also = f" {hint(local.name, beside)}" if beside else f" The folder {local.parent} does not exist either."
        message = f"{path} does not exist.{also}"
        raise InputError(message)


def _local(path: Path) -> _Found:
    try:
        with path.open("rb"):
            status = path.stat()
    except OSError as error:
        raise InputError(_unreadable(str(path), error)) from error
    return _Found(str(path), status.st_size, str(status.st_mtime_ns))


def _unreadable(path: str, error: OSError) -> str:
    return f"{path} cannot be read: {error.strerror or error}. Check its permissions."


def _walk(folder: Path, *, recursive: bool, above: frozenset[Path] = frozenset()) -> Iterator[_Found]:
    try:
        real = folder.resolve()
        entries = [(entry, entry.is_dir()) for entry in sorted(folder.iterdir())]
    except OSError as error:
        raise InputError(_unreadable(str(folder), error)) from error
    if real in above:
        return  # a link to a folder that it lies in
    for entry, is_folder in entries:
        if entry.name.startswith(("_", ".")):
            continue
        if is_folder:
            if recursive:
                yield from _walk(entry, recursive=True, above=above | {real})
        elif kind_of(entry.name)[0] is not None:
            yield _local(entry)


def _wanted(path: str, format: str | None, files: Iterable[_Found]) -> Iterator[_Found]:
    """Those of the format, or a complaint that says what is there."""
    found = list(files)
    if any(not _is_json(f.path) for f in found):
        # Beside files of documents, a .json is a note about them (a summary, a schema), not documents.
        found = [f for f in found if not _is_json(f.path)]
    chosen = [f for f in found if format is None or kind_of(f.path)[0] == format]
    if not chosen:
        what = f"{format} files" if format else f"files of documents ({', '.join(EXTENSIONS)})"
        there = f"; it holds {len(found)} {kind_of(found[0].path)[0]} files" if found else ""
        message = f"{path} holds no {what}{there}. Names that begin with '_' or '.' are left out."
        raise InputError(message)
    yield from chosen


def _is_json(path: str) -> bool:
    return path.lower().endswith((".json", *(f".json{packed}" for packed in _PACKED)))


_MAGIC = re.compile(r"[*?\[]")
_AT_A_TIME = 16
"""Web servers have no listing that says sizes: so many files are asked for at a time."""


def _remote(url: str, format: str | None, *, recursive: bool) -> Iterator[_Found]:
    shown = parted(url)[0]
    list_them = _on_web_server if is_http(url) else _in_bucket if is_s3(url) else _behind
    try:
        root, files = list_them(url, recursive=recursive)
    except FileNotFoundError as error:
        message = f"{shown} does not exist."
        raise InputError(message) from error
    except TamisError:
        raise
    except (ImportError, OSError, ValueError) as error:
        message = f"{shown} cannot be listed: {plainly(error)}"
        raise InputError(message) from error
    if root is not None:
        yield from _wanted(shown, format, [file for file in files if _is_open(file.path, root)])
        return
    if not files:
        message = f"no file matches {shown}."
        raise InputError(message)
    yield from files


def _is_open(path: str, root: str) -> bool:
    """Whether a file below a folder is one of documents, and not hidden."""
    below = path[len(root) :].strip("/").split("/")
    return kind_of(path)[0] is not None and not any(part.startswith(("_", ".")) for part in below)


Listing = tuple[str | None, list[_Found]]
"""(the folder that the files lie in, or None where they were named or matched; the files)."""


def _behind(url: str, *, recursive: bool) -> Listing:
    """Anything that fsspec knows."""
    fs, root = connect(url)

    def find() -> tuple[bool, dict[str, Any]]:
        if _MAGIC.search(root):
            return False, {n: i for n, i in fs.glob(root, detail=True).items() if i.get("type") != "directory"}
        if fs.isdir(root):
            return True, fs.find(root, maxdepth=None if recursive else 1, detail=True)
        return False, {root: fs.info(root)}

    is_folder, found = persist(find, f"{parted(url)[0]} cannot be listed", InputError)
    files = []
    for name, info in found.items():
        path, secret = parted(_url_of(fs, name, url))
        files.append(_Found(path, int(info.get("size") or 0), tag_of(info), secret=secret))
    return (parted(_url_of(fs, root, url))[0] if is_folder else None), files


def _url_of(fs: Any, name: str, url: str) -> str:
    """The URL of a path; some file systems forget the host."""
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0]
    whole = str(fs.unstrip_protocol(name))
    return whole if not host or host in whole else f"{scheme}://{host}/{name.lstrip('/')}"


def _in_bucket(url: str, *, recursive: bool) -> Listing:
    """One listing by pages of 1,000, and no request per object."""
    fs, root = connect(url)
    bucket, key, version = fs.split_path(root)
    key = key.rstrip("/")
    doing = f"{url} cannot be listed"
    magic = _MAGIC.search(key)
    if key and not url.endswith("/") and (version or magic or kind_of(key)[0] is not None):
        try:
            info = persist(partial(fs.info, root), doing, InputError)
        except FileNotFoundError:
            if version:
                raise
        else:
            if info["type"] == "file":
                return None, [_Found(f"s3://{root}", int(info["size"]), tag_of(info))]
    prefix = key[: magic.start()] if magic else key and key + "/"
    pages = object_pages(fs, bucket, prefix, doing=doing, recursive=recursive or magic is not None)
    found = [_Found(f"s3://{bucket}/{name}", size, tag) for page in pages for name, size, tag in page]
    if magic:
        matches = re.compile(glob_translate(f"s3://{bucket}/{key}")).match
        return None, [file for file in found if matches(file.path)]
    if found or not key:
        return f"s3://{bucket}/{prefix}", found
    info = persist(partial(fs.info, root), doing, InputError)
    if info["type"] == "directory":  # nothing but folders in it
        return f"s3://{bucket}/{prefix}", []
    return None, [_Found(f"s3://{root}", int(info["size"]), tag_of(info))]


def _on_web_server(url: str, *, recursive: bool) -> Listing:
    """A file, or what the links of a page lead to; each is asked for its size and whether parts of it can be had."""
    fs, _ = connect(url)
    doing = f"{parted(url)[0]} cannot be read"
    root = None
    if re.search(r"[*\[]", urlpath(url)):
        urls = list(persist(partial(fs.glob, url), doing, InputError))
    elif urlpath(url).endswith("/"):
        root = urlpath(parted(url)[0])
        depth = None if recursive else 1
        urls = [u for u in persist(partial(fs.find, url, maxdepth=depth), doing, InputError) if _is_open(u, root)]
    else:
        urls = [url]
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        seen = list(pool.map(lambda u: persist(partial(probe, u), f"{parted(u)[0]} cannot be read", InputError), urls))
    return root, [
        _Found(parted(u)[0], max(s.size, 0), s.version, s.ranges, parted(u)[1]) for u, s in zip(urls, seen, strict=True)
    ]


def get_all_files_paths_under(
    root: str | os.PathLike[str],
    *,
    recurse_subdirectories: bool = True,
    followlinks: bool = False,
    keep_extensions: str | Sequence[str] | None = None,
) -> list[str]:
    """The paths of all files under a folder, sorted.

    Args:
        root: The folder.
        recurse_subdirectories: Whether to look into folders of folders.
        followlinks: Whether to follow links to folders.
        keep_extensions: Keep only names that end with one of these ("jsonl" or ".jsonl").
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        message = f"{folder} is not a folder."
        raise InputError(message)
    endings = [keep_extensions] if isinstance(keep_extensions, str) else keep_extensions
    suffixes = None if endings is None else tuple("." + e.lstrip(".") for e in endings)
    out = []
    for where, folders, names in os.walk(folder, followlinks=followlinks):
        if not recurse_subdirectories:
            folders.clear()
        out += [str(Path(where) / n) for n in names if suffixes is None or n.endswith(suffixes)]
    return sorted(out)
