"""Each technique is in the training, at its strength, and in that of its own variant alone."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab import Run
from lab.evidence.records import values_of
from lab.experiments import regularization as experiment
from lab.measurement import samples_of
from pipelines import sources
from recipes import regularization as recipe
from tests import recomputing
from tests.conftest import typed_evidence_in

DATA = sources.load(sources.Request(train_images=1000))
CONFIG = recipe.Config(images=100, batch_size=50)


def at(strength: float | None) -> recipe.Config:
    return dataclasses.replace(CONFIG, strength=strength)


def images_of(variant: str, strength: float | None = None, seed: int = 1, epochs: int = 1) -> list[np.ndarray]:
    few = DATA.train.take(np.arange(100))
    feed = recipe.build_feed(few, CONFIG, recipe.strengths(variant, at(strength)), seed)
    return [np.concatenate([images.numpy() for images, _ in feed]) for _ in range(epochs)]


def test_a_variant_has_its_own_technique_alone_and_all_has_several():
    for technique, strength in recipe.STRENGTHS.items():
        assert recipe.strengths(technique, at(None)) == {technique: strength}
        assert recipe.strengths(technique, at(0.25)) == {technique: 0.25}
    for variant in ("none", "early_stopping", "best_accuracy"):
        assert recipe.strengths(variant, at(0.25)) == {}
    together = recipe.strengths("all", at(None))
    assert together == {technique: recipe.STRENGTHS[technique] for technique in recipe.COMBINED}
    assert len(together) >= 2


def test_at_full_strengths_are_those_that_were_tuned_there(monkeypatch):
    monkeypatch.setitem(recipe.FULL_STRENGTHS, "l2", 0.5)
    assert recipe.strengths("l2", dataclasses.replace(CONFIG, tuned_at="full")) == {"l2": 0.5}
    assert recipe.strengths("l2", CONFIG) == {"l2": recipe.STRENGTHS["l2"]}
    assert experiment.EXPERIMENT.settings("l2", "full") == {"FULL_STRENGTHS": 0.5}
    assert set(experiment.EXPERIMENT.settings("l2")) == {"STRENGTHS", "COMBINED"}


def test_only_augmentation_and_cutout_change_the_images():
    known = {image.tobytes() for image in DATA.train.images[:100]}
    for variant in experiment.VARIANTS:
        same = np.mean([image.tobytes() in known for image in images_of(variant)[0]])
        assert (same < 1) == bool({"augmentation", "cutout"} & set(recipe.strengths(variant, at(None)))), variant


def test_a_cut_is_a_gray_square_at_another_place_of_each_image_and_epoch():
    images = np.full((200, 32, 32, 3), 7, np.uint8)
    first, again, other = (recipe.cut_out(tf.constant(images), number, 8).numpy() for number in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    gray = (first == 128).all(axis=-1)
    assert set(np.unique(first)) == {7, 128}
    assert len({image.tobytes() for image in gray}) > 100
    for image in gray:  # A whole rectangle, no larger than was said; at the border a part of it is outside.
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert image.sum() == len(rows) * len(columns)
        assert 3 <= len(rows) <= 8
        assert 3 <= len(columns) <= 8
    assert np.median(gray.sum(axis=(1, 2))) > 50


def test_each_epoch_cuts_elsewhere_and_labels_stay_with_their_images():
    plain = sources.Split(np.full((100, 32, 32, 3), 7, np.uint8), np.zeros(100, np.int32), np.arange(100).astype(str))
    feed = recipe.build_feed(plain, CONFIG, {"cutout": 8.0}, seed=1)
    first, second = (np.concatenate([images.numpy() for images, _ in feed]) for _ in range(2))
    assert sorted(map(bytes, first)) != sorted(map(bytes, second))
    named = sources.Split(
        np.arange(100, dtype=np.uint8).repeat(32 * 32 * 3).reshape(100, 32, 32, 3),
        np.arange(100),
        np.arange(100).astype(str),
    )
    for images, labels in recipe.build_feed(named, CONFIG, {"cutout": 8.0}, seed=1):
        middle = np.median(images.numpy().reshape(len(labels), -1), axis=1)
        assert np.array_equal(middle, labels.numpy())


def test_augmentation_shifts_by_up_to_its_strength():
    still, far = images_of("augmentation", 1.0)[0], images_of("augmentation", 6.0)[0]
    assert not np.array_equal(still, far)
    assert np.array_equal(images_of("augmentation", 1.4)[0], still)


@pytest.mark.parametrize(("variant", "rate"), [("none", 0.0), ("dropout", 0.35), ("l2", 0.0)])
def test_dropout_is_in_its_own_variants_model(variant, rate):
    model = recipe.build_model(variant, DATA, at(0.35))
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [rate, rate]


@pytest.mark.parametrize(("variant", "power"), [("none", 0), ("l1", 1), ("l2", 2), ("weight_decay", 0)])
def test_penalties_are_of_all_kernels(variant, power):
    model = recipe.build_model(variant, DATA, at(0.5))
    kernels = [layer.kernel.numpy() for layer in model.layers if hasattr(layer, "kernel")]
    wanted = 0.5 * sum((np.abs(kernel) ** power).sum() for kernel in kernels) if power else 0.0
    assert float(sum(model.losses)) == pytest.approx(wanted, rel=1e-5)
    assert len(kernels) == 4


def test_smoothed_labels_ask_for_less_certainty():
    labels, logits = np.array([0, 2], np.int32), np.array([[5.0, 0, 0, 0], [0, 0, 5.0, 0]], np.float32)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # A tenth goes to all four classes: 0.9 + 0.025 stays with the true one.
    right, all_of_them = np.log(shares[[0, 1], labels]), np.log(shares).sum(axis=1)
    by_hand = -np.mean(0.9 * right + 0.025 * all_of_them)
    for shape in ((2,), (2, 1)):
        assert float(recipe.SmoothedCrossentropy(0.1)(labels.reshape(shape), logits)) == pytest.approx(
            by_hand, rel=1e-5
        )
    assert float(recipe.SmoothedCrossentropy(0.0)(labels, logits)) == pytest.approx(-np.log(shares[0, 0]), rel=1e-5)


@pytest.mark.parametrize("variant", ["label_smoothing", "weight_decay", "l1", "all"])
def test_a_model_is_saved_and_loaded_with_its_loss(variant, tmp_path):
    model = recipe.build_model(variant, DATA, at(0.1))
    model.compile(keras.optimizers.AdamW(1e-3), recipe.SmoothedCrossentropy(0.1))
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    images, labels = DATA.train.images[:8], DATA.train.labels[:8]
    assert loaded.evaluate(images, labels, verbose=0) == pytest.approx(model.evaluate(images, labels, verbose=0))


@pytest.mark.parametrize(
    ("variant", "kept", "epochs"),
    [("early_stopping", 2.0, 8), ("best_accuracy", 4.0, 10), ("none", 10.0, 10)],
)
def test_which_epochs_weights_are_kept(variant, kept, epochs):
    """Ten epochs, in which the loss is lowest in the second, and once more in the ninth; accuracy in the fourth."""
    losses = [2.0, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 0.5, 1.7]
    accuracies = [0.1, 0.2, 0.3, 0.9, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse", metrics=["accuracy"])
    model.evaluate(np.zeros((1, 1)), np.zeros((1, 1)), verbose=0)  # Now Keras knows which way accuracy is better.
    callbacks = recipe.build_callbacks(variant, recipe.Config(epochs=10, patience=6))
    for callback in callbacks:
        callback.set_model(model)
        callback.on_train_begin()
    taken = 0
    for epoch, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True)):
        taken += 1
        model.layers[-1].kernel.assign([[epoch + 1.0]])
        for callback in callbacks:
            callback.on_epoch_end(epoch, {"val_loss": loss, "val_accuracy": accuracy})
        if getattr(model, "stop_training", False):
            break
    for callback in callbacks:
        callback.on_train_end()
    assert model.layers[-1].kernel.numpy().item() == kept
    assert taken == epochs


def test_the_model_that_is_scored_is_that_of_the_best_epoch(tmp_path):
    request = sources.Request(train_images=500, split_seed=1)
    config = dataclasses.replace(CONFIG, epochs=6, rate=5e-3, patience=2)
    with recomputing.watch(request, 1) as watched:
        run = Run("early_stopping", 1, request, config, tmp_path)
        metrics = experiment.train("early_stopping", config, run)
    ((done,), (scored,)) = watched.fits, watched.scored
    assert done.returned < len(done.history["loss"]) - 1  # Else the last epoch would do.
    recomputing.check_fits(watched)
    recomputing.check_scores(scored)
    assert done.validation["val_loss"] == pytest.approx(min(done.history["val_loss"]), rel=1e-3)
    assert metrics["validation_accuracy"] == pytest.approx(scored.validation["val_accuracy"])


def test_dropout_is_off_when_a_model_answers():
    with_it, without = (recipe.build_model(name, DATA, at(0.5)) for name in ("dropout", "none"))
    without.set_weights(with_it.get_weights())
    images = DATA.train.images[:16]
    assert np.array_equal(with_it(images, training=False), without(images, training=False))
    assert np.array_equal(with_it.predict(images, verbose=0), without.predict(images, verbose=0))
    assert not np.allclose(with_it(images, training=True), without(images, training=True))


def test_what_each_variant_hands_to_compile_and_fit(monkeypatch, tmp_path):
    """Its decay, smoothing, model, images and callbacks, at the strength that was asked for."""
    seen = {}

    def fit(self, feed, callbacks, **settings):
        seen.update(model=self, feed=feed, callbacks=callbacks)
        raise InterruptedError

    monkeypatch.setattr(keras.Sequential, "compile", lambda self, **settings: seen.update(settings))
    monkeypatch.setattr(keras.Sequential, "fit", fit)
    request, config = sources.Request(train_images=1000), dataclasses.replace(CONFIG, strength=0.3)
    kept = {}
    for variant in experiment.VARIANTS:
        with pytest.raises(InterruptedError):
            recipe.train(variant, config, Run(variant, 1, request, config, tmp_path))
        chosen = recipe.strengths(variant, at(0.3))
        assert seen["optimizer"].weight_decay == chosen.get("weight_decay", 0.0), variant
        assert float(seen["optimizer"].learning_rate) == pytest.approx(config.rate)
        assert seen["loss"].smoothing == chosen.get("label_smoothing", 0.0), variant
        rates = [layer.rate for layer in seen["model"].layers if isinstance(layer, keras.layers.Dropout)]
        assert rates == [chosen.get("dropout", 0.0)] * 2, variant
        assert (float(sum(seen["model"].losses)) > 0) == (variant in ("l1", "l2")), variant
        stops = [c for c in seen["callbacks"] if isinstance(c, keras.callbacks.EarlyStopping)]
        assert len(stops) == (variant in recipe.KEPT_BY), variant
        images = np.concatenate([images.numpy() for images, _ in seen["feed"]])
        assert len(images) == 100
        if variant in ("none", "dropout"):
            kept[variant] = {image.tobytes() for image in images}
    assert kept["none"] == kept["dropout"] <= {image.tobytes() for image in DATA.train.images[:]}
    with pytest.raises(InterruptedError):  # Another seed has other images.
        recipe.train("none", config, Run("none", 2, request, config, tmp_path))
    other = {image.tobytes() for images, _ in seen["feed"] for image in images.numpy()}
    assert len(kept["none"] & other) < 30  # Of a hundred, a tenth at random.


@pytest.mark.variants
@pytest.mark.parametrize("name", ["regularization"])
def test_penalties_shrink_weights_and_the_gap_is_recorded(smoke, name):
    _, logs = smoke(name)
    records = typed_evidence_in(logs).records
    near_zero, norm = (values_of(records, metric) for metric in ("near_zero", "weight_norm"))
    # Five deviations from the means of the ten seeds that the floors come from: 0.1413 ± 0.0201 and 0.0136 ± 0.0003 of
    # all weights, norms of 16.64 ± 0.188 and 17.83 ± 0.030.
    assert near_zero["l1"][101] > 0.0408 > 0.0153 > near_zero["none"][101]
    assert norm["l2"][101] < 17.58 < 17.67 < norm["none"][101]
    for record in records:
        assert len(record.curves["gap"]) == record.metrics["epochs"] == len(record.curves["loss"])
        difference = np.subtract(record.curves["accuracy"], record.curves["val_accuracy"])
        np.testing.assert_allclose(record.curves["gap"], difference)


def test_the_sample_that_is_shown_is_of_each_variants_own_feed():
    names = ("none", "augmentation", "cutout")
    samples = samples_of(SimpleNamespace(experiment=experiment.EXPERIMENT, config=CONFIG, variants=names), DATA)
    originals = {image.tobytes() for image in DATA.train.images}
    known = {name: sum(image.tobytes() in originals for image in samples[name]) for name in names}
    assert known["none"] == 12
    assert known["augmentation"] < 6  # One in 98 is neither mirrored nor shifted.
    gray = {name: (samples[name] == 128).all(axis=3).mean() for name in names}
    assert gray["cutout"] > 0.1 > gray["none"]
    weaker = SimpleNamespace(
        experiment=experiment.EXPERIMENT, config=at(4.0), variants=("cutout",)
    )  # As with --strength 4.
    assert (samples_of(weaker, DATA)["cutout"] == 128).all(axis=3).mean() < 0.03


def test_where_images_are_fewer_than_a_sample_none_is_shown():
    few = dataclasses.replace(DATA, train=DATA.train.take(np.arange(5)))
    assert samples_of(SimpleNamespace(experiment=experiment.EXPERIMENT, config=CONFIG, variants=["none"]), few) == {}
