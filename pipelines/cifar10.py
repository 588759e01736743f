"""CIFAR-10 as train, validation and test arrays: the bundled subset, or all of it.

The subset (10,000 training and 4,000 test images, balanced) lies beside this file and needs no download. All of
CIFAR-10 comes from tensorflow-datasets' own `cifar10`, downloaded once by tensorflow-datasets.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", technical report, 2009.
"""

import functools
import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import tensorflow as tf

from pipelines.errors import DataError, RequestError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SUBSET_FOLDER = Path(__file__).parent / "data" / "cifar10_subset" / "1.0.0"
SUMS_NAME = "SHA256SUMS"
ARCHIVE_HOST = "www.cs.toronto.edu"
ARCHIVE_URL = f"https://{ARCHIVE_HOST}/~kriz/cifar-10-binary.tar.gz"

Source = Literal["subset", "full"]
# Training images before the validation part is taken out, and the share that it takes.
POOL_IMAGES = {"subset": 10_000, "full": 50_000}
VALIDATION_SHARE = {"subset": 0.2, "full": 0.1}


@dataclass(frozen=True)
class Request:
    """Which images: `train_images` None means all there are; validation and test parts are always whole."""

    source: Source = "subset"
    train_images: int | None = None
    split_seed: int = 0


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 (n, 32, 32, 3) in [0, 255], labels int32 (n,) in [0, 10), and tensorflow-datasets' ids str (n,)."""

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: np.ndarray) -> "Split":
        """The examples at `index`, an integer array (m,)."""
        return Split(self.images[index], self.labels[index], self.ids[index])


@dataclass(frozen=True)
class Data:
    """The three parts, and per-channel mean and standard deviation, float32 (3,), of the training part alone."""

    train: Split
    validation: Split
    test: Split
    mean: np.ndarray
    std: np.ndarray


def load(request: Request | None = None) -> Data:
    """Read, check, split and standardize CIFAR-10; the same arrays on every machine for the same request.

    The validation part is stratified and disjoint from the training part. Within a class, images are ordered by the
    SHA-256 of split seed and id, so a smaller training part is contained in every larger one with the same seed.

    Raises:
        RequestError: an unknown source, or more training images than there are.
        DataError: a missing, truncated or altered file, or no network to download all of CIFAR-10.
    """
    request = request or Request()
    check_request(request)
    data = _load(request)
    if request.source == "subset":  # The arrays of an earlier call may be reused, the files are looked at every time.
        check_sums(SUBSET_FOLDER)
    return data


@functools.lru_cache(maxsize=2)
def _load(request: Request) -> Data:
    pool, test = _read(request.source)
    train, validation = _split(pool, VALIDATION_SHARE[request.source], request.split_seed)
    if request.train_images is not None:
        per_class = request.train_images // len(CLASS_NAMES)
        rank = _rank_in_class(train, request.split_seed)
        train = train.take(np.flatnonzero(rank < per_class))
    mean = train.images.mean(axis=(0, 1, 2), dtype=np.float64)
    std = train.images.std(axis=(0, 1, 2), dtype=np.float64)
    return Data(train, validation, test, mean.astype(np.float32), std.astype(np.float32))


def check_request(request: Request) -> None:
    """Raise RequestError where `request` asks for what does not exist; reads no file."""
    if request.source not in get_args(Source):
        known = " or ".join(repr(source) for source in get_args(Source))
        raise RequestError(f"There is no data source {request.source!r}: use {known}.")
    classes = len(CLASS_NAMES)
    most = round(POOL_IMAGES[request.source] * (1 - VALIDATION_SHARE[request.source]))
    wanted = request.train_images
    if wanted is not None and not (0 < wanted <= most and wanted % classes == 0):
        raise RequestError(
            f"{wanted:,} training images can't be had from {request.source!r}: ask for a multiple of {classes} "
            f"from {classes} to {most:,}."
        )


def verify(request: Request) -> None:
    """Raise DataError or RequestError at once where `load` would, without decoding an image.

    For the full data set this downloads and prepares it, if that has not been done yet.
    """
    check_request(request)
    if request.source == "subset":
        check_sums(SUBSET_FOLDER)
    else:
        full_builder()


