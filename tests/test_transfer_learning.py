"""What is frozen stays, what is fine-tuned moves, and known and new classes are kept apart."""

import dataclasses
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.experiments import transfer_learning as experiment
from pipelines import batches, sources
from recipes import transfer_learning as recipe

DATA = sources.load(sources.Request(train_images=1000))
SHAPE = (32, 32, 3)


def few(images=40, batch=20) -> tf.data.Dataset:
    chosen = DATA.train.take(np.arange(images))
    return tf.data.Dataset.from_tensor_slices((chosen.images, chosen.labels)).batch(batch)


def copies(weights) -> list[np.ndarray]:
    return [np.array(weight) for weight in weights]


def moved(before, after) -> list[bool]:
    return [not np.array_equal(one, other) for one, other in zip(before, after, strict=True)]


def statistics_of(base) -> list[np.ndarray]:
    return copies(weight for weight in base.weights if "moving" in weight.path)


# The recipe


def test_it_learns_from_few_images_of_classes_that_the_base_does_not_know():
    """Ten images of each of four new classes, whose share is a quarter."""
    keras.utils.set_random_seed(1)
    known, new = experiment.divided(DATA)
    model = recipe.pretrain(batches.training(known.train, 50, seed=1), None, 6, epochs=3)
    learned = experiment.few(new.train, 10, seed=1)
    train_set = batches.training(learned, 20, seed=1)
    found = recipe.train(train_set, None, 4, model.get_layer("base"), epochs=20)
    assert found.evaluate(batches.evaluation(new.validation), verbose=0, return_dict=True)["accuracy"] > 0.4


def test_a_frozen_base_stays_and_the_head_moves():
    base = recipe.build_base(SHAPE)
    before = copies(base.weights)
    model = recipe.train(few(), None, 10, base, epochs=2)
    assert not any(moved(before, base.weights))
    assert len(model.trainable_variables) == 2
    assert model.optimizer.iterations == 4


def test_fine_tuning_moves_all_weights_but_batchnorms():
    base = recipe.build_base(SHAPE)
    model = recipe.train(few(), None, 10, base, epochs=1)
    before = copies(model.weights)
    recipe.fine_tune(model, few(), None, rate=0.01, epochs=1)
    kinds = ["batch_normalization" in weight.path for weight in model.weights]
    assert sum(kinds) == 12
    assert moved(before, model.weights) == [not of_norm for of_norm in kinds]


def test_keras_still_ignores_a_models_trainable_that_is_true_already():
    """If this fails, `fine_tune` can do without its loop."""
    base = recipe.build_base(SHAPE)
    model = recipe.train(few(), None, 10, base, epochs=1)
    model.trainable = True
    assert not base.trainable


def test_keras_still_overrides_training_false():
    """If this fails, `unfreeze` can do without its exception, and the sentence on the guide is wrong."""
    assert not experiment.training_false_holds()


@pytest.mark.processes
def test_from_scratch_batchnorms_statistics_move_too():
    model = recipe.pretrain(few(), None, 10, epochs=1)
    base = model.get_layer("base")
    assert all(moved(statistics_of(recipe.build_base(SHAPE)), statistics_of(base)))


def test_rates_fall_to_zero_over_all_steps(monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: None)
    model = recipe.train(few(), None, 10, recipe.build_base(SHAPE), rate=0.02, epochs=5)
    rates = []
    for step in (0, 5, 10):
        model.optimizer.iterations.assign(step)
        rates.append(float(model.optimizer.learning_rate))
    assert rates == pytest.approx([0.02, 0.01, 0.0])


@pytest.mark.processes
def test_a_base_of_keras_applications_takes_pixels_and_gives_features(monkeypatch):
    """With random weights, as nothing is downloaded in tests."""
    real, asked = keras.applications.MobileNetV3Small, []

    def without_weights(**how):
        asked.append(how.pop("weights"))
        return real(**how, weights=None)

    monkeypatch.setattr(keras.applications, "MobileNetV3Small", without_weights)
    base = recipe.imagenet_base((64, 64, 3))
    assert asked == ["imagenet"]
    assert base.output_shape == (None, 576)
    assert [layer for layer in base.layers if isinstance(layer, keras.layers.Rescaling)]
    images = tf.random.uniform((20, 64, 64, 3), 0, 255)
    model = recipe.train(tf.data.Dataset.from_tensor_slices((images, [0, 1] * 10)).batch(10), None, 2, base, epochs=1)
    assert model.output_shape == (None, 2)


# The experiment


def test_known_and_new_classes_share_no_image_and_all_are_there():
    known, new = experiment.divided(DATA)
    assert (len(known.classes), len(new.classes)) == (6, 4)
    assert known.classes + new.classes == DATA.classes
    for part in ("train", "validation"):
        parts = getattr(known, part), getattr(new, part)
        assert set(parts[0].ids) | set(parts[1].ids) == set(getattr(DATA, part).ids)
        assert not set(parts[0].ids) & set(parts[1].ids)
        for found, first in zip(parts, (0, 6), strict=True):
            whole = dict(zip(getattr(DATA, part).ids, getattr(DATA, part).labels, strict=True))
            assert [whole[name] - first for name in found.ids] == found.labels.tolist()
    with pytest.raises(ValueError, match="at least five"):
        experiment.divided(dataclasses.replace(DATA, classes=DATA.classes[:3]))


