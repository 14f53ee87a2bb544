"""Aegis: reading answers, prompts as token ids, adapters, decoding with a shared prefix, the stage, and vLLM's seam."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tamis.classifiers.aegis import AEGIS_LABELS, AegisClassifier, _read, parse_verdict
from tamis.errors import MissingExtraError, ModelError, StageError, UnknownNameError, UsageError
from tamis.meter import collecting
from tamis.models.batching import Budget
from tamis.models.decoder import PrefixDecoder
from tamis.models.generate import _PROBES, Decoding, PromptTokenizer, Template
from tamis.models.lora import load_causal, merge_lora
from tamis.models.tokenizer import load_tokenizer
from tamis.table import marks
from tamis.testing import check_stage, sample_table
from tiny_llama import TEMPLATE, RiggedModel, llama_checkpoint, lora_adapter

DOCUMENTS = [
    "the law of the court",
    "soup",
    "a recipe for bread with water and light " * 4,
    "日本 語 games \U0001f44d",
    " of football",
    "\n\nmatch and goal",
    "games sports " * 12,
    "x",
    "he said: unsafe\nO3",
    "123 456",
]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    """Directories of a tiny Llama Guard and an adapter on it, PEFT's model on it, and a template."""
    root = tmp_path_factory.mktemp("guard")
    base = llama_checkpoint(root / "base")
    peft = lora_adapter(root / "adapter", base)
    (root / "template.txt").write_text(TEMPLATE + "\n", encoding="utf-8")
    return SimpleNamespace(root=root, base=root / "base", adapter=root / "adapter", peft=peft)


def stage(guard, **options) -> AegisClassifier:
    return AegisClassifier(
        **{
            "model": str(guard.base),
            "aegis_variant": str(guard.adapter),
            "prompt_template": str(guard.root / "template.txt"),
            "dtype": "float32",
            "device": "cpu",
            **options,
        }
    )


def table(texts: list[str | None]) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.large_string())})


def reference(guard, document: str, new_tokens: int) -> str:
    """The published way: the whole prompt of one document, the adapter not merged, greedy, to the bound."""
    tokenizer = load_tokenizer(guard.base, who="test")
    inputs = tokenizer(TEMPLATE.replace("{document}", document), return_tensors="pt")
    with torch.inference_mode():
        made = guard.peft.generate(**inputs, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0)
    return tokenizer.decode(made[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)


# -- reading answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "label", "labels"),
    [
        ("safe", "safe", ["safe"]),
        (" safe", "safe", ["safe"]),
        ("\nsafe", "safe", ["safe"]),
        ("Safe", "safe", ["safe"]),
        ("SAFE.", "safe", ["safe"]),
        ("safe\nO3", "safe", ["safe"]),
        ("unsafe\nO3", "O3", ["O3"]),
        ("unsafe\n O13 ", "O13", ["O13"]),
        ("unsafe\no13", "O13", ["O13"]),
        ("unsafe\nO1,O3", "O1", ["O1", "O3"]),
        ("Unsafe\r\nO1, O3 ,O12\nbecause O4", "O1", ["O1", "O3", "O12"]),
        ("unsafe\nO1;O3", "O1", ["O1", "O3"]),
        ("unsafe\nO1 O3", "O1", ["O1", "O3"]),
        ("unsafe\nO1,O1", "O1", ["O1"]),
        ("unsafe O3", "O3", ["O3"]),
        ("unsafe: O3", "O3", ["O3"]),
        ("unsafe\n\nO3\n", "O3", ["O3"]),
        ("unsafe\nO10,O14,O2", "O10", ["O10"]),
        ("unsafe\nO1, and O2", "O1", ["O1"]),
        ("unsafe", "unknown", []),
        ("unsafe\n", "unknown", []),
        ("unsafe.", "unknown", []),
        ("unsafe\nO14", "unknown", ["unknown"]),
        ("unsafe\nO", "unknown", ["unknown"]),
        ("unsafe\nO0", "unknown", ["unknown"]),
        ("unsafe\nO14,O3", "unknown", ["unknown"]),
        ("unsafe\nviolence", "unknown", ["unknown"]),
        ("unsafeO3", "unknown", ["unknown"]),
        ("safety first", "unknown", ["unknown"]),
        ("The text is safe", "unknown", ["unknown"]),
        ("", "unknown", ["unknown"]),
        ("uns", "unknown", ["unknown"]),
    ],
)
def test_answers_are_read(answer, label, labels):
    assert parse_verdict(answer) == (label, labels)


