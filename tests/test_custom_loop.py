"""Loops of one's own and `fit` train the same model, and are logged alike."""

import os
import signal
import time
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab import Run, memory_of
from lab.execute import subprocesses
from lab.experiments import custom_loop as experiment
from pipelines import batches, sources
from recipes import custom_loop as recipe

REQUEST = sources.Request(train_images=1000)
DATA = sources.load(REQUEST)
STEPS = 20


def trained(variant: str, batch_size: int = 16, parts: int = 4, steps: int = STEPS) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = recipe.build_model(variant, DATA)
    feed = batches.training(DATA.train, batch_size, seed=1).take(steps)
    recipe.build_epoch(variant, model, parts)(feed)
    return model


@pytest.fixture(scope="module")
def by_fit() -> np.ndarray:
    return experiment.weights_after("fit", recipe.Config(same_steps=STEPS), "float64", 1, DATA)


@pytest.mark.parametrize("variant", [name for name in experiment.VARIANTS if name != "fit"])
def test_twenty_steps_lead_to_the_weights_of_fit(by_fit, variant):
    start = experiment.weights_after("fit", recipe.Config(same_steps=1), "float64", 1, DATA)
    assert np.linalg.norm(by_fit - start) > 0.1
    weights = experiment.weights_after(variant, recipe.Config(same_steps=STEPS), "float64", 1, DATA)
    assert weights.dtype == np.float64
    assert np.linalg.norm(weights - by_fit) < 1e-8 * np.linalg.norm(by_fit)
    assert keras.config.floatx() == "float32"


@pytest.mark.parametrize("variant", ["eager", "by_hand", "accumulated"])
def test_three_steps_in_float32_lead_to_the_weights_of_fit_to_rounding(variant):
    config = recipe.Config(same_steps=3)
    weights = [experiment.weights_after(name, config, "float32", 1, DATA) for name in ("fit", variant)]
    assert np.abs(weights[0] - weights[1]).max() < 1e-6


def test_metrics_of_an_epoch_are_those_of_fit():
    found = {}
    for variant in ("fit", "by_hand", "compiled", "accumulated", "eager"):
        model = trained(variant, batch_size=18, steps=5)  # No multiple of the parts.
        found[variant] = {name: float(value) for name, value in model.get_metrics_result().items()}
    for variant, values in found.items():
        assert values == pytest.approx(found["fit"], abs=1e-5), variant


@pytest.mark.parametrize("size", [8, 10, 3])
def test_parts_are_small_and_one_update_uses_them_all(size):
    model, sizes = recipe.build_model("accumulated", DATA), []

    def gradients(_, images, labels):
        sizes.append(len(images))
        return [tf.ones(weight.shape) * float(tf.reduce_mean(labels)) for weight in model.trainable_variables]

    before = model.trainable_variables[-1].numpy()
    labels = tf.range(size, dtype=tf.float32)
    recipe.step_in_parts(gradients, 4, model, tf.zeros((size, 32, 32, 3), tf.uint8), labels)
    assert sizes == {8: [2, 2, 2, 2], 10: [3, 3, 2, 2], 3: [1, 1, 1]}[size]
    assert int(model.optimizer.iterations) == 1
    moved = before - model.trainable_variables[-1].numpy()
    assert np.allclose(moved, 0.02 * float(tf.reduce_mean(labels)))  # The rate times the whole batch's mean.


def test_what_is_compiled_is_what_the_name_says(monkeypatch):
    calls = []
    real = recipe.gradients_of
    monkeypatch.setattr(recipe, "gradients_of", lambda *batch: calls.append(1) or real(*batch))
    counts = {}
    for variant in ("eager", "by_hand", "compiled"):
        calls.clear()
        trained(variant)
        counts[variant] = len(calls)
    assert counts["eager"] == STEPS  # Python runs each step.
    assert counts["by_hand"] <= 3  # It is traced, and then no more.
    assert counts["compiled"] <= 3
    in_python, walk = [], tf.data.Dataset.__iter__
    monkeypatch.setattr(tf.data.Dataset, "__iter__", lambda feed: in_python.append(1) or walk(feed))
    for variant, loops in (("eager", 1), ("by_hand", 1), ("compiled", 0)):
        in_python.clear()
        trained(variant)
        assert len(in_python) == loops, variant  # Compiled is the loop over the batches as well.
    assert recipe.build_model("fit_16", DATA).steps_per_execution == 16
    assert recipe.build_model("fit", DATA).steps_per_execution == 1
    assert isinstance(recipe.build_model("train_step", DATA), recipe.OwnStep)
    assert not isinstance(recipe.build_model("fit", DATA), recipe.OwnStep)


