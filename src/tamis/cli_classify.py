"""``tamis classify``: what its options mean, and the table of what a model answered.

Imports are made inside the functions, so that ``tamis --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.cli_options import add_output
from tamis.errors import ModelError, UnknownNameError, UsageError, hint, nearest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console  # noqa: TID251  a console is handed in

    from tamis.classifiers.base import DistributedDataClassifier
    from tamis.dataset import DocumentDataset
    from tamis.recipe import Recipe

__all__ = ["CLASSIFIERS", "Answers", "Classification", "add_classify", "answers_in", "prepare", "print_answers"]

_PERMISSIVE = "nvidia/Aegis-AI-Content-Safety-LlamaGuard-Permissive-1.0"
CLASSIFIERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "domain": ("DomainClassifier", {}),
    "multilingual-domain": ("MultilingualDomainClassifier", {}),
    "quality": ("QualityClassifier", {}),
    "content-type": ("ContentTypeClassifier", {}),
    "edu": ("FineWebEduClassifier", {}),
    "edu-mixtral": ("FineWebMixtralEduClassifier", {}),
    "edu-nemotron": ("FineWebNemotronEduClassifier", {}),
    "prompt-task": ("PromptTaskComplexityClassifier", {}),
    "aegis": ("AegisClassifier", {}),
    "aegis-permissive": ("AegisClassifier", {"aegis_variant": _PERMISSIVE}),
    "instruction-data-guard": ("InstructionDataGuardClassifier", {}),
}
"""Short names, the class that each stands for, and its settings."""

_ANY = "DistributedDataClassifier"
_SETTINGS = (
    "filter_by",
    "pred_column",
    "prob_column",
    "max_chars",
    "max_length",
    "batch_size",
    "batch_tokens",
    "device",
    "dtype",
    "columns",
)
"""Options that are settings of the stage, under the same names."""
_NO_TEXT, _NO_LABEL = "(no text)", "(no label)"
_MOST_LABELS = 30
_MOST_BINS = 10
_WIDEST = 40
"""Characters of a label that are shown."""


def add_classify(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a parser's subparsers, and return its own parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "classify",
        help="label documents with a model, and keep those with the labels asked for",
        description="Add what a model says of each document, and keep those with the labels asked for.",
        epilog="More settings, and several stages in one run: see `tamis recipes classify`. A gated model needs "
        "`hf auth login`, or a token in the environment variable HF_TOKEN.",
    )
    parser.add_argument("input", nargs="+", metavar="IN", help="documents: files, folders, globs or URLs")
    parser.add_argument("output", metavar="OUT", help="directory for the result")
    parser.add_argument(
        "--classifier",
        required=True,
        metavar="NAME",
        help=f"{', '.join(CLASSIFIERS)}; or the directory or hub id of any sequence classifier, "
        "one made by `tamis train-classifier` included",
    )
    parser.add_argument("--model", metavar="DIR", help="run the named classifier with the model in DIR, or a hub id")
    parser.add_argument(
        "--filter-by", nargs="+", action="extend", metavar="LABEL", help="keep documents with these labels only"
    )
    columns = parser.add_argument_group("columns")
    columns.add_argument("--text-field", default="text", metavar="FIELD", help="the field of the text (default: text)")
    columns.add_argument("--pred-column", metavar="FIELD", help="the field for the answer")
    columns.add_argument("--prob-column", metavar="FIELD", help="a field for the probabilities of all labels")
    columns.add_argument("--columns", choices=["legacy", "v1"], help="names of NeMo Curator up to 0.9, or of 1.x")
    model = parser.add_argument_group("how the model runs")
    model.add_argument("--max-chars", type=int, metavar="N", help="characters of a text that the model sees")
    model.add_argument("--max-length", type=int, metavar="N", help="tokens of a text that the model sees")
    model.add_argument("--batch-size", type=int, metavar="N", help="most documents in a batch (default: no bound)")
    model.add_argument("--batch-tokens", type=int, metavar="N", help="tokens in a batch (default: what runs fastest)")
    model.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or mps (default: auto)")
    model.add_argument("--dtype", metavar="NAME", help="auto, float32, bfloat16, float16 or int8 (default: auto)")
    output = parser.add_argument_group("input and output")
    output.add_argument("--keep-rejects", action="store_true", help="write what was dropped, with the reason, as well")
    add_output(output, record="record")
    return parser


# -- from options to a run -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Classification:
    """What is to be run: a recipe of one stage."""

    stage: DistributedDataClassifier
    dataset: DocumentDataset
    recipe: Recipe
    """Its output and run sections."""

    @property
    def model(self) -> str:
        """One line: the model, where and in which number format it runs, and how much of a text it sees."""
        from tamis.models.device import pick_device, pick_dtype

        stage = self.stage
        device = pick_device(stage.device, who=stage.name)
        dtype = str(pick_dtype(stage.dtype, device, who=stage.name)).removeprefix("torch.")
        variant = getattr(stage, "aegis_variant", None)
        adapted = "" if variant is None else f" with {variant}"
        limits = [
            f"{limit:,} {unit}"
            for limit, unit in ((stage.max_chars, "characters"), (stage.max_length, "tokens"))
            if limit is not None
        ]
        seen = f", at most {' and '.join(limits)}" if limits else ""
        return f"model {stage.model}{adapted} on {device} in {dtype}{seen}"


def prepare(options: argparse.Namespace) -> Classification:
    """Check the options and make a plan of them; no model is loaded.

    Raises:
        UsageError: They cannot be meant, or the model's directory is not what it should be.
    """
    from tamis.dataset import DocumentDataset
    from tamis.io.files import list_files
    from tamis.io.source import LimitedSource
    from tamis.recipe import Recipe

    stage = _stage(options)
    if options.format == "parquet" and options.compression is not None:
        message = "--compression is for JSON Lines; Parquet files are always compressed with zstd."
        raise UsageError(message)
    files = list_files(options.input)
    read = DocumentDataset.read_parquet if files[0].format == "parquet" else DocumentDataset.read_json
    dataset = read([file.path for file in files], text_field=options.text_field)
    if options.limit is not None:
        dataset = DocumentDataset(LimitedSource(dataset.plan.source, options.limit))
    output = {
        "path": options.output,
        "format": options.format,
        "compression": options.compression,
        "keep_rejects": options.keep_rejects,
    }
    dataset = dataset.append(stage)
    try:
        dataset.check()
    except ModelError as error:
        raise _with_neighbour(error, stage) from error
    return Classification(stage, dataset, Recipe("classify", {}, (), output))


def _stage(options: argparse.Namespace) -> DistributedDataClassifier:
    from dataclasses import fields

    name, settings = _named(options)
    make = _class(name)
    known = {field.name for field in fields(make)}
    for setting in _SETTINGS:
        value = getattr(options, setting)
        if value is None:
            continue
        if setting not in known:
            message = (
                f"--{setting.replace('_', '-')} is for the classifiers that have a name: {', '.join(CLASSIFIERS)}."
            )
            raise UsageError(message)
        settings[setting] = value
    stage = make(**settings)
    if options.prob_column is not None and options.prob_column not in stage.answer_types():
        message = f"{stage.name} answers without probabilities of labels: leave --prob-column out."
        raise UsageError(message)
    return stage


def _with_neighbour(error: ModelError, stage: DistributedDataClassifier) -> ModelError:
    """The error, with the directory that may have been meant where it looks as if one was."""
    path = Path(str(stage.model))
    if path.exists() or not path.parent.is_dir():
        return error
    close = nearest(path.name, [p.name for p in path.parent.iterdir() if p.is_dir()])
    return error if close is None else ModelError(f"{error} Did you mean the directory {path.with_name(close)}?")


def _named(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The class that ``--classifier`` and ``--model`` mean, and what they set."""
    name = options.classifier
    if name in CLASSIFIERS:
        kind, settings = CLASSIFIERS[name]
        return kind, dict(settings) if options.model is None else {**settings, "model": options.model}
    if "/" not in name and not Path(name).is_dir():
        message = (
            f"there is no classifier {name!r} and no such directory. {hint(name, CLASSIFIERS)} "
            "The id of a model on the hub is written owner/name."
        )
        raise UnknownNameError(message)
    if options.model is not None:
        message = f"--classifier {name} is a model already: leave --model out, or name one of {', '.join(CLASSIFIERS)}."
        raise UsageError(message)
    return _ANY, {"model": name}


