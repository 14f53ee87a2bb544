"""``tamis classify`` and recipes with models, as a newcomer meets them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from conftest import read_jsonl, tree
from tamis.cli import main
from tamis.cli_classify import CLASSIFIERS, _step
from tamis.recipe import STAGES, load_recipe
from tiny_checkpoints import WORDS, encoder_checkpoint, prompt_checkpoint, sequence_classifier
from tiny_embedders import sentence_embedder
from tiny_guard import guard
from tiny_llama import guard_head
from tiny_words import save_word_tokenizer

LABELS = ["Games", "Sports", "Law", "News", "日本語"]
ROOT = Path(__file__).parent.parent


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    encoder_checkpoint(folder / "nvidia/domain-classifier", LABELS, seed=8)
    save_word_tokenizer(folder / "nvidia/domain-classifier")
    prompt_checkpoint(folder / "nvidia/prompt-task-and-complexity-classifier")
    sequence_classifier(folder / "HuggingFaceFW/fineweb-edu-classifier", num_labels=1)
    guard(folder)
    guard_head(folder / "nvidia/instruction-data-guard")
    sequence_classifier(folder / "mine", num_labels=3, id2label={0: "a", 1: "b", 2: "c"})
    sequence_classifier(folder / "many", num_labels=3, problem_type="multi_label_classification")
    sequence_classifier(folder / "number", num_labels=1, seed=1)
    return folder


@pytest.fixture
def place(models, tmp_path, monkeypatch, write_jsonl):
    monkeypatch.setenv("TAMIS_MODELS", str(models))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    texts = [" ".join(WORDS[(7 * i + j) % len(WORDS)] for j in range(1 + i % 9)) for i in range(40)]
    write_jsonl("docs/a.jsonl", [{"text": t, "n": i} for i, t in enumerate([*texts, None, " "])])
    return tmp_path


def shown(capsys) -> dict[str, list[str]]:
    """What was printed, the words of each line by its first."""
    out = capsys.readouterr().out
    assert "\x1b" not in out
    return {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()}


# -- tamis classify ------------------------------------------------------------------------------------------


def test_a_named_classifier(place, capsys):
    assert main(["classify", "docs", "out", "--classifier", "domain", "--device", "cpu", "--dtype", "float32"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0] == "model nvidia/domain-classifier on cpu in float32, at most 2,000 characters"
    assert any(line.startswith("DomainClassifier: ") and "tokens/s" in line for line in lines)
    documents = read_jsonl(place / "out/part-00000.jsonl")
    assert [d["n"] for d in documents] == list(range(42))
    found = [d["domain_pred"] for d in documents]
    for label in set(found) - {None}:
        n = found.count(label)
        (line,) = [each.split() for each in lines if each.startswith(label)]
        assert line[1:3] == [f"{n}", f"{n / 42:.1%}"]
        assert set(line[3]) == {"█"}
    assert ["(no", "text)", "2", "4.8%"] in [line.split()[:4] for line in lines]
    assert lines[-1].endswith("docs/s)")
    assert " written to out in " in lines[-1]
    assert not any(line.endswith(" ") for line in lines if "█" in line)
    assert main(["classify", "docs", "out", "--classifier", "domain", "--device", "cpu", "--dtype", "float32"]) == 0
    assert "already holds the complete result" in capsys.readouterr().out


def test_labels_that_are_kept(place, capsys):
    everything = ["classify", "docs", "all", "--classifier", "domain"]
    assert main(everything) == 0
    kept = {d["n"] for d in read_jsonl(place / "all/part-00000.jsonl") if d["domain_pred"] in {"Law", "News"}}
    command = ["classify", "docs", "some", "--classifier", "domain", "--filter-by", "Law", "--keep-rejects"]
    assert main([*command, "--filter-by", "News", "--batch-size", "3", "--batch-tokens", "100"]) == 0
    assert 0 < len(kept) < 40
    assert {d["n"] for d in read_jsonl(place / "some/part-00000.jsonl")} == kept
    rejects = read_jsonl(*(place / "some/_rejects").rglob("*.jsonl"))
    assert len(rejects) == 42 - len(kept)
    assert "DomainClassifier  domain_pred is " in capsys.readouterr().out


def test_scores_are_a_histogram(place, capsys):
    assert main(["classify", "docs", "out", "--classifier", "edu", "--columns", "v1", "--format", "parquet"]) == 0
    lines = shown(capsys)
    table = pq.read_table(place / "out/part-00000.parquet")
    assert {"fineweb-edu-score-float", "fineweb-edu-score-int", "fineweb-edu-score-label"} <= set(table.column_names)
    whole = table["fineweb-edu-score-int"].to_pylist()
    assert [lines[str(i)][0] for i in range(6)] == [str(whole.count(i)) for i in range(6)]
    assert lines["(no"][:2] == ["text)", "2"]
    assert len({i for i in whole if i is not None}) > 2
    assert main(["classify", "docs", "one", "--classifier", "edu", "--limit", "1"]) == 0
    lines = shown(capsys)
    assert sorted(lines[str(i)][0] for i in range(6)) == ["0", "0", "0", "0", "0", "1"]


def test_numbers_of_any_range(place, models, capsys):
    assert main(["classify", "docs", "out", "--classifier", str(models / "number"), "--pred-column", "x"]) == 0
    out = capsys.readouterr().out
    values = [d["x"] for d in read_jsonl(place / "out/part-00000.jsonl") if d["x"] is not None]
    total = 0
    for low, _, high, n, *_ in [line.split() for line in out.splitlines() if " to " in line and "█" in line]:
        assert sum(float(low) <= v < float(high) for v in values) == int(n)
        total += int(n)
    assert total == len(values) == 40


@pytest.mark.parametrize(
    ("low", "high", "step"), [(0, 5, 1), (0.2, 4.9, 0.5), (-3, 96, 20), (0.001, 0.0091, 0.001), (3, 3, 1)]
)
def test_steps(low, high, step):
    assert _step(low, high) == pytest.approx(step)


def test_several_labels_for_one_document(place, models, capsys):
    assert main(["classify", "docs", "out", "--classifier", str(models / "many"), "--prob-column", "p"]) == 0
    lines = shown(capsys)
    found = [d["pred"] for d in read_jsonl(place / "out/part-00000.jsonl")]
    for label in ("LABEL_0", "LABEL_1", "LABEL_2"):
        n = sum(label in labels for labels in found if labels)
        assert lines.get(label, ["0"])[0] == str(n)
    assert [d["p"] is None for d in read_jsonl(place / "out/part-00000.jsonl")] == [labels is None for labels in found]


def test_a_directory_and_the_other_options(place, models, capsys):
    documents = [{"body": d["text"], "n": d["n"]} for d in read_jsonl(place / "docs/a.jsonl")]
    (place / "bodies.jsonl").write_text("".join(json.dumps(d) + "\n" for d in documents) + "{")
    command = ["classify", "bodies.jsonl", "out", "--classifier", str(models / "mine"), "--text-field", "body"]
    options = ["--max-chars", "50", "--max-length", "16", "--compression", "gz", "--workers", "1"]
    assert main([*command, *options]) == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith(", at most 50 characters and 16 tokens")
    assert (place / "out/part-00000.jsonl.gz").exists()
    assert len(read_jsonl(place / "out/_quarantine/records.jsonl")) == 1
    assert main([*command, *options, "--resume"]) == 0
    assert main([*command]) == 2
    assert "its stages and output settings differ" in capsys.readouterr().err
    assert main([*command, "--fresh", "--limit", "5"]) == 0
    out = capsys.readouterr().out
    assert " written to out in " in out
    assert "0 B read" not in out
    assert len(read_jsonl(place / "out/part-00000.jsonl")) == 5
    assert main([*command, "--fresh", "--strict"]) == 1
    assert "bodies.jsonl" in capsys.readouterr().err


def test_one_that_was_trained_here(place, write_jsonl, capsys):
    sentence_embedder(place / "embedder")
    words = {"play": "games football match goal player", "law": "law court judge sensitive people"}
    documents = [
        {"text": " ".join(w.split()[: 1 + i % 5] * (1 + i)), "y": y} for y, w in words.items() for i in range(30)
    ]
    write_jsonl("labelled/a.jsonl", documents)
    assert main(["train-classifier", "labelled", "trained", "--labels", "y", "--embedder", "embedder"]) == 0
    capsys.readouterr()
    command = ["classify", "labelled", "out", "--classifier", "trained", "--prob-column", "p", "--filter-by", "play"]
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("model trained on ")
    kept = read_jsonl(place / "out/part-00000.jsonl")
    assert {d["pred"] for d in kept} == {"play"}
    assert sum(d["y"] == "play" for d in kept) > 0.8 * len(kept)


def test_prompts(place, capsys):
    assert main(["classify", "docs", "out", "--classifier", "prompt-task"]) == 0
    lines = shown(capsys)
    assert "task_type_1" in lines
    assert set(lines) & {"Brainstorming", "Chatbot", "Closed", "Other"}


def test_guards(place, models, write_jsonl, capsys):
    texts = ["a recipe for soup and more", "a recipe for bread and more", "water and light", None]
    write_jsonl("unsafe/a.jsonl", [{"text": text} for text in texts])
    assert main(["classify", "unsafe", "out", "--classifier", "aegis"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("model meta-llama/LlamaGuard-7b with nvidia/Aegis-AI-Content-Safety-")
    rows = [line.split()[:2] for line in out.splitlines() if "█" in line]
    assert rows == [["O13", "1"], ["O3", "1"], ["safe", "1"], ["(no", "text)"]]
    assert main(["classify", "unsafe", "other", "--classifier", "aegis-permissive"]) == 2
    assert "LlamaGuard-Permissive-1.0" in capsys.readouterr().err
    assert main(["classify", "unsafe", "poison", "--classifier", "instruction-data-guard"]) == 0
    lines = shown(capsys)
    assert "is_poisoned" in lines
    poisoned = [d["is_poisoned"] for d in read_jsonl(place / "poison/part-00000.jsonl")]
    assert poisoned[3] is None
    assert int(lines.get("true", ["0"])[0]) == poisoned.count(True)
    assert int(lines.get("false", ["0"])[0]) == poisoned.count(False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--classifier domian", "there is no classifier 'domian' and no such directory. Did you mean 'domain'?"),
        ("--classifier domain --filter-by Gmaes", "filter_by: there is no label 'Gmaes'. Did you mean 'Games'?"),
        ("--classifier MODELS/mine --filter-by d", "filter_by: there is no label 'd'. There is: a, b, c."),
        ("--classifier edu --filter-by good", "there is no label 'good'. There is: high_quality, low_quality."),
        ("--classifier MODELS/number --filter-by x", "filter_by takes labels, and this model gives a number"),
        ("--classifier nobody/none", "the hub cannot be reached"),
        ("--classifier MODELS/mien", "Did you mean the directory MODELS/mine?"),
        ("--classifier MODELS/mine --model x", "is a model already: leave --model out"),
        ("--classifier MODELS/mine --columns v1", "--columns is for the classifiers that have a name: domain,"),
        ("--classifier domain --model MODELS/nothing", "there is no model directory 'MODELS/nothing'"),
        ("--classifier domain --max-chars 0", "max_chars must be a positive whole number; got 0."),
        ("--classifier domain --device gpu", "there is no device 'gpu'"),
        ("--classifier domain --dtype bf16", "Did you mean 'bfloat16'?"),
        ("--classifier domain --text-field txet", "Did you mean 'text'?"),
        ("--classifier domain --pred-column text", "its answers would replace the text"),
        ("--classifier edu --prob-column p", "answers without probabilities of labels: leave --prob-column out"),
        ("--classifier domain --format parquet --compression gz", "--compression is for JSON Lines"),
        ("--classifier domain --compression zip", "there is no compression 'zip'"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(place, models, capsys, arguments, said):
    given = arguments.replace("MODELS", str(models)).split()
    assert main(["classify", "docs", "out", *given]) == 2
    errors = " ".join(capsys.readouterr().err.split())
    assert said.replace("MODELS", str(models)) in errors
    assert errors.startswith("tamis: ")
    assert not (place / "out").exists()


def test_without_torch_it_says_what_to_install(place, capsys, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    assert main(["classify", "docs", "out", "--classifier", "domain"]) == 2
    assert "pip install 'tamis[models]'" in " ".join(capsys.readouterr().err.split())


def test_every_short_name_is_a_stage():
    assert {kind for kind, _ in CLASSIFIERS.values()} <= set(STAGES)


def test_there_is_no_option_for_a_secret(capsys):
    with pytest.raises(SystemExit):
        main(["classify", "docs", "out", "--classifier", "aegis", "--token", "x"])
    capsys.readouterr()


# -- recipes -------------------------------------------------------------------------------------------------

RECIPE = """# A model of one's own
[input]
path = "docs"

