"""Spans applied to a text, and what each action puts in their place."""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import re
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.errors import MissingExtraError, UnknownNameError, UsageError
from tamis.pii import (
    ACTIONS,
    ENTITIES,
    Hash,
    Mask,
    PatternDetector,
    Redact,
    Replace,
    Span,
    Substitute,
    detect,
    redact,
    resolve,
)
from tamis.pii.actions import same_value, tag_places
from tamis.pii.checksums import iban, luhn, nhs, ssn
from tamis.pii.redact import settled
from tamis.pii.substitutes import is_reserved

KEY = "a key for tests only"
ALL = [Replace(), Replace(numbered=True), Redact(), Mask(), Mask(keep_last=4), Hash(KEY), Substitute(), Substitute(KEY)]
MAIL = "EMAIL_ADDRESS"
VALUES = {
    "EMAIL_ADDRESS": ["ann.lee@corp.org", "Bo@x-y.co.uk"],
    "PHONE_NUMBER": [
        "+1 212 867 5309",
        "(212) 867-5309",
        "+44 20 8366 1177",
        "020 8366 1177",
        "+49 30 901820",
        "867-5309",
    ],
    "URL": ["https://ann.me/a/b?c=d", "www.corp.org"],
    "IP_ADDRESS": ["10.1.2.3", "2a02:8071::1"],
    "MAC_ADDRESS": ["a4:83:e7:12:9b:01", "A4-83-E7-12-9B-01"],
    "CREDIT_CARD": ["4111 1111 1111 1111", "378282246310005", "5500-0000-0000-0004", "30569309025904", "4222222222222"],
    "IBAN": ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000"],
    "US_SSN": ["078-05-1120", "078051120"],
    "US_ITIN": ["912-70-1234"],
    "UK_NHS": ["943 476 5919", "9434765919"],
    "US_PASSPORT": ["123456789", "A12345678"],
    "US_DRIVER_LICENSE": ["D123-4567-8901"],
    "PERSON": ["Ann Lee", "JOHN", "Maria de la Cruz"],
    "LOCATION": ["Paris"],
    "ADDRESS": ["12 Oak Street"],
    "DATE_TIME": ["2024-03-02", "3/2/24", "May 5, 2020", "Monday"],
}
NUMBERED = [(entity, value) for entity, values in VALUES.items() for value in values]


def at(text, value, entity, score=0.9):
    start = text.index(value)
    return Span(start, start + len(value), entity, score)


# -- every action ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("replace", "from <EMAIL_ADDRESS> on"),
        ("redact", "from  on"),
        ("mask", "from ************ on"),
        (Replace(new_value="[gone]"), "from [gone] on"),
        (Mask("#", keep_first=1, keep_last=3), "from a########org on"),
    ],
)
def test_what_an_action_writes(action, expected):
    text = "from ann@corp.org on"
    assert redact(text, [at(text, "ann@corp.org", MAIL)], action) == expected


def test_numbers_are_one_for_each_value_and_go_on_after_those_of_the_text():
    text = "ann@a.org bo@b.org ANN@a.org 1.2.3.4 <EMAIL_ADDRESS_4>"
    spans = [at(text, v, MAIL) for v in ("ann@a.org", "bo@b.org", "ANN@a.org")] + [at(text, "1.2.3.4", "IP_ADDRESS")]
    assert (
        redact(text, spans, Replace(numbered=True))
        == "<EMAIL_ADDRESS_5> <EMAIL_ADDRESS_6> <EMAIL_ADDRESS_5> <IP_ADDRESS_1> <EMAIL_ADDRESS_4>"
    )


def test_a_mask_keeps_half_at_most_and_the_lines():
    card = "4111 1111 1111 1234"
    assert redact(card, [Span(0, 19, "CREDIT_CARD", 1)], Mask(keep_last=4)) == "**** **** **** 1234"
    assert redact("123456", [Span(0, 6, "X", 1)], Mask(keep_last=4)) == "******"
    assert redact("ab\ncd", [Span(0, 5, "X", 1)], "mask") == "**\n**"


