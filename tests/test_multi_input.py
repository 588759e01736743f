"""Two inputs and two outputs: what each holds, that each is used, and that names lead them through Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.core.run import Run
from lab.experiments import functional_multi_input as experiment
from pipelines import batches, sources
from recipes import functional_multi_input as recipe

REQUEST = sources.Request(train_images=500)
DATA = sources.load(REQUEST)
IMAGES, LABELS = DATA.train.images[:100], DATA.train.labels[:100]


def prepared(variant: str):
    return experiment.PREPARE[variant](IMAGES, LABELS)


def model_of(variant: str) -> keras.Model:
    inputs, targets = prepared(variant)
    shapes = {name: tuple(value.shape[1:]) for name, value in inputs.items()}
    return recipe.build_model(shapes, 10, 6 if "second" in targets else 0)


def sets(prepare, size=50):
    part = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(size)
    return part.map(prepare)


def test_a_thumbnail_is_gray_and_half_as_large():
    shown = recipe.thumbnail(IMAGES).numpy()
    assert shown.shape == (100, 16, 16, 1)
    by_hand = IMAGES.astype(float).mean(axis=3).reshape(100, 16, 2, 16, 2).mean(axis=(2, 4))
    assert np.allclose(shown[..., 0], by_hand, atol=1e-3)


def test_numbers_are_of_each_channel_and_nothing_of_where():
    numbers = recipe.color_numbers(IMAGES).numpy()
    by_hand = np.concatenate([IMAGES.mean(axis=(1, 2)), IMAGES.std(axis=(1, 2))], axis=1) / 64
    assert np.allclose(numbers, by_hand, atol=1e-3)
    moved = np.random.default_rng(0).permutation(IMAGES.reshape(100, -1, 3), axis=1).reshape(IMAGES.shape)
    assert np.allclose(recipe.color_numbers(moved), numbers, atol=1e-3)


def test_each_variant_is_given_and_asked_what_its_name_says():
    inputs = {variant: sorted(prepared(variant)[0]) for variant in experiment.VARIANTS}
    assert inputs == {
        "image": ["image"],
        "numbers": ["numbers"],
        "both": ["image", "numbers"],
        "both_shuffled": ["image", "numbers"],
        "color": ["image"],
        "color_both": ["image", "numbers"],
        "second_light": ["image"],
        "second_middle": ["image"],
        "second_heavy": ["image"],
    }
    for variant in experiment.VARIANTS:
        targets = prepared(variant)[1]
        assert np.array_equal(targets["label"], LABELS)
        assert ("second" in targets) == variant.startswith("second")
    for variant in ("color", "color_both"):
        assert np.array_equal(prepared(variant)[0]["image"], IMAGES)
    for variant in ("image", "both", "both_shuffled", "second_light"):
        assert np.array_equal(prepared(variant)[0]["image"], recipe.thumbnail(IMAGES))
    own = recipe.color_numbers(IMAGES)
    assert np.array_equal(prepared("color_both")[0]["numbers"], own)
    assert np.array_equal(prepared("second_light")[1]["second"], own)


def test_shuffled_numbers_are_another_images():
    own, others = (prepared(variant)[0]["numbers"].numpy() for variant in ("both", "both_shuffled"))
    assert np.allclose(others[1:], own[:-1])
    assert not np.isclose(own, others).all(axis=1).any()


@pytest.mark.parametrize("variant", ["both", "color_both", "second_light"])
def test_every_output_hears_of_every_input(variant):
    model = model_of(variant)
    inputs = {name: tf.cast(value, tf.float32) for name, value in prepared(variant)[0].items()}
    before = model(inputs)
    for name in inputs:
        after = model({**inputs, name: inputs[name] + 50})
        for output in before:
            assert not np.allclose(before[output], after[output], atol=1e-3), (name, output)


def test_shuffling_changes_no_parameter_count():
    counts = [model_of(variant).count_params() for variant in ("both", "both_shuffled")]
    assert counts[0] == counts[1]


@pytest.mark.variants
def test_the_model_standardizes_numbers_by_training_images_alone():
    """Validation images of another brightness have no say in it."""
    bright = tf.data.Dataset.from_tensor_slices((np.full((20, 32, 32, 3), 255, "uint8"), np.zeros(20, int))).batch(10)
    for variant in ("numbers", "both"):
        prepare = experiment.PREPARE[variant]
        model = recipe.train(sets(prepare), bright.map(prepare), 10, epochs=1)
        layer = model.get_layer("numbers_scaled")
        scaled = layer(recipe.color_numbers(IMAGES)).numpy()
        assert np.allclose(scaled.mean(axis=0), 0, atol=1e-3)
        assert np.allclose(scaled.std(axis=0), 1, atol=1e-2)


@pytest.mark.variants
@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_the_loss_is_the_weighted_sum_of_the_outputs_losses(weight):
    """By hand, from the weights that a training at rate zero does not move."""

    class Losses(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.found = dict(logs)

    losses = Losses()
    both = sets(recipe.image_to_numbers)
    model = recipe.train(both, both, 10, second_weight=weight, rate=0.0, epochs=1, callbacks=[losses])
    inputs, targets = recipe.image_to_numbers(IMAGES, LABELS)
    answers = {name: value.numpy().astype(float) for name, value in model(inputs).items()}
    shifted = answers["label"] - answers["label"].max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    entropy = -log_probability[np.arange(100), LABELS].mean()
    squares = np.mean((answers["second"] - targets["second"]) ** 2)
    assert losses.found["loss"] == pytest.approx(entropy + weight * squares, rel=1e-4)
    assert losses.found["val_loss"] == pytest.approx(entropy + weight * squares, rel=1e-4)


def test_the_explained_share_by_hand():
    class Model:
        def predict(self, test, verbose):
            return {"second": np.array([[1.0, 0.0], [1.0, 0.0], [3.0, 0.0], [3.0, 0.0]])}

    wanted = np.array([[0.0, 5.0], [2.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    test = [({}, {"second": wanted[:2]}), ({}, {"second": wanted[2:]})]
    # The variance is 2 in the first column and none in the second; the errors are 1 and 5.
    assert experiment.explained(Model(), test) == pytest.approx(1 - (1 + 25) / 2)


@pytest.mark.variants
def test_names_lead_through_fit_predict_save_and_load(tmp_path):
    config = experiment.EXPERIMENT.config(epochs=2, batch_size=50)
    (tmp_path / "run").mkdir()
    run = Run("second_middle", 1, REQUEST, config, tmp_path / "run", save=tmp_path / "model.keras")
    run.bound = experiment.EXPERIMENT.bound("second_middle", config)
    scores = experiment.train("second_middle", config, run)
    assert len(run.curves["val_accuracy"]) == 2
    assert run.curves["val_accuracy"] == run.curves["val_label_accuracy"]
    assert scores["validation_accuracy"] == run.curves["val_accuracy"][-1]
    assert scores["explained"] <= 1
    model = keras.saving.load_model(tmp_path / "model.keras")
    validation = batches.evaluation(DATA.validation).map(recipe.image_to_numbers)
    assert model.evaluate(validation, verbose=0, return_dict=True)["label_accuracy"] == scores["validation_accuracy"]
    held_back = run.open_test_set(DATA)
    inputs, _ = recipe.image_to_numbers(held_back.images, held_back.labels)
    predicted = model.predict(inputs, verbose=0)["label"]
    assert np.mean(predicted.argmax(axis=1) == held_back.labels) == pytest.approx(scores["test_accuracy"])


def test_a_model_loaded_again_scales_numbers_as_before(tmp_path):
    both = sets(recipe.image_and_numbers)
    model = recipe.train(both, both, 10, epochs=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    inputs, _ = recipe.image_and_numbers(IMAGES, LABELS)
    backwards = dict(reversed(inputs.items()))  # By name: their order does not matter.
    assert np.allclose(loaded(backwards)["label"], model(inputs)["label"], atol=1e-5)


def test_what_was_given_on_the_command_line_takes_a_variants_place():
    bound = experiment.EXPERIMENT.bound("second_light", experiment.EXPERIMENT.config(rate=0.5, epochs=3))
    assert (bound.keywords["rate"], bound.keywords["epochs"], bound.keywords["second_weight"]) == (0.5, 3, 0.03)


def test_numbers_keep_their_scale_in_mixed_precision():
    """A column whose variance float16 cannot hold would become zero, in silence."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = recipe.build_model({"numbers": (1,)}, 2)
    finally:
        keras.config.set_dtype_policy("float32")
    scaled = model.get_layer("numbers_scaled")
    scaled.adapt(np.array([[0.0], [2000.0], [4000.0]]))
    assert np.ptp(np.asarray(scaled(np.array([[0.0], [4000.0]])))) > 1
