"""``.nemo`` archives: there and back without losing a bit, and nothing that an archive brings is trusted."""

import contextlib
import gzip
import io
import json
import pickle
import random
import re
import shutil
import tarfile
import warnings

import pytest
import sentencepiece
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config, Gemma2ForCausalLM

from tamis.cli import main
from tamis.errors import InputError, ModelError, OutputRefusedError, TamisError, UsageError
from tamis.tuning import nemo_hf
from tamis.tuning.nemo import convert
from tamis.tuning.nemo_config import pieces
from tamis.tuning.nemo_pickle import read_index
from tamis.tuning.nemo_tensors import Sizes, entries, join_qkv, split_qkv

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = [
    "the",
    "court",
    "of",
    "appeal",
    "held",
    "that",
    "a",
    "contract",
    "without",
    "consideration",
    "is",
    "void",
    "no",
]
PIECES = 203  # not a multiple of 128


@pytest.fixture(scope="module")
def words():
    """A SentencePiece model as Gemma has them: <pad>, <eos>, <bos>, <unk>, then pieces, and no blank before a text."""
    noise = random.Random(0)
    lines = [" ".join(noise.choices(WORDS, k=8)) for _ in range(300)] + ["".join(map(chr, range(33, 127)))]
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=out,
        vocab_size=PIECES,
        model_type="bpe",
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        character_coverage=1.0,
        add_dummy_prefix=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return out.getvalue()


def gemma(folder, words, *, vocabulary=None, dtype=torch.bfloat16, **settings):
    """A random Gemma 2 with every feature of the large ones: grouped queries, caps, windows, tied embeddings."""
    count = len(pieces(words, "words"))
    config = Gemma2Config(
        vocab_size=vocabulary or count,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        query_pre_attn_scalar=24,
        sliding_window=4,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0},
        **settings,
    )
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(config).to(dtype)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape) * 0.3)
    model.save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(words)
    return model


@pytest.fixture(scope="module")
def model(tmp_path_factory, words):
    folder = tmp_path_factory.mktemp("gemma") / "model"
    gemma(folder, words)
    return folder


@pytest.fixture(scope="module", params=["folder", "flat"])
def archive(request, model, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param) / "model.nemo"
    convert(model, path, layout=request.param)
    return path


def logits(folder):
    loaded = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        return loaded(torch.arange(5, 29).reshape(2, 12)).logits


def same_weights(left, right):
    a, b = (load_file(folder / "model.safetensors") for folder in (left, right))
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert torch.equal(a[name].view(torch.int16), b[name].view(torch.int16)), name


def test_there_and_back_is_the_same_to_the_last_bit(archive, model, tmp_path):
    back = tmp_path / "back"
    done = convert(archive, back)
    same_weights(model, back)
    assert torch.equal(logits(model), logits(back))
    assert (back / "tokenizer.model").read_bytes() == (model / "tokenizer.model").read_bytes()
    one, other = (Gemma2Config.from_pretrained(folder).to_dict() for folder in (model, back))
    free = {"transformers_version", "_name_or_path", "use_cache", "dtype"}
    assert {k: v for k, v in one.items() if k not in free} == {k: v for k, v in other.items() if k not in free}
    assert any("padding" in note for note in done.notes)
    assert done.tensors > 20
    again = tmp_path / "again.nemo"
    convert(back, again, layout="flat" if "flat" in str(archive) else "folder")
    assert members(again) == members(archive)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def members(path):
    with tarfile.open(path) as tar:
        return {m.name: m.size for m in tar.getmembers()}


def test_the_tokenizer_of_the_way_back_reads_as_the_original_words(archive, words, tmp_path):
    convert(archive, tmp_path / "back")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "back")
    original = sentencepiece.SentencePieceProcessor(model_proto=words)
    text = "no contract of the court"
    assert tokenizer.encode(text, add_special_tokens=False) == original.encode(text)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id) == (0, 1, 2)