def test_a_hash_is_an_hmac_of_the_value_and_joins_ways_to_write_it():
    text = "4111 1111 1111 1111 or 4111-1111-1111-1111"
    spans = [Span(0, 19, "CREDIT_CARD", 1), Span(23, 42, "CREDIT_CARD", 1)]
    expected = hmac.new(KEY.encode(), b"4111111111111111", hashlib.sha256).hexdigest()
    for length in (8, 16, 64):
        tag = f"<CREDIT_CARD:{expected[:length]}>"
        assert redact(text, spans, Hash(KEY, length)) == f"{tag} or {tag}"
    assert redact(text, spans, Hash("another key")) != redact(text, spans, Hash(KEY))


def test_a_hash_without_a_key_is_refused():
    for make in (Hash, lambda: redact("a", [], "hash"), lambda: Hash(None)):
        with pytest.raises(UsageError, match="the action hash needs a key"):
            make()
    with pytest.raises(UsageError, match="the key has 3 characters"):
        Hash("abc")
    with pytest.raises(UsageError, match="from 8 to 64 hexadecimal digits, not 7"):
        Hash(KEY, 7)


def test_a_key_is_shown_nowhere():
    for action in (Hash(KEY), Substitute(KEY)):
        assert KEY not in repr(action)
        assert KEY not in str(action.identity())
        assert len(action.identity()["key"]) == 4
        assert action.identity() != replace(action, key="some other key").identity()


# -- substitutes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("entity", "value"), NUMBERED)
def test_a_substitute_is_of_the_kind_and_never_the_value(entity, value):
    seen = set()
    for key in ("key number 1", "key number 2", "key number 3", None):
        made = redact(value, [Span(0, len(value), entity, 1)], Substitute(key))
        assert value.casefold() not in made.casefold()
        assert not made.startswith("<")
        seen.add(made)
        assert is_reserved(entity, made) == (
            entity not in {"PERSON", "LOCATION", "ADDRESS", "DATE_TIME", "US_PASSPORT", "US_DRIVER_LICENSE"}
        )
        plain = "".join(filter(str.isalnum, made))
        digits = "".join(filter(str.isdigit, made))
        if entity == "CREDIT_CARD":
            assert luhn(digits)
            assert re.sub(r"\d", "0", made) == re.sub(r"\d", "0", value)
        elif entity == "IBAN":
            assert iban(plain)
        elif entity == "UK_NHS":
            assert nhs(digits)
        elif entity in {"US_SSN", "US_ITIN"}:
            assert len(digits) == 9
            assert not ssn(digits)  # never given out
        elif entity == "PERSON":
            assert set(value.casefold().split()).isdisjoint(made.casefold().split())
            assert value.isupper() == made.isupper()
    assert len(seen) > 1 or entity == "MAC_ADDRESS"


def test_even_a_short_value_is_not_in_its_substitute():
    for number in range(20):
        action = Substitute(f"key number {number}")
        for entity, value in [*(("DATE_TIME", d) for d in "0123456789"), ("URL", "com"), ("PERSON", "a")]:
            made = redact(value, [Span(0, 1 if len(value) == 1 else 3, entity, 1)], action)
            assert value not in made.casefold() or made == f"<{entity}>"


def test_made_up_data_has_the_shape_that_patterns_look_for():
    for entity in ("EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN", "URL", "IP_ADDRESS", "MAC_ADDRESS"):
        for value in VALUES[entity]:
            if not detect(value, [entity]):  # a number without a country is found by the words near it
                continue
            made = redact(value, [Span(0, len(value), entity, 1)], Substitute(KEY))
            assert [(s.entity, s.of(made)) for s in detect(made, [entity])] == [(entity, made)]


def test_one_value_has_one_substitute_in_a_document_and_two_have_two():
    text = "ann@a.org 10.0.0.1 bo@b.org ann@a.org 10.0.0.2 Ann@A.org"
    spans = detect(text, [MAIL, "IP_ADDRESS"])
    made = redact(text, spans, Substitute()).split(" ")
    assert made[0] == made[3] == made[5]
    assert len(set(made)) == 4
    # 300 values of a range of 254 for each net, and of 256: still as many substitutes while there are any
    many = " ".join(f"10.0.{i // 200}.{i % 200}" for i in range(300))
    assert len(set(redact(many, detect(many, ["IP_ADDRESS"]), Substitute()).split())) == 300


