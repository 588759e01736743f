"""What does an addition around every two layers change in a deep network?

The Functional API treats layers as functions of tensors, so a block's input can be added to its output in one line. The
plain and the residual networks here are the same but for that line, at three depths, with BatchNorm and without.

Looking inside: the norm of the loss's gradient with respect to each convolution's kernel, at initialization and after
training. The claim about vanishing gradients is about initialization, where training must start, and its metric is the
norm in the first convolution, in decades: "vanished" means that its steps are too small to matter. In a plain network
without BatchNorm it vanishes in all layers alike: what activations lose on the way up, gradients lose on the way down.

Use it when    a network is deeper than some ten layers, or a deeper one trains worse than a shallow one.
It hurts when  shapes change within a block: the addition then needs a projection of its own.
Sources        He et al. 2016, arXiv:1512.03385; Ioffe and Szegedy 2015, arXiv:1502.03167
"""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers, optimizers

from pipelines import batches, cifar10
from recipes.harness import Claim, Lines, Objective, Recipe, Run, Tuning, Unit, half_decades

PROBE_IMAGES = 256


@dataclass(frozen=True)
class Config:
    epochs: int = 2
    batch_size: int = 64
    filters: int = 24
    depths: tuple[int, int, int] = (2, 6, 12)  # Convolutions after the first, two to a block.
    rate: float | None = None  # None takes the tuned rates below.


# name -> (with skip connections, which of the three depths, with BatchNorm)
VARIANTS = {
    f"{'residual' if skip else 'plain'}_{name}{'_norm' if norm else ''}": (skip, level, norm)
    for norm in (False, True)
    for skip in (False, True)
    for level, name in enumerate(("shallow", "middle", "deep"))
}

# The peak rate: what `python -m recipes.functional_skip --tune` finds, on seed 0 and by validation.
TUNED = dict(
    zip(VARIANTS, (0.057, 0.032, 0.01, 0.18, 0.1, 0.032, 0.32, 0.057, 0.018, 0.1, 0.056, 0.057), strict=True)
)  # In the order of the variants.


def build_model(variant: str, config: Config, mean, std) -> keras.Model:
    """Map images uint8 (batch, 32, 32, 3) to logits float32 (batch, 10), over feature maps of 4 × 4."""
    skip, level, norm = VARIANTS[variant]

    def convolution(x, name):
        x = layers.Conv2D(config.filters, 3, padding="same", use_bias=not norm, name=name)(x)
        return layers.BatchNormalization(momentum=0.8)(x) if norm else x  # Keras's 0.99 is too slow for short runs.

    images = keras.Input((32, 32, 3), dtype="uint8")
    x = layers.Normalization(mean=mean, variance=std**2)(images)
    x = layers.Conv2D(config.filters, 5, strides=4, padding="same", activation="relu", name="convolution_00")(x)
    x = layers.MaxPooling2D()(x)
    for number in range(1, config.depths[level], 2):
        before = x
        x = layers.ReLU()(convolution(x, f"convolution_{number:02}"))
        x = convolution(x, f"convolution_{number + 1:02}")
        if skip:
            x = layers.Add()([x, before])
        x = layers.ReLU()(x)
    return keras.Model(images, layers.Dense(10, name="head")(layers.GlobalAveragePooling2D()(x)))


