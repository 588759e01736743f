"""Dirt is what the names say, what repairs it has seen training rows alone, and a regression predicts in its unit."""

import math
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


def test_a_flag_says_where_values_were_missing():
    train = np.stack([np.arange(50.0), 2 * np.arange(50.0), np.ones(50)], axis=1)
    train[7, 1] = np.nan
    holed = np.array([[30.0, np.nan, 1.0], [0.0, 0.0, 1.0]])
    for predict in (False, True):
        assert recipe.fill_missing(holed, train, predict=predict, flag=True)[:, 3:].tolist() == [[1], [0]]
        assert recipe.fill_missing(holed, train, predict=predict).shape == (2, 3)


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


@pytest.mark.parametrize("others", [0.0, 3.0])
def test_targets_most_of_which_are_equal_do_not_divide_by_zero(others):
    """So that their quartiles are equal, and perhaps all of them."""
    keras.utils.set_random_seed(1)
    targets = np.where(np.arange(400) % 10, 7.0, 7.0 + others)
    model = recipe.train(table(targets), None, rate=0.001, epochs=2)
    assert model.predict(NORMAL, verbose=0).mean() == pytest.approx(7, abs=1)


def test_a_callback_sees_the_model_inside_and_the_returned_one_is_to_be_compiled():
    """As `train` says: what a callback saves predicts in units of the quartiles' distance."""
    kept = keras.callbacks.LambdaCallback(on_train_end=lambda _: inside.append(kept.model))
    inside: list = []
    model = recipe.train(table(5000 + 300 * NORMAL[:, 0]), None, epochs=1, callbacks=[kept])
    assert abs(inside[0].predict(NORMAL, verbose=0)).max() < 100 < 4000 < model.predict(NORMAL, verbose=0).min()
    assert not model.compiled
    model.compile(loss="mae")
    assert math.isfinite(model.evaluate(table(NORMAL[:, 0]), verbose=0))


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
    """Of each table: the training rows, the rows that the model was asked about, the true targets, and how it was
    trained. Its model says zero."""
    calls = []

    def train(train_set, validation_set, **how):
        assert validation_set is None
        inputs, targets = map(np.concatenate, zip(*train_set.as_numpy_iterator(), strict=True))
        order = np.lexsort([targets, *inputs.T])
        calls.append(types.SimpleNamespace(inputs=inputs[order], targets=targets[order], asked=[], truth=[], how=how))
        return types.SimpleNamespace(predict=lambda columns, **_: np.zeros((len(columns), 1)))

    def errors(model, columns, targets):
        calls[-1].asked.append(columns)
        calls[-1].truth.append(targets)
        return scored(model, columns, targets)

    scored = experiment.errors
    monkeypatch.setattr(recipe, "train", train)
    monkeypatch.setattr(experiment, "errors", errors)
    return calls


def two(trained, table="houses", **dirt):
    """A clean table, and the same one dirty."""
    for settings in ({}, dirt):
        experiment.regression(table=table, seed=7, **settings)
    return trained


def too_large(clean, dirty):
    """How many numbers of each column are as they were, and how many a hundred times that."""
    same, wrong = np.isclose(clean, dirty), np.isclose(100 * clean, dirty)
    assert np.all(same | wrong)
    return np.atleast_1d((wrong & ~same).sum(axis=0)).tolist()


def test_a_share_of_each_column_is_too_large():
    """Rounded up, and drawn apart for each column."""
    numbers = 1 + np.arange(5000.0).reshape(1000, 5)
    for share, count in ((0.0, 0), (experiment.ONE, 1), (0.01, 10), (0.0101, 11)):
        dirty = experiment.dirtied(numbers, share, np.random.default_rng(1))
        assert too_large(numbers, dirty) == [count] * 5
    assert len(np.unique(np.nonzero(dirty != numbers)[0])) > 40
    assert numbers.max() == 5000
    assert too_large(numbers[:, 0], experiment.dirtied(numbers[:, 0], 0.01, np.random.default_rng(1))) == [10]


