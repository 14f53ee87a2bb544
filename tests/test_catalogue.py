"""The catalogue of heuristic filters: what each says about texts that were written for it, and the rule sets."""

import pyarrow as pa
import pytest

from tamis import DocumentDataset, ScoreFilter, filters
from tamis.errors import MissingExtraError, UnknownNameError, UsageError
from tamis.filters.bounded import BoundedFilter
from tamis.recipe import STAGES, load_recipe

PROSE = "The cat sat with the dog, and that was to be the end of it.\n"

# filter, texts, scores, what is said of each
CASES = [
    (filters.MeanWordLengthFilter(3, 10), ["abc defg", "a b", "x" * 11, ""], [3.5, 1, 11, 0], ".+++"),
    (filters.LongWordFilter(5), ["a bbbbb", "cccccc", ""], [5, 6, 0], ".+."),
    (filters.SymbolsToWordsFilter(0.5), ["# a", "## a", "a… b", "... x", ""], [0.5, 1, 0.5, 0.5, 0], ".+..."),
    (filters.WordsWithoutAlphabetsFilter(0.8), ["a b c d 1", "a 1", "да 5 нет", ""], [0.8, 0.5, 2 / 3, 0], ".+++"),
    (filters.NonAlphaNumericFilter(0.25), ["abc.", "%%ab", "дом %", "\n\n", ""], [0, 0.5, 0.2, 0, 0], ".+..."),
    (filters.NumbersFilter(0.5), ["a1", "12a", "١٢", ""], [0.5, 2 / 3, 1, 0], ".++."),
    (filters.UrlsFilter(0.5), ["see https://a.b", "https://a.b x", ""], [11 / 15, 11 / 13, 0], "++."),
    (filters.BulletsFilter(0.5), ["- a\nb", "• a\n* b\n\n-5\nc", "-5 degrees", ""], [0.5, 0.5, 0, 0], "...."),
    (filters.EllipsisFilter(0.3), ["a...\nb\nc\nd", "a…", ""], [0.25, 1, 0], ".+."),
    (filters.PunctuationFilter(0.5), ["a.\nb", "a\nb", "终。\n“x.”", "नमस्ते।", ""], [0.5, 1, 0, 0, 0], ".+..."),
    (filters.ShortLinesFilter(0.5), [PROSE * 2, "a\nb\n" + PROSE, ""], [0, 2 / 3, 0], ".+."),
    (filters.NewLinesToWordsFilter(0.5), ["a b\nc", "a\nb\n", ""], [1 / 3, 1, 0], ".+."),
    (filters.WhiteSpaceFilter(0.25), ["abc d", "a b c", ""], [0.2, 0.4, 0], ".+."),
    (filters.ParenthesesFilter(0.25), ["f(x)", "abcdefg()", ""], [0.5, 2 / 9, 0], "+.."),
    (filters.RepeatedLinesFilter(0.7), ["a\nb\n\n\nc", "a\n a\nb", ""], [1, 2 / 3, 1], ".+."),
    (filters.RepeatedParagraphsFilter(0.7), ["a\nb\n\na\nb", "a\n\nb\na", ""], [0.5, 1, 1], "+.."),
    (filters.RepeatedLinesByCharFilter(0.8), ["a long one\nab\nab", "ab\nab", ""], [12 / 14, 0.5, 1], ".+."),
    (filters.RepeatedParagraphsByCharFilter(0.8), ["abcd\n\nx\n\nx", "ab\n\nab", ""], [5 / 6, 0.5, 1], ".+."),
    (filters.RepeatingDuplicateNGramsFilter(2, 0.2), ["a b c d", "a b a b", ""], [0, 0.5, 0], ".+."),
    (filters.CommonWordsFilter("en", 2), ["The cat, AND more", "the the", ""], [2, 1, 0], ".++"),
    (filters.CommonEnglishWordsFilter(), ["to be", "thebe", ""], [2, 0, 0], ".++"),
    (filters.CommonWordsFilter(words=["ja", "nein"], min_num_common_words=1), ["Ja!", "nix", ""], [1, 0, 0], ".++"),
    (filters.BoilerPlateStringFilter(0.4), ["x\n\nOur Privacy Policy\n\ny", "a\n \nuses cookies", "Lorem ipsum!", ""],
     [1 / 3, 0.5, 1, 0], ".++."),
    (filters.SubstringFilter("cat"), ["a cat", "dog", "", "Cat"], [1, 0, 0, 0], ".+++"),
    (filters.SubstringFilter("c", "prefix"), ["cat", "a c", ""], [1, 0, 0], ".++"),
    (filters.SubstringFilter(".*", "suffix"), ["a.*", "a.b", ""], [1, 0, 0], ".++"),
    (filters.PornographicUrlsFilter(), ["HTTPS://x.PORN/a", "porn https://a.b", ""], [1, 0, 0], "+.."),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "texts", "scores", "dropped"), CASES, ids=lambda v: type(v).__name__)
