"""The text kernels against plain Python that says the same thing slowly."""

from __future__ import annotations

import unicodedata
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tamis.errors import UnknownNameError
from tamis.text.line_ends import line_ends
from tamis.text.ngrams import top_ngram_share
from tamis.text.plain import is_plain
from tamis.text.words import LANGUAGES, UNSPACED, classes_for, count_words

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
# Few symbols, so that words repeat, and every kind of boundary is next to every other.
SCRIPTS = st.text(
    st.sampled_from(
        list("aab. \n\t\x00\x1c\x1f\x7f")
        + list("é\u0301\u00a0\u0085\u3000\u2009\u200b\u200d\ufe0f")
        + list("今天あがｶ\uff9e\u3099ไทย\u0e31\u0e48\u1000\u103c\u0f40\u0f72한א\u05b0न\u094dع\u064b")
        + list("𠮷𪚥\U0001b001\U000e0100😀👍🏽")
    ),
    max_size=60,
)
# One symbol short of, at and past the eight bytes that the kernels load at once.
ASCII = st.text(st.sampled_from("abc \n\x0b\x1d\x00~"), max_size=40)
# Words and gaps of any place within the blocks of 64 bytes that are walked at once; with and without other letters.
PIECES = ["a", "b", "of ", " ", "\n", "\x1f", "\x00", "x" * 7, "x" * 8, "x" * 9, "y" * 31, "y" * 63, "z" * 64, " " * 61]
BLOCKS = st.lists(st.sampled_from(PIECES), max_size=50).map("".join)
LATIN = st.lists(st.sampled_from([*PIECES, "é", "ñandú ", "да", "😀"]), max_size=50).map("".join)
TEXTS = st.one_of(ANY, SCRIPTS, ASCII, BLOCKS, LATIN)
FEW_WORDS = st.lists(
    st.sampled_from(["a", "b", "c", "aa", "longer-than-eight", "é", "今", "ท\u0e31", "\x00"]), max_size=40
)

UNSPACED_BLOCKS = (
    *((0x0E01, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17D3), (0x1950, 0x19DF), (0x1A20, 0x1AAF)),
    *((0x1B00, 0x1B4B), (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3021, 0x3029), (0x3041, 0x30FF), (0x3105, 0x312F)),
    *((0x31A0, 0x31BF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA980, 0xA9C0), (0xAA60, 0xAADF)),
    *((0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3FFFF), (0x1AFF0, 0x1B16F)),
)


def large(texts):
    return pa.array(texts, pa.large_string())


def stands_alone(c):
    return any(first <= ord(c) <= last for first, last in UNSPACED_BLOCKS)


def is_joined(c):
    """A character that belongs to the one before it: a combining mark of a script without spaces, or a joiner."""
    joiner = ord(c) in {0x3099, 0x309A, 0xFF9E, 0xFF9F, 0x200D} or c in VARIATION_SELECTORS
    return joiner or (stands_alone(c) and unicodedata.category(c)[0] == "M")


VARIATION_SELECTORS = frozenset(map(chr, [*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))


def words_of(text, lang="auto"):
    """The documented rule, one character at a time."""
    if lang != "auto" and lang not in UNSPACED:
        return text.split()
    words, before = [], "space"
    for c in text:
        if c.isspace():
            before = "space"
        elif is_joined(c):
            if before == "space":
                words.append(c)
                before = "word"
            else:
                words[-1] += c
        elif stands_alone(c):
            words.append(c)
            before = "alone"
        elif before == "word":
            words[-1] += c
        else:
            words.append(c)
            before = "word"
    return words


def share_of(text, n, lang="auto"):
    """The documented share, with sets of positions."""
    words = words_of(text, lang)
    places = {}
    for i in range(len(words) - n + 1):
        places.setdefault(tuple(words[i : i + n]), []).append(i)
    most = max(map(len, places.values()), default=0)
    if most < 2:
        return 0.0
    covers = [
        sum(len(words[k]) for k in {i + d for i in starts for d in range(n)})
        for starts in places.values()
        if len(starts) == most
    ]
    return max(covers) / sum(map(len, words))


# -- words ---------------------------------------------------------------------------------------------------


@settings(max_examples=800, deadline=None)
@given(st.lists(TEXTS, max_size=5))
@example(["\u3000今\u3000", "\x1c\x1da\x85b", "12345678", "1234567 ", "        ", "1234567\x00 9"])
def test_words_of_a_language_with_spaces_are_those_of_str_split(texts):
    assert count_words(large(texts), "en").tolist() == [len(t.split()) for t in texts]


def test_every_character_divides_or_not_as_str_split_has_it():
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    texts = [f"a{c}b" for c in characters]
    expected = np.array([len(t.split()) for t in texts])
    wrong = np.flatnonzero(count_words(large(texts), "en") != expected)
    assert [hex(ord(characters[i])) for i in wrong] == []


def test_every_character_falls_under_the_documented_rule():
    characters = [chr(c) for c in [*range(0xD800), *range(0xE000, 0x10000), *range(0x1AF00, 0x1B200)]]
    characters += map(chr, [0x1F600, 0x20000, 0x2A6DF, 0x3FFFF, 0x40000, 0xE00FF, 0xE0100, 0xE01EF, 0xE01F0, 0x10FFFF])
    texts = [f"a{c}b{c}{c} {c}" for c in characters]
    expected = np.array([len(words_of(t)) for t in texts])
    wrong = np.flatnonzero(count_words(large(texts)) != expected)
    assert [hex(ord(characters[i])) for i in wrong] == []


@settings(max_examples=800, deadline=None)
@given(st.lists(TEXTS, max_size=5), st.sampled_from(["auto", "zh", "th", "en", "ko"]))
def test_words_follow_the_documented_rule(texts, lang):
    assert count_words(large(texts), lang).tolist() == [len(words_of(t, lang)) for t in texts]


def test_an_unknown_language_is_named_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"there is no language 'EN'\. Did you mean 'en'"):
        classes_for("EN")
    for lang in LANGUAGES:
        assert count_words(large(["one two"]), lang).tolist() == [2]


