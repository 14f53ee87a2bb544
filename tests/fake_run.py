"""A run without workers: it writes what they would have written and commits it to a real directory."""

from __future__ import annotations

from collections import Counter

import orjson

from tamis.engine.job import Output, Sink, SplitResult
from tamis.engine.output import RunDirectory, RunKey
from tamis.engine.tally import Tally
from tamis.hashing import fingerprint
from tamis.io.files import InputFile
from tamis.io.splits import Piece, Split
from tamis.io.store import LocalStore

__all__ = ["WAYS", "Fake"]


def splits_of(number, *, shared=False):
    if shared:  # a file of three splits each
        files = [InputFile(f"/in/{i}", str(i), 30, "v", "jsonl") for i in range(-(-number // 3))]
        return [Split(i, (Piece(files[i // 3], i % 3 * 10, i % 3 * 10 + 10, 10, whole=False),)) for i in range(number)]
    files = [InputFile(f"/in/{i}", str(i), 10, "v", "jsonl") for i in range(number)]
    return [Split(i, (Piece(file, 0, 10, 10, whole=True),)) for i, file in enumerate(files)]


class Fake:
    """A run without workers: writes what they would have written, and commits it."""

    def __init__(self, path, number=12, store=LocalStore, name="a", *, whole=False, **sink):
        self.sink = Sink(str(path), "jsonl", **sink)
        self.splits = splits_of(number, shared=self.sink.by_input and not whole)
        output = {
            "format": "jsonl",
            "compression": None,
            "by_input": self.sink.by_input,
            "partition_on": self.sink.partition_on,
            "keep_rejects": self.sink.keep_rejects,
            "splits": number,
        }
        self.directory = RunDirectory(store(str(path)), RunKey({"steps": [name], "output": output}), self.sink)

    def write(self, folder, name, content):
        aside = f"{folder}.{fingerprint(name.encode())}"
        with self.directory.store.create(aside) as file:
            file.write(content)
        return aside

    def result(self, split):
        aside, rows = self.directory.aside(split), split.index % 4
        base = f"part-{split.index:05d}.jsonl"
        names = {base: b"{}\n" * rows}
        if self.sink.by_input:
            folder = f"{split.index % 3}/" if self.sink.partition_on else ""
            names = {f"{folder}{split.pieces[0].file.name}.jsonl": b"%d\n" % split.index * rows}
        elif self.sink.partition_on:
            names = {f"{value}/{base}": b"%d\n" % value * value for value in (1, 2, 10) if (split.index + value) % 3}
        if self.sink.keep_rejects:
            names[f"_rejects/{base}"] = b"1\n"
        outputs = tuple(
            Output(self.write(aside, name, body), name, body.count(b"\n"), len(body), fingerprint(body))
            for name, body in names.items()
        )
        documents = [o for o in outputs if not o.name.startswith("_")]
        kept = sum(o.rows for o in documents)
        rejected = Counter({("F", "bad"): 1} if self.sink.keep_rejects else {})
        tally = Tally(kept + rejected.total(), kept, 10, sum(o.bytes for o in documents), 5, rejected)
        quarantine = None
        if split.index % 5 == 2:
            record = {"piece": 0, "file": split.pieces[0].file.path, "line": 1, "cause": "cut"}
            quarantine = self.write(aside, "quarantine", orjson.dumps(record) + b"\n")
            tally += Tally(records=1, quarantined=Counter({"cut": 1}))
        return SplitResult(split.index, tally, outputs, quarantine, (5,) * len(split.pieces))

    def names(self):
        return sorted({f"{s.pieces[0].file.name}.jsonl" for s in self.splits}) if self.sink.by_input else []

    def run(self, mode="auto", order=lambda splits: splits, until=None):
        with self.directory.lock():
            if self.directory.claim(mode) is not None:
                return None
            self.directory.start(None, self.names())
            try:
                todo = [s for s in self.splits if s.index not in self.directory.done]
                for number, split in enumerate(order(todo)):
                    if number == until:
                        raise KeyboardInterrupt
                    self.directory.commit(split, self.result(split))
                self.directory.quarantine(self.splits)
                return self.directory.finish(self.splits)
            finally:
                self.directory.abandon()


WAYS = {
    "plain": {},
    "rejects": {"keep_rejects": True},
    "partition": {"partition_on": "l", "keep_rejects": True},
    "by_input": {"by_input": True},
    "by_input, whole": {"by_input": True, "whole": True},
    "by_input, partition": {"by_input": True, "whole": True, "partition_on": "l"},
}
