"""Bounds: percentiles, what bounds keep, proposals, and the recipe with them, each against sorting or a run."""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import read_jsonl
from tamis import DocumentDataset, DocumentFilter, Filter, ScoreFilter, filters
from tamis.cli import main
from tamis.errors import MissingColumnError, UnknownNameError, UsageError
from tamis.filters import percentile
from tamis.filters.measures import measures_of, verdicts_of, with_bounds
from tamis.filters.percentile import Distribution, PercentileFilter, ScoreDistribution, WithinPercentiles
from tamis.filters.percentile import _ColumnWithin as ColumnWithin
from tamis.filters.percentile import _ScoreWithin as ScoreWithin
from tamis.recipe import Recipe, load_recipe
from tamis.testing import check_fold, check_stage, sample_table
from tamis.thresholds import (
    bounds_set,
    count_bounds,
    drop_each,
    keep_share,
    recipe_with_bounds,
    score_dataset,
    scored_run,
)
from tamis.thresholds.counts import BoundCounts
from tamis.thresholds.propose import Distributions, WorstRank
from test_scores import STEPS, Shouting, documents, lower

NUMBERS = st.one_of(
    st.floats(allow_nan=False), st.sampled_from([0.0, -0.0, 1.0, math.inf, -math.inf]), st.integers(-5, 5).map(float)
)


def same(left, right):
    """Whether two distributions are equal in every part."""
    arrays = all(np.array_equal(getattr(left, name), getattr(right, name)) for name in ("keys", "counts"))
    return arrays and (left.bits, left.missing) == (right.bits, right.missing)


# -- distributions -------------------------------------------------------------------------------------------


@given(st.lists(NUMBERS, min_size=1, max_size=60), st.integers(0, 70))
def test_a_bound_drops_as_many_as_it_may_and_no_more(values, most):
    spread = Distribution.of(pa.array(values, pa.float64()))
    ordered = sorted(values)
    low, high = spread.bound("low", most), spread.bound("high", most)
    candidates = [v for v in ordered if sum(x < v for x in values) <= most]
    assert (ordered[0] if low is None else low) == candidates[-1]
    candidates = [v for v in ordered if sum(x > v for x in values) <= most]
    assert (ordered[-1] if high is None else high) == candidates[0]
    assert spread.as_bad("low", np.array(values)).tolist() == [sum(x <= v for x in values) for v in values]
    assert spread.as_bad("high", np.array(values)).tolist() == [sum(x >= v for x in values) for v in values]


