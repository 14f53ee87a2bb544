"""Patterns of numbers by which people and accounts are known: cards, bank accounts, and what states give out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from tamis.pii import checksums
from tamis.pii.context import BONUS, Context
from tamis.pii.pattern import Hit, Judge, Pattern, expression
from tamis.text.pii_scan import CARD, IBAN, IDENTIFIER, PHONE, SSN

__all__ = ["NUMBER_PATTERNS", "is_card"]

_SCORE_CARD: Final = 0.9
_SCORE_CARD_SHORT: Final = 0.45
"""Of 12 or 13 digits in one run, of no issuer's prefix, or of four groups among more: one number in ten fulfils Luhn's
formula by chance, and article numbers have 12 and 13 digits."""
_SCORE_IBAN: Final = 1.0
_SCORE_SSN: Final = 0.7
_SCORE_SPACED: Final = 0.45
"""Of digits in groups of 3-2-4 with spaces, as tables have them."""
_SCORE_BARE: Final = 0.3
"""Of digits that have no shape of their own: a word near them makes 0.65, and without one they do not count."""

_CARD_WORDS = Context(
    "card", "cc", "visa", "mastercard", "amex", "american express", "discover", "maestro", "diners", "jcb", "credit",
    "debit", "cvv", "cvc", "payment",
)  # fmt: skip
_SSN_WORDS = Context("ssn", "social security", "social", "soc sec", "ss#")
_ITIN_WORDS = Context("itin", "tax id", "taxpayer", "tax identification", "tin", "tax payer")
_PASSPORT_WORDS = Context("passport", "travel document")
_LICENSE_WORDS = Context(
    "driver license", "driver licence", "drivers license", "drivers licence", "driver's license", "driver's licence",
    "driver’s license", "driver's permit", "driving license", "driving licence", "dl", "dl#", "license number",
    "license no", "licence number", "driving permit", "permis", "lic#", "dmv",
)  # fmt: skip
_NHS_WORDS = Context("nhs", "national health", "health service")

_MORE_GROUPS = re.compile(r"\d{4} ", re.ASCII)
_FOUR_GROUPS = re.compile(r"\d{4}(?:[ -]\d{4}){3}", re.ASCII)
_GAPS = str.maketrans("", "", " -.")


def _card(match: re.Match[str]) -> Hit | None:
    """The longest beginning of the digits, at the end of a group, that is a card number."""
    text = match.string
    start, end = match.span()
    while end > start:
        found = text[start:end]
        digits = found.translate(_GAPS)
        if len(digits) < 12:
            return None
        if len(digits) <= 19 and checksums.luhn(digits) and _card_groups(found):
            issuer = checksums.card_issuer(digits)
            sure = issuer is not None and (len(digits) > 13 or len(found) > len(digits))
            if len(found) > len(digits) and start >= 5 and _MORE_GROUPS.match(text, start - 5):
                sure = sure and _is_card_before(text, start)
            score = _SCORE_CARD if sure else _SCORE_CARD_SHORT
            if _CARD_WORDS.near(text, start, end):
                score = min(1.0, score + BONUS)
            elif issuer is None:
                return None
            return start, end, score
        cut = max(found.rfind(" "), found.rfind("-"))
        if cut < 0:
            return None
        end = start + cut
    return None


def _is_card_before(text: str, start: int) -> bool:
    """Whether the groups that end before ``start`` are a card: cards in a row are no table of other numbers."""
    before = text[max(start - 20, 0) : start - 1]
    return _FOUR_GROUPS.fullmatch(before) is not None and is_card(before.translate(_GAPS))


def _card_groups(found: str) -> bool:
    """Whether the groups are those that cards are printed in: 4-4-4-4 and longer, 4-6-5, 4-6-4, or none."""
    groups = re.split("[ -]", found)
    sizes = [len(group) for group in groups]
    return len(sizes) == 1 or sizes in ([4, 6, 5], [4, 6, 4]) or (set(sizes[:-1]) == {4} and sizes[-1] <= 4)


def is_card(digits: str) -> bool:
    """Whether digits are a card's beyond doubt: what is one is no phone number."""
    return len(digits) > 13 and checksums.luhn(digits) and checksums.card_issuer(digits) is not None


