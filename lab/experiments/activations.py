"""Eight activations at three depths and in residual blocks, SwiGLU's optimizers and schedules, and dead ReLU units."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lab import Bars, Claim, Experiment, Lines, Objective, Run, Tuning, Unit, half_decades
from pipelines import batches, sources
from recipes import activations as recipe

PROBE_IMAGES = 256
LOOKED_AT = 2_000  # A unit is dead if it is zero on all of so many training images.
# Filters of the others and of SwiGLU, which then has as many parameters and multiplications: 2 × 17² is about 24². A
# residual block has (9 + 1) × 38 weights for each of its channels, and (2 × 9 + 1) × 20 with SwiGLU.
WIDTHS = {"plain": (24, 17), "residual": (38, 20)}


def network(activation, *, depth=6, residual=False, **settings):
    usual, gated = WIDTHS["residual" if residual else "plain"]
    filters = {"filters": gated if activation == "swiglu" else usual}
    return {"activation": activation, "depth": depth, "residual": residual, **filters, **settings}


NETWORKS = {f"{name}_{depth}": network(name, depth=depth) for name in recipe.ACTIVATIONS for depth in (2, 6, 12)}
NETWORKS["linear_6"] = network("linear")
NETWORKS["swiglu_6_wide"] = network("swiglu", filters=24)
NETWORKS["relu_12_glorot"] = network("relu", depth=12, initializer="glorot_uniform")
NETWORKS |= {f"{name}_residual": network(name, residual=True) for name in recipe.ACTIVATIONS}
OTHER_WAYS = {
    "constant": {"constant": True},
    "momentum": {"momentum": True},
    "constant_momentum": {"constant": True, "momentum": True},
}
HOW: dict[str, dict[str, Any]] = {
    name: {"build_model": partial(recipe.build_model, **settings)} for name, settings in NETWORKS.items()
}
for name in ("relu_residual", "swiglu_residual"):
    HOW |= {f"{name}_{way}": {**HOW[name], **settings} for way, settings in OTHER_WAYS.items()}
# A first guess of the learning rate of each, or its peak: none is tuned yet.
RATES = {name: 0.1 if how.get("momentum") else 0.003 for name, how in HOW.items()}
VARIANTS: dict[str, Any] = {name: partial(recipe.train, rate=rate, **HOW[name]) for name, rate in RATES.items()}
# ReLU and Leaky ReLU at 4 and 16 times ReLU's best rate, and two trainings of 20 epochs instead of 5.
VARIANTS |= {
    f"{name}_6_at_{times}_times": partial(recipe.train, rate=times * RATES["relu_6"], **HOW[f"{name}_6"])
    for name in ("relu", "leaky_relu")
    for times in (4, 16)
}
VARIANTS |= {
    f"{name}_20_epochs": partial(recipe.train, rate=RATES[name], **HOW[name])
    for name in ("relu_residual", "swiglu_residual")
}
# Variants that train four others to compare them, and variants that time a step of another one.
FOUR_WAYS = {
    f"{name}_four_ways": (f"{name}_residual", *(f"{name}_residual_{way}" for way in OTHER_WAYS))
    for name in ("relu", "swiglu")
}
TIMED = {f"time_of_{name}": f"{name}_6" for name in ("linear", *recipe.ACTIVATIONS)}
APART = (*VARIANTS, *FOUR_WAYS)
VARIANTS |= dict.fromkeys((*FOUR_WAYS, *TIMED))


def hidden_outputs(model):
    """A model with the outputs of all hidden layers, the first one first, and the logits."""
    gated = [layer for layer in model.layers if isinstance(layer, keras.layers.Multiply)]
    layers = gated or [layer for layer in model.layers if isinstance(layer, keras.layers.Activation)]
    return keras.Model(model.inputs, [*(layer.output for layer in layers), model.output])


def gradient_norms(model, images, labels):
    """The norm of the loss's gradient in the output of each hidden layer, with BatchNorm as at inference."""
    probe = hidden_outputs(model)
    with tf.GradientTape() as tape:
        *hidden, logits = probe(images)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    return [float(tf.norm(tf.cast(gradient, tf.float32))) for gradient in tape.gradient(loss, hidden)]


class AtStart(keras.callbacks.Callback):
    """Keeps the norms of the gradients before the first step."""

    def __init__(self, run, data):
        super().__init__()
        self.run, self.images, self.labels = run, data.train.images[:PROBE_IMAGES], data.train.labels[:PROBE_IMAGES]

    def on_train_begin(self, logs=None):
        self.run.keep("gradient_norms", gradient_norms(self.model, self.images, self.labels))


def passed(norms):
    """The logarithm of the share of its gradient that a layer passes back, the mean over all. Bounds keep it finite."""
    first, last = (math.log(max(1e30 if norms[i] is None else norms[i], 1e-30)) for i in (0, -1))
    return (first - last) / (len(norms) - 1)


