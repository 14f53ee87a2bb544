"""Greedy decoding with ``transformers`` on any device: the fixed prefix once, no padding, no token too many."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tamis.errors import ModelError, StageError
from tamis.meter import count
from tamis.models.batching import Budget, OneRowTooLarge, Usage, run_batches
from tamis.models.device import OUT_OF_MEMORY, empty_cache
from tamis.models.generate import Answer, Decoding, Ids, PromptTokenizer
from tamis.models.prefix_attention import NAME, KeysValues, Plan, register

__all__ = ["Flops", "PrefixDecoder", "cache_argument", "end_tokens"]


@dataclass
class _Row:
    """One document while it is decoded."""

    position: int
    """Where its next token stands in its prompt."""
    ids: list[int] = field(default_factory=list)
    text: str = ""


class PrefixDecoder:
    """A causal language model that answers prompts with a common beginning.

    The keys and values of the common beginning are made once, when it is loaded. Documents run packed, longest first,
    within a budget of tokens; what is decided after its first token costs no decoding step at all.
    """

    def __init__(
        self, model: Any, tokenizer: Any, prompts: PromptTokenizer, decoding: Decoding, budget: Budget, *, who: str
    ) -> None:
        register()
        model.set_attn_implementation(NAME)
        self._model = model
        self._device = model.device
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._decoding = decoding
        self._budget = budget
        self._who = who
        self._cache_name = cache_argument(model) or "past_key_values"
        self._ends = end_tokens(model, tokenizer)
        self._flops = Flops.of(model)
        self.prefix: tuple[KeysValues, ...] = ()
        """Keys and values of the common beginning, per layer."""
        self._load_prefix()

    def _load_prefix(self) -> None:
        try:
            with torch.inference_mode():
                self.prefix = self._encoded(self._prompts.shared) if len(self._prompts.shared) else ()
                self._answers(["A short text, to see whether the model runs at all."])
        except OUT_OF_MEMORY as error:
            message = f"{self._who}: the device has no memory left for the prompt and a single short text."
            raise ModelError(message) from error
        except (StageError, FloatingPointError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            message = f"{self._who}: the model fails on a plain text, before any of the data: {error}"
            raise ModelError(message) from error

    def _encoded(self, ids: Ids) -> tuple[KeysValues, ...]:
        cache = self._new_cache()
        self._forward(ids, np.arange(len(ids)), cache, Plan(spans=((0, len(ids)),)), np.array([len(ids) - 1]))
        return tuple((layer.keys, layer.values) for layer in cache.layers)

    def _new_cache(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self._model.config)

    def _forward(self, ids: Any, positions: Any, cache: Any, plan: Plan, keep: Any) -> torch.Tensor:
        """Logits [kept, vocabulary] of the tokens ``keep``; the cache gets the keys and values of all."""
        on = self._device
        outputs = self._model(
            input_ids=torch.as_tensor(ids, dtype=torch.long, device=on).unsqueeze(0),
            position_ids=torch.as_tensor(positions, dtype=torch.long, device=on).unsqueeze(0),
            use_cache=True,
            logits_to_keep=torch.as_tensor(keep, dtype=torch.long, device=on),
            plan=plan,
            **{self._cache_name: cache},
        )
        logits: torch.Tensor = outputs.logits[0]
        return logits

    def __call__(self, documents: Sequence[str]) -> list[Answer]:
        """The answers, in order.

        Raises:
            StageError: One document alone needs more memory than the device has.
            FloatingPointError: The model's output for a document is not a number.
        """
        began = time.perf_counter()
        answers, usage, flops = self._answers(documents)
        count("texts", len(answers))
        count("tokens", usage.tokens)
        count("padded_tokens", float(usage.padded))
        count("generated_tokens", float(sum(answer.tokens for answer in answers)))
        count("flops", flops)
        count("seconds", time.perf_counter() - began)
        return answers

    def _answers(self, documents: Sequence[str]) -> tuple[list[Answer], Usage, float]:
        prompts = self._prompts(documents)
        shared = self._prompts.shared
        # All prompts begin with the shared ids, but for those whose document merges back into them: these go apart.
        alike = np.array([np.array_equal(ids[: len(shared)], shared) for ids in prompts], dtype=bool)
        answers: list[Answer | None] = [None] * len(prompts)
        usage, flops = Usage(), 0.0
        with torch.inference_mode():
            for rows, known in ((np.flatnonzero(alike), len(shared)), (np.flatnonzero(~alike), 0)):
                own = [prompts[row][known:] for row in rows]
                for row, answer in zip(rows, self._answered(own, known, usage), strict=True):
                    answers[row] = answer
                    flops += self._flops.answer(len(prompts[row]) - known, known, answer.tokens)
        return [answer for answer in answers if answer is not None], usage, flops

    def _answered(self, own: list[Ids], known: int, usage: Usage) -> Iterable[Answer]:
        def run(rows: Any) -> list[Answer]:
            return self._batch([own[row] for row in rows], known)

        lengths = np.array([len(ids) for ids in own], dtype=np.int64)
        answers: dict[int, Answer] = {}
        try:
            for rows, made in run_batches(
                lengths, run, self._budget, out_of_memory=OUT_OF_MEMORY, release=empty_cache, usage=usage
            ):
                answers |= zip(rows.tolist(), made, strict=True)
        except OneRowTooLarge as error:
            message = (
                f"{self._who}: the device has no memory for a single document of {error.length} tokens beside the "
                "prompt. Lower max_chars, free the device's memory, or use a smaller dtype."
            )
            raise StageError(message) from error
        return [answers[row] for row in range(len(own))]

    # -- one batch -------------------------------------------------------------------------------------------

    def _batch(self, own: list[Ids], known: int) -> list[Answer]:
        """Answers for prompts of which these ids come after the ``known`` first ones."""
        ends = np.cumsum([len(ids) for ids in own])
        starts = ends - [len(ids) for ids in own]
        prefix = self.prefix if known else ()
        cache = self._new_cache()
        plan = Plan(spans=tuple(zip(starts.tolist(), ends.tolist(), strict=True)), prefix=prefix)
        positions = np.concatenate([known + np.arange(len(ids)) for ids in own])
        logits = self._forward(np.concatenate(own), positions, cache, plan, ends - 1)
        rows = [_Row(known + len(ids)) for ids in own]
        live = self._take(rows, list(range(len(rows))), logits)
        owner = np.repeat(np.arange(len(own)), ends - starts)
        """Whose each key of the cache is."""
        while live:
            owner = _pruned(cache, owner, live)
            owner = np.concatenate([owner, live])
            mask = torch.as_tensor(owner[None, :] == np.array(live)[:, None], device=self._device)
            ids = [rows[row].ids[-1] for row in live]
            positions = np.array([rows[row].position for row in live])
            for row in live:
                rows[row].position += 1
            logits = self._forward(ids, positions, cache, Plan(mask=mask, prefix=prefix), np.arange(len(live)))
            live = self._take(rows, live, logits)
        return [Answer(row.text, len(row.ids)) for row in rows]

    def _take(self, rows: list[_Row], live: list[int], logits: torch.Tensor) -> list[int]:
        """Give each live row its likeliest token; returns those that go on."""
        best, chosen = logits.max(dim=-1)
        if not torch.isfinite(best).all():
            message = f"the model's output for this text is not a finite number ({self._who})"
            raise FloatingPointError(message)
        further = []
        for index, token in zip(live, chosen.tolist(), strict=True):
            row = rows[index]
            row.ids.append(token)
            if token in self._ends:
                continue
            row.text = self._tokenizer.decode(row.ids, skip_special_tokens=True)
            if len(row.ids) < self._decoding.max_new_tokens and not self._decoding.decided(row.text):
                further.append(index)
        return further


def cache_argument(model: Any) -> str | None:
    """What the model's forward calls its cache of keys and values; None where it has none.

    Renamed in transformers 5.24; the old name warns.
    """
    names = inspect.signature(model.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in names), None)


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a text, by the model's generation settings or else its tokenizer; may be none."""
    ends = getattr(model.generation_config, "eos_token_id", None) or tokenizer.eos_token_id
    return frozenset([ends] if isinstance(ends, int) else ends or ())


