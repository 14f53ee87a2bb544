"""What the campaign's recipe does, written once more in plain Python, and a comparison of a directory with it.

Nothing here calls Tamis: the documents are parsed with ``json``, and each rule of the recipe is one line.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
import zstandard

FILES = 3
DOCUMENTS = 24
"""Documents of each file."""
SEED = 3
_FUTURE = 4_000_000_000
"""Seconds since 1970 in the year 2096: a file may have been written by a machine whose clock was wrong."""

Document = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One way to run the recipe."""

    source: str = "jsonl"
    """"jsonl" (one file plain, one gz, one zst) or "parquet"."""
    output: str = "jsonl"
    """"jsonl", "gz", "zst" or "parquet"."""
    by_input: bool = False
    partition: bool = True
    rejects: bool = True
    workers: int = 1
    killer: str = ""
    """A document that ends its process: "always", "twice", or not at all."""

    def toml(self, source: Path, out: Path) -> str:
        """The recipe."""
        split = f'[[stage]]\nuse = "Split"\nproportions = {{ a = 0.5, b = 0.5 }}\nseed = {SEED}\n' * self.partition
        packed = f'compression = "{self.output}"\n' if self.output in {"gz", "zst"} else ""
        return (
            f'[input]\npath = "{source}"\nformat = "{self.source}"\n'
            '[[stage]]\nuse = "campaign_stages:Odd"\nscore_field = "n"\n'
            '[[stage]]\nuse = "campaign_stages:Loud"\n[[stage]]\nuse = "campaign_stages:Length"\n'
            + split
            + f'[output]\npath = "{out}"\nformat = "{"parquet" if self.output == "parquet" else "jsonl"}"\n'
            + packed
            + 'partition_on = "split"\n' * self.partition
            + f"write_to_filename = {str(self.by_input).lower()}\nkeep_rejects = {str(self.rejects).lower()}\n"
            + f"[run]\nworkers = {self.workers}\nmax_bad = 0.5\nsplit_size = {600 if self.source == 'jsonl' else 400}\n"
        )


# -- the input -----------------------------------------------------------------------------------------------


def lines(number: int, *, killer: bool, bad: bool) -> Iterator[str]:
    """The lines of one file; ``bad`` lines only where the format can hold them."""
    for i in range(DOCUMENTS):
        text = "word " * (i % 7) + f"{i}" + " raises" * (i % 11 == 5) + " kills" * (killer and number == 1 and i == 9)
        yield json.dumps({"id": f"{number}-{i}", "text": text, "meta": {"k": i}})
        if bad and i % 10 == 4:
            yield '{"id": "cut'


def write_input(folder: Path, setting: Setting) -> None:
    """The files of the recipe's input."""
    folder.mkdir(parents=True)
    for number, packed in zip(range(FILES), ["", ".gz", ".zst"], strict=True):
        found = list(lines(number, killer=bool(setting.killer), bad=setting.source == "jsonl"))
        if setting.source == "parquet":
            path = folder / f"d{number}.parquet"
            pq.write_table(pa.Table.from_pylist([json.loads(line) for line in found]), path, row_group_size=5)
        else:
            path = folder / f"d{number}.jsonl{packed}"
            content = "".join(f"{line}\n" for line in found).encode()
            pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}
            path.write_bytes(pack[packed](content))
        if number == 0:
            os.utime(path, (_FUTURE, _FUTURE))


# -- what must come out --------------------------------------------------------------------------------------


@dataclass
class Expected:
    """What a run must leave: documents by folder and input file, in order."""

    kept: dict[tuple[str, str], list[Document]]
    rejected: list[str]
    """Ids, in order."""
    quarantined: list[tuple[str, int, str]]
    """(file, line, cause), in order."""


