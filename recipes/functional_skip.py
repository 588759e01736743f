"""What does an addition around every two layers change in a deep network?

The Functional API treats layers as functions of tensors, so a block's input can be added to its
output in one line. The plain and the residual networks here are the same but for that line, at
three depths: as Keras begins them (Glorot and Bengio 2010, made for layers without ReLU), with
BatchNorm, and begun as He et al. 2015 do ("he": twice the variance, for what a ReLU cuts off).

Looking inside: the norm of the loss's gradient with respect to each convolution's kernel, at
initialization, where training must start. The metric is the norm in the first convolution, in
decades: "vanished" means that its steps are too small to matter. In a plain network without
BatchNorm it vanishes in all layers alike: what activations lose on the way up, gradients lose on
the way down.

Answer         Begun as Keras does, the deep plain network learns nothing; with additions it is as
               good as a shallow one with additions.
In practice    Add the input around every two layers, and normalize as well. Without BatchNorm 13
               convolutions ended at 10.2 %, which is chance, and with additions at 42.4 %; He's
               wider start alone took them to 27.3 %. BatchNorm alone did most of it (39.9 %),
               though it fitted training images 5.7 points worse than a network of 3 convolutions;
               both together were best, at 47.7 %, 1.9 points above the same at 3 convolutions. All
               of this is two epochs of 8,000 images, each at its own best rate.
Use it when    a network is deeper than some seven layers, or a deeper one trains worse than a
               shallow one.
It hurts when  shapes change within a block: `before` then needs a projection of its own, such as
               `layers.Conv2D(filters, 1, strides)(before)`.
Sources        He et al. 2016, arXiv:1512.03385; Ioffe and Szegedy 2015, arXiv:1502.03167
"""

from dataclasses import dataclass
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers, optimizers

from lab import Run, grid
from pipelines import batches, sources

PROBE_IMAGES = 256


@dataclass(frozen=True)
class Config:
    epochs: int = 2
    batch_size: int = 64
    filters: int = 24
    rate: float | None = None  # None: the variant's own below.


class Begin(NamedTuple):
    norm: bool
    kernels: str


# Such as VARIANTS["residual_deep"].depth; it counts the convolutions after the first.
VARIANTS = grid(
    skip={"plain": False, "residual": True},
    depth={"shallow": 2, "middle": 6, "deep": 12},
    begin={
        "": Begin(False, "glorot_uniform"),
        "norm": Begin(True, "glorot_uniform"),
        "he": Begin(False, "he_normal"),
    },
)

# Peak rates that won on validation: `python -m recipes.functional_skip tune` finds them again.
RATES = {
    "plain_shallow": 0.056,
    "plain_shallow_norm": 0.32,
    "plain_shallow_he": 0.056,
    "plain_middle": 0.057,
    "plain_middle_norm": 0.057,
    "plain_middle_he": 0.032,
    "plain_deep": 0.032,
    "plain_deep_norm": 0.032,
    "plain_deep_he": 0.018,
    "residual_shallow": 0.1,
    "residual_shallow_norm": 0.1,
    "residual_shallow_he": 0.1,
    "residual_middle": 0.1,
    "residual_middle_norm": 0.1,
    "residual_middle_he": 0.057,
    "residual_deep": 0.057,
    "residual_deep_norm": 0.1,
    "residual_deep_he": 0.032,
}


def convolution(x, filters: int, begin: Begin, name: str):
    """A 3 × 3 convolution of `x` (batch, height, width, channels), with BatchNorm or without."""
    settings = {"use_bias": not begin.norm, "kernel_initializer": begin.kernels}
    x = layers.Conv2D(filters, 3, padding="same", name=name, **settings)(x)
    if begin.norm:
        x = layers.BatchNormalization(momentum=0.8)(x)  # Keras's 0.99 is too slow for short runs.
    return x


def build_model(variant: str, data: sources.Data, filters: int = 24) -> keras.Model:
    """Map images uint8 (batch, *data.shape) to logits float32 (batch, len(data.classes))."""
    chosen = VARIANTS[variant]
    images = keras.Input(data.shape, dtype="uint8")
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0 to 255 becomes -2 to 2.
    x = layers.Conv2D(
        filters, 5, strides=4, padding="same", activation="relu", name="convolution_00",
        kernel_initializer=chosen.begin.kernels,
    )(x)  # fmt: skip
    x = layers.MaxPooling2D()(x)
    for number in range(1, chosen.depth, 2):
        before = x
        x = layers.ReLU()(convolution(x, filters, chosen.begin, f"convolution_{number:02}"))
        x = convolution(x, filters, chosen.begin, f"convolution_{number + 1:02}")
        if chosen.skip:
            x = layers.Add()([x, before])
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(len(data.classes), name="head")(x))


def gradient_norms(model: keras.Model, probe: sources.Split) -> list[float]:
    """The norm of the loss's gradient in each convolution's kernel, with BatchNorm as in training."""
    before = [variable.numpy() for variable in model.non_trainable_variables]
    # The tape watches TensorFlow's variables, which Keras's hold.
    kernels = [layer.kernel.value for layer in model.layers if layer.name.startswith("convolution")]
    with tf.GradientTape() as tape:
        logits = model(probe.images[:PROBE_IMAGES], training=True)
        loss = model.compute_loss(y=probe.labels[:PROBE_IMAGES], y_pred=logits)
    norms = [float(tf.norm(gradient)) for gradient in tape.gradient(loss, kernels)]
    for variable, value in zip(model.non_trainable_variables, before, strict=True):
        variable.assign(value)  # Looking changes nothing: BatchNorm's statistics are put back.
    return norms


def decades(norm: float) -> float:
    """The logarithm; where all ReLUs have died there is no gradient, and a floor keeps it finite."""
    return float(np.log10(max(norm, 1e-12)))


def schedule(peak: float, steps: int):
    """From 0 to the peak in a fifth of the steps, then a cosine back to 0."""
    warm_up = steps // 5  # Keras counts the decay from the end of the warm-up.
    return optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=peak, warmup_steps=warm_up
    )


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    data = sources.load(run.data)
    feed = batches.training(data.train, config.batch_size, seed=run.seed, augment=True)
    model = build_model(variant, data, config.filters)

    peak = RATES[variant] if config.rate is None else config.rate
    rate = schedule(peak, config.epochs * len(feed))
    model.compile(
        optimizer=optimizers.SGD(rate, momentum=0.9, nesterov=True),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,  # Python looks in every 16 steps: a seventh faster.
    )
    at_start = gradient_norms(model, data.train)
    model.fit(
        feed,
        epochs=config.epochs,
        validation_data=batches.evaluation(data.validation),
        callbacks=run.callbacks(data),
        shuffle=False,  # The feed shuffles, anew each epoch; without this, Keras warns.
        verbose=0,
    )
    run.keep("gradient_norms", at_start)
    return run.scores(model, data) | {"first_gradient": decades(at_start[0])}


if __name__ == "__main__":
    from lab import main

    main("functional_skip")
