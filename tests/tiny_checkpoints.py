"""Tiny models in exactly the layouts that published classifiers have, made with torch and transformers alone."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForSequenceClassification, DebertaV2Config, DebertaV2Model

_SENTENCE = (
    "the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which "
    "one you were her all she there would their we him been has when who will more no if out so said what up its about "
    "games sports law court judge soup recipe bread football match goal player quality research science history art "
    "music school lesson teacher learn number water light energy city river mountain 日本 語 العربية émoji"
)
WORDS = _SENTENCE.split()
"""What the tiny tokenizers are trained on."""


@cache
def tiny_tokenizer(kind: str = "wordpiece") -> Tokenizer:
    """A tokenizer of 400 entries with [PAD] 0, [CLS] 1, [SEP] 2, [UNK] 3; the same one in all of a process.

    Training a Unigram model does not give the same pieces every time.
    """
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=400, special_tokens=special, unk_token="[UNK]", show_progress=False
        )
    tokenizer.train_from_iterator([" ".join(WORDS), *WORDS] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def save_tokenizer(path: Path, kind: str = "wordpiece", *, max_length: int = 64) -> None:
    """tokenizer.json and tokenizer_config.json as a fast tokenizer is published."""
    path.mkdir(parents=True, exist_ok=True)
    tiny_tokenizer(kind).save(str(path / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
    }
    (path / "tokenizer_config.json").write_text(json.dumps(config))


def deberta_config(**changes) -> DebertaV2Config:
    """DeBERTa-v3-base with every dimension made small."""
    return DebertaV2Config(
        **{
            "vocab_size": 400,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": 64,
            "relative_attention": True,
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "layer_norm_eps": 1e-7,
            "max_relative_positions": -1,
            "position_biased_input": False,
            "type_vocab_size": 0,
            "pad_token_id": 0,
            **changes,
        }
    )


def enlarge(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights that are large enough for the answers to differ from text to text."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            scale = 0.3 if parameter.ndim > 1 else 0.1
            noise = torch.randn(parameter.shape, generator=generator) * scale
            parameter.copy_(noise + (1.0 if "LayerNorm.weight" in name else 0.0))
    return module.eval()


class EncoderAndFc(torch.nn.Module):
    """The published encoder layout: ``model.*`` and ``fc.*``; softmax of the first position."""

    def __init__(self, config: DebertaV2Config, labels: int) -> None:
        super().__init__()
        self.model = DebertaV2Model(config)
        self.fc = torch.nn.Linear(config.hidden_size, labels)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return torch.softmax(self.fc(hidden)[:, 0, :], dim=-1)


def encoder_checkpoint(path: Path, labels: list[str], *, seed: int = 0, max_length: int = 64) -> EncoderAndFc:
    """A directory like nvidia/domain-classifier, its base's configuration in a folder ``base`` within it."""
    save_tokenizer(path, "unigram", max_length=max_length)
    config = deberta_config()
    config.save_pretrained(path / "base")
    net = enlarge(EncoderAndFc(config, len(labels)), seed)
    save_file({name: t.contiguous() for name, t in net.state_dict().items()}, path / "model.safetensors")
    written = {
        "base_model": "base",
        "fc_dropout": 0.2,
        "id2label": {str(i): name for i, name in enumerate(labels)},
        "label2id": {name: i for i, name in enumerate(labels)},
    }
    (path / "config.json").write_text(json.dumps(written))
    return net  # type: ignore[return-value]


def sequence_classifier(path: Path, *, seed: int = 0, max_length: int = 64, **config) -> BertForSequenceClassification:
    """A directory like HuggingFaceFW/fineweb-edu-classifier (with num_labels=1): BERT as transformers saves it."""
    save_tokenizer(path, "wordpiece", max_length=max_length)
    shape = BertConfig(
        **{
            "vocab_size": 400,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
            **config,
        }
    )
    model = enlarge(BertForSequenceClassification(shape), seed)
    if shape.num_labels == 1:
        with torch.no_grad():  # numbers over the whole range of 0 to 5 and beyond
            model.classifier.weight *= 8
            model.classifier.bias += 2
    model.save_pretrained(path)
    return model  # type: ignore[return-value]


class _Head(torch.nn.Module):
    def __init__(self, hidden: int, outputs: int) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(hidden, outputs)


class PromptTaskModel(torch.nn.Module):
    """The published layout of prompts: ``backbone.*``, ``head_0.fc.*`` … over the mean of the last states."""

    def __init__(self, config: DebertaV2Config, sizes: list[int]) -> None:
        super().__init__()
        self.backbone = DebertaV2Model(config)
        self.heads = []
        for i, size in enumerate(sizes):
            self.heads.append(_Head(config.hidden_size, size))
            self.add_module(f"head_{i}", self.heads[-1])

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[torch.Tensor]:
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).float()
        mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return [torch.softmax(head.fc(mean), dim=1) for head in self.heads]


PROMPT_TARGETS = {
    "task_type": 4,
    "creativity_scope": 3,
    "reasoning": 2,
    "contextual_knowledge": 2,
    "number_of_few_shots": 6,
    "domain_knowledge": 4,
    "no_label_reason": 1,
    "constraint_ct": 2,
}
PROMPT_CONFIG = {
    "targets": list(PROMPT_TARGETS),
    "target_sizes": dict(sorted(PROMPT_TARGETS.items())),
    "task_type_map": {"0": "Brainstorming", "1": "Chatbot", "2": "Closed QA", "3": "Other"},
    "weights_map": {
        "creativity_scope": [2, 1, 0],
        "reasoning": [0, 1],
        "contextual_knowledge": [0, 1],
        "number_of_few_shots": [0, 1, 2, 3, 4, 5],
        "domain_knowledge": [3, 1, 2, 0],
        "no_label_reason": [0],
        "constraint_ct": [1, 0],
    },
    "divisor_map": {
        "creativity_scope": 2,
        "reasoning": 1,
        "contextual_knowledge": 1,
        "number_of_few_shots": 1,
        "domain_knowledge": 3,
        "no_label_reason": 1,
        "constraint_ct": 1,
    },
}


def prompt_checkpoint(path: Path, *, seed: int = 0) -> PromptTaskModel:
    """A directory like nvidia/prompt-task-and-complexity-classifier, its configuration sorted by key."""
    save_tokenizer(path, "unigram")
    config = deberta_config()
    config.save_pretrained(path / "base")
    net = enlarge(PromptTaskModel(config, list(PROMPT_TARGETS.values())), seed)
    with torch.no_grad():  # some texts have one task beyond doubt
        net.head_0.fc.weight *= 4
    save_file({name: t.contiguous() for name, t in net.state_dict().items()}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(PROMPT_CONFIG, sort_keys=True))
    return net  # type: ignore[return-value]
