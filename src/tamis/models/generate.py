"""Short answers of a language model: to many documents with one fixed prompt around each, or to prompts of their own.

Two engines stand behind :class:`Generator`: ``transformers``, on any device (:mod:`tamis.models.decoder`), and vLLM
where it is installed (:mod:`tamis.models.vllm_engine`). Both are given exact token ids by :class:`PromptTokenizer`.
Behind :class:`Continuer` stand :mod:`tamis.models.batch_decoder` and vLLM again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tamis.errors import ModelError, UsageError

__all__ = [
    "Answer",
    "Continuation",
    "Continuer",
    "Decoding",
    "Generator",
    "Ids",
    "PromptTokenizer",
    "Request",
    "Rules",
    "Template",
]

Ids = npt.NDArray[np.int32]
PLACEHOLDER = "{document}"


@dataclass(frozen=True)
class Template:
    """The text before and after a document."""

    prefix: str
    suffix: str

    @classmethod
    def parse(cls, text: str, *, where: str) -> Template:
        """Cut a text at its one ``{document}``; all other braces mean themselves.

        Raises:
            UsageError: The placeholder is not there, or more than once.
        """
        found = text.count(PLACEHOLDER)
        if found != 1:
            message = (
                f"{where}: a prompt template holds {PLACEHOLDER} exactly once, where the document goes; "
                f"here it is {'missing' if not found else f'there {found} times'}."
            )
            raise UsageError(message)
        prefix, _, suffix = text.partition(PLACEHOLDER)
        return cls(prefix, suffix)

    @classmethod
    def read(cls, path: Path, *, who: str) -> Template:
        """The template in a UTF-8 file; a single line end at the end of the file is not part of it.

        Raises:
            UsageError: The file cannot be read, or is no template.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            message = f"{who}: the prompt template {path} cannot be read: {error}"
            raise UsageError(message) from error
        return cls.parse(text.removesuffix("\n"), where=f"{who}: {path}")


@dataclass(frozen=True)
class Decoding:
    """Greedy decoding, and when it ends: at the end-of-text token, when the answer is decided, or at the bound."""

    decided: Callable[[str], bool]
    """Whether more text would not change what is read from this text."""
    max_new_tokens: int = 64
    pattern: str | None = None
    """A regular expression of the answers wanted; held by engines that can hold a model to one."""


@dataclass(frozen=True)
class Answer:
    """What the model wrote for one document."""

    text: str
    """Without special tokens."""
    tokens: int
    """Tokens generated, the one that ends the text included."""


class Generator(Protocol):
    """Documents in, one answer each out, in order. Counts tokens and seconds with :func:`tamis.meter.count`."""

    def __call__(self, documents: Sequence[str]) -> list[Answer]:
        """The answers. They do not depend on which documents are asked together, beyond rounding."""
        ...


# -- prompts of their own ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """One prompt."""

    ids: list[int]
    """Its tokens, at least one."""
    key: str
    """Whose it is: with the seed, what a sampled answer depends on."""


@dataclass(frozen=True)
class Rules:
    """How prompts are answered."""

    max_new_tokens: int = 32
    temperature: float = 0.0
    """0 takes the likeliest token; more samples."""
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    """An answer ends before the first of these."""
    tags: tuple[str, ...] | None = None
    """The closed set that an answer is a comma list of."""


@dataclass(frozen=True)
class Continuation:
    """What the model wrote after a prompt."""

    text: str
    """Without special tokens and stop strings."""
    tokens: int
    """Tokens generated, the one that ends the text included."""
    tags: list[str] | None = None
    """What it names of the closed set; None where there is none."""


class Continuer(Protocol):
    """Prompts in, one answer each out, in order. Counts tokens and seconds with :func:`tamis.meter.count`."""

    def __call__(self, requests: Sequence[Request]) -> list[Continuation]:
        """The answers. They do not depend on which prompts are asked together, beyond rounding."""
        ...


# -- one fixed prompt around documents -----------------------------------------------------------------------

_PROBES = (
    *(
        "",
        " ",
        "\n",
        "\n\n",
        "a",
        "A word",
        " a",
        "  a",
        "The",
        "0",
        "10 %",
        ".",
        ",",
        "...",
        '"',
        "'s",
        "(",
        "[",
        "<a>",
    ),
    *("é", "ß", "日本", "ع", "\u00a0", "\u200b", "👍", "\t", "\r\n", "User:", "https://", "_", "##", "e\u0301", "s"),
)
"""Beginnings of documents. What merges with none of these is taken as the fixed part of the prompt; it is compared
again for every document."""
_CONTEXT = 160
"""Characters of the prefix that are tokenised again with each document: more than any token or merge reaches back."""
_LEAST_ROOM = 16
"""Tokens of a document that must fit, or the template is too long for the model."""
_CHARACTERS_PER_TOKEN = 32
"""A document is first cut to this many characters per token of the window; Llama's longest tokens are 16 spaces."""


