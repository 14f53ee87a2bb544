"""What patterns find: cases kept as data, a slow oracle for the pass over bytes, and what holds for any text."""

from __future__ import annotations

import json
import pickle
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.errors import MissingExtraError, UnknownNameError, UsageError
from tamis.pii import checksums
from tamis.pii.entities import ENTITIES, PATTERN_ENTITIES, canonical
from tamis.pii.patterns import MIN_SCORE, PatternDetector, detect, patterns_of
from tamis.pii.spans import Detector, Span, resolve
from tamis.text.arrow import utf8
from tamis.text.pii_scan import candidates

CASES = [json.loads(line) for line in (Path(__file__).parent / "cases" / "pii.jsonl").read_text("utf-8").splitlines()]
KNOWN = pytest.mark.xfail(strict=True, reason="not done yet")


def large(texts):
    return pa.array(texts, pa.large_string())


@pytest.fixture(scope="module")
def find():
    return PatternDetector().open()


def plain(spans):
    return sorted((s.start, s.end, s.entity, s.score) for s in spans)


PATTERNS = patterns_of(PATTERN_ENTITIES, ("US", "GB"))


def slow(text):
    """Every expression at every character of a text."""
    found = []
    for pattern in PATTERNS:
        at = 0
        while match := pattern.expression.search(text, at):
            hit = pattern.judge(match)
            at = match.start() + 1 if hit is None else hit[1]
            if hit is not None and hit[2] >= MIN_SCORE:
                found.append((hit[0], hit[1], pattern.entity, round(hit[2], 2)))
    return sorted(found)


# -- cases ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c["name"], marks=[KNOWN] if c.get("known_failure") else []) for c in CASES]
)
def test_case(case):
    text = case["text"]
    assert [[span.entity, span.of(text)] for span in detect(text)] == case["spans"]


def test_names_of_cases_differ():
    assert len({case["name"] for case in CASES}) == len(CASES)


# Written in pieces, so that nothing in this file looks like a key to whoever searches for lost ones.
KEYS = [
    "AKIA" + "Q3EXAMPLE7WZ4KD2",
    "gh" + "p_" + "a1B2c3D4e5" * 4,
    "xox" + "b-123456789012-abcdefABCDEF",
    "AIza" + "b7_-C" * 7,
    "ey" + "JhbGciOiJIUzI1NiJ9." + "ey" + "JzdWIiOiIxMjM0NTY3ODkwIn0." + "abcdefghij_-KLMNOP",
    "sk-" + "proj-" + "a1B2c3D4e5f6G7h8I9j0",
    "sk_" + "live_" + "a1B2c3D4e5f6G7h8",
    "glpat-" + "a1B2c3D4e5f6G7h8I9j0",
    "hf_" + "abcdefghijKLMNOPqrstuvwxyzABCDEFGH",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("around", ["{}", "token={}", '"{}"', "MY_KEY={}\n", "見る{}。"])
def test_keys(key, around):
    text = around.format(key)
    assert [(s.entity, s.of(text)) for s in detect(text, ["API_KEY"])] == [("API_KEY", key)]


@pytest.mark.parametrize("name", ["api_key", "API-KEY", "aws_secret_access_key", "auth_token", '"client_secret"'])
def test_values_assigned_to_the_names_of_keys(name):
    text = f"{name} = 'Zq81Lw0pTn5Rb7Yx3Kc9'"
    assert [s.of(text) for s in detect(text, ["API_KEY"])] == ["Zq81Lw0pTn5Rb7Yx3Kc9"]


@pytest.mark.parametrize(
    "text", ["api_key = from_environment()", "secret: aaaaaaaa1111111aaaa", "token = 1234567890123456"]
)
def test_values_that_are_no_keys(text):
    assert detect(text, ["API_KEY"]) == []


@pytest.mark.parametrize("kind", ["", "RSA ", "OPENSSH ", "ENCRYPTED "])
def test_private_keys(kind):
    body = "-----{} " + kind + "PRIVATE KEY-----"
    key = body.format("BEGIN") + "\nProc-Type: 4,ENCRYPTED\n\n" + "MIIEpAIBAAKCAQEA75Q\n" * 5 + body.format("END")
    text = f"before\n{key}\nafter"
    assert [s.of(text) for s in detect(text, ["PRIVATE_KEY"])] == [key]
    cut = key[: key.index("-----END")].replace("Proc-Type: 4,ENCRYPTED\n\n", "")
    assert detect(cut + "and so on", ["PRIVATE_KEY"])[0].end == len(cut.rstrip())


# -- the pass over bytes --------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [case["text"] for case in CASES if case["text"]] + KEYS
    + ["212-555-0199", "4111 1111 1111 1111", "a@b.org", "@", "::", "1.2.3.4", "2020-01-02", "0044 20 7946 0018", "00"]
    + ["call ", "SSN ", "license ", "passport ", "in ", "1990", "Box 12", "12 of May", "3rd March", "GB82"]
    + ["12", "7", "212", "555", "0199", "5551234567x12", "+", "(", "-----BEGIN ", "://", "http", "www.", "sk-", "eyJ"]
)  # fmt: skip
GLUE = st.sampled_from(
    ["", " ", "  ", "\n", ".", ",", "-", "_", "/", "(", ")", "é", "字", "😀", "א", "\u00a0", "a", "Z", "0"]
)
TEXTS = st.lists(st.tuples(PIECES, GLUE), max_size=8).map(lambda pairs: "".join(a + b for a, b in pairs))
NOISE = st.text(alphabet="0123456789 -./()+:@aZ_xé字😀\n", max_size=60)


