"""The chain of tf.data: the same images whatever its techniques, in new orders, augmented anew, each technique where it
is said to be."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.experiments import input_pipeline as experiment
from pipelines import encoded, sources
from recipes import input_pipeline as recipe

CHAINS = [name for name in experiment.TECHNIQUES if name != "naive"]


@pytest.fixture(scope="module")
def files():
    return encoded.read(sources.Request()).take(150).apply(tf.data.experimental.assert_cardinality(150))


@pytest.fixture(scope="module")
def plain(files):
    """The images as they are on disk."""
    return np.stack([tf.io.decode_png(image).numpy() for image, _ in files])


@pytest.fixture(scope="module")
def yielded(files):
    """Two epochs of a variant, images and labels each."""

    def of(variant: str) -> list[tuple[np.ndarray, np.ndarray]]:
        feed = experiment.build_feed(variant, files, 64, seed=3)
        epochs = [list(feed.as_numpy_iterator()) for _ in range(2)]
        assert all([len(labels) for _, labels in epoch] == [64, 64, 22] for epoch in epochs)
        return [tuple(np.concatenate(parts) for parts in zip(*epoch, strict=True)) for epoch in epochs]

    return of


@pytest.fixture(scope="module")
def naive(yielded):
    return yielded("naive")


@pytest.mark.parametrize("variant", CHAINS)
def test_all_chains_yield_the_same_images_in_each_epoch(yielded, naive, variant):
    for mine, theirs in zip(yielded(variant), naive, strict=True):
        assert np.array_equal(mine[0], theirs[0])
        assert np.array_equal(mine[1], theirs[1])


@pytest.fixture(scope="module")
def numbered():
    """Images that say which one they are, and whether they were mirrored and brightened."""

    def load(number, label):
        left = tf.fill((4, 2, 3), tf.cast(40 + number, tf.uint8))
        return tf.concat([left, tf.fill((4, 2, 3), tf.constant(200, tf.uint8))], axis=1), label

    return tf.data.Dataset.range(100).map(lambda number: (number, number)), load


@pytest.mark.parametrize("settings", [{}, {"cache": False}, {"batch_first": False}, {"seed": 5}, {"shuffle": 0}])
@pytest.mark.parametrize("fixed", [False, True])
def test_each_epoch_has_another_order_and_another_augmentation(numbered, settings, fixed):
    """Without knowing anything of tf.data's seeds, and under a fixed one."""
    if fixed:
        keras.utils.set_random_seed(1)
    pairs, load = numbered
    feed = recipe.build_feed(pairs, 30, load=load, **settings)
    assert len(feed) == 4
    epochs = []
    for _ in range(3):
        images, labels = (np.concatenate(part) for part in zip(*feed.as_numpy_iterator(), strict=True))
        assert sorted(labels) == list(range(100))
        order, images = labels, images[np.argsort(labels)].astype(int)
        mirrored = images[:, 0, 0, 0] > images[:, 0, 3, 0]
        epochs.append((order, mirrored, images.max(axis=(1, 2, 3)) - 200))
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert (np.mean(epochs[one][0] == epochs[other][0]) < 0.2) == ("shuffle" not in settings)
        assert 0.2 < np.mean(epochs[one][1] == epochs[other][1]) < 0.8
        assert np.mean(epochs[one][2] == epochs[other][2]) < 0.2


def test_validation_comes_in_order_and_as_it_is(files, plain):
    feed = recipe.build_feed(files, 64, load=experiment.decode, augment=None, shuffle=0)
    for _ in range(2):
        images, labels = (np.concatenate(part) for part in zip(*feed.as_numpy_iterator(), strict=True))
        assert np.array_equal(images, plain)
        assert labels.tolist() == [int(label) for _, label in files]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype("uint8")


def test_an_image_is_mirrored_and_brightened_by_what_was_drawn(images):
    numbers = tf.constant([60, 61, 100, 122 + 21, 7, 7], tf.int64)  # Of (2 · 61) each mirrors or not, and brightens.
    made, _ = (np.asarray(x) for x in recipe.augment((images, np.arange(4)), numbers))
    assert np.array_equal(made[0], images[0])
    assert np.array_equal(made[1], images[1][:, ::-1])
    assert np.array_equal(made[2], np.clip(images[2].astype(int) + 20, 0, 255))
    assert np.array_equal(made[3], np.clip(images[3][:, ::-1].astype(int) - 20, 0, 255))
    one, _ = recipe.augment((images[1], 1), numbers[1])
    assert np.array_equal(one, made[1])


def draws(make) -> tuple[float, np.ndarray]:
    """How often images are mirrored, and by how much they are brightened."""
    gray = tf.concat([tf.fill((400, 1, 1, 3), 100), tf.fill((400, 1, 1, 3), 200)], axis=2)
    made = np.asarray(make(tf.cast(gray, tf.uint8)), int)[:, 0, :, 0]
    return (made[:, 0] > made[:, 1]).mean(), made.min(axis=1) - 100


def test_draws_are_of_both_sides_and_of_all_brightnesses():
    numbers = tf.data.Dataset.random(3).take(400).batch(400).get_single_element()
    mirrored, brighter = draws(lambda gray: recipe.augment((gray, numbers), numbers)[0])
    assert 0.4 < mirrored < 0.6
    assert (brighter.min(), brighter.max()) == (-30, 30)
    assert abs(brighter.mean()) < 4


def test_keras_layers_augment_by_as_much():
    mirrored, brighter = draws(lambda gray: experiment.keras_augmentation(1)(gray, training=True))
    assert 0.4 < mirrored < 0.6
    assert -31 <= brighter.min() < -27
    assert 27 < brighter.max() <= 31
    assert abs(brighter.mean()) < 4