class PromptTokenizer:
    """The token ids of ``prefix + document + suffix`` as of one string, cut in the document where they are too many.

    Tokens merge across the borders of the document ("User: " and "a" give "User", ":", " a"), so the parts cannot be
    encoded apart. What is always the same is found by comparing whole prompts of different documents
    (:attr:`shared`), and only the end of the prefix is encoded again with each document. A document whose beginning
    merges further back than any seen has its own whole prompt encoded.
    """

    def __init__(self, tokenizer: Any, template: Template, limit: int, *, who: str) -> None:
        if not tokenizer.is_fast:
            message = f"{who}: the tokenizer must have a tokenizer.json (it gives no offsets into the text)."
            raise ModelError(message)
        self._fast = tokenizer.backend_tokenizer
        self._fast.no_padding()
        self._fast.no_truncation()
        self._template = template
        self._limit = limit
        bos = tokenizer.bos_token
        # A template that writes the beginning-of-text token out must not get a second one.
        self._special = not (bos and template.prefix.startswith(bos))
        whole = [self._ids(template.prefix + probe + template.suffix) for probe in _PROBES]
        # One token less than the shortest, so that every prompt has a token to be run.
        self.shared: Ids = whole[0][: min(len(whole[0]) - 1, *(_common(whole[0], ids) for ids in whole[1:]))]
        """The first tokens of every prompt, int32."""
        if len(whole[0]) + _LEAST_ROOM > limit:
            message = (
                f"{who}: the prompt without any document has {len(whole[0])} tokens, and {limit} fit: no document can "
                "be shown. Use a shorter prompt template, or a model with a longer window."
            )
            raise ModelError(message)
        self._head, self._context, self._spare = self._short_context(whole)

    def _ids(self, text: str) -> Ids:
        return np.asarray(self._fast.encode(text, add_special_tokens=self._special).ids, dtype=np.int32)

    def _short_context(self, whole: list[Ids]) -> tuple[Ids, str, Ids]:
        """``(head, context, spare)``: a prompt is head + the ids of context + document + suffix without the spare ones.

        The context is the end of the prefix from a line end on. The spare ids are what its beginning gives, where the
        prefix is not before it. If the ids do not agree from some token on, the same for all probes, the context is
        the whole prefix.
        """
        nothing = np.empty(0, dtype=np.int32)
        prefix = self._template.prefix
        start = prefix.rfind("\n", 0, max(0, len(prefix) - _CONTEXT))
        if start > 0:
            short = [self._ids(prefix[start:] + probe + self._template.suffix) for probe in _PROBES]
            ends = [_common(a[::-1], b[::-1]) for a, b in zip(whole, short, strict=True)]
            heads = {len(ids) - end for ids, end in zip(whole, ends, strict=True)}
            spares = {len(ids) - end for ids, end in zip(short, ends, strict=True)}
            if len(heads) == len(spares) == 1:
                head, spare = heads.pop(), spares.pop()
                if head < len(self.shared) and all((ids[:spare] == short[0][:spare]).all() for ids in short):
                    return self.shared[:head], prefix[start:], short[0][:spare]
        return nothing, prefix, nothing

    def __call__(self, documents: Sequence[str]) -> list[Ids]:
        """The ids of each prompt, int32, each at most the limit."""
        characters = self._limit * _CHARACTERS_PER_TOKEN
        texts = [self._context + document[:characters] + self._template.suffix for document in documents]
        encoded = self._fast.encode_batch_fast(texts, add_special_tokens=self._special)
        prompts = []
        for document, encoding in zip(documents, encoded, strict=True):
            ids = self._joined(np.asarray(encoding.ids, dtype=np.int32), document[:characters])
            prompts.append(ids if len(ids) <= self._limit else self._cut(document[:characters]))
        return prompts

    def _joined(self, ids: Ids, document: str) -> Ids:
        spare = len(self._spare)
        if not np.array_equal(ids[:spare], self._spare):
            return self._ids(self._template.prefix + document + self._template.suffix)
        return np.concatenate([self._head, ids[spare:]])

    def _cut(self, document: str) -> Ids:
        """The prompt with the longest beginning of the document that fits, within a token or two."""
        prefix, suffix = self._template.prefix, self._template.suffix
        while True:
            encoding = self._fast.encode(prefix + document + suffix, add_special_tokens=self._special)
            over = len(encoding.ids) - self._limit
            if over <= 0 or not document:
                return np.asarray(encoding.ids, dtype=np.int32)
            first, last = len(prefix), len(prefix) + len(document)
            ends = [end - first for _, end in encoding.offsets if first < end <= last]
            # Characters of several tokens (bytes) end together: always take at least one character away.
            end = ends[-1 - over] if over < len(ends) else 0
            document = document[: min(end, len(document) - 1)]


def _common(a: Ids, b: Ids) -> int:
    """How many ids two prompts begin with alike."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n
