r"""The compiled half of :mod:`tamis.text.hashed_ngrams`: from a text to its tokens, their n-grams and their buckets.

A text is walked 64 bytes at a time: the classes of the bytes are bits of three words, and where tokens begin and end
are bits of these shifted by one. Tokens gather by the thousand, then their n-grams are hashed, then counted or weighed.

SHA-256 is asked for only where an n-gram is not among those met last, and then for sixteen at once.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from tamis.text.arrow import Bytes, Offsets
from tamis.text.bytes64 import load64, lowest_bit, store64
from tamis.text.lowered import Bits, classes64, lower_into, room_for
from tamis.text.sha256 import LANES, SHORT, compress16, digest_mod, powers, put_block, residue16

__all__ = ["How", "Room", "count_all", "list_all", "room_of", "weigh_all"]

How = tuple[bool, int, int]
"""Whether tokens are divided by white space alone, the longest n-grams, and the buckets, 0 for SHA-256."""

_TOKENS = 4096
"""Tokens that gather before their n-grams are hashed: hashes, places and buckets of that many stay in the cache."""
_ROOM = _TOKENS + 64
_SLOTS = 1 << 15
_REMEMBERED = 24
"""Longest n-gram, in bytes, whose SHA-256 is remembered: of documentation, 99.6 % of all uni- and bigrams."""


# -- the fast hash --------------------------------------------------------------------------------------------

_K0 = nb.uint64(0x9E3779B97F4A7C15)
_K1 = nb.uint64(0xD6E8FEB86659FD93)
_K2 = nb.uint64(0xA0761D6478BD642F)
_K3 = nb.uint64(0xE7037ED1A0B428DB)


@intrinsic
def _folded(typing: Any, left: Any, right: Any) -> Any:  # noqa: ARG001  numba passes both
    """The two halves of a product of 128 bits, the one xor the other."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        high = builder.lshr(product, ir.Constant(wide, 64))
        return builder.trunc(builder.xor(product, high), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), emit


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _masked(data: Bytes, start: int, size: int) -> Any:
    """The first ``size`` of eight bytes, the others 0; ``size`` may be any integer."""
    if size >= 8:
        return load64(data, start)
    if size <= 0:
        return nb.uint64(0)
    return load64(data, start) & ~(~nb.uint64(0) << nb.uint64(8 * size))


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _token_hash(data: Bytes, start: int, stop: int) -> Any:
    """64 bits of the bytes of a token; 16 bytes from any place in it on are there to be read."""
    size = stop - start
    h = nb.uint64(size) * _K0
    while size > 16:
        h = _folded(load64(data, start) ^ h ^ _K0, load64(data, start + 8) ^ _K1)
        start += 16
        size -= 16
    return _folded(_masked(data, start, size) ^ h ^ _K0, _masked(data, start + 8, size - 8) ^ _K1)


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _followed(h: Any, token: Any) -> Any:
    """The hash of an n-gram and one more token."""
    return _folded(h ^ _K2, token ^ _K3)


@nb.njit(nogil=True, cache=True, inline="always", _nrt=False)
def _bucket(h: Any, num_buckets: Any) -> Any:
    """A bucket from a hash: it is mixed once more, for products of short tokens lie too evenly or not evenly enough."""
    return nb.int32(((((h ^ (h >> nb.uint64(32))) * _K0) >> nb.uint64(32)) * num_buckets) >> nb.uint64(32))


# -- tokens ---------------------------------------------------------------------------------------------------


