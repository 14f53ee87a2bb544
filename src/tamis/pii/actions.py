"""What is put in the place of personal data: a tag, nothing, a mask, a keyed hash, or made-up data of the same kind."""

from __future__ import annotations

import hashlib
import hmac
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, Final

from tamis.errors import UsageError
from tamis.pii.entities import ENTITIES
from tamis.pii.substitutes import check_installed, is_reserved, maker, version

__all__ = [
    "ACTIONS",
    "KEY_METADATA",
    "Action",
    "Change",
    "Hash",
    "Mask",
    "Redact",
    "Replace",
    "Substitute",
    "same_value",
    "tag_places",
]

Change = Callable[[str, str], str]
"""From the name of an entity and what was found to what is put there. Made for one document, and may remember it."""

_NUMBERS: Final = frozenset(
    {
        "PHONE_NUMBER",
        "CREDIT_CARD",
        "IBAN",
        "US_SSN",
        "US_ITIN",
        "US_PASSPORT",
        "US_DRIVER_LICENSE",
        "UK_NHS",
        "MAC_ADDRESS",
    }
)
_CASELESS: Final = frozenset({"EMAIL_ADDRESS", "IP_ADDRESS", "PERSON", "LOCATION", "ADDRESS"})
_SHORTEST_KEY: Final = 8
KEY_METADATA: Final = {"secret": 'Name an environment variable that holds it: key_from_environment = "TAMIS_PII_KEY"'}


def same_value(entity: str, value: str) -> str:
    r"""What two ways to write one value have in common: the digits and letters of a number, the words of a name.

    >>> same_value("CREDIT_CARD", "4111-1111 11111111"), same_value("PERSON", "Ann\n Lee")
    ('4111111111111111', 'ann lee')
    """
    if entity in _NUMBERS:
        return "".join(c for c in value if c.isalnum()).upper()
    flat = " ".join(value.split())
    return flat.casefold() if entity in _CASELESS else flat


@lru_cache(maxsize=64)
def _tags(names: frozenset[str]) -> re.Pattern[str]:
    known = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    return re.compile(rf"<(?:{known})(?:_[0-9]{{1,9}}|:[0-9a-f]{{8,64}})?>")


def tag_places(text: str, names: Iterable[str] = ()) -> list[tuple[int, int]]:
    """Where in a text the tags stand that actions write, in order: of the known entities, and of ``names``.

    >>> tag_places("<EMAIL_ADDRESS_2> or <DIV>")
    [(0, 17)]
    """
    if "<" not in text:
        return []
    return [match.span() for match in _tags(frozenset(ENTITIES).union(names)).finditer(text)]


class Action(ABC):
    """A frozen description of what becomes of a span."""

    remembers: ClassVar[bool] = False
    """Whether what it wrote cannot be told from what it looks for, so that it must remember where it wrote."""

    @abstractmethod
    def document(self, text: str) -> Change:
        """The function that answers for the spans of one document, in their order."""

    def keeps(self, entity: str, value: str) -> bool:
        """Whether the value is one that the action itself would write, and so stays."""
        return False

    def identity(self) -> Mapping[str, str]:
        """What its answers depend on besides its settings."""
        return {}


@dataclass(frozen=True)
class Replace(Action):
    """The entity's name: ``<EMAIL_ADDRESS>``.

    With ``numbered``, ``<EMAIL_ADDRESS_1>``: each value of a document has a number of its own, the same wherever it
    stands in it. Numbers go on after those that the text holds already.
    """

    numbered: bool = False
    new_value: str | None = None
    """Put this in the place of everything instead."""

    def __post_init__(self) -> None:
        if self.numbered and self.new_value is not None:
            message = "numbered counts the names of entities: leave new_value out, or numbered."
            raise UsageError(message)

    def document(self, text: str) -> Change:
        """Tags; numbers count up in the order of the text."""
        if self.new_value is not None:
            new = self.new_value
            return lambda _entity, _value: new
        return _Numbers(text) if self.numbered else lambda entity, _value: f"<{entity}>"


_NUMBERED: Final = re.compile(r"<([A-Z][A-Z0-9_]*)_([0-9]{1,9})>")


class _Numbers:
    def __init__(self, text: str) -> None:
        self._known: dict[tuple[str, str], int] = {}
        self._last: dict[str, int] = {}
        for match in _NUMBERED.finditer(text) if "<" in text else ():
            self._last[match[1]] = max(self._last.get(match[1], 0), int(match[2]))

    def __call__(self, entity: str, value: str) -> str:
        value = same_value(entity, value)
        number = self._known.get((entity, value))
        if number is None:
            number = self._known[entity, value] = self._last[entity] = self._last.get(entity, 0) + 1
        return f"<{entity}_{number}>"


@dataclass(frozen=True)
class Redact(Action):
    """Nothing: what was found is taken out, and the white space around it stays."""

    def document(self, text: str) -> Change:
        """The empty text."""
        return lambda _entity, _value: ""


