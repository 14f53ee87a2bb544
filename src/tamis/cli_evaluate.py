"""``tamis evaluate``: how well predicted tags fit the true ones.

Imports are made inside the functions, so that ``tamis --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tamis.cli_text import printable

if TYPE_CHECKING:
    from rich.console import Console  # noqa: TID251  a console is handed in

    from tamis.evaluation import Comparison, TagReport

__all__ = ["add_evaluate", "print_report"]

_TAGS = 10
"""Tags that are listed; the files have all."""


def add_evaluate(commands: Any, console: Callable[[], Console]) -> None:
    """Add the command to a parser's subparsers."""
    evaluate = commands.add_parser(
        "evaluate",
        help="judge predicted tags by the true ones",
        description="Precision, recall, F1 and more of multi-label tags, with intervals, baselines and comparisons.",
    )
    evaluate.add_argument("predictions", nargs="+", metavar="PREDICTIONS", help="rows with predicted tags")
    evaluate.add_argument(
        "--true", default="tags", metavar="FIELD", help="the field with the true tags (default: tags)"
    )
    evaluate.add_argument(
        "--predicted",
        default="predicted_tags",
        metavar="FIELD",
        help="with the predicted ones (default: predicted_tags)",
    )
    evaluate.add_argument("--truth", action="append", metavar="PATH", help="where the true tags lie, if elsewhere")
    evaluate.add_argument(
        "--against", action="append", metavar="PATH", help="another run's predictions, to compare with"
    )
    evaluate.add_argument("--vocabulary", metavar="FILE", help="all allowed tags: one on each line, or a list in JSON")
    evaluate.add_argument(
        "--baselines", action="append", metavar="TRAIN", help="training rows for the baselines, with tags and texts"
    )
    evaluate.add_argument("--text-field", default="prompt", metavar="FIELD", help="the text of a row (default: prompt)")
    evaluate.add_argument("--at", default="1,3,5", metavar="K,K", help="the ks of precision at k (default: 1,3,5)")
    evaluate.add_argument("--replicates", type=int, default=1000, metavar="N", help="bootstrap samples (default: 1000)")
    evaluate.add_argument("--seed", type=int, default=0, metavar="S", help="of the samples (default: 0)")
    evaluate.add_argument("--workers", type=int, metavar="N", help="worker processes (default: one per core)")
    evaluate.add_argument("--out", metavar="DIR", help="write evaluation.json and evaluation.html into this directory")
    evaluate.set_defaults(command=lambda options: _evaluate(options, console()))


def _evaluate(options: argparse.Namespace, console: Console) -> int:
    from tamis.evaluation import TagScores
    from tamis.scoring import evaluate, read_vocabulary, write_report

    scores = TagScores(
        true=options.true,
        predicted=options.predicted,
        vocabulary=read_vocabulary(options.vocabulary) if options.vocabulary else None,
        at=_ks(options.at),
        replicates=options.replicates,
        seed=options.seed,
    )
    report = evaluate(
        options.predictions,
        scores,
        truth=options.truth,
        against=options.against,
        train=options.baselines,
        text_field=options.text_field,
        workers=options.workers,
    )
    print_report(console, report)
    if options.out:
        written = write_report(report, options.out)
        console.print(f"\nWritten to {' and '.join(written)}", markup=False)
    return 0


def _ks(text: str) -> tuple[int, ...]:
    from tamis.errors import UsageError

    try:
        return tuple(sorted({int(k) for k in text.split(",")}))
    except ValueError:
        message = f"--at takes whole numbers with commas between them, such as 1,3,5, not {text!r}."
        raise UsageError(message) from None


def print_report(console: Console, report: TagReport) -> None:
    """What a report says, in short."""
    counted = [f"{report.documents:,} documents judged"]
    if report.without_truth:
        counted.append(f"{report.without_truth:,} without true tags left out")
    if report.without_answer:
        counted.append(f"{report.without_answer:,} without an answer (counted as no tag)")
    console.print(printable(", ".join(counted)), markup=False)
    names = [b.name for b in report.baselines]
    console.print(f"\n{'':20}  value   95 % interval    " + "  ".join(printable(name) for name in names), style="dim")
    others = [{m.name: m.value for m in b.measures} for b in report.baselines]
    for m in report.measures:
        beside = "  ".join(
            f"{other.get(m.name, math.nan):{len(name)}.3f}" for name, other in zip(names, others, strict=True)
        )
        console.print(f"{m.name:20}  {m.value:.3f}   {_bounds(m.low, m.high):16} {beside}".rstrip(), markup=False)
    for b in report.baselines:
        console.print(f"{printable(b.name)}: {printable(b.how)}", style="dim", markup=False)
    _print_tags(console, report)
    if report.comparison is not None:
        _print_comparison(console, report.comparison)
    for note in report.notes:
        console.print(f"\n{printable(note)}", style="yellow", markup=False)


def _print_tags(console: Console, report: TagReport) -> None:
    console.print(f"\n{'tag':30}    true  predicted  precision  recall     F1", style="dim")
    for t in report.tags[:_TAGS]:
        counts = f"{t.support:7,} {t.predicted:10,} {t.precision:10.3f} {t.recall:7.3f} {t.f1:6.3f}"
        console.print(f"{printable(t.tag)[:30]:30} {counts}", markup=False)
    if len(report.tags) > _TAGS:
        console.print(f"... {len(report.tags):,} tags in all", style="dim")
    if report.unknown:
        some = ", ".join(f"{tag} ({n:,})" for tag, n in report.unknown[:5])
        console.print(f"\nNot in the vocabulary, most often: {printable(some)}", markup=False)


def _print_comparison(console: Console, comparison: Comparison) -> None:
    console.print(
        f"\nAgainst {printable(comparison.other)} on {comparison.documents:,} documents: {comparison.better:,} better, "
        f"{comparison.worse:,} worse, {comparison.same:,} the same",
        markup=False,
    )
    console.print(f"{'':20}   this  other  difference  95 % interval         p", style="dim")
    for d in comparison.differences:
        bounds = _bounds(d.low, d.high, "+.3f")
        console.print(
            f"{d.name:20}  {d.first:.3f}  {d.second:.3f}      {d.difference:+.3f}  {bounds:18}  {d.p:.4f}", markup=False
        )


def _bounds(low: float, high: float, form: str = ".3f") -> str:
    return f"[{low:{form}}, {high:{form}}]" if math.isfinite(low) else ""
