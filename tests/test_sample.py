"""Choosing by weight, against sorting everything."""

from __future__ import annotations

import re
from collections import Counter

import cloudpickle
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis import DocumentDataset
from tamis.errors import UsageError
from tamis.hashing import gumbel
from tamis.selection import sample
from tamis.selection.sample import Resample, quotas_of
from tamis.selection.weights import WeightSummary
from tamis.testing import check_fold, check_stage


def table_of(rows, targets=1):
    """Rows of (id, weight, ...)."""
    names = ["log_weight"] if targets == 1 else [f"w{t}" for t in range(targets)]
    columns = {name: pa.array([row[1 + t] for row in rows], pa.float64()) for t, name in enumerate(names)}
    return pa.table({"id": pa.array([row[0] for row in rows], pa.string()), **columns})


def chosen(step, table):
    """(selection, which rows are kept)."""
    selection = step.fold().finish(step.fold().add(step.fold().start(), table))
    marks = step.then(selection).open()(table)["__reason"]
    return selection, [mark is None for mark in marks.to_pylist()]


def expected(rows, quotas, scores):
    """Sort, take, go on with what is left; copies of the last one taken come along."""
    left = list(range(len(rows)))
    taken = {}
    for target, quota in enumerate(quotas):
        left = [i for i in left if i not in taken]
        order = sorted((i for i in left if scores[i][target] > -np.inf), key=lambda i: (-scores[i][target], rows[i][0]))
        if not quota or not order:
            continue
        last = order[min(quota, len(order)) - 1]
        for i in order:
            if (-scores[i][target], rows[i][0]) <= (-scores[last][target], rows[last][0]):
                taken[i] = target
    return taken


WEIGHTS = st.sampled_from([-np.inf, -2.0, -0.0, 0.0, 1.0, 1.5, 1e6])
IDS = st.sampled_from([*"abcdefghij", "10", "9", "", "é"])


@settings(max_examples=150)
@given(
    st.lists(st.tuples(IDS, WEIGHTS, WEIGHTS, WEIGHTS), max_size=25),
    st.integers(1, 12),
    st.sampled_from([(1.0,), (0.5, 0.5), (0.2, 0.0, 0.8), (1.0, 1.0, 1.0)]),
    st.booleans(),
)
def test_what_is_chosen_is_what_sorting_everything_would_choose(rows, number, proportions, top_k):
    targets = len(proportions)
    table = table_of(rows, targets)
    names = tuple(table.column_names[1:])
    weight, shares = (names[0], ()) if targets == 1 else (names, proportions)
    step = Resample(number, weight, shares, seed=3, top_k=top_k, target_field="by")
    _, scores = step.scores(table)
    taken = expected(rows, quotas_of(number, proportions), scores)
    selection, kept = chosen(step, table)
    assert kept == [i in taken for i in range(len(rows))]
    made = step.then(selection).open()(table)["by"].to_pylist()
    assert made == [names[taken[i]] if i in taken else None for i in range(len(rows))]
    # An id that stands for two texts may be cut through; then the counts are those of the cut.
    assert selection.counts == tuple(Counter(taken.values())[t] for t in range(targets))
    assert selection.documents == len(rows)
    assert selection.eligible == sum(any(s > -np.inf for s in row) for row in scores)


@pytest.fixture
def tight(monkeypatch):
    """No slack: the worse ones are dropped again and again."""
    monkeypatch.setattr(sample, "_SLACK", 0)


@pytest.mark.parametrize(
    "step",
    [
        Resample(7, "w0"),
        Resample(7, "w0", top_k=True),
        Resample(1, "w1", seed=5),
        Resample(500, "w0"),
        Resample(12, ("w0", "w1", "w2"), (0.3, 0.3, 0.4)),
        Resample(12, ("w0", "w1", "w2"), (0.5, 0.0, 0.5), top_k=True, target_field="by"),
        Resample(5, "w0", least=("w1", 0.0)),
    ],
)
def test_the_cuts_are_the_same_in_any_sharding(tight, step):
    noise = np.random.default_rng(1).integers(-3, 4, (120, 3)) * 1.0
    # Copies: one id, one text, one weight.
    noise[60:] = noise[:60]
    table = table_of([(f"d{i % 60}", *row) for i, row in enumerate(noise)], 3)
    selection = check_fold(step.fold(), table)
    check_stage(step.then(selection), table, fresh_process=step.number == 12)
    _, kept = chosen(step, table)
    assert sum(kept) == sum(selection.counts)


