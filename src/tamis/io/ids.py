"""Ids for documents that bring none."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pyarrow as pa

from tamis.hashing import document_id
from tamis.table import is_text

__all__ = ["fill_ids"]


def fill_ids(given: pa.Array | pa.ChunkedArray | None, texts: Iterable[object]) -> pa.Array | pa.ChunkedArray:
    """The ids, with :func:`tamis.hashing.document_id` of the text where a document has none.

    Ids that are not text (numbers) are left as they are.
    """
    if given is not None and not (is_text(given.type) and given.null_count):
        return given
    known = itertools.repeat(None) if given is None else given.to_pylist()
    made = [
        document_id(t if isinstance(t, str) else None) if i is None else i for i, t in zip(known, texts, strict=False)
    ]
    return pa.array(made, pa.string() if given is None else given.type)
