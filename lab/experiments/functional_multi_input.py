"""A gray picture with six numbers of color, as a second input and as a second output; a color picture with them."""

from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from lab import Bars, Claim, Experiment, Lines, Objective, Run, Tuning, Unit, half_decades
from pipelines import batches, sources
from recipes import functional_multi_input as recipe


def only_image(images, labels):
    return {"image": recipe.thumbnail(images)}, {"label": labels}


def only_numbers(images, labels):
    return {"numbers": recipe.color_numbers(images)}, {"label": labels}


def shuffled_numbers(images, labels):
    """Each image with the numbers of its neighbor in the batch: as many parameters, and nothing to learn from them."""
    inputs, targets = recipe.image_and_numbers(images, labels)
    return {**inputs, "numbers": tf.roll(inputs["numbers"], shift=1, axis=0)}, targets


def color_image(images, labels):
    return {"image": images}, {"label": labels}


def color_image_and_numbers(images, labels):
    return {"image": images, "numbers": recipe.color_numbers(images)}, {"label": labels}


# What each variant's model is given and asked for.
PREPARE = {
    "image": only_image,
    "numbers": only_numbers,
    "both": recipe.image_and_numbers,
    "both_shuffled": shuffled_numbers,
    "color": color_image,
    "color_both": color_image_and_numbers,
    "second_light": recipe.image_to_numbers,
    "second_middle": recipe.image_to_numbers,
    "second_heavy": recipe.image_to_numbers,
}
# Adam's peak learning rate for each, chosen on validation images.
RATES = {
    "image": 0.0057,
    "numbers": 0.01,
    "both": 0.0057,
    "both_shuffled": 0.0057,
    "color": 0.0032,
    "color_both": 0.0018,
    "second_light": 0.0057,
    "second_middle": 0.0057,
    "second_heavy": 0.0057,
}
WEIGHTS = {"second_light": 0.03, "second_middle": 0.1, "second_heavy": 0.3}
VARIANTS = {name: partial(recipe.train, rate=rate, build_model=recipe.build_model) for name, rate in RATES.items()}
VARIANTS |= {name: partial(VARIANTS[name], second_weight=weight) for name, weight in WEIGHTS.items()}


def train(variant: str, config, run: Run) -> dict[str, float]:
    data, prepare = sources.load(run.data), PREPARE[variant]
    named: dict[str, Any] = {"prepare": prepare, "output": "label"}
    model = run.bound(
        batches.training(data.train, config.batch_size, seed=run.seed).map(prepare),
        batches.evaluation(data.validation).map(prepare),
        len(data.classes),
        callbacks=run.callbacks(data, **named),
    )
    scores = run.scores(model, data, **named)
    if variant in WEIGHTS and not run.diverged:
        scores["explained"] = explained(model, batches.evaluation(run.open_test_set(data)).map(prepare))
    return scores


def explained(model, test) -> float:
    """The share of the variance of the second target that the second output explains."""
    wanted = np.concatenate([targets["second"] for _, targets in test])
    errors = wanted - model.predict(test, verbose=0)["second"]
    return float(1 - np.mean(errors**2) / np.mean((wanted - wanted.mean(axis=0)) ** 2))


CLAIMS = [
    Claim(
        "B7a",
        "Merging an image branch and a numeric branch beats either branch alone",
        source="ours, on DL's example",
        metric="test_accuracy",
        higher="both",
        than=("image", "numbers"),
    ),
    Claim(
        "B7b",
        "A second branch helps by its information and not by its parameters: with another image's numbers it does "
        "not help",
        source="ours, a control of B7a",
        metric="test_accuracy",
        equal=("both_shuffled", "image"),
        side="above",
    ),
    Claim(
        "B7d",
        "The numbers help where the image branch sees the same colors, too",
        source="ours, a control of B7a",
        metric="test_accuracy",
        higher="color_both",
        than="color",
    ),
    *(
        Claim(
            f"B7c{number}",
            f"A related second task, the numbers as an output at a loss weight of {weight:g}, raises the accuracy of "
            "the first",
            said="A related second task, learned from the same layers, raises the accuracy of the first",
            source="Caruana 1997",
            metric="test_accuracy",
            higher=name,
            than="image",
        )
        for number, (name, weight) in enumerate(WEIGHTS.items(), 1)
    ),
]

EXPERIMENT = Experiment(
    recipe,
    train=train,
    variants=VARIANTS,
    claims=CLAIMS,
    flags={"batch_size": 128},
    smoke={"epochs": 5, "batch_size": 32},
    left_out=("color_both", "second_light", "second_heavy"),
    tuning=Tuning("rate", dict.fromkeys(VARIANTS, half_decades(3.2e-4, 3.2e-2)), Objective("validation_accuracy")),
    units={"explained": Unit("second output's variance explained", 100, "points", 0)},
    panels=(Lines("val_accuracy"), Bars("test_accuracy")),
    answer="A second input can help: six color numbers add {test_accuracy.both - "
    "test_accuracy.image} to a gray picture. As a second output with a small weight they make no real difference.",
    rests_on=("B7a", "not B7c1"),
    about={
        "loss_weights=": ("B7c1", "B7c2", "B7c3"),
        "Concatenate": ("B7a", "B7b", "B7d"),
    },
    advice=[
        "**Add an input that says something new.** A gray thumbnail with six numbers of its colors reaches "
        "{test_accuracy.both}, and the thumbnail alone {test_accuracy.image}.",
        "**Do not count on a second output.** The numbers as an output make no real difference at a loss weight of "
        "{argument.second_weight.second_light}. Whether they help at "
        "{argument.second_weight.second_middle}, or harm at {argument.second_weight.second_heavy}, is undecided.",
    ],
)
