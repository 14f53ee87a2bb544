"""Hashed n-grams against plain Python: ``str.lower``, ``re`` and ``hashlib``."""

from __future__ import annotations

import hashlib
import re
import sys
import tomllib
import types
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tamis.errors import MissingExtraError, UnknownNameError, UsageError
from tamis.text import lowered, ngram_kernel, sha256
from tamis.text.hashed_ngrams import HashedNgrams, example_length, least_features, tokens_of

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
# Sigmas beside everything that their rule asks about, letters whose lower case is longer or shorter, every kind of
# white space, and symbols that are letters, digits, marks or none of these.
HARD = st.text(
    st.sampled_from(
        list("aAzZ09_ \n\t\x0b\x1c\x1f\x00.,'’:@[`{/")
        + list("ΣσςİıȺȾẞßKÅǅŉ\u0345ʰ\u0301\u00ad\u200d\u00b7\U000e0100\U000e0001")
        + list("\u0085\u00a0\u1680\u2003\u2028\u3000\u200b")
        + list("²½٣Ⅷⓐ今あ한ไ\u0e31न\u094d\u05b0")
        + list("😀𝒜𐐀𞤀🄰\U00034000\U0010ffff")
    ),
    max_size=80,
)
# Tokens and gaps at any place in blocks of 64 bytes; tokens around 8, 16, 24 and 55 bytes, which hashes treat apart.
PIECES = [
    "a",
    "b",
    "of ",
    "The ",
    " ",
    "\n",
    "--",
    ".",
    "x" * 7,
    "Y" * 8,
    "x" * 9,
    "y" * 16,
    "y" * 17,
    "z" * 23,
    "z" * 24,
    "w" * 25,
    "q" * 54,
    "q" * 55,
    "Q" * 56,
    "r" * 63,
    "r" * 64,
    "s" * 120,
    " " * 61,
    "é",
    "ÑANDÚ ",
    "да",
    "今天天气",
    "Σ ",
]
BLOCKS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
TEXTS = st.one_of(ANY, HARD, BLOCKS)
LISTS = st.lists(TEXTS, max_size=6)


PINNED = [
    [528, 7566, 3967, 4617, 8708, 5378, 528, 2348, 4296, 8099, 7163, 8683, 188, 9888, 3352],
    [201, 4955, 2996, 8302, 7922, 6518],
    [7002, 5402, 4871],
    [908, 7475, 222, 3741, 4750, 7101],
]


def large(texts):
    return pa.array(texts, pa.large_string())


def ngrams_of(text, n):
    """The documented rule."""
    tokens = re.findall(r"\w+|[^\w\s]+", text.lower())
    return [" ".join(tokens[e - k : e]) for e in range(1, len(tokens) + 1) for k in range(1, min(n, e) + 1)]


def published(ngram, buckets):
    return int(hashlib.sha256(ngram.encode()).hexdigest(), 16) % buckets


# -- buckets --------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(LISTS, st.integers(1, 4), st.sampled_from([1, 7, 1000, 10_000, (1 << 29) - 3]))
@example(["ΑΣ ΑΣΑ ΑΣ. ΑΣ'Σ Σ", "İ", "ȺȾ" * 40], 2, 1000)
@example(["q" * 55, "q" * 27 + " " + "q" * 27, "a,b" * 30], 3, 10_000)
def test_sha256_buckets_are_the_published_ones(texts, n, buckets):
    found = HashedNgrams(buckets, n, "sha256").buckets(large(texts))
    assert [b.tolist() for b in found] == [[published(g, buckets) for g in ngrams_of(t, n)] for t in texts]


@settings(max_examples=200)
@given(LISTS, st.integers(1, 4))
def test_fast_buckets_are_one_for_each_ngram(texts, n):
    features = HashedNgrams((1 << 29) - 3, n)
    known = {}
    for text, found in zip([*texts, *texts], features.buckets(large([*texts, *texts])), strict=True):
        for ngram, bucket in zip(ngrams_of(text, n), found.tolist(), strict=True):
            assert known.setdefault(ngram, bucket) == bucket
    # Two that share one of half a milliard buckets would be a coincidence.
    assert len(set(known.values())) == len(known)


