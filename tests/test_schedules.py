"""Each schedule's formula at its corner points, and as the optimizer really applies it, step by step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab import Run
from lab.evidence.records import values_of
from lab.experiments import schedules as schedules_experiment
from pipelines.sources import Request
from recipes import schedules
from tests.conftest import evidence_in, typed_evidence_in

STEPS = 100
# Step -> share of the peak, worked out by hand.
CORNERS = {
    "constant": {0: 1, 50: 1, 99: 1},
    "exponential": {0: 1, 50: 0.1, 100: 0.01},
    "inverse_time": {0: 1, 50: 1 / 5.5, 100: 0.1},
    "cosine": {0: 1, 25: (1 + 0.5**0.5) / 2, 50: 0.5, 100: 0},
    "warm_up_cosine": {0: 0, 5: 0.5, 10: 1, 55: 0.5, 100: 0},
    "warm_up_linear": {0: 0, 5: 0.5, 10: 1, 55: 0.5, 100: 0},
    "warm_up_linear_floor": {0: 0, 5: 0.5, 10: 1, 55: 0.645, 100: 0.29},
    "long_warm_up_cosine": {0: 0, 25: 0.5, 50: 1, 75: 0.5, 100: 0},
    "one_cycle": {0: 0.04, 10: 0.28, 15: 0.52, 30: 1, 45: 0.890916, 65: 0.500002, 100: 4e-6},
    "plateau": {0: 1, 99: 1},
}
SHAPES = dict.fromkeys(variant.partition("_at_")[0] for variant in schedules_experiment.VARIANTS)


def test_every_shape_has_corners():
    assert set(CORNERS) == set(SHAPES)


@pytest.mark.parametrize("steps", [100, 300])
@pytest.mark.parametrize("shape", CORNERS)
def test_a_schedule_at_its_corner_points(shape, steps):
    rate = schedules.build_rate(shape, 2.0, steps)
    for percent, share in CORNERS[shape].items():
        step = percent * steps // 100
        found = float(rate(tf.constant(step, tf.int64))) if callable(rate) else rate
        assert found == pytest.approx(2.0 * share, abs=1e-5), step


@pytest.mark.parametrize("shape", ["cosine", "warm_up_cosine", *schedules.FORMULAS])
def test_past_its_end_a_schedule_stays_where_it_ended(shape):
    rate = schedules.build_rate(shape, 2.0, 100)
    assert float(rate(170)) == pytest.approx(float(rate(100)), abs=1e-6)


@pytest.mark.parametrize("shape", CORNERS)
def test_a_model_is_saved_and_loaded_with_its_schedule(shape, tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(schedules.build_rate(shape, 0.5, 100)), loss="mse")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for step in (0, 7, 60):
        for each in (model, loaded):
            each.optimizer.iterations.assign(step)
        assert float(loaded.optimizer.learning_rate) == pytest.approx(float(model.optimizer.learning_rate))


def applied_to_one_weight(shape: str, steps: int, callbacks=()) -> np.ndarray:
    """By how much each step of plain SGD moves one weight whose gradient is 1: the rate that was applied."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(schedules.build_rate(shape, 0.5, steps)), loss=lambda y, predicted: predicted)
    at = [float(model.layers[-1].kernel.numpy().item())]

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            at.append(float(self.model.layers[-1].kernel.numpy().item()))

    feed = tf.data.Dataset.from_tensor_slices((np.ones((steps, 1), "float32"), np.ones((steps, 1), "float32")))
    model.fit(feed.batch(1), epochs=1, shuffle=False, verbose=0, callbacks=[Watch(), *callbacks])
    return -np.diff(at)


@pytest.mark.parametrize("shape", CORNERS)
def test_the_optimizer_applies_what_the_schedule_says(shape):
    steps = 40
    watch = schedules.AppliedRates()
    applied = applied_to_one_weight(shape, steps, [watch])
    rate = schedules.build_rate(shape, 0.5, steps)
    wanted = [float(rate(step)) if callable(rate) else rate for step in range(steps)]
    np.testing.assert_allclose(applied, wanted, atol=1e-6)
    np.testing.assert_allclose(watch.values, wanted, atol=1e-6)
    if shape not in ("constant", "plateau", "inverse_time"):  # It goes on to the end, and not past it.
        assert wanted[-2] > wanted[-1]
        assert wanted[-1] < 0.36 * 0.5


