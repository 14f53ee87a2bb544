"""Finding the input, cutting it into splits, and what compressed files hold."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.errors import InputError, UsageError
from tamis.io.files import InputFile, get_all_files_paths_under, kind_of, list_files, open_input
from tamis.io.formats import make_splits, merge_parts, open_writer, output_names, read_piece
from tamis.io.records import Bad, End, Want
from tamis.table import Batch, Origin

LINE = b'{"text":"a"}\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with files of every sort."""
    names = ["b.jsonl", "a.jsonl.gz", "c.ndjson.zst", "sub/a.jsonl", "sub/deep/d.JSONL", "notes.txt", "README"]
    hidden = [".hid.jsonl", "_tmp.jsonl", "_tamis/x.jsonl", ".git/x.jsonl", "sub/_x/y.jsonl"]
    for name in [*names, *hidden]:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(LINE)
    (tmp_path / "in" / "folder.jsonl").mkdir()
    return tmp_path / "in"


def names(*paths: object, **options: object) -> list[str]:
    """Names of the files found."""
    given = paths[0] if len(paths) == 1 else list(paths)
    return [file.name for file in list_files(given, **options)]  # type: ignore[arg-type]


ALL = ["a.jsonl.gz", "b.jsonl", "c.ndjson.zst", "sub/a.jsonl", "sub/deep/d.JSONL"]

# -- finding files -------------------------------------------------------------------------------------------


def test_a_folder_gives_its_documents_sorted_without_hidden_ones(tree: Path) -> None:
    assert names(str(tree)) == names(tree) == names(f"{tree}/") == names(f"file://{tree}") == ALL
    assert names(tree, recursive=False) == ALL[:3]
    found = list_files(tree)
    assert [(f.format, f.compression) for f in found[:3]] == [("jsonl", "gz"), ("jsonl", None), ("jsonl", "zst")]
    assert all(f.path == str(tree / f.name) and f.size == len(LINE) and f.version for f in found)


def test_globs_and_lists_give_each_file_once(tree: Path) -> None:
    assert names(f"{tree}/[bc].*") == ["b.jsonl", "c.ndjson.zst"]
    assert names(f"{tree}/**/a.json*") == ["a.jsonl.gz", "sub/a.jsonl"]
    assert names(f"{tree}/s?b/*.jsonl") == ["a.jsonl"]
    assert names(tree / "b.jsonl", tree / "b.jsonl", f"{tree}/b.*") == ["b.jsonl"]
    assert names(tree, tree / "sub", f"file://{tree}/b.jsonl") == ALL
    assert names([tree / "sub" / "a.jsonl", tree / "b.jsonl"]) == ["b.jsonl", "sub/a.jsonl"]


def test_a_path_with_glob_characters_that_exists_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "odd [1]*?.jsonl"
    path.write_bytes(LINE)
    (tmp_path / "odd 1.jsonl").write_bytes(LINE)
    assert names(path) == ["odd [1]*?.jsonl"]


def test_a_file_named_by_itself_is_read_whatever_it_is_called(tree: Path) -> None:
    for name in ("notes.txt", "README", ".hid.jsonl", "_tmp.jsonl"):
        (file,) = list_files(tree / name)
        assert (file.name, file.format, file.compression) == (name, "jsonl", None)
    assert list_files(tree / "README", format="parquet")[0].format == "parquet"


