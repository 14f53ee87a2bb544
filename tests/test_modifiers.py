"""Modifiers: repairs equal the library's on the whole text, and what needs no change comes back as it was."""

from __future__ import annotations

import ftfy
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tamis.errors import MissingColumnError, StageError, UsageError
from tamis.modifiers import DocumentModifier, Modify, NewlineNormalizer, UnicodeReformatter, UrlRemover


def large(texts):
    return pa.array(texts, pa.large_string())


def modified(modifier, texts):
    return modifier.modify_batch(large(texts)).to_pylist()


# -- UnicodeReformatter --------------------------------------------------------------------------------------

PIECES = [
    *("cafÃ©", "Ã\xa0 la", "â€™", "â€œhiâ€\x9d", "ðŸ˜€", "sÃ³", "Ã", "Â£", "Â", "\xa0", "â\x80\x99", "ÃƒÂ©", "ï¬\x81"),
    *("&amp;", "&lt;", "&eacute", ";", "&", "&#x41;", "&#128169;", "&#xD800;", "&EACUTE;", "&nbsp;", "&#13;", "&#10;"),
    *("<", ">", "<b>", "\x1b[31m", "\x1b[0m", "\x1b", "\r\n", "\r", "\n", "\n\n", "\u2028", "\u2029", "\x85", "\x0b"),
    *("ﬁ", "ﬂ", "Ĳ", "ǆ", "ＡＢ", "ｶﾞ", "\u3000", "￦", "\x00", "\x07", "\x7f", "\x80", "\x9d", "\ufeff", "\ufffd"),
    *("‘a’", "“b”", "ʼ", "‚", "„", "…", "é", "e\u0301", "\u1e9b\u0323", "Å", "가", "今天", "שלום", "مرحبا", "हिन्दी"),
    *("Привет", "Ð¿Ñ\x80Ð¸", "РїСЂРё", "plain text", " ", "\t", "😀", "\u200b", "\u206a", "\ufff9", "½", "ﷺ", "Æ’"),
]
BROKEN = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
MOJIBAKE = st.builds(
    lambda text, codec: text.encode().decode(codec, "ignore"), ANY, st.sampled_from(["cp1252", "latin-1", "cp1251"])
)
TEXTS = st.one_of(BROKEN, MOJIBAKE, st.lists(st.one_of(BROKEN, MOJIBAKE, ANY), max_size=4).map("\n".join))
SETTINGS = {
    "as given": {},
    "NFC": {"normalization": "NFC"},
    "NFKD": {"normalization": "NFKD"},
    "straight quotes": {"uncurl_quotes": True},
    "entities always": {"unescape_html": True, "fix_character_width": False},
    "entities never": {"unescape_html": False, "remove_control_chars": False},
    "short segments": {"max_decode_length": 7},
    "segments of one": {"max_decode_length": 1, "uncurl_quotes": True},
    "no decoding": {"fix_encoding": False, "fix_c1_controls": False},
    "no lossy repairs": {"restore_byte_a0": False, "replace_lossy_sequences": False, "decode_inconsistent_utf8": False},
    "line ends stay": {"fix_line_breaks": False, "remove_terminal_escapes": False, "fix_latin_ligatures": False},
}


@pytest.mark.parametrize("given_settings", SETTINGS.values(), ids=list(SETTINGS))
@settings(max_examples=150, deadline=None)
@given(texts=st.lists(TEXTS, max_size=5))
@example(
    texts=[
        "<\n&amp;",
        "&amp;\n<\n&amp;",
        "a\r\n<b>&lt;",
        "cafÃ\n©",
        "Ã\xa0\n",
        "é" * 7,
        "a" * 6 + "\r\n",
        "é" * 6 + "\n",
        "\n" * 9,
    ]
)
def test_repairs_are_those_of_ftfy_on_the_whole_text(given_settings, texts):
    # The library's own defaults differ in two settings. It heeds the settings of decoding only where it explains.
    config = ftfy.TextFixerConfig(**{"uncurl_quotes": False, "normalization": None, **given_settings})
    expected = [ftfy.fix_text(t, config) for t in texts]
    assert modified(UnicodeReformatter(**given_settings), texts) == expected


