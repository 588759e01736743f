"""A routed model gives each image the answer of the path that it should, and trains both."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.experiments import subclassed_routing as experiment
from lab.statistics import judge
from pipelines import batches, sources
from recipes import subclassed_routing as recipe

SHAPE = (32, 32, 3)
SMOKE = sources.load(sources.Request(train_images=2000))
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, *SHAPE)).astype("uint8")


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.arange(64) % 10


def routed(gate=recipe.Routed, **given) -> recipe.Routed:
    keras.utils.set_random_seed(1)
    built = recipe.build_model(SHAPE, 10, **given)
    return gate(built.stem, built.shallow, built.deep)


def scores_of(model, images) -> np.ndarray:
    features = model.stem(images)
    return np.asarray(model.score(features, model.shallow(features)))


def by_path(model, images) -> tuple[np.ndarray, np.ndarray]:
    """The logits of the deep path and of the shallow one."""
    features = model.stem(images)
    return np.asarray(model.deep(features)), np.asarray(model.shallow(features))


def set_of(images, labels, size: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(size)


# The recipe


def test_images_keep_their_own_logits(images):
    """Each image has the logits of the path that it was sent down, in its own place."""
    model = routed()
    deep, shallow = by_path(model, images)
    scores = scores_of(model, images)
    for threshold in (0.0, float(np.quantile(scores, 0.3)), 2.0):
        model.threshold.assign(threshold)
        expected = np.where((scores >= threshold)[:, None], deep, shallow)
        assert np.asarray(model(images)) == pytest.approx(expected, abs=1e-4)
        assert np.asarray(tf.function(model)(images)) == pytest.approx(expected, abs=1e-4)


def test_all_images_go_deep_until_the_model_is_calibrated(images):
    model = routed()
    assert np.asarray(model(images)) == pytest.approx(by_path(model, images)[0], abs=1e-4)


def test_the_score_is_what_the_short_path_is_not_sure_of():
    """By hand: logits of log 1, log 2 and log 5 are the probabilities 1/8, 2/8 and 5/8."""
    logits = np.log([[1.0, 2.0, 5.0], [1.0, 1.0, 1.0]]).astype(np.float32)
    assert np.asarray(routed().score(None, logits)) == pytest.approx([3 / 8, 2 / 3])


@pytest.mark.parametrize("gate", [recipe.Routed, experiment.ByVariance, experiment.ByChance])
def test_as_many_images_go_deep_as_the_model_is_calibrated_for(images, labels, gate):
    """The deep path's head is made to shout."""
    model = routed(gate)
    model.deep.layers[-1].bias.assign(tf.fill([10], 1e6))
    for share in (0.1, 0.5, 0.9):
        model.calibrate(set_of(images, labels, 10), share)
        deep = (np.asarray(model(images))[:, 0] > 1e5).mean()
        assert deep == pytest.approx(share, abs=0.2 if gate is experiment.ByChance else 0.02)


def test_the_loss_of_training_is_that_of_both_paths_and_else_of_the_answers(images, labels):
    model = routed()
    model.compile("sgd", LOSS, metrics=["accuracy"])
    model.threshold.assign(float(np.median(scores_of(model, images))))
    for training in (True, False):
        answer = model(images, training=training)
        found = float(model.compute_loss(images, labels, answer, training=training))
        wanted = sum(float(LOSS(labels, each)) for each in (answer if training else [answer]))
        assert found == pytest.approx(wanted, rel=1e-5)
    weights = np.arange(64) / 32
    both = model(images, training=True)
    weighted = float(model.compute_loss(images, labels, both, weights, training=True))
    assert weighted == pytest.approx(sum(float(LOSS(labels, each, weights)) for each in both), rel=1e-5)


def test_strings_will_do_for_the_loss(images):
    model = routed()
    model.compile("sgd", "mse")
    assert np.isfinite(model.fit(images, np.zeros((64, 10)), verbose=0).history["loss"][0])


