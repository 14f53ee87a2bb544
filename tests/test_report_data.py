"""What a report says of a run: its counts are the engine's, whatever the bounds; also without input or recipe."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import read_jsonl
from tamis import DocumentDataset, Modify, ScoreFilter
from tamis.cli import main
from tamis.engine import ledger
from tamis.engine.ledger import MANIFEST
from tamis.engine.run import QuarantineWarning
from tamis.errors import UsageError
from tamis.filters import (
    RepeatedLinesByCharFilter,
    RepeatedParagraphsByCharFilter,
    RepeatingDuplicateNGramsFilter,
    RepeatingTopNGramsFilter,
    SubstringFilter,
    Where,
    WordCountFilter,
    parse_expression,
)
from tamis.filters.percentile import PercentileFilter
from tamis.hashing import hash64
from tamis.page.content import pack, to_json, unpack
from tamis.page.directory import open_directory
from tamis.page.draw import Bound, Distributions, Draw, is_number
from tamis.page.gather import look
from tamis.page.histogram import bins_of, counted
from tamis.page.make import report
from tamis.page.sampled import Asked
from tamis.page.spans import places_of, utf16
from tamis.page.trace import resolved, trace
from tamis.recipe import load_recipe
from tamis.selection.split import StratifiedSplit
from tamis.stage import Needs, Stage
from tamis.table import put
from tamis.testing import check_fold

WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "of", "gold", "that", "we", "have")

STAGES = """
[[stage]]
use = "UnicodeReformatter"
[[stage]]
use = "PiiModifier"
supported_entities = ["EMAIL_ADDRESS"]
anonymize_action = "hash"
key_from_environment = "TAMIS_TEST_KEY"
[[stage]]
use = "WordCountFilter"
min_words = {low}
max_words = {high}
score_field = "words"
[[stage]]
use = "RepeatingTopNGramsFilter"
n = 2
max_repeating_ngram_ratio = {share}
[[stage]]
use = "MeanWordLengthFilter"
invert = true
min_mean_word_length = 4.0
max_mean_word_length = 10.0
[[stage]]
use = "Where"
expression = "quality >= 0.1"
"""

RECIPE = (
    """
[input]
path = "{folder}/in"
"""
    + STAGES
    + """
