"""One document's way through a plan: what changed it, what dropped it, where it was written."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tamis
from conftest import read_jsonl
from tamis import DocumentDataset, Modify, Score, ScoreFilter
from tamis.cli import main
from tamis.errors import InputError, UnknownNameError, UsageError
from tamis.explanation import dropped, explain, hunks
from tamis.filters import WordCountFilter
from tamis.filters.where import Where, parse_expression
from tamis.hashing import document_id
from tamis.recipe import load_recipe

TEXT = st.text(st.sampled_from("ab \n.,é"), max_size=40)

POSTS = [
    ("1", "3", "&lt;p&gt;May I record a phone call with my landlord? Write to jo@example.org please.&lt;/p&gt;"),
    ("2", "5", "&lt;p&gt;Too short.&lt;/p&gt;"),
    ("3", "-2", "&lt;p&gt;Is a verbal contract with a neighbour binding where nobody wrote it down?&lt;/p&gt;"),
    ("4", "1", "&lt;p&gt;Who owns the tree whose branches hang over the fence of my garden?&lt;/p&gt;"),
]

RECIPE = """
[input]
path = "{folder}/Posts.xml"
text_field = "Body"
types = {{ Score = "int" }}

[[stage]]
use = "HtmlToText"
[[stage]]
use = "PiiModifier"
supported_entities = ["EMAIL_ADDRESS"]
[[stage]]
use = "WordCountFilter"
min_words = 5
score_field = "words"
[[stage]]
use = "Where"
expression = "Score >= 0"
[[stage]]
use = "Split"
by = "Id"

