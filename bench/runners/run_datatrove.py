"""datatrove's part of the benchmark: its reader, its executor, its n-gram functions, its writer.

The fastest configuration that does the job: words are split at white space (its NLTK and spaCy tokenizers are
several times slower), one filter splits once for both measures, the word count decides first, workers are
forked, nothing is compressed, the input has a file for every worker (datatrove does not split files).
"""

import argparse
import json
import sys
import time

from datatrove.data import Document
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.filters.gopher_repetition_filter import find_top_duplicate, get_n_grams
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from loguru import logger


class WordsAndNGrams(BaseFilter):
    name = "words and n-grams"

    def __init__(self, min_words: int, n: int, max_ratio: float) -> None:
        super().__init__()
        self.min_words = min_words
        self.n = n
        self.max_ratio = max_ratio

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        words = doc.text.split()
        doc.metadata["word_count"] = len(words)
        if len(words) < self.min_words:
            return False, "words"
        # As in GopherRepetitionFilter: characters of the top n-gram, times its count, over those of the text.
        if find_top_duplicate(get_n_grams(words, self.n)) / len(doc.text) > self.max_ratio:
            return False, "n-grams"
        return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--task", choices=["filters"], required=True)
    options = parser.parse_args()
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    begin = time.perf_counter()
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(options.input, compression=None, glob_pattern="*.jsonl", add_file_path=False),
            WordsAndNGrams(min_words=16, n=5, max_ratio=0.15),
            JsonlWriter(f"{options.output}/data", "${rank}.jsonl", compression=None, expand_metadata=True),
        ],
        tasks=options.workers,
        workers=options.workers,
        logging_dir=f"{options.output}/logs",
        start_method="fork",
    ).run()
    print(json.dumps({"seconds": time.perf_counter() - begin}))


if __name__ == "__main__":
    main()