def _pruned(cache: Any, owner: Any, live: list[int]) -> Any:
    """Drop the keys of rows that are done, once they are the larger part."""
    keep = np.isin(owner, live)
    if 2 * int(keep.sum()) > len(owner):
        return owner
    for layer in cache.layers:
        index = torch.as_tensor(np.flatnonzero(keep), device=layer.keys.device)
        layer.keys = layer.keys.index_select(2, index)
        layer.values = layer.values.index_select(2, index)
    return owner[keep]


@dataclass(frozen=True)
class Flops:
    """Floating point operations of a causal language model."""

    per_token: float
    per_answer: float
    per_pair: float

    @classmethod
    def of(cls, model: Any) -> Flops:
        """Those of a model of ``transformers``: its linear layers, and attention."""
        linear = {n: m.weight.numel() for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
        head = linear.pop("lm_head", 0)
        config = model.config.get_text_config()
        return cls(2.0 * sum(linear.values()), 2.0 * head, 4.0 * config.num_hidden_layers * config.hidden_size)

    def answer(self, own: int, known: int, made: int) -> float:
        """Operations for a prompt of ``known`` + ``own`` tokens of which the known ones are cached."""
        run = own + max(made - 1, 0)
        pairs = run * known + run * run / 2
        return run * self.per_token + made * self.per_answer + self.per_pair * pairs
