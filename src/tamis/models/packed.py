"""Forward passes without padding for BERT and DeBERTa-v2/v3: all tokens of a batch in one stream.

Linear layers see the stream, attention sees groups of texts of equal length, so no mask exists and no token is
computed that nobody wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from tamis.errors import UsageError
from tamis.models.int8 import has_int8, ranges_of, states_dtype
from tamis.models.linear import Linear
from tamis.models.network import Pool
from tamis.models.packed_bert import Group, Parts, Target, Workspace, bert_parts
from tamis.models.packed_deberta import deberta_parts
from tamis.models.tokens import Tokens

__all__ = ["pack"]

_STREAM = 2048
"""Tokens in one stream on a CPU, at least. Products of 768 columns are as fast as they get from 1,024 rows on, and
twice as many tokens were no faster (DeBERTa-v3-base, one thread: 172.6 GFLOP/s against 172.3)."""

_STATES = 3 * 2**20
"""Numbers in one layer's states of a stream, if they are more than _STREAM tokens have: 8,192 tokens at 384 columns,
where 8,192 tokens are 3 to 5 % faster than 2,048 (MiniLM, one thread: 181, 189, 185 GFLOP/s against 172, 187, 180)."""


def pack(
    body: torch.nn.Module, pool: Pool, dtype: torch.dtype, device: torch.device
) -> Callable[[Tokens], torch.Tensor] | None:
    """A forward pass from tokens to pooled states, with the weights of ``body``; None if its architecture is not known.

    Known are ``BertModel`` as an encoder (BERT, MiniLM, Snowflake arctic-embed) and ``DebertaV2Model`` (v2, v3,
    mDeBERTa) without its convolution. The function returns float32 of shape [texts, hidden] on ``device``, in the
    order of the texts, which may come in any; a text without tokens gets zeros. Products, scores and the residual
    stream are in ``dtype``; embeddings, statistics of layer norms, sums inside products and pooling are in float32.
    In the last layer, for the pools ``first`` and ``last``, only that token has a query, a projection and a
    feed-forward.

    What a text gets does not depend on its batch: on a CPU with oneDNN its bits are the same alone, with any
    neighbours, in any order and with one thread or two (see :class:`~tamis.models.linear.Linear`; a test holds it).
    Without oneDNN, and on other devices, float32 results may differ in their last bits with the number of rows.

    Measured on one Zen 4 core, documents of 283 tokens on average: BERT-base in bfloat16 does 202 GFLOP/s of real
    tokens, 95 % of that core's product rate; DeBERTa-v3-base 168 (78 %), the rest being its two relative terms;
    MiniLM-L6 185 (86 %), whose softmax alone is 12 %.

    ``torch.int8`` stands for products in bytes (see :mod:`tamis.models.int8`), the rest in bfloat16 or float32; None
    where the processor has none, or the activation is not one of oneDNN's. Queries of the last layer are not in bytes.

    The weights are copied; ``body`` may be dropped, but for its word embeddings, which are shared.

    Errors: the function raises UsageError for a text longer than the position embeddings of the model.
    """
    from transformers import BertModel, DebertaV2Model

    if not isinstance(body, (BertModel, DebertaV2Model)):
        return None
    ranges = None
    if dtype is torch.int8:
        if device.type != "cpu" or not has_int8() or not Linear.fuses(body.config.hidden_act):
            return None
        dtype, ranges = states_dtype(), ranges_of(body)
    workspace, target = Workspace(dtype, device), Target(dtype, device, pool, ranges)
    if isinstance(body, BertModel):
        parts = bert_parts(body, workspace, target)
    else:
        parts = deberta_parts(body, workspace, target)
    return None if parts is None else _Forward(parts, target)


class _Forward:
    def __init__(self, parts: Parts, target: Target) -> None:
        self._parts, self._pool, self._dtype, self._device = parts, target.pool, target.dtype, target.device

    @torch.no_grad()
    def __call__(self, tokens: Tokens) -> torch.Tensor:
        lengths = tokens.lengths
        longest = int(lengths.max(initial=0))
        if self._parts.limit is not None and longest > self._parts.limit:
            message = (
                f"A text has {longest} tokens and the model has positions for {self._parts.limit}. "
                f"Truncate to max_length={self._parts.limit} or less."
            )
            raise UsageError(message)
        # Longest first: equal lengths then lie side by side.
        order = np.argsort(-lengths, kind="stable")
        order = order[: int(np.count_nonzero(lengths))]
        pooled = torch.zeros(len(tokens), self._parts.words.shape[1], device=self._device)
        for rows in self._streams(order, lengths):
            pooled[torch.from_numpy(rows).to(self._device)] = self._states(tokens.take(rows))
        return pooled

    def _streams(self, order: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """The rows of each stream: on a CPU as many texts as a stream holds, or one, elsewhere all of them."""
        if self._device.type != "cpu":
            return [order] if len(order) else []
        streams, first, held = [], 0, 0
        most = max(_STREAM, min(4 * _STREAM, _STATES // self._parts.words.shape[1]))
        for i, length in enumerate(lengths[order]):
            if i > first and held + length > most:
                streams.append(order[first:i])
                first, held = i, 0
            held += int(length)
        return [*streams, order[first:]] if len(order) else []

    def _states(self, tokens: Tokens) -> torch.Tensor:
        groups = list(_groups(tokens))
        x = self._embed(tokens)
        rows: torch.Tensor | None = None
        for number, layer in enumerate(self._parts.layers):
            if layer.query is not None:
                ends = tokens.offsets[:-1] if self._pool == "first" else tokens.offsets[1:] - 1
                rows = torch.from_numpy(ends).to(self._device)
            x = self._layer(number, x, rows, groups)
        if self._pool == "mean":
            return torch.cat(
                [
                    x[g.start : g.stop].view(g.texts, g.length, -1).to(torch.float32).mean(1)  # one length at a time
                    for g in groups
                ]
            )
        return x.to(torch.float32)

    def _embed(self, tokens: Tokens) -> torch.Tensor:
        ids = torch.from_numpy(tokens.ids).to(self._device)
        x = torch.nn.functional.embedding(ids, self._parts.words).to(torch.float32)
        if len(self._parts.places) == 1:
            x += self._parts.places
        else:
            places = np.arange(len(tokens.ids)) - np.repeat(tokens.offsets[:-1], tokens.lengths)
            x += self._parts.places[torch.from_numpy(places).to(self._device)]
        return self._parts.norm(x).to(self._dtype)

    def _layer(self, number: int, x: torch.Tensor, rows: torch.Tensor | None, groups: list[Group]) -> torch.Tensor:
        layer = self._parts.layers[number]
        width = x.shape[1]
        projected = layer.inputs(x)
        if rows is None or layer.query is None:
            q, k, v = torch.split(projected, width, dim=1)
            context = self._parts.attention(number, (q, k, v), groups, None)
        else:
            k, v = torch.split(projected, width, dim=1)
            x = x[rows]
            context = self._parts.attention(number, (layer.query(x), k, v), groups, self._pool)
        x = layer.norm(layer.projection(context, x))
        return layer.last_norm(layer.down(layer.up(x), x))


def _groups(tokens: Tokens) -> Iterator[Group]:
    """Runs of texts of equal length; the texts come sorted by length."""
    lengths = tokens.lengths
    firsts = np.flatnonzero(np.diff(lengths, prepend=-1))
    for first, end in zip(firsts, [*firsts[1:], len(lengths)], strict=True):
        yield Group(int(first), int(end - first), int(tokens.offsets[first]), int(lengths[first]))
