"""One iteration of EM beside scikit-learn's: seconds, memory, and how equal the mixtures are.

    python bench/mixture.py --rows 50000 --components 1000
    python bench/mixture.py --rows 10000000 --components 1000 --iterations 1 --rounds 1 --parts 20 --programs tamis

Every program is a process of its own with the same number of threads, on the same embeddings and from the same start.
Tamis reads its embeddings from Parquet in every iteration; scikit-learn holds them in memory. An iteration of
scikit-learn is the time from one E step to the next. The embeddings are made: topics, subtopics and noise, of length 1
in float32, as MiniLM's are; or they are those of ``--embeddings``, a .npy file [rows, width].
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

BLOCK = 8192
PROGRAMS = ("sklearn-float64", "sklearn-float32", "tamis")


def blocks(rows: int, width: int):
    """Embeddings of 200 topics and 5,000 subtopics, in blocks, the same ones every time."""
    random = np.random.default_rng(7)
    topics = random.standard_normal((200, width), dtype=np.float32)
    subtopics = random.standard_normal((5000, width), dtype=np.float32) * 0.8 + topics[random.integers(0, 200, 5000)]
    spread = random.uniform(0.5, 1.2, (5000, 1)).astype(np.float32)
    for start in range(0, rows, BLOCK):
        which = np.minimum(random.zipf(1.3, min(BLOCK, rows - start)) - 1, 4999)
        noise = random.standard_normal((len(which), width), dtype=np.float32)
        made = subtopics[which] + spread[which] * noise
        yield made / np.linalg.norm(made, axis=1, keepdims=True)


def write(path: Path, options: argparse.Namespace) -> None:
    """The embeddings as Parquet files, and a start as .npz: documents as means, the variance of all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    given = None if options.embeddings is None else np.load(options.embeddings)[: options.rows].astype(np.float32)
    parts = blocks(options.rows, options.width) if given is None else np.array_split(given, -(-len(given) // BLOCK))
    first: list[np.ndarray] = []
    writer = None
    (path / "embeddings").mkdir()
    blocks_of_file = -(-(len(parts) if given is not None else -(-options.rows // BLOCK)) // options.parts)
    for number, part in enumerate(parts):
        ids = pa.array([f"{number}-{i}" for i in range(len(part))])
        table = pa.table({"id": ids, "embedding": pa.FixedSizeListArray.from_arrays(part.reshape(-1), part.shape[1])})
        if number % blocks_of_file == 0:
            if writer is not None:
                writer.close()
            file = path / "embeddings" / f"{number // blocks_of_file:04d}.parquet"
            writer = pq.ParquetWriter(file, table.schema, compression="none", use_dictionary=False)
        writer.write_table(table)
        if sum(map(len, first)) < max(20 * options.components, 20_000):
            first.append(part)
    writer.close()
    seen = np.concatenate(first).astype(np.float64)
    chosen = np.random.default_rng(3).choice(len(seen), options.components, replace=False)
    variances = np.tile(seen.var(axis=0) + 1e-6, (options.components, 1))
    np.savez(path / "start.npz", means=seen[chosen], variances=variances)


# -- programs ------------------------------------------------------------------------------------------------


class Clock:
    """Seconds of the clock and of the processor: on a machine that others use, the latter are the fairer ones."""

    def __init__(self) -> None:
        self.ticks: list[tuple[float, float]] = []

    def tick(self) -> None:
        self.ticks.append((time.perf_counter(), time.process_time()))

    def laps(self) -> dict[str, object]:
        laps = np.diff(self.ticks, axis=0)
        return {"seconds": laps[:, 0].tolist(), "cpu_seconds": laps[:, 1].tolist()}


def run_sklearn(path: Path, iterations: int, kind: str) -> dict[str, object]:
    import pyarrow.parquet as pq
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    column = pq.read_table(path / "embeddings", columns=["embedding"])["embedding"].combine_chunks()
    points = column.flatten().to_numpy().reshape(len(column), -1).astype(kind)
    del column
    start = np.load(path / "start.npz")
    clock = Clock()

    class Timed(GaussianMixture):
        def _e_step(self, *args, **options):
            clock.tick()
            return super()._e_step(*args, **options)

    components = len(start["means"])
    model = Timed(
        components,
        covariance_type="diag",
        init_params="random_from_data",
        random_state=0,
        weights_init=np.full(components, 1 / components, dtype=kind),
        means_init=start["means"].astype(kind),
        precisions_init=(1 / start["variances"]).astype(kind),
        max_iter=iterations,
        tol=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points)
    np.savez(path / f"sklearn-{kind}.npz", weights=model.weights_, means=model.means_, variances=model.covariances_)
    return {**clock.laps(), "log_likelihood": float(model.lower_bound_)}


def run_tamis(path: Path, iterations: int, workers: int) -> dict[str, object]:
    from tamis import DocumentDataset
    from tamis.selection.mixture import Mixture
    from tamis.selection.mixture_fit import MixtureSettings, fit_mixture

    start = np.load(path / "start.npz")
    components = len(start["means"])
    mixture = Mixture(np.full(components, 1 / components), start["means"], start["variances"])
    # Compiled before the clock starts.
    data = DocumentDataset.read_parquet(path / "embeddings")
    fit_mixture(DocumentDataset.from_arrow(data.head(64)), MixtureSettings(max_iter=1, held_out=0), start=mixture)
    clock = Clock()
    clock.tick()
    fit = fit_mixture(
        data,
        MixtureSettings(max_iter=iterations, tol=0, held_out=0),
        start=mixture,
        workers=workers,
        observer=lambda _: clock.tick(),
    )
    found = fit.mixture
    np.savez(path / "tamis.npz", weights=found.weights, means=found.means, variances=found.variances)
    return {**clock.laps(), "log_likelihood": fit.trace[-1].log_likelihood}


def child(program: str, path: Path, iterations: int, workers: int) -> None:
    name, _, kind = program.partition("-")
    result = run_sklearn(path, iterations, kind) if name == "sklearn" else run_tamis(path, iterations, workers)
    # The driver's, and as often as there are workers the largest one's: no less than what all took together.
    own, other = (resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    result["peak_bytes"] = own + workers * other * (workers > 1)
    print(json.dumps(result))


# -- the comparison ------------------------------------------------------------------------------------------


def off(path: Path, program: str) -> float:
    """The largest difference from scikit-learn in float64: of weights and variances relative to themselves, of means to
    the standard deviation."""
    one, two = np.load(path / "sklearn-float64.npz"), np.load(path / f"{program}.npz")
    deviations = np.sqrt(one["variances"])
    return max(
        float(np.abs(two["weights"] / one["weights"] - 1).max()),
        float(np.abs(two["variances"] / one["variances"] - 1).max()),
        float(np.abs((two["means"] - one["means"]) / deviations).max()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--components", type=int, default=1000)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="of Tamis")
    parser.add_argument("--parts", type=int, default=1, help="Parquet files")
    parser.add_argument("--scratch", type=Path, help="where the embeddings are written: 16 GB for 10,000,000")
    parser.add_argument("--embeddings", type=Path)
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", choices=PROGRAMS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.folder, options.iterations, options.workers)
        return
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), str(options.threads))
    runs: dict[str, list[dict]] = {program: [] for program in options.programs}
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch)
        write(folder, options)
        for _ in range(options.rounds):
            for program in options.programs:
                command = [sys.executable, __file__, "--child", program, "--folder", scratch]
                command += ["--iterations", str(options.iterations), "--workers", str(options.workers)]
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, env={**os.environ, **limits}
                )
                if done.returncode:
                    raise SystemExit(f"{program} failed:\n{done.stderr[-3000:]}")
                runs[program].append(json.loads(done.stdout.splitlines()[-1]))
        rows = np.load(options.embeddings, mmap_mode="r").shape[0] if options.embeddings else options.rows
        rows = min(rows, options.rows)
        results = {}
        for program, found in runs.items():
            seconds, cpu = (
                statistics.median(s for run in found for s in run[kind]) for kind in ("seconds", "cpu_seconds")
            )
            results[program] = {
                "seconds": seconds,
                "cpu_seconds": cpu,
                "cpu_microseconds_a_document": cpu / rows * 1e6,
                "peak_gigabytes": max(run["peak_bytes"] for run in found) / 1e9,
                "log_likelihood": found[0]["log_likelihood"],
                "off": off(folder, program) if "sklearn-float64" in runs else None,
            }
    shape = f"{rows:,} x {options.width}, {options.components:,} components, {options.threads} thread(s)"
    print(f"{shape}; medians of {options.rounds} rounds of {options.iterations} iterations")
    base = results.get("sklearn-float64")
    for program, each in results.items():
        ratio = f"  {base['seconds'] / each['seconds']:5.2f}x" if base else ""
        ratio += f" ({base['cpu_seconds'] / each['cpu_seconds']:.2f}x)" if base else ""
        equal = f"  off by {each['off']:.1e}" if each["off"] is not None else ""
        print(
            f"{program:16} {each['seconds']:7.2f} s ({each['cpu_seconds']:.2f} s of the processor) an iteration, "
            f"{each['cpu_microseconds_a_document']:.1f} us a document"
            f"{ratio}  {each['peak_gigabytes']:5.2f} GB at the peak  log likelihood {each['log_likelihood']:.6f}{equal}"
        )
    if options.out:
        options.out.write_text(json.dumps({"shape": shape, "runs": runs, "results": results}, indent=1))


if __name__ == "__main__":
    main()
