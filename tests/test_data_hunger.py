"""Each variant has as many images, as wide a net and as many steps as its name says, and curves are of nested sets."""

import math
import types
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.experiments import data_hunger as experiment
from pipelines import batches, sources
from recipes import data_hunger as recipe

DATA = sources.load(sources.Request(train_images=1000))
SHAPE = (32, 32, 3)
DRAWS = np.random.default_rng(0)


@pytest.fixture
def fits(monkeypatch):
    """The calls of `fit`, which train nothing: model, number of batches, arguments."""
    calls = []
    monkeypatch.setattr(keras.Model, "fit", lambda model, feed, **how: calls.append((model, len(feed), how)))
    return calls


def feed(images=1000, size=50):
    return batches.training(DATA.train.take(np.arange(images)), size, seed=1, augment=False)


def bright_or_not(count, wrong=0.0):
    """Images whose labels say whether the upper left corner is bright, but for a share that is wrong."""
    bright = DRAWS.random(count) < 0.5
    images = DRAWS.integers(0, 256, (count, 16, 16, 3)).astype(np.uint8)
    images[:, :2, :2] = np.where(bright, 200, 50)[:, None, None, None]
    return types.SimpleNamespace(images=images, labels=(bright ^ (DRAWS.random(count) < wrong)).astype(int))


# The recipe


def test_rows_are_the_means_of_squares():
    images = np.zeros((2, 32, 40, 3), np.uint8)
    images[1, :4, :5, 2] = 100
    rows = recipe.shrunken(images)
    assert rows.shape == (2, 8 * 8 * 3)
    assert np.flatnonzero(rows[1]).tolist() == [2]
    assert rows[1, 2] == 100


def test_a_logistic_regression_has_the_strength_it_is_given():
    data, sizes = bright_or_not(200), []
    for c in (0.001, 1.0):
        model = recipe.build_linear(c).fit(data.images, data.labels)
        assert model.score(data.images, data.labels) > 0.95
        sizes.append(np.linalg.norm(model[-1].coef_))
    assert 3 * sizes[0] < sizes[1]


