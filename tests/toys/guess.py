"""Do coins land heads up?

A recipe without a model, for testing the harness: a variant is a bias, and the config says how a run ends.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass

import numpy as np

from lab import Claim, Experiment, Objective, Run, Tuning, half_decades, main


@dataclass(frozen=True)
class Config:
    seconds: float = 0.0
    rate: float = 1.0
    kill: str = ""  # "fair:2" ends the worker of that run.
    fail: str = ""
    diverge: str = ""


VARIANTS = {"fair": 0.5, "loaded": 0.8}


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    me = f"{variant}:{run.seed}"
    (run.folder / "pid").write_text(str(os.getpid()))
    time.sleep(config.seconds)
    if config.kill == me:
        os.kill(os.getpid(), signal.SIGKILL)
    if config.fail == me:
        raise ValueError("the coin rolled under the table")
    if config.diverge == me:
        run.diverged = True
        return {"test_accuracy": 0.1}
    return metrics(variant, run.seed, config.rate)


def metrics(variant: str, seed: int, rate: float = 1.0) -> dict[str, float]:
    accuracy = VARIANTS[variant] + np.random.default_rng(seed).normal(0, 0.01) - 0.1 * np.log10(rate) ** 2
    return {"test_accuracy": float(accuracy), "validation_accuracy": float(accuracy)}


CLAIMS = [Claim("X1", "A loaded coin wins", "us", "test_accuracy", higher="loaded", than="fair")]
TUNING = Tuning(
    swept="rate",
    grids=dict.fromkeys(VARIANTS, half_decades(0.01, 0.1)),  # The best, 1, lies beyond the edge.
    objective=Objective("validation_accuracy"),
)
EXPERIMENT = Experiment(sys.modules[__name__], VARIANTS, CLAIMS, Config, train=train, tuning=TUNING, first_seed=1)

if __name__ == "__main__":
    main("tests.toys.guess")
