"""What sequential compares is what its names say."""

import keras
import numpy as np
import pytest

from lab.experiments import sequential as experiment
from recipes import sequential as recipe

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3)).astype("uint8")


def is_linear(model: keras.Model, images: np.ndarray) -> bool:
    """Whether the logits of two images' mean are the mean of their logits: true of no model with a ReLU in it."""
    a, b = images[:32] // 2 * 2, images[32:] // 2 * 2
    logits = [np.asarray(model(x)) for x in (a, b, (a // 2 + b // 2))]
    return np.allclose((logits[0] + logits[1]) / 2, logits[2], atol=1e-3)


@pytest.mark.parametrize("variant", experiment.NETWORKS)
def test_the_linear_variants_are_linear_and_the_others_are_not(images, variant):
    model = experiment.NETWORKS[variant](SHAPE, 10)
    assert is_linear(model, images) == (variant in ("linear", "ten_linear"))


def test_the_ten_linear_layers_are_ten():
    dense = [layer for layer in experiment.NETWORKS["ten_linear"](SHAPE, 10).layers if "Dense" in type(layer).__name__]
    assert len(dense) == 10


def test_parameters_are_counted_as_keras_counts_them():
    for variant, sizes in {"dense_65": (3072, 65, 10), "dense_128_64": (3072, 128, 64, 10)}.items():
        model = experiment.NETWORKS[variant](SHAPE, 10)
        trained = sum(weight.shape.num_elements() for weight in model.trainable_weights)
        assert trained == sum(recipe.dense_parameters(*sizes))
    assert sum(recipe.dense_parameters(3072, 128, 64, 10)) == 402_250
    convnet = recipe.build_convnet(SHAPE, 10)
    assert convnet.count_params() == 17_130
    assert recipe.multiplications(convnet) == 15 * 15 * 27 * 24 + 5 * 5 * 9 * 24 * 64 + 256 * 10


def test_a_convnet_has_at_most_a_quarter_and_a_tiny_one_a_hundredth_of_the_dense_parameters():
    dense, small, tiny = (
        experiment.NETWORKS[name](SHAPE, 10).count_params() for name in ("dense_128_64", "convnet", "convnet_tiny")
    )
    assert small <= dense / 4
    assert tiny <= dense / 100


def test_unpooled_the_convnet_differs_by_the_pooling_alone(images):
    plain, unpooled = (experiment.NETWORKS[name](SHAPE, 10) for name in ("convnet", "convnet_unpooled"))
    assert [type(layer) for layer in plain.layers] == [type(layer) for layer in unpooled.layers]
    assert [layer.output.shape[1] for layer in plain.layers[1:5]] == [15, 7, 5, 2]
    assert [layer.output.shape[1] for layer in unpooled.layers[1:5]] == [15, 15, 13, 13]


def test_permuted_pixels_are_all_there_in_the_same_other_order_in_every_image_and_color(images):
    model = experiment.build_permuted(SHAPE, 10, recipe.build_dense)
    moved = np.asarray(keras.Sequential(model.layers[:1])(images.astype("float32")))
    assert (moved != images).mean() > 0.9
    assert np.array_equal(np.sort(moved.reshape(64, -1, 3), axis=1), np.sort(images.reshape(64, -1, 3), axis=1))
    places = np.arange(32 * 32).reshape(1, 32, 32, 1) * np.ones((2, 1, 1, 3))
    order = np.asarray(keras.Sequential(model.layers[:1])(places))
    assert np.array_equal(order[0], order[1])
    assert np.array_equal(order[..., 0], order[..., 2])


def test_stacked_linear_layers_are_the_product_of_their_kernels(images):
    model = experiment.NETWORKS["ten_linear"](SHAPE, 10)
    flat = images.reshape(64, -1) / 64 - 2.0
    product = np.eye(flat.shape[1])
    for layer in model.layers[2:]:
        product = product @ np.asarray(layer.kernel, "float64")
    assert np.asarray(model(images)) == pytest.approx(flat @ product, abs=1e-3)  # The biases are zero yet.
    assert experiment.is_one_linear_map()
