"""Peak memory of a whole run, driver and workers together, on an input of any size.

    python bench/memory.py FOLDER --gigabytes 10 --workers 2

Repeats the corpus in FOLDER (made by corpus.py) into one file, runs a cheap filter over it in a child process, and
samples the resident memory of the process tree ten times a second. Pages that processes share count once per process.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUN = """
import sys
from tamis import DocumentDataset, ScoreFilter, Sequential
from tamis.filters import RepeatingTopNGramsFilter, WordCountFilter
steps = Sequential([
    ScoreFilter(WordCountFilter(min_words=16), score_field="word_count"),
    ScoreFilter(RepeatingTopNGramsFilter(n=5, max_repeating_ngram_ratio=0.15)),
])
result = steps(DocumentDataset.read_json(sys.argv[1])).to_json(sys.argv[2], workers=int(sys.argv[3]))
print(result.tally.records, result.tally.kept)
"""


def resident(pid: int) -> int:
    """Bytes of resident memory of a process and its children."""
    total = 0
    for part in (pid, *children(pid)):
        try:
            status = Path(f"/proc/{part}/status").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)
    return total


def children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] + [
            int(p)
            for task in Path(f"/proc/{pid}/task").iterdir()
            if task.name != str(pid)
            for p in (task / "children").read_text().split()
        ]
    except OSError:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder.parent) as scratch:
        big = Path(scratch) / "big.jsonl"
        shards = [path.read_bytes() for path in sorted(options.folder.glob("*.jsonl"))]
        with big.open("wb") as file:
            while file.tell() < options.gigabytes * 1e9:
                file.write(shards[file.tell() % len(shards)])
        begin = time.monotonic()
        command = [sys.executable, "-c", RUN, str(big), str(Path(scratch) / "out"), str(options.workers)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            peak = 0
            while process.poll() is None:
                peak = max(peak, resident(process.pid))
                time.sleep(0.1)
            records, kept = map(int, process.stdout.read().split())
        seconds = time.monotonic() - begin
        size = big.stat().st_size
    rate = size / seconds / 1e6
    print(json.dumps({"bytes": size, "records": records, "kept": kept, "seconds": seconds, "peak_bytes": peak}))
    print(f"{size / 1e9:.1f} GB, {options.workers} workers: {peak / 1e9:.2f} GB at the peak, {rate:.0f} MB/s")


if __name__ == "__main__":
    main()