def test_a_training_moves_both_paths_and_the_stem_and_reports_the_deep_ones_accuracy(images, labels):
    model = routed()
    before = {part: getattr(model, part).get_weights()[0] for part in ("stem", "shallow", "deep")}
    model.compile(keras.optimizers.SGD(0.0), LOSS, metrics=["accuracy"], jit_compile=False)
    deep = np.asarray(model.deep(model.stem(images, training=True), training=True))
    history = model.fit(images, labels, batch_size=64, shuffle=False, verbose=0).history
    assert history["accuracy"][0] == pytest.approx((deep.argmax(axis=1) == labels).mean())
    model.compile(keras.optimizers.SGD(0.1), LOSS, jit_compile=False)
    model.fit(images, labels, verbose=0)
    assert all((getattr(model, part).get_weights()[0] != weights).any() for part, weights in before.items())


@pytest.mark.variants
def test_a_trained_model_is_calibrated_on_the_validation_images(images, labels):
    train_set, validation_set = set_of(images, labels, 16), set_of(images[:40], labels[:40], 16)
    model = recipe.train(train_set, validation_set, 10, share=0.25, epochs=1)
    assert (scores_of(model, images[:40]) >= model.threshold.numpy()).sum() == 10
    assert model.optimizer.get_config()["learning_rate"]["config"] == {
        **keras.optimizers.schedules.CosineDecay(recipe.RATE, 4).get_config(),
    }


@pytest.mark.variants
@pytest.mark.parametrize("gate", [recipe.Routed, experiment.ByVariance, experiment.ByChance, experiment.WholeBatches])
def test_every_gate_answers_under_predict_in_batches_of_any_size(images, gate):
    model = routed(gate)
    model.threshold.assign(float(np.median(scores_of(model, images))))
    for size in (1, 24):  # The last batch has 16 images.
        assert np.isfinite(model.predict(images, batch_size=size, verbose=0)).all()


def test_a_saved_model_predicts_the_same(images, labels, tmp_path):
    model = routed(filters=8)
    model.calibrate(set_of(images, labels, 16), 0.5)
    model.save(tmp_path / "routed.keras")
    loaded = keras.models.load_model(tmp_path / "routed.keras")
    assert type(loaded) is recipe.Routed
    assert loaded.threshold.numpy() == model.threshold.numpy() > 0
    assert np.array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))


def test_a_routed_model_learns():
    """On the images of a smoke run, and better than its short path alone."""
    keras.utils.set_random_seed(1)
    model = recipe.train(batches.training(SMOKE.train, 64, seed=1), batches.evaluation(SMOKE.validation), 10, epochs=2)
    images, labels = SMOKE.test.images[:2000], SMOKE.test.labels[:2000]
    right = (model.predict(images, verbose=0).argmax(axis=1) == labels).mean()
    short = (by_path(model, images)[1].argmax(axis=1) == labels).mean()
    assert right > 0.3
    assert right > short - 0.02


# The experiment


def test_variance_is_that_of_an_images_features_and_of_whole_batches_its_mean(images):
    features = np.asarray(routed().stem(images))
    variances = features.var(axis=(1, 2, 3))
    assert scores_of(routed(experiment.ByVariance), images) == pytest.approx(variances, rel=1e-4)
    assert scores_of(routed(experiment.WholeBatches), images) == pytest.approx([variances.mean()], rel=1e-4)


def test_a_random_gate_draws_anew_at_each_call_and_each_seed(images):
    def draws(seed: int) -> np.ndarray:
        built = routed()
        keras.utils.set_random_seed(seed)
        model = experiment.ByChance(built.stem, built.shallow, built.deep)
        return np.concatenate([scores_of(model, images) for _ in range(2)])

    one, other = draws(1), draws(2)
    assert np.array_equal(one, draws(1))
    assert abs(np.corrcoef([one[:64], one[64:], other[:64]]) - np.eye(3)).max() < 0.5
    assert one.min() < 0.1 < 0.9 < one.max()


def test_a_batch_goes_deep_as_a_whole(images, labels):
    model = routed(experiment.WholeBatches)
    deep, shallow = by_path(model, images)
    middle = float(scores_of(model, images)[0])
    for factor, expected in ((0.5, deep), (2.0, shallow)):
        model.threshold.assign(factor * middle)
        assert np.asarray(tf.function(model)(images)) == pytest.approx(expected, abs=1e-4)
    model.calibrate(set_of(images, labels, 8), 0.25)
    scores = [scores_of(model, images[start : start + 8])[0] for start in range(0, 64, 8)]
    assert (np.array(scores) >= model.threshold.numpy()).sum() == 2


