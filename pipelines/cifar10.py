"""CIFAR-10 as it lies on disk: the bundled subset, or all of it.

The subset (10,000 training and 4,000 test images, balanced) lies beside this file and needs no download. All of
CIFAR-10 is downloaded once, and prepared as tensorflow-datasets' own `cifar10`.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", technical report, 2009.
"""

import errno
import hashlib
import socket
from pathlib import Path

import numpy as np

from pipelines import download
from pipelines.errors import DataError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SUBSET_FOLDER = Path(__file__).parent / "data" / "cifar10_subset" / "1.0.0"
SUMS_NAME = "SHA256SUMS"
# Of the list of sums itself: so that nobody, by accident or not, changes an image together with its sum.
SUMS_DIGEST = "c38b376cef5b167627ebe6786c7a448a1156d4c544bad1246dc683642f0d07f6"
ARCHIVE_HOST = "www.cs.toronto.edu"
ARCHIVE_URL = f"https://{ARCHIVE_HOST}/~kriz/cifar-10-binary.tar.gz"
POOL_IMAGES = {"subset": 10_000, "full": 50_000}  # Training images before the validation part is taken out.


def read(source: str) -> dict[str, np.ndarray]:
    """Decode "subset" or "full": images uint8 (n, 32, 32, 3), labels int32 (n,) and ids of both parts, and classes.

    Raises:
        DataError: a missing, truncated or altered file, or no network to download all of CIFAR-10.
    """
    import tensorflow as tf

    arrays: dict[str, np.ndarray] = {"classes": np.array(CLASS_NAMES)}
    prepared = builder(source)
    for part in ("train", "test"):
        try:
            images, labels, ids = _decode(prepared, part)
        except tf.errors.OpError as error:
            raise DataError(
                f"The prepared CIFAR-10 in {prepared.data_path} is broken ({type(error).__name__}): "
                "delete that folder and run again to prepare it anew."
            ) from error
        arrays |= {f"{part}_images": images, f"{part}_labels": labels, f"{part}_ids": ids}
    return arrays


def builder(source: str):
    """tensorflow-datasets' builder of "subset" or "full", its files checked as far as there are sums of them."""
    import tensorflow_datasets as tfds

    if source == "full":
        return full_builder()
    check_sums(SUBSET_FOLDER)
    return tfds.builder_from_directory(SUBSET_FOLDER)


def check_sums(folder: Path) -> None:
    """Compare every file that `folder`/SHA256SUMS lists with its recorded sum, and that list with its own.

    Raises:
        DataError: a file is missing, or its sum differs.
    """
    restore = "restore it with `git checkout -- pipelines/data`, or build it again with `python -m pipelines.subset`"
    try:
        listed = _bytes_of(folder / SUMS_NAME)
    except OSError as error:
        raise DataError(f"The list of sums in {folder} can't be read ({error.strerror}): {restore}.") from error
    if hashlib.sha256(listed).hexdigest() != SUMS_DIGEST:
        raise DataError(f"The list of sums in {folder} is not as published: {restore}.")
    for line in listed.decode().splitlines():
        digest, name = line.split("  ", 1)
        try:
            found = hashlib.sha256(_bytes_of(folder / name)).hexdigest()
        except OSError as error:
            raise DataError(f"The data file {folder / name} can't be read ({error.strerror}): {restore}.") from error
        if found != digest:
            raise DataError(f"The data file {folder / name} is not as published (its SHA-256 differs): {restore}.")


def _bytes_of(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # Reading a pipe would wait for ever.
        raise OSError(errno.EINVAL, "it is no file; take away what stands there", str(path))
    return path.read_bytes()


def _decode(prepared, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decode PNGs in a parallel map, about twice as fast as tensorflow-datasets' own decoding of batches."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    encoded = prepared.as_dataset(split=part, decoders={"image": tfds.decode.SkipDecoding()})
    decoded = encoded.map(
        lambda example: {**example, "image": tf.io.decode_png(example["image"], channels=3)}, tf.data.AUTOTUNE
    )
    batches = list(decoded.batch(1000).as_numpy_iterator())
    images, labels, ids = (np.concatenate([batch[key] for batch in batches]) for key in ("image", "label", "id"))
    order = np.argsort(ids)  # Whatever order the files are in.
    return images[order], labels[order].astype(np.int32), ids[order].astype(str)


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
        # tensorflow-datasets would wait for ever for a server that falls silent, and begin again at the first byte.
        download.fetch(ARCHIVE_URL, archive, builder.url_infos[ARCHIVE_URL].checksum)
    try:
        builder.download_and_prepare(
            download_dir=downloads, download_config=tfds.download.DownloadConfig(manual_dir=archive.parent)
        )
    except Exception as error:  # A full disk, a wrong checksum, a broken connection: many libraries' exceptions.
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"tensorflow-datasets could not prepare all of CIFAR-10 under {builder._data_dir_root} ({cause}): "
            "mend that and run again; the default, `--data subset`, needs no download."
        ) from error
    return builder
