"""Perplexity by KenLM: on a stand-in with the same numbers, and on KenLM itself where it is installed."""

import math
import subprocess
import types
import unicodedata

import pyarrow as pa
import pytest

from tamis import DocumentDataset, ScoreFilter
from tamis.errors import MissingExtraError, ModelError, UnknownNameError, UsageError
from tamis.filters import PerplexityFilter
from tamis.filters.perplexity import _language_model, _pieces_of, ccnet_line
from tamis.testing import check_stage, sample_table
from tiny_kenlm import ARPA, Model, put_in_place

ABOVE = "its perplexity is above 5"


@pytest.fixture(autouse=True)
def _nothing_kept():
    _language_model.cache_clear()
    _pieces_of.cache_clear()


@pytest.fixture
def stand_in(monkeypatch):
    put_in_place(monkeypatch)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "en.arpa").write_text(ARPA, encoding="utf-8")
    return tmp_path / "en.arpa"


TEXTS = {
    "the cat": 10 ** (0.9 / 3),
    "The CAT": 10 ** (0.9 / 3),
    "cat the": 10 ** (2.6 / 3),
    "the cat\n\n  \nthe cat\n": 10 ** (1.8 / 6),
    "the cat\r\ncat the": 10 ** ((0.9 + 2.6) / 6),
    "the\0cat": 10 ** (1.9 / 2),  # a control character goes, and "thecat" is unknown
    "the\ncat the": 10 ** ((1.0 + 2.6) / 5),
    "雨": 10 ** (1.6 / 2),
    "": None,
    " \n\t": None,
    "\x00": None,
}


def check_scores(path):
    found = PerplexityFilter(path).score_batch(pa.array([*TEXTS, None], pa.large_string())).to_pylist()
    assert found == pytest.approx([*TEXTS.values(), None])
    as_it_is = PerplexityFilter(path, normalizer="none")
    assert as_it_is.score_document("The") == pytest.approx(10 ** (1.9 / 2))
    assert as_it_is.score_document("the\0cat") == pytest.approx(10 ** (0.9 / 3))
    assert as_it_is.score_document("dog \ud800 dog") == pytest.approx(10 ** ((0.3 + 3 + 0.6) / 4))


def test_perplexity_is_what_the_model_makes_it(stand_in, path):
    check_scores(path)


def test_perplexity_of_kenlm_itself(path):
    pytest.importorskip("kenlm")
    check_scores(path)
    path.write_text(ARPA[:100], encoding="utf-8")
    with pytest.raises(ModelError, match=r"en\.arpa cannot be loaded: .*1-gram"):
        PerplexityFilter(path).score_document("a")


def test_a_plan_drops_what_surprises_and_says_so(stand_in, path):
    rows = DocumentDataset.from_arrow(pa.table({"text": ["the cat", "dog", "", None, "the cat"]}))
    rule = PerplexityFilter(path, max_perplexity=5)
    assert ScoreFilter(rule)(rows).to_arrow()["text"].to_pylist() == ["the cat", "the cat"]
    assert rule.reasons(pa.array([2.0, 5.0, 5.1, math.inf])).to_pylist() == [
        None,
        None,
        *["its perplexity is above 5"] * 2,
    ]
    assert PerplexityFilter(path, min_perplexity=3).reasons(pa.array([2.0])).to_pylist() == [
        "its perplexity is below 3"
    ]


def test_perplexity_beyond_a_float_is_infinite(stand_in, path, monkeypatch):
    monkeypatch.setattr(Model, "score", lambda *a, **k: -1e6)
    assert PerplexityFilter(path).score_document("cat") == math.inf


def test_it_holds_the_contract(stand_in, path):
    check_stage(ScoreFilter(PerplexityFilter(path), score_field="made"), sample_table(), fresh_process=False)


