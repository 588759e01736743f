"""Grid, random, Bayesian and Hyperband search over 125 settings, eight trials each."""

from lab import Bars, Claim, Experiment, Unit
from pipelines import batches
from recipes import search as recipe

VARIANTS = ("grid", "random", "bayesian", "hyperband")
COMBINATIONS = len(recipe.RATES) * len(recipe.DROPOUTS) * len(recipe.WIDTHS)


CLAIMS = [
    Claim("H5", "A full grid of 5 × 5 × 5 is 125 trainings", source="DL", asserted=COMBINATIONS == 125),
]

EXPERIMENT = Experiment(
    recipe,
    train=recipe.train,
    variants=VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    feed=batches.augmented,
    smoke={"trials": 4, "epochs": 3, "batch_size": 64},
    least={"trials": 1},
    units={
        "best_trial": Unit("best trial, by validation", 100, "points"),
        "trials": Unit("trials", digits=0),
        "doomed": Unit("trials below 1.5 times chance", 100, "points", 0),
    },
    panels=(Bars("test_accuracy"), Bars("doomed")),
    numbers={
        "48.5 % of test images": "test_accuracy: random",
        "40.0 by a grid": "test_accuracy: grid",
        "came to 40.0 %": "test_accuracy: grid",
        "found 48.5 %": "test_accuracy: random",
        "47.6 %": "test_accuracy: bayesian",
        "with 15 trials": "trials: hyperband",
        "49.8 %": "test_accuracy: hyperband",
        "32 % of the random": "doomed: random",
        "1.5 times chance": "",
    },
)