def test_a_list_that_was_cut_off_loses_what_may_have_been_another_category():
    assert parse_verdict("unsafe\nO3,O1", complete=False).labels == ["O3"]
    assert parse_verdict("unsafe\nO3,O1,", complete=False).labels == ["O3", "O1"]
    assert parse_verdict("unsafe\nO3,O1\nx1", complete=False).labels == ["O3", "O1"]


pieces = st.lists(
    st.sampled_from(["safe", "un", "O", "1", "3", "O1", "O14", ",", " ", "\n", ".", "Unsafe", "ß", "x", "\x00"]),
    max_size=8,
).map("".join)


@given(st.one_of(st.text(), pieces, pieces.map("unsafe\n".__add__)))
def test_any_answer_has_a_verdict(answer):
    label, labels = parse_verdict(answer)
    assert label in AEGIS_LABELS
    assert set(labels) <= set(AEGIS_LABELS)
    assert label == (labels[0] if labels else "unknown")


@given(st.one_of(pieces, pieces.map("unsafe\n".__add__)), st.sampled_from(list(" \n,.;")), pieces)
def test_what_is_decided_stays(answer, between, more):
    reading = _read(answer)
    after = _read(answer + between + more)
    if reading.decided:
        assert after.verdict == reading.verdict
        assert after.decided
    if reading.first_decided:
        assert after.verdict.label == reading.verdict.label


@pytest.mark.parametrize(
    ("answer", "needed", "needed_for_all"),
    [("safe\nO3", "safe", "safe"), ("unsafe\nO13,O1\nbut", "unsafe\nO13,", "unsafe\nO13,O1\n"), ("I think", "I", "I")],
)
def test_decoding_stops_as_soon_as_the_answer_is_decided(answer, needed, needed_for_all):
    def first(decided):
        return next(answer[:n] for n in range(len(answer) + 1) if decided(answer[:n]))

    assert first(AegisClassifier(model="m").decided) == needed
    assert first(AegisClassifier(model="m", labels_column="all").decided) == needed_for_all


def test_an_answer_that_is_kept_is_written_to_its_end_where_it_is_not_standard():
    keeping = AegisClassifier(model="m", keep_raw_pred=True)
    assert not keeping.decided("I think")
    assert keeping.decided("safe")


# -- the template --------------------------------------------------------------------------------------------


def test_other_braces_in_a_template_mean_themselves(tmp_path):
    (tmp_path / "t").write_text('{"a": {document}, {0} {{}}}\n')
    assert Template.read(tmp_path / "t", who="x") == Template('{"a": ', ", {0} {{}}}")


@pytest.mark.parametrize(("content", "said"), [("none", "is missing"), ("{document}{document}", "there 2 times")])
def test_a_template_holds_the_document_once(tmp_path, guard, content, said):
    (tmp_path / "t").write_text(content)
    with pytest.raises(UsageError, match=f"AegisClassifier: .*t: a prompt template holds .* {said}"):
        stage(guard, prompt_template=tmp_path / "t").needs(sample_table().schema)


def test_a_template_that_is_not_there(guard):
    with pytest.raises(UsageError, match=r"template nowhere\.txt cannot be read"):
        stage(guard, prompt_template="nowhere.txt").needs(sample_table().schema)


