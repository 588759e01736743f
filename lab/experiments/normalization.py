"""Five normalizations, three places for them at three depths, the highest rates that train; BatchNorm's momentum."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import optimizers

from lab import Bars, Claim, Experiment, Lines, Objective, Tuning, Unit, half_decades
from lab.core.training import on_batches, some_of
from pipelines import batches, sources
from recipes import normalization as recipe

KINDS = ("batch", "layer", "group", "dyt", "none")
DEPTHS = (2, 16)  # Beside the recipe's 6.
POWERS = (-12, 1)  # Of 2: the lowest and the highest constant learning rate.

# A network's settings, by the name of the variant. Papers on the place of a normalization have LayerNorm.
NETWORKS: dict[str, dict[str, Any]] = {kind: {"kind": kind} for kind in KINDS if kind != "dyt"}
NETWORKS |= {"post_6": {"kind": "layer", "place": "post"}, "rezero_6": {"kind": "none", "place": "rezero"}}
for depth in DEPTHS:
    NETWORKS |= {
        f"pre_{depth}": {"kind": "layer", "depth": depth},
        f"post_{depth}": {"kind": "layer", "place": "post", "depth": depth},
        f"rezero_{depth}": {"kind": "none", "place": "rezero", "depth": depth},
    }
NETWORKS |= {f"{kind}_16": {"kind": kind, "depth": 16} for kind in ("batch", "none")}
BY_DEPTH = (
    "pre_2", "layer", "pre_16", "post_2", "post_6", "post_16", "rezero_2", "rezero_6", "rezero_16",
    "dyt_2", "dyt", "dyt_16", "batch_16", "none_16",
)  # fmt: skip
DYT = {"dyt_2": 2, "dyt": 6, "dyt_16": 16}  # How many blocks.
# The same training with two momenta of BatchNorm: 150 steps, and 1,250 in batches of 8.
FEW = {f"{kind}_momentum_{percent}": percent / 100 for kind in ("short", "small_batches") for percent in (90, 99)}
# First guesses of the learning rate of each, and of DyT's first factor: none is tuned yet.
RATES = dict.fromkeys((*NETWORKS, *DYT, *FEW), 0.003)
ALPHAS = dict.fromkeys(DYT, 0.5)


def with_dyt(train_set, validation_set, classes, *, depth, alpha=0.5, rate=0.003, epochs=5, callbacks=()):
    """The recipe's training with DyT, from a first factor on."""
    build_model = partial(recipe.build_model, kind="dyt", depth=depth, alpha=alpha)
    how = {"rate": rate, "epochs": epochs, "build_model": build_model, "callbacks": callbacks}
    return recipe.train(train_set, validation_set, classes, **how)


def constant(rate):
    return optimizers.schedules.PiecewiseConstantDecay([1], [rate, rate])


def at_one_rate(train_set, validation_set, classes, *, momentum, rate=0.003, epochs=10, callbacks=()):
    """The recipe's training with a momentum of BatchNorm. The rate does not decay, so that accuracies go on moving."""
    build_model = partial(recipe.build_model, kind="batch", momentum=momentum)
    how = {"rate": constant(rate), "epochs": epochs, "build_model": build_model, "callbacks": callbacks}
    return recipe.train(train_set, validation_set, classes, **how)


def highest(accuracies: Mapping[float, float], chance: float) -> float:
    """The highest rate that brings half or more of what the best one brings above chance.

    It is the lowest that was tried where none reaches 1.5 times chance.
    """
    most = max(accuracies.values())
    if most < 1.5 * chance:
        return min(accuracies)
    return max(rate for rate, accuracy in accuracies.items() if accuracy >= (chance + most) / 2)


