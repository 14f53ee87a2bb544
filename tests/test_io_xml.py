"""XML: attributes and elements are read back whatever they hold, a bad row costs itself, attacks are refused."""

from __future__ import annotations

import gzip
import time
import tracemalloc
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import read_jsonl, tree
from tamis import DocumentDataset
from tamis.cli import main
from tamis.errors import InputError, UsageError
from tamis.io import xml_files
from tamis.io.files import InputFile, list_files
from tamis.io.formats import read_piece
from tamis.io.layouts import XmlLayout
from tamis.io.records import Bad, Want
from tamis.io.splits import Piece
from tamis.recipe import load_recipe
from tamis.table import Batch

# What XML 1.0 can hold: no control characters but tab and line ends, no surrogates, no U+FFFE and U+FFFF.
CHARACTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff")
VALUES = st.text(CHARACTERS | st.sampled_from("<>&\"'\n\t\r é"), max_size=10)
NAMES = st.sampled_from(["Id", "Body", "Title", "Tags", "Score_1", "a-b"])


def attribute(value: str) -> str:
    return quoteattr(value, {"\n": "&#xA;", "\r": "&#xD;", "\t": "&#9;"})


def read_all(path: Path, names: list[str], layout: XmlLayout | None = None, **want: Any) -> list[Any]:
    file = InputFile(str(path), path.name, Path(path).stat().st_size, "", "xml", layout=layout or XmlLayout())
    if str(path).endswith(".gz"):
        file = list_files(path)[0]
    columns = tuple(pa.field(name, pa.large_string()) for name in names)
    return list(read_piece(Piece(file, 0, file.size, file.size, whole=True), Want(columns, **want)))


def rows_of(items: list[Any]) -> list[dict[str, Any]]:
    return [row for item in items if isinstance(item, Batch) for row in item.table.to_pylist()]


def bad_of(items: list[Any]) -> list[Bad]:
    return [item for item in items if isinstance(item, Bad)]


def dump(rows: list[dict[str, str]], *, root: str = "posts") -> str:
    lines = (" ".join(["  <row", *(f"{k}={attribute(v)}" for k, v in row.items()), "/>"]) for row in rows)
    return f'<?xml version="1.0" encoding="utf-8"?>\n<{root}>\n' + "\n".join(lines) + f"\n</{root}>\n"


@given(st.lists(st.dictionaries(NAMES, VALUES, min_size=1), max_size=10), st.integers(1, 200), st.booleans())
def test_attributes_are_read_back_whatever_they_hold(tmp_path_factory, rows, chunk, bom):
    folder = tmp_path_factory.mktemp("xml")
    text = ("\ufeff" if bom else "") + dump(rows)
    (folder / "x.xml").write_text(text, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xml_files, "_CHUNK", chunk)
        DocumentDataset.read_xml(folder / "x.xml").to_json(folder / "out", workers=1, progress="off")
        items = read_all(folder / "x.xml", ["Id"])
    assert read_jsonl(folder / "out" / "part-00000.jsonl") == rows
    data = text.encode()
    for batch in (item for item in items if isinstance(item, Batch)):
        for offset, line in zip(batch.origin.offset.tolist(), batch.origin.line.tolist(), strict=True):
            assert data[offset : offset + 4] == b"<row"
            assert line == data[:offset].count(b"\n")
    assert items[-1].lines == data.count(b"\n")


def test_elements_inside_are_fields(tmp_path):
    path = tmp_path / "x.xml"
    path.write_text(
        "<wiki><note>no page</note><page id='1'><title>A &amp; B</title>"
        "<revision><text bytes='3'><![CDATA[<b>]]></text><empty/></revision><tag>x</tag><tag>y</tag></page>"
        "<page>  bare &#233; text </page></wiki>"
    )
    dataset = DocumentDataset.read_xml(path, row="page")
    dataset.to_json(tmp_path / "out", progress="off")
    assert read_jsonl(tmp_path / "out" / "part-00000.jsonl") == [
        {
            "id": "1",
            "title": "A & B",
            "revision.text.bytes": "3",
            "revision.text": "<b>",
            "revision.empty": "",
            "tag": ["x", "y"],
        },
        {"text": "  bare é text "},
    ]


