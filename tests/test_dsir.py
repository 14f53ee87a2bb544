"""HashedNgramDSIR: the published example runs, every argument does what it says, and bad input is named."""

import inspect
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from tamis.dataset import DocumentDataset
from tamis.errors import InputError, MissingExtraError, ModelError, OutputRefusedError, UsageError
from tamis.hashing import uniform
from tamis.importance import HashedNgramDSIR
from tiny_embedders import sentence_embedder

TOPICS = {
    "cats": ["the", "cat", "sat", "on", "a", "mat", "and", "purred", "at", "the", "moon", "while", "dogs", "slept"],
    "stocks": ["stock", "market", "price", "of", "oil", "rose", "by", "percent", "in", "trading", "on", "monday"],
    "proofs": ["lambda", "calculus", "proves", "theorem", "in", "type", "theory", "with", "a", "monad", "functor"],
}


def document(topic, number, length=24):
    words = TOPICS[topic]
    return " ".join(words[int(u * len(words))] for u in uniform((f"{number} {i}" for i in range(length)), 1))


def write(path, documents):
    path.write_text("".join(json.dumps(d) + "\n" for d in documents))
    return path


@pytest.fixture(scope="session")
def embedder(tmp_path_factory):
    return sentence_embedder(tmp_path_factory.mktemp("embedder") / "tiny")


@pytest.fixture
def data(tmp_path):
    names = list(TOPICS)
    raw = [
        {"text": document(names[i % 3], i, 3 if i % 10 == 9 else 24), "source": names[i % 3], "n": i}
        for i in range(240)
    ]
    write(tmp_path / "raw.jsonl", raw)
    write(tmp_path / "target.jsonl", [{"text": document("stocks", 1000 + i)} for i in range(60)])
    write(tmp_path / "target2.jsonl", [{"text": document("proofs", 2000 + i)} for i in range(30)])
    return tmp_path


def dsir(data, target="target.jsonl", **options):
    given = {"num_proc": 1, "min_example_length": 10, "num_buckets": 512, "progress": "off", "components": (4, 2)}
    targets = [data / t for t in ([target] if isinstance(target, str) else target)]
    return HashedNgramDSIR([data / "raw.jsonl"], targets, data / "cache", **(given | options))


def kept(out):
    return DocumentDataset.read_json(out).to_arrow().to_pylist()


def lines(out):
    return [line for path in sorted(Path(out).glob("*.jsonl")) for line in path.read_text().splitlines()]


# -- as published ---------------------------------------------------------------------------------------------


def test_signatures_are_those_of_the_usage_document():
    def arguments(method):
        return {
            name: "required" if p.default is p.empty else p.default
            for name, p in inspect.signature(method).parameters.items()
            if name != "self" and p.kind is not p.KEYWORD_ONLY
        }

    assert arguments(HashedNgramDSIR.fit_ng_importance_estimator) == {"num_tokens_to_fit": "auto"}
    assert arguments(HashedNgramDSIR.fit_gmm_importance_estimator) == {
        "chunk_size": 10,
        "raw_max_samples": "all",
        "target_max_samples": "all",
        "raw_text_emb_path": None,
        "target_text_emb_path": None,
        "checkpoint_dir": None,
        "gmm_raw_checkpoint_path": None,
        "gmm_target_checkpoint_path": None,
    }
    assert arguments(HashedNgramDSIR.compute_hybrid_importance_weight) == {
        "log_diff_path": None,
        "ng_log_importance_weights_path": None,
        "gmm_log_importance_weights_path": None,
        "alpha": 0.5,
        "save_path": None,
    }
    # The document's own second example leaves the first one out, so it has a default here.
    assert arguments(HashedNgramDSIR.resample) == {
        "log_importance_weights_path": None,
        "out_dir": None,
        "num_to_sample": None,
        "cache_dir": None,
        "top_k": False,
    }
    assert arguments(HashedNgramDSIR.save) == arguments(HashedNgramDSIR.load) == {"path": "required"}
    assert arguments(HashedNgramDSIR.__init__) == {
        "raw_datasets": "required",
        "target_datasets": "required",
        "cache_dir": "required",
        "raw_load_dataset_fn": None,
        "raw_parse_example_fn": None,
        "target_load_dataset_fn": None,
        "target_parse_example_fn": None,
        "num_proc": None,
        "ngrams": 2,
        "num_buckets": 10_000,
        "tokenizer": "wordpunct",
        "min_example_length": 100,
        "target_laplace_smoothing": 0.0,
        "separate_targets": False,
        "target_proportions": None,
    }


