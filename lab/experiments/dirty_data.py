"""Extreme targets and inputs, missing values, wrong labels, and duplicates, each with what is said to repair it."""

import dataclasses
import functools
import math
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.datasets import load_diabetes

from lab import Bars, Claim, Experiment, Objective, Run, Tuning, Unit, half_decades
from lab.core.training import some_of
from pipelines import batches, sources
from recipes import dirty_data as recipe

ROWS = 2_000  # Houses, as many again of which are for validation and for the test.
WRONG_UNIT = 100  # What a wrong number is multiplied by, as a price in cents or a length in centimeters.
EXTREME = {"clean": 0.0, "one": 1e-9, "thousandth": 0.001, "percent": 0.01}  # A share of all numbers, rounded up.
MISSING = 0.3  # Of the values of the columns that have missing ones.
HOLED = {"houses": (1, 2), "diabetes": (2, 8)}  # Those columns.
CAREFUL, RAW = 460, 7_000  # Images with careful labels, and with raw ones.
SHARES = (0, 20, 40, 60, 80)  # Percent of raw labels that are wrong.


def houses(count, draws):
    """Rooms, area, age, distance and income, and a price that follows from them, with a little chance."""
    rooms = draws.normal(5, 1.5, count)
    area = 25 * rooms + draws.normal(0, 15, count)
    age = draws.uniform(0, 80, count)
    distance = draws.exponential(8, count)
    income = 2_000 + 25 * area - 60 * distance + draws.normal(0, 400, count)
    price = 150 + 1.5 * area - 80 * np.tanh(distance / 10) + 0.02 * income - 0.5 * age + 15 * np.maximum(rooms - 5, 0)
    columns = np.stack([rooms, area, age, distance, income], axis=1)
    return columns.astype("float32"), (price + draws.normal(0, 10, count)).astype("float32")


def split_table(table, draws):
    """Training, validation and test rows, three pairs of columns and targets: of new houses, or of 442 patients."""
    if table == "houses":
        return [houses(ROWS, draws) for _ in range(3)]
    columns, targets = load_diabetes(return_X_y=True)
    order = draws.permutation(len(targets))
    parts = order[:262], order[262:352], order[352:]
    return [(columns[part].astype("float32"), targets[part].astype("float32")) for part in parts]


def with_holes(columns, holed, missing, draws):
    """Columns some of whose values are NaN: any of them, or rather the high ones."""
    columns = columns.copy()
    for column in holed:
        chances = draws.random(len(columns))
        if missing == "high":  # From a power of 10 for the lowest to one of 0.1 for the highest.
            ranks = columns[:, column].argsort().argsort() / len(columns)
            chances = chances ** (10 / 100**ranks)
        columns[chances >= np.quantile(chances, 1 - MISSING), column] = np.nan
    return columns


def regression(
    *, table="houses", loss="huber", targets_are="clean", inputs_are="clean", clip=False, batch_norm=False, missing="",
    predict=False, rate=0.003, epochs=20, seed,
):  # fmt: skip
    """The share of the variance of clean test targets that a model explains that was trained on a dirty table.

    Validation rows are clean but for missing values.
    """
    draws = np.random.default_rng(seed)
    (columns, targets), (known, known_targets), (unseen, truth) = split_table(table, draws)
    for numbers, dirt in ((targets, targets_are), (columns, inputs_are)):
        wrong = draws.choice(numbers.size, math.ceil(EXTREME[dirt] * numbers.size), replace=False)
        numbers.flat[wrong] *= WRONG_UNIT
    if missing:
        columns, known, unseen = (with_holes(part, HOLED[table], missing, draws) for part in (columns, known, unseen))
        dirty = columns
        columns, known, unseen = (recipe.fill_missing(part, dirty, predict) for part in (dirty, known, unseen))
    if clip and targets_are != "clean":
        targets = recipe.clip_to_percentiles(targets, targets)
    elif clip:
        dirty = columns
        columns, known, unseen = (recipe.clip_to_percentiles(part, dirty) for part in (dirty, known, unseen))
    feeds = [
        tf.data.Dataset.from_tensor_slices((part.astype("float32"), wanted.astype("float32")))
        for part, wanted in ((columns, targets), (known, known_targets))
    ]
    model = recipe.train(
        feeds[0].shuffle(ROWS, seed=seed).batch(32), feeds[1].batch(500), loss=loss, rate=rate, epochs=epochs,
        build_model=partial(recipe.build_model, batch_norm=batch_norm),
    )  # fmt: skip
    return {
        "explained_variance": explained(model, unseen, truth),
        "validation_explained": explained(model, known, known_targets),
    }


