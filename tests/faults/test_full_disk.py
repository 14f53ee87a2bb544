"""A disk that is full, at every single write of a run: said in a sentence, and gone on with when there is room.

A file system that really is full is mounted where that is allowed (``test_resume.py``); here each write fails in
turn, on any machine.
"""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from campaign_faults import Injector

from conftest import tree
from tamis import DocumentDataset, DocumentFilter, ScoreFilter
from tamis.engine.embedded import EmbeddedEngine
from tamis.errors import OutputError
from tamis.io import lines, store


class Odd(DocumentFilter):
    """Drops some, and raises on one."""

    def score_document(self, text: str) -> int:
        if text == "7":
            raise ValueError(text)
        return int(text)

    def keep_document(self, score: int) -> bool:
        return score % 3 != 0


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "in/d.jsonl"
    path.parent.mkdir()
    with path.open("w") as file:
        for i in range(16):
            file.write(json.dumps({"text": str(i)}) + "\n")
            if i % 10 == 4:
                file.write('{"cut\n')
    return ScoreFilter(Odd())(DocumentDataset.read_json(path))


SENTENCE = re.compile("the disk is full: .* Free some space and run the same command again: finished splits are kept")


class FullAt(Injector):
    """Every write from the n-th on fails, and every creation of a file."""

    def __init__(self, at: int, number: int) -> None:
        super().__init__([], "driver")
        self.at, self.number, self.writes, self.failed = at, number, 0, False

    def write(self, data, inner):
        self.writes += 1
        if self.writes >= self.at:
            inner(bytes(data)[: len(bytes(data)) // 2])  # a full disk takes a part
            self.failed = True
            raise OSError(self.number, os.strerror(self.number))
        return inner(data)


def write(dataset, out, *, parquet=False):
    how = {"workers": 1, "split_size": 140, "keep_rejects": True, "max_bad": 1.0, "progress": "off"}
    if parquet:
        return dataset.to_parquet(out, write_to_filename=True, **how)
    return dataset.to_json(out, write_to_filename=True, **how)


@pytest.mark.parametrize("parquet", [False, True])
def test_the_disk_is_full_at_every_write_in_turn(dataset, tmp_path, monkeypatch, parquet):
    """Work files, journal, status, run.json, quarantine, joined outputs, listings, manifest: each is some write."""
    # A hundred runs would wait for the disk, and for a process each: after such an end the next run is a careful one.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(EmbeddedEngine, "__init__", lambda self, *, apart=False: setattr(self, "_apart", False))
    write(dataset, tmp_path / "calm", parquet=parquet)
    must = tree(tmp_path / "calm")
    at, said = 1, []
    while (found := attempt(dataset, tmp_path / f"out{at}", at, monkeypatch, parquet=parquet)) is not None:
        if found:
            said.append(found)
            assert not (tmp_path / f"out{at}/_tamis/manifest.json").exists()
        write(dataset, tmp_path / f"out{at}", parquet=parquet)
        assert tree(tmp_path / f"out{at}") == must
        at += 1
    assert len(said) > 10
    assert all(SENTENCE.search(s) for s in said), said
    assert any("journal" in s for s in said)


def attempt(dataset, out, at, monkeypatch, *, parquet) -> str | None:
    """What a run says whose writes fail from the n-th on; "" where it ends well, None where no write failed."""
    with monkeypatch.context() as patch:
        for name in ("append", "create", "move", "prune", "remove", "replace", "sync"):
            patch.setattr(store.LocalStore, name, getattr(store.LocalStore, name))
        patch.setattr(store, "os", os)
        patch.setattr(lines, "open_input", lines.open_input)
        full = FullAt(at, errno.ENOSPC)
        full.install()
        try:
            write(dataset, out, parquet=parquet)
        except OutputError as error:
            return str(error)
    return "" if full.failed else None  # a status that could not be written ends nothing


LIMITED = """
import resource, signal, sys
sys.path[:0] = sys.argv[1:3]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from tamis import DocumentDataset
from tamis.errors import TamisError
dataset = DocumentDataset.read_json(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    dataset.to_json(sys.argv[4], workers=int(sys.argv[5]), split_size=60_000, progress="off")
except TamisError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limits here")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_may_not_grow_is_said_and_resumed(tmp_path, workers):
    """A limit of the system that every process of the run feels, workers too: EFBIG in the place of ENOSPC."""
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps({"text": f"{i} " + "x" * 990}) + "\n" for i in range(200)))
    here = Path(__file__).parent
    command = [sys.executable, "-c", LIMITED, here, here.parent, path, tmp_path / "out", workers]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "OutputError: " in done.stderr
    assert "File too large. Finished splits are kept; run again." in done.stderr
    assert "Traceback" not in done.stderr
    for place in ("out", "calm"):
        DocumentDataset.read_json(path).to_json(tmp_path / place, workers=1, split_size=60_000, progress="off")
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")
