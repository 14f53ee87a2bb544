"""C4: which lines stay, how sentences are counted, and the rules for documents."""

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis import DocumentDataset, Modify, ScoreFilter, filters
from tamis.errors import InputError, UsageError
from tamis.modifiers import C4_PHRASES, C4LineRemover
from tamis.recipe import STAGES, load_recipe
from tamis.stage import Sequential
from tamis.text.characters import flags
from tamis.text.phrases import count_phrases
from tamis.text.sentences import count_sentences
from tamis.text.words import count_words

PIECES = (
    "word ",
    "a ",
    " ",
    "\n",
    "\n",
    ".",
    "...",
    "…",
    "!",
    '"',
    "”",
    "[1]",
    "[edit]",
    "[",
    "]",
    "[citation needed]",
)
PIECES += (
    "JavaScript ",
    "Uses Cookies ",
    "terms of use",
    "\t",
    "\r\n",
    "\u00a0",
    "日本語",
    "。",
    "é",
    "x" * 12,
    "K",
    "{",
)
texts_of = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=25).map("".join))


def column(*texts):
    return pa.array(texts, pa.large_string())


def is_ended(line):
    return not line.endswith(("...", "…")) and ord(line[-1]) < 0x20000 and bool(flags()[ord(line[-1])] & 64)


def lower(text):
    return "".join(c.lower() if c.isascii() else c for c in text)


def slowly(text, rules):
    kept = []
    for raw in text.split("\n"):
        line = raw.strip()
        if rules.max_word_length is not None and any(len(w) > rules.max_word_length for w in line.split()):
            continue
        if rules.citations:
            line = re.sub(r"\[[0-9]*\]|\[edit\]|\[citation needed\]", "", line).strip()
        if not line or (rules.terminal_punctuation and not is_ended(line)):
            continue
        if count_words(column(line), rules.lang)[0] < rules.min_words_per_line:
            continue
        if any(phrase in lower(line) for phrase in rules.phrases):
            continue
        kept.append(line)
    return "\n".join(kept)


@given(
    st.lists(texts_of, max_size=4),
    st.builds(
        C4LineRemover,
        st.integers(0, 3),
        terminal_punctuation=st.booleans(),
        max_word_length=st.sampled_from([None, 1, 10, 1000]),
        phrases=st.sampled_from([C4_PHRASES, (), ("rd a", "é", "x")]),
        citations=st.booleans(),
        lang=st.just("en"),
    ),
)
def test_lines_are_those_that_plain_python_keeps(texts, rules):
    assert rules.modify_batch(column(*texts)).to_pylist() == [slowly(text, rules) for text in texts]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("This is one whole line of text.", True),
        ("Four words are few.", False),
        ("This line has no end mark here", False),
        ("This line breaks off right here...", False),
        ("This line breaks off right here…", False),
        ("He said: “this is the end of it.”", True),
        ("Please enable JAVASCRIPT to see this page.", False),
        ("By staying you accept our Terms of Use.", False),
        ("This site uses cookies to make it better.", False),
        ("A word of " + "x" * 1001 + " characters is in here.", False),
        ("A word of " + "x" * 999 + " characters is in here.", True),
        ("这是一个完整的中文句子。", True),
        ("यह हिन्दी का एक वाक्य है।", True),
    ],
)
def test_which_lines_stay(text, kept):
    assert C4LineRemover().modify_batch(column(text)).to_pylist() == [text if kept else ""]


def test_citation_marks_go_from_lines_that_stay():
    text = "A claim that needs a source. [12]\nAnother[edit] claim has[3][] a source[citation needed].  "
    assert C4LineRemover().modify_batch(column(text)).to_pylist() == [
        "A claim that needs a source.\nAnother claim has a source."
    ]
    assert "[12]" in C4LineRemover(citations=False, terminal_punctuation=False).modify_batch(column(text))[0].as_py()