def _iban(match: re.Match[str]) -> Hit | None:
    """As many letters and digits as the country's numbers have, and no more behind."""
    text = match.string
    start = match.start()
    length = checksums.IBAN_LENGTHS.get(match.group()[:2].upper())
    if length is None:
        return None
    count = 0
    end = start
    while count < length and end < match.end():
        count += text[end].isalnum()
        end += 1
    if count < length:
        return None
    if text[end : end + 1].isalnum() and text[end : end + 1].isascii():
        return None
    characters = re.sub("[ -]", "", text[start:end]).upper()
    return (start, end, _SCORE_IBAN) if checksums.iban(characters) else None


def _nine(check: Callable[[str], bool], words: Context) -> Judge:
    """A judge of nine digits, in the shape 3-2-4 or in one run."""

    def judge(match: re.Match[str]) -> Hit | None:
        start, end = match.span()
        found = match.group()
        if not check(found.translate(_GAPS)):
            return None
        if len(found) == 9:
            return (start, end, _SCORE_BARE + BONUS) if words.before(match.string, start) else None
        shaped = _SCORE_SPACED if " " in found else _SCORE_SSN
        return start, end, min(1.0, shaped + (BONUS if words.near(match.string, start, end) else 0))

    return judge


def _with_words(words: Context, score: float) -> Judge:
    """The judge that takes a match where one of the words stands before it, and none elsewhere."""

    def judge(match: re.Match[str]) -> Hit | None:
        start, end = match.span()
        return (start, end, score + BONUS) if words.before(match.string, start) else None

    return judge


def _nhs(match: re.Match[str]) -> Hit | None:
    start, end = match.span()
    if not checksums.nhs(match.group().translate(_GAPS)) or not _NHS_WORDS.near(match.string, start, end):
        return None
    return start, end, 0.9


_THREE_TWO_FOUR = r"(?<!\w) (?<!\d[-.]) (?: \d{3} (?P<gap> [-. ] ) \d{2} (?P=gap) \d{4} | \d{9} ) (?! \w | [-.]\d )"

NUMBER_PATTERNS: Final[tuple[Pattern, ...]] = (
    expression(
        "CREDIT_CARD",
        CARD,
        r"(?<!\w) (?<!\d[-.]) \d{4} (?: \d{8,15} | (?: [ -]\d{2,6} ){2,4} ) (?! \w | [-.]\d )",
        _card,
    ),
    expression("IBAN", IBAN, r"(?<!\w) [A-Za-z]{2} \d{2} (?: [ -]?[A-Za-z0-9] ){11,38}", _iban),
    expression("US_SSN", SSN, _THREE_TWO_FOUR, _nine(checksums.ssn, _SSN_WORDS)),
    expression("US_ITIN", SSN, _THREE_TWO_FOUR, _nine(checksums.itin, _ITIN_WORDS)),
    expression(
        "US_PASSPORT",
        IDENTIFIER,
        r"(?<![\w-]) (?: [A-Z]\d{8} | \d{9} ) (?![\w-])",
        _with_words(_PASSPORT_WORDS, _SCORE_BARE),
    ),
    expression(
        "US_DRIVER_LICENSE",
        IDENTIFIER,
        r"(?<![\w-]) (?: [A-Z]{1,2}\d{5,14} | \d{6,14} | \d{4}-\d{2}-\d{4} ) (?![\w-])",
        _with_words(_LICENSE_WORDS, _SCORE_BARE),
    ),
    expression("UK_NHS", PHONE, r"(?<![\w+.]) (?<!\d[ /-]) \d{3} [ -]? \d{3} [ -]? \d{4} (?! \w | -\d )", _nhs),
)