def test_a_logistic_regression_is_of_columns_of_one_scale():
    """Else how much it is penalized would hang on the images' contrast."""
    data = bright_or_not(200)
    found = [recipe.build_linear(0.01).fit(data.images // part, data.labels)[-1].coef_ for part in (1, 10)]
    assert found[0] == pytest.approx(found[1], abs=0.02)


def test_a_convnet_has_filters_in_proportion_to_its_width():
    for width in (1, 4):
        layers = recipe.build_model(SHAPE, 10, width=width).layers
        assert [layer.filters for layer in layers if isinstance(layer, keras.layers.Conv2D)] == [4 * width, 8 * width]


def test_small_sets_get_as_many_steps_as_large_ones(fits):
    for images in (100, 500, 1000):
        recipe.train(feed(images), None, 10, steps=130)
    recipe.train(feed(), None, 10, steps=5)
    assert [(number, how["epochs"]) for _, number, how in fits] == [(130, 1)] * 3 + [(5, 1)]


def test_epochs_may_be_given_instead(fits):
    recipe.train(feed(), None, 10, epochs=3)
    assert (fits[0][1], fits[0][2]["epochs"]) == (20, 3)


@pytest.mark.parametrize("how", [{"steps": 100}, {"epochs": 5}])
def test_the_schedule_ends_with_the_last_step(fits, how):
    model = recipe.train(feed(), None, 10, rate=0.2, **how)
    assert [float(model.optimizer._learning_rate(step)) for step in (20, 100)] == pytest.approx([0.2, 0.0], abs=1e-6)


def test_weights_decay_as_they_are_told_to(fits):
    assert [recipe.train(feed(), None, 10, decay=decay).optimizer.weight_decay for decay in (0.0, 0.5)] == [0.0, 0.5]


@pytest.fixture
def trained():
    """What `train` was given: which images, by their means, and in batches of which size."""
    calls = []

    class Model:
        def evaluate(self, given, **_):
            return {"accuracy": len(given) / 100}

    def train(part, validation_set, classes, **how):
        some = [(images.mean(axis=(1, 2, 3)), labels) for images, labels in part.as_numpy_iterator()]
        calls.append((set(np.concatenate([means for means, _ in some])), len(some[0][1]), how))
        return Model()

    return calls, train


def test_smaller_sets_are_parts_of_larger_ones(trained):
    calls, train = trained
    for counts in ((40, 80), (160,)):  # Whether or not in one call.
        recipe.learning_curve(feed(200), feed(50), 10, counts, batch_size=20, train=train, rate=0.5)
    small, middle, large = (images for images, *_ in calls)
    assert (len(small), len(middle), len(large)) == (40, 80, 160)
    assert small < middle < large
    assert [rest for _, *rest in calls] == [[size, {"rate": 0.5}] for size in (10, 20, 20)]


def test_a_curve_has_the_validation_accuracy_of_each_size(trained):
    _, train = trained
    curve = recipe.learning_curve(feed(200), feed(300, size=100), 10, (160, 40), batch_size=20, train=train)
    assert curve == {160: 0.03, 40: 0.03}


def test_what_to_expect_of_twice_the_images_is_on_the_line():
    assert recipe.after_doubling({400: 0.5, 200: 0.4, 100: 0.3}) == pytest.approx(0.6)
    assert recipe.after_doubling({50: 0.0, 100: 0.3, 200: 0.3}) == pytest.approx(0.2 + 2 * 0.15)


# The experiment


def test_each_network_has_the_images_the_width_and_the_steps_of_its_name():
    assert set(experiment.NETWORKS) == set(experiment.DECAYS)
    for name in experiment.NETWORKS:
        kind, number, *rest = name.split("_")
        variant = experiment.VARIANTS[name]
        given = dict(variant.keywords)
        assert variant.func is experiment.network
        assert (given.pop("setting"), given.pop("decay")) == (experiment.SETTINGS[name], experiment.DECAYS[name])
        images = 1000 if kind == "width" else int(number)
        assert experiment.EXPERIMENT.own_flags[name] == {"images": images, "batch_size": min(64, images // 4)}
        if kind == "width":
            assert given["build_model"].keywords == {"width": int(number)}
        else:
            assert given == ({rest[1]: int(rest[0])} if rest else {})


def test_ten_epochs_of_all_images_are_as_many_steps_as_all_others_take():
    """So that the arms of equal steps and of equal epochs have the largest set in common."""
    assert 10 * 8000 // experiment.BATCH == 1250
    assert recipe.train.__kwdefaults__["steps"] == experiment.network.__kwdefaults__["steps"] == 1250


def test_a_network_is_trained_with_its_settings(monkeypatch):
    given = []
    monkeypatch.setattr(recipe, "train", lambda *_, **how: given.append(how))
    build_model = recipe.build_model
    experiment.network("feed", "validation", 10, setting=0.5, decay=0.2, steps=7, epochs=3, callbacks=[1])
    how = {"rate": 0.5, "decay": 0.2, "steps": 7, "epochs": 3, "build_model": build_model, "callbacks": [1]}
    assert given == [how]


def test_each_simple_model_has_the_images_and_the_strength_of_its_name():
    for name, size in experiment.SIMPLE.items():
        kind, number = name.split("_")
        variant = experiment.VARIANTS[name]
        assert variant.func is {"linear": experiment.linear, "tree": experiment.tree}[kind]
        assert variant.keywords == {"setting": experiment.SETTINGS[name]}
        assert experiment.EXPERIMENT.own_flags[name]["images"] == size == int(number)
    assert experiment.linear(setting=0.5)[-1].C == 0.5


def test_a_tree_has_so_many_leaves_and_sees_what_the_logistic_regression_sees():
    data = bright_or_not(300, wrong=0.3)
    for setting, leaves in ((0.9, 2), (4.2, 4), (30.0, 30)):
        model = experiment.tree(setting=setting).fit(data.images, data.labels)
        assert model[-1].get_n_leaves() == leaves
    assert model[-1].n_features_in_ == 8 * 8 * 3
    rows = [one[0].transform(data.images) for one in (model, recipe.build_linear().fit(data.images, data.labels))]
    assert np.array_equal(*rows)


def test_simple_models_learn_from_training_images_and_are_scored_on_each_part():
    """Most training labels say the opposite of most others."""
    train, validation, test = (bright_or_not(1000, wrong) for wrong in (0.9, 0.2, 0.3))
    run = types.SimpleNamespace(open_test_set=lambda data: test)
    data = types.SimpleNamespace(train=train, validation=validation)
    found = experiment.fitted(experiment.tree(setting=2), run, data)
    wanted = {"train_accuracy": 0.9, "validation_accuracy": 0.2, "test_accuracy": 0.3}
    assert found == pytest.approx(wanted, abs=0.05)
    assert found["test_accuracy"] == run.correct.mean()
    assert run.correct.shape == (1000,)


def test_simple_models_train_on_as_many_images_as_they_are_named_for(monkeypatch):
    seen = []
    monkeypatch.setattr(experiment, "fitted", lambda model, run, data: seen.append((model, len(data.train))))
    run = types.SimpleNamespace(data=sources.Request(train_images=1000), seed=401, bound=lambda: "model")
    config = experiment.EXPERIMENT.config()
    for variant in ("linear_60", "tree_250", "linear_8000"):
        experiment.done(variant, config, run)
    assert seen == [("model", 60), ("model", 250), ("model", 1000)]


def test_the_crossing_is_where_the_line_through_the_gaps_turns_positive():
    gaps = {size: 0.05 * math.log(size / 300) for size in experiment.SIZES}
    assert experiment.crossing(gaps) == pytest.approx(math.log(300))
    wavering = {size: gap + 0.001 * (-1) ** number for number, (size, gap) in enumerate(gaps.items())}
    assert experiment.crossing(wavering) == pytest.approx(math.log(300), abs=0.05)


@pytest.mark.parametrize(
    ("gap", "wanted"),
    [
        (lambda size: 0.1 * math.log(size / 20), 20),  # It is ahead from the smallest set on.
        (lambda size: 0.1 + 0.01 * math.log(size), 1),
        (lambda size: -0.9 + 0.01 * math.log(size), 1e6),  # It never is.
        (lambda size: 0.9 - 0.01 * math.log(size), 1),
        (lambda size: -0.1 - 0.01 * math.log(size), 1e6),
    ],
)
def test_a_crossing_may_lie_beyond_the_sizes_but_not_below_one_image(gap, wanted):
    found = experiment.crossing({size: gap(size) for size in experiment.SIZES})
    assert found == pytest.approx(math.log(wanted), abs=1e-9)


def test_curves_are_read_from_two_models_on_the_same_nested_sets(monkeypatch):
    """The convnet gains five points a doubling, but two less on 8,000, and is five points better on 500.

    The logistic regression gains one point a doubling.
    """
    fits, trainings = [], []

    class Line:
        def __init__(self, size):
            self.size = size

        def fit(self, images, labels):
            fits.append((self.size, len(images), len(labels)))
            return self

        def score(self, images, labels):
            assert np.array_equal(images, data.validation.images)
            assert np.array_equal(labels, data.validation.labels)
            return 0.3 + 0.01 * math.log2(self.size / 500)

    def net(part, validation_set, classes, *, setting, steps=1250):
        trainings.append((setting, len(part), steps))

    def learning_curve(train_set, validation_set, classes, counts, *, batch_size, train):
        (size,) = counts
        part = tf.data.Dataset.from_tensor_slices((np.zeros((size, 2)), np.zeros(size))).batch(batch_size)
        train(part, validation_set, classes)
        return {size: 0.3 + 0.05 * math.log2(size / 500) - 0.02 * (size == 8000) + 0.05 * (size == 500)}

    monkeypatch.setattr(recipe, "learning_curve", learning_curve)
    request = sources.Request(train_images=1000)
    data = sources.load(request)
    run, config = types.SimpleNamespace(data=request, seed=1), experiment.EXPERIMENT.config(steps=9, batch_size=20)
    models = {
        "convnets": {size: partial(net, setting=size) for size in experiment.SIZES},
        "linears": {size: partial(Line, size) for size in experiment.SIZES},
    }
    found = experiment.curves(config, run, **models)
    assert fits == [(size, size, size) for size in experiment.SIZES]
    assert trainings == [(size, math.ceil(size / 20), 9) for size in experiment.SIZES]
    # Of five equally distant numbers, a line takes a tenth of the second one off what is next to the fifth.
    assert found["missed"] == pytest.approx(-0.02 + 0.005)
    assert found["diminished"] == pytest.approx(4 * 0.05 - 0.03)
    assert found["log_crossing"] == pytest.approx(math.log(500), rel=0.05)
    assert experiment.nothing(config, run) == dict.fromkeys(found, 0.0)


def test_curves_have_the_settings_that_were_found_for_each_size():
    given = experiment.VARIANTS["curves"].keywords
    for size in experiment.SIZES:
        assert given["convnets"][size] is experiment.VARIANTS[f"convnet_{size}"]
        assert given["linears"][size] is experiment.VARIANTS[f"linear_{size}"]


def test_all_are_tuned_as_hard():
    tuning = experiment.EXPERIMENT.tuning
    assert set(tuning.grids) == {*experiment.NETWORKS, *experiment.SIMPLE}
    assert {len(grid) for grid in tuning.grids.values()} == {6}
    assert set(tuning.second) == set(tuning.own_fixed) == set(experiment.NETWORKS)


@pytest.mark.parametrize(("name", "sign"), [("G18a", -1), ("G18b", 1)])
def test_a_trend_over_widths_is_the_change_over_all_of_them(name, sign):
    (claim,) = (claim for claim in experiment.CLAIMS if claim.id == name)
    values = {"convnet_1000": 0.5, "width_8": 0.5 + sign * 0.01, "width_16": 0.5 + sign * 0.02}
    values["width_32"] = 0.5 + sign * 0.03
    contrast = claim.contrast(claim.pairs[0])
    assert sum(contrast[variant] * value for variant, value in values.items()) == pytest.approx(0.03)


def test_every_variant_serves_a_claim_or_the_figure():
    shown = {name for panel in experiment.EXPERIMENT.panels for name in panel.variants}
    claimed = {name for claim in experiment.CLAIMS for name in claim.variants}
    assert set(experiment.VARIANTS) <= shown | claimed
