"""The code that was published for these classifiers runs as it is, with its import lines changed and nothing else.

Checkpoints are tiny ones in the published layouts, found at their hub ids below the folder that TAMIS_MODELS names.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import read_jsonl
from tamis import DocumentDataset, get_all_files_paths_under
from tamis.classifiers import DomainClassifier, QualityClassifier
from tamis.classifiers.aegis import AegisClassifier
from tamis.classifiers.topic import DOMAINS
from tamis.errors import ModelError
from tiny_checkpoints import WORDS, EncoderAndFc, deberta_config, encoder_checkpoint, enlarge, sequence_classifier
from tiny_guard import SAYS, guard
from tiny_words import save_word_tokenizer

BLOCKS = {
    block["name"]: block
    for block in map(json.loads, (Path(__file__).parent / "cases/published_usage.jsonl").read_text().splitlines())
}
NAMES = [DocumentDataset, get_all_files_paths_under, AegisClassifier, DomainClassifier]
"""What blocks use that import nothing."""
LABELS = {"Games", "Sports"}
SEED = 4
"""Of a domain classifier that finds both among the documents."""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The published checkpoints, made small, and the encoder that the oldest of them names as its base."""
    folder = tmp_path_factory.mktemp("models")
    encoder_checkpoint(folder / "nvidia/domain-classifier", list(DOMAINS), seed=SEED)
    encoder_checkpoint(folder / "nvidia/quality-classifier-deberta", ["High", "Medium", "Low"], seed=1)
    sequence_classifier(folder / "HuggingFaceFW/fineweb-edu-classifier", num_labels=1)
    for name in ("nvidia/domain-classifier", "nvidia/quality-classifier-deberta", "microsoft/deberta-v3-base"):
        save_word_tokenizer(folder / name)
    deberta_config().save_pretrained(folder / "microsoft/deberta-v3-base")
    guard(folder)
    return folder


# -- documents -----------------------------------------------------------------------------------------------


def _documents(seed: int) -> list[dict[str, object]]:
    """Forty texts of 1 to 30 words, a null, a blank one, and one that is longer than any model reads."""
    generator = np.random.default_rng(seed)
    plain = [word for word in WORDS if word not in SAYS]
    texts: list[str | None] = [
        " ".join(generator.choice(plain, size=int(generator.integers(1, 30)))) for _ in range(40)
    ]
    for i, word in enumerate(SAYS):
        texts[i] = f"a recipe for {word} and more"
    texts[7] = "a recipe for soup and bread"
    texts += [None, "  \n", " ".join(generator.choice(plain, size=3000))]
    return [{"text": text, "n": i, "url": f"https://example.org/{seed}/{i}"} for i, text in enumerate(texts)]


@pytest.fixture
def place(models, tmp_path, monkeypatch, write_jsonl):
    """A folder to run in, with the folders that the documents read, some files in folders of folders."""
    for seed, name in enumerate(("books_dataset", "web_documents", "unsafe_documents")):
        documents = _documents(seed)
        write_jsonl(f"{name}/a.jsonl", documents[:20])
        write_jsonl(f"{name}/more/deep/a.jsonl", documents[20:35])
        write_jsonl(f"{name}/more/b.jsonl", documents[35:])
    net = enlarge(EncoderAndFc(deberta_config(), len(DOMAINS)), SEED)
    torch.save(net.state_dict(), tmp_path / "pytorch_model_file.pth")
    monkeypatch.setenv("TAMIS_MODELS", str(models))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(name: str, place: Path) -> tuple[list[dict], list[dict], dict]:
    """Run a block after what it goes on from: the documents read, those written, and the totals of the run."""
    names = {each.__name__: each for each in NAMES}
    block, chain = BLOCKS[name], [name]
    while "after" in BLOCKS[chain[0]]:
        chain.insert(0, BLOCKS[chain[0]]["after"])
    for each in chain:
        exec(compile(BLOCKS[each]["code"], each, "exec"), names)  # the blocks are data of ours
    exec(block.get("then", ""), names)
    out = place / block["writes"]
    read = read_jsonl(*sorted((place / block["reads"]).rglob("*.jsonl")))
    written = read_jsonl(*sorted(p for p in out.rglob("*.jsonl") if not p.relative_to(out).parts[0].startswith("_")))
    totals = json.loads((out / "_tamis/manifest.json").read_text())["totals"]
    return read, written, totals


def check_nothing_is_lost(read: list[dict], written: list[dict], totals: dict) -> None:
    """Kept and rejected are what was read; what was kept is as it was."""
    rejected = sum(n for reasons in totals["rejected"].values() for n in reasons.values())
    assert totals["records"] == len(read) == 43
    assert totals["kept"] == len(written)
    assert totals["kept"] + rejected == len(read)
    assert not totals["quarantined"]
    before = {document["url"]: document for document in read}
    assert len({document["url"] for document in written}) == len(written)
    for document in written:
        assert before[document["url"]].items() <= document.items()


