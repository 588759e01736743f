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

# Houses to train on, for validation and for the test. One of a thousand is 0.1 %.
ROWS = (1_000, 1_000, 2_000)
WRONG_UNIT = 100  # What a wrong number is multiplied by, as a price in cents or a length in centimeters.
ONE = 1e-9  # A share that makes one number, since the number of wrong ones is rounded up.
MISSING = 0.3  # Of the values of the columns that have missing ones.
HOLED = {"houses": (1, 2), "diabetes": (2, 8)}  # Those columns.
FILLED: dict[str, dict[str, bool]] = {
    "mean": {"predict": False},
    "flagged": {"predict": False, "flag": True},
    "predicted": {"predict": True},
}
CAREFUL, RAW = 460, 7_000  # Images with careful labels, and with raw ones.
SHARES = (0, 20, 40, 60, 80)  # Percent of raw labels that are wrong.
MOST_STEPS = 4_360  # Of a training on labels: 40 epochs of the raw ones.


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
        return [houses(count, draws) for count in ROWS]
    columns, targets = load_diabetes(return_X_y=True)
    order = draws.permutation(len(targets))
    parts = order[:262], order[262:352], order[352:]
    return [(columns[part].astype("float32"), targets[part].astype("float32")) for part in parts]


def dirtied(numbers, share, draws):
    """Numbers (rows,) or (rows, columns), of which a share of each column, rounded up, is too large by a factor."""
    numbers = numbers.copy()
    for column in numbers.reshape(len(numbers), -1).T:
        column[draws.choice(len(column), math.ceil(share * len(column)), replace=False)] *= WRONG_UNIT
    return numbers


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
    *, table, loss="huber", part="targets", dirt=0.0, clip=0.0, batch_norm=False, missing="", fill="mean", rate=0.003,
    epochs=20, seed,
):  # fmt: skip
    """How far a model that was trained on a dirty table is from the true targets of test rows.

    Of the `part` of the table, a share `dirt` is wrong and `clip` percent are cut off on each side. Targets are wrong
    in training rows alone. Inputs are wrong wherever a model meets them: in training, validation and test rows.
    """
    draws = np.random.default_rng(seed)
    columns, targets = map(list, zip(*split_table(table, draws), strict=True))
    if part == "targets":
        targets[0] = dirtied(targets[0], dirt, draws)
    else:
        columns = [dirtied(rows, dirt, draws) for rows in columns]
    if missing:
        columns = [with_holes(rows, HOLED[table], missing, draws) for rows in columns]
        columns = [recipe.fill_missing(rows, columns[0], **FILLED[fill]) for rows in columns]
    if clip and part == "targets":
        targets[0] = recipe.clip_to_percentiles(targets[0], targets[0], clip, 100 - clip)
    elif clip:
        columns = [recipe.clip_to_percentiles(rows, columns[0], clip, 100 - clip) for rows in columns]
    feed = tf.data.Dataset.from_tensor_slices((columns[0].astype("float32"), targets[0].astype("float32")))
    model = recipe.train(
        feed.shuffle(len(feed), seed=seed).batch(32), None, loss=loss, rate=rate, epochs=epochs,
        build_model=partial(recipe.build_model, batch_norm=batch_norm),
    )  # fmt: skip
    known, unseen = (errors(model, columns[part], targets[part]) for part in (1, 2))
    return unseen | {"validation_error": known["log_error"]}


def errors(model, columns, targets):
    """The logarithm of the root mean square error, and the share of the variance that is explained, no less than -1.

    A model whose answers are not finite counts as one that explains -1.
    """
    answers = np.asarray(model.predict(columns, batch_size=500, verbose=0), np.float64)[:, 0]
    variance, squared = float(targets.var(dtype=np.float64)), float(np.square(targets - answers).mean())
    squared = squared if math.isfinite(squared) else 2 * variance
    return {
        "log_error": math.log(max(math.sqrt(squared), 1e-9)),
        "explained_variance": max(1 - squared / variance, -1.0),
    }


