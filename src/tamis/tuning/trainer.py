"""The trainer of ``transformers`` with a loss on completions alone, counted per token on any number of processes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from tamis.errors import TrainingError
from tamis.tuning.batches import IGNORED, Batch, Schedule, collate, evaluation_batches
from tamis.tuning.examples import Examples

__all__ = ["CompletionTrainer", "completion_loss", "keeps_rows_apart", "takes"]

_EVALUATED_AT_ONCE = 4
"""Rows of an evaluation's batch for each of a micro batch: it keeps no activations."""


class CompletionTrainer(Trainer):
    """Sums the loss over the targets of a whole update and divides once, so that how it was shared out is no matter.

    What ``transformers`` reports of a validation set is the mean of the means of its batches, which changes with the
    batch size and the number of processes; here it is the mean over the targets.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: Any,
        arguments: TrainingArguments,
        schedule: Schedule,
        validation: Examples | None,
        *,
        pad_id: int,
        packing: bool,
        callbacks: Sequence[TrainerCallback],
    ) -> None:
        self._pad_id, self._packing = pad_id, packing
        self._validation = validation
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=schedule,
            eval_dataset=[] if validation is not None else None,
            data_collator=partial(collate, pad_id=pad_id, packing=packing),
            callbacks=list(callbacks),
        )

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int]:
        schedule: Any = self.train_dataset if train_dataset is None else train_dataset
        return SequentialSampler(schedule)

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> torch.Tensor:
        """Targets of an update, on all processes."""
        own = torch.stack([(batch["labels"] != IGNORED).sum() for batch in batch_samples]).sum().to(device)
        everyone: torch.Tensor = self.accelerator.reduce(own, reduction="sum")
        return everyone

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,  # noqa: FBT001, FBT002  the signature is that of transformers
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of a micro batch: its share of the mean over the targets of the update."""
        total, _ = completion_loss(model, inputs)
        if not bool(torch.isfinite(total)):
            message = (
                f"the loss of update {self.state.global_step + 1:,} is no number ({total.item()}). Training stopped "
                "before that update. Try a lower learning rate, a longer warm-up, or model.dtype float32."
            )
            raise TrainingError(message)
        # The gradients of the processes are averaged, and their losses shall be summed.
        loss = total * self.accelerator.num_processes / (num_items_in_batch or 1)
        return (loss, None) if return_outputs else loss

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: Any = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """The mean loss over all targets of the validation rows, nats per token."""
        if self._validation is None:
            return {}
        sums = torch.zeros(2, dtype=torch.float64)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        rows = _EVALUATED_AT_ONCE * self.args.per_device_train_batch_size
        batches = list(evaluation_batches(self._validation, rows, self._pad_id, packing=self._packing))
        model: Any = self.model
        model.eval()
        # Every process runs as many batches, as those of a sharded model meet in each; the spare ones count nothing.
        for start in range(0, len(batches), world):
            own = start + rank
            batch = self._prepare_inputs(dict(batches[min(own, len(batches) - 1)]))
            with torch.no_grad():
                total, targets = completion_loss(model, batch)
            if own < len(batches):
                sums += torch.tensor([float(total), targets], dtype=torch.float64)
        total, targets = self.accelerator.reduce(_movable(sums, self.args.device), reduction="sum").tolist()
        metrics = {f"{metric_key_prefix}_loss": total / targets}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def _movable(sums: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the device; in float32 where that is all it has."""
    return sums.float().to(device) if device.type == "mps" else sums.to(device)


def completion_loss(model: Any, batch: Batch) -> tuple[torch.Tensor, int]:
    """The sum of the loss over a batch's targets, in float32, nats; and how many these are."""
    inputs = dict(batch)
    labels, kept = inputs.pop("labels"), inputs["logits_to_keep"]
    if takes(model, "logits_to_keep"):
        logits = model(**inputs, use_cache=False).logits
    else:
        del inputs["logits_to_keep"]
        logits = model(**inputs, use_cache=False).logits[:, kept]
    # In float32: a sum of thousands in bfloat16 would be off in the second digit.
    total = cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total, int((labels != IGNORED).sum())


def takes(model: Any, name: str) -> bool:
    """Whether a model's forward has an argument of that name; of one that is wrapped, the model inside."""
    inside = getattr(model, "module", model)
    inside = inside.get_base_model() if hasattr(inside, "get_base_model") else inside
    return name in inspect.signature(type(inside).forward).parameters


def keeps_rows_apart(model: Any, vocabulary: int) -> bool:
    """Whether rows in one stream, each with positions from 0, do not see each other.

    Tried out: the logits of a row behind another are to be those of the row alone, rather than those of one long row.
    """
    if not takes(model, "position_ids"):
        return False
    ids = [torch.arange(3 + shift, 11 + shift) % vocabulary for shift in (0, 5)]
    device = next(model.parameters()).device
    stream, count = torch.cat(ids)[None].to(device), torch.arange(8)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        alone = _logits(model, stream[:, 8:], count)
        behind = _logits(model, stream, torch.cat([count, count]))[8:]
        mixed = _logits(model, stream, torch.arange(16))[8:]
    model.train(was_training)
    return float((behind - alone).abs().max()) < 0.1 * float((mixed - alone).abs().max())


def _logits(model: Any, ids: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=ids, position_ids=places[None].to(ids.device), use_cache=False).logits
    return found[0].float()
