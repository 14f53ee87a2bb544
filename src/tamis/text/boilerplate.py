"""Phrases that give away paragraphs about terms, privacy and cookies.

Source: C4 (Raffel et al. 2020, arXiv:1910.10683). A text with ``LOREM_IPSUM`` is a draft.
"""

from __future__ import annotations

__all__ = ["LOREM_IPSUM", "POLICY_PHRASES"]

POLICY_PHRASES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
LOREM_IPSUM = "lorem ipsum"
