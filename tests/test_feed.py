"""The training feed: what augmentation changes and keeps, and that it repeats with its seed."""

import itertools

import numpy as np
import pytest

from pipelines import batches, sources
from pipelines.errors import RequestError
from pipelines.sources import Request, Split


@pytest.fixture(scope="module")
def split():
    return sources.load(Request(train_images=1000)).train


def epoch(feed):
    """Images and labels of one epoch, one behind another."""
    images, labels = zip(*feed.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.fixture(scope="module")
def numbered():
    """Images that say which one they are: every pixel of image i is i, but for a left edge of 255."""
    images = np.repeat(np.arange(100, dtype=np.uint8), 32 * 32 * 3).reshape(100, 32, 32, 3).copy()
    images[:, :, :8] = 255
    return Split(images, np.arange(100, dtype=np.int32), np.array([str(i) for i in range(100)]))


def test_an_epoch_holds_every_image_once_in_whole_batches(split):
    feed = batches.training(split, 100, seed=1, augment=False)
    images, labels = epoch(feed)
    assert len(feed) == 10
    assert sorted(map(bytes, images)) == sorted(map(bytes, split.images))
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    assert len(batches.training(split, 128, seed=1)) == 7


def test_epochs_are_in_new_orders_and_repeat_with_the_seed(split):
    feed, again, other = (batches.training(split, 100, seed=seed) for seed in (1, 1, 2))
    mine = [epoch(feed) for _ in range(3)]
    theirs = [epoch(again) for _ in range(3)]
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(mine, theirs, strict=True))
    assert (mine[0][1] != mine[1][1]).any()
    assert (mine[0][1] != epoch(other)[1]).any()


def test_the_order_does_not_hang_on_the_global_seed(split):
    import keras

    keras.utils.set_random_seed(5)
    a = epoch(batches.training(split, 100, seed=1))
    keras.utils.set_random_seed(6)
    b = epoch(batches.training(split, 100, seed=1))
    assert (a[0] == b[0]).all()


def test_augmentation_keeps_labels(numbered):
    images, labels = epoch(batches.training(numbered, 50, seed=1))
    middles = images[:, 16, 16, 0]
    assert (middles == labels).all()
    assert sorted(labels) == list(range(100))


def test_augmentation_differs_between_images_and_epochs(numbered):
    feed = batches.training(numbered, 100, seed=1)
    first, second = ({label: image for image, label in zip(*epoch(feed), strict=True)} for _ in range(2))

    def edge(image):  # Where the mark of 255 lies, at which side: it tells the shift and the flip.
        return tuple(np.flatnonzero(image[16, :, 0] == 255))

    assert len({edge(image) for image in first.values()}) == 10  # 5 shifts × 2 sides, all of them met.
    assert sum(edge(first[i]) != edge(second[i]) for i in range(100)) > 50
    # Nor are it the same draws for other images: each epoch has draws of its own.
    assert sorted(map(edge, first.values())) != sorted(map(edge, second.values()))


def test_every_crop_is_the_image_shifted_with_its_border_mirrored(split):
    feed = batches.training(Split(split.images[:10], np.arange(10, dtype=np.int32), split.ids[:10]), 10, seed=3)
    for _ in range(5):
        for image, label in zip(*epoch(feed), strict=True):
            original = split.images[label]
            candidates = [
                np.pad(side, ((2, 2), (2, 2), (0, 0)), mode="reflect")[y : y + 32, x : x + 32]
                for side in (original, original[:, ::-1])
                for y in range(5)
                for x in range(5)
            ]
            assert sum((image == candidate).all() for candidate in candidates) == 1


def test_the_order_of_images_is_new_in_each_epoch(split):
    """The order itself is read: an augmentation that varies would hide one that does not."""
    ids = Split(split.images, np.arange(len(split), dtype=np.int32), split.ids)
    feed = batches.training(ids, 100, seed=1)
    orders = [epoch(feed)[1].tolist() for _ in range(3)]
    assert all(sorted(order) == list(range(1000)) for order in orders)
    firsts = [set(order[:100]) for order in orders]
    assert all(len(a & b) < 40 for a, b in itertools.combinations(firsts, 2))  # 10 are expected, 100 if it is frozen.


def test_examples_that_fill_no_batch_are_others_each_epoch(split):
    ids = Split(split.images, np.arange(len(split), dtype=np.int32), split.ids)
    feed = batches.training(ids, 600, seed=1)
    assert set(epoch(feed)[1].tolist()) != set(epoch(feed)[1].tolist())


def test_images_on_disk_are_fed_and_evaluated_as_those_in_memory(split):
    on_disk = Split(sources.OnDisk(split.images), split.labels, split.ids)
    for augment in (True, False):
        feeds = [batches.training(part, 64, seed=3, augment=augment) for part in (split, on_disk)]
        for _ in range(2):
            for a, b in zip(*map(epoch, feeds), strict=True):
                assert np.array_equal(a, b)
    some = np.arange(5, 250, 7)
    for a, b in zip(*(epoch(batches.evaluation(part.take(some), 10)) for part in (split, on_disk)), strict=True):
        assert np.array_equal(a, b)


def test_evaluation_gives_all_images_in_order(split):
    images, labels = epoch(batches.evaluation(split, 300))
    assert (images == split.images).all()
    assert (labels == split.labels).all()


@pytest.mark.parametrize("batch_size", [0, -1, 1001])
def test_a_batch_that_cannot_be_filled(split, batch_size):
    with pytest.raises(RequestError, match=r"use 1 to 1,000\."):
        batches.training(split, batch_size, seed=1)
