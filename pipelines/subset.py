"""Build the bundled CIFAR-10 subset from the full data set, byte for byte: `python -m pipelines.subset`.

The rule: of each class, the images whose id has the smallest SHA-256 of "10/id": 1,000 for training from the training
images, 400 for testing from the test images. PNGs are copied as tensorflow-datasets encoded them, never re-encoded.
"""

import argparse
import hashlib
import io
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from pipelines import cifar10, splits
from pipelines.errors import DataError

SEED = 10
PER_CLASS = {"train": 1000, "test": 400}
DESCRIPTION = (
    "A balanced subset of CIFAR-10: 10,000 training and 4,000 test images. "
    f'Of each class, the images whose id has the smallest SHA-256 of "{SEED}/id".'
)


def chosen(builder: tfds.core.DatasetBuilder, part: str) -> list[tuple[str, dict]]:
    """The subset's (id, example) pairs of `part`, sorted by id, with images still encoded as PNG."""
    encoded = builder.as_dataset(split=part, decoders={"image": tfds.decode.SkipDecoding()})
    examples = list(encoded.as_numpy_iterator())
    ids = np.array([example["id"].decode() for example in examples])
    labels = np.array([example["label"] for example in examples])
    rank = splits.rank_by_hash(SEED, ids)
    keep: list[int] = []
    for label in range(len(cifar10.CLASS_NAMES)):
        members = np.flatnonzero(labels == label)
        keep += list(members[np.argsort(rank[members])][: PER_CLASS[part]])
    return [
        (ids[i], {"id": ids[i], "image": io.BytesIO(examples[i]["image"]), "label": int(labels[i])})
        for i in sorted(keep, key=lambda i: ids[i])
    ]


def build(destination: Path) -> None:
    """Write the subset and its SHA-256 sums to the folder `destination`, replacing what is there.

    Raises:
        DataError: the full data set is not prepared and can't be downloaded.
    """
    tfds.disable_progress_bar()
    full = cifar10.full_builder()
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(names=cifar10.CLASS_NAMES),
        }
    )
    with tempfile.TemporaryDirectory() as scratch:
        builder = tfds.dataset_builders.store_as_tfds_dataset(
            name="cifar10_subset",
            version="1.0.0",
            features=features,
            split_datasets={part: chosen(full, part) for part in PER_CLASS},
            description=DESCRIPTION,
            citation=full.info.citation,
            homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
            data_dir=scratch,
            file_format="tfrecord",
            disable_shuffling=True,
        )
        for path in Path(builder.data_path).glob("*.tfrecord*"):
            _serialize_deterministically(path)
        files = sorted(path for path in Path(builder.data_path).iterdir() if path.is_file())
        sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
        shutil.rmtree(destination, ignore_errors=True)
        shutil.copytree(builder.data_path, destination)
    (destination / cifar10.SUMS_NAME).write_text(sums, encoding="utf-8")


def _serialize_deterministically(path: Path) -> None:
    """Write the records of `path` again with their features in order: a map in a protocol buffer has none by itself."""
    records = [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record.SerializeToString(deterministic=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--destination", type=Path, default=cifar10.SUBSET_FOLDER, help="folder to write")
    destination = parser.parse_args().destination
    try:
        build(destination)
    except DataError as error:
        sys.exit(str(error))
    size = sum(path.stat().st_size for path in destination.iterdir())
    print(f"{destination}: {size / 1e6:.1f} MB")
    if hashlib.sha256((destination / cifar10.SUMS_NAME).read_bytes()).hexdigest() != cifar10.SUMS_DIGEST:
        sys.exit("It is not the published subset: its list of sums differs from the one that pipelines.cifar10 knows.")


if __name__ == "__main__":
    main()
