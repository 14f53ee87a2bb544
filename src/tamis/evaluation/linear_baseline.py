"""The baseline that a tuned model should beat: TF-IDF and one logistic regression per tag, with scikit-learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.errors import MissingExtraError, UsageError
from tamis.evaluation.tag_table import TagTable
from tamis.hashing import uniform

__all__ = ["HAS_SKLEARN", "linear"]

HAS_SKLEARN = find_spec("sklearn") is not None

_MOST_TAGS = 200
"""Models are fitted for the most frequent tags only: each costs time, and a rare one learns nothing."""
_FEWEST = 5
"""Documents that a tag needs in the training data."""
_WORDS = 50_000
_HELD_OUT = 0.1
_THRESHOLDS = np.arange(0.05, 0.65, 0.05)

Floats = npt.NDArray[np.float64]


def linear(
    texts: Sequence[str], tags: Sequence[Sequence[str]], judged_texts: Sequence[str], table: TagTable
) -> tuple[TagTable, str]:
    """Predict the tags of judged documents from their words.

    Words weigh by TF-IDF (sublinear, 50,000 words at most that occur twice); a tag is predicted where its probability
    reaches a threshold, the one with the highest micro F1 on a tenth of the training data that no model has seen.

    Args:
        texts: Training data.
        tags: Their true tags.
        judged_texts: Of the judged documents, in the order of ``table``.
        table: The judged documents.

    Returns:
        The table with these predictions, and how they were made.

    Raises:
        MissingExtraError: Where scikit-learn is not installed.
        UsageError: Where no tag occurs in five training documents.
    """
    if not HAS_SKLEARN:
        who = "The TF-IDF baseline"
        raise MissingExtraError.of(who, "scikit-learn", "evaluate")
    from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415  a second to import

    held = uniform(texts, seed=1) < _HELD_OUT
    frequent = Counter(tag for tags_, out in zip(tags, held, strict=True) if not out for tag in tags_)
    learned = sorted(tag for tag, n in frequent.most_common(_MOST_TAGS) if n >= _FEWEST)
    if not learned:
        message = (
            f"no tag occurs in {_FEWEST} training documents: there is nothing that the TF-IDF baseline could learn."
        )
        raise UsageError(message)
    place = {tag: i for i, tag in enumerate(learned)}
    truth = np.zeros((len(texts), len(learned)), dtype=np.bool_)
    for row, names in enumerate(tags):
        truth[row, [place[tag] for tag in names if tag in place]] = True
    counter = TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=_WORDS)
    words = counter.fit_transform([text for text, out in zip(texts, held, strict=True) if not out])
    models = [_fitted(words, truth[~held, i]) for i in range(len(learned))]
    missed = np.array([len(set(names) - place.keys()) for names in tags])
    rest = counter.transform([text for text, out in zip(texts, held, strict=True) if out]) if held.any() else words
    threshold = _best(_chances(models, rest), *((truth[held], missed[held]) if held.any() else (truth, missed)))
    chances = _chances(models, counter.transform(judged_texts))
    rows, codes = np.nonzero(chances >= threshold)
    order = np.lexsort((-chances[rows, codes], rows))  # the most probable tag first
    grown = table.renamed(sorted({*table.tags, *learned}))
    numbers = np.array([grown.tags.index(tag) for tag in learned], dtype=np.int64)
    how = f"{len(learned)} tags learned from {len(texts):,} documents, threshold {threshold:.2f}"
    return grown.predicting(rows[order], numbers[codes[order]]), how


def _fitted(words: Any, truth: npt.NDArray[np.bool_]) -> tuple[Floats, float]:
    """Coefficients and intercept of one tag's model."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    if truth.all():
        return np.zeros(words.shape[1]), 30.0
    model = LogisticRegression(C=10.0, solver="liblinear", random_state=0).fit(words, truth)
    return model.coef_[0], float(model.intercept_[0])


def _chances(models: Sequence[tuple[Floats, float]], words: Any) -> Floats:
    """Probabilities of shape ``(documents, tags)``."""
    weights = np.array([coefficients for coefficients, _ in models]).T
    return np.asarray(1 / (1 + np.exp(-(words @ weights + np.array([bias for _, bias in models])))))


def _best(chances: Floats, truth: npt.NDArray[np.bool_], missed: npt.NDArray[np.int64]) -> float:
    """The threshold with the highest micro F1; tags that were not learned count as missed."""
    total = int(truth.sum() + missed.sum())
    answers = [chances >= t for t in _THRESHOLDS]
    scores = [2 * (a & truth).sum() / max(1, a.sum() + total) for a in answers]
    return float(_THRESHOLDS[int(np.argmax(scores))])
