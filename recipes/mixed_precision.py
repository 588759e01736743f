"""Does 16-bit arithmetic train faster here, in less memory and as well?

Under a mixed policy layers compute in 16 bits and keep their weights in 32. `float16` has eleven
bits of precision and a short range: gradients below 3e-8 become 0, so the loss is multiplied
before its gradients are taken, and they are divided after it (`compile` sees to that; a loop calls
`scale_loss`). The factor adapts itself: where gradients overflow, a step is left out and it is
halved. `bfloat16` has float32's range and eight bits of precision, and needs no factor.

Whether it is faster is up to the machine: tensor cores of GPUs multiply float16, and from NVIDIA's
Ampere on bfloat16, several times as fast as float32 (which convolutions there shorten, too, to
TF32); processors with AVX512-BF16 or AMX-BF16 multiply bfloat16 faster, those with AVX512-FP16
float16. Others convert each number back and forth. `fastest_policy` tries and chooses.

Answer         With AVX512-BF16, bfloat16 took 0.70 times as long as float32 in the larger convnet
               and half the memory, and cost no accuracy. float16: 5.2 times as long.
In practice    On a processor with AVX512-BF16 switch bfloat16 on: a step took 0.70 times as long in
               the larger convnet and 0.81 times in the small one (0.78 in a loop of one's own),
               0.50 times the memory for a batch of a thousand (231 MiB instead of 463), and nothing
               of the accuracy (57.8 and 57.9 %), at the same best rate as float32 (0.028). float16
               saved memory, too (0.67 times), and took 5.2 times as long there, 4.4 times in the
               small model: never switch it on for a processor unseen. Ask `fastest_policy` once on
               each kind of machine, with your own model. All this is of three epochs and convnets
               of two layers.
Use it when    `fastest_policy` says so, or activations do not fit into memory.
It hurts when  the processor has no such instructions; where sums are long or differences small
               (softmax, losses, statistics): keep those in float32, as the last layer is here.
               Clip gradients after they were divided, not before.
Sources        Micikevicius et al. 2018, arXiv:1710.03740; Kalamkar et al. 2019, arXiv:1905.12322
"""

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
    main,
    memory_of,
)


@dataclass(frozen=True)
class Config:
    epochs: int = 3
    batch_size: int = 64
    rate: float | None = None  # None: that of RATES.
    steps: int = 110  # Timed, all but the first ten of them. With 0 nor is memory measured.
    memory_batch: int = 1024  # Large enough that activations are most of what a step takes.


POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
VARIANTS = {
    **grid(policy=POLICIES, how={"": "fit"}, filters={"small": 16, "large": 32}),
    **grid(policy=POLICIES, how={"loop": "loop"}, filters={"small": 16}),
}
# That won on validation: `python -m recipes.mixed_precision --tune` finds them again. A loop takes
# the steps of `fit`, and has its rate.
RATES = {
    "float32_small": 0.028,
    "float32_large": 0.028,
    "bfloat16_small": 0.028,
    "bfloat16_large": 0.028,
    "float16_small": 0.028,
    "float16_large": 0.028,
}


