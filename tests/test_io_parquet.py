"""Parquet and documents in memory: nothing lost both ways, unlike schemas unified, damage said."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.errors import InputError, MissingColumnError
from tamis.io import memory, parquet
from tamis.io.files import InputFile, list_files
from tamis.io.formats import infer_schema, make_splits, merge_parts, open_writer, read_piece
from tamis.io.records import Bad, End, Want
from tamis.io.schema import Shape, is_json, json_field
from tamis.io.splits import Piece
from tamis.table import Batch, Origin

TEXTS = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(
    ["", "\0", "\u2028", "👩‍👩‍👧", "שלום", "\ufeff"]
)
LEAVES = st.one_of(
    st.tuples(st.just(pa.large_string()), st.just(TEXTS)),
    st.tuples(st.just(pa.int64()), st.just(st.integers(-(1 << 63), (1 << 63) - 1))),
    st.tuples(st.just(pa.uint64()), st.just(st.integers(0, (1 << 64) - 1))),
    st.tuples(
        st.just(pa.float64()),
        st.just(st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([-0.0, 1e308, 5e-324])),
    ),
    st.tuples(st.just(pa.bool_()), st.just(st.booleans())),
)


def _list(inner: Any) -> Any:
    return inner.map(lambda p: (pa.list_(p[0]), st.lists(st.none() | p[1], max_size=3)))


def _struct(inner: Any) -> Any:
    return st.lists(inner, min_size=1, max_size=3).map(
        lambda ps: (
            pa.struct([(f"f{i}", p[0]) for i, p in enumerate(ps)]),
            st.fixed_dictionaries({f"f{i}": st.none() | p[1] for i, p in enumerate(ps)}),
        )
    )


KINDS = st.recursive(LEAVES, lambda inner: _list(inner) | _struct(inner), max_leaves=4)


@st.composite
def tables(draw: Any) -> pa.Table:
    """A table of any schema and any values."""
    named = draw(
        st.dictionaries(
            st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=4),
            KINDS,
            min_size=1,
            max_size=3,
        )
    )
    rows = draw(st.integers(0, 5))
    columns = {
        n: pa.array(draw(st.lists(st.none() | v, min_size=rows, max_size=rows)), t) for n, (t, v) in named.items()
    }
    return pa.table(columns)


def written(table: pa.Table, format: str = "parquet") -> bytes:
    """The table as a file."""
    out = io.BytesIO()
    writer = open_writer(out, format, table.schema)
    numbers = np.arange(table.num_rows)
    writer.write(Batch(table, Origin("x", numbers, numbers)), table.column_names)
    rows, size, _ = writer.close()
    assert (rows, size) == (table.num_rows, len(out.getvalue()))
    return out.getvalue()


def read(path: Path, want: Want | None = None, split_size: int = 1 << 30) -> tuple[pa.Table, list[Bad], int]:
    """All that is in a file, piece by piece, with the schema that it says."""
    files = list_files(path)
    schema = infer_schema(files)
    want = want or Want(columns=tuple(schema))
    found = [e for s in make_splits(files, split_size=split_size) for p in s.pieces for e in read_piece(p, want)]
    good = [e.table for e in found if isinstance(e, Batch)]
    lines = sum(e.lines for e in found if isinstance(e, End))
    table = pa.concat_tables(good) if good else pa.schema(want.columns).empty_table()
    return table, [e for e in found if isinstance(e, Bad)], lines


def exact(table: pa.Table) -> str:
    """Values with -0.0 told from 0.0."""
    return repr(table.to_pylist())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file that every example writes anew."""
    return tmp_path_factory.mktemp("parquet") / "t.parquet"


# -- round trips ---------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(table=tables())
def test_any_table_goes_through_parquet_unchanged(table: pa.Table, path: Path) -> None:
    path.write_bytes(written(table))
    back, bad, lines = read(path)
    assert not bad
    assert lines == table.num_rows
    assert back.schema == table.schema
    assert exact(back) == exact(table)


