"""Each rung of the ladder changes one thing, and a time is the epochs that are needed times what they take."""

import functools
import inspect
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.core import run as of_run
from lab.core.timing import Blocks
from lab.experiments import speedrun as experiment
from pipelines import batches, encoded, sources
from recipes import speedrun as recipe
from recipes.strong_baseline import FlipAveraged, GramMuon

DATA = sources.load(sources.Request(train_images=1000))
VARIANTS = experiment.VARIANTS


def few(count=60) -> tf.data.Dataset:
    chosen = DATA.train.take(np.arange(count))
    return tf.data.Dataset.from_tensor_slices((chosen.images, chosen.labels)).batch(20)


# The recipe


def test_it_learns():
    """At half of its width, with an epoch at each size."""
    keras.utils.set_random_seed(1)
    train_set = batches.training(DATA.train, 20, seed=1, augment=False)
    validation_set = batches.evaluation(DATA.validation)
    narrow = functools.partial(recipe.build_model, width=0.25)
    model = recipe.train(train_set, validation_set, 10, epochs=2, small=0.5, build_model=narrow)
    assert model.evaluate(validation_set, verbose=0, return_dict=True)["accuracy"] > 0.2
    assert model.optimizer.iterations == 2 * 50
    assert isinstance(model.layers[-1], FlipAveraged)
    assert model.input_shape == (None, 32, 32, 3)


@pytest.fixture
def fits(monkeypatch):
    """The calls of `fit`, which train nothing: model, and arguments by name."""
    calls = []
    monkeypatch.setattr(keras.Model, "fit", lambda model, *_, **how: calls.append((model, how)))
    return calls


def sides_of(model) -> int:
    return next((layer.height for layer in model.layers if isinstance(layer, keras.layers.Resizing)), 32)


@pytest.mark.parametrize(
    ("settings", "stages"),
    [
        ({"epochs": 5}, [(24, 0, 2), (32, 2, 5)]),
        ({"epochs": 4, "small": 0.5}, [(16, 0, 2), (32, 2, 4)]),
        ({"epochs": 1}, [(32, 0, 1)]),
        ({"epochs": 3, "small": None}, [(32, 0, 3)]),
    ],
)
def test_half_of_the_epochs_are_small_and_the_last_model_takes_whole_images(fits, settings, stages):
    returned = recipe.train(few(), None, 10, **settings)
    assert [(sides_of(model), how["initial_epoch"], how["epochs"]) for model, how in fits] == stages
    assert fits[-1][0] is returned
    assert all(model.optimizer is returned.optimizer for model, _ in fits)  # Its momentum goes on.
    assert len({id(model.layers[-1].layer.layers[-1]) for model, _ in fits}) == 1  # And so do the weights.


def test_images_are_shifted_by_as_many_pixels_at_any_size(fits):
    recipe.train(few(), None, 10, epochs=2, small=0.5, shift=3)
    for model, side in zip((model for model, _ in fits), (16, 32), strict=True):
        (shift,) = (layer for layer in model.layers if isinstance(layer, keras.layers.RandomTranslation))
        assert 3 < shift.height_upper * side < 4


def test_the_plain_training_is_adamw_at_one_rate_and_the_fast_one_muon_on_a_ramp(fits):
    plain = recipe.train(few(), None, 10, muon=False, averaged=False, rate=0.003, decay=0.05).optimizer
    fast = recipe.train(few(), None, 10, rate=0.003, decay=0.1).optimizer
    assert type(plain) is keras.optimizers.AdamW
    assert (float(plain.learning_rate), plain.weight_decay, plain.use_ema) == (pytest.approx(0.003), 0.05, False)
    assert recipe.train(few(), None, 10).optimizer.weight_decay == 0.2
    assert isinstance(fast, GramMuon)
    assert (fast.weight_decay, fast.adam_weight_decay, fast.exclude_layers) == (0.1, 0.1, ["head"])
    assert [round(float(fast._learning_rate(step)), 6) for step in (1, 9)] == [0.003, 0.0]
    assert fast.ema_momentum == pytest.approx(1 - 1 / (1 + 3 / 7))  # An epoch has three steps.


