"""Which of two sleeps is longer?

A recipe of the exclusive form, for testing the harness: all variants of a seed in one process.
"""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from lab import Claim, Experiment, Run, main


@dataclass(frozen=True)
class Config:
    repeats: int = 3


VARIANTS = {"short": 0.002, "long": 0.02}


def compare(config: Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    seconds = dict.fromkeys(runs, 0.0)
    for _ in range(config.repeats):
        for name in runs:
            start = time.perf_counter()
            time.sleep(VARIANTS[name])
            seconds[name] += time.perf_counter() - start
    return {name: {"seconds": seconds[name], "process": float(os.getpid())} for name in runs}


CLAIMS = [Claim("P1", "Long is longer", "us", "seconds", delta=0.1, higher="long", than="short")]
EXPERIMENT = Experiment(sys.modules[__name__], VARIANTS, CLAIMS, Config, compare=compare, first_seed=1)

if __name__ == "__main__":
    main("tests.toys.pair")
