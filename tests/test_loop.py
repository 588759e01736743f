"""A training without `fit` is logged and ended as one with it."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lab import Run
from lab.tensorboard.log import TensorBoardLog
from pipelines import batches, sources

REQUEST = sources.Request(train_images=500)
DATA = sources.load(REQUEST)


def build(rate: float = 1e-3) -> keras.Model:
    keras.backend.clear_session()  # So that both models' layers have the same names.
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(DATA.shape, dtype="uint8"), keras.layers.Rescaling(1 / 64, -2)])
    model.add(keras.layers.Flatten())
    model.add(keras.layers.Dense(10))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss, metrics=["accuracy"])
    return model


def by_fit(run: Run, model: keras.Model) -> None:
    validation = batches.evaluation(DATA.validation)
    callbacks = run.callbacks(DATA)
    feed = batches.training(DATA.train, 50, seed=1)
    model.fit(feed, epochs=3, validation_data=validation, callbacks=callbacks, shuffle=False, verbose=0)


def by_hand(run: Run, model: keras.Model) -> None:
    feed = batches.training(DATA.train, 50, seed=1)
    for _ in run.epochs(model, DATA, 3):
        losses, hits = [], []
        for images, labels in feed:
            with tf.GradientTape() as tape:
                logits = model(images, training=True)
                loss = model.compute_loss(images, labels, logits)
            gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
            model.optimizer.apply(gradients, model.trainable_variables)
            losses.append(float(loss))
            hits.append(np.mean(np.argmax(logits, axis=1) == labels))
        run.epoch(batches.evaluation(DATA.validation), loss=np.mean(losses), accuracy=np.mean(hits))


def tags(folder: Path) -> dict[str, set[str]]:
    found = {}
    for part in ("train", "validation", "."):
        events = EventAccumulator(str(folder / part))
        events.Reload()
        found[part] = set(events.Tags()["tensors"])
    return found


def test_a_loop_is_logged_as_fully_as_fit(tmp_path):
    curves, logged, scored, seconds = {}, {}, {}, {}
    for train in (by_fit, by_hand):
        name = train.__name__
        (tmp_path / name).mkdir()
        run, model = Run(name, 1, REQUEST, None, tmp_path / name, TensorBoardLog(tmp_path / name)), build()
        train(run, model)
        scored[name], curves[name] = run.scores(model, DATA), run.curves
        logged[name], seconds[name] = tags(tmp_path / name), run.watch.seconds
    assert logged["by_fit"] == logged["by_hand"]
    assert any(tag.startswith("gradient_norm/") for tag in logged["by_hand"]["train"])
    assert "learning_rate/by_step" in logged["by_hand"]["train"]
    assert curves["by_fit"].keys() == curves["by_hand"].keys()
    for name, values in curves["by_fit"].items():
        assert values == pytest.approx(curves["by_hand"][name], abs=1e-5), name
    assert scored["by_fit"]["test_accuracy"] == pytest.approx(scored["by_hand"]["test_accuracy"], abs=1e-3)
    assert seconds["by_fit"].keys() == seconds["by_hand"].keys()
    assert seconds["by_hand"]["validation"] > 0


def test_a_loop_ends_after_the_epoch_in_which_the_loss_is_not_finite(tmp_path):
    run, model = Run("nan", 1, REQUEST, None, tmp_path), build()
    done = 0
    for _ in run.epochs(model, DATA, 5):
        done += 1
        run.epoch(loss=float("nan") if done == 2 else 1.0, accuracy=0.1)
    assert done == 2
    run.scores(model, DATA)
    assert run.diverged


def test_what_a_loop_must_do(tmp_path):
    run, model = Run("wrong", 1, REQUEST, None, tmp_path), build()
    with pytest.raises(RuntimeError, match="belongs at the end"):
        run.epoch(loss=1.0)
    with pytest.raises(RuntimeError, match=r"must end with run\.epoch"):
        for _ in run.epochs(model, DATA, 2):
            pass
    epochs = run.epochs(model, DATA, 2)
    next(epochs)
    run.epoch(loss=1.0)
    with pytest.raises(RuntimeError, match="called twice"):
        run.epoch(loss=1.0)
    with pytest.raises(RuntimeError, match="must be compiled"):
        list(run.epochs(keras.Sequential([keras.layers.Dense(1)]), DATA, 2))
    run.scores(model, DATA)
    with pytest.raises(RuntimeError, match="after the test set"):
        list(run.epochs(model, DATA, 2))
