"""The directory of a tuning run: whose it is, and where the run goes on.

::

    OUT/
      best/  last/          weights and tokenizer, as `tamis generate` takes them; best by the validation loss
      metrics.jsonl         losses, rates and gradients by update
      loss.png              the same as a picture
      events/               the same for TensorBoard
      hparams.json          every setting, and what was derived from them
      result.json           written last: the run is done
      run.json              what run this is
      checkpoints/          to go on from
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import orjson

from tamis.errors import OutputRefusedError, UnknownNameError

__all__ = ["COMPLETE", "Mode", "RunDirectory", "write_json"]

Mode = Literal["auto", "resume", "fresh"]

COMPLETE = "complete"
"""The file that a checkpoint holds once it is whole."""


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def result(self) -> dict[str, Any] | None:
        """What a run that is done came to."""
        return _read(self.path / "result.json")

    def prepare(self, identity: Mapping[str, Any], mode: Mode) -> None:
        """Make it the directory of the run with that identity, or find that it is.

        Raises:
            OutputRefusedError: It holds another run, or other files; or there is nothing to go on with.
        """
        if mode not in get_args(Mode):
            raise UnknownNameError.of(str(mode), get_args(Mode), kind="mode")
        found = _read(self.path / "run.json")
        if mode == "fresh" and found is not None:
            shutil.rmtree(self.path)
            found = None
        if found is None:
            held = sorted(p.name for p in self.path.iterdir()) if self.path.is_dir() else []
            if held:
                message = (
                    f"{self.path} holds other files ({', '.join(held[:4])}) and no tuning run. Choose another "
                    "directory."
                )
                raise OutputRefusedError(message)
            if mode == "resume":
                message = f"{self.path} holds no run to go on with. Leave --resume out to begin one."
                raise OutputRefusedError(message)
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / "run.json", identity)
            return
        differs = sorted(key for key in {*identity, *found} if identity.get(key) != found.get(key))
        if differs:
            pairs = [(key, _short(found.get(key)), _short(identity.get(key))) for key in differs[:4]]
            shown = "; ".join(f"{key} was {was}, now {now}" for key, was, now in pairs)
            message = (
                f"{self.path} holds another run: {shown}. Its checkpoints are of that one. Choose another directory, "
                "or replace the run with --fresh."
            )
            raise OutputRefusedError(message)

    def latest(self) -> Path | None:
        """The checkpoint to go on from: the latest that is whole."""
        return next(iter(self._whole()), None)

    def prune(self, keep: int) -> None:
        """Remove all checkpoints that are whole but the latest."""
        for folder in self._whole()[keep:]:
            shutil.rmtree(folder)

    def _whole(self) -> list[Path]:
        """Checkpoints that are whole, the latest first."""
        found = (p.parent for p in self.checkpoints.glob(f"checkpoint-*/{COMPLETE}"))
        return sorted(found, key=_step, reverse=True)

    def sweep(self) -> None:
        """Remove checkpoints that were cut off, and weights that were being written."""
        for folder in self.checkpoints.glob("checkpoint-*"):
            if not (folder / COMPLETE).is_file():
                shutil.rmtree(folder)
        for folder in self.path.glob(".saving-*"):
            shutil.rmtree(folder)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON aside and move it into place."""
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS) + b"\n")
    aside.replace(path)
