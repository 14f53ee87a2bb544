"""Telephone numbers: shapes that a region writes, numbers with a country code, and digits near a phone's words."""

from __future__ import annotations

import importlib
import importlib.util
import re
from functools import lru_cache
from typing import Any, Final

from tamis.errors import MissingExtraError
from tamis.pii.context import Context
from tamis.pii.pattern import Hit, Pattern, expression
from tamis.pii.patterns_dates import is_date
from tamis.pii.patterns_numbers import is_card
from tamis.text.pii_scan import PHONE

__all__ = ["check_installed", "phone_patterns"]

_SCORE_VALID: Final = 0.75
"""Of a number that the library knows as one in use: with a country code, or grouped as its region groups it."""
_SCORE_SHAPE: Final = 0.55
"""Of a possible number with a country code, and of 3-3-4 digits with an area code that none has."""
_SCORE_WORD: Final = 0.65
"""Of 7 to 15 digits, mostly in groups, near a phone's word."""
_SCORE_WORD_VALID: Final = 0.9

_WORDS = Context(
    "phone", "telephone", "telefon", "tel", "mobile", "cellphone", "cell phone", "cell number", "my cell", "cell:",
    "fax", "dial", "whatsapp", "sms", "hotline", "landline", "voicemail", "contact number", "desk:",
    "call me", "call us", "call him", "call her", "call them", "call someone", "call at", "call on", "called me",
    "ring me", "text me", "contact me", "reach me", "reach us", "answering at",
    "message to", "messages to", "message on my",
    "téléphone", "tél", "teléfono", "telefono", "telefone", "móvil", "celular", "cellulare", "rufnummer",
    "телефон", "电话", "手机", "電話",
    "טלפון", "هاتف",
)  # fmt: skip
_LABELS = Context("office", "work", "home", "main", "direct")
"""What kind of a phone it is, where that stands behind the number."""
_OTHERS = Context(
    "isbn", "issn", "doi", "pmid", "arxiv", "order", "invoice", "serial", "version", "port", "card", "iban", "ssn",
    "passport", "license", "licence", "zip", "postcode", "account", "nhs", "bug", "issue", "pep", "rfc",
)  # fmt: skip
"""What else a number may be, where that stands right before it."""
_RIGHT_BEFORE: Final = 24

_EXTENSION = r"(?: [ ]? (?: x | ext\.? | extension ) [ ]? \d{1,6} )?"
_NANP = rf"""
    (?<![\w+.]) (?<!\d-) (?: (?: \+?1 | 001 ) [-. ]? )?
    (?: \( \d{{3}} \) [- ]? | \d{{3}} (?P<gap> [-. ] ) ) \d{{3}} (?(gap) (?P=gap) | [-. ] ) \d{{4}}
    {_EXTENSION} (?! \w | [-.]\d )
"""
_GENERAL = rf"""
    (?<![\w+.]) (?<!\d[-/ ]) (?<![A-Za-z]-) (?! \d\. )
    \+? (?: \( \+? \d{{1,5}} \) [-. ]? )? \d{{1,15}}
    (?: [-. /]? \( \d{{1,5}} \) [-. ]? \d{{1,15}} | [-. /] \d{{1,15}} ){{0,6}}
    {_EXTENSION} (?! \w | -\d )
"""
_GROUPS = re.compile(r"\d+", re.ASCII)
_TAIL = re.compile(r"[ ]?(?:x|e).*$", re.DOTALL)


def check_installed(who: str) -> None:
    """Raise :class:`MissingExtraError` where the library that knows the numbers in use is not installed."""
    if importlib.util.find_spec("phonenumbers") is None:
        who = f"{who} with PHONE_NUMBER"
        raise MissingExtraError.of(who, "phonenumbers", "pii")


def phone_patterns(regions: tuple[str, ...]) -> tuple[Pattern, ...]:
    """The patterns, with numbers that have no country code read as of ``regions`` (ISO 3166, such as "US")."""
    numbers = _Numbers(regions)
    return (
        expression("PHONE_NUMBER", PHONE, _NANP, numbers.north_american),
        expression("PHONE_NUMBER", PHONE, _GENERAL, numbers.general),
    )


