"""Does 16-bit arithmetic train faster here, in less memory and as well?

Under a mixed policy layers compute in 16 bits and keep their weights in 32. `float16` has eleven
bits of precision and a short range: gradients below 3e-8 become 0, so the loss is multiplied before
the tape and gradients are divided after it (`compile` sees to that; a loop calls `scale_loss`).
`bfloat16` has float32's range and eight bits of precision, two or three digits, and needs no scaling.

Whether it is faster is up to the machine: GPUs with tensor cores multiply either kind several times
as fast as float32, processors with AVX512-BF16 or AMX-BF16 multiply bfloat16 alone faster. Others
convert each number back and forth, and are many times slower. `fastest_policy` tries and chooses.
Here one switches the policy and nothing else: all policies have the rate that was tuned for float32.

Use it when    `fastest_policy` says so, or activations do not fit into memory.
It hurts when  the processor has no such instructions; where sums are long or differences small
               (softmax, losses, statistics): keep those in float32, as the last layer is here.
Sources        Micikevicius et al. 2018, arXiv:1710.03740; Kalamkar et al. 2019, arXiv:1905.12322
"""

import functools
import time
import types
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers, losses, optimizers

from pipelines import batches, sources
from recipes.harness import (
    Bars,
    Claim,
    Lines,
    Objective,
    Recipe,
    Run,
    Tuning,
    Unit,
    grid,
    half_decades,
    interleaved,
    main,
    memory_of,
)


@dataclass(frozen=True)
class Config:
    epochs: int = 3
    batch_size: int = 64
    rate: float | None = None  # None: that of RATES.
    rounds: int = 3  # Of timed blocks; with 0 neither time nor memory is measured.
    steps: int = 30  # Of a block; its first ten are not counted.
    memory_batch: int = 1024  # Large enough that activations are most of what a step takes.


POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
VARIANTS = {
    **grid(policy=POLICIES, how={"": "fit"}, filters={"small": 16, "large": 32}),
    **grid(policy=POLICIES, how={"loop": "loop"}, filters={"small": 16}),
}
# That won on validation: `python -m recipes.mixed_precision --tune` finds them again.
RATES = {"float32_small": 0.05, "float32_large": 0.05}