def build_model(variant: str, data, rate=0.01) -> keras.Model:
    """Map images uint8 (batch, *data.shape) to logits float32 (batch, len(data.classes))."""
    chosen, before = VARIANTS[variant], keras.config.dtype_policy()
    keras.config.set_dtype_policy(chosen.policy)  # All layers made from here on have it.
    images = keras.Input(data.shape, dtype="uint8")
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0 to 255 becomes -2 to 2, in powers of two.
    for filters in (chosen.filters, 2 * chosen.filters):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    # In float32: what is close to the largest logit would be rounded to it.
    logits = layers.Dense(len(data.classes), dtype="float32")(layers.Flatten()(x))
    model = keras.Model(images, logits)  # Its policy tells `compile` whether to scale the loss.
    keras.config.set_dtype_policy(before)
    model.compile(
        optimizer=optimizers.SGD(rate, momentum=0.9),
        loss=losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    return model


def loop_step(model: keras.Model):
    """A compiled step of one's own: images and labels to the loss. It updates the metrics, too."""

    @tf.function(jit_compile=model.jit_compile)
    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = model.compute_loss(x=images, y=labels, y_pred=logits)
            scaled = model.optimizer.scale_loss(loss)  # As it is, but for float16.
        gradients = tape.gradient(scaled, [weight.value for weight in model.trainable_variables])
        model.optimizer.apply(gradients, model.trainable_variables)  # Divides by the same number.
        model.metrics[0].update_state(loss, sample_weight=tf.shape(images)[0])  # The mean loss.
        model.compute_metrics(images, labels, logits)
        return loss

    return step


def fastest_policy(build, images, labels, seconds: float = 1.0) -> str:
    """The policy whose model trains fastest on a batch; `build(policy)` makes a compiled model.

    They try in turn, for so many seconds and at least five steps each, after what tracing takes.
    16 bits must be a twentieth faster: they are not for nothing. All models are held at once.
    """
    models = {policy: build(policy) for policy in POLICIES.values()}
    for model in models.values():
        for _ in range(3):  # Traces the step, and finds memory for it.
            model.train_on_batch(images, labels)
    taken: dict[str, list[float]] = {policy: [] for policy in models}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken["float32"]) < 5:
        for policy, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(images, labels)
            taken[policy].append(time.perf_counter() - start)
    pace = {policy: float(np.median(steps)) for policy, steps in taken.items()}
    best = min(pace, key=pace.__getitem__)
    return best if pace[best] < 0.95 * pace["float32"] else "float32"


def train(variant: str, config: Config, run: Run, data: sources.Data) -> dict[str, float]:
    keras.utils.set_random_seed(run.seed)  # All variants of a size begin alike.
    feed = batches.training(data.train, config.batch_size, seed=run.seed)
    steps = config.epochs * len(feed)
    rate = RATES[variant.replace("_loop", "")] if config.rate is None else config.rate
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
    """A call that trains on one batch of noise and waits for its loss, to measure time and memory.

    Batches of the sizes `traced` come before: after two different ones `train_on_batch` has a step
    for any size, so that the call's memory has no tracing in it.
    """
    model = build_model(variant, types.SimpleNamespace(shape=tuple(shape), classes=range(classes)))
    draws = np.random.default_rng(0)
    images = tf.constant(draws.integers(0, 256, (batch_size, *shape), dtype=np.uint8))
    labels = tf.constant(draws.integers(0, classes, batch_size), tf.int32)
    by_hand = loop_step(model) if VARIANTS[variant].how == "loop" else None

    def step(images=images, labels=labels):
        return float(by_hand(images, labels)) if by_hand else model.train_on_batch(images, labels)

    for some in traced:
        step(images[:some], labels[:some])
    return step


