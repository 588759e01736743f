"""Activations in plain stacks and residual blocks of three depths, four ways to train SwiGLU, and dead units."""

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
FAR = 1000  # Seeds of a run are so far apart that no other run has them.
# Filters of the others and of SwiGLU, which then has as many parameters and multiplications: 2 × 17² is about 24². A
# residual block has (9 + 1) × 38 weights for each of its channels, and (2 × 9 + 1) × 20 with SwiGLU.
WIDTHS = {"plain": (24, 17), "residual": (38, 20)}


def network(activation, *, depth=6, residual=False, **settings):
    usual, gated = WIDTHS["residual" if residual else "plain"]
    filters = {"filters": gated if activation == "swiglu" else usual}
    return {"activation": activation, "depth": depth, "residual": residual, **filters, **settings}


# SiLU and SwiGLU are in residual networks only, whose LayerNorm they need: see INITIALIZERS, and the claim O18a.
NETWORKS = {
    f"{name}_{depth}": network(name, depth=depth)
    for name in ("sigmoid", "tanh", "relu", "gelu")
    for depth in (2, 6, 12)
}
NETWORKS["mish_12"] = network("mish", depth=12)
NETWORKS["relu_12_glorot"] = network("relu", depth=12, initializer="glorot_uniform")
NETWORKS |= {f"{name}_residual": network(name, residual=True) for name in ("relu", "gelu", "silu", "mish", "swiglu")}
NETWORKS |= {
    f"{name}_residual_{depth}": network(name, residual=True, depth=depth)
    for depth, names in ((2, ("relu", "swiglu")), (12, ("sigmoid", "tanh", "relu", "swiglu")))
    for name in names
}
NETWORKS["swiglu_residual_wide"] = network("swiglu", residual=True, filters=38)
# Momentum 0.8, not 0.99: a few hundred steps are too few to forget the initial statistics.
BATCH_NORM = partial(keras.layers.BatchNormalization, momentum=0.8)
NETWORKS["swiglu_residual_batch"] = network("swiglu", residual=True, norm=BATCH_NORM)
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
    HOW[f"{name}_20_epochs"] = HOW[name]
# A first guess of the learning rate of each, or its peak: none is tuned yet.
RATES = {name: 0.1 if how.get("momentum") else 0.003 for name, how in HOW.items()}
VARIANTS: dict[str, Any] = {name: partial(recipe.train, rate=rate, **HOW[name]) for name, rate in RATES.items()}
# ReLU and Leaky ReLU at 4 and 16 times ReLU's best rate.
TOO_HIGH = {
    f"{name}_6_at_{times}_times": partial(
        recipe.train, rate=times * RATES["relu_6"], build_model=partial(recipe.build_model, **network(name))
    )
    for name in ("relu", "leaky_relu")
    for times in (4, 16)
}
VARIANTS |= TOO_HIGH
# Variants that train four others to compare them, and variants that time a step. Those have residual blocks too, of a
# width that is a multiple of 8: odd ones cost more than their share. (9 + 1) × 152 is (2 × 9 + 1) × 80.
FOUR_WAYS = {
    f"{name}_four_ways": (f"{name}_residual", *(f"{name}_residual_{way}" for way in OTHER_WAYS))
    for name in ("relu", "swiglu")
}
TIMED = {
    f"time_of_{name}": network(name, residual=True, filters=80 if name == "swiglu" else 152)
    for name in ("linear", "relu", "gelu", "mish", "swiglu")
}
APART = (*VARIANTS, *FOUR_WAYS, "nothing")
VARIANTS |= dict.fromkeys((*FOUR_WAYS, "nothing", *TIMED))
PLAIN_12 = tuple(f"{name}_12" for name in ("sigmoid", "tanh", "relu", "gelu", "mish"))
RESIDUAL = tuple(f"{name}_residual" for name in ("relu", "gelu", "silu", "mish", "swiglu"))


def hidden_outputs(model):
    """A model with the outputs of all hidden layers, the first one first, and the logits."""
    gated = [layer for layer in model.layers if isinstance(layer, keras.layers.Multiply)]
    layers = gated or [layer for layer in model.layers if isinstance(layer, keras.layers.Activation)]
    return keras.Model(model.input, [*(layer.output for layer in layers), model.output])


