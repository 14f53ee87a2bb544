"""The demo corpus: real text from this interpreter, and a tree of strange files made for the purpose."""

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tamis.corpus import SOURCES, CorpusSummary, Roots, collect, write
from tamis.errors import InputError, OutputError, UsageError


@pytest.fixture(scope="module")
def real():
    return list(collect(12_000))


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.fixture
def tree(tmp_path):
    """A small installation; what is wrong with a file is said by its name."""
    std, site = tmp_path / "lib", tmp_path / "lib" / "site-packages"
    put(std / "pydoc_data" / "topics.py", 'topics = {"while": "The while statement.", "assert": "Assert.", "n": 1}\n')
    put(std / "shelf.py", '"""A shelf."""\nclass A:\n    """An A."""\n    def f(self):\n        """Do f."""\n')
    put(std / "test" / "test_shelf.py", '"""Not taken: a test."""\n')
    put(std / "LICENSE.txt", "PSF\r\n")
    put(site / "mill-1.0.dist-info" / "METADATA", "Name: mill\r\nVersion: 1.0\r\n\r\n# Mill\r\n\r\nIt grinds.\r\n")
    put(site / "bare-2.dist-info" / "METADATA", "Name: bare\nVersion: 2\n\n")
    put(site / "mill-1.0.dist-info" / "licenses" / "COPYING", "MIT\n")
    put(site / "mill" / "__init__.py", "def go():\n    '''  Go.\n\n    Fast.\n    '''\n")
    put(site / "mill" / "notes.md", "Notes\n\n\n\n\nEnd\n")
    put(site / "mill" / "a.rst", "A\n")
    put(site / "mill" / "data.bin", b"\0\1")
    return Roots(std, (site,))


def by(documents, source):
    return [d for d in documents if d["source"] == source]


def test_this_interpreter_has_thousands_of_documents_of_every_kind(real):
    counts = Counter(d["source"] for d in real)
    assert len(real) > 3_000
    assert all(counts[source] for source in SOURCES)
    assert set(counts) == set(SOURCES)


def test_fields_are_strings_and_there_is_no_id(real):
    for document in real:
        assert list(document) == ["text", "source", "package", "name"]
        assert all(type(value) is str for value in document.values())
        assert document["package"]
        assert document["name"]


def test_names_are_no_paths_of_this_machine(real):
    for document in real:
        assert not document["name"].startswith(("/", "\\", "~", ".."))
        assert sys.prefix not in document["name"]
        assert sys.base_prefix not in document["name"]


def test_the_corpus_has_genuine_defects(real):
    """What the demo's filters are to find must be there: otherwise the demo shows nothing."""
    texts = [d["text"] for d in real]
    assert sum(len(t.split()) < 5 for t in texts) > 200
    assert len(set(texts)) < len(texts) - 50  # copies
    assert any("\n\n\n" in t for t in texts)
    assert any("http" in t for t in texts)
    assert any(not t.isascii() for t in texts)
    assert any(len(t) > 5_000 for t in texts)


def test_the_same_twice():
    assert list(collect(2_000)) == list(collect(2_000))


def test_limit_takes_the_first(tree):
    everything = list(collect(roots=tree))
    assert list(collect(3, roots=tree)) == everything[:3]
    assert list(collect(0, roots=tree)) == []
    with pytest.raises(UsageError, match="limit is -1, but a corpus has 0 documents or more"):
        collect(-1, roots=tree)


def test_every_kind_of_document(tree):
    found = list(collect(roots=tree))
    assert [(d["source"], d["package"], d["name"], d["text"]) for d in found] == [
        ("topic", "python", "assert", "Assert."),
        ("topic", "python", "while", "The while statement."),
        ("readme", "mill", "mill-1.0.dist-info/METADATA", "# Mill\r\n\r\nIt grinds.\r\n"),
        ("metadata header", "bare", "bare-2.dist-info/METADATA", "Name: bare\nVersion: 2"),
        ("metadata header", "mill", "mill-1.0.dist-info/METADATA", "Name: mill\r\nVersion: 1.0"),
        ("licence", "python", "LICENSE.txt", "PSF\r\n"),
        ("licence", "mill", "mill-1.0.dist-info/licenses/COPYING", "MIT\n"),
        ("text file", "mill", "mill/a.rst", "A\n"),
        ("text file", "mill", "mill/notes.md", "Notes\n\n\n\n\nEnd\n"),
        ("docstring", "python", "shelf", "A shelf."),
        ("docstring", "python", "shelf.A", "An A."),
        ("docstring", "python", "shelf.A.f", "Do f."),
        ("docstring", "mill", "mill.go", "Go.\n\nFast."),
    ]


def test_docstrings_behind_branches_are_found_in_order(tree):
    source = """
try:
    def a():
        "1"
        if True:
            def inner(): "2"
except ImportError:
    async def a(): "3"
else:
    with open("x") as f:
        class B: "4"
finally:
    match 1:
        case 1:
            def c(): "5"
def no_docstring(): return "6"
"""
    put(tree.packages[0] / "branch.py", source)
    found = [d for d in by(collect(roots=tree), "docstring") if d["package"] == "branch"]
    assert [(d["name"], d["text"]) for d in found] == [
        ("branch.a", "1"),
        ("branch.a.inner", "2"),
        ("branch.a", "3"),
        ("branch.B", "4"),
        ("branch.c", "5"),
    ]