def _class(name: str) -> type[DistributedDataClassifier]:
    from tamis.recipe import find_stage

    return find_stage(name, "--classifier")  # type: ignore[return-value]  # the names in this file are classifiers


# -- what came of it -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """How often each answer was given."""

    column: str
    rows: tuple[tuple[str, int], ...]
    """The most frequent label first; numbers in bins, in their order."""


def answers_in(path: str, stage: DistributedDataClassifier, format: str) -> Answers:
    """Count the answers in an output directory that holds documents; reads no other column.

    The educational classifiers give a number and an integer: the integers are counted.
    """
    import pyarrow as pa

    from tamis.dataset import DocumentDataset

    column = getattr(stage, "int_column", stage.pred_column)
    kind = stage.answer_types()[column]
    if format == "parquet":
        dataset = DocumentDataset.read_parquet(path, columns=[column])
    else:
        dataset = DocumentDataset.read_json(path, columns=[column], schema={column: kind})
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        rows, missing = _bins(dataset, column, whole=pa.types.is_integer(kind))
    else:
        counts = _labels(dataset, column)
        missing = counts.pop(None, 0)
        rows = sorted(((str(label), n) for label, n in counts.items()), key=lambda item: (-item[1], item[0]))
        if len(rows) > _MOST_LABELS:
            rest = rows[_MOST_LABELS - 1 :]
            rows = [*rows[: _MOST_LABELS - 1], (f"{len(rest)} other labels", sum(n for _, n in rest))]
    if missing:
        rows.append((_NO_TEXT, missing))
    return Answers(column, tuple(rows))


