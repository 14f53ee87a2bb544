"""NeMo Curator's part of the benchmark: its filter functions in a plain loop over lines.

Only the classes that score and decide are used, unchanged. Its engine (Ray, pandas batches) would cost it time
and is left out; reading and writing is orjson, a process per worker, a file at a time. The packages above the
filter modules are entered without running their ``__init__``, which imports Ray, torch and pandas.
"""

import argparse
import importlib.util
import json
import multiprocessing
import sys
import time
import types
from functools import partial
from pathlib import Path

import orjson


def enter(name: str) -> None:
    """Register package ``name`` by its folder alone, so that modules below it can be imported."""
    parent, _, last = name.rpartition(".")
    if parent:
        folder = Path(sys.modules[parent].__path__[0], last)
    else:
        found = importlib.util.find_spec(name)
        if found is None or not found.submodule_search_locations:
            raise SystemExit(f"{name} is not installed here.")
        folder = Path(found.submodule_search_locations[0])
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


for package in ("", ".stages", ".stages.text", ".stages.text.filters", ".stages.text.utils"):
    enter(f"nemo_curator{package}")

from nemo_curator.stages.text.filters.heuristic.repetition.repetition import RepeatingTopNGramsFilter  # noqa: E402
from nemo_curator.stages.text.filters.heuristic.string import WordCountFilter  # noqa: E402


def run(path: Path, output: Path) -> None:
    words = WordCountFilter(min_words=16, max_words=10**9)
    n_grams = RepeatingTopNGramsFilter(n=5, max_repeating_ngram_ratio=0.15)
    with path.open("rb") as lines, (output / path.name).open("wb") as out:
        for line in lines:
            row = orjson.loads(line)
            text = row["text"]
            count = words.score_document(text)
            if not words.keep_document(count):
                continue
            if n_grams.keep_document(n_grams.score_document(text)):
                row["word_count"] = count
                out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--task", choices=["filters"], required=True)
    options = parser.parse_args()
    begin = time.perf_counter()
    job = partial(run, output=options.output)
    paths = sorted(options.input.glob("*.jsonl"))
    if options.workers == 1:
        for path in paths:
            job(path)
    else:
        with multiprocessing.get_context("fork").Pool(options.workers) as pool:
            pool.map(job, paths, chunksize=1)
    print(json.dumps({"seconds": time.perf_counter() - begin}))


if __name__ == "__main__":
    main()
