"""Each variant has as many images, as wide a net and as many steps as its name says, and curves are of nested sets."""

import math
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.tree import DecisionTreeClassifier

from lab.experiments import data_hunger as experiment
from pipelines import batches, sources
from recipes import data_hunger as recipe

DATA = sources.load(sources.Request(train_images=1000))
SHAPE = (32, 32, 3)


@pytest.fixture
def fits(monkeypatch):
    """The calls of `fit`, which train nothing: model, number of batches, arguments."""
    calls = []
    monkeypatch.setattr(keras.Model, "fit", lambda model, feed, **how: calls.append((model, len(feed), how)))
    return calls


def feed(images=1000, size=50):
    return batches.training(DATA.train.take(np.arange(images)), size, seed=1, augment=False)


# The recipe


def test_a_convnet_has_filters_in_proportion_to_its_width():
    for width in (1, 4):
        layers = recipe.build_model(SHAPE, 10, width=width).layers
        assert [layer.filters for layer in layers if isinstance(layer, keras.layers.Conv2D)] == [4 * width, 8 * width]


def test_a_linear_model_has_a_weight_for_each_pixel_and_class():
    assert recipe.build_linear(SHAPE, 10).count_params() == 32 * 32 * 3 * 10 + 10


def test_small_sets_get_as_many_steps_as_large_ones(fits):
    for images in (100, 500, 1000):
        recipe.train(feed(images), None, 10, steps=100)
    assert [number * how["epochs"] for _, number, how in fits] == [100] * 3
    recipe.train(feed(), None, 10, steps=5)
    assert fits[-1][2]["epochs"] == 1


def test_epochs_may_be_given_instead(fits):
    recipe.train(feed(), None, 10, epochs=3)
    assert fits[0][2]["epochs"] == 3


def test_the_schedule_ends_with_the_last_step(fits):
    model = recipe.train(feed(), None, 10, rate=0.2, steps=100)
    assert [float(model.optimizer._learning_rate(step)) for step in (20, 100)] == pytest.approx([0.2, 0.0], abs=1e-6)


@pytest.fixture
def trained():
    """What `train` was given: which images, by their labels, and in batches of which size."""
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
    recipe.learning_curve(feed(200), None or feed(50), 10, (40, 80, 160), batch_size=20, train=train, rate=0.5)
    small, middle, large = (images for images, *_ in calls)
    assert (len(small), len(middle), len(large)) == (40, 80, 160)
    assert small < middle < large
    assert [rest for _, *rest in calls] == [[20, {"rate": 0.5}]] * 3


def test_a_curve_has_the_validation_accuracy_of_each_size(trained):
    _, train = trained
    curve = recipe.learning_curve(feed(200), feed(300, size=100), 10, (160, 40), batch_size=20, train=train)
    assert curve == {160: 0.03, 40: 0.03}


def test_the_gain_of_doubling_is_the_slope_over_the_three_largest_sets():
    assert recipe.gain_of_doubling({400: 0.5, 200: 0.42, 100: 0.3, 50: 0.1}) == pytest.approx(0.1)
    assert recipe.gain_of_doubling({100: 0.3, 400: 0.4}) == pytest.approx(0.05)


# The experiment


def test_each_variant_has_the_images_the_net_and_the_steps_of_its_name():
    for name in experiment.RATES:
        kind, number, *rest = name.split("_")
        given = dict(experiment.VARIANTS[name].keywords)
        assert given.pop("rate") == experiment.RATES[name]
        assert experiment.EXPERIMENT.own_flags[name] == {"images": 1000 if kind == "width" else int(number)}
        if kind == "linear":
            assert given == {"build_model": recipe.build_linear}
        elif kind == "width":
            assert given["build_model"].keywords == {"width": int(number)}
        else:
            assert given == ({"epochs": 20} if rest else {})


