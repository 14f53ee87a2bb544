"""A model, examples and settings in; a directory with tuned weights out."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
import torch
from accelerate import PartialState
from transformers import PrinterCallback, ProgressCallback, TrainingArguments, set_seed

from tamis.errors import ModelError, OutputError, UsageError
from tamis.models.checkpoint import read_config
from tamis.models.device import OUT_OF_MEMORY, pick_device
from tamis.models.lora import load_causal
from tamis.tuning.batches import Schedule
from tamis.tuning.curves import draw_losses
from tamis.tuning.examples import Examples
from tamis.tuning.journal import Heard, Journal
from tamis.tuning.run_directory import COMPLETE, Mode, RunDirectory, write_json
from tamis.tuning.settings import Batches, TuneSettings
from tamis.tuning.trainer import CompletionTrainer, keeps_rows_apart, takes
from tamis.tuning.watch import Watch

__all__ = ["Job", "processes", "train", "updates"]

_WHO = "tune"
_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_SHARDED_ON = ("cuda",)
"""Kinds of devices that accelerate shards a model on; elsewhere it would quietly copy it (1.15)."""


@dataclass(frozen=True)
class Job:
    """Everything a run needs, found and checked."""

    settings: TuneSettings
    base: Path
    """The model's directory."""
    tokenizer: Any
    train: Examples
    validation: Examples | None
    identity: Mapping[str, Any]
    """What run this is."""


def processes() -> int:
    """Processes that work on this run, as torchrun says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def updates(settings: TuneSettings, rows: int) -> int:
    """Updates of the weights: as said, or so many that every row is trained on ``epochs`` times."""
    if settings.train.max_steps is not None:
        return settings.train.max_steps
    return max(1, round(settings.train.epochs * rows / settings.train.global_batch_size))


def train(job: Job, mode: Mode, heard: Heard) -> tuple[dict[str, Any], bool]:
    """Run it, from its beginning or from its last checkpoint.

    Returns:
        What ``result.json`` holds, and whether it was there before.

    Raises:
        OutputRefusedError: The directory belongs to another run.
        TrainingError: The loss is no number.
        UsageError, ModelError: The model cannot be trained so.
    """
    settings = job.settings
    batches = Batches.of(settings.train, processes())
    device = pick_device(settings.train.device, who=_WHO)
    if settings.train.parallel == "fsdp" and device.type not in _SHARDED_ON:
        message = f"{_WHO}: train.parallel is fsdp, which needs CUDA devices; on {device} leave it at ddp."
        raise UsageError(message)
    steps = updates(settings, len(job.train))
    directory = RunDirectory(Path(settings.output.path))
    arguments = _arguments(settings, batches, directory, steps, on_cpu=device.type == "cpu")
    state = PartialState()
    if state.is_main_process:
        directory.prepare(job.identity, mode)
        directory.sweep()
    state.wait_for_everyone()
    if not state.is_main_process:
        directory.prepare(job.identity, "auto")
    if directory.result is not None:
        return directory.result, True
    checkpoint = directory.latest()
    arguments.eval_on_start = job.validation is not None and checkpoint is None
    set_seed(settings.train.seed)
    model = _model(job)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    derived = {
        "world_size": batches.world,
        "accumulation": batches.accumulation,
        "global_batch_size": batches.total,
        "learning_rate": settings.learning_rate,
        "updates": steps,
        "trainable_parameters": trainable,
        "parameters": total,
        "device": str(device),
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "accelerate", "peft")},
    }
    if state.is_main_process:
        write_json(directory.path / "hparams.json", {**asdict(settings), "derived": derived})
    heard(f"{trainable:,} of {total:,} weights are trained, on {device}")
    if checkpoint is not None:
        heard(f"going on from {checkpoint.name}")
    with _quiet():
        return _run(job, model, arguments, directory, checkpoint, heard), False


def _run(
    job: Job, model: Any, arguments: TrainingArguments, directory: RunDirectory, checkpoint: Path | None, heard: Heard
) -> dict[str, Any]:
    settings, main = job.settings, PartialState().is_main_process
    steps = arguments.max_steps
    journal = Journal(
        directory.path,
        Watch(settings.train.warmup_steps),
        heard if main else _nobody,
        lambda: _save(trainer, job, directory, "best"),
        lambda: _mark(trainer, directory, settings.output.keep),
        writes=main,
        max_steps=steps,
        save_every=int(arguments.save_steps),
    )
    trainer = CompletionTrainer(
        model,
        arguments,
        Schedule(job.train, steps * settings.train.global_batch_size, settings.train.seed),
        job.validation,
        pad_id=_pad_id(job.tokenizer),
        packing=settings.train.packing,
        callbacks=[journal],
    )
    for printing in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printing)
    began = time.perf_counter()
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except OUT_OF_MEMORY as error:
        message = (
            f"{_WHO}: there is no memory for a micro batch of {settings.train.micro_batch_size} rows of up to "
            f"{int(job.train.lengths.max()):,} tokens. Lower train.micro_batch_size (the global batch stays as it is) "
            "or data.window, or set train.gradient_checkpointing, or use LoRA."
        )
        raise ModelError(message) from error
    except OSError as error:
        message = f"{_WHO}: the run in {directory.path} cannot be written: {error}"
        raise OutputError(message) from error
    seconds = time.perf_counter() - began
    _save(trainer, job, directory, "last")
    if journal.best is None:
        _save(trainer, job, directory, "best")
    result = _result(job, journal, steps)
    done = steps - (0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2]))
    if main:
        draw_losses(directory.path / "loss.png", journal.watch.train, journal.watch.validation, settings.model.name)
        write_json(directory.path / "result.json", result)
        rate = done * settings.train.global_batch_size / seconds
        heard(f"{done:,} updates in {seconds:,.0f} s ({rate:,.1f} rows/s)")
    PartialState().wait_for_everyone()
    return result


def _result(job: Job, journal: Journal, steps: int) -> dict[str, Any]:
    watch = journal.watch
    return {
        "updates": steps,
        "rows": len(job.train),
        "validation_rows": 0 if job.validation is None else len(job.validation),
        "training_loss": watch.train[-1][1] if watch.train else None,
        "first_validation_loss": watch.validation[0][1] if watch.validation else None,
        "last_validation_loss": watch.validation[-1][1] if watch.validation else None,
        "best_validation_loss": None if journal.best is None else journal.best[1],
        "best_update": steps if journal.best is None else journal.best[0],
        "warnings": journal.warnings,
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars that transformers draws where it saves."""
    from transformers.utils import logging as transformers_logging

    bars: Any = transformers_logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _nobody(line: str) -> None:
    """What the processes that are not the first say."""