def test_equal_names_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    for name in ("x/a.jsonl", "y/a.jsonl", "y/z/a.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(LINE)
    assert names(tmp_path) == ["x/a.jsonl", "y/a.jsonl", "y/z/a.jsonl"]
    assert names(tmp_path / "x/a.jsonl", tmp_path / "y/a.jsonl") == ["x/a.jsonl", "y/a.jsonl"]
    assert names(tmp_path / "y", tmp_path / "x") == ["x/a.jsonl", "y/a.jsonl", "y/z/a.jsonl"]


def test_what_is_not_there_is_said_with_what_is(tree: Path, tmp_path: Path) -> None:
    for path, said in [
        (tree / "b.jsnl", "b.jsonl"),
        (tree / "nowhere" / "b.jsonl", "does not exist either"),
        (f"{tree}/*.csv", "no file matches"),
        (f"{tree}/*/none/*", "no file matches"),
        ("memory://nowhere/x.jsonl", "does not exist"),
        ("memory://nowhere/*.jsonl", "no file matches"),
        ("nosuch://a/b.jsonl", "cannot be listed"),
        (tree / "b.jsonl" / "c", "does not exist"),
    ]:
        with pytest.raises(InputError, match=said):
            list_files(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no files of documents"):
        list_files(tmp_path / "empty")
    with pytest.raises(InputError, match=r"holds no parquet files.*5 jsonl"):
        list_files(tree, format="parquet")
    with pytest.raises(UsageError, match="empty"):
        list_files([])


def test_mixed_formats_are_refused_unless_one_is_asked_for(tree: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tree / "p.parquet")
    with pytest.raises(InputError, match="jsonl and parquet"):
        list_files(tree)
    assert names(tree, format="jsonl") == ALL
    assert names(tree, format="parquet") == ["p.parquet"]
    with pytest.raises(InputError, match="parquet was asked for"):
        list_files(tree / "b.jsonl", format="parquet")


def test_links_that_lead_back_end(tree: Path) -> None:
    (tree / "sub" / "back").symlink_to(tree)
    (tree / "sub" / "self").symlink_to(tree / "sub")
    assert names(tree) == ALL
    (tree / "gone.jsonl").symlink_to(tree / "nowhere")
    with pytest.raises(InputError, match=r"gone.jsonl cannot be read"):
        list_files(tree)


def test_a_url_finds_what_a_path_finds(tree: Path) -> None:
    memory = fsspec.filesystem("memory")
    root = "/tamis-test-files"
    for path in tree.rglob("*"):
        if path.is_file():
            memory.pipe(f"{root}/{path.relative_to(tree)}", path.read_bytes())
    try:
        assert names(f"memory:/{root}") == ALL
        assert names(f"memory:/{root}", recursive=False) == ALL[:3]
        assert names(f"memory:/{root}/s*/*.jsonl") == ["a.jsonl"]
        assert names(f"memory:/{root}/b.jsonl", f"memory:/{root}/b.*") == ["b.jsonl"]
        assert names(f"memory:/{root}/[bs]*") == ["b.jsonl"], "not the folder sub"
        (file,) = list_files(f"memory:/{root}/b.jsonl")
        with open_input(file.path) as opened:
            assert opened.read() == LINE
        assert [type(e) for e in read_piece(make_splits([file], split_size=99)[0].pieces[0], Want())] == [Batch, End]
    finally:
        memory.rm(root, recursive=True)


UNREADABLE = """
import os, sys
from tamis.errors import InputError
from tamis.io.files import list_files
for path in sys.argv[1:]:  # the first is there and may be read: what is loaded late is loaded now
    try:
        print([f.name for f in list_files(path)])
    except InputError as error:
        print(error)
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
"""


def test_what_may_not_be_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    if os.getuid() == 0:
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)  # the test's own folders are the user's alone
    for name in ("file/a.jsonl", "closed/a.jsonl", "listed/a.jsonl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(LINE)
    (tmp_path / "file/a.jsonl").chmod(0)
    (tmp_path / "closed").chmod(0)
    (tmp_path / "listed").chmod(0o444)
    paths = [tmp_path / p for p in ("file", "file/a.jsonl", "closed", "closed/a.jsonl", "listed", "listed/a.jsonl")]
    try:
        command = [sys.executable, "-c", UNREADABLE, __file__, *map(str, paths), f"{tmp_path}/closed/*.jsonl"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        (tmp_path / "closed").chmod(0o755)
        (tmp_path / "listed").chmod(0o755)
    assert not run.returncode, run.stderr
    said = run.stdout.splitlines()[1:]
    assert len(said) == 7, run.stdout
    assert all("Permission denied. Check its permissions." in line for line in said[:6]), run.stdout
    assert "no file matches" in said[6] or "Permission denied" in said[6]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.jsonl", ("jsonl", None)),
        ("a/b.JSONL.GZ", ("jsonl", "gz")),
        ("a.json.zst", ("jsonl", "zst")),
        ("a.ndjson.zstd", ("jsonl", "zst")),
        ("a.parquet", ("parquet", None)),
        ("a.b.pq", ("parquet", None)),
        (".jsonl", ("jsonl", None)),
        ("a.gz", (None, "gz")),
        (".gz", (None, "gz")),
        ("jsonl", (None, None)),
        ("a.jsonl/b", (None, None)),
        ("a.jsonl.bak", (None, None)),
        ("", (None, None)),
        ("s3://bucket/a.jsonl.gz", ("jsonl", "gz")),
    ],
)
def test_the_name_says_the_format(path: str, kind: tuple[str | None, str | None]) -> None:
    assert kind_of(path) == kind


def test_get_all_files_paths_under_lists_every_file(tree: Path) -> None:
    found = get_all_files_paths_under(tree)
    assert found == sorted(str(p) for p in tree.rglob("*") if p.is_file())
    assert get_all_files_paths_under(str(tree), keep_extensions="txt") == [str(tree / "notes.txt")]
    assert get_all_files_paths_under(tree, keep_extensions=[".gz", "zst"]) == [str(tree / n) for n in ALL[::2][:2]]
    top = get_all_files_paths_under(tree, recurse_subdirectories=False)
    assert top == sorted(str(p) for p in tree.iterdir() if p.is_file())
    with pytest.raises(InputError, match="is not a folder"):
        get_all_files_paths_under(tree / "b.jsonl")


# -- output names --------------------------------------------------------------------------------------------


def files(*named: str, size: int = 10, format: str = "jsonl") -> list[InputFile]:
    """Files that are nowhere."""
    return [InputFile(f"/in/{n}", n, size, "", format, kind_of(n)[1]) for n in named]


def test_output_names_are_the_inputs_own_and_never_collide() -> None:
    found = output_names(
        files("a.jsonl", "a.jsonl.gz", "b.x.jsonl.zst", "sub/a.jsonl", "notes.txt", "c.gz", "v1.2/README")
    )
    assert [name.removeprefix("/in/") for name in found] == [
        "a.jsonl",
        "a.jsonl.gz",
        "b.x.jsonl.zst",
        "sub/a.jsonl",
        "notes.txt",
        "c.gz",
        "v1.2/README",
    ]
    assert list(found.values()) == ["a.jsonl", "a.jsonl.gz", "b.x", "sub/a", "notes.txt", "c", "v1.2/README"]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.from_regex(r"(d/)?\.?[ab]?(\.x|\.json|\.jsonl)?(\.jsonl|\.json)?(\.gz|\.zst)?", fullmatch=True).filter(
            lambda name: name.rsplit("/", 1)[-1].strip(".")
        ),
        unique=True,
        max_size=8,
    )
)
def test_no_two_inputs_share_an_output(named: list[str]) -> None:
    found = output_names(files(*named))
    assert len(set(found.values())) == len(named)
    assert all(name.rsplit("/", 1)[-1] for name in found.values())


