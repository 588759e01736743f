"""Regularizers and what early stopping keeps, with 1,000 training images."""

from functools import partial

import keras
import numpy as np

from lab import Bars, Claim, Experiment, Lines, Objective, Tuning, Unit, half_decades
from recipes import regularization as recipe

MOST = {"dropout": 0.9, "label_smoothing": 0.9, "translate": 0.3, "cutout": 0.8}


def with_strength(
    train_set, validation_set, classes, technique, value, *, strength=1.0, rate=1e-3, epochs=30, also=(),
    build_model=recipe.build_model, callbacks=(),
):  # fmt: skip
    """The recipe's training with one technique at `strength` times its value, and with what it also has.

    Of an average it is the number of steps that is multiplied.
    """
    chosen = min(strength * value, MOST.get(technique, float("inf")))
    if technique == "average":
        chosen = 1 - (1 - value) / strength
    return recipe.train(
        train_set, validation_set, classes, **{technique: chosen}, **dict(also),
        rate=rate, epochs=epochs, build_model=build_model, callbacks=callbacks,
    )  # fmt: skip


# What `tune` begins with: each technique's value at strength 1.
VALUES = {
    "dropout": 0.5,
    "l2": 0.0001,
    "l1": 5.6e-05,
    "weight_decay": 0.1,
    "label_smoothing": 0.05,
    "average": 0.97,
    "translate": 0.1,
    "cutout": 0.2,
}
# The strength of each technique that is not 1, and Adam's rate, chosen on validation images.
STRENGTHS = {"weight_decay": 3.0, "label_smoothing": 3.0, "average": 3.0, "cutout": 0.3}
RATES = {
    "none": 0.0018,
    "dropout": 0.001,
    "l2": 0.0032,
    "l1": 0.001,
    "weight_decay": 0.0032,
    "label_smoothing": 0.001,
    "averaged": 0.001,
    "augmentation": 0.001,
    "with_cutout": 0.001,
}
NAMES = {"average": "averaged", "translate": "augmentation", "cutout": "with_cutout"}  # The others' are their own.
ALSO = {"translate": {"mirror": True}, "cutout": {"mirror": True, "translate": VALUES["translate"]}}
OWN_MODEL = {"build_model": recipe.build_model}  # Another one has no such technique.
INSIDE = dict.fromkeys(("dropout", "l1", "l2"), OWN_MODEL)
TECHNIQUES = {
    NAMES.get(name, name): partial(
        with_strength, technique=name, value=value, strength=STRENGTHS.get(name, 1.0), also=ALSO.get(name, {}),
        rate=RATES[NAMES.get(name, name)],
        **INSIDE.get(name, {}),
    )
    for name, value in VALUES.items()
}  # fmt: skip
NONE = partial(recipe.train, rate=RATES["none"])
# The epoch whose weights are kept: early stopping with two patiences, and the best of all 30 epochs.
KEPT = {
    "first_rise": partial(NONE, stop_on="val_loss", patience=1),
    "early_stopping": partial(NONE, stop_on="val_loss", patience=5),
    "best_loss": partial(NONE, stop_on="val_loss", patience=30),
    "best_accuracy": partial(NONE, stop_on="val_accuracy", patience=30),
}
VARIANTS = {"none": NONE, **TECHNIQUES, "by_tf_data": partial(recipe.train, rate=RATES["augmentation"]), **KEPT}


def decayed(adaptive: bool, in_the_loss: bool, rate=0.1, penalty=0.05, steps=20) -> float:
    """One weight after some steps on (w - 1)², with a penalty · w² in the loss or the same decay beside it."""
    weight, first, second = 3.0, 0.0, 0.0
    for step in range(1, steps + 1):
        gradient = 2 * (weight - 1) + (2 * penalty * weight if in_the_loss else 0.0)
        if adaptive:  # Adam.
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            gradient = first / (1 - 0.9**step) / ((second / (1 - 0.999**step)) ** 0.5 + 1e-7)
        weight -= rate * (gradient + (0.0 if in_the_loss else 2 * penalty * weight))
    return weight


