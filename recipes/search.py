"""How do you find a learning rate, a dropout and a width in a few dozen trainings?

Use Bayesian optimization: after 20 trials the setting it chooses scores 1.5 points above random
search's. Search the learning rate first: it explains 86.4 % of the variance in accuracy.

Run       python -m recipes.search
Copy      all of it, with your own hyperparameters in build_model
Careful   The best of few trials is partly luck: train it again, with other seeds. After a change of the
          training images, name another folder. KerasTuner fails in the scope of a strategy: pass
          distribution_strategy=
Numbers   results/search/README.md
Papers    Bergstra and Bengio 2012, JMLR 13; arXiv:1206.2944 (Bayesian); arXiv:1603.06560 (Hyperband)
"""

import hashlib
import inspect
import json
import math
import os
import shutil
from functools import wraps
from pathlib import Path

import keras
import keras_tuner as kt
from keras import layers


def build_model(hp, shape, classes):
    """A compiled model that maps images (batch, *shape), 0 to 255, to logits (batch, classes)."""
    rate = hp.Float("rate", 1e-4, 1.0, sampling="log")
    dropout = hp.Choice("dropout", [0.0, 0.2, 0.4, 0.6])
    width = hp.Choice("width", [4, 8, 16, 32])
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0 to 255 becomes -2 to 2.
    x = layers.Conv2D(width, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(2 * width, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Dropout(dropout)(layers.Flatten()(x))
    model = keras.Model(images, layers.Dense(classes)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


def number_of_settings(space):
    """How many settings a KerasTuner space has: infinitely many with a range without steps."""
    steps = [getattr(one, "step", 1) for one in space.space]
    return math.inf if None in steps else math.prod(len(set(one.values)) for one in space.space)


def make_tuner(build, tuner, *, trials, epochs, folder, about="", **settings):
    """A tuner that resumes from the trials in `folder`, if they belong to the same search.

    `about` is any text that tells two searches apart, and `settings` are KerasTuner's own.
    """
    space = kt.HyperParameters()
    build(space)
    count = number_of_settings(space)
    if trials >= count:  # KerasTuner would train some of them twice.
        print(f"There are only {count} settings, so each is tried once.")
        tuner, trials = kt.RandomSearch, count
    settings |= {"max_epochs": epochs} if tuner is kt.Hyperband else {"max_trials": trials}
    told = {key: str(value) for key, value in settings.items() if key != "max_trials"}
    code = inspect.getsource(getattr(inspect.unwrap(build), "func", inspect.unwrap(build)))
    parts = (tuner.__name__, space.get_config(), epochs, about, code, told)
    name = hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
    settings |= {"directory": folder, "project_name": name, "max_consecutive_failed_trials": trials}
    if "chief" not in os.environ.get("KERASTUNER_TUNER_ID", "chief"):
        return tuner(build, **settings)  # A worker leaves the trials to its chief.
    forget_unlisted(Path(folder, name))
    made = tuner(build, **settings)
    made.oracle._max_collisions = 100_000  # Random search ends after 20 draws of tried settings.
    # Sorted: among equal scores, the first trial wins.
    made.oracle.trials = dict(sorted(made.oracle.trials.items()))
    return made


def forget_unlisted(project):
    """Remove a trial that was killed before KerasTuner listed it: it would never end."""
    oracle = project / "oracle.json"
    listed = json.loads(oracle.read_text())["start_order"] if oracle.exists() else []
    for trial in {*project.glob("trial_*")} - {project / f"trial_{name}" for name in listed}:
        shutil.rmtree(trial)


def train(
    train_set, validation_set, classes, tuner=kt.RandomSearch, *, trials=20, epochs=4, seed=None,
    objective="val_accuracy", folder="logs/search", build_model=build_model, callbacks=(), **settings,
):  # fmt: skip
    """Search, or go on with a search that was stopped, then train the best settings once more.

    The sets are what `image_dataset_from_directory` returns. The folder of the trials changes with the
    code of `build_model`, the space, the epochs, the validation images and the number of batches.
    """
    spec, policy = train_set.element_spec, keras.config.dtype_policy()

    @wraps(build_model)
    def build(hp):
        keras.config.set_dtype_policy(policy)  # KerasTuner resets it before each trial.
        return build_model(hp, shape=spec[0].shape[1:], classes=classes)

    seen = 0.0
    for images, labels in validation_set.as_numpy_iterator():
        seen += (images.mean(axis=(1, 2, 3), dtype="float64") * (labels + 1)).sum()
    about = f"{seen:.9g} {len(train_set)} {spec}"
    settings |= {"seed": seed, "objective": objective, "folder": folder, "about": about}
    tuner = make_tuner(build, tuner, trials=trials, epochs=epochs, **settings)
    fit = {"validation_data": validation_set, "epochs": epochs, "verbose": 0}
    tuner.search(train_set, **fit)
    model = build(tuner.get_best_hyperparameters()[0])  # Best in the objective's own direction.
    model.fit(train_set, callbacks=list(callbacks), **fit)
    return model


if __name__ == "__main__":
    from lab import main

    main("search")
