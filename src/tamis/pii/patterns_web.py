"""Patterns of the net: addresses of mail, pages and machines, and keys."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from tamis.pii.context import Context
from tamis.pii.pattern import Hit, Pattern, expression, scored
from tamis.text.pii_scan import COLONS, EMAIL, IPV4, KEY, PEM, URL

__all__ = ["WEB_PATTERNS"]

_WIDE: Final = "\u00c0-\u053f"
"""Latin, Greek and Cyrillic letters beyond ASCII, with the accents that combine with them."""
_SCORE_EMAIL: Final = 0.95
_SCORE_URL: Final = 0.9
_SCORE_IP: Final = 0.85
_SCORE_NOBODY: Final = 0.3
"""Of four numbers with dots behind a word for a version, and of addresses that are the same on every machine."""
_SCORE_MAC: Final = 0.8
_SCORE_KEY: Final = 0.95
"""Of a key whose beginning tells the service."""
_SCORE_ASSIGNED: Final = 0.65
"""Of letters and digits assigned to a name such as ``api_key``."""
_SCORE_PEM: Final = 1.0

_EMAIL = rf"""
    (?<![\w.%+\-{_WIDE}]) [\w.%+\-{_WIDE}]{{1,64}} @
    (?: [A-Za-z0-9{_WIDE}] [A-Za-z0-9\-{_WIDE}]{{0,62}} \. ){{1,6}}
    (?: xn--[A-Za-z0-9\-]{{2,40}} | [A-Za-z{_WIDE}]{{2,24}} )
    (?![A-Za-z0-9])
"""

_LABEL = r"[\w\-\u00c0-\u024f\u0370-\u1fff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]{1,63}"
_HOST = rf"(?: (?: {_LABEL} \. ){{1,8}} {_LABEL} | localhost | \[ [0-9A-Fa-f:.]{{2,45}} \] )"
_REST = r"""(?: : \d{1,5} )? (?: [/?\#] [^\s<>"`{}|\\^\u00a0\u2000-\u206f\u3000-\u3002\uff0c]* )?"""
_URL = rf"""
    (?<![A-Za-z]) (?: https? | ftps? | sftp | ssh | wss? | git | svn | ldaps? | smb | rtsp ) ://
    (?: [^\s/@<>"'?\#]{{1,64}} @ )? {_HOST} {_REST}
"""
_WWW = rf"(?<![\w.@/-]) www (?: \. {_LABEL} ){{2,8}} {_REST}"
_OCTET = r"(?: 25[0-5] | 2[0-4]\d | 1\d\d | [1-9]?\d )"
_IPV4 = rf"(?<![\w.]) (?: {_OCTET} \. ){{3}} {_OCTET} (?! \w | \.\d )"
_COLONS = r"""
    (?<![\w:.]) (?: [0-9A-Fa-f]{1,4} (?=:) | :: ) [0-9A-Fa-f:]{1,38} (?: (?: \.\d{1,3} ){3} )? (?! [\w:] )
"""

_MAC = r"(?<![\w:.-]) [0-9A-Fa-f]{2} (?: : [0-9A-Fa-f]{2} ){5} (?! \w | :\w )"

_KEYS = r"""
    (?<![A-Za-z0-9]) (?:
        (?: AKIA | ASIA ) [A-Z0-9]{16} (?![A-Za-z0-9])            # Amazon
      | gh[pousr]_ [A-Za-z0-9]{36,255} | github_pat_ \w{22,255}  # GitHub
      | glpat- [\w\-]{20,64}                                      # GitLab
      | xox[abeoprs] - [A-Za-z0-9\-]{16,250}                      # Slack
      | AIza [\w\-]{35} (?![\w\-])                                # Google
      | ya29\. [\w\-]{20,500}
      | (?<![\w-]) eyJ [\w\-]{10,4000} \. eyJ [\w\-]{10,8000} \. [\w\-]{10,4000}   # a JSON web token
      | sk-(?: ant | proj | svcacct | or )- [\w\-]{20,250}        # Anthropic, OpenAI, OpenRouter
      | sk- [A-Za-z0-9]{32,64} (?![\w\-])
      | [rsp]k_(?: live | test )_ [A-Za-z0-9]{16,247}             # Stripe
      | npm_ [A-Za-z0-9]{36} | pypi- [\w\-]{40,250} | hf_ [A-Za-z]{30,40} | dop_v1_ [a-f0-9]{64}
      | hvs\. [\w\-]{24,200} | shp(?: at | ca | pa | ss )_ [a-fA-F0-9]{32} | SG\. [\w\-]{16,64} \. [\w\-]{16,64}
    )
"""
_ASSIGNED = r"""
    (?<![A-Za-z0-9])
    (?: api | secret | access | auth | token | client | password | passwd )
    (?: [_-]? (?: api | access | secret | auth ) )?
    (?: [_-]? (?: key | token | secret ) )? ["']? [ ]{0,2} [:=] [ ]{0,2} ["']?
    (?P<value> [A-Za-z0-9_\-+/]{16,128} ) (?![A-Za-z0-9_\-+/.(\[])
"""
_PEM = r"""
    ----- BEGIN\ (?P<kind> (?: [A-Z0-9]{1,12}\  ){0,3} ) PRIVATE\ KEY (?: \ BLOCK )? -----
    (?: (?: [^-] | -(?!----) ){0,20000} ----- END\ (?P=kind) PRIVATE\ KEY (?: \ BLOCK )? -----
      | (?: \s{0,2} [A-Za-z0-9+/=]{16,80} (?! [A-Za-z0-9+/=] ) ){0,300} )   # cut off before its end
"""

_VERSION = re.compile(r"(?:(?:version|release|firmware|build|ver|v)\w*[ .:=\"'\\]{0,6}|[=<>~^]=)$", re.IGNORECASE)
_ADDRESS_BEGINS: Final = ("fe80::", "fd", "2001:", "2600:", "2a", "::ffff:")
_NOBODY: Final = ("0.0.0.0", "127.", "255.")  # noqa: S104  compared with, not bound to
_FILES: Final = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "js", "css", "html"})
_NETWORK = Context("ip", "address", "host", "server", "router", "gateway", "subnet", "dns", "ping", "client")


