"""The part of data-selection 1.0.3 in the benchmark, as its README uses it: fit, weights, resample.

The time includes starting worker processes; it excludes importing.
"""

import contextlib
import json
import sys
import time
from pathlib import Path

import numpy as np
from data_selection import HashedNgramDSIR


class Recording(HashedNgramDSIR):
    """Keeps the counts, of which the package leaves the shares only."""

    def _fit_bow(self, *args, **options):
        counts = super()._fit_bow(*args, **options)
        self.counted = [*getattr(self, "counted", []), counts]
        return counts


def now() -> tuple[float, float]:
    """Seconds of the clock, and of the processor: of this process, and so of one worker only."""
    return time.perf_counter(), time.process_time()


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(asked["output"])
    dsir = Recording(asked["raw"], asked["target"], str(folder / "cache"), num_proc=asked["workers"])
    marks = [now()]
    with contextlib.redirect_stdout(sys.stderr):
        dsir.fit_importance_estimator(num_tokens_to_fit="all")
        marks.append(now())
        dsir.compute_importance_weights()
        marks.append(now())
        dsir.resample(str(folder / "kept"), asked["number"])
        marks.append(now())
        dsir.resample(str(folder / "best"), asked["number"], top_k=True)
    laps = np.diff(marks, axis=0)
    names = ("fit", "weights", "resample")
    seconds = dict(zip(names, laps[:, 0].tolist(), strict=True))
    cpu = dict(zip(names, laps[:, 1].tolist(), strict=True))
    print(json.dumps({"seconds": seconds | {"all": sum(seconds.values())}, "cpu": cpu | {"all": sum(cpu.values())}}))
    # One part for each file, in the order of the files, as long as there are at least as many files as workers.
    parts = [np.load(dsir.log_importance_weights_dir / f"{i}.npy") for i in range(len(asked["raw"]))]
    raw, target = dsir.counted
    np.savez(folder / "numbers.npz", raw=raw, target=target, log_diff=dsir.log_diff, weights=np.concatenate(parts))


# Worker processes may import this module again.
if __name__ == "__main__":
    main()
