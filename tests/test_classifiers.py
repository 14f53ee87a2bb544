"""The classifiers against an independent computation of the published formulas, row by row, in shuffled order."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tamis import DocumentDataset
from tamis.classifiers import (
    ContentTypeClassifier,
    DistributedDataClassifier,
    DomainClassifier,
    FineWebEduClassifier,
    FineWebMixtralEduClassifier,
    FineWebNemotronEduClassifier,
    MultilingualDomainClassifier,
    PromptTaskComplexityClassifier,
    QualityClassifier,
)
from tamis.errors import (
    MissingExtraError,
    ModelError,
    OutputRefusedError,
    StageError,
    UnknownNameError,
    UsageError,
)
from tamis.table import marks
from tamis.testing import check_stage, sample_table
from tiny_checkpoints import (
    PROMPT_CONFIG,
    WORDS,
    encoder_checkpoint,
    prompt_checkpoint,
    save_tokenizer,
    sequence_classifier,
)

LABELS = ["Games", "Sports", "Law", "News", "Cooking"]
EXACT = {"dtype": "float32", "device": "cpu"}


def _texts(n=60, seed=0):
    """Texts of 1 to 70 words in an order that has nothing to do with their length."""
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, size=int(generator.integers(1, 70)))) for _ in range(n)]


TEXTS = _texts()
TABLE = pa.table({"text": TEXTS, "id": [str(i) for i in range(len(TEXTS))]})


def _answers(stage, table=TABLE):
    return marks(stage.open()(table))[0]


def _alone(path, net, texts=TEXTS, *, max_length=64):
    """What the plain model says of each text by itself: no batches, no padding, no sorting."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    out = []
    with torch.inference_mode():
        for text in texts:
            given = tokenizer(text, return_tensors="pt", truncation=True, max_length=max_length)
            out.append(net(given["input_ids"], given["attention_mask"]))
    return out


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder")
    return path, encoder_checkpoint(path, LABELS)


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    path = tmp_path_factory.mktemp("regression")
    return path, sequence_classifier(path, num_labels=1)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts")
    return path, prompt_checkpoint(path)


# -- the published families ----------------------------------------------------------------------------------

ENCODERS = {
    DomainClassifier: ("domain_pred", None),
    MultilingualDomainClassifier: ("domain_pred", None),
    QualityClassifier: ("quality_pred", "quality_prob"),
    ContentTypeClassifier: ("content_pred", None),
}


@pytest.mark.parametrize("family", ENCODERS)
def test_an_encoder_with_one_layer_gives_the_published_answer(family, encoder):
    path, net = encoder
    pred, _ = ENCODERS[family]
    found = _answers(family(model=path, prob_column="p", max_length=64, **EXACT))
    expected = torch.cat(_alone(path, net)).numpy()
    assert len(set(expected.argmax(axis=1))) >= 3
    assert found.column(pred).to_pylist() == [LABELS[i] for i in expected.argmax(axis=1)]
    np.testing.assert_allclose(np.array(found.column("p").to_pylist()), expected, atol=2e-6)


@pytest.mark.parametrize("family", ENCODERS)
def test_columns_are_the_published_ones(family, encoder):
    pred, prob = ENCODERS[family]
    made = family(model=encoder[0]).needs(TABLE.schema).makes
    assert [f.name for f in made] == [pred, *([prob] if prob else [])]
    v1 = [f.name for f in family(model=encoder[0], columns="v1").needs(TABLE.schema).makes]
    assert v1 == ["multilingual_domain_pred" if family is MultilingualDomainClassifier else pred]


def test_published_defaults():
    assert DomainClassifier().model == "nvidia/domain-classifier"
    assert MultilingualDomainClassifier().model == "nvidia/multilingual-domain-classifier"
    assert QualityClassifier().model == "nvidia/quality-classifier-deberta"
    assert ContentTypeClassifier().model == "nvidia/content-type-classifier-deberta"
    assert FineWebEduClassifier().model == "HuggingFaceFW/fineweb-edu-classifier"
    assert [c().max_chars for c in ENCODERS] == [2000, 2000, 6000, 5000]
    assert ContentTypeClassifier(columns="v1").max_chars == 6000
    assert ContentTypeClassifier(columns="v1", max_chars=77).max_chars == 77


