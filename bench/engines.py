"""What the Ray engine costs beside the embedded one: start-up, every split, and a gigabyte with two workers each.

    python bench/engines.py --cache ~/.cache/tamis-bench --megabytes 1000 --rounds 3

The corpus is that of bench/corpus.py, repeated up to the size asked for. Every run is a process of its own; runs of the
two engines are interleaved, and medians are printed. Of a run on Ray, ``start`` is all that happens before the first
actor is ready for a split (ray.init, actors that import Tamis and open their stages), ``work`` is the rest, up to the
manifest; of the embedded engine all of it is ``work``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import corpus

RUN = """
import json, sys, time
began = time.monotonic()
from tamis import DocumentDataset, ScoreFilter, Sequential
from tamis.engine import crew
from tamis.filters import RepeatingTopNGramsFilter, WordCountFilter

path, out, engine, workers, split_size, steps = sys.argv[1:]
first = []

def noted(method):
    def inner(*arguments, **named):
        first.append(time.monotonic())
        return method(*arguments, **named)
    return inner

# A worker on Ray is ready when the crew sends it its first errand.
crew.Crew._send = noted(crew.Crew._send)
dataset = DocumentDataset.read_json(path)
if steps == "filters":
    dataset = Sequential([
        ScoreFilter(WordCountFilter(min_words=16), score_field="word_count"),
        ScoreFilter(RepeatingTopNGramsFilter(n=5, max_repeating_ngram_ratio=0.15)),
    ])(dataset)
imported = time.monotonic()
result = dataset.to_json(
    out, workers=int(workers), split_size=int(split_size), progress="off", engine=engine,
    address="local" if engine == "ray" else None,
)
ended = time.monotonic()
begun = first[0] if first else imported
print(json.dumps({
    "records": result.tally.records, "kept": result.tally.kept, "import": imported - began, "start": begun - imported,
    "work": ended - begun, "seconds": ended - imported,
}))
"""

PIECES = """
import json, logging, os, time
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
began = time.monotonic()
import ray
imported = time.monotonic()
ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
ready = time.monotonic()
from tamis.engine.on_ray import _RayCluster
from tamis.engine.crew import Share
from concurrent.futures import wait
cluster = _RayCluster()
loaded = time.monotonic()
actors = [cluster.hire(Share()) for _ in range(2)]
wait([cluster.ask(actor, "where") for actor in actors])
up = time.monotonic()
for _ in range(1000):
    cluster.ask(actors[0], "so_far").result()
called = time.monotonic()
ray.shutdown()
print(json.dumps({
    "import ray": imported - began, "ray.init": ready - imported, "two actors": up - loaded,
    "call": (called - up) / 1000, "ray.shutdown": time.monotonic() - called,
}))
"""


def run(*arguments: object) -> dict[str, float]:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in runs) for name in runs[0]}


def repeated(folder: Path, size: int, target: Path) -> None:
    """The corpus, again and again, in files of an eighth of the size."""
    shards = [path.read_bytes() for path in sorted(folder.glob("*.jsonl"))]
    target.mkdir()
    for number in range(8):
        with (target / f"{number}.jsonl").open("wb") as file:
            while file.tell() < size / 8:
                part = shards[(number + file.tell()) % len(shards)]
                file.write(part[: part.rfind(b"\n", 0, max(int(size / 8) - file.tell(), 1 << 20)) + 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/tamis-bench").expanduser())
    parser.add_argument("--megabytes", type=float, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--splits", type=int, default=2000, help="tiny splits, to measure what each of them costs")
    parser.add_argument("--out", type=Path, help="write all figures as JSON")
    options = parser.parse_args()
    found: dict[str, object] = {}
    pieces = medians([run("-c", PIECES) for _ in range(options.rounds)])
    found["pieces"] = pieces
    print("Ray itself, seconds: " + ", ".join(f"{name} {value:.4f}" for name, value in pieces.items()))
    with tempfile.TemporaryDirectory(dir=options.cache) as scratch:
        place = Path(scratch)
        found["split"] = per_split = each_split(place, options.splits, options.rounds)
        for engine, seconds in per_split.items():
            print(f"{engine}: {seconds * 1e3:.2f} ms for each split of one document, with two workers")
        folder = options.cache / "corpus-40"
        corpus.build(folder, megabytes=40)
        repeated(folder, int(options.megabytes * 1e6), place / "big")
        size = sum(path.stat().st_size for path in (place / "big").iterdir())
        found["job"] = job = compared(
            place, place / "big", rounds=options.rounds, split_size=64 << 20, steps="filters", workers=2
        )
        for engine, took in job.items():
            rate = size / took["seconds"] / 1e6
            print(f"{engine}: {took['seconds']:.1f} s ({rate:.0f} MB/s), of which {took['start']:.1f} s to start")
        alone = job["embedded"]["seconds"]
        whole, work = alone / job["ray"]["seconds"], alone / job["ray"]["work"]
        print(f"ray / embedded: {whole:.2f} with Ray's start, {work:.2f} once the cluster is up")
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n")


def each_split(place: Path, splits: int, rounds: int) -> dict[str, float]:
    """Seconds that one split more takes: the difference between many and few, so that no start is in it."""
    line = json.dumps({"text": "a b c"}) + "\n"
    took = []
    for count in (splits // 10, splits):
        source = place / f"tiny-{count}"
        source.mkdir()
        (source / "d.jsonl").write_text(line * count)
        took.append(compared(place, source, rounds=rounds, split_size=len(line), steps="none", workers=2))
    few, many = took
    return {name: (many[name]["work"] - few[name]["work"]) / (splits - splits // 10) for name in many}


def compared(place: Path, source: Path, *, rounds: int, split_size: int, steps: str, workers: int) -> dict[str, dict]:
    """Medians of interleaved runs by engine, after one of each that warms caches."""
    runs: dict[str, list[dict[str, float]]] = {"embedded": [], "ray": []}
    for number in range(rounds):
        for engine, list_of in runs.items():
            out = place / f"{steps}-{engine}-{number}"
            list_of.append(run("-c", RUN, source, out, engine, workers, split_size, steps))
            subprocess.run(["rm", "-rf", out], check=True)
    if len({(each["records"], each["kept"]) for all_ in runs.values() for each in all_}) > 1:
        raise SystemExit("the engines disagree")
    return {engine: medians(list_of) for engine, list_of in runs.items()}


if __name__ == "__main__":
    main()
