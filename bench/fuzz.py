"""Every filter and modifier on generated texts: no crash, and the same answer in any batch.

    python bench/fuzz.py --texts 1000000

The stages are those of the contract test (``tests/test_contract.py``) that read a text. Texts are of many scripts,
pieces of markup and code, control characters, real text with pieces thrown in, repetition; 0 bytes to 10 MB. Every
text is run among all of a piece, and in batches of 1,000; some of a piece also in batches of 7, one by one, and
through ``score_document`` and ``modify_document``. Bytes that are no UTF-8 and lone surrogates go through the reader.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import test_contract as contract
from tamis import DocumentDataset, Sequential
from tamis.filters import ScoreFilter
from tamis.modifiers import DocumentModifier, Modify
from tamis.stage import Stage
from tamis.table import marks

Generator = np.random.Generator

SCRIPTS = (
    (0x20, 0x7F), (0x00, 0x20), (0xA0, 0x180), (0x370, 0x400), (0x400, 0x500), (0x530, 0x590), (0x590, 0x600),
    (0x600, 0x700), (0x900, 0x980), (0xE00, 0xE80), (0xF00, 0xFFF), (0x1000, 0x10A0), (0x10A0, 0x1200),
    (0x1780, 0x1800), (0x1E00, 0x2000), (0x2000, 0x2070), (0x2190, 0x2300), (0x3000, 0x3100), (0x3100, 0x31C0),
    (0x4E00, 0x9FFF), (0xA980, 0xA9E0), (0xAC00, 0xD7A3), (0xE000, 0xE100), (0xFB00, 0x10000), (0x10000, 0x10400),
    (0x1B000, 0x1B170), (0x1F300, 0x1FB00), (0x20000, 0x2A6DF), (0x30000, 0x31350), (0xE0000, 0xE01F0),
    (0x10FF00, 0x110000),
)  # fmt: skip
PIECES = (
    *("the ", "and ", "of", " a ", "word", "\n", "\n\n", "\r\n", "\t", " ", ". ", "...", "…", "!", "?", "#", "- "),
    *("* ", "• ", "{", "}", "(", ")", "[1]", "[x](http://a.b)", "http://", "https://x.org/a?b=c", "HTTP://PORN.X"),
    *("```\n", "`a`", "**b**", "<p>", "</p>", "<script>", "<!--", "-->", "&amp;", "&#0;", "&#xD800;", "<a href='x'>"),
    *("<?xml version='1.0'?>", "//", "/*", "*/", "# x\n", '"""', "'''", "\\", "lorem ipsum", "javascript"),
    *("cookie policy", "\x00", "\x85", "\u2028", "\ufeff", "\u200b", "\u202e", "\u0301", "\uff9e", "İ", "ß", "Σ"),
    *("日本", "ไทย", "\u0661", "😀", "👨\u200d👩\u200d👧", "\U000e0061", "§ 12.", "\u2019", "„x“"),
)
SAMPLE = 60
"""Texts of a piece that are run one by one, too."""
LONG = 200_000
"""Characters from which a text is run in two ways only: among all, and in batches of 1,000."""
SLOW = 25e-6
"""Seconds a text from which a stage sees one piece in ten only."""


def of_script(random: Generator, size: int) -> str:
    """Characters of one or two scripts with some spaces."""
    first, last = SCRIPTS[random.integers(len(SCRIPTS))]
    points = random.integers(first, last, size, dtype=np.uint32)
    other = SCRIPTS[random.integers(len(SCRIPTS))]
    points = np.where(random.random(size) < 0.1, random.integers(*other, size, dtype=np.uint32), points)
    points = np.where(random.random(size) < 0.15, np.uint32(random.choice([32, 10])), points)
    return points.astype(np.uint32).tobytes().decode("utf-32-le", "replace")


