"""Disentangled attention of DeBERTa-v2/v3 over texts of equal length, and how to read such a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from tamis.models.linear import Norm
from tamis.models.packed_bert import TILE, Attention, Block, Parts, Target, Workspace, layers_of

__all__ = ["Positions", "buckets", "deberta_parts"]


def buckets(distances: torch.Tensor, count: int, most: int) -> torch.Tensor:
    """The bucket of each signed distance, as DeBERTa-v2 defines it: itself up to ``count`` / 2, then logarithmic.

    The order of the floating-point operations is that of the Hugging Face model, so that rounding up falls the same
    way at the edges of buckets.

    Args:
        distances: place of the query minus place of the key, int64.
        count: ``position_buckets``, for one sign.
        most: ``max_relative_positions``: the distance that falls into bucket ``count`` - 1.
    """
    middle = count // 2
    size = distances.abs()
    # Near distances do not use this branch; 1 only keeps the logarithm finite.
    logs = torch.log(torch.where(size < middle, middle - 1, size) / middle)
    far = torch.ceil(logs / torch.log(torch.tensor((most - 1) / middle)) * (middle - 1)) + middle
    return torch.where(size <= middle, distances, (far * distances.sign()).to(torch.int64))


class Positions:
    """The terms content-to-position and position-to-content of DeBERTa's scores.

    Both depend on the query's place minus the key's alone, so they are products with a table of one row per
    distance. The product with consecutive distances holds every score once along its diagonals: reading it with a row
    stride of one less straightens them, and nothing is gathered. Tiles of TILE rows need length + TILE - 1 distances
    instead of 2 * length - 1.

    Position projections do not depend on the input: [heads, 2 * buckets, head size] of each layer are computed once,
    and spread to one row per distance for the longest text of a batch (50 us for 512 tokens).
    """

    def __init__(self, layers: list[_Projections], span: int, rule: tuple[int, int], workspace: Workspace) -> None:
        """``span``: positions of one sign; ``rule``: count of buckets (or 0), and the largest relative position."""
        self._layers, self._span, self._rule, self._workspace = layers, span, rule, workspace
        self._index: dict[int, torch.Tensor] = {}
        self._reach = 0
        self._to_key: torch.Tensor | None = None
        self._to_query: torch.Tensor | None = None

    def prepare(self, layer: int, longest: int) -> None:
        """Spread the projections of ``layer`` to the distances of ``longest`` tokens."""
        self._reach = longest - 1
        index = self._distances(longest)
        made = self._layers[layer]
        # Keys go up where the distance goes down, so that rows of both products follow the scores.
        self._to_key = self._spread("keys by distance", made.keys, index.flip(0))
        self._to_query = self._spread("queries by distance", made.queries, index)

    def _spread(self, name: str, table: torch.Tensor | None, index: torch.Tensor) -> torch.Tensor | None:
        if table is None:
            return None
        out = self._workspace(name, table.shape[0], len(index), table.shape[2])
        return torch.index_select(table, 1, index, out=out)

    def _distances(self, longest: int) -> torch.Tensor:
        """Row of the position table for each distance from 1 - longest to longest - 1."""
        if longest not in self._index:
            distances = torch.arange(1 - longest, longest)
            count, most = self._rule
            if count > 0:
                distances = buckets(distances, count, most)
            self._index.clear()
            rows = (distances + self._span).clamp(0, 2 * self._span - 1)
            device = next(t for t in (self._layers[0].keys, self._layers[0].queries) if t is not None).device
            self._index[longest] = rows.to(device)
        return self._index[longest]

    def fill(self, block: Block, scores: torch.Tensor) -> None:
        """Overwrite ``scores`` [heads * texts, queries, length] with the two terms."""
        if self._to_query is None:
            scores.zero_()
        else:
            self._position_to_content(block, scores, self._to_query)
        if self._to_key is not None:
            self._content_to_position(block, scores, self._to_key)

    def _position_to_content(self, block: Block, scores: torch.Tensor, table: torch.Tensor) -> None:
        n, length = block.queries.shape[2], block.length
        for j in range(0, length, TILE):
            keys = block.keys[:, :, j : min(j + TILE, length)]
            m = keys.shape[2]
            start = self._reach + block.at - (j + m - 1)
            product = self._product(keys, table[:, start : start + n + m - 1])
            width = n + m - 1
            straight = product.as_strided((len(scores), n, m), (m * width, 1, width - 1), m - 1)
            # A copy first: adding columns onto rows takes 13 times as long in bfloat16 (117 us against 1,575).
            scores[:, :, j : j + m].copy_(straight)

    def _content_to_position(self, block: Block, scores: torch.Tensor, table: torch.Tensor) -> None:
        n, length = block.queries.shape[2], block.length
        for i in range(0, n, TILE):
            queries = block.queries[:, :, i : i + TILE]
            m = queries.shape[2]
            start = self._reach - (block.at + i + m - 1)
            product = self._product(queries, table[:, start : start + length + m - 1])
            width = length + m - 1
            straight = product.as_strided((len(scores), m, length), (m * width, width - 1, 1), m - 1)
            scores[:, i : i + m].add_(straight)

    def _product(self, states: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """[heads, texts, rows, size] by [heads, distances, size]: contiguous [heads * texts, rows, distances]."""
        heads, texts, rows, size = states.shape
        width = table.shape[1]
        # MKL sums a float32 product of ten rows or fewer in another order than a larger one: one product for each
        # text, so that its bits do not depend on how many others have its length.
        batch = heads * texts if rows <= 16 else heads
        # Rows next to each other, or torch copies the transposed matrix element by element: that copying was 5 % of a
        # profile. Without it the time in copies halved; the whole model's rate did not change beyond the noise.
        window = self._workspace("window", batch, width, size)
        window.view(heads, -1, width, size).copy_(table[:, None])
        out = self._workspace("by distance", batch, texts * rows * heads // batch, width)
        torch.bmm(states.reshape(batch, -1, size), window.transpose(1, 2), out=out)
        return out.view(heads * texts, rows, width)


@dataclass(frozen=True)
class _Projections:
    """Projected position embeddings of one layer, [heads, 2 * span, head size]; None where a term is absent."""

    keys: torch.Tensor | None
    queries: torch.Tensor | None
    """Scaled like the queries of the tokens."""


def deberta_parts(body: Any, workspace: Workspace, target: Target) -> Parts | None:
    """The parts of a ``DebertaV2Model``; None where it has a convolution or embeddings of another width."""
    config, embeddings, encoder = body.config, body.embeddings, body.encoder
    if encoder.conv is not None or embeddings.embed_proj is not None:
        return None
    heads, hidden = config.num_attention_heads, config.hidden_size
    first = encoder.layer[0].attention.self
    terms = set(first.pos_att_type)
    if first.all_head_size != hidden:
        return None
    scale = 1 / math.sqrt(hidden / heads * (1 + len(terms & {"c2p", "p2c"})))
    places = torch.zeros(1, hidden, device=target.device)
    if embeddings.position_embeddings is not None:
        places = places + embeddings.position_embeddings.weight.detach().to(target.device, torch.float32)
    if embeddings.token_type_embeddings is not None:
        places = places + embeddings.token_type_embeddings.weight[0].detach().to(target.device, torch.float32)
    positions = _positions(encoder, terms, scale, (workspace, target)) if first.relative_attention else None
    return Parts(
        words=embeddings.word_embeddings.weight.detach().to(target.device),
        places=places,
        limit=None if embeddings.position_embeddings is None else len(places),
        norm=Norm.of(embeddings.LayerNorm, torch.float32, target.device),
        layers=layers_of(body, ("query_proj", "key_proj", "value_proj"), scale, target),
        attention=Attention(heads, positions, workspace),
    )


@torch.no_grad()
def _positions(encoder: Any, terms: set[str], scale: float, rest: tuple[Workspace, Target]) -> Positions | None:
    workspace, target = rest
    first = encoder.layer[0].attention.self
    span = first.pos_ebd_size
    table = encoder.get_rel_embedding()[: 2 * span]
    if not terms & {"c2p", "p2c"}:
        return None

    def heads_first(projection: Any, factor: float) -> torch.Tensor:
        rows: torch.Tensor = projection(table).to(torch.float32) * factor
        split = rows.view(len(rows), first.num_attention_heads, -1).transpose(0, 1)
        return split.to(target.device, target.dtype).contiguous()

    made = []
    for module in encoder.layer:
        own = module.attention.self
        to_key = own.key_proj if own.share_att_key else getattr(own, "pos_key_proj", None)
        to_query = own.query_proj if own.share_att_key else getattr(own, "pos_query_proj", None)
        made.append(
            _Projections(
                heads_first(to_key, 1.0) if "c2p" in terms else None,
                heads_first(to_query, scale) if "p2c" in terms else None,
            )
        )
    return Positions(made, span, (max(first.position_buckets, 0), first.max_relative_positions), workspace)
