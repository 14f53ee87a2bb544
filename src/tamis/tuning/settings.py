"""What a tuning run is told: which model, which rows, how, and where to. Every value is typed and checked here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tamis.errors import UnknownNameError, UsageError

__all__ = ["Batches", "Data", "Lora", "Model", "Output", "Train", "TuneSettings"]

Dtype = Literal["bfloat16", "float32"]
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2", "flex_attention"]
Schedule = Literal["cosine", "linear", "constant"]
Parallel = Literal["ddp", "fsdp"]
Paths = str | Sequence[str]

_LORA_RATE, _FULL_RATE = 2e-4, 1e-5
_HOW: dict[str, bool] = {"tuning": True}
"""Marks what says how a run is done and not what comes of it, beyond rounding: a run goes on under another value."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """The model that is tuned."""

    name: str
    """Hub id, or directory, of a causal language model."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Dtype = "bfloat16"
    """Numbers that the layers compute in. Weights that are trained are kept in float32 meanwhile: at a rate of 1e-5 a
    step is below what bfloat16 can add to a weight."""
    attention: Attention = "auto"
    """Implementation of attention; ``auto`` is eager for models with a soft cap (Gemma 2), else sdpa."""

    def __post_init__(self) -> None:
        _one_of("model.dtype", self.dtype, Dtype)
        _one_of("model.attention", self.attention, Attention)


