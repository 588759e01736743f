"""Plain and residual networks at three depths, with three initializations."""

from lab import Bars, Claim, Experiment, Lines, Objective, Tuning, Unit, half_decades
from pipelines import batches
from recipes import functional_skip as recipe

CLAIMS = [
    Claim(
        "B5a",
        "A plain network of 13 convolutions fits its training images worse than one of 3, as Keras begins them",
        said="Past some depth a plain network gets worse with depth",
        source="DL; He et al. 2016",
        metric="train_accuracy",
        lower="plain_deep",
        than="plain_shallow",
    ),
    Claim(
        "B5b",
        "So it does with BatchNorm, after two epochs",
        said="Past some depth a plain network gets worse with depth, with BatchNorm too",
        source="He et al. 2016",
        metric="train_accuracy",
        lower="plain_deep_norm",
        than="plain_shallow_norm",
    ),
    Claim(
        "B5e",
        "So it does where its kernels begin as He et al. 2015 have them, after two epochs",
        source="our control of B5a",
        metric="train_accuracy",
        lower="plain_deep_he",
        than="plain_shallow_he",
    ),
    Claim(
        "B5c",
        "With skip connections a deeper network is no worse",
        source="DL; He et al. 2016",
        metric="test_accuracy",
        equal=("residual_deep", "residual_shallow"),
        side="below",
    ),
    Claim(
        "B5d",
        "With skip connections and BatchNorm a deeper network is no worse",
        source="He et al. 2016",
        metric="test_accuracy",
        equal=("residual_deep_norm", "residual_shallow_norm"),
        side="below",
    ),
    Claim(
        "B6a",
        "Skip connections keep the gradient of the first layers from vanishing, as Keras begins them",
        said="Skip connections keep the gradient of the first layers from vanishing",
        source="DL",
        metric="first_gradient",
        higher="residual_deep",
        than="plain_deep",
    ),
    Claim(
        "B6b",
        "Skip connections keep the gradient of the first layers from vanishing, also beside BatchNorm",
        source="our control of B6a",
        metric="first_gradient",
        higher="residual_deep_norm",
        than="plain_deep_norm",
    ),
    Claim(
        "B6c",
        "Skip connections keep the gradient of the first layers from vanishing, also where kernels begin as He et al. "
        "2015 have them",
        source="our control of B6a",
        metric="first_gradient",
        higher="residual_deep_he",
        than="plain_deep_he",
    ),
]

UNITS = {
    "first_gradient": Unit("first gradient at initialization (log10)", name="decades"),
    "gradient_norms": Unit("gradient norm at initialization"),
}
DEEPEST = tuple(name for name, chosen in recipe.VARIANTS.items() if chosen.depth == 12)
PANELS = (
    Bars("test_accuracy"),
    Lines("gradient_norms", x_label="convolution", variants=DEEPEST, log="y"),
)
TUNING = Tuning("rate", dict.fromkeys(recipe.VARIANTS, half_decades(1e-2, 3.2e-1)), Objective("validation_accuracy"))

EXPERIMENT = Experiment(
    recipe,
    train=recipe.train,
    variants=recipe.VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    feed=batches.augmented,
    smoke={"epochs": 3, "batch_size": 32},
    tuning=TUNING,
    left_out=("plain_middle_he", "residual_shallow_he", "residual_middle_he"),
    fails=("plain_middle", "plain_deep", "plain_deep_he"),
    units=UNITS,
    panels=PANELS,
    first_seed=101,
    numbers={
        "13 convolutions": "",
        "10.2 %": "test_accuracy: plain_deep",
        "42.4 %": "test_accuracy: residual_deep",
        "27.3 %": "test_accuracy: plain_deep_he",
        "39.9 %": "test_accuracy: plain_deep_norm",
        "5.7 points worse": "train_accuracy: plain_shallow_norm - plain_deep_norm",
        "network of 3 convolutions": "",
        "47.7 %": "test_accuracy: residual_deep_norm",
        "1.9 points": "test_accuracy: residual_deep_norm - residual_shallow_norm",
        "same at 3 convolutions": "",
        "two epochs of 8,000 images": "",
    },
)
