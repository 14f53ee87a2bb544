"""Patterns of dates, of weekdays, and of years that a phrase makes known as such."""

from __future__ import annotations

import re
from typing import Final

from tamis.pii.pattern import Hit, Pattern, expression, scored
from tamis.text.pii_scan import DATE

__all__ = ["DATE_PATTERNS", "is_date"]

_SCORE_FULL: Final = 0.85
_SCORE_NUMERIC: Final = 0.75
"""Of a date written with numbers and a year of four digits."""
_SCORE_SHORT: Final = 0.55
"""Of one with a year of two digits, or with a name of a month and no year."""
_SCORE_WEAK: Final = 0.5
"""Of a weekday, and of a year in a phrase."""

_MONTH = r"""(?: jan(?:uary)? | feb(?:ruary)? | mar(?:ch)? | apr(?:il)? | may | june? | july? | aug(?:ust)?
    | sept?(?:ember)? | oct(?:ober)? | nov(?:ember)? | dec(?:ember)? )"""
_DAY = r"(?: 3[01] | [12]\d | 0?[1-9] )"
_NUMBER = r"(?: 1[0-2] | 0?[1-9] )"
_YEAR = r"(?: 19 | 20 )\d\d"
_CLOCK = r"""(?: (?: ,[ ]? | T | [ ](?:at[ ])? ) [012]?\d:[0-5]\d (?: :[0-5]\d (?: [.,]\d{1,9} )? )?
    (?: [ ]?[ap]\.?m\b )? (?: Z\b | [ ]?[+-]\d\d:?\d\d )? )?"""

_ISO = rf"""
    (?<![\w./-]) {_YEAR} (?P<gap> [-/.] ) {_NUMBER} (?P=gap) {_DAY} (?! [A-SU-Za-z0-9_] | [-/]\d ) {_CLOCK} (?! \d )
"""
_NUMERIC = rf"""
    (?<!\w) (?<!\d[-/.]) {_DAY} (?P<gap> [-/.] ) {_DAY} (?P=gap) (?: {_YEAR} | \d\d )
    (?! [A-SU-Za-z0-9_] | [-/.]\d ) {_CLOCK} (?! \d )
"""
_DAY_MONTH = rf"""
    (?<![\w.]) (?<!\d[-/,]) {_DAY} (?: st | nd | rd | th )? (?: [ ]of )? [ -] {_MONTH} \b\.?
    (?: ,?[ -]{_YEAR}\b | -\d\d\b )? {_CLOCK}
"""
_MONTH_DAY = rf"""
    (?<!\w) {_MONTH} \b\.?,? [ ]
    (?: {_DAY} (?: st | nd | rd | th )? (?! \w | [:.]\d ) (?: ,? [ ] {_YEAR} \b )? | {_YEAR}\b ) {_CLOCK}
"""
_WEEKDAY = r"(?<!\w) (?: mon | tues | wednes | thurs | fri | satur | sun ) day (?!\w)"
_PLAIN_YEAR = rf"(?<![\w.,:/$€£#+-]) {_YEAR} (?! \w | [-./:,]\d | % )"

_ANY_YEAR = re.compile(r"(?:19|20)\d\d", re.ASCII)
_YEAR_BEFORE = re.compile(
    r"""(?: \b (?: in | since | during | of | by | until | till | from | before | after | around | circa | c\. | and
      | to | years? | a | early | late | mid | through | between | spring | summer | autumn | fall | winter | born
      | copyright ) | \(c\) | © ) [ ] $""",
    re.IGNORECASE | re.VERBOSE,
)
_COUNTED = re.compile(
    r"[ ](?:times?|people|words?|characters?|bytes?|[kmg]?b|px|pixels?|years?|days?|hours?|minutes?|seconds?|ms|miles?"
    r"|km|feet|dollars?|euros?|usd|rows?|items?|lines?|points?|[a-z]+s of)\b",
    re.IGNORECASE,
)


def _numeric(match: re.Match[str]) -> Hit | None:
    """A day and a month in either order; with dots a year needs four digits, or it is a version."""
    start, end = match.span()
    first, second, rest = re.split("[-/.]", match.group(), maxsplit=2)
    if int(first) > 12 and int(second) > 12:
        return None
    long = rest[2:4].isdigit()
    if not long and match.group("gap") == ".":
        return None
    return start, end, _SCORE_NUMERIC if long else _SCORE_SHORT


def _named(match: re.Match[str]) -> Hit | None:
    """With the name of a month; ``may 5`` in small letters needs a year. A full stop behind is no part of it."""
    found = match.group().rstrip(".")
    year = _ANY_YEAR.search(found)
    if year is None and re.search(r"\bmay\b", found):
        return None
    return match.start(), match.start() + len(found), _SCORE_FULL if year else _SCORE_SHORT


def _year(match: re.Match[str]) -> Hit | None:
    """A year behind a word that years stand behind, and not a number of things."""
    start, end = match.span()
    text = match.string
    if not _YEAR_BEFORE.search(text, max(0, start - 12), start) or _COUNTED.match(text, end):
        return None
    return start, end, _SCORE_WEAK


DATE_PATTERNS: Final[tuple[Pattern, ...]] = (
    expression("DATE_TIME", DATE, _ISO, scored(_SCORE_FULL)),
    expression("DATE_TIME", DATE, _NUMERIC, _numeric),
    expression("DATE_TIME", DATE, _DAY_MONTH, _named, flags=re.IGNORECASE),
    expression("DATE_TIME", DATE, _MONTH_DAY, _named, flags=re.IGNORECASE),
    expression("DATE_TIME", DATE, _WEEKDAY, scored(_SCORE_WEAK), flags=re.IGNORECASE),
    expression("DATE_TIME", DATE, _PLAIN_YEAR, _year),
)

_DATES = re.compile(
    rf"""(?: {_YEAR} [-/. ] {_NUMBER} [-/. ] {_DAY} | {_DAY} [-/. ] {_DAY} [-/. ] {_YEAR} | {_YEAR} [-/ ] {_YEAR} )
    (?! \d )""",
    re.ASCII | re.VERBOSE,
)


def is_date(text: str, start: int) -> bool:
    """Whether a date written with numbers, or two years, begins at ``start``: such digits are no phone number."""
    return _DATES.match(text, start) is not None
