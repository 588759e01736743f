"""Shuffle buffers of four sizes and a frozen order, on images sorted by class."""

from lab import Claim, Experiment, Objective, Tuning, half_decades
from recipes import shuffling as recipe

VARIANTS = ("shuffled", "buffer_half", "buffer_tenth", "frozen", "class_ordered")


CLAIMS = [
    Claim(
        "S6a",
        "Without shuffling, data sorted by class ruin training: it ends ten points lower and more",
        said="Without shuffling, class-ordered data ruins training",
        source="TF",
        metric="test_accuracy",
        lower="class_ordered",
        than="shuffled",
        at_least=0.1,
    ),
    Claim(
        "S6b",
        "A shuffle buffer smaller than the data set costs accuracy where data are sorted by class",
        source="tf.data guide",
        metric="test_accuracy",
        lower=("buffer_half", "buffer_tenth"),
        than="shuffled",
    ),
    Claim(
        "S6c",
        "Shuffling anew each epoch beats one order for all epochs",
        source="Bengio 2012",
        metric="test_accuracy",
        higher="shuffled",
        than="frozen",
    ),
]

EXPERIMENT = Experiment(
    recipe,
    train=recipe.train,
    variants=VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    model=recipe.build_model,
    tuning=Tuning(
        "rate",
        dict.fromkeys(VARIANTS, half_decades(3.2e-4, 1e-2)),
        Objective("validation_accuracy"),
    ),
    smoke={"epochs": 4, "batch_size": 64},
    fails=("buffer_tenth", "class_ordered"),
    first_seed=101,
    numbers={
        "13 points": "test_accuracy: shuffled - buffer_half",
        "none at all 36": "test_accuracy: shuffled - class_ordered",
        "42.7 %": "test_accuracy: buffer_half",
        "24.1 %": "test_accuracy: buffer_tenth",
        "19.5 %": "test_accuracy: class_ordered",
        "56.2 %": "test_accuracy: shuffled",
        "56.0 %": "test_accuracy: frozen",
    },
)
