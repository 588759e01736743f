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

import hashlib
import inspect
import os
from dataclasses import dataclass
from pathlib import Path

import keras
import keras_tuner as kt
from keras import layers, optimizers

from lab import Run
from lab.search.kills import check_files
from pipelines import batches, sources

RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
DROPOUTS = (0.0, 0.15, 0.3, 0.45, 0.6)
WIDTHS = (8, 16, 32, 48, 64)
OBJECTIVE = "val_accuracy"  # Of Keras's own metrics KerasTuner knows which way is better.


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
    # Rescaling: 0 to 255 becomes -2 to 2.
    model = keras.Sequential([keras.Input(data.shape, dtype="uint8"), layers.Rescaling(1 / 64, -2)])
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

    def fit(self, hp: kt.HyperParameters, model: keras.Model, **settings):
        size = self.config.batch_size
        feed = batches.training(self.data.train, size, seed=self.seed, augment=True)
        # Hyperband chooses how long a trial is. In any other search it is the config, which the
        # project is named after.
        settings["epochs"] = hp.values.get("tuner/epochs", self.config.epochs)
        validation = batches.evaluation(self.data.validation)
        # The feed shuffles, anew each epoch; without shuffle=False, Keras warns.
        return model.fit(feed, validation_data=validation, shuffle=False, **settings)


class ResumableGridSearch(kt.GridSearch):
    """KerasTuner 1.4.8 forgets the order of a grid's trials when it loads them again, and fails."""

    def reload(self) -> None:
        super().reload()
        for trial in self.oracle.start_order:
            self.oracle._ordered_ids.insert(trial)
        self.oracle._populate_next = list(self.oracle.start_order)


def project_name(variant: str, data: sources.Data, config: Config, seed: int) -> str:
    """A name that changes with everything that a trial's score depends on.

    KerasTuner goes on with the trials that it finds under a name, whatever they were trained on.
    """
    search = (variant, config, seed, OBJECTIVE, RATES, DROPOUTS, WIDTHS, data.digest)
    code = inspect.getsource(build_model) + inspect.getsource(Trial)
    # A chief can't go on with what a tuner alone has begun, nor the other way round.
    whole = repr((search, data.train.ids.tolist(), code, "KERASTUNER_ORACLE_IP" in os.environ))
    return f"{variant}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def make_tuner(variant: str, data: sources.Data, config: Config, seed: int, folder) -> kt.Tuner:
    """A tuner that keeps its trials in `folder`, and goes on with those of the same search.

    Raises:
        ValueError: a kill has cut off one of its files.
    """
    name = project_name(variant, data, config, seed)
    check_files(Path(folder, name))
    trials, settings = config.trials, len(RATES) * len(DROPOUTS) * len(WIDTHS)
    if trials >= settings:  # Bayesian optimization would try some of them again and again.
        print(f"There are {settings} settings, and each is tried once.")
        variant, trials = "grid", settings
    common = {
        "hypermodel": Trial(data, config, seed),
        "objective": OBJECTIVE,
        "directory": folder,
        "project_name": name,
        # KerasTuner draws with seed, seed + 1, …, so neighbours would walk the same settings.
        "seed": 1000 * seed + 1,
        "max_consecutive_failed_trials": trials,
    }
    if variant == "grid":
        return ResumableGridSearch(max_trials=trials, **common)
    if variant == "random":
        return kt.RandomSearch(max_trials=trials, **common)
    if variant == "bayesian":
        # By default it begins with nine random trials, and all would be random here.
        return kt.BayesianOptimization(max_trials=trials, num_initial_points=3, **common)
    # Brackets that begin with few epochs and go on with the better half: a round is some 30 epochs.
    rounds = max(1, trials * config.epochs // 30)
    return kt.Hyperband(max_epochs=config.epochs, factor=2, hyperband_iterations=rounds, **common)


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    data = sources.load(run.data)
    folder = run.folder.with_name(f"{run.folder.name}-trials")  # It outlives a run that is killed.
    tuner = make_tuner(variant, data, config, run.seed, folder)
    # KerasTuner loads trials in the folder's order; of equally good ones the first is the best.
    tuner.oracle.trials = dict(sorted(tuner.oracle.trials.items()))
    # With callbacks=[keras.callbacks.TensorBoard(tuner.project_dir)] each trial has its curves and
    # its row on TensorBoard's HParams page. Rows are named 0, 1, …: show one search at a time.
    tuner.search(verbose=0)
    trials = [trial for trial in tuner.oracle.trials.values() if trial.score is not None]
    accuracies = [trial.metrics.get_best_value("val_accuracy") for trial in trials]
    run.keep("trial_score", [trial.score for trial in trials])

    best = tuner.get_best_hyperparameters()[0]
    model = tuner.hypermodel.build(best)
    tuner.hypermodel.fit(best, model, callbacks=run.callbacks(data), verbose=0)
    return run.scores(model, data) | {
        "best_trial": tuner.oracle.get_best_trials()[0].score,
        "trials": float(len(trials)),
        "doomed": sum(value < 1.5 / len(data.classes) for value in accuracies) / len(trials),
    }


if __name__ == "__main__":
    from lab import main

    main("search")
