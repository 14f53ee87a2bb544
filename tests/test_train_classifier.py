"""Training a head: the optimum, the folds, the scores, the labels, and the way from a file to a directory."""

import argparse
import io
import json
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sklearn import metrics
from sklearn.linear_model import LogisticRegression, Ridge

from tamis import DocumentDataset
from tamis.classifiers.fitting import log_loss, logistic, ridge, softmax64, temperature_of
from tamis.classifiers.train import (
    Training,
    calibration_error,
    check_labels,
    folds_of,
    pick_task,
    score_classes,
    score_numbers,
    train_head,
)
from tamis.cli_models import add_train_classifier, demo_classifier
from tamis.errors import MissingColumnError, OutputRefusedError, UnknownNameError, UsageError
from tamis.models.embed import Embed
from tamis.training import Sample, train_classifier
from tiny_embedders import sentence_embedder


def draw(n=400, width=12, classes=3, seed=0, strength=4.0):
    """Features of unlike scales and shifts, and classes that follow from some of them."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, width)) * rng.uniform(0.1, 5, width) + rng.normal(size=width)
    logits = strength * (features[:, :classes] - features[:, :classes].mean(0)) / features[:, :classes].std(0)
    return features.astype(np.float32), (logits + rng.gumbel(size=logits.shape)).argmax(1)


def ids(n):
    return [f"text {i}" for i in range(n)]


# -- the optimum ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [1.0, 0.05, 0.001])
@pytest.mark.parametrize("balanced", [False, True])
def test_logistic_regression_finds_the_optimum_that_scikit_learn_finds(strength, balanced):
    features, classes = draw()
    weights = (1 / np.bincount(classes))[classes] if balanced else None
    linear = next(logistic(features, classes, 3, [strength], weights=weights))
    wide = features.astype(np.float64)
    scaled = (wide - wide.mean(0)) / wide.std(0)
    oracle = LogisticRegression(C=1 / (strength * len(classes)), tol=1e-9, max_iter=10_000)
    shares = None if weights is None else weights * len(weights) / weights.sum()
    oracle.fit(scaled, classes, sample_weight=shares)
    np.testing.assert_allclose(linear.weight * wide.std(0), oracle.coef_, atol=1e-4)
    np.testing.assert_allclose(softmax64(linear(wide)), oracle.predict_proba(scaled), atol=1e-4)


def test_a_path_of_strengths_ends_where_each_alone_does():
    features, classes = draw(seed=1)
    path = logistic(features, classes, 3, [1.0, 0.1, 0.01], tolerance=1e-9)
    for strength, linear in zip([1.0, 0.1, 0.01], path, strict=True):
        alone = next(logistic(features, classes, 3, [strength], tolerance=1e-9))
        np.testing.assert_allclose(linear.weight, alone.weight, atol=1e-6)
        np.testing.assert_allclose(linear.bias, alone.bias, atol=1e-6)


def test_separable_classes_and_constant_features_do_not_run_away():
    features = np.zeros((40, 3), dtype=np.float32)
    features[:20, 0], features[:, 1] = 1, 7
    linear = next(logistic(features, np.repeat([0, 1], 20), 2, [1e-4]))
    assert np.isfinite(linear.weight).all()
    assert (linear.weight[:, 1:] == 0).all()
    assert (linear(features).argmax(1) == np.repeat([0, 1], 20)).all()


@pytest.mark.parametrize("strength", [10.0, 0.1, 0.001])
def test_ridge_regression_finds_the_optimum_that_scikit_learn_finds(strength):
    features, _ = draw(seed=2)
    values = features[:, 0] - 2 * features[:, 3] + np.random.default_rng(0).normal(size=len(features))
    linear = ridge(features, values.astype(np.float64), [strength])[0]
    wide = features.astype(np.float64)
    scaled = (wide - wide.mean(0)) / wide.std(0)
    oracle = Ridge(alpha=strength * len(values)).fit(scaled, values)
    np.testing.assert_allclose(linear.weight[0] * wide.std(0), oracle.coef_, atol=1e-6)
    np.testing.assert_allclose(linear(wide)[:, 0], oracle.predict(scaled), atol=1e-6)


@pytest.mark.parametrize("sharpness", [0.2, 1.0, 5.0])
def test_the_temperature_undoes_what_logits_were_multiplied_by(sharpness):
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(20_000, 3)) * 2
    classes = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    found = temperature_of(logits * sharpness, classes)
    assert found == pytest.approx(sharpness, rel=0.05)
    best = log_loss(logits * sharpness / found, classes)
    assert best < min(log_loss(logits * sharpness / (found * f), classes) for f in (0.98, 1.02))
    assert calibration_error(softmax64(logits * sharpness / found), classes) < 0.02


# -- scores --------------------------------------------------------------------------------------------------


def test_scores_of_classes_are_those_of_scikit_learn():
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(300, 4))
    classes = (logits + 2 * rng.normal(size=logits.shape)).argmax(1)
    scores = score_classes(logits, classes, 1.5)
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(classes, logits.argmax(1)))
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(classes, logits.argmax(1), average="macro"))
    assert scores.log_loss == pytest.approx(metrics.log_loss(classes, softmax64(logits / 1.5)))
    assert np.array(scores.confusion).tolist() == metrics.confusion_matrix(classes, logits.argmax(1)).tolist()
    assert scores.majority == pytest.approx(np.bincount(classes).max() / 300)


def test_the_calibration_error_of_a_case_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.4, 0.6]])
    # 0.9 twice, one hit: gap 0.4; 0.7 and a hit: 0.3; 0.6 and no hit: 0.6; each weighted by its share.
    assert calibration_error(probabilities, np.array([0, 1, 1, 0])) == pytest.approx(
        0.5 * 0.4 + 0.25 * 0.3 + 0.25 * 0.6
    )


def test_scores_of_numbers_are_those_of_scikit_learn():
    rng = np.random.default_rng(5)
    values, predicted = rng.normal(size=50), rng.normal(size=50)
    scores = score_numbers(predicted, values)
    assert scores.r2 == pytest.approx(metrics.r2_score(values, predicted))
    assert scores.mae == pytest.approx(metrics.mean_absolute_error(values, predicted))
    assert scores.rmse == pytest.approx(metrics.root_mean_squared_error(values, predicted))


# -- folds ---------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from([f"t{i}" for i in range(40)]), st.integers(0, 2)), min_size=1, max_size=80),
    st.randoms(),
)
def test_folds_ignore_the_order_and_keep_copies_together(examples, random):
    training = Training()
    shuffled = list(examples)
    random.shuffle(shuffled)

    def folds(of):
        return folds_of([name for name, _ in of], np.array([stratum for _, stratum in of]), training).tolist()

    assert sorted(zip(examples, folds(examples), strict=True)) == sorted(zip(shuffled, folds(shuffled), strict=True))
    by_text = {}
    for (name, _), fold in zip(examples, folds(examples), strict=True):
        assert by_text.setdefault(name, fold) == fold


def test_folds_and_the_held_out_part_have_their_share_of_every_class():
    strata = np.repeat([0, 1, 2], [500, 100, 6])
    folds = folds_of(ids(606), strata, Training())
    for stratum, n in ((0, 100), (1, 20), (2, 1)):
        inside = folds[strata == stratum]
        assert (inside == -1).sum() == n
        counts = np.bincount(inside[inside >= 0], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert (folds_of(ids(606), strata, Training(seed=1)) != folds).any()
    assert (folds_of(ids(606), strata, Training(test_share=0)) >= 0).all()


# -- training ------------------------------------------------------------------------------------------------


def test_separable_labels_are_learnt_and_random_ones_are_not():
    rng = np.random.default_rng(6)
    features, classes = draw(n=600, width=30, seed=6, strength=40.0)
    names = np.array(["cats", "dogs", "birds"])
    learnt = train_head(features, names[classes].tolist(), ids(600))
    assert learnt.labels == ("birds", "cats", "dogs")
    assert learnt.held_out.examples == 120
    assert learnt.held_out.accuracy > 0.9
    assert learnt.cross_validated.accuracy > 0.9
    chance = train_head(features, names[rng.integers(0, 3, 600)].tolist(), ids(600))
    assert chance.cross_validated.accuracy < 0.42
    assert chance.held_out.accuracy < 0.48
    assert chance.strength >= 0.3  # nothing to learn: the penalty is strong


def test_copies_of_texts_do_not_leak_into_the_scores():
    rng = np.random.default_rng(7)
    features = np.repeat(rng.normal(size=(60, 100)).astype(np.float32), 5, axis=0)
    labels = np.repeat(rng.integers(0, 2, 60), 5)
    named = ["no" if value == 0 else "yes" for value in labels]
    head = train_head(features, named, [f"t{i // 5}" for i in range(300)])
    assert head.cross_validated.accuracy < 0.72  # by heart, it would be 1
    apart = train_head(features, named, ids(300))
    assert apart.cross_validated.accuracy > 0.95  # the test can tell


def test_the_order_of_the_documents_changes_nothing():
    features, classes = draw(n=200, seed=8)
    order = np.random.default_rng(0).permutation(200)
    one = train_head(features, [f"c{c}" for c in classes], ids(200))
    other = train_head(features[order], [f"c{c}" for c in classes[order]], [ids(200)[i] for i in order])
    assert (one.linear.weight == other.linear.weight).all()
    assert one.cross_validated == other.cross_validated
    assert one.held_out == other.held_out


def test_balanced_classes_find_more_of_a_rare_one():
    rng = np.random.default_rng(9)
    classes = (rng.uniform(size=1000) < 0.05).astype(int)
    features = (rng.normal(size=(1000, 5)) + 0.9 * classes[:, None]).astype(np.float32)
    plain = train_head(features, classes.tolist(), ids(1000), Training(task="classification"))
    balanced = train_head(
        features, classes.tolist(), ids(1000), Training(task="classification", class_weights="balanced")
    )
    found = [head.cross_validated.confusion[1][1] for head in (plain, balanced)]
    assert found[1] > 1.5 * found[0]


def test_numbers_are_learnt_and_random_ones_are_not():
    rng = np.random.default_rng(10)
    features, _ = draw(n=500, seed=10)
    values = np.clip(2.5 + features[:, 0] / features[:, 0].std() + 0.3 * rng.normal(size=500), 0, 5)
    head = train_head(features, values.tolist(), ids(500))
    assert head.task == "regression"
    assert head.labels == ("score",)
    assert head.held_out.r2 > 0.8
    chance = train_head(features, rng.normal(size=500).tolist(), ids(500))
    assert abs(chance.held_out.r2) < 0.1


def test_whole_numbers_are_scores_unless_they_are_two_or_it_is_said():
    assert pick_task([0, 1, 2, 5], "auto") == "regression"
    assert pick_task([0, 1, 1.5], "auto") == "regression"
    assert pick_task([0, 1, 0], "auto") == "classification"
    assert pick_task([True, False], "auto") == "classification"
    assert pick_task(["1", "2", "3"], "auto") == "classification"
    assert pick_task([0, 1, 2], "classification") == "classification"


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        ([], "auto", "no document has both a text and a label"),
        (["a"] * 30, "auto", "all 30 examples have the label 'a'"),
        (["a"] * 27 + ["b"] * 3, "auto", r"1 of 2 labels have fewer than 6 different texts \('b' 3\)"),
        ([f"l{i}" for i in range(30)], "auto", "30 of 30 labels .* Is this the right field"),
        ([["a"]] * 30, "auto", "some here are of the type list"),
        (["a"] * 15 + ["1"] * 15, "regression", "regression needs numbers as labels, and one here is 'a'"),
        ([1.0] * 30, "regression", "all 30 labels are 1"),
        ([1.0, float("inf")] * 15, "regression", "15 labels are infinite"),
        ([1.0, 2.0, 3.0], "auto", "3 different texts .* needs 20"),
    ],
)
def test_labels_that_cannot_be_learnt_say_why(values, task, message):
    with pytest.raises(UsageError, match=message):
        check_labels(values, ids(len(values)), Training(task=task))


def test_copies_do_not_count_as_examples():
    with pytest.raises(UsageError, match="'b' 1"):
        check_labels(["a"] * 30 + ["b"] * 30, [*ids(30), *["one"] * 30], Training())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"folds": 1}, "folds"), ({"test_share": 1.0}, "test_share"), ({"class_weights": "some"}, "balanced")],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(UsageError, match=message):
        Training(**change)
    with pytest.raises(UnknownNameError, match="'classification'"):
        Training(task="classify")


# -- from a file to a directory ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    return sentence_embedder(tmp_path_factory.mktemp("models") / "tiny")


SPORT = ["match", "player", "goal", "football", "games"]
SCIENCE = ["research", "science", "quality", "water", "energy"]


def documents(n=120):
    """Texts of two topics; every eighth has no label, no text, or a blank one."""
    made = []
    for i in range(n):
        words = SPORT if i % 2 else SCIENCE
        text = (
            " ".join(words[(i * 7 + j * (i % 3 + 1)) % 5] for j in range(4 + i % 5)) + f" number {'in' * (i % 11)}{i}"
        )
        made.append({"text": text, "topic": "sport" if i % 2 else "science", "grade": float(i % 2) * 3 + i % 3})
    for i in range(0, n, 24):
        made[i]["topic"] = made[i]["grade"] = None
        made[i + 8]["text"] = "  "
        made[i + 16]["text"] = None
    return made


def embed(embedder):
    return Embed(model=embedder, dtype="float32")


def test_from_documents_to_a_directory(embedder, tmp_path):
    dataset = DocumentDataset.from_arrow(pa.Table.from_pylist(documents()))
    heard = []
    found = train_classifier(
        dataset, tmp_path / "out", "topic", embed=embed(embedder), heard=lambda *done: heard.append(done)
    )
    assert (found.examples, found.without_label, found.without_text, found.not_sampled) == (105, 5, 10, 0)
    assert found.head.labels == ("science", "sport")
    assert found.head.held_out.accuracy == 1
    assert heard[-1] == (105, 105)
    assert found.tokens > 105 * 4
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["metrics"]["held_out"]["accuracy"] == 1
    assert config["max_length"] == 16


def test_the_same_documents_in_another_order_give_the_same_head(embedder, tmp_path):
    table = pa.Table.from_pylist(documents())
    order = np.random.default_rng(0).permutation(len(table))
    heads = [
        train_classifier(
            DocumentDataset.from_arrow(each), tmp_path / str(i), "topic", embed=embed(embedder), sample=Sample(80)
        ).head
        for i, each in enumerate((table, table.take(pa.array(order))))
    ]
    np.testing.assert_allclose(heads[0].linear.weight, heads[1].linear.weight, atol=1e-5)
    assert heads[0].cross_validated.confusion == heads[1].cross_validated.confusion


def test_samples_take_a_number_of_documents_or_of_each_label(embedder, tmp_path):
    made = documents()
    for document in made[:70]:
        document["topic"] = "sport"
    dataset = DocumentDataset.from_arrow(pa.Table.from_pylist(made))

    def counts(name, sample):
        head = train_classifier(dataset, tmp_path / name, "topic", embed=embed(embedder), sample=sample).head
        return dict(zip(head.labels, head.counts, strict=True))

    assert sum(counts("a", Sample(limit=60)).values()) == 60
    assert counts("b", Sample(per_class=15)) == {"science": 15, "sport": 15}
    with pytest.raises(UsageError, match="limit must be a whole number"):
        Sample(limit=0)
    with pytest.raises(UsageError, match="per_class is for classes"):
        train_classifier(dataset, tmp_path / "c", "grade", embed=embed(embedder), sample=Sample(per_class=20))


def test_windows_of_texts_keep_rows_and_embeddings_together(embedder, tmp_path, monkeypatch):
    whole = pa.Table.from_pylist(documents())
    at_once = train_classifier(DocumentDataset.from_arrow(whole), tmp_path / "one", "topic", embed=embed(embedder))
    monkeypatch.setattr("tamis.training._WINDOW", 7)
    pieces = pa.concat_tables([whole.slice(i, 11) for i in range(0, len(whole), 11)])
    found = train_classifier(DocumentDataset.from_arrow(pieces), tmp_path / "out", "topic", embed=embed(embedder))
    assert found.examples == 105
    np.testing.assert_allclose(found.head.linear.weight, at_once.head.linear.weight, atol=1e-5)


def test_mixed_labels_are_taken_as_they_are_written(embedder, tmp_path, write_jsonl):
    made = [{**d, "topic": 1 if d["topic"] == "sport" else d["topic"]} for d in documents()]
    dataset = DocumentDataset.read_json(write_jsonl("mixed.jsonl", made))
    found = train_classifier(dataset, tmp_path / "out", "topic", embed=embed(embedder))
    assert found.head.labels == ("1", "science")
    assert found.without_label == 5


def test_nothing_is_embedded_before_labels_and_directory_have_been_looked_at(tmp_path, monkeypatch):
    dataset = DocumentDataset.from_arrow(pa.Table.from_pylist([{**d, "same": "x"} for d in documents()]))
    monkeypatch.setattr(Embed, "layout", lambda self: pytest.fail("the embedder was loaded"))
    with pytest.raises(UsageError, match="all 110 examples have the label 'x'"):
        train_classifier(dataset, tmp_path / "out", "same")
    with pytest.raises(MissingColumnError, match="'topic'"):
        train_classifier(dataset, tmp_path / "out", "topics")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputRefusedError, match=r"thesis\.txt"):
        train_classifier(dataset, tmp_path / "full", "topic")


# -- the command ---------------------------------------------------------------------------------------------


def command(*arguments):
    console = Console(highlight=False, width=200, soft_wrap=True, record=True, file=io.StringIO())
    parser = argparse.ArgumentParser()
    add_train_classifier(parser.add_subparsers(), lambda: console)
    options = parser.parse_args(["train-classifier", *map(str, arguments)])
    assert options.command(options) == 0
    return console.export_text()


def test_the_command_prints_tables(embedder, tmp_path, write_jsonl):
    path = write_jsonl("in.jsonl", documents())
    out = tmp_path / "out"
    text = command(path, out, "--labels", "topic", "--embedder", embedder, "--dtype", "float32", "--balanced")
    for line in (
        "105 documents learnt from; left out: 5 without a label, 10 without a text",
        "label    documents  share",
        "held out: documents by label (rows) and prediction (columns)",
        f"tamis classify IN OUT --classifier {out}",
    ):
        assert line in text
    assert "held out                21    100.0%" in text
    text = command(path, out, "--labels", "grade", "--embedder", embedder, "--dtype", "float32", "--limit", "90")
    assert "not in the sample" in text
    assert "R²" in text


def test_the_demo_teaches_and_asks(embedder, tmp_path, write_jsonl, monkeypatch):
    made = [{"text": d["text"], "source": d["topic"], "name": "n"} for d in documents()]
    corpus = write_jsonl("corpus.jsonl", [*made, {"text": "a rare one", "source": "rare", "name": "n"}])
    models = tmp_path / "models" / "sentence-transformers"
    models.mkdir(parents=True)
    (models / "all-MiniLM-L6-v2").symlink_to(embedder)
    monkeypatch.setenv("TAMIS_MODELS", str(models.parent))
    console = Console(width=200, soft_wrap=True, record=True, file=io.StringIO())
    demo_classifier(console, corpus, str(tmp_path / "out"))
    text = console.export_text()
    assert "rare" not in text
    assert re.search(r"\d+ of \d+ right", text)
    assert "came from" in text


def test_the_demo_without_torch_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    console = Console(width=200, soft_wrap=True, record=True, file=io.StringIO())
    demo_classifier(console, "nowhere", "nowhere")
    assert "it needs torch and transformers. Run: pip install 'tamis[models]'" in console.export_text()
