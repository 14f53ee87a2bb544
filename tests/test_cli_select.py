"""``tamis select``: what it writes and says."""

import json

import pytest

from tamis.cli import main
from test_dsir import TOPICS, document, kept, write


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = list(TOPICS)
    write(tmp_path / "raw.jsonl", [{"text": document(names[i % 3], i), "topic": names[i % 3]} for i in range(180)])
    write(tmp_path / "target.jsonl", [{"text": document("cats", 1000 + i)} for i in range(60)])
    return tmp_path


SELECT = ["select", "raw.jsonl", "--target", "target.jsonl", "--out", "out", "--workers", "1", "--min-length", "10"]


def test_it_chooses_and_says_how_well_and_goes_on_from_what_is_there(data, capsys):
    assert main([*SELECT, "--num", "30", "--source-field", "topic"]) == 0
    said = capsys.readouterr().out
    assert {each["topic"] for each in kept("out")} == {"cats"}
    assert "30 of 180 documents chosen (180 could be)" in said
    for part in ("effective sample size", "KL(target", "Most typical", "Around the cut", "cats", "out.selection.json"):
        assert part in said
    assert json.loads((data / "out.selection.json").read_bytes())["selected"] == 30
    before = sorted((data / "out").rglob("*.jsonl"))
    assert main([*SELECT, "--num", "30", "--source-field", "topic"]) == 0
    assert sorted((data / "out").rglob("*.jsonl")) == before
    assert main(["verify", "out"]) == 0
    # Another choice does not go where this one is.
    assert main([*SELECT, "--num", "20"]) == 2
    assert "out" in capsys.readouterr().err


def test_sources_are_files_where_no_field_says_more(data, capsys):
    (data / "more.jsonl").write_text((data / "target.jsonl").read_text())
    more = ["--num", "100", "--top-k", "--hash", "sha256", "--smoothing", "1"]
    arguments = ["select", "raw.jsonl", "more.jsonl", *SELECT[2:], *more]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "more.jsonl" in said
    assert "of the target's texts are among the raw documents" in said


def test_mixtures_and_both(data, capsys, tmp_path_factory):
    from tiny_embedders import sentence_embedder

    model = str(sentence_embedder(tmp_path_factory.mktemp("m") / "tiny"))
    for features in ("gmm", "hybrid"):
        out = ["--out", features, "--cache", "cache", "--features", features, "--model", model, "--alpha", "0.3"]
        assert main([*SELECT, *out, "--num", "20", "--per-token"]) == 0
        assert len(kept(features)) == 20
    assert "components: held-out documents are likelier under them" in capsys.readouterr().out.replace("\n", " ")


def test_smoothing_is_chosen_and_said(data, capsys):
    assert main([*SELECT, "--num", "30"]) == 0
    assert "buckets of the target are empty, so 1 was added" in capsys.readouterr().out.replace("\n", " ")
    assert main([*SELECT, "--num", "30", "--smoothing", "0", "--out", "plain", "--cache", "plain.cache"]) == 0
    assert "so 1 was added" not in capsys.readouterr().out.replace("\n", " ")


def test_a_cluster_is_connected_to_once(data, monkeypatch):
    from tamis.engine import on_ray
    from tamis.engine.embedded import EmbeddedEngine

    class Fake(EmbeddedEngine):
        """Connects as the engine on Ray does: the first connects, and disconnects when it is closed."""

        connections, connected = 0, False

        def __init__(self, address):
            super().__init__()
            self.address, self.ours = address, False

        def _connect(self):
            self.ours = self.ours or not Fake.connected
            Fake.connections += not Fake.connected
            Fake.connected = True

        def workers(self, needs):
            self._connect()
            return 1

        def run(self, *given, **options):
            self._connect()
            return super().run(*given, **options)

        def close(self):
            Fake.connected = Fake.connected and not self.ours
            super().close()

    monkeypatch.setattr(on_ray, "RayEngine", Fake)
    assert main([*SELECT, "--num", "30", "--engine", "ray", "--address", "local"]) == 0
    assert (Fake.connections, Fake.connected) == (1, False)


def test_misuse_is_said_in_a_sentence(data, capsys):
    assert main([*SELECT, "--num", "0"]) == 2
    assert "at least 1 document" in capsys.readouterr().err
    assert main([*SELECT, "--num", "5", "--features", "hybrid", "--alpha", "2"]) == 2
    assert "alpha" in capsys.readouterr().err
    assert main(["select", "none.jsonl", *SELECT[2:], "--num", "5"]) == 1
    assert "none.jsonl" in capsys.readouterr().err
