"""The shapes that :mod:`tamis.text.pii_scan` knows: what a byte is, how words begin, and walks over digits.

Every walk is bounded by 260 bytes at most, or its caller remembers how far it went.
"""

from __future__ import annotations

from typing import Final

import numba as nb
import numpy as np
import numpy.typing as npt

from tamis.text.arrow import Bytes

__all__ = [
    "ADDRESS",
    "ALONE",
    "AT",
    "BOX",
    "CARD",
    "COLON",
    "COLONS",
    "DATE",
    "DIGIT",
    "EMAIL",
    "FAR",
    "FIFTH",
    "IBAN",
    "IDENTIFIER",
    "INNER",
    "IPV4",
    "KEY",
    "KINDS",
    "LETTER",
    "MONTH",
    "NEAR",
    "OPEN",
    "PAPER",
    "PEM",
    "PHONE",
    "PLACE",
    "PLUS",
    "SECRET",
    "SPAN",
    "SSN",
    "TOKEN",
    "URL",
    "WEEKDAY",
    "WORDS",
    "WWW",
    "begins",
    "email_start",
    "is_alnum",
    "is_digit",
    "is_hex",
    "is_ipv4",
    "is_letter",
    "luhn",
    "phone",
    "run",
]

EMAIL: Final = 1
URL: Final = 2
IPV4: Final = 4
COLONS: Final = 8
"""Hexadecimal digits with colons: IPv6 and MAC addresses."""
CARD: Final = 16
IBAN: Final = 32
SSN: Final = 64
IDENTIFIER: Final = 128
"""Six to fourteen digits, perhaps behind one or two letters, or 4-2-4 digits."""
DATE: Final = 256
ADDRESS: Final = 512
KEY: Final = 1024
PEM: Final = 2048
PHONE: Final = 4096

DIGIT, LETTER, AT, COLON, PLUS, OPEN, _DASH = 1, 2, 3, 4, 5, 6, 7
MONTH, WEEKDAY, PLACE, BOX, TOKEN, SECRET, WWW, PAPER = 1, 2, 4, 8, 16, 32, 64, 128
FAR, ALONE, INNER = 0, 1, 2
"""Where digits stand: behind a plus, 00 or a bracket; by themselves; behind other digits."""
NEAR = 256
"""Bytes behind a word for a paper in which a bare number may be that paper's: 48 characters and the word itself."""
SPAN = 80
"""How far a walk goes that is not remembered."""


def _byte_kinds() -> npt.NDArray[np.uint8]:
    kinds = np.zeros(256, dtype=np.uint8)
    for byte in range(256):
        if chr(byte).isascii() and chr(byte).isalnum():
            kinds[byte] = DIGIT if chr(byte).isdigit() else LETTER
    for character, kind in (("@", AT), (":", COLON), ("+", PLUS), ("(", OPEN), ("-", _DASH)):
        kinds[ord(character)] = kind
    return kinds


_FIFTHS = {".": 27, " ": 28, "_": 29, "-": 30}
"""What stands for the characters that are no letters in the five bits of a word's beginning; 31 for a digit."""


def _fifth_table() -> npt.NDArray[np.uint16]:
    table = np.zeros(256, dtype=np.uint16)
    for byte in range(128):
        character = chr(byte).lower()
        if character.isalpha():
            table[byte] = ord(character) - 96
        elif character.isdigit():
            table[byte] = 31
    for character, value in _FIFTHS.items():
        table[ord(character)] = value
    return table


_BEGINNINGS = {
    MONTH: "jan feb mar apr may jun jul aug sep oct nov dec",
    WEEKDAY: "mon tue wed thu fri sat sun",
    PLACE: "apt apa sui ste uni psc fla box",
    TOKEN: "aki asi ghp gho ghu ghs ghr git glp xox eyj aiz npm pyp hvs shp ya2 dop hf_ sk- sk_ rk_ pk_ sg.",
    SECRET: "api sec acc aut tok cli pas",
    WWW: "www",
    PAPER: "lic pas tra dri dl~ dl. dl_ dl- per dmv ssn ss~ soc iti tin tax",
}
"""The first three characters of words that are looked at, by what is then looked for."""


def _word_table() -> npt.NDArray[np.uint8]:
    fifths = _fifth_table()
    table = np.zeros(1 << 15, dtype=np.uint8)
    for kind, words in _BEGINNINGS.items():
        for word in words.split():
            a, b, c = (int(fifths[ord(x)]) for x in word)
            table[(a << 10) | (b << 5) | c] |= kind
    for word in ("p.o", "po ", "po.", "pos", "p o", "p. ", "dl ", "ss "):
        a, b, c = (int(fifths[ord(x)]) for x in word)
        table[(a << 10) | (b << 5) | c] |= BOX if word[0] == "p" else PAPER
    return table


KINDS = _byte_kinds()
FIFTH = _fifth_table()
WORDS = _word_table()


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def is_digit(byte: int) -> bool:
    """0 to 9."""
    return 48 <= byte <= 57


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def is_letter(byte: int) -> bool:
    """A to Z and a to z."""
    return 97 <= (byte | 32) <= 122 and byte < 128


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def is_alnum(byte: int) -> bool:
    """A letter or a digit."""
    return is_digit(byte) or is_letter(byte)


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def is_hex(byte: int) -> bool:
    """0 to 9, A to F, a to f."""
    return is_digit(byte) or 97 <= (byte | 32) <= 102


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _is_local(byte: int) -> bool:
    """Whether it may stand before an '@': letters, digits, ``. _ % + -``, and the characters from À to Կ."""
    return is_alnum(byte) or byte >= 128 or byte in (46, 95, 37, 43, 45)


