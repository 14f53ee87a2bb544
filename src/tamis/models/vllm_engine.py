"""The same answers by vLLM, where it is installed: found at run time, never a dependency.

vLLM pins other versions of ``transformers`` than Tamis allows (0.33 needs one below 5.20), so it needs an environment
of its own with Tamis in it. This engine is written against vLLM's documented interface (``LLM.generate``,
``SamplingParams``, ``StructuredOutputsParams``, ``LoRARequest``) and tested with a stand-in for it; **it has not been
run on a device**.

It differs from the other engine in one thing: an answer is held to labels or tags by a pattern, so that a model that
wants to say something else is made to choose.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tamis.errors import MissingExtraError, ModelError
from tamis.hashing import hash64
from tamis.meter import count
from tamis.models.generate import Answer, Continuation, Decoding, PromptTokenizer, Request, Rules
from tamis.models.lora import ADAPTER_CONFIG

__all__ = ["VllmContinuer", "VllmGenerator", "pattern_of"]


class VllmGenerator:
    """vLLM with prefix caching: the common beginning of the prompts is computed for the first one only."""

    def __init__(
        self,
        model: Path,
        prompts: PromptTokenizer,
        decoding: Decoding,
        *,
        who: str,
        dtype: str = "auto",
        window: int,
        adapter: Path | None = None,
    ) -> None:
        self._prompts = prompts
        self._engine = _Engine(model, who=who, dtype=dtype, window=window, adapter=adapter)
        self._sampling = self._engine.sampling(Rules(decoding.max_new_tokens), decoding.pattern, None)

    def __call__(self, documents: Sequence[str]) -> list[Answer]:
        """The answers, in order."""
        if not documents:
            return []
        began = time.perf_counter()
        prompts = self._prompts(documents)
        answers = [Answer(*each) for each in self._engine([ids.tolist() for ids in prompts], self._sampling)]
        _count(answers, len(self._prompts.shared), [len(ids) for ids in prompts], began)
        return answers


class VllmContinuer:
    """The same for prompts of their own.

    A closed set of tags is held by a pattern, which does not keep a tag from being written twice: it is read once.
    """

    def __init__(
        self, model: Path, rules: Rules, *, who: str, dtype: str = "auto", window: int, adapter: Path | None = None
    ) -> None:
        self._rules = rules
        self._engine = _Engine(model, who=who, dtype=dtype, window=window, adapter=adapter)

    def __call__(self, requests: Sequence[Request]) -> list[Continuation]:
        """The answers, in order."""
        if not requests:
            return []
        began = time.perf_counter()
        rules = self._rules
        pattern = None if rules.tags is None else pattern_of(rules.tags)
        seeds = (hash64([each.key for each in requests], rules.seed) >> np.uint64(33)).tolist()
        sampling = [self._engine.sampling(rules, pattern, seed) for seed in seeds]
        made = self._engine([each.ids for each in requests], sampling)
        answers = [Continuation(text, tokens, self._tags(text)) for text, tokens in made]
        _count(answers, 0, [len(each.ids) for each in requests], began)
        return answers

    def _tags(self, text: str) -> list[str] | None:
        if self._rules.tags is None:
            return None
        return [tag for tag in dict.fromkeys(text.strip().split(", ")) if tag in self._rules.tags]


def pattern_of(tags: Sequence[str]) -> str:
    """A regular expression of the lists ``a, b, c`` of these tags."""
    # Backends know few escapes: those of the characters that mean something, and no others.
    one = "|".join(re.sub(r"[\\.^$*+?{}\[\]|()]", r"\\\g<0>", tag) for tag in tags)
    return f" ?({one})(, ({one}))*"


def _count(answers: Sequence[Answer | Continuation], known: int, lengths: Sequence[int], began: float) -> None:
    count("texts", len(answers))
    count("tokens", sum(lengths) - known * len(lengths))
    count("generated_tokens", float(sum(answer.tokens for answer in answers)))
    count("seconds", time.perf_counter() - began)


class _Engine:
    """vLLM with a model in it."""

    def __init__(self, model: Path, *, who: str, dtype: str, window: int, adapter: Path | None) -> None:
        try:
            import vllm
            from vllm.lora.request import LoRARequest
            from vllm.sampling_params import StructuredOutputsParams
        except ImportError as error:
            message = f"{who}: engine='vllm' needs the package vllm in this environment ({error}). Leave engine out."
            raise MissingExtraError(message) from error
        self._parameters, self._structured = vllm.SamplingParams, StructuredOutputsParams
        options: dict[str, Any] = {}
        self._adapter = None
        if adapter is not None:
            rank = orjson.loads((adapter / ADAPTER_CONFIG).read_bytes()).get("r", 8)
            options = {"enable_lora": True, "max_lora_rank": rank}
            self._adapter = LoRARequest("adapter", 1, str(adapter))
        try:
            self._llm = vllm.LLM(
                model=str(model), dtype=dtype, max_model_len=window, enable_prefix_caching=True, **options
            )
        except (RuntimeError, ValueError, OSError) as error:
            message = f"{who}: vLLM cannot load {model}: {error}"
            raise ModelError(message) from error

    def sampling(self, rules: Rules, pattern: str | None, seed: int | None) -> Any:
        """The settings of a prompt, its answer held to a pattern."""
        return self._parameters(
            temperature=rules.temperature,
            top_p=rules.top_p,
            seed=seed,
            max_tokens=rules.max_new_tokens,
            stop=list(rules.stop),
            structured_outputs=None if pattern is None else self._structured(regex=pattern),
        )

    def __call__(self, prompts: Sequence[list[int]], sampling: Any) -> list[tuple[str, int]]:
        """The text after each prompt, and how many tokens it has."""
        outputs = self._llm.generate(
            [{"prompt_token_ids": ids} for ids in prompts], sampling, lora_request=self._adapter, use_tqdm=False
        )
        return [(each.outputs[0].text, len(each.outputs[0].token_ids)) for each in outputs]