# -- n-grams -------------------------------------------------------------------------------------------------


@settings(max_examples=700, deadline=None)
@given(st.lists(FEW_WORDS.map(" ".join) | TEXTS, max_size=4), st.integers(1, 6), st.sampled_from(["auto", "en"]))
@example(["a b a b a", "a a a a a", "aa b aa c b"], 2, "auto")
@example(["今天今天天气", "ไทยไทย", "ka\u0e31 ka\u0e31"], 2, "auto")
def test_the_share_of_the_top_ngram_is_the_documented_one(texts, n, lang):
    assert top_ngram_share(large(texts), n, lang).tolist() == [share_of(t, n, lang) for t in texts]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("ab", min_size=1, max_size=2), max_size=60), st.integers(1, 4), st.data())
def test_how_words_are_separated_does_not_matter(words, n, data):
    spaces = data.draw(
        st.lists(st.sampled_from([" ", "\n", "\t \r\n", "\u3000", "\x85"]), min_size=len(words), max_size=len(words))
    )
    text = "".join(w + s for w, s in zip(words, spaces, strict=True))
    assert top_ngram_share(large([text]), n).tolist() == top_ngram_share(large([" ".join(words)]), n).tolist()


@pytest.mark.parametrize(
    ("text", "n", "share"),
    [
        ("a b c d", 2, 0.0),
        ("a b a b", 2, 1.0),
        ("a b a b", 5, 0.0),
        ("a b x a b", 2, 4 / 5),
        ("x x x", 2, 1.0),  # overlapping occurrences, each character counted once
        ("a b c a b long long2 long long2", 2, 18 / 23),  # a tie: the one that covers more
        ("same", 1, 0.0),
        ("same same", 1, 1.0),
    ],
)
def test_the_share_in_cases_worked_out_by_hand(text, n, share):
    assert top_ngram_share(large([text]), n)[0] == share


def test_the_share_of_a_long_text_is_the_documented_one():
    words = [f"w{i * i % 97}" for i in range(20_000)]
    text = " ".join(words)
    for n in (1, 2, 5):
        assert top_ngram_share(large(["short", text, ""]), n).tolist() == [0.0, share_of(text, n), 0.0]


def test_texts_may_end_at_any_byte_of_a_block():
    for pattern in ("ab ", "ab cd\n", "é ab ", "一 ab "):
        texts = [(pattern * 70)[:size] for size in range(200)]
        for n in (1, 2):
            assert top_ngram_share(large(texts), n).tolist() == [share_of(t, n) for t in texts]


def test_a_word_is_not_taken_for_another_of_the_same_beginning_or_end():
    # 1 to 40 bytes long, one byte changed at each position: none may count as a repetition.
    for size in range(1, 41):
        words = ["x" * size, *("x" * k + "y" + "x" * (size - k - 1) for k in range(size))]
        assert top_ngram_share(large([" ".join(words)]), 1).tolist() == [0.0], size


def test_many_distinct_words_are_distinct():
    text = " ".join(map(str, range(300_000)))
    assert top_ngram_share(large([text]), 1).tolist() == [0.0]


def test_long_ngrams_that_overlap_cover_all_but_what_stands_between():
    half = " ".join(map(str, range(20_000)))
    text = half + " x " + half
    total = len(text.replace(" ", ""))
    # Every 3000-gram of one half is one of the other; each covers its own 3000 words, twice.
    longest = sum(len(str(k)) for k in range(17_000, 20_000))
    assert top_ngram_share(large([text]), 3000)[0] == 2 * longest / total


# -- plain ---------------------------------------------------------------------------------------------------


def plain(text):
    printable = all(" " <= c <= "~" or c in "\t\n" for c in text)
    return printable and not ("&" in text and ";" in text[text.index("&") :])


