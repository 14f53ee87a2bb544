"""Personal data in columns: the modifier, the stage that says where it is, and what a run makes of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from conftest import read_jsonl
from tamis import DocumentDataset, Modify
from tamis.cli import _parser
from tamis.engine.describe import describe
from tamis.errors import OutputRefusedError, RecipeError, UnknownNameError, UsageError
from tamis.pii import ACTIONS, ENTITIES, Mask, PatternDetector, PiiModifier, PiiSpans, Replace, Span, detect
from tamis.pii.counts import PiiCounts, hidden
from tamis.recipe import load_recipe
from tamis.testing import check_fold, check_stage, sample_table

KEY = "a key for tests only"
TEXTS = [
    "write to ann@corp.org or bo@corp.org, not ann@corp.org",
    None,
    "nothing here",
    "",
    "card 4111 1111 1111 1111, ssn 078-05-1120 \U0001f44d\U0001f3fd",
    "\u05e9\u05dc\u05d5\u05dd ann@corp.org \u202b(212) 867-5309\u202c",
]
TABLE = sample_table(34).append_column("extra", pa.array([TEXTS[i % 6] for i in range(34)], pa.string()))


@dataclass(frozen=True)
class Names:
    """Finds capitalised words, as a model might."""

    name: str = "names"
    entities: tuple[str, ...] = ("PERSON", "NICKNAME")
    score: float = 0.8

    def open(self):
        def find(texts):
            words = {i: t.split() for i, t in enumerate(texts.to_pylist()) if t}
            found = {
                i: [
                    Span(texts[i].as_py().index(w), texts[i].as_py().index(w) + len(w), kind, self.score, self.name)
                    for w in each
                    for kind in [("PERSON" if len(w) > 3 else "NICKNAME")]
                    if w.istitle()
                ]
                for i, each in words.items()
            }
            return {i: spans for i, spans in found.items() if spans}

        return find


STAGES = {
    "replace": Modify(PiiModifier(), text_field="extra"),
    "numbered": Modify(PiiModifier(numbered=True), text_field="extra"),
    "mask": Modify(PiiModifier(anonymize_action="mask", keep_last=4), text_field="extra"),
    "hash": Modify(PiiModifier(anonymize_action="hash", key=KEY), text_field="extra"),
    "substitute": Modify(PiiModifier(anonymize_action="substitute"), text_field="extra"),
    "detectors": Modify(PiiModifier(detectors=[PatternDetector(), Names()]), text_field="extra"),
    "PiiSpans": PiiSpans(text_field="extra"),
    "PiiSpans of the sample": PiiSpans(detectors=[Names()]),
}


@pytest.mark.parametrize("name", STAGES)
def test_the_stages_hold_the_contract(name):
    check_stage(STAGES[name], TABLE, fresh_process=name in {"hash", "substitute"})


def test_the_count_holds_the_contract_of_folds():
    table = PiiSpans(text_field="extra").open()(TABLE)
    counts = {c.entity: c for c in check_fold(PiiCounts((("extra", "pii"),)), table)}
    assert (counts["EMAIL_ADDRESS"].spans, counts["EMAIL_ADDRESS"].documents) == (6 * 3 + 5, 11)
    assert counts["US_SSN"].examples == ("0••-••-••••",)
    assert next(iter(counts)) == "EMAIL_ADDRESS"
    many = pa.table({"text": [f"to {'a' * n}@corp.org" for n in range(4, 24)]})
    (count,) = check_fold(PiiCounts(), PiiSpans().open()(many))
    assert (count.spans, len(count.examples)) == (20, 3)


# -- the modifier ---------------------------------------------------------------------------------------------


def test_it_changes_what_is_found_and_nothing_else():
    texts = pa.array(TEXTS, pa.large_string())
    changed = PiiModifier().modify_batch(texts).to_pylist()
    assert changed[:4] == ["write to <EMAIL_ADDRESS> or <EMAIL_ADDRESS>, not <EMAIL_ADDRESS>", None, "nothing here", ""]
    assert changed[4] == "card <CREDIT_CARD>, ssn <US_SSN> \U0001f44d\U0001f3fd"
    assert changed[5] == "\u05e9\u05dc\u05d5\u05dd <EMAIL_ADDRESS> \u202b<PHONE_NUMBER>\u202c"
    nothing = pa.array(["none", None], pa.large_string())
    assert PiiModifier().modify_batch(nothing) is nothing


def test_the_settings_of_nemo_curator_are_understood():
    modifier = PiiModifier(
        language="en",
        supported_entities=["EMAIL_ADDRESS", "credit_card", "IBAN_CODE"],
        anonymize_action="redact",
        batch_size=1000,
        device="gpu",
    )
    assert modifier.modify_document(TEXTS[4]) == "card , ssn 078-05-1120 \U0001f44d\U0001f3fd"
    assert Modify(modifier).name == "PiiModifier"
    assert PiiModifier(anonymize_action=Mask("#")).modify_document("to ann@corp.org") == "to ############"
    assert PiiModifier("en", None, Replace(new_value="-")).modify_document("to ann@corp.org") == "to -"
    assert PiiModifier(supported_entities="URL").modify_document(TEXTS[0]) == TEXTS[0]


def test_detectors_stand_in_the_place_of_the_patterns_or_beside_them():
    text = "Annie and Bo: ann@corp.org"
    assert PiiModifier(detectors=[Names()]).modify_document(text) == "<PERSON> and <NICKNAME> ann@corp.org"
    both = [PatternDetector(), Names()]
    assert PiiModifier(detectors=both).modify_document(text) == "<PERSON> and <NICKNAME> <EMAIL_ADDRESS>"
    assert PiiModifier(detectors=both, supported_entities=["PERSON"]).modify_document(text) == f"<PERSON>{text[5:]}"
    assert PiiModifier(detectors=[Names()], supported_entities=["NICKNAME"]).modify_document("Al is") == "<NICKNAME> is"
    assert PiiModifier(detectors=[Names()], min_score=0.9).modify_document(text) == text
    assert PiiModifier("fr", detectors=[Names()]).modify_document("Jean dit") == "<PERSON> dit"


def test_a_custom_tag_is_known_again():
    modifier = PiiModifier(detectors=[Names()], supported_entities=["NICKNAME"])
    once = modifier.modify_document("Al")
    assert modifier.modify_document(once) == once == "<NICKNAME>"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"supported_entities": ["EMAIL_ADRESS"]},
            UnknownNameError,
            "no entity 'EMAIL_ADRESS'. Did you mean 'EMAIL_ADDRESS'",
        ),
        ({"supported_entities": ["URL", "PERSON", "LOCATION"]}, UsageError, "nothing finds PERSON, LOCATION. Names of"),
        ({"language": "de"}, UsageError, "the patterns go by English words, and the language is 'de'"),
        ({"anonymize_action": "remove"}, UnknownNameError, "no action 'remove'"),
        ({"anonymize_action": "hash"}, UsageError, "the action hash needs a key"),
        ({"anonymize_action": "hash", "key_from_environment": "TAMIS_NO_KEY"}, UsageError, "variable TAMIS_NO_KEY"),
        ({"numbered": True, "anonymize_action": "mask"}, UsageError, "numbered is a setting of the action replace"),
        ({"keep_last": 2}, UsageError, "keep_last is a setting of the action mask, and the action is replace"),
        ({"key": KEY}, UsageError, "key is a setting of the action hash"),
        ({"key": KEY, "anonymize_action": Mask()}, UsageError, "and the action is Mask"),
        ({"min_score": 2}, UsageError, "min_score must be from 0 to 1"),
        ({"detectors": ["patterns"]}, UsageError, "'patterns' is no detector"),
        ({"regions": ["England"]}, UsageError, "two letters"),
    ],
)
def test_what_cannot_be_meant_is_said_when_it_is_made(settings, error, message):
    with pytest.raises(error, match=message):
        PiiModifier(**settings)


def test_the_key_comes_from_the_environment_and_is_written_nowhere(monkeypatch, tmp_path, write_jsonl):
    monkeypatch.setenv("TAMIS_TEST_KEY", KEY)
    modifier = PiiModifier(anonymize_action="hash", key_from_environment="TAMIS_TEST_KEY")
    monkeypatch.delenv("TAMIS_TEST_KEY")  # a worker has it with the description
    assert modifier.modify_document(TEXTS[0]) == PiiModifier(anonymize_action="hash", key=KEY).modify_document(TEXTS[0])
    path = write_jsonl("in.jsonl", [{"text": TEXTS[0]}, {"text": TEXTS[4]}])
    DocumentDataset.read_json(path).append(Modify(modifier)).to_json(tmp_path / "out", workers=1, progress="off")
    written = {p: p.read_text() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert len(written) > 3
    assert not any(KEY in content for content in written.values())
    assert KEY not in json.dumps(describe(Modify(modifier))) + repr(modifier)
    # Another key is another run; the same one is the same.
    again = Modify(PiiModifier(anonymize_action="hash", key=KEY, key_from_environment="TAMIS_TEST_KEY"))
    assert DocumentDataset.read_json(path).append(again).to_json(tmp_path / "out", progress="off").already_complete
    other = Modify(PiiModifier(anonymize_action="hash", key="another key", key_from_environment="TAMIS_TEST_KEY"))
    with pytest.raises(OutputRefusedError):
        DocumentDataset.read_json(path).append(other).to_json(tmp_path / "out", progress="off")


def test_a_run_counts_what_it_found_by_entity(tmp_path, write_jsonl):
    path = write_jsonl("in.jsonl", [{"text": t, "n": i} for i, t in enumerate(TEXTS)])
    result = (
        DocumentDataset.read_json(path)
        .append(Modify(PiiModifier()))
        .to_json(tmp_path / "out", workers=1, progress="off")
    )
    assert result.tally.changed == {"PiiModifier": 3}
    assert {name: n for (_, name), n in result.tally.measures.items()} == {
        "EMAIL_ADDRESS": 4,
        "CREDIT_CARD": 1,
        "US_SSN": 1,
        "PHONE_NUMBER": 1,
    }
    out = read_jsonl(*sorted((tmp_path / "out").glob("*.jsonl")))
    assert [d["n"] for d in out] == list(range(6))
    assert out[1]["text"] is None


def test_numbers_do_not_depend_on_the_documents_beside_it():
    modifier = PiiModifier(numbered=True)
    together = modifier.modify_batch(pa.array([TEXTS[0], TEXTS[0]], pa.large_string())).to_pylist()
    assert together == ["write to <EMAIL_ADDRESS_1> or <EMAIL_ADDRESS_2>, not <EMAIL_ADDRESS_1>"] * 2


# -- spans as a column ----------------------------------------------------------------------------------------


def test_spans_are_a_column_of_places_and_the_text_stays():
    made = PiiSpans(spans_field="where").open()(pa.table({"text": pa.array(TEXTS, pa.string())}))
    assert made["text"].to_pylist() == TEXTS
    for text, spans in zip(TEXTS, made["where"].to_pylist(), strict=True):
        assert [(s["start"], s["end"], s["entity"], s["score"]) for s in spans] == [
            (s.start, s.end, s.entity, s.score) for s in detect(text or "")
        ]
    assert PiiSpans().on_text_field("body").needs(pa.schema([])).texts == ("body",)


def test_hidden_examples_show_no_value():
    for value in (
        "ann@corp.org",
        "4111 1111 1111 1111",
        "078-05-1120",
        "Ann Lee",
        "\u05e9\u05dc\u05d5\u05dd",
        "x" * 500,
        "a1",
    ):
        shown = hidden(value)
        assert sum(map(str.isalnum, shown)) <= 1
        assert len(shown) <= 36
    assert hidden("a\nb\x1bcdef") == "a •\x1b••••"


# -- recipes --------------------------------------------------------------------------------------------------

RECIPE = """
[input]
path = "in.jsonl"