def explained(model, columns, targets):
    """Between -1, which is all that counts of a model that is worse than the mean, and 1."""
    errors = targets - model.predict(columns, batch_size=500, verbose=0)[:, 0]
    share = float(1 - np.square(errors, dtype=np.float64).mean() / targets.var())
    return max(share, -1.0) if math.isfinite(share) else -1.0


def build_convnet(shape, classes):
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)
    for filters, strides in ((16, 2), (32, 1)):
        x = layers.Conv2D(filters, 3, strides, "same", activation="relu", kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D()(x)
    return keras.Model(images, layers.Dense(classes)(layers.Flatten()(x)))


REPAIRS: dict[str, dict[str, Any]] = {
    "squared": {"loss": "mse"},
    "absolute": {"loss": "mae"},
    "huber": {"loss": "huber"},
    "clipped": {"loss": "mse", "clip": True},
}
TABLES: dict[str, dict[str, Any]] = {
    f"{table}_{dirt}_{repair}": {"table": table, "targets_are": dirt, **REPAIRS[repair]}
    for table in ("houses", "diabetes")
    for dirt in ("clean", "one", "percent")
    for repair in REPAIRS
}
INPUTS = {"plain": {}, "batch_norm": {"batch_norm": True}, "clipped": {"clip": True}}
TABLES |= {
    f"inputs_{dirt}_{how}": {"inputs_are": dirt, **INPUTS[how]}
    for dirt in ("clean", "thousandth", "percent")
    for how in INPUTS
    if (dirt, how) != ("clean", "plain")  # Which is houses_clean_huber.
}
TABLES |= {
    f"{table}_missing_{where}_{how}": {"table": table, "missing": where, "predict": how == "predicted"}
    for table in ("houses", "diabetes")
    for where in ("random", "high")
    for how in ("mean", "predicted")
}
RATES = dict.fromkeys(TABLES, 0.003)  # First guesses: none is tuned yet.
LABELS = {f"raw_{share}": {"epochs": 5} for share in SHARES} | {"careful": {"epochs": 60}}  # About as many steps.
RATES |= dict.fromkeys(LABELS, 0.003)
COPIES = {"no_duplicates": 0, "duplicates": 200}  # Validation images that are among those for training, too.
VARIANTS: dict[str, Any] = {
    name: partial(regression, **settings, rate=RATES[name]) for name, settings in TABLES.items()
}
VARIANTS |= {
    name: partial(recipe.train, build_model=build_convnet, rate=RATES[name], **settings)
    for name, settings in LABELS.items()
}
VARIANTS |= dict.fromkeys(COPIES, partial(recipe.train, build_model=build_convnet, rate=RATES["raw_0"], epochs=5))


def with_wrong_labels(labels, share, classes, seed):
    """Labels of which a share is another class than the true one, drawn by the seed."""
    draws = np.random.default_rng(seed)
    wrong = draws.permutation(len(labels))[: round(share * len(labels))]
    labels = labels.copy()
    labels[wrong] = (labels[wrong] + draws.integers(1, classes, len(wrong))) % classes
    return labels


def joined(part, other):
    """Two parts of the images as one."""
    both = zip((part.images[:], part.labels, part.ids), (other.images[:], other.labels, other.ids), strict=True)
    return sources.Split(*map(np.concatenate, both))


def done(variant: str, config, run: Run) -> dict[str, float]:
    if variant in TABLES:
        return run.bound(seed=run.seed)
    config = EXPERIMENT.config_of(variant, config)
    data = some_of(sources.load(run.data), config.images, run.seed)
    train, count = data.train, COPIES.get(variant, 0)
    if variant.startswith("raw"):
        share = int(variant.rpartition("_")[2]) / 100
        wrong = with_wrong_labels(train.labels, share, len(data.classes), run.seed)
        train = dataclasses.replace(train, labels=wrong)
    elif count:
        train = joined(train, data.validation.take(np.arange(min(count, len(data.validation)))))
    model = run.bound(
        batches.training(train, config.batch_size, seed=run.seed, augment=False),
        batches.evaluation(data.validation),
        len(data.classes),
        callbacks=run.callbacks(data),
    )
    found = run.scores(model, data)
    return found | ({"leaky_accuracy": found["validation_accuracy"]} if variant in COPIES else {})


# Checks.


def after_one_nan(activation="relu", batch_norm=False, clipped=False):
    """The weights of a small model after a step on a batch one of whose numbers is NaN, and its predictions."""
    keras.utils.set_random_seed(1)
    columns = x = keras.Input((5,))
    for _ in range(2):
        x = layers.Dense(16)(x)
        x = layers.BatchNormalization()(x) if batch_norm else x
        x = layers.Activation(activation)(x)
    model = keras.Model(columns, layers.Dense(1)(x))
    model.compile(keras.optimizers.Adam(global_clipnorm=1.0 if clipped else None), "mse")
    rows = np.random.default_rng(1).normal(size=(32, 5)).astype("float32")
    dirty = rows.copy()
    dirty[3, 2] = np.nan
    model.train_on_batch(dirty, np.ones((32, 1), "float32"))
    return np.concatenate([np.ravel(weight) for weight in model.weights]), model.predict(rows, verbose=0)


@functools.cache
def every_weight_is_lost():
    ways = ({"activation": "tanh"}, {"batch_norm": True}, {"clipped": True})
    return all(bool(np.isnan(after_one_nan(**way)[0]).all()) for way in ways)


@functools.cache
def relu_keeps_most_of_them():
    weights, predictions = after_one_nan()
    # A product with a NaN is a NaN, and the ReLU that is part of a matrix product here makes it 0.
    the_same = np.isnan(predictions).all() or np.ptp(predictions) == 0
    return bool(0 < np.isnan(weights).mean() < 0.1 and the_same)


@functools.cache
def a_checked_batch_is_refused():
    rows = np.ones((32, 5), "float32")
    rows[3, 2] = np.nan
    feed = tf.data.Dataset.from_tensor_slices((rows, np.ones(32, "float32"))).batch(32)
    model = recipe.build_model((5,), 1)
    model.compile("adam", "mse")
    before = model.get_weights()
    try:
        model.fit(feed.map(recipe.checked), shuffle=False, verbose=0)
    except tf.errors.InvalidArgumentError:
        return all(np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True))
    return False