def gradient_norms(model: keras.Model, probe: cifar10.Split) -> list[float]:
    """The norm of the loss's gradient in each convolution's kernel, first to last, with BatchNorm as in training."""
    before = [variable.numpy() for variable in model.non_trainable_variables]
    kernels = [layer.kernel.value for layer in model.layers if layer.name.startswith("convolution")]
    with tf.GradientTape() as tape:
        logits = model(probe.images[:PROBE_IMAGES], training=True)
        loss = model.compute_loss(y=probe.labels[:PROBE_IMAGES], y_pred=logits)
    norms = [float(tf.norm(gradient)) for gradient in tape.gradient(loss, kernels)]
    for variable, value in zip(model.non_trainable_variables, before, strict=True):
        variable.assign(value)  # Looking changes nothing: BatchNorm's statistics are put back.
    return norms


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    data = cifar10.load(run.data)
    feed = batches.training(data.train, config.batch_size, seed=run.seed)

    keras.utils.set_random_seed(run.seed)
    model = build_model(variant, config, data.mean, data.std)
    rate = TUNED[variant] if config.rate is None else config.rate
    steps = config.epochs * len(feed)
    schedule = optimizers.schedules.CosineDecay(0.0, steps - steps // 5, warmup_target=rate, warmup_steps=steps // 5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.SGD(schedule, momentum=0.9, nesterov=True), loss, metrics=["accuracy"])

    at_start = gradient_norms(model, data.train)
    run.keep("gradient_norms/at_initialization", at_start)
    validation = batches.evaluation(data.validation)
    callbacks = run.callbacks(probe=data.train)
    history = model.fit(
        feed, epochs=config.epochs, validation_data=validation, callbacks=callbacks, shuffle=False, verbose=0
    )
    scores = run.scores(model, history, data)
    at_end = gradient_norms(model, data.train)
    run.keep("gradient_norms/after_training", at_end)
    # A network whose ReLUs have all died has no gradient at all: a floor keeps its logarithm finite.
    first, first_trained = (float(np.log10(max(norms[0], 1e-12))) for norms in (at_start, at_end))
    return scores | {"first_gradient": first, "first_gradient_trained": first_trained}


CLAIMS = [
    Claim("B5a", "Past some depth a plain network gets worse with depth", source="DL; He et al. 2016",
          metric="test_accuracy", lower="plain_deep", than="plain_shallow", by=0.01),
    Claim("B5b", "Past some depth a plain network gets worse with depth, also with BatchNorm", source="He et al. 2016",
          metric="test_accuracy", lower="plain_deep_norm", than="plain_shallow_norm", by=0.01),
    Claim("B5c", "With skip connections a deeper network is no worse", source="DL; He et al. 2016",
          metric="test_accuracy", equal=("residual_deep", "residual_shallow"), side="below", by=0.01),
    Claim("B5d", "With skip connections and BatchNorm a deeper network is no worse", source="He et al. 2016",
          metric="test_accuracy", equal=("residual_deep_norm", "residual_shallow_norm"), side="below", by=0.01),
    Claim("B6a", "Skip connections keep the gradient of the first layers from vanishing", source="DL",
          metric="first_gradient", higher="residual_deep", than="plain_deep", by=0.5),
    Claim("B6b", "Skip connections keep the gradient of the first layers from vanishing, also beside BatchNorm",
          source="DL", metric="first_gradient", higher="residual_deep_norm", than="plain_deep_norm", by=0.5),
]  # fmt: skip

DEEPEST = tuple(name for name, (_, level, _) in VARIANTS.items() if level == 2)

RECIPE = Recipe(
    train,
    VARIANTS,
    CLAIMS,
    Config,
    smoke={"epochs": 1, "batch_size": 32, "depths": (2, 4, 8)},
    tuning=Tuning(
        "rate",
        dict.fromkeys(VARIANTS, half_decades(1e-2, 3.2e-1)),
        {"accuracy": Objective("validation_accuracy")},
        curve=None,
    ),
    units={
        "first_gradient": Unit("first gradient at initialization (log10)", name="decades"),
        "first_gradient_trained": Unit("after training (log10)", name="decades"),
        "gradient_norms/at_initialization": Unit("gradient norm at initialization"),
        "gradient_norms/after_training": Unit("gradient norm after training"),
    },
    panels=tuple(
        Lines(f"gradient_norms/{when}", x_label="convolution", variants=DEEPEST, log="y")
        for when in ("at_initialization", "after_training")
    ),
)

if __name__ == "__main__":
    RECIPE.main()