def expected(setting: Setting) -> Expected:
    """The recipe, rule by rule."""
    kept: dict[tuple[str, str], list[Document]] = {}
    rejected: list[str] = []
    quarantined: list[tuple[str, int, str]] = []
    jsonl = setting.source == "jsonl"
    for number, packed in zip(range(FILES), ["", ".gz", ".zst"], strict=True):
        name = f"d{number}" + (f".jsonl{packed}" if jsonl else ".parquet")
        for at, line in enumerate(lines(number, killer=bool(setting.killer), bad=jsonl), start=1):
            try:
                document = json.loads(line)
            except json.JSONDecodeError:
                quarantined.append((name, at, "not JSON"))
                continue
            text = document["text"]
            if "kills" in text and setting.killer == "always":
                quarantined.append((name, at, "killed its worker"))
            elif "raises" in text:
                quarantined.append((name, at, "Odd failed"))
            elif len(text) % 3 == 0:
                rejected.append(document["id"])
            else:
                after = {**document, "text": text.upper() + "!", "n": len(text), "length": len(text) + 1}
                kept.setdefault((_part(document["id"]) if setting.partition else "", name), []).append(after)
    return Expected(kept, rejected, quarantined)


def _part(id: str) -> str:
    """As documented: where 53 bits of the id's hash, as a number in [0, 1), fall in the proportions."""
    return "a" if (xxhash.xxh3_64_intdigest(id.encode(), SEED) >> 11) * 2.0**-53 < 0.5 else "b"


# -- what did ------------------------------------------------------------------------------------------------


@dataclass
class Verdict:
    """How a directory differs from what it must be."""

    lost: int = 0
    duplicated: int = 0
    wrong: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether it does not."""
        return not (self.lost or self.duplicated or self.wrong)


def judge(out: Path, setting: Setting) -> Verdict:
    """Compare a finished directory with what it must hold."""
    must = expected(setting)
    wrong: list[str] = []
    found: dict[str, list[Document]] = {}
    for path in sorted(out.rglob("*")):
        below = path.relative_to(out)
        if path.is_file() and not below.parts[0].startswith("_"):
            found.setdefault(str(below.parent) if len(below.parts) > 1 else "", []).extend(documents(path))
            if setting.by_input:
                folder = str(below.parent) if len(below.parts) > 1 else ""
                name = below.name.split(".")[0]
                mine = next((v for (f, n), v in must.kept.items() if f == folder and n.startswith(f"{name}.")), [])
                if documents(path) != mine:
                    wrong.append(f"{below} does not hold the documents of its input")
    lost = duplicated = 0
    for folder in sorted({f for f, _ in must.kept} | set(found)):
        mine = list(itertools.chain.from_iterable(v for (f, _), v in must.kept.items() if f == folder))
        here = found.get(folder, [])
        want, have = Counter(d["id"] for d in mine), Counter(d["id"] for d in here)
        lost += (want - have).total()
        duplicated += (have - want).total()
        if want == have and mine != here:
            wrong.append(f"documents below {folder or 'the directory'} are in another order or have other content")
    rejected = [d["id"] for path in sorted(out.glob("_rejects/*")) for d in documents(path)]
    if rejected != (must.rejected if setting.rejects else []):
        wrong.append("the rejects are others")
    quarantine = out / "_quarantine/records.jsonl"
    bad = [(Path(q["file"]).name, q["line"], q["cause"]) for q in documents(quarantine)] if quarantine.exists() else []
    if sorted(bad) != sorted(must.quarantined):  # those a stage raised on come after the bad lines of their block
        wrong.append(f"the quarantine holds {_difference(bad, must.quarantined)}")
    totals = json.loads((out / "_tamis/manifest.json").read_text())["totals"]
    kept = sum(map(len, must.kept.values()))
    numbers = kept + len(must.rejected) + len(must.quarantined), kept, sum(totals["quarantined"].values())
    if (totals["records"], totals["kept"], sum(totals["quarantined"].values())) != numbers:
        wrong.append(f"the manifest counts {totals['records']} records, {totals['kept']} kept; there are {numbers}")
    return Verdict(lost, duplicated, tuple(wrong))


def _difference(found: list[Any], must: list[Any]) -> str:
    extra, missing = Counter(found) - Counter(must), Counter(must) - Counter(found)
    return f"besides {list(extra)[:3]}, and not {list(missing)[:3]}"


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder with a hash of its content: equal trees, equal directories."""
    return {
        str(path.relative_to(folder)): xxhash.xxh3_128_hexdigest(path.read_bytes()) if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def documents(path: Path) -> list[Document]:
    """The documents of an output file."""
    if path.suffix == ".parquet":
        with path.open("rb") as file:
            return pq.ParquetFile(file).read(use_threads=False).to_pylist()
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    elif path.suffix == ".zst":
        with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as reader:
            content = reader.read()
    return [json.loads(line) for line in content.splitlines()]