def build_convnet(shape, classes):
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)
    for filters, strides in ((16, 2), (32, 1)):
        x = layers.Conv2D(filters, 3, strides, "same", activation="relu", kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D()(x)
    return keras.Model(images, layers.Dense(classes)(layers.Flatten()(x)))


def on_labels(
    train_set, validation_set, classes, *, rate=0.003, shorter=1.0, steps: int | None = None,
    build_model=build_convnet, callbacks=(),
):  # fmt: skip
    """The recipe's training of a convnet, as many times `shorter` than the longest one, in one long epoch.

    Stopping early protects from wrong labels, so that each set of labels has the length that is best for it.
    """
    feed = train_set.repeat().take(steps or max(1, round(MOST_STEPS / shorter)))
    how = {"rate": rate, "epochs": 1, "build_model": build_model, "callbacks": callbacks}
    return recipe.train(feed, validation_set, classes, **how)


CLEAN: dict[str, dict[str, Any]] = {"squared": {"loss": "mse"}, "clipped": {"loss": "mse", "clip": 1.0}, "huber": {}}
TARGETS: dict[str, dict[str, Any]] = {f"clean_{repair}": settings for repair, settings in CLEAN.items()}
TARGETS |= {f"one_{repair}": {"dirt": ONE, **settings} for repair, settings in CLEAN.items()}
TARGETS |= {
    "one_absolute": {"dirt": ONE, "loss": "mae"},
    "percent_clipped": {"dirt": 0.01, "loss": "mse", "clip": 2.0},
    "percent_clipped_less": {"dirt": 0.01, "loss": "mse", "clip": 0.5},
    "percent_absolute": {"dirt": 0.01, "loss": "mae"},
    "percent_huber": {"dirt": 0.01},
}
TABLES: dict[str, dict[str, Any]] = {
    f"{table}_{name}": {"table": table, **settings} for table in HOLED for name, settings in TARGETS.items()
}
# There are too few patients for one in a thousand.
INPUTS: dict[str, dict[str, Any]] = {
    "houses_inputs_thousandth_plain": {"dirt": 0.001},
    "houses_inputs_thousandth_clipped": {"dirt": 0.001, "clip": 1.0},
    "houses_inputs_percent_plain": {"dirt": 0.01},
    "houses_inputs_percent_clipped": {"dirt": 0.01, "clip": 2.0},
    "houses_inputs_percent_batch_norm": {"dirt": 0.01, "batch_norm": True},
    "diabetes_inputs_percent_plain": {"dirt": 0.01},
    "diabetes_inputs_percent_clipped": {"dirt": 0.01, "clip": 2.0},
}
TABLES |= {name: {"table": name.split("_")[0], "part": "inputs", **settings} for name, settings in INPUTS.items()}
# What is missing of the houses follows from the rest by construction: the patients are the fair test.
HOLES = (("houses", "random"), ("diabetes", "random"), ("diabetes", "high"))
TABLES |= {
    f"{table}_missing_{where}_{fill}": {"table": table, "missing": where, "fill": fill}
    for table, where in HOLES
    for fill in FILLED
}
# Raw labels: the share that is wrong, and whether each class is taken for one other class instead of any.
WRONG: dict[str, dict[str, Any]] = {f"raw_{share}": {"share": share / 100} for share in SHARES}
WRONG |= {"raw_40_confused": {"share": 0.4, "confused": True}}
LABELS = (*WRONG, "careful")
COPIES = ("no_duplicates", "duplicates")
# First guesses: none is tuned yet.
RATES = dict.fromkeys((*TABLES, *LABELS), 0.003)
SHORTER = dict.fromkeys(LABELS, 3.0)
VARIANTS: dict[str, Any] = {
    name: partial(regression, **settings, rate=RATES[name]) for name, settings in TABLES.items()
}
VARIANTS |= {name: partial(on_labels, rate=RATES[name], shorter=SHORTER[name]) for name in LABELS}
VARIANTS |= dict.fromkeys(COPIES, partial(on_labels))


def with_wrong_labels(labels, classes, seed, share, confused=False):
    """Labels of which a share is another class than the true one: any other, drawn by the seed, or always the next."""
    draws = np.random.default_rng(seed)
    wrong = draws.permutation(len(labels))[: round(share * len(labels))]
    labels = labels.copy()
    labels[wrong] = (labels[wrong] + (1 if confused else draws.integers(1, classes, len(wrong)))) % classes
    return labels


def with_copies(train, validation, count=200):
    """Training images of which so many are replaced by validation images."""
    count = min(count, len(validation), len(train) - 1)
    both = train.take(np.arange(count, len(train))), validation.take(np.arange(count))
    parts = ((part.images[:], part.labels, part.ids) for part in both)
    return sources.Split(*map(np.concatenate, zip(*parts, strict=True)))


def done(variant: str, config, run: Run) -> dict[str, float]:
    if variant in TABLES:
        return run.bound(seed=run.seed)
    config = EXPERIMENT.config_of(variant, config)
    data = some_of(sources.load(run.data), config.images, run.seed)
    train = data.train
    if variant in WRONG:
        wrong = with_wrong_labels(train.labels, len(data.classes), run.seed, **WRONG[variant])
        train = dataclasses.replace(train, labels=wrong)
    elif variant == "duplicates":
        train = with_copies(train, data.validation)
    model = run.bound(
        batches.training(train, config.batch_size, seed=run.seed, augment=False),
        batches.evaluation(data.validation),
        len(data.classes),
        callbacks=run.callbacks(data),
    )
    found = run.scores(model, data)
    return found | ({"leaky_accuracy": found["validation_accuracy"]} if variant in COPIES else {})


# Checks.


@functools.cache
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


SPREAD: tuple[dict[str, Any], ...] = ({"activation": "tanh"}, {"batch_norm": True}, {"clipped": True})


def every_weight_is_lost(*networks):
    return all(bool(np.isnan(after_one_nan(**network)[0]).all()) for network in networks)


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


# Nearly all of a price can be explained, so that a ratio of errors shows what is lost. Of a patient's target about half
# can be: there, it is points of variance that show it.
METRICS = {"houses": "log_error", "diabetes": "explained_variance"}
ROWS_OF = {"houses": "1,000 targets (houses)", "diabetes": "262 targets (patients)"}
WRECKS = {
    "houses": (math.log(2), "leaves at least twice the test error of"),
    "diabetes": (0.2, "explains at least 20 points of variance less than"),
}
# The sentences of others that claims test, and whose they are. All other claims are ours.
IMPUTED = "Predictive imputation beats the mean"
CAREFUL_WINS = "A few hundred careful labels beat thousands of raw ones"
SAID = {
    "G13a": ("DL", "One NaN in a batch destroys every weight in one step"),
    "G13d": ("DL", "Detection stops it before the update"),
    "G14a": ("DL; the number is ours", "One extreme value in the target wrecks a regression under squared error"),
    "G14b": ("DL", "Clipping the target to its 1st and 99th percentile repairs it"),
    **{f"G15{letter}": ("DL", IMPUTED) for letter in "ac"},
    "G15e": ("DL", "The mean shrinks variance"),
    **{f"G22{letter}": ("R3", CAREFUL_WINS) for letter in "abcf"},
}


def claim(number, text, table="", metric="", **how):
    source, said = SAID.get(number, ("ours", ""))
    return Claim(f"{number}_{table}" if table else number, text, source, METRICS.get(table, metric), said=said, **how)


def better(number, text, table, variant, than, **how):
    """The variant's error is lower on houses, or what it explains is more on patients."""
    side = {"lower" if table == "houses" else "higher": f"{table}_{variant}"}
    return claim(number, text, table, **side, than=f"{table}_{than}", **how)


def no_worse(number, text, table, variant, than="clean_squared"):
    both = f"{table}_{variant}", f"{table}_{than}"
    return claim(number, text, table, equal=both, side="above" if table == "houses" else "below")


def of_targets(table):
    rows, (least, wrecks) = ROWS_OF[table], WRECKS[table]
    one, percent = (f"With {many} of {rows} a hundred times too large," for many in ("one", "1 %"))
    end = "ends no worse than squared error on clean targets"
    return [
        better(
            "G14a", f"{one} squared error under Adam {wrecks} clean targets", table, "clean_squared", "one_squared",
            at_least=least,
        ),
        no_worse("G14b", f"{one} clipping to the 1st and 99th percentile {end}", table, "one_clipped"),
        no_worse("G14c", f"{one} absolute error {end}", table, "one_absolute"),
        no_worse("G14d", f"{one} Huber's loss {end}", table, "one_huber"),
        no_worse("G14e", f"{percent} clipping 2 % a side {end}", table, "percent_clipped"),
        better(
            "G14f", f"{percent} clipping only 0.5 % a side {wrecks} clipping 2 %", table, "percent_clipped",
            "percent_clipped_less", at_least=least,
        ),
        no_worse("G14g", f"{percent} absolute error {end}", table, "percent_absolute"),
        no_worse("G14h", f"{percent} Huber's loss {end}", table, "percent_huber"),
        no_worse("G14i", f"Clipping 1 % of {rows} a side costs nothing where all are right", table, "clean_clipped"),
        no_worse("G14j", f"Huber's loss costs nothing where all of {rows} are right", table, "clean_huber"),
    ]  # fmt: skip


def of_inputs(letters, table, name, dirt, clip):
    """Whether clipping helps where inputs are dirty, and whether it repairs them."""
    clipped, text = f"inputs_{name}_clipped", f"With {dirt} of all inputs a hundred times too large ({table}), clipping"
    return [
        better(f"G14{letters[0]}", f"{text} {clip} a side helps", table, clipped, f"inputs_{name}_plain"),
        no_worse(f"G14{letters[1]}", f"{text} {clip} a side repairs them", table, clipped, "clean_huber"),
    ]


def of_holes(letters, table, where, missing):
    """Whether predicted values are better than the mean, and than the mean with a flag."""
    text = f"Where {missing} are missing ({table}), predicting them beats the mean"
    predicted = f"missing_{where}_predicted"
    return [
        better(f"G15{letters[0]}", text, table, predicted, f"missing_{where}_mean"),
        better(f"G15{letters[1]}", f"{text} with a flag for each", table, predicted, f"missing_{where}_flagged"),
    ]


def careful_wins(letter, raw, which):
    text = f"{CAREFUL} careful labels beat {RAW:,} of which {which}"
    return claim(f"G22{letter}", text, metric="test_accuracy", higher="careful", than=raw)


BY_BATCH_NORM = "With 1 % of all inputs a hundred times too large (houses), BatchNorm behind the layers helps"
AT_ONCE = "One NaN in a batch destroys every weight in one step"
CLAIMS = [
    claim(
        "G13a",
        f"{AT_ONCE}: with ReLU, with tanh, with BatchNorm, and with a clipped gradient norm",
        asserted=partial(every_weight_is_lost, {}, *SPREAD),
    ),
    claim(
        "G13b",
        f"{AT_ONCE}, if there is tanh, BatchNorm or a clipped gradient norm",
        asserted=partial(every_weight_is_lost, *SPREAD),
    ),
    claim(
        "G13c",
        "In a network of ReLUs alone, on this CPU, it destroys less than a tenth of the weights, and all inputs get "
        "the same answer",
        asserted=relu_keeps_most_of_them,
    ),
    claim(
        "G13d",
        "`tf.debugging.assert_all_finite` in the input pipeline stops it before the update",
        asserted=a_checked_batch_is_refused,
    ),
    *of_targets("houses"),
    *of_targets("diabetes"),
    *of_inputs("kl", "houses", "thousandth", "0.1 %", "1 %"),
    *of_inputs("mn", "houses", "percent", "1 %", "2 %"),
    *of_inputs("mn", "diabetes", "percent", "1 %", "2 %"),
    better("G14o", BY_BATCH_NORM, "houses", "inputs_percent_batch_norm", "inputs_percent_plain"),
    better(
        "G14p", f"{BY_BATCH_NORM} less than clipping 2 % a side", "houses", "inputs_percent_clipped",
        "inputs_percent_batch_norm",
    ),
    *of_holes("ab", "houses", "random", "values of two columns"),
    *of_holes("ab", "diabetes", "random", "values of two columns"),
    *of_holes("cd", "diabetes", "high", "values of two columns, rather the high ones,"),
    claim(
        "G15e",
        "Where three values of ten are missing, filling them with the mean takes a fifth or more off the variance",
        asserted=the_mean_shrinks_variance,
    ),
    *(careful_wins("abcde"[at], f"raw_{share}", f"{share} % are wrong") for at, share in enumerate(SHARES)),
    careful_wins("f", "raw_40_confused", "40 % are wrong, each class taken for one other class"),
    claim(
        "G22g",
        "With a tenth of the validation images also trained on, validation accuracy is at least a point higher",
        metric="leaky_accuracy",
        higher="duplicates",
        than="no_duplicates",
        at_least=0.01,
        check=True,
    ),
]  # fmt: skip

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    train=done,
    flags={"batch_size": 64, "images": RAW},
    own_flags={"careful": {"images": CAREFUL}},
    smoke={"batch_size": 16, "epochs": 6, "steps": 750},
    fails=("raw_80",),  # At smoke.
    tuning=Tuning(
        "rate",
        dict.fromkeys(RATES, half_decades(3e-4, 3.2e-2)),
        {
            name: Objective("validation_error", lower=True) if name in TABLES else Objective("validation_accuracy")
            for name in RATES
        },
        second=dict.fromkeys(LABELS, ("shorter", (1.0, 9.0))),
        own_fixed={name: {"shorter": 3.0} for name in LABELS},
        found=("RATES", "SHORTER"),
    ),
    left_out=[
        name
        for name in VARIANTS
        if name.startswith(("diabetes", "raw_6", "raw_8", "houses_missing", *COPIES)) or "inputs" in name
    ],
    first_seed=401,
    units={
        "log_error": Unit("test error (log of the root mean square)", digits=3),
        "validation_error": Unit("validation error, log of the root mean square", digits=3),
        "explained_variance": Unit("test variance explained", 100, "points", 1),
        "leaky_accuracy": Unit("validation accuracy", 100, "points"),
    },
    panels=(
        Bars("log_error", tuple(f"houses_{name}" for name in TARGETS)),
        Bars("log_error", ("houses_clean_huber", *(name for name in INPUTS if name.startswith("houses")))),
        Bars("test_accuracy", LABELS),
    ),
)
