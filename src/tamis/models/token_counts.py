"""How many tokens a text has, without what a model wants around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.errors import ModelError
from tamis.models.checkpoint import TOKENIZER, find, require_extra
from tamis.models.one_file import Stamp, stamp
from tamis.models.tokenizer import load_tokenizer

__all__ = ["count_tokens"]

_TOGETHER = 1 << 20
"""Characters that are tokenised at once; the tokens of all texts of a batch may be many times its size."""

_Counter = Callable[[list[str]], list[int]]


@lru_cache(maxsize=4)
def _counter(tokenizer: str, _when: Stamp | None, who: str) -> _Counter:
    """What counts the tokens of texts: of a SentencePiece file, a ``tokenizer.json``, or a model's directory."""
    path = Path(tokenizer).expanduser()
    if path.suffix == ".model" and path.is_file():
        return _of_pieces(path, who)
    # What has a tokenizer.json needs nothing else, and so not transformers, which takes seconds to import.
    whole = path if path.suffix == ".json" and path.is_file() else path / "tokenizer.json"
    if not whole.is_file():
        folder = find(tokenizer, who=who, holds=TOKENIZER)
        whole = folder / "tokenizer.json"
    if whole.is_file():
        from tokenizers import Tokenizer

        try:
            return _of_fast(Tokenizer.from_file(str(whole)))
        except Exception as error:  # the package raises nothing narrower
            message = f"{who}: the tokenizer {whole} cannot be loaded: {error}."
            raise ModelError(message) from error
    slow = load_tokenizer(folder, who=who)
    if slow.is_fast:
        return _of_fast(slow.backend_tokenizer)
    return lambda texts: [len(ids) for ids in slow(texts, add_special_tokens=False)["input_ids"]]


def _of_fast(fast: Any) -> _Counter:
    fast.no_padding()
    fast.no_truncation()
    return lambda texts: [len(e.ids) for e in fast.encode_batch_fast(texts, add_special_tokens=False)]


def _of_pieces(path: Path, who: str) -> _Counter:
    require_extra(who, "sentencepiece")
    import sentencepiece

    try:
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        message = f"{who}: {path} cannot be read as a SentencePiece model: {error}."
        raise ModelError(message) from error
    return lambda texts: [len(ids) for ids in pieces.encode(texts)]


def _chunks(texts: list[str | None]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for each in texts:
        text = each or ""
        if chunk and size + len(text) > _TOGETHER:
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
    if chunk:
        yield chunk


def count_tokens(texts: pa.LargeStringArray, tokenizer: str, *, who: str) -> npt.NDArray[np.int64]:
    """The number of tokens of each text, ``int64`` of shape (n,); 0 for an empty or null text.

    Args:
        texts: What is counted.
        tokenizer: A hub id, a model's directory, a ``tokenizer.json``, or the ``.model`` file of SentencePiece.
        who: The stage that asks, for the error message.

    Raises:
        ModelError: There is no such tokenizer, or it cannot be loaded.
    """
    path = Path(tokenizer).expanduser()
    file = path / "tokenizer.json" if path.is_dir() else path
    count = _counter(tokenizer, stamp(file) if file.is_file() else None, who)
    counts = [n for chunk in _chunks(texts.to_pylist()) for n in count(chunk)]
    return np.array(counts, dtype=np.int64)
