"""The page in a real browser: it asks for nothing, its numbers are the engine's, and texts are shown as text."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from page_example import example_page
from tamis import DocumentDataset, Score, ScoreFilter
from tamis.filters import NonAlphaNumericFilter, UrlsFilter, WordCountFilter
from tamis.filters.where import Where
from tamis.kept import keep_recipe
from tamis.page.charts import png, vega
from tamis.page.content import Counts, DocumentView, Page, RunView, Sample, ScoreView, StageView, pack
from tamis.page.make import report
from tamis.page.render import render
from tamis.recipe import Recipe, load_recipe

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="the page is tested with playwright: pip install playwright"
)

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
_VIEWS = ("overview", "scores", "documents", "doc=doc-4", "compare", "recipe")


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip(
            "there is no Chromium on the PATH; `make test` installs one where it may (apt-get install chromium)"
        )
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield found
        found.close()


class Opened:
    """A tab with a page in it, and all that it said and asked for."""

    def __init__(self, context, file):
        self.tab = context.new_page()
        self.tab.set_default_timeout(20_000)
        self.said = []
        self.asked = []
        self.file = file.as_uri()
        self.tab.on("console", lambda message: self.said.append(message.text))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.tab.on("request", lambda request: self.asked.append(request.url))

    def go(self, place=""):
        self.tab.goto(f"{self.file}#{place}")
        return self

    def text(self, selector):
        return self.tab.locator(selector).first.inner_text()

    def number(self, selector):
        """The first number in an element."""
        return int(re.search(r"[\d,]+", self.text(selector))[0].replace(",", ""))

    def check_silent(self):
        assert self.said == []
        assert {url.partition("#")[0] for url in self.asked} == {self.file}


@pytest.fixture
def opened(browser, tmp_path):
    """Open a page; everything that it does is held against silence at the end."""
    contexts, tabs = [], []

    def open_(page, place="", **options):
        file = tmp_path / f"page-{len(tabs)}.html"
        file.write_text(page if isinstance(page, str) else render(page), encoding="utf-8")
        contexts.append(browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options)))
        tabs.append(Opened(contexts[-1], file))
        return tabs[-1].go(place)

    yield open_
    for tab in tabs:
        tab.check_silent()
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def example():
    return render(example_page(compare=True))


# -- the file --------------------------------------------------------------------------------------------------


def test_the_file_holds_everything_and_asks_for_nothing(example):
    assert len(example) < 1_500_000
    head = example[: example.index("<style>")]
    assert "default-src 'none'" in head
    assert "unsafe" not in head
    # No element names anything outside of the file.
    elements = re.sub(r"<script[^>]*>.*?</script>|<style>.*?</style>", "", example, flags=re.DOTALL)
    assert not re.search(r"\s(src|href)\s*=\s*[\"'](?!#)", elements)


def test_data_cannot_end_their_element(example):
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', example, flags=re.DOTALL)[1]
    assert not set("<>&\u2028\u2029") & set(data)
    content = json.loads(data)
    assert "<script>alert(1)</script>" in content["page"]["runs"][0]["sample"]["documents"][1]["text"]
    assert example.count("</script>") == 3


def test_titles_are_escaped():
    html = render(replace(example_page(), title='</title><script>alert(1)</script>{{data}}"'))
    assert "<script>alert(1)" not in html[: html.index('id="data"')]
    assert "{{data}}" in html  # a hole is filled once, and never in what fills another


def test_every_asset_is_in_the_package():
    from importlib import resources

    names = {entry.name for entry in resources.files("tamis.page").joinpath("assets").iterdir()}
    assert {"page.html", "page.css", "main.js"} <= names


def test_plots_are_written_as_files():
    made = png(replace(example_page(), runs=(example_page(rows=50).runs[0],)))
    assert set(made) == {"funnel.png", "score-words_0.png", "score-share_1.png", "class-language.png"}
    assert all(content.startswith(b"\x89PNG") for content in made.values())


def test_plot_files_get_names_that_every_system_takes():
    run = example_page(rows=50).runs[0]
    scores = tuple(replace(run.scores[0], column=column) for column in ("a/../b", "A/../B"))
    made = png(replace(example_page(), runs=(replace(run, scores=scores, classes=()),)))
    assert set(made) == {"funnel.png", "score-a_.._b.png", "score-A_.._B-2.png"}


def test_the_missing_package_is_named(monkeypatch):
    import sys

    from tamis.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(MissingExtraError, match=r"tamis\[report\]"):
        vega("The page of a report")


# -- views -----------------------------------------------------------------------------------------------------

# Every piece of text that is seen, with the contrast of its colour to what is behind it, where this is below 4.5.
_CONTRAST = """() => {
  const channels = (text) => {
    const found = text.match(/[\\d.]+(e-?\\d+)?/g).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    return [...found.slice(0, 3).map((v) => v * scale), found[3] ?? 1];
  };
  const light = ([r, g, b]) => {
    const linear = (v) => (v <= 10.31475 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    const [x, y, z] = [r, g, b].map(linear);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
    if (element.closest("script, style, .unseen, .skip, button:disabled")) continue;
    const style = getComputedStyle(element);
    const colour = channels(element.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(colour), light(behind(element))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    seen++;
    const what = `${element.tagName}.${element.className} ${walker.currentNode.textContent.slice(0, 30)}`;
    if (contrast < 4.5) poor.push(`${contrast.toFixed(2)} ${what}`);
  }
  return [seen, poor];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_view_fits_and_can_be_read(opened, example, scheme, width):
    page = opened(example, color_scheme=scheme, viewport={"width": width, "height": 844})
    for view in _VIEWS:
        page.go(view)
        if view in {"scores", "compare"}:
            page.tab.evaluate("scrollTo(0, document.body.scrollHeight)")
            page.tab.wait_for_selector(".plot svg")
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= width, view
        seen, poor = page.tab.evaluate(_CONTRAST)
        assert seen > 20
        assert poor == [], view
    background = page.tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_everything_that_can_be_used_has_a_name(opened, example):
    page = opened(example)
    for view in _VIEWS:
        page.go(view)
        unnamed = page.tab.evaluate("""() => [...document.querySelectorAll("button, a, input, select, summary")]
          .filter((e) => e.checkVisibility())
          .filter((e) => !(e.textContent.trim() || e.getAttribute("aria-label") || (e.labels && e.labels.length)))
          .map((e) => e.outerHTML)""")
        assert unnamed == [], view
        assert page.tab.locator("h1:visible").count() == 1


def test_the_overview_tells_the_counts(opened):
    shown = example_page()
    page = opened(shown, "overview")
    counts = shown.runs[0].counts
    assert f"{counts.kept} of {counts.records}" in page.text(".headline")
    funnel = page.text(".funnel")
    for row in shown.runs[0].funnel:
        assert row.reason in funnel or "changed" in row.reason
    everything = page.text("main")
    for word in ("in/<b>.jsonl", "EMAIL_ADDRESS", "17 documents", "invalid JSON", "1.23 MB", "98,765"):
        assert word in everything


def test_the_theme_can_be_switched(opened, example):
    page = opened(example, "overview", color_scheme="light")
    page.tab.click("#theme")
    page.tab.click("#theme")
    assert page.text("#theme") == "Theme: dark"
    assert page.tab.evaluate("getComputedStyle(document.body).color") == "rgb(228, 232, 238)"


def test_a_live_page_loads_itself_again(opened):
    running = replace(example_page(), live=True, refresh=600)
    page = opened(running, "overview")
    assert page.tab.locator('meta[http-equiv="refresh"]').get_attribute("content") == "600"
    assert page.tab.locator("#live").is_visible()
    assert 'http-equiv="refresh"' not in render(example_page())


@pytest.mark.parametrize("scores", [True, False])
def test_a_run_of_which_little_is_known_has_a_page(opened, scores):
    run = example_page().runs[0]
    bare = RunView("bare", False, Counts(0, 0, 0, 0, 0, 0), ())
    if scores:  # distributions, but no sample to move a bound on
        bare = replace(bare, scores=run.scores, classes=run.classes)
    page = opened(Page("bare", "0.1", "2026-11-25T12:00:00Z", (bare,)))
    for view in ("overview", "scores", "documents", "recipe"):
        page.go(view)
        assert page.tab.locator("h1").is_visible()
    assert page.tab.locator(".note").is_visible()


# -- bounds: the numbers are the engine's ------------------------------------------------------------------------

_FILTERS = {
    "words": (WordCountFilter(min_words=30, max_words=90), False),
    "symbols": (NonAlphaNumericFilter(0.08), False),
    "urls": (UrlsFilter(0.3), True),
}
_WHERE = pc.field("language") != "fr"


def _documents(rows=500):
    """Texts of many lengths, with signs and addresses, made of their number alone."""
    words = ["the", "of", "sieve", "grain", "müller", "and"]
    texts = []
    for row in range(rows):
        length = row * 7 % 75
        parts = [words[(row * k) % 6] for k in range(length)]
        parts += ["!?!" for _ in range(row * 11 % 23)]
        parts += [f"https://example.org/{row}" for _ in range(0 if row % 7 == 0 else 2 + length // 5)]
        texts.append(" ".join(parts))
    languages = ["fr" if row % 17 == 0 else "en" for row in range(rows)]
    return pa.table({"id": [f"d{row}" for row in range(rows)], "text": texts, "language": languages})


@pytest.fixture(scope="module")
def documents():
    return _documents()


@pytest.fixture(scope="module")
def bounded(documents):
    """A page on the scores that the engine gives these documents."""
    dataset = DocumentDataset.from_arrow(documents)
    scored = dataset.append(*(Score(filter_, column) for column, (filter_, _) in _FILTERS.items())).to_arrow()
    scores, stages = [], []
    decided = np.full(len(documents), -1)
    settings = {"words": ("min_words", "max_words"), "symbols": ("", "max_non_alpha_numeric_to_text_ratio")}
    settings["urls"] = ("", "")
    tomls = {
        "words": '[[stage]]\nuse = "WordCountFilter"\nmin_words = 30\nmax_words = 90',
        "symbols": '[[stage]]\nuse = "NonAlphaNumericFilter"\nmax_non_alpha_numeric_to_text_ratio = 0.08',
        "urls": '[[stage]]\nuse = "UrlsFilter"\nmax_url_to_text_ratio = 0.3\ninvert = true',
    }
    for stage, (column, (filter_, invert)) in reversed(list(enumerate(_FILTERS.items()))):
        values = scored.column(column).to_numpy().astype(float)
        low, high = filter_.bounds()
        keep = filter_.keep_batch(scored.column(column).combine_chunks()).to_numpy(zero_copy_only=False) != invert
        decided = np.where(keep, decided, stage)
        edges = np.linspace(0, values.max(), 31)
        counts = tuple(np.histogram(values, edges)[0].tolist())
        label = type(filter_).__name__
        integer = column == "words"
        bounds = (None if low is None else float(low), None if high is None else float(high), *settings[column])
        scores.append(
            ScoreView(column, label, stage, *bounds, invert, integer, False, "linear", tuple(edges.tolist()), counts,
                      counts, filter=label, text_field="text")
        )  # fmt: skip
        stages.append(StageView(stage, label, "filter", (), None, None, toml=tomls[column]))
    where = '[[stage]]\nuse = "Where"\nexpression = "language != \'fr\'"'
    stages.insert(0, StageView(3, "Where", "other", (), None, None, toml=where))
    fixed = np.where(pc.equal(documents.column("language"), "fr").to_numpy(), 3, -1)
    decided = np.where(decided < 0, fixed, decided)
    shown = tuple(
        DocumentView(row, f"d{row}", "", None, documents.column("text")[row].as_py(), 0, "a reason", "")
        for row in range(60)
    )
    columns = {column: pack(scored.column(column).to_numpy()) for column in _FILTERS}
    sample = Sample(5 * len(documents), len(documents), 0, "A sample.", columns, pack(decided), pack(fixed), shown)
    kept = int((decided < 0).sum())
    run = RunView(
        "bounded",
        True,
        Counts(len(documents), kept, len(documents) - kept, 0, 1, 1),
        (),
        tuple(reversed(stages)),
        recipe='[input]\npath = "documents.jsonl"\n\n' + "\n\n".join([*tomls.values(), where]) + "\n",
        scores=tuple(reversed(scores)),
        sample=sample,
    )
    return Page("bounded", "0.1", "2026-11-25T12:00:00Z", (run,))


def _by_engine(documents, filters, *columns):
    """What the engine keeps with these filters: with all of them and the condition, or with those of some columns."""
    steps = [
        ScoreFilter(filter_, invert=invert)
        for column, (filter_, invert) in filters.items()
        if column in (columns or filters)
    ]
    if not columns:
        steps.append(Where(_WHERE))
    return DocumentDataset.from_arrow(documents).append(*steps).count()


def _numbers(page, column):
    """(joint, kept alone, dropped by it alone) as the page says."""
    cell = f"#score-{column} .says tr"
    return (
        page.number("#joint"),
        page.number(f"{cell}:nth-of-type(2) td:last-child"),
        page.number(f"{cell}:nth-of-type(4) td:last-child"),
    )


def test_the_numbers_are_those_of_the_engine(opened, bounded, documents):
    page = opened(bounded, "scores")
    for column in _FILTERS:
        joint, alone, only = _numbers(page, column)
        assert joint == _by_engine(documents, _FILTERS)
        assert alone == _by_engine(documents, _FILTERS, column)
        rest = {other: found for other, found in _FILTERS.items() if other != column}
        assert joint + only == _by_engine(documents, rest)
        assert only > 0


@pytest.mark.parametrize("column", list(_FILTERS))
def test_a_moved_bound_gives_what_the_engine_gives(opened, bounded, documents, column):
    page = opened(bounded, "scores")
    card = page.tab.locator(f"#score-{column}")
    for place in (130, 815, 333, 470):
        side = "low" if column == "words" else "high"
        card.locator(f"input.{side}").evaluate(
            "(e, at) => { e.value = String(at); e.dispatchEvent(new Event('input')); }", place
        )
        value = float(card.locator("input[type=number]").nth(0 if side == "low" else 1).input_value())
        # A number of the data itself is the hardest bound: the next float below it would keep less.
        moved = dict(_FILTERS)
        invert = _FILTERS[column][1]
        made = {
            "words": lambda v: WordCountFilter(min_words=int(v), max_words=90) if v <= 90 else None,
            "symbols": NonAlphaNumericFilter,
            "urls": UrlsFilter,
        }[column](value)
        if made is None:
            assert _numbers(page, column)[1] == 0
            continue
        moved[column] = (made, invert)
        joint, alone, only = _numbers(page, column)
        assert joint == _by_engine(documents, moved)
        assert alone == _by_engine(documents, moved, column)
        assert joint + only == _by_engine(documents, {name: found for name, found in moved.items() if name != column})


def test_bounds_that_are_scores_are_held_to_the_last_bit(opened, bounded, documents):
    """A bound typed as a score has it keeps the document; in float32, or by a rounded number, some would be lost."""
    scored = DocumentDataset.from_arrow(documents).append(Score(NonAlphaNumericFilter(), "s")).to_arrow()
    values = sorted(set(scored.column("s").to_pylist()))
    page = opened(bounded, "scores")
    field = page.tab.locator("#score-symbols input[type=number]").nth(1)
    for value in values[5 : len(values) - 5 : len(values) // 8]:
        field.fill(repr(value))
        field.press("Tab")
        assert _numbers(page, "symbols")[1] == _by_engine(
            documents, {"symbols": (NonAlphaNumericFilter(value), False)}, "symbols"
        )


def test_a_bound_moves_by_keys_and_goes_back(opened, bounded, documents):
    page = opened(bounded, "scores")
    low = page.tab.locator("#score-words input.low")
    before = _numbers(page, "words")
    low.focus()
    for _ in range(4):
        low.press("ArrowRight")
    low.press("PageUp")
    value = int(page.tab.locator("#score-words input[type=number]").first.input_value())
    assert value > 34
    assert low.get_attribute("aria-valuetext") == str(value)
    moved = _FILTERS | {"words": (WordCountFilter(min_words=value, max_words=90), False)}
    assert _numbers(page, "words")[0] == _by_engine(documents, moved)
    assert "with the bounds of the run" in page.text(".summary")
    page.tab.click("#score-words button:has-text('Reset')")
    assert _numbers(page, "words") == before
    # An empty field is no bound at all.
    field = page.tab.locator("#score-words input[type=number]").first
    field.fill("")
    field.press("Tab")
    free = _FILTERS | {"words": (WordCountFilter(min_words=0, max_words=90), False)}
    assert _numbers(page, "words")[0] == _by_engine(documents, free)
    page.tab.click("text=Reset all")
    assert _numbers(page, "words") == before


def test_an_interval_is_wilsons(opened, bounded, documents):
    kept, rows, z = _by_engine(documents, _FILTERS), len(documents), 1.959963984540054
    share = kept / rows
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    half = z / (1 + z**2 / rows) * (share * (1 - share) / rows + z**2 / (4 * rows**2)) ** 0.5
    said = opened(bounded, "scores").text(".summary")
    assert f"{100 * (middle - half):.1f}–{100 * (middle + half):.1f} %" in said
    assert f"of {5 * rows:,}" in said


def test_the_copied_recipe_gives_the_counts_that_were_shown(opened, bounded, documents, write_jsonl, tmp_path):
    page = opened(bounded, "scores")
    for column, which, value in (
        ("words", 0, "45"),
        ("symbols", 1, "0.079"),
        ("symbols", 0, "0.01"),
        ("urls", 1, "0.41"),
    ):
        field = page.tab.locator(f"#score-{column} input[type=number]").nth(which)
        field.fill(value)
        field.press("Tab")
    shown = page.number("#joint")
    page.tab.click("text=Copy as recipe")
    recipe = page.text("#recipe-text")
    page.tab.click("#recipe-copy")
    sync_api.expect(page.tab.locator("#recipe-said")).not_to_be_empty(timeout=20_000)
    page.tab.keyboard.press("Escape")
    assert "min_words = 45  # was 30\n" in recipe
    write_jsonl("documents.jsonl", documents.to_pylist())
    file = tmp_path / "recipe.toml"
    file.write_text(
        recipe.replace('"documents.jsonl"', json.dumps(str(tmp_path / "documents.jsonl"))), encoding="utf-8"
    )
    assert load_recipe(file).dataset().count() == shown
    assert 0 < shown < _by_engine(documents, _FILTERS)


def test_a_rule_set_is_copied_filter_by_filter(opened, documents, write_jsonl, tmp_path):
    """From a run's directory to its page, to a bound that is moved there, to a recipe, to the same counts."""
    path = write_jsonl("documents.jsonl", documents.to_pylist())
    recipe = Recipe("r", {"path": path}, ({"use": "gopher_quality", "lang": "en"}, {"use": "UrlsFilter"}))
    out = str(tmp_path / "out")
    recipe.dataset().to_json(out, workers=1)
    keep_recipe(out, recipe, None)
    made = report(out, sample=1000, workers=1)
    page = opened(made, "scores")
    for column, which, value in (("word_count", 0, "9"), ("words_without_alphabets", 0, "0.3"), ("urls", 1, "0.6")):
        field = page.tab.locator(f"#score-{column} input[type=number]").nth(which)
        field.fill(value)
        field.press("Tab")
    shown = page.number("#joint")
    page.tab.click("text=Copy as recipe")
    copied = tmp_path / "copied.toml"
    written = page.tab.locator("#recipe-text").text_content()
    copied.write_text(written, encoding="utf-8")
    assert "gopher_quality" not in written
    assert written.count("[[stage]]") == 8
    assert load_recipe(copied, [f"input.path={path}"]).dataset().count() == shown
    assert shown > recipe.dataset().count() == made.runs[0].counts.kept


def test_a_slider_answers_at_once(opened):
    """30 scores of 10,000 documents: everything that a moved bound does takes far less than 50 ms."""
    page = opened(example_page(rows=10_000, filters=30), "scores")
    times = page.tab.evaluate("""() => {
      const slider = document.querySelector(".track input.low");
      return Array.from({ length: 40 }, (_, k) => {
        const start = performance.now();
        slider.value = String(100 + 15 * k);
        slider.dispatchEvent(new Event("input"));
        document.body.getBoundingClientRect();
        return performance.now() - start;
      });
    }""")
    assert sorted(times)[20] < 50


# -- documents ---------------------------------------------------------------------------------------------------


def test_texts_are_shown_as_text(opened, example):
    page = opened(example)
    for number, text in (
        (1, "<script>alert(1)</script> & <b>bold</b> </script><!-- is text, and nothing else."),
        (3, "🦊🦊🦊 and a family 👨‍👩‍👧‍👦"),
    ):
        page.go(f"doc=doc-{number}")
        assert text in page.tab.locator(".text").text_content()
    page.go("doc=doc-2")
    assert page.tab.locator(".text").evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert "שלום עולם" in page.tab.locator(".text").text_content()
    assert page.tab.locator("main script, main b").count() == 0


def test_spans_are_marked_where_they_are(opened, example):
    page = opened(example, "doc=doc-3")
    assert page.tab.locator(".text mark.matched").all_text_contents() == ["🦊🦊🦊"]
    page.go("doc=doc-5")
    assert page.tab.locator(".text mark.repeated").all_text_contents() == ["one line"] * 3
    assert page.tab.locator(".hunk del").text_content() == "ordinary"
    page.tab.click(".legend button:has-text('repeated')")
    assert page.tab.locator(".text mark").count() == 0


def test_search_finds(opened, example):
    page = opened(example, "documents")
    page.tab.keyboard.press("/")
    page.tab.keyboard.type("FAMILY")
    page.tab.wait_for_selector(".list mark.found")
    texts = [doc.text for doc in example_page().runs[0].sample.documents]
    assert page.tab.locator(".list a").count() == sum("family" in text for text in texts)
    page.tab.keyboard.press("Enter")
    page.tab.wait_for_selector(".text mark.found")
    assert page.tab.locator(".text mark.found").all_text_contents() == ["family"]
    page.tab.fill("input[type=search]", "no such words [")
    page.tab.wait_for_selector(".list .empty")


def test_an_address_opens_a_document(opened, example):
    page = opened(example, "doc=doc-7")
    assert page.text(".detail h2") == "doc-7"
    assert page.tab.locator(".list a[aria-current]").get_attribute("href") == "#doc=doc-7"
    page.go("doc=no%20such")
    assert "no document no such" in page.text(".detail")
    odd = 'a/b?c#d"<i>%20é'
    shown = example_page()
    sample = shown.runs[0].sample
    first = replace(sample.documents[0], id=odd)
    run = replace(shown.runs[0], sample=replace(sample, documents=(first, *sample.documents[1:])))
    page = opened(replace(shown, runs=(run,)), "documents")
    page.tab.locator(".list a").first.click()
    assert page.text(".detail h2") == odd
    page.tab.reload()
    assert page.text(".detail h2") == odd


def test_keys(opened, example):
    page = opened(example, "documents")
    at = lambda: page.tab.evaluate("location.hash")  # noqa: E731
    page.tab.keyboard.press("j")
    page.tab.keyboard.press("j")
    page.tab.keyboard.press("ArrowDown")
    page.tab.keyboard.press("k")
    sync_api.expect(page.tab.locator(".detail > h2")).to_have_text("doc-1", timeout=20_000)
    assert at() == "#doc=doc-1"
    page.tab.keyboard.press("Escape")
    assert at() == "#documents"
    page.tab.keyboard.press("?")
    assert page.tab.locator("#help").is_visible()
    page.tab.keyboard.press("Escape")
    assert not page.tab.locator("#help").is_visible()
    page.tab.keyboard.press("2")
    page.tab.wait_for_selector("body[data-view=scores]")
    page.tab.keyboard.press("/")
    assert page.tab.evaluate("document.activeElement.type") == "search"
    page.tab.keyboard.type("2j")  # typed, not obeyed
    assert at() == "#documents"


def test_documents_are_chosen_by_stage_and_decision(opened, bounded, documents):
    page = opened(bounded, "documents")
    page.tab.click("button:text-is('Dropped')")
    decided = np.frombuffer(__import__("base64").b64decode(bounded.runs[0].sample.decided.data), dtype=np.int8)[:60]
    assert page.tab.locator(".list a").count() == int((decided >= 0).sum())
    page.tab.select_option("select", "score=words")
    page.tab.click("button:text-is('At the bound')")
    shown = [float(text) for text in page.tab.locator(".list .value").all_text_contents()]
    assert shown == sorted(shown)
    scores = (
        WordCountFilter().score_batch(documents.column("text").combine_chunks().cast(pa.large_string())).to_numpy()[:60]
    )
    assert page.tab.locator(".list a:has(.badge.dropped)").count() <= 2 * 24
    assert max(v for v in shown if v < 30) == scores[scores < 30].max()
    assert page.tab.locator(".boundary").count() == 2


def test_documents_that_a_moved_bound_changes(opened, bounded):
    page = opened(bounded, "scores")
    field = page.tab.locator("#score-words input[type=number]").first
    field.fill("80")
    field.press("Tab")
    page.tab.click("text=See what changes")
    page.tab.wait_for_selector(".list a")
    assert page.tab.locator(".list .badge").all_text_contents() == ["dropped"] * page.tab.locator(".list a").count()
    page.tab.locator(".list a").first.click()
    assert "dropped with the moved bounds" in page.text(".decision")


# -- two runs ------------------------------------------------------------------------------------------------------


def test_two_runs_beside_each_other(opened, example):
    page = opened(example, "compare")
    text = page.text("main")
    for said in ("stricter", "UrlsFilter#1: more than 0.8", "WordCountFilter#0: reason <b>", "198"):
        assert said in text
    page.tab.locator(".differ summary").first.click()
    assert "<script>alert(1)</script>" in page.text(".differ .text")
    page.tab.click("#run-choice button:has-text('stricter')")
    assert page.text("h1") == "stricter"
