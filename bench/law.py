"""The law-question curation beside the same steps done with NeMo Curator's functions, one process each.

    python bench/law.py biology.csv robotics.csv --pipeline FOLDER --out results.json

Inputs are CSV files or dumps of Stack Exchange; both sides read the same JSON Lines made of them. Two tasks: with the
redaction of personal data (``--pipeline`` names the folder of a spaCy pipeline for Presidio, and ``--redacted`` how
many questions, for Presidio is slow) and without. Rounds are interleaved; what counts is the ratio of medians of
processor time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "tamis-bench"


def python_of(cache: Path) -> Path:
    """The interpreter of the peers' environment, which is made when it is missing or out of date."""
    wanted = [HERE / "requirements-curator.txt", HERE / "requirements-law.txt"]
    stamp = hashlib.sha256(b"".join(p.read_bytes() for p in wanted) + sys.version.encode()).hexdigest()
    folder = cache / "venv-law"
    python, marker = folder / "bin" / "python", folder / "installed"
    if not (marker.exists() and marker.read_text() == stamp):
        venv.create(folder, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "-r"]
        subprocess.run([*install, str(wanted[0]), "--no-deps"], check=True, stdout=sys.stderr)
        subprocess.run([*install, str(wanted[1])], check=True, stdout=sys.stderr)
        marker.write_text(stamp)
    return python


def questions(paths: list[Path], target: Path, limit: int | None) -> int:
    """Write the questions of all files as JSON Lines with the same names, at most ``limit`` of each."""
    from tamis import DocumentDataset
    from tamis.modifiers import HasText, Rename

    names = {"id": "Id", "question": ["Body", "content"], "title": "Title", "score": "Score", "tags": "Tags"}
    rows = []
    for path in paths:
        dataset = Rename(names, optional=["score"], numbers=["score"])(DocumentDataset.read(path))
        table = HasText(["title", "question"])(dataset).to_arrow().select(list(names)).slice(0, limit)
        for row in table.to_pylist():
            tags = row["tags"].replace("><", " ").strip("<>")
            rows.append(row | {"id": f"{path.stem}-{row['id']}", "score": row["score"] or 0, "tags": tags})
    target.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return len(rows)


def run(command: list[str], output: Path) -> dict[str, float]:
    shutil.rmtree(output, ignore_errors=True)
    environment = os.environ | {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{command[1]} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(source: Path, rows: int, rounds: int, python: Path, pipeline: Path | None) -> dict[str, object]:
    output = source.with_suffix(".out")
    sides = {
        "tamis": [sys.executable, str(HERE / "runners/run_law_tamis.py"), str(source), str(output)],
        "NeMo Curator": [str(python), str(HERE / "runners/run_law_curator.py"), str(source), str(output)],
    }
    if pipeline is not None:
        sides["tamis"].append("--pii")
        sides["NeMo Curator"] += ["--pipeline", str(pipeline)]
    run(sides["tamis"], output)  # compiled kernels are cached
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(1, rounds + 1):
        for name, command in sides.items():
            runs[name].append(run(command, output))
            print(f"round {number}: {name}: {runs[name][-1]['seconds']:.2f} s", file=sys.stderr)
    middle = {name: statistics.median(r["seconds"] for r in found) for name, found in runs.items()}
    return {
        "rows": rows,
        "rows_per_second": {name: rows / seconds for name, seconds in middle.items()},
        "kept": {name: found[0]["kept"] for name, found in runs.items()},
        "faster": middle["NeMo Curator"] / middle["tamis"],
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("input", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pipeline", type=Path, help="folder of a spaCy pipeline: measure with personal data as well")
    parser.add_argument("--redacted", type=int, default=500, help="questions of each file that the second task has")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--python", type=Path, help="an interpreter with the peers' packages, instead of making one")
    parser.add_argument("--out", type=Path, help="write the numbers there as JSON")
    options = parser.parse_args()
    python = options.python or python_of(options.cache.resolve())
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "questions.jsonl"
        rows = questions(options.input, source, None)
        report["without personal data"] = compare(source, rows, options.rounds, python, None)
        if options.pipeline:
            rows = questions(options.input, source, options.redacted)
            report["with personal data"] = compare(source, rows, options.rounds, python, options.pipeline)
    print(
        "| task | questions | Tamis, rows/s | NeMo Curator, rows/s | faster by | kept |\n|---|---:|---:|---:|---:|---:|"
    )
    for task, found in report.items():
        speed, kept = found["rows_per_second"], found["kept"]
        print(
            f"| {task} | {found['rows']:,} | {speed['tamis']:,.0f} | {speed['NeMo Curator']:,.0f} "
            f"| {found['faster']:.1f} | {kept['tamis']:,} and {kept['NeMo Curator']:,} |"
        )
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
