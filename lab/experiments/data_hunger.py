"""A linear model, a tree and a convnet on 250 to 8,000 images; what doubling adds; and six widths on 1,000 images."""

import math
from functools import partial
from typing import Any

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from lab import Bars, Claim, Experiment, Objective, Run, Tuning, Unit, half_decades
from lab.core.training import on_batches, some_of
from pipelines import batches, sources
from recipes import data_hunger as recipe

SIZES = (250, 500, 1000, 2000, 4000, 8000)
WIDTHS = (1, 2, 8, 16, 32)  # Beside the recipe's 4, on 1,000 images.
DEPTHS = (2, 4, 6, 8, 12)  # Of a tree: the one that is best on validation images.
SIDE = 8  # A tree sees images of 8 × 8 pixels, each the mean of a square.
STEPPED = tuple(f"convnet_{size}" for size in SIZES)

# First guesses of the learning rate: none is tuned yet.
RATES = {f"{kind}_{size}": rate for kind, rate in (("linear", 0.001), ("convnet", 0.003)) for size in SIZES}
RATES |= {f"convnet_{size}_20_epochs": 0.003 for size in SIZES}
RATES |= {f"width_{width}": 0.003 for width in WIDTHS}


def network(variant):
    """The arguments that differ from the recipe's own."""
    kind, number, *_ = variant.split("_")
    if kind == "linear":
        return {"build_model": recipe.build_linear}
    if kind == "width":
        return {"build_model": partial(recipe.build_model, width=int(number))}
    return {"epochs": 20} if variant.endswith("epochs") else {}


def images_of(variant):
    kind, number, *_ = variant.split("_")
    return 1000 if kind == "width" else int(number)


def shrunken(images):
    """Images (n, height, width, channels) as rows (n, 8 * 8 * channels), by means of squares."""
    height, width = images.shape[1] // SIDE, images.shape[2] // SIDE
    cut = np.asarray(images[:, : SIDE * height, : SIDE * width], np.float32)
    squares = cut.reshape(len(images), SIDE, height, SIDE, width, -1)
    return squares.mean(axis=(2, 4)).reshape(len(images), -1)


def tree(run: Run, data: sources.Data) -> dict[str, float]:
    """The scores of a decision tree, as deep as is best on validation images."""
    rows, known = shrunken(data.train.images[:]), shrunken(data.validation.images[:])
    trees = [DecisionTreeClassifier(max_depth=depth, random_state=run.seed) for depth in DEPTHS]
    best = max(
        (one.fit(rows, data.train.labels) for one in trees), key=lambda one: one.score(known, data.validation.labels)
    )
    test = run.open_test_set(data)
    run.correct = best.predict(shrunken(test.images[:])) == test.labels
    return {
        "test_accuracy": float(run.correct.mean()),
        "validation_accuracy": float(best.score(known, data.validation.labels)),
        "train_accuracy": float(best.score(rows, data.train.labels)),
    }


def at_its_rate(kind, how, part, validation_set, classes):
    """A training at the rate that was found for as many images."""
    images = sum(len(labels) for _, labels in part.as_numpy_iterator())
    name = f"{kind}_{min(SIZES, key=lambda size: abs(math.log(size / images)))}"
    return recipe.train(part, validation_set, classes, **network(name), **{"rate": RATES[name], **how})


def curve_of(kind, sizes, config, data):
    how = {key: getattr(config, key) for key in ("rate", "steps", "epochs") if getattr(config, key) is not None}
    feeds = batches.evaluation(data.train), batches.evaluation(data.validation)
    train = partial(at_its_rate, kind, how)
    return recipe.learning_curve(*feeds, len(data.classes), sizes, batch_size=config.batch_size, train=train)


def crossing(linear, convnet):
    """The number of images, as a power of 2, from which on the convnet is the better one, between two sizes on a line.

    If it is better on the smallest set, or is not on the largest one, half of that size or twice as many.
    """
    powers = [math.log2(size) for size in linear]
    gaps = [convnet[size] - linear[size] for size in linear]
    behind = [number for number, gap in enumerate(gaps) if gap <= 0]
    if not behind:
        return powers[0] - 1
    last = behind[-1]
    if last == len(gaps) - 1:
        return powers[-1] + 1
    return powers[last] + (powers[last + 1] - powers[last]) * -gaps[last] / (gaps[last + 1] - gaps[last])


