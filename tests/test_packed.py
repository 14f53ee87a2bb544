"""Packed forward passes against the Hugging Face models, one text at a time; a text's bits ignore its batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from tamis.errors import UsageError
from tamis.models import linear, packed, packed_bert, packed_deberta
from tamis.models.linear import Linear
from tamis.models.packed import pack
from tamis.models.packed_deberta import buckets
from tamis.models.tokens import Tokens

CPU = torch.device("cpu")
LENGTHS = [5, 1, 40, 3, 3, 17, 40, 1, 29, 5, 3, 64, 2, 8, 40, 3]
"""Shuffled, with equal lengths, single tokens, and the limit of the tiny models (64)."""

BF16 = 0.06
"""Largest difference in bfloat16: states are of size 1 to 3 after the last layer norm, and one rounding is 2**-8."""


def texts_of(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return Tokens.from_lists([rng.integers(3, 100, n).tolist() for n in lengths])


def spread(model):
    """Weights large enough for attention to be far from uniform, so that a wrong score shows; norms not 1 and 0."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim == 1:
                p.copy_(1 + 0.2 * noise if "LayerNorm.weight" in name else 0.2 * noise)
            elif "embeddings" in name:
                p.copy_(noise)
            else:
                p.copy_(1.5 * noise / p.shape[1] ** 0.5)
    return model.eval()


def bert(**changes):
    given = {"num_attention_heads": 4, "num_hidden_layers": 3, "hidden_act": "gelu"} | changes
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=32, intermediate_size=64, max_position_embeddings=64, **given
    )
    return spread(transformers.BertModel(config, add_pooling_layer=False))


def deberta(**changes):
    given = {
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "type_vocab_size": 0,
        "position_buckets": 8,
        "position_biased_input": False,
        "max_position_embeddings": 64,
        "pos_att_type": ["c2p", "p2c"],
        "relative_attention": True,
    } | changes
    config = transformers.DebertaV2Config(vocab_size=100, hidden_size=32, intermediate_size=64, **given)
    return spread(transformers.DebertaV2Model(config))


def one_at_a_time(body, tokens, pool):
    rows = []
    for i in range(len(tokens)):
        with torch.no_grad():
            states = body(input_ids=torch.from_numpy(tokens[i].astype(np.int64))[None]).last_hidden_state[0]
        rows.append({"first": states[0], "last": states[-1], "mean": states.mean(0)}[pool])
    return torch.stack(rows)


MODELS = {
    "bert": bert,
    "bert, one head": lambda: bert(num_attention_heads=1),
    "bert, tanh gelu": lambda: bert(hidden_act="gelu_new"),
    "bert, relu": lambda: bert(hidden_act="relu"),
    "bert, an activation that is not fused": lambda: bert(hidden_act="silu"),
    "deberta": deberta,
    "deberta, one head": lambda: deberta(num_attention_heads=1),
    "deberta, 8 heads, three layers": lambda: deberta(num_attention_heads=8, num_hidden_layers=3),
    "deberta, position projections of its own": lambda: deberta(share_att_key=False),
    "deberta, types, no norm of positions": lambda: deberta(type_vocab_size=2, norm_rel_ebd="none"),
    "deberta, no buckets": lambda: deberta(position_buckets=-1, max_relative_positions=16),
    "deberta, positions in the input": lambda: deberta(position_biased_input=True),
    "deberta, c2p": lambda: deberta(pos_att_type=["c2p"]),
    "deberta, p2c": lambda: deberta(pos_att_type=["p2c"], share_att_key=False),
    "deberta, no relative attention": lambda: deberta(relative_attention=False, position_biased_input=True),
}


@pytest.fixture(params=MODELS, ids=lambda name: name.replace(", ", "-").replace(" ", "_"))
def body(request):
    return MODELS[request.param]()


@pytest.fixture(autouse=True)
def one_thread():
    """Tiny products take longer on two threads than on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles and blocks so small that tiny texts need several of them, as long texts do of the real ones."""
    monkeypatch.setattr(packed_bert, "TILE", 16)
    monkeypatch.setattr(packed_deberta, "TILE", 16)
    monkeypatch.setattr(packed_bert, "_SCORES", 256)
    monkeypatch.setattr(packed, "_STREAM", 100)
    monkeypatch.setattr(packed, "_STATES", 0)


