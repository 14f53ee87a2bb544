"""Gopher's quality and repetition rules: Tamis beside datatrove, dolma, NeMo Curator, Data-Juicer and a plain loop.

    python bench/catalogue.py --out results.json

Every run is a process of its own; rounds are interleaved; the ratio of medians counts. From memory: the documents are
loaded, and only deciding about them is measured, in seconds of the processor. From files: JSONL in and out with one
worker and with two. See README.md in this folder for what each program does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import corpus
from filters import DEFAULT_CACHE, HERE, ids, python_of

PROGRAMS = {
    "tamis": "tamis",
    "tamis-engine": "tamis",
    "tamis-walks": "tamis",
    "loop": "tamis",
    "datatrove-split": "catalogue-datatrove",
    "datatrove": "catalogue-datatrove",
    "dolma": "catalogue-dolma",
    "curator": "catalogue-curator",
    "juicer": "catalogue-juicer",
}
"""Programs and the environments that they run in."""
FAST = ("tamis", "tamis-engine", "tamis-walks", "loop")
"""They are given the whole corpus, the others a part of it."""
RULES = {"tamis-walks": "all 48 counts, no decision", "dolma": "16 statistics, no decision", "juicer": "10 of 20"}

Result = dict[str, float]


def run(program: str, source: Path, output: Path, cache: Path, *arguments: str) -> Result:
    """One run into an empty folder: seconds of the clock and of the processor."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    command = [str(python_of(PROGRAMS[program], cache)), str(HERE / "runners" / "run_catalogue.py")]
    command += [program, str(source), str(output), *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{program} failed:\n{done.stderr[-3000:]}")
    found: Result = json.loads(done.stdout.splitlines()[-1])
    return found


def part_of(folder: Path, into: Path, megabytes: float, *, passing: frozenset[str] | None = None) -> Path:
    """The first lines of each file, so many MB in all; of those ``passing`` alone where they are given."""
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    paths = sorted(folder.glob("*.jsonl"))
    for path in paths:
        left = megabytes * 1e6 / len(paths)
        with path.open("rb") as lines, (into / path.name).open("wb") as out:
            for line in lines:
                if left <= 0:
                    break
                if passing is None or json.loads(line)["id"] in passing:
                    out.write(line)
                    left -= len(line)
    return into


def text_bytes(folder: Path) -> int:
    """Bytes of the texts of a folder in UTF-8."""
    return sum(
        len(json.loads(line)["text"].encode()) for path in sorted(folder.glob("*.jsonl")) for line in path.open("rb")
    )


def scan(folder: Path) -> dict[str, float]:
    """MB/s of reading the files, and of adding up all texts as 64-bit numbers in memory."""
    import numpy as np

    paths = sorted(folder.glob("*.jsonl"))
    rates: dict[str, list[float]] = {"file": [], "memory": []}
    for _ in range(5):
        start = time.process_time()
        data = b"".join(path.read_bytes() for path in paths)
        rates["file"].append(len(data) / 1e6 / (time.process_time() - start))
        numbers = np.frombuffer(data[: len(data) // 8 * 8], dtype=np.uint64)
        start = time.process_time()
        numbers.sum()
        rates["memory"].append(len(data) / 1e6 / (time.process_time() - start))
    return {name: statistics.median(found) for name, found in rates.items()}


def median_of(runs: list[Result]) -> Result:
    return {name: statistics.median(r[name] for r in runs) for name in ("seconds", "processor")}


def from_memory(chosen: list[str], folder: Path, cache: Path, rounds: int) -> tuple[dict[str, Result], dict[str, Any]]:
    """Medians by program, in seconds for all texts of a folder, and the ids that each keeps."""
    runs: dict[str, list[Result]] = {name: [] for name in chosen}
    kept: dict[str, Any] = {}
    for number in range(1, rounds + 1):
        for name in chosen:
            output = cache / "output"
            runs[name].append(run(name, folder, output, cache, "--memory", "1" if name in FAST else "0"))
            kept[name] = json.loads((output / "kept.json").read_text())
            print(f"memory, round {number}: {name}: {runs[name][-1]['processor']:.3f} s", file=sys.stderr)
    return {name: median_of(found) for name, found in runs.items()}, kept


def from_files(
    chosen: list[str], whole: Path, little: Path, cache: Path, rounds: int
) -> dict[str, dict[str, float | str]]:
    """Medians by program and workers."""
    runs: dict[str, list[Result]] = {}
    for number in range(1, rounds + 1):
        for name in chosen:
            if name in ("tamis-engine", "tamis-walks"):  # the engine is what runs from files
                continue
            for workers in (1, 2):
                source = whole if name in FAST else little
                key = f"{name} {workers}"
                runs.setdefault(key, []).append(run(name, source, cache / "output", cache, "--workers", str(workers)))
                print(f"files, round {number}: {key}: {runs[key][-1]}", file=sys.stderr)
    out: dict[str, dict[str, float | str]] = {}
    for key, found in runs.items():
        size = sum(p.stat().st_size for p in (whole if key.split()[0] in FAST else little).glob("*.jsonl"))
        middle = median_of(found)
        out[key] = {**middle, "megabytes": size / 1e6, "megabytes_per_second": size / 1e6 / middle["seconds"]}
        out[key]["megabytes_per_processor_second"] = size / 1e6 / middle["processor"]
    return out


def check_loop(kept: dict[str, Any]) -> None:
    """The loop decides as Tamis does; it keeps documents in scripts without spaces, which it does not divide."""
    if {"tamis", "loop"} <= kept.keys():
        only = sorted(set(kept["tamis"]) - set(kept["loop"]))
        if only:
            raise SystemExit(f"The loop drops documents that Tamis keeps: {only[:5]}")
        print(f"kept by the loop alone: {sorted(set(kept['loop']) - set(kept['tamis']))[:20]}", file=sys.stderr)


def table(title: str, size: float, results: dict[str, Result], kept: dict[str, Any]) -> str:
    lines = [
        f"{title}, {size / 1e6:.1f} MB of text, from memory, one core:",
        "",
        "| program | rules | kept | MB/s of the processor | Tamis is faster by |",
        "|---|---|---:|---:|---:|",
    ]
    own = results["tamis"]["processor"] if "tamis" in results else float("nan")
    for name, result in results.items():
        rate = size / 1e6 / result["processor"]
        lines.append(
            f"| {name} | {RULES.get(name, 'all')} | {len(kept[name]):,} "
            f"| {rate:.2f} | {result['processor'] / own:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--megabytes", type=int, default=100, help="size of the corpus")
    parser.add_argument("--part", type=float, default=4, help="MB of it that all programs decide about from memory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--only", nargs="+", choices=list(PROGRAMS), default=list(PROGRAMS))
    parser.add_argument("--without", nargs="+", choices=["files", "memory"], default=[])
    parser.add_argument("--out", type=Path, help="write the numbers there as JSON")
    options = parser.parse_args()
    cache = options.cache.resolve()
    whole = cache / f"corpus-{options.megabytes}"
    corpus.build(whole, options.megabytes)
    little = part_of(whole, cache / "part", options.part)
    chosen = list(options.only)
    for name in chosen:  # environments, compiled kernels, bytecode
        run(name, part_of(whole, cache / "little", 0.3), cache / "output", cache)
    report: dict[str, Any] = {"python": platform.python_version(), "rounds": options.rounds, "scan": scan(whole)}
    print(f"plain scan: {report['scan']['memory']:,.0f} MB/s; reading the files: {report['scan']['file']:,.0f} MB/s\n")
    if "memory" not in options.without:
        results, kept = from_memory(chosen, little, cache, options.rounds)
        check_loop(kept)
        report["memory"] = {"bytes": text_bytes(little), "results": results, "documents": len(list(ids(little)))}
        print(table(f"{report['memory']['documents']:,} documents", report["memory"]["bytes"], results, kept), "\n")
        fast = [name for name in chosen if name in FAST]
        if fast:
            results, kept = from_memory(fast, whole, cache, options.rounds)
            check_loop(kept)
            report["whole"] = {"bytes": text_bytes(whole), "results": results}
            print(table("The whole corpus", report["whole"]["bytes"], results, kept), "\n")
            passing = part_of(whole, cache / "passing", 1e6, passing=frozenset(kept[fast[0]]))
            results, kept = from_memory(fast, passing, cache, options.rounds)
            report["passing"] = {"bytes": text_bytes(passing), "results": results}
            print(table("Documents that pass all rules", report["passing"]["bytes"], results, kept), "\n")
    if "files" not in options.without:
        report["files"] = from_files(chosen, whole, little, cache, options.rounds)
        print("| program, workers | MB | seconds | of the processor | MB/s | MB/s of the processor |")
        print("|---|---:|---:|---:|---:|---:|")
        for key, r in report["files"].items():
            print(
                f"| {key} | {r['megabytes']:.0f} | {r['seconds']:.2f} | {r['processor']:.2f} "
                f"| {r['megabytes_per_second']:.1f} | {r['megabytes_per_processor_second']:.1f} |"
            )
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
