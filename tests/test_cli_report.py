"""``tamis report``: one file, or plots; where it may be written; and a page that follows a run."""

from __future__ import annotations

import json
import re
import sys
import threading

import pytest

from fake_run import Fake
from tamis.cli import main
from tamis.page.content import Page
from tamis.page.live import follow
from tamis.page.make import report

RECIPE = """
[input]
path = "{folder}/in.jsonl"
[[stage]]
use = "WordCountFilter"
min_words = {least}
score_field = "words"
[output]
path = "{folder}/{out}"
keep_rejects = true
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    lines = (json.dumps({"id": str(i), "text": "word " * (i % 12), "lang": "ab"[i % 2]}) for i in range(60))
    (folder / "in.jsonl").write_text("\n".join(lines) + "\n")
    for out, least in (("first", 4), ("second", 8)):
        (folder / f"{out}.toml").write_text(RECIPE.format(folder=folder, out=out, least=least))
        assert main(["run", str(folder / f"{out}.toml"), "--workers", "1"]) == 0
    return folder


def carried(path):
    """The data that a page carries."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(found[1])["page"]


def test_a_page_of_one_run_and_of_two(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(folder / "first"), "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("report-first.html, ")
    assert "All 60 documents of the input." in said
    (run,) = carried(tmp_path / "report-first.html")["runs"]
    assert run["counts"]["kept"] == 40
    assert main(["report", str(folder / "first"), str(folder / "second"), "--workers", "1"]) == 0
    assert "60 documents are in both samples; 20 were decided differently." in capsys.readouterr().out
    page = carried(tmp_path / "report-first-second.html")
    assert [run["counts"]["kept"] for run in page["runs"]] == [40, 20]
    assert page["differences"]["only_first"] == 20


def test_the_same_run_gives_the_same_page_but_for_times(folder, tmp_path):
    made = []
    for name in "ab":
        assert main(["report", str(folder / "first"), "--out", str(tmp_path / name), "--workers", "1"]) == 0
        page = carried(tmp_path / name)
        page.pop("made")
        for stage in page["runs"][0]["stages"]:
            stage.pop("seconds"), stage.pop("per_second")
        made.append(page)
    assert made[0] == made[1]


def test_paths_are_short(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    out = tmp_path / "p.html"
    assert main(["report", "first", "--out", str(out), "--workers", "1"]) == 0
    assert str(folder) not in out.read_text()
    assert str(folder) not in capsys.readouterr().out.replace(str(out), "")


def test_a_missing_package_is_named_before_anything_is_read(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    monkeypatch.setattr("tamis.page.make.look", None)
    assert main(["report", "first"]) == 2
    assert "pip install 'tamis[report]'" in capsys.readouterr().err


def test_plots_are_written(folder, tmp_path, capsys):
    out, plots = tmp_path / "p.html", tmp_path / "plots"
    arguments = ["report", str(folder / "first"), "--out", str(out), "--png", str(plots), "--workers", "1"]
    assert main(arguments) == 0
    files = sorted(plots.iterdir())
    assert len(files) >= 2
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    assert f"{plots}: {len(files)} plots" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["first", "--out", "first/page.html"], "lies in the directory of the run"),
        (["first", "--out", "."], "is a directory"),
        (["nothing"], "does not exist, or is empty"),
        (["first", "second", "--live"], "leave OTHER out"),
        (["first", "--sample", "-3"], "at least 0 documents"),
    ],
)
def test_mistakes_are_said(folder, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert main(["report", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_a_live_page_follows_the_run_until_it_ends(folder, tmp_path):
    """A run that takes as long as the page wants to be looked at: it goes on each time it was."""
    fake = Fake(tmp_path / "run", 6, name={"use": "WordCountFilter"})
    out = tmp_path / "page.html"
    seen: list[Page] = []
    went_on, begun = threading.Event(), threading.Event()

    def run():
        with fake.directory.lock():
            fake.directory.claim("auto")
            fake.directory.start(None)
            begun.set()
            for split in fake.splits:
                went_on.wait(20)
                went_on.clear()
                fake.directory.commit(split, fake.result(split))
            fake.directory.quarantine(fake.splits)
            fake.directory.finish(fake.splits)

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(20)

    def heard(page):
        seen.append(page)
        assert out.read_text().startswith("<!")
        assert ('http-equiv="refresh"' in out.read_text()) == page.live
        went_on.set()

    last = follow(str(tmp_path / "run"), str(out), lambda: report(folder / "first", workers=1), every=0.02, heard=heard)
    thread.join()
    assert all(page.live for page in seen[:-2])
    assert len(seen) > 4
    assert [page.live for page in seen[-2:]] == [False, False]
    assert seen[0].runs[0].progress.state == "running"
    assert last.runs[0].sample is not None
    assert carried(out)["title"] == "first"
    assert not carried(out)["live"]


def test_live_says_whether_the_run_ended_well(folder, tmp_path, capsys):
    out = str(tmp_path / "p.html")
    assert main(["report", str(folder / "first"), "--live", "--out", out, "--workers", "1"]) == 0
    fake = Fake(tmp_path / "run", 6, name={"use": "WordCountFilter"})
    try:
        with fake.directory.lock():
            fake.directory.claim("auto")
            fake.directory.start(None)
            fake.directory.commit(fake.splits[0], fake.result(fake.splits[0]))
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    capsys.readouterr()
    assert main(["report", str(tmp_path / "run"), "--live", "--out", out]) == 1
    assert "the run is stopped, " in capsys.readouterr().out