EDU = {
    FineWebEduClassifier: ("fineweb-edu-score", False),
    FineWebMixtralEduClassifier: ("fineweb-mixtral-edu-score", True),
    FineWebNemotronEduClassifier: ("fineweb-nemotron-edu-score", True),
}


@pytest.mark.parametrize("family", EDU)
def test_edu_scores_are_the_published_ones(family, regression):
    path, net = regression
    name, labelled = EDU[family]
    raw = np.array([float(out.logits.squeeze(-1)) for out in _alone(path, net)])
    assert raw.min() < 0
    assert raw.max() > 2.5
    found = _answers(family(model=path, **EXACT))
    expected = [name, f"{name}-int", *([f"{name}-label"] if labelled else [])]
    assert found.column_names[2:] == expected
    scores = np.clip(raw, 0, 5)
    np.testing.assert_allclose(found.column(name).to_numpy(), scores, atol=3e-5)
    assert found.column(f"{name}-int").to_pylist() == [round(float(s)) for s in found.column(name).to_pylist()]
    if labelled:
        high = ["high_quality" if r >= 2.5 else "low_quality" for r in raw]
        assert found.column(f"{name}-label").to_pylist() == high
    v1 = [f.name for f in family(model=path, columns="v1").needs(TABLE.schema).makes]
    assert v1 == [f"{name}-float", f"{name}-int", f"{name}-label"]


def test_edu_scores_round_half_to_even_and_keep_the_label_of_the_raw_score():
    class Fixed(FineWebMixtralEduClassifier):
        def load(self):
            raise NotImplementedError

    from tamis.models.runner import Outputs

    raw = np.array([[-1.0], [0.5], [1.5], [2.5], [3.5], [4.5], [7.0], [2.4999998]], dtype=np.float32)
    made = Fixed().answers(Outputs(raw, np.ones(8, bool)), None)
    assert made["fineweb-mixtral-edu-score"].to_pylist()[:7] == [0, 0.5, 1.5, 2.5, 3.5, 4.5, 5]
    assert made["fineweb-mixtral-edu-score-int"].to_pylist() == [0, 0, 2, 2, 4, 4, 5, 2]
    labels = made["fineweb-mixtral-edu-score-label"].to_pylist()
    assert [label == "high_quality" for label in labels] == [False, False, False, True, True, True, True, False]


def test_prompts_get_the_published_tasks_and_scores(prompts):
    path, net = prompts
    found = _answers(PromptTaskComplexityClassifier(model=path, max_length=64, **EXACT)).to_pydict()
    weights, divisors, names = (PROMPT_CONFIG[k] for k in ("weights_map", "divisor_map", "task_type_map"))
    tops = set()
    for row, parts in enumerate(_alone(path, net)):
        by_name = {name: part[0].double() for name, part in zip(PROMPT_CONFIG["targets"], parts, strict=True)}
        best = torch.topk(by_name["task_type"], 2)
        tops.add(int(best.indices[0]))
        assert found["task_type_1"][row] == names[str(int(best.indices[0]))]
        second = "NA" if round(float(best.values[1]), 3) < 0.1 else names[str(int(best.indices[1]))]
        assert found["task_type_2"][row] == second
        assert found["task_type_prob"][row] == pytest.approx(float(best.values[0]), abs=6e-4)
        scores = {}
        for name, part in by_name.items():
            if name != "task_type":
                score = float((part * torch.tensor(weights[name], dtype=torch.float64)).sum()) / divisors[name]
                scores[name] = 0.0 if name == "number_of_few_shots" and round(score, 4) < 0.05 else score
                assert found[name][row] == pytest.approx(scores[name], abs=6e-5), name
        total = (
            0.35 * scores["creativity_scope"]
            + 0.25 * scores["reasoning"]
            + 0.15 * scores["constraint_ct"]
            + 0.15 * scores["domain_knowledge"]
            + 0.05 * scores["contextual_knowledge"]
            + 0.05 * scores["number_of_few_shots"]
        )
        assert found["prompt_complexity_score"][row] == pytest.approx(total, abs=1e-4)
    assert len(tops) >= 2
    assert "NA" in found["task_type_2"]
    assert len(set(found["task_type_2"])) > 1