def answers(stage, folder: Path) -> dict[str, object]:
    """What a classifier that keeps everything says, by url."""
    table = stage(DocumentDataset.read_json(get_all_files_paths_under(str(folder)))).to_arrow()
    return dict(zip(table["url"].to_pylist(), table[stage.pred_column].to_pylist(), strict=True))


# -- the blocks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["domain", "domain, by file", "domain, old form"])
def test_domain(place, name):
    read, written, totals = run(name, place)
    check_nothing_is_lost(read, written, totals)
    wanted = {url for url, label in answers(DomainClassifier(), place / "books_dataset").items() if label in LABELS}
    assert 2 < len(wanted) < 40
    assert {document["url"] for document in written} == wanted
    assert {document["domain_pred"] for document in written} == LABELS
    assert sum(n for reason, n in totals["rejected"]["DomainClassifier"].items() if "no text" in reason) == 2
    by_file = name != "domain"
    columns = {"text", "n", "url", "domain_pred"} | ({"file_name"} if by_file else set())
    assert all(set(document) == columns for document in written)
    found = {str(p.relative_to(place / "games_and_sports")) for p in (place / "games_and_sports").rglob("*.jsonl")}
    names = {"a.jsonl", "more/deep/a.jsonl", "more/b.jsonl"}
    assert {f for f in found if not f.startswith("_")} == (names if by_file else {"part-00000.jsonl"})
    if by_file:
        for file in names:
            assert {d["file_name"] for d in read_jsonl(place / "games_and_sports" / file)} <= {file}


def test_the_old_form_needs_the_shape_of_its_base(place, models, monkeypatch):
    monkeypatch.setenv("TAMIS_MODELS", str(place / "none"))
    with pytest.raises(ModelError, match="of another shape"):
        run("domain, old form", place)


def test_quality(place):
    read, written, totals = run("quality", place)
    check_nothing_is_lost(read, written, totals)
    assert {document["quality_pred"] for document in written} <= {"High", "Medium"}
    found = answers(QualityClassifier(), place / "web_documents")
    assert {d["url"] for d in written} == {url for url, label in found.items() if label in {"High", "Medium"}}
    assert 0 < len(written) < len(read) - 2
    assert all(set(d) == {"text", "n", "url", "quality_pred", "quality_prob"} for d in written)
    assert all(sum(d["quality_prob"]) == pytest.approx(1, abs=1e-5) for d in written)


def expected_verdict(text: str | None) -> str | None:
    """What the guard was made to say."""
    if text is None or not text.strip():
        return None
    return next((label for word, label in SAYS.items() if word in text.split()), "safe")


def test_aegis(place):
    read, written, totals = run("aegis", place)
    check_nothing_is_lost(read, written, totals)
    wanted = {d["url"]: v for d in read if (v := expected_verdict(d["text"])) in {"safe", "O13"}}
    assert {d["url"]: d["aegis_pred"] for d in written} == wanted
    assert set(wanted.values()) == {"safe", "O13"}
    assert totals["rejected"]["AegisClassifier"] == {
        "aegis_pred is O3": 2,
        "aegis_pred is unknown": 1,
        "no text to classify": 2,
    }
    assert all(set(d) == {"text", "n", "url", "aegis_pred"} for d in written)
    assert "hf_1234" not in "".join(p.read_text() for p in (place / "safe_documents").rglob("*") if p.is_file())


def test_aegis_with_its_raw_answers(place):
    read, written, totals = run("aegis, raw", place)
    check_nothing_is_lost(read, written, totals)
    raw = {(d["aegis_pred"], d["raw_predictions"]) for d in written}
    assert raw == {("safe", "safe"), ("O13", "unsafe\nO13")}


def test_edu(place):
    read, written, totals = run("edu", place)
    check_nothing_is_lost(read, written, totals)
    assert len(written) == len(read)
    for document in written:
        score, whole = document["fineweb-edu-score"], document["fineweb-edu-score-int"]
        if expected_verdict(document["text"]) is None:
            assert score is None is whole
        else:
            assert 0 <= score <= 5
            assert whole == round(score)


def test_edu_4_and_5(place):
    read, written, totals = run("edu, 4 and 5", place)
    check_nothing_is_lost(read, written, totals)
    everything = read_jsonl(place / "educational_content/part-00000.jsonl")
    wanted = [d for d in everything if (d["fineweb-edu-score-int"] or 0) >= 4]
    assert 0 < len(written) < len(read)
    assert written == wanted


def test_every_block_is_run():
    text = Path(__file__).read_text()
    assert all(f'"{name}"' in text for name in BLOCKS)