@pytest.mark.parametrize(("dirt", "count"), [(experiment.ONE, 1), (0.01, 10)])
def test_targets_are_wrong_in_training_alone(trained, dirt, count):
    clean, dirty = two(trained, part="targets", dirt=dirt)
    assert (len(clean.inputs), [len(rows) for rows in clean.asked]) == (1000, [1000, 2000])
    assert len(set(dirty.targets) - set(clean.targets)) == count
    assert np.array_equal(np.sort(clean.inputs, axis=0), np.sort(dirty.inputs, axis=0))
    for part in (0, 1):
        assert np.array_equal(clean.asked[part], dirty.asked[part])
        assert np.array_equal(clean.truth[part], dirty.truth[part])


def test_inputs_are_wrong_wherever_a_model_meets_them(trained):
    clean, dirty = two(trained, part="inputs", dirt=0.01)
    assert np.array_equal(np.sort(clean.targets), np.sort(dirty.targets))
    for part, count in ((0, 10), (1, 20)):
        assert too_large(clean.asked[part], dirty.asked[part]) == [count] * 5
        assert np.array_equal(clean.truth[part], dirty.truth[part])
    gone = [len(set(dirty.inputs[:, column]) - set(clean.inputs[:, column])) for column in range(5)]
    assert gone == [10] * 5


def test_the_other_part_is_not_clipped(trained):
    clean, targets = two(trained, part="targets", clip=1.0, loss="mse")
    experiment.regression(table="houses", seed=7, part="inputs", clip=1.0)
    inputs = trained[2]
    assert targets.how["loss"] == "mse"
    assert np.array_equal(np.sort(clean.inputs, axis=0), np.sort(targets.inputs, axis=0))
    assert np.array_equal(np.sort(clean.targets), np.sort(inputs.targets))
    bounds = np.percentile(clean.targets, [1, 99])
    assert [targets.targets.min(), targets.targets.max()] == pytest.approx(bounds, rel=1e-6)
    for column in range(5):
        bounds = np.percentile(clean.inputs[:, column], [1, 99])
        for rows in (inputs.inputs, *inputs.asked):  # Training rows say what is extreme in the others, too.
            found = rows[:, column]
            assert [found.min(), found.max()] == pytest.approx(bounds, rel=1e-6)
    for part in (0, 1):
        assert np.array_equal(clean.truth[part], targets.truth[part])


@pytest.mark.parametrize("table", experiment.HOLED)
def test_clipping_is_never_at_the_edge_of_the_dirt(trained, table):
    """What is said to repair cuts off all of the dirt and what is not leaves most of it, at any seed."""
    tried = {name: given for name, given in experiment.TABLES.items() if given.get("clip") and given.get("dirt")}
    for name, given in ((name, given) for name, given in tried.items() if given["table"] == table):
        for seed in (1, 2, 3):
            trained.clear()
            how = {key: value for key, value in given.items() if key not in ("dirt", "clip")}
            for settings in (how, given):
                experiment.regression(seed=seed, **settings)
            (clean, dirty), part = trained, given.get("part", "targets")
            most = [abs(getattr(one, part)).max(axis=0) for one in (clean, dirty)]
            if name.endswith("less"):
                assert np.all(most[1] > 10 * most[0]), name
            else:
                assert np.all(most[1] <= most[0]), name


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
    for fill in experiment.FILLED:
        experiment.regression(table="houses", seed=7, missing="random", fill=fill)
    found = dict(zip(experiment.FILLED, trained, strict=True))
    for one in trained:
        assert all(np.isfinite(rows).all() for rows in (one.inputs, *one.asked))
    filled = []
    for rows in (found["mean"].inputs, *found["mean"].asked):  # With the mean of training rows, in all parts.
        values, counts = np.unique(rows[:, 1].astype("float32"), return_counts=True)
        assert counts.max() == 0.3 * len(rows)
        filled.append(values[counts.argmax()])
    assert len(set(filled)) == 1
    assert np.unique(found["predicted"].inputs[:, 1], return_counts=True)[1].max() < 10
    assert [one.inputs.shape[1] for one in found.values()] == [5, 7, 5]
    for rows in (found["flagged"].inputs, *found["flagged"].asked):
        assert rows[:, 5:].mean(axis=0) == pytest.approx([0.3, 0.3], abs=1e-6)
    assert np.array_equal(found["flagged"].asked[1][:, :5], found["mean"].asked[1])


