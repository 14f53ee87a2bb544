"""A tokenizer of whole words, the same in every process: trained ones are not, and labels change with the pieces."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tiny_checkpoints import WORDS, save_tokenizer


def save_word_tokenizer(path: Path) -> None:
    """In the place of the tokenizer of a directory, with its special tokens and limit."""
    save_tokenizer(path)
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *sorted(set(WORDS))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(path / "tokenizer.json"))
