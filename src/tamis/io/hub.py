"""Data sets of the Hugging Face hub by name: where their Parquet files lie."""

from __future__ import annotations

from functools import partial

from tamis.errors import InputError, UnknownNameError, UsageError
from tamis.io.remote import connect, persist

__all__ = ["hub_files"]

_PARQUET = "refs/convert/parquet"
"""The branch in which the hub keeps every data set as Parquet: CONFIGURATION/SPLIT/0000.parquet, ..."""
_PATIENCE = 60.0
"""Seconds until a hub that does not answer is given up when a data set is looked up."""


def hub_files(name: str, config: str, split: str) -> str:
    """The URL pattern of a data set's Parquet files; asks the hub which configurations and splits there are.

    Raises:
        UsageError: The name is none, or there is no such configuration or split.
        InputError: There is no such data set, or the hub cannot be reached.
    """
    if name.count("/") > 1 or "@" in name or "://" in name or not name.strip("/"):
        message = f"the hub's data sets are called owner/name, not {name!r}. A URL (hf://...) goes to read_parquet."
        raise UsageError(message)
    root = f"hf://datasets/{name}@{_PARQUET}"
    where = f"the data set {name}"
    for wanted, kind in ((config, "configuration"), (split, "split")):
        if wanted != "*" and "*" not in root:
            have = _folders(root, name)
            if wanted not in have:
                raise UnknownNameError.of(wanted, have, kind=kind, where=where)
        root = f"{root}/{wanted}"
    return f"{root}/*.parquet"


def _folders(url: str, name: str) -> list[str]:
    fs, path = connect(url)
    try:
        found = persist(partial(fs.ls, path, detail=True), f"{url} cannot be listed", InputError, within=_PATIENCE)
    except FileNotFoundError as error:
        message = (
            f"the hub has no data set {name!r} that can be read as Parquet. Look at "
            f"https://huggingface.co/datasets/{name}; where it is gated or private, log in with `hf auth login`."
        )
        raise InputError(message) from error
    return sorted(str(entry["name"]).rsplit("/", 1)[-1] for entry in found if entry["type"] == "directory")