def compare(config: Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    found = {variant: train(variant, config, run, data) for variant, run in runs.items()}
    if not config.steps:
        return found
    size = list(data.shape), len(data.classes)
    steps = {variant: build_step(variant, config.batch_size, *size) for variant in runs}
    blocks = first.interleaved(steps, block=config.steps)  # Each seed is a round.
    for variant, scores in found.items():
        scores["step_ms"] = 1000 * blocks.step_seconds(variant)
        scores["log_time"] = float(np.log(scores["step_ms"]))
        if VARIANTS[variant].filters == 32:
            scores["memory"] = memory_of(build_step, variant, config.memory_batch, *size, [2, 3])
            scores["log_memory"] = float(np.log(scores["memory"]))
    return found


SMALL = 1e-8  # A gradient; float16 rounds what is below 3e-8 to 0.
UNDERFLOWS = np.float16(SMALL) == 0 and np.float16(SMALL * 2**15) / np.float32(2**15) > 0
IS_LOST = np.float16(1) + np.float16(1e-4) == 1 and np.float32(1) + np.float32(1e-4) > 1

CLAIMS = [
    Claim(
        "S1a",
        "Mixed precision trains at least a twentieth faster: bfloat16, small model",
        source="TF, DL, HW",
        metric="log_time",
        lower="bfloat16_small",
        than="float32_small",
    ),
    Claim(
        "S1b",
        "Mixed precision trains at least a twentieth faster: bfloat16, large model",
        source="TF, DL, HW",
        metric="log_time",
        lower="bfloat16_large",
        than="float32_large",
    ),
    Claim(
        "S1c",
        "Mixed precision trains at least a twentieth faster: bfloat16, small model in a loop of one's own",
        source="TF, DL, HW",
        metric="log_time",
        lower="bfloat16_loop_small",
        than="float32_loop_small",
    ),
    Claim(
        "S1d",
        "Mixed precision trains at least a twentieth faster: float16, small model",
        source="TF, DL, HW",
        metric="log_time",
        lower="float16_small",
        than="float32_small",
    ),
    Claim(
        "S1e",
        "Mixed precision trains at least a twentieth faster: float16, large model",
        source="TF, DL, HW",
        metric="log_time",
        lower="float16_large",
        than="float32_large",
    ),
    Claim(
        "S1f",
        "Mixed precision loses no accuracy: bfloat16, large model, each at its own best rate for three epochs",
        source="TF, DL, HW",
        metric="test_accuracy",
        equal=("bfloat16_large", "float32_large"),
        side="below",
    ),
    Claim(
        "S1g",
        "Mixed precision loses no accuracy: float16, large model, each at its own best rate for three epochs",
        source="TF, DL, HW",
        metric="test_accuracy",
        equal=("float16_large", "float32_large"),
        side="below",
    ),
    Claim(
        "S2a",
        "A step takes less memory: bfloat16",
        said="It halves the memory of activations and so fits a larger batch",
        source="TF, DL",
        metric="log_memory",
        lower="bfloat16_large",
        than="float32_large",
    ),
    Claim(
        "S2b",
        "A step takes less memory: float16",
        said="It halves the memory of activations and so fits a larger batch",
        source="TF, DL",
        metric="log_memory",
        lower="float16_large",
        than="float32_large",
    ),
    Claim(
        "S3",
        "In float16 a small gradient underflows (loss scaling saves it) and a small update is lost "
        "(float32 master weights save it)",
        source="DL",
        asserted=bool(UNDERFLOWS and IS_LOST),
    ),
]

UNITS = {
    "step_ms": Unit("a step by train_on_batch, or of the loop", 1, "ms", 1, timed=True),
    "log_time": Unit("time of a step (log e)", name="e-folds", digits=3, timed=True),
    "memory": Unit("peak memory of a batch of 1,024", 1, "MiB", 0, timed=True),
    "log_memory": Unit("peak memory (log e)", name="e-folds", digits=3, timed=True),
}
PANELS = (Bars("step_ms", log="x"), Bars("memory"), Lines("val_accuracy"))

TUNING = Tuning(
    "rate",
    grids=dict.fromkeys(RATES, half_decades(0.005, 0.5)),
    objective=Objective("validation_accuracy"),
    fixed={"steps": 0},
)

RECIPE = Recipe(
    None,
    VARIANTS,
    CLAIMS,
    Config,
    compare=compare,
    tuning=TUNING,
    smoke={"epochs": 2, "batch_size": 32, "steps": 0},
    left_out=("float16_large", "float16_loop_small"),  # They take two thirds of the time.
    least={"memory_batch": 4},
    units=UNITS,
    panels=PANELS,
    numbers={
        "bfloat16 took 0.70 times": "log_time: bfloat16_large / float32_large",
        "float16: 5.2 times": "log_time: float16_large / float32_large",
        "a step took 0.70 times": "log_time: bfloat16_large / float32_large",
        "0.81 times in": "log_time: bfloat16_small / float32_small",
        "(0.78 in": "log_time: bfloat16_loop_small / float32_loop_small",
        "0.50 times the memory": "log_memory: bfloat16_large / float32_large",
        "(231 MiB": "memory: bfloat16_large",
        "instead of 463)": "memory: float32_large",
        "(57.8 and": "test_accuracy: bfloat16_large",
        "and 57.9 %)": "test_accuracy: float32_large",
        "(0.028)": "RATES: bfloat16_large",
        "(0.67 times)": "log_memory: float16_large / float32_large",
        "took 5.2 times": "log_time: float16_large / float32_large",
        "4.4 times in": "log_time: float16_small / float32_small",
    },
    by_machine=True,
    first_seed=101,
)

if __name__ == "__main__":
    main(RECIPE)