def test_scores_and_decisions(rule, texts, scores, dropped):
    found = rule.score_batch(pa.array([*texts, None], pa.large_string()))
    assert found.type == rule.score_type
    assert found.to_pylist() == pytest.approx([*scores, scores[texts.index("")]])
    said = rule.reasons(found).to_pylist()[: len(texts)]
    assert "".join("." if why is None else "+" for why in said) == dropped
    assert [rule.keep_document(s) for s in found.to_pylist()[: len(texts)]] == [d == "." for d in dropped]


def test_a_reason_names_the_bound_and_the_side():
    rule = filters.MeanWordLengthFilter(3, 10.5)
    assert rule.reasons(pa.array([2.9, 3.0, 10.6, None])).to_pylist() == [
        "its words have fewer than 3 characters on average",
        None,
        "its words have more than 10.5 characters on average",
        None,
    ]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: filters.NumbersFilter(1.5), r"max_number_to_text_ratio must be in \[0, 1\]; got 1.5"),
        (lambda: filters.NumbersFilter(float("nan")), r"must be in \[0, 1\]"),
        (lambda: filters.MeanWordLengthFilter(5, 3), "MeanWordLengthFilter: the bounds 5 and 3 keep nothing"),
        (lambda: filters.SymbolsToWordsFilter(float("nan")), "keep nothing"),
        (lambda: filters.RepeatingDuplicateNGramsFilter(11), "n must be from 2 to 10; got 11"),
        (lambda: filters.CommonWordsFilter("xx"), "there is no language 'xx'"),
        (lambda: filters.CommonWordsFilter("de", 10_000), "min_num_common_words must be from 0 to the"),
        (lambda: filters.CommonWordsFilter(words="the"), "words must be a list"),
        (lambda: filters.CommonWordsFilter(words=["the", " "]), "words that are not blank"),
        (lambda: filters.SubstringFilter("x", "middle"), "there is no position 'middle'"),
        (lambda: filters.SubstringFilter(""), "substring is empty"),
    ],
)
def test_wrong_bounds_are_refused(build, message):
    with pytest.raises((UsageError, UnknownNameError), match=message):
        build()


def test_common_words_of_other_languages():
    texts = pa.array(
        ["Das ist nicht der Hund und die Katze", "the cat and dog", "я не знаю что это", "这是我的书"],
        pa.large_string(),
    )
    german, russian, chinese = (
        filters.CommonWordsFilter(lang).score_batch(texts).to_pylist() for lang in ("de", "ru", "zh")
    )
    assert german[0] >= 5
    assert german[2] == russian[0] == chinese[0] == 0
    assert russian[2] >= 3
    assert chinese[3] >= 2


def test_without_the_package_the_pip_command_is_given(monkeypatch):
    filters.wordlists._stop_words.cache_clear()
    monkeypatch.setattr(filters.wordlists, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tamis\[languages\]'"):
        filters.CommonWordsFilter("fr")
    filters.CommonWordsFilter("en")


# -- rule sets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gopher_quality", "gopher_repetition", "massive_text", "fineweb_quality"])
def test_a_rule_set_is_filters_in_a_row_and_a_stage_of_recipes(name, tmp_path):
    steps = getattr(filters, name)().steps()
    assert all(isinstance(step, ScoreFilter) for step in steps)
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "hello"}\n')
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'[input]\npath = "{source}"\n[[stage]]\nuse = "{name}"\n')
    assert load_recipe(recipe).dataset().plan.steps == tuple(s.on_text_field("text") for s in steps)


def test_rule_sets_keep_prose_and_drop_what_they_are_for():
    other = "A second line says something else, which no other line of this text has said before it."
    prose = "\n".join(f"{PROSE.strip()} {other.replace('second', f'number {i} of several')}" for i in range(3))
    texts = {
        "prose": " ".join(f"{w}{i}" if i % 3 == 0 else w for i, w in enumerate(prose.split())) + ".",
        "short": "too short",
        "list": "\n".join(f"- item number {i} of the list and that" for i in range(30)),
        "same": "the same line with nothing new to say and that is it\n" * 30,
        "no words": "dies ist kein englischer Satz " * 20,
    }
    rows = pa.table({"text": list(texts.values()), "name": list(texts)})
    kept = filters.massive_text()(DocumentDataset.from_arrow(rows)).to_arrow()["name"].to_pylist()
    assert kept == ["prose"]


def test_every_filter_is_a_stage_of_recipes():
    named = {
        n for n in filters.__all__ if n.endswith("Filter") and n not in {"Filter", "ScoreFilter", "DocumentFilter"}
    }
    assert named - {"BoundedFilter"} <= STAGES.keys()
    assert issubclass(filters.NumbersFilter, BoundedFilter)
