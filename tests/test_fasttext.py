"""fastText filters, on models of a few words; beside the published library; and damaged model files."""

import math
import os
import re

import fasttext
import numpy as np
import pyarrow as pa
import pytest
import xxhash

from tamis import DocumentDataset, Score, ScoreFilter
from tamis.errors import ModelError, UnknownNameError, UsageError
from tamis.filters import (
    FastTextClassifierFilter,
    FastTextLangId,
    FastTextLanguageFilter,
    FastTextQualityFilter,
    fasttext_model,
)
from tamis.filters.fasttext_model import model_of, read_model
from tamis.modifiers import FastTextLabelModifier, Modify
from tamis.recipe import load_recipe
from tamis.testing import check_stage, sample_table
from tiny_fasttext import HIERARCHICAL, HQ, LANGUAGES, ONE_VS_ALL, SPOKEN, WORDS, model_bytes, write_model


def large(*texts):
    return pa.array(texts, pa.large_string())


def hq(x, slope=2):
    """What the model must say of words that are (x, 0) on average; fastText adds 1e-5."""
    return min(1 / (1 + math.exp(-slope * x)) + 1e-5, 1)


def id_of(text):
    return xxhash.xxh3_128_hexdigest(text.encode()).encode()


@pytest.fixture(scope="module")
def quality(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "quality.bin")


@pytest.fixture(scope="module")
def languages(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "languages.bin", SPOKEN, LANGUAGES)


# -- scores --------------------------------------------------------------------------------------------------

ZEROS = {"buckets": [(0, 0)] * 7, "ngrams": (1, 1, 3)}
TEXTS = {
    "good": 4,
    "good bad": 0,
    "good bad\nbad\r\nbad": -2,
    "good\0bad": 0,
    "\n\ngood\n": 4,
    "bad </s> good good good": 2,
    "</s>\ngood": 4,
    "bad</s> fair": 0,  # part of a word, and a word that is not known
    "good\u2028bad": None,  # one word to fastText, and not known
    "雨 good": 3,
    "дождь\tдождь\vfair": -4 / 3,
    "👩‍👩‍👧 unknown words": None,
    "\ufeff": None,
    " \n\0\t ": None,
    "": None,
}


@pytest.mark.parametrize(
    "options", [{}, {"quantised": True}, {"buckets": [(0, 0)] * 7, "ngrams": (1, 1, 3)}, {"loss": HIERARCHICAL}]
)
def test_a_probability_is_what_the_vectors_make_it(tmp_path, options):
    path = write_model(tmp_path / "a.bin", **options)
    found = FastTextClassifierFilter(path).score_batch(large(*TEXTS, None)).to_pylist()
    # The tree of two labels has one node, with the vector (1, 0).
    slope = 1 if "loss" in options else 2
    expected = [0 if x is None else hq(x, slope) for x in TEXTS.values()]
    if "ngrams" in options:  # n-grams are vectors of zeros, and pull the mean towards nothing
        grams = {t: sum(max(0, len(w) + 2 - n + 1) for w in t.split() for n in (1, 2, 3)) - 2 * len(t.split())
                 for t in ("good", "good bad")}  # fmt: skip
        assert found[0] == pytest.approx(hq(4 / (1 + grams["good"])), abs=1e-6)
        assert found[1] == pytest.approx(hq(0), abs=1e-6)
        assert found[-2:] == [0, 0]
        return
    assert found == pytest.approx([*expected, 0], abs=2e-5)


def test_each_of_several_labels_has_its_own_probability_where_they_do_not_exclude_each_other(tmp_path):
    path = write_model(tmp_path / "a.bin", loss=ONE_VS_ALL)
    # The logistic function of the product, looked up in a table of steps of 1/32.
    for label, x in (("__label__hq", 2), ("__label__cc", -2)):
        found = FastTextClassifierFilter(path, label).score_document("雨")
        assert found == pytest.approx(1 / (1 + math.exp(-x)), abs=0.01)


