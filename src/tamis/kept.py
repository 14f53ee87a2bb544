"""The recipe of a run, kept in its directory: so that the run can be explained, and looked at, later."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tamis.dataset import DocumentDataset
from tamis.engine.ledger import MANIFEST, RECIPE
from tamis.errors import UsageError
from tamis.filters.measures import scored_steps
from tamis.io.remote import parted
from tamis.io.store import Store, open_store
from tamis.recipe import Recipe

__all__ = ["Kept", "keep_recipe", "kept_dataset", "kept_recipe", "toml_line", "toml_of", "toml_section"]


@dataclass(frozen=True)
class Kept:
    """What a run did."""

    recipe: Recipe
    """Its input and stages; paths are absolute."""
    limit: int | None
    """Records that were read, where not all were."""
    scored: bool = False
    """Whether the scores alone were written (`tamis score`), and nothing was dropped."""

    def dataset(self) -> DocumentDataset:
        """The dataset that the run read, with its stages."""
        return self.recipe.dataset(self.limit)


def keep_recipe(output: str, recipe: Recipe, limit: int | None, *, scored: bool = False) -> None:
    """Write down in a run's directory what it did.

    Local paths are made absolute; what a URL must not show is left out.
    """

    def told(path: str) -> str:
        return parted(path)[0] if "://" in path else str(Path(path).expanduser().absolute())

    settings = dict(recipe.input)
    path = settings.get("path")
    if settings.get("format") != "hub" and path is not None:
        settings["path"] = [told(str(p)) for p in path] if isinstance(path, list) else told(str(path))
    content = {"input": settings, "stages": list(recipe.stages), "limit": limit} | ({"scored": True} if scored else {})
    open_store(output).replace(RECIPE, orjson.dumps(content, option=orjson.OPT_INDENT_2, default=str) + b"\n")


def kept_recipe(store: Store) -> Kept | None:
    """What is written down there; None where nothing is."""
    content = store.read(RECIPE)
    if content is None:
        return None
    kept = orjson.loads(content)
    recipe = Recipe("the recipe of the run", kept["input"], tuple(kept["stages"]))
    return Kept(recipe, kept["limit"], kept.get("scored", False))


def kept_dataset(output: str) -> DocumentDataset:
    """The dataset that a run read, with its stages.

    Raises:
        UsageError: The directory holds no complete run, or one that was not made by a recipe.
    """
    store = open_store(output)
    kept = kept_recipe(store)
    if kept is not None:
        dataset = kept.dataset()
        return DocumentDataset(dataset.plan.source, scored_steps(dataset.steps)) if kept.scored else dataset
    if store.read(MANIFEST) is None:
        message = f"{output} holds no complete run of Tamis."
    else:
        message = (
            f"{output} was not made by a recipe (`tamis run`), so what its stages were is not known here. In "
            "Python: tamis.explain(dataset, id), with the dataset that wrote it."
        )
    raise UsageError(message)


# -- as TOML --------------------------------------------------------------------------------------------------


def toml_of(recipe: Recipe) -> str:
    """The recipe as a file: its input and stages, and its output and run where it has these."""
    parts = [toml_section("[input]", recipe.input)]
    parts += [toml_section("[[stage]]", stage) for stage in recipe.stages]
    rest = (("output", recipe.output), ("run", recipe.run))
    return "\n".join([*parts, *(toml_section(f"[{name}]", found) for name, found in rest if found)])


def toml_section(head: str, settings: Mapping[str, Any]) -> str:
    """A section of a recipe, with a blank line behind it; settings that are None are left out.

    Raises:
        UsageError: TOML has no such value.

    >>> print(toml_section("[[stage]]", {"use": "Split", "seed": 1, "by": None, "proportions": {"a b": 0.5}}), end="")
    [[stage]]
    use = "Split"
    seed = 1
    proportions = { "a b" = 0.5 }
    """
    return "\n".join([head, *(toml_line(key, value) for key, value in settings.items() if value is not None), ""])


def toml_line(key: str, value: Any) -> str:
    """A setting of a recipe as a line."""
    return f"{key if re.fullmatch('[A-Za-z0-9_-]+', key) else _value(key)} = {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)  # inf and nan are words of TOML as well
    if isinstance(value, str):
        # A text of JSON is one of TOML, but for the delete character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        inside = ", ".join(toml_line(str(k), v) for k, v in value.items() if v is not None)
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    message = f"a recipe cannot hold {value!r}; write this stage in Python."
    raise UsageError(message)
