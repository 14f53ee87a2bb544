"""JSON Lines: every line is read once, whatever the cuts; what nobody touched comes out byte for byte."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis import DocumentDataset
from tamis.io import jsonl, lines
from tamis.io.files import InputFile
from tamis.io.records import Bad, End, Want
from tamis.io.schema import json_field
from tamis.io.splits import Piece
from tamis.table import Batch

RAW = Want(raw=True)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    [
        "",
        "\0",
        "\u2028\u2029\x85",
        "👩‍👩‍👧",
        "אבגد",
        "\ufeff",
        '"\\',
        "e\u0301\r\n\t",
        "\U0010ffff",
        "\x7f\x1b[0m",
        "}{",
    ]
)
NUMBERS = st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.sampled_from([-0.0, 1e308, 5e-324, (1 << 63) - 1]) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
FAST = settings(max_examples=150, deadline=None)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One file that every example writes anew."""
    global FILE  # noqa: PLW0603
    FILE = tmp_path_factory.mktemp("jsonl") / "in.jsonl"
    jsonl.value_spans(np.frombuffer(b'{"a":1}', dtype=np.uint8), np.array([0]), b"a")  # compiled before the clock runs


def pieces(content: bytes, *cuts: int, compression: str | None = None) -> list[Piece]:
    """The content as a file, cut there."""
    FILE.write_bytes(content)
    file = InputFile(str(FILE), "in.jsonl", len(content), "", "jsonl", compression)
    if not cuts:
        return [Piece(file, 0, len(content), len(content), whole=True)]
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    return [Piece(file, a, b, b - a, whole=False) for a, b in itertools.pairwise(edges)]


def batches(piece: Piece, want: Want = RAW) -> tuple[list[Batch], list[Bad], End]:
    """What reading yields, sorted by its kind; the end comes last and once."""
    found = list(jsonl.read(piece, want))
    assert [type(entry) for entry in found].count(End) == 1
    end = found[-1]
    assert isinstance(end, End)
    return [e for e in found if isinstance(e, Batch)], [e for e in found if isinstance(e, Bad)], end


def copy(content: bytes, *cuts: int, want: Want = RAW, compression: str | None = None) -> bytes:
    """What a writer makes of the content when nobody touches it."""
    out = io.BytesIO()
    writer = jsonl.JsonlWriter(out, pa.schema([]), None)
    for piece in pieces(content, *cuts, compression=compression):
        for batch in batches(piece, want)[0]:
            writer.write(batch, ())
    writer.close()
    return out.getvalue()


def records(content: bytes, *cuts: int, want: Want = RAW) -> list[tuple[Any, ...]]:
    """(line, offset, what) of every document and bad line, over all pieces, in the order of lines."""
    found: list[tuple[Any, ...]] = []
    first = 0
    for piece in pieces(content, *cuts):
        good, bad, end = batches(piece, want)
        here: list[tuple[Any, ...]] = [(b.line + first, b.offset, b.kind, b.detail, b.raw, b.size) for b in bad]
        for batch in good:
            origin, raw = batch.origin, batch.origin.raw
            assert raw is not None
            rows = zip(origin.line.tolist(), origin.offset.tolist(), strict=True)
            here += [(line + first, offset, raw[i]) for i, (line, offset) in enumerate(rows)]
        assert all(first <= record[0] < first + end.lines for record in here)
        found += sorted(here, key=lambda record: record[0])
        first += end.lines
    assert found == sorted(found, key=lambda record: record[:2])
    return found


def oracle(content: bytes) -> tuple[list[tuple[int, int, bytes]], int]:
    """(line, offset, stripped bytes) of every line that is not blank, and the number of lines."""
    found, offset = [], 0
    physical = content.split(b"\n")
    if not physical[-1]:
        physical.pop()
    for number, full in enumerate(physical):
        line, begin = full, offset
        offset += len(full) + 1
        if number == 0 and line.startswith(b"\xef\xbb\xbf"):
            line, begin = line[3:], begin + 3
        if line.strip(b" \t\r"):
            found.append((number, begin + len(line) - len(line.lstrip(b" \t\r")), line.strip(b" \t\r")))
    return found, len(physical)


