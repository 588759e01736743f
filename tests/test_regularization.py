"""Each technique is in the training, at its strength, and in that of its own variant alone."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.core.run import Run
from lab.evidence.records import values_of
from lab.execute.job import Job, run_job
from lab.experiments import regularization as experiment
from pipelines import sources
from recipes import regularization as recipe
from tests import recomputing
from tests.conftest import typed_evidence_in

DATA = sources.load(sources.Request(train_images=1000))
SHAPE = (32, 32, 3)
EXPERIMENT = experiment.EXPERIMENT


def few(count=60, start=0) -> tf.data.Dataset:
    """Batches of images and labels of three classes, as `image_dataset_from_directory` would give them."""
    chosen = DATA.train.take(np.arange(start, start + count))
    return tf.data.Dataset.from_tensor_slices((chosen.images.astype("float32"), chosen.labels % 3)).batch(20)


# Augmentation


def changed(images: np.ndarray, training=True, **arguments) -> np.ndarray:
    layers = recipe.augmentation(**arguments)
    return np.asarray(keras.Sequential([keras.Input(images.shape[1:]), *layers])(images, training=training))


def test_at_inference_augmentation_does_nothing():
    images = DATA.train.images[:20].astype("float32")
    assert np.array_equal(changed(images, training=False, cutout=0.3), images)
    assert not np.array_equal(changed(images, cutout=0.3), images)


def test_half_of_the_images_are_mirrored_left_to_right_if_asked():
    images = np.zeros((400, 8, 8, 3), "float32")
    images[:, :4, 0] = 200  # A bar at the left of the upper half.
    found = changed(images, translate=0)
    sides = found[:, :4, [0, 7], 0].mean(axis=1)
    assert np.array_equal(np.sort(sides, axis=1), [[0, 200]] * 400)
    assert 0.35 < (sides[:, 1] == 200).mean() < 0.65
    assert np.array_equal(found[:, 4:], images[:, 4:])  # Never upside down.
    assert recipe.augmentation(mirror=False, translate=0) == []


def test_images_are_shifted_both_ways_by_up_to_their_share():
    ramp = np.arange(40, dtype="float32")
    images = np.stack([ramp[:, None] * np.ones((40, 40)), ramp[None] * np.ones((40, 40))], -1)[None].repeat(300, 0)
    shifts = changed(images, mirror=False, translate=0.2)[:, 20, 20] - 20  # Down and right, in pixels.
    assert shifts.min() < -7
    assert shifts.max() > 7
    assert np.abs(shifts).max() <= 8.001
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.3


def test_a_cut_is_a_gray_rectangle_of_its_share_elsewhere_on_each_image():
    """By name of the argument alone Keras would leave half of the images whole."""
    images = np.full((200, 32, 32, 3), 7, "float32")
    first, second = (changed(images, mirror=False, translate=0, cutout=0.25) for _ in range(2))
    assert set(np.unique(first)) == {7, 128}
    gray = (first == 128).all(axis=-1)
    assert np.all(np.abs(gray.mean(axis=(1, 2)) - 0.25) < 0.04)
    assert len({image.tobytes() for image in gray}) > 60
    for image in gray:
        rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
        assert image.sum() == len(rows) * len(columns)
    assert not np.array_equal(first, second)
    half = np.asarray(keras.layers.RandomErasing(1.0, scale=(0.25, 0.25), fill_value=128)(images, training=True))
    assert 0.3 < (half == 128).any(axis=(1, 2, 3)).mean() < 0.7  # Once this fails, 1.0 means always.


def test_in_mixed_precision_images_are_changed_in_float32():
    """In float16 `RandomErasing` fails, and a shift of a large image is rounded."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        images = DATA.train.images[:20].astype("float32")
        found = changed(images, cutout=0.25)
        assert {layer.compute_dtype for layer in recipe.augmentation(mirror=False, cutout=0.2)} == {"float32"}
        with pytest.raises(ValueError, match="range"):
            tf.function(keras.layers.RandomErasing())(images, training=True)  # Once it works, the policy can do.
    finally:
        keras.config.set_dtype_policy("float32")
    assert found.shape == images.shape


# Inside the model