def test_a_plateau_lowers_the_rate_to_a_third_after_an_epoch_without_progress():
    (callback,) = schedules.build_callbacks("plateau")
    assert all(schedules.build_callbacks(shape) == [] for shape in SHAPES if shape != "plateau")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.9), loss="mse")
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, loss in enumerate([2.0, 1.0, 1.0, 0.5, 0.6, 0.7]):
        callback.on_epoch_end(epoch, {"val_loss": loss})
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([0.9, 0.9, 0.3, 0.3, 0.1, 0.1 / 3])


def handed_over(monkeypatch, folder, variant: str, seed: int = 1, **config) -> tuple[dict, dict, dict]:
    """What the recipe gives to `build_rate`, `compile` and `fit`, up to the training itself."""
    seen: tuple[dict, dict, dict] = ({}, {}, {})
    build_rate = schedules.build_rate

    def noted(shape, peak, steps):
        seen[0].update(shape=shape, peak=peak, steps=steps)
        return build_rate(shape, peak, steps)

    def fit(self, feed, **settings):
        seen[2].update(settings, feed=feed)
        raise InterruptedError

    monkeypatch.setattr(schedules, "build_rate", noted)
    monkeypatch.setattr(keras.Sequential, "compile", lambda self, **settings: seen[1].update(settings))
    monkeypatch.setattr(keras.Sequential, "fit", fit)
    chosen = schedules.Config(epochs=3, batch_size=100, **config)
    with pytest.raises(InterruptedError):
        schedules.train(variant, chosen, Run(variant, seed, Request(train_images=1000), chosen, folder))
    return seen


def test_each_variant_hands_on_its_peak_and_the_plateau_alone_a_callback_that_lowers_the_rate(monkeypatch, tmp_path):
    for variant in schedules_experiment.VARIANTS:
        given, compiled, fitted = handed_over(monkeypatch, tmp_path, variant)
        kinds = [type(callback) for callback in fitted["callbacks"]]
        assert kinds.count(keras.callbacks.ReduceLROnPlateau) == (variant == "plateau")
        assert kinds.count(schedules.AppliedRates) == 1
        shape, _, peak = variant.partition("_at_")
        assert given == {"shape": shape, "peak": float(peak) if peak else schedules.RATES[variant], "steps": 30}
        optimizer = compiled["optimizer"]
        assert type(optimizer) is keras.optimizers.SGD
        assert (optimizer.momentum, optimizer.nesterov) == (0.9, True)
        wanted = schedules.build_rate(shape, given["peak"], 30)
        optimizer.iterations.assign(12)
        assert float(optimizer.learning_rate) == pytest.approx(float(wanted(12)) if callable(wanted) else wanted)
    assert handed_over(monkeypatch, tmp_path, "cosine_at_0.18", rate=0.7)[0]["peak"] == 0.7


@pytest.mark.parametrize("seed", [1, 2])
def test_images_are_augmented_by_the_runs_own_seed(monkeypatch, tmp_path, seed):
    seen = {}
    training = schedules.batches.training

    def noted(split, batch_size, **settings):
        seen.update(settings)
        return training(split, batch_size, **settings)

    monkeypatch.setattr(schedules.batches, "training", noted)
    handed_over(monkeypatch, tmp_path, "cosine", seed)
    assert seen == {"seed": seed, "augment": True}


@pytest.mark.variants
@pytest.mark.parametrize("name", ["schedules"])
def test_rates_are_recorded_as_they_were_applied(smoke, name):
    _, logs = smoke(name)
    found = {record["variant"]: record["curves"]["applied_rate"] for record in evidence_in(logs)["records"]}
    assert set(found) == set(schedules_experiment.VARIANTS)
    assert len(set(found["constant"])) == 1
    assert found["warm_up_cosine"][0] == 0
    assert max(found["cosine"]) == found["cosine"][0] == pytest.approx(schedules.RATES["cosine"])
    assert found["exponential"] == sorted(found["exponential"], reverse=True)
    assert values_of(typed_evidence_in(logs).records, "test_accuracy")
