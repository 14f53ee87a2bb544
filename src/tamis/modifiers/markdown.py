"""From Markdown to text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import UnknownNameError
from tamis.modifiers.base import DocumentModifier, applied
from tamis.modifiers.html import Code, Links
from tamis.modifiers.markdown_inline import TAG, label_of, read_destination, read_title, skip_space, without_markup
from tamis.table import true_mask
from tamis.text.holding import holding

__all__ = ["MarkdownRemover"]

Lists = Literal["keep", "drop"]


@dataclass(frozen=True)
class MarkdownRemover(DocumentModifier):
    r"""Markdown as plain text: the marks go, and what they were put on stays as it is written.

    These go: the marks of emphasis, headings (also underlined ones), quotations and code, fences with what they say of
    the language, lines across the page, the addresses of links and pictures, definitions of references, the rule and
    the outer bars of a table, and backslashes that keep a mark from being one. These stay: the text of links, the
    descriptions of pictures, code, the marks of list items, HTML (see HtmlToText), entities, formulas between dollars.
    Lines and the white space in them stay, but those that were nothing but marks.

    Names such as ``my_var_name`` and products such as ``2*3*4`` stay: between letters or digits no emphasis begins, and
    only between letters it ends. Next to Chinese, Japanese, Korean and Thai characters it may, for there are no spaces.
    Empty text: itself. Run it once: a text that speaks of Markdown, ``\*so\*``, becomes one that looks like it.

    Source: CommonMark 0.31 with tables and strikethrough of GitHub. Left out: CommonMark's emphasis within a word
    (``2*3*4`` is ``2<em>3</em>4`` there), entities, and backslashes before marks that LaTeX has a use for. Relations:
    NeMo Curator's modifier of this name removes emphasis and links alone, turns ``my_var_name`` into ``myvarname`` and
    ``2*3*4`` into ``234``, and keeps the address of a link instead of its text.
    """

    code: Code = "keep"
    """Blocks of code: as they are, left out, or ``[code]`` in their place. Code within a line is text."""
    links: Links = "text"
    """Links: their text, or the text and the address in parentheses where the text is not the address itself."""
    lists: Lists = "keep"
    """The marks of list items, bullets and numbers: as they are, or left out with what the items are indented by."""

    def __post_init__(self) -> None:
        for option, value, valid in (
            ("code", self.code, Code),
            ("links", self.links, Links),
            ("lists", self.lists, Lists),
        ):
            if value not in get_args(valid):
                raise UnknownNameError.of(value, get_args(valid), kind=f"value of {option}", where=type(self).__name__)

    def modify_batch(self, texts: pa.LargeStringArray) -> pa.Array:
        """The texts without the marks of Markdown."""
        rows = true_mask(pc.is_valid(texts))
        if self.code == self.lists == "keep":
            rows = holding(texts, "*_`~[\\<#>|")
            # Headings that are underlined, and lines across the page.
            rows[~rows] = true_mask(
                pc.match_substring_regex(texts.filter(pa.array(~rows)), r"(?m)^[ \t]*[=-][=\- \t]*\r?$")
            )
        return applied(texts, rows, self._plain)

    def _plain(self, text: str) -> str:
        document = _Document(self)
        for line in text.split("\n"):
            document.read(line)
        return document.plain()


_QUOTE = 0
"""A container that is a quotation; one that is an item of a list is the columns its content is indented by."""
_DEEPEST = 32
"""Containers within containers; what is deeper is text, so that the time stays linear."""
_BLANKS = re.compile("[ \t]*")
_FENCE = re.compile(r"(?:(`{3,})[^`]*|(~{3,}).*)$")
_ITEM = re.compile(r"(?:[-+*]|([0-9]{1,9})[.)])(?=[ \t]|$)")
_UNDERLINE = re.compile("(?:=+|-+)[ \t]*$")
_HEADING = re.compile("#{1,6}(?=[ \t]|$)")
_RULE = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*+\|?[ \t]*$")
_BAR = re.compile(r"(?<!\\)\|")
_HTML = (
    (
        re.compile(r"<(?:script|pre|style|textarea)(?:[\s>]|$)", re.IGNORECASE),
        re.compile(r"(?i)</(?:script|pre|style|textarea)>"),
    ),
    (re.compile("<!--"), re.compile("-->")),
    (re.compile(r"<\?"), re.compile(r"\?>")),
    (re.compile(r"<!\[CDATA\["), re.compile("]]>")),
    (re.compile("<![A-Za-z]"), re.compile(">")),
    (
        re.compile(
            r"</?(?:address|article|aside|base|basefont|blockquote|body|caption|center|col|colgroup|dd|details|dialog|dir|"
            r"div|dl|dt|fieldset|figcaption|figure|footer|form|frame|frameset|h[1-6]|head|header|hr|html|iframe|legend|li|"
            r"link|main|menu|menuitem|nav|noframes|ol|optgroup|option|p|param|search|section|summary|table|tbody|td|tfoot|"
            r"th|thead|title|tr|track|ul)(?:\s|/?>|$)",
            re.IGNORECASE,
        ),
        None,
    ),
)
"""How blocks of HTML begin, and how they end; None: before an empty line."""
_ALONE = (TAG, None)
"""Any other tag that has a line to itself."""
_LABEL = re.compile(r"[ ]{0,3}\[((?:[^\[\]\\]|\\.){1,999}+)\]:", re.DOTALL)


@dataclass
class _Block:
    """Lines whose markup is found when the references of the whole document are known."""

    before: str
    """What stands before the first line: the mark of an item."""
    lines: list[str]
    joint: str = "\n"
    """What divides the pieces; those of a row of a table are found apart."""


class _Document:
    """One document while its lines are read; the names are those of CommonMark's specification."""

    def __init__(self, settings: MarkdownRemover) -> None:
        self._settings = settings
        self._out: list[str | _Block] = []
        self._addresses: dict[str, str] = {}
        self._containers: list[int] = []
        self._leaf: Literal["", "paragraph", "fence", "code", "html", "table"] = ""
        self._paragraph = _Block("", [])
        self._fence = ""
        self._html_end: re.Pattern[str] | None = None
        self._held: str | None = None
        """The mark of an item whose first line was nothing but markup; it goes before the next line."""
        self._dropped = False
        """Whether a line was left out after the last one that was not."""
        self._said = False
        """Whether "[code]" stands already for this block."""

    def plain(self) -> str:
        """What is left of all the lines that were read."""
        self._finish()
        if self._held is not None:
            self._emit("", "")
        show = self._settings.links == "url"
        lines = []
        for block in self._out:
            if isinstance(block, str):
                lines.append(block)
            else:
                pieces = ["\n".join(block.lines)] if block.joint == "\n" else block.lines
                plain = (without_markup(piece, self._addresses, show_addresses=show) for piece in pieces)
                lines.append(block.before + block.joint.join(plain))
        return "\n".join(lines)

    # -- what is written -------------------------------------------------------------------------------------

    def _emit(self, before: str, line: str) -> None:
        """Write a line as it is."""
        if self._held is not None:
            before, self._held = self._held, None
        elif self._dropped and not line.strip() and (not self._out or not _has_text(self._out[-1])):
            return  # the empty lines before and behind a line that is left out are one
        self._out.append(before + line)
        self._dropped = False

    def _drop(self, before: str) -> None:
        """Leave a line out, but not the mark of the item that it begins."""
        if before.strip():
            self._held = before
        self._dropped = True

    def _emit_marked(self, before: str, lines: list[str], joint: str = "\n") -> None:
        """Write lines whose markup is still to be found."""
        if self._held is not None:
            before, self._held = self._held, None
        self._out.append(_Block(before, lines, joint))
        self._dropped = False

    def _emit_code(self, before: str, line: str) -> None:
        if self._settings.code == "keep":
            self._emit(before, line)
        elif self._settings.code == "placeholder" and not self._said and line.strip():
            self._said = True
            self._emit(before, "[code]")
        else:
            self._drop(before)

    # -- what is read ----------------------------------------------------------------------------------------

    def read(self, line: str) -> None:
        """Read the next line."""
        if not self._containers and self._leaf in {"", "paragraph"} and line[:1].isalpha():
            self._continue("", line)  # nothing but a paragraph begins with a letter
            return
        at, matched, before = self._match_containers(line)
        whole = matched == len(self._containers)
        if whole and self._leaf in {"fence", "html"}:
            self._within(before, line[at:])
            return
        if not whole and self._leaf != "paragraph":
            self._finish()
            del self._containers[matched:]
        self._open(line, at, matched, before)

    def _match_containers(self, line: str) -> tuple[int, int, str]:
        """How far the line goes on with the containers that are open, how many it does, and what of that stays."""
        at, kept = 0, ""
        for n, container in enumerate(self._containers):
            columns, to = _indent(line, at)
            if container == _QUOTE:
                if columns > 3 or not line.startswith(">", to):
                    return at, n, kept
                at = _behind_quote(line, to)
            elif line[to:].strip():
                if columns < container:
                    return at, n, kept
                end = _advance(line, at, container)
                kept += line[at:end] if self._settings.lists == "keep" else ""
                at = end
        return at, len(self._containers), kept

    def _within(self, before: str, rest: str) -> None:
        """A line of a block of code or HTML, or its end."""
        if self._leaf == "fence":
            columns, to = _indent(rest, 0)
            mark = rest[to:].rstrip()
            if columns <= 3 and len(mark) >= len(self._fence) and mark == self._fence[0] * len(mark):
                self._leaf = ""
                self._drop(before)
            else:
                self._emit_code(before, rest)
            return
        self._emit(before, rest)
        if self._html_end is None:
            self._leaf = "html" if rest.strip() else ""
        elif self._html_end.search(rest):
            self._leaf = ""

    def _open(self, line: str, at: int, matched: int, before: str) -> None:
        """Open the blocks that begin in the rest of a line, and deal with what is left of it."""
        fresh = matched == len(self._containers)
        while True:
            columns, to = _indent(line, at)
            rest = line[to:].rstrip()
            if not rest or (columns > 3 and (self._leaf == "paragraph" or not fresh)):
                break
            if columns > 3:
                self._code(before, line[at:])
                return
            first = rest[0]
            if first == ">" and matched < _DEEPEST:
                self._close(matched)
                self._containers.append(_QUOTE)
                at = _behind_quote(line, to)
            elif self._is_line_block(rest, before, fresh=fresh, matched=matched, raw=line[at:]):
                return
            elif (item := self._item(line, rest, to, fresh=fresh)) and matched < _DEEPEST:
                end, content = item
                self._close(matched)
                self._containers.append(columns + content)
                before += line[at:end] if self._settings.lists == "keep" else ""
                at = end
            else:
                break
            matched += 1
            fresh = True
        self._text(line, at, matched, before)

    def _item(self, line: str, rest: str, to: int, *, fresh: bool) -> tuple[int, int] | None:
        """Where the content of a list item begins, and the columns from its mark to there."""
        mark = _ITEM.match(rest)
        if mark is None:
            return None
        empty = mark.end() == len(rest)
        # A number in the middle of a paragraph begins a list only if it is 1.
        if fresh and self._leaf == "paragraph" and (empty or mark[1] not in {None, "1"}):
            return None
        behind = to + mark.end()
        columns, text = _indent(line, behind)
        if empty:
            return len(line.rstrip()), mark.end() + 1
        return (text, mark.end() + columns) if columns < 5 else (behind + 1, mark.end() + 1)

    def _is_line_block(self, rest: str, before: str, *, fresh: bool, matched: int, raw: str) -> bool:
        """Whether a line is a block that its first line tells, and that is now dealt with."""
        first = rest[0]
        if first == "#" and (mark := _HEADING.match(rest)):
            self._close(matched)
            title = rest[mark.end() :].strip()
            bare = title.rstrip("#")
            self._emit_marked(before, [(bare.rstrip() if not bare or bare[-1] in " \t" else title)])
            return True
        if first in "`~" and (mark := _FENCE.match(rest)):
            self._close(matched)
            self._leaf, self._fence, self._said = "fence", mark[1] or mark[2], False
            self._drop(before)
            return True
        if first == "<" and self._is_html(rest, raw, before, matched):
            return True
        if first in "=-" and fresh and self._leaf == "paragraph" and _UNDERLINE.match(rest):
            if _RULE.match(rest) and self._is_table(rest):
                return True
            self._paragraph.lines = self._definitions(self._paragraph.lines)
            if self._paragraph.lines:
                self._finish()
                self._drop("")
                return True
            self._leaf = ""  # there were only definitions, and this underlines nothing
            self._drop(self._paragraph.before)
        if first in "*-_" and len(rest) > 2 and not rest.strip(f"{first} \t") and rest.count(first) > 2:
            self._close(matched)
            self._drop(before)
            return True
        return first in "|:-" and fresh and self._is_table(rest)

    def _is_html(self, rest: str, raw: str, before: str, matched: int) -> bool:
        found = next((each for each in _HTML if each[0].match(rest)), None)
        if found is None and self._leaf != "paragraph" and TAG.fullmatch(rest):
            found = _ALONE
        if found is None:
            return False
        end = found[1]
        self._close(matched)
        self._emit(before, raw)
        self._html_end = end
        self._leaf = "" if end is not None and end.search(rest) else "html"
        return True

    def _is_table(self, rule: str) -> bool:
        """Whether the rule of a table is below the line that names its columns; that line becomes its first row."""
        if self._leaf != "paragraph" or not _RULE.match(rule):
            return False
        head = self._paragraph.lines[-1]
        if "|" not in head or _cells(head) != _cells(rule):
            return False
        self._paragraph.lines.pop()
        before = self._paragraph.before
        if self._paragraph.lines:
            self._finish()
            before = ""
        self._leaf = "table"
        self._emit_marked(before, _BAR.split(_row(head)), "|")
        self._drop("")
        return True

    def _code(self, before: str, line: str) -> None:
        """A line that is code because it is indented."""
        if self._leaf != "code":
            self._finish()
            self._leaf, self._said = "code", False
        self._emit_code(before, line)

    def _text(self, line: str, at: int, matched: int, before: str) -> None:
        """A line that opens no block, or what is left of it."""
        rest = line[at:]
        if not rest.strip():
            if self._leaf != "code" or matched < len(self._containers):
                self._close(matched)
            self._emit(before, rest)
            return
        if matched < len(self._containers) and self._leaf == "paragraph":
            self._continue(before, rest)  # "lazy": the paragraph goes on without the marks of its containers
            return
        if self._leaf == "table":
            self._emit_marked(before, _BAR.split(_row(rest)), "|")
        else:
            self._continue(before, rest)

    def _continue(self, before: str, rest: str) -> None:
        if self._leaf == "paragraph":
            self._paragraph.lines.append(before + rest)
        else:
            self._finish()
            self._leaf, self._paragraph = "paragraph", _Block(before, [rest])

    def _close(self, matched: int) -> None:
        """Close the leaf and the containers that a line does not go on with."""
        self._finish()
        del self._containers[matched:]

    def _finish(self) -> None:
        """Close the leaf."""
        if self._leaf == "paragraph":
            block = self._paragraph
            lines = self._definitions(block.lines)
            if lines:
                self._emit_marked(block.before, lines)
            else:
                self._drop(block.before)
        self._leaf = ""

    def _definitions(self, lines: list[str]) -> list[str]:
        """The lines behind the definitions of references that a paragraph may begin with; the definitions are kept."""
        if not lines[0].lstrip(" ").startswith("["):
            return lines
        text, at = "\n".join(lines), 0
        while label := _LABEL.match(text, at):
            end = _definition(text, label, self._addresses)
            if end is None:
                break
            at = end
        return text[at:].split("\n") if at < len(text) else []


