"""Modifiers of characters."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Literal

import pyarrow as pa

from tamis.errors import UsageError
from tamis.modifiers.base import DocumentModifier, applied
from tamis.text.plain import is_plain

__all__ = ["UnicodeReformatter"]


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
        return applied(texts, rows, _Repair(self)) if rows.any() else texts


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
        touched = {chr(c) for table in tables for c in table} | set(map(chr, range(0x80, 0xA0)))
        touched |= set("\r\x7f\x1b\u2028\u2029\u02bc\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f")
        if not settings.uncurl_quotes:
            touched -= set("\u02bc\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f")
        anything = "[^\x00-\x7f]|" if settings.normalization else ""
        self._touched = re.compile(anything + "[" + "".join(re.escape(c) for c in sorted(touched)) + "]")

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
