"""What is counted is so by hand, and what is measured is measured of the step, the model and the process it says."""

import functools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from lab.experiments import memory as experiment
from pipelines import batches, sources
from recipes import memory as recipe

DATA = sources.load(sources.Request(train_images=1000))
SHAPE = (32, 32, 3)
SMALL = {"filters": 8, "depth": 1}


def compiled(*inside, optimizer="adam") -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), *inside])
    model.compile(optimizer, "mse")
    return model


# The recipe


def test_it_learns():
    keras.utils.set_random_seed(1)
    pair = batches.training(DATA.train, 20, seed=1, augment=False), batches.evaluation(DATA.validation)
    build = functools.partial(recipe.build_model, depth=1, recompute=True)
    model = recipe.train(*pair, 10, epochs=4, build_model=build)
    assert model.evaluate(pair[1], verbose=0)[1] > 0.2


def test_a_dense_layer_is_counted_as_by_hand():
    parts = recipe.counted(compiled(layers.Dense(5)), 7)
    assert parts["weights"] == parts["gradients"] == 4 * (3 * 5 + 5)
    assert parts["optimizer"] == 2 * parts["weights"] + 8 + 4  # And the step in int64, and the learning rate.
    assert parts["activations"] == 7 * 5 * 4


def test_optimizers_hold_what_their_rules_need():
    held = {}
    for name in experiment.OPTIMIZERS:
        model = compiled(layers.Dense(5), optimizer=experiment.optimizer_called(name))
        held[name] = recipe.counted(model, 1)["optimizer"]
    assert held["momentum"] - held["sgd"] == 80
    assert held["adam"] - held["sgd"] == 160


def test_weights_that_are_not_trained_have_no_gradient():
    parts = recipe.counted(compiled(layers.BatchNormalization(), layers.Dense(5)), 1)
    assert parts["weights"] - parts["gradients"] == 4 * 2 * 3  # The averages.


def test_a_number_of_16_bits_is_two_bytes():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = compiled(layers.Dense(5))
    finally:
        keras.config.set_dtype_policy("float32")
    parts = recipe.counted(model, 7)
    assert parts["weights"] == 4 * (3 * 5 + 5)
    assert parts["activations"] == 7 * 5 * 2


def test_layers_inside_a_model_are_counted_and_those_that_are_recomputed_are_not():
    block = keras.Sequential([keras.Input((3,)), layers.Dense(10), layers.Dense(3)])
    assert recipe.counted(compiled(block), 1)["activations"] == 4 * 13
    assert recipe.counted(compiled(recipe.Recomputed(block)), 1)["activations"] == 4 * 3


def test_a_model_of_images_of_any_size_is_not_counted():
    with pytest.raises(ValueError, match="any size: count it"):
        recipe.counted(compiled_for((None, None, 3)), 1)


def compiled_for(shape) -> keras.Model:
    model = keras.Sequential([keras.Input(shape), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()])
    model.compile("sgd", "mse")
    return model


def test_two_batches_of_the_same_memory_predict_nothing():
    with pytest.raises(ValueError, match="128 examples took no more memory than 64"):
        recipe.largest_batch(1000, {64: 100, 128: 100})


def test_memory_grows_in_a_straight_line_with_the_batch():
    assert recipe.largest_batch(1000, {64: 100, 128: 164}) == 964
    assert recipe.largest_batch(1000, {128: 164, 64: 100}) == 964
    assert recipe.largest_batch(50.5, {10: 10, 20: 20}) == 50


