"""A stand-in for KenLM: bigram models in ARPA text, in plain Python, for machines on which KenLM is not built."""

import importlib.machinery
import sys
import types
from itertools import pairwise
from pathlib import Path

ARPA = """\\data\\
ngram 1=6
ngram 2=3

\\1-grams:
-1.0\t<unk>\t0
0\t<s>\t-0.3
-0.6\t</s>\t0
-0.5\tthe\t-0.2
-0.9\tcat\t-0.1
-0.7\t雨\t0

\\2-grams:
-0.2\t<s> the
-0.4\tthe cat
-0.3\tcat </s>

\\end\\
"""
"""log10 of probabilities, and of what is taken off where there is no bigram."""


class Model:
    """A model of words and pairs of words."""

    def __init__(self, path, config):
        assert config.show_progress is False
        assert config.arpa_complain == "none"
        text = Path(path).read_text(encoding="utf-8")
        if "\\end\\" not in text:
            raise OSError("Cannot read model (end of file in the 1-gram)")
        rows = [line.split("\t") for line in text.split("\n") if "\t" in line]
        self.known = {tuple(row[1].split(" ")): float(row[0]) for row in rows}
        self.off = {row[1]: float(row[2]) for row in rows if len(row) > 2}

    def score(self, sentence, bos, eos):
        assert bos
        assert eos
        assert b"\0" not in sentence
        words = ["<s>", *(w if (w,) in self.known else "<unk>" for w in sentence.decode().split(" ")), "</s>"]
        return sum(
            self.known[a, b] if (a, b) in self.known else self.off[a] + self.known[(b,)] for a, b in pairwise(words)
        )


def put_in_place(monkeypatch):
    """Let ``import kenlm`` give this model."""
    module = types.ModuleType("kenlm", "A stand-in.")
    module.Model, module.Config = Model, types.SimpleNamespace
    module.ARPALoadComplain = types.SimpleNamespace(NONE="none")
    module.__spec__ = importlib.machinery.ModuleSpec("kenlm", None)
    monkeypatch.setitem(sys.modules, "kenlm", module)