def test_fast_buckets_stay_what_they_are():
    """Fitted counts may be kept: a change of the hash must be a decision."""
    texts = ["The cat, the hat.", "a" * 16 + " " + "b" * 17 + " " + "c" * 40, "Ünïcode 今天", "x_1 --> y"]
    found = [b.tolist() for b in HashedNgrams(10_000, 3).buckets(large(texts))]
    assert found == PINNED


@pytest.mark.parametrize("name", ["fast", "sha256"])
def test_buckets_fill_evenly(name):
    words = [f"w{i:x}" for i in range(20_000)]
    counts = np.zeros(1000, np.int64)
    HashedNgrams(1000, 2, name).count(large([" ".join(words)]), counts)
    assert counts.sum() == 39_999
    # Chi-square of 999 degrees of freedom: beyond 5 standard deviations once in 3 million hashes.
    chi = ((counts - 39.999) ** 2 / 39.999).sum()
    assert abs(chi - 999) < 5 * (2 * 999) ** 0.5


@pytest.mark.parametrize("name", ["fast", "sha256"])
def test_every_order_of_words_is_its_own(name):
    a, b, c = HashedNgrams(1 << 28, 2, name).buckets(large(["x y", "y x", "xy"]))
    assert len({a[2], b[2], c[0]}) == 3
    assert sorted(a[:2]) == sorted(b[:2])


@pytest.mark.parametrize("name", ["fast", "sha256"])
def test_a_text_of_more_tokens_than_gather_at_once(name):
    words = [f"w{i % 700} , {'l' * (i % 90)}" for i in range(6000)]
    text = " ".join(words)
    for n in (1, 2, 3):
        features = HashedNgrams(10_000, n, name)
        whole = features.buckets(large([text, "end"]))
        expected = ngrams_of(text, n)
        assert len(whole[0]) == len(expected)
        if name == "sha256":
            assert whole[0].tolist() == [published(g, 10_000) for g in expected]
        else:
            names = dict(zip(expected, whole[0].tolist(), strict=True))
            assert [names[g] for g in expected] == whole[0].tolist()
        assert len(whole[1]) == 1


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_what_is_remembered_of_sha256_gives_way_to_what_comes_later(monkeypatch, slots):
    """Runs of words of one length: some longer than what waits to be hashed together, some shorter."""
    monkeypatch.setattr(ngram_kernel, "_SLOTS", slots)
    ngram_kernel._local.__dict__.clear()
    text = " ".join(" ".join([word] * run) for run in (17, 1, 2, 33, 5) for word in ("aa", "bb", "cc", "a", "bb"))
    try:
        for n in (1, 2, 1, 2):
            (found,) = HashedNgrams(1 << 20, n, "sha256").buckets(large([text]))
            assert found.tolist() == [published(g, 1 << 20) for g in ngrams_of(text, n)]
    finally:
        ngram_kernel._local.__dict__.clear()


# -- counts and weights ---------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(LISTS, st.integers(1, 3), st.sampled_from(["fast", "sha256"]))
def test_counts_and_weights_are_sums_over_the_buckets(texts, n, name):
    features = HashedNgrams(100, n, name)
    ratios = np.random.default_rng(1).normal(size=(100, 3))
    counts = np.full(100, 5, np.int64)
    numbers = features.count(large(texts), counts)
    listed = features.buckets(large(texts))
    assert numbers.tolist() == [len(b) for b in listed]
    expected = Counter(b for found in listed for b in found.tolist())
    assert counts.tolist() == [5 + expected[b] for b in range(100)]
    sums, again = features.weigh(large(texts), ratios)
    assert again.tolist() == numbers.tolist()
    np.testing.assert_allclose(sums, [ratios[b].sum(axis=0) for b in listed] if texts else np.empty((0, 3)), atol=1e-9)


@settings(max_examples=100)
@given(st.lists(st.one_of(st.none(), TEXTS), min_size=1, max_size=8), st.integers(0, 7))
def test_a_weight_is_the_same_to_the_last_bit_in_any_company(texts, start):
    features = HashedNgrams(1000)
    ratios = np.random.default_rng(2).normal(size=(1000, 1))
    sums, numbers = features.weigh(large(texts), ratios)
    part, _ = features.weigh(large(texts).slice(start), ratios)
    assert part.tobytes() == sums[start:].tobytes()
    for text, alone, n in zip(texts, sums, numbers, strict=True):
        one, number = features.weigh(large([text]), ratios)
        assert one[0].tobytes() == alone.tobytes()
        assert number[0] == n == len(ngrams_of(text or "", 2))


