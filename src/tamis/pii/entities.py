"""The names of what is looked for, as the field writes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tamis.errors import UnknownNameError

__all__ = ["ALIASES", "ENTITIES", "PATTERN_ENTITIES", "Entity", "canonical"]


@dataclass(frozen=True, slots=True)
class Entity:
    """What a name stands for."""

    description: str
    """What is found, in one line."""
    patterns: bool
    """Whether patterns find it; what they do not needs a model (a token classifier or a spaCy pipeline)."""
    checked: str = ""
    """What a match must fulfil besides its shape."""


ENTITIES: Final[dict[str, Entity]] = {
    "PERSON": Entity("Names of people", patterns=False),
    "EMAIL_ADDRESS": Entity("E-mail addresses", patterns=True),
    "PHONE_NUMBER": Entity(
        "Telephone and fax numbers with their extensions",
        patterns=True,
        checked="valid by the phonenumbers library, or a phone's word near it; never a date",
    ),
    "ADDRESS": Entity(
        "Street addresses as written in the United States and Britain, flats, suites and PO boxes", patterns=True
    ),
    "LOCATION": Entity("Towns, countries and other places", patterns=False),
    "URL": Entity("Web addresses with a scheme, or that begin with www.", patterns=True),
    "IP_ADDRESS": Entity("IPv4 and IPv6 addresses", patterns=True, checked="every part in range"),
    "CREDIT_CARD": Entity(
        "Payment card numbers of 12 to 19 digits", patterns=True, checked="Luhn's formula and an issuer's prefix"
    ),
    "IBAN": Entity("International bank account numbers", patterns=True, checked="length of the country, 97-10 check"),
    "US_SSN": Entity("United States social security numbers", patterns=True, checked="area, group and serial in use"),
    "US_ITIN": Entity("United States taxpayer identification numbers", patterns=True, checked="ranges in use"),
    "US_PASSPORT": Entity("United States passport numbers", patterns=True, checked="the word passport near it"),
    "US_DRIVER_LICENSE": Entity(
        "United States driver's license numbers", patterns=True, checked="the words driver's license near it"
    ),
    "UK_NHS": Entity("British NHS numbers", patterns=True, checked="check digit and a word near it"),
    "MAC_ADDRESS": Entity("Hardware addresses of network interfaces", patterns=True),
    "DATE_TIME": Entity("Dates with or without a time, weekdays, years in a phrase", patterns=True),
    "API_KEY": Entity("Access keys and tokens of known services, and values assigned to such names", patterns=True),
    "PRIVATE_KEY": Entity("Private keys in PEM armour", patterns=True),
}
"""Every entity by its name, in the order in which reports list them."""

ALIASES: Final[dict[str, str]] = {
    "IBAN_CODE": "IBAN",
    "EMAIL": "EMAIL_ADDRESS",
    "PHONE": "PHONE_NUMBER",
    "STREET_ADDRESS": "ADDRESS",
    "SSN": "US_SSN",
}
"""Other names in use for the same."""

PATTERN_ENTITIES: Final[tuple[str, ...]] = tuple(name for name, entity in ENTITIES.items() if entity.patterns)
"""The entities that patterns find."""


def canonical(names: Iterable[str], *, where: str = "") -> tuple[str, ...]:
    """The names as :data:`ENTITIES` has them, without repetitions, in the order given.

    Small letters and the names of :data:`ALIASES` are understood.

    Raises:
        UnknownNameError: A name is neither; the nearest one is offered.

    >>> canonical(["iban_code", "IBAN", "URL"])
    ('IBAN', 'URL')
    """
    found: dict[str, None] = {}
    for name in names:
        upper = name.upper()
        known = ALIASES.get(upper, upper)
        if known not in ENTITIES:
            raise UnknownNameError.of(name, [*ENTITIES, *ALIASES], kind="entity", where=where)
        found[known] = None
    return tuple(found)
