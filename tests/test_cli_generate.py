"""``tamis generate`` and the recipe step of the same, as a newcomer meets them."""

from __future__ import annotations

import pytest

from conftest import read_jsonl, tree
from tamis.cli import main
from tamis.recipe import load_recipe
from tiny_generators import TAGS, generator

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    generator(path, "llama")
    return path


@pytest.fixture
def place(tmp_path, monkeypatch, write_jsonl):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    words = ["the law", "soup", "a judge of the court", None, "river"]
    write_jsonl("rows/a.jsonl", [{"id": str(n), "prompt": w, "tags": ["a"]} for n, w in enumerate(words)])
    (tmp_path / "tags.txt").write_text("\n".join(TAGS))
    return tmp_path


def test_rows_get_answers_and_tags(place, model, capsys):
    arguments = ["generate", str(model), "rows", "--out", "out", "--tags", "tags.txt", "--max-new-tokens", "12"]
    assert main([*arguments, "--dtype", "float32", "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    assert f"model {model} on" in shown
    assert "in float32, greedy, at most 12 tokens, held to the tags of tags.txt" in shown
    assert "prompt    the law" in shown
    found = read_jsonl(*(place / "out").glob("*.jsonl"))
    assert [row["tags"] for row in found] == [["a"]] * 5
    assert all(set(row["predicted_tags"]) <= set(TAGS) for row in found)
    assert [bool(row["predicted_tags"]) for row in found] == [True, True, True, False, True]
    assert f"answer    {found[0]['generated'].strip()}" in shown
    assert main([*arguments, "--dtype", "float32", "--workers", "1"]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_recipe_writes_the_same(place, model):
    main(["generate", str(model), "rows", "--out", "out", "--tags", "tags.txt", "--dtype", "float32", "--workers", "1"])
    recipe = place / "answers.toml"
    recipe.write_text(f"""
[input]
path = "rows"
text_field = "prompt"

[[stage]]
use = "Generate"
model = "{model}"
tags = "tags.txt"
dtype = "float32"

[output]
path = "again"
""")
    made = load_recipe(str(recipe), [])
    made.dataset().to_json("again", workers=1, progress="off")
    pick = {name: tree(place / name) for name in ("out", "again")}
    assert {k: v for k, v in pick["out"].items() if k.endswith(".jsonl")} == {
        k: v for k, v in pick["again"].items() if k.endswith(".jsonl")
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tags", "tag.txt"], "the tags file tag.txt cannot be read"),
        (["--unmerged"], "--unmerged says how an adapter runs"),
        (
            ["--prompt-field", "promt"],
            "reads the column 'promt', which does not exist at that point. Did you mean 'prompt'",
        ),
        (["--format", "parquet", "--compression", "gz"], "--compression is for JSON Lines"),
        (["--temperature", "-1"], "temperature must be 0"),
        (["--adapter", "rows"], "rows has no adapter_config.json"),
        (["--vllm"], "needs the package vllm"),
    ],
)
def test_what_cannot_be_meant_is_said(place, model, capsys, options, message):
    assert main(["generate", str(model), "rows", "--out", "out", "--workers", "1", *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (place / "out").exists() or not list((place / "out").glob("*.jsonl"))
