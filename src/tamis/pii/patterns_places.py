"""Street addresses as they are written in the United States and Britain, flats and suites, PO boxes."""

from __future__ import annotations

import re
from typing import Final

from tamis.pii.pattern import Hit, Pattern, expression
from tamis.text.pii_scan import ADDRESS

__all__ = ["PLACE_PATTERNS"]

_SCORE_STREET: Final = 0.65
_SCORE_FULL: Final = 0.85
"""Of a street followed by a flat, or by a state and its zip code."""
_SCORE_UNIT: Final = 0.5
"""Of a flat, suite or box alone."""

_SUFFIX = r"""(?: Streets? | St | Avenues? | Ave | Roads? | Rd | Boulevard | Blvd | Drives? | Dr | Lanes? | Ln | Courts?
    | Ct | Places? | Pl | Squares? | Sq | Terrace | Ter | Way | Parkway | Pkwy | Highway | Hwy | Circle | Cir | Cres
    | Crescent | Close | Mews | Row | Gardens | Grove | Hill | Walk | Plaza | Alley | Trail | Trl | Loop | Broadway
    | Expressway | Turnpike | Quay )"""
_ABBREVIATIONS: Final = frozenset(
    ("St", "Ave", "Rd", "Blvd", "Dr", "Ln", "Ct", "Pl", "Sq", "Ter", "Pkwy", "Hwy", "Cir", "Cres", "Trl")
)
_UNIT = r"""(?: (?: Apt | Apartment | Suite | Ste | Unit | Flat | Floor | Room | Rm )\.? [ ] \#? [0-9A-Z]{1,6}
    | \#[ ]?\d{1,5} )"""
_WORD = r"(?: [A-Z][A-Za-z'’\u00c0-\u024f.-]{0,24} | \d{1,3}(?: st | nd | rd | th ) )"
_CITY = r"(?: ,? \s{1,3} [A-Z][A-Za-z'\u00c0-\u024f -]{1,28}? ,? \s{1,3} [A-Z]{2} \s{1,3} \d{5} (?: -\d{4} )? \b )"
_STREET = rf"""
    (?<![\w.,:$/-]) \d{{1,5}}[A-Za-z]? (?: [-/]\d{{1,4}} )? [ ]
    (?: (?: [NSEW] | North | South | East | West )\.? [ ] )?
    (?: {_WORD} [ ] ){{1,4}}? {_SUFFIX} \b (?! [ ]? (?: of | and | in | the | to ) \b ) \.?
    (?: [ ] (?: N[EW]? | S[EW]? | E | W ) \b )?
    (?P<more> (?: ,? \s{{1,3}} {_UNIT} )? {_CITY}? )
"""
_BOX = r"(?: P\.?[ ]?O\.? [ ] Box | Post [ ] Office [ ] Box | Postbox ) [ ] \d{1,6} \b"
_UNITS = rf"""
    (?<!\w) (?: PSC [ ] \d{{3,4}},? [ ] Box [ ] \d{{1,5}} | Unit [ ] \d{{3,5}} [ ] Box [ ] \d{{3,5}} | {_BOX}
      | (?: Apt | Apartment | Suite | Ste | Flat )\.? [ ] \#? \d{{1,5}}[A-Z]? \b )
    (?: \s{{1,3}} [AFD]PO [ ] A[AEP] [ ] \d{{5}} \b )?
"""


def _street(match: re.Match[str]) -> Hit:
    """Without a full stop, unless it is an abbreviation's."""
    start, end = match.span()
    last = match.group().rpartition(" ")[2]
    if last.endswith(".") and last[:-1] not in _ABBREVIATIONS:
        end -= 1
    return start, end, _SCORE_FULL if match.group("more") else _SCORE_STREET


def _units(match: re.Match[str]) -> Hit:
    start, end = match.span()
    return start, end, _SCORE_UNIT


PLACE_PATTERNS: Final[tuple[Pattern, ...]] = (
    expression("ADDRESS", ADDRESS, _STREET, _street),
    expression("ADDRESS", ADDRESS, _UNITS, _units, flags=re.IGNORECASE),
)
