"""Batches on a device that does not exist: its memory is a formula, and going over it raises."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.errors import StageError, UsageError
from tamis.models.batching import Budget, Cost, OneRowTooLarge, Usage, restore, run_batches

LENGTHS = st.lists(st.integers(0, 600), max_size=120)
TERMS = st.floats(0, 1e3, allow_subnormal=False)
COSTS = st.builds(Cost, TERMS, TERMS, TERMS)


ONE_PER_TOKEN = Cost(per_token=1.0)


class NoMemoryError(Exception):
    """What the fake device raises; its text says nothing, as nobody may read it."""


class Device:
    """Runs batches: each row's outputs are a function of its index and length; too large a batch is out of memory."""

    def __init__(self, lengths, memory=math.inf, law=ONE_PER_TOKEN, *, packed=False):
        self.lengths, self.memory, self.law, self.packed = np.asarray(lengths, dtype=np.int64), memory, law, packed
        self.ran, self.failed = [], 0

    def cost(self, rows):
        n = self.lengths[rows]
        if self.packed:
            return self.law.fixed + self.law.per_token * n.sum() + self.law.per_square * (n.astype(float) ** 2).sum()
        return self.law.of(len(rows), int(n.max()))

    def __call__(self, rows):
        assert rows.dtype == np.int64
        assert len(rows) > 0
        if self.cost(rows) > self.memory:
            self.failed += 1
            raise NoMemoryError
        self.ran.append(rows)
        return self.outputs(rows)

    def outputs(self, rows):
        return np.stack([rows * 10.0, self.lengths[rows] * 1.0], axis=1).astype(np.float32)

    def answers(self, budget, **options):
        pieces = run_batches(self.lengths, self, budget, out_of_memory=(NoMemoryError,), **options)
        return restore(pieces, len(self.lengths), 2)

    def expected(self):
        return self.outputs(np.arange(len(self.lengths)))


def within(device, rows, budget):
    n = device.lengths[rows]
    return len(rows) == 1 or budget.fits(len(rows), int(n.max()), int(np.maximum(n, 1).sum()))


# What every plan holds


@given(LENGTHS, st.integers(1, 3000), st.none() | st.integers(1, 10), st.booleans())
def test_every_row_is_answered_once_in_its_place_within_the_budget(lengths, tokens, limit, packed):
    device = Device(lengths)
    budget = Budget(tokens, rows=limit, packed=packed)
    assert np.array_equal(device.answers(budget), device.expected())
    for rows in device.ran:
        n = np.maximum(device.lengths[rows], 1)
        assert len(rows) == 1 or (n.sum() if packed else len(rows) * n.max()) <= tokens
        assert limit is None or len(rows) <= limit
    ran = [n for rows in device.ran for n in device.lengths[rows]]
    assert ran == sorted(lengths, reverse=True)
    assert sorted(row for rows in device.ran for row in rows) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 3000), st.booleans())
def test_a_batch_ends_only_where_the_next_row_does_not_fit(lengths, tokens, packed):
    device, budget = Device(lengths), Budget(tokens, packed=packed)
    device.answers(budget)
    for rows, after in zip(device.ran, device.ran[1:], strict=False):
        assert not within(device, np.append(rows, after[0]), budget)


@given(LENGTHS, st.integers(1, 3000), COSTS, st.floats(0, 1e6), st.booleans())
def test_the_same_lengths_and_budget_give_the_same_batches(lengths, tokens, cost, memory, packed):
    law = Cost(per_token=2.0)
    ran = []
    for _ in range(2):
        device = Device(lengths, 1200.0, law, packed=packed)
        device.answers(Budget(tokens, memory=memory, cost=cost, packed=packed))
        ran.append([rows.tolist() for rows in device.ran])
    assert ran[0] == ran[1]


def test_rows_of_equal_length_stay_in_order():
    device = Device([5, 9, 5, 9, 5])
    device.answers(Budget(1000))
    assert device.ran[0].tolist() == [1, 3, 0, 2, 4]


