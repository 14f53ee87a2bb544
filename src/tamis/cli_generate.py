"""``tamis generate``: what its options mean, and some of what a model wrote.

Imports are made inside the functions, so that ``tamis --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tamis.cli_options import add_output
from tamis.cli_text import excerpt, printable
from tamis.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251  a console is handed in

    from tamis.dataset import DocumentDataset
    from tamis.models.generation import Generate
    from tamis.recipe import Recipe

__all__ = ["Generation", "add_generate", "prepare", "print_examples"]

_SETTINGS = (
    "adapter",
    "batch_size",
    "batch_tokens",
    "device",
    "dtype",
    "max_length",
    "max_new_tokens",
    "prompt_field",
    "seed",
    "stop",
    "tags",
    "temperature",
    "tokenizer",
    "top_p",
)
"""Options that are settings of the stage, under the same names."""
_EXAMPLES = 3


def add_generate(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a parser's subparsers, and return its own parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "generate",
        help="write an answer to each prompt with a language model",
        description="Add to each row what a causal language model writes after its prompt, and the tags in it.",
        epilog='As a step of a recipe: use = "Generate". A gated model needs `hf auth login`, or '
        "a token in the environment variable HF_TOKEN.",
    )
    parser.add_argument("model", metavar="MODEL", help="directory or hub id of a language model, or of a LoRA adapter")
    parser.add_argument("rows", nargs="+", metavar="ROWS", help="rows with a prompt: files, folders, globs or URLs")
    parser.add_argument("--out", required=True, metavar="OUT", help="directory for the rows with their answers")
    parser.add_argument("--tags", metavar="FILE", help="hold answers to these tags: one a line, or a JSON list")
    parser.add_argument("--prompt-field", metavar="FIELD", help="the field of the prompt (default: prompt)")
    parser.add_argument("--adapter", metavar="DIR", help="a LoRA adapter of the model")
    parser.add_argument("--unmerged", action="store_true", help="run the adapter beside the weights, as in training")
    parser.add_argument("--tokenizer", metavar="DIR", help="the tokenizer, where it is not the model's own")
    writing = parser.add_argument_group("how it writes")
    writing.add_argument("--max-new-tokens", type=int, metavar="N", help="bound on an answer (default: 32 tokens)")
    writing.add_argument("--stop", action="append", metavar="TEXT", help="an answer ends before this text")
    writing.add_argument(
        "--temperature", type=float, metavar="T", help="0 takes the likeliest token (default), more samples"
    )
    writing.add_argument("--top-p", type=float, metavar="P", help="sample from the likeliest tokens of this share")
    writing.add_argument("--seed", type=int, metavar="S", help="of the sampling (default: 0)")
    model = parser.add_argument_group("how the model runs")
    model.add_argument("--max-length", type=int, metavar="N", help="tokens of prompt and answer (default: the window)")
    model.add_argument("--batch-size", type=int, metavar="N", help="most rows in a batch (default: no bound)")
    model.add_argument("--batch-tokens", type=int, metavar="N", help="tokens in a batch (default: what memory holds)")
    model.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or mps (default: auto)")
    model.add_argument("--dtype", metavar="NAME", help="auto, float32, bfloat16 or float16 (default: auto)")
    model.add_argument("--vllm", action="store_true", help="run the model with vLLM, which must be installed")
    output = parser.add_argument_group("input and output")
    add_output(output, record="row")
    return parser


@dataclass(frozen=True)
class Generation:
    """What is to be run: a recipe of one stage."""

    stage: Generate
    dataset: DocumentDataset
    recipe: Recipe
    """Its output and run sections."""

    @property
    def model(self) -> str:
        """One line: the model, where and in which number format it runs, and how it writes."""
        from tamis.models.device import pick_device, pick_dtype

        stage = self.stage
        device = pick_device(stage.device, who=stage.name)
        dtype = str(pick_dtype(stage.dtype, device, who=stage.name)).removeprefix("torch.")
        adapted = "" if stage.adapter is None else f" with {stage.adapter}"
        how = f"sampled at temperature {stage.temperature:g}" if stage.temperature else "greedy"
        held = "" if stage.tags is None else f", held to the tags of {stage.tags}"
        return (
            f"model {stage.model}{adapted} on {device} in {dtype}, {how}, at most {stage.max_new_tokens} tokens{held}"
        )


def prepare(options: argparse.Namespace) -> Generation:
    """Check the options and make a plan of them; no model is loaded.

    Raises:
        UsageError: They cannot be meant, or a file that they name is not what it should be.
    """
    from tamis.dataset import DocumentDataset
    from tamis.io.source import LimitedSource
    from tamis.models.generation import Generate
    from tamis.recipe import Recipe

    settings = {name: getattr(options, name) for name in _SETTINGS if getattr(options, name) is not None}
    if options.unmerged and options.adapter is None:
        message = "--unmerged says how an adapter runs: name one with --adapter."
        raise UsageError(message)
    if options.format == "parquet" and options.compression is not None:
        message = "--compression is for JSON Lines; Parquet files are always compressed with zstd."
        raise UsageError(message)
    stage = Generate(
        options.model, merge_adapter=not options.unmerged, engine="vllm" if options.vllm else "torch", **settings
    )
    dataset = DocumentDataset.read(options.rows, text_field=stage.prompt_field)
    if options.limit is not None:
        dataset = DocumentDataset(LimitedSource(dataset.plan.source, options.limit))
    dataset = dataset.append(stage)
    dataset.check()
    output = {"path": options.out, "format": options.format, "compression": options.compression}
    return Generation(stage, dataset, Recipe("generate", {}, (), output))


def print_examples(console: Console, path: str, stage: Generate) -> None:
    """The end of the first few prompts, and what was written after them."""
    from tamis.dataset import DocumentDataset

    found = DocumentDataset.read(path, text_field=stage.generated_column).head(_EXAMPLES).to_pylist()
    width = min(console.width, 120) - 12
    console.print()
    for row in found:
        asked = row.get(stage.prompt_field) or (row.get("messages") or [{}])[-1].get("content") or ""
        flat = " ".join(printable(str(asked)).split())
        console.print(
            f"  prompt    {flat if len(flat) <= width else '…' + flat[1 - width :]}", style="dim", markup=False
        )
        console.print(f"  answer    {excerpt(row[stage.generated_column] or '', width)}", markup=False)
    console.print()