# -- round trips ---------------------------------------------------------------------------------------------


@FAST
@given(st.lists(st.dictionaries(TEXTS, VALUES, max_size=4), min_size=1, max_size=5), st.booleans(), st.booleans())
def test_untouched_documents_come_out_byte_for_byte(documents: list[Any], ascii: bool, compact: bool) -> None:
    separators = (",", ":") if compact else None
    content = "".join(json.dumps(d, ensure_ascii=ascii, separators=separators) + "\n" for d in documents).encode()
    assert copy(content) == content
    assert copy(content, len(content) // 3, len(content) // 2) == content


@pytest.mark.parametrize(
    "line",
    [
        '{"n":1.10,"m":1E5,"k":-0,"j":-0.0,"i":0.1000000000000000055511151231257827}',
        '{"big":123456789012345678901234567890,"tiny":1e-400,"z":5e-324,"h":1e308}',
        '{"b":1,"a":2,"b":3}',
        r'{"\u0061":"\u00e9\ud83d\ude00\/\"","a":"\u2028"}',
        '{ "spaced" :\t[ 1 ,2 ] , "x" : { } }',
        "{}",
        "{ }",
        '{"nul":"\\u0000","del":"\x7f","sep":"\u2028\u2029\x85"}',
        '{"":{"":[[],{},[{}]]}}',
    ],
)
def test_every_spelling_survives(line: str) -> None:
    assert copy(line.encode()) == line.encode() + b"\n"


@FAST
@given(st.lists(st.dictionaries(TEXTS, VALUES, max_size=4), min_size=1, max_size=6))
def test_documents_read_as_columns_are_written_as_they_were(documents: list[dict[str, Any]]) -> None:
    content = b"".join(json.dumps(d).encode() + b"\n" for d in documents)
    (piece,) = pieces(content)
    schema = jsonl.scan(piece).to_arrow()
    good, bad, _ = batches(piece, Want(columns=tuple(schema)))
    assert not bad
    out = io.BytesIO()
    writer = jsonl.JsonlWriter(out, schema)
    for batch in good:
        writer.write(batch, ())
    writer.close()
    back = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [same(b) for b in back] == [same(d) for d in documents]


def same(value: Any) -> Any:
    """A value with what columns cannot tell apart made equal: a null and a missing field, 1 and 1.0."""
    if isinstance(value, dict):
        return {k: same(v) for k, v in value.items() if same(v) not in (None, {})}
    if isinstance(value, list):
        return [same(v) for v in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ("number", value, str(float(value)))
    return value


@FAST
@given(st.lists(st.tuples(st.none() | TEXTS, st.dictionaries(TEXTS, VALUES, max_size=3)), max_size=6), st.booleans())
def test_a_text_read_alone_is_the_text_read_with_others(rows: list[tuple[str | None, Any]], ascii: bool) -> None:
    content = "".join(json.dumps({**d, "text": t, "z": 1}, ensure_ascii=ascii) + "\n" for t, d in rows).encode()
    field = pa.field("text", pa.large_string())
    for columns in ((field,), (field, pa.field("z", pa.int64()))):
        good, bad, end = batches(pieces(content)[0], Want(columns=columns, texts=("text",), raw=True, made=("z", "q")))
        assert not bad
        assert end.lines == len(rows)
        assert [t for batch in good for t in batch.table["text"].to_pylist()] == [t for t, _ in rows]
        assert all(batch.origin.raw.present >= {"z"} for batch in good)
        assert [b.origin.raw[i] for b in good for i in range(b.table.num_rows)] == content.split(b"\n")[:-1]


# -- every line once -----------------------------------------------------------------------------------------

PARTS = st.sampled_from(
    [
        b'{"a":1}',
        '{"t":"жé👩‍👧"}'.encode(),
        b'  {"a": 2}\t',
        b"",
        b"   ",
        b"\t\r",
        b'{"t":"' + b"x" * 90 + b'"}',
        b'{"broken":',
        b'{"u":"\xff\xc3"}',
        b"[1]",
        b"{}",
        "{}\u00a0".encode(),
        b"null",
        b"\xef\xbb\xbf{}",
    ]
)
LINES = st.lists(st.tuples(PARTS, st.sampled_from([b"\n", b"\r\n"])), max_size=12)


@settings(max_examples=300, deadline=None)
@given(
    LINES,
    st.booleans(),
    st.booleans(),
    st.lists(st.integers(0, 400), max_size=4),
    st.integers(1, 50),
    st.integers(1, 50),
)
def test_any_cuts_give_every_line_once(
    parts: list[tuple[bytes, bytes]], bom: bool, ended: bool, cuts: list[int], chunk: int, beyond: int
) -> None:
    content = (b"\xef\xbb\xbf" if bom else b"") + b"".join(line + end for line, end in parts)
    content = content if ended else content.removesuffix(b"\n")
    expected, physical = oracle(content)
    with mock.patch.multiple(lines, _CHUNK=chunk, _BEYOND=beyond):
        whole = records(content)
        cut = records(content, *cuts)
        assert sum(batches(p)[2].lines for p in pieces(content, *cuts)) == physical
    assert [(line, offset) for line, offset, *_ in whole] == [(line, offset) for line, offset, _ in expected]
    assert [r[2] if len(r) == 3 else r[4] for r in whole] == [line for _, _, line in expected]
    assert cut == whole == records(content)


@settings(max_examples=300, deadline=None)
@given(
    LINES,
    st.booleans(),
    st.lists(st.integers(0, 400), max_size=4),
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(0, 110),
)
def test_the_limit_of_a_line_does_not_depend_on_the_cuts(
    parts: list[tuple[bytes, bytes]], bom: bool, cuts: list[int], chunk: int, beyond: int, limit: int
) -> None:
    content = (b"\xef\xbb\xbf" if bom else b"") + b"".join(line + end for line, end in parts)
    want = Want(raw=True, max_record_bytes=limit)
    with mock.patch.multiple(lines, _CHUNK=chunk, _BEYOND=beyond):
        found = records(content, *cuts, want=want)
    assert found == records(content, want=want)
    long = [(i, len(line)) for i, line in enumerate(content.split(b"\n")) if len(line) > limit]
    assert [(r[0], r[5]) for r in found if r[2] == "too long"] == long


def test_cuts_inside_characters_and_line_ends_lose_nothing() -> None:
    content = '\ufeff{"t":"жé👩‍👧"}\r\n\r\n\n {"t":"\u2028"} \r\n{"t":"x"}'.encode()
    whole = records(content)
    assert len(whole) == 3
    for a in range(len(content) + 1):
        for b in range(a, len(content) + 1, 5):
            assert records(content, a, b) == whole


# -- splicing ------------------------------------------------------------------------------------------------


def splice(content: bytes, made: dict[str, list[Any]], kinds: dict[str, pa.Field] | None = None) -> list[bytes]:
    """The lines of the content with these columns made anew, however the documents are read."""
    want = Want(raw=True, made=tuple(made))
    out = _spliced(content, made, kinds or {}, want)
    text = (pa.field("text", pa.large_string()),)
    if all(type(json.loads(line).get("text", 0)) is str for line in content.splitlines()):
        # One text field alone is read in a way of its own.
        assert _spliced(content, made, kinds or {}, replace(want, columns=text, texts=("text",))) == out
    return out


def _spliced(content: bytes, made: dict[str, list[Any]], kinds: dict[str, pa.Field], want: Want) -> list[bytes]:
    (piece,) = pieces(content.removesuffix(b"\n") + b"\n")
    ((batch,), bad, _) = batches(piece, want)
    assert not bad
    fields = [kinds.get(name) or pa.field(name, pa.array(v).type) for name, v in made.items()]
    table = pa.table([pa.array(v, f.type) for v, f in zip(made.values(), fields, strict=True)], pa.schema(fields))
    out = io.BytesIO()
    writer = jsonl.JsonlWriter(out, table.schema)
    writer.write(Batch(table, batch.origin), list(made))
    rows, size, _ = writer.close()
    assert (rows, size) == (table.num_rows, len(out.getvalue()))
    assert out.getvalue().endswith(b"\n")
    return out.getvalue().split(b"\n")[:-1]


KEYS = st.sampled_from(
    ["", "a", "ab", "abc", '"', "\\", 'a"', "a\\", "ключ", "👩", "\0", "\n", "/", "a/b", "{", "}", " "]
)


def spell(name: str, how: int) -> str:
    """A JSON string that stands for the name, spelled in one of five ways."""
    if how == 0:
        return json.dumps(name, ensure_ascii=False)
    if how == 1:
        return json.dumps(name)
    if how == 2:
        return json.dumps(name, ensure_ascii=False).replace("/", "\\/")
    units = name.encode("utf-16-be")
    codes = [units[i : i + 2].hex() for i in range(0, len(units), 2)]
    return '"' + "".join("\\u" + (c.upper() if how == 3 else c) for c in codes) + '"'


MEMBERS = st.lists(st.tuples(KEYS, st.integers(0, 4), VALUES), max_size=5)
BLANKS = st.text(" \t", max_size=2)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(MEMBERS, BLANKS, BLANKS), min_size=1, max_size=4),
    st.dictionaries(KEYS, st.tuples(TEXTS, st.booleans()), min_size=1, max_size=3),
)
def test_made_columns_take_the_place_of_the_old_values_and_nothing_else_changes(
    rows: list[tuple[list[tuple[str, int, Any]], str, str]], made: dict[str, tuple[str, bool]]
) -> None:
    lines = []
    for members, a, b in rows:
        members.append(("text", 0, "in every document"))
        inside = ",".join(f"{a}{spell(k, how)}{b}:{a}{json.dumps(v)}{b}" for k, how, v in members)
        lines.append("{" + (inside or a) + "}")
    columns = {name: [None if null else text] * len(rows) for name, (text, null) in made.items()}
    kinds = {name: pa.field(name, pa.string()) for name in made}
    out = splice("\n".join(lines).encode(), columns, kinds)
    assert len(out) == len(rows)
    for (members, *_), was, line in zip(rows, lines, out, strict=True):
        expected = json.loads(was) | {name: columns[name][0] for name in made}
        assert json.loads(line) == expected
        pairs = json.loads(line, object_pairs_hook=lambda pairs: [*pairs])
        had = [k for k, *_ in members]
        assert [k for k, _ in pairs] == had + [k for k in made if k not in had], "in place, or at the end"


