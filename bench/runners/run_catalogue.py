"""One program's part of ``bench/catalogue.py``: Gopher's quality and repetition rules, as far as it has them.

    python run_catalogue.py PROGRAM INPUT OUTPUT [--workers N] [--memory SECONDS]

From files: JSONL in, the documents kept out, into OUTPUT. From memory (one core): all texts are loaded first, then
decided again and again for so many seconds; the ids kept go to OUTPUT/kept.json. Prints seconds of the clock and of
the processor. Peers run without their engines, in a loop over lines that orjson reads, which favours them; of their
packages only the modules that score and decide are entered.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson

Decide = Callable[[str], bool]
TOP = ((2, 0.20), (3, 0.18), (4, 0.16))
DUPLICATE = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))


def loop() -> Decide:
    """The tuned plain loop: all 20 rules."""
    from gopher_loop import keeps

    return lambda text: keeps(text) is not False


def datatrove(tokenizer: Any = "eng") -> Decide:
    """datatrove's two Gopher filters: all 20 rules, words by spaCy's English tokenizer."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter

    quality = GopherQualityFilter(language=tokenizer)
    repetition = GopherRepetitionFilter(language=tokenizer)

    def decide(text: str) -> bool:
        document = Document(text=text, id="")
        return quality.filter(document) is True and repetition.filter(document) is True

    return decide


def datatrove_split() -> Decide:
    """The same with words divided at white space, which its tokenizer interface allows."""
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Split(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            return [text]

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]

    return datatrove(Split())


def dolma() -> Decide:
    """dolma's Gopher tagger: 16 statistics, which it writes beside the documents; nothing is decided."""
    from entered import enter

    enter("dolma", "dolma.core", "dolma.taggers")
    from dolma.taggers.gopher import get_attributes

    return lambda text: get_attributes(text) is not None


def curator() -> Decide:
    """NeMo Curator's filters, all 20 rules under their names; a document on which one of them raises is dropped."""
    from entered import curator_filters

    f = curator_filters()
    filters = [
        f.WordCountFilter(50, 100_000),
        f.MeanWordLengthFilter(3, 10),
        f.SymbolsToWordsFilter(0.1),
        f.BulletsFilter(0.9),
        f.EllipsisFilter(0.3),
        f.WordsWithoutAlphabetsFilter(0.8),
        f.CommonEnglishWordsFilter(2),
        f.RepeatedLinesFilter(0.7),
        f.RepeatedParagraphsFilter(0.7),
        f.RepeatedLinesByCharFilter(0.8),
        f.RepeatedParagraphsByCharFilter(0.8),
        *(f.RepeatingDuplicateNGramsFilter(n, bound) for n, bound in DUPLICATE),
        *(f.RepeatingTopNGramsFilter(n, bound) for n, bound in TOP),
    ]

    def decide(text: str) -> bool:
        try:
            return all(each.keep_document(each.score_document(text)) for each in filters)
        except (ZeroDivisionError, ValueError):
            return False

    return decide


def juicer() -> Decide:
    """Data-Juicer: number of words and repeated n-grams of 2 to 10 words (10 rules; it has no others of Gopher's)."""
    from data_juicer.ops.filter.word_repetition_filter import WordRepetitionFilter
    from data_juicer.ops.filter.words_num_filter import WordsNumFilter
    from data_juicer.utils.constant import Fields

    filters = [WordsNumFilter(min_num=50, max_num=100_000)]
    filters += [WordRepetitionFilter(rep_len=n, max_ratio=bound) for n, bound in (*TOP, *DUPLICATE)]

    def decide(text: str) -> bool:
        # As its fused operators do: the words are found once, in a context that the filters share.
        context: dict[str, Any] = {}
        for each in filters:
            sample = {"text": [text], Fields.stats: [{}], Fields.context: [context]}
            each.compute_stats_batched(sample, context=True)
            if not next(iter(each.process_batched(sample))):
                return False
        return True

    return decide


OWN = ("tamis", "tamis-engine", "tamis-walks")
PROGRAMS = {
    "loop": loop,
    "datatrove": datatrove,
    "datatrove-split": datatrove_split,
    "dolma": dolma,
    "curator": curator,
    "juicer": juicer,
}


