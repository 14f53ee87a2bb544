"""Classifiers: from a text to a label, a vector of probabilities or a number, by a model on a device.

Any model of a hub or a directory that ``transformers`` loads as a sequence classifier works as it is::

    DistributedDataClassifier(model="owner/name", pred_column="topic", filter_by=["news"])(dataset)

An architecture of one's own is a function and its labels::

    def logits(input_ids, attention_mask):      # int64 [texts, length] each
        return my_module(input_ids, attention_mask)   # [texts, labels]

    DistributedDataClassifier(model=logits, labels=["no", "yes"], tokenizer="directory")

or a class with one method, :meth:`DistributedDataClassifier.load`, whose weights are loaded where they are used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import ModelError, UnknownNameError, UsageError
from tamis.models.checkpoint import TOKENIZER, find, read_config
from tamis.models.stage import ModelStage, makes_field
from tamis.stage import Needs, TableFunction
from tamis.table import mark, put, text

if TYPE_CHECKING:
    from tamis.models.launch import LoadedModel
    from tamis.models.runner import Outputs

__all__ = ["Columns", "DistributedDataClassifier", "Task"]

Columns = Literal["legacy", "v1"]
Task = Literal["auto", "single_label", "multi_label", "regression"]
ModelName = str | os.PathLike[str]

_NO_TEXT = "no text to classify"


@dataclass(frozen=True, kw_only=True)
class DistributedDataClassifier(ModelStage):
    """Adds what a model says of each document, and keeps those with the labels asked for.

    Answer: ``pred_column`` holds the label with the highest logit (single label), the labels with a probability of
        at least 0.5 (multi-label), or the number (regression); ``prob_column``, if named, the probabilities of all
        labels in the order of the model's configuration (softmax, or sigmoid for multi-label).
    Range: Probabilities are float32 in [0, 1].
    Empty text: A null or blank text is not shown to the model; its answer is null, and with ``filter_by`` it is
        dropped.
    Relations: NeMo Curator's class of this name must be extended before it can be used.
    """

    model: ModelName | Callable[..., Any] | None = None
    """A hub id, a directory, or a function from ``input_ids`` and ``attention_mask`` to logits."""
    model_file_name: ModelName | None = None
    """Instead of ``model``: a ``.pth`` or ``.safetensors`` file of an encoder (``model.*``) and one linear layer
    (``fc.*``), as NeMo Curator's first releases took it. Needs ``labels``."""
    base_model: ModelName = "microsoft/deberta-v3-base"
    """With ``model_file_name``: hub id or directory of the encoder's configuration and tokenizer."""
    labels: Sequence[str] | None = None
    """What the outputs mean, in their order; by default what the model's configuration says."""
    tokenizer: ModelName | None = None
    """Hub id or directory of the tokenizer; that of the model by default."""
    filter_by: str | Sequence[str] | None = None
    """Label or labels to keep; all documents by default."""
    pred_column: str = "pred"
    """Column for the answer."""
    prob_column: str | None = None
    """Column for the probabilities of all labels; not written by default."""
    task: Task = "auto"
    """What the outputs are; by default what the model's configuration says."""

    weights: ClassVar[tuple[str, ...]] = ("model", "model_file_name", "base_model", "tokenizer", "aegis_variant")
    version_1: ClassVar[Mapping[str, Any]] = {}
    """Defaults that differ with ``columns="v1"``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        columns = getattr(self, "columns", "legacy")
        if columns not in {"legacy", "v1"}:
            raise UnknownNameError.of(str(columns), ["legacy", "v1"], kind="set of columns", where=self.name)
        if columns == "v1":
            self._adopt(self.version_1)
        if self.model is None and self.model_file_name is None:
            message = f"{self.name} needs model=: a hub id, a directory, or a function."
            raise UsageError(message)
        if self.model_file_name is not None and self.labels is None:
            message = f"{self.name}: a weights file does not name its labels; pass labels=[...] beside model_file_name."
            raise UsageError(message)
        if callable(self.model) and (self.labels is None or self.tokenizer is None):
            message = f"{self.name}: a model that is a function needs labels=[...] and tokenizer= beside it."
            raise UsageError(message)
        if self.labels is not None:
            self._check_filter(tuple(self.labels))

    def _adopt(self, defaults: Mapping[str, Any]) -> None:
        """Take these values for the fields that were left at their defaults."""
        for each in fields(self):
            if each.name in defaults and each.default is not MISSING and getattr(self, each.name) == each.default:
                object.__setattr__(self, each.name, defaults[each.name])

    @property
    def wanted(self) -> tuple[str, ...] | None:
        """The labels to keep, None for all."""
        if self.filter_by is None:
            return None
        return (self.filter_by,) if isinstance(self.filter_by, str) else tuple(self.filter_by)

    def _check_filter(self, labels: Sequence[str]) -> None:
        for label in self.wanted or ():
            if label not in labels:
                raise UnknownNameError.of(str(label), map(str, labels), kind="label", where=f"{self.name}: filter_by")

    def _check_labels(self) -> None:
        """Say of a label that the model does not have before anything runs, where its configuration is at hand."""
        known = self.labels is not None or type(self).answers is not DistributedDataClassifier.answers
        if self.wanted is None or known or not isinstance(self.model, str | os.PathLike):
            return
        from tamis.classifiers.layouts import labels_of

        labels = labels_of(read_config(self._found(config_only=True), who=self.name))
        self._check_filter(labels or self.wanted)

    # -- what it makes ---------------------------------------------------------------------------------------

    @property
    def may_drop(self) -> bool:
        """Where labels to keep were given."""
        return self.filter_by is not None

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the text, makes the answers, runs on a device."""
        types = self.answer_types()
        if self.column_read in types:
            message = f"{self.name}: its answers would replace the text in {self.column_read!r}."
            raise UsageError(message)
        self._check_labels()
        makes = tuple(makes_field(schema, name, kind) for name, kind in types.items())
        return self.needs_of(makes)

    def answer_types(self) -> dict[str, pa.DataType]:
        """The columns it makes, and their types."""
        task = self._task()
        if task == "regression" and self.filter_by is not None:
            message = (
                f"{self.name}: filter_by takes labels, and this model gives a number. Keep documents by its column: "
                f'dataset[dataset["{self.pred_column}"] >= 3].'
            )
            raise UsageError(message)
        kind = {"regression": pa.float32(), "multi_label": pa.list_(pa.string())}.get(task, pa.string())
        types = {self.pred_column: kind}
        if self.prob_column is not None and task != "regression":
            types[self.prob_column] = pa.list_(pa.float32())
        return types

    def answers(self, outputs: Outputs, loaded: LoadedModel) -> dict[str, pa.Array]:
        """The columns, of :meth:`answer_types`, for the model's outputs [texts, labels]."""
        labels, missing, task = loaded.labels, pa.array(~outputs.answered), self._task()
        if task == "regression":
            return {self.pred_column: pa.array(outputs.values[:, 0], pa.float32(), mask=~outputs.answered)}
        if task == "multi_label":
            found = _sigmoid(outputs.values)
            picked = pa.array([[labels[i] for i in np.flatnonzero(row >= 0.5)] for row in found], pa.list_(pa.string()))
            made = {self.pred_column: pc.if_else(missing, pa.scalar(None, picked.type), picked)}
        else:
            found = softmax(outputs.values)
            made = {self.pred_column: named(labels, outputs.values, outputs.answered)}
        if self.prob_column is not None:
            made[self.prob_column] = vectors(found, outputs.answered)
        return made

    def _task(self) -> Task:
        """What the outputs are, from the configuration where it was not said; reads no weights."""
        if self.task != "auto":
            return self.task
        if callable(self.model) or self.model_file_name is not None:
            return "single_label"
        from tamis.classifiers.layouts import task_of

        return task_of(read_config(self._found(config_only=True), who=self.name))

    # -- loading ---------------------------------------------------------------------------------------------

    def _found(self, *, config_only: bool = False) -> Any:
        if self.model is None or callable(self.model):
            message = f"{self.name}: this model is a function, not a directory."
            raise ModelError(message)
        return find(self.model, who=self.name, token=self.token, config_only=config_only)

    def load(self) -> LoadedModel:
        """The model with its tokenizer and labels, on the CPU; what a class of your own overrides."""
        from tamis.classifiers.layouts import load_classifier, load_weights_file
        from tamis.models.launch import LoadedModel
        from tamis.models.tokenizer import load_tokenizer

        tokenizer = None
        if self.tokenizer is not None:
            tokenizer = load_tokenizer(
                find(self.tokenizer, who=self.name, token=self.token, holds=TOKENIZER), who=self.name
            )
        labels = tuple(self.labels or ())
        if self.model_file_name is not None:
            file, base = Path(self.model_file_name), os.fspath(self.base_model)
            return load_weights_file(file, base, labels, who=self.name, tokenizer=tokenizer, token=self.token)
        if callable(self.model):
            return LoadedModel(self.model, tokenizer, labels)
        return load_classifier(self._found(), who=self.name, tokenizer=tokenizer, token=self.token)

    def open(self) -> TableFunction:
        """Load the model onto its device and return the function that answers and marks."""
        from tamis.models.launch import launch

        loaded = self.load()
        if self.labels is not None:
            loaded = replace(loaded, labels=tuple(self.labels))
        runner = launch(loaded, self.settings(), who=self.name)
        # The runner has the weights in its own form; the ones that were read are not needed any more.
        loaded = replace(loaded, network=None)
        # The task is asked for once: of a model of the hub that is a look at the hub, not to be had for every window.
        told = replace(self, task=self._task())
        told.check_outputs(runner.width, loaded.labels)
        if told.task != "regression":
            self._check_filter(loaded.labels)

        def run(table: pa.Table) -> pa.Table:
            outputs = runner(text(table, told.column_read, told.name))
            for name, values in told.answers(outputs, loaded).items():
                table = put(table, name, values)
            return told.marked(table)

        return run

    def check_outputs(self, width: int, labels: Sequence[str]) -> None:
        """Hold that the model has as many outputs as there are labels, or one where it gives a number."""
        if self._task() == "regression":
            if width != 1:
                message = f"{self.name}: a regression gives one number, and this model has {width} outputs."
                raise ModelError(message)
        elif width != len(labels):
            message = (
                f"{self.name}: the model has {width} outputs and there are {len(labels)} labels "
                f"({', '.join(map(str, labels[:5]))}{', …' if len(labels) > 5 else ''}). "
                "Its configuration (id2label) or labels= belongs to another checkpoint."
            )
            raise ModelError(message)

    def decision(self, table: pa.Table) -> pa.Array:
        """What ``filter_by`` looks at: the label of each document, or its list of labels."""
        return table.column(self.pred_column).combine_chunks()

    def marked(self, table: pa.Table) -> pa.Table:
        """The table with the documents marked whose label is not wanted."""
        wanted = self.wanted
        if wanted is None:
            return table
        found = self.decision(table)
        if pa.types.is_list(found.type):
            keep = pa.array([v is not None and not set(wanted).isdisjoint(v) for v in found.to_pylist()], pa.bool_())
            reasons: Any = f"{self.pred_column} has none of: {', '.join(wanted)}"
        else:
            keep = pc.is_in(found, pa.array(wanted, found.type))
            reasons = pc.binary_join_element_wise(f"{self.pred_column} is", found.cast(pa.string()), " ")
        reasons = pc.if_else(pc.is_null(found), _NO_TEXT, reasons)
        return mark(table, pc.if_else(keep, pa.scalar(None, pa.string()), reasons), found)


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probabilities that add up to 1 in each row, float32; NaN where the logits are."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)


def _sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    # tanh does not overflow where exp does.
    return (0.5 * (1 + np.tanh(logits / 2))).astype(np.float32)


def named(labels: Sequence[str], scores: npt.NDArray[np.float32], answered: npt.NDArray[np.bool_]) -> pa.StringArray:
    """The label with the highest score of each row, the first of equals; null where there is no answer."""
    best = np.zeros(len(scores), dtype=np.int32)
    best[answered] = scores[answered].argmax(axis=1)
    return pa.array(list(labels), pa.string()).take(pa.array(best, mask=~answered))


def vectors(values: npt.NDArray[np.float32], answered: npt.NDArray[np.bool_]) -> pa.ListArray:
    """One list of float32 per row, null where there is no answer."""
    width = values.shape[1]
    offsets = np.arange(len(values) + 1, dtype=np.int32) * width
    found = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))
    return found if answered.all() else pc.if_else(pa.array(answered), found, pa.scalar(None, found.type))