def test_no_rows_make_no_batch_and_empty_rows_are_rows():
    assert Device([]).answers(Budget(10)).shape == (0, 2)
    for packed in (False, True):
        device = Device([0, 0, 0, 0, 0])
        assert np.array_equal(device.answers(Budget(2, packed=packed)), device.expected())
        assert [len(rows) for rows in device.ran] == [2, 2, 1]


# Memory


@given(LENGTHS, st.integers(1, 20_000), COSTS, st.floats(1, 4), st.booleans())
def test_where_the_memory_law_is_known_no_batch_is_ever_out_of_memory(lengths, tokens, law, more, packed):
    memory = law.of(1, max(lengths, default=0)) * more
    device = Device(lengths, memory * (1 + 1e-9), law, packed=packed)
    budget = Budget(tokens, memory=memory, cost=law, packed=packed)
    assert np.array_equal(device.answers(budget), device.expected())
    assert (device.failed, budget.lowered) == (0, 0)


@given(
    st.lists(LENGTHS, min_size=1, max_size=8),
    st.integers(1, 20_000),
    st.none() | COSTS,
    COSTS,
    st.floats(1, 6),
    st.booleans(),
)
def test_memory_that_the_plan_knows_nothing_of_costs_a_few_failures_and_no_row(
    windows, tokens, known, law, more, packed
):
    # The device takes `law`; the plan believes in `known`, or in nothing.
    memory = law.of(1, max((n for lengths in windows for n in lengths), default=0)) * more
    budget = Budget(tokens, memory=known and memory, cost=known, packed=packed)
    limits = [(budget.tokens, budget.memory or math.inf)]
    failed = 0
    for lengths in windows:
        device = Device(lengths, memory * (1 + 1e-9), law, packed=packed)
        usage = Usage()
        before = budget.lowered
        assert np.array_equal(device.answers(budget, usage=usage), device.expected())
        assert device.failed == budget.lowered - before == usage.lowered
        assert usage.batches == len(device.ran)
        failed += device.failed
        limits.append((budget.tokens, budget.memory or math.inf))
        assert limits[-1][0] <= limits[-2][0]
        assert limits[-1][1] <= limits[-2][1]
    # Each failure halves the tokens: their logarithm bounds the failures of all windows together.
    assert failed <= math.log2(tokens) + 1


def test_a_lowered_budget_holds_for_all_later_windows():
    lengths = [100] * 64
    budget = Budget(4096)
    failures = []
    for _ in range(50):
        device = Device(lengths, 1000.0)
        device.answers(budget)
        failures.append(device.failed)
    assert failures == [2] + [0] * 49  # 40 rows, 20 rows, then 10 fit
    assert (budget.tokens, budget.lowered) == (1000, 2)