@given(st.lists(TEXTS | NOISE | st.text(max_size=40).filter(lambda t: t.isprintable()), max_size=5))
def test_equals_every_expression_at_every_character(find, texts):
    found = find(large(texts))
    assert {row: plain(spans) for row, spans in found.items()} == {r: s for r, t in enumerate(texts) if (s := slow(t))}


@given(st.lists(st.none() | TEXTS, max_size=8), st.integers(0, 8))
def test_any_batching(find, texts, cut):
    together = find(large(texts))
    first, second = find(large(texts[:cut])), find(large(texts)[cut:])
    assert together == {**first, **{row + cut: spans for row, spans in second.items()}}
    assert not any(texts[row] is None for row in together)


@given(TEXTS)
def test_spans_lie_in_the_text_and_hold_what_they_say(text):
    spans = detect(text)
    assert all(0 <= a.start < a.end <= len(text) for a in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    for span in PatternDetector().open()(large([text])).get(0, []):
        letters = "".join(c for c in span.of(text) if c.isalnum())
        match span.entity:
            case "CREDIT_CARD":
                assert checksums.luhn(letters)
            case "IBAN":
                assert checksums.iban(letters.upper())
            case "US_SSN":
                assert checksums.ssn(letters)
            case "UK_NHS":
                assert checksums.nhs(letters)
            case "EMAIL_ADDRESS":
                assert span.of(text).count("@") == 1
        assert MIN_SCORE <= span.score <= 1
        assert span.detector == "patterns"


def test_blocks_of_rows_join(find, monkeypatch):
    texts = ["nothing", "a@b.org", "", "x" * 300, "call 212-555-0199", "in 1990"] * 7
    expected = find(large(texts))
    monkeypatch.setattr("tamis.text.pii_scan._BLOCK", 40)
    assert find(large(texts)) == expected
    assert set(expected) == {i for i in range(len(texts)) if i % 6 in (1, 4, 5)}


def test_only_texts_with_a_place_are_decoded():
    texts = large(["no trigger in here at all"] * 1000 + ["but a@b.org"])
    _, _, rows = candidates(*utf8(texts), 0xFFFF)
    assert set(rows.tolist()) == {1000}


# -- time -----------------------------------------------------------------------------------------------------

HARD = {
    "digits": "0123456789",
    "digit and space": "1 ",
    "phone": "212-555-0199 ",
    "brackets": "(1(",
    "mail": "a@",
    "mail with dots": "a@a.",
    "local part": "a.",
    "colons": "1:",
    "double colons": "::",
    "address": "http://",
    "address end": "http://a.b/" + ")" * 50,
    "key": "eyJ" + "a" * 10 + "-",
    "token": "sk-",
    "begin": "-----BEGIN PRIVATE KEY-----",
    "dashes": "-",
    "bank": "GB82 ",
    "months": "12 May ",
    "streets": "12 Aa ",
    "streets long": "12 " + "Aaaaaaaaaaaaaaaaaaaaaaaa " * 4,
    "city": "1 A St, A a a a a a a a a a a a a a a a ",
    "secret": "secret_",
    "card": "4111 ",
    "wide": "é",
}


def attempts(text):
    """Places at which an expression is tried, and the characters that those which match go over."""
    places, masks, _ = candidates(*utf8(large([text])), 0xFFFF)
    return len(places), int(np.unpackbits(masks.view(np.uint8)).sum())


@pytest.mark.parametrize("name", HARD)
def test_time_is_linear(find, name):
    once = HARD[name] * (20_000 // len(HARD[name]))
    small, large_text = large([once]), large([once * 8])
    find(large([once[:400]]))
    # The places grow with the text, and no faster.
    places, masks = attempts(once)
    more, more_masks = attempts(once * 8)
    assert more <= 8.1 * places + 64
    assert more_masks <= 8.1 * masks + 64
    # Eight times the text takes about eight times as long; what is quadratic takes 64 times.
    assert quickest(find, large_text) < 30 * max(quickest(find, small), 0.004)


def quickest(find, texts):
    """Seconds of the best of three runs: the garbage collector walks through all of a process now and then."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        find(texts)
        seconds.append(time.process_time() - start)
    return min(seconds)


def test_ten_megabytes_of_digits(find):
    assert find(large(["0123456789" * 1_000_000])) == {}


# -- overlaps -------------------------------------------------------------------------------------------------

SPANS = st.lists(
    st.builds(
        lambda start, size, entity, score: Span(start, start + size, entity, score),
        st.integers(0, 30), st.integers(0, 12), st.sampled_from("ABC"), st.sampled_from([0.3, 0.5, 0.9]),
    ),
    max_size=12,
)  # fmt: skip


@given(SPANS, st.randoms(use_true_random=False))
def test_resolve(spans, random):
    resolved = resolve(spans)
    assert all(a.end <= b.start for a, b in pairwise(resolved))
    cover = {i for s in spans for i in range(s.start, s.end)}
    assert {i for s in resolved for i in range(s.start, s.end)} == cover
    assert resolve(resolved) == resolved
    random.shuffle(spans)
    assert resolve(spans) == resolved
    # The best of those that lie in no other one keeps its place.
    real = [(s.start, s.end) for s in spans if s.start < s.end]
    inner = {i for i in real for o in real if o != i and o[0] <= i[0] and i[1] <= o[1]}
    outer = [s for s in spans if (s.start, s.end) in set(real) - inner]
    if outer:
        best = min(outer, key=lambda s: (-s.score, s.start - s.end, s.start, s.entity))
        assert best in resolved


def test_the_outer_span_stays_and_the_better_one_is_whole():
    outer, inner = Span(0, 10, "URL", 0.6), Span(2, 8, "EMAIL_ADDRESS", 0.95)
    assert resolve([inner, outer]) == [outer]
    left, right = Span(0, 6, "PERSON", 0.7), Span(4, 9, "PHONE_NUMBER", 0.9)
    assert resolve([left, right]) == [Span(0, 4, "PERSON", 0.7), right]
    assert resolve([Span(3, 3, "URL", 1.0)]) == []


# -- names, settings ------------------------------------------------------------------------------------------


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no entity 'EMAIL_ADRESS'\. Did you mean 'EMAIL_ADDRESS'"):
        PatternDetector(("EMAIL_ADRESS",))
    with pytest.raises(UsageError, match="Patterns do not find PERSON"):
        PatternDetector(("PERSON",))
    with pytest.raises(UsageError, match="two letters"):
        PatternDetector(regions=("USA",))
    with pytest.raises(UsageError, match="between 0 and 1"):
        PatternDetector(min_score=50)


def test_names_are_understood_in_other_writings():
    assert PatternDetector(["iban_code", "url"]).entities == ("IBAN", "URL")
    assert PatternDetector("url").entities == ("URL",)
    assert PatternDetector(None).entities == PATTERN_ENTITIES == PatternDetector().entities
    assert canonical(["SSN", "US_SSN"]) == ("US_SSN",)
    assert set(PATTERN_ENTITIES) == {pattern.entity for pattern in PATTERNS}
    assert {"PERSON", "LOCATION"} == set(ENTITIES) - set(PATTERN_ENTITIES)


def test_only_what_is_asked_for():
    text = "a@b.org, 212-555-0199, http://b.org/"
    assert [s.entity for s in detect(text, ["url"])] == ["URL"]
    assert detect(text, []) == []


def test_a_description_travels():
    detector = PatternDetector(("URL", "PHONE_NUMBER"), regions=("us", "DE"))
    assert isinstance(detector, Detector)
    assert pickle.loads(pickle.dumps(detector)) == detector
    assert hash(detector) == hash(PatternDetector(["url", "phone"], ("US", "DE")))
    assert detector.regions == ("US", "DE")


def test_regions_decide_about_numbers_without_a_country_code():
    text = "Erreichbar unter 030 901820 ist sie."
    assert detect(text, ["PHONE_NUMBER"]) == []
    found = PatternDetector(["PHONE_NUMBER"], regions=("DE",)).open()(large([text]))[0]
    assert [span.of(text) for span in found] == ["030 901820"]


def test_min_score():
    text = "version 1.2.3.4"
    assert detect(text) == []
    assert PatternDetector(min_score=0.0).open()(large([text]))[0][0].score == 0.3


def test_phones_need_their_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tamis\[pii\]'"):
        PatternDetector(["PHONE_NUMBER"])
    with pytest.raises(MissingExtraError, match="PHONE_NUMBER"):
        PatternDetector()
    assert [s.entity for s in PatternDetector(["URL"]).open()(large(["http://a.org"]))[0]] == ["URL"]


def test_several_detectors_of_ones_own():
    class Names:
        name = "names"
        entities = ("PERSON",)

        def open(self):
            return lambda texts: {i: [Span(0, 3, "PERSON", 0.9, "names")] for i, t in enumerate(texts.to_pylist()) if t}

    text = "Ann a@b.org"
    both = detect(text, detectors=[Names(), PatternDetector()])
    assert [(s.entity, s.detector) for s in both] == [("PERSON", "names"), ("EMAIL_ADDRESS", "patterns")]
    assert [s.entity for s in detect(text, ["PERSON"], [Names(), PatternDetector()])] == ["PERSON"]


def test_a_word_near_raises_the_score():
    alone = detect("It is 219-09-9999 there", ["US_SSN"])[0].score
    near = detect("SSN: it is 219-09-9999 there", ["US_SSN"])[0].score
    assert (alone, near) == (0.7, 1.0)
