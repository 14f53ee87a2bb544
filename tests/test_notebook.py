"""What a notebook shows of a dataset and a run: HTML whose texts are escaped, and nothing is run for it."""

import json
from html.parser import HTMLParser

import pyarrow as pa
import pytest

from tamis import DocumentDataset, Modify, ScoreFilter
from tamis.filters import WordCountFilter
from tamis.notebook import dataset_html

HOSTILE = '<script>alert(1)</script> & "quoted" <b>bold</b> \x00\x1b[31m' + "long " * 100


class Seen(HTMLParser):
    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.text = [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_a_dataset_shows_its_plan_and_its_first_documents_and_runs_no_step(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": f"{HOSTILE} {i}", "n": i, "<i>": None}) + "\n" for i in range(9)))

    def fails(text):
        pytest.fail("a step was run")

    dataset = ScoreFilter(WordCountFilter(1, 5))(Modify(fails)(DocumentDataset.read_json(source)))
    seen = Seen(dataset._repr_html_())
    assert "script" not in seen.tags
    assert "b" not in seen.tags
    assert seen.tags.count("tr") == 4
    assert "jsonl: 1 file, " in seen.text
    for shown in ('<script>alert(1)</script> & "quoted"', "fails", "WordCountFilter", "<i>", "null", "before any step"):
        assert shown in seen.text
    assert "long " * 60 not in seen.text
    assert seen.text.count("…") == 3


def test_bad_records_and_empty_or_missing_inputs_show_something(tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "good"}\n{"text": 1\n')
    assert "good" in DocumentDataset.read_json(bad)._repr_html_()
    gone = DocumentDataset.read_json(bad)
    bad.unlink()
    assert "bad.jsonl" in gone._repr_html_()
    empty = DocumentDataset.from_arrow(pa.table({"text": pa.array([], pa.string())}))
    assert Seen(empty._repr_html_()).tags == ["div", "code"]


def test_a_wide_table_is_cut_and_says_so():
    table = pa.table({f"c{i}": [i] for i in range(10)})
    seen = Seen(dataset_html("<x>", [], table))
    assert seen.tags.count("th") == 8
    assert "2 more columns: c8, c9." in seen.text


def test_a_result_shows_its_funnel(tmp_path):
    rows = pa.table({"text": ["one two three", "one", HOSTILE]})
    result = ScoreFilter(WordCountFilter(2, 5))(DocumentDataset.from_arrow(rows)).to_json(
        tmp_path / "<b>o", progress="off"
    )
    seen = Seen(result._repr_html_())
    assert "b" not in seen.tags
    assert "3 records: 1 kept, 2 rejected" in seen.text
    assert seen.tags.count("tr") == 1 + 4
    for shown in ("WordCountFilter", "fewer than 2 words", "33.3%", "kept", "<b>o"):
        assert shown in seen.text