@pytest.mark.parametrize("limit", [4, 16, 100])
@given(
    st.lists(st.one_of(NUMBERS, st.just(math.nan), st.none()), max_size=120),
    st.lists(st.integers(0, 120), max_size=4),
    st.integers(0, 60),
)
@settings(max_examples=60)
def test_any_order_of_merging_gives_the_same_and_bins_hold_their_promise(limit, values, cuts, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(percentile, "_EXACT", limit)
        whole = Distribution.of(pa.array(values, pa.float64()))
        places = sorted({0, len(values), *(min(c, len(values)) for c in cuts)})
        parts = [Distribution.of(pa.array(values[a:b], pa.float64())) for a, b in itertools.pairwise(places)]
        for order in (parts, parts[::-1]):
            merged = Distribution.empty()
            for part in order:
                merged = merged.merged(part)
            assert same(merged, whole)
        numbers = [v for v in values if v is not None and not math.isnan(v)]
        assert (whole.documents, whole.missing) == (len(numbers), len(values) - len(numbers))
        assert len(whole.keys) <= limit
        assert (whole.bits > 0) == (len({v + 0.0 for v in numbers}) > limit)
        low, high = whole.bound("low", most), whole.bound("high", most)
        assert low is None or sum(v < low for v in numbers) <= most
        assert high is None or sum(v > high for v in numbers) <= most
        ranks = whole.as_bad("low", np.array(numbers))
        dropped = [low is not None and v < low for v in numbers]
        if most < len(numbers):
            assert dropped == [rank <= most for rank in ranks]


def test_bins_depend_on_the_scores_alone_however_they_come(monkeypatch):
    monkeypatch.setattr(percentile, "_EXACT", 32)
    values = np.sin(np.arange(600) * 1.618) * np.exp(np.arange(600) % 7)
    for size in (1, 5, 31, 33, 200):
        merged = Distribution.empty()
        for start in range(0, 600, size):
            merged = merged.merged(Distribution.of(pa.array(values[start : start + size])))
            assert same(merged, Distribution.of(pa.array(values[: start + size][::-1])))


def test_bins_of_many_scores_are_narrow():
    values = np.sort(np.sin(np.arange(300_000) * 1.618) ** 2)
    spread = Distribution.of(pa.array(values))
    assert 0 < len(spread.keys) <= 65_536
    low = spread.bound("low", 15_000)
    exact = values[15_000]
    assert low <= exact
    assert abs(low - exact) / exact < 1e-3
    assert 14_900 <= (values < low).sum() <= 15_000


# -- percentile filters --------------------------------------------------------------------------------------


def kept_of(step, values):
    table = pa.table({"text": ["x"] * len(values), "v": pa.array(values, pa.float64())})
    return DocumentDataset.from_arrow(table).append(step).to_arrow()["v"].to_pylist()


def test_percentiles_of_a_column():
    values = [float(v) for v in range(100)]
    assert kept_of(PercentileFilter(column="v", drop_lowest=0.05), values) == values[5:]
    assert kept_of(PercentileFilter(column="v", drop_highest=0.29), values) == values[:71]
    assert kept_of(PercentileFilter(column="v", drop_lowest=0.1, drop_highest=0.1), values) == values[10:90]
    assert kept_of(PercentileFilter(column="v"), values) == values


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([2.0] * 10, [2.0] * 10),
        ([], []),
        ([1.0], [1.0]),
        ([1.0, 1.0, 1.0, 5.0], [1.0, 1.0, 1.0, 5.0]),
        ([1.0, 5.0, 5.0, 5.0], [5.0, 5.0, 5.0]),
        ([None, 1.0, 5.0, 5.0, 5.0], [5.0, 5.0, 5.0]),
        ([None, None], []),
        ([-math.inf, 0.0, -0.0, 1.0], [0.0, -0.0, 1.0]),
    ],
)
def test_ties_stay_together_and_nulls_are_dropped(values, kept):
    assert kept_of(PercentileFilter(column="v", drop_lowest=0.3), values) == kept


def test_percentiles_of_a_filter_see_what_the_steps_before_keep(tmp_path, write_jsonl):
    path = write_jsonl("in.jsonl", documents())
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f'[input]\npath = "{path}"\n[[stage]]\nuse = "Where"\nexpression = "rank < 1.9"\n[[stage]]\n'
        'use = "PercentileFilter"\nfilter = "WordCountFilter"\ndrop_lowest = 0.25\nscore_field = "words"\n'
        f'[output]\npath = "{tmp_path / "out"}"\nkeep_rejects = true\n'
    )
    assert main(["run", str(recipe), "--workers", "1"]) == 0
    rows = read_jsonl(*(tmp_path / "out").glob("part-*"))
    counts = sorted(len(d["text"].split()) for d in documents() if d["rank"] < 1.9)
    bound = max(c for c in counts if sum(x < c for x in counts) <= 0.25 * len(counts))
    assert bound > counts[0]
    assert sorted(r["words"] for r in rows) == [c for c in counts if c >= bound]
    (rejects,) = (tmp_path / "out/_rejects").glob("part-*")
    reasons = {r["_reason"] if "_reason" in r else str(r) for r in read_jsonl(rejects)}
    assert any(f"its score is below {bound}, among the lowest" in reason for reason in reasons)


def test_percentiles_that_cannot_be_are_refused():
    for options, message in (
        ({}, "takes a filter that scores or a column"),
        ({"column": "a", "filter": filters.WordCountFilter()}, "one of both"),
        ({"column": "a", "score_field": "b"}, "leave score_field out"),
        ({"column": "a", "drop_lowest": 0.6, "drop_highest": 0.4}, "together below 1"),
        ({"column": "a", "drop_lowest": math.nan}, "are shares from 0 to below 1"),
        ({"filter": Texts()}, "needs scores that are numbers; Texts gives others"),
    ):
        with pytest.raises(UsageError, match=message):
            PercentileFilter(**options)
    dataset = DocumentDataset.from_arrow(sample_table())
    with pytest.raises(MissingColumnError, match="Did you mean 'score'"):
        dataset.append(PercentileFilter(column="scores")).check()
    with pytest.raises(UsageError, match="PercentileFilter needs numbers; the column 'source' is string"):
        dataset.append(PercentileFilter(column="source")).check()
    with pytest.raises(UsageError, match="it scores no text"):
        WithinPercentiles().score_batch(pa.array(["a"], pa.large_string()))


