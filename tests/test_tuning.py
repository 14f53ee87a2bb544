"""Tuning: rows to token ids, losses that do not depend on how they are shared out, and runs that go on."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tamis.errors import (
    MissingColumnError,
    MissingExtraError,
    ModelError,
    OutputRefusedError,
    RecipeError,
    TamisError,
    TrainingError,
    UnknownNameError,
    UsageError,
)
from tamis.models.lora import load_causal, merge_lora
from tamis.models.tokenizer import load_tokenizer
from tamis.recipe import shipped_recipes
from tamis.tuner import load_settings, tune
from tamis.tuning.batches import Schedule, collate, evaluation_batches
from tamis.tuning.examples import encode_rows
from tamis.tuning.settings import Batches, Data, Lora, Model, Output, Train, TuneSettings
from tamis.tuning.trainer import completion_loss, keeps_rows_apart
from tamis.tuning.watch import Watch, rate_warnings
from tiny_llama import llama_checkpoint

WORDS = ["game", "law", "soup", "court", "tax", "rent", "the", "of", "and", "land"]


def row(number, *, body=6, tags=2):
    words = [WORDS[(number * 7 + k * 3) % len(WORDS)] for k in range(body)]
    head = "Tags of: "
    text = " ".join(words)
    prompt = f"{head}{text}\nTags:\n"
    chosen = ", ".join(dict.fromkeys(words[:tags]))
    return {"prompt": prompt, "prompt_body": [len(head), len(head) + len(text)], "completion": chosen}


def write_rows(path, rows):
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return str(path)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "llama"
    llama_checkpoint(path, window=128)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return (
        write_rows(folder / "train.jsonl", [row(n, body=4 + n % 5) for n in range(40)]),
        write_rows(folder / "validation.jsonl", [row(100 + n) for n in range(20)]),
    )


@pytest.fixture(scope="module")
def tokenizer(base):
    return load_tokenizer(base, who="test")


@pytest.fixture
def settings(base, data, tmp_path):
    return TuneSettings(
        model=Model(name=str(base), dtype="float32"),
        data=Data(train=data[0], validation=data[1]),
        train=Train(
            max_steps=6,
            global_batch_size=4,
            micro_batch_size=2,
            learning_rate=1e-2,
            eval_every=2,
            log_every=1,
            device="cpu",
        ),
        lora=Lora(rank=2, alpha=4),
        output=Output(path=str(tmp_path / "out")),
    )


def with_train(settings, **changes):
    return replace(settings, train=replace(settings.train, **changes))


def weights(folder):
    (file,) = Path(folder).glob("*.safetensors")
    return load_file(file)


def metrics(folder):
    return [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# -- examples ------------------------------------------------------------------------------------------------


def test_rows_are_counted_whatever_becomes_of_them(tokenizer):
    rows = [
        row(1),
        row(2, body=60),
        {"prompt": "a law " * 60, "completion": "law"},
        {**row(3), "completion": ""},
        {**row(3), "completion": None},
        {"prompt": " ", "completion": "law"},
        {**row(4), "completion": "law, " * 60},
    ]
    found = encode_rows(tokenizer, rows, 48, what="training")
    c = found.counts
    assert (c.rows, c.body_cut, c.middle_cut, c.too_long, c.no_completion, c.no_prompt) == (7, 1, 1, 1, 2, 1)
    assert len(found) == 3
    assert found.lengths.max() == 48
    assert "1 dropped, as the completion alone fills the window" in str(c)
    for i in range(3):
        ids, prompt = found[i]
        assert ids[0] == tokenizer.bos_token_id
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids[prompt:-1]) in {row(1)["completion"], row(2, body=60)["completion"], "law"}
    text = tokenizer.decode(found[1][0][: found[1][1]], skip_special_tokens=True)
    assert text.startswith("Tags of: ")
    assert text.endswith("\nTags:\n")


def test_the_order_has_every_row_once_a_pass(tokenizer):
    found = encode_rows(tokenizer, [row(n) for n in range(8)], 64, what="training")
    schedule, other = (Schedule(found, 20, seed) for seed in (0, 1))
    assert len(schedule) == 20
    first, second = list(schedule._order[:8]), list(schedule._order[8:16])
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second
    assert list(other._order) != list(schedule._order)
    assert list(Schedule(found, 12, 0)._order) == list(schedule._order[:12])


def test_loss_is_that_of_the_completion_however_it_is_batched(base, tokenizer):
    """Against the loss of transformers, row by row; padded, packed, and sorted for an evaluation."""
    model = load_causal(base, who="test", dtype=torch.float32)
    found = encode_rows(tokenizer, [row(n, body=3 + 2 * n) for n in range(5)], 128, what="training")
    expected = 0.0
    for i in range(len(found)):
        ids, prompt = found[i]
        labels = torch.tensor(ids[None].astype("int64"))
        labels[:, :prompt] = -100
        with torch.no_grad():
            loss = model(input_ids=torch.tensor(ids[None].astype("int64")), labels=labels).loss
        expected += float(loss) * (len(ids) - prompt)
    rows = [found[i] for i in range(len(found))]
    for packing in (False, True):
        batch = collate(rows, 0, packing=packing)
        assert batch["labels"].shape[0] == (1 if packing else 5)
        assert batch["logits_to_keep"].shape[0] < batch["input_ids"].shape[1]
        with torch.no_grad():
            total, targets = completion_loss(model, batch)
            parts = [completion_loss(model, b) for b in evaluation_batches(found, 2, 0, packing=packing)]
        assert targets == found.targets == sum(n for _, n in parts)
        assert float(total) == pytest.approx(expected, rel=1e-5)
        assert sum(float(t) for t, _ in parts) == pytest.approx(expected, rel=1e-5)


def test_attention_that_mixes_rows_is_found(base):
    from transformers import BloomConfig, BloomForCausalLM

    for attention in ("sdpa", "eager"):
        model = load_causal(base, who="test", dtype=torch.float32, attention=attention)
        assert keeps_rows_apart(model, 600)
    alibi = BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=16, n_layer=1, n_head=2))
    assert not keeps_rows_apart(alibi, 64)

    class Mixing(type(model)):
        def forward(self, input_ids=None, position_ids=None, **rest):
            return super().forward(input_ids=input_ids, position_ids=torch.arange(input_ids.shape[1])[None], **rest)

    model.__class__ = Mixing
    assert not keeps_rows_apart(model, 600)


# -- runs ----------------------------------------------------------------------------------------------------


def test_a_run_teaches_and_writes_everything(settings):
    lines = []
    result = tune(settings, heard=lines.append)
    out = result.directory
    assert result.best_validation_loss < result.first_validation_loss - 0.1
    assert (result.updates, result.rows, result.validation_rows) == (6, 40, 20)
    assert not result.already_complete
    assert "global batch: 1 processes x 2 rows x 2 accumulated = 4 rows" in lines
    names = {p.name for p in out.iterdir()}
    assert names == {
        "best", "last", "checkpoints", "events", "hparams.json", "loss.png", "metrics.jsonl", "result.json", "run.json",
    }  # fmt: skip
    rows = metrics(out)
    assert [r["step"] for r in rows if "validation_loss" in r] == [0, 2, 4, 6]
    assert [r["step"] for r in rows if "loss" in r] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["validation_loss"] == result.last_validation_loss
    assert all(r["learning_rate"] > 0 for r in rows if "loss" in r)
    hparams = json.loads((out / "hparams.json").read_text())
    assert hparams["train"]["betas"] == [0.9, 0.95]
    assert hparams["derived"]["accumulation"] == 2
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert list((out / "events").glob("events.out.tfevents*"))
    assert not list((out / "checkpoints").rglob("training_args.bin"))
    assert tune(settings).already_complete


def test_the_adapter_gives_the_loss_that_was_measured(settings, base, tokenizer, data):
    """Loaded as tamis generate loads it, merged into the base."""
    result = tune(settings)
    rows = [json.loads(line) for line in Path(data[1]).read_text().splitlines()]
    found = encode_rows(tokenizer, rows, 128, what="validation")
    model = load_causal(base, who="test", dtype=torch.float32)
    merge_lora(model, result.last, who="test")
    with torch.no_grad():
        total, targets = completion_loss(model, collate([found[i] for i in range(len(found))], 0, packing=False))
    assert float(total) / targets == pytest.approx(result.last_validation_loss, rel=1e-4)
    assert json.loads((result.last / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)


def test_a_whole_model_is_written_in_its_own_format(settings, tmp_path):
    chosen = replace(settings, lora=None, model=replace(settings.model, dtype="bfloat16"))
    result = tune(with_train(chosen, learning_rate=1e-3, max_steps=4))
    assert result.best_validation_loss < result.first_validation_loss
    assert {each.dtype for each in weights(result.last).values()} == {torch.bfloat16}
    assert json.loads((result.last / "config.json").read_text())["dtype"] == "bfloat16"
    model = load_causal(result.last, who="test", dtype=torch.float32)
    assert not same(
        dict(model.state_dict()),
        dict(load_causal(Path(settings.model.name), who="t", dtype=torch.float32).state_dict()),
    )


def test_batches_shared_out_otherwise_give_the_same_losses(settings, tmp_path):
    runs = {}
    for name, changes in {"one": {}, "four": {"micro_batch_size": 4}, "packed": {"packing": True}}.items():
        changed = replace(with_train(settings, **changes), output=Output(path=str(tmp_path / name)))
        tune(changed)
        runs[name] = [r.get("loss", r.get("validation_loss")) for r in metrics(tmp_path / name)]
    assert runs["four"] == pytest.approx(runs["one"], rel=1e-4)
    assert runs["packed"] == pytest.approx(runs["one"], rel=1e-4)


SCRIPT = """
import sys
from tamis.tuner import load_settings, tune
tune(load_settings(sys.argv[1], sys.argv[2:]), heard=lambda line: print(line, flush=True))
"""

SHARDED = """
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from tamis.tuning import train

