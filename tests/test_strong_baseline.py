"""The parts of the strong baseline do what they say, and each variant changes one thing."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from lab import settings
from lab.core.run import Run
from lab.experiments import NAMES, load
from lab.experiments import strong_baseline as experiment
from pipelines import sources
from recipes import strong_baseline as recipe
from recipes.optimizers import ConvMuon

DATA = sources.load(sources.Request(train_images=1000))
EXPERIMENT = experiment.EXPERIMENT


def few(count=60) -> tf.data.Dataset:
    chosen = DATA.train.take(np.arange(count))
    return tf.data.Dataset.from_tensor_slices((chosen.images.astype("float32"), chosen.labels)).batch(20)


# FusedBatchNorm


def both_norms(dtype="float32", **how):
    made = [
        kind(momentum=0.6, epsilon=1e-5, dtype=dtype, **how)
        for kind in (recipe.FusedBatchNorm, layers.BatchNormalization)
    ]
    for layer in made:
        layer.build((None, 4, 4, 8))
        if layer.gamma is not None:
            layer.gamma.assign(np.linspace(0.5, 2, 8))
        layer.beta.assign(np.linspace(-1, 1, 8))
    return made


@pytest.mark.parametrize("scale", [False, True])
def test_the_fused_norm_answers_learns_and_counts_as_keras_does(scale):
    x = tf.constant(np.random.default_rng(1).normal(3, 2, (50, 4, 4, 8)), tf.float32)
    found = []
    for norm in both_norms(scale=scale):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(norm(x, training=True)) * x)
        weights = norm.trainable_variables
        gradients = tape.gradient(loss, [x, *[weight.value for weight in weights]])
        found.append(
            [norm(x, training=True), norm(x, training=False), *gradients, norm.moving_mean, norm.moving_variance]
        )
    assert len(found[0]) == 6 + scale
    for ours, keras_own in zip(*found, strict=True):  # Its variance is n / (n - 1) of Keras's.
        np.testing.assert_allclose(ours, keras_own, rtol=3e-3, atol=3e-3)


def test_the_fused_norm_reads_bfloat16_and_keeps_its_statistics_in_float32():
    norm, _ = both_norms("mixed_bfloat16", scale=False)
    x = tf.cast(np.random.default_rng(1).normal(3, 2, (50, 4, 4, 8)), tf.bfloat16)
    assert norm(x, training=True).dtype == tf.bfloat16
    assert {weight.dtype for weight in norm.weights} == {"float32"}
    np.testing.assert_allclose(norm.moving_mean, 0.4 * np.mean(tf.cast(x, tf.float32), (0, 1, 2)), rtol=1e-2)


def test_a_frozen_fused_norm_uses_its_moving_statistics():
    norm, keras_own = both_norms(scale=False)
    x = tf.random.normal((9, 4, 4, 8))
    for layer in (norm, keras_own):
        layer.trainable = False
    np.testing.assert_allclose(norm(x, training=True), keras_own(x, training=True), rtol=1e-4, atol=1e-5)
    assert np.all(norm.moving_mean.numpy() == 0)


# Whitening and flips


def test_whitened_patches_are_uncorrelated():
    images = DATA.train.images[:500].astype("float32") / 64 - 2
    labels = DATA.train.labels[:500]
    kernel = recipe.whitening(tf.data.Dataset.from_tensor_slices((DATA.train.images[:500], labels)).batch(100), 0.0)
    assert kernel.shape == (2, 2, 3, 24)
    answers = np.reshape(tf.nn.conv2d(images, kernel, 1, "VALID"), (-1, 24))
    np.testing.assert_allclose(answers[:, :12].T @ answers[:, :12] / len(answers), np.eye(12), atol=0.02)
    np.testing.assert_array_equal(kernel[..., 12:], -kernel[..., :12])


def test_its_muon_makes_the_steps_of_kerass():
    rows = np.random.default_rng(1).normal(size=(3, 3, 5, 24)).astype("float32")
    for x in (rows, rows[..., :3], rows[0, 0], rows[0, 0].T):
        ours, theirs = (kind().zeropower_via_newtonschulz5(tf.constant(x), 5) for kind in (recipe.GramMuon, ConvMuon))
        np.testing.assert_allclose(ours, theirs, atol=3e-4)  # Rounding; of tall matrices it is 1e-6.


@pytest.mark.variants
def test_training_leaves_the_whitening_as_it_was_set_and_so_the_policy_of_the_process():
    model = recipe.train(few(), None, 10, epochs=2, width=0.125)
    net = model.layers[-1].layer
    np.testing.assert_allclose(net.get_layer("whitening").kernel, recipe.whitening(few()), rtol=1e-4, atol=1e-4)
    assert keras.config.dtype_policy().name == "float32"
    assert net.layers[4].compute_dtype == "bfloat16"
    assert model.predict(few(), verbose=0).dtype == np.float32


def test_an_image_and_its_mirror_image_get_the_same_answer_outside_training():
    net = recipe.build_model((32, 32, 3), 10)
    model = recipe.FlipAveraged(net)
    images = tf.constant(DATA.train.images[:5], tf.float32)
    mirrored = images[:, :, ::-1]
    np.testing.assert_allclose(model(images), (net(images) + net(mirrored)) / 2, rtol=1e-5)
    np.testing.assert_allclose(model(images), model(mirrored), rtol=1e-5)
    assert not np.allclose(net(images), net(mirrored), atol=1e-3)
    np.testing.assert_allclose(model(images, training=True), net(images, training=True), rtol=1e-5)


# Training


@pytest.fixture
def seen(monkeypatch):
    """What `fit` was called with, and the model, of each training."""
    calls = []

    def fit(model, feed, **how):
        calls.append((model, feed, how))
        return keras.callbacks.History()

    monkeypatch.setattr(keras.Model, "fit", fit)
    return calls


def test_augmentation_mirrors_and_shifts_by_whole_pixels(seen):
    model = recipe.train(few(), None, 10, epochs=1, shift=2)
    augment = keras.Sequential([keras.Input((32, 32, 3)), *model.layers[:-1]])
    image = DATA.train.images[:1].astype("float32")
    padded = np.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="symmetric")
    shift_of = {
        side.tobytes(): (down, right)
        for down in range(5)
        for right in range(5)
        for crop in [padded[0, down : down + 32, right : right + 32]]
        for side in (crop.copy(), crop[:, ::-1].copy())
    }
    made = [np.asarray(one).tobytes() for one in augment(np.repeat(image, 1000, axis=0), training=True)]
    assert set(made) <= set(shift_of)
    assert len(set(made)) > 45
    for axis in (0, 1):  # All shifts are equally likely: a fifth each.
        outermost = np.mean([shift_of[one][axis] in (0, 4) for one in made])
        assert 0.33 < outermost < 0.47
    np.testing.assert_array_equal(augment(image, training=False), image)


def test_without_mirroring_nothing_is_flipped_and_nothing_averaged(seen):
    model = recipe.train(few(), None, 10, epochs=1, mirror=False, shift=0)
    assert len(model.layers) == 1
    assert not isinstance(model.layers[-1], recipe.FlipAveraged)


def test_a_model_of_your_own_needs_no_whitening():
    def build_model(shape, classes):
        return keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(classes)])

    model = recipe.train(few(), few(), 10, epochs=1, build_model=build_model)
    assert model.predict(few(), verbose=0).shape == (60, 10)


def test_the_width_multiplies_all_filters():
    filters = [
        [
            layer.filters
            for layer in recipe.build_model((32, 32, 3), 10, width).layers
            if isinstance(layer, layers.Conv2D)
        ]
        for width in (0.5, 1.0)
    ]
    assert filters == [[24, 32, 32, 128, 128, 128, 128, 128], [24, 64, 64, 256, 256, 256, 256, 256]]


# The experiment


def trained(variant, seen, **config):
    run = Run(
        variant,
        7,
        sources.Request(train_images=1000, split_seed=7),
        EXPERIMENT.config(**{"epochs": 1, "batch_size": 50, **config}),
        None,
    )
    run.bound = EXPERIMENT.bound(variant, run.config)
    keras.utils.set_random_seed(1)
    bound = functools.partial(run.bound, callbacks=[])
    bound(few(), few(), 10)
    return seen[-1]


EXPECTED = {
    "adamw": lambda model: type(model.optimizer) is keras.optimizers.AdamW,
    "nesterov": lambda model: type(model.optimizer) is keras.optimizers.SGD and model.optimizer.nesterov,
    "constant": lambda model: isinstance(model.optimizer._learning_rate, keras.Variable) and is_muon(model),
    "exponential": lambda model: (
        isinstance(model.optimizer._learning_rate, keras.optimizers.schedules.ExponentialDecay) and is_muon(model)
    ),
    "no_augmentation": lambda model: len(model.layers) == 1,
    "no_flips": lambda model: [type(layer) for layer in model.layers[:-1]] == [layers.RandomTranslation],
    "cutout": lambda model: isinstance(model.layers[-2], layers.RandomErasing),
    "mixup": lambda model: type(model.loss) is keras.losses.CategoricalCrossentropy,
    "no_smoothing": lambda model: model.loss.label_smoothing == 0,
    "no_decay": lambda model: not model.optimizer.weight_decay,
    "averaged": lambda model: model.optimizer.use_ema and is_muon(model),
    "dropout": lambda model: (
        getattr(net_of(model).layers[-2], "rate", 0) == experiment.VARIANTS["dropout"].keywords["strength"]
    ),
    "l2": lambda model: not model.optimizer.weight_decay and len(model.losses) == len(model.trainable_variables),
    "layer_norm": lambda model: any(isinstance(layer, layers.LayerNormalization) for layer in net_of(model).layers),
    "silu": lambda model: (
        {layer.activation.__name__ for layer in net_of(model).layers if isinstance(layer, layers.Activation)}
        == {"silu"}
    ),
}


@functools.cache
def usual():
    """The settings of the recipe's own optimizer."""
    return recipe.train(few(), None, 10, epochs=1).optimizer.get_config()


