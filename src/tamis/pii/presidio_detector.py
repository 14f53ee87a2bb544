"""Presidio's analyzer as a detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pyarrow as pa

from tamis.pii.spans import Finder, Span

__all__ = ["Analyzer", "PresidioDetector"]

_OURS: Final[Mapping[str, str]] = {"IBAN_CODE": "IBAN"}
_THEIRS: Final[Mapping[str, str]] = {ours: theirs for theirs, ours in _OURS.items()}
_DEFAULT: Final = (
    "PERSON",
    "LOCATION",
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "URL",
    "IP_ADDRESS",
    "CREDIT_CARD",
    "IBAN",
    "US_SSN",
    "US_PASSPORT",
    "US_DRIVER_LICENSE",
    "DATE_TIME",
)


class Analyzer(Protocol):
    """What finds entities in one text: ``presidio_analyzer.AnalyzerEngine``, or anything that answers as it does."""

    def analyze(self, text: str, *, language: str, entities: list[str]) -> Any:
        """Objects with ``entity_type``, ``start``, ``end`` (characters) and ``score``."""
        ...


@dataclass(frozen=True)
class PresidioDetector:
    """Asks an analyzer of Presidio, text by text.

    The analyzer is no part of what a run is known by; it travels to workers by pickle, as Presidio's own does.
    """

    analyzer: Analyzer = field(repr=False)
    entities: tuple[str, ...] = _DEFAULT
    """What it is asked for: names from :data:`tamis.pii.ENTITIES`, or of recognizers of its own."""
    language: str = "en"

    @property
    def name(self) -> str:
        """What the spans' ``detector`` says."""
        return "presidio"

    def open(self) -> Finder:
        """The function over batches."""
        asked = [_THEIRS.get(name, name) for name in self.entities]

        def find(texts: pa.LargeStringArray) -> dict[int, list[Span]]:
            found = {}
            for row, text in enumerate(texts.to_pylist()):
                if not text or text.isspace():
                    continue
                results = self.analyzer.analyze(text=text, language=self.language, entities=asked)
                if results:
                    found[row] = [
                        Span(r.start, r.end, _OURS.get(r.entity_type, r.entity_type), float(r.score), self.name)
                        for r in results
                    ]
            return found

        return find
