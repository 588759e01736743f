"""Dirt is what the names say, what repairs it has seen training rows alone, and a regression predicts in its unit."""

import types
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.experiments import dirty_data as experiment
from pipelines import sources
from recipes import dirty_data as recipe

DRAWS = np.random.default_rng(0)
NORMAL = DRAWS.normal(size=(400, 5)).astype("float32")


def table(targets, columns=NORMAL, size=32) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((columns, targets.astype("float32"))).batch(size)


# The recipe


@pytest.mark.parametrize(("inputs", "targets"), [(np.nan, 1.0), (np.inf, 1.0), (1.0, np.nan)])
def test_what_is_not_finite_fails_before_a_step(inputs, targets):
    columns, wanted = np.ones((8, 5), "float32"), np.ones(8, "float32")
    assert recipe.checked(columns, tf.constant(wanted))[0].shape == (8, 5)
    columns[3, 2], wanted[5] = inputs, targets
    with pytest.raises(tf.errors.InvalidArgumentError, match="is NaN or infinite"):
        list(table(wanted, columns, size=4).map(recipe.checked))


def test_labels_and_pixels_are_checked_too():
    images, labels = recipe.checked(tf.zeros((2, 4, 4, 3), tf.uint8), tf.constant([1, 2]))
    assert images.dtype == tf.float32
    assert labels.numpy().tolist() == [1, 2]


def test_training_rows_say_what_is_extreme():
    train = np.arange(101.0)
    assert recipe.clip_to_percentiles(np.array([-5.0, 50.0, 1e6]), train).tolist() == [1, 50, 99]
    columns = np.stack([train, 10 * train], axis=1)
    columns[0, 0] = np.nan
    clipped = recipe.clip_to_percentiles(np.array([[1e6, 1e6]]), columns, low=0, high=90)
    assert clipped.tolist() == [[pytest.approx(90.1), 900]]


def test_missing_values_are_predicted_or_the_mean_of_training_rows():
    train = np.stack([np.arange(50.0), 2 * np.arange(50.0)], axis=1)
    holed = np.array([[30.0, np.nan], [0.0, 0.0]])
    assert recipe.fill_missing(holed, train)[0, 1] == pytest.approx(60, abs=0.5)
    assert recipe.fill_missing(holed, train, predict=False)[0, 1] == pytest.approx(49)
    assert recipe.fill_missing(holed, train)[1].tolist() == [0, 0]


def test_duplicates_are_found_to_the_bit():
    images = DRAWS.integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
    others = images[[4, 2]].copy()
    nearly = images[:1].copy()
    nearly[0, 0, 0, 0] ^= 1
    assert recipe.duplicates(images, np.concatenate([others, nearly])).tolist() == [2, 4]
    assert recipe.duplicates(images, others[:0]).tolist() == []


def test_predictions_are_in_the_targets_unit():
    """A linear truth, far from zero."""
    keras.utils.set_random_seed(1)
    truth = 5000 + 300 * NORMAL[:, 0]
    model = recipe.train(table(truth), None, rate=0.01, epochs=30)
    errors = model.predict(NORMAL, verbose=0)[:, 0] - truth
    assert errors.std() < 60
    assert abs(errors.mean()) < 30


def test_columns_are_scaled_by_training_rows():
    columns = 1000 + 50 * NORMAL
    model = recipe.train(table(NORMAL[:, 0], columns), table(NORMAL[:, 0], 2 * columns), epochs=1)
    scaled = np.asarray(model.layers[0].get_layer("scaling")(columns))
    assert scaled.mean(axis=0) == pytest.approx(np.zeros(5), abs=1e-3)
    assert scaled.std(axis=0) == pytest.approx(np.ones(5), abs=1e-3)


