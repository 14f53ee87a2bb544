"""Filters on programs, and on the characters of a language."""

import io
import re
import tokenize

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis import filters
from tamis.errors import InputError, TamisError, UnknownNameError, UsageError
from tamis.text.alphabet import count_members
from tamis.text.comments import SYNTAXES, count_comments
from tamis.text.line_lengths import longest_line
from tamis.text.markup import count_visible


def column(*texts):
    return pa.array(texts, pa.large_string())


# -- comments ------------------------------------------------------------------------------------------------

STATEMENTS = (
    "x = 1",
    "x = 1  # one",
    "# a comment, 'quoted",
    's = \'# no\' + """# no\n# no"""',
    '"""A docstring, # and more."""',
    "'text by itself'  # why",
    "r'raw\\'s'; y = 2",
    "z = ['#',\n 'a',  # yes\n 'b'\n]",
    "def f():\n    '''Doc\n    string.'''\n    return '#'",
    "class É:\n    # ü\n    u'é'",
    "w = 'a\\'# no'",
    "v = \\\n  'not alone'",
    "f('a', {\n'b': 1})",
    "",
)


def comments_of(code):
    """Characters of comments and of strings that stand alone, by Python's own tokens."""
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(code).readline) if t.type != tokenize.NL]
    total = sum(len(t.string) for t in tokens if t.type == tokenize.COMMENT)
    tokens = [t for t in tokens if t.type not in {tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT}]
    for before, token, after in zip([None, *tokens], tokens, tokens[1:], strict=False):
        alone = before is None or before.type == tokenize.NEWLINE
        if token.type == tokenize.STRING and alone and (after.type == tokenize.NEWLINE or after.string == ";"):
            total += len(token.string)
    return total


@given(st.lists(st.sampled_from(STATEMENTS), max_size=8))
def test_comments_of_python_are_those_of_its_own_tokens(statements):
    code = "\n".join(statements)
    assert count_comments(column(code), "python").tolist() == [comments_of(code)]


C_SIGNS = ("//", "/*", "*/", '"', "\\", "\n", "a", " ", "é", "/", "*")


@given(st.lists(st.sampled_from(C_SIGNS), max_size=30).map("".join))
def test_comments_of_c_are_those_of_an_expression(code):
    found = re.finditer(r'(//[^\n]*|/\*(?:.*?\*/|.*))|"(?:\\.|[^"\\\n])*"?', code, re.DOTALL)
    assert count_comments(column(code), "protobuf").tolist() == [sum(len(m[1] or "") for m in found)]


@pytest.mark.parametrize(
    ("language", "code", "comments"),
    [
        ("c", "char q = '\"'; // a", "// a"),
        ("c", "char q = '\\''; /* b */ char *s = \"// no\";", "/* b */"),
        ("c", "/* never closed", "/* never closed"),
        ("c", 'int a; "open string\n// a', "// a"),
        ("rust", "fn f<'a>(x: &'a str) {} // it's", "// it's"),
        ("rust", "/* a /* b */ c */ let x = 'y';", "/* a /* b */ c */"),
        ("c++", "int n = 1'000'000; // a", "// a"),
        ("javascript", "let s = `// no\n${'x'}`; // a", "// a"),
        ("go", "s := `a \\`; // b", "// b"),
        ("shell", "echo $# ${#x} 'a # b' # c", "# c"),
        ("sql", "select '--', 'it''s' -- a\n/* b */", "-- a/* b */"),
        ("haskell", "f' x = x' -- a\n{- b {- c -} -}", "-- a{- b {- c -} -}"),
        ("lua", "--[[ a\n b ]] x = [[-- no]] -- c", "--[[ a\n b ]]-- c"),
        ("html", "<p># // no</p><!-- a\nb -->", "<!-- a\nb -->"),
        ("css", "a { b: url(http://x) } /* c */", "/* c */"),
        ("matlab", "y = x'; % a'\nz = 'it%s';", "% a'"),
        ("ruby", 'x = "#{y}" # a\n=begin\nb\n=end\n', "# a=begin\nb\n=end"),
        ("perl", "$#a; # b\n=pod\n\nc\n\n=cut\n$x", "# b=pod\n\nc\n\n=cut"),
        ("tex", "100\\% sure % a", "% a"),
        ("lisp", '(a ";") ; b\n#| c |#', "; b#| c |#"),
        ("visual-basic", "s = \"it's\" ' a", "' a"),
        ("php", "<?php # a\n$x = 'it\\'s'; // b", "# a// b"),
        ("python", "print 'Python 2' # a\n  bad indent(", "# a"),
        ("python", "x = '''never closed # b", ""),
        ("yaml", "a: it's # b\nc: x#y", "# b"),
    ],
)
def test_comments_are_told_by_the_signs_of_the_language(language, code, comments):
    assert count_comments(column(code), language).tolist() == [len(comments)]


