"""What a step of training holds, counted and measured; activations computed twice; and memory from `fit` to `fit`.

Nothing of it depends on a seed: runs at several seeds are repeats of one measurement.
"""

import functools
import gc
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from lab import Bars, Claim, Experiment, Run, Unit, memory_of, together
from pipelines import sources
from recipes import memory as recipe

MIB = 2**20
# A net of dense layers, most of whose memory is weights, trained with three optimizers.
OPTIMIZERS = ("sgd", "momentum", "adam")
HELD = ("inference", *OPTIMIZERS)
# A net of convolutions, most of whose memory is activations: how many batches share a step, and whether it recomputes.
STEPS: dict[str, dict[str, Any]] = {
    "kept": {},
    "recomputed": {"recompute": True},
    "accumulated": {"accumulate": 4},  # Batches of a quarter of the size.
}
# What is done again and again in one process, or once in each of several.
FITS = ("new_processes", "same_model", "new_models", "new_models_cleared")
LAYERS = 16  # So many that what is needed for one of them at a time hardly counts.
VARIANTS = (*HELD, *STEPS, "largest", "asked_for", *FITS)


def optimizer_called(name):
    return keras.optimizers.SGD(0.01, momentum=0.9) if name == "momentum" else keras.optimizers.get(name)


def build_dense(units, optimizer):
    """Dense layers, compiled."""
    model = keras.Sequential([keras.Input((units,)), *(layers.Dense(units, activation="relu") for _ in range(LAYERS))])
    model.compile(optimizer_called(optimizer), "mse")
    return model


def of_weights(units, variant):
    """A call that makes a model, and trains it on a small batch or predicts one."""

    def use(units):
        some = tf.ones((8, units))
        if variant == "inference":
            build_dense(units, "sgd").predict_on_batch(some)
        else:
            build_dense(units, variant).train_on_batch(some, some)

    use(8)  # Whatever TensorFlow holds after a first time is there already.
    return partial(use, units)


def build_convolutions(shape, *, depth=6, recompute=False, accumulate=None):
    model = recipe.build_model(tuple(shape), 10, depth=depth, recompute=recompute)
    optimizer = keras.optimizers.Adam(0.003, gradient_accumulation_steps=accumulate)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def of_activations(shape, batch_size, settings):
    """A call that trains on one batch."""
    model = build_convolutions(shape, **settings)
    for size in (2, 3):  # After two sizes there is a step for any.
        model.train_on_batch(tf.zeros((size, *shape)), tf.zeros(size, tf.int32))
    return partial(model.train_on_batch, tf.zeros((batch_size, *shape)), tf.zeros(batch_size, tf.int32))


def peaks(kind, fits, depth):
    """The peak of this process's memory after each training, in bytes."""
    images, labels = np.zeros((64, 32, 32, 3), "float32"), np.zeros(64, "int32")
    found, model = [], None
    for _ in range(fits):
        if kind == "new_models_cleared":
            model = None
            keras.backend.clear_session()
            gc.collect()
        if model is None or kind != "same_model":
            model = build_convolutions(images.shape[1:], depth=depth)
        model.fit(images, labels, batch_size=32, verbose=0)
        found.append(recipe.peak_memory())
    return found


def growth(kind, fits, depth):
    """MiB that the peak grows by from training to training of a process: the slope over all but the first two."""
    if kind == "new_processes":
        found = [together(peaks, kind, 1, depth)[0][-1] for _ in range(6)]  # Each takes seconds to start.
    else:
        (found,) = together(peaks, kind, fits, depth)
        found = found[2:]
    later = np.array(found) / MIB
    return float(np.polyfit(np.arange(len(later)), later, 1)[0])


