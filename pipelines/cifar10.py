"""CIFAR-10 as it lies on disk: the bundled subset, or all of it.

The subset (10,000 training and 4,000 test images, balanced) lies beside this file and needs no download. All of
CIFAR-10 is downloaded once, and prepared as tensorflow-datasets' own `cifar10`.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", technical report, 2009.
"""

import hashlib
from pathlib import Path

import numpy as np

from pipelines import tfds_source
from pipelines.errors import DataError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SUBSET_FOLDER = Path(__file__).parent / "data" / "cifar10_subset" / "1.0.0"
SUMS_NAME = "SHA256SUMS"
# Of the list of sums itself: so that nobody, by accident or not, changes an image together with its sum.
SUMS_DIGEST = "c38b376cef5b167627ebe6786c7a448a1156d4c544bad1246dc683642f0d07f6"
POOL_IMAGES = {"subset": 10_000, "full": 50_000}  # Training images before the validation part is taken out.


def read(source: str) -> dict[str, np.ndarray]:
    """Decode "subset" or "full": images uint8 (n, 32, 32, 3), labels int32 (n,) and ids of both parts, and classes.

    Raises:
        DataError: a missing, truncated or altered file, or no network to download all of CIFAR-10.
    """
    arrays: dict[str, np.ndarray] = {"classes": np.array(CLASS_NAMES)}
    prepared = builder(source)
    for part in ("train", "test"):
        images, labels, ids = tfds_source.decode(prepared, part, 32, "label", "id")
        order = np.argsort(ids)  # Whatever order the files are in.
        arrays[f"{part}_images"] = images[order]
        arrays[f"{part}_labels"] = labels[order].astype(np.int32)
        arrays[f"{part}_ids"] = ids[order].astype(str)
    return arrays


def builder(source: str):
    """tensorflow-datasets' builder of "subset" or "full", its files checked as far as there are sums of them."""
    import tensorflow_datasets as tfds

    if source == "full":
        return full_builder()
    check_sums(SUBSET_FOLDER)
    return tfds.builder_from_directory(SUBSET_FOLDER)


whole: dict[str, int] = {}  # The files that were as published when they were looked at, and their time of change.


def check_sums(folder: Path) -> None:
    """Compare every file that `folder`/SHA256SUMS lists with its recorded sum, and that list with its own.

    A file that was whole is hashed again only when it has changed.

    Raises:
        DataError: a file is missing, or its sum differs.
    """
    listed = _checked(folder / SUMS_NAME, SUMS_DIGEST)
    for line in listed.read_text(encoding="utf-8").splitlines():
        digest, name = line.split("  ", 1)
        _checked(folder / name, digest)


def _checked(path: Path, digest: str) -> Path:
    restore = "restore it with `git checkout -- pipelines/data`, or build it again with `python -m pipelines.subset`"
    try:
        changed = path.stat().st_mtime_ns
        if whole.get(str(path)) != changed and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise DataError(f"The data file {path} is not as published (its SHA-256 differs): {restore}.")
    except OSError as error:
        raise DataError(f"The data file {path} can't be read ({error.strerror}): {restore}.") from error
    whole[str(path)] = changed
    return path


def full_builder():
    """tensorflow-datasets' own `cifar10`, prepared.

    Raises:
        DataError: it can't be downloaded, which is noticed within seconds, or not be prepared.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder("cifar10")
    tfds_source.prepare(builder)
    return builder
