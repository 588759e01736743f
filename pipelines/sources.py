"""Images as train, validation and test arrays, wherever they come from, and how they are split.

`load(Request("folder:photos"))` gives them from any of these:

subset        the bundled part of CIFAR-10: 10,000 training and 4,000 test images; nothing is downloaded
full          all of CIFAR-10, downloaded once by tensorflow-datasets
folder:PATH   images of your own, a folder for each class
csv:FILE      images of your own, in a table of paths and labels
tfds:NAME     any image classification set of tensorflow-datasets, also as NAME/CONFIG:VERSION

What was decoded once is kept (`image_cache`), so that the next process has it at once. A set too large for memory
stays there, and is read from it batch by batch.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipelines import (
    accounts,
    cifar10,
    decoding,
    folders,
    image_cache,
    listed,
    remarks,
    source_names,
    splits,
    tables,
    tfds_source,
)
from pipelines.errors import RequestError
from pipelines.names import name_of

PARTS = ("train", "validation", "test")
IMAGE_SIZE = 32  # Where nothing else is said.
SIZES = range(8, 513)
VALIDATION_SHARE = {"full": 0.1}
OTHER_SHARE = 0.2  # Of the training images go to validation, and to testing where there is no test part.
IN_MEMORY = 2**28  # Bytes of images. Past that they are read from the disk as they are needed.


@dataclass(frozen=True)
class Request:
    """Which images: `train_images` None means all there are; validation and test parts are always whole.

    `split_seed` decides which images are for validation and which for training. None means that each seed of a recipe
    has a split of its own; `load` takes it for 0. `image_size` is the height and width that images of other sources
    than CIFAR-10 are resized to; None means 32. `skip_bad` leaves out files that can't be used.
    """

    source: str = "subset"
    train_images: int | None = None
    split_seed: int | None = None
    image_size: int | None = None
    skip_bad: bool = False

    @property
    def is_cifar10(self) -> bool:
        """Whether it is of the images that recipes are tuned on."""
        return self.source in source_names.BUNDLED


class OnDisk:
    """Images uint8 (n, height, width, 3) that stay in a file until they are asked for by an index array."""

    def __init__(self, rows: np.ndarray, index: np.ndarray | None = None) -> None:
        self.rows = rows
        self.index = np.arange(len(rows)) if index is None else index
        self.shape = (len(self.index), *rows.shape[1:])
        self.dtype = rows.dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, which: Any) -> np.ndarray:
        return np.asarray(self.rows[self.index[which]])

    def among(self, which: np.ndarray) -> "OnDisk":
        """The images at `which`, still on disk."""
        return OnDisk(self.rows, self.index[which])


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 (n, height, width, 3) in [0, 255], labels int32 (n,) counted from 0, and ids str (n,)."""

    images: Any  # A numpy array, or `OnDisk`, which is indexed alike.
    labels: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> "Split":
        """The examples at `index`, an integer array (m,)."""
        images = self.images.among(index) if isinstance(self.images, OnDisk) else self.images[index]
        return Split(images, self.labels[index], self.ids[index])

    def chunks(self, size: int = 1000) -> Iterator[np.ndarray]:
        """The images in order, uint8 (≤ size, height, width, 3)."""
        for start in range(0, len(self), size):
            yield self.images[start : start + size]


@dataclass(frozen=True, eq=False)
class Data:
    """The three parts and the names of the classes, in the order of their labels."""

    train: Split
    validation: Split
    _test: Any  # The test part, and from then on a function that returns it.
    classes: tuple[str, ...]
    digest: str  # Of all images and labels before they were split.
    report: str = ""  # What was read of images other than CIFAR-10, what was left out, and how it was divided.
    remarks: tuple[str, ...] = ()  # What makes numbers on them mislead. Only `verify` looks.
    mirrored: str = ""  # Which of their classes look like one another when they are mirrored.

    @property
    def test(self) -> Split:
        """The test part. While a recipe trains it is closed: `run.scores` reads it, once, after the last epoch.

        Raises:
            RuntimeError: a recipe asked for it.
        """
        found: Split = self._test()
        return found

    def __post_init__(self) -> None:
        part = self._test

        def read() -> Split:
            if _closed and _closed[-1]:
                raise RuntimeError("the test set is read by `run.scores` alone, after the last epoch")
            return part

        if isinstance(part, Split):  # So that no attribute leads past the check.
            object.__setattr__(self, "_test", read)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return tuple(self.train.images.shape[1:])