[[stage]]
use = "PiiModifier"
text_field = "title"
numbered = true
supported_entities = ["EMAIL_ADDRESS", "PHONE_NUMBER"]
regions = ["US", "DE"]

[[stage]]
use = "PiiModifier"
anonymize_action = "hash"
key_from_environment = "TAMIS_TEST_KEY"
min_score = 0.6

[output]
path = "out"
"""


def test_a_recipe_says_it_in_toml(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text(json.dumps({"title": "ann@corp.org", "text": "ann@corp.org"}))
    (tmp_path / "r.toml").write_text(RECIPE)
    with pytest.raises(
        RecipeError, match=r"stage 2 \(PiiModifier\): PiiModifier: the environment variable TAMIS_TEST_KEY"
    ):
        load_recipe("r.toml").dataset()
    monkeypatch.setenv("TAMIS_TEST_KEY", KEY)
    first, second = load_recipe("r.toml").dataset().steps
    assert first == Modify(
        PiiModifier(supported_entities=["EMAIL_ADDRESS", "PHONE_NUMBER"], numbered=True, regions=["US", "DE"]), "title"
    )
    assert second.modifier.key == KEY
    row = load_recipe("r.toml").dataset().to_arrow().to_pylist()[0]
    assert row["title"] == "<EMAIL_ADDRESS_1>"
    assert row["text"].startswith("<EMAIL_ADDRESS:")


def test_a_recipe_is_no_place_for_the_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("{}")
    (tmp_path / "r.toml").write_text(RECIPE.replace('key_from_environment = "TAMIS_TEST_KEY"', f'key = "{KEY}"'))
    with pytest.raises(
        RecipeError, match=r"no place for a secret such as .key.\. Name an environment variable .*key_from"
    ):
        load_recipe(tmp_path / "r.toml").dataset()


# -- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "1" * 10_000_000,
        "4111 1111 1111 1111, " * 20_000,
        "a@" * 500_000,
        "<" * 1_000_000,
        "<EMAIL_ADDRESS" * 60_000,
        "\u202e\U0001f468\u200d\U0001f469" * 100_000 + " ann@corp.org",
    ],
    ids=["digits", "cards", "at signs", "brackets", "half a tag", "emoji"],
)
def test_large_and_strange_texts_take_linear_time(text):
    changed = PiiModifier().modify_document(text)
    if "4111" in text:
        assert changed == "<CREDIT_CARD>, " * 20_000
    elif "ann" in text:
        assert changed == text.replace("ann@corp.org", "<EMAIL_ADDRESS>")
    else:
        assert changed == text


def test_spans_that_nest_and_overlap_come_out_as_one_rule_says():
    @dataclass(frozen=True)
    class Overlapping(Names):
        def open(self):
            spans = [Span(0, 5, "PERSON", 0.9), Span(1, 3, "NICKNAME", 1.0), Span(4, 9, "NICKNAME", 0.6)]
            return lambda texts: {i: spans for i, t in enumerate(texts.to_pylist()) if t}

    assert PiiModifier(detectors=[Overlapping()]).modify_document("abcdefghij") == "<PERSON><NICKNAME>j"


# -- the page -------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parent.parent / "docs/pii.md").read_text()


def test_the_page_runs_and_names_every_entity_and_action(write_jsonl, tmp_path, monkeypatch, capsys):
    write_jsonl("raw/a.jsonl", [{"text": t or ""} for t in TEXTS])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PII_KEY", KEY)
    exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)), {})
    assert "('CREDIT_CARD', '4111 1111 1111 1111', 1.0)" in capsys.readouterr().out
    assert "<EMAIL_ADDRESS_2>" in json.dumps(read_jsonl(*Path("clean").glob("*.jsonl")))
    assert read_jsonl(*Path("spans").glob("*.jsonl"))[0]["pii"][0]["entity"] == "EMAIL_ADDRESS"
    (stage,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    Path("r.toml").write_text(f'[input]\npath = "raw/"\n{stage}')
    assert load_recipe("r.toml").dataset().count() == 6
    assert [name for name in [*ENTITIES, *ACTIONS] if f"`{name}`" not in PAGE] == []
    for line in re.findall(r"^tamis (pii .*?)(?:  #.*)?$", PAGE, re.MULTILINE):
        _parser().parse_args(line.split())
