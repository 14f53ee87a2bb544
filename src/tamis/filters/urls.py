"""A filter on the address that a document comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.errors import InputError, UsageError
from tamis.filters.base import DocumentFilter
from tamis.filters.lists import list_files_of, read_bytes, read_lines
from tamis.models.one_file import Stamp, hash_of, stamp
from tamis.text.hosts import Hashes, find_listed, hashes_of, parse_list, spelled
from tamis.text.phrases import MOST_PHRASES, count_phrases
from tamis.text.wordset import count_distinct

__all__ = ["UrlBlocklistFilter"]

_WHO = "UrlBlocklistFilter"
_NAMES = ("domains", "urls")
"""The files that a folder of lists is looked through for, as those of UT1 are called."""
_LONGEST = 1000
"""Characters of a host, from its end; names have 253 at most, and punycode takes their square."""
_SENTENCES = (
    "its domain is on the block list",
    "its address is on the block list",
    "a banned word is in its address",
    "several words are in its address that are banned together",
    "a banned part of a word is in its address",
)

Words = str | Sequence[str]


def _on_the_wire(address: str) -> str:
    """The address with its host as domain names are sent: percent signs undone, other letters than ASCII as xn--."""
    scheme, slashes, rest = address.partition("://")
    if not slashes:
        scheme, rest = "", address.removeprefix("//")
    stop = min((i for i in map(rest.find, "/?#\\") if i >= 0), default=len(rest))
    host, path = unquote(rest[:stop])[-_LONGEST:], rest[stop:]
    parts = []
    for part in host.replace("\u3002", ".").split("."):
        try:
            parts.append(part.encode("idna").decode("ascii"))
        except UnicodeError:  # too long, or letters that no name may have: then nobody lists it
            parts.append(part.encode("punycode").decode("ascii"))
    return f"{scheme}{slashes}{'.'.join(parts)}{path}"


@lru_cache(maxsize=4)
def _lists(paths: tuple[Path, ...], _when: tuple[Stamp, ...]) -> tuple[Hashes, Hashes]:
    """The domains and the addresses of some files. A million domains take 8 MB and half a second."""
    domains: list[npt.NDArray[np.uint64]] = [np.zeros(0, dtype=np.uint64)]
    addresses = [np.zeros(0, dtype=np.uint64)]
    for path in paths:
        content = read_bytes(path, _WHO)
        *found, others, bad = parse_list(content)
        if others:
            again = "\n".join(map(_on_the_wire, others))
            *more, _, _ = parse_list(again.encode("ascii", "ignore"))
            found = [np.concatenate(pair) for pair in zip(found, more, strict=True)]
        if bad:
            line = next(islice(content.split(b"\n"), bad - 1, None)).decode("utf-8", "replace").strip()
            message = (
                f"{_WHO}: line {bad} of {path} is neither a domain, an address nor a line of a hosts file: "
                f"{line[:80]!r}. Write one to a line; comments begin with #."
            )
            raise InputError(message)
        domains.append(found[0])
        addresses.append(found[1])
    return hashes_of(np.concatenate(domains)), hashes_of(np.concatenate(addresses))


@dataclass(frozen=True)
class UrlBlocklistFilter(DocumentFilter):
    """Keeps documents whose address is on no block list and holds no banned word.

    It reads a column of addresses: name it as ``text_field``. A listed domain stands for all below it; a listed address
    for all that begin with it, up to a "/", "?" or "&", with or without "www.". Hosts are compared as they are sent:
    in small letters, without scheme, user, port and last dot, other letters than ASCII as xn--; IP addresses as they
    are written. Words are the runs of letters and digits of an address.

    Score: 0 where it is kept, else the number of the first rule that holds: 1 the domain is listed, 2 the address is
        listed, 3 it holds a banned word, 4 it holds ``min_soft_words`` different words of ``soft_banned_words``, 5 its
        letters and digits, written without gaps, hold one of ``banned_subwords``.
    Range: 0 to 5, int64.
    Empty text: 0 (kept).
    Source: Penedo et al. 2023 (RefinedWeb, arXiv:2306.01116), appendix G.1, and Penedo et al. 2024 (FineWeb,
        arXiv:2406.17557), section 3.1: the domains of UT1 and three lists of words. No list comes with Tamis.
    Relations: datatrove's URL filter compares the name of a domain without its ending with the list, so that little of
        the list is ever found, compares the case of words, and stops the run at a document without an address.
    """

    lists: Words = ()
    """Files with a domain or an address on each line, or in the form of hosts files; and folders, of which the files
    called ``domains`` and ``urls`` are read, as UT1 has them."""
    banned_words: Words = ()
    """Words, or a file with one on each line."""
    soft_banned_words: Words = ()
    """Words that only several together are banned by, or a file with one on each line."""
    banned_subwords: Words = ()
    """Parts of words, or a file with one on each line."""
    min_soft_words: int = 2
    """How many different soft words ban an address."""

    score_type: ClassVar[pa.DataType] = pa.int64()

    def __post_init__(self) -> None:
        for name in ("lists", "banned_words", "soft_banned_words", "banned_subwords"):
            value = getattr(self, name)
            if not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))
        if not (self.lists or self.banned_words or self.soft_banned_words or self.banned_subwords):
            message = f"{_WHO}: there is nothing to look for. Name lists, banned_words or banned_subwords."
            raise UsageError(message)
        if self.min_soft_words < 1:
            message = f"{_WHO}: min_soft_words must be 1 or more; got {self.min_soft_words}."
            raise UsageError(message)
        for words in (self.banned_words, self.soft_banned_words, self.banned_subwords):
            blank = [] if isinstance(words, str) else [w for w in words if not _spelled_word(w, " ").strip()]
            if blank:
                message = f"{_WHO}: {blank[0]!r} has neither letters nor digits, so no address holds it."
                raise UsageError(message)
        self._files()

    def _files(self) -> tuple[Path, ...]:
        """All files that are named."""
        words = (self.banned_words, self.soft_banned_words, self.banned_subwords)
        named = [w for w in words if isinstance(w, str) and w]
        return (*list_files_of(self.lists, _NAMES, _WHO), *list_files_of(named, (), _WHO))

    def identity(self) -> Mapping[str, str]:
        """A hash of each file."""
        return {str(path): hash_of(path) for path in self._files()}

    def score_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The number of the first rule that holds."""
        scores = np.zeros(len(texts), dtype=np.int64)
        if self.lists:
            files = list_files_of(self.lists, _NAMES, _WHO)
            domains, addresses = _lists(files, tuple(map(stamp, files)))
            found = find_listed(texts, domains, addresses)
            odd = np.flatnonzero(found < 0)
            if len(odd):
                sent = [_on_the_wire(text) for text in texts.take(pa.array(odd)).to_pylist()]
                found[odd] = np.maximum(find_listed(pa.array(sent, pa.large_string()), domains, addresses), 0)
            scores += found
        hard, soft, parts = map(_words, (self.banned_words, self.soft_banned_words, self.banned_subwords))
        if hard or soft:
            words = spelled(texts, " ")
            if hard:
                scores[(scores == 0) & (count_distinct(words, hard) > 0)] = 3
            if soft:
                scores[(scores == 0) & (count_distinct(words, soft) >= self.min_soft_words)] = 4
        if parts:
            joined = spelled(texts, "")
            for i in range(0, len(parts), MOST_PHRASES):
                scores[(scores == 0) & (count_phrases(joined, parts[i : i + MOST_PHRASES]) > 0)] = 5
        return pa.array(scores)

    def score_document(self, text: str) -> int:
        """The number of the first rule that holds for one address."""
        return int(self.score_batch(pa.array([text], pa.large_string()))[0].as_py())

    def keep_document(self, score: int) -> bool:
        """Whether none holds."""
        return score == 0

    def reasons(self, scores: pa.Array) -> pa.StringArray:
        """Which rule holds."""
        return pa.array([None, *_SENTENCES], pa.string()).take(scores)


def _spelled_word(word: str, gap: str) -> str:
    return str(spelled(pa.array([word], pa.large_string()), gap)[0].as_py())


def _words(given: Words) -> tuple[str, ...]:
    """The words of a list, or of a file, in small letters and without what no word of an address holds."""
    if isinstance(given, str):
        return _alone(tuple(line for path in list_files_of(given, (), _WHO) for line in read_lines(path, _WHO)))
    return _alone(tuple(given))


@lru_cache(maxsize=16)
def _alone(listed: tuple[str, ...]) -> tuple[str, ...]:
    found = (_spelled_word(word, "") for word in listed)
    return tuple(dict.fromkeys(word for word in found if word))
