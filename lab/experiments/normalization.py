"""Five normalizations, three places for them at three depths, the highest rates that train; BatchNorm's momentum."""

import math
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
POWERS = range(-12, 2)  # Of 2: constant learning rates.
LEARNED = 0.15  # A validation accuracy that says that something was learned: 1.5 times that of a guess.
ALPHA = 0.5  # DyT's first factor, not tuned yet.

# A network's settings, by the name of the variant. Papers on the place of a normalization have LayerNorm.
NETWORKS: dict[str, dict[str, Any]] = {kind: {"kind": kind} for kind in KINDS if kind != "dyt"}
NETWORKS |= {"post_6": {"kind": "layer", "place": "post"}, "rezero_6": {"kind": "none", "place": "rezero"}}
for depth in DEPTHS:
    NETWORKS |= {
        f"pre_{depth}": {"kind": "layer", "depth": depth},
        f"post_{depth}": {"kind": "layer", "place": "post", "depth": depth},
        f"rezero_{depth}": {"kind": "none", "place": "rezero", "depth": depth},
    }
NETWORKS["none_16"] = {"kind": "none", "depth": 16}
# A first guess of the learning rate of each: none is tuned yet.
RATES = dict.fromkeys((*NETWORKS, "dyt"), 0.003)


def with_dyt(train_set, validation_set, classes, *, alpha=ALPHA, rate=0.003, epochs=5, callbacks=()):
    """The recipe's training with DyT, from a first factor on."""
    build_model = partial(recipe.build_model, kind="dyt", alpha=alpha)
    how = {"rate": rate, "epochs": epochs, "build_model": build_model, "callbacks": callbacks}
    return recipe.train(train_set, validation_set, classes, **how)


def highest_rate(train_set, validation_set, classes, *, place, kind, seed, epochs=2):
    """The logarithm of the highest rate, constant from the first step on, at which a network of 16 blocks learns."""
    build_model = partial(recipe.build_model, kind=kind, place=place, depth=16)
    highest = 2.0 ** POWERS[0]
    for rate in (2.0**power for power in POWERS):
        keras.utils.set_random_seed(seed)
        constant = optimizers.schedules.PiecewiseConstantDecay([1], [rate, rate])
        model = recipe.train(train_set, None, classes, rate=constant, epochs=epochs, build_model=build_model)
        if model.evaluate(validation_set, verbose=0)[1] >= LEARNED:
            highest = rate
    return {"log_rate": math.log10(highest)}


VARIANTS: dict[str, Any] = {
    name: partial(recipe.train, rate=RATES[name], build_model=partial(recipe.build_model, **settings))
    for name, settings in NETWORKS.items()
}
VARIANTS["dyt"] = partial(with_dyt, alpha=ALPHA, rate=RATES["dyt"])
SWEPT: dict[str, Any] = {
    "rates_of_pre": partial(highest_rate, place="pre", kind="layer"),
    "rates_of_post": partial(highest_rate, place="post", kind="layer"),
    "rates_of_rezero": partial(highest_rate, place="rezero", kind="none"),
}
# The same training with two momenta of BatchNorm: short, and in small batches.
FEW = {
    f"{kind}_momentum_{percent}": partial(
        recipe.train,
        rate=RATES["batch"],
        epochs=epochs,
        build_model=partial(recipe.build_model, kind="batch", momentum=percent / 100),
    )
    for kind, epochs in (("short", 5), ("small_batches", 10))
    for percent in (90, 99)
}
TUNED = tuple(VARIANTS)
VARIANTS |= {**FEW, **SWEPT}


def done(variant, config, run):
    """One run: a training as the laboratory does it, or those of all rates."""
    if variant not in SWEPT:
        return on_batches(EXPERIMENT, variant, config, run)
    config = EXPERIMENT.config_of(variant, config)
    data = some_of(sources.load(run.data), config.images, run.seed)
    train_set = batches.training(data.train, config.batch_size, seed=run.seed)
    return run.bound(train_set, batches.evaluation(data.validation), len(data.classes), seed=run.seed)


