"""Text to ragged token ids, in Rust and off the interpreter's lock where the tokenizer allows it."""

from __future__ import annotations

import os
from typing import Any

from tamis.errors import ModelError
from tamis.models.tokens import Tokens

__all__ = ["TextTokenizer", "load_tokenizer", "max_length_of"]

_CHARACTERS_PER_TOKEN = 16
"""A text is first cut to this many characters per token of the limit. English has about 4.5, and the cut costs nothing
where it was enough: a text that did not reach the limit after all is encoded whole."""
_UNLIMITED = 1_000_000
"""Tokenizers without a limit of their own say 1e30."""


def load_tokenizer(path: str | os.PathLike[str], *, who: str) -> Any:
    """The ``transformers`` tokenizer of a model directory; no code from the directory is run.

    Raises:
        ModelError: There is none, or it cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(os.fspath(path), trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        message = (
            f"{who}: the tokenizer in {path} cannot be loaded: {error}. It needs tokenizer.json, or the vocabulary "
            "files that its tokenizer_config.json names."
        )
        raise ModelError(message) from error


def max_length_of(tokenizer: Any, config: Any, wanted: int | None, *, who: str) -> int:
    """Tokens a text is cut to: the wanted number, else the tokenizer's limit, else what the model has positions for.

    Raises:
        ModelError: More was asked for than the model has positions for.
    """
    positions = getattr(config, "max_position_embeddings", None)
    # RoBERTa's first position is its padding id + 1; DeBERTa v2 has no absolute positions, so that its limit is soft.
    if positions is not None and getattr(config, "model_type", "") in {"roberta", "xlm-roberta", "camembert"}:
        positions -= (config.pad_token_id or 0) + 1
    hard = None if getattr(config, "position_biased_input", True) is False else positions
    if wanted is not None:
        if wanted < 1 or (hard is not None and wanted > hard):
            message = f"{who}: max_length must be from 1 to {hard or 'any number'}; got {wanted}."
            raise ModelError(message)
        return wanted
    limit = int(min(getattr(tokenizer, "model_max_length", None) or _UNLIMITED, _UNLIMITED))
    if hard is not None:
        limit = min(limit, int(hard))
    if limit >= _UNLIMITED:
        limit = int(positions or 512)
    return limit


class TextTokenizer:
    """Texts in, :class:`Tokens` out: special tokens added, cut to ``max_length``, not padded.

    The last tokens are what is cut off. An empty text gives its special tokens alone.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.max_length = max_length
        self.pad_id = int(tokenizer.pad_token_id or 0)
        self._slow = None if tokenizer.is_fast else tokenizer
        if self._slow is None:
            self._fast = tokenizer.backend_tokenizer
            self._fast.no_padding()
            self._fast.enable_truncation(max_length=max_length, direction=tokenizer.truncation_side)
            self._keeps_end = tokenizer.truncation_side == "left"

    def __call__(self, texts: list[str]) -> Tokens:
        """The token ids of each text; its longest has ``max_length``."""
        if self._slow is not None:
            return Tokens.from_lists(
                self._slow(texts, truncation=True, max_length=self.max_length, return_attention_mask=False)["input_ids"]
            )
        if self._keeps_end:
            return Tokens.from_lists([e.ids for e in self._fast.encode_batch_fast(texts)])
        cut = [_cut(text, self.max_length * _CHARACTERS_PER_TOKEN) for text in texts]
        lists = [e.ids for e in self._fast.encode_batch_fast(cut)]
        again = [i for i, ids in enumerate(lists) if len(ids) < self.max_length and len(cut[i]) < len(texts[i])]
        if again:
            for i, encoding in zip(again, self._fast.encode_batch_fast([texts[i] for i in again]), strict=True):
                lists[i] = encoding.ids
        return Tokens.from_lists(lists)


def _cut(text: str, characters: int) -> str:
    """The beginning of a long text, up to a space: words are tokenised one by one, so ids before it do not change."""
    if len(text) <= characters:
        return text
    space = text.rfind(" ", 0, characters)
    return text[:space] if space > 0 else text
