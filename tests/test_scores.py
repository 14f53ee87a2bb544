"""Scores as columns: which there are, that they are those a run decides by, and ``tamis score``."""

from __future__ import annotations

import dataclasses
import re
import shlex
import tomllib
import typing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import read_jsonl
from tamis import DocumentDataset, DocumentFilter, Filter, Modify, Score, ScoreFilter, filters
from tamis.cli import main
from tamis.engine.together import groups
from tamis.errors import UnknownNameError, UsageError
from tamis.filters.bounded import BoundedFilter
from tamis.filters.measures import Judged, JudgedLater, measures_of, scored_steps, verdicts_of, with_bounds
from tamis.filters.measures import _Copy as Copy
from tamis.filters.percentile import PercentileFilter
from tamis.filters.where import Where, parse_expression
from tamis.io.store import open_store
from tamis.kept import kept_dataset, kept_recipe
from tamis.modifiers import HasText
from tamis.recipe import STAGES, Recipe, find_stage
from tamis.selection.split import Split, StratifiedSplit
from tamis.table import marks
from tamis.testing import check_stage, sample_table
from tamis.thresholds import count_bounds, recipe_of, score_dataset, scored_run

WORDS = ["the", "of", "and", "sea", "time", "that", "light", "with", "be", "to", "river", "have", "stone", "lamp"]
COMMON, LONG = filters.CommonWordsFilter("en", 2), filters.MeanWordLengthFilter(3.2, 3.4)


def documents(count=200):
    """Texts of 0 to 40 words, some with symbols, lists and repeated lines."""
    made = []
    for i in range(count):
        line = " ".join(WORDS[(i * i + 5 * j) % (3 + i % 12)] for j in range((7 * i) % 41))
        extra = (".", " # # #.", "\n- one\n- two", "...\nmore.", ".")[i % 5]
        made.append({"id": str(i), "text": (line + extra) * (1 + (i % 7 == 0)), "rank": i % 9 / 4, "name": f"n{i % 3}"})
    return made


class Shouting(DocumentFilter):
    """A filter of a user, which is not bounded."""

    def score_document(self, text):
        return sum(c == "o" for c in text) / max(len(text), 1)

    def keep_document(self, score):
        return score < 0.09


class Starts(DocumentFilter):
    """A filter whose score is a text."""

    score_type = pa.string()

    def score_document(self, text):
        return text[:1]

    def keep_document(self, score):
        return score != "s"


@dataclasses.dataclass(frozen=True)
class Inside(BoundedFilter):
    """A bounded filter no setting of which is a bound."""

    tenths: int = 9

    def bounds(self):
        return None, self.tenths / 10

    def score_batch(self, texts):
        return pa.array([(t or "").count("e") / max(len(t or ""), 1) * 8 for t in texts.to_pylist()], pa.float64())


def lower(text):
    return text.lower().replace("#", "")


STEPS = (
    ScoreFilter(filters.WordCountFilter(5, 70), score_field="words"),
    ScoreFilter(filters.SymbolsToWordsFilter(0.1)),
    ScoreFilter(LONG, invert=True),
    Where(parse_expression("rank < 1.9")),
    Modify(lower),
    ScoreFilter(filters.SymbolsToWordsFilter(0.05)),
    ScoreFilter(COMMON, score_field="words"),
    ScoreFilter(Shouting()),
    ScoreFilter(Starts(), score_field="first"),
    ScoreFilter(Inside()),
    HasText(["name"]),
    ScoreFilter(filters.PornographicUrlsFilter()),
    Split(),
)  # fmt: skip


# -- settings of bounds --------------------------------------------------------------------------------------


def _bounded():
    for name in filters.__all__:
        kind = getattr(filters, name)
        if isinstance(kind, type) and issubclass(kind, BoundedFilter) and kind is not BoundedFilter:
            try:
                yield kind()
            except (TypeError, UsageError):  # it needs a setting
                continue