def jump(model, run, data):
    accuracies = run.curves["val_accuracy"]
    return {"jump": float(np.abs(np.diff(accuracies)).mean())} if run.variant in FEW and len(accuracies) > 1 else {}


def beats(number, text, source, variant, than, metric="test_accuracy", **how):
    return Claim(number, text, source, metric, higher=variant, than=than, **how)


def no_worse(number, text, source, variant, than):
    return Claim(number, text, source, "test_accuracy", equal=(variant, than), side="below")


CLAIMS = [
    no_worse("T9a", "tanh(ax) can stand in for LayerNorm", "R3", "dyt", "layer"),
    no_worse("T9b", "tanh(ax) can stand in for BatchNorm", "R3", "dyt", "batch"),
    beats("T9c", "tanh(ax) beats no normalization", "ours", "dyt", "none"),
    beats("T9d", "BatchNorm beats LayerNorm in a residual convnet", "ours", "batch", "layer", strong="B14"),
    beats(
        "P4a",
        "With 16 blocks, x + f(Norm(x)) ends above Norm(x + f(x))",
        "TP",
        "pre_16",
        "post_16",
        said="x + f(Norm(x)) trains deeper and at higher rates than Norm(x + f(x))",
    ),
    beats(
        "P4b",
        "With 16 blocks, x + f(Norm(x)) trains at a higher rate than Norm(x + f(x))",
        "TP",
        "rates_of_pre",
        "rates_of_post",
        "log_rate",
        said="x + f(Norm(x)) trains deeper and at higher rates than Norm(x + f(x))",
    ),
    no_worse(
        "P4c",
        "Branches that begin at zero need no normalization: 16 blocks end no worse than with x + f(Norm(x))",
        "TP, Bachlechner et al. 2020",
        "rezero_16",
        "pre_16",
    ),
    beats(
        "P4d",
        "Without normalization, 16 blocks whose branches begin at zero beat 16 whose branches don't",
        "Bachlechner et al. 2020",
        "rezero_16",
        "none_16",
    ),
    Claim(
        "P4e",
        "Branches that begin at zero train at no lower a rate than x + f(Norm(x))",
        source="Bachlechner et al. 2020",
        metric="log_rate",
        equal=("rates_of_rezero", "rates_of_pre"),
        side="below",
    ),
    beats(
        "Q4a",
        "In a run of 155 steps, momentum 0.99 makes validation accuracy jump more than 0.9 does",
        "keras 10666, tensorflow 36446",
        "short_momentum_99",
        "short_momentum_90",
        "jump",
    ),
    beats(
        "Q4b",
        "In batches of 8, momentum 0.99 makes validation accuracy jump more than 0.9 does",
        "keras 10666, tensorflow 36446",
        "small_batches_momentum_99",
        "small_batches_momentum_90",
        "jump",
    ),
    beats(
        "Q4c",
        "A run of 155 steps ends higher with momentum 0.9 than with 0.99",
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
    own_flags={name: {"images": 2_000} for name in (*FEW, *SWEPT)}
    | {name: {"images": 1_000, "batch_size": 8} for name in FEW if name.startswith("small")},
    smoke={"epochs": 3, "batch_size": 32},
    tuning=Tuning(
        "rate",
        {name: half_decades(1e-4, 1e-1) for name in TUNED},
        Objective("validation_accuracy"),
        second={"dyt": ("alpha", (0.25, 1.0))},
        own_fixed={"dyt": {"alpha": ALPHA}},
    ),
    fails=("post_16", "none_16"),
    left_out=[name for name in VARIANTS if name not in (*KINDS, "pre_16", "post_16", "rezero_16")],
    units={
        "log_rate": Unit("highest learning rate that trains (log 10)", name="decades"),
        "jump": Unit("change of validation accuracy from epoch to epoch", 100, "points"),
    },
    panels=(
        Bars("test_accuracy", KINDS, title="6 blocks"),
        Bars("test_accuracy", ("pre_16", "post_16", "rezero_16", "none_16"), title="16 blocks"),
        Lines("val_accuracy", variants=tuple(FEW)),
    ),
)