def test_texts_of_which_nothing_goes_are_the_same_array():
    texts = column("This is one whole line of text.\nAnd this is the next one of them.", "", None)
    assert C4LineRemover().modify_batch(texts) is texts
    changed = C4LineRemover().modify_batch(column(None, "menu", "This is one whole line of text.\n"))
    assert changed.to_pylist() == [None, "", "This is one whole line of text."]
    sliced = column("menu", "This is one whole line of text.", "menu").slice(1, 1)
    assert C4LineRemover().modify_batch(sliced).to_pylist() == ["This is one whole line of text."]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_words_per_line": -1}, "min_words_per_line must be 0 or more; got -1"),
        ({"max_word_length": 0}, "max_word_length must be 1 or more, or None; got 0"),
        ({"phrases": "javascript"}, "phrases must be a list of at most 64 texts"),
        ({"phrases": [""]}, "that are not empty"),
        ({"phrases": ["x"] * 65}, "at most 64 texts"),
        ({"lang": "xx"}, "there is no language 'xx'"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        C4LineRemover(**options)


# -- phrases and sentences -----------------------------------------------------------------------------------


@given(
    st.lists(st.text("aAbB c", max_size=20)), st.lists(st.text("abc ", min_size=1, max_size=3), min_size=1, max_size=5)
)
def test_a_phrase_is_found_where_plain_python_finds_it(texts, phrases):
    found = count_phrases(column(*texts), phrases)
    assert [n > 0 for n in found] == [any(p in text.lower() for p in phrases) for text in texts]
    one = count_phrases(column(*texts), phrases[:1])
    assert [n > 0 for n in one] == [phrases[0] in text.lower() for text in texts]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", 0),
        (None, 0),
        (" \n\n ", 0),
        ("No mark at all", 1),
        ("One. Two! Three? Four", 4),
        ("One.Two", 1),
        ("It costs 3.50 at example.org.", 1),
        ("Dr. Smith met J. R. Jones. They talked, e.g. about cats.", 2),
        ("That is all of it, etc. And then more.", 2),
        ("It succeeded. one is left (i.e. the last).", 2),
        ("a line\nanother line\n\n", 2),
        ('He said "stop." Then he left (alone). So.', 3),
        ("Really?! Yes... no", 3),
        ("你好。再见！走吗？", 3),
        ("यह एक है। यह दो है।", 2),
        ("*** --- ...", 0),
        ("First.   \n  Second.", 2),
        ("I. II. III. are numbers", 2),
    ],
)  # fmt: skip
def test_sentences_are_counted(text, sentences):
    assert count_sentences(column(text)).tolist() == [sentences]


@given(st.lists(texts_of, max_size=4))
def test_sentences_of_lines_add_up(texts):
    whole = count_sentences(column(*texts))
    for n, text in zip(whole, texts, strict=True):
        assert n == sum(count_sentences(column(*text.split("\n"))))
        assert n <= len(text)


# -- rules for documents -------------------------------------------------------------------------------------

CASES = [
    (filters.SentenceCountFilter(2, 3), ["One.", "One. Two.", "A. b. C! D! E! F!", ""], [1, 2, 5, 0], "+.++"),
    (filters.CurlyBracketsFilter(), ["a {b}", "a }", "", "{{"], [1, 0, 0, 2], "+..+"),
    (filters.LoremIpsumFilter(), ["Lorem IPSUM dolor", "lorem  ipsum", ""], [1, 0, 0], "+.."),
    (filters.BadWordsFilter(words=["bad", "very  rude", "a$$", "☠"]), ["Bad, bad!", "badly", "so a$$, ☠", "VERY  rude.",
     ""], [1, 0, 2, 1, 0], "+.++."),
    (filters.BadWordsFilter(words=["坏"], lang="zh"), ["这很坏吗", "好", ""], [1, 0, 0], "+.."),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "texts", "scores", "dropped"), CASES, ids=lambda v: type(v).__name__)
def test_scores_and_decisions(rule, texts, scores, dropped):
    found = rule.score_batch(column(*texts, None))
    assert found.type == rule.score_type
    assert found.to_pylist() == [*scores, scores[texts.index("")]]
    said = rule.reasons(found).to_pylist()[: len(texts)]
    assert "".join("." if why is None else "+" for why in said) == dropped