def test_a_bad_row_costs_itself(tmp_path):
    rows = [
        '<row Id="1" Body="a" />',
        '<row Id="2" Body="control &#x1F; character" />',
        '<row Id="3" Body="b" />',
        '<row Id="4" Body="&nbsp;" />',
        '<row Id="5" Body="unclosed />',
        '<row Id="6" Body="c" />',
        '<row Id="7" Id="8" />',
        "<row Id='9'><Body>open</row>",
        '<row Id="10"><Body>d</Body></row>',
    ]
    path = tmp_path / "x.xml"
    path.write_text("<?xml version='1.0'?>\n<posts>\n" + "\n".join(rows) + "\n</posts>\n")
    text = path.read_text()
    for chunk in (7, 64, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(xml_files, "_CHUNK", chunk)
            items = read_all(path, ["Id"])
        assert [row["Id"] for row in rows_of(items)] == ["1", "3", "6", "10"], chunk
        found = bad_of(items)
        assert [bad.raw.decode() for bad in found] == [rows[i] for i in (1, 3, 4, 6, 7)], chunk
        assert [bad.offset for bad in found] == [text.index(rows[i]) for i in (1, 3, 4, 6, 7)], chunk
        assert [bad.line for bad in found] == [3, 5, 6, 8, 9], chunk
        assert {bad.kind for bad in found} == {"not well-formed"}
    assert "reference to invalid character number" in found[0].detail


def test_the_last_row_may_be_bad_and_files_may_follow_one_another(tmp_path):
    path = tmp_path / "x.xml"
    path.write_text('<posts>\n<row Id="1" />\n<row Id=2 />\n</posts>\n')
    items = read_all(path, ["Id"])
    assert rows_of(items) == [{"Id": "1"}]
    assert [(bad.kind, bad.line) for bad in bad_of(items)] == [("not well-formed", 2)]
    path.write_text(2 * '<posts>\n<row Id="1" />\n<row Id="2" />\n</posts>\n')
    items = read_all(path, ["Id"])
    assert len(rows_of(items)) == 4
    assert len(bad_of(items)) == 1


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE a [<!ENTITY x "lol"><!ENTITY y "&x;&x;&x;">]>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a SYSTEM "http://example.org/a.dtd">',
        "<!DOCTYPE posts>",
    ],
)
def test_document_types_are_refused(tmp_path, declaration):
    path = tmp_path / "x.xml"
    path.write_text(f"<?xml version='1.0'?>{declaration}<posts><row Body='&y;'/></posts>")
    with pytest.raises(InputError, match=r"declares a document type .* Remove the declaration"):
        DocumentDataset.read_xml(path).count()
    with pytest.raises(InputError, match="declares a document type"):
        read_all(path, [])


