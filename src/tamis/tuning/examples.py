"""Rows made into token ids: what a model is shown, and what it is to write; nothing is dropped uncounted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.errors import UsageError
from tamis.hashing import fingerprint, hash64
from tamis.models.prompts import encode_example

__all__ = ["Counts", "Examples", "encode_rows", "order_of"]

Ids = npt.NDArray[np.int32]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """What became of the rows."""

    rows: int = 0
    """Rows that were read."""
    body_cut: int = 0
    """Used, the end of the prompt's body left out."""
    middle_cut: int = 0
    """Used, the middle of the prompt left out, as it has no body or the body was not enough."""
    too_long: int = 0
    """Dropped: the completion alone fills the window."""
    no_completion: int = 0
    """Dropped: nothing to learn."""
    no_prompt: int = 0
    """Dropped: nothing to answer."""

    @property
    def dropped(self) -> int:
        """Rows that are not trained on."""
        return self.too_long + self.no_completion + self.no_prompt

    def __str__(self) -> str:
        parts = [f"{self.rows - self.dropped:,} of {self.rows:,} rows used"]
        parts += [
            f"{n:,} {why}"
            for n, why in (
                (self.body_cut, "with the end of their body cut"),
                (self.middle_cut, "with the middle of their prompt cut"),
                (self.too_long, "dropped, as the completion alone fills the window"),
                (self.no_completion, "dropped without a completion"),
                (self.no_prompt, "dropped without a prompt"),
            )
            if n
        ]
        return "; ".join(parts)


@dataclass(frozen=True)
class Examples:
    """Token ids of prompts and completions, ragged and never padded."""

    ids: Ids
    """All of them, one after the other."""
    starts: Places
    """[examples + 1]: where each begins, and the end."""
    prompts: Places
    """[examples]: tokens of each that are its prompt, at least 1."""
    counts: Counts

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> tuple[Ids, int]:
        """The ids of an example, and how many of them are its prompt."""
        return self.ids[self.starts[index] : self.starts[index + 1]], int(self.prompts[index])

    @property
    def lengths(self) -> Places:
        """[examples]: tokens of each."""
        return np.diff(self.starts)

    @property
    def targets(self) -> int:
        """Tokens that the loss is counted on."""
        return int(self.lengths.sum() - self.prompts.sum())

    def fingerprint(self) -> str:
        """32 hexadecimal digits that identify them."""
        return fingerprint(self.ids.tobytes() + self.starts.tobytes() + self.prompts.tobytes())


def encode_rows(tokenizer: Any, rows: Iterable[Mapping[str, Any]], window: int, *, what: str) -> Examples:
    """The examples of some rows, each at most ``window`` tokens (:func:`tamis.models.prompts.encode_example`).

    Raises:
        UsageError: There is no row, or none that can be used; ``what`` says of which, for the sentence.
        ModelError: The tokenizer has no end of text, or no chat template where the rows need one.
    """
    pieces: list[Ids] = []
    prompts: list[int] = []
    counts = dict.fromkeys(Counts.__dataclass_fields__, 0)
    for row in rows:
        counts["rows"] += 1
        try:
            example = encode_example(tokenizer, row, window)
        except UsageError as error:
            message = f"row {counts['rows']:,} of the {what} rows: {error}"
            raise type(error)(message) from error
        if example is None:
            counts["too_long"] += 1
        elif not example.completion:
            counts["no_completion"] += 1
        elif not example.prompt.ids or not _said(row):
            counts["no_prompt"] += 1
        else:
            counts["body_cut"] += example.prompt.body_cut
            counts["middle_cut"] += example.prompt.middle_cut
            pieces.append(np.array(example.prompt.ids + example.completion, dtype=np.int32))
            prompts.append(len(example.prompt.ids))
    found = Counts(**counts)
    if not prompts:
        message = f"there is nothing to learn in the {what} rows: {found}."
        if not found.rows:
            message = f"there are no {what} rows: the split is empty."
        elif found.no_completion:
            message += (
                " All labels would be masked, and the loss would be 0. Does the column completion hold the answers?"
            )
        raise UsageError(message)
    lengths = np.array([0, *map(len, pieces)], dtype=np.int64)
    return Examples(np.concatenate(pieces), lengths.cumsum(), np.array(prompts, dtype=np.int64), found)


def _said(row: Mapping[str, Any]) -> bool:
    return row.get("messages") is not None or bool((row.get("prompt") or "").strip())


def order_of(examples: int, seed: int) -> Iterator[int]:
    """The endless order that examples are trained in: every pass has all of them, each time in another order."""
    epoch = 0
    while True:
        # The hash of a hash: seeds that follow each other must not give passes that follow each other.
        mixed = int(hash64([epoch], seed)[0])
        yield from np.argsort(hash64(range(examples), mixed), kind="stable").tolist()
        epoch += 1