# -- what transformers is told -------------------------------------------------------------------------------


def _arguments(
    settings: TuneSettings, batches: Batches, directory: RunDirectory, steps: int, *, on_cpu: bool
) -> TrainingArguments:
    how = settings.train
    arguments = TrainingArguments(
        output_dir=str(directory.checkpoints),
        per_device_train_batch_size=batches.micro,
        gradient_accumulation_steps=batches.accumulation,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup" if how.schedule == "constant" else how.schedule,
        warmup_steps=how.warmup_steps,
        weight_decay=how.weight_decay,
        adam_beta1=float(how.betas[0]),
        adam_beta2=float(how.betas[1]),
        max_grad_norm=how.max_grad_norm,
        bf16=settings.model.dtype == "bfloat16",
        activation_checkpointing=how.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if how.gradient_checkpointing else None,
        eval_strategy="no" if settings.data.validation is None else "steps",
        eval_steps=how.eval_every,
        save_strategy="steps",
        save_steps=how.save_every or how.eval_every,
        logging_strategy="steps",
        logging_steps=how.log_every,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        seed=how.seed,
        use_cpu=on_cpu,
        ddp_backend="gloo" if on_cpu and batches.world > 1 else None,
        ddp_find_unused_parameters=False if batches.world > 1 else None,
        dataloader_pin_memory=not on_cpu,
        remove_unused_columns=False,
        label_names=["labels"],
        fsdp=True if how.parallel == "fsdp" and batches.world > 1 else None,  # type: ignore[arg-type]
    )
    # One process with several devices would copy the model to each for every batch; torchrun is how to use them.
    arguments._n_gpu = min(1, arguments.n_gpu)  # noqa: SLF001  there is no other way to say so
    return arguments


def _pad_id(tokenizer: Any) -> int:
    """What fills up shorter rows; it is masked, so that any token serves where the tokenizer has none for it."""
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


