"""The bundled subset, its splits, and bad input."""

import hashlib
import shutil
import time

import numpy as np
import pytest

from pipelines import cifar10
from pipelines.cifar10 import Request
from pipelines.errors import DataError, RequestError


@pytest.fixture(scope="module")
def data():
    return cifar10.load()


def test_sizes_balance_and_types(data):
    for part, per_class in ((data.train, 800), (data.validation, 200), (data.test, 400)):
        assert part.images.shape == (10 * per_class, 32, 32, 3)
        assert part.images.dtype == np.uint8
        assert part.labels.dtype == np.int32
        assert (np.bincount(part.labels) == per_class).all()


def test_parts_are_disjoint(data):
    ids = [set(part.ids) for part in (data.train, data.validation, data.test)]
    assert len(set.union(*ids)) == sum(map(len, ids)) == 14_000
    pictures = [{hashlib.sha256(image).digest() for image in part.images} for part in (data.train, data.test)]
    assert not pictures[0] & pictures[1]


def test_the_split_is_the_same_on_every_machine(data):
    """Digests of the ids, recorded: a version or platform that splits otherwise would make evidence incomparable."""
    digests = [hashlib.sha256(" ".join(part.ids).encode()).hexdigest()[:12] for part in (data.train, data.validation)]
    assert digests == DIGESTS
    other = cifar10.load(Request(split_seed=1))
    assert set(other.validation.ids) != set(data.validation.ids)


DIGESTS = ["d0d22bedf2d9", "1cd0c5bffe51"]


def test_smaller_training_parts_nest_and_leave_the_rest_alone(data):
    small, smaller = (cifar10.load(Request(train_images=n)) for n in (2000, 1000))
    assert set(smaller.train.ids) < set(small.train.ids) < set(data.train.ids)
    assert (np.bincount(small.train.labels) == 200).all()
    assert (small.validation.ids == data.validation.ids).all()
    assert (small.test.ids == data.test.ids).all()


def test_standardization_comes_from_the_training_part_alone():
    small = cifar10.load(Request(train_images=1000))
    pixels = small.train.images.reshape(-1, 3).astype(np.float64)
    assert small.mean == pytest.approx(pixels.mean(axis=0), rel=1e-6)
    assert small.std == pytest.approx(pixels.std(axis=0), rel=1e-6)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (Request(train_images=8010), "8,010 training images can't be had from 'subset': ask for a multiple of 10"),
        (Request(train_images=15), "15 training images"),
        (Request(train_images=0), "0 training images"),
        (Request("imagenet"), "There is no data source 'imagenet': use 'subset' or 'full'."),  # type: ignore[arg-type]
    ],
)
def test_impossible_requests(request_, sentence):
    with pytest.raises(RequestError, match="^" + sentence):
        cifar10.load(request_)


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The subset in a folder of the test's own, and nothing of it in memory."""
    folder = tmp_path / "subset"
    shutil.copytree(cifar10.SUBSET_FOLDER, folder)
    monkeypatch.setattr(cifar10, "SUBSET_FOLDER", folder)
    cifar10._load.cache_clear()
    yield folder
    cifar10._load.cache_clear()


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.unlink(), "can't be read (No such file or directory): restore it"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is not as published"),
        (flip_a_byte, "is not as published"),
        (lambda path: path.write_bytes(b""), "is not as published"),
        (lambda path: (path.parent / "SHA256SUMS").unlink(), "The list of sums"),
        (lambda path: (path.parent / "SHA256SUMS").write_text("nonsense"), "The list of sums"),
        (
            lambda path: (path.parent / "SHA256SUMS").write_text(f"{'0' * 64}  {path.name}\n"),
            "is not as published (its SHA-256 differs)",
        ),
    ],
    ids=["missing", "truncated", "one byte flipped", "empty", "no sums", "broken sums", "wrong sum"],
)
def test_damaged_data_is_noticed_at_every_load(copy, damage, sentence):
    cifar10.load()
    damage(copy / "cifar10_subset-test.tfrecord-00000-of-00001")
    for check in (lambda: cifar10.load(), lambda: cifar10.verify(Request())):
        with pytest.raises(DataError) as error:
            check()
        assert sentence in str(error.value)
        assert "pipelines.subset" in str(error.value)


def test_full_without_network_fails_at_once_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "ARCHIVE_HOST", "host.invalid")  # A name that never resolves, by standard.
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(DataError) as error:
        cifar10.verify(Request("full"))
    assert time.monotonic() - start < 60  # Not a benchmark: tensorflow-datasets' own retries last for minutes.
    for part in ("cifar-10-binary.tar.gz", "download", "put it at", "--data subset"):
        assert part in str(error.value)


def test_a_broken_archive_in_its_place_gets_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path))
    manual = tmp_path / "downloads" / "manual"
    manual.mkdir(parents=True)
    (manual / "cifar-10-binary.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="could not prepare all of CIFAR-10"):
        cifar10.verify(Request("full"))
