"""Tallies add up, and the sum is held."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.engine.tally import Tally
from tamis.errors import StageError
from tamis.meter import Measures

counts = st.integers(0, 10**12)
tallies = st.builds(
    Tally,
    records=counts,
    kept=counts,
    bytes_in=counts,
    bytes_out=counts,
    lines=counts,
    rejected=st.dictionaries(st.tuples(st.text(max_size=3), st.text(max_size=3)), st.integers(1, 99)).map(Counter),
    changed=st.dictionaries(st.text(max_size=3), st.integers(1, 99)).map(Counter),
    quarantined=st.dictionaries(st.text(max_size=3), st.integers(1, 99)).map(Counter),
    measures=st.dictionaries(st.tuples(st.text(max_size=3), st.text(max_size=3)), counts).map(Measures),
)


@given(tallies, tallies, tallies)
def test_any_order_of_adding(a, b, c):
    assert (a + b) + c == a + (b + c) == c + (b + a)


@given(tallies)
def test_json_round_trip(tally):
    assert Tally.from_json(tally.to_json()) == tally


def test_what_was_measured_in_floats_adds_up_and_stays_here():
    one = Tally(measures=Measures({("m", "tokens"): 3, ("m", "seconds"): 0.5}))
    both = one + one
    assert both.measures == {("m", "tokens"): 6, ("m", "seconds"): 1.0}
    assert Tally.from_json(both.to_json()).measures == {("m", "tokens"): 6}
    assert "measures" not in Tally(measures=Measures({("m", "seconds"): 2.0})).to_json()


def test_a_lost_record_is_noticed():
    good = Tally(records=4, kept=1, rejected=Counter({("f", "short"): 2}), quarantined=Counter({"not JSON": 1}))
    good.check("here")
    with pytest.raises(StageError, match="5 records came in, but 1 kept"):
        Tally(records=5, kept=1, rejected=good.rejected, quarantined=good.quarantined).check("here")


def test_bad_share():
    assert Tally().bad_share == 0
    assert Tally(records=4, quarantined=Counter(a=1)).bad_share == 0.25