def test_threads_do_not_disturb_each_other():
    texts = large([f"some words {i} and more of them {i * 7} " * 50 for i in range(40)])
    for name in ("fast", "sha256"):
        features = HashedNgrams(500, 2, name)
        expected = np.zeros(500, np.int64)
        features.count(texts, expected)

        def count(_, features=features):
            counts = np.zeros(500, np.int64)
            features.count(texts, counts)
            return counts.tolist()

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(count, range(12))) == [expected.tolist()] * 12


def test_bytes_that_are_no_utf8_end_nowhere_else():
    """A column may be built from any bytes; nothing beyond it is read, and what is whole in it counts."""
    for broken in (b"\xe2\x82", b"\xf0\x9f\x98", b"\xc3", b"\xff\xfe", b"\x80\x80a", b"a\xf8\x88\x80\x80\x80"):
        data = b"word " + broken
        offsets = np.array([0, len(data)], np.int64)
        texts = pa.LargeStringArray.from_buffers(1, pa.py_buffer(offsets), pa.py_buffer(data))
        for name in ("fast", "sha256"):
            (found,) = HashedNgrams(1000, 1, name).buckets(texts)
            assert found[0] == HashedNgrams(1000, 1, name).buckets(large(["word"]))[0][0]


def test_a_table_without_texts():
    features = HashedNgrams()
    assert features.buckets(large([])) == []
    assert features.buckets(large([None, "", " \n"]))[2].tolist() == []
    assert features.count(large([]), np.zeros(10_000, np.int64)).tolist() == []
    assert features.weigh(large([]), np.zeros((10_000, 2)))[0].shape == (0, 2)


# -- lower case and classes -----------------------------------------------------------------------------------


def lower(text):
    """(lower case, is word, is space), the latter per byte beyond ASCII, by the compiled code."""
    data = np.frombuffer(text.encode(), np.uint8)
    size = lowered.room_for(len(data))
    out, wordy, spacy = (
        np.zeros(size, np.uint8),
        np.zeros(size // 64 + 1, np.uint64),
        np.zeros(size // 64 + 1, np.uint64),
    )
    length, plain = lowered.lower_into(data, 0, len(data), *lowered.tables(), out, wordy, spacy)
    bits = [np.unpackbits(b.view(np.uint8), bitorder="little")[:length].astype(bool) for b in (wordy, spacy)]
    return out[:length].tobytes(), bits, plain


def test_all_of_unicode_has_the_case_and_the_class_that_python_gives_it():
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    text = "".join(characters)
    found, (wordy, spacy), plain = lower(text)
    expected = text.lower()
    assert not plain
    assert found == expected.encode()
    sizes = [len(c.encode()) for c in expected]
    beyond = np.repeat([c > "\x7f" for c in expected], sizes)
    word = np.repeat([re.fullmatch(r"\w", c) is not None for c in expected], sizes)
    # One becomes ASCII (the Kelvin sign): its bit says what is known of a k.
    assert (wordy[beyond] == word[beyond]).all()
    assert not (wordy & ~word).any()
    assert (spacy == np.repeat([c.isspace() for c in expected], sizes) & beyond).all()


@pytest.mark.parametrize("around", ["{c}Σ ", "a{c}Σ ", "aΣ{c} ", "aΣ{c}a ", "a{c}Σ{c}{c}1 ", "Σ{c}Σ"])
def test_every_character_beside_a_sigma(around):
    characters = [chr(c) for c in [*range(0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE1000)]]
    text = "".join(around.format(c=c) for c in characters)
    assert lower(text)[0] == text.lower().encode()


@settings(max_examples=300)
@given(TEXTS)
def test_lower_case_is_that_of_python(text):
    found, _, plain = lower(text)
    assert found == text.lower().encode()
    assert plain == text.isascii()
    assert text.lower().lower() == text.lower()


# -- SHA-256 --------------------------------------------------------------------------------------------------


def test_sha256_is_that_of_hashlib():
    noise = np.random.default_rng(3).integers(0, 256, 4000, dtype=np.uint8)
    weights, room = sha256.powers(99_991), np.zeros(24, np.uint32)
    for size in [*range(200), 1000, 3000]:
        message = noise[7 : 7 + size].tobytes()
        assert sha256.digest_mod(noise, 7, size, weights, room) == int(hashlib.sha256(message).hexdigest(), 16) % 99_991
    blocks, digests = np.full((16, 16), 77, np.uint32), np.zeros((8, 16), np.uint32)
    for first in range(0, 56, 8):
        sizes = [min(first + lane, sha256.SHORT) for lane in range(16)]
        for lane, size in enumerate(sizes):
            sha256.put_block(noise, 11 * lane, size, blocks, lane)
        sha256.compress16(blocks, digests)
        for lane, size in enumerate(sizes):
            expected = hashlib.sha256(noise[11 * lane : 11 * lane + size].tobytes())
            assert digests[:, lane].astype(">u4").tobytes() == expected.digest()
            assert sha256.residue16(digests, lane, weights) == int(expected.hexdigest(), 16) % 99_991


@pytest.mark.parametrize("modulus", [1, 2, 3, 10_000, (1 << 29) - 1, 1 << 29])
def test_the_largest_digest_modulo_anything(modulus):
    digests = np.full((8, 16), 0xFFFFFFFF, np.uint32)
    assert sha256.residue16(digests, 5, sha256.powers(modulus)) == (2**256 - 1) % modulus


# -- settings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"num_buckets": 0}, UsageError, "num_buckets must be a number from 1 to 536870912; got 0"),
        ({"num_buckets": (1 << 29) + 1}, UsageError, "num_buckets must be"),
        ({"ngrams": 0}, UsageError, "ngrams must be a number from 1 to 16; got 0"),
        ({"ngrams": 17}, UsageError, "ngrams must be"),
        ({"hash": "sha25"}, UnknownNameError, "no hash 'sha25'. Did you mean 'sha256'"),
        ({"tokenizer": "wordpunkt"}, UnknownNameError, "no tokenizer 'wordpunkt'. Did you mean 'wordpunct'"),
    ],
)
def test_settings_that_cannot_be(given, error, said):
    with pytest.raises(error, match=re.escape(said)):
        HashedNgrams(**given)


