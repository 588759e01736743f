"""How many augmented images a second the training feed delivers on one core: `python -m pipelines.benchmark`."""

import argparse
import os
import statistics
import sys
import time

import tensorflow as tf

from pipelines import batches, sources
from pipelines.errors import DataError

TARGET = 50_000


def images_per_second(feed: tf.data.Dataset, batch_size: int, epochs: int) -> list[float]:
    """One rate for each epoch of `feed`, after one epoch that is not counted."""
    rates = []
    for _ in range(epochs + 1):
        start = time.perf_counter()
        count = sum(1 for _ in feed)
        rates.append(count * batch_size / (time.perf_counter() - start))
    return rates[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=20, help="epochs to time; the median is reported")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # Thread counts alone would leave tf.data's own threads free.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    try:
        data = sources.load()
        for augment in (False, True):
            feed = batches.training(data.train, arguments.batch_size, seed=0, augment=augment)
            rates = images_per_second(feed, arguments.batch_size, arguments.epochs)
            name = "flips and crops" if augment else "as they are"
            print(
                f"{name:>16}: {statistics.median(rates):>9,.0f} images/s on one core "
                f"({min(rates):,.0f} to {max(rates):,.0f} over {len(rates)} epochs; target {TARGET:,})"
            )
    except DataError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
