"""The modifier that takes the comments out of programs."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tamis.errors import UnknownNameError
from tamis.modifiers.base import DocumentModifier, replaced
from tamis.text.comments import SYNTAXES, count_comments, mark_comments

__all__ = ["CodeCommentRemover"]

_STAND_INS = range(0xF0000, 0xFFFFE)
"""Characters for private use, one of which stands in for a comment while lines are put in order."""


@dataclass(frozen=True)
class CodeCommentRemover(DocumentModifier):
    """Takes the comments out of programs; signs of comments within strings are left alone.

    A line that was nothing but a comment goes as a whole, and the spaces before a comment that ends a line. A comment
    between two signs leaves one space, so that no two become one. The first line stays where it begins with ``#!``. All
    else stays as it is. Empty text: itself. Running it twice changes nothing more, but where taking one comment out
    of damaged code makes another.

    What a comment is, and what is not known of a language: see :func:`tamis.text.comments.count_comments`. Relations:
    the filters of code count with the same rules.
    """

    language: str
    """The programming language of the texts, in small letters: "python", "c++", "javascript"."""
    docstrings: bool = False
    """Whether documentation strings (of Python) go as well; a function of nothing else is no longer one."""

    def __post_init__(self) -> None:
        if self.language not in SYNTAXES:
            raise UnknownNameError.of(self.language, SYNTAXES, kind="language", where=type(self).__name__)

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts without their comments."""
        rows = count_comments(texts, self.language) > 0
        if not rows.any():
            return texts
        found = texts.filter(pa.array(rows))
        inside = mark_comments(found, self.language, docstrings=self.docstrings)
        before = found.to_pylist()
        after, at = [], 0
        for text in before:
            data = text.encode()
            after.append(_without(data, inside[at : at + len(data)]))
            at += len(data)
        return texts if after == before else replaced(texts, rows, pa.array(after, pa.large_string()))


def _without(data: bytes, inside: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
    """A program without the bytes that belong to comments."""
    if data.startswith(b"#!"):
        inside[: data.find(b"\n") if b"\n" in data else len(data)] = False
    edges = np.flatnonzero(np.diff(inside, prepend=False, append=False)).tolist()
    text = data.decode()
    mark = next(filter(lambda character: character not in text, map(chr, _STAND_INS)))
    kept, at = [], 0
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        kept += [data[at:start].decode(), mark]
        at = end
    lines = []
    for line in "".join([*kept, data[at:].decode()]).split("\n"):
        if mark not in line:
            lines.append(line)
        elif line.replace(mark, "").strip():
            lines.append(_tidied(line, mark))
    return "\n".join(lines)


def _tidied(line: str, mark: str) -> str:
    """A line with code in it, without the comments that ``mark`` stands for."""
    end = "\r" * line.endswith("\r")
    if line.rstrip().endswith(mark):
        line = line.rstrip(f"{mark} \t\r") + end
    code = line.lstrip()
    if code.startswith(mark):
        line = line[: len(line) - len(code)] + code.lstrip(f"{mark} \t")
    line = re.sub(rf"(?<=[ \t]){mark}+[ \t]*", "", line)
    return re.sub(rf"(?<=\S){mark}+(?=\S)", " ", line).replace(mark, "")
