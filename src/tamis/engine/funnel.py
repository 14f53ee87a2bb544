"""What became of the documents of a run, stage by stage, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tamis.engine.tally import Tally

__all__ = ["FunnelRow", "funnel"]


@dataclass(frozen=True)
class FunnelRow:
    """One line of the funnel."""

    stage: str
    reason: str
    documents: int
    share: float
    """Of all records read, in [0, 1]."""


def funnel(tally: Tally, stages: Sequence[str]) -> list[FunnelRow]:
    """Read, what each stage dropped for which reason (in the order of the stages), quarantined, kept."""

    def row(stage: str, reason: str, n: int) -> FunnelRow:
        return FunnelRow(stage, reason, n, n / tally.records if tally.records else 0.0)

    rows = [row("read", "", tally.records)]
    rows += [row("quarantined", cause, n) for cause, n in sorted(tally.quarantined.items(), key=lambda i: -i[1])]
    order = {stage: i for i, stage in enumerate(stages)}
    found = [(stage, "changed, not dropped", n) for stage, n in tally.changed.items()]
    found += [(stage, reason, n) for (stage, reason), n in tally.rejected.items()]
    found.sort(key=lambda item: (order.get(item[0], len(order)), -item[2], item[1]))
    rows += [row(*item) for item in found]
    return [*rows, row("kept", "", tally.kept)]