@settings(max_examples=800, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab;&~ \n\t\r\x00\x1f\x7f\x80é今"), max_size=30) | TEXTS, max_size=5))
@example(["12345678", "1234567\x7f", "\x7f", "1234567\x1f", "&1234567890;", "&123;5678901234", ";12345678&"])
def test_plain_texts_are_printable_ascii_without_entities(texts):
    assert is_plain(large(texts)).tolist() == [plain(t) for t in texts]


def test_every_ascii_character_at_every_place_of_a_load_is_told_apart():
    texts = ["x" * k + chr(c) + "x" * (15 - k) for c in range(128) for k in range(16)]
    assert is_plain(large(texts)).tolist() == [plain(t) for t in texts]


# -- what every kernel owes ----------------------------------------------------------------------------------

KERNELS = {
    "words": count_words,
    "words, en": lambda texts: count_words(texts, "en"),
    "1-grams": lambda texts: top_ngram_share(texts, 1),
    "5-grams": lambda texts: top_ngram_share(texts, 5),
    "plain": is_plain,
}
KERNEL = pytest.mark.parametrize("kernel", KERNELS.values(), ids=list(KERNELS))


@KERNEL
def test_no_texts_give_no_answers(kernel):
    assert kernel(large([])).tolist() == []
    assert kernel(large(["a"]).slice(1)).tolist() == []
    no_bytes = pa.py_buffer(b"")
    assert kernel(pa.LargeStringArray.from_buffers(0, no_bytes, no_bytes)).tolist() == []
    assert kernel(pa.table({"t": large(["a"])}).slice(0, 0)["t"].combine_chunks()).tolist() == []


@KERNEL
def test_null_empty_and_blank_texts_get_the_same_answer(kernel):
    null, empty, blank = kernel(large([None, "", " \n "])).tolist()
    assert null == empty == blank
    assert kernel(pa.nulls(3, pa.large_string())).tolist() == [null] * 3


@KERNEL
def test_bytes_that_a_null_hides_do_not_count(kernel):
    data = b"a b a bHIDDEN \xff bytesc d"
    offsets = np.array([0, 7, 20, len(data)], dtype=np.int64)
    valid = pa.py_buffer(np.packbits([1, 0, 1], bitorder="little").tobytes())
    texts = pa.LargeStringArray.from_buffers(3, pa.py_buffer(offsets), pa.py_buffer(data), valid)
    assert kernel(texts).tolist() == kernel(large(["a b a b", "", data[20:].decode()])).tolist()


@KERNEL
def test_slices_are_read_at_their_own_place(kernel):
    texts = ["a a", None, "今天 今天", "", "b c d e f", "x" * 20, "word " * 9, None, "\x00"]
    whole = kernel(large(texts)).tolist()
    for start in range(len(texts)):
        for stop in range(start, len(texts) + 1):
            assert kernel(large(texts).slice(start, stop - start)).tolist() == whole[start:stop]


@KERNEL
@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.none() | TEXTS, max_size=8))
def test_an_answer_depends_on_its_own_text_alone(kernel, texts):
    assert kernel(large(texts)).tolist() == [kernel(large([t])).tolist()[0] for t in texts]


@KERNEL
def test_nothing_is_read_past_the_end_of_a_text(kernel):
    # The text ends anywhere in the eight bytes loaded at once, at the end of the buffer or before more text.
    for size in [*range(20), *range(55, 74), *range(126, 131)]:
        for tail in ("", "&b;", " b", "b", "今", "\x00"):
            for text in ("x" * size, "x " * (size // 2), "今" * (size // 3), "x" * size + "今", "y y " + "x" * size):
                data = (text + tail).encode()
                offsets = np.array([0, len(text.encode())], dtype=np.int64)
                buffers = pa.py_buffer(offsets), pa.py_buffer(data)
                cut = pa.LargeStringArray.from_buffers(1, *buffers)
                assert kernel(cut).tolist() == kernel(large([text])).tolist(), (text, tail)


@KERNEL
def test_one_word_of_ten_megabytes(kernel):
    for word in ("x" * 10_000_000, "é" * 5_000_000, "\x00" * 10_000_000):
        texts = large([word, word + " " + word[:8], "a b"])
        answers = kernel(texts).tolist()
        assert answers[2] == kernel(large(["a b"])).tolist()[0]
        if kernel is count_words:
            assert answers == [1, 2, 2]
    assert count_words(large(["今" * 3_000_000])).tolist() == [3_000_000]


@KERNEL
def test_a_hundred_thousand_tiny_texts(kernel):
    texts = ["a", "a a", "", None, "今今"] * 20_000
    assert kernel(large(texts)).tolist() == kernel(large(texts[:5])).tolist() * 20_000


def test_counts_of_real_words_agree_with_a_counter():
    text = "the cat and the dog and the bird " * 30
    counts = Counter(text.split())
    word, n = counts.most_common(1)[0]
    assert top_ngram_share(large([text]), 1)[0] == len(word) * n / len(text.replace(" ", ""))


@given(st.lists(st.sampled_from(list(b"\n\x0b\x09a\x8a\xf5\x00")), max_size=60).map(bytes))
def test_line_ends_are_where_line_feeds_are(data):
    found = line_ends(np.frombuffer(data, dtype=np.uint8))
    assert found.tolist() == [i for i, byte in enumerate(data) if byte == 10]
