"""What is looked for and by what: the settings that everything which detects has in common."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import pyarrow as pa

from tamis.errors import UsageError
from tamis.models.stage import WINDOW, tuning
from tamis.pii.entities import ENTITIES, PATTERN_ENTITIES, canonical
from tamis.pii.model_detector import ModelDetector
from tamis.pii.patterns import MIN_SCORE, PatternDetector
from tamis.pii.spacy_detector import SpacyDetector
from tamis.pii.spans import Detector, Finder, Span

__all__ = ["Detection", "finder_of"]


@dataclass(frozen=True)
class Detection:
    """Which personal data is looked for, and by which detectors.

    Raises:
        UsageError: No detector finds an entity that is asked for, or the patterns are asked for another language.
    """

    language: str = "en"
    """Language of the texts. Patterns work in any, but the words near a match that they go by are English; so for
    another language name the ``detectors``."""
    supported_entities: Sequence[str] | None = None
    """Names from :data:`tamis.pii.ENTITIES`; by default all that the detectors find."""
    _: KW_ONLY
    detectors: Sequence[Detector] = ()
    """What looks, instead of the patterns; with ``PatternDetector()`` among them, beside the patterns."""
    model: str | os.PathLike[str] | None = None
    """A token classifier beside the detectors (:class:`ModelDetector`), for names and places: hub id or directory."""
    spacy: str | None = None
    """A pipeline of spaCy beside them (:class:`SpacyDetector`), for names and places: its name or directory."""
    regions: Sequence[str] = ("US", "GB")
    """Countries whose phone numbers the patterns know without a country code."""
    min_score: float = MIN_SCORE
    """Spans with a lower score are left out, of 0 to 1."""
    batch_size: int | None = tuning(None)
    """Most texts in a batch of the model; no bound by default."""
    device: str = tuning("auto")
    """Where the model runs: ``cpu``, ``cuda`` …; ``gpu`` means the best there is, as auto does."""

    def __post_init__(self) -> None:
        if self.language != "en" and not self.detectors:
            message = (
                f"{type(self).__name__}: the patterns go by English words, and the language is {self.language!r}. Name "
                "the detectors for it; detectors=[PatternDetector()] uses the patterns all the same."
            )
            raise UsageError(message)
        if not 0 <= self.min_score <= 1:
            message = f"{type(self).__name__}: min_score must be from 0 to 1; got {self.min_score!r}."
            raise UsageError(message)
        given: Sequence[object] = self.detectors
        for each in given:
            if not isinstance(each, Detector):
                message = f"{type(self).__name__}: {each!r} is no detector: that has a name, entities and open()."
                raise UsageError(message)
        self.used()

    @property
    def wanted(self) -> tuple[str, ...] | None:
        """The entities that are asked for, by their own names; None for all that the detectors find."""
        if self.supported_entities is None:
            return None
        given: object = self.supported_entities
        names = [given] if isinstance(given, str) else list(self.supported_entities)
        own = {name for detector in self.detectors for name in detector.entities if name not in ENTITIES}
        return tuple(n if n in own else canonical([n], where=type(self).__name__)[0] for n in names)

    def used(self) -> tuple[Detector, ...]:
        """The detectors that look for what is wanted."""
        wanted = self.wanted
        found = list(self.detectors)
        if not found:
            entities = PATTERN_ENTITIES if wanted is None else tuple(n for n in PATTERN_ENTITIES if n in wanted)
            patterns = PatternDetector(entities, tuple(self.regions), self.min_score)
            found += [patterns] if entities else []
        if self.model is not None:
            device = "auto" if self.device == "gpu" else self.device
            found.append(ModelDetector(self.model, batch_size=self.batch_size, device=device))
        if self.spacy is not None:
            found.append(SpacyDetector(self.spacy))
        lacking = set(wanted or ()).difference(*(detector.entities for detector in found))
        if lacking:
            names = ", ".join(n for n in wanted or () if n in lacking)
            message = (
                f"{type(self).__name__}: nothing finds {names}. Names of people and places need a model: pass model=, "
                "a token classifier (its hub id or directory), spacy= or detectors=; or leave them out of the entities."
            )
            raise UsageError(message)
        return tuple(found)

    def finder(self, *, patterns_only: bool = False) -> Finder | None:
        """The function over batches: the spans of all detectors that are wanted, which may overlap.

        With ``patterns_only`` that of the patterns alone; None where there are none.
        """
        used = [d for d in self.used() if isinstance(d, PatternDetector) or not patterns_only]
        return finder_of(used, self.wanted, self.min_score) if used else None

    @property
    def runs_on(self) -> Literal["cpu", "accelerator"]:
        """Where it runs."""
        return "accelerator" if any(isinstance(d, ModelDetector) for d in self.used()) else "cpu"

    @property
    def window(self) -> int:
        """Texts that it wants to see at once."""
        return WINDOW if any(isinstance(d, ModelDetector | SpacyDetector) for d in self.used()) else 0

    def identity(self) -> Mapping[str, str]:
        """A hash of the weights of each model that is a directory of this machine."""
        models = [d for d in self.used() if isinstance(d, ModelDetector)]
        return {f"model {i}": found for i, d in enumerate(models) if (found := d.identity())}


def finder_of(detectors: Sequence[Detector], wanted: Sequence[str] | None, min_score: float) -> Finder:
    """The detectors' finders as one."""
    finders = [detector.open() for detector in detectors]
    names = None if wanted is None else frozenset(wanted)

    def find(texts: pa.LargeStringArray) -> dict[int, list[Span]]:
        found: dict[int, list[Span]] = {}
        for finder in finders:
            for row, spans in finder(texts).items():
                kept = [s for s in spans if s.score >= min_score and (names is None or s.entity in names)]
                if kept:
                    found.setdefault(row, []).extend(kept)
        return found

    return find
