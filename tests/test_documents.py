"""What the README and the examples show runs as it is shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conftest import read_jsonl
from tamis.recipe import load_recipe

ROOT = Path(__file__).parent.parent
DOCS = [
    {
        "text": "A document with words enough to be kept, number "
        + str(i)
        + " "
        + " ".join(f"w{i}x{j}" for j in range(60))
    }
    | {"score": i, "lang": "en"}
    for i in range(40)
] + [{"text": "LOUD " * 70, "score": 1, "lang": "en"}, {"text": "ok", "score": 1, "lang": "en"}]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_readme_runs(write_jsonl, tmp_path, monkeypatch):
    write_jsonl("crawl/a.jsonl", DOCS)
    monkeypatch.chdir(tmp_path)
    import gzip

    Path("crawl/a.jsonl.gz").write_bytes(gzip.compress(Path("crawl/a.jsonl").read_bytes()))
    script = "\n".join(blocks("python"))
    assert "to_json" in script
    (tmp_path / "readme.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "readme.py"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kept = read_jsonl(*sorted(Path("curated").glob("*/*.jsonl")))
    assert len([d for d in kept if "rejected" not in d]) == 40
    assert sorted(d["rejected"]["stage"] for d in kept if "rejected" in d) == [
        "RepeatingTopNGramsFilter",
        "WordCountFilter",
    ]


def test_the_readme_recipe_is_valid(write_jsonl, tmp_path):
    (recipe,) = blocks("toml")
    assert tomllib.loads(recipe)
    path = write_jsonl("d.jsonl", DOCS)
    (tmp_path / "r.toml").write_text(recipe)
    dataset = load_recipe(tmp_path / "r.toml", [f"input.path={path}"]).dataset()
    assert dataset.count() == 41


def test_the_example_runs(write_jsonl, tmp_path):
    path = write_jsonl("d.jsonl", DOCS)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(ROOT / "examples/curate.py"), path, str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "42 records: 40 kept, 2 rejected, 0 quarantined" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["README.md", "docs/architecture.md", "bench/README.md"])
def test_links_lead_somewhere(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
