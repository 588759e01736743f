"""What do depth, width and convolutions buy in a first image classifier?

`keras.Sequential` takes a stack of layers, and this file takes five of them: one linear layer; ten
linear layers with nothing in between, which together are still one linear map; one hidden layer;
two; and a small convnet, which slides few weights over the picture instead of giving every pixel
its own.

Counting before building saves memory: a dense layer has (inputs + 1) × units weights, so a picture
of a million pixels into Dense 1000 → 512 → 10 needs 1,000,518,642 of them, four gigabytes, nearly
all in the first layer.

Answer         A small convnet: 8.8 points above two dense layers with 23 times its parameters.
In practice    Begin with a convnet: 52.3 % against 43.5 % for two dense layers (128 and 64 units),
               and 1.23 times their multiplications. Two dense layers ended 0.3 points above one of
               65 units, if at all, for 2.0 times the multiplications. Put an activation between
               layers: ten without one fitted training images 1.4 points worse than a single one
               (47.2 against 48.5 %), though together they are no more than one matrix; that they
               did better on test images (38.9 against 37.4 %) may come of this worse fit. All of
               this is 8 epochs of 8,000 images.
Use it when    the model is a plain stack of layers, each fed by the one before.
It hurts when  layers should skip, branch or merge: Sequential can't, the Functional API can.
Sources        Goodfellow, Bengio and Courville 2016, Deep Learning, chapters 6 and 9
"""

import itertools
from dataclasses import dataclass

import keras
from keras import layers, optimizers

from lab import Run
from pipelines import batches, sources


@dataclass(frozen=True)
class Config:
    epochs: int = 8
    batch_size: int = 128
    rate: float | None = None  # None: the variant's own below.


# Adam's rates that won on validation: `python -m recipes.sequential tune` finds them again.
RATES = {
    "linear": 0.001,
    "ten_linear": 0.0057,
    "dense_65": 0.001,
    "dense_128_64": 0.001,
    "convnet": 0.0057,
}


def build_model(variant: str, data: sources.Data) -> keras.Sequential:
    """Map images uint8 (batch, *data.shape) to logits float32 (batch, len(data.classes))."""
    rescale = layers.Rescaling(1 / 64, offset=-2)  # 0 to 255 becomes -2 to 2.
    model = keras.Sequential([keras.Input(data.shape, dtype="uint8"), rescale])
    if variant == "convnet":
        model.add(layers.Conv2D(24, 3, strides=2, activation="relu"))
        model.add(layers.MaxPooling2D())
        model.add(layers.Conv2D(64, 3, activation="relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    if variant == "ten_linear":
        for _ in range(9):
            model.add(layers.Dense(128))  # Without an activation.
    if variant == "dense_65":
        model.add(layers.Dense(65, activation="relu"))
    if variant == "dense_128_64":
        model.add(layers.Dense(128, activation="relu"))
        model.add(layers.Dense(64, activation="relu"))
    model.add(layers.Dense(len(data.classes), name="head"))
    return model


def dense_parameters(*sizes: int) -> list[int]:
    """Weights and biases of each dense layer between `sizes`: inputs, units of the first layer, and so on."""
    return [(inputs + 1) * units for inputs, units in itertools.pairwise(sizes)]


def multiplications(model: keras.Sequential) -> int:
    """Multiplications of one image's forward pass: a dense layer's weights once, a kernel's once at each position."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, layers.Dense):
            total += layer.kernel.shape.num_elements()
        if isinstance(layer, layers.Conv2D):
            _, height, width, _ = layer.output.shape
            total += layer.kernel.shape.num_elements() * height * width
    return total


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    data = sources.load(run.data)
    feed = batches.training(data.train, config.batch_size, seed=run.seed, augment=False)
    model = build_model(variant, data)

    rate = RATES[variant] if config.rate is None else config.rate
    model.compile(
        optimizer=optimizers.Adam(
            optimizers.schedules.CosineDecay(rate, config.epochs * len(feed))
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,  # Python looks in every 16 steps: a seventh faster.
    )
    model.fit(
        feed,
        epochs=config.epochs,
        validation_data=batches.evaluation(data.validation),
        callbacks=run.callbacks(data),
        shuffle=False,  # The feed shuffles, anew each epoch; without this, Keras warns.
        verbose=0,
    )
    metrics = run.scores(model, data)
    metrics["parameters"] = float(model.count_params())
    metrics["multiplications"] = float(multiplications(model))
    return metrics


if __name__ == "__main__":
    from lab import main

    main("sequential")