[output]
path = "{folder}/{out}"
keep_rejects = {rejects}
"""
)


def documents(number=240):
    """Texts of many lengths, some with addresses, repetitions, markup, emoji, copies."""
    made = []
    for i in range(number):
        keys = hash64(range(i * 60, i * 60 + 1 + i * 7 % 55))
        text = " ".join(WORDS[int(key) % len(WORDS)] for key in keys)
        if i % 6 == 0:
            text = f"{text}\n{text}"
        if i % 8 == 0:
            text += f" write to jo{i}@example.org or jo{i + 1}@example.net soon"
        if i % 12 == 0:
            text = f"https://example.org/{i}"
        if i % 20 == 0:
            text = "\U0001f98a <script>alert(1)</script> \u201cquoted\u201d " + text + " sch\u00c3\u00b6n"
        made.append({"id": f"d{i}", "text": text, "lang": "de" if i % 3 else "en", "quality": (i * 37 % 100) / 100})
    made[50]["text"] = made[51]["text"]
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An input of two files, one of which has a line that is no JSON; and a run of it."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "in").mkdir()
    found = documents()
    for name, part in (("a", found[:100]), ("b", found[100:])):
        (folder / "in" / f"{name}.jsonl").write_text("".join(json.dumps(d) + "\n" for d in part))
    with (folder / "in" / "b.jsonl").open("a") as file:
        file.write("{broken\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMIS_TEST_KEY", "correct horse battery staple")
        run(folder, "out")
        run(folder, "strict", low=20, share=0.15)
        yield folder


def run(folder, out, *, low=8, high=60, share=0.2, rejects="true"):
    (folder / f"{out}.toml").write_text(
        RECIPE.format(folder=folder, out=out, low=low, high=high, share=share, rejects=rejects)
    )
    assert main(["run", str(folder / f"{out}.toml"), "--workers", "1"]) == 0


@pytest.fixture(scope="module")
def page(folder):
    return report(folder / "out", workers=1)


def sampled_ids(folder, out="out", **asked):
    return look(open_directory(str(folder / out)), Asked(10_000, workers=1, **asked)).sample


# -- counts ---------------------------------------------------------------------------------------------------


def test_counts_are_those_of_the_manifest(folder, page):
    (view,) = page.runs
    totals = json.loads((folder / "out" / MANIFEST).read_bytes())["totals"]
    assert (view.counts.records, view.counts.kept, view.counts.quarantined) == (241, totals["kept"], 1)
    assert view.counts.dropped == 240 - totals["kept"]
    assert view.funnel[0].documents == 241
    assert view.funnel[-1].documents == totals["kept"]
    assert [stage.label for stage in view.stages] == [
        "UnicodeReformatter",
        "PiiModifier",
        "WordCountFilter",
        "RepeatingTopNGramsFilter",
        "MeanWordLengthFilter",
        "Where",
    ]
    assert [stage.kind for stage in view.stages] == ["modifier", "modifier", "filter", "filter", "filter", "filter"]
    assert view.stages[0].documents_in == 240
    assert view.stages[-1].documents_out == totals["kept"]
    for stage in view.stages:
        assert stage.documents_in - stage.documents_out == sum(totals["rejected"].get(stage.label, {}).values())
        assert stage.seconds > 0
    assert ("max_words", "60") in view.stages[2].settings
    assert dict(view.entities) == {"EMAIL_ADDRESS": totals["measures"]["PiiModifier"]["EMAIL_ADDRESS"]}
    kept = {d["id"] for d in read_jsonl(*(folder / "out").glob("part-*.jsonl"))}
    first = sum(f"d{i}" in kept for i in range(100))
    assert sorted(view.sources) == [("a.jsonl", 100, first), ("b.jsonl", 140, len(kept) - first)]
    (cause,) = view.quarantine
    assert (cause.cause, cause.documents) == ("not JSON", 1)
    assert cause.examples[0][1] == 141
    assert view.duplicates.copies == 240 - len({d["text"] for d in documents()}) > 0
    assert view.sample.how == "All 240 documents of the input."


def test_the_traced_sample_decides_as_the_run_did(folder, page):
    view = page.runs[0]
    decided = unpack(view.sample.decided).astype(int)
    rejected = json.loads((folder / "out" / MANIFEST).read_bytes())["totals"]["rejected"]
    for stage in view.stages:
        assert (decided == stage.index).sum() == sum(rejected.get(stage.label, {}).values()), stage.label
    kept = {d["id"] for d in read_jsonl(*(folder / "out").glob("part-*.jsonl"))}
    sample = sampled_ids(folder)
    assert {name for name, stage in zip(sample.ids, decided, strict=True) if stage < 0} == kept
    reasons = {d["id"]: d["rejected"]["reason"] for d in read_jsonl(*(folder / "out" / "_rejects").glob("*.jsonl"))}
    assert {name: why for name, why in zip(sample.ids, sample.reasons, strict=True) if why} == reasons


def within(view, bounds):
    """What the page's own script computes: the documents that are kept with these bounds."""
    keep = unpack(view.sample.fixed) < 0
    for score in view.scores:
        low, high = bounds.get(score.column, (score.low, score.high))
        if low is not None or high is not None:
            keep &= Bound(score.column, low, high, score.invert).keeps(unpack(view.sample.columns[score.column]))
    return keep


@pytest.mark.parametrize(
    ("low", "high", "share", "least"), [(8, 60, 0.2, 4.0), (0, 1000, 1.0, 9.0), (20, 40, 0.1, 3.5), (30, 30, 0.31, 3.9)]
)
def test_moved_bounds_keep_what_the_engine_keeps_with_them(folder, page, low, high, share, least):
    view = page.runs[0]
    by = {score.filter: score for score in view.scores if score.filter}
    assert (by["WordCountFilter"].low_setting, by["WordCountFilter"].high_setting) == ("min_words", "max_words")
    bounds = {
        by["WordCountFilter"].column: (low, high),
        by["RepeatingTopNGramsFilter"].column: (None, share),
        by["MeanWordLengthFilter"].column: (least, 10.0),
    }
    settings = [
        f"WordCountFilter.min_words={low}",
        f"WordCountFilter.max_words={high}",
        f"RepeatingTopNGramsFilter.max_repeating_ngram_ratio={share}",
        f"MeanWordLengthFilter.min_mean_word_length={least}",
    ]
    with pytest.warns(QuarantineWarning):
        kept = load_recipe(folder / "out.toml", settings).dataset().to_arrow().column("id").to_pylist()
    ids = np.array(sampled_ids(folder).ids)
    assert set(ids[within(view, bounds)]) == set(kept)
    assert 0 < len(kept) < 240