@settings(max_examples=60)
@given(st.lists(st.tuples(IDS, WEIGHTS, WEIGHTS), min_size=1, max_size=40), st.integers(1, 6), st.data())
def test_any_order_of_merging(rows, number, data):
    step = Resample(number, ("w0", "w1"), (0.5, 0.5), top_k=True)
    table = table_of(rows, 2)
    fold = step.fold()
    whole = fold.finish(fold.add(fold.start(), table))
    before, sample._SLACK = sample._SLACK, 0
    try:
        order = data.draw(st.permutations(range(len(rows))))
        states = []
        while order:
            size = data.draw(st.integers(1, len(order)))
            part, order = order[:size], order[size:]
            states.append(cloudpickle.loads(cloudpickle.dumps(fold.add(fold.start(), table.take(part)))))
        while len(states) > 1:
            left, right = states.pop(data.draw(st.integers(0, len(states) - 1))), states.pop()
            states.append(fold.merge(left, right))
        assert fold.finish(states[0]) == whole
    finally:
        sample._SLACK = before


def held(state, target):
    return sum(table.num_rows for table in state.heaps[target].tables)


def test_no_more_is_held_than_may_be_needed(tight):
    step = Resample(10, ("w0", "w1"), (0.5, 0.5))
    fold = step.fold()
    state = fold.start()
    values = np.random.default_rng(2).normal(size=(3000, 2))
    table = table_of([(f"d{i}", *row) for i, row in enumerate(values)], 2)
    for start in range(0, 3000, 50):
        state = fold.add(state, table.slice(start, 50))
        assert held(state, 0) <= 2 * 5 + 50
        assert held(state, 1) <= 2 * 10 + 50
    fold.finish(state)
    assert [held(state, 0), held(state, 1)] == [5, 10]


def test_a_million_copies_are_held_as_one(tight):
    table = table_of([("same", 1.0)] * 500 + [("other", 2.0)])
    fold = Resample(3).fold()
    state = fold.start()
    for start in range(0, 501, 10):
        state = fold.add(state, table.slice(start, 10))
        assert held(state, 0) <= 16
    selection = fold.finish(state)
    assert selection.counts == (501,)
    assert str(selection) == (
        "501 of 501 documents are chosen, 498 more than asked for: the last ones are copies that share one id."
    )


def test_sampling_is_in_proportion_to_the_weights():
    """The first of a sample without replacement is each document as often as its share of the weights."""
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    table = table_of([(f"d{i}", w) for i, w in enumerate(np.log(shares) + 7)])
    first = Counter(int(np.argmax(Resample(1, seed=seed).scores(table)[1][:, 0])) for seed in range(4000))
    found = np.array([first[i] / 4000 for i in range(4)])
    # Four standard deviations.
    assert (abs(found - shares) < 4 * np.sqrt(shares * (1 - shares) / 4000)).all()


def test_noise_has_nothing_to_do_with_a_split_by_the_same_seed():
    ids = [f"d{i}" for i in range(4000)]
    _, scores = Resample(1, seed=5).scores(table_of([(i, 0.0) for i in ids]))
    assert abs(np.corrcoef(scores[:, 0], gumbel(ids, 5))[0, 1]) < 0.06  # four standard deviations


def test_noise_is_a_function_of_seed_id_and_target():
    table = table_of([("a", 1.0, 1.0), ("b", 2.0, 2.0)], 2)
    _, scores = Resample(2, ("w0", "w1"), (1, 1), seed=9).scores(table)
    assert not np.isclose(scores[:, 0], np.array([1.0, 2.0]) + gumbel(["a", "b"], 9)).any()
    assert not np.isclose(scores[:, 0], scores[:, 1]).any()
    _, again = Resample(1, "w0", seed=9).scores(table.slice(1))
    assert again[0, 0] == scores[1, 0]
    _, other = Resample(1, "w0", seed=10).scores(table)
    assert not np.isclose(scores[:, 0], other[:, 0]).any()


def test_fewer_than_asked_for():
    selection, kept = chosen(Resample(9), table_of([("a", 1.0), ("b", -np.inf), ("c", 3.0)]))
    assert kept == [True, False, True]
    assert str(selection) == "2 of 3 documents are chosen, 7 fewer than asked for: only 2 can be."
    selection, kept = chosen(Resample(9), table_of([]))
    assert kept == []
    assert selection.counts == (0,)
    assert str(chosen(Resample(1), table_of([("a", 1.0), ("b", 0.0)]))[0]) == "1 of 2 documents are chosen."


def test_too_short_documents_are_never_chosen_and_said_to_be():
    table = table_of([("a", 5.0), ("b", 1.0), ("c", 3.0), ("d", 2.0)]).append_column(
        "features", pa.array([198, 199, None, 250])
    )
    step = Resample(1, top_k=True, least=("features", 199))
    selection, kept = chosen(step, table)
    assert kept == [False, False, False, True]
    marked = step.then(selection).open()(table)
    assert marked["__reason"].to_pylist() == ["cannot be chosen", "not chosen", "cannot be chosen", None]
    assert marked["__score"].to_pylist() == [-np.inf, 1.0, -np.inf, 2.0]


