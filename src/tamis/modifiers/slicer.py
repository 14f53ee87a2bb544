"""The modifier that keeps a part of a text."""

from __future__ import annotations

from dataclasses import dataclass

from tamis.errors import UsageError
from tamis.modifiers.base import DocumentModifier

__all__ = ["Slicer"]


@dataclass(frozen=True)
class Slicer(DocumentModifier):
    """Keeps the part of a text between two places, each a number of characters or a text that is looked for.

    Where a text that is looked for does not occur, or the right place is not behind the left, nothing is left: the
    empty text. Empty text: empty. Running it twice changes nothing more only where places are texts that are included;
    ``Slicer(5)`` takes five more characters each time.

    Source: NeMo Curator's modifier of this name.
    """

    left: int | str | None = 0
    """Where the part begins: at this character (from 0; negative from the end), or where this text first occurs."""
    right: int | str | None = None
    """Where it ends: before this character, or where this text last occurs; at the end by default."""
    include_left: bool = True
    """Whether the text that ``left`` names is part of it."""
    include_right: bool = True
    """Whether the text that ``right`` names is part of it."""
    strip: bool = True
    """Whether white space at its ends goes."""

    def __post_init__(self) -> None:
        for name, place in (("left", self.left), ("right", self.right)):
            if place == "" or isinstance(place, bool):
                message = f"Slicer: {name} must be a number of characters or a text to look for; got {place!r}."
                raise UsageError(message)

    def modify_document(self, text: str) -> str:
        """The part."""
        start, end = self.left or 0, len(text) if self.right is None else self.right
        if isinstance(start, str):
            found = text.find(start)
            if found < 0:
                return ""
            start = found if self.include_left else found + len(start)
        if isinstance(end, str):
            found = text.rfind(end)
            if found < 0:
                return ""
            end = found + len(end) if self.include_right else found
        part = text[start:end]
        return part.strip() if self.strip else part
