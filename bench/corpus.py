"""Real text for the benchmarks: documents from what is installed on this machine, as JSONL shards.

    python bench/corpus.py FOLDER --megabytes 320

Where the text comes from, in this order, until there is enough of it:

1. documentation files (.md, .rst, .txt) of Python installations and under /usr/share/doc, whole;
2. manual pages, without their markup;
3. docstrings and comments of Python source files, one document per file;
4. HTML documentation, without its tags.

Exact copies are dropped. Should all that be too little, the documents are written again and the factor is
said (``copies`` in the summary). Lengths stay as they come: half of the documents are below 1 to 2 kB, the
longest are a megabyte. A folder that already holds such a corpus is left as it is.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import hashlib
import html
import json
import multiprocessing
import os
import re
import statistics
import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

VERSION = 2
"""Part of the summary: a corpus of another version of this program is built again."""

SHARDS = 8
LARGEST = 1 << 20
SHORTEST = 20
"""Characters: below, a file is a stub (an empty ``__init__``) and no document."""

PROSE = {".md", ".rst", ".txt"}
UNVISITED = {"__pycache__", ".git", "node_modules", "src"}
MANUAL = re.compile(r"\.[1-9][a-z]*(?:\.gz)?$")
COMMENT = re.compile(r"^[ \t]*#+ ?(.*)$", re.MULTILINE)
UNSEEN = re.compile(r"<(script|style|svg|nav|head)\b.*?</\1>", re.DOTALL | re.IGNORECASE)
BREAK = re.compile(r"</?(?:p|div|li|tr|h[1-6]|pre|br|section|table|ul|dt|dd)\b[^>]*>", re.IGNORECASE)
TAG = re.compile(r"<[^>]*>")
ROFF_COMMENT = re.compile(r"^[.']\s*\\\".*\n", re.MULTILINE)
ROFF_BREAK = re.compile(r"^[.'](?:PP|P|LP|TP|IP|sp|br|nf|fi|RS|RE|in)\b.*$", re.MULTILINE)
ROFF_MACRO = re.compile(r"^[.'][A-Za-z]{1,3}\s*", re.MULTILINE)
ROFF_FONT = re.compile(r"\\f(?:\[[^\]]*\]|\(..|.)|\\[&%/,|^]")
BLANKS = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")


def roots() -> list[Path]:
    """Folders to search: of this interpreter first, then the usual places of other installations and of manuals."""
    base = Path(sys.base_prefix).resolve()
    candidates = [
        *(Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib")),
        # Other Pythons beside this one, where a version manager keeps them; nothing when it is /usr.
        *(sorted(base.parent.glob("*/lib/python3*")) if base != Path("/usr") else []),
        *sorted(Path("/usr/lib").glob("python3*")),
        *sorted(Path("/usr/local/lib").glob("python3*")),
        Path("/usr/share/doc"),
        Path("/usr/share/man"),
        Path("/usr/lib/google-cloud-sdk"),
        *sorted((Path.home() / ".rustup" / "toolchains").glob("*/share")),
    ]
    found: list[Path] = []
    for candidate in candidates:
        if candidate.is_dir() and not any(candidate.resolve().is_relative_to(other) for other in found):
            found.append(candidate.resolve())
    return found


def kind_of(name: str, folder: str) -> str | None:
    suffix = Path(name.removesuffix(".gz")).suffix.lower()
    if MANUAL.search(name) and "/man" in folder:
        return "manual"
    if suffix in PROSE:
        return "prose"
    return {".py": "source", ".html": "html"}.get(suffix)


def files_by_kind(folders: Iterable[Path]) -> dict[str, list[tuple[str, str]]]:
    """``(path, path below its root)`` per kind, in a fixed order."""
    found: dict[str, list[tuple[str, str]]] = {"prose": [], "manual": [], "source": [], "html": []}
    for root in folders:
        for folder, inner, names in os.walk(root):
            inner[:] = sorted(name for name in inner if name not in UNVISITED)
            for name in sorted(names):
                kind = kind_of(name, folder)
                if kind:
                    path = str(Path(folder, name))
                    found[kind].append((path, f"{root.name}/{os.path.relpath(path, root)}"))
    return found


def text_of(kind: str, path: str) -> str | None:
    """The text of one file, or ``None`` for what is not readable as text."""
    try:
        file = Path(path)
        if not file.is_file() or file.stat().st_size > LARGEST:
            return None
        data = file.read_bytes()
        source = (gzip.decompress(data) if path.endswith(".gz") else data).decode()
        if "\0" in source:
            return None
        text = {"prose": str, "manual": from_roff, "source": from_python, "html": from_html}[kind](source)
        text.encode()
    except (OSError, EOFError, UnicodeError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return text if SHORTEST <= len(text) <= LARGEST else None


def from_roff(source: str) -> str:
    text = ROFF_MACRO.sub("", ROFF_BREAK.sub("", ROFF_COMMENT.sub("", source)))
    return BLANKS.sub("\n\n", ROFF_FONT.sub("", text).replace("\\-", "-")).strip()


def from_html(source: str) -> str:
    text = TAG.sub("", BREAK.sub("\n", UNSEEN.sub("", source)))
    return BLANKS.sub("\n\n", html.unescape(text)).strip()


def from_python(source: str) -> str:
    """Docstrings, then the comments that have a line to themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    parts: list[str] = []
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            parts.append(ast.get_docstring(node) or "")
        blocks = (getattr(node, block, ()) for block in ("body", "handlers", "orelse", "finalbody"))
        todo.extend(reversed([child for block in blocks if isinstance(block, list) for child in block]))
    parts.append("\n".join(COMMENT.findall(source)))
    return "\n\n".join(part for part in parts if part).strip()


