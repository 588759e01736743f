"""Dense and convolutional networks: depth, width, linearity, pooling, and pixels in another order."""

from functools import partial

import keras
import numpy as np
from keras import layers, ops

from lab import Claim, Experiment, Lines, Objective, Points, Tuning, Unit, half_decades
from recipes import sequential as recipe


def build_permuted(shape, classes, build):
    """A model of `build` behind a layer that puts all pixels of all images into the same other order."""
    order = np.random.default_rng(0).permutation(shape[0] * shape[1])
    permute = layers.Lambda(
        lambda x: ops.reshape(ops.take(ops.reshape(x, (-1, len(order), shape[2])), order, 1), (-1, *shape))
    )
    return keras.Sequential([keras.Input(shape), permute, *build(shape, classes).layers])


def is_one_linear_map():
    """Whether three layers without an activation are one, of the product of their kernels."""
    draws = np.random.default_rng(0)
    a, b, c, x = (draws.normal(size=size) for size in ((7, 5), (5, 4), (4, 3), (20, 7)))
    p, q, r = (draws.normal(size=size) for size in (5, 4, 3))
    return np.allclose(((x @ a + p) @ b + q) @ c + r, x @ (a @ b @ c) + (p @ b @ c + q @ c + r))


NETWORKS = {
    "linear": partial(recipe.build_dense, units=()),
    "ten_linear": partial(recipe.build_dense, units=(128,) * 9, activation=None),
    "dense_65": partial(recipe.build_dense, units=(65,)),
    "dense_128_64": recipe.build_dense,
    "dense_four_layers": partial(recipe.build_dense, units=(128, 128, 128, 64)),
    "convnet": recipe.build_convnet,
    "convnet_tiny": partial(recipe.build_convnet, filters=(12, 24)),
    "convnet_unpooled": partial(recipe.build_convnet, pool=1),
    "dense_permuted": partial(build_permuted, build=recipe.build_dense),
    "convnet_permuted": partial(build_permuted, build=recipe.build_convnet),
}
# Adam's peak learning rate that was best on validation images.
RATES = {
    "linear": 0.001,
    "ten_linear": 0.001,
    "dense_65": 0.0018,
    "dense_128_64": 0.001,
    "dense_four_layers": 0.001,
    "convnet": 0.0057,
    "convnet_tiny": 0.01,
    "convnet_unpooled": 0.0018,
    "dense_permuted": 0.00032,
    "convnet_permuted": 0.0032,
}
VARIANTS = {name: partial(recipe.train, build_model=build, rate=RATES[name]) for name, build in NETWORKS.items()}


def sizes(model, run, data):
    return {"parameters": model.count_params(), "multiplications": recipe.multiplications(model)}


