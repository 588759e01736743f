"""Training images as they lie on disk, PNG files in TFRecords: for measuring what reading and decoding them cost."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipelines import cifar10, image_cache, sources
from pipelines.sources import Request


def read(request: Request) -> tf.data.Dataset:
    """Training images as PNG bytes, string (), and labels int64 (), read one by one each time it is iterated over.

    In the files' own order, `request.train_images` of them or all, with nothing done ahead or beside: no cache, no
    prefetching, no parallel parsing. CIFAR-10 is read from its own files; other images are first written, resized, to
    such a file.

    Raises:
        RequestError, DataError: as `pipelines.sources.load`.
    """
    sources.check_request(request)
    if not request.is_cifar10:
        return _records(request)
    import tensorflow_datasets as tfds

    builder = cifar10.builder(request.source)
    examples = builder.as_dataset(
        split="train" if request.train_images is None else f"train[:{request.train_images}]",
        decoders={"image": tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(
            try_autocache=False,
            skip_prefetch=True,
            interleave_cycle_length=1,
            num_parallel_calls_for_decode=1,
            num_parallel_calls_for_interleave_files=1,
        ),
    )
    return examples.map(lambda example: (example["image"], example["label"]))


def _records(request: Request) -> tf.data.Dataset:
    data = sources.load(request)
    path = _written(data)
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
        scratch = Path(tempfile.mkdtemp(dir=path.parent)) / path.name
        with tf.io.TFRecordWriter(str(scratch)) as writer:
            for i in np.arange(len(data.train)):
                image = tf.io.encode_png(data.train.images[i]).numpy()
                label = int(data.train.labels[i])
                writer.write(_example(image, label).SerializeToString(deterministic=True))
        scratch.replace(path)
        scratch.parent.rmdir()
    return path


def _example(image: bytes, label: int) -> tf.train.Example:
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))