CLAIMS = [
    Claim(
        "G1a", "Dropout narrows the train-test gap on a small training set", source="TF, DL",
        metric="generalization_gap", lower="dropout", than="none",
    ),
    Claim(
        "G1b", "Dropout raises test accuracy on a small training set", source="TF, DL",
        metric="test_accuracy", higher="dropout", than="none",
    ),
    Claim(
        "G2a", "L2 keeps weights small", source="DL", metric="weight_norm", lower="l2", than="none", check=True,
    ),
    Claim(
        "G2b", "L1 drives weights to exactly zero", source="DL",
        metric="exactly_zero", higher="l1", than="none", exact=True,
    ),
    Claim(
        "G2c", "L1 drives weights to near zero", source="ours, on TF's and DL's advice",
        metric="near_zero", higher="l1", than="none",
    ),
    Claim(
        "G2d", "L1 drives more weights to near zero than L2", source="ours, on TF's and DL's advice",
        metric="near_zero", higher="l1", than="l2",
    ),
    Claim(
        "G3a", "Early stopping at the first rise of the validation loss ends at or above the last epoch",
        said="Stop at the first rise of the validation loss, and restore the weights", source="DL",
        metric="test_accuracy", equal=("first_rise", "none"), side="below",
    ),
    Claim(
        "G3b", "Early stopping with a patience of five epochs ends at or above the last epoch", source="ours",
        metric="test_accuracy", equal=("early_stopping", "none"), side="below",
    ),
    Claim(
        "G3c", "Early stopping ends before the last planned epoch", source="DL",
        metric="epochs", lower=("first_rise", "early_stopping"), than="none", check=True,
    ),
    Claim(
        "G4", "Augmentation beats every weight penalty on images", source="DL",
        metric="test_accuracy", higher="augmentation", than=("l2", "l1", "weight_decay"),
    ),
    Claim(
        "G4c", "Augmentation raises test accuracy", source="DL",
        metric="test_accuracy", higher="augmentation", than="none", family="augmentation alone", strong="B5",
    ),
    Claim(
        "G4b", "Keras's layers, which shift by parts of a pixel, augment as well as shifts by whole pixels in tf.data",
        source="ours",
        metric="test_accuracy", equal=("augmentation", "by_tf_data"),
    ),
    Claim(
        "G5a", "While the validation loss rises and the training loss falls, the gap in accuracy widens",
        said="A rising validation loss while training loss falls marks overfitting", source="TF, DL",
        metric="generalization_gap", higher="none", than="best_loss",
    ),
    Claim(
        "G5b", "The weights of the lowest validation loss do as well on test images as those of the best accuracy",
        source="ours", metric="test_accuracy", equal=("best_loss", "best_accuracy"), side="below",
    ),
    Claim(
        "G16a", "Under plain SGD, L2 in the loss is weight decay", source="DL",
        asserted=abs(decayed(False, True) - decayed(False, False)) < 1e-12,
    ),
    Claim(
        "G16b", "Under Adam, L2 in the loss is not weight decay", source="DL",
        asserted=abs(decayed(True, True) - decayed(True, False)) > 1e-3,
    ),
    Claim(
        "P7", "The checkpoint with the best validation accuracy beats the last one", source="TP",
        metric="test_accuracy", higher="best_accuracy", than="none",
    ),
    Claim(
        "Q11", "Label smoothing raises accuracy", source="Composer's card",
        metric="test_accuracy", higher="label_smoothing", than="none", strong="B9",
    ),
    Claim(
        "Q12", "Cutout adds little on top of augmentation", said="Cutout adds little on a well-tuned baseline",
        source="Composer's card", metric="test_accuracy", equal=("with_cutout", "augmentation"), side="above",
        strong="B7",
    ),
    Claim(
        "Q13a", "An exponential moving average of the weights raises accuracy", source="Composer's card",
        metric="test_accuracy", higher="averaged", than="none", strong="B12",
    ),
]  # fmt: skip