def test_a_key_links_documents_and_without_one_nothing_does():
    one, other = "Ann Lee is here", "Here is Ann Lee"

    def name(text, action):
        made = redact(text, [at(text, "Ann Lee", "PERSON")], action)
        return made.replace(" is here", "").replace("Here is ", "")

    assert name(one, Substitute(KEY)) == name(other, Substitute(KEY))
    assert name(one, Substitute()) != name(other, Substitute())
    assert name(one, Substitute()) == name(one, Substitute())


def test_what_has_no_substitute_becomes_a_tag():
    assert redact("key sk-123", [Span(4, 10, "API_KEY", 1)], "substitute") == "key <API_KEY>"
    assert redact("id 77", [Span(3, 5, "MEMBER", 1)], "substitute") == "id <MEMBER>"


def test_faker_that_is_missing_is_said_when_the_action_is_made(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("tamis.pii.substitutes.find_spec", lambda name: None if name == "faker" else found(name))
    with pytest.raises(MissingExtraError, match=r"pip install 'tamis\[pii\]'"):
        Substitute()


# -- redact ---------------------------------------------------------------------------------------------------

_TEXT = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from("\u202e\u05e9\u0645\U0001f468\u200d\U0001f469<>_ @.")),
    max_size=40,
)


@st.composite
def texts_and_spans(draw):
    text = draw(_TEXT)
    spans = []
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, len(text)))
        spans.append(
            Span(start, end, draw(st.sampled_from(["PERSON", MAIL, "US_SSN", "X"])), draw(st.sampled_from([0.5, 0.9])))
        )
    return text, spans


@given(texts_and_spans(), st.sampled_from(ALL))
def test_text_outside_of_the_spans_is_untouched_byte_for_byte(made, action):
    text, spans = made
    covered = {i for span in spans for i in range(span.start, span.end)}
    parts = re.split("\x00", "".join("\x00" if i in covered else c for i, c in enumerate(text.replace("\x00", " "))))
    result = redact(text.replace("\x00", " "), spans, action).encode("utf-8")
    at_byte = 0
    for number, part in enumerate(filter(None, parts)):
        place = result.find(part.encode(), at_byte)
        assert place >= 0, (number, part, result)
        at_byte = place + len(part.encode())
    if not spans:
        assert result == text.replace("\x00", " ").encode()


@given(texts_and_spans())
def test_nothing_is_left_of_a_span_when_it_is_taken_out(made):
    text, spans = made
    done = {i for start, end in tag_places(text, {"X"}) for i in range(start, end)}
    gone = {i for span in spans for i in range(span.start, span.end)} - done
    expected = "".join(c for i, c in enumerate(text) if i not in gone)
    result = redact(text, spans, "redact")
    # Of a span that a tag cuts, pieces without a letter or digit stay: there is nothing in them.
    letters = [c for c in result if c.isalnum()]
    assert letters == [c for c in expected if c.isalnum()]
    if not done:
        assert result == expected


def test_nested_and_overlapping_spans_in_any_order():
    text = "\u05e9\u05dc\u05d5\u05dd \U0001f44d\U0001f3fd ann@a.org, call \u202b5309\u202c"
    outer, inner, other = Span(8, 17, MAIL, 0.9), Span(8, 11, "PERSON", 1.0), Span(12, 23, "URL", 0.4)
    for spans in ([outer, inner, other], [other, inner, outer], [inner, inner, outer, other]):
        assert (
            redact(text, spans) == "\u05e9\u05dc\u05d5\u05dd \U0001f44d\U0001f3fd <EMAIL_ADDRESS><URL> \u202b5309\u202c"
        )
    assert [s.entity for s in resolve([outer, inner, other])] == [MAIL, "URL"]


def test_spans_of_another_text_are_refused():
    for start, end in ((3, 9), (-1, 2), (2, 1)):
        with pytest.raises(UsageError, match=r"lies outside of a text of 4 characters. Was it found in another"):
            redact("four", [Span(start, end, MAIL, 1)])


def test_tags_are_known_again_and_nothing_else_is():
    for tag in ("<EMAIL_ADDRESS>", "<EMAIL_ADDRESS_12>", "<US_SSN:0123456789abcdef>"):
        assert tag_places(f"x {tag}") == [(2, 2 + len(tag))]
        assert redact(tag, [Span(0, len(tag), "PERSON", 1)]) == tag
        assert redact(f"a{tag}b", [Span(0, len(tag) + 2, "PERSON", 1)]) == f"<PERSON>{tag}<PERSON>"
    for text in ("<DIV>", "<AKIAIOSFODNN7EXAMPLE>", "<EMAIL_ADDRESS:ann>", "<PERSON:0123>", "<>", "<person>"):
        assert tag_places(text) == []
    assert tag_places("<DIV>", ["DIV"]) == [(0, 5)]


