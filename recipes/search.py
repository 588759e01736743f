"""What does a search for a learning rate, a dropout and a width find in a handful of trials?

KerasTuner takes a function from hyperparameters to a compiled model, and one of its tuners decides
what to try. Five values each make 125 combinations, a whole grid of which is seldom worth its
price; and a grid that is cut short has walked along one edge: KerasTuner's changes the
hyperparameter that was declared last first, so eight trials here never leave the lowest rate. Each
tuner gets the budget of a few whole trials, and what it found is trained once more, from the same
random numbers as each trial, and scored on test images.

A handful of trials is luck: `search_replayed` asks which tuner is better, by many searches.

Answer         48.5 % of test images by eight random trials; 40.0 by a grid that was cut after eight.
In practice    Do not cut a grid short: all eight trials were of the lowest rate, and the best of
               them came to 40.0 %. Random search found 48.5 %, Bayesian optimization 47.6 %, and
               Hyperband, with 15 trials in as many epochs, 49.8 %: these three scatter by several
               points from one search to the next, and ten searches of each say nothing of their
               order. A range of rates that is wide enough to be sure of holding the good ones holds
               many bad ones: 32 % of the random trials stayed below 1.5 times chance. So look at
               where trials fail before you trust the best of a handful; a second search in a
               narrower range was not tried here.
Use it when    a training is cheap enough to be run ten times or more.
It hurts when  settings differ by less than seeds do: the best of many trials is then mostly luck.
Sources        Bergstra and Bengio 2012, JMLR 13; Snoek et al. 2012, arXiv:1206.2944; Li et al.
               2018, arXiv:1603.06560
"""

from dataclasses import dataclass

import keras
import keras_tuner as kt
from keras import layers, optimizers

from lab import Run
from lab.search.trials import ResumableGridSearch, TrialBoard
from pipelines import batches, sources

RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
DROPOUTS = (0.0, 0.15, 0.3, 0.45, 0.6)
WIDTHS = (8, 16, 32, 48, 64)


@dataclass(frozen=True)
class Config:
    trials: int = 8  # Hyperband gets as many epochs, in more and shorter trials.
    epochs: int = 4  # Of a whole trial.
    batch_size: int = 128


def build_model(hp: kt.HyperParameters, data: sources.Data) -> keras.Model:
    """Map images uint8 (batch, *data.shape) to logits float32 (batch, len(data.classes)), compiled."""
    rate = hp.Choice("rate", RATES)
    dropout = hp.Choice("dropout", DROPOUTS)
    width = hp.Choice("width", WIDTHS)
    rescale = layers.Rescaling(1 / 64, offset=-2)  # 0 to 255 becomes -2 to 2.
    model = keras.Sequential([keras.Input(data.shape, dtype="uint8"), rescale])
    model.add(layers.Conv2D(width, 3, strides=2, padding="same", activation="relu"))
    model.add(layers.MaxPooling2D())
    model.add(layers.Conv2D(2 * width, 3, padding="same", activation="relu"))
    model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dropout(dropout))
    model.add(layers.Dense(len(data.classes)))
    model.compile(
        optimizer=optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,  # Python looks in every 16 steps: a seventh faster.
    )
    return model


class Trial(kt.HyperModel):
    """Each trial begins with the same random numbers, and so does one after a search was killed."""

    def __init__(self, data: sources.Data, config: Config, seed: int):
        self.data, self.config, self.seed = data, config, seed

    def build(self, hp: kt.HyperParameters) -> keras.Model:
        keras.utils.set_random_seed(self.seed)
        return build_model(hp, self.data)

    def fit(
        self, hp: kt.HyperParameters, model: keras.Model, **settings
    ) -> keras.callbacks.History:
        feed = batches.training(
            self.data.train, self.config.batch_size, seed=self.seed, augment=True
        )
        # The feed shuffles, anew each epoch; without shuffle=False, Keras warns.
        validation = batches.evaluation(self.data.validation)
        return model.fit(feed, validation_data=validation, shuffle=False, **settings)


def make_tuner(variant: str, data: sources.Data, config: Config, seed: int, folder) -> kt.Tuner:
    """A tuner that keeps its trials in `folder`; where there are some already, it goes on there."""
    common = {
        "hypermodel": Trial(data, config, seed),
        "objective": "val_accuracy",
        "directory": folder,
        "project_name": "trials",
        # KerasTuner draws with seed, seed + 1, …, so neighbours would walk the same settings.
        "seed": 1000 * seed + 1,
        "max_consecutive_failed_trials": config.trials,
    }
    if variant == "grid":  # KerasTuner's own GridSearch can't go on after it was killed.
        return ResumableGridSearch(max_trials=config.trials, **common)
    if variant == "random":
        return kt.RandomSearch(max_trials=config.trials, **common)
    if variant == "bayesian":
        # By default it begins with nine random trials, and all would be random here.
        return kt.BayesianOptimization(max_trials=config.trials, num_initial_points=3, **common)
    # Brackets that begin with few epochs and go on with the better half: a round is some 30 epochs.
    rounds = max(1, config.trials * config.epochs // 30)
    return kt.Hyperband(max_epochs=config.epochs, factor=2, hyperband_iterations=rounds, **common)


def search(variant: str, data: sources.Data, config: Config, run: Run) -> kt.Tuner:
    """Try what the tuner says, and keep each trial's score."""
    folder = run.folder.with_name(f"{run.folder.name}-trials")  # It outlives a run that is killed.
    tuner = make_tuner(variant, data, config, run.seed, folder)
    callbacks = [TrialBoard(folder, tuner)] if run.logging else []
    tuner.search(epochs=config.epochs, callbacks=callbacks, verbose=0)
    return tuner


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    data = sources.load(run.data)
    tuner = search(variant, data, config, run)
    trials = tuner.oracle.trials.values()
    scores = [trial.score for trial in trials if trial.score is not None]
    doomed = sum(score < 1.5 / len(data.classes) for score in scores) / len(scores)
    run.keep("trial_score", scores)

    best = tuner.get_best_hyperparameters()[0]
    model = tuner.hypermodel.build(best)
    tuner.hypermodel.fit(
        best, model, epochs=config.epochs, callbacks=run.callbacks(data), verbose=0
    )
    found = {"best_trial": max(scores), "trials": float(len(scores)), "doomed": doomed}
    return run.scores(model, data) | found


if __name__ == "__main__":
    from lab import main

    main("search")
