"""Gemma 2's tensors under both names: those of Hugging Face checkpoints, and those of NeMo's and Megatron's.

Norm weights are the same numbers on both sides, as both multiply by (1 + weight). The head is the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tamis.errors import ModelError, nearest

if TYPE_CHECKING:
    import torch

__all__ = ["VOCABULARY_STEP", "Entry", "Sizes", "check_names", "entries", "is_no_weight", "join_qkv", "split_qkv"]

VOCABULARY_STEP = 128
"""Rows of the embedding are padded to a multiple of this."""
_NO_WEIGHTS = ("_extra_state", "rotary_pos_emb.inv_freq")
"""Ends of names that hold states of kernels and tables that follow from the configuration, and no weights."""

_MOST_LAYERS = 1000
"""The largest Gemma 2 has 46; a configuration may say anything."""

Shape = tuple[int, ...]
Join = Callable[[Sequence["torch.Tensor"]], "torch.Tensor"]
Split = Callable[["torch.Tensor"], "tuple[torch.Tensor, ...]"]


@dataclass(frozen=True)
class Sizes:
    """What the shapes of a Gemma 2 follow from."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    groups: int
    """Key and value heads: each serves ``heads / groups`` query heads."""
    head: int
    """Width of a head."""
    vocabulary: int
    """Tokens, without padding."""

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1 or self.heads % self.groups or self.layers > _MOST_LAYERS:
            message = f"these sizes make no Gemma 2: {vars(self)}. The heads are a multiple of the key and value heads."
            raise ModelError(message)

    @property
    def padded(self) -> int:
        """Rows of the embedding in a ``.nemo``."""
        return -(-self.vocabulary // VOCABULARY_STEP) * VOCABULARY_STEP


@dataclass(frozen=True)
class Entry:
    """One tensor of NeMo's, and the Hugging Face tensors that it is made of."""

    nemo: str
    """Without the prefix ``model.``; the number of a layer stands where Megatron's flat names have it."""
    shape: Shape
    parts: Mapping[str, Shape]
    """Names and shapes on the other side, in the order in which ``join`` takes them and ``split`` gives them."""
    join: Join
    split: Split
    layer: int | None = None

    @property
    def stacked(self) -> str:
        """The name under which all layers lie, in a distributed checkpoint."""
        return self.nemo if self.layer is None else self.nemo.replace(f"layers.{self.layer}.", "layers.", 1)


def join_qkv(sizes: Sizes, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Rows of Q, K and V interleaved: for each key and value head its Q heads, its K, its V. Any number of columns."""
    import torch

    widths = (sizes.heads // sizes.groups, 1, 1)
    cut = [p.reshape(sizes.groups, n * sizes.head, -1) for p, n in zip(parts, widths, strict=True)]
    return torch.cat(cut, dim=1).reshape((sizes.heads + 2 * sizes.groups) * sizes.head, -1)


def split_qkv(sizes: Sizes, whole: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The inverse of :func:`join_qkv`: Q, K and V."""
    rows = sizes.heads // sizes.groups * sizes.head
    grouped = whole.reshape(sizes.groups, rows + 2 * sizes.head, -1)
    cut = grouped.split([rows, sizes.head, sizes.head], dim=1)
    return tuple(part.reshape(-1, whole.shape[-1]).contiguous() for part in cut)


def entries(sizes: Sizes) -> list[Entry]:
    """Every tensor of the model, in the order of its layers: all of them, and no other."""
    hidden, wide = sizes.hidden, sizes.feed_forward
    q, kv = sizes.heads * sizes.head, sizes.groups * sizes.head

    def same(nemo: str, name: str, *shape: int, layer: int | None = None) -> Entry:
        return Entry(nemo, shape, {name: shape}, lambda parts: parts[0], lambda whole: (whole,), layer)

    def pad(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        rows = torch.zeros(sizes.padded - sizes.vocabulary, hidden, dtype=parts[0].dtype)
        return torch.cat([parts[0], rows]) if len(rows) else parts[0]

    found = [
        Entry(
            "embedding.word_embeddings.weight",
            (sizes.padded, hidden),
            {"model.embed_tokens.weight": (sizes.vocabulary, hidden)},
            pad,
            lambda whole: (whole[: sizes.vocabulary].contiguous(),),
        )
    ]
    for i in range(sizes.layers):
        to, of = f"decoder.layers.{i}.", f"model.layers.{i}."
        norms = {
            "self_attention.linear_qkv.layer_norm_weight": "input_layernorm",
            "self_attention.linear_proj.post_layernorm.weight": "post_attention_layernorm",
            "mlp.linear_fc1.layer_norm_weight": "pre_feedforward_layernorm",
            "mlp.linear_fc2.post_layernorm.weight": "post_feedforward_layernorm",
        }
        found += [same(to + n, f"{of}{h}.weight", hidden, layer=i) for n, h in norms.items()]
        found += [
            Entry(
                to + "self_attention.linear_qkv.weight",
                (q + 2 * kv, hidden),
                {f"{of}self_attn.{n}_proj.weight": (rows, hidden) for n, rows in (("q", q), ("k", kv), ("v", kv))},
                lambda parts: join_qkv(sizes, parts),
                lambda whole: split_qkv(sizes, whole),
                i,
            ),
            same(to + "self_attention.linear_proj.weight", of + "self_attn.o_proj.weight", hidden, q, layer=i),
            Entry(
                to + "mlp.linear_fc1.weight",
                (2 * wide, hidden),
                {f"{of}mlp.{n}_proj.weight": (wide, hidden) for n in ("gate", "up")},
                _stack,
                lambda whole: tuple(part.contiguous() for part in whole.split(wide)),
                i,
            ),
            same(to + "mlp.linear_fc2.weight", of + "mlp.down_proj.weight", hidden, wide, layer=i),
        ]
    return [*found, same("decoder.final_layernorm.weight", "model.norm.weight", hidden)]


def _stack(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    import torch

    return torch.cat(list(parts))


def is_no_weight(name: str) -> bool:
    """Whether a tensor of this name holds no weights, so that nothing is lost without it."""
    return name.partition("/")[0].endswith(_NO_WEIGHTS)


def check_names(expected: Mapping[str, Shape], found: Mapping[str, Shape], where: str) -> None:
    """Hold what there is to what there must be: every tensor, no other, and every shape.

    Raises :class:`ModelError` that names the first of what is wrong.
    """
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    if missing:
        close = nearest(missing[0], unknown)
        instead = f"; {close!r} is there, which has no place" if close else ""
        message = f"{where} lacks {_some(missing)} of a Gemma 2 of these sizes{instead}. Is the file complete?"
        raise ModelError(message)
    if unknown:
        message = f"{where} holds {_some(unknown)}, which a Gemma 2 does not have. Nothing was written."
        raise ModelError(message)
    for name, shape in expected.items():
        if tuple(found[name]) != shape:
            message = f"{where}: {name} has the shape {tuple(found[name])}, and not {shape} as its configuration says."
            raise ModelError(message)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return f"{len(names):,} tensor{'s' * (len(names) != 1)} ({', '.join(names[:3])}{more})"
