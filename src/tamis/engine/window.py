"""Events held back until a stage that wants to see many documents at once has enough of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from tamis.engine.job import Event, Rejected
from tamis.io.records import Bad
from tamis.table import Batch, RawLines

__all__ = ["Window"]

_BYTES = 64 << 20
"""Bytes held at most, beside the last batch. A window of 4,096 documents of the web (2 to 4 kB each, as columns and as
raw lines) takes 15 to 30 MB; at 64 MB memory does not grow with the size of documents or with what is dropped between
them. A split is 64 MB of input as well, so larger windows would rarely fill."""


class Window:
    """Batches for one call of a stage, with everything that happened between them, in order.

    With ``documents=0`` every batch is a window of its own.
    """

    def __init__(self, documents: int) -> None:
        self._documents = documents
        self._rows = 0
        self._bytes = 0
        self.events: list[Event] = []

    def __bool__(self) -> bool:
        return bool(self.events)

    @property
    def full(self) -> bool:
        """Whether there are enough documents, or as many bytes as may be held."""
        return self._rows >= max(self._documents, 1) or self._bytes >= _BYTES

    def takes(self, batch: Batch) -> bool:
        """Whether the batch may go to the stage together with those that are held: its columns are the same."""
        first = next((event for event in self.events if isinstance(event, Batch)), batch)
        return bool(first.table.schema.equals(batch.table.schema))

    def hold(self, event: Event) -> None:
        """Hold a batch, or what happened after one."""
        if isinstance(event, Batch):
            self._rows += event.table.num_rows
            if not self.full:
                event = _without_the_rest(event)
            self._bytes += _held(event)
        elif isinstance(event, Rejected):
            event = replace(event, batch=_without_the_rest(event.batch))
            self._bytes += _held(event.batch)
        elif isinstance(event, Bad):
            self._bytes += len(event.raw)
        self.events.append(event)

    def table(self) -> pa.Table:
        """The documents of all batches; nothing is copied."""
        tables = [event.table for event in self.events if isinstance(event, Batch)]
        return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")


def _held(batch: Batch) -> int:
    raw = batch.origin.raw
    return int(batch.table.nbytes) + (0 if raw is None else len(raw.data))


def _without_the_rest(batch: Batch) -> Batch:
    """The batch without the block its lines were read in, where most of the block belongs to documents that are gone.

    Otherwise a filter that drops nine of ten would fill the window with what it dropped. Copying lines costs a
    thousandth of what a model does with them.
    """
    raw = batch.origin.raw
    if raw is None:
        return batch
    sizes = raw.ends - raw.starts + 1
    if 2 * int(sizes.sum()) > len(raw.data):
        return batch
    lines = bytearray().join(part for row in range(len(raw)) for part in (raw[row], b"\n"))
    starts = np.cumsum(sizes) - sizes
    alone = RawLines(lines, starts, starts + sizes - 1, raw.present)
    return Batch(batch.table, replace(batch.origin, raw=alone))
