"""How surprising a text is to an n-gram model of the language (KenLM)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import pyarrow as pa

from tamis.errors import ModelError, UnknownNameError, UsageError, hint
from tamis.filters.bounded import BoundedFilter
from tamis.models.checkpoint import require_extra
from tamis.models.one_file import Stamp, hash_of, stamp

__all__ = ["PerplexityFilter", "ccnet_line"]

Normalizer = Literal["ccnet", "none"]

_DIGIT = re.compile(r"\d")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ASCII = {
    '"': "\u00ab\u00bb\u201c\u201d\u201e\u300a\u300b\u300c\u300d",
    "'": "\u00b4\u2019",
    "-": "\u2013\u2501\u25ba",
    ",": "\u3001\uff0c",
    ".": "\u3002",
    ". ": "\uff0e",
    "...": "\u2026",
    ":": "\u2236\uff1a",
    ";": "\uff1b",
    "?": "\uff1f",
    "!": "\uff01",
    "(": "\uff08",
    ")": "\uff09",
    "[": "\u3010",
    "]": "\u3011",
    "<": "\u3008",
    ">": "\u3009",
    "%": "\uff05",
    "~": "\uff5e",
    " - ": "\u2014",
}
"""Punctuation, and what of other scripts becomes it."""
_MARKS = str.maketrans({mark: ascii_ for ascii_, marks in _ASCII.items() for mark in marks})


def ccnet_line(line: str) -> str:
    """A line as CCNet's models were trained on it.

    Without white space around it, in lower case, without accents (what NFD makes nonspacing marks of), each digit 0,
    the punctuation of other scripts as ASCII, without control characters.

    >>> ccnet_line(" Café „N° 42“… ")
    'cafe "n° 00"...'
    """
    line = line.strip().lower()
    if not line.isascii():
        line = "".join(c for c in unicodedata.normalize("NFD", line) if unicodedata.category(c) != "Mn")
    return _UNPRINTABLE.sub("", _DIGIT.sub("0", line).translate(_MARKS))


_MAGIC = b"mmap lm http://kheafield.com/code format version"
_ARPA = re.compile(rb"\s*\\data\\\s")


_TRIAL = """
import sys, kenlm
model = kenlm.Model(sys.argv[1])
for sentence in ("the cat sat on the mat .", "", "a " * 50, chr(0x96E8) * 9):
    model.score(sentence)