def test_every_character_is_repaired_as_ftfy_does():
    config = ftfy.TextFixerConfig(uncurl_quotes=False, normalization=None)
    texts = [f"a{chr(c)}b" for c in [*range(0xD800), *range(0xE000, 0x10000), *range(0x1F000, 0x1F800)]]
    changed = modified(UnicodeReformatter(), texts)
    wrong = [(a, b) for a, b in zip(texts, changed, strict=True) if ftfy.fix_text(a, config) != b]
    assert wrong == []


def test_the_meaning_of_html_changes_from_the_first_angle_bracket_on():
    assert modified(UnicodeReformatter(), ["&amp;\n<p>\n&amp;\n&amp;"]) == ["&\n<p>\n&amp;\n&amp;"]


def test_one_long_line_is_repaired_too():
    text = "cafÃ© " * 100_000
    assert modified(UnicodeReformatter(max_decode_length=10_000), [text]) == [
        ftfy.fix_text(text, uncurl_quotes=False, normalization=None, max_decode_length=10_000)
    ]


def test_a_normalization_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="normalization must be NFC, NFD, NFKC, NFKD or None; got 'NFX'"):
        UnicodeReformatter(normalization="NFX")


# -- NewlineNormalizer and UrlRemover ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb", "a\nb"),
        ("a\n\nb", "a\n\nb"),
        ("a\n\n\nb", "a\n\nb"),
        ("a" + "\n" * 50 + "b\n\n\n\nc", "a\n\nb\n\nc"),
        ("\n\n\n", "\n\n"),
        ("a\r\n\r\nb", "a\r\n\r\nb"),
        ("a\r\n\r\n\r\nb", "a\r\n\r\nb"),
        ("a" + "\r\n" * 9 + "b\n\n\nc", "a\r\n\r\nb\n\nc"),
        ("a\n \n\nb", "a\n \n\nb"),
        ("今天\n\n\n\n天气\x00", "今天\n\n天气\x00"),
        ("", ""),
    ],
)
def test_at_most_one_empty_line_stays(text, expected):
    assert modified(NewlineNormalizer(), [text]) == [expected]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.none() | st.text(st.sampled_from("a\r\n \x00é"), max_size=20), max_size=5))
def test_newlines_are_normal_after_one_pass_and_nothing_else_is_lost(texts):
    once = modified(NewlineNormalizer(), texts)
    assert modified(NewlineNormalizer(), once) == once
    for before, after in zip(texts, once, strict=True):
        assert (before is None) == (after is None)
        if before is not None:
            assert "\n\n\n" not in after
            assert "\r\n" * 3 not in after
            assert [c for c in before if c not in "\r\n"] == [c for c in after if c not in "\r\n"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see https://a.org/b now", "see  now"),
        ("see (https://a.org/b).", "see ()."),
        ("http://a.org", ""),
        ("HTTPS://A.ORG/x?y=1&z=2#f end", " end"),
        ("go to www.example.org, or not", "go to , or not"),
        ("a [link](https://a.org/b) here", "a [link]() here"),
        ("<https://a.org/>", "<>"),
        ('"https://a.org/x"', '""'),
        ("请看https://a.org/b。谢谢", "请看。谢谢"),
        ("请看https://a.org/b谢谢", "请看谢谢"),
        ("https://a.org/b，好", "，好"),
        ("https://a.org/b\u3000c", "\u3000c"),
        ("https://a.org/b\u00a0c", "\u00a0c"),
        ("https://a.org/b!?", "!?"),
        ("https://пример.рф/путь да", " да"),
        ("https://a.org/b\nhttp://c.org", "\n"),
        ("https://a.org/b\x00c", "\x00c"),
        ("https://", "https://"),
        ("www.", "www."),
        ("awww. so sweet", "awww. so sweet"),
        ("xhttp://a.org", "xhttp://a.org"),
        ("ftp://a.org", "ftp://a.org"),
        ("nothing :// here", "nothing :// here"),
        ("", ""),
    ],
)
def test_web_addresses_are_removed_and_the_sentence_stays(text, expected):
    assert modified(UrlRemover(), [text]) == [expected]


