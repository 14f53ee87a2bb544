"""Tagged texts for `make law` where no questions are at hand: ``python examples/documentation_questions.py out.jsonl``.

The docstrings of this Python's standard library: the first line is a title, the rest a question, and the module and its
part are the tags. Their names are often in the text, so these are easier than what people ask.
"""

import json
import sys
from collections import Counter
from pathlib import Path

from tamis.corpus import Roots, collect

FEWEST, MOST = 12, 4000  # texts with a tag; texts in all

rows = []
for found in collect(roots=Roots(Roots.of_interpreter().stdlib)):
    title, _, question = found["text"].strip().partition("\n")
    if found["source"] == "docstring" and len(question.split()) > 15:
        module = found["name"].split(".")
        tags = [part.strip("_") for part in dict.fromkeys(module[:2]) if part.islower()]
        rows.append({"id": found["name"], "title": title, "question": question.strip(), "tags": tags})

common = {tag for tag, n in Counter(tag for row in rows for tag in row["tags"]).items() if n >= FEWEST and tag}
kept = [row | {"tags": tags} for row in rows if (tags := [tag for tag in row["tags"] if tag in common])][:MOST]
target = Path(sys.argv[1])
target.parent.mkdir(parents=True, exist_ok=True)
target.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
print(f"{len(kept):,} texts with {len(common):,} tags in {target}")
