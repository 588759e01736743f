"""What is done to gradients is what the variant's name says, and every step's norm is noted before it is clipped."""

import math
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers

from lab.experiments import gradients as experiment
from lab.statistics import judge
from pipelines import sources
from recipes import gradients as recipe
from tests.conftest import ROOT

DATA = sources.load(sources.Request(train_images=500))
SLOPE = np.array([3.0, -4.0])  # The gradient of `linear`'s loss, of norm 5.


def batches(count: int = 10, size: int = 20) -> tf.data.Dataset:
    images, labels = DATA.train.images[: count * size], DATA.train.labels[: count * size]
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(size)


def train(variant: str, callbacks=(), **given) -> keras.Model:
    return experiment.VARIANTS[variant](batches(), batches(2), 10, epochs=2, callbacks=callbacks, **given)


def linear(optimizer) -> keras.Model:
    """A model of two weights, whose loss is 3 · first - 4 · second, and of a third one that the loss does not have."""
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Dense(1, use_bias=False)(inputs))
    model.unused = model.add_weight(shape=(3,))
    model.compile(optimizer, loss=lambda wanted, found: found)
    return model


def fit_linear(optimizer, steps: int = 1, callbacks=(), **settings) -> np.ndarray:
    """How far each step of one example moves the weights, float (steps, 2)."""
    model, seen = linear(optimizer), []
    look = lambda: seen.append(model.layers[-1].get_weights()[0].ravel())  # noqa: E731
    note = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: look(), on_train_batch_end=lambda batch, logs: look()
    )
    examples = tf.data.Dataset.from_tensors((SLOPE[None], np.zeros((1, 1)))).repeat(steps)
    model.fit(examples, verbose=0, callbacks=[note, *callbacks], **settings)
    return np.diff(seen, axis=0)


# Clipping


def test_clipping_shortens_what_is_too_long_and_nothing_else():
    for clip, length in ((2.0, 2.0), (6.0, 5.0), (None, 5.0)):
        (moved,) = fit_linear(optimizers.SGD(1.0, global_clipnorm=clip))
        assert moved == pytest.approx(-SLOPE * length / 5)


@pytest.mark.processes
def test_the_norm_is_that_of_all_weights_together_and_momentum_comes_after_it():
    optimizer = train("clipped").optimizer
    assert optimizer.global_clipnorm == recipe.CLIP
    assert optimizer.clipnorm is None
    assert optimizer.momentum == 0.9
    assert train("plain").optimizer.global_clipnorm is None


def test_rates_and_thresholds_are_the_variants_own():
    assert {name: one.keywords.get("clip") for name, one in experiment.VARIANTS.items() if one.keywords["clip"]} == {
        "clipped": recipe.CLIP,
        "clipped_often": 2.0,
        "fast_clipped_often": 1.5,
        "high_clipped_seldom": recipe.CLIP,
        "high_clipped_always": 0.16,
        "spoiled_clipped": recipe.CLIP,
        "deep_he_high_clipped": 0.05,
    }
    schedule = train("high").optimizer.get_config()["learning_rate"]["config"]
    assert schedule["initial_learning_rate"] == experiment.HIGH
    assert schedule["decay_steps"] == 20


# Norms


def test_norms_are_noted_before_they_are_clipped_and_in_each_fit_anew():
    norms = recipe.GradientNorms()
    fit_linear(optimizers.SGD(1.0, global_clipnorm=2.0), steps=3, callbacks=[norms], epochs=2)
    assert norms.norms == pytest.approx([5.0] * 6)
    assert norms.norms.dtype == np.float32


@pytest.mark.variants
def test_noting_norms_changes_no_weight_and_leaves_the_model_as_it_was():
    weights = []
    for callbacks in ([], [recipe.GradientNorms()]):
        keras.utils.set_random_seed(1)
        model = train("clipped", callbacks)
        weights.append(model.get_weights())
    assert all(np.array_equal(one, other) for one, other in zip(*weights, strict=True))
    norms = callbacks[0]
    assert norms.norms.shape == (20,)
    before = norms.norms.copy()
    model.fit(batches(), verbose=0, epochs=3)  # Longer than what was noted.
    assert int(model.optimizer.iterations) == 50
    assert np.array_equal(norms.norms, before)
    model.fit(batches(3), verbose=0, callbacks=[norms])
    assert norms.norms.shape == (3,)


def test_norms_end_where_a_training_stops():
    norms, stop = recipe.GradientNorms(), keras.callbacks.TerminateOnNaN()
    fit_linear(optimizers.SGD(1e38), steps=40, callbacks=[norms, stop])
    assert 1 <= len(norms.norms) < 40


def test_norms_are_those_of_the_loss_and_not_of_the_scaled_one(request):
    keras.config.set_dtype_policy("mixed_float16")
    request.addfinalizer(lambda: keras.config.set_dtype_policy("float32"))
    norms = recipe.GradientNorms()
    fit_linear(keras.optimizers.LossScaleOptimizer(optimizers.SGD(1e-3), initial_scale=256.0), 3, [norms])
    assert norms.norms == pytest.approx([5.0] * 3, rel=1e-3)


