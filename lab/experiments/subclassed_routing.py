"""Gates that send some images down a deep path, against fixed networks."""

import itertools
import math
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from lab import Claim, Experiment, Points, Run, Unit
from pipelines import sources
from recipes import subclassed_routing as recipe

VARIANTS = (*recipe.GATES, "deep_alone", "static")


def multiplications(path: keras.Sequential) -> int:
    """Of one image, in the convolutions and the dense layers of a path."""
    kernels = [layer for layer in path.layers if hasattr(layer, "kernel")]
    return sum(math.prod(x.kernel.shape) * math.prod(x.output.shape[1:-1]) for x in kernels)


def work(model: recipe.Routed, images) -> float:
    """Multiplications of an image, on average, where some of the images are sent deep."""
    share = np.mean(recipe.asks(model, images) >= model.threshold)
    share = {"always_shallow": 0.0, "always_deep": 1.0}.get(model.gate, share)
    shallow = multiplications(model.shallow) * (model.gate != "always_deep")
    return multiplications(model.stem.layers[-1]) + shallow + share * multiplications(model.deep)


def trained_models(config: recipe.Config, run: Run, data: sources.Data) -> dict[str, recipe.Routed]:
    """Three trainings, and the first one's weights behind every gate."""
    found = {}
    for name, filters in {"both": 64, "deep_alone": 64, "static": 46}.items():
        keras.utils.set_random_seed(run.seed)
        gate = "random" if name == "both" else "always_deep"
        model = recipe.Routed(gate, data.shape, len(data.classes), filters)
        found[name] = recipe.train(model, data, config, run, part=name)
    both = found.pop("both")
    return {gate: recipe.with_gate(gate, both, data) for gate in recipe.GATES} | found


def compare(config: recipe.Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    """Give each gate the same weights, and time all in turn."""
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    models = trained_models(config, first, data)
    test = first.open_test_set(data)
    images = [tf.constant(part) for part in test.chunks(config.inference_batch)]

    steps, correct, metrics = {}, {}, {}
    for name, model in models.items():
        predict = tf.function(model)
        correct[name] = np.concatenate([predict(x) for x in images]).argmax(axis=1) == test.labels
        steps[name] = map(predict, itertools.cycle(images)).__next__
    # A block is a pass over the test images, after ten steps that are not counted.
    times = first.interleaved(steps, rounds=2, block=10 + len(images))

    for name, run in runs.items():
        run.correct = correct[name]
        metrics[name] = {"test_accuracy": float(correct[name].mean())}
        metrics[name]["time_log_ratio"] = times.log_ratio(name, "deep_alone")
        metrics[name]["work"] = float(work(models[name], test.images))
        asked = recipe.asks(models[name], test.images)
        metrics[name] |= auc(correct["always_deep"], correct["always_shallow"], asked)
    return metrics


def auc(deep: np.ndarray, shallow: np.ndarray, asked: np.ndarray) -> dict[str, float]:
    """How well a score tells the images that need the deep path: those that it alone gets right.

    `deep` and `shallow`, bool (n,), say which images each path gets right, and `asked`, float (n,), how much a gate
    asks for the deep path. Empty where all images need it or none does.
    """
    needed = deep & ~shallow
    return {"auc": float(roc_auc_score(needed, asked))} if len(np.unique(needed)) == 2 else {}


CLAIMS = [
    Claim(
        "B8a",
        "Routing easy images down a shallow path keeps the accuracy of the deep path, trained alone (half of them, by "
        "confidence)",
        said="Routing easy inputs down a shallow path keeps the deep path's accuracy at a fraction of its compute",
        source="DL",
        metric="test_accuracy",
        equal=("confidence", "deep_alone"),
        side="below",
    ),
    Claim(
        "B8b",
        "Sending half of the images deep, by confidence, takes less time than the deep path for all, 40 images at a "
        "time on a processor",
        said="Routing easy inputs down a shallow path keeps the deep path's accuracy at a fraction of its compute",
        source="DL",
        metric="time_log_ratio",
        lower="confidence",
        than="deep_alone",
    ),
    Claim(
        "B8c",
        "Routing half of the images ends above a narrower network of as many multiplications for each image",
        source="our question beside B8",
        metric="test_accuracy",
        higher="confidence",
        than="static",
    ),
    Claim(
        "B9a",
        "Activation variance tells images that need the deep path from others better than a random gate does",
        said="Activation variance tells easy inputs from hard ones",
        source="DL",
        metric="auc",
        higher="variance",
        than="random",
    ),
    Claim(
        "B9b",
        "Activation variance tells them apart as well as confidence does",
        said="Activation variance tells easy inputs from hard ones",
        source="DL",
        metric="auc",
        equal=("variance", "confidence"),
        side="below",
    ),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    compare=compare,
    space={"rate": (3e-4, 1e-3, 3e-3, 1e-2)},
    smoke={"epochs": 4, "batch_size": 64},
    least={"inference_batch": 1},
    units={
        "time_log_ratio": Unit("time against the deep path (natural logarithm)", timed=True),
        "work": Unit("multiplications an image", 1e-6, "millions"),
        "auc": Unit("pairs that the score puts in the right order", 100, "points", 1),
    },
    first_seed=101,
    panels=(Points("time_log_ratio", "test_accuracy"),),
    numbers={
        "deep: 0.87 times": "time_log_ratio: confidence / deep_alone",
        "loss of 1.8 points": "test_accuracy: deep_alone - confidence",
        "0.7 points above": "test_accuracy: static - confidence",
        "took 0.80 times": "time_log_ratio: static / deep_alone",
        "58.0 %": "test_accuracy: static",
        "took 0.87 times": "time_log_ratio: confidence / deep_alone",
        "57.3 %": "test_accuracy: confidence",
        "59.2 %": "test_accuracy: deep_alone",
        "52.1 %": "test_accuracy: always_shallow",
        "66.9 times": "auc: confidence",
        "49.1 times": "auc: variance",
        "(50.0)": "auc: random",
        "5.78 to": "work: deep_alone",
        "3.27 million": "work: confidence",
        "40 images": "",
    },
)
