"""Stable hashes and seeded noise."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tamis.hashing import document_id, gumbel, hash64, uniform


def test_ids_are_the_same_for_ever():
    # Pinned: a change would move every document to another part of every split ever made.
    assert document_id("tamis") == "173241142b20864846b6469182873dd5"
    assert uniform(["a"], 1).tolist() == [0.8240785955997283]
    assert document_id(None) == document_id("") == "99aa06d3014798d86001c324468d497f"


@given(st.lists(st.text(), max_size=20), st.integers(0, 2**64))
def test_noise_ignores_order_and_company(ids, seed):
    together = uniform(ids, seed)
    assert ((together >= 0) & (together < 1)).all()
    assert together.tolist() == [float(uniform([i], seed)[0]) for i in ids]


def test_noise_is_uniform_and_gumbel_has_its_moments():
    ids = [str(i) for i in range(100_000)]
    u = uniform(ids, 3)
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    assert abs(counts - 5000).max() < 5 * np.sqrt(5000)
    g = gumbel(ids, 3)
    assert np.isfinite(g).all()
    assert abs(g.mean() - 0.5772) < 0.02
    assert abs(g.var() - np.pi**2 / 6) < 0.05


def test_seeds_are_independent():
    ids = [str(i) for i in range(10_000)]
    assert abs(np.corrcoef(uniform(ids, 0), uniform(ids, 1))[0, 1]) < 0.05


def test_integers_and_their_text_are_one_id():
    assert hash64([7, None]).tolist() == hash64(["7", ""]).tolist()


def test_independent_of_the_hash_seed():
    code = "from tamis.hashing import uniform; print(uniform(['a', 'b'], 5).tolist())"
    outs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outs) == 1
