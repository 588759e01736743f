"""Does a hidden layer help, side by side?

A toy with a model in the form of `compare`: one variant is trained by `fit`, the other by a loop of its own.
"""

import sys
from collections.abc import Mapping

import keras

from lab import Claim, Experiment, Run, main
from pipelines import batches, sources
from tests.toys import tiny
from tests.toys.tiny import VARIANTS, Config


def by_hand(variant: str, config: Config, run: Run, data: sources.Data) -> dict[str, float]:
    model = tiny.build_model(variant, data)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(config.rate), loss, metrics=["accuracy"])
    feed = batches.training(data.train, config.batch_size, seed=run.seed)
    validation = batches.evaluation(data.validation)
    callbacks = keras.callbacks.CallbackList(run.callbacks(data), model=model)
    callbacks.on_train_begin()
    for epoch in range(config.epochs):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_train_batch_begin(0)
        for images, labels in feed:
            found = model.train_on_batch(images, labels, return_dict=True)
        callbacks.on_train_batch_end(0, found)
        measured = model.evaluate(validation, verbose=0, return_dict=True)
        callbacks.on_epoch_end(epoch, found | {f"val_{name}": value for name, value in measured.items()})
    callbacks.on_train_end()
    return run.scores(model, data)


def compare(config: Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    data = sources.load(next(iter(runs.values())).data)
    trained = {"linear": tiny.train, "hidden": by_hand}
    return {name: trained[name](name, config, run, data) for name, run in runs.items()}


CLAIMS = [Claim("T2", "A hidden layer helps", "us", "test_accuracy", higher="hidden", than="linear")]
EXPERIMENT = Experiment(sys.modules[__name__], VARIANTS, CLAIMS, Config, compare=compare, first_seed=1)

if __name__ == "__main__":
    main("tests.toys.tiny_pair")