def of_pieces(random: Generator, size: int) -> str:
    return "".join(PIECES[i] for i in random.integers(len(PIECES), size=max(1, size // 3)))


def repeated(random: Generator, size: int) -> str:
    unit = of_pieces(random, 9) if random.random() < 0.5 else of_script(random, 6)
    return unit * (1 + size // max(1, len(unit)))


def mutated(random: Generator, size: int, real: str) -> str:
    start = int(random.integers(max(1, len(real) - size)))
    text = real[start : start + size]
    for _ in range(int(random.integers(4))):
        at = int(random.integers(len(text) + 1))
        text = text[:at] + PIECES[random.integers(len(PIECES))] + text[at + int(random.integers(3)) :]
    return text


def piece(number: int, count: int, real: str, largest: int) -> list[str | None]:
    """Texts of one piece: short ones, an empty and a null one, and one of up to ``largest`` bytes."""
    random = np.random.default_rng([11, number])
    sizes = np.exp(random.uniform(0, 6, count)).astype(np.int64)
    texts: list[str | None] = ["", None]
    for kind, size in zip(random.integers(4, size=count - 3), sizes, strict=False):
        if kind == 0:
            texts.append(of_script(random, int(size)))
        elif kind == 1:
            texts.append(of_pieces(random, int(size)))
        elif kind == 2:
            texts.append(repeated(random, int(size)))
        else:
            texts.append(mutated(random, int(size), real))
    long = (of_script, of_pieces, repeated)[number % 3](random, largest // 4)
    return [*texts, long.encode()[:largest].decode("utf-8", "ignore")]


def table_of(texts: list[str | None]) -> pa.Table:
    rows = len(texts)
    return pa.table(
        {
            "id": pa.array([str(i) for i in range(rows)]),
            "text": pa.array(texts, pa.large_string()),
            "source": pa.array(["web"] * rows),
            "score": pa.array([1.0] * rows),
        }
    )


def answers(stage: Stage, table: pa.Table) -> pa.Table:
    """What a stage says: the columns that it makes or changes, and its marks as "reason" and "mark"."""
    found, reasons, scores = marks(stage_run(stage)(table))
    if found.num_rows != table.num_rows:
        message = f"{table.num_rows} rows became {found.num_rows}"
        raise AssertionError(message)
    names = [field.name for field in stage.needs(table.schema).makes]
    out = found.select(names)
    if reasons is not None:
        out = out.append_column("reason", reasons)
    return out if scores is None else out.append_column("mark", scores)


_opened: dict[int, Any] = {}


def stage_run(stage: Stage) -> Any:
    """The function of a stage, opened once."""
    if id(stage) not in _opened:
        _opened[id(stage)] = stage.open()
    return _opened[id(stage)]


def in_batches(stage: Stage, table: pa.Table, size: int) -> pa.Table:
    return pa.concat_tables([answers(stage, table.slice(i, size)) for i in range(0, table.num_rows, size)])


def differing(left: pa.Table, right: pa.Table) -> list[tuple[str, int]]:
    """(column, row) of the first differences; NaN equals itself."""
    if left.combine_chunks().equals(right.combine_chunks()):
        return []
    return [
        (name, row)
        for name in left.column_names
        for row, (a, b) in enumerate(zip(left[name].to_pylist(), right[name].to_pylist(), strict=True))
        if a != b and not (a != a and b != b)
    ][:3]


def alone(stage: Stage, texts: list[str | None], whole: dict[str, list[Any]]) -> list[tuple[str, int]]:
    """Differences between a batch and the methods that take one text."""
    found = []
    for row, text in enumerate(texts):
        if isinstance(stage, ScoreFilter):
            each = stage.filter_obj
            score = each.score_document(text or "")
            keeps = bool(each.keep_document(score)) != stage.invert
            if (score != whole["mark"][row] and score == score) or keeps != (whole["reason"][row] is None):
                found.append(("score_document", row))
        elif (
            isinstance(stage, Modify)
            and text is not None
            and isinstance(stage.modifier, DocumentModifier)
            and (stage.text_field or "text") == "text"
            and stage.modifier.modify_document(text) != whole["text"][row]
        ):
            found.append(("modify_document", row))
    return found[:3]


def checked(name: str, stage: Stage, table: pa.Table) -> tuple[list[str], float]:
    """(what is wrong, seconds) of one stage on the texts of a piece."""
    wrong: list[str] = []
    start = time.process_time()
    try:
        whole = answers(stage, table)
        seconds = time.process_time() - start
        last = table.num_rows - 1
        some = [*range(SAMPLE), *([last] if len(table["text"][last].as_py()) < LONG else [])]
        part = table.take(some)
        expected = whole.take(some)
        compared = {
            "batches of 1,000": differing(whole, in_batches(stage, table, 1000)),
            "batches of 7": differing(expected, in_batches(stage, part, 7)),
            "batches of 1": differing(expected, in_batches(stage, part, 1)),
            "one by one": alone(stage, part["text"].to_pylist()[:SAMPLE], expected.to_pydict()),
        }
    except Exception:  # noqa: BLE001  a crash is what is looked for; it is reported with its trace
        return [f"{name}: {traceback.format_exc(limit=-3)}"], time.process_time() - start
    for how, places in compared.items():
        wrong += [f"{name}, {how}: {column} of row {row}" for column, row in places]
    return wrong, seconds


def stages() -> dict[str, Stage]:
    """The stages that decide by a text or change one, by their names in the contract test."""
    return {name: stage for name, stage in contract.STAGES.items() if isinstance(stage, ScoreFilter | Modify)}


def broken_lines(random: Generator, count: int) -> Iterator[bytes]:
    """Lines of JSON whose text is no UTF-8, cut off, or holds surrogates by escapes."""
    for number in range(count):
        text = bytearray(of_pieces(random, 40).replace("\x00", "").encode())
        kind = number % 4
        if kind == 0:
            text[int(random.integers(len(text)))] = int(random.integers(128, 256))
        body = json.dumps(text.decode("utf-8", "surrogateescape")).encode("ascii")
        if kind == 0:
            body = b'"' + bytes(text).replace(b"\\", b"").replace(b'"', b"").replace(b"\n", b" ") + b'"'
            body = bytes(byte for byte in body if byte >= 32)
        elif kind == 1:
            body = body[:-1] + b"\\ud8" + b"%02x" % int(random.integers(256)) + b'"'
        elif kind == 2:
            body = body[: int(random.integers(1, len(body)))]
        yield b'{"id": "%d", "text": %s}' % (number, body)


def through_the_reader(count: int) -> tuple[int, int]:
    """(lines, of them in the output or the rejects or the quarantine) of a run of all filters over broken lines."""
    random = np.random.default_rng(12)
    lines = list(broken_lines(random, count))
    chain = Sequential([s for s in stages().values() if isinstance(s, ScoreFilter) and s.score_field is None])
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "in.jsonl"), Path(folder, "out")
        source.write_bytes(b"\n".join(lines) + b"\n")
        result = chain(DocumentDataset.read_json(source)).to_json(output, workers=1, max_bad=1.0)
        return len(lines), result.tally.kept + result.tally.total_rejected + result.tally.total_quarantined


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--piece", type=int, default=20_000, help="texts that are run at once")
    parser.add_argument("--largest", type=int, default=10_000_000, help="bytes of the largest text of all")
    parser.add_argument("--real", type=Path, nargs="*", default=[], help="files of JSONL whose texts are mutated")
    parser.add_argument("--only", nargs="*", help="names of stages, or beginnings of them")
    parser.add_argument("--from", type=int, default=0, dest="first", help="number of the first piece")
    parser.add_argument("--every", action="store_true", help="slow stages see every piece, too")
    parser.add_argument("--out", type=Path, help="write counts there as JSON, after every piece")
    options = parser.parse_args()
    real = " ".join(json.loads(line)["text"] for path in options.real for line in path.open("rb")) or (
        Path(__file__).read_text() * 5
    )
    chosen = {
        name: stage
        for name, stage in stages().items()
        if not options.only or any(name.startswith(prefix) for prefix in options.only)
    }
    seen = dict.fromkeys(chosen, 0)
    slow: set[str] = set()
    wrong: list[str] = []
    for number in range(options.first, options.first + -(-options.texts // options.piece)):
        # One of 25 pieces has a text of the largest size, the others of a hundredth of it.
        largest = options.largest if number % 25 == 20 else options.largest // 100
        table = table_of(piece(number, options.piece, real, largest))
        for name, stage in chosen.items():
            if name in slow and number % 10 and not options.every:
                continue
            found, seconds = checked(name, stage, table)
            seen[name] += table.num_rows
            if largest < options.largest and seconds / table.num_rows > SLOW:
                slow.add(name)
            wrong += found
            for line in found:
                print(f"piece {number}: {line}", flush=True)
        if options.out:
            options.out.write_text(json.dumps({"pieces": number + 1, "texts": seen, "wrong": wrong}, indent=1) + "\n")
        print(f"piece {number} done; {len(slow)} slow stages, {len(wrong)} faults", flush=True)
    lines, accounted = through_the_reader(4000)
    print(f"through the reader: {lines} broken lines, {accounted} accounted for")


if __name__ == "__main__":
    main()
