"""Batches are as large as the names say, rates and steps belong to them, and gradients agree as arithmetic has it."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.experiments import batch_size as experiment
from pipelines import batches, sources
from recipes import batch_size as recipe

DATA = sources.load(sources.Request(train_images=1000))
SHAPE = (32, 32, 3)


@pytest.fixture
def fits(monkeypatch):
    """The calls of `fit`, which train nothing: model, number of batches, arguments."""
    calls = []
    monkeypatch.setattr(keras.Model, "fit", lambda model, feed, **how: calls.append((model, len(feed), how)))
    return calls


def rates_of(model, *steps) -> list[float]:
    return [float(model.optimizer._learning_rate(step)) for step in steps]


# The recipe


def test_rates_are_scaled_in_proportion_or_by_the_square_root():
    assert recipe.scaled_rate(0.1, 256) == pytest.approx(0.4)
    assert recipe.scaled_rate(0.1, 256, power=0.5) == pytest.approx(0.2)
    assert recipe.scaled_rate(0.1, 16, of=32) == pytest.approx(0.05)


def linear_model(weights: list[float]) -> keras.Model:
    """A model without an activation, whose loss is the mean of its answers times the labels."""
    images = keras.Input((1, 1, len(weights)))
    model = keras.Model(images, keras.layers.Dense(1, use_bias=False)(keras.layers.Flatten()(images)))
    model.compile(loss=lambda labels, answers: tf.cast(labels, tf.float32)[:, None] * answers)
    model.set_weights([np.array(weights)[:, None]])
    return model


def test_agreement_is_the_mean_cosine_with_the_full_gradient():
    """By hand: gradients of single images are (1, 0) and (0, 1), and the full one lies between them."""
    images = np.array([[1.0, 0.0], [0.0, 1.0]] * 4).reshape(8, 1, 1, 2).astype("float32")
    model = linear_model([0.3, 0.7])
    labels = np.ones(8, np.int32)
    assert recipe.agreement(model, images, labels, 1) == pytest.approx(math.sqrt(0.5))
    assert recipe.agreement(model, images, labels, 2) == pytest.approx(1)
    opposed = np.array([1, 1, 1, 1, 1, 1, -1, -1], np.int32)
    assert recipe.agreement(model, images, opposed, 2) == pytest.approx((3 - 1) / 4)


@pytest.mark.processes
def test_a_larger_batch_agrees_more():
    keras.utils.set_random_seed(1)
    model = recipe.build_model(SHAPE, 10)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    some = DATA.train.images[:256].astype("float32"), DATA.train.labels[:256]
    found = [recipe.agreement(model, *some, size) for size in (2, 16, 64, 256)]
    assert found == sorted(found)
    assert found[0] < 0.5 < found[2] < found[3] == pytest.approx(1, abs=1e-5)


def test_the_schedule_ends_with_the_last_batch_whatever_is_accumulated(fits):
    feed = batches.training(DATA.train, 100, seed=1, augment=False)  # Ten batches.
    for accumulate in (None, 4):
        model = recipe.train(feed, None, 10, rate=0.2, accumulate=accumulate, epochs=3)
        assert rates_of(model, 6, 30) == pytest.approx([0.2, 0.0], abs=1e-6)
        assert model.optimizer.gradient_accumulation_steps == accumulate


def test_a_number_of_steps_takes_the_place_of_the_epochs(fits):
    feed = batches.training(DATA.train, 100, seed=1, augment=False)
    model = recipe.train(feed, None, 10, rate=0.2, steps=25, epochs=3)
    ((_, length, how),) = fits
    assert (length, how["epochs"]) == (25, 1)
    assert rates_of(model, 5, 25) == pytest.approx([0.2, 0.0], abs=1e-6)


@pytest.mark.parametrize(("rmsprop", "kind"), [(False, keras.optimizers.SGD), (True, keras.optimizers.RMSprop)])
def test_the_optimizer_is_the_one_asked_for(fits, rmsprop, kind):
    model = recipe.train(batches.training(DATA.train, 100, seed=1), None, 10, rmsprop=rmsprop)
    assert type(model.optimizer) is kind
    assert model.optimizer.momentum == (0.0 if rmsprop else 0.9)


def test_four_accumulated_batches_move_the_weights_once_and_as_one_does():
    """At a rate that both see: the schedule is at its peak in the middle of the training."""
    images, labels = DATA.train.images[:128].astype("float32"), DATA.train.labels[:128]
    moved = []
    for size, accumulate in ((128, None), (32, 4)):
        keras.utils.set_random_seed(1)
        model = recipe.build_model(SHAPE, 10)
        before = model.get_weights()
        model.compile(
            keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, gradient_accumulation_steps=accumulate),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.fit(tf.data.Dataset.from_tensor_slices((images, labels)).batch(size), verbose=0)
        moved.append(
            np.concatenate([np.ravel(now - was) for now, was in zip(model.get_weights(), before, strict=True)])
        )
    assert np.abs(moved[0]).max() > 1e-3
    assert moved[1] == pytest.approx(moved[0], abs=1e-5)


# The experiment


class Fake:
    seed, data = 301, sources.Request(train_images=1000)

    def __init__(self):
        self.timed = None

    def callbacks(self, data):
        return []

    def scores(self, model, data):
        return {"test_accuracy": 0.5}

    def interleaved(self, steps, **shape):
        self.timed = list(steps), shape
        return type("Blocks", (), {"step_seconds": lambda _, name: 0.001 * experiment.TIMED[name]})()


@pytest.fixture
def asked(monkeypatch):
    """What each variant's function was given: its batch size and arguments."""
    given = {}

    def of(name, variant):
        def train(train_set, validation_set, classes, **how):
            given[name] = train_set.element_spec[0].shape[0], {**variant.keywords, **how}
            return name

        return train

    made = {name: of(name, variant) for name, variant in experiment.VARIANTS.items() if variant}
    monkeypatch.setattr(experiment, "VARIANTS", {**experiment.VARIANTS, **made})
    return given