def weights_and_epochs(model, run, data):
    """How large the kernels are, and how many of their weights are zero or nearly so: a fiftieth of a typical one."""
    kernels = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_variables if len(weight.shape) > 1]
    size = np.abs(np.concatenate([kernel.ravel() for kernel in kernels]))
    run.keep("gap", np.subtract(*(np.array(run.curves[name], float) for name in ("accuracy", "val_accuracy"))))
    metrics = {
        "weight_norm": float(np.linalg.norm(size)),
        "near_zero": float(np.mean(size < 0.001)),
        "exactly_zero": float(np.mean(size == 0)),
        "epochs": float(len(run.curves["loss"])),
    }
    stop_on = run.bound.keywords.get("stop_on")
    if stop_on and not run.diverged:  # The validation accuracy is that of the weights that were put back.
        watched = np.array(run.curves[stop_on], float)
        kept = watched.argmin() if stop_on == "val_loss" else watched.argmax()
        metrics["validation_accuracy"] = run.curves["val_accuracy"][kept]
    return metrics


SHOWN = ("none", "dropout", "weight_decay", "augmentation", "with_cutout", "averaged")
EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    flags={"images": 1000, "batch_size": 50},
    own_flags={"by_tf_data": {"flip": "yes", "shift": 3}},
    extra=weights_and_epochs,
    smoke={"images": 500, "epochs": 5, "batch_size": 25},
    full={"images": None, "epochs": 20, "batch_size": 128},
    least={"images": 50},
    left_out=("by_tf_data", "first_rise", "best_loss"),
    tuning=Tuning(
        "rate",
        dict.fromkeys(RATES, half_decades(1e-4, 1e-2)),
        Objective("validation_accuracy"),
        second=dict.fromkeys(TECHNIQUES, ("strength", (0.3, 3.0))),
        fixed={"strength": 1.0},
        found=(),
    ),
    units={
        "epochs": Unit("epochs trained", digits=1),
        "weight_norm": Unit("norm of all kernels", digits=1),
        "near_zero": Unit("weights below 0.001", 100, "points", 1),
        "exactly_zero": Unit("weights that are zero", 100, "points", 1),
        "gap": Unit("training minus validation accuracy", 100, "points"),
        "val_loss": Unit("validation loss"),
    },
    panels=(
        Bars("test_accuracy", over="none"),
        Lines("val_loss", variants=SHOWN),
    ),
    answer="Mirror and shift the images. With 1,000 of them that gains "
    "{test_accuracy.augmentation - test_accuracy.none}, and every weight penalty ends below it. Dropout gains "
    "{test_accuracy.dropout - test_accuracy.none}.",
    rests_on=("G4c", "G4", "G1b"),
    about={
        "RandomFlip": ("G4", "G4b", "G4c"),
        "RandomTranslation": ("G4", "G4b", "G4c"),
        "RandomErasing": ("Q12",),
        "CategoricalCrossentropy": ("Q11",),
        "label_smoothing=": ("Q11",),
        "SwapEMAWeights": ("Q13a",),
        "use_ema=": ("Q13a",),
        "L1L2": ("G2a", "G2b", "G2c", "G2d"),
        "weight_decay=": ("G4",),
    },
    advice=[
        "**Augment first.** Mirroring and shifting took test accuracy from {test_accuracy.none} to "
        "{test_accuracy.augmentation}.",
        "**Try dropout.** Alone it gained {test_accuracy.dropout - test_accuracy.none}. On top of augmentation it was "
        "not measured.",
        "**Choose the checkpoint by the metric that you care about.** The weights of the lowest validation loss end "
        "{test_accuracy.best_accuracy - test_accuracy.best_loss} below those of the best validation accuracy.",
        "**Do not stop early to gain accuracy.** Stopping at the first rise of the validation loss ends "
        "{test_accuracy.none - test_accuracy.first_rise} below the last epoch, and with a patience of five epochs "
        "{test_accuracy.none - test_accuracy.early_stopping} below it.",
        "**Do not expect zeros from L1.** {exactly_zero.l1} of the weights are exactly zero. To prune, set small ones "
        "to zero yourself.",
    ],
)