def test_every_filter_scores_every_document_on_the_text_as_it_is_there(folder, page):
    view = page.runs[0]
    words = unpack(view.sample.columns["words"])
    texts = dict(zip(sampled_ids(folder).ids, words, strict=True))
    ours = {d["id"]: d["text"] for d in documents()}
    plain = [name for name, text in ours.items() if "@" not in text and "\u201c" not in text]
    for name in plain:
        assert texts[name] == len(ours[name].split())
    assert not np.isnan(words).any()


# -- the sample -----------------------------------------------------------------------------------------------


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(folder):
    whole = report(folder / "out", workers=1).runs[0].sample
    part = report(folder / "out", sample=50, workers=1).runs[0].sample
    assert part.drawn == 50
    assert part.how.startswith("50 of the 240 documents of the input")
    assert unpack(part.columns["words"]).tolist() == unpack(whole.columns["words"]).tolist()[:50]
    other = report(folder / "out", sample=50, seed=1, workers=1).runs[0].sample
    assert unpack(other.columns["words"]).tolist() != unpack(part.columns["words"]).tolist()
    assert report(folder / "out", sample=0).runs[0].sample is None
    with pytest.raises(UsageError, match="at least 0"):
        report(folder / "out", sample=-1)


def test_histograms_hold_every_document_of_the_sample(page):
    view = page.runs[0]
    for score in view.scores:
        values = unpack(view.sample.columns[score.column])
        assert sum(score.before) + score.missing == len(values) == 240
        assert not score.whole
        assert list(score.before) == np.histogram(values[~np.isnan(values)], score.edges)[0].tolist()
        assert sum(score.after) <= view.counts.kept
    assert {"characters", "quality", "words"} <= {score.column for score in view.scores}
    (language,) = view.classes
    assert language.column == "lang"
    assert {value: n for value, n, _ in language.values} == {"de": 160, "en": 80}


def test_documents_are_shown_with_what_was_changed_and_counted(page):
    view = page.runs[0]
    by_id = {document.id: document for document in view.sample.documents}
    assert len(by_id) == len(view.sample.documents)
    document = by_id["d16"]  # it had an address
    assert document.text.endswith("soon")
    assert "@" not in document.text
    (change,) = [c for c in document.changes if c.stage == 1]
    assert change.hunks[0].removed.startswith("j\u2022")  # not the address itself
    passed = [d for d in view.sample.documents if not 0 <= unpack(view.sample.decided)[d.row] < 2]
    around = [h for d in passed for c in d.changes for h in c.hunks]
    assert any(change.stage == 0 for d in passed for change in d.changes)
    assert not [
        h
        for h in around
        if re.search(r"jo\d|@example|example\.(net|org) (or|soon)", h.before + h.removed + h.added + h.after)
    ]
    units = document.text.encode("utf-16-le")
    spans = [s for s in document.spans if s.kind == "personal"]
    marked = [units[2 * span.start : 2 * span.end].decode("utf-16-le") for span in spans]
    assert marked == [hunk.added for hunk in change.hunks]
    assert len(marked) == 2
    assert dict(document.values)["lang"] == "de"
    decided = unpack(view.sample.decided)
    for document in view.sample.documents:
        assert bool(document.reason) == (decided[document.row] >= 0)
    shown = {int(decided[d.row]) for d in view.sample.documents}
    assert shown == set(decided.astype(int).tolist())  # each stage's way to decide can be looked at
    repeated = [s for d in view.sample.documents for s in d.spans if s.label == "most frequent 2-gram"]
    assert repeated
    assert {s.stage for s in repeated} == {3}


def test_documents_next_to_a_bound_are_among_those_shown(page):
    view = page.runs[0]
    words = unpack(view.sample.columns["words"])
    shown = {d.row for d in view.sample.documents}
    for row in np.argsort(np.abs(words - 8), kind="stable")[:6].tolist():
        assert row in shown