def _definition(text: str, label: re.Match[str], addresses: dict[str, str]) -> int | None:
    """Where the definition that begins with a label ends, if it is one."""
    found = read_destination(text, skip_space(text, label.end()))
    if found is None or not label[1].strip() or found[1] == skip_space(text, label.end()):
        return None
    address, end = found
    title = skip_space(text, end)
    for stop in (read_title(text, title) if title > end else end, end):
        feed = _BLANKS.match(text, stop)
        ended = feed.end() if feed else stop
        if text.startswith("\r", ended):
            ended += 1
        if ended == len(text) or text[ended] == "\n":
            addresses.setdefault(label_of(label[1]), address)
            return ended + 1
    return None


def _has_text(block: str | _Block) -> bool:
    return isinstance(block, _Block) or bool(block.strip())


def _indent(line: str, at: int) -> tuple[int, int]:
    """Columns of white space from a place on, a tab being four, and where it ends."""
    found = _BLANKS.match(line, at)
    end = found.end() if found else at
    return end - at + 3 * line.count("\t", at, end), end


def _advance(line: str, at: int, columns: int) -> int:
    """Behind so many columns of white space."""
    while columns > 0:
        columns -= 4 if line[at] == "\t" else 1
        at += 1
    return at


def _behind_quote(line: str, at: int) -> int:
    return at + 2 if line[at + 1 : at + 2] in {" ", "\t"} else at + 1


def _cells(row: str) -> int:
    return len(_BAR.findall(_row(row))) + 1


def _row(row: str) -> str:
    """A row of a table without its outer bars."""
    row = row.strip()
    row = row[1:].lstrip() if row.startswith("|") else row
    return row[:-1].rstrip() if row.endswith("|") and not row.endswith("\\|") else row
