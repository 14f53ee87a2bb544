"""The contract of stages and folds: every one in the package holds it, and every way to break it is noticed."""

from __future__ import annotations

import dataclasses
import os
import threading
from dataclasses import dataclass, field
from inspect import isabstract
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import tamis
import tamis.classifiers
from tamis import filters
from tamis.dataset import _Count
from tamis.explanation import _KeepId  # copies a column, inside of explain alone
from tamis.filters import Filter, RepeatingTopNGramsFilter, Score, ScoreFilter, Where, WordCountFilter, parse_expression
from tamis.filters.bounded import MeasuredFilter
from tamis.models.embed import Embed
from tamis.models.generation import Generate
from tamis.modifiers import (
    C4LineRemover,
    HasText,
    HtmlToText,
    Modify,
    NewlineNormalizer,
    Rename,
    SectionNumberFormatter,
    TextCleaner,
    UnicodeReformatter,
    UrlRemover,
)
from tamis.report import Lengths
from tamis.selection.split import Split, StratifiedSplit, StratumBounds
from tamis.stage import Fold, FoldThenStage, Needs, Stage
from tamis.table import mark, put
from tamis.testing import check_fold, check_stage, sample_table

TABLE = sample_table()
STRATIFIED = StratifiedSplit({"train": 0.7, "validation": 0.3}, "source")

