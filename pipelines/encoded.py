"""CIFAR-10 as it lies on disk: PNG files in TFRecords, for measuring what reading, decoding and feeding cost."""

import tensorflow as tf

from pipelines.cifar10 import SUBSET_FOLDER, Request, check_request, check_sums, full_builder


def read(request: Request) -> tf.data.Dataset:
    """Training images as PNG bytes, string (), and labels int64 (), read one by one each time it is iterated over.

    In the files' own order, `request.train_images` of them or all, with nothing done ahead or beside: no cache, no
    prefetching, no parallel parsing.

    Raises:
        RequestError: an unknown source, or more training images than there are.
        DataError: a missing, truncated or altered file, or no network to download all of CIFAR-10.
    """
    import tensorflow_datasets as tfds

    check_request(request)
    if request.source == "subset":
        check_sums(SUBSET_FOLDER)
        builder = tfds.builder_from_directory(SUBSET_FOLDER)
    else:
        builder = full_builder()
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