_closed: list[bool] = []  # The innermost of the contexts below that this process is in comes last.


@contextmanager
def test_set(closed: bool) -> Iterator[None]:
    """While a run is under way `Data.test` is closed, and within that open again for `run.open_test_set`."""
    _closed.append(closed)
    try:
        yield
    finally:
        _closed.pop()


def load(request: Request | None = None) -> Data:
    """Read, check and split images; the same arrays on every machine for the same request.

    A validation part is stratified and disjoint from the training part. Within a class, images are ordered by the
    SHA-256 of split seed and id, so a smaller training part is contained in every larger one with the same seed.

    Raises:
        RequestError: an unknown source, a folder or file that will not do, or more training images than there are.
        DataError: a missing, truncated or altered file, or no network to download from.
    """
    request = request or Request()
    check_request(request)
    if request.source == "subset":  # The arrays of an earlier call may be reused, the files are looked at every time.
        cifar10.check_sums(cifar10.SUBSET_FOLDER)
    return _load(request)


def check_request(request: Request) -> None:
    """Raise RequestError where `request` asks for what can't be; reads no image."""
    source_names.check(request.source)
    if request.image_size is not None and request.is_cifar10:
        raise RequestError(f"Images of {request.source!r} are 32 × 32: leave the image size out.")
    if request.skip_bad and request.is_cifar10:
        raise RequestError(f"Images of {request.source!r} are whole: leave --skip-bad out.")
    if request.image_size is not None and request.image_size not in SIZES:
        raise RequestError(f"The image size must be from {SIZES[0]} to {SIZES[-1]} pixels, not {request.image_size}.")
    if request.is_cifar10:
        most = round(cifar10.POOL_IMAGES[request.source] * (1 - _validation_share(request)))
        _check_train_images(request, most, len(cifar10.CLASS_NAMES))


def verify(request: Request) -> Data:
    """Load after one thorough look at the files and at what is kept, and print what the user should know of them.

    Raises:
        DataError, RequestError: as `load`.
    """
    cifar10.whole.clear()
    _decoded.cache_clear()
    _load.cache_clear()
    data = load(request)
    if not request.is_cifar10:
        found = _remarks(request, data.digest)
        warned = [f"Careful: {remark}" for remark in found.warnings]
        report = "\n".join([data.report, *found.notes, *warned])
        data = replace(data, report=report, remarks=found.warnings, mirrored=found.mirrored)
        say_once(report)
    return data


@functools.cache
def say_once(report: str) -> None:
    """Print a report; several recipes of one command may ask for the same images."""
    print(report, end="\n\n", flush=True)


@functools.lru_cache(maxsize=1)
def _remarks(request: Request, digest: str) -> remarks.Remarks:
    given, _ = _decoded(request.source, request.image_size or IMAGE_SIZE, request.skip_bad)
    varying: set[str] = set()
    if request.split_seed is None and "validation_images" not in given:
        varying |= {"training", "validation"}
    if request.split_seed is None and request.train_images is not None:
        varying |= set(remarks.PARTS)
    return remarks.of(load(request), varying)


