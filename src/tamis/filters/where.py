"""Filtering by an Arrow expression over columns, and reading one from a recipe safely."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import MissingColumnError, UsageError
from tamis.stage import Needs, Stage, TableFunction
from tamis.table import mark

__all__ = ["Where", "columns_of", "parse_expression"]

_POSITION = "__position"


def columns_of(expression: pc.Expression, schema: pa.Schema) -> tuple[str, ...]:
    """The columns of ``schema`` that an expression reads.

    Arrow does not tell; an empty table without the column does. Raises :class:`MissingColumnError` where the
    expression names a column that is not there, :class:`UsageError` where types do not fit.
    """
    table = schema.empty_table().append_column(_POSITION, pa.array([], pa.int64()))
    try:
        table.filter(expression)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        missing = re.search(r"FieldRef\.Name\((.*?)\)", str(error))
        if missing and missing[1] not in schema.names:
            raise MissingColumnError.of(missing[1], f"the condition {expression}", schema.names) from error
        message = f"the condition {expression} does not fit the columns: {str(error).splitlines()[0]}"
        raise UsageError(message) from error
    return tuple(name for name in schema.names if not _binds(table.drop_columns([name]), expression))


def _binds(table: pa.Table, expression: pc.Expression) -> bool:
    try:
        table.filter(expression)
    except pa.ArrowInvalid:
        return False
    return True


@dataclass(frozen=True)
class Where(Stage):
    """Keeps the documents for which an Arrow expression is true; null counts as false."""

    expression: pc.Expression

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads the columns that the expression names."""
        return Needs(reads=columns_of(self.expression, schema))

    def open(self) -> TableFunction:
        """The function that marks."""
        reason = f"not {self.expression}"

        def run(table: pa.Table) -> pa.Table:
            rows = pa.array(np.arange(table.num_rows))
            kept = table.append_column(_POSITION, rows).filter(self.expression).column(_POSITION)
            keep = np.zeros(table.num_rows, dtype=np.bool_)
            keep[kept.to_numpy()] = True
            return mark(table, pc.if_else(pa.array(keep), pa.scalar(None, pa.string()), reason))

        return run


# -- reading an expression from text -------------------------------------------------------------------------

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def parse_expression(text: str) -> pc.Expression:
    """A condition such as ``score >= 0 and lang in ["en", "de"] and title is not None`` as an Arrow expression.

    Column names stand for themselves; others are written between backticks. There are comparisons, ``and``,
    ``or``, ``not``, ``in``, ``is None``, + - * /, numbers, texts, True, False and parentheses. Nothing is
    evaluated as Python.

    >>> str(parse_expression("`edu-int` >= 4 and lang == 'en'"))
    '((edu-int >= 4) and (lang == "en"))'
    """
    prefix = "column_"
    while prefix in text:
        prefix += "_"
    names: dict[str, str] = {}

    def hide(match: re.Match[str]) -> str:
        if match[1] is None:  # a text between quotation marks, backticks and all
            return match[0]
        hidden = f"{prefix}{len(names)}"
        names[hidden] = match[1]
        return hidden

    hidden = re.sub(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`([^`]+)`""", hide, text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a backslash that escapes nothing
            tree = ast.parse(hidden.strip(), mode="eval")
        return _Parser(text, names).condition(tree.body)
    except SyntaxError as error:
        message = f"the condition {text!r} cannot be understood at character {error.offset or 1}: {error.msg}."
        raise UsageError(message) from error
    except UsageError:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError, NotImplementedError) as error:
        message = f"the condition {text!r} cannot be used: {error}."
        raise UsageError(message) from error


def _expression(value: Any) -> pc.Expression:
    return value if isinstance(value, pc.Expression) else pc.scalar(value)


@dataclass
class _Parser:
    text: str
    names: dict[str, str]

    def refuse(self, node: ast.AST, what: str) -> NoReturn:
        place = getattr(node, "col_offset", 0) + 1
        message = f"the condition {self.text!r} cannot be used at character {place}: {what}."
        raise UsageError(message)

    def condition(self, node: ast.expr) -> Any:
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(v) for v in node.values]
            both = isinstance(node.op, ast.And)
            return reduce((lambda a, b: a & b) if both else (lambda a, b: a | b), parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.condition(node.operand)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            parts = [self.compare(a, op, b) for a, op, b in zip(sides, node.ops, sides[1:], strict=False)]
            return reduce(lambda a, b: a & b, parts)
        if isinstance(node, ast.Name):
            return self.value(node)
        return self.refuse(node, "a comparison is expected here, such as score >= 0")

    def compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(op, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                self.refuse(right, "`is` is for None only")
            null = _expression(self.value(left)).is_null()
            return null if isinstance(op, ast.Is) else ~null
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple | ast.Set) or not right.elts:
                self.refuse(right, "`in` needs a list, such as lang in ['en', 'de']")
            within = _expression(self.value(left)).isin([self.constant(item) for item in right.elts])
            return within if isinstance(op, ast.In) else ~within
        return _COMPARE[type(op)](_expression(self.value(left)), self.value(right))

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return pc.field(self.names.get(node.id, node.id))
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return _ARITHMETIC[type(node.op)](_expression(self.value(node.left)), self.value(node.right))
        return self.constant(node)

    def constant(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | bool):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self.constant(node.operand)
            if isinstance(value, int | float):
                return -value
        return self.refuse(node, "only column names, numbers, texts, True and False can stand here")