def _url(match: re.Match[str]) -> Hit | None:
    """Without the punctuation of the sentence that it stands in; a closing bracket stays if it was opened inside."""
    start = match.start()
    found = match.group()
    size = len(found)
    surplus: dict[str, int] = {}
    while size:
        last = found[size - 1]
        if last in ")]":
            if not surplus:
                surplus = {")": found.count(")") - found.count("("), "]": found.count("]") - found.count("[")}
            if surplus[last] <= 0:
                break
            surplus[last] -= 1
        elif last not in ".,;:!?'*_\\":
            break
        size -= 1
    return start, start + size, _SCORE_URL


def _email(match: re.Match[str]) -> Hit | None:
    """Without dots and dashes before it; two dots in a row end the name. ``icon@2x.png`` is a file."""
    name, _, domain = match.group().partition("@")
    kept = name.rpartition("..")[2].lstrip(".-+%")
    if not kept or domain.rpartition(".")[2].lower() in _FILES:
        return None
    return match.end() - len(domain) - 1 - len(kept), match.end(), _SCORE_EMAIL


def _ipv4(match: re.Match[str]) -> Hit:
    start, end = match.span()
    text = match.string
    if match.group().startswith(_NOBODY):
        return start, end, _SCORE_NOBODY
    if _VERSION.search(text, max(0, start - 24), start) and not _NETWORK.before(text, start):
        return start, end, _SCORE_NOBODY
    return start, end, _SCORE_IP


def _colons(match: re.Match[str]) -> Hit | None:
    """A hardware address of six pairs, or what is an IPv6 address; in text ``1::2`` is mostly not one."""
    start, end = match.span()
    found = match.group()
    if found[-1] == ":" and found[-2] != ":":
        found, end = found[:-1], end - 1
    groups = [group for group in found.split(":") if group]
    if len(groups) == 6 and len(found) == 17:
        return None
    if "::" in found and len(groups) < 3 and not found.lower().startswith(_ADDRESS_BEGINS):
        return None
    try:
        ipaddress.IPv6Address(found)
    except ValueError:
        return None
    return start, end, _SCORE_IP


def _assigned(match: re.Match[str]) -> Hit | None:
    """Letters and digits mixed, of many kinds: words, numbers and paths are no keys."""
    start, end = match.span("value")
    value = match.group("value")
    digits = sum(c.isdigit() for c in value)
    letters = sum(c.isalpha() for c in value)
    if digits < 3 or letters < 3 or len(set(value)) < 8 or value.count("/") > 2:
        return None
    return start, end, _SCORE_ASSIGNED


WEB_PATTERNS: Final[tuple[Pattern, ...]] = (
    expression("EMAIL_ADDRESS", EMAIL, _EMAIL, _email),
    expression("URL", URL, _URL, _url, flags=re.IGNORECASE),
    expression("URL", URL, _WWW, _url, flags=re.IGNORECASE),
    expression("IP_ADDRESS", IPV4, _IPV4, _ipv4),
    expression("IP_ADDRESS", COLONS, _COLONS, _colons),
    expression("MAC_ADDRESS", COLONS, _MAC, scored(_SCORE_MAC)),
    expression("API_KEY", KEY, _KEYS, scored(_SCORE_KEY)),
    expression("API_KEY", KEY, _ASSIGNED, _assigned, flags=re.IGNORECASE),
    expression("PRIVATE_KEY", PEM, _PEM, scored(_SCORE_PEM)),
)
