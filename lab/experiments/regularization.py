"""Ten regularizers and what early stopping keeps, with 1,000 training images."""

import dataclasses

import numpy as np
import tensorflow as tf

from lab import Bars, Claim, Experiment, Lines, Objective, Run, Tuning, Unit, half_decades
from pipelines import sources
from recipes import regularization as recipe

VARIANTS = ("none", *recipe.STRENGTHS, *recipe.KEPT_BY, "all")


CLAIMS = [
    Claim(
        "G1a",
        "Dropout narrows the train-test gap on a small training set",
        source="TF, DL",
        metric="generalization_gap",
        lower="dropout",
        than="none",
    ),
    Claim(
        "G1b",
        "Dropout raises test accuracy on a small training set",
        source="TF, DL",
        metric="test_accuracy",
        higher="dropout",
        than="none",
    ),
    Claim(
        "G2a",
        "L2 keeps weights small (its penalty says so: a check)",
        said="L2 keeps weights small; L1 drives weights to (near) zero",
        source="TF, DL",
        metric="weight_norm",
        lower="l2",
        than="none",
    ),
    Claim(
        "G2b",
        "L1 drives weights to (near) zero, and more of them than L2",
        said="L2 keeps weights small; L1 drives weights to (near) zero",
        source="TF, DL",
        metric="near_zero",
        higher="l1",
        than=("none", "l2"),
    ),
    Claim(
        "G3a",
        "Early stopping with restored weights ends at or above the last epoch, in accuracy (at a constant rate)",
        said="Early stopping with restored weights ends at or above the last epoch, for fewer epochs",
        source="DL",
        metric="test_accuracy",
        equal=("early_stopping", "none"),
        side="below",
    ),
    Claim(
        "G3b",
        "Early stopping needs fewer epochs than the 30 that there are (those that it waits included)",
        said="Early stopping with restored weights ends at or above the last epoch, for fewer epochs",
        source="DL",
        metric="epochs",
        lower="early_stopping",
        than="none",
    ),
    Claim(
        "G4",
        "Augmentation beats every weight penalty on images",
        source="DL",
        metric="test_accuracy",
        higher="augmentation",
        than=("l2", "l1", "weight_decay"),
    ),
    Claim(
        "G5",
        "The weights of the lowest validation loss do as well on test images as those of the best validation accuracy",
        said="A rising validation loss while training loss falls marks where test accuracy peaks",
        source="TF, DL",
        metric="test_accuracy",
        equal=("early_stopping", "best_accuracy"),
        side="below",
    ),
    Claim(
        "P7",
        "Taking the checkpoint with the best validation accuracy beats taking the last one, once the training set is "
        "known by heart (at a constant rate)",
        said="Taking the checkpoint with the best validation score beats taking the last one",
        source="TP",
        metric="test_accuracy",
        higher="best_accuracy",
        than="none",
    ),
]

TUNING = Tuning(
    "strength",
    {
        "dropout": (0.1, 0.2, 0.35, 0.5, 0.7),
        "l2": half_decades(1e-4, 1e-2),
        "l1": half_decades(1e-5, 1e-3),
        "weight_decay": half_decades(1e-1, 1e1),
        "augmentation": (1.0, 2.0, 3.0, 4.0, 6.0),
        "cutout": (4.0, 8.0, 12.0, 16.0, 20.0),
        "label_smoothing": (0.05, 0.1, 0.2, 0.3, 0.5),
    },
    Objective("validation_accuracy"),
    found=("STRENGTHS", "COMBINED", "FULL_STRENGTHS"),
    limits={
        "dropout": (0.0, 0.9),
        "augmentation": (1.0, 8.0),
        "cutout": (1.0, 28.0),
        "label_smoothing": (0.0, 0.9),
    },
    won=recipe.STRENGTHS,
)
UNITS = {
    "epochs": Unit("epochs trained", digits=1),
    "weight_norm": Unit("norm of all kernels", digits=1),
    "near_zero": Unit("weights below 0.001", 100, "points", 1),
    "gap": Unit("training minus validation accuracy", 100, "points"),
    "val_loss": Unit("validation loss"),
}
PANELS = (
    Lines(
        "gap",
        variants=("none", "dropout", "weight_decay", "augmentation", "cutout", "all"),
        title="Running training accuracy, technique and all, minus validation",
    ),
    Lines("val_loss", variants=("none", "dropout", "weight_decay", "augmentation", "cutout", "all")),
    Bars("test_accuracy"),
)


def sample(variant: str, data: sources.Data, config: recipe.Config) -> tf.data.Dataset:
    """What a variant is trained on, a few at a time: to be looked at."""
    few = dataclasses.replace(config, batch_size=12)
    return recipe.build_feed(data.train, few, recipe.strengths(variant, config), seed=1)


def train(variant: str, config: recipe.Config, run: Run) -> dict[str, float]:
    """As the recipe does; the validation accuracy is that of the epoch whose weights were put back."""
    scores = recipe.train(variant, config, run)
    if variant in recipe.KEPT_BY and not run.diverged:
        watched = np.array(run.curves[recipe.KEPT_BY[variant]], float)
        kept = watched.argmin() if recipe.KEPT_BY[variant] == "val_loss" else watched.argmax()
        scores["validation_accuracy"] = run.curves["val_accuracy"][kept] or 0.0
    return scores


EXPERIMENT = Experiment(
    recipe,
    train=train,
    variants=VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    feed=sample,
    full={"images": 45_000, "epochs": 20, "batch_size": 128, "tuned_at": "full"},
    smoke={"images": 500, "epochs": 5, "batch_size": 25},
    least={"images": 50},
    at_full=VARIANTS,
    tuning=TUNING,
    units=UNITS,
    panels=PANELS,
    first_seed=101,
    numbers={
        "5.1 points. Penalties on": "test_accuracy: augmentation - none",
        "up to 3 pixels": "STRENGTHS: augmentation",
        "48.6 %": "test_accuracy: augmentation",
        "5.1 points up": "test_accuracy: augmentation - none",
        "Dropout of 0.5": "STRENGTHS: dropout",
        "gained 2.8 points": "test_accuracy: dropout - none",
        "2.3 lower": "test_accuracy: augmentation - all",
        "after 30 epochs": "",
        "squares of 20 pixels": "STRENGTHS: cutout",
        "gained 1.9": "test_accuracy: cutout - none",
        "at 43.2 to": "test_accuracy: label_smoothing",
        "43.5 %, and": "test_accuracy: l2",
        "43.5 %: penalties": "test_accuracy: none beside augmentation",
        "at 56 to": "generalization_gap: l2",
        "57 points": "generalization_gap: label_smoothing",
        "18.2 of": "epochs: none - early_stopping",
        "30 epochs and cost": "",
        "cost 2.0 points": "test_accuracy: none - early_stopping",
        "gained only 0.2": "test_accuracy: best_accuracy - none",
        "a thousand images and 30 epochs at": "",
    },
)
