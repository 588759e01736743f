"""What a strong training owes to each of its parts, and whether others would add to it.

All of CIFAR-10. Trials of the tuning hold 5,000 images out; the trainings that count use all 50,000.
"""

import dataclasses
from functools import partial

import keras
import numpy as np
from keras import layers, ops, optimizers, regularizers

from lab import Bars, Claim, Experiment, Objective, Tuning
from pipelines import batches, sources
from recipes import strong_baseline as recipe
from recipes.schedules import build_rate

EPOCHS = 5
DECAY = 0.2  # The baseline's, where a variant has another second setting.


def on_all_images(variant, config, run):
    """Train on the run's images, those for validation included unless they are held out, and score the model."""
    config = EXPERIMENT.config_of(variant, config)
    data = sources.load(run.data)
    if not config.held_out:
        data = dataclasses.replace(data, train=joined(data.train, data.validation))
    if config.images is not None:
        few = np.random.default_rng(run.seed).permutation(len(data.train))[: config.images]
        data = dataclasses.replace(data, train=data.train.take(few))
    train_set = batches.training(data.train, config.batch_size, seed=run.seed, augment=False)
    validation_set = batches.evaluation(data.validation) if config.held_out else None
    model = run.bound(train_set, validation_set, len(data.classes), callbacks=run.callbacks(data))
    metrics = run.scores(model, data)
    return {**metrics, "strong_accuracy": metrics["test_accuracy"]}


def joined(part, other):
    """Two parts of the images as one."""
    both = zip((part.images[:], part.labels, part.ids), (other.images[:], other.labels, other.ids), strict=True)
    return sources.Split(*map(np.concatenate, both))


def train_with(
    train_set, validation_set, classes, change, *, strength=1.0, rate=0.02, decay=DECAY, epochs=EPOCHS,
    build_model=recipe.build_model, callbacks=(),
):  # fmt: skip
    """The recipe's training with the arguments in which `change` says that it differs."""
    how = {"rate": rate, "decay": decay, "epochs": epochs, "build_model": build_model, "callbacks": callbacks}
    how |= change(strength=strength, steps=epochs * len(train_set), classes=classes, **how)
    prepare = how.pop("prepare", None)
    if prepare is not None:
        train_set = train_set.map(prepare[0])
        validation_set = validation_set.map(prepare[1]) if validation_set else None
    return recipe.train(train_set, validation_set, classes, **how)


# The changes. Of most the strength is tuned, of the others the decay.


def adamw(rate, decay, steps, **_):
    return {"optimizer": optimizers.AdamW(line(rate, steps), weight_decay=decay)}


def nesterov(rate, decay, steps, **_):
    rates = line(rate, steps)
    return {"optimizer": optimizers.SGD(rates, momentum=0.9, nesterov=True, weight_decay=decay)}


def constant(rate, decay, **_):
    return {"optimizer": muon(rate, decay)}


def exponential(strength, rate, decay, steps, **_):
    """From the first step on, to a share of the peak at the last one."""
    return {"optimizer": muon(build_rate("exponential", rate, steps, factor=strength), decay)}


def averaged(strength, rate, decay, steps, callbacks, **_):
    """A moving average of the weights, over that share of the steps, takes their place."""
    optimizer = muon(line(rate, steps), decay, use_ema=True, ema_momentum=1 - 1 / (1 + strength * steps))
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    return {"optimizer": optimizer, "callbacks": [swap, *callbacks]}


def line(rate, steps):
    """The baseline's schedule."""
    return build_rate("linear", rate, steps, warmup=0.2)


def muon(schedule, decay, **how):
    """The baseline's optimizer."""
    decays = {"weight_decay": decay, "adam_weight_decay": decay}
    return recipe.GramMuon(schedule, momentum=0.9, exclude_layers=["head"], **decays, **how)


def cutout(strength, **_):
    """A gray rectangle covers a share of each image's area, at a random place."""
    erased = {"scale": (strength, strength), "fill_value": 128, "dtype": "float32"}
    return {"more_augmentation": [layers.RandomErasing((1.0, 1.0), **erased)]}


def mixup(strength, classes, **_):
    """Each image is a weighted mean of two, and its label one of theirs. The weight is of a Beta distribution."""
    mixing = layers.MixUp(alpha=strength, data_format="channels_last")

    def mixed(images, labels):
        found = mixing({"images": images, "labels": ops.one_hot(labels, classes)}, training=True)
        return found["images"], found["labels"]

    def as_shares(images, labels):
        return images, ops.one_hot(labels, classes)

    return {"prepare": (mixed, as_shares), "loss": keras.losses.CategoricalCrossentropy}


def dropout(strength, build_model, **_):
    """Before the last layer."""

    def with_dropout(shape, classes):
        net = build_model(shape, classes)
        last = net.layers[-1]
        return keras.Model(net.inputs, last(layers.Dropout(strength)(last.input)))

    return {"build_model": with_dropout}


