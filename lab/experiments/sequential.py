"""Linear, dense and convolutional networks of growing depth and width."""

from lab import Claim, Experiment, Lines, Objective, Points, Tuning, Unit, half_decades
from recipes import sequential as recipe

VARIANTS = tuple(recipe.RATES)
MEGAPIXEL = recipe.dense_parameters(1_000_000, 1000, 512, 10)


CLAIMS = [
    Claim(
        "B1",
        "A 1,000,000-pixel input into Dense 1000 → 512 → 10 has exactly 1,000,518,642 parameters, "
        "1,000,001,000 of them in the first layer",
        source="DL",
        asserted=(sum(MEGAPIXEL), MEGAPIXEL[0]) == (1_000_518_642, 1_000_001_000),
    ),
    Claim(
        "B2",
        "A two-layer 128-64 network is only marginally better than one layer of 65 units",
        source="R1, R3",
        metric="test_accuracy",
        equal=("dense_128_64", "dense_65"),
        side="above",
    ),
    Claim(
        "B2b",
        "It does so at twice the multiplications and more",
        source="R1, R3",
        asserted=3072 * 128 + 128 * 64 + 64 * 10 > 2 * (3072 * 65 + 65 * 10),
    ),
    Claim(
        "B3",
        "Ten layers without a non-linearity fit training images no better than one linear layer",
        said="Layers stacked without a non-linearity are no better than one linear layer, whatever their number",
        source="DL",
        metric="train_accuracy",
        equal=("ten_linear", "linear"),
        side="above",
    ),
    Claim(
        "B4",
        "A convnet beats a dense network (128-64) on images with at most a quarter of its parameters (at 1.23 times "
        "the multiplications)",
        source="DL",
        metric="test_accuracy",
        higher="convnet",
        than="dense_128_64",
    ),
]

TUNING = Tuning("rate", dict.fromkeys(VARIANTS, half_decades(1e-4, 1e-2)), Objective("validation_accuracy"))
UNITS = {
    "parameters": Unit("parameters", digits=0),
    "multiplications": Unit("multiplications an image", digits=0),
}
PANELS = (Lines("val_accuracy"), Points("multiplications", "test_accuracy", log="x"))

EXPERIMENT = Experiment(
    recipe,
    train=recipe.train,
    variants=VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    smoke={"epochs": 6, "batch_size": 64},
    tuning=TUNING,
    units=UNITS,
    panels=PANELS,
    first_seed=101,
    numbers={
        "8.8 points": "test_accuracy: convnet - dense_128_64",
        "23 times": "parameters: dense_128_64 / convnet",
        "52.3 %": "test_accuracy: convnet",
        "43.5 %": "test_accuracy: dense_128_64",
        "(128 and 64 units)": "",
        "1.23 times": "multiplications: convnet / dense_128_64",
        "0.3 points": "test_accuracy: dense_128_64 - dense_65",
        "one of 65": "",
        "2.0 times": "multiplications: dense_128_64 / dense_65",
        "1.4 points": "train_accuracy: linear - ten_linear",
        "47.2 against": "train_accuracy: ten_linear",
        "48.5 %": "train_accuracy: linear",
        "38.9 against": "test_accuracy: ten_linear",
        "37.4 %": "test_accuracy: linear",
        "8 epochs of 8,000 images": "",
    },
)