@dataclass(frozen=True)
class Mask(Action):
    """Each character but white space becomes ``char``: ``**** **** **** 1111`` with ``keep_last=4``.

    Characters that are kept are at most half of those of a value; of a shorter one, none are.
    """

    char: str = "*"
    keep_first: int = 0
    keep_last: int = 0

    def __post_init__(self) -> None:
        if len(self.char) != 1 or self.char.isalnum() or self.char.isspace():
            message = f"a mask is one character that is no letter, digit or white space, not {self.char!r}."
            raise UsageError(message)
        if self.keep_first < 0 or self.keep_last < 0:
            message = f"keep_first={self.keep_first} and keep_last={self.keep_last} must be 0 or more."
            raise UsageError(message)

    def document(self, text: str) -> Change:
        """Masks."""
        return self._masked

    def _masked(self, _entity: str, value: str) -> str:
        places = [i for i, c in enumerate(value) if not c.isspace()]
        kept = self.keep_first + self.keep_last
        hidden = set(places if 2 * kept > len(places) else places[self.keep_first : len(places) - self.keep_last])
        return "".join(self.char if i in hidden else c for i, c in enumerate(value))


@dataclass(frozen=True)
class _Keyed(Action):
    key: str | None = field(default=None, repr=False, metadata=KEY_METADATA)
    """The secret. Written nowhere; a run is known by 16 bits of a hash of it, and so not resumed with another."""

    def __post_init__(self) -> None:
        if self.key is not None and len(self.key) < _SHORTEST_KEY:
            message = f"the key has {len(self.key)} characters; it needs at least {_SHORTEST_KEY}, not to be guessed."
            raise UsageError(message)

    def identity(self) -> Mapping[str, str]:
        """Which key it was, as far as two keys in 65,536 tell."""
        return {} if self.key is None else {"key": _digest(self.key.encode(), "which key this is").hex()[:4]}


@dataclass(frozen=True)
class Hash(_Keyed):
    """A keyed hash in a tag: ``<EMAIL_ADDRESS:9f86d081884c7d65>``.

    The first ``length`` hexadecimal digits of HMAC-SHA256 of :func:`same_value` in UTF-8. One value has one hash in all
    documents, so that they can be joined; without the key nobody can tell it by trying all phone numbers.

    Raises:
        UsageError: There is no key, or ``length`` is not from 8 to 64.
    """

    length: int = 16
    """Hexadecimal digits. Of 16, two among 100 million values are the same with a chance of 1 in 3,700."""

    def __post_init__(self) -> None:
        if self.key is None:
            message = (
                "the action hash needs a key: without one, anybody can try all phone numbers. Pass key=..., or "
                "key_from_environment= with the name of an environment variable that holds it."
            )
            raise UsageError(message)
        super().__post_init__()
        if not 8 <= self.length <= 64:
            message = f"a hash has from 8 to 64 hexadecimal digits, not {self.length}."
            raise UsageError(message)

    def document(self, text: str) -> Change:
        """Tags with hashes."""
        key, length = (self.key or "").encode(), self.length
        return lambda entity, value: f"<{entity}:{_digest(key, same_value(entity, value)).hex()[:length]}>"


@dataclass(frozen=True)
class Substitute(_Keyed):
    """Made-up data of the same kind, of Faker's names and places: another name, a number of the same shape.

    One value has one substitute inside a document. With a key it has the same one in all documents; without, what it
    gets depends on the document, and nothing links two documents. Two values have two substitutes while there are any.

    A substitute never contains the value, nor for names and places a word of it. Numbers and addresses come from
    ranges that belong to nobody (:mod:`tamis.pii.substitutes`), so they harm no one, and are known again: done twice,
    they are the same. Names, places, streets, dates, passports and licences have no such range: done twice, others are
    made up. Keys, and what is of no kind known here, become tags, as with :class:`Replace`.

    Raises:
        MissingExtraError: The package faker is not installed.
    """

    remembers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_installed(type(self).__name__)

    def document(self, text: str) -> Change:
        """Substitutes; what was made up for a document is remembered with it."""
        make = maker()
        key = hashlib.sha256(text.encode()).digest() if self.key is None else self.key.encode()
        known: dict[tuple[str, str], str] = {}
        used: set[str] = set()

        def change(entity: str, value: str) -> str:
            same = entity, same_value(entity, value)
            if same not in known:
                for attempt in range(_ATTEMPTS):
                    found = make(entity, value, _digest(key, f"{attempt} {entity} {same[1]}"))
                    if found is not None and found not in used and not _tells(found, entity, value):
                        break
                else:
                    found = None
                known[same] = f"<{entity}>" if found is None else found
                used.add(known[same])
            return known[same]

        return change

    def keeps(self, entity: str, value: str) -> bool:
        """What lies in a reserved range is nobody's, and stays."""
        return is_reserved(entity, value)

    def identity(self) -> Mapping[str, str]:
        """The key, and the version of Faker: another one may have other names."""
        return {**super().identity(), "faker": version()}


_ATTEMPTS: Final = 32


def _tells(made: str, entity: str, value: str) -> bool:
    """Whether a substitute holds the value, or of a name a word of it."""
    inside, whole = (("".join(filter(str.isalnum, each))).casefold() for each in (made, value))
    if whole and whole in inside:
        return True
    words = re.findall(r"\w{3,}", value.casefold()) if entity in {"PERSON", "LOCATION", "ADDRESS"} else []
    return not set(words).isdisjoint(re.findall(r"\w{3,}", made.casefold()))


def _digest(key: bytes, message: str) -> bytes:
    return hmac.new(key, message.encode(), hashlib.sha256).digest()


ACTIONS: Final[Mapping[str, type[Action]]] = {
    "replace": Replace,
    "redact": Redact,
    "mask": Mask,
    "hash": Hash,
    "substitute": Substitute,
}
"""The names of actions."""