def highest_rate(train_set, validation_set, classes, *, place, kind, seed, epochs=2, tried=14):
    """The logarithm of the highest rate, constant from the first step on, at which a network of 16 blocks learns."""
    build_model = partial(recipe.build_model, kind=kind, place=place, depth=16)
    accuracies = {}
    for rate in 2.0 ** np.linspace(*POWERS, tried):
        keras.utils.set_random_seed(seed)
        model = recipe.train(train_set, None, classes, rate=constant(rate), epochs=epochs, build_model=build_model)
        accuracies[rate] = model.evaluate(validation_set, verbose=0)[1]
    return {"log_rate": math.log10(highest(accuracies, 1 / classes))}


VARIANTS: dict[str, Any] = {
    name: partial(recipe.train, rate=RATES[name], build_model=partial(recipe.build_model, **settings))
    for name, settings in NETWORKS.items()
}
VARIANTS |= {name: partial(with_dyt, depth=depth, alpha=ALPHAS[name], rate=RATES[name]) for name, depth in DYT.items()}
VARIANTS |= {name: partial(at_one_rate, momentum=momentum, rate=RATES[name]) for name, momentum in FEW.items()}
SWEPT: dict[str, Any] = {
    "rates_of_pre": partial(highest_rate, place="pre", kind="layer"),
    "rates_of_post": partial(highest_rate, place="post", kind="layer"),
    "rates_of_rezero": partial(highest_rate, place="rezero", kind="none"),
    "rates_of_dyt": partial(highest_rate, place="pre", kind="dyt"),
}
VARIANTS |= SWEPT


def done(variant, config, run):
    """One run: a training as the laboratory does it, or those of all rates."""
    if variant not in SWEPT:
        return on_batches(EXPERIMENT, variant, config, run)
    config = EXPERIMENT.config_of(variant, config)
    data = some_of(sources.load(run.data), config.images, run.seed)
    train_set = batches.training(
        data.train, config.batch_size, seed=run.seed, shift=config.shift, flip=config.flip == "yes"
    )
    return run.bound(train_set, batches.evaluation(data.validation), len(data.classes), seed=run.seed)


def jump(model, run, data):
    """How far validation accuracy falls from epoch to epoch, on average: no rise makes up for a fall."""
    accuracies = run.curves["val_accuracy"]
    if run.variant not in FEW or run.diverged or len(accuracies) < 2:
        return {}
    return {"jump": float(np.maximum(0.0, -np.diff(accuracies)).mean())}


def beats(number, text, source, variant, than, metric="test_accuracy", **how):
    return Claim(number, text, source, metric, higher=variant, than=than, **how)


def no_worse(number, text, source, variant, than, metric="test_accuracy", **how):
    return Claim(number, text, source, metric, equal=(variant, than), side="below", **how)


PRE = "x + f(Norm(x)) trains deeper and at higher rates than Norm(x + f(x))"
REZERO = "Branches that begin at zero (ReZero) need no normalization"
DYT_SAID = "tanh(ax) can stand in for a normalization layer"
MOMENTUM = "Momentum 0.99 makes validation jump in short runs and at small batches; 0.9 does not"
BACHLECHNER = "ours, on Bachlechner et al. 2020"
TP_TOO = "ours, on TP and Bachlechner et al. 2020"

