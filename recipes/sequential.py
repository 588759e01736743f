"""What do depth, width and convolutions buy in a first image classifier?

A `keras.Sequential` model is a list of layers. Five lists look at the same images: one linear layer; ten of them with
nothing in between, which together are still one linear map; one hidden layer; two; and a small convnet, which slides
few weights over the picture instead of giving every pixel its own.

Counting before building saves memory: a dense layer has (inputs + 1) × units weights, so a picture of a million pixels
into Dense 1000 → 512 → 10 needs 1,000,518,642 of them, four gigabytes, nearly all in the first layer.

Use it when    the model is a plain stack of layers, each fed by the one before.
It hurts when  layers should skip, branch or merge: Sequential can't, the Functional API can.
Sources        Goodfellow, Bengio and Courville 2016, Deep Learning, chapters 6 and 9
"""

import itertools
from dataclasses import dataclass

import keras
from keras import layers, optimizers

from pipelines import batches, cifar10
from recipes.harness import Claim, Lines, Objective, Points, Recipe, Run, Tuning, Unit, half_decades


@dataclass(frozen=True)
class Config:
    epochs: int = 8
    batch_size: int = 128
    rate: float | None = None  # None takes the tuned rates below.


VARIANTS = {
    "linear": lambda: [layers.Flatten()],
    "ten_linear": lambda: [layers.Flatten(), *(layers.Dense(128) for _ in range(9))],
    "dense_65": lambda: [layers.Flatten(), layers.Dense(65, "relu")],
    "dense_128_64": lambda: [layers.Flatten(), layers.Dense(128, "relu"), layers.Dense(64, "relu")],
    "convnet": lambda: [
        layers.Conv2D(24, 3, strides=2, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
    ],
}

# Adam's peak rate: what `python -m recipes.sequential --tune` finds, on seed 0 and by validation.
TUNED = {"linear": 0.001, "ten_linear": 0.0057, "dense_65": 0.001, "dense_128_64": 0.001, "convnet": 0.0057}


def build_model(variant: str, mean, std) -> keras.Sequential:
    """Map images uint8 (batch, 32, 32, 3) to logits float32 (batch, 10)."""
    return keras.Sequential(
        [
            keras.Input((32, 32, 3), dtype="uint8"),
            layers.Normalization(mean=mean, variance=std**2),
            *VARIANTS[variant](),
            layers.Dense(10, name="head"),
        ]
    )


def dense_parameters(*sizes: int) -> list[int]:
    """Weights and biases of each dense layer between `sizes`: inputs, units of the first layer, and so on."""
    return [(inputs + 1) * units for inputs, units in itertools.pairwise(sizes)]


def multiplications(model: keras.Sequential) -> int:
    """Multiplications of one image's forward pass: each weight once, a kernel's once a position."""
    total = 0
    for layer in model.layers:
        if layer.trainable_weights:
            positions = layer.output.shape[1] * layer.output.shape[2] if len(layer.output.shape) == 4 else 1
            total += layer.kernel.shape.num_elements() * positions
    return total


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    data = cifar10.load(run.data)
    feed = batches.training(data.train, config.batch_size, seed=run.seed, augment=False)

    keras.utils.set_random_seed(run.seed)
    model = build_model(variant, data.mean, data.std)
    rate = TUNED[variant] if config.rate is None else config.rate
    model.compile(
        optimizer=optimizers.Adam(optimizers.schedules.CosineDecay(rate, config.epochs * len(feed))),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(
        feed,
        epochs=config.epochs,
        validation_data=batches.evaluation(data.validation),
        callbacks=run.callbacks(probe=data.train),
        shuffle=False,  # The feed shuffles, anew each epoch.
        verbose=0,
    )
    counted = {"parameters": float(model.count_params()), "multiplications": float(multiplications(model))}
    return run.scores(model, history, data) | counted


MEGAPIXEL = dense_parameters(1_000_000, 1000, 512, 10)

CLAIMS = [
    Claim("B1", "A 1,000,000-pixel input into Dense 1000 → 512 → 10 has exactly 1,000,518,642 parameters, "
          "1,000,001,000 of them in the first layer", source="DL",
          asserted=(sum(MEGAPIXEL), MEGAPIXEL[0]) == (1_000_518_642, 1_000_001_000)),
    Claim("B2", "A two-layer 128-64 network is only marginally better than one layer of 65 units, at much more compute",
          source="R1, R3", metric="test_accuracy", equal=("dense_128_64", "dense_65"), side="above", by=0.01),
    Claim("B3", "Layers stacked without a non-linearity are no better than one linear layer, whatever their number",
          source="DL", metric="test_accuracy", equal=("ten_linear", "linear"), side="above", by=0.01),
    Claim("B4", "A convnet beats a dense network (128-64) on images with at most a quarter of its parameters",
          source="DL", metric="test_accuracy", higher="convnet", than="dense_128_64", by=0.02),
]  # fmt: skip

RECIPE = Recipe(
    train,
    VARIANTS,
    CLAIMS,
    Config,
    smoke={"epochs": 6, "batch_size": 64},
    tuning=Tuning(
        "rate",
        dict.fromkeys(VARIANTS, half_decades(1e-4, 1e-2)),
        {"accuracy": Objective("validation_accuracy")},
        curve=None,
    ),
    units={"parameters": Unit("parameters", digits=0), "multiplications": Unit("multiplications an image", digits=0)},
    panels=(Lines("val_accuracy"), Points("multiplications", "test_accuracy", log="x")),
)

if __name__ == "__main__":
    for name, count in zip(
        ("Dense 1000", "Dense 512", "Dense 10", "in all"), [*MEGAPIXEL, sum(MEGAPIXEL)], strict=True
    ):
        print(f"1,000,000 pixels, {name:>10}: {count:>13,} parameters")
    RECIPE.main()
