"""What a run of a trillion tokens costs its driver, and how long it takes on 1 to 1,000 workers.

    python bench/scale.py                   # measures (some 20 minutes; sparse files, a few GB of disk), then simulates
    python bench/scale.py --quick           # the same on 2,000 splits, in seconds
    python bench/scale.py --out scale.json  # and keeps every number

Every constant is measured here, on this machine: a real RunDirectory on the local disk takes a million commits whose
outputs are sparse files, with the real HandOut, Watch, pickles and status; a small real run gives a worker's rate and
its overhead per split. scale_events.py then simulates 10**5 to 10**6 splits. docs/scale.md has the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

from scale_events import Costs, Outcome, Plan, calm, simulate

TOKENS = 10**12
BYTES_PER_TOKEN = 4.5
"""English prose in UTF-8 as JSON Lines: 4.2 to 4.4 bytes a token with the tokenizers of today, and its fields."""
MB, GB = 1e6, 1e9
S3_MOVE, S3_AT_ONCE = 0.1, 32
"""Taken, not measured: seconds until a store has completed a split's uploads (two requests), and how many it is asked
for at once (tamis/io/s3.py)."""
PARTS = ("plan", "describe", "hand", "commit", "finish")
"""Of the driver's work for a split."""


# -- the driver, with everything but workers -----------------------------------------------------------------


def drive(splits_wanted: int, shape: str, folder: str, workers: int = 1000) -> dict[str, float]:
    """Drive a run of that many splits against a real directory; what a worker would do is not counted.

    ``shape``: "files" for a file per split (the most memory), "pieces" for files of 80 splits.
    """
    from tamis.engine.handout import HandOut
    from tamis.engine.job import Sink
    from tamis.engine.output import RunDirectory, RunKey
    from tamis.engine.status import Beat
    from tamis.engine.tally import Tally
    from tamis.engine.watch import Watch
    from tamis.io.source import FileSource
    from tamis.io.store import LocalStore

    base, heard = _resident(), deque(maxlen=1)
    clock = _Clock()
    size = int(TOKENS * BYTES_PER_TOKEN / splits_wanted)
    files = _listed(splits_wanted, size, shape)
    with clock("plan"):
        source = FileSource(files, "jsonl")
        splits = source.splits(size)
    with clock("describe"):
        description = {
            "input": source.describe(),
            "steps": [],
            "output": {"format": "jsonl", "compression": None, "by_input": False, "partition_on": None}
            | {"keep_rejects": False, "split_size": size, "splits": len(splits)},
        }
        key = RunKey(description)
    sink = Sink(folder, "jsonl")
    planned = _resident()
    directory = RunDirectory(LocalStore(folder), key, sink)
    with directory.lock():
        directory.claim("auto")
        directory.start(None)
        watch = Watch([heard.append], "", sum(s.bytes for s in splits), len(splits), Tally())
        handout = HandOut(splits, directory.aside)
        for split in splits[:workers]:
            watch.partial(split.index, _tally(split.index, size))
        width = max(5, len(str(len(splits) - 1)))
        while not handout.over:
            with clock("hand"):
                errand = handout.next()
                sent = pickle.dumps(errand, protocol=5)
                watch.partial(errand.split.index + workers, _tally(errand.split.index, size))  # as many are at work
            answer = _answer(directory, pickle.loads(sent), width, size)  # what a worker does
            with clock("commit"):
                result = pickle.loads(answer)
                handout.done(errand, result)
                watch.finished(errand.split.index, result.tally)
                directory.commit(errand.split, result)
        with clock("progress"):
            for _ in range(10):
                watch.running = {n: _TALLIES[n % len(_TALLIES)] for n in range(workers)}
                progress = watch.progress()
        directory.beat(Beat("", 1, 1, 1, 1, progress.tally, progress.before, 1.0, workers))
        journal = _size(folder, "journal")
        worked = _resident()
        with clock("claim"):
            again = RunDirectory(LocalStore(folder), key, sink)
            again._recover(again._json("_tamis/run.json"))  # noqa: SLF001  claim() without a second lock
        assert len(again.done) == len(splits)
        del again
        with clock("finish"):
            directory.quarantine(splits)
            directory.finish(splits)
        directory.abandon()
    number = len(splits)
    seconds = {f"{name}_seconds": total / (number, 10)[name == "progress"] for name, total in clock.cpu.items()}
    seconds |= {f"{name}_wall": total / (number, 10)[name == "progress"] for name, total in clock.wall.items()}
    return seconds | {
        "splits": number,
        "errand_bytes": len(sent),
        "result_bytes": len(answer),
        "journal_bytes": journal / number,
        "splits_ndjson_bytes": _size(folder, "splits.ndjson") / number,
        "outputs_ndjson_bytes": _size(folder, "outputs.ndjson") / number,
        "manifest_bytes": _size(folder, "manifest.json"),
        "base_memory": base,
        "plan_memory": planned,
        "work_memory": worked,
        "peak_memory": _peak(),
    }