def gradient_norms(model, images, labels):
    """The norm of the loss's gradient in the output of each hidden layer."""
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
    """The logarithm of the share of its gradient that a layer passes back, the mean over all layers."""
    first, last = (math.log(max(norms[i], 1e-30)) for i in (0, -1))  # The bound keeps it finite.
    return (first - last) / (len(norms) - 1)


def dead_share(model, split):
    """The share of channels, over all hidden layers, that are zero at every position of all images of a split."""
    probe, living = hidden_outputs(model), []
    for images in split.chunks(250):
        *hidden, _ = probe(images)
        living.append(np.concatenate([(np.asarray(outputs) != 0).any(axis=(0, 1, 2)) for outputs in hidden]))
    return 1 - float(np.any(living, axis=0).mean())


def overflows():
    """Whether twelve plain layers with SwiGLU overflow float32 before they are trained."""
    grays = np.broadcast_to(np.linspace(0, 255, 8, dtype="float32")[:, None, None, None], (8, 32, 32, 3))
    model = recipe.build_model(grays.shape[1:], 10, **network("swiglu", depth=12))
    return not np.isfinite(np.asarray(model(grays))).all()


def build_step(settings, batch_size, shape, classes):
    """A call that trains a network on one batch of noise."""
    model = recipe.build_model(shape, classes, **settings)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    draws = np.random.default_rng(0)
    images = tf.constant(draws.integers(0, 256, (batch_size, *shape), dtype=np.uint8))
    return partial(model.train_on_batch, images, tf.constant(draws.integers(0, classes, batch_size), tf.int32))


def trained(variant, config, data, seed, callbacks):
    """A model of a variant, trained."""
    given = {"epochs": EXPERIMENT.config_of(variant, config).epochs}
    given |= {"rate": config.rate} if config.rate is not None else {}
    keras.utils.set_random_seed(seed)
    return VARIANTS[variant](
        batches.training(data.train, config.batch_size, seed=seed),
        batches.evaluation(data.validation),
        len(data.classes),
        callbacks=callbacks,
        **given,
    )


def spread(ways, config, run, data):
    """Test accuracy of the best of several ways less that of the worst, each the mean of some trainings.

    Every model is scored by itself: one that diverged leaves the others as they are.
    """
    seeds = [run.seed + FAR * number for number in range(config.trainings)]
    models = [
        [trained(way, config, data, seed, run.callbacks(data, f"{way}_{seed}")) for seed in seeds] for way in ways
    ]
    test_set = batches.evaluation(run.open_test_set(data))
    accuracies = [
        [model.evaluate(test_set, verbose=0, return_dict=True)["accuracy"] for model in of_a_way] for of_a_way in models
    ]
    return float(np.ptp(np.mean(accuracies, axis=1)))


def scored(variant, config, run, data):
    """The metrics of a variant that trains, or of "nothing", a reference that passes gradients on unchanged."""
    if variant == "nothing":
        return {"log_passed": 0.0}
    if variant in FOUR_WAYS:
        return {"spread": spread(FOUR_WAYS[variant], config, run, data)}
    plain = "residual" not in variant  # The hidden layers of residual networks do not pass a gradient to one another.
    at_start = [AtStart(run, data)] if plain else []
    model = trained(variant, config, data, run.seed, [*at_start, *run.callbacks(data)])
    found = run.scores(model, data)
    if plain and None not in run.curves["gradient_norms"]:
        found["log_passed"] = passed(run.curves["gradient_norms"])
    if plain and variant.startswith("relu") and not run.diverged:
        found["dead"] = dead_share(model, data.train)
    return found


def times(config, runs, data):
    """The time of a step of each variant, the median of a block, in turn."""
    size = config.batch_size, data.shape, len(data.classes)
    blocks = next(iter(runs.values())).interleaved(
        {variant: build_step(TIMED[variant], *size) for variant in runs}, block=config.steps
    )
    seconds = {variant: blocks.step_seconds(variant) for variant in runs}
    return {name: {"step_ms": 1000 * value, "log_time": math.log(value)} for name, value in seconds.items()}