def document(job: tuple[str, str, str]) -> tuple[str, bytes, bytes] | None:
    """``(kind, digest of the text, JSON line)`` for one file."""
    kind, path, name = job
    text = text_of(kind, path)
    if text is None:
        return None
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    row = {
        # Of the text, which is there once; paths below two roots may be the same.
        "id": digest.hexdigest(),
        "text": text,
        "url": f"file:{name}".encode(errors="replace").decode(),
        "meta": {
            "kind": kind,
            "size": {"characters": len(text), "lines": text.count("\n") + 1},
            "folders": name.encode(errors="replace").decode().split("/")[:3],
            "title": None if kind == "source" else text.split("\n", 1)[0][:80],
        },
    }
    line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    return kind, digest.digest(), line


def lines(jobs: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, bytes, bytes]]:
    """Documents in the order of the jobs, made by all processors."""
    with multiprocessing.get_context("spawn").Pool() as pool:
        for made in pool.imap(document, jobs, chunksize=64):
            if made is not None:
                yield made


def build(folder: Path, megabytes: int, where: list[Path] | None = None) -> dict[str, object]:
    """Write the corpus into ``folder`` unless it is there, and return its summary."""
    summary_path = folder / "summary.json"
    asked = {"version": VERSION, "megabytes": megabytes}
    if summary_path.exists():
        summary: dict[str, object] = json.loads(summary_path.read_text())
        if all(summary.get(key) == value for key, value in asked.items()):
            return summary
    begin = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("shard-*.jsonl"):
        old.unlink()
    found = files_by_kind(where or roots())
    jobs = ((kind, path, name) for kind, files in found.items() for path, name in files)
    kinds, lengths, size, seen = Counter[str](), list[int](), 0, set[bytes]()
    target = megabytes * 1_000_000
    outs = [(folder / f"shard-{i}.jsonl").open("wb") for i in range(SHARDS)]
    try:
        for kind, digest, line in lines(jobs):
            if digest in seen:
                continue
            seen.add(digest)
            # Round robin: every shard holds the same mixture, so that two workers have the same work.
            outs[len(lengths) % SHARDS].write(line)
            kinds[kind] += len(line)
            lengths.append(len(line))
            size += len(line)
            if size >= target:
                break
    finally:
        for out in outs:
            out.close()
    copies = repeat(folder, size, target)
    summary = {
        **asked,
        "documents": len(lengths) * copies,
        "bytes": size * copies,
        "copies": copies,
        "megabytes_by_kind": {kind: round(count / 1e6, 1) for kind, count in kinds.items()},
        "median_line": statistics.median(lengths),
        "mean_line": round(statistics.mean(lengths)),
        "p99_line": sorted(lengths)[len(lengths) * 99 // 100],
        "longest_line": max(lengths),
        "seconds": round(time.perf_counter() - begin, 1),
    }
    summary_path.write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def repeat(folder: Path, size: int, target: int) -> int:
    """Append every shard to itself until there is enough; how often each document is there."""
    if size == 0:
        message = "No text was found on this machine; name folders that hold some with --root."
        raise SystemExit(message)
    copies = -(-target // size)
    if copies > 1:
        for shard in sorted(folder.glob("shard-*.jsonl")):
            data = shard.read_bytes()
            with shard.open("ab") as out:
                for copy in range(1, copies):
                    out.write(data.replace(b'{"id":"', b'{"id":"%d-' % copy))
    return copies


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=int, default=320)
    parser.add_argument("--root", type=Path, action="append", help="search here and nowhere else; may be repeated")
    options = parser.parse_args()
    print(json.dumps(build(options.folder, options.megabytes, options.root), indent=2))


if __name__ == "__main__":
    main()