@pytest.mark.parametrize("rule", list(_bounded()), ids=lambda rule: type(rule).__name__)
def test_the_setting_of_a_bound_holds_it_and_moves_it(rule):
    for side, setting in enumerate((rule.low_setting, rule.high_setting)):
        bound = rule.bounds()[side]
        if not setting:
            assert bound is None or type(rule).__module__.split(".")[-1] not in {"surface", "repetition", "wordlists"}
            continue
        assert getattr(rule, setting) == bound
        if typing.get_type_hints(type(rule))[setting] in {int, int | None}:
            assert pa.types.is_integer(rule.score_type)  # or a bound that is proposed would not fit
        moved = 5 if bound is None else bound + 1 if isinstance(bound, int) else bound * 0.97
        changed = dataclasses.replace(rule, **{setting: moved})
        assert changed.bounds()[side] == moved
        assert changed.bounds()[1 - side] == rule.bounds()[1 - side]


# -- which there are -----------------------------------------------------------------------------------------


def test_every_number_that_decides_is_a_measure_with_a_column_of_its_own():
    found = measures_of(STEPS)
    assert [(m.column, m.stage, m.label, m.low, m.high, m.invert) for m in found] == [
        ("words", 0, "WordCountFilter", 5, 70, False),
        ("symbols_to_words", 1, "SymbolsToWordsFilter#1", None, 0.1, False),
        ("mean_word_length", 2, "MeanWordLengthFilter", 3.2, 3.4, True),
        ("symbols_to_words_2", 5, "SymbolsToWordsFilter#2", None, 0.05, False),
        ("words_2", 6, "CommonWordsFilter", 2, None, False),
        ("shouting", 7, "Shouting", None, None, False),
        ("inside", 9, "Inside", None, 0.9, False),
        ("pornographic_urls", 11, "PornographicUrlsFilter", None, None, False),
    ]
    assert [(v.column, v.stage) for v in verdicts_of(STEPS)] == [
        ("where_keeps", 3),
        ("starts_keeps", 8),
        ("has_text_keeps", 10),
    ]
    assert (found[0].low_setting, found[0].high_setting) == ("min_words", "max_words")
    assert (found[6].low_setting, found[6].high_setting) == ("", "")


def test_equal_filters_are_told_apart_by_what_they_measure():
    steps = (*filters.gopher_repetition().steps(), ScoreFilter(filters.RepeatingTopNGramsFilter(2, 0.5)))
    names = [m.column for m in measures_of(steps)]
    assert {"repeated_lines", "repeating_duplicate_ngrams_10", "repeating_top_ngrams_2"} <= set(names)
    assert names[-1] == "repeating_top_ngrams_2_2"
    assert len(set(names)) == len(names)
    by_language = [ScoreFilter(filters.WordCountFilter(lang=lang)) for lang in ("en", "de")]
    assert [m.column for m in measures_of(by_language)] == ["word_count_en", "word_count_de"]


def test_a_column_with_scores_is_a_measure_where_bounds_decide():
    steps = (
        Filter(filters.WordCountFilter(1, 5), "rank"),
        Filter(filters.WordCountFilter(2, 5), "rank"),
        Filter(str.isascii, "name"),
        PercentileFilter(column="rank", drop_lowest=0.1),
        PercentileFilter(filters.WordCountFilter(), drop_lowest=0.1),
        StratifiedSplit({"a": 1.0}, "name"),
    )
    assert [m.column for m in measures_of(steps)] == ["rank", "rank_2", "rank_3", "word_count"]
    assert [v.column for v in verdicts_of(steps)] == ["filter_name_keeps"]
    kinds = [type(step) for step in scored_steps(steps)]
    assert kinds == [Copy, Judged, Copy, Score, StratifiedSplit]


# -- that they are right -------------------------------------------------------------------------------------


def test_scored_documents_are_all_there_with_the_scores_that_decide():
    dataset = DocumentDataset.from_arrow(pa.Table.from_pylist(documents())).append(*STEPS)
    scored = score_dataset(dataset).to_arrow()
    assert scored["id"].to_pylist() == [d["id"] for d in documents()]
    before = [d["text"] for d in documents()]
    after = [lower(text) for text in before]
    assert scored["text"].to_pylist() == after

    def of(rule, texts):
        return rule.score_batch(pa.array(texts, pa.large_string())).to_pylist()

    assert scored["words"].to_pylist() == of(filters.WordCountFilter(), before)
    assert scored["symbols_to_words"].to_pylist() == of(filters.SymbolsToWordsFilter(), before)
    assert scored["symbols_to_words_2"].to_pylist() == of(filters.SymbolsToWordsFilter(), after)
    assert scored["words_2"].to_pylist() == of(COMMON, after)
    assert scored["shouting"].to_pylist() == of(Shouting(), after)
    assert scored["where_keeps"].to_pylist() == [d["rank"] < 1.9 for d in documents()]
    assert scored["starts_keeps"].to_pylist() == [not t.startswith("s") for t in after]
    assert scored["first"].to_pylist() == [t[:1] for t in after]
    assert scored.schema.field("words").type == pa.int64()


