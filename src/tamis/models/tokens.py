"""Token ids of many texts as one ragged array: never padded, never Python lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["Tokens"]


@dataclass(frozen=True)
class Tokens:
    """The token ids of some texts, one text after the other.

    Padded Python lists cost 67 kB for a text of 100 tokens at a limit of 4,096; this costs 408 bytes.
    """

    ids: npt.NDArray[np.int32]
    """All ids, shape [tokens]."""
    offsets: npt.NDArray[np.int64]
    """Where each text begins, and where the last ends, shape [texts + 1]."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text, shape [texts]."""
        return np.diff(self.offsets)

    def __getitem__(self, row: int) -> npt.NDArray[np.int32]:
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: npt.NDArray[np.int64]) -> Tokens:
        """The texts of these rows, in this order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # For every token wanted, where it stands now: its place in its text, from where that text begins.
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return Tokens(self.ids[places], offsets)

    def padded(self, pad_id: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """``(input_ids, attention_mask)``, each of shape [texts, longest], int64, padded on the right."""
        lengths = self.lengths
        longest = int(lengths.max(initial=0))
        mask = np.arange(longest) < lengths[:, None]
        ids = np.full(mask.shape, pad_id, dtype=np.int64)
        ids[mask] = self.ids[self.offsets[0] : self.offsets[-1]]
        return ids, mask.astype(np.int64)

    def to_arrow(self) -> pa.LargeListArray:
        """The same as an Arrow list of int32 per text; copies nothing."""
        return pa.LargeListArray.from_arrays(pa.array(self.offsets), pa.array(self.ids))

    @classmethod
    def from_lists(cls, lists: list[list[int]]) -> Tokens:
        """From one list of ids per text."""
        offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in lists])]).astype(np.int64)
        ids = np.fromiter((i for ids in lists for i in ids), dtype=np.int32, count=int(offsets[-1]))
        return cls(ids, offsets)
