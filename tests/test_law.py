"""The curation of questions with tags: its modifiers, the stages for columns, and the recipe beside its Python form."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis import DocumentDataset, modifiers
from tamis.cli import main
from tamis.errors import MissingColumnError, MissingExtraError, UsageError
from tamis.modifiers import HasText, HtmlToText, Rename, SectionNumberFormatter, TextCleaner
from test_cases import cases

ROOT = Path(__file__).parent.parent


def changed(modifier, text):
    # In company, and neither first nor last.
    texts = pa.array(["before it ", text, " after it <p>", None], pa.large_string())
    return modifier.modify_batch(texts)[1].as_py()


@pytest.mark.parametrize("case", cases("law"))
def test_law_cases(case):
    modifier = getattr(modifiers, case["modifier"])(**case.get("options", {}))
    once = changed(modifier, case["text"])
    assert once == case["expected"]
    if case["modifier"] != "HtmlToText":
        assert changed(modifier, once) == once


# -- properties ----------------------------------------------------------------------------------------------

ANY = st.text(st.characters(exclude_categories=["Cs"]))
SIGNS = "§|§§| |\u00a0|12|3|(b)|(3)|Section |Sec. |s |ss |of|and |, |-|–|Art. |Articles |II|42 |USC|U.S.C.|.|x"
CITING = st.lists(st.sampled_from([*SIGNS.split("|"), "078-05-1125", "(555) 123-4567", "2020-01-02"]), max_size=12)
BLANKS = st.lists(st.sampled_from([" ", "\t", "\n", "\r\n", "\r", "a", "\u00a0", "\u3000", "\u200b", "é"]))


@given(ANY | CITING.map("".join))
def test_digits_are_neither_changed_nor_moved_and_twice_is_once(text):
    once = changed(SectionNumberFormatter(), text)
    assert re.sub(r"[^0-9]", "", once) == re.sub(r"[^0-9]", "", text)
    assert changed(SectionNumberFormatter(), once) == once


@given(st.text("0123456789-./:() +,", max_size=40))
def test_numbers_alone_never_change(text):
    assert changed(SectionNumberFormatter(), text) == text


@given(
    ANY
    | st.lists(st.sampled_from([" ", "\t", "\n", "\r\n", "\r", "a", "\u00a0", "\u3000", "\u200b", "é"])).map("".join)
)
def test_cleaning_changes_white_space_alone_and_twice_is_once(text):
    once = changed(TextCleaner(), text)
    unseen = "\u00ad\u200b\u2060\ufeff"
    assert "".join(once.split()) == "".join("".join(c for c in text if c not in unseen).split())
    assert changed(TextCleaner(), once) == once


WORDS = st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=1, max_size=8)


@given(WORDS, st.sampled_from(["p", "li", "pre", "blockquote", "td", "b", "h1", "div"]))
def test_every_word_of_a_page_is_in_its_text(words, tag):
    text = html.escape(" ".join(words))
    found = changed(HtmlToText(), f"<p>before</p><{tag}>{text}</{tag}><p>after</p>")
    expected = " ".join(["before", *words, "after"])
    if tag == "b":
        assert found.split() == ["before", *words, "after"]
    else:
        marks = {"li": "- ", "blockquote": "> "}.get(tag, "")
        assert found.replace(f"\n\n{marks}" if marks else "\n\n", " ", 1).replace("\n", " ").split() == expected.split()


@pytest.mark.parametrize("text", ["<p>" * 20_000 + "deep", "<div>" * 5_000 + "deep" + "</div>" * 5_000, "<a" * 100_000])
def test_hostile_pages_are_read_in_time(text):
    assert changed(HtmlToText(), text) in {"deep", text}


def test_hostile_citations_and_blanks_are_read_in_time():
    for text in ("§§ " + "1, " * 50_000, "Sections " + "1 and " * 50_000, "Section " + "(a) " * 50_000, "1-" * 100_000):
        changed(SectionNumberFormatter(), text)
    assert changed(TextCleaner(), "a" + " " * 1_000_000 + "b") == "a b"
    assert changed(HtmlToText(), "<p>a" + " " * 1_000_000 + "b</p>") == "a b"


def test_what_finds_nothing_copies_nothing():
    texts = pa.array(["plain", None, "a < b", "12 of 5"], pa.large_string())
    for modifier in (HtmlToText(), SectionNumberFormatter(), TextCleaner()):
        assert modifier.modify_batch(texts) is texts


def test_mistakes_are_said_when_the_modifier_is_made(monkeypatch):
    with pytest.raises(UsageError, match="code must be keep, drop or placeholder; got 'no'"):
        HtmlToText(code="no")
    with pytest.raises(UsageError, match="links must be text or url"):
        HtmlToText(links="both")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tamis\[html\]'"):
        HtmlToText()


# -- columns -------------------------------------------------------------------------------------------------

POSTS = pa.table({"Id": ["1", "2"], "Body": ["b", None], "Score": ["-3", " "], "title": ["t", " "]})
NAMES = {"id": "Id", "question": ["content", "Body"], "title": "Title", "score": "Score", "views": "Views"}


def renamed(table, **options):
    return Rename(NAMES, **options)(DocumentDataset.from_arrow(table, text_field="question")).to_arrow().to_pydict()


def test_columns_get_their_names_and_nothing_stays_behind():
    assert renamed(POSTS, optional=["views"], numbers=["score", "views"]) == {
        "Id": [None, None],
        "Body": [None, None],
        "Score": [None, None],
        "title": ["t", " "],
        "id": ["1", "2"],
        "question": ["b", None],
        "score": [-3, None],
        "views": [None, None],
    }
    assert renamed(POSTS, optional=["views"])["score"] == ["-3", " "]


def test_a_column_that_has_its_name_already_stays():
    table = pa.table({"a": [1], "b": ["x"]})
    assert Rename({"b": "a", "c": "b"}).open()(table).to_pydict() == {"a": [1], "b": ["x"], "c": ["x"]}


def test_a_column_that_has_none_of_its_names_is_named():
    with pytest.raises(MissingColumnError, match=r"Rename \(for 'views'\) reads the column 'Views'"):
        renamed(POSTS)
    with pytest.raises(UsageError, match="optional has 'x'"):
        Rename(NAMES, optional=["x"])


def test_a_score_that_is_no_number_sets_its_document_aside(tmp_path):
    table = pa.table({"id": ["1", "2", "3"], "score": ["4", "many", "5"], "text": ["a"] * 3})
    dataset = Rename({"score": "Score"}, numbers=["score"])(DocumentDataset.from_arrow(table))
    result = dataset.to_json(tmp_path / "out", max_bad=0.5)
    assert (result.tally.kept, result.tally.total_quarantined) == (2, 1)


def test_documents_without_text_are_dropped_with_a_reason():
    from tamis.table import marks

    table = pa.table({"a": ["x", " ", None, "y"], "b": ["x", "y", None, ""]})
    _, reasons, _ = marks(HasText(["a", "b"]).open()(table))
    assert reasons.to_pylist() == [None, "has no a", "has no a", "has no b"]
    with pytest.raises(UsageError, match="a list of columns"):
        HasText("title")


# -- the recipe ----------------------------------------------------------------------------------------------

LONG = "My landlord kept the deposit under Section 12 (3)(b) of the lease and says that I owe one more month of rent"
QUESTIONS = [
    (
        "1",
        "1",
        f"<p>{LONG}.</p>\n<p>Write to jo@example.org, SSN 536-90-4399.</p>",
        "Kept&mdash;why?",
        "3",
        "<lease><uk>",
    ),
    ("2", "2", f"<p>{LONG}</p>", None, "9", None),
    ("3", "1", f"<p>{LONG}</p>", "Voted down", "-1", "<lease>"),
    ("4", "1", "<p>" + "word " * 15 + "</p>", "Just fifteen words", "1", "<lease>"),
    ("5", "1", "<p>one two three four five six seven eight nine ten 11 12 13 14 15 16</p>", "Sixteen", "0", "<b>"),
    ("6", "1", "<p>" + "buy my very good book " * 20 + "</p>", "Repeats", "1", "<spam>"),
    ("7", "1", f"<p>{LONG}</p>", "No tags", "1", ""),
]
FIELDS = ("Id", "PostTypeId", "Body", "Title", "Score", "Tags")


def as_xml(path):
    rows = [
        "<row " + " ".join(f'{k}="{html.escape(v)}"' for k, v in zip(FIELDS, row, strict=True) if v is not None) + " />"
        for row in QUESTIONS
    ]
    path.write_text('<?xml version="1.0" encoding="utf-8"?>\n<posts>\n' + "\n".join(rows) + "\n</posts>\n", "utf-8")


def as_jsonl(path):
    names = ("id", "PostTypeId", "question", "title", "score", "tags")
    rows = [dict(zip(names, row, strict=True)) for row in QUESTIONS]
    path.write_text("".join(json.dumps({**row, "score": int(row["score"])}) + "\n" for row in rows), "utf-8")


def written(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.jsonl")}


def lines_of(folder, pattern):
    return [json.loads(line) for path in sorted(folder.glob(pattern)) for line in path.read_text("utf-8").splitlines()]


def rows_of(folder):
    return {row["id"]: row for part in ("train", "validation") for row in lines_of(folder, f"{part}/*.jsonl")}


def curated(source, target):
    assert main(["run", "law_questions", "--set", f"input.path={source}", "--set", f"output.path={target}"]) == 0
    return rows_of(target)


@pytest.fixture(scope="module")
def from_xml(tmp_path_factory):
    folder = tmp_path_factory.mktemp("law")
    as_xml(folder / "Posts.xml")
    return folder, curated(folder / "Posts.xml", folder / "recipe")


def test_the_recipe_makes_rows_and_drops_with_reasons(from_xml):
    folder, rows = from_xml
    assert set(rows) == {"1", "5"}
    first = rows["1"]
    assert first["completion"] == "lease, uk"
    assert first["tags"] == ["lease", "uk"]
    assert first["title"] == "Kept—why?"
    assert "under § 12(3)(b) of the lease" in first["question"]
    assert "<EMAIL_ADDRESS>, SSN <US_SSN>." in first["question"]
    assert first["prompt"][slice(*first["prompt_body"])] == first["question"]
    assert "Common tags: lease, b, spam, uk\n" in first["prompt"]
    assert first["Body"] is None
    assert "jo@example.org" not in json.dumps(list(rows.values()))
    rejected = lines_of(folder / "recipe", "_rejects/**/*.jsonl")
    reasons = sorted((row.get("id") or row["Id"], json.dumps(row)) for row in rejected)
    for (who, text), why in zip(
        reasons, ["has no title", "score >= 0", "fewer than 16 words", "5-gram", "has no tags"], strict=True
    ):
        assert why in text, who


def test_the_recipe_reads_json_lines_as_well(from_xml, tmp_path):
    as_jsonl(tmp_path / "questions.jsonl")
    rows = curated(tmp_path / "questions.jsonl", tmp_path / "out")
    for made in ("prompt", "prompt_body", "completion", "tags", "words"):
        assert {k: v[made] for k, v in rows.items()} == {k: v[made] for k, v in from_xml[1].items()}


def test_the_recipe_takes_data_without_scores(tmp_path):
    lines = ["id,title,content,tags", f'9,A title,"<p>{LONG}</p>",lease uk']
    (tmp_path / "q.csv").write_text("\n".join(lines) + "\n")
    rows = curated(tmp_path / "q.csv", tmp_path / "out")
    assert rows["9"]["tags"] == ["lease", "uk"]
    assert rows["9"]["score"] is None


def test_the_example_writes_what_the_recipe_writes(from_xml):
    folder, _ = from_xml
    command = [sys.executable, str(ROOT / "examples/law_questions.py"), folder / "Posts.xml", folder / "example"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert written(folder / "example") == written(folder / "recipe")


def test_the_page_on_questions_runs(from_xml, tmp_path, monkeypatch):
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/law.md").read_text("utf-8"), re.DOTALL)
    as_xml(tmp_path / "Posts.xml")
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "law.md", "exec"), {})
    rows = lines_of(tmp_path, "rows/*.jsonl")
    assert len(rows) == 5
    assert all(row["question"] is None and row["prompt"].endswith("\n\nTags:\n") for row in rows)
