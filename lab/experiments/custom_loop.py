"""Seven ways to run the same training: their time, their memory, and whether they end in the same weights."""

import functools
import math
import types
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from lab import Bars, Claim, Experiment, Lines, Run, Unit, memory_of
from pipelines import batches, sources
from recipes import custom_loop as recipe

VARIANTS = (*recipe.BY_FIT, "eager", "by_hand", "compiled", "accumulated")


def weights_after(variant: str, config: recipe.Config, floatx: str, seed: int, data: sources.Data):
    """All weights, one after another, (parameters,), after `same_steps` from the same start."""
    keras.config.set_floatx(floatx)  # Of losses and metrics; the policy is the layers'.
    keras.config.set_dtype_policy(floatx)
    keras.utils.set_random_seed(seed)
    model = recipe.build_model(variant, data)
    feed = batches.training(data.train, config.batch_size, seed=seed)
    recipe.build_epoch(variant, model, config.parts)(feed.take(config.same_steps))
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    return np.concatenate([weight.numpy().ravel() for weight in model.trainable_variables])


def five_steps(variant: str, batch_size: int, parts: int, shape: list, classes: int):
    """A call that takes five steps, for measuring their memory."""
    model = recipe.build_model(variant, types.SimpleNamespace(shape=tuple(shape), classes=range(classes)))
    batch = tf.zeros((batch_size, *shape), tf.uint8), tf.zeros(batch_size, tf.int32)
    feed = tf.data.Dataset.from_tensors(batch).repeat(5)
    return functools.partial(recipe.build_epoch(variant, model, parts), feed)


def compare(config: recipe.Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    data = sources.load(next(iter(runs.values())).data)  # The same for all runs, as their seed is.
    found, epochs = {}, {}
    for variant, run in runs.items():
        found[variant] = recipe.train(variant, config, run, data)
        one_epoch = recipe.build_epoch(variant, recipe.build_model(variant, data), config.parts)
        feed = batches.training(data.train, config.batch_size, seed=run.seed)
        epochs[variant] = functools.partial(one_epoch, feed)
    for one_epoch in epochs.values():
        one_epoch()  # Traces.
    # A "step" of the timing is an epoch, since what begins one belongs to its price: the second counts.
    blocks = run.interleaved(epochs, rounds=config.rounds, block=2, left_out=1)
    by_fit = {name: weights_after("fit", config, name, run.seed, data) for name in recipe.FLOATS}
    for variant, scores in found.items():
        scores["step_ms"] = 1000 * blocks.step_seconds(variant) / len(feed)
        scores["log_time"] = float(np.log(scores["step_ms"]))
        for name in recipe.FLOATS:
            apart = weights_after(variant, config, name, run.seed, data) - by_fit[name]
            scores[f"apart_{name}"] = float(np.linalg.norm(apart) / np.linalg.norm(by_fit[name]))
        if variant in ("fit", "accumulated"):
            size = config.memory_batch, config.parts, list(data.shape), len(data.classes)
            scores["memory"] = memory_of(five_steps, variant, *size)
            scores["log_memory"] = float(np.log(scores["memory"]))
    return found


CLAIMS = [
    Claim(
        "B10",
        "A hand-written GradientTape step gives the same weights as `fit`, to rounding (50 steps in float64)",
        source="DL",
        metric="apart_float64",
        equal=("fit", "train_step", "eager", "by_hand", "compiled"),
        exact=True,
    ),
    Claim(
        "B13a",
        "`fit` is a black box that costs no speed against a hand-written loop",
        source="DL",
        metric="log_time",
        equal=("fit", "by_hand"),
        side="above",
    ),
    Claim(
        "B13b",
        "`fit` of 16 steps at a time costs no speed against a loop that is compiled whole",
        source="DL",
        metric="log_time",
        equal=("fit_16", "compiled"),
        side="above",
    ),
    Claim(
        "B13c",
        "A GradientTape step without tf.function takes at least half as long again",
        source="TF",
        metric="log_time",
        higher="eager",
        than="by_hand",
        at_least=math.log(1.5),
    ),
    Claim(
        "O15a",
        "k accumulated batches of n train the same model as one batch of k·n (without BatchNorm, 50 steps in float64)",
        source="HW",
        metric="apart_float64",
        equal=("fit", "accumulated"),
        exact=True,
    ),
    Claim(
        "O15b",
        "k accumulated batches of n take less memory than one batch of k·n",
        source="HW",
        metric="log_memory",
        lower="accumulated",
        than="fit",
    ),
]

UNITS = {
    "apart_float32": Unit("distance from the weights of fit, float32", 1e6, "millionths of their norm"),
    "apart_float64": Unit("distance from the weights of fit, float64", 1e6, "millionths of their norm", 6),
    "step_ms": Unit("a step of training", 1, "ms", 1, timed=True),
    "log_time": Unit("time of a step (log e)", name="e-folds", digits=3, timed=True),
    "memory": Unit("peak memory of a batch of 512", 1, "MiB", 0, timed=True),
    "log_memory": Unit("peak memory (log e)", name="e-folds", digits=3, timed=True),
}
PANELS = (Bars("step_ms"), Bars("memory"), Lines("val_accuracy"))

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    compare=compare,
    space={"batch_size": (16, 32, 64, 128)},
    smoke={"epochs": 2, "batch_size": 32, "same_steps": 2, "memory_batch": 64, "rounds": 1},
    left_out=("accumulated",),
    least={"memory_batch": 4, "same_steps": 1, "parts": 1, "rounds": 1},
    units=UNITS,
    panels=PANELS,
    numbers={
        "Uncompiled, 4.3 times": "log_time: eager / by_hand",
        "took 35.0 ms": "step_ms: eager",
        "instead of 8.2. Under": "step_ms: by_hand",
        "(8.2, 7.8": "step_ms: fit",
        ", 7.8 and": "step_ms: train_step",
        "and 8.2 ms)": "step_ms: by_hand",
        "6.3 under": "step_ms: fit_16",
        "6.5 with": "step_ms: compiled",
        "took 0.37 times": "log_memory: accumulated / fit",
        "59 MiB instead": "memory: accumulated",
        "instead of 159": "memory: fit",
        "512 images": "",
        "small (64)": "",
        "which took 1.07 times": "log_time: fit / by_hand",
        "`fit` took 1.07 times": "log_time: fit / by_hand",
        "said 1.01": "log_time: fit / by_hand, seeds 101 to 110",
        "another 1.09": "log_time: fit / by_hand, seeds 111 to 140",
        "16 steps a call": "",
    },
    first_seed=101,
)
