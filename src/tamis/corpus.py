"""A real corpus from what every Python installation holds: no network, nothing invented.

Documentation topics, package descriptions, licence texts, text files and docstrings of the standard library
and of the installed packages: thousands of documents, with the defects that found text has (near-empty
docstrings, one licence many times over, tables, stray marks, CRLF, runs of blank lines, addresses). Source
files are parsed, never imported, so no third-party code runs.
"""

from __future__ import annotations

import ast
import gzip
import os
import re
import stat
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

import orjson

from tamis.errors import InputError, OutputError, UsageError

__all__ = ["SOURCES", "CorpusSummary", "Roots", "collect", "write"]

SOURCES = ("topic", "readme", "metadata header", "licence", "text file", "docstring")
"""Where a document can come from, in the order in which :func:`collect` yields them."""

_LARGEST = 1 << 20
"""Files above 1 MiB are skipped: they are data (word lists, generated tables), and one would be half a demo."""

_CODE = ".py"
_TEXT = frozenset({".md", ".rst", ".txt"})
_LICENCE = re.compile(r"(?:licen[cs]e|copying|copyright|notice)s?\b", re.IGNORECASE)
_HEADER_END = re.compile(r"\r?\n\r?\n")
_UNVISITED = frozenset({"__pycache__", "site-packages", "dist-packages", "node_modules", ".git"})
_TESTS = frozenset({"test", "tests", "idle_test", "testing"})
"""Folders whose source files are left out: half of the code, and its docstrings name test cases."""

Document = dict[str, str]