def test_the_published_example_runs(data, embedder, monkeypatch):
    monkeypatch.setenv("TAMIS_MODELS", str(data / "models"))
    shutil.copytree(embedder, data / "models" / "all-MiniLM-L6-v2")
    raw_datasets, target_datasets = [str(data / "raw.jsonl")], [str(data / "target.jsonl")]
    dsir = HashedNgramDSIR(raw_datasets, target_datasets, cache_dir=str(data / "dsir_cache"), num_proc=1)
    dsir.min_example_length = 10  # its documents are longer than these
    dsir.fit_ng_importance_estimator(num_tokens_to_fit="auto")
    dsir.fit_gmm_importance_estimator()
    dsir.compute_hybrid_importance_weight(
        alpha=0.5, save_path=dsir.cache_dir / "hybrid_importance_weights_alpha_0.5.npy"
    )
    dsir.resample(
        log_importance_weights_path=dsir.cache_dir / "hybrid_log_importance_weights_alpha_0.5.npy",
        out_dir=str(data / "outputdir/output_alpha_0.5"),
        num_to_sample=60,
        top_k=True,
    )
    chosen = kept(data / "outputdir/output_alpha_0.5")
    assert len(chosen) == 60
    assert {d["source"] for d in chosen} == {"stocks"}
    weights = np.load(dsir.cache_dir / "hybrid_importance_weights_alpha_0.5.npy", allow_pickle=False)
    assert weights.shape == (240,)
    dsir.save(data / "dsir_params.pkl")
    dsir.load(data / "dsir_params.pkl")
    dsir.resample(out_dir=data / "again", num_to_sample=100000000, cache_dir=data / "resampled_cache")
    assert len(kept(data / "again")) == 216  # all that are long enough
    # With embeddings that were computed before.
    dsir.fit_gmm_importance_estimator(
        raw_text_emb_path=dsir.cache_dir / "raw text embeddings",
        target_text_emb_path=dsir.cache_dir / "target text embeddings",
    )


# -- what is chosen -------------------------------------------------------------------------------------------


def test_chosen_lines_are_copied_byte_for_byte_and_are_like_the_target(data):
    d = dsir(data)
    d.fit_ng_importance_estimator()
    d.compute_ng_importance_weights()
    chosen = d.resample(out_dir=data / "out", num_to_sample=50)
    assert set(lines(data / "out")) <= set((data / "raw.jsonl").read_text().splitlines())
    assert {each["source"] for each in kept(data / "out")} == {"stocks"}
    assert all(len(each["text"].split()) >= 10 for each in kept(data / "out"))
    quality = d.judge(data / "out")
    assert quality.selected == sum(chosen.selection.counts) == 50
    assert quality.divergence.reduction > 0.5
    assert (quality.sources[0].source, quality.sources[0].selected) == ("stocks", 50)
    assert [a.selected for a in quality.around] == [True] * 3 + [False] * 3
    assert all(a.text for a in quality.around)
    assert {word for g in quality.top for n in g.ngrams[:1] for word in n.split()} <= set(TOPICS["stocks"])
    assert all(g.log_ratio > 0 for g in quality.top)
    assert all(g.log_ratio < 0 for g in quality.bottom)
    written = json.loads((data / "out.selection.json").read_bytes())
    assert written["divergence"]["reduction"] == pytest.approx(quality.divergence.reduction)


def test_two_workers_and_another_order_choose_the_same(data):
    found = []
    for number, workers in enumerate((1, 2)):
        if number:
            rows = (data / "raw.jsonl").read_text().splitlines()
            (data / "raw.jsonl").write_text("\n".join(rows[::-1]) + "\n")
        d = dsir(data, num_proc=workers)
        d.fit_ng_importance_estimator()
        d.compute_ng_importance_weights()
        d.resample(out_dir=data / f"out{number}", num_to_sample=40)
        found.append(sorted(lines(data / f"out{number}")))
    assert found[0] == found[1]


