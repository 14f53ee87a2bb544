"""Sixty-four bytes at a time: which of them are what, one bit each.

A processor with AVX-512 answers each question about 64 bytes with one instruction, others with two or four.
"""

from __future__ import annotations

from typing import Any

import numba as nb
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = [
    "BLOCK",
    "all_bytes",
    "as_bits",
    "block_at",
    "first_bits",
    "heads64",
    "highest_bit",
    "is64",
    "kinds64",
    "ones",
    "white64",
    "wide64",
    "within",
]

BLOCK = ir.VectorType(ir.IntType(8), 64)


def block_at(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Where 64 bytes of an array begin, for the body of an intrinsic."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), ir.PointerType(BLOCK))


def all_bytes(byte: int) -> ir.Constant:
    """A block of one byte alone."""
    return ir.Constant(BLOCK, [byte] * 64)


def within(builder: Any, block: Any, first: int, last: int) -> Any:
    """Which bytes are from ``first`` to ``last``."""
    return builder.icmp_unsigned("<=", builder.sub(block, all_bytes(first)), all_bytes(last - first))


def as_bits(builder: Any, marks: Any) -> Any:
    """The marks of 64 bytes as one word."""
    return builder.bitcast(marks, ir.IntType(64))


def _loaded(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.load(block_at(context, builder, signature.args[0], arguments[0], arguments[1]), align=1)


def _white(builder: Any, block: Any) -> Any:
    return builder.or_(within(builder, block, 9, 13), within(builder, block, 28, 32))


def _any_of(builder: Any, block: Any, characters: str) -> Any:
    found = None
    for character in characters:
        same = builder.icmp_unsigned("==", block, all_bytes(ord(character)))
        found = same if found is None else builder.or_(found, same)
    return found


@intrinsic
def wide64(typing: Any, data: Any, index: Any) -> Any:  # noqa: ARG001  numba passes both
    """Which of 64 bytes are beyond ASCII; here and below the caller knows that 64 bytes are there."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _loaded(context, builder, signature, arguments)
        return as_bits(builder, builder.icmp_unsigned(">=", block, all_bytes(128)))

    return types.uint64(data, types.int64), emit


@intrinsic
def white64(typing: Any, data: Any, index: Any) -> Any:  # noqa: ARG001  numba passes both
    """Which of 64 bytes are white space of ASCII, as ``str.split()`` has it."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return as_bits(builder, _white(builder, _loaded(context, builder, signature, arguments)))

    return types.uint64(data, types.int64), emit


@intrinsic
def heads64(typing: Any, data: Any, index: Any) -> Any:  # noqa: ARG001  numba passes both
    """Which of 64 bytes begin a character of UTF-8."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _loaded(context, builder, signature, arguments)
        # The bytes that go on with a character are the 64 least ones of signed numbers.
        return as_bits(builder, builder.icmp_signed(">=", block, all_bytes(0xC0)))

    return types.uint64(data, types.int64), emit


@intrinsic
def is64(typing: Any, data: Any, index: Any, byte: Any) -> Any:  # noqa: ARG001  numba passes all
    """Which of 64 bytes are ``byte``, a uint8."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _loaded(context, builder, signature, arguments)
        one = builder.insert_element(ir.Constant(BLOCK, ir.Undefined), arguments[2], ir.Constant(ir.IntType(32), 0))
        same = builder.shuffle_vector(
            one, ir.Constant(BLOCK, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
        )
        return as_bits(builder, builder.icmp_unsigned("==", block, same))

    return types.uint64(data, types.int64, types.uint8), emit


@intrinsic
def kinds64(typing: Any, data: Any, index: Any) -> Any:  # noqa: ARG001  numba passes both
    r"""(white space, letters, digits, capitals, marks ``\n?!,.``, brackets, hash marks, braces, dots) of 64 bytes."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _loaded(context, builder, signature, arguments)
        capitals = within(builder, block, ord("A"), ord("Z"))
        braces = _any_of(builder, block, "{}")
        dots = _any_of(builder, block, ".")
        found = (
            _white(builder, block),
            builder.or_(capitals, within(builder, block, ord("a"), ord("z"))),
            within(builder, block, ord("0"), ord("9")),
            capitals,
            builder.or_(dots, _any_of(builder, block, "\n?!,")),
            builder.or_(braces, _any_of(builder, block, "()[]")),
            _any_of(builder, block, "#"),
            braces,
            dots,
        )
        return context.make_tuple(builder, signature.return_type, [as_bits(builder, marks) for marks in found])

    return nb.types.UniTuple(types.uint64, 9)(data, types.int64), emit


@intrinsic
def ones(typing: Any, word: Any) -> Any:  # noqa: ARG001  numba passes both
    """How many bits are set."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), emit


@intrinsic
def highest_bit(typing: Any, word: Any) -> Any:  # noqa: ARG001  numba passes both
    """Number (0 to 63) of the highest bit that is set in ``word``, which is not 0."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        leading = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))
        return builder.sub(ir.Constant(ir.IntType(64), 63), leading)

    return types.int64(types.uint64), emit


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def first_bits(size: int) -> Any:
    """A word with the lowest ``size`` bits set, 0 to 64."""
    return ~nb.uint64(0) >> nb.uint64(64 - size) if size > 0 else nb.uint64(0)
