"""A language model and an adapter in the layout of Aegis that give known answers to documents."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer

from tiny_llama import llama_checkpoint

ADAPTER = "nvidia/Aegis-AI-Content-Safety-LlamaGuard-Defensive-1.0"
SAYS = {"soup": "O3", "bread": "O13", "match": "unknown"}
"""What it says of a document with the word; ``safe`` without any."""


def guard(models: Path) -> None:
    """A Llama of one layer made by hand, which knows by its last token what comes next; an adapter that reads.

    Attention is even over all tokens, so that a word in the document moves the state of the last one. The adapter holds
    what reads the words: without it everything is safe.
    """
    base = models / "meta-llama/LlamaGuard-7b"
    model = llama_checkpoint(base, window=16384, num_hidden_layers=1)
    pieces = AutoTokenizer.from_pretrained(base).convert_tokens_to_ids
    last, safe, unsafe, newline, letter, one, three, end = map(
        pieces, ["]", "▁safe", "▁unsafe", "<0x0A>", "O", "1", "3", "</s>"]
    )
    known = {last: 8, unsafe: 9, newline: 10, letter: 11, one: 12, safe: 13, three: 14}
    follows = {last: [safe, unsafe, one], unsafe: [newline], newline: [letter], letter: [one, three]}
    follows |= {one: [three], three: [end], safe: [end]}
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.zero_()
        embedded, attention, out = (
            model.model.embed_tokens.weight,
            model.model.layers[0].self_attn,
            model.lm_head.weight,
        )
        embedded[:, 0] = 1
        for token, place in known.items():
            embedded[token, place] = 4
            out[follows[token], place] = 64
        for i, word in enumerate(SAYS):
            embedded[pieces(f"▁{word}"), i + 1] = 1
            attention.o_proj.weight[20 + i, i] = 1
        soup, bread, match = 20, 21, 22  # where the state of a document's words ends up
        out[safe, 0] = 4
        out[unsafe, soup] = out[unsafe, bread] = out[one, match] = 1
        out[three, soup], out[one, bread] = 1, 0.5
    model.save_pretrained(base)
    adapter = models / ADAPTER
    adapter.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["v_proj"], "bias": "none"}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    a, b = torch.zeros(4, 32), torch.zeros(32, 4)
    for i in range(3):
        a[i, i + 1] = 1
        b[i, i] = 20000
    prefix = "base_model.model.model.layers.0.self_attn.v_proj.lora_"
    save_file({f"{prefix}A.weight": a, f"{prefix}B.weight": b}, adapter / "adapter_model.safetensors")