def is_muon(model):
    """Whether the optimizer is the baseline's, but for its schedule, averaging and the strength of its decay."""
    mine = model.optimizer.get_config()
    but = {"learning_rate", "use_ema", "ema_momentum", "name", "weight_decay", "adam_weight_decay"}
    same = {k: v for k, v in mine.items() if k not in but} == {k: v for k, v in usual().items() if k not in but}
    return same and mine["weight_decay"] == mine["adam_weight_decay"] > 0


def net_of(model):
    return getattr(model.layers[-1], "layer", model.layers[-1])


@pytest.fixture(scope="module")
def baseline():
    with pytest.MonkeyPatch.context() as patched:
        calls = []
        patched.setattr(keras.Model, "fit", lambda *given, **how: calls.append((*given, how)))
        return trained("baseline", calls)[0]


@pytest.mark.parametrize("variant", EXPECTED)
def test_each_variant_has_its_change_and_the_baseline_has_none(variant, seen, baseline):
    model, *_ = trained(variant, seen)
    assert EXPECTED[variant](model)
    assert not EXPECTED[variant](baseline)


def test_the_other_variants_differ_from_the_baseline_by_their_flags():
    assert EXPERIMENT.own_flags == {"half_of_the_images": {"images": 25_000}, "batch_1024": {"batch_size": 1024}}
    assert set(EXPERIMENT.names) == {"baseline", "half_of_the_images", "batch_1024", *EXPECTED}
    assert experiment.VARIANTS["half_of_the_images"].keywords["epochs"] == 2 * experiment.EPOCHS