@pytest.mark.variants
def test_every_variant_is_logged_and_scored(tmp_path):
    config = recipe.Config(epochs=2, batch_size=50)
    curves = {}
    for variant in experiment.VARIANTS:
        (tmp_path / variant).mkdir()
        run = Run(variant, 1, REQUEST, config, tmp_path / variant)
        recipe.train(variant, config, run, DATA)
        curves[variant] = run.curves
    for variant, found in curves.items():
        assert found.keys() == curves["fit"].keys()
        for name, values in found.items():
            assert values == pytest.approx(curves["fit"][name], abs=1e-2), (variant, name)


@pytest.mark.processes
def test_memory_is_that_of_the_call_alone():
    mib = memory_of(hold, 100)
    assert 99 <= mib <= 130
    assert memory_of(hold, 10) < 40
    with pytest.raises(RuntimeError, match=r"memory could not be measured: .* failed: ZeroDivisionError"):
        memory_of(hold, 0)


def killed():
    """A call that ends as one for which there is no memory."""
    return lambda: os.kill(os.getpid(), signal.SIGKILL)


def sleeping():
    return lambda: time.sleep(60)


@pytest.mark.processes
def test_a_process_that_is_ended_is_said_to_be(monkeypatch):
    with pytest.raises(RuntimeError, match="was ended by signal 9"):
        memory_of(killed)
    monkeypatch.setattr(subprocesses, "MEMORY_SECONDS", 1)
    with pytest.raises(RuntimeError, match="took longer than 1 s"):
        memory_of(sleeping)


def hold(mib: int):
    """A call that holds `mib` MiB for a while; what is held before it is not counted."""
    kept = np.ones((200, 2**17))  # 200 MiB, which stay.
    return lambda: (1 / mib, np.ones((mib, 2**17)).sum() + kept[0, 0])


@pytest.mark.processes
def test_parts_take_less_memory():
    size = (512, 8, [32, 32, 3], 10)
    assert memory_of(experiment.five_steps, "accumulated", *size) < 0.8 * memory_of(experiment.five_steps, "fit", *size)


def test_each_number_is_its_own_variants(monkeypatch):
    """What `compare` does with what it measures, by numbers that tell variants and precisions apart."""
    order = {name: number for number, name in enumerate(experiment.VARIANTS)}

    class Blocks:
        def step_seconds(self, name):
            return 0.625 * (1 + order[name])  # Of an epoch: 62 steps of 16.

    def timed(steps, **shape):
        assert list(steps) == list(experiment.VARIANTS)
        assert shape == {"rounds": 3, "block": 2, "left_out": 1}
        return Blocks()

    def weights(variant, config, floatx, seed, data):
        return np.array([3.0, 4.0]) + (order[variant] * (1.0 if floatx == "float32" else 1e-3))

    monkeypatch.setattr(recipe, "train", lambda variant, config, run, data: {"test_accuracy": order[variant] / 10})
    monkeypatch.setattr(recipe, "build_epoch", lambda *_: lambda feed: None)
    monkeypatch.setattr(experiment, "weights_after", weights)
    monkeypatch.setattr(experiment, "memory_of", lambda work, variant, *size: 100.0 + order[variant])
    runs = {name: types.SimpleNamespace(seed=1, data=REQUEST, interleaved=timed) for name in experiment.VARIANTS}
    found = experiment.compare(recipe.Config(batch_size=16), runs)
    for name, number in order.items():
        assert found[name]["test_accuracy"] == number / 10
        assert found[name]["step_ms"] == pytest.approx(625 * (1 + number) / 62)
        assert found[name]["log_time"] == pytest.approx(np.log(625 * (1 + number) / 62))
        assert found[name]["apart_float32"] == pytest.approx(number * 2**0.5 / 5)
        assert found[name]["apart_float64"] == pytest.approx(number * 2**0.5 / 5000)
        assert found[name].get("memory") == (100.0 + number if name in ("fit", "accumulated") else None)


def test_a_model_with_a_step_of_its_own_can_be_saved(tmp_path):
    model = recipe.build_model("train_step", DATA)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, recipe.OwnStep)
    for saved, own in zip(again.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(saved, own)