@FAST
@given(st.lists(VALUES, min_size=1, max_size=4), st.booleans())
def test_values_of_every_kind_are_spliced_in(values: list[Any], ascii: bool) -> None:
    content = "\n".join(json.dumps({"a": 1, "v": "old", "z": [v]}, ensure_ascii=ascii) for v in values).encode()
    out = splice(content, {"v": [json.dumps(v) for v in values]}, {"v": json_field("v")})
    assert [json.loads(line)["v"] for line in out] == values
    assert [json.loads(line)["z"] for line in out] == [[v] for v in values]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{}", '{"a":"new"}'),
        ("{ \t}", '{ \t"a":"new"}'),
        ('{"b":1}', '{"b":1,"a":"new"}'),
        ('{ "a" : "old" , "b":1}', '{ "a" : "new" , "b":1}'),
        ('{"b":"\\"a\\":1","a":2}', '{"b":"\\"a\\":1","a":"new"}'),
        ('{"b":{"a":1},"c":[{"a":2}]}', '{"b":{"a":1},"c":[{"a":2}],"a":"new"}'),
        ('{"a":{"a":{"a":"}"}}}', '{"a":"new"}'),
        ('{"aa":1,"a":2}', '{"aa":1,"a":"new"}'),
        ('{"a":1,"a":2}', '{"a":1,"a":"new"}'),
        ('{"a":1,"\\u0061":2}', '{"a":1,"\\u0061":"new"}'),
        ('{"b":"a","a":-1.50e+3}', '{"b":"a","a":"new"}'),
        ('{"n":1.10,"a":[1, 2],"m":1E5}', '{"n":1.10,"a":"new","m":1E5}'),
        ('{"":1}', '{"":1,"a":"new"}'),
    ],
)
def test_the_rest_of_the_line_stays_as_it_was(line: str, expected: str) -> None:
    assert splice(line.encode() + b"\r\n", {"a": ["new"]}) == [expected.encode()]


