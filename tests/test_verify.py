"""`tamis verify` passes what a run wrote, and says of everything that was done to it afterwards."""

from __future__ import annotations

import argparse
import io
import json
import shutil
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from conftest import read_jsonl
from fake_run import WAYS, Fake
from tamis import DocumentDataset, ScoreFilter
from tamis.cli_runs import add_verify
from tamis.engine import verify as verifying
from tamis.engine.verify import verify
from tamis.errors import UsageError
from tamis.filters import WordCountFilter
from tamis.hashing import fingerprint


def dataset(tmp_path, write_jsonl):
    for name in ("a", "b"):
        path = Path(
            write_jsonl(f"in/{name}.jsonl", [{"text": "w " * (i % 7), "i": i, "kind": i % 2} for i in range(40)])
        )
        path.write_bytes(path.read_bytes() + b'{"text": \n')
    read = DocumentDataset.read_json(str(tmp_path / "in"), columns=["text", "i", "kind"])
    return ScoreFilter(WordCountFilter(min_words=2))(read)


FORMATS = {
    "jsonl": {"keep_rejects": True},
    "gz": {"compression": "gz", "keep_rejects": True},
    "zst": {"compression": "zst", "write_to_filename": True},
    "partition": {"partition_on": "kind"},
    "by_input": {"write_to_filename": True},
    "parquet": {"keep_rejects": True},
    "parquet by_input": {"write_to_filename": True},
}


@pytest.mark.parametrize("kind", FORMATS)
def test_what_a_run_wrote_is_right(kind, tmp_path, write_jsonl):
    documents = dataset(tmp_path, write_jsonl)
    write = documents.to_parquet if kind.startswith("parquet") else documents.to_json
    settings = {k: v for k, v in FORMATS[kind].items() if k != "compression" or not kind.startswith("parquet")}
    result = write(tmp_path / "out", split_size=500, max_bad=0.5, progress="off", workers=1, **settings)
    heard = []
    found = verify(tmp_path / "out", threads=3, heard=lambda *told: heard.append(told))
    assert found.findings == []
    assert found.ok
    assert found.complete
    rejects = result.tally.total_rejected if settings.get("keep_rejects") else 0
    assert found.rows == result.tally.kept + rejects > 40
    assert found.splits == found.splits_total > 5
    assert (
        found.outputs
        == len([p for p in (tmp_path / "out").rglob("*.*") if "_tamis" not in p.parts and p.is_file()]) - 1
    )
    assert heard[-1][0] <= heard[-1][1]
    assert sorted(done for done, _ in heard) == [done for done, _ in heard]


@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_is_not_complete_is_checked_as_far_as_it_goes(way, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Fake(tmp_path / "out", 23, **WAYS[way]).run(until=17)
    found = verify(tmp_path / "out")
    assert found.findings == []
    assert not found.complete
    assert (found.splits, found.splits_total) == (17, 23)
    lines = (tmp_path / "out/_tamis/journal").read_bytes().splitlines(keepends=True)
    (tmp_path / "out/_tamis/journal").write_bytes(b"".join(lines[:-1]) + lines[-1][:9])  # moved, and not noted
    found = verify(tmp_path / "out")
    assert found.findings == []
    assert found.splits == 16
    entries = [json.loads(line)["outputs"] for line in lines[:-1]]
    one = next(o for outputs in entries for o in outputs if o["bytes"] > 3)
    place = one["path"] if one["part"] is None else f"_tamis/parts/{one['path']}/{one['part']}"
    damaged = tmp_path / "out" / place
    damaged.write_bytes(b"X" + damaged.read_bytes()[1:])
    (tmp_path / "out/notes.txt").write_text("x")
    changed, foreign = verify(tmp_path / "out").findings
    assert changed == (
        f"{place} was changed or damaged: its XXH3-128 is not the one it was written with. "
        "Delete it and run the same command again: its split is done again."
    )
    assert foreign == (
        "notes.txt is in no list of this run: whoever reads the directory may take it for documents. "
        "If it is yours, move it elsewhere; else delete it."
    )
    damaged.unlink()
    (tmp_path / "out/notes.txt").unlink()
    (said,) = verify(tmp_path / "out").findings
    assert said.endswith(" is missing. Run the same command again: its split is done again.")
    Fake(tmp_path / "out", 23, **WAYS[way]).run()
    assert verify(tmp_path / "out").ok


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    Fake(out, 12, **WAYS["rejects"]).run()
    assert verify(out).ok
    return out


@pytest.fixture
def out(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "out")
    return tmp_path / "out"


ANEW = "Restore it from a copy, or make the directory again with --fresh."


def said_of(out):
    found = verify(out)
    assert not found.ok
    assert found.found == len(found.findings)
    return found.findings


@pytest.mark.parametrize("name", ["part-00003.jsonl", "_rejects/part-00000.jsonl", "_quarantine/records.jsonl"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "has {less} bytes, it was written with {bytes}"),
        (lambda path: path.write_bytes(path.read_bytes() * 2), "has {twice} bytes, it was written with {bytes}"),
        (
            lambda path: path.write_bytes(b"X" + path.read_bytes()[1:]),
            "was changed or damaged: its XXH3-128 is not the one it was written with",
        ),
    ],
)
def test_a_file_that_is_not_as_it_was_written(out, name, damage, said):
    size = (out / name).stat().st_size
    damage(out / name)
    told = said.format(less=size - 1, twice=2 * size, bytes=size)
    assert said_of(out)[0] == f"{name} {told}. {ANEW}"