def test_without_a_gate_a_network_has_the_stem_and_the_deep_path_alone(images):
    keras.utils.set_random_seed(1)
    built = recipe.build_model(SHAPE, 10, 46)
    keras.utils.set_random_seed(1)
    alone = experiment.BUILD["static"](SHAPE, 10)
    assert np.asarray(alone(images)) == pytest.approx(by_path(built, images)[0], abs=1e-5)
    assert len(alone.trainable_weights) == len(built.stem.trainable_weights) + len(built.deep.trainable_weights)


def test_multiplications_by_hand():
    stem, shallow, wide = 16 * 16 * 27 * 24, 8 * 8 * 9 * 24 * 24 + 16 * 24 * 10, lambda n: 8 * 8 * 9 * (24 + 2 * n) * n
    deep = {n: wide(n) + 16 * n * 10 for n in (46, 64)}
    model = routed()
    scores = np.arange(10) / 10
    model.threshold.assign(0.65)  # Three of ten go deep.
    assert experiment.work(model, scores) == pytest.approx(stem + shallow + 0.3 * deep[64])
    batch = routed(experiment.WholeBatches)
    batch.threshold.assign(0.65)
    assert experiment.work(batch, scores) == pytest.approx(stem + 0.7 * shallow + 0.3 * deep[64])
    for name, filters in (("deep_alone", 64), ("static", 46)):
        assert experiment.work(experiment.BUILD[name](SHAPE, 10), None) == stem + deep[filters]
    assert stem + deep[46] == pytest.approx(stem + shallow + 0.5 * deep[64], rel=0.03)


def test_an_auc_by_hand():
    """Of five images the deep path alone gets the first and the last right: four of six pairs are in order."""
    deep, shallow = np.array([1, 1, 0, 0, 1], bool), np.array([0, 1, 0, 1, 0], bool)
    scores = np.array([0.9, 0.1, 0.5, 0.3, 0.2])
    assert experiment.auc(deep, shallow, scores) == {"auc": pytest.approx(4 / 6)}
    assert experiment.auc(deep, deep, scores) == {}


@pytest.mark.variants
def test_gates_are_calibrated_and_trained_at_the_rate_that_is_given(monkeypatch):
    rates, train = [], recipe.train

    def noting(*sets, rate, **given):
        rates.append(rate)
        return train(*sets, rate=rate, **given)

    monkeypatch.setattr(recipe, "train", noting)
    few = dataclasses.replace(SMOKE, train=SMOKE.train.take(np.arange(128)))
    config = SimpleNamespace(batch_size=64, epochs=1, inference_batch=100, rate=0.01)
    run = SimpleNamespace(seed=1, callbacks=lambda data, part: [])
    models = experiment.models_for(("confidence_10", "confidence_90", "shallow"), config, run, few)
    assert rates == [0.01]  # One training is enough.
    shares = {
        name: (scores_of(models[name], SMOKE.validation.images[:]) >= models[name].threshold.numpy()).mean()
        for name in ("confidence_10", "confidence_90")
    }
    assert shares == pytest.approx({"confidence_10": 0.1, "confidence_90": 0.9}, abs=0.01)
    assert models["confidence_10"].deep is models["confidence_90"].deep
    images = SMOKE.test.images[:20]
    assert np.asarray(models["shallow"](images)) == pytest.approx(by_path(models["confidence_10"], images)[1], abs=1e-4)


def test_gates_have_the_shares_that_their_names_say_and_one_share_is_for_all_gates():
    assert {name: share for name, (_, share) in experiment.GATES.items()} == {
        name: int(name.rpartition("_")[2]) / 100 for name in experiment.GATES
    }


def test_a_functional_model_can_do_it_too():
    claim = next(claim for claim in experiment.CLAIMS if claim.id == "B14")
    assert judge(claim, {}, 0).verdict == "contradicted"
