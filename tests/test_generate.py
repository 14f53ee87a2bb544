"""The stage ``Generate``: answers to prompts, by any causal language model."""

import json
import shutil
import sys
from types import ModuleType, SimpleNamespace

import pyarrow as pa
import pytest
import torch
from transformers import AutoTokenizer

from conftest import read_jsonl, tree
from tamis import DocumentDataset
from tamis.errors import MissingColumnError, MissingExtraError, ModelError, UnknownNameError, UsageError
from tamis.meter import collecting
from tamis.models import batch_decoder
from tamis.models.batch_decoder import BatchDecoder, sample
from tamis.models.batching import Budget
from tamis.models.generate import Request, Rules
from tamis.models.generation import Generate
from tamis.models.lora import load_causal
from tamis.testing import check_stage
from tiny_generators import TAGS, generator
from tiny_llama import lora_adapter

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = ("llama", "gemma2", "qwen2")
NEW = 10
PROMPTS = [
    "The law of the court " * n + word
    for n, word in [(0, "judge"), (1, "soup"), (3, "recipe the"), (2, "a"), (4, "city river"), (1, "goal"), (2, "l")]
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Directories by architecture, and the models in them."""
    folder = tmp_path_factory.mktemp("models")
    return {kind: (folder / kind, generator(folder / kind, kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def llama(models):
    return models["llama"][0]


def generate(model, **options):
    return Generate(model, **{"max_new_tokens": NEW, "dtype": "float32", "device": "cpu", **options})


def rows(prompts, **columns):
    ids = [f"row {n}" for n in range(len(prompts))]
    return pa.table({"id": ids, "prompt": pa.array(prompts, pa.string()), **columns})


def answered(stage, table):
    out = stage.open()(table)
    return list(zip(out["generated"].to_pylist(), out["predicted_tags"].to_pylist(), strict=True))


def texts(stage, table):
    return [text for text, _ in answered(stage, table)]


def expected(model, tokenizer, prompt, new=NEW, **options):
    """What transformers' own generate writes after one prompt alone."""
    shown = tokenizer(prompt, return_tensors="pt")
    shown.pop("token_type_ids", None)
    out = model.generate(**shown, max_new_tokens=new, do_sample=False, pad_token_id=0, **options)
    return tokenizer.decode(out[0, shown["input_ids"].shape[1] :], skip_special_tokens=True)


# -- what is written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_transformers_one_prompt_at_a_time(models, kind):
    path, model = models[kind]
    tokenizer = AutoTokenizer.from_pretrained(path)
    wanted = [expected(model, tokenizer, prompt) for prompt in PROMPTS]
    assert len(set(wanted)) > 3
    assert texts(generate(path), rows(PROMPTS)) == wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"tags": TAGS}, {"temperature": 1.0, "top_p": 0.9, "seed": 3}])
def test_a_batch_answers_as_each_row_alone(models, kind, options):
    run = generate(models[kind][0], **options).open()
    table = rows(PROMPTS)
    together = run(table).to_pylist()
    assert together == [row for n in range(len(PROMPTS)) for row in run(table.slice(n, 1)).to_pylist()]
    for size in ({"batch_size": 2}, {"batch_tokens": 90}):
        assert generate(models[kind][0], **options, **size).open()(table).to_pylist() == together


@pytest.mark.parametrize("kind", KINDS)
def test_a_common_beginning_is_run_once_and_changes_nothing(models, kind, monkeypatch):
    beginning = "the law of the court and the judge " * (1 if kind == "gemma2" else 3)
    prompts = [beginning + word for word in ("soup", "goal a river", "city", "recipe bread", "a")]
    path, model = models[kind]
    tokenizer = AutoTokenizer.from_pretrained(path)
    wide = 6 if kind == "gemma2" else NEW  # within its window of 24, over which no beginning can be shared
    shapes = []
    forward = BatchDecoder._forward
    monkeypatch.setattr(
        BatchDecoder, "_forward", lambda self, ids, *rest: shapes.append(tuple(ids.shape)) or forward(self, ids, *rest)
    )
    assert texts(generate(path, max_new_tokens=wide), rows(prompts)) == [
        expected(model, tokenizer, prompt, wide) for prompt in prompts
    ]
    shared = [length for many, length in shapes[1:] if many == 1 and length > 1]
    own = [length for many, length in shapes if many > 1 and length > 1]
    assert shared == [] if kind == "gemma2" and not shared else len(shared) >= 1
    if shared:
        assert max(own) < 16 <= shared[-1]


