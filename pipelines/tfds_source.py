"""Image classification sets of tensorflow-datasets, by name.

Those of its catalog are downloaded and prepared by its own code. One that was prepared before, by whatever code, is
found in its data folder: `TFDS_DATA_DIR`, or else ~/tensorflow_datasets.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from pipelines import decoding
from pipelines.errors import DataError, RequestError
from pipelines.walking import PARTS

ANSWERS = 5.0  # Seconds within which a host must answer. tensorflow-datasets itself would try for minutes.

MOST_URLS = 6  # Of one set in a sentence.


def fingerprint(name: str) -> str:
    """The set's name and version, such as "mnist/3.0.1", and a hash of its files' names, sizes and times of change.

    Downloads and prepares it where that has not been done.

    Raises:
        RequestError: there is no such set, or it is not one of images with a class each.
        DataError: it can't be downloaded or prepared.
    """
    builder = _builder(name)
    files = sorted(path for path in Path(builder.data_path).iterdir() if path.is_file())
    found = repr([(path.name, (of := path.stat()).st_size, of.st_mtime_ns, of.st_ctime_ns) for path in files])
    return f"{builder.info.full_name} {hashlib.sha256(found.encode()).hexdigest()}"


def read(name: str, size: int) -> dict[str, np.ndarray]:
    """All images, resized to `size` × `size`: for each part images uint8 (n, size, size, 3), labels int32 (n,), ids.

    Classes without an image are dropped, and parts without labels left out; "notes" says so, and which splits are not
    used. "notes_bad" is about images that can't be read.

    Raises:
        RequestError: as `fingerprint`, or the training images have no labels.
        DataError: what was prepared can't be read.
    """
    builder = _builder(name)
    arrays: dict[str, np.ndarray] = {}
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    unread = dict.fromkeys(sizes, "")
    labels: dict[str, np.ndarray] = {}
    notes: list[str] = []
    all_bad: list[str] = []
    for part, names in PARTS.items():
        split = next((split for name in names for split in sizes if split.casefold() == name and sizes[split]), None)
        if split is None:
            continue
        ids = np.array([f"{part}_{i:07}" for i in range(sizes[split])])
        images, bad, said, (classes,) = _decoded(builder, split, size, "label")
        if without := int(np.sum(classes < 0)):  # tensorflow-datasets marks missing labels by -1.
            unread[split] = f", {without:,} without a label"
            continue
        notes += said
        all_bad += decoding.bad_files(bad, ids.tolist()).tolist()
        good = np.setdiff1d(np.arange(len(ids)), list(bad))
        del unread[split]
        labels[part] = classes[good]
        arrays[f"{part}_images"] = decoding.keep_only(images, good)
        arrays[f"{part}_ids"] = ids[good]
    if "train" not in labels:
        there = _listed(sizes, dict.fromkeys(sizes, "") | unread)
        raise RequestError(f"The set {name!r} has no training images with labels, but the splits {there}.")
    all_names = np.array(builder.info.features["label"].names)
    used = np.unique(np.concatenate(list(labels.values())))
    arrays |= {f"{part}_labels": np.searchsorted(used, found).astype(np.int32) for part, found in labels.items()}
    unused = np.setdiff1d(np.arange(len(all_names)), used)
    if unread:
        notes.append(f"Not used of {name}: {_listed(sizes, unread)}.")
    if len(unused):
        notes.append(
            f"Classes of {name} without an image are dropped: {', '.join(map(repr, all_names[unused].tolist()))}."
        )
    texts = {"notes": np.array(notes, dtype=str), "notes_bad": np.array(all_bad, dtype=str)}
    return {**arrays, "classes": all_names[used], **texts}


def _listed(sizes: dict[str, int], which: dict[str, str]) -> str:
    """The splits that are keys of `which`, with their sizes and what is said of them there."""
    return ", ".join(f"{split} ({sizes[split]:,} images{said})" for split, said in which.items())


def _builder(name: str) -> Any:
    """The set, prepared, with a uint8 image and a class for each example."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
        features = builder.info.features
    except tfds.core.DatasetNotFoundError as error:
        raise RequestError(
            f"tensorflow-datasets has no set {name!r}, and there is none in {tfds.core.constants.DATA_DIR}: see "
            "https://www.tensorflow.org/datasets/catalog for names."
        ) from error
    except OSError:
        raise
    except Exception as error:  # The code of each set raises its own kinds, as for a version that it does not have.
        raise RequestError(f"tensorflow-datasets has no set {name!r} ({_first_line(error)}).") from error
    found = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = found.get("image"), found.get("label")
    if not (isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel)):
        there = ", ".join(f"{key} ({type(feature).__name__})" for key, feature in found.items()) or "neither"
        raise RequestError(
            f"The set {name!r} has {there}. An 'image' (Image) with a 'label' (ClassLabel) is needed: use another set."
        )
    if image.np_dtype != np.uint8:
        raise RequestError(f"The images of {name!r} are {np.dtype(image.np_dtype).name}: only uint8 ones can be used.")
    prepare(builder)
    return builder


