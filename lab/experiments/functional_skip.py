"""Plain and residual networks at two depths: as Keras begins them, with BatchNorm, and as He et al. begin them."""

import functools
import math
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lab import Bars, Claim, Experiment, Lines, Objective, Tuning, Unit, half_decades
from recipes import functional_skip as recipe

PROBE_IMAGES = 256
BLOCKS = {"shallow": 1, "deep": 6}  # Of two convolutions each; one more comes before them.
BEGINNINGS: dict[str, dict[str, Any]] = {
    "": {"norm": False},
    "_norm": {"norm": True},
    "_he": {"norm": False, "initializer": "he_normal"},
}
# SGD's peak learning rate that was best on validation images.
RATES = {
    "plain_shallow": 0.056,
    "plain_deep": 0.032,
    "plain_shallow_norm": 0.32,
    "plain_deep_norm": 0.032,
    "plain_shallow_he": 0.056,
    "plain_deep_he": 0.018,
    "residual_shallow": 0.1,
    "residual_deep": 0.056,
    "residual_shallow_norm": 0.1,
    "residual_deep_norm": 0.18,
    "residual_deep_he": 0.032,
}
NETWORKS = {
    f"{kind}_{depth}{beginning}": partial(recipe.build_model, blocks=blocks, skip=skip, **settings)
    for kind, skip in {"plain": False, "residual": True}.items()
    for beginning, settings in BEGINNINGS.items()
    for depth, blocks in BLOCKS.items()
}
VARIANTS = {name: partial(recipe.train, build_model=NETWORKS[name], rate=rate) for name, rate in RATES.items()}


