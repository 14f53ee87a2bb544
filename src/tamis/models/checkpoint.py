"""Where a model's files are: a directory, a folder of models, or the hub; and what they hold.

No code that comes with a model is run, and no pickle is loaded beyond tensors (``weights_only=True``).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import xxhash

from tamis.errors import MissingExtraError, ModelError, hint

if TYPE_CHECKING:
    import torch

__all__ = [
    "MODEL",
    "MODELS_FOLDER",
    "TOKENIZER",
    "content_hash",
    "find",
    "here",
    "load_pretrained",
    "load_tensors",
    "read_config",
    "require_extra",
]

MODELS_FOLDER = "TAMIS_MODELS"
"""Environment variable: a folder that holds models under their hub ids, looked into before the hub."""

MODEL, TOKENIZER = "config.json", "tokenizer_config.json"
"""The file that every directory of a model, or of a tokenizer, holds."""

ENCODER = "an encoder"

_CONFIG = ("config.json",)
_WORDS = ("*.json", "*.model", "*.txt", "*.jinja")
_ALL = (*_WORDS, "*.safetensors")
_PATTERNS = {MODEL: _ALL, TOKENIZER: _WORDS}
_PICKLED = ("*.bin",)


def require_extra(who: str, *packages: str, extra: str = "models") -> None:
    """Raise :class:`MissingExtraError` if one of the packages is not installed; imports nothing."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError.of(who, package, extra)


def find(
    model: str | os.PathLike[str],
    *,
    who: str,
    token: str | None = None,
    config_only: bool = False,
    holds: str = MODEL,
    revision: str | None = None,
) -> Path:
    """The local directory of a model.

    Args:
        model: A directory, or a hub id such as ``nvidia/domain-classifier``.
        who: The stage that asks, for the error message.
        token: Access token of the hub; the one of ``hf auth login`` by default.
        config_only: Fetch nothing but ``config.json``.
        holds: A file that the directory must hold. Where it is :data:`TOKENIZER`, no weights are fetched.
        revision: Branch, tag or commit on the hub.

    Raises:
        ModelError: There is no such directory or hub model, it is gated, or the hub cannot be reached.
    """
    name = os.fspath(model)
    found = here(name)
    if found is not None:
        return _checked(found, who, holds)
    local = Path(name).expanduser()
    if local.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or not name:
        beside = [p.name for p in local.parent.iterdir() if p.is_dir()] if local.parent.is_dir() else []
        close = f" {hint(local.name, beside)}" if beside else ""
        message = f"{who}: there is no model directory {name!r}.{close}"
        raise ModelError(message)
    patterns = _CONFIG if config_only else _PATTERNS.get(holds, _ALL)
    return _checked(_from_hub(name, who, token, patterns, revision), who, holds)


def here(model: str | os.PathLike[str]) -> Path | None:
    """The directory of a model that is on this machine under that name; None for one of the hub. Fetches nothing."""
    local, folder = Path(model).expanduser(), os.environ.get(MODELS_FOLDER)
    if local.is_dir():
        return local
    return Path(folder) / model if folder and (Path(folder) / model).is_dir() else None


def content_hash(path: Path) -> str:
    """A hash of a file, or of the files of a model's directory: names and bytes, 32 hex digits."""
    state = xxhash.xxh3_128()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        state.update(str(file.relative_to(path if path.is_dir() else path.parent)).encode())
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                state.update(block)
    return state.hexdigest()


def _checked(path: Path, who: str, holds: str) -> Path:
    if not (path / holds).is_file():
        held = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        message = (
            f"{who}: {path} has no {holds} (it holds {held}). Is it the directory of another thing, or incomplete?"
        )
        raise ModelError(message)
    return path


