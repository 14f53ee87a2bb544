"""``tamis select``: from a raw corpus, the documents that are distributed like a target.

Imports are made inside the functions, so that ``tamis --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.cli_options import add_engine
from tamis.cli_text import excerpt, printable

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251  a console is handed in

    from tamis.importance.judge import Ngram, Quality

__all__ = ["add_select", "demo_selection", "print_quality"]

_SOURCES = 12
"""Sources that are listed; the file has more."""
_DEMO_SOURCE = "licence"
_DEMO_CHOSEN = 200


def add_select(commands: Any, console: Callable[[], Console]) -> None:
    """Add the command to a parser's subparsers."""
    select = commands.add_parser(
        "select",
        help="choose the documents that are distributed like a target",
        description="Importance resampling (DSIR) by hashed n-grams, mixtures over embeddings, or both.",
    )
    select.add_argument("raw", nargs="+", metavar="RAW", help="documents to choose from: files, folders, globs or URLs")
    select.add_argument("--target", action="append", required=True, metavar="TARGET", help="what they should be like")
    select.add_argument("--out", required=True, metavar="OUT", help="directory for the chosen documents")
    select.add_argument("--num", type=int, required=True, metavar="N", help="documents to choose")
    select.add_argument(
        "--features", choices=("ngram", "gmm", "hybrid"), default="ngram", help="what they are weighed by"
    )
    select.add_argument(
        "--alpha", type=float, default=0.5, metavar="A", help="with hybrid, the share of the n-grams (default: 0.5)"
    )
    select.add_argument("--top-k", action="store_true", help="take the highest weights instead of sampling by them")
    select.add_argument("--hash", choices=("fast", "sha256"), default="fast", help="sha256: the published buckets")
    select.add_argument("--per-token", action="store_true", help="divide n-gram weights by the length of a document")
    select.add_argument(
        "--smoothing",
        type=float,
        metavar="S",
        help="added to the target's counts (default: 1 where buckets of the target are empty, else 0)",
    )
    select.add_argument("--seed", type=int, default=0, metavar="S", help="of the choice (default: 0)")
    select.add_argument(
        "--model", default="all-MiniLM-L6-v2", metavar="MODEL", help="the embedder (default: all-MiniLM-L6-v2)"
    )
    select.add_argument("--text-field", default="text", metavar="FIELD", help="the field that holds the text")
    select.add_argument(
        "--source-field", metavar="FIELD", help="the field that says where a document comes from (default: source)"
    )
    select.add_argument(
        "--min-length", type=int, default=100, metavar="N", help="fewest tokens of a document (default: 100)"
    )
    select.add_argument(
        "--cache", metavar="DIR", help="for what is made between the steps, kept for the next call (default: OUT.cache)"
    )
    add_engine(select)
    select.set_defaults(command=lambda options: _select(options, console()))


def _select(options: argparse.Namespace, console: Console) -> int:
    from tamis.engine.options import Options
    from tamis.importance.stages import HybridWeight
    from tamis.selection.sample import quotas_of

    alpha = {"ngram": 1.0, "gmm": 0.0, "hybrid": options.alpha}[options.features]
    HybridWeight(alpha)  # what is asked for is checked before an hour of embedding
    quotas_of(options.num, [1.0])
    with Options(engine=options.engine or "embedded", address=options.address).started() as engine:
        if options.engine == "ray":
            engine.workers(())  # connects: a cluster of our own is started once, and serves every step
        return _selected(options, alpha, console)


def _selected(options: argparse.Namespace, alpha: float, console: Console) -> int:
    from tamis.importance import HashedNgramDSIR

    out = options.out.rstrip("/")
    dsir = HashedNgramDSIR(
        options.raw,
        options.target,
        cache_dir=options.cache or f"{out}.cache",
        num_proc=options.workers,
        min_example_length=options.min_length,
        target_laplace_smoothing=options.smoothing or 0.0,
        text_field=options.text_field,
        hash=options.hash,
        per_token=options.per_token,
        seed=options.seed,
        model=options.model,
        components=None,
        engine=options.engine or "embedded",
        address=options.address,
    )
    if alpha > 0:
        dsir.fit_ng_importance_estimator()
        if options.smoothing is None:
            dsir.smooth()
    if alpha < 1:
        dsir.fit_gmm_importance_estimator()
    dsir.compute_hybrid_importance_weight(alpha=alpha)
    dsir.resample(out_dir=out, num_to_sample=options.num, top_k=options.top_k)
    print_quality(console, dsir.judge(out, options.source_field))
    console.print(f"\nWritten to {out}; these figures to {Path(out)}.selection.json", markup=False)
    return 0


