"""The seeded campaign: many runs of a small recipe, each with random faults, each held to a model of the recipe.

    python tests/faults/campaign.py --runs 400 --seed 7

prints the table. One run of it again, with all that was said: ``--seed 7 --only 123``.

A run is a directory and the attempts that it takes to fill it: each of the drawn faults strikes one attempt, then
there is an attempt with none. Every attempt must end well, by the signal that it was sent, or with a sentence; the
first that ends well must leave exactly what the model says, and the bytes of an undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from campaign_faults import AFTER, KINDS, Calm, Fault, draw, strike_after
from campaign_model import Setting, judge, tree, write_input
from campaign_processes import BUG, Attempt, Outcome, cli, one_thread

KILLER = {"always": "document that kills, always", "twice": "document that kills, twice"}
SPARE = {"": 0, "always": 1, "twice": 2}
"""Attempts without an injected fault that may yet die: with one worker, such a document takes the driver along."""


@dataclass
class Run:
    """What became of one run."""

    number: int
    setting: dict[str, Any]
    faults: list[str] = field(default_factory=list)
    """Kinds that struck, in order."""
    attempts: int = 0
    ended: bool = False
    """Whether an attempt ended well."""
    sentences: int = 0
    """Attempts that failed with a sentence."""
    resumed: int = 0
    """Attempts that went on with what an earlier one had left."""
    lost: int = 0
    duplicated: int = 0
    hand: bool = False
    """Whether an attempt without faults failed: somebody would have had to look."""
    wrong: list[str] = field(default_factory=list)
    """Everything else that is not as promised."""
    said: str = ""

    @property
    def right(self) -> bool:
        """Whether all was as promised."""
        return self.ended and not (self.lost or self.duplicated or self.hand or self.wrong)


class Lane:
    """Runs one after the other, in one process."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._calm: dict[tuple[Any, ...], tuple[Calm, dict[str, str]]] = {}
        self._groups: list[int] = []

    def run(self, number: int) -> Run:
        """One run, drawn from the seed and its number alone."""
        dice = random.Random(f"{self._seed} {number}")
        setting = Setting(
            source=dice.choice(["jsonl", "jsonl", "parquet"]),
            output=dice.choice(["jsonl", "gz", "zst", "parquet"]),
            by_input=dice.random() < 0.5,
            partition=dice.random() < 0.5,
            rejects=dice.random() < 0.7,
            workers=dice.choice([1, 2]),
            killer=dice.choice(["", "", "", "always", "twice"]),
        )
        run = Run(number, asdict(setting))
        folder = self._folder / f"run{number}"
        try:
            self._attempts(run, setting, folder, dice)
        except Exception as error:  # noqa: BLE001  a run that cannot be judged is one that is wrong
            run.wrong.append(f"the directory cannot be judged: {type(error).__name__}: {error}")
        shutil.rmtree(folder, ignore_errors=True)
        return run

    def _attempts(self, run: Run, setting: Setting, folder: Path, dice: random.Random) -> None:
        out = folder / "out"
        calm, must = self._undisturbed(setting)
        marks = None
        if setting.killer == "twice":
            marks = folder / "marks"
            marks.mkdir(parents=True)
            for mark in range(2):
                (marks / str(mark)).touch()
        planned = [self._draw(folder, dice, calm, setting, n) for n in range(dice.randint(1, 4))]
        spare = SPARE[setting.killer]
        while not run.ended and not run.hand:
            faults = planned.pop(0) if planned else []
            if faults and planned and dice.random() < 0.3:
                faults += planned.pop(0)
            before = _finished(out)
            outcomes = self._attempt(run, setting, folder, faults, marks, dice)
            run.resumed += before > 0
            struck = [f.kind for f in faults if f.taken]
            run.faults += struck
            for outcome in outcomes:
                self._hold(run, outcome, struck)
            if any(o.status == 0 for o in outcomes):
                run.ended = True
            elif not struck and not spare:
                run.hand = True
            elif not struck:
                spare -= 1
        if setting.killer and (setting.killer == "always" or not list(marks.iterdir() if marks else [])):
            run.faults.append(KILLER[setting.killer])
        if run.ended:
            verdict = judge(out, setting)
            run.lost, run.duplicated = verdict.lost, verdict.duplicated
            run.wrong += verdict.wrong
            if tree(out) != must and verdict.right:
                here = tree(out)
                names = sorted(n for n in {*here, *must} if here.get(n) != must.get(n))
                run.wrong.append(f"{', '.join(names[:4])} differ from an undisturbed run's")

    def _draw(self, folder: Path, dice: random.Random, calm: Calm, setting: Setting, number: int) -> list[Fault]:
        kinds = [k for k in KINDS if setting.workers > 1 or not k.startswith("worker")]
        kind = dice.choices(kinds, [KINDS[k] for k in kinds])[0]
        drawn = [kind, "driver killed at an operation"] if kind in AFTER else [kind]
        return [draw(k, folder / f"tokens/{number}-{i}", dice, calm, setting.workers) for i, k in enumerate(drawn)]

    def _attempt(
        self, run: Run, setting: Setting, folder: Path, faults: list[Fault], marks: Path | None, dice: random.Random
    ) -> list[Outcome]:
        out = folder / "out"
        recipe = self._recipe(setting, out, folder)
        for fault in faults:
            if fault.kind == "stale lock":
                (out / "_tamis").mkdir(parents=True, exist_ok=True)
                (out / "_tamis/lock").write_text("4194304")
                fault.take()
        run.attempts += 1
        attempts = [Attempt(recipe, faults, folder / f"attempt{run.attempts}", marks)]
        for fault in faults:
            if fault.kind == "second run beside":
                time.sleep(fault.when * dice.random())
                fault.take()
                attempts.append(Attempt(recipe, [], folder / f"attempt{run.attempts}-{len(attempts)}", marks))
        outcomes = [attempt.outcome() for attempt in attempts]
        self._groups += [attempt.group for attempt in attempts]
        if outcomes[0].status != 0:
            for fault in faults:
                if fault.kind in AFTER:
                    strike_after(fault, out, dice)
        return outcomes

    def _hold(self, run: Run, outcome: Outcome, struck: list[str]) -> None:
        """Hold an attempt to what is promised of any end."""
        run.said += f"--- attempt {run.attempts}: {outcome.status}, {', '.join(struck) or 'no fault'}\n{outcome.said}"
        if outcome.hung:
            run.wrong.append("an attempt hung")
        if "Traceback" in outcome.said or outcome.status == BUG:
            run.wrong.append(f"an attempt ended with a traceback: {outcome.said.strip().splitlines()[-1]}")
        if outcome.status in {1, 2}:
            sentences = [s for s in outcome.said.splitlines() if s.startswith("tamis: ") and s.rstrip().endswith(".")]
            run.sentences += bool(sentences)
            if not sentences:
                run.wrong.append(f"an attempt failed without a sentence: {outcome.said.strip()[-200:]!r}")
        elif outcome.status not in {0, 130, -signal.SIGKILL, -signal.SIGTERM}:
            run.wrong.append(f"an attempt ended with {outcome.status}")

    def _recipe(self, setting: Setting, out: Path, folder: Path) -> Path:
        source = self._folder / f"in-{setting.source}-{bool(setting.killer)}"
        if not source.exists():
            write_input(source, setting)
        path = folder / "recipe.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(setting.toml(source, out))
        return path

    def _undisturbed(self, setting: Setting) -> tuple[Calm, dict[str, str]]:
        """What a run of this setting does and leaves when nothing happens to it, in one process where it can be."""
        key = tuple(v for k, v in asdict(setting).items() if k != "workers")
        if key not in self._calm:
            folder = self._folder / f"calm{len(self._calm)}"
            alone = Setting(**{**asdict(setting), "workers": 2 if setting.killer == "always" else 1})
            marks = folder / "marks"
            marks.mkdir(parents=True)
            given = None if setting.killer == "always" else marks
            outcome = Attempt(self._recipe(alone, folder / "out", folder), [], folder / "attempt", given).outcome()
            verdict = judge(folder / "out", setting) if outcome.status == 0 else None
            if verdict is None or not verdict.right:
                raise RuntimeError(f"an undisturbed run is not right: {verdict}; it said {outcome.said}")
            c = outcome.counts
            # Where workers did the work, theirs is not in the count: about what it is with one process.
            amounts = (c["operation"], c["write"], c["read"]) if alone.workers == 1 else (150, 80, 40)
            self._calm[key] = Calm(*amounts, min(outcome.seconds, 0.5)), tree(folder / "out")
        return self._calm[key]

    def orphans(self) -> int:
        """Processes of finished attempts that are still there; they have three seconds to notice."""
        deadline = time.monotonic() + 3
        while (left := [g for g in self._groups if _alive(g)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        return len(left)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _finished(out: Path) -> int:
    """Splits that a journal says are done."""
    journal = out / "_tamis/journal"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


# -- the whole campaign --------------------------------------------------------------------------------------


def warm(folder: Path) -> None:
    """Run the recipe once in every form, in this process, so that what is compiled or loaded lazily is there."""
    one_thread()
    for number, output in enumerate(["jsonl", "gz", "zst", "parquet"]):
        setting = Setting(source="jsonl" if number else "parquet", output=output, by_input=number % 2 == 0)
        place = folder / f"warm{number}"
        write_input(place / "in", setting)
        (place / "recipe.toml").write_text(setting.toml(place / "in", place / "out"))
        kept = os.dup(1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = cli.main(["run", str(place / "recipe.toml")])
        sys.stdout.flush()
        os.dup2(kept, 1)
        verdict = None if status else judge(place / "out", setting)
        if verdict is None or not verdict.right:
            raise RuntimeError(f"the recipe does not do what the model says: {verdict}")


def campaign(runs: list[int], seed: int, lanes: int, folder: Path) -> tuple[list[Run], int]:
    """Every run, on so many lanes; and the processes that did not end with their driver."""
    warm(folder)
    children: list[tuple[int, Path]] = []
    for lane in range(lanes):
        place = folder / f"lane{lane}"
        place.mkdir()
        pid = os.fork()
        if not pid:
            _lane(Lane(place, seed), runs[lane::lanes], place / "results")
        children.append((pid, place / "results"))
    done: list[Run] = []
    orphans = 0
    for pid, results in children:
        _, status = os.waitpid(pid, 0)
        if status:
            raise RuntimeError("a lane of the campaign ended before its time")
        found = json.loads(results.read_text())
        done += [Run(**run) for run in found["runs"]]
        orphans += found["orphans"]
    return sorted(done, key=lambda run: run.number), orphans


def _lane(lane: Lane, runs: list[int], results: Path) -> None:
    try:
        done = [asdict(lane.run(number)) for number in runs]
        results.write_text(json.dumps({"runs": done, "orphans": lane.orphans()}))
    except BaseException:  # noqa: BLE001  a forked process must end here
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


COLUMNS = ("injected", "runs", "ended", "failed with a sentence", "resumed", "lost", "duplicated", "needed a hand")


def table(runs: list[Run]) -> str:
    """The table, in Markdown: a row for each kind of fault, over the runs in which it struck."""
    head = [f"| fault | {' | '.join(COLUMNS)} |", "|---" + "|---:" * len(COLUMNS) + "|"]
    rows = [
        _row(kind, [r for r in runs if kind in r.faults], sum(r.faults.count(kind) for r in runs))
        for kind in [*KINDS, *KILLER.values()]
    ]
    return "\n".join([*head, *rows, _row("**all**", runs, sum(len(r.faults) for r in runs))])


def _row(name: str, runs: list[Run], injected: int) -> str:
    numbers = (
        injected,
        len(runs),
        sum(r.ended for r in runs),
        sum(r.sentences for r in runs),
        sum(r.resumed for r in runs),
        sum(r.lost for r in runs),
        sum(r.duplicated for r in runs),
        sum(r.hand for r in runs),
    )
    return f"| {name} | " + " | ".join(f"{n:,}" for n in numbers) + " |"


def report(runs: list[Run], orphans: int, seed: int, *, said: bool) -> str:
    """The table, and what went wrong, with how to see it again."""
    parts = [table(runs)]
    for run in runs:
        if run.right and not said:
            continue
        parts.append(
            f"\nrun {run.number} of seed {seed} ({'right' if run.right else 'WRONG'}): {run.attempts} attempts, "
            f"faults: {', '.join(run.faults) or 'none'}\n  setting: {run.setting}\n  ended: {run.ended}, "
            f"lost: {run.lost}, duplicated: {run.duplicated}, needed a hand: {run.hand}\n"
            + "".join(f"  {line}\n" for line in run.wrong)
            + f"  again: python tests/faults/campaign.py --seed {seed} --only {run.number}"
        )
        parts.append(run.said if said else run.said[-3000:])
    if orphans:
        parts.append(f"\n{orphans} attempts left processes behind.")
    causes = Counter(line.split(":")[0] for run in runs for line in run.wrong)
    parts += [f"{n} x {cause}" for cause, n in causes.most_common()]
    return "\n".join(parts)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="N", help="this run alone, with all that was said")
    parser.add_argument("--lanes", type=int, default=2)
    options = parser.parse_args()
    runs = list(range(options.runs)) if options.only is None else [options.only]
    shm = Path("/dev/shm")  # a campaign waits for a thousand fsyncs otherwise
    base = shm if os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > 200 << 20 else None
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tamis-campaign-", dir=base) as folder:
        done, orphans = campaign(runs, options.seed, min(options.lanes, len(runs)), Path(folder))
    print(report(done, orphans, options.seed, said=options.only is not None))
    print(f"\n{len(done)} runs, {sum(r.attempts for r in done)} attempts, {time.monotonic() - began:.0f} s.")
    return 0 if all(r.right for r in done) and not orphans else 1


if __name__ == "__main__":
    sys.exit(main())
