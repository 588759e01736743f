"""Orders are what they are called, whether images or the names of their files are shuffled."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.core import training
from lab.core.run import Run
from lab.experiments import shuffling as experiment
from pipelines import sources
from recipes import shuffling as recipe

DATA = sources.load(sources.Request(train_images=1000))
EXPERIMENT = experiment.EXPERIMENT
BUFFERS = {"shuffled": {}, "frozen": {"reshuffle": False}, "half": {"buffer": 0.5}, "tenth": {"buffer": 0.1}}
BUFFERS["none"] = {"buffer": 0.0}


@pytest.fixture(scope="module")
def orders():
    """The places of 1,000 examples, sorted by ten classes, in two epochs of each order."""
    keras.utils.set_random_seed(1)
    examples = tf.data.Dataset.from_tensor_slices((np.arange(1000), np.arange(1000) // 100))
    found = {}
    for name, arguments in BUFFERS.items():
        shuffled = recipe.shuffle(examples, **arguments)
        found[name] = [np.array([int(place) for place, _ in shuffled]) for _ in range(2)]
    return found


def test_each_order_holds_the_same_examples(orders):
    for name, epochs in orders.items():
        for epoch in epochs:
            assert np.array_equal(np.sort(epoch), np.arange(1000)), name


def test_orders_are_new_in_each_epoch_unless_they_are_frozen(orders):
    for name, epochs in orders.items():
        assert np.array_equal(*epochs) == (name in ("frozen", "none")), name


def test_how_far_each_order_mixes_classes(orders):
    """No example comes before its place by more than the buffer is large; and kinds of labels among the first 100."""
    for name, buffer in (("half", 500), ("tenth", 100), ("none", 1)):
        early = (epoch - np.arange(1000) for epoch in orders[name])
        assert all(0.8 * (buffer - 1) <= places.max() < buffer for places in early), name
    kinds = {name: len(set((epochs[0][:100] // 100).tolist())) for name, epochs in orders.items()}
    assert kinds["shuffled"] == kinds["frozen"] == 10
    assert kinds["none"] == 1
    assert 5 <= kinds["half"] <= 7
    assert kinds["tenth"] == 2
    sortedness = {name: np.corrcoef(np.arange(1000), epochs[0])[0, 1] for name, epochs in orders.items()}
    assert abs(sortedness["shuffled"]) < 0.15
    assert abs(sortedness["frozen"]) < 0.15
    assert 0.25 < sortedness["half"] < 0.6 < 0.9 < min(sortedness["tenth"], sortedness["none"])


def test_names_of_files_are_shuffled_anew_each_epoch_and_keep_their_labels(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(60)]
    for number, path in enumerate(paths):
        keras.utils.save_img(path, np.full((9, 7, 3), 4 * number), scale=False)
    files = recipe.shuffle_files(paths, range(60), size=4)
    epochs = [[(image.numpy(), int(label)) for image, label in files] for _ in range(2)]
    for epoch in epochs:
        assert sorted(label for _, label in epoch) == list(range(60))
        assert all(np.array_equal(image, np.full((4, 4, 3), 4.0 * label)) for image, label in epoch)
        assert len({label // 20 for _, label in epoch[:20]}) == 3
    assert [label for _, label in epochs[0]] != [label for _, label in epochs[1]]
    assert files.element_spec[0].shape == (4, 4, 3)


def test_a_model_trains_on_files_that_were_shuffled_by_name(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(12)]
    for number, path in enumerate(paths):
        keras.utils.save_img(path, np.full((8, 8, 3), 20 * number), scale=False)
    files = recipe.shuffle_files(paths, [number // 6 for number in range(12)], size=16)
    model = recipe.train(files, files.batch(4), 2, buffer=0.0, batch_size=4, epochs=1)
    assert model.output_shape == (None, 2)


@pytest.mark.parametrize("change", [False, True])
def test_one_order_is_kept_to_the_last_epoch_which_may_have_another(change):
    labels = np.arange(50)
    feed = experiment.in_one_order(labels[:, None] * 2, labels, seed=3, epochs=4, change=change)
    epochs = [[(int(image[0]), int(label)) for image, label in feed] for _ in range(4)]
    assert all(image == 2 * label for image, label in epochs[0])
    assert sorted(label for _, label in epochs[3]) == list(range(50)) != [label for _, label in epochs[0]]
    assert epochs[0] == epochs[1] == epochs[2]
    assert (epochs[3] == epochs[0]) == (not change)
    assert len(feed) == 50


def handed_over(monkeypatch, tmp_path, variant: str, **given):
    """What a variant's training gives to `fit`, and the examples' labels in that order, without training."""
    seen = {}

    def fit(model, feed, **settings):
        seen.update(settings, model=model, labels=[labels.numpy() for _, labels in feed])
        seen["again"] = [labels.numpy() for _, labels in feed]
        raise InterruptedError

    config = dataclasses.replace(EXPERIMENT.config(), **given)
    run = Run(variant, 1, sources.Request(train_images=1000), config, tmp_path, bound=EXPERIMENT.bound(variant, config))
    monkeypatch.setattr(keras.Model, "fit", fit)
    with pytest.raises(InterruptedError):
        experiment.train(variant, config, run)
    return SimpleNamespace(**seen, rate=seen["model"].optimizer._learning_rate)


@pytest.mark.parametrize("variant", experiment.VARIANTS)
def test_each_variant_trains_in_its_own_order(monkeypatch, tmp_path, variant):
    monkeypatch.setattr(experiment, "FEW", 900)
    seen = handed_over(monkeypatch, tmp_path, variant)
    labels = np.concatenate(seen.labels)
    long = variant in experiment.LONG
    assert (len(labels), seen.epochs) == ((900, 60) if long else (1000, 6))
    same = np.array_equal(labels, np.concatenate(seen.again))
    assert same == variant.startswith(("frozen", "class_ordered", "order_"))
    assert {len(batch) for batch in seen.labels[:-1]} == {128}
    mixed = abs(np.corrcoef(np.arange(len(labels)), labels)[0, 1])
    kind = variant.partition("_")[0] if long else variant
    expected = {"class_ordered": (0.99, 1), "buffer_tenth": (0.9, 0.999), "buffer_half": (0.25, 0.6)}.get(
        kind, (0, 0.15)
    )
    assert expected[0] <= mixed <= expected[1]
    assert float(seen.rate(0)) == pytest.approx(experiment.VARIANTS[variant].keywords["rate"])
    assert float(seen.rate(len(seen.labels) * seen.epochs)) == pytest.approx(0, abs=1e-9)
    assert float(seen.rate(len(seen.labels) * seen.epochs // 2)) > 0
    assert len(np.concatenate([labels for _, labels in seen.validation_data])) == len(DATA.validation)


def test_long_trainings_have_other_images_at_each_seed():
    some = [set(training.some_of(DATA, 100, seed).train.ids) for seed in (1, 2)]
    assert len(some[0] & some[1]) < 50
    assert experiment.FEW == 1000
    reshuffled = {name: called.keywords["reshuffle"] for name, called in experiment.LONG.items()}
    assert reshuffled == {"shuffled_long": True, "frozen_long": False}