def test_the_answer_of_a_closed_set_names_known_tags_once(models):
    for kind in KINDS:
        for text, tags in answered(generate(models[kind][0], tags=TAGS, max_new_tokens=24), rows(PROMPTS)):
            assert tags
            assert set(tags) <= set(TAGS)
            assert len(set(tags)) == len(tags)
            assert text.strip().startswith(", ".join(tags))


def test_a_tags_file_is_the_same_as_its_list(llama, tmp_path):
    file = tmp_path / "tags.txt"
    file.write_text("\n".join(TAGS))
    table = rows(PROMPTS)
    assert answered(generate(llama, tags=file), table) == answered(generate(llama, tags=TAGS), table)


def test_free_answers_are_read_as_lists_with_commas(llama, monkeypatch):
    said = iter(["of our own", "\n a b, c, a b\nmore, text", "<x><y>", "  ", '["p", "q r"]', "plain words"])
    monkeypatch.setattr(BatchDecoder, "_decoded", lambda *_: next(said))
    run = generate(llama)
    found = answered(run, rows(["p"] * 5))
    assert [tags for _, tags in found] == [["a b", "c"], ["x", "y"], [], ["p", "q r"], ["plain words"]]
    assert found[0][0] == "\n a b, c, a b\nmore, text"


def test_null_and_blank_prompts_are_not_shown(llama):
    found = answered(generate(llama), rows([None, "", " \n", "the law"]))
    assert found[:3] == [("", [])] * 3
    assert found[3][0]


def test_an_answer_ends_before_a_stop_text(llama):
    whole = texts(generate(llama), rows(PROMPTS))
    stop = [whole[0][3:5], whole[1][2:4]]
    cut = texts(generate(llama, stop=stop), rows(PROMPTS))
    for before, after in zip(whole, cut, strict=True):
        ends = [place for place in map(before.find, stop) if place >= 0]
        assert after == (before[: min(ends)] if ends else before)
    assert cut[0] == whole[0][:3]


def test_an_answer_ends_at_the_end_of_text_and_costs_no_more(llama, models):
    _, model = models["llama"]
    tokenizer = AutoTokenizer.from_pretrained(llama)
    first = tokenizer(expected(model, tokenizer, PROMPTS[0]), add_special_tokens=False).input_ids
    decoder = BatchDecoder(model, tokenizer, Rules(NEW), Budget(1000), who="test")
    ids = tokenizer(PROMPTS[0]).input_ids
    model.generation_config.eos_token_id, before = [2, first[2]], model.generation_config.eos_token_id
    try:
        ending = BatchDecoder(model, tokenizer, Rules(NEW), Budget(1000), who="test")
    finally:
        model.generation_config.eos_token_id = before
    assert ending([Request(ids, "")])[0].tokens <= decoder([Request(ids, "")])[0].tokens == NEW


# -- sampling ------------------------------------------------------------------------------------------------


def test_a_sampled_answer_is_a_function_of_seed_id_and_prompt(llama):
    table = rows(PROMPTS)
    stage = generate(llama, temperature=1.5, seed=1)
    first = texts(stage, table)
    assert first == texts(stage, table) == texts(stage, table.take([6, 5, 4, 3, 2, 1, 0]))[::-1]
    assert first != texts(generate(llama, temperature=1.5, seed=2), table)
    assert first != texts(generate(llama), table)
    same = texts(stage, rows([PROMPTS[0]] * 6))
    assert len(set(same)) > 3  # other ids
    without = texts(stage, table.drop_columns(["id"]))
    assert without == texts(stage, table.drop_columns(["id"]).take([0, 1, 2, 3, 4, 5, 6]))


def test_a_draw_falls_into_the_nucleus():
    logits = torch.log(torch.tensor([[0.1, 0.5, 0.15, 0.25]])).expand(5, 4)
    draws = [0.0, 0.49, 0.51, 0.76, 0.999]
    assert sample(logits, 1.0, 1.0, draws).tolist() == [1, 1, 3, 2, 0]
    # 0.5 + 0.25 reach 0.7: two thirds and one third.
    assert sample(logits, 1.0, 0.7, draws).tolist() == [1, 1, 1, 3, 3]
    assert sample(logits, 1.0, 0.01, draws).tolist() == [1] * 5
    assert sample(logits, 0.01, 1.0, draws).tolist() == [1] * 5
    held = logits.clone()
    held[:, 1] = float("-inf")
    assert 1 not in sample(held, 5.0, 1.0, draws).tolist()


