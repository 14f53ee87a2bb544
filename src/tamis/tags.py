"""Tags of a document in the forms that data sets write them in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

__all__ = ["completion_tags", "format_tags", "parse_tags"]

_ANGLED = re.compile(r"<([^<>]+)>")
_QUOTES = "'\" \t\r\n"


def parse_tags(value: str | Sequence[str | None] | None) -> tuple[str, ...]:
    """The tags that a field holds: order kept, surrounding white space and repetitions removed.

    Understood are ``<a><b>`` and ``|a|b|`` (dumps of Stack Exchange before and since 2023), ``a, b``, a list in JSON or
    as Python shows one, and ``a b``: where nothing else divides, spaces do. ``None``, an empty text and an empty list
    hold none.

    >>> parse_tags("<contract-law><united-kingdom>")
    ('contract-law', 'united-kingdom')
    >>> parse_tags("|tax|usa|"), parse_tags("tax, usa"), parse_tags('["tax", "usa"]'), parse_tags("tax usa tax")
    (('tax', 'usa'), ('tax', 'usa'), ('tax', 'usa'), ('tax', 'usa'))
    """
    if value is None:
        return ()
    if not isinstance(value, str):
        return _distinct(str(tag) for tag in value if tag is not None)
    text = value.strip()
    if text.startswith("<") and text.endswith(">"):
        return _distinct(_ANGLED.findall(text))
    if text.startswith("[") and text.endswith("]"):
        return _listed(text)
    for divider in "|,":
        if divider in text:
            return _distinct(text.split(divider))
    return _distinct(text.split())


def _listed(text: str) -> tuple[str, ...]:
    try:
        return _distinct(str(tag) for tag in json.loads(text) if tag is not None)
    except json.JSONDecodeError:
        return _distinct(tag.strip(_QUOTES) for tag in text[1:-1].split(","))


def _distinct(tags: Iterable[str]) -> tuple[str, ...]:
    stripped = (tag.strip() for tag in tags)
    return tuple(dict.fromkeys(tag for tag in stripped if tag))


def format_tags(tags: Iterable[str]) -> str:
    """The tags as a completion: a plain list with commas.

    >>> format_tags(["contract-law", "united-kingdom"])
    'contract-law, united-kingdom'
    """
    return ", ".join(tags)


def completion_tags(completion: str) -> tuple[str, ...]:
    """What :func:`format_tags` wrote: only commas divide, so that a tag of several words stays one.

    >>> completion_tags("contract law, uk"), completion_tags("contract law"), completion_tags("")
    (('contract law', 'uk'), ('contract law',), ())
    """
    return _distinct(completion.split(","))