def saying(value):
    return types.SimpleNamespace(predict=lambda columns, **_: np.full((len(columns), 1), value, "float32"))


def test_an_error_is_the_logarithm_of_the_root_mean_square_and_has_no_highest():
    targets, columns = np.array([0.0, 2.0], "float32"), np.zeros((2, 1))
    found = experiment.errors(saying(1.0), columns, targets)
    assert found == {"log_error": 0.0, "explained_variance": 0.0}
    found = experiment.errors(saying(1e6), columns, targets)
    assert found["log_error"] == pytest.approx(math.log(1e6), abs=1e-3)
    assert found["explained_variance"] == -1
    found = experiment.errors(saying(2.0), columns, targets + 2)
    assert found == pytest.approx({"log_error": math.log(math.sqrt(2)), "explained_variance": -1.0})
    assert math.isfinite(experiment.errors(saying(5.0), columns, np.array([5.0, 5.0 + 1e-6]))["log_error"])


def test_a_model_that_answers_nothing_counts_as_far_off():
    found = experiment.errors(saying(np.nan), np.zeros((2, 1)), np.array([0.0, 20.0], "float32"))
    assert found == pytest.approx({"log_error": math.log(math.sqrt(200)), "explained_variance": -1.0})


def test_a_table_is_scored_on_its_test_rows_and_tuned_on_its_validation_rows(monkeypatch, trained):
    scores = iter([{"log_error": 1.0, "explained_variance": 0.1}, {"log_error": 2.0, "explained_variance": 0.2}])
    monkeypatch.setattr(experiment, "errors", lambda model, columns, targets: {**next(scores), "rows": len(columns)})
    found = experiment.regression(table="houses", seed=1)
    assert found == {"log_error": 2.0, "explained_variance": 0.2, "rows": 2000, "validation_error": 1.0}


def test_wrong_labels_are_others_than_the_true_ones():
    labels = np.arange(1000) % 10
    wrong = experiment.with_wrong_labels(labels, 10, seed=3, share=0.4)
    assert (wrong != labels).sum() == 400
    assert all(len(set(wrong[labels == one])) > 7 for one in range(10))
    confused = experiment.with_wrong_labels(labels, 10, seed=3, share=0.4, confused=True)
    assert np.array_equal(confused != labels, wrong != labels)
    assert set((confused - labels)[confused != labels] % 10) == {1}
    assert np.array_equal(labels, np.arange(1000) % 10)


def test_copies_take_the_place_of_training_images():
    data = sources.load(sources.Request(train_images=1000))
    mixed = experiment.with_copies(data.train, data.validation)
    assert len(mixed) == 1000
    both = set(data.train.ids), set(data.validation.ids)
    assert [len(set(mixed.ids) & ids) for ids in both] == [800, 200]
    assert len(set(data.validation.labels[np.isin(data.validation.ids, mixed.ids)])) == 10
    where = {name: place for place, name in enumerate(data.validation.ids)}
    for image, label, name in list(zip(mixed.images, mixed.labels, mixed.ids, strict=True))[-5:]:
        assert label == data.validation.labels[where[name]]
        assert np.array_equal(image, data.validation.images[where[name]])


def test_a_training_on_labels_has_as_many_steps_as_it_is_told_to(monkeypatch):
    given = []
    monkeypatch.setattr(recipe, "train", lambda feed, *_, **how: given.append((len(feed), how["epochs"], how["rate"])))
    feed = tf.data.Dataset.range(20).batch(5)
    for how in ({}, {"shorter": 9.0, "rate": 0.5}, {"shorter": 1e9}, {"shorter": 3.0, "steps": 7}):
        experiment.on_labels(feed, None, 10, **how)
    assert given == [(4360, 1, 0.003), (484, 1, 0.5), (1, 1, 0.003), (7, 1, 0.003)]