def test_bad_words_come_from_a_file_whose_hash_the_run_is_known_by(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("# a list\n\nbad\n  very rude \n")
    rule = filters.BadWordsFilter(str(path), words=["worse"])
    assert rule.score_batch(column("bad and worse", "not very, rude", "very rude")).to_pylist() == [2, 0, 1]
    before = rule.identity()
    path.write_text("other\n")
    assert rule.score_batch(column("bad", "Other.")).to_pylist() == [0, 1]
    assert list(before) == [str(path)]
    assert rule.identity() != before
    path.with_name("latin.txt").write_bytes(b"b\xe4d\n")
    with pytest.raises(InputError, match=r"latin.txt is not UTF-8 \(byte 1\)"):
        filters.BadWordsFilter(str(path.with_name("latin.txt"))).score_document("x")
    with pytest.raises(UsageError, match=r"BadWordsFilter: there is no file .*word.txt'. Did you mean 'words.txt'"):
        filters.BadWordsFilter(str(tmp_path / "word.txt"))
    with pytest.raises(UsageError, match="there are no words"):
        filters.BadWordsFilter()
    with pytest.raises(UsageError, match="words must be a list"):
        filters.BadWordsFilter(words="bad")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: filters.SentenceCountFilter(-1), "min_sentences must be 0 or more; got -1"),
        (lambda: filters.SentenceCountFilter(3, 2), "min_sentences must be at most max_sentences; got 3 and 2"),
        (lambda: filters.CurlyBracketsFilter(-1), "max_curly_brackets must be 0 or more"),
        (lambda: filters.LoremIpsumFilter(-2), "max_lorem_ipsum must be 0 or more; got -2"),
    ],
)
def test_wrong_bounds_are_refused(build, message):
    with pytest.raises(UsageError, match=message):
        build()


def test_the_bundle_changes_lines_and_then_judges_documents(tmp_path):
    good = "This is the first good line here.\nHome | About\nHere is another line to be kept. It has two sentences."
    words = tmp_path / "bad.txt"
    words.write_text("nasty\n")
    rows = {
        "good": good,
        "few": "This is the only good line here.",
        "code": good + "\nfor { x } in y and so on it goes.",
        "code in a line that goes": good + "\n{ }",
        "lorem": good + "\nLorem ipsum dolor sit amet, and so on.",
        "bad": good + "\nThis is quite a Nasty thing to say.",
    }
    steps = filters.c4_quality(str(words))
    assert isinstance(steps, Sequential)
    assert [type(step) for step in steps.steps()] == [Modify, ScoreFilter, ScoreFilter, ScoreFilter, ScoreFilter]
    table = pa.table({"name": list(rows), "text": list(rows.values())})
    kept = steps(DocumentDataset.from_arrow(table)).to_arrow()
    assert kept["name"].to_pylist() == ["good", "code in a line that goes"]
    assert "Home" not in kept["text"][0].as_py()
    loose = filters.c4_quality("", "en", 3, 1, terminal_punctuation=False)(DocumentDataset.from_arrow(table)).to_arrow()
    assert loose["name"].to_pylist() == ["good", "few", "code in a line that goes", "bad"]


def test_the_bundle_is_a_stage_of_recipes(tmp_path):
    source, recipe = tmp_path / "in.jsonl", tmp_path / "recipe.toml"
    source.write_text('{"text": "hello"}\n')
    recipe.write_text(f'[input]\npath = "{source}"\n[[stage]]\nuse = "c4_quality"\nmin_sentences = 5\n')
    steps = load_recipe(recipe).dataset().plan.steps
    assert steps == tuple(s.on_text_field("text") for s in filters.c4_quality(min_sentences=5).steps())
    assert {"c4_quality", "C4LineRemover", "SentenceCountFilter", "BadWordsFilter"} <= STAGES.keys()


def test_fineweb_is_all_of_its_rules_in_order():
    steps = filters.fineweb().steps()
    parts = (filters.gopher_repetition(), filters.gopher_quality(), filters.fineweb_quality())
    repetition, quality, own = (part.steps() for part in parts)
    assert steps[: len(repetition)] == repetition
    assert steps[len(repetition) :][: len(quality)] == quality
    lines, *rules = steps[len(repetition) + len(quality) : -len(own)]
    assert lines == Modify(C4LineRemover(3, terminal_punctuation=False))
    assert rules[-1] == ScoreFilter(filters.SentenceCountFilter(5))
    assert steps[-len(own) :] == own
    assert "fineweb" in STAGES
