"""Block lists of domains, addresses and words."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis import DocumentDataset, ScoreFilter, filters
from tamis.errors import InputError, UsageError
from tamis.filters import UrlBlocklistFilter
from tamis.text.hosts import find_listed, hashes_of, parse_list, spelled

LIST = """# a comment
! another
0.0.0.0 ads.example.com Tracker.NET   # and one more
127.0.0.1 localhost
::1 ip6-localhost ip6-loopback
fe80::1%lo0 localhost
*.starred.org
.dotted.io
Exämple.de
http://site.com/folder/
www.query.org/a?b=1
1.2.3.4
2001:db8::7
under_score.net
"""


def column(*texts):
    return pa.array(texts, pa.large_string())


@pytest.fixture
def block_list(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(LIST)
    return str(path)


@pytest.mark.parametrize(
    ("url", "score"),
    [
        ("http://ads.example.com/x", 1),
        ("http://a.b.ads.example.com", 1),
        ("http://example.com/ads.example.com", 0),
        ("HTTPS://user:p@ss@TRACKER.net.:8080/q?r#s", 1),
        ("https://tracker.net@other.net/", 0),
        ("https://tracker.net\\@other.net/", 1),
        ("//tracker.net", 1),
        ("tracker.net:80/x", 1),
        ("  tracker.net\n", 1),
        ("https://nottracker.net", 0),
        ("https://tracker.net.evil.org", 0),
        ("https://localhost/", 0),
        ("https://x.starred.org", 1),
        ("https://starred.org?a", 1),
        ("https://dotted.io#a", 1),
        ("https://www.exämple.de/ü", 1),
        ("https://xn--exmple-cua.de/", 1),
        ("https://ex%C3%A4mple.de/", 1),
        ("https://%74racker.net/", 1),
        ("https://EXÄMPLE.DE", 1),
        ("https://exämple。de", 1),
        ("http://site.com/", 0),
        ("http://site.com/folder", 2),
        ("https://www.site.com/folder/page.html", 2),
        ("http://site.com/folder2", 0),
        ("http://site.com/Folder", 0),
        ("http://other.site.com/folder", 0),
        ("http://query.org/a?b=1&c=2", 2),
        ("http://query.org/a?b=12", 0),
        ("http://1.2.3.4:80/", 1),
        ("http://0.1.2.3.4/", 0),
        ("http://[2001:DB8::7]:443/", 1),
        ("http://[2001:db8::8]/", 0),
        ("http://a.under_score.net/", 1),
        ("http://" + "a" * 300 + ".tracker.net/", 1),
        ("http://" + "日" * 1_000_000 + ".tracker.net/", 1),
        ("http:///", 0),
        ("://", 0),
        ("not an address", 0),
        ("\x00\ud7ff", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_hosts_and_addresses_are_looked_up(block_list, url, score):
    rule = UrlBlocklistFilter(block_list)
    assert rule.score_batch(column(url, "http://tracker.net")).to_pylist() == [score, 1]


LABELS = ("a", "b", "net", "www", "x-y", "A")


@given(
    st.lists(st.lists(st.sampled_from(LABELS), min_size=1, max_size=3).map(".".join), max_size=6),
    st.lists(st.tuples(st.sampled_from(("", "http://", "ftp://u@")), st.lists(st.sampled_from(LABELS), min_size=1,
             max_size=4).map(".".join), st.sampled_from(("", ":80", "/", "/a.net", "?a", "#a.b"))), max_size=6),
)  # fmt: skip
def test_a_listed_domain_stands_for_all_below_it(listed, urls):
    domains, addresses, others, bad = parse_list("\n".join(listed).encode())
    assert (len(domains), len(addresses), others, bad) == (len(listed), 0, [], 0)
    found = find_listed(column(*map("".join, urls)), hashes_of(domains), hashes_of(addresses))
    known = {domain.lower() for domain in listed}
    for value, (_, host, _) in zip(found, urls, strict=True):
        labels = host.lower().split(".")
        assert value == any(".".join(labels[i:]) in known for i in range(len(labels)))


def test_words_of_addresses(tmp_path):
    path = tmp_path / "soft.txt"
    path.write_text("# words\nFree\nwin\nbest\n")
    rule = UrlBlocklistFilter(
        banned_words=["Casino"], soft_banned_words=str(path), banned_subwords=["p0rn", *map(str, range(1000, 1100))]
    )
    urls = [
        "http://a/CASINO-royale",
        "http://a/casinos",
        "http://free.x/win",
        "http://free.x/free",
        "http://a/p-0_RN.htm",
    ]
    urls += ["http://a/10-99", "http://free_win.com", ""]
    scores = rule.score_batch(column(*urls, None))
    assert scores.to_pylist() == [3, 0, 4, 0, 5, 5, 4, 0, 0]
    assert rule.reasons(scores)[0].as_py() == "a banned word is in its address"
    assert [rule.keep_document(rule.score_document(url)) for url in urls[:2]] == [False, True]
    assert UrlBlocklistFilter(soft_banned_words=["free"], min_soft_words=1).score_document("http://free") == 4
    assert spelled(column("A-b", None, "é1"), "").to_pylist() == ["ab", "", "é1"]


def test_folders_hold_lists_as_ut1_has_them_and_the_run_is_known_by_all_of_them(tmp_path):
    for name, content in {
        "adult/domains": "bad.org\n",
        "adult/urls": "ok.org/bad\n",
        "adult/usage": "not a list\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    rule = UrlBlocklistFilter([str(tmp_path)])
    assert rule.score_batch(column("http://bad.org", "ok.org/bad/x", "ok.org")).to_pylist() == [1, 2, 0]
    before = rule.identity()
    assert sorted(before) == [str(tmp_path / "adult/domains"), str(tmp_path / "adult/urls")]
    (tmp_path / "adult/urls").write_text("")
    assert rule.identity() != before
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no file called domains or urls"):
        UrlBlocklistFilter(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("content", "line", "quoted"),
    [
        ("good.org\n\nbad.org two words\n", 3, "bad.org two words"),
        ("a b\n", 1, "a b"),
        ("x.org\n/only/a/path\n", 2, "/only/a/path"),
        ("x.org\n1.2.3 host\n", 2, "1.2.3 host"),
    ],
)
def test_what_is_no_list_is_named_with_its_line(tmp_path, content, line, quoted):
    path = tmp_path / "list"
    path.write_text(content)
    with pytest.raises(InputError, match=f"line {line} of .*list is neither a domain.*{quoted}"):
        UrlBlocklistFilter(str(path)).score_document("http://x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "there is nothing to look for"),
        ({"banned_words": ["a", "-"]}, "'-' has neither letters nor digits"),
        ({"banned_words": ["a"], "min_soft_words": 0}, "min_soft_words must be 1 or more; got 0"),
        ({"lists": "/nowhere/list"}, "there is no file '/nowhere/list'"),
        ({"banned_words": "/nowhere/words"}, "there is no file '/nowhere/words'"),
    ],
)
def test_wrong_settings_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        UrlBlocklistFilter(**options)


def test_a_large_list_is_small_and_every_entry_is_found(tmp_path):
    path = tmp_path / "large"
    path.write_text("\n".join(f"host-{i}.example{i % 7}.org" for i in range(100_000)))
    domains, addresses = filters.urls._lists((path,), ((0, 0),))
    assert domains.sorted.nbytes == 800_000
    assert len(addresses.sorted) == 0
    asked = column(*(f"https://www.host-{i}.example{i % 7}.org/{i}" for i in range(0, 100_000, 9)))
    assert find_listed(asked, domains, addresses).all()
    other = column(*(f"https://host-{i}.example{(i + 1) % 7}.org/" for i in range(0, 100_000, 9)))
    assert not find_listed(other, domains, addresses).any()


def test_it_reads_the_column_that_it_is_given(block_list):
    rows = pa.table({"url": ["http://tracker.net", "http://fine.org", None], "text": ["a", "b", "c"]})
    kept = ScoreFilter(UrlBlocklistFilter(block_list), text_field="url")(DocumentDataset.from_arrow(rows)).to_arrow()
    assert kept["text"].to_pylist() == ["b", "c"]
