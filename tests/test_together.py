"""Stages that are shown the same rows give what they give one after the other."""

from dataclasses import dataclass, field

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis import DocumentDataset, DocumentFilter, ScoreFilter
from tamis.engine import worker
from tamis.engine.together import groups
from tamis.errors import StageError
from tamis.filters import (
    BulletsFilter,
    NumbersFilter,
    RepeatingDuplicateNGramsFilter,
    RepeatingTopNGramsFilter,
    SymbolsToWordsFilter,
    WordCountFilter,
)
from tamis.stage import Needs, Stage
from tamis.table import mark, put
from tamis.text import repetition, surface

CHAIN = (
    ScoreFilter(NumbersFilter(0.3), score_field="digits"),
    ScoreFilter(WordCountFilter(2, 9)),
    ScoreFilter(BulletsFilter(0.5), invert=True),
    ScoreFilter(SymbolsToWordsFilter(0.2), score_field="symbols"),
    ScoreFilter(RepeatingDuplicateNGramsFilter(2, 0.1), score_field="again"),
    ScoreFilter(RepeatingTopNGramsFilter(2, 0.1), score_field="top"),
)


def one_by_one(monkeypatch):
    monkeypatch.setattr(worker, "groups", lambda needs, replaces: [range(i, i + 1) for i in range(len(needs))])


def run(texts, folder, steps):
    rows = pa.table({"id": [str(i) for i in range(len(texts))], "text": pa.array(texts, pa.large_string())})
    result = (
        DocumentDataset.from_arrow(rows).append(*steps).to_json(folder, keep_rejects=True, max_bad=1.0, progress=False)
    )
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.jsonl*"))}
    return files, result


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.sampled_from("a1#- \n.")), max_size=12), st.permutations(CHAIN))
def test_a_chain_drops_the_same_documents_for_the_same_reasons(tmp_path_factory, texts, steps):
    folder = tmp_path_factory.mktemp("runs")
    together, result = run(texts, folder / "together", steps)
    with pytest.MonkeyPatch.context() as patch:
        one_by_one(patch)
        apart, other = run(texts, folder / "apart", steps)
    assert together == apart
    assert result.tally.rejected == other.tally.rejected
    assert result.tally.kept == other.tally.kept


def test_a_chain_walks_over_a_text_once(tmp_path, monkeypatch):
    walks = []
    for module in (surface, repetition):
        real = module._measure
        monkeypatch.setattr(
            module, "_measure", lambda *a, real=real, name=module.__name__: (walks.append(name), real(*a))
        )
    texts = ["# 1 2", "word " * 20, "some words that differ", "- item"]
    run(texts, tmp_path / "out", CHAIN)
    assert walks == ["tamis.text.surface", "tamis.text.repetition"]


@dataclass(frozen=True)
class _Raises(DocumentFilter):
    """Raises on texts that hold a word."""

    word: str
    family = "test"

    def score_document(self, text):
        if self.word in text:
            message = f"cannot read {text!r}"
            raise ValueError(message)
        return len(text)

    def keep_document(self, score):
        return score < 5


def test_a_document_that_was_dropped_is_not_set_aside_by_a_later_stage(tmp_path):
    steps = [ScoreFilter(_Raises("bad")), ScoreFilter(_Raises("worse"))]
    _, result = run(["ok", "long worse", "worse", "bad"], tmp_path / "out", steps)
    assert (result.tally.kept, sum(result.tally.rejected.values()), result.tally.total_quarantined) == (1, 2, 1)


def test_stages_that_replace_a_column_or_say_another_word_stand_alone():
    needs = [Needs(together=word) for word in ("a", "a", "a", "b", "", "", "b", "b")]
    replaces = [(), ("score",), (), (), (), (), (), ()]
    assert [list(g) for g in groups(needs, replaces)] == [[0], [1], [2], [3], [4], [5], [6, 7]]


@dataclass(frozen=True)
class _Loses(Stage):
    """Gives back fewer rows than it got."""

    column: str = field(default="x")

    def needs(self, schema):
        return Needs(texts=("text",), makes=(pa.field(self.column, pa.int64()),), together="test")

    def open(self):
        return lambda table: mark(
            put(table, self.column, pa.array([1] * len(table))).slice(1), pa.nulls(len(table) - 1)
        )


def test_a_broken_stage_is_named_in_a_group_as_well(tmp_path):
    with pytest.raises(StageError, match="_Loses got 2 documents and returned 1"):
        run(["a", "b"], tmp_path / "out", [ScoreFilter(_Raises("x")), _Loses()])
