"""Answers to many prompts by any causal language model of ``transformers``: sorted by length, padded on the left.

The model's own forward pass is used, so that every architecture computes what it computes elsewhere (soft-capping,
sliding windows, biases). Around it: the ids that all prompts begin with are run once, and their keys and values shared;
rows that are done leave the batch once they are half of it; a batch that is out of memory is halved.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tamis.errors import ModelError, StageError
from tamis.hashing import uniform
from tamis.meter import count
from tamis.models.batching import Budget, OneRowTooLarge, Usage, run_batches
from tamis.models.decoder import Flops, cache_argument, end_tokens
from tamis.models.device import OUT_OF_MEMORY, empty_cache, free_memory
from tamis.models.generate import Continuation, Request, Rules
from tamis.models.tag_trie import Spelling, TagTrie, token_bytes

__all__ = ["BatchDecoder", "budget_for", "sample"]

_LEAST_SHARED = 16
"""Tokens of a common beginning from which it pays to run it apart."""
_CPU_TOKENS = 16_384
_MOST_TOKENS = 131_072
"""Tokens in a batch, prompts and answers: on a processor, and at most on a device with memory for them."""
_SHARE = 0.5
"""Of the free memory, what keys and values may take; activations and logits take of the rest."""
_KINDS = {"full_attention", "sliding_attention"}
"""Kinds of layers whose state is the keys and values of the tokens, so that padding can be masked."""


@dataclass
class _Row:
    """One answer in the making."""

    key: str
    ids: list[int] = field(default_factory=list)
    text: str | None = None
    """Up to a stop string, where one came."""
    spelling: Spelling | None = None


KeysValues = tuple[tuple[torch.Tensor, torch.Tensor], ...]


class BatchDecoder:
    """A causal language model on its device, and how it is to answer."""

    def __init__(self, model: Any, tokenizer: Any, rules: Rules, budget: Budget, *, who: str) -> None:
        """Take over a model that is on its device; runs it once on a text of our own.

        Raises:
            ModelError: The model cannot be run so, or cannot be held to the tags.
        """
        self._model, self._tokenizer, self._rules, self._budget, self._who = model, tokenizer, rules, budget, who
        self._ends = end_tokens(model, tokenizer)
        cache_name = cache_argument(model)
        config = model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ()) - _KINDS
        if cache_name is None or kinds:
            message = (
                f"{who}: {type(model).__name__} keeps more than keys and values between tokens "
                f"({', '.join(sorted(kinds)) or 'its forward pass takes no such cache'}); models of that kind cannot "
                "generate here."
            )
            raise ModelError(message)
        self._cache_name = cache_name
        sliding = getattr(config, "layer_types", None) is None or "sliding_attention" in config.layer_types
        self._sliding = getattr(config, "sliding_window", None) if sliding else None
        self._shares = not getattr(config, "num_kv_shared_layers", 0)
        """Whether every layer has keys and values of its own, so that those of a beginning can be handed on."""
        self._takes = set(inspect.signature(model.forward).parameters)
        self._flops = Flops.of(model)
        self._trie = (
            None if rules.tags is None else TagTrie(rules.tags, token_bytes(tokenizer, who=who), self._ends, who=who)
        )
        self._try()

    def _try(self) -> None:
        ids = self._tokenizer("A short text, to see whether the model runs at all.", add_special_tokens=False)[
            "input_ids"
        ]
        try:
            with torch.inference_mode():
                self._batch([Request(ids, "")], ())
        except OUT_OF_MEMORY as error:
            message = f"{self._who}: the device has no memory left for a single short text."
            raise ModelError(message) from error
        except (StageError, FloatingPointError, RuntimeError, TypeError, ValueError, IndexError) as error:
            message = f"{self._who}: the model fails on a plain text, before any of the data: {error}"
            raise ModelError(message) from error

    def __call__(self, requests: Sequence[Request]) -> list[Continuation]:
        """The answers, in order.

        Raises:
            StageError: One prompt alone needs more memory than the device has.
            FloatingPointError: The model's output for a prompt is not a number.
        """
        began = time.perf_counter()
        usage = Usage()
        with torch.inference_mode():
            known = self._common(requests)
            shared = self._encoded(requests[0].ids[:known]) if known else ()
            answers = self._answered(requests, known, shared, usage)
        count("texts", len(answers))
        count("tokens", sum(len(each.ids) for each in requests))
        count("padded_tokens", float(usage.padded))
        count("generated_tokens", float(sum(answer.tokens for answer in answers)))
        work = zip(requests, answers, strict=True)
        count("flops", sum(self._flops.answer(len(r.ids) - known, known, a.tokens) for r, a in work))
        count("seconds", time.perf_counter() - began)
        return answers

    def _common(self, requests: Sequence[Request]) -> int:
        """How many ids all prompts begin with alike, if it pays to run them apart; each keeps one of its own."""
        if len(requests) < 2 or not self._shares:
            return 0
        first, last = min(each.ids for each in requests), max(each.ids for each in requests)
        longest = max(len(each.ids) for each in requests) + self._rules.max_new_tokens
        # Between a beginning and a prompt there is padding, over which a window would slide.
        if self._sliding is not None and longest > self._sliding:
            return 0
        n = min(len(each.ids) for each in requests) - 1
        known = next((i for i in range(n) if first[i] != last[i]), n)
        return known if known >= _LEAST_SHARED else 0

    def _encoded(self, ids: Sequence[int]) -> KeysValues:
        cache = self._new_cache()
        self._forward(
            torch.tensor([ids], device=self._model.device),
            torch.ones(1, len(ids), dtype=torch.long, device=self._model.device),
            torch.arange(len(ids), device=self._model.device)[None],
            cache,
        )
        return tuple((layer.keys, layer.values) for layer in cache.layers)

    def _answered(
        self, requests: Sequence[Request], known: int, shared: KeysValues, usage: Usage
    ) -> list[Continuation]:
        # What a row takes in the cache in the end, which is what memory is spent on.
        lengths = np.array([len(each.ids) + self._rules.max_new_tokens for each in requests], dtype=np.int64)
        answers: dict[int, Continuation] = {}

        def run(rows: npt.NDArray[np.int64]) -> list[Continuation]:
            own = [Request(requests[row].ids[known:], requests[row].key) for row in rows]
            return self._batch(own, shared)

        try:
            for rows, made in run_batches(
                lengths, run, self._budget, out_of_memory=OUT_OF_MEMORY, release=empty_cache, usage=usage
            ):
                answers |= zip(rows.tolist(), made, strict=True)
        except OneRowTooLarge as error:
            message = (
                f"{self._who}: the device has no memory for a single prompt of {error.length} tokens with its answer. "
                "Lower max_length, free the device's memory, or use a smaller dtype."
            )
            raise StageError(message) from error
        return [answers[row] for row in range(len(requests))]

    # -- one batch -------------------------------------------------------------------------------------------

    def _new_cache(self) -> Any:
        from transformers import DynamicCache

        # Without the configuration every layer keeps all tokens; windows are held by the masks.
        return DynamicCache()

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
        """Logits of the last column, float32 [rows, vocabulary]; the cache gets the keys and values of all.

        ``ids`` and ``positions`` are [rows, new tokens], ``mask`` is [rows, tokens in the cache and new ones].
        """
        options: dict[str, Any] = {"position_ids": positions, "logits_to_keep": 1}
        outputs = self._model(
            input_ids=ids,
            attention_mask=mask,
            use_cache=True,
            **{self._cache_name: cache},
            **{name: value for name, value in options.items() if name in self._takes},
        )
        logits: torch.Tensor = outputs.logits[:, -1].float()
        return logits

    def _batch(self, requests: Sequence[Request], shared: KeysValues) -> list[Continuation]:
        """Answers to prompts whose ids come after the shared ones."""
        on = self._model.device
        size, longest = len(requests), max(len(each.ids) for each in requests)
        known = shared[0][0].shape[2] if shared else 0
        ids = torch.zeros(size, longest, dtype=torch.long)
        mask = torch.ones(size, known + longest, dtype=torch.long)
        for row, each in enumerate(requests):
            ids[row, longest - len(each.ids) :] = torch.tensor(each.ids)
            mask[row, known : known + longest - len(each.ids)] = 0
        mask = mask.to(on)
        cache = self._new_cache()
        for layer, (keys, values) in enumerate(shared):
            cache.update(keys.expand(size, -1, -1, -1), values.expand(size, -1, -1, -1), layer)
        positions = (mask.cumsum(1) - 1)[:, known:].clamp(min=0)
        logits = self._forward(ids.to(on), mask, positions, cache)
        rows = [_Row(each.key, spelling=None if self._trie is None else self._trie.begin()) for each in requests]
        held = list(range(size))
        """Whose rows the cache holds."""
        at = positions[:, -1:]
        while True:
            going = self._take(rows, held, logits)
            if not going:
                break
            if 2 * len(going) <= len(held):
                keep = torch.tensor([held.index(row) for row in going], device=on)
                cache.batch_select_indices(keep)
                held, mask, at = going, mask[keep], at[keep]
            at = at + 1
            mask = torch.cat([mask, mask.new_ones(len(held), 1)], dim=1)
            ids = torch.tensor([[rows[row].ids[-1]] for row in held], device=on)
            logits = self._forward(ids, mask, at, cache)
        return [self._finished(row) for row in rows]

    def _take(self, rows: list[_Row], held: list[int], logits: torch.Tensor) -> list[int]:
        """Give each row that goes on its next token; returns those that go on further."""
        places = [place for place, row in enumerate(held) if not self._done(rows[row])]
        live = [rows[held[place]] for place in places]
        if len(places) < len(held):
            logits = logits[torch.tensor(places, device=logits.device)]
        if not torch.isfinite(logits.amax(dim=-1)).all():
            message = f"the model's output for this text is not a finite number ({self._who})"
            raise FloatingPointError(message)
        for row, token in zip(live, self._chosen(live, logits), strict=True):
            row.ids.append(token)
            if token in self._ends:
                continue
            if row.spelling is not None and self._trie is not None:
                self._trie.advance(row.spelling, token)
            elif self._rules.stop:
                text = self._decoded(row.ids)
                found = [place for place in map(text.find, self._rules.stop) if place >= 0]
                row.text = text[: min(found)] if found else None
        return [held[place] for place in places if not self._done(rows[held[place]])]

    def _done(self, row: _Row) -> bool:
        return bool(row.ids) and (
            row.ids[-1] in self._ends or row.text is not None or len(row.ids) >= self._rules.max_new_tokens
        )

    def _chosen(self, rows: list[_Row], logits: torch.Tensor) -> list[int]:
        """One token for each row of the logits [rows, vocabulary]."""
        allowed = None
        if self._trie is not None:
            left = self._rules.max_new_tokens
            found = [self._trie.allowed(row.spelling, left - len(row.ids)) for row in rows if row.spelling is not None]
            width = max(map(len, found))
            allowed = torch.tensor(np.stack([np.pad(each, (0, width - len(each)), "edge") for each in found]))
            logits = logits.gather(1, allowed.to(logits.device))
            # Repeated ones are padding, so that only the first counts.
            for place, each in enumerate(found):
                logits[place, len(each) :] = float("-inf")
        if self._rules.temperature:
            keys = [f"{row.key}\n{len(row.ids)}" for row in rows]
            picked = sample(logits, self._rules.temperature, self._rules.top_p, uniform(keys, self._rules.seed))
        else:
            picked = logits.argmax(dim=-1)
        if allowed is not None:
            picked = allowed.gather(1, picked.cpu()[:, None])[:, 0]
        tokens: list[int] = picked.tolist()
        return tokens

    def _decoded(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _finished(self, row: _Row) -> Continuation:
        text = self._decoded(row.ids) if row.text is None else row.text
        tags = None if row.spelling is None or self._trie is None else self._trie.tags_of(row.spelling)
        return Continuation(text, len(row.ids), tags)


def sample(logits: torch.Tensor, temperature: float, top_p: float, draws: npt.NDArray[np.float64]) -> torch.Tensor:
    """One column for each row of logits [rows, columns], int64: where its draw in [0, 1) falls in the nucleus.

    The nucleus is the smallest set of the likeliest columns whose probability reaches ``top_p`` (Holtzman et al.,
    arXiv:1904.09751), at softmax(logits / temperature).
    """
    p, order = torch.softmax(logits / temperature, dim=-1).sort(dim=-1, descending=True, stable=True)
    upto = p.cumsum(dim=-1)
    inside = (upto - p < top_p) & (p > 0)
    inside[:, 0] = True
    total = (p * inside).sum(dim=-1)
    target = torch.as_tensor(draws, dtype=p.dtype).to(p.device) * total
    place = (upto <= target[:, None]).sum(dim=-1)
    place = torch.minimum(place, inside.sum(dim=-1) - 1)
    return order.gather(1, place[:, None])[:, 0]


def budget_for(model: Any, tokens: int | str, rows: int | None) -> Budget:
    """How much a batch may be: tokens of prompts and answers, for which the device has room."""
    if isinstance(tokens, int):
        return Budget(tokens=tokens, rows=rows)
    free = free_memory(model.device)
    if free is None:
        return Budget(tokens=_CPU_TOKENS, rows=rows)
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    each = 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize
    return Budget(tokens=max(1, min(_MOST_TOKENS, int(_SHARE * free / each))), rows=rows)
