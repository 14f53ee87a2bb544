"""One schema for documents of many shapes, and values that fit it or are said not to: never bent."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.io.convert import convert, json_text, misfits
from tamis.io.files import list_files
from tamis.io.formats import infer_schema, make_splits, read_piece, scan_piece
from tamis.io.records import Bad, Want
from tamis.io.schema import Shape, is_json, json_field

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)  # the parser makes floats of larger ones
    | st.sampled_from([0, 1, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -(1 << 63), -1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=3)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.lists(st.dictionaries(st.sampled_from(["x", "y", "z"]), VALUES, max_size=3), max_size=6)


def fields(shape: Shape, *, sure: bool = True) -> dict[str, tuple[str, bool]]:
    """Type by name: the order of the columns is that of their first sight."""
    return {field.name: (str(field.type), is_json(field)) for field in shape.to_arrow(sure=sure)}


def kind(*values: Any) -> pa.DataType | None:
    """The type of a column of these values; none where it is JSON text."""
    (field,) = Shape().observe({"x": v} for v in values).to_arrow()
    return None if is_json(field) else field.type


# -- shapes --------------------------------------------------------------------------------------------------


@settings(max_examples=250, deadline=None)
@given(DOCUMENTS, st.data())
def test_the_schema_does_not_depend_on_the_order_in_which_parts_are_seen(documents: list[Any], data: Any) -> None:
    whole = Shape().observe(documents)
    order = data.draw(st.permutations(range(len(documents))))
    merged = Shape()
    for cut in data.draw(st.lists(st.integers(0, len(order)), max_size=3).map(sorted)):
        merged.merge(Shape().observe(documents[i] for i in order[:cut]))
    merged.merge(Shape().observe(documents[i] for i in order))
    tree = Shape()
    for i in order:
        tree = Shape().observe([documents[i]]).merge(tree)
    for sure in (True, False):
        assert fields(whole, sure=sure) == fields(merged, sure=sure) == fields(tree, sure=sure)
    assert fields(whole.merge(Shape())) == fields(merged)


@settings(max_examples=250, deadline=None)
@given(DOCUMENTS)
def test_every_document_fits_the_schema_made_of_all(documents: list[Any]) -> None:
    for sure in (True, False):
        for field in Shape().observe(documents).to_arrow(sure=sure):
            values = [d.get(field.name) for d in documents]
            array = convert(values, field)
            assert array is not None
            assert misfits(values, field) == []
            back = (
                [None if v is None else json.loads(v) for v in array.to_pylist()]
                if is_json(field)
                else array.to_pylist()
            )
            assert same(back) == same(values)


def same(value: Any) -> Any:
    """A value with a null and a missing member of an object made equal, but nothing else (numbers by value)."""
    if isinstance(value, dict):
        return {k: same(v) for k, v in value.items() if v is not None}
    return [same(v) for v in value] if isinstance(value, list) else (isinstance(value, bool), value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, None, -1], pa.int64()),
        ([(1 << 63) - 1, -(1 << 63)], pa.int64()),
        ([1 << 63], pa.uint64()),
        ([0, (1 << 64) - 1], pa.uint64()),
        ([1 << 63, -1], None),
        ([1 << 64], None),
        ([-(1 << 63) - 1], None),
        ([1, 2.5], pa.float64()),
        ([1.0], pa.float64()),
        ([1 << 53, 0.5], pa.float64()),
        ([(1 << 53) + 1, 0.5], None),
        ([True, None], pa.bool_()),
        ([True, 1], None),
        (["a", 1], None),
        (["a", None], pa.large_string()),
        ([None, None], None),
        ([[]], pa.list_(pa.null())),
        ([[], [1], None], pa.list_(pa.int64())),
        ([[1], ["a"]], None),
        ([[[1.5], []], [[2]]], pa.list_(pa.list_(pa.float64()))),
        ([{}], None),
        ([{}, {"a": 1}], pa.struct([("a", pa.int64())])),
        ([{"b": 1}, {"a": "x"}], pa.struct([("a", pa.large_string()), ("b", pa.int64())])),
        ([{"a": 1}, {"a": "x"}], None),
        ([{"a": {"b": [True]}}], pa.struct([("a", pa.struct([("b", pa.list_(pa.bool_()))]))])),
        ([{"a": 1}, [1]], None),
        ([{str(i): i for i in range(64)}], pa.struct([(k, pa.int64()) for k in sorted(map(str, range(64)))])),
        ([{str(i): i for i in range(65)}], None),
    ],
)
def test_the_type_is_the_one_that_holds_every_value(values: list[Any], expected: pa.DataType | None) -> None:
    assert kind(*values) == kind(*reversed(values)) == expected


def test_maps_in_disguise_are_found_across_documents() -> None:
    assert kind(*({f"key{i}": i} for i in range(200))) is None
    left, right = (Shape().observe({"x": {f"{s}{i}": 1}} for i in range(40)) for s in "ab")
    assert is_json(left.merge(right).to_arrow()[0])


def test_a_field_that_is_null_for_long_and_an_object_late_is_that_object(tmp_path: Path) -> None:
    path = tmp_path / "late.jsonl"
    late = {"meta": {"source": "web", "tags": ["a"]}, "n": 2.5, "new": True}
    path.write_text("".join(json.dumps(d) + "\n" for d in [{"meta": None, "n": 1}] * 3000 + [late]))
    (file,) = list_files(path)
    shape = Shape()
    for split in make_splits([file], split_size=10_000):
        for piece in split.pieces:
            shape.merge(scan_piece(piece))
    schema = shape.to_arrow()
    assert schema.field("meta").type == pa.struct(
        [("source", pa.large_string()), ("tags", pa.list_(pa.large_string()))]
    )
    assert schema.field("n").type == pa.float64()
    guessed = infer_schema([file])
    assert is_json(guessed.field("meta")), "a sample of nulls says nothing: any value fits JSON text"
    assert "new" not in guessed.names
    for which, expected in ((schema, late["meta"]), (guessed, json.dumps(late["meta"], separators=(",", ":")))):
        columns = tuple(f for f in which if f.name == "meta")
        (split,) = make_splits([file], split_size=1 << 30)
        *found, _ = read_piece(split.pieces[0], Want(columns=columns))
        assert not [e for e in found if isinstance(e, Bad)]
        assert [m for e in found for m in e.table["meta"].to_pylist()] == [None] * 3000 + [expected]


def test_a_sample_looks_into_several_files(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / f"{i:02}.jsonl").write_text(json.dumps({f"f{i}": 1}) + "\nbroken\n")
    names = infer_schema(list_files(tmp_path)).names
    assert {"f0", "f39"} <= set(names)
    assert len(names) == 16


# -- values --------------------------------------------------------------------------------------------------

INNER = pa.struct([("a", pa.int64()), ("b", pa.list_(pa.float64()))])


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (3.5, pa.int64()),
        (3.0, pa.int64()),
        (True, pa.int64()),
        ("3", pa.int64()),
        (1 << 63, pa.int64()),
        (-1, pa.uint64()),
        (300, pa.int8()),
        (True, pa.float64()),
        ("1.5", pa.float64()),
        ((1 << 53) + 1, pa.float64()),
        (1, pa.bool_()),
        ("true", pa.bool_()),
        (1, pa.large_string()),
        (["a"], pa.large_string()),
        ({"a": "b"}, pa.string()),
        (0, pa.null()),
        ({"a": 1, "new": 2}, INNER),
        ({"a": 1.5}, INNER),
        ({"b": [1, True]}, INNER),
        ({"b": {"0": 1}}, INNER),
        ([1], INNER),
        ("{}", INNER),
        ({"a": 1}, pa.list_(pa.int64())),
        ([1, "2"], pa.list_(pa.int64())),
        ([[1]], pa.list_(pa.int64())),
        ("abc", pa.list_(pa.large_string())),
        ("yesterday", pa.date32()),
        (1, pa.timestamp("s")),
        ("1.5x", pa.decimal128(5, 2)),
    ],
)
def test_a_value_that_does_not_fit_is_never_bent(value: Any, type_: pa.DataType) -> None:
    field = pa.field("x", type_)
    assert convert([None, value], field) is None
    assert misfits([None, value, None], field) == [1]
    assert convert([None, None], field).to_pylist() == [None, None]


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (3, pa.int64()),
        ((1 << 64) - 1, pa.uint64()),
        (-128, pa.int8()),
        (1.5, pa.float64()),
        (5e-324, pa.float64()),
        (1e308, pa.float64()),
        (2, pa.float64()),
        (1 << 53, pa.float64()),
        ("\0\u2028👩", pa.large_string()),
        ("", pa.string()),
        ({"a": None, "b": []}, INNER),
        ({"a": 1, "b": [0.5, None]}, INNER),
        ([], pa.list_(pa.null())),
        ([None, [1]], pa.list_(pa.list_(pa.int64()))),
        ([1], pa.large_list(pa.int64())),
    ],
)
def test_a_value_that_fits_comes_back(value: Any, type_: pa.DataType) -> None:
    array = convert([value, None], pa.field("x", type_))
    assert array.type == type_
    assert array.to_pylist() == [value, None]


def test_minus_zero_stays_minus_zero() -> None:
    assert math.copysign(1, convert([-0.0], pa.field("x", pa.float64()))[0].as_py()) == -1


def test_text_stands_for_dates_times_and_decimals() -> None:
    for text, type_ in [
        ("2024-02-29", pa.date32()),
        ("2024-02-29T12:00:00", pa.timestamp("s")),
        ("1.50", pa.decimal128(5, 2)),
    ]:
        array = convert([text, None], pa.field("x", type_))
        assert array.type == type_
        assert str(array[0].as_py()).replace(" ", "T") == text


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, max_size=4))
def test_json_columns_hold_any_value(values: list[Any]) -> None:
    small = json.loads(
        json.dumps(values), parse_int=lambda digits: int(digits) if -(1 << 63) <= int(digits) < 1 << 64 else 0
    )
    array = convert(small, json_field("x"))
    assert [None if v is None else json.loads(v) for v in array.to_pylist()] == small


@pytest.mark.parametrize("levels", [1, 200, 254, 255, 500, 900])
def test_json_text_of_many_levels_is_that_of_few(levels: int) -> None:
    inner: Any = {"a": [1, "é\n", None, True, 1.5, {}, []], '"': {"b": -0.0}}
    text = '{"a":[1,"é\\n",null,true,1.5,{},[]],"\\"":{"b":-0.0}}'
    for level in range(levels):
        inner, text = ([inner, 0], f"[{text},0]") if level % 2 else ({"k": inner, "l": []}, f'{{"k":{text},"l":[]}}')
    assert json_text(inner) == text
