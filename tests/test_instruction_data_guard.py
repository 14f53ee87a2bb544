"""Instruction-Data-Guard: parity with a plain computation of the published formula, and its stage."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from tamis.classifiers.instruction_data_guard import InstructionDataGuardClassifier
from tamis.errors import ModelError, UsageError
from tamis.models.tokenizer import load_tokenizer
from tamis.testing import check_stage, sample_table
from tiny_llama import guard_head, llama_checkpoint, lora_adapter

SCORE = "instruction_data_guard_poisoning_score"
DOCUMENTS = [
    "Instruction: the law of the court. Input: soup. Response: a recipe for bread",
    "x",
    "games sports " * 12,
    "日本 語 \U0001f44d",
    " of football and the judge",
    "quality research science history art music school lesson " * 3,
    "the law of the court",
    "soup\n\nrecipe",
]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    root = tmp_path_factory.mktemp("guard")
    peft = lora_adapter(root / "adapter", llama_checkpoint(root / "base"))
    return SimpleNamespace(
        base=root / "base", adapter=root / "adapter", head=root / "head", peft=peft, net=guard_head(root / "head")
    )


def stage(guard, **options) -> InstructionDataGuardClassifier:
    return InstructionDataGuardClassifier(
        **{
            "model": str(guard.head),
            "base_model": str(guard.base),
            "aegis_variant": str(guard.adapter),
            "dtype": "float32",
            "device": "cpu",
            **options,
        }
    )


def published(guard, documents: list[str], *, limit: int | None = None) -> list[float]:
    """One generated token per document, alone: the last state of the last prompt token, the adapter not merged."""
    tokenizer = load_tokenizer(guard.base, who="test")
    scores = []
    for document in documents:
        ids = tokenizer(document, return_tensors="pt").input_ids[:, :limit]
        with torch.inference_mode():
            made = guard.peft.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, do_sample=False, pad_token_id=0,
                output_hidden_states=True, return_dict_in_generate=True,
            )  # fmt: skip
            states = made.hidden_states[0]
            assert len(states) == 4  # the embeddings and one per layer: index 3 here is index 32 of 32 layers
            scores.append(guard.net(states[3][:, -1, :]).item())
    return scores


def table(texts) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.large_string())})


def test_scores_are_those_of_the_published_formula_row_by_row(guard):
    expected = published(guard, DOCUMENTS)
    assert np.ptp(expected) > 0.05  # they differ from text to text
    order = [5, 2, 7, 0, 1, 4, 3, 6]
    out = stage(guard).open()(table([DOCUMENTS[i] for i in order]))
    np.testing.assert_allclose(out[SCORE].to_numpy(), np.float32(expected)[order], atol=1e-5)
    assert out["is_poisoned"].to_pylist() == [expected[i] >= 0.5 for i in order]
    assert set(out["is_poisoned"].to_pylist()) == {True, False}


@pytest.mark.parametrize("batches", [{"batch_size": 1}, {"batch_tokens": 64}])
def test_scores_do_not_depend_on_batches(guard, batches):
    together = stage(guard).open()(table(DOCUMENTS))
    apart = stage(guard, **batches).open()(table(DOCUMENTS))
    np.testing.assert_allclose(together[SCORE].to_numpy(), apart[SCORE].to_numpy(), atol=1e-5)


def test_the_threshold_is_reached_at_one_half(guard):
    outputs = SimpleNamespace(values=np.float32([[0.5], [0.4999], [np.nan]]), answered=np.array([True, True, False]))
    made = stage(guard).answers(outputs, None)
    assert made["is_poisoned"].to_pylist() == [True, False, None]
    assert made[SCORE].type == pa.float32()
    assert made[SCORE].null_count == 1
    assert list(stage(guard, prob_column=None).answers(outputs, None)) == ["is_poisoned"]


def test_long_documents_are_cut(guard):
    document = "the law of the court " * 200
    assert stage(guard, max_length=40).open()(table([document]))[SCORE].to_pylist() == pytest.approx(
        published(guard, [document], limit=40), abs=1e-5
    )
    assert stage(guard, max_chars=20).open()(table([document]))[SCORE].to_pylist() == pytest.approx(
        published(guard, [document[:20]]), abs=1e-5
    )
    assert stage(guard).max_chars == 6000
    assert stage(guard, columns="v1").max_chars is None


def test_the_stage_keeps_its_contract(guard, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # in the fresh process
    check_stage(stage(guard), sample_table(24), tolerance=1e-5)


def test_weights_that_are_not_the_head(guard, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    save_file({"fc.weight": torch.zeros(1, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"not the weights of the head .* there is: fc\.weight"):
        stage(guard, model=tmp_path).open()
    guard_head(tmp_path, width=48)
    with pytest.raises(ModelError, match="the head reads 48 numbers, and the states of the language model have 32"):
        stage(guard, model=tmp_path).open()


def test_bad_settings_are_sentences(guard):
    with pytest.raises(UsageError, match=r'Keep the clean documents with dataset\[~dataset\["is_poisoned"\]\]'):
        stage(guard, filter_by="true")
    with pytest.raises(UsageError, match="neither labels nor another task"):
        stage(guard, labels=["a"])