def build_model(variant: str, data, rate=0.01) -> keras.Model:
    """Map images uint8 (batch, *data.shape) to logits float32 (batch, len(data.classes))."""
    chosen = VARIANTS[variant]
    keras.config.set_dtype_policy(chosen.policy)  # All layers made from here on have it.
    images = keras.Input(data.shape, dtype="uint8")
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0 to 255 becomes -2 to 2.
    for filters in (chosen.filters, 2 * chosen.filters):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    # Logits in float32: a softmax of 16-bit ones loses what its sum is made of.
    logits = layers.Dense(len(data.classes), dtype="float32")(layers.Flatten()(x))
    model = keras.Model(images, logits)  # Its policy tells `compile` whether to scale the loss.
    keras.config.set_dtype_policy("float32")
    model.compile(
        optimizer=optimizers.SGD(rate, momentum=0.9),
        loss=losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def loop_step(model: keras.Model):
    """A compiled step of one's own, for images and labels; it updates the model's metrics, too."""

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = model.compute_loss(x=images, y=labels, y_pred=logits)
            scaled = model.optimizer.scale_loss(loss)  # As it is, but for float16.
        gradients = tape.gradient(scaled, [weight.value for weight in model.trainable_variables])
        model.optimizer.apply(gradients, model.trainable_variables)  # Divides by the same number.
        model.metrics[0].update_state(loss)  # The first one is the mean loss.
        model.compute_metrics(images, labels, logits)

    return step


def fastest_policy(build, images, labels, seconds: float = 1.0) -> str:
    """The policy whose model trains fastest on a batch; `build(policy)` makes a compiled model.

    It takes the seconds and what tracing takes. They try in turn, so that what slows the machine
    for a moment slows all.
    """
    models = {policy: build(policy) for policy in POLICIES.values()}
    for model in models.values():
        model.train_on_batch(images, labels)  # Traces the step.
    spent = dict.fromkeys(models, 0.0)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for policy, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(images, labels)
            spent[policy] += time.perf_counter() - start
    return min(spent, key=spent.__getitem__)


def train(variant: str, config: Config, run: Run, data: sources.Data) -> dict[str, float]:
    keras.utils.set_random_seed(run.seed)  # All variants of a size begin alike.
    feed = batches.training(data.train, config.batch_size, seed=run.seed)
    steps = config.epochs * len(feed)
    tuned = RATES["float32_large" if variant.endswith("large") else "float32_small"]
    rate = tuned if config.rate is None else config.rate
    model = build_model(variant, data, optimizers.schedules.CosineDecay(rate, steps))
    validation = batches.evaluation(data.validation)
    if VARIANTS[variant].how == "fit":
        model.fit(
            feed,
            epochs=config.epochs,
            validation_data=validation,
            callbacks=run.callbacks(data),
            shuffle=False,  # The feed shuffles, anew each epoch; without this, Keras warns.
            verbose=0,
        )
    else:
        step = loop_step(model)
        for _ in run.epochs(model, data, config.epochs):
            model.reset_metrics()
            for images, labels in feed:
                step(images, labels)
            run.epoch(validation, **model.get_metrics_result())
    return run.scores(model, data)


# From here on it is about measuring: what is compared, claimed and shown.


def build_step(variant: str, batch_size: int, shape: list, classes: int, traced=()):
    """A call that trains on one batch of noise, for measuring a step's time and memory.

    Steps on batches of the sizes `traced` are taken before: two different ones, and TensorFlow has
    a step for any size, so that the call's memory has no tracing in it.
    """
    model = build_model(variant, types.SimpleNamespace(shape=tuple(shape), classes=range(classes)))
    draws = np.random.default_rng(0)
    images = tf.constant(draws.integers(0, 256, (batch_size, *shape), dtype=np.uint8))
    labels = tf.constant(draws.integers(0, classes, batch_size), tf.int32)
    step = model.train_on_batch if VARIANTS[variant].how == "fit" else loop_step(model)
    for some in traced:
        step(images[:some], labels[:some])
    return functools.partial(step, images, labels)


def compare(config: Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    seed, request = next((run.seed, run.data) for run in runs.values())
    data = sources.load(request)
    found = {variant: train(variant, config, run, data) for variant, run in runs.items()}
    if not config.rounds:
        return found
    size = list(data.shape), len(data.classes)
    steps = {variant: build_step(variant, config.batch_size, *size) for variant in runs}
    blocks = interleaved(steps, rounds=config.rounds, seed=seed, block=config.steps)
    for variant, scores in found.items():
        scores["step_ms"] = 1000 * blocks.step_seconds(variant)
        scores["log_time"] = float(np.log(scores["step_ms"]))
        if VARIANTS[variant].filters == 32:
            scores["memory"] = memory_of(build_step, variant, config.memory_batch, *size, [2, 3])
            scores["log_memory"] = float(np.log(scores["memory"]))
    return found


SMALL = 1e-8  # A gradient; float16 rounds what is below 3e-8 to 0.
UNDERFLOWS = np.float16(SMALL) == 0 and np.float16(1) + np.float16(1e-4) == 1
SAVED = np.float16(SMALL * 2**15) / np.float32(2**15) > 0 and np.float32(1) + np.float32(1e-4) > 1

CLAIMS = [
    Claim(
        "S1a",
        "Mixed precision trains faster: bfloat16, small model",
        source="TF, DL, HW",
        metric="log_time",
        lower="bfloat16_small",
        than="float32_small",
        by=0.05,
    ),
    Claim(
        "S1b",
        "Mixed precision trains faster: bfloat16, large model",
        source="TF, DL, HW",
        metric="log_time",
        lower="bfloat16_large",
        than="float32_large",
        by=0.05,
    ),
    Claim(
        "S1c",
        "Mixed precision trains faster: bfloat16, small model in a loop of one's own",
        source="TF, DL, HW",
        metric="log_time",
        lower="bfloat16_loop_small",
        than="float32_loop_small",
        by=0.05,
    ),
    Claim(
        "S1d",
        "Mixed precision trains faster: float16, small model",
        source="TF, DL, HW",
        metric="log_time",
        lower="float16_small",
        than="float32_small",
        by=0.05,
    ),
    Claim(
        "S1e",
        "Mixed precision trains faster: float16, large model",
        source="TF, DL, HW",
        metric="log_time",
        lower="float16_large",
        than="float32_large",
        by=0.05,
    ),
    Claim(
        "S1f",
        "Mixed precision loses no accuracy: bfloat16, large model, all settings the same for three epochs",
        source="TF, DL, HW",
        metric="test_accuracy",
        equal=("bfloat16_large", "float32_large"),
        side="below",
        by=0.01,
    ),
    Claim(
        "S1g",
        "Mixed precision loses no accuracy: float16, large model, all settings the same for three epochs",
        source="TF, DL, HW",
        metric="test_accuracy",
        equal=("float16_large", "float32_large"),
        side="below",
        by=0.01,
    ),
    Claim(
        "S2a",
        "It halves the memory of activations and so fits a larger batch: bfloat16, at least a third less",
        source="TF, DL",
        metric="log_memory",
        lower="bfloat16_large",
        than="float32_large",
        by=0.405,
    ),
    Claim(
        "S2b",
        "It halves the memory of activations and so fits a larger batch: float16, at least a third less",
        source="TF, DL",
        metric="log_memory",
        lower="float16_large",
        than="float32_large",
        by=0.405,
    ),
    Claim(
        "S3",
        "In float16 a small update underflows to zero; float32 master weights and loss scaling save it",
        source="DL",
        asserted=bool(UNDERFLOWS and SAVED),
    ),
]

UNITS = {
    "step_ms": Unit("a step of training", 1, "ms", 1),
    "log_time": Unit("time of a step (log e)", name="e-folds", digits=3),
    "memory": Unit("peak memory of a batch of 1,024", 1, "MiB", 0),
    "log_memory": Unit("peak memory (log e)", name="e-folds", digits=3),
}
PANELS = (Bars("step_ms", log="x"), Bars("memory"), Lines("val_accuracy"))

TUNING = Tuning(
    "rate",
    grids=dict.fromkeys(("float32_small", "float32_large"), half_decades(0.005, 0.5)),
    objective=Objective("validation_accuracy"),
    fixed={"rounds": 0},
)

RECIPE = Recipe(
    None,
    VARIANTS,
    CLAIMS,
    Config,
    compare=compare,
    tuning=TUNING,
    smoke={"epochs": 2, "batch_size": 32, "rounds": 0},
    left_out=("float16_large", "float16_loop_small"),  # They take two thirds of the time.
    least={"rounds": 0, "steps": 11, "memory_batch": 4},
    units=UNITS,
    panels=PANELS,
    by_machine=True,
)

if __name__ == "__main__":
    main(RECIPE)