# -- any model -----------------------------------------------------------------------------------------------


def test_a_single_label_model_works_as_it_is(tmp_path):
    net = sequence_classifier(tmp_path, num_labels=5, id2label=dict(enumerate(LABELS)))
    found = _answers(DistributedDataClassifier(model=tmp_path, prob_column="p", **EXACT))
    logits = torch.cat([out.logits for out in _alone(tmp_path, net)])
    assert found.column("pred").to_pylist() == [LABELS[i] for i in logits.argmax(1)]
    np.testing.assert_allclose(np.array(found.column("p").to_pylist()), logits.softmax(1), atol=2e-6)


def test_a_multi_label_model_gives_lists(tmp_path):
    net = sequence_classifier(
        tmp_path, num_labels=5, id2label=dict(enumerate(LABELS)), problem_type="multi_label_classification"
    )
    stage = DistributedDataClassifier(model=tmp_path, prob_column="p", filter_by=["Law"], **EXACT)
    table, reasons, _ = marks(stage.open()(TABLE))
    found = torch.cat([out.logits for out in _alone(tmp_path, net)]).sigmoid()
    expected = [[LABELS[i] for i in range(5) if row[i] >= 0.5] for row in found]
    assert {len(row) for row in expected} > {1}
    assert table.column("pred").to_pylist() == expected
    np.testing.assert_allclose(np.array(table.column("p").to_pylist()), found, atol=2e-6)
    assert [r is None for r in reasons.to_pylist()] == ["Law" in row for row in expected]


def test_a_regression_gives_the_number(regression):
    path, net = regression
    found = _answers(DistributedDataClassifier(model=path, pred_column="score", **EXACT))
    raw = [float(out.logits) for out in _alone(path, net)]
    np.testing.assert_allclose(found.column("score").to_numpy(), raw, atol=3e-5)
    with pytest.raises(UsageError, match=r'dataset\[dataset\["score"\] >= 3\]'):
        DistributedDataClassifier(model=path, pred_column="score", filter_by="high").needs(TABLE.schema)


def test_an_architecture_without_a_packed_form_runs_padded(tmp_path):
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    save_tokenizer(tmp_path)
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=400, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=64)
    DistilBertForSequenceClassification(config).eval().save_pretrained(tmp_path)
    net = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    found = _answers(DistributedDataClassifier(model=tmp_path, prob_column="p", **EXACT))
    logits = torch.cat([out.logits for out in _alone(tmp_path, net)])
    np.testing.assert_allclose(np.array(found.column("p").to_pylist()), logits.softmax(1), atol=2e-6)


def _count_games(input_ids, attention_mask):
    """A model without weights: how often a text holds an odd or an even token."""
    odd = ((input_ids % 2 == 1) & (attention_mask == 1)).sum(1)
    return torch.stack([attention_mask.sum(1) - odd, odd], dim=1)


def test_a_function_and_its_labels_are_a_model(tmp_path):
    save_tokenizer(tmp_path)
    stage = DistributedDataClassifier(model=_count_games, labels=["even", "odd"], tokenizer=tmp_path)
    found = _answers(stage).column("pred").to_pylist()
    ids = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, truncation=True, max_length=64)["input_ids"]
    odd = np.array([sum(i % 2 for i in row) for row in ids])
    assert found == ["odd" if o > len(row) - o else "even" for o, row in zip(odd, ids, strict=True)]
    check_stage(stage, sample_table())


def test_a_class_with_one_method_is_a_model(tmp_path):
    from dataclasses import dataclass

    from tamis.models.launch import LoadedModel
    from tamis.models.tokenizer import load_tokenizer

    save_tokenizer(tmp_path)

    @dataclass(frozen=True, kw_only=True)
    class Mine(DistributedDataClassifier):
        def load(self):
            return LoadedModel(_count_games, load_tokenizer(self.model, who="Mine"), ("even", "odd"))

    found = _answers(Mine(model=tmp_path, task="single_label")).column("pred").to_pylist()
    assert set(found) == {"even", "odd"}