def test_exponential_decay_ends_at_its_share_of_the_rate(seen):
    model, *_ = trained("exponential", seen, rate=0.5, strength=0.1)
    rates = [float(model.optimizer._learning_rate(step)) for step in (0, 3)]
    assert rates == pytest.approx([0.5, 0.05])


def test_mixup_mixes_images_and_labels_by_the_same_weights(seen):
    _, feed, how = trained("mixup", seen, strength=1.0)
    images, labels = next(iter(feed))
    originals, classes = next(iter(few()))
    np.testing.assert_allclose(np.sum(labels, axis=1), 1, rtol=1e-5)
    mixed = np.flatnonzero(np.count_nonzero(labels, axis=1) == 2)
    assert len(mixed) > 5
    for place in mixed[:5]:
        weight = labels[place, classes[place]]
        other = [
            k
            for k in range(20)
            if np.allclose(images[place], weight * originals[place] + (1 - weight) * originals[k], atol=0.1)
        ]
        assert len(other) == 1
        assert classes[other[0]] == next(k for k in np.flatnonzero(labels[place]) if k != classes[place])
    assert next(iter(how["validation_data"]))[1].shape == (20, 10)


@pytest.mark.parametrize(("held_out", "count"), [(0, 1000 + 2000), (1, 1000)])
def test_validation_images_are_trained_on_unless_they_are_held_out(monkeypatch, held_out, count):
    given = {}

    def train(train_set, validation_set, classes, callbacks):
        given.update(train=train_set, validation=validation_set)
        raise StopIteration

    config = EXPERIMENT.config(batch_size=50, held_out=held_out)
    run = Run("baseline", 7, sources.Request(train_images=1000, split_seed=7), config, None)
    run.bound = train
    with pytest.raises(StopIteration):
        experiment.on_all_images("baseline", config, run)
    assert len(given["train"]) * 50 == count
    assert (given["validation"] is None) == (not held_out)
    data = sources.load(run.data)
    images = np.concatenate([images for images, _ in given["train"]])
    known = {image.tobytes() for image in data.train.images} | (
        set() if held_out else {image.tobytes() for image in data.validation.images}
    )
    unchanged = {image.tobytes() for image in images} == known  # Every image once.
    assert unchanged  # Pytest would take many minutes to show how two sets of so many bytes differ.