@pytest.mark.parametrize("name", ["splits.ndjson", "outputs.ndjson"])
def test_a_listing_that_was_changed(out, name):
    path = out / "_tamis" / name
    path.write_bytes(path.read_bytes().replace(b'"bytes', b'"b"tes', 1))
    first, *others = said_of(out)
    assert first == (f"_tamis/{name} was changed or damaged: its XXH3-128 is not the one it was written with. {ANEW}")
    assert f"line 1 of _tamis/{name} cannot be understood. {ANEW}" in others


def edit(out, name, change, **more):
    """Change the entries of a listing, and the manifest's digest of it: as only somebody who means to could."""
    path = out / "_tamis" / name
    entries = change([json.loads(line) for line in path.read_bytes().splitlines()])
    body = b"".join(orjson.dumps(entry) + b"\n" for entry in entries)
    path.write_bytes(body)
    manifest = json.loads((out / "_tamis/manifest.json").read_text())
    facts = {"bytes": len(body), "lines": body.count(b"\n"), "xxh3": fingerprint(body)}
    manifest["listings"][f"_tamis/{name}"] = facts
    (out / "_tamis/manifest.json").write_bytes(orjson.dumps(manifest | more))


def first(change):
    """Change the first entry alone."""

    def changed(entries):
        change(entries[1])
        return entries

    return changed


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("outputs", first(lambda e: e.update(rows=2)), "_rejects/part-00001.jsonl has 1 rows, 2 are listed"),
        ("outputs", first(lambda e: e.update(bytes=7)), "_rejects/part-00001.jsonl has 2 bytes, it was written with 7"),
        ("outputs", lambda es: es[1:], "_tamis/outputs.ndjson lists 23 files, _tamis/manifest.json says 24"),
        ("outputs", lambda es: es[1:], "_rejects holds 11 documents, _tamis/manifest.json says 12 were rejected"),
        ("outputs", lambda es: es[1:], "_rejects/part-00000.jsonl is in no list of this run"),
        ("outputs", lambda es: es[:-1], "the outputs hold 15 documents, _tamis/manifest.json says 18 were kept"),
        ("outputs", lambda es: es[:-1], "the outputs are listed with 45 bytes, _tamis/manifest.json says 54"),
        ("splits", lambda es: es[1:], "line 1 of _tamis/splits.ndjson is about split 1, not 0"),
        ("splits", lambda es: es[1:], "_tamis/splits.ndjson lists 11 splits, _tamis/manifest.json says 12"),
        (
            "splits",
            first(lambda e: e["tally"].update(kept=9)),
            "split 1 in _tamis/splits.ndjson: 2 records came in, but 9",
        ),
        (
            "splits",
            first(lambda e: e["tally"].update(kept=9)),
            "do not add up to the totals in _tamis/manifest.json: kept",
        ),
    ],
)
def test_counts_that_do_not_add_up(out, name, change, said):
    edit(out, f"{name}.ndjson", change)
    assert any(said in finding for finding in said_of(out)), said_of(out)


def test_totals_that_were_changed(out):
    manifest = json.loads((out / "_tamis/manifest.json").read_text())
    manifest["totals"]["quarantined"] = {"cut": 1, "long": 1}
    (out / "_tamis/manifest.json").write_bytes(orjson.dumps(manifest))
    said = said_of(out)
    assert "do not add up to the totals in _tamis/manifest.json: quarantined differ" in said[0]
    assert "holds 2 records with the cause 'cut', _tamis/manifest.json says 1" in said[1]
    assert "holds 0 records with the cause 'long', _tamis/manifest.json says 1" in said[2]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"totals": {}}'])
def test_a_manifest_that_is_none(out, content):
    (out / "_tamis/manifest.json").write_bytes(content)
    assert said_of(out) == [f"_tamis/manifest.json cannot be understood: it was changed or damaged. {ANEW}"]


