"""Domain, quality and content type: DeBERTa encoders with one linear layer, as NVIDIA publishes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from tamis.classifiers.base import Columns, DistributedDataClassifier, ModelName
from tamis.errors import UsageError

__all__ = [
    "DOMAINS",
    "ContentTypeClassifier",
    "DomainClassifier",
    "MultilingualDomainClassifier",
    "QualityClassifier",
]

DOMAINS = (
    "Adult",
    "Arts_and_Entertainment",
    "Autos_and_Vehicles",
    "Beauty_and_Fitness",
    "Books_and_Literature",
    "Business_and_Industrial",
    "Computers_and_Electronics",
    "Finance",
    "Food_and_Drink",
    "Games",
    "Health",
    "Hobbies_and_Leisure",
    "Home_and_Garden",
    "Internet_and_Telecom",
    "Jobs_and_Education",
    "Law_and_Government",
    "News",
    "Online_Communities",
    "People_and_Society",
    "Pets_and_Animals",
    "Real_Estate",
    "Science",
    "Sensitive_Subjects",
    "Shopping",
    "Sports",
    "Travel_and_Transportation",
)
"""The labels of the domain classifiers, in the order of their model cards."""


@dataclass(frozen=True, kw_only=True)
class DomainClassifier(DistributedDataClassifier):
    """Names the subject of each document, one of 26 (:data:`DOMAINS`).

    Answer: ``domain_pred``; ``prob_column``, if named, the 26 probabilities.
    Empty text: null.
    Source: Model card of nvidia/domain-classifier: DeBERTa-v3-base, softmax over a linear layer on the first token.
    Relations: NeMo Curator's has the same columns and the same cut at 2,000 characters; it needs a GPU.
    """

    model: ModelName | None = "nvidia/domain-classifier"
    pred_column: str = "domain_pred"
    max_chars: int | None = 2000
    columns: Columns = "legacy"
    """Whose column names and defaults: those of NeMo Curator up to 0.9, or of 1.x."""

    def __post_init__(self) -> None:
        if self.labels is not None:
            object.__setattr__(self, "labels", filled_in(self.labels, DOMAINS))
        super().__post_init__()


@dataclass(frozen=True, kw_only=True)
class MultilingualDomainClassifier(DomainClassifier):
    """Names the subject of each document in any of 52 languages, one of the same 26 labels.

    Answer: ``domain_pred`` (``columns="v1"``: ``multilingual_domain_pred``).
    Empty text: null.
    Source: Model card of nvidia/multilingual-domain-classifier: mDeBERTa-v3-base.
    """

    model: ModelName | None = "nvidia/multilingual-domain-classifier"
    base_model: ModelName = "microsoft/mdeberta-v3-base"

    version_1: ClassVar[Mapping[str, Any]] = {"pred_column": "multilingual_domain_pred"}


@dataclass(frozen=True, kw_only=True)
class QualityClassifier(DistributedDataClassifier):
    """Says whether a document is of High, Medium or Low quality.

    Answer: ``quality_pred``, and in ``quality_prob`` the three probabilities (``columns="v1"``: not written unless
        ``prob_column`` is named).
    Empty text: null.
    Source: Model card of nvidia/quality-classifier-deberta: DeBERTa-v3-base trained on 22,828 texts.
    """

    model: ModelName | None = "nvidia/quality-classifier-deberta"
    pred_column: str = "quality_pred"
    prob_column: str | None = "quality_prob"
    max_chars: int | None = 6000
    max_length: int | None = 1024
    columns: Columns = "legacy"
    """Whose column names and defaults: those of NeMo Curator up to 0.9, or of 1.x."""

    version_1: ClassVar[Mapping[str, Any]] = {"prob_column": None}


@dataclass(frozen=True, kw_only=True)
class ContentTypeClassifier(DistributedDataClassifier):
    """Names the kind of text that a document is, one of 11 from news and blogs to reviews and boilerplate.

    Answer: ``content_pred``. The labels and their order are those of the checkpoint's configuration.
    Empty text: null.
    Source: Model card of nvidia/content-type-classifier-deberta: DeBERTa-v3-base. It was published with a cut at
        5,000 characters; with ``columns="v1"`` at 6,000.
    """

    model: ModelName | None = "nvidia/content-type-classifier-deberta"
    pred_column: str = "content_pred"
    max_chars: int | None = 5000
    max_length: int | None = 1024
    columns: Columns = "legacy"
    """Whose column names and defaults: those of NeMo Curator up to 0.9, or of 1.x."""

    version_1: ClassVar[Mapping[str, Any]] = {"max_chars": 6000}


def filled_in(labels: Sequence[Any], published: Sequence[str]) -> tuple[str, ...]:
    """The labels, with ``...`` replaced by the published ones between its neighbours.

    >>> filled_in(["Adult", ..., "Beauty_and_Fitness"], DOMAINS)
    ('Adult', 'Arts_and_Entertainment', 'Autos_and_Vehicles', 'Beauty_and_Fitness')
    """
    out: list[str] = []
    for i, label in enumerate(labels):
        if label is not ...:
            out.append(label)
            continue
        try:
            first, last = published.index(labels[i - 1]) + 1, published.index(labels[i + 1])
        except (ValueError, IndexError) as error:
            message = f"labels: '...' must stand between two of the published labels: {', '.join(published)}."
            raise UsageError(message) from error
        out.extend(published[first:last])
    return tuple(out)
