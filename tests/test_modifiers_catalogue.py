"""Modifiers of the catalogue: Python, Unicode and a parser as oracles, what must not change, and linear time."""

import re
import sys
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tamis import modifiers
from tamis.errors import UnknownNameError, UsageError
from tamis.modifiers import (
    BoilerPlateStringModifier,
    CaseNormalizer,
    CodeCommentRemover,
    ControlCharacterRemover,
    LineRemover,
    MarkdownRemover,
    NewlineNormalizer,
    QuotationNormalizer,
    QuotationRemover,
    Slicer,
    UnicodeNormalizer,
    WhitespaceNormalizer,
)
from tamis.recipe import STAGES
from tamis.text.comments import SYNTAXES, count_comments
from tamis.text.holding import holding

EACH = {
    "boilerplate": BoilerPlateStringModifier(),
    "boilerplate lines": BoilerPlateStringModifier(unit="line", phrases=["é", "a a"]),
    "small": CaseNormalizer(),
    "capitals": CaseNormalizer("upper"),
    "folded": CaseNormalizer("fold"),
    "comments": CodeCommentRemover("c"),
    "Python comments": CodeCommentRemover("python", docstrings=True),
    "controls": ControlCharacterRemover(),
    "all controls": ControlCharacterRemover(zero_width=True, directions=True),
    "lines": LineRemover(["", "a", "#"]),
    "lines by expression": LineRemover(["^ *$", "é$"], match="expression"),
    "Markdown": MarkdownRemover(),
    "more Markdown": MarkdownRemover(code="drop", links="url", lists="drop"),
    "LF": NewlineNormalizer("lf"),
    "quotes": QuotationNormalizer("every"),
    "quotation": QuotationRemover(),
    "slice": Slicer(1, "a"),
    "NFC": UnicodeNormalizer(),
    "NFKD": UnicodeNormalizer("NFKD"),
    "spaces": WhitespaceNormalizer(),
    "collapsed": WhitespaceNormalizer("collapse"),
    "joined": WhitespaceNormalizer("join"),
}
ONCE = {"Markdown", "more Markdown", "slice", "comments", "Python comments"}
"""Those that say that a second time may change more."""
PIECES = [
    *("a", "B", "é", "e\u0301", "\u0323", "ß", "İ", "Σ", "今", "ไทย", "שלום", "ﷺ", "ﬁ", "1"),
    *("😀", " ", "  ", "\n", "\n\n", "\r\n", "\r", "\t", "\x00", "\x0b", "\x0c", "\x1b"),
    *("\x1f", "\x85", "\xa0", "\u2028", "\u3000", "\u200b", "\u200d", "\ufeff", "\u202e"),
    *('"', "'", "“", "”", "„", "«", "»", "「", "」", "*", "**", "_", "~~", "`", "```\n", "["),
    *("]", "(", ")", "](", "](u)", "![", "[r]", "[r]: /u\n", "> ", "- ", "1. ", "# ", "==="),
    *("---", "|", "| a | b |\n|---|---|\n", "<b>", "</b>", "<!--", "-->", "\\", "$", "//"),
    *("/*", "*/", "#", "#!", '"""', "https://x.org/a_b_", "terms of use", "Use Cookies"),
    *("    ", "<div>\n", "+ ", "=", "!"),
]  # fmt: skip
TEXT = st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]), max_size=25).map("".join)
FEW = settings(max_examples=40, deadline=None)


def large(texts):
    return pa.array(texts, pa.large_string())


def modified(modifier, texts):
    return modifier.modify_batch(large(texts)).to_pylist()


@pytest.mark.parametrize("name", EACH)
@FEW
@given(texts=st.lists(st.none() | TEXT, max_size=4))
def test_alone_as_in_company_and_twice_as_once(name, texts):
    modifier = EACH[name]
    once = modified(modifier, texts)
    assert [t is None for t in once] == [t is None for t in texts]
    assert once == [None if t is None else modifier.modify_document(t) for t in texts]
    if name not in ONCE:
        assert modified(modifier, once) == once


@pytest.mark.parametrize("name", EACH)
def test_what_needs_no_change_is_the_very_same_array(name):
    texts = large(["plain text of no importance", None, "", "今天天气很好"])
    if name in {"capitals", "slice", "boilerplate lines"}:
        texts = large(["ABC", None, ""]) if name == "capitals" else texts.slice(1, 2)
    assert EACH[name].modify_batch(texts) is texts or name == "slice"
    sliced = large(["x", *texts.to_pylist(), "y"]).slice(1, len(texts))
    assert EACH[name].modify_batch(sliced).to_pylist() == texts.to_pylist()
    assert modified(EACH[name], []) == []
    assert modified(EACH[name], [None, None]) == [None, None]


