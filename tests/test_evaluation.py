"""Judging tags: the measures against scikit-learn, intervals and tests against what they promise, files and words."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score
from sklearn.preprocessing import MultiLabelBinarizer

from conftest import read_jsonl
from tamis.cli import main
from tamis.dataset import DocumentDataset
from tamis.errors import InputError, MissingColumnError, UsageError
from tamis.evaluation import TagLists, TagScores
from tamis.evaluation.bootstrap import _coins, _poisson, interval, paired
from tamis.evaluation.page import page
from tamis.evaluation.report import compare, judge
from tamis.evaluation.tag_table import TagTable
from tamis.hashing import hash64, nth_word, uniform
from tamis.scoring import evaluate, read_vocabulary
from tamis.testing import check_fold

TAGS = [f"tag {i}" for i in range(12)]


def draw(n, seed, chance):
    """Lists of tags: tag i in a list with the chance of i."""
    noise = uniform((f"{row} {i}" for row in range(n) for i in range(len(TAGS))), seed).reshape(n, len(TAGS))
    order = uniform((f"{row} {i}" for row in range(n) for i in range(len(TAGS))), seed + 1).reshape(n, len(TAGS))
    return [[TAGS[i] for i in np.argsort(order[row]) if noise[row, i] < chance / (i + 1)] for row in range(n)]


def predictions(true, seed, right=0.7):
    """Each true tag with this chance, and some others."""
    noise = draw(len(true), seed, 0.3)
    kept = uniform((f"{row} {tag}" for row, tags in enumerate(true) for tag in tags), seed + 2)
    place = iter(kept)
    return [
        list(dict.fromkeys([tag for tag in tags if next(place) < right] + other))
        for tags, other in zip(true, noise, strict=True)
    ]


TRUE = draw(300, 1, 0.8)
PREDICTED = predictions(TRUE, 10)
WORSE = predictions(TRUE, 20, right=0.5)
KEYS = hash64(range(300))


def words(tags):
    return " ".join(tag.replace(" ", "") for tag in tags)


def rows(true, predicted, start=0):
    return [
        {"id": f"d{i}", "prompt": f"question {i} on {words(tags)}", "tags": tags, "predicted_tags": said}
        for i, (tags, said) in enumerate(zip(true, predicted, strict=True), start)
    ]


def table_of(true, predicted, vocabulary=None, keys=None):
    kind = pa.list_(pa.string())
    keys = hash64(range(len(true))) if keys is None else keys
    return TagTable.of(keys, pa.array(true, kind), pa.array(predicted, kind), vocabulary)


def report_of(true, predicted, *, replicates=0, vocabulary=None):
    return judge(table_of(true, predicted, vocabulary), (1, 3, 5), replicates, 0)


def test_every_measure_equals_scikit_learn():
    found = report_of(TRUE, PREDICTED)
    binarizer = MultiLabelBinarizer(classes=TAGS).fit(TRUE)
    true, said = binarizer.transform(TRUE), binarizer.transform(PREDICTED)
    assert any(not tags for tags in TRUE), "the case of no tags is among them"
    assert ((true.sum(axis=1) + said.sum(axis=1)) == 0).any()
    occurring = np.flatnonzero(true.sum(axis=0))
    for kind in ("micro", "macro", "weighted"):
        for name, of in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
            expected = of(true, said, average=kind, zero_division=0, labels=None if kind == "micro" else occurring)
            assert found[f"{kind}_{name}"] == pytest.approx(expected, abs=1e-12), (kind, name)
    assert found["jaccard"] == pytest.approx(jaccard_score(true, said, average="samples", zero_division=1), abs=1e-12)
    assert found["sample_f1"] == pytest.approx(f1_score(true, said, average="samples", zero_division=1), abs=1e-12)
    assert found["exact_match"] == (true == said).all(axis=1).mean()
    for tag in found.tags:
        i = TAGS.index(tag.tag)
        assert tag.f1 == pytest.approx(f1_score(true[:, i], said[:, i], zero_division=0))
        assert tag.precision == pytest.approx(precision_score(true[:, i], said[:, i], zero_division=0))
        assert tag.recall == pytest.approx(recall_score(true[:, i], said[:, i], zero_division=0))
        assert tag.support == true[:, i].sum()


def test_the_rest_by_hand():
    found = report_of([["a", "b"], ["c"], []], [["b", "x", "a"], [], []], vocabulary=["a", "b", "c"])
    assert found["precision_at_1"] == pytest.approx(1 / 3)
    assert found["precision_at_3"] == pytest.approx(2 / 9)
    assert found["precision_at_5"] == pytest.approx(2 / 15)
    assert found["out_of_vocabulary"] == pytest.approx(1 / 3)
    assert found.unknown == (("x", 1),)
    assert found["exact_match"] == pytest.approx(1 / 3)
    assert found["jaccard"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert found.sizes == ((1, 2), (1, 0), (1, 0), (0, 1))
    assert [t.tag for t in found.tags] == ["a", "b", "c", "x"]
    # A tag that is predicted and never true counts against the micro measures, and in no mean over tags.
    assert found["micro_precision"] == pytest.approx(2 / 3)
    assert found["macro_precision"] == pytest.approx(2 / 3)


def test_precision_at_k_goes_by_the_order_of_the_prediction():
    assert report_of([["a"]], [["a", "b"]])["precision_at_1"] == 1
    assert report_of([["a"]], [["b", "a"]])["precision_at_1"] == 0


FOLDED = pa.table(
    {
        "id": [f"d{i}" for i in range(40)],
        "tags": pa.array([None if i == 7 else TRUE[i] for i in range(40)], pa.list_(pa.string())),
        "predicted_tags": pa.array([None if i == 9 else ", ".join(PREDICTED[i]) for i in range(40)], pa.string()),
    }
)


def test_the_folds_hold_the_contract():
    report = check_fold(TagScores(replicates=20), FOLDED, tolerance=1e-9)
    assert (report.documents, report.without_truth, report.without_answer) == (39, 1, 1)
    check_fold(TagScores(replicates=4), FOLDED.set_column(0, "id", pa.array(["same"] * 40)), tolerance=1e-9)
    check_fold(TagLists(("tags",)), FOLDED)
    with pytest.raises(UsageError, match="'id' as tags"):
        TagLists(("id",)).needs(pa.schema([("id", pa.int64())]))


def test_resampling_is_a_function_of_seed_and_id():
    weights = _poisson(KEYS, 0, 400, 5)
    assert abs(weights.mean() - 1) < 0.02
    assert abs(weights.var() - 1) < 0.03
    assert (_poisson(KEYS, 4, 10, 5) == weights[:, 4:10]).all()
    assert (_poisson(KEYS[::-1], 0, 8, 5)[::-1] == weights[:, :8]).all()
    assert not (_poisson(KEYS, 0, 400, 6) == weights).all()
    assert abs(np.corrcoef(weights[:, 0], weights[:, 1])[0, 1]) < 0.2
    coins = _coins(KEYS, 0, 300, 5)
    assert set(np.unique(coins)) == {0, 1}
    assert abs(coins.mean() - 0.5) < 0.01
    assert len(np.unique(nth_word(KEYS, 3))) == len(KEYS)
    one, other = (report_of(TRUE, PREDICTED, replicates=100) for _ in range(2))
    assert one == other


def test_an_interval_is_as_wide_as_the_standard_error_says():
    found = {m.name: m for m in report_of(TRUE, PREDICTED, replicates=2000).measures}
    for name in ("exact_match", "precision_at_1"):
        m = found[name]
        error = 1.96 * np.sqrt(m.value * (1 - m.value) / len(TRUE))
        assert m.value - m.low == pytest.approx(error, rel=0.12)
        assert m.high - m.value == pytest.approx(error, rel=0.12)
    assert all(m.low <= m.value <= m.high for m in found.values())


def test_it_lies_around_the_value_also_where_tags_are_rare():
    """Rare tags drop out of samples, and means over tags are then higher than in the data."""
    true = [[f"t{i}"] for i in range(200)]
    said = [[f"t{i}"] if i % 2 else ["t0"] for i in range(200)]
    for m in report_of(true, said, replicates=200).measures:
        assert m.low <= m.value <= m.high, m


def test_one_document_and_no_sample_have_no_interval_that_misleads():
    one = report_of([["a"]], [["a"]], replicates=50)
    assert one["micro_f1"] == 1
    assert any("few" in note for note in one.notes)
    low, high = interval(np.empty(0), 0.5, 0.95)
    assert np.isnan([low, high]).all()
    assert report_of(TRUE, PREDICTED).as_json()["measures"][0]["low"] is None
    assert any("No tag was predicted" in note for note in report_of([["a"]] * 2, [[], []]).notes)
    missing = report_of([["a"]], [["a"]], vocabulary=["b"])
    assert any("1 of 1 true tags are not in the vocabulary" in note for note in missing.notes)


def test_a_better_run_is_told_from_one_that_only_looks_better():
    good, bad = (report_of(TRUE, said, replicates=400) for said in (PREDICTED, WORSE))
    found = {d.name: d for d in compare(good, bad).differences}
    assert found["micro_f1"].p < 0.01
    assert found["micro_f1"].low > 0
    assert found["micro_f1"].difference == pytest.approx(good["micro_f1"] - bad["micro_f1"])
    back = {d.name: d for d in compare(bad, good).differences}
    assert back["micro_f1"].high == pytest.approx(-found["micro_f1"].low, abs=1e-12)
    assert back["micro_f1"].p == found["micro_f1"].p
    same = compare(good, good)
    assert (same.better, same.worse, same.same) == (0, 0, 300)
    assert all(d.p == 1 and d.low == d.high == 0 for d in same.differences)


def test_without_a_difference_p_is_uniform():
    """Two runs that err alike: p below 0.2 in a fifth of the cases."""
    ps = []
    for trial in range(120):
        true = draw(40, 1000 + trial, 0.8)
        one, other = (table_of(true, predictions(true, s + 7 * trial)) for s in (5000, 9000))
        names = sorted({*one.tags, *other.tags})
        ps.append(paired(one.renamed(names), other.renamed(names), (), 99, trial)["micro_f1"])
    assert 0.1 < np.mean(np.array(ps) < 0.2) < 0.32
    assert 0.4 < np.mean(ps) < 0.62


def test_runs_are_joined_by_id_and_only_over_what_both_have():
    one = report_of(TRUE, PREDICTED, replicates=40)
    part = judge(table_of(TRUE[100:200], WORSE[100:200], keys=KEYS[100:200]), (1, 3, 5), 40, 0)
    found = compare(one, part)
    assert found.documents == 100
    assert found.differences[0].first == pytest.approx(report_of(TRUE[100:200], PREDICTED[100:200])["micro_f1"])
    with pytest.raises(UsageError, match="share no document"):
        compare(one, judge(table_of([["a"]], [[]], keys=hash64(["else"])), (1,), 0, 0))
    with pytest.raises(UsageError, match="other true tags"):
        compare(one, report_of([["a"], *TRUE[1:]], WORSE))
    with pytest.raises(UsageError, match="more than once"):
        compare(one, judge(table_of(TRUE, WORSE, keys=KEYS[[0] * 300]), (1,), 0, 0))


def test_five_thousand_documents_of_950_tags_take_a_moment():
    # Not a clock, which neighbours would stop: the cells that are held at once are bounded, and rows are never walked.
    n = 5000
    codes = (uniform(range(3 * n), 3) ** 3 * 950).astype(int).reshape(n, 3)
    true = [[f"t{c}" for c in dict.fromkeys(row)] for row in codes.tolist()]
    said = [[f"t{c}" for c in dict.fromkeys([*row, 0, 0, 1])] for row in codes]
    found = report_of(true, said, replicates=20)
    assert found.documents == n
    assert len(found.tags) > 800


# -- files and the command -------------------------------------------------------------------------------------


@pytest.fixture
def files(write_jsonl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_jsonl("a.jsonl", rows(TRUE, PREDICTED))
    write_jsonl("b.jsonl", rows(TRUE, WORSE)[::-1])
    train = draw(400, 50, 0.8)
    write_jsonl("train.jsonl", [{"prompt": f"on {words(tags)}", "tags": tags} for tags in train])
    (tmp_path / "tags.txt").write_text("\n".join([*TAGS[:-1], ""]), encoding="utf-8")
    return tmp_path


def test_the_command_says_it_and_writes_it(files, capsys):
    arguments = ["evaluate", "a.jsonl", "--against", "b.jsonl", "--vocabulary", "tags.txt", "--out", "out"]
    assert main([*arguments, "--baselines", "train.jsonl", "--replicates", "100", "--workers", "1"]) == 0
    said = capsys.readouterr().out
    for part in ("300 documents judged", "micro_f1", "Against b.jsonl", "most frequent tags", "TF-IDF", "tag 0"):
        assert part in said
    content = json.loads((files / "out" / "evaluation.json").read_bytes())
    values = {m["name"]: m for m in content["measures"]}
    assert values["micro_f1"]["value"] == pytest.approx(report_of(TRUE, PREDICTED)["micro_f1"], abs=1e-6)
    assert values["out_of_vocabulary"]["value"] > 0
    assert content["comparison"]["documents"] == 300
    assert [b["name"] for b in content["baselines"]] == ["most frequent tags", "TF-IDF and logistic regression"]
    # Words that name the tags are learned; guessing the frequent ones is no match for that.
    scores = [{m["name"]: m["value"] for m in b["measures"]}["micro_f1"] for b in content["baselines"]]
    assert scores[1] > scores[0] + 0.2
    html = (files / "out" / "evaluation.html").read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert not re.search(r"<script|https?://|src=", html)
    assert html.count("<svg") == html.count("</svg>") == 4
    before = (files / "out" / "evaluation.json").read_bytes()
    assert main([*arguments, "--baselines", "train.jsonl", "--replicates", "100"]) == 0
    assert (files / "out" / "evaluation.json").read_bytes() == before


def test_the_truth_may_lie_elsewhere_and_the_tags_be_text(files, write_jsonl):
    pq.write_table(
        pa.table({"id": [f"d{i}" for i in range(310)], "answer": [json.dumps(t) for t in [*TRUE, *TRUE[:10]]]}),
        "truth.parquet",
    )
    only = [{"id": r["id"], "said": "".join(f"<{t}>" for t in r["predicted_tags"])} for r in rows(TRUE, PREDICTED)]
    write_jsonl("only.jsonl", [*only, {"id": "stranger", "said": "<a>"}])
    scores = TagScores("answer", "said", replicates=0)
    found = evaluate("only.jsonl", scores, truth="truth.parquet", workers=1)
    expected = report_of(TRUE, PREDICTED)
    assert found.measures[0].value == expected.measures[0].value
    assert (found.documents, found.without_truth) == (300, 1)
    assert any("10 documents of the truth have no prediction" in note for note in found.notes)
    lines = [f"{r['id']},{' '.join(r['said'].split())}" for r in only]
    (files / "only.csv").write_text("\n".join(["id,said", *lines]))
    assert evaluate("only.csv", scores, truth="truth.parquet", workers=1).measures == found.measures
    with pytest.raises(MissingColumnError, match="answer"):
        evaluate("only.jsonl", scores, workers=1)
    with pytest.raises(UsageError, match="share no document"):
        evaluate("only.jsonl", scores, truth=DocumentDataset.from_arrow(pa.table({"id": ["x"], "answer": ["a"]})))


def test_documents_without_an_id_are_joined_by_their_text(write_jsonl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, said in (("a.jsonl", PREDICTED), ("b.jsonl", WORSE)):
        write_jsonl(name, [{k: v for k, v in row.items() if k != "id"} for row in rows(TRUE, said)])
    found = evaluate("a.jsonl", TagScores(replicates=10), against="b.jsonl", workers=1)
    assert found.comparison is not None
    assert found.comparison.documents == 300
    with pytest.raises(UsageError, match="neither an id nor a field 'text'"):
        evaluate("a.jsonl", text_field="text", workers=1)


def test_bad_input_is_said_in_a_sentence(files, write_jsonl, capsys):
    def error_of(*arguments):
        assert main(["evaluate", *arguments, "--workers", "1"]) in {1, 2}
        return capsys.readouterr().err

    assert "nearest" not in error_of("a.jsonl", "--predicted", "predicted_tag")
    assert "Did you mean 'predicted_tags'?" in error_of("a.jsonl", "--predicted", "predicted_tag")
    assert "--at takes whole numbers" in error_of("a.jsonl", "--at", "1,x")
    assert "ks from 1" in error_of("a.jsonl", "--at", "0")
    assert "judges nothing" in error_of("a.jsonl", "--predicted", "tags")
    write_jsonl("null.jsonl", [{"id": "a", "tags": None, "predicted_tags": ["x"]}])
    assert "are null" in error_of("null.jsonl")
    assert "none.txt cannot be read" in error_of("a.jsonl", "--vocabulary", "none.txt")
    (files / "empty.txt").write_text("\n")
    assert "holds no tag" in error_of("a.jsonl", "--vocabulary", "empty.txt")
    write_jsonl("other.jsonl", [{"id": "zz", "tags": ["x"], "predicted_tags": ["x"]}])
    assert "share no document" in error_of("a.jsonl", "--against", "other.jsonl")
    write_jsonl("bare.jsonl", [{"text": "x"}])
    assert "tags" in error_of("a.jsonl", "--baselines", "bare.jsonl", "--text-field", "text")
    assert read_jsonl(files / "other.jsonl")


def test_a_vocabulary_is_lines_or_json(tmp_path):
    (tmp_path / "a").write_text("\ufeffone\n two words \n\none\n", encoding="utf-8")
    (tmp_path / "b").write_text('["one", "two words"]')
    (tmp_path / "c").write_text('["one", ')
    (tmp_path / "d").write_bytes(b"\xff\xfe")
    assert read_vocabulary(str(tmp_path / "a")) == read_vocabulary(str(tmp_path / "b")) == ("one", "two words")
    for name, said in (("c", "begins like a list"), ("d", "not UTF-8")):
        with pytest.raises(InputError, match=said):
            read_vocabulary(str(tmp_path / name))


def test_what_comes_from_the_data_is_escaped_on_the_page():
    evil = "<script>alert(1)</script>"
    report = judge(table_of([[evil], ["&amp;"]], [[evil, '"x'], []], ["&amp;"]), (1,), 10, 0, name=evil)
    html = page(report)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "&amp;amp;" in html
