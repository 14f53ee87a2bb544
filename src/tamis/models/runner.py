"""Texts in, model outputs out: tokenise, sort, batch, run, restore the order; each overlaps the next where it can."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from tamis.errors import ModelError, StageError
from tamis.meter import count
from tamis.models.batching import Budget, OneRowTooLarge, Usage, restore, run_batches
from tamis.models.device import OUT_OF_MEMORY, empty_cache
from tamis.models.flops import FlopCount
from tamis.models.network import Forward
from tamis.models.tokenizer import TextTokenizer
from tamis.models.tokens import Tokens
from tamis.table import has_text

__all__ = ["Outputs", "Runner"]

_CHUNK_CHARACTERS = 1 << 20
"""Texts that are tokenised and planned together: about 250,000 tokens, a tenth of a second on a fast device."""
_ASK_FOR_PEAK = 10.0
"""Seconds of work after which the device's peak is measured, which takes one: short jobs do without."""
_PROBE = "A short text, to see whether the model runs at all."


@dataclass(frozen=True)
class Outputs:
    """What a model said of some texts."""

    values: npt.NDArray[np.float32]
    """[texts, outputs]; NaN for a text that has no answer."""
    answered: npt.NDArray[np.bool_]
    """[texts]; False for a null or blank text, which is not shown to the model."""


class Runner:
    """A tokenizer and a model on a device, ready to answer tables of texts.

    Made once per process by a stage's ``open()``. The answer for a text does not depend on the texts beside it
    (beyond rounding, in the padded form).
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        forward: Forward,
        budget: Budget,
        *,
        who: str,
        max_chars: int | None = None,
        flops: FlopCount | None = None,
        peak: Callable[[], float] | None = None,
    ) -> None:
        self._tokenize = tokenizer
        self._forward = forward
        self._budget = budget
        self._who = who
        self._max_chars = max_chars
        self._flops = flops
        self._peak = peak
        self._worked = 0.0
        # One thread: the tokenizer spreads over cores by itself, and runs while the model does.
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="tamis-tokenize")
        self.width = self._probed()

    def _probed(self) -> int:
        """Run a text of our own first: what fails here is not the data."""
        try:
            tokens = self._tokenize([_PROBE])
        except Exception as error:
            message = f"{self._who}: the tokenizer fails on a plain text: {type(error).__name__}: {error}"
            raise ModelError(message) from error
        try:
            with torch.inference_mode():
                outputs = self._forward(tokens).cpu()
        except OUT_OF_MEMORY as error:
            message = f"{self._who}: the device has no memory left to run the model on a single short text."
            raise ModelError(message) from error
        except Exception as error:
            message = (
                f"{self._who}: the model fails on a plain text, before any of the data: {type(error).__name__}: {error}"
            )
            raise ModelError(message) from error
        if outputs.ndim != 2 or len(outputs) != 1:
            message = (
                f"{self._who}: the model gave outputs of shape {tuple(outputs.shape)} for one text; "
                "[1, outputs] is needed."
            )
            raise ModelError(message)
        return int(outputs.shape[1])

    def __call__(self, texts: pa.LargeStringArray) -> Outputs:
        """The model's outputs for each text, in order.

        Raises:
            StageError: One text alone needs more memory than the device has.
            FloatingPointError: An output is not a number; the engine finds the document and sets it aside.
        """
        began = time.perf_counter()
        # Only the first characters of a text reach the model, whatever its column holds.
        if self._max_chars is not None:
            texts = pc.utf8_slice_codeunits(texts, 0, self._max_chars)
        answered = has_text(texts)
        values = np.full((len(texts), self.width), np.nan, dtype=np.float32)
        with torch.inference_mode():
            for rows, tokens in self._tokenized(texts, np.flatnonzero(answered)):
                values[rows], usage = self._outputs(tokens)
                began = self._count(usage, tokens, began)
        if not np.isfinite(values[answered]).all():
            message = f"the model's output for this text is not a finite number ({self._who})"
            raise FloatingPointError(message)
        return Outputs(values, answered)

    def _count(self, usage: Usage, tokens: Tokens, began: float) -> float:
        """Count what a chunk took since ``began``; returns the time now."""
        now = time.perf_counter()
        count("texts", usage.texts)
        count("tokens", usage.tokens)
        count("padded_tokens", float(usage.padded))
        count("seconds", now - began)
        if self._flops is not None:
            self._count_work(self._flops.of(tokens.lengths), now - began)
        return now

    def _count_work(self, work: float, seconds: float) -> None:
        """Count operations, and those of the device's measured peak: once it has worked long enough to be asked."""
        self._worked += seconds
        if self._peak is not None and self._worked > _ASK_FOR_PEAK:
            count("flops", work)
            count("peak_flops", self._peak() * seconds)

    def _tokenized(
        self, texts: pa.LargeStringArray, rows: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], Tokens]]:
        """Rows and their tokens in chunks of texts of about equal length, each tokenised while the last one runs."""
        lengths = pc.binary_length(texts).to_numpy(zero_copy_only=False)[rows]
        order = np.argsort(-lengths, kind="stable")
        rows, lengths = rows[order], lengths[order]
        waiting: list[tuple[npt.NDArray[np.int64], Future[Tokens]]] = []
        for chunk in _chunks(rows, lengths):
            waiting.append((chunk, self._ahead.submit(self._tokens, texts, chunk)))
            if len(waiting) > 1:
                done, tokens = waiting.pop(0)
                yield done, tokens.result()
        for done, tokens in waiting:
            yield done, tokens.result()

    def _tokens(self, texts: pa.LargeStringArray, rows: npt.NDArray[np.int64]) -> Tokens:
        return self._tokenize(texts.take(pa.array(rows)).to_pylist())

    def _outputs(self, tokens: Tokens) -> tuple[npt.NDArray[np.float32], Usage]:
        def run(rows: npt.NDArray[np.int64]) -> torch.Tensor:
            return self._forward(tokens.take(rows))

        usage = Usage()
        try:
            # Copied together, once everything has been handed to the device.
            found = list(
                run_batches(
                    tokens.lengths, run, self._budget, out_of_memory=OUT_OF_MEMORY, release=empty_cache, usage=usage
                )
            )
        except OneRowTooLarge as error:
            message = (
                f"{self._who}: the device has no memory for a single text of {error.length} tokens. Lower max_length, "
                "free the device's memory, or use a smaller dtype."
            )
            raise StageError(message) from error
        pieces = ((rows, outputs.cpu().numpy()) for rows, outputs in found)
        return restore(pieces, len(tokens), self.width), usage


def _chunks(rows: npt.NDArray[np.int64], lengths: npt.NDArray[Any]) -> Iterator[npt.NDArray[np.int64]]:
    """Cut rows where their texts add up to a chunk."""
    if len(rows):
        chunk = (np.cumsum(lengths) - lengths) // _CHUNK_CHARACTERS
        yield from np.split(rows, np.flatnonzero(np.diff(chunk)) + 1)
