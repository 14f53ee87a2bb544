"""Data sets of the hub by name, with a file system in memory that stands in for the hub."""

from __future__ import annotations

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tamis import DocumentDataset
from tamis.errors import InputError, UnknownNameError, UsageError
from tamis.io import remote
from tamis.recipe import load_recipe


class Hub(MemoryFileSystem):
    """Answers to hf:// from memory; as the hub's does, it takes a revision for a part of the path."""

    protocol = "hf"
    store: dict = {}  # noqa: RUF012  as its base class
    pseudo_dirs = [""]  # noqa: RUF012
    reachable = True

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("hf://").strip("/")

    def unstrip_protocol(self, name):
        return "hf://" + name.strip("/")

    def ls(self, path, detail=True, **kwargs):
        if not Hub.reachable:
            raise ConnectionError("no route to the hub")
        return super().ls(path, detail=detail, **kwargs)


@pytest.fixture
def hub(monkeypatch):
    known = fsspec.get_filesystem_class("hf")
    fsspec.register_implementation("hf", Hub, clobber=True)
    monkeypatch.setattr(remote, "_connected", {})
    monkeypatch.setattr(Hub, "store", {})
    monkeypatch.setattr(Hub, "reachable", True)
    fs = Hub(skip_instance_cache=True)
    for split, rows in (("train", 5), ("test", 2)):
        for part in range(2):
            name = f"/datasets/owner/name@refs/convert/parquet/default/{split}/000{part}.parquet"
            with fs.open(name, "wb") as file:
                pq.write_table(pa.table({"text": [f"{split} {part} {i}" for i in range(rows)]}), file)
    yield fs
    fsspec.register_implementation("hf", known, clobber=True)


def test_a_data_set_is_read_by_its_name(hub, tmp_path):
    assert DocumentDataset.read_hub("owner/name").count() == 10
    dataset = DocumentDataset.read_hub("owner/name", split="test", add_filename=True)
    assert dataset.to_arrow().column("text").to_pylist() == ["test 0 0", "test 0 1", "test 1 0", "test 1 1"]
    assert DocumentDataset.read_hub("owner/name", split="*").count() == 14
    dataset.to_json(tmp_path / "out", progress="off")
    assert (tmp_path / "out" / "part-00000.jsonl").read_text().count("\n") == 4
    assert DocumentDataset.read_parquet("hf://datasets/owner/name@refs/convert/parquet/default/test").count() == 4
    recipe = tmp_path / "r.toml"
    recipe.write_text('[input]\npath = "owner/name"\nformat = "hub"\nsplit = "test"\n')
    assert load_recipe(recipe).dataset().count() == 4


def test_what_is_not_there_is_said_with_what_is(hub):
    with pytest.raises(
        UnknownNameError, match=r"the data set owner/name: there is no split 'tests'. Did you mean 'test'"
    ):
        DocumentDataset.read_hub("owner/name", split="tests")
    with pytest.raises(UnknownNameError, match=r"no configuration 'en'.*There is: default"):
        DocumentDataset.read_hub("owner/name", config="en")
    with pytest.raises(InputError, match=r"the hub has no data set 'owner/other'.*hf auth login"):
        DocumentDataset.read_hub("owner/other")
    with pytest.raises(UsageError, match="called owner/name"):
        DocumentDataset.read_hub("hf://datasets/owner/name")


def test_a_hub_that_cannot_be_reached_is_said(hub, monkeypatch):
    monkeypatch.setenv("TAMIS_RETRY_SECONDS", "0.2")
    monkeypatch.setattr(Hub, "reachable", False)
    with pytest.raises(
        InputError, match=r"hf://datasets/owner/name.* cannot be listed: it failed for .*no route to the hub"
    ):
        DocumentDataset.read_hub("owner/name")
