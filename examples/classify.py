"""Classify documents: ``python examples/classify.py documents.jsonl classified/ MODEL LABEL...``.

MODEL is the directory or the hub id of a sequence classifier; documents with one of the labels are kept.
"""

import sys

import torch  # noqa: TID251  a model of one's own is made of it

from tamis import DocumentDataset
from tamis.classifiers import DistributedDataClassifier


def variety(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """A model of one's own: token ids [texts, length] and their mask in, logits [texts, labels] out."""
    distinct = [len(ids[mask.bool()].unique()) for ids, mask in zip(input_ids, attention_mask, strict=True)]
    share = input_ids.new_tensor(distinct) / attention_mask.sum(dim=1)
    return torch.stack([share - 0.5, 0.5 - share], dim=1)


source, target, model, *labels = sys.argv[1:]

topic = DistributedDataClassifier(model=model, filter_by=labels, pred_column="topic", prob_column="topic_probabilities")
style = DistributedDataClassifier(model=variety, labels=["varied", "repetitive"], tokenizer=model, pred_column="style")

classified = style(topic(DocumentDataset.read_json(source)))
kept = classified[classified["style"] == "varied"]
print(kept.to_json(target, keep_rejects=True))