@nb.njit(nogil=True, cache=True, _nrt=False)
def _tokens(
    text: Bytes,
    size: int,
    plain: bool,  # noqa: FBT001  compiled code has no keywords
    wordy: Bits,
    spacy: Bits,
    by_space: bool,  # noqa: FBT001
    state: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64],
    hashes: npt.NDArray[np.uint64],
    n: int,
) -> int:
    """Write tokens from ``state[0]`` on, until the text or the room ends; returns how many there are then.

    ``places`` gets where each begins and ends, in turn, ``hashes`` its hash, both from the n-th on. ``state`` is the
    next block, where the token under way began, and whether the byte before was in a word, and in another token.
    """
    one = nb.uint64(1)
    block = state[0]
    begin = state[1]
    in_word = nb.uint64(state[2])
    in_other = nb.uint64(state[3])
    full = n + _TOKENS
    # Where a text fills its last block, one more ends its last token.
    while block <= size and n <= full:
        word, space = classes64(text, block)
        if not plain:
            word |= wordy[block >> 6]
            space |= spacy[block >> 6]
        left = size - block
        if left < 64:
            space |= ~nb.uint64(0) << nb.uint64(left)
            word &= ~space
        if by_space:
            word = ~space
        other = ~(word | space)
        word_before = (word << one) | in_word
        other_before = (other << one) | in_other
        begins = (word & ~word_before) | (other & ~other_before)
        ends = (word_before & ~word) | (other_before & ~other)
        # The next beginning is taken once the token before it has ended; the lowest bit of no bits is never used.
        if not (in_word | in_other):
            begin = block + lowest_bit(begins)
            begins &= begins - one
        while ends != 0:
            stop = block + lowest_bit(ends)
            ends &= ends - one
            hashes[n] = _token_hash(text, begin, stop)
            places[2 * n] = begin
            places[2 * n + 1] = stop
            n += 1
            begin = block + lowest_bit(begins)
            begins &= begins - one
        in_word = word >> nb.uint64(63)
        in_other = other >> nb.uint64(63)
        block += 64
    state[0] = block
    state[1] = begin
    state[2] = nb.int64(in_word)
    state[3] = nb.int64(in_other)
    return n


# -- buckets --------------------------------------------------------------------------------------------------


class Room(NamedTuple):
    """The arrays that a kernel works in: of one thread, and for one setting."""

    text: Bytes
    wordy: Bits
    spacy: Bits
    state: npt.NDArray[np.int64]
    """What :func:`_tokens` remembers, and as the fifth the tokens of this text in earlier rounds."""
    places: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.uint64]
    buckets: npt.NDArray[np.int32]
    joined: Bytes
    """For SHA-256: the tokens of the text with one space between each two, so that every n-gram is in one piece."""
    memory: npt.NDArray[np.uint64]
    """For SHA-256: n-grams met before, in three words, and a fourth of their length and bucket."""
    blocks: npt.NDArray[np.uint32]
    digests: npt.NDArray[np.uint32]
    waiting: npt.NDArray[np.int64]
    """For each message in ``blocks``: which of the buckets it is for, and where it is remembered, or -1."""
    message: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.uint64]


@nb.njit(nogil=True, cache=True, _nrt=False)
def _fast(
    hashes: npt.NDArray[np.uint64], n: int, ngrams: int, seen: int, num_buckets: int, buckets: npt.NDArray[np.int32]
) -> int:
    """Write the buckets of the n-grams that end at each token from the (ngrams - 1)-th on; returns how many."""
    m = 0
    lead = ngrams - 1
    span = nb.uint64(num_buckets)
    if ngrams == 2 and n > 1:
        # Written out: uni- and bigrams are what everybody uses.
        buckets[0] = _bucket(hashes[1], span)
        m = 1
        if seen > 0:
            buckets[1] = _bucket(_followed(hashes[0], hashes[1]), span)
            m = 2
        for i in range(2, n):
            buckets[m] = _bucket(hashes[i], span)
            buckets[m + 1] = _bucket(_followed(hashes[i - 1], hashes[i]), span)
            m += 2
        return m
    for i in range(lead, n):
        for k in range(min(lead, seen + i - lead) + 1):
            h = hashes[i - k]
            for follower in range(i - k + 1, i + 1):
                h = _followed(h, hashes[follower])
            buckets[m] = _bucket(h, span)
            m += 1
    return m


@nb.njit(nogil=True, cache=True, _nrt=False)
def _join(room: Room, n: int, lead: int) -> None:
    """Write the new tokens behind those before, a space after each; ``places`` says where they are from now on."""
    place = room.state[5]
    for i in range(lead, n):
        begin = room.places[2 * i]
        size = room.places[2 * i + 1] - begin
        for k in range(0, size, 8):  # up to seven bytes too many, which the next token covers
            store64(room.joined, place + k, load64(room.text, begin + k))
        room.places[2 * i] = place
        room.places[2 * i + 1] = place + size
        room.joined[place + size] = 32
        place += size + 1
    room.state[5] = place


