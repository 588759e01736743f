"""Two inputs and two outputs: what each holds, that each is used, and that names lead them through Keras."""

import keras
import numpy as np
import pytest

from lab import Run
from pipelines import sources
from recipes import functional_multi_input as recipe

REQUEST = sources.Request(train_images=500)
DATA = sources.load(REQUEST)
IMAGES, LABELS = DATA.train.images[:100], DATA.train.labels[:100]


def prepared(variant: str):
    return recipe.preparation(variant, DATA)(IMAGES, LABELS)


def test_a_thumbnail_is_gray_and_half_as_large():
    shown = recipe.thumbnail(IMAGES).numpy()
    assert shown.shape == (100, 16, 16, 1)
    by_hand = IMAGES.astype(float).mean(axis=3).reshape(100, 16, 2, 16, 2).mean(axis=(2, 4))
    assert np.allclose(shown[..., 0], by_hand, atol=1e-3)


def test_numbers_are_of_each_channel_and_nothing_of_where():
    numbers = recipe.colour_numbers(IMAGES).numpy()
    by_hand = np.concatenate([IMAGES.mean(axis=(1, 2)), IMAGES.std(axis=(1, 2))], axis=1)
    assert np.allclose(numbers, by_hand, atol=1e-2)
    moved = np.random.default_rng(0).permutation(IMAGES.reshape(100, -1, 3), axis=1).reshape(IMAGES.shape)
    assert np.allclose(recipe.colour_numbers(moved), numbers, atol=1e-2)


def test_numbers_are_standardized_by_training_images_alone():
    prepare = recipe.preparation("numbers", DATA)
    whole = prepare(DATA.train.images, DATA.train.labels)[0]["numbers"].numpy()
    assert np.allclose(whole.mean(axis=0), 0, atol=1e-4)
    assert np.allclose(whole.std(axis=0), 1, atol=1e-4)
    others = prepare(DATA.validation.images, DATA.validation.labels)[0]["numbers"].numpy()
    assert not np.allclose(others.mean(axis=0), 0, atol=1e-3)


def test_each_variant_gets_its_own_inputs():
    for variant, names in recipe.VARIANTS.items():
        inputs, targets = prepared(variant)
        assert tuple(inputs) == names
        assert np.array_equal(targets["class"], LABELS)
        assert ("kind" in targets) == (variant == "two_heads")
        assert list(recipe.build_model(variant, DATA).input) == list(inputs)
    assert np.array_equal(prepared("colour")[0]["colour"], IMAGES)


def test_shuffled_numbers_are_another_images():
    own, others = (prepared(variant)[0]["numbers"].numpy() for variant in ("both", "both_shuffled"))
    assert np.allclose(others[1:], own[:-1])
    assert not np.isclose(own, others).all(axis=1).any()
    assert np.array_equal(prepared("both")[0]["image"], prepared("both_shuffled")[0]["image"])


def test_the_kind_is_the_classes_own():
    kinds = prepared("two_heads")[1]["kind"].numpy()
    animals = {"bird", "cat", "deer", "dog", "frog", "horse"}
    assert [DATA.classes[label] in animals for label in LABELS] == kinds.astype(bool).tolist()


@pytest.mark.parametrize("variant", ["both", "two_heads"])
def test_every_output_hears_of_every_input(variant):
    model = recipe.build_model(variant, DATA)
    inputs, _ = prepared(variant)
    before = model(inputs)
    for name in inputs:
        after = model({**inputs, name: inputs[name] + 50})
        for output in before:
            assert not np.allclose(before[output], after[output], atol=1e-3), (name, output)


def test_shuffling_changes_no_parameter_count():
    counts = [recipe.build_model(variant, DATA).count_params() for variant in ("both", "both_shuffled")]
    assert counts[0] == counts[1]


def test_the_loss_is_the_weighted_sum_of_the_heads_losses():
    model = recipe.build_model("two_heads", DATA)
    recipe.compile_model(model, 1e-3, 10, kind_weight=0.3)
    inputs, targets = prepared("two_heads")
    logits = {name: value.numpy().astype(float) for name, value in model(inputs).items()}

    def entropy(name: str) -> float:
        shifted = logits[name] - logits[name].max(axis=1, keepdims=True)
        log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return -float(log_probability[np.arange(100), np.asarray(targets[name])].mean())

    found = model.evaluate(inputs, targets, batch_size=100, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(entropy("class") + 0.3 * entropy("kind"), rel=1e-4)
    assert {"class_accuracy", "kind_accuracy"} <= found.keys()


def test_names_lead_through_fit_predict_save_and_load(tmp_path):
    config = recipe.Config(epochs=2, batch_size=50)
    (tmp_path / "run").mkdir()
    run = Run("two_heads", 1, REQUEST, config, tmp_path / "run", save=tmp_path / "model.keras")
    scores = recipe.train("two_heads", config, run)
    assert len(run.curves["val_accuracy"]) == 2
    assert run.curves["val_accuracy"] == run.curves["val_class_accuracy"]
    assert scores["validation_accuracy"] == run.curves["val_accuracy"][-1]
    assert scores["kind_accuracy"] > 0.5
    model = keras.saving.load_model(tmp_path / "model.keras")
    prepare = recipe.preparation("two_heads", DATA)
    held_back = run.open_test_set(DATA)
    backwards = dict(reversed(prepare(held_back.images, held_back.labels)[0].items()))
    predicted = model.predict(backwards, verbose=0)  # By name: their order does not matter.
    assert np.mean(predicted["class"].argmax(axis=1) == held_back.labels) == pytest.approx(scores["test_accuracy"])
