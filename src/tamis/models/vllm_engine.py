"""The same answers by vLLM, where it is installed: found at run time, never a dependency.

vLLM pins other versions of ``transformers`` than Tamis allows (0.33 needs one below 5.20), so it needs an environment
of its own with Tamis in it. This engine is written against vLLM's documented interface (``LLM.generate``,
``SamplingParams``, ``StructuredOutputsParams``, ``LoRARequest``) and tested with a stand-in for it; **it has not been
run on a device**.

It differs from the other engine in one thing: the answer is held to a pattern, so that a model that wants to say
something else is made to choose one of the labels.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from tamis.errors import MissingExtraError, ModelError
from tamis.meter import count
from tamis.models.generate import Answer, Decoding, PromptTokenizer
from tamis.models.lora import ADAPTER_CONFIG

__all__ = ["VllmGenerator"]


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
        try:
            import vllm
            from vllm.lora.request import LoRARequest
            from vllm.sampling_params import StructuredOutputsParams
        except ImportError as error:
            message = (
                f"{who}: engine='vllm' needs the package vllm in this environment ({error}). Use engine='transformers'."
            )
            raise MissingExtraError(message) from error
        self._who = who
        self._prompts = prompts
        held = None if decoding.pattern is None else StructuredOutputsParams(regex=decoding.pattern)
        self._sampling = vllm.SamplingParams(
            temperature=0.0, max_tokens=decoding.max_new_tokens, structured_outputs=held
        )
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

    def __call__(self, documents: Sequence[str]) -> list[Answer]:
        """The answers, in order."""
        if not documents:
            return []
        began = time.perf_counter()
        prompts = self._prompts(documents)
        outputs = self._llm.generate(
            [{"prompt_token_ids": ids.tolist()} for ids in prompts],
            self._sampling,
            lora_request=self._adapter,
            use_tqdm=False,
        )
        answers = [Answer(each.outputs[0].text, len(each.outputs[0].token_ids)) for each in outputs]
        shared = len(self._prompts.shared)
        count("texts", len(answers))
        count("tokens", sum(len(ids) - shared for ids in prompts))
        count("generated_tokens", float(sum(answer.tokens for answer in answers)))
        count("seconds", time.perf_counter() - began)
        return answers