def processor() -> float:
    """Seconds of the processor that this process and its children took."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def rows(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.open("rb")]


def one_file(path: Path, program: str, output: Path) -> None:
    decide = PROGRAMS[program]()
    with path.open("rb") as lines, (output / path.name).open("wb") as out:
        out.writelines(line for line in lines if decide(orjson.loads(line)["text"]))


def from_files(program: str, source: Path, output: Path, workers: int) -> None:
    if program in OWN:
        from tamis import DocumentDataset
        from tamis.filters import massive_text

        massive_text()(DocumentDataset.read_json(source)).to_json(output, workers=workers)
        return
    job = partial(one_file, program=program, output=output)
    paths = sorted(source.glob("*.jsonl"))
    if workers == 1:
        for path in paths:
            job(path)
    else:
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            pool.map(job, paths, chunksize=1)


def in_memory(program: str, source: Path) -> Callable[[], Sequence[str]]:
    """A function that decides about all texts, which are loaded, and gives the ids of those kept."""
    found = rows(source)
    texts, ids = [row["text"] for row in found], [row["id"] for row in found]
    if program not in OWN:
        decide = PROGRAMS[program]()
        return lambda: [i for text, i in zip(texts, ids, strict=True) if decide(text)]
    import pyarrow as pa

    from tamis import DocumentDataset
    from tamis.filters import massive_text

    # In tables of 8 MB, two at least: what is found about a text is kept until another is asked about.
    whole = pa.table({"id": pa.array(ids), "text": pa.array(texts, pa.large_string())})
    step = max(1, min(len(ids) // 2, len(ids) * 8_000_000 // whole["text"].nbytes))
    tables = [whole.slice(i, step).combine_chunks() for i in range(0, len(ids), step)]
    clean = massive_text()
    if program == "tamis":
        groups = [list(group) for _, group in groupby((step.filter_obj for step in clean), lambda each: each.family)]
        return lambda: [i for table in tables for i in kept_of(table, groups)]
    if program == "tamis-walks":
        from tamis.text.repetition import repetition
        from tamis.text.surface import surface

        chunks = [table["text"].chunk(0) for table in tables]
        return lambda: [name for chunk in chunks for name in (*surface(chunk), *repetition(chunk))]
    data = [DocumentDataset.from_arrow(table) for table in tables]
    return lambda: [i for each in data for i in clean(each).to_arrow()["id"].to_pylist()]


def kept_of(table: Any, groups: Sequence[Sequence[Any]]) -> list[str]:
    """The ids that all filters keep; those that share a walk see the same texts, the next ones what is left."""
    import numpy as np
    import pyarrow as pa

    ids, texts = table["id"].chunk(0), table["text"].chunk(0)
    for group in groups:
        keep = np.ones(len(texts), dtype=np.bool_)
        for each in group:
            keep &= each.keep_batch(each.score_batch(texts)).to_numpy(zero_copy_only=False)
        ids, texts = ids.filter(pa.array(keep)), texts.filter(pa.array(keep))
    return list(ids.to_pylist())


def from_memory(program: str, source: Path, output: Path, seconds: float) -> dict[str, float]:
    decide = in_memory(program, source)
    kept = decide()  # kernels are loaded, models are there
    (output / "kept.json").write_text(json.dumps(list(kept)))
    gc.collect()
    gc.disable()  # it looks for garbage whenever many tuples are made, and finds none
    times = 0
    clock, start = time.perf_counter(), time.process_time()
    while not times or time.process_time() - start < seconds:
        decide()
        times += 1
    return {
        "seconds": (time.perf_counter() - clock) / times,
        "processor": (time.process_time() - start) / times,
        "times": times,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program", choices=[*OWN, *PROGRAMS])
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--memory", type=float, help="seconds for which the texts are decided about, from memory")
    options = parser.parse_args()
    if options.memory is not None:
        result = from_memory(options.program, options.input, options.output, options.memory)
    else:
        before = processor()
        clock = time.perf_counter()
        from_files(options.program, options.input, options.output, options.workers)
        result = {"seconds": time.perf_counter() - clock, "processor": processor() - before}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
