"""Logistic regression, a tree and a convnet on 60 to 8,000 images, and convnets of five widths on 1,000 images."""

import math
from functools import partial
from typing import Any

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from lab import Bars, Claim, Experiment, Objective, Run, Tuning, Unit, half_decades
from lab.core.training import on_batches, some_of
from lab.variants import with_given
from pipelines import batches, sources
from recipes import data_hunger as recipe

SIZES = (60, 120, 250, 500, 1000, 2000, 4000, 8000)
SMALLER = SIZES[2:7]  # From which the accuracy on 8,000 is foretold.
TREES = (250, 1000, 8000)
WIDTHS = (1, 8, 16, 32)  # Beside the recipe's 4.
BATCH = 64

# How many images a variant trains on.
SIMPLE = {f"linear_{size}": size for size in SIZES} | {f"tree_{size}": size for size in TREES}
NETWORKS = {f"convnet_{size}": size for size in SIZES} | {f"width_{width}": 1000 for width in WIDTHS}
NETWORKS |= {"convnet_250_10_epochs": 250, "convnet_1000_10_epochs": 1000, "convnet_8000_2500_steps": 8000}
IMAGES = NETWORKS | SIMPLE
HOW: dict[str, dict[str, Any]] = {
    "convnet_250_10_epochs": {"epochs": 10},
    "convnet_1000_10_epochs": {"epochs": 10},
    "convnet_8000_2500_steps": {"steps": 2500},
    **{f"width_{width}": {"build_model": partial(recipe.build_model, width=width)} for width in WIDTHS},
}
# A network's learning rate, C of a logistic regression, the leaves of a tree. First guesses: none is tuned yet.
SETTINGS = dict.fromkeys(NETWORKS, 0.003)
SETTINGS |= {name: 0.01 if name.startswith("linear") else 30.0 for name in SIMPLE}
DECAYS = dict.fromkeys(NETWORKS, 0.1)
RATES = (1e-4, 3.2e-2)
GRIDS = {"convnet": RATES, "width": RATES, "linear": (1e-3, 0.32), "tree": (3, 950)}  # Six values each.


def network(
    train_set, validation_set, classes, *, setting=0.003, decay=0.1, steps=1250, epochs: int | None = None,
    build_model=recipe.build_model, callbacks=(),
):  # fmt: skip
    """The recipe's training at a learning rate."""
    how = {"decay": decay, "steps": steps, "epochs": epochs, "build_model": build_model, "callbacks": callbacks}
    return recipe.train(train_set, validation_set, classes, rate=setting, **how)


def linear(*, setting=0.01):
    return recipe.build_linear(c=setting)


def tree(*, setting=30.0):
    """A decision tree of so many leaves, on the rows that the logistic regression has."""
    leaves = max(2, round(setting))
    return make_pipeline(
        FunctionTransformer(recipe.shrunken), DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0)
    )


def fitted(model, run: Run, data: sources.Data) -> dict[str, float]:
    """The scores of a model of scikit-learn's."""
    model.fit(data.train.images[:], data.train.labels)
    known = {
        f"{name}_accuracy": float(model.score(part.images[:], part.labels))
        for name, part in (("train", data.train), ("validation", data.validation))
    }
    test = run.open_test_set(data)
    run.correct = model.predict(test.images[:]) == test.labels
    return {**known, "test_accuracy": float(run.correct.mean())}


def crossing(gaps):
    """The logarithm of the number of images at which a line through the gaps, on such a scale, turns positive.

    It may lie beyond the sizes, but not below one image or above a million. A limit at the smallest size would make all
    seeds equal whose convnet is ahead from there on, and equal numbers decide nothing.
    """
    powers, (least, most) = [math.log(size) for size in gaps], (0.0, math.log(1e6))
    slope, start = np.polyfit(powers, list(gaps.values()), 1)
    if slope <= 0:
        return least if np.mean(list(gaps.values())) > 0 else most
    return float(np.clip(-start / slope, least, most))


