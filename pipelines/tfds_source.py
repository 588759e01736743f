"""Image classification sets of tensorflow-datasets, by name."""

import numpy as np

from pipelines.errors import DataError, RequestError


def full_name(name: str) -> str:
    """The set's name with its version, such as "mnist/3.0.1"; downloads it if that has not been done.

    Raises:
        RequestError: there is no such set, or it is not one of images with a class each.
        DataError: it can't be downloaded or prepared.
    """
    return _builder(name).info.full_name


def _builder(name: str):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
    except Exception as error:  # A name that does not exist, or can't be one.
        raise RequestError(f"tensorflow-datasets has no set {name!r}: see its catalog for names.") from error
    features = builder.info.features or {}
    if not isinstance(features.get("image"), tfds.features.Image) or not isinstance(
        features.get("label"), tfds.features.ClassLabel
    ):
        raise RequestError(f"The set {name!r} has no 'image' with a 'label': only image classification can be done.")
    if "train" not in builder.info.splits and builder.info.splits:
        raise RequestError(f"The set {name!r} has no part for training.")
    if not builder.is_prepared():
        try:
            builder.download_and_prepare()
        except Exception as error:  # No network, a full disk, a wrong checksum: many libraries' exceptions.
            cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise DataError(
                f"tensorflow-datasets could not prepare {name!r} ({cause}): mend that and run again; the default, "
                "`--data subset`, needs no download."
            ) from error
    return builder


def read(name: str, size: int) -> dict[str, np.ndarray]:
    """All images, resized to `size` × `size`: for each part images uint8 (n, size, size, 3), labels int32 (n,), ids.

    Raises:
        RequestError: as `full_name`.
        DataError: what was prepared is broken.
    """
    import tensorflow as tf

    builder = _builder(name)
    arrays: dict[str, np.ndarray] = {"classes": np.array(builder.info.features["label"].names)}

    def prepare(example):
        image = example["image"]
        image = tf.image.grayscale_to_rgb(image) if image.shape[-1] == 1 else image[..., :3]
        if image.shape[:2] != (size, size):
            image = tf.round(tf.image.resize(image, (size, size), antialias=True))
        return tf.cast(image, tf.uint8), tf.cast(example["label"], tf.int32)

    for part in ("train", "validation", "test"):
        if part not in builder.info.splits:
            continue
        try:
            examples = builder.as_dataset(split=part).map(prepare, tf.data.AUTOTUNE).batch(500)
            images, labels = zip(*examples.as_numpy_iterator(), strict=True)
        except tf.errors.OpError as error:
            raise DataError(
                f"The prepared set in {builder.data_path} is broken ({type(error).__name__}): delete that folder and "
                "run again."
            ) from error
        arrays[f"{part}_images"] = np.concatenate(images)
        arrays[f"{part}_labels"] = np.concatenate(labels)
        arrays[f"{part}_ids"] = np.array([f"{part}_{i:07}" for i in range(len(arrays[f"{part}_labels"]))])
    return arrays