def test_a_module_of_ones_own_is_moved_and_run(tmp_path):
    class Bag(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.embedding = torch.nn.Embedding(400, 3)

        def forward(self, input_ids, attention_mask):
            return (self.embedding(input_ids) * attention_mask.unsqueeze(-1)).sum(1)

    save_tokenizer(tmp_path)
    bag = Bag()
    stage = DistributedDataClassifier(model=bag, labels=list("abc"), tokenizer=tmp_path, dtype="float32")
    ids = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, truncation=True, max_length=64)["input_ids"]
    expected = ["abc"[int(bag.embedding(torch.tensor(row)).sum(0).argmax())] for row in ids]
    assert _answers(stage).column("pred").to_pylist() == expected


def test_the_old_form_with_a_weights_file_loads(tmp_path, encoder):
    path, net = encoder
    for name, states in {
        "plain.pth": net.state_dict(),
        "parallel.pth": {f"module.{n}": t for n, t in net.state_dict().items()},
    }.items():
        torch.save(states, tmp_path / name)
        save_tokenizer(tmp_path / "base", "unigram")
        (tmp_path / "base" / "config.json").write_text((path / "base" / "config.json").read_text())
        stage = DomainClassifier(
            model_file_name=str(tmp_path / name),
            labels=LABELS,
            base_model=tmp_path / "base",
            filter_by=["Law"],
            **EXACT,
        )
        found = _answers(stage).column("domain_pred").to_pylist()
        assert found == [LABELS[int(p.argmax())] for p in _alone(path, net)]


def test_labels_may_be_elided_as_the_documents_do():
    stage = DomainClassifier(
        model_file_name="x.pth",
        labels=[
            "Adult",
            "Arts_and_Entertainment",
            "Autos_and_Vehicles",
            ...,
            "Shopping",
            "Sports",
            "Travel_and_Transportation",
        ],
    )
    assert len(stage.labels) == 26
    assert "Games" in stage.labels
    with pytest.raises(UsageError, match="between two of the published labels"):
        DomainClassifier(model_file_name="x.pth", labels=["Mine", ..., "Sports"])


# -- what comes out, and what does not -----------------------------------------------------------------------


def test_filter_by_keeps_the_labels_and_says_why_the_rest_goes(encoder):
    stage = DomainClassifier(model=encoder[0], filter_by=["Games", "Sports"], **EXACT)
    table, reasons, scores = marks(stage.open()(TABLE))
    found = table.column("domain_pred").to_pylist()
    for label, reason in zip(found, reasons.to_pylist(), strict=True):
        assert reason == (None if label in {"Games", "Sports"} else f"domain_pred is {label}")
    assert scores.to_pylist() == found
    one = DomainClassifier(model=encoder[0], filter_by="Law", **EXACT).open()(TABLE)
    kept = [r is None for r in marks(one)[1].to_pylist()]
    assert kept == [label == "Law" for label in found]


def test_edu_keeps_by_label(regression):
    table, reasons, _ = marks(FineWebEduClassifier(model=regression[0], filter_by="high_quality").open()(TABLE))
    scores = table.column("fineweb-edu-score").to_pylist()
    assert [r is None for r in reasons.to_pylist()] == [s >= 2.5 for s in scores]
    with pytest.raises(UnknownNameError, match="Did you mean 'high_quality'"):
        FineWebEduClassifier(filter_by="high")