class _Clock:
    """Adds up what is done inside ``with clock(name):``, in seconds of the processor and of the clock on the wall.

    A machine that others use stretches the second alone.
    """

    def __init__(self) -> None:
        self.cpu: Counter[str] = Counter()
        self.wall: Counter[str] = Counter()

    def __call__(self, name: str) -> _Clock:
        self._name = name
        return self

    def __enter__(self) -> None:
        self._began = time.process_time(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.cpu[self._name] += time.process_time() - self._began[0]
        self.wall[self._name] += time.perf_counter() - self._began[1]


def _listed(splits: int, size: int, shape: str):
    from tamis.io.files import InputFile

    number, of_each = (splits, size) if shape == "files" else (-(-splits // 80), 80 * size)
    return tuple(
        InputFile(
            f"/data/crawl/2026-40/segments/{n // 1000:05d}/text-{n:07d}.jsonl",
            f"{n // 1000:05d}/text-{n:07d}.jsonl",
            of_each,
            str(1_790_000_000_000_000_000 + n),
            "jsonl",
        )
        for n in range(number)
    )


_TALLIES: list = []


def _tally(number: int, size: int):
    """Counts as a recipe with eight stages gives them; a few hundred different ones are enough."""
    from tamis.engine.tally import Tally
    from tamis.meter import Measures

    if not _TALLIES:
        for n in range(256):
            rejected = Counter({(f"Stage{k}Filter", "too_short"): 90 + k + n % 7 for k in range(6)})
            quarantined = Counter({"not JSON": 1}) if n % 64 == 0 else Counter()
            kept = 3000 + n
            tally = Tally(kept + rejected.total() + quarantined.total(), kept, size, size, 4000 + n, rejected)
            tally.quarantined, tally.changed = quarantined, Counter({"UnicodeReformatter": 40 + n})
            tally.measures = Measures({("EduClassifier", "tokens"): 10**6 + n, ("EduClassifier", "seconds"): 1.5})
            _TALLIES.append(tally)
    return _TALLIES[number % len(_TALLIES)]


def _answer(directory, errand, width: int, size: int) -> bytes:
    """Write what a worker would have written, sparse, and pickle its result."""
    from tamis.engine.job import Output, SplitResult

    index = errand.split.index
    with directory.store.create(f"{errand.aside}.0") as file:
        file.truncate(size)
    tally = _tally(index, size)
    quarantine = None
    if tally.quarantined:
        quarantine = f"{errand.aside}.quarantine"
        with directory.store.create(quarantine) as file:
            file.write(b'{"piece":0,"file":"x","line":7,"offset":1,"cause":"not JSON","raw":"{"}\n')
    output = Output(f"{errand.aside}.0", f"part-{index:0{width}d}.jsonl", tally.kept, size, f"{index:032x}")
    return pickle.dumps(SplitResult(index, tally, (output,), quarantine, (tally.lines,)), protocol=5)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _peak() -> int:
    """Of this program alone: what getrusage() says begins with that of the process which started it."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _size(folder: str, name: str) -> int:
    return (Path(folder) / "_tamis" / name).stat().st_size


# -- a small real run ----------------------------------------------------------------------------------------


def work(megabytes: float, folder: Path) -> dict[str, float]:
    """Bytes per second of one worker, and its seconds per split beside them, of a real run in this process."""
    from tamis import DocumentDataset, ScoreFilter, Sequential
    from tamis.filters import RepeatingTopNGramsFilter, WordCountFilter
    from tamis.hashing import hash64

    words = [f"w{n % 5000}" for n in hash64(range(20_000), seed=3).tolist()]
    path = folder / "in.jsonl"
    with path.open("w") as file:
        number = 0
        while file.tell() < megabytes * MB:
            start = int(hash64([number], seed=4)[0] % 15_000)
            long = 40 + int(hash64([number], seed=5)[0] % 1200)
            file.write(json.dumps({"id": number, "text": " ".join(words[start : start + long]), "url": "x"}) + "\n")
            number += 1
    steps = Sequential(
        [
            ScoreFilter(WordCountFilter(min_words=16), score_field="word_count"),
            ScoreFilter(RepeatingTopNGramsFilter(n=5, max_repeating_ngram_ratio=0.15)),
        ]
    )

    def run(name: str, split_size: int) -> tuple[float, int]:
        began = time.perf_counter()
        dataset = steps(DocumentDataset.read_json(str(path)))
        dataset.to_json(folder / name, workers=1, split_size=split_size, progress="off")
        seconds = time.perf_counter() - began
        return seconds, len((folder / name / "_tamis/splits.ndjson").read_bytes().splitlines())

    run("warm", 1 << 30)
    whole = [run(f"whole{n}", 1 << 30)[0] for n in range(3)]
    many = [run(f"many{n}", max(4096, int(megabytes * MB / 400))) for n in range(3)]
    seconds, splits = median(s for s, _ in many), many[0][1]
    return {
        "worker_rate": path.stat().st_size / median(whole),
        # The driver works in the same process here: its part of a split is measured apart, and is in this as well.
        "worker_seconds": max(0.0, seconds - median(whole)) / splits,
    }


def ray_call(calls: int) -> dict[str, float]:
    """Seconds of the driver per call of a Ray actor that does nothing, with an errand as argument; {} without Ray."""
    try:
        import ray
    except ImportError:
        return {}
    began = time.perf_counter()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    started = time.perf_counter() - began
    try:

        @ray.remote(num_cpus=1)
        class Idle:
            def run(self, errand: bytes) -> bytes:
                return errand

        actors = [Idle.remote() for _ in range(2)]
        ray.get([actor.run.remote(b"x" * 600) for actor in actors])
        cpu, began = time.process_time(), time.perf_counter()
        at_work = {actor.run.remote(b"x" * 600): actor for actor in actors}
        for _ in range(calls):
            (ready,), _ = ray.wait(list(at_work), num_returns=1)
            actor = at_work.pop(ready)
            ray.get(ready)
            at_work[actor.run.remote(b"x" * 600)] = actor
        ray.get(list(at_work))
        took = time.perf_counter() - began
        return {"ray_start": started, "ray_call": took / calls, "ray_call_cpu": (time.process_time() - cpu) / calls}
    finally:
        ray.shutdown()


# -- the tables ----------------------------------------------------------------------------------------------


def costs_of(found: dict[str, float]) -> Costs:
    """The constants of the simulation from what was measured."""
    return Costs(
        begin=found["plan_seconds"] + found["describe_seconds"],
        hand=found["hand_seconds"] + found.get("ray_call_cpu", 0.0),
        commit=found["commit_seconds"],
        finish=found["finish_seconds"],
        worker=found["worker_seconds"],
    )


def table(plans: list[tuple[str, Plan, Costs]]) -> list[tuple[str, Plan, Outcome, Outcome]]:
    """Each plan as it is likely to go, and as it would go with nothing in its way."""
    return [(name, plan, simulate(plan, costs), simulate(calm(plan), costs)) for name, plan, costs in plans]


def plans_of(found: dict[str, float], splits: list[int], workers: list[int]) -> list[tuple[str, Plan, Costs]]:
    """A trillion tokens through cheap filters, through something a hundred times slower, and onto an object store."""
    costs, rate = costs_of(found), found["worker_rate"]
    total = TOKENS * BYTES_PER_TOKEN if max(splits) > 10_000 else max(splits) * 4.5 * MB
    plans = []
    for number in splits:
        for many in workers:
            plans.append(("filters", Plan(number, total, many, rate), costs))
            if many == max(workers):
                plans.append(
                    ("filters, S3", Plan(number, total, many, rate), replace(costs, move=S3_MOVE, parallel=S3_AT_ONCE))
                )
                plans.append(("model, 1/100 of the rate", Plan(number, total, many, rate / 100), costs))
    return plans


def printed(found: dict[str, float], rows: list[tuple[str, Plan, Outcome, Outcome]]) -> list[str]:
    """Markdown."""
    number = found["splits"]

    def row(name: str, *keys: str) -> str:
        cpu, wall = (sum(found[f"{key}_{clock}"] for key in keys) * 1e6 for clock in ("seconds", "wall"))
        return f"| {name} | {cpu:,.0f} | {wall:,.0f} |"

    lines = [f"{number:,.0f} splits, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"]
    lines += ["", "| the driver's work per split, µs | processor | wall |", "|---|---:|---:|"]
    lines += [row(name, name) for name in PARTS]
    lines.append(row("**in all**", *PARTS))
    lines.append(row("taking up again what is done", "claim"))
    lines.append(row("adding up what 1,000 workers are at, each time", "progress"))
    if "ray_call" in found:
        lines.append(f"| a call through Ray | {found['ray_call_cpu'] * 1e6:,.0f} | {found['ray_call'] * 1e6:,.0f} |")
        lines.append(f"| Ray's start | | {found['ray_start'] * 1e6:,.0f} |")
    lines += ["", "| memory of the driver | |", "|---|---:|"]
    for name in ("base", "plan", "work", "peak"):
        lines.append(f"| {name} | {found[f'{name}_memory'] / GB:.2f} GB |")
    lines += ["", "| bytes per split | |", "|---|---:|"]
    for name in ("errand", "result", "journal", "splits_ndjson", "outputs_ndjson"):
        lines.append(f"| {name.replace('_', '.')} | {found[f'{name}_bytes']:,.0f} |")
    lines.append(f"| manifest.json, in all | {found['manifest_bytes']:,.0f} |")
    rate, seconds = found["worker_rate"], found["worker_seconds"]
    lines += ["", f"A worker: {rate / MB:.0f} MB/s, and {seconds * 1e3:.1f} ms per split beside it.", ""]
    lines += ["| | splits | of | workers | time | ideal | calm | driver busy | workers wait | tail | deaths | lost |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for name, plan, real, ideal in rows:
        of = f"{plan.bytes / plan.splits / MB:.1f} MB"
        times = f"{_time(real.seconds)} | {_time(real.ideal)} | {_time(ideal.seconds)}"
        shares = f"{real.driver:.1%} | {real.idle:.1%} | {_time(real.tail)} | {real.died:,} | {real.lost:.2%}"
        lines.append(f"| {name} | {plan.splits:,} | {of} | {plan.workers:,} | {times} | {shares} |")
    return [*lines, "", *advice(found)]


def advice(found: dict[str, float]) -> list[str]:
    """The smallest splits with which the driver is at work for no more than half of the time."""
    costs, rate = costs_of(found), found["worker_rate"]
    lines = [
        "| smallest split for a driver half at work | cheap filters | a model at 1/100 of the rate |",
        "|---|---:|---:|",
    ]
    each = costs.hand + costs.commit
    for workers in (10, 100, 1000):
        for name, seconds in (("a disk", each), ("S3", max(each, S3_MOVE / S3_AT_ONCE))):
            size = 2 * workers * rate * seconds / MB
            lines.append(f"| {workers:,} workers, {name} | {size:,.1f} MB | {size / 100:,.2f} MB |")
    return lines


def _time(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"


def measure(splits: int, shape: str, megabytes: float, calls: int, scratch: Path) -> dict[str, float]:
    """Everything; each part in a process of its own."""
    found = _child("drive", "--splits", str(splits), "--shape", shape, "--scratch", str(scratch / "drive"))
    found |= _child("work", "--megabytes", str(megabytes), "--scratch", str(scratch / "work"))
    return found | (_child("ray", "--calls", str(calls)) if calls else {})


def _child(what: str, *options: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, "--part", what, *options], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2,000 splits, 2 MB, no Ray")
    parser.add_argument("--splits", type=int, default=1_000_000)
    parser.add_argument("--megabytes", type=float, default=64)
    parser.add_argument("--calls", type=int, default=3000, help="calls through Ray; 0 leaves Ray out")
    parser.add_argument("--scratch", type=Path, help="folder for what is written (default: a temporary one)")
    parser.add_argument("--out", type=Path, help="keep the numbers there, as JSON")
    parser.add_argument("--measured", type=Path, help="simulate with the numbers that --out kept there")
    parser.add_argument("--part", choices=["drive", "work", "ray"], help=argparse.SUPPRESS)
    parser.add_argument(
        "--shape", choices=["files", "pieces"], default="files", help="a file per split (the most memory), or per 80"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        options.splits, options.megabytes, options.calls = 2000, 2, 0
    with tempfile.TemporaryDirectory(dir=options.scratch and options.scratch.parent) as temporary:
        scratch = Path(temporary)
        if options.part == "drive":
            print(json.dumps(drive(options.splits, options.shape, str(scratch / "out"))))
        elif options.part == "work":
            print(json.dumps(work(options.megabytes, scratch)))
        elif options.part == "ray":
            print(json.dumps(ray_call(options.calls)))
        else:
            if options.measured:
                found = json.loads(options.measured.read_text())["measured"]
            else:
                found = measure(options.splits, options.shape, options.megabytes, options.calls, scratch)
            sizes = [options.splits] if options.quick else [17_000, 100_000, 300_000, 1_000_000]
            rows = table(plans_of(found, sizes, [1, 10, 100, 1000]))
            print("\n".join(printed(found, rows)))
            if options.out:
                kept = [{"name": n, "plan": asdict(p), "outcome": asdict(o), "calm": asdict(c)} for n, p, o, c in rows]
                options.out.write_text(json.dumps({"measured": found, "simulated": kept}, indent=1))


if __name__ == "__main__":
    main()