def test_counts_of_the_scores_are_those_of_the_run():
    dataset = DocumentDataset.from_arrow(pa.Table.from_pylist(documents())).append(*STEPS)
    scored = score_dataset(dataset)
    counted = count_bounds(scored, [*measures_of(STEPS), *verdicts_of(STEPS)])
    kept = dataset.to_arrow().num_rows
    assert 20 < kept < 180
    assert (counted.documents, counted.kept) == (200, kept)
    # Each by itself: a run of that filter alone, after the steps that change what it sees.
    for number, measure in ((each.stage, each) for each in measures_of(STEPS)):
        alone = [s for n, s in enumerate(STEPS) if n == number or not s.may_drop]
        source = DocumentDataset.from_arrow(pa.Table.from_pylist(documents())).append(*alone)
        dropped = sum(c.dropped for c in counted.bounds if c.bound.column == measure.column)
        assert 200 - dropped == source.to_arrow().num_rows, measure.column
        rest = [s for n, s in enumerate(STEPS) if n != number]
        source = DocumentDataset.from_arrow(pa.Table.from_pylist(documents())).append(*rest)
        only = sum(c.only for c in counted.bounds if c.bound.column == measure.column)
        assert kept + only == source.to_arrow().num_rows, measure.column


def test_scores_are_made_in_the_walks_that_the_filters_share():
    dataset = filters.massive_text()(DocumentDataset.from_arrow(pa.table({"text": ["a"]})))
    plain, scored = dataset.check(), score_dataset(dataset).check()
    assert groups(scored.needs, scored.replaces) == groups(plain.needs, plain.replaces)
    assert len(groups(scored.needs, scored.replaces)) <= 5


def test_a_plan_without_filters_has_no_scores():
    dataset = DocumentDataset.from_arrow(pa.table({"text": ["a"]}))
    with pytest.raises(UsageError, match="there is no filter to take scores of"):
        score_dataset(dataset.append(Modify(lower)))


def test_a_score_replaces_no_column_of_the_documents():
    dataset = DocumentDataset.from_arrow(pa.table({"text": ["a"], "word_count": [1], "words": [1]}))
    with pytest.raises(UsageError, match=r"a column 'word_count' already.*WordCountFilter.score_field="):
        score_dataset(dataset.append(ScoreFilter(filters.WordCountFilter())))
    named = dataset.append(ScoreFilter(filters.WordCountFilter(), score_field="words"))
    assert score_dataset(named).to_arrow()["words"].to_pylist() == [1]


def test_bounds_move_with_their_settings_and_are_whole_for_whole_numbers():
    words, inside = measures_of(STEPS)[0], measures_of(STEPS)[6]
    moved = with_bounds(words, 4.5, 9.5)
    assert (moved.low, moved.high, moved.filter) == (5, 9, filters.WordCountFilter(5, 9))
    assert with_bounds(words, 5, None).high is None
    assert with_bounds(inside, 0.1, 0.2).filter == inside.filter
    with pytest.raises(UsageError, match="words: the bounds 9 and 3 keep nothing"):
        with_bounds(words, 9, 3)
    with pytest.raises(UsageError, match="numbers: max_number_to_text_ratio must be in"):
        with_bounds(measures_of([ScoreFilter(filters.NumbersFilter())])[0], None, 1.5)
    with pytest.raises(UsageError, match="has no bounds to set"):
        with_bounds(measures_of([ScoreFilter(Shouting())])[0], 1, 2)