def test_a_tree_sees_the_means_of_squares():
    images = np.zeros((2, 32, 40, 3), np.uint8)
    images[1, :4, :5, 2] = 100
    rows = experiment.shrunken(images)
    assert rows.shape == (2, 8 * 8 * 3)
    assert np.flatnonzero(rows[1]).tolist() == [2]
    assert rows[1, 2] == 100


def test_a_tree_is_as_deep_as_is_best_on_validation_images():
    """Labels of one pixel's brightness, but in the training images many are wrong: a deep tree learns these too."""
    draws = np.random.default_rng(0)

    def split(count, wrong):
        bright = draws.random(count) < 0.5
        images = draws.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
        images[:, 0, 0, 0] = np.where(bright, 200, 50)
        return types.SimpleNamespace(images=images, labels=(bright ^ (draws.random(count) < wrong)).astype(int))

    test = split(300, 0.0)
    data = types.SimpleNamespace(train=split(300, 0.3), validation=split(300, 0.0))
    run = types.SimpleNamespace(seed=1, open_test_set=lambda data: test)
    found = experiment.tree(run, data)
    rows, known = (experiment.shrunken(part.images) for part in (data.train, data.validation))
    trees = [DecisionTreeClassifier(max_depth=depth, random_state=1).fit(rows, data.train.labels) for depth in (2, 12)]
    shallow, deep = (tree.score(known, data.validation.labels) for tree in trees)
    assert found["validation_accuracy"] == shallow > deep + 0.1
    assert found["train_accuracy"] == trees[0].score(rows, data.train.labels) < 0.8
    assert found["test_accuracy"] == run.correct.mean() == trees[0].score(experiment.shrunken(test.images), test.labels)


def test_the_crossing_lies_after_the_last_size_at_which_the_convnet_is_behind():
    linear = {250: 0.3, 500: 0.3, 1000: 0.3, 2000: 0.3}
    found = experiment.crossing(linear, {250: 0.2, 500: 0.25, 1000: 0.4, 2000: 0.5})
    assert found == pytest.approx(math.log2(500) + 1 / 3)
    wavering = experiment.crossing(linear, {250: 0.2, 500: 0.4, 1000: 0.2, 2000: 0.4})
    assert wavering == pytest.approx(math.log2(1000) + 0.5)
    assert experiment.crossing(linear, dict.fromkeys(linear, 0.4)) == pytest.approx(math.log2(125))
    assert experiment.crossing(linear, dict.fromkeys(linear, 0.2)) == pytest.approx(math.log2(4000))


def test_each_size_has_its_rate(monkeypatch):
    given = []
    monkeypatch.setattr(experiment, "RATES", {f"linear_{size}": size / 1000 for size in experiment.SIZES})
    monkeypatch.setattr(recipe, "train", lambda *_, **how: given.append(how))
    part = tf.data.Dataset.from_tensor_slices((np.zeros((900, 1)), np.zeros(900))).shuffle(900).batch(64)
    experiment.at_its_rate("linear", {}, part, None, 10)
    experiment.at_its_rate("linear", {"rate": 7.0, "steps": 3}, part, None, 10)
    assert given == [
        {"build_model": recipe.build_linear, "rate": 1.0},
        {"build_model": recipe.build_linear, "rate": 7.0, "steps": 3},
    ]


def test_doubling_is_what_twice_the_images_add(monkeypatch):
    asked = []

    def curve_of(kind, sizes, config, data):
        asked.append((kind, sizes, len(data.train)))
        return {size: size / 10_000 for size in sizes}

    monkeypatch.setattr(experiment, "curve_of", curve_of)
    run = types.SimpleNamespace(data=sources.Request(train_images=1000), seed=1)
    config = experiment.EXPERIMENT.config()
    assert experiment.done("doubling_250", config, run) == {"doubling": pytest.approx(0.025)}
    assert asked == [("convnet", (250, 500), 1000)]
    found = experiment.done("crossing", config, run)
    assert found == {"crossing": pytest.approx(math.log2(8000) + 1)}  # As good as the other, and never better.
    assert [kind for kind, *_ in asked[1:]] == ["linear", "convnet"]