def prepare(builder: Any) -> None:
    """Let tensorflow-datasets download and prepare a set, where that has not been done.

    Raises:
        DataError: none of its hosts answers, which takes seconds, or it could not be prepared.
    """
    import tensorflow_datasets as tfds

    if builder.is_prepared():
        return
    name = builder.info.full_name
    home = Path(builder.data_path).parents[len(PurePath(name).parts) - 1]
    downloads = home / "downloads"
    by_hand = downloads / "manual"  # Where tensorflow-datasets looks before it downloads.
    missing = [
        url for url, info in (builder.url_infos or {}).items() if not (by_hand / (info.filename or "-")).exists()
    ]
    if missing and not any((downloads / builder.name).rglob("*.INFO")):  # Each lies beside a downloaded file.
        _check_reachable(name, missing, by_hand)
    try:
        builder.download_and_prepare(
            download_dir=downloads,
            download_config=tfds.download.DownloadConfig(manual_dir=by_hand, try_download_gcs=False),
        )
    except Exception as error:  # A full disk, a wrong checksum, a broken connection: many libraries' exceptions.
        raise DataError(
            f"tensorflow-datasets could not prepare {name} in {home} ({_first_line(error)}). The default, `--data "
            "subset`, needs no download."
        ) from error


def _check_reachable(name: str, urls: list[str], by_hand: Path) -> None:
    """Raise DataError where none of the hosts answers, by way of a proxy if one is set."""
    import requests

    hosts = {urlsplit(url).hostname: url for url in reversed(urls)}
    for url in hosts.values():
        try:
            requests.head(url, timeout=ANSWERS)
            return
        except requests.RequestException as error:
            failure = type(error).__name__
    more = f" and {len(urls) - MOST_URLS} more" if len(urls) > MOST_URLS else ""
    raise DataError(
        f"{name} is not on this machine, and {', '.join(map(str, hosts))} can't be reached ({failure}): download "
        f"{', '.join(urls[:MOST_URLS])}{more} elsewhere and put it in {by_hand}. The default, `--data subset`, "
        "needs none."
    )


def decode(builder: Any, split: str, size: int, *keys: str) -> list[np.ndarray]:
    """The images of a split, uint8 (n, size, size, 3), and an array (n,) for each of `keys`, in the files' order.

    Raises:
        DataError: the files can't be read.
    """
    images, bad, _, others = _decoded(builder, split, size, *keys)
    if bad:
        raise DataError(f"The set in {builder.data_path} has {len(bad)} images that can't be read: prepare it again.")
    return [images, *others]


def _decoded(builder: Any, split: str, size: int, *keys: str) -> Any:
    """What `decoding.decode_all` finds in a split, and an array (n,) for each of `keys`."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    others: list[tuple[Any, ...]] = []

    def encoded() -> Iterator[bytes]:
        for example in builder.as_dataset(
            split=split, decoders={"image": tfds.decode.SkipDecoding()}
        ).as_numpy_iterator():
            others.append(tuple(example[key] for key in keys))
            yield example["image"]

    try:
        found = decoding.decode_all(encoded(), builder.info.splits[split].num_examples, size)
    except (tf.errors.OpError, NotImplementedError) as error:  # The latter for array_record files.
        raise DataError(
            f"The set in {builder.data_path} can't be read ({type(error).__name__}: {_first_line(error)}): delete that "
            "folder, and prepare it again."
        ) from error
    return *found, [np.array(column) for column in zip(*others, strict=True)]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