def test_a_model_of_ones_own_needs_no_whitening_and_any_name_for_its_head(fits):
    def build(shape, classes):
        images = keras.Input(shape)
        return keras.Model(images, keras.layers.Dense(classes, name="mine")(keras.layers.GlobalMaxPooling2D()(images)))

    model = recipe.train(few(), None, 10, epochs=2, build_model=build)
    assert model.optimizer.exclude_layers == ["mine"]


def test_a_model_that_takes_one_size_can_be_trained_without_small_images(fits):
    def build(shape, classes):
        images = keras.Input(shape)
        return keras.Model(images, keras.layers.Dense(classes)(keras.layers.Flatten()(images)))

    assert recipe.train(few(), None, 10, small=None, build_model=build).input_shape == (None, 32, 32, 3)


def test_under_float16_the_loss_is_scaled(fits):
    model = recipe.train(few(), None, 10, policy="mixed_float16", epochs=2)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_the_second_size_begins_with_the_last_weights_of_the_first_and_not_with_an_average(monkeypatch):
    """Each fit moves the weights by one, and its end puts averages in their place, as Keras does."""
    begun = []

    def fit(model, *_, **how):
        net = model.layers[-1].layer
        optimizer = model.optimizer
        averages = optimizer._model_variables_moving_average
        begun.append(
            (optimizer.use_ema, [weight.numpy() for weight in net.trainable_variables], [a.numpy() for a in averages])
        )
        for weight in net.trainable_variables:
            weight.assign(weight + 1)
        if optimizer.use_ema:
            optimizer.finalize_variable_values(net.trainable_variables)

    monkeypatch.setattr(keras.Model, "fit", fit)
    recipe.train(few(), None, 10, epochs=4)
    (first, before, _), (second, after, averages) = begun
    assert (first, second) == (False, True)
    assert all(np.allclose(a, b + 1) for a, b in zip(after, before, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(after, averages, strict=True))


@pytest.mark.variants
def test_the_averaged_weights_are_those_of_the_model_at_the_end():
    keras.utils.set_random_seed(1)
    model = recipe.train(few(), few(), 10, epochs=3)
    for weight, average in zip(
        model.optimizer._trainable_variables, model.optimizer._model_variables_moving_average, strict=True
    ):
        assert np.array_equal(weight, average)


def test_the_text_follows_the_seven_steps_in_their_order():
    source = inspect.getsource(recipe)
    steps = ("Profile", "Precision", "Batch size and data loading", "Distributed", "Memory", "Utilization", "Monitor")
    places = [source.index(f"# {number}. {step}") for number, step in enumerate(steps, 1)]
    assert places == sorted(places)


# What is compared


def test_each_rung_adds_one_technique_and_each_is_tried_alone_and_left_out():
    rungs = [VARIANTS[name] for name in experiment.RUNGS]
    assert [len(rung) for rung in rungs] == list(range(7))
    assert all(rung == rungs[-1][: len(rung)] for rung in rungs)
    for name in experiment.LADDER:
        assert VARIANTS[f"only_{name}"] == (name,)
        without = "up_to_resizing" if name == "averaging" else f"all_but_{name}"
        assert set(experiment.LADDER) - set(VARIANTS[without]) == {name}
    assert {experiment.name_of(techniques) for techniques in VARIANTS.values()} <= set(experiment.TRAININGS)


def test_each_technique_changes_what_its_name_says():
    plain = {"muon": False, "small": None, "averaged": False, "batch_size": 64}
    changes = {
        "input_pipeline": {}, "precision": {}, "batch_size": {"batch_size": 250}, "muon": {"muon": True},
        "resizing": {"small": 0.75}, "averaging": {"averaged": True},
    }  # fmt: skip
    assert experiment.settings_of(()) == plain
    for name, change in changes.items():
        assert experiment.settings_of((name,)) == plain | change
    names = {experiment.name_of((name,)) for name in changes}
    assert len(names) == 6
    assert experiment.name_of(()) == experiment.name_of(("input_pipeline",)) == experiment.IN_FLOAT32
    assert experiment.TRAININGS[experiment.IN_FLOAT32] == experiment.TRAININGS["adamw 64"] | {"policy": "float32"}
    assert [name for name, given in experiment.TRAININGS.items() if "policy" in given] == [experiment.IN_FLOAT32]
    assert experiment.name_of(experiment.LADDER) == "muon 250 resized averaged"


@pytest.mark.parametrize(
    ("accuracies", "first", "epochs", "reached", "tried"),
    [
        ([0.7, 0.8, 0.89, 0.9], 3, 2 + 7 / 9, True, [3, 2]),
        ([0.7, 0.8, 0.83, 0.86, 0.88], 3, 4.5, True, [3, 4, 5]),
        ([0.88, 0.9, 0.9], 3, 77 / 78, True, [3, 2, 1]),
        ([0.87, 0.5, 0.9], 3, 2 + 37 / 40, True, [3, 2]),
        ([0.5] * 16, 14, 16.0, False, [14, 15, 16]),
    ],
)
def test_the_epochs_that_are_needed_lie_between_two_lengths(accuracies, first, epochs, reached, tried):
    asked = []

    def accuracy_after(length: int) -> float:
        asked.append(length)
        return accuracies[length - 1]

    assert experiment.epochs_needed(accuracy_after, first) == (pytest.approx(epochs), reached)
    assert asked == tried


def test_a_time_counts_small_epochs_as_such():
    assert experiment.seconds_of(2.5, 10.0, 20.0, resized=False) == 50
    assert experiment.seconds_of(3.0, 10.0, 20.0, resized=True) == 10 + 40
    assert experiment.seconds_of(3.5, 10.0, 20.0, resized=True) == pytest.approx(50 + 0.5 * (60 - 50))


def test_each_occasion_counts_epochs_at_a_seed_of_its_own():
    rows = {(name,): np.array([[n + 1.5, 1.0, 0.9] for n in range(4)]) for name in experiment.TRAININGS}
    found = [experiment.epochs_at(rows, occasion) for occasion in range(4)]
    assert [set(one.values()) for one in found] == [{1.5}, {2.5}, {3.5}, {4.5}]
    rows["muon 64",][2, 1] = 0.0
    assert experiment.epochs_at(rows, 1)["muon 64"] == 2.5
    with pytest.raises(ValueError, match="muon 64 did not reach 87%"):
        experiment.epochs_at(rows, 2)


def test_a_table_entry_trains_at_its_rate_and_length(monkeypatch):
    calls = []

    def train(train_set, validation_set, classes, *, rate, decay, epochs, callbacks, **given):
        calls.append((len(train_set), (rate, decay), epochs, given))
        reached = 0.861 + 0.01 * (epochs - 3)
        history = {
            "val_accuracy": [min(0.8 + 0.03 * epoch, reached) for epoch in range(epochs)],
            "loss": [1.0] * epochs,
        }
        for callback in callbacks:
            if isinstance(callback, keras.callbacks.History):
                callback.history = history

    monkeypatch.setattr(recipe, "train", train)
    run = of_run.Run("setting", 801, sources.Request(train_images=1000), None, None)
    chosen = [(experiment.RATES[which], experiment.DECAYS[which]) for which in (("muon", 250), ("adamw", 64))]
    found = experiment.measure({"training": "muon 250 averaged"}, run)
    assert [(how, epochs) for _, how, epochs, _ in calls] == [(chosen[0], 3), (chosen[0], 4)]
    assert calls[0][0] == 4  # Batches of 250.
    assert calls[0][3] == {"muon": True, "small": None, "averaged": True}
    assert found == {"epochs": pytest.approx(3 + 0.01 / 0.011), "reached": 1.0, "accuracy": pytest.approx(0.871)}
    calls.clear()
    found = experiment.measure({"training": experiment.IN_FLOAT32}, run)
    ((steps, how, epochs, given),) = calls
    assert (steps, how, epochs) == (15, chosen[1], experiment.MOST)
    assert given["policy"] == "float32"
    assert found["reached"] == 1.0
    assert found["epochs"] == pytest.approx(3 + 1 / 3)


def test_a_training_that_diverges_counts_as_the_longest(monkeypatch):
    def train(*_, callbacks, **how):
        for callback in callbacks:
            if isinstance(callback, keras.callbacks.History):
                callback.history = {"val_accuracy": [0.1], "loss": [math.nan]}

    monkeypatch.setattr(recipe, "train", train)
    run = of_run.Run("setting", 801, sources.Request(train_images=1000), None, None)
    found = experiment.measure({"training": "adamw 64"}, run)
    assert (found["epochs"], found["reached"]) == (experiment.MOST, 0.0)


@pytest.mark.variants
def test_a_timed_step_has_the_variants_feed_policy_and_optimizer():
    files = encoded.read(sources.Request()).take(250).apply(tf.data.experimental.assert_cardinality(250))
    found = {}
    for name in ("plain", "all_six"):
        seen = []
        step = experiment.build_step(VARIANTS[name], 24, files, DATA, 1)
        model, train_on_batch = step.train_on_batch.__self__, step.train_on_batch
        step.train_on_batch = lambda *batch, seen=seen, work=train_on_batch: seen.append(batch) or work(*batch)
        step()
        net = getattr(model.layers[-1], "layer", model.layers[-1])
        conv = next(layer for layer in net.layers if isinstance(layer, keras.layers.Conv2D) and layer.trainable)
        found[name] = (len(seen[0][0]), conv.compute_dtype, type(model.optimizer).__name__, sides_of(model))
    assert found == {"plain": (64, "float32", "AdamW", 24), "all_six": (250, "bfloat16", "GramMuon", 24)}


def test_only_the_ready_input_pipeline_caches_maps_in_parallel_and_prefetches(monkeypatch):
    given = []

    def build_feed(files, batch_size, **how):
        given.append((batch_size, how["cache"], how["parallel"], how["prefetch"]))
        return few()

    monkeypatch.setattr(experiment.input_pipeline, "build_feed", build_feed)
    for name in ("only_batch_size", "only_input_pipeline"):
        experiment.build_step(VARIANTS[name], 32, None, DATA, 1)
    assert given == [(250, False, False, False), (64, True, True, True)]


@pytest.mark.parametrize("published", [True, False])
def test_the_time_to_the_target_is_looked_up_where_the_table_is_there(monkeypatch, tmp_path, published):
    names = ("plain", "all_six")
    seconds = {"plain 32": 1.0, "all_six 24": 2.0, "all_six 32": 4.0}

    class Timed(of_run.Run):
        def interleaved(self, steps, **shape):
            assert set(steps) == set(seconds)
            return Blocks({name: np.array([seconds[name]]) for name in steps}, 1, [])

    monkeypatch.setattr(experiment, "build_step", lambda *_: lambda: None)
    rows = {(name,): np.array([[3.0, 1.0, 0.9]] * 4) for name in experiment.TRAININGS}
    seconds_before = {"plain 32": 8.0, "all_six 24": 5.0, "all_six 32": 7.0}
    calls = iter([seconds_before[name] for name in seconds])
    monkeypatch.setattr(experiment, "first_call", lambda step: next(calls))
    monkeypatch.setattr(experiment.Table, "digest", lambda *_: "there" * published)
    monkeypatch.setattr(experiment.Table, "read", lambda *_: rows)
    request = sources.Request(train_images=1000)
    runs = {name: Timed(name, 301, request, None, tmp_path) for name in names}
    found = experiment.compare(experiment.EXPERIMENT.config(images=250, steps=11), runs)
    assert found["plain"]["epoch_seconds"] == pytest.approx(1000 / 64)
    assert found["all_six"]["epoch_seconds"] == pytest.approx(4 * 4.0)
    if published:  # Two epochs of three are of whole images.
        assert found["all_six"]["seconds"] == pytest.approx(5 + 7 + 4 * (2.0 + 2 * 4.0))
        assert found["plain"]["log_seconds"] == pytest.approx(math.log(8 + 3 * 1000 / 64))
    else:
        assert "seconds" not in found["plain"]