def weights_held(variant, units):
    """Peak memory in sizes of the weights; of a training also without what its optimizer is counted to hold."""
    parts = recipe.counted(build_dense(units, "sgd" if variant == "inference" else variant), 8)
    copies = memory_of(of_weights, units, variant) * MIB / parts["weights"]
    found = {"memory_held": copies, "log_memory_held": math.log(max(copies, 0.01))}
    if variant in OPTIMIZERS:
        found["memory_but_state"] = copies - parts["optimizer"] / parts["weights"]
        found["counted_held"] = sum(parts.values()) / parts["weights"]
    return found


def step_memory(name, shape, batch_size, depth):
    """Of one step: peak memory, and what is counted."""
    settings = {"depth": depth, **STEPS[name]}
    accumulated = settings.get("accumulate") or 1
    measured = memory_of(of_activations, list(shape), batch_size // accumulated, settings)
    parts = recipe.counted(build_convolutions(shape, **settings), batch_size // accumulated)
    counted = (parts["gradients"] + parts["activations"]) / MIB  # Weights and state were held before the step.
    return {"memory": measured, "log_memory": math.log(max(measured, 1.0)), "counted": counted}


def largest(shape, limit, few, depth):
    """The largest batch that fits into `limit` MiB, predicted from two small ones, and what share of it that takes."""
    taken = partial(memory_of, of_activations, list(shape))
    measured = {size: taken(size, {"depth": depth}) for size in (few, 2 * few)}
    predicted = recipe.largest_batch(limit, measured)
    return {"largest": predicted, "log_memory": math.log(taken(predicted, {"depth": depth}))}


def compare(config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    shape = sources.load(first.data).shape
    found: dict[str, dict[str, float]] = {name: {} for name in runs}
    for name in runs:
        if name in HELD:
            found[name] = weights_held(name, config.units)
        elif name in STEPS:
            found[name] = step_memory(name, shape, config.batch, config.depth)
        elif name == "largest":
            found[name] = largest(shape, config.limit, config.few, config.depth)
        elif name == "asked_for":
            found[name] = {"log_memory": math.log(config.limit)}
        elif name in FITS:
            found[name] = {"memory_growth": growth(name, config.fits, config.depth)}
    few = config.few
    steps = {
        name: of_activations(shape, few, {"depth": config.depth, **STEPS[name]})
        for name in ("kept", "recomputed")
        if name in runs
    }
    if steps:  # For information: no claim is about times.
        blocks = first.interleaved(steps, block=config.steps)
        for name in steps:
            found[name]["step_ms"] = 1000 * blocks.step_seconds(name)
    return found


# Checks.


def gradients_of(inside, recompute):
    """The gradient of a model in float64 that has a layer `inside` its block."""
    keras.utils.set_random_seed(1)
    images = keras.Input((8, 8, 4), dtype="float64")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", dtype="float64")(images)
    block = keras.Model(images, layers.Conv2D(4, 3, padding="same", dtype="float64")(inside(x) if inside else x))
    block = recipe.Recomputed(block, dtype="float64") if recompute else block
    model = keras.Sequential([keras.Input((8, 8, 4), dtype="float64"), block, layers.Flatten(dtype="float64")])
    some = tf.constant(np.random.default_rng(0).normal(size=(4, 8, 8, 4)))

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(some, training=True)))
        return tape.gradient(loss, [weight.value for weight in model.trainable_variables])

    return np.concatenate([np.ravel(part) for part in gradient()])


@functools.cache
def convolutions(recompute):
    """How many convolutions the gradient of a block of two runs forward, without those of the gradient itself."""
    images = keras.Input((8, 8, 4))
    hidden = layers.Conv2D(4, 3, padding="same", activation="relu")(images)
    block = keras.Model(images, layers.Conv2D(4, 3, padding="same")(hidden))
    model = keras.Sequential([keras.Input((8, 8, 4)), recipe.Recomputed(block) if recompute else block])

    @tf.function
    def gradient(some):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(some, training=True)))
        return tape.gradient(loss, [weight.value for weight in model.trainable_variables])

    graph = gradient.get_concrete_function(tf.TensorSpec((4, 8, 8, 4))).graph.as_graph_def()
    operations = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return sum(node.op == "Conv2D" for node in operations)