MEASURED = {
    name: getattr(filters, name)()
    for name in filters.__all__
    if isinstance(getattr(filters, name), type) and issubclass(getattr(filters, name), MeasuredFilter)
}
STAGES: dict[str, Stage] = {
    **{
        f"{type(each).__name__} {how}": ScoreFilter(each, **options)
        for each in (WordCountFilter(3, 100), RepeatingTopNGramsFilter(2, 0.5), RepeatingTopNGramsFilter(5, 0.1, "en"))
        for how, options in {
            "alone": {},
            "inverted": {"invert": True},
            "with a score": {"score_field": "made"},
            "over a column": {"score_field": "score", "score_type": "float"},
        }.items()
        if not (how == "over a column" and each == RepeatingTopNGramsFilter(2, 0.5))
    },
    **{
        f"{name} {how}": ScoreFilter(made, **options)
        for name, made in MEASURED.items()
        for how, options in {"alone": {}, "with a score": {"score_field": "made"}}.items()
    },
    "CommonWordsFilter": ScoreFilter(filters.CommonWordsFilter(words=["the", "a"], min_num_common_words=1)),
    "CommonWordsFilter without spaces": ScoreFilter(filters.CommonWordsFilter("zh", 1)),
    "CommonEnglishWordsFilter": ScoreFilter(filters.CommonEnglishWordsFilter(), score_field="made"),
    "BoilerPlateStringFilter": ScoreFilter(filters.BoilerPlateStringFilter(), score_field="made"),
    "SubstringFilter": ScoreFilter(filters.SubstringFilter("a"), score_field="made"),
    "PornographicUrlsFilter": ScoreFilter(filters.PornographicUrlsFilter(), score_field="made"),
    "C4LineRemover": Modify(C4LineRemover(1)),
    "BadWordsFilter": ScoreFilter(filters.BadWordsFilter(words=["the", "of a"]), score_field="made"),
    "CurlyBracketsFilter": ScoreFilter(filters.CurlyBracketsFilter(), score_field="made"),
    "GeneralCommentToCodeFilter": ScoreFilter(filters.GeneralCommentToCodeFilter("C++"), score_field="made"),
    "HistogramFilter": ScoreFilter(filters.HistogramFilter("ru"), score_field="made"),
    "HTMLBoilerplateFilter": ScoreFilter(filters.HTMLBoilerplateFilter(0.2, 5), score_field="made"),
    "LoremIpsumFilter": ScoreFilter(filters.LoremIpsumFilter(), score_field="made"),
    "PerExtensionFilter": ScoreFilter(filters.PerExtensionFilter("python", "yml"), score_field="made"),
    "PythonCommentToCodeFilter": ScoreFilter(filters.PythonCommentToCodeFilter(), score_field="made"),
    "SentenceCountFilter": ScoreFilter(filters.SentenceCountFilter(2), score_field="made"),
    "UrlBlocklistFilter": ScoreFilter(filters.UrlBlocklistFilter(banned_words=["a", "the"]), score_field="made"),
    "XMLHeaderFilter": ScoreFilter(filters.XMLHeaderFilter(), score_field="made"),
    "Score by a filter": Score(WordCountFilter(), "made"),
    "Score by a function": Score(len, "made", score_type=int),
    "Filter by a filter": Filter(WordCountFilter(1, 5), "score"),
    "Filter by a filter, inverted": Filter(WordCountFilter(1, 5), "score", invert=True),
    "Filter by a function": Filter(abs, "score"),
    "Filter on text": Filter(str.isascii, "text"),
    "Where": Where(parse_expression("score >= 0 and source in ['web', 'books']")),
    "Where null": Where(parse_expression("source is None or not score > 3")),
    "UnicodeReformatter": Modify(UnicodeReformatter()),
    "UnicodeReformatter with NFKC": Modify(UnicodeReformatter(normalization="NFKC", uncurl_quotes=True)),
    "NewlineNormalizer": Modify(NewlineNormalizer()),
    "UrlRemover": Modify(UrlRemover()),
    "NewlineNormalizer to LF": Modify(NewlineNormalizer("lf")),
    "BoilerPlateStringModifier": Modify(tamis.modifiers.BoilerPlateStringModifier()),
    "BoilerPlateStringModifier of lines": Modify(tamis.modifiers.BoilerPlateStringModifier(unit="line", phrases=["a"])),
    "CaseNormalizer": Modify(tamis.modifiers.CaseNormalizer()),
    "CaseNormalizer, capitals": Modify(tamis.modifiers.CaseNormalizer("upper")),
    "CodeCommentRemover": Modify(tamis.modifiers.CodeCommentRemover("python", docstrings=True)),
    "ControlCharacterRemover": Modify(tamis.modifiers.ControlCharacterRemover()),
    "ControlCharacterRemover of all": Modify(tamis.modifiers.ControlCharacterRemover(zero_width=True, directions=True)),
    "LineRemover": Modify(tamis.modifiers.LineRemover(["x", ""])),
    "LineRemover by expression": Modify(tamis.modifiers.LineRemover(["^Line [0-9]*"], match="expression")),
    "MarkdownRemover": Modify(tamis.modifiers.MarkdownRemover()),
    "MarkdownRemover of more": Modify(tamis.modifiers.MarkdownRemover(code="drop", links="url", lists="drop")),
    "QuotationNormalizer": Modify(tamis.modifiers.QuotationNormalizer("every")),
    "QuotationRemover": Modify(tamis.modifiers.QuotationRemover()),
    "Slicer": Modify(tamis.modifiers.Slicer(2, "e", include_right=False)),
    "UnicodeNormalizer": Modify(tamis.modifiers.UnicodeNormalizer("NFKD")),
    "WhitespaceNormalizer": Modify(tamis.modifiers.WhitespaceNormalizer()),
    "WhitespaceNormalizer, collapsed": Modify(tamis.modifiers.WhitespaceNormalizer("collapse")),
    "WhitespaceNormalizer, joined": Modify(tamis.modifiers.WhitespaceNormalizer("join")),
    "HtmlToText": Modify(HtmlToText()),
    "HtmlToText with addresses, without code": Modify(HtmlToText(code="drop", links="url")),
    "TextCleaner": Modify(TextCleaner()),
    "SectionNumberFormatter": Modify(SectionNumberFormatter()),
    "Rename": Rename({"question": ["Body", "text"], "rank": "score", "lang": "Lang"}, optional=["lang"]),
    "Rename numbers": Rename({"score": "Score", "none": "None"}, optional=["none"], numbers=["score", "none"]),
    "HasText": HasText(["source", "text"]),
    "Modify by a function": Modify(str.upper),
    "Modify another column": Modify(str.upper, text_field="source"),
    "Split": Split(),
    "Split by source": Split({"a": 0.5, "b": 0.25, "c": 0.25}, seed=3, by="source", column="part"),
    "Split by number": Split(by="score"),
    "Split over a column": Split(column="source"),
    "DividedSplit": STRATIFIED.then({"'web'": np.array([0.4]), "None": np.array([0.0])}),
}
FOLDS: dict[str, Fold[Any, Any]] = {
    "StratumBounds": STRATIFIED.fold(),
    "StratumBounds of numbers": StratumBounds((0.5, 0.25, 0.25), "score", seed=1),
    "StratumBounds of structs": StratumBounds((0.5, 0.5), "meta"),
    "Lengths": Lengths(("id", "text", "score", "meta"), "text"),
    "count": _Count(),
    "Lengths without text": Lengths(("score", "source")),
}
IN_A_FRESH_PROCESS = {"Score by a function", "UnicodeReformatter", "Where", "DividedSplit"}


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_holds_the_contract(name):
    check_stage(STAGES[name], TABLE, fresh_process=name in IN_A_FRESH_PROCESS)