@nb.njit(nogil=True, cache=True, _nrt=False)
def email_start(data: Bytes, start: int, at: int, end: int) -> int:
    """Where the name before the '@' begins, or -1: no name of 1 to 64 characters, or no domain with a dot behind."""
    j = at + 1
    while j < end and j - at <= 260 and (is_alnum(data[j]) or data[j] == 45 or data[j] >= 128):
        j += 1
    if j == at + 1 or j + 1 >= end or data[j] != 46 or not (is_alnum(data[j + 1]) or data[j + 1] >= 128):
        return -1
    i = at
    # 64 characters are up to 128 bytes here; a byte beyond that range of characters ends the name.
    while i > start and at - i <= 130 and _is_local(data[i - 1]):
        if data[i - 1] >= 128:
            if i - 2 < start or (data[i - 1] & 0xC0) != 0x80 or not 0xC3 <= data[i - 2] <= 0xD4:
                break
            i -= 2
        else:
            i -= 1
    return i if 0 < at - i <= 128 else -1


@nb.njit(nogil=True, cache=True, _nrt=False)
def luhn(data: Bytes, i: int, end: int) -> bool:
    """Whether 12 to 19 digits in one run, or in groups set off by one space or dash, fulfil Luhn's formula.

    Shorter beginnings that are followed by another group are tried as well.
    """
    even = 0  # the sum if the last digit is at an even place, and if at an odd one
    odd = 0
    count = 0
    j = i
    while j < end and count < 20:
        if not is_digit(data[j]):
            if data[j] not in (32, 45) or j + 1 >= end or not is_digit(data[j + 1]):
                break
            if 12 <= count <= 19 and (even if count % 2 == 0 else odd) % 10 == 0:
                return True
            j += 1
            continue
        digit = data[j] - 48
        double = 2 * digit - (9 if digit > 4 else 0)
        if count % 2 == 0:
            even += double
            odd += digit
        else:
            even += digit
            odd += double
        count += 1
        j += 1
    return 12 <= count <= 19 and (even if count % 2 == 0 else odd) % 10 == 0


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def run(data: Bytes, i: int, end: int, most: int) -> int:
    """How many digits there are from ``i`` on, up to ``most`` + 1."""
    j = i
    while j < end and j - i <= most and is_digit(data[j]):
        j += 1
    return j - i


@nb.njit(nogil=True, cache=True, _nrt=False)
def is_ipv4(data: Bytes, i: int, end: int) -> bool:
    """Whether four numbers of one to three digits begin at ``i``, with dots between."""
    j = i
    for part in range(4):
        size = run(data, j, end, 3)
        if size == 0 or size > 3:
            return False
        j += size
        if part < 3:
            if j >= end or data[j] != 46:
                return False
            j += 1
    return True


@nb.njit(nogil=True, cache=True, _nrt=False)
def phone(data: Bytes, i: int, end: int, how: int) -> bool:
    """Whether the groups of digits from ``i`` on may be a phone number, or begin with one.

    Groups are set off by one of ``space - . /``, or up to three characters with a bracket among them. Unless it is
    FAR they have 7 digits before the second group of one digit, and neither two groups nor one digit are followed by
    a dot: decimal fractions and lists of small numbers are none. With INNER, inside a longer row of numbers, only
    3-3-4 digits count, with or without 1 or 001 before them.
    """
    count = 0
    groups = 0
    singles = 0
    first = second = third = fourth = 0
    enough = False
    j = i
    limit = min(end, i + SPAN)
    while j < limit and count < 16:
        k = j
        while k < limit and is_digit(data[k]):
            k += 1
        size = k - j
        if size:
            groups += 1
            count += size
            if size == 1:
                singles += 1
            if groups == 1:
                first = size
            elif groups == 2:
                second = size
            elif groups == 3:
                third = size
            elif groups == 4:
                fourth = size
            if count >= 7 and (how == FAR or singles < 2):
                enough = True
        j = k
        bracket = False
        while k < limit and k - j < 3 and data[k] in (32, 45, 46, 47, 40, 41):
            bracket = bracket or data[k] in (40, 41)
            k += 1
        if k == j or k >= limit or not is_digit(data[k]) or (k - j > 1 and not bracket):
            break
        j = k
    if second == 3 and third == 4 and first in (3, 4, 6):
        return True
    if second == 3 and third == 3 and fourth == 4 and first in (1, 3):
        return True
    if how == INNER or not enough:
        return False
    if how == FAR:
        return True
    dotted = i + first < end and data[i + first] == 46
    return not dotted or (groups != 2 and first != 1)


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def begins(data: Bytes, i: int, end: int, fifths: npt.NDArray[np.uint16], words: npt.NDArray[np.uint8]) -> int:
    """What the three characters from ``i`` on are the beginning of."""
    if i + 2 >= end:
        return 0
    return nb.int64(words[(fifths[data[i]] << 10) | (fifths[data[i + 1]] << 5) | fifths[data[i + 2]]])