def test_keras_augments_in_the_chain_or_in_the_model_and_never_twice(files, plain):
    data = sources.load(sources.Request(train_images=500))
    for variant in ("keras_in_chain", "keras_in_model"):
        feed = experiment.build_feed(variant, files, 150, seed=3)
        images, _ = next(iter(feed))
        is_plain = {image.tobytes() for image in np.asarray(images, "uint8")} == {image.tobytes() for image in plain}
        assert is_plain == (variant == "keras_in_model")
        model = experiment.build_model(variant, data, seed=1)
        kinds = [type(layer).__name__ for layer in model._flatten_layers()]
        assert ("RandomFlip" in kinds) == (variant == "keras_in_model")
    assert model(images[:1], training=False).shape == (1, 10)


def test_only_the_rewritten_feed_is_left_to_tensorflow(files):
    for variant in experiment.VARIANTS:
        feed = experiment.build_feed(variant, files, 64, seed=3)
        default = feed.options().experimental_optimization.apply_default_optimizations
        assert (default is None) == (variant == "rewritten")


def test_a_ready_batch_is_always_the_same_one(files, plain):
    feed = experiment.build_feed("ready", files, 64, seed=3)
    for images, _ in feed.take(3):
        assert np.array_equal(images, plain[:64])


@pytest.mark.parametrize("variant", experiment.TECHNIQUES)
def test_a_chain_has_the_techniques_that_its_name_says(monkeypatch, files, variant):
    found, prefetched = [], []
    data_set = tf.data.Dataset
    first_map, first_cache, first_prefetch = data_set.map, data_set.cache, data_set.prefetch

    def spy_map(self, function, num_parallel_calls=None, **rest):
        if function is recipe.augment:
            found.append("batch_first" if self.element_spec[0][0].shape.rank == 4 else "single")
        found.append("parallel" if num_parallel_calls else "serial")
        return first_map(self, function, num_parallel_calls, **rest)

    def spy_cache(self, *arguments):
        found.append("cache")
        return first_cache(self, *arguments)

    def spy_prefetch(self, size):
        made = first_prefetch(self, size)
        prefetched.append(made)
        return made

    monkeypatch.setattr(data_set, "map", spy_map)
    monkeypatch.setattr(data_set, "cache", spy_cache)
    monkeypatch.setattr(data_set, "prefetch", spy_prefetch)
    feed = recipe.build_feed(
        files, 64, load=experiment.decode, **{name: name in experiment.TECHNIQUES[variant] for name in experiment.ALL}
    )
    expected = set(experiment.TECHNIQUES[variant])
    assert ("parallel" in found) == ("parallel" in expected)
    assert ("serial" in found) == ("parallel" not in expected)
    assert ("cache" in found) == ("cache" in expected)
    assert ("batch_first" in found) == ("batch_first" in expected)
    assert ("single" in found) == ("batch_first" not in expected)
    assert [made is feed for made in prefetched] == [True] * ("prefetch" in expected)  # At the end of the chain.


def test_a_folder_of_images_becomes_a_feed(tmp_path):
    for name, color in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = np.full((20, 30 + number, 3), color, np.uint8)
            tf.io.write_file(str(tmp_path / name / f"{number}.png"), tf.io.encode_png(pixels))
    (tmp_path / "notes.txt").write_text("no image")
    files, classes = recipe.list_files(tmp_path)
    assert classes == ["blue", "red"]
    feed = recipe.build_feed(files, 4, augment=None)
    assert feed.element_spec[0].dtype == tf.uint8
    images, labels = (np.concatenate(part) for part in zip(*feed.as_numpy_iterator(), strict=True))
    assert images.shape == (6, 32, 32, 3)
    assert sorted(labels) == [0, 0, 0, 1, 1, 1]
    assert (images[labels == 1] == (255, 0, 0)).all()
    assert (images[labels == 0] == (0, 0, 255)).all()


def test_files_sorted_by_class_are_mixed_and_what_is_no_image_is_no_class(tmp_path):
    """Else a buffer smaller than the set would train nearly in the order of the classes."""
    for name in ("a", "b", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
        for number in range(200):
            (tmp_path / name / f"{number:03}.png").touch()
    (tmp_path / "a" / ".DS_Store").touch()
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "notes.txt").touch()
    files, classes = recipe.list_files(tmp_path)
    assert classes == ["a", "b"]
    labels = [int(label) for _, label in files]
    assert len(labels) == 400
    assert 80 < sum(labels[:200]) < 120
    assert [path for path, _ in files.as_numpy_iterator()] == [
        path for path, _ in recipe.list_files(tmp_path)[0].as_numpy_iterator()
    ]


def test_a_model_learns_from_the_chain(files):
    keras.utils.set_random_seed(1)
    feed = recipe.build_feed(files, 30, load=experiment.decode)
    validation = recipe.build_feed(files, 30, load=experiment.decode, augment=None, shuffle=0)
    model = recipe.train(feed, validation, 10, rate=0.01, epochs=25)
    assert model.evaluate(validation, verbose=0, return_dict=True)["accuracy"] > 0.3


def test_waiting_is_the_time_until_the_batch_is_there():
    class Slow:
        def repeat(self):
            while True:
                time.sleep(0.02)
                yield (1,)

    step = experiment.Step(Slow(), lambda batch: time.sleep(0.01))
    for _ in range(5):
        step()
    assert 0.5 < step.waiting(3) < 0.8
    step.waited[:2] = step.taken[:2] = [1000.0, 1000.0]  # Of steps that are not counted.
    assert step.waiting(3) < 0.8


def test_the_number_of_the_source_is_a_speed():
    claim = next(claim for claim in experiment.CLAIMS if claim.id == "S4c")
    assert np.exp(-claim.at_least) == pytest.approx(0.74, abs=0.001)
