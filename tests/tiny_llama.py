"""Tiny Llamas, adapters and heads in exactly the layouts that Aegis and Instruction-Data-Guard are published in."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from tiny_checkpoints import WORDS

TEMPLATE = (
    "[INST] Is the text of the User unsafe?\nO1: games.\nO2: law.\nO3: soup.\n<BEGIN>\nUser: {document}\n<END>\n"
    "Answer safe or unsafe and a line like O1,O3. [/INST]"
)


def llama_tokenizer(vocabulary: int = 640) -> Tokenizer:
    """SentencePiece's BPE as Llama 2 has it: a blank before the text, bytes for what is unknown, no words."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    learner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    letters = [chr(c) for c in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=[*letters, "▁"], show_progress=False
    )
    words = [*WORDS, "safe", "unsafe", "User", "INST"]
    learner.train_from_iterator([" ".join(words), *words] * 3, trainer)
    saved = json.loads(learner.to_str())
    tokenizer = Tokenizer(
        models.BPE(
            saved["model"]["vocab"],
            [tuple(m) for m in saved["model"]["merges"]],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special[:3]])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def llama_checkpoint(
    path: Path, *, seed: int = 0, window: int = 256, scale: float = 0.12, **config
) -> LlamaForCausalLM:
    """A directory like meta-llama/LlamaGuard-7b, every dimension small."""
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = llama_tokenizer()
    tokenizer.save(str(path / "tokenizer.json"))
    written = {
        "tokenizer_class": "LlamaTokenizer",
        "model_max_length": window,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "add_eos_token": False,
        "legacy": True,
        "clean_up_tokenization_spaces": False,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(written))
    shape = LlamaConfig(
        **{
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": window,
            "bos_token_id": 1,
            "eos_token_id": 2,
            **config,
        }
    )
    model = LlamaForCausalLM(shape)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (1.0 if "embed" in name else scale))
    model.eval().save_pretrained(path)
    return model


def lora_adapter(path: Path, base: LlamaForCausalLM, *, seed: int = 1, **settings):
    """A directory like the published adapters, saved by PEFT; returns PEFT's model, not merged."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        **{
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "v_proj"],
            "task_type": "CAUSAL_LM",
            "bias": "none",
            **settings,
        }
    )
    with warnings.catch_warnings():
        # PEFT asks transformers for names that transformers has deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        model = get_peft_model(base, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.eval().save_pretrained(path)
    return model


class InstructionDataGuardNet(torch.nn.Module):
    """The published head, its sizes small: 32 for 4096, 24 for 2000, 16 for 500."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.dropout = torch.nn.Dropout(0.7)
        self.input_layer = torch.nn.Linear(width, width)
        self.hidden_layer_0 = torch.nn.Linear(width, 24)
        self.hidden_layer_1 = torch.nn.Linear(24, 16)
        self.hidden_layer_2 = torch.nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.dropout(torch.nn.functional.normalize(x, dim=-1))
        for layer in (self.input_layer, self.hidden_layer_0, self.hidden_layer_1):
            x = self.dropout(torch.relu(layer(x)))
        return torch.sigmoid(self.hidden_layer_2(x)).squeeze(-1)


def guard_head(path: Path, *, seed: int = 5, width: int = 32) -> InstructionDataGuardNet:
    """A directory like nvidia/instruction-data-guard."""
    path.mkdir(parents=True, exist_ok=True)
    net = InstructionDataGuardNet(width).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.6)
        net.hidden_layer_2.bias.zero_()
    save_file({n: t.contiguous() for n, t in net.state_dict().items()}, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"input_dim": width, "dropout": 0.7}))
    return net


class RiggedModel(torch.nn.Module):
    """Stands in for a language model, and writes what the script says; its keys are the token ids themselves.

    So it sees exactly what attention would see: the answer comes out only if each row's keys are its own prompt, in
    order, at the right positions. ``script``: the ids of a whole prompt to the ids of the answer.
    """

    def __init__(self, script: dict[tuple[int, ...], list[int]], shared: list[int], vocabulary: int = 700) -> None:
        super().__init__()
        self.config = LlamaConfig(num_hidden_layers=1, hidden_size=32, vocab_size=vocabulary)
        self.generation_config = self.config
        self.device = torch.device("cpu")
        self.script, self.shared, self.vocabulary = script, shared, vocabulary
        self.config.eos_token_id = 2
        self.forwards: list[int] = []
        """Tokens of each call."""

    def set_attn_implementation(self, name: str) -> None:
        assert name == "tamis_shared_prefix"

    def forward(self, input_ids, position_ids, use_cache, logits_to_keep, plan, cache):
        self.forwards.append(input_ids.shape[1])
        new = input_ids.reshape(1, 1, -1, 1).float(), position_ids.reshape(1, 1, -1, 1).float()
        keys, positions = (each.flatten().long().tolist() for each in cache.update(*new, 0))
        logits = torch.zeros(1, len(logits_to_keep), self.vocabulary)
        for row, at in enumerate(logits_to_keep.tolist()):
            if plan.mask is None:
                (span,) = [(a, b) for a, b in plan.spans if b - 1 == at]
                seen = list(range(*span))
            else:
                seen = torch.nonzero(plan.mask[row]).flatten().tolist()
            known = len(self.shared) if plan.prefix else 0
            assert [positions[i] for i in seen] == list(range(known, known + len(seen)))
            if self.shared == [keys[i] for i in seen]:
                continue  # the prefix itself
            ids = self.shared[:known] + [keys[i] for i in seen]
            (prompt,) = [p for p in self.script if tuple(ids[: len(p)]) == p]
            made = ids[len(prompt) :]
            assert made == self.script[prompt][: len(made)]
            logits[0, row, (self.script[prompt] + [2])[len(made)]] = 1.0
        return SimpleNamespace(logits=logits)