def test_our_policy_names_the_thirteen_categories_and_ends_with_the_instruction():
    template = AegisClassifier(model="m")._template()
    for category in AEGIS_LABELS[1:14]:
        assert f"\n{category}: " in template.prefix
    assert template.prefix.endswith("User: ")
    assert template.suffix.endswith("[/INST]")


# -- prompts as ids ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(guard):
    return load_tokenizer(guard.base, who="test")


@pytest.mark.parametrize("own_policy", [True, False])
def test_a_prompt_has_the_ids_of_the_whole_text(tokenizer, own_policy):
    template = AegisClassifier(model="m")._template() if own_policy else Template.parse(TEMPLATE, where="")
    prompts = PromptTokenizer(tokenizer, template, 10_000, who="test")
    documents = [*DOCUMENTS, *_PROBES, "</s> <s>x", "\r", "er", ":", "  ", "\u3000"]
    encode = tokenizer.backend_tokenizer.encode
    for document, ids in zip(documents, prompts(documents), strict=True):
        assert ids.tolist() == encode(template.prefix + document + template.suffix).ids, document
    assert (len(prompts._context) < len(template.prefix)) == own_policy  # only the end is encoded again
    whole = encode(template.prefix).ids
    assert prompts.shared.tolist() == whole[: len(prompts.shared)]
    assert len(prompts.shared) >= len(whole) - 2  # "User: " and a word merge


def test_the_document_is_cut_and_the_instruction_never(tokenizer):
    template = Template.parse(TEMPLATE, where="")
    prompts = PromptTokenizer(tokenizer, template, 120, who="test")
    end = tokenizer.backend_tokenizer.encode(template.suffix.strip("\n")).ids[-12:]
    for document in ("the law and " * 400, "\U0001f44d" * 400, "日本 語 " * 300, "x" * 2000, "soup"):
        ids = prompts([document])[0]
        text = tokenizer.decode(ids.tolist(), skip_special_tokens=True)
        assert 112 <= len(ids) <= 120 or document == "soup"
        assert ids[-12:].tolist() == end
        assert text.startswith(template.prefix)
        assert text.endswith(template.suffix)
        assert document.startswith(text[len(template.prefix) : -len(template.suffix)])


def test_a_template_without_room_for_a_document(tokenizer):
    with pytest.raises(ModelError, match=r"test: the prompt without any document has \d+ tokens, and 60 fit"):
        PromptTokenizer(tokenizer, Template.parse(TEMPLATE, where=""), 60, who="test")


def test_a_template_that_writes_the_first_token_out_does_not_get_a_second(tokenizer):
    prompts = PromptTokenizer(tokenizer, Template.parse("<s>" + TEMPLATE, where=""), 200, who="test")
    assert prompts(["soup"])[0].tolist().count(1) == 1


# -- adapters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True, "lora_alpha": 3},
        {
            "rank_pattern": {"layers.1.self_attn.q_proj": 2},
            "alpha_pattern": {"v_proj": 32, "layers.0.self_attn.q_proj": 5},
        },
        {"target_modules": "all-linear"},
    ],
)
def test_an_adapter_is_merged_as_peft_merges_it(tmp_path, settings):
    peft = lora_adapter(tmp_path / "adapter", llama_checkpoint(tmp_path / "base"), **settings)
    ours = load_causal(tmp_path / "base", who="test", dtype=torch.float32, adapter=tmp_path / "adapter")
    theirs = peft.merge_and_unload().state_dict()
    plain = load_causal(tmp_path / "base", who="test", dtype=torch.float32).state_dict()
    changed = 0
    for name, weight in ours.state_dict().items():
        torch.testing.assert_close(weight, theirs[name], rtol=0, atol=1e-6)
        changed += not torch.equal(weight, plain[name])
    assert changed == (21 if settings.get("target_modules") else 6)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