@settings(max_examples=120, deadline=None)
@given(table=tables())
def test_any_table_goes_through_json_lines_unchanged(table: pa.Table, path: Path) -> None:
    lines = path.with_name("t.jsonl")
    lines.write_bytes(written(table, "jsonl"))
    back, bad, _ = read(lines, Want(columns=tuple(table.schema)))
    assert not bad
    assert back.schema == table.schema
    assert exact(back) == exact(table)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=120, deadline=None)
@given(
    documents=st.lists(
        st.dictionaries(st.sampled_from(["x", "é", "a b"]), VALUES, min_size=1, max_size=3), min_size=1, max_size=4
    )
)
def test_documents_go_to_parquet_and_back_as_they_were(documents: list[dict[str, Any]], path: Path) -> None:
    source = path.with_name("d.jsonl")
    source.write_bytes(b"".join(json.dumps(d).encode() + b"\n" for d in documents))
    schema = Shape().observe(documents).to_arrow()
    table, bad, _ = read(source, Want(columns=tuple(schema)))
    assert not bad
    path.write_bytes(written(pa.table(table.columns, schema)))
    kept = infer_schema(list_files(path))
    assert kept.equals(schema, check_metadata=False)
    assert [is_json(f) for f in kept] == [is_json(f) for f in schema], "JSON text stays JSON"
    back, _, _ = read(path)
    result = [json.loads(line) for line in written(pa.table(back.columns, kept), "jsonl").splitlines()]
    assert [same(d) for d in result] == [same(d) for d in documents]