def test_separate_targets_have_quotas(data):
    d = dsir(data, ["target.jsonl", "target2.jsonl"], separate_targets=True, target_proportions=[0.25, 0.75])
    d.fit_ng_importance_estimator("all")
    d.compute_ng_importance_weights(save_path=data / "both.npy")
    assert np.load(data / "both.npy").shape == (240, 2)
    d.resample(data / "both.npy", data / "out", 40, top_k=True)
    found = [each["source"] for each in kept(data / "out")]
    assert (found.count("stocks"), found.count("proofs")) == (10, 30)
    d = dsir(data, ["target.jsonl", "target2.jsonl"])
    d.fit_ng_importance_estimator()
    assert len(d.targets) == 1
    with pytest.raises(UsageError, match="shares of separate targets"):
        dsir(data, target_proportions=[1.0])


def test_separate_targets_have_mixtures_of_their_own(data, embedder):
    d = dsir(data, ["target.jsonl", "target2.jsonl"], separate_targets=True, model=embedder)
    d.fit_ng_importance_estimator()
    assert len(d.fit_gmm_importance_estimator()) == 3
    folder = d.compute_hybrid_importance_weight(alpha=0.4)
    table = DocumentDataset.read_parquet(folder).to_arrow()
    for end in ("1", "2"):
        parts = [table[f"{name}_{end}"].to_numpy() for name in ("log_weight_ngram", "log_weight_gmm", "log_weight")]
        assert np.allclose(parts[2], 0.4 * parts[0] + 0.6 * parts[1])
    d.resample(out_dir=data / "out", num_to_sample=30)
    assert len(kept(data / "out")) == 30


def test_weights_of_the_users_are_taken_by_order_and_a_changed_file_is_theirs(data):
    d = dsir(data)
    mine = np.zeros(240)
    mine[[3, 30, 33]] = 5.0
    np.save(data / "mine.npy", mine)
    d.resample(data / "mine.npy", data / "out", 3, top_k=True)
    assert {each["n"] for each in kept(data / "out")} == {3, 30, 33}
    d.fit_ng_importance_estimator()
    d.compute_ng_importance_weights(save_path=data / "own.npy")
    np.save(data / "own.npy", mine)
    d.resample(data / "own.npy", data / "out2", 3, top_k=True)
    assert {each["n"] for each in kept(data / "out2")} == {3, 30, 33}
    np.save(data / "mine.npy", mine[:-1])
    with pytest.raises(UsageError, match="239 rows, and there are 240 documents"):
        d.resample(data / "mine.npy", data / "out3", 3)


def test_weights_that_exist_are_combined(data):
    d = dsir(data)
    rng = np.arange(240.0)
    np.save(data / "a.npy", rng)
    np.save(data / "b.npy", rng[::-1].copy())
    d.compute_hybrid_importance_weight(None, data / "a.npy", data / "b.npy", 0.25, data / "both.npy")
    assert np.allclose(np.load(data / "both.npy"), 0.25 * rng + 0.75 * rng[::-1])


def test_n_gram_weights_of_before_are_joined_by_id(data):
    d = dsir(data)
    d.fit_ng_importance_estimator()
    d.compute_ng_importance_weights(save_path=data / "ng_log_importance_weights.npy")
    np.save(data / "gmm.npy", np.arange(240.0))
    d.compute_hybrid_importance_weight(
        ng_log_importance_weights_path=data / "ng_importance_weights.npy",
        gmm_log_importance_weights_path=data / "gmm.npy",
        save_path=data / "both.npy",
    )
    ngram = np.load(data / "ng_log_importance_weights.npy")
    assert np.allclose(np.load(data / "both.npy"), 0.5 * ngram + 0.5 * np.arange(240.0))
    np.save(data / "log_diff.npy", 2 * d.log_diff)
    d.compute_ng_importance_weights(data / "log_diff.npy", data / "twice.npy")
    assert np.allclose(np.load(data / "twice.npy"), 2 * ngram)


