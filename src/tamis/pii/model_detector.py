"""A token classifier as a detector: names, places and whatever else it has labels for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

import pyarrow as pa

from tamis.errors import ModelError, UsageError
from tamis.models.checkpoint import content_hash, find, here, read_config, require_extra
from tamis.models.settings import RunSettings
from tamis.models.stage import tuning
from tamis.pii.pieces import entity_of, pieces
from tamis.pii.spans import Finder, Span
from tamis.table import has_text

if TYPE_CHECKING:
    from tamis.models.token_labels import TextLabels

__all__ = ["ModelDetector", "grouped"]

_LONGEST: Final = 100_000
"""Characters of a text that are tokenised together."""


@dataclass(frozen=True)
class ModelDetector:
    """Finds what a token classifier of the hub or of a directory has labels for.

    Texts are run in batches by length, those that are longer than the model's limit in windows that overlap. Tokens of
    one label in a row are one span, whose score is their mean probability; labels may say begin and end (BIO, BIOES)
    or nothing. These are the spans of the pipeline of ``transformers`` with its "simple" aggregation, except that a
    token E- or S- ends one.

    Raises:
        MissingExtraError: The extra ``models`` is not installed.
        ModelError: There is no such model, or it has no label that means an entity.
    """

    model: str | os.PathLike[str]
    """A hub id or a directory."""
    entity_map: Mapping[str, str | None] | None = None
    """What its labels mean, without B- and I-, where it is not what :data:`tamis.pii.pieces.LABELS` says:
    ``{"ORG": "ORGANIZATION"}``; None for nothing."""
    overlap: int = 32
    """Tokens that two windows of a long text share."""
    max_length: int | None = None
    """Tokens of a window; the model's own limit by default."""
    dtype: str = "auto"
    batch_size: int | None = tuning(None)
    """Most windows in a batch; no bound by default, for batches are made by tokens."""
    batch_tokens: int | Literal["auto"] = tuning("auto")
    device: str = tuning("auto")
    token: str | None = field(default=None, repr=False, metadata={"secret": True})
    """Access token of the hub, for gated models."""

    def __post_init__(self) -> None:
        require_extra(type(self).__name__, "torch", "transformers")
        self._settings()
        if self.overlap < 0:
            message = f"ModelDetector: overlap must be 0 or more tokens; got {self.overlap}."
            raise UsageError(message)

    def _settings(self) -> RunSettings:
        return RunSettings(
            device=self.device,
            dtype=self.dtype,
            max_length=self.max_length,
            batch_tokens=self.batch_tokens,
            batch_size=self.batch_size,
        )

    @property
    def name(self) -> str:
        """What the spans' ``detector`` says."""
        return os.fspath(self.model)

    @property
    def entities(self) -> tuple[str, ...]:
        """What its labels mean; reads its configuration and no weights."""
        return tuple(dict.fromkeys(e for e in self._meanings(_labels_of(os.fspath(self.model), self.token)) if e))

    def _meanings(self, labels: Sequence[str]) -> list[str | None]:
        """The entity of each label."""
        found = [entity_of(_parted(label)[1], self.entity_map) for label in labels]
        if not any(found):
            message = (
                f"ModelDetector: no label of {self.name} means an entity ({', '.join(labels[:9])}). Say what "
                "they mean: entity_map={'LABEL': 'PERSON'}."
            )
            raise ModelError(message)
        return found

    def identity(self) -> str:
        """A hash of the model where it is a directory of this machine; empty for one of the hub."""
        place = here(self.model)
        return "" if place is None else content_hash(place)

    def open(self) -> Finder:
        """Load the model onto its device, and return the function over batches."""
        from tamis.models.token_labels import TokenLabeller  # noqa: PLC0415  loads torch

        path = find(self.model, who=type(self).__name__, token=self.token)
        label = TokenLabeller(path, self._settings(), overlap=self.overlap, who=type(self).__name__)
        parted = [_parted(name) for name in label.labels]
        meanings = self._meanings(label.labels)

        def find_spans(texts: pa.LargeStringArray) -> dict[int, list[Span]]:
            rows = has_text(texts).nonzero()[0].tolist()
            shown = [(row, *piece) for row in rows for piece in pieces(texts[row].as_py(), _LONGEST)]
            found: dict[int, list[Span]] = {}
            for (row, at, _), labels in zip(shown, label([piece for *_, piece in shown]), strict=True):
                for start, end, number, score in grouped(labels, parted):
                    entity = meanings[number]
                    if entity is not None:
                        found.setdefault(row, []).append(Span(at + start, at + end, entity, score, self.name))
            return found

        return find_spans


@lru_cache(maxsize=32)
def _labels_of(model: str, token: str | None) -> tuple[str, ...]:
    config: Mapping[str, Any] = read_config(
        find(model, who="ModelDetector", token=token, config_only=True), who="ModelDetector"
    )
    names = config.get("id2label")
    if not isinstance(names, Mapping):
        message = f"ModelDetector: the configuration of {model} names no labels (id2label): is it a token classifier?"
        raise ModelError(message)
    return tuple(map(str, names.values()))


def _parted(label: str) -> tuple[str, str]:
    """What a label says about begin and end, and the rest: ("B", "PER") for B-PER, ("I", "PER") for PER."""
    mark, dash, rest = label.partition("-")
    marks = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}
    return (marks[mark], rest) if dash and mark in marks else ("I", label)


def grouped(labels: TextLabels, parted: Sequence[tuple[str, str]]) -> list[tuple[int, int, int, float]]:
    """Tokens of one label in a row as one: start, end, number of the first token's label, mean probability.

    B and S begin another one, E and S end theirs. What is no entity is among the answers.
    """
    found: list[tuple[int, int, int, float]] = []
    first, open_end = 0, False
    numbers = labels.labels.tolist()

    def close(end: int) -> None:
        if end > first:
            score = float(labels.scores[first:end].mean())
            found.append((int(labels.starts[first]), int(labels.ends[end - 1]), numbers[first], score))

    for i, number in enumerate(numbers):
        mark, name = parted[number]
        if not open_end or mark in "BS" or name != parted[numbers[first]][1]:
            close(i)
            first = i
        open_end = mark not in "ES"
    close(len(numbers))
    return found
