"""Tamis's part of the benchmark, by its public names only.

The time includes starting worker processes and loading the compiled kernels, checking the plan and writing the
manifest; it excludes importing.
"""

import argparse
import json
import time

from tamis import DocumentDataset, ScoreFilter, Sequential
from tamis.filters import RepeatingTopNGramsFilter, WordCountFilter

TASKS = {
    "filters": Sequential(
        [
            ScoreFilter(WordCountFilter(min_words=16), score_field="word_count"),
            ScoreFilter(RepeatingTopNGramsFilter(n=5, max_repeating_ngram_ratio=0.15)),
        ]
    ),
    "cheap": Sequential([ScoreFilter(WordCountFilter(min_words=16))]),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    options = parser.parse_args()
    begin = time.perf_counter()
    TASKS[options.task](DocumentDataset.read_json(options.input)).to_json(options.output, workers=options.workers)
    print(json.dumps({"seconds": time.perf_counter() - begin}))


# Worker processes may import this module again.
if __name__ == "__main__":
    main()
