"""A training without `fit` is logged and ended as one with it."""

from pathlib import Path

import keras
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lab import Run
from lab.experiments import distributed
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


class Keep(keras.callbacks.Callback):
    """Leaves what the processes of a cluster leave: a model and a row for each epoch."""

    def __init__(self, folder: Path):
        super().__init__()
        self.folder, self.rows = folder, []

    def on_epoch_end(self, epoch, logs):
        self.model.save(self.folder / f"epoch-{epoch + 1:04}.keras")
        self.rows.append([logs["loss"], logs["accuracy"], 1.0])


def by_others(run: Run, model: keras.Model) -> None:
    feed, keep = batches.training(DATA.train, 50, seed=1), Keep(run.folder)
    build().fit(feed, epochs=3, callbacks=[keep], shuffle=False, verbose=0)
    distributed.follow(run, model, DATA, run.folder, keep.rows)


def tags(folder: Path) -> dict[str, set[str]]:
    found = {}
    for part in ("train", "validation", "."):
        events = EventAccumulator(str(folder / part))
        events.Reload()
        found[part] = set(events.Tags()["tensors"])
    return found


@pytest.mark.variants
def test_a_training_of_others_is_logged_as_fully_as_fit(tmp_path):
    curves, logged, seconds = {}, {}, {}
    for train in (by_fit, by_others):
        name = train.__name__
        (tmp_path / name).mkdir()
        run, model = Run(name, 1, REQUEST, None, tmp_path / name, TensorBoardLog(tmp_path / name)), build()
        train(run, model)
        if train is by_fit:
            run.scores(model, DATA)
        logged[name], curves[name], seconds[name] = tags(tmp_path / name), run.curves, run.watch.seconds
    assert logged["by_fit"] == logged["by_others"]
    assert any(tag.startswith("gradient_norm/") for tag in logged["by_others"]["train"])
    assert "learning_rate/by_step" in logged["by_others"]["train"]
    assert curves["by_fit"].keys() == curves["by_others"].keys()
    for name, values in curves["by_fit"].items():
        assert values == pytest.approx(curves["by_others"][name], abs=1e-5), name
    assert seconds["by_fit"].keys() == seconds["by_others"].keys()
    assert seconds["by_others"]["validation"] > 0


def test_what_others_trained_ends_after_the_epoch_in_which_the_loss_is_not_finite(tmp_path):
    run, model = Run("nan", 1, REQUEST, None, tmp_path), build()
    for epoch in (1, 2, 3):
        model.save(tmp_path / f"epoch-{epoch:04}.keras")
    distributed.follow(run, model, DATA, tmp_path, [[1.0, 0.1], [float("nan"), 0.1], [1.0, 0.1]])
    assert len(run.curves["loss"]) == 2
    assert run.diverged
