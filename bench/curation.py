"""Does curation pay? One model tuned on raw, on curated and on selected questions, under one budget, several seeds.

    python bench/curation.py FOLDER --out proof

FOLDER holds questions of four sites of Stack Exchange: ``beer_Posts.xml`` and ``coffee_Posts.xml`` (dumps),
``robotics.csv`` and ``biology.csv``. Questions of one site (``--site``) are tagged by models that were tuned on
``--rows`` questions of all sites: drawn from the raw ones or the curated ones, or selected from either by importance
resampling (DSIR) towards other questions of that site. What is done already is not done again, and what is there is
judged: arms and seeds can be added later. ``docs/evidence.md`` says more.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tamis import DocumentDataset, Modify, ScoreFilter, Sequential
from tamis.evaluation import TagScores
from tamis.evaluation.bootstrap import interval, replicates
from tamis.evaluation.measures import Judged
from tamis.filters import RepeatingTopNGramsFilter, Where, WordCountFilter, parse_expression
from tamis.hashing import hash64, uniform
from tamis.modifiers import HasText, HtmlToText, Rename, SectionNumberFormatter, TextCleaner, UnicodeReformatter
from tamis.pii import PiiModifier
from tamis.tags import parse_tags
from tamis.tuning.rows import TAGGING, PromptCompletion

SITES = {"beer": "beer_Posts.xml", "coffee": "coffee_Posts.xml", "robotics": "robotics.csv", "biology": "biology.csv"}
NAMES = {"id": "Id", "question": ["Body", "content"], "title": "Title", "score": "Score", "tags": "Tags"}
PRIVATE = ["EMAIL_ADDRESS", "PHONE_NUMBER", "ADDRESS", "US_SSN", "CREDIT_CARD", "IBAN", "IP_ADDRESS"]
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
ARMS = {
    "raw": ("raw", False),
    "curated": ("curated", False),
    "selected": ("curated", True),
    "raw-selected": ("raw", True),
}
"""Which questions an arm is made of, and whether importance resampling chooses them."""
CONTRASTS = (("curated", "raw"), ("selected", "curated"), ("selected", "raw-selected"), ("raw-selected", "raw"))
MEASURES = ("micro_f1", "macro_f1", "sample_f1", "micro_precision", "micro_recall")
HALVES = 7_000
"""Added to the seed that halves the pool, which must not be that of the draw."""
REPLICATES = 2_000
RECIPE = """\
# LoRA on the rows of one arm; what is empty here is set by bench/curation.py

[model]
name = ""

[data]
train = ""

[lora]
rank = 16
alpha = 32

[train]
micro_batch_size = 8

