"""A trained head as a directory: what is written, what is refused, and that it answers what it was trained to."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file

from tamis.classifiers.base import DistributedDataClassifier
from tamis.classifiers.fitting import Linear
from tamis.classifiers.head import EmbedderUsed, load_head, save_head
from tamis.classifiers.train import Training, train_head
from tamis.errors import ModelError, OutputRefusedError, UsageError
from tamis.models.embed import read_layout, weights_sha256
from tiny_embedders import WIDTH, expected, sentence_embedder

TEXTS = ["the law of the court", "soup", "games and sports " * 20, "music lesson", "a match of football players"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    return sentence_embedder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(150, WIDTH)).astype(np.float32)
    classes = features[:, :3].argmax(1)
    return train_head(features, [("low", "mid", "top")[c] for c in classes], [f"t{i}" for i in range(150)])


@pytest.fixture(scope="module")
def scored():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(150, WIDTH)).astype(np.float32)
    return train_head(features, (features[:, 0] * 2 + 2).tolist(), [f"t{i}" for i in range(150)])


def used(embedder):
    return EmbedderUsed(str(embedder), embedder, read_layout(embedder, who="test"), 16)


def answers(directory, texts=TEXTS, **options):
    stage = DistributedDataClassifier(model=directory, prob_column="prob", dtype="float32", **options)
    return stage.open()(pa.table({"text": texts}))


def test_the_directory_answers_what_the_head_computes(trained, embedder, tmp_path):
    save_head(trained, used(embedder), tmp_path / "head")
    table = answers(tmp_path / "head")
    logits = trained.linear(expected(embedder, TEXTS)) / trained.temperature
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(np.array(table.column("prob").to_pylist()), probabilities, atol=1e-5)
    assert table.column("pred").to_pylist() == [trained.labels[i] for i in logits.argmax(1)]
    assert trained.temperature != 1  # else it would not be tested


def test_its_labels_can_be_filtered_by(trained, embedder, tmp_path):
    save_head(trained, used(embedder), tmp_path / "head")
    with pytest.raises(UsageError, match="'top'"):
        DistributedDataClassifier(model=tmp_path / "head", filter_by="topp").open()
    table = answers(tmp_path / "head", filter_by=["mid", "low"])
    kept = [r is None for r in table.column("__reason").to_pylist()]
    assert kept == [p != "top" for p in table.column("pred").to_pylist()]


def test_a_regression_answers_with_the_number_as_it_is(scored, embedder, tmp_path):
    save_head(scored, used(embedder), tmp_path / "head")
    stage = DistributedDataClassifier(model=tmp_path / "head", pred_column="grade", dtype="float32")
    found = stage.open()(pa.table({"text": [*TEXTS, None, " "]})).column("grade")
    assert found.type == pa.float32()
    assert found.to_pylist()[-2:] == [None, None]
    values = scored.linear(expected(embedder, TEXTS))[:, 0]
    np.testing.assert_allclose(found.to_pylist()[:-2], values, atol=1e-5)


def test_what_is_written(trained, embedder, tmp_path):
    save_head(trained, used(embedder), tmp_path / "deep" / "head")
    path = tmp_path / "deep" / "head"
    assert sorted(p.name for p in path.iterdir()) == ["config.json", "model.safetensors"]
    assert [p.name for p in path.parent.iterdir()] == ["head"]
    config = json.loads((path / "config.json").read_text())
    assert config["model_type"] == "tamis-head"
    assert config["embedder"] == {"name": str(embedder), "sha256": weights_sha256(embedder, who="test")}
    assert config["id2label"] == {"0": "low", "1": "mid", "2": "top"}
    assert config["label2id"] == {"low": 0, "mid": 1, "top": 2}
    assert config["problem_type"] == "single_label_classification"
    assert (config["pool"], config["normalize"], config["max_length"]) == ("mean", True, 16)
    assert config["temperature"] == trained.temperature
    assert config["metrics"]["held_out"]["accuracy"] == trained.held_out.accuracy
    tensors = load_file(path / "model.safetensors")
    assert {name: (t.shape, str(t.dtype)) for name, t in tensors.items()} == {
        "fc.weight": ((3, WIDTH), "float32"),
        "fc.bias": ((3,), "float32"),
    }


def test_the_limit_on_tokens_is_the_one_of_training(trained, embedder, tmp_path):
    save_head(trained, EmbedderUsed(str(embedder), embedder, read_layout(embedder, who="test"), 5), tmp_path / "head")
    logits = trained.linear(expected(embedder, TEXTS, max_length=5)) / trained.temperature
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(
        np.array(answers(tmp_path / "head").column("prob").to_pylist()), probabilities, atol=1e-5
    )


def test_an_embedder_with_other_weights_is_refused(trained, tmp_path):
    embedder = sentence_embedder(tmp_path / "embedder")
    save_head(trained, used(embedder), tmp_path / "head")
    assert load_head(tmp_path / "head", who="test").labels == ("low", "mid", "top")
    shutil.rmtree(embedder)
    sentence_embedder(embedder, seed=1)
    with pytest.raises(ModelError, match="has other weights"):
        load_head(tmp_path / "head", who="test")
    shutil.rmtree(embedder)
    with pytest.raises(ModelError, match="no model directory"):
        load_head(tmp_path / "head", who="test")


def test_with_its_embedder_inside_it_can_be_carried_elsewhere(trained, tmp_path):
    embedder = sentence_embedder(tmp_path / "embedder")
    (embedder / "modeling.py").write_text("raise SystemExit")
    (embedder / "onnx").mkdir()
    (embedder / "onnx" / "config.json").write_text("{}")
    save_head(trained, used(embedder), tmp_path / "head", include_embedder=True)
    save_head(trained, used(embedder), tmp_path / "lean")
    before = answers(tmp_path / "lean").column("prob").to_pylist()
    shutil.rmtree(embedder)
    moved = (tmp_path / "head").rename(tmp_path / "elsewhere")
    assert answers(moved).column("prob").to_pylist() == before
    assert not (moved / "embedder" / "modeling.py").exists()
    assert not (moved / "embedder" / "onnx").exists()
    (moved / "embedder" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError, match="has other weights"):
        load_head(moved, who="test")


def test_an_earlier_head_is_replaced_and_nothing_else_is(trained, scored, embedder, tmp_path):
    path = tmp_path / "head"
    path.mkdir()
    save_head(trained, used(embedder), path)
    (path / "notes.txt").write_text("of the earlier one")
    save_head(scored, used(embedder), path)
    assert json.loads((path / "config.json").read_text())["problem_type"] == "regression"
    assert [p.name for p in tmp_path.iterdir()] == ["head"]
    assert not (path / "notes.txt").exists()
    with pytest.raises(OutputRefusedError, match="holds something else"):
        save_head(trained, used(embedder), embedder)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputRefusedError, match="holds something else"):
        save_head(trained, used(embedder), tmp_path / "file")


def test_a_write_that_fails_leaves_the_earlier_head(trained, embedder, tmp_path, monkeypatch):
    path = tmp_path / "head"
    save_head(trained, used(embedder), path)
    before = (path / "config.json").read_bytes()

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tamis.classifiers.head.save_file", full)
    with pytest.raises(Exception, match="No space left on device"):
        save_head(trained, used(embedder), path)
    assert (path / "config.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["head"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedder": None}, "no head of tamis"),
        ({"id2label": {"0": "a", "2": "b"}}, "no head of tamis"),
        ({"temperature": 0.0}, "is damaged"),
        ({"pool": "max"}, "is damaged"),
        ({"normalize": "yes"}, "is damaged"),
        ({"id2label": {"0": "a", "1": "b"}}, r"should hold fc\.weight \(2, 32\)"),
    ],
)
def test_a_damaged_directory_says_so(trained, embedder, tmp_path, change, message):
    save_head(trained, used(embedder), tmp_path / "head")
    config = json.loads((tmp_path / "head" / "config.json").read_text())
    (tmp_path / "head" / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=message):
        load_head(tmp_path / "head", who="test")


def test_weights_under_other_names_are_refused(trained, embedder, tmp_path):
    save_head(trained, used(embedder), tmp_path / "head")
    save_file({"weight": np.zeros((3, WIDTH), np.float32)}, tmp_path / "head" / "model.safetensors")
    with pytest.raises(ModelError, match=r"it holds weight \(3, 32\)"):
        load_head(tmp_path / "head", who="test")


def test_a_head_without_a_held_out_part_is_written_too(embedder, tmp_path):
    features = np.random.default_rng(0).normal(size=(60, WIDTH)).astype(np.float32)
    labels = ["a" if f[0] > 0 else "b" for f in features]
    head = train_head(features, labels, [f"t{i}" for i in range(60)], Training(test_share=0))
    save_head(head, used(embedder), tmp_path / "head")
    assert json.loads((tmp_path / "head" / "config.json").read_text())["metrics"]["held_out"] is None
    assert isinstance(head.linear, Linear)