def test_bounds_are_kept_and_a_reason_names_them(quality):
    rule = FastTextClassifierFilter(quality, min_score=0.3, max_score=0.9)
    scores = rule.score_batch(large("bad", "fair", "good", None))
    assert rule.reasons(scores).to_pylist() == [
        "the model gives its label a probability below 0.3",
        None,
        "the model gives its label a probability above 0.9",
        "the model gives its label a probability below 0.3",
    ]
    assert FastTextClassifierFilter(quality, min_score=0).keep_document(0.0)


def test_half_a_surrogate_pair_and_ten_megabytes_get_an_answer(quality):
    rule = FastTextClassifierFilter(quality)
    assert rule.score_document("good \ud800") == pytest.approx(hq(4), abs=1e-6)
    assert rule.score_document("\udfff") == 0
    assert rule.score_document("good bad\n" * 1_200_000) == pytest.approx(hq(0), abs=1e-6)
    assert rule.score_document("x" * 10_000_000) == 0


def test_a_draw_is_a_function_of_seed_and_text(quality):
    words = ["good", "bad", "fair"]
    texts = [f"{words[i % 3]} {i}" for i in range(6000)]
    rule = FastTextQualityFilter(quality, alpha=3, seed=5)
    scores = rule.score_batch(large(*texts)).to_numpy()
    u = np.array([(xxhash.xxh3_64_intdigest(id_of(t), 5) >> 11) * 2.0**-53 for t in texts])
    p = np.array([hq({"good": 4, "bad": -4, "fair": 0}[t.split()[0]]) for t in texts])
    assert scores == pytest.approx(p + (1 - u) ** (-1 / 3) - 1, abs=1e-6)
    kept = np.array([rule.keep_document(s) for s in scores])
    for number, word in enumerate(words):
        probability = hq({"good": 4, "bad": -4, "fair": 0}[word])
        expected = (2 - probability) ** -3
        assert kept[number::3].mean() == pytest.approx(
            expected, abs=4 * math.sqrt(expected * (1 - expected) / 2000) + 1e-3
        )
    other = FastTextQualityFilter(quality, alpha=3, seed=6).score_batch(large(*texts)).to_numpy()
    assert not np.array_equal(scores, other)
    assert rule.score_batch(large(*texts[::-1])).to_pylist() == scores[::-1].tolist()


def test_the_likeliest_language_and_its_probability(languages):
    texts = large("und oder", "ug", "的 的", "und ug 的", "Unbekanntes", "", None)
    sure = math.exp(4) / (math.exp(4) + 2) + 1e-5
    scores = FastTextLangId(languages).score_batch(texts).to_pylist()
    assert scores == pytest.approx([sure, sure, sure, 1 / 3 + 1e-5, 0, 0, 0], abs=1e-6)
    only = FastTextLangId(languages, lang=["ceb", "zh"])
    assert only.score_batch(texts).to_pylist()[:3] == pytest.approx([0, sure, sure], abs=1e-6)
    assert FastTextLangId(languages, lang="zh") == FastTextLangId(languages, lang=["zh"])
    codes = FastTextLanguageFilter(languages, min_langid_score=0.5)
    assert codes.score_batch(texts).to_pylist() == ["de", "ceb", "zh", "und", "und", "und", "und"]
    german = FastTextLanguageFilter(languages, lang="de")
    assert german.reasons(pa.array(["de", "zh", "und"])).to_pylist() == [
        None,
        "it is in another language",
        "its language cannot be told",
    ]


def test_a_plan_drops_by_language_and_tells_it(languages):
    rows = DocumentDataset.from_arrow(pa.table({"text": ["und oder", "ug", "", "的"]}))
    told = Score(FastTextLanguageFilter(languages), "language")(ScoreFilter(FastTextLangId(languages))(rows)).to_arrow()
    assert told.to_pydict() == {"text": ["und oder", "ug", "的"], "language": ["de", "ceb", "zh"]}