ON_TWO_DEVICES = """
import numpy as np, tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
from recipes.gradients import GradientNorms
draws = np.random.default_rng(0)
examples = draws.normal(size=(40, 3)), draws.normal(size=(40, 2))
both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
found = []
for strategy in (tf.distribute.get_strategy(), both):
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.1), loss="mse")
    def fit():
        norms = GradientNorms()
        model.fit(tf.data.Dataset.from_tensor_slices(examples).batch(8), epochs=2, verbose=0, callbacks=[norms])
        found.append(norms.norms)
    with strategy.scope():
        fit()
    fit()
assert both.num_replicas_in_sync == 2 and found[0].shape == (10,)
assert np.allclose(found[0], found[2], rtol=1e-4) and np.allclose(found[1], found[3], rtol=1e-4), found
"""


@pytest.mark.processes
def test_norms_on_two_devices_are_those_of_one():
    done = subprocess.run([sys.executable, "-c", ON_TWO_DEVICES], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


# Noise


def noises(steps: int = 3, noise: float = 0.5, size: int = 4000, **given) -> np.ndarray:
    """What a noisy optimizer adds to the gradients of zeros of two weights, float (steps, 2, size)."""
    weights = [keras.Variable(np.zeros(size)) for _ in range(3)]
    optimizer = recipe.NoisySGD(1.0, noise, **given)
    found = []
    for _ in range(steps):
        before = [weight.numpy() for weight in weights]
        optimizer.apply([tf.zeros(size), None, tf.zeros(size)], weights)
        found.append([was - weight.numpy() for was, weight in zip(before, weights, strict=True)])
    found = np.array(found)
    assert not found[:, 1].any()
    return found[:, [0, 2]]


def test_noise_is_as_strong_as_said_and_fades():
    found = noises(steps=101)
    assert found[0].std() == pytest.approx(0.5, rel=0.05)
    assert found[100].std() == pytest.approx(0.5 * 101**-0.275, rel=0.05)
    assert abs(found[0].mean()) < 0.05


def test_noise_is_another_one_for_each_weight_step_and_seed():
    def seeded(seed: int) -> np.ndarray:
        keras.utils.set_random_seed(seed)
        return noises(steps=2).reshape(4, -1)

    one, other = seeded(1), seeded(2)
    assert np.array_equal(one, seeded(1))
    assert abs(np.corrcoef([*one, *other]) - np.eye(8)).max() < 0.1


def test_noise_is_added_to_the_gradient_and_clipped_with_it():
    (moved,) = fit_linear(recipe.NoisySGD(1.0, noise=1e-4, seed=1))
    assert moved == pytest.approx(-SLOPE, abs=1e-3)
    assert (moved != -SLOPE).all()
    (moved,) = fit_linear(recipe.NoisySGD(1.0, noise=100.0, seed=1, global_clipnorm=2.0))
    assert np.linalg.norm(moved) <= 2.001


def test_noise_of_sparse_gradients():
    """An embedding's: only rows that were looked up have a gradient, all of them have noise."""
    model = keras.Sequential([keras.Input((1,)), layers.Embedding(50, 4), layers.Flatten(), layers.Dense(2)])
    model.compile(recipe.NoisySGD(1.0, noise=0.1, seed=1), loss="mse")
    before = model.get_weights()[0]
    model.fit(np.zeros((8, 1)), np.zeros((8, 2)), verbose=0)
    assert (model.get_weights()[0] != before).all()


def test_a_noisy_optimizer_comes_back_from_its_config():
    made = recipe.NoisySGD(0.1, noise=0.3, momentum=0.9, global_clipnorm=2.0)
    again = optimizers.deserialize(optimizers.serialize(made))
    assert isinstance(again, recipe.NoisySGD)
    assert (again.noise, again.seed, again.momentum, again.global_clipnorm) == (0.3, made.seed, 0.9, 2.0)


def test_the_noisy_variants_have_the_noise_that_their_names_say():
    deviations = {
        name: one.keywords["optimizer"].keywords["noise"]
        for name, one in experiment.VARIANTS.items()
        if "noise" in name
    }
    assert deviations == {
        "noise_faint": 0.01,
        "noise_weak": 0.1,
        "deep_noise_weak": 0.1,
    }


# The experiment


def test_one_batch_an_epoch_is_spoiled_and_the_others_are_not(monkeypatch):
    seen = []
    monkeypatch.setattr(recipe, "train", lambda train_set, *others, **given: seen.append((train_set, given)))
    experiment.train_on_spoiled(batches(5), batches(1), 10, clip=2.7, rate=0.01, epochs=3)
    ((train_set, given),) = seen
    assert (given["clip"], given["rate"], given["epochs"]) == (2.7, 0.01, 3)
    assert len(train_set) == 5
    for _ in range(2):  # Epochs.
        for number, (spoiled, clean) in enumerate(zip(train_set, batches(5), strict=True)):
            factor = 257.0 if number == 2 else 1.0
            assert np.array_equal(spoiled[0], clean[0].numpy() * np.float32(factor))
            assert np.array_equal(spoiled[1], clean[1])


@pytest.mark.variants
def test_a_nudge_is_kept_where_the_loss_falls_and_taken_back_where_it_does_not():
    inputs = keras.Input((2,))
    model = experiment.Nudged(inputs, layers.Dense(1, use_bias=False)(inputs))
    model.compile(optimizers.SGD(0.1), loss=lambda wanted, found: found)
    weights = [model.get_weights()[0].ravel()]
    for _ in range(40):
        model.fit(SLOPE[None], np.zeros((1, 1)), verbose=0)
        weights.append(model.get_weights()[0].ravel())
    moved = np.diff(weights, axis=0)
    stayed = (abs(moved) < 1e-5).all(axis=1)  # But for rounding.
    assert 5 < stayed.sum() < 35
    assert (moved[~stayed] @ SLOPE < 0).all()
    assert moved[~stayed].std() == pytest.approx(0.1, rel=0.5)
    assert int(model.optimizer.iterations) == 40


def test_the_loss_of_a_nudged_training_is_that_over_images():
    """Of batches of sixteen images and of two."""
    keras.utils.set_random_seed(1)
    images, labels = DATA.train.images[:18], DATA.train.labels[:18]
    model = experiment.build_nudged((32, 32, 3), 10)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.SGD(0.0), loss, metrics=["accuracy"])
    wanted = model.evaluate(images, labels, verbose=0, return_dict=True)
    history = model.fit(images, labels, batch_size=16, verbose=0).history
    assert {name: values[0] for name, values in history.items()} == pytest.approx(wanted, rel=1e-5)


