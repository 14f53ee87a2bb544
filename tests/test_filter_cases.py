"""Every filter on texts in many scripts, kept as data: what it must say of each, and what it keeps and drops.

A case of ``cases/filters/NAME.jsonl`` has a name, a text (or null), the options of the filter, and what is expected:
``score``, worked out by hand or by a few lines that share nothing with the filter, and ``kept``; for what a rule set
drops also a ``reason``, one of those it gives. Options that name a model are found in a folder that is made here, and
those that name a file among the ``files`` of the case.
"""

import inspect
import json
import unicodedata
from pathlib import Path

import pyarrow as pa
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from tamis import DocumentFilter, ScoreFilter, filters
from tamis.filters.perplexity import _language_model
from tamis.table import marks
from tiny_fasttext import LANGUAGES, SPOKEN, write_model
from tiny_kenlm import ARPA, put_in_place

FOLDER = Path(__file__).parent / "cases" / "filters"
BASES = {"BoundedFilter", "DocumentFilter"}
NAMES = sorted(
    name
    for name in filters.__all__
    if inspect.isclass(each := getattr(filters, name)) and issubclass(each, DocumentFilter) and name not in BASES
)
RULE_SETS = ("c4_quality", "fineweb", "fineweb_quality", "gopher_quality", "gopher_repetition", "massive_text")
FAILING = "known_failures"


def read(name):
    """The cases of a file; none where there is no file, which another test says."""
    path = FOLDER / f"{name}.jsonl"
    if not path.exists():
        return []
    # Texts hold separators at which str.splitlines() would divide.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def cases(names, *how):
    rows = [(name, row) for name in names for row in read(name)]
    return [pytest.param(row.get("filter", name), row, id=f"{name}: {row['name']}", marks=how) for name, row in rows]


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with the models that cases name."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "quality.bin")
    write_model(folder / "languages.bin", SPOKEN, LANGUAGES)
    (folder / "en.arpa").write_text(ARPA, encoding="utf-8")
    words = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = WhitespaceSplit()
    words.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(autouse=True)
def _no_kenlm(monkeypatch):
    put_in_place(monkeypatch)
    _language_model.cache_clear()


def made(name, case, models, folder):
    """The filter of a case."""
    for file, content in case.get("files", {}).items():
        (folder / file).write_text(content, encoding="utf-8")
    places = {p.name: str(p) for p in (*models.iterdir(), *folder.iterdir())}
    options = {
        key: places.get(value, value) if isinstance(value, str) else value
        for key, value in case.get("options", {}).items()
    }
    return getattr(filters, name)(**options)


def holds(name, case, models, folder):
    """Hold a filter to a case; the text stands in company, and neither first nor last."""
    texts = pa.array(["before it ", case["text"], " after it"], pa.large_string())
    rule = made(name, case, models, folder)
    if "score" in case:
        scores = rule.score_batch(texts)
        assert scores.type == rule.score_type
        expected, found = case["score"], scores[1].as_py()
        if isinstance(expected, float):  # fastText computes in float32
            expected = pytest.approx(expected, rel=1e-9, abs=case.get("within", 1e-12))
        assert found == expected
    steps = ScoreFilter(rule).steps() if isinstance(rule, DocumentFilter) else rule.steps()
    table, dropped = pa.table({"text": texts}), []
    for step in steps:  # a step of a rule set may change the text
        table, reasons, _ = marks(step.open()(table))
        if reasons is not None and reasons[1].is_valid:
            dropped.append(reasons[1].as_py())
    assert (not dropped) == case["kept"], (dropped, case.get("why"))
    assert case.get("reason") is None or case["reason"] in dropped


@pytest.mark.parametrize(("name", "case"), cases(NAMES))
def test_a_filter_says_of_a_text_what_it_must(name, case, models, tmp_path):
    holds(name, case, models, tmp_path)


@pytest.mark.parametrize(("name", "case"), cases(RULE_SETS))
def test_a_rule_set_keeps_and_drops_what_it_must(name, case, models, tmp_path):
    holds(name, case, models, tmp_path)


@pytest.mark.parametrize(
    ("name", "case"), cases([FAILING], pytest.mark.xfail(strict=True, raises=AssertionError, reason="misjudged so far"))
)
def test_good_documents_that_are_misjudged(name, case, models, tmp_path):
    holds(name, case, models, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_every_filter_has_cases_of_every_kind(name):
    rows = read(name)
    texts = [row["text"] for row in rows]
    assert len({row["name"] for row in rows}) == len(rows) >= 8
    assert {"", None} <= set(texts)
    assert any(is_of_another_script(text) for text in texts if text)
    assert {row["kept"] for row in rows} == {True, False}


def is_of_another_script(text):
    """Whether most of its letters are not Latin."""
    letters = [c for c in text if c.isalpha()]
    latin = sum(unicodedata.name(c, "").startswith("LATIN") for c in letters)
    return latin < len(letters) / 2


def test_no_file_of_cases_is_left_out():
    known = {*NAMES, *RULE_SETS, FAILING}
    assert {path.stem for path in FOLDER.glob("*.jsonl")} <= known
    assert all("kept" in row and "why" in row for row in read(FAILING))