# -- splits --------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5000), st.booleans()), min_size=1, max_size=20),
    st.integers(1, 2000),
    st.booleans(),
)
def test_splits_cover_every_byte_once_in_order(sizes: list[tuple[int, bool]], split_size: int, one_piece: bool) -> None:
    inputs = [
        InputFile(f"/in/{i:02}", str(i), size, "", "jsonl", "gz" if packed else None)
        for i, (size, packed) in enumerate(sizes)
    ]
    splits = make_splits(inputs, split_size=split_size, one_piece=one_piece)
    assert splits == make_splits(inputs, split_size=split_size, one_piece=one_piece)
    assert [s.index for s in splits] == list(range(len(splits)))
    pieces = [piece for split in splits for piece in split.pieces]
    assert list(dict.fromkeys(p.file for p in pieces)) == inputs
    for file in inputs:
        own = [p for p in pieces if p.file == file]
        assert [p.start for p in own] == [0, *[p.end for p in own[:-1]]]
        assert own[-1].end == file.size == sum(p.bytes for p in own)
        assert [p.whole for p in own] == [len(own) == 1] * len(own)
        assert len(own) == 1 or (file.compression is None and max(p.bytes for p in own) <= split_size)
    if one_piece:
        assert all(len(s.pieces) == 1 for s in splits)
    else:
        assert all(len(s.pieces) == 1 or s.bytes <= split_size for s in splits)
        assert all(a.bytes + b.pieces[0].bytes > split_size for a, b in itertools.pairwise(splits))