def test_backpropagation_equals_differences_and_a_wrong_gradient_does_not(monkeypatch):
    claim = next(claim for claim in experiment.CLAIMS if claim.id == "B16")
    assert judge(claim, {}, 0).verdict == "supported"
    real = tf.GradientTape.gradient
    monkeypatch.setattr(tf.GradientTape, "gradient", lambda *given: [1.001 * gradient for gradient in real(*given)])
    experiment.backpropagation_equals_differences.cache_clear()
    assert not experiment.backpropagation_equals_differences()
    experiment.backpropagation_equals_differences.cache_clear()
    assert keras.config.dtype_policy().name == "float32"


def noted(norms, clip=None, rate=0.5, steps=4, diverged=False) -> tuple[dict, dict]:
    """What the experiment says of a training with these norms, and the curves that it keeps."""
    schedule = optimizers.schedules.CosineDecay(rate, steps)
    model = SimpleNamespace(optimizer=optimizers.SGD(schedule, global_clipnorm=clip))
    kept = {}
    run = SimpleNamespace(norms=SimpleNamespace(norms=np.array(norms)), keep=kept.__setitem__, diverged=diverged)
    return experiment.steps(model, run, None), kept


def test_shares_and_lengths_of_steps_by_hand():
    rates = [0.5, 0.25 * (1 + math.sqrt(0.5)), 0.25, 0.25 * (1 - math.sqrt(0.5))]
    found, kept = noted([1.0, 3.0, 2.0, 4.0], clip=2.5)
    lengths = [rate * norm for rate, norm in zip(rates, [1.0, 2.5, 2.0, 2.5], strict=True)]
    assert found == {"clipped": 0.5, "log_step": pytest.approx(math.log(sum(lengths) / 4))}
    assert sum(kept["share_of_steps"]) == pytest.approx(1.0)
    assert len(kept["norm"]) == len(kept["share_of_steps"]) == 40
    assert [norm for norm, share in zip(kept["norm"], kept["share_of_steps"], strict=True) if share] == pytest.approx(
        [1.0, 2.0, 3.0, 4.0], rel=0.13
    )
    assert noted([1.0, 3.0, 2.0, 4.0])[0]["clipped"] == 0
    assert noted([1.0, math.nan, math.inf])[0]["log_step"] == pytest.approx(math.log(0.5))
    assert noted([math.nan]) == noted([1.0, 1e30], diverged=True) == ({}, {})


@pytest.mark.variants
def test_clipping_most_steps_and_the_rate_that_it_is_compared_with_make_steps_of_the_same_length():
    """On few images: as published, the record says it."""
    found = {}
    for variant in ("clipped_often", "lower_rate", "fast_clipped_often", "fast_lower_rate"):
        keras.utils.set_random_seed(1)
        run = SimpleNamespace(keep=lambda *values: None, diverged=False)
        model = train(variant, experiment.note_norms(run, None))
        found[variant] = experiment.steps(model, run, None)
    for often, lower in (("clipped_often", "lower_rate"), ("fast_clipped_often", "fast_lower_rate")):
        assert found[often]["clipped"] > 0.5
        assert found[lower]["clipped"] == 0
        assert found[often]["log_step"] == pytest.approx(found[lower]["log_step"], abs=0.25)
