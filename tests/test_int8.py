"""Products of bytes: near to float32, the same bits in any batch, and refused where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tamis.errors import ModelError
from tamis.models import int8, packed
from tamis.models.device import pick_dtype
from tamis.models.int8 import Int8Linear, feed_forward, ranges_of
from tamis.models.network import Network, forward_of
from tamis.models.packed import pack
from test_packed import LENGTHS, bert, deberta, one_at_a_time, texts_of

CPU = torch.device("cpu")
needs_vnni = pytest.mark.skipif(not int8.has_int8(), reason="this processor does not multiply bytes")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def off(got, expected):
    """Root mean square of the difference, as a share of what is expected."""
    return float((got.float() - expected).square().mean().sqrt() / expected.square().mean().sqrt())


@needs_vnni
@pytest.mark.parametrize("wide", [1.0, 50.0], ids=["even columns", "one wide column"])
@pytest.mark.parametrize("activation", ["none", "relu", "gelu", "gelu_new"])
def test_a_product_is_within_a_hundredth(activation, wide):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 96, generator=generator)
    weight, bias = torch.randn(64, 96, generator=generator), torch.randn(64, generator=generator)
    x[:, 7] *= wide
    weight[:, 7] /= wide
    expected = x @ weight.T + bias
    apply = {
        "none": lambda y: y,
        "relu": torch.relu,
        "gelu": torch.nn.functional.gelu,
        "gelu_new": lambda y: torch.nn.functional.gelu(y, approximate="tanh"),
    }[activation]
    product = Int8Linear(weight, bias, activation).from_columns((x.amin(0), x.amax(0)))
    assert off(product(x.to(int8.states_dtype())), apply(expected)) < 0.02
    if activation == "none":
        residual = torch.randn(300, 64, generator=generator).to(int8.states_dtype())
        assert off(product(x.to(int8.states_dtype()), residual), expected + residual.float()) < 0.02


@needs_vnni
def test_a_feed_forward_with_a_column_far_wider_than_the_rest():
    body = bert()
    layer = body.encoder.layer[0]
    up, down = layer.intermediate.dense, layer.output.dense
    with torch.no_grad():
        up.weight[5] *= 40
        found = int8.Ranges()
        x = torch.randn(400, 32, generator=torch.Generator().manual_seed(1))
        middle = torch.nn.functional.gelu(up(x))
        found.watch(up, (x,))
        found.watch(down, (middle,))
        first, second = feed_forward(up, down, "gelu", found)
        rows = x.to(int8.states_dtype())
        kept = down(middle) + x
        assert off(second(first(rows), rows), kept) < 0.02


@needs_vnni
@pytest.mark.parametrize("make", [bert, deberta, lambda: bert(hidden_act="gelu_new"), lambda: bert(hidden_act="relu")])
@pytest.mark.parametrize("pool", ["first", "mean", "last"])
def test_states_are_near_those_of_the_model(make, pool):
    body, tokens = make(), texts_of(LENGTHS)
    states = pack(body, pool, torch.int8, CPU)(tokens)
    assert states.dtype == torch.float32
    expected = one_at_a_time(body, tokens, pool)
    # Weights of these models make attention sharp, so that a rounding moves it: 0.968 at worst, 0.99 on average.
    near = torch.cosine_similarity(states, expected)
    assert near.min() > 0.93
    assert near.mean() > 0.98


@needs_vnni
@pytest.mark.parametrize("make", [bert, deberta])
@pytest.mark.parametrize("pool", ["first", "mean"])
def test_bits_ignore_neighbours_order_and_threads(make, pool):
    body = make()
    run, tokens = pack(body, pool, torch.int8, CPU), texts_of(LENGTHS * 2)
    together = run(tokens)
    torch.set_num_threads(2)
    assert torch.equal(run(tokens), together)
    assert torch.equal(pack(body, pool, torch.int8, CPU)(tokens), together)  # the scales are the same every time
    torch.set_num_threads(1)
    assert torch.equal(torch.cat([run(tokens.take(np.array([i]))) for i in range(len(tokens))]), together)
    order = np.random.default_rng(1).permutation(len(tokens))
    for part in np.array_split(order, 4):
        assert torch.equal(run(tokens.take(part)), together[torch.from_numpy(part)])


@needs_vnni
def test_ranges_hold_what_layers_get_and_leave_no_hook_behind():
    body = bert()
    found = ranges_of(body)
    low, high = found[body.encoder.layer[0].output.dense]
    assert low.shape == high.shape == (64,)
    assert low.min() >= -0.171
    assert high.max() > 1
    assert not any(m._forward_pre_hooks for m in body.modules())


def test_it_is_refused_where_there_is_none(monkeypatch):
    with pytest.raises(ModelError, match="edu: int8 is for BERT and DeBERTa encoders"):
        pick_dtype("int8", CPU, who="edu")
    with pytest.raises(ModelError, match="on a processor with VNNI; use auto"):
        pick_dtype("int8", torch.device("cuda"), who="edu", int8=True)
    assert pick_dtype("int8", CPU, who="edu", int8=True) is torch.int8
    assert pick_dtype("auto", CPU, who="edu", int8=True) is not torch.int8
    assert pack(bert(hidden_act="silu"), "first", torch.int8, CPU) is None
    monkeypatch.setattr(packed, "has_int8", lambda: False)
    assert pack(bert(), "first", torch.int8, CPU) is None
    network = Network(bert(), "first", lambda x: x)
    for form in (True, False):
        with pytest.raises(ModelError, match="int8 is for BERT and DeBERTa encoders, run packed"):
            forward_of(network, pad_id=0, device=CPU, dtype=torch.int8, packed=form)