class Texts(DocumentFilter):
    """Scores that are no numbers."""

    score_type = pa.string()


WITHIN = {
    "ScoreWithin": PercentileFilter(filters.WordCountFilter(), drop_lowest=0.1, score_field="made").then((2.0, 50.0)),
    "ScoreWithin of a user's filter": PercentileFilter(Shouting(), drop_lowest=0.1).then((0.01, None)),
    "ColumnWithin": PercentileFilter(column="score", drop_lowest=0.1).then((0.0, 5.0)),
    "WithinPercentiles": ScoreFilter(WithinPercentiles(filters.WordCountFilter(), 1, 3)),
}


@pytest.mark.parametrize("name", WITHIN)
def test_what_percentiles_become_holds_the_contract(name):
    check_stage(WITHIN[name], sample_table(), fresh_process=False)
    assert isinstance(WITHIN["ScoreWithin"], ScoreWithin)
    assert isinstance(WITHIN["ColumnWithin"], ColumnWithin)
    assert WITHIN["ScoreWithin"].name == WITHIN["ColumnWithin"].name == "PercentileFilter"
    needs = WITHIN["ScoreWithin"].needs(sample_table().schema)
    assert needs.together == ScoreFilter(filters.WordCountFilter()).needs(sample_table().schema).together


def _folds():
    plain = measures_of([Filter(filters.WordCountFilter(0, 5), "score")])
    found = Distributions(("score",)).finish(
        Distributions(("score",)).add(Distributions(("score",)).start(), sample_table())
    )
    return {
        "ScoreDistribution": ScoreDistribution(PercentileFilter(filters.WordCountFilter(), drop_lowest=0.2)),
        "ScoreDistribution of a column": ScoreDistribution(PercentileFilter(column="score", drop_highest=0.3)),
        "BoundCounts": BoundCounts(plain),
        "Distributions": Distributions(("score",)),
        "WorstRank": WorstRank(plain, frozenset({("score", "low"), ("score", "high")}), found),
    }


@pytest.mark.parametrize("limit", [3, 65_536])
@pytest.mark.parametrize("name", _folds())
def test_the_folds_hold_the_contract(name, limit, monkeypatch):
    monkeypatch.setattr(percentile, "_EXACT", limit)
    check_fold(_folds()[name], sample_table())
    check_fold(_folds()[name], sample_table(0))


# -- what bounds keep ----------------------------------------------------------------------------------------

SCORES = pa.table(
    {
        "text": [f"t{i}" for i in range(120)],
        "a": pa.array([None if i % 31 == 7 else (i * 37) % 101 for i in range(120)], pa.int64()),
        "b": pa.array([math.nan if i % 29 == 3 else ((i * 53) % 97) / 97 for i in range(120)], pa.float64()),
        "edu": pa.array([(i * 17) % 6 / 2 for i in range(120)], pa.float32()),
    }
)
SCORED = DocumentDataset.from_arrow(SCORES)
PLAN = (
    Filter(filters.WordCountFilter(10, 90), "a"),
    Filter(filters.MeanWordLengthFilter(0.1, 0.9), "b"),
)
DECISIONS = measures_of(PLAN)


def within(row, low_a, high_a, low_b, high_b):
    a, b = row["a"], row["b"]
    return a is not None and low_a <= a <= high_a and low_b <= b <= high_b


def test_each_bound_is_counted_alone_and_with_the_others():
    counted = count_bounds(SCORED, DECISIONS)
    rows = SCORES.to_pylist()
    assert counted.documents == 120
    assert counted.kept == sum(within(r, 10, 90, 0.1, 0.9) for r in rows)
    found = {(c.bound.column, c.bound.side): (c.dropped, c.only) for c in counted.bounds}
    beyond = [
        {
            ("a", "low"): r["a"] is not None and r["a"] < 10,
            ("a", "high"): r["a"] is not None and r["a"] > 90,
            ("a", "none"): r["a"] is None,
            ("b", "low"): r["b"] < 0.1,
            ("b", "high"): r["b"] > 0.9,
            ("b", "none"): math.isnan(r["b"]),
        }
        for r in rows
    ]
    assert found == {
        key: (sum(b[key] for b in beyond), sum(b[key] and sum(b.values()) == 1 for b in beyond)) for key in beyond[0]
    }
    assert count_bounds(SCORED, []).kept == 120


