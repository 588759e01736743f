"""Each schedule's formula at its corner points, and as the optimizer really applies it, step by step."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.core.run import Run
from lab.evidence.records import values_of
from lab.experiments import schedules as experiment
from pipelines import sources
from recipes import schedules as recipe
from tests.conftest import evidence_in, typed_evidence_in

# Arguments of `build_rate`, and percent of the steps -> share of the peak, worked out by hand.
CORNERS = {
    "constant": ({"schedule": "constant"}, {0: 1, 50: 1, 99: 1}),
    "plateau": ({"schedule": "plateau"}, {0: 1, 99: 1}),
    "exponential": ({"schedule": "exponential"}, {0: 1, 50: 10**-0.5, 100: 0.1}),
    "exponential_to_a_hundredth": ({"schedule": "exponential", "factor": 0.01}, {0: 1, 50: 0.1, 100: 0.01}),
    "inverse_time": ({"schedule": "inverse_time"}, {0: 1, 50: 1 / 5.5, 100: 0.1}),
    "inverse_time_to_a_third": ({"schedule": "inverse_time", "factor": 1 / 3}, {0: 1, 50: 0.5, 100: 1 / 3}),
    "cosine": ({"schedule": "cosine"}, {0: 1, 25: (1 + 0.5**0.5) / 2, 50: 0.5, 100: 0}),
    "linear": ({"schedule": "linear"}, {0: 1, 25: 0.75, 100: 0}),
    "linear_to_a_floor": ({"schedule": "linear", "floor": 0.29}, {0: 1, 50: 0.645, 100: 0.29}),
    "long_warmup_cosine": ({"schedule": "cosine", "warmup": 0.5}, {50: 1, 75: 0.5, 100: 0}),
    "warmup_cosine": ({"schedule": "cosine", "warmup": 0.1}, {10: 1, 55: 0.5, 100: 0}),
    "warmup_linear": ({"schedule": "linear", "warmup": 0.1}, {10: 1, 55: 0.5, 100: 0}),
    "warmup_linear_floor": ({"schedule": "linear", "warmup": 0.1, "floor": 0.29}, {10: 1, 55: 0.645, 100: 0.29}),
}
WARM = [name for name in CORNERS if "warmup" in name]


def rate_of(name: str, peak: float, steps: int):
    arguments = dict(CORNERS[name][0])
    return recipe.build_rate(arguments.pop("schedule"), peak, steps, **arguments)


def at(rate, step: int) -> float:
    return float(rate(tf.constant(step, tf.int64))) if callable(rate) else rate


@pytest.mark.parametrize("steps", [100, 300])
@pytest.mark.parametrize("name", CORNERS)
def test_a_schedule_at_its_corner_points(name, steps):
    rate = rate_of(name, 2.0, steps)
    for percent, share in CORNERS[name][1].items():
        assert at(rate, percent * steps // 100) == pytest.approx(2.0 * share, abs=1e-5), percent


@pytest.mark.parametrize("name", WARM)
def test_a_warm_up_rises_in_a_line_from_its_first_step_which_counts(name):
    """Ten steps of a hundred, or fifty, of which the first has a tenth or a fiftieth."""
    steps = 50 if name.startswith("long") else 10
    rates = [at(rate_of(name, 2.0, 100), step) for step in range(100)]
    start = rates[0]
    assert start == pytest.approx(2.0 / steps)
    assert min(np.diff(rates[:steps])) > 0
    assert rates[steps // 2] == pytest.approx(1.0, abs=0.25)
    assert np.diff(rates[:steps]) == pytest.approx(np.diff(rates[:steps]).mean(), abs=1e-5)  # A straight line.
    assert max(rates) == pytest.approx(2.0)
    assert rates.index(max(rates)) in (steps - 1, steps)


@pytest.mark.parametrize("name", CORNERS)
def test_the_first_of_a_few_steps_has_a_rate_above_zero(name):
    for steps in (1, 3, 7):
        assert at(rate_of(name, 2.0, steps), 0) > 0


@pytest.mark.parametrize("name", [name for name in CORNERS if "cosine" in name or "linear" in name])
def test_past_its_end_a_schedule_stays_where_it_ended(name):
    rate = rate_of(name, 2.0, 100)
    assert at(rate, 170) == pytest.approx(at(rate, 100), abs=1e-6)


def test_an_unknown_schedule_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown schedule 'cosin': use one of constant, plateau"):
        recipe.build_rate("cosin", 0.1, 10)


@pytest.mark.parametrize("name", CORNERS)
def test_a_model_is_saved_and_loaded_with_its_schedule(name, tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate_of(name, 0.5, 100)), loss="mse")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for step in (0, 7, 60):
        for each in (model, loaded):
            each.optimizer.iterations.assign(step)
        assert float(loaded.optimizer.learning_rate) == pytest.approx(float(model.optimizer.learning_rate))


class Kept:
    """Stands in for a run: what was kept."""

    def keep(self, name, values):
        setattr(self, name, list(values))


@pytest.mark.parametrize("name", CORNERS)
def test_the_optimizer_applies_what_the_schedule_says_and_the_laboratory_notes_it(name):
    """By how much each step of plain SGD moves one weight whose gradient is 1."""
    steps, run = 40, Kept()
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(rate_of(name, 0.5, steps)), loss=lambda y, predicted: predicted)
    at_each = [float(model.layers[-1].kernel.numpy().item())]

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            at_each.append(float(self.model.layers[-1].kernel.numpy().item()))

    feed = tf.data.Dataset.from_tensor_slices((np.ones((steps, 1), "float32"), np.ones((steps, 1), "float32")))
    callbacks = [Watch(), *experiment.note_rates(run, None)]
    model.fit(feed.batch(1), epochs=1, shuffle=False, verbose=0, callbacks=callbacks)
    rate = rate_of(name, 0.5, steps)
    wanted = [at(rate, step) for step in range(steps)]
    np.testing.assert_allclose(-np.diff(at_each), wanted, atol=1e-6)
    np.testing.assert_allclose(run.applied_rate, wanted, atol=1e-6)


def test_a_plateau_lowers_the_rate_to_a_third_after_an_epoch_without_progress():
    (callback,) = recipe.build_callbacks("plateau")
    assert all(recipe.build_callbacks(schedule) == [] for schedule in recipe.RATES if schedule != "plateau")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.9), loss="mse")
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, loss in enumerate([2.0, 1.0, 1.0, 0.5, 0.6, 0.7]):
        callback.on_epoch_end(epoch, {"val_loss": loss})
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([0.9, 0.9, 0.3, 0.3, 0.1, 0.1 / 3])


def handed_over(monkeypatch, variant: str, **given):
    """The model that a variant compiles and what it gives to `fit`, for 4 epochs of 25 steps, without any training."""
    seen = {}

    def fit(model, feed, **settings):
        seen.update(settings, model=model, feed=feed)

    monkeypatch.setattr(keras.Model, "fit", fit)
    images = tf.data.Dataset.from_tensors((np.zeros((32, 32, 3), "uint8"), np.int32(0))).repeat(100).batch(4)
    config = dataclasses.replace(experiment.EXPERIMENT.config(), epochs=4, **given)
    validation = images.take(2)
    mine = object()
    model = experiment.EXPERIMENT.bound(variant, config)(images, validation, 10, callbacks=[mine])
    assert seen["model"] is model
    assert seen["feed"] is images
    assert seen["validation_data"] is validation
    assert seen["epochs"] == 4
    assert seen["callbacks"][-1] is mine
    return SimpleNamespace(**seen, optimizer=model.optimizer)


# Rates of each variant at the first step, in the middle and at the last of 100 steps, by its peak of 1.
ENDS = {
    "constant": (1, 1, 1), "plateau": (1, 1, 1), "cosine": (1, 0.5, 0), "warmup_cosine": (0.1, 0.58, 0),
    "warmup_linear": (0.1, 0.55, 0), "warmup_linear_floor": (0.1, 0.68, 0.29), "inverse_time": (1, 0.18, 0.1),
    "long_warmup_cosine": (0.02, 1, 0), "adamw_cosine": (1, 0.5, 0), "adamw_ten_steps_cosine": (0.5, 0.5, 0),
}  # fmt: skip


@pytest.mark.parametrize("variant", experiment.VARIANTS)
def test_each_variant_trains_by_the_schedule_of_its_name(monkeypatch, variant):
    arguments = experiment.VARIANTS[variant].keywords
    seen = handed_over(monkeypatch, variant, rate=1.0)
    rates = [at(seen.optimizer._learning_rate, step) for step in (0, 50, 100)]
    rates = [float(keras.ops.convert_to_numpy(rate)) for rate in rates]
    name = variant.partition("_at_")[0]
    if name == "exponential":
        assert rates == pytest.approx([1, arguments.get("factor", 0.1) ** 0.5, arguments.get("factor", 0.1)])
    else:
        assert rates == pytest.approx(ENDS[name], abs=0.02)
    plateaus = [c for c in seen.callbacks if isinstance(c, keras.callbacks.ReduceLROnPlateau)]
    assert len(plateaus) == (variant == "plateau")
    if variant.startswith("adamw"):
        assert type(seen.optimizer) is keras.optimizers.AdamW
        assert seen.optimizer.weight_decay == 0.01
    else:
        assert type(seen.optimizer) is keras.optimizers.SGD
        assert (seen.optimizer.momentum, seen.optimizer.nesterov) == (0.9, True)


def test_a_variant_has_the_peak_that_its_name_says_or_that_was_tuned(monkeypatch):
    for variant in experiment.VARIANTS:
        optimizer = handed_over(monkeypatch, variant).optimizer
        optimizer.build([keras.Variable(0.0)])
        highest = max(float(keras.ops.convert_to_numpy(at(optimizer._learning_rate, step))) for step in (0, 2, 10, 50))
        _, said, peak = variant.partition("_at_")
        wanted = float(peak) if said else experiment.VARIANTS[variant].keywords["rate"]
        assert highest == pytest.approx(wanted), variant
    for schedule, rate in recipe.RATES.items():
        assert schedule == "linear" or experiment.VARIANTS[schedule].keywords["rate"] == rate


def test_images_are_mirrored_and_shifted_as_the_seed_says(tmp_path, monkeypatch):
    from lab.core import training

    seen = []
    monkeypatch.setattr(training.batches, "training", lambda split, size, **said: seen.append((size, said)) or 1 / 0)
    request = sources.Request(train_images=1000)
    for seed in (1, 2):
        run = Run("cosine", seed, request, experiment.EXPERIMENT.config(), tmp_path)
        with pytest.raises(ZeroDivisionError):
            training.on_batches(experiment.EXPERIMENT, "cosine", run.config, run)
    assert seen == [(128, {"seed": seed, "shift": 2, "flip": True}) for seed in (1, 2)]


@pytest.mark.variants
@pytest.mark.parametrize("name", ["schedules"])
def test_rates_are_recorded_as_they_were_applied(smoke, name):
    _, logs = smoke(name)
    found = {record["variant"]: record["curves"]["applied_rate"] for record in evidence_in(logs)["records"]}
    assert set(experiment.MAIN) <= set(found)
    assert len(set(found["constant"])) == 1
    assert max(found["cosine"]) == found["cosine"][0] == pytest.approx(recipe.RATES["cosine"])
    assert found["exponential"] == sorted(found["exponential"], reverse=True)
    assert values_of(typed_evidence_in(logs).records, "test_accuracy")
