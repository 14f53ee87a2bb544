"""Make a model directory for bench/classify.py: MiniLM with its real weights, the others with random ones.

The heads are random too, and shifted so that the eight labels are about equally frequent: every program must give
the labels of the same float32 numbers, whose margins are smaller than those of any trained model.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
)

from tamis.classifiers.layouts import KNOWN_BASES
from tamis.models.embed import find_embedder

LABELS = 8
name, out = sys.argv[1], Path(sys.argv[2])
minilm = find_embedder("all-MiniLM-L6-v2", who="bench")
torch.manual_seed(7)
if name == "minilm":
    model = BertForSequenceClassification.from_pretrained(minilm, num_labels=LABELS)
    torch.nn.init.normal_(model.classifier.weight, std=0.3)
elif name == "bert-base":
    model = BertForSequenceClassification(BertConfig(num_labels=LABELS))
else:
    known = {k: v for k, v in KNOWN_BASES["microsoft/deberta-v3-base"].items() if k != "model_type"}
    model = DebertaV2ForSequenceClassification(DebertaV2Config(**known, num_labels=LABELS))
model = model.eval().float()
if name != "minilm":  # a trained body tells texts apart; a fresh one needs larger weights to do so
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(2)
tokenizer = AutoTokenizer.from_pretrained(minilm, model_max_length=512)
words = ("alpha", "law", "river", "code", "music")
texts = [" ".join(f"{word} {i}" for word in words[: 1 + i % 5]) * (1 + i % 9) for i in range(64)]


def logits() -> torch.Tensor:
    return torch.cat([model(**tokenizer(t, return_tensors="pt", truncation=True)).logits for t in texts])


with torch.inference_mode():
    model.classifier.weight /= logits().std(0).mean()
    model.classifier.bias -= logits().mean(0)
shutil.rmtree(out, ignore_errors=True)
model.save_pretrained(out)
tokenizer.save_pretrained(out)
made = json.loads((out / "tokenizer_config.json").read_text())
(out / "tokenizer_config.json").write_text(json.dumps({**made, "model_max_length": 512}))
