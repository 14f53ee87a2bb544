"""Faults on a cluster of two nodes: whatever dies, the documents are right, and nothing of a dead run stays alive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

import ray_cluster
from conftest import read_jsonl, tree
from tamis import DocumentDataset, DocumentFilter, Fold, Needs, ScoreFilter
from tamis.engine import crew
from tamis.engine.handout import HandOut
from tamis.engine.job import Job
from tamis.engine.on_ray import RayEngine
from tamis.engine.tree import MergeTree
from tamis.io.source import make_want
from tamis.modifiers import DocumentModifier, Modify

DOCUMENTS = 120


@pytest.fixture(scope="module")
def cluster():
    with ray_cluster.quick_health_checks():
        nodes = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": 128 << 20},
        )
        with ray_cluster.connected(address=nodes.address):
            yield nodes
        nodes.shutdown()


@pytest.fixture
def second(cluster):
    """A second node, which a test may kill."""
    node = cluster.add_node(num_cpus=1, object_store_memory=128 << 20)
    yield node
    cluster.remove_node(node, allow_graceful=False)


def kill(node) -> None:
    """The whole node: its raylet takes everything on it along."""
    node.all_processes["raylet"][0].process.kill()


class Marks(DocumentModifier):
    """Writes down which process on which node is at work, and takes the time that a file beside says."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def modify_document(self, text: str) -> str:
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
        (Path(self.folder) / f"{node}-{os.getpid()}").touch()
        time.sleep(float(Path(f"{self.folder}.seconds").read_text()))
        return text.upper()


@pytest.fixture
def marks(tmp_path):
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def marked(folder: Path) -> list[tuple[str, int]]:
    """The nodes and processes that are or were at work."""
    return [(name.name.split("-")[0], int(name.name.split("-")[1])) for name in sorted(folder.iterdir())]


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def source(write_jsonl, tmp_path):
    write_jsonl("in/d.jsonl", [{"text": f"a b {i:04d}", "i": i} for i in range(DOCUMENTS)])
    return str(tmp_path / "in")


def slow(source, marks, seconds=0.02) -> DocumentDataset:
    Path(f"{marks}.seconds").write_text(str(seconds))  # no setting: another pace is no other run
    return Modify(Marks(str(marks)))(DocumentDataset.read_json(source))


def run(dataset, out, engine="ray", split_size=300, **how):
    return dataset.to_json(out, split_size=split_size, progress="off", engine=engine, **how)


def documents(out) -> list[int]:
    return [d["i"] for d in read_jsonl(*sorted(out.glob("*.jsonl")))]


def at_the_side(action: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def test_an_actor_that_is_killed_costs_its_split(cluster, second, source, marks, tmp_path):
    def others(killed: set[int]) -> list[int]:
        return [pid for _, pid in marked(marks) if pid not in killed and ray_cluster.alive(pid)]

    def kill_two():
        killed: set[int] = set()
        for _ in range(2):
            wait_for(lambda: others(killed))
            pid = others(killed)[0]
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)

    killer = at_the_side(kill_two)
    result = run(
        slow(source, marks, 0.1), tmp_path / "out"
    )  # 12 s of work: on a busy machine an actor takes 5 to start
    killer.join()
    assert documents(tmp_path / "out") == list(range(DOCUMENTS))
    assert len(result.deaths) == 2
    assert {d.cause for d in result.deaths} == {
        "a worker process ended without a word (killed, crashed, or out of memory)"
    }
    run(slow(source, marks, 0), tmp_path / "calm", "embedded")
    assert len(marked(marks)) >= 3
    assert {k: v for k, v in tree(tmp_path / "out").items() if "part-" in k} == {
        k: v for k, v in tree(tmp_path / "calm").items() if "part-" in k
    }


class Kills(DocumentFilter):
    """Ends its process on one document."""

    def score_document(self, text: str) -> float:
        if text == "a b 0007":
            os._exit(9)
        return 1.0

    def keep_document(self, score: float) -> bool:
        return True


