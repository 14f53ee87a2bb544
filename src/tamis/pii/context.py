"""Words near a match that make it more likely, or rule it out."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["AFTER", "BEFORE", "BONUS", "Context"]

BEFORE: Final = 48
"""Characters before a match in which its words are looked for."""
AFTER: Final = 20
"""Characters behind it."""
BONUS: Final = 0.35
"""What a word near a match adds to its score; a score is never above 1."""


class Context:
    """Words one of which near a match speaks for it. Capitals do not matter, and a plural is understood.

    >>> Context("tax id").near("my tax ID is 912-70-1234", 13, 24)
    True
    """

    __slots__ = ("_words",)

    def __init__(self, *words: str) -> None:
        # An underscore before it or a digit behind may join a word to others: user_phone, phone2.
        alternatives = "|".join(re.escape(word).replace(r"\ ", r"[\s_-]?") for word in words)
        source = rf"(?<![A-Za-z0-9])(?:{alternatives})(?:s|es|'s)?(?![A-Za-z])"
        self._words = re.compile(source, re.IGNORECASE | re.ASCII)

    def near(self, text: str, start: int, end: int) -> bool:
        """Whether one of the words lies within :data:`BEFORE` characters before the match, or :data:`AFTER` behind."""
        return self.before(text, start) or self.behind(text, end)

    def before(self, text: str, start: int, reach: int = BEFORE) -> bool:
        """Whether one of the words lies within ``reach`` characters before the match."""
        return self._words.search(text, max(0, start - reach), start) is not None

    def behind(self, text: str, end: int) -> bool:
        """Whether one of the words lies within :data:`AFTER` characters behind the match."""
        return self._words.search(text, end, end + AFTER) is not None
