"""NeMo Curator's part of the benchmark of the law-question curation: its functions in a plain loop over lines.

Its modifiers and filters are used unchanged, as in run_curator.py. What a user of NeMo Curator writes himself is
here as he would write it: HTML by BeautifulSoup with lxml, white space and section numbers by four regular expressions.
Personal data is Presidio's, as in NeMo Curator 0.9: its analyzer as it comes, and its anonymizer.
"""

import argparse
import hashlib
import json
import re
import time
from collections import Counter
from pathlib import Path

import orjson
from bs4 import BeautifulSoup
from run_curator import enter

for package in (".stages.text.modifiers", ".stages.text.modifiers.unicode"):
    enter(f"nemo_curator{package}")

from nemo_curator.stages.text.filters.heuristic.repetition.repetition import RepeatingTopNGramsFilter  # noqa: E402
from nemo_curator.stages.text.filters.heuristic.string import WordCountFilter  # noqa: E402
from nemo_curator.stages.text.modifiers.unicode.unicode_reformatter import UnicodeReformatter  # noqa: E402

ENTITIES = ["EMAIL_ADDRESS", "PHONE_NUMBER", "US_SSN", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS"]
SECTIONS = (
    (re.compile(r"\b[Ss]ec(?:tion|\.)\s+(\d[\w.-]*)"), r"§ \1"),
    (re.compile(r"§\s*(\d)"), r"§ \1"),
    (re.compile(r"(§ [\w.-]+)\s+\("), r"\1("),
    (re.compile(r"\b[Aa]rt(?:icle|\.)\s+(\d+)"), r"Art. \1"),
)
TEMPLATE = "Give the tags of the question below. Common tags: {}\n\nTitle: {}\nQuestion: {}\nTags:\n"


def redactor(pipeline):
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider
    from presidio_anonymizer import AnonymizerEngine

    configuration = {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": pipeline}]}
    engine = NlpEngineProvider(nlp_configuration=configuration).create_engine()
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])
    anonymizer = AnonymizerEngine()
    analyzer.analyze("warm up: a@b.org", language="en")

    def redact(text):
        return anonymizer.anonymize(text, analyzer.analyze(text, language="en", entities=ENTITIES)).text

    return redact


def cleaned(text, redact):
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+", " ", text)).strip()
    if redact is not None:
        text = redact(text)
    for pattern, replacement in SECTIONS:
        text = pattern.sub(replacement, text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pipeline")
    options = parser.parse_args()
    redact = redactor(options.pipeline) if options.pipeline else None
    unicode, words = UnicodeReformatter(), WordCountFilter(min_words=16, max_words=10**9)
    n_grams = RepeatingTopNGramsFilter(n=5, max_repeating_ngram_ratio=0.15)
    begin, kept = time.process_time(), 0
    counts = Counter()
    with options.input.open("rb") as lines:
        for line in lines:
            counts.update(orjson.loads(line)["tags"].split())
    common = ", ".join(tag for tag, _ in counts.most_common(100))
    options.output.mkdir(parents=True)
    parts = {part: (options.output / f"{part}.jsonl").open("wb") for part in ("train", "validation")}
    with options.input.open("rb") as lines:
        for line in lines:
            row = orjson.loads(line)
            question = BeautifulSoup(unicode.modify_document(row["question"]), "lxml").get_text()
            row["question"] = question = cleaned(question, redact)
            row["title"] = cleaned(unicode.modify_document(row["title"]), redact)
            if not words.keep_document(words.score_document(question)) or row.get("score", 0) < 0:
                continue
            if not n_grams.keep_document(n_grams.score_document(question)):
                continue
            tags = row["tags"].split()
            row |= {"tags": tags, "completion": ", ".join(tags)}
            row["prompt"] = TEMPLATE.format(common, row["title"], question)
            kept += 1
            last = hashlib.md5(row["id"].encode()).digest()[0] >= 243
            parts["validation" if last else "train"].write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    for file in parts.values():
        file.close()
    print(json.dumps({"seconds": time.process_time() - begin, "kept": kept}))


if __name__ == "__main__":
    main()