def test_a_document_that_kills_its_worker_is_set_aside(cluster, second, source, tmp_path):
    # Three documents a split: every death costs a second to start another worker.
    result = run(ScoreFilter(Kills())(DocumentDataset.read_json(source)), tmp_path / "out", split_size=100)
    assert documents(tmp_path / "out") == [i for i in range(DOCUMENTS) if i != 7]
    entries = read_jsonl(tmp_path / "out/_quarantine/records.jsonl")
    assert [(e["line"], e["cause"]) for e in entries] == [(8, "killed its worker")]
    assert entries[0]["detail"].startswith("a worker process ended ")
    assert result.tally.total_quarantined == 1


def test_a_node_that_dies_costs_what_was_at_work_on_it(cluster, second, source, marks, tmp_path):
    killer = at_the_side(
        lambda: (wait_for(lambda: any(node == second.node_id for node, _ in marked(marks))), kill(second))
    )
    result = run(slow(source, marks, 0.05), tmp_path / "out")
    killer.join()
    assert documents(tmp_path / "out") == list(range(DOCUMENTS))
    # Which of the two is said depends on who notices first: the connection to the actor, or Ray's health check.
    (death,) = result.deaths
    assert death.cause in {"the machine of a worker went away", "a worker could not be reached any more"}
    wait_for(lambda: not [pid for node, pid in marked(marks) if node == second.node_id and ray_cluster.alive(pid)])


def test_a_node_that_joins_late_is_used(cluster, source, marks, tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "_LOOK", 0.2)
    running = at_the_side(lambda: run(slow(source, marks, 0.08), tmp_path / "out"))
    wait_for(lambda: marked(marks))
    late = cluster.add_node(num_cpus=1)
    running.join()
    cluster.remove_node(late, allow_graceful=False)
    assert documents(tmp_path / "out") == list(range(DOCUMENTS))
    assert late.node_id in {node for node, _ in marked(marks)}


DRIVER = """
import sys
sys.path.insert(0, {faults!r})
from test_ray import run, slow
run(slow(sys.argv[1], sys.argv[2], 0.1), sys.argv[3])
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_ends_takes_its_actors_along(cluster, second, source, marks, tmp_path, how):
    script = DRIVER.format(faults=str(Path(__file__).parent))
    environment = ray_cluster.environment() | {"RAY_ADDRESS": cluster.address, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", script, source, str(marks), str(tmp_path / "out")]
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    journal = tmp_path / "out/_tamis/journal"
    wait_for(lambda: journal.exists() and len(marked(marks)) == 2)
    driver.send_signal(how)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode in {-how, 1}, said
    wait_for(lambda: not [pid for _, pid in marked(marks) if ray_cluster.alive(pid)])
    result = run(slow(source, marks, 0), tmp_path / "out")
    assert documents(tmp_path / "out") == list(range(DOCUMENTS))
    assert result.resumed > 0


class Large(Fold[np.ndarray, list[float]]):
    """A state that is too large to come with its result."""

    def needs(self, schema):
        return Needs(texts=("text",))

    def start(self):
        return np.zeros(20_000)

    def add(self, state, table):
        for text in table["text"].to_pylist():
            state[int(text[-4:])] += 1 / (1 + int(text[-4:]))
        return state

    def merge(self, left, right):
        return left + right * 1.5

    def finish(self, state):
        return state.tolist()


def test_states_that_were_on_a_dead_node_are_made_again(cluster, second, source):
    files = DocumentDataset.read_json(source).plan.source
    want = make_want(files, (), texts=("text",))
    job = Job(files, (), want, files.schema, fold=Large())
    splits = files.splits(600)
    engine = RayEngine()
    hand = HandOut(splits)
    states = {s.index: r.state for s, r in engine.run(job, "fold", hand, workers=2, report=lambda index, tally: None)}
    assert {type(state).__name__ for state in states.values()} == {"_Far"}
    tree_of = {}
    for name, merge in (("far", partial(engine.merge, job.fold)), ("near", job.fold.merge)):
        tree_of[name] = MergeTree(len(splits), merge)
    for index in sorted(states):
        tree_of["near"].add(index, engine.state(states[index]))
    kill(second)
    for index in sorted(states):
        tree_of["far"].add(index, states[index])
    assert engine.state(tree_of["far"].root).tolist() == tree_of["near"].root.tolist()
    engine.close()