def test_lines_are_divided_into_pieces_first(stand_in, path, tmp_path, monkeypatch):
    class Pieces:
        def __init__(self, model_file):
            assert model_file == str(tmp_path / "en.model")

        def encode(self, line, out_type):
            assert out_type is str
            return line.split("-")

    (tmp_path / "en.model").write_bytes(b"pieces")
    monkeypatch.setattr("sentencepiece.SentencePieceProcessor", Pieces)
    rule = PerplexityFilter(path, sentencepiece_path=tmp_path / "en.model")
    assert rule.score_document("the-cat") == pytest.approx(10 ** (0.9 / 3))
    assert rule.identity().keys() == {"model", "sentencepiece"}


def test_the_content_of_the_file_belongs_to_what_a_run_is_known_by(stand_in, path):
    first = ScoreFilter(PerplexityFilter(path)).identity()
    path.write_text(ARPA.replace("-0.4\tthe cat", "-0.5\tthe cat"), encoding="utf-8")
    assert ScoreFilter(PerplexityFilter(path)).identity() != first


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("  Ça coûte 1 234 €  ", "ca coute 0 000 €"),
        ("«Привет», — сказал Он…", '"привет",  -  сказал он...'),
        ("ＡＢ（１２）％", "ａｂ(00)%"),
        ("١٢٣ सन् १९", "000 सन 00"),
        ("한국", unicodedata.normalize("NFD", "한국")),
        ("a\u0007b\u0085c", "abc"),
        ("", ""),
    ],
)
def test_a_line_as_ccnet_normalises_it(line, expected):
    assert ccnet_line(line) == expected


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"normalizer": "ccnett"}, UnknownNameError, "Did you mean 'ccnet'"),
        ({"min_perplexity": 10, "max_perplexity": 5}, UsageError, "the bounds 10 and 5 keep nothing"),
        ({"max_perplexity": math.nan}, UsageError, "keep nothing"),
        ({"model_path": "en.arpo"}, ModelError, "there is no file '.*en.arpo'. Did you mean 'en.arpa'"),
        ({"model_path": "other.txt"}, ModelError, "begins neither as an ARPA file"),
        ({"sentencepiece_path": "en.model"}, ModelError, r"no file 'en.model' \(sentencepiece_path\)"),
    ],
)
def test_what_cannot_be_is_said(options, error, message, stand_in, path):
    (path.parent / "other.txt").write_text("hello")
    given = dict(options)
    place = path.parent / given.pop("model_path", path.name)
    with pytest.raises(error, match=message):
        PerplexityFilter(place, **given)


def test_a_file_cut_short_is_an_error_of_the_model(stand_in, path):
    path.write_text(ARPA[:100], encoding="utf-8")
    with pytest.raises(ModelError, match=r"PerplexityFilter: .*en\.arpa cannot be loaded: Cannot read model"):
        PerplexityFilter(path).score_document("a")


@pytest.mark.parametrize(
    ("done", "message"),
    [
        (types.SimpleNamespace(returncode=-11), "KenLM crashes on .*en.bin. It is damaged"),
        (subprocess.TimeoutExpired("python", 600), "does not come to an end with .*en.bin"),
        (types.SimpleNamespace(returncode=0), "cannot be loaded: Cannot read model"),
        (types.SimpleNamespace(returncode=1), "cannot be loaded: Cannot read model"),
    ],
)
def test_a_binary_file_is_tried_in_a_process_of_its_own(done, message, stand_in, tmp_path, monkeypatch):
    def run(command, **options):
        assert command[-1] == str(tmp_path / "en.bin")
        if isinstance(done, Exception):
            raise done
        return done

    monkeypatch.setattr("tamis.filters.perplexity.subprocess.run", run)
    (tmp_path / "en.bin").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0")
    with pytest.raises(ModelError, match=message):
        PerplexityFilter(tmp_path / "en.bin").score_document("a")


def test_without_the_package_the_pip_command_is_given(path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tamis\[kenlm\]'"):
        PerplexityFilter(path)
