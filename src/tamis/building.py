"""Making a stage, or any dataclass, of the settings that a file holds: names and types are checked first."""

from __future__ import annotations

import dataclasses
import inspect
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any

from tamis.errors import RecipeError, TamisError, UnknownNameError

__all__ = ["build"]


def build(make: Callable[..., Any], settings: Mapping[str, Any], where: str, *, also: Sequence[str] = ()) -> Any:
    """Call a stage's class, or any dataclass, with settings of a file; names and types are checked.

    Args:
        make: What is called.
        settings: Its arguments, as TOML holds them.
        where: Who asks, for the error message.
        also: Names that are offered beside its own where one is wrong.

    Raises:
        UnknownNameError: A setting has a name that it does not know.
        RecipeError: A value has the wrong type, one is missing, or it is refused.
    """
    parameters = inspect.signature(make).parameters
    fields = dataclasses.fields(make) if dataclasses.is_dataclass(make) else ()
    secret = {f.name: f.metadata["secret"] for f in fields if f.metadata.get("secret")}
    for key in settings:
        if key in secret:
            # A field may say itself where its secret belongs; most are tokens of the hub.
            instead = secret[key] if isinstance(secret[key], str) else _ELSEWHERE
            message = f"{where}: a recipe is no place for a secret such as {key!r}. {instead}"
            raise RecipeError(message)
        if key not in parameters:
            valid = [name for name in parameters if name not in secret]
            raise UnknownNameError.of(key, [*valid, *also], kind="option", where=where)
    # A dataclass may inherit fields whose types are named in another module: its class knows where, __init__ does not.
    plain_class = inspect.isclass(make) and not dataclasses.is_dataclass(make)
    hints = typing.get_type_hints(make.__init__ if plain_class else make)
    for key, value in settings.items():
        _check_type(value, hints.get(key, Any), f"{where}: {key}")
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in settings]
    if missing:
        message = f"{where}: the option {missing[0]!r} is missing."
        raise RecipeError(message)
    try:
        return make(**settings)
    except TamisError as error:
        message = f"{where}: {error}"
        raise RecipeError(message) from error


_ELSEWHERE = "Log in with `hf auth login`, or set the environment variable HF_TOKEN."
_PLAIN: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _check_type(value: Any, wanted: Any, where: str) -> None:
    """Refuse "16" for 16: values that TOML can hold are checked, the rest is the stage's own business."""
    options = typing.get_args(wanted) if typing.get_origin(wanted) in {typing.Union, UnionType} else (wanted,)
    found = [_kind(option) for option in options]
    kinds = [kind for kind in found if kind not in {None, NoneType}]
    if not kinds or None in found or any(_fits(value, kind) for kind in kinds):
        return
    names = [_PLAIN[k] for k in _PLAIN if k in kinds] + ["a list of text" for k in kinds if k is list]
    message = f"{where} must be {' or '.join(names)}, not {value!r}."
    raise RecipeError(message)


def _kind(wanted: Any) -> type | None:
    """Which of the types of TOML an annotation means; None for one that is not checked."""
    origin = typing.get_origin(wanted)
    if origin is typing.Literal:  # which words there are, the stage says itself
        found = {type(value) for value in typing.get_args(wanted)}
        return found.pop() if len(found) == 1 else None
    if origin is Sequence and typing.get_args(wanted) == (str,):
        return list
    if wanted in _PLAIN or wanted is NoneType:
        return wanted  # type: ignore[no-any-return]
    # A file can name neither a function nor a path that is more than text.
    return NoneType if origin in {Callable, os.PathLike} else None


def _fits(value: Any, kind: type | None) -> bool:
    if kind is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return type(value) is kind or (kind is float and type(value) is int)
