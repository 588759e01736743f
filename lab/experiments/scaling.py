"""Pixels raw, scaled, scaled twice, and with an outlier; a column of large numbers; and what leaks before the split."""

import math
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from keras import layers, optimizers
from sklearn.linear_model import LogisticRegression

from lab import Bars, Claim, Experiment, Lines, Objective, Tuning, Unit, half_decades
from lab.core.callbacks import StopAt
from pipelines import batches, sources
from recipes import scaling as recipe

OUTLIER = 25_500  # A hundred times the largest pixel.
# Of small tables: how many, their rows, how many of these train, columns of noise, and columns that are used.
REPEATS, ROWS, TRAINED, NOISE, CHOSEN = 50, 60, 40, 1_000, 10
POWERS = range(-45, 5)  # Of 2: the learning rates that are tried on a table, each for as many steps.
HALVINGS = 10  # Of the gap between the highest of these that trains and the next, which does not.
STEPS = 200


def done(variant, config, run):
    """One run: a training on images, one of them with an outlier where the variant has one, or tables."""
    if variant in TABLES:
        return run.bound(seed=run.seed)
    data = sources.load(run.data)
    images = data.train.images[:].astype("float32")
    if variant.startswith("outlier"):
        images[0, 0, 0] = OUTLIER
    examples = tf.data.Dataset.from_tensor_slices((images, data.train.labels)).shuffle(len(images), seed=run.seed)
    train_set = examples.batch(config.batch_size, drop_remainder=True)
    validation_set = batches.evaluation(data.validation)
    races = variant.endswith("_race") and config.target is not None
    callbacks = [*([StopAt(config.target)] if races else []), *run.callbacks(data)]
    model = run.bound(train_set, validation_set, len(data.classes), callbacks=callbacks)
    return run.scores(model, data) | (run.epochs_to_target(config.target, data) if races else {})


def at_a_constant_rate(
    train_set, validation_set, classes, scaling, *, momentum=False, rate=0.001, epochs=10, callbacks=()
):
    """With Adam, or with SGD with momentum."""
    always = optimizers.schedules.PiecewiseConstantDecay([1], [rate, rate])  # A number would be a peak.
    how = {"rate": always, "epochs": epochs, "callbacks": callbacks}
    if momentum:
        how["optimizer"] = partial(optimizers.SGD, momentum=0.9, nesterov=True)
    return recipe.train(train_set, validation_set, classes, scaling, **how)


def scaled_twice(
    train_set, validation_set, classes, *, rate=0.003, epochs=5, build_model=recipe.build_model, callbacks=()
):
    """As where the pipeline divides by 255, and then the model does too."""
    how = {"rate": rate, "epochs": epochs, "build_model": build_model, "callbacks": callbacks}
    return recipe.train(train_set, validation_set, classes, layers.Rescaling(1 / 255**2), **how)


# Tables


def houses(seed):
    """Rooms, around 5, and the district's income, around 100,000, float32 (1000, 2); and a price, float32 (1000,)."""
    draws = np.random.default_rng(seed)
    rooms, income = draws.normal(5, 1.5, 1000), draws.normal(1e5, 3e4, 1000)
    price = 200 + 40 * rooms + 2e-3 * income + draws.normal(0, 30, 1000)
    return np.stack([rooms, income], axis=1).astype("float32"), price.astype("float32")


def regression(scaling, seed):
    """The highest rate at which SGD lowers a linear regression's error, and the largest share explained at any."""
    columns, prices = houses(seed)
    layer = recipe.scaling_layer(scaling, tf.data.Dataset.from_tensors(columns))
    scaled = np.asarray(layer(columns), np.float64)

    def share_at(power):
        """The share of the prices' variance that is explained at the end; NaN where it diverged."""
        rate, weights, bias = 2.0**power, np.zeros(2), prices.mean()  # The best answer that looks at no column.
        errors = bias - prices
        for _ in range(STEPS):
            weights = weights - rate * 2 * scaled.T @ errors / len(errors)
            bias = bias - rate * 2 * errors.mean()
            errors = scaled @ weights + bias - prices
        return float(1 - np.square(errors).mean() / prices.var())

    with np.errstate(over="ignore", invalid="ignore"):  # Some rates are far too high.
        found = {power: share_at(power) for power in POWERS}
        highest = float(max(power for power, share in found.items() if share > 0))
        for halving in range(1, HALVINGS + 1):
            if share_at(highest + 0.5**halving) > 0:
                highest += 0.5**halving
    best = max(share for share in found.values() if share > 0)
    return {"log_rate": highest * math.log10(2), "explained_variance": best}


