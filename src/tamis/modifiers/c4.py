"""The lines that C4 keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from tamis.errors import UsageError
from tamis.modifiers.base import DocumentModifier
from tamis.text.c4_lines import c4_lines
from tamis.text.phrases import MOST_PHRASES
from tamis.text.words import classes_for

__all__ = ["C4_PHRASES", "C4LineRemover"]

C4_PHRASES = (
    "javascript",
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
"""What tells the lines that C4 drops as notices: scripts that must be enabled, terms, privacy, cookies."""


@dataclass(frozen=True)
class C4LineRemover(DocumentModifier):
    """Keeps the lines of a text that are sentences, as C4 does, and takes citation marks out of them.

    A line stays if it ends in a mark that ends a sentence or a quotation mark (of any script) and not in an ellipsis,
    has enough words, none of them overlong, and holds none of the phrases. Lines are what line feeds divide; they lose
    the white space around them, and blank ones go. Citation marks are ``[12]``, ``[]``, ``[edit]`` and ``[citation
    needed]``. A text of which nothing goes is left as it is.

    Empty text: empty, as a text becomes none of whose lines stay.
    Source: Raffel et al. 2020 (JMLR 21(140), arXiv:1910.10683), section 2.2: terminal punctuation, at least 5 words,
    no "javascript", no policy notices, no citation marks. The bound for overlong words and the ellipsis are in the
    published code alone.
    Relations: the first version of the paper had 3 words, and datatrove's C4 filter has them still; FineWeb (Penedo
    et al. 2024, arXiv:2406.17557) takes all rules but the punctuation, ``terminal_punctuation=False``. Both published
    programs know English marks alone, keep the space before a citation at the end of a line, so that the line ends in
    none, and count a line of Chinese as one word. The rules for whole documents are filters:
    :func:`tamis.filters.c4_quality` has all of them in order.
    """

    min_words_per_line: int = 5
    """Fewest words of a line; 0 for no bound."""
    terminal_punctuation: bool = True
    """Whether a line must end as a sentence does."""
    max_word_length: int | None = 1000
    """Most characters of a word; a line with a longer one goes. None for no bound."""
    phrases: Sequence[str] = C4_PHRASES
    """Lines that hold one of these go, whatever the case of ASCII letters."""
    citations: bool = True
    """Whether citation marks go."""
    lang: str = "auto"
    """ISO 639 code of the texts' language, which says what a word is; "auto" goes by the script of each character."""

    def __post_init__(self) -> None:
        if self.min_words_per_line < 0:
            message = f"C4LineRemover: min_words_per_line must be 0 or more; got {self.min_words_per_line}."
            raise UsageError(message)
        if self.max_word_length is not None and self.max_word_length < 1:
            message = f"C4LineRemover: max_word_length must be 1 or more, or None; got {self.max_word_length}."
            raise UsageError(message)
        if isinstance(self.phrases, str) or not all(self.phrases) or len(self.phrases) > MOST_PHRASES:
            message = (
                f"C4LineRemover: phrases must be a list of at most {MOST_PHRASES} texts that are not empty; "
                f"got {self.phrases!r}."
            )
            raise UsageError(message)
        object.__setattr__(self, "phrases", tuple(self.phrases))
        classes_for(self.lang)

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts without the lines that go."""
        return c4_lines(
            texts,
            self.phrases,
            least_words=self.min_words_per_line,
            longest_word=self.max_word_length or 0,
            ended=self.terminal_punctuation,
            citations=self.citations,
            lang=self.lang,
        )