def test_parquet_and_compressed_files_are_read_and_parquet_stays_parquet(data):
    raw = DocumentDataset.read_json(data / "raw.jsonl")
    raw.to_parquet(data / "parquet", progress="off", workers=1)
    raw.to_json(data / "gz", compression="gz", progress="off", workers=1)
    found = []
    for number, kind in enumerate(("parquet", "gz")):
        d = HashedNgramDSIR(
            data / kind,
            data / "target.jsonl",
            data / f"cache{number}",
            num_proc=1,
            min_example_length=10,
            progress="off",
        )
        d.fit_ng_importance_estimator()
        d.compute_ng_importance_weights()
        d.resample(out_dir=data / f"out{number}", num_to_sample=25)
        read = DocumentDataset.read_parquet if kind == "parquet" else DocumentDataset.read_json
        found.append(sorted(read(data / f"out{number}").to_arrow()["n"].to_pylist()))
    assert found[0] == found[1]


def test_functions_of_the_users_read_the_documents(data):
    def load(path):
        for line in Path(path).read_text().splitlines():
            yield {"body": json.loads(line)["text"], "kind": json.loads(line).get("source")}

    functions = {
        "raw_load_dataset_fn": load,
        "raw_parse_example_fn": lambda example: example["body"],
        "target_load_dataset_fn": load,
        "target_parse_example_fn": lambda example: example["body"],
    }
    d = dsir(data, **functions)
    d.fit_ng_importance_estimator()
    d.compute_ng_importance_weights()
    d.resample(out_dir=data / "out", num_to_sample=20, top_k=True)
    assert {each["kind"] for each in kept(data / "out")} == {"stocks"}
    bad = dsir(data, raw_load_dataset_fn=lambda path: iter(["text"]))
    with pytest.raises(UsageError, match="the example 0 must be a dict"):
        bad.fit_ng_importance_estimator()


def test_a_saved_state_goes_on_where_it_was(data, embedder, caplog):
    d = dsir(data, model=embedder)
    d.fit_ng_importance_estimator()
    with caplog.at_level(logging.INFO, "tamis"):
        d.save(data / "state.pkl")
    assert "nothing is pickled" in caplog.text
    other = HashedNgramDSIR([], [], data / "elsewhere", progress="off").load(data / "state.pkl")
    assert np.array_equal(other.log_diff, d.log_diff)
    assert other.cache_dir == data / "cache"
    fits = other.fit_gmm_importance_estimator(raw_max_samples=100)
    assert fits[0].documents < 150
    other.compute_hybrid_importance_weight()
    other.save(data / "state.pkl")
    third = HashedNgramDSIR([], [], data / "elsewhere", progress="off").load(data / "state.pkl")
    third.resample(out_dir=data / "out", num_to_sample=10)
    assert len(kept(data / "out")) == 10
    with pytest.raises(ModelError, match="no state of HashedNgramDSIR"):
        third.load(data / "nothing")
    with pytest.raises(OutputRefusedError, match="something else"):
        third.save(data / "out")


def test_mixtures_go_on_from_their_checkpoint(data, embedder):
    d = dsir(data, model=embedder)
    first = d.fit_gmm_importance_estimator(checkpoint_dir=data / "points")
    second = d.fit_gmm_importance_estimator(checkpoint_dir=data / "points", chunk_size=3)
    assert [f.mixture.fingerprint for f in first] == [f.mixture.fingerprint for f in second]
    assert len(list((data / "points").iterdir())) == 2
    d.fit_gmm_importance_estimator(gmm_raw_checkpoint_path=data / "raw.safetensors")
    assert (data / "raw.safetensors").exists()


# -- bad input ------------------------------------------------------------------------------------------------


def test_a_target_without_text_is_named(data):
    write(data / "target.jsonl", [{"text": " "}, {"text": ""}])
    with pytest.raises(UsageError, match="the target holds not one n-gram"):
        dsir(data).fit_ng_importance_estimator()


def test_raw_documents_that_are_all_too_short_are_named(data):
    d = dsir(data, min_example_length=1000)
    d.fit_ng_importance_estimator()
    d.compute_ng_importance_weights()
    with pytest.raises(UsageError, match=r"none of 240 raw documents can be chosen.*min_example_length"):
        d.resample(out_dir=data / "out", num_to_sample=5)
    assert not (data / "out").exists()


