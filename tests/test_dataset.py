"""The front door: reading, appending, running, and what it says of mistakes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tamis
from conftest import read_jsonl, tree
from tamis import DocumentDataset, DocumentFilter, DocumentModifier, Filter, Modify, Score, ScoreFilter, Sequential
from tamis.errors import MissingColumnError, OutputRefusedError, TooManyBadRecordsError, UsageError
from tamis.filters import WordCountFilter

DOCS = [
    {"id": f"d{i}", "text": " ".join(["word"] * i), "score": i - 3, "meta": {"n": i, "tags": ["a", None]}}
    for i in range(20)
]


class LongEnough(DocumentFilter):
    def score_document(self, text: str) -> float:
        return len(text)

    def keep_document(self, score: float) -> bool:
        return score >= 20


class Shout(DocumentModifier):
    def modify_document(self, text: str) -> str:
        return text.upper()


class Breaks(DocumentFilter):
    """Divides by the number of words: fails on blank documents."""

    def score_document(self, text: str) -> float:
        return 1 / len(text.split())

    def keep_document(self, score: float) -> bool:
        return score < 10


@pytest.fixture
def docs(write_jsonl):
    return write_jsonl("in/docs.jsonl", DOCS)


def test_reading_is_lazy_and_a_stage_appends(docs):
    dataset = DocumentDataset.read_json(docs)
    kept = ScoreFilter(WordCountFilter(min_words=5))(dataset)
    assert dataset.steps == ()
    assert [step.name for step in kept.steps] == ["WordCountFilter"]
    assert ScoreFilter(WordCountFilter(min_words=5))(dataset=dataset).count() == 15


def test_head_count_iteration_fold(docs):
    dataset = ScoreFilter(WordCountFilter(min_words=5))(DocumentDataset.read_json(docs))
    assert dataset.count(workers=1) == dataset.count() == 15
    assert dataset.head(2)["id"].to_pylist() == ["d5", "d6"]
    assert [i for table in dataset for i in table["id"].to_pylist()] == [f"d{i}" for i in range(5, 20)]
    assert dataset.to_pandas().shape == (15, 4)


def test_kept_documents_are_byte_for_byte_what_they_were(tmp_path):
    source = tmp_path / "odd.jsonl"
    lines = [
        b'{"n":1.0, "big":123456789012345678901234567890,"text" : "caf\\u00e9 one two three" ,"e":1E5}',
        b'{"text":"short"}',
        b'{"text":"one two three four","x":null,"nested":{"b":[1,2.50,{"c":null}],"a":""}}',
    ]
    source.write_bytes(b"\n".join(lines) + b"\n")
    ScoreFilter(WordCountFilter(min_words=4))(DocumentDataset.read_json(str(source))).to_json(tmp_path / "out")
    assert (tmp_path / "out/part-00000.jsonl").read_bytes() == lines[0] + b"\n" + lines[2] + b"\n"


def test_scores_and_modified_texts_are_written(docs, tmp_path):
    steps = Sequential(
        [Modify(Shout()), Sequential([Score(len, "length"), ScoreFilter(LongEnough(), score_field="s")])]
    )
    result = steps(DocumentDataset.read_json(docs)).to_json(tmp_path / "out", workers=1)
    out = read_jsonl(tmp_path / "out/part-00000.jsonl")
    assert [d["id"] for d in out] == [f"d{i}" for i in range(5, 20)]
    first = out[0]
    assert list(first) == ["id", "text", "score", "meta", "length", "s"]
    assert first["text"] == first["text"].upper()
    assert first["length"] == first["s"] == len(first["text"])
    assert first["meta"]["tags"] == ["a", None]
    assert result.tally.records == 20 == result.tally.kept + result.tally.total_rejected
    assert result.tally.changed == {"Shout": 19}  # all but the empty one


def test_expressions_filter(docs):
    dataset = DocumentDataset.read_json(docs)
    good = dataset[dataset["score"] >= 0]
    assert good.count() == 17
    assert dataset[(dataset["score"] >= 0) & pc.equal(dataset["id"], "d7")].count() == 1
    assert Filter(lambda score: score >= 0, "score")(dataset).count() == 17
    assert Filter(lambda score: score >= 0, "score", invert=True)(dataset).count() == 3


def test_mistakes_are_named_before_anything_is_read(docs, tmp_path):
    dataset = DocumentDataset.read_json(docs)
    with pytest.raises(MissingColumnError, match="Did you mean 'score'"):
        dataset["scores"]
    wrong = ScoreFilter(WordCountFilter(), text_field="txt")(dataset)
    with pytest.raises(MissingColumnError, match=r"WordCountFilter reads the column 'txt'.*Did you mean 'text'"):
        wrong.to_json(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="is int64"):
        ScoreFilter(WordCountFilter(), text_field="score")(dataset).count()
    with pytest.raises(MissingColumnError, match="partition_on"):
        dataset.to_json(tmp_path / "out", partition_on="part")


def test_a_text_field_of_another_name(write_jsonl):
    path = write_jsonl("q.jsonl", [{"question": "a b c"}, {"question": "a"}])
    assert (
        ScoreFilter(WordCountFilter(min_words=2))(DocumentDataset.read_json(path, text_field="question")).count() == 1
    )


def test_split_output_by_part(docs, tmp_path):
    dataset = DocumentDataset.read_json(docs).train_test_split({"train": 0.7, "test": 0.3}, seed=5)
    dataset.to_json(tmp_path / "out", partition_on="split", workers=1)
    parts = {p: read_jsonl(tmp_path / f"out/{p}/part-00000.jsonl") for p in ("train", "test")}
    assert sorted(d["id"] for part in parts.values() for d in part) == sorted(d["id"] for d in DOCS)
    assert "split" not in parts["train"][0]
    assert 8 <= len(parts["train"]) <= 19


def test_documents_without_an_id_get_one_that_is_a_function_of_the_text(write_jsonl, tmp_path):
    texts = [f"text {i}" for i in range(50)]
    one = write_jsonl("one.jsonl", [{"text": t} for t in texts])
    many = [write_jsonl(f"many/{i}.jsonl", [{"text": t} for t in texts[i::3]]) for i in range(3)]
    by_text = {}
    for paths in (one, many):
        table = DocumentDataset.read_json(paths, add_id=True).to_arrow()
        by_text[str(paths)] = dict(zip(table["text"].to_pylist(), table["id"].to_pylist(), strict=True))
    first, second = by_text.values()
    assert first == second
    assert len(set(first.values())) == 50
    split = DocumentDataset.read_json(one).train_test_split()  # reads id: made without being asked for
    split.to_json(tmp_path / "out")
    assert read_jsonl(tmp_path / "out/part-00000.jsonl")[0]["id"] == first["text 0"]


def test_one_output_per_input(write_jsonl, tmp_path):
    a = write_jsonl("in/a/x.jsonl", [{"text": f"a {i}"} for i in range(300)])
    b = write_jsonl("in/b/x.jsonl", [{"text": "b"}])
    write_jsonl("in/b/empty.jsonl", [])
    dataset = DocumentDataset.read_json(str(tmp_path / "in"), add_filename=True)
    dataset.to_json(tmp_path / "out", write_to_filename=True, split_size=500, workers=2)
    assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.jsonl")) == [
        "a/x.jsonl",
        "b/empty.jsonl",
        "b/x.jsonl",
    ]
    assert [d["text"] for d in read_jsonl(tmp_path / "out/a/x.jsonl")] == [f"a {i}" for i in range(300)]
    assert read_jsonl(tmp_path / "out/b/x.jsonl") == [{"text": "b", "file_name": "b/x.jsonl"}]
    assert Path(a).exists()
    assert Path(b).exists()


def test_parquet_both_ways(docs, tmp_path):
    steps = Sequential([ScoreFilter(WordCountFilter(min_words=5), score_field="words")])
    steps(DocumentDataset.read_json(docs)).to_parquet(tmp_path / "pq")
    table = pq.read_table(tmp_path / "pq/part-00000.parquet")
    assert table["meta"][0].as_py() == {"n": 5, "tags": ["a", None]}
    DocumentDataset.read_parquet(str(tmp_path / "pq")).to_json(tmp_path / "back")
    assert read_jsonl(tmp_path / "back/part-00000.jsonl") == [d | {"words": i} for i, d in enumerate(DOCS) if i >= 5]


def test_one_schema_although_a_field_is_null_for_long(write_jsonl, tmp_path):
    docs = [{"text": "t", "late": None, "mixed": 1} for _ in range(3000)]
    docs += [{"text": "t", "late": {"a": 1}, "mixed": "x", "new": 2.5}]
    path = write_jsonl("late.jsonl", docs)
    DocumentDataset.read_json(path).to_parquet(tmp_path / "out", split_size=30_000, workers=2)
    table = pq.read_table(sorted((tmp_path / "out").glob("*.parquet")))
    assert table.num_rows == 3001
    last = table.slice(3000).to_pylist()[0]
    assert last["late"] == {"a": 1}
    assert last["mixed"] == '"x"'  # no one type: kept as JSON text
    assert last["new"] == 2.5
    DocumentDataset.read_parquet(str(tmp_path / "out")).to_json(tmp_path / "back")
    assert read_jsonl(*sorted((tmp_path / "back").glob("*.jsonl")))[-1]["mixed"] == "x"


def test_from_memory(tmp_path):
    table = pa.table({"text": ["a b c", None, "d"], "n": [1, 2, 3]})
    dataset = ScoreFilter(WordCountFilter(min_words=1))(DocumentDataset.from_arrow(table))
    assert dataset.to_arrow()["n"].to_pylist() == [1, 3]
    dataset.to_json(tmp_path / "out", workers=2, split_size=8)
    assert read_jsonl(*sorted((tmp_path / "out").glob("*.jsonl"))) == [{"text": "a b c", "n": 1}, {"text": "d", "n": 3}]
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", "b"], "n": [1, 2]}, index=[5, 6])
    assert DocumentDataset.from_pandas(frame).to_arrow().to_pydict() == {"text": ["a", "b"], "n": [1, 2]}
    datasets = pytest.importorskip("datasets")
    shuffled = datasets.Dataset.from_dict({"text": ["a", "b", "c"]}).select([2, 0])
    assert DocumentDataset.from_huggingface(shuffled).to_arrow()["text"].to_pylist() == ["c", "a"]
    with pytest.raises(UsageError, match="dictionary of splits"):
        DocumentDataset.from_huggingface(datasets.DatasetDict({"train": shuffled}))


def test_a_document_that_breaks_a_filter_is_set_aside(write_jsonl, tmp_path):
    path = write_jsonl("d.jsonl", [{"text": "a b"}, {"text": "   "}, {"text": "c"}] + [{"text": "x y"}] * 40)
    result = ScoreFilter(Breaks())(DocumentDataset.read_json(path)).to_json(tmp_path / "out")
    assert (result.tally.kept, result.tally.total_quarantined) == (42, 1)
    (entry,) = read_jsonl(tmp_path / "out/_quarantine/records.jsonl")
    assert entry["line"] == 2
    assert entry["cause"] == "Breaks failed"
    assert entry["detail"] == "ZeroDivisionError: division by zero"
    assert json.loads(entry["raw"]) == {"text": "   "}


def test_bad_lines_go_to_quarantine_and_too_many_fail_the_run(tmp_path):
    path = tmp_path / "d.jsonl"
    good = b'{"text": "a b c"}\n'
    path.write_bytes(good * 50 + b'{"text": "cut\n' + good * 49 + b'{"text": "\xff"}\n{"text": 5}\n{"txt": "x"}\n[1]\n')
    dataset = ScoreFilter(WordCountFilter(min_words=1))(DocumentDataset.read_json(str(path)))
    result = dataset.to_json(tmp_path / "out", split_size=300, workers=2)
    assert (result.tally.records, result.tally.kept, result.tally.total_quarantined) == (104, 99, 5)
    entries = read_jsonl(tmp_path / "out/_quarantine/records.jsonl")
    assert [e["line"] for e in entries] == [51, 101, 102, 103, 104]
    assert [e["cause"] for e in entries] == [
        "not JSON",
        "invalid UTF-8",
        "wrong type",
        "missing field",
        "not an object",
    ]
    data = path.read_bytes()
    assert all(data[e["offset"] - 1 : e["offset"]] == b"\n" for e in entries)
    with pytest.raises(TooManyBadRecordsError, match=r"5 of 104 records are bad \(4.8%, more than the 1.0%"):
        dataset.to_json(tmp_path / "few", max_bad=0.01)
    assert len(read_jsonl(tmp_path / "few/_quarantine/records.jsonl")) == 5
    again = dataset.to_json(tmp_path / "few", max_bad=0.5)  # what was done is kept
    assert again.resumed == 1
    with pytest.raises(tamis.TamisError, match=rf"{path}, line 51, byte 900: not JSON"):
        dataset.to_json(tmp_path / "strict", strict=True)
    with pytest.raises(tamis.TamisError, match=rf"{path}, line 51, byte 900: not JSON"):
        dataset.to_json(tmp_path / "strict in splits", strict=True, split_size=300, workers=1)


def test_rejects_are_kept_with_reason_and_score(docs, tmp_path):
    steps = ScoreFilter(WordCountFilter(min_words=5), score_field="words")
    steps(DocumentDataset.read_json(docs)).to_json(tmp_path / "out", keep_rejects=True, compression="gz")
    rejected = DocumentDataset.read_json(str(tmp_path / "out/_rejects/part-00000.jsonl.gz")).to_arrow().to_pylist()
    assert [d["id"] for d in rejected] == ["d0", "d1", "d2", "d3", "d4"]
    assert rejected[1]["rejected"] == {"stage": "WordCountFilter", "reason": "fewer than 5 words", "score": 1}
    assert rejected[1]["words"] == 1


def test_another_recipe_into_the_same_directory_is_refused(docs, tmp_path):
    dataset = DocumentDataset.read_json(docs)
    ScoreFilter(WordCountFilter(min_words=5))(dataset).to_json(tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(OutputRefusedError, match="its stages differ"):
        ScoreFilter(WordCountFilter(min_words=6))(dataset).to_json(tmp_path / "out")
    assert tree(tmp_path / "out") == before
    again = ScoreFilter(WordCountFilter(min_words=5))(dataset).to_json(tmp_path / "out")
    assert again.already_complete
    assert again.tally.kept == 15
    ScoreFilter(WordCountFilter(min_words=6))(dataset).to_json(tmp_path / "out", mode="fresh")
    assert len(read_jsonl(tmp_path / "out/part-00000.jsonl")) == 14
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep me")
    with pytest.raises(OutputRefusedError, match=r"is not empty \(notes.txt\)"):
        dataset.to_json(tmp_path / "mine", mode="fresh")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_user_code_in_the_main_module_reaches_the_workers(write_jsonl, tmp_path):
    import subprocess
    import sys

    path = write_jsonl("in/d.jsonl", [{"text": f"word {i}"} for i in range(200)])
    script = tmp_path / "script.py"  # no __main__ guard, on purpose
    script.write_text(f"""