def dead_share(model, images):
    """The share of channels, over all hidden layers, that are zero at every position of all images."""
    *hidden, _ = hidden_outputs(model).predict(images, batch_size=250, verbose=0)
    dead = np.concatenate([(outputs == 0).all(axis=(0, 1, 2)) for outputs in hidden])
    return float(dead.mean())


def build_step(variant, batch_size, shape, classes):
    """A call that trains on one batch of noise."""
    model = recipe.build_model(shape, classes, **NETWORKS[variant])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    draws = np.random.default_rng(0)
    images = tf.constant(draws.integers(0, 256, (batch_size, *shape), dtype=np.uint8))
    return partial(model.train_on_batch, images, tf.constant(draws.integers(0, classes, batch_size), tf.int32))


def trained(variant, config, run, data):
    """A model of a variant, trained."""
    given = {"epochs": EXPERIMENT.config_of(variant, config).epochs}
    given |= {"rate": config.rate} if config.rate is not None else {}
    keras.utils.set_random_seed(run.seed)
    return VARIANTS[variant](
        batches.training(data.train, config.batch_size, seed=run.seed),
        batches.evaluation(data.validation),
        len(data.classes),
        callbacks=[AtStart(run, data), *run.callbacks(data)],
        **given,
    )


def scored(variant, config, run, data):
    """The metrics of a variant that is trained."""
    if variant in FOUR_WAYS:
        models = [trained(way, config, run, data) for way in FOUR_WAYS[variant]]  # Test images are only read then.
        accuracies = [run.scores(model, data)["test_accuracy"] for model in models]
        run.correct = None  # It would be of the last one.
        return {"spread": float(np.ptp(accuracies)), "test_accuracy": float(np.mean(accuracies))}
    model = trained(variant, config, run, data)
    found = run.scores(model, data)
    found["log_passed"] = passed(run.curves["gradient_norms"])
    if variant.startswith(("relu", "leaky_relu")) and "residual" not in variant:
        found["dead"] = dead_share(model, data.train.images[:LOOKED_AT])
    return found