# -- adapters ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, models):
    path = tmp_path_factory.mktemp("adapters") / "lora"
    base = load_causal(models["llama"][0], who="test", dtype=torch.float32)
    lora_adapter(path, base, target_modules=["q_proj", "v_proj", "down_proj"])
    settings = json.loads((path / "adapter_config.json").read_bytes())
    settings["base_model_name_or_path"] = str(models["llama"][0])
    (path / "adapter_config.json").write_text(json.dumps(settings))
    return path


def test_an_adapter_merged_or_beside_writes_the_same_and_something_else_than_without(llama, adapter):
    table = rows(PROMPTS)
    merged = texts(generate(llama, adapter=adapter), table)
    assert merged == texts(generate(llama, adapter=adapter, merge_adapter=False), table)
    assert merged != texts(generate(llama), table)
    assert merged == texts(generate(adapter), table)  # it names its model


def test_an_adapter_of_another_model_is_a_sentence(models, adapter, tmp_path):
    other = tmp_path / "other"
    generator(other, "llama", hidden_size=48)
    for merge in (True, False):
        with pytest.raises(ModelError, match=r"Generate: the adapter .*lora"):
            generate(other, adapter=adapter, merge_adapter=merge).open()
    with pytest.raises(ModelError, match="is no LoRA adapter"):
        generate(other, adapter=models["llama"][0]).open()


# -- prompts that do not fit, conversations ------------------------------------------------------------------


def test_a_long_prompt_loses_the_end_of_its_body(llama):
    head, tail = "the law: ", " answer the question"
    body = "judge soup river " * 60
    prompt = head + body + tail
    table = rows([prompt], prompt_body=pa.array([[len(head), len(head) + len(body)]], pa.list_(pa.int64())))
    seen = []
    stage = generate(llama)
    decoder = stage.open()
    before = BatchDecoder.__call__

    def look(self, requests):
        seen.extend(requests)
        return before(self, requests)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchDecoder, "__call__", look)
        decoder(table)
    tokenizer = AutoTokenizer.from_pretrained(llama)
    shown = tokenizer.decode(seen[0].ids, skip_special_tokens=True)
    assert len(seen[0].ids) <= 128 - NEW
    assert shown.startswith(head + "judge soup river")
    assert shown.endswith(tail)


TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture(scope="module")
def chat(llama, tmp_path_factory):
    path = tmp_path_factory.mktemp("chat") / "model"
    shutil.copytree(llama, path)
    settings = json.loads((path / "tokenizer_config.json").read_bytes())
    (path / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": TEMPLATE}))
    return path


def test_messages_are_written_with_the_chat_template(chat):
    said = [{"role": "system", "content": "tags"}, {"role": "user", "content": "the law"}]
    answered_already = [*said, {"role": "assistant", "content": "soup"}]
    table = pa.table({"messages": [said, answered_already, None, []]})
    found = texts(generate(chat), table)
    assert found[:2] == texts(generate(chat), rows(["[system] tags\n[user] the law\n[assistant] "])) * 2
    assert found[2:] == ["", ""]


def test_messages_without_a_chat_template_are_refused_before_anything_runs(llama):
    said = [[{"role": "user", "content": "the law"}]]
    with pytest.raises(ModelError, match=r"Generate: the rows have messages, and the tokenizer in .* no chat template"):
        generate(llama).needs(pa.table({"messages": said}).schema)
    with pytest.raises(ModelError, match="no chat template"):
        generate(llama).open()(pa.table({"messages": said}))


def test_neither_prompt_nor_messages_is_a_sentence(llama):
    with pytest.raises(MissingColumnError, match=r"Generate reads the column 'prompt'.*Did you mean 'prompts'"):
        generate(llama).needs(pa.schema([("prompts", pa.string())]))


def test_a_prompt_body_that_lies_outside_is_set_aside(llama, tmp_path, write_jsonl):
    documents = [{"id": "a", "prompt": "the law", "prompt_body": [0, 99]}, {"id": "b", "prompt": "the soup"}]
    path = write_jsonl("in/rows.jsonl", documents)
    out = tmp_path / "out"
    result = run(generate(llama), path, out, max_bad=1.0)
    assert result.tally.total_quarantined == 1
    (bad,) = read_jsonl(out / "_quarantine" / "records.jsonl")
    assert "prompt_body must be [start, end]" in json.dumps(bad)


# -- the run -------------------------------------------------------------------------------------------------


def run(stage, path, out, **options):
    dataset = DocumentDataset.read_json(path, text_field="prompt").append(stage)
    return dataset.to_json(str(out), workers=1, progress="off", **options)


def test_the_stage_holds_the_contract(llama, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # in the fresh process
    sample_rows = rows(["the law", None, "", " ", *PROMPTS[2:5], "日本 \x00 語", "word " * 200])
    check_stage(generate(llama, max_new_tokens=4, tags=TAGS), sample_rows, fresh_process=True)
    check_stage(generate(llama, max_new_tokens=4, temperature=1.0), sample_rows, fresh_process=False)


def test_files_in_parts_and_workers_come_out_the_same(llama, tmp_path, write_jsonl, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # in the workers
    documents = [{"id": str(n), "prompt": p, "kept": n} for n, p in enumerate(PROMPTS * 2)]
    for part in range(2):
        write_jsonl(f"in/{part}.jsonl", documents[part::2])
    stage = generate(llama, tags=TAGS)
    one = run(stage, str(tmp_path / "in"), tmp_path / "one")
    dataset = DocumentDataset.read_json(str(tmp_path / "in"), text_field="prompt").append(stage)
    dataset.to_json(str(tmp_path / "two"), workers=2, progress="off")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert one.tally.kept == len(documents)
    found = {row["id"]: row for row in read_jsonl(*sorted((tmp_path / "one").glob("*.jsonl")))}
    alone = stage.open()(pa.table({"prompt": PROMPTS}))["predicted_tags"].to_pylist()
    assert [found[str(n)]["predicted_tags"] for n in range(len(PROMPTS))] == alone
    assert found["3"]["kept"] == 3


def test_other_tags_in_the_file_make_another_run(llama, tmp_path):
    file = tmp_path / "tags.txt"
    file.write_text("a\n")
    before = dict(generate(llama, tags=file).identity())
    file.write_text("b\n")
    assert before != dict(generate(llama, tags=file).identity())


def test_tokens_are_counted(llama):
    with collecting() as found:
        texts(generate(llama), rows(PROMPTS))
    tokenizer = AutoTokenizer.from_pretrained(llama)
    assert found["tokens"] == sum(len(tokenizer(prompt).input_ids) for prompt in PROMPTS)
    assert isinstance(found["tokens"], int)
    assert 0 < found["generated_tokens"] <= NEW * len(PROMPTS)
    assert found["flops"] > 0


# -- what cannot be done -------------------------------------------------------------------------------------


def test_a_batch_that_is_out_of_memory_is_halved(llama, monkeypatch):
    wanted = texts(generate(llama), rows(PROMPTS))
    most, sizes = 2, []
    forward = BatchDecoder._forward

    def small(self, ids, *rest):
        sizes.append(len(ids))
        if len(ids) > most:
            raise torch.OutOfMemoryError
        return forward(self, ids, *rest)

    monkeypatch.setattr(BatchDecoder, "_forward", small)
    assert texts(generate(llama), rows(PROMPTS)) == wanted
    assert max(sizes) > most
    most = 0
    with pytest.raises(ModelError, match="Generate: the device has no memory left for a single short text"):
        generate(llama).open()


def test_numbers_that_are_none_are_said(llama, monkeypatch):
    run_ = generate(llama).open()
    monkeypatch.setattr(BatchDecoder, "_forward", lambda self, ids, *_: torch.full((len(ids), 640), float("nan")))
    with pytest.raises(FloatingPointError, match="not a finite number"):
        run_(rows(["the law"]))
    with pytest.raises(ModelError, match="fails on a plain text, before any of the data"):
        generate(llama).open()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"engine": "torhc"}, UnknownNameError, "no engine 'torhc'. Did you mean 'torch'"),
        ({"max_new_tokens": 0}, UsageError, "max_new_tokens must be a positive whole number; got 0"),
        ({"temperature": -1}, UsageError, "temperature must be 0 .* or more; got -1"),
        ({"temperature": float("nan")}, UsageError, "temperature must be 0"),
        ({"top_p": 0}, UsageError, "top_p must be above 0 and at most 1; got 0"),
        ({"stop": "end"}, UsageError, "stop must be a list of texts"),
        ({"stop": [""]}, UsageError, "stop must be a list of texts"),
        ({"batch_tokens": 0}, UsageError, "batch_tokens must be a positive whole number"),
    ],
)
def test_bad_settings_are_sentences(options, error, message):
    with pytest.raises(error, match=message):
        Generate("model", **options)