def test_a_page_has_room_for_so_much(folder, monkeypatch):
    """Of many scores, long texts and many changes fewer are shown; the counts stay."""
    for name, most in (("_BYTES", 3000), ("_MOST_SPANS", 20), ("_CHANGED", 300)):
        monkeypatch.setattr(f"tamis.page.documents.{name}", most)
    monkeypatch.setattr("tamis.page.gather._PACKED_BYTES", 2000)
    (view,) = report(folder / "out", workers=1).runs
    assert 20 < view.sample.drawn < 120
    assert view.sample.how.startswith(f"{view.sample.drawn} of the 240 documents of the input")
    assert sum(len(packed.data) for packed in view.sample.columns.values()) <= 2000
    assert len(unpack(view.sample.decided)) == view.sample.drawn
    assert all(sum(score.before) + score.missing == view.sample.drawn for score in view.scores)
    shown = view.sample.documents
    assert sum(len(d.text.encode()) for d in shown) <= 3000
    assert sum(len(d.spans) for d in shown) <= 20
    assert sum(len(h.removed) for d in shown for c in d.changes for h in c.hunks) <= 300
    assert view.counts.records == 241


def test_nothing_secret_is_on_the_page(folder, page):
    content = to_json(page).decode()
    assert "correct horse" not in content
    assert "key_from_environment" in page.runs[0].recipe
    import getpass
    import socket

    environment = dict(page.runs[0].environment)
    assert socket.gethostname() not in environment.values()
    assert {"tamis", "python", "pyarrow"} <= environment.keys()
    assert getpass.getuser() not in environment.values()


def test_the_recipe_is_toml_that_can_be_run(folder, page, tmp_path):
    path = tmp_path / "again.toml"
    path.write_text(page.runs[0].recipe)
    with pytest.warns(QuarantineWarning):
        assert load_recipe(path).dataset().count(workers=1) == page.runs[0].counts.kept


# -- what is not there ----------------------------------------------------------------------------------------


def test_without_its_input_the_page_shows_what_was_written(folder, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(folder / "out", out)
    kept = json.loads((out / ledger.RECIPE).read_bytes())
    kept["input"]["path"] = str(tmp_path / "gone")
    (out / ledger.RECIPE).write_bytes(orjson.dumps(kept))
    (view,) = report(out, workers=1).runs
    assert any("name it with --input" in note for note in view.notes)
    assert view.sample.drawn == 240
    assert (unpack(view.sample.decided) < 0).sum() == view.counts.kept
    words = next(score for score in view.scores if score.column == "words")
    assert words.whole
    assert sum(words.after) == view.counts.kept
    (again,) = report(out, input=folder / "in", workers=1).runs
    assert again.notes == ()
    assert {s.filter for s in again.scores} >= {"WordCountFilter", "RepeatingTopNGramsFilter"}


def stripped(text):
    return text.strip()


def test_a_run_without_a_recipe(folder, tmp_path):
    dataset = DocumentDataset.read_json(str(folder / "in"))
    dataset = ScoreFilter(WordCountFilter(min_words=10), score_field="words")(Modify(stripped)(dataset))
    dataset.to_json(tmp_path / "o", keep_rejects=True, workers=1, progress="off")
    result = dataset.to_json(tmp_path / "p", workers=1, progress="off")
    (view,) = report(tmp_path / "o", workers=1).runs
    assert any("not made by a recipe" in note for note in view.notes)
    assert [stage.label for stage in view.stages] == ["stripped", "WordCountFilter"]
    decided = unpack(view.sample.decided)
    assert (decided == 1).sum() == view.counts.dropped > 0
    assert {d.reason for d in view.sample.documents if d.reason} == {"fewer than 10 words"}
    words = next(score for score in view.scores if score.column == "words")
    assert words.whole
    assert (sum(words.before), sum(words.after)) == (240, view.counts.kept)
    (alone,) = report(result, workers=1).runs
    assert any("keep_rejects" in note for note in alone.notes)
    assert alone.sample.drawn == alone.counts.kept


def test_directories_that_hold_no_run(tmp_path):
    with pytest.raises(UsageError, match="does not exist, or is empty"):
        report(tmp_path / "nothing")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "a.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"\(a.txt\) holds no run"):
        report(tmp_path / "foreign")
    (tmp_path / "begun" / "_tamis").mkdir(parents=True)
    with pytest.raises(UsageError, match="holds no run yet"):
        report(tmp_path / "begun")


def test_a_run_that_was_stopped_shows_its_counts(folder, tmp_path):
    from fake_run import Fake

    fake = Fake(tmp_path / "o", 8, name={"use": "WordCountFilter"})
    with contextlib.suppress(KeyboardInterrupt), fake.directory.lock():
        fake.directory.claim("auto")
        fake.directory.start(None)
        for split in fake.splits[:5]:
            fake.directory.commit(split, fake.result(split))
        raise KeyboardInterrupt
    (view,) = report(tmp_path / "o").runs
    assert not view.complete
    assert view.progress.state == "stopped"
    assert "Run the same command again" in view.progress.said
    assert view.counts.kept > 0


def test_an_input_without_a_document(tmp_path):
    empty = pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())})
    ScoreFilter(WordCountFilter())(DocumentDataset.from_arrow(empty)).to_parquet(tmp_path / "in", progress="off")
    text = '[input]\npath = "{0}/in"\n[[stage]]\nuse = "WordCountFilter"\n[output]\npath = "{0}/out"\n'
    (tmp_path / "r.toml").write_text(text.format(tmp_path))
    assert main(["run", str(tmp_path / "r.toml"), "--workers", "1"]) == 0
    (view,) = report(tmp_path / "out", workers=1).runs
    assert view.counts.records == 0
    assert view.sample is None


