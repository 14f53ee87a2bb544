"""Modifiers: from a text to a text.

A modifier of your own is a class with one method::

    class Lower(DocumentModifier):
        def modify_document(self, text: str) -> str:
            return text.lower()

    lowered = Modify(Lower())(dataset)
"""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import StageError, UsageError
from tamis.stage import Needs, Stage, TableFunction
from tamis.table import is_text, put, text, true_mask
from tamis.text.plain import is_plain

__all__ = ["DocumentModifier", "Modify", "NewlineNormalizer", "UnicodeReformatter", "UrlRemover"]


class DocumentModifier(ABC):  # noqa: B024  either the document or the batch method is overridden
    """How to change a text.

    Override :meth:`modify_document`, or for speed :meth:`modify_batch`. What becomes of a text may depend on that
    text alone. Null texts stay null and are not given to :meth:`modify_document`.
    """

    def modify_document(self, text: str) -> str:
        """The text, changed or not."""
        message = f"{type(self).__name__} defines neither modify_document nor modify_batch."
        raise StageError(message)

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts, changed or not; nulls stay null."""
        changed = [None if t is None else self.modify_document(t) for t in texts.to_pylist()]
        return pa.array(changed, pa.large_string())


@dataclass(frozen=True)
class Modify(Stage):
    """Changes the text of each document."""

    modifier: DocumentModifier | Callable[[str], str]
    """A modifier, or a function from a text to a text."""
    text_field: str | None = None
    """Column that is changed; the dataset's text field by default."""

    @property
    def name(self) -> str:
        """The modifier's name."""
        return getattr(self.modifier, "__name__", None) or type(self.modifier).__name__

    def on_text_field(self, text_field: str) -> Modify:
        """The dataset's text field, where none was named."""
        return replace(self, text_field=text_field) if self.text_field is None else self

    def needs(self, schema: pa.Schema) -> Needs:
        """Reads and replaces the text, keeping its type."""
        name = self.text_field or "text"
        found = schema.field(name) if name in schema.names else None
        kind = found.type if found is not None and is_text(found.type) else pa.large_string()
        return Needs(texts=(name,), makes=(pa.field(name, kind),))

    def open(self) -> TableFunction:
        """The function that replaces the column."""
        field, change = self.text_field or "text", self.modifier

        def run(table: pa.Table) -> pa.Table:
            texts = text(table, field, self.name)
            if isinstance(change, DocumentModifier):
                return put(table, field, change.modify_batch(texts))
            changed = [None if t is None else change(t) for t in texts.to_pylist()]
            return put(table, field, pa.array(changed, pa.large_string()))

        return run


def _replaced(texts: pa.LargeStringArray, rows: npt.NDArray[np.bool_], values: pa.Array) -> pa.LargeStringArray:
    """The texts with those of ``rows`` replaced by ``values``."""
    return pc.replace_with_mask(texts, pa.array(rows), values.cast(texts.type))


def _substituted(
    texts: pa.LargeStringArray, triggers: tuple[str, ...], pattern: str, replacement: str
) -> pa.LargeStringArray:
    """The texts with a regular expression (RE2) replaced, looked for only where one of the triggers occurs."""
    # Looking for a plain substring costs a tenth of looking for the expression.
    found = [true_mask(pc.match_substring(texts, t, ignore_case=True)) for t in triggers]
    rows = np.logical_or.reduce(found)
    if not rows.any():
        return texts
    changed = pc.replace_substring_regex(texts.filter(pa.array(rows)), pattern, replacement)
    return _replaced(texts, rows, changed)


@dataclass(frozen=True)
class NewlineNormalizer(DocumentModifier):
    """Three or more line ends in a row (LF or CRLF) become two: at most one empty line between paragraphs.

    Empty text: itself. Relations: as NeMo Curator's modifier of this name.
    """

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """Runs of line ends cut to two."""
        texts = _substituted(texts, ("\n\n\n",), r"\n{3,}", "\n\n")
        return _substituted(texts, ("\r\n\r\n\r\n",), r"(\r\n){3,}", "\r\n\r\n")


_NO_URL = r"\s\p{Z}\p{Cc}<>\"\x60\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\x{3000}-\x{303F}\x{FF00}-\x{FFEF}"
_URL = rf"(?i)\b(?:https?://|www\.)[^{_NO_URL}]*[^{_NO_URL}.,;:!?'()\[\]{{}}*_]/?"


@dataclass(frozen=True)
class UrlRemover(DocumentModifier):
    """Removes web addresses: what begins with http://, https:// or www., up to white space.

    An address also ends before quotation marks, angle brackets and East Asian characters, and punctuation at its
    end stays: "see (https://a.org/b)." becomes "see ()." Empty text: itself. Relations: NeMo Curator's modifier of
    this name takes everything up to ASCII white space, so the rest of a Chinese sentence, too.
    """

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """Addresses replaced by nothing."""
        return _substituted(texts, ("://", "www."), _URL, "")


