r"""Hashed n-gram features: the tokens of a text, and the buckets that its n-grams fall into, straight on UTF-8 bytes.

A text is put into lower case as ``str.lower()`` does. Its tokens are what ``re.findall(r"\w+|[^\w\s]+", text)`` finds,
what NLTK calls wordpunct. Its features are all n-grams of 1 to N tokens; each falls into one of ``num_buckets``.

Measured on one core (Zen 4) on documentation, uni- and bigrams: counting 645 MB/s, weighing 595; with SHA-256 70 and
75. The package ``data-selection`` does 2.0 and 1.9 on the same documents. A text in Cyrillic or Chinese is counted at
300 MB/s.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.errors import MissingExtraError, UnknownNameError, UsageError
from tamis.text.arrow import Bytes, Offsets, utf8
from tamis.text.lowered import tables
from tamis.text.ngram_kernel import How, Room, count_all, list_all, room_of, weigh_all

__all__ = ["HashedNgrams", "example_length", "least_features", "tokens_of"]

Hash = Literal["fast", "sha256"]
Tokenizer = Literal["wordpunct", "word_tokenize"]

_MOST_NGRAMS = 16
_MOST_BUCKETS = 1 << 29


@dataclass(frozen=True)
class HashedNgrams:
    """What the features of a text are: the same in a fit and in a weight, or neither means anything.

    Two texts that ``str.lower()`` and the tokenizer make the same have the same features. Null, empty and blank texts
    have none.
    """

    num_buckets: int = 10_000
    """How many numbers an n-gram may hash to, from 1 to 2**29."""
    ngrams: int = 2
    """The longest n-grams, in tokens, from 1 to 16; all shorter ones count, too."""
    hash: Hash = "fast"
    """``fast`` is a hash of 64 bits; ``sha256`` is the published one, with buckets equal to those of DSIR (the digest
    as one big integer modulo ``num_buckets``), at an eighth of the speed."""
    tokenizer: Tokenizer = "wordpunct"
    """``wordpunct``: runs of letters, digits and underscores, and runs of anything else that is not white space, as
    Python's ``re`` tells them apart. (NLTK from 3.10 on uses another engine, for which combining marks belong to words
    and superscript digits do not; one in a thousand documents has some.)
    ``word_tokenize``: NLTK's, which needs NLTK and its data, and runs at NLTK's speed, about 1 MB/s."""

    def __post_init__(self) -> None:
        for name, given, most in (
            ("num_buckets", self.num_buckets, _MOST_BUCKETS),
            ("ngrams", self.ngrams, _MOST_NGRAMS),
        ):
            if not 1 <= given <= most:
                message = f"{name} must be a number from 1 to {most}; got {given}."
                raise UsageError(message)
        if self.hash not in ("fast", "sha256"):
            raise UnknownNameError.of(self.hash, ["fast", "sha256"], kind="hash")
        if self.tokenizer not in ("wordpunct", "word_tokenize"):
            raise UnknownNameError.of(self.tokenizer, ["wordpunct", "word_tokenize"], kind="tokenizer")
        if self.tokenizer == "word_tokenize" and importlib.util.find_spec("nltk") is None:
            who = f"tokenizer={self.tokenizer!r}"
            raise MissingExtraError.of(who, "nltk", "select")

    def count(self, texts: pa.LargeStringArray, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Add the features of all texts to ``counts``, ``int64`` of shape (num_buckets,).

        Returns the number of features of each text, ``int64`` of shape (n,).
        """
        data, offsets, room = self._prepared(texts)
        features = np.empty(len(texts), dtype=np.int64)
        count_all(data, offsets, *tables(), room, self._how, counts, features)
        return features

    def weigh(
        self, texts: pa.LargeStringArray, ratios: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """The sum over each text's features of ``ratios``, ``float64`` of shape (num_buckets, targets).

        Returns the sums, ``float64`` of shape (n, targets), and the number of features of each text, ``int64`` of shape
        (n,). A sum depends on its text alone, to the last bit.
        """
        data, offsets, room = self._prepared(texts)
        features = np.empty(len(texts), dtype=np.int64)
        sums = np.empty((len(texts), ratios.shape[1]), dtype=np.float64)
        weigh_all(data, offsets, *tables(), room, self._how, np.ascontiguousarray(ratios), sums, features)
        return sums, features

    def buckets(self, texts: pa.LargeStringArray) -> list[npt.NDArray[np.int32]]:
        """The bucket of each feature of each text, in the order of :meth:`listed`."""
        data, offsets, room = self._prepared(texts)
        ends = np.empty(len(texts), dtype=np.int64)
        most = int(offsets[-1] - offsets[0])
        found = np.empty((most + most // 2) * self.ngrams, dtype=np.int32)
        list_all(data, offsets, *tables(), room, self._how, found, ends)
        return np.split(found[: ends[-1] if len(ends) else 0], ends[:-1]) if len(ends) else []

    def listed(self, text: str) -> list[str]:
        """The n-grams of one text: those that end at the first token, shortest first, at the second, and so on.

        In plain Python, at 5 MB/s; it says what the compiled code does.
        """
        tokens = _word_tokenize()(text.lower()) if self.tokenizer == "word_tokenize" else _WORDPUNCT(text.lower())
        return [
            " ".join(tokens[end - n : end])
            for end in range(1, len(tokens) + 1)
            for n in range(1, min(self.ngrams, end) + 1)
        ]

    @property
    def _how(self) -> How:
        return self.tokenizer != "wordpunct", self.ngrams, self.num_buckets if self.hash == "fast" else 0

    def _prepared(self, texts: pa.LargeStringArray) -> tuple[Bytes, Offsets, Room]:
        if self.tokenizer == "word_tokenize":
            split = _word_tokenize()
            texts = pa.array([" ".join(split((t or "").lower())) for t in texts.to_pylist()], pa.large_string())
        data, offsets = utf8(texts)
        longest = int(np.diff(offsets).max(initial=0))
        return data, offsets, room_of(longest, self.ngrams, self.num_buckets, sha256=self.hash == "sha256")


_WORDPUNCT = re.compile(r"\w+|[^\w\s]+").findall


def _word_tokenize() -> Callable[[str], list[str]]:
    """NLTK's tokenizer; its tokens hold no white space, so that joined by spaces they can be told apart again."""
    nltk = importlib.import_module("nltk")

    def split(text: str) -> list[str]:
        try:
            return list(nltk.word_tokenize(text))
        except LookupError as error:
            message = (
                "tokenizer='word_tokenize' needs data of NLTK that is not there. "
                "Run: python -m nltk.downloader punkt_tab"
            )
            raise UsageError(message) from error

    return split


# -- lengths --------------------------------------------------------------------------------------------------


def example_length(features: npt.NDArray[np.int64], ngrams: int) -> npt.NDArray[np.int64]:
    """The published length of documents of so many features, (features + n(n - 1) / 2) // n: tokens, from n - 1 on.

    >>> example_length(np.array([0, 1, 3, 199]), 2)
    array([  0,   1,   2, 100])
    """
    return np.asarray((features + ngrams * (ngrams - 1) // 2) // ngrams, dtype=np.int64)


def least_features(length: int, ngrams: int) -> int:
    """The fewest features of a document of at least this published length.

    >>> least_features(100, 2)
    199
    """
    return max(0, length * ngrams - ngrams * (ngrams - 1) // 2)


def tokens_of(features: npt.NDArray[np.int64], ngrams: int) -> npt.NDArray[np.int64]:
    """The tokens of documents of so many features: of t tokens, there are t - n + 1 n-grams of length n, if any.

    >>> tokens_of(np.array([0, 1, 3, 6, 9, 199]), 3)
    array([ 0,  1,  2,  3,  4, 67])
    """
    # Fewer tokens than n have t(t + 1) / 2 features.
    few = ((np.sqrt(8.0 * features + 1) - 1) / 2).astype(np.int64)
    return np.where(few < ngrams, few, example_length(features, ngrams))
