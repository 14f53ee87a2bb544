"""Texts in many scripts with what is expected of them, kept as data; and known failures, which must go on failing."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tamis import modifiers
from tamis.text.ngrams import top_ngram_share
from tamis.text.words import count_words

FOLDER = Path(__file__).parent / "cases"


def cases(name, *marks):
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").strip("\n").split("\n")
    rows = [json.loads(line) for line in lines]
    labels = [" ".join(filter(None, [row.get("modifier"), row["name"]])) for row in rows]
    assert len(set(labels)) == len(labels), "two cases share a name"
    return [pytest.param(row, id=label, marks=marks) for row, label in zip(rows, labels, strict=True)]


def large(text):
    # In company, and neither first nor last.
    return pa.array(["before it ", text, " after it"], pa.large_string())


def modified(case):
    modifier = getattr(modifiers, case["modifier"])(**case.get("options", {}))
    return modifier.modify_batch(large(case["text"]))[1].as_py()


@pytest.mark.parametrize("case", cases("words"))
def test_words(case):
    assert count_words(large(case["text"]), case.get("lang", "auto"))[1] == case["expected"]


@pytest.mark.parametrize("case", cases("repetition"))
def test_repetition(case):
    assert top_ngram_share(large(case["text"]), case["n"], case.get("lang", "auto"))[1] == case["expected"]


@pytest.mark.parametrize("case", cases("modifiers"))
def test_modifiers(case):
    once = modified(case)
    assert once == case["expected"]
    if not case.get("only_once"):  # where the result speaks of what is removed, as of Markdown
        assert modified({**case, "text": once}) == once


@pytest.mark.parametrize("case", cases("known_failures", pytest.mark.xfail(strict=True, reason="not done yet")))
def test_known_failures(case):
    assert modified(case) == case["expected"]
