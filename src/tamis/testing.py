"""The contract of stages and folds as tests that anyone can run on their own.

::

    from tamis.testing import check_stage, sample_table
    check_stage(ScoreFilter(MyFilter()), sample_table())

Each check raises ``AssertionError`` with a sentence that says which promise was broken and on which row.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeVar

import cloudpickle
import numpy as np
import pyarrow as pa

from tamis.stage import Fold, Stage, TableFunction
from tamis.table import RESERVED

__all__ = ["check_fold", "check_stage", "sample_table"]

Result = TypeVar("Result")

_TEXTS: tuple[str | None, ...] = (
    "The quick brown fox jumps over the lazy dog.",
    "",
    None,
    "   \n\t ",
    "word",
    "again and again and again and again and again and again",
    "Line one.\r\nLine two.\r\n\r\n\r\n\r\nLine six after a gap.",
    "See https://example.org/a?b=c&d=e or www.example.org/x for more.",
    "L&amp;T, caf\u00c3\u00a9, \u201cquoted\u201d and \ufb01ne \u2026",
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e04\u0e23\u0e31\u0e1a",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u0645\u0631\u062d\u0628\u0627 \u202e abc",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1eb\U0001f1f7 emoji \U0001f44d\U0001f3fd",
    "nul \x00 and bell \x07 and escape \x1b[31mred\x1b[0m",
    "a" * 5000,
    "<script>alert(1)</script> & <b>bold</b> \u2028 separators \u0085 too",
    "x\n" * 300,
)


def sample_table(rows: int = 40, *, text_field: str = "text") -> pa.Table:
    """Documents that have found faults before: blank, null, one word, many scripts, control characters.

    Columns: the text field (large_string), ``id`` (string), ``score`` (int64 with nulls), ``source`` (string)
    and ``meta`` (struct), ``rows`` of each.
    """
    texts = [_TEXTS[i % len(_TEXTS)] for i in range(rows)]
    meta = pa.struct([("lang", pa.string()), ("n", pa.int64())])
    return pa.table(
        {
            "id": pa.array([f"doc-{i}" for i in range(rows)], pa.string()),
            text_field: pa.array(texts, pa.large_string()),
            "score": pa.array([None if i % 7 == 3 else i % 11 - 3 for i in range(rows)], pa.int64()),
            "source": pa.array([["web", "books", None][i % 3] for i in range(rows)], pa.string()),
            "meta": pa.array([{"lang": "en", "n": i} if i % 5 else None for i in range(rows)], meta),
        }
    )


def check_stage(stage: Stage, table: pa.Table, *, tolerance: float = 0.0, fresh_process: bool = True) -> None:
    """Hold a stage to its contract on ``table``.

    Rows alone equal rows together; a second call equals the first; an empty table keeps the schema; null and
    blank texts get an answer; columns that were not declared are untouched; declared ones are there with their
    types; the description gives the same in a fresh process after a pickle round trip.

    Args:
        stage: The description.
        table: Documents; :func:`sample_table` makes some.
        tolerance: Largest absolute difference allowed between floats (models batch differently).
        fresh_process: Whether to include the fresh process, which takes about a second.
    """
    needs = stage.needs(table.schema)
    run = stage.open()
    given = table.to_pydict()
    whole = _result(run, table, stage)
    assert _equal(table.to_pydict(), given, 0.0), f"{stage.name} changed the table it was given."
    made = {field.name: field for field in needs.makes}
    for field in table.schema:
        if field.name not in made:
            assert field.name in whole.column_names, f"{stage.name} removed {field.name!r}."
            found = whole.schema.field(field.name).type
            assert found == field.type, f"{stage.name} changed the type of {field.name!r} to {found}."
            _same(table.select([field.name]), whole.select([field.name]), 0.0, f"{stage.name} changed {field.name!r}")
    for name, field in made.items():
        assert name in whole.column_names, f"{stage.name} declares that it makes {name!r}, and did not."
        found = whole.schema.field(name).type
        assert found == field.type, f"{stage.name} declares {name!r} as {field.type}, and made {found}."
    undeclared = set(whole.column_names) - set(table.column_names) - set(made) - set(RESERVED)
    assert not undeclared, f"{stage.name} made {sorted(undeclared)} without declaring it."
    _same(whole, _result(run, table, stage), tolerance, f"{stage.name} gave another result the second time")
    for size in (1, 7):
        parts = [_result(run, table.slice(i, size), stage) for i in range(0, table.num_rows, size)]
        _same(whole, _concat(parts), tolerance, f"{stage.name}: rows in batches of {size} differ from rows together")
    pieces = pa.concat_tables([table.slice(i, 3) for i in range(0, table.num_rows, 3)] or [table])
    _same(whole, _result(run, pieces, stage), tolerance, f"{stage.name}: columns in several chunks give another result")
    empty = _result(run, table.slice(0, 0), stage)
    assert empty.drop_columns([c for c in RESERVED if c in empty.column_names]).schema.equals(
        whole.drop_columns([c for c in RESERVED if c in whole.column_names]).schema
    ), f"{stage.name} gives an empty table another schema: {empty.schema} instead of {whole.schema}"
    if fresh_process:
        _same(whole, _elsewhere(stage, table), tolerance, f"{stage.name} gave another result in a fresh process")


def _result(run: TableFunction, table: pa.Table, stage: Stage) -> pa.Table:
    out = run(table)
    assert out.num_rows == table.num_rows, f"{stage.name} got {table.num_rows} rows and returned {out.num_rows}."
    return out


def _concat(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="permissive")


def _same(left: pa.Table, right: pa.Table, tolerance: float, what: str) -> None:
    a, b = _marked(left), _marked(right)
    for name in sorted(set(a) | set(b)):
        for row, (x, y) in enumerate(zip(a.get(name, []), b.get(name, []), strict=True)):
            assert _equal(x, y, tolerance), f"{what}: row {row}, column {name!r}: {x!r} and {y!r}."


def _marked(table: pa.Table) -> dict[str, list[Any]]:
    """Columns as Python values; a table without marks is the same as one whose marks are all null."""
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    for name in RESERVED:
        columns.setdefault(name, [None] * table.num_rows)
    # The score of a row that is kept is nobody's business.
    reason, score = RESERVED
    columns[score] = [s if r is not None else None for r, s in zip(columns[reason], columns[score], strict=True)]
    return columns


def _equal(x: Any, y: Any, tolerance: float) -> bool:
    if isinstance(x, float) and isinstance(y, float):
        return (math.isnan(x) and math.isnan(y)) or x == y or abs(x - y) <= tolerance
    if isinstance(x, list) and isinstance(y, list):
        return len(x) == len(y) and all(_equal(a, b, tolerance) for a, b in zip(x, y, strict=True))
    if isinstance(x, dict) and isinstance(y, dict):
        return x.keys() == y.keys() and all(_equal(x[k], y[k], tolerance) for k in x)
    return bool(x == y)


_FRESH = """
import base64, sys, cloudpickle
path, stage, table = cloudpickle.loads(base64.b64decode(sys.stdin.buffer.read()))
sys.path[:] = path
stage = cloudpickle.loads(stage)
sys.stdout.buffer.write(base64.b64encode(cloudpickle.dumps(stage.open()(table))))
"""


def _elsewhere(stage: Stage, table: pa.Table) -> pa.Table:
    """The stage's result on the table in a new Python process with another hash seed."""
    message = base64.b64encode(cloudpickle.dumps((list(sys.path), cloudpickle.dumps(stage), table)))
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(  # noqa: S603  our own interpreter
        [sys.executable, "-c", _FRESH],
        input=message,
        capture_output=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    assert done.returncode == 0, f"{stage.name} did not run in a fresh process:\n{done.stderr.decode()}"
    return cloudpickle.loads(base64.b64decode(done.stdout))


def check_fold(fold: Fold[Any, Result], table: pa.Table, *, tolerance: float = 0.0) -> Result:
    """Hold a fold to its contract on ``table``: any cut and any order of merging give the same answer.

    Also holds that the state survives a pickle round trip. Returns the answer.
    """

    def of(part: pa.Table) -> Any:
        return cloudpickle.loads(cloudpickle.dumps(fold.add(fold.start(), part)))

    whole = fold.finish(of(table))
    for cuts in _cuts(table.num_rows):
        parts = [table.slice(a, b - a) for a, b in pairwise(cuts)]
        for label, order in (("in order", parts), ("in reverse", parts[::-1])):
            state = fold.start()
            for part in order:
                state = fold.merge(state, of(part))
            _check_answer(fold, whole, fold.finish(state), tolerance, f"merged {label}, cut at {cuts[1:-1]}")
        states = [of(part) for part in parts]
        while len(states) > 1:  # a tree
            states = [fold.merge(*pair) if len(pair) == 2 else pair[0] for pair in _pairs(states)]
        _check_answer(fold, whole, fold.finish(states[0]), tolerance, f"merged in a tree, cut at {cuts[1:-1]}")
    running = fold.start()
    for i in range(table.num_rows):
        running = fold.add(running, table.slice(i, 1))
    _check_answer(fold, whole, fold.finish(running), tolerance, "added row by row")
    return whole


def _cuts(rows: int) -> Iterator[list[int]]:
    yield [0, 0, rows]
    yield [0, rows // 2, rows]
    yield [0, *sorted((min(1, rows), rows // 3, rows // 3, max(rows - 1, 0))), rows]


def _pairs(items: list[Any]) -> Iterator[list[Any]]:
    for i in range(0, len(items), 2):
        yield items[i : i + 2]


def _check_answer(fold: Fold[Any, Any], one: Any, other: Any, tolerance: float, how: str) -> None:
    assert _equal(_plain(one), _plain(other), tolerance), f"{fold.name} {how} gives {other!r} instead of {one!r}."


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, pa.Table | pa.Array | pa.ChunkedArray):
        return value.to_pylist()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
