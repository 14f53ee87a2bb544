"""Counting the words of a set, beside plain Python."""

import re

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tamis.text.wordset import count_distinct

WORDS = ("the", "be", "of", "und", "für", "не", "ως", "σας", "i̇", "a" * 70)
pieces = st.sampled_from(
    (*WORDS, "The", "OF", "FÜR", "НЕ", "ΩΣ", "İ", ".", ",", " ", "\n", "-", "thee", "x", "日", "_", "é" * 40)
)


def column(*texts):
    return pa.array(texts, pa.large_string())


@given(
    st.lists(
        st.one_of(st.text(), st.lists(pieces, max_size=40).map("".join), st.lists(pieces).map(" ".join)), max_size=4
    )
)
def test_distinct_words_are_those_that_a_regular_expression_finds(texts):
    found = count_distinct(column(*texts), WORDS)
    assert found.tolist() == [len(set(WORDS) & set(re.findall(r"\w+", t.lower()))) for t in texts]


def test_null_and_empty_texts_have_none():
    assert count_distinct(column(None, "", "the"), ["the"]).tolist() == [0, 0, 1]
    assert count_distinct(column("the"), []).tolist() == [0]


def test_a_word_at_every_place_of_a_block():
    texts = [" " * n + "the" for n in range(140)] + ["." * n + "of the." for n in range(140)]
    assert count_distinct(column(*texts), WORDS).tolist() == [1] * 140 + [2] * 140
