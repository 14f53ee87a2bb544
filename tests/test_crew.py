"""A crew on a cluster of threads: how many workers it has, and what becomes of a split when one dies."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from concurrent import futures
from pathlib import Path

import pytest

from conftest import read_jsonl
from tamis import DocumentDataset, Needs
from tamis.engine import crew as crew_module
from tamis.engine.crew import Crew, Fate, Share, share_of
from tamis.engine.handout import HandOut
from tamis.engine.job import Job, Sink
from tamis.engine.seat import Place, Seat
from tamis.errors import InputError, WorkerError
from tamis.io.source import make_want


class Died(Exception):
    """An actor's death, with how it died."""

    def __init__(self, **fate) -> None:
        super().__init__()
        self.fate = Fate("it fell over", **fate)


class Actor:
    def __init__(self, number: int, place: Place) -> None:
        self.number, self.place, self.seat = number, place, Seat()
        self.thread = futures.ThreadPoolExecutor(1)
        self.ended = False


class ThreadCluster:
    """Nodes are dictionaries and actors are threads. ``act`` may raise for an actor that is about to run an errand."""

    def __init__(self, *nodes: dict[str, float], act=lambda actor, errand: None, come=lambda actor: None) -> None:
        self.all = list(nodes)
        self.act, self.come = act, come
        self.actors: list[Actor] = []
        self.ran: list[tuple[int, int, str]] = []

    def nodes(self):
        return self.all

    def free(self):
        return "Nothing is free."

    def put(self, value):
        return value

    def kept(self, state, split):
        return state

    def living(self) -> list[Actor]:
        return [actor for actor in self.actors if not actor.ended]

    def hire(self, share):
        number = len(self.actors)
        self.actors.append(Actor(number, Place(f"host{number % len(self.all)}", str(number % len(self.all)))))
        return self.actors[-1]

    def ask(self, actor, what, *values):
        def answer():
            if what == "where":
                self.come(actor)
                return actor.place
            return getattr(actor.seat, what)(*values)

        if what == "so_far":
            done = futures.Future()
            done.set_result(answer())
            return done
        return actor.thread.submit(answer)

    def send(self, actor, errand):
        def answer():
            self.ran.append((actor.number, errand.split.index, errand.aside))
            self.act(actor, errand)
            return actor.seat.run(errand)[0]

        return actor.thread.submit(answer), None

    def fate(self, error, place):
        if not isinstance(error, Died):
            raise error
        return error.fate

    def end(self, actor):
        actor.ended = True
        actor.thread.shutdown(wait=False)


@pytest.fixture
def job(write_jsonl, tmp_path):
    write_jsonl("in/d.jsonl", [{"text": f"a b {i:03d}", "i": i} for i in range(100)])
    source = DocumentDataset.read_json(tmp_path / "in").plan.source
    sink = Sink(str(tmp_path / "out"), "jsonl")
    return Job(source, (), make_want(source, (), texts=(), raw=True), source.schema, sink=sink)


def finish(cluster, job, *, size=300, workers=None, patience=60.0, report=lambda index, tally: None):
    """Run all splits; returns the handout and each split's documents by its index."""
    handout = HandOut(job.source.splits(size), lambda split: f"aside/{split.index}")
    crew = Crew(cluster, job, "write", handout, workers=workers, patience=patience)
    found = {}
    try:
        for split, result in crew.results(report):
            assert split.index not in found
            (output,) = result.outputs
            found[split.index] = [d["i"] for d in read_jsonl(Path(job.sink.path) / output.aside)]
    finally:
        crew.dismiss()
    assert not cluster.living()
    return handout, found


def in_order(found) -> list[int]:
    return [i for index in sorted(found) for i in found[index]]