@functools.cache
def shares_memory(move):
    """Whether a tensor that was moved is the same memory under another shape."""
    images = tf.zeros((32, 16, 16, 3))
    before, after = (np.asarray(memoryview(one)) for one in (images, move(images)))
    return bool(np.shares_memory(before, after))


@functools.cache
def recomputed_gradients_are_equal():
    return bool(np.abs(gradients_of(None, False) - gradients_of(None, True)).max() < 1e-12)


@functools.cache
def with_dropout_they_are_not():
    kept = gradients_of(layers.Dropout(0.5, seed=1, dtype="float64"), False)
    recomputed = gradients_of(layers.Dropout(0.5, seed=1, dtype="float64"), True)
    return bool(np.abs(kept - recomputed).max() > 1e-3)


@functools.cache
def averages_move_twice():
    once, twice = (layers.BatchNormalization(momentum=0.9, dtype="float64") for _ in range(2))
    kept, recomputed = gradients_of(once, False), gradients_of(twice, True)
    moved_twice = np.allclose(twice.moving_mean, 1.9 * np.array(once.moving_mean))  # 1 - 0.9², and not 1 - 0.9.
    return bool(moved_twice and np.abs(kept - recomputed).max() < 1e-12)


@functools.cache
def adam_holds_two_values_a_weight():
    held = {name: recipe.counted(build_dense(64, name), 1) for name in ("sgd", "adam")}
    weights = held["adam"]["weights"]
    return 2 * weights <= held["adam"]["optimizer"] - held["sgd"]["optimizer"] <= 2 * weights + 16


@functools.cache
def adam_trains_with_four_times_the_weights():
    parts = recipe.counted(build_dense(64, "adam"), 1)
    return round((parts["weights"] + parts["gradients"] + parts["optimizer"]) / parts["weights"], 2) == 4


def takes(number, text, source, variant, than, metric="log_memory", **how):
    return Claim(number, text, source, metric, higher=variant, than=than, **how)


