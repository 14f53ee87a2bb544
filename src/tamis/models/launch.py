"""From a loaded model to a runner on a device: device, number format, limits, batches."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import orjson
import torch

from tamis.errors import ModelError
from tamis.models.batching import Budget
from tamis.models.device import OUT_OF_MEMORY, free_memory, pick_device, pick_dtype
from tamis.models.flops import FlopCount
from tamis.models.network import Forward, Function, Network, forward_of
from tamis.models.profile import Key, Profile, measure_by_clock, measure_on_cuda, peak_flops, profile
from tamis.models.runner import Runner
from tamis.models.settings import RunSettings
from tamis.models.tokenizer import TextTokenizer, max_length_of
from tamis.models.tokens import Tokens

__all__ = ["LoadedModel", "launch"]

_log = logging.getLogger("tamis")


@dataclass(frozen=True)
class LoadedModel:
    """A model and all that is needed to run it, on the CPU and in the number format of its file."""

    network: Network | Function | None
    """None once it has been put on a device."""
    tokenizer: Any
    """A ``transformers`` tokenizer."""
    labels: tuple[str, ...] = ()
    """What its outputs mean, in their order."""
    config: Any = None
    """Its ``transformers`` configuration, where it has one."""
    details: Any = None
    """What else whoever loaded it needs to read its outputs."""


def launch(loaded: LoadedModel, settings: RunSettings, *, who: str) -> Runner:
    """Put a model on its device and return what answers texts.

    Raises:
        ModelError: The device, the number format or the limit on tokens is not to be had, or the model does not run.
    """
    network = loaded.network
    if network is None:
        message = f"{who}: this model has been put on a device before; load it again."
        raise ModelError(message)
    device = pick_device(settings.device, who=who)
    dtype = pick_dtype(settings.dtype, device, who=who, int8=isinstance(network, Network))
    tokenizer = TextTokenizer(
        loaded.tokenizer, max_length_of(loaded.tokenizer, loaded.config, settings.max_length, who=who)
    )
    make = partial(forward_of, network, pad_id=tokenizer.pad_id, device=device, dtype=dtype)
    if device.type == "cpu" or not isinstance(network, Network):
        forward, packed = make(packed=settings.packed)
        tokens = (_PACKED_ON_A_PROCESSOR if packed else _ON_A_PROCESSOR) if device.type == "cpu" else _UNMEASURED
        budget = Budget(tokens=tokens, packed=packed)
    else:
        key = partial(Key.here, device, dtype, max_length=tokenizer.max_length)
        forward, budget = _measured(make, partial(_key, key, loaded), device, packed=settings.packed)
    if settings.batch_tokens != "auto":
        budget = Budget(tokens=settings.batch_tokens, packed=budget.packed)
    budget.rows = settings.batch_size
    _log.info("%s on %s in %s, %d tokens at most", who, device, str(dtype).removeprefix("torch."), tokenizer.max_length)
    return Runner(
        tokenizer,
        forward,
        budget,
        who=who,
        max_chars=settings.max_chars,
        flops=FlopCount.of_model(network),
        peak=partial(peak_flops, device, torch.bfloat16 if dtype is torch.int8 else dtype),
    )


_ON_A_PROCESSOR = 4096
"""Tokens in a padded batch on a processor, unmeasured: products reach their full rate at 1,024 rows, and a profile of
5 s is long there (64 tokens of a large model may take 3 s)."""
_PACKED_ON_A_PROCESSOR = 8192
"""Tokens in a packed one: the longest stream that :mod:`tamis.models.packed` makes of it."""
_UNMEASURED = 16384
"""Tokens in a batch of a model that is a function, on any other device: memory that does not suffice lowers it."""


def _key(key: Callable[..., Key], loaded: LoadedModel, form: str) -> Key:
    """What a profile of the model in this form is kept under."""
    config = loaded.config.to_dict() if hasattr(loaded.config, "to_dict") else {}
    told = orjson.dumps(config, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=str)
    return key(model=f"{hashlib.sha256(told).hexdigest()} {form}")


def _measured(
    make: Callable[..., tuple[Forward, bool]], key: Callable[[str], Key], device: torch.device, *, packed: bool
) -> tuple[Forward, Budget]:
    """The form that is faster on this device, padded or packed, and the budget that its profile gives."""
    found: dict[bool, tuple[Forward, Profile]] = {}
    for form in (True, False) if packed else (False,):
        forward, is_packed = make(packed=form)
        if is_packed in found:
            continue
        measure = partial(_made_up, forward)
        how = measure_on_cuda(measure, device) if device.type == "cuda" else measure_by_clock(measure)
        name = "packed" if is_packed else "padded"
        found[is_packed] = (
            forward,
            profile(how, key=key(name), memory=free_memory(device), out_of_memory=OUT_OF_MEMORY),
        )
    rates = {form: max((p.rate for p in measured.probes), default=0.0) for form, (_, measured) in found.items()}
    best = max(rates, key=rates.__getitem__)
    forward, measured = found.pop(best)
    found.clear()  # and with it the weights of the other form
    return forward, measured.budget(memory=free_memory(device), packed=best)


def _made_up(forward: Forward, rows: int, length: int) -> torch.Tensor:
    """Run a batch of made-up texts, the longest of this length, that differ as neighbours of a sorted window do."""
    lengths = np.maximum(length - np.arange(rows) % 8, 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    with torch.inference_mode():
        # Ids 1 to 97: any vocabulary has them.
        return forward(Tokens((np.arange(offsets[-1]) % 97 + 1).astype(np.int32), offsets))