@dataclass(frozen=True)
class Picky(WordCountFilter):
    """Raises on some documents."""

    def score_batch(self, texts):
        if any("fox dog" in (t or "") for t in texts.to_pylist()):
            message = "no fox dog, please"
            raise ValueError(message)
        return super().score_batch(texts)


def test_documents_on_which_a_stage_raises_are_kept_by_no_bounds(tmp_path, folder):
    stages = '[[stage]]\nuse = "test_report_data:Picky"\n[[stage]]\nuse = "UrlsFilter"\n'
    text = '[input]\npath = "{0}/in"\n' + stages + '[output]\npath = "{1}/out"\n'
    (tmp_path / "r.toml").write_text(text.format(folder, tmp_path) + "[run]\nmax_bad = 0.5\n")
    arguments = ["run", str(tmp_path / "r.toml"), "--workers", "1"]
    failing = sum("fox dog" in d["text"] for d in documents())
    assert 3 < failing < 60
    assert main(arguments) == 0
    (view,) = report(tmp_path / "out", workers=1).runs
    assert view.counts.quarantined == failing + 1
    fixed = unpack(view.sample.fixed)
    assert (fixed == 0).sum() == failing
    first, second = view.stages
    assert first.documents_in == 240
    assert first.documents_out == second.documents_in
    assert second.documents_out == view.counts.kept
    assert view.counts.dropped == 240 - failing - view.counts.kept > 0
    anything = {score.column: (None, None) for score in view.scores}
    assert within(view, anything).sum() == 240 - failing
    assert {d.reason for d in view.sample.documents if "failed" in d.reason} == {
        "failed: ValueError: no fox dog, please"
    }


# -- stages of other kinds ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model(Stage):
    """Stands for a model: it runs on an accelerator, makes a column and changes the text."""

    def needs(self, schema):
        made = (pa.field("shouts", pa.float64()), pa.field("text", schema.field("text").type))
        return Needs(texts=("text",), makes=made, device="accelerator")

    def open(self):
        def run(table):
            table = put(table, "shouts", pa.array([len(t) / 100 for t in table["text"].to_pylist()]))
            return put(table, "text", pc.utf8_upper(table["text"]))

        return run


def traced(*steps, models=1000, rows=40, size=1):
    table = pa.table({"id": [f"x{i}" for i in range(rows)], "text": ["word " * (i % 10) for i in range(rows)]})
    dataset = DocumentDataset.from_arrow(table).append(*steps)
    stages, notes = resolved(dataset.plan, size)
    found = trace(dataset.steps, stages, table, models=models)
    return found, notes, dataset


def test_a_model_is_shown_only_some_documents_that_are_left():
    steps = (ScoreFilter(WordCountFilter(min_words=3)), Model(), Where(parse_expression("shouts < 0.4")))
    found, _, _ = traced(*steps, models=10)
    asked = np.flatnonzero(found.decided != 0)[:10]
    assert np.flatnonzero(found.end["shouts"].is_valid().to_numpy()).tolist() == asked.tolist()
    texts = found.end["text"].to_pylist()
    assert all(texts[row].startswith("WORD") for row in asked)
    assert texts[39] == "word " * 9
    assert "at most" in found.notes[1]
    found, _, dataset = traced(*steps)
    assert (found.decided < 0).sum() == dataset.count(workers=1)
    assert (found.decided == 2).sum() == 8


