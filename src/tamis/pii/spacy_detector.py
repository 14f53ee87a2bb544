"""A pipeline of spaCy as a detector: its named entities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import pyarrow as pa

from tamis.errors import MissingExtraError, ModelError, UsageError
from tamis.pii.pieces import LABELS, entity_of, pieces
from tamis.pii.spans import Finder, Span

__all__ = ["SpacyDetector"]

_NEEDED: Final = frozenset({"tok2vec", "transformer", "ner", "entity_ruler", "span_ruler", "senter", "beam_ner"})
_LONGEST: Final = 100_000
"""Characters of a piece; spaCy takes 1 GB of memory for a text ten times as long."""


@dataclass(frozen=True)
class SpacyDetector:
    """Finds names of people and places with a pipeline of spaCy, many texts at a time (``nlp.pipe``).

    Only what recognises entities is run of the pipeline. spaCy says no scores: every span has ``score``. Texts of
    more than 100,000 characters are shown to it in pieces.

    Raises:
        MissingExtraError: spaCy is not installed.
        ModelError: The pipeline is not (when it is opened).
    """

    pipeline: str
    """Its name or directory, as ``spacy.load`` takes it. ``python -m spacy download en_core_web_md`` gets one: mind
    that packages of such names on the index are not spaCy's."""
    entities: tuple[str, ...] = ("PERSON", "LOCATION")
    """What is kept of its answers."""
    entity_map: Mapping[str, str | None] | None = None
    """What its labels mean, where it is not what :data:`tamis.pii.pieces.LABELS` says; None for nothing."""
    score: float = 0.85
    batch_size: int = 128

    def __post_init__(self) -> None:
        if find_spec("spacy") is None:
            message = "SpacyDetector needs the package 'spacy', which is not installed. Run: pip install spacy"
            raise MissingExtraError(message)
        given = (self.entity_map or {}).values()
        lacking = [name for name in self.entities if name not in LABELS.values() and name not in given]
        if lacking:
            message = f"SpacyDetector: no label means {lacking[0]}; say which does: entity_map={{'LABEL': ...}}."
            raise UsageError(message)

    @property
    def name(self) -> str:
        """What the spans' ``detector`` says."""
        return "spacy"

    def open(self) -> Finder:
        """Load the pipeline, and return the function over batches."""
        import spacy  # noqa: PLC0415  not a dependency

        try:
            nlp: Any = spacy.load(self.pipeline)
        except (OSError, ValueError, ImportError) as error:
            message = f"SpacyDetector: spaCy cannot load the pipeline {self.pipeline!r}: {error}"
            raise ModelError(message) from error
        spare = [name for name in nlp.pipe_names if name not in _NEEDED]

        def find(texts: pa.LargeStringArray) -> dict[int, list[Span]]:
            shown = [
                (piece, (row, start))
                for row, text in enumerate(texts.to_pylist())
                if text and not text.isspace()
                for start, piece in pieces(text, _LONGEST)
            ]
            found: dict[int, list[Span]] = {}
            for doc, (row, start) in nlp.pipe(shown, as_tuples=True, batch_size=self.batch_size, disable=spare):
                for each in doc.ents:
                    entity = entity_of(each.label_, self.entity_map)
                    if entity in self.entities:
                        span = Span(start + each.start_char, start + each.end_char, entity, self.score, self.name)
                        found.setdefault(row, []).append(span)
            return found

        return find
