"""Losses are what their names say, a wrong start is wrong, and Keras finds a softmax that is the last operation."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, softmax

from lab.experiments import losses as experiment
from pipelines import batches, sources
from recipes import losses as recipe

DATA = sources.load(sources.Request(train_images=500))
LOGITS = np.array([[2.0, 0.0, -1.0], [0.5, 1.0, 3.0]], "float32")
LABELS = np.array([0, 1], "int32")
ONE_HOT = np.eye(3)[LABELS]


# The recipe


def by_hand(name, smoothing=0.1, gamma=2.0):
    logs, shares = log_softmax(LOGITS, axis=1), softmax(LOGITS, axis=1)
    smoothed = (1 - smoothing) * ONE_HOT + smoothing / 3
    return {
        "cross_entropy": -(ONE_HOT * logs).sum(axis=1).mean(),
        "label_smoothing": -(smoothed * logs).sum(axis=1).mean(),
        "focal": -(ONE_HOT * (1 - shares) ** gamma * logs).sum(axis=1).mean(),
        "squared_error_on_softmax": ((shares - ONE_HOT) ** 2).mean(),
        "squared_error_on_logits": ((LOGITS - ONE_HOT) ** 2).mean(),
    }[name]


@pytest.mark.parametrize("name", recipe.RATES)
@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None]], ids=["flat", "as a column"])
def test_each_loss_is_the_one_of_its_name(name, labels):
    assert float(recipe.build_loss(name)(labels, LOGITS)) == pytest.approx(by_hand(name), rel=1e-5)


def test_smoothing_and_gamma_are_those_given():
    found = float(recipe.build_loss("label_smoothing", smoothing=0.3)(LABELS, LOGITS))
    assert found == pytest.approx(by_hand("label_smoothing", smoothing=0.3), rel=1e-5)
    assert float(recipe.build_loss("focal", gamma=0.5)(LABELS, LOGITS)) == pytest.approx(by_hand("focal", gamma=0.5))


def test_an_unknown_loss_is_refused_by_name():
    with pytest.raises(ValueError, match="unknown loss 'hinge': use one of cross_entropy, label_smoothing, focal,"):
        recipe.build_loss("hinge")


@pytest.mark.parametrize("name", [name for name in recipe.RATES if name != "cross_entropy"])
def test_a_loss_that_was_saved_is_the_same(name):
    loss = recipe.build_loss(name, smoothing=0.3, gamma=0.5)
    loaded = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(loaded) is recipe.OnIntegerLabels
    assert float(loaded(LABELS, LOGITS)) == pytest.approx(by_hand(name, smoothing=0.3, gamma=0.5), rel=1e-5)


@pytest.fixture
def fits(monkeypatch):
    """The calls of `fit`, which train nothing: model, labels of the first batch, arguments."""
    calls = []

    def fit(model, feed, **how):
        calls.append((model, next(iter(feed))[1].numpy(), how))

    monkeypatch.setattr(keras.Model, "fit", fit)
    return calls


def feed():
    return batches.training(DATA.train, 50, seed=1, augment=False)  # Ten batches.


def rates_of(model, *steps) -> list[float]:
    return [float(model.optimizer._learning_rate(step)) for step in steps]


def test_a_rate_is_the_peak_of_a_schedule_that_ends_at_zero(fits):
    model = recipe.train(feed(), None, 10, "focal", rate=0.2, gamma=1.0, epochs=3)
    assert rates_of(model, 6, 30) == pytest.approx([0.2, 0.0], abs=1e-6)
    assert model.loss.loss.get_config()["gamma"] == 1.0
    constant = recipe.train(feed(), None, 10, rate=experiment.constant(0.3))
    assert float(constant.optimizer.learning_rate) == pytest.approx(0.3)
    assert rates_of(recipe.train(feed(), None, 10, rate=1), 10, 50) == pytest.approx([1.0, 0.0], abs=1e-6)
    usual = recipe.train(feed(), None, 10, "squared_error_on_logits")
    assert rates_of(usual, 10) == pytest.approx([recipe.RATES["squared_error_on_logits"]])


# The experiment


def bound(name):
    variant = experiment.VARIANTS[name]
    return variant.func, variant.keywords


def test_each_variant_trains_with_the_loss_of_its_name():
    for name in recipe.RATES:
        function, given = bound(name)
        assert (function, given["loss"]) == (recipe.train, name)
    for name in ("cross_entropy", "squared_error_on_softmax", "squared_error_on_logits"):
        for kind, function in (
            ("race", experiment.at_a_constant_rate),
            ("corrected", experiment.from_a_wrong_start),
        ):
            found, given = bound(f"{name}_{kind}")
            assert (found, given["loss"], given["rate"]) == (function, name, experiment.RATES[f"{name}_{kind}"])


def test_two_variants_train_by_sgd(fits):
    for name in experiment.BY_SGD:
        function, given = bound(name)
        function(feed(), None, 10, **given)
    fresh, wrong, corrected = (model.optimizer for model, *_ in fits)
    assert [type(one).__name__ for one in (fresh, corrected)] == ["SGD", "SGD"]
    assert (corrected.momentum, type(wrong).__name__) == (0.9, "SGD")  # The model of both has the last optimizer.
    assert {one[0].loss.loss.name for one in fits} == {"mean_squared_error"}


def test_a_wrong_start_is_trained_on_wrong_labels_made_surer_and_then_corrected(fits):
    in_order = batches.evaluation(DATA.train).unbatch().batch(50).apply(tf.data.experimental.assert_cardinality(10))
    model = experiment.from_a_wrong_start(in_order, None, 10, "squared_error_on_softmax", rate=0.2, epochs=2)
    (first, wrong, _), (second, right, how) = fits
    assert first is second is model
    assert how["epochs"] == 2
    assert wrong.tolist() == ((right + 1) % 10).tolist()
    assert model.loss.softmax
    assert rates_of(model, 4, 20) == pytest.approx([0.2, 0.0], abs=1e-6)


def test_a_wrong_starts_logits_are_multiplied(monkeypatch):
    logits = []
    images = DATA.train.images[:8].astype("float32")
    monkeypatch.setattr(keras.Model, "fit", lambda model, *_, **__: logits.append(np.asarray(model(images))))
    experiment.from_a_wrong_start(feed(), None, 10, "cross_entropy", rate=0.2)
    assert logits[1] == pytest.approx(experiment.SURE * logits[0], rel=1e-4, abs=1e-5)


def loss_in_fit(name, monkeypatch) -> tuple[float, float]:
    """The loss of the first step as Keras computes it inside its own step, and the cross-entropy of the logits."""
    images, labels = DATA.train.images[:50].astype("float32"), DATA.train.labels[:50]
    found = []

    def one_step(model, *_, **__):
        found.append(float(model.test_on_batch(images, labels)[0]))

    monkeypatch.setattr(keras.Model, "fit", one_step)
    function, given = bound(name)
    logits = function(feed(), None, 10, **given)(images)
    wanted = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
    return found[0], float(wanted)


@pytest.mark.filterwarnings("ignore:.*from_logits=True")
@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("default_rate", True),
        ("softmax_twice", True),  # Keras finds the logits, and warns.
        ("hidden_softmax_twice", False),
        ("no_softmax", False),
    ],
)
def test_keras_finds_the_logits_of_a_softmax_that_is_the_last_operation(monkeypatch, name, same):
    found, wanted = loss_in_fit(name, monkeypatch)
    assert (found == pytest.approx(wanted, rel=1e-4)) == same


def test_a_mixed_up_model_is_scored_by_its_logits(fits):
    for name in experiment.MIXED_UP:
        function, given = bound(name)
        model = function(feed(), None, 10, **given, epochs=2)
        assert isinstance(model.layers[-1], keras.layers.Dense)
    ends = [type(trained.layers[-1]).__name__ for trained, *_ in fits]
    assert ends == ["Softmax", "Reshape", "Dense"]
    assert [trained.loss.from_logits for trained, *_ in fits] == [True, True, False]
    assert rates_of(fits[0][0], 4, 20) == pytest.approx([recipe.RATES["cross_entropy"], 0.0], abs=1e-6)
    assert rates_of(fits[2][0], 4) == pytest.approx([experiment.RATES["no_softmax"]])


def test_default_rates_are_adams_and_constant(fits):
    for name in ("", *(f"{name}_" for name in experiment.MIXED_UP)):
        function, given = bound(f"{name}default_rate")
        function(feed(), None, 10, **given)
    default = keras.optimizers.Adam().learning_rate
    assert [rates_of(trained, 0, 50) for trained, *_ in fits] == [[pytest.approx(float(default))] * 2] * 4


def test_gradients_of_a_wrong_model_are_those_of_the_formula():
    """p - y under cross-entropy, with p of 1 at the wrong class; 2(z - y)/10 under the squared error of logits."""
    assert experiment.gradient_when_wrong("cross_entropy") == pytest.approx(2**0.5, rel=1e-6)
    assert experiment.gradient_when_wrong("squared_error_on_logits") == pytest.approx(0.2 * (400 + 1) ** 0.5)
    assert 0 < experiment.gradient_when_wrong("squared_error_on_softmax") < 1e-8


def test_only_races_stop_at_their_target():
    def run(variant, target=0.5):
        return type("Run", (), {"variant": variant, "config": type("Config", (), {"target": target})})

    assert len(experiment.stop_at_the_target(run("cross_entropy_race"), DATA)) == 1
    assert experiment.stop_at_the_target(run("cross_entropy"), DATA) == []
    assert experiment.stop_at_the_target(run("cross_entropy_race", None), DATA) == []


def test_integer_labels_of_other_types_are_taken():
    for dtype in (tf.uint8, tf.int64, tf.float32):
        found = float(recipe.build_loss("squared_error_on_logits")(tf.cast(LABELS, dtype), LOGITS))
        assert found == pytest.approx(by_hand("squared_error_on_logits"))
