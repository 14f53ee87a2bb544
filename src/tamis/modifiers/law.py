"""Modifiers for texts of law."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from tamis.modifiers.base import DocumentModifier, applied
from tamis.table import true_mask

__all__ = ["SectionNumberFormatter"]

_BLANK = "[ \t\u00a0\u2009\u202f]"
_SP, _GAP = f"{_BLANK}*", f"{_BLANK}+"
_DASH = "[-\u2010\u2011\u2012\u2013]"
# Two digits at most: "(555)" after a number begins a telephone number.
_PART = rf"{_SP}\((?:[0-9]{{1,2}}[a-z]?|[a-z]{{1,2}}|[A-Z]{{1,2}}|[ivx]{{1,6}}|[IVX]{{1,6}})\)"
# 12, 12A, 12.3, 2-314, 78aa-1, 3-5; never a piece of a date, a time, a share or a longer number.
_NUMBER = (
    rf"[0-9]{{1,5}}[A-Za-z]{{0,2}}(?:(?:\.|{_DASH})[0-9]{{1,5}}[A-Za-z]{{0,2}})*"
    rf"(?![\w/%]|(?:[.:]|{_DASH})[0-9]|,[0-9]{{3}}\b)"
)
_ONE = rf"{_NUMBER}(?:{_PART})*"
_MANY = rf"{_ONE}(?:(?:,?{_GAP}(?:and|or|to|through){_GAP}|{_SP}{_DASH}{_SP}|{_SP}&{_SP}|,{_SP}){_ONE})*"
_OF = rf"(?={_SP}\(|,?{_GAP}(?:of|and|or|to){_GAP})"
_LETTER_S = rf"(?={_NUMBER}{_OF})"
_COUNTED = rf"(?!{_GAP}(?:times|seconds|minutes|hours|days|weeks|months|years|people|percent)\b)"
_ROMAN = r"(?:[IVXL]{2,6}|[IVX](?=,?[ ]*(?:§|[Ss]ec)))\b"

_CITATION = re.compile(
    rf"""
    # Web and e-mail addresses, tried first and passed over whole.
    (?P<pass>(?:https?://|www\.)\S+|(?<![^\s<(])[\w.+-]+@[\w.-]+)
    # 42 USC 1983
  | (?<![\w.,-])(?P<title>[0-9]{{1,2}}){_SP}(?P<code>U\.?[ ]?S\.?[ ]?C\.?|C\.?[ ]?F\.?[ ]?R\.?){_SP}
    (?:(?:§§|[Ss]ec(?:tion)?s\.?){_SP}(?P<code_many>{_MANY})|(?:§|[Ss]ection\b|[Ss]ec\.)?{_SP}(?P<code_one>{_ONE}))
    # § 12, §§ 12 and 13
  | §§{_SP}(?P<marks>{_MANY})
  | (?<!§)§{_SP}(?P<mark>{_ONE})
    # Sections 12 and 13, secs. 12-14, ss 12 and 13 of
  | (?<![\w.-])
    (?:[Ss]ections{_GAP}|SECTIONS{_GAP}|Secs\.?{_GAP}|(?<![0-9][ ])secs\.{_GAP}|(?<!['’])ss\.?{_GAP}{_LETTER_S})
    (?P<sections>{_MANY}){_COUNTED}
    # Section 12, Sec. 12.3, s 12(1)
  | (?<![\w.-])
    (?:[Ss]ection{_GAP}|SECTION{_GAP}|Sec\.{_SP}|Sec{_GAP}|(?<![0-9][ ])sec\.{_GAP}|(?<!['’])s\.?{_GAP}{_LETTER_S})
    (?P<section>{_ONE}){_COUNTED}
    # Articles 5 and 6
  | (?<![\w.-])(?:[Aa]rticles{_GAP}|ARTICLES{_GAP}|Arts\.?{_GAP}|arts\.{_GAP})(?P<articles>{_MANY}){_COUNTED}
    # Article 5, Art. 5, Article II; but not "state of the art. 5 people"
  | (?<![\w.-])(?:[Aa]rticle{_GAP}|ARTICLE{_GAP}|Art\.{_SP}|Art{_GAP}|(?<!the[ ])art\.{_GAP})
    (?P<article>{_ONE}){_COUNTED}
  | (?<![\w.-])(?:Article{_GAP}|Art\.{_SP})(?P<roman>{_ROMAN})
    """,
    re.VERBOSE,
)
# The same for RE2, which has no look-around and is thirty times as fast: where it finds nothing, there is nothing.
_MAYBE = (
    rf"(?i)§|\bs(?:ec|s|ection|ecs|ections)?\b\.?{_SP}[0-9]|\bart(?:s|icles?)?\b\.?{_SP}[0-9IVXL]"
    r"|U\.? ?S\.? ?C\.?|C\.? ?F\.? ?R\.?"
)
_BEFORE_PART = re.compile(rf"{_GAP}(?=\()")
_BETWEEN = re.compile(rf"{_SP}(?:(?P<dash>{_DASH})|(?P<and>&)|(?P<comma>,)){_SP}|{_GAP}")


@dataclass(frozen=True)
class SectionNumberFormatter(DocumentModifier):
    """Citations of sections and articles in one form.

    ==============================================  ==============================
    ``§12 (3) (b)``, ``Section 12(3)(b)``,           ``§ 12(3)(b)``
    ``Sec. 12 (3)(b)``, ``s 12(3)(b)``
    ``Sections 12, 13``, ``§§12,13``                 ``§§ 12, 13``
    ``§§ 3 – 5``, ``ss 3-5 of``                      ``§§ 3-5``
    ``Article 5 (1)``, ``art. 5(1)``                 ``Art. 5(1)``
    ``Articles 5 & 6``                               ``Arts. 5 & 6``
    ``Article II``                                   ``Art. II``
    ``42 USC 1983``, ``42 U.S.C. Sec. 1983``         ``42 U.S.C. § 1983``
    ``29 CFR 1910.134``                              ``29 C.F.R. § 1910.134``
    ==============================================  ==============================

    Only citations change: a number without such a word is never touched, so telephone, card and social security
    numbers, dates, times, amounts and versions stay, and so do web and e-mail addresses. "s" and "ss" are taken for
    sections only before a subsection or "of", and "Article I" only before a section. Digits are never changed, left out
    or added. Run it after the redaction of personal data all the same. Empty text: itself. Running it twice changes
    nothing more.
    """

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts with their citations in one form."""
        rows = true_mask(pc.match_substring_regex(texts, _MAYBE))
        return applied(texts, rows, partial(_CITATION.sub, _formatted))


_WORDS = {
    "mark": "§ ",
    "marks": "§§ ",
    "section": "§ ",
    "sections": "§§ ",
    "article": "Art. ",
    "articles": "Arts. ",
    "roman": "Art. ",
}


def _formatted(match: re.Match[str]) -> str:
    kind = match.lastgroup or ""
    if kind == "pass":
        return match[0]
    reference = _BETWEEN.sub(_between, _BEFORE_PART.sub("", match[kind]))
    if kind in _WORDS:
        start = match.start()
        joined = (
            kind.startswith("mark") and start and (match.string[start - 1].isalnum() or match.string[start - 1] == ".")
        )
        return f"{' ' if joined else ''}{_WORDS[kind]}{reference}"
    code = "U.S.C." if match["code"].startswith("U") else "C.F.R."
    return f"{match['title']} {code} {'§§' if kind == 'code_many' else '§'} {reference}"


def _between(match: re.Match[str]) -> str:
    if match["dash"]:
        return "-"
    return " & " if match["and"] else (", " if match["comma"] else " ")