@pytest.mark.parametrize("share", [0.0, 0.05, 0.25, 0.4])
def test_each_bound_drops_its_share(share):
    chosen = drop_each(SCORED, DECISIONS, share)
    most = int(share * 120)
    for measure, column in zip(chosen, ("a", "b"), strict=True):
        values = [v for v in SCORES[column].to_pylist() if v is not None and not math.isnan(v)]
        assert measure.low == max(v for v in values if sum(x < v for x in values) <= most)
        assert measure.high == min(v for v in values if sum(x > v for x in values) <= most)
    assert isinstance(chosen[0].low, int)


def kept_with(chosen):
    a, b = chosen
    return sum(within(r, a.low, a.high, b.low, b.high) for r in SCORES.to_pylist())


@cache
def kept_if_each_drops(most):
    return kept_with(drop_each(SCORED, DECISIONS, (most + 0.5) / 120))


@pytest.mark.parametrize("keep", [1, 18, 41, 60, 83, 100, 110, 111])
def test_together_they_keep_what_was_asked_for_and_little_more(keep):
    chosen = keep_share(SCORED, DECISIONS, (keep - 0.5) / 120)
    assert count_bounds(SCORED, chosen).kept == kept_with(chosen) >= keep
    # One document more for each bound, and it would be too few.
    most = next(most for most in range(60) if kept_if_each_drops(most) < keep)
    assert kept_with(chosen) == (kept_if_each_drops(most - 1) if most else 111)


def test_bounds_by_hand_stay_and_others_are_fitted_around_them():
    by_hand = bounds_set(SCORED, DECISIONS, {"a": {"low": 30}, "edu": {"low": 1.0}})
    assert [(m.column, m.low, m.high) for m in by_hand] == [("a", 30, 90), ("b", 0.1, 0.9), ("edu", 1.0, None)]
    chosen = keep_share(SCORED, by_hand, 0.3, fixed=[("a", "low"), ("edu", "low")])
    assert chosen[0].low == 30
    assert chosen[2].low == 1.0
    kept = count_bounds(SCORED, chosen).kept
    rows = [r for r in SCORES.to_pylist() if r["edu"] >= 1]
    assert kept == sum(within(r, 30, chosen[0].high, chosen[1].low, chosen[1].high) for r in rows)
    assert 36 <= kept <= 42
    alone = keep_share(SCORED, DECISIONS, 0.3, only=["b"])
    assert alone[0] == DECISIONS[0]
    with pytest.raises(UsageError, match="of 120 documents can be kept at most"):
        keep_share(SCORED, by_hand, 0.95, fixed=[("a", "low"), ("edu", "low")])
    with pytest.raises(UnknownNameError, match=r"no score 'edo'\. Did you mean 'edu'"):
        bounds_set(SCORED, DECISIONS, {"edo": {"low": 1.0}})
    with pytest.raises(UnknownNameError, match="no score with a bound 'edu'"):
        drop_each(SCORED, DECISIONS, 0.1, only=["edu"])
    with pytest.raises(UsageError, match=r"must be a share from 0 to 1; got 1\.2"):
        keep_share(SCORED, DECISIONS, 1.2)
    with pytest.raises(UsageError, match=r"a: the bounds .* keep nothing"):
        drop_each(SCORED, DECISIONS, 0.8)
    rule = measures_of([ScoreFilter(Shouting())])
    with pytest.raises(UsageError, match="no filter here has a bound that could be proposed"):
        drop_each(SCORED, rule, 0.1)


def test_an_empty_dataset_keeps_its_bounds():
    empty = DocumentDataset.from_arrow(SCORES.slice(0, 0))
    assert drop_each(empty, DECISIONS, 0.1) == DECISIONS
    assert keep_share(empty, DECISIONS, 0.5) == DECISIONS
    assert count_bounds(empty, DECISIONS).kept == 0


# -- recipes -------------------------------------------------------------------------------------------------