def _labels(dataset: DocumentDataset, column: str) -> Counter[str | None]:
    """How many documents have each label, of which a list holds several; None for documents without an answer."""
    counts: Counter[str | None] = Counter()
    for table in dataset:
        for value in table.column(column).to_pylist():
            if isinstance(value, list):
                counts.update(value or [_NO_LABEL])
            else:
                counts[str(value).lower() if isinstance(value, bool) else value] += 1
    return counts


def _bins(dataset: DocumentDataset, column: str, *, whole: bool) -> tuple[list[tuple[str, int]], int]:
    """A histogram of at most ten bins, and how many documents have no number.

    Bins are steps of 1, 2 or 5 times a power of ten, low edge included; of ``whole`` numbers with 0 to 5 among them.
    """
    import numpy as np

    # The answers are read twice: for their range, and to count them.
    low, high = (0.0, 5.0) if whole else (np.inf, -np.inf)
    missing = 0
    for table in dataset:
        values = _finite(table.column(column))
        missing += table.num_rows - len(values)
        low, high = float(values.min(initial=low)), float(values.max(initial=high))
    if low > high:
        return [], missing
    step = 1.0 if whole else _step(low, high)
    first = math.floor(low / step)
    counts = np.zeros(math.floor(high / step) - first + 1, dtype=np.int64)
    for table in dataset:
        places = np.floor(_finite(table.column(column)) / step).astype(np.int64) - first
        counts += np.bincount(places, minlength=len(counts))
    edges = [(first + i) * step for i in range(len(counts) + 1)]
    names = [f"{a:g}" if whole else f"{a:g} to {b:g}" for a, b in itertools.pairwise(edges)]
    return list(zip(names, counts.tolist(), strict=True)), missing


def _finite(column: Any) -> npt.NDArray[np.float64]:
    import numpy as np

    values: npt.NDArray[np.float64] = column.drop_null().to_numpy().astype(np.float64)
    return values[np.isfinite(values)]


def _step(low: float, high: float) -> float:
    """The smallest step that cuts the range into at most ten bins.

    >>> _step(0.2, 4.9), _step(0.1, 0.85), _step(3, 3)
    (0.5, 0.1, 1.0)
    """
    span = high - low
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / _MOST_BINS))
    steps = (factor * power for factor in (1, 2, 5, 10, 20))
    return next(s for s in steps if math.floor(high / s) - math.floor(low / s) < _MOST_BINS)


def print_answers(console: Console, answers: Answers, documents: int) -> None:
    """A table of the answers with their share of all documents, and bars."""
    from rich.cells import cell_len  # noqa: TID251  how wide a terminal shows a text

    rows = [(_shown(label), f"{n:,}", f"{n / documents:.1%}", n) for label, n in answers.rows]
    header = _shown(answers.column)
    widest = max(cell_len(each) for each in [header, *(label for label, *_ in rows)])
    # 9 for the count, 6 for the share, two blanks between the columns
    room = min(30, max(5, console.width - widest - 22))
    most = max(n for *_, n in rows)

    def padded(label: str) -> str:
        return label + " " * (widest - cell_len(label))

    console.print(f"\n{padded(header)}  documents   share", style="dim", markup=False)
    for label, count, share, n in rows:
        bar = "█" * max(round(n * room / most), 1 if n else 0) if most else ""
        console.print(f"{padded(label)}  {count:>9}  {share:>6}  {bar}".rstrip(), markup=False)
    console.print()


def _shown(label: str) -> str:
    """A label without characters that would move the cursor, not too wide."""
    flat = "".join(c if c.isprintable() else " " for c in label)
    return flat if len(flat) <= _WIDEST else flat[: _WIDEST - 1] + "…"