def test_the_archive_is_what_nemo_writes(model, tmp_path):
    """Names, layout and configuration as documented; the tensors by the definition, not by our own table."""
    convert(model, tmp_path / "flat.nemo", layout="flat")
    with tarfile.open(tmp_path / "flat.nemo", "r:") as tar:
        names = tar.getnames()
        config = yaml.safe_load(tar.extractfile("./model_config.yaml"))
        state = torch.load(tar.extractfile("./model_weights.ckpt"), weights_only=True)
    assert names[0] == "./model_config.yaml"
    assert re.fullmatch(r"\./[0-9a-f]{32}_tokenizer\.model", names[1])
    assert config["tokenizer"]["model"] == f"nemo:{names[1][2:]}"
    assert (config["name"], config["normalization"], config["window_size"]) == ("megatron_gemma2", "rmsnorm", [4, 0])
    assert config["layernorm_epsilon"] == 1e-5
    assert config["mcore_customization_config"] == {
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
        "query_pre_attn_scalar": 24.0,
    }
    hf = load_file(model / "model.safetensors")
    assert state["model.embedding.word_embeddings.weight"].shape == (256, 32)
    fused = state["model.decoder.layers.1.self_attention.linear_qkv.weight"]
    q, k, v = (hf[f"model.layers.1.self_attn.{n}_proj.weight"] for n in "qkv")
    rows = [q[:32], k[:16], v[:16], q[32:], k[16:], v[16:]]  # two groups of two Q heads, each with its K and V
    assert torch.equal(fused, torch.cat(rows))
    gate_up = state["model.decoder.layers.2.mlp.linear_fc1.weight"]
    assert torch.equal(gate_up[:48], hf["model.layers.2.mlp.gate_proj.weight"])
    assert torch.equal(gate_up[48:], hf["model.layers.2.mlp.up_proj.weight"])
    norm = "mlp.linear_fc2.post_layernorm.weight"
    assert torch.equal(state[f"model.decoder.layers.0.{norm}"], hf["model.layers.0.post_feedforward_layernorm.weight"])


