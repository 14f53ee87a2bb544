"""Made-up values that nobody has, from ranges that are reserved for documentation and fiction where there are any.

| entity | range | by |
|---|---|---|
| EMAIL_ADDRESS, URL | example.com, .org and .net | RFC 2606 |
| PHONE_NUMBER | 555-0100 to 555-0199; 020 7946 0000 to 0999 | NANPA; Ofcom |
| IP_ADDRESS | 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24; 2001:db8::/32 | RFC 5737; RFC 3849 |
| MAC_ADDRESS | 00-00-5E-00-53-00 to FF | RFC 7042 |
| CREDIT_CARD | 400000, 370000, 300000, 500000, and a right check digit | numbers of payment tests |
| IBAN | GB, the bank ZZZZ, and right check digits | no such bank |
| US_SSN, US_ITIN | 900 to 999, groups 10 to 49 | never given out (SSA, IRS) |
| UK_NHS | 999, and a right check digit | NHS, for tests |
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import ipaddress
import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from tamis.errors import MissingExtraError
from tamis.pii.checksums import luhn, nhs

if TYPE_CHECKING:
    from faker import Faker

__all__ = ["check_installed", "is_reserved", "maker", "version"]

Maker = Callable[[str, str, bytes], str | None]
"""From an entity, the value and 32 bytes of chance to a substitute; None where there is none of that kind."""

_AREAS: Final = ("202", "212", "303", "312", "404", "415", "512", "617", "702", "808")
_CARD_BEGINS: Final = {12: "500000", 14: "300000", 15: "370000", 17: "500000"}
_CARD_BEGIN: Final = "400000"
_NETS: Final = tuple(map(ipaddress.ip_network, ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")))
_DOMAINS: Final = ("example.com", "example.org", "example.net")
_RESERVED_HOST: Final = re.compile(r"(?:.+\.)?example\.(?:com|org|net)", re.IGNORECASE)
_MAC_BEGIN: Final = "00005E0053"
_MONTHS: Final = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"


def check_installed(who: str) -> None:
    """Raise :class:`MissingExtraError` where faker is not installed."""
    if find_spec("faker") is None:
        raise MissingExtraError.of(who, "faker", "pii")


def version() -> str:
    """The version of Faker."""
    return importlib.metadata.version("faker")


class _Draws:
    """Numbers that are a function of 32 bytes."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._left, self._size = int.from_bytes(seed), 1 << 256

    def below(self, n: int) -> int:
        """From 0 to n - 1, evenly but for a share of n / 2**64."""
        if self._size < n << 64:
            self._seed = hashlib.sha256(self._seed).digest()
            self._left, self._size = int.from_bytes(self._seed), 1 << 256
        self._left, drawn = divmod(self._left, n)
        self._size //= n
        return drawn

    def digits(self, n: int) -> str:
        """So many decimal digits."""
        return "".join(str(self.below(10)) for _ in range(n))


@lru_cache(maxsize=1)
def maker() -> Maker:
    """The function that makes substitutes up; loading Faker takes 40 ms."""
    from faker import Faker  # noqa: PLC0415  an extra, and only this action needs it

    fake = Faker("en_US")

    def make(entity: str, value: str, seed: bytes) -> str | None:
        draws = _Draws(seed)
        if entity in _OF_FAKER:
            fake.seed_instance(draws.below(1 << 64))
            return _OF_FAKER[entity](value, draws, fake)
        return _OF_SHAPE[entity](value, draws) if entity in _OF_SHAPE else None

    return make


# -- names and places ----------------------------------------------------------------------------------------


def _person(value: str, _: _Draws, fake: Faker) -> str:
    name = fake.first_name() if len(value.split()) == 1 else f"{fake.first_name()} {fake.last_name()}"
    return name.upper() if value.isupper() else name


def _email(_: str, draws: _Draws, fake: Faker) -> str:
    return f"{fake.user_name()}@{_DOMAINS[draws.below(3)]}"


