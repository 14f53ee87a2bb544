"""What is counted in one walk, beside plain Python that counts it one by one."""

import re
import string
import unicodedata
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.text.characters import flags
from tamis.text.kept import kept_for
from tamis.text.ngrams import top_ngram_share
from tamis.text.repetition import LONGEST, SHORTEST, repetition, top_share
from tamis.text.surface import MEASURES, surface
from tamis.text.words import count_words

_PIECES = (
    *(
        "word",
        "a",
        "B7",
        "...",
        "…",
        "-",
        "- ",
        "* ",
        "• ",
        "\n",
        "\n\n",
        " ",
        "\t",
        "\r\n",
        "{",
        "}",
        "(",
        "]",
        "#",
        "##",
    ),
    *(
        "https://a.org/b?c=d",
        "HTTP://X.Y",
        "http://",
        "é",
        "ß",
        "日",
        "本",
        "ไทย",
        "١",
        "。",
        "?",
        '"',
        "”",
        "\x85",
        "\u3000",
    ),
    *("😀", "\U00020000", "\x00", "x" * 31, "x" * 30, "\u0301", "the"),
)
texts_of = st.one_of(st.text(), st.lists(st.sampled_from(_PIECES), max_size=30).map("".join))


def column(*texts):
    return pa.array(texts, pa.large_string())


def is_ended(line):
    return bool(flags()[ord(line[-1])] & 64) if ord(line[-1]) < 0x20000 else False


def is_bulleted(line):
    if ord(line[0]) >= 0x20000 or not flags()[ord(line[0])] & 128:
        return False
    return line[0] not in "-*–" or (len(line) > 1 and line[1].isspace())


def slowly(text):
    """The measures that plain Python can say in a line."""
    lines = text.split("\n") if text else []
    filled = [line.strip() for line in lines if line.strip()]
    addresses = re.findall(r"(?i)https?://[!#-;=?-\[\]_a-z~]+", text, re.ASCII)
    return {
        "characters": len(text),
        "white": sum(c.isspace() for c in text),
        "letters": sum(c.isalpha() for c in text),
        "digits": sum(c.isdigit() for c in text),
        "capitals": sum(c.isupper() for c in text),
        "allowed": sum(
            c.isalpha() or c.isdigit() or c in "\n?!,.\u200c\u200d" or unicodedata.category(c)[0] == "M" for c in text
        ),
        "brackets": sum(c in "()[]{}⟨⟩" for c in text),
        "hashes": text.count("#"),
        "braces": text.count("{") + text.count("}"),
        "ellipses": text.count("...") + text.count("…"),
        "lines": len(lines),
        "filled_lines": len(filled),
        "bulleted_lines": sum(map(is_bulleted, filled)),
        "ellipsis_lines": sum(line.endswith(("...", "…")) for line in filled),
        "ended_lines": sum(map(is_ended, filled)),
        "short_lines": sum(len(line) <= 30 for line in filled),
        "line_feeds": text.count("\n"),
        "url_characters": sum(map(len, addresses)),
    }


def known(text):
    """Characters that Python's tables and ours both know: letters above U+20000 are told by their block."""
    return all(ord(c) < 0x20000 for c in text)


@given(st.lists(texts_of.filter(known), max_size=5))
def test_every_measure_is_what_plain_python_counts(texts):
    found = surface(column(*texts))
    for row, text in enumerate(texts):
        for name, value in slowly(text).items():
            assert found[name][row] == value, (name, text)


long_texts = st.lists(st.sampled_from(_PIECES), min_size=40, max_size=200).map("".join).filter(known)


@given(st.lists(long_texts, min_size=1, max_size=3), st.integers(0, 70), st.sampled_from(["auto", "en"]))
def test_blocks_of_64_bytes_count_what_single_characters_do(texts, shift, lang):
    # Behind the texts there is room for whole blocks, and in the second column there is none.
    padded = column("x" * shift, *texts, " " * 64)
    found, alone = surface(padded, lang), surface(column(texts[-1]), lang)
    for row, text in enumerate(texts):
        for name, value in slowly(text).items():
            assert found[name][1 + row] == value, (name, text)
    assert {n: v[-2] for n, v in found.items()} == {n: v[0] for n, v in alone.items()}


@pytest.mark.parametrize("length", [1, 3, 63, 64, 65, 127, 128, 129, 200])
def test_words_that_cross_blocks(length):
    texts = [
        "7" * length + "a b" + " " * 130,
        "a" * length + " b",
        "." * length,
        " " * length + "1a",
        "-" * length + " a",
    ]
    found = surface(column(*texts, "x" * 64))
    for row, text in enumerate(texts):
        words = text.split()
        assert found["words"][row] == len(words)
        assert found["lettered_words"][row] == sum(any(c.isalpha() for c in w) for w in words)
        assert found["longest_word"][row] == max(map(len, words))
        assert found["ellipses"][row] == text.count("...")


@given(st.lists(texts_of, max_size=5), st.sampled_from(["auto", "en", "zh"]))
def test_words_are_those_of_count_words(texts, lang):
    found = surface(column(*texts), lang)
    assert found["words"].tolist() == count_words(column(*texts), lang).tolist()


@given(st.lists(st.text(alphabet=string.printable + "éÀß١ñ"), max_size=5))
def test_words_by_their_letters_and_length_where_spaces_divide(texts):
    found = surface(column(*texts))
    for row, text in enumerate(texts):
        words = text.split()
        assert found["lettered_words"][row] == sum(any(c.isalpha() for c in w) for w in words)
        assert found["longest_word"][row] == max(map(len, words), default=0)