def leaked(before, select, seed):
    """The mean test accuracy of logistic regressions on small tables, each prepared before its split or after it."""
    draws, right = np.random.default_rng(seed), []
    for _ in range(REPEATS):
        labels = draws.permutation(np.arange(ROWS) % 2)
        columns = draws.normal(size=(ROWS, NOISE if select else CHOSEN))
        if not select:  # Here the columns tell something. Of those to select from, none does.
            columns += 0.3 * labels[:, None]
        seen = slice(None) if before else slice(TRAINED)
        if select:
            mean = [columns[seen][labels[seen] == label].mean(axis=0) for label in (0, 1)]
            columns = columns[:, np.argsort(-np.abs(mean[1] - mean[0]))[:CHOSEN]]
        columns = (columns - columns[seen].mean(axis=0)) / columns[seen].std(axis=0)
        fitted = LogisticRegression().fit(columns[:TRAINED], labels[:TRAINED])
        right.append(fitted.score(columns[TRAINED:], labels[TRAINED:]))
    return {"table_accuracy": float(np.mean(right))}


TABLES: dict[str, Any] = {
    "table_raw": partial(regression, scaling="raw"),
    "table_standardized": partial(regression, scaling="standardized"),
    "statistics_before": partial(leaked, before=True, select=False),
    "statistics_after": partial(leaked, before=False, select=False),
    "selected_before": partial(leaked, before=True, select=True),
    "selected_after": partial(leaked, before=False, select=True),
}

# The learning rates of variants that the recipe has none of. None is tuned yet.
RATES = {"raw_race": 0.0003, "unit_race": 0.001, "standardized_race": 0.001, "twice": 0.01}
RATES |= {"raw_momentum_race": 1e-6, "unit_momentum_race": 0.03, "standardized_momentum_race": 0.01}
RATES |= {"outlier_min_max": 0.003, "outlier_standardized": 0.003}
RATES |= {f"{name}_batch_norm": 0.01 for name in ("raw", "unit", "standardized", "twice")}

# What comes first is scaled, so that a model that scales its inputs itself can't take this one's place.
OWN_MODEL = {"build_model": recipe.build_model}
WITH_BATCH_NORM = {"build_model": partial(recipe.build_model, batch_norm=True)}
SCALED_ONCE = ("raw", "unit", "standardized")
VARIANTS: dict[str, Any] = {
    **{name: partial(recipe.train, scaling=name, **OWN_MODEL) for name in SCALED_ONCE},
    "twice": partial(scaled_twice, rate=RATES["twice"], **OWN_MODEL),
    **{
        f"{name}_batch_norm": partial(recipe.train, scaling=name, rate=RATES[f"{name}_batch_norm"], **WITH_BATCH_NORM)
        for name in SCALED_ONCE
    },
    "twice_batch_norm": partial(scaled_twice, rate=RATES["twice_batch_norm"], **WITH_BATCH_NORM),
    **{
        f"outlier_{name}": partial(recipe.train, scaling=name, rate=RATES[f"outlier_{name}"], **OWN_MODEL)
        for name in ("min_max", "standardized")
    },
    **{f"{name}_race": partial(at_a_constant_rate, scaling=name, rate=RATES[f"{name}_race"]) for name in SCALED_ONCE},
    **{
        f"{name}_momentum_race": partial(
            at_a_constant_rate, scaling=name, momentum=True, rate=RATES[f"{name}_momentum_race"]
        )
        for name in SCALED_ONCE
    },
    # At the rate that suits pixels from 0 to 1.
    "raw_at_units_rate": partial(recipe.train, scaling="raw", rate=recipe.RATES["unit"], **OWN_MODEL),
    "twice_at_units_rate": partial(scaled_twice, rate=recipe.RATES["unit"], **OWN_MODEL),
}
TUNED = tuple(name for name in VARIANTS if not name.endswith("at_units_rate"))
VARIANTS |= TABLES


def beats(number, text, source, variant, than, metric="test_accuracy", **how):
    return Claim(number, text, source, metric, higher=variant, than=than, **how)


