"""Gates that send 10 to 90 % of the images down a deep path, against networks without a gate."""

import functools
import itertools
import math
from collections.abc import Mapping
from functools import partial

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from sklearn.metrics import roc_auc_score

from lab import Claim, Experiment, Objective, Points, Run, Tuning, Unit, half_decades
from pipelines import batches, sources
from recipes import subclassed_routing as recipe


class ByVariance(recipe.Routed):
    """Asks for the deep path by the variance of an image's features."""

    def score(self, features, logits):
        return ops.var(ops.cast(features, "float32"), axis=(1, 2, 3))


class ByChance(recipe.Routed):
    def __init__(self, *parts, **kwargs):
        super().__init__(*parts, **kwargs)
        self.draws = keras.random.SeedGenerator()

    def score(self, features, logits):
        return keras.random.uniform(ops.shape(features)[:1], seed=self.draws)


class WholeBatches(ByVariance):
    """`if variance < threshold:` for a whole batch, which in a graph must be `ops.cond`."""

    def score(self, features, logits):
        return ops.mean(super().score(features, logits), keepdims=True)

    def call(self, images, training=False):
        features = self.stem(images)
        deep = self.score(features, None)[0] >= self.threshold
        return ops.cond(deep, lambda: self.deep(features), lambda: self.shallow(features))


class Alone(keras.Sequential):
    """A model without a gate, which the recipe can train."""

    def calibrate(self, images_and_labels, share):
        pass


def build_alone(shape, classes, filters):
    routed = recipe.build_model(shape, classes, filters)
    return Alone([routed.stem, routed.deep])


# What is trained, and Adam's first learning rate that was best on validation images.
RATES = {"routed": 0.0032, "deep_alone": 0.0032, "static": 0.0032}
BUILD = {
    "routed": recipe.build_model,
    "deep_alone": partial(build_alone, filters=64),
    "static": partial(build_alone, filters=46),  # As many multiplications as sending half of the images deep.
}
SHARES = (10, 30, 50, 70, 90)  # Percent of the images that are sent deep.
GATES = {
    **{f"confidence_{share}": (recipe.Routed, share / 100) for share in SHARES},
    "variance_50": (ByVariance, 0.5),
    "random_50": (ByChance, 0.5),
    "batch_variance_50": (WholeBatches, 0.5),
}
PATHS = ("shallow", "deep")  # Of the routed model, for all images.
VARIANTS = (*PATHS, *GATES, "deep_alone", "static")


def trained(name, config, run, data):
    """One of the three trainings."""
    keras.utils.set_random_seed(run.seed)
    train_set = batches.training(data.train, config.batch_size, seed=run.seed)
    return recipe.train(
        train_set,
        batches.evaluation(data.validation),
        len(data.classes),
        rate=RATES[name] if config.rate is None else config.rate,
        epochs=config.epochs,
        build_model=BUILD[name],
        callbacks=run.callbacks(data, part=name),
    )


def models_for(variants, config, run, data):
    """Variant -> model. The gates and paths share the layers of one training."""
    needed = {name if name in BUILD else "routed" for name in variants}
    found = {name: trained(name, config, run, data) for name in BUILD if name in needed}
    routed, validation_set = found.pop("routed", None), batches.evaluation(data.validation, config.inference_batch)
    for name in variants:
        if name in PATHS:
            found[name] = keras.Sequential([routed.stem, getattr(routed, name)])
        elif name in GATES:
            gate, share = GATES[name]
            found[name] = gate(routed.stem, routed.shallow, routed.deep)
            found[name].calibrate(validation_set, share)
    return {name: found[name] for name in variants}


def asked(model, images):
    """How much each image, or each batch, asks for the deep path."""
    scores = []
    for part in images:
        features = model.stem(part)
        scores.append(ops.convert_to_numpy(model.score(features, model.shallow(features))))
    return np.concatenate(scores)


