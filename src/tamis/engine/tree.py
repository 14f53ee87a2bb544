"""Merging the states of a fold in a tree whose shape depends on the number of splits alone.

So even sums of floats come out the same, in whatever order splits finish and whatever engine runs them; at most
about log2(splits) states wait where splits finish in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["MergeTree"]


class MergeTree:
    """The states of ``leaves`` splits become one.

    >>> tree = MergeTree(3, lambda left, right: f"({left}{right})")
    >>> for index, state in enumerate("abc"):
    ...     tree.add(index, state)
    >>> tree.root
    '((ab)c)'
    """

    def __init__(self, leaves: int, merge: Callable[[Any, Any], Any]) -> None:
        self._merge = merge
        self._widths = [leaves]
        """Nodes of each level, the leaves first."""
        while self._widths[-1] > 1:
            self._widths.append((self._widths[-1] + 1) // 2)
        self._held: dict[tuple[int, int], Any] = {}
        self.root: Any = None
        """The state of all, once every split was added; None where there are none."""

    def add(self, index: int, state: Any) -> None:
        """Add the state of one split; each is added once, in any order."""
        for level, width in enumerate(self._widths):
            if width == 1:
                self.root = state
                return
            sibling = index ^ 1
            if sibling < width:  # else it is the odd one at the end, and goes up by itself
                if (level, sibling) not in self._held:
                    self._held[level, index] = state
                    return
                other = self._held.pop((level, sibling))
                state = self._merge(other, state) if index & 1 else self._merge(state, other)
            index //= 2
