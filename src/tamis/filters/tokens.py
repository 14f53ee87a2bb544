"""Filters that count tokens; the tokenizer is that of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UsageError
from tamis.filters.bounded import BoundedFilter, share
from tamis.models.checkpoint import content_hash, here, require_extra
from tamis.models.token_counts import count_tokens

__all__ = ["TokenCountFilter", "TokenizerFertilityFilter"]


def _checked(who: str, tokenizer: Any, setting: str) -> None:
    if not isinstance(tokenizer, str) or not tokenizer:
        message = f"{who}: {setting} must be a hub id, a directory or a file; got {tokenizer!r}."
        raise UsageError(message)
    require_extra(who, "tokenizers", "transformers")


def _identity(tokenizer: str, setting: str) -> Mapping[str, str]:
    """A hash of the tokenizer's files, where they are on this machine."""
    path = Path(tokenizer).expanduser()
    place = path if path.is_file() else here(tokenizer)
    return {} if place is None else {setting: content_hash(place)}


@dataclass(frozen=True)
class TokenCountFilter(BoundedFilter):
    """Keeps documents of at least ``min_tokens`` and at most ``max_tokens`` tokens.

    Score: The number of tokens, without those that a model wants at the beginning and the end of a text.
    Range: 0 and up, int64.
    Empty text: 0 (kept, unless ``min_tokens`` is above 0).
    Source: NeMo Curator's heuristic filters: no bounds.
    Relations: NeMo Curator's filter of this name takes a tokenizer that is loaded already, and counts the special
        tokens, so that an empty text has one or two. Needs the extra ``models``.
    """

    tokenizer: str
    """A hub id, a model's directory, a ``tokenizer.json``, or the ``.model`` file of SentencePiece."""
    min_tokens: int = 0
    """Fewest tokens kept."""
    max_tokens: int | None = None
    """Most tokens kept; None for no bound."""

    score_type: ClassVar[pa.DataType] = pa.int64()
    too_low: ClassVar[str] = "fewer than {} tokens"
    too_high: ClassVar[str] = "more than {} tokens"
    low_setting: ClassVar[str] = "min_tokens"
    high_setting: ClassVar[str] = "max_tokens"

    def __post_init__(self) -> None:
        if self.min_tokens < 0 or (self.max_tokens is not None and self.max_tokens < self.min_tokens):
            message = f"min_tokens must be from 0 to max_tokens; got {self.min_tokens} and {self.max_tokens}."
            raise UsageError(message)
        _checked("TokenCountFilter", self.tokenizer, "tokenizer")

    def bounds(self) -> tuple[float | None, float | None]:
        """Tokens kept."""
        return self.min_tokens, self.max_tokens

    def identity(self) -> Mapping[str, str]:
        """A hash of the tokenizer."""
        return _identity(self.tokenizer, "tokenizer")

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The number of tokens."""
        return pa.array(count_tokens(texts, self.tokenizer, who="TokenCountFilter"))


@dataclass(frozen=True)
class TokenizerFertilityFilter(BoundedFilter):
    """Keeps documents that a tokenizer makes few tokens of, for their length.

    Score: Characters over tokens; data and languages that a tokenizer was not made for score low.
    Range: 0 and up.
    Empty text: 0 (dropped).
    Source: Allal et al. 2023 (SantaCoder, arXiv:2301.03988), section 5.1; NeMo Curator's bound: at least 2.5.
    Relations: NeMo Curator's filter of this name reads SentencePiece files alone. Needs the extra ``models``.
    """

    path_to_tokenizer: str
    """A hub id, a model's directory, a ``tokenizer.json``, or the ``.model`` file of SentencePiece."""
    min_char_to_token_ratio: float = 2.5
    """Smallest ratio kept."""

    too_low: ClassVar[str] = "fewer than {} characters for each token"
    low_setting: ClassVar[str] = "min_char_to_token_ratio"

    def __post_init__(self) -> None:
        if not self.min_char_to_token_ratio >= 0:
            message = f"min_char_to_token_ratio must be 0 or more; got {self.min_char_to_token_ratio}."
            raise UsageError(message)
        _checked("TokenizerFertilityFilter", self.path_to_tokenizer, "path_to_tokenizer")

    def bounds(self) -> tuple[float | None, float | None]:
        """Ratios kept."""
        return self.min_char_to_token_ratio, None

    def identity(self) -> Mapping[str, str]:
        """A hash of the tokenizer."""
        return _identity(self.path_to_tokenizer, "path_to_tokenizer")

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """Characters over tokens."""
        characters = pc.fill_null(pc.utf8_length(texts), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        tokens = count_tokens(texts, self.path_to_tokenizer, who="TokenizerFertilityFilter")
        return pa.array(share(characters, tokens))