@dataclass(frozen=True)
class Roots:
    """The folders that are searched."""

    stdlib: Path
    """The standard library; its documents belong to the package ``python``."""
    packages: tuple[Path, ...] = ()
    """Folders of installed packages (site-packages)."""

    @classmethod
    def of_interpreter(cls) -> Roots:
        """The folders of the running interpreter."""
        found = dict.fromkeys(Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib"))
        return cls(Path(sysconfig.get_path("stdlib")).resolve(), tuple(found))


@dataclass(frozen=True)
class CorpusSummary:
    """What :func:`write` wrote and what it left out."""

    sources: dict[str, int] = field(default_factory=dict)
    """Documents by source, in the order of :data:`SOURCES`; every source is there, if with 0."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Files, folders or documents left out, by reason."""
    text_bytes: int = 0
    """UTF-8 bytes of all texts."""
    file_bytes: int = 0
    """Bytes of the file written (compressed)."""
    seconds: float = 0.0
    """Wall time."""

    @property
    def total(self) -> int:
        """The number of documents."""
        return sum(self.sources.values())


@dataclass(frozen=True)
class _Found:
    """A file worth opening: ``name`` is its path below the root it was found under, with forward slashes."""

    path: Path
    package: str
    name: str


def collect(
    limit: int | None = None, *, roots: Roots | None = None, skipped: Counter[str] | None = None
) -> Iterator[Document]:
    """Yield the documents: ``{"text", "source", "package", "name"}``, all strings, the text possibly blank.

    ``source`` is one of :data:`SOURCES`. ``name`` is a dotted name for a docstring, a topic's title, or a path
    below the folder of packages; never a path of this machine. The order is that of :data:`SOURCES`, then by
    path, and does not change while the installation does not. Docstrings are dedented as ``help()`` shows
    them; every other text is the file's own, byte for byte.

    Nothing makes this fail on a strange file: what cannot be read, is no UTF-8, holds NUL bytes, is larger
    than 1 MiB or does not parse is left out and counted in ``skipped`` by reason.

    Args:
        limit: at most so many documents; ``None`` for all.
        roots: the folders to search; those of the running interpreter by default.
        skipped: a counter that receives what was left out.
    """
    if limit is not None and limit < 0:
        message = f"limit is {limit}, but a corpus has 0 documents or more; None means all of them."
        raise UsageError(message)
    documents = _all(roots or Roots.of_interpreter(), Counter() if skipped is None else skipped)
    return islice(documents, limit)


def write(path: str | os.PathLike[str], *, limit: int | None = 30_000, roots: Roots | None = None) -> CorpusSummary:
    """Write the documents of :func:`collect` to ``path`` as gzipped JSONL and say what was written.

    The same installation gives the same bytes: the gzip header holds neither a time nor a name. The file
    appears under its name when it is complete. The default limit keeps a large installation (thousands of
    modules) to about the work of a small one.

    Raises:
        InputError: nothing was found.
        OutputError: the file cannot be written.
    """
    begin = time.perf_counter()
    target, where = Path(path), roots or Roots.of_interpreter()
    aside = target.with_name(f"{target.name}.part")
    counts, skipped = Counter[str](), Counter[str]()
    text_bytes = 0
    # Reading catches its own OSErrors, so one that arrives below is about the target.
    documents = collect(limit, roots=where, skipped=skipped)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as plain, gzip.GzipFile("", "wb", 6, plain, mtime=0) as out:
            for document in documents:
                counts[document["source"]] += 1
                text_bytes += len(document["text"].encode())
                out.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
        if not counts and limit != 0:
            aside.unlink()
            message = f"No text was found below {where.stdlib} and {len(where.packages)} package folder(s)."
            raise InputError(message)
        aside.replace(target)
        file_bytes = target.stat().st_size
    except OSError as error:
        aside.unlink(missing_ok=True)
        message = f"The corpus cannot be written to {target}: {error.strerror or error}. Choose another path."
        raise OutputError(message) from error
    by_source = {source: counts[source] for source in SOURCES}
    return CorpusSummary(by_source, dict(skipped), text_bytes, file_bytes, time.perf_counter() - begin)


def _all(roots: Roots, skipped: Counter[str]) -> Iterator[Document]:
    """Every document, source by source, so that a limit cuts docstrings (the many) and not the few readmes."""
    files = [*_walk(roots.stdlib, "python", skipped)]
    for root in roots.packages:
        files += _walk(root, None, skipped)
    by_source: dict[str, list[_Found]] = {source: [] for source in SOURCES}
    for found in files:
        source = _source_of(PurePosixPath(found.name))
        if source:
            by_source[source].append(found)
    for document in _documents(roots, by_source, skipped):
        if _is_utf8(document["text"]) and _is_utf8(document["name"]):
            yield document
        else:
            skipped["lone surrogates"] += 1


def _documents(roots: Roots, by_source: dict[str, list[_Found]], skipped: Counter[str]) -> Iterator[Document]:
    yield from _topics(roots.stdlib / "pydoc_data" / "topics.py", skipped)
    # A metadata file is a header and, after a blank line, the readme; it is listed as the latter.
    headers = []
    for found in by_source["readme"]:
        text = _read(found.path, skipped)
        if text is None:
            continue
        end = _HEADER_END.search(text)
        headers.append(_document(text[: end.start()] if end else text, "metadata header", found.package, found.name))
        if end and end.end() < len(text):
            yield _document(text[end.end() :], "readme", found.package, found.name)
    yield from headers
    for source in ("licence", "text file"):
        for found in by_source[source]:
            text = _read(found.path, skipped)
            if text is not None:
                yield _document(text, source, found.package, found.name)
    for found in by_source["docstring"]:
        yield from _docstrings(found, skipped)


def _document(text: str, source: str, package: str, name: str) -> Document:
    return {"text": text, "source": source, "package": package, "name": name}


def _walk(root: Path, package: str | None, skipped: Counter[str]) -> Iterator[_Found]:
    """Files below ``root`` in sorted order; links to folders are not followed, so a loop of them ends nowhere."""

    def refused(_: OSError) -> None:
        skipped["unreadable folder"] += 1

    for folder, inner, names in os.walk(root, onerror=refused):
        inner[:] = sorted(name for name in inner if name not in _UNVISITED)
        for name in sorted(names):
            path = Path(folder, name)
            below = path.relative_to(root).as_posix()
            yield _Found(path, package or _package_of(below), below)


def _package_of(below: str) -> str:
    """The package of a path below site-packages: ``numpy-2.4.6.dist-info/METADATA`` belongs to ``numpy``."""
    top = below.partition("/")[0]
    if top.endswith((".dist-info", ".egg-info")):
        return top.rpartition(".")[0].partition("-")[0]
    return top.removesuffix(_CODE)


def _source_of(name: PurePosixPath) -> str | None:
    """The kind of document a file holds, from its path alone; ``None`` for what is left out."""
    folders = name.parts[:-1]
    described = [folder for folder in folders if folder.endswith((".dist-info", ".egg-info"))]
    suffix = name.suffix.lower()
    if name.name in {"METADATA", "PKG-INFO"} and described:
        return "readme"
    if suffix == _CODE:
        return None if _TESTS.intersection(folders) else "docstring"
    if suffix not in _TEXT and not (described or suffix == ""):
        return None
    if _LICENCE.match(name.name) or (described and "licenses" in folders):
        return "licence"
    return "text file" if suffix in _TEXT else None


def _read(path: Path, skipped: Counter[str]) -> str | None:
    """The text of a file, its line ends untouched, or ``None`` and a reason counted."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            skipped["not a regular file"] += 1
            return None
        if status.st_size > _LARGEST:
            skipped["larger than 1 MiB"] += 1
            return None
        data = path.read_bytes()
    except OSError:
        skipped["unreadable"] += 1
        return None
    if b"\0" in data:
        skipped["NUL bytes"] += 1
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        skipped["not UTF-8"] += 1
        return None


def _is_utf8(text: str) -> bool:
    r"""Whether the text can be written as UTF-8: a docstring may spell ``"\ud800"``, a file name hold any byte."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parse(path: Path, skipped: Counter[str]) -> ast.Module | None:
    source = _read(path, skipped)
    if source is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the style of other people's code: invalid escapes and the like
        try:
            return ast.parse(source.removeprefix("\ufeff"))
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deep
            skipped["not parsable as Python"] += 1
            return None


def _topics(path: Path, skipped: Counter[str]) -> Iterator[Document]:
    """The texts behind ``help("...")``: one dictionary literal, read from the source like everything else."""
    tree = _parse(path, skipped)
    for node in tree.body if tree else ():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            pairs = zip(node.value.keys, node.value.values, strict=True)
            texts = {
                key.value: text.value
                for key, text in pairs
                if isinstance(key, ast.Constant) and isinstance(text, ast.Constant)
            }
            for title, text in sorted((t, x) for t, x in texts.items() if isinstance(t, str) and isinstance(x, str)):
                yield _document(text, "topic", "python", title)


def _docstrings(found: _Found, skipped: Counter[str]) -> Iterator[Document]:
    """Docstrings of a module, its classes and functions, in the order of the source."""
    tree = _parse(found.path, skipped)
    if tree is None:
        return
    parts = PurePosixPath(found.name).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
    todo: list[tuple[ast.AST, str]] = [(tree, module)]
    while todo:  # not recursive: generated code nests deeper than Python's stack
        node, name = todo.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{name}.{node.name}"
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield _document(text, "docstring", found.package, name)
        # Statements only: expressions are nine tenths of a tree and hold no docstring.
        blocks = (getattr(node, block, ()) for block in ("body", "handlers", "orelse", "finalbody", "cases"))
        inner = [child for block in blocks if isinstance(block, list) for child in block]
        todo.extend((child, name) for child in reversed(inner))