def test_the_loss_is_that_of_targets_in_units_of_their_quartiles():
    seen = keras.callbacks.History()
    targets = np.repeat([0.0, 100.0, 200.0], [100, 200, 100])  # The quartiles are 100 apart around 100, or 0.

    class Zero(keras.Model):
        def call(self, columns):
            return 0.0 * columns[:, :1]

    for loss, wanted in (("mse", 0.5), ("mae", 0.5)):
        recipe.train(
            table(NORMAL[:400, 0] * 0 + targets, size=400), None, loss=loss, epochs=1,
            build_model=lambda shape, outputs: Zero(), callbacks=[seen],
        )  # fmt: skip
        low, high = np.percentile(targets, [25, 75])
        assert seen.history["loss"][-1] == pytest.approx(wanted * (100 / (high - low)) ** (2 if loss == "mse" else 1))


def test_batch_norm_is_there_if_asked_for():
    for batch_norm in (False, True):
        kinds = [type(layer).__name__ for layer in recipe.build_model((5,), 1, batch_norm=batch_norm).layers]
        assert kinds.count("BatchNormalization") == 2 * batch_norm
        assert kinds.count("ReLU") == 2


# The experiment


def test_parts_of_a_table_share_no_row():
    for name in ("houses", "diabetes"):
        parts = experiment.split_table(name, np.random.default_rng(1))
        rows = [{row.tobytes() for row in columns} for columns, _ in parts]
        assert not rows[0] & rows[1]
        assert not rows[0] & rows[2]
        assert not rows[1] & rows[2]
    assert sum(map(len, rows)) == 442


@pytest.fixture
def trained(monkeypatch):
    """What `recipe.train` was given, as arrays, and how; its model is as good as the mean."""
    calls = []

    def train(train_set, validation_set, **how):
        both = train_set, validation_set
        parts = [[np.concatenate(part) for part in zip(*one.as_numpy_iterator(), strict=True)] for one in both]
        calls.append((*parts, how))
        return types.SimpleNamespace(predict=lambda columns, **_: np.zeros((len(columns), 1)))

    monkeypatch.setattr(recipe, "train", train)
    return calls


def changed(trained, **dirt) -> tuple[int, int]:
    """How many inputs and targets of the training rows differ from those of a clean table."""
    trained.clear()
    for settings in ({}, dirt):
        experiment.regression(seed=7, **settings)
    (clean, same, _), (dirty, known, _) = trained
    for a, b in zip(same, known, strict=True):
        assert np.array_equal(a, b)
    rows = {row.tobytes() for row in clean[0]} - {row.tobytes() for row in dirty[0]}
    return len(rows), len(set(clean[1].tolist()) - set(dirty[1].tolist()))


def test_numbers_are_a_hundred_times_too_large_where_the_name_says_so(trained):
    assert changed(trained, targets_are="one") == (0, 1)
    assert trained[1][0][1].max() > 25 * trained[0][0][1].max()
    assert changed(trained, targets_are="percent") == (0, 20)
    rows, targets = changed(trained, inputs_are="percent")  # A hundred numbers of 10,000, some in the same row.
    assert 90 < rows <= 100
    assert targets == 0


def test_only_what_is_dirty_is_clipped(trained):
    experiment.regression(seed=7, targets_are="percent", clip=True, loss="mse")
    experiment.regression(seed=7, inputs_are="thousandth", clip=True)  # Of 1 %, the percentiles leave some.
    experiment.regression(seed=7)
    (targets, _, how), (inputs, known, _), (clean, clean_known, _) = trained
    assert how["loss"] == "mse"
    assert targets[1].max() < 2 * clean[1].max()
    assert inputs[0].max() < 2 * clean[0].max()
    assert set(inputs[1]) == set(clean[1])
    assert known[0].max() <= inputs[0].max()
    assert not np.array_equal(known[0], clean_known[0])


def test_holes_are_where_the_name_says():
    columns = np.random.default_rng(1).normal(size=(4000, 5))
    found = {}
    for missing in ("random", "high"):
        holed = experiment.with_holes(columns, (1, 2), missing, np.random.default_rng(2))
        gone = np.isnan(holed)
        assert gone.mean(axis=0) == pytest.approx([0, 0.3, 0.3, 0, 0], abs=0.01)
        found[missing] = columns[gone[:, 1], 1].mean()
    assert abs(found["random"]) < 0.1
    assert found["high"] > 0.5