@dataclass(frozen=True, kw_only=True)
class Data:
    """The rows: ``prompt`` and ``completion``, or ``messages``; JSON Lines or Parquet."""

    train: Paths
    """File, folder, glob, URL, or a list of these."""
    validation: Paths | None = None
    """Rows that are not trained on; without them nothing can be said about overfitting."""
    window: int | None = None
    """Tokens of a row, prompt and completion together; by default 2,048, or what the model has positions for."""
    limit: int | None = None
    """Rows to train on at most, chosen by the hash of their text; all by default."""
    validation_limit: int | None = None
    """Rows to evaluate on at most, chosen alike."""

    def __post_init__(self) -> None:
        for name in ("window", "limit", "validation_limit"):
            _whole(f"data.{name}", getattr(self, name), 1, optional=True)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685): a product of two thin matrices is added to weights."""

    rank: int = 16
    alpha: int = 32
    """The product is scaled by alpha / rank."""
    dropout: float = 0.0
    targets: str | Sequence[str] = "all-linear"
    """Names of the layers, e.g. ["q_proj", "k_proj", "v_proj"]; ``all-linear`` is every one but the output."""

    def __post_init__(self) -> None:
        _whole("lora.rank", self.rank, 1)
        _whole("lora.alpha", self.alpha, 1)
        if not 0 <= self.dropout < 1:
            message = f"lora.dropout must be from 0 to below 1; got {self.dropout!r}."
            raise UsageError(message)


@dataclass(frozen=True, kw_only=True)
class Train:
    """How the model is trained: AdamW, decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

    max_steps: int | None = None
    """Updates of the weights; by default as many as ``epochs`` has."""
    epochs: float = 1.0
    """Passes over the rows, where ``max_steps`` is not given."""
    global_batch_size: int = 16
    """Rows of an update, on all processes together."""
    micro_batch_size: int = field(default=1, metadata=_HOW)
    """Rows that one process runs at once; the rest of the global batch is accumulated."""
    learning_rate: float | None = None
    """The highest; by default 2e-4 with LoRA and 1e-5 for a whole model."""
    schedule: Schedule = "cosine"
    """How the rate falls to 0 after the warm-up, or stays."""
    warmup_steps: int = 0
    """Updates in which the rate rises from 0."""
    weight_decay: float = 0.01
    betas: Sequence[float] = (0.9, 0.95)
    """Of Adam: how slowly the mean and the variance of the gradient forget."""
    max_grad_norm: float = 1.0
    """A gradient longer than this is shortened to it; 0 leaves it alone."""
    eval_every: int = 200
    """Updates between evaluations; the first is before any update, the last after all."""
    save_every: int | None = None
    """Updates between checkpoints; as evaluations by default."""
    log_every: int = field(default=10, metadata=_HOW)
    seed: int = 0
    """Of the order of the rows, the adapter's first weights, and dropout."""
    packing: bool = field(default=False, metadata=_HOW)
    """Whether the rows of a micro batch are one stream without padding, kept apart by their positions."""
    gradient_checkpointing: bool = field(default=False, metadata=_HOW)
    """Whether activations are computed again instead of kept: a third more time, much less memory."""
    device: str = field(default="auto", metadata=_HOW)
    """auto, cpu, cuda."""
    parallel: Parallel = field(default="ddp", metadata=_HOW)
    """With several processes: every one has the whole model (ddp), or a share of each layer (fsdp)."""

    def __post_init__(self) -> None:
        for name in ("global_batch_size", "micro_batch_size", "eval_every", "log_every"):
            _whole(f"train.{name}", getattr(self, name), 1)
        for name in ("max_steps", "save_every"):
            _whole(f"train.{name}", getattr(self, name), 1, optional=True)
        _whole("train.warmup_steps", self.warmup_steps, 0)
        _number("train.epochs", self.epochs, above=0.0)
        if self.learning_rate is not None:
            _number("train.learning_rate", self.learning_rate, above=0.0)
        _number("train.weight_decay", self.weight_decay)
        _number("train.max_grad_norm", self.max_grad_norm)
        if len(self.betas) != 2 or not all(type(b) in (int, float) and 0 <= b < 1 for b in self.betas):
            message = f"train.betas must be two numbers from 0 to below 1; got {self.betas!r}."
            raise UsageError(message)
        _one_of("train.schedule", self.schedule, Schedule)
        _one_of("train.parallel", self.parallel, Parallel)


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where the results go."""

    path: str
    """A directory, new or empty, or that of the same run, which then goes on."""
    keep: int = field(default=2, metadata=_HOW)
    """Checkpoints to go on from that are kept, the latest."""

    def __post_init__(self) -> None:
        _whole("output.keep", self.keep, 1)


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """Everything :func:`tamis.tuner.tune` is told."""

    model: Model
    data: Data
    train: Train = field(default_factory=Train)
    lora: Lora | None = None
    """None trains every weight of the model."""
    output: Output
    notes: Sequence[str] = ()
    """Sentences of the recipe that are said before the run."""

    @property
    def learning_rate(self) -> float:
        """The highest learning rate."""
        rate = self.train.learning_rate
        return rate if rate is not None else (_FULL_RATE if self.lora is None else _LORA_RATE)


@dataclass(frozen=True)
class Batches:
    """How the global batch is shared out: world x micro x accumulation = global."""

    world: int
    """Processes."""
    micro: int
    accumulation: int
    """Micro batches of one process in an update."""

    @classmethod
    def of(cls, train: Train, world: int) -> Batches:
        """Derive the accumulation.

        Raises:
            UsageError: The global batch is no multiple of what the processes run at once.
        """
        at_once = world * train.micro_batch_size
        if train.global_batch_size % at_once:
            message = (
                f"train.global_batch_size is {train.global_batch_size}, and {world} processes with micro_batch_size "
                f"{train.micro_batch_size} run {at_once} rows at once: it must be a multiple of that."
            )
            raise UsageError(message)
        found = cls(world, train.micro_batch_size, train.global_batch_size // at_once)
        if found.total != train.global_batch_size:
            raise AssertionError(found)
        return found

    @property
    def total(self) -> int:
        """Rows of an update."""
        return self.world * self.micro * self.accumulation

    def __str__(self) -> str:
        return f"{self.world} processes x {self.micro} rows x {self.accumulation} accumulated = {self.total} rows"


def _one_of(what: str, value: str, choice: Any) -> None:
    if value not in get_args(choice):
        raise UnknownNameError.of(str(value), get_args(choice), kind=what)


def _whole(what: str, value: Any, least: int, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if type(value) is not int or value < least:
        message = f"{what} must be a whole number of at least {least}; got {value!r}."
        raise UsageError(message)


def _number(what: str, value: Any, *, above: float | None = None) -> None:
    fits = type(value) in (int, float) and math.isfinite(value) and (value >= 0 if above is None else value > above)
    if not fits:
        message = f"{what} must be a number {'of at least 0' if above is None else f'above {above:g}'}; got {value!r}."
        raise UsageError(message)