def test_the_peak_stays_after_the_memory_is_free():
    before = recipe.peak_memory()
    many = np.ones(before // 8 + 2**25, "float64")  # More than was ever held.
    assert recipe.peak_memory() >= many.nbytes
    del many
    assert recipe.peak_memory() > before


def test_blocks_are_recomputed_where_asked_for_and_a_loaded_model_predicts_the_same(tmp_path):
    images = tf.random.uniform((4, *SHAPE), 0, 255)
    for recompute in (False, True):
        model = recipe.build_model(SHAPE, 3, recompute=recompute, **SMALL)
        assert sum(isinstance(layer, recipe.Recomputed) for layer in model.layers) == recompute
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert np.array_equal(loaded(images), model(images))


def test_recomputed_weights_move_as_others_do():
    ended = []
    for recompute in (False, True):
        keras.utils.set_random_seed(1)
        model = recipe.build_model(SHAPE, 10, recompute=recompute, **SMALL)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.train_on_batch(DATA.train.images[:64], DATA.train.labels[:64])
        ended.append(np.concatenate([np.ravel(weight) for weight in model.weights]))
    assert ended[1] == pytest.approx(ended[0], abs=1e-6)


def test_a_layer_is_recomputed_as_in_training():
    """At inference BatchNorm divides by its averages, and the gradient is another."""
    norms = [layers.BatchNormalization(dtype="float64") for _ in range(2)]
    kept, recomputed = (experiment.gradients_of(norm, two) for norm, two in zip(norms, (False, True), strict=True))
    assert recomputed == pytest.approx(kept, abs=1e-12)


def test_batches_are_accumulated_where_asked_for(monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **how: None)
    feed = batches.training(DATA.train, 50, seed=1, augment=False)
    for accumulate in (None, 4):
        model = recipe.train(feed, None, 10, rate=0.5, accumulate=accumulate)
        assert model.optimizer.gradient_accumulation_steps == accumulate
        assert float(model.optimizer.learning_rate) == 0.5


# The experiment


@pytest.mark.processes
def test_recomputing_takes_less_memory():
    kept, recomputed = (experiment.step_memory(name, SHAPE, 256, 6)["memory"] for name in ("kept", "recomputed"))
    assert recomputed < 0.7 * kept


@pytest.fixture
def measured(monkeypatch):
    """What was measured in a process of its own; each takes as many MiB as its batch or its units have, and ten."""
    calls = []

    def memory_of(work, *arguments):
        calls.append((work, *arguments))
        return 10.0 + next(number for number in arguments if isinstance(number, int))

    monkeypatch.setattr(experiment, "memory_of", memory_of)
    return calls


def test_what_is_held_is_in_sizes_of_the_weights(measured):
    weights = experiment.LAYERS * (64 * 64 + 64) * 4 / 2**20  # In MiB: layers of 64 × 64 and 64, in float32.
    found = experiment.weights_held("adam", 64)
    assert found["memory_held"] == pytest.approx(74 / weights)
    assert found["memory_but_state"] == pytest.approx(74 / weights - 2, abs=1e-3)
    assert found["counted_held"] == pytest.approx(4, abs=0.15)
    assert set(experiment.weights_held("inference", 64)) == {"memory_held", "log_memory_held"}
    assert measured == [(experiment.of_weights, 64, "adam"), (experiment.of_weights, 64, "inference")]


def test_a_step_that_accumulates_takes_a_quarter_of_the_batch(measured):
    found = {name: experiment.step_memory(name, SHAPE, 64, 3) for name in experiment.STEPS}
    assert [found[name]["memory"] for name in experiment.STEPS] == [74, 74, 26]
    assert [settings for *_, settings in measured] == [{"depth": 3, **how} for how in experiment.STEPS.values()]
    kept, recomputed, accumulated = (found[name]["counted"] for name in experiment.STEPS)
    assert recomputed < kept / 2
    assert accumulated < kept / 2


def test_the_largest_batch_is_tried(measured):
    assert experiment.largest(SHAPE, 1024, 64, 6) == {"largest": 1014, "log_memory": np.log(1024)}
    assert [size for _, _, size, _ in measured] == [64, 128, 1014]


@pytest.mark.parametrize(("kind", "built", "cleared"), [("same_model", 1, 0), ("new_models", 3, 0),
                                                      ("new_models_cleared", 3, 3)])  # fmt: skip
def test_models_are_new_and_sessions_cleared_as_the_name_says(monkeypatch, kind, built, cleared):
    done = {"built": 0, "cleared": 0, "fitted": 0}

    def note(what, value=None):
        done[what] += 1
        return value

    model = types.SimpleNamespace(fit=lambda *_, **how: note("fitted"))
    monkeypatch.setattr(experiment, "build_convolutions", lambda shape, depth: note("built", model))
    monkeypatch.setattr(keras.backend, "clear_session", lambda: note("cleared"))
    assert len(experiment.peaks(kind, 3, 1)) == 3
    assert done == {"built": built, "cleared": cleared, "fitted": 3}


def test_growth_leaves_the_first_two_trainings_out(monkeypatch):
    monkeypatch.setattr(experiment, "together", lambda *_: [[0, 2**30, *(5 * 2**20 * n for n in range(4))]])
    assert experiment.growth("new_models", 6, 1) == pytest.approx(5)


def test_each_new_process_does_one_training(monkeypatch):
    asked = []
    monkeypatch.setattr(experiment, "together", lambda work, *how: asked.append(how) or [[2**20]])
    assert experiment.growth("new_processes", 6, 2) == pytest.approx(0)
    assert asked == [("new_processes", 1, 2)] * 6
    peaks = iter([9, 0, 2, 2, 2, 2])  # MiB: all of them count.
    monkeypatch.setattr(experiment, "together", lambda *_: [[next(peaks) * 2**20]])
    assert experiment.growth("new_processes", 6, 2) == pytest.approx(-0.829, abs=0.01)


def test_checks_see_what_they_are_about():
    assert experiment.convolutions(True) == 2 * experiment.convolutions(False) == 4
    assert experiment.shares_memory(lambda images: tf.reshape(images, (-1,)))
    assert not experiment.shares_memory(lambda images: images + 0.0)


@pytest.mark.processes
def test_a_measured_step_trains_and_does_so_on_its_batch(monkeypatch):
    monkeypatch.setattr(recipe, "build_model", functools.partial(recipe.build_model, **SMALL))
    for settings in experiment.STEPS.values():
        step = experiment.of_activations(SHAPE, 4, settings)
        model, (images, labels) = step.func.__self__, step.args
        assert (images.shape, labels.shape) == ((4, *SHAPE), (4,))
        before = int(model.optimizer.iterations)
        for _ in range(settings.get("accumulate", 1)):
            step()
        assert model.optimizer.iterations > before


def test_each_variant_has_the_metrics_of_its_kind(monkeypatch):
    monkeypatch.setattr(experiment, "weights_held", lambda variant, units: {"memory_held": units})
    monkeypatch.setattr(experiment, "step_memory", lambda variant, shape, batch, depth: {"memory": batch})
    monkeypatch.setattr(experiment, "largest", lambda shape, limit, few, depth: {"largest": limit + few})
    monkeypatch.setattr(experiment, "growth", lambda variant, fits, depth: fits)
    monkeypatch.setattr(experiment, "of_activations", lambda shape, size, settings: f"{size} {settings}")
    timed = []

    def interleaved(steps, block):
        timed.append((list(steps), block))
        return types.SimpleNamespace(step_seconds=lambda name: 0.5)

    run = types.SimpleNamespace(data=sources.Request(train_images=500), interleaved=interleaved)
    config = experiment.EXPERIMENT.config(units=3, batch=8, limit=20, few=2, fits=5, steps=11)
    found = experiment.compare(config, dict.fromkeys(experiment.VARIANTS, run))
    assert timed == [(["kept", "recomputed"], 11)]
    assert found["adam"] == found["inference"] == {"memory_held": 3}
    assert found["accumulated"] == {"memory": 8}
    assert found["kept"] == {"memory": 8, "step_ms": 500}
    assert found["asked_for"] == {"log_memory": np.log(20)}
    assert found["largest"] == {"largest": 22}
    assert found["same_model"] == {"memory_growth": 5}