def test_null_and_blank_texts_have_no_answer_and_stop_nothing(encoder, regression):
    table = pa.table({"text": ["games law", None, "", " \n\t ", "court"]})
    found = _answers(DomainClassifier(model=encoder[0], prob_column="p"), table)
    assert [v is None for v in found.column("domain_pred").to_pylist()] == [False, True, True, True, False]
    assert [v is None for v in found.column("p").to_pylist()] == [False, True, True, True, False]
    edu = _answers(FineWebMixtralEduClassifier(model=regression[0]), table).to_pydict()
    for name in ("fineweb-mixtral-edu-score", "fineweb-mixtral-edu-score-int", "fineweb-mixtral-edu-score-label"):
        assert [v is None for v in edu[name]] == [False, True, True, True, False]
    _, reasons, _ = marks(DomainClassifier(model=encoder[0], filter_by=LABELS).open()(table))
    assert reasons.to_pylist() == [None, *["no text to classify"] * 3, None]


def test_max_chars_cuts_what_the_model_sees_and_never_the_column(encoder):
    long = pa.table({"text": [t + " " + "law " * 50 for t in TEXTS]})
    found = _answers(DomainClassifier(model=encoder[0], max_chars=9, **EXACT), long)
    short = _answers(
        DomainClassifier(model=encoder[0], **EXACT), pa.table({"text": [t[:9] for t in long["text"].to_pylist()]})
    )
    assert found.column("domain_pred").equals(short.column("domain_pred"))
    assert found.column("text").to_pylist() == long.column("text").to_pylist()


@pytest.mark.parametrize("how", [{"batch_size": 1}, {"batch_size": 7}, {"batch_tokens": 50}, {"batch_tokens": 100_000}])
def test_batches_change_nothing(how, encoder):
    usual = _answers(DomainClassifier(model=encoder[0], prob_column="p", **EXACT))
    found = _answers(DomainClassifier(model=encoder[0], prob_column="p", **how, **EXACT))
    np.testing.assert_allclose(
        np.array(found.column("p").to_pylist()), np.array(usual.column("p").to_pylist()), atol=1e-6
    )


@pytest.mark.parametrize("family", [*ENCODERS, *EDU, DistributedDataClassifier, PromptTaskComplexityClassifier])
def test_classifiers_hold_the_contract(family, encoder, regression, prompts):
    if family is PromptTaskComplexityClassifier:
        stage = family(model=prompts[0], filter_by="Other", max_length=64, **EXACT)
    elif family in ENCODERS:
        stage = family(model=encoder[0], filter_by=["Games"], prob_column="p", max_length=64, **EXACT)
    else:
        stage = family(model=regression[0], **EXACT)
    fresh = family is FineWebMixtralEduClassifier
    # A text's bits are its own: nothing is tolerated, not even rounding.
    check_stage(stage, sample_table(), tolerance=0.0, fresh_process=fresh)


def test_answers_may_take_the_place_of_another_column(encoder):
    check_stage(DomainClassifier(model=encoder[0], pred_column="source"), sample_table(), fresh_process=False)


def test_the_contract_holds_in_bfloat16(encoder):
    check_stage(
        DomainClassifier(model=encoder[0], prob_column="p", dtype="bfloat16"),
        sample_table(20),
        tolerance=0.05,
        fresh_process=False,
    )


def test_half_precision_gives_nearly_the_same(encoder):
    exact = _answers(DomainClassifier(model=encoder[0], prob_column="p", **EXACT))
    half = _answers(DomainClassifier(model=encoder[0], prob_column="p", dtype="bfloat16", device="cpu"))
    np.testing.assert_allclose(
        np.array(half.column("p").to_pylist()), np.array(exact.column("p").to_pylist()), atol=0.06
    )


# -- mistakes, each with its sentence ------------------------------------------------------------------------


def test_a_label_that_is_not_there_is_said_with_the_nearest(encoder):
    with pytest.raises(UnknownNameError, match="Did you mean 'Sports'"):
        DomainClassifier(model=encoder[0], filter_by=["Sport"]).open()


def test_a_directory_without_weights_or_configuration(tmp_path, encoder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"has no config.json \(it holds nothing\)"):
        DomainClassifier(model=tmp_path / "empty").open()
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((encoder[0] / "config.json").read_text())
    with pytest.raises(ModelError, match="holds no weights"):
        DomainClassifier(model=bare).open()
    with pytest.raises(ModelError, match=r"there is no model directory .*Did you mean 'bare'"):
        DomainClassifier(model=tmp_path / "bar").open()