@given(st.integers(2, 500), st.integers(1, 600), st.integers(2, 500_000), st.none() | COSTS, st.booleans())
def test_after_it_was_out_of_memory_a_batch_no_longer_fits_and_half_of_it_does(rows, longest, tokens, cost, packed):
    budget = Budget(tokens, memory=cost and 1e15, cost=cost, packed=packed)
    total = rows * longest
    if not budget.fits(rows, longest, total):
        return
    budget.lower(rows, longest, total)
    used = total if packed else rows * max(longest, 1)
    assert budget.tokens == max(used // 2, 1)
    assert cost is None or budget.memory == min(1e15, cost.ceiling(used / 2 / max(longest, 1), max(longest, 1)))
    assert not budget.fits(rows, longest, total)
    assert budget.fits(rows // 2, longest, (rows // 2) * longest)


def test_one_row_above_the_budget_runs_alone():
    device = Device([50, 3, 500, 3])
    device.answers(Budget(20))
    assert [rows.tolist() for rows in device.ran] == [[2], [0], [1, 3]]


def test_one_row_that_is_out_of_memory_alone_is_named():
    device = Device([5, 7, 400, 6], 100.0)
    with pytest.raises(OneRowTooLarge) as raised:
        device.answers(Budget(4096))
    assert (raised.value.row, raised.value.length, raised.value.cause) == (2, 400, "NoMemoryError")
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (copy.row, copy.length, copy.cause) == (2, 400, "NoMemoryError")


def test_out_of_memory_is_told_by_type_and_never_by_text():
    def run(rows):
        raise RuntimeError("CUDA out of memory")

    budget = Budget(100)
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        list(run_batches([1, 2], run, budget, out_of_memory=(NoMemoryError,)))
    assert budget.lowered == 0


def test_nothing_of_a_failed_batch_is_alive_when_memory_is_released():
    class Tensor:
        pass

    alive = []

    def run(rows):
        tensor = Tensor()
        alive.append(weakref.ref(tensor))
        if len(rows) > 1:
            raise NoMemoryError
        return rows

    released = []

    def release():
        released.append([ref() for ref in alive])

    assert len(list(run_batches([1, 1], run, Budget(9), out_of_memory=(NoMemoryError,), release=release))) == 2
    assert released == [[None]]


def test_a_result_that_the_caller_let_go_is_gone_before_the_next_batch():
    results = []

    def run(rows):
        assert [ref() for ref in results if ref() is not None] == []
        result = np.zeros((len(rows), 1))
        results.append(weakref.ref(result))
        return result

    for _rows, result in run_batches([1, 1, 1], run, Budget(1), out_of_memory=()):
        del result
    assert len(results) == 3


# Padding


def long_tailed(rows=4096):
    # Log-normal with median 250, cut at 512, by quantiles: no chance in it. Shuffled by a fixed stride.
    quantiles = np.sqrt(2) * np.array([_inverse_erf(2 * (i + 0.5) / rows - 1) for i in range(rows)])
    lengths = np.clip(250 * np.exp(0.8 * quantiles), 1, 512).astype(np.int64)
    return lengths[(np.arange(rows) * 1601) % rows]


def _inverse_erf(y):
    low, high = -6.0, 6.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erf(middle) < y else (low, middle)
    return low


def test_a_window_of_long_tailed_lengths_is_padded_by_less_than_3_percent():
    lengths = long_tailed()
    assert abs(np.median(lengths) - 250) < 5

    def shares(budget):
        device, usage = Device(lengths), Usage()
        device.answers(budget, usage=usage)
        assert (usage.texts, usage.tokens, usage.lowered) == (4096, lengths.sum(), 0)
        assert usage.padded == sum(len(rows) * lengths[rows].max() for rows in device.ran) or budget.packed
        return usage

    planned = shares(Budget(16_384))
    fixed = shares(Budget(10**9, rows=64))  # sorted, the same number of rows in each
    packed = shares(Budget(16_384, packed=True))
    assert planned.padding_share < 0.03
    assert packed.padding_share == 0
    # Fixed batches waste little once sorted; but what each takes differs, so memory must suffice for the largest.
    assert fixed.padding_share < 0.03
    arrival = sum(64 * lengths[i : i + 64].max() for i in range(0, 4096, 64))
    assert 1 - lengths.sum() / arrival > 0.4
    assert planned.batches < lengths.sum() / 16_384 * 1.05 + 1


def test_usage_adds_up():
    one, two = Usage(), Usage(lowered=1)
    one.add(np.array([4, 2, 0]), packed=False)
    two.add(np.array([4, 2]), packed=True)
    assert one == Usage(texts=3, tokens=6, padded=12, batches=1)
    assert one.padding_share == 0.5
    assert one + two == Usage(texts=5, tokens=12, padded=18, batches=2, lowered=1)
    assert Usage().padding_share == 0


# Order


@given(st.permutations(range(12)), st.lists(st.integers(0, 12), max_size=5))
def test_restore_puts_pieces_in_any_order_and_cut_back(order, cuts):
    rows = np.array(order, dtype=np.int64)
    values = np.arange(24, dtype=np.float32).reshape(12, 2)
    pieces = [(part, values[part]) for part in np.split(rows, sorted(cuts))]
    assert np.array_equal(restore(pieces, 12, 2), values)


def test_restore_counts_the_rows():
    rows = np.arange(3)
    with pytest.raises(StageError, match="Row 3 of 4 was answered 0 times"):
        restore([(rows, np.zeros((3, 1)))], 4, 1)
    with pytest.raises(StageError, match="Row 1 of 3 was answered 2 times"):
        restore([(rows, np.zeros((3, 1))), (rows[1:2], np.zeros((1, 1)))], 3, 1)
    with pytest.raises(StageError, match=r"A batch of 3 rows gave outputs of shape \(2, 1\)"):
        restore([(rows, np.zeros((2, 1)))], 3, 1)


# The cost of a batch

GRID = [(rows, n) for n in (16, 64, 256, 512) for rows in (1, 2, 8, 32)]
LAWS = st.builds(Cost, st.just(0.0) | st.floats(1, 1e9), st.floats(1, 1e6), st.just(0.0) | st.floats(0.1, 1e4))


@given(LAWS)
def test_a_law_is_found_again(law):
    rows, lengths = np.array(GRID).T
    measured = [law.of(*point) for point in GRID]
    found = Cost.fit(rows, lengths, measured)
    assert found.margin < 1e-5
    for point in [*GRID, (100, 300)]:
        assert found.of(*point) == pytest.approx(law.of(*point), rel=1e-4)


@given(LAWS, st.lists(st.floats(-0.2, 0.2), min_size=len(GRID), max_size=len(GRID)))
def test_noise_bounds_the_error_of_the_fit(law, noise):
    rows, lengths = np.array(GRID).T
    measured = np.array([law.of(*point) for point in GRID]) * (1 + np.array(noise))
    found = Cost.fit(rows, lengths, measured)
    errors = np.array([found.of(*point) for point in GRID]) / measured - 1
    share = max(abs(e) for e in noise)
    assert np.sqrt(np.mean(errors**2)) <= share / (1 - share) + 1e-6
    for point, cost in zip(GRID, measured, strict=True):
        assert found.ceiling(*point) >= cost * (1 - 1e-9)
    # No other law of terms of at least 0 does better: try neighbours along each term.
    best = np.mean(errors**2)
    for name in ("fixed", "per_token", "per_square"):
        for factor in (0.99, 1.01):
            terms = {n: getattr(found, n) for n in ("fixed", "per_token", "per_square")}
            terms[name] = terms[name] * factor or 1e-3
            other = np.array([Cost(**terms).of(*point) for point in GRID]) / measured - 1
            assert np.mean(other**2) >= best - 1e-8


def test_small_batches_count_as_much_as_large_ones():
    # Fitted to absolute errors the large points would set the fixed cost; 10 % on the largest point is 1e9 here.
    law = Cost(fixed=1e6, per_token=1e5)
    measured = [law.of(*point) * (1.1 if point == (32, 512) else 1.0) for point in GRID]
    rows, lengths = np.array(GRID).T
    assert Cost.fit(rows, lengths, measured).of(1, 16) == pytest.approx(law.of(1, 16), rel=0.05)


def test_measurements_that_say_nothing_are_left_out():
    assert Cost.fit([], [], []) == Cost()
    assert Cost.fit([1, 2], [4, 4], [0.0, math.nan]) == Cost()
    assert Cost.fit([1, 2, 3], [4, 4, 4], [8.0, 16.0, math.inf]).per_token == pytest.approx(2)


@pytest.mark.parametrize("term", [-1.0, math.nan, math.inf])
def test_a_cost_has_no_impossible_terms(term):
    with pytest.raises(UsageError, match="finite number of at least 0"):
        Cost(per_token=term)


def test_a_budget_has_no_impossible_limits():
    with pytest.raises(UsageError, match="at least 1 of its tokens, not 0"):
        Budget(0)
    with pytest.raises(UsageError, match="at least 1 of its rows, not -1"):
        Budget(1, rows=-1)
    with pytest.raises(UsageError, match="needs both"):
        Budget(1, memory=1.0)


def test_planning_needs_no_torch():
    code = "import sys, tamis.models.batching; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