def same(value: Any) -> Any:
    """A value with what columns cannot tell apart made equal: a null and a missing field, 1 and 1.0."""
    if isinstance(value, dict):
        return {k: same(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [same(v) for v in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ("number", value, str(float(value)))
    return value


def test_what_json_cannot_hold_has_a_stated_form() -> None:
    table = pa.table(
        {
            "nan": [float("nan")],
            "inf": [float("-inf")],
            "bytes": [b"\xff\x00"],
            "decimal": [decimal.Decimal("1.50")],
            "date": [dt.date(2024, 2, 29)],
            "time": [dt.datetime.fromisoformat("2024-02-29T12:00:00.000005")],
            "zone": [dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)],
            "nested": [{"when": dt.date(1, 1, 1), "what": [b"a"]}],
            "dictionary": pa.array(["x"]).dictionary_encode(),
        }
    )
    assert json.loads(written(table, "jsonl")) == {
        "nan": None,
        "inf": None,
        "bytes": "/wA=",
        "decimal": "1.50",
        "date": "2024-02-29",
        "time": "2024-02-29T12:00:00.000005",
        "zone": "2024-02-29T12:00:00+00:00",
        "nested": {"when": "0001-01-01", "what": ["YQ=="]},
        "dictionary": "x",
    }


# -- schemas -------------------------------------------------------------------------------------------------


def store(folder: Path, **columns: pa.Table) -> list[InputFile]:
    """Tables as Parquet files; returns the files found."""
    for name, table in columns.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return list(list_files(folder))


def test_unlike_files_are_read_with_one_schema(tmp_path: Path) -> None:
    a = pa.table({"t": ["x"], "n": [1], "s": pa.array([None], pa.null())})
    b = pa.table({"t": ["y"], "n": [2.5], "s": [{"k": [1]}], "new": [True]})
    files = store(tmp_path, a=a, b=b)
    schema = parquet.schema_of(files)
    assert schema.names == ["t", "n", "s", "new"]
    assert [str(f.type) for f in schema] == ["string", "double", "struct<k: list<element: int64>>", "bool"]
    back, bad, lines = read(tmp_path)
    assert not bad
    assert lines == 2
    assert back.schema.names == schema.names
    assert back.to_pylist() == [
        {"t": "x", "n": 1.0, "s": None, "new": None},
        {"t": "y", "n": 2.5, "s": {"k": [1]}, "new": True},
    ]


def test_files_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    files = store(tmp_path, a=pa.table({"t": ["x"]}), b=pa.table({"t": [[1]]}))
    with pytest.raises(InputError, match=r"a\.parquet and .*b\.parquet do not fit together"):
        parquet.schema_of(files)


def test_a_missing_text_column_is_said_and_another_is_null(tmp_path: Path) -> None:
    (file,) = store(tmp_path, a=pa.table({"t": ["x"]}))
    piece = Piece(file, 0, -1, file.size, whole=True)
    batch, end = parquet.read(piece, Want(columns=(pa.field("n", pa.int64()), pa.field("t", pa.large_string()))))
    assert batch.table.to_pylist() == [{"n": None, "t": "x"}]
    assert batch.table.schema.types == [pa.int64(), pa.large_string()]
    assert end.lines == 1
    with pytest.raises(MissingColumnError, match="text"):
        list(parquet.read(piece, Want(columns=(pa.field("text", pa.string()),), texts=("text",))))


def test_columns_are_made_where_they_are_wanted(tmp_path: Path) -> None:
    (file,) = store(tmp_path, a=pa.table({"t": ["x", "y", None], "id": ["1", None, None]}))
    piece = Piece(file, 0, -1, file.size, whole=True)
    batch, end = parquet.read(piece, Want())
    assert batch.table.num_rows == end.lines == 3
    want = Want(columns=(pa.field("id", pa.string()),), add_filename="file", id_field="id", id_from="t")
    batch, _ = parquet.read(piece, want)
    assert batch.table.column_names == ["id", "file"]
    first, second, third = batch.table["id"].to_pylist()
    assert first == "1"
    assert len({first, second, third}) == 3
    assert set(batch.table["file"].to_pylist()) == {"a.parquet"}


# -- damage --------------------------------------------------------------------------------------------------


@pytest.fixture
def groups(tmp_path: Path) -> tuple[Path, pa.Table]:
    """A file of ten row groups."""
    table = pa.table({"n": range(1000), "t": [f"{i} é" * 20 for i in range(1000)]})
    pq.write_table(table, tmp_path / "g.parquet", row_group_size=100)
    return tmp_path / "g.parquet", table


def test_row_groups_are_read_once_and_in_order(groups: tuple[Path, pa.Table]) -> None:
    path, table = groups
    for split_size in (1, 3000, 10_000, 1 << 30):
        back, bad, lines = read(path, split_size=split_size)
        assert not bad
        assert lines == 1000
        assert back.combine_chunks() == table.combine_chunks()
    (file,) = list_files(path)
    batch, end = parquet.read(Piece(file, 2, 4, 1, whole=False), Want(columns=(pa.field("n", pa.int64()),)))
    assert batch.table["n"].to_pylist() == list(range(200, 400))
    assert batch.origin.line.tolist() == list(range(200))
    assert end.lines == 200


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1PAR1", b"no parquet at all" * 10, b"PAR1" + b"\0" * 100 + b"\xff\xff\xff\x7fPAR1"]
)
def test_a_file_that_is_no_parquet_is_one_bad_record(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    for split_size in (1, 1 << 30):
        (split,) = make_splits(list_files(path), split_size=split_size)
        bad, end = read_piece(split.pieces[0], Want(columns=(pa.field("t", pa.string()),), texts=("t",)))
        assert (bad.kind, bad.line, bad.offset) == ("unreadable file", 0, -1)
        assert bad.detail
        assert end.lines == 0
    with pytest.raises(InputError, match="is not a Parquet file"):
        infer_schema(list_files(path))


def test_a_damaged_file_among_good_ones_costs_only_itself(groups: tuple[Path, pa.Table]) -> None:
    path, table = groups
    path.with_name("h.parquet").write_bytes(path.read_bytes()[:-100])
    back, (bad,), lines = read(path.parent)
    assert lines == 1000
    assert back.combine_chunks() == table.combine_chunks()
    assert bad.file.endswith("h.parquet")


def test_damage_in_the_middle_keeps_what_comes_before(groups: tuple[Path, pa.Table]) -> None:
    path, table = groups
    content = bytearray(path.read_bytes())
    place = pq.ParquetFile(path).metadata.row_group(5).column(1).data_page_offset
    content[place : place + 40] = b"\xff" * 40
    path.write_bytes(content)
    back, (bad,), lines = read(path)
    assert back.to_pylist() == table.slice(0, lines).to_pylist()
    assert bad.kind == "unreadable file"
    assert bad.line == lines
    assert f"from row {lines} on" in bad.detail


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=20))
def test_any_damage_is_documents_or_a_sentence(path: Path, place: int, junk: bytes) -> None:
    content = bytearray(written(pa.table({"n": range(50), "t": ["é" * 5] * 50})))
    place %= len(content)
    content[place : place + len(junk)] = junk
    path.write_bytes(content)
    (split,) = make_splits(list_files(path), split_size=1 << 30)
    found = list(read_piece(split.pieces[0], Want(columns=(pa.field("n", pa.int64()), pa.field("t", pa.string())))))
    assert isinstance(found[-1], End)
    assert sum(isinstance(e, Bad) for e in found) <= 1


