"""A tiny embedding model in the layout of sentence-transformers, and what it should say, in plain torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from tiny_checkpoints import enlarge, save_tokenizer

WIDTH = 32


def bert_directory(path: Path, *, seed: int = 0) -> Path:
    """A plain BERT encoder of two layers with its tokenizer."""
    save_tokenizer(path, "wordpiece", max_length=64)
    shape = BertConfig(
        vocab_size=400,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    enlarge(BertModel(shape), seed).save_pretrained(path)
    return path


def sentence_embedder(
    path: Path, *, seed: int = 0, max_length: int = 16, pool: str = "mean_tokens", normalize: bool = True
) -> Path:
    """The same with modules.json, a pooling folder, a limit on tokens, and perhaps a normalisation."""
    bert_directory(path, seed=seed)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")] + [("2_Normalize", "Normalize")] * normalize
    modules = [
        {"idx": i, "name": str(i), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for i, (folder, kind) in enumerate(kinds)
    ]
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir()
    flags = {f"pooling_mode_{name}": name == pool for name in ("cls_token", "mean_tokens", "max_tokens", "lasttoken")}
    (path / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": WIDTH, **flags}))
    (path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_length, "do_lower_case": False}))
    return path


def expected(
    path: Path, texts: list[str], *, pool: str = "mean", normalize: bool = True, max_length: int = 16
) -> np.ndarray:
    """The vectors of the texts, one by one, float32 [texts, width]."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = BertModel.from_pretrained(path).eval()
    rows = []
    for text in texts:
        ids = torch.tensor([tokenizer(text, truncation=True, max_length=max_length)["input_ids"]])
        with torch.inference_mode():
            states = model(input_ids=ids).last_hidden_state[0]
        row = {"mean": states.mean(0), "first": states[0], "last": states[-1]}[pool]
        rows.append(row / row.norm() if normalize else row)
    return torch.stack(rows).numpy()
