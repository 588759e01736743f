"""What splitting a model over devices computes, and how long it waits: checks of tensor and pipeline parallelism."""

import numpy as np


def split_layer_gives_the_same() -> bool:
    """Whether a Dense layer (4 inputs, 6 units) answers the same if its kernel is split over two devices.

    Once by columns, where each device computes half of the units, and once by rows, where each takes half of the inputs
    and the parts are added up. In float64. Where TensorFlow sees only one device, that one computes both halves.
    """
    import tensorflow as tf

    devices = [device.name for device in tf.config.list_logical_devices("CPU")][:2]
    generator = np.random.default_rng(0)
    inputs, kernel, bias = (tf.constant(generator.normal(size=shape)) for shape in ((5, 4), (4, 6), (6,)))
    whole = inputs @ kernel + bias
    units, sums = [], []
    for half in (0, 1):
        with tf.device(devices[half % len(devices)]):
            columns, rows = slice(3 * half, 3 * half + 3), slice(2 * half, 2 * half + 2)
            units.append(inputs @ kernel[:, columns] + bias[columns])
            sums.append(inputs[:, rows] @ kernel[rows])
    by_columns, by_rows = tf.concat(units, axis=1), tf.add_n(sums) + bias
    return bool(np.allclose(by_columns, whole, atol=1e-12) and np.allclose(by_rows, whole, atol=1e-12))


def idle_share(stages: int, microbatches: int) -> float:
    """The share of its time that each device waits, in a pipeline whose stages all take one unit of time.

    A stage begins a microbatch when it has finished the one before, and the stage before has finished this one.
    """
    ends = np.zeros((stages + 1, microbatches + 1))
    for stage in range(1, stages + 1):
        for microbatch in range(1, microbatches + 1):
            ends[stage, microbatch] = max(ends[stage - 1, microbatch], ends[stage, microbatch - 1]) + 1
    return float(1 - microbatches / ends[-1, -1])


def pipelines_idle_as_said() -> bool:
    """Whether pipelines of p stages and m microbatches wait (p − 1) / (m + p − 1) of the time."""
    return all(
        abs(idle_share(stages, microbatches) - (stages - 1) / (microbatches + stages - 1)) < 1e-12
        for stages in (1, 2, 4, 8)
        for microbatches in (1, 2, 4, 32)
    )
