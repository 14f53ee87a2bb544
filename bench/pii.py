"""Tamis beside Presidio: how well personal data is found, and how fast.

    python bench/pii.py --labelled synth_dataset_v2.json --wikigold wikigold.conll.txt --text TEXTS.jsonl \
        --pipeline FOLDER --out results.json

``--labelled`` is the set of presidio-evaluator's sdist (1,500 texts), ``--wikigold`` sentences in CoNLL's columns,
``--text`` JSONL with a field ``text``, and ``--pipeline`` the folder of a spaCy pipeline. Presidio runs in an
environment of its own (``--python``, or one that this program makes). README.md in this folder says more.

A span is found if one of the same entity covers the same place to at least half: characters in both over characters
in either (the rule of presidio-evaluator's SpanEvaluator with a threshold of 0.5, without its stop words). Each span
finds one at most. F2 weighs recall twice as much as precision.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "tamis-bench"
NAMES = {
    "DOMAIN_NAME": "URL",
    "STREET_ADDRESS": "ADDRESS",
    "IBAN_CODE": "IBAN",
    "GPE": "LOCATION",
    "PER": "PERSON",
    "LOC": "LOCATION",
}
"""The labels' and Presidio's names, where Tamis has another one."""
PATTERNS = [
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "URL",
    "IP_ADDRESS",
    "CREDIT_CARD",
    "IBAN",
    "US_SSN",
    "US_DRIVER_LICENSE",
    "DATE_TIME",
    "ADDRESS",
]
THRESHOLDS = (0.0, 0.35, 0.5)
"""Presidio's lowest score; it comes with 0. Of each entity its best of the three is shown as well."""


def python_of(cache: Path) -> Path:
    """The interpreter of Presidio's environment, which is made when it is missing or out of date."""
    wanted = HERE / "requirements-pii.txt"
    stamp = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    folder = cache / "venv-pii"
    python, marker = folder / "bin" / "python", folder / "installed"
    if not (marker.exists() and marker.read_text() == stamp):
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "-r", str(wanted), "-e", str(HERE.parent)]
        subprocess.run(command, check=True)
        marker.write_text(stamp)
    return python


def labelled(path: Path) -> tuple[list[str], list[list[tuple[int, int, str]]]]:
    """Texts and their spans."""
    rows = json.loads(path.read_text("utf-8"))
    return [row["full_text"] for row in rows], [
        [(s["start_position"], s["end_position"], NAMES.get(s["entity_type"], s["entity_type"])) for s in row["spans"]]
        for row in rows
    ]


def wikigold(path: Path) -> tuple[list[str], list[list[tuple[int, int, str]]]]:
    """Sentences, their words joined by spaces, and the spans of neighbouring words with one label."""
    texts, spans = [], []
    for block in path.read_text("utf-8").split("\n\n"):
        words = [line.rsplit(" ", 1) for line in block.splitlines() if line and not line.startswith("-DOCSTART-")]
        if not words:
            continue
        text, found = "", []
        for word, label in words:
            start = len(text) + (1 if text else 0)
            text = f"{text} {word}" if text else word
            name = label.partition("-")[2]
            if name and found and found[-1][2] == name and found[-1][1] == start - 1 and label.startswith("I-"):
                found[-1] = (found[-1][0], len(text), name)
            elif name:
                found.append((start, len(text), name))
        texts.append(text)
        spans.append([(a, b, NAMES.get(name, name)) for a, b, name in found])
    return texts, spans


def compare(gold: list, found: list, least: float) -> dict[str, tuple[int, int, int]]:
    """(found, found wrongly, missed) by entity."""
    right, wrong, missed = Counter(), Counter(), Counter()
    for true, said in zip(gold, found, strict=True):
        left = {(a, b, NAMES.get(name, name)) for a, b, name, score in said if score >= least}
        for a, b, name in sorted(true):
            near = [s for s in left if s[2] == name and min(b, s[1]) - max(a, s[0]) > 0]
            best = max(near, key=lambda s: overlap((a, b), s), default=None)
            if best and overlap((a, b), best) >= 0.5:
                left.remove(best)
                right[name] += 1
            else:
                missed[name] += 1
        wrong.update(name for _, _, name in left)
    return {name: (right[name], wrong[name], missed[name]) for name in {*right, *wrong, *missed}}


def overlap(a: tuple, b: tuple) -> float:
    return (min(a[1], b[1]) - max(a[0], b[0])) / (max(a[1], b[1]) - min(a[0], b[0]))


def scores(counts: tuple[int, int, int]) -> dict[str, float]:
    right, wrong, missed = counts
    precision = right / (right + wrong) if right + wrong else 0.0
    recall = right / (right + missed) if right + missed else 0.0
    f2 = 5 * precision * recall / (4 * precision + recall) if right else 0.0
    return {"precision": round(precision, 3), "recall": round(recall, 3), "f2": round(f2, 3)}


