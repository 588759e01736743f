"""Where a step of the strong baseline spends its time: arithmetic, seconds and share of the machine's peak, by layer.

python -m benchmarks.strong_layers [--width 0.5] [--batch 250] [--rounds 20]

Each layer is timed by itself, forward and backward, with inputs as it has them in the net. The peak is what a product
of two large square matrices in bfloat16 reaches here. A FLOP is one multiplication or one addition; gradients that the
training does not need, before the first layer that learns, are left out. All layers take turns, so that what slows the
machine slows all alike.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from recipes import strong_baseline
from recipes.mixed_precision import dtype_policy

SIDE = 4096  # Of the square matrices.


def flops(layer: keras.Layer, size: int, passes: int) -> float:
    """Of a batch, where the gradients of weights and of inputs are a pass each; 0 without a kernel."""
    if not hasattr(layer, "kernel"):
        return 0.0
    places = np.prod(layer.output.shape[1:3]) if isinstance(layer, layers.Conv2D) else 1
    return float(passes * 2 * size * places * np.prod(layer.kernel.shape))


def passes_of(net: keras.Model) -> dict[str, int]:
    """1 before the first layer that learns, 2 for that one, which needs no gradient of its inputs, then 3."""
    found, passes = {}, 1
    for layer in net.layers[1:]:  # The first holds the shape of the images.
        first = passes == 1 and bool(layer.trainable_variables)
        found[layer.name] = 2 if first else passes
        passes = 3 if first else passes
    return found


def pass_of(layer: keras.Layer, size: int, passes: int) -> Callable[[], object]:
    """A call does one forward pass of a layer by itself and, with more passes, one backward."""
    dtype = tf.float32 if isinstance(layer, layers.Rescaling) else layer.compute_dtype
    x = tf.cast(tf.random.normal((size, *layer.input.shape[1:])), dtype)
    wanted = [weight.value for weight in layer.trainable_variables] + [x] * (passes > 2)

    @tf.function
    def call() -> object:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return tape.gradient(y, wanted, tf.ones_like(y)) if passes > 1 else y

    return call


def product() -> Callable[[], object]:
    square = tf.cast(tf.random.normal((SIDE, SIDE)), tf.bfloat16)
    return tf.function(lambda: square @ square)


def update_of(net: keras.Model) -> Callable[[], object]:
    """A call does one step of the recipe's optimizer."""
    optimizer = strong_baseline.GramMuon(0.0, exclude_layers=["head"], momentum=0.9, weight_decay=0.2)
    optimizer.build(net.trainable_variables)
    gradients = [tf.random.normal(weight.shape) for weight in net.trainable_variables]
    return tf.function(lambda: optimizer.apply(gradients))


def seconds_of(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median of each, once it has been traced."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            tf.test.experimental.sync_devices()  # A GPU has only been told what to do.
            if number >= 2:
                found[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in found.items()}


def rows(width: float, size: int, rounds: int) -> list[list[str]]:
    """The table: a row for each layer, then for the optimizer, all of them, and a whole step."""
    with dtype_policy("mixed_bfloat16"):
        net = strong_baseline.build_model((32, 32, 3), 10, width)
    images = tf.random.uniform((size, 32, 32, 3), 0, 255)
    labels = tf.random.uniform((size,), 0, 10, tf.int32)
    whole = strong_baseline.train(tf.data.Dataset.from_tensors((images, labels)), None, 10, width=width, epochs=1)
    passes = passes_of(net)
    timed = [net.get_layer(name) for name in passes]
    calls = {name: pass_of(net.get_layer(name), size, many) for name, many in passes.items()}
    calls |= {"optimizer": update_of(net), "product": product()}
    calls["whole step"] = lambda: whole.train_on_batch(images, labels)
    found = seconds_of(calls, rounds)
    peak = 2 * SIDE**3 / found.pop("product")
    table = []
    for layer in timed:
        work, seconds = flops(layer, size, passes[layer.name]), found[layer.name]
        shapes = " → ".join(" × ".join(map(str, tensor.shape[1:])) for tensor in (layer.input, layer.output))
        table.append([layer.name, shapes, *_cells(work, seconds, peak)])
    table.append(["optimizer", "", *_cells(0.0, found["optimizer"], peak)])
    work = sum(flops(layer, size, passes[layer.name]) for layer in timed)
    parts = sum(found.values()) - found["whole step"]
    table.append(["all of these", "", *_cells(work, parts, peak)])
    table.append(["a whole step, with augmentation and loss", "", *_cells(work, found["whole step"], peak)])
    table.append(
        [f"product of {SIDE:,} × {SIDE:,} matrices", "", f"{2 * SIDE**3 / 1e9:.1f}", "", f"{peak / 1e9:.0f}", "100 %"]
    )
    return table


def _cells(work: float, seconds: float, peak: float) -> list[str]:
    if not work:
        return ["", f"{1000 * seconds:.1f}", "", ""]
    speed = work / seconds
    return [f"{work / 1e9:.2f}", f"{1000 * seconds:.1f}", f"{speed / 1e9:.0f}", f"{100 * speed / peak:.0f} %"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=20)
    chosen = parser.parse_args()
    found = rows(chosen.width, chosen.batch, chosen.rounds)
    for row in [["layer", "shape", "GFLOP", "ms", "GFLOP/s", "of the peak"], ["---"] * 6, *found]:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