def test_parquet_is_cut_between_row_groups(tmp_path: Path) -> None:
    table = pa.table({"n": range(100), "t": [os.urandom(50).hex() for _ in range(100)]})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=10)
    (file,) = list_files(tmp_path / "p.parquet")
    for size in (1, 2000, 5000, file.size, 1 << 30):
        pieces = [p for s in make_splits([file], split_size=size) for p in s.pieces]
        want = Want(columns=(pa.field("n", pa.int64()),))
        found = [list(read_piece(p, want)) for p in pieces]
        assert [n for f in found for b in f[:-1] for n in b.table["n"].to_pylist()] == list(range(100))
        assert sum(f[-1].lines for f in found) == 100
        assert (len(pieces) == 1) == (size >= file.size) == pieces[0].whole
        assert size > 1 or len(pieces) == 10


# -- compressed files ----------------------------------------------------------------------------------------


def packs(kind: str, content: bytes) -> bytes:
    """One member or frame."""
    return gzip.compress(content, mtime=0) if kind == "gz" else zstandard.compress(content)


def read(tmp_path: Path, kind: str, packed: bytes) -> tuple[list[int], list[Bad], int]:
    """The numbers read, the bad ones and the number of lines."""
    path = tmp_path / f"x.jsonl.{kind}"
    path.write_bytes(packed)
    (split,) = make_splits(list_files(path), split_size=10)
    found = list(read_piece(split.pieces[0], Want(columns=(pa.field("n", pa.int64()),))))
    numbers = [n for e in found if isinstance(e, Batch) for n in e.table["n"].to_pylist()]
    return numbers, [e for e in found if isinstance(e, Bad)], found[-1].lines


