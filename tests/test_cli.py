"""The command line and recipes, as a newcomer meets them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from conftest import read_jsonl, tree
from tamis.cli import main
from tamis.errors import RecipeError, UnknownNameError
from tamis.recipe import STAGES, load_recipe, shipped_recipes
from tiny_embedders import sentence_embedder

RECIPE = """# Two filters
[input]
path = "{path}"

[[stage]]
use = "WordCountFilter"
min_words = 3
score_field = "words"

[[stage]]
use = "Where"
expression = "score >= 0"

[output]
path = "{out}"

[run]
workers = 1
"""


@pytest.fixture
def recipe(write_jsonl, tmp_path):
    path = write_jsonl("in/d.jsonl", [{"text": "word " * i, "score": i - 5} for i in range(10)])
    file = tmp_path / "mine.toml"
    file.write_text(RECIPE.format(path=path, out=tmp_path / "out"))
    return file


def test_run_writes_and_reports(recipe, tmp_path, capsys):
    assert main(["run", str(recipe)]) == 0
    shown = capsys.readouterr().out
    assert [d["words"] for d in read_jsonl(tmp_path / "out/part-00000.jsonl")] == [5, 6, 7, 8, 9]
    lines = [line.split() for line in shown.splitlines()]
    assert ["read", "10", "100.0%"] in lines
    assert ["WordCountFilter", "fewer", "than", "3", "words", "3", "30.0%"] in lines
    assert ["kept", "5", "50.0%"] in lines
    assert "\x1b" not in shown  # piped: plain text
    assert main(["run", str(recipe)]) == 0
    assert "already holds the complete result" in capsys.readouterr().out


def test_settings_on_the_command_line(recipe, tmp_path):
    out = tmp_path / "other"
    assert main(["run", str(recipe), "--set", "WordCountFilter.min_words=8", "--set", f"output.path={out}"]) == 0
    assert [d["words"] for d in read_jsonl(out / "part-00000.jsonl")] == [8, 9]
    assert main(["run", str(recipe), "--set", "stage.1.min_words=9", "--set", f"output.path={out}", "--fresh"]) == 0
    assert [d["words"] for d in read_jsonl(out / "part-00000.jsonl")] == [9]


def test_dry_run_writes_nothing(recipe, tmp_path, capsys):
    before = tree(tmp_path)
    assert main(["run", str(recipe), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "fewer than 3 words" in shown
    assert "words (int64)" in shown
    assert "Nothing was written." in shown
    assert tree(tmp_path) == before


def test_limit(recipe, tmp_path):
    assert main(["run", str(recipe), "--limit", "7"]) == 0
    assert [d["words"] for d in read_jsonl(tmp_path / "out/part-00000.jsonl")] == [5, 6]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('use = "Where"', 'use = "Were"'), "stage 2: there is no stage 'Were'. Did you mean 'Where'?"),
        (("min_words = 3", "min_word = 3"), "there is no option 'min_word'. Did you mean 'min_words'?"),
        (("min_words = 3", 'min_words = "3"'), "stage 1 (WordCountFilter): min_words must be a whole number, not '3'."),
        (("min_words = 3", "min_words = -1"), "min_words must be from 0 to max_words"),
        (("score >= 0", "scor >= 0"), "Did you mean 'score'?"),
        (("score >= 0", "import os"), "cannot be understood"),
        (("[run]", "[runn]"), "there is no section 'runn'. Did you mean 'run'?"),
        (("workers = 1", "worker = 1"), "[run]: there is no option 'worker'. Did you mean 'workers'?"),
        (('[[stage]]\nuse = "Where"', '[stage]\nuse = "Where"'), "is not valid TOML"),
        (("in/d.jsonl", "in/e.jsonl"), "Did you mean 'd.jsonl'?"),
        (('use = "Where"', 'use = "nowhere:Where"'), "the module 'nowhere' cannot be imported"),
    ],
)
def test_mistakes_offer_the_nearest_valid_name(recipe, capsys, change, said, tmp_path):
    text = recipe.read_text()
    assert change[0] in text
    recipe.write_text(text.replace(*change))
    assert main(["run", str(recipe)]) in {1, 2}
    errors = " ".join(capsys.readouterr().err.split())
    assert said in errors
    assert errors.startswith("tamis: ")
    assert not (tmp_path / "out").exists()


def test_mistakes_in_settings(recipe):
    with pytest.raises(UnknownNameError, match="Did you mean 'WordCountFilter'"):
        load_recipe(recipe, ["WordCount.min_words=3"])
    with pytest.raises(RecipeError, match=r"write it as section.option=value"):
        load_recipe(recipe, ["workers"])
    with pytest.raises(RecipeError, match=r"there is no recipe file .*/mime.toml. Did you mean 'mine.toml'"):
        load_recipe(recipe.with_name("mime.toml"))


def test_inspect(recipe, tmp_path, capsys):
    (tmp_path / "in/bad.jsonl").write_text('{"text": "x"}\n{"text": \n')
    assert main(["inspect", str(tmp_path / "in")]) == 0
    shown = capsys.readouterr().out
    assert "2 files" in shown
    assert "11 documents" in shown
    assert "1 bad record: 1 not JSON" in shown
    assert "score" in shown
    assert "int64" in shown
    assert "document 1" in shown
    assert main(["inspect", str(tmp_path / "nothing")]) == 1
    assert "does not exist" in capsys.readouterr().err


def test_inspect_shows_text_as_text(write_jsonl, capsys):
    path = write_jsonl("d.jsonl", [{"text": "\x1b[31mred\x07 [bold]not markup[/bold] \u202eabc"}])
    assert main(["inspect", path]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[bold]not markup[/bold]" in shown


@pytest.fixture
def tiny_models(tmp_path, monkeypatch):
    """The models that shipped recipes name."""
    from tiny_checkpoints import encoder_checkpoint, sequence_classifier

    encoder_checkpoint(tmp_path / "models/nvidia/domain-classifier", ["Science", "News"])
    sequence_classifier(tmp_path / "models/HuggingFaceFW/fineweb-edu-classifier", num_labels=1)
    monkeypatch.setenv("TAMIS_MODELS", str(tmp_path / "models"))


@pytest.mark.usefixtures("tiny_models")
def test_every_shipped_recipe_runs(tmp_path, write_jsonl):
    question = {"id": "1", "title": "Who pays?", "question": "I have a question of law. " * 5, "tags": "lease uk"}
    texts = [f"document {i} " + "a few more words " * (i % 5) for i in range(50)]
    path = write_jsonl("d.jsonl", [{"text": text, "score": 1} | question for text in texts])
    for name in shipped_recipes():
        settings = [f"input.path={path}", f"output.path={tmp_path / name}"]
        assert load_recipe(name).title
        assert main(["run", name, *(part for s in settings for part in ("--set", s))]) == 0
        assert (tmp_path / name / "_tamis/manifest.json").exists()


def test_recipes_lists_every_stage(capsys):
    assert main(["recipes"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in [*STAGES, *shipped_recipes()])
    assert main(["recipes", "demo"]) == 0
    assert "WordCountFilter" in capsys.readouterr().out
    assert main(["recipes", "demi"]) == 2


def test_demo_tells_what_was_dropped_and_teaches(tmp_path):
    sentence_embedder(tmp_path / "models/sentence-transformers/all-MiniLM-L6-v2")
    done = subprocess.run(
        [sys.executable, "-m", "tamis.cli", "demo", "--out", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TAMIS_MODELS": str(tmp_path / "models")},
    )
    assert done.returncode == 0, done.stderr
    assert "fewer than 16 words" in done.stdout
    assert re.search(r"\d+ of 300 right", done.stdout)
    assert "Some of what was dropped" in done.stdout
    before, after = map(float, re.search(r"licence +([\d.]+)% of all, +([\d.]+)% of the chosen", done.stdout).groups())
    assert after > 10 * before
    totals = json.loads((tmp_path / "demo/curated/_tamis/manifest.json").read_text())["totals"]
    assert totals["records"] > 3000
    parts = {p: len(read_jsonl(*(tmp_path / f"demo/curated/{p}").glob("*.jsonl"))) for p in ("train", "validation")}
    assert sum(parts.values()) == totals["kept"]
    assert 0.03 < parts["validation"] / totals["kept"] < 0.07


def test_a_folder_may_be_called_as_a_recipe_is(tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_recipe("demo").name == "demo.toml"


def test_help_and_import_load_nothing_heavy():
    heavy = ["pyarrow", "numba", "torch", "ray", "numpy", "rich"]
    for code in ("import tamis; tamis.__all__", "from tamis.cli import _parser; _parser().format_help()"):
        check = f"{code}; import sys; print([m for m in {heavy} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
        assert done.stdout.strip().endswith("[]"), done.stdout


def test_public_names_are_what_they_say():
    import tamis

    assert sorted(tamis.__all__) == sorted(set(tamis.__all__))
    assert all(getattr(tamis, name) is not None for name in tamis.__all__)
    assert set(tamis._HOMES) == set(tamis.__all__) - {"TamisError"}
    with pytest.raises(AttributeError, match="has no attribute 'Datset'"):
        tamis.Datset  # noqa: B018