def test_source_is_never_run(tree):
    put(tree.packages[0] / "trap.py", '"""A trap."""\nraise SystemExit("imported")\n')
    assert "A trap." in [d["text"] for d in collect(roots=tree)]


def test_strange_files_are_left_out_and_counted(tree):
    before = list(collect(roots=tree))
    site = tree.packages[0]
    put(site / "bad" / "syntax.py", "def (:\n")
    put(site / "bad" / "deep.py", "x = " + "(" * 5_000 + ")" * 5_000 + "\n")
    put(site / "bad" / "minus.py", "x = " + "-" * 200_000 + "1\n")
    put(site / "bad" / "latin.txt", "caf\xe9".encode("latin-1"))
    put(site / "bad" / "latin.py", b'"""caf\xe9"""\n')
    put(site / "bad" / "nul.rst", b"a\0b")
    put(site / "bad" / "huge.txt", b"x" * (1 << 20) + b"y")
    put(site / "bad" / "surrogate.py", 'def f():\n    "\\ud800"\n')
    os.mkfifo(site / "bad" / "pipe.md")
    (site / "bad" / "loop.txt").symlink_to("loop.txt")
    (site / "bad" / "gone.txt").symlink_to("nowhere.txt")
    (site / "bad" / "around").symlink_to(site, target_is_directory=True)
    skipped = Counter()
    assert list(collect(roots=tree, skipped=skipped)) == before
    assert skipped == {
        "not parsable as Python": 3,
        "not UTF-8": 2,
        "NUL bytes": 1,
        "larger than 1 MiB": 1,
        "lone surrogates": 1,
        "not a regular file": 1,
        "unreadable": 2,
    }


def test_a_file_of_exactly_the_largest_size_is_taken(tree):
    put(tree.packages[0] / "large.txt", b"x" * (1 << 20))
    assert max(len(d["text"]) for d in collect(roots=tree)) == 1 << 20


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_without_permission(tree):
    before = list(collect(roots=tree))
    closed = put(tree.packages[0] / "closed.txt", "secret")
    folder = put(tree.packages[0] / "shut" / "a.txt", "secret").parent
    closed.chmod(0)
    folder.chmod(0)
    skipped = Counter()
    try:
        assert list(collect(roots=tree, skipped=skipped)) == before
    finally:
        folder.chmod(0o700)
    assert skipped == {"unreadable": 1, "unreadable folder": 1}


def test_file_names_that_are_no_utf8(tree):
    try:
        put(tree.packages[0] / os.fsdecode(b"odd\xff.txt"), "x")
    except OSError:
        pytest.skip("this file system has no such names")
    skipped = Counter()
    names = [d["name"] for d in collect(roots=tree, skipped=skipped)]
    assert not any("odd" in name for name in names)
    assert skipped == {"lone surrogates": 1}


def test_a_warning_in_a_source_file_is_not_ours(tree):
    put(tree.packages[0] / "escape.py", '"""A \\d escape."""\nx = 1 is 1\n')
    assert "A \\d escape." in [d["text"] for d in collect(roots=tree)]


def test_write_gives_the_same_bytes_and_the_right_counts(tree, tmp_path):
    first, second = tmp_path / "a.jsonl.gz", tmp_path / "deep" / "b.jsonl.gz"
    summary = write(first, roots=tree)
    write(second, roots=tree)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes()[3:8] == b"\0" * 5  # neither a name nor a time in the gzip header
    documents = [json.loads(line) for line in gzip.decompress(first.read_bytes()).splitlines()]
    assert documents == list(collect(roots=tree))
    assert isinstance(summary, CorpusSummary)
    assert summary.sources == {
        "topic": 2,
        "readme": 1,
        "metadata header": 2,
        "licence": 2,
        "text file": 2,
        "docstring": 4,
    }
    assert summary.total == len(documents) == 13
    assert summary.text_bytes == sum(len(d["text"].encode()) for d in documents)
    assert summary.file_bytes == first.stat().st_size
    assert summary.seconds > 0
    assert [p.name for p in tmp_path.glob("*.part")] == []


def test_write_counts_what_it_skipped(tree, tmp_path):
    put(tree.packages[0] / "latin.txt", b"\xe9")
    assert write(tmp_path / "c.gz", roots=tree).skipped == {"not UTF-8": 1}


def test_write_to_a_folder_says_so_and_leaves_nothing(tree, tmp_path):
    target = tmp_path / "taken"
    target.mkdir()
    with pytest.raises(OutputError, match=r"The corpus cannot be written to .*taken: .*\. Choose another path\."):
        write(target, roots=tree)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lib", "taken"]


def test_nothing_found_is_an_error(tmp_path):
    with pytest.raises(InputError, match="No text was found below"):
        write(tmp_path / "c.gz", roots=Roots(tmp_path / "nowhere"))
    assert list(tmp_path.iterdir()) == []


def test_collecting_imports_no_package():
    """Reading numpy's docstrings must not load numpy: a fresh process says what it has loaded."""
    code = (
        "import sys, tamis.corpus as c; n = sum(1 for _ in c.collect(500)); "
        "print(n, [m for m in ('numpy', 'numba', 'pyarrow', 'rich', 'pydoc_data.topics') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "500 []"