def print_quality(console: Console, quality: Quality) -> None:
    """What a selection is like."""
    d = quality.divergence
    console.print(
        f"{quality.selected:,} of {quality.documents:,} documents chosen ({quality.eligible:,} could be)\n",
        markup=False,
    )
    _table(
        console,
        ["KL(target ‖ documents)", "nats", "reduction"],
        [
            ["random", f"{d.random:.4f}", ""],
            ["chosen", f"{d.selected:.4f}", f"{d.reduction:+.4f}"],
            ["highest weights (top-k)", f"{d.top_k:.4f}", f"{d.top_k_reduction:+.4f}"],
        ],
    )
    for number, w in enumerate(quality.weights, 1):
        which = f"Target {number}: " if len(quality.weights) > 1 else ""
        console.print(
            f"{which}effective sample size {w.effective:,.1f} of {w.documents:,}; the largest weight has "
            f"{w.largest_share:.1%}; log weights from {w.lowest:,.1f} to {w.highest:,.1f}",
            markup=False,
        )
    console.print("\nMost typical of the target, and least (log ratio, n-grams of the bucket)", style="bold")
    for side in (quality.top, quality.bottom):
        for each in side:
            console.print(f"  {_ngram(each)}", markup=False)
        console.print()
    rows = [
        [s.source, f"{s.raw:,}", f"{s.selected:,}", f"{s.selected / max(1, quality.selected):.1%}"]
        for s in quality.sources[:_SOURCES]
    ]
    _table(console, ["source", "raw", "chosen", "share of the chosen"], rows)
    console.print("\nAround the cut", style="bold")
    width = min(console.width, 100) - 24
    for shown in quality.around:
        mark = "chosen" if shown.selected else "not   "
        console.print(f"  {mark} {shown.score:>10,.2f}  “{excerpt(shown.text, width)}”", markup=False)
    for note in quality.notes:
        console.print(f"\n{printable(note)}", style="yellow", markup=False)


def _ngram(each: Ngram) -> str:
    return f"{each.log_ratio:+7.2f}  {printable('  |  '.join(each.ngrams))}"


def _table(console: Console, header: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for number, row in enumerate([header, *rows]):
        cells = [
            printable(cell).rjust(width) if i else printable(cell).ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        console.print("  ".join(cells).rstrip(), style=None if number else "dim", markup=False)
    console.print()


def demo_selection(console: Console, curated: str, out: str) -> None:
    """Choose from the demo's training part what is like one source in its validation part, and say how well it went."""
    import shutil

    import pyarrow.compute as pc

    from tamis.dataset import DocumentDataset
    from tamis.importance import HashedNgramDSIR

    console.print(
        f"\n[bold]4. Select[/bold] {_DEMO_CHOSEN} documents that are like a few {_DEMO_SOURCE}s (tamis select)"
    )
    target, selected, cache = f"{out}/target", f"{out}/selected", f"{out}/selected.cache"
    for folder in (selected, cache):
        shutil.rmtree(folder, ignore_errors=True)
    few = DocumentDataset.read_json(f"{curated}/validation")
    few[pc.field("source") == _DEMO_SOURCE].to_json(target, mode="fresh", progress="off")
    dsir = HashedNgramDSIR(
        [f"{curated}/train"], [target], cache_dir=cache, min_example_length=20, target_laplace_smoothing=1.0
    )
    dsir.fit_ng_importance_estimator()
    dsir.compute_hybrid_importance_weight(alpha=1.0)
    dsir.resample(out_dir=selected, num_to_sample=_DEMO_CHOSEN)
    quality = dsir.judge(selected)
    d = quality.divergence
    console.print(f"   {quality.selected:,} of {quality.documents:,} documents chosen", markup=False)
    console.print(
        f"   KL(target ‖ documents) in nats: {d.random:.2f} at random, {d.selected:.2f} of the chosen", markup=False
    )
    wide = max((len(printable(s.source)) for s in quality.sources[:_SOURCES]), default=0)
    for s in quality.sources[:_SOURCES]:
        before, after = s.raw / max(1, quality.documents), s.selected / max(1, quality.selected)
        console.print(
            f"   {printable(s.source):<{wide}} {before:6.1%} of all, {after:6.1%} of the chosen", markup=False
        )