def test_fewer_images_are_drawn_from_all(monkeypatch):
    given = []
    config = EXPERIMENT.config(batch_size=50, images=500)
    run = Run("half_of_the_images", 7, sources.Request(train_images=1000, split_seed=7), config, None)

    def train(train_set, *_, callbacks):
        given.append(np.concatenate([labels for _, labels in train_set]))
        raise StopIteration

    run.bound = train
    with pytest.raises(StopIteration):
        experiment.on_all_images("half_of_the_images", config, run)
    assert len(given[0]) == 500


def test_it_trains_on_all_of_cifar10_but_at_smoke():
    found = {budget: settings.images_of(budget, EXPERIMENT) for budget in ("smoke", "quick", "full")}
    assert {budget: images.source for budget, images in found.items()} == {
        "smoke": "subset",
        "quick": "full",
        "full": "full",
    }
    assert found["quick"].train_images is None
    assert settings.images_of("quick", EXPERIMENT, "subset").source == "subset"
    assert settings.images_of("quick", load("sequential")).source == "subset"


def test_a_claim_and_its_counterpart_point_the_same_way():
    """Else an effect of the same sign would speak against one of them."""
    there = {claim.id: claim for claim in EXPERIMENT.claims}
    for claim in (claim for name in NAMES for claim in load(name).claims if claim.strong):
        other = there[claim.strong]
        assert (claim.kind, claim.side, bool(claim.lower)) == (other.kind, other.side, bool(other.lower)), claim.id
