"""``tamis pii``: what it writes and says."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import read_jsonl
from tamis.cli import main

DOCUMENTS = [
    {"text": "mail ann@corp.org or bo@corp.org", "title": "ssn 078-05-1120", "n": 1},
    {"text": "nothing [bold]here[/bold]", "title": "none", "n": 2},
    {"text": "mail ann@corp.org, card 4111 1111 1111 1111", "title": "", "n": 3},
]
RAW = ("ann@corp", "bo@corp", "078-05", "4111 1111")


@pytest.fixture
def data(tmp_path, monkeypatch, write_jsonl):
    monkeypatch.chdir(tmp_path)
    write_jsonl("in.jsonl", DOCUMENTS)
    return tmp_path


def test_it_changes_documents_and_says_what_it_found(data, capsys):
    command = ["pii", "in.jsonl", "--out", "out", "--workers", "1", "--text-field", "text", "title"]
    assert main([*command, "--numbered"]) == 0
    said = capsys.readouterr().out
    out = read_jsonl(*sorted((data / "out").glob("*.jsonl")))
    assert [d["text"] for d in out] == [
        "mail <EMAIL_ADDRESS_1> or <EMAIL_ADDRESS_2>",
        "nothing [bold]here[/bold]",
        "mail <EMAIL_ADDRESS_1>, card <CREDIT_CARD_1>",
    ]
    assert [d["title"] for d in out] == ["ssn <US_SSN_1>", "none", ""]
    assert [d["n"] for d in out] == [1, 2, 3]
    assert "EMAIL_ADDRESS" in said
    assert [line.split() for line in said.splitlines() if line.startswith("EMAIL")] == [["EMAIL_ADDRESS", "3"]]
    assert "changed, not dropped" in said
    assert not any(value in said for value in RAW)
    assert main([*command, "--numbered"]) == 0
    assert "already holds" in capsys.readouterr().out
    assert main(["verify", "out"]) == 0


def test_a_report_counts_and_hides_and_writes_nothing(data, capsys, monkeypatch):
    before = sorted(data.rglob("*"))
    assert main(["pii", "in.jsonl", "--report", "--text-field", "text", "title", "--workers", "1"]) == 0
    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.split()}
    assert rows["EMAIL_ADDRESS"] == ["3", "2", "a••@••••.•••", "b•@••••.•••"]
    assert rows["CREDIT_CARD"][:2] == ["1", "1"]
    assert rows["US_SSN"] == ["1", "1", "0••-••-••••"]
    assert "3 documents looked at; nothing was written." in said
    assert not any(value in said for value in RAW)
    assert sorted(data.rglob("*")) == before


def test_the_report_fits_eighty_columns(data, capsys, monkeypatch, write_jsonl):
    write_jsonl("in.jsonl", [{"text": f"see https://corp{'x' * 60}{i}.org/{'y' * 200} or [red]{i}"} for i in range(9)])
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    assert main(["pii", "in.jsonl", "--report", "--workers", "1"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_parquet_stays_parquet_and_actions_have_their_settings(data, capsys, monkeypatch):
    pq.write_table(pa.Table.from_pylist(DOCUMENTS), "in.parquet")
    monkeypatch.setenv("TAMIS_TEST_KEY", "a key for tests only")
    keyed = ["--action", "hash", "--key-from-environment", "TAMIS_TEST_KEY", "--hash-length", "8"]
    assert main(["pii", "in.parquet", "--out", "hashed", "--workers", "1", "--entities", "EMAIL_ADDRESS", *keyed]) == 0
    rows = pq.read_table(next((data / "hashed").glob("*.parquet"))).to_pylist()
    assert rows[0]["text"].count("<EMAIL_ADDRESS:") == 2
    assert rows[2]["text"].endswith("card 4111 1111 1111 1111")
    assert main(["pii", "in.jsonl", "--out", "m", "--workers", "1", "--action", "mask", "--keep-last", "4"]) == 0
    assert "**** **** **** 1111" in json.dumps(read_jsonl(*sorted((data / "m").glob("*.jsonl"))))
    assert main(["pii", "in.jsonl", "--report", "--limit", "1", "--workers", "1", "--entities", "URL"]) == 0
    said = capsys.readouterr().out
    assert "Nothing was found." in said
    assert "1 document looked at" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--report", "--action", "mask"], "leave --action out"),
        (["--report", "--numbered"], "leave --numbered out"),
        (["--out", "o", "--entities", "EMAIL_ADRESS"], "Did you mean 'EMAIL_ADDRESS'"),
        (["--out", "o", "--entities", "PERSON"], "nothing finds PERSON"),
        (["--out", "o", "--action", "hash"], "needs a key"),
        (["--out", "o", "--keep-last", "4"], "keep_last is a setting of the action mask"),
        (["--out", "o", "--text-field", "txt"], "'txt'"),
        (["--report", "--model", "./no-such-model"], "no model directory"),
    ],
)
def test_misuse_is_said_in_a_sentence(data, capsys, arguments, message):
    assert main(["pii", "in.jsonl", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (data / "o").exists()
