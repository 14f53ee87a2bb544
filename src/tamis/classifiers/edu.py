"""Educational value from 0 to 5: FineWeb-Edu's classifier and the two that NVIDIA trained on other annotators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.classifiers.base import Columns, DistributedDataClassifier, ModelName, Task

if TYPE_CHECKING:
    from tamis.models.launch import LoadedModel
    from tamis.models.runner import Outputs

__all__ = ["FineWebEduClassifier", "FineWebMixtralEduClassifier", "FineWebNemotronEduClassifier"]

HIGH, LOW = "high_quality", "low_quality"


@dataclass(frozen=True, kw_only=True)
class FineWebEduClassifier(DistributedDataClassifier):
    """Scores how useful a document is for teaching, from 0 (not at all) to 5 (a textbook).

    Answer: ``pred_column``, float32: the model's number, cut to 0 … 5. ``int_column``, int64: that, rounded half to
        even (0.5 gives 0, 2.5 gives 2). ``quality_label_column``, if named: ``high_quality`` where the model's number
        is at least 2.5 before any rounding, else ``low_quality``; so 2.5 is 2 and high quality.
    Empty text: null.
    Source: Penedo et al. 2024 (FineWeb, arXiv:2406.17557) and the card of HuggingFaceFW/fineweb-edu-classifier: a
        linear regression on Snowflake/snowflake-arctic-embed-m (BERT-base), trained on the first 512 tokens.
    Relations: NeMo Curator's cannot filter; here ``filter_by`` takes the two labels.
    """

    model: ModelName | None = "HuggingFaceFW/fineweb-edu-classifier"
    pred_column: str = "fineweb-edu-score"
    int_column: str = "fineweb-edu-score-int"
    """Column for the rounded score."""
    quality_label_column: str | None = None
    """Column for the label; not written by default."""
    task: Task = "regression"
    columns: Columns = "legacy"
    """Whose column names and defaults: those of NeMo Curator up to 0.9, or of 1.x."""

    version_1: ClassVar[Mapping[str, Any]] = {
        "pred_column": "fineweb-edu-score-float",
        "quality_label_column": "fineweb-edu-score-label",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_filter((HIGH, LOW))

    def answer_types(self) -> dict[str, pa.DataType]:
        """A float, an integer, and the label where a column is named for it."""
        types = {self.pred_column: pa.float32(), self.int_column: pa.int64()}
        return types if self.quality_label_column is None else {**types, self.quality_label_column: pa.string()}

    def answers(self, outputs: Outputs, loaded: LoadedModel) -> dict[str, pa.Array]:
        """Cut, rounded, and named."""
        raw = outputs.values[:, 0]
        missing = ~outputs.answered
        score = np.clip(raw, 0, 5)
        made = {
            self.pred_column: pa.array(score, pa.float32(), mask=missing),
            self.int_column: pa.array(np.rint(np.where(missing, 0, score)).astype(np.int64), mask=missing),
        }
        if self.quality_label_column is not None:
            made[self.quality_label_column] = pa.array(np.where(raw >= 2.5, HIGH, LOW), pa.string(), mask=missing)
        return made

    def decision(self, table: pa.Table) -> pa.Array:
        """The label, whether or not its column is written."""
        score = table.column(self.pred_column).combine_chunks()
        return pc.if_else(pc.greater_equal(score, pa.scalar(2.5, pa.float32())), HIGH, LOW)


@dataclass(frozen=True, kw_only=True)
class FineWebMixtralEduClassifier(FineWebEduClassifier):
    """The same score by a model trained on Mixtral 8x22B's annotations.

    Answer: as :class:`FineWebEduClassifier`, under ``fineweb-mixtral-edu-score``, ``-int`` and ``-label``.
    Empty text: null.
    Source: Model card of nvidia/nemocurator-fineweb-mixtral-edu-classifier.
    """

    model: ModelName | None = "nvidia/nemocurator-fineweb-mixtral-edu-classifier"
    pred_column: str = "fineweb-mixtral-edu-score"
    int_column: str = "fineweb-mixtral-edu-score-int"
    quality_label_column: str | None = "fineweb-mixtral-edu-score-label"

    version_1: ClassVar[Mapping[str, Any]] = {"pred_column": "fineweb-mixtral-edu-score-float"}


@dataclass(frozen=True, kw_only=True)
class FineWebNemotronEduClassifier(FineWebEduClassifier):
    """The same score by a model trained on Nemotron-4 340B's annotations.

    Answer: as :class:`FineWebEduClassifier`, under ``fineweb-nemotron-edu-score``, ``-int`` and ``-label``.
    Empty text: null.
    Source: Model card of nvidia/nemocurator-fineweb-nemotron-4-edu-classifier.
    """

    model: ModelName | None = "nvidia/nemocurator-fineweb-nemotron-4-edu-classifier"
    pred_column: str = "fineweb-nemotron-edu-score"
    int_column: str = "fineweb-nemotron-edu-score-int"
    quality_label_column: str | None = "fineweb-nemotron-edu-score-label"

    version_1: ClassVar[Mapping[str, Any]] = {"pred_column": "fineweb-nemotron-edu-score-float"}
