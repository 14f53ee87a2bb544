"""A file that shrinks, grows or is replaced while it is read: never silently fewer documents, or other ones."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from conftest import read_jsonl, tree
from tamis import DocumentDataset, DocumentFilter, ScoreFilter
from tamis.errors import InputError, OutputRefusedError

SPLIT = 500_000
CHANGED = re.compile(r"in/d\.\S+ changed after it was listed: it (had [\d,]+ bytes and has [\d,]+ now|still has .*)\. ")


def changed(path: Path, how: str) -> None:
    """Do to a file what another program may do to it."""
    content = path.read_bytes()
    if how == "shrinks":
        os.truncate(path, len(content) // 2)
    elif how == "grows":
        with path.open("ab") as file:
            file.write(content)
    elif how == "same size":
        middle = content[len(content) // 2 :]
        with path.open("r+b") as file:
            file.seek(len(content) // 2)
            file.write(middle.swapcase())
    elif how == "replaced":
        aside = path.with_suffix(".new")
        aside.write_bytes(content[: len(content) // 2])
        aside.replace(path)
    else:
        path.unlink()


class Meddles(DocumentFilter):
    """Changes the input when it sees document ``at``, while there is a file ``mark``."""

    def __init__(self, path: str, how: str, at: int = 0) -> None:
        self.path, self.how, self.at = path, how, at

    def score_document(self, text: str) -> float:
        mark = Path(self.path).parent.parent / "mark"
        if text.startswith(f"{self.at} ") and mark.exists():
            mark.unlink()
            changed(Path(self.path), self.how)
        return 1.0

    def keep_document(self, score: float) -> bool:
        return True


def rows(format: str) -> list[dict[str, str]]:
    """Documents that are more than what is read at a time, before and after compression."""
    if format == "parquet":
        return [{"text": f"{i} " + "x" * 1_000_000} for i in range(12)]
    return [{"text": f"{i} {hashlib.shake_256(str(i).encode()).hexdigest(2500)}"} for i in range(900)]


CONTENT: dict[str, bytes] = {}


@pytest.fixture
def given(tmp_path):
    (tmp_path / "in").mkdir()

    def write(format: str) -> Path:
        path = tmp_path / f"in/d.{format}"
        if format not in CONTENT:
            if format == "parquet":
                pq.write_table(pa.Table.from_pylist(rows(format)), path, row_group_size=1, compression="zstd")
                CONTENT[format] = path.read_bytes()
            else:
                plain = b"".join(b'{"text": "%s"}\n' % d["text"].encode() for d in rows(format))
                pack = {"gz": lambda b: gzip.compress(b, 1), "zst": zstandard.compress}
                CONTENT[format] = pack.get(format.rpartition(".")[2], bytes)(plain)
        path.write_bytes(CONTENT[format])
        (tmp_path / "mark").touch()
        return path

    return write


def read(path: Path) -> DocumentDataset:
    return (DocumentDataset.read_parquet if path.suffix == ".parquet" else DocumentDataset.read_json)(path)


def numbers(folder: Path) -> list[int]:
    return [int(d["text"].split()[0]) for d in read_jsonl(*sorted(folder.glob("part-*")))]


CASES = [
    (kind, split_size, 1, how)
    for kind, split_size in [
        ("jsonl", SPLIT),
        ("jsonl", 1 << 30),
        ("jsonl.gz", SPLIT),
        ("jsonl.zst", SPLIT),
        ("parquet", 1 << 30),
        ("parquet", 200),
    ]
    for how in ("shrinks", "grows", "same size", "replaced", "vanishes")
]


@pytest.mark.parametrize(("format", "split_size", "workers", "how"), [*CASES, ("jsonl", SPLIT, 2, "shrinks")])
def test_a_file_that_changes_while_it_is_read(given, tmp_path, format, split_size, workers, how):
    path = given(format)
    status = path.stat()
    how_to = {"workers": workers, "split_size": split_size, "progress": "off"}
    one_piece = split_size == 1 << 30 or format in {"jsonl.gz", "jsonl.zst"}
    meddles = ScoreFilter(Meddles(str(path), how, at=0 if one_piece else len(rows(format)) // 4))
    out = tmp_path / "out"
    if one_piece and how in {"replaced", "vanishes"}:  # the open file is still the old one, whole
        meddles(read(path)).to_json(out, **how_to)
        assert numbers(out) == list(range(len(rows(format))))
        return
    expected = r"in/d\.\S+ cannot be read: No such file" if how == "vanishes" else CHANGED
    with pytest.raises(InputError, match=expected) as raised:
        meddles(read(path)).to_json(out, **how_to)
    assert "Finished splits are kept" in str(raised.value)
    assert not list(out.glob("_quarantine/*"))

    # Left as it is now, it is another input, which is said, and --fresh takes it.
    if how == "grows" and not one_piece:
        with pytest.raises(OutputRefusedError, match=r"its input files .*differ.*--fresh"):
            meddles(read(path)).to_json(out, **how_to)
    # Put back, the run goes on, and ends as if nothing had been.
    path.write_bytes(CONTENT[format])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    result = meddles(read(path)).to_json(out, **how_to)
    assert (result.resumed > 0) == (not one_piece)
    assert numbers(out) == list(range(len(rows(format))))
    meddles(read(path)).to_json(tmp_path / "calm", **how_to)
    assert tree(out) == tree(tmp_path / "calm")


@pytest.mark.parametrize("format", ["jsonl", "jsonl.gz", "parquet"])
def test_a_file_that_changed_between_listing_and_running(given, tmp_path, format):
    path = given(format)
    dataset = read(path)
    changed(path, "grows")
    with pytest.raises(InputError, match=CHANGED):
        dataset.to_json(tmp_path / "out", split_size=SPLIT, workers=1, progress="off")
    with pytest.raises(InputError, match=CHANGED):
        dataset.count()
    with pytest.raises(InputError, match=CHANGED):
        list(dataset)
    with pytest.raises(InputError, match=CHANGED):
        dataset.to_parquet(tmp_path / "parquet", split_size=SPLIT, workers=1, progress="off")


def test_a_new_listing_and_fresh_take_the_file_as_it_is(given, tmp_path):
    path = given("jsonl")
    with pytest.raises(InputError, match=r"start anew with --fresh \(mode='fresh'\)"):
        ScoreFilter(Meddles(str(path), "grows"))(read(path)).to_json(
            tmp_path / "out", split_size=SPLIT, workers=1, progress="off"
        )
    again = ScoreFilter(Meddles(str(path), "grows"))(read(path))
    again.to_json(tmp_path / "out", split_size=SPLIT, workers=1, mode="fresh", progress="off")
    assert numbers(tmp_path / "out") == list(range(900)) * 2


def test_a_damaged_file_that_did_not_change_is_set_aside_as_ever(given, tmp_path):
    path = given("jsonl.gz")
    os.truncate(path, path.stat().st_size // 2)
    read(path).to_json(tmp_path / "out", max_bad=1.0, progress="off")
    assert [q["cause"] for q in read_jsonl(tmp_path / "out/_quarantine/records.jsonl")][-1:] == ["truncated file"]


def test_no_input_of_the_user_is_mapped_into_memory():
    """A mapped file that shrinks ends the process by SIGBUS: only what was written by Tamis itself is mapped.

    That is the table that a run spooled, and the weights that a conversion unpacked from an archive.
    """
    source = Path(__import__("tamis").__file__).parent
    mapping = {p.name for p in source.rglob("*.py") if re.search(r"mmap(?! lm )|memory_map", p.read_text())}
    assert mapping == {"memory.py", "nemo_weights.py"}