"""
_SECONDS = 600
"""For reading a file of some gigabytes over a network."""


def _check_file(path: Path, who: str) -> bool:
    """Raise unless a file is there that begins as a model does; whether it is a binary one."""
    if not path.is_file():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        message = f"{who}: there is no file {str(path)!r}. {hint(path.name, beside) if beside else ''}"
        raise ModelError(message.rstrip())
    with path.open("rb") as file:
        head = file.read(4096)
    if not head.startswith(_MAGIC) and not _ARPA.match(head):
        message = f"{who}: {path} begins neither as an ARPA file (\\data\\) nor as a binary model of KenLM."
        raise ModelError(message)
    return head.startswith(_MAGIC)


def _try_elsewhere(path: Path, who: str) -> None:
    """Load a binary file in a process of its own: what dies of it is that process.

    KenLM trusts the tables of such a file. Of 675 small ones with one byte changed, 60 ended the process that asked
    them for a score, and 8 never answered; files cut short it refuses itself.
    """
    command = [sys.executable, "-c", _TRIAL, os.fspath(path)]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS)  # noqa: S603  our own
    except subprocess.TimeoutExpired as error:
        message = f"{who}: KenLM does not come to an end with {path}. It is damaged; take it from its source again."
        raise ModelError(message) from error
    if done.returncode < 0:
        message = f"{who}: KenLM crashes on {path}. It is damaged; take it from its source again."
        raise ModelError(message)


@lru_cache(maxsize=4)
def _language_model(path: Path, _when: Stamp, who: str) -> Any:
    import kenlm  # noqa: PLC0415  an extra of its own

    if _check_file(path, who):
        _try_elsewhere(path, who)
    config = kenlm.Config()
    config.show_progress, config.arpa_complain = False, kenlm.ARPALoadComplain.NONE
    try:
        return kenlm.Model(os.fspath(path), config)
    except (OSError, RuntimeError, MemoryError) as error:
        message = f"{who}: {path} cannot be loaded: {error}"
        raise ModelError(message) from error


@lru_cache(maxsize=4)
def _pieces_of(path: Path, _when: Stamp, who: str) -> Any:
    import sentencepiece  # noqa: PLC0415  an extra

    try:
        return sentencepiece.SentencePieceProcessor(model_file=os.fspath(path))
    except (OSError, RuntimeError) as error:
        message = f"{who}: {path} is no SentencePiece model: {error}"
        raise ModelError(message) from error


@dataclass(frozen=True)
class PerplexityFilter(BoundedFilter):
    r"""Keeps documents that an n-gram model of the language finds neither too surprising nor too predictable.

    Score: 10 ^ (-L / N). L is the sum of log10 p(line) over the lines with a token, where p(line) is the probability of
        the line's tokens and of the end of the sentence, given its beginning; N is the number of these tokens plus one
        for each line. Lines are what ``\n`` divides. Tokens are what white space divides, after the normalizer and
        SentencePiece; a token that the model does not know counts as its ``<unk>``.
    Range: 1 and up, infinite beyond float64. Lower is more like the text that the model was made of.
    Empty text: Null, as for any text without a token: no score, dropped.
    Source: Heafield 2011 (KenLM). Wenzek et al. 2020 (CCNet, arXiv:1911.00359) divide the documents of a language into
        three parts by it. 1,500 is the default of Data-Juicer's filter; a bound fits one model and one language.
    Relations: CCNet's class DocLM takes each line for a sentence, as here, and blank lines as well, so that more empty
        lines are another score. Its pipeline removes line feeds with the control characters before that, so that a
        document becomes one sentence in which the last word of a line is one with the first of the next. It rounds
        to one decimal. KenLM's own ``perplexity`` takes a whole document for one sentence.
    """

    model_path: str | os.PathLike[str]
    """File of the model: ARPA text, or binary of KenLM. A binary file is tried in a process of its own, and then
    trusted: take it from a source that you trust."""
    max_perplexity: float = 1500.0
    """Highest perplexity kept."""
    min_perplexity: float = 0.0
    """Lowest perplexity kept: text that repeats itself is predictable."""
    normalizer: Normalizer = "ccnet"
    """What is done to each line: "ccnet" lower-cases, takes off accents, makes digits 0 and punctuation ASCII, see
    :func:`ccnet_line`; "none" nothing."""
    sentencepiece_path: str | os.PathLike[str] | None = None
    """A SentencePiece model that divides lines into tokens, as CCNet's models need it."""

    low_setting: ClassVar[str] = "min_perplexity"
    high_setting: ClassVar[str] = "max_perplexity"
    too_low: ClassVar[str] = "its perplexity is below {}"
    too_high: ClassVar[str] = "its perplexity is above {}"

    def __post_init__(self) -> None:
        who = type(self).__name__
        if self.normalizer not in get_args(Normalizer):
            raise UnknownNameError.of(self.normalizer, get_args(Normalizer), kind="normalizer", where=who)
        if not 0 <= self.min_perplexity <= self.max_perplexity:
            message = f"{who}: the bounds {self.min_perplexity} and {self.max_perplexity} keep nothing."
            raise UsageError(message)
        require_extra(who, "kenlm", extra="kenlm")
        _check_file(Path(self.model_path).expanduser(), who)
        if self.sentencepiece_path is not None:
            require_extra(who, "sentencepiece", extra="kenlm")
            if not Path(self.sentencepiece_path).expanduser().is_file():
                message = f"{who}: there is no file {str(self.sentencepiece_path)!r} (sentencepiece_path)."
                raise ModelError(message)

    def identity(self) -> Mapping[str, str]:
        """Hashes of the models."""
        named = {"model": self.model_path, "sentencepiece": self.sentencepiece_path}
        paths = {name: Path(path).expanduser() for name, path in named.items() if path is not None}
        return {name: hash_of(path) for name, path in paths.items()}

    def bounds(self) -> tuple[float | None, float | None]:
        """Perplexities kept."""
        return self.min_perplexity, self.max_perplexity

    def score_document(self, text: str) -> float | None:
        """The perplexity of one text; what is no Unicode character is read as a question mark."""
        readable = text.encode("utf-8", "replace").decode()
        found: float | None = self.score_batch(pa.array([readable], pa.large_string()))[0].as_py()
        return found

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The perplexities, null where there is no token."""
        who, path = type(self).__name__, Path(self.model_path).expanduser()
        model = _language_model(path, stamp(path), who)
        tokens = self._tokens(who)
        scores = [self._perplexity(text, model, tokens) for text in texts.to_pylist()]
        return pa.array(scores, pa.float64())

    def _tokens(self, who: str) -> Callable[[str], str]:
        """What makes of a line the tokens, with spaces between them."""
        if self.sentencepiece_path is None:
            return str
        path = Path(self.sentencepiece_path).expanduser()
        pieces = _pieces_of(path, stamp(path), who)
        return lambda line: " ".join(pieces.encode(line, out_type=str))

    def _perplexity(self, text: str | None, model: Any, tokens: Callable[[str], str]) -> float | None:
        total, count = 0.0, 0
        for line in (text or "").split("\n"):
            sentence = tokens(ccnet_line(line) if self.normalizer == "ccnet" else line).encode()
            # The model ends a sentence at a NUL; white space is what bytes.split() takes for it.
            words = sentence.replace(b"\0", b" ").split()
            if words:
                total += model.score(b" ".join(words), bos=True, eos=True)
                count += len(words) + 1
        if not count:
            return None
        with np.errstate(over="ignore"):
            return float(np.power(10.0, -total / count))