@pytest.mark.parametrize("rate", [0.0, 0.35])
def test_dropout_is_before_both_dense_layers_and_off_when_a_model_answers(rate):
    with_it, without = recipe.build_model(SHAPE, 10, dropout=rate), recipe.build_model(SHAPE, 10)
    assert [layer.rate for layer in with_it.layers if isinstance(layer, keras.layers.Dropout)] == [rate, rate]
    without.set_weights(with_it.get_weights())
    images = DATA.train.images[:16].astype("float32")
    assert np.array_equal(with_it(images, training=False), without(images, training=False))
    assert np.array_equal(with_it.predict(images, verbose=0), without.predict(images, verbose=0))
    assert np.allclose(with_it(images, training=True), without(images, training=True)) == (rate == 0)


@pytest.mark.parametrize(("penalties", "power"), [({}, 0), ({"l1": 0.5}, 1), ({"l2": 0.5}, 2)])
def test_penalties_are_of_all_kernels(penalties, power):
    model = recipe.build_model(SHAPE, 10, **penalties)
    kernels = [layer.kernel.numpy() for layer in model.layers if hasattr(layer, "kernel")]
    wanted = 0.5 * sum((np.abs(kernel) ** power).sum() for kernel in kernels) if power else 0.0
    assert float(sum(model.losses)) == pytest.approx(wanted, rel=1e-5)
    assert len(kernels) == 4


# The training


def handed_over(monkeypatch, train, **arguments):
    """What a training compiles and gives to `fit`, without training."""
    seen = {}
    with monkeypatch.context() as patched:
        patched.setattr(keras.Model, "fit", lambda model, feed, **given: seen.update(given, model=model, feed=feed))
        given = few(), few(20)
        model = train(*given, 3, callbacks=[own := object()], **arguments)
    assert seen["model"] is model
    assert seen["callbacks"][-1] is own
    return SimpleNamespace(**seen, given=given, optimizer=model.optimizer, stops=seen["callbacks"][:-1])


def test_without_a_technique_it_is_adam_alone(monkeypatch):
    seen = handed_over(monkeypatch, recipe.train)
    assert (seen.feed, seen.validation_data) == seen.given
    assert type(seen.optimizer) is keras.optimizers.AdamW
    assert seen.optimizer.weight_decay == 0
    assert not seen.optimizer.use_ema
    assert seen.model.losses == seen.stops == []
    kinds = {type(layer).__name__ for layer in seen.model.layers}
    assert kinds == {"Rescaling", "Conv2D", "MaxPooling2D", "Flatten", "Dropout", "Dense"}
    assert handed_over(monkeypatch, recipe.train, build_model=lambda shape, classes: recipe.build_model(shape, 7)).model


def test_decoupled_decay_is_the_optimizers(monkeypatch):
    assert handed_over(monkeypatch, recipe.train, weight_decay=0.25, rate=0.5).optimizer.weight_decay == 0.25
    assert float(handed_over(monkeypatch, recipe.train, rate=0.5).optimizer.learning_rate) == 0.5