def test_a_key_that_only_some_lines_have_or_spell_with_escapes_is_never_written_twice() -> None:
    content = b'{"\\u043a":"secret"}\n{"x":1}\n' + '{"к":"secret"}\n'.encode() + b'{"\\u043A":"secret"}'
    out = splice(content, {"к": ["clean"] * 4})
    paired = b'{"\\ud83d\\udc69x":"secret"}\n{"\\ud83d\\uDC69\\u0078":"secret"}\n{"\\ud83d\\udc68x":1}'
    out += splice(paired, {"👩x": ["clean"] * 3})
    assert all(line.count(b"clean") == 1 and b"secret" not in line for line in out)


@pytest.mark.parametrize("take", [[0, 1, 2, 3], [3, 1], [2], [1, 2], [0, 0, 3]])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b" \n "])
def test_taken_rows_are_written_each_by_itself(take: list[int], end: bytes) -> None:
    content = b"\xef\xbb\xbf" + b"".join(b'{"n":%d}' % i + end for i in range(4))
    (piece,) = pieces(content)
    ((batch,), _, _) = batches(piece)
    names = "abcd"
    for made in ((), ("m",)):
        out = io.BytesIO()
        writer = jsonl.JsonlWriter(out, pa.schema([]))
        table = pa.table({"m": list("abcd")})
        writer.write(Batch(table, batch.origin).take(np.array(take)), made)
        assert writer.close()[0] == len(take)
        tail = [f',"m":"{names[i]}"' if made else "" for i in take]
        assert out.getvalue().decode() == "".join(f'{{"n":{i}{t}}}\n' for i, t in zip(take, tail, strict=True))


