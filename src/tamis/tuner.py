"""``tune``: from a recipe, or settings, to tuned weights in a directory. All is checked before any time is spent."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from tamis.dataset import DocumentDataset
from tamis.errors import MissingColumnError, ModelError, RecipeError, UnknownNameError, UsageError
from tamis.hashing import document_id, hash64
from tamis.models.checkpoint import find, read_config, require_extra
from tamis.recipe import build, read_toml, toml_value
from tamis.tuning.settings import Batches, Data, Lora, Model, Output, Train, TuneSettings

if TYPE_CHECKING:
    from tamis.tuning.examples import Examples
    from tamis.tuning.journal import Heard
    from tamis.tuning.run_directory import Mode

__all__ = ["TuneResult", "load_settings", "tune"]

_WHO = "tune"
_WINDOW = 2048
_SECTIONS: Mapping[str, type] = {"model": Model, "data": Data, "lora": Lora, "train": Train, "output": Output}
_PACKAGES = ("torch", "transformers")
_TUNING = ("accelerate", "peft", "tensorboard", "matplotlib")


@dataclass(frozen=True)
class TuneResult:
    """What a tuning run came to. Losses are nats per token of the completions."""

    directory: Path
    updates: int
    """Times the weights were changed."""
    rows: int
    """Training rows that were used."""
    validation_rows: int
    training_loss: float | None
    """The last that was logged."""
    first_validation_loss: float | None
    """Before any update: that of the base model. None without validation rows, as all of these."""
    last_validation_loss: float | None
    best_validation_loss: float | None
    best_update: int
    """The update whose weights are in ``best``."""
    warnings: tuple[str, ...]
    """What was wrong, in words."""
    already_complete: bool
    """Whether the directory held the result before."""

    @property
    def best(self) -> Path:
        """The weights with the lowest validation loss, or the last ones where there are no validation rows."""
        return self.directory / "best"

    @property
    def last(self) -> Path:
        """The weights after the last update."""
        return self.directory / "last"


def load_settings(name: str | os.PathLike[str], settings: Sequence[str] = ()) -> TuneSettings:
    """Read a tuning recipe, a TOML file or a shipped one by its name, with ``section.option=value`` on top.

    Raises:
        RecipeError, UnknownNameError: It cannot be understood; the message names the file and the key.
    """
    content, _, file = read_toml(os.fspath(name), "model")
    content = {key: dict(value) if isinstance(value, Mapping) else value for key, value in content.items()}
    known = [*_SECTIONS, "notes"]
    for setting in settings:
        key, equals, text = setting.partition("=")
        section, dot, option = key.strip().rpartition(".")
        if not equals or not dot:
            message = f"--set {setting}: write it as section.option=value."
            raise RecipeError(message)
        if section not in _SECTIONS:
            raise UnknownNameError.of(section, _SECTIONS, kind="section", where=f"--set {key}")
        content.setdefault(section, {})[option] = toml_value(text.strip())
    for key in content:
        if key not in known:
            raise UnknownNameError.of(key, known, kind="section", where=file)
    made: dict[str, Any] = {}
    for section, kind in _SECTIONS.items():
        if section in content or section in {"model", "data", "output"}:
            found = content.get(section, {})
            if not isinstance(found, Mapping):
                message = f"{file}: [{section}] must be a section."
                raise RecipeError(message)
            made[section] = build(kind, found, f"{file}: [{section}]")
    return TuneSettings(**made, notes=tuple(content.get("notes", ())))


def tune(settings: TuneSettings, *, mode: Mode = "auto", heard: Heard | None = None) -> TuneResult:
    """Tune a language model on rows of prompts and completions, or of messages; the loss is that of the completions.

    The same call on a directory that a stopped run left goes on from its last checkpoint, and ends with the weights
    that the run would have had: on one process, to the last bit.

    Args:
        settings: Everything that is asked for.
        mode: ``auto``, ``resume`` (insist on a run to go on with) or ``fresh`` (replace an earlier one).
        heard: Called with lines that say what is going on.

    Raises:
        MissingExtraError: A package of the extra ``tune`` is not installed.
        UsageError: The rows, the settings or the model cannot be used so; said before any training.
        OutputRefusedError: The directory holds another run.
        TrainingError: The loss is no number.
    """
    require_extra(_WHO, *_PACKAGES, extra="models")
    require_extra(_WHO, *_TUNING, extra="tune")
    from tamis.tuning.train import processes

    say = heard if heard is not None and os.environ.get("RANK", "0") == "0" else _nobody
    batches = Batches.of(settings.train, processes())
    base, tokenizer = _model(settings)
    window = _window(settings, base)
    training, validation = _examples(settings, tokenizer, window, say)
    return _train(settings, base, tokenizer, training, validation, batches, mode, say)


def _nobody(line: str) -> None:
    """Where nobody listens."""


def _train(  # noqa: PLR0917  what tune has found
    settings: TuneSettings,
    base: Path,
    tokenizer: Any,
    training: Examples,
    validation: Examples | None,
    batches: Batches,
    mode: Mode,
    say: Heard,
) -> TuneResult:
    from tamis.tuning.train import Job, train, updates
    from tamis.tuning.watch import rate_warnings

    early = [*settings.notes, *rate_warnings(settings)]
    for sentence in early:
        say(f"warning: {sentence}")
    steps = updates(settings, len(training))
    say(f"global batch: {batches}")
    say(f"{steps:,} updates, {steps * batches.total / len(training):.1f} passes over the rows")
    job = Job(settings, base, tokenizer, training, validation, _identity(settings, base, training, validation))
    result, before = train(job, mode, say)
    return TuneResult(
        directory=Path(settings.output.path),
        **{**result, "warnings": (*early, *result["warnings"])},
        already_complete=before,
    )


# -- what is found before ------------------------------------------------------------------------------------


def _model(settings: TuneSettings) -> tuple[Path, Any]:
    """The model's directory and its tokenizer."""
    from tamis.models.generation import find_causal
    from tamis.models.lora import ADAPTER_CONFIG
    from tamis.models.tokenizer import load_tokenizer

    named = Path(settings.model.name).expanduser()
    if (named / ADAPTER_CONFIG).is_file() and not (named / "config.json").is_file():
        message = f"{_WHO}: {named} is a LoRA adapter. Tune the model it was made for, or merge it into that first."
        raise ModelError(message)
    if settings.model.revision is None:
        base = find_causal(settings.model.name, who=_WHO)
    else:
        base = find(settings.model.name, who=_WHO, revision=settings.model.revision)
    tokenizer = load_tokenizer(base, who=_WHO)
    if not tokenizer.is_fast:
        message = f"{_WHO}: the tokenizer in {base} must have a tokenizer.json (it gives no offsets into the text)."
        raise ModelError(message)
    if tokenizer.eos_token_id is None:
        message = (
            f"{_WHO}: the tokenizer in {base} has no end-of-text token (eos_token): the model could not learn where an "
            "answer ends. Name it in tokenizer_config.json."
        )
        raise ModelError(message)
    return base, tokenizer