def test_filters_of_one_model_look_at_a_text_once(languages, monkeypatch):
    calls = []
    best = fasttext_model.FastTextModel.best
    monkeypatch.setattr(
        fasttext_model.FastTextModel, "best", lambda self, texts: calls.append(len(texts)) or best(self, texts)
    )
    texts = large("und", "ug")
    FastTextLangId(languages).score_batch(texts)
    FastTextLanguageFilter(languages).score_batch(texts)
    assert calls == [2]


def test_every_filter_holds_the_contract(quality, languages):
    # FastTextClassifierFilter, FastTextQualityFilter, FastTextLangId, FastTextLanguageFilter
    stages = [
        ScoreFilter(FastTextClassifierFilter(quality, min_score=0.2), score_field="made"),
        ScoreFilter(FastTextQualityFilter(quality), score_field="made"),
        ScoreFilter(FastTextLangId(languages, lang="de")),
        ScoreFilter(FastTextLanguageFilter(languages), score_field="made"),
    ]
    for stage in stages:
        check_stage(stage, sample_table(), fresh_process=False)


def test_a_recipe_names_the_filter_and_the_file(quality, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "good"}\n{"text": "bad"}\n')
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'[input]\npath = "{tmp_path}/in.jsonl"\n[[stage]]\nuse = "FastTextClassifierFilter"\n'
        f'model_path = "{quality}"\n'
    )
    assert load_recipe(recipe).dataset().to_arrow()["text"].to_pylist() == ["good"]


# -- beside the published library ----------------------------------------------------------------------------

BUCKETS = [((k * 7 % 11 - 5) / 4, (k * 5 % 13 - 6) / 8) for k in range(40)]
SPOKEN_IN = [
    "good bad unknown words of the text",
    "bad",
    "unbekannt 雨 雨 дождь ist größer",
    "今天下雨了。 שָׁלוֹם 👩‍👩‍👧 e\u0301 \u2028 x",
    "__label__hq good __label__xx fair",
    "</s>x a </sgood>",
    "g",
    "good " * 50 + "x" * 400,
]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"buckets": BUCKETS, "ngrams": (1, 2, 4)},
        {"buckets": BUCKETS, "ngrams": (3, 0, 0)},
        {"buckets": BUCKETS, "ngrams": (2, 1, 3), "loss": HIERARCHICAL},
        {"buckets": BUCKETS, "ngrams": (2, 1, 3), "version": 11},
        {"buckets": BUCKETS, "ngrams": (2, 3, 6), "quantised": True},
        {"buckets": BUCKETS, "ngrams": (4, 1, 5), "quantised": True, "norms": True, "kept": [7, 39, 0, 12, 20]},
        {"buckets": BUCKETS, "ngrams": (4, 1, 5), "quantised": True, "kept": []},
    ],
    ids=lambda options: ", ".join(f"{k} {v}" for k, v in options.items() if k != "buckets"),
)
@pytest.mark.parametrize("end", [True, False], ids=["with an end of line", "without"])
def test_probabilities_are_those_of_the_published_library(options, end, tmp_path):
    words = {**WORDS, **({"</s>": (0.5, -1)} if end else {})}
    labels = {**HQ, "__label__third": (-0.5, 1.5)}
    path = write_model(tmp_path / "m.bin", words, labels, **options)
    published = fasttext.load_model(str(path)).f
    model = read_model(path, who="a test")
    for label in labels:
        found = model.probabilities(large(*SPOKEN_IN), label)
        expected = [
            {name: p for p, name in published.predict(text + "\n", 3, 0.0, "strict")}.get(label, 0)
            for text in SPOKEN_IN
        ]
        assert found == pytest.approx(expected, abs=3e-6)