# -- bad lines -----------------------------------------------------------------------------------------------

NOT_JSON = [
    b"{",
    b"}",
    b"[",
    b"{]",
    b'{"a"',
    b'{"a":',
    b'{"a":}',
    b'{"a":1',
    b'{"a":1,',
    b'{"a":1,}',
    b'{"a":1,,"b":2}',
    b'{,"a":1}',
    b'{"a" 1}',
    b'{"a"::1}',
    b'{"a":1 "b":2}',
    b'{"a":1}}',
    b'{"a":1}{"b":2}',
    b'{"a":1} x',
    b'{"a":1};',
    b'{"a":1}//note',
    b'/**/{"a":1}',
    b"{'a':1}",
    b"{a:1}",
    b"{1:1}",
    b"{null:1}",
    b"{[]:1}",
    b'{"a":"',
    b'{"a":"x}',
    b'{"a":x"}',
    b'{"a":"\\x41"}',
    b'{"a":"\\u12"}',
    b'{"a":"\\u12G4"}',
    b'{"a":"\\U00000041"}',
    b'{"a":"\\',
    b'{"a":"\\a"}',
    b'{"a":"tab\there"}',
    b'{"a":"nul\0here"}',
    b'{"a":"\x1f"}',
    b'{"a":01}',
    b'{"a":-01}',
    b'{"a":+1}',
    b'{"a":.5}',
    b'{"a":1.}',
    b'{"a":1e}',
    b'{"a":1e+}',
    b'{"a":--1}',
    b'{"a":-}',
    b'{"a":0x1F}',
    b'{"a":1_000}',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":nul}',
    b'{"a":True}',
    b'{"a":None}',
    b'{"a":undefined}',
    b'{"a":[1,]}',
    b'{"a":[,1]}',
    b'{"a":[1 2]}',
    b'{"a":[1}',
    b'{"a":{"b":1]}',
    b"a",
    b"\0",
    b"\x0c{}",
    "\u00a0{}".encode(),
    "\u2060".encode(),
    '{"a":\u00a01}'.encode(),
    "{“a”:1}".encode(),
    "{\uff02a\uff02:1}".encode(),
    b"\xef\xbb\xbf{}",
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b"[" * 5000,
]
NOT_UTF8 = [
    b'{"a":"\xff"}',
    b'{"a":"\xc3"}',
    b'{"a":"\xc3("}',
    b'{"a":"\xe2\x82"}',
    b'{"a":"\xc0\xaf"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\xf4\x90\x80\x80"}',
    b'{"a":"caf\xe9"}',
    b'{"\x80":1}',
    b'{\xff"a":1}',
    b"\xff\xfe{\x00}\x00",
    b"\x80",
]
SURROGATES = [
    b'{"a":"\\ud800"}',
    b'{"a":"\\udc00"}',
    b'{"a":"\\ud83d x"}',
    b'{"a":"\\ud800\\ud800"}',
    b'{"a":"\\udbff\\u0041"}',
    b'{"\\udfff":1}',
]
NO_OBJECT = [b"[]", b'[{"a":1}]', b'"text"', b"1", b"-0.5e3", b"true", b"false", b"null", b'""']
KINDS = {"not JSON": NOT_JSON, "invalid UTF-8": NOT_UTF8, "lone surrogate": SURROGATES, "not an object": NO_OBJECT}
BAD_LINES = [pytest.param(k, line, id=f"{k}-{i}") for k, found in KINDS.items() for i, line in enumerate(found)]