@pytest.mark.parametrize(("weight", "said"), [(np.nan, "nan"), (np.inf, "inf"), (None, "null")])
def test_weights_that_are_none(weight, said):
    table = table_of([("a", 1.0), ("the bad one", weight)])
    message = f"the document with the id 'the bad one' has no usable weight: its 'log_weight' is {said}."
    for fold in (Resample(1).fold(), WeightSummary()):
        with pytest.raises(UsageError, match=re.escape(message)):
            fold.add(fold.start(), table)


def test_columns_that_are_no_weights():
    with pytest.raises(UsageError, match="reads the column 'id' as log weights, but it is string"):
        chosen(Resample(1, "id"), table_of([("a", 1.0)]))
    selection, kept = chosen(
        Resample(1, "n", top_k=True), pa.table({"id": ["a", "b"], "n": pa.array([1, 2], pa.int32())})
    )
    assert kept == [False, True]
    assert selection.cuts == ((2.0, "b"),)


@pytest.mark.parametrize(
    "ids",
    [pa.array([7, None, 70]), pa.array([{"k": 1}, {"k": 2}, None]), pa.array(["7", None, "70"], pa.large_string())],
)
def test_ids_of_any_type(ids):
    table = pa.table({"id": ids, "log_weight": [0.0, 0.0, 0.0]})
    for step in (Resample(2, top_k=True), Resample(2)):
        selection = check_fold(step.fold(), table)
        check_stage(step.then(selection), table, fresh_process=False)
        assert selection.counts == (2,)
    assert (
        Resample(1).scores(table)[1]
        == Resample(1).scores(pa.table({**table.to_pydict(), "id": Resample(1).scores(table)[0]}))[1]
    ).all()


@pytest.mark.parametrize(
    ("number", "proportions", "quotas"),
    [(10, (1, 1, 1), (3, 3, 4)), (100, (0.29, 0.71), (28, 72)), (5, (0, 1), (0, 5)), (1, (2, 2), (0, 1))],
)
def test_quotas_are_floors_and_the_rest_is_for_the_last(number, proportions, quotas):
    """As published, down to how 0.29 times 100 is rounded."""
    assert quotas_of(number, proportions) == quotas


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0,), "at least 1 document to choose"),
        ((5, ("a", "b"), (-1, 2)), "proportions of at least 0"),
        ((5, ("a", "b"), (0, 0)), "not all 0"),
        ((5, ("a", "b"), (np.nan, 1)), "proportions of at least 0"),
        ((5, ("a", "b")), "there are 2 weights and 0 proportions"),
        ((5, "a", (0.5, 0.5)), "there are 1 weights and 2 proportions"),
    ],
)
def test_what_cannot_be_asked_for(arguments, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        Resample(*arguments)


def test_a_dataset_is_resampled():
    table = table_of([(f"d{i}", i * 0.5) for i in range(50)])
    dataset = DocumentDataset.from_arrow(table)
    best = Resample(5, top_k=True)(dataset).to_arrow()
    assert best["id"].to_pylist() == [f"d{i}" for i in range(45, 50)]
    assert best.column_names == table.column_names
    drawn = Resample(5, seed=1, target_field="by")(dataset).to_arrow()
    assert drawn.num_rows == 5
    assert drawn["by"].to_pylist() == ["log_weight"] * 5


# -- what the weights are like --------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=30))
def test_weights_are_summed_up(weights):
    table = table_of([(f"d{i}", w) for i, w in enumerate([*weights, -np.inf])])
    found = check_fold(WeightSummary(), table, tolerance=1e-6)
    w = np.exp(np.array(weights) - max(weights))
    assert found.documents == len(weights)
    assert (found.lowest, found.highest) == (min(weights), max(weights))
    assert found.effective == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert found.largest_share == pytest.approx(1 / w.sum())
    assert found.all_equal == (len(set(weights)) == 1)


def test_one_outweighs_all_and_all_are_equal():
    alone = check_fold(WeightSummary(), table_of([("a", 0.0), ("b", 900.0), ("c", 1.0)]), tolerance=1e-9)
    assert (alone.effective, alone.largest_share) == (1, 1)
    equal = check_fold(WeightSummary(), table_of([(str(i), -4.0) for i in range(8)]), tolerance=1e-9)
    assert (equal.effective, equal.all_equal) == (8, True)
    nothing = WeightSummary().finish(WeightSummary().start())
    assert (nothing.documents, nothing.all_equal, nothing.effective) == (0, False, 0)