def test_an_action_that_does_not_exist_is_named_with_its_neighbour():
    with pytest.raises(UnknownNameError, match=r"no action 'replce'\. Did you mean 'replace'"):
        redact("a", [], "replce")
    with pytest.raises(UsageError, match="leave new_value out"):
        Replace(numbered=True, new_value="x")
    with pytest.raises(UsageError, match="no letter, digit or white space"):
        Mask("x")
    with pytest.raises(UsageError, match="must be 0 or more"):
        Mask(keep_last=-1)
    assert set(ACTIONS) == {"replace", "redact", "mask", "hash", "substitute"}


def test_values_that_are_the_same():
    assert same_value("PHONE_NUMBER", "+1 (212) 867-5309") == "12128675309"
    assert same_value("API_KEY", "aBc") != same_value("API_KEY", "abc")
    assert same_value("PERSON", " Ann\tLEE ") == "ann lee"


# -- until nothing is found -----------------------------------------------------------------------------------


def _finder(pattern, entity="CODE"):
    def find(texts):
        rows = enumerate(texts.to_pylist())
        found = {i: [Span(*m.span(), entity, 0.9, "test") for m in re.finditer(pattern, t or "")] for i, t in rows}
        return {i: spans for i, spans in found.items() if spans}

    return find


def test_what_comes_to_light_by_a_change_is_changed_too():
    find = _finder("ab")
    texts = ["xaabby", "aaabbb", "nothing"]
    batch = pa.array(texts, pa.large_string())
    first = [find(batch).get(i, []) for i in range(3)]
    assert settled(texts, first, Redact(), None) == ["xaby", "aabb", "nothing"]
    assert settled(texts, first, Redact(), find) == ["xy", "", "nothing"]


def test_it_ends_where_a_change_always_shows_something_new():
    find = _finder("[a-z]+")
    assert settled(["ab"], [find(pa.array(["ab"]))[0]], Replace(new_value="xa"), find) == ["xa"]


def test_made_up_data_is_not_made_up_again_in_one_go():
    text = "from 2024-03-02 to May 5, 2020"
    batch = pa.array([text], pa.large_string())
    find = PatternDetector(("DATE_TIME",)).open()
    for action in (Substitute(), Substitute(KEY)):
        assert settled([text], [find(batch)[0]], action, find) == [redact(text, find(batch)[0], action)]


SENTENCES = st.lists(
    st.one_of(
        st.sampled_from([value for values in VALUES.values() for value in values]),
        st.sampled_from(
            [
                "my passport",
                "ssn",
                "driver's license",
                "call",
                "card",
                "IP",
                "key=",
                "api_key:",
                "<DIV>",
                "\u202e",
                "\n",
            ]
        ),
        st.sampled_from(
            ["<EMAIL_ADDRESS>", "<US_PASSPORT_3>", "123 456 789", "sk-ant-api03-abcdefghijklmnop1234", "\U0001f44d"]
        ),
        st.text("0123456789-+.@ /:ab", max_size=12),
    ),
    max_size=12,
)
STABLE = tuple(
    name
    for name, entity in ENTITIES.items()
    if entity.patterns and name not in {"ADDRESS", "DATE_TIME", "US_PASSPORT", "US_DRIVER_LICENSE"}
)
FINDERS = {entities: PatternDetector(*([entities] if entities else [])).open() for entities in (None, STABLE)}


@given(SENTENCES, st.sampled_from(["", " ", ", "]), st.sampled_from(ALL))
def test_redacting_twice_is_redacting_once(words, between, action):
    # Of made-up data, what has no reserved range is made up anew.
    find = FINDERS[STABLE if isinstance(action, Substitute) else None]

    def run(text):
        spans = resolve(find(pa.array([text], pa.large_string())).get(0, []))
        return settled([text], [spans], action, find)[0]

    once = run(between.join(words))
    assert run(once) == once