[output]
path = ""
"""


@dataclass(frozen=True)
class Place:
    """The files of the experiment."""

    root: Path

    @property
    def vocabulary(self) -> Path:
        """All tags of both pools, one a line; the last file that :func:`prepare` writes."""
        return self.root / "vocabulary"

    def questions(self, part: str, kind: str) -> Path:
        """``part`` is all of them, those that are asked, the target of the selection, or the pool for training."""
        return self.root / part / f"{kind}.jsonl"

    def rows(self, arm: str, seed: int) -> Path:
        return self.root / "rows" / f"{arm}-{seed}.jsonl"

    def selected(self, arm: str, seed: int) -> Path:
        return self.root / "selected" / f"{arm}-{seed}"

    def tuned(self, arm: str, seed: int) -> Path:
        return self.root / "tuned" / f"{arm}-{seed}"

    def answers(self, name: str, form: str) -> Path:
        return self.root / "answers" / f"{name}-{form}"


def write(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    partial.rename(path)


def read(path: Path) -> list[dict[str, object]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def tamis(*arguments: str | Path) -> None:
    """A command of Tamis, in a process of its own."""
    print("$ tamis", *arguments, file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "tamis.cli", *map(str, arguments)], check=True, stdout=sys.stderr)


# -- the questions -------------------------------------------------------------------------------------------


def raw_questions(folder: Path) -> list[dict[str, object]]:
    """All questions with tags, under one set of names and as they are otherwise; ids name the site."""
    rows: list[dict[str, object]] = []
    for site, name in SITES.items():
        dataset = Rename(NAMES, optional=["score"], numbers=["score"])(DocumentDataset.read(folder / name))
        table = HasText(["title", "question"])(dataset).to_arrow().select(list(NAMES))
        rows += [
            row | {"id": f"{site}-{row['id']}", "site": site, "tags": tags}
            for row in table.to_pylist()
            if (tags := parse_tags(row["tags"] or ""))
        ]
    return rows


def curate() -> Sequential:
    """The steps of the recipe ``law_questions``, without the list of tags in the prompt and without its division."""
    return Sequential(
        [
            Modify(UnicodeReformatter(unescape_html=False)),
            Modify(UnicodeReformatter(), text_field="title"),
            Modify(HtmlToText(code="keep", links="text")),
            Modify(TextCleaner()),
            Modify(TextCleaner(), text_field="title"),
            Modify(PiiModifier(supported_entities=PRIVATE)),
            Modify(PiiModifier(supported_entities=PRIVATE), text_field="title"),
            Modify(SectionNumberFormatter()),
            Modify(SectionNumberFormatter(), text_field="title"),
            ScoreFilter(WordCountFilter(min_words=16), score_field="words"),
            Where(parse_expression("score >= 0 or score is None")),
            ScoreFilter(RepeatingTopNGramsFilter(n=5, max_repeating_ngram_ratio=0.15), score_field="top_5gram_share"),
        ]
    )


def flat(text: object) -> str:
    return " ".join(str(text).lower().split())


def prepare(place: Place, options: argparse.Namespace) -> None:
    """Rows of both kinds: those that are asked, those that say what to select, and the pools without any of these."""
    if place.vocabulary.exists():
        return
    source = place.questions("questions", "raw")
    write(source, raw_questions(options.folder))
    raw = DocumentDataset.read_json(source, text_field="question")
    prompts = PromptCompletion(TAGGING)
    found = {"raw": prompts(raw).to_arrow().to_pylist(), "curated": prompts(curate()(raw)).to_arrow().to_pylist()}
    both = {row["id"] for row in found["raw"]} & {row["id"] for row in found["curated"]}
    own = sorted(each for each in both if each.startswith(f"{options.site}-"))
    order = [own[i] for i in np.argsort(hash64(own, options.split_seed))]
    parts = {
        "asked": set(order[: options.questions]),
        "target": set(order[options.questions : options.questions + options.target]),
    }
    held = parts["asked"] | parts["target"]
    apart = [row for rows in found.values() for row in rows if row["id"] in held]
    titles, bodies = {flat(row["title"]) for row in apart}, {flat(row["question"]) for row in apart}
    vocabulary: set[str] = set()
    for kind, rows in found.items():
        pool = [
            row
            for row in rows
            if row["id"] not in held and flat(row["title"]) not in titles and flat(row["question"]) not in bodies
        ]
        vocabulary |= {tag for row in pool for tag in row["tags"]}
        write(place.questions("pool", kind), pool)
        for part, ids in parts.items():
            write(place.questions(part, kind), (row for row in rows if row["id"] in ids))
        print(f"{kind}: {len(rows):,} questions, {len(pool):,} of them in the pool", file=sys.stderr)
    place.vocabulary.write_text("\n".join(sorted(vocabulary)) + "\n", encoding="utf-8")


def choose(place: Place, options: argparse.Namespace, arm: str, seed: int) -> None:
    """The training rows of an arm, from the half of the pool that the seed leaves.

    Raw and curated rows are drawn by the same hash of their ids: where curation drops nothing, they are the same
    questions.
    """
    if place.rows(arm, seed).exists():
        return
    kind, selects = ARMS[arm]
    pool = read(place.questions("pool", kind))
    left = uniform([row["id"] for row in pool], HALVES + seed) < 0.5
    pool = [row for row, stays in zip(pool, left, strict=True) if stays]
    if selects:
        half, out = place.questions("pool", f"{kind}-{seed}"), place.selected(arm, seed)
        write(half, pool)
        tamis(
            "select", half, "--target", place.questions("target", kind), "--out", out, "--num", str(options.rows),
            "--seed", str(seed), "--text-field", "question", "--source-field", "site", "--workers", "1",
        )  # fmt: skip
        rows = DocumentDataset.read_json(out, text_field="question").to_arrow().to_pylist()
    else:
        order = np.argsort(hash64([row["id"] for row in pool], seed))
        rows = [pool[i] for i in order[: options.rows]]
    write(place.rows(arm, seed), rows)


# -- the models ----------------------------------------------------------------------------------------------


def tune(place: Place, options: argparse.Namespace, arm: str, seed: int) -> None:
    if (place.tuned(arm, seed) / "result.json").exists():
        return
    settings = {
        "model.name": options.model,
        "model.dtype": options.dtype,
        "data.train": place.rows(arm, seed),
        "data.window": options.window,
        "train.max_steps": options.steps,
        "train.global_batch_size": options.batch,
        "train.learning_rate": options.rate,
        "train.warmup_steps": max(1, options.steps // 10),
        "train.seed": seed,
        "output.path": place.tuned(arm, seed),
    }
    recipe = place.root / "recipe.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    tamis("tune", recipe, *(part for name, value in settings.items() for part in ("--set", f"{name}={value}")))


def answer(place: Place, options: argparse.Namespace, model: Path | str, name: str, form: str) -> None:
    """The answers of a model to the questions that are asked, in their raw or their curated form."""
    out = place.answers(name, form)
    done = out.with_suffix(".done")
    if done.exists():
        return
    tamis(
        "generate", model, place.questions("asked", form), "--out", out, "--tags", place.vocabulary,
        "--max-length", str(options.window), "--max-new-tokens", "24", "--dtype", options.dtype, "--workers", "1",
    )  # fmt: skip
    done.touch()


# -- what came of it -----------------------------------------------------------------------------------------


def judged(place: Place, name: str, form: str, rows: Path) -> dict[str, object] | None:
    """What `tamis evaluate` says of a run, with its baselines after the same rows, and the measures' samples."""
    answers = place.answers(name, form)
    if not answers.with_suffix(".done").exists():
        return None
    out = place.root / "reports" / answers.name
    if not (out / "evaluation.json").exists():
        tamis(
            "evaluate", answers, "--vocabulary", place.vocabulary, "--baselines", rows, "--replicates", str(REPLICATES),
            "--workers", "1", "--out", out,
        )  # fmt: skip
    report = json.loads((out / "evaluation.json").read_text())
    table = DocumentDataset.read_json(answers, text_field="prompt").fold(TagScores(replicates=0)).table
    samples = replicates(Judged.of(table, (1,)), table.keys, REPLICATES, 0)
    return {"report": report, "samples": {measure: samples[measure] for measure in MEASURES}}


