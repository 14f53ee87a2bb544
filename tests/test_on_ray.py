"""The Ray engine: the directories that the embedded engine makes, and what it says when something is amiss."""

from __future__ import annotations

import importlib
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from ray import exceptions as failures

import ray_cluster
from conftest import tree
from tamis import DocumentDataset, DocumentFilter, Fold, Modify, Needs, ScoreFilter
from tamis.cli import main
from tamis.engine import on_ray, seat
from tamis.engine.job import Errand, Job, Sink
from tamis.engine.on_ray import RayEngine
from tamis.engine.options import Options
from tamis.engine.run import fold_plan
from tamis.engine.seat import Opening, Place, Seat, pack, unpack
from tamis.errors import InputError, OutputError, StageError, UsageError, WorkerError
from tamis.filters import PercentileFilter, WordCountFilter
from tamis.io.source import TableSource, make_want
from tamis.modifiers import UrlRemover
from tamis.recipe import shipped_recipes
from tamis.thresholds import score_dataset
from tiny_checkpoints import WORDS, encoder_checkpoint, sequence_classifier
from tiny_words import save_word_tokenizer

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def cluster():
    with ray_cluster.connected(num_cpus=2) as address:
        yield address


# -- equal directories ---------------------------------------------------------------------------------------


class Breaks(DocumentFilter):
    """A user's filter that raises on some documents."""

    def score_document(self, text: str) -> float:
        if "poison" in text:
            raise ValueError(text)
        return float(len(text))

    def keep_document(self, score: float) -> bool:
        return score % 3 != 0


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """Two files with good documents, a bad line now and then, and documents that break a filter."""
    folder = tmp_path_factory.mktemp("documents")
    for name in ("x", "sub/y"):
        path = folder / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        with path.open("w") as file:
            for i in range(150):
                text = " ".join(WORDS[(5 * i + j) % len(WORDS)] for j in range(i % 23)) + f" http://a.b/{i}" * (i % 2)
                meta = None if i < 60 else {"n": i}
                text = f"poison {i}" if i % 40 == 9 else text
                document = {"text": text, "i": i, "kind": "ab"[i % 7 > 3], "id": f"{name}-{i}", "meta": meta}
                file.write(json.dumps(document, ensure_ascii=False) + "\n")
                if i % 50 == 7:
                    file.write('{"text": "cut\n')
    return folder


def filtered(documents) -> DocumentDataset:
    return DocumentDataset.read_json(documents, add_filename=True).append(
        *Modify(UrlRemover()).steps(), *ScoreFilter(Breaks(), score_field="length").steps()
    )


def from_memory(documents) -> DocumentDataset:
    table = DocumentDataset.read_json(documents).to_arrow()
    return DocumentDataset.from_arrow(table.slice(3)).append(*ScoreFilter(WordCountFilter(3)).steps())


def jsonl(documents, out, **how):
    return filtered(documents).to_json(out, keep_rejects=True, max_bad=0.5, **how)


WRITES = {
    "jsonl": jsonl,
    "by_input": lambda d, out, **how: filtered(d).to_json(
        out, write_to_filename=True, compression="gz", max_bad=0.5, **how
    ),
    "partition": lambda d, out, **how: (
        filtered(d)
        .train_test_split({"a": 0.6, "b": 0.4}, stratify_by="kind")
        .to_json(out, partition_on="split", keep_rejects=True, max_bad=0.5, **how)
    ),
    "parquet": lambda d, out, **how: filtered(d).to_parquet(out, max_bad=0.5, **how),
    "scores": lambda d, out, **how: score_dataset(filtered(d)).to_parquet(out, max_bad=0.5, **how),
    "percentiles": lambda d, out, **how: (
        filtered(d).append(PercentileFilter(WordCountFilter(), drop_lowest=0.2)).to_json(out, max_bad=0.5, **how)
    ),
    "memory": lambda d, out, **how: from_memory(d).to_json(out, keep_rejects=True, **how),
    "memory to parquet": lambda d, out, **how: from_memory(d).to_parquet(out, **how),
}


@pytest.mark.parametrize("what", WRITES)
@pytest.mark.filterwarnings("ignore::tamis.engine.run.QuarantineWarning")
def test_both_engines_write_the_same_bytes(cluster, documents, tmp_path, what):
    tallies = []
    for engine, workers in (("embedded", 1), ("ray", 2)):
        how = {"split_size": 4000, "progress": "off", "workers": workers, "engine": engine}
        tallies.append(WRITES[what](documents, tmp_path / engine, **how).tally)
        assert WRITES[what](documents, tmp_path / engine, **how).already_complete
    assert tallies[0].records > 200
    assert tallies[0].to_json() == tallies[1].to_json()
    assert tree(tmp_path / "ray") == tree(tmp_path / "embedded")