STAGES_HERE = {
    "Judged": Judged(Where(parse_expression("score >= 0")), "kept"),
    "Judged by a filter": Judged(ScoreFilter(filters.WordCountFilter(3, 10), score_field="words"), "kept"),
    "Judged that keeps all": Judged(Split(), "kept"),
    "JudgedLater": JudgedLater(StratifiedSplit({"a": 0.5, "b": 0.5}, "source"), "kept").then({}),
    "Copy": Copy("meta", "made"),
    "Copy over a column": Copy("score", "source"),
}


@pytest.mark.parametrize("name", STAGES_HERE)
def test_the_stages_hold_the_contract(name):
    check_stage(STAGES_HERE[name], sample_table(), fresh_process=False)


def test_a_judged_stage_says_what_the_stage_would_drop():
    table = sample_table()
    for stage in (Where(parse_expression("score >= 0")), HasText(["text"]), Split()):
        left, reasons, _ = marks(stage.open()(table))
        judged = Judged(stage, "kept").open()(table)
        expected = [True] * table.num_rows if reasons is None else reasons.is_null().to_pylist()
        assert judged["kept"].to_pylist() == expected
        assert judged.drop_columns(["kept"]).equals(left)


# -- the command ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_the_command_writes_scores_and_says_where(write_jsonl, tmp_path, capsys, kind):
    path = write_jsonl("in.jsonl", documents())
    out = tmp_path / "scored"
    arguments = ["score", "massive_text", path, "--out", str(out), "--format", kind, "--workers", "1"]
    assert main([*arguments, "--set", "WordCountFilter.min_words=3", "--limit", "150"]) == 0
    said = capsys.readouterr().out
    assert "Scores: word_count, mean_word_length," in said
    assert f"Next: tamis tune-thresholds {out}" in said
    (file,) = out.glob("part-*")
    rows = pq.read_table(file).to_pylist() if kind == "parquet" else read_jsonl(file)
    assert [row["id"] for row in rows] == [str(i) for i in range(150)]
    assert [row["word_count"] for row in rows] == [len(row["text"].split()) for row in rows]
    run = scored_run(out)
    assert run.decisions[0].low == 3
    assert len(run.decisions) == 20
    assert run.notes == ("The first 150 records were scored; a run of the recipe reads all of them.",)
    assert main([*arguments, "--set", "WordCountFilter.min_words=3", "--limit", "150"]) == 0
    assert "already holds the complete result" in capsys.readouterr().out
    kept = kept_recipe(open_store(str(out)))
    assert kept is not None
    assert kept.scored
    assert measures_of(kept.dataset().steps)[0].low == 3
    assert kept_dataset(str(out)).count() == 150
    assert main(["explain", str(out), "0"]) == 0
    assert "Kept." in capsys.readouterr().out


def test_the_command_scores_filters_of_ones_own_and_classifiers_conditions(write_jsonl, tmp_path, monkeypatch):
    path = write_jsonl("in.jsonl", documents())
    (tmp_path / "own_filters.py").write_text(
        "from tamis import DocumentFilter\n\n\nclass Vowels(DocumentFilter):\n"
        "    def score_document(self, text):\n        return sum(c in 'aeiou' for c in text)\n\n"
        "    def keep_document(self, score):\n        return score > 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'[input]\npath = "{path}"\n[[stage]]\nuse = "own_filters:Vowels"\n[[stage]]\nuse = "Where"\n'
        'expression = "rank >= 1"\n[[stage]]\nuse = "PercentileFilter"\nfilter = "WordCountFilter"\n'
        'settings = { lang = "en" }\ndrop_lowest = 0.1\n[output]\npath = "elsewhere"\npartition_on = "name"\n'
    )
    assert main(["score", str(recipe), "--out", str(tmp_path / "out"), "--workers", "1"]) == 0
    run = scored_run(tmp_path / "out")
    assert [each.column for each in run.decisions] == ["vowels", "where_keeps", "word_count"]
    assert "finds its bounds when it runs" in run.notes[0]
    counted = count_bounds(run.dataset, run.decisions)
    vowels = [sum(c in "aeiou" for c in d["text"]) > 3 for d in documents()]
    assert counted.bounds[0].dropped == 200 - sum(vowels)
    assert counted.kept == sum(v and d["rank"] >= 1 for v, d in zip(vowels, documents(), strict=True))