def check_sums(folder: Path) -> None:
    """Compare every file that `folder`/SHA256SUMS lists with its recorded sum.

    Raises:
        DataError: a file is missing, or its sum differs.
    """
    restore = "restore it with `git checkout -- pipelines/data`, or build it again with `python -m pipelines.subset`"
    try:
        lines = (folder / SUMS_NAME).read_text(encoding="utf-8").splitlines()
        sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise DataError(f"The list of sums {folder / SUMS_NAME} can't be read ({error}): {restore}.") from error
    for name, digest in sums.items():
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise DataError(f"The data file {folder / name} can't be read ({error.strerror}): {restore}.") from error
        if found != digest:
            raise DataError(f"The data file {folder / name} is not as published (its SHA-256 differs): {restore}.")


def _read(source: Source) -> tuple[Split, Split]:
    import tensorflow_datasets as tfds

    if source == "subset":
        check_sums(SUBSET_FOLDER)
        builder = tfds.builder_from_directory(SUBSET_FOLDER)
    else:
        builder = full_builder()
    try:
        return _decode(builder, "train"), _decode(builder, "test")
    except tf.errors.OpError as error:
        raise DataError(
            f"The prepared CIFAR-10 in {builder.data_path} is broken ({type(error).__name__}): "
            "delete that folder and run again to prepare it anew."
        ) from error


def _decode(builder, part: str) -> Split:
    """Decode PNGs in a parallel map, about twice as fast as tensorflow-datasets' own decoding of batches."""
    import tensorflow_datasets as tfds

    encoded = builder.as_dataset(split=part, decoders={"image": tfds.decode.SkipDecoding()})
    decoded = encoded.map(
        lambda example: {**example, "image": tf.io.decode_png(example["image"], channels=3)}, tf.data.AUTOTUNE
    )
    batches = list(decoded.batch(1000).as_numpy_iterator())
    images, labels, ids = (np.concatenate([batch[key] for batch in batches]) for key in ("image", "label", "id"))
    order = np.argsort(ids)  # Whatever order the files are in.
    return Split(images[order], labels[order].astype(np.int32), ids[order].astype(str))


def full_builder():
    """tensorflow-datasets' own `cifar10`, prepared; fails within seconds where it can't be downloaded."""
    import tensorflow_datasets as tfds

    builder = tfds.builder("cifar10")
    if builder.is_prepared():
        return builder
    downloads = Path(builder._data_dir_root).expanduser() / "downloads"
    archive = downloads / "manual" / ARCHIVE_URL.rsplit("/", 1)[1]
    if not archive.exists():
        try:  # tensorflow-datasets itself would try for minutes before it says that there is no network.
            socket.create_connection((ARCHIVE_HOST, 443), timeout=5).close()
        except OSError as error:
            raise DataError(
                f"All of CIFAR-10 is not on this machine and {ARCHIVE_HOST} can't be reached: download {ARCHIVE_URL} "
                f"elsewhere and put it at {archive}; the default, `--data subset`, needs no download."
            ) from error
    try:
        builder.download_and_prepare(
            download_dir=downloads,
            download_config=tfds.download.DownloadConfig(manual_dir=archive.parent if archive.exists() else None),
        )
    except Exception as error:  # A full disk, a wrong checksum, a broken connection: many libraries' exceptions.
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"tensorflow-datasets could not prepare all of CIFAR-10 under {builder._data_dir_root} ({cause}): "
            "mend that and run again; the default, `--data subset`, needs no download."
        ) from error
    return builder


def rank_by_hash(seed: int, ids: np.ndarray) -> np.ndarray:
    """The positions of `ids`, str (n,), when sorted by the SHA-256 of "seed/id": a shuffle that no version changes."""
    digests = [hashlib.sha256(f"{seed}/{name}".encode()).hexdigest() for name in ids]
    rank = np.empty(len(digests), dtype=np.int64)
    rank[np.argsort(digests)] = np.arange(len(digests))
    return rank


def _rank_in_class(split: Split, seed: int) -> np.ndarray:
    overall = rank_by_hash(seed, split.ids)
    rank = np.empty(len(split), dtype=np.int64)
    for label in range(len(CLASS_NAMES)):
        members = np.flatnonzero(split.labels == label)
        rank[members[np.argsort(overall[members])]] = np.arange(len(members))
    return rank


def _split(pool: Split, share: float, seed: int) -> tuple[Split, Split]:
    rank = _rank_in_class(pool, seed)
    per_class = np.bincount(pool.labels, minlength=len(CLASS_NAMES))
    held_out = np.round(share * per_class).astype(np.int64)[pool.labels]
    # The validation part is the last of each class, so that training parts of any size nest from the front.
    validation = rank >= per_class[pool.labels] - held_out
    return pool.take(np.flatnonzero(~validation)), pool.take(np.flatnonzero(validation))
