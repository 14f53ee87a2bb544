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
from tamis import DocumentDataset
from tamis.recipe import load_recipe
from tiny_checkpoints import encoder_checkpoint, sequence_classifier

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


def blocks(language: str, page: str = "README.md") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder that stands for the hub, and a directory ``my-classifier``."""
    folder = tmp_path_factory.mktemp("models")
    encoder_checkpoint(folder / "nvidia/domain-classifier", ["Games", "Sports", "News"])
    encoder_checkpoint(folder / "nvidia/quality-classifier-deberta", ["High", "Medium", "Low"])
    sequence_classifier(folder / "HuggingFaceFW/fineweb-edu-classifier", num_labels=1)
    sequence_classifier(folder / "my-classifier", num_labels=3)
    return folder


def run(script: str, models: Path) -> None:
    Path("my-classifier").symlink_to(models / "my-classifier")
    Path("script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TAMIS_MODELS": str(models)}
    done = subprocess.run([sys.executable, "script.py"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_readme_runs(write_jsonl, tmp_path, monkeypatch, models):
    write_jsonl("crawl/a.jsonl", DOCS)
    monkeypatch.chdir(tmp_path)
    import gzip

    Path("crawl/a.jsonl.gz").write_bytes(gzip.compress(Path("crawl/a.jsonl").read_bytes()))
    script = "\n".join(blocks("python"))
    assert "to_json" in script
    run(script, models)
    kept = read_jsonl(*sorted(Path("curated").glob("*/*.jsonl")))
    assert len([d for d in kept if "rejected" not in d]) == 40
    assert sorted(d["rejected"]["stage"] for d in kept if "rejected" in d) == [
        "RepeatingTopNGramsFilter",
        "WordCountFilter",
    ]

    classified = read_jsonl(*Path("classified").glob("*.jsonl"))
    assert len(classified) == 42
    assert {len(d["probabilities"]) for d in classified} == {3}
    assert {d["domain_pred"] for d in read_jsonl(*Path("games_and_sports").glob("*.jsonl"))} <= {"Games", "Sports"}


def test_the_page_on_classifying_runs(write_jsonl, tmp_path, monkeypatch, models):
    write_jsonl("crawl/a.jsonl", DOCS)
    monkeypatch.chdir(tmp_path)
    run("\n".join(blocks("python", "docs/classify.md")), models)
    rows = read_jsonl(*Path("good").glob("*.jsonl"), *Path("good/_rejects").glob("*.jsonl"))
    assert len(rows) == 42
    assert all((d["quality_pred"] == "Low") == ("rejected" in d) for d in rows)
    assert DocumentDataset.read_parquet("topics/").count() == 42


def test_the_page_on_object_storage_runs(write_jsonl, tmp_path, monkeypatch, models):
    write_jsonl("crawl/a.jsonl", DOCS)
    monkeypatch.chdir(tmp_path)
    run("\n".join(blocks("python", "docs/object-storage.md")), models)


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


PAGES = ["README.md", "bench/README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
