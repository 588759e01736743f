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
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers, losses, optimizers

from lab import Run, grid
from pipelines import batches, sources


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
# That won on validation: `python -m recipes.mixed_precision tune` finds them again. A loop takes
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


if __name__ == "__main__":
    from lab import main

    main("mixed_precision")