@pytest.mark.parametrize("name", FOLDS)
def test_every_fold_holds_the_contract(name):
    check_fold(FOLDS[name], TABLE)


def test_a_stratum_of_more_documents_than_are_kept_exactly_holds_it_too(monkeypatch):
    monkeypatch.setattr("tamis.selection.split._EXACT", 16)
    check_fold(StratumBounds((0.5, 0.5), "source"), sample_table(120))


def _subclasses(kind):
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)


MODELS = {
    "AegisClassifier": "test_aegis.py",
    "ContentTypeClassifier": "test_classifiers.py",
    "DistributedDataClassifier": "test_classifiers.py",
    "DomainClassifier": "test_classifiers.py",
    "Embed": "test_embed.py",
    "FineWebEduClassifier": "test_classifiers.py",
    "FineWebMixtralEduClassifier": "test_classifiers.py",
    "FineWebNemotronEduClassifier": "test_classifiers.py",
    "Generate": "test_generate.py",
    "InstructionDataGuardClassifier": "test_instruction_data_guard.py",
    "MultilingualDomainClassifier": "test_classifiers.py",
    "PromptTaskComplexityClassifier": "test_classifiers.py",
    "QualityClassifier": "test_classifiers.py",
}
"""Stages that need a model hold the contract beside the models that are made for them."""
ELSEWHERE = {
    "AroundCut": "test_importance.py",
    "BoundCounts": "test_thresholds.py",
    "BestDocuments": "test_sample.py",
    "Blank": "test_importance.py",
    "ById": "test_importance.py",
    "Distributions": "test_thresholds.py",
    "Draw": "test_report_data.py",
    "Excerpts": "test_importance.py",
    "FastTextClassifierFilter": "test_fasttext.py",
    "FastTextLabelModifier": "test_fasttext.py",
    "FastTextLangId": "test_fasttext.py",
    "FastTextLanguageFilter": "test_fasttext.py",
    "FastTextQualityFilter": "test_fasttext.py",
    "HashesFound": "test_importance.py",
    "HybridWeight": "test_importance.py",
    "IdCheck": "test_importance.py",
    "Judged": "test_scores.py",
    "JudgedLater": "test_scores.py",
    "MixtureStep": "test_mixture.py",
    "MixtureWeights": "test_mixture.py",
    "NgramCounts": "test_ngram_selection.py",
    "NgramExamples": "test_ngram_selection.py",
    "NgramWeights": "test_ngram_selection.py",
    "ListedTags": "test_rows.py",
    "PerplexityFilter": "test_perplexity.py",
    "PercentileFilter": "test_thresholds.py",
    "PiiCounts": "test_pii_modifier.py",
    "PiiModifier": "test_pii_modifier.py",
    "PiiSpans": "test_pii_modifier.py",
    "PromptCompletion": "test_rows.py",
    "Resample": "test_sample.py",
    "Resampled": "test_sample.py",
    "ScoreDistribution": "test_thresholds.py",
    "SampleVectors": "test_mixture.py",
    "Several": "test_importance.py",
    "TagCounts": "test_rows.py",
    "TagList": "test_rows.py",
    "TagLists": "test_evaluation.py",
    "TagScores": "test_evaluation.py",
    "TextHashes": "test_importance.py",
    "TokenCountFilter": "test_token_count.py",
    "TokenizerFertilityFilter": "test_token_count.py",
    "Values": "test_importance.py",
    "WeightSummary": "test_sample.py",
    "WithinPercentiles": "test_thresholds.py",
    "WorstRank": "test_thresholds.py",
    "_ColumnWithin": "test_thresholds.py",
    "_Copy": "test_scores.py",
    "_ScoreWithin": "test_thresholds.py",
}
"""Those that need a table of their own."""
PARTS = {"BestDocuments", "Resampled"}
"""Made and tested through ``Resample``."""