@pytest.mark.parametrize(("kind", "line"), BAD_LINES)
def test_a_bad_line_costs_itself_and_nothing_else(kind: str, line: bytes) -> None:
    before, after = b'{"n":1,"a":"x"}\n', b'{"n":2,"a":"y"}\n'
    piece = pieces(before + line + b"\n" + after)[0]
    good, (bad,), end = batches(piece, Want(columns=(pa.field("n", pa.int64()),), texts=("n",), raw=True))
    assert end.lines == 3
    assert [n for batch in good for n in batch.table["n"].to_pylist()] == [1, 2]
    assert [n for batch in good for n in batch.origin.line.tolist()] == [0, 2]
    assert (bad.kind, bad.line, bad.offset) == (kind, 1, len(before))
    assert (bad.raw, bad.size) == (line, len(line))
    assert bad.detail
    assert copy(before + line + b"\n" + after) == before + after
    assert jsonl.scan(piece).to_arrow().names == ["n", "a"]


def test_bad_lines_alone_yield_no_documents() -> None:
    content = b"\n".join(line for found in KINDS.values() for line in found)
    good, bad, end = batches(pieces(content)[0])
    assert not good
    assert len(bad) == end.lines == sum(map(len, KINDS.values()))


NAUGHTY = [
    "undefined",
    "null",
    "NaN",
    "-1/2",
    "0x0",
    "1e1000",
    "' OR 1=1 --",
    "<script>alert(0)</script>",
    "../../../../etc/passwd\0.png",
    "%s%n%d",
    "${HOME} `ls` $(id)",
    "\u202e\u2066reversed\u2069",
    "Z\u0351\u036b\u0343a\u0324l\u0317go",
    "\ufeff\ufffe\uffff",
    "\u0000\u0001\u001f\u007f\u0080\u009f",
    "ﷺ ﷽",
    "🏳\ufe0f\u200d🌈👨‍👩‍👧‍👦🇹🇷",
    "I\u0130\u0131\u017fß",
    "\u200b\u200c\u200d\u2060\u180e",
    "שָׁלוֹם مرحبا नमस्ते 你好 สวัสดี",
    '\\u0000 \\ud800 \\" \\',
    "{}[]:,\"'",
    "\r\n\u0085\u2028\u2029\v\f",
    "\U0001d57f\U0001d58a \U000e0041 \U0010fffd",
]


