"""Tamis beside transformers, sentence-transformers, ONNX Runtime and OpenVINO: from texts to labels.

    python bench/classify.py --out results.json

The same model directory and the same documents for all; every program is a process of its own that loads the model,
runs a few documents, and then is timed from texts to labels. Rounds are interleaved; what counts is the ratio of
medians, and how many labels are those of float32. See README.md in this folder for what each program does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import corpus

HERE = Path(__file__).resolve().parent
DEFAULT_CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "tamis-bench"
LABELS = 8
LIMIT = 512
BASELINE = "pipeline"
PROGRAMS = (
    "pipeline",
    "sentence-transformers",
    "onnxruntime-int8",
    "openvino-bf16",
    "openvino-int8",
    "tamis-fp32",
    "tamis-int8",
    "tamis",
)


@dataclass(frozen=True)
class Model:
    name: str
    documents: int
    flops: tuple[float, float]
    """Per token, and per pair of tokens of one text, in the layers of the encoder."""


def flops(hidden: int, layers: int, wide: int) -> tuple[float, float]:
    return 2.0 * layers * (4 * hidden * hidden + 2 * hidden * wide), 4.0 * layers * hidden


MODELS = (
    Model("minilm", 192, flops(384, 6, 1536)),
    Model("bert-base", 48, flops(768, 12, 3072)),
    Model("deberta-v3-base", 48, flops(768, 12, 3072)),
)


def peers_python(cache: Path) -> Path:
    """The interpreter of the peers; its virtual environment is made when it is missing or out of date."""
    wanted = HERE / "requirements-classify.txt"
    stamp = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    folder = cache / "venv-classify"
    python, marker = folder / "bin" / "python", folder / "installed"
    if not (marker.exists() and marker.read_text() == stamp):
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        torch = next(line for line in wanted.read_text().splitlines() if line.startswith("torch=="))
        subprocess.run([*pip, torch], check=True, stdout=sys.stderr)
        subprocess.run([*pip, "-r", str(wanted)], check=True, stdout=sys.stderr)
        marker.write_text(stamp)
    return python


def documents(folder: Path, count: int, tokenizer: Path) -> list[str]:
    """Real text, cut so that the lengths are log-normal: median 250 tokens, one in five at the limit."""
    from tokenizers import Tokenizer

    encode = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    encode.no_truncation()
    encode.no_padding()
    made = corpus.build(folder, 40)
    texts: list[str] = []
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            texts += [json.loads(line)["text"] for line in lines]
    texts = [t for t in texts if len(t) > 4000]
    texts.sort(key=lambda t: hashlib.sha256(t.encode()).digest())
    if len(texts) < count:
        raise SystemExit(f"The corpus {made} has {len(texts)} long documents, and {count} are needed.")
    out = []
    for n, text in enumerate(texts[:count]):
        share = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64
        length = max(4, round(250 * math.exp(0.85 * statistics.NormalDist().inv_cdf(min(max(share, 1e-6), 1 - 1e-6)))))
        ends = encode.encode(text[: 12 * length + 100], add_special_tokens=False).offsets
        out.append(text[: ends[min(length, len(ends)) - 1][1]] if ends else f"empty {n}")
    return sorted(out, key=lambda t: hashlib.blake2b(t.encode()).digest())


def run(program: str, model: Path, texts: Path, cache: Path) -> dict[str, object] | None:
    """What one program took and answered; None for a peer that cannot run the model."""
    ours = program.startswith("tamis")
    runner = HERE / "runners" / ("run_classify_tamis.py" if ours else "run_classify_peers.py")
    python = sys.executable if ours else str(peers_python(cache))
    command = [python, str(runner), program, str(model), str(texts)]
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "OPENVINO_TELEMETRY_OPT_OUT": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **quiet})
    if done.returncode:
        if program in {BASELINE, "tamis"}:
            raise SystemExit(f"{program} failed on {model.name}:\n{done.stderr[-3000:]}")
        print(f"{program} cannot run {model.name}: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def lengths_of(texts: list[str], tokenizer: Path) -> list[int]:
    from tokenizers import Tokenizer

    encode = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    encode.enable_truncation(LIMIT)
    encode.no_padding()
    return [len(e.ids) for e in encode.encode_batch(texts)]


def measure(model: Model, programs: list[str], rounds: int, cache: Path, peak: float) -> dict[str, object]:
    folder = cache / "models" / model.name
    if not (folder / "config.json").exists():
        command = [sys.executable, str(HERE / "runners" / "make_model.py"), model.name, str(folder)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    texts = documents(cache / "corpus-40", model.documents, folder)
    file = cache / f"texts-{model.name}.json"
    file.write_text(json.dumps(texts))
    lengths = lengths_of(texts, folder)
    work = model.flops[0] * sum(lengths) + model.flops[1] * sum(n * n for n in lengths)
    found: dict[str, list[dict[str, object]]] = {p: [] for p in programs}
    for number in range(rounds):
        for program in programs:
            result = run(program, folder, file, cache)
            if result is not None:
                found[program].append(result)
                print(f"{model.name} round {number + 1} {program}: {result['seconds']:.1f} s", file=sys.stderr)
    exact = found[BASELINE][0]["labels"]
    rows = {}
    for program, runs in found.items():
        if not runs:
            continue
        seconds = statistics.median(float(str(r["seconds"])) for r in runs)
        labels = runs[0]["labels"]
        rows[program] = {
            "seconds": seconds,
            "seconds_all": [r["seconds"] for r in runs],
            "tokens_per_second": sum(lengths) / seconds,
            "gigaflops": work / seconds / 1e9,
            "share_of_peak": work / seconds / peak,
            "equal_labels": sum(a == b for a, b in zip(labels, exact, strict=True)) / len(exact),  # type: ignore[call-overload]
            "padding": runs[0].get("padding"),
        }
    return {
        "documents": len(texts),
        "tokens": sum(lengths),
        "median_length": statistics.median(lengths),
        "rows": rows,
        "ratios": {p: float(rows[p]["seconds"]) / float(rows["tamis"]["seconds"]) for p in rows},
    }


def markdown(report: dict[str, object]) -> str:
    head = (
        f"{report['processor']}, {report['processors']} cores, Python {report['python']}; matrix peak "
        f"{report['peak_bf16'] / 1e9:.0f} GFLOP/s in bfloat16, {report['peak_fp32'] / 1e9:.0f} in float32; "  # type: ignore[operator]
        f"{report['rounds']} rounds"
    )
    out = [head]
    for name, found in report["models"].items():  # type: ignore[attr-defined]
        size = f"{found['documents']} documents, {found['tokens']:,} tokens, median {found['median_length']:.0f}"
        out += [
            "",
            f"**{name}**: {size}",
            "",
            "| program | seconds | tokens/s | GFLOP/s | of bf16 peak | equal labels | padding | Tamis is faster by |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for program, r in found["rows"].items():
            padding = "" if r["padding"] is None else f"{r['padding']:.1%}"
            out.append(
                f"| {program} | {r['seconds']:.2f} | {r['tokens_per_second']:,.0f} | {r['gigaflops']:.0f} "
                f"| {r['share_of_peak']:.0%} | {r['equal_labels']:.2%} | {padding} | {found['ratios'][program]:.2f} |"
            )
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=[m.name for m in MODELS], choices=[m.name for m in MODELS])
    parser.add_argument("--programs", nargs="+", default=list(PROGRAMS), choices=PROGRAMS)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="models, texts and environments go here")
    parser.add_argument("--out", type=Path, help="write the numbers there as JSON")
    options = parser.parse_args()
    import torch

    from tamis.models.profile import peak_flops

    cache = options.cache.resolve()
    cpu = torch.device("cpu")
    programs = list(dict.fromkeys([BASELINE, *options.programs, "tamis"]))
    peaks = {str(d): peak_flops(cpu, d, refresh=True) for d in (torch.bfloat16, torch.float32)}
    report: dict[str, object] = {
        "processor": platform.processor() or platform.machine(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "rounds": options.rounds,
        "peak_bf16": peaks["torch.bfloat16"],
        "peak_fp32": peaks["torch.float32"],
        "models": {
            m.name: measure(m, programs, options.rounds, cache, peaks["torch.bfloat16"])
            for m in MODELS
            if m.name in options.models
        },
    }
    print(markdown(report))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