@nb.njit(nogil=True, cache=True, _nrt=False)
def _hash_waiting(room: Room, number: int) -> None:
    """Hash the messages that wait, put their buckets where they belong, and remember them."""
    compress16(room.blocks, room.digests)
    for lane in range(number):
        bucket = residue16(room.digests, lane, room.weights)
        room.buckets[room.waiting[3 * lane]] = bucket
        slot = room.waiting[3 * lane + 1]
        # Of two that share a slot, the later one has its bytes there, and comes last here, too.
        if slot >= 0:
            room.memory[4 * slot + 3] = nb.uint64((room.waiting[3 * lane + 2] << 32) | bucket)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _sha256(room: Room, n: int, ngrams: int, seen: int) -> int:
    """:func:`_fast` for SHA-256; the fast hash finds what is remembered, and its bytes say whether it is that."""
    lead = ngrams - 1
    _join(room, n, lead)
    joined, hashes, memory = room.joined, room.hashes, room.memory
    mask = len(memory) // 4 - 1
    m = 0
    lane = 0
    for i in range(lead, n):
        stop = room.places[2 * i + 1]
        for k in range(min(lead, seen + i - lead) + 1):
            begin = room.places[2 * (i - k)]
            size = stop - begin
            slot = -1
            if size <= _REMEMBERED:
                h = hashes[i - k]
                for follower in range(i - k + 1, i + 1):
                    h = _followed(h, hashes[follower])
                slot = nb.int64(h) & mask
                first = _masked(joined, begin, size)
                second = _masked(joined, begin + 8, size - 8)
                third = _masked(joined, begin + 16, size - 16)
                known = memory[4 * slot + 3]
                if (
                    memory[4 * slot] == first
                    and memory[4 * slot + 1] == second
                    and memory[4 * slot + 2] == third
                    and known >> nb.uint64(32) == size
                ):
                    room.buckets[m] = nb.int32(known & nb.uint64(0xFFFFFFFF))
                    m += 1
                    continue
                memory[4 * slot] = first
                memory[4 * slot + 1] = second
                memory[4 * slot + 2] = third
                memory[4 * slot + 3] = 0  # not known before it is hashed
            elif size > SHORT:
                room.buckets[m] = digest_mod(joined, begin, size, room.weights, room.message)
                m += 1
                continue
            put_block(joined, begin, size, room.blocks, lane)
            room.waiting[3 * lane] = m
            room.waiting[3 * lane + 1] = slot
            room.waiting[3 * lane + 2] = size
            m += 1
            lane += 1
            if lane == LANES:
                _hash_waiting(room, lane)
                lane = 0
    if lane > 0:
        _hash_waiting(room, lane)
    return m


@nb.njit(nogil=True, cache=True, _nrt=False)
def _start(
    data: Bytes, start: int, end: int, lower: npt.NDArray[np.uint32], classes: npt.NDArray[np.uint8], room: Room
) -> tuple[int, bool]:
    """Begin a text; returns its bytes in lower case, and whether it is ASCII."""
    for k in range(6):
        room.state[k] = 0
    return lower_into(data, start, end, lower, classes, room.text, room.wordy, room.spacy)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _next(room: Room, size: int, plain: bool, by_space: bool, ngrams: int, num_buckets: int) -> int:  # noqa: FBT001
    """Write the buckets of the next few thousand tokens of the text; returns how many there are.

    ``num_buckets`` is 0 for SHA-256.
    """
    lead = ngrams - 1
    n = _tokens(room.text, size, plain, room.wordy, room.spacy, by_space, room.state, room.places, room.hashes, lead)
    seen = room.state[4]
    if num_buckets > 0:
        m = _fast(room.hashes, n, ngrams, seen, num_buckets, room.buckets)
    else:
        m = _sha256(room, n, ngrams, seen)
    room.state[4] = seen + n - lead
    for k in range(lead):  # the last tokens are the first of the next round's n-grams
        room.hashes[k] = room.hashes[n - lead + k]
        room.places[2 * k] = room.places[2 * (n - lead + k)]
        room.places[2 * k + 1] = room.places[2 * (n - lead + k) + 1]
    return m


# -- what is made of them -------------------------------------------------------------------------------------