CLAIMS = [
    no_worse("T9a", "tanh(ax) can stand in for LayerNorm", "R3", "dyt", "layer", said=DYT_SAID),
    no_worse("T9b", "tanh(ax) can stand in for BatchNorm", "R3", "dyt", "batch", said=DYT_SAID),
    beats("T9c", "tanh(ax) beats no normalization", "ours", "dyt", "none"),
    beats("T9d", "BatchNorm beats LayerNorm in a residual convnet", "ours", "batch", "layer", strong="B14"),
    no_worse("T9e", "With 16 blocks, tanh(ax) can stand in for LayerNorm", "R3", "dyt_16", "pre_16", said=DYT_SAID),
    no_worse(
        "T9f",
        "With 16 blocks, tanh(ax) trains at no lower a rate than LayerNorm",
        "ours, on R3",
        "rates_of_dyt",
        "rates_of_pre",
        "log_rate",
    ),
    beats("P4a", "With 16 blocks, x + f(Norm(x)) ends above Norm(x + f(x))", "TP", "pre_16", "post_16", said=PRE),
    beats(
        "P4b",
        "With 16 blocks, x + f(Norm(x)) trains at a higher rate than Norm(x + f(x))",
        "TP",
        "rates_of_pre",
        "rates_of_post",
        "log_rate",
        said=PRE,
    ),
    no_worse("P4f", "x + f(Norm(x)) ends no worse with 16 blocks than with 2", "TP", "pre_16", "pre_2", said=PRE),
    beats("P4g", "Norm(x + f(x)) ends lower with 16 blocks than with 2", "TP", "post_2", "post_16", said=PRE),
    no_worse(
        "P4c",
        "16 blocks whose branches begin at zero, without normalization, end no worse than x + f(LayerNorm(x))",
        TP_TOO,
        "rezero_16",
        "pre_16",
        said=REZERO,
    ),
    no_worse(
        "P4h",
        "16 blocks whose branches begin at zero, without normalization, end no worse than x + f(BatchNorm(x))",
        TP_TOO,
        "rezero_16",
        "batch_16",
        said=REZERO,
    ),
    beats(
        "P4d",
        "Without normalization, 16 blocks whose branches begin at zero beat 16 whose branches don't",
        BACHLECHNER,
        "rezero_16",
        "none_16",
    ),
    no_worse(
        "P4e",
        "16 blocks whose branches begin at zero train at no lower a rate than x + f(LayerNorm(x))",
        BACHLECHNER,
        "rates_of_rezero",
        "rates_of_pre",
        "log_rate",
    ),
    beats(
        "Q4a",
        "In a run of 150 steps, validation accuracy falls more from epoch to epoch with momentum 0.99 than with 0.9",
        "keras 10666, tensorflow 36446",
        "short_momentum_99",
        "short_momentum_90",
        "jump",
        said=MOMENTUM,
    ),
    beats(
        "Q4b",
        "In batches of 8, validation accuracy falls more from epoch to epoch with momentum 0.99 than with 0.9",
        "keras 10666, tensorflow 36446",
        "small_batches_momentum_99",
        "small_batches_momentum_90",
        "jump",
        said=MOMENTUM,
    ),
    beats(
        "Q4c",
        "A run of 150 steps ends higher with momentum 0.9 than with 0.99",
        "ours",
        "short_momentum_90",
        "short_momentum_99",
    ),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    train=done,
    extra=jump,
    flags={"batch_size": 64, "images": None, "flip": "yes", "shift": 2},
    own_flags={name: {"images": 2_000} for name in SWEPT}
    | {name: {"images": 1_000} | ({"batch_size": 8} if name.startswith("small") else {}) for name in FEW},
    smoke={"epochs": 3, "batch_size": 32, "tried": 2},
    least={"tried": 2},
    tuning=Tuning(
        "rate",
        {name: half_decades(1e-4, 1e-1) for name in RATES},
        Objective("validation_accuracy"),
        second=dict.fromkeys(DYT, ("alpha", (0.25, 1.0))),
        own_fixed={name: {"alpha": 0.5} for name in DYT},
        found=("RATES", "ALPHAS"),
    ),
    fails=("post_16", "none_16"),
    left_out=[name for name in VARIANTS if name not in (*KINDS, "pre_16", "post_16", "rezero_16")],
    units={
        "log_rate": Unit("highest learning rate that trains (log 10)", name="decades"),
        "jump": Unit("fall of validation accuracy from epoch to epoch", 100, "points"),
    },
    panels=(
        Bars("test_accuracy", KINDS, title="6 blocks"),
        Bars("test_accuracy", BY_DEPTH, title="2, 6 and 16 blocks"),
        Lines("val_accuracy", variants=tuple(FEW)),
    ),
)