def test_an_adapter_on_transposed_weights(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=16, bos_token_id=1, eos_token_id=2)
    base = GPT2LMHeadModel(shape).eval()
    plain = GPT2LMHeadModel(shape).eval()
    plain.load_state_dict(base.state_dict())
    peft = lora_adapter(tmp_path / "a", base, target_modules=["c_attn"], fan_in_fan_out=True)
    assert merge_lora(plain, tmp_path / "a", who="test") == 1
    theirs = peft.merge_and_unload().state_dict()
    torch.testing.assert_close(plain.state_dict(), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_dora": True}, "uses use_dora, which cannot be merged here"),
        ({"modules_to_save": ["lm_head"]}, "uses modules_to_save"),
        ({"bias": "lora_only"}, "uses bias"),
        ({"target_modules": ["embed_tokens"]}, "should hold pairs of lora_A.weight and lora_B.weight"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_that_does_more_is_refused(tmp_path, settings, said):
    lora_adapter(tmp_path / "adapter", llama_checkpoint(tmp_path / "base"), **settings)
    with pytest.raises(ModelError, match=said):
        load_causal(tmp_path / "base", who="test", dtype=torch.float32, adapter=tmp_path / "adapter")


def test_an_adapter_of_another_model(tmp_path, guard):
    lora_adapter(tmp_path / "adapter", llama_checkpoint(tmp_path / "base", hidden_size=16, num_attention_heads=2))
    with pytest.raises(ModelError, match=r"changes model\.layers\.0\.self_attn\.q_proj of shape \(16, 16\)"):
        stage(guard, aegis_variant=tmp_path / "adapter").open()


# -- decoding ------------------------------------------------------------------------------------------------


def decoder(guard, *, budget=None, share=True, new_tokens=12, decided=lambda _: False, model=None, **config):
    tokenizer = load_tokenizer(guard.base, who="test")
    prompts = PromptTokenizer(tokenizer, Template.parse(TEMPLATE, where=""), 200, who="test")
    if not share:
        prompts.shared = prompts.shared[:0]
    model = model or load_causal(guard.base, who="test", dtype=torch.float32, adapter=guard.adapter)
    return PrefixDecoder(
        model, tokenizer, prompts, Decoding(decided, new_tokens), budget or Budget(4096, packed=True), who="test"
    )


@pytest.fixture(scope="module")
def expected(guard):
    """What the published way writes for each document."""
    return [reference(guard, document, 12) for document in DOCUMENTS]


def test_answers_are_those_of_whole_prompts_one_by_one(guard, expected):
    assert len(set(expected)) > 5
    answers = decoder(guard)(DOCUMENTS)
    assert [answer.text for answer in answers] == expected
    assert all(answer.tokens == 12 for answer in answers)


@pytest.mark.parametrize(
    "budget", [Budget(1, packed=True), Budget(150, packed=True), Budget(4096, rows=3, packed=True)]
)
def test_answers_do_not_depend_on_batches_or_order(guard, expected, budget):
    order = np.argsort([len(d) * 7 % 11 for d in DOCUMENTS]).tolist()
    answers = decoder(guard, budget=budget)([DOCUMENTS[i] for i in order])
    assert [answer.text for answer in answers] == [expected[i] for i in order]


def test_answers_are_the_same_without_the_shared_prefix(guard, expected):
    alone = decoder(guard, share=False)
    assert not alone.prefix
    assert [answer.text for answer in alone(DOCUMENTS)] == expected


def test_a_document_that_merges_into_the_prefix_is_run_whole(guard, expected):
    run = decoder(guard)
    prompts = run._prompts

    class Odd:
        shared = prompts.shared

        def __call__(self, documents):
            # The same text with its blank apart from its word, as another tokenizer may give it.
            return [
                ids if i % 2 else np.concatenate([ids[:1], [99], ids[1:]]) for i, ids in enumerate(prompts(documents))
            ]

    run._prompts = Odd()
    answers = [answer.text for answer in run(DOCUMENTS)]
    assert answers[1::2] == expected[1::2]
    assert answers[::2] != expected[::2]
    run._prompts.shared = prompts.shared[:0]
    assert [answer.text for answer in run(DOCUMENTS)] == answers


def test_grouped_heads_are_the_same(tmp_path):
    base = llama_checkpoint(tmp_path / "base", num_key_value_heads=2)
    peft = lora_adapter(tmp_path / "adapter", base)
    small = SimpleNamespace(base=tmp_path / "base", adapter=tmp_path / "adapter", peft=peft)
    assert [a.text for a in decoder(small)(DOCUMENTS[:4])] == [reference(small, d, 12) for d in DOCUMENTS[:4]]


def rigged(guard, answers: dict[str, str], **options):
    tokenizer = load_tokenizer(guard.base, who="test")
    prompts = PromptTokenizer(tokenizer, Template.parse(TEMPLATE, where=""), 200, who="test")
    encode = tokenizer.backend_tokenizer.encode
    probe = "A short text, to see whether the model runs at all."
    script = {}
    for document, answer in {**answers, probe: "safe"}.items():
        script[tuple(prompts([document])[0].tolist())] = encode(answer, add_special_tokens=False).ids
    return RiggedModel(script, prompts.shared.tolist())


ANSWERS = {
    "the law": "safe",
    "soup and bread and water": "unsafe\nO3",
    "games " * 20: "unsafe\nO1,O3",
    "match": "unsafe\nO13,O12,O2\nand so on",
    "goal of the player": "unsafe",
    "x": "I cannot say, for games are safe",
    "quality": "Safe and sound",
    "y": "unsafe\nO14",
    "z": "",
}


@pytest.mark.parametrize("tokens", [1, 40, 4096])
def test_rows_that_are_done_leave_and_the_others_go_on(guard, tokens):
    for decided in (lambda _: False, AegisClassifier(model="m", labels_column="all").decided):
        model = rigged(guard, ANSWERS)
        run = decoder(guard, model=model, budget=Budget(tokens, packed=True), new_tokens=40, decided=decided)
        model.forwards.clear()
        for answer, whole in zip(run(list(ANSWERS)), ANSWERS.values(), strict=True):
            assert parse_verdict(answer.text) == parse_verdict(whole)
            assert whole.startswith(answer.text)
            assert answer.text == whole or decided(answer.text)
        if tokens == 4096:
            prefill, *steps = model.forwards
            assert prefill == max(model.forwards)
            assert steps == sorted(steps, reverse=True)
            assert steps[-1] == 1  # the longest answer is alone at the end


def test_safe_costs_one_token_and_no_decoding_step(guard):
    model = rigged(guard, {"the law": "safe", "soup": "safe"})
    run = decoder(guard, model=model, decided=AegisClassifier(model="m").decided)
    before = len(model.forwards)
    with collecting() as found:
        assert [answer.tokens for answer in run(["the law", "soup"])] == [1, 1]
    assert len(model.forwards) == before + 1
    assert found["generated_tokens"] == 2
    assert found["tokens"] == model.forwards[-1] == found["padded_tokens"]
    assert found["texts"] == 2


def test_no_memory_makes_smaller_batches_and_loses_no_row(guard, expected):
    run = decoder(guard)
    forward = run._model.forward

    def limited(input_ids, **more):
        if input_ids.shape[1] > 130:
            raise torch.OutOfMemoryError
        return forward(input_ids=input_ids, **more)

    run._model.forward = limited
    assert [answer.text for answer in run(DOCUMENTS)] == expected
    assert run._budget.lowered

    def none(input_ids, **more):
        raise torch.OutOfMemoryError

    run._model.forward = none
    with pytest.raises(StageError, match=r"test: the device has no memory for a single document of \d+ tokens"):
        run(DOCUMENTS)


def test_an_output_that_is_no_number_is_said(guard):
    run = decoder(guard)
    with torch.no_grad():
        run._model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not a finite number"):
        run(["soup"])


def test_models_with_a_sliding_window_are_refused(guard, tmp_path):
    from transformers import MistralConfig, MistralForCausalLM

    llama_checkpoint(tmp_path)
    shape = MistralConfig(
        vocab_size=640, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, sliding_window=8, max_position_embeddings=256,
    )  # fmt: skip
    MistralForCausalLM(shape).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="sliding window"):
        stage(guard, model=tmp_path, aegis_variant=None).open()


# -- the stage -----------------------------------------------------------------------------------------------


@pytest.fixture
def scripted(guard, monkeypatch):
    """A stage whose model says what ANSWERS says."""
    monkeypatch.setattr("tamis.models.lora.load_causal", lambda *_, **__: rigged(guard, ANSWERS))

    def run(texts, **options):
        return stage(guard, max_new_tokens=56, **options).open()(table(texts))

    return run


def test_columns_of_the_stage(scripted):
    texts = [*ANSWERS, None, " \n"]
    out = scripted(texts, labels_column="all", keep_raw_pred=True, raw_pred_column="raw")
    labels = ["safe", "O3", "O1", "O13", "unknown", "unknown", "safe", "unknown", "unknown", None, None]
    assert out["aegis_pred"].to_pylist() == labels
    lists = [["safe"], ["O3"], ["O1", "O3"], ["O13", "O12", "O2"], [], ["unknown"], ["safe"], ["unknown"], ["unknown"]]
    assert out["all"].to_pylist() == [*lists, None, None]
    raw = out["raw"].to_pylist()
    assert raw[5] == ANSWERS["x"]  # whole, as it is not standard
    assert raw[6] == "Safe"
    assert raw[-2:] == [None, None]
    assert scripted(texts).column_names == ["text", "aegis_pred"]
    assert scripted(texts)["aegis_pred"].to_pylist() == labels


def test_filter_by_keeps_the_labels_asked_for(scripted):
    _, reasons, _ = marks(scripted([*ANSWERS, None], filter_by=["safe", "O13"]))
    assert [r is None for r in reasons.to_pylist()] == [
        True,
        False,
        False,
        True,
        False,
        False,
        True,
        False,
        False,
        False,
    ]
    assert reasons.to_pylist()[1] == "aegis_pred is O3"


def test_max_chars_cuts_what_the_model_sees(guard):
    long = stage(guard, keep_raw_pred=True, max_new_tokens=8, max_chars=9).open()(table(["the law o and more"]))
    short = stage(guard, keep_raw_pred=True, max_new_tokens=8).open()(table(["the law o"]))
    assert long["_aegis_raw_pred"] == short["_aegis_raw_pred"]
    assert long["text"].to_pylist() == ["the law o and more"]


def test_raw_answers_are_those_of_the_published_way(guard, expected):
    out = stage(guard, keep_raw_pred=True, max_new_tokens=12).open()(table(DOCUMENTS))
    assert out["_aegis_raw_pred"].to_pylist() == expected


def test_a_whole_model_takes_the_place_of_base_and_adapter(guard, tmp_path, expected):
    merged = load_causal(guard.base, who="test", dtype=torch.float32, adapter=guard.adapter)
    merged.save_pretrained(tmp_path)
    for file in guard.base.glob("token*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    out = stage(guard, model="nobody/nothing", aegis_variant=tmp_path, keep_raw_pred=True, max_new_tokens=12)
    assert out.open()(table(DOCUMENTS))["_aegis_raw_pred"].to_pylist() == expected
    alone = stage(guard, model=tmp_path, aegis_variant=None, keep_raw_pred=True, max_new_tokens=12)
    assert alone.open()(table(DOCUMENTS))["_aegis_raw_pred"].to_pylist() == expected


@pytest.mark.parametrize("options", [{}, {"filter_by": "safe", "labels_column": "all", "keep_raw_pred": True}])
def test_the_stage_keeps_its_contract(guard, options, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # in the fresh process
    small = sample_table(24)
    check_stage(stage(guard, max_new_tokens=6, **options), small, fresh_process=bool(options))


def test_bad_settings_are_sentences(guard):
    with pytest.raises(UnknownNameError, match="no label 'O14'"):
        stage(guard, filter_by=["safe", "O14"])
    with pytest.raises(UnknownNameError, match=r"no engine 'vlm'\. Did you mean 'vllm'"):
        stage(guard, engine="vlm")
    with pytest.raises(UsageError, match="leave prob_column out"):
        stage(guard, prob_column="p")
    with pytest.raises(UsageError, match="max_new_tokens must be"):
        stage(guard, max_new_tokens=0)
    with pytest.raises(ModelError, match="max_length must be from 1 to 256"):
        stage(guard, max_length=300).open()
    with pytest.raises(ModelError, match="there is no model directory"):
        stage(guard, aegis_variant=guard.root / "adaptor").open()


def test_the_token_is_shown_nowhere():
    assert "hf_1234" not in repr(AegisClassifier(token="hf_1234"))


# -- vLLM ----------------------------------------------------------------------------------------------------


def test_vllm_that_is_not_installed(guard):
    with pytest.raises(MissingExtraError, match="engine='vllm' needs the package vllm"):
        stage(guard, engine="vllm").open()


@pytest.fixture
def vllm(monkeypatch):
    """A stand-in for the parts of vLLM's interface that are used."""
    seen = SimpleNamespace()
    fake = ModuleType("vllm")

    class LLM:
        def __init__(self, **options):
            seen.options = options

        def generate(self, prompts, sampling_params, *, lora_request, use_tqdm):
            seen.prompts, seen.sampling, seen.lora = prompts, sampling_params, lora_request
            made = SimpleNamespace(text="unsafe\nO1,O3", token_ids=[5, 6, 7])
            return [SimpleNamespace(outputs=[made]) for _ in prompts]

    fake.LLM = LLM
    fake.SamplingParams = SimpleNamespace
    parts = {
        "vllm": fake,
        "vllm.lora": ModuleType("vllm.lora"),
        "vllm.lora.request": ModuleType("vllm.lora.request"),
        "vllm.sampling_params": ModuleType("vllm.sampling_params"),
    }
    parts["vllm.lora.request"].LoRARequest = lambda name, number, path: (name, number, path)
    parts["vllm.sampling_params"].StructuredOutputsParams = SimpleNamespace
    for name, module in parts.items():
        monkeypatch.setitem(sys.modules, name, module)
    return seen


def test_vllm_gets_ids_the_adapter_and_the_pattern(guard, vllm, tokenizer):
    import re

    out = stage(guard, engine="vllm", labels_column="all").open()(table(["the law", None, "soup " * 900]))
    assert out["all"].to_pylist() == [["O1", "O3"], None, ["O1", "O3"]]
    assert vllm.options["enable_prefix_caching"] is True
    assert vllm.options["model"] == str(guard.base)
    assert vllm.options["max_lora_rank"] == 4
    assert vllm.lora == ("adapter", 1, str(guard.adapter))
    assert vllm.prompts[0]["prompt_token_ids"] == tokenizer(TEMPLATE.replace("{document}", "the law")).input_ids
    assert len(vllm.prompts[1]["prompt_token_ids"]) <= vllm.options["max_model_len"] - vllm.sampling.max_tokens
    assert vllm.sampling.temperature == 0
    for answer in ("safe", "unsafe\nO1", "unsafe\nO13,O3"):
        assert re.fullmatch(vllm.sampling.structured_outputs.regex, answer)
    for answer in ("unsafe", "unsafe\nO14", "unsafe\nO1,", "no"):
        assert not re.fullmatch(vllm.sampling.structured_outputs.regex, answer)