def _address(_value: str, _draws: _Draws, fake: Faker) -> str:
    return fake.street_address()


def _location(_value: str, _draws: _Draws, fake: Faker) -> str:
    return fake.city()


def _url(value: str, draws: _Draws, fake: Faker) -> str:
    scheme = value.partition("://")[0] + "://" if "://" in value else ""
    host = _DOMAINS[draws.below(3)]
    # A word for each part of a path, so that a page and its site stay apart.
    parts = min(value.partition("://")[2].strip("/").count("/"), 3)
    return "/".join([scheme + ("" if scheme else "www.") + host, *(fake.word() for _ in range(parts))])


# -- numbers -------------------------------------------------------------------------------------------------


def _in_place(value: str, characters: str) -> str:
    """The value with its letters and digits replaced by these, one by one: separators stay where they are."""
    left = iter(characters)
    return "".join(next(left) if c.isalnum() else c for c in value)


def _plain(value: str) -> str:
    return "".join(c for c in value if c.isascii() and c.isalnum()).upper()


def _phone(value: str, draws: _Draws) -> str:
    digits = _plain(value)
    british = digits.startswith("44") if "+" in value or digits.startswith("0044") else digits.startswith("0")
    if british:
        end = f"7946 0{draws.digits(3)}"
        return f"+44 20 {end}" if "+" in value else f"020 {end}"
    made = f"{_AREAS[draws.below(len(_AREAS))]}55501{draws.digits(2)}"
    if digits.isdigit() and sum(map(str.isalnum, value)) == len(digits):
        if len(digits) == 10:
            return _in_place(value, made)
        if len(digits) == 11 and digits[0] == "1":
            return _in_place(value, "1" + made)
    return f"+1 {made[:3]}-{made[3:6]}-{made[6:]}"


def _card(value: str, draws: _Draws) -> str | None:
    size = len(_plain(value))
    if not 12 <= size <= 19 or sum(map(str.isalnum, value)) != size:
        return None
    begin = _CARD_BEGINS.get(size, _CARD_BEGIN) + draws.digits(size - 7)
    return _in_place(value, next(begin + c for c in "0123456789" if luhn(begin + c)))


def _iban(value: str, draws: _Draws) -> str:
    account = "ZZZZ" + draws.digits(14)
    check = 98 - int("".join(str(int(c, 36)) for c in account + "GB00")) % 97
    made = f"GB{check:02}{account}"
    return " ".join(made[i : i + 4] for i in range(0, len(made), 4)) if " " in value else made


def _social(value: str, draws: _Draws) -> str:
    made = f"9{draws.digits(2)}{10 + draws.below(40)}{draws.digits(4)}"
    return _in_place(value, made) if sum(map(str.isalnum, value)) == 9 else f"{made[:3]}-{made[3:5]}-{made[5:]}"


def _nhs(value: str, draws: _Draws) -> str | None:
    begin = "999" + draws.digits(6)
    made = next((begin + c for c in "0123456789" if nhs(begin + c)), None)
    if made is None:  # one in eleven has no check digit
        return None
    return _in_place(value, made) if sum(map(str.isalnum, value)) == 10 else f"{made[:3]} {made[3:6]} {made[6:]}"


def _ip(value: str, draws: _Draws) -> str:
    if ":" in value:
        return f"2001:db8::{draws.below(1 << 16):x}:{draws.below(1 << 16):x}"
    return f"{_NETS[draws.below(3)].network_address + 1 + draws.below(254)}"


def _mac(value: str, draws: _Draws) -> str:
    made = f"{_MAC_BEGIN}{draws.below(256):02X}"
    made = made.lower() if value.islower() else made
    return _in_place(value, made) if sum(map(str.isalnum, value)) == 12 else made