def l2(strength, build_model, **_):
    """A penalty in the loss on all that the weight decay would be of, which it takes the place of."""

    def with_penalty(shape, classes):
        net = build_model(shape, classes)
        for weight in net.trainable_variables:
            weight.regularizer = regularizers.L2(strength)
        return net

    return {"build_model": with_penalty, "decay": 0.0}


def layer_norm(**_):
    """In the place of BatchNorm, whose settings it has no use for."""
    return layers.LayerNormalization()


CHANGED: dict[str, dict] = {
    "baseline": {},
    "no_augmentation": {"mirror": False, "shift": 0},
    "no_flips": {"mirror": False},
    "no_smoothing": {"smoothing": 0.0},
    "no_decay": {"decay": 0.0},
    "layer_norm": {"build_model": partial(recipe.build_model, normalization=layer_norm)},
    "silu": {"build_model": partial(recipe.build_model, activation="silu")},
    "half_of_the_images": {"epochs": 2 * EPOCHS},
    "batch_1024": {},
}
CHANGES = {
    "adamw": adamw,
    "nesterov": nesterov,
    "constant": constant,
    "exponential": exponential,
    "averaged": averaged,
    "cutout": cutout,
    "mixup": mixup,
    "dropout": dropout,
    "l2": l2,
}
# Where the tuning began, or began again where the best value lay at an edge: a rate, which is halved and doubled, and
# what else is tuned, with the value that all rates are tried with. Then a quarter of that value and four times it are
# tried, unless TRIED says otherwise.
BEGIN: dict[str, tuple] = dict.fromkeys(CHANGED, (0.02, "decay", DECAY)) | {
    "batch_1024": (0.08, "decay", DECAY),
    "no_augmentation": (0.04, "decay", DECAY),
    "no_decay": (0.04,),
    "adamw": (0.016, "decay", 0.05),
    "nesterov": (0.2, "decay", 0.02),
    "constant": (0.01, "decay", 0.0125),
    "exponential": (0.02, "strength", 0.1),
    "averaged": (0.01, "strength", 0.03),
    "cutout": (0.01, "strength", 0.015),
    "mixup": (0.02, "strength", 0.05),
    "layer_norm": (0.01, "decay", 0.05),
    "silu": (0.02, "decay", 0.05),
    "dropout": (0.02, "strength", 0.025),
    "l2": (0.01, "strength", 1e-4),
}
TRIED = {"exponential": (0.3, 0.03), "averaged": (0.01, 0.1)}
STEPS = {"no_decay": (-1, -0.5, 0, 0.5, 1)}  # Nothing else is tuned, so that there are more rates: five trials, as all.
GRIDS = {
    name: tuple(round(begin[0] * 2**step, 4) for step in STEPS.get(name, (-1, 0, 1))) for name, begin in BEGIN.items()
}
SECOND = {name: begin[1:] for name, begin in BEGIN.items() if begin[1:]}
# By validation accuracy.
CHOSEN: dict[str, dict[str, float]] = {
    "baseline": {"rate": 0.02, "decay": 0.2},
    "adamw": {"rate": 0.016, "decay": 0.05},
    "nesterov": {"rate": 0.1, "decay": 0.02},
    "constant": {"rate": 0.01, "decay": 0.003125},
    "exponential": {"rate": 0.02, "strength": 0.1},
    "no_augmentation": {"rate": 0.04, "decay": 0.2},
    "no_flips": {"rate": 0.02, "decay": 0.2},
    "cutout": {"rate": 0.02, "strength": 0.015},
    "mixup": {"rate": 0.02, "strength": 0.05},
    "no_smoothing": {"rate": 0.02, "decay": 0.2},
    "no_decay": {"rate": 0.04},
    "averaged": {"rate": 0.02, "strength": 0.03},
    "dropout": {"rate": 0.01, "strength": 0.00625},
    "l2": {"rate": 0.01, "strength": 0.0001},
    "layer_norm": {"rate": 0.01, "decay": 0.05},
    "silu": {"rate": 0.02, "decay": 0.05},
    "half_of_the_images": {"rate": 0.02, "decay": 0.2},
    "batch_1024": {"rate": 0.08, "decay": 0.2},
}

UNTUNED = {name: partial(recipe.train, **changed) for name, changed in CHANGED.items()} | {
    name: partial(train_with, change=change) for name, change in CHANGES.items()
}
BOUND = {name: {"rate": begin[0], **dict([begin[1:]] if begin[1:] else [])} for name, begin in BEGIN.items()}
VARIANTS = {name: partial(UNTUNED[name], **bound | CHOSEN.get(name, {})) for name, bound in BOUND.items()}


