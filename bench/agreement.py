"""Decisions of Tamis beside those of NeMo Curator and datatrove on real documents, and why they differ.

    python bench/agreement.py --out agreement.json

Every rule is asked about every document, whatever another rule said. Where two decisions differ, the rule is stated in
plain Python with the peer's ways as switches (``restated.py``): the switch that turns one decision into the other is
the reason. See README.md in this folder.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import corpus
import pyarrow as pa
from filters import DEFAULT_CACHE, HERE, python_of
from restated import RULES
from runners.gopher_loop import UNSPACED

from tamis import DocumentDataset, filters
from tamis.filters import ScoreFilter

TOP = ((2, 0.20), (3, 0.18), (4, 0.16))
DUPLICATE = tuple(zip(range(5, 11), (0.15, 0.14, 0.13, 0.12, 0.11, 0.10), strict=True))
LARGEST = 100_000
"""Characters of the largest document; spaCy, which divides sentences for datatrove, takes a minute for longer ones."""
CHECKED = 200
"""Documents of equal decisions on which the plain statement of a rule is held to both."""


def documents(folder: Path, count: int) -> tuple[list[str], list[str]]:
    """(ids, texts) of the first documents of a corpus, some of each file in turn."""
    files = [path.open("rb") for path in sorted(folder.glob("*.jsonl"))]
    rows = (json.loads(line) for line in itertools.chain.from_iterable(zip(*files, strict=False)))
    found = list(itertools.islice((row for row in rows if 0 < len(row["text"]) <= LARGEST), count))
    for file in files:
        file.close()
    return [row["id"] for row in found], [row["text"] for row in found]


def asked(peer: str, source: Path, output: Path, cache: Path) -> dict[str, list[int | None]]:
    """What a peer decides, in an environment of its own."""
    command = [str(python_of(f"catalogue-{peer}", cache)), str(HERE / "runners" / "run_agreement.py")]
    done = subprocess.run(
        [*command, peer, str(source), str(output)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{peer} failed:\n{done.stderr[-3000:]}")
    found: dict[str, list[int | None]] = json.loads(output.read_text())
    return found


def own_filter(name: str) -> Any:
    kind, _, n = name.partition(" ")
    made = getattr(filters, kind)
    bounds = dict((*TOP, *DUPLICATE))
    return made(int(n), bounds[int(n)]) if n else made()


def own(name: str, table: pa.Table) -> list[int]:
    """Tamis's decisions by a filter, or by a rule set where the name is that of one."""
    if name[0].isupper():
        steps: Any = [ScoreFilter(own_filter(name))]
    elif name == "c4_quality":  # with datatrove's bounds
        steps = filters.c4_quality(min_words_per_line=3, min_sentences=5)
    else:
        steps = getattr(filters, name)()
    kept = set(DocumentDataset.from_arrow(table).append(*steps).to_arrow()["id"].to_pylist())
    return [int(i in kept) for i in table["id"].to_pylist()]


def reason(name: str, text: str, ours: int, theirs: int) -> str:
    """The switch that turns our decision into theirs; several in their order, or "unexplained"."""
    if name not in RULES or int(RULES[name][1](text, frozenset())) != ours:
        return "characters that are words" if UNSPACED.search(text) else "not stated"
    switches, keeps = RULES[name]
    for size in range(1, len(switches) + 1):
        for on in itertools.combinations(switches, size):
            if int(keeps(text, frozenset(on))) == theirs:
                return " and ".join(on)
    return "unexplained"


def compared(name: str, texts: Sequence[str], ours: Sequence[int], theirs: Sequence[int | None]) -> dict[str, Any]:
    """Counts of equal and differing decisions, by reason."""
    differ = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if b is not None and a != b]
    raised = sum(b is None for b in theirs)
    reasons = Counter(reason(name, texts[i], ours[i], theirs[i] or 0) for i in differ)
    stated = 0
    if name in RULES:
        keeps = RULES[name][1]
        step = max(1, len(texts) // CHECKED)
        stated = sum(int(keeps(texts[i], frozenset())) != ours[i] for i in range(0, len(texts), step))
    only = sum(ours[i] for i in differ)
    return {
        "documents": len(texts),
        "equal": 1 - len(differ) / (len(texts) - raised),
        "kept by tamis alone": only,
        "kept by the peer alone": len(differ) - only,
        "raised": raised,
        "reasons": dict(reasons.most_common()),
        "statement differs from tamis": stated,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--megabytes", type=int, default=100, help="size of the corpus that they are taken from")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--peers", nargs="+", choices=["curator", "datatrove"], default=["curator", "datatrove"])
    parser.add_argument("--reuse", action="store_true", help="what the peers decided in the last run")
    parser.add_argument("--out", type=Path, help="write the counts there as JSON")
    options = parser.parse_args()
    folder = options.cache / f"corpus-{options.megabytes}"
    corpus.build(folder, options.megabytes)
    ids, texts = documents(folder, options.documents)
    table = pa.table({"id": ids, "text": pa.array(texts, pa.large_string())})
    source = options.cache / "agreement"
    source.mkdir(exist_ok=True)
    with (source / "texts.jsonl").open("w") as out:
        out.writelines(json.dumps({"id": i, "text": text}) + "\n" for i, text in zip(ids, texts, strict=True))
    report: dict[str, Any] = {}
    for peer in options.peers:
        stored = options.cache / f"agreement-{peer}.json"
        theirs = json.loads(stored.read_text()) if options.reuse else asked(peer, source, stored, options.cache)
        print(f"{peer}, {len(texts):,} documents\n\n| rule | equal | kept by Tamis alone | by the peer alone | why |")
        print("|---|---:|---:|---:|---|")
        for name, decided in theirs.items():
            if name == "PythonCommentToCodeFilter":  # of code
                continue
            found = report[f"{peer} {name}"] = compared(name, texts, own(name, table), decided)
            why = "; ".join(f"{what}: {count}" for what, count in found["reasons"].items())
            print(
                f"| {name} | {found['equal']:.2%} | {found['kept by tamis alone']} "
                f"| {found['kept by the peer alone']} | {why} |",
                flush=True,
            )
            if found["statement differs from tamis"]:
                print(f"{name}: {found['statement differs from tamis']} documents stated otherwise", file=sys.stderr)
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
