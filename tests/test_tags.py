"""Tags in the forms that data sets write them in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.tags import completion_tags, format_tags, parse_tags

CASES = {
    "<a><b>": ("a", "b"),
    " <a> <b>\n": ("a", "b"),
    "<c++><c#>": ("c++", "c#"),
    "|a|b|": ("a", "b"),
    "a|b": ("a", "b"),
    "a, b": ("a", "b"),
    "contract law, torts": ("contract law", "torts"),
    "a,,b,": ("a", "b"),
    "a b": ("a", "b"),
    "contract law": ("contract", "law"),
    "one": ("one",),
    '["a", "b"]': ("a", "b"),
    '["contract law"]': ("contract law",),
    "['a', 'contract law']": ("a", "contract law"),
    "[]": (),
    '["a", null, 3]': ("a", "3"),
    "b a b": ("b", "a"),
    "": (),
    "  ": (),
    "<>": (),
}


@pytest.mark.parametrize("text", CASES)
def test_every_form_is_understood(text):
    assert parse_tags(text) == CASES[text]


def test_lists_and_nothing_are_understood():
    assert parse_tags(None) == ()
    assert parse_tags([]) == ()
    assert parse_tags([" b ", "a", "b", "", None]) == ("b", "a")
    assert parse_tags(("contract law",)) == ("contract law",)


TAG = st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"]), min_size=1).filter(
    lambda tag: tag == tag.strip() != ""
)


@given(st.lists(TAG, unique=True))
def test_a_completion_is_read_as_it_was_written(tags):
    assert completion_tags(format_tags(tags)) == tuple(tags)


WORD = st.from_regex(r"[a-z0-9+#.-]{1,20}", fullmatch=True)


@given(st.lists(WORD, unique=True))
def test_tags_of_one_word_are_the_same_in_every_form(tags):
    expected = tuple(tags)
    assert parse_tags("".join(f"<{tag}>" for tag in tags)) == expected
    assert parse_tags("|" + "|".join(tags) + "|") == expected
    assert parse_tags(format_tags(tags)) == expected
    assert parse_tags(" ".join(tags)) == expected
    assert parse_tags(str(tags)) == expected
