"""Training images as they lie on disk, PNG files in TFRecords: for measuring what reading and decoding them cost."""

import dataclasses
import hashlib
import tempfile
from pathlib import Path

import tensorflow as tf

from pipelines import image_cache, sources


def read(request: sources.Request) -> tf.data.Dataset:
    """Training images as PNG bytes, string (), and labels int64 (), read one by one each time it is iterated over.

    With nothing done ahead or beside: no cache, no prefetching, no parallel parsing. The file is written once, and is
    the same for all seeds.

    Raises:
        RequestError, DataError: as `pipelines.sources.load`.
    """
    path = _written(sources.load(dataclasses.replace(request, split_seed=None)))
    features = {"image": tf.io.FixedLenFeature((), tf.string), "label": tf.io.FixedLenFeature((), tf.int64)}

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = tf.io.parse_single_example(record, features)
        return example["image"], example["label"]

    return tf.data.TFRecordDataset(str(path)).map(parse)


def _written(data: sources.Data) -> Path:
    """A TFRecord file of the training part, written where it is not yet."""
    key = hashlib.sha256(" ".join([data.digest, *data.train.ids]).encode()).hexdigest()[:24]
    path = image_cache.folder() / f"{key}.tfrecord"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            whole = Path(scratch) / path.name
            with tf.io.TFRecordWriter(str(whole)) as writer:
                for i, label in enumerate(data.train.labels):
                    image = tf.io.encode_png(data.train.images[i]).numpy()
                    writer.write(_example(image, int(label)).SerializeToString(deterministic=True))
            whole.replace(path)
    return path


def _example(image: bytes, label: int) -> tf.train.Example:
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))