@pytest.mark.parametrize("name", ["part-00012.jsonl", "x/part-00001.jsonl", "_rejects/old.jsonl", "_tamis/journal"])
def test_a_file_that_is_in_no_list(out, name):
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_bytes(b"{}\n")
    (said,) = said_of(out)
    assert said.startswith(f"{name} is in no list of this run: whoever reads the directory may take it for documents.")


@pytest.mark.parametrize("compression", ["gz", "zst"])
def test_rows_of_packed_files_are_counted(tmp_path, compression, write_jsonl):
    path = write_jsonl("in/a.jsonl", [{"text": "w" * 50} for _ in range(60)])
    out = tmp_path / "out"
    DocumentDataset.read_json(path).to_json(out, compression=compression, split_size=900, progress="off", workers=1)
    edit(out, "outputs.ndjson", first(lambda e: e.update(rows=99)))
    assert any(f"part-00001.jsonl.{compression} has 12 rows, 99 are listed" in f for f in said_of(out)), said_of(out)
    cut = out / f"part-00002.jsonl.{compression}"
    body = cut.read_bytes()[:-4]
    cut.write_bytes(body)
    edit(out, "outputs.ndjson", lambda es: [*es[:2], es[2] | {"bytes": len(body), "xxh3": fingerprint(body)}, *es[3:]])
    assert any(f"part-00002.jsonl.{compression} cannot be read to its end" in f for f in said_of(out)), said_of(out)


def test_rows_of_parquet_are_those_of_its_footer(tmp_path, write_jsonl):
    path = write_jsonl("in/a.jsonl", [{"text": "w" * 50} for _ in range(30)])
    out = tmp_path / "out"
    DocumentDataset.read_json(path).to_parquet(out, split_size=900, progress="off", workers=1)
    pq.write_table(pq.read_table(out / "part-00001.parquet").slice(1), out / "part-00001.parquet")
    body = (out / "part-00001.parquet").read_bytes()
    edit(out, "outputs.ndjson", first(lambda e: e.update(bytes=len(body), xxh3=fingerprint(body))))
    assert any("part-00001.parquet has 9 rows, 10 are listed" in f for f in said_of(out)), said_of(out)


def test_a_directory_that_holds_no_run(tmp_path):
    with pytest.raises(UsageError, match="holds no run of Tamis"):
        verify(tmp_path)
    with pytest.raises(UsageError, match="holds no run of Tamis"):
        verify(tmp_path / "nowhere")


def test_behind_a_url(write_jsonl, tmp_path):
    path = write_jsonl("in/a.jsonl", [{"text": "w" * 50} for _ in range(30)])
    out = f"memory://verify-{tmp_path.name}/out"
    DocumentDataset.read_json(path).to_json(out, split_size=900, progress="off", workers=1)
    assert verify(out).findings == []
    import fsspec

    fsspec.filesystem("memory").pipe_file(f"/verify-{tmp_path.name}/out/part-00001.jsonl", b"{}\n")
    assert said_of(out)[0].startswith("part-00001.jsonl has 3 bytes, it was written with ")


def test_of_many_findings_the_first_are_kept(out, monkeypatch):
    monkeypatch.setattr(verifying, "_SAID", 3)
    for path in out.glob("part-*"):
        path.unlink()
    found = verify(out)
    assert len(found.findings) == 3
    assert found.found == 12


def run(out, *more):
    parser, text = argparse.ArgumentParser(), io.StringIO()
    add_verify(parser.add_subparsers(), lambda: Console(file=text, soft_wrap=True))
    options = parser.parse_args(["verify", str(out), *more])
    return options.command(options), text.getvalue()


def test_the_command(out):
    code, text = run(out)
    assert code == 0
    assert text == f"{out}: 24 files, 30 rows, 78 B, 12 splits: everything is as it was written.\n"
    for path in out.glob("part-*"):
        path.unlink()
    code, text = run(out, "--threads", "2")
    assert code == 1
    assert text.splitlines()[0] == f"part-00000.jsonl is missing. {ANEW}"
    assert text.splitlines()[-1].endswith(": 12 things are wrong.")
    code, text = run(out, "--json")
    assert code == 1
    told = json.loads(text)
    assert (told["ok"], told["found"], told["outputs"]) == (False, 12, 24)
    assert len(told["findings"]) == 12
    with pytest.raises(UsageError, match="--threads must be at least 1"):
        run(out, "--threads", "0")


def test_findings_do_not_change_the_directory(out):
    before = sorted((str(p), p.stat().st_mtime_ns) for p in out.rglob("*"))
    verify(out)
    assert sorted((str(p), p.stat().st_mtime_ns) for p in out.rglob("*")) == before
    assert len(read_jsonl(out / "_quarantine/records.jsonl")) == 2