def test_what_must_see_the_dataset_first_sees_it_or_is_left_out():
    parts = {"train": 0.5, "test": 0.5}
    steps = (
        PercentileFilter(WordCountFilter(), drop_lowest=0.2),
        StratifiedSplit(parts, "text", column="part"),
        Where(parse_expression("part == 'train'")),
    )
    found, notes, dataset = traced(*steps)
    kept = np.array(found.before[0]["id"].to_pylist())[found.decided < 0]
    assert set(kept) == set(dataset.to_arrow()["id"].to_pylist())
    assert found.measures[0].low == 2
    assert found.measures[0].low_setting == ""
    assert "once more" in notes[0]
    found, notes, _ = traced(*steps, size=1 << 40)
    assert "too large" in notes[0]
    assert "'part'" in found.notes[2]
    assert (found.decided < 0).all()


def test_a_filter_with_a_rule_of_its_own_moves_by_no_bound():
    found, _, _ = traced(ScoreFilter(SubstringFilter("word word word"), invert=True), ScoreFilter(WordCountFilter(2)))
    assert found.movable == {"word_count"}
    assert (found.fixed == 0).tolist() == [i % 10 >= 3 for i in range(40)]
    assert (found.decided == 1).sum() == 8


# -- scored datasets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_a_scored_dataset_has_whole_histograms_and_drops_nothing(folder, tmp_path, format):
    out = tmp_path / "scored"
    arguments = ["score", str(folder / "out.toml"), "--out", str(out), "--workers", "1", "--format", format]
    assert main(arguments) == 0
    (view,) = report(out, workers=1).runs
    traced = report(folder / "out", workers=1).runs[0]
    assert (view.counts.kept, view.sample.drawn) == (240, 240)
    for score in view.scores:
        assert score.whole == (score.column != "characters")
        assert sum(score.before) == 240
    kept = (unpack(view.sample.decided) < 0).sum()
    assert kept == traced.counts.kept
    words = next(score for score in view.scores if score.column == "words")
    assert sum(words.after) == kept
    assert (words.low, words.high, words.low_setting) == (8, 60, "min_words")
    for bounds in ({}, {"words": (20, 40)}, {"words": (None, None)}):
        assert within(view, bounds).sum() == within(traced, bounds).sum()


# -- two runs -------------------------------------------------------------------------------------------------


def test_what_two_runs_decided_differently(folder):
    page = report(folder / "out", folder / "strict", workers=1)
    first, second = page.runs
    assert (first.name, second.name) == ("out", "strict")
    found = page.differences
    kept = [{d["id"] for d in read_jsonl(*(folder / out).glob("part-*.jsonl"))} for out in ("out", "strict")]
    assert found.compared == 240
    assert found.only_first == len(kept[0] - kept[1]) > 0
    assert found.only_second == len(kept[1] - kept[0])
    assert found.both_kept == len(kept[0] & kept[1])
    assert {d.id for d in found.documents} == kept[0] ^ kept[1]
    assert all(d.first == "" and "Filter: " in d.second for d in found.documents)
    assert sum(n for _, _, n in found.reasons) == len(kept[0] ^ kept[1])
    edges = [{score.column: score.edges for score in view.scores} for view in page.runs]
    assert edges[0] == edges[1]


# -- its parts ------------------------------------------------------------------------------------------------

NUMBERS = st.lists(
    st.floats(allow_nan=True, allow_infinity=False, width=64) | st.integers(-50, 3000).map(float), max_size=60
)


@given(NUMBERS)
def test_bins_are_exact_and_hold_every_number(numbers):
    values = np.array(numbers, dtype=np.float64)
    cells = counted(values)
    real = values[~np.isnan(values)]
    edges, _ = bins_of([cells])
    counts = cells.binned(edges)
    assert cells.missing == len(values) - len(real)
    if not len(real):
        assert edges == counts == ()
        return
    assert sum(counts) == len(real)
    assert edges[0] <= max(real.min(), -1e300)
    assert edges[-1] > min(real.max(), 1e300)
    assert list(edges) == sorted(set(edges))
    places = np.clip(np.searchsorted(edges, real, side="right") - 1, 0, len(counts) - 1)
    assert list(counts) == np.bincount(places, minlength=len(counts)).tolist()


@given(NUMBERS, st.integers(0, 60))
def test_cells_merge(numbers, cut):
    values = np.array(numbers, dtype=np.float64)
    whole, parts = counted(values), counted(values[:cut]).add(counted(values[cut:]))
    assert whole.keys.tolist() == parts.keys.tolist()
    assert whole.counts.tolist() == parts.counts.tolist()
    assert (whole.missing, whole.whole) == (parts.missing, parts.whole)
    assert (whole.low, whole.high) == (parts.low, parts.high)