def curves(config, run: Run, *, convnets, linears):
    """What is read from the accuracies of a convnet and a logistic regression on nested sets, of validation images."""
    data = some_of(sources.load(run.data), config.images, run.seed)
    feeds = batches.evaluation(data.train), batches.evaluation(data.validation)
    by_line: dict[int, float] = {}
    by_net: dict[int, float] = {}

    def both(size, part, validation_set, classes):
        images, labels = map(np.concatenate, zip(*part.as_numpy_iterator(), strict=True))
        simple = linears[size]().fit(images, labels)
        by_line[size] = simple.score(data.validation.images[:], data.validation.labels)
        return with_given(convnets[size], config)(part, validation_set, classes)

    for size in SIZES:
        how = {"batch_size": config.batch_size, "train": partial(both, size)}
        by_net |= recipe.learning_curve(*feeds, len(data.classes), (size,), **how)
    last, whole = SMALLER[-1], SIZES[-1]
    return {
        "missed": by_net[whole] - recipe.after_doubling({size: by_net[size] for size in SMALLER}),
        "diminished": (by_net[last] - by_net[SMALLER[0]]) - (by_net[whole] - by_net[last]),
        "log_crossing": crossing({size: by_net[size] - by_line[size] for size in SIZES}),
    }


def nothing(config, run: Run):
    """What the metrics of `curves` are compared with."""
    return dict.fromkeys(("missed", "diminished", "log_crossing"), 0.0)


VARIANTS: dict[str, Any] = {
    name: partial(network, setting=SETTINGS[name], decay=DECAYS[name], **HOW.get(name, {})) for name in NETWORKS
}
VARIANTS |= {name: partial(linear if name.startswith("linear") else tree, setting=SETTINGS[name]) for name in SIMPLE}
VARIANTS["nothing"] = partial(nothing)
VARIANTS["curves"] = partial(
    curves,
    convnets={size: VARIANTS[f"convnet_{size}"] for size in SIZES},
    linears={size: VARIANTS[f"linear_{size}"] for size in SIZES},
)
OTHERS = ("nothing", "curves")


def done(variant: str, config, run: Run) -> dict[str, float]:
    if variant in NETWORKS:
        return on_batches(EXPERIMENT, variant, config, run)
    if variant in OTHERS:
        return run.bound(config, run)
    images = EXPERIMENT.config_of(variant, config).images
    return fitted(run.bound(), run, some_of(sources.load(run.data), images, run.seed))


DIMINISHING = "More data helps with diminishing returns, or even harms"
SIMPLEST = "Below some size the simpler model wins: logistic regression, then a tree, then a network"
OVERFITS = "Too much capacity overfits"
NAMES = {"linear": "logistic regression", "tree": "a tree", "convnet": "a convnet"}


def beats(number, text, source, variant, than, metric="test_accuracy", **how):
    return Claim(number, text, source, metric, higher=variant, than=than, **how)


def simplest_wins(letter, size, simple, complicated):
    text = f"With {size:,} images, {NAMES[simple]} beats {NAMES[complicated]}"
    return beats(f"G7{letter}", text, "R3", f"{simple}_{size}", f"{complicated}_{size}", said=SIMPLEST)


