"""CSV: what Python's csv module writes is read back, and nothing that is bad is lost or bent."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from conftest import read_jsonl, tree
from tamis import DocumentDataset
from tamis.cli import main
from tamis.errors import InputError, MissingColumnError, TooManyBadRecordsError, UnknownNameError, UsageError
from tamis.io import csv_files
from tamis.io.files import InputFile, list_files
from tamis.io.formats import read_piece
from tamis.io.layouts import CsvLayout, typed
from tamis.io.records import Bad, End, Want
from tamis.io.splits import Piece
from tamis.recipe import load_recipe
from tamis.table import Batch

FIELDS = st.text(st.characters(codec="utf-8") | st.sampled_from('",;\n\r\t \ufeff\0é'), max_size=8)


def read_all(path: Path | str, names: list[str], layout: CsvLayout | None = None, **want: Any) -> list[Any]:
    status = Path(path).stat()
    file = InputFile(str(path), Path(path).name, status.st_size, "", "csv", layout=layout or CsvLayout())
    if str(path).endswith(".gz"):
        file = list_files(path)[0]
    columns = tuple(pa.field(name, pa.large_string()) for name in names)
    return list(read_piece(Piece(file, 0, file.size, file.size, whole=True), Want(columns, **want)))


def rows_of(items: list[Any]) -> list[dict[str, Any]]:
    return [row for item in items if isinstance(item, Batch) for row in item.table.to_pylist()]


def bad_of(items: list[Any]) -> list[Bad]:
    return [item for item in items if isinstance(item, Bad)]


@given(
    st.lists(st.lists(FIELDS, min_size=3, max_size=3), max_size=12),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, table, quoting, delimiter, ending, bom):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    text = io.StringIO()
    if (
        quoting == csv.QUOTE_MINIMAL and ending == "\n"
    ):  # the csv module then leaves a lone CR bare, and loses it itself
        table = [[value.replace("\r", "") for value in row] for row in table]
    writer = csv.writer(text, quoting=quoting, delimiter=delimiter, lineterminator=ending)
    writer.writerows([["a", "b", "c"], *table])
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode())
    items = read_all(path, ["a", "b", "c"], CsvLayout(delimiter), raw=True)
    assert [list(row.values()) for row in rows_of(items)] == table
    assert not bad_of(items)
    data = path.read_bytes()
    for batch in (item for item in items if isinstance(item, Batch)):
        for offset, line in zip(batch.origin.offset.tolist(), batch.origin.line.tolist(), strict=True):
            assert line == data[:offset].count(b"\n")


@given(st.lists(FIELDS, min_size=1, max_size=30), st.integers(1, 40))
def test_rows_that_cross_blocks_are_read_whole(tmp_path_factory, texts, chunk):
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["id", "text"], *([str(i), t] for i, t in enumerate(texts))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_files, "_CHUNK", chunk)
        items = read_all(path, ["id", "text"])
    assert rows_of(items) == [{"id": str(i), "text": t} for i, t in enumerate(texts)]
    assert items[-1].lines == path.read_bytes().count(b"\n")


def test_what_is_bad_is_set_aside_with_its_place(tmp_path):
    lines = [
        b"id,text,score\r\n",
        b"1,good,5\r\n",
        b"2,too few\r\n",
        b"3,one,two,three\r\n",
        b'4,"closed" and more,7\r\n',
        b"5,\xff,7\r\n",
        b"6,fine,seven\r\n",
        b"\r\n",
        b'7,"two\r\nlines ""and"" a comma, too",8\r\n',
        b'8,a "quote" in the middle,9\n',
        b'9,"never closed,1\n',
        b"10,last, -3 \n",
    ]
    path = tmp_path / "x.csv"
    path.write_bytes(b"".join(lines))
    dataset = DocumentDataset.read_csv(path, types={"score": "int"})
    result = dataset.to_json(tmp_path / "out", max_bad=1.0, progress="off")
    assert read_jsonl(tmp_path / "out" / "part-00000.jsonl") == [
        {"id": "1", "text": "good", "score": 5},
        {"id": "7", "text": 'two\r\nlines "and" a comma, too', "score": 8},
        {"id": "8", "text": 'a "quote" in the middle', "score": 9},
        {"id": "10", "text": "last", "score": -3},
    ]
    quarantine = read_jsonl(tmp_path / "out" / "_quarantine" / "records.jsonl")
    place = {entry["line"]: entry for entry in quarantine}
    starts = np.cumsum([0, *map(len, lines)]).tolist()
    assert {line: entry["cause"] for line, entry in place.items()} == {
        3: "ragged row",
        4: "ragged row",
        5: "bad quotes",
        6: "invalid UTF-8",
        7: "wrong type",
        12: "bad quotes",
    }
    assert "the row has 2 fields and the header names 3" in place[3]["detail"]
    assert "never closed" in place[12]["detail"]
    assert [place[n]["offset"] for n in (3, 4, 5, 6, 7)] == starts[2:7]
    assert place[5]["raw"] == '4,"closed" and more,7'
    assert "raw_base64" in place[6]
    assert result.tally.records == 10


def test_a_mark_that_is_never_closed_costs_one_line(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,text\n" + '1,"open\n' + "".join(f"{i},text\n" for i in range(2, 5000)))
    items = read_all(path, ["id", "text"])
    assert [(bad.kind, bad.line, bad.raw) for bad in bad_of(items)] == [("bad quotes", 1, b'1,"open')]
    assert len(rows_of(items)) == 4998


def test_a_row_without_an_end_is_too_long_and_never_held(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('id,text\n1,ok\n2,"open' + "x" * 90_000 + "\n" + "3,ok\n" * 20_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_files, "_CHUNK", 4096)
        items = read_all(path, ["id", "text"], max_record_bytes=50_000)
    (bad,) = bad_of(items)
    assert (bad.kind, bad.line, bad.offset, bad.size) == ("too long", 2, 13, 90_007)
    assert len(rows_of(items)) == 20_001


def test_compressed_and_zipped_files_are_read(tmp_path):
    text = b"id\ttext\n1\ta\n2\t\xc3\xa9\n"
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(text))
    (tmp_path / "b.tsv.zst").write_bytes(zstandard.compress(text))
    with zipfile.ZipFile(tmp_path / "c.tsv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/c.tsv", b"no")
        archive.writestr("inside/c.tsv", text)
    found = DocumentDataset.read_csv(tmp_path, add_filename=True).to_arrow()
    assert found.column("text").to_pylist() == ["a", "é"] * 3
    assert found.column("file_name").to_pylist()[::2] == ["a.tsv.gz", "b.tsv.zst", "c.tsv.zip"]


def test_a_zip_of_several_files_and_a_damaged_one_are_said(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.csv.zip", "w") as archive:
        archive.writestr("a.csv", "text\nx\n")
        archive.writestr("b.csv", "text\nx\n")
    with pytest.raises(InputError, match=r"two.csv.zip holds 2 files \(a.csv, b.csv\).*Unpack it first"):
        DocumentDataset.read_csv(tmp_path / "two.csv.zip").count()
    (tmp_path / "cut.csv.zip").write_bytes((tmp_path / "two.csv.zip").read_bytes()[:40])
    with pytest.raises(TooManyBadRecordsError):
        DocumentDataset.read_csv(tmp_path / "cut.csv.zip", names=["text"]).to_json(tmp_path / "out", progress="off")
    assert "truncated file" in (tmp_path / "out/_quarantine/records.jsonl").read_text()


def test_a_truncated_file_gives_its_whole_rows_and_the_rest_to_the_quarantine(tmp_path):
    rng = np.random.default_rng(0)
    rows = "".join(f'{i},"{rng.bytes(20).hex()}\n"\n' for i in range(5000))
    packed = gzip.compress(("id,text\n" + rows).encode())
    path = tmp_path / "x.csv.gz"
    path.write_bytes(packed[: len(packed) * 2 // 3])
    items = read_all(path, ["id", "text"])
    found, (bad,) = rows_of(items), bad_of(items)
    assert [row["id"] for row in found] == [str(i) for i in range(len(found))]
    assert 1000 < len(found) < 5000
    assert bad.kind == "truncated file"
    assert bad.raw.startswith(str(len(found)).encode()[: len(bad.raw)])


@given(st.data())
def test_mutated_files_lose_no_line(tmp_path_factory, data):
    """Whatever stands in a file: it is read without a crash, and every byte of a row is in a document or set aside."""
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    body = bytearray(b'1,"a ""b""",x\n2,plain,y\n3,"two\nlines",z\n' * 3)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b'"', b"\n", b",", b"\r", b"\xff", b""])
        )
    path.write_bytes(b"id,text,more\n" + bytes(body))
    items = read_all(path, ["id", "text", "more"], raw=True)
    kept = "".join(v for row in rows_of(items) for v in row.values()).encode()
    aside = b"".join(bad.raw for bad in bad_of(items))
    for letter in b"123abplinetwosxyz":
        letters = body.count(letter)
        assert kept.count(letter) + aside.count(letter) == letters, chr(letter)


