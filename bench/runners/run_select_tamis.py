"""Tamis's part of the benchmark: the folds and stages of n-gram importance resampling.

The time includes starting worker processes, checking plans and writing manifests; it excludes importing. ``start`` is
what a process needs for its first document: compiled kernels are loaded. ``all`` is start, fit, and the selection as
one plan, which weighs every document twice and stores no weights; ``weights`` and ``resample`` are the same in two runs
with the weights in a file between them, as the package does it.
"""

import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tamis import DocumentDataset
from tamis.selection.ngrams import NgramCounts, NgramWeights, log_ratios
from tamis.selection.sample import BestDocuments, Resample, Resampled
from tamis.stage import Fold, Needs
from tamis.text.hashed_ngrams import HashedNgrams, least_features

SHORTEST = 100
"""Tokens: the default of the package."""
KEPT = ("id", "log_weight_ngram", "features")


class Collected(Fold):
    """Ids, weights and numbers of n-grams, without the texts, in the order of the ids."""

    def needs(self, schema: pa.Schema) -> Needs:
        return Needs(reads=KEPT)

    def start(self) -> list[pa.Table]:
        return []

    def add(self, state: list[pa.Table], table: pa.Table) -> list[pa.Table]:
        return [*state, table.select(KEPT)]

    def merge(self, left: list[pa.Table], right: list[pa.Table]) -> list[pa.Table]:
        return left + right

    def finish(self, state: list[pa.Table]) -> pa.Table:
        return pa.concat_tables(state)


def now() -> tuple[float, float]:
    """Seconds of the clock, and of the processor: of this process, and so of one worker only."""
    return time.perf_counter(), time.process_time()


def select(asked: dict) -> None:
    folder, workers = Path(asked["output"]), asked["workers"]
    features = HashedNgrams(hash=asked["hash"])
    least = ("features", least_features(SHORTEST, features.ngrams))
    chosen = Resample(asked["number"], "log_weight_ngram", least=least)
    options = {"workers": workers, "progress": "off"}
    marks = [now()]
    first = DocumentDataset.from_arrow(pa.table({"id": ["0"], "text": ["a b"]}))
    few = first.fold(NgramCounts(features))
    chosen(NgramWeights(log_ratios(few, few)[0], features)(first)).to_arrow()
    marks.append(now())
    documents, targets = DocumentDataset.read_json(asked["raw"]), DocumentDataset.read_json(asked["target"])
    target = targets.fold(NgramCounts(features), workers=workers)
    raw = documents.fold(NgramCounts(features), workers=workers)
    ratios = log_ratios(raw, target)
    marks.append(now())
    weighed = NgramWeights(ratios[0], features)(documents)
    chosen(weighed).to_json(folder / "kept", **options)
    marks.append(now())
    table = weighed.fold(Collected(), workers=workers)
    pq.write_table(table, folder / "weights.parquet")
    marks.append(now())
    weights = DocumentDataset.read_parquet(folder / "weights.parquet")
    cut = weights.fold(BestDocuments(chosen), workers=workers)
    Resampled(chosen, cut)(weighed).to_json(folder / "again", **options)
    marks.append(now())
    best = replace(chosen, top_k=True)
    best(weighed).to_json(folder / "best", **options)
    start, fit, fused, weighing, resampling = np.diff(marks, axis=0)
    laps = {"start": start, "fit": fit, "weights": weighing, "resample": resampling, "all": start + fit + fused}
    print(json.dumps({kind: {k: float(v[i]) for k, v in laps.items()} for i, kind in enumerate(("seconds", "cpu"))}))
    numbers = {"raw": raw.counts, "target": target.counts, "log_diff": ratios[0]}
    order = {"ids": np.array(table["id"].to_pylist(), dtype=str), "weights": table["log_weight_ngram"].to_numpy()}
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
