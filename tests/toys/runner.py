"""Do runners who train longer run faster?

A recipe without a model, for testing Hyperband: accuracy grows with epochs, and has a best rate.
"""

import sys
import time
from dataclasses import dataclass

import numpy as np

from lab import Claim, Experiment, Objective, Run, Tuning, half_decades, main


@dataclass(frozen=True)
class Config:
    epochs: int = 4
    rate: float = 0.1
    seconds: float = 0.0


VARIANTS = ("fair", "windy")


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    time.sleep(config.seconds)
    accuracy = 0.5 + 0.1 * np.log2(config.epochs) - 0.1 * np.log10(config.rate) ** 2 - 0.1 * (variant == "windy")
    return {"test_accuracy": float(accuracy), "validation_accuracy": float(accuracy)}


CLAIMS = [Claim("X3", "Wind slows", "us", "test_accuracy", higher="fair", than="windy")]
TUNING = Tuning("rate", dict.fromkeys(VARIANTS, half_decades(0.01, 1.0)), Objective("validation_accuracy"))
EXPERIMENT = Experiment(sys.modules[__name__], VARIANTS, CLAIMS, Config, train=train, tuning=TUNING, first_seed=1)

if __name__ == "__main__":
    main("tests.toys.runner")