def test_no_stage_or_fold_of_the_package_is_left_out():
    for name in tamis.__all__:
        getattr(tamis, name)
    models = {getattr(tamis.classifiers, name) for name in tamis.classifiers.__all__} | {Embed, Generate}
    assert {each.__name__ for each in models} == set(MODELS)
    for name, file in {**MODELS, **ELSEWHERE}.items():
        content = (Path(__file__).parent / file).read_text()
        assert "check_stage(" in content or "check_fold(" in content, file
        assert name in content or name in PARTS, (name, file)
    here = models | {_KeepId} | {type(s) for s in [*STAGES.values(), *FOLDS.values(), STRATIFIED]}
    here |= {type(getattr(s, a)) for s in STAGES.values() for a in ("filter_obj", "modifier") if hasattr(s, a)}
    kinds = (Stage, Fold, FoldThenStage, tamis.DocumentFilter, tamis.DocumentModifier)
    every = {
        each
        for kind in kinds
        for each in _subclasses(kind)
        if each.__module__.startswith("tamis.") and not isabstract(each)
    }
    assert {each.__name__ for each in every - here} - set(ELSEWHERE) == set()


@pytest.mark.parametrize("name", STAGES)
def test_every_description_is_frozen(name):
    stage = STAGES[name]
    attribute = dataclasses.fields(stage)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(stage, attribute, None)


def test_a_table_without_rows_or_with_one_is_no_exception():
    for rows in (0, 1, 2):
        for name, stage in STAGES.items():
            assert stage.open()(sample_table(rows)).num_rows == rows, name
        for fold in FOLDS.values() if rows else ():
            check_fold(fold, sample_table(rows))
    check_fold(STRATIFIED.fold(), sample_table(0))


