"""What a run on images of the reader's own has to say before training: about few images, batches and mirrors."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from lab.evidence.schemas import Own
from lab.experiment import Experiment
from lab.settings import Settings
from lab.smallest_effects import SMALLEST
from pipelines import sources

ACCURACIES = ("test_accuracy", "strong_accuracy")
# A remark is made if the interval of an accuracy is wider than this many times the smallest effect that counts.
FEW = 3
BATCHES = 8  # The fewest batches in an epoch, unless a batch would then have fewer images than this.


def look(experiment: Experiment, settings: Settings, config: Any, data: sources.Data) -> tuple[Any, Own]:
    """The config, with a batch size and a number of images that fit, and what the evidence keeps of the images.

    New remarks are printed.
    """
    few = experiment.trains_on_batches and (config.images or 0) > len(data.train)
    if few and "images" in settings.fits:
        sources.say_once(f"There are {len(data.train):,} training images and not {config.images:,}, so all are used.")
        config = dataclasses.replace(config, images=None)
    fitting = fitted(experiment, settings, config, data)
    if fitting is not config:
        sources.say_once(_on_batches(experiment, settings, config, fitting, data))
    remarks = [_on_few(experiment, len(data.test)), _on_mirrors(experiment, settings, fitting, data.mirrored)]
    remarks = [remark for remark in remarks if remark]
    for remark in remarks:
        sources.say_once(f"Careful: {remark}")
    labels = data.test.labels.astype("<u2").tobytes()
    return fitting, Own(names=list(data.classes), labels=labels, remarks=[*data.remarks, *remarks], report=data.report)


def fitted(experiment: Experiment, settings: Settings, config: Any, data: sources.Data) -> Any:
    """The config with a smaller batch size, where none was given and the recipe's is too large for so few images."""
    usual, images = getattr(config, "batch_size", None), _images(experiment, settings, config, data)
    if "batch_size" not in settings.fits or not usual:
        return config
    fits = min(usual, _power_of_two(images), max(BATCHES, _power_of_two(images // BATCHES)))
    return config if fits == usual else dataclasses.replace(config, batch_size=fits)


def _images(experiment: Experiment, settings: Settings, config: Any, data: sources.Data) -> int:
    """How many images the variant with the fewest trains on."""
    if not experiment.trains_on_batches:
        return len(data.train)
    asked = [experiment.config_of(variant, config).images for variant in settings.variants]
    return min(len(data.train), *(images or len(data.train) for images in asked))


def _power_of_two(number: int) -> int:
    """The largest one that is no larger; 1 for 0."""
    return 2 ** max(0, number.bit_length() - 1)


def _on_batches(experiment: Experiment, settings: Settings, config: Any, fitting: Any, data: sources.Data) -> str:
    size, images = fitting.batch_size, _images(experiment, settings, config, data)
    own = [name for name in settings.variants if "batch_size" in experiment.own_flags.get(name, {})]
    also = f" The same size is used for {_listed(own)}." if own else ""
    return (
        f"{images:,} training images are few for batches of {config.batch_size:,}, so a batch has {size:,}. Choose "
        f"another size with --batch-size.{also}"
    )


def _on_few(experiment: Experiment, images: int) -> str:
    """What an accuracy on so few test images can't tell, at worst, where that is much more than what counts."""
    deltas = [claim.delta for claim in experiment.claims if claim.metric in ACCURACIES]
    half, counts = 0.98 / images**0.5, min(deltas, default=SMALLEST[ACCURACIES[0]][0])
    if not deltas or half <= FEW * counts:
        return ""
    least = f"{100 * counts:g} point{'' if counts == 0.01 else 's'}"
    return (
        f"With {images:,} test images, an accuracy is known to within ±{100 * half:.{0 if half >= 0.1 else 1}f} points "
        f"(95 %). Differences of {least}, the least that count here, can't be seen with so few."
    )


def _on_mirrors(experiment: Experiment, settings: Settings, config: Any, mirrored: str) -> str:
    """The warning about mirrored classes with what to do, unless no variant mirrors images."""
    if not mirrored:
        return ""
    if not hasattr(config, "flip"):
        return f"{mirrored} {experiment.name} may mirror training images, and has no --flip no to prevent it."
    if any(experiment.config_of(name, config).flip == "yes" for name in settings.variants):
        return f"{mirrored} Training images are mirrored here: add --flip no."
    # Layers that mirror are what some variants are about.
    own = [name for name in settings.variants if '"mirror": true' in json.dumps(experiment.settings(name))]
    if len(own) == 1:
        return f"{mirrored} {own[0]} mirrors training images: leave it out."
    return f"{mirrored} {_listed(own)} mirror training images: leave them out." if own else ""


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