# -- the model -----------------------------------------------------------------------------------------------


def _model(job: Job) -> Any:
    settings = job.settings
    attention = settings.model.attention
    if attention == "auto":
        attention = "eager" if read_config(job.base, who=_WHO).get("attn_logit_softcapping") else "sdpa"
    # Weights that are trained are kept in float32 (Model.dtype); the frozen ones need no more than they compute in.
    dtype = torch.float32 if settings.lora is None else _DTYPES[settings.model.dtype]
    model: Any = load_causal(job.base, who=_WHO, dtype=dtype, attention=attention)
    vocabulary = model.get_input_embeddings().num_embeddings
    if int(job.train.ids.max()) >= vocabulary:
        message = (
            f"{_WHO}: the tokenizer writes the token {int(job.train.ids.max())}, and the model {settings.model.name} "
            f"has {vocabulary} tokens: they do not belong together."
        )
        raise ModelError(message)
    if settings.train.packing and not keeps_rows_apart(model, vocabulary):
        why = f"lets rows see each other ({attention} attention)"
        if not takes(model, "position_ids"):
            why = "takes no position ids"
        message = (
            f"{_WHO}: train.packing puts rows into one stream, and the model {settings.model.name} {why}. "
            "Leave packing out."
        )
        raise UsageError(message)
    if settings.lora is not None:
        model = _with_lora(model, settings)
    model.train()
    return model


def _with_lora(model: Any, settings: TuneSettings) -> Any:
    import peft

    lora = settings.lora
    if lora is None:
        return model
    targets = lora.targets if isinstance(lora.targets, str) else list(lora.targets)
    config = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers for names that it has deprecated
        try:
            return peft.get_peft_model(model, config)
        except ValueError as error:
            layers = (name for name, each in model.named_modules() if isinstance(each, torch.nn.Linear))
            linear = sorted({name.rpartition(".")[2] for name in layers})
            message = (
                f"{_WHO}: lora.targets {targets!r} fits no layer of the model. Its linear layers: {', '.join(linear)}."
            )
            raise UsageError(message) from error


# -- what is kept --------------------------------------------------------------------------------------------


def _save(trainer: CompletionTrainer, job: Job, directory: RunDirectory, name: str) -> None:
    """Write the weights as they are now into a folder of that name, whole or not at all."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        aside, target = directory.path / f".saving-{name}", directory.path / name
        shutil.rmtree(aside, ignore_errors=True)
        model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
        dtype = _DTYPES[job.settings.model.dtype]
        if job.settings.lora is None:
            model.save_pretrained(aside, state_dict=_cast(state, dtype))
            _set_json(aside / "config.json", dtype=job.settings.model.dtype)
        else:
            # The layers of the vocabulary are not trained; PEFT would ask the hub whether they have grown.
            model.save_pretrained(aside, state_dict=state, save_embedding_layers=False)
            named = job.settings.model.name
            local = Path(named).expanduser()
            _set_json(
                aside / "adapter_config.json",
                base_model_name_or_path=str(local.resolve()) if local.is_dir() else named,
                revision=job.settings.model.revision,
            )
            (aside / "README.md").unlink(missing_ok=True)  # a form to be filled in
        job.tokenizer.save_pretrained(aside)
        shutil.rmtree(target, ignore_errors=True)
        aside.rename(target)
    trainer.accelerator.wait_for_everyone()


def _cast(state: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The weights in another format; those that are one stay one."""
    cast: dict[int, torch.Tensor] = {}
    return {name: cast.setdefault(each.data_ptr(), each.detach().to(dtype)) for name, each in state.items()}


def _set_json(path: Path, **values: Any) -> None:
    write_json(path, {**orjson.loads(path.read_bytes()), **values})


def _mark(trainer: CompletionTrainer, directory: RunDirectory, keep: int) -> None:
    """Say that the checkpoint of this update is whole, once every process has written its part; drop older ones."""
    trainer.accelerator.wait_for_everyone()
    if trainer.is_world_process_zero():
        checkpoint = directory.checkpoints / f"checkpoint-{trainer.state.global_step}"
        for name in ("training_args.bin", "README.md"):  # pickled settings that nothing reads, a form to be filled in
            (checkpoint / name).unlink(missing_ok=True)
        (checkpoint / COMPLETE).touch()
        directory.prune(keep)