def lines(a: int, b: int) -> bytes:
    """Documents numbered from a to before b."""
    return b"".join(b'{"n":%d,"x":"%s"}\n' % (i, os.urandom(8).hex().encode()) for i in range(a, b))


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("padding", [b"", b"\0" * 512, b"\0" * 200_000])
def test_members_and_frames_are_read_to_the_last(tmp_path: Path, kind: str, padding: bytes) -> None:
    content = lines(0, 1000)
    parts = [content[:10], b"", content[10:11], content[11:500], content[500:]]
    packed = b"".join(packs(kind, part) for part in parts)
    assert read(tmp_path, kind, packed + padding) == (list(range(1000)), [], 1000)
    many = b"".join(packs(kind, lines(i, i + 1)) for i in range(300))
    assert read(tmp_path, kind, many + padding) == (list(range(300)), [], 300)


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_an_empty_compressed_file_holds_nothing(tmp_path: Path, kind: str) -> None:
    assert read(tmp_path, kind, packs(kind, b"")) == ([], [], 0)
    assert read(tmp_path, kind, b"") == ([], [], 0)


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("lost", [1, 4, 8, 1000, 100_000])
def test_a_truncated_file_gives_what_comes_before_and_says_so(tmp_path: Path, kind: str, lost: int) -> None:
    packed = b"".join(packs(kind, lines(i, i + 5000)) for i in range(0, 20_000, 5000))
    numbers, bad, _ = read(tmp_path, kind, packed[:-lost])
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 20_000 - 5000 * (1 + lost // 50_000)
    assert [b.kind for b in bad if b.kind != "not JSON"] == ["truncated file"]
    assert len(bad) <= 2, "the line in which it ends may be a bad one too"


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("junk", [b"junk", b"\x1f\x8bjunk", b"PK\3\4", b"\xff" * 5000])
def test_damage_in_the_middle_costs_what_comes_after(tmp_path: Path, kind: str, junk: bytes) -> None:
    packed = packs(kind, lines(0, 100)) + junk + packs(kind, lines(100, 200))
    numbers, (bad,), _ = read(tmp_path, kind, packed)
    assert numbers == list(range(100))
    assert bad.kind == "truncated file"
    assert bad.detail
    assert bad.file.endswith(kind)


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("content", [lines(0, 10), b"\x1f\x8b", b"PK"])
def test_a_file_that_is_not_what_its_name_says_is_one_bad_record(tmp_path: Path, kind: str, content: bytes) -> None:
    numbers, (bad,), _ = read(tmp_path, kind, content)
    assert not numbers
    assert bad.kind == "truncated file"


# -- writers -------------------------------------------------------------------------------------------------


def written(format: str, compression: str | None, *tables: pa.Table) -> tuple[bytes, tuple[int, int, str]]:
    """A file of these tables."""
    out = io.BytesIO()
    writer = open_writer(out, format, tables[0].schema, compression=compression)
    for table in tables:
        writer.write(Batch(table, Origin("x", table["n"].to_numpy(), table["n"].to_numpy())), table.column_names)
    result = writer.close()
    return out.getvalue(), result


@pytest.mark.parametrize(
    ("format", "compression"), [("jsonl", None), ("jsonl", "gz"), ("jsonl", "zst"), ("parquet", None)]
)
def test_writers_are_deterministic_and_count_truly(format: str, compression: str | None, tmp_path: Path) -> None:
    tables = [pa.table({"n": range(a, a + 50), "t": ["é" * a] * 50}) for a in (0, 50)]
    content, (rows, size, digest) = written(format, compression, *tables)
    assert written(format, compression, *tables) == (content, (rows, size, digest))
    assert (rows, size, digest) == (100, len(content), xxhash.xxh3_128_hexdigest(content))
    if compression == "gz":
        assert content[4:8] == bytes(4), "no time of writing"
        assert not content[3] & 8, "no file name"
    path = tmp_path / f"x.{format}{'.' + compression if compression else ''}"
    path.write_bytes(content)
    (split,) = make_splits(list_files(path), split_size=1 << 20)
    *found, end = read_piece(split.pieces[0], Want(columns=tuple(tables[0].schema)))
    assert pa.concat_tables([e.table for e in found]).combine_chunks() == pa.concat_tables(tables).combine_chunks()
    assert end.lines == 100


@pytest.mark.parametrize(
    ("format", "compression"), [("jsonl", None), ("jsonl", "gz"), ("jsonl", "zst"), ("parquet", None)]
)
def test_parts_are_joined_in_order(format: str, compression: str | None, tmp_path: Path) -> None:
    tables = [pa.table({"n": pa.array(range(a, b), pa.int64())}) for a, b in ((0, 10), (10, 10), (10, 30))]
    parts = [written(format, compression, table)[0] for table in tables]
    path = tmp_path / f"x.{format}{'.' + compression if compression else ''}"
    merge_parts(format, [lambda part=part: io.BytesIO(part) for part in parts], lambda: path.open("wb"))
    (split,) = make_splits(list_files(path), split_size=1 << 20)
    *found, end = read_piece(split.pieces[0], Want(columns=(pa.field("n", pa.int64()),)))
    assert [n for e in found for n in e.table["n"].to_pylist()] == list(range(30))
    assert end.lines == 30


def test_nothing_written_is_an_empty_file_of_the_format() -> None:
    nothing = pa.table({"n": pa.array([], pa.int64())})
    assert written("jsonl", None, nothing)[0] == b""
    assert gzip.decompress(written("jsonl", "gz", nothing)[0]) == b""
    assert zstandard.decompress(written("jsonl", "zst", nothing)[0]) == b""
    assert pq.read_table(io.BytesIO(written("parquet", None, nothing)[0])) == nothing