@pytest.mark.parametrize("window", [1, 7, 64])
def test_a_file_is_read_in_parts_of_any_size(window, tmp_path, monkeypatch):
    path = write_model(tmp_path / "m.bin", buckets=BUCKETS, ngrams=(2, 3, 6), quantised=True)
    expected = read_model(path, who="a test").probabilities(large(*SPOKEN_IN), "__label__hq")
    monkeypatch.setattr("tamis.filters.fasttext_model._WINDOW", window)
    assert list(read_model(path, who="a test").probabilities(large(*SPOKEN_IN), "__label__hq")) == list(expected)


def test_a_file_that_becomes_shorter_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = write_model(tmp_path / "m.bin")
    whole = os.fstat
    monkeypatch.setattr(
        "tamis.filters.fasttext_model.os.fstat", lambda fd: os.stat_result((*whole(fd)[:6], 10**6, *whole(fd)[7:10]))
    )
    with pytest.raises(ModelError, match="became shorter"):
        read_model(path, who="a test")


# -- what a run is known by, and what is missing -------------------------------------------------------------


def test_the_content_of_the_file_belongs_to_what_a_run_is_known_by(tmp_path):
    a, b = write_model(tmp_path / "a.bin"), write_model(tmp_path / "b.bin")
    first = ScoreFilter(FastTextClassifierFilter(a)).identity()
    write_model(a, {**WORDS, "good": (5, 0)})
    assert ScoreFilter(FastTextClassifierFilter(a)).identity() != first
    assert FastTextClassifierFilter(a).score_document("good") == pytest.approx(hq(5), abs=1e-6)
    assert FastTextClassifierFilter(b).score_document("good") == pytest.approx(hq(4), abs=1e-6)