def _window(settings: TuneSettings, base: Path) -> int:
    positions = read_config(base, who=_WHO).get("max_position_embeddings")
    if settings.data.window is None:
        return min(_WINDOW, positions or _WINDOW)
    if positions and settings.data.window > positions:
        message = f"data.window is {settings.data.window}, and {settings.model.name} has {positions} positions."
        raise UsageError(message)
    return settings.data.window


def _examples(settings: TuneSettings, tokenizer: Any, window: int, say: Heard) -> tuple[Examples, Examples | None]:
    from tamis.tuning.examples import encode_rows

    parts: list[Examples | None] = []
    for what, paths, limit in (
        ("training", settings.data.train, settings.data.limit),
        ("validation", settings.data.validation, settings.data.validation_limit),
    ):
        if paths is None:
            parts.append(None)
            say("no validation rows: nothing can be said about overfitting, and the last weights count as the best")
            continue
        found = encode_rows(tokenizer, _rows(paths, limit, what), window, what=what)
        say(f"{what}: {found.counts}; up to {int(found.lengths.max()):,} tokens, {found.targets:,} of them completions")
        parts.append(found)
    training, validation = parts
    if training is None:
        raise AssertionError
    return training, validation


def _rows(paths: str | Sequence[str], limit: int | None, what: str) -> Iterator[dict[str, Any]]:
    """The rows of some files, of all their columns those that are trained on."""
    dataset = DocumentDataset.read(paths)
    names = dataset.schema.names
    if not names:
        message = f"there are no {what} rows in {paths}: the split is empty."
        raise UsageError(message)
    if {"prompt", "completion"} <= set(names):
        columns = [name for name in ("prompt", "completion", "prompt_body") if name in names]
    elif "messages" in names:
        columns = ["messages"]
    else:
        lacks = next(name for name in ("prompt", "completion") if name not in names)
        raise MissingColumnError.of(lacks, f"{_WHO} ({what} rows)", names)
    rows = (row for table in dataset for row in table.select(columns).to_pylist())
    return rows if limit is None else iter(_chosen(list(rows), limit))


def _chosen(rows: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """So many rows by the hash of what they hold, in their order: the same in any order of the files."""
    order = np.argsort(hash64(document_id(repr(row)) for row in rows), kind="stable")
    return [rows[i] for i in np.sort(order[:limit])]


def _identity(settings: TuneSettings, base: Path, training: Examples, validation: Examples | None) -> dict[str, Any]:
    """What run this is: the settings, without those that only say how it is done, the weights and the rows."""
    from tamis.models.checkpoint import content_hash

    told = {
        f"{section}.{f.name}": getattr(part, f.name)
        for section in _SECTIONS
        if section != "output" and (part := getattr(settings, section)) is not None
        for f in dataclasses.fields(part)
        if not f.metadata.get("tuning")
    }
    found = {
        **told,
        "weights": content_hash(base),
        "training rows": training.fingerprint(),
        "validation rows": None if validation is None else validation.fingerprint(),
    }
    same: dict[str, Any] = orjson.loads(orjson.dumps(found))  # as it is read again: a tuple is a list
    return same
