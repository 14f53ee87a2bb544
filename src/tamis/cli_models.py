"""The commands that run models: parse, call a plain function, print its result through the console they are given.

Imports are made inside the commands, so that ``tamis --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251  a console is handed in

    from tamis.classifiers.train import ClassScores, NumberScores, TrainedHead
    from tamis.dataset import DocumentDataset
    from tamis.training import TrainedClassifier

__all__ = ["add_train_classifier", "demo_classifier", "train_classifier"]

_MOST_SHOWN = 12
"""Classes up to which the confusion matrix fits a terminal."""
_DEMO_PER_SOURCE = 400
_DEMO_FEWEST = 30


# -- tamis train-classifier ----------------------------------------------------------------------------------


def add_train_classifier(commands: Any, console: Callable[[], Console]) -> None:
    """Add the command to a parser's subparsers."""
    train = commands.add_parser(
        "train-classifier",
        help="train a classifier of your own from labelled documents",
        description="Train a linear head on frozen embeddings; `tamis classify` then runs it on any documents.",
    )
    train.add_argument("input", nargs="+", metavar="IN", help="documents with labels: files, folders, globs or URLs")
    train.add_argument("output", metavar="OUT", help="directory for the classifier")
    train.add_argument("--labels", required=True, metavar="FIELD", help="the field that holds the label")
    train.add_argument("--text-field", default="text", metavar="FIELD", help="the field that holds the text")
    train.add_argument(
        "--embedder",
        default="all-MiniLM-L6-v2",
        metavar="MODEL",
        help="a directory, a hub id or a short name (default: all-MiniLM-L6-v2)",
    )
    train.add_argument(
        "--task",
        default="auto",
        choices=["auto", "classification", "regression"],
        help="auto: regression where all labels are numbers of more than two values",
    )
    train.add_argument("--limit", type=int, metavar="N", help="learn from N documents, chosen by a hash of their text")
    train.add_argument("--per-class", type=int, metavar="N", help="learn from at most N documents of each label")
    train.add_argument(
        "--test-share", type=float, default=0.2, metavar="SHARE", help="share that is held out (default: 0.2)"
    )
    train.add_argument("--folds", type=int, default=5, metavar="N", help="parts of the cross-validation (default: 5)")
    train.add_argument("--balanced", action="store_true", help="let every class count the same, however rare it is")
    train.add_argument("--max-length", type=int, metavar="N", help="tokens of a text that are seen")
    train.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16 (default: auto)")
    train.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    train.add_argument(
        "--include-embedder", action="store_true", help="put a copy of the embedder into OUT, to carry it elsewhere"
    )
    train.set_defaults(command=lambda options: train_classifier(options, console()))


def train_classifier(options: argparse.Namespace, console: Console) -> int:
    """Run ``tamis train-classifier``."""
    from tamis.classifiers.train import Training
    from tamis.models.embed import Embed
    from tamis.training import Sample
    from tamis.training import train_classifier as train

    found = train(
        _read(options.input, options.text_field, [options.labels]),
        Path(options.output),
        options.labels,
        embed=Embed(model=options.embedder, max_length=options.max_length, dtype=options.dtype, device=options.device),
        training=Training(
            task=options.task,
            folds=options.folds,
            test_share=options.test_share,
            class_weights="balanced" if options.balanced else None,
        ),
        sample=Sample(options.limit, options.per_class),
        include_embedder=options.include_embedder,
        heard=_progress(console),
    )
    print_trained(console, found)
    console.print("\nRun it:", style="bold")
    console.print(f"  tamis classify IN OUT --classifier {options.output}", markup=False)
    return 0


def _read(paths: Sequence[str], text_field: str, columns: Sequence[str]) -> DocumentDataset:
    """The dataset of some paths, with the text and these columns; JSON Lines or Parquet."""
    from tamis.dataset import DocumentDataset
    from tamis.io.files import list_files

    files = list_files(paths)
    read = DocumentDataset.read_parquet if files[0].format == "parquet" else DocumentDataset.read_json
    return read([f.path for f in files], text_field=text_field, columns=[text_field, *columns])


