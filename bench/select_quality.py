"""Does importance resampling find what is like the target? Precision of n-grams, mixtures and both on labelled texts.

    python bench/select_quality.py LABELLED.jsonl --label site --embeddings FOLDER --out results.json

Each label in turn: a seeded part of its documents is the target, and the rest of them is among the raw documents, with
all documents of the other labels. As many are chosen as the raw documents hold of that label; precision is the share
of the chosen that bear it. Chosen are those of the highest weights (top k), and by Gumbel top-k without replacement, as
the paper does. Embeddings are made once and kept in ``--embeddings``, with all fields; texts without one, the blank
ones, are left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis import DocumentDataset
from tamis.hashing import uniform
from tamis.importance.dsir_fit import HELD_OUT
from tamis.importance.fit import fit_fewest
from tamis.importance.place import Place
from tamis.selection.mixture import MixtureWeights
from tamis.selection.mixture_fit import RAW_COMPONENTS, TARGET_COMPONENTS, MixtureFit, MixtureSettings, fit_mixture
from tamis.selection.ngrams import NgramCounts, NgramWeights, log_ratios
from tamis.selection.sample import Resample
from tamis.text.hashed_ngrams import HashedNgrams, least_features

ALPHAS = tuple(round(0.1 * i, 1) for i in range(1, 10))


@dataclass(frozen=True)
class Settings:
    smoothing: float
    share: float
    seed: int
    raw_components: int
    target_components: int
    shortest: int
    automatic: bool


def embedded(options: argparse.Namespace) -> pa.Table:
    """All documents with their embeddings."""
    given = sorted(options.embeddings.glob("*.parquet")) and not (options.embeddings / "_tamis").exists()
    if not given:
        from tamis.models.embed import Embed

        documents = DocumentDataset.read_json(options.source, text_field=options.text)
        Embed(model=options.model)(documents).to_parquet(options.embeddings, workers=1)
    table = DocumentDataset.read_parquet(options.embeddings, text_field=options.text).to_arrow()
    table = table.select(["id", options.text, options.label, "embedding"]).rename_columns(
        ["id", "text", "label", "embedding"]
    )
    table = table.filter(pc.and_(pc.is_valid(table["embedding"]), pc.is_valid(table["label"])))
    if pc.count_distinct(table["id"]).as_py() != table.num_rows:
        raise SystemExit("Two documents have the same id.")
    return table.combine_chunks()


def divided(table: pa.Table, label: str, settings: Settings) -> tuple[pa.Table, pa.Table]:
    """(raw, target)"""
    own = pc.equal(table["label"], label).to_numpy(zero_copy_only=False)
    # Not the seeds of the draws: noise of the same seed is the same number, and would prefer the documents left here.
    held = own & (uniform(table["id"].to_pylist(), settings.seed + 1_000_003) < settings.share)
    return table.filter(pa.array(~held)), table.filter(pa.array(held))


def fitted(data: DocumentDataset, components: int, automatic: bool) -> MixtureFit:
    """A mixture of so many components, or of as many as ``tamis select`` chooses up to there."""
    if not automatic:
        return fit_mixture(data, MixtureSettings(components))
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), 1, progress="off")
        settings = MixtureSettings(held_out=HELD_OUT)
        return fit_fewest(data, components, settings, Path(folder) / "fit.safetensors", place, named=False)


def weighed(raw: pa.Table, target: pa.Table, settings: Settings) -> tuple[pa.Table, dict[str, object]]:
    """The raw documents with both weights, and how the mixtures were fitted."""
    documents, targets = DocumentDataset.from_arrow(raw), DocumentDataset.from_arrow(target)
    features = HashedNgrams()
    ratios = log_ratios(
        documents.fold(NgramCounts(features)), targets.fold(NgramCounts(features)), smoothing=settings.smoothing
    )
    wanted = ((documents, settings.raw_components), (targets, settings.target_components))
    fits = [fitted(data, components, settings.automatic) for data, components in wanted]
    plan = NgramWeights(ratios[0], features, per_token=True)(documents)
    plan = MixtureWeights(fits[0].mixture, fits[1].mixture)(plan)
    facts = {"components": [f.mixture.components for f in fits], "notes": [n for f in fits for n in f.notes]}
    return plan.to_arrow(), facts


def precision(table: pa.Table, weight: np.ndarray, label: str, k: int, least: tuple[str, float], seed: int) -> float:
    """Of the k documents of the highest weights, or with noise where ``seed`` is not negative."""
    plan = DocumentDataset.from_arrow(table.append_column("log_weight", pa.array(weight)))
    chosen = Resample(k, seed=max(0, seed), top_k=seed < 0, least=least)(plan).to_arrow()
    return float(np.mean(np.array(chosen["label"].to_pylist()) == label))


def standard(weights: np.ndarray) -> np.ndarray:
    return (weights - weights.mean()) / weights.std()


def variants(table: pa.Table) -> dict[str, np.ndarray]:
    """Weights by name: the published hybrid, one of n-grams per token, and one of both brought to the same spread."""
    ngram, short, gmm = (
        table[name].to_numpy().astype(np.float64)
        for name in ("log_weight_ngram", "log_weight_ngram_per_token", "log_weight_gmm")
    )
    found = {"random": np.zeros(len(ngram)), "ngram": ngram, "ngram per token": short, "gmm": gmm}
    kinds = (("hybrid", ngram, gmm), ("hybrid, same spread", standard(ngram), standard(gmm)))
    for name, one, other in (*kinds, ("hybrid per token, same spread", standard(short), standard(gmm))):
        found |= {f"{name} {alpha}": alpha * one + (1 - alpha) * other for alpha in ALPHAS}
    return found


def measure(table: pa.Table, label: str, settings: Settings, draws: int) -> dict[str, object]:
    raw, target = divided(table, label, settings)
    found, facts = weighed(raw, target, settings)
    least = ("features", float(least_features(settings.shortest, 2)))
    bears = np.array(found["label"].to_pylist()) == label
    able = found["features"].to_numpy() >= least[1]
    k = int((bears & able).sum())
    rows: dict[str, dict[str, float]] = {}
    for name, weight in variants(found).items():
        drawn = float(np.mean([precision(found, weight, label, k, least, seed) for seed in range(draws)]))
        # Equal weights have no top.
        top = drawn if name == "random" else precision(found, weight, label, k, least, -1)
        rows[name] = {"top k": top, "drawn": drawn}
    spread = {name: float(found[name].to_numpy().std()) for name in ("log_weight_ngram", "log_weight_gmm")}
    sizes = {"raw": int(able.sum()), "target": target.num_rows, "k": k, "share": float(bears[able].mean())}
    return {**sizes, **facts, "standard deviations": spread, "precision": rows}


def best(rows: dict[str, dict[str, float]], prefix: str, how: str) -> tuple[str, float]:
    return max(
        ((n.removeprefix(f"{prefix} "), r[how]) for n, r in rows.items() if n[: len(prefix) + 3] == f"{prefix} 0."),
        key=lambda each: each[1],
    )


def lines(label: str, found: dict[str, object]) -> list[str]:
    rows: dict[str, dict[str, float]] = found["precision"]  # type: ignore[assignment]
    hybrids = ("hybrid", "hybrid, same spread", "hybrid per token, same spread")
    out = []
    for how in ("top k", "drawn"):
        cells = [f"{rows[name][how]:.1%}" for name in ("random", "ngram", "ngram per token", "gmm")]
        for hybrid in hybrids:
            alpha, value = best(rows, hybrid, how)
            cells.append(f"{value:.1%} ({alpha})")
        gain = 100 * (best(rows, "hybrid", how)[1] - max(rows["ngram"][how], rows["gmm"][how]))
        size = f"{found['target']} | {found['k']} of {found['raw']}"
        out.append(f"| {label} | {size} | {how} | {' | '.join(cells)} | {gain:+.1f} |")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("source", type=Path, help="JSON Lines with an id, a text and a label")
    parser.add_argument("--label", default="label")
    parser.add_argument("--text", default="text")
    parser.add_argument("--embeddings", type=Path, required=True, help="a folder of Parquet; made where it is missing")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--labels", nargs="+", help="targets; all labels by default")
    parser.add_argument("--share", type=float, default=0.5, help="of a label's documents, that are the target")
    parser.add_argument("--smoothing", type=float, default=0.0, help="added to every bucket of the target")
    parser.add_argument("--min-length", type=int, default=0, help="tokens; 100 as published")
    parser.add_argument("--raw-components", type=int, default=RAW_COMPONENTS)
    parser.add_argument("--target-components", type=int, default=TARGET_COMPONENTS)
    parser.add_argument("--automatic", action="store_true", help="as many components as tamis select chooses")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table = embedded(options)
    settings = Settings(
        options.smoothing,
        options.share,
        options.seed,
        options.raw_components,
        options.target_components,
        options.min_length,
        options.automatic,
    )
    labels = options.labels or sorted(set(table["label"].to_pylist()))
    results = {}
    print(
        "| target | documents | k of raw | chosen | random | ngram | ngram per token | gmm | hybrid (best alpha) "
        "| same spread | per token, same spread | hybrid - better single, points |\n"
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    for label in labels:
        results[label] = measure(table, label, settings, options.draws)
        print(*lines(label, results[label]), sep="\n", flush=True)
    if options.out:
        options.out.write_text(json.dumps({"settings": vars(settings), "labels": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
