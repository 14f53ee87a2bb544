"""What is known of every split, and the directory that is made of it, whatever interrupts it."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import tree
from fake_run import WAYS, Fake
from tamis.engine import ledger as ledgers
from tamis.engine.ledger import Ledger, SortedRows, parse_lines, scheme_of
from tamis.engine.tally import Tally
from tamis.errors import OutputRefusedError, StageError
from tamis.hashing import fingerprint, hash64
from tamis.io.store import LocalStore

# -- the ledger ----------------------------------------------------------------------------------------------


def entry_of(split, records=1, **more):
    return {"split": split, "tally": Tally(records=records, kept=records).to_json(), "outputs": [], **more}


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 9)), max_size=60))
def test_of_several_entries_of_a_split_the_last_counts(put):
    ledger, last = Ledger(), {}
    for split, records in put:
        ledger.put(entry_of(split, records))
        last[split] = records
    assert list(ledger) == sorted(last)
    assert len(ledger) == len(last)
    assert [e["tally"]["records"] for e in ledger.entries()] == [last[s] for s in sorted(last)]
    assert ledger.total == Tally(records=sum(last.values()), kept=sum(last.values()))
    assert all(split in ledger for split in last)
    assert 5001 not in ledger
    assert -1 not in ledger
    ledger.close()


def test_what_is_forgotten_is_not_counted():
    ledger = Ledger()
    for split in range(3):
        ledger.put(entry_of(split, 10 ** (split + 1)))
    ledger.forget(1)
    ledger.forget(7)
    assert list(ledger) == [0, 2]
    assert ledger.total.records == 1010
    with pytest.raises(KeyError):
        ledger.get(1)
    ledger.put(entry_of(1, 5))
    assert ledger.total.records == 1015
    assert ledger.get(1)["tally"]["records"] == 5
    ledger.close()


def test_the_total_that_is_handed_out_is_not_the_ledgers_own():
    ledger = Ledger()
    ledger.put(entry_of(0, 1))
    ledger.total.records += 7
    assert ledger.total.records == 1
    ledger.close()


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(-1, 12)), unique=True), st.integers(1, 5))
def test_rows_come_sorted_however_little_fits_in_memory(rows, in_memory):
    found = SortedRows(in_memory)
    for path, part in rows:
        found.add([path, part, "x"])
    assert list(found) == [[path, part, "x"] for path, part in sorted(rows)]


def test_lines_that_were_torn_are_left_out():
    whole = orjson.dumps(entry_of(3)) + b"\n"
    lines = [whole[:20] + b"\n", b"\x00" * 30 + whole, whole, b"\n", b"7\n", whole[:-1]]
    assert [e["split"] for e in parse_lines(lines)] == [3]


@pytest.mark.parametrize(
    ("settings", "yes", "no"),
    [
        ({}, ["part-00011.jsonl"], ["part-00012.jsonl", "part-0001.jsonl", "x/part-00001.jsonl"]),
        ({"compression": "gz"}, ["part-00000.jsonl.gz", "_rejects/part-00000.jsonl.gz"], ["part-00000.jsonl"]),
        ({"format": "parquet"}, ["part-00000.parquet", "_rejects/part-00001.jsonl"], ["part-00000.jsonl"]),
        ({"partition_on": "l"}, ["de/part-00000.jsonl", "a b/part-00001.jsonl"], ["_x/part-00000.jsonl"]),
        ({"splits": 200_000}, ["part-000000.jsonl", "part-199999.jsonl"], ["part-00000.jsonl", "part-200000.jsonl"]),
        ({"by_input": True}, ["a/b.jsonl", "_rejects/a/b.jsonl"], ["part-00000.jsonl", "x/a/b.jsonl", "b.jsonl"]),
        ({"by_input": True, "partition_on": "l"}, ["x/a/b.jsonl"], ["_x/a/b.jsonl", ".x/a/b.jsonl", "x/y/a/b.jsonl"]),
    ],
)  # fmt: skip
def test_names_that_a_run_gives(settings, yes, no):
    output = {"format": "jsonl", "compression": None, "by_input": False, "partition_on": None, "splits": 12}
    is_output = scheme_of({"output": output | settings}, ["a/b.jsonl"])
    assert [name for name in [*yes, *no] if is_output(name)] == yes


# -- the directory -------------------------------------------------------------------------------------------


def shuffled(splits):
    return [splits[i] for i in hash64(range(len(splits)), seed=5).argsort()]


@pytest.mark.parametrize("way", WAYS)
def test_the_directory_is_what_a_plain_account_of_it_says(tmp_path, way):
    """Whatever the order; the account is kept in lists, as it would be for a few splits."""
    fake = Fake(tmp_path / "out", 23, **WAYS[way])
    total = fake.run(order=shuffled)
    other = Fake(tmp_path / "aside", 23, **WAYS[way])
    results = [other.result(split) for split in other.splits]
    home = tmp_path / "out/_tamis"
    lines = [{"split": r.index, "tally": r.tally.to_json(), "lines": list(r.lines)} for r in results]
    assert (home / "splits.ndjson").read_bytes() == b"".join(orjson.dumps(line) + b"\n" for line in lines)
    bodies: dict[str, bytes] = {}
    for result in results:
        for output in result.outputs:
            body = (tmp_path / "aside" / output.aside).read_bytes()
            bodies[output.name] = bodies.get(output.name, b"") + body
    listed = [
        {"path": name, "rows": body.count(b"\n"), "bytes": len(body), "xxh3": fingerprint(body)}
        for name, body in sorted(bodies.items())
    ]
    assert (home / "outputs.ndjson").read_bytes() == b"".join(orjson.dumps(line) + b"\n" for line in listed)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in bodies} == bodies
    quarantined = (tmp_path / "out/_quarantine/records.jsonl").read_bytes()
    first = [5 * (i % 3) if way == "by_input" else 0 for i in (2, 7, 12, 17, 22)]
    assert [json.loads(line)["line"] for line in quarantined.splitlines()] == [n + 2 for n in first]
    manifest = json.loads((home / "manifest.json").read_text())
    assert manifest["totals"] == total.to_json() == sum((r.tally for r in results), Tally()).to_json()
    assert manifest["outputs"] == len(bodies)
    for name, facts in manifest["listings"].items():
        body = (tmp_path / "out" / name).read_bytes()
        assert facts == {"bytes": len(body), "lines": body.count(b"\n"), "xxh3": fingerprint(body)}
    assert len(manifest["listings"]) == 3
    assert {p.name for p in home.iterdir()} == {"manifest.json", "splits.ndjson", "outputs.ndjson"}


def test_outputs_are_sorted_where_they_do_not_fit_in_memory(tmp_path, monkeypatch):
    Fake(tmp_path / "calm", 23, **WAYS["partition"]).run()
    monkeypatch.setattr(ledgers.SortedRows.__init__, "__defaults__", (4,))
    Fake(tmp_path / "little", 23, **WAYS["partition"]).run(order=shuffled)
    assert tree(tmp_path / "little") == tree(tmp_path / "calm")


def test_a_split_that_is_missing_at_the_end_is_a_defect(tmp_path):
    fake = Fake(tmp_path / "out", 4)
    with pytest.raises(StageError, match=r"3 of 4 splits are done\. This is a defect"):
        fake.run(order=lambda splits: splits[:3])


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_was_stopped_goes_on(tmp_path, way):
    Fake(tmp_path / "calm", 23, **WAYS[way]).run()
    for until in (0, 5, 9):
        with pytest.raises(KeyboardInterrupt):
            Fake(tmp_path / "out", 23, **WAYS[way]).run(order=shuffled, until=until)
    fake = Fake(tmp_path / "out", 23, **WAYS[way])
    with fake.directory.lock():
        fake.directory.claim("resume")
        assert len(fake.directory.done) == 14
        assert not fake.directory.died
    Fake(tmp_path / "out", 23, **WAYS[way]).run("resume")
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


@pytest.mark.parametrize("torn", ["half a line", "zeros", "an old line", "a shorter output", "no quarantine"])
def test_what_a_power_cut_tore_is_done_again(tmp_path, torn):
    Fake(tmp_path / "calm").run()
    with pytest.raises(KeyboardInterrupt):
        Fake(tmp_path / "out").run(until=8)
    journal = tmp_path / "out/_tamis/journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    again = 1
    if torn == "half a line":
        journal.write_bytes(b"".join(lines)[:-30])
    elif torn == "zeros":
        journal.write_bytes(b"".join(lines[:5]) + b"\0" * len(lines[5]) + b"".join(lines[6:]))
        again = 2  # the line after them has no beginning of its own
    elif torn == "an old line":  # the last line of a split counts, and it says what is not there
        entry = json.loads(lines[3])
        entry["outputs"][0]["bytes"] += 1
        journal.write_bytes(b"".join(lines) + orjson.dumps(entry) + b"\n")
    elif torn == "a shorter output":
        (tmp_path / "out/part-00003.jsonl").write_bytes(b"{}\n")
    else:
        (tmp_path / "out/_tamis/parts/_quarantine/2").unlink()
    fake = Fake(tmp_path / "out")
    with fake.directory.lock():
        fake.directory.claim("resume")
        assert len(fake.directory.done) == 8 - again
        assert fake.directory.tally().records == sum(
            fake.result(fake.splits[s]).tally.records for s in fake.directory.done
        )
    Fake(tmp_path / "out").run()
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def test_what_is_noted_after_a_torn_line_stands_by_itself(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Fake(tmp_path / "out").run(until=8)
    journal = tmp_path / "out/_tamis/journal"
    journal.write_bytes(journal.read_bytes()[:-30])
    with pytest.raises(KeyboardInterrupt):
        Fake(tmp_path / "out").run(until=2)
    fake = Fake(tmp_path / "out")
    with fake.directory.lock():
        fake.directory.claim("resume")
        assert len(fake.directory.done) == 9


def test_an_output_that_was_moved_and_not_noted_is_not_left(tmp_path):
    Fake(tmp_path / "calm", **WAYS["partition"]).run()
    with pytest.raises(KeyboardInterrupt):
        Fake(tmp_path / "out", **WAYS["partition"]).run(until=4)
    # What another try of split 3 and of split 7 wrote, before one of their documents killed its worker.
    for name in ("99/part-00003.jsonl", "99/part-00007.jsonl"):
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_bytes(b"99\n")
    Fake(tmp_path / "out", **WAYS["partition"]).run()
    (tmp_path / "out/99").rmdir()
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


# -- starting afresh -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", ["complete", "stopped", "moved and not noted"])
def test_fresh_removes_what_an_earlier_run_wrote_and_nothing_else(tmp_path, way, state):
    out = tmp_path / "out"
    fake = Fake(out, **WAYS[way])
    if state == "complete":
        fake.run()
    else:
        with pytest.raises(KeyboardInterrupt):
            fake.run(until=7)
    if state == "moved and not noted":  # the journal of a kill -9 after the moves of the last split
        lines = (out / "_tamis/journal").read_bytes().splitlines(keepends=True)
        (out / "_tamis/journal").write_bytes(b"".join(lines[:-1]))
    with pytest.raises(OutputRefusedError, match="its stages"):
        Fake(out, name="b").run()
    Fake(out, 3, name="b").run("fresh")
    Fake(tmp_path / "calm", 3, name="b").run()
    assert tree(out) == tree(tmp_path / "calm")


def test_fresh_leaves_what_somebody_else_put_there(tmp_path):
    out = tmp_path / "out"
    fake = Fake(out)
    fake.run()
    theirs = ["notes.txt", "part-00099.jsonl", "sub/part-00001.jsonl", "part-00001.parquet"]
    for name in theirs:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    with pytest.raises(OutputRefusedError, match="is not empty"):
        Fake(out, name="b").run("fresh")
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == sorted(theirs)


def test_a_kill_while_an_old_run_is_wiped_leaves_no_complete_one(tmp_path):
    """At each of its steps: what is there is never said to be complete, and the same command ends right."""

    class Killed(Exception):
        pass

    class Dies(LocalStore):
        left = 10**9

        def step(self):
            type(self).left -= 1
            if type(self).left < 0:
                raise Killed

        def remove(self, name):
            self.step()
            super().remove(name)

        def replace(self, name, content):
            self.step()
            super().replace(name, content)

    Fake(tmp_path / "calm", 3, name="b").run()
    Fake(tmp_path / "first", 6).run()
    for steps in range(24):
        out = tmp_path / f"out{steps}"
        Fake(out, 6).run()
        Dies.left = steps
        with pytest.raises(Killed):
            Fake(out, 3, store=Dies, name="b").run("fresh")
        manifest = out / "_tamis/manifest.json"
        complete = manifest.exists() and json.loads(manifest.read_text())["description"]["steps"] == ["a"]
        names = {p.name for p in out.glob("*.jsonl")}
        assert not complete or len(names) == 6, steps
        if not complete and steps < 8:  # the old recipe's run may go on as well
            Fake(out, 6).run()
            assert tree(out) == tree(tmp_path / "first"), steps
        Fake(out, 3, name="b").run("fresh")
        assert tree(out) == tree(tmp_path / "calm"), steps


# -- a store that takes long over a move ---------------------------------------------------------------------


class Slow(LocalStore):
    """As an object store: a move takes a while, and many may be under way."""

    fails: frozenset[str] = frozenset()
    most = 0

    def __init__(self, path):
        super().__init__(path)
        self.parallel = 6
        self.lock_of_count = threading.Lock()
        self.under_way = 0
        self.moved: set[str] = set()

    def move(self, source, target):
        with self.lock_of_count:
            self.under_way += 1
            Slow.most = max(Slow.most, self.under_way)
        time.sleep(0.003 + 0.001 * (len(target) % 5))
        with self.lock_of_count:
            self.under_way -= 1
        if Path(target).name in self.fails:
            raise ConnectionError(target)
        super().move(source, target)
        with self.lock_of_count:
            self.moved.add(target)

    def append(self, name, line):
        for output in orjson.loads(line)["outputs"]:
            place = output["path"] if output["part"] is None else f"_tamis/parts/{output['path']}/{output['part']}"
            assert place in self.moved, "noted before it was there"
        super().append(name, line)


@pytest.mark.parametrize("way", WAYS)
def test_many_splits_are_committed_at_once(tmp_path, way):
    Slow.most = 0
    Fake(tmp_path / "calm", 40, **WAYS[way]).run()
    Fake(tmp_path / "out", 40, store=Slow, **WAYS[way]).run()
    assert 2 <= Slow.most <= 6
    # Such a store has no folders; on this disk those that held files aside are swept with the rest.
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def test_a_move_that_fails_ends_the_run_and_the_others_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(Slow, "fails", frozenset({"part-00013.jsonl"}))
    fake = Fake(tmp_path / "out", 40, store=Slow)
    with pytest.raises(ConnectionError, match="part-00013"):
        fake.run()
    noted = {e["split"] for e in parse_lines((tmp_path / "out/_tamis/journal").read_bytes().splitlines(keepends=True))}
    assert 13 not in noted
    assert noted >= set(range(13))
    assert {f"part-{n:05d}.jsonl" for n in noted} == {p.name for p in (tmp_path / "out").glob("*.jsonl")}
    monkeypatch.setattr(Slow, "fails", frozenset())
    Fake(tmp_path / "out", 40, store=Slow).run()
    Fake(tmp_path / "calm", 40).run()
    assert tree(tmp_path / "out") == tree(tmp_path / "calm")


def test_the_journal_is_synced_once_a_second_and_at_the_end(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd)))
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Fake(tmp_path / "out", 300).run(until=299)
    seconds = time.monotonic() - began
    of_journal = [name for name in synced if name.endswith("_tamis/journal")]
    assert 2 <= len(of_journal) <= 3 + seconds
    assert synced[-1] == of_journal[-1]
