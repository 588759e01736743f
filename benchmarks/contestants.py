"""A contestant of the speed benchmark: a process that trains one net by one library, a few epochs at a time.

PYTHON -m benchmarks.contestants NAME NET CORES     what benchmarks/throughput.py starts

Once it has traced and compiled, it prints "ready" and how many weights it trains. Then it trains a round for each line
that it reads, and answers with its seconds. For PyTorch the interpreter needs NumPy and PyTorch only.
"""

import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Size(NamedTuple):
    images: int  # So few for the strong net that an epoch takes two seconds.
    batch: int
    epochs: int  # Of a round: so many that what a `fit` begins and ends with hardly counts.


NETS = {"small": Size(8000, 128, 4), "strong": Size(2000, 250, 4)}
# A contestant: the seconds of a round are those of a call. With it goes the number of weights that it trains.
Contestant = tuple[Callable[[], Any], int]
CLASSES = 10


# In Keras: from the training images, a compiled model and what it is fitted to.


def ours_small(train):
    """The recipe's model and this project's feed. The schedule and the validation are left out."""
    import keras

    from pipelines import batches
    from recipes import optimizers

    model = optimizers.build_model(train.images.shape[1:], CLASSES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = optimizers.build_optimizer("momentum", 0.1, None)
    model.compile(optimizer, loss, metrics=["accuracy"], steps_per_execution=16)
    return model, batches.training(train, NETS["small"].batch, seed=1)


def plain_small(train):
    """What a user would write: the same model, shifts and flips image by image in a parallel map."""
    import keras
    import tensorflow as tf

    from recipes import optimizers

    def augment(image, label):
        image = tf.pad(image, [[2, 2], [2, 2], [0, 0]], "REFLECT")
        return tf.image.random_flip_left_right(tf.image.random_crop(image, (32, 32, 3))), label

    model = optimizers.build_model(train.images.shape[1:], CLASSES)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True), loss, metrics=["accuracy"])
    return model, plain_feed(train, NETS["small"].batch, lambda feed: feed.map(augment, tf.data.AUTOTUNE))


def ours_strong(train):
    """The recipe as it stands, with this project's feed."""
    from pipelines import batches

    feed = batches.training(train, NETS["strong"].batch, seed=1, augment=False)
    return begun(feed), feed


def plain_strong(train):
    """The same training with Keras's own BatchNorm and Muon, and the usual feed."""
    from keras import layers

    from recipes import strong_baseline
    from recipes.optimizers import ConvMuon

    how = {"momentum": 0.9, "weight_decay": 0.2, "adam_weight_decay": 0.2}
    feed = plain_feed(train, NETS["strong"].batch)
    build_model = functools.partial(strong_baseline.build_model, normalization=layers.BatchNormalization)
    return begun(feed, build_model=build_model, optimizer=ConvMuon(0.02, exclude_layers=["head"], **how)), feed


def begun(feed, **how):
    """The model that the strong recipe trains, stopped after its first step."""
    import keras

    from recipes import strong_baseline

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = True

    return strong_baseline.train(feed, None, CLASSES, epochs=100, callbacks=[Stop()], **how)


def plain_feed(train, batch, augment=lambda feed: feed):
    import tensorflow as tf

    feed = tf.data.Dataset.from_tensor_slices((train.images, train.labels)).shuffle(len(train))
    return augment(feed).batch(batch, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


KERAS = {
    "ours": {"small": ours_small, "strong": ours_strong},
    "plain Keras": {"small": plain_small, "strong": plain_strong},
}
TORCH = {"PyTorch eager": False, "PyTorch compiled": True}


def in_keras(name: str, net: str) -> Contestant:
    from pipelines import sources

    model, feed = KERAS[name][net](sources.load().train.take(np.arange(NETS[net].images)))
    weights = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return lambda: model.fit(feed, epochs=NETS[net].epochs, shuffle=False, verbose=0), weights


def in_torch(name: str, net: str) -> Contestant:
    from benchmarks import torch_contestants

    size, folder = NETS[net], Path(os.environ["BENCHMARK_IMAGES"])
    images, labels = (np.load(folder / f"{what}.npy")[: size.images] for what in ("images", "labels"))
    epoch, weights = torch_contestants.contestant(net, images, labels, size.batch, compiled=TORCH[name])

    def several() -> None:
        for _ in range(size.epochs):
            epoch()

    return several, weights


def confine(cores: int) -> None:
    """Run this process on the first so many of the cores that it may use, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))


def main(name: str, net: str, cores: int) -> None:
    confine(cores)
    if name in KERAS:
        import tensorflow as tf

        import pipelines  # noqa: F401  Quiets TensorFlow.

        tf.config.threading.set_intra_op_parallelism_threads(cores)
        tf.config.threading.set_inter_op_parallelism_threads(cores)
        train, weights = in_keras(name, net)
    else:
        import torch

        torch.set_num_threads(cores)
        train, weights = in_torch(name, net)
    train()  # Traces, compiles.
    print("ready", weights, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        train()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
