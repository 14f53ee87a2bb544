"""Long texts in pieces that a model can take, and the labels of models as names of entities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tamis.pii.entities import ALIASES, ENTITIES

__all__ = ["LABELS", "entity_of", "pieces"]

LABELS: Final[dict[str, str]] = {
    **dict.fromkeys(("PER", "PERSON", "NAME", "FIRSTNAME", "MIDDLENAME", "LASTNAME", "GIVENNAME", "SURNAME"), "PERSON"),
    **dict.fromkeys(("FIRST_NAME", "LAST_NAME", "PRIVATE_PERSON", "PATIENT", "STAFF"), "PERSON"),
    **dict.fromkeys(("LOC", "GPE", "FAC", "CITY", "STATE", "COUNTY", "COUNTRY"), "LOCATION"),
    **dict.fromkeys(("STREET", "STREETADDRESS", "BUILDINGNUMBER", "BUILDINGNUM", "PRIVATE_ADDRESS"), "ADDRESS"),
    **dict.fromkeys(("PHONENUMBER", "TELEPHONENUM", "PRIVATE_PHONE"), "PHONE_NUMBER"),
    **dict.fromkeys(("DATE", "TIME", "DOB", "DATEOFBIRTH", "DATE_OF_BIRTH", "PRIVATE_DATE"), "DATE_TIME"),
    **dict.fromkeys(("CREDITCARDNUMBER", "CREDIT_DEBIT_CARD"), "CREDIT_CARD"),
    **dict.fromkeys(("SOCIALNUM", "SOCIAL_SECURITY_NUMBER"), "US_SSN"),
    **dict.fromkeys(("IP", "IPV4", "IPV6", "IPADDRESS"), "IP_ADDRESS"),
    **dict.fromkeys(("DRIVERLICENSENUM", "DRIVER_LICENSE"), "US_DRIVER_LICENSE"),
    **dict.fromkeys(("PASSPORT", "PASSPORTNUM", "PASSPORT_NUMBER"), "US_PASSPORT"),
    **dict.fromkeys(("SECRET", "PASSWORD"), "API_KEY"),
    "MAC": "MAC_ADDRESS",
    "PRIVATE_EMAIL": "EMAIL_ADDRESS",
    "PRIVATE_URL": "URL",
}
"""What the labels of published models mean here. Others (organisations, works of art, "MISC") are nobody's data."""


def entity_of(label: str, entity_map: Mapping[str, str | None] | None = None) -> str | None:
    """The entity that a model's label means, without what it says about begin and end; None where it is none.

    >>> entity_of("PER"), entity_of("email"), entity_of("ORG"), entity_of("ORG", {"ORG": "ORGANIZATION"})
    ('PERSON', 'EMAIL_ADDRESS', None, 'ORGANIZATION')
    """
    if entity_map is not None and label in entity_map:
        return entity_map[label]
    upper = label.upper()
    known = LABELS.get(upper) or ALIASES.get(upper, upper)
    return known if known in ENTITIES else None


def pieces(text: str, most: int) -> Iterator[tuple[int, str]]:
    """The text in pieces of at most ``most`` characters and where each begins, cut at white space where there is any.

    >>> list(pieces("to be or not to be", 10))
    [(0, 'to be or '), (9, 'not to be')]
    """
    at = 0
    while len(text) - at > most:
        # The last fifth of a piece is looked through for white space.
        cut = at + most
        space = next((i for i in range(cut, cut - most // 5, -1) if text[i - 1].isspace()), cut)
        yield at, text[at:space]
        at = space
    yield at, text[at:] if at else text