def test_truncated_files_say_how_many_rows_were_read(tmp_path):
    rng = np.random.default_rng(0)
    rows = [{"Id": str(i), "Body": rng.bytes(30).hex()} for i in range(3000)]
    text = dump(rows).encode()
    (tmp_path / "x.xml").write_bytes(text[: text.index(b'Id="2000"') + 20])
    items = read_all(tmp_path / "x.xml", ["Id"])
    assert len(rows_of(items)) == 2000
    (bad,) = bad_of(items)
    assert bad.kind == "truncated file"
    assert "the file ends within <posts>; 2,000 rows were read" in bad.detail
    assert bad.raw.startswith(b'<row Id="2000"')
    packed = gzip.compress(text)
    (tmp_path / "y.xml.gz").write_bytes(packed[: len(packed) // 2])
    items = read_all(tmp_path / "y.xml.gz", ["Id"])
    (bad,) = bad_of(items)
    assert bad.kind == "truncated file"
    assert bad.raw.startswith(f'<row Id="{len(rows_of(items))}"'.encode()[: len(bad.raw)])
    (tmp_path / "z.xml").write_bytes(b"")
    assert read_all(tmp_path / "z.xml", [])[:-1] == []


@given(st.data())
def test_mutated_files_are_read_without_a_crash(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("xml") / "x.xml"
    body = bytearray(dump([{"Id": str(i), "Body": f"<p>{i}</p>\n"} for i in range(6)]).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(60, len(body) - 1))
        new = data.draw(st.sampled_from([b'"', b"<", b">", b"&", b"/", b"\xff", b"\0", b"]]>", b"<row ", b"<!--", b""]))
        body[at : at + data.draw(st.integers(0, 2))] = new
    path.write_bytes(bytes(body))
    whole = read_all(path, ["Id", "Body"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xml_files, "_CHUNK", data.draw(st.integers(1, 80)))
        parts = read_all(path, ["Id", "Body"])
    # How a file is cut into blocks is no matter: the same documents, the same is set aside.
    assert rows_of(parts) == rows_of(whole)
    assert [(bad.offset, bad.line, bad.raw) for bad in bad_of(parts)] == [
        (b.offset, b.line, b.raw) for b in bad_of(whole)
    ]
    told = {row["Id"] for row in rows_of(whole)}
    aside = b"".join(bad.raw for bad in bad_of(whole))
    for i in range(6):
        intact = f'<row Id="{i}" Body="&lt;p&gt;{i}&lt;/p&gt;&#xA;" />'.encode()
        if intact in bytes(body) and b"<!--" not in bytes(body):
            assert str(i) in told or intact in aside


def test_memory_and_time_follow_the_longest_row(tmp_path):
    path = tmp_path / "x.xml"
    path.write_text(dump([{"Id": str(i), "Body": "x" * 2000} for i in range(6000)]))
    read_all(path, [])
    tracemalloc.start()
    file = InputFile(str(path), "x.xml", Path(path).stat().st_size, "", "xml", layout=XmlLayout())
    rows = 0
    for item in read_piece(Piece(file, 0, file.size, file.size, whole=True), Want()):
        rows += item.table.num_rows if isinstance(item, Batch) else 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 6000
    assert peak < path.stat().st_size * 0.8  # 12 MB in blocks of 1
    times = []
    for size in (2_000_000, 16_000_000):
        path.write_text(dump([{"Id": "1", "Body": "x" * size}]))
        began = time.process_time()
        assert len(rows_of(read_all(path, ["Body"]))) == 1
        times.append(time.process_time() - began)
    assert times[1] < 40 * times[0] + 0.5  # 8 times the bytes; looking at all of it for each block would be 64


def test_a_row_that_is_too_long_is_never_held(tmp_path):
    path = tmp_path / "x.xml"
    path.write_text(dump([{"Id": "1"}, {"Id": "2", "Body": "y" * 300_000}, {"Id": "3"}]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xml_files, "_CHUNK", 4096)
        items = read_all(path, ["Id"], max_record_bytes=50_000)
    assert [row["Id"] for row in rows_of(items)] == ["1", "3"]
    (bad,) = bad_of(items)
    assert (bad.kind, bad.line, bad.size) == ("too long", 3, 300_000 + len('<row Id="2" Body="" />\n  '))


def test_a_wrong_row_name_is_said(tmp_path):
    path = tmp_path / "x.xml"
    path.write_text("<posts><post Id='1'/><post Id='2'/></posts>")
    with pytest.raises(InputError, match=r"there is no element <row>; there is: posts, post\..*row="):
        DocumentDataset.read_xml(path).count()
    assert [bad.kind for bad in bad_of(read_all(path, []))] == ["no rows"]
    path.write_text("<posts/>")
    assert DocumentDataset.read_xml(path).count() == 0
    with pytest.raises(UsageError, match="row must be the name of an element"):
        DocumentDataset.read_xml(path, row="<row>")


def test_other_encodings(tmp_path):
    path = tmp_path / "x.xml"
    for name in ("iso-8859-1", "windows-1252", "utf-16"):
        path.write_bytes(f"<?xml version='1.0' encoding='{name}'?><p><row Body='é'/></p>".encode(name))
        assert rows_of(read_all(path, ["Body"])) == [{"Body": "é"}]
    path.write_bytes(b"<?xml version='1.0' encoding='klingon'?><p><row Body='x'/></p>")
    with pytest.raises(InputError, match="declares an encoding that is not known"):
        read_all(path, ["Body"])


def test_types_and_absent_attributes(tmp_path):
    path = tmp_path / "x.xml"
    rows = [{"Id": "1", "Score": "-3"}, {"Id": "2"}, {"Id": "3", "Score": "12"}, {"Id": "4", "Score": "many"}]
    path.write_text(dump([*rows, {"Id": "5", "Late": "yes"}]))
    dataset = DocumentDataset.read_xml(path, types={"Score": "int"})
    dataset[dataset["Score"] >= 0].to_json(tmp_path / "out", max_bad=1.0, progress="off")
    assert read_jsonl(tmp_path / "out" / "part-00000.jsonl") == [{"Id": "3", "Score": 12}]
    (entry,) = read_jsonl(tmp_path / "out" / "_quarantine" / "records.jsonl")
    assert (entry["cause"], entry["line"], entry["raw"]) == ("wrong type", 6, '<row Id="4" Score="many" />')
    dataset.to_parquet(tmp_path / "parquet", max_bad=1.0, progress="off")
    assert DocumentDataset.read_parquet(tmp_path / "parquet").to_arrow().to_pydict() == {
        "Id": ["1", "2", "3", "5"],
        "Score": [-3, None, 12, None],
        "Late": [None, None, None, "yes"],
    }


def test_two_workers_give_what_one_gives(tmp_path):
    for n in range(3):
        (tmp_path / f"in{n}.xml").write_text(dump([{"Id": f"{n}-{i}", "text": escape(f"<{i}>")} for i in range(200)]))
    for workers in (1, 2):
        DocumentDataset.read_xml(tmp_path / "in*.xml").to_parquet(
            tmp_path / f"out{workers}", write_to_filename=True, workers=workers, progress="off"
        )
    assert tree(tmp_path / "out1") == tree(tmp_path / "out2")


def test_recipes_and_inspect_read_xml(tmp_path, capsys):
    path = tmp_path / "x.xml"
    path.write_text(dump([{"Id": "1", "Body": "one"}, {"Id": "2", "Body": "two"}]))
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'[input]\npath = "{tmp_path}"\ntext_field = "Body"\ntypes = {{ Id = "int" }}\n')
    assert load_recipe(recipe).dataset().to_arrow().column("Id").to_pylist() == [1, 2]
    assert main(["inspect", str(path), "--text-field", "Body"]) == 0
    shown = capsys.readouterr().out
    assert "xml" in shown
    assert "2 documents, 6 characters" in shown
    assert main(["inspect", str(path), "--row", "post"]) == 1
    assert "no element <post>" in capsys.readouterr().err
