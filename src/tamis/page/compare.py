"""Two runs, document by document: what one kept and the other dropped, and why."""

from __future__ import annotations

from collections import Counter

from tamis.page.content import Decided, Differences
from tamis.page.documents import excerpt_of
from tamis.page.gather import Looked
from tamis.page.sampled import Sampled

__all__ = ["differences"]

_SHOWN = 200
_LONGEST = 2_000
"""Characters of a text."""
_MOST_REASONS = 60


def differences(first: Looked, second: Looked) -> Differences | None:
    """What two runs decided of the documents that are in both of their samples; None where one has no sample.

    Documents are known by their ids. Where several of a sample have one id, its first stands for them.
    """
    if first.sample is None or second.sample is None:
        return None
    ours, theirs = _rows(first.sample), _rows(second.sample)
    both = [(row, theirs[name]) for name, row in ours.items() if name in theirs]
    counts: Counter[tuple[bool, bool]] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    differing: list[Decided] = []
    for a, b in both:
        kept = bool(first.sample.decided[a] < 0), bool(second.sample.decided[b] < 0)
        counts[kept] += 1
        if kept[0] == kept[1]:
            continue
        said = _said(first, first.sample, a), _said(second, second.sample, b)
        reasons[said] += 1
        if len(differing) < _SHOWN:
            text, cut = excerpt_of(first.sample.text(a), _LONGEST)
            differing.append(Decided(first.sample.ids[a], text, cut, *said))
    return Differences(
        len(both),
        counts[True, True],
        counts[True, False],
        counts[False, True],
        counts[False, False],
        tuple((*said, n) for said, n in reasons.most_common(_MOST_REASONS)),
        tuple(differing),
        _note(first.sample, second.sample, len(both)),
    )


def _rows(sample: Sampled) -> dict[str, int]:
    found: dict[str, int] = {}
    for row, name in enumerate(sample.ids):
        found.setdefault(name, row)
    return found


def _said(looked: Looked, sample: Sampled, row: int) -> str:
    """Stage and reason; "" where the document was kept."""
    stage = int(sample.decided[row])
    if stage < 0:
        return ""
    label = looked.stages[stage].label if stage < len(looked.stages) else "dropped"
    return f"{label}: {sample.reasons[row]}"


def _note(first: Sampled, second: Sampled, both: int) -> str:
    if not both:
        return (
            "The samples share no document: the runs read other inputs, or documents get their ids from texts that "
            "differ. Counts and distributions can be compared all the same."
        )
    fewer = min(first.rows, second.rows)
    if both < fewer:
        return f"{fewer - both:,} of the {fewer:,} documents in the smaller sample are not in the other one."
    return ""