@given(st.text(max_size=80), st.sampled_from(sorted(SYNTAXES)))
def test_whatever_a_text_is_its_comments_are_part_of_it(text, language):
    texts = column(text, "", "x")
    found = count_comments(texts, language)
    assert 0 <= found[0] <= len(text)
    assert found[1:].tolist() == [0, 0]
    assert count_comments(texts.slice(0, 1), language)[0] == found[0]


# -- scores and decisions ------------------------------------------------------------------------------------

CASES = [
    (filters.PythonCommentToCodeFilter(0.1, 0.9), ["# ab", "x = 1 # é", "x", ""], [1, 1 / 3, 0, 0], "+.++"),
    (filters.GeneralCommentToCodeFilter("text/x-c++", 0.1, 0.9), ["// ab", "x /**/", "x", ""], [1, 2 / 3, 0, 0],
     "+.++"),
    (filters.NumberOfLinesOfCodeFilter(2, 3), ["a", "a\nb", "a\n\n", "\n\n\n", ""], [1, 2, 3, 4, 0], "+..++"),
    (filters.AlphaFilter(0.25), ["ab12", "1234a", "да 1", ""], [0.5, 0.2, 0.5, 0], ".+.+"),
    (filters.XMLHeaderFilter(14), ['<?xml version="1"', " " + '<?xml version="1"', "<xml>", ""], [1, 0, 0, 0], "+..."),
    (filters.XMLHeaderFilter(), ['<?xml version="1"?>', "é" * 86 + "<?xml version=", "é" * 87 + "<?xml version=", ""],
     [1, 1, 0, 0], "++.."),
    (filters.HTMLBoilerplateFilter(0.5, 3), ["<p>abcdefgh</p>", "<p>ab</p>", "<a class='long'>abc</a>", ""],
     [8 / 15, 0, 3 / 23, 0], ".+++"),
    (filters.HistogramFilter("en", 0.8), ["Hello, world 1!", "Привет", "Hello Привет", "ab]]]", ""],
     [1, 0, 0.5, 0.4, 0], ".++++"),
    (filters.HistogramFilter("ru", 0.8), ["Привет, мир!", "Hello", ""], [1, 0, 0], ".++"),
    (filters.HistogramFilter("ja", 0.8), ["これは日本語です。", "это", ""], [1, 0, 0], ".++"),
    (filters.PerExtensionFilter("python", ".py"), ["x = 1\n", "x" * 1001, "ab\n" + "x" * 301 + "\n", "+-*/" * 4, ""],
     [0, 2, 3, 4, 4], ".++++"),
    (filters.PerExtensionFilter("json", "JSON"), ["x" * 5000, "x" * 49, "1" * 60, ""], [0, 6, 5, 5], ".+++"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "texts", "scores", "dropped"), CASES, ids=lambda v: type(v).__name__)
def test_scores_and_decisions(rule, texts, scores, dropped):
    found = rule.score_batch(column(*texts, None))
    assert found.type == rule.score_type
    assert found.to_pylist() == pytest.approx([*scores, scores[texts.index("")]])
    said = rule.reasons(found).to_pylist()[: len(texts)]
    assert "".join("." if why is None else "+" for why in said) == dropped
    assert [rule.keep_document(s) for s in found.to_pylist()[: len(texts)]] == [d == "." for d in dropped]
    assert [rule.score_document(text) for text in texts] == pytest.approx(scores)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: filters.PythonCommentToCodeFilter(0.5, 0.4), "at most max_comment_to_code_ratio; got 0.5 and 0.4"),
        (lambda: filters.GeneralCommentToCodeFilter("pyton"), "there is no language 'pyton'. Did you mean 'python'"),
        (lambda: filters.GeneralCommentToCodeFilter("c", -1), r"min_comment_to_code_ratio must be in \[0, 1\]; got -1"),
        (lambda: filters.NumberOfLinesOfCodeFilter(5, 2), "min_lines must be from 0 to max_lines; got 5 and 2"),
        (lambda: filters.AlphaFilter(2), r"min_alpha_ratio must be in \[0, 1\]; got 2"),
        (lambda: filters.XMLHeaderFilter(0), "char_prefix_search_length must be 1 or more; got 0"),
        (lambda: filters.HTMLBoilerplateFilter(0.2, -1), "min_lang_content_num_chars must be 0 or more; got -1"),
        (lambda: filters.HistogramFilter("xx"), "HistogramFilter: there is no language 'xx'"),
        (lambda: filters.HistogramFilter(threshold_char="ab"), "threshold_char must be one character; got 'ab'"),
        (lambda: filters.HistogramFilter(file="/nowhere/x"), "HistogramFilter: there is no file '/nowhere/x'"),
        (lambda: filters.PerExtensionFilter("", "py"), "lang is empty"),
    ],
)
def test_wrong_settings_are_refused(build, message):
    with pytest.raises((UsageError, UnknownNameError), match=message):
        build()