CLAIMS = [
    Claim(
        "S10a",
        "Adam holds two values for each weight",
        source="DL",
        asserted=adam_holds_two_values_a_weight,
    ),
    Claim(
        "S10b",
        "Beyond plain SGD, momentum and Adam take the memory of their state, as counted",
        source="DL",
        metric="memory_but_state",
        equal=OPTIMIZERS,
    ),
    takes("S11a", "Recomputing activations saves memory", "HW, R3", "kept", "recomputed"),
    Claim(
        "S11b",
        "Recomputing activations runs the block forward a second time",
        said="Gradient checkpointing trades compute for activation memory",
        source="HW, R3",
        asserted=lambda: (convolutions(False), convolutions(True)) == (2, 4),
    ),
    Claim(
        "S11g",
        "The largest batch, predicted from two small ones, takes the memory that was asked for",
        source="ours",
        metric="log_memory",
        equal=("largest", "asked_for"),
    ),
    Claim(
        "S11c",
        "Recomputing activations changes no gradient (in float64)",
        source="HW, R3",
        asserted=recomputed_gradients_are_equal,
    ),
    Claim(
        "S11d",
        "With Dropout inside, recomputing gives other gradients than those of the loss",
        source="ours",
        asserted=with_dropout_they_are_not,
    ),
    Claim(
        "S11e",
        "With BatchNorm inside, recomputing updates its averages twice a step, and gradients stay the same",
        source="ours",
        asserted=averages_move_twice,
    ),
    takes(
        "S11f",
        "Accumulating four batches takes less memory than one batch of that size",
        "HW",
        "kept",
        "accumulated",
        check=True,
    ),
    takes(
        "Q10a",
        "In one process, memory grows from `fit` to `fit` of new models",
        "tensorflow 37505, keras 17458",
        "new_models",
        "new_processes",
        "memory_growth",
    ),
    takes(
        "Q10b",
        "In one process, memory grows from `fit` to `fit` of one model",
        "tensorflow 37505, keras 17458",
        "same_model",
        "new_processes",
        "memory_growth",
    ),
    takes(
        "Q10c",
        "Clearing the session and collecting garbage does not stop the growth",
        "tensorflow 37505, keras 17458",
        "new_models_cleared",
        "new_processes",
        "memory_growth",
        said="Memory grows from `fit` to `fit` in one process, and a new process is the only cure",
    ),
    Claim(
        "D6a",
        "Weights, gradients and Adam's state take four times the weights: 16 GB for a model of 4 GB",
        said="A model that needs 4 GB to run needs 16 to 24 GB to train",
        source="DL",
        asserted=adam_trains_with_four_times_the_weights,
    ),
    takes(
        "D6b",
        "Training with Adam takes four times the memory of predicting, or more, even where activations are small",
        "DL",
        "adam",
        "inference",
        "log_memory_held",
        at_least=math.log(4),
        said="A model that needs 4 GB to run needs 16 to 24 GB to train",
    ),
    Claim(
        "D6c",
        "Training with Adam takes at most six times the memory of predicting, where activations are small",
        said="A model that needs 4 GB to run needs 16 to 24 GB to train",
        source="DL",
        metric="log_memory_held",
        lower="adam",
        than="inference",
        at_least=-math.log(6),
    ),
    Claim(
        "D13a",
        "A batch of 32 × 256 × 256 × 3 in float32 takes 25 MB",
        source="DL",
        asserted=round(32 * 256 * 256 * 3 * np.dtype("float32").itemsize / 1e6) == 25,
    ),
    Claim(
        "D13b",
        "A reshape is free and a transpose is not: the one leaves a tensor where it is in memory, the other copies it",
        said="A reshape is free, a transpose is not",
        source="DL",
        asserted=lambda: (
            shares_memory(lambda images: tf.reshape(images, (32, -1)))
            and not shares_memory(lambda images: tf.transpose(images, (0, 3, 1, 2)))
        ),
    ),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    compare=compare,
    # Units of each dense layer; residual blocks; images in a batch, and in a batch that is timed; MiB that the largest
    # batch may take; trainings in a process; steps of a block, of which all but ten are timed.
    flags={"units": 2048, "depth": 6, "batch": 256, "few": 64, "limit": 1024, "fits": 12, "steps": 110},
    smoke={"units": 128, "depth": 1, "batch": 16, "few": 8, "limit": 64, "fits": 4, "steps": 11},
    least={"batch": 4, "fits": 4, "steps": 11},
    floor="",
    left_out=("momentum", "largest", "asked_for", *FITS),
    units={
        "memory_held": Unit("peak memory, in sizes of the weights", 1, "times", 2, timed=True),
        "log_memory_held": Unit("peak memory (log e)", name="e-folds", digits=3, timed=True),
        "counted_held": Unit("memory as counted, in sizes of the weights", 1, "times", 2),
        "memory_but_state": Unit(
            "peak memory without the optimizer's, in sizes of the weights", 1, "times", 2, timed=True
        ),
        "memory": Unit("peak memory of a step", 1, "MiB", 0, timed=True),
        "log_memory": Unit("peak memory (log e)", name="e-folds", digits=3, timed=True),
        "counted": Unit("memory of a step as counted", 1, "MiB", 0),
        "largest": Unit("largest batch", 1, "images", 0, timed=True),
        "memory_growth": Unit("growth from fit to fit", 1, "MiB", 1, timed=True),
        "step_ms": Unit("time of a step", 1, "ms", 2, timed=True),
    },
    panels=(Bars("memory_held", HELD), Bars("memory", tuple(STEPS)), Bars("memory_growth", FITS)),
)