# accelerate shards on accelerators alone; these processes pass for such, as it looks.
begin, shared = AcceleratorState.__init__, PartialState._shared_state
def as_of_accelerators(self, *args, **kwargs):
    if shared.get("distributed_type") == DistributedType.MULTI_CPU:
        shared["distributed_type"] = DistributedType.MULTI_GPU
    begin(self, *args, **kwargs)
AcceleratorState.__init__ = as_of_accelerators
train._SHARDED_ON = ("cpu",)
"""


def recipe(tmp_path, settings, **train):
    options = {"max_steps": 6, "global_batch_size": 4, "micro_batch_size": 2, "learning_rate": 0.01, **train}
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    text = f"""
        [model]
        name = {json.dumps(settings.model.name)}
        dtype = "float32"
        [data]
        train = {json.dumps(settings.data.train)}
        validation = {json.dumps(settings.data.validation)}
        [lora]
        rank = 2
        alpha = 4
        dropout = 0.1
        [train]
        eval_every = 2
        log_every = 1
        device = "cpu"
        {chr(10).join(lines)}
        [output]
        path = {json.dumps(str(tmp_path / "run"))}
    """
    path = tmp_path / "tune.toml"
    path.write_text(text)
    return path


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def test_a_run_that_was_killed_ends_with_the_same_weights(settings, tmp_path):
    path = recipe(tmp_path, settings, max_steps=8)
    whole = tune(load_settings(path, [f"output.path={tmp_path / 'whole'}"]))
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path)], stdout=subprocess.PIPE, env=environment(), text=True
    )
    for line in child.stdout:
        if line.startswith("update 5"):
            child.send_signal(signal.SIGKILL)
            break
    child.wait()
    child.stdout.close()
    run = tmp_path / "run"
    assert not (run / "result.json").exists()
    assert (run / "checkpoints" / "checkpoint-4" / "complete").exists()
    broken = run / "checkpoints" / "checkpoint-6"
    broken.mkdir()
    (broken / "trainer_state.json").write_text("{")
    lines = []
    result = tune(load_settings(path), mode="resume", heard=lines.append)
    assert "going on from checkpoint-4" in lines
    assert same(weights(result.last), weights(whole.last))
    assert same(weights(result.best), weights(whole.best))
    assert metrics(run) == metrics(tmp_path / "whole")
    assert result.best_update == whole.best_update


@pytest.mark.parametrize(("parallel", "before"), [("ddp", ""), ("fsdp", SHARDED)])
def test_two_processes_have_the_losses_of_one(settings, tmp_path, parallel, before):
    path = recipe(tmp_path, settings, max_steps=4)
    path.write_text(path.read_text().replace("dropout = 0.1", "dropout = 0.0"))
    one = tune(load_settings(path, [f"output.path={tmp_path / 'one'}"]))
    (tmp_path / "script.py").write_text(before + SCRIPT)
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(tmp_path / "script.py")]
    done = subprocess.run(
        [sys.executable, *run, str(path), f"train.parallel={parallel}"],
        capture_output=True,
        env=environment(),
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    assert "global batch: 2 processes x 2 rows x 1 accumulated = 4 rows" in done.stdout
    two = tmp_path / "run"
    sharded = (two / "checkpoints" / "checkpoint-4" / "pytorch_model_fsdp.bin").exists()
    assert sharded == (parallel == "fsdp")
    found, wanted = metrics(two), metrics(one.directory)
    assert [r["step"] for r in wanted] == [r["step"] for r in found]
    for key in ("loss", "validation_loss", "grad_norm"):
        assert [r[key] for r in found if key in r] == pytest.approx([r[key] for r in wanted if key in r], rel=1e-4)
    last = weights(two / "last")
    torch.testing.assert_close(last, weights(one.last), rtol=1e-3, atol=1e-5)


def test_a_loss_that_is_no_number_stops_the_run(settings):
    with pytest.raises(TrainingError, match=r"loss of update \d is no number"):
        tune(replace(with_train(settings, learning_rate=1e30, max_grad_norm=0.0), lora=None))


# -- what is said in words -----------------------------------------------------------------------------------


def test_warnings_of_the_rate(settings):
    (sentence,) = rate_warnings(with_train(settings, learning_rate=1e-6))
    assert "about 200 times too low for LoRA" in sentence
    assert rate_warnings(with_train(settings, learning_rate=None)) == []
    assert "high for all weights" in rate_warnings(replace(with_train(settings, learning_rate=1e-2), lora=None))[0]
    assert with_train(settings, learning_rate=None).learning_rate == 2e-4
    assert replace(with_train(settings, learning_rate=None), lora=None).learning_rate == 1e-5


def feed(watch, losses, **more):
    return [sentence for step, loss in enumerate(losses, 1) for sentence in watch.heard(step, loss=loss, **more)]


def test_a_loss_that_does_not_move():
    flat = [2.0 + 0.05 * math.sin(9 * k) for k in range(20)]
    (sentence,) = feed(Watch(), flat)
    assert "has not moved" in sentence
    assert feed(Watch(), [2.0 - 0.02 * k + 0.05 * math.sin(9 * k) for k in range(20)]) == []
    assert feed(Watch(warmup=15), flat) == []
    assert feed(Watch(), [0.01] * 20) == []
    assert "no weight has changed" in feed(Watch(), [2.0], moved=False)[0]
    assert "rising" in feed(Watch(), [2.0 + 0.3 * k for k in range(12)])[0]


def test_validation_that_leaves_training_behind():
    watch, said = Watch(), []
    for step, (loss, validation) in enumerate([(3, 3), (2, 2.5), (1.5, 2.4), (1, 2.6), (0.5, 2.9)], 1):
        said += watch.heard(step, loss=loss)
        said += watch.heard(step, validation=validation)
    (sentence,) = said
    assert "validation leaves training behind: its loss was 2.400 at update 3 and is 2.600 at 4" in sentence
    recovers = Watch()
    assert not [s for k, v in enumerate([2.0, 2.6, 2.4]) for s in recovers.heard(k, validation=v)]
    fine = Watch()
    assert not [s for k in range(6) for s in fine.heard(k, validation=3 - 0.1 * k)]


def test_a_rate_that_does_nothing_is_told_by_a_run(settings):
    lines = []
    result = tune(with_train(settings, learning_rate=1e-12, max_steps=12, eval_every=50), heard=lines.append)
    assert any("too low for LoRA" in w for w in result.warnings)
    assert any("has not moved" in w for w in result.warnings)
    assert any(line.startswith("warning:") for line in lines)


# -- what is refused before any training ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([], TamisError, "empty"),
        ([{**row(1), "completion": ""}] * 3, UsageError, "All labels would be masked"),
        ([{"prompt": "a", "answer": "b"}], MissingColumnError, "completion"),
        ([{"messages": [{"role": "user", "content": "a"}]}], ModelError, "no chat template"),
        ([{**row(1), "prompt_body": [5, 5000]}], UsageError, "row 1 of the training rows: prompt_body"),
    ],
)
def test_rows_that_cannot_be_learnt(settings, tmp_path, rows, error, words):
    path = write_rows(tmp_path / "bad.jsonl", rows)
    with pytest.raises(error, match=words):
        tune(replace(settings, data=replace(settings.data, train=path)))
    assert not Path(settings.output.path).exists()


def test_a_window_that_the_model_does_not_have(settings):
    with pytest.raises(UsageError, match=r"data.window is 4096, and .* has 128 positions"):
        tune(replace(settings, data=replace(settings.data, window=4096)))


def test_a_directory_of_another_run(settings, tmp_path):
    tune(settings)
    with pytest.raises(OutputRefusedError, match=r"another run: train.learning_rate was 0.01, now 0.001"):
        tune(with_train(settings, learning_rate=1e-3))
    other = tmp_path / "other"
    llama_checkpoint(other, seed=5, window=128)
    with pytest.raises(OutputRefusedError, match="weights was"):
        tune(replace(settings, model=replace(settings.model, name=str(other))))
    assert not tune(with_train(settings, learning_rate=1e-3), mode="fresh").already_complete
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(OutputRefusedError, match=r"other files \(thesis.txt\)"):
        tune(replace(settings, output=Output(path=str(tmp_path / "mine"))), mode="fresh")
    assert (tmp_path / "mine" / "thesis.txt").exists()
    with pytest.raises(OutputRefusedError, match="no run to go on with"):
        tune(replace(settings, output=Output(path=str(tmp_path / "none"))), mode="resume")


def test_models_that_cannot_be_tuned(settings, base, tmp_path):
    with pytest.raises(UsageError, match=r"fits no layer of the model. Its linear layers: .*q_proj"):
        tune(replace(settings, lora=Lora(targets=["query"])))
    adapter = tune(with_train(settings, max_steps=1), mode="fresh").last
    with pytest.raises(ModelError, match="is a LoRA adapter"):
        tune(replace(settings, model=Model(name=str(adapter))))
    for name in ("tokenizer.json", "config.json", "model.safetensors"):
        (tmp_path / "no-end").mkdir(exist_ok=True)
        (tmp_path / "no-end" / name).write_bytes((base / name).read_bytes())
    (tmp_path / "no-end" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(ModelError, match="has no end-of-text token"):
        tune(replace(settings, model=Model(name=str(tmp_path / "no-end"))))


def test_a_model_that_cannot_be_sharded_here(settings):
    with pytest.raises(UsageError, match="needs CUDA devices"):
        tune(with_train(settings, parallel="fsdp"))


def test_a_revision_of_the_hub(settings, base, monkeypatch):
    asked = {}

    def download(name, *, allow_patterns, token, revision):
        asked.update(name=name, revision=revision)
        return str(base)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    result = tune(replace(with_train(settings, max_steps=1), model=replace(settings.model, name="a/b", revision="v2")))
    assert asked == {"name": "a/b", "revision": "v2"}
    written = json.loads((result.last / "adapter_config.json").read_text())
    assert (written["base_model_name_or_path"], written["revision"]) == ("a/b", "v2")


def test_a_missing_package(settings, monkeypatch):
    from importlib import util

    real = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "peft" else real(name))
    with pytest.raises(MissingExtraError, match=r"pip install 'tamis\[tune\]'"):
        tune(settings)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Train(learning_rate="1e-6"), "train.learning_rate must be a number above 0; got '1e-6'"),
        (lambda: Train(betas=(0.9, 1.0)), "train.betas"),
        (lambda: Train(schedule="cosin"), "Did you mean 'cosine'"),
        (lambda: Train(global_batch_size=0), "train.global_batch_size must be a whole number of at least 1"),
        (lambda: Lora(dropout=1.0), "lora.dropout"),
        (lambda: Model(name="x", dtype="bf16"), "bfloat16"),
        (lambda: Batches.of(Train(global_batch_size=16, micro_batch_size=3), 2), "must be a multiple"),
    ],
)
def test_settings_that_cannot_be_meant(make, words):
    with pytest.raises(UsageError, match=words):
        make()


def test_recipes(tmp_path, settings):
    path = recipe(tmp_path, settings)
    found = load_settings(path, ["train.learning_rate=1e-6", "data.window=64"])
    assert found.train.learning_rate == 1e-6
    assert found.data.window == 64
    with pytest.raises(UnknownNameError, match="Did you mean 'learning_rate'"):
        load_settings(path, ["train.learning_rat=1"])
    with pytest.raises(RecipeError, match="learning_rate must be a number"):
        load_settings(path, ["train.learning_rate=fast"])
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        load_settings(path, ["trian.max_steps=1"])
    for name in shipped_recipes("model"):
        load_settings(name)
    old = load_settings("gemma2_law_tags_2024")
    assert (old.learning_rate, old.lora.rank, old.train.max_steps, old.train.max_grad_norm) == (1e-6, 32, 2500, 0.5)
    assert "about 200 times too low" in rate_warnings(old)[0]
    assert rate_warnings(load_settings("gemma2_law_tags")) == []


def test_the_command(tmp_path, settings, capsys):
    from tamis.cli import main

    path = recipe(tmp_path, settings, max_steps=2)
    assert main(["tune", str(path), "--set", "train.eval_every=1"]) == 0
    shown = capsys.readouterr().out
    assert "validation loss" in shown
    assert f"tamis generate {tmp_path / 'run' / 'best'} ROWS --out ANSWERS" in shown
    assert main(["tune", str(path), "--set", "train.eval_every=1"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(["tune", str(path)]) == 2
    assert "another run" in capsys.readouterr().err
