"""Filters: scores, reasons, inversion, filters of one's own, and conditions read from text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.errors import MissingColumnError, StageError, UsageError
from tamis.filters import (
    DocumentFilter,
    Filter,
    RepeatingTopNGramsFilter,
    Score,
    ScoreFilter,
    Where,
    WordCountFilter,
    parse_expression,
)
from tamis.filters.where import columns_of
from tamis.table import marks

TEXTS = ["one two three", "", None, "  ", "now and now and now and now and", "今天天气很好", "a b c d e f g h"]
TABLE = pa.table({"text": pa.array(TEXTS, pa.large_string()), "n": pa.array([3, 0, None, 0, 8, 6, 8])})


def reasons_of(stage, table=TABLE):
    _, reasons, _ = marks(stage.open()(table))
    return reasons.to_pylist()


def kept_by(stage, table=TABLE):
    return [r is None for r in reasons_of(stage, table)]


# -- the built-in filters ------------------------------------------------------------------------------------


def test_word_count_says_on_which_side_a_document_fell():
    few, many = "fewer than 3 words", "more than 6 words"
    assert reasons_of(ScoreFilter(WordCountFilter(3, 6))) == [None, few, few, few, many, None, many]


def test_word_count_includes_both_bounds():
    table = pa.table({"text": ["a", "a b", "a b c", "a b c d"]})
    assert kept_by(ScoreFilter(WordCountFilter(2, 3)), table) == [False, True, True, False]
    assert kept_by(ScoreFilter(WordCountFilter(0, 0)), pa.table({"text": ["", None, " \n", "a"]})) == [True] * 3 + [
        False
    ]


def test_word_count_goes_by_the_language_that_is_named():
    table = pa.table({"text": ["今天天气 很好"]})
    counts = {
        lang: WordCountFilter(lang=lang).score_batch(table["text"].chunk(0).cast(pa.large_string()))[0].as_py()
        for lang in ("auto", "zh", "en")
    }
    assert counts == {"auto": 6, "zh": 6, "en": 2}


def test_repetition_is_kept_up_to_the_bound_and_named_above_it():
    table = pa.table({"text": ["x y x y", "x y a x y", "", None, "a b c"]})
    reason = "one 2-gram covers more than 0.8 of it"
    assert reasons_of(ScoreFilter(RepeatingTopNGramsFilter(2, 0.8)), table) == [reason, None, None, None, None]
    assert kept_by(ScoreFilter(RepeatingTopNGramsFilter(2, 1.0)), table) == [True] * 5
    assert kept_by(ScoreFilter(RepeatingTopNGramsFilter(2, 0)), table) == [False, False, True, True, True]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab \n今é"), max_size=20), max_size=6), st.integers(0, 4), st.integers(0, 4))
def test_one_document_and_a_batch_agree(texts, low, span):
    for each in (WordCountFilter(low, low + span), RepeatingTopNGramsFilter(span + 1, low / 4)):
        batch = each.score_batch(pa.array(texts, pa.large_string()))
        assert batch.type == each.score_type
        assert batch.to_pylist() == [each.score_document(t) for t in texts]
        kept = [r is None for r in each.reasons(batch).to_pylist()]
        assert kept == [each.keep_document(s) for s in batch.to_pylist()]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: WordCountFilter(-1), r"min_words must be from 0 to max_words; got -1 and 100000\."),
        (lambda: WordCountFilter(5, 4), r"min_words must be from 0 to max_words; got 5 and 4\."),
        (lambda: RepeatingTopNGramsFilter(0), r"n must be at least 1; got 0\."),
        (lambda: RepeatingTopNGramsFilter(2, 1.01), r"max_repeating_ngram_ratio must be in \[0, 1\]; got 1.01\."),
        (lambda: RepeatingTopNGramsFilter(2, math.nan), r"max_repeating_ngram_ratio must be in \[0, 1\]; got nan\."),
        (lambda: WordCountFilter(lang="e n"), r"there is no language 'e n'\. Did you mean 'en'"),
        (lambda: RepeatingTopNGramsFilter(lang="ZH"), r"there is no language 'ZH'\. Did you mean 'zh'"),
        (lambda: ScoreFilter(len), r"ScoreFilter takes a DocumentFilter, not len\. Derive your class from"),
        (
            lambda: Score(len, "n", score_type="decimal").open(),
            r"score_type must be an Arrow type or one of float, int",
        ),
        (lambda: ScoreFilter(WordCountFilter(), score_type=list).open(), r"score_type must be .* got <class 'list'>"),
    ],
)
def test_wrong_parameters_are_refused_when_the_stage_is_built(build, message):
    with pytest.raises(UsageError, match=message):
        build()


# -- Score, Filter, ScoreFilter ------------------------------------------------------------------------------


def test_score_adds_a_column_and_drops_nothing():
    out = Score(WordCountFilter(), "words").open()(TABLE)
    assert out.column_names == ["text", "n", "words"]
    assert out["words"].to_pylist() == [3, 0, 0, 0, 8, 6, 8]
    assert out["words"].type == pa.int64()


def test_score_takes_a_function_and_gives_it_null_as_the_empty_text():
    out = Score(len, "length").open()(TABLE)
    assert out["length"].type == pa.float64()
    assert out["length"].to_pylist() == [float(len(t or "")) for t in TEXTS]


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (int, pa.int64()),
        ("int", pa.int64()),
        (float, pa.float64()),
        (str, pa.string()),
        (bool, pa.bool_()),
        (pa.int16(), pa.int16()),
        (None, pa.int64()),
    ],
)
def test_scores_have_the_type_that_was_asked_for(asked, kind):
    for stage in (Score(WordCountFilter(), "s", score_type=asked), ScoreFilter(WordCountFilter(), None, "s", asked)):
        assert stage.needs(TABLE.schema).makes == (pa.field("s", kind),)
        assert stage.open()(TABLE).schema.field("s").type == kind


def test_a_score_replaces_a_column_of_that_name_in_its_place():
    out = ScoreFilter(WordCountFilter(3), score_field="n").open()(TABLE.select(["n", "text"]))
    assert marks(out)[0].column_names == ["n", "text"]
    assert out["n"].to_pylist() == [3, 0, 0, 0, 8, 6, 8]


def test_without_a_score_field_no_column_is_made():
    out, reasons, scores = marks(ScoreFilter(WordCountFilter(3)).open()(TABLE))
    assert out.equals(TABLE)
    assert reasons[1].as_py() == "fewer than 3 words"
    assert scores.to_pylist() == [3, 0, 0, 0, 8, 6, 8]


STAGES = {
    "word count": lambda invert: ScoreFilter(WordCountFilter(3, 6), invert=invert),
    "repetition": lambda invert: ScoreFilter(RepeatingTopNGramsFilter(2, 0.5), invert=invert),
    "filter by a filter": lambda invert: Filter(WordCountFilter(3, 6), "n", invert=invert),
    "filter by a function": lambda invert: Filter(lambda n: n > 3, "n", invert=invert),
}


@pytest.mark.parametrize("build", STAGES.values(), ids=list(STAGES))
def test_inverted_keeps_exactly_what_would_be_dropped(build):
    kept, inverted = kept_by(build(False)), kept_by(build(True))
    assert inverted == [not k for k in kept]
    assert True in kept
    assert False in kept
    assert set(reasons_of(build(True))) == {None, "inverted: passes the filter"}


def test_a_filter_on_a_column_gives_no_null_to_the_function_and_does_not_keep_it():
    assert kept_by(Filter(lambda n: n >= 0, "n")) == [True, True, False, True, True, True, True]
    assert reasons_of(Filter(lambda n: n > 0, "n"))[1:3] == ["not kept by its n"] * 2


@pytest.mark.parametrize("decide", [WordCountFilter(0), RepeatingTopNGramsFilter(2, 1.0)])
def test_a_null_score_is_not_kept_and_neither_is_one_that_is_no_number(decide):
    table = pa.table({"s": pa.array([0.5, None, math.nan])})
    assert kept_by(Filter(decide, "s"), table) == [True, False, False]
    assert reasons_of(Filter(decide, "s"), table)[1] == "has no score"
    assert reasons_of(Filter(decide, "s"), table.slice(0, 0)) == []
    assert kept_by(Filter(decide, "s"), pa.table({"s": pa.nulls(2, pa.float64())})) == [False, False]


def test_a_filter_reads_a_column_in_several_chunks():
    table = pa.concat_tables([TABLE.slice(0, 2), TABLE.slice(2, 3), TABLE.slice(5)])
    for build in STAGES.values():
        assert reasons_of(build(False), table) == reasons_of(build(False))


def test_stages_say_what_they_read_and_make():
    schema = pa.schema({"text": pa.string(), "body": pa.string()})
    assert ScoreFilter(WordCountFilter()).needs(schema).texts == ("text",)
    assert ScoreFilter(WordCountFilter()).on_text_field("body").needs(schema).texts == ("body",)
    assert ScoreFilter(WordCountFilter(), "text").on_text_field("body").needs(schema).texts == ("text",)
    assert Score(len, "n").on_text_field("body").needs(schema).texts == ("body",)
    assert Filter(bool, "x").needs(schema).reads == ("x",)
    assert ScoreFilter(WordCountFilter()).name == "WordCountFilter"
    assert Filter(bool, "x").name == "Filter x"
    assert Score(len, "n").name == "Score len"


def test_a_missing_column_is_named_with_the_nearest():
    table = pa.table({"texts": ["a"]})
    with pytest.raises(MissingColumnError, match=r"WordCountFilter reads the column 'text'.*Did you mean 'texts'"):
        ScoreFilter(WordCountFilter()).open()(table)
    with pytest.raises(MissingColumnError, match=r"Filter scor reads the column 'scor'"):
        Filter(bool, "scor").open()(pa.table({"score": [1]}))


# -- filters of one's own ------------------------------------------------------------------------------------


class Shouting(DocumentFilter):
    def __init__(self, bound):
        super().__init__()
        self._bound = bound

    def score_document(self, text):
        return sum(c.isupper() for c in text) / max(len(text), 1)

    def keep_document(self, score):
        return score <= self._bound


class Short(DocumentFilter):
    score_type: ClassVar[pa.DataType] = pa.int32()

    def score_batch(self, texts):
        return pc.fill_null(pc.utf8_length(texts), 0).cast(pa.int32())

    def keep_batch(self, scores):
        return pc.less(scores, 3)


@dataclass(frozen=True)
class Labelled(DocumentFilter):
    label: str = "none"
    score_type: ClassVar[pa.DataType] = pa.string()

    def score_document(self, text):
        return text[:1] or None

    def keep_document(self, score):
        return score != self.label


OWN = pa.table({"text": ["LOUD", "quiet", None, "Mix", "", "ab"]})


def test_a_filter_of_ones_own_takes_two_methods():
    stage = ScoreFilter(Shouting(0.3), score_field="upper")
    out = stage.open()(OWN)
    assert out["upper"].to_pylist() == [1.0, 0.0, 0.0, pytest.approx(1 / 3), 0.0, 0.0]
    assert reasons_of(stage, OWN) == ["not kept by its score", None, None, "not kept by its score", None, None]
    assert kept_by(ScoreFilter(Shouting(0.3), invert=True), OWN) == [True, False, False, True, False, False]


def test_a_batch_filter_of_ones_own_takes_arrow_arrays():
    assert kept_by(ScoreFilter(Short()), OWN) == [False, False, True, False, True, True]
    assert ScoreFilter(Short(), score_field="n").open()(OWN).schema.field("n").type == pa.int32()


def test_scores_may_be_texts_and_null():
    assert kept_by(ScoreFilter(Labelled("q")), OWN) == [True, False, False, True, False, True]


def test_a_method_that_is_not_there_is_named():
    class Nothing(DocumentFilter):
        pass

    class Half(DocumentFilter):
        def score_document(self, text):
            return 1.0

    with pytest.raises(StageError, match="Nothing defines neither score_document nor score_batch"):
        ScoreFilter(Nothing()).open()(OWN)
    with pytest.raises(StageError, match="Half defines neither keep_document nor keep_batch"):
        ScoreFilter(Half()).open()(OWN)


# -- conditions ----------------------------------------------------------------------------------------------

ROWS = pa.table(
    {
        "score": pa.array([1, 5, None, -2]),
        "lang": pa.array(["en", "de", None, "fr"]),
        "edu-int": pa.array([4, 0, 4, None]),
        "column_0_": pa.array([7, 8, 9, 10]),
        "ok": pa.array([True, False, None, True]),
    }
)


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("score >= 1", [True, True, False, False]),
        ("score == -2", [False, False, False, True]),
        ("not score >= 1", [False, False, False, True]),
        ("0 < score < 3", [True, False, False, False]),
        ("score < 0 or lang == 'en'", [True, False, False, True]),
        ('score > 0 and lang != "en"', [False, True, False, False]),
        ("lang in ['en', 'fr']", [True, False, False, True]),
        ("lang not in ('en', 'fr')", [False, True, True, False]),
        ("score is None", [False, False, True, False]),
        ("score is not None", [True, True, False, True]),
        ("`edu-int` >= 4", [True, False, True, False]),
        ("`edu-int` == 4 and column_0_ > 7", [False, False, True, False]),
        ("column_0_ == 8", [False, True, False, False]),
        ("lang == '`edu-int`'", [False] * 4),
        ("score + 1 == 2 or score * 2 - 10 == 0", [True, True, False, False]),
        ("score / 5 == 1", [False, True, False, False]),
        ("ok", [True, False, False, True]),
        ("not ok", [False, True, False, False]),
        ("ok == True", [True, False, False, True]),
        ("1 == 1", [True] * 4),
        (" ( score > 0 ) # a comment", [True, True, False, False]),
    ],
)
def test_a_condition_keeps_the_rows_for_which_it_is_true(condition, kept):
    assert kept_by(Where(parse_expression(condition)), ROWS) == kept


def test_a_text_in_a_condition_is_taken_as_it_is_written():
    table = pa.table({"a": ["it's `b`", 'say "hi"', "\\d", "今", "x"]})
    for row, condition in enumerate(
        ['a == "it\'s `b`"', "`a` == 'say \"hi\"'", r"a == '\d'", "a == '今'", "a == '\\x78'"]
    ):
        assert kept_by(Where(parse_expression(condition)), table) == [i == row for i in range(5)], condition


HOSTILE = [
    *(
        "__import__('os').system('true')",
        "a.b",
        "a.__class__ == 1",
        "f(x) > 1",
        "x[0] == 1",
        "lambda: 1",
        "(y := 3) > 1",
    ),
    *("[x for x in y] == 1", "a if b else c", "x == 'a'.upper()", "x ** 9999999 > 1", "x << 99999999 > 1", "x @ y > 1"),
    *(
        "f'{x}' == 'a'",
        "x == ...",
        "x == 1j",
        "x == b'a'",
        "x == {1: 2}",
        "await x",
        "yield x",
        "*x",
        "x > 1; y",
        "-x > 1",
    ),
    *(
        "`a",
        "``> 1",
        "",
        " ",
        "#",
        "1",
        "'a'",
        "not 3",
        "x >",
        "x > None",
        "x == None",
        "x in y",
        "x in 'abc'",
        "x is 3",
    ),
    *(
        "x in []",
        "x in [y]",
        "x in [None]",
        "x is None is None",
        "x ==\n3",
        "x\x00 > 1",
        "x = 3",
        "import os",
        "x == '\\ud800'",
    ),
    *("(" * 500 + "x" + ")" * 500, "not " * 3000 + "x", "-" * 3000 + "x > 1", "x == " + "-" * 3000 + "1"),
    *(
        "x > 99999999999999999999",
        "x > " + "9" * 5000,
        "x in [1, 'a']",
        "x in [99999999999999999999]",
        "x + " * 5000 + "1 > 1",
    ),
]


@pytest.mark.parametrize("condition", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_condition_is_refused_and_never_run(condition):
    with pytest.raises(UsageError, match="the condition"):
        parse_expression(condition)


def test_a_refusal_points_at_the_place():
    with pytest.raises(UsageError, match="at character 6: only column names, numbers, texts, True and False"):
        parse_expression("x == f(1)")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from([*"ax1'\"`\\ ()[]=<>+-*/.,\n#é{}", " and ", " not ", " in ", " is None", "a > 1"]), max_size=20
    ).map("".join)
    | st.text(max_size=15)
)
def test_any_text_is_a_condition_or_refused(text):
    try:
        condition = parse_expression(text)
    except UsageError:
        return
    assert isinstance(condition, pc.Expression)


def test_a_condition_reads_the_columns_it_names():
    expression = parse_expression("score > 1 and (`edu-int` == 4 or lang is None)")
    assert columns_of(expression, ROWS.schema) == ("score", "lang", "edu-int")
    assert Where(expression).needs(ROWS.schema).reads == ("score", "lang", "edu-int")
    assert columns_of(parse_expression("1 == 1"), ROWS.schema) == ()


def test_a_condition_on_a_missing_column_names_the_nearest():
    with pytest.raises(MissingColumnError, match=r"the column 'scores'.*Did you mean 'score'"):
        columns_of(parse_expression("scores > 1"), ROWS.schema)


def test_a_condition_that_does_not_fit_the_columns_is_refused_before_the_run():
    for condition in ("lang > 3", "score == 'a'", "lang + 1 == 2", "score", "not score"):
        with pytest.raises(UsageError, match="does not fit the columns"):
            columns_of(parse_expression(condition), ROWS.schema)


def test_the_reason_is_the_condition():
    assert reasons_of(Where(parse_expression("score > 1")), ROWS) == [
        "not (score > 1)",
        None,
        "not (score > 1)",
        "not (score > 1)",
    ]
