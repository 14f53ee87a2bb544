"""Finding the input: files, folders, globs and fsspec URLs become a sorted list of files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from tamis.errors import InputError, UsageError, hint

__all__ = ["EXTENSIONS", "InputFile", "get_all_files_paths_under", "line_number", "list_files", "open_input"]

EXTENSIONS = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
"""Format by file name extension."""
_PACKED = {".gz": "gz", ".zst": "zst", ".zstd": "zst"}


@dataclass(frozen=True)
class InputFile:
    """One file of documents."""

    path: str
    """As it is opened: an absolute local path, or a URL."""
    name: str
    """Path below the folder that all inputs share, '/'-separated: tells equal names in two folders apart."""
    size: int
    """Bytes as stored."""
    version: str
    """Changes when the content does: modification time, or the store's tag."""
    format: str
    compression: str | None = None


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


def open_input(path: str) -> BinaryIO:
    """Open a local path or URL for reading, unbuffered where it is local."""
    if "://" in path:
        return cast("BinaryIO", fsspec.open(path, "rb").open())
    return cast("BinaryIO", Path(path).open("rb", buffering=0))


def line_number(path: str, offset: int) -> int:
    """The line, from 1, in which a byte of an uncompressed file lies; reads the file up to there."""
    line = 1
    with open_input(path) as file:
        while offset > 0 and (block := file.read(min(offset, 1 << 20))):
            line += block.count(b"\n")
            offset -= len(block)
    return line


@dataclass(frozen=True)
class _Found:
    path: str
    size: int
    version: str


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
        format: "jsonl" or "parquet"; by default what the extensions say. Folders are searched for it.
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
        InputFile(path, path[len(root) :], file.size, file.version, kind, packed)
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


def _remote(url: str, format: str | None, *, recursive: bool) -> Iterator[_Found]:
    try:
        fs, root = fsspec.core.url_to_fs(url)
        if any(c in root for c in "*?["):
            names = {n: info for n, info in fs.glob(root, detail=True).items() if info.get("type") != "directory"}
        elif fs.isdir(root):
            names = fs.find(root, maxdepth=None if recursive else 1, detail=True)
            yield from _wanted(url, format, _remote_files(fs, root, names))
            return
        else:
            names = {root: fs.info(root)}
    except FileNotFoundError as error:
        message = f"{url} does not exist."
        raise InputError(message) from error
    except (ImportError, OSError, ValueError) as error:
        message = f"{url} cannot be listed: {error}"
        raise InputError(message) from error
    if not names:
        message = f"no file matches {url}."
        raise InputError(message)
    yield from (_remote_file(fs, name, info) for name, info in names.items())


def _remote_files(fs: Any, root: str, names: dict[str, Any]) -> Iterator[_Found]:
    for name, info in names.items():
        below = name[len(root) :].strip("/").split("/")
        if kind_of(name)[0] is not None and not any(part.startswith(("_", ".")) for part in below):
            yield _remote_file(fs, name, info)


def _remote_file(fs: Any, name: str, info: Any) -> _Found:
    tags = (info.get(key) for key in ("ETag", "etag", "mtime", "LastModified", "created"))
    return _Found(fs.unstrip_protocol(name), int(info.get("size") or 0), str(next((t for t in tags if t), "")))


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
