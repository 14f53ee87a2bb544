"""Eight bytes at a time: the trick that makes byte-walking kernels run at memory speed."""

from __future__ import annotations

from typing import Any

import numba as nb
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

__all__ = ["HIGHS", "ONES", "has_byte", "has_less", "load64", "lowest", "lowest_bit", "mix", "store64"]

ONES = nb.uint64(0x0101010101010101)
HIGHS = nb.uint64(0x8080808080808080)


@intrinsic
def load64(typing: Any, data: Any, index: Any) -> Any:  # noqa: ARG001  numba passes both
    """Eight bytes of a uint8 array from ``index`` on as a uint64; the caller knows that they are there."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(array.data, [arguments[1]])
        return builder.load(builder.bitcast(place, ir.PointerType(ir.IntType(64))), align=1)

    return types.uint64(data, types.int64), emit


@intrinsic
def store64(typing: Any, data: Any, index: Any, word: Any) -> Any:  # noqa: ARG001  numba passes all
    """Write a uint64 as eight bytes of a uint8 array from ``index`` on; the caller knows that there is room."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(array.data, [arguments[1]])
        builder.store(arguments[2], builder.bitcast(place, ir.PointerType(ir.IntType(64))), align=1)
        return context.get_dummy_value()

    return types.void(data, types.int64, types.uint64), emit


@intrinsic
def _trailing_zeros(typing: Any, word: Any) -> Any:  # noqa: ARG001  numba passes both
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), emit


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def has_byte(word: Any, byte: int) -> Any:
    """Nonzero if one of the eight bytes is ``byte``; the lowest bit set is that of the first such byte."""
    x = word ^ (ONES * nb.uint64(byte))
    return (x - ONES) & ~x & HIGHS


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def has_less(word: Any, bound: int) -> Any:
    """Nonzero if one of the eight bytes is below ``bound`` (at most 128); the lowest bit set is that of the first."""
    return (word - ONES * nb.uint64(bound)) & ~word & HIGHS


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def lowest(marks: Any) -> Any:
    """Number (0 to 7) of the first byte whose high bit is set in ``marks``, which is not 0."""
    return nb.int64(_trailing_zeros(marks) >> nb.uint64(3))


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def lowest_bit(word: Any) -> Any:
    """Number (0 to 63) of the lowest bit that is set in ``word``, which is not 0."""
    return nb.int64(_trailing_zeros(word))


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def mix(x: Any) -> Any:
    """A bijection of 64-bit words that spreads every bit."""
    x ^= x >> nb.uint64(32)
    x *= nb.uint64(0xD6E8FEB86659FD93)
    return x ^ (x >> nb.uint64(32))