def values(found: Mapping[str, object], measure: str) -> np.ndarray:
    """Shape ``(1 + replicates,)``: the measure itself, and in every sample of the questions."""
    (own,) = [each["value"] for each in found["report"]["measures"] if each["name"] == measure]
    return np.concatenate([[own], found["samples"][measure]])


def over_seeds(of_seeds: np.ndarray) -> tuple[float, float, float]:
    """Mean over seeds, and its 95 % interval over seeds and questions together.

    Args:
        of_seeds: Shape ``(seeds, 1 + replicates)``; all of them over the same samples of the questions. In each sample
            the seeds are drawn with replacement as well.
    """
    seeds, columns = of_seeds.shape
    draws = (uniform(range(seeds * (columns - 1)), 1) * seeds).astype(np.int64).reshape(seeds, columns - 1)
    mean = float(of_seeds[:, 0].mean())
    return mean, *interval(np.take_along_axis(of_seeds[:, 1:], draws, axis=0).mean(axis=0), mean, 0.95)


def summary(place: Place, options: argparse.Namespace) -> dict[str, object]:
    """Every run, and every difference between two arms over the seeds that both have, paired by seed and question."""
    base = judged(place, "base", "curated", place.questions("pool", "curated"))
    runs: dict[tuple[str, int, str], dict[str, object]] = {}
    for arm, (kind, _) in ARMS.items():
        for seed in options.seeds:
            for form in dict.fromkeys((kind, "curated")):
                if found := judged(place, f"{arm}-{seed}", form, place.rows(arm, seed)):
                    runs[arm, seed, form] = found
    out: dict[str, object] = {
        "base": None if base is None else base["report"],
        "runs": [{"arm": a, "seed": s, "form": f, "report": r["report"]} for (a, s, f), r in runs.items()],
    }
    differences = []
    sides = [((a, ARMS[a][0]), (b, ARMS[b][0])) for a, b in CONTRASTS]
    sides += [((a, "curated"), (b, "curated")) for a, b in CONTRASTS if "raw" in (ARMS[a][0], ARMS[b][0])]
    for first, second in sides:
        seeds = [s for s in options.seeds if {(first[0], s, first[1]), (second[0], s, second[1])} <= runs.keys()]
        for measure in MEASURES if seeds else ():
            each = np.stack(
                [
                    values(runs[first[0], s, first[1]], measure) - values(runs[second[0], s, second[1]], measure)
                    for s in seeds
                ]
            )
            differences.append(stated((first, second), measure, each, seeds))
    means = []
    for arm, form in dict.fromkeys((arm, form) for arm, _, form in runs):
        seeds = [s for s in options.seeds if (arm, s, form) in runs]
        for measure in MEASURES:
            each = np.stack([values(runs[arm, s, form], measure) for s in seeds])
            means.append(stated((arm, form), measure, each, seeds))
            if base is not None:
                gained = each - values(base, measure)
                differences.append(stated(((arm, form), ("base", "curated")), measure, gained, seeds))
    return out | {"means": means, "differences": differences}