def test_the_test_images_of_new_classes_are_only_read_when_they_are_asked_for():
    with sources.test_set(closed=True):
        _, new = experiment.divided(sources.load(sources.Request(train_images=1000)))
        with pytest.raises(Exception, match="test"):
            new.test  # noqa: B018
    assert set(new.test.labels) == {0, 1, 2, 3}
    assert len(new.test) == 1600


@pytest.mark.parametrize("labels", [10, 40])
def test_few_images_are_as_many_of_each_class_and_others_for_each_seed(labels):
    found = [experiment.few(DATA.train, labels, seed) for seed in (1, 2, 1)]
    for one in found:
        assert np.bincount(one.labels).tolist() == [labels] * 10
    assert set(found[0].ids) == set(found[2].ids) != set(found[1].ids)


def test_a_variants_name_says_how_many_images_of_each_class_it_has():
    assert experiment.labels_of("frozen_40") == 40
    assert experiment.labels_of("fine_tuned_160_at_the_highest_rate") == 160
    assert {experiment.labels_of(name) for name in experiment.VARIANTS} == set(experiment.LABELS)


@pytest.fixture
def trained(monkeypatch):
    """Trainings by the recipe's functions, which train nothing: name, epochs, and whether BatchNorm would train."""
    calls = []

    def fit(model, train_set, validation_set, rate, epochs, callbacks):
        before = statistics_of(model)
        model(np.full((2, *SHAPE), 200.0), training=True)
        kept = not any(moved(before, statistics_of(model)))
        calls.append((rate, epochs, len(model.trainable_variables), kept))

    monkeypatch.setattr(recipe, "fit", fit)
    return calls


@pytest.mark.parametrize(
    ("way", "wanted"),
    [
        ("frozen", [(0.3, 60, 2, True)]),
        ("fine_tuned", [(0.01, 30, 2, True), (0.3, 30, 5, True)]),
        ("scratch", [(0.3, 60, 11, False)]),
        ("random", [(0.3, 60, 2, True)]),
        ("batchnorm_trains", [(0.01, 30, 2, True), (0.3, 30, 11, False)]),
    ],
)
def test_each_way_trains_what_its_name_says_for_as_many_epochs(trained, way, wanted):
    base = recipe.build_base(SHAPE)
    before = copies(base.weights)
    call = experiment.VARIANTS[f"{way}_10"].func
    model = call(few(), None, 4, base, rate=0.3, callbacks=[])
    assert trained == wanted
    assert sum(epochs for _, epochs, _, _ in trained) == experiment.EPOCHS
    uses_it = any(layer is base for layer in model.layers)
    assert uses_it == (way not in ("scratch", "random"))
    if way == "random":
        other = next(layer for layer in model.layers if isinstance(layer, keras.Model))
        assert all(moved(statistics_of(recipe.build_base(SHAPE)), statistics_of(other)))
        assert not any(moved(before, base.weights))


def test_the_rates_that_forget_are_four_decades():
    rates = [experiment.VARIANTS[f"fine_tuned_160_at_the_{how}_rate"].keywords["rate"] for how in experiment.FORGETTING]
    assert rates == pytest.approx([1e-5, 1e-4, 1e-3, 1e-2])


def test_a_probe_tells_what_is_left_of_the_features():
    """A base that sees nothing knows no class; one that sees colors knows some."""
    known, _ = experiment.divided(DATA)
    run = types.SimpleNamespace(open_test_set=lambda data: data.test)
    blind = recipe.build_base(SHAPE)
    blind.set_weights([np.zeros(weight.shape) for weight in blind.weights])
    assert experiment.probed(blind, known, 250, run) == pytest.approx(1 / 6, abs=0.02)
    assert experiment.probed(recipe.build_base(SHAPE), known, 250, run) > 0.3


def test_a_run_is_scored_on_the_new_classes_and_leaves_no_pictures_of_all(monkeypatch, tmp_path):
    asked = {}

    class Fake:
        variant, seed, data, folder, diverged, correct = "frozen_160", 301, sources.Request(), tmp_path, False, "bits"

        def bound(self, *sets, callbacks):
            asked["trained"] = sets

        def callbacks(self, data):
            asked["callbacks"] = data
            return []

        def scores(self, model, data):
            asked["scored"] = data
            (tmp_path / "predicted.npy").touch()
            return {"test_accuracy": 0.5, "train_accuracy": 0.7}

    def pretrain(train_set, validation_set, classes, epochs):
        asked["known"] = classes, epochs
        return types.SimpleNamespace(get_layer=lambda name: name)

    monkeypatch.setattr(recipe, "pretrain", pretrain)
    monkeypatch.setattr(experiment, "memory_of", lambda step, frozen, *_: 100.0 if frozen else 400.0)
    monkeypatch.setattr(experiment, "probed", lambda base, *_: {"base": 0.8}[base])
    run = Fake()
    found = experiment.train("frozen_160", experiment.EXPERIMENT.config(), run)
    assert found == {
        "new_accuracy": 0.5, "train_accuracy": 0.7, "known_accuracy": 0.8, "memory": 100.0,
        "log_memory": pytest.approx(np.log(100)),
    }  # fmt: skip
    assert asked["known"] == (6, 5)
    train_set, _, classes, base = asked["trained"]
    assert (len(train_set), classes, base) == (640 // 20, 4, "base")
    assert np.bincount(asked["scored"].train.labels).tolist() == [160] * 4
    assert run.correct is None
    assert not (tmp_path / "predicted.npy").exists()
    bare = experiment.train("frozen_160", experiment.EXPERIMENT.config(memory=0), Fake())
    assert set(bare) == {"new_accuracy", "train_accuracy"}