def gradient_norms(model, images, labels):
    """The norm of the loss's gradient in each convolution's kernel, with BatchNorm as in training."""
    before = [variable.numpy() for variable in model.non_trainable_variables]
    # The tape watches TensorFlow's variables, which Keras's hold.
    kernels = [layer.kernel.value for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    with tf.GradientTape() as tape:
        loss = model.compute_loss(y=labels, y_pred=model(images, training=True))
    norms = [float(tf.norm(gradient)) for gradient in tape.gradient(loss, kernels)]
    for variable, value in zip(model.non_trainable_variables, before, strict=True):
        variable.assign(value)  # Looking changes nothing: BatchNorm's statistics are put back.
    return norms


class AtStart(keras.callbacks.Callback):
    """Keeps the norms of the gradients before the first step."""

    def __init__(self, run, data):
        super().__init__()
        self.run, self.images, self.labels = run, data.train.images[:PROBE_IMAGES], data.train.labels[:PROBE_IMAGES]

    def on_train_begin(self, logs=None):
        self.run.keep("gradient_norms", gradient_norms(self.model, self.images, self.labels))


def first_gradient(model, run, data):
    """The logarithm of the norm in the first convolution. Where all ReLUs are dead a floor keeps it finite."""
    return {"log_first_gradient": math.log(max(run.curves["gradient_norms"][0], 1e-12))}


@functools.cache
def takes_any_size():
    """Whether one model takes images of 24 pixels and of 32."""
    model = recipe.build_model((None, None, 3), 10)
    return all(model(np.zeros((2, size, size, 3), np.float32)).shape == (2, 10) for size in (24, 32))


CLAIMS = [
    Claim(
        "B5a",
        "Past some depth a plain network gets worse with depth: 13 convolutions fit their training images worse than "
        "3, with Keras's default initializer",
        source="ours",
        metric="train_accuracy",
        lower="plain_deep",
        than="plain_shallow",
    ),
    Claim(
        "B5b",
        "Past some depth a plain network gets worse with depth, with BatchNorm too: 13 convolutions fit their training "
        "images worse than 3",
        source="He et al. 2016",
        metric="train_accuracy",
        lower="plain_deep_norm",
        than="plain_shallow_norm",
    ),
    Claim(
        "B5e",
        "Past some depth a plain network gets worse with depth, with He's initializer too",
        source="ours",
        metric="train_accuracy",
        lower="plain_deep_he",
        than="plain_shallow_he",
    ),
    Claim(
        "B5c",
        "With skip connections a deeper network fits its training images no worse, without BatchNorm",
        source="ours",
        metric="train_accuracy",
        equal=("residual_deep", "residual_shallow"),
        side="below",
    ),
    Claim(
        "B5d",
        "With skip connections and BatchNorm a deeper network fits its training images no worse",
        source="He et al. 2016",
        metric="train_accuracy",
        equal=("residual_deep_norm", "residual_shallow_norm"),
        side="below",
    ),
    Claim(
        "B5f",
        "With skip connections a deeper network is no worse on test images, without BatchNorm",
        source="ours",
        metric="test_accuracy",
        equal=("residual_deep", "residual_shallow"),
        side="below",
    ),
    Claim(
        "B5g",
        "With skip connections and BatchNorm a deeper network is no worse on test images",
        source="He et al. 2016",
        metric="test_accuracy",
        equal=("residual_deep_norm", "residual_shallow_norm"),
        side="below",
    ),
    Claim(
        "B5h",
        "Skip connections raise the test accuracy of a network of 13 convolutions, with Keras's default initializer",
        source="ours",
        metric="test_accuracy",
        higher="residual_deep",
        than="plain_deep",
        family="test accuracy",
    ),
    Claim(
        "B5i",
        "Skip connections raise the test accuracy of a network of 13 convolutions, with BatchNorm too",
        source="ours",
        metric="test_accuracy",
        higher="residual_deep_norm",
        than="plain_deep_norm",
        family="test accuracy",
    ),
    Claim(
        "B6a",
        "Skip connections keep the gradient of the first layers from vanishing, with Keras's default initializer",
        source="DL",
        metric="log_first_gradient",
        higher="residual_deep",
        than="plain_deep",
    ),
    Claim(
        "B6b",
        "Skip connections keep the gradient of the first layers from vanishing, with BatchNorm too",
        source="ours",
        metric="log_first_gradient",
        higher="residual_deep_norm",
        than="plain_deep_norm",
    ),
    Claim(
        "B6c",
        "Skip connections keep the gradient of the first layers from vanishing, with He's initializer too",
        source="ours",
        metric="log_first_gradient",
        higher="residual_deep_he",
        than="plain_deep_he",
    ),
    Claim(
        "B17",
        "Convolutional networks expect images of one fixed shape",
        said="CNNs expect fixed shapes",
        source="DL",
        asserted=lambda: not takes_any_size(),
    ),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    answer="With Keras's default initializer, a plain network of 13 convolutions ends at {test_accuracy.plain_deep}, "
    "which is chance. "
    "With skip connections it reaches {test_accuracy.residual_deep}, and with BatchNorm as well "
    "{test_accuracy.residual_deep_norm}.",
    rests_on=("B5h", "B5i", "B5g"),
    about={
        "Add": ("B5c", "B5d", "B5f", "B5g", "B5h", "B5i", "B6a", "B6b", "B6c"),
        "BatchNormalization": ("B5b", "B5d", "B5g", "B5i", "B6b"),
        "HeNormal": ("B5e", "B6c"),
    },
    advice=[
        "**Put a skip connection around every two layers of a deep network.** Without BatchNorm they are worth "
        "{test_accuracy.residual_deep - test_accuracy.plain_deep} at 13 convolutions.",
        "**Do not expect depth alone to pay.** With BatchNorm, 13 plain convolutions fit their training images "
        "{train_accuracy.plain_shallow_norm - train_accuracy.plain_deep_norm} worse than 3. With skip connections too, "
        "13 end {test_accuracy.residual_deep_norm - test_accuracy.residual_shallow_norm} above 3 on test images.",
        "**BatchNorm alone does not replace skip connections.** The deep plain network with BatchNorm stays "
        "{test_accuracy.residual_deep_norm - test_accuracy.plain_deep_norm} behind the residual one.",
        "**Do not expect the initializer to do it.** With He's initializer, 13 plain convolutions fit their training "
        "images {train_accuracy.plain_shallow_he - train_accuracy.plain_deep_he} worse than 3.",
    ],
    flags={"batch_size": 64},
    augment=True,
    callbacks=lambda run, data: [AtStart(run, data)],
    extra=first_gradient,
    smoke={"epochs": 3, "batch_size": 32},
    tuning=Tuning("rate", dict.fromkeys(RATES, half_decades(1e-2, 3.2e-1)), Objective("validation_accuracy")),
    fails=("plain_deep", "plain_deep_he"),
    units={
        "log_first_gradient": Unit("first gradient at initialization"),
        "gradient_norms": Unit("gradient norm at initialization"),
    },
    panels=(
        Bars("test_accuracy"),
        Lines(
            "gradient_norms",
            x_label="convolution, counted from the input",
            variants=(
                "plain_deep",
                "plain_deep_norm",
                "plain_deep_he",
                "residual_deep",
                "residual_deep_norm",
                "residual_deep_he",
            ),
            log="y",
        ),
    ),
)