def test_all_is_every_heuristic_filter_once(write_jsonl):
    recipe = recipe_of("all", paths=[write_jsonl("in.jsonl", documents(20))])
    found = measures_of(recipe.dataset().steps)
    kinds = [type(m.filter).__name__ for m in found]
    assert {"WordCountFilter", "UrlsFilter", "ShortLinesFilter", "BoilerPlateStringFilter"} <= set(kinds)
    assert kinds.count("RepeatingTopNGramsFilter") == 3
    assert "CommonEnglishWordsFilter" not in kinds
    text = [m for m in found if m.filter.family]
    scored = score_dataset(DocumentDataset.from_arrow(sample_table()).append(*(ScoreFilter(m.filter) for m in text)))
    assert scored.to_arrow().num_rows == 40


def test_what_cannot_be_scored_is_said(tmp_path, write_jsonl, capsys):
    path = write_jsonl("in.jsonl", documents(3))
    with pytest.raises(
        UnknownNameError, match=r"no recipe, rule set or filter 'masive_text'\. Did you mean 'massive_t"
    ):
        recipe_of("masive_text", paths=[path])
    assert main(["score", "massive_text", "--out", str(tmp_path / "o")]) == 2
    assert "does not say what to read: name files or folders" in capsys.readouterr().err
    assert main(["score", "UrlRemover", path, "--out", str(tmp_path / "o")]) == 2
    assert "there is no filter to take scores of" in capsys.readouterr().err
    assert main(["run", str(tmp_path / "no.toml")]) == 2
    capsys.readouterr()
    assert main(["tune-thresholds", str(tmp_path)]) == 2
    assert "was not written by `tamis score`" in capsys.readouterr().err


def test_score_is_a_stage_of_recipes():
    stages = ({"use": "Score", "filter": "WordCountFilter", "settings": {"lang": "en"}, "score_field": "w"},)
    ((step,),) = Recipe("r", {}, stages).parts()
    assert step == Score(filters.WordCountFilter(lang="en"), "w")
    for settings, message in (
        ({"filter": "UrlRemover"}, "UrlRemover is no filter, so it has no score"),
        ({"filter": "WordCuntFilter"}, "Did you mean 'WordCountFilter'"),
        ({"filter": "WordCountFilter", "settings": 3}, "settings are those of the filter"),
        ({"filter": "WordCountFilter", "settings": {"min_word": 3}}, "Did you mean 'min_words'"),
    ):
        with pytest.raises(UsageError, match=message):
            Recipe("r", {}, ({"use": "Score", "score_field": "w", **settings},)).parts()


def test_names_of_rule_sets_are_stages():
    assert {"Score", "PercentileFilter"} <= set(STAGES)
    assert callable(find_stage("PercentileFilter", "here"))
    assert np.isfinite(measures_of(filters.massive_text().steps())[0].low or 0)


# -- the document --------------------------------------------------------------------------------------------


def test_what_the_document_shows_runs(write_jsonl, tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parent.parent / "docs/scores.md").read_text()
    blocks = re.findall(r"```(bash|python|toml)\n(.*?)```", text, re.DOTALL)
    write_jsonl("books/a.jsonl", documents(60))
    write_jsonl(
        "books/b.jsonl",
        [
            d | {"text": " ".join(f"{word}{(i * n) % 89}" for n, word in enumerate(WORDS * 2)) + f" the of and {i}."}
            for i, d in enumerate(documents(120))
        ],
    )
    monkeypatch.chdir(tmp_path)
    for kind, block in blocks:
        for line in block.splitlines() if kind == "bash" else ():
            assert main([*shlex.split(line)[1:], *(["--workers", "1"])]) == 0, line
        if kind == "python":
            exec(block, {})
        if kind == "toml":
            stages = tuple(tomllib.loads(block)["stage"])
            dataset = DocumentDataset.read_json("books").append(
                *(s for p in Recipe("r", {}, stages).parts() for s in p)
            )
            assert 150 < dataset.count() < 180
    assert [kind for kind, _ in blocks] == ["bash", "python", "python", "toml"]
    assert 'use = "RepeatingTopNGramsFilter"' in capsys.readouterr().out
    assert 108 <= DocumentDataset.read_json("curated").count() <= 180
