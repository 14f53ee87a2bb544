"""The quick way to one text field takes nothing that the general parser would not, and reads the same."""

from __future__ import annotations

import json
import random

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.text.jsontext import text_of_lines

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(
    st.sampled_from(["text", "id", "te", "texts", "x", "", "\u00e9"]) | st.text(max_size=3), values
)


def quick(lines: list[bytes], others: list[str]):
    data = b"\n".join(lines)
    ends = np.cumsum([len(line) + 1 for line in lines]) - 1
    starts = ends - [len(line) for line in lines]
    return text_of_lines(data, starts, ends, "text", others)


def oracle(line: bytes):
    """(text, keys) as the general parser has them, ``None`` where it refuses or there is no text."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if type(document) is not dict or "text" not in document or not isinstance(document["text"], str | None):
        return None
    return document["text"], set(document)


@settings(max_examples=300, deadline=None)
@given(st.lists(documents, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_good_lines_read_the_same(docs, ascii_only, spaced):
    separators = (" , ", " : ") if spaced else (",", ":")
    lines = [json.dumps(d, ensure_ascii=ascii_only, separators=separators).encode() for d in docs]
    found = quick(lines, ["id", "x"])
    expected = [oracle(line) for line in lines]
    if found is None:
        return
    assert None not in expected
    assert found[0].to_pylist() == [text for text, _ in expected]
    found[0].validate(full=True)
    assert found[1] == {n for n in ("id", "x") if any(n in keys for _, keys in expected)}


def test_most_good_lines_are_taken():
    lines = [
        json.dumps({"id": i, "text": f'Zeile {i}\n\t"é" \U0001f600', "m": {"a": [1.5, None]}}).encode()
        for i in range(9)
    ]
    assert quick(lines, [])[0].to_pylist() == [json.loads(line)["text"] for line in lines]


SEEDS = [
    b'{"text":"a\\nb\\u00e9\\ud83d\\ude00","n":[1,-2.5e3,{"k":null,"t":true}],"f":false}',
    '{"text":"caf\u00e9 \U0001f600 \u4e2d","id":"x"}'.encode(),
    b'{ "text" : null , "a" : {} , "b" : [ ] , "c" : 0 }',
    b'{"a":[[[{"b":[]}]]],"text":"0123456789abcdef"}',
    b'{"text":"one","text":"two"}',
]


@pytest.mark.parametrize("seed", range(4))
def test_mutated_lines_are_never_taken_wrongly(seed):
    generator = random.Random(seed)
    alphabet = b'{}[]",:\\/ntrbfu0123456789-+.eE \ttrueflsn\x00\x1f\x7f\x80\xc3\xa9\xed\xa0\xf0\x9f'
    for _ in range(8000):
        line = bytearray(generator.choice(SEEDS))
        for _ in range(generator.randint(1, 3)):
            at = generator.randrange(len(line) + 1)
            what = generator.random()
            if what < 0.4 and at < len(line):
                line[at] = generator.choice(alphabet)
            elif what < 0.7:
                line.insert(at, generator.choice(alphabet))
            elif at < len(line):
                del line[at : at + generator.randint(1, 4)]
        if b"\n" in line:
            continue
        found = quick([bytes(line)], ["id"])
        if found is not None:
            expected = oracle(bytes(line))
            assert expected is not None, bytes(line)
            assert found[0].to_pylist() == [expected[0]], bytes(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b'{"text":"a"',
        b'{"text":"a"}}',
        b'{"text":"a"} x',
        b'{"text":"a",}',
        b'{"text":5}',
        b'{"txt":"a"}',
        b'{"text":"a","b":01}',
        b'{"text":"a","b":1.}',
        b'{"text":"a","b":.5}',
        b'{"text":"a","b":-}',
        b'{"text":"a","b":1e999}',
        b'{"text":"a","b":nul}',
        b'{"text":"a","b":[1 2]}',
        b'{"text":"a","b":[1}}',
        b'{"text":"\\ud800"}',
        b'{"text":"a","b":"\\udc00\\ud800"}',
        b'{"text":"a","b":"\\x"}',
        b'{"text":"a\x01"}',
        b'{"text":"\xff"}',
        b'{"text":"a","b":"\xed\xa0\x80"}',
        b'{"te\\u0078t":"a"}',
        b'{"text":"a","b":' + b"[" * 70 + b"]" * 70 + b"}",
    ],
)
def test_what_is_bad_or_in_doubt_is_left_to_the_parser(line):
    assert quick([b'{"text":"good"}', line, b'{"text":"good"}'], []) is None