def test_weights_that_do_not_fit(tmp_path, encoder):
    wrong = tmp_path / "wrong"
    encoder_checkpoint(wrong, LABELS)
    config = json.loads((wrong / "config.json").read_text())
    config["id2label"] = {"0": "Games", "1": "Sports"}
    (wrong / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"last layer has 5 outputs, and its configuration names 2 labels"):
        DomainClassifier(model=wrong).open()
    (wrong / "model.safetensors").write_bytes(b"\x08" + bytes(40))
    with pytest.raises(ModelError, match=r"model.safetensors cannot be read .* Copy or download them again"):
        DomainClassifier(model=wrong).open()


def test_a_base_model_that_was_never_trained_to_classify_is_refused(tmp_path, regression):
    from transformers import BertModel

    save_tokenizer(tmp_path)
    BertModel.from_pretrained(regression[0]).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="they would be random"):
        DistributedDataClassifier(model=tmp_path).open()


def test_a_weights_file_with_code_in_it_is_refused(tmp_path, encoder):
    class Evil:
        def __reduce__(self):
            return (print, ("run!",))

    torch.save({"fc.weight": Evil()}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="Tamis runs no code from a weights file"):
        DomainClassifier(model_file_name=tmp_path / "x.pth", labels=LABELS, base_model=encoder[0] / "base").open()
    with pytest.raises(ModelError, match=r"there is no weights file .*Did you mean 'x.pth'"):
        DomainClassifier(model_file_name=tmp_path / "y.pth", labels=LABELS).open()


def test_a_directory_without_a_tokenizer(tmp_path, encoder):
    path = tmp_path / "model"
    encoder_checkpoint(path, LABELS)
    (path / "tokenizer.json").unlink()
    (path / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer in .* cannot be loaded"):
        DomainClassifier(model=path).open()


@pytest.mark.parametrize("settings", [
    {"batch_size": 0}, {"max_chars": -1}, {"batch_tokens": "many"}, {"max_length": True}, {"batch_size": "64"},
])  # fmt: skip
def test_settings_that_make_no_sense(settings, encoder):
    with pytest.raises(UsageError, match=f"{next(iter(settings))} must be a positive whole number"):
        DomainClassifier(model=encoder[0], **settings)


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"device": "gpu"}, "there is no device 'gpu'"),
    ({"device": "cuda"}, "this machine .* has none"),
    ({"dtype": "bf16"}, "there is no dtype 'bf16'. Did you mean 'bfloat16'"),
    ({"dtype": "float16"}, "no fast path on a processor"),
    ({"max_length": 65}, "max_length must be from 1 to 64"),
])  # fmt: skip
def test_devices_and_formats_that_are_not_to_be_had(settings, sentence, regression):
    if torch.cuda.is_available() and settings.get("device") == "cuda":
        pytest.skip("there is a CUDA device here")
    with pytest.raises(ModelError, match=sentence):
        FineWebEduClassifier(model=regression[0], **{"device": "cpu"} | settings).open()


def test_a_model_and_a_tokenizer_that_fail_are_told_apart_before_any_data(tmp_path):
    def broken(input_ids, attention_mask):
        raise RuntimeError("no such kernel")

    def no_memory(input_ids, attention_mask):
        raise torch.OutOfMemoryError("out")

    def shapeless(input_ids, attention_mask):
        return torch.zeros(3)

    save_tokenizer(tmp_path)
    for function, sentence in {
        broken: "the model fails on a plain text, before any of the data: RuntimeError: no such kernel",
        no_memory: "the device has no memory left to run the model on a single short text",
        shapeless: r"outputs of shape \(3,\) for one text",
        _count_games: "the model has 2 outputs and there are 3 labels",
    }.items():
        stage = DistributedDataClassifier(model=function, labels=list("abc"), tokenizer=tmp_path)
        with pytest.raises(ModelError, match=sentence):
            stage.open()


def _limited(tokens):
    def model(input_ids, attention_mask):
        if input_ids.numel() > tokens:
            raise torch.OutOfMemoryError("out")
        return _count_games(input_ids, attention_mask)

    return model


