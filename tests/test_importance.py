"""The steps beneath importance resampling: joining by id, checks of ids, several folds at once."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tamis.dataset import DocumentDataset
from tamis.errors import InputError, UsageError
from tamis.hashing import document_id, hash64
from tamis.importance.fit import fit_fewest
from tamis.importance.given import given_embeddings, given_weights
from tamis.importance.place import Place, read_documents, slim
from tamis.importance.stages import Blank, ById, HybridWeight
from tamis.importance.weigh import Weighing, weigh
from tamis.selection.around import AroundCut, Excerpts, HashesFound, IdCheck, Several, TextHashes, Values
from tamis.selection.mixture import Mixture
from tamis.selection.mixture_fit import MixtureSettings, fit_mixture
from tamis.selection.ngrams import NgramCounts
from tamis.selection.sample import Cut, Resample
from tamis.testing import check_fold, check_stage, sample_table
from tamis.text.hashed_ngrams import HashedNgrams

SMALL = HashedNgrams(num_buckets=64)


def weighed(rows=40):
    table = sample_table(rows)
    rng = np.arange(table.num_rows, dtype=np.float64)
    table = table.append_column("log_weight_ngram", pa.array(rng / 3))
    gmm = [None if i % 7 == 0 else float(i % 5) for i in range(table.num_rows)]
    return table.append_column("log_weight_gmm", pa.array(gmm)).append_column("log_weight", pa.array(np.sin(rng)))


@pytest.fixture
def folder(tmp_path):
    table = weighed().select(["id", "log_weight"])
    DocumentDataset.from_arrow(table).to_parquet(tmp_path / "w", progress="off", workers=1)
    return str(tmp_path / "w")


def test_every_stage_holds_the_contract(folder, tmp_path):
    table = weighed()
    for alpha in (0.0, 0.3, 1.0):
        check_stage(HybridWeight(alpha), table, fresh_process=False)
    check_stage(ById(folder, ("log_weight",)), table.drop_columns(["log_weight"]), fresh_process=False)
    check_stage(ById(folder), table.slice(0, 20), fresh_process=False)
    check_stage(ById(folder, text_field="text"), table, fresh_process=False)
    check_stage(Blank(("text", "log_weight")), table, fresh_process=False)


def test_every_fold_holds_the_contract():
    table = weighed()
    asked = Resample(10, top_k=True)
    for fold in (
        IdCheck(("log_weight",)),
        Values("source"),
        TextHashes(5),
        HashesFound(tuple(sorted(hash64(table["text"].to_pylist()[::3]).tolist()))),
        AroundCut(asked, Cut(0.5, "x")),
        Excerpts(tuple(str(i) for i in table["id"].to_pylist()[:3])),
        Several((Values("source"), NgramCounts(SMALL), TextHashes())),
    ):
        check_fold(fold, table)


def test_hybrid_is_the_weighted_sum_and_what_lacks_a_part_is_never_chosen():
    out = HybridWeight(0.25).open()(weighed())
    ngram, gmm, both = (out[c].to_pylist() for c in ("log_weight_ngram", "log_weight_gmm", "log_weight"))
    for n, g, b in zip(ngram, gmm, both, strict=True):
        assert b == (-np.inf if g is None else pytest.approx(0.25 * n + 0.75 * g))
    with pytest.raises(UsageError, match="from 0 to 1"):
        HybridWeight(1.5)


def test_numbers_are_joined_by_id_in_any_order_and_a_missing_one_is_said(folder):
    table = weighed()
    back = table.take(pa.array(range(table.num_rows))[::-1])
    out = ById(folder, ("log_weight",)).open()(back.drop_columns(["log_weight"]))
    assert out["log_weight"].to_pylist() == back["log_weight"].to_pylist()
    other = pa.table({"id": ["nobody"]})
    with pytest.raises(UsageError, match="nothing for the document with the id 'nobody'"):
        ById(folder, ("log_weight",)).open()(other)


def test_copies_are_counted_and_an_id_of_two_documents_is_found():
    fold = IdCheck(("w",))

    def check(ids, weights):
        return fold.finish(fold.add(fold.start(), pa.table({"id": ids, "w": pa.array(weights, pa.float64())})))

    assert check(["a", "b"], [1, 2]).copies == 0
    assert check(["a", "b", "a"], [1, 2, 1]).copies == 1
    assert check(["a", "b", "a"], [1, 2, 1]).clash is None
    assert check(["a", "b", "a"], [1, 2, 3]).clash == int(hash64(["a"])[0])


def test_of_very_many_ids_the_lowest_are_checked_in_any_order(monkeypatch):
    monkeypatch.setattr("tamis.selection.around._CHECKED", 8)
    ids = [str(i % 60) for i in range(100)]
    table = pa.table({"id": ids, "w": pa.array([float(i % 60) for i in range(100)])})
    check_fold(IdCheck(("w",)), table)


def write(path, documents):
    path.write_text("".join(json.dumps(d) + "\n" for d in documents))
    return path


def place(tmp_path):
    return Place(tmp_path / "cache", workers=1, progress="off")


def test_an_id_of_two_texts_is_named(tmp_path):
    raw = write(
        tmp_path / "r.jsonl", [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}, {"id": "a", "text": "x y"}]
    )
    ratios = np.arange(64.0)[None]
    with pytest.raises(UsageError, match="have the id 'a' more than once"):
        weigh(read_documents(raw), Weighing(SMALL, 1.0, ratios), place(tmp_path))


def test_arrays_of_the_users_are_given_their_ids_in_the_order_of_numbers(tmp_path):
    texts = [f"text {i}" for i in range(30)]
    raw = read_documents(write(tmp_path / "r.jsonl", [{"text": t} for t in texts]))
    folder = tmp_path / "emb"
    folder.mkdir()
    every = np.arange(60, dtype=np.float32).reshape(30, 2)
    for number, part in ((2, every[:10]), (10, every[10:])):
        np.save(folder / f"emb{number}.npy", part)
    found = given_embeddings(folder, raw, "given", place(tmp_path)).to_arrow()
    assert found["id"].to_pylist() == [document_id(t) for t in texts]
    assert found["embedding"].to_pylist() == every.tolist()
    np.save(folder / "emb11.npy", every[:1])
    with pytest.raises(UsageError, match="31 rows, and there are 30 documents"):
        given_embeddings(folder, raw, "given", place(tmp_path))
    with pytest.raises(InputError, match="no embeddings at"):
        given_embeddings(tmp_path / "none", raw, "given", place(tmp_path))


def test_weights_of_another_count_or_kind_are_refused(tmp_path):
    raw = read_documents(write(tmp_path / "r.jsonl", [{"text": "a"}, {"text": "b"}]))
    np.save(tmp_path / "w.npy", np.zeros(3))
    with pytest.raises(UsageError, match="3 rows, and there are 2 documents"):
        given_weights(tmp_path / "w.npy", raw, "log_weight", place(tmp_path))
    np.save(tmp_path / "s.npy", np.array(["a", "b"]))
    with pytest.raises(UsageError, match="and not numbers"):
        given_weights(tmp_path / "s.npy", raw, "log_weight", place(tmp_path))
    np.save(tmp_path / "p.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(UsageError, match="holds object, and not numbers"):
        given_weights(tmp_path / "p.npy", raw, "log_weight", place(tmp_path))
    (tmp_path / "t.npy").write_text("1.0 2.0")
    with pytest.raises(UsageError, match=r"is no \.npy file of numbers"):
        given_weights(tmp_path / "t.npy", raw, "log_weight", place(tmp_path))
    np.save(tmp_path / "c.npy", np.zeros(2))
    (tmp_path / "c.npy").write_bytes((tmp_path / "c.npy").read_bytes()[:-1])
    with pytest.raises(InputError, match="ends before its 2 rows do"):
        given_weights(tmp_path / "c.npy", raw, "log_weight", place(tmp_path))
    with pytest.raises(InputError, match="cannot be read"):
        given_weights(tmp_path / "none.npy", raw, "log_weight", place(tmp_path))


def test_values_are_counted_and_blank_columns_are_null():
    table = pa.table({"id": ["1", "2", "3"], "source": ["a", None, "a"]})
    fold = Values("source")
    assert fold.finish(fold.add(fold.start(), table)) == Counter({"a": 2, "": 1})
    assert Blank(("source",)).open()(table)["source"].to_pylist() == [None] * 3


def test_weighing_looks_at_no_record_before_the_first(tmp_path, monkeypatch):
    """Two passes over the raw lines for a fit and its weights: the schema of two text fields needs none of its own."""
    from tamis.io import jsonl

    path = tmp_path / "raw.jsonl"
    path.write_text("".join(json.dumps({"id": f"d{i}", "text": f"a b {i}", "n": i}) + "\n" for i in range(20)))
    raw = read_documents([path])
    slimmed = slim(raw)
    assert slimmed.plan.source.exact
    assert slimmed.schema.names == ["id", "text"]
    scanned = []
    monkeypatch.setattr(
        "tamis.io.source.scan_piece", lambda piece: scanned.append(piece) or jsonl.scan(piece), raising=True
    )
    weights, _ = weigh(raw, Weighing(SMALL, 1.0, np.zeros((1, 64))), Place(tmp_path / "cache", 1, progress="off"))
    assert weights.count() == 20
    assert not scanned


def test_ids_that_fit_no_one_type_are_looked_at_all(tmp_path):
    path = tmp_path / "raw.jsonl"
    path.write_text('{"id": "a", "text": "x"}\n{"id": 7, "text": "y"}\n')
    assert not slim(read_documents([path])).plan.source.exact


def test_components_are_those_that_make_held_out_documents_likeliest(tmp_path):
    centres = np.random.default_rng(1).standard_normal((20, 6)) * 8
    points = centres[np.arange(600) % 20] + np.random.default_rng(2).standard_normal((600, 6))
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(points.reshape(-1)), 6)
    data = DocumentDataset.from_arrow(pa.table({"id": [str(i) for i in range(600)], "embedding": vectors}))
    settings = MixtureSettings(held_out=0.2, per_component=2, max_iter=20)
    place = Place(tmp_path, 1, progress="off")
    found = fit_fewest(data, 200, settings, tmp_path / "fit.safetensors", place, named=True)
    by = {n: Mixture.load(tmp_path / f"fit-{n}.safetensors") for n in (5, 15, 50)}
    assert not (tmp_path / "fit-200.safetensors").exists()  # 150 was no better than 50, or 50 than 15
    assert found.mixture.components in by
    fits = {n: fit_mixture(data, replace(settings, components=n)).held_out for n in by}
    assert found.mixture.components == max(fits, key=fits.get) != 5
    assert "held-out documents are likelier" in found.notes[-1]
