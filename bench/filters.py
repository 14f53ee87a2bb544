"""Tamis beside datatrove and NeMo Curator: word count and repeating top 5-grams, JSONL in, JSONL out.

    python bench/filters.py --out results.json

Every contender runs in a process of its own, peers in virtual environments that this program makes. Rounds are
interleaved (A B C A B C ...), so that a slow minute of the machine hits all alike; what counts is the ratio of
medians. See README.md in this folder for what each contender does.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import corpus

HERE = Path(__file__).resolve().parent
DEFAULT_CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "tamis-bench"


BARE = {"curator", "catalogue-curator", "catalogue-dolma"}
"""Peers of which only a few modules are used: installed without what the rest of them needs."""


@dataclass(frozen=True)
class Contender:
    """One program with one task and a number of workers; measured once per round."""

    name: str
    task: str
    workers: int

    @property
    def key(self) -> str:
        return f"{self.name} {self.task} {self.workers}"


CONTENDERS = (
    Contender("tamis", "filters", 1),
    Contender("datatrove", "filters", 1),
    Contender("curator", "filters", 1),
    Contender("tamis", "filters", 2),
    Contender("datatrove", "filters", 2),
    Contender("curator", "filters", 2),
    Contender("tamis", "cheap", 2),
    Contender("orjson", "cheap", 2),
)


@dataclass(frozen=True)
class Corpus:
    folder: Path
    documents: int
    bytes: int


def python_of(name: str, cache: Path) -> Path:
    """The interpreter that ``name`` runs in; its virtual environment is made when it is missing or out of date."""
    if name == "tamis":
        return Path(sys.executable)
    peer = "curator" if name == "orjson" else name  # the plain loop needs orjson, which is there
    wanted = HERE / f"requirements-{peer}.txt"
    stamp = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    folder = cache / f"venv-{peer}"
    python = folder / "bin" / "python"
    marker = folder / "installed"
    if not (marker.exists() and marker.read_text() == stamp):
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "-r", str(wanted)]
        if peer in BARE:
            command.append("--no-deps")
        subprocess.run(command, check=True, stdout=sys.stderr)
        marker.write_text(stamp)
    return python


def run(contender: Contender, source: Path, output: Path, cache: Path) -> dict[str, float]:
    """One run into an empty ``output``: ``seconds`` of work without imports, and ``wall`` of the whole process."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    command = [str(python_of(contender.name, cache)), str(HERE / "runners" / f"run_{contender.name}.py")]
    command += [str(source), str(output), "--task", contender.task, "--workers", str(contender.workers)]
    begin = time.perf_counter()
    # One hash seed for all: NeMo Curator breaks ties between n-grams by the order of a set of strings.
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    wall = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(f"{contender.key} failed:\n{done.stderr[-3000:]}")
    return {"seconds": json.loads(done.stdout.splitlines()[-1])["seconds"], "wall": wall}