[[stage]]
use = "DistributedDataClassifier"
model = "{model}"
dtype = "float32"

[[stage]]
use = "Where"
expression = "pred != 'c'"

[output]
path = "{out}"
keep_rejects = true

[run]
split_size = 200
"""


def test_a_recipe_is_refused_when_its_model_changes(place, models, capsys):
    (place / "r.toml").write_text(RECIPE.format(model=models / "mine", out="out"))
    assert main(["run", "r.toml"]) == 0
    documents = read_jsonl(*sorted((place / "out").glob("*.jsonl")))
    assert {d["pred"] for d in documents} <= {"a", "b"}
    assert main(["run", "r.toml", "--set", "DistributedDataClassifier.batch_size=2"]) == 0  # the same run
    assert "already holds the complete result" in capsys.readouterr().out
    assert main(["run", "r.toml", "--set", f"DistributedDataClassifier.model={models}/nvidia/domain-classifier"]) == 2
    assert "its stages differ" in " ".join(capsys.readouterr().err.split())


def test_a_killed_run_goes_on(place, models):
    (place / "calm.toml").write_text(RECIPE.format(model=models / "mine", out="calm"))
    (place / "killed.toml").write_text(RECIPE.format(model=models / "mine", out="killed"))
    assert main(["run", "calm.toml"]) == 0
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    slow = (
        "import os, signal, sys; from tamis.engine.output import RunDirectory as D; from tamis.cli import main\n"
        "commit, left = D.commit, [3]\n"
        "def counted(*arguments):\n"
        "    commit(*arguments); left[0] -= 1\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "D.commit = counted; sys.exit(main(['run', 'killed.toml']))"
    )
    done = subprocess.run([sys.executable, "-c", slow], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (place / "killed/_tamis/journal").read_bytes().count(b"\n") == 3
    assert main(["run", "killed.toml", "--resume"]) == 0
    assert tree(place / "killed") == tree(place / "calm")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('batch_size = "64"', "batch_size must be a whole number, not '64'."),
        ("batch_tokens = 1.5", "batch_tokens must be a whole number or text, not 1.5."),
        ("filter_by = 3", "filter_by must be text or a list of text, not 3."),
        ("labels = [1, 2]", "labels must be a list of text, not [1, 2]."),
        ("model = 3", "model must be text, not 3."),
        ("columns = 1", "columns must be text, not 1."),
        ('columns = "v2"', "there is no set of columns 'v2'. Did you mean 'v1'?"),
        ('batch_tokens = "few"', "batch_tokens must be a positive whole number; got 'few'."),
        ('max_char = "x"', "there is no option 'max_char'. Did you mean 'max_chars'?"),
        ('token = "hf_x"', "a recipe is no place for a secret such as 'token'"),
    ],
)
def test_settings_have_types(place, capsys, setting, said):
    stage = f'[[stage]]\nuse = "DomainClassifier"\n{setting}\n'
    (place / "r.toml").write_text(f'[input]\npath = "docs"\n{stage}[output]\npath = "out"\n')
    assert main(["run", "r.toml"]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_settings_that_fit(place):
    settings = (
        'filter_by = ["Law"]\nbatch_tokens = 64\nmodel = "x"\nlabels = ["Law"]\ncolumns = "v1"\ntokenizer = "y"\n'
    )
    (place / "r.toml").write_text(f'[input]\npath = "docs"\n[[stage]]\nuse = "DomainClassifier"\n{settings}')
    (stage,) = load_recipe(place / "r.toml").dataset().steps
    assert (stage.filter_by, stage.batch_tokens, stage.columns) == (["Law"], 64, "v1")


def test_the_shipped_recipe(place):
    assert main(["run", "classify", "--set", "input.path=docs", "--set", "output.path=out"]) == 0
    documents = read_jsonl(place / "out/part-00000.jsonl")
    assert documents
    assert all(d["edu_int"] >= 3 and d["domain_pred"] in LABELS for d in documents)


def test_listing_recipes_loads_no_torch():
    code = (
        "import sys; from tamis.cli import main; main(['recipes']); "
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
    for name in STAGES:
        (line,) = [each for each in done.stdout.splitlines() if each.split()[:1] == [name]]
        assert len(line.split()) > 3
    assert time.monotonic() - began < 30


# -- the example ---------------------------------------------------------------------------------------------


def test_the_example(place, models, write_jsonl):
    write_jsonl("docs/b.jsonl", [{"text": "soup " * 20 + word, "n": 100} for word in WORDS[:20]])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "examples/classify.py"), "docs", "out", str(models / "mine"), "a", "b"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    documents = read_jsonl(place / "out/part-00000.jsonl")
    rejects = read_jsonl(*(place / "out/_rejects").rglob("*.jsonl"))
    assert documents
    assert {d["topic"] for d in documents} <= {"a", "b"}
    assert {d["style"] for d in documents} == {"varied"}
    assert len(documents) + len(rejects) == 62
    repetitive = [d for d in rejects if d.get("style") == "repetitive"]
    assert repetitive
    assert all(d["n"] == 100 for d in repetitive)
