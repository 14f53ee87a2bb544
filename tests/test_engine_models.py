"""What stages with a model ask of the engine: windows, measures, devices, progress, errors. No model is needed."""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from conftest import read_jsonl, tree
from tamis import DocumentDataset, ScoreFilter
from tamis.cli import main
from tamis.engine.describe import describe
from tamis.engine.devices import device_of, visible_accelerators
from tamis.engine.embedded import EmbeddedEngine, default_workers
from tamis.engine.tally import Tally
from tamis.engine.watch import Progress
from tamis.errors import StageError, TooManyBadRecordsError, UsageError
from tamis.filters import WordCountFilter
from tamis.meter import Measures, collecting, count
from tamis.progress import observer_for, progress_line, resident_bytes
from tamis.report import model_work
from tamis.stage import Needs, Stage
from tamis.table import mark, put

CALLS: list[int] = []
THREADS: set[int] = set()
"""Documents of each call of a model in this process."""


@dataclass(frozen=True)
class Model(Stage):
    """Adds the length of the text, drops texts of a length that ends in 7, raises on those with the word poison."""

    window: int = field(default=0, metadata={"tuning": True})
    batch: str = field(default="auto", metadata={"tuning": True})
    token: str | None = field(default=None, repr=False, metadata={"secret": True})
    marks: str = field(default="", metadata={"tuning": True})
    """A folder: while it holds a file, a text with the word fatal ends the run."""

    def needs(self, schema):
        makes = (pa.field("length", pa.int64()), pa.field("text", schema.field("text").type))
        return Needs(texts=("text",), makes=makes, device="accelerator", window=self.window)

    def open(self):
        return self._run

    def _run(self, table):
        CALLS.append(table.num_rows)
        THREADS.add(threading.get_ident())
        texts = table.column("text").to_pylist()
        lengths = [len(t or "") for t in texts]
        for n in lengths:
            count("tokens", np.int64(n))
        count("seconds", 0.25)
        count("padded_tokens", 2.0 * sum(lengths))
        if any("poison" in (t or "") for t in texts):
            raise ArithmeticError("no number")
        if self.marks and any(Path(self.marks).iterdir()) and any("fatal" in (t or "") for t in texts):
            raise UsageError("the device has no memory for one text.")
        table = put(table, "length", pa.array(lengths, pa.int64()))
        table = put(
            table, "text", pa.array([t and t.replace("b", "B") for t in texts], table.schema.field("text").type)
        )
        return mark(table, pa.array(["ends in 7" if n % 10 == 7 else None for n in lengths], pa.string()))


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    CALLS.clear()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def small_reads(monkeypatch):
    monkeypatch.setattr("tamis.io.lines._CHUNK", 1 << 10)


# -- windows -------------------------------------------------------------------------------------------------

KINDS = ["poison", "good", "good", "null", "good", "cut", "good", "good", "blank", "good", "gone", "good", "good"]