def multiplications(path):
    """Of one image, in the convolutions and the dense layers of a model."""
    kernels = [layer for layer in path._flatten_layers() if hasattr(layer, "kernel")]
    return sum(math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1]) for layer in kernels)


def work(model, scores):
    """Multiplications of an image on average, where those go deep whose score reaches the threshold."""
    if not isinstance(model, recipe.Routed):
        return float(multiplications(model))
    share = float(np.mean(scores >= ops.convert_to_numpy(model.threshold)))
    short = 1 - share if isinstance(model, WholeBatches) else 1  # Elsewhere all images take the short path first.
    stem, shallow, deep = map(multiplications, (model.stem, model.shallow, model.deep))
    return stem + short * shallow + share * deep


def compare(config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    models = models_for(tuple(runs), config, first, data)
    predict = {name: tf.function(model, autograph=False) for name, model in models.items()}

    def right(name, part):
        logits = [predict[name](tf.constant(images)) for images in part.chunks(config.inference_batch)]
        return np.concatenate(logits).argmax(axis=1) == part.labels

    validation = {name: float(right(name, data.validation).mean()) for name in models}
    test = first.open_test_set(data)
    images = [tf.constant(part) for part in test.chunks(config.inference_batch)]
    correct = {name: right(name, test) for name in models}
    found: dict[str, dict[str, float]] = {}
    for name, run in runs.items():
        run.correct = correct[name]
        scores = asked(models[name], images) if name in GATES else None
        found[name] = {"test_accuracy": float(correct[name].mean()), "validation_accuracy": validation[name]}
        found[name]["multiplications"] = work(models[name], scores)
        if scores is not None and len(scores) == len(test) and set(PATHS) <= set(correct):
            found[name] |= auc(correct["deep"], correct["shallow"], scores)
    if config.rounds:
        steps = {name: map(predict[name], itertools.cycle(images)).__next__ for name in models}
        # A block is a pass over the test images, after ten steps that are not counted.
        times = first.interleaved(steps, rounds=config.rounds, block=10 + len(images))
        for name, metrics in found.items():
            metrics["log_inference"] = float(np.log(times.step_seconds(name) * 1000))
    return found


def auc(deep: np.ndarray, shallow: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """How well a score tells the images that need the deep path: those that it alone gets right.

    `deep` and `shallow`, bool (n,), say which images each path gets right, and `scores`, float (n,), how much a gate
    asks for the deep path. Empty where all images need it or none does.
    """
    needed = deep & ~shallow
    return {"auc": float(roc_auc_score(needed, scores))} if len(np.unique(needed)) == 2 else {}


class Gate(layers.Layer):
    """The same choice as in `WholeBatches`, as a layer."""

    def __init__(self, routed, **kwargs):
        super().__init__(**kwargs)
        self.routed = routed

    def build(self, shape):
        """Its layers are built already."""

    def call(self, features):
        deep = self.routed.score(features, None)[0] >= self.routed.threshold
        return ops.cond(deep, lambda: self.routed.deep(features), lambda: self.routed.shallow(features))


@functools.cache
def functional_does_the_same():
    """Whether a Functional model around a layer with `ops.cond` answers as the subclass does, by either path."""
    built = recipe.build_model((16, 16, 3), 3, 8)
    subclass = WholeBatches(built.stem, built.shallow, built.deep)
    images = keras.Input((16, 16, 3))
    functional = keras.Model(images, Gate(subclass)(built.stem(images)))
    batch = np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3)).astype(np.float32)
    same, answers = [], []
    for threshold in (0.0, 1e9):  # The deep path, then the shallow one.
        subclass.threshold.assign(threshold)
        answers.append(functional.predict(batch, verbose=0))
        same.append(np.array_equal(answers[-1], subclass.predict(batch, verbose=0)))
    return all(same) and not np.allclose(*answers)


