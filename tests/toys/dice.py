"""Do loaded dice win?

A recipe without a model, for testing looks: each variant has its own noise. "clear" beats "fair" at a glance, "faint"
only after many throws, and no claim speaks of "unclaimed".
"""

import sys
from dataclasses import dataclass

import numpy as np

from lab import Claim, Experiment, Run, main


@dataclass(frozen=True)
class Config:
    noise: float = 0.02


VARIANTS = {"fair": 0.5, "clear": 0.6, "faint": 0.514, "unclaimed": 0.7}


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    noise = np.random.default_rng([run.seed, list(VARIANTS).index(variant)]).normal(0, config.noise)
    return {"test_accuracy": float(VARIANTS[variant] + noise)}


CLAIMS = [
    Claim("D1", "A loaded die wins", "us", "test_accuracy", higher="clear", than="fair"),
    Claim("D2", "A slightly loaded die wins", "us", "test_accuracy", higher="faint", than="fair"),
]
EXPERIMENT = Experiment(sys.modules[__name__], VARIANTS, CLAIMS, Config, train=train, first_seed=1)

if __name__ == "__main__":
    main("tests.toys.dice")