def test_every_split_is_run_once_by_whoever_is_free(job):
    def slow(actor, errand):
        time.sleep(0.05 if actor.number == 0 else 0)

    cluster = ThreadCluster({"CPU": 3}, act=slow)
    handout, found = finish(cluster, job)
    assert in_order(found) == list(range(100))
    assert handout.over
    assert len(cluster.actors) == 3
    by = Counter(number for number, _, _ in cluster.ran)
    assert by[0] < len(found) / 3 < max(by.values())  # a straggler gets fewer


def test_what_an_actor_dies_of_costs_its_split_alone(job):
    deaths = itertools.count()

    def act(actor, errand):
        if errand.split.index == 2 and next(deaths) < 2:
            raise Died

    cluster = ThreadCluster({"CPU": 2}, act=act)
    handout, found = finish(cluster, job)
    assert in_order(found) == list(range(100))
    assert [(d.split, d.cause) for d in handout.deaths] == [(2, "it fell over")] * 2
    assert {d.where for d in handout.deaths} == {"host0"}
    asides = [aside for _, index, aside in cluster.ran if index == 2]
    assert len(asides) == 3 == len(set(asides))  # none writes where one that may still live was writing
    assert all(aside.startswith("aside/2.") for aside in asides)


def test_a_machine_that_goes_is_not_held_against_the_split(job):
    deaths = itertools.count()

    def act(actor, errand):
        if errand.split.index == 1 and next(deaths) < 7:  # three would be looked into, were they blamed
            raise Died(gone=True)

    handout, found = finish(ThreadCluster({"CPU": 2}, act=act), job)
    assert in_order(found) == list(range(100))
    assert len(handout.deaths) == 7


def test_a_document_that_always_kills_is_set_aside(job):
    def act(actor, errand):
        wanted = range(100)
        if errand.only is not None:
            wanted = wanted[errand.only[0] : errand.only[1]]
        if errand.kind != "count" and errand.split.index == 0 and 3 in wanted and not errand.skip:
            raise Died

    handout, found = finish(ThreadCluster({"CPU": 2}, act=act), job)
    assert in_order(found) == [i for i in range(100) if i != 3]
    assert 3 < len(handout.deaths) < 12


def test_workers_that_were_too_many_for_the_memory_are_fewer_then(job):
    most = []

    def act(actor, errand):
        most.append(len(cluster.living()))
        time.sleep(0.01)
        if len(cluster.living()) > 2:
            raise Died(memory=True)

    cluster = ThreadCluster({"CPU": 4}, act=act)
    handout, found = finish(cluster, job)
    assert in_order(found) == list(range(100))
    assert most[-1] <= 2
    assert 2 <= len(handout.deaths) <= 12


def test_a_worker_alone_that_runs_out_of_memory_is_the_documents_doing(job):
    def act(actor, errand):
        if errand.kind == "run" and errand.split.index == 0 and not errand.skip:
            raise Died(memory=True)

    handout, found = finish(ThreadCluster({"CPU": 1}, act=act), job)
    assert len(handout.deaths) >= 3
    assert in_order(found)[-1] == 99


def test_nodes_that_join_late_are_used(job, monkeypatch):
    monkeypatch.setattr(crew_module, "_LOOK", 0.02)

    def act(actor, errand):
        time.sleep(0.02)
        if len(cluster.ran) == 3:
            cluster.all.append({"CPU": 2})

    cluster = ThreadCluster({"CPU": 1}, act=act)
    _, found = finish(cluster, job)
    assert in_order(found) == list(range(100))
    assert len(cluster.actors) == 3


def test_as_many_as_are_asked_for_wait_in_the_queue_and_work_begins_with_the_first(job):
    there = threading.Event()

    def come(actor):
        if actor.number:
            there.wait(30)

    cluster = ThreadCluster({"CPU": 1}, come=come)
    _, found = finish(cluster, job, workers=4)
    there.set()
    assert in_order(found) == list(range(100))
    assert len(cluster.actors) == 4  # the cluster has room for one: the others are what makes it grow
    assert {number for number, _, _ in cluster.ran} == {0}