def test_the_folder_is_a_checkpoint_that_torch_itself_loads(model, tmp_path):
    from torch.distributed import checkpoint

    convert(model, tmp_path / "m.nemo")
    with tarfile.open(tmp_path / "m.nemo") as tar:
        tar.extractall(tmp_path / "x", filter="data")
    key = "model.decoder.layers.mlp.linear_fc2.weight"
    state = {key: torch.empty(3, 32, 48, dtype=torch.bfloat16)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process
        checkpoint.load(state, checkpoint_id=str(tmp_path / "x" / "model_weights"), no_dist=True)
    hf = load_file(model / "model.safetensors")
    for i in range(3):
        assert torch.equal(state[key][i], hf[f"model.layers.{i}.mlp.down_proj.weight"])
    assert json.loads((tmp_path / "x/model_weights/metadata.json").read_bytes())["sharded_backend"] == "torch_dist"


def test_a_checkpoint_that_torch_wrote_in_other_boxes_is_read(model, tmp_path):
    """One box for all layers, and states of kernels beside the tensors."""
    from torch.distributed import checkpoint

    convert(model, tmp_path / "m.nemo", layout="flat")
    parts = unpacked(tmp_path / "m.nemo")
    state = torch.load(io.BytesIO(parts.pop("model_weights.ckpt")), weights_only=True)
    stacked = {}
    for name, tensor in state.items():
        if ".layers." in name:
            stacked.setdefault(re.sub(r"layers\.\d+\.", "layers.", name), []).append(tensor)
        else:
            stacked[name] = tensor
    stacked = {n: torch.stack(t) if isinstance(t, list) else t for n, t in stacked.items()}
    stacked["model.decoder.layers.mlp.linear_fc1._extra_state/shard_0_3"] = io.BytesIO(b"x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint.save(stacked, checkpoint_id=str(tmp_path / "d"), no_dist=True)
    parts |= {f"model_weights/{p.name}": p.read_bytes() for p in (tmp_path / "d").iterdir()}
    convert(packed(tmp_path / "other.nemo", parts), tmp_path / "back")
    same_weights(model, tmp_path / "back")


def unpacked(path):
    with tarfile.open(path) as tar:
        return {m.name.removeprefix("./"): tar.extractfile(m).read() for m in tar.getmembers()}


def packed(path, parts, *more, prefix="./"):
    with tarfile.open(path, "w") as tar:
        for name, content in parts.items():
            info = tarfile.TarInfo(prefix + name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in more:
            tar.addfile(info, io.BytesIO(b"x" * info.size))
    return path


def test_old_archives_are_read_too(model, tmp_path):
    """Gzipped, names without ./, one rank's folder, a prefix, states of kernels, another padding, epsilon as text."""
    convert(model, tmp_path / "m.nemo", layout="flat")
    parts = unpacked(tmp_path / "m.nemo")
    state = torch.load(io.BytesIO(parts.pop("model_weights.ckpt")), weights_only=True)
    state = {name.replace("model.", "model.module.", 1): tensor for name, tensor in state.items()}
    rows = state["model.module.embedding.word_embeddings.weight"]
    state["model.module.embedding.word_embeddings.weight"] = torch.cat([rows, torch.ones_like(rows)])
    state["model.module.decoder.layers.0.mlp.linear_fc1._extra_state"] = io.BytesIO(b"state")
    state["model.module.rotary_pos_emb.inv_freq"] = torch.ones(4)
    saved = io.BytesIO()
    torch.save({"state_dict": state}, saved)
    parts["mp_rank_00/model_weights.ckpt"] = saved.getvalue()
    parts["model_config.yaml"] = parts["model_config.yaml"].replace(b"1.0e-05", b"1e-05")
    assert b"1e-05" in parts["model_config.yaml"]
    plain = packed(tmp_path / "old.tar", parts, prefix="")
    (tmp_path / "old.nemo").write_bytes(gzip.compress(plain.read_bytes()))
    convert(tmp_path / "old.nemo", tmp_path / "back")
    same_weights(model, tmp_path / "back")
    assert json.loads((tmp_path / "back/config.json").read_bytes())["rms_norm_eps"] == 1e-5


def test_several_ranks_are_refused_by_name(model, tmp_path):
    convert(model, tmp_path / "m.nemo", layout="flat")
    parts = unpacked(tmp_path / "m.nemo")
    weights = parts.pop("model_weights.ckpt")
    parts |= {f"mp_rank_0{i}/model_weights.ckpt": weights for i in range(2)}
    with pytest.raises(ModelError, match="2 ranks \\(mp_rank_00, mp_rank_01\\)"):
        convert(packed(tmp_path / "two.nemo", parts), tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("layout", ["folder", "flat"])
def test_a_vocabulary_that_the_tokenizer_does_not_have_comes_back_as_well(words, tmp_path, layout):
    gemma(tmp_path / "m", words, vocabulary=300, dtype=torch.float16)
    convert(tmp_path / "m", tmp_path / "m.nemo", layout=layout)
    convert(tmp_path / "m.nemo", tmp_path / "back")
    same_weights(tmp_path / "m", tmp_path / "back")
    assert torch.equal(logits(tmp_path / "m"), logits(tmp_path / "back"))


def test_large_models_are_written_in_shards(model, tmp_path, monkeypatch):
    convert(model, tmp_path / "m.nemo")
    monkeypatch.setattr(nemo_hf, "SHARD_BYTES", 20_000)
    convert(tmp_path / "m.nemo", tmp_path / "back")
    shards = sorted(p.name for p in (tmp_path / "back").glob("*.safetensors"))
    assert len(shards) > 2
    assert all((tmp_path / "back" / name).stat().st_size < 24_000 for name in shards)
    assert torch.equal(logits(model), logits(tmp_path / "back"))
    monkeypatch.undo()
    convert(tmp_path / "back", tmp_path / "again.nemo")  # shards are read, too
    convert(tmp_path / "again.nemo", tmp_path / "whole")
    same_weights(model, tmp_path / "whole")


def test_the_order_of_queries_keys_and_values_has_an_inverse():
    sizes = Sizes(1, 8, 8, 6, 3, 4, 10)
    parts = [torch.randn(n, 8) for n in (24, 12, 12)]
    for part, back in zip(parts, split_qkv(sizes, join_qkv(sizes, parts)), strict=True):
        assert torch.equal(part, back)
    assert len({e.nemo for e in entries(sizes)}) == len(entries(sizes)) == 2 + 8


# -- adapters --------------------------------------------------------------------------------------------------


def lora_parts(model, tmp_path, rank=4):
    """An archive as the 2024 fine-tuning left it: LoRA on the fused QKV (and here on all other layers)."""
    convert(model, tmp_path / "m.nemo", layout="flat")
    parts = unpacked(tmp_path / "m.nemo")
    config = yaml.safe_load(parts["model_config.yaml"])
    config["peft"] = {"peft_scheme": "lora", "lora_tuning": {"adapter_dim": rank, "alpha": 6}}
    torch.manual_seed(3)
    sizes = {
        "self_attention.adapter_layer.lora_kqv_adapter": (32, 128),
        "self_attention.adapter_layer.lora_dense_attention_adapter": (64, 32),
        "mlp.adapter_layer.lora_hto4h_adapter": (32, 96),
        "mlp.adapter_layer.lora_4htoh_adapter": (48, 32),
    }
    state = {}
    for i in range(3):
        for name, (wide, out) in sizes.items():
            state[f"model.decoder.layers.{i}.{name}.linear_in.weight"] = torch.randn(rank, wide) * 0.1
            state[f"model.decoder.layers.{i}.{name}.linear_out.weight"] = torch.randn(out, rank) * 0.1
    return parts | {"model_config.yaml": yaml.safe_dump(config).encode()}, state


def saved(state):
    out = io.BytesIO()
    torch.save(state, out)
    return out.getvalue()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # between peft and transformers
def test_adapters_become_what_peft_reads(words, tmp_path):
    from peft import PeftModel

    gemma(tmp_path / "model", words, dtype=torch.float32)
    parts, state = lora_parts(tmp_path / "model", tmp_path)
    base = parts["model_weights.ckpt"]
    parts["model_weights.ckpt"] = saved(state)
    done = convert(packed(tmp_path / "lora.nemo", parts), tmp_path / "adapter")
    assert done.kind == "PEFT adapter"
    assert done.tensors == len(state)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="eager")
    adapted = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    with torch.no_grad():
        found = adapted(torch.arange(5, 29).reshape(2, 12)).logits
    # The same by adding the products to the fused weights, as NeMo does, and converting the whole.
    whole = torch.load(io.BytesIO(base), weights_only=True)
    fused = {
        "self_attention.linear_qkv": "self_attention.adapter_layer.lora_kqv_adapter",
        "self_attention.linear_proj": "self_attention.adapter_layer.lora_dense_attention_adapter",
        "mlp.linear_fc1": "mlp.adapter_layer.lora_hto4h_adapter",
        "mlp.linear_fc2": "mlp.adapter_layer.lora_4htoh_adapter",
    }
    for i in range(3):
        for layer, name in fused.items():
            at = f"model.decoder.layers.{i}."
            product = state[f"{at}{name}.linear_out.weight"] @ state[f"{at}{name}.linear_in.weight"]
            whole[f"{at}{layer}.weight"] += product * 6 / 4
    convert(packed(tmp_path / "merged.nemo", parts | {"model_weights.ckpt": saved(whole)}), tmp_path / "merged")
    expected = logits(tmp_path / "merged")
    assert (expected - logits(tmp_path / "model")).abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_adapters_that_are_not_known_or_not_whole_are_refused(model, tmp_path):
    parts, state = lora_parts(model, tmp_path)
    first = next(iter(state))
    for change, said in (
        ({first.replace("lora_kqv", "lora_else"): state[first]}, "no LoRA adapter that is known"),
        ({first: state[first]}, "only linear_in"),
        ({n.replace("layers.0", "layers.9"): t for n, t in state.items()}, "configuration says 3 layers"),
        ({n: t[:, :2] if "out" in n else t for n, t in state.items()} | {first: state[first][:2]}, "different ranks"),
        (
            {n: t[:8] if "linear_out" in n else t for n, t in state.items()},
            r"shape \(8, 4\), but its configuration says a width of 128",
        ),
    ):
        with pytest.raises(ModelError, match=said):
            convert(packed(tmp_path / "bad.nemo", parts | {"model_weights.ckpt": saved(change)}), tmp_path / "x")


# -- what is not trusted ---------------------------------------------------------------------------------------


def link(name, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (tarfile.TarInfo("/etc/evil"), "outside the archive"),
        (tarfile.TarInfo("./model_weights/../../evil"), "outside the archive"),
        (link("./model_weights/link"), "link or a device"),
        (link("./hard", tarfile.LNKTYPE), "link or a device"),
        (link("./pipe", tarfile.FIFOTYPE), "link or a device"),
        (tarfile.TarInfo("model_config.yaml"), "twice"),
    ],
)
def test_paths_in_an_archive_are_checked(model, tmp_path, info, said):
    convert(model, tmp_path / "m.nemo")
    path = packed(tmp_path / "evil.nemo", unpacked(tmp_path / "m.nemo"), info)
    with pytest.raises(InputError, match=said):
        convert(path, tmp_path / "back")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.nemo", "m.nemo"]


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("where", ["model_weights.ckpt", "model_weights/.metadata", "model_weights/__0_0.distcp"])
def test_no_code_in_an_archive_is_run(model, tmp_path, where):
    convert(model, tmp_path / "m.nemo", layout="flat" if where.endswith("ckpt") else "folder")
    parts = unpacked(tmp_path / "m.nemo")
    proof = tmp_path / "proof"
    evil = Evil(str(proof))
    if where.endswith(".metadata"):
        parts[where] = pickle.dumps(evil)
    elif where.endswith("ckpt"):
        parts[where] = saved({"model.x": evil})
    else:
        # In the place of a tensor, where the index points.
        index = read_index(io.BytesIO(parts["model_weights/.metadata"]), "index")
        chunk = index["model.decoder.final_layernorm.weight"].chunks[0]
        content = bytearray(parts[where])
        replaced = saved(evil)
        assert len(replaced) <= chunk.length
        content[chunk.start : chunk.start + chunk.length] = replaced.ljust(chunk.length, b"\0")
        parts[where] = bytes(content)
    with pytest.raises(InputError, match=r"cannot be (loaded|used)"):
        convert(packed(tmp_path / "evil.nemo", parts), tmp_path / "back")
    assert not proof.exists()


def test_an_index_may_name_nothing_but_what_indexes_are_made_of():
    for name in (b"cos\nsystem\n.", b"cbuiltins\neval\n.", b"ctorch\nload\n.", b"ctorch.serialization\nload\n."):
        with pytest.raises(InputError, match="no index of tensors needs"):
            read_index(io.BytesIO(name), "x")
    for damaged in (b"", b"\x80\x04", pickle.dumps({"a": 1}), pickle.dumps(None), b"\x80\x04\x95\xff\xff"):
        with pytest.raises(InputError, match="cannot be used"):
            read_index(io.BytesIO(damaged), "x")


def test_an_archive_that_is_cut_off_anywhere_is_said_to_be(archive, tmp_path):
    whole = archive.read_bytes()
    with tarfile.open(archive) as tar:
        end = max(m.offset_data + m.size for m in tar.getmembers())  # zeros follow
    for length in (0, 100, 600, end // 20, end // 3, end // 2, end - 1):
        (tmp_path / "cut.nemo").write_bytes(whole[:length])
        with pytest.raises(TamisError):
            convert(tmp_path / "cut.nemo", tmp_path / "back")
    packed_ = gzip.compress(whole)
    (tmp_path / "cut.nemo").write_bytes(packed_[: len(packed_) // 2])
    with pytest.raises(InputError, match=r"no complete \.nemo archive"):
        convert(tmp_path / "cut.nemo", tmp_path / "back")
    assert [p.name for p in tmp_path.iterdir()] == ["cut.nemo"]


def test_damage_is_an_error_or_harmless_and_never_a_crash(archive, tmp_path):
    """A few bytes changed, lost or added, anywhere in a file of the archive."""
    noise = random.Random(7)
    parts = unpacked(archive)
    for trial in range(60):
        name = list(parts)[trial % len(parts)]
        content = bytearray(parts[name])
        for _ in range(3):
            at = noise.randrange(len(content))
            content[at : at + noise.randrange(1, 9)] = noise.randbytes(noise.randrange(9))
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        with contextlib.suppress(TamisError):
            convert(packed(tmp_path / "x.nemo", parts | {name: bytes(content) or b"x"}), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) in (["out", "x.nemo"], ["x.nemo"])


def test_what_an_index_claims_is_checked_before_memory_is_taken(model, tmp_path):
    convert(model, tmp_path / "m.nemo")
    parts = unpacked(tmp_path / "m.nemo")
    index = pickle.loads(parts["model_weights/.metadata"])
    about = index.state_dict_metadata["model.decoder.final_layernorm.weight"]
    about.size = torch.Size([10**15])
    bad = parts | {"model_weights/.metadata": pickle.dumps(index)}
    with pytest.raises(ModelError, match=r"has the shape \(1000000000000000,\)"):
        convert(packed(tmp_path / "a.nemo", bad), tmp_path / "out")
    about.size, about.chunks = torch.Size([32]), []
    bad = parts | {"model_weights/.metadata": pickle.dumps(index)}
    with pytest.raises(InputError, match="its parts hold 0 of 32 numbers"):
        convert(packed(tmp_path / "b.nemo", bad), tmp_path / "out")
    config = parts["model_config.yaml"].replace(b"num_layers: 3", b"num_layers: 3000000000")
    with pytest.raises(ModelError, match="make no Gemma 2"):
        convert(packed(tmp_path / "c.nemo", parts | {"model_config.yaml": config}), tmp_path / "out")
    zarr = parts | {"model_weights/metadata.json": b'{"sharded_backend": "zarr"}'}
    with pytest.raises(ModelError, match="'zarr'"):
        convert(packed(tmp_path / "d.nemo", zarr), tmp_path / "out")
    with pytest.raises(InputError, match="which kind of checkpoint"):
        convert(packed(tmp_path / "e.nemo", parts | {"model_weights/metadata.json": b"[1"}), tmp_path / "out")


# -- every tensor has a place ----------------------------------------------------------------------------------


def test_tensors_that_are_missing_unknown_or_of_another_shape_are_named(model, tmp_path):
    convert(model, tmp_path / "m.nemo", layout="flat")
    parts = unpacked(tmp_path / "m.nemo")
    state = torch.load(io.BytesIO(parts["model_weights.ckpt"]), weights_only=True)
    name = "model.decoder.layers.1.mlp.linear_fc2.weight"
    for change, said in (
        ({k: v for k, v in state.items() if k != name}, "lacks 1 tensor .*layers.1.mlp.linear_fc2.weight"),
        (state | {"model.decoder.layers.1.mlp.router.weight": torch.ones(1)}, "router.weight.*does not have"),
        (state | {"model.output_layer.weight": torch.ones(1)}, "output_layer.*does not have"),
        (state | {name: torch.ones(3, 3)}, r"layers.1.mlp.linear_fc2.weight has the shape \(3, 3\)"),
        (state | {"model.extra": "text"}, "extra is a str"),
        ([1], "no state dict"),
    ):
        bad = packed(tmp_path / "bad.nemo", parts | {"model_weights.ckpt": saved(change)})
        with pytest.raises(TamisError, match=said):
            convert(bad, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_what_is_no_gemma_2_is_refused_by_its_name(model, words, tmp_path):
    def changed(**keys):
        folder = tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(model, folder)
        config = json.loads((folder / "config.json").read_bytes()) | keys
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    for keys, said in (
        ({"model_type": "llama"}, "'llama'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_activation": "silu"}, "silu"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types"),
        ({"num_key_value_heads": 3}, "make no Gemma 2"),
        ({"num_hidden_layers": 4}, "lacks 11 tensors"),
        ({"num_hidden_layers": 2}, "which a Gemma 2 does not have"),
        ({"head_dim": None}, "head_dim is missing"),
    ):
        with pytest.raises(ModelError, match=said):
            convert(changed(**keys), tmp_path / "x.nemo")
    convert(model, tmp_path / "m.nemo")
    parts = unpacked(tmp_path / "m.nemo")
    config = yaml.safe_load(parts["model_config.yaml"])
    for keys, said in (
        ({"name": "megatron_llama", "mcore_customization_config": None}, "megatron_llama"),
        ({"normalization": "layernorm"}, "layernorm"),
        ({"num_layers": 4}, "not 4 layers"),
        ({"kv_channels": "wide"}, "kv_channels is 'wide'"),
    ):
        bad = parts | {"model_config.yaml": yaml.safe_dump(config | keys).encode()}
        with pytest.raises(ModelError, match=said):
            convert(packed(tmp_path / "bad.nemo", bad), tmp_path / "back")
    # The name of a run that tuned it does not matter.
    own = parts | {"model_config.yaml": yaml.safe_dump(config | {"name": "megatron_gpt_sft"}).encode()}
    convert(packed(tmp_path / "own.nemo", own), tmp_path / "back")


def test_a_head_of_its_own_is_refused_and_a_copy_of_the_embedding_is_not(model, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, folder / "model.safetensors")
    convert(folder, tmp_path / "a.nemo")
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1}, folder / "model.safetensors")
    with pytest.raises(ModelError, match="not the embedding"):
        convert(folder, tmp_path / "b.nemo")


def test_misuse_is_said_in_a_sentence(model, tmp_path, capsys):
    def error_of(*arguments):
        assert main(["convert", *map(str, arguments)]) in {1, 2}
        return capsys.readouterr().err

    assert "Neither is" in error_of(model, tmp_path / "x")
    assert "Both are" in error_of("a.nemo", "b.nemo")
    assert "cannot be read" in error_of(tmp_path / "none.nemo", tmp_path / "x")
    (tmp_path / "text.nemo").write_text("no archive at all, but a text of some length" * 40)
    assert "no complete .nemo archive" in error_of(tmp_path / "text.nemo", tmp_path / "x")
    packed(tmp_path / "empty.nemo", {})
    assert "holds no files" in error_of(tmp_path / "empty.nemo", tmp_path / "x")
    packed(tmp_path / "bare.nemo", {"else": b"1"})
    assert "has no model_config.yaml" in error_of(tmp_path / "bare.nemo", tmp_path / "x")
    packed(tmp_path / "bare.nemo", {"model_config.yaml": b"a: [1"})
    assert "is no YAML" in error_of(tmp_path / "bare.nemo", tmp_path / "x")
    folder = tmp_path / "m"
    shutil.copytree(model, folder)
    (folder / "tokenizer.model").rename(folder / "tokenizer.json")
    assert "tokenizer.json alone does not say it" in error_of(folder, tmp_path / "x.nemo")
    (folder / "tokenizer.model").write_bytes(b"\x0a\xff\xff")
    assert "no SentencePiece model" in error_of(folder, tmp_path / "x.nemo")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    assert "PEFT adapter" in error_of(adapter, tmp_path / "x.nemo")
    assert main(["convert", str(model), str(tmp_path / "x.nemo")]) == 0
    assert "tensors" in capsys.readouterr().out
    assert "exists already" in error_of(model, tmp_path / "x.nemo")
    with pytest.raises(OutputRefusedError):
        convert(tmp_path / "x.nemo", folder)
    with pytest.raises(UsageError, match="no layout 'flate'"):
        convert(model, tmp_path / "y.nemo", layout="flate")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
