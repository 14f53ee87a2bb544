"""Measures of multi-label tags under any weights of the documents: one weighting is the value, many are an interval.

Every measure is a function of sums over documents, so that counting a document twice is a weight of two. Conventions: a
share of nothing is 0 (the precision of a tag that was never predicted); a document with neither true nor predicted tags
is answered rightly, with 1 for exact match, Jaccard and its own F1. scikit-learn gives the same with ``zero_division``
0, and 1 for the last two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tamis.evaluation.tag_table import Ints, Pairs, TagTable

__all__ = ["MEASURES", "Judged", "measure", "precision_at"]

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.uint8]

MEASURES: Mapping[str, str] = {
    "micro_f1": "F1 of all (document, tag) pairs together",
    "micro_precision": "share of the predicted tags that are true",
    "micro_recall": "share of the true tags that were predicted",
    "macro_f1": "mean over the tags that occur in the truth",
    "macro_precision": "mean over the tags that occur in the truth",
    "macro_recall": "mean over the tags that occur in the truth",
    "weighted_f1": "mean over tags, each by how often it is true",
    "weighted_precision": "mean over tags, each by how often it is true",
    "weighted_recall": "mean over tags, each by how often it is true",
    "sample_f1": "mean over documents of each one's own F1",
    "jaccard": "mean over documents of common tags / tags in either",
    "exact_match": "share of documents with exactly the true tags",
    "out_of_vocabulary": "share of the predicted tags that are in no vocabulary",
}
"""Names and meanings; precision at k stands beside them (:func:`precision_at`). All lie in [0, 1]."""

_DOCUMENT = ("hit", "predicted", "true", "unknown", "sample_f1", "jaccard", "exact_match")


def precision_at(k: int) -> str:
    """The name of precision at k: right ones among the first k predicted tags / k, mean over documents."""
    return f"precision_at_{k}"


@dataclass(frozen=True)
class Judged:
    """A table of tags made ready to be summed under many weights."""

    documents: int
    sums: Floats
    """Of shape ``(measures, n)``: what is summed over documents."""
    at: tuple[int, ...]
    by_tag: tuple[Pairs, Pairs, Pairs]
    """Right, predicted and true pairs of the tags that occur in the truth, sorted by tag."""
    tags: Ints
    """The numbers of these tags."""
    has_vocabulary: bool

    @classmethod
    def of(cls, table: TagTable, at: tuple[int, ...]) -> Judged:
        """Look at every pair once."""
        n = table.documents
        hits = table.hits
        right = Pairs(table.predicted.rows[hits], table.predicted.codes[hits])
        both, predicted, true = (pairs.per_row(n) for pairs in (right, table.predicted, table.true))
        unknown = np.zeros(n)
        if table.known is not None:
            strange = ~table.known[table.predicted.codes]
            unknown += np.bincount(table.predicted.rows, weights=strange, minlength=n)
        places = table.predicted.places(n)[hits]
        nothing = (predicted + true) == 0
        rows = [both, predicted, true, unknown]
        rows.append(np.where(nothing, 1.0, 2 * both / np.maximum(1, predicted + true)))
        rows.append(np.where(nothing, 1.0, both / np.maximum(1, predicted + true - both)))
        rows.append((both == predicted) & (both == true))
        rows += [np.bincount(right.rows[places < k], minlength=n) / k for k in at]
        tags = np.unique(table.true.codes)
        by_tag = (_by_tag(right, tags), _by_tag(table.predicted, tags), _by_tag(table.true, tags))
        return cls(n, np.array(rows, dtype=np.float64), at, by_tag, tags, table.known is not None)

    @property
    def pairs(self) -> int:
        """All pairs, which with the documents say what one weighting costs."""
        return sum(len(pairs.rows) for pairs in self.by_tag) + 3 * len(self.tags)


def _by_tag(pairs: Pairs, tags: Ints) -> Pairs:
    """Those of some tags, numbered among these, sorted by tag."""
    wanted = np.flatnonzero(np.isin(pairs.codes, tags))
    codes = np.searchsorted(tags, pairs.codes[wanted])
    order = np.argsort(codes, kind="stable")
    return Pairs(pairs.rows[wanted][order], codes[order])


def measure(judged: Judged, weights: Weights) -> dict[str, Floats]:
    """Every measure under each of the weightings.

    Args:
        judged: n documents.
        weights: ``uint8`` of shape ``(n, r)``: how often each document counts, in each of r weightings.

    Returns:
        ``float64`` of shape ``(r,)`` by name; ``out_of_vocabulary`` only where there is a vocabulary.
    """
    sums = judged.sums @ weights.astype(np.float64)
    documents = weights.sum(axis=0, dtype=np.int64)
    of = dict(zip(_DOCUMENT, sums, strict=False))
    found = {
        "micro_f1": _share(2 * of["hit"], of["predicted"] + of["true"]),
        "micro_precision": _share(of["hit"], of["predicted"]),
        "micro_recall": _share(of["hit"], of["true"]),
        **_over_tags(judged, weights),
        **{name: _share(of[name], documents) for name in ("sample_f1", "jaccard", "exact_match")},
    }
    for k, hits in zip(judged.at, sums[len(_DOCUMENT) :], strict=True):
        found[precision_at(k)] = _share(hits, documents)
    if judged.has_vocabulary:
        found["out_of_vocabulary"] = _share(of["unknown"], of["predicted"])
    return found


def _over_tags(judged: Judged, weights: Weights) -> dict[str, Floats]:
    hit, predicted, true = (_summed(pairs, len(judged.tags), weights) for pairs in judged.by_tag)
    scores = {
        "f1": _share(2 * hit, predicted + true),
        "precision": _share(hit, predicted),
        "recall": _share(hit, true),
    }
    present = (true > 0).sum(axis=0)
    found = {f"macro_{name}": _share((score * (true > 0)).sum(axis=0), present) for name, score in scores.items()}
    total = true.sum(axis=0)
    return found | {f"weighted_{name}": _share((score * true).sum(axis=0), total) for name, score in scores.items()}


def _summed(pairs: Pairs, tags: int, weights: Weights) -> Floats:
    """The weights of each tag's documents, of shape ``(tags, r)``."""
    out = np.zeros((tags, weights.shape[1]))
    if len(pairs.rows):
        present, starts = np.unique(pairs.codes, return_index=True)
        out[present] = np.add.reduceat(weights[pairs.rows], starts, axis=0, dtype=np.int32)
    return out


def _share(part: npt.NDArray[np.generic], whole: npt.NDArray[np.generic]) -> Floats:
    """Part / whole, 0 where the whole is."""
    out = np.zeros(np.broadcast_shapes(part.shape, whole.shape))
    np.divide(part, whole, out=out, where=np.asarray(whole) > 0)
    return out