def test_no_more_workers_than_splits_and_none_is_kept_for_nothing(job):
    alive = []

    def act(actor, errand):
        time.sleep(0.4 if errand.split.index == 0 else 0)
        alive.append(len(cluster.living()))

    cluster = ThreadCluster({"CPU": 64}, act=act)
    _, found = finish(cluster, job, size=1000)
    assert len(cluster.actors) == len(found) < 10
    assert alive[-1] == 2  # the one at work, and one in case it dies


def test_the_one_that_was_kept_takes_what_a_dying_one_leaves(job):
    deaths = itertools.count()

    def act(actor, errand):
        if errand.split.index == 0:
            time.sleep(0.3)  # the others have nothing to do any more, and all but one are let go
            if next(deaths) == 0:
                raise Died

    cluster = ThreadCluster({"CPU": 6}, act=act)
    _, found = finish(cluster, job, size=1000)
    assert in_order(found) == list(range(100))
    first, second = [number for number, index, _ in cluster.ran if index == 0]
    assert first != second < 6


def test_workers_that_never_come_up_end_the_run(job):
    def come(actor):
        raise Died

    cluster = ThreadCluster({"CPU": 2}, come=come)
    with pytest.raises(WorkerError, match="it fell over, 10 times before it was ready to work"):
        finish(cluster, job)
    assert len(cluster.actors) < 14


def test_waiting_is_said_and_has_an_end(job, monkeypatch, caplog):
    monkeypatch.setattr(crew_module, "_WARN_AFTER", 0.1)
    there = threading.Event()
    cluster = ThreadCluster({"CPU": 0}, come=lambda actor: there.wait(30))
    with pytest.raises(
        WorkerError, match=r"there was no room for a worker \(1 CPU\) in 1 s. Nothing is free. End what"
    ):
        finish(cluster, job, patience=0.8)
    there.set()
    assert [r.message for r in caplog.records] == ["Waiting for room for a worker (1 CPU). Nothing is free."]


def test_how_far_they_are_is_asked(job, monkeypatch):
    monkeypatch.setattr(crew_module, "_ASKS", 1000)
    heard = []

    def act(actor, errand):
        actor.seat._tally = "so far"
        time.sleep(1.2 if errand.split.index == 0 else 0)

    finish(ThreadCluster({"CPU": 1}, act=act), job, size=1000, report=lambda *said: heard.append(said))
    assert heard
    assert set(heard) == {(0, "so far")}


def test_the_first_error_ends_the_run_and_the_others(job):
    def act(actor, errand):
        if errand.split.index == 3:
            Path(errand.split.pieces[0].file.path).unlink()

    with pytest.raises(InputError, match=r"on the node .*d.jsonl"):
        finish(ThreadCluster({"CPU": 2}, act=act), job)


def test_what_a_worker_gets_of_a_cluster():
    plain, model = [Needs()], [Needs(), Needs(device="accelerator")]
    small, gpus, bare = {"CPU": 8.0}, {"CPU": 32.0, "GPU": 8.0}, {"CPU": 4.0, "GPU": 4.0}
    assert share_of([small, gpus], plain, None) == Share(1, 0, 1)
    assert share_of([small, gpus], model, None) == Share(1, 1, 4)
    assert share_of([gpus, bare], model, 3) == Share(1, 1, 1)
    assert [Share(1, 1, 4).fits(node) for node in (small, gpus, bare)] == [0, 8, 4]
    assert share_of([small, {"CPU": 16.0}], model, None) == Share(8, 0, 8)
    assert share_of([small], model, 4) == Share(2, 0, 2)  # four models in one machine share its cores
    assert share_of([small], model, 100) == Share(1, 0, 1)
    assert share_of([], model, None) == Share(1, 0, 1)
    assert str(Share(1, 1, 4)) == "1 CPU and 1 GPU"