def compare(config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    """One run that trains, or all that time a step."""
    data = sources.load(next(iter(runs.values())).data)
    if not set(runs) <= set(TIMED):
        return {variant: scored(variant, config, run, data) for variant, run in runs.items()}
    size = config.batch_size, data.shape, len(data.classes)
    steps = {variant: build_step(TIMED[variant], *size) for variant in runs}
    blocks = next(iter(runs.values())).interleaved(steps, block=config.steps)
    seconds = {variant: blocks.step_seconds(variant) for variant in runs}
    return {name: {"step_ms": 1000 * value, "log_time": math.log(value)} for name, value in seconds.items()}


def steepest_sigmoid():
    """The largest slope of the sigmoid, between -8 and 8."""
    at = tf.linspace(-8.0, 8.0, 1001)
    with tf.GradientTape() as tape:
        tape.watch(at)
        answers = keras.activations.sigmoid(at)
    return float(tf.reduce_max(tape.gradient(answers, at)))


def beats(number, text, source, variant, than, metric="test_accuracy", **how):
    return Claim(number, text, source, metric, higher=variant, than=than, **how)


def no_slower(number, text, source, variant, than):
    return Claim(number, text, source, "log_time", equal=(variant, than), side="above")


NAMES = {"gelu": "GELU", "mish": "Mish", "swiglu": "SwiGLU"}
CLAIMS = [
    Claim(
        "O16a",
        "The sigmoid's slope is a quarter at most",
        source="DL, R3",
        asserted=lambda: abs(steepest_sigmoid() - 0.25) < 1e-4,
    ),
    Claim(
        "O16b",
        "In a stack of 12, a layer of sigmoids passes back at most a quarter of the gradient that one of ReLUs does",
        source="DL, R3",
        metric="log_passed",
        lower="sigmoid_12",
        than="relu_12",
        at_least=math.log(4),
    ),
    Claim(
        "O16c",
        "Sigmoid has stopped learning at a depth of 12: it fits its training images worse than at a depth of 2",
        source="DL, R3",
        metric="train_accuracy",
        lower="sigmoid_12",
        than="sigmoid_2",
    ),
    Claim(
        "O17a",
        "Tanh has stopped learning at a depth of 12: it fits its training images worse than at a depth of 2",
        source="R3",
        metric="train_accuracy",
        lower="tanh_12",
        than="tanh_2",
    ),
    *(
        beats(
            f"O17{letter}",
            f"{words} keeps learning at a depth of 12, where sigmoid and tanh have stopped",
            "R3",
            f"{name}_12",
            ("sigmoid_12", "tanh_12"),
            "train_accuracy",
        )
        for letter, (name, words) in zip("bcd", NAMES.items(), strict=True)
    ),
    *(
        beats(f"O17{letter}", f"{words} beats ReLU at a depth of 12", "R3", f"{name}_12", "relu_12")
        for letter, (name, words) in zip("efg", NAMES.items(), strict=True)
    ),
    beats("O17h", "ReLU beats sigmoid and tanh at a depth of 12", "R3", "relu_12", ("sigmoid_12", "tanh_12")),
    *(
        beats(
            f"O17{letter}",
            f"{words} beats ReLU in a residual network with BatchNorm",
            "ours",
            f"{name}_residual",
            "relu_residual",
            **strong,
        )
        for letter, name, words, strong in (
            ("i", "gelu", "GELU", {}),
            ("j", "silu", "SiLU", {"strong": "B15"}),
            ("k", "mish", "Mish", {}),
        )
    ),
    beats("O18a", "SwiGLU beats ReLU at equal parameters, in a plain stack of 6", "R3", "swiglu_6", "relu_6"),
    beats(
        "O18b",
        "SwiGLU beats ReLU at equal parameters, in a residual network with BatchNorm",
        "R3, Shazeer 2020",
        "swiglu_residual",
        "relu_residual",
    ),
    beats(
        "O18c",
        "SwiGLU beats ReLU at equal parameters, in a residual network after four times as many epochs",
        "R3, Shazeer 2020",
        "swiglu_residual_20_epochs",
        "relu_residual_20_epochs",
    ),
    beats(
        "O18d",
        "SwiGLU beats ReLU with twice the parameters, in a plain stack of 6",
        "ours",
        "swiglu_6_wide",
        "relu_6",
    ),
    no_slower("O19a", "ReLU is nearly free in time a step", "DL", "time_of_relu", "time_of_linear"),
    *(
        no_slower(
            f"O19{letter}", f"{words} takes no more time a step than ReLU", "R3", f"time_of_{name}", "time_of_relu"
        )
        for letter, (name, words) in zip("bcd", NAMES.items(), strict=True)
    ),
    Claim(
        "O26",
        "With SwiGLU the choice of optimizer and schedule matters less than with ReLU: the best and the worst of four "
        "end closer together",
        source="R3",
        metric="spread",
        lower="swiglu_four_ways",
        than="relu_four_ways",
    ),
    beats(
        "D1a",
        "A learning rate that is 16 times too high leaves more ReLU units dead",
        "R3",
        "relu_6_at_16_times",
        "relu_6",
        "dead",
    ),
    Claim(
        "D1b",
        "At a depth of 12, fewer ReLU units are dead with He's initializer than with Glorot's",
        source="ours",
        metric="dead",
        lower="relu_12",
        than="relu_12_glorot",
    ),
    beats(
        "D1c",
        "At a learning rate that is 16 times too high, Leaky ReLU beats ReLU",
        "ours",
        "leaky_relu_6_at_16_times",
        "relu_6_at_16_times",
    ),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    compare=compare,
    apart=APART,
    # Without a rate each variant has its own. All steps of a block but the first ten are timed.
    flags={"epochs": 5, "batch_size": 64, "rate": None, "steps": 110},
    own_flags={name: {"epochs": 20} for name in VARIANTS if name.endswith("20_epochs")},
    smoke={"epochs": 3, "batch_size": 32, "steps": 11},
    least={"steps": 11},
    tuning=Tuning(
        "rate",
        {
            name: half_decades(0.01, 1.0) if how.get("momentum") else half_decades(3e-4, 3e-2)
            for name, how in HOW.items()
        },
        Objective("validation_accuracy"),
    ),
    fails=("sigmoid_6", "sigmoid_12", "swiglu_6", "swiglu_6_wide", "swiglu_12"),
    units={
        "gradient_norms": Unit("gradient norm at initialization"),
        "log_passed": Unit("gradient that a layer passes back (log e)", name="e-folds"),
        "dead": Unit("dead units", 100, "points", 1),
        "spread": Unit("best minus worst of four ways to train", 100, "points"),
        "step_ms": Unit("a step by train_on_batch", 1, "ms", 2, timed=True),
        "log_time": Unit("time of a step (log e)", name="e-folds", digits=3, timed=True),
    },
    left_out=[name for name in VARIANTS if not name.endswith(("_12", "_residual")) or name.startswith("leaky")],
    panels=(
        Bars("test_accuracy", tuple(f"{name}_12" for name in recipe.ACTIVATIONS), title="12 plain layers"),
        Bars("test_accuracy", tuple(f"{name}_residual" for name in recipe.ACTIVATIONS), title="6 residual blocks"),
        Lines(
            "gradient_norms",
            x_label="hidden layer, counted from the input",
            variants=tuple(f"{name}_12" for name in ("sigmoid", "tanh", "relu", "gelu", "mish", "swiglu")),
            log="y",
        ),
    ),
)