def the_mean_shrinks_variance():
    draws = np.random.default_rng(0)
    column = draws.normal(size=(1000, 1))
    holed = np.where(draws.random((1000, 1)) < MISSING, np.nan, column)
    return bool(recipe.fill_missing(holed, holed, predict=False).var() < 0.8 * np.nanvar(holed))


def beats(number, text, source, variant, than, metric="explained_variance", **how):
    return Claim(number, text, source, metric, higher=variant, than=than, **how)


WRECKED = "One extreme value in the target wrecks a regression under squared error"
REPAIRED = "Clipping the target to its 1st and 99th percentile repairs it"
IN_WORDS = {
    "clipped": "squared error on targets clipped to their 1st and 99th percentile",
    "absolute": "absolute error",
    "huber": "Huber's loss",
}
CLAIMS: list[Any] = [
    Claim(
        "G13a",
        "One NaN in a batch destroys every weight in one step, if there is tanh, BatchNorm or a clipped gradient norm",
        said="One NaN in a batch destroys every weight in one step",
        source="DL",
        asserted=every_weight_is_lost,
    ),
    Claim(
        "G13b",
        "In a network of ReLUs alone, it destroys less than a tenth of the weights, and all inputs get the same answer",
        source="ours",
        asserted=relu_keeps_most_of_them,
    ),
    Claim(
        "G13c",
        "`tf.debugging.assert_all_finite` in the input pipeline stops it before the update",
        said="Detection stops it before the update",
        source="DL",
        asserted=a_checked_batch_is_refused,
    ),
    *(
        beats(
            f"G14{letter}",
            f"One target of {rows} that is a hundred times too large costs a regression under squared error at least "
            f"{100 * half:.0f} points of explained variance, about half",
            "DL",
            f"{table}_clean_squared",
            f"{table}_one_squared",
            at_least=half,
            said=WRECKED,
        )
        for letter, table, rows, half in (("a", "houses", "2,000", 0.45), ("b", "diabetes", "262", 0.2))
    ),
    *(
        Claim(
            f"G14{letter}",
            f"With {dirt} a hundred times too large ({table}), {IN_WORDS[repair]} ends no worse than squared error "
            "without",
            source="DL" if repair == "clipped" else "ours",
            metric="explained_variance",
            equal=(f"{table}_{name}_{repair}", f"{table}_clean_squared"),
            side="below",
            said=REPAIRED if repair == "clipped" else "",
        )
        for letter, table, name, dirt, repair in (
            ("c", "houses", "one", "one target", "clipped"),
            ("d", "diabetes", "one", "one target", "clipped"),
            ("e", "houses", "one", "one target", "absolute"),
            ("f", "houses", "one", "one target", "huber"),
            ("g", "houses", "percent", "1 % of the targets", "clipped"),
            ("h", "houses", "percent", "1 % of the targets", "absolute"),
            ("i", "houses", "percent", "1 % of the targets", "huber"),
        )
    ),
    *(
        beats(
            f"G14{letter}",
            f"With {dirt} of the inputs a hundred times too large, {text}",
            "ours",
            f"inputs_{name}_{better}",
            f"inputs_{name}_{worse}",
        )
        for letter, name, dirt, better, worse, text in (
            ("j", "thousandth", "0.1 %", "clipped", "plain", "clipping them to the 1st and 99th percentile helps"),
            ("k", "percent", "1 %", "clipped", "plain", "clipping them to the 1st and 99th percentile helps"),
            ("l", "percent", "1 %", "batch_norm", "plain", "BatchNorm behind the layers helps"),
            ("m", "percent", "1 %", "clipped", "batch_norm", "clipping them helps more than BatchNorm"),
        )
    ),
    *(
        beats(
            f"G15{letter}",
            f"Where {where} are missing ({table}), predicting them beats the mean",
            "DL",
            f"{table}_missing_{name}_predicted",
            f"{table}_missing_{name}_mean",
            said="Predictive imputation beats the mean",
        )
        for letter, table, name, where in (
            ("a", "houses", "random", "values at random"),
            ("b", "houses", "high", "more of the high values"),
            ("d", "diabetes", "random", "values at random"),
            ("e", "diabetes", "high", "more of the high values"),
        )
    ),
    Claim(
        "G15c",
        "Where three values of ten are missing, filling them with the mean takes a fifth or more off the variance",
        said="The mean shrinks variance",
        source="DL",
        asserted=the_mean_shrinks_variance,
    ),
    *(
        beats(
            f"G22{letter}",
            f"{CAREFUL} careful labels beat {RAW:,} of which {share} % are wrong",
            "R3" if share <= 40 else "ours",
            "careful",
            f"raw_{share}",
            "test_accuracy",
            said="A few hundred careful labels beat thousands of raw ones" if share <= 40 else "",
        )
        for letter, share in zip("abcde", SHARES, strict=True)
    ),
    beats(
        "G22f",
        "With a tenth of the validation images also trained on, validation accuracy is at least a point higher",
        "ours",
        "duplicates",
        "no_duplicates",
        "leaky_accuracy",
        at_least=0.01,
    ),
]
OF_HOUSES = tuple(name for name in TABLES if name.startswith("houses") and "missing" not in name)

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    train=done,
    flags={"batch_size": 64, "images": RAW},
    own_flags={"careful": {"images": CAREFUL}},
    smoke={"batch_size": 16, "epochs": 6},
    fails=("raw_80",),  # At smoke.
    tuning=Tuning(
        "rate",
        dict.fromkeys(RATES, half_decades(3e-4, 3.2e-2)),
        {name: Objective("validation_explained" if name in TABLES else "validation_accuracy") for name in RATES},
    ),
    left_out=[name for name in VARIANTS if name.startswith(("diabetes", "inputs", "raw_6", "raw_8"))],
    units={
        "explained_variance": Unit("test variance explained", 100, "points", 1),
        "validation_explained": Unit("validation variance explained", 100, "points", 1),
        "leaky_accuracy": Unit("validation accuracy", 100, "points"),
    },
    panels=(
        Bars("explained_variance", OF_HOUSES),
        Bars("explained_variance", tuple(name for name in TABLES if name.startswith("inputs"))),
        Bars("test_accuracy", tuple(LABELS)),
    ),
)