def ids(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.jsonl")):
        with path.open("rb") as lines:
            for line in lines:
                yield json.loads(line)["id"]


def kept_ids(folder: Path, everything: frozenset[str], who: str) -> frozenset[str]:
    """Ids in an output, checked: no document twice, and none that was not in the input."""
    found = list(ids(folder))
    kept = frozenset(found)
    if len(kept) != len(found) or not kept <= everything:
        raise SystemExit(f"{who} wrote {len(found)} documents, of which {len(kept & everything)} are the input's.")
    return kept


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def measure(
    contenders: Iterable[Contender], data: Corpus, rounds: int, cache: Path
) -> tuple[dict[str, dict[str, object]], dict[str, frozenset[str]]]:
    everything = frozenset(ids(data.folder))
    if len(everything) != data.documents:
        raise SystemExit(f"The corpus has {data.documents} documents but {len(everything)} ids; delete it and retry.")
    chosen = list(contenders)
    warm_up(chosen, data, cache)
    runs: dict[str, list[dict[str, float]]] = {c.key: [] for c in chosen}
    kept: dict[str, frozenset[str]] = {}
    output = cache / "output"
    for number in range(1, rounds + 1):
        for contender in chosen:
            result = run(contender, data.folder, output, cache)
            runs[contender.key].append(result)
            now = kept_ids(output, everything, contender.key)
            if kept.setdefault(contender.key, now) != now:
                raise SystemExit(f"{contender.key} decided otherwise in round {number} than before.")
            print(f"round {number}: {contender.key}: {result['seconds']:.1f} s", file=sys.stderr)
    shutil.rmtree(output, ignore_errors=True)
    return {c.key: summary(c, data, runs[c.key], len(kept[c.key])) for c in chosen}, kept


def warm_up(contenders: Iterable[Contender], data: Corpus, cache: Path) -> None:
    """Make the environments and run everybody once on little: compiled kernels and bytecode are then cached."""
    little = cache / "little"
    shutil.rmtree(little, ignore_errors=True)
    little.mkdir(parents=True)
    for number in (0, 1):
        with (data.folder / f"shard-{number}.jsonl").open("rb") as lines:
            (little / f"shard-{number}.jsonl").write_bytes(b"".join(line for line, _ in zip(lines, range(200))))  # noqa: B905
    for contender in contenders:
        run(contender, little, cache / "output", cache)
    for path in sorted(data.folder.glob("*.jsonl")):  # into the page cache, so that the first run is no slower
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def summary(contender: Contender, data: Corpus, runs: list[dict[str, float]], kept: int) -> dict[str, object]:
    seconds = [r["seconds"] for r in runs]
    middle = median(seconds)
    return {
        "docs": data.documents,
        "bytes": data.bytes,
        "kept": kept,
        "workers": contender.workers,
        "task": contender.task,
        "name": contender.name,
        "seconds": middle,
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "wall": median(r["wall"] for r in runs),
        "docs_per_second": data.documents / middle,
        "megabytes_per_second": data.bytes / 1e6 / middle,
        "runs": runs,
    }


def ratios(results: dict[str, dict[str, object]]) -> dict[str, float]:
    """How many times faster the first is than the second, by medians, for every pair worth naming."""
    found: dict[str, float] = {}
    for key, result in results.items():
        name, task, workers = key.split(" ")
        for other_key, other in results.items():
            other_name, other_task, other_workers = other_key.split(" ")
            rivals = name == "tamis" != other_name and workers == other_workers
            scaling = name == other_name and (workers, other_workers) == ("2", "1")
            if task == other_task and (rivals or scaling):
                found[f"{key} : {other_key}"] = float(str(other["seconds"])) / float(str(result["seconds"]))
    return found


def agreement(kept: dict[str, frozenset[str]], documents: int) -> dict[str, dict[str, float]]:
    """Share of documents with the same decision, for every pair of programs with one worker."""
    named = {key.split(" ")[0]: found for key, found in kept.items() if " filters " in key}
    names = sorted(named)
    return {
        f"{a} and {b}": {
            "same": 1 - len(named[a] ^ named[b]) / documents,
            f"only {a} keeps": len(named[a] - named[b]) / documents,
            f"only {b} keeps": len(named[b] - named[a]) / documents,
        }
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    }


def markdown(report: dict[str, object], results: dict[str, dict[str, object]]) -> str:
    head = (
        f"{report['documents']:,} documents, {report['bytes'] / 1e6:.0f} MB of JSONL, {report['rounds']} rounds, "  # type: ignore[operator]
        f"Python {report['python']}, {report['processors']} processors"
    )
    lines = [
        head,
        "",
        "| task | program | workers | seconds (min-max) | docs/s | MB/s | with imports, s | kept |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for r in results.values():
        spread = f"{r['seconds']:.1f} ({r['seconds_min']:.1f}-{r['seconds_max']:.1f})"
        lines.append(
            f"| {r['task']} | {r['name']} | {r['workers']} | {spread} | {r['docs_per_second']:,.0f} "
            f"| {r['megabytes_per_second']:.1f} | {r['wall']:.1f} | {r['kept']:,} |"
        )
    lines += ["", "| faster by | times |", "|---|---:|"]
    lines += [f"| {pair} | {times:.2f} |" for pair, times in report["ratios"].items()]  # type: ignore[attr-defined]
    lines += ["", "| decisions of | the same | and the others |", "|---|---:|---|"]
    for pair, shares in report["agreement"].items():  # type: ignore[attr-defined]
        rest = ", ".join(f"{what} {share:.2%}" for what, share in shares.items() if what != "same")
        lines.append(f"| {pair} | {shares['same']:.2%} | {rest} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--megabytes", type=int, default=320, help="size of the corpus")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="corpus, environments and outputs go here")
    parser.add_argument("--corpus", type=Path, help="a folder made by corpus.py, instead of one in the cache")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these programs only: tamis datatrove curator orjson")
    parser.add_argument("--out", type=Path, help="write the numbers there as JSON")
    options = parser.parse_args()
    chosen = [c for c in CONTENDERS if not options.only or c.name in options.only]
    if any(c.name == "tamis" for c in chosen) and importlib.util.find_spec("tamis") is None:
        raise SystemExit("tamis is not installed in this Python: pip install -e . first, or name peers with --only.")
    cache = options.cache.resolve()
    folder = (options.corpus or cache / f"corpus-{options.megabytes}").resolve()
    made = corpus.build(folder, options.megabytes)
    data = Corpus(folder, int(str(made["documents"])), int(str(made["bytes"])))
    results, kept = measure(chosen, data, options.rounds, cache)
    report: dict[str, object] = {
        "documents": data.documents,
        "bytes": data.bytes,
        "corpus": made,
        "rounds": options.rounds,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "ratios": ratios(results),
        "agreement": agreement(kept, data.documents),
        "results": results,
    }
    print(markdown(report, results))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
