"""Matrix products of bytes with fixed scales, for encoders on a processor with VNNI."""

from __future__ import annotations

from typing import Any, cast

import torch

from tamis.models.linear import Linear, fused

__all__ = ["Int8Down", "Int8Linear", "Ranges", "feed_forward", "has_int8", "ranges_of", "states_dtype"]

_TEXTS, _LENGTH = 16, 128
"""Made-up texts whose activations set the scales, and tokens of each. Real text in their place was no better (MiniLM:
cosine to float32 0.9950 with random tokens, 0.9954 with English)."""

_WIDE = 16
"""Columns of a feed-forward that stay in floating point. MiniLM's mean states, cosine to float32: 0.9950 with none,
0.9979 with 16, 0.9978 with 32, 0.9968 with 128 (the range left is then too narrow for other texts)."""


def has_int8() -> bool:
    """Whether this processor multiplies bytes (VNNI) and this torch has oneDNN's products of them."""
    return bool(torch.cpu._is_vnni_supported()) and torch.backends.mkldnn.is_available()  # noqa: SLF001  no public name


def states_dtype() -> torch.dtype:
    """What states are between products: bfloat16 where the processor has it, else float32."""
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32  # noqa: SLF001  no public name


class Ranges:
    """Least and largest value that each column of a linear layer's inputs was seen to have, float32 [inputs] each."""

    def __init__(self) -> None:
        self._seen: dict[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def watch(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        """A forward pre-hook."""
        rows = inputs[0].detach().float().flatten(0, -2)
        low, high = rows.amin(0), rows.amax(0)
        if module in self._seen:
            low, high = torch.minimum(low, self._seen[module][0]), torch.maximum(high, self._seen[module][1])
        self._seen[module] = low, high

    def __getitem__(self, module: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
        return self._seen[module]


@torch.no_grad()
def ranges_of(body: Any) -> Ranges:
    """The ranges of all linear layers' inputs over texts of random tokens, the same ones every time."""
    words = body.config.vocab_size
    length = min(_LENGTH, body.config.max_position_embeddings)
    ids = torch.randint(min(5, words - 1), words, (_TEXTS, length), generator=torch.Generator().manual_seed(0))
    found = Ranges()
    hooks = [m.register_forward_pre_hook(found.watch) for m in body.encoder.modules() if isinstance(m, torch.nn.Linear)]
    try:
        for row in ids:
            body(input_ids=row[None])
    finally:
        for hook in hooks:
            hook.remove()
    return found


class Int8Linear:
    """``activation(x @ weight.T + bias)``, or with a residual added, over bytes; the sums are exact integers.

    Weights are symmetric, with a scale for each output. Inputs are floats, rounded here with a fixed scale for each
    column (the wider a column, the coarser; half of what makes it wide is moved into the weights, as SmoothQuant does,
    https://arxiv.org/abs/2211.10438), or the bytes of another Int8Linear. No scale depends on the rows: a text's bits
    are the same in any batch. What reaches beyond the ranges is cut off.

    Measured on one Zen 4 core (2,048 x 768 x 3,072): 410 GFLOP/s against 216 in bfloat16, rounding the inputs takes
    about another 5 % of the time. Inputs must be unsigned: signed ones take oneDNN's reference code (17 s).
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, activation: str = "none") -> None:
        """Shapes: ``weight`` [outputs, inputs], ``bias`` [outputs], any float type. Call a ``from_`` method next."""
        self._bias = bias.detach().float().contiguous()
        self._attr, self._algorithm = fused(activation)
        self._factors: torch.Tensor | None = None
        self._in, self._out = (1 / 127, 128), (1.0, 0, states_dtype())
        self._given = weight.detach().float()

    def from_columns(self, ranges: tuple[torch.Tensor, torch.Tensor]) -> Int8Linear:
        """Take floats whose columns have these ranges."""
        low, high = ranges
        reach = torch.maximum(high, -low).clamp(min=1e-5)
        share = (reach / self._given.abs().amax(0).clamp(min=1e-5)).sqrt()
        share = share * (reach / share).amax()  # no column, divided by its share, reaches beyond 1
        self._factors = (127 / share).to(states_dtype())
        self._pack(self._given * share)
        return self

    def from_bytes(self, scale: float, zero: int) -> Int8Linear:
        """Take bytes that stand for (byte - zero) * scale."""
        self._in = scale, zero
        self._pack(self._given)
        return self

    def to_bytes(self, scale: float, zero: int) -> Int8Linear:
        """Give such bytes, cut off at 0 and 255."""
        self._out = scale, zero, torch.uint8
        return self

    def _pack(self, weight: torch.Tensor) -> None:
        self._scales = weight.abs().amax(1).clamp(min=1e-12) / 127
        self._weight = torch.ops.onednn.qlinear_prepack((weight / self._scales[:, None]).round().to(torch.int8), None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int32)
        del self._given

    def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """``x`` [rows, inputs]; ``residual`` [rows, outputs], only where there is no activation."""
        if self._factors is not None:
            # To int8 and shifted then: torch's cast to uint8 takes six times as long.
            x = torch.mul(x, self._factors).round_().clamp_(-127, 127).to(torch.int8).view(torch.uint8)
            x.bitwise_xor_(128)
        given = (x, *self._in, self._weight, self._scales, self._zeros)
        if residual is not None:
            sums: tuple[Any, ...] = (1.0, 0, "add", 1.0, "none", [], "")
            y = torch.ops.onednn.qlinear_pointwise.binary(*given, residual, self._bias, *self._out, *sums)
        else:
            y = torch.ops.onednn.qlinear_pointwise(*given, self._bias, *self._out, self._attr, [], self._algorithm)
        return cast("torch.Tensor", y)


class Int8Down:
    """The second product of a feed-forward, whose widest columns stay in floating point.

    One scale holds for all the bytes of a gelu, and a few of its columns reach ten times as far as the others: those
    are computed again from the input of the first product, which is the residual of this one (6 % of MiniLM's time).
    """

    def __init__(self, product: Int8Linear, up: Linear, down: Linear) -> None:
        self._product, self._up, self._down = product, up, down

    def __call__(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """``x`` bytes [rows, wide], ``residual`` [rows, hidden]."""
        return self._product(x, self._down(self._up(residual), residual))


def feed_forward(up: Any, down: Any, activation: str, ranges: Ranges) -> tuple[Int8Linear, Int8Down]:
    """Both products, from two ``torch.nn.Linear``; bytes go from one to the other."""
    low, high = ranges[down]
    reach = torch.maximum(high, -low)
    wide = reach.topk(min(_WIDE, len(reach) // 8)).indices
    rest = torch.ones(len(reach), dtype=torch.bool)
    rest[wide] = False
    least, most = min(float(low[rest].min()), 0.0), max(float(high[rest].max()), 1e-5)
    scale = (most - least) / 255
    code = scale, round(-least / scale)
    weight = down.weight.detach().float().clone()
    weight[:, wide] = 0
    dtype, device = states_dtype(), torch.device("cpu")
    floats = (
        Linear(up.weight[wide], up.bias[wide], dtype, device, activation),
        Linear(down.weight[:, wide], None, dtype, device),
    )
    first = Int8Linear(up.weight, up.bias, activation).from_columns(ranges[up]).to_bytes(*code)
    return first, Int8Down(Int8Linear(weight, down.bias).from_bytes(*code), *floats)
