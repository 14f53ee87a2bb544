"""The commands at a terminal of 80 columns and in a pipe: what is wide, cut, coloured or out of line is a fault."""

import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios

import pytest
from rich.cells import cell_len

from tamis.engine.tally import Tally
from tamis.engine.watch import Progress
from tamis.progress import fitting, observer_for, progress_parts

OUT = "the/output/of/this/run/has/a/path/that/is/long/enough/to/be/cut"
RECIPE = f"""
[input]
path = "in.jsonl"
[[stage]]
use = "UrlRemover"
[[stage]]
use = "WordCountFilter"
min_words = 16
[[stage]]
use = "RepeatingTopNGramsFilter"
n = 2
max_repeating_ngram_ratio = 0.5
[output]
path = "{OUT}"
[run]
workers = 1
max_bad = 0.5
"""
COMMANDS = [
    [],
    *([name, "--help"] for name in ("run", "classify", "select", "explain", "tune-thresholds", "demo", "inspect")),
    ["recipes"],
    ["inspect", "in.jsonl", "--show", "1"],
    ["run", "r.toml", "--dry-run"],
    ["run", "r.toml"],
    ["run", "r.toml"],
    ["status", OUT],
    ["verify", OUT],
    ["explain", OUT, "doc-003"],
    ["explain", OUT, "--dropped", "3"],
    ["score", "r.toml", "--out", "scored", "--workers", "1"],
    ["tune-thresholds", "scored", "--workers", "1"],
    ["run", "no-recipe-of-this-name.toml", "--limit", "3"],
    ["status", "no-such-directory"],
]
"""Run one after the other; what they print is divided by lines of :data:`MARK`."""
MARK = "@@@@"
CHILD = f"""
import json, sys
from tamis.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code
    sys.stderr.flush()
    print("\\n{MARK}", status, flush=True)
"""
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}}
ENVIRONMENT |= {"TERM": "xterm-256color", "PYTHONUTF8": "1"}
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("terminal")
    sentence = "The cat sat with the dog, and that was to be the end of it, see https://example.org/a for more. "
    with (path / "in.jsonl").open("w") as file:
        for i in range(60):
            text = f"{i} {sentence * (i % 5)}{'今天天气很好。' * 20 if i % 9 == 0 else ''}" + "again " * (i % 4 * 60)
            file.write(json.dumps({"id": f"doc-{i:03d}", "text": text, "url": f"https://example.org/{i}"}) + "\n")
        file.write('{"text": broken\n')
    (path / "r.toml").write_text(RECIPE)
    return path


def divided(shown):
    """What each command printed, and its exit status."""
    parts = re.split(rf"\r?\n{MARK} (\d+)\r?\n", shown)
    assert len(parts) == 2 * len(COMMANDS) + 1, shown[-2000:]
    return [(" ".join(c), parts[2 * n], int(parts[2 * n + 1])) for n, c in enumerate(COMMANDS)]


@pytest.fixture(scope="module")
def terminal(folder):
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-c", CHILD, json.dumps(COMMANDS)]
    child = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=ENVIRONMENT, start_new_session=True
    )
    os.close(theirs)
    read = b""
    while True:
        try:
            more = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        read += more
    os.close(ours)
    assert child.wait() == 0
    return divided(read.decode())


@pytest.fixture(scope="module")
def piped(folder, terminal):
    for each in (OUT, "scored"):
        (folder / each).rename(folder / f"{each}-before")
    command = [sys.executable, "-c", CHILD, json.dumps(COMMANDS)]
    done = subprocess.run(command, capture_output=True, cwd=folder, env=ENVIRONMENT, check=True)
    return divided(done.stdout.decode()), done.stderr.decode()


def lines_of(shown):
    """The lines that were ever seen: each that was written over, too."""
    return [line for line in re.split(r"[\r\n]+", ESCAPE.sub("", shown)) if line]


def test_nothing_is_wider_than_the_terminal(terminal):
    wide = [(name, line) for name, shown, _ in terminal for line in lines_of(shown) if cell_len(line) > 80]
    # A path that is longer than a line is left for the terminal to break, so that it can be copied.
    assert [(name, line) for name, line in wide if " " in line.strip().removesuffix(": complete,")] == []


def test_no_number_and_no_path_is_cut(terminal):
    for name, shown, _ in terminal:
        plain = ESCAPE.sub("", shown)
        # What is cut at its end are texts of documents, in quotation marks or after "text:", and no number.
        assert not re.search(r"^(?!.*(?:“|text: )).*[0-9][0-9,.]*…", plain, re.MULTILINE), (name, plain)
        if name in {"run r.toml", f"status {OUT}", f"verify {OUT}"}:
            assert OUT in plain, (name, plain)


def test_there_is_colour_at_the_terminal_and_none_in_a_pipe(terminal, piped):
    shown, errors = piped
    for (name, coloured, status), (_, plain, again) in zip(terminal, shown, strict=True):
        assert "\x1b[" in coloured or "--help" in name or not name, name
        assert "\x1b" not in plain, name
        assert "\r" not in plain, name
        assert status == again, name
    assert "\x1b" not in errors
    assert [status for _, _, status in terminal] == [2, *[0] * (len(COMMANDS) - 3), 2, 2]
    assert "tamis: there is no recipe file no-recipe-of-this-name.toml" in errors
    shown = {name: coloured for name, coloured, _ in terminal}
    assert "\x1b[1;32mkept" in shown["run r.toml"]
    assert "\x1b[32m" in shown[f"status {OUT}"]
    assert "\x1b[32m" in shown[f"verify {OUT}"]
    assert "\x1b[1;31mtamis: there is no recipe file" in shown["run no-recipe-of-this-name.toml --limit 3"]


def test_columns_are_in_line(terminal, piped):
    for outputs in (terminal, piped[0]):
        shown = next(ESCAPE.sub("", text) for name, text, _ in outputs if name == "run r.toml")
        rows = [line.rstrip() for line in shown.split("\n") if re.search(r"[0-9] +[0-9.]+%\s*$", line)]
        assert len(rows) >= 5
        assert len({len(row) for row in rows}) == 1, rows
        recipes = next(ESCAPE.sub("", text) for name, text, _ in outputs if name == "recipes")
        stages = recipes[recipes.index("Stages") :].split("\n")[1:]
        starts = {re.match(r"  (\S+ +|  +)", line).end() for line in stages if line.strip()}
        assert len(starts) == 1, starts


def test_a_pipe_gets_whole_lines(piped):
    reasons = next(text for name, text, _ in piped[0] if name == "run r.toml")
    assert "one 2-gram covers more than 0.5 of it" in reasons


# -- the line that changes -----------------------------------------------------------------------------------


def test_the_live_line_holds_whole_pieces_only():
    tally = Tally()
    tally.bytes_in, tally.records, tally.kept = 1_234_567, 14_361, 14_000
    parts = progress_parts(Progress("NgramCounts", tally, 20_000_000, 0, 3, 4.0))
    for width in range(120):
        line = fitting(parts, width)
        assert len(line) <= width
        assert line == "" or line.split(" · ") == parts[: len(line.split(" · "))]


def test_no_display_where_it_is_off():
    assert observer_for("off") is None