def test_an_address_of_a_million_characters_is_removed():
    assert modified(UrlRemover(), ["see https://a.org/" + "x" * 1_000_000 + " end"]) == ["see  end"]


# -- what every modifier owes --------------------------------------------------------------------------------

MODIFIERS = {
    "unicode": UnicodeReformatter(),
    "unicode, NFC": UnicodeReformatter(normalization="NFC"),
    "newlines": NewlineNormalizer(),
    "urls": UrlRemover(),
}
EACH = pytest.mark.parametrize("modifier", MODIFIERS.values(), ids=list(MODIFIERS))
# Something for each to change.
BUSY = ["cafÃ© &amp; \n\n\n\n www.a.org", None, "", "plain", "今天\r\n\r\n\r\nhttps://a.org/", "ﬁ", None, "e\u0301"]


@EACH
def test_texts_that_need_no_change_are_the_very_same_array(modifier):
    texts = large(
        ["plain text, no more.", "", None, "two\nlines\n\nthree", "今天天气", "“quoted”", "Ünïcode", "a & b; c"]
    )
    assert modifier.modify_batch(texts) is texts


@EACH
def test_null_stays_null_and_empty_stays_empty(modifier):
    assert modified(modifier, [None, "", None]) == [None, "", None]
    assert modified(modifier, []) == []
    assert modifier.modify_batch(pa.nulls(2, pa.large_string())).to_pylist() == [None, None]


@EACH
def test_a_text_is_changed_for_itself_alone(modifier):
    together = modified(modifier, BUSY)
    assert together == [modified(modifier, [t])[0] for t in BUSY]
    sliced = modifier.modify_batch(large(["x", *BUSY, "y"]).slice(1, len(BUSY)))
    assert sliced.to_pylist() == together
    assert sliced.type == pa.large_string()


@EACH
@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.none() | TEXTS, max_size=6))
def test_any_text_alone_gives_what_it_gives_in_company(modifier, texts):
    assert modified(modifier, texts) == [modified(modifier, [t])[0] for t in texts]


# -- Modify --------------------------------------------------------------------------------------------------


class Lower(DocumentModifier):
    def modify_document(self, text):
        return text.lower()


class Doubled(DocumentModifier):
    def modify_batch(self, texts):
        return pa.array([t and t * 2 for t in texts.to_pylist()], pa.string())


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_modify_replaces_the_text_in_its_place_and_keeps_its_type(kind):
    table = pa.table({"id": [1, 2], "text": pa.array(["ONE", None], kind), "z": [3, 4]})
    out = Modify(Lower()).open()(table)
    assert out.column_names == ["id", "text", "z"]
    assert out.schema.field("text").type == kind
    assert out["text"].to_pylist() == ["one", None]
    assert Modify(Lower()).needs(table.schema).makes == (pa.field("text", kind),)


def test_modify_takes_a_batch_modifier_and_a_plain_function():
    table = pa.table({"body": ["Ab", None, ""]})
    assert Modify(Doubled(), text_field="body").open()(table)["body"].to_pylist() == ["AbAb", None, ""]
    assert Modify(str.upper, text_field="body").open()(table)["body"].to_pylist() == ["AB", None, ""]


def test_modify_takes_the_text_field_of_the_dataset_unless_one_is_named():
    assert Modify(Lower()).on_text_field("body").text_field == "body"
    assert Modify(Lower(), text_field="title").on_text_field("body").text_field == "title"


def test_modify_names_itself_after_what_it_applies():
    assert Modify(UrlRemover()).name == "UrlRemover"
    assert Modify(str.upper).name == "upper"


def test_a_modifier_with_no_method_says_what_is_missing():
    class Nothing(DocumentModifier):
        pass

    with pytest.raises(StageError, match="Nothing defines neither modify_document nor modify_batch"):
        Modify(Nothing()).open()(pa.table({"text": ["a"]}))


def test_a_column_that_is_missing_or_no_text_is_named():
    with pytest.raises(MissingColumnError, match=r"Lower reads the column 'text'.*Did you mean 'texts'"):
        Modify(Lower()).open()(pa.table({"texts": ["a"]}))
    with pytest.raises(StageError, match="Lower reads the column 'text' as text, but it is int64"):
        Modify(Lower()).open()(pa.table({"text": [1]}))
