"""The peers' part of bench/classify.py, each the way its documentation shows, from texts to labels.

pipeline: transformers, float32, batches of 64 in arrival order. sentence-transformers: encode() with its sorting,
batches of 32, bfloat16 weights, and the head on top. onnxruntime-int8 and openvino-*: the exported model, batches of 32
of texts sorted by length, which favours them: neither sorts by itself.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

LIMIT, BATCH = 512, 32


def pipeline_(path):
    from transformers import pipeline

    classify = pipeline("text-classification", model=path, tokenizer=path, dtype=torch.float32)
    return lambda texts: [
        found["label"] for found in classify(texts, batch_size=64, truncation=True, max_length=LIMIT, padding=True)
    ]


def sentence_transformers_(path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    whole = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32).eval()
    body = Transformer(path, max_seq_length=LIMIT, model_args={"dtype": torch.bfloat16})
    encoder = SentenceTransformer(modules=[body, Pooling(body.get_embedding_dimension(), "cls")], device="cpu")

    def run(texts):
        first = encoder.encode(texts, batch_size=BATCH, convert_to_tensor=True, show_progress_bar=False).float()
        with torch.inference_mode():
            pool = whole.bert.pooler if hasattr(whole, "bert") else whole.pooler
            pooled = pool(first[:, None])
            best = whole.classifier(pooled).argmax(1)
        return [whole.config.id2label[int(i)] for i in best]

    return run


def _sorted_batches(path, infer):
    """Labels of texts in batches of 32 by length; ``infer`` takes input_ids and attention_mask as numpy arrays."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    names = json.loads((Path(path) / "config.json").read_text())["id2label"]

    def run(texts):
        encoded = tokenizer(texts, truncation=True, max_length=LIMIT, return_token_type_ids=False)["input_ids"]
        order = sorted(range(len(texts)), key=lambda i: len(encoded[i]))
        out = [""] * len(texts)
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            longest = max(len(encoded[i]) for i in rows)
            ids = np.zeros((len(rows), longest), dtype=np.int64)
            mask = np.zeros_like(ids)
            for r, i in enumerate(rows):
                ids[r, : len(encoded[i])] = encoded[i]
                mask[r, : len(encoded[i])] = 1
            for i, best in zip(rows, infer(ids, mask).argmax(1), strict=True):
                out[i] = names[str(int(best))]
        return out

    return run


class _Logits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def _whole(path):
    load = AutoModelForSequenceClassification.from_pretrained
    return _Logits(load(path, dtype=torch.float32, attn_implementation="eager").eval())


def _example():
    ids = torch.randint(5, 1000, (4, 48))
    return ids, torch.ones_like(ids)


def onnxruntime_int8(path):
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    made = Path(path).parent / f"{Path(path).name}-int8.onnx"
    if not made.exists():
        plain = made.with_suffix(".fp32.onnx")
        axes = {"input_ids": {0: "b", 1: "n"}, "attention_mask": {0: "b", 1: "n"}}
        torch.onnx.export(
            _whole(path),
            _example(),
            str(plain),
            input_names=list(axes),
            output_names=["logits"],
            dynamic_axes=axes,
            dynamo=False,
        )
        quantize_dynamic(str(plain), str(made), weight_type=QuantType.QInt8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(made), options, providers=["CPUExecutionProvider"])
    return _sorted_batches(path, lambda i, m: session.run(None, {"input_ids": i, "attention_mask": m})[0])


def _openvino(path, precision, quantised):
    import openvino

    made = Path(path).parent / f"{Path(path).name}-{'int8' if quantised else 'plain'}.xml"
    core = openvino.Core()
    if not made.exists():
        shape = [("input_ids", [-1, -1], np.int64), ("attention_mask", [-1, -1], np.int64)]
        model = openvino.convert_model(_whole(path), example_input=_example(), input=[(s, t) for _, s, t in shape])
        if quantised:
            import nncf

            tokenizer = AutoTokenizer.from_pretrained(path)
            texts = json.loads(Path(sys.argv[3]).read_text())[:32]

            def arrays(text):
                given = {"truncation": True, "max_length": LIMIT, "return_token_type_ids": False}
                return list(tokenizer([text], return_tensors="np", **given).values())

            data = nncf.Dataset(texts, arrays)
            model = nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=32)
        openvino.save_model(model, made, compress_to_fp16=False)
    compiled = core.compile_model(
        core.read_model(made), "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    )
    return _sorted_batches(path, lambda i, m: compiled([i, m])[0])


PROGRAMS = {
    "pipeline": pipeline_,
    "sentence-transformers": sentence_transformers_,
    "onnxruntime-int8": onnxruntime_int8,
    "openvino-bf16": lambda path: _openvino(path, "bf16", quantised=False),
    "openvino-int8": lambda path: _openvino(path, "f32", quantised=True),
}

if __name__ == "__main__":
    program, path, file = sys.argv[1:4]
    texts = json.loads(Path(file).read_text())
    run = PROGRAMS[program](path)
    run(texts[:8])
    begin = time.perf_counter()
    labels = run(texts)
    print(json.dumps({"seconds": time.perf_counter() - begin, "labels": labels}))
