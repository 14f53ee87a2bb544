"""Rows to tune on: the prompt, where it may be cut, the completion and the tags."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis import DocumentDataset
from tamis.errors import MissingColumnError, UsageError
from tamis.table import marks
from tamis.testing import check_fold, check_stage
from tamis.tuning.rows import ListedTags, PromptCompletion, TagCounts, TagList

TABLE = pa.table(
    {
        "id": pa.array([str(n) for n in range(7)]),
        "title": pa.array(["Café?", None, "Late rent", "{question}", "", "Ω ☕ 🎈", "x"]),
        "question": pa.array(["One €", "two", None, "three {title}", "", "four\nlines", " "], pa.large_string()),
        "score": pa.array([1, 2, None, -1, 0, 5, 6]),
        "tags": pa.array(["<a><b>", "a, c", None, "|b|", "", "[]", "d a"]),
        "tag_list": pa.array(["a, b"] * 7),
    }
)
TEMPLATE = "{{Title}}: {title} ({score})\nTags: {tag_list}\n{question}\nTags:\n"
STAGES = [
    PromptCompletion(),
    PromptCompletion(untagged="keep"),
    PromptCompletion(TEMPLATE, clears=("question", "tag_list", "score")),
    PromptCompletion("{title}", body="title"),
    TagList(2).then({"a": 3, "b": 2, "c": 1}),
    ListedTags(TagList(2, column="title"), ()),
]


@pytest.mark.parametrize("stage", STAGES, ids=range(len(STAGES)))
def test_every_stage_holds_the_contract(stage):
    check_stage(stage, TABLE, fresh_process=False)
    assert stage.open()(TABLE.slice(0, 0)).num_rows == 0


def made(stage, table=TABLE):
    return marks(stage.open()(table))


def test_a_row_has_prompt_body_completion_and_tags():
    rows, reasons, _ = made(PromptCompletion("T: {title}\nQ: {question}\nTags:\n"))
    first = rows.slice(0, 1).to_pylist()[0]
    assert first["prompt"] == "T: Café?\nQ: One €\nTags:\n"
    assert first["completion"] == "a, b"
    assert first["tags"] == ["a", "b"]
    assert first["prompt"][slice(*first["prompt_body"])] == "One €"
    assert reasons.to_pylist() == [None, None, "has no tags", None, "has no tags", "has no tags", None]


def test_what_a_column_holds_is_not_a_template_and_a_null_is_nothing():
    rows, _, _ = made(PromptCompletion(TEMPLATE))
    prompts = rows["prompt"].to_pylist()
    assert prompts[3] == "{Title}: {question} (-1)\nTags: a, b\nthree {title}\nTags:\n"
    assert prompts[2] == "{Title}: Late rent ()\nTags: a, b\n\nTags:\n"


def test_documents_without_tags_are_kept_where_they_are_to_be_answered():
    rows, reasons, _ = made(PromptCompletion(untagged="keep"))
    assert reasons is None
    assert rows["completion"].to_pylist()[2:6] == ["", "b", "", ""]
    assert rows["tags"].to_pylist()[2] == []


def test_cleared_columns_are_null_and_keep_their_type():
    rows, _, _ = made(PromptCompletion(TEMPLATE, clears=("question", "tag_list", "score", "tags")))
    for name in ("question", "tag_list", "score"):
        assert rows[name].null_count == rows.num_rows
        assert rows.schema.field(name).type == TABLE.schema.field(name).type
    assert rows["tags"].to_pylist()[0] == ["a", "b"]


@given(st.lists(st.tuples(st.none() | st.text(), st.none() | st.text()), min_size=1))
def test_the_body_is_where_it_says(pairs):
    table = pa.table(
        {
            "title": pa.array([a for a, _ in pairs], pa.string()),
            "question": pa.array([b for _, b in pairs], pa.string()),
            "tags": pa.array(["t"] * len(pairs)),
        }
    )
    rows, _, _ = made(PromptCompletion("☕{title}é{question}!"), table)
    for (title, question), prompt, (start, end) in zip(
        pairs, rows["prompt"].to_pylist(), rows["prompt_body"].to_pylist(), strict=True
    ):
        assert prompt == f"☕{title or ''}é{question or ''}!"
        assert prompt[start:end] == (question or "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "{title}"}, "no column 'question'"),
        ({"template": "{question}{question}"}, "twice"),
        ({"template": "{question"}, "A brace that is text is written twice"),
        ({"template": "{question!r}"}, "names of columns and nothing else"),
        ({"template": "{}"}, "names of columns and nothing else"),
        ({"untagged": "no"}, "'drop' or 'keep'"),
    ],
)
def test_a_mistake_is_said_when_the_stage_is_made(settings, message):
    with pytest.raises(UsageError, match=message):
        PromptCompletion(**settings)


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(MissingColumnError, match="'titel'"):
        PromptCompletion("{titel}{question}")(DocumentDataset.from_arrow(TABLE)).check()
    with pytest.raises(MissingColumnError, match="'questoin'"):
        PromptCompletion(clears=("questoin",))(DocumentDataset.from_arrow(TABLE)).check()
    with pytest.raises(UsageError, match="at least 1"):
        TagList(0)


def test_tags_are_counted_in_any_order_of_merging():
    counts = check_fold(TagCounts(), TABLE)
    assert list(counts.items()) == [("a", 3), ("b", 2), ("c", 1), ("d", 1)]
    fold, backwards = TagCounts(), TABLE.take(list(range(7))[::-1])
    assert list(fold.finish(fold.add(fold.start(), backwards))) == ["a", "b", "c", "d"]
    check_fold(TagCounts("title"), TABLE.slice(0, 0))


def test_the_list_of_tags_is_in_every_prompt():
    source = DocumentDataset.from_arrow(TABLE.drop_columns(["tag_list"]), text_field="question")
    tuned = PromptCompletion(TEMPLATE, clears=["tag_list"])(TagList(2)(source))
    table = tuned.to_arrow()
    assert all("\nTags: a, b\n" in prompt for prompt in table["prompt"].to_pylist())
    assert table["tag_list"].null_count == table.num_rows == 4
