"""A gray picture with and without six numbers of colour, and with a second output."""

from lab import Bars, Claim, Experiment, Lines, Objective, Tuning, Unit, half_decades
from recipes import functional_multi_input as recipe

CLAIMS = [
    Claim(
        "B7a",
        "Merging an image branch and a numeric branch beats either branch alone",
        source="DL",
        metric="test_accuracy",
        higher="both",
        than=("image", "numbers"),
    ),
    Claim(
        "B7b",
        "A second branch adds its information and not its parameters: one that says nothing raises nothing",
        source="our control of B7a",
        metric="test_accuracy",
        equal=("both_shuffled", "image"),
        side="above",
    ),
    Claim(
        "B7c",
        "A coarser label (animal or vehicle), learned from the same layers at a weight of 0.3, raises the accuracy",
        said="A related second task, learned from the same layers, raises the accuracy of the first",
        source="Caruana 1997",
        metric="test_accuracy",
        higher="two_heads",
        than="both",
    ),
]

UNITS = {"kind_accuracy": Unit("animal or vehicle", 100, "points")}
TUNING = Tuning("rate", dict.fromkeys(recipe.VARIANTS, half_decades(3.2e-4, 3.2e-2)), Objective("validation_accuracy"))


PANELS = (Lines("val_accuracy"), Bars("test_accuracy"))

EXPERIMENT = Experiment(
    recipe,
    train=recipe.train,
    variants=recipe.VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    smoke={"epochs": 5, "batch_size": 32},
    tuning=TUNING,
    units=UNITS,
    panels=PANELS,
    first_seed=101,
    numbers={
        "picture 3.4 points": "test_accuracy: both - image",
        "57.8 %": "test_accuracy: both",
        "3.4 points up": "test_accuracy: both - image",
        "(53.7 %)": "test_accuracy: both_shuffled",
        "(62.9 %)": "test_accuracy: colour",
        "90.8 %": "kind_accuracy: two_heads",
        "(57.7 %)": "test_accuracy: two_heads",
        "weight of 0.3": "",
        "between 0.0018": "RATES: colour",
        "and 0.0057": "RATES: both",
        "8,000 images": "",
    },
)