# -- writing -------------------------------------------------------------------------------------------------


def test_parts_are_merged_row_group_by_row_group(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("n", pa.int64()), json_field("j")])
    parts = [
        written(pa.table([pa.array(range(a, b), pa.int64()), ["1"] * (b - a)], schema))
        for a, b in [(0, 5), (5, 5), (5, 9)]
    ]
    path = tmp_path / "m.parquet"
    merge_parts("parquet", [lambda part=part: io.BytesIO(part) for part in parts], lambda: path.open("wb"))
    back, _, lines = read(path)
    assert lines == 9
    assert back["n"].to_pylist() == list(range(9))
    assert is_json(infer_schema(list_files(path)).field("j"))
    first = path.read_bytes()
    merge_parts("parquet", [lambda part=part: io.BytesIO(part) for part in parts], lambda: path.open("wb"))
    assert path.read_bytes() == first


def test_large_outputs_are_written_in_several_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_GROUP_BYTES", 1000)
    out = io.BytesIO()
    table = pa.table({"n": range(100)})
    writer = open_writer(out, "parquet", table.schema)
    for _ in range(10):
        writer.write(Batch(table, Origin("x", np.arange(100), np.arange(100))), ())
    assert writer.close()[0] == 1000
    file = pq.ParquetFile(io.BytesIO(out.getvalue()))
    assert file.num_row_groups == 5
    assert file.read().to_pydict() == {"n": list(range(100)) * 10}


# -- in memory -----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(table=tables(), split_size=st.integers(1, 300))
def test_a_table_in_memory_is_read_once_whatever_the_cuts(table: pa.Table, split_size: int, path: Path) -> None:
    file = memory.spool(table, path.with_name("spooled.arrow"))
    pieces = memory.pieces_of(file, table.num_rows, split_size)
    want = Want(columns=tuple(table.schema))
    for found in (
        [list(memory.read_table(table, p, want)) for p in pieces],
        [list(read_piece(p, want)) for p in pieces],
    ):
        back = [e.table for part in found for e in part[:-1]]
        assert sum(part[-1].lines for part in found) == table.num_rows
        assert exact(pa.concat_tables([table.slice(0, 0), *back])) == exact(table)
        for part in found:
            numbers = [n for e in part[:-1] for n in e.origin.line.tolist()]
            assert numbers == list(range(part[-1].lines)), "rows count from 0 in each piece"
        assert all(b.schema == table.schema for b in back)
    assert sum(p.end - p.start for p in pieces) == table.num_rows