def test_every_modifier_is_a_stage_of_recipes():
    kinds = {n for n in modifiers.__all__ if isinstance(getattr(modifiers, n), type)}
    assert kinds - {"DocumentModifier", "Modify"} <= STAGES.keys()


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: CaseNormalizer("title"), UnknownNameError, "CaseNormalizer: there is no case 'title'"),
        (lambda: UnicodeNormalizer("NFX"), UnknownNameError, "there is no form 'NFX'. Did you mean 'NF"),
        (lambda: WhitespaceNormalizer("all"), UnknownNameError, "there is no runs 'all'"),
        (lambda: NewlineNormalizer("crlf"), UnknownNameError, "there is no line_ends 'crlf'"),
        (lambda: QuotationNormalizer("all"), UnknownNameError, "there is no marks 'all'"),
        (lambda: MarkdownRemover(lists="kep"), UnknownNameError, "value of lists 'kep'. Did you mean 'keep'"),
        (lambda: MarkdownRemover(code="hide"), UnknownNameError, "MarkdownRemover: there is no value of code 'hide'"),
        (lambda: CodeCommentRemover("pyton"), UnknownNameError, "there is no language 'pyton'. Did you mean 'python'"),
        (lambda: BoilerPlateStringModifier(unit="word"), UnknownNameError, "there is no unit 'word'"),
        (lambda: BoilerPlateStringModifier(phrases="cookie"), UsageError, "phrases must be a list"),
        (lambda: BoilerPlateStringModifier(phrases=[" "]), UsageError, "that are not blank"),
        (lambda: LineRemover("x"), UsageError, "LineRemover takes a list of patterns; got 'x'"),
        (lambda: LineRemover(["a\nb"]), UsageError, "no line holds a line feed"),
        (lambda: LineRemover(["a("], match="expression"), UsageError, r"'a\(' is no regular expression that RE2"),
        (lambda: LineRemover(["a"], match="regex"), UnknownNameError, "there is no match 'regex'"),
        (lambda: Slicer(""), UsageError, "left must be a number of characters or a text"),
        (lambda: Slicer(0, True), UsageError, "right must be"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(build, error, message):
    with pytest.raises(error, match=message):
        build()


# -- oracles -------------------------------------------------------------------------------------------------


@FEW
@given(st.lists(TEXT, max_size=4), st.text(st.sampled_from("aé今😀\x00\u200b*"), min_size=1))
def test_holding_is_what_python_says(texts, characters):
    assert holding(large([*texts, None]), characters).tolist() == [
        any(c in t for c in characters) for t in [*texts, ""]
    ]


@FEW
@given(TEXT)
def test_case_is_that_of_python(text):
    cases = {"lower": str.lower, "upper": str.upper, "fold": str.casefold}
    for case, change in cases.items():
        assert CaseNormalizer(case).modify_document(text) == change(text)


MARKS = st.text(st.sampled_from("\u0300\u0316\u0344\u0327\u3099\u0f73\u0f75\uff9e"), max_size=80)


@FEW
@given(st.lists(TEXT | MARKS, max_size=4).map("e".join), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
@example("a" + "\u0300\u0316\u0344" * 30, "NFC")
def test_forms_are_those_of_unicode(text, form):
    assert UnicodeNormalizer(form).modify_document(text) == unicodedata.normalize(form, text)


def test_a_run_of_marks_takes_no_longer_than_its_length():
    # Python alone exchanges neighbours, which takes 20 s for this one.
    text = "a" + "\u0300\u0316" * 100_000
    assert UnicodeNormalizer().modify_document(text) == "\u00e0" + "\u0316" * 100_000 + "\u0300" * 99_999
    assert UnicodeNormalizer("NFD").modify_document(text) == "a" + "\u0316" * 100_000 + "\u0300" * 100_000


def test_every_control_character_is_dealt_with_once():
    remover = ControlCharacterRemover()
    kept = [c for c in map(chr, range(0xA0)) if remover.modify_document(c) == c]
    assert kept == ["\t", "\n", "\r", *map(chr, range(0x20, 0x7F))]
    white = [c for c in map(chr, range(0xA0)) if remover.modify_document(f"a{c}b") != "ab" and c not in kept]
    assert white == [c for c in map(chr, range(0xA0)) if c.isspace() and c not in "\t\n\r "]
    letters = [chr(c) for c in range(0xA0, sys.maxunicode + 1) if unicodedata.category(chr(c))[0] in "LNMPSZ"]
    assert remover.modify_document("".join(letters)) == "".join(letters)


def test_white_space_of_python_is_plain_after_it():
    white = [c for c in map(chr, range(sys.maxunicode + 1)) if c.isspace()]
    assert {WhitespaceNormalizer().modify_document(f"a{c}b") for c in white} == {"a b", "a\nb", "a\tb"}


@FEW
@given(TEXT, st.sampled_from(["a", "", "é", "今", "#"]))
def test_lines_are_removed_as_python_would(text, pattern):
    *lines, last = text.split("\n")
    kept = [line for line in lines if line.removesuffix("\r") != pattern]
    gone = last != "" and last.removesuffix("\r") == pattern
    expected = "\n".join(kept).removesuffix("\r") if gone else "\n".join([*kept, last])
    assert LineRemover([pattern]).modify_document(text) == expected
    same = LineRemover([rf"\A{re.escape(pattern)}\z"], match="expression")
    assert same.modify_document(text) == expected


@FEW
@given(TEXT, st.sampled_from(sorted(SYNTAXES)))
def test_comments_are_what_the_filters_count(text, language):
    if not text.startswith("#!"):
        after = CodeCommentRemover(language, docstrings=True).modify_document(text)
        assert (after == text) or count_comments(large([text]), language)[0]
        outside = len(text) - count_comments(large([text]), language)[0]
        assert len("".join(after.split())) <= outside


# -- Markdown ------------------------------------------------------------------------------------------------


def is_within(short, long):
    rest = iter(long)
    return all(c in rest for c in short)


@settings(max_examples=150, deadline=None)
@given(TEXT)
@example("- ```\n")
@example("[r]: /u\n===")
def test_nothing_is_added_to_markdown_and_no_word_is_lost(text):
    for modifier in (MarkdownRemover(), MarkdownRemover(lists="drop")):
        assert is_within(modifier.modify_document(text), text)
    words = "".join(c for c in text if c.isalpha())
    if not re.search(r"[\[\]<>`~]|---|\|", text):  # addresses, labels, tags and what fences say of their language
        assert "".join(c for c in MarkdownRemover().modify_document(text) if c.isalpha()) == words


@FEW
@given(st.text(st.sampled_from("ab1é今 \n.,;:!?()'\"/%&@^{}")))
def test_prose_without_marks_stays(text):
    assert MarkdownRemover().modify_document(text) == text


def test_markdown_is_what_the_reference_shows():
    from markdown_it import MarkdownIt

    parse = MarkdownIt("commonmark").enable("table").parse
    pieces = [p for p in PIECES if p.isascii() and (p.isprintable() or "\n" in p) and "\r" not in p]
    wrong = []

    def shown(tokens):
        return "".join(shown(t.children) if t.type in {"image", "inline"} else t.content for t in tokens or ())

    @settings(max_examples=250, deadline=None, database=None)
    @given(st.lists(st.sampled_from(pieces), max_size=10).map("".join))
    def compare(text):
        # What differs on purpose: emphasis within words, formulas, strikethrough, backslashes of LaTeX, and rows with
        # more cells than there are columns. A definition may be followed by another block at once there.
        if re.search(r"\w[*_]+\w|[$~]|\\[()=/']|\|.*\n[ >]*\|-|\]: /u\n(?!\n)|https", text):
            return
        expected = re.sub(r"[\s|]", "", shown(parse(text)))
        found = re.sub(r"[\s|]", "", MarkdownRemover(lists="drop").modify_document(text))
        wrong.extend([(text, expected, found)] * (expected != found))

    compare()
    assert wrong == []


HOSTILE = [
    *("*", "[", "`", "_", "~", "]", "![", "<", "\\", "|", ">", "> ", "- ", "#", "$", "$a ", "*a ", "*a_ ", "a**b "),
    *("*a **a ", "`a``", "[a](", "[a](b", '[a](b "', "[a](<", "[a](b (", "[a]", "[a][b", "[a]: b\n", "<!--", "<a "),
    *("<a b='", "<?", "<a@", "<a:", "https://a_", "- a\n", "```\n", "| a |\n|---|\n", "a\n===\n", "- - - a\n"),
    *("[a [b](c)", "*[a](b)*", "今*", "$$", "`` ` ", "[^\n"),
]  # fmt: skip


def steps(function):
    """Lines of Python that a call runs: a measure of time that does not depend on the machine."""
    count = 0

    def local(frame, event, arg):
        nonlocal count
        count += 1
        return local

    before = sys.gettrace()
    sys.settrace(lambda frame, event, arg: local if "/markdown" in frame.f_code.co_filename else None)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_time_for_hostile_markdown_grows_with_its_length(piece):
    remover = MarkdownRemover()
    small, large_ = (steps(lambda n=n: remover.modify_document("[b]: c\n\n" + piece * n)) for n in (100, 400))
    assert large_ < 5 * small + 2000


@pytest.mark.parametrize("piece", "*[`_~<>#")
def test_a_megabyte_of_one_mark_is_a_few_steps(piece):
    text = piece * 1_000_000
    count = steps(lambda: MarkdownRemover().modify_document(text))
    assert count < 10_000
