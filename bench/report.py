"""How long a page takes: made from a million documents with thirty scores, opened in a browser, a bound moved.

    python bench/report.py --documents 1000000 --workers 2 --cache FOLDER --out results.json

The first run writes documents (Parquet, 60 words each) and scores them with every filter that measures
(`tamis score all`). To score a million takes longer than this is about, so ``--distinct`` of them are scored, and the
files that were written are there as often as it takes, with other ids. Both are kept in the cache. The page is then
made in a process of its own, by the command that users call: seconds by the clock, and of the processors. A browser
(Chromium, where there is one on the PATH) opens it with an empty cache and moves the first bound 40 times; given
are medians.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tamis.engine.ledger import MANIFEST, OUTPUTS
from tamis.page.content import Page

WORDS = 60
"""On average."""
_PART = 50_000
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def write_documents(folder: Path, documents: int) -> None:
    """Texts of words of a fixed vocabulary, frequent ones first, in lines and paragraphs; the same in every run."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(7)
    letters = np.array(list("aaabcdeeeefghiiijklmnooopqrssttttuuvwxyz"))
    vocabulary = np.array(["".join(generator.choice(letters, size)) for size in generator.integers(2, 11, 5_000)])
    for part in range(-(-documents // _PART)):
        rows = min(_PART, documents - part * _PART)
        lengths = np.minimum(generator.geometric(1 / WORDS, rows), 2_000)
        picked = vocabulary[np.minimum(generator.zipf(1.3, int(lengths.sum())), len(vocabulary)) - 1]
        ends = np.cumsum(lengths)
        texts = []
        for start, end in zip(ends - lengths, ends, strict=True):
            lines = [" ".join(picked[i : min(i + 12, end)]) + "." for i in range(start, end, 12)]
            texts.append("\n".join(lines) + ("\n" + lines[0] if len(lines) % 5 == 0 else ""))
        ids = [f"{part}-{row}" for row in range(rows)]
        table = pa.table({"id": ids, "text": texts, "lang": pa.array(["en", "de", "fr"]).take(pa.array(lengths % 3))})
        pq.write_table(table, folder / f"{part:04d}.parquet", compression="zstd", row_group_size=10_000)


def multiply(small: Path, large: Path, times: int) -> None:
    """The scored documents of a run, so many times over, as a run of them would have left it."""
    shutil.copytree(small, large, ignore=shutil.ignore_patterns("*.parquet", "*.ndjson"))
    manifest = json.loads((small / MANIFEST).read_text())
    totals = manifest["totals"]
    for name in ("records", "kept", "lines", "bytes_in", "bytes_out"):
        totals[name] *= times
    (large / MANIFEST).write_text(json.dumps(manifest))
    listed = []
    for output in map(json.loads, (small / OUTPUTS).read_text().splitlines()):
        table = pq.read_table(small / output["path"])
        for copy in range(times):
            name = f"{copy:04d}-{output['path']}"
            ids = [f"{copy}-{value}" for value in table["id"].to_pylist()]
            pq.write_table(
                table.set_column(table.schema.get_field_index("id"), "id", pa.array(ids)),
                large / name,
                compression="zstd",
                row_group_size=10_000,
            )
            listed.append({**output, "path": name})
    (large / OUTPUTS).write_text("".join(json.dumps(entry) + "\n" for entry in listed))


def timed(*arguments: str) -> tuple[float, float]:
    """Seconds that a command of Tamis takes, its start included: by the clock, and of the processors."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "tamis.cli", *arguments], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processors = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, processors


def in_browser(page: Path) -> dict[str, float] | None:
    """Milliseconds until the page is drawn, and until a moved bound is; None where there is no browser."""
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        opened = []
        for _ in range(3):
            tab = browser.new_context().new_page()
            began = time.perf_counter()
            tab.goto(f"{page.absolute().as_uri()}#scores")
            tab.wait_for_selector(".track input.low")
            opened.append(1000 * (time.perf_counter() - began))
        moved = tab.evaluate(_MOVE)
        browser.close()
    return {"opened_ms": statistics.median(opened), "moved_ms": statistics.median(moved), "moved_worst_ms": max(moved)}


_MOVE = """() => {
  const slider = document.querySelector(".track input.low");
  return Array.from({ length: 40 }, (_, k) => {
    const start = performance.now();
    slider.value = String(100 + 15 * k);
    slider.dispatchEvent(new Event("input"));
    document.body.getBoundingClientRect();
    return performance.now() - start;
  });
}"""


def main() -> None:
    """Make what is missing, time the rest."""
    parser = argparse.ArgumentParser(description="Time `tamis report` on many scored documents.")
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--distinct", type=int, default=20_000, help="documents that are scored")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "tamis-bench" / "report")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    small, times = options.cache / str(options.distinct), max(1, options.documents // options.distinct)
    scored, page = options.cache / f"{options.distinct}x{times}", options.cache / "report.html"
    if not (small / "written").exists():
        write_documents(small / "in", options.distinct)
        (small / "written").touch()
    if not (small / "scored" / MANIFEST).exists():
        out = str(small / "scored")
        seconds, _ = timed("score", "all", str(small / "in"), "--out", out, "--workers", str(options.workers))
        print(f"{options.distinct} documents scored in {seconds:.0f} s")
    if not (scored / OUTPUTS).exists():
        multiply(small / "scored", scored, times)
    arguments = ("report", str(scored), "--out", str(page), "--workers", str(options.workers))
    seconds, processors = zip(*(timed(*arguments) for _ in range(options.rounds)), strict=True)
    content: Page = json.loads(page.read_text().partition('id="data">')[2].partition("</script>")[0])["page"]
    run = content["runs"][0]
    found = {
        "documents": run["counts"]["records"],
        "scores": len([score for score in run["scores"] if score["whole"]]),
        "sample": run["sample"]["drawn"],
        "seconds": statistics.median(seconds),
        "processor_seconds": statistics.median(processors),
        "megabytes": page.stat().st_size / 1e6,
        "input_megabytes": sum(f.stat().st_size for f in scored.glob("*.parquet")) / 1e6,
        "browser": in_browser(page),
    }
    print(json.dumps(found, indent=2))
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