def line(i: int, number: int) -> str:
    kind = KINDS[(i * i + 3 * i + number) % len(KINDS)]
    text = {"poison": "a poison b", "null": None, "gone": "x"}.get(kind, "a b c " + "w" * (i % 23))
    return {"cut": '{"text": "cut', "blank": ""}.get(kind, json.dumps({"length": "old", "text": text, "i": i}))


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Four files of 0 to 90 lines, each last one a document that breaks the model."""
    folder = tmp_path_factory.mktemp("several")
    for number, lines in enumerate((90, 5, 0, 40)):
        content = [line(i, number) for i in range(lines)] + [json.dumps({"text": "a poison b"})] * bool(lines)
        (folder / f"{number}.jsonl").write_text("".join(each + "\n" for each in content))
    return folder


@pytest.mark.parametrize("keep_rejects", [False, True])
@pytest.mark.parametrize(
    ("split_size", "by_input", "windows"),
    [(1 << 20, False, (1, 7, 30, 10**6)), (1 << 20, True, (30,)), (700, False, (30,)), (700, True, (7,))],
)
def test_windows_change_no_byte(several, tmp_path, monkeypatch, keep_rejects, split_size, by_input, windows):
    monkeypatch.setattr("tamis.io.lines._CHUNK", 300)
    dataset = DocumentDataset.read_json(str(several))

    def run(name, window, held=1 << 26):
        monkeypatch.setattr("tamis.engine.window._BYTES", held)
        few = ScoreFilter(WordCountFilter(2), score_field="words")
        steps = [few, Model(window=window), ScoreFilter(WordCountFilter(3)), Model(window=window // 2)]
        how = {"split_size": split_size, "keep_rejects": keep_rejects, "write_to_filename": by_input}
        result = dataset.append(*steps).to_json(tmp_path / name, max_bad=1, progress="off", **how)
        return tree(tmp_path / name), result.tally.to_json()

    plain = run("plain", 0)
    causes = plain[1]["quarantined"]
    assert causes["not JSON"] > 5
    assert causes["Model#1 failed"] > 9
    for window in windows:
        for held in (1, 2000, 1 << 26):
            assert run(f"{window} {held}", window, held) == plain


@pytest.fixture
def device(monkeypatch):
    """As if this process had an accelerator: the stream is cut around the model, and runs on three threads."""
    monkeypatch.setattr("tamis.engine.worker.visible_accelerators", lambda: 1)


@pytest.mark.parametrize("split_size", [1 << 20, 700])
def test_a_stream_that_runs_ahead_of_a_device_changes_no_byte(several, tmp_path, monkeypatch, split_size):
    monkeypatch.setattr("tamis.io.lines._CHUNK", 300)
    monkeypatch.setattr("tamis.engine.process._REPORT_EVERY", 0)
    monkeypatch.setattr("tamis.engine.watch._EVERY", 0)
    monkeypatch.setattr("tamis.engine.watch._SHARE", 0)
    few = ScoreFilter(WordCountFilter(2), score_field="words")
    steps = [few, Model(window=30), ScoreFilter(WordCountFilter(3)), Model(window=7), ScoreFilter(WordCountFilter(3))]
    dataset = DocumentDataset.read_json(str(several)).append(*steps)
    watchers: set[int] = set()

    def run(name):
        THREADS.clear()
        result = dataset.to_json(
            tmp_path / name,
            max_bad=1,
            split_size=split_size,
            keep_rejects=True,
            workers=1,
            progress=lambda _: watchers.add(threading.get_ident()),
        )
        return tree(tmp_path / name), result.tally.to_json()

    plain = run("plain")
    assert {threading.get_ident()} == THREADS
    monkeypatch.setattr("tamis.engine.worker.visible_accelerators", lambda: 1)
    assert run("ahead") == plain
    assert threading.get_ident() not in THREADS
    assert watchers == {threading.get_ident()}


def test_what_runs_ahead_stops_when_nobody_takes_it(write_jsonl, tmp_path, small_reads, device):
    before = threading.active_count()
    dataset = DocumentDataset.read_json(write_jsonl("in/d.jsonl", documents(5000))).append(Model(window=10))
    assert dataset.head(3).num_rows == 3
    assert threading.active_count() == before
    assert sum(CALLS) < 4000


def test_what_is_raised_ahead_ends_the_run_as_ever(write_jsonl, tmp_path, small_reads, device):
    path = write_jsonl("in/d.jsonl", [{"text": "poison"}] * 1200)
    dataset = DocumentDataset.read_json(path).append(Model(window=10**6))
    with pytest.raises(StageError, match="Model failed on all 1200 documents of a batch"):
        dataset.to_json(tmp_path / "out", progress="off")
    fine = DocumentDataset.read_json(write_jsonl("in/e.jsonl", documents(500))).append(Model(window=100))

    def watcher(progress):
        raise ZeroDivisionError("the watcher's own")

    with pytest.raises(ZeroDivisionError, match="the watcher's own"):
        fine.to_json(tmp_path / "other", progress=watcher)


def documents(n: int, poison: tuple[int, ...] = ()) -> list[dict[str, object]]:
    return [{"text": "poison" if i in poison else f"a b {i:04d}", "i": i} for i in range(n)]


def test_a_window_collects_what_several_reads_bring(write_jsonl, tmp_path, small_reads):
    path = write_jsonl("in/d.jsonl", documents(1000))
    dataset = DocumentDataset.read_json(path)
    assert dataset.append(Model()).to_arrow().num_rows == 1000
    most = max(CALLS)
    assert most < 40
    CALLS.clear()
    assert dataset.append(Model(window=300)).to_arrow().num_rows == 1000
    assert len(CALLS) == 4
    assert all(300 <= n < 300 + most for n in CALLS[:-1])
    assert sum(CALLS) == 1000
    CALLS.clear()
    assert dataset.append(Model(window=10**6)).head(3).num_rows == 3
    assert CALLS == [1000]


def test_a_window_is_bounded_in_bytes_and_does_not_fill_with_what_was_dropped(write_jsonl, tmp_path, monkeypatch):
    monkeypatch.setattr("tamis.io.lines._CHUNK", 10_000)
    monkeypatch.setattr("tamis.engine.window._BYTES", 60_000)
    words = [("a b c " if i % 20 == 0 else "") + "w" * 200 for i in range(4000)]
    path = write_jsonl("in/d.jsonl", [{"text": text} for text in words])
    DocumentDataset.read_json(path).append(Model(window=10**6)).to_json(tmp_path / "all", progress="off")
    assert len(CALLS) > 15
    assert all(100 < n < 200 for n in CALLS[:-1]), CALLS  # a read is 45 documents, twice: text and line
    CALLS.clear()
    few = DocumentDataset.read_json(path).append(ScoreFilter(WordCountFilter(2)), Model(window=10**6))
    few.to_json(tmp_path / "few", progress="off")
    assert sum(CALLS) == 200
    assert len(CALLS) <= 3, CALLS  # 20,000 read bytes hold 1,000 bytes of documents


def test_batches_of_other_columns_are_not_put_together(write_jsonl, small_reads):
    class Odd(Stage):  # answers with nulls of no type where there is nothing to say
        def needs(self, schema):
            return Needs(texts=("text",), makes=(pa.field("odd", pa.int64()),))

        def open(self):
            return lambda t: put(
                t, "odd", pa.nulls(len(t)) if t["text"][0].as_py() < "a b 0500" else pa.array([1] * len(t))
            )

    path = write_jsonl("in/d.jsonl", documents(1000))
    table = DocumentDataset.read_json(path).append(Odd(), Model(window=10**6)).to_arrow()
    assert table.num_rows == 1000
    assert len(CALLS) == 2


def test_three_documents_of_five_thousand_are_found(write_jsonl, tmp_path, small_reads):
    path = write_jsonl("in/d.jsonl", documents(5000, poison=(17, 2500, 4999)))
    result = DocumentDataset.read_json(path).append(Model(window=10**6)).to_json(tmp_path / "out", progress="off")
    assert (result.tally.kept, result.tally.quarantined) == (4997, {"Model failed": 3})
    entries = read_jsonl(tmp_path / "out/_quarantine/records.jsonl")
    assert [e["line"] for e in entries] == [18, 2501, 5000]
    assert [json.loads(e["raw"])["i"] for e in entries] == [17, 2500, 4999]
    assert len(CALLS) <= 1 + 2 * 3 * math.ceil(math.log2(5000))
    assert [d["i"] for d in read_jsonl(tmp_path / "out/part-00000.jsonl")] == [
        i for i in range(5000) if i not in {17, 2500, 4999}
    ]
    # What the calls counted that raised is not counted: 4,997 texts of 8 letters.
    assert result.tally.measures["Model", "tokens"] == 4997 * 8


def test_a_window_on_which_everything_fails_is_a_broken_stage(write_jsonl, tmp_path, small_reads):
    path = write_jsonl("in/d.jsonl", [{"text": "poison"}] * 1200)
    dataset = DocumentDataset.read_json(path)
    with pytest.raises(
        StageError, match=rf"Model failed on all 1200 documents of a batch, the first at {path}, byte 0"
    ):
        dataset.append(Model(window=10**6)).to_json(tmp_path / "out", progress="off")
    with pytest.raises(TooManyBadRecordsError):
        dataset.append(Model()).to_json(tmp_path / "out", progress="off")


def test_strict_ends_at_the_first_bad_record_in_the_order_of_the_input(tmp_path, small_reads):
    path = tmp_path / "d.jsonl"
    lines = [json.dumps(d) for d in documents(400, poison=(50,))]
    path.write_text("\n".join([*lines[:300], '{"text": "cut', *lines[300:]]) + "\n")
    for window in (0, 10**6):
        with pytest.raises(Exception, match=r"line 51, byte \d+: Model failed"):
            DocumentDataset.read_json(str(path)).append(Model(window=window)).to_json(
                tmp_path / "out", strict=True, progress="off"
            )


def test_changes_are_counted_beside_a_document_that_fails(write_jsonl, tmp_path):
    path = write_jsonl("in/d.jsonl", documents(50, poison=(3,)))
    result = DocumentDataset.read_json(path).append(Model(window=20)).to_json(tmp_path / "out", progress="off")
    assert result.tally.changed == {"Model": 49}


# -- measures ------------------------------------------------------------------------------------------------


def test_counting_needs_somebody_who_collects():
    count("tokens", 5)
    with collecting() as outer:
        count("tokens", np.int32(2))
        count("seconds", np.float32(0.5))
        with collecting() as inner:
            count("tokens", 3)
        thread = threading.Thread(target=count, args=("tokens", 100))
        thread.start()
        thread.join()
        count("tokens", True)
    count("tokens", 5)
    assert (outer, inner) == ({"tokens": 3, "seconds": 0.5}, {"tokens": 3})
    assert [type(v) for v in outer.values()] == [int, float]
    assert inner["nothing"] == 0
    assert "nothing" not in inner


def test_integers_are_written_and_floats_are_not(write_jsonl, tmp_path):
    path = write_jsonl("in/d.jsonl", documents(30))
    dataset = DocumentDataset.read_json(path)
    result = dataset.append(Model(window=10)).to_json(tmp_path / "out", progress="off")
    manifest = json.loads((tmp_path / "out/_tamis/manifest.json").read_text())
    assert manifest["totals"]["measures"] == {"Model": {"tokens": 240}}
    assert result.tally.measures == result.measured
    assert result.measured["Model", "seconds"] == 0.25 * len(CALLS)
    again = dataset.append(Model()).to_json(tmp_path / "out", progress="off")
    assert again.already_complete
    assert again.tally.measures == {("Model", "tokens"): 240}
    dataset.to_json(tmp_path / "plain", progress="off")
    assert "measures" not in (tmp_path / "plain/_tamis/manifest.json").read_text()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_goes_on_leaves_the_same_bytes(write_jsonl, tmp_path, workers):
    docs = documents(600)
    docs[400]["text"] = "a fatal text"
    path = write_jsonl("in/d.jsonl", docs)
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks/one").touch()
    dataset = DocumentDataset.read_json(path)

    seen: list[Progress] = []

    def run(out, marks=""):
        seen.clear()
        chain = dataset.append(ScoreFilter(WordCountFilter(3)), Model(window=50, marks=marks), Model(window=80))
        return chain.to_json(tmp_path / out, split_size=4000, workers=workers, progress=seen.append)

    with pytest.raises(UsageError, match=r"^Model#1: the device has no memory for one text\.$"):
        run("stopped", str(tmp_path / "marks"))
    (tmp_path / "marks/one").unlink()
    resumed = run("stopped")
    before = seen[-1].before.records
    calm = run("calm")
    assert resumed.resumed > 0
    assert before > seen[-1].before.records == 0
    assert tree(tmp_path / "stopped") == tree(tmp_path / "calm")
    assert resumed.tally.to_json() == calm.tally.to_json()
    tokens = ("Model#1", "tokens")
    assert resumed.tally.measures[tokens] == calm.measured[tokens] > resumed.measured[tokens] > 0


def test_an_error_that_names_its_stage_is_left_as_it_is(write_jsonl, tmp_path):
    class Says(Stage):
        def needs(self, schema):
            return Needs(texts=("text",))

        def open(self):
            def run(table):
                raise StageError("Says cannot run.")

            return run

    with pytest.raises(StageError, match=r"^Says cannot run\.$"):
        DocumentDataset.read_json(write_jsonl("d.jsonl", documents(5))).append(Says()).to_arrow()


# -- what is told while it runs ------------------------------------------------------------------------------


def test_progress_is_told_while_a_stage_is_at_work(write_jsonl, tmp_path, monkeypatch):
    monkeypatch.setattr("tamis.engine.process._REPORT_EVERY", 0)
    monkeypatch.setattr("tamis.engine.watch._EVERY", 0)
    monkeypatch.setattr("tamis.engine.watch._SHARE", 0)
    path = write_jsonl("in/d.jsonl", documents(100))
    seen: list[Progress] = []
    dataset = DocumentDataset.read_json(path).append(Model(window=10**6))
    dataset.to_json(tmp_path / "out", progress=seen.append)
    under_way = [p.tally for p in seen if p.tally.measures and not p.tally.done]
    tokens = [t.measures["Model", "tokens"] for t in under_way]
    assert tokens == sorted(tokens)
    assert len(set(tokens)) == 100
    assert seen[-1].tally.measures["Model", "tokens"] == 800


def test_bytes_move_inside_a_split(write_jsonl, tmp_path, monkeypatch, small_reads):
    monkeypatch.setattr("tamis.engine.process._REPORT_EVERY", 0)
    monkeypatch.setattr("tamis.engine.watch._EVERY", 0)
    monkeypatch.setattr("tamis.engine.watch._SHARE", 0)
    path = write_jsonl("in/d.jsonl", documents(1000))
    size = Path(path).stat().st_size
    seen: list[int] = []
    dataset = DocumentDataset.read_json(path).append(Model(window=100))
    result = dataset.to_json(tmp_path / "out", progress=lambda p: seen.append(p.tally.bytes_in))
    assert seen == sorted(seen)
    assert sum(0.2 * size < n < 0.8 * size for n in seen) > 3
    assert seen[-1] == result.tally.bytes_in == size


def test_who_watches_and_raises_is_not_taken_for_the_stage(write_jsonl, tmp_path, monkeypatch):
    monkeypatch.setattr("tamis.engine.process._REPORT_EVERY", 0)
    monkeypatch.setattr("tamis.engine.watch._EVERY", 0)
    monkeypatch.setattr("tamis.engine.watch._SHARE", 0)

    def watch(progress):
        if progress.tally.measures:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        DocumentDataset.read_json(write_jsonl("d.jsonl", documents(5))).append(Model()).to_json(
            tmp_path / "out", progress=watch
        )
    assert CALLS == [5]


def progress_of(tally: Tally, before: Tally | None = None) -> Progress:
    return Progress("", tally, 10_000, 1, 4, 2.0, before or Tally())


def test_the_line_shows_tokens_and_memory_where_a_model_runs(caplog, monkeypatch):
    tally = Tally(records=90, kept=80, bytes_in=5000)
    assert progress_line(progress_of(tally)) == "5.0 kB of 10.0 kB · 80 docs · 40/s · 0:02 left · kept 100%"
    tally.measures.add({("A", "tokens"): 60_000, ("B", "tokens"): 2400, ("A", "seconds"): 1.5})
    monkeypatch.setattr("tamis.progress.resident_bytes", lambda: 1_200_000_000)
    shown = "5.0 kB of 10.0 kB · 80 docs · 40/s · 31,200 tok/s · 0:02 left · kept 100% · 1.2 GB in memory"
    assert progress_line(progress_of(tally)) == shown
    monkeypatch.setattr("tamis.progress.resident_bytes", lambda: None)
    assert "memory" not in progress_line(progress_of(tally))
    earlier = Tally(records=60, kept=60, bytes_in=4000, measures=Measures({("A", "tokens"): 50_000}))
    line = progress_line(progress_of(tally, earlier))
    assert line == "5.0 kB of 10.0 kB · 80 docs · 10/s · 6,200 tok/s · 0:10 left · kept 100%"
    monkeypatch.setattr("tamis.progress._LINES_EVERY", 0)
    with caplog.at_level(logging.INFO, logger="tamis"):
        observer_for("auto")(progress_of(tally))
    assert "31,200 tok/s" in caplog.text


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux says")
def test_memory_is_that_of_this_process():
    before = resident_bytes()
    held = np.ones(8_000_000)
    assert 40e6 < resident_bytes() - before < 400e6
    assert held.any()


def test_what_models_did_is_summed_up():
    earlier, mine = Tally(), {("B", "tokens"): 1_000_000, ("B", "seconds"): 32.0, ("B", "padded_tokens"): 1_004_016.0}
    mine |= {("B", "flops"): 32 * 520e9, ("B", "peak_flops"): 32 * 850e9, ("A", "tokens"): 5, ("C", "texts"): 1}
    earlier.measures.add(mine)
    earlier.measures.add({("B", "tokens"): 234_567})
    b, a = model_work(earlier, mine, ("B", "A"))
    assert str(b) == (
        "B: 1,234,567 tokens, 31,250 tokens/s, padding 0.4 %, 520 GFLOP/s, 61 % of this device's measured matrix peak"
    )
    assert str(a) == "A: 5 tokens"
    assert "400 TFLOP/s" in str(replace(b, flops_per_second=4e14))
    assert model_work(Tally(), {}) == []


def test_the_command_line_says_what_a_model_did(write_jsonl, tmp_path, capsys):
    path = write_jsonl("in/d.jsonl", documents(30))
    recipe = tmp_path / "r.toml"
    use = f'use = "{__name__}:Model"'
    recipe.write_text(f'[input]\npath = "{path}"\n[[stage]]\n{use}\n[output]\npath = "{tmp_path / "out"}"\n')
    assert main(["run", str(recipe)]) == 0
    assert "\nModel: 240 tokens, 960 tokens/s, padding 50.0 %\n" in capsys.readouterr().out
    assert main(["run", str(recipe)]) == 0
    assert "\nModel: 240 tokens\n" in capsys.readouterr().out


# -- devices -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "devices"),
    [
        ("", []),
        ("-1", []),
        ("0", ["0"]),
        ("2, 5", ["2", "5"]),
        ("1,-1,3", ["1"]),
        ("GPU-8932f937,MIG-1/2", ["GPU-8932f937", "MIG-1/2"]),
        ("NoDevFiles", []),
    ],
)
def test_devices_that_are_named(monkeypatch, said, devices):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
    assert visible_accelerators() == len(devices)
    expected = [devices[n % len(devices)] for n in range(5)] if len(devices) > 1 else [None] * 5
    assert [device_of(n) for n in range(5)] == expected


@pytest.mark.parametrize(("listed", "nodes", "n"), [(0, 0, 0), (4, 0, 4), (0, 2, 2), (8, 2, 2)])
def test_devices_of_the_machine(monkeypatch, tmp_path, listed, nodes, n):
    for folder, names in {
        "gpus": range(listed),
        "dev": [f"nvidia{i}" for i in range(nodes)] + ["nvidiactl", "nvidia-uvm"],
    }.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / str(name)).touch()
    monkeypatch.setattr("tamis.engine.devices._DRIVER", tmp_path / "gpus")
    monkeypatch.setattr("tamis.engine.devices._NODES", tmp_path / "dev")
    monkeypatch.setattr("sys.platform", "linux")
    assert visible_accelerators() == n
    assert device_of(1) == (None if n < 2 else "1")
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert (visible_accelerators(), device_of(0)) == (1, None)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert visible_accelerators() == 0


def test_a_model_is_not_loaded_once_per_core(monkeypatch):
    model, plain = Needs(device="accelerator"), Needs()
    assert EmbeddedEngine().workers([plain]) == default_workers()
    for said, n in {"": 1, "0": 1, "0,1,2": 3}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", said)
        assert EmbeddedEngine().workers([plain, model]) == n
    assert EmbeddedEngine().workers([plain]) == EmbeddedEngine().workers([]) == default_workers()


@dataclass(frozen=True)
class Where(Stage):
    """Writes down the process, its device and its threads."""

    device: str = "accelerator"

    def needs(self, schema):
        return Needs(texts=("text",), makes=(pa.field("at", pa.string()),), device=self.device)

    def open(self):
        keys = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM")
        at = json.dumps([os.getpid(), *map(os.environ.get, keys)])
        return lambda table: put(table, "at", pa.array([at] * table.num_rows))


def places(path, out, workers, device="accelerator"):
    DocumentDataset.read_json(path).append(Where(device)).to_json(out, split_size=300, workers=workers, progress="off")
    return {tuple(json.loads(d["at"])) for d in read_jsonl(*sorted(out.glob("*.jsonl")))}


def test_each_worker_has_a_device_of_its_own(write_jsonl, tmp_path, monkeypatch):
    path = write_jsonl("in/d.jsonl", documents(200))
    assert {pid for pid, *_ in places(path, tmp_path / "cpu", None)} == {os.getpid()}  # one model, in this process
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    found = places(path, tmp_path / "two", None)
    assert {device for _, device, *_ in found} <= {"3", "5"}
    assert len(found) == len({device for _, device, *_ in found})
    assert os.getpid() not in {pid for pid, *_ in found}
    threads = max(default_workers() // 2, 1)
    assert {(omp, tok) for *_, omp, tok in found} == {(str(threads), "true" if threads > 1 else "false")}
    assert {device for _, device, *_ in places(path, tmp_path / "plain", 2, "cpu")} == {"3,5"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert {device for _, device, *_ in places(path, tmp_path / "shared", 2)} == {"7"}


# -- what is written down of a stage -------------------------------------------------------------------------


def test_a_secret_is_written_nowhere(write_jsonl, tmp_path, capfd):
    secret = "hf_not_for_your_eyes"
    path = write_jsonl("in/d.jsonl", documents(40, poison=(3,)))
    stage = Model(token=secret, window=10, batch="17")
    out, first = tmp_path / "out", DocumentDataset.read_json(path)
    dataset = first.append(ScoreFilter(WordCountFilter(1)), stage)
    dataset.to_json(out, split_size=500, workers=2, keep_rejects=True, progress="off")
    written = b"".join(p.read_bytes() + p.name.encode() for p in out.rglob("*") if p.is_file())
    assert b"Model" in written
    assert secret.encode() not in written
    for told in (repr(stage), repr(dataset), json.dumps(describe(stage)), *capfd.readouterr()):
        assert secret not in told
    assert describe(stage) == describe(Model(token="other", batch="2"))
    # Another token or batch size goes on with the same run.
    other = first.append(ScoreFilter(WordCountFilter(1)), Model(token="another"))
    assert other.to_json(out, split_size=500, keep_rejects=True, progress="off").already_complete


def test_hidden_settings_are_left_out_at_any_depth():
    @dataclass(frozen=True)
    class Inner:
        name: str = "n"
        key: str = field(default="k1", repr=False)

    @dataclass(frozen=True)
    class Outer:
        inner: Inner = Inner()
        size: int = field(default=1, metadata={"tuning": True})

    said = describe(Outer())
    assert said == describe(Outer(Inner(key="k2"), size=2))
    assert said != describe(Outer(Inner(name="m")))
    assert "k1" not in json.dumps(said)


def test_parquet_and_memory_go_through_windows_too(tmp_path):
    table = pa.table({"text": [f"a b {i}" for i in range(500)], "n": pa.array(range(500))})
    dataset = DocumentDataset.from_arrow(table)
    for window in (0, 7, 10**6):
        got = dataset.append(Model(window=window)).to_arrow()
        assert got["n"].to_pylist() == [n for n in range(500) if len(f"a b {n}") % 10 != 7]
        assert pc.all(pc.equal(got["length"], pc.utf8_length(got["text"]))).as_py()
    dataset.append(Model(window=64)).to_parquet(tmp_path / "pq", split_size=1000, progress="off")
    assert (
        DocumentDataset.read_parquet(str(tmp_path / "pq")).append(Model(window=100)).to_arrow().num_rows == got.num_rows
    )