def _progress(console: Console) -> Callable[[int, int], None] | None:
    """Says on a terminal how far embedding is; nothing where output is piped."""
    if not console.is_terminal:
        return None

    def heard(done: int, total: int) -> None:
        console.print(f"embedded {done:,} of {total:,} documents", end="\n" if done == total else "\r", style="dim")

    return heard


# -- printing ------------------------------------------------------------------------------------------------


def print_trained(console: Console, found: TrainedClassifier) -> None:
    """Tables of what was learnt, how well, and how long it took."""
    from tamis.classifiers.train import ClassScores, NumberScores

    head = found.head
    left_out = [
        f"{n:,} {why}"
        for n, why in (
            (found.without_label, "without a label"),
            (found.without_text, "without a text"),
            (found.not_sampled, "not in the sample"),
        )
        if n
    ]
    rest = f"; left out: {', '.join(left_out)}" if left_out else ""
    console.print(f"{found.examples:,} documents learnt from{rest}\n", markup=False)
    parts = (("cross-validated", head.cross_validated), ("held out", head.held_out))
    if head.task == "classification":
        _print_classes(console, head, [(name, s) for name, s in parts if isinstance(s, ClassScores)])
    else:
        _print_numbers(console, head, [(name, s) for name, s in parts if isinstance(s, NumberScores)])
    rate = found.tokens / found.embedding_seconds if found.embedding_seconds else 0
    console.print(
        f"\n{found.tokens:,} tokens embedded in {found.embedding_seconds:.1f} s ({rate:,.0f} tokens/s with loading), "
        f"fitted and measured in {found.fitting_seconds:.1f} s",
        markup=False,
    )
    console.print(f"Saved to {found.directory}", markup=False)


def _print_classes(console: Console, head: TrainedHead, scored: Sequence[tuple[str, ClassScores]]) -> None:
    total = sum(head.counts)
    rows = [[name, f"{n:,}", f"{n / total:.1%}"] for name, n in zip(head.labels, head.counts, strict=True)]
    if len(rows) > 2 * _MOST_SHOWN:
        rows = [*rows[:_MOST_SHOWN], [f"… {len(rows) - _MOST_SHOWN} more", "", ""]]
    _print_table(console, ["label", "documents", "share"], rows)
    console.print()
    _print_table(
        console,
        ["", "documents", "accuracy", "majority", "macro F1", "log loss", "ECE before", "ECE after"],
        [
            [
                name,
                f"{s.examples:,}",
                f"{s.accuracy:.1%}",
                f"{s.majority:.1%}",
                f"{s.macro_f1:.3f}",
                f"{s.log_loss:.3f}",
                f"{s.ece_raw:.3f}",
                f"{s.ece:.3f}",
            ]
            for name, s in scored
        ],
    )
    console.print(
        f"majority: always the most frequent label. ECE: how far probabilities are from the share of hits, before and "
        f"after calibration (temperature {head.temperature:.2f}). Penalty {head.strength:g}.",
        style="dim",
        markup=False,
    )
    if len(head.labels) <= _MOST_SHOWN:
        name, scores = scored[-1]
        console.print(f"\n{name}: documents by label (rows) and prediction (columns)", style="bold", markup=False)
        short = [_cut(label, 14) for label in head.labels]
        _print_table(
            console,
            ["", *short],
            [[_cut(label, 24), *map(str, row)] for label, row in zip(head.labels, scores.confusion, strict=True)],
        )


def _print_numbers(console: Console, head: TrainedHead, scored: Sequence[tuple[str, NumberScores]]) -> None:
    _print_table(
        console,
        ["", "documents", "R²", "mean error", "root mean square", "of the labels"],
        [
            [name, f"{s.examples:,}", f"{s.r2:.3f}", f"{s.mae:.3f}", f"{s.rmse:.3f}", f"{s.spread:.3f}"]
            for name, s in scored
        ],
    )
    console.print(
        f"of the labels: their own standard deviation, the error of always saying the mean. Penalty {head.strength:g}.",
        style="dim",
        markup=False,
    )