# -- HTML ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "visible"),
    [
        ("<p>A &amp; B</p>", "A & B"),
        ("  <b> a </b>\n\n <i>b</i> ", "a b"),
        ("<script>if (a < b) '</p>'</script >x<STYLE>a{}</STYLE>", "x"),
        ("<!-- <p> --> a <!doctype html><?php x ?>", "a"),
        ("<a title=\"1 > 0\" href='x>y'>z</a>", "z"),
        ("1 < 2 & 3 <4", "1 < 2 & 3 <4"),
        ("&#233; &nosuch &; é", "x &nosuch &; é"),
        ("<scripted>a</scripted>", "a"),
        ("<p>never closed <b", "never closed"),
        ("<script>never closed", ""),
        ("<!-- never closed", ""),
        ("", ""),
        ("<", "<"),
    ],
)
def test_what_a_reader_sees_of_a_page(page, visible):
    assert count_visible(column(page, None)).tolist() == [len(visible), 0]


@given(
    st.lists(
        st.sampled_from(
            ("<", ">", "a", " ", "<p>", "</p>", "<script>", "</script", "&", ";", "=", '"', "<!--", "-->", "é")
        ),
        max_size=20,
    )
)
def test_no_page_shows_more_than_it_has(pieces):
    page = "".join(pieces)
    assert 0 <= count_visible(column(page))[0] <= len(page)


# -- characters, lines, extensions ---------------------------------------------------------------------------


@given(st.lists(st.text(max_size=30), max_size=4), st.sets(st.integers(0, 0x10FFFF), max_size=20))
def test_characters_of_a_set_are_counted(texts, points):
    points |= {ord(c) for c in "".join(texts)[::2]}
    members = np.zeros(0x110000, dtype=np.bool_)
    members[list(points)] = True
    found, whole = count_members(column(*texts), members)
    assert found.tolist() == [sum(ord(c) in points for c in text) for text in texts]
    assert whole.tolist() == [len(text) for text in texts]
    assert longest_line(column(*texts)).tolist() == [max(map(len, text.split("\n"))) for text in texts]


def test_every_language_of_words_has_characters():
    texts = column("plain words", "")
    for lang in filters.histogram.LANGUAGES:
        assert filters.HistogramFilter(lang).score_batch(texts)[1].as_py() == 0
    written = {"hi": "नमस्ते दुनिया।", "ar": "مرحبا بالعالم", "ko": "안녕하세요", "th": "สวัสดี", "el": "Γειά", "am": "ሰላም"}
    written |= {"sr": "Здраво zdravo", "vi": "Tiếng Việt", "zh": "你好，世界。", "ka": "გამარჯობა"}
    for lang, text in written.items():
        assert filters.HistogramFilter(lang).score_document(text) == 1, lang


def test_a_histogram_comes_from_a_file(tmp_path):
    path = tmp_path / "en"
    path.write_text("a 10\nb 5\n  3\n] 2\nc 1\n")
    rule = filters.HistogramFilter(file=str(path))
    assert rule.score_document("ab abc]\n") == 6 / 8
    before = rule.identity()
    path.write_text("a\n")
    assert rule.identity() != before
    path.with_name("bad").write_bytes(b"\xff\n")
    with pytest.raises(InputError, match="is not UTF-8"):
        filters.HistogramFilter(file=str(path.with_name("bad"))).score_document("a")


def test_bounds_of_extensions_come_from_a_table(tmp_path):
    path = tmp_path / "meta.csv"
    path.write_text(
        "language,extension,Include,Long_line_threshold,Alphanum_threshold,Alpha filter\n"
        "python,py,1,10,0.5,\nc-sharp,.cs,0,,,\npython,pyw,1,,,0.9\n"
    )
    python, window, sharp, other = (
        filters.PerExtensionFilter(lang, extension, str(path))
        for lang, extension in (("Python", "py"), ("python", ".PYW"), ("C#", "cs"), ("python", "pyx"))
    )
    texts = column("abc", "x" * 11, "+++a", "a1", "")
    assert python.score_batch(texts).to_pylist() == [0, 2, 4, 0, 4]
    assert window.score_batch(texts).to_pylist() == [0, 0, 5, 5, 5]
    assert sharp.score_batch(texts).to_pylist() == other.score_batch(texts).to_pylist() == [1] * 5
    assert list(python.identity()) == ["metadata_file"]
    assert python.reasons(pa.array([0, 2])).to_pylist() == [None, "a line is longer than its extension allows"]
    with pytest.raises(UnknownNameError, match=r"there is no language 'perl'\. There is: c-sharp, python"):
        filters.PerExtensionFilter("perl", "pl", str(path))
    path.write_text("language,extension\npython,py\n")
    with pytest.raises(TamisError, match=r"there is no column 'Include'\. There is: extension, language"):
        filters.PerExtensionFilter("python", "py", str(path))