# Of the widths from 4 to 32, so that a slope is the change over all of them.
WIDER = {"convnet_1000": 2 / 3, "width_8": 1.0, "width_16": 4 / 3, "width_32": 5 / 3}
CLAIMS = [
    beats(
        "G6a",
        "The last 4,000 of 8,000 images add less than the 3,750 before them",
        "R3",
        "curves",
        "nothing",
        "diminished",
        said=DIMINISHING,
    ),
    Claim(
        "G6b",
        "Accuracy grows with the logarithm of the number of images: a line through 250 to 4,000 foretells that on "
        "8,000 to within a point",
        source="ours",
        metric="missed",
        equal=("curves", "nothing"),
    ),
    beats(
        "G6c",
        "More images of the same kind harm: 8,000 end below 4,000, after as many steps",
        "R3",
        "convnet_4000",
        "convnet_8000",
        said=DIMINISHING,
    ),
    beats(
        "G6d",
        "With 250 images 10 epochs are too few: as many steps as 10 epochs of 8,000 images end higher",
        "ours",
        "convnet_250",
        "convnet_250_10_epochs",
    ),
    beats(
        "G6e",
        "With 1,000 images 10 epochs are too few: as many steps as 10 epochs of 8,000 images end higher",
        "ours",
        "convnet_1000",
        "convnet_1000_10_epochs",
    ),
    Claim(
        "G6f",
        "With 8,000 images 10 epochs are enough: twice as many steps end no higher",
        source="ours",
        metric="test_accuracy",
        equal=("convnet_8000_2500_steps", "convnet_8000"),
        side="above",
    ),
    simplest_wins("a", 60, "linear", "convnet"),
    simplest_wins("b", 120, "linear", "convnet"),
    simplest_wins("c", 250, "linear", "convnet"),
    simplest_wins("d", 250, "linear", "tree"),
    beats(
        "G7e",
        "With 1,000 images, a tree beats logistic regression and a convnet",
        "R3",
        "tree_1000",
        ("linear_1000", "convnet_1000"),
        said=SIMPLEST,
    ),
    beats(
        "G7f",
        "With 8,000 images, a convnet beats logistic regression and a tree",
        "R3",
        "convnet_8000",
        ("linear_8000", "tree_8000"),
        said=SIMPLEST,
    ),
    beats(
        "G7g",
        "A convnet needs more than 60 images to overtake logistic regression, by a line through the gaps in accuracy "
        "on 60 to 8,000",
        "R3",
        "curves",
        "nothing",
        "log_crossing",
        at_least=math.log(SIZES[0]),
        said=SIMPLEST,
    ),
    Claim(
        "G18a",
        "On 1,000 images, the wider the convnet, the lower its test accuracy: widths of 4 to 32",
        source="R1, DL",
        metric="test_accuracy",
        falling=WIDER,
        said=OVERFITS,
    ),
    Claim(
        "G18b",
        "On 1,000 images, the wider the convnet, the larger the gap between training and test accuracy: widths of 4 "
        "to 32",
        source="R1, DL",
        metric="generalization_gap",
        rising=WIDER,
        said=OVERFITS,
    ),
    beats("G18c", "On 1,000 images, width 8 beats width 32", "R1, DL", "width_8", "width_32", said=OVERFITS),
    beats("G18d", "On 1,000 images, width 16 beats width 32", "R1, DL", "width_16", "width_32", said=OVERFITS),
    beats("G18e", "On 1,000 images, width 1 is too narrow: width 4 beats it", "ours", "convnet_1000", "width_1"),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    train=done,
    flags={"batch_size": BATCH, "images": None, "flip": "no", "shift": 0},
    own_flags={name: {"images": images, "batch_size": min(BATCH, images // 4)} for name, images in IMAGES.items()},
    smoke={"steps": 300, "batch_size": 16},
    fails=("linear_60",),  # At smoke.
    tuning=Tuning(
        "setting",
        {name: half_decades(*GRIDS[name.partition("_")[0]]) for name in IMAGES},
        Objective("validation_accuracy"),
        second=dict.fromkeys(NETWORKS, ("decay", (0.0, 1.0))),
        own_fixed={name: {"decay": 0.1} for name in NETWORKS},
        found=("SETTINGS", "DECAYS"),
    ),
    left_out=[
        name
        for name in VARIANTS
        if IMAGES.get(name) not in (250, 1000, 8000) or name in ("convnet_8000_2500_steps", "width_16", "width_32")
    ],
    first_seed=401,
    units={
        "missed": Unit("accuracy on 8,000 images minus what smaller sets foretell", 100, "points"),
        "diminished": Unit("what 3,750 images add to 250, minus what 4,000 add to those", 100, "points"),
        "log_crossing": Unit("number of images from which on a convnet wins (log)", digits=1),
    },
    panels=(
        Bars("test_accuracy", tuple(f"convnet_{size}" for size in SIZES)),
        Bars("test_accuracy", tuple(f"linear_{size}" for size in SIZES)),
        Bars("test_accuracy", ("width_1", *WIDER)),
    ),
)