@pytest.mark.parametrize("ascii", [True, False])
def test_naughty_strings_are_read_and_written_exactly(ascii: bool) -> None:
    content = "".join(json.dumps({"text": s, s: s}, ensure_ascii=ascii) + "\n" for s in NAUGHTY).encode()
    want = Want(columns=(pa.field("text", pa.large_string()),), texts=("text",), raw=True)
    (good,), bad, _ = batches(pieces(content)[0], want)
    assert not bad
    assert good.table["text"].to_pylist() == NAUGHTY
    assert copy(content) == content
    out = splice(content, {"text": NAUGHTY[::-1]})
    assert [json.loads(line) for line in out] == [
        {"text": t, s: s} for s, t in zip(NAUGHTY, NAUGHTY[::-1], strict=True)
    ]


def test_a_missing_or_misfit_field_is_said_with_its_name() -> None:
    content = b'{"t":"a"}\n{"x":1,"y":2}\n{"t":null}\n{"t":3}\n{"t":["deep"]}\n{"t":"b","n":"1"}\n{}\n'
    columns = (pa.field("t", pa.large_string()), pa.field("n", pa.int64()))
    (good,), bad, end = batches(pieces(content)[0], Want(columns=columns, texts=("t",), raw=True))
    assert end.lines == 7
    assert good.table.to_pylist() == [{"t": "a", "n": None}, {"t": None, "n": None}]
    assert [(b.line, b.kind) for b in bad] == [
        (1, "missing field"),
        (3, "wrong type"),
        (4, "wrong type"),
        (5, "wrong type"),
        (6, "missing field"),
    ]
    assert "'t'" in bad[0].detail
    assert "x, y" in bad[0].detail
    assert "holds 3" in bad[1].detail
    assert "'n'" in bad[3].detail
    assert [good.origin.raw[i] for i in range(2)] == [b'{"t":"a"}', b'{"t":null}']


@pytest.mark.parametrize("levels", [31, 32, 33, 253, 254, 255, 900, 1020])
def test_documents_of_many_levels_survive(levels: int) -> None:
    content = b'{"t":"x","d":' + b"[" * levels + b"]" * levels + b',"e":' + b'{"a":' * levels + b"1" + b"}" * levels
    content += b"}\n"
    (piece,) = pieces(content)
    schema = jsonl.scan(piece).to_arrow()
    (good,), bad, _ = batches(piece, Want(columns=tuple(schema)))
    assert not bad
    out = io.BytesIO()
    writer = jsonl.JsonlWriter(out, schema)
    writer.write(good, ())
    writer.close()
    assert out.getvalue() == content


def test_a_misfit_of_many_levels_is_one_bad_record() -> None:
    content = b'{"t":' + b"[" * 900 + b"]" * 900 + b"}\n" + b'{"t":"x"}\n'
    want = Want(columns=(pa.field("t", pa.large_string()),), texts=("t",))
    (good,), (bad,), _ = batches(pieces(content)[0], want)
    assert good.table["t"].to_pylist() == ["x"]
    assert bad.kind == "wrong type"


# -- long lines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\n", b""])
@pytest.mark.parametrize("size", [99, 100, 101])
def test_a_line_of_exactly_the_limit_is_read_and_a_longer_one_is_not(size: int, end: bytes) -> None:
    line = b'{"t":"' + b"x" * (size - 8) + b'"}'
    good, bad, _ = batches(pieces(b'{"t":"a"}\n' + line + end)[0], Want(raw=True, max_record_bytes=100))
    assert sum(len(b.table) for b in good) == 1 + (size <= 100)
    assert [(b.kind, b.size, b.line, b.raw) for b in bad] == [("too long", size, 1, line)] * (size > 100)