CLAIMS = [
    *(
        Claim(
            f"B8a_{share}",
            "Routing easy inputs down a shallow path keeps the deep path's accuracy: by confidence, with "
            f"{share} % of the images sent deep",
            source="ours",
            metric="test_accuracy",
            equal=(f"confidence_{share}", "deep_alone"),
            side="below",
        )
        for share in SHARES
    ),
    *(
        Claim(
            f"B8b_{share}",
            f"Sending {share} % of the images deep, by confidence, takes less time than the deep path for all, 40 "
            "images at a time",
            source="ours",
            metric="log_inference",
            lower=f"confidence_{share}",
            than="deep_alone",
        )
        for share in (50, 70, 90)
    ),
    Claim(
        "B8c",
        "Routing half of the images ends above a narrower network of as many multiplications for each image",
        source="ours",
        metric="test_accuracy",
        higher="confidence_50",
        than="static",
    ),
    Claim(
        "B8d",
        "Routing by confidence beats sending as many images deep at random",
        source="ours",
        metric="test_accuracy",
        higher="confidence_50",
        than="random_50",
    ),
    Claim(
        "B9a",
        "Activation variance tells easy inputs from hard ones: it orders images that need the deep path and others "
        "better than a random gate does",
        said="Activation variance tells easy inputs from hard ones",
        source="DL",
        metric="auc",
        higher="variance_50",
        than="random_50",
    ),
    Claim(
        "B9b",
        "Activation variance tells them apart as well as confidence does",
        source="ours",
        metric="auc",
        equal=("variance_50", "confidence_50"),
        side="below",
    ),
    Claim(
        "B9c",
        "Routing whole batches by their activation variance beats sending as many images deep at random",
        said="Activation variance tells easy inputs from hard ones",
        source="DL",
        metric="test_accuracy",
        higher="batch_variance_50",
        than="random_50",
    ),
    Claim(
        "B14",
        "Data-dependent paths are strictly impossible in the Functional API",
        said="Strictly impossible in the Functional API",
        source="DL",
        asserted=lambda: not functional_does_the_same(),
    ),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    compare=compare,
    answer="Not for free: it loses {test_accuracy.deep_alone - test_accuracy.confidence_30} when only the 30 % least "
    "confident images take the deep path. With half or more, a loss of a point is undecided. "
    "Activation variance routes no better than chance.",
    rests_on=("not B8a_30", "not B9a"),
    advice=[
        "**Try a narrower network first.** With as many multiplications as routing half of the images, it reaches "
        "{test_accuracy.static}. Routing reaches {test_accuracy.confidence_50}; which is better is undecided.",
        "**If you route, route by confidence.** With half of the images sent deep, that is worth "
        "{test_accuracy.confidence_50 - test_accuracy.random_50} against a random half.",
        "**Do not gate on the variance of activations.** It ranks {auc.variance_50} of image pairs correctly, and a "
        "coin would rank half of them.",
        "**Measure time, not multiplications.** Sending half of the images deep takes {multiplications.confidence_50 / "
        "multiplications.deep_alone} the multiplications of the deep path, but {log_inference.confidence_50 / "
        "log_inference.deep_alone} its time.",
    ],
    # Rounds of timing; a tuning trial has none.
    flags={"epochs": 5, "batch_size": 128, "rate": None, "inference_batch": 40, "rounds": 2},
    smoke={"epochs": 4, "batch_size": 64, "rounds": 1},
    least={"inference_batch": 1, "rounds": 0},
    tuning=Tuning(
        "rate",
        dict.fromkeys(("confidence_50", "deep_alone", "static"), half_decades(3.2e-4, 3.2e-2)),
        Objective("validation_accuracy"),
        fixed={"rounds": 0},
    ),
    units={
        "log_inference": Unit("time of 40 images", timed=True),
        "multiplications": Unit("multiplications an image", 1e-6, "millions"),
        "auc": Unit("pairs of images ranked correctly", 100, "points", 1),
    },
    panels=(
        Points(
            "multiplications",
            "test_accuracy",
            variants=("shallow", *(f"confidence_{share}" for share in SHARES), "random_50", "static", "deep_alone"),
        ),
    ),
)
