"""Detectors that run a model: token classifiers in their published layouts, spaCy, Presidio."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import BertConfig, BertForTokenClassification, DebertaV2ForTokenClassification, pipeline

from tamis import DocumentDataset, Modify
from tamis.errors import MissingExtraError, ModelError, StageError, UsageError
from tamis.models import token_labels
from tamis.models.settings import RunSettings
from tamis.models.token_labels import TextLabels, TokenLabeller
from tamis.pii import Detector, ModelDetector, PiiModifier, PiiSpans, PresidioDetector, SpacyDetector
from tamis.pii.model_detector import grouped
from tamis.pii.pieces import entity_of, pieces
from tamis.testing import check_stage, sample_table
from tiny_checkpoints import WORDS, deberta_config, enlarge
from tiny_words import save_word_tokenizer

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-MISC"]
EXACT = {"dtype": "float32", "device": "cpu"}

pytestmark = pytest.mark.usefixtures("one_thread")


def _save(path, model):
    save_word_tokenizer(path)
    with torch.no_grad():  # answers that are not all of one label
        model.classifier.weight *= 3
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    names = dict(enumerate(LABELS))
    config = BertConfig(
        vocab_size=400,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        pad_token_id=0,
        id2label=names,
        label2id={v: k for k, v in names.items()},
    )
    return _save(tmp_path_factory.mktemp("bert") / "m", enlarge(BertForTokenClassification(config), 1))


@pytest.fixture(scope="module")
def deberta(tmp_path_factory):
    names = dict(enumerate(["O", "PER", "GPE"]))
    config = deberta_config(id2label=names, label2id={v: k for k, v in names.items()})
    return _save(tmp_path_factory.mktemp("deberta") / "m", enlarge(DebertaV2ForTokenClassification(config), 2))


def _texts(n, longest, seed=0):
    # An order of words that is the same everywhere, from a generator of its own.
    generator = torch.Generator().manual_seed(seed)

    def draw(most):
        return int(torch.randint(1, most, (1,), generator=generator))

    return [" ".join(WORDS[draw(len(WORDS))] for _ in range(draw(longest))) for _ in range(n)]


TEXTS = [
    "",
    None,
    "  ",
    *_texts(30, 50),
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \U0001f44d the court \u65e5\u672c",
]


# -- token classifiers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "deberta"])
def test_spans_are_those_of_the_pipeline_of_transformers(kind, request):
    path = request.getfixturevalue(kind)
    found = ModelDetector(path, **EXACT, batch_tokens=200).open()(pa.array(TEXTS, pa.large_string()))
    peer = pipeline("token-classification", str(path), aggregation_strategy="simple", device="cpu")
    meaning = {"PER": "PERSON", "LOC": "LOCATION", "GPE": "LOCATION"}
    spans = 0
    for row, text in enumerate(TEXTS):
        expected = [
            (e["start"], e["end"], meaning[e["entity_group"]], float(e["score"]))
            for e in (peer(text) if text and text.strip() else [])
            if e["entity_group"] in meaning
        ]
        mine = found.get(row, [])
        assert [(s.start, s.end, s.entity) for s in mine] == [e[:3] for e in expected]
        assert np.allclose([s.score for s in mine], [e[3] for e in expected], atol=1e-5)
        spans += len(mine)
    assert spans > 30
    assert {s.entity for each in found.values() for s in each} == {"PERSON", "LOCATION"}


def test_a_long_text_is_seen_in_windows_that_overlap(bert):
    text = " ".join(_texts(8, 60, seed=3))
    one = TokenLabeller(bert, RunSettings(device="cpu", dtype="float32", max_length=32), overlap=12, who="test")
    labels = one([text])[0]
    size = len(labels.labels)
    assert size > 150
    assert [text[a:b] for a, b in zip(labels.starts, labels.ends, strict=True)] == text.split()
    # Each token as the window answers in which it has more of the text on both sides.
    room, step = 30, 18
    starts = list(range(0, max(size - room, 0) + step, step))
    words = text.split()
    alone = [one([" ".join(words[s : s + room])])[0] for s in starts]
    for token in range(size):
        inside = [(w, token - s) for w, s in enumerate(starts) if 0 <= token - s < len(alone[w].labels)]
        before = {w: 99 if starts[w] == 0 else at for w, at in inside}
        after = {w: 99 if w == len(starts) - 1 else len(alone[w].labels) - 1 - at for w, at in inside}
        best = max(min(before[w], after[w]) for w, _ in inside)
        answers = {int(alone[w].labels[at]) for w, at in inside if min(before[w], after[w]) == best}
        assert int(labels.labels[token]) in answers, token


def test_answers_do_not_depend_on_batches_or_neighbours(bert):
    texts = pa.array(TEXTS, pa.large_string())
    whole = ModelDetector(bert, **EXACT).open()(texts)
    for settings in ({"batch_size": 1}, {"batch_tokens": 70}):
        other = ModelDetector(bert, **EXACT, **settings).open()(texts)
        assert other.keys() == whole.keys()
        for row, spans in whole.items():
            assert [(s.start, s.end, s.entity) for s in other[row]] == [(s.start, s.end, s.entity) for s in spans]


def test_very_long_texts_come_in_pieces(bert, monkeypatch):
    monkeypatch.setattr("tamis.pii.model_detector._LONGEST", 120)
    text = " ".join(_texts(6, 40, seed=5))
    found = ModelDetector(bert, **EXACT).open()(pa.array([text], pa.large_string()))[0]
    assert found
    assert all(not text[s.start].isspace() and (s.end == len(text) or text[s.end].isspace()) for s in found)
    assert found[-1].end > 400
    assert found == sorted(found, key=lambda s: s.start)


def test_memory_that_does_not_suffice_makes_batches_smaller(bert, monkeypatch):
    detector = ModelDetector(bert, **EXACT)
    find = detector.open()
    expected = find(pa.array(TEXTS, pa.large_string()))
    forward = BertForTokenClassification.forward

    def small(self, input_ids=None, **rest):
        if input_ids.numel() > 100:
            message = "no memory"
            raise torch.OutOfMemoryError(message)
        return forward(self, input_ids=input_ids, **rest)

    monkeypatch.setattr(BertForTokenClassification, "forward", small)
    again = find(pa.array(TEXTS, pa.large_string()))
    assert {r: [(s.start, s.end) for s in each] for r, each in again.items()} == {
        r: [(s.start, s.end) for s in each] for r, each in expected.items()
    }

    def none(self, **rest):
        message = "no memory"
        raise torch.OutOfMemoryError(message)

    monkeypatch.setattr(BertForTokenClassification, "forward", none)
    with pytest.raises(StageError, match="no memory for one window"):
        find(pa.array(["the court"], pa.large_string()))


def test_labels_that_say_begin_and_end():
    parted = [("I", "O"), ("B", "PER"), ("I", "PER"), ("E", "PER"), ("S", "PER"), ("I", "LOC")]

    def spans(*numbers):
        n = len(numbers)
        labels = TextLabels(np.arange(n), np.arange(n) + 1, np.array(numbers), np.full(n, 0.5, np.float32))
        return [(a, b, parted[k][1]) for a, b, k, _ in grouped(labels, parted) if parted[k][1] != "O"]

    assert spans(0, 1, 2, 3, 4, 4, 5, 5, 0) == [(1, 4, "PER"), (4, 5, "PER"), (5, 6, "PER"), (6, 8, "LOC")]
    assert spans(1, 3, 2, 2) == [(0, 2, "PER"), (2, 4, "PER")]
    assert spans(1, 2, 1, 2) == [(0, 2, "PER"), (2, 4, "PER")]
    assert spans() == spans(0) == []


def test_what_labels_mean(bert):
    assert ModelDetector(bert).entities == ("PERSON", "LOCATION")
    assert ModelDetector(bert, entity_map={"MISC": "GROUP", "LOC": None}).entities == ("PERSON", "GROUP")
    assert entity_of("phone_number") == "PHONE_NUMBER"
    with pytest.raises(ModelError, match=r"no label of .* means an entity \(O, B-PER.*entity_map="):
        _ = ModelDetector(bert, entity_map={"PER": None, "LOC": None}).entities


def test_what_cannot_be_run_is_said(bert, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="no model directory"):
        _ = ModelDetector("./none").entities
    with pytest.raises(UsageError, match="overlap must be 0 or more"):
        ModelDetector(bert, overlap=-1)
    with pytest.raises(ModelError, match="max_length=2 leaves no room"):
        ModelDetector(bert, max_length=2).open()
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    with pytest.raises(MissingExtraError, match=r"tamis\[models\]"):
        ModelDetector(bert)


def test_an_answer_that_is_not_a_number_costs_its_document_alone(bert, tmp_path, write_jsonl, monkeypatch):
    path = write_jsonl("in.jsonl", [{"text": t} for t in ("the court", "soup soup soup", "the river")])
    forward = BertForTokenClassification.forward

    def broken(self, input_ids=None, **rest):
        made = forward(self, input_ids=input_ids, **rest)
        bad = (input_ids == soup).sum(dim=1) == 3
        made.logits[bad] = float("nan")
        return made

    soup = 5 + sorted(set(WORDS)).index("soup")
    monkeypatch.setattr(BertForTokenClassification, "forward", broken)
    dataset = DocumentDataset.read_json(path).append(Modify(PiiModifier(model=bert, device="cpu")))
    result = dataset.to_json(tmp_path / "out", workers=1, max_bad=1.0, progress="off")
    assert (result.tally.kept, result.tally.total_quarantined) == (2, 1)


# -- in a modifier --------------------------------------------------------------------------------------------


def test_a_modifier_with_a_model_says_what_it_needs_and_holds_the_contract(bert, tmp_path):
    modify = Modify(PiiModifier(model=bert, device="gpu", min_score=0.0))
    needs = modify.needs(pa.schema([("text", pa.string())]))
    assert (needs.device, needs.window) == ("accelerator", 4096)
    assert Modify(PiiModifier()).needs(pa.schema([])).window == 0
    words = pa.array([TEXTS[3 + i % 20] for i in range(20)], pa.large_string())
    table = sample_table(20).append_column("words", words)
    check_stage(
        Modify(PiiModifier(detectors=[ModelDetector(bert, **EXACT)], anonymize_action="mask"), text_field="words"),
        table,
        fresh_process=False,
    )
    check_stage(PiiSpans(detectors=[ModelDetector(bert, **EXACT)]), table, tolerance=1e-5, fresh_process=False)
    changed = modify.open()(table.select(["words"]).rename_columns(["text"]))["text"].to_pylist()
    assert any("<PERSON>" in text for text in changed)
    # Other weights, another run.
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bert.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    identity = modify.identity()
    assert Modify(PiiModifier(model=copy)).identity() == identity != {}
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert Modify(PiiModifier(model=copy)).identity() != identity


def test_a_model_finds_names_and_the_patterns_numbers(bert):
    modifier = PiiModifier(model=bert, device="cpu", supported_entities=["PERSON", "EMAIL_ADDRESS"], min_score=0.0)
    changed = modifier.modify_batch(pa.array([f"{text} ann@corp.org" for text in TEXTS[3:20]], pa.large_string()))
    assert any("<PERSON>" in text for text in changed.to_pylist())
    assert all("@" not in text for text in changed.to_pylist())
    assert "LOCATION" not in "".join(changed.to_pylist())


# -- pieces ---------------------------------------------------------------------------------------------------


def test_pieces_put_together_are_the_text():
    for text in ("", "a", "ab cd ef gh ij", "x" * 50, "\u0627 " * 30, "a b " * 9 + "c" * 30):
        for most in (5, 7, 40):
            found = list(pieces(text, most))
            assert "".join(piece for _, piece in found) == text
            assert all(text[at : at + len(piece)] == piece and len(piece) <= most for at, piece in found)
    assert len(list(pieces(" " * 1000, 10))) == 100


# -- spaCy and Presidio ---------------------------------------------------------------------------------------


class _Pipeline:
    """As ``spacy.Language``: ``pipe`` over texts with contexts; capitalised words are entities."""

    pipe_names = ("tok2vec", "tagger", "parser", "ner")

    def __init__(self):
        self.calls = []

    def pipe(self, texts, *, as_tuples, batch_size, disable):
        assert as_tuples
        self.calls.append((batch_size, tuple(disable)))
        for text, context in texts:
            ents = []
            for word in text.split():
                if word.istitle():
                    label = {"Paris": "GPE", "Acme": "ORG"}.get(word, "PERSON")
                    at = text.index(word)
                    ents.append(SimpleNamespace(start_char=at, end_char=at + len(word), label_=label))
            yield SimpleNamespace(ents=ents), context


@pytest.fixture
def spacy(monkeypatch):
    module, nlp = ModuleType("spacy"), _Pipeline()

    def load(name):
        if name != "small":
            message = f"[E050] Can't find model '{name}'."
            raise OSError(message)
        return nlp

    module.load = load
    module.__spec__ = importlib.util.spec_from_loader("spacy", None)
    monkeypatch.setitem(sys.modules, "spacy", module)
    return nlp


def test_a_pipeline_of_spacy_is_run_in_batches(spacy, monkeypatch):
    texts = pa.array(["met Ann in Paris", None, "", "at Acme", "\U0001f44d Bob"], pa.large_string())
    detector = SpacyDetector("small", batch_size=7)
    assert isinstance(detector, Detector)
    found = detector.open()(texts)
    assert {row: [(s.of(texts[row].as_py()), s.entity) for s in each] for row, each in found.items()} == {
        0: [("Ann", "PERSON"), ("Paris", "LOCATION")],
        4: [("Bob", "PERSON")],
    }
    assert spacy.calls == [(7, ("tagger", "parser"))]
    monkeypatch.setattr("tamis.pii.spacy_detector._LONGEST", 12)
    assert [(s.start, s.end) for s in detector.open()(texts)[0]] == [(4, 7), (11, 16)]
    company = SpacyDetector("small", ("COMPANY",), {"ORG": "COMPANY"})
    assert [s.entity for s in company.open()(texts)[3]] == ["COMPANY"]
    modifier = PiiModifier(spacy="small", supported_entities=["PERSON", "URL"])
    assert modifier.modify_document("Ann: Bob in Paris https://a.org") == "<PERSON> <PERSON> in Paris <URL>"
    with pytest.raises(ModelError, match=r"cannot load the pipeline 'large': .E050"):
        SpacyDetector("large").open()
    with pytest.raises(UsageError, match="no label means COMPANY"):
        SpacyDetector("small", ("COMPANY",))


def test_spacy_that_is_missing_is_said_when_the_detector_is_made(monkeypatch):
    monkeypatch.setattr("tamis.pii.spacy_detector.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="Run: pip install spacy"):
        SpacyDetector("small")


@dataclass(frozen=True)
class _Analyzer:
    """As Presidio's analyzer."""

    def analyze(self, text, *, language, entities):
        assert language == "en"
        found = [SimpleNamespace(entity_type="IBAN_CODE", start=text.find("GB"), end=text.find("GB") + 4, score=1.0)]
        found += [SimpleNamespace(entity_type="PERSON", start=0, end=3, score=0.85)]
        return [r for r in found if r.entity_type in entities and r.start >= 0]


def test_an_analyzer_of_presidio_is_a_detector():
    detector = PresidioDetector(_Analyzer())
    assert isinstance(detector, Detector)
    texts = pa.array(["Ann GB82", None, " ", "Bob"], pa.large_string())
    found = detector.open()(texts)
    assert {row: [(s.start, s.end, s.entity, s.score) for s in each] for row, each in found.items()} == {
        0: [(4, 8, "IBAN", 1.0), (0, 3, "PERSON", 0.85)],
        3: [(0, 3, "PERSON", 0.85)],
    }
    assert PiiModifier(detectors=[detector]).modify_document("Ann GB82") == "<PERSON> <IBAN>"
    narrow = PresidioDetector(_Analyzer(), ("IBAN",))
    assert PiiModifier(detectors=[narrow]).modify_document("Ann GB82") == "Ann <IBAN>"
    assert "_Analyzer" not in repr(detector)


def test_what_is_not_run_is_not_loaded():
    assert token_labels.__name__ in sys.modules
    source = importlib.util.find_spec("tamis.pii.model_detector").loader.get_source("tamis.pii.model_detector")
    assert "import torch" not in source