@given(NUMBERS)
def test_packed_numbers_come_back_as_they_were(numbers):
    values = np.array(numbers, dtype=np.float64)
    assert np.array_equal(unpack(pack(values)), values, equal_nan=True)


def table(rows=40):
    return pa.table(
        {
            "id": [f"x{i}" for i in range(rows)],
            "n": [None if i % 7 == 0 else i * 1.5 for i in range(rows)],
            "kind": [None if i % 5 == 0 else "ab"[i % 2] for i in range(rows)],
            "rejected": [None if i % 3 else "why" for i in range(rows)],
        }
    )


def test_the_folds_keep_their_contract():
    picked = check_fold(Draw(9, "id", 3, ("id", "n"), "kind"), table())
    order = np.argsort(hash64(table().column("id").to_pylist(), 3))
    assert picked.table.column("id").to_pylist() == [f"x{i}" for i in order[:9]]
    assert picked.sources == {"None": 8, "a": 16, "b": 16}
    tallied = check_fold(Distributions(("n",), ("kind",), (Bound("n", 3.0, 30.0),), "rejected"), table())
    values = [
        v for v, why in zip(table()["n"].to_pylist(), table()["rejected"].to_pylist(), strict=True) if why is None
    ]
    assert tallied.kept == tallied.after["n"].total == sum(v is not None and 3 <= v <= 30 for v in values)
    assert tallied.before["n"].missing == 6
    assert tallied.values["kind"]["\u2013"] == 8


def test_a_sample_of_very_long_documents_is_cut_to_a_size(monkeypatch):
    monkeypatch.setattr("tamis.page.draw._MOST_BYTES", 1000)
    long = pa.table({"id": [f"x{i}" for i in range(50)], "text": ["y" * 90] * 50})
    picked = check_fold(Draw(40, "id", 0, ("id", "text")), long)
    assert 5 < picked.table.num_rows < 12


WHITE = st.sampled_from(["a", "bb", "c.", "\u65e5\u672c", "\n", "\u00e9\U0001f98a", " \n\n ", "a"])


@given(st.lists(WHITE, max_size=40).map(" ".join))
def test_highlighted_characters_are_those_that_the_filters_counted(text):
    black = sum(not c.isspace() for c in text)
    for decide in (
        RepeatingTopNGramsFilter(n=2),
        RepeatingDuplicateNGramsFilter(n=2),
        RepeatingDuplicateNGramsFilter(n=4),
    ):
        places = places_of(decide, text)
        covered = sum(not c.isspace() for start, end, _, _ in places for c in text[start:end])
        assert decide.score_document(text) == pytest.approx(covered / black if black else 0)
    lines = sum(len(line.strip()) for line in text.split("\n"))
    covered = sum(end - start for start, end, _, _ in places_of(RepeatedLinesByCharFilter(), text))
    assert RepeatedLinesByCharFilter().score_document(text) == pytest.approx(1 - (covered / lines if lines else 0))
    again = bool(places_of(RepeatedParagraphsByCharFilter(), text))
    assert again == (RepeatedParagraphsByCharFilter().score_document(text) < 1)


@given(st.text(max_size=20))
def test_places_are_counted_as_javascript_counts(text):
    places = list(range(len(text) + 1))
    assert utf16(text, places) == [len(text[:i].encode("utf-16-le", "surrogatepass")) // 2 for i in places]


def test_what_is_a_number():
    assert is_number(pa.bool_())
    assert is_number(pa.int8())
    assert not is_number(pa.string())
    assert replace(Bound("a", None, 1.0), invert=True).keeps(np.array([0.5, 2.0, np.nan])).tolist() == [
        False,
        True,
        True,
    ]


def test_the_page_of_the_manual_runs(tmp_path, monkeypatch, capsys):
    text = (Path(__file__).parent.parent / "docs/report.md").read_text("utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "report.md", "exec"), {})
    assert capsys.readouterr().out.endswith("1 ['characters', 'words']\n")
    commands = {
        line.split()[1] for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    }
    assert commands == {"run", "report"}
    for option in re.findall(r"--[a-z]+", text):
        assert option in {"--out", "--png", "--live", "--sample", "--seed", "--input"}