MEGAPIXEL = recipe.dense_parameters(1_000_000, 1000, 512, 10)
CLAIMS = [
    Claim(
        "B1",
        "A 1,000,000-pixel input into Dense 1000 → 512 → 10 has exactly 1,000,518,642 parameters, "
        "1,000,001,000 of them in the first layer",
        source="DL",
        asserted=(sum(MEGAPIXEL), MEGAPIXEL[0]) == (1_000_518_642, 1_000_001_000),
    ),
    Claim(
        "B2",
        "A two-layer 128-64 network is only marginally better than one layer of 65 units",
        source="R1, R3",
        metric="test_accuracy",
        equal=("dense_128_64", "dense_65"),
        side="above",
    ),
    Claim(
        "B2b",
        "The two-layer 128-64 network needs at least twice the multiplications of one layer of 65 units",
        source="R1, R3",
        asserted=3072 * 128 + 128 * 64 + 64 * 10 > 2 * (3072 * 65 + 65 * 10),
    ),
    Claim(
        "B3",
        "Layers stacked without a non-linearity are exactly one linear layer",
        source="DL",
        asserted=is_one_linear_map(),
    ),
    Claim(
        "B3b",
        "Ten layers without a non-linearity are no better than one linear layer",
        source="DL",
        metric="test_accuracy",
        equal=("ten_linear", "linear"),
        side="above",
    ),
    Claim(
        "B3c",
        "Ten layers without a non-linearity fit the training images no better than one linear layer",
        source="ours",
        metric="train_accuracy",
        equal=("ten_linear", "linear"),
        side="above",
    ),
    Claim(
        "B4",
        "A convnet beats a dense 128-64 network with at most a quarter of its parameters",
        source="DL",
        metric="test_accuracy",
        higher="convnet",
        than="dense_128_64",
    ),
    Claim(
        "B4b",
        "A convnet beats a dense 128-64 network with at most a hundredth of its parameters",
        source="DL",
        metric="test_accuracy",
        higher="convnet_tiny",
        than="dense_128_64",
    ),
    Claim(
        "B15a",
        "With the pixels in another order a dense network scores the same",
        source="DL",
        metric="test_accuracy",
        equal=("dense_permuted", "dense_128_64"),
    ),
    Claim(
        "B15b",
        "With the pixels in another order a convnet falls",
        source="DL",
        metric="test_accuracy",
        lower="convnet_permuted",
        than="convnet",
    ),
    Claim(
        "B18",
        "One hidden layer ends at most a few (three) points below deeper dense networks",
        source="R1",
        metric="test_accuracy",
        higher="dense_65",
        than=("dense_128_64", "dense_four_layers"),
        at_least=-0.03,
    ),
    Claim(
        "D7",
        "2 × 2 max-pooling drops 75 % of the activations",
        source="DL",
        asserted=1 - (16 // 2) ** 2 / 16**2 == 0.75,
    ),
    Claim(
        "D7b",
        "2 × 2 max-pooling keeps the accuracy",
        source="ours",
        metric="test_accuracy",
        equal=("convnet", "convnet_unpooled"),
        side="below",
    ),
]

SHOWN = ("linear", "dense_65", "dense_128_64", "convnet_tiny", "convnet", "convnet_unpooled")
EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    extra=sizes,
    smoke={"epochs": 6, "batch_size": 64},
    left_out=("dense_four_layers", "convnet_tiny", "convnet_unpooled", "dense_permuted", "convnet_permuted"),
    tuning=Tuning("rate", dict.fromkeys(NETWORKS, half_decades(1e-4, 1e-2)), Objective("validation_accuracy")),
    units={
        "parameters": Unit("parameters", digits=0),
        "multiplications": Unit("multiplications an image", digits=0),
    },
    panels=(
        Lines("val_accuracy", variants=SHOWN),
        Points("parameters", "test_accuracy", variants=SHOWN, log="x"),
    ),
    answer="A small convnet beats two dense layers by {test_accuracy.convnet - test_accuracy.dense_128_64}, with "
    "{parameters.dense_128_64 / parameters.convnet} fewer weights and "
    "{multiplications.convnet / multiplications.dense_128_64} the multiplications.",
    rests_on=("B4",),
    about={
        "MaxPooling2D": ("D7", "D7b"),
        "Conv2D": ("B4", "B4b", "B15b"),
    },
    advice=[
        "**Begin with a convnet.** It reaches {test_accuracy.convnet}, and two dense layers reach "
        "{test_accuracy.dense_128_64}.",
        "**Do not expect much from more dense layers.** Four dense layers end only "
        "{test_accuracy.dense_four_layers - test_accuracy.dense_65} above one layer of 65 units.",
        "**Pool to save weights and multiplications, not to gain accuracy.** Without its 2 × 2 max-pooling the convnet "
        "ends {test_accuracy.convnet_unpooled - test_accuracy.convnet} higher, at "
        "{multiplications.convnet_unpooled / multiplications.convnet} the multiplications.",
        "**Put an activation between layers.** Without one, ten layers are a single matrix.",
    ],
)
