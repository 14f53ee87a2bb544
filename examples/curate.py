"""Clean, filter and split a file of documents: ``python examples/curate.py documents.jsonl curated/``."""

import sys

from tamis import DocumentDataset, DocumentFilter, Modify, ScoreFilter, Sequential
from tamis.filters import RepeatingTopNGramsFilter, WordCountFilter
from tamis.modifiers import NewlineNormalizer, UnicodeReformatter


class Shouting(DocumentFilter):
    """Keeps documents of which less than 30 % are capitals."""

    def score_document(self, text: str) -> float:
        return sum(c.isupper() for c in text) / max(len(text), 1)

    def keep_document(self, score: float) -> bool:
        return score < 0.3


source, target = sys.argv[1:]
curate = Sequential(
    [
        Modify(UnicodeReformatter()),
        Modify(NewlineNormalizer()),
        ScoreFilter(WordCountFilter(min_words=5), score_field="words"),
        ScoreFilter(RepeatingTopNGramsFilter(n=3, max_repeating_ngram_ratio=0.2)),
        ScoreFilter(Shouting()),
    ]
)
dataset = curate(DocumentDataset.read_json(source)).train_test_split({"train": 0.9, "test": 0.1}, seed=1)
print(dataset.to_json(target, partition_on="split", keep_rejects=True))