# -- the same as the model one text at a time ------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["first", "mean", "last"])
def test_float32_is_the_model_within_rounding(body, pool):
    tokens = texts_of(LENGTHS)
    states = pack(body, pool, torch.float32, CPU)(tokens)
    assert states.dtype == torch.float32
    torch.testing.assert_close(states, one_at_a_time(body, tokens, pool), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pool", ["first", "mean", "last"])
def test_several_tiles_blocks_and_streams_change_nothing(body, pool, small_tiles):
    tokens = texts_of(LENGTHS)
    states = pack(body, pool, torch.float32, CPU)(tokens)
    torch.testing.assert_close(states, one_at_a_time(body, tokens, pool), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pool", ["first", "mean"])
def test_bfloat16_stays_within_a_few_roundings(body, pool):
    tokens = texts_of(LENGTHS)
    states = pack(body, pool, torch.bfloat16, CPU)(tokens)
    assert states.dtype == torch.float32
    expected = one_at_a_time(body, tokens, pool)
    assert (states - expected).square().mean().sqrt() < BF16
    assert torch.cosine_similarity(states, expected).min() > 0.99


@pytest.mark.parametrize("make", [bert, deberta])
def test_without_onednn_the_answer_is_the_same(make, monkeypatch):
    monkeypatch.setattr(linear, "_onednn_takes", lambda dtype: False)
    for body in (make(), make(hidden_act="gelu_new"), make(hidden_act="relu")):
        tokens = texts_of(LENGTHS)
        states = pack(body, "first", torch.float32, CPU)(tokens)
        torch.testing.assert_close(states, one_at_a_time(body, tokens, "first"), atol=1e-5, rtol=1e-5)


def test_a_text_longer_than_the_real_tiles():
    body = deberta(position_buckets=32, max_position_embeddings=128, num_hidden_layers=2)
    tokens = texts_of([700, 129, 128, 257])
    states = pack(body, "mean", torch.float32, CPU)(tokens)
    torch.testing.assert_close(states, one_at_a_time(body, tokens, "mean"), atol=1e-5, rtol=1e-5)


# -- a text's bits ignore its batch ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("pool", ["first", "mean", "last"])
@pytest.mark.parametrize("make", [bert, deberta, lambda: deberta(share_att_key=False, num_attention_heads=2)])
def test_bits_ignore_neighbours_order_and_threads(make, pool, dtype):
    run = pack(make(), pool, dtype, CPU)
    lengths = LENGTHS * 2 + [64, 63, 33, 16, 7, 6]
    tokens = texts_of(lengths)
    torch.set_num_threads(2)
    together = run(tokens)
    torch.set_num_threads(1)
    assert torch.equal(run(tokens), together)
    alone = torch.cat([run(tokens.take(np.array([i]))) for i in range(len(tokens))])
    assert torch.equal(alone, together)
    order = np.random.default_rng(1).permutation(len(tokens))
    for part in np.array_split(order, 4):
        assert torch.equal(run(tokens.take(part)), together[torch.from_numpy(part)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("inputs", "outputs"), [(32, 96), (384, 1536), (3072, 768), (768, 768), (33, 7)])
def test_rows_of_a_product_do_not_depend_on_how_many_there_are(inputs, outputs, dtype):
    if not linear._onednn_takes(dtype):
        pytest.skip("oneDNN has no such product on this CPU")
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(outputs, inputs, generator=generator), torch.randn(outputs, generator=generator)
    x = torch.randn(300, inputs, generator=generator).to(dtype)
    residual = torch.randn(300, outputs, generator=generator).to(dtype)
    for activation, other in (("none", None), ("gelu", None), ("none", residual)):
        product = Linear(weight, bias, dtype, CPU, activation)
        whole = product(x, other)
        for first, count in [(0, 1), (299, 1), (7, 2), (3, 3), (5, 12), (1, 17), (0, 64), (9, 129), (0, 299)]:
            rows = slice(first, first + count)
            assert torch.equal(product(x[rows], None if other is None else other[rows]), whole[rows])


# -- buckets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "most"), [(8, 64), (256, 512), (256, 4096), (32, 128), (2, 16)])
def test_buckets_are_those_of_the_model(count, most):
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    distances = torch.arange(-5000, 5001)
    assert torch.equal(buckets(distances, count, most), make_log_bucket_position(distances, count, most).long())


# -- edges -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [bert, deberta])
@pytest.mark.parametrize("pool", ["first", "mean", "last"])
def test_no_texts_and_texts_without_tokens(make, pool):
    run = pack(make(), pool, torch.float32, CPU)
    assert run(texts_of([])).shape == (0, 32)
    states = run(texts_of([0, 3, 0]))
    assert torch.equal(states[[0, 2]], torch.zeros(2, 32))
    assert torch.isfinite(states).all()
    assert states[1].any()
    assert torch.equal(run(texts_of([0])), torch.zeros(1, 32))


def test_a_text_beyond_the_positions_is_refused_in_words():
    with pytest.raises(UsageError, match="has 65 tokens and the model has positions for 64"):
        pack(bert(), "first", torch.float32, CPU)(texts_of([3, 65]))
    assert pack(deberta(), "first", torch.float32, CPU)(texts_of([65])).shape == (1, 32)  # it has no such limit


def test_unknown_architectures_are_left_to_the_padded_path():
    assert pack(torch.nn.Linear(2, 2), "first", torch.float32, CPU) is None
    assert pack(bert(is_decoder=True), "first", torch.float32, CPU) is None
    assert pack(deberta(conv_kernel_size=3), "first", torch.float32, CPU) is None
    assert pack(deberta(embedding_size=16), "first", torch.float32, CPU) is None


def test_calls_do_not_disturb_each_other_nor_the_model():
    body = deberta()
    before = {name: p.clone() for name, p in body.named_parameters()}
    run = pack(body, "first", torch.float32, CPU)
    tokens = texts_of(LENGTHS)
    first = run(tokens)
    kept = first.clone()
    run(texts_of(LENGTHS, seed=1))
    assert torch.equal(first, kept)  # the workspace is not handed out
    assert torch.equal(run(tokens), kept)
    assert all(torch.equal(p, before[name]) for name, p in body.named_parameters())
    assert not first.requires_grad