REPORTS = "ours, after tensorflow 48412 and keras-io 1549"  # Which are about pretrained networks.
CLAIMS = [
    *(
        Claim(
            f"G11{letter}",
            f"Pixels as they are, from 0 to 255, train slower than {words}, with {optimizer}",
            source="DL",
            metric="epochs_to_target",
            lower=f"{name}_race",
            than=f"raw{name.removeprefix(scaling)}_race",
        )
        for letter, scaling, name, words, optimizer in (
            ("a", "standardized", "standardized", "standardized ones", "Adam"),
            ("b", "unit", "unit", "pixels from 0 to 1", "Adam"),
            ("c", "standardized", "standardized_momentum", "standardized ones", "SGD with momentum"),
            ("d", "unit", "unit_momentum", "pixels from 0 to 1", "SGD with momentum"),
        )
    ),
    beats(
        "Q3a",
        "Pixels scaled twice cost accuracy, at the rate that suits pixels scaled once",
        REPORTS,
        "unit",
        "twice_at_units_rate",
    ),
    beats(
        "Q3b",
        "A tuned rate does not win back what pixels scaled twice cost",
        REPORTS,
        "unit",
        "twice",
    ),
    beats(
        "Q3c",
        "Pixels that are not scaled cost accuracy, at the rate that suits pixels scaled once",
        REPORTS,
        "unit",
        "raw_at_units_rate",
    ),
    beats(
        "Q3d",
        "A tuned rate does not win back what pixels that are not scaled cost",
        REPORTS,
        "unit",
        "raw",
    ),
    Claim(
        "Q3e",
        "With BatchNorm behind the convolutions and a tuned rate, raw pixels end level with standardized ones",
        source="ours",
        metric="test_accuracy",
        equal=("raw_batch_norm", "standardized_batch_norm"),
    ),
    Claim(
        "Q3f",
        "With BatchNorm behind the convolutions and a tuned rate, pixels scaled twice end level with those scaled once",
        source="ours",
        metric="test_accuracy",
        equal=("twice_batch_norm", "unit_batch_norm"),
    ),
    beats(
        "D2a",
        "With one outlier of a hundred times the largest pixel, standardized images beat images scaled to 0 to 1",
        "DL",
        "outlier_standardized",
        "outlier_min_max",
    ),
    beats("D2d", "One such outlier costs images scaled to 0 to 1 accuracy", "DL", "unit", "outlier_min_max"),
    beats("D2b", "Standardized inputs train better than inputs from 0 to 1", "DL", "standardized", "unit"),
    Claim(
        "D2c",
        "Standardized images lose nothing by one such outlier",
        source="DL",
        metric="test_accuracy",
        equal=("outlier_standardized", "standardized"),
        side="below",
    ),
    beats(
        "D11a",
        "A column around 100,000 next to one around 5 forces gradient descent to a learning rate of at most a "
        "thousandth of what standardized columns allow",
        "ours, on DL's example",
        "table_standardized",
        "table_raw",
        "log_rate",
        at_least=3.0,
    ),
    beats(
        "D11b",
        "At the best rate of each, 200 steps explain more of the prices if the columns are standardized",
        "ours, on DL's example",
        "table_standardized",
        "table_raw",
        "explained_variance",
    ),
    beats(
        "G12a",
        "Means and deviations computed before the split flatter the score",
        "DL",
        "statistics_before",
        "statistics_after",
        "table_accuracy",
    ),
    beats(
        "G12b",
        "Columns selected before the split flatter the score",
        "ours, on DL's advice",
        "selected_before",
        "selected_after",
        "table_accuracy",
    ),
]


def grid_of(name):
    """The lowest and the highest rate that `tune` begins with."""
    if name.endswith("momentum_race"):
        return (1e-8, 1e-5) if name.startswith("raw") else (1e-3, 1.0)
    return (1e-5, 1e-2) if name.startswith("raw") and not name.endswith("batch_norm") else (1e-4, 1e-1)


FURTHEST, SOONEST = Objective("validation_accuracy"), Objective("epochs_to_target", lower=True)
EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    train=done,
    flags={"batch_size": 64, "target": 0.5},
    smoke={"epochs": 4, "batch_size": 32, "target": 0.35},
    tuning=Tuning(
        "rate",
        {name: half_decades(*grid_of(name)) for name in TUNED},
        {name: SOONEST if name.endswith("_race") else FURTHEST for name in TUNED},
    ),
    fails=("raw", "raw_race", "raw_momentum_race", "raw_at_units_rate", "twice", "twice_at_units_rate"),
    left_out=[name for name in VARIANTS if name.endswith("_race") or name.startswith("outlier") or name in TABLES],
    units={
        "log_rate": Unit("highest learning rate that trains (log 10)", name="decades"),
        "explained_variance": Unit("variance of prices explained", 100, "points", 1),
        "table_accuracy": Unit("test accuracy on small tables", 100, "points", 1),
    },
    panels=(
        Bars("test_accuracy", ("raw", "unit", "standardized", "twice", "outlier_min_max", "outlier_standardized")),
        Bars("test_accuracy", tuple(name for name in VARIANTS if name.endswith("batch_norm")), title="with BatchNorm"),
        Lines("val_accuracy", variants=("raw_race", "unit_race", "standardized_race")),
    ),
    first_seed=401,
)