def compare(config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    """One run that trains, or all that time a step."""
    data = sources.load(next(iter(runs.values())).data)
    timed = {variant: run for variant, run in runs.items() if variant in TIMED}
    found = {variant: scored(variant, config, run, data) for variant, run in runs.items() if variant not in timed}
    return found | (times(config, timed, data) if timed else {})


def steepest_sigmoid():
    """The largest slope of the sigmoid, between -8 and 8."""
    at = tf.linspace(-8.0, 8.0, 1001)
    with tf.GradientTape() as tape:
        tape.watch(at)
        answers = keras.activations.sigmoid(at)
    return float(tf.reduce_max(tape.gradient(answers, at)))


VANISH = "In a deep stack the sigmoid's gradients vanish: each layer passes at most a quarter"
FLOW = "GELU, Mish and SwiGLU keep gradients flowing at a depth where sigmoid and tanh have stopped learning; ReLU "
FLOW += "lies between"


def beats(number, text, source, variant, than, metric="test_accuracy", **how):
    return Claim(number, text, source, metric, higher=variant, than=than, **how)


def no_slower(number, text, source, variant, than):
    return Claim(number, text, source, "log_time", equal=(variant, than), side="above")


def stopped(number, words, name, source):
    """The claim that an activation fits its training images at least 20 points worse in 12 layers than in 2."""
    text = f"{words} has stopped learning at a depth of 12: it fits its training images at least 20 points worse than "
    text += "at a depth of 2"
    deep, shallow = f"{name}_12", f"{name}_2"
    return Claim(number, text, source, "train_accuracy", lower=deep, than=shallow, at_least=0.2, said=FLOW)


CLAIMS = [
    Claim(
        "O16a",
        "The sigmoid's slope is a quarter at most",
        source="DL, R3",
        asserted=lambda: abs(steepest_sigmoid() - 0.25) < 1e-4,
    ),
    Claim(
        "O16b",
        "In a stack of 12, a layer of sigmoids passes back at most a quarter of its gradient, on average",
        source="ours, on DL and R3",
        metric="log_passed",
        lower="sigmoid_12",
        than="nothing",
        at_least=math.log(4),
        said=VANISH,
    ),
    stopped("O16c", "Sigmoid", "sigmoid", "R3"),
    stopped("O17a", "Tanh", "tanh", "R3"),
    beats(
        "O17b",
        "At a depth of 12, GELU and Mish fit their training images better than sigmoid and tanh",
        "R3",
        ("gelu_12", "mish_12"),
        ("sigmoid_12", "tanh_12"),
        "train_accuracy",
        said=FLOW,
    ),
    beats(
        "O17c",
        "In 12 residual blocks with LayerNorm, SwiGLU fits its training images better than sigmoid and tanh",
        "R3",
        "swiglu_residual_12",
        ("sigmoid_residual_12", "tanh_residual_12"),
        "train_accuracy",
        said=FLOW,
    ),
    beats("O17d", "At a depth of 12, GELU and Mish beat ReLU", "R3", ("gelu_12", "mish_12"), "relu_12", said=FLOW),
    beats(
        "O17e",
        "In 12 residual blocks with LayerNorm, SwiGLU beats ReLU",
        "R3",
        "swiglu_residual_12",
        "relu_residual_12",
        said=FLOW,
    ),
    beats(
        "O17f",
        "At a depth of 12, ReLU beats sigmoid and tanh",
        "R3",
        "relu_12",
        ("sigmoid_12", "tanh_12"),
        said=FLOW,
    ),
    beats(
        "O17g",
        "In 6 residual blocks with LayerNorm, GELU and Mish beat ReLU",
        "ours",
        ("gelu_residual", "mish_residual"),
        "relu_residual",
    ),
    beats(
        "O17h",
        "In 6 residual blocks with LayerNorm, SiLU beats ReLU",
        "ours",
        "silu_residual",
        "relu_residual",
        strong="B15",
    ),
    Claim(
        "O18a",
        "In 12 layers without normalization SwiGLU overflows float32 before the first step",
        source="ours",
        asserted=overflows,
    ),
    beats(
        "O18b",
        "SwiGLU beats ReLU at equal parameters and multiplications, in 6 residual blocks with LayerNorm",
        "R3, Shazeer 2020",
        "swiglu_residual",
        "relu_residual",
    ),
    beats(
        "O18c",
        "SwiGLU beats ReLU at equal parameters and multiplications, in 6 residual blocks after four times the epochs",
        "R3, Shazeer 2020",
        "swiglu_residual_20_epochs",
        "relu_residual_20_epochs",
    ),
    beats(
        "O18d",
        "SwiGLU beats ReLU at equal width, which is twice the parameters, in 6 residual blocks with LayerNorm",
        "ours",
        "swiglu_residual_wide",
        "relu_residual",
    ),
    beats(
        "O18e",
        "In 6 residual blocks SwiGLU needs LayerNorm: with BatchNorm it ends lower",
        "ours",
        "swiglu_residual",
        "swiglu_residual_batch",
    ),
    no_slower("O19a", "ReLU is nearly free in time a step", "DL", "time_of_relu", "time_of_linear"),
    *(
        no_slower(
            f"O19{letter}", f"{words} takes no more time a step than ReLU", "R3", f"time_of_{name}", "time_of_relu"
        )
        for letter, name, words in (("b", "gelu", "GELU"), ("c", "mish", "Mish"), ("d", "swiglu", "SwiGLU"))
    ),
    Claim(
        "O26",
        "With SwiGLU the choice of optimizer and schedule matters less than with ReLU: the best and the worst of four "
        "ways, each the mean of two trainings, end closer together",
        source="R3",
        metric="spread",
        lower="swiglu_four_ways",
        than="relu_four_ways",
    ),
    beats(
        "D1a",
        "A learning rate that is 4 or 16 times too high leaves more ReLU units dead: no training image activates them",
        "R3",
        ("relu_6_at_4_times", "relu_6_at_16_times"),
        "relu_6",
        "dead",
        said="ReLU units die (never active on the training images)",
    ),
    Claim(
        "D1b",
        "At a depth of 12, fewer ReLU units are dead with He's initializer than with Glorot's",
        source="ours",
        metric="dead",
        lower="relu_12",
        than="relu_12_glorot",
    ),
    *(
        beats(
            f"D1{letter}",
            f"At a learning rate that is {times} times too high, Leaky ReLU beats ReLU",
            "ours",
            f"leaky_relu_6_at_{times}_times",
            f"relu_6_at_{times}_times",
        )
        for letter, times in (("c", 4), ("d", 16))
    ),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    compare=compare,
    apart=APART,
    # Without a rate each variant has its own. All steps of a block but the first ten are timed. Each of four ways to
    # train has so many `trainings`.
    flags={"epochs": 5, "batch_size": 64, "rate": None, "steps": 110, "trainings": 2},
    own_flags={name: {"epochs": 20} for name in VARIANTS if name.endswith("20_epochs")},
    smoke={"epochs": 3, "batch_size": 32, "steps": 11, "trainings": 1},
    least={"steps": 11, "trainings": 1},
    tuning=Tuning(
        "rate",
        {
            name: half_decades(0.01, 1.0) if how.get("momentum") else half_decades(3e-4, 3e-2)
            for name, how in HOW.items()
        },
        Objective("validation_accuracy"),
    ),
    fails=("sigmoid_6", "sigmoid_12", "swiglu_residual_batch", "relu_6_at_16_times", "leaky_relu_6_at_16_times"),
    units={
        "gradient_norms": Unit("gradient norm at initialization"),
        "log_passed": Unit("gradient that a layer passes back (log e)", name="e-folds"),
        "dead": Unit("units that no training image activates", 100, "points", 1),
        "spread": Unit("best minus worst of four ways to train", 100, "points"),
        "step_ms": Unit("a step by train_on_batch", 1, "ms", 2, timed=True),
        "log_time": Unit("time of a step (log e)", name="e-folds", digits=3, timed=True),
    },
    left_out=[name for name in VARIANTS if name not in (*PLAIN_12, *RESIDUAL)],
    panels=(
        Bars(
            "train_accuracy",
            tuple(name for name in NETWORKS if "residual" not in name and "glorot" not in name),
            title="2, 6 and 12 plain layers",
        ),
        Bars("test_accuracy", tuple(name for name in NETWORKS if "residual" in name), title="residual blocks"),
        Lines("gradient_norms", x_label="hidden layer, counted from the input", variants=PLAIN_12, log="y"),
    ),
)
