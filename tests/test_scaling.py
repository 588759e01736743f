"""Scalings are what their names say, one image has an outlier, and tables are prepared before or after the split."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.experiments import scaling as experiment
from pipelines import batches, sources
from recipes import scaling as recipe

DATA = sources.load(sources.Request(train_images=500))
IMAGES = DATA.train.images[:40]
FEED = tf.data.Dataset.from_tensor_slices(IMAGES).batch(7)


# The recipe


def scaled(scaling, inputs=IMAGES, feed=FEED) -> np.ndarray:
    return np.asarray(recipe.scaling_layer(scaling, feed)(inputs))


def test_standardized_images_have_mean_0_and_variance_1_in_each_channel():
    found = scaled("standardized")
    assert found.mean(axis=(0, 1, 2)) == pytest.approx(0, abs=1e-4)
    assert found.std(axis=(0, 1, 2)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_min_max_goes_from_the_lowest_to_the_highest_value_of_each_channel(dtype):
    """Of all batches, and not of the last: the first image has the lowest values, and the last one the highest."""
    images = IMAGES.astype(dtype)
    images[0, 0, 0], images[-1, 0, 0] = (1, 2, 3), (255, 250, 240)
    images[1:-1] = np.clip(images[1:-1], 10, 200)
    images[0, 0, 1:], images[0, 1:], images[-1, 0, 1:], images[-1, 1:] = 20, 20, 20, 20
    found = scaled("min_max", images, tf.data.Dataset.from_tensor_slices(images).batch(7))
    assert found.min(axis=(0, 1, 2)) == pytest.approx(0, abs=1e-6)
    assert found.max(axis=(0, 1, 2)) == pytest.approx(1, abs=1e-6)
    assert found[0, 0, 1] == pytest.approx([19 / 254, 18 / 248, 17 / 237], abs=1e-6)


def test_unit_divides_by_255_and_raw_changes_nothing():
    assert scaled("unit") == pytest.approx(IMAGES / 255)
    assert scaled("raw") == pytest.approx(IMAGES.astype("float32"))


def test_columns_of_a_table_are_scaled_each_by_its_own_numbers():
    rows = np.array([[1.0, 100_000], [5.0, 300_000]], "float32")
    feed = tf.data.Dataset.from_tensors(rows)
    assert scaled("min_max", rows, feed).tolist() == [[0, 0], [1, 1]]
    assert scaled("standardized", rows, feed) == pytest.approx(np.array([[-1, -1], [1, 1]]), abs=1e-5)


def test_an_unknown_scaling_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown scaling 'max': use one of raw, unit, standardized, min_max"):
        recipe.scaling_layer("max")


@pytest.fixture
def fits(monkeypatch):
    """The calls of `fit`, which train nothing: model, the training set, arguments."""
    calls = []
    monkeypatch.setattr(keras.Model, "fit", lambda model, feed, **how: calls.append((model, feed, how)))
    return calls


def feed():
    return batches.training(DATA.train, 50, seed=1, augment=False)  # Ten batches.


def rates_of(model, *steps) -> list[float]:
    return [float(model.optimizer._learning_rate(step)) for step in steps]


def test_the_first_layer_scales_and_the_rate_is_the_one_of_the_scaling(fits):
    for name in recipe.RATES:
        model = recipe.train(feed(), None, 10, name)
        wanted = scaled(name, IMAGES, feed().map(lambda images, _: images))
        assert np.asarray(model.layers[1](IMAGES)) == pytest.approx(wanted, abs=1e-5)
        assert rates_of(model, 10, 50) == pytest.approx([recipe.RATES[name], 0.0], abs=1e-6)
    model = recipe.train(feed(), None, 10, keras.layers.Rescaling(2.0), rate=0.7, epochs=2)
    assert np.asarray(model.layers[1](IMAGES)) == pytest.approx(2.0 * IMAGES)
    assert rates_of(model, 4, 20) == pytest.approx([0.7, 0.0], abs=1e-6)
    model = recipe.train(feed(), None, 10, keras.layers.Rescaling(2.0))
    assert rates_of(model, 10) == pytest.approx([recipe.RATES["standardized"]])
    assert rates_of(recipe.train(feed(), None, 10, rate=1), 10, 50) == pytest.approx([1.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_batch_norm_stands_behind_each_convolution_if_asked_for(batch_norm):
    kinds = [type(layer).__name__ for layer in recipe.build_model((32, 32, 3), 10, batch_norm=batch_norm).layers]
    behind = {kinds[at + 1] for at, kind in enumerate(kinds) if kind == "Conv2D"}
    assert behind == {"BatchNormalization" if batch_norm else "ReLU"}


# The experiment


class Fake:
    data = sources.Request(train_images=500)

    def __init__(self, variant, seed=301):
        self.variant, self.seed, self.sets = variant, seed, None

    def bound(self, train_set=None, validation_set=None, classes=None, callbacks=(), seed=None):
        self.sets, self.stops, self.given_seed = train_set, callbacks, seed
        return {"table_accuracy": 0.5} if train_set is None else "model"

    def callbacks(self, data):
        return []

    def scores(self, model, data):
        return {"test_accuracy": 0.5}

    def epochs_to_target(self, target, data):
        return {"epochs_to_target": 3.0}


def run_of(variant, **settings) -> tuple[dict, Fake]:
    run = Fake(variant)
    return experiment.done(variant, experiment.EXPERIMENT.config(**settings), run), run


@pytest.mark.parametrize("variant", ["outlier_min_max", "outlier_standardized", "standardized"])
def test_one_image_has_an_outlier_in_each_epoch_where_the_name_says_so(variant):
    _, run = run_of(variant, batch_size=20)
    for _ in range(2):
        images = np.concatenate([batch.numpy() for batch, _ in run.sets])
        wanted = 3 if variant.startswith("outlier") else 0  # All channels of one pixel.
        assert (images == experiment.OUTLIER).sum() == wanted
        assert len(images) == 500
        assert images[images != experiment.OUTLIER].max() <= 255


def test_images_come_in_another_order_in_each_epoch_and_with_each_seed():
    _, run = run_of("unit", batch_size=20)
    _, again = run_of("unit", batch_size=20)
    first, second, same = ([labels.numpy().tolist() for _, labels in one] for one in (run.sets, run.sets, again.sets))
    assert first == same != second


def test_only_races_stop_at_their_target():
    metrics, run = run_of("unit_race")
    assert (len(run.stops), metrics["epochs_to_target"]) == (1, 3.0)
    for variant, settings in (("unit", {}), ("unit_race", {"target": None})):
        metrics, run = run_of(variant, **settings)
        assert (run.stops, metrics) == ([], {"test_accuracy": 0.5})


def test_tables_are_drawn_by_the_runs_seed():
    metrics, run = run_of("selected_after")
    assert (metrics, run.given_seed) == ({"table_accuracy": 0.5}, 301)


def test_what_is_scaled_twice_is_divided_by_255_squared(fits):
    experiment.scaled_twice(feed(), None, 10, rate=0.1)
    ((model, *_),) = fits
    assert np.asarray(model.layers[1](IMAGES)) == pytest.approx(IMAGES / 255**2)


def test_each_variant_has_the_scaling_rate_and_model_of_its_name():
    for name in experiment.TUNED:
        given = experiment.VARIANTS[name].keywords
        if "twice" in name:
            assert experiment.VARIANTS[name].func is experiment.scaled_twice
        else:
            assert given["scaling"] == next(one for one in ("raw", "unit", "standardized", "min_max") if one in name)
        assert given.get("rate") == experiment.RATES.get(name)
        if not name.endswith("_race"):
            with_it = getattr(given["build_model"], "keywords", {}) == {"batch_norm": True}
            assert with_it == name.endswith("batch_norm")
    for name in ("raw", "twice"):
        assert experiment.VARIANTS[f"{name}_at_units_rate"].keywords["rate"] == recipe.RATES["unit"]


def test_the_highest_rate_is_the_one_of_theory():
    """Descent on squares diverges above 1/λ, the largest eigenvalue of the mean of x xᵀ, with a 1 for the bias."""
    columns, _ = experiment.houses(seed=1)
    assert columns.mean(axis=0) == pytest.approx([5, 1e5], rel=0.05)
    for scaling in ("raw", "standardized"):
        found = experiment.regression(scaling, seed=1)
        layer = recipe.scaling_layer(scaling, tf.data.Dataset.from_tensors(columns))
        inputs = np.column_stack([np.asarray(layer(columns), np.float64), np.ones(len(columns))])
        limit = np.log10(1 / np.linalg.eigvalsh(inputs.T @ inputs / len(inputs)).max())
        assert found["log_rate"] == pytest.approx(limit, abs=0.01)
    assert experiment.regression("standardized", 1)["explained_variance"] > 0.8


def test_races_have_the_optimizer_of_their_name_at_one_rate(fits):
    for name, kind in (("unit_race", "Adam"), ("unit_momentum_race", "SGD")):
        model = experiment.VARIANTS[name](feed(), None, 10)
        assert type(model.optimizer).__name__ == kind
        assert rates_of(model, 0, 30) == pytest.approx([experiment.RATES[name]] * 2)
    assert (model.optimizer.momentum, model.optimizer.nesterov) == (0.9, True)


def test_grids_of_rates_fit_the_scaling_and_the_optimizer():
    grids = experiment.EXPERIMENT.tuning.grids
    assert grids["raw_batch_norm"] == grids["standardized_batch_norm"] == grids["unit"]
    assert max(grids["raw_momentum_race"]) < min(grids["unit_momentum_race"])


@pytest.mark.processes
def test_noise_tells_nothing_unless_it_is_selected_before_the_split():
    """Balanced labels that nothing tells anything of: half is right on average, and a leak shows."""
    after = np.mean([experiment.leaked(before=False, select=True, seed=seed)["table_accuracy"] for seed in range(4)])
    before = experiment.leaked(before=True, select=True, seed=1)["table_accuracy"]
    assert after == pytest.approx(0.5, abs=0.06)
    assert before > 0.7


def test_statistics_before_and_after_the_split_differ(monkeypatch):
    """Both see the same tables; what the regression is given is scaled by all rows or by those that train."""
    given = []

    class Looking:
        def fit(self, columns, labels):
            given.append(columns.mean(axis=0))
            return self

        def score(self, columns, labels):
            return 1.0

    monkeypatch.setattr(experiment, "LogisticRegression", Looking)
    monkeypatch.setattr(experiment, "REPEATS", 1)
    for before in (True, False):
        experiment.leaked(before=before, select=False, seed=1)
    assert np.abs(given[0]).max() > 0.01
    assert given[1] == pytest.approx(0, abs=1e-12)