claim = partial(Claim, metric="strong_accuracy")
CLAIMS = [
    claim("B1", "Muon beats AdamW", source="Jordan 2024", higher="baseline", than="adamw"),
    claim("B2", "Muon beats SGD with Nesterov momentum", source="Jordan 2024", higher="baseline", than="nesterov"),
    claim(
        "B3",
        "A warm-up and linear decay to zero beat a constant rate",
        source="TF, DL, TP",
        higher="baseline",
        than="constant",
    ),
    claim("B4", "Exponential decay beats a constant rate", source="TF", higher="exponential", than="constant"),
    claim(
        "B5",
        "Mirroring and shifting images, and averaging the answers for mirror images, raise accuracy",
        source="DL",
        said="Augmentation raises accuracy",
        higher="baseline",
        than="no_augmentation",
    ),
    claim(
        "B6",
        "Mirroring, at training and at evaluation, raises accuracy",
        source="Jordan 2024",
        higher="baseline",
        than="no_flips",
    ),
    claim("B7", "Cutout adds little", source="Composer's card", equal=("cutout", "baseline"), side="above"),
    claim("B8", "Mixup raises accuracy", source="Composer's card", higher="mixup", than="baseline"),
    claim(
        "B9",
        "Label smoothing of 0.2 raises accuracy",
        said="Label smoothing raises accuracy",
        source="Composer's card",
        higher="baseline",
        than="no_smoothing",
    ),
    claim("B10", "Weight decay raises accuracy", source="DL", higher="baseline", than="no_decay"),
    claim("B11", "With Muon, weight decay beats L2 in the loss", source="ours", higher="baseline", than="l2"),
    claim(
        "B12",
        "An average of the weights raises accuracy, where the rate falls to zero",
        said="Averaged weights raise accuracy",
        source="Composer's card",
        higher="averaged",
        than="baseline",
    ),
    claim("B13", "Dropout raises accuracy", source="TF, DL", higher="dropout", than="baseline"),
    claim("B14", "BatchNorm beats LayerNorm in a convnet", source="ours", higher="baseline", than="layer_norm"),
    claim("B15", "SiLU beats ReLU after as many epochs", source="arXiv:1710.05941", higher="silu", than="baseline"),
    claim(
        "B16",
        "In as many steps, twice the images beat twice the epochs",
        "ours",
        higher="baseline",
        than="half_of_the_images",
    ),
    claim(
        "B17",
        "Batches of 250 beat batches of 1,024 in as many epochs",
        source="ours",
        higher="baseline",
        than="batch_1024",
    ),
    claim(
        "B18",
        "Leaving out weight decay costs less than leaving out mirroring and shifts",
        source="ours, on DL's advice",
        higher="no_decay",
        than="no_augmentation",
    ),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    train=on_all_images,
    claims=CLAIMS,
    images="full",
    flags={"batch_size": 250, "images": None, "held_out": 0},
    own_flags={"half_of_the_images": {"images": 25_000}, "batch_1024": {"batch_size": 1024}},
    smoke={"images": 1_500, "epochs": 3, "batch_size": 50},
    floor="strong_accuracy",
    left_out=[name for name in VARIANTS if name not in ("baseline", "adamw", "no_augmentation")],
    tuning=Tuning(
        "rate",
        GRIDS,
        Objective("validation_accuracy"),
        second={name: (what, TRIED.get(name, (value / 4, 4 * value))) for name, (what, value) in SECOND.items()},
        fixed={"held_out": 1},
        own_fixed={name: {what: value} for name, (what, value) in SECOND.items()},
        found=(),
        finalists=0,
        final_seeds=(),
        finer=False,
        widenings=0,
    ),
    panels=(Bars("strong_accuracy", over="baseline"),),
    answer="{strong_accuracy.baseline} after five epochs. It owes most to a rate that falls to zero "
    "({strong_accuracy.baseline - strong_accuracy.constant}), to Muon "
    "({strong_accuracy.baseline - strong_accuracy.adamw} above AdamW) and to augmentation "
    "({strong_accuracy.baseline - strong_accuracy.no_augmentation}).",
    rests_on=("B1", "B3", "B5"),
    about={
        "Muon": ("B1", "B2"),
        "AdamW": ("B1",),
        "BatchNormalization": ("B14",),
        "LayerNormalization": ("B14",),
        "RandomFlip": ("B5", "B6"),
        "RandomTranslation": ("B5",),
        "RandomErasing": ("B7",),
        "MixUp": ("B8",),
        "Dropout": ("B13",),
        "label_smoothing=": ("B9",),
        "weight_decay=": ("B10", "B11", "B18"),
        "use_ema=": ("B12",),
        "SwapEMAWeights": ("B12",),
    },
    advice=[
        "**Warm up, and then let the rate fall to zero.** A constant rate ends "
        "{strong_accuracy.baseline - strong_accuracy.constant} lower, and exponential decay "
        "{strong_accuracy.baseline - strong_accuracy.exponential}.",
        "**Train with Muon.** SGD with Nesterov momentum ends {strong_accuracy.baseline - strong_accuracy.nesterov} "
        "lower, after the same number of steps.",
        "**Mirror images, in training and at prediction.** Without mirroring it ends "
        "{strong_accuracy.baseline - strong_accuracy.no_flips} lower.",
        "**Do not expect more from cutout, mixup or dropout in five epochs.** Tuning turned each of them nearly off.",
        "**Tune again if you change a part.** Here each variant had 5 to 11 trials of its rate and one more setting, "
        "at one seed. All other settings were chosen for Muon, ReLU and BatchNorm.",
    ],
    first_seed=501,
)
