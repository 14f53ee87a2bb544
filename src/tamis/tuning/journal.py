"""What a run writes while it goes: metrics as JSON lines, TensorBoard events, the loss curve, the best weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import torch
from transformers import TrainerCallback

from tamis.tuning.watch import Watch

__all__ = ["Heard", "Journal", "read_metrics"]

Heard = Callable[[str], None]
"""Called with a line for whoever watches."""

_NAMES = {"loss": "loss", "eval_loss": "validation_loss", "learning_rate": "learning_rate", "grad_norm": "grad_norm"}
_SAMPLED = 4096
"""Numbers of each weight that are kept to see whether it moves."""


def read_metrics(path: Path, until: int | None = None) -> list[dict[str, float]]:
    """The lines of ``metrics.jsonl`` up to an update; a last line that was cut off is left out."""
    rows = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            break
        if until is None or row["step"] <= until:
            rows.append(row)
    return rows


@dataclass
class Journal(TrainerCallback):
    """Writes what a run logs, on the first process; and asks for the best weights to be kept."""

    directory: Path
    watch: Watch
    heard: Heard
    keep_best: Callable[[], None]
    """Saves the weights as they are now; called on every process."""
    mark: Callable[[], None]
    """Says that a checkpoint is whole; called on every process."""
    writes: bool
    """Whether this is the process that writes."""
    max_steps: int
    save_every: int
    warnings: list[str] = field(default_factory=list)
    best: tuple[int, float] | None = None
    """Update and validation loss of the best weights."""
    _writer: Any = None
    _begin: list[torch.Tensor] = field(default_factory=list)

    @property
    def metrics(self) -> Path:
        """The file of the metrics."""
        return self.directory / "metrics.jsonl"

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Take up the metrics of the updates that were done before; those after them will come again."""
        rows = read_metrics(self.metrics, state.global_step)
        for row in rows:
            self._hear(row, moved=True)
        if self.writes:
            self.metrics.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.directory / "events"), purge_step=state.global_step + 1)
        self._begin = [_sample(p) for p in model.parameters() if p.requires_grad]

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Log at every checkpoint, so that a run that goes on from it logs the same means; evaluate at the end."""
        last = state.global_step >= self.max_steps
        if last or state.global_step % self.save_every == 0:
            control.should_log = control.should_save = True
        if last or state.global_step % args.eval_steps == 0:
            control.should_evaluate = args.eval_strategy != "no"

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, model: Any = None, **_: Any) -> None:
        """One line of metrics."""
        row = {_NAMES[name]: float(value) for name, value in (logs or {}).items() if name in _NAMES}
        if not row:
            return
        row = {"step": state.global_step, **row}
        moved = any(not torch.equal(*pair) for pair in zip(self._begin, self._now(model), strict=True))
        is_best = self._hear(row, moved=moved)
        if self.writes:
            with self.metrics.open("ab") as file:
                file.write(orjson.dumps(row) + b"\n")
            for name, value in row.items():
                if name != "step":
                    self._writer.add_scalar(_TAGS[name], value, state.global_step)
        self.heard(_line(row, self.max_steps))
        if is_best and state.global_step:
            self.keep_best()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint was written."""
        self.mark()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close the events."""
        if self._writer is not None:
            self._writer.close()

    def _now(self, model: Any) -> list[torch.Tensor]:
        return [_sample(p) for p in model.parameters() if p.requires_grad]

    def _hear(self, row: dict[str, float], *, moved: bool) -> bool:
        step, validation = int(row["step"]), row.get("validation_loss")
        new = self.watch.heard(step, loss=row.get("loss"), validation=validation, moved=moved)
        self.warnings.extend(new)
        for sentence in new:
            self.heard(f"warning: {sentence}")
        if validation is None or not (self.best is None or validation < self.best[1]):
            return False
        self.best = (step, validation)
        return True


_TAGS = {
    "loss": "loss/training",
    "validation_loss": "loss/validation",
    "learning_rate": "learning_rate",
    "grad_norm": "gradient_norm",
}


def _sample(parameter: torch.Tensor) -> torch.Tensor:
    local: Any = parameter.detach()
    local = local.to_local() if hasattr(local, "to_local") else local
    return local.flatten()[:_SAMPLED].clone()


def _line(row: dict[str, float], of: int) -> str:
    words = [f"update {int(row['step']):,} of {of:,}"]
    words += [f"{name.replace('_', ' ')} {row[name]:.4f}" for name in ("loss", "validation_loss") if name in row]
    if "learning_rate" in row:
        words.append(f"rate {row['learning_rate']:.2e}")
    if "grad_norm" in row:
        words.append(f"gradient {row['grad_norm']:.2f}")
    return "  ".join(words)