@pytest.fixture(scope="module")
def recipes(tmp_path_factory, documents):
    """The shipped recipes, with models of a few thousand weights."""
    folder = tmp_path_factory.mktemp("recipes")
    encoder_checkpoint(folder / "models/nvidia/domain-classifier", WORDS[-6:], seed=8)
    save_word_tokenizer(folder / "models/nvidia/domain-classifier")
    sequence_classifier(folder / "models/HuggingFaceFW/fineweb-edu-classifier", num_labels=1)
    return folder


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """Questions with their tags, in two files."""
    folder = tmp_path_factory.mktemp("questions")
    for name in "xy":
        with (folder / f"{name}.jsonl").open("w") as file:
            for i in range(60):
                asked = " ".join(WORDS[(7 * i + j) % len(WORDS)] for j in range(i % 40))
                row = {"id": f"{name}{i}", "title": f"May I {i}?", "question": f"<p>{asked} &amp; ann{i}@mail.org</p>"}
                file.write(json.dumps(row | {"score": i % 9 - 1, "tags": ["lease", f"tag{i % 5}"]}) + "\n")
    return folder


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
@pytest.mark.usefixtures("one_thread")
def test_both_engines_run_every_recipe_alike(cluster, recipes, documents, questions, tmp_path, monkeypatch, name):
    monkeypatch.setenv("TAMIS_MODELS", str(recipes / "models"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for engine in ("embedded", "ray"):
        path = questions if name == "law_questions" else documents
        settings = {"input.path": path, "output.path": tmp_path / engine, "run.split_size": 6000}
        sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        arguments = ["run", str(ROOT / f"recipes/{name}.toml"), *sets, "--set", "run.max_bad=0.5", "--engine", engine]
        assert main(arguments) == 0
    written = tree(tmp_path / "ray")
    assert written == tree(tmp_path / "embedded")
    assert len(written) > 8


# -- folds ---------------------------------------------------------------------------------------------------


class Sums(Fold[np.ndarray, list[float]]):
    """Sums of floats, which depend on the order of merging; changed in place, and large where it is asked for."""

    def __init__(self, size: int) -> None:
        self.size = size

    def needs(self, schema):
        return Needs(texts=("text",))

    def start(self):
        return np.zeros(self.size)

    def add(self, state, table):
        for text in table["text"].to_pylist():
            state[len(text) % self.size] += 1 / (1 + len(text))
        return state

    def merge(self, left, right):
        left += right * 1.1
        return left

    def finish(self, state):
        return state.tolist()


@pytest.mark.parametrize("size", [7, 10_000])
@pytest.mark.filterwarnings("ignore::tamis.engine.run.QuarantineWarning")
def test_both_engines_fold_to_the_last_bit(cluster, documents, monkeypatch, size):
    merged = []
    monkeypatch.setattr(on_ray, "_MERGE", Spy(on_ray._MERGE, merged))
    dataset = DocumentDataset.read_json(documents)
    plain = fold_plan(dataset.plan, Sums(size), Options(split_size=4000))
    on_cluster = fold_plan(dataset.plan, Sums(size), Options(split_size=4000, engine="ray", workers=2))
    assert on_cluster[0] == plain[0]
    assert on_cluster[1].to_json() == plain[1].to_json()
    assert len(merged) == (0 if size < 100 else len(dataset.plan.source.splits(4000)) - 1)


class Spy:
    """A remote function that notes its calls."""

    def __init__(self, inner, calls) -> None:
        self.inner, self.calls = inner, calls

    def remote(self, *arguments):
        self.calls.append(len(arguments))
        return self.inner.remote(*arguments)


class Refuses(Sums):
    def merge(self, left, right):
        raise ArithmeticError("no sum")


@pytest.mark.filterwarnings("ignore::tamis.engine.run.QuarantineWarning")
def test_a_merge_that_fails_in_the_cluster_is_told(cluster, documents):
    options = Options(split_size=4000, engine="ray", workers=2)
    with pytest.raises(StageError, match="ArithmeticError: no sum"):
        fold_plan(DocumentDataset.read_json(documents).plan, Refuses(10_000), options)


# -- what the user brings ------------------------------------------------------------------------------------

SCRIPT = """
import sys
from dataclasses import dataclass
import pyarrow as pa
from tamis import DocumentDataset, DocumentFilter, Fold, Needs, ScoreFilter, Stage
from tamis.table import put

LIMIT = 40

def short(text):
    return len(text) < LIMIT

class Short(DocumentFilter):
    def score_document(self, text):
        return float(short(text))
    def keep_document(self, score):
        return score == 1.0

@dataclass(frozen=True)
class Upper(Stage):
    def needs(self, schema):
        return Needs(texts=("text",), makes=(pa.field("upper", pa.string()),))
    def open(self):
        return lambda table: put(table, "upper", pa.array([t and t.upper() for t in table["text"].to_pylist()]))

class Longest(Fold):
    def needs(self, schema):
        return Needs(texts=("text",))
    def start(self):
        return Best("")
    def add(self, state, table):
        return max([state, *map(Best, table["text"].to_pylist())], key=lambda best: len(best.text))
    def merge(self, left, right):
        return max(left, right, key=lambda best: len(best.text))
    def finish(self, state):
        return state.text

@dataclass
class Best:
    text: str

source, out, engine = sys.argv[1:]
how = {"engine": engine, "workers": 2}
dataset = ScoreFilter(Short())(DocumentDataset.read_json(source)).append(Upper())
dataset.to_json(out, split_size=4000, progress="off", max_bad=0.5, **how)
sys.stdout.write(dataset.fold(Longest(), **how))
"""


def test_what_a_script_defines_travels_by_value(cluster, documents, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    said = {}
    for engine in ("embedded", "ray"):
        environment = ray_cluster.environment() | {"RAY_ADDRESS": cluster, "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, str(tmp_path / "script.py"), str(documents), engine, engine]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said[engine] = done.stdout
    assert said["ray"] == said["embedded"] != ""
    assert tree(tmp_path / "ray") == tree(tmp_path / "embedded")  # paths below the folder that the script runs in


def test_what_a_worker_cannot_import_is_said(cluster, documents, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("from test_on_ray import Breaks\nclass Mine(Breaks):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    mine = importlib.import_module("only_here").Mine
    (tmp_path / "only_here.py").unlink()  # as on a node that has it not
    dataset = ScoreFilter(WordCountFilter(1))(DocumentDataset.read_json(documents))
    with pytest.raises(WorkerError) as caught:
        ScoreFilter(mine())(dataset).to_json(tmp_path / "out", engine="ray", progress="off")
    said = str(caught.value)
    assert said.startswith("Mine needs the module 'only_here' that the node ")
    assert "cannot import (No module named 'only_here'). Install it on every node; or" in said
    assert 'RAY_RUNTIME_ENV=\'{"working_dir": "."}\'' in said


# -- an actor ------------------------------------------------------------------------------------------------


def job_of(documents, out=None, **changes) -> Job:
    source = DocumentDataset.read_json(documents).plan.source
    sink = None if out is None else Sink(str(out), "jsonl")
    return Job(source, (), make_want(source, (), texts=(), raw=True), source.schema, sink=sink, **changes)


def test_an_output_that_a_node_does_not_see_is_said(documents, tmp_path):
    job = job_of(documents, tmp_path)
    (tmp_path / "_tamis").mkdir()
    (tmp_path / "_tamis/run.json").write_text('{"fingerprint": "one"}')
    opening = Opening.of(job, "write", 1)
    assert Seat().open(pack(job), opening) is None
    (tmp_path / "_tamis/run.json").write_text('{"fingerprint": "two"}')  # the node's own folder of that name
    for _ in range(2):
        error = Seat().open(pack(job), opening)
        assert isinstance(error, OutputError)
        assert f"does not see the output directory {tmp_path} that this process writes to" in str(error)
        assert "a folder that all of them share, or an object store (s3://...)" in str(error)
        (tmp_path / "_tamis/run.json").unlink(missing_ok=True)


def test_another_version_is_said(documents, monkeypatch):
    monkeypatch.setattr(seat, "version", lambda name: "0.0.9")
    opening = Opening.of(job_of(documents), "fold", 1)
    monkeypatch.undo()
    error = Seat().open(pack(job_of(documents)), opening)
    assert isinstance(error, WorkerError)
    assert "and this process 0.0.9. Results may differ between versions: install the same one" in str(error)


def test_an_input_that_a_node_lacks_names_the_node(documents, tmp_path):
    copy = shutil.copytree(documents, tmp_path / "copy")
    job = job_of(copy, tmp_path / "out")
    held = Seat()
    assert held.open(pack(job), Opening.of(job, "write", 1)) is None
    shutil.rmtree(copy)
    error, state = held.run(Errand(job.source.splits(1 << 20)[0], "a"))
    assert isinstance(error, InputError)
    assert str(error).startswith(f"on the node {socket.gethostname()}: {copy}/")
    assert state is None


def test_a_table_travels_without_being_copied():
    table = pa.table({"text": pa.array(["a"] * 10_000), "n": pa.array(np.arange(10_000))})
    job = job_of_table(table)
    small, source, buffers = pack(job)
    assert len(small) + len(source) < 10_000
    assert sum(len(b.raw()) for b in buffers) > 80_000
    loaded = unpack((small, source, buffers))
    assert loaded.source.table.equals(table)
    assert loaded.source.table["n"].chunk(0).buffers()[1].address == table["n"].chunk(0).buffers()[1].address


def job_of_table(table) -> Job:
    source = TableSource(table)
    return Job(source, (), make_want(source, ("text", "n"), texts=()), source.schema)


# -- what Ray says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1: Connection refused. Start a cluster with `ray start"),
        ("ray://head:10001", "is the address of a Ray client server, which runs no engine. Run this on a node"),
        ("head", "'head' is no address of a Ray cluster: it is HOST:PORT"),
    ],
)
def test_a_wrong_address_is_said_at_once(documents, tmp_path, monkeypatch, address, said):
    monkeypatch.setattr(on_ray.ray, "is_initialized", lambda: False)
    with pytest.raises(UsageError) as caught:
        DocumentDataset.read_json(documents).to_json(tmp_path / "out", engine="ray", address=address, progress="off")
    assert said in str(caught.value)


def test_a_cluster_that_was_killed_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    noted = tmp_path / "ray/ray_current_cluster"
    noted.parent.mkdir()
    assert on_ray._address_of(None) == "local"
    with socket.create_server(("127.0.0.1", 0)) as server:
        noted.write_text(f"127.0.0.1:{server.getsockname()[1]}\n")
        assert on_ray._address_of(None) == on_ray._address_of("auto") == "auto"
    assert on_ray._address_of(None) == "local"
    with pytest.raises(UsageError, match=r"no Ray cluster runs on this machine. Start a cluster with `ray start"):
        on_ray._address_of("auto")


def died(text: str) -> failures.ActorDiedError:
    error = failures.ActorDiedError()
    error.error_msg = text
    return error


def test_causes_in_words(cluster):
    ray_cluster_ = on_ray._RayCluster()
    here = Place("h", on_ray.ray.get_runtime_context().get_node_id())
    fates = {
        "exit": ray_cluster_.fate(died("Worker exits with an exit code 4."), here),
        "killed": ray_cluster_.fate(died("connection error code 2. End of file."), here),
        "memory": ray_cluster_.fate(failures.OutOfMemoryError("1 worker(s) were killed"), here),
        "node": ray_cluster_.fate(died("its node has died"), Place("h", "f" * 56)),
        "away": ray_cluster_.fate(failures.ActorUnavailableError("x", b"1" * 16), here),
    }
    assert {name: (fate.gone, fate.memory) for name, fate in fates.items()} == {
        "exit": (False, False),
        "killed": (False, False),
        "memory": (False, True),
        "node": (True, False),
        "away": (True, False),
    }
    assert "exit status 4" in fates["exit"].cause
    assert "killed, crashed, or out of memory" in fates["killed"].cause
    for error, said in {
        failures.RuntimeEnvSetupError("no such package"): "could not set up the runtime environment of the workers: no",
        failures.LocalRayletDiedError(): "Ray failed: LocalRayletDiedError: ",
    }.items():
        with pytest.raises(WorkerError, match=said):
            raise ray_cluster_.fate(error, here)
    error = died("...\nModuleNotFoundError: No module named 'tamis'")
    error._actor_init_failed = True
    with pytest.raises(
        WorkerError, match=r"could not be started: .*'tamis'. Is the same Tamis installed on every node"
    ):
        ray_cluster_.fate(error, here)


def test_workers_are_what_the_cluster_has(cluster):
    engine = RayEngine()
    assert engine.workers([Needs()]) == 2
    assert engine.workers([Needs(device="accelerator")]) == 1
    engine.close()
    assert on_ray.ray.is_initialized()  # it was not ours
