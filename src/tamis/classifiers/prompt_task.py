"""Prompts: what task they set, and how complex they are along six dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.classifiers.base import Columns, DistributedDataClassifier, ModelName, Task, softmax
from tamis.errors import ModelError
from tamis.models.checkpoint import load_tensors, read_config

if TYPE_CHECKING:
    from tamis.models.launch import LoadedModel
    from tamis.models.runner import Outputs

__all__ = ["PromptTaskComplexityClassifier"]

_TASK = "task_type"
_SCORES = {
    "creativity_scope": 0.35,
    "reasoning": 0.25,
    "contextual_knowledge": 0.05,
    "number_of_few_shots": 0.05,
    "domain_knowledge": 0.15,
    "no_label_reason": 0.0,
    "constraint_ct": 0.15,
}
"""The dimensions in the order of their columns, and the weight of each in the complexity score."""
_LEAST_SECOND = 0.1
"""A second task less probable than this is no task."""
_LEAST_SHOTS = 0.05


@dataclass(frozen=True, kw_only=True)
class PromptTaskComplexityClassifier(DistributedDataClassifier):
    """Names the task that a prompt sets, and says how complex it is.

    Answer: ``task_type_1`` and ``task_type_2``, the most probable tasks (the second ``NA`` where its probability,
        rounded to three digits, is below 0.1), ``task_type_prob`` (of the first, three digits); one column each for
        creativity_scope, reasoning, contextual_knowledge, number_of_few_shots (0 below 0.05), domain_knowledge,
        no_label_reason and constraint_ct: the sum of probabilities times the configuration's weights, over its
        divisor, four digits; ``prompt_complexity_score`` = 0.35 creativity + 0.25 reasoning + 0.15 constraints +
        0.15 domain knowledge + 0.05 contextual knowledge + 0.05 few shots, five digits. All float64.
    Range: 0 to 1, but number_of_few_shots, which counts examples.
    Empty text: null in every column.
    Source: Model card of nvidia/prompt-task-and-complexity-classifier: the mean of DeBERTa-v3-base's last states, one
        linear head for each dimension.
    Relations: NeMo Curator's up to 0.9 attaches the task names of a batch to the wrong documents, and refuses
        ``filter_by``; here it keeps prompts by ``task_type_1``.
    """

    model: ModelName | None = "nvidia/prompt-task-and-complexity-classifier"
    pred_column: str = "task_type_1"
    max_chars: int | None = 2000
    max_length: int | None = 512
    task: Task = "single_label"
    columns: Columns = "legacy"
    """Whose defaults: those of NeMo Curator up to 0.9 (a cut at 2,000 characters), or of 1.x (none)."""

    version_1: ClassVar[Mapping[str, Any]] = {"max_chars": None}

    def answer_types(self) -> dict[str, pa.DataType]:
        """The eleven columns."""
        names = {self.pred_column: pa.string(), "task_type_2": pa.string()}
        numbers = ("task_type_prob", *_SCORES)
        return {"prompt_complexity_score": pa.float64(), **names, **dict.fromkeys(numbers, pa.float64())}

    def load(self) -> LoadedModel:
        """``backbone.*`` and ``head_i.fc.*``, the heads as one linear layer."""
        from tamis.classifiers.layouts import encoder_from
        from tamis.models.launch import LoadedModel
        from tamis.models.network import Network
        from tamis.models.tokenizer import load_tokenizer

        path = self._found()
        head = _Heads.of(read_config(path, who=self.name), self.name)
        tensors = load_tensors(path, who=self.name)
        inside = path / "base"
        base = str(inside) if inside.is_dir() else "microsoft/deberta-v3-base"
        states = {n.removeprefix("backbone."): t for n, t in tensors.items() if n.startswith("backbone.")}
        body = encoder_from(base, states, who=self.name, token=self.token)
        return LoadedModel(
            Network(body, "mean", head.joined(tensors, self.name)),
            load_tokenizer(path, who=self.name),
            head.task_names,
            body.config,
            head,
        )

    def check_outputs(self, width: int, labels: Sequence[str]) -> None:
        """Held when the heads were joined."""

    def answers(self, outputs: Outputs, loaded: LoadedModel) -> dict[str, pa.Array]:
        """Tasks, scores, and their weighted sum."""
        found = outputs.answered
        head: _Heads = loaded.details
        parts = {name: softmax(part).astype(np.float64) for name, part in head.parts(outputs.values[found])}
        first, second, probability = head.tasks(parts[_TASK])
        scores = {name: head.score(name, parts[name]) for name in _SCORES}
        total = sum((weight * scores[name] for name, weight in _SCORES.items()), np.zeros(int(found.sum())))
        numbers = {"prompt_complexity_score": np.round(total, 5), "task_type_prob": probability, **scores}
        made = {
            self.pred_column: _spread(first, found, pa.string()),
            "task_type_2": _spread(second, found, pa.string()),
        }
        made |= {name: _spread(values, found, pa.float64()) for name, values in numbers.items()}
        return {name: made[name] for name in self.answer_types()}


@dataclass(frozen=True)
class _Heads:
    """What the configuration says of the heads."""

    targets: tuple[str, ...]
    sizes: tuple[int, ...]
    task_names: tuple[str, ...]
    weights: Mapping[str, Sequence[float]]
    divisors: Mapping[str, float]

    @classmethod
    def of(cls, config: Mapping[str, Any], who: str) -> _Heads:
        try:
            sizes = config["target_sizes"]
            # A JSON object may have been sorted when it was saved; the list has the order of the heads.
            targets = tuple(config.get("targets") or sizes)
            names = sorted(config["task_type_map"].items(), key=lambda item: int(item[0]))
            return cls(
                targets,
                tuple(int(sizes[name]) for name in targets),
                tuple(str(name) for _, name in names),
                config["weights_map"],
                config["divisor_map"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = (
                f"{who}: config.json must hold target_sizes, targets, task_type_map, weights_map and divisor_map, as "
                f"nvidia/prompt-task-and-complexity-classifier has them ({type(error).__name__}: {error})."
            )
            raise ModelError(message) from error

    def joined(self, tensors: Mapping[str, Any], who: str) -> Any:
        import torch

        from tamis.classifiers.layouts import linear

        weights, biases = [], []
        for i, (name, size) in enumerate(zip(self.targets, self.sizes, strict=True)):
            weight = tensors.get(f"head_{i}.fc.weight")
            if weight is None or len(weight) != size:
                held = "missing" if weight is None else f"of {len(weight)} outputs"
                message = f"{who}: head_{i}.fc.weight ({name}) is {held}; the configuration says {size}."
                raise ModelError(message)
            weights.append(weight)
            biases.append(tensors[f"head_{i}.fc.bias"])
        return linear(torch.cat(weights), torch.cat(biases), sum(self.sizes), who=who)

    def parts(self, values: npt.NDArray[np.float32]) -> list[tuple[str, npt.NDArray[np.float32]]]:
        ends = np.cumsum(self.sizes)[:-1]
        return list(zip(self.targets, np.split(values, ends, axis=1), strict=True))

    def tasks(
        self, probabilities: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.str_], npt.NDArray[np.float64]]:
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
        best = np.round(np.take_along_axis(probabilities, order, axis=1), 3)
        names = np.array(self.task_names)[order]
        return names[:, 0], np.where(best[:, 1] < _LEAST_SECOND, "NA", names[:, 1]), best[:, 0]

    def score(self, name: str, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        score = np.round(probabilities @ np.asarray(self.weights[name], np.float64) / float(self.divisors[name]), 4)
        return np.where(score < _LEAST_SHOTS, 0.0, score) if name == "number_of_few_shots" else score


def _spread(values: npt.NDArray[Any], found: npt.NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    """One value per document, null where it has no answer."""
    spread = pa.array(values.tolist(), kind)
    rows = np.cumsum(found) - 1
    return spread.take(pa.array(rows, mask=~found))
