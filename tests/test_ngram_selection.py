"""Fitting and weighing by hashed n-grams, against the published definition in plain Python."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis import DocumentDataset
from tamis.engine.describe import describe
from tamis.errors import UsageError
from tamis.hashing import uniform
from tamis.selection.ngrams import (
    NgramCounts,
    NgramExamples,
    NgramTable,
    NgramWeights,
    extremes,
    kl_divergence,
    kl_reduction,
    log_ratios,
    share_to_fit,
)
from tamis.testing import check_fold, check_stage, sample_table
from tamis.text.hashed_ngrams import HashedNgrams

TABLE = sample_table()
SMALL = HashedNgrams(50, 2)
LAW = [
    "The court held that the appeal fails.",
    "The appeal is dismissed by the court; costs follow.",
    "The court adjourned.",
]
COOKING = ["Stir the soup and add salt.", "Add salt to the soup, then stir.", "Peel, chop, stir; the soup is ready."]


def documents(texts):
    return pa.table({"id": [f"d{i}" for i in range(len(texts))], "text": pa.array(texts, pa.large_string())})


def counted(texts, features=SMALL):
    fold = NgramCounts(features)
    return fold.finish(fold.add(fold.start(), documents(texts)))


def published(texts, buckets, n=2):
    """Counts by the published definition."""
    counts = np.zeros(buckets)
    for text in texts:
        tokens = re.findall(r"\w+|[^\w\s]+", text.lower())
        for k in range(1, n + 1):
            for i in range(len(tokens) - k + 1):
                digest = hashlib.sha256(" ".join(tokens[i : i + k]).encode()).hexdigest()
                counts[int(digest, 16) % buckets] += 1
    return counts


# -- counts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fold", [NgramCounts(SMALL), NgramCounts(SMALL, share=0.4), NgramCounts(HashedNgrams(9, 3, "sha256"))]
)
def test_counts_are_the_same_in_any_sharding(fold):
    table = check_fold(fold, TABLE)
    assert table.seen == 40
    assert 0 < table.documents <= 40
    assert (table.documents < 40) == (fold.share < 1)


def test_counts_are_the_published_ones():
    table = counted([*LAW, *COOKING], HashedNgrams(1000, 3, "sha256"))
    assert table.counts.tolist() == published([*LAW, *COOKING], 1000, 3).tolist()
    assert (table.documents, table.seen, table.total) == (6, 6, int(table.counts.sum()))


def test_a_share_is_of_the_documents_that_their_ids_decide():
    table = sample_table(200)
    taken = uniform(table["id"].to_pylist(), 7) < 0.25
    found = check_fold(NgramCounts(SMALL, share=0.25, seed=7), table)
    whole = NgramCounts(SMALL)
    expected = whole.finish(whole.add(whole.start(), table.filter(pa.array(taken))))
    assert found.counts.tolist() == expected.counts.tolist()
    assert found.documents == taken.sum()


def test_a_share_needs_ids_and_all_documents_do_not():
    without = documents(LAW).drop_columns(["id"])
    assert NgramCounts().needs(without.schema).reads == ()
    assert NgramCounts(share=0.5).needs(without.schema).reads == ("id",)
    assert NgramCounts().on_text_field("body").needs(without.schema).texts == ("body",)
    dataset = DocumentDataset.from_arrow(without)
    assert dataset.fold(NgramCounts(SMALL)).counts.tolist() == counted(LAW).counts.tolist()
    assert dataset.fold(NgramCounts(SMALL, share=0.9999)).documents == 3


@pytest.mark.parametrize("share", [0, -0.5, 1.5, math.nan])
def test_shares_that_cannot_be(share):
    with pytest.raises(UsageError, match="share must be a number above 0 and at most 1"):
        NgramCounts(share=share)


def test_the_share_that_holds_so_many_ngrams():
    assert share_to_fit(10**9, 2 * 10**12) == pytest.approx(1.25e-3)
    assert share_to_fit(10**9, 0) == 1
    with pytest.raises(UsageError, match="at least 1; got 0"):
        share_to_fit(0, 5)


# -- log ratios -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.5, 3])
def test_log_ratios_are_the_published_ones(smoothing):
    features = HashedNgrams(100, 2, "sha256")
    raw, law, cooking = (
        published([*LAW, *COOKING], 100),
        published(LAW, 100) + smoothing,
        published(COOKING, 100) + smoothing,
    )
    found = log_ratios(
        counted([*LAW, *COOKING], features), counted(LAW, features), counted(COOKING, features), smoothing=smoothing
    )
    expected = [np.log(t / t.sum() + 1e-8) - np.log(raw / raw.sum() + 1e-8) for t in (law, cooking)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_datasets_without_an_ngram_are_named():
    full, empty = counted(LAW), counted(["", "  \n"])
    with pytest.raises(UsageError, match="the target holds not one n-gram: 2 of 2 documents were counted"):
        log_ratios(full, empty, smoothing=1)
    with pytest.raises(UsageError, match="target 2 holds not one n-gram"):
        log_ratios(full, full, empty)
    with pytest.raises(UsageError, match="the raw dataset holds not one n-gram"):
        log_ratios(empty, full)
    with pytest.raises(UsageError, match="at least one target"):
        log_ratios(full)
    with pytest.raises(UsageError, match="smoothing must be 0 or more"):
        log_ratios(full, full, smoothing=-1)


def test_counts_of_different_features_are_not_mixed():
    with pytest.raises(UsageError, match=r"different features cannot be compared: .*num_buckets=50.*num_buckets=51"):
        log_ratios(counted(LAW), counted(LAW, HashedNgrams(51, 2)))
    with pytest.raises(UsageError, match="different features"):
        kl_divergence(counted(LAW), counted(LAW, HashedNgrams(50, 2, "sha256")))


# -- weights --------------------------------------------------------------------------------------------------


def fitted(targets=1, features=SMALL):
    raw = counted([t or "" for t in TABLE["text"].to_pylist()], features)
    return log_ratios(raw, *[counted(t, features) for t in (LAW, COOKING, LAW + COOKING)[:targets]])


@pytest.mark.parametrize(
    "stage",
    [
        NgramWeights(fitted(), SMALL),
        NgramWeights(fitted()[0], SMALL, per_token=True, column="score", count_column="n"),
        NgramWeights(fitted(3), SMALL, targets=("law", "cooking", "both"), per_token=True),
        NgramWeights(fitted(1, HashedNgrams(50, 3, "sha256")), HashedNgrams(50, 3, "sha256")),
    ],
)
def test_weights_hold_the_contract(stage):
    check_stage(stage, TABLE, fresh_process=stage.per_token)


def test_weights_are_the_published_ones():
    features = HashedNgrams(100, 2, "sha256")
    raw = [*LAW, *COOKING, "", "one"]
    ratios = log_ratios(counted(raw, features), counted(LAW, features))
    found = NgramWeights(ratios, features).open()(documents(raw))
    expected = [published([t], 100) @ ratios[0] for t in raw]
    np.testing.assert_allclose(found["log_weight_ngram"], expected, rtol=0, atol=1e-12)
    assert found["features"].to_pylist() == [int(published([t], 100).sum()) for t in raw]
    assert min(expected[:3]) > max(expected[3:6])


def test_several_targets_have_a_column_each():
    ratios = fitted(3)
    together = NgramWeights(ratios, SMALL, targets=("law", "cooking", "both")).open()(TABLE)
    for row, name in enumerate(("law", "cooking", "both")):
        alone = NgramWeights(ratios[row], SMALL).open()(TABLE)
        assert together[f"log_weight_ngram_{name}"].equals(alone["log_weight_ngram"])


def test_per_token_is_the_weight_over_the_tokens():
    found = NgramWeights(fitted(), SMALL, per_token=True).open()(TABLE)
    tokens = [max(1, len(re.findall(r"\w+|[^\w\s]+", (t or "").lower()))) for t in TABLE["text"].to_pylist()]
    expected = np.asarray(found["log_weight_ngram"]) / tokens
    assert found["log_weight_ngram_per_token"].to_pylist() == expected.tolist()


def test_other_numbers_are_another_run():
    one, other = NgramWeights(fitted(), SMALL), NgramWeights(fitted() + 1e-12, SMALL)
    assert describe(one) == describe(NgramWeights(fitted(), SMALL))
    assert describe(one) != describe(other)
    assert "array" not in repr(one)


@pytest.mark.parametrize(
    ("ratios", "targets", "said"),
    [
        (np.zeros(49), (), "shape (49,), which is not one row of 50 buckets for each of 1 targets"),
        (np.zeros((2, 50)), (), "for each of 1 targets"),
        (np.zeros((2, 50)), ("a", "b", "c"), "for each of 3 targets"),
        (np.full(50, np.nan), (), "not finite"),
    ],
)
def test_ratios_that_do_not_fit(ratios, targets, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        NgramWeights(ratios, SMALL, targets=targets)


def test_a_weighed_dataset():
    raw = DocumentDataset.from_arrow(documents([*COOKING, *LAW]))
    ratios = log_ratios(
        raw.fold(NgramCounts(SMALL)), DocumentDataset.from_arrow(documents(LAW)).fold(NgramCounts(SMALL))
    )
    found = NgramWeights(ratios, SMALL)(raw).to_arrow()
    assert found.column_names == ["id", "text", "log_weight_ngram", "features"]
    assert set(np.argsort(found["log_weight_ngram"])[-3:]) == {3, 4, 5}


# -- how well a selection fits --------------------------------------------------------------------------------


def test_kl_divergence_is_its_formula():
    p, q = counted(LAW), counted(COOKING)
    a, b = p.counts / p.total, q.counts / q.total
    expected = sum(x * (math.log(x + 1e-8) - math.log(y + 1e-8)) for x, y in zip(a, b, strict=True))
    assert kl_divergence(p, q) == pytest.approx(expected)
    assert kl_divergence(p, p) == 0
    assert kl_divergence(p, q) > 0


def test_kl_reduction_is_the_mean_over_targets():
    law, cooking, both = counted(LAW), counted(COOKING), counted(LAW + COOKING)
    assert kl_reduction([law], both, law) == pytest.approx(kl_divergence(law, both))
    assert kl_reduction([law], both, cooking) < 0
    mean = (
        kl_divergence(law, both) - kl_divergence(law, law) + kl_divergence(cooking, both) - kl_divergence(cooking, law)
    ) / 2
    assert kl_reduction([law, cooking], both, law) == pytest.approx(mean)


def test_extremes_are_ordered_and_ties_go_by_number():
    assert extremes(np.array([0.5, -1.0, 0.5, 3.0, -1.0]), 3) == ([3, 0, 2], [1, 4, 0])
    assert extremes(np.zeros(2), 5) == ([0, 1], [0, 1])


# -- naming buckets -------------------------------------------------------------------------------------------

FEW = HashedNgrams(11, 2)


def named(table, wanted, number, seed):
    """The documented sample, all at once."""
    best = {}
    for name, text, u in zip(
        table["id"].to_pylist(), table["text"].to_pylist(), uniform(table["id"].to_pylist(), seed), strict=True
    ):
        found = Counter(
            (int(b), g)
            for b, g in zip(FEW.buckets(pa.array([text], pa.large_string()))[0], FEW.listed(text or ""), strict=True)
            if b in wanted
        )
        entry = (float(u), tuple(sorted((b, g, n) for (b, g), n in found.items())))
        key = "" if name is None else name
        best[key] = min(best.get(key, entry), entry)
    totals = {b: Counter() for b in wanted}
    for _, entries in sorted(best.values())[:number]:
        for b, g, n in entries:
            totals[b][g] += n
    return {b: sorted(c.items(), key=lambda x: (-x[1], x[0]))[:5] for b, c in totals.items()}


@pytest.mark.parametrize("number", [1, 5, 30, 1000])
def test_buckets_are_named_by_the_same_sample_in_any_sharding(number):
    fold = NgramExamples(FEW, (3, 7), documents=number, seed=4)
    assert check_fold(fold, TABLE) == named(TABLE, (3, 7), number, 4)


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", None]), st.sampled_from([*LAW, "", "x y x"])), min_size=1),
    st.integers(1, 4),
)
def test_ids_that_are_there_more_than_once(rows, number):
    table = pa.table(
        {"id": pa.array([i for i, _ in rows], pa.string()), "text": pa.array([t for _, t in rows], pa.large_string())}
    )
    assert check_fold(NgramExamples(FEW, (0, 5), documents=number), table) == named(table, (0, 5), number, 0)


def test_the_state_is_bounded_by_the_sample():
    fold = NgramExamples(FEW, (3, 7), documents=5)
    state = fold.start()
    for start in range(0, 200, 20):
        state = fold.add(state, sample_table(200).slice(start, 20))
        assert len(state) <= 5
    assert fold.on_text_field("body").text_field == "body"


def test_a_table_says_what_it_is():
    table = NgramTable(SMALL, np.arange(50), 3, 4)
    assert table.total == 1225
    assert table.probabilities().sum() == pytest.approx(1)
    both = counted(LAW) + counted(COOKING)
    assert both.counts.tolist() == counted(LAW + COOKING).counts.tolist()
    assert (both.documents, both.seen) == (6, 6)
    with pytest.raises(UsageError, match="different features"):
        counted(LAW) + counted(LAW, FEW)
    assert table.probabilities(2)[0] == pytest.approx(2 / 1325)