def test_smoothed_labels_ask_for_less_certainty(monkeypatch):
    """Whole-number labels as they come in, of one row or one column, in float32 and float16."""
    loss = handed_over(monkeypatch, recipe.train, label_smoothing=0.3).model.loss
    logits = np.array([[5.0, 0, 0], [0, 0, 5.0]], "float32")
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # 0.3 goes to all three classes: 0.7 + 0.1 stays with the true one.
    wanted = [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]
    by_hand = -np.mean(np.sum(wanted * np.log(shares), axis=1))
    for labels in (np.array([0, 2]), np.array([[0], [2]], "int32"), np.array([0, 2], "uint8")):
        assert float(loss(labels, logits)) == pytest.approx(by_hand, rel=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(again(np.array([0, 2]), logits)) == pytest.approx(by_hand, rel=1e-5)
    plain = handed_over(monkeypatch, recipe.train).model.loss
    assert type(plain) is keras.losses.SparseCategoricalCrossentropy
    assert float(plain(np.array([0, 2]), logits)) == pytest.approx(-np.log(shares[0, 0]), rel=1e-5)


def test_with_smoothed_labels_accuracy_is_still_of_whole_number_labels():
    model = recipe.train(few(), few(20), 3, label_smoothing=0.2, epochs=1)
    right = np.argmax(model.predict(few(), verbose=0), axis=1) == np.concatenate([labels for _, labels in few()])
    assert model.evaluate(few(), verbose=0)[1] == pytest.approx(right.mean())


@pytest.mark.variants
def test_the_weights_of_the_epoch_that_was_watched_are_put_back():
    """Of a training that overfits at once, so that the best epoch is not the last."""
    for stop_on, best in (("val_loss", np.min), ("val_accuracy", np.max)):
        keras.utils.set_random_seed(3)
        history = keras.callbacks.History()
        model = recipe.train(
            few(), few(40, start=500), 3, stop_on=stop_on, patience=9, epochs=9, rate=0.02, callbacks=[history]
        )
        values = history.history[stop_on]
        found = model.evaluate(few(40, start=500), verbose=0, return_dict=True)[stop_on.removeprefix("val_")]
        assert found == pytest.approx(best(values), rel=1e-4)
        assert len(values) == 9
        if stop_on == "val_loss":
            assert values[-1] > 1.1 * min(values)


@pytest.mark.parametrize("patience", [1, 3])
def test_patience_counts_the_epochs_without_a_lower_loss(monkeypatch, patience):
    (stop,) = handed_over(monkeypatch, recipe.train, stop_on="val_loss", patience=patience).stops
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile("sgd", "mse")
    stop.set_model(model)
    stop.on_train_begin()
    losses = [2.0, 1.0, 1.1, 0.9, 1.2, 1.3, 0.95, 0.5]
    for epoch, loss in enumerate(losses):
        model.layers[-1].kernel.assign([[epoch + 1.0]])
        stop.on_epoch_end(epoch, {"val_loss": loss})
        if getattr(model, "stop_training", False):
            break
    stop.on_train_end()
    # With one epoch's patience the first rise ends it; with three, the third epoch after the lowest of 0.9.
    assert (epoch + 1, model.layers[-1].kernel.numpy().item()) == {1: (3, 2.0), 3: (7, 4.0)}[patience]


def test_the_average_of_the_weights_takes_their_place_and_is_what_was_validated(monkeypatch):
    steps, history = [], keras.callbacks.History()
    compile = keras.Model.compile
    monkeypatch.setattr(keras.Model, "compile", lambda self, **how: compile(self, **{**how, "steps_per_execution": 1}))

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(self.model.get_weights())

    model = recipe.train(few(), few(20), 3, average=0.6, epochs=3, rate=0.01, callbacks=[Watch(), history])
    assert len(steps) == 9
    average = steps[0]
    for weights in steps[1:]:
        average = [0.6 * old + 0.4 * new for old, new in zip(average, weights, strict=True)]
    for found, wanted, last in zip(model.get_weights(), average, steps[-1], strict=True):
        assert found == pytest.approx(wanted, abs=1e-5)
        assert np.abs(found - last).max() > 1e-4
    assert model.evaluate(few(20), verbose=0)[0] == pytest.approx(history.history["val_loss"][-1], rel=1e-4)


def test_an_average_and_stopping_early_are_refused_together():
    """Keras puts back the weights of the last step where an averaged training ends before its last epoch."""
    with pytest.raises(ValueError, match="average or stop_on"):
        recipe.train(few(), few(20), 3, average=0.9, stop_on="val_loss")


# The experiment

USUAL = {"dropout": 0.0, "l1": 0.0, "l2": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0, "average": 0.0}
USUAL |= {"mirror": False, "translate": 0.0, "cutout": 0.0, "stop_on": "", "patience": 5}
OWN = {
    "none": {}, "by_tf_data": {}, "averaged": {"average": 0.99},
    "augmentation": {"mirror": True, "translate": 0.1},
    "with_cutout": {"mirror": True, "translate": 0.1, "cutout": 0.06},
    "first_rise": {"stop_on": "val_loss", "patience": 1}, "early_stopping": {"stop_on": "val_loss", "patience": 5},
    "best_loss": {"stop_on": "val_loss", "patience": 30}, "best_accuracy": {"stop_on": "val_accuracy", "patience": 30},
}  # fmt: skip
OWN |= {name: {name: experiment.VALUES[name]} for name in ("dropout", "l2", "l1")}
OWN |= {"weight_decay": {"weight_decay": 0.3}, "label_smoothing": {"label_smoothing": 0.15}}  # Three times the values.
RATES = {"by_tf_data": experiment.RATES["augmentation"], **experiment.RATES}


@pytest.mark.parametrize("variant", experiment.VARIANTS)
def test_a_variant_has_its_own_technique_alone(monkeypatch, variant):
    seen = {}
    monkeypatch.setattr(recipe, "train", lambda *sets, **arguments: seen.update(arguments))
    called = experiment.VARIANTS[variant]
    if called.func is experiment.with_strength:
        called("train", "validation", 10)
    else:
        seen.update(called.keywords)
    expected = {**USUAL, **OWN[variant], "rate": RATES.get(variant, RATES["none"])}
    assert {**USUAL, **{name: seen[name] for name in seen if name in expected}} == pytest.approx(expected)
    flags = EXPERIMENT.config_of(variant, EXPERIMENT.config())
    augmented = ("yes", 3) if variant == "by_tf_data" else ("no", 0)
    assert (flags.images, flags.batch_size, flags.flip, flags.shift) == (1000, 50, *augmented)


def test_strength_multiplies_a_techniques_value(monkeypatch):
    seen = {}
    monkeypatch.setattr(recipe, "train", lambda *sets, **arguments: seen.update(arguments))
    for variant, name, strength, wanted in (
        ("l2", "l2", 3.0, 0.0003), ("dropout", "dropout", 3.0, 0.9), ("averaged", "average", 3.0, 0.99),
        ("averaged", "average", 0.3, 0.9), ("augmentation", "translate", 0.3, 0.03), ("with_cutout", "cutout", 3, 0.6),
    ):  # fmt: skip
        EXPERIMENT.bound(variant, dataclasses.replace(EXPERIMENT.config(), strength=strength))("t", "v", 10)
        assert seen[name] == pytest.approx(wanted), variant
        assert seen["rate"] == experiment.RATES[variant]


@pytest.mark.parametrize("adaptive", [False, True])
def test_decay_by_hand_is_that_of_keras_in_float64(adaptive):
    """What claims G16a and G16b assert holds of Keras's own optimizers."""
    ends = {}
    for in_the_loss in (False, True):
        weight = keras.Variable(3.0, dtype="float64")
        decay = {} if in_the_loss else {"weight_decay": 0.1}
        kind = (keras.optimizers.AdamW if decay else keras.optimizers.Adam) if adaptive else keras.optimizers.SGD
        optimizer = kind(0.1, **decay)
        optimizer.build([weight])
        for _ in range(20):
            gradient = 2 * (weight.value - 1) + (2 * 0.05 * weight.value if in_the_loss else 0.0)
            optimizer.apply([tf.cast(gradient, "float64")])
        ends[in_the_loss] = float(weight.value)
        by_hand = experiment.decayed(adaptive, in_the_loss)
        assert ends[in_the_loss] == pytest.approx(by_hand, abs=2e-3 if adaptive else 1e-6), in_the_loss
    assert (abs(ends[True] - ends[False]) < 1e-6) == (not adaptive)


def test_weights_are_counted_by_hand(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.set_weights([np.array([[3.0, 0.0], [-4.0, 0.0005]], "float32"), np.zeros(2)])
    run = Run("none", 1, sources.Request(), None, tmp_path, bound=experiment.NONE)
    run.curves = {"accuracy": [0.5, 0.75], "val_accuracy": [0.25, 0.25], "loss": [1.0, 0.5]}
    found = experiment.weights_and_epochs(model, run, None)
    assert found == pytest.approx({"weight_norm": 5.0, "near_zero": 0.5, "exactly_zero": 0.25, "epochs": 2.0})
    assert run.curves["gap"] == [0.25, 0.5]


@pytest.mark.variants
def test_the_model_that_is_scored_is_that_of_the_best_epoch(tmp_path):
    request = sources.Request(train_images=500)
    config = EXPERIMENT.config(images=100, epochs=6, rate=5e-3, patience=2)
    job = Job(
        EXPERIMENT.module, ("early_stopping",), 1, vars(config), request, str(tmp_path), logging=False, alone=True
    )
    with recomputing.watch(request, 1) as watched:
        (record,) = run_job(job)
    ((done,), (scored,)) = watched.fits, watched.scored
    assert done.returned < len(done.history["loss"]) - 1  # Else the last epoch would do.
    recomputing.check_fits(watched)
    recomputing.check_record(record, scored)


@pytest.mark.variants
@pytest.mark.parametrize("name", ["regularization"])
def test_penalties_shrink_weights_and_the_gap_is_recorded(smoke, name):
    done, logs = smoke(name)
    assert "could not" not in done.stdout
    records = typed_evidence_in(logs).records
    near_zero, norm = (values_of(records, metric) for metric in ("near_zero", "weight_norm"))
    (seed,) = norm["none"]
    assert near_zero["l1"][seed] > 0.05 > 0.02 > near_zero["none"][seed]
    assert norm["l2"][seed] < norm["none"][seed] - 0.5
    for record in records:
        assert len(record.curves["gap"]) == record.metrics["epochs"] == len(record.curves["loss"])
        difference = np.subtract(record.curves["accuracy"], record.curves["val_accuracy"])
        np.testing.assert_allclose(record.curves["gap"], difference)