def test_what_the_model_cannot_do_is_said_before_anything_runs(llama, tmp_path):
    with pytest.raises(UsageError, match=r"Generate: the tags file .*nowhere.txt cannot be read"):
        generate(llama, tags=tmp_path / "nowhere.txt").needs(rows([]).schema)
    with pytest.raises(ModelError, match="128 tokens fit prompt and answer together, and max_new_tokens is 128"):
        generate(llama, max_new_tokens=128).open()
    with pytest.raises(ModelError, match="max_length must be from 1 to 128; got 200"):
        generate(llama, max_length=200).open()
    with pytest.raises(ModelError, match="there is no model directory"):
        generate(tmp_path / "nothing").open()


def test_a_model_that_keeps_a_state_of_another_kind_is_refused(models):
    _, model = models["llama"]
    strange = SimpleNamespace(
        forward=model.forward,
        generation_config=model.generation_config,
        config=SimpleNamespace(get_text_config=lambda: SimpleNamespace(layer_types=["linear_attention"])),
    )
    tokenizer = AutoTokenizer.from_pretrained(models["llama"][0])
    with pytest.raises(ModelError, match=r"keeps more than keys and values between tokens .linear_attention"):
        BatchDecoder(strange, tokenizer, Rules(4), Budget(100), who="test")


def test_no_pad_token_is_needed(llama):
    assert AutoTokenizer.from_pretrained(llama).pad_token_id is None


def test_batches_on_a_device_are_as_large_as_its_memory_allows(models, monkeypatch):
    _, model = models["llama"]
    assert batch_decoder.budget_for(model, 77, 3) == Budget(tokens=77, rows=3)
    assert batch_decoder.budget_for(model, "auto", None).tokens == 16_384
    # Keys and values of a token: 2 of 3 layers, 2 heads of 8 numbers, 4 bytes each.
    monkeypatch.setattr(batch_decoder, "free_memory", lambda _: 2 * 1000 * 2 * 3 * 2 * 8 * 4)
    assert batch_decoder.budget_for(model, "auto", None).tokens == 1000


# -- vLLM ----------------------------------------------------------------------------------------------------


def test_vllm_that_is_not_installed(llama):
    with pytest.raises(MissingExtraError, match="engine='vllm' needs the package vllm"):
        generate(llama, engine="vllm").open()


@pytest.fixture
def vllm(monkeypatch):
    """A stand-in for the parts of vLLM's interface that are used."""
    seen = SimpleNamespace()

    class LLM:
        def __init__(self, **options):
            seen.options = options

        def generate(self, prompts, sampling_params, *, lora_request, use_tqdm):
            seen.prompts, seen.sampling, seen.lora = prompts, sampling_params, lora_request
            made = SimpleNamespace(text=" c++, contract, c++, cont", token_ids=[5, 6, 7])
            return [SimpleNamespace(outputs=[made]) for _ in prompts]

    for name in ("vllm", "vllm.lora", "vllm.lora.request", "vllm.sampling_params"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["vllm"].LLM, sys.modules["vllm"].SamplingParams = LLM, SimpleNamespace
    sys.modules["vllm.lora.request"].LoRARequest = lambda name, number, path: (name, number, path)
    sys.modules["vllm.sampling_params"].StructuredOutputsParams = SimpleNamespace
    return seen


def test_vllm_gets_ids_seeds_the_adapter_and_the_pattern(llama, adapter, vllm):
    import re

    options = {"engine": "vllm", "tags": TAGS, "adapter": adapter, "temperature": 0.7, "top_p": 0.9, "stop": ["\n"]}
    found = answered(generate(llama, **options), rows([*PROMPTS[:2], None]))
    assert found == [(" c++, contract, c++, cont", ["c++", "contract"])] * 2 + [("", [])]
    tokenizer = AutoTokenizer.from_pretrained(llama)
    assert vllm.prompts[0]["prompt_token_ids"] == tokenizer(PROMPTS[0]).input_ids
    first, second = vllm.sampling
    assert (first.temperature, first.top_p, first.max_tokens, first.stop) == (0.7, 0.9, NEW, ["\n"])
    assert first.seed != second.seed
    assert 0 <= first.seed < 2**31
    assert vllm.options["max_model_len"] == 128
    assert vllm.lora == ("adapter", 1, str(adapter))
    pattern = first.structured_outputs.regex
    for answer in ("c++", "a, ab", " united states, contract-law", "straße"):
        assert re.fullmatch(pattern, answer)
    for answer in ("", "c", "cc", "a,ab", "a, ", "other"):
        assert not re.fullmatch(pattern, answer)
