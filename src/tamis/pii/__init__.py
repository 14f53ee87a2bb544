"""Personal data in texts: where it is, as spans with scores.

>>> from tamis.pii import detect
>>> text = "Write to ann@example.org or call +44 20 7946 0018."
>>> [(span.entity, span.of(text)) for span in detect(text, ["EMAIL_ADDRESS"])]
[('EMAIL_ADDRESS', 'ann@example.org')]
"""

from __future__ import annotations

from tamis.pii.actions import ACTIONS, Action, Hash, Mask, Redact, Replace, Substitute
from tamis.pii.entities import ALIASES, ENTITIES, PATTERN_ENTITIES, Entity
from tamis.pii.model_detector import ModelDetector
from tamis.pii.modifier import PiiModifier, PiiSpans
from tamis.pii.patterns import MIN_SCORE, PatternDetector, detect
from tamis.pii.presidio_detector import PresidioDetector
from tamis.pii.redact import redact
from tamis.pii.spacy_detector import SpacyDetector
from tamis.pii.spans import Detector, Finder, Span, resolve

__all__ = [
    "ACTIONS",
    "ALIASES",
    "ENTITIES",
    "MIN_SCORE",
    "PATTERN_ENTITIES",
    "Action",
    "Detector",
    "Entity",
    "Finder",
    "Hash",
    "Mask",
    "ModelDetector",
    "PatternDetector",
    "PiiModifier",
    "PiiSpans",
    "PresidioDetector",
    "Redact",
    "Replace",
    "SpacyDetector",
    "Span",
    "Substitute",
    "detect",
    "redact",
    "resolve",
]