from tamis import DocumentDataset, DocumentFilter, ScoreFilter
LIMIT = 100
class Mine(DocumentFilter):
    def score_document(self, text): return int(text.split()[1])
    def keep_document(self, score): return score < LIMIT
dataset = ScoreFilter(Mine())(DocumentDataset.read_json({path!r}))
r = dataset.to_json({str(tmp_path / "out")!r}, workers=2, split_size=900)
print(r.tally.kept)
""")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "100", done.stderr


def test_a_stage_that_fails_on_everything_stops_the_run(docs, tmp_path, write_jsonl):
    path = write_jsonl("many.jsonl", [{"text": ""}] * 2000)
    with pytest.raises(tamis.TamisError, match="Breaks failed on all 2000 documents of a batch"):
        ScoreFilter(Breaks())(DocumentDataset.read_json(path)).to_json(tmp_path / "out")


def test_any_fsspec_url(docs, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/in/d.jsonl", Path(docs).read_bytes())
    dataset = ScoreFilter(WordCountFilter(min_words=5))(DocumentDataset.read_json("memory://bucket/in"))
    dataset.to_json("memory://bucket/out", workers=1)
    assert len(memory.cat_file("/bucket/out/part-00000.jsonl").splitlines()) == 15
    assert json.loads(memory.cat_file("/bucket/out/_tamis/manifest.json"))["totals"]["kept"] == 15


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 4000), st.sampled_from([None, "gz", "zst"]))
def test_any_split_boundaries_give_the_same_output(write_jsonl, tmp_path_factory, split_size, compression):
    docs = [{"text": "\u00e9 \u4e2d " * (i % 9), "i": i, "f": i / 7} for i in range(60)]
    path = write_jsonl("in/d.jsonl", docs)
    out = tmp_path_factory.mktemp("splits")
    steps = ScoreFilter(WordCountFilter(min_words=6, lang="en"), score_field="words")
    dataset = steps(DocumentDataset.read_json(path, add_id=True)).train_test_split({"a": 0.5, "b": 0.5})
    for name, size in (("one", 1 << 20), ("many", split_size)):
        dataset.to_json(
            out / name, workers=1, split_size=size, write_to_filename=True, compression=compression, progress="off"
        )
    name = "d.jsonl" + (f".{compression}" if compression else "")
    if compression is None:
        assert (out / "one" / name).read_bytes() == (out / "many" / name).read_bytes()
    one, many = (DocumentDataset.read_json(str(out / n / name)).to_arrow().to_pylist() for n in ("one", "many"))
    assert one == many
    assert [d["i"] for d in one] == [d["i"] for d in docs if len(d["text"].split()) >= 6]


def test_a_stratified_split_holds_in_every_stratum(write_jsonl, tmp_path):
    docs = [{"text": f"t{i}", "source": "rare" if i % 50 == 0 else ["web", "books"][i % 2]} for i in range(1000)]
    path = write_jsonl("in/d.jsonl", docs)
    dataset = DocumentDataset.read_json(path).train_test_split({"train": 0.8, "test": 0.2}, stratify_by="source")
    dataset.to_json(tmp_path / "out", partition_on="split", workers=2, split_size=5000)
    counts = Counter(
        (part, d["source"])
        for part in ("train", "test")
        for d in read_jsonl(*(tmp_path / f"out/{part}").glob("*.jsonl"))
    )
    assert counts["test", "rare"] == 4
    assert counts["train", "rare"] == 16
    for source in ("web", "books"):
        total = counts["train", source] + counts["test", source]
        assert abs(counts["test", source] - 0.2 * total) <= 1


def test_columns_are_selected_and_kept_exactly(write_jsonl, tmp_path):
    docs = [{"text": "a b", "n": 1, "meta": {"k": [1, None]}, "drop": "x"}, {"n": 2, "text": None}]
    path = write_jsonl("in/d.jsonl", docs)
    DocumentDataset.read_json(path, columns=["meta", "text", "n"]).to_json(tmp_path / "out")
    assert read_jsonl(tmp_path / "out/part-00000.jsonl") == [
        {"meta": {"k": [1, None]}, "text": "a b", "n": 1},
        {"meta": None, "text": None, "n": 2},
    ]
    with pytest.raises(MissingColumnError, match="Did you mean 'meta'"):
        DocumentDataset.read_json(path, columns=["mata"]).count()


def test_integers_of_any_size_reach_parquet_exactly(write_jsonl, tmp_path):
    docs = [{"text": "a", "big": 2**70 + 1, "id64": 2**63 - 1, "nested": {"n": 10**25}}, {"text": "b", "big": 1}]
    path = write_jsonl("in/d.jsonl", docs)
    result = DocumentDataset.read_json(path).to_parquet(tmp_path / "pq")
    assert result.tally.kept == 2
    DocumentDataset.read_parquet(str(tmp_path / "pq")).to_json(tmp_path / "back")
    line = (tmp_path / "back/part-00000.jsonl").read_text().splitlines()[0]
    assert json.loads(line) == docs[0]
    declared = DocumentDataset.read_json(path, schema={"text": pa.string(), "big": pa.float64()})
    assert declared.to_parquet(tmp_path / "strict", max_bad=1).tally.quarantined == {"wrong type": 1}


def test_an_input_that_vanishes_is_not_blamed_on_the_output(write_jsonl, tmp_path):
    path = write_jsonl("in/d.jsonl", [{"text": "a"}] * 40)
    dataset = DocumentDataset.read_json(path, schema={"text": pa.string()})
    Path(path).unlink()
    with pytest.raises(tamis.TamisError, match=rf"{path} cannot be read: No such file"):
        dataset.to_json(tmp_path / "out", split_size=100, workers=1)