class Bench:
    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._peer = options.python or python_of(options.cache)
        self._pipeline = options.pipeline
        self._folder = folder

    def run(self, runner: str, task: str, texts: list[str], *entities: str) -> dict:
        """What a runner answers, in a process of its own with one thread."""
        source, output = self._folder / "texts.jsonl", self._folder / "answer.json"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
        own = runner == "tamis" and task == "patterns"
        command = [sys.executable if own else str(self._peer), str(HERE / "runners" / f"run_pii_{runner}.py"), task]
        command += [str(source), str(output), "--pipeline", str(self._pipeline)]
        command += ["--entities", *entities] if entities else []
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        subprocess.run(command, check=True, env={**os.environ, **threads, "PYTHONWARNINGS": "ignore"})
        return json.loads(output.read_text())

    def quality(self, texts: list[str], gold: list) -> dict[str, dict]:
        """Scores of the pattern entities: Tamis, Presidio as it comes, and Presidio at its best threshold."""
        ours = compare(gold, self.run("tamis", "patterns", texts)["spans"], 0.0)
        theirs = self.run("presidio", "quality", texts)["spans"]
        by_least = [compare(gold, theirs, least) for least in THRESHOLDS]
        none = (0, 0, 0)
        return {
            name: {
                "spans": sum(s[2] == name for row in gold for s in row),
                "tamis": scores(ours.get(name, none)),
                "presidio": scores(by_least[0].get(name, none)),
                "presidio best": max((scores(c.get(name, none)) for c in by_least), key=lambda s: s["f2"]),
            }
            for name in PATTERNS
        }

    def persons(self, texts: list[str], gold: list) -> dict[str, dict]:
        """PERSON and LOCATION with one spaCy pipeline: through Tamis's detector and through Presidio."""
        ours, theirs = self.run("tamis", "person", texts), self.run("presidio", "quality", texts)
        answer = {"seconds": {"tamis": ours["seconds"], "presidio (all entities)": theirs["seconds"]}}
        for name in ("PERSON", "LOCATION"):
            answer[name] = {
                who: scores(compare(gold, said["spans"], 0.0)[name])
                for who, said in (("tamis", ours), ("presidio", theirs))
            }
        return answer

    def speed(self, texts: list[str], rounds: int, peer_bytes: int) -> dict[str, float]:
        """MB per second of processor, rounds interleaved; Presidio gets each n-th text, about ``peer_bytes`` in all."""
        total = sum(len(text.encode()) for text in texts)
        few = texts[:: max(1, total // peer_bytes)]
        size = sum(len(text.encode()) for text in few)
        theirs_names = ["IBAN_CODE" if name == "IBAN" else name for name in PATTERNS]
        ours, all_ours, theirs, entities = [], [], [], []
        for _ in range(rounds):
            answer = self.run("presidio", "patterns", few, *theirs_names)
            entities = [NAMES.get(name, name) for name in answer["entities"]]
            theirs.append(size / answer["seconds"] / 1e6)
            ours.append(total / self.run("tamis", "patterns", texts, *entities)["seconds"] / 1e6)
            all_ours.append(total / self.run("tamis", "patterns", texts)["seconds"] / 1e6)
        middle = statistics.median
        return {
            "megabytes": round(total / 1e6, 1),
            "megabytes for presidio": round(size / 1e6, 2),
            "entities": entities,
            "tamis, these entities, MB/s": round(middle(ours), 2),
            "tamis, every pattern, MB/s": round(middle(all_ours), 2),
            "presidio, patterns alone, MB/s": round(middle(theirs), 4),
            "ratio": round(middle([a / b for a, b in zip(ours, theirs, strict=True)]), 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labelled", type=Path)
    parser.add_argument("--wikigold", type=Path)
    parser.add_argument("--text", type=Path, nargs="*", default=[])
    parser.add_argument("--pipeline", type=Path, required=True)
    parser.add_argument("--python", type=Path, help="interpreter with Presidio, spaCy and Tamis")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-bytes", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        if options.labelled:
            results["labelled"] = bench.quality(*labelled(options.labelled))
            results["labelled, same model"] = bench.persons(*labelled(options.labelled))
        if options.wikigold:
            results["wikigold, same model"] = bench.persons(*wikigold(options.wikigold))
        for path in options.text:
            texts = [json.loads(line)["text"] for line in path.open(encoding="utf-8")]
            results[f"speed {path.name}"] = bench.speed(texts, options.rounds, options.peer_bytes)
    print(json.dumps(results, indent=2))
    if options.out:
        options.out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