def test_a_bound_is_written_as_its_setting():
    stages = (
        {"use": "NewlineNormalizer"},
        {"use": "WordCountFilter", "min_words": 16, "score_field": "words", "text_field": "text"},
        {"use": "Where", "expression": "words > 3"},
        {"use": "massive_text"},
        {"use": "Split", "proportions": {"train": 0.9, "te st": 0.1}},
    )
    text = recipe_with_bounds(stages, {"words": (20, 5000), "repeating_top_ngrams_3": (None, 0.25)})
    written = tomllib.loads(text)["stage"]
    assert written[:3] == [stages[0], stages[1] | {"min_words": 20, "max_words": 5000}, stages[2]]
    assert written[-1] == stages[-1]
    assert len(written) == 24
    before, after = (
        [step for part in Recipe("r", {}, tuple(given)).parts() for step in part] for given in (stages, written)
    )
    expected = {
        m.stage: with_bounds(m, *b)
        for m, b in zip(measures_of(before), [(20, 5000), *[None] * 20], strict=True)
        if b is not None
    }
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        if number in expected:
            assert new.filter_obj == expected[number].filter
        elif isinstance(new, ScoreFilter) and new.filter_obj == filters.RepeatingTopNGramsFilter(3, 0.25):
            assert old.filter_obj == filters.RepeatingTopNGramsFilter(3, 0.18)
        elif not isinstance(new, type(before[2])):
            assert new == old
    unchanged = recipe_with_bounds(stages, {"words": (16, 100_000)})
    assert tomllib.loads(unchanged)["stage"] == list(stages)


def test_a_bound_that_no_setting_holds_is_a_score_and_a_condition():
    stages = ({"use": "test_scores:Inside", "tenths": 4, "text_field": "text"},)
    text = recipe_with_bounds(stages, {"inside": (None, 0.25), "edu": (2.5, None)})
    assert tomllib.loads(text)["stage"] == [
        {"use": "Score", "filter": "test_scores:Inside", "score_field": "inside", "settings": {"tenths": 4},
         "text_field": "text"},
        {"use": "Where", "expression": "`inside` <= 0.25"},
        {"use": "Where", "expression": "`edu` >= 2.5"},
    ]  # fmt: skip
    percentiles = ({"use": "PercentileFilter", "filter": "WordCountFilter", "drop_lowest": 0.1},)
    text = recipe_with_bounds(percentiles, {"word_count": (3, None)})
    assert [s["use"] for s in tomllib.loads(text)["stage"]] == ["Score", "Where"]
    with pytest.raises(UsageError, match="is inverted, and no setting holds its bounds"):
        recipe_with_bounds(({**stages[0], "invert": True},), {"inside": (None, 0.25)})
    with pytest.raises(UsageError, match="has no bounds to set"):
        recipe_with_bounds(({"use": "test_scores:Shouting"},), {"shouting": (0, 1)})


@settings(max_examples=50)
@given(st.text(), st.floats(allow_nan=False), st.integers(-(2**63), 2**63 - 1))
def test_values_are_written_as_toml_reads_them(words, number, whole):
    stage = {"use": "Where", "expression": "a > 1"}
    stage |= {"text": words, "n": number, "i": whole, "list": [words, True], "table": {words: {"x": number}}}
    from tamis.kept import toml_section as section

    if "\ud800" <= max(words, default="") <= "\udfff":
        return
    assert tomllib.loads(section("[[stage]]", stage)) == {"stage": [stage]}


# -- the command ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Scored documents, by a recipe with modifiers, conditions and a rule of its own."""
    folder = tmp_path_factory.mktemp("scored")
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(d) + "\n" for d in documents(400)))
    (folder / "r.toml").write_text(
        f'[input]\npath = "{path}"\n'
        '[[stage]]\nuse = "WordCountFilter"\nmin_words = 4\nscore_field = "words"\n'
        '[[stage]]\nuse = "NewlineNormalizer"\n'
        '[[stage]]\nuse = "fineweb_quality"\n'
        '[[stage]]\nuse = "Where"\nexpression = "rank < 1.9"\n'
        '[[stage]]\nuse = "MeanWordLengthFilter"\nmin_mean_word_length = 1\n'
        '[[stage]]\nuse = "test_scores:Inside"\n'
        '[[stage]]\nuse = "test_scores:Shouting"\n'
        '[[stage]]\nuse = "HasText"\ncolumns = ["name"]\n'
        '[[stage]]\nuse = "Split"\n'
    )
    assert main(["score", str(folder / "r.toml"), "--out", str(folder / "out"), "--workers", "1"]) == 0
    return folder