class _Numbers:
    """Judges of what the expressions matched; asks the library, and remembers what it said of 16,384 numbers."""

    def __init__(self, regions: tuple[str, ...]) -> None:
        self._library: Any = importlib.import_module("phonenumbers")
        self._regions = regions
        self._international = lru_cache(maxsize=1 << 14)(self._international_score)
        self._national = lru_cache(maxsize=1 << 14)(self._in_use)

    def north_american(self, match: re.Match[str]) -> Hit:
        """3-3-4 digits, with the country's code or without."""
        start, end = match.span()
        digits = "".join(_GROUPS.findall(_TAIL.sub("", match.group())))[-10:]
        score = self._international("+1" + digits) or _SCORE_SHAPE
        if _WORDS.near(match.string, start, end):
            score = _SCORE_WORD_VALID if score == _SCORE_VALID else _SCORE_WORD
        return start, end, score

    def general(self, match: re.Match[str]) -> Hit | None:
        """Any groups; what follows a number may have been taken for its end: 555 0199 2024-01-05."""
        text = match.string
        start, end = match.span()
        if is_date(text, start):
            return None
        for _ in range(4):
            score = self._score(text, start, end)
            if score:
                return start, end, score
            cut = max(text.rfind(" ", start, end), text.rfind("/", start, end))
            if cut <= start:
                return None
            end = cut
        return None

    def _score(self, text: str, start: int, end: int) -> float:
        number = text[start:end]
        if number.isdigit() and number[:2] != "00" and not self._bare(text, start, end):
            return 0.0
        number = _TAIL.sub("", number)
        groups = tuple(_GROUPS.findall(number))
        digits = "".join(groups)
        if not 7 <= len(digits) <= 15 or digits.count(digits[0]) == len(digits):
            return 0.0
        near = _WORDS.near(text, start, end) or _LABELS.behind(text, end)
        if number[0] == "+" or (number.startswith("00") and len(digits) > 10 and (near or len(groups) > 1)):
            code = "".join(_GROUPS.findall(number.replace("(0)", "")))
            score = self._international("+" + (code if number[0] == "+" else code[2:]))
            if score:
                return _SCORE_WORD_VALID if near and score == _SCORE_VALID else max(score, _SCORE_WORD if near else 0)
        singles = sum(len(group) == 1 for group in groups)
        if singles > 1 or (len(groups) == 2 and "." in number):  # a list of small numbers, a decimal fraction
            return 0.0
        if [len(group) for group in groups] == [5, 4] and "-" in number:  # an American postal code
            return 0.0
        if is_card(digits) or _OTHERS.before(text, start, _RIGHT_BEFORE):
            return 0.0
        if near:
            if not _worded(groups, digits):
                return 0.0
            return _SCORE_WORD_VALID if self._national(digits, groups)[0] else _SCORE_WORD
        if len(groups) == 1 or _thousands(number, groups):
            return 0.0
        return _SCORE_SHAPE if self._national(digits, groups)[1] else 0.0

    @staticmethod
    def _bare(text: str, start: int, end: int) -> bool:
        """Whether digits in one run may be a phone number; told first, as most are numbers of something else."""
        return end - start <= 11 and (_WORDS.near(text, start, end) or _LABELS.behind(text, end))

    def _international_score(self, number: str) -> float:
        """The score of a number with a plus; 0 if there can be no such number."""
        library = self._library
        try:
            parsed = library.parse(number, None)
        except library.NumberParseException:
            return 0.0
        if library.is_valid_number(parsed):
            return _SCORE_VALID
        return _SCORE_SHAPE if library.is_possible_number(parsed) else 0.0

    def _in_use(self, digits: str, groups: tuple[str, ...]) -> tuple[bool, bool]:
        """Whether the digits are a number in use in one of the regions, and grouped as it is there."""
        library = self._library
        valid = False
        for region in self._regions:
            try:
                parsed = library.parse(digits, region)
            except library.NumberParseException:
                continue
            if library.is_valid_number_for_region(parsed, region):
                valid = True
                written = library.format_number(parsed, library.PhoneNumberFormat.NATIONAL)
                if tuple(_GROUPS.findall(written)) == groups:
                    return True, True
        return valid, False


def _worded(groups: tuple[str, ...], digits: str) -> bool:
    """Whether digits near a phone's word are one number, and no list of small numbers."""
    return 7 <= len(digits) <= 11 if len(groups) == 1 else len(digits) >= 2 * len(groups)


def _thousands(number: str, groups: tuple[str, ...]) -> bool:
    """Whether the groups may be those of one large number: 1 234 567, 12.345.678."""
    return "-" not in number and "(" not in number and all(len(group) == 3 for group in groups[1:])