@functools.lru_cache(maxsize=2)
def _load(request: Request) -> Data:
    size = request.image_size or IMAGE_SIZE
    found, digest = _decoded(request.source, size, request.skip_bad)
    split_seed = request.split_seed or 0
    given = {part: _split_of(found, part) for part in PARTS if f"{part}_images" in found}
    parts = dict(given)
    classes = tuple(str(name) for name in found["classes"])
    train = parts["train"]
    if "test" not in parts:
        train, parts["test"] = splits.split(train, OTHER_SHARE, 0)  # The same one whatever the split of the others.
    if "validation" not in parts:
        train, parts["validation"] = splits.split(train, _validation_share(request), split_seed)
    _check_parts(request, {**parts, "train": train}, classes, given)
    available = len(train)
    if request.train_images is not None:
        of_the_rarest = int(np.bincount(train.labels, minlength=len(classes)).min())
        _check_train_images(request, of_the_rarest * len(classes), len(classes))
        train = train.take(splits.first_of_each_class(train, request.train_images, len(classes), split_seed))
    parts["train"], report = train, ""
    if not request.is_cifar10:
        made = [part for part in PARTS if part not in given]
        notes = [str(note) for note in found.get("notes", ())]
        notes += accounts.on_the_split(made, request.split_seed, len(train), available)
        report = accounts.report(
            name_of(request.source), size, classes, {part: parts[part].labels for part in PARTS}, notes
        )
    return Data(train, parts["validation"], parts["test"], classes, digest, report)


@functools.lru_cache(maxsize=1)
def _decoded(source: str, size: int, skip_bad: bool) -> tuple[image_cache.Arrays, str]:
    """Arrays by name, such as "train_images", "test_labels" and "classes", and a hash of them, whatever the split."""
    kind, _, rest = source.partition(":")
    made_by = f"{kind} {decoding.VERSION} {size}"
    if kind in ("folder", "csv"):
        path = source_names.path_of(source)
        files = folders.listing(path) if kind == "folder" else tables.listing(path, skip_bad)
        arrays, digest = image_cache.get(f"{made_by} {listed.fingerprint(files)}", lambda: listed.read(files, size))
        return listed.settle(files, arrays, skip_bad), digest
    if kind == "tfds":
        key = f"{made_by} {tfds_source.fingerprint(rest)}"
        arrays, digest = image_cache.get(key, lambda: tfds_source.read(rest, size))
        return decoding.settle(arrays, repr(rest), skip_bad), digest
    version = cifar10.SUMS_DIGEST if source == "subset" else cifar10.full_builder().info.full_name
    return image_cache.get(f"{source} {version}", lambda: cifar10.read(source))


def _split_of(found: dict[str, np.ndarray], part: str) -> Split:
    images, labels, ids = (found[f"{part}_{name}"] for name in ("images", "labels", "ids"))
    large = sum(array.nbytes for array in found.values()) > IN_MEMORY
    return Split(OnDisk(images) if large else np.asarray(images), np.asarray(labels), np.asarray(ids))


def _validation_share(request: Request) -> float:
    return VALIDATION_SHARE.get(request.source, OTHER_SHARE)


def _check_train_images(request: Request, most: int, classes: int) -> None:
    wanted = request.train_images
    if wanted is not None and not (0 < wanted <= most and wanted % classes == 0):
        raise RequestError(
            f"{wanted:,} training images can't be had from {request.source!r}: ask for a multiple of {classes} "
            f"from {classes} to {most - most % classes:,}."
        )


def _check_parts(request: Request, parts: dict[str, Split], classes: tuple[str, ...], given: dict[str, Split]) -> None:
    """Raise RequestError where a part lacks a class; `given` are the parts before they were split."""
    if len(classes) < 2:
        raise RequestError(f"All images of {request.source!r} are of one class, {classes[0]!r}: two are needed.")
    for part, split_ in parts.items():
        missing = np.flatnonzero(np.bincount(split_.labels, minlength=len(classes)) == 0)
        if len(missing):
            name = classes[missing[0]]
            counts = ", ".join(f"{np.sum(of.labels == missing[0])} in {part_}" for part_, of in given.items())
            divided = "five are needed of a class that is divided"
            raise RequestError(
                f"{request.source!r} has too few images of the class {name!r} ({counts}): none is left for the {part} "
                f"part. {'Put some there, or take the class out' if part in given else f'Add some: {divided}'}."
            )
