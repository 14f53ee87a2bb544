"""What happened to the records of a split or a run, as numbers that add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

from tamis.errors import StageError
from tamis.meter import Measures

__all__ = ["Tally"]


@dataclass
class Tally:
    """Counts of one split, or of many: tallies are added, in any order.

    Every record that was read is kept, rejected by one stage for one reason, or quarantined for one cause;
    :meth:`check` holds the sum.
    """

    records: int = 0
    """Records read, good or bad. Blank lines are no records."""
    kept: int = 0
    bytes_in: int = 0
    """Bytes of input as stored (compressed, where the input is)."""
    bytes_out: int = 0
    lines: int = 0
    """Physical lines (rows, for Parquet), blank ones too."""
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Records by (stage, reason)."""
    quarantined: Counter[str] = field(default_factory=Counter)
    """Records by cause."""
    changed: Counter[str] = field(default_factory=Counter)
    """Records in which a stage changed a column that was there, by stage; they are kept or rejected besides."""
    measures: Measures[tuple[str, str]] = field(default_factory=Measures)
    """What stages counted (:mod:`tamis.meter`), by (stage, name). Integers are functions of the documents and go to
    disk; floats tell how this process went and do not."""

    @property
    def done(self) -> int:
        """Records that are kept, rejected or quarantined: those whose way has ended."""
        return self.kept + self.total_rejected + self.total_quarantined

    @property
    def total_rejected(self) -> int:
        """Records that some filter marked."""
        return self.rejected.total()

    @property
    def total_quarantined(self) -> int:
        """Records that could not be used."""
        return self.quarantined.total()

    @property
    def bad_share(self) -> float:
        """Quarantined records / records, in [0, 1]; 0 where there are none."""
        return self.total_quarantined / self.records if self.records else 0.0

    def __iadd__(self, other: Tally) -> Self:
        self.records += other.records
        self.kept += other.kept
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.lines += other.lines
        self.rejected.update(other.rejected)
        self.quarantined.update(other.quarantined)
        self.changed.update(other.changed)
        self.measures.add(other.measures)
        return self

    def __add__(self, other: Tally) -> Tally:
        total = Tally()
        total += self
        total += other
        return total

    def check(self, where: str) -> None:
        """Hold in = kept + rejected + quarantined, or raise :class:`StageError` (a defect of Tamis)."""
        if self.done != self.records:
            message = (
                f"{where}: {self.records} records came in, but {self.kept} kept + {self.total_rejected} rejected + "
                f"{self.total_quarantined} quarantined are {self.done}. This is a defect of Tamis; please report it."
            )
            raise StageError(message)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, in a deterministic order; ``measures`` only where there are some."""
        rejected: dict[str, dict[str, int]] = {}
        for (stage, reason), n in sorted(self.rejected.items()):
            rejected.setdefault(stage, {})[reason] = n
        measures: dict[str, dict[str, float]] = {}
        for (stage, name), amount in sorted(self.measures.items()):
            if isinstance(amount, int):
                measures.setdefault(stage, {})[name] = amount
        return {
            "records": self.records,
            "kept": self.kept,
            "rejected": rejected,
            "quarantined": dict(sorted(self.quarantined.items())),
            "changed": dict(sorted(self.changed.items())),
            "lines": self.lines,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            **({"measures": measures} if measures else {}),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The inverse of :meth:`to_json`, but for the floats that it leaves out."""
        rejected = Counter(
            {(stage, reason): n for stage, reasons in value["rejected"].items() for reason, n in reasons.items()}
        )
        return cls(
            records=value["records"],
            kept=value["kept"],
            bytes_in=value["bytes_in"],
            bytes_out=value["bytes_out"],
            lines=value["lines"],
            rejected=rejected,
            quarantined=Counter(value["quarantined"]),
            changed=Counter(value["changed"]),
            measures=Measures(
                {
                    (stage, name): amount
                    for stage, amounts in value.get("measures", {}).items()
                    for name, amount in amounts.items()
                }
            ),
        )
