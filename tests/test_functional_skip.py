"""Plain and residual networks are what their names say, and their first gradients are measured right."""

import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.experiments import functional_skip as experiment
from lab.statistics import judge
from pipelines import sources
from recipes import functional_skip as recipe

SHAPE = (32, 32, 3)
DATA = sources.load(sources.Request(train_images=500))
SOME = DATA.train.images[:64], DATA.train.labels[:64]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, *SHAPE)).astype("uint8")


def kinds(model: keras.Model) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


def compiled(model: keras.Model) -> keras.Model:
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


# The recipe


def test_a_block_adds_its_input_to_what_two_convolutions_make_of_it(images):
    """By hand: a first convolution that keeps each pixel and a second that doubles it."""
    inputs = keras.Input((5, 5, 2))
    model = keras.Model(inputs, recipe.residual_block(inputs, 2, norm=False))
    first, second = (layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    middle = np.zeros((3, 3, 2, 2), np.float32)
    middle[1, 1] = np.eye(2)
    first.set_weights([middle, np.zeros(2)])
    second.set_weights([2 * middle, np.array([0, -1])])
    pixel = np.array([3.0, -4.0])  # The first ReLU makes 0 of -4; 2 · 0 - 1 - 4 is below 0 as well.
    found = np.asarray(model(np.tile(pixel, (1, 5, 5, 1))))
    assert np.allclose(found, [2 * 3 + 3, 0])


def test_a_block_that_halves_images_of_any_size_projects_its_input():
    images = keras.Input((None, None, 4))
    model = keras.Model(images, recipe.residual_block(images, 4, strides=2))
    assert model(np.zeros((1, 6, 8, 4), "float32")).shape == (1, 3, 4, 4)


def test_where_the_shape_changes_the_input_is_projected_and_else_it_is_not():
    for filters, strides, projected in ((4, 1, False), (6, 1, True), (4, 2, True)):
        inputs = keras.Input((8, 8, 4))
        model = keras.Model(inputs, recipe.residual_block(inputs, filters, strides))
        assert model.output_shape == (None, 8 // strides, 8 // strides, filters)
        sizes = [layer.kernel_size for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
        assert sorted(sizes) == sorted([(3, 3), (3, 3), *[(1, 1)] * projected])


@pytest.mark.parametrize("variant", experiment.VARIANTS)
def test_residual_networks_pass_the_signal_on_and_plain_ones_do_not(images, variant):
    """Whether images still tell in the logits when all blocks' kernels are zero: only an addition carries them past."""
    model = experiment.NETWORKS[variant](SHAPE, 10)
    blocks = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][1:]
    for layer in blocks:
        layer.kernel.assign(tf.zeros_like(layer.kernel))
    carried = float(np.ptp(np.asarray(model(images)), axis=0).max()) > 1e-3
    assert carried == variant.startswith("residual")


@pytest.mark.parametrize("variant", experiment.VARIANTS)
def test_depth_batchnorm_and_initializer_are_what_the_name_says(variant):
    model = experiment.NETWORKS[variant](SHAPE, 10)
    depth = {"shallow": 2, "middle": 6, "deep": 12}[variant.split("_")[1]]
    assert kinds(model).count("Conv2D") == 1 + depth
    assert kinds(model).count("BatchNormalization") == (depth if variant.endswith("norm") else 0)
    # Keras's initializer has the variance 2 / (inputs + outputs), He's 2 / inputs: of 9 · 24 inputs and outputs each.
    variance = np.mean([layer.kernel.numpy().var() for layer in model.layers if "conv2d" in layer.name][1:])
    assert variance == pytest.approx((2 if variant.endswith("he") else 1) / (9 * 24), rel=0.1)


def test_plain_and_residual_networks_differ_by_the_additions_alone():
    for name in ("shallow", "deep_norm", "deep"):
        plain, residual = (experiment.NETWORKS[f"{kind}_{name}"](SHAPE, 10) for kind in ("plain", "residual"))
        assert [kind for kind in kinds(residual) if kind != "Add"] == kinds(plain)
        assert plain.count_params() == residual.count_params()


def test_the_recipes_own_network_is_the_deep_residual_one_with_batchnorm():
    assert kinds(recipe.build_model(SHAPE, 10)) == kinds(experiment.NETWORKS["residual_deep_norm"](SHAPE, 10))
    assert experiment.RATES["residual_deep_norm"] == recipe.RATE


def test_one_model_takes_images_of_any_size():
    model = recipe.build_model((None, None, 3), 7, blocks=1)
    for size in (24, 32):
        assert model(np.zeros((2, size, size, 3), np.float32)).shape == (2, 7)
    claim = next(claim for claim in experiment.CLAIMS if claim.id == "B17")
    assert judge(claim, {}, 0).verdict == "contradicted"


def test_the_schedule_warms_up_from_above_zero_peaks_and_ends_at_zero():
    schedule = recipe.warmup_cosine(0.2, 100)
    rates = [float(schedule(step)) for step in range(101)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[10] == pytest.approx((0.01 + 0.2) / 2)
    assert max(rates) == pytest.approx(rates[20]) == pytest.approx(0.2)
    assert rates[60] == pytest.approx(0.1)  # Half of the cosine, and of its height.
    assert 0 < rates[99] < 0.001
    assert rates[100] == 0
    assert [float(recipe.warmup_cosine(0.2, steps)(0)) for steps in (1, 4, 9)] == pytest.approx([0.2] * 3)


# The experiment


def test_looking_at_gradients_changes_nothing():
    model = compiled(experiment.NETWORKS["residual_shallow_norm"](SHAPE, 10))
    before = [variable.numpy() for variable in model.variables]
    norms = experiment.gradient_norms(model, *SOME)
    assert len(norms) == 3  # The first convolution and two in one block.
    assert all(norm > 0 for norm in norms)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.variables, strict=True))


def test_a_gradient_norm_is_that_of_the_loss():
    """By differences: the loss of a step along the kernel's gradient falls by the square of its norm."""
    model = compiled(experiment.NETWORKS["residual_shallow"](SHAPE, 10))
    norm = experiment.gradient_norms(model, *SOME)[0]
    kernel = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)).kernel

    def loss():
        return model.compute_loss(y=SOME[1], y_pred=model(SOME[0], training=True))

    with tf.GradientTape() as tape:
        before = loss()
    step = 1e-3 / norm**2
    kernel.assign_sub(step * tape.gradient(before, kernel.value))
    assert float(before - loss()) / step == pytest.approx(norm**2, rel=0.05)


def test_the_norms_are_those_before_the_first_step():
    kept = {}
    run = SimpleNamespace(keep=kept.__setitem__, curves=kept)
    keras.utils.set_random_seed(3)
    wanted = experiment.gradient_norms(
        compiled(experiment.NETWORKS["plain_shallow"](SHAPE, 10)),
        DATA.train.images[: experiment.PROBE_IMAGES],
        DATA.train.labels[: experiment.PROBE_IMAGES],
    )
    keras.utils.set_random_seed(3)
    batches = tf.data.Dataset.from_tensor_slices(SOME).batch(32)
    train = experiment.VARIANTS["plain_shallow"]
    train(batches, batches, 10, epochs=1, callbacks=[experiment.AtStart(run, DATA)])
    assert kept["gradient_norms"] == pytest.approx(wanted)
    assert experiment.first_gradient(None, run, None) == {"log_first_gradient": pytest.approx(math.log(wanted[0]))}
    kept["gradient_norms"] = [0.0]  # All ReLUs are dead.
    assert experiment.first_gradient(None, run, None)["log_first_gradient"] == pytest.approx(math.log(1e-12))