@dataclass(frozen=True)
class UnicodeReformatter(DocumentModifier):
    """Repairs broken Unicode with the library ftfy: mojibake, entities, ligatures, control characters, line ends.

    The result is that of ``ftfy.fix_text`` with the same settings, whose meaning is described in ftfy's
    documentation. Lines that ftfy provably leaves alone are not given to it: printable ASCII without entities,
    and lines without any character that one of its steps replaces and that its detector of mojibake passes.

    Empty text: itself. Source: ftfy (Speer 2019, doi:10.5281/zenodo.2591652). Relations: the defaults are those of
    NeMo Curator's modifier of this name: typographic quotes stay, and Unicode is not normalised.
    """

    unescape_html: Literal["auto"] | bool = "auto"
    remove_terminal_escapes: bool = True
    fix_encoding: bool = True
    restore_byte_a0: bool = True
    replace_lossy_sequences: bool = True
    decode_inconsistent_utf8: bool = True
    fix_c1_controls: bool = True
    fix_latin_ligatures: bool = True
    fix_character_width: bool = True
    uncurl_quotes: bool = False
    fix_line_breaks: bool = True
    fix_surrogates: bool = True
    remove_control_chars: bool = True
    normalization: Literal["NFC", "NFD", "NFKC", "NFKD"] | None = None
    max_decode_length: int = 1_000_000

    def __post_init__(self) -> None:
        if self.normalization not in {None, "NFC", "NFD", "NFKC", "NFKD"}:
            message = f"normalization must be NFC, NFD, NFKC, NFKD or None; got {self.normalization!r}."
            raise UsageError(message)

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts repaired."""
        rows = ~is_plain(texts)
        if not rows.any():
            return texts
        fix = _Repair(self)
        before = texts.filter(pa.array(rows)).to_pylist()
        after = [fix(t) for t in before]
        if after == before:
            return texts
        return _replaced(texts, rows, pa.array(after, pa.large_string()))


class _Repair:
    """``ftfy.fix_text`` for one text, line by line as ftfy itself goes, without the lines it leaves alone."""

    def __init__(self, settings: UnicodeReformatter) -> None:
        import ftfy  # noqa: PLC0415  50 ms that only this modifier needs
        from ftfy import badness, chardata  # noqa: PLC0415

        given = {f.name: getattr(settings, f.name) for f in fields(settings)}
        self._fix_text, self._fix_line = ftfy.fix_text, ftfy.fix_and_explain
        # Without explanations ftfy 6.3 decodes with its default settings, whatever it is given.
        decoding = ("restore_byte_a0", "replace_lossy_sequences", "decode_inconsistent_utf8", "fix_c1_controls")
        self._config: Any = ftfy.TextFixerConfig(explain=not all(given[f] for f in decoding), **given)
        self._is_bad = badness.is_bad
        self._entity = chardata.HTML_ENTITY_RE
        self._longest = settings.max_decode_length
        # With normalisation any character may change; otherwise only those of these tables, and mojibake.
        tables = (chardata.LIGATURES, chardata.WIDTH_MAP, chardata.CONTROL_CHARS)
        replaced = {chr(c) for table in tables for c in table} | set(map(chr, range(0x80, 0xA0)))
        replaced |= set("\r\x7f\x1b\u2028\u2029\u02bc\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f")
        if not settings.uncurl_quotes:
            replaced -= set("\u02bc\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f")
        anything = "[^\x00-\x7f]|" if settings.normalization else ""
        self._touched = re.compile(anything + "[" + "".join(re.escape(c) for c in sorted(replaced)) + "]")

    def __call__(self, text: str) -> str:
        lines = text.split("\n")
        if max(map(len, lines)) >= self._longest:
            return str(self._fix_text(text, self._config))
        config = self._config
        last = len(lines) - 1
        for i, line in enumerate(lines):
            if config.unescape_html == "auto" and "<" in line:
                config = config._replace(unescape_html=False)
            if not self._may_change(line, config):
                continue
            # ftfy's segments end with their line feed; it may take part in a repair.
            segment = line + "\n" if i < last else line
            fixed = self._fix_line(segment, config).text
            lines[i] = fixed.removesuffix("\n") if i < last and fixed.endswith("\n") else fixed
            if i < last and not fixed.endswith("\n"):
                return str(self._fix_text(text, self._config))
        return "\n".join(lines)

    def _may_change(self, line: str, config: Any) -> bool:
        if config.unescape_html and "&" in line and self._entity.search(line):
            return True
        if self._touched.search(line):
            return True
        return not line.isascii() and config.fix_encoding and bool(self._is_bad(line + "\n") or self._is_bad(line))