def test_runs_on_images_have_the_labels_and_the_duplicates_of_their_names():
    given = {}

    class Fake:
        data, seed, variant = sources.Request(train_images=1000), 401, ""

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
    for run.variant in ("raw_0", "raw_40", "raw_40_confused", "careful", *experiment.COPIES):
        found[run.variant] = experiment.done(run.variant, config, run)
    assert found["raw_40"] == {"test_accuracy": 0.5, "validation_accuracy": 0.75}
    assert found["duplicates"] == {**found["raw_40"], "leaky_accuracy": 0.75}
    clean, dirty, careful = (given[name][0] for name in ("raw_0", "raw_40", "careful"))
    assert (len(clean), len(careful)) == (1000, 460)
    assert sum(clean[image] != dirty[image] for image in clean) == 400
    confused = given["raw_40_confused"][0]
    assert {(confused[image] - clean[image]) % 10 for image in clean} == {0, 1}
    assert all(careful[image] == clean[image] for image in careful)
    known = {image.tobytes() for images, _ in given["duplicates"][1].as_numpy_iterator() for image in images}
    assert len(known & set(given["duplicates"][0])) == 200
    assert not known & set(given["no_duplicates"][0])


LOSSES = {"squared": "mse", "clipped": "mse", "absolute": "mae"}
DIRT = {"one": experiment.ONE, "thousandth": 0.001, "percent": 0.01}


def test_each_table_has_the_dirt_and_the_repair_of_its_name():
    for name, settings in experiment.TABLES.items():
        variant = experiment.VARIANTS[name]
        assert isinstance(variant, partial)
        assert variant.func is experiment.regression
        given = dict(variant.keywords)
        assert given.pop("rate") == experiment.RATES[name]
        assert given == settings
        words = name.replace("clipped_less", "clipped less").replace("batch_norm", "norm").replace(" ", "_").split("_")
        assert given["table"] == words[0]
        if "missing" in words:
            assert given == {"table": words[0], "missing": words[2], "fill": words[3]}
            continue
        assert given.get("part", "targets") == ("inputs" if "inputs" in words else "targets")
        assert given.get("dirt", 0.0) == sum(DIRT.get(word, 0.0) for word in words)
        assert bool(given.get("clip")) == ("clipped" in words)
        assert given.get("batch_norm", False) == ("norm" in words)
        loss = "huber" if "inputs" in words else LOSSES.get(words[2], "huber")
        assert given.get("loss", "huber") == loss


def test_labels_are_tuned_alike_in_rate_and_length():
    tuning = experiment.EXPERIMENT.tuning
    assert set(tuning.second) == set(tuning.own_fixed) == set(experiment.LABELS)
    assert {len(grid) for grid in tuning.grids.values()} == {5}
    for name in experiment.LABELS:
        given = experiment.VARIANTS[name].keywords
        assert given == {"rate": experiment.RATES[name], "shorter": experiment.SHORTER[name]}
    for name in experiment.TABLES:
        assert tuning.objective_of(name).lower


@pytest.mark.parametrize(("table", "metric"), [("houses", "log_error"), ("diabetes", "explained_variance")])
def test_a_claim_about_a_table_is_supported_by_a_smaller_error(table, metric):
    """The sum that a claim is about is positive where the better variant is better."""
    worse = 1.0 if metric == "log_error" else -1.0
    claims = {claim.id: claim for claim in experiment.CLAIMS if claim.id.endswith(table)}
    assert len(claims) > 10
    for claim in claims.values():
        assert claim.metric == metric
        first, second = claim.pairs[0]
        if claim.kind == "no worse":
            assert claim.side == ("above" if worse > 0 else "below")
        else:
            assert claim.contrast((first, second))[second] == worse
    assert claims[f"G14a_{table}"].pairs == [(f"{table}_clean_squared", f"{table}_one_squared")]


def test_what_is_said_of_one_nan_is_asked_of_every_network():
    """A ReLU may make a NaN a zero: whether all weights are lost there depends on the processor."""
    claims = {claim.id: claim for claim in experiment.CLAIMS}
    assert claims["G13b"].holds
    assert claims["G13d"].holds
    relu = np.isnan(experiment.after_one_nan()[0])
    assert relu.mean() > 0
    assert claims["G13a"].holds == relu.all()
    assert claims["G13c"].holds == (relu.mean() < 0.1)


def test_every_variant_serves_a_claim():
    claimed = {name for claim in experiment.CLAIMS for name in claim.variants}
    assert set(experiment.VARIANTS) == claimed