def _print_table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns two spaces apart, the first to the left and the others to the right."""
    from rich.cells import cell_len  # noqa: TID251  how wide a terminal shows a text

    shown = [[_printable(cell) for cell in row] for row in [header, *rows]]
    widths = [max(cell_len(row[i]) for row in shown) for i in range(len(header))]
    for number, row in enumerate(shown):
        cells = []
        for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - cell_len(cell))
            cells.append(space + cell if i else cell + space)
        console.print("  ".join(cells).rstrip(), style=None if number else "dim", markup=False, soft_wrap=True)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


# -- the demo ------------------------------------------------------------------------------------------------


def demo_classifier(console: Console, corpus: str, out: str) -> None:
    """Teach a classifier where a text of the demo's corpus came from, and ask it about texts that it has not seen.

    Without torch it says how to get it, and does nothing else.
    """
    from importlib.util import find_spec

    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    console.print("\n[bold]5. Teach[/bold] a classifier where a text came from")
    if missing:
        console.print(
            f"   skipped: it needs {' and '.join(missing)}. Run: pip install 'tamis[models]' (about 1 GB), "
            "then this command again.",
            markup=False,
        )
        return
    import pyarrow.compute as pc

    from tamis.dataset import DocumentDataset
    from tamis.errors import ModelError
    from tamis.training import Sample
    from tamis.training import train_classifier as train

    model = f"{out}/source-classifier"
    dataset = DocumentDataset.read_json(corpus, columns=["text", "source", "name"])
    sources = _frequent(dataset, "source", _DEMO_FEWEST)
    dataset = dataset[pc.field("source").isin(sources)]
    console.print(
        f"   from the embeddings (all-MiniLM-L6-v2) of up to {_DEMO_PER_SOURCE} documents of each source\n",
        markup=False,
    )
    sample = Sample(per_class=_DEMO_PER_SOURCE)
    try:
        found = train(dataset, Path(model), "source", sample=sample, heard=_progress(console))
    except ModelError as error:  # no package index and no hub: the rest of the demo stands without it
        console.print(f"   skipped: {error}", markup=False)
        return
    print_trained(console, found)
    console.print("\n[bold]6. Ask it[/bold] about other documents")
    _ask(console, dataset, model, f"{out}/classified")


def _frequent(dataset: DocumentDataset, column: str, fewest: int) -> list[str]:
    """The values that at least so many documents have."""
    from collections import Counter

    counts: Counter[str] = Counter()
    for table in dataset:
        counts.update(v for v in table.column(column).to_pylist() if v is not None)
    return sorted(value for value, n in counts.items() if n >= fewest)


def _ask(console: Console, dataset: DocumentDataset, model: str, out: str) -> None:
    """Classify a part of a dataset that training has not sampled, and show some answers."""
    import pyarrow as pa

    from tamis.classifiers.base import DistributedDataClassifier
    from tamis.dataset import DocumentDataset
    from tamis.hashing import document_id, hash64

    # The sample for training took the lowest hashes of each source; these are the highest.
    table = dataset.to_arrow()
    hashes = hash64(document_id(t) for t in table.column("text").to_pylist())
    part = table.take(pa.array(hashes.argsort()[-300:]))
    stage = DistributedDataClassifier(model=model, pred_column="guess", prob_column="probabilities")
    DocumentDataset.from_arrow(part).append(stage).to_json(out, mode="fresh", progress="off")
    answers = DocumentDataset.read_json(f"{out}/*.jsonl").to_arrow().to_pylist()
    right = sum(a["guess"] == a["source"] for a in answers)
    console.print(f"   {right} of {len(answers)} right; all answers are in {out}\n", markup=False)
    rows = []
    for hit in (True, False):
        for a in [a for a in answers if (a["guess"] == a["source"]) is hit and a["guess"]][:4]:
            flat = _cut(" ".join(_printable(a["text"]).split()), 60)
            rows.append([f"“{flat}”", a["source"], a["guess"], f"{max(a['probabilities']):.0%}"])
    _print_table(console, ["document", "came from", "guess", "sure"], rows)
