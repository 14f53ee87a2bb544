"""The campaign: 200 runs of a small recipe with random faults; nothing lost, nothing twice, nobody called."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import campaign_model
import pytest
from campaign_model import Setting, expected, judge

CAMPAIGN = Path(__file__).parent / "campaign.py"
SEED = 7


def test_two_hundred_runs_with_random_faults():
    done = subprocess.run(
        [sys.executable, str(CAMPAIGN), "--runs", "200", "--seed", str(SEED)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    rows = {
        cells[0]: [int(n.replace(",", "")) for n in cells[1:]]
        for line in done.stdout.splitlines()
        if line.startswith("| ") and (cells := [c.strip() for c in line.strip("|").split("|")])[1].isdigit()
    }
    injected, runs, ended, failed, resumed, lost, duplicated, hand = rows.pop("**all**")
    assert (runs, ended, lost, duplicated, hand) == (200, 200, 0, 0, 0)
    # The table counts for something only if faults strike, and attempts do fail and are gone on with. Whether one that
    # comes at a time strikes before its run has ended is up to the machine; all others must.
    assert injected >= 200
    assert failed > 20
    assert resumed > 50
    by_time = {"driver killed at a time", "worker killed at a time", "worker stopped for a while"}
    assert {kind for kind, numbers in rows.items() if not numbers[0]} <= by_time, done.stdout


# -- the campaign's own judgement can say no -----------------------------------------------------------------


@pytest.fixture
def finished(tmp_path):
    """A directory as the model wants it, written without Tamis."""
    setting = Setting(partition=False, rejects=False)
    must = expected(setting)
    out = tmp_path / "out"
    (out / "_tamis").mkdir(parents=True)
    (out / "_quarantine").mkdir()
    documents = [d for kept in must.kept.values() for d in kept]
    write(out / "part-00000.jsonl", documents)
    write(out / "_quarantine/records.jsonl", [{"file": f, "line": n, "cause": c} for f, n, c in must.quarantined])
    records = len(documents) + len(must.rejected) + len(must.quarantined)
    totals = {"records": records, "kept": len(documents), "quarantined": {"all": len(must.quarantined)}}
    write(out / "_tamis/manifest.json", [{"totals": totals}])
    return setting, out, documents


def write(path: Path, documents: list[dict]) -> None:
    import json

    path.write_text("".join(json.dumps(d) + "\n" for d in documents))


def test_a_right_directory_is_right(finished):
    setting, out, _ = finished
    assert judge(out, setting).right


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (lambda d: d[1:], (1, 0, ())),
        (lambda d: [*d, d[3]], (0, 1, ())),
        (lambda d: [d[1], d[0], *d[2:]], (0, 0, r"another order or have other content")),
        (lambda d: [{**d[0], "text": "x"}, *d[1:]], (0, 0, r"another order or have other content")),
    ],
)
def test_one_document_less_more_elsewhere_or_changed_is_seen(finished, change, verdict):
    setting, out, documents = finished
    write(out / "part-00000.jsonl", change(documents))
    found = judge(out, setting)
    assert (found.lost, found.duplicated) == verdict[:2]
    assert re.search(verdict[2], " ".join(found.wrong)) if verdict[2] else not found.wrong
    assert not found.right


def test_a_quarantine_that_says_something_else_is_seen(finished):
    setting, out, _ = finished
    quarantine = out / "_quarantine/records.jsonl"
    write(quarantine, campaign_model.documents(quarantine)[1:])
    assert "the quarantine holds besides" in judge(out, setting).wrong[0]