def test_what_is_missing_is_filled_in_all_parts(trained):
    for predict in (False, True):
        experiment.regression(seed=7, missing="random", predict=predict)
    (mean, known, _), (predicted, *_) = trained
    assert np.isfinite(mean[0]).all()
    assert np.isfinite(known[0]).all()
    _, counts = np.unique(mean[0][:, 1], return_counts=True)
    assert counts.max() == 0.3 * experiment.ROWS
    assert np.unique(predicted[0][:, 1], return_counts=True)[1].max() < 10


def test_a_model_that_is_far_off_counts_as_minus_one():
    def saying(value):
        return types.SimpleNamespace(predict=lambda columns, **_: np.full((len(columns), 1), value))

    targets = np.array([0.0, 2.0])
    assert experiment.explained(saying(1.0), np.zeros((2, 1)), targets) == 0
    assert experiment.explained(saying(1e9), np.zeros((2, 1)), targets) == -1
    assert experiment.explained(saying(np.nan), np.zeros((2, 1)), targets) == -1


def test_wrong_labels_are_others_than_the_true_ones():
    labels = np.arange(1000) % 10
    wrong = experiment.with_wrong_labels(labels, 0.4, 10, seed=3)
    assert (wrong != labels).sum() == 400
    assert set(wrong) == set(range(10))
    assert np.array_equal(labels, np.arange(1000) % 10)


def test_runs_on_images_have_the_labels_and_the_duplicates_of_their_names():
    given = {}

    class Fake:
        data, seed, variant = sources.Request(train_images=1000), 301, ""

        def bound(self, train_set, validation_set, classes, callbacks):
            parts = [np.concatenate(part) for part in zip(*train_set.as_numpy_iterator(), strict=True)]
            images = [image.tobytes() for image in parts[0]]
            given[self.variant] = dict(zip(images, parts[1], strict=True)), validation_set
            return "model"

        def callbacks(self, data):
            return []

        def scores(self, model, data):
            return {"test_accuracy": 0.5, "validation_accuracy": 0.75}

    run, config = Fake(), experiment.EXPERIMENT.config(batch_size=20)
    found = {}
    for run.variant in ("raw_0", "raw_40", "careful", *experiment.COPIES):
        found[run.variant] = experiment.done(run.variant, config, run)
    assert found["raw_40"] == {"test_accuracy": 0.5, "validation_accuracy": 0.75}
    assert found["duplicates"] == {**found["raw_40"], "leaky_accuracy": 0.75}
    clean, dirty, careful = (given[name][0] for name in ("raw_0", "raw_40", "careful"))
    assert (len(clean), len(careful)) == (1000, 460)
    assert sum(clean[image] != dirty[image] for image in clean) == 400
    assert all(careful[image] == clean[image] for image in careful)
    known = {image.tobytes() for images, _ in given["duplicates"][1].as_numpy_iterator() for image in images}
    assert len(known & set(given["duplicates"][0])) == 200
    assert not known & set(given["no_duplicates"][0])


def test_each_table_has_the_dirt_and_the_repair_of_its_name():
    for name, settings in experiment.TABLES.items():
        variant = experiment.VARIANTS[name]
        assert isinstance(variant, partial)
        assert variant.func is experiment.regression
        given = dict(variant.keywords)
        assert given.pop("rate") == experiment.RATES[name]
        assert given == settings
        words = name.split("_")
        assert given.get("table", "houses") == ("diabetes" if words[0] == "diabetes" else "houses")
        assert given.get("clip", False) == (words[-1] == "clipped")
        assert given.get("predict", False) == (words[-1] == "predicted")
        dirt = {given.get("targets_are", "clean"), given.get("inputs_are", "clean")} - {"clean"}
        assert dirt == {"one", "thousandth", "percent"} & set(words)
