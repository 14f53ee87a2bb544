"""What comes of a split whose worker dies: tried again, looked into, written without the documents at fault."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.engine.handout import HandOut
from tamis.engine.job import Errand, SplitResult
from tamis.engine.tally import Tally
from tamis.engine.tree import MergeTree
from tamis.errors import WorkerError
from tamis.io.files import InputFile
from tamis.io.splits import Piece, Split

FILE = InputFile("/in/d.jsonl", "d.jsonl", 100, "", "jsonl")


def splits(number: int) -> list[Split]:
    return [Split(i, (Piece(FILE, 10 * i, 10 * i + 10, 10, whole=False),)) for i in range(number)]


def shown(errand: Errand, records: int) -> set[int]:
    """The records of a split that an errand shows to the stages."""
    if errand.unread or errand.kind == "count":
        return set()
    start, end = errand.only or (0, records)
    return {i for i in range(start, end) if not any(a <= i < b for a, b in errand.skip)}


def run(handout: HandOut, records: int, kills, *, most: int = 10_000) -> dict[int, Errand]:
    """Run every errand in one thread; ``kills(split, records shown, errand)`` says whether its worker dies."""
    finished: dict[int, Errand] = {}
    for _ in range(most):
        errand = handout.next()
        if errand is None:
            assert handout.over
            return finished
        if kills(errand.split.index, shown(errand, records), errand):
            handout.died(errand, "killed")
        elif handout.done(errand, SplitResult(errand.split.index, Tally(records=records))) is not None:
            finished[errand.split.index] = errand
    raise AssertionError("no end")


def skipped(errand: Errand) -> set[int]:
    return {i for start, end in errand.skip for i in range(start, end)}


@given(st.integers(1, 300), st.sets(st.integers(0, 299), max_size=4))
def test_exactly_the_documents_that_kill_are_set_aside(records, killers):
    killers = {k for k in killers if k < records}
    handout = HandOut(splits(3))
    finished = run(handout, records, lambda split, shown, _: split == 1 and bool(shown & killers))
    assert set(finished) == {0, 1, 2}
    assert skipped(finished[1]) == killers
    assert finished[0].skip == finished[2].skip == ()
    assert all(d.split == 1 for d in handout.deaths)
    if killers:
        assert finished[1].cause == "killed"
        assert 3 <= len(handout.deaths) <= 3 + len(killers) * 2 * 10


def test_two_deaths_by_accident_cost_nothing():
    handout = HandOut(splits(2))
    finished = run(handout, 5, lambda split, shown, _: split == 0 and len(handout.deaths) < 2)
    assert finished[0] == Errand(splits(1)[0], "0")
    assert len(handout.deaths) == 2


def test_what_kills_by_accident_three_times_is_not_held_against_a_document():
    handout = HandOut(splits(2))
    finished = run(handout, 50, lambda split, shown, errand: split == 0 and len(handout.deaths) < 3)
    assert finished[0].skip == ()


def test_documents_that_kill_together_only_are_all_set_aside():
    handout = HandOut(splits(2))
    finished = run(handout, 16, lambda split, shown, _: split == 0 and {3, 12} <= shown)
    assert skipped(finished[0]) == set(range(16))


def test_when_too_many_kill_what_is_still_suspected_goes_with_them():
    killers = set(range(0, 1000, 7))
    handout = HandOut(splits(2))
    finished = run(handout, 1000, lambda split, shown, _: split == 0 and bool(shown & killers))
    assert killers <= skipped(finished[0])
    assert len(handout.deaths) <= 3 + 64


def test_a_split_that_cannot_even_be_read_is_set_aside_unread():
    handout = HandOut(splits(2))
    finished = run(handout, 9, lambda split, shown, e: split == 0 and not e.unread and e.only != (0, 0))
    assert finished[0].unread


def test_a_stage_that_dies_before_it_sees_a_document_ends_the_run():
    with pytest.raises(WorkerError, match=r"killed, before it was shown a document; .* \(number 0, /in/d"):
        run(HandOut(splits(2)), 9, lambda *_: True)


def test_a_stage_that_kills_on_every_split_ends_the_run_soon():
    handout = HandOut(splits(100))

    def three_at_a_time():
        while True:
            for errand in [handout.next() for _ in range(3)]:
                handout.died(errand, "killed")

    with pytest.raises(WorkerError, match=r"killed, 3 times on each of the first 3 splits"):
        three_at_a_time()
    assert len(handout.deaths) == 9


def test_a_machine_that_goes_away_is_held_against_nobody_for_a_while():
    handout = HandOut(splits(1))
    for _ in range(19):
        handout.died(handout.next(), "the node went away", where="10.0.0.7", blame=False)
    with pytest.raises(WorkerError, match="20 times on the same split"):
        handout.died(handout.next(), "the node went away", blame=False)
    assert handout.deaths[0].where == "10.0.0.7"


def test_whoever_waits_is_woken_by_a_death():
    handout = HandOut(splits(1))
    first = handout.next()
    got = []
    waiter = threading.Thread(target=lambda: got.append(handout.take()))
    waiter.start()
    handout.died(first, "killed")
    waiter.join(10)
    assert got == [first]


@pytest.mark.parametrize("end", [HandOut.close, lambda h: h.done(Errand(splits(1)[0]), SplitResult(0, Tally()))])
def test_whoever_waits_is_sent_home_at_the_end(end):
    handout = HandOut(splits(1))
    handout.next()
    got = []
    waiter = threading.Thread(target=lambda: got.append(handout.take()))
    waiter.start()
    end(handout)
    waiter.join(10)
    assert got == [None]


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_states_merge_in_one_shape_whatever_order_they_come_in(leaves, random):
    def merged(order):
        tree = MergeTree(leaves, lambda left, right: (left, right))
        for index in order:
            tree.add(index, index)
        return tree.root

    order = list(range(leaves))
    random.shuffle(order)
    assert merged(order) == merged(range(leaves))
    text = str(merged(order))
    assert [int(n) for n in "".join(c if c.isdigit() else " " for c in text).split()] == list(range(leaves))


def test_few_states_wait_where_splits_finish_in_order():
    held = []
    tree = MergeTree(1000, lambda left, right: left + right)
    for index in range(1000):
        tree.add(index, 1)
        held.append(len(tree._held))
    assert tree.root == 1000
    assert max(held) <= 10
