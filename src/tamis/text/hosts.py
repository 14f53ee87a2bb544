"""Domains and addresses of lists, looked up for the address of each document.

A list is kept as the sorted 64-bit hashes of its entries: 8 bytes for each, found in five steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.text.arrow import Bytes, Offsets, utf8
from tamis.text.words import hash_bytes

__all__ = ["Hashes", "find_listed", "hashes_of", "parse_list", "spelled"]

_LONGEST = 255
"""Bytes of the longest host name there is; of a longer one its end is looked at."""
_DEEPEST = 32
"""Folders of an address that are looked at."""
DOMAIN, ADDRESS = 1, 2


class Hashes(NamedTuple):
    """A set of hashes: sorted, ``uint64`` of shape (n,), and where those with each of the first 16 bits begin."""

    sorted: npt.NDArray[np.uint64]
    begins: Offsets


def hashes_of(found: npt.NDArray[np.uint64]) -> Hashes:
    """The set of these hashes."""
    ordered = np.sort(found)  # equal ones may stay; numpy.unique takes twenty times as long
    bounds = np.arange(1 << 16, dtype=np.uint64) << np.uint64(48)
    return Hashes(ordered, np.append(np.searchsorted(ordered, bounds), len(ordered)).astype(np.int64))


@nb.njit(nogil=True, cache=True, _nrt=False)
def _holds(key: Any, ordered: npt.NDArray[np.uint64], begins: Offsets) -> bool:
    bucket = nb.int64(key >> nb.uint64(48))
    low, high = begins[bucket], begins[bucket + 1]
    while low < high:
        middle = (low + high) >> 1
        if ordered[middle] < key:
            low = middle + 1
        else:
            high = middle
    return bool(low < begins[bucket + 1] and ordered[low] == key)


@nb.njit(nogil=True, cache=True, _nrt=False)
def _authority(data: Bytes, start: int, end: int) -> tuple[int, int, int]:
    """(first, last, where the path begins) of the host of an address, without scheme, user, port and last dot."""
    while start < end and data[start] <= 32:
        start += 1
    while start < end and data[end - 1] <= 32:
        end -= 1
    first = start
    i = start
    while i < end and data[i] != 58 and data[i] != 47 and data[i] != 63 and data[i] != 35:
        i += 1
    if i + 2 < end and data[i] == 58 and data[i + 1] == 47 and data[i + 2] == 47:
        first = i + 3
    elif i + 1 < end and i == start and data[i] == 47 and data[i + 1] == 47:
        first = i + 2
    stop = first
    while stop < end and data[stop] != 47 and data[stop] != 63 and data[stop] != 35 and data[stop] != 92:
        stop += 1
    for k in range(first, stop):
        if data[k] == 64:
            first = k + 1
    last = stop
    if first < last and data[first] == 91:  # an IPv6 address, between brackets
        for k in range(first, stop):
            if data[k] == 93:
                return first + 1, k, stop
        return first, last, stop
    colons = 0
    colon = last
    for k in range(first, last):
        if data[k] == 58:
            colons += 1
            colon = k
    if colons == 1:  # more are those of an IPv6 address without brackets
        last = colon
    while last > first and data[last - 1] == 46:
        last -= 1
    return first, last, stop


@nb.njit(nogil=True, cache=True, _nrt=False)
def _lowered(data: Bytes, first: int, last: int, scratch: Bytes) -> tuple[int, bool]:
    """(length, whether plain ASCII without %) of the end of a host, written in small letters."""
    first = max(first, last - _LONGEST)
    plain = True
    for k in range(first, last):
        byte = data[k]
        if byte >= 128 or byte == 37:
            plain = False
        scratch[k - first] = byte | 32 if 65 <= byte <= 90 else byte
    return last - first, plain


@nb.njit(nogil=True, cache=True, _nrt=False)
def _is_number(scratch: Bytes, n: int) -> bool:
    """Whether a host is an IP address: its last part is a number, or it has a colon."""
    i = n
    while i > 0 and 48 <= scratch[i - 1] <= 57:
        i -= 1
    if i < n and (i == 0 or scratch[i - 1] == 46):
        return True
    for k in range(n):
        if scratch[k] == 58:
            return True
    return False


@nb.njit(nogil=True, cache=True, _nrt=False)
def _path_end(data: Bytes, start: int, end: int) -> int:
    """Where an address ends: without its fragment, white space and a last slash."""
    for k in range(start, end):
        if data[k] == 35:
            end = k
            break
    while end > start and (data[end - 1] <= 32 or data[end - 1] == 47):
        end -= 1
    return end


@nb.njit(nogil=True, cache=True, _nrt=False)
def _address_hash(scratch: Bytes, n: int, data: Bytes, start: int, stop: int) -> Any:
    skip = 4 if n > 4 and scratch[0] == 119 and scratch[1] == 119 and scratch[2] == 119 and scratch[3] == 46 else 0
    host = hash_bytes(scratch, skip, n)
    return hash_bytes(data, start, stop) ^ (host * nb.uint64(0x9E3779B97F4A7C15))


@nb.njit(nogil=True, cache=True, _nrt=False)
def _find(
    data: Bytes,
    offsets: Offsets,
    domains: tuple[npt.NDArray[np.uint64], Offsets],
    addresses: tuple[npt.NDArray[np.uint64], Offsets],
    scratch: Bytes,
    out: npt.NDArray[np.int8],
) -> None:
    for row in range(len(out)):
        out[row] = 0
        first, last, path = _authority(data, offsets[row], offsets[row + 1])
        n, plain = _lowered(data, first, last, scratch)
        if n == 0:
            continue
        if not plain:
            out[row] = -1
            continue
        number = _is_number(scratch, n)
        for i in range(n):
            if (i == 0 or (scratch[i - 1] == 46 and not number)) and _holds(
                hash_bytes(scratch, i, n), domains[0], domains[1]
            ):
                out[row] = DOMAIN
                break
        if out[row] == 0 and len(addresses[0]):
            end = _path_end(data, path, offsets[row + 1])
            seen = 0
            for stop in range(path + 1, end + 1):
                if stop == end or data[stop] == 47 or data[stop] == 63 or data[stop] == 38:
                    seen += 1
                    if _holds(_address_hash(scratch, n, data, path, stop), addresses[0], addresses[1]):
                        out[row] = ADDRESS
                        break
                    if seen == _DEEPEST:
                        break


def find_listed(urls: pa.LargeStringArray, domains: Hashes, addresses: Hashes) -> npt.NDArray[np.int8]:
    """For each address 1 if its host or a domain above it is listed, 2 if it or a folder above it is, else 0.

    ``int8`` of shape (n,). -1: its host is written with other letters than ASCII or with %, and must be put in the
    form that domain names have on the wire first. 0 for an empty text.
    """
    data, offsets = utf8(urls)
    out = np.empty(len(urls), dtype=np.int8)
    _find(data, offsets, tuple(domains), tuple(addresses), np.zeros(_LONGEST + 9, dtype=np.uint8), out)
    return out


@nb.njit(nogil=True, cache=True, _nrt=False)
def _is_address_of_a_machine(data: Bytes, first: int, last: int) -> bool:
    """Whether the first word of a line of a hosts file is an IP address."""
    dots = colons = 0
    for k in range(first, last):
        byte = data[k]
        dots += byte == 46
        colons += byte == 58
        hexadecimal = 97 <= (byte | 32) <= 102
        if not (48 <= byte <= 57 or byte == 46 or byte == 58 or byte == 37 or hexadecimal):
            return colons > 0 and k > first and data[k - 1] == 37  # the interface, fe80::1%lo0
        if hexadecimal and colons == 0 and dots:
            return False
    return colons > 1 or dots == 3


@nb.njit(nogil=True, cache=True, _nrt=False)
def _parse(
    data: Bytes,
    scratch: Bytes,
    domains: npt.NDArray[np.uint64],
    addresses: npt.NDArray[np.uint64],
    others: Offsets,
) -> tuple[int, int, int, int]:
    """(domains, addresses, entries that are not plain, number of the first line that is neither or 0)."""
    n = m = p = 0
    line = 0
    i = 0
    end = len(data)
    while i < end:
        line += 1
        stop = i
        while stop < end and data[stop] != 10:
            stop += 1
        words = 0
        number = False
        at = i
        i = stop + 1
        while at < stop:
            while at < stop and data[at] <= 32:
                at += 1
            if at == stop or data[at] == 35 or (data[at] == 33 and words == 0):  # a comment
                break
            first = at
            while at < stop and data[at] > 32:
                at += 1
            words += 1
            if words == 1:
                rest = at
                while rest < stop and data[rest] <= 32:
                    rest += 1
                number = rest < stop and data[rest] != 35
                if number:
                    if not _is_address_of_a_machine(data, first, at):
                        return n, m, p, line
                    continue
            host, last, path = _authority(data, first, at)
            if host < last and data[host] == 42:
                host += 1
            while host < last and data[host] == 46:
                host += 1
            size, plain = _lowered(data, host, last, scratch)
            if size == 0:
                return n, m, p, line
            if not plain:
                others[2 * p], others[2 * p + 1] = first, at
                p += 1
                continue
            finish = _path_end(data, path, at)
            if finish > path:
                addresses[m] = _address_hash(scratch, size, data, path, finish)
                m += 1
            elif not (number and _is_local(scratch, size)):
                domains[n] = hash_bytes(scratch, 0, size)
                n += 1
    return n, m, p, 0


@nb.njit(nogil=True, cache=True, _nrt=False)
def _is_local(scratch: Bytes, n: int) -> bool:
    """Whether a name of a hosts file is one without a dot, as localhost, or an IP address: of this machine."""
    for k in range(n):
        if scratch[k] == 46:
            return _is_number(scratch, n)
    return True


def parse_list(
    content: bytes,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], list[str], int]:
    """Of a list: hashes of domains, of addresses, entries that are not plain ASCII, and the first bad line or 0.

    One domain or address a line, or the lines of a hosts file; "#" and "!" begin comments. A domain may begin with
    "*." or ".", and an address with a scheme. The numbers of lines count from 1.
    """
    data = np.frombuffer(content, dtype=np.uint8)
    most = int(np.count_nonzero(data <= 32)) + 1
    domains, addresses = np.empty(most, dtype=np.uint64), np.empty(most, dtype=np.uint64)
    others = np.empty(2 * (1 + int(np.count_nonzero((data >= 128) | (data == 37)))), dtype=np.int64)
    n, m, p, bad = _parse(data, np.zeros(_LONGEST + 9, dtype=np.uint8), domains, addresses, others)
    texts = [content[a:b].decode("utf-8", "replace") for a, b in others[: 2 * p].reshape(-1, 2)]
    return domains[:n], addresses[:m], texts, bad


@nb.njit(nogil=True, cache=True, _nrt=False)
def _spell(data: Bytes, offsets: Offsets, gap: int, out: Bytes, ends: Offsets) -> None:
    at = 0
    for row in range(len(offsets) - 1):
        for i in range(offsets[row], offsets[row + 1]):
            byte = data[i]
            if 65 <= byte <= 90:
                byte |= 32
            if not (48 <= byte <= 57 or 97 <= byte <= 122 or byte >= 128):
                if gap == 0:
                    continue
                byte = gap
            out[at] = byte
            at += 1
        ends[row + 1] = at


def spelled(urls: pa.LargeStringArray, gap: str) -> pa.LargeStringArray:
    """The letters and digits of each address in small letters, with ``gap`` ("" or a sign) for everything else.

    >>> spelled(pa.array(["https://Ex-ample.org/a_b"], pa.large_string()), " ").to_pylist()
    ['https   ex ample org a b']
    """
    data, offsets = utf8(urls)
    out = np.empty(int(offsets[-1] - offsets[0]), dtype=np.uint8)
    ends = np.zeros(len(urls) + 1, dtype=np.int64)
    _spell(data, offsets, ord(gap) if gap else 0, out, ends)
    return pa.LargeStringArray.from_buffers(len(urls), pa.py_buffer(ends), pa.py_buffer(out[: ends[-1]]))