def test_a_named_model_is_a_file_of_a_package_with_its_hash(tmp_path, monkeypatch):
    class Package:
        def __init__(self):
            self.files = {"lid.176.ftz": "5" * 64}

        def get(self, *, who):
            return tmp_path

    write_model(tmp_path / "lid.176.ftz", SPOKEN, LANGUAGES, quantised=True)
    monkeypatch.setitem(fasttext_model.NAMED, "lid.176", Package())
    assert FastTextLangId().identity() == {"model": "5" * 64}
    assert FastTextLanguageFilter().score_document("oder") == "de"


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda p: FastTextClassifierFilter("nowhere.bin"), ModelError, "no file 'nowhere.bin'.*by name: 'lid.176'"),
        (lambda p: FastTextLangId(p.parent), ModelError, r"is a folder; pass the file.*There is: \w+.bin"),
        (lambda p: FastTextLangId(p.with_suffix(".bim")), ModelError, "Did you mean 'languages.bin'"),
        (lambda p: FastTextLangId(p, 1.5), UsageError, r"min_langid_score must be in \[0, 1\]"),
        (lambda p: FastTextLangId(p, lang=[]), UsageError, "lang is empty"),
        (lambda p: FastTextClassifierFilter(p, min_score=0.9, max_score=0.1), UsageError, "keep nothing"),
        (lambda p: FastTextClassifierFilter(p, min_score=math.nan), UsageError, "min_score must be"),
        (lambda p: FastTextQualityFilter(p, alpha=0), UsageError, "alpha must be a number above 0"),
        (lambda p: FastTextClassifierFilter(p, "hq").score_document("a"), UnknownNameError, "of the model 'hq'"),
        (lambda p: FastTextLangId(p, lang="cebu").score_document("a"), UnknownNameError, "Did you mean 'ceb'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_and_the_nearest_name_given(build, error, message, languages):
    with pytest.raises(error, match=message):
        build(languages)


# -- damaged files -------------------------------------------------------------------------------------------

WHOLE = model_bytes(WORDS, HQ)
QUANTISED = model_bytes(
    WORDS, HQ, quantised=True, loss=HIERARCHICAL, buckets=[(1, 0)] * 5, kept=[3, 1], ngrams=(2, 1, 2), norms=True
)


def refusal(path, data):
    path.write_bytes(data)
    try:
        read_model(path, who="a filter")
    except ModelError as error:
        return str(error)
    return None


@pytest.mark.parametrize("whole", [WHOLE, QUANTISED], ids=["plain", "quantised"])
def test_a_file_cut_short_anywhere_is_refused(whole, tmp_path):
    path = tmp_path / "m.bin"
    assert refusal(path, whole) is None
    for size in [*range(0, 400, 1), *range(400, len(whole), 397), len(whole) - 1]:
        if size < len(whole):
            said = refusal(path, whole[:size])
            assert said is not None, size
            assert re.fullmatch(r"a filter: .*m.bin is no whole fastText classifier: .+\. Take it from .+\.", said), (
                said
            )
    assert "goes on for 1 bytes" in refusal(path, whole + b"\0")


@pytest.mark.parametrize("whole", [WHOLE, QUANTISED], ids=["plain", "quantised"])
def test_a_file_with_a_byte_changed_is_refused_or_answers(whole, tmp_path):
    path, refused = tmp_path / "m.bin", 0
    texts = large("good bad unknown", "雨 </s> \xff", "x" * 300)
    places = [*range(8, 8 + 160), *range(168, len(whole), 37 if len(whole) < 1000 else 397)]
    for place in places:
        for change in (0x01, 0x80):
            if place >= len(whole) or 32 <= place < 36:  # the loss, of which one builds a table for a tenth of a second
                continue
            data = bytearray(whole)
            data[place] ^= change
            if refusal(path, bytes(data)) is not None:
                refused += 1
                continue
            model = model_of(path, who="a filter")
            found = model.probabilities(texts, model.labels[0])
            assert ((found >= 0) & (found <= 1)).all(), (place, change)
    assert refused > 80


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, b"{", "it does not begin as one"),
        (4, b"\x0d", "its version is 13"),
        (28, b"\x7f", "n-grams of 127 words"),
        (32, b"\x05", "its loss 5 is not one"),
        (36, b"\x01", "holds word vectors and no labels"),
        (48, b"\x7f", "n-grams of 127 characters"),
        (48, b"\x02", "it has 0 buckets"),
        (64, b"\x09", "it counts 5 words and 2 labels of 9"),
        (len(WHOLE) - 1, b"\x7f", "a weight behind byte"),
        (len(WHOLE) - 2, b"\xc0\x7f", "is no number"),
    ],
)
def test_a_refusal_says_what_is_wrong(place, value, message, tmp_path):
    data = bytearray(WHOLE)
    data[place : place + len(value)] = value
    assert message in refusal(tmp_path / "m.bin", bytes(data))


def test_labels_that_the_tree_of_labels_cannot_hold_are_refused(tmp_path):
    data = model_bytes(WORDS, HQ, loss=HIERARCHICAL)
    rising = data.replace(b"hq\0" + (50).to_bytes(8, "little"), b"hq\0" + (3).to_bytes(8, "little"))
    assert "not sorted by their counts" in refusal(tmp_path / "m.bin", rising)
    twice = data.replace(b"__label__cc", b"__label__hq")
    assert "two of its labels are the same" in refusal(tmp_path / "m.bin", twice)


# -- lines to train with -------------------------------------------------------------------------------------


def test_a_text_becomes_a_line_to_train_with():
    texts = large("a\nb", "a\r\n\r\nb\rc\0", "", None, "\n", "שלום\nعالم", "a\u2028b")
    lines = FastTextLabelModifier("__label__hq").modify_batch(texts).to_pylist()
    assert lines == [
        "__label__hq a b",
        "__label__hq a  b c ",
        "__label__hq ",
        None,
        "__label__hq  ",
        "__label__hq שלום عالم",
        "__label__hq a\u2028b",
    ]
    check_stage(Modify(FastTextLabelModifier("__label__hq")), sample_table(), fresh_process=False)
    with pytest.raises(UsageError, match="one word without white space; got 'a b'"):
        FastTextLabelModifier("a b")