def test_word_tokenize_needs_nltk(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'tamis[select]'")):
        HashedNgrams(tokenizer="word_tokenize")
    declared = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert declared["optional-dependencies"]["select"][0].startswith("nltk")


@pytest.fixture
def nltk(monkeypatch):
    """A stand-in whose tokens are neither what white space nor what wordpunct divides."""
    module = types.ModuleType("nltk")
    module.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec("nltk", None)
    module.word_tokenize = lambda text: re.findall(r"n't|\w+(?=n't)|[\w.-]+|[^\w\s]", text)
    monkeypatch.setitem(sys.modules, "nltk", module)
    return module


@pytest.mark.parametrize("name", ["fast", "sha256"])
def test_word_tokenize_takes_its_tokens_from_nltk(nltk, name):
    texts = ["Don't STOP, e.g. now-ish!", None, "", "ΑΣ 今天"]
    features = HashedNgrams(10_000, 2, name, "word_tokenize")
    found = features.buckets(large(texts))
    expected = [features.listed(t or "") for t in texts]
    assert expected[0][:4] == ["do", "n't", "do n't", "stop"]
    assert [len(b) for b in found] == [len(e) for e in expected]
    if name == "sha256":
        assert [b.tolist() for b in found] == [[published(g, 10_000) for g in e] for e in expected]


def test_data_of_nltk_that_is_not_there(nltk):
    def missing(text):
        raise LookupError("punkt")

    nltk.word_tokenize = missing
    with pytest.raises(UsageError, match=re.escape("python -m nltk.downloader punkt_tab")):
        HashedNgrams(tokenizer="word_tokenize").buckets(large(["a"]))


@given(st.integers(0, 300), st.integers(1, 5))
def test_lengths_are_told_from_the_number_of_features(tokens, n):
    features = np.array([len(ngrams_of("a " * tokens, n))])
    assert tokens_of(features, n)[0] == tokens
    if tokens >= n - 1:
        assert example_length(features, n)[0] == tokens
    for length in (0, 1, 7, 100):
        assert (example_length(features, n)[0] >= length) == (features[0] >= least_features(length, n))