def test_what_looks_wrong_is_said(data):
    raw = (data / "raw.jsonl").read_text().splitlines()
    (data / "target.jsonl").write_text("\n".join(raw[1:30:3]) + "\n")
    d = dsir(data)
    d.fit_ng_importance_estimator()
    d.compute_ng_importance_weights()
    d.resample(out_dir=data / "out", num_to_sample=1000)
    notes = " ".join(d.judge(data / "out").notes)
    assert "the target is small" in notes
    assert "are among the raw documents" in notes
    assert "784 fewer than asked for" in notes
    assert "a target has 10 documents" in notes
    np.save(data / "equal.npy", np.ones(240))
    d.resample(data / "equal.npy", data / "out2", 10)
    assert "all weights are equal" in " ".join(d.judge(data / "out2").notes)
    np.save(data / "one.npy", np.where(np.arange(240) == 0, 50.0, 0.0))
    d.resample(data / "one.npy", data / "out3", 10)
    assert "one document has 100% of all weight" in " ".join(d.judge(data / "out3").notes)


def test_embeddings_of_another_count_or_model_are_named(data, embedder, tmp_path):
    np.save(data / "few.npy", np.zeros((5, 3), np.float32))
    d = dsir(data, model=embedder)
    with pytest.raises(UsageError, match="5 rows, and there are 240 documents"):
        d.fit_gmm_importance_estimator(raw_text_emb_path=data / "few.npy")
    bad = np.ones((240, 3), np.float32)
    bad[7, 1] = np.nan
    np.save(data / "bad.npy", bad)
    with pytest.raises(Exception, match="no finite number"):
        d.fit_gmm_importance_estimator(raw_text_emb_path=data / "bad.npy")
    d.fit_ng_importance_estimator()
    other = uniform(range(720)).reshape(240, 3)
    np.save(data / "other.npy", other)
    d.fit_gmm_importance_estimator(raw_text_emb_path=data / "other.npy")
    with pytest.raises(UsageError, match="32"):
        d.compute_hybrid_importance_weight()


def test_embeddings_of_two_models_are_not_mixed(data, embedder, tmp_path):
    from tamis.importance.fit import embed_documents
    from tamis.importance.place import Place, read_documents
    from tamis.models.embed import Embed

    other = embed_documents(
        read_documents(data / "target.jsonl"),
        Embed(model=sentence_embedder(tmp_path / "another", seed=3)),
        "target",
        Place(data / "other", workers=1, progress="off"),
    )
    assert other.schema.field("embedding").metadata == {b"embedder": b"another"}
    d = dsir(data, model=embedder)
    d.fit_gmm_importance_estimator(target_text_emb_path=data / "other" / "target")
    with pytest.raises(UsageError, match="'tiny' and 'another'"):
        d.compute_hybrid_importance_weight(alpha=0)


def test_what_was_not_done_yet_is_named(data):
    d = dsir(data)
    for call, sentence in (
        (d.compute_ng_importance_weights, "fit_ng_importance_estimator"),
        (lambda: d.compute_hybrid_importance_weight(alpha=0), "fit_gmm_importance_estimator"),
        (lambda: d.resample(out_dir=data / "o", num_to_sample=1), "no weights yet"),
        (lambda: d.resample(out_dir=data / "o"), "needs out_dir and num_to_sample"),
        (lambda: d.resample(data / "none.npy", data / "o", 1), "cannot be read"),
        (lambda: d.judge(data / "o"), "nothing has been chosen"),
        (lambda: d.fit_ng_importance_estimator("most"), "'auto', 'all' or a number"),
    ):
        with pytest.raises((UsageError, InputError), match=sentence):
            call()


def test_without_torch_ngrams_work_and_mixtures_name_the_extra(data, monkeypatch):
    monkeypatch.setattr("tamis.models.checkpoint.find_spec", lambda name: None, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    d = dsir(data)
    d.fit_ng_importance_estimator()
    with pytest.raises(MissingExtraError, match=r"pip install 'tamis\[models\]'"):
        d.fit_gmm_importance_estimator()
