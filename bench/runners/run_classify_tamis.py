"""Tamis's part of bench/classify.py: a classifier as its users call it."""

import json
import sys
import time

import pyarrow as pa

from tamis.classifiers import DistributedDataClassifier
from tamis.meter import collecting

program, model, texts = sys.argv[1:4]
table = pa.table({"text": json.load(open(texts, encoding="utf-8"))})  # noqa: SIM115, PTH123
dtype = {"tamis-fp32": "float32", "tamis-int8": "int8"}.get(program, "auto")
stage = DistributedDataClassifier(model=model, max_length=512, dtype=dtype).open()
stage(table.slice(0, 8))
begin = time.perf_counter()
with collecting() as found:
    labels = stage(table).column("pred").to_pylist()
seconds = time.perf_counter() - begin
padding = 1 - found["tokens"] / found["padded_tokens"]
print(json.dumps({"seconds": seconds, "labels": labels, "padding": padding}))