def test_out_of_memory_makes_batches_smaller_and_loses_nothing(tmp_path):
    save_tokenizer(tmp_path)
    usual = DistributedDataClassifier(model=_count_games, labels=["even", "odd"], tokenizer=tmp_path)
    tight = DistributedDataClassifier(model=_limited(150), labels=["even", "odd"], tokenizer=tmp_path)
    assert _answers(tight).equals(_answers(usual))
    with pytest.raises(StageError, match="no memory for a single text of 64 tokens"):
        DistributedDataClassifier(model=_limited(40), labels=["even", "odd"], tokenizer=tmp_path).open()(TABLE)


def test_an_answer_that_is_no_number_is_quarantined_and_the_rest_goes_on(tmp_path, write_jsonl):
    def sometimes(input_ids, attention_mask):
        logits = _count_games(input_ids, attention_mask).float()
        logits[(input_ids == 0).logical_and(attention_mask == 1).any(1)] = float("nan")
        return logits

    save_tokenizer(tmp_path / "t")
    texts = [*TEXTS, "games [PAD] law", *TEXTS]
    path = write_jsonl("in.jsonl", [{"text": t} for t in texts])
    stage = DistributedDataClassifier(model=sometimes, labels=["even", "odd"], tokenizer=tmp_path / "t")
    result = stage(DocumentDataset.read_json(path)).to_json(tmp_path / "out", progress="off")
    assert (result.tally.kept, result.tally.total_quarantined) == (120, 1)
    entry = json.loads((tmp_path / "out" / "_quarantine" / "records.jsonl").read_text())
    assert entry["line"] == 61
    assert "not a finite number" in entry["detail"]


def test_a_missing_package_is_said_when_the_stage_is_built(monkeypatch):
    import importlib.util

    there = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else there(name))
    with pytest.raises(MissingExtraError, match=r"needs the package 'torch'.*pip install 'tamis\[models\]'"):
        DomainClassifier()


def test_building_a_stage_imports_no_torch():
    code = (
        "import sys; from tamis.classifiers import *; DomainClassifier(filter_by='Games'); FineWebEduClassifier();"
        "print(sorted({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- the hub -------------------------------------------------------------------------------------------------


def _hub_error(kind):
    from huggingface_hub import errors

    made = getattr(errors, kind)
    return made.__new__(made)


@pytest.mark.parametrize(("kind", "sentence"), [
    ("GatedRepoError", "is gated. Ask for access"),
    ("RepositoryNotFoundError", "there is no model 'owner/name' on the hub"),
    ("LocalEntryNotFoundError", "the hub cannot be reached .* Copy the model to this machine"),
])  # fmt: skip
def test_what_the_hub_refuses_is_said_plainly_and_without_the_token(kind, sentence, monkeypatch):
    def download(name, **_):
        raise _hub_error(kind)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    stage = DomainClassifier(model="owner/name", token="hf_secret")
    with pytest.raises(ModelError, match=sentence) as caught:
        stage.open()
    assert "hf_secret" not in str(caught.value) + repr(stage)


def test_a_token_is_in_no_file_of_the_output(tmp_path, encoder, write_jsonl):
    path = write_jsonl("in.jsonl", [{"text": t} for t in TEXTS[:5]])
    stage = DomainClassifier(model=encoder[0], token="hf_secret")
    stage(DocumentDataset.read_json(path)).to_json(tmp_path / "out", progress="off")
    for file in (tmp_path / "out").rglob("*"):
        assert not file.is_file() or b"hf_secret" not in file.read_bytes()


def test_a_folder_of_models_stands_for_the_hub(tmp_path, monkeypatch):
    encoder_checkpoint(tmp_path / "nvidia" / "domain-classifier", LABELS)
    monkeypatch.setenv("TAMIS_MODELS", str(tmp_path))
    assert _answers(DomainClassifier(**EXACT)).column("domain_pred").null_count == 0


def test_only_data_files_are_fetched_from_the_hub(monkeypatch, encoder):
    asked = []

    def download(name, *, allow_patterns, token):
        asked.append((name, tuple(allow_patterns), token))
        return str(encoder[0])

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    _answers(DomainClassifier(model="owner/name", token="t", **EXACT))
    assert all(name == "owner/name" and token == "t" for name, _, token in asked)
    assert not any(p.endswith((".py", ".bin", "*")) for _, patterns, _ in asked for p in patterns)


def test_the_hub_is_not_asked_again_for_every_window(monkeypatch, encoder):
    asked = []

    def download(name, **_):
        asked.append(name)
        return str(encoder[0])

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    run = DomainClassifier(model="owner/name", prob_column="p", filter_by="Law", **EXACT).open()
    before = len(asked)
    for _ in range(3):
        run(TABLE)
    assert len(asked) == before > 0


# -- the whole way -------------------------------------------------------------------------------------------


def test_a_run_is_the_same_with_any_workers_and_block_sizes(tmp_path, encoder, write_jsonl):
    paths = [write_jsonl(f"in/{n}.jsonl", [{"text": t, "n": i} for i, t in enumerate(_texts(40, n))]) for n in range(3)]
    found = {}
    for workers in (1, 2):
        stage = DomainClassifier(model=encoder[0], filter_by=["Games", "Law"], **EXACT)
        out = tmp_path / f"out{workers}"
        stage(DocumentDataset.read_json(paths, add_filename=True)).to_json(
            out, write_to_filename=True, workers=workers, split_size=1000, progress="off"
        )
        found[workers] = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.glob("*.jsonl"))}
    assert len(found[1]) == 3
    assert found[1] == found[2]