@nb.njit(nogil=True, cache=True, _nrt=False)
def count_all(
    data: Bytes,
    offsets: Offsets,
    lower: npt.NDArray[np.uint32],
    classes: npt.NDArray[np.uint8],
    room: Room,
    how: How,
    counts: npt.NDArray[np.int64],
    features: npt.NDArray[np.int64],
) -> None:
    """Add the features of every text to ``counts``; ``features`` gets how many each has."""
    by_space, ngrams, num_buckets = how
    for row in range(len(features)):
        size, plain = _start(data, offsets[row], offsets[row + 1], lower, classes, room)
        total = 0
        while room.state[0] <= size:
            m = _next(room, size, plain, by_space, ngrams, num_buckets)
            for k in range(m):
                counts[room.buckets[k]] += 1
            total += m
        features[row] = total


@nb.njit(nogil=True, cache=True, _nrt=False)
def weigh_all(
    data: Bytes,
    offsets: Offsets,
    lower: npt.NDArray[np.uint32],
    classes: npt.NDArray[np.uint8],
    room: Room,
    how: How,
    ratios: npt.NDArray[np.float64],
    sums: npt.NDArray[np.float64],
    features: npt.NDArray[np.int64],
) -> None:
    """Write the sum of the ratios of each text's features, for every target, and how many there are.

    A sum is made of four, so that an addition need not wait for the one before; the text alone decides which.
    """
    by_space, ngrams, num_buckets = how
    targets = ratios.shape[1]
    for row in range(len(features)):
        size, plain = _start(data, offsets[row], offsets[row + 1], lower, classes, room)
        total = 0
        for target in range(targets):
            sums[row, target] = 0.0
        while room.state[0] <= size:
            m = _next(room, size, plain, by_space, ngrams, num_buckets)
            total += m
            for target in range(targets):
                a = b = c = d = 0.0
                for k in range(0, m - 3, 4):
                    a += ratios[room.buckets[k], target]
                    b += ratios[room.buckets[k + 1], target]
                    c += ratios[room.buckets[k + 2], target]
                    d += ratios[room.buckets[k + 3], target]
                for k in range(m - m % 4, m):
                    a += ratios[room.buckets[k], target]
                sums[row, target] += (a + b) + (c + d)
        features[row] = total


@nb.njit(nogil=True, cache=True, _nrt=False)
def list_all(
    data: Bytes,
    offsets: Offsets,
    lower: npt.NDArray[np.uint32],
    classes: npt.NDArray[np.uint8],
    room: Room,
    how: How,
    found: npt.NDArray[np.int32],
    ends: npt.NDArray[np.int64],
) -> None:
    """Write the buckets of all texts one after the other, and where those of each end."""
    by_space, ngrams, num_buckets = how
    total = 0
    for row in range(len(ends)):
        size, plain = _start(data, offsets[row], offsets[row + 1], lower, classes, room)
        while room.state[0] <= size:
            m = _next(room, size, plain, by_space, ngrams, num_buckets)
            for k in range(m):
                found[total + k] = room.buckets[k]
            total += m
        ends[row] = total


# -- room to work in ---------------------------------------------------------------------------------------------

_local = threading.local()
"""The room of each thread: made once, because 1.5 MB of memory take longer to get than a small table to count."""
_LARGEST_KEPT = 32 << 20


def room_of(size: int, ngrams: int, num_buckets: int, *, sha256: bool) -> Room:
    """Arrays for texts of up to ``size`` bytes."""
    key = (ngrams, num_buckets, sha256)
    kept: dict[tuple[int, int, bool], Room] = _local.__dict__.setdefault("rooms", {})
    room = kept.get(key)
    if room is not None and len(room.text) >= room_for(size):
        return room
    text = room_for(max(size, 1 << 16))
    tokens = _ROOM + ngrams
    made = Room(
        text=np.zeros(text, np.uint8),
        wordy=np.zeros(text // 64 + 1, np.uint64),
        spacy=np.zeros(text // 64 + 1, np.uint64),
        state=np.zeros(6, np.int64),
        places=np.zeros(2 * tokens, np.int64),
        hashes=np.zeros(tokens, np.uint64),
        buckets=np.zeros(tokens * ngrams, np.int32),
        joined=np.zeros(2 * text if sha256 else 0, np.uint8),
        memory=np.zeros(4 * _SLOTS if sha256 else 0, np.uint64) if room is None else room.memory,
        blocks=np.zeros((16, LANES), np.uint32),
        digests=np.zeros((8, LANES), np.uint32),
        waiting=np.zeros(3 * LANES, np.int64),
        message=np.zeros(24, np.uint32),
        weights=powers(num_buckets),
    )
    if text <= _LARGEST_KEPT:
        kept[key] = made
    return made
