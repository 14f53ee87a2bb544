"""Examples made into what a model's forward takes: padded rows, or one stream without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch.utils.data import Dataset

from tamis.tuning.examples import Examples, Ids, order_of

__all__ = ["IGNORED", "Schedule", "collate", "evaluation_batches"]

IGNORED = -100
"""The label of what is no target."""

Example = tuple[Ids, int]
Batch = dict[str, torch.Tensor]


class Schedule(Dataset[Example]):
    """The examples in the order they are trained in, from the first update to the last.

    One pass over it is the whole run: a run that goes on skips what was done, and any number of processes sees the same
    rows in each update.
    """

    def __init__(self, examples: Examples, length: int, seed: int) -> None:
        self._examples = examples
        self._order = np.fromiter(islice(order_of(len(examples), seed), length), np.int64, length)

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Example:
        return self._examples[int(self._order[index])]


def collate(rows: Sequence[Example], pad_id: int, *, packing: bool) -> Batch:
    """The tensors of some examples.

    ``input_ids`` [batch, tokens]; ``position_ids`` alike; where rows are padded ``attention_mask`` alike. The logits
    that matter are those before a target: ``logits_to_keep`` [kept] says at which tokens, and ``labels``
    [batch, kept] what they should say, :data:`IGNORED` where another row has a target and this one none. A vocabulary
    of 256,000 times a window of 2,048 would be 2 GB of logits, of which a list of tags needs 1 %.
    """
    if packing:
        ids = torch.from_numpy(np.concatenate([ids for ids, _ in rows]).astype(np.int64))[None]
        places = torch.from_numpy(np.concatenate([np.arange(len(ids)) for ids, _ in rows]))[None]
        whole = torch.cat([_labels(*row) for row in rows])[None]
        batch = {"input_ids": ids, "position_ids": places}
    else:
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.full((len(rows), longest), pad_id)
        whole = torch.full((len(rows), longest), IGNORED)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            length = len(row[0])
            ids[number, :length] = torch.from_numpy(row[0].astype(np.int64))
            whole[number, :length] = _labels(*row)
            mask[number, :length] = 1
        places = torch.arange(longest).expand(len(rows), -1).contiguous()
        batch = {"input_ids": ids, "position_ids": places, "attention_mask": mask}
        if bool(mask.all()):
            del batch["attention_mask"]  # a row alone needs none, and attention without one is faster
    kept = torch.nonzero((whole != IGNORED).any(0))[:, 0]
    return {**batch, "logits_to_keep": kept, "labels": whole[:, kept].contiguous()}


def _labels(ids: Ids, prompt: int) -> torch.Tensor:
    """[tokens]: at each token what is to come after it, if that is a target."""
    labels = torch.full((len(ids),), IGNORED)
    labels[prompt - 1 : -1] = torch.from_numpy(ids[prompt:].astype(np.int64))
    return labels


def evaluation_batches(examples: Examples, rows: int, pad_id: int, *, packing: bool) -> Iterator[Batch]:
    """All examples once, in batches of so many rows of like length, the longest first."""
    order = np.argsort(-examples.lengths, kind="stable")
    for start in range(0, len(order), rows):
        yield collate([examples[int(i)] for i in order[start : start + rows]], pad_id, packing=packing)