[output]
path = "{folder}/out"
partition_on = "split"
keep_rejects = true
"""


@pytest.fixture
def run(tmp_path, capsys):
    rows = "\n".join(f'  <row Id="{n}" Score="{score}" Body="{body}" />' for n, score, body in POSTS)
    (tmp_path / "Posts.xml").write_text(f"<posts>\n{rows}\n</posts>\n")
    (tmp_path / "r.toml").write_text(RECIPE.format(folder=tmp_path))
    assert main(["run", str(tmp_path / "r.toml"), "--workers", "1"]) == 0
    capsys.readouterr()
    return tmp_path / "out"


@given(TEXT, TEXT)
def test_hunks_say_all_that_differs(old, new):
    """The old text with each removed part replaced by the added one is the new text."""
    at, built = 0, ""
    for hunk in hunks(old, new):
        assert old[hunk.start :].startswith(hunk.removed + hunk.after)
        assert old[: hunk.start].endswith(hunk.before)
        built += old[at : hunk.start] + hunk.added
        at = hunk.start + len(hunk.removed)
    assert built + old[at:] == new
    assert bool(hunks(old, new)) == (old != new)


def test_a_long_text_that_is_changed_throughout_is_shown_whole():
    old, new = "a b " * 5000, "c d " * 5000
    (hunk,) = hunks(old, new)
    assert (hunk.removed, hunk.added) == (old, new)


def test_the_way_of_a_document_that_was_kept(run):
    dataset = load_recipe(run.parent / "r.toml").dataset()
    way = explain(dataset, "1", run=str(run))
    assert way.kept
    assert (way.id_field, way.line) == ("Id", 2)
    assert [step.stage for step in way.steps] == ["HtmlToText", "PiiModifier", "WordCountFilter", "Where", "Split"]
    html, pii, words, _, split = way.steps
    assert html.changes[0].hunks[0].removed == "<p>"
    assert "".join(h.removed for h in pii.changes[0].hunks).startswith("jo")
    assert [(c.column, c.new) for c in words.changes] == [("words", 13)]
    assert words.score == 13
    assert words.settings["min_words"] == 5
    part = split.changes[0].new
    assert way.outputs == (f"{part}/part-00000.jsonl",)
    (written,) = [d for d in read_jsonl(run / way.outputs[0]) if d["Id"] == "1"]
    assert written["Body"] == pii.changes[0].new


def test_the_way_of_documents_that_were_dropped(run):
    dataset = load_recipe(run.parent / "r.toml").dataset()
    way = explain(dataset, "2", run=str(run))
    assert not way.kept
    assert (way.steps[-1].stage, way.steps[-1].reason) == ("WordCountFilter", "fewer than 5 words")
    assert way.steps[-1].score == 2
    assert way.left == ("Where", "Split")
    assert way.outputs == ("_rejects/part-00000.jsonl",)
    assert explain(dataset, "3").steps[-1].stage == "Where"
    assert [(d.id, d.stage) for d in dropped(dataset)] == [("2", "WordCountFilter"), ("3", "Where")]
    assert [d.id for d in dropped(dataset, reason="words")] == ["2"]


def test_the_command_shows_a_way(run, capsys):
    assert main(["explain", str(run), "1"]) == 0
    shown = capsys.readouterr().out
    assert "Posts.xml, line 2" in shown
    assert "1. HtmlToText: changed it" in shown
    assert "…[-<p>-]May I record" in shown
    assert "{+<EMAIL_ADDRESS>+}" in shown
    assert "3. WordCountFilter: passed (score 13)" in shown
    assert "min_words = 5" in shown
    assert "+ words: 13" in shown
    assert "Kept. It is in " in shown
    assert "\x1b" not in shown
    assert main(["explain", str(run), "3"]) == 0
    shown = capsys.readouterr().out
    assert "4. Where: dropped: not (Score >= 0)" in shown
    assert "It did not come to: Split" in shown
    assert "Dropped. It is in _rejects/part-00000.jsonl." in shown
    assert main(["explain", str(run), "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] is True


def test_the_command_lists_what_was_dropped(run, capsys):
    assert main(["explain", str(run), "--dropped", "5"]) == 0
    shown = capsys.readouterr().out
    assert "2  WordCountFilter: fewer than 5 words (score 2)" in shown
    assert "3  Where: not (Score >= 0)" in shown
    assert main(["explain", str(run), "--dropped", "--reason", "nothing"]) == 0
    assert "No document was dropped for that." in capsys.readouterr().out


def test_what_cannot_be_explained_is_said(run, tmp_path, capsys, write_jsonl):
    assert main(["explain", str(run), "99"]) == 1
    assert "none of the 4 documents of the input has '99' in its field 'Id'" in capsys.readouterr().err
    assert main(["explain", str(run)]) == 2
    assert "say the id of a document, or --dropped" in capsys.readouterr().err
    assert main(["explain", str(tmp_path / "none"), "1"]) == 2
    assert "holds no complete run" in capsys.readouterr().err
    dataset = DocumentDataset.read_json(write_jsonl("x.jsonl", [{"id": "a", "text": "b"}]))
    dataset.to_json(tmp_path / "python", progress="off")
    assert main(["explain", str(tmp_path / "python"), "a"]) == 2
    assert "was not made by a recipe" in capsys.readouterr().err
    with pytest.raises(UsageError, match="the result of other steps"):
        explain(dataset, "a", run=str(run))
    with pytest.raises(UnknownNameError, match="there is no field 'key'"):
        explain(dataset, "a", id_field="key")


def test_the_recipe_is_kept_without_secrets_and_the_directory_is_well(run, capsys):
    kept = json.loads((run / "_tamis" / "recipe.json").read_text())
    assert kept["input"]["path"] == str(run.parent / "Posts.xml")
    assert "output" not in kept
    assert main(["verify", str(run)]) == 0
    assert main(["run", str(run.parent / "r.toml"), "--fresh", "--workers", "1"]) == 0
    assert (run / "_tamis" / "recipe.json").exists()


@dataclass(frozen=True)
class Breaks(tamis.DocumentModifier):
    """Fails on some documents."""

    def modify_document(self, text):
        if "break" in text:
            raise ValueError("cannot do this one")
        return text.upper()


def test_a_stage_that_fails_and_ids_that_are_made(tmp_path, write_jsonl):
    path = write_jsonl("x.jsonl", [{"text": "one"}, {"text": "break it"}, *({"text": f"t{i}"} for i in range(40))])
    dataset = Modify(Breaks())(DocumentDataset.read_json(path))
    dataset.to_json(tmp_path / "out", progress="off", workers=1)
    way = explain(dataset, document_id("break it"), run=str(tmp_path / "out"))
    assert not way.kept
    assert way.steps[-1].error == "ValueError: cannot do this one"
    assert way.quarantine is not None
    assert (way.quarantine["line"], way.quarantine["cause"]) == (2, "Breaks failed")
    assert explain(dataset, document_id("one")).kept


def test_a_record_that_cannot_be_read_is_told_of(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("id,text\n" + "".join(f"{i},x\n" for i in range(30)) + "here,a,b\n")
    with pytest.raises(InputError, match=r"none of the 30 documents.*a record that cannot be read holds.*ragged row"):
        explain(DocumentDataset.read_csv(path), "here")


def test_a_step_that_must_see_everything_is_run_over_everything(tmp_path, write_jsonl):
    path = write_jsonl("x.jsonl", [{"id": str(i), "text": "ab"[i % 2]} for i in range(40)])
    dataset = Score(str.upper, "kind", score_type=str)(DocumentDataset.read_json(path))
    dataset = dataset.train_test_split(stratify_by="kind")
    dataset.to_json(tmp_path / "out", partition_on="split", write_to_filename=True, progress="off", workers=1)
    for key in ("0", "7", "31"):
        way = explain(dataset, key, run=str(tmp_path / "out"))
        assert [step.whole for step in way.steps] == [False, True]
        (place,) = way.outputs
        assert key in {d["id"] for d in read_jsonl(tmp_path / "out" / place)}


def test_documents_in_memory_are_explained():
    table = pa.table({"id": ["a", "b"], "text": ["one two three", "x"], "n": [1, 2]})
    dataset = ScoreFilter(WordCountFilter(min_words=2))(DocumentDataset.from_arrow(table))
    dataset = Where(parse_expression("n < 2"))(dataset)
    assert tamis.explain(dataset, "a").kept
    way = tamis.explain(dataset, "b")
    assert (way.offset, way.record["n"], way.left) == (None, 2, ("Where",))


@pytest.mark.parametrize("page", ["explain.md", "formats.md"])
def test_the_pages_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "questions.csv").write_text('id,content,score\n1,"a ""quote""\nand more",4\n2,b,-1\n')
    (tmp_path / "questions.tsv").write_text("1\ta\t4\n2\tb\t-1\n")
    (tmp_path / "Posts.xml").write_text('<posts><row Id="1" Body="x" Score="2"/></posts>')
    text = (Path(__file__).parent.parent / "docs" / page).read_text()
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    if page == "formats.md":
        assert names["good"].to_arrow().column("id").to_pylist() == ["1"]
        assert names["posts"].to_arrow().to_pylist() == [{"Id": "1", "Body": "x", "Score": 2}]
        (tmp_path / "r.toml").write_text(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0])
        rows = load_recipe(tmp_path / "r.toml").dataset().to_arrow().to_pylist()
        assert rows == [{"id": "1", "content": "a", "score": 4}, {"id": "2", "content": "b", "score": -1}]
    else:
        assert capsys.readouterr().out == "fewer than 3 words\n"