def done(variant: str, config, run: Run) -> dict[str, float]:
    if variant in RATES:
        return on_batches(EXPERIMENT, variant, config, run)
    data = some_of(sources.load(run.data), config.images, run.seed)
    if variant.startswith("tree"):
        return tree(run, some_of(data, images_of(variant), run.seed))
    if variant == "crossing":
        return {"crossing": crossing(*(curve_of(kind, SIZES, config, data) for kind in ("linear", "convnet")))}
    few = images_of(variant)
    curve = curve_of("convnet", (few, 2 * few), config, data)
    return {"doubling": curve[2 * few] - curve[few]}


VARIANTS: dict[str, Any] = {name: partial(recipe.train, rate=rate, **network(name)) for name, rate in RATES.items()}
OTHERS = (*(f"tree_{size}" for size in SIZES), *(f"doubling_{size}" for size in SIZES[:-1]), "crossing")
VARIANTS |= dict.fromkeys(OTHERS, partial(recipe.train))


def beats(number, text, source, variant, than, metric="test_accuracy", **how):
    return Claim(number, text, source, metric, higher=variant, than=than, **how)


NAMES = {"linear": "a linear model", "tree": "a tree", "convnet": "a convnet"}


def simplest_wins(letter, size, simple, complicated):
    return beats(
        f"G7{letter}",
        f"With {size:,} images, {NAMES[simple]} beats {NAMES[complicated]}",
        "R3",
        f"{simple}_{size}",
        f"{complicated}_{size}",
        said="Below some size the simpler model wins: logistic regression, then a tree, then a network",
    )


CLAIMS = [
    Claim(
        "G6a",
        "Accuracy grows with the logarithm of the number of images, after as many steps",
        source="ours",
        metric="test_accuracy",
        rising={f"convnet_{size}": math.log2(size) for size in SIZES},
    ),
    beats(
        "G6b",
        "Returns diminish: doubling adds more at 250 images than at 4,000",
        "R3",
        "doubling_250",
        "doubling_4000",
        "doubling",
        said="More data helps with diminishing returns, or even harms",
    ),
    beats(
        "G6c",
        "More data harms: after as many steps, 8,000 images end below 4,000",
        "R3",
        "convnet_4000",
        "convnet_8000",
        said="More data helps with diminishing returns, or even harms",
    ),
    beats(
        "G6d",
        "With 250 images, 20 epochs are too few: as many steps as 8,000 images take in 5 epochs end higher",
        "ours",
        "convnet_250",
        "convnet_250_20_epochs",
    ),
    simplest_wins("a", 250, "linear", "convnet"),
    simplest_wins("b", 250, "linear", "tree"),
    simplest_wins("c", 1000, "tree", "convnet"),
    beats(
        "G7d",
        "With 8,000 images, a convnet beats a linear model and a tree",
        "R3",
        "convnet_8000",
        ("linear_8000", "tree_8000"),
    ),
    Claim(
        "G18a",
        "On 1,000 images, the wider the convnet, the lower its test accuracy: widths of 1 to 32",
        source="R1, DL",
        metric="test_accuracy",
        falling={**{f"width_{width}": math.log2(width) for width in WIDTHS}, "convnet_1000": 2.0},
        said="Too much capacity overfits",
    ),
    Claim(
        "G18b",
        "On 1,000 images, the wider the convnet, the larger the gap between training and test accuracy",
        source="R1, DL",
        metric="generalization_gap",
        rising={**{f"width_{width}": math.log2(width) for width in WIDTHS}, "convnet_1000": 2.0},
        said="Too much capacity overfits",
    ),
    beats("G18c", "On 1,000 images, width 4 beats width 32", "R1, DL", "convnet_1000", "width_32"),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    train=done,
    flags={"batch_size": 64, "images": None, "flip": "no", "shift": 0},
    own_flags={name: {"images": images_of(name)} for name in RATES},
    smoke={"epochs": 5, "batch_size": 16},
    tuning=Tuning("rate", dict.fromkeys(RATES, half_decades(1e-4, 3.2e-2)), Objective("validation_accuracy")),
    left_out=[name for name in VARIANTS if name.endswith("epochs") or name in OTHERS],
    units={
        "doubling": Unit("validation accuracy gained by twice the images", 100, "points"),
        "crossing": Unit("images from which on the convnet wins (log 2)", name="doublings"),
    },
    panels=(
        Bars("test_accuracy", STEPPED),
        Bars("test_accuracy", tuple(f"linear_{size}" for size in SIZES)),
        Bars("doubling", tuple(name for name in OTHERS if name.startswith("doubling"))),
    ),
)  # fmt: skip