def test_a_letter_above_the_table_is_a_han_letter():
    found = surface(column("\U00020000\U00031350 \U000e0041"))
    assert (found["letters"][0], found["words"][0]) == (2, 3)


def test_more_than_255_characters_of_a_kind():
    found = surface(column("#" * 1000, "7" * 256, " " * 511))
    assert found["hashes"].tolist() == [1000, 0, 0]
    assert found["digits"].tolist() == [0, 256, 0]
    assert found["white"].tolist() == [0, 0, 511]


def test_null_and_empty_texts_have_nothing():
    for measures in (surface(column(None, "")), repetition(column(None, ""))):
        assert {name: values.tolist() for name, values in measures.items() if any(values)} == {}
    assert list(surface(column())) == list(MEASURES)


# -- repetition ----------------------------------------------------------------------------------------------


def ngrams_slowly(text, n):
    """(characters of the most frequent n-gram, characters of n-grams that occurred before)."""
    words = text.split()
    grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    often = Counter(grams)
    best = max(often.values(), default=0)
    top = 0
    if best > 1:
        for gram, count in often.items():
            if count == best:
                inside = {k for i, g in enumerate(grams) if g == gram for k in range(i, i + n)}
                top = max(top, sum(len(words[k]) for k in inside))
    seen, again = set(), set()
    for i, gram in enumerate(grams):
        if gram in seen:
            again.update(range(i, i + n))
        seen.add(gram)
    return top, sum(len(words[k]) for k in again)


def lines_slowly(text):
    lines = [line.strip() for line in text.split("\n")]
    paragraphs, current = [], []
    for line in [*lines, ""]:
        if line:
            current.append(line)
        elif current:
            paragraphs.append(tuple(current))
            current = []
    filled = [line for line in lines if line]

    def again(things):
        seen = set()
        return [thing for thing in things if thing in seen or seen.add(thing)]

    return {
        "lines": len(filled),
        "repeated_lines": len(again(filled)),
        "line_characters": sum(map(len, filled)),
        "repeated_line_characters": sum(map(len, again(filled))),
        "paragraphs": len(paragraphs),
        "repeated_paragraphs": len(again(paragraphs)),
        "paragraph_characters": sum(len(line) for p in paragraphs for line in p),
        "repeated_paragraph_characters": sum(len(line) for p in again(paragraphs) for line in p),
        "word_characters": sum(map(len, text.split())),
    }


few_words = st.lists(st.sampled_from(["a", "bb", "ccc", "é", "\n", "\n\n", "d\n"]), max_size=60).map(" ".join)


@given(st.lists(st.one_of(few_words, st.text(alphabet="ab \n")), min_size=1, max_size=4))
def test_what_repeats_is_what_plain_python_finds(texts):
    found = repetition(column(*texts, " " * 64), "en")
    for row, text in enumerate(texts):
        for name, value in lines_slowly(text).items():
            assert found[name][row] == value, (name, text)
        for n in range(SHORTEST, LONGEST + 1):
            assert (found[f"top_{n}"][row], found[f"duplicate_{n}"][row]) == ngrams_slowly(text, n), (n, text)


@given(st.lists(st.one_of(few_words, texts_of), max_size=4), st.integers(1, 12))
def test_the_walk_over_all_lengths_finds_what_the_walk_over_one_finds(texts, n):
    alone = top_ngram_share(column(*texts), n).tolist()
    together = column(*texts)
    assert top_share(together, n).tolist() == alone
    repetition(together)
    assert top_share(together, n).tolist() == alone


@given(st.lists(texts_of, max_size=6))
def test_a_text_is_measured_alike_in_any_company(texts):
    together, apart = column(*texts), [column(t) for t in texts]
    for measure in (surface, repetition):
        found = measure(together)
        for row, alone in enumerate(apart):
            assert {n: v[row] for n, v in found.items()} == {n: v[0] for n, v in measure(alone).items()}


def test_many_texts_share_one_hash_table():
    text = "a b a b c d\n" * 50
    found = repetition(column(*[text] * 3, "x y", *[text] * 3))
    assert len({int(v) for v in found["duplicate_4"][[0, 1, 2, 4, 5, 6]]}) == 1
    assert found["duplicate_2"][3] == 0


# -- found once ----------------------------------------------------------------------------------------------


def test_what_was_found_for_an_array_is_kept_until_another_is_asked_about():
    calls = []

    def ask(texts):
        return kept_for(texts, ("test",), lambda: calls.append(1))

    texts = column("a", "b", "c")
    ask(texts)
    ask(texts)
    ask(texts.slice(0, 3))
    assert len(calls) == 1
    ask(texts.slice(1))
    assert len(calls) == 2
    ask(column("a", "b", "c"))
    assert len(calls) == 3


def test_other_offsets_over_the_same_memory_are_another_array():
    _, offsets, data = column("ab", "c").buffers()
    moved = pa.py_buffer(
        memoryview(bytearray(offsets.to_pybytes()[:8] + (1).to_bytes(8, "little") + offsets.to_pybytes()[16:24]))
    )
    other = pa.LargeStringArray.from_buffers(2, moved, data)
    assert surface(pa.LargeStringArray.from_buffers(2, offsets, data))["characters"].tolist() == [2, 1]
    assert surface(other)["characters"].tolist() == [1, 2]


@pytest.mark.parametrize("text", ["\ud7ff" * 3, "a" * 9 + "\n", "\n" * 40, "...." * 9])
def test_ends_of_memory(text):
    assert surface(column(text))["characters"][0] == len(text)
    assert repetition(column(text))["word_characters"][0] == len("".join(text.split()))
