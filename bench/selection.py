"""Tamis beside data-selection 1.0.3 (DSIR): fit, weights, resampling and all of it, JSONL in, JSONL out.

    python bench/selection.py --out results.json
    python bench/selection.py --corpus FOLDER --target TARGET.jsonl

Every contender runs in a process of its own, the package in a virtual environment that this program makes. Rounds are
interleaved; what counts is the ratio of medians. Beside the clock the processor's seconds are measured, which other
programs on the machine disturb less. Then the numbers are compared: counts, log ratios, weights, and the documents that
are chosen. See README.md in this folder. (This file is not called select.py: it would hide a module of Python's.)
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import corpus
import numpy as np

HERE = Path(__file__).resolve().parent
DEFAULT_CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "tamis-bench"
PHASES = ("fit", "weights", "resample", "all")
MOST_TARGETS = 500


@dataclass(frozen=True)
class Contender:
    """One program with a hash and a number of workers."""

    program: str
    hash: str
    workers: int

    @property
    def key(self) -> str:
        return f"{self.program} {self.hash} {self.workers}"


def contenders(workers: list[int]) -> list[Contender]:
    kinds = (("package", "sha256"), ("tamis", "fast"), ("tamis", "sha256"))
    return [Contender(program, hash_name, count) for count in workers for program, hash_name in kinds]


@dataclass(frozen=True)
class Data:
    raw: list[str]
    target: list[str]
    documents: int
    bytes: int
    target_documents: int
    target_bytes: int
    number: int


def package_python(cache: Path) -> Path:
    """The interpreter of the package; its virtual environment is made when it is missing or out of date."""
    wanted = HERE / "requirements-select.txt"
    stamp = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    folder = cache / "venv-select"
    python, marker = folder / "bin" / "python", folder / "installed"
    if not (marker.exists() and marker.read_text() == stamp):
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "-r", str(wanted)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        marker.write_text(stamp)
    return python


def prepare(source: Path, folder: Path, topic: str, given: Path | None) -> Data:
    """Raw documents and a target: half of the documents that name the topic three times, which leave the raw ones."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = sorted(source.glob("*.jsonl"))
    if not files:
        raise SystemExit(f"{source} holds no .jsonl files.")
    seen: set[str] = set()
    target: list[bytes] = []
    raw, size = [], 0
    for path in files:
        kept = []
        with path.open("rb") as lines:
            for line in lines:
                document = json.loads(line)
                if document["id"] in seen:
                    raise SystemExit(f"{path} holds the id {document['id']!r} a second time.")
                seen.add(document["id"])
                half = hashlib.blake2b(document["id"].encode()).digest()[0] < 128
                about = given is None and half and document["text"].lower().count(topic) >= 3
                if about and len(target) < MOST_TARGETS:
                    target.append(line)
                else:
                    kept.append(line)
        out = folder / f"raw-{path.name}"
        out.write_bytes(b"".join(kept))
        raw.append(str(out))
        size += out.stat().st_size
    if given is not None:
        target = given.read_bytes().splitlines(keepends=True)
    if not target:
        raise SystemExit(f"No document names {topic!r} three times; choose another --topic.")
    (folder / "target.jsonl").write_bytes(b"".join(target))
    documents = len(seen) - (0 if given else len(target))
    paths = [str(folder / "target.jsonl")]
    return Data(raw, paths, documents, size, len(target), sum(map(len, target)), max(1, documents // 20))


def run(contender: Contender, data: Data, cache: Path, *, task: str = "select") -> dict[str, dict[str, float]]:
    """One run into an empty folder, ``cache``/output."""
    output = cache / "output"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    asked = {"raw": data.raw, "target": data.target, "number": data.number, "output": str(output), "task": task}
    asked |= {"hash": contender.hash, "workers": contender.workers}
    (cache / "asked.json").write_text(json.dumps(asked))
    ours = contender.program == "tamis"
    python = sys.executable if ours else str(package_python(cache))
    runner = HERE / "runners" / ("run_select_tamis.py" if ours else "run_select_peer.py")
    command = [python, str(runner), str(cache / "asked.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{contender.key} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


# -- the numbers ---------------------------------------------------------------------------------------------


def ids_in(path: Path) -> list[str]:
    with path.open("rb") as lines:
        return [json.loads(line)["id"] for line in lines]


def kept_ids(folder: Path) -> set[str]:
    found = [name for path in sorted(folder.rglob("*.jsonl")) for name in ids_in(path)]
    if len(set(found)) != len(found):
        raise SystemExit(f"{folder} holds a document twice.")
    return set(found)


def numbers(data: Data, output: Path) -> tuple[dict[str, np.ndarray], set[str]]:
    """What a run counted, weighed and chose without noise; weights in the order of the raw documents."""
    with np.load(output / "numbers.npz") as file:
        found = {name: file[name] for name in file.files}
    if "ids" in found:
        weight_of = dict(zip(found["ids"].tolist(), found["weights"].tolist(), strict=True))
        order = [name for path in data.raw for name in ids_in(Path(path))]
        found["weights"] = np.array([weight_of[name] for name in order])
        if kept_ids(output / "kept") != kept_ids(output / "again"):
            raise SystemExit("One plan and two chose different documents.")
    if len(kept_ids(output / "kept")) != data.number:
        raise SystemExit(f"{data.number} documents were to be chosen; {len(kept_ids(output / 'kept'))} were.")
    return found, kept_ids(output / "best")


def ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)


Numbers = tuple[dict[str, np.ndarray], set[str]]


def parity(ours: Numbers, theirs: Numbers) -> dict[str, float]:
    """How equal two programs are."""
    (mine, kept), (yours, chosen) = ours, theirs
    size = np.maximum(1, np.abs(yours["weights"]))
    return {
        "different counts": int((mine["raw"] != yours["raw"]).sum() + (mine["target"] != yours["target"]).sum()),
        "log ratios off by": float(np.abs(mine["log_diff"] - yours["log_diff"]).max()),
        "weights off by, of their size": float((np.abs(mine["weights"] - yours["weights"]) / size).max()),
        "rank correlation of weights": float(np.corrcoef(ranks(mine["weights"]), ranks(yours["weights"]))[0, 1]),
        "same documents of the top": len(kept & chosen) / len(chosen),
    }


def is_same(found: tuple[str, float]) -> bool:
    """Whether a number of :func:`parity` is what it is between equals: rounding is let pass."""
    what, value = found
    return value == 1 if what.startswith("same") else abs(value - what.startswith("rank")) <= 1e-9


# -- the report ----------------------------------------------------------------------------------------------


def middle(runs: list[dict[str, dict[str, float]]], kind: str, phase: str) -> float:
    return statistics.median(r[kind].get(phase, 0.0) for r in runs)


def rows(runs: dict[str, list[dict[str, dict[str, float]]]], kind: str, size: float) -> list[str]:
    """A line for each program; of the processor's seconds those with one worker."""
    out = []
    for key, found in runs.items():
        program, hash_name, workers = key.split(" ")
        if kind == "cpu" and workers != "1":
            continue
        base = runs.get(f"package sha256 {workers}")
        cells = []
        for phase in PHASES:
            took = middle(found, kind, phase)
            faster = f" ({middle(base, kind, phase) / took:.0f})" if base and program != "package" and took else ""
            cells.append(f"{took:.2f}{faster}")
        clock = "clock" if kind == "seconds" else "processor"
        rate = size / middle(found, kind, "all")
        out.append(f"| {clock} | {program} {hash_name} | {workers} | {len(found)} | {' | '.join(cells)} | {rate:.1f} |")
    return out


def markdown(report: dict[str, object], runs: dict[str, list[dict[str, dict[str, float]]]]) -> str:
    data: dict[str, int] = report["data"]  # type: ignore[assignment]
    kernel: dict[str, float] = report["kernel"]  # type: ignore[assignment]
    size = data["bytes"] / 1e6
    head = (
        f"{data['documents']:,} raw documents, {size:.0f} MB of JSONL, {data['target_documents']} target documents, "
        f"{data['number']} chosen; Python {report['python']}, {report['processors']} processors"
    )
    out = [
        head,
        "",
        "Seconds, medians, and times the package in brackets:",
        "",
        f"| seconds of the | program | workers | rounds | {' | '.join(PHASES)} | MB/s, all |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        *rows(runs, "seconds", size),
        *rows(runs, "cpu", size),
    ]
    text = kernel["text_bytes"] / 1e6
    out += [
        "",
        f"From memory, one core, {text:.0f} MB of text; a plain scan reads {kernel['scan']:,.0f} MB/s:",
        "",
        "| kernel | MB/s | of a plain scan | times the package's phase |",
        "|---|---:|---:|---:|",
    ]
    base = runs.get("package sha256 1")
    for name in ("count fast", "weigh fast", "count sha256", "weigh sha256"):
        rate = kernel[name]
        line = f"| {name} | {rate:.0f} | {rate / kernel['scan']:.1%} |"
        # The phases of the package read the lines, too, which is a hundredth of their time; the fit counts the target.
        phase, work = ("fit", 1 + data["target_bytes"] / data["bytes"]) if name.startswith("count") else ("weights", 1)
        line += f" {rate / (text * work / middle(base, 'cpu', phase)):.0f} |" if base else " |"
        out.append(line)
    for hash_name, values in report["parity"].items():  # type: ignore[attr-defined]
        said = ", ".join(f"{what} {value:.4g}" for what, value in values.items())
        out += ["", f"{hash_name} against the package: {said}."]
    return "\n".join(out)


def measure(data: Data, options: argparse.Namespace, cache: Path) -> dict[str, object]:
    """All rounds, and the numbers of the first runs with one worker."""
    chosen = contenders(options.workers)
    runs: dict[str, list[dict[str, dict[str, float]]]] = {c.key: [] for c in chosen}
    found: dict[str, Numbers] = {}
    rounds = {"tamis": options.rounds, "package": options.package_rounds or options.rounds}
    for number in range(max(rounds.values())):
        for contender in chosen:
            if number < rounds[contender.program]:
                runs[contender.key].append(run(contender, data, cache))
                took = runs[contender.key][-1]["seconds"]["all"]
                print(f"round {number + 1}: {contender.key}: {took:.2f} s", file=sys.stderr)
                if contender.workers == 1 and not number:
                    found[f"{contender.program} {contender.hash}"] = numbers(data, cache / "output")
    theirs = found.get("package sha256")
    equal = {h: parity(found[f"tamis {h}"], theirs) for h in ("sha256", "fast")} if theirs else {}
    kernel = run(Contender("tamis", "fast", 1), data, cache, task="kernel")
    return {"parity": equal, "kernel": kernel, "runs": runs}


def warm_up(data: Data, cache: Path, workers: list[int]) -> None:
    """Make the environment and run everybody once on little: compiled kernels and bytecode are then cached."""
    little = cache / "select-little.jsonl"
    with Path(data.raw[0]).open("rb") as file:
        lines = list(itertools.islice(file, 400))
    little.write_bytes(b"".join(lines))
    few = Data([str(little)], data.target, len(lines), 0, data.target_documents, 0, 1)
    for contender in contenders(workers[:1]):
        run(contender, few, cache)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--megabytes", type=int, default=160, help="size of the corpus")
    parser.add_argument("--rounds", type=int, default=3, help="of Tamis")
    parser.add_argument("--package-rounds", type=int, help="of the package, which takes its time; as many by default")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="corpus, environment and outputs go here")
    parser.add_argument("--corpus", type=Path, help="a folder of .jsonl files with the fields id and text")
    parser.add_argument("--target", type=Path, help="a .jsonl file with the field text, instead of a topic")
    parser.add_argument("--topic", default="certificate", help="a word in lower case that the target's documents share")
    parser.add_argument("--out", type=Path, help="write the numbers there as JSON")
    options = parser.parse_args()
    cache = options.cache.resolve()
    source = (options.corpus or cache / f"corpus-{options.megabytes}").resolve()
    if options.corpus is None:
        corpus.build(source, options.megabytes)
    data = prepare(source, cache / "select-data", options.topic, options.target)
    warm_up(data, cache, options.workers)
    report = measure(data, options, cache)
    shutil.rmtree(cache / "output", ignore_errors=True)
    report |= {
        "data": {k: getattr(data, k) for k in ("documents", "bytes", "target_documents", "target_bytes", "number")},
        "python": platform.python_version(),
        "processors": os.cpu_count(),
    }
    print(markdown(report, report["runs"]))  # type: ignore[arg-type]
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")
    if not all(map(is_same, report["parity"].get("sha256", {}).items())):  # type: ignore[attr-defined]
        raise SystemExit("With SHA-256 the numbers are not those of the package.")


if __name__ == "__main__":
    main()
