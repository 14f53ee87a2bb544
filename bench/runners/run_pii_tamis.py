"""Tamis's part of the benchmark of PII detection.

patterns  the patterns, over batches
person    the same spaCy pipeline that Presidio is given, as a detector (runs in Presidio's environment)

Seconds are those of the processor: both programs run on one thread, and the machine may be shared.
"""

import argparse
import json
import time
from pathlib import Path

import pyarrow as pa

from tamis.pii import PatternDetector, SpacyDetector, resolve


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["patterns", "person"])
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pipeline")
    parser.add_argument("--entities", nargs="*")
    options = parser.parse_args()
    texts = [json.loads(line)["text"] for line in options.input.open(encoding="utf-8")]
    if options.task == "patterns":
        detector = PatternDetector(tuple(options.entities)) if options.entities else PatternDetector()
    else:
        detector = SpacyDetector(options.pipeline)
    find = detector.open()
    batches = [pa.array(texts[i : i + 2000], pa.large_string()) for i in range(0, len(texts), 2000)]
    find(batches[0][:20])  # compiles
    start = time.process_time()
    found = [find(batch) for batch in batches]
    seconds = time.process_time() - start
    spans = [
        [[s.start, s.end, s.entity, s.score] for s in resolve(rows.get(row, []))]
        for rows, batch in zip(found, batches, strict=True)
        for row in range(len(batch))
    ]
    options.output.write_text(json.dumps({"seconds": seconds, "entities": detector.entities, "spans": spans}))


if __name__ == "__main__":
    main()
