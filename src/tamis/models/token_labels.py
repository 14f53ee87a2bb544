"""A label and its probability for every token of a text, by any token classifier that ``transformers`` loads.

Texts of any length: longer ones are seen in windows that overlap, and of two answers for a token that one counts for
which it had more of the text on both sides.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tamis.errors import ModelError, StageError
from tamis.meter import count
from tamis.models.batching import Budget, OneRowTooLarge, Usage, run_batches
from tamis.models.checkpoint import load_pretrained
from tamis.models.device import OUT_OF_MEMORY, empty_cache, pick_device, pick_dtype
from tamis.models.settings import RunSettings
from tamis.models.tokenizer import load_tokenizer, max_length_of
from tamis.models.tokens import Tokens

__all__ = ["TextLabels", "TokenLabeller"]

_CHUNK_CHARACTERS = 1 << 20
"""Texts that are tokenised and sorted together."""
_TOKENS = {"cpu": 4096}
_TOKENS_ELSEWHERE = 16384
"""Tokens in a batch, padding included; memory that does not suffice lowers it."""
_PROBE = "A short text, to see whether the model runs at all."


@dataclass(frozen=True)
class TextLabels:
    """What the model says of the tokens of one text, without special tokens."""

    starts: npt.NDArray[np.int64]
    """First character of each token, shape [tokens]."""
    ends: npt.NDArray[np.int64]
    """And its end, exclusive."""
    labels: npt.NDArray[np.int64]
    """Number of the label with the highest probability."""
    scores: npt.NDArray[np.float32]
    """Its probability, from 0 to 1."""


class TokenLabeller:
    """A tokenizer and a token classifier on a device."""

    def __init__(self, path: Path, settings: RunSettings, *, overlap: int, who: str, keep_case: bool = True) -> None:
        from transformers import AutoModelForTokenClassification

        self._who = who
        tokenizer = load_tokenizer(path, who=who)
        if not tokenizer.is_fast:
            message = (
                f"{who}: the tokenizer in {path} does not say which characters a token covers (no tokenizer.json)."
            )
            raise ModelError(message)
        device = pick_device(settings.device, who=who)
        dtype = pick_dtype(settings.dtype, device, who=who, int8=False)
        model = load_pretrained(
            AutoModelForTokenClassification, path, "a token classifier", who=who, dtype=torch.float32
        )
        self.labels: tuple[str, ...] = tuple(str(model.config.id2label[i]) for i in range(model.config.num_labels))
        self._model, self._device = model.to(device, dtype).eval(), device
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_padding()
        self._backend.no_truncation()
        self._pad = int(tokenizer.pad_token_id or 0)
        self._before, self._after = self._special()
        limit = max_length_of(tokenizer, model.config, settings.max_length, who=who)
        self._room = limit - len(self._before) - len(self._after)
        if self._room < 1:
            message = f"{who}: max_length={limit} leaves no room for a text beside the special tokens."
            raise ModelError(message)
        self._step = max(1, self._room - min(overlap, self._room // 2))
        tokens = (
            settings.batch_tokens if settings.batch_tokens != "auto" else _TOKENS.get(device.type, _TOKENS_ELSEWHERE)
        )
        self._budget = Budget(tokens=tokens, rows=settings.batch_size)
        self._probe()

    def _special(self) -> tuple[list[int], list[int]]:
        """The ids of the special tokens before and after a text."""
        encoding = self._backend.encode("a")
        inside = np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)
        first, last = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (len(encoding.ids), len(encoding.ids))
        return encoding.ids[:first], encoding.ids[last:]

    def _probe(self) -> None:
        """Run a text of our own first: what fails here is not the data."""
        try:
            self([_PROBE])
        except FloatingPointError as error:
            message = f"{self._who}: the model's answer for a plain text is not a number. Try dtype='float32'."
            raise ModelError(message) from error
        except (RuntimeError, ValueError, TypeError, IndexError, StageError) as error:
            message = f"{self._who}: the model fails on a plain text, before any of the data: {error}"
            raise ModelError(message) from error

    def __call__(self, texts: Sequence[str]) -> list[TextLabels]:
        """Labels for the tokens of each text, in order; an empty text has none.

        Raises:
            StageError: One window alone needs more memory than the device has.
            FloatingPointError: An answer is not a number; the engine finds the document and sets it aside.
        """
        found: list[TextLabels] = []
        for chunk in _chunks(texts):
            began = time.perf_counter()
            encodings = self._backend.encode_batch(list(chunk), add_special_tokens=False)
            windows = [(text, at) for text, e in enumerate(encodings) for at in self._places(len(e.ids))]
            usage = Usage()
            answers = self._answers(encodings, windows, usage)
            found += self._joined(encodings, windows, answers)
            count("texts", len(chunk))
            count("tokens", usage.tokens)
            count("padded_tokens", float(usage.padded))
            count("seconds", time.perf_counter() - began)
        return found

    def _places(self, tokens: int) -> range:
        """Where the windows of a text begin: as many as it takes for the last to reach the end."""
        return range(0, max(tokens - self._room, 0) + self._step, self._step) if tokens else range(0)

    def _answers(self, encodings: Any, windows: list[tuple[int, int]], usage: Usage) -> list[tuple[Any, Any]]:
        """Labels and probabilities of each window."""
        inside = [encodings[text].ids[at : at + self._room] for text, at in windows]
        tokens = Tokens.from_lists([[*self._before, *ids, *self._after] for ids in inside])
        answers: list[tuple[Any, Any]] = [(None, None)] * len(windows)
        skip = len(self._before)

        def run(rows: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
            ids, mask = tokens.take(rows).padded(self._pad)
            logits = self._model(
                input_ids=torch.from_numpy(ids).to(self._device), attention_mask=torch.from_numpy(mask).to(self._device)
            ).logits
            scores, labels = torch.softmax(logits.float(), dim=-1).max(dim=-1)
            return labels, scores

        try:
            with torch.inference_mode():
                for rows, (labels, scores) in run_batches(
                    tokens.lengths, run, self._budget, out_of_memory=OUT_OF_MEMORY, release=empty_cache, usage=usage
                ):
                    for row, label, score in zip(rows, labels.cpu().numpy(), scores.cpu().numpy(), strict=True):
                        end = skip + len(inside[row])
                        answers[row] = label[skip:end], score[skip:end]
        except OneRowTooLarge as error:
            message = (
                f"{self._who}: the device has no memory for one window of {error.length} tokens. Lower max_length, "
                "or free the device's memory."
            )
            raise StageError(message) from error
        return answers

    def _joined(
        self, encodings: Any, windows: list[tuple[int, int]], answers: list[tuple[Any, Any]]
    ) -> list[TextLabels]:
        """The windows of each text put together."""
        made = []
        for encoding in encodings:
            size = len(encoding.ids)
            offsets = np.array(encoding.offsets, dtype=np.int64).reshape(size, 2)
            made.append(TextLabels(offsets[:, 0], offsets[:, 1], np.zeros(size, np.int64), np.zeros(size, np.float32)))
        last = dict(windows)
        for (text, at), (labels, scores) in zip(windows, answers, strict=True):
            # Half of an overlap is this window's, the other half its neighbour's.
            overlap = self._room - self._step
            first = overlap // 2 if at else 0
            end = len(labels) if at == last[text] else len(labels) - (overlap - overlap // 2)
            made[text].labels[at + first : at + end] = labels[first:end]
            made[text].scores[at + first : at + end] = scores[first:end]
        for each in made:
            if not np.isfinite(each.scores).all():
                message = f"the model's answer for this text is not a number ({self._who})"
                raise FloatingPointError(message)
        return made


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Texts that have about :data:`_CHUNK_CHARACTERS` together."""
    first = size = 0
    for i, text in enumerate(texts):
        size += len(text)
        if size >= _CHUNK_CHARACTERS:
            yield texts[first : i + 1]
            first, size = i + 1, 0
    if first < len(texts):
        yield texts[first:]