def _shape(value: str, draws: _Draws) -> str:
    """Letters for letters, digits for digits, the first digit 0."""
    made, digits = [], 0
    for c in value:
        if c.isdigit():
            made.append(str(draws.below(10)) if digits else "0")
            digits += 1
        elif c.isalpha():
            made.append(chr((65 if c.isupper() else 97) + draws.below(26)))
        else:
            made.append(c)
    return "".join(made)


def _date(value: str, draws: _Draws) -> str:
    day = date(1950, 1, 1) + timedelta(draws.below(25_000))
    if re.fullmatch(r"\d{4}", value):
        return f"{day.year}"
    if re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return day.isoformat()
    if parts := re.fullmatch(r"\d{1,2}([/.-])\d{1,2}\1(\d{4}|\d\d)", value):
        year = f"{day.year}"[-len(parts[2]) :]
        return parts[1].join((f"{day.month:02}", f"{day.day:02}", year))
    return f"{_MONTHS[4 * day.month - 4 :][:3]} {day.day}, {day.year}"


_OF_FAKER: Final[dict[str, Callable[[str, _Draws, Faker], str]]] = {
    "PERSON": _person,
    "EMAIL_ADDRESS": _email,
    "ADDRESS": _address,
    "LOCATION": _location,
    "URL": _url,
}
_OF_SHAPE: Final[dict[str, Callable[[str, _Draws], str | None]]] = {
    "PHONE_NUMBER": _phone,
    "CREDIT_CARD": _card,
    "IBAN": _iban,
    "US_SSN": _social,
    "US_ITIN": _social,
    "UK_NHS": _nhs,
    "US_PASSPORT": _shape,
    "US_DRIVER_LICENSE": _shape,
    "IP_ADDRESS": _ip,
    "MAC_ADDRESS": _mac,
    "DATE_TIME": _date,
}


# -- telling them again --------------------------------------------------------------------------------------


def is_reserved(entity: str, value: str) -> bool:
    """Whether a value lies in a range that belongs to nobody; of most texts' data, none does.

    >>> is_reserved("EMAIL_ADDRESS", "ann@example.org"), is_reserved("EMAIL_ADDRESS", "ann@ann.org")
    (True, False)
    """
    check = _RESERVED.get(entity)
    return check is not None and check(value)


def _is_email(value: str) -> bool:
    return _RESERVED_HOST.fullmatch(value.rpartition("@")[2]) is not None


def _is_url(value: str) -> bool:
    # Neither a user nor a query: those may say whose it is.
    rest = value.partition("://")[2] if "://" in value else value
    return "?" not in rest and "@" not in rest and _RESERVED_HOST.fullmatch(re.split("[/:#]", rest)[0]) is not None


def _is_phone(value: str) -> bool:
    return re.fullmatch(r"1?[2-9]\d\d55501\d\d|(?:0|44|0044)2079460\d{3}", _plain(value)) is not None


def _is_card(value: str) -> bool:
    digits = _plain(value)
    return digits.startswith(_CARD_BEGINS.get(len(digits), _CARD_BEGIN))


def _is_iban(value: str) -> bool:
    return re.fullmatch(r"GB\d\dZZZZ\d{14}", _plain(value)) is not None


def _is_social(value: str) -> bool:
    return re.fullmatch(r"9\d\d[1-4]\d{5}", _plain(value)) is not None


def _is_nhs(value: str) -> bool:
    return _plain(value).startswith("999")


def _is_ip(value: str) -> bool:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    return any(address in net for net in _NETS)


def _is_mac(value: str) -> bool:
    return _plain(value).startswith(_MAC_BEGIN)


_RESERVED: Final[dict[str, Callable[[str], bool]]] = {
    "EMAIL_ADDRESS": _is_email,
    "URL": _is_url,
    "PHONE_NUMBER": _is_phone,
    "CREDIT_CARD": _is_card,
    "IBAN": _is_iban,
    "US_SSN": _is_social,
    "US_ITIN": _is_social,
    "UK_NHS": _is_nhs,
    "IP_ADDRESS": _is_ip,
    "MAC_ADDRESS": _is_mac,
}