# -- stages that break a promise ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken(Stage):
    """Makes the number of characters, except for what ``how`` does to it."""

    how: str
    state: Any = field(default_factory=count)

    def needs(self, schema):
        return Needs(texts=("text",), makes=(pa.field("made", pa.int64()),))

    def open(self):
        return getattr(self, "_" + self.how)

    def made(self, table):
        return pc.fill_null(pc.utf8_length(table["text"]), 0).cast(pa.int64())

    def right(self, table):
        return put(table, "made", self.made(table))

    def _nothing(self, table):
        return self.right(table)

    def _drops_rows(self, table):
        return self.right(table).slice(0, table.num_rows - 1) if table.num_rows > 1 else self.right(table)

    def _reorders_rows(self, table):
        out = self.right(table)
        return out.take(pa.array(range(out.num_rows))[::-1])

    def _changes_a_column(self, table):
        return put(self.right(table), "source", pc.utf8_upper(table["source"]))

    def _changes_the_type_of_a_column(self, table):
        return self.right(table).set_column(2, "score", table["score"].cast(pa.float64()))

    def _removes_a_column(self, table):
        return self.right(table).drop_columns(["meta"])

    def _makes_nothing(self, table):
        return table

    def _makes_another_type(self, table):
        return put(table, "made", self.made(table).cast(pa.int32()))

    def _makes_more_than_it_says(self, table):
        return put(self.right(table), "more", self.made(table))

    def _counts_its_calls(self, table):
        return put(table, "made", pa.array([next(self.state)] * table.num_rows, pa.int64()))

    def _looks_at_other_rows(self, table):
        longest = pc.max(self.made(table)).as_py() if table.num_rows else 0
        return put(table, "made", pa.array([longest] * table.num_rows, pa.int64()))

    def _looks_at_the_number_of_rows(self, table):
        return put(table, "made", pa.array([int(table.num_rows == 7)] * table.num_rows, pa.int64()))

    def _reads_the_first_chunk(self, table):
        chunks = table["text"].chunks
        few = len(chunks) > 1
        return put(table, "made", pa.array([len(chunks[0])] * table.num_rows if few else self.made(table), pa.int64()))

    def _gives_an_empty_table_another_schema(self, table):
        return self.right(table) if table.num_rows else table.append_column("made", pa.array([], pa.null()))

    def _fails_on_null(self, table):
        return put(table, "made", pa.array([len(t) for t in table["text"].to_pylist()], pa.int64()))

    def _fails_on_blank(self, table):
        return put(table, "made", pa.array([1 // len(t.split()) for t in table["text"].to_pylist() if t], pa.int64()))

    def _depends_on_the_process(self, table):
        return put(table, "made", pa.array([os.getpid()] * table.num_rows, pa.int64()))

    def _depends_on_the_hash_seed(self, table):
        return put(table, "made", pa.array([hash(t) for t in table["id"].to_pylist()], pa.int64()))

    def _marks_by_company(self, table):
        reasons = ["too early" if i % 2 else None for i in range(table.num_rows)]
        return mark(self.right(table), pa.array(reasons, pa.string()))

    def _writes_into_its_input(self, table):
        if table.num_rows:
            numbers = np.frombuffer(table["mutable"].chunk(0).buffers()[1], dtype=np.int64)
            numbers[0] += 1
        return self.right(table)


BREAKS = {
    "drops_rows": "Broken got 40 rows and returned 39",
    "reorders_rows": "Broken changed '(id|text|score|source|meta)': row 0",
    "changes_a_column": "Broken changed 'source': row 0, column 'source': 'web' and 'WEB'",
    "changes_the_type_of_a_column": "Broken changed the type of 'score' to double",
    "removes_a_column": "Broken removed 'meta'",
    "makes_nothing": "declares that it makes 'made', and did not",
    "makes_another_type": "declares 'made' as int64, and made int32",
    "makes_more_than_it_says": r"made \['more'\] without declaring it",
    "counts_its_calls": "gave another result the second time: row 0, column 'made': 0 and 1",
    "looks_at_other_rows": "rows in batches of 1 differ from rows together: row 0, column 'made': 5000 and 44",
    "looks_at_the_number_of_rows": "rows in batches of 7 differ from rows together",
    "reads_the_first_chunk": "columns in several chunks give another result",
    "gives_an_empty_table_another_schema": "gives an empty table another schema",
    "depends_on_the_process": "gave another result in a fresh process",
    "depends_on_the_hash_seed": "gave another result in a fresh process",
    "marks_by_company": "batches of 1 differ from rows together: row 1, column '__reason': 'too early' and None",
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_promise_is_named(how):
    with pytest.raises(AssertionError, match=BREAKS[how]):
        check_stage(Broken(how, None if how.startswith("depends") else count()), TABLE, fresh_process="depends" in how)


@pytest.mark.parametrize(("how", "error"), [("fails_on_null", TypeError), ("fails_on_blank", ZeroDivisionError)])
def test_a_stage_without_an_answer_for_null_or_blank_texts_fails(how, error):
    with pytest.raises(error):
        check_stage(Broken(how), TABLE, fresh_process=False)


def test_a_stage_that_writes_into_its_input_is_noticed():
    numbers = pa.Array.from_buffers(pa.int64(), 40, [None, pa.py_buffer(bytearray(320))])
    with pytest.raises(AssertionError, match="Broken changed the table it was given"):
        check_stage(Broken("writes_into_its_input"), TABLE.append_column("mutable", numbers), fresh_process=False)


def test_the_stage_without_a_fault_passes():
    check_stage(Broken("nothing", None), TABLE)


def test_a_description_that_cannot_travel_is_noticed():
    with pytest.raises(TypeError, match="pickle"):
        check_stage(Broken("nothing", threading.Lock()), TABLE)


@dataclass(frozen=True)
class Noisy(Stage):
    """Differs from call to call by up to ``noise``."""

    noise: float
    calls: Any = field(default_factory=count)

    def needs(self, schema):
        return Needs(makes=(pa.field("made", pa.float64()),))

    def open(self):
        return lambda t: put(t, "made", pa.array([1 + self.noise * (next(self.calls) % 2)] * t.num_rows, pa.float64()))


def test_floats_may_differ_by_the_tolerance_and_no_more():
    check_stage(Noisy(1e-7), TABLE, tolerance=1e-6, fresh_process=False)
    with pytest.raises(AssertionError, match="another result the second time"):
        check_stage(Noisy(1e-5), TABLE, tolerance=1e-6, fresh_process=False)


def test_scores_that_are_no_numbers_are_equal_to_themselves():
    check_stage(Score(lambda text: float("nan"), "made"), TABLE, fresh_process=False)


# -- folds that break a promise -------------------------------------------------------------------------------


@dataclass(frozen=True)
class BrokenFold(Fold[Any, Any]):
    """Counts rows and adds up scores, except for what ``how`` does to it."""

    how: str

    def start(self):
        return {"rows": 0, "sum": 0, "first": None, "kept": np.zeros(0), "calls": 0}

    def add(self, state, table):
        scores = pc.fill_null(table["score"], 0).to_numpy()
        first = table["id"][0].as_py() if table.num_rows and state["first"] is None else state["first"]
        return {
            "rows": state["rows"] + table.num_rows,
            "sum": state["sum"] + int(scores.sum()),
            "first": first,
            "kept": np.concatenate([state["kept"], scores]),
            "calls": state["calls"] + 1,
        }

    def merge(self, left, right):
        if self.how == "forgets the left":
            return right
        if self.how == "forgets the right":
            return left
        first = left["first"] if left["first"] is not None else right["first"]
        both = {k: left[k] + right[k] for k in ("rows", "sum", "calls")}
        return {**both, "first": first, "kept": np.concatenate([left["kept"], right["kept"]])}

    def finish(self, state):
        key = {"depends on the order": "first", "counts its calls": "calls", "keeps the order": "kept"}.get(self.how)
        if self.how == "averages":
            return {"mean": state["sum"] / max(state["rows"], 1), "values": np.sort(state["kept"])}
        return state[key] if key else (state["rows"], state["sum"])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("forgets the left", r"BrokenFold merged in reverse, cut at \[0\] gives \(0, 0\) instead of \(40, "),
        ("forgets the right", r"BrokenFold merged in order, cut at \[0\] gives \(0, 0\) instead of \(40, "),
        ("depends on the order", r"BrokenFold merged in reverse, cut at \[20\] gives 'doc-20' instead of 'doc-0'"),
        ("keeps the order", r"BrokenFold merged in reverse, cut at \[20\]"),
        ("counts its calls", r"BrokenFold merged in order, cut at \[0\] gives 2 instead of 1"),
    ],
)
def test_a_fold_that_depends_on_the_cut_or_the_order_is_noticed(how, message):
    with pytest.raises(AssertionError, match=message):
        check_fold(BrokenFold(how), TABLE)


class AddsToTheFirst(BrokenFold):
    """Right where tables are folded apart, wrong where one state takes several."""

    def add(self, state, table):
        return super().add(self.start() if state["rows"] > 3 else state, table)


def test_a_fold_whose_add_forgets_is_noticed():
    with pytest.raises(AssertionError, match="AddsToTheFirst added row by row gives"):
        check_fold(AddsToTheFirst("nothing"), TABLE)


def test_the_fold_without_a_fault_passes_and_gives_its_answer():
    assert check_fold(BrokenFold("nothing"), TABLE)[0] == 40
    assert check_fold(BrokenFold("averages"), TABLE)["values"].shape == (40,)


def test_a_state_that_cannot_travel_is_noticed():
    class Unpicklable(BrokenFold):
        def add(self, state, table):
            return {**super().add(state, table), "lock": threading.Lock()}

    with pytest.raises(TypeError, match="pickle"):
        check_fold(Unpicklable("nothing"), TABLE)


# -- the sample -----------------------------------------------------------------------------------------------


def test_the_sample_holds_what_has_found_faults_before():
    texts = TABLE["text"].to_pylist()
    assert None in texts
    assert "" in texts
    assert any(t and not t.strip() for t in texts)
    assert any("\x00" in (t or "") for t in texts)
    assert sample_table(3, text_field="body").column_names == ["id", "body", "score", "source", "meta"]
    assert TABLE["score"].null_count
    assert sample_table(0).schema == TABLE.schema