@pytest.mark.parametrize("cut", [0, 90, 110, 111, 112, 113, 120, 125])
def test_what_follows_a_long_line_is_read_line_by_line(cut: int) -> None:
    content = b'{"t":"' + b"x" * 100 + b'"}\n' + b"".join(b'{"n":%d}\n' % i for i in range(9)) * 20
    want = Want(raw=True, max_record_bytes=20)
    found = records(content, cut, want=want)
    assert [r[0] for r in found] == list(range(181))
    assert [r[2] for r in found if isinstance(r[2], str)] == ["too long"]
    assert found == records(content, want=want)
    with mock.patch.multiple(lines, _CHUNK=30, _BEYOND=100):
        assert found == records(content, cut, want=want)


MEMORY = """
import resource, sys
from tamis.io import jsonl
from tamis.io.files import InputFile
from tamis.io.records import Bad, Want
from tamis.io.splits import Piece
path, size, limit, packed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
file = InputFile(path, "x", size, "", "jsonl", packed or None)
list(jsonl.read(Piece(file, 0, 5, 5, whole=False), Want())) if not packed else None
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = list(jsonl.read(Piece(file, 0, size, size, whole=True), Want(raw=True, max_record_bytes=limit)))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
print([(e.kind, e.line, e.offset, e.size, len(e.raw)) for e in found if isinstance(e, Bad)])
print([e.origin.line.tolist() for e in found if hasattr(e, "origin")], found[-1].lines)
"""


@pytest.mark.parametrize("packed", ["", "gz"])
def test_a_line_far_too_long_is_passed_over_in_little_memory(tmp_path: Path, packed: str) -> None:
    size, path = 300 << 20, tmp_path / "long.jsonl"
    with path.open("wb") as plain, jsonl.packed(plain, packed or None) if packed else plain as file:
        file.write(b'{"a":1}\n{"t":"')
        for _ in range(300):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"a":2}\n')
    command = [sys.executable, "-c", MEMORY, str(path), str(path.stat().st_size), str(8 << 20), packed]
    grown, bad, good = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert bad == str([("too long", 1, 8, size + 8, 1 << 20)])
    assert good == "[[0], [2]] 3"
    assert int(grown) < (100 if packed else 60) << 10, f"{int(grown) >> 10} MB"


def test_a_line_of_100_mb_is_a_document_like_any_other() -> None:
    text = "x" * (100 << 20)
    content = b'{"a":"1"}\n{"a":"' + text.encode() + b'"}\n{"a":"2"}\n'
    want = Want(columns=(pa.field("a", pa.large_string()),), texts=("a",))
    good, bad, end = batches(pieces(content, 5, 1000)[1], want)  # it crosses the end of its piece
    assert not bad
    assert end.lines == 1
    found = [a for batch in good for a in batch.table["a"].to_pylist()]
    assert found == [text]
    FILE.write_bytes(b"")


def test_float32_is_written_with_its_own_digits_and_comes_back_to_the_bit(tmp_path):
    values = np.array([0.1, 1 / 3, 2.7312344, 1e-30, -0.0], np.float32)
    table = pa.table(
        {
            "score": pa.array([*values.tolist(), None], pa.float32()),
            "vector": pa.array([values.tolist()] * 4 + [[], None], pa.list_(pa.float32())),
            "fixed": pa.array([[0.1, 0.2]] * 5 + [None], pa.list_(pa.float32(), 2)),
        }
    )
    DocumentDataset.from_arrow(table).to_json(tmp_path / "out", progress="off")
    lines = (tmp_path / "out/part-00000.jsonl").read_text().splitlines()
    assert '"score":0.33333334,' in lines[1]
    assert '"fixed":[0.1,0.2]' in lines[0]
    read = [json.loads(line) for line in lines]
    assert read[5] == {"score": None, "vector": None, "fixed": None}
    for name in table.column_names:
        assert pa.array([r[name] for r in read], table.schema.field(name).type).equals(
            table.column(name).combine_chunks()
        )