def test_each_variant_has_the_batches_rate_and_steps_of_its_name(asked):
    config = experiment.EXPERIMENT.config()
    trained = [name for name in experiment.OWN_SIZES if not name.endswith("1024")]
    for name in trained:
        assert experiment.compare(config, {name: Fake()}) == {name: {"test_accuracy": 0.5}}
        size, how = asked[name]
        assert size == int(name.rpartition("_")[2])
        assert how.get("steps") == (625 if name.startswith("as_many_steps") else None)
        assert how.get("rmsprop", False) == name.startswith("rmsprop")
        assert how.get("accumulate") == (4 if name == "accumulated_64" else None)
        wanted = experiment.RATES["own_rate_64"] if name.startswith("one_rate") else experiment.RATES[name]
        assert (how["rate"], how["epochs"]) == (wanted, 5)
    assert len({experiment.RATES[f"own_rate_{size}"] for size in experiment.SIZES}) == 4


def test_what_flags_say_takes_the_place_of_a_variants_own(asked):
    experiment.compare(experiment.EXPERIMENT.config(rate=0.7, largest=32, epochs=2), {"own_rate_64": Fake()})
    size, how = asked["own_rate_64"]
    assert (size, how["rate"], how["epochs"]) == (32, 0.7, 2)
    experiment.compare(experiment.EXPERIMENT.config(largest=64), {"own_rate_256": Fake()})
    size, how = asked["own_rate_256"]
    assert (size, how["rate"]) == (64, pytest.approx(experiment.RATES["own_rate_256"] / 2))


def test_gradients_are_looked_at_after_one_epoch_in_batches_of_64(asked, monkeypatch):
    looked = []
    monkeypatch.setattr(
        recipe, "agreement", lambda model, images, labels, size: looked.append((model, len(labels), size)) or 0.4
    )
    found = experiment.compare(experiment.EXPERIMENT.config(), {"gradients_of_16": Fake()})
    assert found == {"gradients_of_16": {"agreement": 0.4}}
    assert looked == [("own_rate_64", 1000, 16)]
    assert asked["own_rate_64"][0] == 64
    assert asked["own_rate_64"][1]["epochs"] == 1


def test_steps_are_timed_for_each_image_and_their_memory_is_measured(asked, monkeypatch):
    monkeypatch.setattr(experiment, "build_step", lambda *_: None)
    monkeypatch.setattr(experiment, "memory_of", lambda step, size, *_: float(size))
    first = Fake()
    runs = {"step_of_63": first, "step_of_64": Fake(), "step_of_1024": Fake()}
    found = experiment.compare(experiment.EXPERIMENT.config(), runs)
    assert first.timed == (list(runs), {"block": 110})
    assert all(metrics["image_us"] == pytest.approx(1000) for metrics in found.values())
    assert "memory" not in found["step_of_63"]
    assert found["step_of_1024"]["log_memory"] == pytest.approx(math.log(1024))
    assert "memory" not in experiment.compare(experiment.EXPERIMENT.config(memory=0), runs)["step_of_64"]
    assert asked == {}


def test_a_timed_step_trains_on_batches_of_its_size():
    step = experiment.build_step(60, SHAPE, 10)
    assert step.args[0].shape == (60, *SHAPE)
    losses = [float(step()) for _ in range(20)]
    assert losses[-1] < losses[0]


def test_all_trained_variants_run_apart_and_all_timed_ones_together():
    apart = {name for name in experiment.VARIANTS if experiment.EXPERIMENT.runs_apart(name)}
    assert apart == {*experiment.OWN_SIZES, *experiment.AGREEING}
    assert {name for name in experiment.VARIANTS if name not in apart} == set(experiment.TIMED)