@pytest.mark.parametrize(
    "how",
    [
        [],
        ["--keep", "0.4"],
        ["--drop-each", "0.03"],
        ["--keep", "0.3", "--set", "words.low=12", "--set", "inside.high=0.95", "--set", "rank.low=0.4"],
        ["--drop-each", "0.1", "--only", "words", "--only", "punctuation", "--set", "mean_word_length.high=3.9"],
    ],
)
def test_a_run_of_the_recipe_keeps_what_was_shown(scored, tmp_path, capsys, how):
    out = tmp_path / "tuned.toml"
    command = ["tune-thresholds", str(scored / "out"), "--workers", "1", *how]
    assert main([*command, "--json", "--out", str(out)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["documents"] == 400
    assert 30 < shown["kept"] < 400
    assert out.read_text().startswith("# Bounds set by `tamis tune-thresholds`\n# They keep")
    result = load_recipe(out, [f"output.path={tmp_path / 'kept'}"]).dataset().to_json(tmp_path / "kept", progress="off")
    assert result.tally.kept == shown["kept"]
    if "--keep" in how:
        assert 400 * float(how[1]) <= shown["kept"] <= 400 * float(how[1]) + 30
    assert main([*command, "--out", str(out)]) == 0  # its own file may be written again
    said = capsys.readouterr().out
    assert f"Together they keep {shown['kept']:,} of 400 documents" in said
    assert f"Written: {out}" in said


def test_the_table_fits_a_terminal(scored, capsys, monkeypatch):
    from rich.console import Console

    from tamis import cli_score

    run = scored_run(scored / "out")
    cli_score._print_counted(Console(width=80), count_bounds(run.dataset, run.decisions), ["a note"])
    said = capsys.readouterr().out
    assert "repeated_lines_by_char" in said
    assert "≥ 4" in said
    assert "its rule" in said
    assert "a note" in said
    assert max(map(len, said.splitlines())) <= 80


def test_mistakes_are_said(scored, tmp_path, capsys):
    command = ["tune-thresholds", str(scored / "out"), "--workers", "1"]
    mine = tmp_path / "mine.toml"
    mine.write_text("# mine\n")
    for more, message in (
        (["--set", "words=3"], "write it as SCORE.low=NUMBER"),
        (["--set", "words.low=x"], "write it as SCORE.low=NUMBER"),
        (["--set", "words.low=inf"], "write it as SCORE.low=NUMBER"),
        (["--set", "word.low=3"], "Did you mean 'words'"),
        (["--set", "shouting.low=3"], "decides by a rule of its own"),
        (["--only", "words"], "--only goes with --keep or --drop-each"),
        (["--keep", "0.99"], "documents can be kept at most"),
        (["--out", str(mine)], "exists, and was not written by tune-thresholds"),
    ):
        assert main([*command, *more]) == 2, more
        assert message in capsys.readouterr().err
    assert mine.read_text() == "# mine\n"


def test_no_documents_are_no_exception(tmp_path, capsys):
    path = str(tmp_path / "in.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    for kind in ("parquet", "jsonl"):
        out = str(tmp_path / kind)
        assert main(["score", "gopher_quality", path, "--out", out, "--format", kind]) == 0
        assert main(["tune-thresholds", out, "--keep", "0.5"]) == 0
        assert "Together they keep 0 of 0 documents" in capsys.readouterr().out


def test_conditions_of_verdicts_are_counted_as_rules():
    dataset = DocumentDataset.from_arrow(pa.Table.from_pylist(documents())).append(*STEPS)
    counted = count_bounds(score_dataset(dataset), verdicts_of(STEPS))
    assert (counted.bounds[0].bound.column, counted.bounds[0].bound.side) == ("where_keeps", "rule")
    assert counted.bounds[0].dropped == sum(d["rank"] >= 1.9 for d in documents())
    assert counted.kept == 200 - sum(d["rank"] >= 1.9 or lower(d["text"])[:1] == "s" for d in documents())