def test_a_run_that_could_not_start_leaves_the_directory_free(tmp_path, encoder, regression, write_jsonl):
    path = write_jsonl("in.jsonl", [{"text": t} for t in TEXTS[:5]])
    with pytest.raises(ModelError, match="max_length must be"):
        FineWebEduClassifier(model=regression[0], max_length=9999)(DocumentDataset.read_json(path)).to_json(
            tmp_path / "out", progress="off"
        )
    result = DomainClassifier(model=encoder[0])(DocumentDataset.read_json(path)).to_json(
        tmp_path / "out", progress="off"
    )
    assert result.tally.kept == 5


def test_other_weights_in_the_same_directory_are_another_run(tmp_path, write_jsonl):
    path = write_jsonl("in.jsonl", [{"text": t} for t in TEXTS[:5]])
    encoder_checkpoint(tmp_path / "model", LABELS)
    dataset = DocumentDataset.read_json(path)
    DomainClassifier(model=tmp_path / "model")(dataset).to_json(tmp_path / "out", progress="off")
    again = DomainClassifier(model=str(tmp_path / "model"), batch_size=2)(dataset).to_json(
        tmp_path / "out", progress="off"
    )
    assert again.already_complete
    encoder_checkpoint(tmp_path / "model", LABELS, seed=1)
    with pytest.raises(OutputRefusedError, match="its stages differ"):
        DomainClassifier(model=tmp_path / "model")(dataset).to_json(tmp_path / "out", progress="off")


def test_mistakes_are_said_before_anything_runs(encoder):
    dataset = DocumentDataset.from_arrow(TABLE)
    with pytest.raises(UnknownNameError, match="Did you mean 'Sports'"):
        DomainClassifier(model=encoder[0], filter_by=["Sport"])(dataset).check()
    with pytest.raises(UsageError, match="its answers would replace the text in 'text'"):
        DomainClassifier(model=encoder[0], pred_column="text")(dataset).check()


def test_one_huge_text_and_many_tiny_ones(encoder, regression):
    table = pa.table({"text": ["law " * 2_500_000, *["games"] * 50_000, "\U0001f469\u200d\U0001f467 nul \x00 \u202e"]})
    found = _answers(FineWebEduClassifier(model=regression[0]), table)
    scores = found.column("fineweb-edu-score").to_pylist()
    assert len(set(scores[1:-1])) == 1
    assert None not in scores
    assert found.column("text").equals(table.column("text"))
