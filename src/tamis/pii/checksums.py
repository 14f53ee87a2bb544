"""The check digits and ranges by which a number shows what it is. Each takes a text of digits and letters only."""

from __future__ import annotations

from typing import Final

__all__ = ["IBAN_LENGTHS", "card_issuer", "iban", "itin", "luhn", "nhs", "ssn"]

_IBAN_LENGTHS_TEXT: Final = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
    "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
    "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
IBAN_LENGTHS: Final[dict[str, int]] = {word[:2]: int(word[2:]) for word in _IBAN_LENGTHS_TEXT.split()}
"""Characters of an IBAN by country (SWIFT's IBAN registry)."""

_ITIN_GROUPS: Final = frozenset([*range(50, 66), *range(70, 89), *range(90, 93), *range(94, 100)])


def luhn(digits: str) -> bool:
    """Whether the digits fulfil Luhn's formula (ISO/IEC 7812-1, annex B). All zeros do not count.

    >>> luhn("4111111111111111"), luhn("4111111111111112")
    (True, False)
    """
    total = sum(map(int, digits[-1::-2])) + sum((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)[int(d)] for d in digits[-2::-2])
    return total % 10 == 0 and digits.strip("0") != ""


_ISSUERS: Final[tuple[tuple[str, int, int, frozenset[int]], ...]] = (
    # (name, first and last prefix, lengths); prefixes of one row have one number of digits.
    ("Visa", 4, 4, frozenset({13, 16, 18, 19})),
    ("Mastercard", 51, 55, frozenset({16})),
    ("Mastercard", 2221, 2720, frozenset({16})),
    ("American Express", 34, 34, frozenset({15})),
    ("American Express", 37, 37, frozenset({15})),
    ("Diners Club", 300, 305, frozenset({14, 16, 19})),
    ("Diners Club", 309, 309, frozenset({14, 16, 19})),
    ("Diners Club", 36, 36, frozenset({14, 16, 19})),
    ("Diners Club", 38, 39, frozenset({14, 16, 19})),
    ("Discover", 6011, 6011, frozenset({16, 19})),
    ("Discover", 644, 659, frozenset({16, 19})),
    ("JCB", 3528, 3589, frozenset({16, 19})),
    ("JCB", 1800, 1800, frozenset({15})),
    ("JCB", 2131, 2131, frozenset({15})),
    ("UnionPay", 62, 62, frozenset({16, 17, 18, 19})),
    ("UnionPay", 81, 81, frozenset({16, 17, 18, 19})),
    ("Maestro", 50, 50, frozenset(range(12, 20))),
    ("Maestro", 56, 58, frozenset(range(12, 20))),
    ("Maestro", 60, 60, frozenset(range(12, 20))),
    ("Maestro", 63, 63, frozenset(range(12, 20))),
    ("Maestro", 67, 69, frozenset(range(12, 20))),
    ("Mir", 2200, 2204, frozenset({16, 17, 18, 19})),
    ("RuPay", 82, 82, frozenset({16})),
)


def card_issuer(digits: str) -> str | None:
    """The scheme whose prefixes and lengths the digits have (ISO/IEC 7812 ranges as the schemes publish them).

    >>> card_issuer("4111111111111111")
    'Visa'
    """
    for name, first, last, lengths in _ISSUERS:
        if len(digits) in lengths and first <= int(digits[: len(str(first))]) <= last:
            return name
    return None


def iban(characters: str) -> bool:
    """Whether capitals and digits are an IBAN: the length of its country, and the 97-10 check (ISO 13616).

    >>> iban("GB82WEST12345698765432"), iban("GB82WEST12345698765433")
    (True, False)
    """
    if IBAN_LENGTHS.get(characters[:2]) != len(characters):
        return False
    return int("".join(str(int(c, 36)) for c in characters[4:] + characters[:4])) % 97 == 1


def ssn(digits: str) -> bool:
    """Whether nine digits may be a social security number.

    Area 000, 666 and 900 to 999, group 00 and serial 0000 are never given out (Social Security Administration).

    >>> ssn("078051120"), ssn("666051120")
    (True, False)
    """
    area = digits[:3]
    return area not in {"000", "666"} and area[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def itin(digits: str) -> bool:
    """Whether nine digits may be a taxpayer identification number: 9, and a group in use (IRS Publication 1915).

    >>> itin("912701234"), itin("912671234")
    (True, False)
    """
    return digits[0] == "9" and int(digits[3:5]) in _ITIN_GROUPS


def nhs(digits: str) -> bool:
    """Whether ten digits fulfil the check of an NHS number (weights 10 to 2, modulo 11; NHS Data Dictionary).

    >>> nhs("9434765919"), nhs("9434765918")
    (True, False)
    """
    check = 11 - sum((10 - i) * int(d) for i, d in enumerate(digits[:9])) % 11
    return check % 11 == int(digits[9]) and check != 10
