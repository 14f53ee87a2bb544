"""Tiny causal language models of three architectures, for generation: each with the quirks of its kind."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, Qwen2Config

from tiny_checkpoints import WORDS
from tiny_llama import llama_tokenizer

TAGS = ["contract", "contract-law", "criminal", "united states", "straße", "c++", "a", "ab"]
_TEXT = [*WORDS, *TAGS, "question", "answer", "a, b", "the law, the court", "\n\n"]
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
}


def byte_tokenizer(vocabulary: int = 420) -> Tokenizer:
    """Byte-level BPE as GPT-2, Qwen and SmolLM2 have it, with tokens that merge a comma and what is around it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT * 3 + ["t, c", "a, c", "b, a"] * 9, trainer)
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    return tokenizer


def generator(path: Path, kind: str, *, seed: int = 0, **config) -> torch.nn.Module:
    """A directory of that architecture: llama and gemma2 with SentencePiece's pieces, qwen2 with bytes."""
    path.mkdir(parents=True, exist_ok=True)
    bytes_ = kind == "qwen2"
    tokenizer = byte_tokenizer() if bytes_ else llama_tokenizer()
    tokenizer.save(str(path / "tokenizer.json"))
    end = "<|end|>" if bytes_ else "</s>"
    written = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end, "model_max_length": 128}
    if not bytes_:
        written |= {"bos_token": "<s>", "unk_token": "<unk>"}
    (path / "tokenizer_config.json").write_text(json.dumps(written))
    shape = {**SIZES, "vocab_size": tokenizer.get_vocab_size(), "eos_token_id": tokenizer.token_to_id(end), **config}
    made = {"llama": LlamaConfig, "gemma2": Gemma2Config, "qwen2": Qwen2Config}[kind]
    if kind == "gemma2":
        shape = {"head_dim": 8, "sliding_window": 24, "query_pre_attn_scalar": 8, **shape}
    attention = "eager" if kind == "gemma2" else "sdpa"
    model = AutoModelForCausalLM.from_config(made(**shape), attn_implementation=attention)
    state = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=state) * (1.0 if "embed" in name else 0.25))
    model.eval().save_pretrained(path)
    return model