def test_headers_that_cannot_be_used_are_said(tmp_path):
    for content, said in (
        (b"a,b,a\n1,2,3\n", "names the column 'a' twice"),
        (b'"a"x,b\n1,2\n', "closing quotation mark"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        (b"a,\xff\n1,2\n", "not UTF-8"),
    ):
        path = tmp_path / "x.csv"
        path.write_bytes(content)
        with pytest.raises(InputError, match=said):
            DocumentDataset.read_csv(path).count()


def test_files_without_a_header_and_empty_files(tmp_path):
    (tmp_path / "x.csv").write_text("1,a\n2,b")
    (tmp_path / "y.csv").write_text("")
    found = DocumentDataset.read_csv(tmp_path, names=["id", "text"]).to_arrow().to_pylist()
    assert found == [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "z.csv").write_text("")
    assert DocumentDataset.read_csv(tmp_path / "z").count() == 0


def test_files_with_other_columns_fit_together(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n1,x\n")
    (tmp_path / "b.csv").write_text("text,score\ny,3\n")
    dataset = DocumentDataset.read_csv(tmp_path, types={"score": "int"})
    dataset.to_parquet(tmp_path / "out", progress="off")
    assert DocumentDataset.read_parquet(tmp_path / "out").to_arrow().to_pylist() == [
        {"id": "1", "text": "x", "score": None},
        {"id": None, "text": "y", "score": 3},
    ]
    dataset.to_json(tmp_path / "lines", progress="off")
    assert read_jsonl(tmp_path / "lines" / "part-00000.jsonl") == [{"id": "1", "text": "x"}, {"text": "y", "score": 3}]


def test_types_let_conditions_compare(tmp_path):
    (tmp_path / "x.csv").write_text("text,score,ok,share\na,10,true,0.5\nb,9,0,\nc,,TRUE,1e3\n")
    dataset = DocumentDataset.read_csv(tmp_path / "x.csv", types={"score": "int", "ok": "bool", "share": "float"})
    assert dataset[dataset["score"] >= 10].to_arrow().column("text").to_pylist() == ["a"]
    assert dataset.to_arrow().to_pydict() == {
        "text": ["a", "b", "c"],
        "score": [10, 9, None],
        "ok": [True, False, True],
        "share": [0.5, None, 1000.0],
    }
    with pytest.raises(MissingColumnError, match="Did you mean 'score'"):
        DocumentDataset.read_csv(tmp_path / "x.csv", types={"scor": "int"}).count()
    with pytest.raises(UnknownNameError, match=r"there is no type 'integer'.*int"):
        DocumentDataset.read_csv(tmp_path / "x.csv", types={"score": "integer"})
    with pytest.raises(UsageError, match="delimiter must be one ASCII character"):
        DocumentDataset.read_csv(tmp_path / "x.csv", delimiter="::")


@pytest.mark.parametrize("value", ["1_000", "1,5", "٣", "0x10", "1e5", "nan", "--1", "9" * 5000])
def test_what_is_no_integer_is_none(value):
    with pytest.raises(ValueError, match=re.escape(value)):
        typed(value, "int")


def test_two_workers_give_what_one_gives_and_names_follow(tmp_path):
    for n in range(3):
        with (tmp_path / f"in{n}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["id", "text"], *([f"{n}-{i}", f"text\n{i}"] for i in range(200))])
    for workers in (1, 2):
        DocumentDataset.read_csv(tmp_path / "in*.csv").to_json(
            tmp_path / f"out{workers}", write_to_filename=True, workers=workers, progress="off"
        )
    assert tree(tmp_path / "out1") == tree(tmp_path / "out2")
    assert len(read_jsonl(tmp_path / "out1" / "in2.jsonl")) == 200


def test_a_file_that_changed_is_refused(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,text\n1,a\n")
    dataset = DocumentDataset.read_csv(path)
    path.write_text("id,text\n1,a\n2,b\n")
    with pytest.raises(InputError, match="changed after it was listed"):
        dataset.count()


def test_another_layout_is_another_run(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,text\n1,a\n")
    DocumentDataset.read_csv(path).to_json(tmp_path / "out", progress="off")
    with pytest.raises(UsageError, match="its input files differ"):
        DocumentDataset.read_csv(path, types={"id": "int"}).to_json(tmp_path / "out", progress="off")


def test_a_recipe_reads_csv_and_refuses_options_of_other_formats(tmp_path):
    (tmp_path / "x.csv").write_text("id;text;score\n1;a b;3\n2;c;-1\n")
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f"""
        [input]
        path = "{tmp_path}/x.csv"
        delimiter = ";"
        types = {{ score = "int" }}
        [[stage]]
        use = "Where"
        expression = "score >= 0"
        """
    )
    assert load_recipe(recipe).dataset().to_arrow().to_pylist() == [{"id": "1", "text": "a b", "score": 3}]
    with pytest.raises(UnknownNameError, match="no option of jsonl files 'delimiter'"):
        load_recipe(recipe, ['input.format="jsonl"']).dataset()
    with pytest.raises(UnknownNameError, match=r"no format 'cvs'.*Did you mean 'csv'"):
        load_recipe(recipe, ["input.format=cvs"]).dataset()
    with pytest.raises(UnknownNameError, match="Did you mean 'delimiter'"):
        load_recipe(recipe, ["input.delimeter=';'"]).dataset()


def test_inspect_shows_csv(tmp_path, capsys):
    (tmp_path / "x.csv").write_text('id;text\n1;"some\nwords"\n2;x;y\n')
    assert main(["inspect", str(tmp_path / "x.csv"), "--delimiter", ";"]) == 0
    shown = capsys.readouterr().out
    assert "1 file, 29 B, csv" in shown.replace("bytes", "B")
    assert "1 bad record: 1 ragged row" in shown
    assert "text: some words" in shown
    assert main(["inspect", str(tmp_path / "x.csv"), "--row", "post"]) == 2
    assert "--row is for xml files; these are csv" in capsys.readouterr().err


def test_the_end_counts_every_line(tmp_path):
    for text, lines in (("a\n1\n2\n", 3), ("a\n1\n2", 3), ("a\n", 1), ('a\n"1\n2"\n', 3)):
        path = tmp_path / "x.csv"
        path.write_text(text)
        assert [item.lines for item in read_all(path, ["a"]) if isinstance(item, End)] == [lines]
