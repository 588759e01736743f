"""A run of a recipe's `train`: batches of the run's images in, a model out, its scores."""

import dataclasses
from typing import Any

import numpy as np

from lab.core.run import Run
from pipelines import batches, sources


def on_batches(experiment: Any, variant: str, config: Any, run: Run) -> dict[str, float]:
    """Train a variant of an `Experiment` of partial functions as a reader would, and return what its model is worth.

    With `config.images`, it trains on so many of the images, others at each seed.
    """
    config = experiment.config_of(variant, config)
    data = some_of(sources.load(run.data), config.images, run.seed)
    train_set = batches.training(
        data.train, config.batch_size, seed=run.seed, shift=config.shift, flip=config.flip == "yes"
    )
    validation_set = batches.evaluation(data.validation)
    several: dict[str, Any] = {}
    if experiment.prepare is not None:
        several = {"prepare": experiment.prepare, "output": experiment.output}
        train_set, validation_set = train_set.map(experiment.prepare), validation_set.map(experiment.prepare)
    callbacks = run.callbacks(data, **several)
    if experiment.callbacks is not None:
        callbacks += experiment.callbacks(run, data)
    model = run.bound(train_set, validation_set, len(data.classes), callbacks=callbacks)
    metrics = run.scores(model, data, **several)
    if experiment.extra is not None:
        metrics |= experiment.extra(model, run, data)
    return metrics


def some_of(data: sources.Data, images: int | None, seed: int) -> sources.Data:
    """The data with so many of the training images, drawn by the seed; None leaves them all."""
    if images is None or images >= len(data.train):
        return data
    few = np.random.default_rng(seed).permutation(len(data.train))[:images]
    return dataclasses.replace(data, train=data.train.take(few))