def _from_hub(name: str, who: str, token: str | None, patterns: tuple[str, ...], revision: str | None) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        fetch = partial(huggingface_hub.snapshot_download, name, token=token)
        if revision is not None:
            fetch = partial(fetch, revision=revision)
        path = Path(fetch(allow_patterns=list(patterns)))
        if patterns is _ALL and not any(path.glob("*.safetensors")):
            fetch(allow_patterns=list(_PICKLED))
    except errors.GatedRepoError as error:
        message = (
            f"{who}: the model {name!r} is gated. Ask for access on its page on the hub, then pass token=... or log "
            f"in with `hf auth login`; or pass the directory of a copy with model=..."
        )
        raise ModelError(message) from error
    except errors.RepositoryNotFoundError as error:
        message = (
            f"{who}: there is no model {name!r} on the hub (or it is private and no token was given), and no such "
            "directory here."
        )
        raise ModelError(message) from error
    except errors.RevisionNotFoundError as error:
        message = f"{who}: the model {name!r} has no revision {revision!r} on the hub: no such branch, tag or commit."
        raise ModelError(message) from error
    except errors.HFValidationError as error:
        message = f"{who}: {name!r} is neither a directory nor an id of the hub (owner/name)."
        raise ModelError(message) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
        message = (
            f"{who}: the model {name!r} is not in the hub's cache here and the hub cannot be reached "
            f"({type(error).__name__}). Copy the model to this machine and pass its directory with model=..., or put "
            f"it at {name} below a folder that the environment variable {MODELS_FOLDER} names."
        )
        raise ModelError(message) from error
    return path


def read_config(path: Path, *, who: str) -> dict[str, Any]:
    """``config.json`` of a model directory.

    Raises:
        ModelError: It is not a JSON object.
    """
    try:
        config = orjson.loads((path / "config.json").read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"{who}: {path / 'config.json'} cannot be read: {error}"
        raise ModelError(message) from error
    if not isinstance(config, dict):
        message = f"{who}: {path / 'config.json'} must hold a JSON object."
        raise ModelError(message)
    return config


def load_pretrained(
    auto: Any, path: Path, what: str, *, who: str, dtype: torch.dtype, attention: str | None = None
) -> Any:
    """What a class of ``transformers`` (``AutoModel`` …) loads from a directory, whole, on the CPU, ready to run.

    Nothing is printed, and no code of the directory is run.

    Args:
        auto: The class.
        path: The directory.
        what: What it should be, with its article, for the error message: "a sequence classifier".
        who: The stage that asks.
        dtype: The number format of the weights.
        attention: Which implementation of attention; the model's own choice by default.

    Raises:
        ModelError: It is nothing of the kind, or weights are missing, which would then be random.
    """
    from transformers.utils import logging as transformers_logging

    if not any(path.glob("*.safetensors")) and not any(path.glob("*.bin")):
        load_tensors(path, who=who)  # says so
    bars: Any = transformers_logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()  # a library has no business to print
    try:
        model, report = auto.from_pretrained(
            path, trust_remote_code=False, output_loading_info=True, dtype=dtype, attn_implementation=attention
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        message = f"{who}: {path} cannot be loaded as {what}: {error}"
        raise ModelError(message) from error
    finally:
        if shown:
            bars.enable_progress_bar()
    # BERT's own pooler is left out of many files of encoders, and not used of those.
    spare = "pooler." if what == ENCODER else None
    missing = sorted(name for name in report["missing_keys"] if spare is None or spare not in name)
    if missing or report.get("mismatched_keys"):
        message = (
            f"{who}: {path} lacks weights of {what} ({', '.join(missing[:3]) or 'of that shape'}): they would be "
            "random. Is the copy incomplete, or was the model never trained for this?"
        )
        raise ModelError(message)
    return model.eval()


def load_tensors(path: Path, *, who: str) -> Mapping[str, torch.Tensor]:
    """All weights of a model directory (or of one file), by name, on the CPU.

    Safetensors, whole or in shards; where there are none, ``.bin``/``.pth`` files, of which tensors alone are read.

    Raises:
        ModelError: There are none, or a file is damaged.
    """
    import safetensors
    import torch
    from safetensors.torch import load_file

    files = [path] if path.is_file() else sorted(path.glob("*.safetensors")) or sorted(path.glob("*.bin"))
    if not files:
        message = (
            f"{who}: {path} holds no weights (no *.safetensors). Was the download complete, or does the repository "
            "keep them in Git LFS?"
        )
        raise ModelError(message)
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            if file.suffix == ".safetensors":
                tensors |= load_file(file)
            else:
                tensors |= torch.load(file, map_location="cpu", weights_only=True)
        except (safetensors.SafetensorError, OSError, RuntimeError, EOFError, ValueError, TypeError) as error:
            message = f"{who}: the weights {file} cannot be read ({error}). Copy or download them again."
            raise ModelError(message) from error
        except Exception as error:
            message = (
                f"{who}: {file} holds more than tensors ({type(error).__name__}), and Tamis runs no code from a "
                "weights file. Save the state_dict alone, best as safetensors."
            )
            raise ModelError(message) from error
    return tensors