def stated(of: object, measure: str, each: np.ndarray, seeds: list[int]) -> dict[str, object]:
    mean, low, high = over_seeds(each)
    return {"of": of, "measure": measure, "mean": mean, "low": low, "high": high, "seeds": seeds,
            "by_seed": each[:, 0].tolist()}  # fmt: skip


def print_tables(found: Mapping[str, object]) -> None:
    base = {"arm": "base", "seed": "", "form": "curated", "report": found["base"]}
    runs = [run for run in (base, *found["runs"]) if run["report"]]
    print("| arm | seed | asked in the form | micro F1 | macro F1 | most frequent tags | TF-IDF, same rows |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for run in runs:
        own = {m["name"]: m for m in run["report"]["measures"]}
        cells = [f"{own[m]['value']:.3f} [{own[m]['low']:.3f}, {own[m]['high']:.3f}]" for m in ("micro_f1", "macro_f1")]
        beside = (m for b in run["report"]["baselines"] for m in b["measures"] if m["name"] == "micro_f1")
        cells += [f"{m['value']:.3f}" for m in beside]
        print(f"| {run['arm']} | {run['seed']} | {run['form']} | {' | '.join(cells)} |")
    for title, part in (("mean over seeds", "means"), ("difference", "differences")):
        print(f"\n| {title} | measure | value | 95 % interval | by seed |\n|---|---|---:|---:|---|")
        for each in (e for e in found[part] if e["measure"] in MEASURES[:2]):
            sides = [each["of"]] if part == "means" else each["of"]
            name = " - ".join(f"{arm} (asked {form})" for arm, form in sides)
            seeds = ", ".join(f"{value:+.3f}" if part == "differences" else f"{value:.3f}" for value in each["by_seed"])
            value = f"{each['mean']:+.3f}" if part == "differences" else f"{each['mean']:.3f}"
            print(f"| {name} | {each['measure']} | {value} | [{each['low']:+.3f}, {each['high']:+.3f}] | {seeds} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="where the questions of the four sites are")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--site", default="robotics", choices=SITES, help="whose questions are asked")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--target", type=int, default=300, help="questions that say what to select")
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=ARMS, help="none: judge what is there")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--split-seed", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=480, help="of every arm")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    place = Place(options.out)
    prepare(place, options)
    answer(place, options, options.model, "base", "curated")
    for seed in options.seeds:
        for arm in options.arms:
            choose(place, options, arm, seed)
            tune(place, options, arm, seed)
            for form in dict.fromkeys((ARMS[arm][0], "curated")):
                answer(place, options, place.tuned(arm, seed) / "best", f"{arm}-{seed}", form)
    found = summary(place, options)
    (place.root / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    print_tables(found)


if __name__ == "__main__":
    main()
