"""The parts of a packed forward pass that BERT and DeBERTa share, attention by equal length, and how to read a BERT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from tamis.models.int8 import Int8Linear, Ranges, feed_forward
from tamis.models.linear import Activation, Linear, Norm
from tamis.models.network import Pool

__all__ = [
    "TILE",
    "Attention",
    "Bias",
    "Block",
    "Group",
    "Layer",
    "Parts",
    "Target",
    "Workspace",
    "bert_parts",
    "layers_of",
]

TILE = 128
"""Longest text whose attention is computed together with other texts of its length, and rows of a tile of scores."""

_SCORES = 2**21
"""Scores held at once, 4 MB in bfloat16: at 12 heads one text of 418 tokens, or a 32nd of one of 4,096 (at least TILE
queries). From a quarter of it to twice as much the time is the same."""


_VECTOR = 32
"""Scores of a row are filled up to a multiple of this on a CPU, from that length on: the last, partial vector of a
row costs torch's softmax as much as the whole of the rest (12 x 286 x 286 in bfloat16: 654 us; with the
product before it 1,570 us on one thread, and 1,077 if 288 wide)."""


class Workspace:
    """Named buffers that grow and stay: fresh memory would be faulted in again, page by page, in every layer."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        self._buffers: dict[str, torch.Tensor] = {}

    def __call__(self, name: str, *shape: int) -> torch.Tensor:
        """An uninitialised contiguous tensor; the next call with this name gives the same memory."""
        size = 1
        for n in shape:
            size *= n
        buffer = self._buffers.get(name)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[name] = torch.empty(size, dtype=self._dtype, device=self._device)
        return buffer[:size].view(shape)


@dataclass(frozen=True)
class Group:
    """Neighbouring texts of equal length."""

    text: int
    """Which text is the first."""
    texts: int
    start: int
    """Where its tokens begin in the stream."""
    length: int

    @property
    def stop(self) -> int:
        """Where the last text's tokens end."""
        return self.start + self.texts * self.length

    def pieces(self, most: int) -> Iterator[Group]:
        """The same texts, at most ``most`` at a time."""
        for first in range(0, self.texts, most):
            yield Group(self.text + first, min(most, self.texts - first), self.start + first * self.length, self.length)


@dataclass(frozen=True)
class Block:
    """Some queries against all keys of some texts of one length, heads first."""

    queries: torch.Tensor
    """[heads, texts, queries, head size]."""
    keys: torch.Tensor
    """[heads, texts, length or more, head size], contiguous."""
    at: int
    """Place of the first query in its text."""
    length: int
    """Tokens of a text; rows of ``keys`` beyond are filling."""


class Bias(Protocol):
    """What is added to the scores before the softmax; relative positions, for DeBERTa."""

    def prepare(self, layer: int, longest: int) -> None:
        """Make ready for the blocks of one layer, of texts up to ``longest`` tokens."""

    def fill(self, block: Block, scores: torch.Tensor) -> None:
        """Overwrite ``scores`` [heads * texts, queries, length]. More than one text only up to TILE tokens each."""


