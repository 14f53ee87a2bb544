"""Tamis's part of the benchmark: n-gram importance resampling as ``tamis select`` does it, in its three phases.

The time includes starting worker processes, checking plans and writing manifests; it excludes importing. ``start`` is
what a process needs for its first document: compiled kernels are loaded. ``all`` is start, fit, weights and resample:
every document is weighed once, and its weight kept with its id.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from tamis import DocumentDataset, HashedNgramDSIR
from tamis.selection.ngrams import NgramCounts, NgramWeights, log_ratios
from tamis.selection.sample import Resample
from tamis.text.hashed_ngrams import HashedNgrams, least_features

SHORTEST = 100
"""Tokens: the default of the package."""


def now() -> tuple[float, float]:
    """Seconds of the clock, and of the processor: of this process, and so of one worker only."""
    return time.perf_counter(), time.process_time()


def select(asked: dict) -> None:
    folder, workers = Path(asked["output"]), asked["workers"]
    features = HashedNgrams(hash=asked["hash"])
    marks = [now()]
    first = DocumentDataset.from_arrow(pa.table({"id": ["0"], "text": ["a b"]}))
    few = first.fold(NgramCounts(features))
    NgramWeights(log_ratios(few, few)[0], features)(first).to_arrow()
    marks.append(now())
    options = {"num_proc": workers, "hash": asked["hash"], "progress": "off"}
    dsir = HashedNgramDSIR(asked["raw"], asked["target"], folder / "cache", **options)
    dsir.fit_ng_importance_estimator("all")
    marks.append(now())
    weighed = dsir.compute_ng_importance_weights()
    marks.append(now())
    dsir.resample(out_dir=folder / "kept", num_to_sample=asked["number"])
    marks.append(now())
    laps = dict(zip(("start", "fit", "weights", "resample"), np.diff(marks, axis=0), strict=True))
    laps["all"] = sum(laps.values())
    print(json.dumps({kind: {k: float(v[i]) for k, v in laps.items()} for i, kind in enumerate(("seconds", "cpu"))}))
    dsir.resample(out_dir=folder / "best", num_to_sample=asked["number"], top_k=True)
    # One plan that weighs twice and stores nothing must choose the same.
    least = ("features", least_features(SHORTEST, features.ngrams))
    chosen = Resample(asked["number"], "log_weight_ngram", least=least)
    documents = DocumentDataset.read_json(asked["raw"])
    plan = chosen(NgramWeights(dsir.log_diff[0], features)(documents))
    plan.to_json(folder / "again", workers=workers, progress="off")
    raw, target = (
        DocumentDataset.read_json(asked[which]).fold(NgramCounts(features), workers=workers)
        for which in ("raw", "target")
    )
    numbers = {"raw": raw.counts, "target": target.counts, "log_diff": dsir.log_diff[0]}
    table = DocumentDataset.read_parquet(weighed).to_arrow()
    order = {"ids": np.array(table["id"].to_pylist(), dtype=str), "weights": table["log_weight"].to_numpy()}
    np.savez(folder / "numbers.npz", **numbers, **order)


def kernel(asked: dict) -> None:
    """Megabytes of text a second on one core, from memory: counting, weighing, and adding up the bytes as they lie."""
    table = DocumentDataset.read_json(asked["raw"]).to_arrow()
    texts = table["text"].cast(pa.large_string()).combine_chunks()
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int64)
    size = int(offsets[len(texts)])
    words = np.frombuffer(texts.buffers()[2], dtype=np.uint8)[: size // 8 * 8].view(np.uint64)
    rates: dict[str, float] = {"text_bytes": size}
    ratios = np.random.default_rng(1).standard_normal((10_000, 1))

    def rate(what) -> float:
        found = []
        what()
        for _ in range(5):
            begin = time.process_time()
            what()
            found.append(time.process_time() - begin)
        return size / 1e6 / statistics.median(found)

    for hash_name in ("fast", "sha256"):
        features = HashedNgrams(hash=hash_name)
        counts = np.zeros(10_000, dtype=np.int64)
        rates[f"count {hash_name}"] = rate(lambda f=features, c=counts: f.count(texts, c))
        rates[f"weigh {hash_name}"] = rate(lambda f=features: f.weigh(texts, ratios))
    rates["scan"] = rate(lambda: [words.sum() for _ in range(10)]) * 10
    print(json.dumps(rates))


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text())
    select(asked) if asked["task"] == "select" else kernel(asked)


# Worker processes may import this module again.
if __name__ == "__main__":
    main()
