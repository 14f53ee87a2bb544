"""Fixtures that several test files share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The first example may wait for a kernel to be compiled.
settings.register_profile("tamis", deadline=None)
settings.load_profile("tamis")


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[..., str]:
    """Write documents as JSONL below the test's folder; returns the path."""

    def write(name: str, documents: Iterable[dict[str, Any]]) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            for document in documents:
                file.write(json.dumps(document, ensure_ascii=False) + "\n")
        return str(path)

    return write


def read_jsonl(*paths: Path) -> list[dict[str, Any]]:
    """All documents of some JSONL files."""
    return [json.loads(line) for path in paths for line in path.read_bytes().split(b"\n") if line]


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder below ``folder`` with a hash of its content: equal trees, equal directories."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(autouse=True, scope="session")
def _cache_of_its_own(tmp_path_factory):
    """Measurements of this machine are kept in a folder of the tests, not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMIS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def one_thread():
    """Models of a few thousand weights spend all their time waking threads, on a busy machine a hundredfold."""
    import torch  # seconds, and only for the tests that run models

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
