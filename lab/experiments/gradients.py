"""Clipping, noise, a rate for each layer and lower rates, on the same network."""

from lab import Bars, Claim, Experiment, Lines, Objective, Tuning, Unit, half_decades
from pipelines import batches
from recipes import gradients as recipe

VARIANTS = ("plain", *recipe.CLIPS, "lower_rate", "high", *recipe.NOISE, "layer_rates")


CLAIMS = [
    Claim(
        "B11",
        "Clipping the gradient's norm rescues a learning rate that otherwise learns nothing",
        said="Clipping the gradient's norm rescues a learning rate that otherwise diverges",
        source="DL",
        metric="test_accuracy",
        higher="high_clipped",
        than="high",
    ),
    Claim(
        "B11b",
        "A rate that clipping has rescued, its steps as long, is as good as one that needs no rescue",
        source="our question beside B11",
        metric="test_accuracy",
        equal=("high_clipped", "plain"),
        side="below",
    ),
    Claim(
        "B12",
        "Noise injected into gradients, at first 0.3, 1 and 3 times as long, raises accuracy in four epochs",
        said="Noise injected into gradients helps the model out of poor minima",
        source="DL",
        metric="test_accuracy",
        higher=("noise_weak", "noise", "noise_strong"),
        than="plain",
    ),
    Claim(
        "P3",
        "Clipping every update is a lower rate under another name",
        said="Clipping more than half of the updates is a lower rate under another name",
        source="TP",
        metric="test_accuracy",
        equal=("clipped_often", "lower_rate"),
    ),
    Claim(
        "P3b",
        "A rate as low as that makes a difference here (without which P3 would say nothing)",
        source="our control of P3",
        metric="test_accuracy",
        higher="plain",
        than="lower_rate",
    ),
]

UNITS = {
    "clipped": Unit("steps that were clipped", 100, "points", 0),
    "step_length": Unit("mean length of a step", 1000, "thousandths", 1),
    "share_of_steps": Unit("steps", 100, "points"),
    "norm": Unit("norm of the gradient"),
}
PANELS = (
    Lines(
        "share_of_steps",
        x="norm",
        variants=("plain", "clipped", "clipped_often", "lower_rate", "high_clipped"),
        log="x",
        title="Norms of all steps, before they are clipped",
    ),
    Bars("test_accuracy"),
)
TUNING = Tuning("rate", dict.fromkeys(recipe.RATES, half_decades(3.2e-3, 3.2e-1)), Objective("validation_accuracy"))

EXPERIMENT = Experiment(
    recipe,
    train=recipe.train,
    variants=VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    feed=batches.augmented,
    smoke={"epochs": 3, "batch_size": 32, "high_rate": 0.32},
    tuning=TUNING,
    fails=("high",),
    units=UNITS,
    panels=PANELS,
    first_seed=101,
    numbers={
        "here 2.7": "",
        "9 % of the steps": "clipped: clipped",
        "55.9 % with it": "test_accuracy: clipped",
        "55.6 % without": "test_accuracy: plain beside clipped",
        "cost 4.0 points": "test_accuracy: plain - clipped_often",
        "0.33 times the rate": "",
        "cost 4.2": "test_accuracy: plain - lower_rate",
        "rate of 0.4": "",
        "those of 0.032": "RATES: plain",
        "same 55.7 %": "test_accuracy: high_clipped",
        "from 0.3 to 3 times": "",
        "ended 0.6 points": "test_accuracy: layer_rates - plain",
        "(56.2 %)": "test_accuracy: layer_rates",
    },
)