class Attention:
    """Softmax attention over texts of equal length, without a mask; the scale is in the queries already.

    One copy brings queries, keys and values of a piece into heads-first order: 10 us for a text of 256 tokens, and
    the product of queries and keys then takes 272 us instead of 365. Plain batched products are 1.7 times as fast in
    bfloat16 as torch's fused attention for CPUs (8 x 256 tokens: 8.0 ms against 13.5 ms), which computes in float32.
    """

    def __init__(self, heads: int, bias: Bias | None, workspace: Workspace) -> None:
        self._heads, self._bias, self._workspace = heads, bias, workspace

    def __call__(
        self, layer: int, qkv: tuple[torch.Tensor, torch.Tensor, torch.Tensor], groups: list[Group], at: Pool | None
    ) -> torch.Tensor:
        """Context [rows of q, hidden]. ``at`` says that q has one row per text, and which token that is."""
        q, k, v = qkv
        context = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        if self._bias is not None:
            self._bias.prepare(layer, max(g.length for g in groups))
        for group in groups:
            n = group.length if at is None else 1
            width = _filled(group.length, q.device)
            fit = max(1, _SCORES // (self._heads * n * width)) if group.length <= TILE else 1
            for piece in group.pieces(fit):
                keys, values = (
                    self._heads_first(x, y[piece.start : piece.stop], piece.texts, width)
                    for x, y in (("k", k), ("v", v))
                )
                rows = slice(piece.start, piece.stop) if at is None else slice(piece.text, piece.text + piece.texts)
                queries = self._heads_first("q", q[rows], piece.texts, n)
                first = piece.length - 1 if at == "last" else 0
                self._attend(Block(queries, keys, first, piece.length), values, context[rows])
        return context

    def _heads_first(self, name: str, rows: torch.Tensor, texts: int, width: int) -> torch.Tensor:
        """[rows, hidden] as contiguous [heads, texts, width, head size]; rows that no token fills are zero."""
        seen = rows.view(texts, len(rows) // texts, self._heads, -1).permute(2, 0, 1, 3)
        heads, _, n, size = seen.shape
        made = self._workspace(name, heads, texts, width, size)
        if n == width:
            return made.copy_(seen)
        made[:, :, :n].copy_(seen)
        made[:, :, n:].zero_()
        return made

    def _attend(self, block: Block, values: torch.Tensor, out: torch.Tensor) -> None:
        heads, texts, n, size = block.queries.shape
        width = block.keys.shape[2]
        v = values.view(heads * texts, width, size)
        context = self._workspace("context", heads * texts, n, size)
        step = n if texts > 1 else max(TILE, _SCORES // (heads * width))
        for i in range(0, n, step):
            part = Block(block.queries[:, :, i : i + step], block.keys, block.at + i, block.length)
            torch.bmm(self._probabilities(part), v, out=context[:, i : i + step])
        out.view(texts, n, heads, size).copy_(context.view(heads, texts, n, size).permute(1, 2, 0, 3))

    def _probabilities(self, block: Block) -> torch.Tensor:
        """[heads * texts, queries, width of the keys]; 0 where no token is."""
        heads, texts, n, size = block.queries.shape
        width = block.keys.shape[2]
        q = block.queries.reshape(heads * texts, n, size)
        k = block.keys.view(heads * texts, width, size).transpose(1, 2)
        scores = self._workspace("scores", heads * texts, n, width)
        if self._bias is None:
            torch.bmm(q, k, out=scores)
        else:
            self._bias.fill(block, scores[:, :, : block.length])
            scores.baddbmm_(q, k)
        scores[:, :, block.length :].fill_(-torch.inf)
        if scores.device.type != "cpu":
            return scores.softmax(-1)
        # In place, a row at a time: 324 us instead of 553 for 12 x 256 x 256 in bfloat16.
        return torch.softmax(scores, -1, out=scores)


def _filled(length: int, device: torch.device) -> int:
    """The width of the rows of scores for texts of ``length`` tokens."""
    return length if device.type != "cpu" or length < _VECTOR else -(-length // _VECTOR) * _VECTOR


Product = Callable[..., torch.Tensor]
"""A product with weights: rows, and a residual to add or none; a Linear, or one in int8."""


@dataclass(frozen=True)
class Layer:
    """One transformer layer. ``query`` is a product of its own only where fewer rows have queries than keys."""

    inputs: Product
    """To queries, keys and values side by side; to keys and values alone where ``query`` is given."""
    query: Product | None
    projection: Product
    norm: Norm
    up: Product
    down: Product
    last_norm: Norm


@dataclass(frozen=True)
class Parts:
    """What a packed forward pass needs of a model."""

    words: torch.Tensor
    """Word embeddings [vocabulary, hidden], as the body holds them."""
    places: torch.Tensor
    """What is added to a word, in float32: position and type-0 embeddings [positions, hidden], or [1, hidden]."""
    limit: int | None
    """Longest text, where positions end."""
    norm: Norm
    layers: list[Layer]
    attention: Attention


@dataclass(frozen=True)
class Target:
    """What the weights are made ready for."""

    dtype: torch.dtype
    device: torch.device
    pool: Pool
    ranges: Ranges | None = None
    """What the inputs of linear layers reach, for products in int8."""

    def linear(self, weight: torch.Tensor, bias: torch.Tensor, like: torch.nn.Module | None = None) -> Product:
        """A product with these weights; in int8 if so asked for and ``like``, a module with its inputs, is known."""
        if self.ranges is not None and like is not None:
            return Int8Linear(weight, bias).from_columns(self.ranges[like])
        return Linear(weight, bias, self.dtype, self.device)

    def feed_forward(self, up: Any, down: Any, activation: str | Activation) -> tuple[Product, Product]:
        """The two products of a feed-forward."""
        if self.ranges is not None and isinstance(activation, str):
            return feed_forward(up, down, activation, self.ranges)
        return Linear(up.weight, up.bias, self.dtype, self.device, activation), self.linear(down.weight, down.bias)

    def norm(self, module: Any) -> Norm:
        """The layer norm of the module."""
        return Norm.of(module, self.dtype, self.device)


def layers_of(body: Any, names: tuple[str, str, str], scale: float, target: Target) -> list[Layer]:
    """The layers of ``body``, in the layout that BERT and DeBERTa share.

    ``names`` are what the projections to queries, keys and values are called; the queries are multiplied by ``scale``.
    """
    modules = list(body.encoder.layer)
    last = len(modules) - 1 if target.pool != "mean" else None
    made = []
    for number, module in enumerate(modules):
        q, k, v = (getattr(module.attention.self, name) for name in names)
        query, query_bias = q.weight.detach().float() * scale, q.bias.detach().float() * scale
        alone = number == last
        weights = [*([] if alone else [query]), k.weight.detach().float(), v.weight.detach().float()]
        biases = [*([] if alone else [query_bias]), k.bias.detach().float(), v.bias.detach().float()]
        act = body.config.hidden_act
        act = act if Linear.fuses(act) else module.intermediate.intermediate_act_fn
        up, down = target.feed_forward(module.intermediate.dense, module.output.dense, act)
        dense = module.attention.output.dense
        made.append(
            Layer(
                # Only the values see nothing but tokens: DeBERTa's other projections take positions too.
                inputs=target.linear(torch.cat(weights), torch.cat(biases), v),
                query=target.linear(query, query_bias) if alone else None,
                projection=target.linear(dense.weight, dense.bias, dense),
                norm=target.norm(module.attention.output.LayerNorm),
                up=up,
                down=down,
                last_norm=target.norm(module.output.LayerNorm),
            )
        )
    return made


def bert_parts(body: Any, workspace: Workspace, target: Target) -> Parts | None:
    """The parts of a ``BertModel``; None for a decoder."""
    config = body.config
    if config.is_decoder or getattr(config, "position_embedding_type", "absolute") != "absolute":
        return None
    embeddings = body.embeddings
    places = embeddings.position_embeddings.weight.detach().to(target.device, torch.float32)
    places = places + embeddings.token_type_embeddings.weight[0].detach().to(target.device, torch.float32)
    heads = config.num_attention_heads
    return Parts(
        words=embeddings.word_embeddings.weight.detach().to(target.device),
        places=places,
        limit=len(places),
        norm=Norm.of(embeddings.LayerNorm, torch.float32, target.device),
        layers=layers_of(body, ("query", "key", "value"), (config.hidden_size / heads) ** -0.5, target),
        attention=Attention(heads, None, workspace),
    )
